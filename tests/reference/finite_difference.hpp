// SPDX-License-Identifier: MIT
/// \file  Derivatives by central differences.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace reference {

/// The derivative of f() by each of `values`, which f reads. Exact but for rounding where f is linear in each of them.
std::vector<double> derivatives(std::span<double> values, auto&& f, double step) {
  std::vector<double> all;
  for (double& value : values) {
    const double before = value;
    value = before + step;
    const double above = f();
    value = before - step;
    const double below = f();
    value = before;
    all.push_back((above - below) / (2 * step));
  }
  return all;
}

/// The sum of products.
double dot(const auto& a, const auto& b) {
  double sum = 0;
  for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(a.size()); ++i)
    sum += static_cast<double>(a.data()[i]) * static_cast<double>(b.data()[i]);
  return sum;
}

}  // namespace reference
