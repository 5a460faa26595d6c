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

/// score = score * scale + (value + key value), or + (value + run value), in that order and rounded each time.
///
/// With value_of::distance, value n is that of the distance (key's position minus query's) `low + n`; beyond the first and last one it is
/// the nearest, where `clip`, or else nothing is added. With value_of::key, value n is that of the block's key n.
/// Preconditions: the runs cover the keys, from 0 on and in order, and say what `key_ids` or `key_first` would, which are not read; |low|
/// <= 2^62; the scores overlap none of the values.
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
/// double). A value that clipped distances share, and a run value, gets the sum of a run, which is taken in 16 parts and added in pairs 8, 4, 2 and 1 apart;
/// otherwise the order is that of queries, then keys. Then d_scores becomes what went into the forward pass: times scale, and zero where
/// masked.
/// Preconditions: those of the forward pass; `values`, `key_values` and `run_values` are not read.
template <class T, class A = double>
struct table_bias_gradient_call {
  table_bias_call<T> forward;     ///< with d_scores for scores
  A* d_values;                    ///< with the strides of `values`
  A* d_key_values = nullptr;      ///< null: not asked for
  A* d_run_values = nullptr;      ///< with the strides of `run_values`, each query its own; null: not asked for
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
