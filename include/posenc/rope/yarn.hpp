// SPDX-License-Identifier: MIT
/// \file  YaRN: fast pairs keep their frequency, slow ones are interpolated, a ramp lies between. Peng et al. 2023, "YaRN: Efficient
/// Context Window Extension of Large Language Models".
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>               // require
#include <posenc/required.hpp>
#include <posenc/rope/scaled_series.hpp>
#include <posenc/tensor.hpp>              // index_t

#include <cmath>  // isfinite
#include <optional>
#include <string_view>

namespace POSENC_NAMESPACE::schedule {

/// How a pair on the ramp mixes theta and theta / f.
enum class yarn_mix {
  linear,    ///< w theta + (1 - w) theta / f: the paper and nearly all systems (grok1 in vLLM: `yarn_linear`)
  geometric  ///< theta^w (theta / f)^(1 - w): grok1 in vLLM, `yarn_log`, its default
};

/// With theta_k = base^(-2k / dim), f the factor, L0 the original length and P(r) the pair that turns r times within it:
///
///     P(r)     = dim * ln(L0 / (2 pi r)) / (2 ln base)
///     low      = max(floor(P(beta_fast)), 0),  high = min(ceil(P(beta_slow)), dim - 1), and high + 0.001 if they are equal
///     w_k      = (1 - clamp((k - low) / (high - low), 0, 1)) * extrapolation
///     theta'_k = w_k theta_k + (1 - w_k) theta_k / f
///
/// HF, vLLM, Megatron, MLX-LM, DeepSeek. Where systems differ, here is what to give for
///
/// * gpt-oss: `truncate = false`;
/// * ggml: no `mscale`, since it takes 1 + 0.1 ln f whatever a model says, its `attn_factor` multiplied into `attention_factor`, and its
///   `ext_factor` as `extrapolation`. It widens a ramp of no width to 0.001 too, but also one that ends before it begins;
/// * MLX-LM with one `mscale` m alone: `attention_factor` 1 + 0.1 m ln f. It multiplies q and k themselves, for the same scores;
/// * DeepSeek V2 and V3: both `mscale` as configured, and `score_factor()` on the scale of scores, outside RoPE;
/// * DeepSeek V4 and grok1: `attention_factor = 1`. grok1's `yarn_linear` and `yarn_log` are in `mix`, its `theta_scale` is a schedule of
///   that name, its `original` is `unscaled`;
/// * TeleChat3: `log_slope = 0.07`.
///
/// Not offered: keras-hub ends the ramp at dim / 2 - 1 at the latest and, with `truncate`, clamps positions at L0. No model learned that.
struct yarn {
  required<double> factor;                   ///< f, at least 1; in HF, where there is none, max_position_embeddings / L0
  required<index_t> original_length;         ///< L0, positive
  double beta_fast = 32;                     ///< turns within L0 from which a pair keeps its frequency
  double beta_slow = 1;                      ///< turns within L0 up to which a pair is interpolated
  bool truncate = true;                      ///< the ends of the ramp are whole pairs
  std::optional<double> attention_factor{};  ///< in place of what `mscale` and `mscale_all_dim` say
  double mscale = 0;                         ///< 0: not given, as in HF, where one without the other does not count
  double mscale_all_dim = 0;                 ///< 0: not given
  double log_slope = 0.1;                    ///< c in g(m) = 1 + c m ln f
  yarn_mix mix = yarn_mix::linear;
  double extrapolation = 1;                  ///< in [0, 1], weakens theta itself: ggml's `ext_factor`, vLLM's `extrapolation_factor`

  static constexpr bool depends_on_length() noexcept { return false; }

  /// g(mscale_all_dim)^2: what DeepSeek V2 and V3 multiply the scale of scores by. The library does not apply it by itself; 1 if not given.
  /// \throws argument_error  unless the factor is finite and at least 1.
  double score_factor() const {
    detail::check_factor("yarn", factor);
    return magnitude(mscale_all_dim) * magnitude(mscale_all_dim);
  }

  /// The attention factor is `attention_factor`, or g(mscale) / g(mscale_all_dim) where both are given, or g(1).
  /// \throws argument_error  for options out of range, a base not above 1, and a ramp that ends before it begins, as it does where L0 is
  ///                         shorter than beta_slow turns of the first pair or longer than beta_fast turns of any: there systems differ.
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t /*length*/) const {
    check(who, base);
    scaled_series made{detail::unscaled_series(who, dim, base), factor_of_attention()};
    detail::check_attention_factor(who, made.attention_factor);
    const auto [low, width] = ramp(who, dim, base);
    const double_double one = detail::number(1.);
    for (std::size_t k = 0; k < made.radians.size(); ++k) {
      const double_double interpolated = detail::clamped_to_unit((detail::number(static_cast<double>(k)) - low) / width);
      const double_double kept = (one - interpolated) * detail::number(extrapolation);
      double_double& theta = made.radians[k];
      if (mix == yarn_mix::geometric) theta = theta * detail::power_of_e((kept - one) * log(factor));
      else theta = detail::mixed(theta, kept, factor);
    }
    return made;
  }

  friend bool operator==(const yarn&, const yarn&) = default;

 private:
  void check(std::string_view who, double base) const {
    detail::check_factor(who, factor);
    detail::check_original_length(who, original_length);
    require(std::isfinite(beta_fast) && std::isfinite(beta_slow) && beta_slow > 0 && beta_fast > beta_slow, who,
            "beta_fast must be above beta_slow, both positive and finite", beta_fast, beta_slow);
    require(std::isfinite(mscale) && std::isfinite(mscale_all_dim) && mscale >= 0 && mscale_all_dim >= 0, who,
            "mscale and mscale_all_dim must be finite and not negative", mscale, mscale_all_dim);
    require(std::isfinite(log_slope), who, "log_slope must be finite", log_slope);
    require(extrapolation >= 0 && extrapolation <= 1, who, "extrapolation must lie in [0, 1]", extrapolation);
    require(std::isfinite(base) && base > 1, who, "YaRN needs a finite base above 1", base);
  }

  double magnitude(double m) const {  // g(m)
    return (detail::number(1.) + detail::number(log_slope) * detail::number(m) * log(factor)).high;
  }
  double factor_of_attention() const {
    if (attention_factor) return *attention_factor;
    return mscale != 0 && mscale_all_dim != 0 ? magnitude(mscale) / magnitude(mscale_all_dim) : magnitude(1);
  }

  struct ends {
    double_double low, width;
  };
  ends ramp(std::string_view who, index_t dim, double base) const {
    const double_double pairs_per_e = detail::number(dim) / (detail::number(2.) * log(base));
    const double_double log_of_radius = detail::log(detail::number(original_length) / two_pi);
    double_double low = pairs_per_e * (log_of_radius - log(beta_fast)), high = pairs_per_e * (log_of_radius - log(beta_slow));
    if (truncate) low = floor(low), high = -floor(-high);
    if (low.high < 0) low = detail::number(0.);
    if ((high - detail::number(dim - 1)).high > 0) high = detail::number(dim - 1);
    const double_double width = high - low;
    require(width.high >= 0, who, "the ramp of YaRN must not end before it begins", low.high, high.high);
    return {low, width.high == 0 ? detail::number(0.001) : width};
  }
};

}  // namespace POSENC_NAMESPACE::schedule
