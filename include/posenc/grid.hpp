// SPDX-License-Identifier: MIT
/// \file  Positions of the cells of a grid: patches of a picture `[h, w]`, of a film `[t, h, w]`.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>  // checked_product

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// Which axis of the grid is axis 0 of the positions. Checkpoints do not tell: systems differ.
enum class grid_order {
  slowest_first,  ///< y, x and t, y, x: DINOv3, Pixtral, Qwen2-VL, Qwen-Image, CogVideoX, Wan; the sinusoids of DETR, timm and AIMv2
  fastest_first   ///< x, y and x, y, t: rope-vit, SAM 2, Gemma 4, timm's `xy`; the sinusoids of MAE and diffusers
};

/// Tokens in row-major order: the last extent is walked fastest, block by block where there are blocks. In front of them and behind them,
/// tokens without a position.
struct grid {
  std::vector<index_t> extents;   ///< slowest first, 1 to 8 of them: {h, w}, {t, h, w}
  required<grid_order> order;
  index_t prefix = 0;             ///< class token, registers
  index_t suffix = 0;             ///< Llama 4's vision tower has its class token last
  std::vector<index_t> start{};   ///< the number of the first cell along each extent; none: 0. A tile of a larger grid starts elsewhere
  std::vector<index_t> step{};  ///< from a cell to the next along each extent; none: 1. LeViT's queries, MViTv2's pooled keys are 2 apart
  std::vector<index_t> block{};  ///< along each extent, which it divides; none: 1. Qwen2-VL's vision tower walks blocks of {2, 2}
  std::optional<index_t> time{};  ///< where it is known, what all tokens must add up to
};

/// Where an axis of n cells starts so that 0 lies in the middle of it: -(n - n / 2), then up to n / 2 - 1 (Qwen-Image's height and width,
/// not its frames; there text starts at the largest n / 2).
constexpr index_t centred_start(index_t n) noexcept { return -(n - n / 2); }

namespace detail {

inline void require_grid(std::string_view who, const grid& cells) {
  const auto axes = static_cast<index_t>(cells.extents.size());
  require_axes(who, axes);
  for (const index_t extent : cells.extents) require(extent >= 0, who, "extents must not be negative", extent);
  require(cells.prefix >= 0 && cells.suffix >= 0, who, "prefix and suffix must not be negative", cells.prefix, cells.suffix);
  require(cells.start.empty() || cells.start.size() == cells.extents.size(), who, "there must be one start per extent", axes,
          cells.start.size());
  for (std::size_t n = 0; n < cells.start.size(); ++n)
    require(cells.start[n] >= -positions::limit && cells.start[n] <= positions::limit - cells.extents[n], who,
            "cells must be numbered within [-2^62, 2^62]", cells.start[n], cells.extents[n]);
  require(cells.step.empty() || cells.step.size() == cells.extents.size(), who, "there must be one step per extent", axes,
          cells.step.size());
  for (std::size_t n = 0; n < cells.step.size(); ++n) {
    const index_t start = cells.start.empty() ? 0 : cells.start[n];
    require(cells.step[n] >= 1, who, "steps must be positive", cells.step[n]);
    require(cells.extents[n] == 0 || cells.step[n] <= (positions::limit - start) / cells.extents[n], who,
            "cells must be numbered within [-2^62, 2^62]", start, cells.step[n], cells.extents[n]);
  }
  require(cells.block.empty() || cells.block.size() == cells.extents.size(), who, "there must be one block size per extent", axes,
          cells.block.size());
  for (std::size_t n = 0; n < cells.block.size(); ++n)
    require(cells.block[n] >= 1 && cells.extents[n] % cells.block[n] == 0, who, "blocks must divide the extents", cells.block[n],
            cells.extents[n]);
}

inline index_t cells_of(std::string_view who, const grid& cells) {
  if (std::ranges::find(cells.extents, index_t{0}) != cells.extents.end()) return 0;
  index_t count = 1;
  for (const index_t extent : cells.extents) count = checked_product(who, std::array{count, extent});
  return count;
}

/// The values of all tokens, `[axis, time]`. Of a cell on an axis: `value(extent's place in the list, number of the cell)`.
template <class T>
std::vector<T> values_of(std::string_view who, const grid& cells, T none, auto&& value) {
  require_grid(who, cells);
  const std::size_t axes = cells.extents.size();
  const index_t count = cells_of(who, cells), most = std::numeric_limits<index_t>::max() / max_axes / static_cast<index_t>(sizeof(T));
  require(count <= most && cells.prefix <= most - count && cells.suffix <= most - count - cells.prefix, who,
          "the size in bytes must fit in 63 bits", cells.prefix, count, cells.suffix);
  const index_t time = cells.prefix + count + cells.suffix;
  require(!cells.time || *cells.time == time, who, "prefix, cells and suffix must add up to time", cells.time.value_or(0), time);

  std::vector<T> values(axes * static_cast<std::size_t>(time), none);
  if (count == 0) return values;
  const auto block_of = [&](std::size_t n) { return cells.block.empty() ? 1 : cells.block[n]; };
  index_t inner = 1;  // tokens of a block
  for (std::size_t n = 0; n < axes; ++n) inner *= block_of(n);
  index_t blocks_run = count / inner, run = inner;  // how many blocks, and tokens of one, in a row stand at the same place on the axis
  for (std::size_t n = 0; n < axes; ++n) {
    const index_t block = block_of(n), blocks = cells.extents[n] / block, start = cells.start.empty() ? 0 : cells.start[n];
    const index_t step = cells.step.empty() ? 1 : cells.step[n];
    const std::size_t axis = cells.order == grid_order::slowest_first ? n : axes - 1 - n;
    T* const first = values.data() + static_cast<index_t>(axis) * time + cells.prefix;
    blocks_run /= blocks;
    run /= block;
    for (index_t token = 0; token < count; ++token)
      first[token] = value(n, start + step * (token / inner / blocks_run % blocks * block + token % inner / run % block));
  }
  return values;
}

}  // namespace detail

/// The numbers of the cells, 0, 1, ... from `start`.
/// \throws argument_error  for extents and starts that do not fit together, and where the tokens are not `time` in number.
inline positions grid_positions(const grid& cells) {
  const auto ids = detail::values_of<position>("grid", cells, no_position, [](std::size_t, index_t cell) { return position{cell}; });
  return positions::multi_axis(ids, static_cast<index_t>(cells.extents.size()));
}

}  // namespace POSENC_NAMESPACE
