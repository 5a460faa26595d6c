// SPDX-License-Identifier: MIT
/// \file  CoPE for one query, step by step as the paper's listing has it: flip, add up, flip back, clamp, look up twice, weigh.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace reference {

struct cope_row {
  std::vector<double> positions, bias;  ///< 0 for keys that are not seen
};

/// gates_of: what gates are of, per key; seen: whether the query sees the key; z: per position.
inline cope_row cope(const std::vector<double>& gates_of, const std::vector<bool>& seen, const std::vector<double>& z) {
  const std::size_t keys = gates_of.size();
  std::vector<double> gates(keys);
  for (std::size_t j = 0; j < keys; ++j) gates[j] = seen[j] ? 1 / (1 + std::exp(-gates_of[j])) : 0.0;
  std::ranges::reverse(gates);
  for (std::size_t j = 1; j < keys; ++j) gates[j] += gates[j - 1];
  std::ranges::reverse(gates);
  cope_row row{std::vector<double>(keys), std::vector<double>(keys)};
  for (std::size_t j = 0; j < keys; ++j) {
    if (!seen[j]) continue;
    const double p = std::min(gates[j], static_cast<double>(z.size() - 1)), above = std::ceil(p), below = std::floor(p);
    row.positions[j] = p;
    row.bias[j] = z[static_cast<std::size_t>(above)] * (p - below) + z[static_cast<std::size_t>(below)] * (1 - (p - below));
  }
  return row;
}

}  // namespace reference
