// SPDX-License-Identifier: MIT
/// \file  The add_product kernel: channel by channel, products of two tensors added to a third.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// out += a * b, all `[row, channel]` with contiguous channels; strides count elements. Both operations round to compute<T>, and the result
/// to X. X: T, or compute<T>. Preconditions: `out` overlaps neither `a` nor `b`.
template <class T, class X = T>
struct add_product_call {
  const T* a;
  const compute<T>* b;
  X* out;
  index_t rows, channels;
  index_t a_row, b_row, out_row;  ///< strides
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/add_product.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T, class X = T>
void add_product(const add_product_call<T, X>& call) {
  if constexpr (is_same<X, bfloat16>)
    dispatch(baseline::add_product<T, X>, avx2::add_product<T, X>, avx512::add_product<T, X>, avx512_bf16::add_product<T, X>)(call);
  else dispatch(baseline::add_product<T, X>, avx2::add_product<T, X>, avx512::add_product<T, X>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
