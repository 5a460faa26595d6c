// expect: satisfaction of 'outlives_the_call | does not satisfy 'outlives_the_call'
// SPDX-License-Identifier: MIT
#include <posenc/heads.hpp>

using tensor = Eigen::Tensor<float, 4>;

posenc::head_view<float> dangling(tensor& q) {
#ifndef POSENC_ACCEPT
  return posenc::heads(tensor(q), posenc::axis_order::time_head);
#else
  return posenc::heads(q, posenc::axis_order::time_head);
#endif
}
