// SPDX-License-Identifier: MIT
/// \file  The cosine and sine of an angle in turns, exact before the last step: integers reduce it, then the math library has an eighth of
/// a turn at most.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace reference {

struct cosine_and_sine {
  long double cosine, sine;
};

/// Of position times (high + low * 2^-64) * 2^-64 turn.
inline cosine_and_sine angle(std::int64_t position, std::uint64_t high, std::uint64_t low) {
  // The product modulo one turn by schoolbook multiplication of 32-bit digits, least first.
  const std::uint64_t magnitude =
      position < 0 ? std::uint64_t{0} - static_cast<std::uint64_t>(position) : static_cast<std::uint64_t>(position);
  const std::array<std::uint64_t, 4> fraction{low & 0xffffffffu, low >> 32, high & 0xffffffffu, high >> 32};
  const std::array<std::uint64_t, 2> factor{magnitude & 0xffffffffu, magnitude >> 32};
  std::array<std::uint64_t, 4> product{};
  for (std::size_t i = 0; i < 2; ++i) {
    std::uint64_t carry = 0;
    for (std::size_t k = 0; i + k < 4; ++k) {
      carry += product[i + k] + factor[i] * fraction[k];
      product[i + k] = carry & 0xffffffffu;
      carry >>= 32;
    }
  }
  // The nearest quarter turn, and what is left of it.
  const std::uint64_t quarter = ((product[3] >> 29) + 1) / 2;
  product[3] -= quarter << 30;  // wraps below zero
  const auto top = static_cast<std::int32_t>(static_cast<std::uint32_t>(product[3]));
  long double rest = 0;
  for (std::size_t k = 0; k < 3; ++k) rest = (rest + static_cast<long double>(product[k])) * 0x1p-32L;
  const long double radians = (rest + static_cast<long double>(top)) * 0x1p-32L * 6.28318530717958647692528676655900577L;
  const long double c = std::cos(radians), s = std::sin(radians);
  const bool backwards = position < 0;
  switch (quarter % 4) {
    case 0: return {c, backwards ? -s : s};
    case 1: return {-s, backwards ? -c : c};
    case 2: return {-c, backwards ? s : -s};
    default: return {s, backwards ? c : -c};
  }
}

/// A number of turns but for the whole ones, exact: digits of 32 bits, least first, down to 2^-1280.
struct exact_turns {
  std::array<std::uint32_t, 40> digits{};

  friend exact_turns operator+(const exact_turns& a, const exact_turns& b) {
    exact_turns sum;
    std::uint64_t carry = 0;
    for (std::size_t n = 0; n < sum.digits.size(); ++n) {
      carry += std::uint64_t{a.digits[n]} + b.digits[n];
      sum.digits[n] = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    return sum;
  }
  friend exact_turns operator-(exact_turns a) {
    for (std::uint32_t& digit : a.digits) digit = ~digit;
    return a + exact_turns{{1}};
  }
  friend bool operator==(const exact_turns&, const exact_turns&) = default;
};

/// significand * 2^exponent times a frequency of whole + (high + low * 2^-64) * 2^-64 turns; exponents from -1074 on.
inline exact_turns turned(std::uint64_t significand, int exponent, std::int64_t whole, std::uint64_t high, std::uint64_t low) {
  const bool backwards = whole < 0;
  std::array<std::uint64_t, 3> words{low, high, static_cast<std::uint64_t>(whole)};
  std::uint64_t one = backwards ? 1 : 0;
  for (std::uint64_t& word : words) word = (backwards ? ~word : word) + one, one = one && word == 0 ? 1 : 0;
  std::array<std::uint64_t, 8> product{};  // of 32-bit digits
  for (std::size_t i = 0; i < 2; ++i) {
    std::uint64_t carry = 0;
    for (std::size_t k = 0; k < 6; ++k) {
      carry += product[i + k] + (significand >> (32 * i) & 0xffffffffu) * (words[k / 2] >> (32 * (k % 2)) & 0xffffffffu);
      product[i + k] = carry & 0xffffffffu;
      carry >>= 32;
    }
    product[i + 6] = carry;
  }
  exact_turns all;
  for (int bit = 0; bit < 256; ++bit) {
    const int place = bit + exponent - 128 + 1280;  // of 2^-1280 turn
    if (place >= 0 && place < 1280 && (product[static_cast<std::size_t>(bit / 32)] >> (bit % 32) & 1u))
      all.digits[static_cast<std::size_t>(place / 32)] |= std::uint32_t{1} << (place % 32);
  }
  return backwards ? -all : all;
}
inline exact_turns turned(std::int64_t position, std::int64_t whole, std::uint64_t high, std::uint64_t low) {
  const auto u = static_cast<std::uint64_t>(position);
  return position < 0 ? -turned(std::uint64_t{0} - u, 0, whole, high, low) : turned(u, 0, whole, high, low);
}
inline exact_turns turned(double coordinate, std::int64_t whole, std::uint64_t high, std::uint64_t low) {
  int exponent = 0;
  const double fraction = std::frexp(std::abs(coordinate), &exponent);  // below the normal numbers the last bits are zeros
  const int lowest = std::max(exponent - 53, -1074);
  const exact_turns all = turned(static_cast<std::uint64_t>(std::ldexp(fraction, exponent - lowest)), lowest, whole, high, low);
  return coordinate < 0 ? -all : all;
}

/// Of an exact angle.
inline cosine_and_sine angle(const exact_turns& turns) {
  const std::uint32_t quarter = ((turns.digits.back() >> 29) + 1) / 2;
  long double rest = 0;
  for (std::size_t n = 0; n + 1 < turns.digits.size(); ++n) rest = (rest + static_cast<long double>(turns.digits[n])) * 0x1p-32L;
  const auto top = static_cast<std::int32_t>(turns.digits.back() - (quarter << 30));  // wraps below zero
  const long double radians = (rest + static_cast<long double>(top)) * 0x1p-32L * 6.28318530717958647692528676655900577L;
  const long double c = std::cos(radians), s = std::sin(radians);
  switch (quarter % 4) {
    case 0: return {c, s};
    case 1: return {-s, c};
    case 2: return {-c, -s};
    default: return {s, -c};
  }
}

}  // namespace reference
