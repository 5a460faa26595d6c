// SPDX-License-Identifier: MIT
/// \file  Learnable Fourier features and their gradients as torch forms them.
#include <posenc/fourier/learnable_fourier_features.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <string>

namespace {

using namespace posenc;
using golden::absolute, golden::converted, golden::load, golden::npy, golden::row_major, golden::view;

const std::string folder = "fourier/learnable_fourier_mlp/";
const std::array<std::string, 5> names{"Wr", "w1", "b1", "w2", "b2"};

template <class S>
learnable_fourier_features<S> loaded() {
  learnable_fourier_features<S> encoder({.dim = 10, .axes = 2, .features = 16, .hidden = 12});
  const auto parameters = encoder.parameters();
  for (std::size_t n = 0; n < names.size(); ++n) {
    const auto values = load<float>(folder + names[n]);
    REQUIRE(values.shape == parameters[n].shape);
    std::ranges::copy(values.values, parameters[n].values.begin());
  }
  return encoder;
}

}  // namespace

TEMPLATE_TEST_CASE("learnable Fourier features and their gradients are the truth", "[golden][learnable_fourier_features]", float, double) {
  using S = TestType;
  constexpr bool exact = std::same_as<S, double>;
  const auto encoder = loaded<S>();
  const auto points = load<float>(folder + "x");  // [7, 1, 2]
  const tensor_view<const float, 2> x(points.values.data(), {7, 2});
  auto out = npy<S>::filled({7, 10}, 9);
  encoder.encode(x, row_major<2>(out));
  CHECK(absolute(out, load<double>(folder + "out_f64")) <= (exact ? 2e-16 : 6e-8));
  CHECK(absolute(out, load<float>(folder + "out")) <= (exact ? 2.7e-8 : 8e-8));

  const auto d = converted<S>(load<float>(folder + "grad_out"));
  auto d_points = npy<S>::filled({7, 2}, 9);
  auto trained = encoder;
  gradient_buffer<S> gradients(trained.parameters());
  encoder.encode_backward(x, view<2>(d), row_major<2>(d_points), gradients.spans());
  CHECK(absolute(d_points, load<double>(folder + "grad_x_f64")) <= (exact ? 2e-16 : 8e-8));
  for (std::size_t n = 0; n < names.size(); ++n) {
    INFO(names[n]);
    const auto truth = load<double>(folder + "grad_" + names[n] + "_f64");
    const npy<S> got{truth.shape, {gradients.spans()[n].begin(), gradients.spans()[n].end()}};
    CHECK(absolute(got, truth) <= (exact ? 1e-15 : 1e-6));
    CHECK(golden::largest_magnitude(truth) > 0.1);
  }
}
