// expect: satisfaction of 'readable_as | 'readable_as<float, double>' evaluated to false
// SPDX-License-Identifier: MIT
#include <posenc/sinusoidal.hpp>

void encode(Eigen::Tensor<float, 3>& x, const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  using scalar = double;
#else
  using scalar = float;
#endif
  const posenc::sinusoidal<scalar> encoder(
      {.dim = 64, .order = posenc::channel_order::sin_cos, .exponent_rule = posenc::exponent_rule::vaswani{}});
  encoder.add(x, at);
}
