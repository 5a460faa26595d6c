// expect: read-only location | cannot assign to return value
// SPDX-License-Identifier: MIT
#include <posenc/heads.hpp>

void write(Eigen::Tensor<float, 4>& q) {
#ifndef POSENC_ACCEPT
  const posenc::head_view<const float> view = posenc::heads(q, posenc::axis_order::time_head);
#else
  const posenc::head_view<float> view = posenc::heads(q, posenc::axis_order::time_head);
#endif
  view(0, 0, 0, 0) = 1;
}
