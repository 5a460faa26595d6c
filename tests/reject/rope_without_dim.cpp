// expect: required<T>::required() | field 'dim' with omitted initializer
// SPDX-License-Identifier: MIT
#include <posenc/rope.hpp>

#ifndef POSENC_ACCEPT
const posenc::rotary_descriptor descriptor{.pairing = posenc::pairing::halves};
#else
const posenc::rotary_descriptor descriptor{.pairing = posenc::pairing::halves, .dim = 64};
#endif
