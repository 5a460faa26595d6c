// SPDX-License-Identifier: MIT
/// \file  What the bias kernel and its backward twin have to write, pair by pair from lists of positions.
#pragma once

#include <posenc/kernels/bias.hpp>

#include "reference/rounded.hpp"
#include "reference/stored.hpp"

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

template <class T>
std::optional<pair_of_positions> positions_of(const posenc::kernels::bias_call<T>& call, std::ptrdiff_t i, std::ptrdiff_t j) {
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

/// The one of a head's numbers, of keys not after the query or after it, that this pair has.
template <class S>
S& side(const pair_of_positions& at, std::ptrdiff_t head, S* before, S* after) {
  return (after && at.key > at.query ? after : before)[head];
}

template <class T>
void bias(const posenc::kernels::bias_call<T>& call) {
  using S = compute<T>;
  for (std::ptrdiff_t h = 0; h < call.heads; ++h)
    for (std::ptrdiff_t i = 0; i < call.queries; ++i)
      for (std::ptrdiff_t j = 0; j < call.keys; ++j) {
        T& to = call.scores[h * call.head + i * call.query + j];
        const auto at = positions_of(call, i, j);
        S score = times(loaded(call.in ? call.in[h * call.in_head + i * call.in_query + j] : to), call.scale);
        if (at) {
          S value = static_cast<S>(distance(call.distance, *at, call.reference));
          if (call.distance == posenc::kernels::distance::symmetric) value = -std::abs(value);  // -|0| is the negative zero
          score = plus(score, times(side(*at, h, call.slopes, call.slopes_after), value));
        }
        if (at && call.causal && at->key > at->query) score = -std::numeric_limits<S>::infinity();
        to = stored<T>(score);
      }
}

/// \return how large the sum of magnitudes of a slope's gradient was at most: what its rounding errors are relative to.
template <class T>
double bias_backward(const posenc::kernels::bias_backward_call<T>& call) {
  double largest = 0;
  for (std::ptrdiff_t h = 0; h < call.forward.heads; ++h) {
    double magnitude = 0;
    for (std::ptrdiff_t i = 0; i < call.forward.queries; ++i)
      for (std::ptrdiff_t j = 0; j < call.forward.keys; ++j) {
        T& d_score = call.forward.scores[h * call.forward.head + i * call.forward.query + j];
        const auto at = positions_of(call.forward, i, j);
        const bool masked = at && call.forward.causal && at->key > at->query;
        if (at && !masked) {
          const double product =
              static_cast<double>(loaded(d_score)) * static_cast<double>(distance(call.forward.distance, *at, call.forward.reference));
          side(*at, h, call.d_slopes, call.d_slopes_after) += product, magnitude += std::abs(product);
        }
        d_score = stored<T>(masked ? compute<T>(0) : times(loaded(d_score), call.forward.scale));
      }
    largest = std::max(largest, magnitude);
  }
  return largest;
}

}  // namespace reference
