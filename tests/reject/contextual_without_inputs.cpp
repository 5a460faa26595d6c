// expect: '!(contextual_bias_encoder<E>) | '!contextual_bias_encoder<reads_queries>' evaluated to false
// SPDX-License-Identifier: MIT
#include <posenc/concepts.hpp>

#include <string_view>

struct reads_queries {
  using scalar = float;
  static std::string_view name() { return "reads_queries"; }
  void bias(posenc::score_view<float>, const posenc::attention_inputs<float>&, const posenc::attention_positions&) const {}
  friend bool operator==(const reads_queries&, const reads_queries&) = default;
};

void encode(Eigen::Tensor<float, 4>& scores, const posenc::attention_positions& at) {
#ifndef POSENC_ACCEPT
  posenc::encode_scores(reads_queries{}, scores, at);
#else
  posenc::encode_scores(reads_queries{}, scores, {.scale = 0.125}, at);
#endif
}
