// expect: no matching function
// SPDX-License-Identifier: MIT
// Its frequencies would never learn: their gradient needs what was rotated.
#include <posenc/gradients.hpp>
#include <posenc/rope/learned_rope.hpp>

using trained = posenc::learned_rope<float>;

void backward(const trained& encoder, posenc::head_view<float> d_queries, posenc::head_view<float> d_keys,
              [[maybe_unused]] posenc::head_view<const float> queries, [[maybe_unused]] posenc::head_view<const float> keys,
              const trained::state& state, [[maybe_unused]] posenc::gradient_spans<float> d_parameters) {
#ifdef POSENC_ACCEPT
  posenc::encode_queries_keys_backward(encoder, d_queries, d_keys, queries, keys, state, d_parameters);
#else
  posenc::encode_queries_keys_backward(encoder, d_queries, d_keys, state);
#endif
}
