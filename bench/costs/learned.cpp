// SPDX-License-Identifier: MIT
// One use of one encoder: with USE the function does its work, without it is empty.
#include <posenc/learned.hpp>

void use(float* x, posenc::index_t time) {
#if USE
  const posenc::learned<float> encoder({.rows = 512, .dim = 512});
  encoder.add(posenc::tensor_view<float, 2>(x, {time, 512}), posenc::positions::range(time));
#else
  static_cast<void>(x), static_cast<void>(time);
#endif
}
