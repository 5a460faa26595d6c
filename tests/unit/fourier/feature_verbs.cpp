// SPDX-License-Identifier: MIT
#define EIGEN_USE_THREADS
#include <posenc/fourier/feature_verbs.hpp>

#include <posenc/fourier/fourier_features.hpp>
#include <posenc/fourier/random_fourier_features.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor, Eigen::ColMajor;
using reference::bit_difference, reference::refuses;

template <class T>
using tensor2 = Eigen::Tensor<T, 2, RowMajor>;
template <class T>
using tensor3 = Eigen::Tensor<T, 3, RowMajor>;
template <class T>
using tensor4 = Eigen::Tensor<T, 4, RowMajor>;

template <class S>
fourier_features<S> bands() {
  fourier_features_options options = nerf_features(3, 4);
  options.multiple_of = 8, options.map = point_map::from_unit_interval;
  return fourier_features<S>(options);
}
template <class S>
random_fourier_features<S> matrix() {
  random_source random(3);
  return {{.dims = 3, .count = 7, .order = channel_order::interleaved, .map = point_map::from_unit_interval, .scale = 0.5}, random, 0.7};
}
template <class T>
tensor3<T> encoded(const auto& encoder, const tensor3<T>& points, const executor& run = {}) {
  tensor3<T> out(points.dimension(0), points.dimension(1), encoder.dim());
  encoder.encode(points, out, run);
  return out;
}
template <class Tensor>
bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(*a.data())) == 0;
}
template <class Tensor>
std::span<double> all(Tensor& x) {
  return {x.data(), static_cast<std::size_t>(x.size())};
}
double largest(const auto& got, const std::vector<double>& expected) {
  double worst = static_cast<std::size_t>(got.size()) == expected.size() ? 0 : 1e300;
  for (std::size_t n = 0; n < expected.size() && worst < 1e300; ++n)
    worst = std::max(worst, std::abs(got.data()[n] - expected[n]) / (1 + std::abs(expected[n])));
  return worst;
}

/// Numbers of a positive definite matrix for each point.
tensor4<double> covariances() {
  tensor4<double> made(2, 5, 3, 3);
  made.setZero();
  const auto factors = random_tensor<tensor4<double>>(8, 2, 5, 3, 3);
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 5; ++t)
      for (index_t i = 0; i < 3; ++i)
        for (index_t j = 0; j < 3; ++j)
          for (index_t k = 0; k < 3; ++k) made(b, t, i, j) += 0.01 * factors(b, t, i, k) * factors(b, t, j, k);
  return made;
}
tensor3<double> diagonals(const tensor4<double>& from) {
  tensor3<double> made(2, 5, 3);
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 5; ++t)
      for (index_t i = 0; i < 3; ++i) made(b, t, i) = from(b, t, i, i);
  return made;
}

void check_forms(const auto& encoder) {
  using S = typename std::remove_cvref_t<decltype(encoder)>::scalar;
  const auto points = random_tensor<tensor3<S>>(1, 2, 70, 3);
  const auto whole = encoded(encoder, points);

  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  const auto many = random_tensor<tensor3<S>>(1, 2, 3000, 3);
  CHECK(same_bytes(encoded(encoder, many), encoded(encoder, many, device)));

  Eigen::Tensor<S, 3, ColMajor> fastest_first(encoder.dim(), 70, 2), points_first(3, 70, 2);
  tensor3<S> alone(1, 1, 3), one_row(1, 1, encoder.dim());
  bool same = true;
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 70; ++t) {
      for (index_t a = 0; a < 3; ++a) points_first(a, t, b) = alone(0, 0, a) = points(b, t, a);
      encoder.encode(alone, one_row);
      for (index_t c = 0; c < encoder.dim(); ++c) same = same && one_row(0, 0, c) == whole(b, t, c);
    }
  CHECK(same);  // a point's features do not depend on the others
  encoder.encode(points_first, fastest_first);
  CHECK(std::memcmp(fastest_first.data(), whole.data(), static_cast<std::size_t>(whole.size()) * sizeof(S)) == 0);

  // Points as coordinates, one of them absent, are the same; so is adding, and decoding token by token.
  std::vector<double> places;
  for (index_t a = 0; a < 3; ++a)
    for (index_t b = 0; b < 2; ++b)
      for (index_t t = 0; t < 70; ++t) places.push_back(b == 1 && t == 3 ? no_coordinate : static_cast<double>(points(b, t, a)));
  const auto at = coordinates::values(places, 3, 2);
  tensor3<S> expected = whole, codes(2, 70, encoder.dim()), x(2, 70, encoder.dim()), token(2, 1, encoder.dim());
  for (index_t c = 0; c < encoder.dim(); ++c) expected(1, 3, c) = 0;
  encoder.encode(at, codes);
  CHECK(bit_difference(codes, expected) == "");
  x.setConstant(1);
  encoder.add(x, at, device);
  expected = expected + expected.constant(1);
  CHECK(bit_difference(x, expected) == "");
  for (const index_t t : {0, 3, 69}) {
    encoder.encode(at.slice(t, 1), token);
    for (index_t b = 0; b < 2; ++b)
      for (index_t c = 0; c < encoder.dim(); ++c) CHECK(token(b, 0, c) == codes(b, t, c));
  }
  const std::vector<position> ids{1, no_position, -2, 4, no_position, 0, 7, no_position, 9};
  tensor3<S> by_position(1, 3, encoder.dim()), by_coordinate(1, 3, encoder.dim());
  encoder.encode(positions::multi_axis(ids, 3), by_position);
  encoder.encode(coordinates::of(positions::multi_axis(ids, 3)), by_coordinate);
  CHECK(bit_difference(by_position, by_coordinate) == "");
  CHECK(by_position(0, 0, 4) != 0);
  CHECK(by_position(0, 1, 4) == 0);
}

template <class T>
void check_storage(const auto& encoder) {
  const tensor3<T> points = random_tensor<tensor3<float>>(1, 2, 9, 3).template cast<T>();
  const tensor3<float> wide = points.template cast<float>();
  const tensor3<T> expected = encoded(encoder, wide).template cast<T>();
  tensor3<T> out(2, 9, encoder.dim());
  encoder.encode(points, out);
  CHECK(same_bytes(out, expected));
  encoder.encode(tensor3<double>(points.template cast<double>()), out);
  CHECK(same_bytes(out, expected));
  tensor3<T> d_points(2, 9, 3);
  tensor3<float> d_wide(2, 9, 3);
  encoder.encode_backward(out, points, d_points);
  encoder.encode_backward(out, wide, d_wide);
  CHECK(same_bytes(d_points, tensor3<T>(d_wide.template cast<T>())));
}

void check_gradients(const auto& encoder) {
  auto points = random_tensor<tensor3<double>>(1, 2, 5, 3);
  auto full = covariances();
  auto diagonal = diagonals(full);
  tensor3<double> out(2, 5, encoder.dim()), d_points(2, 5, 3), d_diagonal(2, 5, 3);
  tensor4<double> d_full(2, 5, 3, 3);
  const auto d = random_tensor<tensor3<double>>(2, 2, 5, encoder.dim());

  encoder.encode_backward(d, points, d_points);
  const auto plain = [&] { return encoder.encode(points, out), reference::dot(d, out); };
  CHECK(largest(d_points, reference::derivatives(all(points), plain, 1e-6)) < 1e-8);

  encoder.encode_backward(d, points, full, d_points, d_full);
  const auto by_full = [&] { return encoder.encode(points, full, out), reference::dot(d, out); };
  CHECK(largest(d_points, reference::derivatives(all(points), by_full, 1e-6)) < 1e-7);
  CHECK(largest(d_full, reference::derivatives(all(full), by_full, 1e-6)) < 1e-7);

  encoder.encode_backward(d, points, diagonal, d_points, d_diagonal);
  const auto by_diagonal = [&] { return encoder.encode(points, diagonal, out), reference::dot(d, out); };
  CHECK(largest(d_points, reference::derivatives(all(points), by_diagonal, 1e-6)) < 1e-7);
  CHECK(largest(d_diagonal, reference::derivatives(all(diagonal), by_diagonal, 1e-6)) < 1e-7);

  const auto without = encoded(encoder, points);
  diagonal.setZero();
  encoder.encode(points, diagonal, out);
  CHECK(bit_difference(out, without) == "");

  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  const auto many = random_tensor<tensor3<double>>(1, 1, 3000, 3), d_many = random_tensor<tensor3<double>>(2, 1, 3000, encoder.dim());
  tensor3<double> one(1, 3000, 3), several = many;
  encoder.encode_backward(d_many, many, one);
  encoder.encode_backward(d_many, several, several, device);  // the gradient in place of the points
  CHECK(same_bytes(one, several));
}

}  // namespace

TEMPLATE_TEST_CASE("features are the same in every storage order, split, chunk and as codes", "[fourier]", float, double) {
  check_forms(bands<TestType>());
  check_forms(matrix<TestType>());
}

TEMPLATE_TEST_CASE("features in 16 bits are computed in float and rounded once", "[fourier]", Eigen::half, Eigen::bfloat16) {
  check_storage<TestType>(bands<float>());
  check_storage<TestType>(matrix<float>());
}

TEST_CASE("gradients at points and covariances are those of finite differences", "[fourier]") {
  check_gradients(bands<double>());
  check_gradients(matrix<double>());
}

TEST_CASE("features of a wide normal point are those of mip-NeRF by hand", "[fourier]") {
  const fourier_features<double> encoder(mip_nerf_features(1, 0, 2, false));
  tensor2<double> point(1, 1), variance(1, 1), out(1, 4);
  point(0, 0) = 0.25, variance(0, 0) = 0.5;
  encoder.encode(point, variance, out);
  CHECK(std::abs(out(0, 0) - 0.7788007830714049 * 0.24740395925452294) < 2e-16);  // exp(-1/4) sin(1/4)
  CHECK(std::abs(out(0, 1) - 0.36787944117144233 * 0.479425538604203) < 2e-16);   // exp(-1) sin(1/2)
  CHECK(std::abs(out(0, 2) - 0.7788007830714049 * 0.9689124217106447) < 2e-16);
  CHECK(std::abs(out(0, 3) - 0.36787944117144233 * 0.8775825618903728) < 2e-16);
}

TEST_CASE("verbs of features refuse shapes that do not fit, and write nothing", "[fourier]") {
  const auto encoder = bands<float>();
  tensor3<float> points(2, 5, 3), out(2, 5, 32), d_points(2, 5, 3), diagonal(2, 5, 3), wrong(2, 4, 3), narrow(2, 5, 2);
  tensor4<float> full(2, 5, 3, 3), flat(2, 5, 3, 2);
  for (auto* one : {&points, &out, &d_points, &diagonal, &wrong, &narrow}) one->setConstant(0.5f);
  full.setZero(), flat.setZero();
  REQUIRE(encoder.dim() == 32);
  refuses(out, "[fourier_features] points must have dims coordinates but got 3 and 2", [&] { encoder.encode(narrow, out); });
  refuses(d_points, "[fourier_features] channels must equal dim but got 32 and 3", [&] { encoder.encode(points, d_points); });
  refuses(out, "[fourier_features] there must be one row of features per point but got [2, 4, 3] and [2, 5, 32]",
          [&] { encoder.encode(wrong, out); });
  refuses(out, "[fourier_features] input and output must not overlap but got [2, 5, 3] and [2, 5, 32]",
          [&] { encoder.encode(tensor_view<const float, 3>(out.data() + 7, {2, 5, 3}), out); });
  const tensor_view<float, 3> spread(out.data(), {2, 5, 32}, {0, 1, 5});
  refuses(out, "[fourier_features] the last axis must be contiguous but got 5", [&] { encoder.encode(points, spread); });
  const std::string shape = "[fourier_features] covariances must be [..., dims] or [..., dims, dims] of the points but got ";
  refuses(out, shape + "[2, 5, 3] and [2, 4, 3]", [&] { encoder.encode(points, wrong, out); });
  refuses(out, shape + "[2, 5, 3] and [2, 5, 3, 2]", [&] { encoder.encode(points, flat, out); });
  refuses(d_points, "[fourier_features] gradients must have the shapes of what they are of but got [2, 5, 3] and [2, 4, 3]",
          [&] { encoder.encode_backward(out, points, diagonal, d_points, wrong); });
  refuses(wrong, "[fourier_features] gradients must have the shapes of what they are of but got [2, 5, 3] and [2, 4, 3]",
          [&] { encoder.encode_backward(out, points, wrong); });
  refuses(d_points, "[fourier_features] channels must equal dim but got 32 and 3",
          [&] { encoder.encode_backward(diagonal, points, d_points); });
  refuses(out, "[fourier_features] input and output must not overlap but got [2, 5, 3] and [2, 5, 3]",
          [&] { encoder.encode_backward(out, points, tensor_view<float, 3>(out.data() + 7, {2, 5, 3})); });
  refuses(out, "[fourier_features] the positions must have as many axes as the encoder but got 3 and 1",
          [&] { encoder.encode(positions::range(5), out); });
  refuses(out, "[fourier_features] positions must lie in [-2^53, 2^53] but got 9007199254740993",
          [&] { encoder.encode(positions::multi_axis(std::vector<position>(15, (position{1} << 53) + 1), 3), out); });
  fourier_features_options logarithms = nerf_features(3, 4);
  logarithms.map = point_map::logarithm;
  tensor3<float> fitting(2, 5, 27);
  fitting.setZero();
  refuses(fitting, "[fourier_features] covariances need coordinates that are not turned into logarithms but got logarithm",
          [&] { fourier_features<float>(logarithms).encode(points, full, fitting); });
}

TEST_CASE("no points have no features", "[fourier]") {
  tensor3<float> points(2, 0, 3), out(2, 0, 32), d_points(2, 0, 3);
  bands<float>().encode(points, out);
  bands<float>().encode_backward(out, points, d_points);
  CHECK(out.size() == 0);
}
