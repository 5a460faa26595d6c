// SPDX-License-Identifier: MIT
/// \file  The numbers that trained tables start from, by the names the systems use. The same bits with every compiler and processor:
/// no distribution of the standard's, no function whose last bit differs between libraries, nothing left to contract.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>   // require
#include <posenc/random.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>  // compute_scalar, checked_product

#include <algorithm>
#include <array>
#include <cmath>    // fma, frexp, nextafter, sqrt: exact or correctly rounded, so the same everywhere
#include <ranges>
#include <string_view>
#include <type_traits>

namespace POSENC_NAMESPACE {

/// What is filled: a vector, an array, the span of a `parameter`; of an Eigen tensor `std::span(t.data(), t.size())`.
template <class R>
concept parameter_range = std::ranges::contiguous_range<R> && std::ranges::sized_range<R> &&
                          compute_scalar<std::remove_reference_t<std::ranges::range_reference_t<R>>>;

/// All of these draw double numbers in the order of memory, one after the other from the same stream, and round each once: a float table is
/// the double one, rounded. They allocate nothing.
namespace initialize {

namespace detail {

/// The natural logarithm of a number in [2^-1022, 1], within 2^-52 (1 + |log x|), by the series of the inverse hyperbolic tangent.
inline double log(double x) noexcept {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);
  if (mantissa < 0.70710678118654752) mantissa *= 2, --exponent;
  const double ratio = (mantissa - 1) / (mantissa + 1), square = ratio * ratio;  // at most 0.0295
  double series = 0;
  for (int odd = 23; odd > 0; odd -= 2) series = std::fma(series, square, 1.0 / odd);
  return std::fma(static_cast<double>(exponent), 0x1.62e42fefa39efp-1, 2 * ratio * series);
}

/// Standard normal numbers, two at a time: the polar method (Marsaglia, Bray 1964).
class normal_numbers {
 public:
  explicit normal_numbers(random_source& random) noexcept : random_(random) {}

  double operator()() noexcept {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    double u, v, square;
    do {  // a point in the unit circle, not its centre
      u = std::fma(2.0, random_.uniform(), -1.0);
      v = std::fma(2.0, random_.uniform(), -1.0);
      square = std::fma(u, u, v * v);
    } while (square >= 1 || square == 0);
    const double factor = std::sqrt(-2 * log(square) / square);
    spare_ = v * factor;
    has_spare_ = true;
    return u * factor;
  }

 private:
  random_source& random_;
  double spare_ = 0;
  bool has_spare_ = false;
};

inline void require_normal(std::string_view who, double mean, double standard_deviation) {
  require(std::isfinite(mean), who, "mean must be finite", mean);
  require(std::isfinite(standard_deviation) && standard_deviation >= 0, who, "standard_deviation must be finite and not negative",
          standard_deviation);
}

template <class S>
void uniform(std::string_view who, auto& values, random_source& random, double from, double to) {
  const S low = static_cast<S>(from), high = static_cast<S>(to);
  require(low < high && std::isfinite(to - from), who, "low must be less than high, at a finite distance", low, high);
  const double base = static_cast<double>(low), width = static_cast<double>(high) - base;
  const S last = std::nextafter(high, low);
  for (S& value : values) value = std::min(static_cast<S>(std::fma(width, random.uniform(), base)), last);
}

}  // namespace detail

struct normal_options {
  double mean = 0;
  required<double> standard_deviation;  ///< 0.02: BERT, GPT-2, ViT; channels^-0.5: fairseq; 1: torch's `nn.Embedding` and `normal_`
};

/// Normal numbers: mean + standard_deviation * n. \throws argument_error  unless both are finite and the deviation is not negative.
template <parameter_range R>
void normal(R&& values, random_source& random, const normal_options& options) {
  const double mean = options.mean, deviation = options.standard_deviation;
  detail::require_normal("normal", mean, deviation);
  detail::normal_numbers next(random);
  for (auto& value : values) value = static_cast<std::ranges::range_value_t<R>>(std::fma(deviation, next(), mean));
}

/// The bounds are absolute, not in standard deviations, as in torch's `trunc_normal_`: with ViT's and timm's deviation of 0.02 they lie a
/// hundred deviations away and cut nothing. JAX and TensorFlow cut at two deviations: say so with {-0.04, 0.04}.
struct truncated_normal_options {
  double mean = 0;
  required<double> standard_deviation;
  double low = -2, high = 2;
};

/// Normal numbers, drawn again until they lie in [low, high]; where that is narrow, by rejection from uniform ones. The distribution is
/// that of torch's `trunc_normal_` (which inverts the error function), the numbers are not. Bounds that leave only a tail take tens of
/// draws.
/// \throws argument_error  unless all are finite, the deviation positive, low < high (as S), and the mean at most two deviations outside,
///                         where torch warns that its results are wrong.
template <parameter_range R>
void truncated_normal(R&& values, random_source& random, const truncated_normal_options& options) {
  using S = std::ranges::range_value_t<R>;
  constexpr std::string_view who = "truncated_normal";
  const double mean = options.mean, deviation = options.standard_deviation;
  const S least = static_cast<S>(options.low), most = static_cast<S>(options.high);
  detail::require_normal(who, mean, deviation);
  require(deviation > 0, who, "standard_deviation must be positive", deviation);
  require(least < most && std::isfinite(options.high - options.low), who, "low must be less than high, at a finite distance", least, most);
  const double low = (static_cast<double>(least) - mean) / deviation, high = (static_cast<double>(most) - mean) / deviation;
  require(low <= 2 && high >= -2, who, "mean must lie at most two deviations outside of [low, high]", mean, least, most);

  const double likeliest = std::clamp(0.0, low, high), top = likeliest * likeliest, width = high - low;
  detail::normal_numbers next(random);
  const auto draw = [&] {
    if (width > 2) {
      for (;;)
        if (const double n = next(); n >= low && n <= high) return n;
    }
    for (;;) {
      const double n = std::fma(width, random.uniform(), low);
      if (2 * detail::log(1 - random.uniform()) <= std::fma(-n, n, top)) return n;
    }
  };
  for (S& value : values) value = std::clamp(static_cast<S>(std::fma(deviation, draw(), mean)), least, most);
}

struct uniform_options {
  double low = 0, high = 1;  ///< DETR's rows and columns: [0, 1), torch's `uniform_`
};

/// Uniform numbers in [low, high), both rounded to the scalar first; what rounds up to `high` becomes the number below it.
/// \throws argument_error  unless low < high, at a finite distance.
template <parameter_range R>
void uniform(R&& values, random_source& random, const uniform_options& options = {}) {
  detail::uniform<std::ranges::range_value_t<R>>("uniform", values, random, options.low, options.high);
}

struct xavier_uniform_options {
  required<index_t> rows, channels;  ///< torch's fan_out and fan_in of a table
  double gain = 1;
};

/// Uniform numbers in [-a, a), a = gain * sqrt(6 / (rows + channels)) (Glorot, Bengio 2010): torch's `xavier_uniform_`.
/// \throws argument_error  unless the values are rows * channels, and the gain is positive and finite.
template <parameter_range R>
void xavier_uniform(R&& values, random_source& random, const xavier_uniform_options& options) {
  constexpr std::string_view who = "xavier_uniform";
  const index_t rows = options.rows, channels = options.channels, size = static_cast<index_t>(std::ranges::size(values));
  require(checked_product(who, std::array{rows, channels}) == size, who, "values must be rows * channels", size, rows, channels);
  require(options.gain > 0 && std::isfinite(options.gain), who, "gain must be positive and finite", options.gain);
  if (size == 0) return;
  const double both = static_cast<double>(rows) + static_cast<double>(channels);
  const double bound = std::sqrt(6 * options.gain * options.gain / both);  // the root last: it cannot be contracted with what follows
  detail::uniform<std::ranges::range_value_t<R>>(who, values, random, -bound, bound);
}

/// Zeros: a table that changes nothing before it is trained.
template <parameter_range R>
void zeros(R&& values) {
  for (auto& value : values) value = 0;
}

}  // namespace initialize
}  // namespace POSENC_NAMESPACE
