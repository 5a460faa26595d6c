// SPDX-License-Identifier: MIT
#include <posenc/mlp.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/mlp.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using activation = mlp_activation;

template <class S>
using matrix = Eigen::Tensor<S, 2, Eigen::RowMajor>;

/// Every kind of layer, shallow and deep; widths below, at and above a vector's.
std::vector<mlp_options> all_options() {
  return {{.in = 1, .out = 3, .activation = activation::relu},
          {.in = 2, .out = 5, .hidden = {33}, .activation = activation::relu, .output_bias = false},  // Swin v2
          {.in = 2, .out = 4, .hidden = {7, 16, 5}, .activation = activation::relu, .layer_norm = true},  // CrossFormer
          {.in = 1, .out = 2, .hidden = {17, 17}, .activation = activation::silu},  // x-transformers
          {.in = 3, .out = 1, .hidden = {4, 9}, .activation = activation::silu, .layer_norm = true, .output_bias = false},
          {.in = 4, .out = 3, .hidden = {18}, .activation = activation::gelu},
          {.in = 3, .out = 2, .hidden = {5, 4}, .activation = activation::gelu, .layer_norm = true}};
}

/// With layer norms that are trained.
template <class S>
mlp<S> network_of(const mlp_options& options) {
  random_source random(5);
  mlp<S> network(options, random);
  random_numbers more(6);
  for (auto& one : network.parameters())
    for (S& value : one.values) value += more.real<S>() / 2;
  return network;
}

template <class S>
void check_forward(double tolerance) {
  for (const auto& options : all_options()) {
    const auto network = network_of<S>(options);
    constexpr index_t rows = 131;  // two blocks and a rest
    const auto x = random_tensor<matrix<S>>(1, rows, network.in());
    matrix<S> y(rows, network.out()), alone(rows, network.out()), apart(rows, network.out());
    network.forward(x, y);
    std::vector<S> workspace(static_cast<std::size_t>(network.workspace_size()));
    index_t wrong = 0;
    for (index_t r = 0; r < rows; ++r) {
      std::vector<long double> in(static_cast<std::size_t>(network.in()));
      for (index_t c = 0; c < network.in(); ++c) in[static_cast<std::size_t>(c)] = static_cast<long double>(x(r, c));
      const auto wanted = reference::mlp(network.values(), options.hidden.size(), options.layer_norm, options.activation, in);
      for (index_t o = 0; o < network.out(); ++o) {
        const auto exact = static_cast<double>(wanted[static_cast<std::size_t>(o)]);
        wrong += !(std::abs(static_cast<double>(y(r, o)) - exact) <= tolerance * (1 + std::abs(exact)));
        network.forward(tensor_view<const S, 2>(&x(r, 0), {1, network.in()}), tensor_view<S, 2>(&alone(r, o), {1, 1}), workspace, o);
      }
    }
    CHECK(wrong == 0);
    CHECK(reference::bit_difference(alone, y) == "");
    // Rows that lie apart, backwards.
    matrix<S> wide(rows, network.in() + 2);
    for (index_t r = 0; r < rows; ++r)
      for (index_t c = 0; c < network.in(); ++c) wide(rows - 1 - r, c + 1) = x(r, c);
    network.forward(tensor_view<const S, 2>(&wide(rows - 1, 1), {rows, network.in()}, {-(network.in() + 2), 1}), apart);
    CHECK(reference::bit_difference(apart, y) == "");
  }
}

}  // namespace

TEST_CASE("mlp is its layers one after the other, each row for itself", "[mlp]") {
  check_forward<float>(2e-5);
  check_forward<double>(2e-14);
}

TEST_CASE("mlp has hand-computed values", "[mlp]") {
  mlp<double> network({.in = 2, .out = 1, .hidden = {2}, .activation = activation::relu});
  const auto load = [&](std::size_t n, std::vector<double> values) { std::ranges::copy(values, network.parameters()[n].values.begin()); };
  load(0, {1, 2, -3, 1}), load(1, {0.5, 0.25}), load(2, {2, 4}), load(3, {-1});
  const auto of = [&](double a, double b) {
    double y = 0;
    const double x[] = {a, b};
    network.forward({x, {1, 2}}, {&y, {1, 1}});
    return y;
  };
  CHECK(of(1, 1) == 2 * 3.5 - 1);                // the second unit has -1.75
  CHECK(of(-1, 2) == 2 * 3.5 + 4 * 5.25 - 1);
  mlp<double> normed({.in = 1, .out = 2, .hidden = {2}, .activation = activation::relu, .layer_norm = true});
  std::ranges::copy(std::vector<double>{1, 3}, normed.parameters()[0].values.begin());
  std::ranges::copy(std::vector<double>{1, 0, 0, 1}, normed.parameters()[4].values.begin());
  double y[2];
  const double x = 2;
  normed.forward({&x, {1, 1}}, {y, {1, 2}});
  CHECK(y[0] == 0);  // 2 and 6: one deviation of 2 below and above the mean
  CHECK(std::abs(y[1] - 2 / std::sqrt(4 + 1e-5)) < 1e-15);
}

TEST_CASE("mlp has exact gradients", "[mlp]") {
  for (const auto& options : all_options()) {
    auto network = network_of<double>(options);
    constexpr index_t rows = 67;
    auto x = random_tensor<matrix<double>>(3, rows, network.in());
    const auto weights = random_tensor<matrix<double>>(4, rows, network.out());
    const auto loss = [&] {
      matrix<double> y(rows, network.out());
      network.forward(x, y);
      return reference::dot(y, weights);
    };
    gradient_buffer<double> gradients(network.parameters());
    matrix<double> d_x(rows, network.in());
    network.backward(x, weights, d_x, gradients.spans());
    const auto close = [](double a, double b) { return std::abs(a - b) <= 1e-5 * (1 + std::abs(b)); };
    std::size_t n = 0;
    for (auto& one : network.parameters()) {
      const auto wanted = reference::derivatives(one.values, loss, 1e-6);
      index_t wrong = 0;
      for (std::size_t c = 0; c < wanted.size(); ++c) wrong += !close(gradients.spans()[n][c], wanted[c]);
      INFO(one.name << " of " << options.hidden.size() << " hidden layers");
      CHECK(wrong == 0);
      ++n;
    }
    const auto by_x = reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, 1e-6);
    index_t wrong = 0;
    for (std::size_t c = 0; c < by_x.size(); ++c) wrong += !close(d_x.data()[c], by_x[c]);
    CHECK(wrong == 0);

    // Adds, and does not need the inputs' gradient.
    gradient_buffer<double> parts(network.parameters());
    const auto rows_of = [](const matrix<double>& of, index_t from, index_t count) {
      return tensor_view<const double, 2>(&of(from, 0), {count, of.dimension(1)});
    };
    network.backward(rows_of(x, 0, 5), rows_of(weights, 0, 5), {}, parts.spans());
    network.backward(rows_of(x, 5, rows - 5), rows_of(weights, 5, rows - 5), {}, parts.spans());
    for (std::size_t p = 0; p < parts.spans().size(); ++p) CHECK(std::ranges::equal(parts.spans()[p], gradients.spans()[p]));
  }
}

TEST_CASE("mlp names its parameters as torch does", "[mlp]") {
  const auto names = [](mlp<float> network) {
    std::string all;
    for (const auto& one : network.parameters()) {
      (all += one.name) += " ";
      for (const index_t extent : one.shape) all += std::to_string(extent) + " ";
    }
    return all;
  };
  CHECK(names(mlp<float>({.in = 2, .out = 3, .hidden = {5}, .activation = activation::relu, .output_bias = false})) ==
        "0.weight 5 2 0.bias 5 2.weight 3 5 ");
  CHECK(names(mlp<float>({.in = 2, .out = 3, .hidden = {5}, .activation = activation::relu, .layer_norm = true, .prefix = "pos."})) ==
        "pos.0.weight 5 2 pos.0.bias 5 pos.1.weight 5 pos.1.bias 5 pos.3.weight 3 5 pos.3.bias 3 ");
  CHECK(
      names(mlp<float>({.in = 1, .out = 3, .hidden = {5, 6}, .activation = activation::silu, .layer_norm = true, .nested_names = true})) ==
      "0.0.weight 5 1 0.0.bias 5 0.1.weight 5 0.1.bias 5 1.0.weight 6 5 1.0.bias 6 1.1.weight 6 1.1.bias 6 2.weight 3 6 2.bias 3 ");
}

TEST_CASE("mlp begins as torch's modules do, or with zeros", "[mlp]") {
  random_source random(1), again(1);
  const mlp_options options{.in = 16, .out = 100, .hidden = {400}, .activation = activation::relu, .layer_norm = true};
  mlp<float> network(options, random);
  const auto all = network.parameters();
  const auto most = [](const parameter<float>& one) {
    float value = 0;
    for (const float v : one.values) value = std::max(value, std::abs(v));
    return value;
  };
  for (const std::size_t n : {0u, 1u}) CHECK((most(all[n]) > 0.24f && most(all[n]) <= 0.25f));
  CHECK(std::ranges::count(all[2].values, 1.0f) == 400);
  CHECK(std::ranges::count(all[3].values, 0.0f) == 400);
  for (const std::size_t n : {4u, 5u}) CHECK((most(all[n]) > 0.048f && most(all[n]) <= 0.05f));
  CHECK(network == mlp<float>(options, again));
  CHECK_FALSE(network == mlp<float>(options, again));

  mlp<float> zeros(options);
  for (const std::size_t n : {0u, 1u, 3u, 4u, 5u}) CHECK(most(zeros.parameters()[n]) == 0);
  CHECK(std::ranges::count(zeros.parameters()[2].values, 1.0f) == 400);
  CHECK_FALSE(zeros == network);

  const mlp<double> wider(network);
  CHECK(mlp<float>(wider) == network);
  CHECK(wider.values()[0][7] == static_cast<double>(network.values()[0][7]));

  mlp<float> copy = network;  // with parameters of its own
  copy.parameters()[4].values[0] += 1;
  CHECK_FALSE(copy == network);
  CHECK(mlp<float>({.in = 1, .out = 1, .activation = activation::relu}).workspace_size() == 0);
}

TEST_CASE("mlp: what is far from 0 stays finite", "[mlp]") {
  mlp<float> network({.in = 1, .out = 1, .hidden = {1}, .activation = activation::silu});
  network.parameters()[0].values[0] = network.parameters()[2].values[0] = 1;
  const float x[] = {-1000, 1000, -1e30f, 0}, d[] = {1, 1, 1, 1};
  float y[4], d_x[4];
  network.forward({x, {4, 1}}, {y, {4, 1}});
  CHECK(std::vector<float>(y, y + 4) == std::vector<float>{0, 1000, 0, 0});
  gradient_buffer<float> gradients(network.parameters());
  network.backward({x, {4, 1}}, {d, {4, 1}}, {d_x, {4, 1}}, gradients.spans());
  CHECK(std::vector<float>(d_x, d_x + 4) == std::vector<float>{0, 1, 0, 0.5f});

  network = mlp<float>({.in = 1, .out = 1, .hidden = {1}, .activation = activation::gelu});
  network.parameters()[0].values[0] = network.parameters()[2].values[0] = 1;
  network.forward({x, {4, 1}}, {y, {4, 1}});
  CHECK(std::vector<float>(y, y + 4) == std::vector<float>{0, 1000, 0, 0});
}

TEST_CASE("mlp refuses what does not fit", "[mlp]") {
  const auto made = [](mlp_options options) { mlp<float> network(options); };
  reference::refuses("[mlp] in must be positive but got 0", [&] { made({.in = 0, .out = 1, .activation = activation::relu}); });
  reference::refuses("[mlp] out must be positive but got -1", [&] { made({.in = 1, .out = -1, .activation = activation::relu}); });
  reference::refuses("[mlp] hidden channels must be positive but got 0",
                     [&] { made({.in = 1, .out = 1, .hidden = {2, 0}, .activation = activation::relu}); });
  reference::refuses("[mlp] the size in bytes must fit in 63 bits but got [4611686018427387904, 4]",
                     [&] { made({.in = 4, .out = 1, .hidden = {index_t{1} << 62}, .activation = activation::relu}); });

  const mlp<float> network({.in = 2, .out = 3, .hidden = {4}, .activation = activation::relu});
  std::vector<float> x(8, 1), y(12), workspace(512);
  const auto in = [&](index_t rows, index_t channels) { return tensor_view<const float, 2>(x.data(), {rows, channels}); };
  const auto out = [&](index_t rows, index_t channels) { return tensor_view<float, 2>(y.data(), {rows, channels}); };
  reference::refuses(y, "[mlp] the input must be [row, in] but got 2 and 3", [&] { network.forward(in(2, 3), out(2, 3)); });
  reference::refuses(y, "[mlp] the output must have a row for each of the input but got 2 and 3",
                     [&] { network.forward(in(2, 2), out(3, 3)); });
  reference::refuses(y, "[mlp] outputs must lie within out but got 3 and 0 and 4", [&] { network.forward(in(2, 2), out(2, 4)); });
  reference::refuses(y, "[mlp] outputs must lie within out but got 3 and 2 and 2",
                     [&] { network.forward(in(2, 2), out(2, 2), workspace, 2); });
  reference::refuses(y, "[mlp] outputs must lie within out but got 3 and -1 and 2",
                     [&] { network.forward(in(2, 2), out(2, 2), workspace, -1); });
  reference::refuses(y, "[mlp] the workspace must have workspace_size values but got 16 and 15",
                     [&] { network.forward(in(2, 2), out(2, 3), std::span(workspace).first(15)); });
  reference::refuses(y, "[mlp] the last axis must be contiguous but got 2",
                     [&] { network.forward(tensor_view<const float, 2>(x.data(), {2, 2}, {4, 2}), out(2, 3)); });
  reference::refuses(y, "[mlp] what is written must not overlap what is read but got [2, 2] and [2, 3]",
                     [&] { network.forward(tensor_view<const float, 2>(y.data() + 1, {2, 2}), out(2, 3)); });
  reference::refuses(y, "[mlp] the elements of an output must be distinct, with strides that nest but got [0, 1]",
                     [&] { network.forward(in(2, 2), tensor_view<float, 2>(y.data(), {2, 3}, {0, 1})); });

  auto trained = network;
  gradient_buffer<float> gradients(trained.parameters());
  std::vector<float> d(6, 1);
  const auto d_y = [&](index_t rows, index_t channels) { return tensor_view<const float, 2>(d.data(), {rows, channels}); };
  const auto backward = [&](const auto& of, const auto& d_x, auto spans) { network.backward(in(2, 2), of, d_x, spans); };
  reference::refuses(y, "[mlp] the output's gradient must be [row, out] but got [2, 3] and [3, 2]",
                     [&] { backward(d_y(3, 2), out(2, 2), gradients.spans()); });
  reference::refuses(y, "[mlp] gradients must have the shapes of what they are of but got [2, 2] and [2, 3]",
                     [&] { backward(d_y(2, 3), out(2, 3), gradients.spans()); });
  reference::refuses(y, "[mlp] what is written must not overlap what is read but got [2, 3] and [2, 2]",
                     [&] { backward(tensor_view<const float, 2>(y.data(), {2, 3}), out(2, 2), gradients.spans()); });
  reference::refuses(x, "[mlp] what is written must not overlap what is read but got [2, 2] and [2, 2]",
                     [&] { backward(d_y(2, 3), tensor_view<float, 2>(x.data(), {2, 2}), gradients.spans()); });
  reference::refuses(y, "[mlp] there must be one gradient span per parameter but got 4 and 3",
                     [&] { backward(d_y(2, 3), out(2, 2), gradients.spans().first(3)); });
  std::vector<std::span<float>> spans(gradients.spans().begin(), gradients.spans().end());
  spans[1] = spans[1].first(3);
  reference::refuses(y, "[mlp] gradient spans must have the sizes of the parameters but got 4 and 3",
                     [&] { backward(d_y(2, 3), out(2, 2), gradient_spans<float>(spans)); });
}
