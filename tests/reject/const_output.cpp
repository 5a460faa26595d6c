// expect: satisfaction of 'has_writable_elements | does not satisfy 'has_writable_elements'
// SPDX-License-Identifier: MIT
#include <posenc/sinusoidal.hpp>

void encode(const Eigen::Tensor<float, 3>& constant, Eigen::Tensor<float, 3>& x, const posenc::sinusoidal<float>& encoder,
            const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  encoder.add(constant, at);
#else
  encoder.add(constant, x, at);
#endif
  static_cast<void>(x);
}
