// SPDX-License-Identifier: MIT
/// \file  Sinusoidal codes channel by channel, from the papers' formulas.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace reference {

/// sin or cos of position times base^-exponent.
struct wave {
  bool is_sine;
  long double exponent;
};

/// The code of `channels` channels at one position, by `wave_of(channel)`, times `scale`.
inline double sinusoid(const wave& at, std::int64_t position, double base, double scale) {
  const long double angle = static_cast<long double>(position) * std::pow(static_cast<long double>(base), -at.exponent);
  return static_cast<double>(static_cast<long double>(scale) * (at.is_sine ? std::sin(angle) : std::cos(angle)));
}

enum class order { interleaved, sin_cos, cos_sin };

/// Channel c of a code with an even number of channels. `last_is_base`: exponents k / (h - 1) instead of 2k / channels.
inline wave even_wave(order arranged, bool last_is_base, std::ptrdiff_t channels, std::ptrdiff_t c) {
  const std::ptrdiff_t half = channels / 2;
  const std::ptrdiff_t k = arranged == order::interleaved ? c / 2 : c % half;
  const bool first = arranged == order::interleaved ? c % 2 == 0 : c < half;
  const long double step =
      last_is_base ? (half > 1 ? 1.0L / static_cast<long double>(half - 1) : 1.0L) : 2.0L / static_cast<long double>(channels);
  return {first != (arranged == order::cos_sin), static_cast<long double>(k) * step};
}

}  // namespace reference
