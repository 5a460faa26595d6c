// SPDX-License-Identifier: MIT
/// \file  The log_sigmoid kernel: logits of gates to the logarithms of the gates, and the way back for gradients.
#pragma once

#include <posenc/kernels/dispatch.hpp>
#include <posenc/kernels/exponential.hpp>

namespace POSENC_NAMESPACE::kernels {

/// out[r, c] = scale * log(1 / (1 + e^-x[r, c])), as -softplus(-x): within 2.2 units in the last place before the scale, subnormal results
/// included; 0 at infinity and minus infinity at minus infinity. Strides count elements.
/// Precondition: `x` and `out` are one view or do not overlap.
template <class T>
struct log_sigmoid_call {
  const T* x;
  compute<T>* out;
  index_t rows, channels;
  index_t x_row, out_row;  ///< strides
  compute<T> scale;        ///< not negative
};

/// d_x[r, c] = d_out[r, c] * (scale / (1 + e^x[r, c])), rounded to T once.
/// Precondition: `d_x` is `x` or `d_out` with the same strides, or overlaps neither.
template <class T>
struct log_sigmoid_gradient_call {
  const T* x;
  const compute<T>* d_out;
  T* d_x;
  index_t rows, channels;
  index_t x_row, d_out_row, d_x_row;  ///< strides
  compute<T> scale;
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/log_sigmoid.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void log_sigmoid(const log_sigmoid_call<T>& call) {
  dispatch(baseline::log_sigmoid<T>, avx2::log_sigmoid<T>, avx512::log_sigmoid<T>)(call);
}

template <class T>
void log_sigmoid_gradient(const log_sigmoid_gradient_call<T>& call) {
  if constexpr (is_same<T, bfloat16>)
    dispatch(baseline::log_sigmoid_gradient<T>, avx2::log_sigmoid_gradient<T>, avx512::log_sigmoid_gradient<T>,
             avx512_bf16::log_sigmoid_gradient<T>)(call);
  else dispatch(baseline::log_sigmoid_gradient<T>, avx2::log_sigmoid_gradient<T>, avx512::log_sigmoid_gradient<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
