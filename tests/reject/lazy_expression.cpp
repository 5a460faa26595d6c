// expect: satisfaction of 'stored_tensor | does not satisfy 'stored_tensor'
// SPDX-License-Identifier: MIT
// An expression is evaluated into a tensor first, by the caller, who then knows where the memory is.
#include <posenc/sinusoidal.hpp>

void encode(Eigen::Tensor<float, 3>& x, const posenc::sinusoidal<float>& encoder, const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  posenc::encode_embeddings(encoder, x + x, at);
#else
  posenc::encode_embeddings(encoder, x, at);
#endif
}
