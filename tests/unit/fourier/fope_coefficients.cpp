// SPDX-License-Identifier: MIT
#include <posenc/fourier/fope_coefficients.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;

template <class S>
std::vector<S> made(const initialize::fope_shape& shape, const fope_initialization& rule, std::uint64_t seed = 1) {
  random_source random(seed);
  std::vector<S> all(static_cast<std::size_t>(std::max<index_t>(shape.heads, 1) * shape.inputs * shape.outputs), S(7));
  initialize::fope_coefficients(all, random, shape, rule);
  return all;
}

/// The same less the identity of `eye`.
std::vector<double> noise(const initialize::fope_shape& shape, const fope_initialization& rule) {
  auto all = made<double>(shape, rule);
  const auto eye = made<double>(shape, {.start = fope_start::eye});
  for (std::size_t n = 0; n < all.size(); ++n) all[n] -= eye[n];
  return all;
}

double deviation(const std::vector<double>& all) {
  double sum = 0;
  for (const double one : all) sum += one * one;
  return std::sqrt(sum / static_cast<double>(all.size()));
}

}  // namespace

TEMPLATE_TEST_CASE("fope starts from every step-th wave", "[fope_coefficients]", float, double) {
  using S = TestType;
  const fope_initialization eye{.start = fope_start::eye, .gain = 3};
  CHECK(made<S>({.heads = 0, .inputs = 2, .outputs = 2}, eye) == std::vector<S>{1, 0, 0, 1});
  CHECK(made<S>({.heads = 2, .inputs = 2, .outputs = 2}, eye) == std::vector<S>{1, 0, 0, 1, 1, 0, 0, 1});
  CHECK(made<S>({.heads = 0, .inputs = 4, .outputs = 2}, eye) == std::vector<S>{1, 0, 0, 0, 0, 1, 0, 0});
  // Steps of ceil(5 / 3) = 2: rows 0, 2, 4. Of ceil(4 / 3) = 2: rows 0 and 2, and a column of zeros.
  CHECK(made<S>({.heads = 0, .inputs = 5, .outputs = 3}, eye) == std::vector<S>{1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1});
  CHECK(made<S>({.heads = 0, .inputs = 4, .outputs = 3}, eye) == std::vector<S>{1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0});
  CHECK(made<S>({.heads = 0, .inputs = 1, .outputs = 2}, eye) == std::vector<S>{1, 0});
}

TEST_CASE("fope starts from numbers of the deviation that its authors ask for", "[fope_coefficients]") {
  const initialize::fope_shape alone{.heads = 0, .inputs = 300, .outputs = 100}, by_head{.heads = 60, .inputs = 40, .outputs = 20};
  const auto near = [](double a, double b) { return std::abs(a - b) <= 0.02 * b; };
  CHECK(near(deviation(noise(alone, {.start = fope_start::eye_normal, .gain = 0.5})), 0.5));
  CHECK(near(deviation(noise(alone, {.start = fope_start::eye_xavier_normal, .gain = 0.3})), 0.3 * std::sqrt(2.0 / 400)));
  CHECK(near(deviation(noise(alone, {.start = fope_start::eye_xavier_uniform, .gain = 0.3})), 0.3 * std::sqrt(2.0 / 400)));
  CHECK(near(deviation(made<double>(alone, {.start = fope_start::xavier_normal})), std::sqrt(2.0 / 400)));
  CHECK(near(deviation(made<double>(alone, {.start = fope_start::xavier_uniform})), std::sqrt(2.0 / 400)));
  // torch takes [heads, inputs, outputs] for a convolution: fans of inputs * outputs and heads * outputs.
  CHECK(near(deviation(noise(by_head, {.start = fope_start::eye_xavier_normal, .gain = 0.6})), 0.6 * std::sqrt(2.0 / (20 * (40 + 60)))));

  const auto uniform = made<double>(alone, {.start = fope_start::xavier_uniform});
  const double bound = std::sqrt(6.0 / 400);
  CHECK(std::ranges::max(uniform) <= bound);
  CHECK(std::ranges::max(uniform) >= 0.99 * bound);
  CHECK(std::ranges::min(uniform) <= -0.99 * bound);
  CHECK(std::ranges::max(made<double>(alone, {.start = fope_start::xavier_normal})) > 2 * bound);
}

TEST_CASE("fope starts from the same numbers for the same seed, in float those of double", "[fope_coefficients]") {
  const initialize::fope_shape shape{.heads = 3, .inputs = 5, .outputs = 4};
  const fope_initialization rule{.start = fope_start::xavier_normal};
  CHECK(made<double>(shape, rule) == made<double>(shape, rule));
  CHECK(made<double>(shape, rule) != made<double>(shape, rule, 2));
  const auto wide = made<double>(shape, rule);
  CHECK(made<float>(shape, rule) == std::vector<float>(wide.begin(), wide.end()));
}

TEST_CASE("fope refuses coefficients of no shape", "[fope_coefficients][errors]") {
  std::vector<float> memory(12, 7);
  const auto refused = [&](const std::string& text, const initialize::fope_shape& shape, const fope_initialization& rule) {
    random_source random(1);
    reference::refuses(memory, "[fope_coefficients] " + text, [&] { initialize::fope_coefficients(memory, random, shape, rule); });
    CHECK(random == random_source(1));
  };
  const fope_initialization eye{.start = fope_start::eye};
  refused("heads must not be negative, inputs and outputs positive but got -1 and 3 and 4", {.heads = -1, .inputs = 3, .outputs = 4}, eye);
  refused("heads must not be negative, inputs and outputs positive but got 0 and 0 and 4", {.heads = 0, .inputs = 0, .outputs = 4}, eye);
  refused("heads must not be negative, inputs and outputs positive but got 0 and 3 and 0", {.heads = 0, .inputs = 3, .outputs = 0}, eye);
  refused("values must be heads * inputs * outputs but got 12 and 2 and 3 and 4", {.heads = 2, .inputs = 3, .outputs = 4}, eye);
  const initialize::fope_shape fits{.heads = 0, .inputs = 3, .outputs = 4};
  const std::string gain = "gain must be finite and not negative, for xavier positive but got ";
  refused(gain + "-1", fits, {.start = fope_start::eye_normal, .gain = -1});
  refused(gain + "inf", fits, {.start = fope_start::eye, .gain = std::numeric_limits<double>::infinity()});
  refused(gain + "0", fits, {.start = fope_start::eye_xavier_normal, .gain = 0});
  refused(gain + "0", fits, {.start = fope_start::xavier_uniform, .gain = 0});
  CHECK(made<double>(fits, {.start = fope_start::eye_normal, .gain = 0}) == made<double>(fits, eye));
}
