// SPDX-License-Identifier: MIT
#include <posenc/fourier/fourier_features.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using reference::refuses;

constexpr double pi = 3.141592653589793;

std::vector<double> features(const fourier_features_options& options, std::vector<double> point) {
  const fourier_features<double> encoder(options);
  std::vector<double> out(static_cast<std::size_t>(encoder.dim()));
  encoder.encode(tensor_view<const double, 2>(point.data(), {1, encoder.dims()}), tensor_view<double, 2>(out.data(), {1, encoder.dim()}));
  return out;
}
/// Which function, axis and band each channel is of: "s01" is the sine of axis 0 and band 1.
std::string arrangement(feature_order order, feature_functions functions) {
  const auto got = features({.dims = 2,
                             .bands = feature_bands::given({1, 3, 5}),
                             .unit = angle_unit::radians,
                             .order = order,
                             .raw = raw_coordinates::none,
                             .functions = functions},
                            {0.3, 0.31});
  std::string all;
  for (const double value : got)
    for (const int axis : {0, 1})
      for (const int band : {0, 1, 2}) {
        const double angle = (axis == 0 ? 0.3 : 0.31) * (2 * band + 1);
        const std::string place = std::to_string(axis) + std::to_string(band) + " ";
        if (std::abs(value - std::sin(angle)) < 1e-12) all += "s" + place;
        if (std::abs(value - std::cos(angle)) < 1e-12) all += "c" + place;
      }
  return all;
}

}  // namespace

TEST_CASE("orders put functions, axes and bands where they say", "[fourier]") {
  using enum feature_order;
  using enum feature_functions;
  CHECK(arrangement(function_axis_band, sin_cos) == "s00 s01 s02 s10 s11 s12 c00 c01 c02 c10 c11 c12 ");
  CHECK(arrangement(function_band_axis, sin_cos) == "s00 s10 s01 s11 s02 s12 c00 c10 c01 c11 c02 c12 ");
  CHECK(arrangement(band_function_axis, sin_cos) == "s00 s10 c00 c10 s01 s11 c01 c11 s02 s12 c02 c12 ");
  CHECK(arrangement(band_axis_function, sin_cos) == "s00 c00 s10 c10 s01 c01 s11 c11 s02 c02 s12 c12 ");
  CHECK(arrangement(axis_band_function, sin_cos) == "s00 c00 s01 c01 s02 c02 s10 c10 s11 c11 s12 c12 ");
  CHECK(arrangement(axis_function_band, sin_cos) == "s00 s01 s02 c00 c01 c02 s10 s11 s12 c10 c11 c12 ");
  CHECK(arrangement(axis_function_band, cos_sin) == "c00 c01 c02 s00 s01 s02 c10 c11 c12 s10 s11 s12 ");
  CHECK(arrangement(band_function_axis, sin) == "s00 s10 s01 s11 s02 s12 ");
}

TEST_CASE("coordinates stand first or last, ones behind all", "[fourier]") {
  fourier_features_options options{.dims = 2,
                                   .bands = feature_bands::given({1}),
                                   .unit = angle_unit::half_turns,
                                   .order = feature_order::axis_band_function,
                                   .raw = raw_coordinates::first,
                                   .multiple_of = 4};
  CHECK(features(options, {0.5, 1}) == std::vector<double>{0.5, 1, 1, 0, 0, -1, 1, 1});
  options.raw = raw_coordinates::last;
  CHECK(features(options, {0.5, 1}) == std::vector<double>{1, 0, 0, -1, 0.5, 1, 1, 1});
  options.raw = raw_coordinates::none;
  CHECK(features(options, {0.5, 1}) == std::vector<double>{1, 0, 0, -1});
  options.map = point_map::from_unit_interval;
  CHECK(features(options, {0.5, 0.25}) == std::vector<double>{0, 1, -1, 0});
}

TEST_CASE("units differ by pi and by two", "[fourier]") {
  const auto at = [](angle_unit unit, double x) {
    return features({.dims = 1,
                     .bands = feature_bands::given({1}),
                     .unit = unit,
                     .order = feature_order::function_axis_band,
                     .raw = raw_coordinates::none,
                     .functions = feature_functions::sin},
                    {x})[0];
  };
  CHECK(std::abs(at(angle_unit::radians, 0.5) - 0.479425538604203) < 3e-16);
  CHECK(at(angle_unit::half_turns, 0.5) == 1);
  CHECK(at(angle_unit::turns, 0.25) == 1);
  CHECK(std::abs(at(angle_unit::radians, pi) - 1.2246467991473532e-16) < 1e-30);  // the sine of the double next to pi
}

TEST_CASE("presets have the widths of their systems", "[fourier]") {
  CHECK(fourier_features<float>(nerf_features(3, 10)).dim() == 63);
  CHECK(fourier_features<float>(nerfstudio_features(3, 10, 0, 8, false)).dim() == 60);
  CHECK(fourier_features<float>(tiny_cuda_nn_features(3, 12, 16)).dim() == 80);
  CHECK(fourier_features<float>(perceiver_features({224, 224}, 64)).dim() == 258);
  CHECK(fourier_features<float>(timm_features(2, 16, 32)).dim() == 66);
}

TEST_CASE("Perceiver has bands by axis, timm bands before axes", "[fourier]") {
  const auto perceiver = features(perceiver_features({4, 8}, 2), {0.5, -0.25});
  const std::vector<double> angles{0.5, 1, -0.25, -1};
  REQUIRE(perceiver.size() == 10);
  for (std::size_t k = 0; k < 4; ++k) {
    CHECK(std::abs(perceiver[2 + k] - std::sin(pi * angles[k])) < 1e-15);
    CHECK(std::abs(perceiver[6 + k] - std::cos(pi * angles[k])) < 1e-15);
  }
  const auto timm = features(timm_features(2, 3, 10), {0.5, -0.25});
  const std::vector<double> steps{0.5, -0.25, 1.5, -0.75, 2.5, -1.25};
  REQUIRE(timm.size() == 14);
  for (std::size_t k = 0; k < 6; ++k) {
    CHECK(std::abs(timm[2 + k] - std::sin(pi * steps[k])) < 1e-15);
    CHECK(std::abs(timm[8 + k] - std::cos(pi * steps[k])) < 1e-15);
  }
}

TEST_CASE("only bands that are powers of two times one are taken as octaves", "[fourier]") {
  const auto octaves = [](const feature_bands& bands, angle_unit unit = angle_unit::radians) {
    fourier_features_options options = nerf_features(2, 1);
    options.bands = bands, options.unit = unit;
    const feature_channels channels = fourier_features<float>(options).channels();
    return channels.angles().octaves ? channels.angles().octave_base : 0;
  };
  CHECK(octaves(feature_bands::powers_of_two(32), angle_unit::half_turns) == 1);
  CHECK(octaves(feature_bands::powers_of_two(33), angle_unit::half_turns) == 0);
  CHECK(octaves(feature_bands::powers_of_two(4, -2), angle_unit::turns) == 0.5);
  CHECK(std::abs(octaves(feature_bands::powers_of_two(10)) - 1 / pi) < 1e-16);
  CHECK(octaves(feature_bands::log_spaced(10, 0, 9), angle_unit::turns) == 2);
  CHECK(octaves(feature_bands::given({3, 12, 6}), angle_unit::half_turns) == 3);
  CHECK(octaves(feature_bands::given({3, -6}), angle_unit::half_turns) == 0);
  CHECK(octaves(feature_bands::linear(3, 1, 3), angle_unit::half_turns) == 0);
  CHECK(octaves(feature_bands::given({0, 1}), angle_unit::half_turns) == 0);
}

TEST_CASE("Fourier features compare by their options", "[fourier]") {
  const fourier_features<float> one(nerf_features(3, 10));
  CHECK(one == fourier_features<float>(nerf_features(3, 10)));
  CHECK(!(one == fourier_features<float>(nerf_features(3, 9))));
  CHECK(!(one == fourier_features<float>(pixel_nerf_features(3, 10))));
  CHECK(one.options().raw == raw_coordinates::first);
  CHECK(one.layout().raw == 0);
  CHECK(one.channels().count() == 60);
}

TEST_CASE("Fourier features refuse sizes that do not fit", "[fourier]") {
  const auto made = [](fourier_features_options options) { fourier_features<float>{options}; };
  refuses("[fourier_features] dims must be positive but got 0", [&] { made(nerf_features(0, 10)); });
  refuses("[fourier_features] dims must be positive but got -3", [&] { made(nerf_features(-3, 10)); });
  refuses("[feature_bands] count must be positive but got -1", [] { mip_nerf_features(3, 4, 3, true); });
  refuses("[fourier_features] multiple_of must be positive but got 0", [&] { made(tiny_cuda_nn_features(3, 12, 0)); });
  refuses("[fourier_features] bands by axis must be those of dims axes but got 3 and 2", [&] {
    auto options = perceiver_features({4, 8}, 2);
    options.dims = 3;
    made(options);
  });
  refuses("[fourier_features] the size in bytes must fit in 63 bits but got [4611686018427387904, 2, 10]",
          [&] { made(nerf_features(index_t{1} << 62, 10)); });
  refuses("[fourier_features] the size in bytes must fit in 63 bits but got 60 and 9223372036854775747",
          [&] { made(tiny_cuda_nn_features(3, 10, std::numeric_limits<index_t>::max())); });
}
