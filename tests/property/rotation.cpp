// SPDX-License-Identifier: MIT
/// \file  What makes rope a relative encoding: rotations form a group.
#include <posenc/rope.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

using namespace posenc;

template <class S>
using row4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;

constexpr index_t channels = 32;
// What two rotated rows of numbers below 1 may have lost in a product, or in a square.
template <class S>
constexpr double rounding = channels * (sizeof(S) == 4 ? 4 * 1.9e-7 : 4 * 9e-16);

template <class S>
row4<S> rotated(const rope<S>& encoder, row4<S> x, position p) {
  encoder.rotate(heads(x, axis_order::time_head), positions::range(1, p));
  return x;
}

const auto a_few_positions = [] {
  std::vector<position> all{0, 1, -1, 2, 131'071};
  random_numbers random(1);
  for (int n = 0; n < 40; ++n) all.push_back(random.integer(-2'000'000'000, 2'000'000'000));
  return all;
}();

template <class S>
void for_each_rope(auto&& test) {
  for (const auto pairs : {pairing::halves, pairing::interleaved})
    for (const index_t dim : {2, 20, 32}) test(rope<S>({.pairing = pairs, .dim = dim, .offset = (channels - dim) / 2}));
}

}  // namespace

TEMPLATE_TEST_CASE("rotated products depend on the difference of positions alone", "[property]", float, double) {
  const auto q = random_tensor<row4<TestType>>(2, 1, 1, 1, channels), k = random_tensor<row4<TestType>>(3, 1, 1, 1, channels);
  for_each_rope<TestType>([&](const rope<TestType>& encoder) {
    for (const position distance : {-3, 0, 1, 1000}) {
      const double there = reference::dot(rotated(encoder, q, distance), rotated(encoder, k, 0));
      for (const position p : a_few_positions)
        REQUIRE(std::abs(reference::dot(rotated(encoder, q, p + distance), rotated(encoder, k, p)) - there) < rounding<TestType>);
      if (distance != 0) CHECK(std::abs(there - reference::dot(q, k)) > 1e-4);  // and does depend on it
    }
  });
}

TEMPLATE_TEST_CASE("rotations preserve the norm", "[property]", float, double) {
  const auto x = random_tensor<row4<TestType>>(4, 1, 1, 1, channels);
  for_each_rope<TestType>([&](const rope<TestType>& encoder) {
    for (const position p : a_few_positions) {
      const auto y = rotated(encoder, x, p);
      REQUIRE(std::abs(reference::dot(y, y) - reference::dot(x, x)) < rounding<TestType>);
    }
  });
}

TEMPLATE_TEST_CASE("rotating by p, then back, is nothing, and by p, then by d, is rotating by p + d", "[property]", float, double) {
  const auto x = random_tensor<row4<TestType>>(5, 1, 1, 1, channels);
  for_each_rope<TestType>([&](const rope<TestType>& encoder) {
    for (const position p : a_few_positions) {
      auto back = rotated(encoder, x, p);
      encoder.inverse(heads(back, axis_order::time_head), encoder.prepare(positions::range(1, p)));
      REQUIRE(reference::difference(back, x, rounding<TestType>) == "");
      REQUIRE(reference::difference(rotated(encoder, rotated(encoder, x, p), -p), x, rounding<TestType>) == "");
      for (const position d : {1, -77, 1'000'000})
        REQUIRE(reference::difference(rotated(encoder, rotated(encoder, x, p), d), rotated(encoder, x, p + d), rounding<TestType>) == "");
    }
  });
}

TEST_CASE("both pairings turn the same pairs", "[property]") {
  // Moving channel 2k to k and 2k + 1 to k + dim / 2 turns one into the other, bit for bit.
  const auto x = random_tensor<row4<float>>(6, 1, 1, 1, channels);
  const auto to_halves = [](const row4<float>& from) {
    row4<float> y(1, 1, 1, channels);
    for (index_t c = 0; c < channels; ++c) y(0, 0, 0, c / 2 + c % 2 * channels / 2) = from(0, 0, 0, c);
    return y;
  };
  const rope<float> halves({.pairing = pairing::halves, .dim = channels}), interleaved({.pairing = pairing::interleaved, .dim = channels});
  for (const position p : a_few_positions)
    CHECK(reference::bit_difference(rotated(halves, to_halves(x), p), to_halves(rotated(interleaved, x, p))) == "");
}
