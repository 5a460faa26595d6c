// SPDX-License-Identifier: MIT
/// \file  The PoPE kernels: softplus of each channel, turned by an angle of its own into two channels, and the way back for gradients.
#pragma once

#include <posenc/kernels/dispatch.hpp>
#include <posenc/kernels/exponential.hpp>

namespace POSENC_NAMESPACE::kernels {

/// What one call turns. x is `[batch, time, head, channel]` with contiguous channels; strides count elements. `channels` come in and twice
/// as many go out: softplus(x) times the cosines, then times the sines.
/// softplus(x) = max(x, 0) + log(1 + e^-|x|) is within 2.2 units in the last place, subnormal results included; of infinities
/// it is infinity and 0. Each product is rounded once more, for 16-bit formats from float.
/// Preconditions: `out` is `in` with the same strides, or does not overlap it; destination rows are distinct.
template <class T>
struct pope_call {
  const T* in;                            ///< `pope_backward`: what `pope` wrote, all channels
  T* out;  ///< `pope_backward`: the gradient of that; that of the input goes to the first half, zeros behind
  index_t batch, time, heads;
  index_t in_batch, in_time, in_head;  ///< strides
  index_t out_batch, out_time, out_head;  ///< strides
  const std::int64_t* rows;  ///< token (b, t) goes to out + rows[b * time + t] * out_time; null: to its own place
  const compute<T>* table;  ///< per token: the cosines of all channels, then their sines
  index_t table_batch, table_time;  ///< strides
  index_t table_head;  ///< stride; 0: one row for all heads
  index_t channels;
  bool streaming = false;  ///< past the caches, where `out` is another tensor whose rows are whole cache lines
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/pope.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void pope(const pope_call<T>& call) {
  if constexpr (is_same<T, bfloat16>) dispatch(baseline::pope<T>, avx2::pope<T>, avx512::pope<T>, avx512_bf16::pope<T>)(call);
  else dispatch(baseline::pope<T>, avx2::pope<T>, avx512::pope<T>)(call);
}

/// dx = (d_cosine cos + d_sine sin) sigmoid(x), where sigmoid(x) = 1 - e^-softplus(x), and softplus(x) = y_cosine cos + y_sine sin.
template <class T>
void pope_backward(const pope_call<T>& call) {
  if constexpr (is_same<T, bfloat16>)
    dispatch(baseline::pope_backward<T>, avx2::pope_backward<T>, avx512::pope_backward<T>, avx512_bf16::pope_backward<T>)(call);
  else dispatch(baseline::pope_backward<T>, avx2::pope_backward<T>, avx512::pope_backward<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
