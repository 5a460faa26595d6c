// SPDX-License-Identifier: MIT
#include <posenc/rope/rotary_descriptor.hpp>

#include <posenc/gradients.hpp>
#include <posenc/rope.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/turned.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using reference::bit_difference, reference::difference;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;
constexpr auto time_head = axis_order::time_head;
constexpr auto halves = pairing::halves, interleaved = pairing::interleaved, both = pairing::interleaved_to_halves;

template <class S>
std::vector<S> row_of(const tensor4<S>& x, index_t b, index_t t, index_t h) {
  std::vector<S> row;
  for (index_t c = 0; c < x.dimension(3); ++c) row.push_back(x(b, t, h, c));
  return row;
}

const auto at = positions::ids(std::array{0, 5, 700, -90});

}  // namespace

TEMPLATE_TEST_CASE("only the heads that are named turn, in place, elsewhere and into a cache", "[rope][rotary_descriptor]", float, double) {
  struct {
    index_t first, count, from, to;  // as asked for; of five heads
  } const forms[] = {{0, 0, 0, 5}, {2, 0, 2, 5}, {1, 2, 1, 3}, {trailing, 2, 3, 5}, {5, 0, 5, 5}, {0, 5, 0, 5}};
  const auto x = random_tensor<tensor4<TestType>>(1, 1, 4, 5, 11);
  for (const auto& [first, count, from, to] : forms) {
    CAPTURE(first, count);
    const rope<TestType> some({.pairing = halves, .dim = 8, .offset = 1, .first_head = first, .head_count = count});
    const rope<TestType> all({.pairing = halves, .dim = 8, .offset = 1});
    const auto table = all.prepare(at);
    auto everything = x, in_place = x, gradient = x, all_gradients = x;
    all.rotate(heads(everything, time_head), table);
    all.rotate_backward(heads(all_gradients, time_head), table);
    some.rotate(heads(in_place, time_head), table);
    some.rotate_backward(heads(gradient, time_head), table);
    tensor4<TestType> elsewhere(1, 4, 5, 11), cache(1, 6, 5, 11);
    elsewhere.setConstant(7), cache.setConstant(7);
    some.rotate(heads(x, time_head), heads(elsewhere, time_head), table);
    some.rotate(heads(x, time_head), heads(cache, time_head), std::array<index_t, 4>{5, 0, 3, 1}, table);
    for (index_t t = 0; t < 4; ++t)
      for (index_t h = 0; h < 5; ++h) {
        const bool turns = h >= from && h < to;
        CHECK(bit_difference(row_of(in_place, 0, t, h), row_of(turns ? everything : x, 0, t, h)) == "");
        CHECK(bit_difference(row_of(gradient, 0, t, h), row_of(turns ? all_gradients : x, 0, t, h)) == "");
        CHECK(bit_difference(row_of(elsewhere, 0, t, h), row_of(in_place, 0, t, h)) == "");
        CHECK(bit_difference(row_of(cache, 0, std::array{5, 0, 3, 1}[static_cast<std::size_t>(t)], h), row_of(in_place, 0, t, h)) == "");
      }
    for (const index_t slot : {2, 4}) CHECK(row_of(cache, 0, slot, 0) == std::vector<TestType>(11, 7));
  }
}

TEMPLATE_TEST_CASE("trailing channels are the last ones, whatever their number", "[rope][rotary_descriptor]", float, double) {
  const rope<TestType> last({.pairing = interleaved, .dim = 4, .offset = trailing});
  for (const index_t channels : {4, 5, 11}) {
    auto got = random_tensor<tensor4<TestType>>(1, 1, 4, 2, channels), expected = got;
    last.rotate(heads(got, time_head), at);
    rope<TestType>({.pairing = interleaved, .dim = 4, .offset = channels - 4}).rotate(heads(expected, time_head), at);
    CHECK(bit_difference(got, expected) == "");
  }
}

TEMPLATE_TEST_CASE("negative rotation is rotation at the negative position, and the way back", "[rope][rotary_descriptor]", float, double) {
  for (const auto form : {halves, interleaved, both}) {
    const rotary_descriptor forward{.pairing = form, .dim = 8, .offset = 1};
    auto backward = forward;
    backward.rotation = rotation::negative;
    constexpr double tolerance = 4 * std::numeric_limits<TestType>::epsilon();  // in double, angles are rounded downwards
    auto got = random_tensor<tensor4<TestType>>(1, 1, 4, 2, 9), expected = got;
    const auto before = got;
    rope<TestType>(backward).rotate(heads(got, time_head), at);
    rope<TestType>(forward).rotate(heads(expected, time_head), positions::ids(std::array{0, -5, -700, 90}));
    CHECK(difference(got, expected, tolerance) == "");
    rope<TestType>(backward).shift(heads(got, time_head), 3);
    rope<TestType>(forward).shift(heads(expected, time_head), -3);
    CHECK(difference(got, expected, tolerance) == "");
    rope<TestType>(backward).shift(heads(got, time_head), -3);
    rope<TestType>(backward).inverse(heads(got, time_head), rope<TestType>(backward).prepare(at));
    CHECK(difference(got, before, 16 * std::numeric_limits<TestType>::epsilon()) == "");
  }
}

TEMPLATE_TEST_CASE("interleaved_to_halves: what is written in halves is read so again", "[rope][rotary_descriptor]", float, double,
                   Eigen::half, Eigen::bfloat16) {
  using S = compute_t<TestType>;
  for (const index_t dim : {2, 6, 32, 66, 128}) {
    const rotary_descriptor form{.pairing = both, .dim = dim, .offset = 1};
    const rope<S> encoder(form), in_halves({.pairing = halves, .dim = dim, .offset = 1}),
        neighbours({.pairing = interleaved, .dim = dim, .offset = 1});
    const auto table = encoder.prepare(at);
    const auto x = random_tensor<tensor4<TestType>>(1, 1, 4, 3, dim + 3);
    auto y = x, by_neighbours = x;
    encoder.rotate(heads(y, time_head), table);
    neighbours.rotate(heads(by_neighbours, time_head), table);
    const auto exchange = [&](const tensor4<TestType>& from, bool to_halves) {
      auto out = from;
      for (index_t t = 0; t < 4; ++t)
        for (index_t h = 0; h < 3; ++h)
          for (index_t k = 0; k < dim / 2; ++k)
            for (const index_t second : {0, 1}) {
              const index_t next = 1 + 2 * k + second, half = 1 + second * dim / 2 + k;
              if (to_halves) out(0, t, h, half) = from(0, t, h, next);
              else out(0, t, h, next) = from(0, t, h, half);
            }
      return out;
    };
    CHECK(bit_difference(y, exchange(by_neighbours, true)) == "");

    tensor4<TestType> elsewhere(1, 4, 3, dim + 3);
    encoder.rotate(heads(x, time_head), heads(elsewhere, time_head), table);
    CHECK(bit_difference(elsewhere, y) == "");

    // The gradient comes in halves and leaves interleaved.
    auto gradient = x, expected = exchange(x, false);
    encoder.rotate_backward(heads(gradient, time_head), table);
    neighbours.rotate_backward(heads(expected, time_head), table);
    CHECK(bit_difference(gradient, expected) == "");

    // Cached keys are shifted as halves.
    auto shifted = y, shifted_halves = y;
    encoder.shift(heads(shifted, time_head), 9);
    in_halves.shift(heads(shifted_halves, time_head), 9);
    CHECK(bit_difference(shifted, shifted_halves) == "");

    auto back = y;
    encoder.inverse(heads(back, time_head), table);
    if constexpr (sizeof(TestType) > 2) CHECK(difference(back, x, 8 * std::numeric_limits<TestType>::epsilon()) == "");
  }
}

TEMPLATE_TEST_CASE("blocks pair the halves of each block", "[rope][rotary_descriptor]", float, double) {
  const rotary_descriptor form{.pairing = halves, .dim = 12, .offset = 1, .blocks = 3};
  const rope<TestType> encoder(form);
  const auto x = random_tensor<tensor4<TestType>>(1, 1, 4, 2, 14);
  auto y = x;
  encoder.rotate(heads(y, time_head), at);
  for (index_t t = 0; t < 4; ++t) {
    std::vector<long double> angles;
    for (index_t k = 0; k < 6; ++k)
      angles.push_back(static_cast<long double>(at(0, t)) * std::pow(10000.0L, -static_cast<long double>(k) / 6));
    const auto row = row_of(x, 0, t, 1);
    CHECK(difference(row_of(y, 0, t, 1), reference::turned({row.begin(), row.end()}, form, angles),
                     4 * std::numeric_limits<TestType>::epsilon()) == "");
  }
}

TEMPLATE_TEST_CASE("pairs that no position turns keep their bits, whatever they are", "[rope][rotary_descriptor]", float, double) {
  constexpr TestType infinity = std::numeric_limits<TestType>::infinity();
  for (const auto form : {halves, interleaved}) {
    const rope<TestType> encoder({.pairing = form, .dim = 16, .offset = 1}, {.schedule = schedule::proportional{.fraction = 0.25}});
    const rope<TestType> full({.pairing = form, .dim = 16, .offset = 1});
    auto x = random_tensor<tensor4<TestType>>(1, 1, 4, 2, 18);
    const auto stands = [&](index_t channel) {
      const index_t c = channel - 1, k = form == halves ? c % 8 : c / 2;
      return c < 0 || c >= 16 || k >= 2;
    };
    for (index_t t = 0; t < 4; ++t)
      for (index_t c = 0; c < 18; ++c)
        if (stands(c)) x(0, t, 0, c) = c % 3 == 0 ? TestType(-0.0) : c % 3 == 1 ? infinity : -infinity;
    const auto table = encoder.prepare(at);
    auto y = x, expected = x;
    encoder.rotate(heads(y, time_head), table);
    tensor4<TestType> elsewhere(1, 4, 2, 18);
    elsewhere.setConstant(7);
    encoder.rotate(heads(x, time_head), heads(elsewhere, time_head), table);
    CHECK(bit_difference(elsewhere, y) == "");
    full.rotate(heads(expected, time_head), full.prepare(at));
    for (index_t t = 0; t < 4; ++t)
      for (index_t h = 0; h < 2; ++h)
        for (index_t c = 0; c < 18; ++c) {
          if (stands(c)) CHECK(reference::same_bits(y(0, t, h, c), x(0, t, h, c)));
          else CHECK(y(0, t, h, c) == expected(0, t, h, c));
        }
    // A factor other than 1 multiplies them as it does the others.
    const rope<TestType> larger({.pairing = form, .dim = 16, .attention_factor = 2},
                                {.schedule = schedule::proportional{.fraction = 0.25}});
    auto twice = random_tensor<tensor4<TestType>>(1, 1, 4, 2, 16);
    const auto once = twice;
    larger.rotate(heads(twice, time_head), at);
    CHECK(twice(0, 1, 0, 7) == 2 * once(0, 1, 0, 7));
  }
}

// DeepSeek-V4 has keys that are values too: what attention makes of turned values is turned back by the query's position.
TEST_CASE("values turned with the keys, and outputs turned back, depend on distances alone", "[rope][rotary_descriptor]") {
  const rope<double> encoder({.pairing = interleaved, .dim = 8, .offset = trailing});
  const auto v = random_tensor<tensor4<double>>(1, 1, 5, 1, 12);
  const auto output = [&](position first) {
    const auto tables = prepare(encoder, {.queries = positions::range(1, first + 4), .keys = positions::range(5, first)});
    auto turned = v;
    encoder.rotate(heads(turned, time_head), operand::key, tables);
    tensor4<double> y(1, 1, 1, 12);
    y.setZero();
    for (index_t j = 0; j < 5; ++j)
      for (index_t c = 0; c < 12; ++c) y(0, 0, 0, c) += turned(0, j, 0, c) / static_cast<double>(j + 2);
    encoder.inverse(heads(y, time_head), operand::query, tables);
    return y;
  };
  CHECK(difference(output(0), output(1000), 1e-14) == "");
}

TEST_CASE("a descriptor whose members do not fit is refused", "[rope][rotary_descriptor][errors]") {
  const auto refused = [](const std::string& text, const rotary_descriptor& form) {
    reference::refuses("[rope] " + text, [&] { rope<float>{form}; });
  };
  refused("first_head must not be negative but got -2", {.pairing = halves, .dim = 4, .first_head = -2});
  refused("head_count must not be negative but got -1", {.pairing = halves, .dim = 4, .head_count = -1});
  refused("trailing heads need a head_count but got 0", {.pairing = halves, .dim = 4, .first_head = trailing});
  refused("each block must have an even number of channels but got 12 and 4", {.pairing = halves, .dim = 12, .blocks = 4});
  refused("each block must have an even number of channels but got 12 and 0", {.pairing = halves, .dim = 12, .blocks = 0});
  refused("interleaved_to_halves must be of one block but got 2", {.pairing = both, .dim = 8, .blocks = 2});
  refused("dim must be at most 2048 for interleaved_to_halves but got 2050", {.pairing = both, .dim = 2050});
  CHECK_NOTHROW(rope<float>({.pairing = both, .dim = 2048}));

  tensor4<float> x(1, 4, 2, 6);
  x.setZero();
  const auto refused_by_x = [&](const std::string& text, const rotary_descriptor& form) {
    std::vector<float> memory(x.data(), x.data() + x.size());
    reference::refuses(memory, "[rope] " + text,
                       [&] { rope<float>(form).rotate(heads(tensor_view<float, 4>(memory.data(), {1, 4, 2, 6}), time_head), at); });
  };
  refused_by_x("first_head + head_count must not exceed the heads but got 2 and 1 and 2",
               {.pairing = halves, .dim = 4, .first_head = 1, .head_count = 2});
  refused_by_x("first_head + head_count must not exceed the heads but got 2 and -1 and 3",
               {.pairing = halves, .dim = 4, .first_head = trailing, .head_count = 3});
  refused_by_x("first_head + head_count must not exceed the heads but got 2 and 3 and -1", {.pairing = halves, .dim = 4, .first_head = 3});
  refused_by_x("offset + dim must not exceed the channels but got 6 and -1 and 8", {.pairing = halves, .dim = 8, .offset = trailing});
  reference::refuses("[rope] the positions must have as many axes as the encoder but got 1 and 2",
                     [] { rope<float>({.pairing = halves, .dim = 4}).prepare(positions::multi_axis(std::array{1, 2}, 2)); });
  reference::refuses("[rope] both encoders must turn the same channels but got 4 and 6", [&] {
    rope<float>({.pairing = halves, .dim = 4}).rerotate(heads(x, time_head), at, rope<float>({.pairing = halves, .dim = 6}));
  });
  reference::refuses("[rope] cached keys need frequencies of one length: fix it by at_length", [&] {
    rope<float>({.pairing = halves, .dim = 4}, {.schedule = schedule::dynamic_ntk{.factor = 2, .original_length = 8}})
        .shift(heads(x, time_head), 1);
  });
}
