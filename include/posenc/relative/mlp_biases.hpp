// SPDX-License-Identifier: MIT
/// \file  Biases that a multilayer perceptron makes of one number per pair, and their gradient.
#pragma once

#include <posenc/config.hpp>
#include <posenc/mlp.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace POSENC_NAMESPACE::detail {

inline constexpr index_t mlp_rows = 64;  // pairs at a time

/// out[h * stride + n] = output head + h of the network for input(n), for n = 0 ... count - 1.
template <compute_scalar S>
void mlp_biases(const mlp<S>& network, index_t head, index_t heads, index_t count, auto&& input, S* out, index_t stride) {
  std::vector<S> x(mlp_rows), y(static_cast<std::size_t>(mlp_rows * heads)), workspace(static_cast<std::size_t>(network.workspace_size()));
  for (index_t from = 0, rows; from < count; from += rows) {
    rows = std::min(mlp_rows, count - from);
    for (index_t r = 0; r < rows; ++r) x[static_cast<std::size_t>(r)] = static_cast<S>(input(from + r));
    network.forward({x.data(), {rows, 1}}, {y.data(), {rows, heads}}, workspace, head);
    for (index_t h = 0; h < heads; ++h)
      for (index_t r = 0; r < rows; ++r) out[h * stride + from + r] = y[static_cast<std::size_t>(r * heads + h)];
  }
}

/// sums += the gradient of the network's parameters, in their order, where d[h * stride + n] is that of output h for input(n); then calls
/// d_input(n, gradient of input(n)). All in double.
template <compute_scalar S>
void mlp_bias_gradient(const mlp<S>& network, index_t count, auto&& input, const double* d, index_t stride, double* sums, auto&& d_input) {
  const mlp<double> exact(network);
  std::vector<std::span<double>> spans;
  for (const auto& values : exact.values()) {
    spans.emplace_back(sums, values.size());
    sums += values.size();
  }
  const index_t heads = exact.out();
  std::vector<double> x(mlp_rows), d_x(mlp_rows), d_y(static_cast<std::size_t>(mlp_rows * heads));
  for (index_t from = 0, rows; from < count; from += rows) {
    rows = std::min(mlp_rows, count - from);
    for (index_t r = 0; r < rows; ++r) {
      x[static_cast<std::size_t>(r)] = input(from + r);
      for (index_t h = 0; h < heads; ++h) d_y[static_cast<std::size_t>(r * heads + h)] = d[h * stride + from + r];
    }
    exact.backward({x.data(), {rows, 1}}, {d_y.data(), {rows, heads}}, {d_x.data(), {rows, 1}}, spans);
    for (index_t r = 0; r < rows; ++r) d_input(from + r, d_x[static_cast<std::size_t>(r)]);
  }
}

}  // namespace POSENC_NAMESPACE::detail
