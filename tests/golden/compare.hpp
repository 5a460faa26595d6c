// SPDX-License-Identifier: MIT
/// \file  Reads the arrays of this folder and says how far the library's results are from them, and where most.
#pragma once

#include "io/npy.hpp"

#include <cmath>
#include <concepts>
#include <limits>
#include <ostream>
#include <stdexcept>
#include <string>

namespace golden {

template <class T>
using npy = io::array<T>;
using io::view, io::row_major, io::column_major, posenc::index_t;

/// The array of a case: load<float>("alibi/mpt_row_bias/alibi").
template <class T>
npy<T> load(const std::string& name) {
  return io::read_npy<T>(POSENC_GOLDEN_DIR "/" + name + ".npy");
}

template <class U, class T>
npy<U> converted(const npy<T>& array) {
  npy<U> result{array.shape, {}};
  for (const T value : array.values) result.values.push_back(static_cast<U>(value));
  return result;
}

/// The bound on the absolute error of every cosine and sine, at every position in [-2^31, 2^31].
template <class S>
inline constexpr double table_bound = std::same_as<S, float> ? 3.1e-8 : 2.3e-16;
/// Half a unit in the last place of 1: the bound on the relative error of one rounding.
template <class S>
inline constexpr double rounding = std::numeric_limits<S>::epsilon() / 2.0;

/// The largest deviation. It compares like a number, and a failed CHECK(deviation <= bound) prints the place too.
struct deviation {
  double worst = 0, got = 0, expected = 0;
  std::string place;

  friend bool operator<=(const deviation& a, double bound) { return a.worst <= bound; }
  friend bool operator>=(const deviation& a, double bound) { return a.worst >= bound; }
  friend std::ostream& operator<<(std::ostream& out, const deviation& a) {
    const auto digits = out.precision(17);
    out << a.worst;
    if (!a.place.empty()) out << " (at " << a.place << ": " << a.got << " instead of " << a.expected << ")";
    out.precision(digits);
    return out;
  }
};

namespace detail {
template <class T, class U>
deviation largest(const npy<T>& got, const npy<U>& expected, auto&& measure) {
  if (got.values.size() != expected.values.size()) throw std::logic_error("compare: the arrays must have one size");
  deviation found;
  for (std::size_t n = 0; n < got.values.size(); ++n) {
    const double a = static_cast<double>(got.values[n]), b = static_cast<double>(expected.values[n]);
    double off = a == b ? 0 : measure(a, b);  // equal infinities are equal
    if (std::isnan(off)) off = std::numeric_limits<double>::infinity();
    if (off <= found.worst) continue;
    std::string place = "]";
    for (std::size_t axis = got.shape.size(), rest = n; axis-- > 0; rest /= static_cast<std::size_t>(got.shape[axis]))
      place.insert(0, std::to_string(rest % static_cast<std::size_t>(got.shape[axis]))).insert(0, axis ? ", " : "[");
    found = {off, a, b, place};
  }
  return found;
}
}  // namespace detail

template <class T, class U>
deviation absolute(const npy<T>& got, const npy<U>& expected) {
  return detail::largest(got, expected, [](double a, double b) { return std::abs(a - b); });
}
template <class T, class U>
deviation relative(const npy<T>& got, const npy<U>& expected) {
  return detail::largest(got, expected, [](double a, double b) { return std::abs(a - b) / std::abs(b); });
}

template <class T>
double largest_magnitude(const npy<T>& array) {
  double largest = 0;
  for (const T value : array.values) largest = std::fmax(largest, std::abs(static_cast<double>(value)));
  return largest;
}

/// y = x_a c - x_b s is off by the errors of c and s times |x|, and by three roundings: of the products, which are at most sqrt(2) |x| in
/// sum, and of the result, which is at most that. The truth is such a y too, in double and of correctly rounded c and s.
template <class S>
double rotation_bound(const npy<S>& x) {
  const double own = 2 * table_bound<S> + 3 * rounding<S>, of_the_truth = 4 * rounding<double>;
  return largest_magnitude(x) * (own + of_the_truth);
}

}  // namespace golden
