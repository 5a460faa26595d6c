// SPDX-License-Identifier: MIT
#include <posenc/fourier/learnable_fourier_features.hpp>

#include <posenc/combine/compose.hpp>
#include <posenc/grid_coordinates.hpp>
#include <posenc/learned.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "random_parameters.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/learnable_fourier_features.hpp"
#include "reference/refuses.hpp"
#include "reference/rounded.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;

template <class T>
using tensor2 = Eigen::Tensor<T, 2, RowMajor>;
template <class T>
using tensor3 = Eigen::Tensor<T, 3, RowMajor>;

/// Directions of some radians, so that angles turn over more than once.
template <class S>
learnable_fourier_features<S> made(const learnable_fourier_features_options& options) {
  auto encoder = with_random_parameters(learnable_fourier_features<S>(options), 5);
  const auto parameters = encoder.parameters();
  for (S& w : parameters[0].values) w *= 7;
  return encoder;
}

/// Two groups of two axes.
const learnable_fourier_features_options boxes{.dim = 6, .axes = 2, .features = 8, .hidden = 5, .groups = 2};

/// The code of each token in long double, rounded to double; zeros without a position.
template <class S, class At>
tensor3<double> truth(learnable_fourier_features<S> encoder, const At& at, index_t batch) {
  const auto& options = encoder.options();
  const index_t axes = options.axes, share = options.dim / options.groups;
  std::vector<std::span<const S>> parameters;
  for (const auto& one : encoder.parameters()) parameters.emplace_back(one.values);
  tensor3<double> code(batch, at.time(), index_t{options.dim});
  code.setZero();
  for (index_t b = 0; b < batch; ++b)
    for (index_t t = 0; t < at.time(); ++t)
      for (index_t group = 0; group < options.groups; ++group) {
        std::vector<long double> point;
        for (index_t a = 0; a < axes; ++a) point.push_back(static_cast<long double>(at(b, t, group * axes + a)));
        bool absent = std::isnan(point[0]);
        if constexpr (std::same_as<At, positions>) absent = at(b, t) == no_position;
        if (absent) continue;
        const auto one = reference::learnable_fourier_features(parameters, point);
        for (index_t c = 0; c < share; ++c) code(b, t, group * share + c) = static_cast<double>(one[static_cast<std::size_t>(c)]);
      }
  return code;
}

template <class S, class At>
void check_truth(const learnable_fourier_features<S>& encoder, const At& at, index_t batch, double tolerance) {
  tensor3<S> code(batch, at.time(), encoder.dim());
  code.setConstant(S(9));
  encoder.encode(at, code);
  CHECK(reference::difference(code, truth(encoder, at, batch), tolerance) == "");
}

coordinates random_coordinates(index_t axes, index_t batch, index_t time) {
  auto values = random_vector<double>(11, axes * std::max<index_t>(batch, 1) * time);
  for (index_t a = 0; a < axes; ++a) values[static_cast<std::size_t>(a * std::max<index_t>(batch, 1) * time + 1)] = no_coordinate;
  return coordinates::values(values, axes, batch);
}

}  // namespace

TEMPLATE_TEST_CASE("learnable Fourier features follow the formula", "[learnable_fourier_features]", float, double) {
  const double tolerance = std::same_as<TestType, float> ? 2e-6 : 4e-15;
  const auto encoder = made<TestType>(boxes);
  check_truth(encoder, random_coordinates(4, 2, 5), 2, tolerance);
  check_truth(encoder, random_coordinates(4, 0, 5), 3, tolerance);
  check_truth(
      encoder,
      positions::multi_axis(std::array<position, 12>{0, no_position, 900, 1, no_position, -70, 2, no_position, 5, 3, no_position, 4}, 4), 2,
      tolerance);
  // More tokens and more bands than a block has.
  check_truth(made<TestType>({.dim = 5, .axes = 3, .features = 134, .hidden = 9}), random_coordinates(3, 2, 71), 2, tolerance);
  check_truth(made<TestType>({.dim = 3, .axes = 1, .features = 6, .hidden = 4}), positions::range(70, -30), 2, tolerance);
}

TEST_CASE("learnable Fourier features by hand", "[learnable_fourier_features]") {
  learnable_fourier_features<double> encoder({.dim = 1, .axes = 1, .features = 2, .hidden = 1});
  const auto parameters = encoder.parameters();
  parameters[0].values[0] = 3;
  parameters[1].values[0] = 1, parameters[1].values[1] = -1;  // times [cos 3x, sin 3x] / sqrt(2)
  parameters[3].values[0] = 2, parameters[4].values[0] = 1;
  tensor2<double> code(2, 1);
  encoder.encode(coordinates::values(std::array{0.0, 0.52359877559829887}, 1), code);  // cosine 1, then sine 1
  // 1 + 2 z Phi(z) for z = sqrt(1/2) and -sqrt(1/2), where Phi(z) = (1 + erf(1/2)) / 2 and erf(1/2) = 0.520499877813046537...
  CHECK(std::abs(code(0, 0) - 2.07515577439492) < 1e-14);
  CHECK(std::abs(code(1, 0) - 0.660942212021827) < 1e-14);
}

TEST_CASE("the products of learnable Fourier features estimate the normal kernel that their directions were drawn for",
          "[learnable_fourier_features]") {
  // f(x).f(y) tends to exp(-|x - y|^2 var / 2) / 2; with 40000 features, it is off by some 0.003.
  random_source random(3);
  const double gamma = 1.5;
  learnable_fourier_features<double> paper({.dim = 1, .axes = 2, .features = 40000, .hidden = 1}, gamma, gamma_rule::variance, random);
  learnable_fourier_features<double> copied(paper.options(), gamma, gamma_rule::standard_deviation, random);
  for (const auto& [directions, deviation] :
       {std::pair{paper.parameters()[0].values, 1 / gamma}, std::pair{copied.parameters()[0].values, 1 / gamma / gamma}}) {
    double sum = 0;
    for (std::size_t k = 0; k < 20000; ++k) sum += std::cos(directions[2 * k] * 0.9 + directions[2 * k + 1] * -0.4) / 40000;
    CHECK(std::abs(sum - std::exp(-0.97 * deviation * deviation / 2) / 2) < 0.006);
  }
  for (const auto& one : paper.parameters()) CHECK(std::ranges::any_of(one.values, [](double value) { return value != 0; }));
  // A network of zeros with a bias: the bias everywhere, and only there.
  learnable_fourier_features<double> biased({.dim = 2, .axes = 1, .features = 2, .hidden = 3});
  biased.parameters()[4].values[1] = 0.5;
  tensor2<double> code(3, 2);
  biased.encode(positions::ids(std::array<position, 3>{4, no_position, -1}), code);
  CHECK(reference::bit_difference(code, std::array{0., 0.5, 0., 0., 0., 0.5}) == "");
}

TEMPLATE_TEST_CASE("learnable Fourier features are added to every storage, in both orders", "[learnable_fourier_features]", float, double,
                   Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  const auto numbers = [](const auto& x) { return tensor3<S>(x.template cast<S>()); };
  const auto encoder = made<S>(boxes);
  const auto at = random_coordinates(4, 2, 5);
  const auto x = tensor3<T>(random_tensor<tensor3<S>>(1, 2, 5, 6).template cast<T>());
  tensor3<S> code(2, 5, 6);
  encoder.encode(at, code);
  auto sum = x, rounded = x, got = x;
  for (index_t n = 0; n < x.size(); ++n) {
    sum.data()[n] = static_cast<T>(reference::plus(static_cast<S>(x.data()[n]), code.data()[n]));
    rounded.data()[n] = static_cast<T>(code.data()[n]);
  }
  encoder.add(got, at);
  CHECK(reference::bit_difference(numbers(got), numbers(sum)) == "");
  encoder.encode(at, got);
  CHECK(reference::bit_difference(numbers(got), numbers(rounded)) == "");
  Eigen::Tensor<T, 3> columns(6, 5, 2);  // the same memory
  std::copy_n(x.data(), x.size(), columns.data());
  encoder.add(columns, at);
  std::copy_n(columns.data(), x.size(), got.data());
  CHECK(reference::bit_difference(numbers(got), numbers(sum)) == "");
  got = x;
  for (index_t t = 0; t < 5; ++t) encoder.add(tensor_view<T, 3>(&got(0, t, 0), {2, 1, 6}, {30, 6, 1}), at.slice(t, 1));
  CHECK(reference::bit_difference(numbers(got), numbers(sum)) == "");
}

TEST_CASE("points have the codes of their coordinates", "[learnable_fourier_features]") {
  const auto encoder = made<float>(boxes);
  const auto points = random_tensor<tensor3<float>>(2, 2, 3, 4);
  Eigen::Tensor<float, 3> columns(4, 3, 2);
  std::copy_n(points.data(), points.size(), columns.data());
  std::vector<double> by_axis;
  for (index_t a = 0; a < 4; ++a)
    for (index_t b = 0; b < 2; ++b)
      for (index_t t = 0; t < 3; ++t) by_axis.push_back(static_cast<double>(points(b, t, a)));
  tensor3<float> expected(2, 3, 6), got(2, 3, 6), from_columns(2, 3, 6);
  encoder.encode(coordinates::values(by_axis, 4, 2), expected);
  encoder.encode(points, got);
  CHECK(reference::bit_difference(got, expected) == "");
  encoder.encode(columns, from_columns);
  CHECK(reference::bit_difference(from_columns, expected) == "");
  tensor3<float> none(0, 3, 6);
  encoder.encode(tensor3<float>(0, 3, 4), none);
}

TEST_CASE("learnable Fourier features have the same bits on any number of threads, and tabulated", "[learnable_fourier_features]") {
  const auto encoder = made<float>({.dim = 48, .axes = 2, .features = 32, .hidden = 16});
  const auto at = spaced_grid({.extents = {40, 30}, .order = grid_order::slowest_first, .prefix = 1}, {{0, 1}, {-1, 1}});
  tensor3<float> alone(2, 1201, 48);
  encoder.encode(at, alone);
  for (const int threads : {2, 5}) {
    Eigen::ThreadPool pool(threads);
    const Eigen::ThreadPoolDevice device(&pool, threads);
    tensor3<float> together(2, 1201, 48);
    encoder.encode(at, together, device);
    CHECK(reference::bit_difference(together, alone) == "");
  }
  const auto line = made<double>({.dim = 4, .axes = 1, .features = 6, .hidden = 3});
  auto x = random_tensor<tensor3<double>>(1, 2, 9, 4), from_table = x;
  line.add(x, positions::range(9));
  tabulated(line, 9).add(from_table, positions::range(9));
  CHECK(reference::bit_difference(from_table, x) == "");
}

TEST_CASE("gradients of learnable Fourier features are those of finite differences", "[learnable_fourier_features]") {
  const auto check = [](const learnable_fourier_features_options& options, const auto& at, index_t batch) {
    auto encoder = made<double>(options);
    const auto d = random_tensor<tensor3<double>>(9, batch, at.time(), index_t{options.dim});
    gradient_buffer<double> gradients(encoder.parameters());
    encoder.encode_backward(at, d, gradients.spans(), -1.5);
    auto parameters = encoder.parameters();
    for (std::size_t n = 0; n < parameters.size(); ++n) {
      INFO(parameters[n].name);
      tensor3<double> code(batch, at.time(), index_t{options.dim});
      const auto loss = [&] {
        encoder.encode(at, code);
        return -1.5 * reference::dot(code, d);
      };
      const auto expected = reference::derivatives(parameters[n].values, loss, 1e-5);
      CHECK(reference::difference(gradients.spans()[n], expected, 3e-8) == "");
    }
  };
  check(boxes, random_coordinates(4, 2, 5), 2);
  check(boxes, random_coordinates(4, 0, 5), 3);
  check({.dim = 3, .axes = 1, .features = 4, .hidden = 3}, positions::range(6, -2), 2);
  // More tokens, or bands, than a block has.
  check({.dim = 3, .axes = 1, .features = 4, .hidden = 3}, random_coordinates(1, 2, 67), 2);
  check({.dim = 2, .axes = 3, .features = 130, .hidden = 2}, random_coordinates(3, 2, 3), 2);
}

TEST_CASE("gradients of points are those of finite differences", "[learnable_fourier_features]") {
  const auto encoder = made<double>(boxes);
  auto points = random_tensor<tensor3<double>>(4, 2, 3, 4);
  for (index_t a = 0; a < 4; ++a) points(1, 0, a) = no_coordinate;
  const auto d = random_tensor<tensor3<double>>(9, 2, 3, 6);
  tensor3<double> d_points(2, 3, 4), code(2, 3, 6);
  d_points.setConstant(9);
  auto trained = encoder;
  gradient_buffer<double> gradients(trained.parameters()), without(trained.parameters());
  encoder.encode_backward(points, d, d_points, gradients.spans());
  const auto loss = [&] {
    encoder.encode(points, code);
    return reference::dot(code, d);
  };
  const auto expected = reference::derivatives({points.data(), 24}, loss, 1e-5);
  CHECK(reference::difference(d_points, expected, 3e-8) == "");
  for (index_t a = 0; a < 4; ++a) CHECK(d_points(1, 0, a) == 0);
  std::vector<double> by_axis;
  for (index_t a = 0; a < 4; ++a)
    for (index_t n = 0; n < 6; ++n) by_axis.push_back(points.data()[4 * n + a]);
  encoder.encode_backward(coordinates::values(by_axis, 4, 2), d, without.spans());
  for (std::size_t n = 0; n < 5; ++n) CHECK(reference::bit_difference(gradients.spans()[n], without.spans()[n]) == "");

  auto in_place = points;
  encoder.encode_backward(in_place, d, in_place, without.spans());
  CHECK(reference::bit_difference(in_place, d_points) == "");
}

TEST_CASE("learnable Fourier features train among others", "[learnable_fourier_features]") {
  const auto encoder = made<double>({.dim = 4, .axes = 1, .features = 6, .hidden = 3});
  const auto at = positions::range(5);
  const auto d = random_tensor<tensor3<double>>(9, 2, 5, 4);
  auto trained = encoder;
  gradient_buffer<double> own(trained.parameters());
  encoder.encode_backward(at, d, own.spans());
  auto both = compose(encoder, learned<double>({.rows = 5, .dim = 4}));
  gradient_buffer<double> together(both.parameters());
  auto d_x = d;
  encode_embeddings_backward(both, d_x, at, together.spans());
  CHECK(reference::bit_difference(d_x, d) == "");
  for (std::size_t n = 0; n < 5; ++n) CHECK(reference::bit_difference(together.spans()[n], own.spans()[n]) == "");
}

TEST_CASE("learnable Fourier features have the parameters of the code that most have copied", "[learnable_fourier_features]") {
  auto encoder = made<float>(boxes);
  const auto parameters = encoder.parameters();
  REQUIRE(parameters.size() == 5);
  const std::array<std::string_view, 5> names{"Wr.weight", "mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"};
  const std::array<std::vector<index_t>, 5> shapes{{{4, 2}, {5, 8}, {5}, {3, 5}, {3}}};
  for (std::size_t n = 0; n < 5; ++n) {
    CHECK(parameters[n].name == names[n]);
    CHECK(parameters[n].shape == shapes[n]);
    auto other = encoder;
    CHECK(other == encoder);
    other.parameters()[n].values.back() += 1;
    CHECK(other != encoder);
  }
  CHECK(learnable_fourier_features<float>({.dim = 2, .axes = 1, .features = 4, .hidden = 3, .groups = 1}) !=
        learnable_fourier_features<float>({.dim = 4, .axes = 1, .features = 4, .hidden = 3, .groups = 2}));
  random_source one(1), same(1);
  const auto drawn = [](random_source& random) { return learnable_fourier_features<float>(boxes, 2, gamma_rule::variance, random); };
  CHECK(drawn(one) == drawn(same));
  CHECK(drawn(one) != drawn(one));
}

TEST_CASE("learnable Fourier features refuse what they cannot do", "[learnable_fourier_features]") {
  using reference::refuses;
  const std::string who = "[learnable_fourier_features] ";
  const auto with = [](learnable_fourier_features_options options) { return [=] { learnable_fourier_features<float> encoder(options); }; };
  refuses(who + "dim must be positive but got 0", with({.dim = 0, .axes = 1, .features = 2, .hidden = 1}));
  refuses(who + "features must be positive and even but got 0", with({.dim = 2, .axes = 1, .features = 0, .hidden = 1}));
  refuses(who + "features must be positive and even but got 3", with({.dim = 2, .axes = 1, .features = 3, .hidden = 1}));
  refuses(who + "hidden must be positive but got 0", with({.dim = 2, .axes = 1, .features = 2, .hidden = 0}));
  refuses(who + "groups times axes must be 1 to 8 but got 1 and 0", with({.dim = 2, .axes = 0, .features = 2, .hidden = 1}));
  refuses(who + "groups times axes must be 1 to 8 but got 0 and 1", with({.dim = 2, .axes = 1, .features = 2, .hidden = 1, .groups = 0}));
  refuses(who + "groups times axes must be 1 to 8 but got 3 and 3", with({.dim = 3, .axes = 3, .features = 2, .hidden = 1, .groups = 3}));
  refuses(who + "groups must divide dim but got 2 and 3", with({.dim = 3, .axes = 1, .features = 2, .hidden = 1, .groups = 2}));
  constexpr index_t huge = index_t{1} << 62;
  refuses(who + "the size in bytes must fit in 63 bits but got [2305843009213693952, 2]",
          with({.dim = 2, .axes = 2, .features = huge, .hidden = 1}));
  random_source random(1);
  const auto drawn = [&](double gamma) { learnable_fourier_features<float> encoder(boxes, gamma, gamma_rule::variance, random); };
  refuses(who + "gamma must be positive, and gamma^-2 finite but got 0", [&] { drawn(0); });
  refuses(who + "gamma must be positive, and gamma^-2 finite but got -1", [&] { drawn(-1); });
  refuses(who + "gamma must be positive, and gamma^-2 finite but got nan", [&] { drawn(no_coordinate); });
  refuses(who + "gamma must be positive, and gamma^-2 finite but got 1e-200", [&] { drawn(1e-200); });

  const auto encoder = made<float>(boxes);
  auto out = random_tensor<tensor3<float>>(1, 2, 3, 6);
  auto points = random_tensor<tensor3<float>>(1, 2, 3, 4), narrow = random_tensor<tensor3<float>>(1, 2, 3, 3);
  const auto short_of_one = random_tensor<tensor3<float>>(1, 2, 2, 4);
  refuses(out, who + "points must have a coordinate for each axis of each group but got 4 and 3", [&] { encoder.encode(narrow, out); });
  refuses(out, who + "time must match the positions but got 3 and 2", [&] { encoder.encode(short_of_one, out); });
  refuses(out, who + "the positions must have as many axes as the encoder but got 4 and 1", [&] { encoder.add(out, positions::range(3)); });
  refuses(narrow, who + "channels must equal dim but got 6 and 3", [&] { encoder.encode(points, narrow); });
  points(1, 2, 3) = std::numeric_limits<float>::infinity();
  refuses(out, "[coordinates] coordinates must be finite but got inf", [&] { encoder.encode(points, out); });
  points(1, 2, 3) = 0;

  auto trained = encoder;
  gradient_buffer<float> gradients(trained.parameters());
  const auto spans = gradients.spans();
  const auto at = random_coordinates(4, 2, 3);
  refuses(who + "there must be one gradient span per parameter but got 5 and 4", [&] { encoder.encode_backward(at, out, spans.first(4)); });
  for (std::size_t n = 0; n < 5; ++n) {
    std::vector<std::span<float>> wrong(spans.begin(), spans.end());
    wrong[n] = wrong[n].first(1);
    const std::array<std::string, 5> sizes{"8", "40", "5", "15", "3"};
    refuses(who + "gradient spans must have the sizes of the parameters but got " + sizes[n] + " and 1",
            [&] { encoder.encode_backward(at, out, wrong); });
    refuses(points, who + "gradient spans must have the sizes of the parameters but got " + sizes[n] + " and 1",
            [&] { encoder.encode_backward(points, out, points, wrong); });
  }
  refuses(narrow, who + "gradients must have the shapes of what they are of but got [2, 3, 4] and [2, 3, 3]",
          [&] { encoder.encode_backward(points, out, narrow, spans); });
  refuses(points, who + "channels must equal dim but got 6 and 4", [&] { encoder.encode_backward(points, points, points, spans); });
  for (const auto& span : spans) CHECK(std::ranges::all_of(span, [](float value) { return value == 0; }));
}
