// SPDX-License-Identifier: MIT
/// \file  The gradient of codes in a table, with respect to the table.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// For each token of `[batch, time]`, sums += d * scale in the row of its code. In an order that depends on the call alone: with strides,
/// four batch rows are added to each other first; with ids, tokens come one after the other, batch row by batch row.
/// Preconditions: `d` and `sums` do not overlap.
template <class T>
struct add_gradient_call {
  const T* d;
  compute<T>* sums;           ///< the row of token (b, t) is sums + t * row, for all b
  index_t batch, time, channels;
  index_t d_batch, d_time, row;
  const std::int64_t* ids = nullptr;  ///< instead: sums + ids[b * ids_batch + t] * row; `absent`: nothing is added
  index_t ids_batch = 0;
  std::int64_t still = absent;        ///< the id whose row stays as it is
  compute<T> scale = 1;
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/add_gradient.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void add_gradient(const add_gradient_call<T>& call) {
  dispatch(baseline::add_gradient<T>, avx2::add_gradient<T>, avx512::add_gradient<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
