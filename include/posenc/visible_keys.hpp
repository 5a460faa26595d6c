// SPDX-License-Identifier: MIT
/// \file  How many keys each query sees: what the sharpness of attention is made to depend on.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// Which keys a query sees.
enum class visible {
  causal,   ///< those up to its own position: p + 1, which begins anew with every packed document, as positions do (OLMo-core)
  all,      ///< all keys of its batch row that have a position: bidirectional attention over one document
  document  ///< those of its own document: bidirectional attention over packed documents, each of which begins where a position does not
            ///< exceed the one before; queries and keys must be the same tokens
};

struct visible_keys {
  required<visible> which;
  index_t window = 0;  ///< for visible::causal: no more than that many, itself included; 0: no window

  friend bool operator==(const visible_keys&, const visible_keys&) = default;
};

namespace detail {

/// \throws argument_error  unless the window is not negative, and 0 where attention is not causal.
inline void require_window(std::string_view who, const visible_keys& keys) {
  require(keys.window >= 0 && (keys.window == 0 || keys.which == visible::causal), who,
          "window must not be negative, and 0 where attention is not causal", keys.window);
}

/// \throws argument_error  unless keys can be counted at these positions.
inline void require_countable(std::string_view who, const visible_keys& keys, const attention_positions& at) {
  require(at.queries.axes() == 1 && at.keys.axes() == 1, who, "positions must have one axis", at.queries.axes(), at.keys.axes());
  require(at.queries.batch() == 0 || at.keys.batch() == 0 || at.queries.batch() == at.keys.batch(), who,
          "queries and keys must have one batch", at.queries.batch(), at.keys.batch());
  require(keys.which != visible::document || at.queries == at.keys, who, "queries and keys must be the same tokens for visible::document",
          at.queries.time(), at.keys.time());
}

/// The number for each query of batch row b; 1 at least, as for positions below 0, and 0 for one without a position.
inline std::vector<index_t> visible_counts(const visible_keys& keys, const attention_positions& at, index_t b) {
  const position_row queries = at.queries.row(b), all = at.keys.row(b);
  std::vector<index_t> counts(static_cast<std::size_t>(at.queries.time()));
  const auto set = [&](index_t t, index_t count) {
    if (queries[t] != no_position) counts[static_cast<std::size_t>(t)] = std::max<index_t>(count, 1);
  };
  if (keys.which == visible::causal) {
    for (index_t t = 0; t < at.queries.time(); ++t) {
      const index_t before = queries[t] == no_position ? 0 : queries[t] + 1;
      set(t, keys.window == 0 ? before : std::min(before, keys.window));
    }
    return counts;
  }
  index_t begin = 0, count = 0;  // of the document at hand
  position previous = no_position;
  const auto finish = [&](index_t end) {
    for (; begin < end; ++begin) set(begin, count);
  };
  for (index_t t = 0; t < at.keys.time(); ++t) {
    if (all[t] == no_position) continue;
    if (keys.which == visible::document && count > 0 && all[t] <= previous) finish(t), count = 0;
    previous = all[t];
    ++count;
  }
  finish(at.queries.time());
  return counts;
}

}  // namespace detail

}  // namespace POSENC_NAMESPACE
