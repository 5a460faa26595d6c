// SPDX-License-Identifier: MIT
/// \file  What the table bias kernel and its gradient have to write, pair by pair from lists of positions: `key_ids`, which the kernels do
/// not read, must be there.
#pragma once

#include <posenc/kernels/table_bias.hpp>

#include "reference/rounded.hpp"
#include "reference/stored.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace reference {

/// The runs of consecutive positions, and of keys without one.
inline std::vector<posenc::kernels::key_run> runs_of(const std::vector<std::int64_t>& ids) {
  std::vector<posenc::kernels::key_run> runs;
  for (std::size_t j = 0; j < ids.size(); ++j) {
    const bool absent = ids[j] == posenc::kernels::absent, after_absent = j > 0 && ids[j - 1] == posenc::kernels::absent;
    if (j == 0 || absent != after_absent || (!absent && ids[j] != ids[j - 1] + 1)) runs.push_back({static_cast<std::ptrdiff_t>(j), ids[j]});
  }
  return runs;
}

__extension__ typedef __int128 wide;  // differences of 64-bit numbers, and theirs

/// Where a pair's value lies: before the first (-1), among them, behind the last (count).
template <class T>
std::ptrdiff_t number_of(const posenc::kernels::table_bias_call<T>& call, std::int64_t query, std::ptrdiff_t j) {
  if (call.by == posenc::kernels::value_of::key) return j;
  const wide number = wide{call.key_ids[j]} - query - call.low;
  return static_cast<std::ptrdiff_t>(std::clamp<wide>(number, -1, call.count));
}

template <class T>
std::int64_t query_of(const posenc::kernels::table_bias_call<T>& call, std::ptrdiff_t i) {
  return call.query_ids ? call.query_ids[i] : call.query_first + i;
}
template <class T>
bool has_positions(const posenc::kernels::table_bias_call<T>& call, std::ptrdiff_t i, std::ptrdiff_t j) {
  return query_of(call, i) != posenc::kernels::absent && call.key_ids[j] != posenc::kernels::absent;
}
template <class T>
bool is_masked(const posenc::kernels::table_bias_call<T>& call, std::ptrdiff_t i, std::ptrdiff_t j) {
  return has_positions(call, i, j) && call.causal && call.key_ids[j] > query_of(call, i);
}

template <class T>
void table_bias(const posenc::kernels::table_bias_call<T>& call) {
  using S = compute<T>;
  for (std::ptrdiff_t h = 0; h < call.heads; ++h)
    for (std::ptrdiff_t i = 0; i < call.queries; ++i)
      for (std::ptrdiff_t j = 0; j < call.keys; ++j) {
        T& to = call.scores[h * call.head + i * call.query + j];
        S score = times(loaded(call.in ? call.in[h * call.in_head + i * call.in_query + j] : to), call.scale);
        std::optional<S> bias;
        if (has_positions(call, i, j)) {
          const std::ptrdiff_t n = number_of(call, query_of(call, i), j),
                               count = call.by == posenc::kernels::value_of::key ? call.keys : call.count;
          if (call.clip || (n >= 0 && n < count))
            bias = call.values[h * call.value_head + i * call.value_query + std::clamp<std::ptrdiff_t>(n, 0, count - 1)];
          if (call.key_values) {
            const S own = call.key_values[h * call.key_value_head + j];
            bias = bias ? plus(*bias, own) : own;
          }
          if (call.run_values) {
            const auto is_later = [&](std::ptrdiff_t r) { return call.runs[r].begin > j; };
            std::ptrdiff_t run = call.run_count - 1;
            while (is_later(run)) --run;
            const S own = call.run_values[h * call.run_value_head + i * call.run_value_query + run];
            bias = bias ? plus(*bias, own) : own;
          }
        }
        if (bias) score = plus(score, *bias);
        to = stored<T>(is_masked(call, i, j) ? -std::numeric_limits<S>::infinity() : score);
      }
}

/// A sum in the order that is promised for what clipped distances share.
template <class A>
struct sixteen_parts {
  std::array<A, 16> parts{};

  void add(const std::vector<A>& numbers) {
    const std::size_t paired = numbers.size() / 32 * 32;
    for (std::size_t m = 0; m < numbers.size(); ++m)
      if (m >= paired) parts[m % 16] += numbers[m];
      else if (m % 32 < 16) parts[m % 16] += plus(numbers[m], numbers[m + 16]);
  }
  A of(std::size_t part, std::size_t apart) const {
    return apart == 16 ? parts[part] : plus(of(part, 2 * apart), of(part + apart, 2 * apart));
  }
  A total() const { return of(0, 1); }
};

/// In the order that is promised, bit for bit.
template <class T, class A>
void table_bias_gradient(const posenc::kernels::table_bias_gradient_call<T, A>& given) {
  const auto& call = given.forward;
  const bool by_key = call.by == posenc::kernels::value_of::key, shared = call.value_query == 0;
  const auto runs = runs_of({call.key_ids, call.key_ids + call.keys});
  const std::ptrdiff_t together = shared ? 32 : 1, count = by_key ? call.keys : call.count;
  for (std::ptrdiff_t h = 0; h < call.heads; ++h) {
    std::vector<sixteen_parts<A>> below(static_cast<std::size_t>(call.queries)), above = below;  // of each query, or all in the first
    for (std::ptrdiff_t block = 0; block < call.queries; block += together)
      for (std::size_t r = 0; r < runs.size(); ++r)
        for (std::ptrdiff_t i = block; i < std::min(block + together, call.queries); ++i) {
          std::vector<A> before, behind, all;
          for (std::ptrdiff_t j = runs[r].begin; j < (r + 1 < runs.size() ? runs[r + 1].begin : call.keys); ++j) {
            if (!has_positions(call, i, j) || is_masked(call, i, j)) continue;
            const auto d = static_cast<A>(loaded(call.scores[h * call.head + i * call.query + j]));
            const std::ptrdiff_t n = number_of(call, query_of(call, i), j);
            if (n < 0) before.push_back(d);
            else if (n >= count) behind.push_back(d);
            else given.d_values[h * call.value_head + i * call.value_query + n] += d;
            all.push_back(d);
            if (given.d_key_values) given.d_key_values[h * call.key_value_head + j] += d;
          }
          if (given.d_run_values && runs[r].first != posenc::kernels::absent && query_of(call, i) != posenc::kernels::absent) {
            sixteen_parts<A> sum;
            sum.add(all);
            given.d_run_values[h * call.run_value_head + i * call.run_value_query + static_cast<std::ptrdiff_t>(r)] += sum.total();
          }
          below[static_cast<std::size_t>(shared ? 0 : i)].add(before);
          above[static_cast<std::size_t>(shared ? 0 : i)].add(behind);
        }
    for (std::ptrdiff_t i = 0; call.clip && !by_key && i < (shared ? 1 : call.queries); ++i) {
      A* const values = given.d_values + h * call.value_head + i * call.value_query;
      values[0] += below[static_cast<std::size_t>(i)].total();
      values[count - 1] += above[static_cast<std::size_t>(i)].total();
    }
    for (std::ptrdiff_t i = 0; i < call.queries; ++i)
      for (std::ptrdiff_t j = 0; j < call.keys; ++j) {
        T& d = call.scores[h * call.head + i * call.query + j];
        d = stored<T>(is_masked(call, i, j) ? compute<T>(0) : times(loaded(d), call.scale));
      }
  }
}

}  // namespace reference
