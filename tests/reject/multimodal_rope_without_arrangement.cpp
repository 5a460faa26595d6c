// expect: ::multimodal_arrangement | to 'const posenc::multimodal_rope_options'
// SPDX-License-Identifier: MIT
// Sections alone do not tell which pairs they are: Qwen2-VL and Qwen3-VL have the same ones and differ.
#include <posenc/rope/multimodal_rope.hpp>

#ifndef POSENC_ACCEPT
const posenc::multimodal_rope<float> encoder({.pairing = posenc::pairing::halves, .dim = 16}, {.sections = {4, 2, 2}});
#else
const posenc::multimodal_rope<float> encoder({.pairing = posenc::pairing::halves, .dim = 16},
                                             {.sections = {4, 2, 2}, .arrangement = posenc::multimodal_arrangement::chunked});
#endif
