// SPDX-License-Identifier: MIT
#include <posenc/fourier/fope_spectrum.hpp>

#include "catch.hpp"
#include "reference/fope.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

namespace {

using namespace posenc;

std::vector<double> radians(index_t dim, const fope_spectrum& of) {
  std::vector<double> all;
  for (const double_double theta : fope_series("test", dim, of).radians) all.push_back(theta.high);
  return all;
}

/// theta_k, by a rule for each.
std::vector<double> expected(index_t width, double base, const std::function<double(double)>& rule) {
  std::vector<double> all;
  for (index_t k = 0; k < width / 2; ++k) all.push_back(rule(std::pow(base, -2 * static_cast<double>(k) / static_cast<double>(width))));
  return all;
}

bool near(const std::vector<double>& a, const std::vector<double>& b) {
  bool all = a.size() == b.size();
  for (std::size_t n = 0; all && n < a.size(); ++n) all = std::abs(a[n] - b[n]) <= 4e-16 * std::abs(b[n]);
  return all;
}

constexpr double pi = std::numbers::pi;

}  // namespace

TEST_CASE("fope keeps the waves that training saw whole", "[fope_spectrum]") {
  for (const index_t dim : {2, 16, 64, 128})
    for (const double base : {100.0, 10000.0, 5e6})
      for (const index_t length : {7, 64, 512, 262144}) {
        std::vector<double> kept;
        for (const long double theta : reference::whole_waves(dim, base, static_cast<long double>(length)))
          kept.push_back(static_cast<double>(theta));
        CHECK(near(radians(dim, {.base = base, .max_sequence_length = length}), kept));
      }
  // 10000^(-2k / 16) is 1, 0.316, 0.1, 0.0316, ...; 2 pi / 128 is 0.049.
  CHECK(near(radians(16, {.max_sequence_length = 128}), {1, std::sqrt(0.1), 0.1}));
}

TEST_CASE("fope clamps to zero, to the bound, or not", "[fope_spectrum]") {
  const double floor = 2 * pi / 100 * 0.5, upper = pi * 0.15;
  const auto with = [&](fope_clamp low, fope_clamp high, bool ignore) {
    return radians(
        32, {.max_sequence_length = 100, .floor = low, .floor_ratio = 0.5, .upper = high, .upper_ratio = 0.15, .ignore_zero = ignore});
  };
  const double same = std::nan("");
  const auto rule = [&](double low, double high) {
    return expected(32, 10000, [=](double theta) {
      const double changed = theta < floor ? low : theta > upper ? high : theta;
      return std::isnan(changed) ? theta : changed;
    });
  };
  using enum fope_clamp;
  CHECK(near(with(to_zero, to_zero, false), rule(0, 0)));
  CHECK(near(with(to_bound, to_bound, false), rule(floor, upper)));
  CHECK(near(with(to_zero, to_bound, false), rule(0, upper)));
  CHECK(near(with(to_bound, to_zero, false), rule(floor, 0)));
  CHECK(near(with(none, none, false), rule(same, same)));
  CHECK(near(with(none, to_zero, false), rule(same, 0)));
  CHECK(near(with(to_zero, none, false), rule(0, same)));
  auto without_zeros = rule(0, 0);
  std::erase(without_zeros, 0);
  REQUIRE(without_zeros.size() == 5);
  CHECK(near(with(to_zero, to_zero, true), without_zeros));
}

TEST_CASE("fope rounds frequencies to multiples of the longest wave", "[fope_spectrum]") {
  const double wave = 2 * pi / 300;
  const auto with = [&](fope_multiples rule, fope_clamp low = fope_clamp::to_zero) {
    return radians(16, {.max_sequence_length = 300, .floor = low, .floor_ratio = 2, .multiples = rule, .ignore_zero = false});
  };
  const auto of = [&](double low, auto&& round) {
    return expected(16, 10000, [&](double theta) { return wave * round(theta < 2 * wave ? low : theta / wave); });
  };
  CHECK(near(with(fope_multiples::ceil), of(0, [](double ratio) { return std::ceil(ratio); })));
  CHECK(near(with(fope_multiples::floor), of(0, [](double ratio) { return std::floor(ratio); })));
  CHECK(near(with(fope_multiples::half), of(0, [](double ratio) { return ratio == 0 ? 0 : std::floor(ratio) + 0.5; })));
  // A bound that is a multiple is its own ceiling.
  CHECK(near(with(fope_multiples::ceil, fope_clamp::to_bound), of(2, [](double ratio) { return std::ceil(ratio); })));
  // Below the longest wave, floor leaves nothing and half half of it.
  CHECK(radians(16, {.max_sequence_length = 10, .floor = fope_clamp::none, .multiples = fope_multiples::floor}).size() == 1);
  CHECK(near({radians(16, {.max_sequence_length = 10, .floor = fope_clamp::none, .multiples = fope_multiples::half}).back()}, {pi / 10}));
}

TEST_CASE("fope mixes more waves than there are pairs", "[fope_spectrum]") {
  CHECK(near(radians(8, {.max_sequence_length = 100, .fourier_dim = 64, .floor = fope_clamp::none}),
             expected(64, 10000, [](double theta) { return theta; })));
  CHECK(radians(8, {.max_sequence_length = 100, .fourier_dim = 8}) == radians(8, {.max_sequence_length = 100}));
}

TEST_CASE("fope lengthens waves before the clamps or after them", "[fope_spectrum]") {
  const auto with = [](fope_extension order, frequency_schedule schedule) {
    return radians(32, {.max_sequence_length = 200, .ignore_zero = false, .schedule = schedule, .extension = order});
  };
  const double floor = 2 * pi / 200;
  const auto before = with(fope_extension::before_clamp, schedule::linear{4}),
             after = with(fope_extension::after_clamp, schedule::linear{4});
  CHECK(near(before, expected(32, 10000, [&](double theta) { return theta / 4 < floor ? 0 : theta / 4; })));
  CHECK(near(after, expected(32, 10000, [&](double theta) { return theta < floor ? 0 : theta / 4; })));
  CHECK(before != after);

  // What is bound to the floor is lengthened by as much as its own pair.
  const schedule::yarn yarn{.factor = 4, .original_length = 200};
  const auto plain = plain_series("test", 32, 10000), lengthened = yarn("test", 32, 10000, 0).radians;
  const auto bound = radians(32, {.max_sequence_length = 200, .floor = fope_clamp::to_bound, .schedule = yarn});
  for (std::size_t k = 0; k < 16; ++k) {
    const double share = lengthened[k].high / plain[k].high;
    CHECK(std::abs(bound[k] - std::max(plain[k].high, floor) * share) <= 1e-15 * bound[k]);
  }
  CHECK(fope_series("test", 32, {.max_sequence_length = 200, .schedule = yarn}).attention_factor ==
        yarn("test", 32, 10000, 0).attention_factor);
  CHECK(yarn("test", 32, 10000, 0).attention_factor > 1.1);
}

TEST_CASE("frequencies that no rule changes are those of rope, bit for bit", "[fope_spectrum]") {
  const auto plain = plain_series("test", 64, 10000);
  for (const auto order : {fope_extension::before_clamp, fope_extension::after_clamp}) {
    const auto kept = fope_series("test", 64, {.max_sequence_length = 1 << 20, .extension = order}).radians;
    REQUIRE(kept.size() == 64 / 2);
    for (std::size_t k = 0; k < kept.size(); ++k) CHECK((kept[k].high == plain[k].high && kept[k].low == plain[k].low));
  }
}

TEST_CASE("fope refuses spectra that make no sense", "[fope_spectrum][errors]") {
  const auto refused = [](const std::string& text, const fope_spectrum& of, index_t dim = 16) {
    reference::refuses("[test] " + text, [&] { fope_series("test", dim, of); });
  };
  const double infinite = std::numeric_limits<double>::infinity();
  refused("dim must be positive and even but got 7", {.max_sequence_length = 100}, 7);
  refused("dim must be positive and even but got 0", {.max_sequence_length = 100}, 0);
  refused("fourier_dim must be 0, or even and at least dim but got 14 and 16", {.max_sequence_length = 100, .fourier_dim = 14});
  refused("fourier_dim must be 0, or even and at least dim but got 17 and 16", {.max_sequence_length = 100, .fourier_dim = 17});
  refused("fourier_dim must be 0, or even and at least dim but got -2 and 16", {.max_sequence_length = 100, .fourier_dim = -2});
  refused("max_sequence_length must be positive but got 0", {.max_sequence_length = 0});
  refused("floor_ratio must be positive and finite but got 0", {.max_sequence_length = 100, .floor_ratio = 0});
  refused("floor_ratio must be positive and finite but got inf", {.max_sequence_length = 100, .floor_ratio = infinite});
  refused("upper_ratio must be positive and finite but got -1", {.max_sequence_length = 100, .upper_ratio = -1});
  refused("upper_ratio must be positive and finite but got inf", {.max_sequence_length = 100, .upper_ratio = infinite});
  refused("the upper bound must not lie below the floor but got 0.5 and 1",
          {.max_sequence_length = 100, .upper = fope_clamp::to_zero, .upper_ratio = 0.01});
  refused("the schedule must not depend on the length",
          {.max_sequence_length = 100, .schedule = schedule::dynamic_ntk{.factor = 2, .original_length = 100}});
  refused("factor must be finite and at least 1 but got 0.5", {.max_sequence_length = 100, .schedule = schedule::linear{0.5}});
  refused("base must be positive and finite but got 0", {.base = 0, .max_sequence_length = 100});
  refused("a frequency must be left by the clamps but got 8", {.max_sequence_length = 6});
  refused("a frequency must be left by the clamps but got 8", {.max_sequence_length = 6, .ignore_zero = false});
  CHECK(radians(16, {.max_sequence_length = 7}).size() == 1);
  CHECK(
      radians(16, {.max_sequence_length = 100, .schedule = schedule::dynamic_ntk{.factor = 2, .original_length = 50, .fixed_length = 100}})
          .size() == 3);
}
