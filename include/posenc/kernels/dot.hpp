// SPDX-License-Identifier: MIT
/// \file  The dot kernel: row by row, the sum of the products of two tensors.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// sums[r] = a[r, 0] b[r, 0] + a[r, 1] b[r, 1] + ..., in double: eight partial sums, of channels c, c + 8, ..., then their sum. Products of
/// floats are exact. Strides count elements.
template <class T>
struct dot_call {
  const T* a;
  const compute<T>* b;
  index_t rows, channels;
  index_t a_row, b_row;  ///< strides
  double* sums;
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/dot.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void dot(const dot_call<T>& call) {
  dispatch(baseline::dot<T>, avx2::dot<T>, avx512::dot<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
