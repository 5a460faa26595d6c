// SPDX-License-Identifier: MIT
/// \file  What the kernels of scores are given: where the scores lie, and which positions the queries and keys have.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// Some heads and queries of one batch row of scores `[head, query, key]` with contiguous keys. A score is multiplied by `scale` first, and
/// becomes minus infinity where `causal` and the key's position lies after the query's. A query or key without a position gets no bias and
/// no mask. Precondition: `in` and `scores` are one view or do not overlap.
template <class T>
struct score_block {
  T* scores;
  index_t heads, queries, keys;
  index_t head, query;  ///< strides of the scores
  const std::int64_t* query_ids;  ///< positions of the queries, or query_first + i where null
  std::int64_t query_first;
  const std::int64_t* key_ids;  ///< positions of the keys, or key_first + j where null
  std::int64_t key_first;
  compute<T> scale;
  bool causal;
  const T* in = nullptr;  ///< where the scores are read, `scores` being the output; null: in place
  index_t in_head = 0, in_query = 0;
};

}  // namespace POSENC_NAMESPACE::kernels
