// SPDX-License-Identifier: MIT
/// \file  Rows of numbers, added to tokens.
#pragma once

#include <posenc/config.hpp>
#include <posenc/kernels/add.hpp>
#include <posenc/tensor.hpp>

namespace POSENC_NAMESPACE::detail {

/// out += rows, both `[row, channel]`, the sum rounded to T once; strides count elements.
template <storage_scalar T>
void add_rows(T* out, index_t out_row, const compute_t<T>* rows, index_t rows_row, index_t count, index_t channels) {
  const kernels::code_source<compute_t<T>> source{.table = rows, .batch = 0, .time = rows_row};
  kernels::add<kernel_scalar<T>>({.in = kernel_pointer(out),
                                  .out = kernel_pointer(out),
                                  .sources = &source,
                                  .count = 1,
                                  .batch = 1,
                                  .time = count,
                                  .channels = channels,
                                  .in_batch = 0,
                                  .in_time = out_row,
                                  .out_batch = 0,
                                  .out_time = out_row});
}

}  // namespace POSENC_NAMESPACE::detail
