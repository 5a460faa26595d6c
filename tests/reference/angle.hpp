// SPDX-License-Identifier: MIT
/// \file  The cosine and sine of an angle in turns, exact before the last step: integers reduce it, then the math library has an eighth of
/// a turn at most.
#pragma once

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

}  // namespace reference
