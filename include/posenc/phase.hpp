// SPDX-License-Identifier: MIT
/// \file  Angles as fixed-point turns: phase = position * frequency in units of 2^-64 turn, wrapping as angles do.
///
/// No range reduction, exact for negative positions, and additive bit for bit: with the high word alone,
/// phase(p + d) == phase(p) + phase(d). Systems that form the angle in float are off by 3e-2 at position 10^6.
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>

#include <cstdint>
#include <initializer_list>

namespace POSENC_NAMESPACE {

/// A fraction of a full turn, (high + low * 2^-64) * 2^-64, in [0, 1).
struct turns {
  std::uint64_t high, low;
  friend constexpr bool operator==(const turns&, const turns&) = default;
};

/// The fraction of `full_turns`, a number in (-2^40, 2^40), truncated to 2^-128 turn.
inline turns to_turns(double_double full_turns) noexcept {
  double_double rest = full_turns - floor(full_turns);
  std::uint64_t words[4];
  for (auto& word : words) {  // 32 bits at a time: exact in double-double
    rest = rest * double_double{4294967296.0, 0};
    const double_double whole = floor(rest);
    word = static_cast<std::uint64_t>(whole.high + whole.low);
    rest = rest - whole;
  }
  return {words[0] << 32 | words[1], words[2] << 32 | words[3]};
}

/// The same from radians, |radians| < 2^42.
inline turns from_radians(double_double radians) noexcept { return to_turns(radians / two_pi); }

/// The nearest number of 106 bits, in turns.
inline double_double to_double_double(turns fraction) noexcept {
  double_double sum{0, 0};
  for (const std::uint64_t word : {fraction.low & 0xffffffffu, fraction.low >> 32, fraction.high & 0xffffffffu, fraction.high >> 32})
    sum = (sum + double_double{static_cast<double>(word), 0}) * double_double{1 / 4294967296.0, 0};
  return sum;
}
/// The nearest double, in radians in [0, 2 pi).
inline double radians(turns fraction) noexcept { return (to_double_double(fraction) * two_pi).high; }

/// The upper 64 bits of the 128-bit product of a signed and an unsigned number, from 32-bit halves.
constexpr std::uint64_t multiply_high(std::int64_t a, std::uint64_t b) noexcept {
  const auto u = static_cast<std::uint64_t>(a);
  const std::uint64_t a_low = u & 0xffffffffu, a_high = u >> 32, b_low = b & 0xffffffffu, b_high = b >> 32;
  const std::uint64_t middle = a_high * b_low + (a_low * b_low >> 32);
  const std::uint64_t carry = a_low * b_high + (middle & 0xffffffffu);
  const std::uint64_t unsigned_high = a_high * b_high + (middle >> 32) + (carry >> 32);
  return a < 0 ? unsigned_high - b : unsigned_high;
}

/// The angle of a position for float tables, in 2^-64 turn: additive bit for bit; off by at most |p| * 2^-64 turn.
constexpr std::uint64_t float_phase(std::int64_t p, turns frequency) noexcept { return static_cast<std::uint64_t>(p) * frequency.high; }

/// The angle of a position for double tables, in 2^-64 turn: off by less than 2^-63 turn for |p| <= 2^62.
constexpr std::uint64_t double_phase(std::int64_t p, turns frequency) noexcept {
  return static_cast<std::uint64_t>(p) * frequency.high + multiply_high(p, frequency.low);
}

}  // namespace POSENC_NAMESPACE
