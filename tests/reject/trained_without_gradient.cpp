// expect: a trainable additive encoder needs add_backward
// SPDX-License-Identifier: MIT
// It would pass the gradient on and never learn.
#include <posenc/gradients.hpp>

#include <string_view>
#include <vector>

struct forgetful {
  using scalar = float;
  static std::string_view name() { return "forgetful"; }
  void add(posenc::token_view<float>, const posenc::positions&) const {}
#ifdef POSENC_ACCEPT
  void add_backward(posenc::token_view<float>, const posenc::positions&, posenc::gradient_spans<float>) const {}
#endif
  std::vector<posenc::parameter<float>> parameters() { return {}; }
  friend bool operator==(const forgetful&, const forgetful&) = default;
};

void backward(Eigen::Tensor<float, 3>& d_x, const posenc::positions& at) { posenc::encode_embeddings_backward(forgetful{}, d_x, at, {}); }
