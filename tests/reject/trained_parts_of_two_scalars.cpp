// expect: trainable parts must share one scalar
// SPDX-License-Identifier: MIT
#include <posenc/posenc.hpp>

void both(const posenc::alibi<float>& a, const posenc::alibi<double>& b) {
#ifndef POSENC_ACCEPT
  const posenc::compose all(a, b);
#else
  const posenc::compose all(a, a);
#endif
  static_cast<void>(all), static_cast<void>(b);
}
