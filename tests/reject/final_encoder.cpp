// expect: satisfaction of 'not_final | does not satisfy 'not_final'
// SPDX-License-Identifier: MIT
#include <posenc/concepts.hpp>

#include <string_view>

#ifndef POSENC_ACCEPT
struct sealed final {
#else
struct sealed {
#endif
  using scalar = float;
  static std::string_view name() { return "sealed"; }
  void add(posenc::token_view<float>, const posenc::positions&) const {}
  friend bool operator==(const sealed&, const sealed&) = default;
};

void encode(Eigen::Tensor<float, 3>& x, const posenc::positions& at) { posenc::encode_embeddings(sealed{}, x, at); }
