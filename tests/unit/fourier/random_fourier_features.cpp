// SPDX-License-Identifier: MIT
#define EIGEN_USE_THREADS
#include <posenc/fourier/random_fourier_features.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;
using reference::bit_difference, reference::refuses;

constexpr double pi = 3.141592653589793;
template <class T>
using tensor2 = Eigen::Tensor<T, 2, RowMajor>;

tensor2<double> encoded(const random_fourier_features<double>& encoder, const tensor2<double>& points) {
  tensor2<double> out(points.dimension(0), encoder.dim());
  encoder.encode(points, out);
  return out;
}

}  // namespace

TEST_CASE("features of a matrix by hand, in each order and unit", "[fourier]") {
  tensor2<double> b(2, 2), x(1, 2);
  b.setValues({{0.5, -1}, {0.25, 2}});
  x.setValues({{0.5, 0.125}});  // B x = 0.125 and 0.375
  const double root = std::sqrt(0.5);
  const auto check = [&](random_fourier_features_options options, const std::vector<double>& expected) {
    const auto got = encoded(random_fourier_features<double>(options, b), x);
    for (index_t c = 0; c < 4; ++c) CHECK(std::abs(got(0, c) - expected[static_cast<std::size_t>(c)]) < 1e-15);
  };
  check({.dims = 2, .count = 2, .order = channel_order::cos_sin}, {root, -root, root, root});
  check({.dims = 2, .count = 2, .order = channel_order::sin_cos, .scale = 2}, {2 * root, 2 * root, 2 * root, -2 * root});
  check({.dims = 2, .count = 2, .order = channel_order::interleaved}, {root, root, root, -root});
  check({.dims = 2, .count = 2, .order = channel_order::cos_sin, .unit = angle_unit::radians},
        {std::cos(0.125), std::cos(0.375), std::sin(0.125), std::sin(0.375)});
  check({.dims = 2, .count = 2, .order = channel_order::cos_sin, .unit = angle_unit::half_turns},
        {std::cos(pi * 0.125), std::cos(pi * 0.375), std::sin(pi * 0.125), std::sin(pi * 0.375)});
}

TEST_CASE("products of features tend to the Gaussian kernel", "[fourier]") {
  constexpr double sigma = 0.8;
  constexpr index_t count = 20000;
  random_source random(5);
  const random_fourier_features<double> encoder(
      {.dims = 2, .count = count, .order = channel_order::cos_sin, .scale = 1 / std::sqrt(static_cast<double>(count))}, random, sigma);
  tensor2<double> x(4, 2);
  x.setValues({{0.1, 0.2}, {0.1, 0.2}, {0.3, 0.25}, {-0.2, 0.4}});
  const auto phi = encoded(encoder, x);
  for (index_t i = 0; i < 4; ++i)
    for (index_t j = 0; j < 4; ++j) {
      double product = 0, square = 0;
      for (index_t c = 0; c < 2 * count; ++c) product += phi(i, c) * phi(j, c);
      for (index_t a = 0; a < 2; ++a) square += (x(i, a) - x(j, a)) * (x(i, a) - x(j, a));
      CHECK(std::abs(product - std::exp(-2 * pi * pi * sigma * sigma * square)) < (square > 0 ? 0.02 : 1e-12));
    }
}

TEST_CASE("matrices are drawn in the order of memory, and are the same for a seed", "[fourier]") {
  random_source random(5), again(5), raw(5);
  random_fourier_features<float> encoder({.dims = 3, .count = 50, .order = channel_order::cos_sin}, random, 10.0);
  CHECK(encoder == random_fourier_features<float>({.dims = 3, .count = 50, .order = channel_order::cos_sin}, again, 10.0));
  CHECK(!(encoder == random_fourier_features<float>({.dims = 3, .count = 50, .order = channel_order::cos_sin}, again, 10.0)));
  std::vector<float> expected(150);
  initialize::normal(expected, raw, {.standard_deviation = 10});
  const auto parameter = encoder.parameters()[0];
  CHECK(parameter.name == "B");
  CHECK(parameter.shape == std::vector<index_t>{50, 3});
  CHECK(std::vector<float>(parameter.values.begin(), parameter.values.end()) == expected);
}

TEST_CASE("logarithms are taken first, and so is their gradient", "[fourier]") {
  tensor2<double> b(1, 1), x(3, 1), out(3, 2), d(3, 2), d_x(3, 1);
  b.setConstant(0.7);
  x.setValues({{1.0}, {2.5}, {-1.0}});
  d.setConstant(1);
  const random_fourier_features<double> encoder({.dims = 1, .count = 1, .order = channel_order::sin_cos, .map = point_map::logarithm}, b);
  encoder.encode(x, out);
  CHECK(out(0, 0) == 0);
  CHECK(out(0, 1) == 1);
  const double angle = 2 * pi * 0.7 * std::log(2.5);
  CHECK(std::abs(out(1, 0) - std::sin(angle)) < 1e-15);
  CHECK(std::isnan(out(2, 0)));
  encoder.encode_backward(d, x, d_x);
  CHECK(std::abs(d_x(1, 0) - 2 * pi * 0.7 / 2.5 * (std::cos(angle) - std::sin(angle))) < 1e-14);
}

TEST_CASE("SAM's coordinates are fractions of the picture", "[fourier]") {
  tensor2<double> b(1, 2), x(1, 2), out(1, 2);
  b.setValues({{0.25, 0.5}});
  x.setValues({{0.75, 0.25}});  // 2 x - 1 = 1/2 and -1/2
  random_fourier_features<double>({.dims = 2, .count = 1, .order = channel_order::sin_cos, .map = point_map::from_unit_interval}, b)
      .encode(x, out);
  CHECK(std::abs(out(0, 0) - std::sin(-pi / 4)) < 2e-16);
  CHECK(std::abs(out(0, 1) - std::cos(-pi / 4)) < 2e-16);
}

TEST_CASE("the gradient at the matrix is that of finite differences", "[fourier]") {
  for (const auto order : {channel_order::cos_sin, channel_order::interleaved})
    for (const auto unit : {angle_unit::turns, angle_unit::radians}) {
      random_source random(5);
      random_fourier_features<double> encoder(
          {.dims = 3, .count = 9, .order = order, .unit = unit, .map = point_map::from_unit_interval, .scale = 0.5}, random, 0.6);
      const auto x = random_tensor<tensor2<double>>(1, 70, 3), d = random_tensor<tensor2<double>>(2, 70, 18);
      tensor2<double> out(70, 18), d_x(70, 3), d_alone(70, 3);
      gradient_buffer<double> sums(encoder.parameters());
      sums.spans()[0][4] = 100;
      encoder.encode_backward(d, x, d_x, sums.spans());
      encoder.encode_backward(d, x, d_alone);
      CHECK(bit_difference(d_x, d_alone) == "");
      const auto values = encoder.parameters()[0].values;
      const auto expected = reference::derivatives(values, [&] { return encoder.encode(x, out), reference::dot(d, out); }, 1e-6);
      for (std::size_t n = 0; n < expected.size(); ++n) {
        CAPTURE(n);
        CHECK(std::abs(sums.spans()[0][n] - expected[n] - (n == 4 ? 100 : 0)) < 1e-7);
      }
      // As codes: tokens of two batch rows that share their places, one of them absent.
      std::vector<double> places;
      for (index_t a = 0; a < 3; ++a)
        for (index_t t = 0; t < 35; ++t) places.push_back(t == 7 ? no_coordinate : x(t, a));
      const auto at = coordinates::values(places, 3);
      Eigen::Tensor<double, 3, RowMajor> d_tokens(2, 35, 18), codes(2, 35, 18);
      fill(d_tokens, 4);
      gradient_buffer<double> by_token(encoder.parameters());
      const auto before = d_tokens;
      encoder.add_backward(d_tokens, at, by_token.spans());
      CHECK(bit_difference(d_tokens, before) == "");
      const auto of_codes = reference::derivatives(values, [&] { return encoder.encode(at, codes), reference::dot(before, codes); }, 1e-6);
      for (std::size_t n = 0; n < of_codes.size(); ++n) CHECK(std::abs(by_token.spans()[0][n] - of_codes[n]) < 1e-7);
    }
}

TEST_CASE("the gradient at the matrix has the same bits for any number of threads", "[fourier]") {
  random_source random(5);
  random_fourier_features<float> encoder({.dims = 2, .count = 43, .order = channel_order::cos_sin}, random, 3.0);
  const auto x = random_tensor<tensor2<float>>(1, 2000, 2), d = random_tensor<tensor2<float>>(2, 2000, 86);
  tensor2<float> d_x(2000, 2), in_place = x;
  gradient_buffer<float> one(encoder.parameters()), several(encoder.parameters());
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  encoder.encode_backward(d, x, d_x, one.spans());
  encoder.encode_backward(d, in_place, in_place, several.spans(), device);
  CHECK(bit_difference(one.spans()[0], several.spans()[0]) == "");
  CHECK(bit_difference(in_place, d_x) == "");
  CHECK(one.spans()[0][3] != 0);
}

TEST_CASE("random Fourier features refuse what does not fit", "[fourier]") {
  using options = random_fourier_features_options;
  const auto made = [](const options& given) { random_fourier_features<float>{given}; };
  refuses("[random_fourier_features] dims must be positive but got 0",
          [&] { made({.dims = 0, .count = 4, .order = channel_order::cos_sin}); });
  refuses("[random_fourier_features] count must be positive but got 0",
          [&] { made({.dims = 2, .count = 0, .order = channel_order::cos_sin}); });
  refuses("[random_fourier_features] scale must be finite but got nan",
          [&] { made({.dims = 2, .count = 4, .order = channel_order::cos_sin, .scale = std::nan("")}); });
  refuses("[random_fourier_features] the size in bytes must fit in 63 bits but got [2, 4611686018427387904, 2]",
          [&] { made({.dims = 2, .count = index_t{1} << 62, .order = channel_order::cos_sin}); });
  tensor2<float> b(2, 4);
  b.setConstant(std::numeric_limits<float>::infinity());
  const options four{.dims = 2, .count = 4, .order = channel_order::cos_sin};
  refuses("[random_fourier_features] the matrix must be [count, dims] but got [4, 2] and [2, 4]",
          [&] { random_fourier_features<float>(four, b); });
  refuses("[random_fourier_features] the matrix must be finite but got inf",
          [&] { random_fourier_features<float>({.dims = 4, .count = 2, .order = channel_order::cos_sin}, b); });
  random_source random(1);
  refuses("[normal] standard_deviation must be finite and not negative but got -1",
          [&] { random_fourier_features<float>(four, random, -1); });

  const random_fourier_features<float> encoder(four);
  tensor2<float> x(3, 2), d(3, 8), d_x(3, 2);
  x.setZero(), d.setConstant(1), d_x.setConstant(7);
  std::vector<float> sums(8), few(7);
  const std::vector<std::span<float>> right{sums}, small{few}, two{sums, few};
  refuses(d_x, "[random_fourier_features] there must be one gradient span per parameter but got 1 and 2",
          [&] { encoder.encode_backward(d, x, d_x, two); });
  refuses(d_x, "[random_fourier_features] the gradient must have the size of the matrix but got 8 and 7",
          [&] { encoder.encode_backward(d, x, d_x, small); });
  refuses(sums, "[random_fourier_features] channels must equal dim but got 8 and 2", [&] { encoder.encode_backward(x, x, d_x, right); });
  refuses(sums, "[random_fourier_features] points must have dims coordinates but got 2 and 8", [&] {
    tensor2<float> d_d = d;
    encoder.encode_backward(d, d, d_d, right);
  });
  Eigen::Tensor<float, 3, RowMajor> tokens(1, 3, 8);
  tokens.setZero();
  refuses(tokens, "[random_fourier_features] the positions must have as many axes as the encoder but got 2 and 1",
          [&] { encoder.add_backward(tokens, positions::range(3), right); });
  refuses(sums, "[random_fourier_features] the gradient must have the size of the matrix but got 8 and 7",
          [&] { encoder.add_backward(tokens, positions::multi_axis(std::vector<position>(6), 2), small); });
}
