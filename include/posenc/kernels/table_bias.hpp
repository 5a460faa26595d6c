// SPDX-License-Identifier: MIT
/// \file  The table bias kernel: attention scores, scaled, biased by ready values and masked, in one pass; and its gradient.
#pragma once

#include <posenc/kernels/dispatch.hpp>
#include <posenc/kernels/score_block.hpp>

namespace POSENC_NAMESPACE::kernels {

/// Keys whose positions count up: key `begin` stands at `first`, the next one at `first + 1`, until the next run begins. `absent`: none of
/// them has a position.
struct key_run {
  index_t begin;
  std::int64_t first;
};

/// Which of the values of a head and query is a key's: the one of its distance, or the one of its number.
enum class value_of { distance, key };

/// score = score * scale + (value + key value or run value), in that order and rounded each time; minus infinity where masked.
///
/// With value_of::distance, value n is that of the distance (key's position minus query's) `low + n`. Beyond the first and the last one it
/// is the nearest where `clip`; otherwise such a pair has none and gets its key or run value alone, if there is one. With value_of::key,
/// value n is that of the block's key n. A query or key without a position gets none of them.
///
/// Fastest where all distances have values and `value_query` is 0. It is fast for any runs, though keys whose positions do not count up
/// take some five times as long as those that do. Nothing is allocated. The bits are the same for any split into heads, queries or runs of
/// keys. Preconditions: the runs cover the keys, from 0 on and in order, and say what `key_ids` or `key_first` would, which are not read;
/// positions and `low` are at most 2^62 in magnitude; with value_of::key, `count` is the number of keys; the scores overlap none of the
/// values.
template <class T>
struct table_bias_call : score_block<T> {
  const key_run* runs;
  index_t run_count;
  const compute<T>* values;            ///< of the first head and query
  index_t value_head, value_query;     ///< strides; 0: shared
  value_of by;
  std::int64_t low;                    ///< the distance of value 0
  index_t count;                       ///< of values; 1 at least
  bool clip;
  const compute<T>* key_values = nullptr;  ///< one per key, added to the value first; null: none
  index_t key_value_head = 0;          ///< stride
  const compute<T>* run_values = nullptr;  ///< instead of key values: one per run, added to the value first; null: none
  index_t run_value_head = 0, run_value_query = 0;  ///< strides
};

/// The gradient of the values: adds to each of them the d_scores of the unmasked pairs that it was added to, in the type A (compute<T> or
/// double). Then d_scores becomes what went into the forward pass: times scale, and zero where masked; nothing is written where it is
/// neither.
///
/// The order of every sum depends on the call alone, not on the instruction set. Of each head, 32 queries after the other are taken (where
/// queries have values of their own: one after the other), of these run after run, of each run query after query, and of each query key
/// after key. To the first and the last value, what clipped distances share is added at the end of the head (or of the query), the first
/// one first: of each run and query, clipped key k goes to the sum number k % 16, after key k and k + 16 have been added to each other as
/// long as 32 are left; in the end sums 8, 4, 2 and 1 apart are added to each other. What a query's run adds to its run value is such a sum
/// too.
///
/// Preconditions: those of the forward pass; in place; `values`, `key_values` and `run_values` are not read; the gradients and the scores
/// do not overlap.
template <class T, class A = double>
struct table_bias_gradient_call {
  table_bias_call<T> forward;  ///< with d_scores for scores
  A* d_values;  ///< with the strides of `values`
  A* d_key_values = nullptr;  ///< null: not asked for
  A* d_run_values = nullptr;  ///< with the strides of `run_values`, each query its own; null: not asked for
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/table_bias.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void table_bias(const table_bias_call<T>& call) {
  if constexpr (is_same<T, bfloat16>)
    dispatch(baseline::table_bias<T>, avx2::table_bias<T>, avx512::table_bias<T>, avx512_bf16::table_bias<T>)(call);
  else dispatch(baseline::table_bias<T>, avx2::table_bias<T>, avx512::table_bias<T>)(call);
}

template <class T, class A>
void table_bias_gradient(const table_bias_gradient_call<T, A>& call) {
  if constexpr (is_same<T, bfloat16>)
    dispatch(baseline::table_bias_gradient<T, A>, avx2::table_bias_gradient<T, A>, avx512::table_bias_gradient<T, A>,
             avx512_bf16::table_bias_gradient<T, A>)(call);
  else dispatch(baseline::table_bias_gradient<T, A>, avx2::table_bias_gradient<T, A>, avx512::table_bias_gradient<T, A>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
