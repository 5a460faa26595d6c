// SPDX-License-Identifier: MIT
/// \file  What the add kernel has to write.
#pragma once

#include <posenc/kernels/add.hpp>

#include "reference/stored.hpp"

namespace reference {

using posenc::kernels::index_t;

/// Each sum in double, rounded once to what T is computed in, and that to T.
template <class T>
void add(const posenc::kernels::add_call<T>& call) {
  for (index_t c = 0; c < call.channels; ++c)
    for (index_t t = 0; t < call.time; ++t)
      for (index_t b = 0; b < call.batch; ++b) {
        const index_t row = call.rows ? call.rows[b * call.time + t] : 0;
        if (row < 0) continue;
        T& out = call.out[(call.rows ? row * call.out_time : b * call.out_batch + t * call.out_time) + c];
        out = stored<T>(static_cast<compute<T>>(static_cast<double>(loaded(call.in[b * call.in_batch + t * call.in_time + c])) +
                                                static_cast<double>(call.table[b * call.table_batch + t * call.table_time + c])));
      }
}

}  // namespace reference
