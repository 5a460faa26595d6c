// SPDX-License-Identifier: MIT
/// \file  Which tokens of a sequence see each other along time.
#pragma once

#include <posenc/conditional/token_grid.hpp>  // for_each_run
#include <posenc/config.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>  // index_t

#include <cstdint>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// Tokens [from, to) of a row.
struct token_stretch {
  index_t from, to;
};

/// The runs of a row: tokens whose positions are as far apart as they are. A gap and a restart (the next of several packed documents)
/// separate; tokens without a position may lie inside.
struct position_runs {
  std::vector<token_stretch> runs;
  std::vector<token_stretch> present;  ///< the longest stretches of tokens that have a position
  std::vector<std::uint8_t> has_position;

  position_runs(const positions& at, index_t b) {
    for_each_run(at, b, no_position, [&](index_t first, index_t end, position) { runs.push_back({first, end}); });
    const position_row row = at.row(b);
    for (index_t t = 0; t < at.time(); ++t) {
      has_position.push_back(row[t] != no_position);
      if (row[t] == no_position) continue;
      if (!present.empty() && present.back().to == t) ++present.back().to;
      else present.push_back({t, t + 1});
    }
  }
};

}  // namespace POSENC_NAMESPACE::detail
