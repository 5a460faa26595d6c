// SPDX-License-Identifier: MIT
/// \file  Learnable Fourier features as their paper defines them, one point of one group at a time, in long double.
#pragma once

#include "reference/mlp.hpp"

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace reference {

/// parameters: "Wr.weight", then those of the network.
template <class S>
std::vector<long double> learnable_fourier_features(const std::vector<std::span<const S>>& parameters,
                                                    const std::vector<long double>& point) {
  const std::span<const S> directions = parameters.front();
  const std::size_t axes = point.size(), bands = directions.size() / axes;
  std::vector<long double> features(2 * bands);
  for (std::size_t k = 0; k < bands; ++k) {
    long double angle = 0;
    for (std::size_t a = 0; a < axes; ++a) angle += static_cast<long double>(directions[k * axes + a]) * point[a];
    const long double scale = std::sqrt(2 * static_cast<long double>(bands));
    features[k] = std::cos(angle) / scale;
    features[bands + k] = std::sin(angle) / scale;
  }
  return mlp<S>({parameters.begin() + 1, parameters.end()}, 1, false, posenc::mlp_activation::gelu, features);
}

}  // namespace reference
