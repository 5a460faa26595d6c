// SPDX-License-Identifier: MIT
/// \file  Tensors whose elements tell where they lie.
#pragma once

#include <cstddef>

/// 0, 1, 2, ... in the order of the memory.
template <class Tensor>
Tensor& number(Tensor& tensor) {
  for (std::ptrdiff_t n = 0; n < static_cast<std::ptrdiff_t>(tensor.size()); ++n)
    tensor.data()[n] = static_cast<typename Tensor::Scalar>(static_cast<float>(n));
  return tensor;
}
