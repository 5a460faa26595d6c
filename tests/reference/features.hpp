// SPDX-License-Identifier: MIT
/// \file  One Fourier feature at a time, in long double: the half turns by fused multiplication, reduced by the standard's remainder.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace reference {

/// sin(pi * (sum over the terms of x * (high + low) + quarter)).
struct wave {
  struct term {
    std::size_t axis;
    double high, low;
  };
  std::vector<term> terms;
  double quarter = 0;

  long double angle(const std::vector<double>& x, double further = 0) const {
    long double rest = quarter + further;
    for (const term& one : terms) {
      const double product = x[one.axis] * one.high, lost = std::fma(x[one.axis], one.high, -product);
      rest += std::remainder(static_cast<long double>(product), 2.0L) + lost + static_cast<long double>(x[one.axis]) * one.low;
    }
    return pi * std::remainder(rest, 2.0L);
  }
  long double value(const std::vector<double>& x) const { return std::sin(angle(x)); }
  /// At coordinate `axis`.
  long double derivative(const std::vector<double>& x, std::size_t axis) const { return std::cos(angle(x)) * pi * speed(axis); }
  long double speed(std::size_t axis) const {
    long double sum = 0;
    for (const term& one : terms)
      if (one.axis == axis) sum += one.high;
    return sum;
  }
  /// Of the angle, for points of this covariance [dims, dims].
  long double variance(const std::vector<double>& covariance, std::size_t dims) const {
    long double sum = 0;
    for (std::size_t i = 0; i < dims; ++i)
      for (std::size_t j = 0; j < dims; ++j) sum += pi * speed(i) * pi * speed(j) * covariance[i * dims + j];
    return sum;
  }
  static constexpr long double pi = 3.14159265358979323846264338327950288L;
};

}  // namespace reference
