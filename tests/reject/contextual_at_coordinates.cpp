// expect: '!(contextual_additive_encoder<E>) | '!contextual_additive_encoder<reads_gates>' evaluated to false
// SPDX-License-Identifier: MIT
// It would be skipped in silence.
#include <posenc/concepts.hpp>

#include <string_view>

struct reads_gates {
  using scalar = float;
  static std::string_view name() { return "reads_gates"; }
#ifndef POSENC_ACCEPT
  void add(posenc::token_view<float>, const posenc::embedding_inputs<float>&, const posenc::positions&) const {}
#else
  void add(posenc::token_view<float>, const posenc::positions&) const {}
  void add(posenc::token_view<float>, const posenc::coordinates&) const {}
#endif
  friend bool operator==(const reads_gates&, const reads_gates&) = default;
};

void encode(Eigen::Tensor<float, 3>& x, const posenc::coordinates& at) { posenc::encode_embeddings(reads_gates{}, x, at); }
