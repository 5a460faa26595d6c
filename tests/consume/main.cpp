// SPDX-License-Identifier: MIT
/// \file  A user's program: rotates two tokens and checks one number.
#include <posenc/posenc.hpp>

#include <cmath>
#include <cstdio>

int main() {
  const posenc::rope<float> rope({.pairing = posenc::pairing::halves, .dim = 4});
  Eigen::Tensor<float, 4, Eigen::RowMajor> q(1, 2, 1, 4);  // [batch, time, head, channel]
  q.setConstant(1.0f);
  rope.rotate(posenc::heads(q, posenc::axis_order::time_head), posenc::positions::range(2));

  const bool first_kept = q(0, 0, 0, 0) == 1.0f;
  const bool second_turned = std::abs(q(0, 1, 0, 0) - (std::cos(1.0) - std::sin(1.0))) < 1e-6;
  std::printf("%g at position 0, %g at position 1\n", static_cast<double>(q(0, 0, 0, 0)), static_cast<double>(q(0, 1, 0, 0)));
  return first_kept && second_turned ? 0 : 1;
}
