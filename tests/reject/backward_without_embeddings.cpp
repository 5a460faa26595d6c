// expect: '!(needs_embeddings<E>) | '!needs_embeddings<reads_embeddings>' evaluated to false
// SPDX-License-Identifier: MIT
// Its gradient needs the embeddings as they came in.
#include <posenc/gradients.hpp>

#include <string_view>

struct reads_embeddings {
  using scalar = float;
  static std::string_view name() { return "reads_embeddings"; }
  void add(posenc::token_view<float>, const posenc::positions&) const {}
  void add_backward(posenc::token_view<float>, posenc::token_view<const float>, const posenc::positions&,
                    posenc::gradient_spans<float>) const {}
  friend bool operator==(const reads_embeddings&, const reads_embeddings&) = default;
};

void backward(Eigen::Tensor<float, 3>& d_x, const Eigen::Tensor<float, 3>& x, const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  static_cast<void>(x);
  posenc::encode_embeddings_backward(reads_embeddings{}, d_x, at, {});
#else
  posenc::encode_embeddings_backward(reads_embeddings{}, d_x, x, at, {});
#endif
}
