// SPDX-License-Identifier: MIT
/// \file  Cosines and sines against the correctly rounded truth, at positions from 0 to 2^31 - 1.
#include <posenc/rope.hpp>
#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "golden/tables.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <type_traits>
#include <utility>

namespace {

using namespace posenc;
using golden::absolute, golden::load, golden::npy, golden::table_bound, golden::view;

/// The truth of one folder at its positions, and at the same below zero, where cosines are the same and sines change sign.
struct truth {
  std::string folder;
  index_t dim;
  double base;
  positions at;
  npy<double> cosine, sine;  ///< [time, pair]
};

truth read_truth(int dim, int base) {
  const std::string folder = "precision/sincos_d" + std::to_string(dim) + "_base" + std::to_string(base) + "/";
  const auto with_negative = [](auto array, auto sign) {
    const auto positive = array.values;
    for (const auto value : positive) array.values.push_back(sign * value);
    array.shape[0] *= 2;
    return array;
  };
  return {folder,
          dim,
          static_cast<double>(base),
          positions::ids(view<1>(with_negative(load<std::int64_t>(folder + "positions"), -1))),
          with_negative(load<double>(folder + "cos_f64"), 1),
          with_negative(load<double>(folder + "sin_f64"), -1)};
}

/// Every folder.
truth any_truth() {
  const int dim = GENERATE(64, 128);
  const int base = GENERATE(10000, 500000, 1000000);
  return read_truth(dim, base);
}

TEMPLATE_TEST_CASE("rope's tables keep the error bound at every position", "[golden][precision][rope]", float, double) {
  const truth t = any_truth();
  INFO(t.folder);
  const auto table = rope<TestType>({.pairing = pairing::halves, .dim = t.dim}, {.base = t.base}).prepare(t.at);
  CHECK(absolute(golden::cosines(table), t.cosine) <= table_bound<TestType>);
  CHECK(absolute(golden::sines(table), t.sine) <= table_bound<TestType>);
}

TEST_CASE("an attention factor widens the error bound by no more than the next power of two", "[golden][precision][rope]") {
  const truth t = any_truth();
  INFO(t.folder);
  const auto scaled = [](npy<double> values, double factor) {
    for (double& value : values.values) value *= factor;
    return values;
  };
  for (const auto& [factor, widening] : {std::pair{0.75, 1}, {1.25, 2}, {-3., 4}}) {
    const auto table = rope<float>({.pairing = pairing::halves, .dim = t.dim, .attention_factor = factor}, {.base = t.base}).prepare(t.at);
    CHECK(absolute(golden::cosines(table), scaled(t.cosine, factor)) <= widening * table_bound<float>);
    CHECK(absolute(golden::sines(table), scaled(t.sine, factor)) <= widening * table_bound<float>);
  }
}

TEMPLATE_TEST_CASE("sinusoidal codes keep the error bound at every position", "[golden][precision][sinusoidal]", float, double) {
  const truth t = any_truth();
  const auto order = GENERATE(channel_order::interleaved, channel_order::sin_cos, channel_order::cos_sin);
  INFO(t.folder << " order " << static_cast<int>(order));
  auto expected = npy<double>::filled({t.at.time(), t.dim}, 0);
  for (index_t n = 0; n < t.at.time(); ++n)
    for (index_t channel = 0; channel < t.dim; ++channel) {
      const index_t pairs = t.dim / 2, pair = order == channel_order::interleaved ? channel / 2 : channel % pairs;
      const bool second = order == channel_order::interleaved ? channel % 2 == 1 : channel >= pairs;
      const bool is_cosine = second != (order == channel_order::cos_sin);
      view<2>(expected)(n, channel) = view<2>(is_cosine ? t.cosine : t.sine)(n, pair);
    }
  auto codes = npy<TestType>::filled(expected.shape, 7);
  const sinusoidal<TestType> encoder({.dim = t.dim, .order = order, .exponent_rule = exponent_rule::vaswani{t.base}});
  encoder.encode(t.at, view<2>(codes));
  CHECK(absolute(codes, expected) <= table_bound<TestType>);
}

TEST_CASE("frequencies are the nearest doubles to the truth", "[golden][precision][rope]") {
  const truth t = any_truth();
  INFO(t.folder);
  const rope<double> encoder({.pairing = pairing::halves, .dim = t.dim}, {.base = t.base});
  CHECK(absolute(golden::radians(encoder.inspect().frequencies), load<double>(t.folder + "inv_freq_f64")) <= 0);
}

// Why the library does not do what most systems do. The arrays beside the truth are their recipe: the frequency, its product with the
// position, and the cosine, each rounded to float.
TEST_CASE("angles formed in float are wrong at large positions", "[golden][precision]") {
  const truth t = any_truth();
  INFO(t.folder);
  const auto cosine = load<float>(t.folder + "cos"), sine = load<float>(t.folder + "sin");
  const auto row = [](const auto& array, index_t n) {
    auto one = std::remove_cvref_t<decltype(array)>::filled({array.shape[1]}, 0);
    for (index_t k = 0; k < array.shape[1]; ++k) one.values[static_cast<std::size_t>(k)] = view<2>(array)(n, k);
    return one;
  };
  const std::map<position, double> least_error{{0, 0},           {131071, 1e-3},   {1048575, 2e-2},
                                               {10000000, 0.18}, {16777217, 0.88}, {2147483647, 1.9}};
  for (index_t n = 0; n < cosine.shape[0]; ++n) {
    const double least = std::prev(least_error.upper_bound(t.at(0, n)))->second;
    INFO("position " << t.at(0, n));
    CHECK(std::max(absolute(row(cosine, n), row(t.cosine, n)).worst, absolute(row(sine, n), row(t.sine, n)).worst) >= least);
  }
}

}  // namespace
