// SPDX-License-Identifier: MIT
/// \file  The widen kernel: rows of any storage as numbers to compute with, shifted and scaled.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// y[r, c] = (x[r, c] + shift[c]) * scale in compute<T>, each operation rounded; strides count elements.
/// Preconditions: `y` overlaps neither `x` nor `shift`.
template <class T>
struct widen_call {
  const T* x;
  compute<T>* y;
  index_t rows, channels;
  index_t x_row, y_row;                ///< strides
  const compute<T>* shift = nullptr;   ///< null: none
  compute<T> scale = 1;
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/widen.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void widen(const widen_call<T>& call) {
  dispatch(baseline::widen<T>, avx2::widen<T>, avx512::widen<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
