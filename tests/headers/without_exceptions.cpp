// SPDX-License-Identifier: MIT
// Compiling this with exceptions and type information off is the whole test.
#include <posenc/posenc.hpp>

template class posenc::rope<float>;
template class posenc::alibi<double>;
template class posenc::sinusoidal<float>;

void verbs(Eigen::Tensor<float, 4, Eigen::RowMajor>& x) {
  const auto at = posenc::positions::range(x.dimension(1));
  posenc::rope<float>({.pairing = posenc::pairing::halves, .dim = 2}).rotate(heads(x, posenc::axis_order::time_head), at);
  posenc::alibi<float>({.heads = 2, .form = posenc::alibi_form::causal}).bias(x, {at, at});
}
