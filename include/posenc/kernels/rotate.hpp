// SPDX-License-Identifier: MIT
/// \file  The rotate kernel: channel pairs of queries or keys, turned by a table of cosines and sines.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// The most pairs of a call that is `exchanged`.
inline constexpr index_t max_exchanged_pairs = 1024;

/// What one call rotates. x is `[batch, time, head, channel]` with contiguous channels; strides count elements. The channels that turn are
/// `blocks` groups of `pairs` pairs, one behind the other.
/// Preconditions: `in` and `out` are one view or do not overlap; destination rows are distinct. Zero pairs: channels are copied only.
template <class T>
struct rotate_call {
  const T* in;
  T* out;
  index_t batch, time, heads;
  index_t in_batch, in_time, in_head;     ///< strides
  index_t out_batch, out_time, out_head;  ///< strides
  const std::int64_t* rows;               ///< token (b, t) goes to out + rows[b * time + t] * out_time; null: to its own place
  const compute<T>* table;                ///< per token: the cosines of all pairs of all blocks, then their sines
  index_t table_batch, table_time;        ///< strides
  index_t pairs;
  index_t before, after;                  ///< channels around those that turn, copied unless `in` is `out`
  bool interleaved;                       ///< pairs (2k, 2k + 1), else (k, k + distance)
  bool back = false;                      ///< turns back: by the negative sines
  bool streaming = false;  ///< past the caches, where `out` is another tensor whose rows are whole cache lines and none of
                           ///< the members below differs from what it is here
  bool exchanged = false;  ///< written in the other order than read: halves from interleaved, interleaved from halves
  index_t table_head = 0;  ///< stride; 0: one row for all heads
  index_t blocks = 1;
  index_t between = 0;  ///< channels after the first half, and after the second, that do not turn: distance - pairs; 0 with several blocks
  index_t sines = 0;  ///< in a row of the table, from the cosines to the sines; 0: the pairs of all blocks
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/rotate.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void rotate(const rotate_call<T>& call) {
  if constexpr (is_same<T, bfloat16>) dispatch(baseline::rotate<T>, avx2::rotate<T>, avx512::rotate<T>, avx512_bf16::rotate<T>)(call);
  else dispatch(baseline::rotate<T>, avx2::rotate<T>, avx512::rotate<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
