// SPDX-License-Identifier: MIT
/// \file  Sinusoidal codes channel by channel, from the papers' formulas.
#pragma once

#include <posenc/positions.hpp>
#include <posenc/sinusoidal/channel_order.hpp>
#include <posenc/sinusoidal/exponent_rule.hpp>

#include <cmath>
#include <cstddef>
#include <variant>

namespace reference {

/// Frequency k of an axis of `width` channels, in radians per position: each rule as the systems that use it write it.
inline long double frequency(const posenc::any_exponent_rule& rule, std::ptrdiff_t width, std::ptrdiff_t k) {
  namespace rules = posenc::exponent_rule;
  const auto n = static_cast<long double>(k), half = static_cast<long double>((width + 1) / 2), steps = std::fmax(half - 1, 1.0L);
  struct {
    long double n, width, half, steps;
    long double operator()(const rules::vaswani& r) const { return 1 / std::pow(static_cast<long double>(r.base), 2 * n / width); }
    long double operator()(const rules::tensor2tensor& r) const {
      const long double increment = std::log(static_cast<long double>(r.max_timescale) / r.min_timescale) / steps;
      return r.min_timescale * std::exp(n * -increment);
    }
    long double operator()(const rules::downscaled& r) const {
      return half == 1 ? 1 : std::exp(-std::log(static_cast<long double>(r.base)) * n / (half - r.shift));
    }
    long double operator()(const rules::log_linear& r) const {
      const long double low = std::log(static_cast<long double>(r.min_frequency)),
                        high = std::log(static_cast<long double>(r.max_frequency));
      return std::exp((1 - n / steps) * (high - low) + low);
    }
  } const formula{n, static_cast<long double>(width), half, steps};
  return std::visit(formula, rule);
}

/// Channel c of a code: the sine or the cosine of frequency k, on an axis.
struct wave {
  bool is_sine;
  std::ptrdiff_t k;
  std::ptrdiff_t axis = 0;
};

/// Channel c of `channels`, an even number.
inline wave even_wave(posenc::channel_order order, std::ptrdiff_t channels, std::ptrdiff_t c) {
  if (order == posenc::channel_order::interleaved) return {c % 2 == 0, c / 2};
  return {(c < channels / 2) == (order == posenc::channel_order::sin_cos), c % (channels / 2)};
}

/// Where a start moves a position; coordinates are moved in double.
inline long double moved(posenc::position id, posenc::position start) { return static_cast<long double>(id + start); }
inline long double moved(double place, posenc::position start) { return place + static_cast<double>(start); }

/// The sine or the cosine of an angle, times `scale`.
inline double sinusoid(bool is_sine, long double angle, double scale) {
  return static_cast<double>(scale * (is_sine ? std::sin(angle) : std::cos(angle)));
}

}  // namespace reference
