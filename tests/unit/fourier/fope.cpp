// SPDX-License-Identifier: MIT
#include <posenc/fourier/fope.hpp>

#include <posenc/rope.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/fope.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace posenc;

template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;
using block4 = tensor4<double>;

constexpr auto time_head = axis_order::time_head, head_time = axis_order::head_time;
constexpr index_t batch = 2, tokens = 5, count = 4;

/// One encoder of many: what it turns, and what by.
struct form {
  std::string name;
  rotary_descriptor descriptor;
  index_t channels;
  fope_options options;

  /// With coefficients in [-1, 1), to be changed.
  template <class S>
  fope<S> encoder() const {
    random_source none(0);
    fope<S> made(descriptor, options, {.start = fope_start::eye}, none);
    for (std::size_t n = 0; n < made.parameters().size(); ++n) {
      const auto values = made.parameters()[n].values;
      std::ranges::copy(random_vector<S>(31 + n, static_cast<index_t>(values.size())), values.begin());
      if (options.fourier_norm)
        for (S& value : values) value += 2;  // sums to divide by
    }
    return made;
  }
  index_t turning() const { return descriptor.head_count > 0 ? descriptor.head_count : count - descriptor.first_head; }
};

fope_options options_of(index_t length, fope_width width, fope_padding padding, index_t heads, bool separate = true, bool norm = false) {
  return {.spectrum = fope_spectrum{.max_sequence_length = length},
          .width = width,
          .padding = padding,
          .heads = heads,
          .separate_basis = separate,
          .fourier_norm = norm};
}

std::vector<form> forms() {
  constexpr auto halves = pairing::halves, interleaved = pairing::interleaved, exchanged = pairing::interleaved_to_halves;
  constexpr auto paper = fope_width::paper, vllm = fope_width::vllm;
  constexpr auto ones = fope_padding::ones, rotation = fope_padding::rotation;
  fope_options all = options_of(100, paper, ones, 0), wide = options_of(100, paper, rotation, 2, false, true), longer = all;
  fope_spectrum with_zeros = all.spectrum, many = wide.spectrum, yarn = longer.spectrum;
  with_zeros.ignore_zero = false;
  all.spectrum = with_zeros;
  many.fourier_dim = 32;
  wide.spectrum = many;
  yarn.schedule = schedule::yarn{.factor = 4, .original_length = 100};
  longer.spectrum = yarn;
  return {{"paper", {.pairing = halves, .dim = 16}, 16, options_of(128, paper, ones, 4)},
          {"paper, shared", {.pairing = halves, .dim = 16}, 16, options_of(128, paper, rotation, 0)},
          {"vllm, grouped", {.pairing = halves, .dim = 16}, 16, options_of(512, vllm, rotation, 2)},
          {"interleaved, one row", {.pairing = interleaved, .dim = 8}, 8, options_of(400, vllm, ones, 1, false)},
          {"exchanged, backwards",
           {.pairing = exchanged, .dim = 8, .offset = 1, .rotation = posenc::rotation::negative},
           10,
           options_of(400, vllm, ones, 2)},
          {"some heads, scaled",
           {.pairing = halves, .dim = 12, .offset = trailing, .first_head = 1, .head_count = 2, .attention_factor = -1.25},
           13,
           options_of(400, vllm, ones, 2, true, true)},
          {"blocks", {.pairing = halves, .dim = 24, .offset = 1, .blocks = 2}, 26, options_of(1000, vllm, rotation, 4, false)},
          {"zeros kept", {.pairing = interleaved, .dim = 12}, 12, all},
          {"more waves than pairs, divided", {.pairing = halves, .dim = 8}, 8, wide},
          {"yarn, many pairs", {.pairing = halves, .dim = 80, .rotation = posenc::rotation::negative}, 80, longer}};
}

/// Where queries and keys stand: rows with ids of their own, tokens that stand nowhere.
attention_positions whole_places() {
  return {positions::ids(std::array<position, batch * tokens>{3, -4, no_position, 77, 0, 12, 13, 14, no_position, 1'000'003}, batch),
          positions::range(9), positions::ids(std::array<position, tokens>{5, 6, no_position, -8, 9})};
}
attention_coordinates other_places() {
  const auto keys = coordinates::values(std::array{0.5, no_coordinate, -7.25, 100.125, 3.0}, 1);
  return {coordinates::values(std::array{1.5, 2.5, no_coordinate, -3.75, 0.0, 8.0, no_coordinate, 9.5, 9.75, 50.5}, 1, batch), keys, keys};
}
void for_all_places(auto&& test) {
  for (const operand role : {operand::query, operand::key}) {
    INFO((role == operand::query ? "queries" : "keys"));
    test(whole_places(), role);
    test(other_places(), role);
  }
}
long double place_of(position p) { return p == no_position ? std::nanl("") : static_cast<long double>(p); }
long double place_of(double p) { return p; }

/// The matrices of these coefficients, head by head.
template <class S>
reference::fope matrices_of(const form& of, fope<S>& encoder, index_t head) {
  const rotary_descriptor& d = of.descriptor;
  reference::fope made{.layout = d.pairing == pairing::halves        ? reference::pair_layout::halves
                                 : d.pairing == pairing::interleaved ? reference::pair_layout::interleaved
                                                                     : reference::pair_layout::interleaved_to_halves,
                       .channels = of.channels,
                       .dim = d.dim,
                       .offset = d.offset == trailing ? of.channels - d.dim : d.offset,
                       .blocks = d.blocks,
                       .negative = d.rotation == rotation::negative,
                       .padded_sine = of.options.padding == fope_padding::ones ? 1.0 : 0.0,
                       .factor = d.attention_factor * encoder.inspect().attention_factor};
  const posenc::frequencies& waves = encoder.inspect().frequencies;
  for (index_t f = 0; f < waves.count(); ++f) made.waves.push_back(waves.radians(f));
  const auto parameters = encoder.parameters();
  const index_t heads = std::max<index_t>(of.options.heads, 1), set = head / (of.turning() / heads);
  const auto matrix = [&](const parameter<S>& one) {
    const index_t mixed = one.shape.back();
    Eigen::MatrixXd w(waves.count(), mixed);
    for (index_t f = 0; f < w.rows(); ++f)
      for (index_t k = 0; k < mixed; ++k)
        w(f, k) = static_cast<double>(one.values[static_cast<std::size_t>((set * waves.count() + f) * mixed + k)]);
    if (of.options.fourier_norm) w = (w.array().rowwise() / w.colwise().sum().array()).matrix();
    return w;
  };
  made.sines = matrix(parameters.front());
  made.cosines = matrix(parameters.back());
  return made;
}

template <class S>
block4 expected(const form& of, fope<S>& encoder, const block4& x, const auto& at) {
  block4 y = x;
  for (index_t h = 0; h < of.turning(); ++h) {
    const auto rule = matrices_of(of, encoder, h);
    for (index_t b = 0; b < x.dimension(0); ++b)
      for (index_t t = 0; t < x.dimension(1); ++t) {
        const index_t head = of.descriptor.first_head + h;
        const Eigen::VectorXd row = Eigen::Map<const Eigen::VectorXd>(&x(b, t, head, 0), of.channels);
        Eigen::Map<Eigen::VectorXd>(&y(b, t, head, 0), of.channels) = rule.matrix(place_of(at(b, t))) * row;
      }
  }
  return y;
}

template <class E>
concept shifts = requires(const E& e, head_view<double> keys) { e.shift(keys, position{1}); };

template <class S>
head_view<const S> read(const tensor4<S>& x) {
  return heads(x, time_head);
}

template <class T, class S>
struct gradients {
  tensor4<T> x;
  std::vector<std::vector<S>> coefficients;
  gradients(fope<S>& encoder, const tensor4<T>& seen, const tensor4<T>& importance, operand role, const typename fope<S>::state& state,
            bool from_inputs = false, const executor& run = {})
      : x(importance) {
    std::vector<std::span<S>> spans;
    for (const auto& one : encoder.parameters()) coefficients.emplace_back(one.values.size());
    for (auto& one : coefficients) spans.emplace_back(one);
    if (from_inputs) encoder.rotate_backward_from_inputs(heads(x, time_head), read(seen), role, state, spans, run);
    else encoder.rotate_backward(heads(x, time_head), read(seen), role, state, spans, run);
  }
};

}  // namespace

// ---- what it computes ----------------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("fope multiplies by the matrices of its paper", "[fope]", float, double) {
  for (const form& of : forms()) {
    INFO(of.name);
    auto encoder = of.encoder<TestType>();
    for_all_places([&](const auto& at, operand role) {
      auto x = random_tensor<tensor4<TestType>>(41, batch, tokens, count, of.channels);
      const block4 before = x.template cast<double>();
      encoder.rotate(heads(x, time_head), role, encoder.prepare(at));
      const block4 truth = expected(of, encoder, before, at.turned(role));
      CHECK(reference::difference(x, truth, sizeof(TestType) == 4 ? 1e-5 : 4e-10) == "");  // radians(f) is a double, at 10^6
    });
  }
}

TEMPLATE_TEST_CASE("fope: tables are as exact as promised", "[fope]", float, double) {
  using S = TestType;
  const form of = forms()[0];
  auto encoder = of.encoder<S>();
  for (const position far : {position{0}, position{100}, position{1} << 31}) {
    const index_t time = 64;
    const auto table = encoder.prepare(positions::range(time, far));
    double worst = 0;
    for (index_t h = 0; h < count; ++h) {
      auto rule = matrices_of(of, encoder, h);
      rule.waves = reference::whole_waves(16, 10000, 128);
      const Eigen::VectorXd sums = rule.sines.cwiseAbs().colwise().sum().cwiseMax(rule.cosines.cwiseAbs().colwise().sum()).transpose();
      for (index_t t = 0; t < time; ++t) {
        const auto [s, c] = rule.mixture(static_cast<long double>(far + t));
        for (index_t k = 0; k < encoder.mixed_pairs(); ++k) {
          const double off = std::max(std::abs(static_cast<double>(table.row(0, t, h)[k]) - c(k)),
                                      std::abs(static_cast<double>(table.row(0, t, h)[8 + k]) - s(k)));
          worst = std::max(worst, off / sums(k));
        }
      }
    }
    const double waves = 3, bound = sizeof(S) == 4 ? 3.1e-8 + (waves + 1) * 0x1p-24 : 2.3e-16 + (waves + 1) * 0x1p-53;
    // Angles of the reference are long double: at 2^31 that is 2^-33 of a radian.
    if (far <= 100) CHECK(worst <= bound + 4e-16);
    else CHECK(worst <= bound + 1.2e-10);
  }
}

TEST_CASE("fope has the values that can be worked out by hand", "[fope]") {
  // Waves 1, 10^-0.5 and 0.1, mixed into dim / 4 = 2 of 4 pairs. At position 0 sines are 0 and cosines 1, so that
  // c = the sum of a column of cos_coef and s = 0.
  const std::vector<double> s{1, 2, 3, 4, 5, 6}, c{1, -1, 0.5, 0, 0.25, 3};
  for (const auto padding : {fope_padding::ones, fope_padding::rotation}) {
    fope<double> encoder(
        {.pairing = pairing::halves, .dim = 8},
        {.spectrum = fope_spectrum{.base = 100, .max_sequence_length = 100}, .width = fope_width::paper, .padding = padding}, s, c);
    REQUIRE(encoder.inspect().frequencies.count() == 3);
    REQUIRE(encoder.mixed_pairs() == 2);
    block4 x(1, 2, 1, 8);
    x.setValues({{{{1, 2, 3, 4, 5, 6, 7, 8}}, {{1, 2, 3, 4, 5, 6, 7, 8}}}});
    encoder.rotate(heads(x, time_head), positions::range(2));
    // Pairs (1, 5) and (2, 6) times 1.75 and 2; (3, 7) and (4, 8) times 1 + i, or 1.
    const bool ones = padding == fope_padding::ones;
    const std::array<double, 8> first{1.75, 4, ones ? -4.0 : 3.0, ones ? -4.0 : 4.0, 8.75, 12, ones ? 10.0 : 7.0, ones ? 12.0 : 8.0};
    for (index_t n = 0; n < 8; ++n) CHECK(x(0, 0, 0, n) == first[static_cast<std::size_t>(n)]);
    // At position 1: sin 1 = 0.8414709848, sin 10^-0.5 = 0.3109835929, sin 0.1 = 0.0998334166; cosines 0.5403023059, 0.9504152803,
    // 0.9950041653. c_0 = 0.5403023059 + 0.4752076401 + 0.2487510413, s_0 = 0.8414709848 + 0.9329507787 + 0.4991670832.
    CHECK(std::abs(x(0, 1, 0, 0) - (1 * 1.2642609873 - 5 * 2.2735888468)) < 1e-8);
    CHECK(std::abs(x(0, 1, 0, 4) - (5 * 1.2642609873 + 1 * 2.2735888468)) < 1e-8);
    CHECK(x(0, 1, 0, 3) == first[3]);
    CHECK(x(0, 1, 0, 7) == first[7]);
  }
}

TEMPLATE_TEST_CASE("fope with the identity and without clamps is rope, bit for bit", "[fope]", float, double) {
  using S = TestType;
  for (const auto pairs : {pairing::halves, pairing::interleaved, pairing::interleaved_to_halves})
    for (const index_t own : {0, 2}) {
      const rotary_descriptor form{.pairing = pairs, .dim = 24, .attention_factor = 1.5};
      fope_options options = options_of(1, fope_width::vllm, fope_padding::ones, own);
      options.spectrum = fope_spectrum{.base = 500, .max_sequence_length = 100, .floor = fope_clamp::none, .schedule = schedule::linear{3}};
      random_source none(0);
      const fope<S> mixed(form, options, {.start = fope_start::eye}, none);
      const rope<S> plain(form, {.base = 500, .schedule = schedule::linear{3}});
      const auto at = positions::ids(std::array<position, tokens>{0, -3, no_position, 1'000'000'000, 77});
      const auto given = random_tensor<tensor4<S>>(42, batch, tokens, count, 24);
      auto got = given, truth = given;
      mixed.rotate(heads(got, time_head), at);
      plain.rotate(heads(truth, time_head), at);
      // The factor multiplies coefficients, not sums: 1.5 cos is rounded twice, in double too.
      CHECK(reference::difference(got, truth, 4 * std::numeric_limits<S>::epsilon()) == "");
      const rotary_descriptor unscaled{.pairing = pairs, .dim = 24};
      got = given, truth = given;
      fope<S>(unscaled, options, {.start = fope_start::eye}, none).rotate(heads(got, time_head), at);
      rope<S>(unscaled, {.base = 500, .schedule = schedule::linear{3}}).rotate(heads(truth, time_head), at);
      CHECK(reference::bit_difference(got, truth) == "");
    }
}

TEMPLATE_TEST_CASE("fope on 16 bits is that on float, rounded once", "[fope]", Eigen::half, Eigen::bfloat16) {
  for (const form& of : forms()) {
    INFO(of.name);
    const auto encoder = of.encoder<float>();
    const auto state = encoder.prepare(whole_places());
    tensor4<TestType> x = random_tensor<tensor4<float>>(43, batch, tokens, count, of.channels).template cast<TestType>();
    tensor4<float> wide = x.template cast<float>();
    encoder.rotate(heads(x, time_head), operand::query, state);
    encoder.rotate(heads(wide, time_head), operand::query, state);
    CHECK(reference::bit_difference(x, tensor4<TestType>(wide.template cast<TestType>())) == "");
  }
}

// ---- however it is called ------------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("fope writes the same in place, elsewhere, into a cache, in both orders of heads, and on threads", "[fope]", float,
                   Eigen::bfloat16) {
  using T = TestType;
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  constexpr index_t time = 700;
  for (const form& of : forms()) {
    INFO(of.name);
    const auto encoder = of.encoder<float>();
    const auto at = positions::offsets(std::array{-5, 300}, time);
    const auto table = encoder.prepare(at), shared = encoder.prepare(at, device);
    const index_t size = batch * time * std::max<index_t>(of.options.heads, 1) * of.descriptor.dim;
    CHECK(std::equal(table.row(0, 0), table.row(0, 0) + size, shared.row(0, 0)));
    const tensor4<T> given = random_tensor<tensor4<float>>(44, batch, time, count, of.channels).template cast<T>();
    tensor4<T> in_place = given;
    encoder.rotate(heads(in_place, time_head), table);

    tensor4<T> by_threads = given, elsewhere = given, past_caches = given;
    encoder.rotate(heads(by_threads, time_head), table, device);
    CHECK(reference::bit_difference(by_threads, in_place) == "");
    encoder.rotate(heads(given, time_head), heads(elsewhere, time_head), table);
    CHECK(reference::bit_difference(elsewhere, in_place) == "");
    encoder.rotate(heads(given, time_head), heads(past_caches, time_head), table, executor().streaming());
    CHECK(reference::bit_difference(past_caches, in_place) == "");

    tensor4<T> by_head(batch, count, time, of.channels), back(batch, time, count, of.channels);
    const std::array<index_t, 4> swap{0, 2, 1, 3};
    by_head = tensor4<T>(given.shuffle(swap));
    encoder.rotate(heads(by_head, head_time), table);
    back = tensor4<T>(by_head.shuffle(swap));
    CHECK(reference::bit_difference(back, in_place) == "");
    // From one order of heads to the other.
    const tensor4<T> given_by_head = given.shuffle(swap);
    by_head.setZero();
    encoder.rotate(heads(given, time_head), heads(by_head, head_time), table);
    back = tensor4<T>(by_head.shuffle(swap));
    CHECK(reference::bit_difference(back, in_place) == "");
    elsewhere.setZero();
    encoder.rotate(heads(given_by_head, head_time), heads(elsewhere, time_head), table);
    CHECK(reference::bit_difference(elsewhere, in_place) == "");

    // Slot by slot from the end; one token is left out.
    std::vector<index_t> slots;
    for (index_t n = 0; n < batch * time; ++n) slots.push_back(n == 1 ? no_row : batch * time - 1 - n);
    tensor4<T> cache(1, batch * time, count, of.channels), in_cache = in_place;
    cache.setConstant(T(9));
    encoder.rotate(heads(given, time_head), heads(cache, time_head), slots, table);
    for (index_t b = 0; b < batch; ++b)
      for (index_t t = 0; t < time; ++t)
        for (index_t h = 0; h < count; ++h)
          for (index_t n = 0; n < of.channels; ++n) {
            const index_t token = b * time + t;
            if (token == 1) in_cache(b, t, h, n) = T(9);
            back(b, t, h, n) = cache(0, batch * time - 1 - token, h, n);
          }
    CHECK(reference::bit_difference(back, in_cache) == "");
  }
}

TEMPLATE_TEST_CASE("fope: one token has the same bits alone, in chunks and in other rows", "[fope]", float, double) {
  for (const form& of : forms()) {
    INFO(of.name);
    const auto encoder = of.encoder<TestType>();
    constexpr index_t time = 150;
    const auto given = random_tensor<tensor4<TestType>>(45, 1, time, count, of.channels);
    auto whole = given, parts = given;
    encoder.rotate(heads(whole, time_head), positions::range(time, 7));
    for (const auto& [from, length] : {std::pair<index_t, index_t>{0, 1}, {1, 3}, {4, 90}, {94, 56}})
      encoder.rotate(heads(parts, time_head).slice(from, length), positions::range(length, 7 + from));
    CHECK(reference::bit_difference(parts, whole) == "");
    tensor4<TestType> rows = random_tensor<tensor4<TestType>>(46, 2, time, count, of.channels);
    rows.chip(1, 0) = given.chip(0, 0);
    encoder.rotate(heads(rows, time_head), positions::offsets(std::array{-900, 7}, time));
    const tensor4<TestType> second = rows.slice(std::array<index_t, 4>{1, 0, 0, 0}, std::array<index_t, 4>{1, time, count, of.channels});
    CHECK(reference::bit_difference(second, whole) == "");
  }
}

TEST_CASE("fope: query heads take the coefficients of their key head", "[fope]") {
  const form of = forms()[2];
  const auto encoder = of.encoder<double>();
  const auto at = positions::range(tokens, 3);
  const auto keys = random_tensor<block4>(47, batch, tokens, 2, of.channels);
  block4 queries(batch, tokens, 6, of.channels), turned = keys;
  for (index_t h = 0; h < 6; ++h) queries.chip(h, 2) = keys.chip(h / 3, 2);
  const auto state = encoder.prepare(attention_positions{at, at});
  encode_queries_keys(encoder, heads(queries, time_head), heads(turned, time_head), state);
  for (index_t h = 0; h < 6; ++h) {
    const Eigen::Tensor<double, 3, Eigen::RowMajor> query = queries.chip(h, 2), key = turned.chip(h / 3, 2),
                                                    other = turned.chip(1 - h / 3, 2);
    CHECK(reference::bit_difference(query, key) == "");
    CHECK(reference::difference(query, other, 0.1) != "");
  }
}

TEST_CASE("fope makes one table where queries and keys stand at the same positions", "[fope]") {
  const auto encoder = forms()[0].encoder<float>();
  const auto same = encoder.prepare(attention_positions{positions::range(6), positions::range(6)});
  CHECK(same.queries.row(0, 0) == same.keys.row(0, 0));
  const auto decode = encoder.prepare(attention_positions{positions::range(1, 5), positions::range(6), positions::range(1, 5)});
  CHECK(decode.queries.row(0, 0) == decode.keys.row(0, 0));
  const auto apart = encoder.prepare(attention_positions{positions::range(1, 5), positions::range(6)});
  CHECK(apart.queries.row(0, 0) != apart.keys.row(0, 0));
  CHECK(apart.keys.time() == 6);
}

// ---- back ----------------------------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("fope: inverse gives back what was rotated, the paper's inverse does not", "[fope]", float, double) {
  for (const form& of : forms()) {
    INFO(of.name);
    const auto encoder = of.encoder<TestType>();
    for_all_places([&](const auto& at, operand role) {
      const auto state = encoder.prepare(at);
      const auto given = random_tensor<tensor4<TestType>>(48, batch, tokens, count, of.channels);
      auto x = given;
      encoder.rotate(heads(x, time_head), role, state);
      auto by_paper = x, transposed = x;
      encoder.inverse(heads(x, time_head), role, state);
      CHECK(reference::difference(x, given, 8 * std::numeric_limits<TestType>::epsilon()) == "");
      encoder.paper_inverse(heads(by_paper, time_head), role, state);
      CHECK(reference::difference(by_paper, given, 0.1) != "");
      encoder.rotate_backward(heads(transposed, time_head), role, state);
      CHECK(reference::bit_difference(by_paper, transposed) == "");
    });
  }
}

TEST_CASE("fope: the inverse is undone too", "[fope]") {
  // c = 2 and s = 0 at position 0, for all pairs: a factor, though none is asked for.
  const std::vector<double> two{2, 0, 0, 2};
  const fope<double> encoder({.pairing = pairing::halves, .dim = 4}, options_of(1 << 20, fope_width::vllm, fope_padding::rotation, 0), two,
                             two);
  const auto table = encoder.prepare(positions::range(1));
  CHECK_FALSE(table.only_turns());
  CHECK_FALSE(table.reciprocal().only_turns());
  CHECK(table.reciprocal().row(0, 0)[0] == 0.5);
}

TEST_CASE("fope: a pair that was multiplied by 0 comes back as 0", "[fope]") {
  // Four waves, three columns: steps of two leave the last column 0.
  random_source none(0);
  const fope<double> encoder({.pairing = pairing::halves, .dim = 12}, options_of(1000, fope_width::paper, fope_padding::rotation, 0),
                             {.start = fope_start::eye}, none);
  REQUIRE(encoder.inspect().frequencies.count() == 4);
  REQUIRE(encoder.mixed_pairs() == 3);
  const auto table = encoder.prepare(positions::range(tokens));
  const auto given = random_tensor<block4>(49, batch, tokens, count, 12);
  block4 x = given, truth = given;
  for (const index_t channel : {2, 8}) truth.chip(channel, 3).setZero();
  encoder.rotate(heads(x, time_head), table);
  encoder.inverse(heads(x, time_head), table);
  CHECK(reference::difference(x, truth, 1e-15) == "");
}

TEST_CASE("the gradients of fope equal difference quotients", "[fope]") {
  for (const form& of : forms()) {
    INFO(of.name);
    auto encoder = of.encoder<double>();
    for_all_places([&](const auto& at, operand role) {
      auto x = random_tensor<block4>(50, batch, tokens, count, of.channels);
      const auto importance = random_tensor<block4>(51, batch, tokens, count, of.channels);
      block4 y = x;
      const auto loss = [&] {
        y = x;
        encoder.rotate(heads(y, time_head), role, encoder.prepare(at));
        return reference::dot(y, importance);
      };
      loss();
      const auto state = encoder.prepare(at);
      const gradients exact(encoder, y, importance, role, state), from_inputs(encoder, x, importance, role, state, true);
      const auto of_x = reference::derivatives(std::span(x.data(), static_cast<std::size_t>(x.size())), loss, 0.5);
      CHECK(reference::difference(exact.x, of_x, 2e-12) == "");
      CHECK(reference::bit_difference(exact.x, from_inputs.x) == "");
      const auto parameters = encoder.parameters();
      for (std::size_t n = 0; n < parameters.size(); ++n) {
        // Linear in the coefficients, unless they are divided by their sum.
        const bool linear = !of.options.fourier_norm;
        const auto quotients = reference::derivatives(parameters[n].values, loss, linear ? 0.25 : 1e-4);
        CHECK(reference::difference(from_inputs.coefficients[n], quotients, linear ? 1e-12 : 4e-8) == "");
        CHECK(reference::difference(exact.coefficients[n], quotients, linear ? 1e-11 : 4e-8) == "");
        const bool has_zeros = !fope_spectrum(of.options.spectrum).ignore_zero;  // whose sines are 0
        CHECK(std::ranges::all_of(exact.coefficients[n], [&](double d) { return d != 0 || has_zeros; }));
      }
    });
  }
}

TEST_CASE("fope: columns of zeros learn from the inputs alone", "[fope]") {
  random_source none(0);
  fope<double> encoder({.pairing = pairing::halves, .dim = 12}, options_of(1000, fope_width::paper, fope_padding::rotation, 0),
                       {.start = fope_start::eye}, none);
  const auto at = positions::range(tokens, 1);
  const auto state = encoder.prepare(attention_positions{at, at});
  const auto x = random_tensor<block4>(52, batch, tokens, count, 12), d = random_tensor<block4>(53, batch, tokens, count, 12);
  block4 y = x;
  encoder.rotate(heads(y, time_head), operand::query, state);
  const gradients written(encoder, y, d, operand::query, state), read_ones(encoder, x, d, operand::query, state, true);
  for (std::size_t n = 0; n < 2; ++n)
    for (std::size_t i = 0; i < 12; ++i) {
      const bool zero = i % 3 == 2;
      CHECK((written.coefficients[n][i] == 0) == zero);
      CHECK(read_ones.coefficients[n][i] != 0);
      if (!zero) CHECK(std::abs(written.coefficients[n][i] - read_ones.coefficients[n][i]) < 1e-13);
    }
}

TEST_CASE("the gradients of fope are added to, through the stages of attention", "[fope]") {
  auto encoder = forms()[2].encoder<double>();
  const auto state = encoder.prepare(whole_places());
  const auto y = random_tensor<block4>(54, batch, tokens, count, 16), d = random_tensor<block4>(55, batch, tokens, count, 16);
  const gradients of_queries(encoder, y, d, operand::query, state), of_keys(encoder, y, d, operand::key, state);
  gradient_buffer<double> sums(encoder.parameters());
  for (const auto& span : sums.spans()) std::ranges::fill(span, 3);
  block4 d_queries = d, d_keys = d;
  encode_queries_keys_backward(encoder, heads(d_queries, time_head), heads(d_keys, time_head), read(y), read(y), state, sums.spans());
  CHECK(reference::bit_difference(d_queries, of_queries.x) == "");
  CHECK(reference::bit_difference(d_keys, of_keys.x) == "");
  for (std::size_t n = 0; n < 2; ++n)
    for (std::size_t i = 0; i < of_queries.coefficients[n].size(); ++i)
      CHECK(std::abs(sums.spans()[n][i] - (3 + of_queries.coefficients[n][i] + of_keys.coefficients[n][i])) < 1e-13);
}

TEMPLATE_TEST_CASE("the gradients of fope have the same bits on any number of threads and for any storage", "[fope]", float,
                   Eigen::bfloat16) {
  constexpr index_t many = 400;
  for (const std::size_t n : std::array<std::size_t, 3>{0, 6, 9}) {
    const form of = forms()[n];
    INFO(of.name);
    auto encoder = of.encoder<float>();
    const auto given = [&](std::uint64_t seed) {
      return tensor4<TestType>(random_tensor<tensor4<float>>(seed, batch, many, count, of.channels).template cast<TestType>());
    };
    const tensor4<TestType> y = given(56), d = given(57);
    const auto at = positions::offsets(std::array{0, 9}, many);
    const auto state = encoder.prepare(attention_positions{at, at});
    const gradients<TestType, float> alone(encoder, y, d, operand::key, state);
    for (const int threads : {2, 5}) {
      Eigen::ThreadPool pool(threads);
      const Eigen::ThreadPoolDevice device(&pool, threads);
      const gradients<TestType, float> shared(encoder, y, d, operand::key, state, false, device);
      CHECK(reference::bit_difference(shared.x, alone.x) == "");
      for (std::size_t p = 0; p < alone.coefficients.size(); ++p)
        CHECK(reference::bit_difference(shared.coefficients[p], alone.coefficients[p]) == "");
    }
    // What is stored in 16 bits is read as it is: the same numbers in float give the same gradient.
    const tensor4<float> wide_y = y.template cast<float>(), wide_d = d.template cast<float>();
    const gradients<float, float> wide(encoder, wide_y, wide_d, operand::key, state);
    for (std::size_t p = 0; p < alone.coefficients.size(); ++p)
      CHECK(reference::bit_difference(wide.coefficients[p], alone.coefficients[p]) == "");
  }
}

// ---- parameters, errors --------------------------------------------------------------------------------------------------------------

TEST_CASE("the parameters of fope are its coefficients, and tables follow them", "[fope]") {
  auto apart = forms()[0].encoder<float>(), one = forms()[6].encoder<float>(), shared = forms()[1].encoder<float>();
  REQUIRE(apart.parameters().size() == 2);
  CHECK(apart.parameters()[0].name == "sin_coef");
  CHECK(apart.parameters()[1].name == "cos_coef");
  CHECK(apart.parameters()[1].shape == std::vector<index_t>{4, 3, 3});
  REQUIRE(one.parameters().size() == 1);
  CHECK(one.parameters()[0].name == "fourier_coef");
  CHECK(shared.parameters()[0].shape == std::vector<index_t>{3, 3});
  CHECK(shared.prepare(positions::range(2)).heads() == 0);
  CHECK(apart.prepare(positions::range(2)).heads() == 4);

  const auto before = apart.prepare(positions::range(1));
  const auto untouched = apart;
  CHECK(apart == untouched);
  apart.parameters()[1].values[(2 * 3 + 1) * 3 + 2] += 0.5f;  // head 2, wave 1, pair 2
  CHECK_FALSE(apart == untouched);
  const auto after = apart.prepare(positions::range(1));
  for (index_t h = 0; h < 4; ++h)
    for (index_t n = 0; n < 16; ++n) CHECK((after.row(0, 0, h)[n] == before.row(0, 0, h)[n]) == !(h == 2 && n == 2));
  apart = untouched;
  apart.parameters()[0].values[0] += 1;
  CHECK_FALSE(apart == untouched);
  form elsewhere = forms()[0], louder = elsewhere;
  elsewhere.descriptor.offset = 1;
  louder.options.padding = fope_padding::rotation;
  CHECK_FALSE(untouched == elsewhere.encoder<float>());
  CHECK_FALSE(untouched == louder.encoder<float>());
  STATIC_REQUIRE_FALSE(is_shiftable<fope<double>>);
  STATIC_REQUIRE_FALSE(shifts<fope<double>>);
  STATIC_REQUIRE(shifts<rope<double>>);
}

TEST_CASE("fope draws the coefficients of sines first", "[fope]") {
  const form of = forms()[0];
  random_source random(9), same(9);
  fope<double> encoder(of.descriptor, of.options, {.start = fope_start::eye_xavier_normal, .gain = 0.3}, random);
  for (const auto& one : encoder.parameters()) {
    std::vector<double> drawn(one.values.size());
    initialize::fope_coefficients(drawn, same, {.heads = 4, .inputs = 3, .outputs = 3},
                                  {.start = fope_start::eye_xavier_normal, .gain = 0.3});
    CHECK(reference::bit_difference(one.values, drawn) == "");
  }
  CHECK(random == same);
}

TEST_CASE("fope does nothing to empty tensors", "[fope]") {
  auto encoder = forms()[2].encoder<float>();
  for (const auto& [b, t, h] : {std::array<index_t, 3>{0, 2, 4}, {2, 0, 4}, {2, 2, 0}}) {
    tensor4<float> x(b, t, h, index_t{16});
    const auto at = positions::range(t);
    const auto state = encoder.prepare(attention_positions{at, at});
    encoder.rotate(heads(x, time_head), operand::query, state);
    encoder.inverse(heads(x, time_head), operand::query, state);
    const gradients<float, float> none(encoder, x, x, operand::query, state);
    for (const auto& one : none.coefficients) CHECK(std::ranges::all_of(one, [](float d) { return d == 0; }));
  }
}

TEST_CASE("fope refuses options and coefficients that do not fit", "[fope][errors]") {
  const rotary_descriptor form{.pairing = pairing::halves, .dim = 16};
  const auto paper = [](index_t length, index_t number = 0, bool separate = true) {
    return options_of(length, fope_width::paper, fope_padding::ones, number, separate);
  };
  const auto refused = [](const std::string& text, auto&& act) { reference::refuses("[fope] " + text, act); };
  const std::vector<float> nine(9), eight(8);
  fope<float>(form, paper(128), nine, nine);
  fope<float>(form, paper(128, 0, false), nine);
  const std::string sizes = "coefficients must be heads * waves * mixed pairs but got ";
  refused(sizes + "9 and 8 and 0 and 3 and 3", [&] { fope<float>(form, paper(128), nine, eight); });
  refused(sizes + "9 and 8 and 0 and 3 and 3", [&] { fope<float>(form, paper(128), eight, nine); });
  refused(sizes + "18 and 9 and 2 and 3 and 3", [&] { fope<float>(form, paper(128, 2), nine, nine); });
  refused("sines and cosines must share their coefficients unless separate_basis is set",
          [&] { fope<float>(form, paper(128, 0, false), nine, nine); });
  refused("there must be coefficients of sines and of cosines where separate_basis is set", [&] { fope<float>(form, paper(128), nine); });
  auto bad = nine;
  bad[4] = std::numeric_limits<float>::quiet_NaN();
  refused("coefficients must be finite but got nan", [&] { fope<float>(form, paper(128), nine, bad); });
  refused("heads must not be negative but got -1", [&] { fope<float>(form, paper(128, -1), nine, nine); });
  refused("a frequency must be left by the clamps but got 8", [&] { fope<float>(form, paper(6), nine, nine); });
  refused("dim must be even but got 15", [&] { fope<float>({.pairing = pairing::halves, .dim = 15}, paper(128), nine, nine); });
  refused("the pairs that are mixed must be positive and at most dim / 2 but got 0 and 2",
          [&] { fope<float>({.pairing = pairing::halves, .dim = 2}, paper(128), nine, nine); });
  fope_options wide = options_of(1000, fope_width::vllm, fope_padding::ones, 0);
  wide.spectrum = fope_spectrum{.max_sequence_length = 1000, .fourier_dim = 64};
  refused("the pairs that are mixed must be positive and at most dim / 2 but got 18 and 16", [&] { fope<float>(form, wide, nine, nine); });
  random_source random(1);
  reference::refuses("[fope_coefficients] gain must be finite and not negative, for xavier positive but got 0",
                     [&] { fope<float>(form, paper(128), {.start = fope_start::xavier_normal, .gain = 0}, random); });
}

TEST_CASE("fope refuses sums that nothing can be divided by", "[fope][errors]") {
  fope_options options = options_of(128, fope_width::paper, fope_padding::ones, 0, true, true);
  std::vector<double> ones(9, 1.0);
  fope<double> encoder({.pairing = pairing::halves, .dim = 16}, options, ones, ones);
  const auto at = positions::range(2);
  const auto state = encoder.prepare(attention_positions{at, at});
  const auto values = encoder.parameters()[1].values;
  values[1] = -2;  // column 1
  const std::string text = "[fope] the coefficients of a column must have a sum that is finite and not 0 but got 0 and 1 and 0";
  reference::refuses(text, [&] { encoder.prepare(at); });
  block4 x(1, 2, 1, 16);
  x.setConstant(1);
  std::vector<double> sums(9);
  const std::array<std::span<double>, 2> spans{sums, sums};
  reference::refuses(x, text, [&] { encoder.rotate_backward(heads(x, time_head), read(x), operand::query, state, spans); });
  CHECK(std::ranges::all_of(sums, [](double sum) { return sum == 0; }));
}

TEST_CASE("fope refuses tensors and positions that do not fit, before it writes", "[fope][errors]") {
  auto encoder = forms()[2].encoder<float>();  // of two key heads
  const auto at = positions::range(2);
  const auto state = encoder.prepare(attention_positions{at, at});
  tensor4<float> x(1, 2, 4, 16), odd(1, 2, 3, 16), narrow(1, 2, 4, 14), longer(1, 3, 4, 16);
  for (auto* one : {&x, &odd, &narrow, &longer}) one->setConstant(1);
  const auto refused = [](auto& memory, const std::string& text, auto&& act) { reference::refuses(memory, "[fope] " + text, act); };
  const auto turn = [&](auto& one) { return [&] { encoder.rotate(heads(one, time_head), operand::query, state); }; };
  refused(odd, "heads must be a multiple of the table's but got 3 and 2", turn(odd));
  refused(narrow, "offset + dim must not exceed the channels but got 14 and 0 and 16", turn(narrow));
  refused(longer, "time must match the table but got 3 and 2", turn(longer));
  reference::refuses("[fope] the positions must have as many axes as the encoder but got 1 and 2",
                     [&] { encoder.prepare(positions::multi_axis(std::array{1, 2, 3, 4}, 2)); });
  reference::refuses("[fope] coordinate times frequency must stay below 2^31 turns but got 1e+30 and 0.15915494309189535",
                     [&] { encoder.prepare(coordinates::values(std::array{1e30}, 1)); });

  const auto size = encoder.parameters()[0].values.size();
  std::vector<float> sums(size), few(size - 1);
  const auto back = [&](auto& one, const tensor4<float>& seen, std::vector<std::span<float>> spans) {
    return [&, spans] { encoder.rotate_backward(heads(one, time_head), read(seen), operand::query, state, spans); };
  };
  refused(x, "there must be a gradient span for each parameter but got 2 and 1", back(x, x, {sums}));
  refused(x, "there must be a gradient for each coefficient but got " + std::to_string(size) + " and " + std::to_string(size - 1),
          back(x, x, {sums, few}));
  refused(x, "the gradient must have the shape of what it is of but got [1, 3, 4, 16] and [1, 2, 4, 16]", back(x, longer, {sums, sums}));
  refused(odd, "heads must be a multiple of the table's but got 3 and 2", back(odd, odd, {sums, sums}));
  CHECK(std::ranges::all_of(sums, [](float sum) { return sum == 0; }));
}
