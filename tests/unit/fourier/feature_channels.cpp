// SPDX-License-Identifier: MIT
#include <posenc/fourier/feature_channels.hpp>

#include "catch.hpp"

#include <vector>

using namespace posenc;

TEST_CASE("frequencies are half turns, whatever they were given in", "[fourier]") {
  const double_double three{3, 0};
  CHECK(feature_channels::half_turns(three, angle_unit::half_turns).high == 3);
  CHECK(feature_channels::half_turns(three, angle_unit::turns).high == 6);
  const double_double of_radians = feature_channels::half_turns(three, angle_unit::radians) * two_pi * double_double{0.5, 0};
  CHECK(of_radians.high == 3);
  CHECK(std::abs(of_radians.low) < 1e-30);
}

TEST_CASE("bands that are octaves of one another are found, others are not", "[fourier]") {
  const auto octaves = [](const std::vector<double>& speeds) {
    feature_channels made = feature_channels::bands("test", 2, static_cast<index_t>(speeds.size()));
    for (std::size_t c = 0; c < speeds.size(); ++c) made.set(static_cast<index_t>(c), static_cast<index_t>(c % 2), {speeds[c], 0}, c == 1);
    made.find_octaves();
    return made;
  };
  const feature_channels found = octaves({0.75, 6, 1.5});
  const auto angles = found.angles();
  REQUIRE(angles.octaves != nullptr);
  CHECK(angles.octave_base == 0.75);
  CHECK(std::vector<std::int32_t>(angles.octaves, angles.octaves + 9) == std::vector<std::int32_t>{0, 3, 1, 0, 1, 0, 0, 1 << 30, 0});
  for (const auto& none : {std::vector<double>{1, 3}, {1, -2}, {0, 1}, {1, 0x1p33}}) CHECK(octaves(none).angles().octaves == nullptr);
  CHECK((found.has_bands() && found.dims() == 2 && found.count() == 3));
}

TEST_CASE("a matrix has a row of speeds for each coordinate", "[fourier]") {
  feature_channels made = feature_channels::matrix("test", 2, 3);
  for (index_t c = 0; c < 3; ++c)
    for (index_t a = 0; a < 2; ++a) made.set(c, a, {static_cast<double>(10 * a + c), 0}, false);
  const auto angles = made.angles();
  CHECK(std::vector<double>(angles.high, angles.high + 6) == std::vector<double>{0, 1, 2, 10, 11, 12});
  CHECK((!made.has_bands() && angles.axes == nullptr && angles.weights == 3));
  CHECK_THROWS_AS(feature_channels::matrix("test", 2, index_t{1} << 61), argument_error);
}
