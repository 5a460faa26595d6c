// expect: satisfaction of 'writable_as | 'writable_as<const float, float>' evaluated to false
// SPDX-License-Identifier: MIT
#include <posenc/rope.hpp>

void encode(const Eigen::Tensor<float, 4>& q, Eigen::Tensor<float, 4>& out, const posenc::rope<float>& encoder,
            const posenc::rotary_table<float>& table) {
  const posenc::head_view<const float> read_only = posenc::heads(q, posenc::axis_order::time_head);
#ifndef POSENC_ACCEPT
  encoder.rotate(read_only, table);
#else
  encoder.rotate(read_only, posenc::heads(out, posenc::axis_order::time_head), table);
#endif
  static_cast<void>(read_only), static_cast<void>(out);
}
