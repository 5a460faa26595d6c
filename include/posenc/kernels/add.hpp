// SPDX-License-Identifier: MIT
/// \file  The add kernel: codes of positions, added to embeddings.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// Where the codes of tokens [batch, time] stand.
template <class S>
struct code_source {
  const S* table;                     ///< the code of token (b, t) is table + b * batch + t * time
  index_t batch, time;                ///< strides, 0 where rows share a code
  const std::int64_t* ids = nullptr;  ///< instead: table + ids[b * ids_batch + t] * time; `absent`: no code
  index_t ids_batch = 0;
  S scale = 1;                        ///< multiplies the code
};

/// How many sources one call may add.
inline constexpr index_t most_sources = 8;

/// out = (in * in_scale + code * scale of the first source + ... of the second) * mask, all `[batch, time, channel]` with contiguous
/// channels; strides count elements. Each operation rounds once to compute<T>, and the result to T.
/// Preconditions: `in` and `out` are one view or do not overlap; sources overlap neither; destination rows are distinct.
template <class T>
struct add_call {
  const T* in;
  T* out;
  const code_source<compute<T>>* sources;
  index_t count;  ///< of sources
  index_t batch, time, channels;
  index_t in_batch, in_time;
  index_t out_batch, out_time;
  const std::int64_t* rows = nullptr;  ///< token (b, t) goes to out + rows[b * time + t] * out_time; null: to its own place; < 0: nowhere
  bool streaming = false;  ///< past the caches, where `out` is another tensor whose rows are whole cache lines
  compute<T> in_scale = 1;
  const compute<T>* mask = nullptr;  ///< null: ones
  index_t mask_batch = 0, mask_time = 0;
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
