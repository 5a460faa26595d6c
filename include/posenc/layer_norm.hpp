// SPDX-License-Identifier: MIT
/// \file  Layer norm of one token, without parameters. Ba, Kiros, Hinton 2016, "Layer Normalization".
#pragma once

#include <posenc/config.hpp>
#include <posenc/tensor.hpp>  // index_t, compute_scalar

#include <cmath>

namespace POSENC_NAMESPACE::detail {

struct layer_moments {
  double mean, scale;  ///< scale: 1 / standard deviation
};

/// Of `count` channels, in double, with epsilon 1e-5 as torch's.
template <compute_scalar S>
layer_moments moments_of(const S* x, index_t count) {
  double mean = 0, square = 0;
  for (index_t c = 0; c < count; ++c) mean += static_cast<double>(x[c]);
  mean /= static_cast<double>(count);
  for (index_t c = 0; c < count; ++c) square += (static_cast<double>(x[c]) - mean) * (static_cast<double>(x[c]) - mean);
  return {mean, 1 / std::sqrt(square / static_cast<double>(count) + 1e-5)};
}

/// x = (x - mean) * scale, rounded once. Returns the scale.
template <compute_scalar S>
double normalize(S* x, index_t count) {
  const auto [mean, scale] = moments_of(x, count);
  for (index_t c = 0; c < count; ++c) x[c] = static_cast<S>((static_cast<double>(x[c]) - mean) * scale);
  return scale;
}
/// d: the gradient of `normal`, which `normalize` wrote with that scale, in; that of what it read, out.
template <compute_scalar S>
void normalize_gradient(const S* normal, double scale, S* d, index_t count) {
  double sum = 0, product = 0;
  for (index_t c = 0; c < count; ++c) {
    sum += static_cast<double>(d[c]);
    product += static_cast<double>(d[c]) * static_cast<double>(normal[c]);
  }
  for (index_t c = 0; c < count; ++c)
    d[c] =
        static_cast<S>(scale * (static_cast<double>(d[c]) - (sum + static_cast<double>(normal[c]) * product) / static_cast<double>(count)));
}

}  // namespace POSENC_NAMESPACE::detail
