// expect: candidate expects 2 arguments | requires 2 arguments
// SPDX-License-Identifier: MIT
// Nothing is guessed from sizes.
#include <posenc/heads.hpp>

auto view(Eigen::Tensor<float, 4>& q) {
#ifndef POSENC_ACCEPT
  return posenc::heads(q);
#else
  return posenc::heads(q, posenc::axis_order::head_time);
#endif
}
