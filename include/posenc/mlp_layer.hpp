// SPDX-License-Identifier: MIT
/// \file  A hidden layer of a multilayer perceptron: linear, layer norm where it has one, activation.
#pragma once

#include <posenc/config.hpp>
#include <posenc/kernels/gelu.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/layer_norm.hpp>
#include <posenc/tensor.hpp>  // index_t, compute_scalar

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace POSENC_NAMESPACE {

enum class mlp_activation {
  relu,  ///< max(x, 0): FIRE, Swin v2, CrossFormer
  silu,  ///< x / (1 + exp(-x)): x-transformers
  gelu   ///< x Phi(x), exact: learnable Fourier features
};

namespace detail {

/// The functions are of `rows` rows `[row, channel]`, one after the other.
template <compute_scalar S>
struct mlp_layer {
  index_t in, out;
  std::vector<S> weight, bias, norm_weight, norm_bias;  // empty: there is none

  /// x `[row, in]` to linear, normed and active `[row, out]`, which may be one.
  void run(mlp_activation activation, const S* x, index_t x_row, index_t rows, S* linear, S* normed, S* active) const {
    kernels::linear<S>({.x = x,
                        .y = linear,
                        .tokens = rows,
                        .in = in,
                        .out = out,
                        .x_token = x_row,
                        .y_token = out,
                        .w = weight.data(),
                        .w_row = in,
                        .start = bias.empty() ? nullptr : bias.data()});
    if (norm_weight.empty()) {
      if (normed != linear) std::copy_n(linear, rows * out, normed);
    } else {
      for (index_t r = 0; r < rows; ++r) norm(linear + r * out, normed + r * out);
    }
    if (activation == mlp_activation::gelu)
      return kernels::gelu<S>({.in = normed, .out = active, .rows = rows, .channels = out, .in_row = out, .out_row = out});
    for (index_t n = 0; n < rows * out; ++n)
      active[n] = activation == mlp_activation::relu ? (normed[n] < 0 ? S(0) : normed[n]) : normed[n] / (1 + std::exp(-normed[n]));
  }
  void activation_gradient(mlp_activation activation, const S* normed, index_t rows, S* d) const {
    if (activation == mlp_activation::gelu)
      return kernels::gelu_gradient<S>(
          {.in = normed, .d_out = d, .d_in = d, .rows = rows, .channels = out, .in_row = out, .d_out_row = out, .d_in_row = out});
    for (index_t n = 0; n < rows * out; ++n) {
      if (activation == mlp_activation::relu) {
        d[n] = normed[n] > 0 ? d[n] : S(0);
      } else {
        const S sigmoid = 1 / (1 + std::exp(-normed[n]));
        d[n] *= sigmoid * (1 + normed[n] * (1 - sigmoid));
      }
    }
  }

  void norm(const S* x, S* y) const {
    const auto [mean, scale] = moments_of(x, out);
    for (index_t c = 0; c < out; ++c) {
      const auto k = static_cast<std::size_t>(c);
      y[c] = static_cast<S>((static_cast<double>(x[c]) - mean) * scale * static_cast<double>(norm_weight[k]) +
                            static_cast<double>(norm_bias[k]));
    }
  }
  /// d: the gradient of what left the norm, in; of what came in, out.
  void norm_gradient(const S* x, index_t rows, S* d, S* d_weight, S* d_bias) const {
    for (index_t r = 0; r < rows; ++r, x += out, d += out) {
      const auto [mean, scale] = moments_of(x, out);
      double sum = 0, product = 0;
      for (index_t c = 0; c < out; ++c) {
        const double normed = (static_cast<double>(x[c]) - mean) * scale;
        d_weight[c] += static_cast<S>(static_cast<double>(d[c]) * normed);
        d_bias[c] += d[c];
        const double inner = static_cast<double>(d[c]) * static_cast<double>(norm_weight[static_cast<std::size_t>(c)]);
        sum += inner;
        product += inner * normed;
      }
      for (index_t c = 0; c < out; ++c) {
        const double normed = (static_cast<double>(x[c]) - mean) * scale;
        const double inner = static_cast<double>(d[c]) * static_cast<double>(norm_weight[static_cast<std::size_t>(c)]);
        d[c] = static_cast<S>(scale * (inner - (sum + normed * product) / static_cast<double>(out)));
      }
    }
  }

  friend bool operator==(const mlp_layer&, const mlp_layer&) = default;
};

}  // namespace detail

}  // namespace POSENC_NAMESPACE
