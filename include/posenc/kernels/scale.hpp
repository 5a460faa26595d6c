// SPDX-License-Identifier: MIT
/// \file  The scale kernel: heads multiplied by a factor of their token, and the gradient of factors per head.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// out = in * factor, both `[batch, time, head, channel]` with contiguous channels; strides count elements. The factor of token (b, t) and
/// head h is factors[b * factor_batch + t] * head_factors[h], formed in double and rounded to compute<T> once, or 1 where factors has NaN.
/// Preconditions: `in` and `out` are one view or do not overlap.
template <class T>
struct scale_call {
  const T* in;
  T* out;
  index_t batch, time, heads, channels;
  index_t in_batch, in_time, in_head;
  index_t out_batch, out_time, out_head;
  const double* factors;
  index_t factor_batch;                      ///< stride; 0: shared
  const compute<T>* head_factors = nullptr;  ///< null: ones
};

/// sums[h] += the sum of y * d over the tokens whose factor is not NaN and all channels: in double, in 8 parts, those of channels c mod 8,
/// which are added in pairs 4, 2 and 1 apart.
template <class T>
struct scale_gradient_call {
  const T *y, *d;
  index_t batch, time, heads, channels;
  index_t y_batch, y_time, y_head;
  index_t d_batch, d_time, d_head;
  const double* factors;
  index_t factor_batch;
  double* sums;
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/scale.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void scale(const scale_call<T>& call) {
  if constexpr (is_same<T, bfloat16>) dispatch(baseline::scale<T>, avx2::scale<T>, avx512::scale<T>, avx512_bf16::scale<T>)(call);
  else dispatch(baseline::scale<T>, avx2::scale<T>, avx512::scale<T>)(call);
}

template <class T>
void scale_gradient(const scale_gradient_call<T>& call) {
  dispatch(baseline::scale_gradient<T>, avx2::scale_gradient<T>, avx512::scale_gradient<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
