// SPDX-License-Identifier: MIT
/// \file  The bias kernel: attention scores, scaled, biased by a slope times a distance, and masked, in one pass.
#pragma once

#include <posenc/kernels/dispatch.hpp>
#include <posenc/kernels/score_block.hpp>

namespace POSENC_NAMESPACE::kernels {

/// What the slope is multiplied by, for a query at i and a key at j.
enum class distance { causal /* -max(i - j, 0) */, symmetric /* -|i - j| */, key /* j - reference */ };

/// score = score * scale + slope * distance, in that order and rounded each time.
template <class T>
struct bias_call : score_block<T> {
  const compute<T>* slopes;  ///< one per head
  kernels::distance distance;
  std::int64_t reference;    ///< for distance::key
  const compute<T>* slopes_after = nullptr;  ///< one per head for keys after the query, with distance::symmetric; null: the same
};

/// The gradient of the slopes: adds, per head, the sum of d_score * distance over unmasked pairs to d_slopes, in double, in an order that
/// depends on the shape alone. With distance::causal only keys before the query count: the others add nothing, were they infinite. Then
/// d_scores becomes what went into the forward pass: times scale, and zero where masked.
template <class T>
struct bias_backward_call {
  bias_call<T> forward;  ///< with d_scores for scores
  double* d_slopes;
  double* d_slopes_after = nullptr;  ///< not null where `forward.slopes_after` is not
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/bias.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void bias(const bias_call<T>& call) {
  if constexpr (is_same<T, bfloat16>) dispatch(baseline::bias<T>, avx2::bias<T>, avx512::bias<T>, avx512_bf16::bias<T>)(call);
  else dispatch(baseline::bias<T>, avx2::bias<T>, avx512::bias<T>)(call);
}

template <class T>
void bias_backward(const bias_backward_call<T>& call) {
  if constexpr (is_same<T, bfloat16>)
    dispatch(baseline::bias_backward<T>, avx2::bias_backward<T>, avx512::bias_backward<T>, avx512_bf16::bias_backward<T>)(call);
  else dispatch(baseline::bias_backward<T>, avx2::bias_backward<T>, avx512::bias_backward<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
