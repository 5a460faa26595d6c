// SPDX-License-Identifier: MIT
/// \file  Numbers of 106 bits as sums of two doubles (Dekker 1971): enough to write a frequency down once and for all.
/// Relative error of each operation at most 2^-100, of `log` and `exp` 2^-96. Same bits on every compiler and processor.
#pragma once

#include <posenc/config.hpp>

#include <cmath>  // floor, frexp, ldexp: exact, so the same everywhere

// Contraction would make the error terms depend on the user's flags. Pragmas, because a header-only library forces no flag on anybody.
#if defined(__clang__)
#if defined(__x86_64__) || defined(__i386__)  // elsewhere clang 14 knows no float_control
#pragma float_control(push)
#endif
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#endif

namespace POSENC_NAMESPACE {

/// high + low, with |low| at most half a unit in the last place of high.
struct double_double {
  double high, low;
};

namespace detail {

inline double_double fast_two_sum(double a, double b) noexcept {  // |a| >= |b|
  const double sum = a + b;
  return {sum, b - (sum - a)};
}

inline double_double two_sum(double a, double b) noexcept {
  const double sum = a + b, b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}

inline double_double two_product(double a, double b) noexcept {
  constexpr double splitter = 134217729;  // 2^27 + 1
  const double a_big = a * splitter, b_big = b * splitter;
  const double a_high = a_big - (a_big - a), b_high = b_big - (b_big - b);
  const double a_low = a - a_high, b_low = b - b_high;
  const double product = a * b;
  return {product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low};
}

}  // namespace detail

inline double_double operator+(double_double a, double_double b) noexcept {
  const double_double high = detail::two_sum(a.high, b.high), low = detail::two_sum(a.low, b.low);
  const double_double sum = detail::fast_two_sum(high.high, high.low + low.high);
  return detail::fast_two_sum(sum.high, sum.low + low.low);
}

inline double_double operator-(double_double a) noexcept { return {-a.high, -a.low}; }
inline double_double operator-(double_double a, double_double b) noexcept { return a + -b; }

inline double_double operator*(double_double a, double_double b) noexcept {
  const double_double product = detail::two_product(a.high, b.high);
  return detail::fast_two_sum(product.high, product.low + (a.high * b.low + a.low * b.high));
}

inline double_double operator/(double_double a, double_double b) noexcept {
  const double first = a.high / b.high;
  const double_double rest = a - b * double_double{first, 0};
  const double second = rest.high / b.high;
  const double_double last = rest - b * double_double{second, 0};
  return detail::fast_two_sum(first, second) + double_double{last.high / b.high, 0};
}

/// The largest whole number not above x.
inline double_double floor(double_double x) noexcept {
  const double high = std::floor(x.high);
  return high == x.high ? detail::fast_two_sum(high, std::floor(x.low)) : double_double{high, 0};
}

inline constexpr double_double ln_2{0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56};
inline constexpr double_double two_pi{0x1.921fb54442d18p+2, 0x1.1a62633145c07p-52};

/// The natural logarithm of a positive finite number, by the series of the inverse hyperbolic tangent around 1.
inline double_double log(double x) noexcept {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);
  if (mantissa < 0.70710678118654752) mantissa *= 2, --exponent;
  const double_double ratio = (double_double{mantissa, 0} - double_double{1, 0}) / (double_double{mantissa, 0} + double_double{1, 0});
  const double_double square = ratio * ratio;  // at most 0.0295
  double_double series{0, 0};
  for (int term = 22; term >= 0; --term) series = series * square + double_double{1, 0} / double_double{2.0 * term + 1, 0};
  return ratio * series * double_double{2, 0} + ln_2 * double_double{static_cast<double>(exponent), 0};
}

/// e^x for |x| < 700.
inline double_double exp(double_double x) noexcept {
  const double twos = std::floor(x.high / ln_2.high + 0.5);
  const double_double rest = x - ln_2 * double_double{twos, 0};  // at most 0.35
  double_double series{1, 0};
  for (int term = 28; term >= 1; --term) series = double_double{1, 0} + series * rest / double_double{static_cast<double>(term), 0};
  const int exponent = static_cast<int>(twos);
  return {std::ldexp(series.high, exponent), std::ldexp(series.low, exponent)};
}

}  // namespace POSENC_NAMESPACE

#if defined(__clang__) && (defined(__x86_64__) || defined(__i386__))
#pragma float_control(pop)
#elif defined(__clang__)
#pragma STDC FP_CONTRACT DEFAULT
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
