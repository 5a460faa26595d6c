// SPDX-License-Identifier: MIT
/// \file  What numbers are in storage: the kernels' 16-bit formats by what their fields mean, one number at a time; float and double as
/// they are.
#pragma once

#include <posenc/kernels/scalars.hpp>

#include "random.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace reference {

using posenc::kernels::compute;

template <class T>
struct format;
template <>
struct format<posenc::kernels::bfloat16> {
  static constexpr int fraction_bits = 7, exponent_bias = 127;
};
template <>
struct format<posenc::kernels::float16> {
  static constexpr int fraction_bits = 10, exponent_bias = 15;
};

/// The number that is stored, exactly.
template <class T>
compute<T> loaded(T stored) {
  if constexpr (sizeof(T) > 2) {
    return stored;
  } else {
    constexpr int bits = format<T>::fraction_bits, bias = format<T>::exponent_bias;
    const int fraction = stored.bits & ((1 << bits) - 1), exponent = (stored.bits & 0x7fff) >> bits;
    float magnitude = std::ldexp(static_cast<float>(fraction + (exponent > 0 ? 1 << bits : 0)), std::max(exponent, 1) - bias - bits);
    if (exponent == 2 * bias + 1) magnitude = fraction ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
    return stored.bits >> 15 ? -magnitude : magnitude;
  }
}

/// The nearest that can be stored, the even one of two; infinity from where the next power of two would be nearer.
template <class T>
T stored(compute<T> number) {
  if constexpr (sizeof(T) > 2) {
    return number;
  } else {
    constexpr int bits = format<T>::fraction_bits, bias = format<T>::exponent_bias, infinity = (2 * bias + 1) << bits;
    int field = infinity;
    if (std::isnan(number)) {
      field |= 1 << (bits - 1);
    } else if (!std::isinf(number)) {
      const double magnitude = std::abs(static_cast<double>(number));
      const int exponent = magnitude > 0 ? std::max(std::ilogb(magnitude), 1 - bias) : 1 - bias;
      const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, bits - exponent)));  // the leading 1 included
      field = std::min(((exponent + bias - 1) << bits) + steps, infinity);
    }
    return {static_cast<std::uint16_t>(field | (std::signbit(number) ? 0x8000 : 0))};
  }
}

// No vector has room to spare, for memory checkers find what is read behind it only then.
template <class T>
std::vector<compute<T>> loaded(const std::vector<T>& all) {
  std::vector<compute<T>> numbers(all.size());
  std::transform(all.begin(), all.end(), numbers.begin(), [](T one) { return loaded(one); });
  return numbers;
}

template <class T>
std::vector<T> stored(const std::vector<compute<T>>& numbers) {
  std::vector<T> all(numbers.size());
  std::transform(numbers.begin(), numbers.end(), all.begin(), [](compute<T> number) { return stored<T>(number); });
  return all;
}

/// Not-a-number with every bit set but the sign: rounding it as if it were a number would carry into the sign.
template <class S>
S largest_nan() {
  if constexpr (sizeof(S) == 4) return std::bit_cast<S>(~std::uint32_t{0} >> 1);
  else return std::bit_cast<S>(~std::uint64_t{0} >> 1);
}

/// Not-a-number, infinities, zeros, and the ends and the ties of the formats.
template <class S>
std::vector<S> special_values() {
  using limits = std::numeric_limits<S>;
  return {limits::quiet_NaN(),
          largest_nan<S>(),
          limits::infinity(),
          -limits::infinity(),
          limits::denorm_min(),
          -limits::denorm_min(),
          limits::min(),
          limits::max(),
          -limits::max(),
          S(0),
          -S(0),
          S(1),
          S(-3),
          limits::epsilon(),
          S(65504),
          S(0x1p-24),
          S(0x1.8p-24)};
}

/// In [-1, 1): random_vector, and for 16 bits numbers of every size from the smallest of a float16 up.
template <class T>
std::vector<T> random_stored(std::uint64_t seed, std::ptrdiff_t count) {
  auto numbers = random_vector<compute<T>>(seed, count);
  random_numbers random(~seed);
  if constexpr (sizeof(T) == 2)
    for (auto& number : numbers) number = std::ldexp(number, static_cast<int>(random.integer(-24, 0)));
  return stored<T>(numbers);
}

}  // namespace reference
