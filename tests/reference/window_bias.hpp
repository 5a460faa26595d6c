// SPDX-License-Identifier: MIT
/// \file  Biases of windows, pair by pair, from lists of coordinates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace reference {

using cell = std::optional<std::vector<std::int64_t>>;  ///< of a token; none: a class token

/// Numbers are written down for every way that one cell may lie from another, found by walking all of them in order.
struct window_rule {
  std::vector<std::int64_t> window;
  enum { query_minus_key, key_minus_query, magnitudes } sign;

  /// All differences in the order of rows, the slowest axis first.
  std::vector<std::vector<std::int64_t>> differences() const {
    std::vector<std::vector<std::int64_t>> all{{}};
    for (const std::int64_t extent : window) {
      std::vector<std::vector<std::int64_t>> longer;
      for (const auto& begun : all)
        for (std::int64_t d = sign == magnitudes ? 0 : 1 - extent; d < extent; ++d) {
          longer.push_back(begun);
          longer.back().push_back(d);
        }
      all = longer;
    }
    return all;
  }
  /// The row of a pair; BEiT's three stand behind the others.
  std::size_t row(const cell& query, const cell& key) const {
    const auto all = differences();
    if (!query || !key) return all.size() + (query ? 1 : key ? 0 : 2);
    std::vector<std::int64_t> moved;
    for (std::size_t axis = 0; axis < window.size(); ++axis) {
      std::int64_t d = (*query)[axis] - (*key)[axis];
      if (sign == key_minus_query || (sign == magnitudes && d < 0)) d = -d;
      moved.push_back(d);
    }
    for (std::size_t n = 0; n < all.size(); ++n)
      if (all[n] == moved) return n;
    return all.size() + 3;
  }
};

}  // namespace reference
