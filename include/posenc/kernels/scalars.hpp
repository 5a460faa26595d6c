// SPDX-License-Identifier: MIT
/// \file  What kernels read and write: float, double, and two 16-bit formats that they know by their bits alone.
#pragma once

#include <posenc/config.hpp>

#include <cstdint>

namespace POSENC_NAMESPACE::kernels {

/// The upper half of a float.
struct bfloat16 {
  std::uint16_t bits;
};

/// IEEE binary16: 5 bits of exponent, 10 of mantissa.
struct float16 {
  std::uint16_t bits;
};

template <class A, class B>
inline constexpr bool is_same = false;
template <class A>
inline constexpr bool is_same<A, A> = true;

template <class T>
struct computes_in {
  using type = T;
};
template <>
struct computes_in<bfloat16> {
  using type = float;
};
template <>
struct computes_in<float16> {
  using type = float;
};
/// What arithmetic on T is done in; results are rounded to T once, to nearest even.
template <class T>
using compute = typename computes_in<T>::type;

}  // namespace POSENC_NAMESPACE::kernels
