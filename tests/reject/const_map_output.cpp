// expect: satisfaction of 'has_writable_elements | does not satisfy 'has_writable_elements'
// SPDX-License-Identifier: MIT
#include <posenc/alibi.hpp>

void encode(const float* constant, float* own, const posenc::alibi<float>& encoder, const posenc::attention_positions& at) {
  using scores = Eigen::Tensor<float, 4>;
#ifndef POSENC_ACCEPT
  posenc::encode_scores(encoder, Eigen::TensorMap<const scores>(constant, 5, 5, 1, 1), at);
#else
  posenc::encode_scores(encoder, Eigen::TensorMap<scores>(own, 5, 5, 1, 1), at);
#endif
  static_cast<void>(constant), static_cast<void>(own);
}
