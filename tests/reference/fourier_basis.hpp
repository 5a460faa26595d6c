// SPDX-License-Identifier: MIT
/// \file  The discrete Fourier basis as its formulas say, in long double, with k p reduced by one division.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace reference {

/// cos(2 pi numerator / denominator); |numerator| < 2^63.
inline long double cosine_of_turns(std::int64_t numerator, std::int64_t denominator) {
  const auto part = static_cast<long double>(numerator % denominator) / static_cast<long double>(denominator);
  return std::cos(2 * std::numbers::pi_v<long double> * part);
}
inline long double sine_of_turns(std::int64_t numerator, std::int64_t denominator) {
  const auto part = static_cast<long double>(numerator % denominator) / static_cast<long double>(denominator);
  return std::sin(2 * std::numbers::pi_v<long double> * part);
}

/// A position's place in a period; what is left of the positions that the formulas need in 64 bits.
inline std::int64_t place_in(std::int64_t position, std::int64_t period) {
  return static_cast<std::int64_t>((static_cast<std::uint64_t>(position) +
                                    (std::uint64_t{1} << 62) / static_cast<std::uint64_t>(period) * static_cast<std::uint64_t>(period) +
                                    static_cast<std::uint64_t>(period)) %
                                   static_cast<std::uint64_t>(period));
}

}  // namespace reference
