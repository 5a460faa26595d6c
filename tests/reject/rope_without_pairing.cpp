// expect: ::pairing | to 'const posenc::rotary_descriptor'
// SPDX-License-Identifier: MIT
// Checkpoints do not record it, so it has no default.
#include <posenc/rope.hpp>

#ifndef POSENC_ACCEPT
const posenc::rope<float> encoder({.dim = 64});
#else
const posenc::rope<float> encoder({.pairing = posenc::pairing::halves, .dim = 64});
#endif
