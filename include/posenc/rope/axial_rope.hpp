// SPDX-License-Identifier: MIT
/// \file  RoPE on several axes, each with channels of its own: pictures, films, volumes.
#pragma once

#include <posenc/concepts.hpp>               // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>                  // require
#include <posenc/frequencies.hpp>
#include <posenc/positions.hpp>              // max_axes
#include <posenc/required.hpp>
#include <posenc/rope/schedule.hpp>
#include <posenc/rope/scheduled_rotary.hpp>  // the verbs
#include <posenc/tensor.hpp>

#include <cmath>
#include <cstddef>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

namespace POSENC_NAMESPACE {

/// Frequencies of an axis with `width` channels, the j-th of its width / 2 pairs. Systems name them after what they were made for.
namespace axial {

/// base^(-2j / width), the series of each axis for itself: rope-vit and SAM 2 (base 100 and 10000), Qwen2-VL's and Llama 4's vision towers,
/// Gemma 4's, Wan, CogVideoX, HunyuanVideo (256), Flux, timm off pixels, `lang` of rotary-embedding-torch.
struct language {
  double base = 10000;
  frequency_schedule schedule{};
  friend bool operator==(const language&, const language&) = default;
};
/// One series base^(-2n / dim) dealt out: of two axes, the first has its even members, the second its odd ones (Pixtral).
struct dealt {
  double base = 10000;
  friend bool operator==(const dealt&, const dealt&) = default;
};
/// pi times evenly spaced numbers from 1 to max_frequency / 2, for coordinates in [-1, 1]: `pixel` of rotary-embedding-torch, timm in
/// pixels.
struct pixel {
  double max_frequency = 10;
  friend bool operator==(const pixel&, const pixel&) = default;
};
/// 2 pi base^(-2j / width): a period of base^(2j / width), for coordinates in [-1, 1] (DINOv3, whose base is 100).
struct periods {
  double base = 100;
  friend bool operator==(const periods&, const periods&) = default;
};
/// 2 pi / period, with periods from min to max in equal ratios (DINOv3).
struct period_range {
  required<double> min, max;
  friend bool operator==(const period_range&, const period_range&) = default;
};
/// pi / 2 times numbers from 1 to base in equal ratios: the last pair turns fastest, for coordinates in [-1, 1] (LTX-Video).
struct rising {
  double base = 10000;
  friend bool operator==(const rising&, const rising&) = default;
};

using frequencies = std::variant<language, dealt, pixel, periods, period_range, rising>;

}  // namespace axial

/// Which pairs belong to which axis.
enum class axial_layout {
  blocks,  ///< those of the first axis, then those of the second, ...
  alternating  ///< first pair of each axis, second pair of each axis, ... (LTX-Video); axes must be of one width
};

struct axial_rope_options {
  std::vector<index_t> widths;  ///< channels of each axis of the positions, even; {32, 32} for [y, x] positions and 64 channels
  axial::frequencies frequencies{};
  axial_layout layout = axial_layout::blocks;
  bool still_first = false;  ///< channels beyond the widths do not turn: they are the last ones, or the first (LTX-Video)

  friend bool operator==(const axial_rope_options&, const axial_rope_options&) = default;
};

/// Turns the pairs of axis a by their frequency times the position on axis a. Which axis is which is said where positions are made:
/// `grid_order`, of `grid`. With `pairing::halves` pairs reach from one half of the channels to the other, whatever the axis (Qwen2-VL's
/// vision tower, Pixtral, DINOv3); with `.blocks = 2` in the descriptor, from one half of an axis's channels to their other half (Gemma
/// 4's).
///
///     posenc::axial_rope<float> rope({.pairing = posenc::pairing::interleaved, .dim = 64},
///                                    {.widths = {32, 32}, .frequencies = posenc::axial::language{100}});  // rope-vit
///
/// V-JEPA 2 as it was trained pairs its table by halves and its channels as neighbours, which turns nothing: there is no such setting.
/// See `rotary_verbs` for the verbs.
template <compute_scalar S>
class axial_rope : public scheduled_rotary<axial_rope<S>, S, axial_rope_options> {
  using base = scheduled_rotary<axial_rope, S, axial_rope_options>;
  friend base;
  friend rotary_verbs<axial_rope, S>;

 public:
  /// \throws argument_error  unless the descriptor is valid, widths are even, not negative, and at most dim together, and the frequencies'
  /// members within their bounds.
  axial_rope(const rotary_descriptor& descriptor, const axial_rope_options& options) : axial_rope(descriptor, options, std::nullopt) {}

  static constexpr std::string_view name() noexcept { return "axial_rope"; }

  friend bool operator==(const axial_rope&, const axial_rope&) = default;

 private:
  axial_rope(const rotary_descriptor& descriptor, const axial_rope_options& options, std::optional<index_t> length)
      : base(descriptor, options, length) {}

  static rotary_spectrum spectrum_at(const rotary_descriptor& descriptor, const axial_rope_options& options, index_t length) {
    const auto axes = static_cast<index_t>(options.widths.size());
    require(axes >= 1 && axes <= max_axes, name(), "there must be 1 to 8 axes", axes);
    index_t all = 0;
    for (const index_t width : options.widths) {
      require(width >= 0 && width % 2 == 0, name(), "widths must be even and not negative", width);
      require(width <= descriptor.dim - all, name(), "widths must not exceed dim together", index_t{descriptor.dim}, all, width);
      all += width;
      require(options.layout == axial_layout::blocks || width == options.widths[0], name(), "alternating axes must be of one width",
              options.widths[0], width);
    }
    const index_t pairs = descriptor.dim / 2;
    frequency_series matrix(static_cast<std::size_t>(axes * pairs), {0, 0});
    double factor = 1;
    index_t first = options.still_first ? pairs - all / 2 : 0;
    for (index_t axis = 0; axis < axes; ++axis) {
      const index_t width = options.widths[static_cast<std::size_t>(axis)];
      const auto series = series_of(options, axis, axes, width, all, length, factor);
      const bool blocks = options.layout == axial_layout::blocks;
      for (index_t j = 0; j < width / 2; ++j)
        matrix[static_cast<std::size_t>(axis * pairs + first + (blocks ? j : j * axes + axis))] = series[static_cast<std::size_t>(j)];
      if (blocks) first += width / 2;
    }
    return {frequencies::from_radians(name(), matrix, axes), factor};
  }
  static bool options_depend_on_length(const axial_rope_options& options) {
    const auto* language = std::get_if<axial::language>(&options.frequencies);
    return language && posenc::depends_on_length(language->schedule);
  }

  static frequency_series series_of(const axial_rope_options& options, index_t axis, index_t axes, index_t width, index_t all,
                                    index_t length, double& factor) {
    const index_t count = width / 2;
    if (count == 0) return {};
    if (const auto* rule = std::get_if<axial::language>(&options.frequencies)) {
      const auto made = scheduled_series(rule->schedule, name(), width, rule->base, length);
      factor = made.attention_factor;
      return made.radians;
    }
    if (const auto* rule = std::get_if<axial::dealt>(&options.frequencies)) {
      require(width * axes == all, name(), "axes that are dealt frequencies must be of one width", width, all);
      const frequency_series whole = plain_series(name(), all, rule->base);
      frequency_series own;
      for (index_t j = 0; j < count; ++j) own.push_back(whole[static_cast<std::size_t>(j * axes + axis)]);
      return own;
    }
    if (const auto* rule = std::get_if<axial::periods>(&options.frequencies))
      return times(geometric_series(name(), count, rule->base, 2, static_cast<double>(width)), two_pi);
    if (const auto* rule = std::get_if<axial::period_range>(&options.frequencies)) {
      const double min = rule->min, max = rule->max;
      require(std::isfinite(max) && min > 0 && max >= min, name(), "periods must be positive, finite and in order", min, max);
      return times(between(min, max, count), two_pi, true);
    }
    constexpr double_double half_pi{two_pi.high / 4, two_pi.low / 4}, pi{two_pi.high / 2, two_pi.low / 2};
    if (const auto* rule = std::get_if<axial::rising>(&options.frequencies)) {
      require(std::isfinite(rule->base) && rule->base > 0, name(), "base must be positive and finite", rule->base);
      return times(between(1, rule->base, count), half_pi);
    }
    const double last = std::get<axial::pixel>(options.frequencies).max_frequency / 2;
    require(std::isfinite(last), name(), "max_frequency must be finite", last * 2);
    frequency_series even;
    for (index_t j = 0; j < count; ++j) {
      const double_double part =
          double_double{static_cast<double>(j), 0} / double_double{static_cast<double>(count > 1 ? count - 1 : 1), 0};
      even.push_back(double_double{1, 0} + (double_double{last, 0} - double_double{1, 0}) * part);
    }
    return times(std::move(even), pi);
  }
  /// min (max / min)^(j / (count - 1)).
  static frequency_series between(double min, double max, index_t count) {
    const double_double from = log(min), rate = (log(max) - from) / double_double{static_cast<double>(count > 1 ? count - 1 : 1), 0};
    frequency_series all;
    for (index_t j = 0; j < count; ++j) all.push_back(exp(from + rate * double_double{static_cast<double>(j), 0}));
    return all;
  }
  static frequency_series times(frequency_series series, double_double by, bool divided = false) {
    for (double_double& one : series) one = divided ? by / one : one * by;
    return series;
  }
};

/// How Wan splits channels for [t, y, x]: two sixths, rounded down to pairs, for height and for width, the rest for time.
inline std::vector<index_t> wan_widths(index_t dim) { return {dim - 4 * (dim / 6), 2 * (dim / 6), 2 * (dim / 6)}; }
/// How CogVideoX does: a quarter for time, three eighths for height and for width. \throws argument_error  unless 16 divides dim.
inline std::vector<index_t> cogvideox_widths(index_t dim) {
  require(dim % 16 == 0, "cogvideox_widths", "dim must be a multiple of 16", dim);
  return {dim / 4, dim / 8 * 3, dim / 8 * 3};
}

template <compute_scalar S>
inline constexpr bool is_shiftable<axial_rope<S>> = true;

static_assert(rotary_encoder<axial_rope<float>> && rotary_encoder<axial_rope<double>> && position_encoder<axial_rope<float>>);
static_assert(!additive_encoder<axial_rope<float>> && !bias_encoder<axial_rope<float>>);

}  // namespace POSENC_NAMESPACE
