// SPDX-License-Identifier: MIT
/// \file  What all schedules share: their result, their checks, and the arithmetic they are formed in.
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>        // require
#include <posenc/frequencies.hpp>  // frequency_series, plain_series
#include <posenc/tensor.hpp>       // index_t

#include <cmath>  // isfinite
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>  // move
#include <vector>

namespace POSENC_NAMESPACE::schedule {

/// What a schedule makes of a width and a base.
struct scaled_series {
  frequency_series radians;     ///< per position, for each of the dim / 2 pairs
  double attention_factor = 1;  ///< multiplies the cosines and sines of queries and of keys; off its formula by two roundings at most
};

namespace detail {

inline void check_dim(std::string_view who, index_t dim) { require(dim > 0 && dim % 2 == 0, who, "dim must be positive and even", dim); }

inline void check_factor(std::string_view who, double factor) {
  require(std::isfinite(factor) && factor >= 1, who, "factor must be finite and at least 1", factor);
}
inline void check_original_length(std::string_view who, index_t length) {
  require(length > 0, who, "original_length must be positive", length);
}
inline void check_attention_factor(std::string_view who, double factor) {
  require(std::isfinite(factor) && factor != 0, who, "the attention factor must be finite and not zero", factor);
}

/// A rule about a list, for its error. Not inline: there GCC 12 warns of a copy in std::string that cannot happen.
[[gnu::noinline]] inline std::string rule_of(std::string_view list, std::string_view rule) { return std::string(list).append(rule); }

/// That a list has an entry for every pair.
inline void check_list(std::string_view who, std::string_view name, const std::vector<double>& list, index_t dim) {
  const auto size = static_cast<index_t>(list.size());
  require(size == dim / 2, who, rule_of(name, " must have dim / 2 entries"), dim / 2, size);
}

/// theta_k = base^(-2 k / dim), which all schedules start from.
inline frequency_series unscaled_series(std::string_view who, index_t dim, double base) {
  check_dim(who, dim);
  return plain_series(who, dim, base);
}

inline double_double number(double x) noexcept { return {x, 0}; }
inline double_double number(index_t x) noexcept { return number(static_cast<double>(x)); }

/// The natural logarithm of a positive number.
inline double_double log(double_double x) noexcept { return posenc::log(x.high) + number(x.low / x.high); }

/// e^x for x < 700; below -700, where nothing turns any more, as if it were that.
inline double_double power_of_e(double_double x) noexcept { return exp(x.high > -700 ? x : number(-700.)); }

inline double_double clamped_to_unit(double_double x) noexcept {
  if (x.high <= 0) return number(0.);
  return (x - number(1.)).high >= 0 ? number(1.) : x;
}

/// theta_k * e^(-k rate).
inline frequency_series slowed(frequency_series all, double_double rate) {
  for (std::size_t k = 0; k < all.size(); ++k) all[k] = all[k] * power_of_e(-rate * number(static_cast<double>(k)));
  return all;
}

/// theta_k * ratio^(-2 k / (dim - 2)), which is what multiplying the base by ratio^(dim / (dim - 2)) comes to.
inline frequency_series with_larger_base(std::string_view who, index_t dim, double base, double_double log_of_ratio) {
  frequency_series all = unscaled_series(who, dim, base);
  require(dim > 2, who, "dim must be above 2, for NTK divides by dim - 2", dim);
  return slowed(std::move(all), log_of_ratio * number(2.) / number(dim - 2));
}

/// w theta + (1 - w) theta / f.
inline double_double mixed(double_double theta, double_double kept, double factor) noexcept {
  return theta * kept + theta / number(factor) * (number(1.) - kept);
}

inline frequency_series divided(frequency_series all, double_double by) {
  for (double_double& theta : all) theta = theta / by;
  return all;
}

}  // namespace detail

}  // namespace POSENC_NAMESPACE::schedule
