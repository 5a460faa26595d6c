// SPDX-License-Identifier: MIT
/// \file  The GELU kernels: the Gaussian error linear unit, exact, and its derivative.
#pragma once

#include <posenc/kernels/dispatch.hpp>
#include <posenc/kernels/exponential.hpp>

namespace POSENC_NAMESPACE::kernels {

/// out = residual + gelu(in), where gelu(x) = x Phi(x) (Hendrycks, Gimpel 2016) with the distribution function Phi(x) of the normal
/// distribution itself, which frameworks call the exact or erf form, not the tanh one. All are `[row, channel]` with contiguous channels;
/// strides count elements.
///
/// gelu is within 5 (float) or 9 (double) units in the last place over all numbers, far negative ones and subnormal results included; the
/// sum is rounded once more, to T. Of infinities it is infinity and 0; not-a-number stays.
/// X: T, or compute<T>. Preconditions: `out` is `in` or `residual` with the same strides, or does not overlap them.
template <class T, class X = T>
struct gelu_call {
  const X* in;
  T* out;
  index_t rows, channels;
  index_t in_row, out_row;  ///< strides
  const T* residual = nullptr;  ///< null: nothing is added
  index_t residual_row = 0;  ///< stride
};

/// d_in = d_out * gelu'(in), where gelu'(x) = Phi(x) + x phi(x) with the density phi(x) is within 5 or 9 units in the last place of Phi(x)
/// + |x| phi(x). X: T, or compute<T>. Preconditions: `d_in` is `in` or `d_out` with the same strides, or does not overlap them.
template <class T, class X = T>
struct gelu_gradient_call {
  const X* in;
  const T* d_out;
  X* d_in;
  index_t rows, channels;
  index_t in_row, d_out_row, d_in_row;  ///< strides
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/gelu.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T, class X = T>
void gelu(const gelu_call<T, X>& call) {
  if constexpr (is_same<T, bfloat16>) dispatch(baseline::gelu<T, X>, avx2::gelu<T, X>, avx512::gelu<T, X>, avx512_bf16::gelu<T, X>)(call);
  else dispatch(baseline::gelu<T, X>, avx2::gelu<T, X>, avx512::gelu<T, X>)(call);
}

template <class T, class X = T>
void gelu_gradient(const gelu_gradient_call<T, X>& call) {
  if constexpr (is_same<X, bfloat16>)
    dispatch(baseline::gelu_gradient<T, X>, avx2::gelu_gradient<T, X>, avx512::gelu_gradient<T, X>, avx512_bf16::gelu_gradient<T, X>)(call);
  else dispatch(baseline::gelu_gradient<T, X>, avx2::gelu_gradient<T, X>, avx512::gelu_gradient<T, X>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
