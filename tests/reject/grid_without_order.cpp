// expect: ::grid_order
// SPDX-License-Identifier: MIT
// Checkpoints do not tell whether x or y comes first.
#include <posenc/grid.hpp>

#ifndef POSENC_ACCEPT
const auto at = posenc::grid_positions({.extents = {2, 3}});
#else
const auto at = posenc::grid_positions({.extents = {2, 3}, .order = posenc::grid_order::slowest_first});
#endif
