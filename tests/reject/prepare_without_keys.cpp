// expect: ::attention_positions
// SPDX-License-Identifier: MIT
// A cache that holds keys at other positions than the queries must not be forgotten.
#include <posenc/alibi.hpp>

auto state(const posenc::alibi<float>& encoder, const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  return posenc::prepare(encoder, {.queries = at});
#else
  return posenc::prepare(encoder, {.queries = at, .keys = at});
#endif
}
