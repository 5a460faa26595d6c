// SPDX-License-Identifier: MIT
/// \file  Cosines and sines of points along trained directions, and their gradients: the first half of learnable Fourier features.
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/kernels/features.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/positions.hpp>  // max_axes
#include <posenc/tensor.hpp>     // index_t, compute_scalar

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace POSENC_NAMESPACE {

namespace detail {

/// Some points, not all of which need exist.
struct point_block {
  static constexpr index_t most = 64;

  index_t count;
  std::array<double, most * max_axes> values;  ///< [axis, point]

  double& operator()(index_t axis, index_t n) noexcept { return values[static_cast<std::size_t>(axis * most + n)]; }
  double operator()(index_t axis, index_t n) const noexcept { return values[static_cast<std::size_t>(axis * most + n)]; }
  /// A point that is not a number becomes 0, so that what is multiplied by its gradient of 0 is finite.
  bool clear_if_absent(index_t n, index_t axes) noexcept {
    if (!std::isnan((*this)(0, n))) return false;
    for (index_t a = 0; a < axes; ++a) (*this)(a, n) = 0;
    return true;
  }
};

/// [cos r | sin r] / sqrt(2 bands) for r = W x in radians, W `[bands, axes]`.
template <compute_scalar S>
class direction_features {
 public:
  /// Zeros. Preconditions: both are positive, axes at most 8, and their product fits in memory.
  direction_features(index_t bands, index_t axes) : bands_(bands), axes_(axes), weight_(static_cast<std::size_t>(bands * axes)) {}

  std::span<S> weight() noexcept { return weight_; }
  std::span<const S> weight() const noexcept { return weight_; }

  /// To out `[point, feature]`.
  void features(const point_block& points, S* out) const {
    constexpr double_double reciprocal_of_pi{0x1.45f306dc9c883p-2, -0x1.6b01ec5417056p-56};
    constexpr bool exact = sizeof(S) == sizeof(double);
    constexpr index_t block = 64;
    std::array<double, block * max_axes> high, low;  // half turns per unit, [axis, band]
    std::array<double, block> halves, zeros{};
    halves.fill(0.5);
    for (index_t k = 0; k < bands_; k += block) {
      const index_t count = std::min(block, bands_ - k);
      for (index_t a = 0; a < axes_; ++a)
        for (index_t c = 0; c < count; ++c) {
          const auto n = static_cast<std::size_t>(a * block + c);
          const auto w = static_cast<double>(weight_[static_cast<std::size_t>((k + c) * axes_ + a)]);
          const double_double turns = exact ? double_double{w, 0} * reciprocal_of_pi : double_double{w * reciprocal_of_pi.high, 0};
          high[n] = turns.high, low[n] = turns.low;
        }
      kernels::features_call<S> call{.angles = {.points = points.values.data(),
                                                .point = 1,
                                                .axis = point_block::most,
                                                .rows = points.count,
                                                .dims = axes_,
                                                .high = high.data(),
                                                .low = low.data(),
                                                .quarters = halves.data(),
                                                .channels = count,
                                                .weights = block},
                                     .out = out + k,
                                     .row = 2 * bands_,
                                     .scale = 1 / std::sqrt(static_cast<double>(2 * bands_))};
      kernels::features(call);
      call.angles.quarters = zeros.data(), call.out += bands_;
      kernels::features(call);
    }
  }

  /// The gradient of `features`, which wrote f: d_f `[point, feature]` comes in, d_points `[point, axis]` leaves, d_weight is added to in
  /// the order of points. Preconditions: no point is absent.
  void backward(const point_block& points, const S* f, const S* d_f, S* d_points, S* d_weight) const {
    std::vector<S> d_angles(static_cast<std::size_t>(points.count * bands_)), x(static_cast<std::size_t>(points.count * axes_));
    for (index_t n = 0; n < points.count; ++n) {
      for (index_t a = 0; a < axes_; ++a) x[static_cast<std::size_t>(n * axes_ + a)] = static_cast<S>(points(a, n));
      const S *cosines = f + 2 * n * bands_, *sines = cosines + bands_, *d_cosines = d_f + 2 * n * bands_, *d_sines = d_cosines + bands_;
      for (index_t k = 0; k < bands_; ++k)
        d_angles[static_cast<std::size_t>(n * bands_ + k)] = cosines[k] * d_sines[k] - sines[k] * d_cosines[k];
    }
    kernels::linear_weight_gradient<S, S>({.d_y = d_angles.data(),
                                           .x = x.data(),
                                           .tokens = points.count,
                                           .in = axes_,
                                           .out = bands_,
                                           .d_y_token = bands_,
                                           .x_token = axes_,
                                           .d_w = d_weight,
                                           .d_w_row = axes_});
    kernels::linear_input_gradient<S, S>({.d_y = d_angles.data(),
                                          .d_x = d_points,
                                          .tokens = points.count,
                                          .in = axes_,
                                          .out = bands_,
                                          .d_y_token = bands_,
                                          .d_x_token = axes_,
                                          .w = weight_.data(),
                                          .w_row = axes_,
                                          .accumulate = false});
  }

  friend bool operator==(const direction_features&, const direction_features&) = default;

 private:
  index_t bands_, axes_;
  std::vector<S> weight_;
};

}  // namespace detail

}  // namespace POSENC_NAMESPACE
