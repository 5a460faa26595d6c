// SPDX-License-Identifier: MIT
// One use of one encoder: with USE the function does its work, without it is empty.
#include <posenc/sinusoidal.hpp>

void use(float* x, posenc::index_t time) {
#if USE
  const posenc::sinusoidal<float> sinusoidal(
      {.dim = 512, .order = posenc::channel_order::interleaved, .exponent_rule = posenc::exponent_rule::vaswani{}});
  sinusoidal.add(posenc::token_view<float>(x, {8, time, 512}), posenc::positions::range(time));
#else
  static_cast<void>(x), static_cast<void>(time);
#endif
}
