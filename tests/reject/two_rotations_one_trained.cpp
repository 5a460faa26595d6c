// expect: a trained rotation must be the only one of a composition
// SPDX-License-Identifier: MIT
// What the second rotation wrote is not what the first, whose frequencies are trained, wrote.
#include <posenc/combine.hpp>
#include <posenc/rope.hpp>
#include <posenc/rope/learned_rope.hpp>

using trained = posenc::learned_rope<float>;
#ifdef POSENC_ACCEPT
using both = posenc::compose<trained>;
#else
using both = posenc::compose<trained, posenc::rope<float>>;
#endif

void backward(const both& encoder, posenc::head_view<float> d_queries, posenc::head_view<float> d_keys,
              posenc::head_view<const float> queries, posenc::head_view<const float> keys, const both::state& state,
              posenc::gradient_spans<float> d_parameters) {
  posenc::encode_queries_keys_backward(encoder, d_queries, d_keys, queries, keys, state, d_parameters);
}
