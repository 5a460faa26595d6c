// SPDX-License-Identifier: MIT
/// \file  Fourier features as nine systems make them.
#include <posenc/fourier/fourier_features.hpp>
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
inline constexpr double feature_bound = std::same_as<S, float> ? 1e-7 : 5e-16;

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
  const random_fourier_features<TestType> features({.dims = 1, .count = 16, .order = channel_order::sin_cos, .map = point_map::logarithm},
                                                   view<2>(weight));
  CHECK(absolute(features_of<TestType>(features, load<float>(name + "x")), load<double>(name + "out_f64")) <=
        (std::same_as<TestType, float> ? 3.4e-8 : 2e-12));
}

TEMPLATE_TEST_CASE("Fourier features agree with NeRF, pixel-nerf, nerfstudio, mip-NeRF and tiny-cuda-nn", "[golden][fourier]", float,
                   double) {
  const auto check = [](const std::string& name, const fourier_features_options& options) {
    INFO(name);
    const fourier_features<TestType> features(options);
    CHECK(absolute(features_of<TestType>(features, load<float>("fourier/" + name + "/x")), load<double>("fourier/" + name + "/out_f64")) <=
          feature_bound<TestType>);
  };
  check("nerf_no_pi", nerf_features(3, 10));
  check("nerf_with_pi", pixel_nerf_features(3, 10));
  check("nerf_nerfstudio_2pi", nerfstudio_features(3, 10, 0, 9, true));
  check("nerf_mipnerf_layout", mip_nerf_features(3, 1, 9, true));
  check("tcnn_frequency", tiny_cuda_nn_features(3, 8));
}

TEMPLATE_TEST_CASE("Fourier features agree with rff's positional and basic encoding", "[golden][fourier]", float, double) {
  const auto v = load<float>("fourier/rff_positional_log/v");
  const auto check = [&](const std::string& name, const feature_bands& bands, feature_order order) {
    INFO(name);
    const fourier_features<TestType> features({.dims = 2,
                                               .bands = bands,
                                               .unit = angle_unit::turns,
                                               .order = order,
                                               .raw = raw_coordinates::none,
                                               .functions = feature_functions::cos_sin});
    CHECK(absolute(features_of<TestType>(features, v), load<double>("fourier/rff_positional_log/" + name + "_f64")) <=
          (std::same_as<TestType, float> ? 1e-7 : 1e-13));  // the truth is off by as much
  };
  check("positional", feature_bands::geometric(5, 8), feature_order::axis_function_band);
  check("basic", feature_bands::given({1}), feature_order::function_axis_band);
}

TEMPLATE_TEST_CASE("integrated features agree with nerfstudio, whose covariances are those of 2 pi x", "[golden][fourier]", float, double) {
  const std::string name = "fourier/nerf_integrated_ipe/";
  const fourier_features<TestType> features(nerfstudio_features(3, 5, 0, 4, false));
  const auto x = load<float>(name + "x");
  auto covariances = golden::converted<double>(load<float>(name + "cov"));
  for (double& value : covariances.values) value /= 4 * 3.141592653589793 * 3.141592653589793;
  npy<TestType> out{{8, 30}, std::vector<TestType>(240)};
  features.encode(view<2>(x), view<3>(covariances), view<2>(out));
  CHECK(absolute(out, load<double>(name + "out_f64")) <= (std::same_as<TestType, float> ? 3.4e-8 : 2e-12));
}

TEMPLATE_TEST_CASE("the gradient at the points agrees with tiny-cuda-nn", "[golden][fourier]", float, double) {
  const std::string name = "fourier/tcnn_frequency/";
  const fourier_features<TestType> features(tiny_cuda_nn_features(3, 8));
  const auto x = golden::converted<TestType>(load<float>(name + "x")), d_out = golden::converted<TestType>(load<float>(name + "grad_out"));
  npy<TestType> d_x{x.shape, std::vector<TestType>(x.values.size())};
  features.encode_backward(view<2>(d_out), view<2>(x), view<2>(d_x));
  CHECK(golden::relative(d_x, load<double>(name + "grad_x_f64")) <= (std::same_as<TestType, float> ? 6.1e-8 : 4e-14));
}
