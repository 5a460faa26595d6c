// SPDX-License-Identifier: MIT
/// \file  How fast each channel pair turns with the position.
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>   // require
#include <posenc/phase.hpp>   // turns
#include <posenc/tensor.hpp>  // index_t, checked_product

#include <algorithm>
#include <array>
#include <cmath>  // isfinite, abs
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// Radians per position, one number per channel pair: what schedules work on.
using frequency_series = std::vector<double_double>;

namespace detail {
inline constexpr double highest_exponent = 38 * ln_2.high;  // of e: 2^38 radians
}

/// exp(first + slope * k / divisor), k = 0 ... count - 1. Relative error below 2^-90.
/// \throws argument_error  if one exceeds 2^38.
inline frequency_series geometric_series(std::string_view who, index_t count, double_double first, double_double slope, double divisor) {
  checked_product(who, std::array<index_t, 2>{2, count}, sizeof(std::uint64_t));
  const double_double rate = slope / double_double{divisor, 0};
  frequency_series all(static_cast<std::size_t>(count));
  for (index_t k = 0; k < count; ++k) {
    const double_double exponent = first + rate * double_double{static_cast<double>(k), 0};
    require(exponent.high <= detail::highest_exponent, who, "frequencies must not exceed 2^38 radians", exp(exponent).high);
    all[static_cast<std::size_t>(k)] = exp(exponent.high > -700 ? exponent : double_double{-700, 0});
  }
  return all;
}

/// base^(-k * step / divisor), k = 0 ... count - 1. Relative error below 2^-90.
/// \throws argument_error  unless base is positive and finite, and no frequency exceeds 2^38.
inline frequency_series geometric_series(std::string_view who, index_t count, double base, double step, double divisor) {
  require(std::isfinite(base) && base > 0, who, "base must be positive and finite", base);
  const double_double slope = log(base) * double_double{-step, 0};
  const double last = slope.high / divisor * static_cast<double>(std::max<index_t>(count - 1, 0));
  require(last <= detail::highest_exponent, who, "base must not be so small that a frequency exceeds 2^38 radians", base);
  return geometric_series(who, count, {0, 0}, slope, divisor);
}

/// base^(-2 k / dim), k = 0 ... ceil(dim / 2) - 1 (Vaswani et al. 2017; Su et al. 2021).
/// \throws argument_error  unless dim is positive and base positive and finite.
inline frequency_series plain_series(std::string_view who, index_t dim, double base) {
  require(dim > 0, who, "dim must be positive", dim);
  return geometric_series(who, dim / 2 + dim % 2, base, 2, static_cast<double>(dim));
}

/// The frequencies of an encoder's channel pairs, as exact turns per position: `count` of them, or as many for each axis of positions with
/// several, or for each head and axis. What `inspect()` returns, and what the accuracy of every table is stated against.
class frequencies {
 public:
  /// From radians per position, [axes, pairs] or [heads, axes, pairs]. Dividing by 2 pi costs a relative error of 2^-96.
  /// \param heads  0: the same for all.
  /// \throws argument_error  unless all are finite, below 2^39 in magnitude, and the axes (and heads) divide their number.
  static frequencies from_radians(std::string_view who, const frequency_series& radians, index_t axes = 1, index_t heads = 0) {
    const auto size = static_cast<index_t>(radians.size());
    require(axes > 0 && heads >= 0 && size % (axes * std::max<index_t>(heads, 1)) == 0, who,
            "axes and heads must divide the number of frequencies", size, axes, heads);
    frequencies all;
    all.axes_ = axes, all.heads_ = heads, all.count_ = size / (axes * std::max<index_t>(heads, 1));
    all.words_.resize(2 * radians.size());
    all.whole_.resize(radians.size());
    for (std::size_t n = 0; n < radians.size(); ++n) {
      require(std::abs(radians[n].high) < 0x1p39, who, "frequencies must be finite and below 2^39 radians", radians[n].high);
      const double_double full = radians[n] / two_pi, whole = floor(full);
      const turns fraction = to_turns(full);
      all.words_[n] = fraction.high;
      all.words_[radians.size() + n] = fraction.low;
      all.whole_[n] = static_cast<std::int64_t>(whole.high) + static_cast<std::int64_t>(whole.low);
    }
    return all;
  }
  /// base^(-2 k / dim) radians per position. See `plain_series`.
  static frequencies plain(std::string_view who, index_t dim, double base) { return from_radians(who, plain_series(who, dim, base)); }

  index_t count() const noexcept { return count_; }  ///< pairs
  index_t axes() const noexcept { return axes_; }
  index_t heads() const noexcept { return heads_; }  ///< 0: the same for all

  /// Frequency n of [heads, axes, pairs] as an exact fraction of a turn per position, in [0, 1): integer positions need no more.
  turns operator[](index_t n) const noexcept { return {high()[n], low()[n]}; }
  /// The whole turns that belong to it, rounded down: positions between the integers need them too.
  std::int64_t whole_turns(index_t n) const noexcept { return whole()[n]; }
  /// Both, in radians per position, to the nearest double.
  double radians(index_t n) const noexcept {
    return ((to_double_double((*this)[n]) + double_double{static_cast<double>(whole_turns(n)), 0}) * two_pi).high;
  }
  /// Whether pair k is turned by no position, on any axis, in any head.
  bool stands_still(index_t k) const noexcept {
    for (index_t n = k; n < static_cast<index_t>(whole_.size()); n += count_)
      if (!((*this)[n] == turns{0, 0}) || whole_turns(n) != 0) return false;
    return true;
  }
  /// Positions per full turn; infinite for a frequency of zero.
  double wavelength(index_t n) const noexcept {
    const double speed = std::abs(radians(n));
    return speed > 0 ? two_pi.high / speed : std::numeric_limits<double>::infinity();
  }

  /// The words that kernels read, in the order [heads, axes, pairs].
  const std::uint64_t* high() const noexcept { return words_.data(); }
  const std::uint64_t* low() const noexcept { return words_.data() + words_.size() / 2; }
  const std::int64_t* whole() const noexcept { return whole_.data(); }

  /// Frequency by frequency and exact: what turns something at speed b to where it would be at speed a.
  friend frequencies operator-(const frequencies& a, const frequencies& b) {
    require(a.count_ == b.count_ && a.axes_ == b.axes_ && a.heads_ == b.heads_, "frequencies", "both must have one shape",
            std::array{a.heads_, a.axes_, a.count_}, std::array{b.heads_, b.axes_, b.count_});
    frequencies difference = a;
    for (std::size_t n = 0; n < a.whole_.size(); ++n) {
      const auto k = static_cast<index_t>(n);
      const bool low_borrows = a.low()[k] < b.low()[k];
      const bool high_borrows = a.high()[k] < b.high()[k] || (low_borrows && a.high()[k] == b.high()[k]);
      difference.words_[n] = a.high()[k] - b.high()[k] - (low_borrows ? 1 : 0);
      difference.words_[n + a.whole_.size()] = a.low()[k] - b.low()[k];
      difference.whole_[n] = a.whole_[n] - b.whole_[n] - (high_borrows ? 1 : 0);
    }
    return difference;
  }
  friend bool operator==(const frequencies&, const frequencies&) = default;

 private:
  std::vector<std::uint64_t> words_;  // the high ones, then the low ones
  std::vector<std::int64_t> whole_;
  index_t count_ = 0, axes_ = 1, heads_ = 0;
};

/// \throws argument_error  unless |coordinate + start| * |frequency| stays below 2^31 turns on every axis. Coordinates with one axis stand
/// there on all.
template <class Coordinates>
void require_turns(std::string_view who, const frequencies& speeds, const Coordinates& at, double start = 0) {
  for (index_t axis = 0; axis < speeds.axes(); ++axis) {
    double farthest = 0, fastest = 0;
    for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b)
      for (index_t t = 0; t < at.time(); ++t) farthest = std::fmax(farthest, std::abs(at(b, t, at.axes() == 1 ? 0 : axis) + start));
    for (index_t h = 0; h < std::max<index_t>(speeds.heads(), 1); ++h)
      for (index_t k = 0; k < speeds.count(); ++k) {
        const index_t n = (h * speeds.axes() + axis) * speeds.count() + k;
        const double fraction = static_cast<double>(speeds.high()[n]) * 0x1p-64;  // near enough, and much sooner than radians
        fastest = std::fmax(fastest, std::abs(static_cast<double>(speeds.whole_turns(n)) + fraction));
      }
    require(farthest * fastest < 0x1p31, who, "coordinate times frequency must stay below 2^31 turns", farthest, fastest);
  }
}

}  // namespace POSENC_NAMESPACE
