// SPDX-License-Identifier: MIT
#include <posenc/rope.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/rotation.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;

template <class S>
using tensor4 = Eigen::Tensor<S, 4, RowMajor>;
template <class S>
using column_major4 = Eigen::Tensor<S, 4>;

constexpr auto time_head = axis_order::time_head, head_time = axis_order::head_time;

/// The elements in the order [batch, time, head, channel], wherever they stand.
template <class S>
std::vector<std::remove_const_t<S>> elements(const head_view<S>& x) {
  std::vector<std::remove_const_t<S>> all;
  for (index_t b = 0; b < x.batch(); ++b)
    for (index_t t = 0; t < x.time(); ++t)
      for (index_t h = 0; h < x.count(); ++h)
        for (index_t c = 0; c < x.channels(); ++c) all.push_back(x(b, t, h, c));
  return all;
}

/// Copies elements in that order into a view.
template <class S>
void assign(const head_view<S>& to, const std::vector<S>& from) {
  auto next = from.begin();
  for (index_t b = 0; b < to.batch(); ++b)
    for (index_t t = 0; t < to.time(); ++t)
      for (index_t h = 0; h < to.count(); ++h)
        for (index_t c = 0; c < to.channels(); ++c) to(b, t, h, c) = *next++;
}

/// What rotating these elements [batch, time, head, channel] gives, by the matrix of each token.
template <class S>
std::vector<double> expected(const std::vector<S>& x, std::array<index_t, 4> extents, const reference::rotary& rule, const positions& at) {
  std::vector<double> all;
  auto next = x.begin();
  for (index_t b = 0; b < extents[0]; ++b)
    for (index_t t = 0; t < extents[1]; ++t) {
      const auto turn = reference::rotation(rule, at(b, t));
      for (index_t h = 0; h < extents[2]; ++h) {
        Eigen::VectorXd row(extents[3]);
        for (auto& value : row) value = static_cast<double>(*next++);
        const Eigen::VectorXd turned = turn * row;
        all.insert(all.end(), turned.begin(), turned.end());
      }
    }
  return all;
}

// For numbers in [-1, 1): the table's error twice, and three roundings of numbers below 2.
template <class S>
constexpr double tolerance = sizeof(S) == 4 ? 2 * 3.1e-8 + 2 * 6e-8 : 2 * 2.3e-16 + 2 * 1.2e-16 + 1e-16;

const auto fast = positions::range(5, 900);  // angles of 900 radians in the first pair

}  // namespace

TEMPLATE_TEST_CASE("rope multiplies each token by its rotation matrix", "[rope]", float, double) {
  struct {
    index_t channels, dim, offset;
  } const shapes[] = {{2, 2, 0}, {8, 8, 0}, {12, 6, 0}, {12, 6, 3}, {12, 2, 10}, {70, 66, 2}};
  for (const auto pairs : {pairing::halves, pairing::interleaved})
    for (const auto [channels, dim, offset] : shapes)
      for (const double base : {10000.0, 500000.0}) {
        INFO((pairs == pairing::halves ? "halves" : "interleaved") << ", " << dim << " of " << channels << " channels from " << offset);
        const rope<TestType> encoder({.pairing = pairs, .dim = dim, .offset = offset}, {.base = base});
        const reference::rotary rule{
            .interleaved = pairs == pairing::interleaved, .channels = channels, .dim = dim, .offset = offset, .base = base};
        auto q = random_tensor<tensor4<TestType>>(1, 2, 4, 3, channels);
        const auto before = elements(heads(q, time_head));
        const auto at = positions::ids(std::array{0, 1, 17, -3, 250, 2, 2, -250}, 2);
        encoder.rotate(heads(q, time_head), at);
        const auto after = elements(heads(q, time_head));
        CHECK(reference::difference(after, expected(before, {2, 4, 3, channels}, rule, at), tolerance<TestType>) == "");
        for (std::size_t n = 0; n < after.size(); ++n) {  // the channels that do not turn keep their bits
          const auto c = static_cast<index_t>(n) % channels;
          if (c < offset || c >= offset + dim) REQUIRE(reference::same_bits(after[n], before[n]));
        }
      }
}

TEST_CASE("rope has the values of its paper", "[rope]") {
  // Two channels, one frequency of 1: the plane turns by p radians, here a quarter turn but for the rest of 11 - 7 pi / 2.
  const rope<double> encoder({.pairing = pairing::halves, .dim = 2});
  tensor4<double> q(1, 1, 1, 2);
  q.setValues({{{{1.0, 0.0}}}});
  encoder.rotate(heads(q, time_head), positions::range(1, 11));
  CHECK(std::abs(q(0, 0, 0, 0) - 0.0044256979880507857) < 3e-16);
  CHECK(std::abs(q(0, 0, 0, 1) + 0.99999020655070345) < 3e-16);
  CHECK(encoder.inspect().frequencies.radians(0) == 1.0);
  CHECK(rope<float>({.pairing = pairing::halves, .dim = 8}).inspect().frequencies.radians(2) == 0.01);
}

TEMPLATE_TEST_CASE("rope has the same bits in every layout", "[rope]", float, double) {
  constexpr index_t batch = 2, time = 5, count = 3, channels = 8;
  const auto values = random_vector<TestType>(2, batch * time * count * channels);
  for (const auto pairs : {pairing::halves, pairing::interleaved}) {
    const rope<TestType> encoder({.pairing = pairs, .dim = 6, .offset = 1});
    const auto rotated = [&](auto&& view) {
      assign(view, values);
      encoder.rotate(view, fast);
      return elements(view);
    };
    tensor4<TestType> plain(batch, time, count, channels);
    const auto result = rotated(heads(plain, time_head));
    CHECK(reference::bit_difference(result, values) != "");

    tensor4<TestType> by_head(batch, count, time, channels);
    CHECK(reference::bit_difference(rotated(heads(by_head, head_time)), result) == "");
    column_major4<TestType> columns(channels, count, time, batch);
    CHECK(reference::bit_difference(rotated(heads(columns, time_head)), result) == "");
    column_major4<TestType> columns_by_head(channels, time, count, batch);
    CHECK(reference::bit_difference(rotated(heads(columns_by_head, head_time)), result) == "");

    Eigen::TensorFixedSize<TestType, Eigen::Sizes<batch, time, count, channels>, RowMajor> fixed;
    CHECK(reference::bit_difference(rotated(heads(fixed, time_head)), result) == "");
    std::vector<TestType> foreign(values.size() + 1);  // not aligned
    Eigen::TensorMap<tensor4<TestType>> map(foreign.data() + 1, batch, time, count, channels);
    CHECK(reference::bit_difference(rotated(heads(map, time_head)), result) == "");

    // One row without a batch axis.
    Eigen::Tensor<TestType, 3, RowMajor> row(time, count, channels);
    assign(heads(row, time_head), values);
    encoder.rotate(heads(row, time_head), fast);
    CHECK(reference::bit_difference(row, std::span(result).first(time * count * channels)) == "");
  }
}

TEMPLATE_TEST_CASE("rope turns q and k inside a fused buffer and nothing beside them", "[rope]", float, double) {
  constexpr index_t batch = 2, time = 3, query_heads = 4, key_heads = 2, channels = 6, width = (query_heads + 2 * key_heads) * channels;
  const rope<TestType> encoder({.pairing = pairing::interleaved, .dim = 6});
  auto qkv = random_tensor<Eigen::Tensor<TestType, 3, RowMajor>>(3, batch, time, width);
  const auto before = qkv;
  const auto part = [&](auto& tensor, index_t count, index_t first) {
    return split_heads(tensor, {.heads = count, .channels = channels, .offset = first});
  };
  const auto table = encoder.prepare(positions::range(time, 5));
  encoder.rotate(part(qkv, query_heads, 0), table);
  encoder.rotate(part(qkv, key_heads, query_heads * channels), table);

  tensor4<TestType> alone(batch, time, query_heads + key_heads, channels);
  assign(heads(alone, time_head), elements(part(before, query_heads + key_heads, 0)));
  encoder.rotate(heads(alone, time_head), table);
  CHECK(reference::bit_difference(elements(part(qkv, query_heads + key_heads, 0)), elements(heads(alone, time_head))) == "");
  const index_t values_from = (query_heads + key_heads) * channels;
  CHECK(reference::bit_difference(elements(part(qkv, key_heads, values_from)), elements(part(before, key_heads, values_from))) == "");
}

TEMPLATE_TEST_CASE("rope writes elsewhere what it writes in place", "[rope]", float, double) {
  const rope<TestType> encoder({.pairing = pairing::halves, .dim = 4, .offset = 2});
  const auto in = random_tensor<tensor4<TestType>>(4, 2, 5, 3, 9);
  const auto table = encoder.prepare(fast);
  auto in_place = in;
  encoder.rotate(heads(in_place, time_head), table);

  column_major4<TestType> out(9, 5, 3, 2);  // another storage order and another order of axes
  encoder.rotate(heads(in, time_head), heads(out, head_time), table);
  CHECK(reference::bit_difference(elements(heads(out, head_time)), elements(heads(in_place, time_head))) == "");

  auto same = in;  // one view for both
  encoder.rotate(heads(same, time_head), heads(same, time_head), table);
  CHECK(reference::bit_difference(same, in_place) == "");
}

TEMPLATE_TEST_CASE("rope writes new keys into the pages of a cache", "[rope]", float, double) {
  constexpr index_t batch = 2, time = 3, count = 5, channels = 6, slots = 9;
  const rope<TestType> encoder({.pairing = pairing::halves, .dim = 4, .offset = 1});
  const auto keys = random_tensor<tensor4<TestType>>(5, batch, time, count, channels);
  const auto table = encoder.prepare(positions::offsets(std::array{7, 100}, time));
  auto rotated = keys;
  encoder.rotate(heads(keys, time_head), heads(rotated, time_head), table);

  const std::vector<index_t> rows{8, 0, no_row, 3, 7, 1};
  for (const auto order : {time_head, head_time}) {
    auto cache = order == time_head ? random_tensor<tensor4<TestType>>(6, 1, slots, count, channels)
                                    : random_tensor<tensor4<TestType>>(6, 1, count, slots, channels);
    const auto before = cache;
    encoder.rotate(heads(keys, time_head), heads(cache, order), rows, table);
    const auto slot = [&](const tensor4<TestType>& tensor, index_t s) {
      std::vector<TestType> all;
      for (index_t h = 0; h < count; ++h)
        for (index_t c = 0; c < channels; ++c) all.push_back(heads(tensor, order)(0, s, h, c));
      return all;
    };
    std::vector<index_t> writer(slots, no_row);
    for (std::size_t token = 0; token < rows.size(); ++token)
      if (rows[token] != no_row) writer[static_cast<std::size_t>(rows[token])] = static_cast<index_t>(token);
    for (index_t s = 0; s < slots; ++s) {
      const index_t token = writer[static_cast<std::size_t>(s)];
      const auto wanted = token == no_row ? slot(before, s) : [&] {
        const auto all = elements(heads(rotated, time_head));
        const auto first = all.begin() + token * count * channels;
        return std::vector<TestType>(first, first + count * channels);
      }();
      INFO("slot " << s);
      CHECK(reference::bit_difference(slot(cache, s), wanted) == "");
    }
  }
}

TEMPLATE_TEST_CASE("rope: inverse undoes rotate, attention factor included", "[rope]", float, double) {
  for (const auto pairs : {pairing::halves, pairing::interleaved})
    for (const double factor : {1.0, 1.3, -0.5}) {
      const rope<TestType> encoder({.pairing = pairs, .dim = 8, .attention_factor = factor});
      const auto before = random_tensor<tensor4<TestType>>(7, 2, 4, 2, 10);
      const auto at = attention_positions{positions::ids(std::array{3, -2'000'000'000, 1'000'000, 7}), positions::range(4)};
      const auto tables = encoder.prepare(at);
      auto x = before;
      encoder.rotate(heads(x, time_head), operand::query, tables);
      encoder.inverse(heads(x, time_head), operand::query, tables);
      // cos^2 + sin^2 is 1 but for the table's error twice, and both passes round.
      CHECK(reference::difference(x, before, 4 * tolerance<TestType>) == "");
    }
}

TEMPLATE_TEST_CASE("rope leaves tokens without a position alone", "[rope]", float, double) {
  const rope<TestType> encoder({.pairing = pairing::halves, .dim = 6, .attention_factor = 1.3});
  const auto before = random_tensor<tensor4<TestType>>(8, 1, 3, 2, 6);
  const auto at = positions::ids(std::array{no_position, position{5}, no_position});
  const auto table = encoder.prepare(at);
  const auto only_the_second_differs = [&](const tensor4<TestType>& x) {
    for (index_t t = 0; t < 3; ++t)
      for (index_t h = 0; h < 2; ++h)
        for (index_t c = 0; c < 6; ++c)
          if (reference::same_bits(x(0, t, h, c), before(0, t, h, c)) != (t != 1)) return false;
    return true;
  };
  auto x = before;
  encoder.rotate(heads(x, time_head), table);
  CHECK(only_the_second_differs(x));
  x = before;
  encoder.inverse(heads(x, time_head), table);
  CHECK(only_the_second_differs(x));
  x = before;
  encoder.rotate_backward(heads(x, time_head), table);
  CHECK(only_the_second_differs(x));
  x = before;
  encoder.shift(heads(x, time_head), at);
  CHECK(only_the_second_differs(x));
}

TEST_CASE("rope: rotate_backward is the transpose of rotate", "[rope]") {
  for (const auto pairs : {pairing::halves, pairing::interleaved})
    for (const double factor : {1.0, 1.3}) {
      const rope<double> encoder({.pairing = pairs, .dim = 6, .offset = 1, .attention_factor = factor});
      const auto table = encoder.prepare(positions::ids(std::array{-5, 1000, 3}));
      auto x = random_tensor<tensor4<double>>(9, 2, 3, 2, 8);
      const auto weights = random_tensor<tensor4<double>>(10, 2, 3, 2, 8);
      auto gradient = weights;  // of the sum of weights times rotated x
      encoder.rotate_backward(heads(gradient, time_head), table);

      const auto loss = [&] {
        tensor4<double> y(2, 3, 2, 8);
        encoder.rotate(heads(std::as_const(x), time_head), heads(y, time_head), table);
        return reference::dot(weights, y);
      };
      CHECK(std::abs(loss() - reference::dot(gradient, x)) < 1e-13);  // <w, R x> = <R^T w, x>, sums of 96 products below 2
      CHECK(reference::difference(gradient, reference::derivatives({x.data(), 96}, loss, 0.5), 1e-13) == "");
    }
}

TEST_CASE("rope in float: rotate_backward is the transpose of rotate", "[rope]") {
  const rope<float> encoder({.pairing = pairing::interleaved, .dim = 8, .attention_factor = 1.3});
  const auto tables = encoder.prepare({.queries = positions::range(4, 60'000), .keys = positions::range(4)});
  const auto x = random_tensor<tensor4<float>>(11, 1, 4, 2, 8), weights = random_tensor<tensor4<float>>(12, 1, 4, 2, 8);
  auto forward = x, backward = weights;
  encoder.rotate(heads(forward, time_head), operand::query, tables);
  encoder.rotate_backward(heads(backward, time_head), operand::query, tables);
  CHECK(std::abs(reference::dot(weights, forward) - reference::dot(backward, x)) < 64 * 2 * tolerance<float>);
}

TEMPLATE_TEST_CASE("rope: shift moves keys to other positions", "[rope]", float, double) {
  constexpr double factor = 1.3;
  const rope<TestType> encoder({.pairing = pairing::halves, .dim = 8, .attention_factor = factor});
  const auto at = positions::ids(std::array{10, 2000, 131'071, 6});
  const auto keys = random_tensor<tensor4<TestType>>(13, 2, 4, 3, 8);
  const auto rotated = [&](const positions& where) {
    auto x = keys;
    encoder.rotate(heads(x, time_head), where);
    return x;
  };
  // Two rotations instead of one: of numbers below 1.3, the second without a factor.
  constexpr double twice = 3 * factor * tolerance<TestType>;
  for (const position delta : {-7, 0, 1, 100'000}) {
    auto x = rotated(at);
    encoder.shift(heads(x, time_head), delta);
    CHECK(reference::difference(x, rotated(positions::ids(std::array{10 + delta, 2000 + delta, 131'071 + delta, 6 + delta})), twice) == "");
  }
  auto x = rotated(at);  // every token and row by its own
  encoder.shift(heads(x, time_head), positions::ids(std::array{0, -1000, 1, -6, 5, 5, -131'071, 0}, 2));
  CHECK(reference::difference(x, rotated(positions::ids(std::array{10, 1000, 131'072, 0, 15, 2005, 0, 6}, 2)), twice) == "");
  CHECK(is_shiftable<rope<TestType>>);
}

TEST_CASE("rope: angles add exactly, so that a shift loses nothing but roundings", "[rope]") {
  const rope<float> encoder({.pairing = pairing::halves, .dim = 128});
  const frequencies& speeds = encoder.inspect().frequencies;
  for (index_t k = 0; k < speeds.count(); ++k)
    for (const position p : {0, 1, -77, 131'071, 2'000'000'000})
      for (const position d : {-5, 1, 1'000'000})
        REQUIRE(float_phase(p + d, speeds[k]) == float_phase(p, speeds[k]) + float_phase(d, speeds[k]));
}

TEST_CASE("rope: queries and keys at the same positions share one table", "[rope]") {
  const rope<float> encoder({.pairing = pairing::halves, .dim = 4});
  const auto same = prepare(encoder, {.queries = positions::range(3, 5), .keys = positions::ids(std::array{5, 6, 7})});
  CHECK(same.queries.row(0, 0) == same.keys.row(0, 0));
  const auto other = prepare(encoder, {.queries = positions::range(3, 5), .keys = positions::range(8)});
  CHECK(other.queries.row(0, 0) != other.keys.row(0, 0));
  CHECK(other[operand::query].time() == 3);
  CHECK(other[operand::key].time() == 8);
  const auto copy = other.keys;  // a reference count
  CHECK(copy.row(0, 0) == other.keys.row(0, 0));
}

TEST_CASE("rope: every role has its own positions and number of heads", "[rope]") {
  const rope<float> encoder({.pairing = pairing::halves, .dim = 4});
  const attention_positions at{.queries = positions::range(2, 3), .keys = positions::range(5)};
  const auto q = random_tensor<tensor4<float>>(14, 1, 2, 4, 4), k = random_tensor<tensor4<float>>(15, 1, 5, 2, 4);
  auto q_staged = q, k_staged = k, q_alone = q, k_alone = k;
  encode_queries_keys(encoder, heads(q_staged, time_head), heads(k_staged, time_head), prepare(encoder, at));
  encoder.rotate(heads(q_alone, time_head), at.queries);
  encoder.rotate(heads(k_alone, time_head), at.keys);
  CHECK(reference::bit_difference(q_staged, q_alone) == "");
  CHECK(reference::bit_difference(k_staged, k_alone) == "");
  CHECK(reference::bit_difference(q_staged, q) != "");
}

TEST_CASE("rope turns the new keys of a decode step", "[rope]") {
  const rope<float> encoder({.pairing = pairing::halves, .dim = 4});
  const attention_positions step{.queries = positions::range(2, 30), .keys = positions::range(32), .new_keys = positions::range(2, 30)};
  const auto tables = prepare(encoder, step);
  CHECK(tables.keys.row(0, 0) == tables.queries.row(0, 0));
  const auto k = random_tensor<tensor4<float>>(15, 1, 2, 2, 4);
  auto staged = k, alone = k;
  encoder.rotate(heads(staged, time_head), operand::key, tables);
  encoder.rotate(heads(alone, time_head), positions::range(2, 30));
  CHECK(reference::bit_difference(staged, alone) == "");
}

TEST_CASE("rope does nothing to empty tensors", "[rope]") {
  const rope<float> encoder({.pairing = pairing::interleaved, .dim = 4});
  tensor4<float> no_batch(0, 3, 2, 4), no_time(2, 0, 2, 4), no_heads(2, 3, 0, 4);
  encoder.rotate(heads(no_batch, time_head), positions::range(3));
  encoder.rotate(heads(no_time, time_head), positions::range(0));
  encoder.rotate(heads(no_heads, time_head), positions::range(3));
  encoder.inverse(heads(no_batch, time_head), encoder.prepare(positions::range(3)));
  encoder.rotate_backward(heads(no_time, time_head), encoder.prepare(positions::range(0)));
  encoder.shift(heads(no_batch, time_head), 5);
  encoder.rotate(heads(no_time, time_head), heads(no_time, time_head), encoder.prepare(positions::range(0)));
  auto cache = random_tensor<tensor4<float>>(16, 1, 3, 2, 4);
  const auto before = cache;
  encoder.rotate(heads(no_time, time_head), heads(cache, time_head), std::span<const index_t>(), encoder.prepare(positions::range(0)));
  CHECK(reference::bit_difference(cache, before) == "");
}

TEST_CASE("rope: encoders are equal where their options are", "[rope]") {
  const rotary_descriptor halves{.pairing = pairing::halves, .dim = 8};
  const auto with = [&](auto&& change) {
    auto other = halves;
    change(other);
    return rope<float>(other);
  };
  const rope<float> plain(halves);
  CHECK(plain == with([](auto&) {}));
  CHECK(plain != with([](auto& d) { d.pairing = pairing::interleaved; }));
  CHECK(plain != with([](auto& d) { d.dim = 6; }));
  CHECK(plain != with([](auto& d) { d.offset = 1; }));
  CHECK(plain != with([](auto& d) { d.rotation = rotation::negative; }));
  CHECK(plain != with([](auto& d) { d.head_count = 1; }));
  CHECK(plain != with([](auto& d) { d.attention_factor = 1.1; }));
  CHECK(plain != with([](auto& d) { d.blocks = 2; }));
  CHECK(plain != rope<float>(halves, {.base = 500000}));
  CHECK(plain != rope<float>(halves, {.schedule = schedule::linear{2}}));
  CHECK(plain != plain.at_length(5));
  CHECK(plain.descriptor() == halves);
  CHECK(rope<float>(halves, {.base = 500000}).options() == rope_options{.base = 500000});
  CHECK(plain.inspect() == rotary_spectrum{frequencies::plain("rope", 8, 10000)});
  CHECK(rope<float>::name() == "rope");
}

TEST_CASE("rope refuses options that make no rotation", "[rope][errors]") {
  const auto refused = [](const std::string& text, const rotary_descriptor& descriptor, const rope_options& options = {}) {
    reference::refuses("[rope] " + text, [&] { rope<float>(descriptor, options); });
  };
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  refused("dim must be positive but got 0", {.pairing = pairing::halves, .dim = 0});
  refused("dim must be positive but got -2", {.pairing = pairing::halves, .dim = -2});
  refused("dim must be even but got 7", {.pairing = pairing::halves, .dim = 7});
  refused("offset must not be negative but got -2", {.pairing = pairing::halves, .dim = 4, .offset = -2});
  refused("base must be positive and finite but got 0", {.pairing = pairing::halves, .dim = 4}, {.base = 0});
  refused("base must be positive and finite but got -10000", {.pairing = pairing::halves, .dim = 4}, {.base = -10000});
  refused("base must be positive and finite but got nan", {.pairing = pairing::halves, .dim = 4}, {.base = nan});
  refused("base must be positive and finite but got inf", {.pairing = pairing::halves, .dim = 4}, {.base = infinity});
  refused("the attention factor must be finite and not zero but got 0", {.pairing = pairing::halves, .dim = 4, .attention_factor = 0});
  refused("the attention factor must be finite and not zero but got nan", {.pairing = pairing::halves, .dim = 4, .attention_factor = nan});
}

TEST_CASE("rope refuses tensors that do not fit, before it writes", "[rope][errors]") {
  const rope<float> encoder({.pairing = pairing::halves, .dim = 4, .offset = 2}), wide({.pairing = pairing::halves, .dim = 6});
  auto x = random_tensor<tensor4<float>>(17, 2, 3, 2, 6);
  const auto view = heads(x, time_head);
  const auto table = encoder.prepare(positions::range(3)), long_table = encoder.prepare(positions::range(4));
  const auto three_rows = encoder.prepare(positions::offsets(std::array{0, 1, 2}, 3));
  const auto refused = [&](const std::string& text, auto&& act) { reference::refuses(x, "[rope] " + text, act); };

  auto narrow = random_tensor<tensor4<float>>(18, 2, 3, 2, 5);
  reference::refuses(narrow, "[rope] offset + dim must not exceed the channels but got 5 and 2 and 4",
                     [&] { encoder.rotate(heads(narrow, time_head), table); });
  refused("the table must be of dim / 2 pairs but got 2 and 3", [&] { encoder.rotate(view, wide.prepare(positions::range(3))); });
  refused("time must match the table but got 3 and 4", [&] { encoder.rotate(view, long_table); });
  refused("time must match the table but got 3 and 4", [&] { encoder.inverse(view, long_table); });
  refused("time must match the table but got 3 and 4", [&] { encoder.rotate_backward(view, long_table); });
  refused("time must match the table but got 3 and 2", [&] { encoder.shift(view, positions::range(2)); });
  refused("batch must match the table but got 2 and 3", [&] { encoder.rotate(view, three_rows); });
  refused("a shift must be a number of positions but got no_position", [&] { encoder.shift(view, no_position); });
  reference::refuses(x, "[positions] ids must lie in [-2^62, 2^62] but got 4611686018427387905",
                     [&] { encoder.shift(view, (position{1} << 62) + 1); });

  refused("the last axis must be contiguous but got 2",
          [&] { encoder.rotate(head_view<float>(tensor_view<float, 4>(x.data(), {1, 3, 1, 6}, {36, 12, 12, 2})), table); });
  refused("the elements of an output must be distinct, with strides that nest but got [0, 6, 6, 1]",
          [&] { encoder.rotate(head_view<float>(tensor_view<float, 4>(x.data(), {2, 3, 2, 6}, {0, 6, 6, 1})), table); });
}

TEST_CASE("rope refuses outputs and rows that do not fit, before it writes", "[rope][errors]") {
  const rope<float> encoder({.pairing = pairing::halves, .dim = 4});
  const auto in = random_tensor<tensor4<float>>(19, 2, 3, 2, 4);
  const auto table = encoder.prepare(positions::range(3));
  auto out = random_tensor<tensor4<float>>(20, 2, 3, 3, 4);
  reference::refuses(out, "[rope] the output must have the input's shape but got [2, 3, 2, 4] and [2, 3, 3, 4]",
                     [&] { encoder.rotate(heads(in, time_head), heads(out, time_head), table); });

  auto both = random_tensor<tensor4<float>>(21, 3, 3, 2, 4);
  const auto rows_of = [&](index_t first) { return head_view<float>(tensor_view<float, 4>(both.data() + first * 24, {2, 3, 2, 4})); };
  reference::refuses(both, "[rope] input and output must be one view or not overlap but got [2, 3, 2, 4] and [2, 3, 2, 4]",
                     [&] { encoder.rotate(rows_of(0), rows_of(1), table); });

  auto cache = random_tensor<tensor4<float>>(22, 1, 8, 2, 4), two = random_tensor<tensor4<float>>(23, 2, 8, 2, 4);
  const std::vector<index_t> good{0, 1, 2, 3, 4, 5}, few{0, 1, 2}, far{0, 1, 2, 3, 4, 8}, negative{0, 1, 2, 3, 4, -2};
  const auto refused = [&](const std::string& text, const std::vector<index_t>& rows) {
    reference::refuses(cache, "[rope] " + text, [&] { encoder.rotate(heads(in, time_head), heads(cache, time_head), rows, table); });
  };
  refused("there must be one destination row per token but got 6 and 3", few);
  refused("destination rows must lie inside the output but got 8 and 8", far);
  refused("destination rows must lie inside the output but got 8 and -2", negative);
  reference::refuses(
      two, "[rope] the cache must be [1, slot, head, channel] with the input's heads and channels but got [2, 8, 2, 4] and [2, 3, 2, 4]",
      [&] { encoder.rotate(heads(in, time_head), heads(two, time_head), good, table); });

  // Within one cache a token would be read after another one was written over it.
  const auto moved = encoder.prepare(positions::range(8));
  reference::refuses(cache, "[rope] the input must not overlap the cache but got [1, 8, 2, 4] and [1, 8, 2, 4]", [&] {
    encoder.rotate(heads(cache, time_head), heads(cache, time_head), std::array<index_t, 8>{1, 2, 3, 4, 5, 6, 7, 0}, moved);
  });
}
