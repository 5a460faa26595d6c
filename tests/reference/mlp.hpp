// SPDX-License-Identifier: MIT
/// \file  A multilayer perceptron as its definition says, one row at a time, in long double.
#pragma once

#include <posenc/mlp_layer.hpp>  // mlp_activation

#include "reference/gelu.hpp"

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace reference {

/// parameters: those of posenc::mlp, in its order.
template <class S>
std::vector<long double> mlp(const std::vector<std::span<const S>>& parameters, std::size_t hidden, bool norm,
                             posenc::mlp_activation activation, std::vector<long double> x) {
  auto next = parameters.begin();
  for (std::size_t layer = 0; layer <= hidden; ++layer) {
    const auto weight = *next++;
    std::vector<long double> y(weight.size() / x.size());
    for (std::size_t n = 0; n < weight.size(); ++n) y[n / x.size()] += x[n % x.size()] * static_cast<long double>(weight[n]);
    if (next != parameters.end()) {
      const auto bias = *next++;
      for (std::size_t o = 0; o < y.size(); ++o) y[o] += static_cast<long double>(bias[o]);
    }
    if (layer == hidden) return y;
    if (norm) {
      const auto gain = *next++, shift = *next++;
      long double sum = 0, squares = 0;
      for (const long double value : y) sum += value, squares += value * value;
      const auto count = static_cast<long double>(y.size());
      const long double variance = squares / count - sum / count * (sum / count);
      for (std::size_t o = 0; o < y.size(); ++o)
        y[o] = (y[o] - sum / count) / std::sqrt(variance + 1e-5L) * static_cast<long double>(gain[o]) + static_cast<long double>(shift[o]);
    }
    for (long double& value : y) {
      if (activation == posenc::mlp_activation::gelu) value = gelu(value);
      else value = activation == posenc::mlp_activation::silu ? value * (1 + std::tanh(value / 2)) / 2 : std::fmax(value, 0.0L);
    }
    x = y;
  }
  return x;
}

}  // namespace reference
