// expect: '!(rotary_encoder<E>) | '!rotary_encoder<posenc | no viable constructor or deduction guide | gateable_encoder
// SPDX-License-Identifier: MIT
// A rotation is no sum that a gate could scale.
#include <posenc/alibi.hpp>
#include <posenc/combine/gated.hpp>
#include <posenc/rope.hpp>

#ifndef POSENC_ACCEPT
using gated_encoder = posenc::gated<posenc::rope<float>>;
#else
using gated_encoder = posenc::gated<posenc::alibi<float>>;
#endif
