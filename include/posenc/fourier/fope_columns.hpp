// SPDX-License-Identifier: MIT
/// \file  The coefficients of Fourier position embedding as they multiply waves: times the attention factor, and divided by their sum where
/// that is asked for.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/tensor.hpp>  // index_t

#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// Coefficients `[heads, waves, mixed]`, by columns: those that are mixed into one pair of one head.
template <class S>
struct fope_columns {
  std::string_view who;
  std::span<const S> values;
  index_t heads, waves, mixed;
  bool divided;  ///< by the sum of the column: the authors' `fourier_norm`
  double factor;

  std::size_t index(index_t h, index_t f, index_t k) const noexcept { return static_cast<std::size_t>((h * waves + f) * mixed + k); }
  double value(index_t h, index_t f, index_t k) const noexcept { return static_cast<double>(values[index(h, f, k)]); }

  /// What column k of head h is multiplied by. \throws argument_error  unless a sum to divide by is finite and not 0.
  double scale(index_t h, index_t k) const {
    if (!divided) return factor;
    double sum = 0;
    for (index_t f = 0; f < waves; ++f) sum += value(h, f, k);
    require(std::isfinite(sum) && sum != 0, who, "the coefficients of a column must have a sum that is finite and not 0", h, k, sum);
    return factor / sum;
  }
  void for_each(const auto& act) const {
    for (index_t h = 0; h < heads; ++h)
      for (index_t k = 0; k < mixed; ++k) act(h, k);
  }
  void require_sums() const {
    for_each([&](index_t h, index_t k) { scale(h, k); });
  }

  /// Each multiplied in double and rounded once.
  std::vector<S> scaled() const {
    std::vector<S> all(values.size());
    for_each([&](index_t h, index_t k) {
      const double times = scale(h, k);
      for (index_t f = 0; f < waves; ++f) all[index(h, f, k)] = static_cast<S>(value(h, f, k) * times);
    });
    return all;
  }
  /// Adds the gradient of the coefficients. sums: that of what `scaled` returns, `[heads, mixed, waves]`. Dividing by the sum of a column
  /// takes from each what all of it have in common.
  void add_gradients(std::span<const double> sums, std::span<S> to) const {
    for_each([&](index_t h, index_t k) {
      const double* const column = sums.data() + (h * mixed + k) * waves;
      const double times = scale(h, k);
      double common = 0;
      if (divided)
        for (index_t f = 0; f < waves; ++f) common += column[f] * value(h, f, k) * (times / factor);
      for (index_t f = 0; f < waves; ++f) to[index(h, f, k)] += static_cast<S>((column[f] - common) * times);
    });
  }
};

}  // namespace POSENC_NAMESPACE::detail
