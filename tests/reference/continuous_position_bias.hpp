// SPDX-License-Identifier: MIT
/// \file  Continuous position bias as its papers say, for one pair of cells, in long double.
#pragma once

#include "reference/mlp.hpp"

#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace reference {

/// d: the query's cell minus the key's. window: that of the division. kind: swin, cr or crossformer.
template <class S>
long double continuous_position_bias(const std::vector<std::span<const S>>& parameters, std::string_view kind, std::size_t head,
                                     const std::vector<long>& d, const std::vector<long>& window) {
  std::vector<long double> x;
  for (std::size_t axis = 0; axis < d.size(); ++axis) {
    const auto length = static_cast<long double>(d[axis] < 0 ? -d[axis] : d[axis]);
    long double seen = length;
    if (kind == "cr") seen = std::log(1 + length);
    if (kind == "swin")
      seen = std::log(1 + 8 * length / (window[axis] > 1 ? static_cast<long double>(window[axis] - 1) : 1)) / std::log(8.0L);
    x.push_back(d[axis] < 0 ? -seen : seen);
  }
  const long double said = mlp(parameters, kind == "crossformer" ? 3 : 1, kind == "crossformer", posenc::mlp_activation::relu, x)[head];
  return kind == "swin" ? 8 + 8 * std::tanh(said / 2) : said;
}

}  // namespace reference
