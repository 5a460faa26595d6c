// SPDX-License-Identifier: MIT
/// \file  ALiBi as Press et al. publish it: slopes by the rule of their code, biases pair by pair.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace reference {

/// For a power of two n, the powers of 2^(-max / n); else those of the power of two below, and then every other one
/// of twice that.
inline std::vector<double> slopes(std::size_t heads, double max = 8) {
  const auto of_power_of_two = [&](std::size_t n) {
    std::vector<double> all;
    for (std::size_t h = 1; h <= n; ++h) all.push_back(std::pow(2.0, -max * static_cast<double>(h) / static_cast<double>(n)));
    return all;
  };
  std::size_t power = 1;
  while (2 * power <= heads) power *= 2;
  auto all = of_power_of_two(power);
  const auto twice = of_power_of_two(2 * power);
  for (std::size_t h = 0; all.size() < heads; h += 2) all.push_back(twice[h]);
  return all;
}

struct linear_bias {
  enum { causal, symmetric, key_only } form;
  std::int64_t reference = 0;
  double scale = 1;
  bool mask = false;
};

using maybe_position = std::optional<std::int64_t>;

/// What the slope is multiplied by.
inline double distance(const linear_bias& rule, maybe_position query, maybe_position key) {
  if (!query || !key) return 0;
  const auto after = static_cast<double>(*query - *key);
  switch (rule.form) {
    case linear_bias::causal: return -std::fmax(after, 0);
    case linear_bias::symmetric: return -std::fabs(after);
    default: return static_cast<double>(*key - rule.reference);
  }
}

inline bool masked(const linear_bias& rule, maybe_position query, maybe_position key) { return rule.mask && query && key && *key > *query; }

/// The score that leaves, in double.
inline double biased(const linear_bias& rule, double score, double slope, maybe_position query, maybe_position key) {
  return masked(rule, query, key) ? -std::numeric_limits<double>::infinity() : score * rule.scale + slope * distance(rule, query, key);
}

}  // namespace reference
