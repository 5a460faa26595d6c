// SPDX-License-Identifier: MIT
/// \file  How many keys a query sees, by looking at every key.
#pragma once

#include <posenc/visible_keys.hpp>

#include <algorithm>

namespace reference {

/// Of query t in row b. The keys of a causal mask are all positions from 0 on, whether they are in the tensor or not.
inline posenc::index_t visible_count(const posenc::visible_keys& keys, const posenc::attention_positions& at, posenc::index_t b,
                                     posenc::index_t t) {
  using posenc::index_t, posenc::no_position, posenc::position;
  const position query = at.queries(b, t);
  index_t count = 0;
  if (keys.which == posenc::visible::causal) {
    for (position key = 0; key <= query; ++key) count += keys.window == 0 || query - key < keys.window;
    return std::max<index_t>(count, 1);
  }
  // Two tokens are of one document where no token from behind the first to the second falls back.
  const auto begins = [&](index_t j) {
    for (index_t before = j; before-- > 0;)
      if (at.keys(b, before) != no_position) return at.keys(b, j) != no_position && at.keys(b, j) <= at.keys(b, before);
    return false;
  };
  for (index_t j = 0; j < at.keys.time(); ++j) {
    bool together = true;
    if (keys.which == posenc::visible::document)
      for (index_t between = std::min(j, t) + 1; between <= std::max(j, t); ++between) together = together && !begins(between);
    count += together && at.keys(b, j) != no_position;
  }
  return std::max<index_t>(count, 1);
}

}  // namespace reference
