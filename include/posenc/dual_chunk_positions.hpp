// SPDX-License-Identifier: MIT
/// \file  Positions for dual chunk attention: a long context through a rotary encoder that was trained on a short one.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>  // index_t

#include <algorithm>
#include <vector>

namespace POSENC_NAMESPACE {

/// How a context is cut. Qwen2.5-1M: 262144 and 8192.
struct dual_chunk_options {
  required<position> chunk_size;  ///< the largest distance inside a window of the model as trained, in [1, 2^60]
  required<position> local_size;  ///< in [0, chunk_size): so many tokens of a chunk see the one before at true distances
};

/// Positions for the keys and for five versions of the queries; each score is taken from the version whose pair of chunks it belongs to.
/// With l = chunk_size - local_size, and r the remainder of a position p by l:
struct dual_chunk {
  positions keys;                 ///< r
  positions intra;                ///< r, to keys of the same chunk of l tokens
  positions successive;           ///< min(r + l, chunk_size), to keys of the chunk before
  positions inter;                ///< min(2 l - 1, chunk_size), to keys of all chunks before that one
  positions successive_critical;  ///< r + l: `successive` where only the heavy keys of a sparse attention are looked for
  positions inter_critical;       ///< r + chunk_size: `inter` where only those are looked for
};

/// What dual chunk attention turns queries and keys by (An et al. 2024, "Training-Free Long-Context Scaling of Large Language Models";
/// the critical versions as in vLLM). The remainder is never negative. Tokens without a position stay so.
/// \param at  true positions: those of the queries for all but `keys`, those of the keys for `keys`.
/// \throws argument_error  for sizes out of range, and for positions on several axes.
inline dual_chunk dual_chunk_positions(const positions& at, const dual_chunk_options& cut) {
  const position chunk_size = cut.chunk_size, local_size = cut.local_size, length = chunk_size - local_size;
  require(chunk_size >= 1 && chunk_size <= positions::limit / 4, "dual chunk", "chunk_size must lie in [1, 2^60]", chunk_size);
  require(local_size >= 0 && local_size < chunk_size, "dual chunk", "local_size must lie in [0, chunk_size)", local_size, chunk_size);
  require(at.axes() == 1, "dual chunk", "the positions must have one axis", at.axes());
  const auto each = [&](auto&& rule) {
    std::vector<position> ids;
    for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b)
      for (index_t t = 0; t < at.time(); ++t) {
        const position id = at(b, t);
        ids.push_back(id == no_position ? no_position : rule((id % length + length) % length));
      }
    return positions::multi_axis(ids, 1, at.batch());
  };
  const auto remainder = each([](position r) { return r; });
  return {.keys = remainder,
          .intra = remainder,
          .successive = each([&](position r) { return std::min(r + length, chunk_size); }),
          .inter = each([&](position) { return std::min(2 * length - 1, chunk_size); }),
          .successive_critical = each([&](position r) { return r + length; }),
          .inter_critical = each([&](position r) { return r + chunk_size; })};
}

}  // namespace POSENC_NAMESPACE
