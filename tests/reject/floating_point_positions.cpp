// expect: positions are integers
// SPDX-License-Identifier: MIT
#include <posenc/positions.hpp>

#include <vector>

#ifndef POSENC_ACCEPT
const auto at = posenc::positions::ids(std::vector{0.0, 0.5, 1.0});
#else
const auto at = posenc::positions::ids(std::vector{0, 1, 2});
#endif
