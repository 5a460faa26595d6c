// SPDX-License-Identifier: MIT
/// \file  The gradient of a rotation with respect to its frequencies.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// What one call adds to `sums` [axes, pairs]: for each token and head, position times y_a d_b - y_b d_a, which is the gradient of the
/// angle of the pair (a, b). y is what the rotation wrote and d the gradient of that, both `[time, head, channel]` of one batch row;
/// strides count elements. In double, in the order of tokens, then heads: every instruction set adds the same numbers in the same order.
template <class T>
struct angle_gradient_call {
  const T* y;                                    ///< the first channel of the first pair
  const T* d;
  index_t time, heads;
  index_t y_time, y_head, d_time, d_head;        ///< strides
  index_t pairs;
  index_t distance;                              ///< halves: from one channel of a pair to the other
  bool interleaved;
  const std::int64_t* ids;                       ///< position of token t: ids[t], or first + t where null
  std::int64_t first;
  const double* coordinates;                     ///< instead of ids, NaN where there is none
  index_t axes, axis;                            ///< and the stride of ids or coordinates from axis to axis
  double* sums;
  index_t sum_axis, sum_head;                    ///< strides
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/angle_gradient.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void angle_gradient(const angle_gradient_call<T>& call) {
  dispatch(baseline::angle_gradient<T>, avx2::angle_gradient<T>, avx512::angle_gradient<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
