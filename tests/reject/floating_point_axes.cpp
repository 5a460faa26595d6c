// expect: positions are integers
// SPDX-License-Identifier: MIT
#include <posenc/positions.hpp>

#include <vector>

#ifndef POSENC_ACCEPT
const auto at = posenc::positions::multi_axis(std::vector{0.0, 0.5, 1.0, 1.5}, 2);
#else
const auto at = posenc::positions::multi_axis(std::vector{0, 1, 2, 3}, 2);
#endif
