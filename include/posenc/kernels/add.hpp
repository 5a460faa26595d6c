// SPDX-License-Identifier: MIT
/// \file  The add kernel: codes of positions, added to embeddings.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// out = in + table, all `[batch, time, channel]` with contiguous channels; strides count elements, and are 0 where rows share a code.
/// Preconditions: `in` and `out` are one view or do not overlap; `table` overlaps neither; destination rows are distinct.
template <class T>
struct add_call {
  const T* in;
  T* out;
  const compute<T>* table;
  index_t batch, time, channels;
  index_t in_batch, in_time;
  index_t out_batch, out_time;
  index_t table_batch, table_time;
  const std::int64_t* rows = nullptr;  ///< token (b, t) goes to out + rows[b * time + t] * out_time; null: to its own place; < 0: nowhere
  bool streaming = false;  ///< past the caches, where `out` is another tensor whose rows are whole cache lines
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/add.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void add(const add_call<T>& call) {
  if constexpr (is_same<T, bfloat16>) dispatch(baseline::add<T>, avx2::add<T>, avx512::add<T>, avx512_bf16::add<T>)(call);
  else dispatch(baseline::add<T>, avx2::add<T>, avx512::add<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
