// expect: satisfaction of 'has_float_elements | does not satisfy 'has_float_elements'
// SPDX-License-Identifier: MIT
#include <posenc/sinusoidal.hpp>

void encode(Eigen::Tensor<int, 3>& integers, Eigen::Tensor<float, 3>& x, const posenc::sinusoidal<float>& encoder,
            const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  posenc::encode_embeddings(encoder, integers, at);
#else
  posenc::encode_embeddings(encoder, x, at);
#endif
  static_cast<void>(integers), static_cast<void>(x);
}
