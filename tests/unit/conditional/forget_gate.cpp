// SPDX-License-Identifier: MIT
#include <posenc/conditional/forget_gate.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/forgetting.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
template <class S>
using tensor = Eigen::Tensor<S, 3, Eigen::RowMajor>;
using reference::bit_difference;

constexpr index_t dim_ = 21, gates_ = 3;

template <class S>
forget_gate<S> random_gate(double log_scale = 1) {
  random_source random(4);
  forget_gate<S> gate({.dim = dim_, .gates = gates_, .bias = 0.5, .log_scale = log_scale}, random);
  return gate;
}

}  // namespace

TEMPLATE_TEST_CASE("forget_gate is the logarithm of a sigmoid of a projection", "[forget_gate]", float, double) {
  auto gate = random_gate<TestType>(0.75);
  const auto x = random_tensor<tensor<TestType>>(1, 2, 70, dim_);
  tensor<TestType> got(2, 70, gates_);
  gate.log_gates(x, got);
  const auto all = gate.parameters();
  double worst = 0;
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 70; ++t)
      for (index_t g = 0; g < gates_; ++g) {
        long double logit = static_cast<long double>(all[1].values[static_cast<std::size_t>(g)]);
        for (index_t c = 0; c < dim_; ++c)
          logit += static_cast<long double>(x(b, t, c)) * static_cast<long double>(all[0].values[static_cast<std::size_t>(g * dim_ + c)]);
        const long double truth = 0.75L * reference::log_sigmoid(logit);
        worst = std::max(worst, static_cast<double>(std::abs(static_cast<long double>(got(b, t, g)) - truth)));
      }
  CHECK(worst <= 8 * static_cast<double>(std::numeric_limits<TestType>::epsilon()));

  // A token alone, rows that lie apart, and columns first.
  tensor<TestType> one(1, 1, gates_);
  gate.log_gates(tensor_view<const TestType, 3>(&x(1, 67, 0), {1, 1, dim_}), one);
  for (index_t g = 0; g < gates_; ++g) CHECK(reference::same_bits(one(0, 0, g), got(1, 67, g)));
  const Eigen::Tensor<TestType, 3> by_columns = x.swap_layout();
  std::vector<TestType> wide(2 * 70 * 5);
  gate.log_gates(by_columns, tensor_view<TestType, 3>(wide.data(), {2, 70, gates_}, {70 * 5, 5, 1}));
  for (index_t n = 0; n < 140; ++n)
    for (index_t g = 0; g < 5; ++g)
      CHECK(wide[static_cast<std::size_t>(n * 5 + g)] == (g < gates_ ? got.data()[n * gates_ + g] : TestType(0)));
}

TEST_CASE("forget_gate begins as it is told to", "[forget_gate]") {
  random_source random(9);
  forget_gate<float> plain({.dim = 4, .gates = 2}), drawn({.dim = 4, .gates = 2, .bias = -1}, random);
  CHECK(std::ranges::all_of(plain.parameters()[0].values, [](float value) { return value == 0; }));
  CHECK(std::ranges::all_of(plain.parameters()[1].values, [](float value) { return value == 5; }));
  CHECK(plain.parameters()[0].name == "weight");
  CHECK(plain.parameters()[0].shape == std::vector<index_t>{2, 4});
  CHECK(plain.parameters()[1].name == "bias");
  CHECK(plain.parameters()[1].shape == std::vector<index_t>{2});
  random_source again(9);
  const auto weights = drawn.parameters()[0];
  for (const float value : weights.values) CHECK(value == static_cast<float>(again.uniform(-0.5, 0.5)));
  CHECK(std::ranges::all_of(drawn.parameters()[1].values, [](float value) { return value == -1; }));
  CHECK_FALSE(plain == drawn);
  CHECK(plain == forget_gate<float>({.dim = 4, .gates = 2}));
}

TEST_CASE("FoX's biases forget within the times that are asked for", "[forget_gate]") {
  const auto biases = forget_gate_biases(4, 1.0 / 8192, 512);
  const double times[] = {0x1p-13, 0x1p-19 * 0x1p6 * std::exp2(22.0 / 3), std::exp2(-13 + 44.0 / 3), 512};
  forget_gate<double> gate({.dim = 0, .gates = 4});
  CHECK(gate.parameters().size() == 1);
  std::ranges::copy(biases, gate.parameters()[0].values.begin());
  tensor<double> got(1, 2, 4);
  gate.log_gates(tensor_view<const double, 3>(nullptr, {1, 2, 0}), got);
  for (index_t t = 0; t < 2; ++t)
    for (index_t h = 0; h < 4; ++h) {
      const double wanted = -1 / times[h];
      CHECK(std::abs(got(0, t, h) - wanted) <= 2e-14 * std::abs(wanted));
    }
  CHECK(std::abs(biases[3] + std::log(std::expm1(1.0 / 512))) <= 1e-13);
  CHECK(std::abs(forget_gate_biases(1, 2, 300)[0] + std::log(std::expm1(0.5))) <= 1e-15);
}

TEMPLATE_TEST_CASE("hidden states of 16 bits are widened", "[forget_gate]", Eigen::half, Eigen::bfloat16) {
  const auto gate = random_gate<float>();
  const tensor<TestType> x = random_tensor<tensor<float>>(1, 2, 66, dim_).template cast<TestType>();
  const tensor<float> wide = x.template cast<float>();
  tensor<float> got(2, 66, gates_), wanted(2, 66, gates_), d_x(2, 66, dim_), d_wide(2, 66, dim_);
  gate.log_gates(x, got);
  gate.log_gates(wide, wanted);
  CHECK(bit_difference(got, wanted) == "");
  d_x.setZero(), d_wide.setZero();
  auto own = random_gate<float>();
  gradient_buffer<float> d(own.parameters()), d_of_wide(own.parameters());
  gate.backward(x, got, d_x, d.spans());
  gate.backward(wide, wanted, d_wide, d_of_wide.spans());
  CHECK(bit_difference(d_x, d_wide) == "");
  CHECK(bit_difference(d.spans()[0], d_of_wide.spans()[0]) == "");
}

TEST_CASE("the gradients of forget_gate are those of finite differences", "[forget_gate]") {
  for (const double log_scale : {1.0, 0.75}) {
    auto gate = random_gate<double>(log_scale);
    auto x = random_tensor<tensor<double>>(1, 2, 67, dim_);
    const auto d = random_tensor<tensor<double>>(2, 2, 67, gates_);
    const auto loss = [&] {
      tensor<double> all(2, 67, gates_);
      gate.log_gates(x, all);
      return reference::dot(all, d);
    };
    tensor<double> d_x(2, 67, dim_);
    d_x.setConstant(2);
    gradient_buffer<double> d_parameters(gate.parameters());
    for (const auto& span : d_parameters.spans()) std::ranges::fill(span, 1.0);
    gate.backward(x, d, d_x, d_parameters.spans());
    std::size_t n = 0;
    for (auto& one : gate.parameters()) {
      const auto wanted = reference::derivatives(one.values, loss, 1e-5);
      for (std::size_t k = 0; k < wanted.size(); ++k) CHECK(std::abs(d_parameters.spans()[n][k] - 1 - wanted[k]) <= 1e-7);
      ++n;
    }
    const std::span<double> some(&x(1, 64, 0), 3 * dim_);  // across the end of a block of rows
    const auto wanted = reference::derivatives(some, loss, 1e-5);
    for (std::size_t k = 0; k < wanted.size(); ++k) CHECK(std::abs((&d_x(1, 64, 0))[k] - 2 - wanted[k]) <= 1e-7);
    gradient_buffer<double> alone(gate.parameters());
    gate.backward(x, d, {}, alone.spans());
    for (std::size_t k = 0; k < 2; ++k)
      for (std::size_t m = 0; m < alone.spans()[k].size(); ++m)
        CHECK(std::abs(alone.spans()[k][m] + 1 - d_parameters.spans()[k][m]) <= 1e-12);
  }
  // Gates of the bias alone.
  forget_gate<double> fixed({.dim = 0, .gates = 2, .bias = 0});
  gradient_buffer<double> d_fixed(fixed.parameters());
  tensor<double> d(1, 3, 2);
  d.setConstant(1);
  fixed.backward(tensor_view<const double, 3>(nullptr, {1, 3, 0}), d, {}, d_fixed.spans());
  CHECK(d_fixed.spans()[0][0] == 1.5);  // three times a slope of 1/2
  CHECK(d_fixed.spans()[0][1] == 1.5);
}

TEST_CASE("forget_gate refuses what does not fit, before it writes", "[forget_gate]") {
  using reference::refuses;
  const auto refused = [](const std::string& text, const forget_gate_options& options) {
    refuses("[forget_gate] " + text, [&] { forget_gate<float> gate(options); });
  };
  refused("dim must not be negative but got -1", {.dim = -1, .gates = 1});
  refused("gates must be positive but got 0", {.dim = 1, .gates = 0});
  refused("bias must be finite but got inf", {.dim = 1, .gates = 1, .bias = std::numeric_limits<double>::infinity()});
  refused("the scale must be finite and not negative but got -2", {.dim = 1, .gates = 1, .log_scale = -2});
  refuses("[forget_gate_biases] heads must be positive but got 0", [] { forget_gate_biases(0, 1, 2); });
  refuses("[forget_gate_biases] times must be positive and finite, and not fall but got 2 and 1", [] { forget_gate_biases(2, 2, 1); });
  refuses("[forget_gate_biases] times must be positive and finite, and not fall but got 0 and 1", [] { forget_gate_biases(2, 0, 1); });

  auto gate = random_gate<float>();
  std::vector<float> memory(4 * dim_, 1.0f);
  const tensor_view<float, 3> x(memory.data(), {1, 2, dim_}), narrow(memory.data(), {1, 2, 4}), gates(memory.data(), {1, 2, gates_}),
      fewer(memory.data(), {1, 1, gates_});
  refuses(memory, "[forget_gate] the hidden states must be [batch, token, dim] but got 21 and 4", [&] { gate.log_gates(narrow, gates); });
  refuses(memory, "[forget_gate] the log gates must be [batch, token, gate] but got [1, 2, 3] and [1, 1, 3]",
          [&] { gate.log_gates(x, fewer); });
  gradient_buffer<float> d(gate.parameters());
  refuses(memory, "[forget_gate] the hidden states must be [batch, token, dim] but got 21 and 4",
          [&] { gate.backward(narrow, gates, {}, d.spans()); });
  refuses(memory, "[forget_gate] the gradient of the log gates must be [batch, token, gate] but got [1, 2, 3] and [1, 1, 3]",
          [&] { gate.backward(x, fewer, {}, d.spans()); });
  refuses(memory, "[forget_gate] gradients must have the shapes of what they are of but got [1, 2, 21] and [1, 2, 4]",
          [&] { gate.backward(x, gates, narrow, d.spans()); });
  const std::span<float> two[] = {std::span(memory).first(5), std::span(memory).first(3)};
  refuses(memory, "[forget_gate] there must be one gradient span per parameter but got 2 and 1",
          [&] { gate.backward(x, gates, {}, std::span(two).first(1)); });
  refuses(memory, "[forget_gate] gradient spans must have the sizes of the parameters but got 63 and 5",
          [&] { gate.backward(x, gates, {}, two); });
}
