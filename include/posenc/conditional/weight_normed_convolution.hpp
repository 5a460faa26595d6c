// SPDX-License-Identifier: MIT
/// \file  A grouped convolution with its weights, which may be normed.
#pragma once

#include <posenc/conditional/grouped_convolution.hpp>
#include <posenc/conditional/weight_norm.hpp>
#include <posenc/config.hpp>
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // gradient_spans
#include <posenc/tensor.hpp>

#include <cstddef>
#include <vector>

namespace POSENC_NAMESPACE::detail {

template <compute_scalar S>
struct weight_normed_convolution {
  grouped_convolution<S> shape;
  std::vector<S> gain, weight, bias;  ///< g `[kernel]`, or empty; v or the weight itself `[dim, channel, kernel]`; `[dim]`

  weight_norm<S> normed(const executor& run) const { return {gain, weight, shape.groups, run}; }
  std::vector<S> packed(const executor& run) const { return shape.packed(weight, scales(run), run); }
  std::vector<S> flipped(const executor& run) const { return shape.flipped(weight, scales(run), run); }

  /// spans: those of the parameters; d_weight: `[dim, kernel, channel]`.
  void add_weight_gradient(const std::vector<S>& d_weight, gradient_spans<S> spans, const executor& run) const {
    const index_t channels = shape.channels(), kernel = shape.kernel;
    const auto at = [&](index_t row, index_t tap) {  // row: of dim * channels
      return d_weight[static_cast<std::size_t>((row / channels * kernel + tap) * channels + row % channels)];
    };
    if (!gain.empty()) return normed(run).gradient(at, spans[0], spans[1], run);
    for (index_t row = 0; row < shape.dim * channels; ++row)
      for (index_t tap = 0; tap < kernel; ++tap) spans[0][static_cast<std::size_t>(row * kernel + tap)] += at(row, tap);
  }

  friend bool operator==(const weight_normed_convolution&, const weight_normed_convolution&) = default;

 private:
  std::vector<double> scales(const executor& run) const {
    return gain.empty() ? std::vector<double>(static_cast<std::size_t>(shape.kernel), 1.0) : normed(run).scales();
  }
};

}  // namespace POSENC_NAMESPACE::detail
