// SPDX-License-Identifier: MIT
/// \file  The terms of Transformer-XL's attention for one pair (Dai et al. 2019), and its relative shift, taken literally.
#pragma once

#include <posenc/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace reference {

/// The channels of the sinusoid of a lag, sines before cosines or in turns.
inline std::vector<double> sinusoid(posenc::index_t dim, bool interleaved, double lag) {
  std::vector<double> code(static_cast<std::size_t>(dim));
  const posenc::index_t half = dim / 2;
  for (posenc::index_t k = 0; k < half; ++k) {
    const double angle = lag * std::exp(-std::log(10000.0) * static_cast<double>(2 * k) / static_cast<double>(dim));
    code[static_cast<std::size_t>(interleaved ? 2 * k : k)] = std::sin(angle);
    code[static_cast<std::size_t>(interleaved ? 2 * k + 1 : half + k)] = std::cos(angle);
  }
  return code;
}

/// The query is taken back through the projection, and multiplied with the sinusoid there.
struct transformer_xl {
  posenc::index_t channels, dim;
  bool interleaved;
  double clamp_length;  ///< 0: none
  double scale;
  std::vector<double> projection, u, v;

  double operator()(posenc::index_t head, const std::vector<double>& q, const std::vector<double>& k, std::ptrdiff_t query,
                    std::ptrdiff_t key) const {
    double lag = static_cast<double>(query - key);
    if (clamp_length > 0) lag = std::clamp(lag, -clamp_length, clamp_length);
    const auto code = sinusoid(dim, interleaved, lag);
    double sum = 0;
    for (posenc::index_t d = 0; d < dim; ++d) {
      double back = 0;
      for (posenc::index_t c = 0; c < channels; ++c)
        back += (q[static_cast<std::size_t>(c)] + v[static_cast<std::size_t>(head * channels + c)]) *
                projection[static_cast<std::size_t>((head * channels + c) * dim + d)];
      sum += back * code[static_cast<std::size_t>(d)];
    }
    for (posenc::index_t c = 0; c < channels; ++c) sum += k[static_cast<std::size_t>(c)] * u[static_cast<std::size_t>(head * channels + c)];
    return scale * sum;
  }
};

/// x `[query, column]`: a column of zeros before the others, read as `[column + 1, query]`, without its first row: `_rel_shift`.
inline std::vector<double> relative_shift(const std::vector<double>& x, std::size_t queries) {
  const std::size_t columns = x.size() / queries;
  std::vector<double> padded;
  for (std::size_t i = 0; i < queries; ++i) {
    padded.push_back(0);
    padded.insert(padded.end(), x.begin() + static_cast<std::ptrdiff_t>(i * columns),
                  x.begin() + static_cast<std::ptrdiff_t>((i + 1) * columns));
  }
  return {padded.begin() + static_cast<std::ptrdiff_t>(queries), padded.end()};
}

}  // namespace reference
