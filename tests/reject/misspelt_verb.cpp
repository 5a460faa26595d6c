// expect: satisfaction of 'rotate_absent_or_right | does not satisfy 'rotate_absent_or_right'
// SPDX-License-Identifier: MIT
// It adds well, so it is an encoder of embeddings; but its `rotate` lacks the role, and would be skipped in silence.
#include <posenc/concepts.hpp>

#include <string_view>

struct half_right {
  using scalar = float;
  static std::string_view name() { return "half_right"; }
  void add(posenc::token_view<float>, const posenc::positions&) const {}
#ifndef POSENC_ACCEPT
  void rotate(posenc::head_view<float>, const posenc::attention_positions&) const {}
#else
  void rotate(posenc::head_view<float>, posenc::operand, const posenc::attention_positions&) const {}
#endif
  friend bool operator==(const half_right&, const half_right&) = default;
};

void encode(Eigen::Tensor<float, 3>& x, const posenc::positions& at) { posenc::encode_embeddings(half_right{}, x, at); }
