// SPDX-License-Identifier: MIT
/// \file  Frequency schedules: how fast each channel pair turns with the position.
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>   // require
#include <posenc/phase.hpp>   // turns
#include <posenc/tensor.hpp>  // index_t, checked_product

#include <array>
#include <cmath>  // isfinite
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// The frequencies of an encoder's channel pairs, as exact turns per position. What `inspect()` returns, and what the accuracy of
/// every table is stated against.
class frequencies {
 public:
  /// base^(-2 k / dim) radians per position, k = 0 ... ceil(dim / 2) - 1 (Vaswani et al. 2017; Su et al. 2021).
  /// Relative error below 2^-90. \throws argument_error  unless dim is positive and base positive and finite.
  static frequencies plain(std::string_view who, index_t dim, double base) {
    require(dim > 0, who, "dim must be positive", dim);
    return geometric(who, dim / 2 + dim % 2, base, 2, static_cast<double>(dim));
  }

  /// base^(-k / (count - 1)) radians per position: the last one is exactly 1 / base (tensor2tensor, fairseq). One alone is 1.
  static frequencies inclusive(std::string_view who, index_t count, double base) {
    require(count >= 0, who, "the number of frequencies must not be negative", count);
    return geometric(who, count, base, 1, static_cast<double>(count > 1 ? count - 1 : 1));
  }

  /// base^(-k * step / divisor) radians per position, k = 0 ... count - 1.
  static frequencies geometric(std::string_view who, index_t count, double base, double step, double divisor) {
    require(std::isfinite(base) && base > 0, who, "base must be positive and finite", base);
    checked_product(who, std::array<index_t, 2>{2, count}, sizeof(std::uint64_t));
    const double_double rate = log(base) / double_double{divisor, 0};
    frequencies all;
    all.words_.resize(static_cast<std::size_t>(2 * count));
    for (index_t k = 0; k < count; ++k) {
      const double_double exponent = rate * double_double{-step * static_cast<double>(k), 0};
      require(exponent.high < 27, who, "base must not be so small that a frequency exceeds 2^38 radians", base);
      const turns value = from_radians(exp(exponent.high > -700 ? exponent : double_double{-700, 0}));
      all.words_[static_cast<std::size_t>(k)] = value.high;
      all.words_[static_cast<std::size_t>(count + k)] = value.low;
    }
    return all;
  }

  index_t count() const noexcept { return static_cast<index_t>(words_.size() / 2); }
  /// Frequency k as an exact fraction of a turn per position. Whole turns are left out: no integer position can tell.
  turns operator[](index_t k) const noexcept { return {high()[k], low()[k]}; }
  /// The same in radians per position, to the nearest double.
  double radians(index_t k) const noexcept { return posenc::radians((*this)[k]); }
  /// Positions per full turn; infinite for a frequency of zero.
  double wavelength(index_t k) const noexcept {
    const double speed = radians(k);
    return speed > 0 ? two_pi.high / speed : std::numeric_limits<double>::infinity();
  }

  /// The words that kernels read: `count` high ones, `count` low ones.
  const std::uint64_t* high() const noexcept { return words_.data(); }
  const std::uint64_t* low() const noexcept { return words_.data() + count(); }

  friend bool operator==(const frequencies&, const frequencies&) = default;

 private:
  std::vector<std::uint64_t> words_;
};

}  // namespace POSENC_NAMESPACE
