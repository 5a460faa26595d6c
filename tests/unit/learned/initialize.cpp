// SPDX-License-Identifier: MIT
#include <posenc/learned/initialize.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numbers>
#include <span>
#include <vector>

using namespace posenc;
using Catch::Matchers::WithinAbs;
using reference::refuses;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity(), not_a_number = std::numeric_limits<double>::quiet_NaN();

template <class S = double>
std::vector<S> drawn(std::size_t count, std::uint64_t seed, auto&& fill) {
  random_source random(seed);
  std::vector<S> values(count);
  fill(values, random);
  return values;
}

double mean_of(const std::vector<double>& values, auto&& of) {
  double sum = 0;
  for (const double value : values) sum += of(value);
  return sum / static_cast<double>(values.size());
}
double itself(double x) { return x; }

// The standard normal density and distribution.
double density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); }
double below(double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }

}  // namespace

TEST_CASE("the numbers are the same everywhere", "[learned][initialize]") {
  // The algorithm in exact fractions, rounded where a double is, in another language.
  const auto normal = drawn(8, 7, [](auto& values, auto& random) { initialize::normal(values, random, {.standard_deviation = 1}); });
  CHECK(normal == std::vector{-0x1.55f251b9dfb32p-5, -0x1.76f2c1b55a3bdp-3, 0x1.c0c22ddaaa164p-1, 0x1.73734ae2dd2ecp-3,
                              -0x1.3955bfb12ef16p-2, -0x1.9cb7292d1fd32p+0, -0x1.80a51b08c55fep-2, -0x1.01f06fc336c81p+1});
  const auto moved =
      drawn(3, 7, [](auto& values, auto& random) { initialize::normal(values, random, {.mean = 0.5, .standard_deviation = 0.02}); });
  CHECK(moved == std::vector{0x1.ff252779c67b1p-2, 0x1.fc4021e7257f6p-2, 0x1.08f9a4c1d033ap-1});
  const auto uniform = drawn(3, 7, [](auto& values, auto& random) { initialize::uniform(values, random); });
  CHECK(uniform == std::vector{0x1.8f2f879164c82p-2, 0x1.130f35fd0f180p-6, 0x1.cd30810175625p-1});
  const auto xavier =
      drawn(15, 7, [](auto& values, auto& random) { initialize::xavier_uniform(values, random, {.rows = 3, .channels = 5}); });
  CHECK(xavier[0] == -0x1.86cce260c7916p-3);
  CHECK(xavier[1] == -0x1.ac8458bd0958fp-1);
  CHECK(xavier[2] == 0x1.636609a36a08dp-1);
}

TEST_CASE("normal numbers are right to 50 bits", "[learned][initialize]") {
  const auto normal = drawn(6, 7, [](auto& values, auto& random) { initialize::normal(values, random, {.standard_deviation = 1}); });
  const std::array truth{-0.04174152338145237016661698, -0.1830802091092476968394176, 0.8764814690994566992470618,
                         0.1813722467883488523470232,   -0.3059911682027956650150149, -1.612169812695196535567261};  // with 40 digits
  for (std::size_t n = 0; n < truth.size(); ++n) CHECK_THAT(normal[n], WithinAbs(truth[n], 1e-15 * std::abs(truth[n])));
}

TEST_CASE("normal numbers have the moments of the normal distribution", "[learned][initialize]") {
  const auto normal =
      drawn(40000, 1, [](auto& values, auto& random) { initialize::normal(values, random, {.mean = 3, .standard_deviation = 0.5}); });
  const auto power = [](int n) { return [n](double x) { return std::pow((x - 3) / 0.5, n); }; };
  CHECK_THAT(mean_of(normal, power(1)), WithinAbs(0, 0.02));  // four standard deviations and more
  CHECK_THAT(mean_of(normal, power(2)), WithinAbs(1, 0.03));
  CHECK_THAT(mean_of(normal, power(3)), WithinAbs(0, 0.08));
  CHECK_THAT(mean_of(normal, power(4)), WithinAbs(3, 0.2));
  for (const double x : {-2.0, -1.0, 0.5, 2.5})
    CHECK_THAT(mean_of(normal, [x](double value) { return (value - 3) / 0.5 <= x ? 1.0 : 0.0; }), WithinAbs(below(x), 0.01));
  double product = 0;  // neighbours, two of a pair among them, have nothing to do with each other
  for (std::size_t n = 1; n < normal.size(); ++n) product += (normal[n] - 3) * (normal[n - 1] - 3) / 0.25;
  CHECK_THAT(product / 40000, WithinAbs(0, 0.02));
  CHECK(drawn(3, 1, [](auto& values, auto& random) { initialize::normal(values, random, {.mean = 3, .standard_deviation = 0}); }) ==
        std::vector<double>{3, 3, 3});
}

TEST_CASE("truncated normal numbers have the moments of what is left between the bounds", "[learned][initialize]") {
  struct bounds {
    double low, high;
  };
  // Wide and narrow, around the mean and beside it.
  for (const auto& cut_at : {bounds{-2, 2}, bounds{-0.5, 1}, bounds{1.5, 9}, bounds{-3.5, -1.75}, bounds{2, 2.5}}) {
    const double low = cut_at.low, high = cut_at.high;  // clang 14 captures no structured bindings
    INFO(low << " to " << high);
    const double mean = 10, deviation = 3;
    auto cut = drawn(20000, 2, [&](auto& values, auto& random) {
      initialize::truncated_normal(
          values, random, {.mean = mean, .standard_deviation = deviation, .low = mean + deviation * low, .high = mean + deviation * high});
    });
    const auto [least, most] = std::ranges::minmax(cut);
    CHECK(least >= mean + deviation * low);
    CHECK(most <= mean + deviation * high);
    for (double& value : cut) value = (value - mean) / deviation;
    const double mass = below(high) - below(low), expected = (density(low) - density(high)) / mass;
    CHECK_THAT(mean_of(cut, itself), WithinAbs(expected, 0.03));
    CHECK_THAT(mean_of(cut, [](double x) { return x * x; }), WithinAbs(1 + (low * density(low) - high * density(high)) / mass, 0.07));
    const double middle = (low + std::min(high, 3.0)) / 2;
    CHECK_THAT(mean_of(cut, [&](double x) { return x < middle ? 1.0 : 0.0; }), WithinAbs((below(middle) - below(low)) / mass, 0.02));
  }
}

TEST_CASE("the bounds of truncated normal numbers are absolute", "[learned][initialize]") {
  const auto all = drawn(1000, 3, [](auto& values, auto& random) { initialize::normal(values, random, {.standard_deviation = 0.02}); });
  CHECK(drawn(1000, 3, [](auto& values, auto& random) { initialize::truncated_normal(values, random, {.standard_deviation = 0.02}); }) ==
        all);
  const auto cut =
      drawn(1000, 3, [](auto& values, auto& random) { initialize::truncated_normal(values, random, {.standard_deviation = 4}); });
  CHECK(std::ranges::max(cut, {}, [](double x) { return std::abs(x); }) <= 2);
}

TEST_CASE("uniform numbers lie in the half-open range", "[learned][initialize]") {
  const auto values = drawn(20000, 4, [](auto& all, auto& random) { initialize::uniform(all, random, {.low = -1, .high = 5}); });
  const auto [least, most] = std::ranges::minmax(values);
  CHECK((least >= -1 && least < -0.99));
  CHECK((most < 5 && most > 4.99));
  CHECK_THAT(mean_of(values, itself), WithinAbs(2, 0.06));
  CHECK_THAT(mean_of(values, [](double x) { return (x - 2) * (x - 2); }), WithinAbs(3, 0.1));

  // Four floats lie in this range: rounding alone would reach the fifth.
  const auto coarse =
      drawn<float>(1000, 5, [](auto& all, auto& random) { initialize::uniform(all, random, {.low = 1, .high = 1 + 4 * 0x1p-23}); });
  CHECK(std::ranges::max(coarse) == 1 + 3 * 0x1p-23f);
  CHECK(std::ranges::min(coarse) == 1);
}

TEST_CASE("Xavier's bound comes from rows and channels", "[learned][initialize]") {
  const auto values =
      drawn(6000, 6, [](auto& all, auto& random) { initialize::xavier_uniform(all, random, {.rows = 20, .channels = 300, .gain = 2}); });
  const double bound = 2 * std::sqrt(6.0 / 320);
  const auto [least, most] = std::ranges::minmax(values);
  CHECK((least >= -bound && least < -0.99 * bound));
  CHECK((most <= bound && most > 0.99 * bound));
  CHECK_THAT(mean_of(values, [](double x) { return x * x; }), WithinAbs(bound * bound / 3, 0.05 * bound * bound / 3));
}

TEST_CASE("float numbers are the double ones, rounded", "[learned][initialize]") {
  const auto check = [](auto&& fill) {
    const auto in_double = drawn<double>(101, 8, fill);
    CHECK(drawn<float>(101, 8, fill) == std::vector<float>(in_double.begin(), in_double.end()));
  };
  check([](auto& values, auto& random) { initialize::normal(values, random, {.mean = 1, .standard_deviation = 0.5}); });
  check([](auto& values, auto& random) { initialize::truncated_normal(values, random, {.standard_deviation = 1}); });
  check([](auto& values, auto& random) { initialize::uniform(values, random); });

  random_source random(9);
  std::vector<float> memory(4, 1);
  initialize::zeros(std::span(memory).first(2));  // a temporary span is enough
  CHECK(memory == std::vector<float>{0, 0, 1, 1});
  initialize::uniform(std::span(memory).subspan(1, 2), random, {.low = 5, .high = 6});
  CHECK((memory[0] == 0 && memory[1] >= 5 && memory[2] >= 5 && memory[3] == 1));
}

TEST_CASE("what no distribution has is refused", "[learned][initialize]") {
  std::array<float, 6> values{1, 2, 3, 4, 5, 6};
  const auto before = values;
  random_source random(10);
  using namespace initialize;
  const auto normal_refused = [&](const std::string& text, double mean, double deviation) {
    refuses(values, "[normal] " + text, [&] { normal(values, random, {.mean = mean, .standard_deviation = deviation}); });
    refuses(values, "[truncated_normal] " + text,
            [&] { truncated_normal(values, random, {.mean = mean, .standard_deviation = deviation}); });
  };
  normal_refused("mean must be finite but got inf", infinity, 1);
  normal_refused("standard_deviation must be finite and not negative but got -1", 0, -1);
  normal_refused("standard_deviation must be finite and not negative but got nan", 0, not_a_number);
  const auto cut_refused = [&](const std::string& text, double deviation, double low, double high) {
    refuses(values, "[truncated_normal] " + text,
            [&] { truncated_normal(values, random, {.standard_deviation = deviation, .low = low, .high = high}); });
  };
  cut_refused("standard_deviation must be positive but got 0", 0, -2, 2);
  cut_refused("low must be less than high, at a finite distance but got 2 and 2", 1, 2, 2);
  cut_refused("low must be less than high, at a finite distance but got -inf and 2", 1, -infinity, 2);
  cut_refused("mean must lie at most two deviations outside of [low, high] but got 0 and 2.5 and 5", 1, 2.5, 5);
  cut_refused("mean must lie at most two deviations outside of [low, high] but got 0 and -5 and -2.5", 1, -5, -2.5);
  refuses(values, "[uniform] low must be less than high, at a finite distance but got 1 and 0",
          [&] { uniform(values, random, {.low = 1, .high = 0}); });
  refuses(values, "[uniform] low must be less than high, at a finite distance but got 1 and nan",
          [&] { uniform(values, random, {.low = 1, .high = not_a_number}); });
  refuses(values, "[uniform] low must be less than high, at a finite distance but got 1 and 1",  // in float
          [&] { uniform(values, random, {.low = 1, .high = 1 + 1e-12}); });
  refuses(values, "[xavier_uniform] values must be rows * channels but got 6 and 2 and 4",
          [&] { xavier_uniform(values, random, {.rows = 2, .channels = 4}); });
  refuses(values, "[xavier_uniform] extents must not be negative but got [-2, -3]",
          [&] { xavier_uniform(values, random, {.rows = -2, .channels = -3}); });
  refuses(values, "[xavier_uniform] gain must be positive and finite but got 0",
          [&] { xavier_uniform(values, random, {.rows = 2, .channels = 3, .gain = 0}); });
  CHECK(values == before);
}
