// SPDX-License-Identifier: MIT
/// \file  What a rotary table and a frequency schedule hold, as arrays.
#pragma once

#include <posenc/frequencies.hpp>
#include <posenc/rope/rotary_table.hpp>

#include "golden/compare.hpp"

#include <algorithm>
#include <vector>

namespace golden {

namespace detail {
/// [time, pair], or [batch, time, pair] where the rows have positions of their own.
template <class S>
npy<S> part(const posenc::rotary_table<S>& table, index_t first) {
  npy<S> values{{table.time(), table.pairs()}, {}};
  if (table.batch() > 0) values.shape.insert(values.shape.begin(), table.batch());
  for (index_t b = 0; b < std::max<index_t>(table.batch(), 1); ++b)
    for (index_t t = 0; t < table.time(); ++t) {
      const S* row = table.row(b, t) + first;
      values.values.insert(values.values.end(), row, row + table.pairs());
    }
  return values;
}
}  // namespace detail

template <class S>
npy<S> cosines(const posenc::rotary_table<S>& table) {
  return detail::part(table, 0);
}
template <class S>
npy<S> sines(const posenc::rotary_table<S>& table) {
  return detail::part(table, table.pairs());
}

inline npy<double> radians(const posenc::frequencies& speeds) {
  npy<double> values{{speeds.count()}, {}};
  for (index_t k = 0; k < speeds.count(); ++k) values.values.push_back(speeds.radians(k));
  return values;
}

}  // namespace golden
