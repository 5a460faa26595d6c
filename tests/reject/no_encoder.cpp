// expect: satisfaction of 'position_encoder | does not satisfy 'position_encoder'
// SPDX-License-Identifier: MIT
// Without a name, comparison and scalar it is no encoder, whatever its verbs.
#include <posenc/no_encoding.hpp>

struct nameless {
  void add(posenc::token_view<float>, const posenc::positions&) const {}
};

void encode(Eigen::Tensor<float, 3>& x, const posenc::positions& at) {
#ifndef POSENC_ACCEPT
  posenc::encode_embeddings(nameless{}, x, at);
#else
  posenc::encode_embeddings(posenc::no_encoding{}, x, at);
#endif
}
