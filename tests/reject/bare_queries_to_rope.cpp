// expect: is not derived from | could not match 'head_view' against 'Tensor'
// SPDX-License-Identifier: MIT
#include <posenc/rope.hpp>

void encode(Eigen::Tensor<float, 4>& q, const posenc::rope<float>& encoder, const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  encoder.rotate(q, at);
#else
  encoder.rotate(posenc::heads(q, posenc::axis_order::time_head), at);
#endif
}
