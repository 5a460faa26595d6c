// SPDX-License-Identifier: MIT
/// \file  The linear kernels: a weight matrix times vectors, as in every dense layer, and the gradients of both.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// y[t, o] = start[t, o] + sum over c of x[t, c] w[o, c], with the weight `[out, in]` as checkpoints have it. Strides count elements.
///
/// The sum over c is taken in 16 parts, those of c mod 16, which are added in pairs 8, 4, 2 and 1 apart: a token has the same bits alone as
/// among others, at every instruction set. The result is rounded to T once. Its error is at most (in / 16 + 6) roundings of the sum of
/// magnitudes, a sixteenth of what one running sum has.
/// Preconditions: `y` overlaps neither `x` nor `w`; `start` may be `y`, where T is not a 16-bit format.
template <class T>
struct linear_call {
  const T* x;
  T* y;
  index_t tokens, in, out;
  index_t x_token, y_token;  ///< strides
  const compute<T>* w;
  index_t w_row;  ///< stride; more than `in` for a slice of a wider weight
  const compute<T>* start = nullptr;  ///< null: nothing is added
  index_t start_token = 0;  ///< stride; 0: a bias `[out]`
};

/// d_x[t, c] = (accumulate ? d_x[t, c] : 0) + sum over o of d_y[t, o] w[o, c], added in the order of o and rounded to X once.
/// X: T, or compute<T>. Preconditions: `d_x` overlaps neither `d_y` nor `w`.
template <class T, class X = T>
struct linear_input_gradient_call {
  const T* d_y;
  X* d_x;
  index_t tokens, in, out;
  index_t d_y_token, d_x_token;  ///< strides
  const compute<T>* w;
  index_t w_row;  ///< stride
  bool accumulate;
};

/// d_w[o, c] += sum over t of d_y[t, o] x[t, c], and d_bias[o] += sum over t of d_y[t, o], added in the order of t: tokens in several calls
/// give the same bits as in one. Threads may share it by outputs.
/// X: T, or compute<T>. Preconditions: the gradients overlap neither each other nor what is read.
template <class T, class X = T>
struct linear_weight_gradient_call {
  const T* d_y;
  const X* x;
  index_t tokens, in, out;
  index_t d_y_token, x_token;  ///< strides
  compute<T>* d_w;
  index_t d_w_row;  ///< stride
  compute<T>* d_bias = nullptr;  ///< null: not asked for
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/linear.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void linear(const linear_call<T>& call) {
  if constexpr (is_same<T, bfloat16>) dispatch(baseline::linear<T>, avx2::linear<T>, avx512::linear<T>, avx512_bf16::linear<T>)(call);
  else dispatch(baseline::linear<T>, avx2::linear<T>, avx512::linear<T>)(call);
}

template <class T, class X>
void linear_input_gradient(const linear_input_gradient_call<T, X>& call) {
  if constexpr (is_same<X, bfloat16>)
    dispatch(baseline::linear_input_gradient<T, X>, avx2::linear_input_gradient<T, X>, avx512::linear_input_gradient<T, X>,
             avx512_bf16::linear_input_gradient<T, X>)(call);
  else dispatch(baseline::linear_input_gradient<T, X>, avx2::linear_input_gradient<T, X>, avx512::linear_input_gradient<T, X>)(call);
}

template <class T, class X>
void linear_weight_gradient(const linear_weight_gradient_call<T, X>& call) {
  dispatch(baseline::linear_weight_gradient<T, X>, avx2::linear_weight_gradient<T, X>, avx512::linear_weight_gradient<T, X>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
