// SPDX-License-Identifier: MIT
/// \file  Arithmetic that rounds after each operation, whatever the compiler is allowed to contract: what the kernels promise, bit for bit.
#pragma once

namespace reference {

template <class S>
S times(S a, S b) {
  const volatile S product = a * b;
  return product;
}
template <class S>
S plus(S a, S b) {
  const volatile S sum = a + b;
  return sum;
}
template <class S>
S minus(S a, S b) {
  const volatile S difference = a - b;
  return difference;
}

}  // namespace reference
