// expect: ::exponent_rule | field 'exponent_rule' with omitted initializer
// SPDX-License-Identifier: MIT
#include <posenc/sinusoidal.hpp>

using posenc::channel_order;
namespace exponent_rule = posenc::exponent_rule;
#ifndef POSENC_ACCEPT
const posenc::sinusoidal_options options{.dim = 64, .order = channel_order::sin_cos};
#else
const posenc::sinusoidal_options options{.dim = 64, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}};
#endif
