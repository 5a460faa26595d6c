// SPDX-License-Identifier: MIT
/// \file  BEiT's resizing of relative biases, as its code has it: closed formulas for the places, all coefficients of a spline at once.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

namespace reference {

/// Solves a x = b by elimination with pivots.
inline std::vector<double> solved(std::vector<std::vector<double>> a, std::vector<double> b) {
  const std::size_t n = b.size();
  for (std::size_t column = 0; column < n; ++column) {
    std::size_t pivot = column;
    for (std::size_t row = column; row < n; ++row)
      if (std::abs(a[row][column]) > std::abs(a[pivot][column])) pivot = row;
    std::swap(a[column], a[pivot]), std::swap(b[column], b[pivot]);
    for (std::size_t row = 0; row < n; ++row) {
      if (row == column) continue;
      const double factor = a[row][column] / a[column][column];
      for (std::size_t k = column; k < n; ++k) a[row][k] -= factor * a[column][k];
      b[row] -= factor * b[column];
    }
  }
  for (std::size_t row = 0; row < n; ++row) b[row] /= a[row][row];
  return b;
}

/// A cubic on each interval, in powers of x - x[i]: through both ends, with the same first and second derivative where two meet, and the
/// same third one at the second and the last but one place. Of three places, the parabola.
inline double spline(const std::vector<double>& x, const std::vector<double>& y, double at) {
  const std::size_t n = x.size();
  at = std::clamp(at, x.front(), x.back());
  if (n == 1) return y[0];
  if (n == 3) {
    double sum = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      const std::size_t j = (i + 1) % 3, k = (i + 2) % 3;
      sum += y[i] * (at - x[j]) * (at - x[k]) / ((x[i] - x[j]) * (x[i] - x[k]));
    }
    return sum;
  }
  const std::size_t unknowns = 4 * (n - 1);
  std::vector<std::vector<double>> rows;
  std::vector<double> right;
  const auto& condition = [&](double value) -> std::vector<double>& {
    right.push_back(value);
    return rows.emplace_back(unknowns);
  };
  for (std::size_t i = 0; i + 1 < n; ++i) {
    const double h = x[i + 1] - x[i];
    condition(y[i])[4 * i] = 1;
    auto& end = condition(y[i + 1]);
    for (std::size_t k = 0; k < 4; ++k) end[4 * i + k] = std::pow(h, k);
    if (i + 2 == n) continue;
    auto& first = condition(0);
    first[4 * i + 1] = 1, first[4 * i + 2] = 2 * h, first[4 * i + 3] = 3 * h * h, first[4 * i + 5] = -1;
    auto& second = condition(0);
    second[4 * i + 2] = 2, second[4 * i + 3] = 6 * h, second[4 * i + 6] = -2;
    if (i == 0 || i + 3 == n) {
      auto& third = condition(0);
      third[4 * i + 3] = 1, third[4 * i + 7] = -1;
    }
  }
  const auto c = solved(rows, right);
  std::size_t i = 0;
  while (i + 2 < n && at > x[i + 1]) ++i;
  const double d = at - x[i];
  return c[4 * i] + c[4 * i + 1] * d + c[4 * i + 2] * d * d + c[4 * i + 3] * d * d * d;
}

inline double line(const std::vector<double>& x, const std::vector<double>& y, double at) {
  at = std::clamp(at, x.front(), x.back());
  for (std::size_t i = 0; i + 1 < x.size(); ++i)
    if (at <= x[i + 1]) return (y[i] * (x[i + 1] - at) + y[i + 1] * (at - x[i])) / (x[i + 1] - x[i]);
  return y.back();
}

/// src, dst: numbers of differences, as BEiT's `_calc` takes them.
inline std::vector<double> geometric_places(int src, int dst) {
  double left = 1.01, right = 1.5, q = 0;
  while (right - left > 1e-6) {
    q = (left + right) / 2;
    if ((1 - std::pow(q, src / 2)) / (1 - q) > dst / 2) right = q;
    else left = q;
  }
  std::vector<double> places{0};
  double current = 1;
  for (int i = 0; i < src / 2; ++i) {
    places.insert(places.begin(), -current);
    places.push_back(current);
    current += std::pow(q, i + 1);
  }
  return places;
}

/// A picture `[old height, old width]` at the targets -(n / 2), ... of both new axes.
inline std::vector<double> geometric_resize(const std::vector<double>& old, int height, int width, int new_height, int new_width,
                                            bool cubic) {
  const auto y = geometric_places(height, new_height), x = geometric_places(width, new_width);
  const auto between = [&](const auto& places, const auto& values, double at) {
    return cubic ? spline(places, values, at) : line(places, values, at);
  };
  std::vector<double> all;
  for (int dy = -(new_height / 2); dy <= new_height / 2; ++dy)
    for (int dx = -(new_width / 2); dx <= new_width / 2; ++dx) {
      std::vector<double> column;
      for (int row = 0; row < height; ++row)
        column.push_back(between(x, std::vector<double>(old.begin() + row * width, old.begin() + (row + 1) * width), dx));
      all.push_back(between(y, column, dy));
    }
  return all;
}

}  // namespace reference
