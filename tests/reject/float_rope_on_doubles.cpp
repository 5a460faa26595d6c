// expect: satisfaction of 'readable_as | 'readable_as<double, float>' evaluated to false
// SPDX-License-Identifier: MIT
#include <posenc/rope.hpp>

void encode(Eigen::Tensor<double, 4>& q, const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  using scalar = float;
#else
  using scalar = double;
#endif
  const posenc::rope<scalar> encoder({.pairing = posenc::pairing::halves, .dim = 4});
  encoder.rotate(posenc::heads(q, posenc::axis_order::time_head), at);
}
