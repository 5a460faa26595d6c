// SPDX-License-Identifier: MIT
// One use of one encoder: with USE the function does its work, without it is empty.
#include <posenc/rope.hpp>

void use(float* x, posenc::index_t time) {
#if USE
  const posenc::rope<float> rope({.pairing = posenc::pairing::halves, .dim = 128});
  const Eigen::TensorMap<Eigen::Tensor<float, 4, Eigen::RowMajor>> queries(x, 1, time, 32, 128);
  rope.rotate(posenc::heads(queries, posenc::axis_order::time_head), posenc::positions::range(time));
#else
  static_cast<void>(x), static_cast<void>(time);
#endif
}
