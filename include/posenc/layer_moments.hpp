// SPDX-License-Identifier: MIT
/// \file  What a layer norm measures of a token.
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

}  // namespace POSENC_NAMESPACE::detail
