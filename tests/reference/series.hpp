// SPDX-License-Identifier: MIT
/// \file  Checks of frequency schedules.
#pragma once

#include <posenc/frequencies.hpp>
#include <posenc/rope/schedule.hpp>

#include "reference/refuses.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace reference {

using posenc::index_t;

inline constexpr double infinity = std::numeric_limits<double>::infinity(), not_a_number = std::numeric_limits<double>::quiet_NaN();

/// The frequencies of a schedule as encoders hold them.
inline posenc::frequencies speeds(const posenc::frequency_schedule& rule, index_t dim, double base, index_t length = 1) {
  return posenc::frequencies::from_radians("test", posenc::scheduled_series(rule, "test", dim, base, length).radians);
}

/// That a frequency is within 2^-80, relative, of floor(2^128 theta / (2 pi)) as computed in 400 bits.
inline bool near(posenc::turns got, posenc::turns known) {
  const double size = static_cast<double>(known.high) * 0x1p-64 + static_cast<double>(known.low) * 0x1p-128;
  const std::uint64_t off = got.low - known.low < known.low - got.low ? got.low - known.low : known.low - got.low;
  return got.high == known.high && static_cast<double>(off) * 0x1p-128 <= size * 0x1p-80;
}

/// That two frequencies in radians agree but for the last bits of a double.
inline bool close(double got, double expected) { return std::abs(got - expected) <= 1e-15 * std::abs(expected); }

/// Checks that the schedule refuses to serve `dim` channels with an error that reads `[rope] text`.
inline void refuses_schedule(const std::string& text, const posenc::frequency_schedule& rule, index_t dim = 8, double base = 10000) {
  refuses("[rope] " + text, [&] { static_cast<void>(posenc::scheduled_series(rule, "rope", dim, base, 1)); });
}

}  // namespace reference
