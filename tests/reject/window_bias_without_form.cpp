// expect: ::window_bias_form | field 'form' with omitted initializer
// SPDX-License-Identifier: MIT
#include <posenc/relative/window_bias.hpp>

#ifndef POSENC_ACCEPT
const posenc::window_bias_options options{.window = {7, 7}, .heads = 3};
#else
const posenc::window_bias_options options{.window = {7, 7}, .heads = 3, .form = posenc::window_bias_form::swin};
#endif
