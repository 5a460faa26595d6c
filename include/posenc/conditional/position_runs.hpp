// SPDX-License-Identifier: MIT
/// \file  Stretches of tokens whose positions follow one another.
#pragma once

#include <posenc/config.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>  // index_t

#include <vector>

namespace POSENC_NAMESPACE::detail {

/// Tokens [from, to) of a row.
struct position_run {
  index_t from, to;
};

/// The longest stretches of a row's first `time` tokens that stand at p, p + 1, p + 2, ...: a gap, a restart (the next of several packed
/// documents) and a token without a position end one.
inline std::vector<position_run> position_runs(const position_row& row, index_t time) {
  std::vector<position_run> runs;
  for (index_t t = 0; t < time; ++t) {
    if (row[t] == no_position) continue;
    if (!runs.empty() && runs.back().to == t && row[t] - 1 == row[t - 1]) ++runs.back().to;
    else runs.push_back({t, t + 1});
  }
  return runs;
}

}  // namespace POSENC_NAMESPACE::detail
