// SPDX-License-Identifier: MIT
/// \file  The terms of disentangled attention for one pair, as He et al. 2021 (DeBERTa) write them.
#pragma once

#include <posenc/relative/deberta.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

namespace reference {

/// Tables `[head, row, channel]`; max_position 0: a row for each distance.
struct deberta {
  posenc::index_t span, channels, max_position;
  bool clamps;  ///< as microsoft's code does: beyond max_position - 1
  posenc::deberta_terms terms;
  double scale;
  std::vector<double> keys, queries;

  /// delta(i, j) of the paper, by logarithms where there are buckets.
  posenc::index_t row(posenc::position lag) const {
    const double most = static_cast<double>(max_position - 1), middle = static_cast<double>(span / 2);
    double distance = static_cast<double>(lag);
    if (max_position > 0) {
      if (clamps) distance = std::fmin(std::fmax(distance, -most), most);
      const double size = std::abs(distance);
      if (size > middle) {
        const double bucket = middle + std::ceil(std::log(size / middle) / std::log(most / middle) * (middle - 1) - 1e-12);
        distance = std::copysign(bucket, distance);
      }
    }
    if (distance <= -static_cast<double>(span)) return 0;
    if (distance >= static_cast<double>(span)) return 2 * span - 1;
    return static_cast<posenc::index_t>(distance) + span;
  }
  double operator()(posenc::index_t head, const std::vector<double>& q, const std::vector<double>& k, posenc::position query,
                    posenc::position key) const {
    const posenc::index_t r = row(query - key), own = query < -span ? 0 : query >= span ? 2 * span - 1 : query + span;
    double sum = 0;
    for (posenc::index_t c = 0; c < channels; ++c) {
      const auto n = static_cast<std::size_t>(c), at = static_cast<std::size_t>((head * 2 * span + r) * channels + c),
                 self = static_cast<std::size_t>((head * 2 * span + own) * channels + c);
      if (terms.c2p) sum += q[n] * keys[at];
      if (terms.p2c) sum += k[n] * queries[at];
      if (terms.p2p) sum += queries[self] * keys[at];
    }
    return scale * sum;
  }
};

}  // namespace reference
