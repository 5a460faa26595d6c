// SPDX-License-Identifier: MIT
/// \file  Frequency schedules: what becomes of theta_k = base^(-2k / dim) where a model reads more positions than it was first trained on.
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>               // require
#include <posenc/required.hpp>
#include <posenc/rope/longrope.hpp>
#include <posenc/rope/scaled_series.hpp>
#include <posenc/rope/yarn.hpp>
#include <posenc/tensor.hpp>              // index_t

#include <algorithm>
#include <cmath>  // isfinite, floor
#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>  // move
#include <variant>
#include <vector>

/// Each schedule is a value. Called with a name for its errors, the width, the base, and the number of positions in use in this forward
/// pass (which only those read that `depends_on_length()`), it gives the frequencies; nothing is remembered from one call to the next.
///
/// All are formed in numbers of 106 bits, within 2^-80, relative, of their formulas in the given doubles. A factor lengthens what a model
/// reads, so it is at least 1: ggml's `freq_scale` and MLX's `scale` are its inverse.
namespace POSENC_NAMESPACE::schedule {

/// theta_k. With another base: Llama 3 (5e5), Qwen (1e6), `ntk_factor` of diffusers, which multiplies the base alone.
struct unscaled {
  static constexpr bool depends_on_length() noexcept { return false; }
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t /*length*/) const {
    return {detail::unscaled_series(who, dim, base)};
  }
  friend bool operator==(const unscaled&, const unscaled&) = default;
};

/// theta_k / f: position interpolation (Chen et al. 2023, "Extending Context Window of Large Language Models via Positional
/// Interpolation"). HF, vLLM, CTranslate2, xformers, Megatron, TransformerEngine; ggml and MLX with 1 / f.
struct linear {
  required<double> factor;

  static constexpr bool depends_on_length() noexcept { return false; }
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t /*length*/) const {
    detail::check_factor(who, factor);
    return {detail::divided(detail::unscaled_series(who, dim, base), detail::number(factor))};
  }
  friend bool operator==(const linear&, const linear&) = default;
};

/// Base * f^(dim / (dim - 2)): the first frequency stays, the last is divided by f ("NTK-aware", bloc97 2023). x-transformers,
/// rotary-embedding-torch; with alpha for f: vLLM's `alpha`, Hunyuan.
/// \throws argument_error  for dim 2, besides a factor below 1.
struct ntk {
  required<double> factor;

  static constexpr bool depends_on_length() noexcept { return false; }
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t /*length*/) const {
    detail::check_factor(who, factor);
    return {detail::with_larger_base(who, dim, base, log(factor))};
  }
  friend bool operator==(const ntk&, const ntk&) = default;
};

/// theta_k / exp(a (k + 1)^b) with a = ln f / (dim / 2)^b: the last frequency is divided by f, those before it by less (Su 2023,
/// kexue.fm/archives/9706). rerope takes b = 0.625, vLLM what is configured as `mixed_b`. vLLM's rule without one, base * f and then
/// theta / f^(2 / dim), is this with b = 1. Hence no default.
struct mixed_ntk {
  required<double> factor;
  required<double> exponent;  ///< b, positive

  static constexpr bool depends_on_length() noexcept { return false; }
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t /*length*/) const {
    detail::check_factor(who, factor);
    require(std::isfinite(exponent) && exponent > 0, who, "exponent must be positive and finite", static_cast<double>(exponent));
    scaled_series made{detail::unscaled_series(who, dim, base)};
    const double_double log_of_count = log(static_cast<double>(dim / 2));
    for (std::size_t k = 0; k < made.radians.size(); ++k) {
      const double_double behind = (log(static_cast<double>(k + 1)) - log_of_count) * detail::number(exponent);
      made.radians[k] = made.radians[k] * detail::power_of_e(-log(factor) * detail::power_of_e(behind));
    }
    return made;
  }
  friend bool operator==(const mixed_ntk&, const mixed_ntk&) = default;
};

/// `ntk` with the factor f L / L0 - (f - 1), where L is the number of positions in use, at least L0 (emozilla 2023). HF and MLX-LM. Keys
/// that were cached at one length do not fit queries at another.
///
/// vLLM takes L = f L0 for every call: `fixed_length`. keras-hub divides all frequencies by f^(dim / (dim - 2)), which is `linear`.
/// \throws argument_error  for dim 2 and options out of range.
struct dynamic_ntk {
  required<double> factor;
  required<index_t> original_length;      ///< L0: max_position_embeddings in HF
  std::optional<index_t> fixed_length{};  ///< L of every call: caches stay good

  bool depends_on_length() const noexcept { return !fixed_length; }
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t length) const {
    detail::check_factor(who, factor);
    detail::check_original_length(who, original_length);
    require(fixed_length.value_or(1) > 0, who, "fixed_length must be positive", fixed_length.value_or(1));
    const index_t beyond = std::max<index_t>(fixed_length.value_or(length) - original_length, 0);
    const double_double ratio = detail::number(1.) + detail::number(factor) * detail::number(beyond) / detail::number(original_length);
    return {detail::with_larger_base(who, dim, base, detail::log(ratio))};
  }
  friend bool operator==(const dynamic_ntk&, const dynamic_ntk&) = default;
};

/// theta_k / f, and theta_k L0 / L once the number L of positions in use exceeds f L0. TransformerEngine, with both of its options.
struct dynamic_linear {
  required<double> factor;
  required<index_t> original_length;

  static constexpr bool depends_on_length() noexcept { return true; }
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t length) const {
    detail::check_factor(who, factor);
    detail::check_original_length(who, original_length);
    const double_double needed = detail::number(length) / detail::number(original_length), f = detail::number(factor);
    return {detail::divided(detail::unscaled_series(who, dim, base), (needed - f).high > 0 ? needed : f)};
  }
  friend bool operator==(const dynamic_linear&, const dynamic_linear&) = default;
};

/// Base^e with e = ln(f L0 / 2 pi) / ln(L0 / 2 pi): a pair that turned once within L0 turns once within f L0. grok1 in vLLM.
struct theta_scale {
  required<double> factor;
  required<index_t> original_length;  ///< at least 7: longer than one turn of the first pair

  static constexpr bool depends_on_length() noexcept { return false; }
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t /*length*/) const {
    detail::check_factor(who, factor);
    const index_t original = original_length;
    require(original >= 7, who, "original_length must be at least 7, a full turn of the first pair", original);
    frequency_series all = detail::unscaled_series(who, dim, base);
    const double_double more = log(factor) / detail::log(detail::number(original) / two_pi);  // e - 1
    const double_double rate = more * log(base) * detail::number(2.) / detail::number(dim);
    return {detail::slowed(std::move(all), rate)};
  }
  friend bool operator==(const theta_scale&, const theta_scale&) = default;
};

/// By wavelength, 2 pi / theta: those below L0 / high_freq_factor stay, those above L0 / low_freq_factor are divided by f, and between them
/// s theta + (1 - s) theta / f with s = (L0 / wavelength - low) / (high - low). Llama 3.1 (Meta 2024): HF, vLLM, torchtune, MLX-LM,
/// CTranslate2, candle, Megatron; ggml as `pair_factors`. xformers' own defaults are 16, 1 and 32.
struct llama3 {
  required<double> factor;  ///< 8 in Llama 3.1, 32 in 3.2
  double low_freq_factor = 1, high_freq_factor = 4;
  index_t original_length = 8192;

  static constexpr bool depends_on_length() noexcept { return false; }
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t /*length*/) const {
    detail::check_factor(who, factor);
    detail::check_original_length(who, original_length);
    require(low_freq_factor > 0 && high_freq_factor > low_freq_factor && std::isfinite(high_freq_factor), who,
            "low_freq_factor must be positive and below high_freq_factor", low_freq_factor, high_freq_factor);
    scaled_series made{detail::unscaled_series(who, dim, base)};
    const double_double low = detail::number(low_freq_factor), width = detail::number(high_freq_factor) - low;
    for (double_double& theta : made.radians) {
      const double_double turns = theta * detail::number(original_length) / two_pi;
      theta = detail::mixed(theta, detail::clamped_to_unit((turns - low) / width), factor);
    }
    return made;
  }
  friend bool operator==(const llama3&, const llama3&) = default;
};

/// theta_k / f for k < floor(fraction * dim / 2), with exponents over the whole dim, and zero for the rest, which never turn. Gemma 4's
/// global layers: fraction 0.25 of 512 (HF, vLLM; MLX-LM as infinite `freqs`). Unlike a narrower RoPE, pairs lie dim / 2 apart.
struct proportional {
  required<double> fraction;  ///< in (0, 1]
  double factor = 1;

  static constexpr bool depends_on_length() noexcept { return false; }
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t /*length*/) const {
    require(fraction > 0 && fraction <= 1, who, "fraction must lie in (0, 1]", static_cast<double>(fraction));
    detail::check_factor(who, factor);
    scaled_series made{detail::divided(detail::unscaled_series(who, dim, base), detail::number(factor))};
    const auto turning = static_cast<std::ptrdiff_t>(std::floor(fraction * static_cast<double>(dim) / 2));
    std::fill(made.radians.begin() + turning, made.radians.end(), detail::number(0.));
    return made;
  }
  friend bool operator==(const proportional&, const proportional&) = default;
};

/// theta_k / e_k: `freq_factors` of ggml; with base 1, `freqs` of MLX. An infinite e_k stops its pair.
struct pair_factors {
  std::vector<double> divisors;  ///< dim / 2, positive

  static constexpr bool depends_on_length() noexcept { return false; }
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t /*length*/) const {
    return {detail::divided_each(who, "divisors", dim, base, divisors)};
  }
  friend bool operator==(const pair_factors&, const pair_factors&) = default;
};

/// Frequencies that were learned, or that no rule here gives: `inv_freq` of a checkpoint. The base plays no part.
struct explicit_frequencies {
  std::vector<double> radians;  ///< per position, dim / 2, finite

  static constexpr bool depends_on_length() noexcept { return false; }
  scaled_series operator()(std::string_view who, index_t dim, double /*base*/, index_t /*length*/) const {
    detail::check_dim(who, dim);
    detail::check_list(who, "radians", radians, dim);
    scaled_series made;
    for (const double speed : radians) {
      require(std::isfinite(speed), who, "radians must be finite", speed);
      made.radians.push_back(detail::number(speed));
    }
    return made;
  }
  friend bool operator==(const explicit_frequencies&, const explicit_frequencies&) = default;
};

}  // namespace POSENC_NAMESPACE::schedule

namespace POSENC_NAMESPACE {

/// Any schedule; `unscaled` unless another is given.
using frequency_schedule = std::variant<schedule::unscaled, schedule::linear, schedule::ntk, schedule::mixed_ntk, schedule::dynamic_ntk,
                                        schedule::dynamic_linear, schedule::theta_scale, schedule::yarn, schedule::llama3,
                                        schedule::longrope, schedule::proportional, schedule::pair_factors, schedule::explicit_frequencies>;

/// What the schedule makes of `dim` channels at a forward pass with `length` positions in use (the largest position + 1).
/// \throws argument_error  unless dim is positive and even, the base positive and finite, and the schedule's own options in range.
inline schedule::scaled_series scheduled_series(const frequency_schedule& rule, std::string_view who, index_t dim, double base,
                                                index_t length) {
  return std::visit([&](const auto& one) { return one(who, dim, base, length); }, rule);
}
/// Whether frequencies change with the number of positions in use, so that cached keys may not fit.
inline bool depends_on_length(const frequency_schedule& rule) {
  return std::visit([](const auto& one) { return one.depends_on_length(); }, rule);
}

}  // namespace POSENC_NAMESPACE
