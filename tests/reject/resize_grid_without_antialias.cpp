// expect: [with T = bool] | required<bool>
// SPDX-License-Identifier: MIT
// Checkpoints do not tell how their systems resize them.
#include <posenc/learned/resize_taps.hpp>

using posenc::grid_filter;
#ifndef POSENC_ACCEPT
const posenc::resize_grid_options options{.from = {2, 3}, .to = {3, 4}, .filter = grid_filter::bicubic, .align_corners = false};
#else
const posenc::resize_grid_options options{
    .from = {2, 3}, .to = {3, 4}, .filter = grid_filter::bicubic, .align_corners = false, .antialias = false};
#endif
