// SPDX-License-Identifier: MIT
/// \file  Random numbers that are the same with every compiler, which the standard's distributions do not promise.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require

#include <cstdint>
#include <limits>

namespace POSENC_NAMESPACE {

/// A stream of random numbers, from a seed: splitmix64 (Steele, Lea, Flood 2014). It may also feed the standard's distributions and
/// `std::shuffle`. Not for secrets. Each thread needs one of its own.
class random_source {
 public:
  using result_type = std::uint64_t;

  explicit constexpr random_source(std::uint64_t seed) noexcept : state_(seed) {}

  /// 64 bits, each of them random.
  constexpr std::uint64_t bits() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  /// A multiple of 2^-53 in [0, 1).
  constexpr double uniform() noexcept { return static_cast<double>(bits() >> 11) * 0x1p-53; }

  /// In [low, high]; `high` itself by rounding only. \throws argument_error  unless low <= high, at a finite distance.
  constexpr double uniform(double low, double high) {
    require(low <= high, "random", "low must not exceed high", low, high);
    require(high - low <= std::numeric_limits<double>::max(), "random", "low and high must be a finite distance apart", low, high);
    const double drawn = low + (high - low) * uniform();
    return drawn < high ? drawn : high;
  }

  /// One of 0, 1, ..., n - 1, each as likely as the others: draws again where the last of 2^64 / n whole rounds is cut short.
  /// \throws argument_error  if n is 0.
  constexpr std::uint64_t below(std::uint64_t n) {
    require(n > 0, "random", "the bound must be positive", n);
    const std::uint64_t cut_short = (0 - n) % n;  // 2^64 mod n
    for (;;)
      if (const std::uint64_t drawn = bits(); drawn >= cut_short) return drawn % n;
  }

  static constexpr result_type min() noexcept { return 0; }
  static constexpr result_type max() noexcept { return std::numeric_limits<result_type>::max(); }
  constexpr result_type operator()() noexcept { return bits(); }

  friend constexpr bool operator==(const random_source&, const random_source&) = default;

 private:
  std::uint64_t state_;
};

}  // namespace POSENC_NAMESPACE
