// SPDX-License-Identifier: MIT
#include <posenc/relative/fire.hpp>

#include <posenc/relative/kerple.hpp>

#include "catch.hpp"
#include "reference/mlp.hpp"
#include "reference/refuses.hpp"
#include "reference/relative_bias.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;

/// Formed with logarithms to the base of the normalizer's argument.
template <class S>
double formula(const fire<S>& encoder, double c, double threshold, index_t head, position query, position key) {
  const long double farthest = std::fmax(static_cast<long double>(query), threshold), size = std::fabs(static_cast<long double>(c));
  const long double x =
      key >= query ? 0.0L : std::log(1 + size * static_cast<long double>(query - key)) / (std::log(1 + size * farthest) + 1e-6L);
  return static_cast<double>(
      reference::mlp(encoder.network().values(), 1, false, mlp_activation::relu, {x})[static_cast<std::size_t>(head)]);
}

/// f(x) = w_h x + b_h for x >= 0.
mlp<double> line(std::vector<double> weights, std::vector<double> biases) {
  mlp<double> network(
      {.in = 1, .out = static_cast<index_t>(weights.size()), .hidden = {1}, .activation = mlp_activation::relu, .prefix = "mlp."});
  network.parameters()[0].values[0] = 1;
  std::ranges::copy(weights, network.parameters()[2].values.begin());
  std::ranges::copy(biases, network.parameters()[3].values.begin());
  return network;
}

const attention_positions below{positions::range(40), positions::range(40)}, beyond{positions::range(41), positions::range(41)};

}  // namespace

TEMPLATE_TEST_CASE("fire is its formula on both sides of the threshold, everywhere the same", "[fire]", float, double) {
  random_source random(2);
  for (const double c : {0.1, -2.5}) {
    const fire<TestType> encoder({.heads = 3, .mlp_width = 21, .init_c = c, .init_L = 40}, random);
    reference::check_bias<TestType>(encoder, std::is_same_v<TestType, float> ? 2e-6 : 1e-14, [&](index_t h, position i, position j) {
      return formula(encoder, static_cast<double>(static_cast<TestType>(c)), 40, h, i, j);
    });
    CHECK_FALSE(encoder.prepare(below).values().empty());
    CHECK(encoder.prepare(beyond).values().empty());  // a query at 40
  }
}
TEST_CASE("fire biases 16-bit scores", "[fire]") {
  random_source random(2);
  const fire<float> encoder({.heads = 2, .init_L = 40}, random);
  const auto of = [&](index_t h, position i, position j) { return formula(encoder, static_cast<double>(0.1f), 40, h, i, j); };
  reference::check_bias<Eigen::half>(encoder, 1e-3, of);
  reference::check_bias<Eigen::bfloat16>(encoder, 8e-3, of);
}

TEST_CASE("fire has the values of its formula", "[fire]") {
  const fire<double> encoder({.heads = 2, .init_c = 1, .init_L = 15}, line({-3, 2}, {0, 0.5}));
  CHECK(std::abs(encoder.value(0, 9, 6) - -3 * std::log(4.0) / (std::log(16.0) + 1e-6)) < 1e-15);
  CHECK(std::abs(encoder.value(1, 31, 0) - (2 * std::log(32.0) / (std::log(32.0) + 1e-6) + 0.5)) < 1e-15);  // beyond the threshold
  CHECK(encoder.value(1, 9, 9) == 0.5);
  CHECK(encoder.value(1, 9, 100) == 0.5);  // a key after the query
  CHECK(encoder.value(1, 31, 32) == 0.5);
  CHECK(std::abs(encoder.value(0, -5, -8) - encoder.value(0, 9, 6)) == 0);
}

TEST_CASE("fire with a straight line is kerple_log below the threshold", "[fire]") {
  const double c = 0.25, p = 1.5, normalizer = std::log1p(c * 512) + 1e-6;
  const fire<double> encoder({.heads = 1, .init_c = c}, line({-p * normalizer}, {0}));
  const kerple_log<double> kerple(std::vector<double>{p}, std::vector<double>{c});
  for (const position key : {0, 1, 300, 500}) CHECK(std::abs(encoder.value(0, 500, key) - kerple.value(0, 500, key)) < 1e-14);
}

TEST_CASE("fire has exact gradients", "[fire]") {
  random_source random(9);
  // One case has a query at the threshold, where central differences halve the multiplier's too.
  for (const double c : {0.3, -0.05})
    reference::check_bias_gradient(fire<double>({.heads = 2, .mlp_width = 5, .init_c = c, .init_L = 40}, random), 1e-5);
  fire<double> trained({.heads = 2, .mlp_width = 3, .init_L = 10}, random);
  trained.parameters()[1].values[0] = -1.7;
  CHECK(trained.threshold() == 17);
  reference::check_bias_gradient(trained, 1e-5);
  trained.parameters()[0].values[0] = 0;  // all distances are 0: the derivative of |c| there is taken as 0
  gradient_buffer<double> gradients(trained.parameters());
  reference::score_tensor<double> d(1, 2, 1, 4);
  d.setConstant(1);
  trained.bias_backward(d, attention_positions{positions::range(1, 3), positions::range(4)}, gradients.spans());
  CHECK((gradients.spans()[0][0] == 0 && gradients.spans()[1][0] == 0 && gradients.spans()[5][0] == 4));
}

TEST_CASE("fire in float has the gradient in double, rounded", "[fire]") {
  random_source random(4);
  fire<float> encoder({.heads = 2, .init_c = 0.125, .init_L = 10}, random);
  mlp<double> network(encoder.network());
  fire<double> exact({.heads = 2, .init_c = 0.125, .init_L = 10}, network);
  reference::score_tensor<float> d = random_tensor<reference::score_tensor<float>>(1, 1, 2, 30, 30);
  reference::score_tensor<double> d_exact = d.cast<double>();
  gradient_buffer<float> gradients(encoder.parameters());
  gradient_buffer<double> wanted(exact.parameters());
  const attention_positions at{positions::range(30), positions::range(30)};
  encoder.bias_backward(d, at, gradients.spans());
  exact.bias_backward(d_exact, at, wanted.spans());
  for (std::size_t n = 0; n < wanted.spans().size(); ++n)
    for (std::size_t k = 0; k < wanted.spans()[n].size(); ++k) CHECK(gradients.spans()[n][k] == static_cast<float>(wanted.spans()[n][k]));
}

TEST_CASE("fire has the same bits with any number of threads", "[fire]") {
  random_source random(4);
  fire<float> encoder({.heads = 2, .init_L = 10}, random);
  const attention_positions at{positions::range(60), positions::range(60)};
  const auto before = random_tensor<reference::score_tensor<float>>(1, 2, 2, 60, 60);
  auto alone = before, shared = before;
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  encoder.bias(alone, at);
  encoder.bias(shared, at, device);
  CHECK(reference::bit_difference(shared, alone) == "");
  gradient_buffer<float> one(encoder.parameters()), many(encoder.parameters());
  encoder.bias_backward(alone, at, one.spans());
  encoder.bias_backward(shared, at, many.spans(), device);
  for (std::size_t n = 0; n < one.spans().size(); ++n) CHECK(std::ranges::equal(one.spans()[n], many.spans()[n]));
}

TEST_CASE("fire names its parameters as its code does, and compares them", "[fire]") {
  random_source random(1), again(1);
  fire<float> encoder({.heads = 12}, random);
  std::string names;
  for (const auto& one : encoder.parameters()) (names += one.name) += " ";
  CHECK(names == "c L_multiplier mlp.0.weight mlp.0.bias mlp.2.weight mlp.2.bias ");
  CHECK(encoder.parameters()[0].shape.empty());
  CHECK(encoder.parameters()[4].shape == std::vector<index_t>{12, 32});
  CHECK(encoder.parameters()[0].values[0] == 0.1f);
  CHECK(encoder.threshold() == 512);
  CHECK(encoder == fire<float>({.heads = 12}, again));
  for (const std::size_t n : {0u, 1u, 2u}) {
    auto other = encoder;
    other.parameters()[n].values[0] += 1;
    CHECK_FALSE(other == encoder);
  }
}

TEST_CASE("fire refuses options that make no sense", "[fire]") {
  random_source random(1);
  const auto made = [&](const fire_options& options) { fire<double> encoder(options, random); };
  const double infinite = std::numeric_limits<double>::infinity();
  reference::refuses("[fire] heads must be positive but got 0", [&] { made({.heads = 0}); });
  reference::refuses("[fire] mlp_width must be positive but got -1", [&] { made({.heads = 1, .mlp_width = -1}); });
  reference::refuses("[fire] init_c must be finite but got nan", [&] { made({.heads = 1, .init_c = std::nan("")}); });
  reference::refuses("[fire] init_L must be positive and finite but got 0", [&] { made({.heads = 1, .init_L = 0}); });
  reference::refuses("[fire] init_L must be positive and finite but got inf", [&] { made({.heads = 1, .init_L = infinite}); });
  reference::refuses("[fire] the network must have one input and an output per head but got 3 and 1 and 2",
                     [&] { fire<double>({.heads = 3}, line({1, 2}, {0, 0})); });
  reference::refuses("[fire] the network must have one input and an output per head but got 3 and 2 and 3",
                     [&] { fire<double>({.heads = 3}, mlp<double>({.in = 2, .out = 3, .activation = mlp_activation::relu})); });
}
