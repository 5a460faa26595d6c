// expect: '!(contextual_value_encoder<E>) | '!contextual_value_encoder<reads_values>' evaluated to false
// SPDX-License-Identifier: MIT
#include <posenc/concepts.hpp>

#include <string_view>

struct reads_values {
  using scalar = float;
  static std::string_view name() { return "reads_values"; }
  void add_values(posenc::head_view<float>, posenc::score_view<const float>, const posenc::attention_inputs<float>&,
                  const posenc::attention_positions&) const {}
  friend bool operator==(const reads_values&, const reads_values&) = default;
};

void encode(posenc::head_view<float> context, Eigen::Tensor<float, 4>& weights, const posenc::attention_positions& at) {
#ifndef POSENC_ACCEPT
  posenc::encode_context(reads_values{}, context, weights, at);
#else
  posenc::encode_context(reads_values{}, context, weights, {.scale = 0.125}, at);
#endif
}
