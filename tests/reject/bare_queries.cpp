// expect: is not derived from | could not match 'head_view' against 'Tensor'
// SPDX-License-Identifier: MIT
// The order of time and heads has to be said.
#include <posenc/rope.hpp>

void encode(Eigen::Tensor<float, 4>& q, const posenc::rope<float>& encoder, const posenc::state_t<posenc::rope<float>>& state) {
#ifndef POSENC_ACCEPT
  posenc::encode_queries_keys(encoder, q, q, state);
#else
  const auto view = posenc::heads(q, posenc::axis_order::time_head);
  posenc::encode_queries_keys(encoder, view, view, state);
#endif
}
