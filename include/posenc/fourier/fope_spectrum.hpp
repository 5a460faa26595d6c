// SPDX-License-Identifier: MIT
/// \file  Which waves Fourier position embedding mixes: theta_k = base^(-2k / dim) without those that training did not see enough of.
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/frequencies.hpp>
#include <posenc/required.hpp>
#include <posenc/rope/schedule.hpp>
#include <posenc/tensor.hpp>  // index_t

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>

namespace POSENC_NAMESPACE {

/// What becomes of a frequency beyond a bound.
enum class fope_clamp { none, to_zero, to_bound };

/// What becomes of frequencies as multiples of 2 pi / max_sequence_length, the wave of one period (the authors' "clamp to linear").
enum class fope_multiples {
  any,
  ceil,   ///< the next whole multiple
  floor,  ///< the one before
  half    ///< the middle of both; 0 stays 0
};

/// Whether the schedule lengthens waves before the clamps, which then see what it made, or after them.
enum class fope_extension { before_clamp, after_clamp };

/// The waves that are mixed, by the rules of `get_inv_freq` in the authors' repository, in their order: theta, the clamps, the multiples.
/// vLLM's `num_inv_freq`, the first n of dim / 2 waves, is `schedule::proportional` with a fraction of 2 n / dim and no clamp.
struct fope_spectrum {
  double base = 10000;                     ///< theta_k = base^(-2k / fourier_dim)
  required<index_t> max_sequence_length;   ///< of training: waves longer than that are the ones that it did not see whole
  index_t fourier_dim = 0;                 ///< 0: dim; more than dim: more waves than pairs of channels
  fope_clamp floor = fope_clamp::to_zero;  ///< for theta < floor_ratio * 2 pi / max_sequence_length
  double floor_ratio = 1;
  fope_clamp upper = fope_clamp::none;     ///< for theta > upper_ratio * pi
  double upper_ratio = 1;
  fope_multiples multiples = fope_multiples::any;
  bool ignore_zero = true;                 ///< frequencies of 0 are dropped, as in all configurations that the authors ship
  frequency_schedule schedule{};           ///< not one that depends on the length: coefficients belong to frequencies
  fope_extension extension = fope_extension::after_clamp;

  friend bool operator==(const fope_spectrum&, const fope_spectrum&) = default;
};

namespace detail {

inline double_double fope_multiple(fope_multiples rule, double_double ratio) noexcept {
  if (rule == fope_multiples::any || (ratio.high == 0 && ratio.low == 0)) return ratio;
  if (rule == fope_multiples::ceil) return -posenc::floor(-ratio);
  return posenc::floor(ratio) + double_double{rule == fope_multiples::half ? 0.5 : 0.0, 0};
}

inline bool same(double_double a, double_double b) noexcept { return a.high == b.high && a.low == b.low; }

}  // namespace detail

/// The frequencies that are left, in radians per position, and the attention factor of the schedule. What no rule changes keeps the bits
/// that `rope` turns by; bounds and multiples are within 2^-80, relative. After the clamps, the schedule multiplies a frequency by what
/// it makes of theta_k, divided by theta_k; the authors' YaRN is that with an attention factor of 1.
/// \throws argument_error  unless dim is positive and even, fourier_dim 0 or even and no less, the length positive, both ratios positive
///                         and finite, the upper bound no less than the floor, the schedule's members in range and its frequencies fixed,
///                         and a frequency left.
inline schedule::scaled_series fope_series(std::string_view who, index_t dim, const fope_spectrum& of) {
  schedule::detail::check_dim(who, dim);
  const index_t length = of.max_sequence_length, width = of.fourier_dim == 0 ? dim : of.fourier_dim;
  require(width >= dim && width % 2 == 0, who, "fourier_dim must be 0, or even and at least dim", of.fourier_dim, dim);
  require(length > 0, who, "max_sequence_length must be positive", length);
  require(of.floor_ratio > 0 && std::isfinite(of.floor_ratio), who, "floor_ratio must be positive and finite", of.floor_ratio);
  require(of.upper_ratio > 0 && std::isfinite(of.upper_ratio), who, "upper_ratio must be positive and finite", of.upper_ratio);
  const double highest = of.upper_ratio * static_cast<double>(length) / 2;
  require(of.floor == fope_clamp::none || of.upper == fope_clamp::none || highest >= of.floor_ratio, who,
          "the upper bound must not lie below the floor", highest, of.floor_ratio);
  require(!depends_on_length(of.schedule), who, "the schedule must not depend on the length");

  const frequency_series plain = plain_series(who, width, of.base);
  schedule::scaled_series made = scheduled_series(of.schedule, who, width, of.base, 0);
  const bool first = of.extension == fope_extension::before_clamp;
  const double_double lowest_wave = two_pi / schedule::detail::number(length);
  for (std::size_t k = 0; k < plain.size(); ++k) {
    const double_double given = first ? made.radians[k] : plain[k], ratio = given / lowest_wave;
    double_double kept = ratio;
    const auto bound_to = [&](fope_clamp rule, double bound) { kept = {rule == fope_clamp::to_zero ? 0 : bound, 0}; };
    if (of.floor != fope_clamp::none && (kept - schedule::detail::number(of.floor_ratio)).high < 0) bound_to(of.floor, of.floor_ratio);
    if (of.upper != fope_clamp::none && (kept - schedule::detail::number(highest)).high > 0) bound_to(of.upper, highest);
    kept = detail::fope_multiple(of.multiples, kept);
    if (detail::same(kept, ratio)) continue;  // `plain` and what the schedule made of it, as they are
    made.radians[k] = first ? kept * lowest_wave : kept * lowest_wave * (made.radians[k] / plain[k]);
  }
  if (of.ignore_zero) std::erase_if(made.radians, [](double_double theta) { return theta.high == 0; });
  const bool any_left = std::any_of(made.radians.begin(), made.radians.end(), [](double_double theta) { return theta.high != 0; });
  require(any_left, who, "a frequency must be left by the clamps", plain.size());
  return made;
}

}  // namespace POSENC_NAMESPACE
