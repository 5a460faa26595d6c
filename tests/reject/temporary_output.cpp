// expect: satisfaction of 'outlives_the_call | does not satisfy 'outlives_the_call'
// SPDX-License-Identifier: MIT
// What is written into a tensor that ends with the statement is lost.
#include <posenc/sinusoidal.hpp>

using tensor = Eigen::Tensor<float, 3>;

void encode(tensor& x, const posenc::sinusoidal<float>& encoder, const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  encoder.add(tensor(x), at);
#else
  encoder.add(Eigen::TensorMap<tensor>(x), at);
#endif
}
