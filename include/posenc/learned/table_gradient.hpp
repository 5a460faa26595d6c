// SPDX-License-Identifier: MIT
/// \file  The gradient of tables whose rows tokens take in any order.
#pragma once

#include <posenc/config.hpp>
#include <posenc/executor.hpp>
#include <posenc/kernels/add_gradient.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <type_traits>

namespace POSENC_NAMESPACE::detail {

/// For each token of d `[batch, time, channel]`, sums `[row, channel]` += d * scale in row n of it.
template <class D>
kernels::add_gradient_call<kernel_scalar<D>> table_gradient(const token_view<D>& d, compute_t<D>* sums, compute_t<D> scale) {
  return {.d = kernel_pointer(static_cast<const std::remove_const_t<D>*>(d.data())),
          .sums = sums,
          .batch = d.extent(0),
          .time = d.extent(1),
          .channels = d.extent(2),
          .d_batch = d.stride(0),
          .d_time = d.stride(1),
          .row = d.extent(2),
          .scale = scale};
}

/// How long it takes.
template <class D>
double table_gradient_nanoseconds(const token_view<D>& d) {
  return nanoseconds_per_value<D> * static_cast<double>(d.extent(0) * d.extent(1)) * static_cast<double>(d.extent(2));
}

/// The same by the rows `ids(b)[t]` of each batch row b, those of row 0 for all where they are shared, and nothing for `no_position`.
/// Tokens come one after the other: threads share out the channels.
template <class D, class Ids>
void run_table_gradient(const kernels::add_gradient_call<D>& call, bool shared, const Ids& ids, double nanoseconds, const executor& run) {
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(*call.sums));
  const index_t lines = (call.channels + line - 1) / line, passes = shared ? 1 : call.batch;
  run.split(lines, run.parts(lines, nanoseconds), [&](index_t, index_t from, index_t to) {
    auto part = call;
    part.d += from * line, part.sums += from * line, part.channels = std::min(to * line, call.channels) - from * line;
    part.batch = call.batch / passes;
    for (index_t b = 0; b < passes; ++b, part.d += call.d_batch) {
      part.ids = ids(b);
      kernels::add_gradient(part);
    }
  });
}

}  // namespace POSENC_NAMESPACE::detail
