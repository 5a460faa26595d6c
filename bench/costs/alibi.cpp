// SPDX-License-Identifier: MIT
// One use of one encoder: with USE the function does its work, without it is empty.
#include <posenc/alibi.hpp>

void use(float* x, posenc::index_t time) {
#if USE
  const posenc::alibi<float> alibi({.heads = 8, .form = posenc::alibi_form::causal});
  const auto at = posenc::positions::range(time);
  alibi.bias(posenc::score_view<float>(x, {1, 8, time, time}), {at, at});
#else
  static_cast<void>(x), static_cast<void>(time);
#endif
}
