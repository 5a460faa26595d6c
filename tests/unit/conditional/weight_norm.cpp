// SPDX-License-Identifier: MIT
#include <posenc/conditional/weight_norm.hpp>

#include "catch.hpp"
#include "random.hpp"

#include <cstddef>
#include <vector>

using namespace posenc;

TEST_CASE("each tap is divided by its norm, and has none where it is zero", "[conditional]") {
  const std::vector<double> gain{10, 2, 7}, direction{3, 1, 0, 4, 0, 0};  // [row, tap]
  const detail::weight_norm<double> of(gain, direction, 1, {});
  CHECK(of.norms == std::vector<double>{5, 1, 0});
  CHECK(of.scales() == std::vector<double>{2, 2, 0});
}

TEST_CASE("the gradient of a weight norm equals difference quotients, for any number of groups", "[conditional]") {
  constexpr index_t rows = 6, taps = 3;
  std::vector<double> gain = random_vector<double>(1, taps), direction = random_vector<double>(2, rows * taps);
  const auto d = random_vector<double>(3, rows * taps);
  const auto entry = [](const std::vector<double>& all, index_t r, index_t j) { return all[static_cast<std::size_t>(r * taps + j)]; };
  const auto loss = [&] {
    const auto scales = detail::weight_norm<double>(gain, direction, 1, {}).scales();
    double sum = 0;
    for (index_t r = 0; r < rows; ++r)
      for (index_t j = 0; j < taps; ++j) sum += entry(d, r, j) * entry(direction, r, j) * scales[static_cast<std::size_t>(j)];
    return sum;
  };
  std::vector<double> d_gain(taps, 0.5), d_direction(rows * taps, -0.25);  // added to
  detail::weight_norm<double>(gain, direction, 2, {})
      .gradient([&](index_t r, index_t j) { return entry(d, r, j); }, d_gain, d_direction, {});
  const auto check = [&](std::vector<double>& of, const std::vector<double>& got, double before) {
    constexpr double step = 1e-6;
    for (std::size_t n = 0; n < of.size(); ++n) {
      const double kept = of[n];
      of[n] = kept + step;
      const double above = loss();
      of[n] = kept - step;
      const double below = loss();
      of[n] = kept;
      CHECK(got[n] - before == Approx((above - below) / (2 * step)).epsilon(1e-6).margin(1e-8));
    }
  };
  check(gain, d_gain, 0.5);
  check(direction, d_direction, -0.25);
}
