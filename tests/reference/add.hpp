// SPDX-License-Identifier: MIT
/// \file  What the add kernel and its gradient have to write.
#pragma once

#include <posenc/kernels/add.hpp>
#include <posenc/kernels/add_gradient.hpp>

#include "reference/stored.hpp"

#include <cstdint>

namespace reference {

using posenc::kernels::index_t;

/// Each operation in double, rounded once to what T is computed in, and the result to T.
template <class T>
void add(const posenc::kernels::add_call<T>& call) {
  const auto once = [](double exact) { return static_cast<compute<T>>(exact); };
  for (index_t c = 0; c < call.channels; ++c)
    for (index_t t = 0; t < call.time; ++t)
      for (index_t b = 0; b < call.batch; ++b) {
        const index_t row = call.rows ? call.rows[b * call.time + t] : 0;
        if (row < 0) continue;
        compute<T> sum =
            once(static_cast<double>(loaded(call.in[b * call.in_batch + t * call.in_time + c])) * static_cast<double>(call.in_scale));
        for (index_t n = 0; n < call.count; ++n) {
          const auto& source = call.sources[n];
          const std::int64_t id = source.ids ? source.ids[b * source.ids_batch + t] : t;
          if (id == posenc::kernels::absent) continue;
          const compute<T> code = source.table[(source.ids ? 0 : b * source.batch) + id * source.time + c];
          sum = once(static_cast<double>(sum) + static_cast<double>(once(static_cast<double>(code) * static_cast<double>(source.scale))));
        }
        if (call.mask)
          sum = once(static_cast<double>(sum) * static_cast<double>(call.mask[b * call.mask_batch + t * call.mask_time + c]));
        call.out[(call.rows ? row * call.out_time : b * call.out_batch + t * call.out_time) + c] = stored<T>(sum);
      }
}

/// Row by row of the sums: the tokens whose row it is, four batch rows at once where rows have no ids.
template <class T>
void add_gradient(const posenc::kernels::add_gradient_call<T>& call) {
  using S = compute<T>;
  for (index_t c = 0; c < call.channels; ++c) {
    const auto d = [&](index_t b, index_t t) { return loaded(call.d[b * call.d_batch + t * call.d_time + c]); };
    if (call.ids) {
      for (index_t token = 0; token < call.batch * call.time; ++token) {
        const index_t b = token / call.time, t = token % call.time;
        const std::int64_t id = call.ids[b * call.ids_batch + t];
        if (id == posenc::kernels::absent || id == call.still) continue;
        const S scaled = d(b, t) * call.scale;
        call.sums[id * call.row + c] += scaled;
      }
      continue;
    }
    for (index_t t = 0; t < call.time; ++t)
      for (index_t b = 0; b < call.batch;) {
        const bool four = call.batch - b >= 4;
        const S left = four ? d(b, t) + d(b + 1, t) : d(b, t), right = four ? d(b + 2, t) + d(b + 3, t) : S(0);
        const S sum = four ? left + right : left, scaled = sum * call.scale;
        call.sums[t * call.row + c] += scaled;
        b += four ? 4 : 1;
      }
  }
}

}  // namespace reference
