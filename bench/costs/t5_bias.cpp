// SPDX-License-Identifier: MIT
// One use of one encoder: with USE the function does its work, without it is empty.
#include <posenc/relative/t5_bias.hpp>

void use(float* x, posenc::index_t time) {
#if USE
  const posenc::t5_bias<float> t5(posenc::t5_bias_options::t5_encoder(8));
  const auto at = posenc::positions::range(time);
  t5.bias(posenc::score_view<float>(x, {1, 8, time, time}), posenc::attention_positions{at, at});
#else
  static_cast<void>(x), static_cast<void>(time);
#endif
}
