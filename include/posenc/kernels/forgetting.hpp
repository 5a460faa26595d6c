// SPDX-License-Identifier: MIT
/// \file  The forgetting kernel: attention scores, scaled, biased by differences of cumulative log gates, and masked, in one pass.
#pragma once

#include <posenc/kernels/dispatch.hpp>
#include <posenc/kernels/score_block.hpp>

namespace POSENC_NAMESPACE::kernels {

/// Which keys are of a query's document: slots [first, last), ascending in position, of which `own` is the query's.
struct key_span {
  index_t first, own, last;  ///< own: -1 for a query without a position
  bool gaps;                 ///< some slots between hold no position
};

/// score = score * scale + bias, rounded each time, where the bias is formed in double and rounded to compute<T> once:
///   sums[own] - sums[slot]               for keys of the document up to the query's own
///   sums_after[slot] - sums_after[own]   for those behind it, unless null or masked
/// Keys of other documents, and those without a position, get none.
template <class T>
struct forgetting_call : score_block<T> {
  const key_span* spans;  ///< one per query
  index_t first_slot;     ///< of the keys, where the scores are a tile
  const double* sums;     ///< of the first head, slot by slot from 0
  index_t sums_head;      ///< stride
  const double* sums_after = nullptr;
};

/// The gradient of the sums: each pair adds what it has, but for the query's own key, where the bias is 0. Sums are formed in double in an
/// order that depends on shapes alone. Then d_scores becomes what went into the forward pass: times scale, and zero where masked.
template <class T>
struct forgetting_gradient_call {
  forgetting_call<T> forward;  ///< with d_scores for scores; its sums are not read, sums_after but whether it is null
  double* d_sums;              ///< of the first head, `sums_head` apart; null: not asked for
  double* d_sums_after;        ///< of the sums after, negated; not null where d_sums and `forward.sums_after` are not
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/forgetting.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void forgetting(const forgetting_call<T>& call) {
  if constexpr (is_same<T, bfloat16>)
    dispatch(baseline::forgetting<T>, avx2::forgetting<T>, avx512::forgetting<T>, avx512_bf16::forgetting<T>)(call);
  else dispatch(baseline::forgetting<T>, avx2::forgetting<T>, avx512::forgetting<T>)(call);
}

template <class T>
void forgetting_gradient(const forgetting_gradient_call<T>& call) {
  if constexpr (is_same<T, bfloat16>)
    dispatch(baseline::forgetting_gradient<T>, avx2::forgetting_gradient<T>, avx512::forgetting_gradient<T>,
             avx512_bf16::forgetting_gradient<T>)(call);
  else dispatch(baseline::forgetting_gradient<T>, avx2::forgetting_gradient<T>, avx512::forgetting_gradient<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
