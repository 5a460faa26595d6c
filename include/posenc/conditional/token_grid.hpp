// SPDX-License-Identifier: MIT
/// \file  Which tokens of a sequence are neighbours: the grids that their positions say they stand on.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>     // index_t

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// A box of up to three axes, slowest first, whose cells are tokens of one batch row: cell (i, j, k) is the token first + i * strides[0] +
/// j * strides[1] + k * strides[2], where it is real.
struct token_grid {
  index_t first = 0;                         ///< token
  std::array<index_t, 3> extents{1, 1, 1};   ///< axes that are not there come first, with one cell
  std::array<index_t, 3> strides{0, 0, 0};   ///< in tokens
  position start = 0;                        ///< of cell 0, on the last axis
  std::vector<std::uint8_t> mask{};          ///< of the cells, 0 where one is not real; empty: all are

  index_t cells() const noexcept { return extents[0] * extents[1] * extents[2]; }
};

/// Cells of a grid that is masked where `is_real(token)` does not hold.
inline void mask_cells(token_grid& cells, auto&& is_real) {
  std::vector<std::uint8_t> mask;
  mask.reserve(static_cast<std::size_t>(cells.cells()));
  for (index_t i = 0; i < cells.extents[0]; ++i)
    for (index_t j = 0; j < cells.extents[1]; ++j)
      for (index_t k = 0; k < cells.extents[2]; ++k)
        mask.push_back(is_real(cells.first + i * cells.strides[0] + j * cells.strides[1] + k * cells.strides[2]) ? 1 : 0);
  if (std::ranges::find(mask, 0) != mask.end()) cells.mask = std::move(mask);
}

/// Calls act(first token, one behind the last, position of the first) for each run of tokens, in their order: tokens whose positions are as
/// far apart as they are. Tokens without a position neither begin nor end a run.
/// \param next  the position that token 0 has, if it goes on where the sequence was cut; that run begins with token 0. `no_position`: none.
inline void for_each_run(const positions& at, index_t b, position next, auto&& act) {
  const position_row ids = at.row(b);
  const index_t time = at.time();
  if (!ids.ids && time > 0) return act(index_t{0}, time, ids.first);
  index_t first = -1, end = 0;
  position start = no_position;
  for (index_t t = 0; t < time; ++t) {
    if (ids[t] == no_position) continue;
    const bool goes_on = first >= 0 ? ids[t] == start + (t - first) : next != no_position && ids[t] == next + t;
    if (!goes_on && first >= 0) act(first, end, start);
    if (first < 0 && goes_on) first = 0, start = next;
    else if (!goes_on) first = t, start = ids[t];
    end = t + 1;
  }
  if (first >= 0) act(first, end, start);
}

/// The runs of row b as grids of one axis.
inline std::vector<token_grid> token_runs(const positions& at, index_t b, position next = no_position) {
  std::vector<token_grid> all;
  for_each_run(at, b, next, [&](index_t first, index_t end, position start) {
    token_grid run{.first = first, .extents = {1, 1, end - first}, .strides = {0, 0, 1}, .start = start};
    mask_cells(run, [&](index_t t) { return at(b, t) != no_position; });
    all.push_back(std::move(run));
  });
  return all;
}

/// The box on which the tokens of row b stand in row-major order, axis 0 slowest; none if no token has a position. Its rows may be further
/// apart than it is wide: what lies between has no position.
/// \throws argument_error  unless there is such a box.
inline std::vector<token_grid> token_box(std::string_view who, const positions& at, index_t b) {
  constexpr std::string_view rule = "tokens must stand in row-major order of a grid, with token and position on axis";
  const index_t axes = at.axes(), time = at.time();
  const auto number = [](index_t n) { return static_cast<std::size_t>(n); };
  std::array<position_row, 3> ids{};
  for (index_t axis = 0; axis < axes; ++axis) ids[number(axis)] = at.row(b, axis);
  std::array<position, 3> low{}, high{};
  index_t before = -1, count = 0;  // the last token that has a position, and their number
  for (index_t t = 0; t < time; ++t) {
    if (ids[0][t] == no_position) continue;
    for (index_t axis = 0; axis < axes; ++axis) {
      const position id = ids[number(axis)][t];
      low[number(axis)] = before < 0 ? id : std::min(low[number(axis)], id);
      high[number(axis)] = before < 0 ? id : std::max(high[number(axis)], id);
      require(
          static_cast<std::uint64_t>(high[number(axis)]) - static_cast<std::uint64_t>(low[number(axis)]) < static_cast<std::uint64_t>(time),
          who, rule, t, id, axis);
    }
    before = t, ++count;
  }
  if (before < 0) return {};

  token_grid box;
  const index_t unused = 3 - axes;
  index_t inner = 1;  // tokens from a cell to the next
  for (index_t axis = axes - 1; axis >= 0; --axis) {
    // Two tokens that differ on this axis, but on no slower one, tell how far its cells are apart.
    index_t last = -1, found = inner;
    for (index_t t = 0; t < time && axis < axes - 1; ++t) {
      if (ids[0][t] == no_position) continue;
      bool tells = last >= 0 && ids[number(axis)][t] > ids[number(axis)][last];
      for (index_t slower = 0; slower < axis; ++slower) tells = tells && ids[number(slower)][t] == ids[number(slower)][last];
      if (tells) {
        index_t apart = t - last;
        for (index_t faster = axis + 1; faster < axes; ++faster)
          apart -= (ids[number(faster)][t] - ids[number(faster)][last]) * box.strides[number(faster + unused)];
        found = apart / (ids[number(axis)][t] - ids[number(axis)][last]);
        break;
      }
      last = t;
    }
    const index_t extent = high[number(axis)] - low[number(axis)] + 1;
    box.extents[number(axis + unused)] = extent;
    box.strides[number(axis + unused)] = std::max(found, inner);
    inner = extent * box.strides[number(axis + unused)];
    require(extent == 1 || inner / extent < 8 * time, who, rule, before, high[number(axis)], axis);  // so that no product overflows
  }
  bool seen = false;
  for (index_t t = 0; t < time; ++t) {
    if (ids[0][t] == no_position) continue;
    index_t place = 0;
    for (index_t axis = 0; axis < axes; ++axis) place += (ids[number(axis)][t] - low[number(axis)]) * box.strides[number(axis + unused)];
    if (!seen) box.first = t - place;
    seen = true;
    require(t - place == box.first, who, rule, t, ids[0][t], 0);
  }
  if (count == box.cells()) return {std::move(box)};
  const auto is_real = [&](index_t t) { return t >= 0 && t < time && ids[0][t] != no_position; };
  mask_cells(box, is_real);
  return {std::move(box)};
}

}  // namespace POSENC_NAMESPACE::detail
