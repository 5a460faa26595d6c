// SPDX-License-Identifier: MIT
/// \file  The grids that a PEG convolves: those that positions say, or a grid and a mask of its cells.
#pragma once

#include <posenc/conditional/depthwise.hpp>
#include <posenc/conditional/peg_options.hpp>
#include <posenc/conditional/token_grid.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/grid.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// Which cells of a grid are real, `[batch, time]` or `[batch, cells]`: not 0 where they are.
template <class M>
concept cell_mask = stored_tensor<M> && std::integral<std::remove_const_t<element_t<M>>> && rank_of<M> == 2;

namespace detail {

inline constexpr std::string_view peg_name = "peg";

/// The grids of each row of a batch; or one list, which all rows share.
using row_grids = std::vector<std::vector<token_grid>>;

inline depthwise_filter filter_of(const peg_options& options) {
  depthwise_filter made{.circular = options.padding == peg_padding::circular};
  const std::vector<index_t>& kernel = options.kernel;
  const std::size_t unused = 3 - kernel.size();
  for (std::size_t axis = 0; axis < kernel.size(); ++axis) {
    made.kernel[unused + axis] = kernel[axis];
    made.before[unused + axis] = options.padding == peg_padding::causal ? kernel[axis] - 1 : kernel[axis] / 2;
    if (!options.stride.empty()) made.step[unused + axis] = options.stride[axis];
  }
  return made;
}
inline index_t axes_of(const peg_options& options) { return static_cast<index_t>(options.kernel.size()); }

inline void require_whole(const peg_options& options, const token_grid& cells) {
  require(options.padding != peg_padding::circular || cells.mask.empty(), peg_name, "a circular grid must have a token on every cell",
          cells.extents);
}
/// \param next  where a run may begin besides 0
inline void require_begins(const token_grid& run, position next) {
  require(run.start == 0 || run.start == next, peg_name, "a causal run must begin at position 0, or where the state of a stream ends",
          run.start, next);
}

/// \throws argument_error  for positions of other axes or batch, and where `token_box`, `require_begins` or `require_whole` do.
inline row_grids grids_of(const peg_options& options, const positions& at, index_t batch) {
  const index_t axes = axes_of(options);
  require(at.axes() == axes, peg_name, "the positions must have as many axes as the encoder", axes, at.axes());
  require(at.batch() == 0 || at.batch() == batch, peg_name, "batch must match the positions", batch, at.batch());
  row_grids rows;
  for (index_t b = 0; b < (at.batch() == 0 ? std::min<index_t>(batch, 1) : batch); ++b) {
    rows.push_back(axes == 1 ? token_runs(at, b) : token_box(peg_name, at, b));
    for (const auto& one : rows.back()) {
      if (options.padding == peg_padding::causal) require_begins(one, 0);
      require_whole(options, one);
    }
  }
  return rows;
}

/// A mask as it was given, if it was.
struct given_mask {
  std::array<index_t, 2> extents{};
  std::vector<std::uint8_t> values{};
  bool given = false;
};
template <cell_mask M>
given_mask given_mask_of(const M& mask) {
  const auto view = view_of(mask);
  given_mask made{.extents = view.extents(), .given = true};
  for (const auto value : flat(view)) made.values.push_back(value ? 1 : 0);
  return made;
}

/// \throws argument_error  for a grid in blocks or of other axes, one that does not fill time, a mask of another shape, a circular grid
/// that is masked or whose extents the stride does not divide.
inline row_grids grids_of(const peg_options& options, const grid& cells, const given_mask& mask, index_t batch, index_t time) {
  require_grid(peg_name, cells);
  const index_t axes = axes_of(options);
  require(static_cast<index_t>(cells.extents.size()) == axes, peg_name, "the grid must have as many axes as the encoder", axes,
          cells.extents.size());
  for (const index_t block : cells.block) require(block == 1, peg_name, "the cells must not stand in blocks", block);
  const index_t count = cells_of(peg_name, cells), ends = cells.prefix + cells.suffix;
  require(time - ends == count, peg_name, "prefix, cells and suffix must add up to time", time, ends + count);
  if (mask.given)
    require(mask.extents[0] == batch && (mask.extents[1] == time || mask.extents[1] == count), peg_name,
            "the mask must be [batch, time] or [batch, cells]", mask.extents, batch, time, count);
  const depthwise_filter filter = filter_of(options);
  row_grids rows;
  for (index_t b = 0; b < (mask.given ? batch : std::min<index_t>(batch, 1)); ++b) {
    rows.emplace_back();
    if (count == 0) continue;
    token_grid one{.first = cells.prefix};
    const std::size_t unused = 3 - cells.extents.size();
    std::ranges::copy(cells.extents, one.extents.begin() + static_cast<std::ptrdiff_t>(unused));
    one.strides = {one.extents[1] * one.extents[2], one.extents[2], 1};
    if (mask.given) {
      const index_t first = b * mask.extents[1] + (mask.extents[1] == time ? 0 : -cells.prefix);
      mask_cells(one, [&](index_t t) { return mask.values[static_cast<std::size_t>(first + t)] != 0; });
    }
    require_whole(options, one);
    if (options.padding == peg_padding::circular)
      for (std::size_t axis = 0; axis < 3; ++axis)
        require(one.extents[axis] % filter.step[axis] == 0, peg_name, "the stride must divide the extents of a circular grid",
                one.extents[axis], filter.step[axis]);
    rows.back().push_back(std::move(one));
  }
  return rows;
}

/// Where the outputs stand, with a stride.
inline row_grids outputs_of(const row_grids& rows, const depthwise_filter& filter) {
  row_grids made = rows;
  for (auto& row : made)
    for (auto& one : row) {
      for (std::size_t axis = 0; axis < 3; ++axis) one.extents[axis] = (one.extents[axis] - 1) / filter.step[axis] + 1;
      one.strides = {one.extents[1] * one.extents[2], one.extents[2], 1};
      one.mask.clear();
    }
  return made;
}

/// What is to be convolved: the grids of all rows, which must outlive it.
inline std::vector<depthwise_item> items_of(const row_grids& in, const row_grids& out, index_t batch) {
  std::vector<depthwise_item> items;
  for (index_t b = 0; b < batch; ++b) {
    const std::size_t row = in.size() == 1 ? 0 : static_cast<std::size_t>(b);
    for (std::size_t n = 0; n < in[row].size(); ++n) items.push_back({b, &in[row][n], &out[row][n]});
  }
  return items;
}

}  // namespace detail
}  // namespace POSENC_NAMESPACE
