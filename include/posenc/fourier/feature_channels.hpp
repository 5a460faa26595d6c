// SPDX-License-Identifier: MIT
/// \file  Which linear function of a point's coordinates each channel of Fourier features is the sine or the cosine of.
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>   // require
#include <posenc/kernels/features.hpp>
#include <posenc/tensor.hpp>  // index_t, checked_product

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// What a coordinate times a frequency is measured in: the systems' missing and added pi.
enum class angle_unit {
  radians,     ///< sin(f x): bmild/nerf, nerf-pytorch, mip-NeRF, learnable Fourier features
  half_turns,  ///< sin(pi f x): the NeRF paper, pixel-nerf, tiny-cuda-nn, Perceiver, timm's pixel bands
  turns        ///< sin(2 pi f x): nerfstudio, random Fourier features, SAM, diffusers
};

/// Fourier features as the kernel reads them: bands, whose channels read one coordinate each, or a matrix, whose channels read all.
class feature_channels {
 public:
  /// Half turns per unit. Exact but for radians, whose relative error is 2^-100.
  static double_double half_turns(double_double frequency, angle_unit unit) noexcept {
    if (unit == angle_unit::radians) return frequency / two_pi * double_double{2, 0};
    return unit == angle_unit::turns ? frequency * double_double{2, 0} : frequency;
  }
  /// \throws argument_error  unless sizes are positive and fit in memory.
  static feature_channels bands(std::string_view who, index_t dims, index_t channels) {
    feature_channels made(who, dims, channels, 1);
    made.axes_.resize(static_cast<std::size_t>(channels));
    made.reach_.resize(2 * static_cast<std::size_t>(channels / 8 + 1));
    return made;
  }
  static feature_channels matrix(std::string_view who, index_t dims, index_t channels) {
    return feature_channels(who, dims, channels, dims);
  }

  /// Channel c is the sine, or the cosine, of this many half turns for each unit of coordinate `axis`.
  void set(index_t c, index_t axis, double_double speed, bool cosine) noexcept {
    const auto n = static_cast<std::size_t>(c), w = axes_.empty() ? static_cast<std::size_t>(axis * channels_ + c) : n;
    high_[w] = speed.high, low_[w] = speed.low;
    quarters_[n] = cosine ? 0.5 : 0;
    if (axes_.empty()) return;
    axes_[n] = axis;
    std::int64_t* reach = &reach_[n / 8 * 2];
    reach[0] = c % 8 == 0 ? axis : std::min<std::int64_t>(reach[0], axis);
    reach[1] = c % 8 == 0 ? axis : std::max<std::int64_t>(reach[1], axis);
  }

  index_t dims() const noexcept { return dims_; }
  index_t count() const noexcept { return channels_; }
  bool has_bands() const noexcept { return !axes_.empty(); }
  /// What the kernel takes, but for the points.
  kernels::feature_angles angles() const noexcept {
    return {.points = nullptr,
            .point = dims_,
            .axis = 1,
            .rows = 0,
            .dims = dims_,
            .high = high_.data(),
            .low = low_.data(),
            .quarters = quarters_.data(),
            .channels = channels_,
            .axes = has_bands() ? axes_.data() : nullptr,
            .reach = has_bands() ? reach_.data() : nullptr,
            .weights = has_bands() ? 0 : channels_};
  }

 private:
  feature_channels(std::string_view who, index_t dims, index_t channels, index_t weights) : dims_(dims), channels_(channels) {
    const auto size = static_cast<std::size_t>(checked_product(who, std::array{weights, channels}, sizeof(double)));
    high_.resize(size);
    low_.resize(size);
    quarters_.resize(static_cast<std::size_t>(channels));
  }

  index_t dims_, channels_;
  std::vector<double> high_, low_, quarters_;
  std::vector<std::int64_t> axes_, reach_;
};

}  // namespace POSENC_NAMESPACE
