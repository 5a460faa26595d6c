// expect: ::window_resize_rule | field 'rule' with omitted initializer
// SPDX-License-Identifier: MIT
#include <posenc/relative/resize_window_bias.hpp>

const posenc::window_bias_options old_window{.window = {7, 7}, .heads = 3, .form = posenc::window_bias_form::swin};
#ifndef POSENC_ACCEPT
const posenc::resize_window_bias_options options{.from = old_window, .to = {8, 8}};
#else
const posenc::resize_window_bias_options options{.from = old_window, .to = {8, 8}, .rule = posenc::window_resize_rule::geometric_cubic};
#endif
