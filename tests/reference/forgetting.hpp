// SPDX-License-Identifier: MIT
/// \file  Sums of log gates between two tokens, as Lin et al. 2025 define them: one after the other, in long double.
#pragma once

#include <posenc/positions.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace reference {

using posenc::index_t, posenc::no_position, posenc::position;

/// Whether two slots hold tokens of one document: positions rise all the way from one to the other.
inline bool one_document(const std::vector<position>& keys, index_t i, index_t j) {
  position before = no_position;
  for (index_t t = std::min(i, j); t <= std::max(i, j); ++t) {
    const position key = keys[static_cast<std::size_t>(t)];
    if (key == no_position) {
      if (t == i || t == j) return false;
    } else if (before != no_position && key <= before) {
      return false;
    } else {
      before = key;
    }
  }
  return true;
}

/// log f_from + ... + log f_to of the tokens with a position, `gate` of a slot; at least -32768 each.
double gate_sum(const std::vector<position>& keys, index_t from, index_t to, auto&& gate) {
  long double sum = 0;
  for (index_t t = to; t >= from; --t)
    if (keys[static_cast<std::size_t>(t)] != no_position) sum += std::fmax(static_cast<double>(gate(t)), -32768.0);
  return static_cast<double>(sum);
}

/// log(1 / (1 + e^-x)) = log1p(-1 / (1 + e^x)) where that is near 1, and x - log(1 + e^x) where not.
inline long double log_sigmoid(long double x) { return x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x)); }

}  // namespace reference
