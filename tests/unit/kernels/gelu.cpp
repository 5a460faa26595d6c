// SPDX-License-Identifier: MIT
#include <posenc/kernels/gelu.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/gelu.hpp"
#include "reference/stored.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using reference::compute;
using reference::loaded;

template <class S>
std::vector<S> gelu_of(const std::vector<S>& x) {
  std::vector<S> y(x.size());
  posenc::kernels::gelu<S>(
      {.in = x.data(), .out = y.data(), .rows = 1, .channels = static_cast<index_t>(x.size()), .in_row = 0, .out_row = 0});
  return y;
}
template <class S>
std::vector<S> slope_of(const std::vector<S>& x) {
  std::vector<S> d(x.size(), S(1));
  posenc::kernels::gelu_gradient<S>({.in = x.data(),
                                     .d_out = d.data(),
                                     .d_in = d.data(),
                                     .rows = 1,
                                     .channels = static_cast<index_t>(x.size()),
                                     .in_row = 0,
                                     .d_out_row = 0,
                                     .d_in_row = 0});
  return d;
}

/// The last place of a number; that of subnormal ones is the smallest number.
template <class S>
long double unit(long double of) {
  using limits = std::numeric_limits<S>;
  constexpr int least = limits::min_exponent - limits::digits;
  return std::ldexp(1.0L, of != 0 ? std::max(std::ilogb(of) - limits::digits + 1, least) : least);
}
template <class S>
struct errors {
  double gelu = 0, slope = 0;
};
/// The largest, in units in the last place; of the slope in those of the magnitudes that it is the sum of.
template <class S>
errors<S> largest_errors(const std::vector<S>& x) {
  const auto y = gelu_of(x), slope = slope_of(x);
  errors<S> largest;
  for (std::size_t n = 0; n < x.size(); ++n) {
    const auto z = static_cast<long double>(x[n]);
    const long double exact = reference::gelu(z), exact_slope = reference::gelu_slope(z);
    const long double magnitude = reference::normal_distribution(z) + std::abs(z) * reference::normal_density(z);
    largest.gelu = std::max(largest.gelu, static_cast<double>(std::abs(static_cast<long double>(y[n]) - exact) / unit<S>(exact)));
    largest.slope =
        std::max(largest.slope, static_cast<double>(std::abs(static_cast<long double>(slope[n]) - exact_slope) / unit<S>(magnitude)));
  }
  return largest;
}
template <class S>
void check_errors(const std::vector<S>& x, double bound) {
  const auto most = largest_errors(x);
  CAPTURE(most.gelu, most.slope);
  CHECK(most.gelu <= bound);
  CHECK(most.slope <= bound);
}

}  // namespace

TEST_CASE("gelu and its slope are within a few units in the last place", "[kernels][gelu][long_double]") {
  std::vector<float> all, middle;  // every 9001st float
  for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32; bits += 9001)
    if (const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(bits)); std::isfinite(x)) all.push_back(x);
  for (float x = -15; x < 7; x += 0x1p-12f) middle.push_back(x);
  random_numbers random(5);
  std::vector<double> doubles;
  for (int n = 0; n < 20000; ++n)
    for (const double range : {1e-300, 1e-8, 1e-3, 1.0, 10.0, 40.0, 1e300}) doubles.push_back(range * random.real<double>());
  check_errors(all, 5);
  check_errors(middle, 5);
  check_errors(doubles, 9);
}

TEMPLATE_TEST_CASE("gelu of infinities, zeros, subnormals and not-a-number", "[kernels][gelu]", float, double) {
  using limits = std::numeric_limits<TestType>;
  constexpr TestType infinity = limits::infinity(), least = limits::denorm_min();
  at_every_instruction_set([&] {
    for (const std::size_t copies : {std::size_t{1}, std::size_t{70}}) {  // in a tail, and in full vectors
      const auto of = [&](TestType x) { return gelu_of(std::vector<TestType>(copies, x)).front(); };
      const auto slope = [&](TestType x) { return slope_of(std::vector<TestType>(copies, x)).front(); };
      CHECK(of(infinity) == infinity);
      CHECK(of(-infinity) == 0);
      CHECK(of(limits::max()) == limits::max());
      CHECK(of(-limits::max()) == 0);
      CHECK(std::isnan(of(limits::quiet_NaN())));
      CHECK(std::isnan(of(-limits::quiet_NaN())));
      CHECK(slope(infinity) == 1);
      CHECK(slope(-infinity) == 0);
      CHECK(slope(limits::max()) == 1);
      CHECK(slope(-limits::max()) == 0);
      CHECK(std::isnan(slope(limits::quiet_NaN())));
      for (const TestType zero : {TestType(0), -TestType(0)}) {
        CHECK(reference::same_bits(of(zero), zero));
        CHECK(std::abs(slope(zero) - TestType(0.5)) <= limits::epsilon());
      }
      CHECK(of(4 * least) == 2 * least);
      CHECK(of(-4 * least) == -2 * least);
      CHECK(of(sizeof(TestType) == 4 ? TestType(-14.1) : TestType(-38.5)) < 0);  // subnormal
    }
  });
}

TEMPLATE_TEST_CASE("the gelu kernels write every channel of strided rows, and nothing else", "[kernels][gelu]", float, double, bfloat16,
                   float16) {
  using S = compute<TestType>;
  constexpr index_t rows = 2, gap = 3;
  for (index_t channels = 0; channels <= 70; ++channels) {
    const index_t row = channels + gap;
    const auto in = reference::random_stored<TestType>(1, rows * row), other = reference::random_stored<TestType>(2, rows * row);
    std::vector<TestType> first, first_d;
    at_every_instruction_set([&] {
      auto y = other, d = other, summed = other, in_place = in;
      posenc::kernels::gelu<TestType>(
          {.in = in.data(), .out = y.data(), .rows = rows, .channels = channels, .in_row = row, .out_row = row});
      posenc::kernels::gelu<TestType>(
          {.in = in_place.data(), .out = in_place.data(), .rows = rows, .channels = channels, .in_row = row, .out_row = row});
      posenc::kernels::gelu<TestType>({.in = in.data(),
                                       .out = summed.data(),
                                       .rows = rows,
                                       .channels = channels,
                                       .in_row = row,
                                       .out_row = row,
                                       .residual = summed.data(),
                                       .residual_row = row});
      posenc::kernels::gelu_gradient<TestType>({.in = in.data(),
                                                .d_out = d.data(),
                                                .d_in = d.data(),
                                                .rows = rows,
                                                .channels = channels,
                                                .in_row = row,
                                                .d_out_row = row,
                                                .d_in_row = row});
      index_t wrong = 0;
      for (std::size_t n = 0; n < in.size(); ++n) {
        const auto given = static_cast<double>(loaded(other[n]));
        if (static_cast<index_t>(n) % row >= channels) {
          for (const auto* all : {&y, &d, &summed}) wrong += !reference::same_bits((*all)[n], other[n]);
          wrong += !reference::same_bits(in_place[n], in[n]);
          continue;
        }
        const auto x = static_cast<long double>(loaded(in[n]));
        const auto close = [&](TestType got, long double exact, double terms) {
          constexpr double last = sizeof(TestType) > 2 ? 0 : std::is_same_v<TestType, bfloat16> ? 0x1p-8 : 0x1p-11;
          const auto off = std::abs(static_cast<double>(static_cast<long double>(loaded(got)) - exact));
          return off <=
                 1.01 * last * std::abs(static_cast<double>(exact)) + 5 * terms * std::numeric_limits<S>::epsilon() + 0x1p-25 * (last > 0);
        };
        wrong += !close(y[n], reference::gelu(x), std::abs(static_cast<double>(x)));
        wrong += !reference::same_bits(in_place[n], y[n]);
        wrong +=
            !close(summed[n], reference::gelu(x) + static_cast<long double>(given), std::abs(static_cast<double>(x)) + std::abs(given));
        wrong += !close(d[n], reference::gelu_slope(x) * static_cast<long double>(given), std::abs(given));
      }
      CAPTURE(channels);
      CHECK(wrong == 0);
      if (first.empty()) first = summed, first_d = d;
      CHECK((first.empty() || std::memcmp(first.data(), summed.data(), first.size() * sizeof(TestType)) == 0));
      CHECK((first_d.empty() || std::memcmp(first_d.data(), d.data(), first_d.size() * sizeof(TestType)) == 0));
    });
  }
}

TEMPLATE_TEST_CASE("the gelu kernels take what is wider than the result", "[kernels][gelu]", bfloat16, float16) {
  constexpr index_t channels = 37;
  const auto in = random_vector<float>(1, channels);
  const auto residual = reference::random_stored<TestType>(2, channels);
  auto y = residual;
  posenc::kernels::gelu<TestType, float>(
      {.in = in.data(), .out = y.data(), .rows = 1, .channels = channels, .in_row = 0, .out_row = 0, .residual = y.data()});
  const auto alone = gelu_of(in), slope = slope_of(in);
  std::vector<float> d(in.size());
  posenc::kernels::gelu_gradient<TestType, float>({.in = in.data(),
                                                   .d_out = residual.data(),
                                                   .d_in = d.data(),
                                                   .rows = 1,
                                                   .channels = channels,
                                                   .in_row = 0,
                                                   .d_out_row = 0,
                                                   .d_in_row = 0});
  for (std::size_t n = 0; n < in.size(); ++n) {
    CHECK(reference::same_bits(y[n], reference::stored<TestType>(alone[n] + loaded(residual[n]))));
    CHECK(d[n] == slope[n] * loaded(residual[n]));
  }
}
