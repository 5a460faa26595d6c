// SPDX-License-Identifier: MIT
/// \file  GELU by the C library's complementary error function, in long double.
#pragma once

#include <cmath>
#include <numbers>

namespace reference {

inline long double normal_distribution(long double x) { return std::erfc(-x / std::numbers::sqrt2_v<long double>) / 2; }
inline long double normal_density(long double x) {
  return std::exp(-x * x / 2) * std::numbers::inv_sqrtpi_v<long double> / std::numbers::sqrt2_v<long double>;
}

inline long double gelu(long double x) { return std::isinf(x) ? std::fmax(x, 0.0L) : x * normal_distribution(x); }
inline long double gelu_slope(long double x) { return std::isinf(x) ? x > 0 : normal_distribution(x) + x * normal_density(x); }

}  // namespace reference
