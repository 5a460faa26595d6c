// expect: '!(contextual_additive_encoder<E>) | '!contextual_additive_encoder<reads_gates>' evaluated to false
// SPDX-License-Identifier: MIT
#include <posenc/concepts.hpp>

#include <string_view>

struct reads_gates {
  using scalar = float;
  static std::string_view name() { return "reads_gates"; }
  void add(posenc::token_view<float>, const posenc::embedding_inputs<float>&, const posenc::positions&) const {}
  friend bool operator==(const reads_gates&, const reads_gates&) = default;
};

void encode(Eigen::Tensor<float, 3>& x, const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  posenc::encode_embeddings(reads_gates{}, x, at);
#else
  posenc::encode_embeddings(reads_gates{}, x, {}, at);
#endif
}
