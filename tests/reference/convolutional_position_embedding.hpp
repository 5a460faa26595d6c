// SPDX-License-Identifier: MIT
/// \file  wav2vec 2.0's position embedding as its modules say, one after the other, in long double: pad, convolve, drop, norm, activate.
#pragma once

#include <posenc/conditional/convolutional_position_embedding.hpp>

#include "reference/gelu.hpp"

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace reference {

using frames = std::vector<std::vector<long double>>;  // [time][channel]

/// One run of frames, of which those that are not there are zeros. parameters: those of posenc's encoder, in its order.
template <class S>
frames convolutional_position_embedding(const posenc::convolutional_position_embedding_options& options,
                                        const std::vector<posenc::parameter<S>>& parameters, const frames& x,
                                        const std::vector<bool>& there) {
  const auto dim = static_cast<std::size_t>(posenc::index_t{options.dim}),
             kernel = static_cast<std::size_t>(posenc::index_t{options.kernel});
  const std::size_t inputs = dim / static_cast<std::size_t>(posenc::index_t{options.groups});
  frames h = x;
  auto next = parameters.begin();
  for (posenc::index_t layer = 0; layer < options.layers; ++layer) {
    const std::span<const S> gain = options.weight_norm ? (next++)->values : std::span<S>{}, v = (next++)->values, bias = (next++)->values;
    std::vector<long double> factor(kernel, 1);
    if (options.weight_norm)
      for (std::size_t j = 0; j < kernel; ++j) {
        long double squares = 0;
        for (std::size_t n = j; n < v.size(); n += kernel) squares += static_cast<long double>(v[n]) * static_cast<long double>(v[n]);
        factor[j] = static_cast<long double>(gain[j]) / std::sqrt(squares);
      }
    frames padded(h.size() + kernel / 2 * 2, std::vector<long double>(dim)), y;
    for (std::size_t t = 0; t < h.size(); ++t)
      if (there[t]) padded[t + kernel / 2] = h[t];
    for (std::size_t t = 0; t + kernel <= padded.size(); ++t) {
      std::vector<long double> row(dim);
      for (std::size_t n = 0; n < v.size(); ++n) {
        const std::size_t j = n % kernel, c = n / kernel % inputs, o = n / kernel / inputs;
        row[o] += factor[j] * static_cast<long double>(v[n]) * padded[t + j][o / inputs * inputs + c];
      }
      for (std::size_t o = 0; o < dim; ++o) row[o] += static_cast<long double>(bias[o]);
      y.push_back(row);
    }
    if (kernel % 2 == 0) y.pop_back();
    for (auto& row : y) {
      long double sum = 0, squares = 0;
      for (const long double value : row) sum += value;
      for (const long double value : row) squares += (value - sum / row.size()) * (value - sum / row.size());
      for (long double& value : row) {
        if (options.layer_norm) value = (value - sum / row.size()) / std::sqrt(squares / row.size() + 1e-5L);
        value = gelu(value);
      }
    }
    h = y;
  }
  for (std::size_t t = 0; t < x.size(); ++t)
    for (std::size_t c = 0; c < dim; ++c) h[t][c] += x[t][c];
  return h;
}

}  // namespace reference
