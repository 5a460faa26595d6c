// expect: ::length_rule
// SPDX-License-Identifier: MIT
// Each rule makes other rows, and none is the usual one.
#include <posenc/learned/resize_taps.hpp>

#ifndef POSENC_ACCEPT
const posenc::resize_length_options options{.from = 16, .to = 40};
#else
const posenc::resize_length_options options{.from = 16, .to = 40, .rule = posenc::length_rule::linear};
#endif
