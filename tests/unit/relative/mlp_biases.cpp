// SPDX-License-Identifier: MIT
#include <posenc/relative/mlp_biases.hpp>

#include "catch.hpp"
#include "random.hpp"

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

using namespace posenc;

// More pairs than are formed at a time, in memory with gaps, against the network itself on all of them at once.
TEST_CASE("mlp_biases are the network's outputs, head by head, and their gradients", "[mlp_biases]") {
  constexpr index_t heads = 3, count = 150, stride = count + 5;
  random_source random(1);
  const mlp<double> network({.in = 1, .out = heads, .hidden = {6}, .activation = mlp_activation::silu}, random);
  const auto inputs = random_vector<double>(2, count), d = random_vector<double>(3, heads * stride);
  const auto input = [&](index_t n) { return inputs[static_cast<std::size_t>(n)]; };
  std::vector<double> y(count * heads), d_y(count * heads), d_x(count), out(heads * stride, -7), two(2 * stride);
  for (index_t n = 0; n < count; ++n)
    for (index_t h = 0; h < heads; ++h) d_y[static_cast<std::size_t>(n * heads + h)] = d[static_cast<std::size_t>(h * stride + n)];
  network.forward({inputs.data(), {count, 1}}, {y.data(), {count, heads}});
  detail::mlp_biases(network, 0, heads, count, input, out.data(), stride);
  detail::mlp_biases(network, 1, 2, count, input, two.data(), stride);
  index_t wrong = 0;
  for (index_t h = 0; h < heads; ++h)
    for (index_t n = 0; n < stride; ++n) {
      const double wanted = n < count ? y[static_cast<std::size_t>(n * heads + h)] : -7;
      wrong += out[static_cast<std::size_t>(h * stride + n)] != wanted;
      if (h > 0 && n < count) wrong += two[static_cast<std::size_t>((h - 1) * stride + n)] != wanted;
    }
  CHECK(wrong == 0);

  auto trained = network;
  gradient_buffer<double> gradients(trained.parameters());
  network.backward({inputs.data(), {count, 1}}, {d_y.data(), {count, heads}}, {d_x.data(), {count, 1}}, gradients.spans());
  std::vector<double> wanted;
  for (const auto& span : gradients.spans())
    for (const double value : span) wanted.push_back(0.5 + value);
  std::vector<double> sums(wanted.size(), 0.5);  // added to
  std::vector<double> d_inputs(count);
  detail::mlp_bias_gradient(network, count, input, d.data(), stride, sums.data(),
                            [&](index_t n, double value) { d_inputs[static_cast<std::size_t>(n)] += value; });
  CHECK(d_inputs == d_x);
  for (std::size_t n = 0; n < wanted.size(); ++n) CHECK(std::abs(sums[n] - wanted[n]) < 1e-13);
}
