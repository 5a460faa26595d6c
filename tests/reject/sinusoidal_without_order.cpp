// expect: ::channel_order | field 'order' with omitted initializer
// SPDX-License-Identifier: MIT
#include <posenc/sinusoidal.hpp>

using posenc::channel_order;
namespace exponent_rule = posenc::exponent_rule;
#ifndef POSENC_ACCEPT
const posenc::sinusoidal_options options{.dim = 64, .exponent_rule = exponent_rule::vaswani{}};
#else
const posenc::sinusoidal_options options{.dim = 64, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}};
#endif
