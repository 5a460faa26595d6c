// SPDX-License-Identifier: MIT
/// \file  Fourier features as nine systems make them.
#include <posenc/fourier/random_fourier_features.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <concepts>
#include <cstddef>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::load, golden::npy, golden::view;

/// Of values in [-1, 1] at less than 2^11 half turns.
template <class S>
inline constexpr double feature_bound = std::same_as<S, float> ? 3.4e-8 : 5e-16;

template <class S>
npy<S> features_of(const auto& encoder, npy<float> points) {
  if (points.shape.size() == 1) points.shape.push_back(1);
  npy<S> out{{points.shape[0], encoder.dim()}, std::vector<S>(static_cast<std::size_t>(points.shape[0] * encoder.dim()))};
  encoder.encode(view<2>(points), view<2>(out));
  return out;
}

}  // namespace

TEMPLATE_TEST_CASE("random Fourier features agree with rff and with the authors' notebook", "[golden][fourier]", float, double) {
  const std::string name = "fourier/gaussian_rff/";
  const auto v = load<float>(name + "v");
  auto matrix = golden::converted<TestType>(load<float>(name + "B"));
  const random_fourier_features<TestType> rff({.dims = 2, .count = 16, .order = channel_order::cos_sin}, view<2>(matrix));
  const random_fourier_features<TestType> tancik({.dims = 2, .count = 16, .order = channel_order::sin_cos}, view<2>(matrix));
  CHECK(absolute(features_of<TestType>(rff, v), load<double>(name + "rff_cos_sin_f64")) <= feature_bound<TestType>);
  CHECK(absolute(features_of<TestType>(tancik, v), load<double>(name + "tancik_sin_cos_f64")) <= feature_bound<TestType>);
}

TEMPLATE_TEST_CASE("features of noise levels agree with diffusers", "[golden][fourier]", float, double) {
  const std::string name = "fourier/gaussian_noise_level/";
  auto weight = golden::converted<TestType>(load<float>(name + "weight"));
  weight.shape.push_back(1);
  const random_fourier_features<TestType> features(
      {.dims = 1, .count = 16, .order = channel_order::sin_cos, .map = point_map::logarithm}, view<2>(weight));
  CHECK(absolute(features_of<TestType>(features, load<float>(name + "x")), load<double>(name + "out_f64")) <=
        (std::same_as<TestType, float> ? 3.4e-8 : 2e-12));
}
