// SPDX-License-Identifier: MIT
/// \file  Weight norm along the taps of a convolution. Salimans, Kingma 2016, "Weight Normalization".
#pragma once

#include <posenc/config.hpp>
#include <posenc/executor.hpp>
#include <posenc/tensor.hpp>

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// Sums over the rows r of a(r, j) b(r, j) for every tap j, in double: in row order within each of `groups`, whose sums are added in turn,
/// so that threads change no bit.
template <class A, class B>
std::vector<double> sums_of_taps(index_t rows, index_t groups, index_t taps, const executor& run, const A& a, const B& b) {
  std::vector<double> sums(static_cast<std::size_t>(groups * taps));
  const index_t rows_of_group = rows / groups;
  run.split(groups, run.parts(groups, static_cast<double>(rows) * static_cast<double>(taps)), [&](index_t, index_t from, index_t to) {
    for (index_t g = from; g < to; ++g)
      for (index_t r = g * rows_of_group; r < (g + 1) * rows_of_group; ++r)
        for (index_t j = 0; j < taps; ++j)
          sums[static_cast<std::size_t>(g * taps + j)] += static_cast<double>(a(r, j)) * static_cast<double>(b(r, j));
  });
  for (index_t g = 1; g < groups; ++g)
    for (index_t j = 0; j < taps; ++j) sums[static_cast<std::size_t>(j)] += sums[static_cast<std::size_t>(g * taps + j)];
  sums.resize(static_cast<std::size_t>(taps));
  return sums;
}

/// w[r, j] = g[j] v[r, j] / norm[j], with the norm of v's column j: torch's `weight_norm` with dim = 2, where r counts outputs and inputs.
/// A column of zeros stays zeros, where torch divides by zero.
template <compute_scalar S>
struct weight_norm {
  std::span<const S> gain, direction;  ///< g `[tap]` and v `[row, tap]`
  index_t groups;                      ///< that divide the rows
  std::vector<double> norms;

  weight_norm(std::span<const S> g, std::span<const S> v, index_t parts_of_rows, const executor& run)
      : gain(g), direction(v), groups(parts_of_rows) {
    const auto of = [&](index_t r, index_t j) { return direction[static_cast<std::size_t>(r * taps() + j)]; };
    norms = sums_of_taps(rows(), groups, taps(), run, of, of);
    for (double& norm : norms) norm = std::sqrt(norm);
  }
  index_t taps() const noexcept { return static_cast<index_t>(gain.size()); }
  index_t rows() const noexcept { return static_cast<index_t>(direction.size()) / taps(); }

  /// What columns are multiplied by.
  std::vector<double> scales() const {
    std::vector<double> all(norms.size());
    for (std::size_t j = 0; j < all.size(); ++j) all[j] = norms[j] > 0 ? static_cast<double>(gain[j]) / norms[j] : 0.0;
    return all;
  }
  /// Adds to d_gain and d_direction what d_weight(r, j) says.
  template <class D>
  void gradient(const D& d_weight, std::span<S> d_gain, std::span<S> d_direction, const executor& run) const {
    const auto of = [&](index_t r, index_t j) { return direction[static_cast<std::size_t>(r * taps() + j)]; };
    const auto along = sums_of_taps(rows(), groups, taps(), run, of, d_weight);
    const auto scale = scales();
    for (index_t j = 0; j < taps(); ++j) {
      const auto tap = static_cast<std::size_t>(j);
      if (!(norms[tap] > 0)) continue;
      d_gain[tap] += static_cast<S>(along[tap] / norms[tap]);
      const double inward = along[tap] / (norms[tap] * norms[tap]);
      for (index_t r = 0; r < rows(); ++r) {
        const auto at = static_cast<std::size_t>(r * taps() + j);
        d_direction[at] += static_cast<S>(scale[tap] * (static_cast<double>(d_weight(r, j)) - inward * static_cast<double>(direction[at])));
      }
    }
  }
};

}  // namespace POSENC_NAMESPACE::detail
