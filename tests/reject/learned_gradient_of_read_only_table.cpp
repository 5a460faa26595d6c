// expect: '!(is_const_v<T>) [with T = const float]' evaluated to | '!std::is_const_v<const float>' evaluated to false
// SPDX-License-Identifier: MIT
// A mapped file is not trained.
#include <posenc/learned.hpp>

#ifndef POSENC_ACCEPT
using table = posenc::learned<const float>;
#else
using table = posenc::learned<float>;
#endif

void backward(const table& encoder, const Eigen::Tensor<float, 3>& d, const posenc::positions& at, posenc::gradient_spans<float> sums) {
  encoder.encode_backward(at, d, sums);
}
