// SPDX-License-Identifier: MIT
/// \file  xPos: RoPE whose queries grow and whose keys shrink with the position, so that scores of distant pairs fade. Sun et al. 2023,
/// "A Length-Extrapolatable Transformer".
#pragma once

#include <posenc/concepts.hpp>               // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>                  // require
#include <posenc/frequencies.hpp>
#include <posenc/required.hpp>
#include <posenc/rope/schedule.hpp>
#include <posenc/rope/scheduled_rotary.hpp>  // the verbs
#include <posenc/tensor.hpp>

#include <cmath>
#include <optional>
#include <string_view>

namespace POSENC_NAMESPACE {

/// Where scales are 1. Every centre gives the same scores, as long as queries and keys, cached ones too, have the same; numbers grow with
/// the distance from it. Checkpoints do not tell, and systems differ.
enum class xpos_centre {
  fixed,         ///< at `centre`, whatever the length: the only one under which cached keys stay right
  torchscale,    ///< half the length, rounded up: torchscale, which caches keys before they turn
  x_transformers ///< half of the largest position in use, plus 1, rounded down: x-transformers; flash-attention with the cached length
};

struct xpos_options {
  required<xpos_centre> centre_rule;
  double centre = 0;              ///< for xpos_centre::fixed
  double scale_base = 512;        ///< positions over which pair k fades by z_k
  double base = 10000;
  frequency_schedule schedule{};

  friend bool operator==(const xpos_options&, const xpos_options&) = default;
};

/// Rotates as `rope` does, and multiplies pair k of queries by z_k^((p - centre) / scale_base), divides that of keys by it, with
/// z_k = (2k + 0.4 dim) / (1.4 dim): their product fades by z_k^((p_q - p_k) / scale_base), for queries behind their keys.
///
/// Scales are formed in double and multiply cosines and sines before these are rounded: within 2^-23 relative in float, 2^-42 in double at
/// 10^5 positions from the centre. See `rotary_verbs` for the verbs; `prepare` with plain positions gives the table of queries.
template <compute_scalar S>
class xpos : public scheduled_rotary<xpos<S>, S, xpos_options> {
  using base = scheduled_rotary<xpos, S, xpos_options>;
  friend base;
  friend rotary_verbs<xpos, S>;

 public:
  /// \throws argument_error  as `rope` does, and unless the scale base is positive and finite and the centre finite. `prepare` throws for
  /// positions so far from the centre that scales pass 2^120 in float, 2^1000 in double: beyond 34 000 positions in float, for the base
  /// 512.
  explicit xpos(const rotary_descriptor& descriptor, const xpos_options& options) : xpos(descriptor, options, std::nullopt) {}

  static constexpr std::string_view name() noexcept { return "xpos"; }

  friend bool operator==(const xpos&, const xpos&) = default;

 private:
  xpos(const rotary_descriptor& descriptor, const xpos_options& options, std::optional<index_t> length)
      : base(descriptor, options, length) {}

  static rotary_spectrum spectrum_at(const rotary_descriptor& descriptor, const xpos_options& options, index_t length) {
    require(std::isfinite(options.scale_base) && options.scale_base > 0, name(), "scale_base must be positive and finite",
            options.scale_base);
    require(std::isfinite(options.centre), name(), "centre must be finite", options.centre);
    const auto made = scheduled_series(options.schedule, name(), descriptor.dim, options.base, length);
    rotary_spectrum spectrum{frequencies::from_radians(name(), made.radians), made.attention_factor};
    const auto dim = static_cast<double>(index_t{descriptor.dim});
    for (index_t k = 0; k < descriptor.dim / 2; ++k)
      spectrum.growth.push_back(std::log2((2 * static_cast<double>(k) + 0.4 * dim) / (1.4 * dim)) / options.scale_base);
    if (options.centre_rule == xpos_centre::fixed) spectrum.centre = options.centre;
    else spectrum.centre = static_cast<double>(options.centre_rule == xpos_centre::torchscale ? length - length / 2 : length / 2);
    return spectrum;
  }
  static bool options_depend_on_length(const xpos_options& options) {
    return options.centre_rule != xpos_centre::fixed || posenc::depends_on_length(options.schedule);
  }
};

template <compute_scalar S>
inline constexpr bool is_shiftable<xpos<S>> = true;

static_assert(rotary_encoder<xpos<float>> && rotary_encoder<xpos<double>> && position_encoder<xpos<float>>);
static_assert(!additive_encoder<xpos<float>> && !bias_encoder<xpos<float>>);

}  // namespace POSENC_NAMESPACE
