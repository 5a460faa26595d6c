// SPDX-License-Identifier: MIT
/// \file  Sinusoidal codes of grids: channels are shared out among the axes of pictures, films and volumes.
#pragma once

#include <posenc/concepts.hpp>  // code_encoder
#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>     // require
#include <posenc/frequencies.hpp>
#include <posenc/grid.hpp>
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/sinusoidal.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// How the channels of several axes lie together.
enum class sinusoidal_arrangement {
  blocks,  ///< all channels of the first axis, then those of the second: MAE, AIMv2, RT-DETR, diffusers, tensor2tensor and timm's
           ///< interleave_sin_cos with sin_cos; DETR and multidim-positional-encoding with interleaved
  across   ///< the channel order reaches over all axes: sin y | sin x | cos y | cos x, timm's default; interleaved is as in blocks
};

struct axial_sinusoidal_options {
  required<index_t> dim;           ///< channels
  std::vector<index_t> widths;     ///< channels of each axis of the positions, even. What dim has beyond them is zero
  required<channel_order> order;
  required<sinusoidal_arrangement> arrangement;
  required<any_exponent_rule> exponent_rule;  ///< with an axis's width
  bool truncate = false;           ///< widths may exceed dim together: the last channels are left out (multidim-positional-encoding)
  position start = 0;              ///< added to every position, on all axes
  double scale = 1;                ///< multiplies the code
  double angle_scale = 1;          ///< multiplies the angle
  bool full_turns = false;         ///< frequencies are turns per position, not radians

  friend bool operator==(const axial_sinusoidal_options&, const axial_sinusoidal_options&) = default;
};

/// Adds sin(p_a w_k) and cos(p_a w_k) of each axis a, each to channels of its own. Which axis comes first is said where positions are made
/// (`grid_order`), as systems disagree: MAE, diffusers and Prithvi encode x first; DETR, timm, AIMv2, tensor2tensor and
/// multidim-positional-encoding the slowest axis.
///
///     posenc::axial_sinusoidal<float> mae({.dim = 768, .widths = {384, 384}, .order = posenc::channel_order::sin_cos,
///                                          .arrangement = posenc::sinusoidal_arrangement::blocks,
///                                          .exponent_rule = posenc::exponent_rule::vaswani{}});
///     mae.add(patches, posenc::grid_positions({.extents = {14, 14}, .order = posenc::grid_order::fastest_first, .prefix = 1}));
///
/// See `sinusoidal_codes` and `additive_verbs` for the verbs. Coordinates serve for grids of another size (`resized_grid`) and normalized
/// ones (`normalized_mask`).
template <compute_scalar S>
class axial_sinusoidal : public sinusoidal_codes<axial_sinusoidal<S>, S> {
 public:
  /// \throws argument_error  unless there are 1 to 8 axes, widths are even, not negative and (unless `truncate`) at most dim together, and
  /// what the exponent rule and the scales have is within their bounds.
  explicit axial_sinusoidal(const axial_sinusoidal_options& options)
      : sinusoidal_codes<axial_sinusoidal, S>(layout_of(options)), options_(options) {}

  static constexpr std::string_view name() noexcept { return "axial_sinusoidal"; }
  const axial_sinusoidal_options& options() const noexcept { return options_; }

  friend bool operator==(const axial_sinusoidal& a, const axial_sinusoidal& b) { return a.options_ == b.options_; }

 private:
  static sinusoidal_layout layout_of(const axial_sinusoidal_options& options) {
    sinusoidal_layout made = detail::common_layout(name(), options);
    const auto axes = static_cast<index_t>(options.widths.size());
    detail::require_axes(name(), axes);
    for (const index_t width : options.widths) {
      require(width >= 0 && width % 2 == 0, name(), "widths must be even and not negative", width);
      require(width <= std::numeric_limits<index_t>::max() - made.width, name(), "widths must fit in 63 bits together", made.width, width);
      made.width += width;
      require(options.truncate || made.width <= options.dim, name(), "widths must not exceed dim together",
              static_cast<index_t>(options.dim), made.width);
    }
    const index_t pairs = made.width / 2;
    frequency_series matrix(static_cast<std::size_t>(checked_product(name(), std::array{axes, pairs}, sizeof(double_double))), {0, 0});
    index_t first = 0;
    for (index_t axis = 0; axis < axes; ++axis) {
      const index_t width = options.widths[static_cast<std::size_t>(axis)], count = width / 2;
      if (count == 0) continue;
      const auto series =
          detail::scaled_angles(sinusoidal_series(name(), options.exponent_rule, width), options.angle_scale, options.full_turns);
      std::ranges::copy(series, matrix.begin() + axis * pairs + first);
      if (options.arrangement == sinusoidal_arrangement::blocks) {
        made.blocks.push_back(sinusoidal_block::arranged(options.order, 2 * first, axis, first, count));
      } else {
        sinusoidal_block block = sinusoidal_block::arranged(options.order, 0, axis, first, pairs);
        const index_t step = block.interleaved ? 2 : 1;
        block.sine += step * first, block.cosine += step * first, block.pairs = count;
        made.blocks.push_back(block);
      }
      first += count;
    }
    made.frequencies = frequencies::from_radians(name(), matrix, axes);
    return made;
  }
  axial_sinusoidal_options options_;
};

/// The widths of diffusers' films (CogVideoX): a quarter of the channels for time, three eighths for each axis of the picture.
/// \throws argument_error  unless 16 divides dim.
inline std::vector<index_t> diffusers_film_widths(index_t dim) {
  require(dim > 0 && dim % 16 == 0, "diffusers_film_widths", "dim must be a positive multiple of 16", dim);
  return {dim / 4, dim / 8 * 3, dim / 8 * 3};
}
/// The positions that go with them: time, then x, then y, for tokens in the order of frames, rows and columns. No `grid_order` has this
/// order of axes: diffusers puts time first and takes its pictures, as MAE does, x first. With its interpolation scales:
/// `coordinates::of(...).scaled({1 / temporal, 1 / spatial, 1 / spatial})`.
/// \throws argument_error  as `grid_positions` does.
inline positions diffusers_film_positions(index_t frames, index_t height, index_t width) {
  const auto cells = grid_positions({.extents = {frames, height, width}, .order = grid_order::slowest_first});
  std::vector<position> ids;
  ids.reserve(static_cast<std::size_t>(3 * cells.time()));
  for (const index_t axis : {0, 2, 1})
    for (index_t t = 0; t < cells.time(); ++t) ids.push_back(cells(0, t, axis));
  return positions::multi_axis(ids, 3);
}
/// The widths of multidim-positional-encoding, which go with `truncate`: an equal share of an even number of channels, rounded up.
/// \throws argument_error  unless dim is positive and axes are 1 to 8.
inline std::vector<index_t> multidim_widths(index_t dim, index_t axes) {
  detail::require_axes("multidim_widths", axes);
  require(dim > 0, "multidim_widths", "dim must be positive", dim);
  return std::vector<index_t>(static_cast<std::size_t>(axes), 2 * ((dim - 1) / (2 * axes) + 1));
}
/// The widths of tensor2tensor's timing signals: an equal share of an even number of channels, rounded down.
/// \throws argument_error  unless dim is positive and axes are 1 to 8.
inline std::vector<index_t> timing_signal_widths(index_t dim, index_t axes) {
  detail::require_axes("timing_signal_widths", axes);
  require(dim > 0, "timing_signal_widths", "dim must be positive", dim);
  return std::vector<index_t>(static_cast<std::size_t>(axes), 2 * (dim / (2 * axes)));
}

static_assert(code_encoder<axial_sinusoidal<float>> && code_encoder<axial_sinusoidal<double>>);
static_assert(position_encoder<axial_sinusoidal<float>> && !rotary_encoder<axial_sinusoidal<float>>);

}  // namespace POSENC_NAMESPACE
