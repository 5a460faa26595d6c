// SPDX-License-Identifier: MIT
/// \file  What the bias kernel and its backward twin have to write, pair by pair from lists of positions.
#pragma once

#include <posenc/kernels/bias.hpp>

#include "reference/rounded.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>

namespace reference {

/// The positions of one query and one key, where both have one.
struct pair_of_positions {
  std::int64_t query, key;
};

template <class S>
std::optional<pair_of_positions> positions_of(const posenc::kernels::bias_call<S>& call, std::ptrdiff_t i, std::ptrdiff_t j) {
  const pair_of_positions at{call.query_ids ? call.query_ids[i] : call.query_first + i,
                             call.key_ids ? call.key_ids[j] : call.key_first + j};
  if (at.query == posenc::kernels::absent || at.key == posenc::kernels::absent) return {};
  return at;
}

/// -max(i - j, 0), -|i - j| or j - reference.
inline std::int64_t distance(posenc::kernels::distance form, const pair_of_positions& at, std::int64_t reference) {
  if (form == posenc::kernels::distance::key) return at.key - reference;
  if (at.query >= at.key) return at.key - at.query;
  return form == posenc::kernels::distance::symmetric ? at.query - at.key : 0;
}

template <class S>
void bias(const posenc::kernels::bias_call<S>& call) {
  for (std::ptrdiff_t h = 0; h < call.heads; ++h)
    for (std::ptrdiff_t i = 0; i < call.queries; ++i)
      for (std::ptrdiff_t j = 0; j < call.keys; ++j) {
        S& score = call.scores[h * call.head + i * call.query + j];
        const auto at = positions_of(call, i, j);
        score = times(call.in ? call.in[h * call.in_head + i * call.in_query + j] : score, call.scale);
        if (at) score = plus(score, times(call.slopes[h], static_cast<S>(distance(call.distance, *at, call.reference))));
        if (at && call.causal && at->key > at->query) score = -std::numeric_limits<S>::infinity();
      }
}

/// \return how large the sum of magnitudes of a slope's gradient was at most: what its rounding errors are relative to.
template <class S>
double bias_backward(const posenc::kernels::bias_backward_call<S>& call) {
  double largest = 0;
  for (std::ptrdiff_t h = 0; h < call.forward.heads; ++h) {
    double sum = 0, magnitude = 0;
    for (std::ptrdiff_t i = 0; i < call.forward.queries; ++i)
      for (std::ptrdiff_t j = 0; j < call.forward.keys; ++j) {
        S& d_score = call.forward.scores[h * call.forward.head + i * call.forward.query + j];
        const auto at = positions_of(call.forward, i, j);
        const bool masked = at && call.forward.causal && at->key > at->query;
        if (at && !masked) {
          const double product =
              static_cast<double>(d_score) * static_cast<double>(distance(call.forward.distance, *at, call.forward.reference));
          sum += product, magnitude += std::abs(product);
        }
        d_score = masked ? S(0) : times(d_score, call.forward.scale);
      }
    call.d_slopes[h] += sum;
    largest = std::max(largest, magnitude);
  }
  return largest;
}

}  // namespace reference
