// SPDX-License-Identifier: MIT
#include <posenc/combine/gated.hpp>

#include <posenc/combine/compose.hpp>
#include <posenc/combine/scaled_sum.hpp>
#include <posenc/learned.hpp>
#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "doubles.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace posenc;
template <class S, int Rank>
using tensor = Eigen::Tensor<S, Rank, Eigen::RowMajor>;
using block2 = tensor<double, 2>;
using block3 = tensor<double, 3>;

template <class S>
sinusoidal<S> waves(index_t dim) {
  return sinusoidal<S>({.dim = dim, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}});
}
template <class S>
learned<S> table(index_t rows, index_t dim) {
  return {{.rows = rows, .dim = dim, .scale = 0.75}, random_vector<S>(5, rows * dim)};
}
doubles::table<double> random_table(index_t rows, index_t channels) { return {rows, channels, random_vector<double>(99, rows * channels)}; }

/// Gates in [0, 1], ends included.
template <class S>
tensor<S, 2> some_gates(std::uint64_t seed, index_t batch, index_t time) {
  auto gates = random_tensor<tensor<S, 2>>(seed, batch, time);
  for (index_t n = 0; n < gates.size(); ++n) {
    S& gate = gates.data()[n];
    gate = n % 5 == 1 ? S(0) : n % 5 == 3 ? S(1) : std::abs(gate);
  }
  return gates;
}
template <class S>
tensor<S, 2> constant_gates(index_t batch, index_t time, S value) {
  tensor<S, 2> gates(batch, time);
  gates.setConstant(value);
  return gates;
}

/// A user's code encoder without checks of its own: it refuses positions above 40 while it encodes.
struct plain_codes {
  using scalar = double;
  static constexpr std::string_view name() { return "plain_codes"; }
  static constexpr index_t dim() { return 6; }
  void encode(const positions& at, token_view<double> out) const {
    doubles::for_each(out.extents(), [&](index_t b, index_t t, index_t c) {
      require(at(b, t) <= 40, name(), "too far");
      out(b, t, c) = at(b, t) == no_position ? 0 : static_cast<double>(at(b, t) * (c + 1)) / 8;
    });
  }
  void add(token_view<double> x, const positions& at) const {
    Eigen::Tensor<double, 3, Eigen::RowMajor> codes(x.extents());
    encode(at, codes);
    doubles::for_each(x.extents(), [&](index_t b, index_t t, index_t c) { x(b, t, c) += codes(b, t, c); });
  }
  bool operator==(const plain_codes&) const = default;
};

const std::vector<position> ids{3, 1, no_position, 7, 0, 11, 2, no_position, 5, 4};
const positions own_rows = positions::ids(ids, 2), shared_row = positions::ids(std::vector<position>(ids.begin(), ids.begin() + 5));

template <class T>
tensor<T, 3> random_x(std::uint64_t seed, index_t batch, index_t time, index_t dim) {
  return random_tensor<tensor<compute_t<T>, 3>>(seed, batch, time, dim).template cast<T>();
}

}  // namespace

TEMPLATE_TEST_CASE("gated codes are added times their gates", "[gated]", float, double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  const double half_place = std::is_same_v<T, double>            ? 0x1p-53
                            : std::is_same_v<T, float>           ? 0x1p-24
                            : std::is_same_v<T, Eigen::bfloat16> ? 0x1p-9
                                                                 : 0x1p-12;
  const auto gates = some_gates<S>(1, 2, 5);
  for (const auto& at : {own_rows, shared_row, positions::range(5, 4)}) {
    const auto x = random_x<T>(2, 2, 5, 6);
    auto out = x;
    encode_embeddings(gated(waves<S>(6)), out, {.gates = gates}, at);
    block3 codes(2, 5, 6), wanted = x.template cast<double>();
    waves<double>(6).encode(at, codes);
    doubles::for_each(std::array<index_t, 3>{2, 5, 6},
                      [&](index_t b, index_t t, index_t c) { wanted(b, t, c) += static_cast<double>(gates(b, t)) * codes(b, t, c); });
    CHECK(reference::difference(out, wanted, 2.1 * half_place + 2 * (sizeof(S) == 4 ? 0x1p-24 : 0x1p-53)) == "");
  }
}

TEST_CASE("a gate of a half adds half the code, one of a quarter a quarter", "[gated]") {
  const learned<float> codes({.rows = 2, .dim = 3}, {8, -4, 2, 16, 1, 0});
  tensor<float, 3> x(1, 3, 3);
  x.setConstant(100);
  tensor<float, 2> gates(1, 3);
  gates.setValues({{0.5f, 0.25f, 0.25f}});
  encode_embeddings(gated(codes), x, {.gates = gates}, positions::ids(std::array<position, 3>{0, 1, no_position}));
  tensor<float, 3> wanted(1, 3, 3);
  wanted.setValues({{{104, 98, 101}, {104, 100.25f, 100}, {100, 100, 100}}});
  CHECK(reference::bit_difference(x, wanted) == "");
}

TEMPLATE_TEST_CASE("gates of one add with the encoder's own bits, gates of zero nothing", "[gated]", float, Eigen::bfloat16) {
  using T = TestType;
  const auto check = [](const auto& encoder, const positions& at, index_t dim) {
    INFO(std::string(encoder.name()));
    auto x = random_x<T>(3, 2, 5, dim);
    x(0, 0, 0) = T(-0.0f), x(1, 1, 2) = T(1e30f);
    auto ones = x, own = x, none = x;
    encode_embeddings(gated(encoder), ones, {.gates = constant_gates<float>(2, 5, 1)}, at);
    encode_embeddings(encoder, own, at);
    encode_embeddings(gated(encoder), none, {.gates = constant_gates<float>(2, 5, 0)}, at);
    CHECK(reference::bit_difference(ones, own) == "");
    CHECK(reference::bit_difference(own, x) != "");
    CHECK(reference::bit_difference(none, x) == "");
  };
  check(waves<float>(6), own_rows, 6);
  check(waves<float>(34), shared_row, 34);
  check(table<float>(12, 6), own_rows, 6);
  check(compose(table<float>(12, 6), waves<float>(6)), own_rows, 6);
  check(scaled_sum(waves<float>(6), {.token_scale = 3, .code_scale = 0.7}), positions::range(5), 6);
}

TEST_CASE("an encoder that reads its neighbours is gated by the difference that it makes", "[gated]") {
  const doubles::previous<double> encoder{random_table(1, 6)};
  auto x = random_tensor<block3>(4, 2, 5, 6);
  x(0, 0, 0) = -0.0;
  const auto gates = some_gates<double>(5, 2, 5);
  block3 out = x, whole = x, wanted = x;
  encode_embeddings(gated(encoder), out, {.gates = gates}, own_rows);
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 1; t < 5; ++t)
      for (index_t c = 0; c < 6; ++c)
        if (own_rows(b, t) != no_position) wanted(b, t, c) += gates(b, t) * encoder.weights(0, c) * x(b, t - 1, c);
  CHECK(reference::difference(out, wanted, 4e-16) == "");
  encode_embeddings(gated(encoder), whole, {.gates = constant_gates<double>(2, 5, 1)}, own_rows);
  block3 own = x;
  encode_embeddings(encoder, own, own_rows);
  CHECK(reference::bit_difference(whole, own) == "");
}

TEST_CASE("gated codes: a step, a row of the batch and another order of storage have the bits of the whole", "[gated]") {
  const gated encoder(waves<double>(6));
  const auto x = random_tensor<block3>(6, 2, 5, 6);
  const auto gates = some_gates<double>(7, 2, 5);
  block3 whole = x, steps = x, rows = x;
  encoder.add(whole, {.gates = gates}, own_rows);
  const token_view<double> view = steps;
  const tensor_view<const double, 2> all = gates;
  for (index_t t = 0; t < 5; ++t)
    encoder.add(token_view<double>(&view(0, t, 0), {2, 1, 6}, view.strides()),
                {.gates = tensor_view<const double, 2>(&all(0, t), {2, 1}, all.strides())}, own_rows.slice(t, 1));
  CHECK(reference::bit_difference(steps, whole) == "");
  for (index_t b = 0; b < 2; ++b)
    encoder.add(token_view<double>(&rows(b, 0, 0), {1, 5, 6}), {.gates = tensor_view<const double, 2>(&all(b, 0), {1, 5})},
                positions::ids(std::vector<position>(ids.begin() + 5 * b, ids.begin() + 5 * b + 5)));
  CHECK(reference::bit_difference(rows, whole) == "");
  Eigen::Tensor<double, 3> other(6, 5, 2);
  std::copy_n(x.data(), x.size(), other.data());
  encoder.add(other, {.gates = gates}, own_rows);
  CHECK(reference::bit_difference(other, whole) == "");
}

TEST_CASE("gated codes of many wide tokens, which are formed in blocks, are those of the whole", "[gated]") {
  constexpr index_t time = 40, dim = 2048, rows = 64;
  const auto x = random_tensor<tensor<float, 3>>(16, 2, time, dim);
  const auto ones = constant_gates<float>(2, time, 1), gates = some_gates<float>(17, 2, time);
  for (const auto& at : {positions::range(time, 5), positions::offsets(std::array{20, 3}, time)}) {
    auto out = x, own = x;
    encode_embeddings(gated(waves<float>(dim)), out, {.gates = ones}, at);
    encode_embeddings(waves<float>(dim), own, at);
    CHECK(reference::bit_difference(out, own) == "");

    const gated encoder(learned<float>({.rows = rows, .dim = dim}, random_vector<float>(18, rows * dim)));
    auto copy = encoder;
    gradient_buffer<float> sums(parameters(copy));
    auto d = x;
    encoder.add_backward(d, x, {.gates = gates}, {}, at, sums.spans());
    tensor<float, 2> wanted(rows, dim), got(rows, dim);
    wanted.setZero();
    std::ranges::copy(sums.spans()[0], got.data());
    doubles::for_each(std::array<index_t, 3>{2, time, dim},
                      [&](index_t b, index_t t, index_t c) { wanted(at(b, t), c) += gates(b, t) * x(b, t, c); });
    CHECK(reference::difference(got, wanted, 1e-6) == "");
  }
}

TEST_CASE("gated codes have the same bits for any number of threads", "[gated]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  constexpr index_t time = 700, dim = 96;
  const auto gates = some_gates<float>(8, 2, time);
  const auto check = [&](const auto& encoder, const positions& at) {
    const auto x = random_tensor<tensor<float, 3>>(9, 2, time, dim);
    auto alone = x, split = x;
    encoder.add(alone, {.gates = gates}, at);
    encoder.add(split, {.gates = gates}, at, device);
    CHECK(reference::bit_difference(split, alone) == "");
    tensor<float, 2> d_alone(2, time), d_split(2, time);
    d_alone.setZero(), d_split.setZero();
    auto d = x, d_other = x;
    auto copy = encoder;
    gradient_buffer<float> sums(parameters(copy)), sums_split(parameters(copy));
    encoder.add_backward(d, x, {.gates = gates}, {.gates = d_alone}, at, sums.spans());
    encoder.add_backward(d_other, x, {.gates = gates}, {.gates = d_split}, at, sums_split.spans(), device);
    CHECK(reference::bit_difference(d_split, d_alone) == "");
    CHECK(reference::bit_difference(d_other, d) == "");
    CHECK(reference::bit_difference(sums_split.spans()[0], sums.spans()[0]) == "");
  };
  check(gated(table<float>(800, dim)), positions::range(time, 60));
  check(gated(table<float>(800, dim)), positions::offsets(std::array{60, 3}, time));
  check(gated(scaled_sum(table<float>(800, dim), {.token_scale = 2})), positions::range(time));
}

TEST_CASE("the gradients of gated codes are derivatives: of x, gates and parameters", "[gated]") {
  const auto check = [](auto inner, const positions& at) {
    INFO(std::string(inner.name()));
    gated encoder(inner);
    auto x = random_tensor<block3>(10, 2, 5, 6);
    const auto weights = random_tensor<block3>(11, 2, 5, 6);
    block2 gates = some_gates<double>(12, 2, 5) * 0.5 + 0.25;  // away from the ends, which differences would cross
    const auto loss = [&] {
      block3 out = x;
      encode_embeddings(encoder, out, {.gates = gates}, at);
      return reference::dot(weights, out);
    };
    block3 d = weights;
    block2 d_gates(2, 5);
    d_gates.setConstant(3);
    gradient_buffer<double> sums(parameters(encoder));
    encode_embeddings_backward(encoder, d, x, {.gates = gates}, {.gates = d_gates}, at, sums.spans());
    d_gates = d_gates - 3.0;
    const auto span = [](auto& values) { return std::span(values.data(), static_cast<std::size_t>(values.size())); };
    CHECK(reference::difference(d, reference::derivatives(span(x), loss, 0.25), 1e-13) == "");
    CHECK(reference::difference(d_gates, reference::derivatives(span(gates), loss, 0.125), 1e-13) == "");
    const auto all = parameters(encoder);
    for (std::size_t n = 0; n < all.size(); ++n)
      CHECK(reference::difference(sums.spans()[n], reference::derivatives(all[n].values, loss, 0.25), 1e-13) == "");
    // Gates that nobody asks for change nothing.
    block3 d_alone = weights;
    gradient_buffer<double> sums_alone(parameters(encoder));
    encode_embeddings_backward(encoder, d_alone, x, {.gates = gates}, {}, at, sums_alone.spans());
    CHECK(reference::bit_difference(d_alone, d) == "");
  };
  check(waves<double>(6), own_rows);
  check(plain_codes{}, own_rows);
  check(table<double>(12, 6), own_rows);
  check(table<double>(12, 6), shared_row);
  check(doubles::previous<double>{random_table(1, 6)}, own_rows);
  check(doubles::learned<double>{random_table(12, 6)}, own_rows);
  check(scaled_sum(waves<double>(6), {.token_scale = 3, .code_scale = 0.5, .train_scale = true}), positions::range(5));
  check(scaled_sum(waves<double>(6), {.token_scale = 3, .code_scale = 0.5, .train_scale = true}), own_rows);
}

TEST_CASE("gated encoders are equal where their parts are, and hand on what they have", "[gated]") {
  gated one(table<double>(12, 6));
  CHECK(one == gated(table<double>(12, 6)));
  CHECK(one != gated(table<double>(13, 6)));
  CHECK(one.encoder() == table<double>(12, 6));
  CHECK(std::string_view(one.name()) == "gated");
  REQUIRE(parameters(one).size() == 1);
  CHECK(parameters(one)[0].name == "table");
  static_assert(contextual_additive_encoder<decltype(one)> && trainable<decltype(one)> && !trainable<gated<sinusoidal<float>>>);
  static_assert(!adds_bias<decltype(one)> && position_encoder<decltype(compose(one, one))>);
}

TEST_CASE("gated codes refuse gates that do not fit, before they write", "[gated][errors]") {
  const gated encoder(table<double>(12, 6));
  auto x = random_tensor<block3>(13, 2, 5, 6);
  const auto gates = some_gates<double>(14, 2, 5);
  const auto add = [&](const embedding_inputs<double>& inputs, const positions& at) {
    return [&, inputs, at] { encoder.add(x, inputs, at); };
  };
  reference::refuses(x, "[gated] the gates must be given but got none", add({}, own_rows));
  const auto few = some_gates<double>(14, 2, 4);
  reference::refuses(x, "[gated] the gates must be those of the tokens but got [2, 5] and [2, 4]", add({.gates = few}, own_rows));
  const std::string range = "[gated] gates must lie in [0, 1] but got ";
  for (const auto& [value, text] : {std::pair{1.5, "1.5"}, std::pair{-0.25, "-0.25"}, std::pair{std::nan(""), "nan"},
                                    std::pair{std::numeric_limits<double>::infinity(), "inf"}}) {
    block2 wrong = gates;
    wrong(1, 4) = value;
    reference::refuses(x, range + text, add({.gates = wrong}, own_rows));
  }
  const Eigen::Tensor<double, 2, Eigen::RowMajor> wide = some_gates<double>(15, 2, 10);
  reference::refuses(x, "[gated] the last axis must be contiguous but got 2",
                     add({.gates = tensor_view<const double, 2>(wide.data(), {2, 5}, {10, 2})}, own_rows));
  reference::refuses(x, "[learned] a position must have a row in the table, with the row and the number of rows but got 12 and 12 and 12",
                     add({.gates = gates}, positions::range(5, 8)));
  // What a user's encoder throws on its way, it throws before anything is written.
  reference::refuses(x, "[plain_codes] too far", [&] { gated(plain_codes{}).add(x, {.gates = gates}, positions::range(5, 37)); });
  reference::refuses(x, "[gated] the elements of an output must be distinct, with strides that nest but got [0, 6, 1]",
                     [&] { encoder.add(token_view<double>(x.data(), {2, 5, 6}, {0, 6, 1}), {.gates = gates}, own_rows); });

  auto d = x;
  gated copy = encoder;
  gradient_buffer<double> sums(parameters(copy));
  block2 d_few(2, 4), d_gates(2, 5);
  d_gates.setZero();
  const auto back = [&](const embedding_gradients<double>& d_inputs, gradient_spans<double> spans) {
    return [&, d_inputs, spans] { encoder.add_backward(d, x, {.gates = gates}, d_inputs, own_rows, spans); };
  };
  const std::string shapes = "[gated] gradients must have the shapes of what they are of but got ";
  reference::refuses(d, shapes + "[2, 5] and [2, 4]", back({.gates = d_few}, sums.spans()));
  reference::refuses(d, "[learned] there must be one gradient span per parameter but got 1 and 0", back({.gates = d_gates}, {}));
  CHECK(reference::bit_difference(d_gates, constant_gates<double>(2, 5, 0)) == "");
  const auto short_x = random_tensor<block3>(13, 2, 4, 6);
  reference::refuses(d, shapes + "[2, 4, 6] and [2, 5, 6]",
                     [&] { encoder.add_backward(d, short_x, {.gates = gates}, {}, own_rows, sums.spans()); });

  block3 empty(0, 5, 6);
  encoder.add(empty, {.gates = block2(0, 5)}, positions::range(5));
}
