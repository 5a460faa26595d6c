// SPDX-License-Identifier: MIT
#include <posenc/layer_norm.hpp>

#include "catch.hpp"

#include <cmath>
#include <cstddef>
#include <vector>

using namespace posenc;

TEST_CASE("a normalized row has the mean 0 and the deviation 1, but for epsilon", "[layer_norm]") {
  std::vector<float> row{1, 2, 3, 6};
  const auto [mean, scale] = detail::moments_of(row.data(), 4);
  CHECK(mean == 3);
  CHECK(scale == Approx(1 / std::sqrt(3.5 + 1e-5)).epsilon(1e-15));
  CHECK(detail::normalize(row.data(), 4) == scale);
  CHECK(row == std::vector<float>{static_cast<float>(-2 * scale), static_cast<float>(-scale), 0, static_cast<float>(3 * scale)});
  std::vector<double> constant(3, 8.0);
  CHECK(detail::normalize(constant.data(), 3) == Approx(1 / std::sqrt(1e-5)));
  CHECK(constant == std::vector<double>(3, 0.0));
}

TEST_CASE("the gradient of a normalized row equals difference quotients", "[layer_norm]") {
  const std::vector<double> given{0.3, -1.2, 2.5, 0.7, 0.1}, weights{1, -0.5, 0.25, 2, -1};
  const auto loss = [&](std::vector<double> x) {
    detail::normalize(x.data(), 5);
    double sum = 0;
    for (std::size_t c = 0; c < x.size(); ++c) sum += weights[c] * x[c];
    return sum;
  };
  std::vector<double> normal = given, d = weights;
  const double scale = detail::normalize(normal.data(), 5);
  detail::normalize_gradient(normal.data(), scale, d.data(), 5);
  constexpr double step = 1e-6;
  for (std::size_t c = 0; c < given.size(); ++c) {
    auto above = given, below = given;
    above[c] += step, below[c] -= step;
    CHECK(d[c] == Approx((loss(above) - loss(below)) / (2 * step)).margin(1e-8));
  }
}
