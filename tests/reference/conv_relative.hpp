// SPDX-License-Identifier: MIT
/// \file  CoaT's ConvRelPosEnc by looking every neighbour up by its position, in double.
#pragma once

#include <posenc/positions.hpp>

#include <cstddef>

namespace reference {

/// The sum that one query is multiplied by: of the tokens whose positions differ from those of token t by at most size / 2 on every axis.
/// value(token) is that of the channel; weight: `[tap]`, last axis fastest.
template <class Weight>
double conv_at(const posenc::positions& at, std::ptrdiff_t b, std::ptrdiff_t t, std::ptrdiff_t size, const Weight& weight, double bias,
               auto&& value) {
  double sum = bias;
  for (std::ptrdiff_t other = 0; other < at.time(); ++other) {
    if (at(b, other) == posenc::no_position) continue;
    std::ptrdiff_t tap = 0;
    bool near = true;
    for (std::ptrdiff_t axis = 0; axis < at.axes(); ++axis) {
      const auto offset = at(b, other, axis) - at(b, t, axis);
      near = near && offset >= -(size / 2) && offset <= size / 2;
      tap = tap * size + offset + size / 2;
    }
    if (near) sum += weight(tap) * value(other);
  }
  return sum;
}

}  // namespace reference
