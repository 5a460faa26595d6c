// expect: required<T>::required() | field 'dim' with omitted initializer
// SPDX-License-Identifier: MIT
#include <posenc/rope.hpp>

#ifndef POSENC_ACCEPT
const posenc::rope_options options{.pairing = posenc::pairing::halves};
#else
const posenc::rope_options options{.pairing = posenc::pairing::halves, .dim = 64};
#endif
