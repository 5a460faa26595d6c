// expect: a part whose gradient needs the embeddings must be the first that adds to them
// SPDX-License-Identifier: MIT
// It read what the first part had added to them, which its gradient would not see.
#include <posenc/combine/compose.hpp>

#include <string_view>

struct adds {
  using scalar = float;
  static std::string_view name() { return "adds"; }
  void add(posenc::token_view<float>, const posenc::positions&) const {}
  friend bool operator==(const adds&, const adds&) = default;
};
struct reads_embeddings : adds {
  void add_backward(posenc::token_view<float>, posenc::token_view<const float>, const posenc::positions&,
                    posenc::gradient_spans<float>) const {}
};

void backward(Eigen::Tensor<float, 3>& d_x, const Eigen::Tensor<float, 3>& x, const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  const posenc::compose both(adds{}, reads_embeddings{});
#else
  const posenc::compose both(reads_embeddings{}, adds{});
#endif
  posenc::encode_embeddings_backward(both, d_x, x, at, {});
}
