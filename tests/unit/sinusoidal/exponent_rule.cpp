// SPDX-License-Identifier: MIT
#include <posenc/sinusoidal/exponent_rule.hpp>

#include "catch.hpp"

#include <vector>

using namespace posenc;

TEST_CASE("exponent rules have the frequencies of their systems", "[exponent_rule]") {
  const auto radians = [](const any_exponent_rule& rule, index_t width) {
    std::vector<double> all;
    for (const double_double one : sinusoidal_series("test", rule, width)) all.push_back(one.high);
    return all;
  };
  using numbers = std::vector<double>;
  CHECK(radians(exponent_rule::vaswani{.base = 16}, 8) == numbers{1, 0.5, 0.25, 0.125});
  CHECK(radians(exponent_rule::tensor2tensor{.max_timescale = 8}, 8) == numbers{1, 0.5, 0.25, 0.125});
  CHECK(radians(exponent_rule::tensor2tensor{.max_timescale = 8, .min_timescale = 2}, 6) == numbers{2, 1, 0.5});  // multiplied, not divided
  CHECK(radians(exponent_rule::downscaled{.shift = 0, .base = 16}, 8) == numbers{1, 0.5, 0.25, 0.125});
  CHECK(radians(exponent_rule::downscaled{.shift = 1, .base = 8}, 8) == numbers{1, 0.5, 0.25, 0.125});
  CHECK(radians(exponent_rule::downscaled{.shift = 3, .base = 2}, 8) == numbers{1, 0.5, 0.25, 0.125});
  CHECK(radians(exponent_rule::log_linear{.max_frequency = 8, .min_frequency = 1}, 8) == numbers{8, 4, 2, 1});
  CHECK(radians(exponent_rule::log_linear{.max_frequency = 0.5, .min_frequency = 2}, 6) == numbers{0.5, 1, 2});
  // Odd widths: half of them rounded up; by Vaswani's rule over the width itself.
  CHECK(radians(exponent_rule::vaswani{.base = 32}, 5) == numbers{1, 0.25, 0.0625});
  CHECK(radians(exponent_rule::tensor2tensor{.max_timescale = 4}, 5) == numbers{1, 0.5, 0.25});
  // One frequency alone is the first.
  CHECK(radians(exponent_rule::tensor2tensor{.max_timescale = 4, .min_timescale = 2}, 2) == numbers{2});
  CHECK(radians(exponent_rule::downscaled{.shift = 1}, 2) == numbers{1});
  CHECK(radians(exponent_rule::log_linear{.max_frequency = 3}, 2) == numbers{3});
}

TEST_CASE("exponent rules make nothing of no channels", "[exponent_rule]") {
  for (const any_exponent_rule& rule : std::vector<any_exponent_rule>{exponent_rule::vaswani{}, exponent_rule::tensor2tensor{},
                                                                      exponent_rule::downscaled{.shift = 1}, exponent_rule::log_linear{}})
    CHECK(sinusoidal_series("test", rule, 0).empty());
}
