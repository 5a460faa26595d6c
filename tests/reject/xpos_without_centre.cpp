// expect: ::xpos_centre | to 'const posenc::xpos_options'
// SPDX-License-Identifier: MIT
// Keys that were cached under one centre are wrong under another, and systems differ.
#include <posenc/rope/xpos.hpp>

#ifndef POSENC_ACCEPT
const posenc::xpos<float> encoder({.pairing = posenc::pairing::interleaved, .dim = 64}, {.scale_base = 512});
#else
const posenc::xpos<float> encoder({.pairing = posenc::pairing::interleaved, .dim = 64}, {.centre_rule = posenc::xpos_centre::fixed});
#endif
