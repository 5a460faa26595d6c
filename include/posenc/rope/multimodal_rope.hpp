// SPDX-License-Identifier: MIT
/// \file  Multimodal RoPE (M-RoPE): one series of frequencies, whose pairs take their positions from the axes of time, height and width.
/// Wang et al. 2024, "Qwen2-VL: Enhancing Vision-Language Model's Perception of the World at Any Resolution".
#pragma once

#include <posenc/concepts.hpp>               // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>                  // require
#include <posenc/frequencies.hpp>
#include <posenc/positions.hpp>              // max_axes
#include <posenc/required.hpp>
#include <posenc/rope/schedule.hpp>
#include <posenc/rope/scheduled_rotary.hpp>  // the verbs
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// Which pairs belong to which axis. s_a is the section of axis a, in pairs.
enum class multimodal_arrangement {
  chunked,       ///< s_0 pairs of axis 0, then s_1 of axis 1, ...: Qwen2-VL, Qwen2.5-VL, GLM-4V, ggml's MROPE with four sections
  interleaved,  ///< axis 0, 1, 2, 0, 1, 2, ...: of n axes, axis a > 0 has pairs a, a + n, ... below n s_a: Qwen3-VL, ONNX Runtime, ggml's
                ///< IMROPE
  space_first,  ///< height and width take turns, then the pairs of time: Ernie 4.5 VL, Bailing; sections of height and width are equal
  rarest_first  ///< each pair to the axis that lags behind its section most, never twice the same; the last to time: openPangu in vLLM
};

/// What interleaved pairs that no section claims do: (24, 20, 20) leaves pairs 61 and 62 over.
enum class multimodal_leftovers {
  first_axis,  ///< turn with axis 0: HF, vLLM, timm, ONNX Runtime
  still  ///< stand still: ggml, whose fourth axis is 0
};

struct multimodal_rope_options {
  std::vector<index_t> sections;  ///< pairs of each axis of the positions, time, height, width: dim / 2 together; {16, 24, 24} for Qwen2-VL
  required<multimodal_arrangement> arrangement;
  multimodal_leftovers leftovers = multimodal_leftovers::first_axis;
  double base = 10000;  ///< 1e6 in Qwen2-VL, 5e6 in Qwen3-VL
  frequency_schedule schedule{};

  friend bool operator==(const multimodal_rope_options&, const multimodal_rope_options&) = default;
};

/// Turns pair k by theta_k times the position on the axis it belongs to. `multimodal_positions` makes the positions of text, pictures and
/// films; positions with one axis, those of text, stand for all axes, and then this is `rope`. See `rotary_verbs` for the verbs.
///
///     posenc::multimodal_rope<float> rope({.pairing = posenc::pairing::halves, .dim = 128},
///                                         {.sections = {16, 24, 24}, .arrangement = posenc::multimodal_arrangement::chunked, .base =
///                                         1e6});
template <compute_scalar S>
class multimodal_rope : public scheduled_rotary<multimodal_rope<S>, S, multimodal_rope_options> {
  using base = scheduled_rotary<multimodal_rope, S, multimodal_rope_options>;
  friend base;
  friend rotary_verbs<multimodal_rope, S>;

 public:
  /// \throws argument_error  as `rope` does, and unless the sections add up to dim / 2 and fit the arrangement.
  multimodal_rope(const rotary_descriptor& descriptor, const multimodal_rope_options& options)
      : multimodal_rope(descriptor, options, std::nullopt) {}

  static constexpr std::string_view name() noexcept { return "multimodal_rope"; }
  /// The axis of each pair; -1 for one that stands still.
  std::vector<index_t> axes_of_pairs() const { return axes_of_pairs(this->descriptor().dim / 2, this->options()); }

  friend bool operator==(const multimodal_rope&, const multimodal_rope&) = default;

 private:
  multimodal_rope(const rotary_descriptor& descriptor, const multimodal_rope_options& options, std::optional<index_t> length)
      : base(descriptor, options, length) {}

  static constexpr bool one_axis_will_do() noexcept { return true; }
  static bool options_depend_on_length(const multimodal_rope_options& options) { return posenc::depends_on_length(options.schedule); }
  static rotary_spectrum spectrum_at(const rotary_descriptor& descriptor, const multimodal_rope_options& options, index_t length) {
    const index_t pairs = descriptor.dim / 2;
    const auto made = scheduled_series(options.schedule, name(), descriptor.dim, options.base, length);
    const auto axes = axes_of_pairs(pairs, options);
    frequency_series matrix(options.sections.size() * static_cast<std::size_t>(pairs), {0, 0});
    for (std::size_t k = 0; k < axes.size(); ++k)
      if (axes[k] >= 0) matrix[static_cast<std::size_t>(axes[k] * pairs) + k] = made.radians[k];
    return {frequencies::from_radians(name(), matrix, static_cast<index_t>(options.sections.size())), made.attention_factor};
  }

  static std::vector<index_t> axes_of_pairs(index_t pairs, const multimodal_rope_options& options) {
    const auto& sections = options.sections;
    const auto axes = static_cast<index_t>(sections.size());
    require(axes >= 1 && axes <= max_axes, name(), "there must be 1 to 8 axes", axes);
    index_t sum = 0;
    for (const index_t section : sections) {
      require(section >= 0, name(), "sections must not be negative", section);
      require(section <= pairs - sum, name(), "sections must add up to dim / 2", pairs, sum + section);
      sum += section;
    }
    require(sum == pairs, name(), "sections must add up to dim / 2", pairs, sum);
    std::vector<index_t> axis_of;
    axis_of.reserve(static_cast<std::size_t>(pairs));
    switch (options.arrangement) {
      case multimodal_arrangement::chunked:
        for (index_t axis = 0; axis < axes; ++axis)
          axis_of.insert(axis_of.end(), static_cast<std::size_t>(sections[static_cast<std::size_t>(axis)]), axis);
        break;
      case multimodal_arrangement::interleaved:
        for (index_t k = 0; k < pairs; ++k) {
          const index_t axis = k % axes;
          const bool claimed = axis == 0 || k < axes * sections[static_cast<std::size_t>(axis)];
          const bool over = axis == 0 ? k >= axes * sections[0] : !claimed;
          const bool still = options.leftovers == multimodal_leftovers::still && over;
          axis_of.push_back(still ? -1 : claimed ? axis : 0);
        }
        break;
      case multimodal_arrangement::space_first:
        require(axes == 3 && sections[1] == sections[2], name(), "space_first needs time, height and width, the last two with one section",
                axes, sections.size() > 2 ? sections[1] : 0, sections.size() > 2 ? sections[2] : 0);
        for (index_t k = 0; k < pairs; ++k) axis_of.push_back(k >= 2 * sections[1] ? 0 : 1 + k % 2);
        break;
      case multimodal_arrangement::rarest_first: axis_of = rarest_first(pairs, sections); break;
    }
    return axis_of;
  }
  static std::vector<index_t> rarest_first(index_t pairs, std::vector<index_t> sections) {
    const auto axes = static_cast<index_t>(sections.size());
    require(axes == 2 || axes == 3, name(), "rarest_first needs 2 or 3 axes", axes);
    const bool last_is_first_axis = axes == 3;
    if (last_is_first_axis) {
      require(sections[0] > 0, name(), "rarest_first needs a pair of the first axis", sections[0]);
      --sections[0];
    }
    std::vector<index_t> placed(sections.size()), axis_of;
    for (index_t k = 0; k < pairs - (last_is_first_axis ? 1 : 0); ++k) {
      const index_t previous = axis_of.empty() ? -1 : axis_of.back();
      index_t best = -1;
      const auto consider = [&](index_t axis) {
        const auto a = static_cast<std::size_t>(axis), b = static_cast<std::size_t>(best);
        if (placed[a] == sections[a]) return;
        if (best < 0 || placed[a] * sections[b] < placed[b] * sections[a]) best = axis;  // the smaller share of its section
      };
      for (index_t axis = 0; axis < axes; ++axis)
        if (axis != previous) consider(axis);
      if (best < 0) consider(previous);
      ++placed[static_cast<std::size_t>(best)];
      axis_of.push_back(best);
    }
    if (last_is_first_axis) axis_of.push_back(0);
    return axis_of;
  }
};

template <compute_scalar S>
inline constexpr bool is_shiftable<multimodal_rope<S>> = true;

static_assert(rotary_encoder<multimodal_rope<float>> && rotary_encoder<multimodal_rope<double>> &&
              position_encoder<multimodal_rope<float>>);
static_assert(!additive_encoder<multimodal_rope<float>> && !bias_encoder<multimodal_rope<float>>);

}  // namespace POSENC_NAMESPACE
