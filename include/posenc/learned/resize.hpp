// SPDX-License-Identifier: MIT
/// \file  Position tables of another length or grid than they were trained with, and the exact gradient of it.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>                // require
#include <posenc/learned/resize_taps.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <bit>
#include <cmath>  // abs
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

namespace detail {
/// The nearest T, the even one of two. A 16-bit number is rounded by way of float, to odd, so that only the second step can round a tie.
template <storage_scalar T>
T nearest(double x) noexcept {
  if constexpr (sizeof(T) > 2) {
    return static_cast<T>(x);
  } else {
    const float near = static_cast<float>(x);
    const double error = x - static_cast<double>(near);
    auto bits = std::bit_cast<std::uint32_t>(near);
    if ((error < 0 || error > 0) && bits % 2 == 0) bits += std::abs(x) > std::abs(static_cast<double>(near)) ? 1u : ~0u;
    return static_cast<T>(std::bit_cast<float>(bits));
  }
}

/// output = taps * input, or that added to it.
template <bool add, class X, class Y>
void apply_taps(std::string_view who, const tensor_view<X, 2>& input, const resize_taps& taps, const tensor_view<Y, 2>& output) {
  constexpr std::string_view rule = "rows must be prefix + height * width + suffix";
  require(input.extent(0) == resize_taps::rows(taps.from()), who, rule, input.extent(0), taps.from());
  require(output.extent(0) == resize_taps::rows(taps.to()), who, rule, output.extent(0), taps.to());
  require(input.extent(1) == output.extent(1), who, "both tables must have the same channels", input.extent(1), output.extent(1));
  require_rows(who, input);
  require_output(who, output);
  if (output.empty()) return;
  require(static_cast<const void*>(input.data()) != static_cast<const void*>(output.data()) && !overlaps_partly(input, output), who,
          "the two tables must not overlap");

  std::vector<double> sums(static_cast<std::size_t>(output.extent(1)));
  for (index_t row = 0; row < output.extent(0); ++row) {
    std::ranges::fill(sums, 0.0);
    for (const tap& one : taps[row]) {
      const X* const values = &input(one.row, 0);
      for (std::size_t c = 0; c < sums.size(); ++c) sums[c] += one.weight * static_cast<double>(values[c]);
    }
    Y* const results = &output(row, 0);
    for (std::size_t c = 0; c < sums.size(); ++c) results[c] = nearest<Y>(add ? static_cast<double>(results[c]) + sums[c] : sums[c]);
  }
}
}  // namespace detail

/// Writes the table `[rows, channels]` resized. Each value is a sum in double, rounded once, and independent of the other channels: a float
/// one is off by half a unit in its last place and some 2^-50 of the largest value it is made of, which leaves the last bit of a double to
/// the compiler's contraction. Meant for loading, and cheap enough for each new picture size (a table of 37 x 37 patches and 1024 channels
/// to another of its size, bicubic: 4 ms); one thread. Allocates the taps, where it is given options, and one row in double.
///
///     resize(old_table, resize_grid_options{.from = {14, 14}, .to = {16, 16}, .filter = grid_filter::bicubic, .align_corners = false,
///                                           .antialias = false, .prefix = 1}, new_table);
///
/// \param taps     or options of either kind, from which they are made. Checkpoints have `[1, rows, channels]`: leave the first axis out.
/// \param resized  `[new rows, channels]`, of any scalar; may not share memory with the table.
/// \throws argument_error  for options that do not fit together, and for tables that do not fit them or each other.
template <readable_tensor T, writable_tensor Y>
  requires(rank_of<T> == 2 && rank_of<Y> == 2)
void resize(const T& table, const resize_taps& taps, Y&& resized) {
  detail::apply_taps<false>(detail::resize_name, view_of(table), taps, view_of(resized));
}

/// Adds the gradient of the old table, given that of the new one: the exact transpose. Allocates the taps a second time, and one row.
template <readable_tensor T, writable_tensor Y>
  requires(rank_of<T> == 2 && rank_of<Y> == 2)
void resize_backward(const T& d_resized, const resize_taps& taps, Y&& d_table) {
  detail::apply_taps<true>("resize_backward", view_of(d_resized), taps.transposed(), view_of(d_table));
}

}  // namespace POSENC_NAMESPACE
