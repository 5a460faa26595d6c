// SPDX-License-Identifier: MIT
/// \file  Positions of the cells of padded pictures, counted in a mask of real pixels: DETR (Carion et al. 2020) and its kin.
#pragma once

#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/double_double.hpp>  // two_pi
#include <posenc/error.hpp>          // require
#include <posenc/grid.hpp>           // grid_order
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <ranges>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// The extents of a mask, `[batch, height, width]`.
using mask_extents = std::array<index_t, 3>;

/// How counts become coordinates: (count + offset) / (last + epsilon) * scale, where last is the count at the end of the cell's column, or
/// of its row. The defaults are those of DETR's `normalize=True`.
struct mask_normalization {
  required<grid_order> order;       ///< which axis of the grid is axis 0 of the coordinates
  double scale = two_pi.high;
  double epsilon = 1e-6;            ///< positive: a column may have no real pixel
  double offset = 0;                ///< -0.5 in Deformable DETR, which takes the middles of the pixels
};

namespace detail {

/// Of each cell: how many real ones stand above it in its column and before it in its row, itself included.
struct mask_counts {
  std::vector<position> down, along;
};

inline mask_counts count_real(std::string_view who, const std::ranges::sized_range auto& mask, const mask_extents& extents) {
  const auto [batch, height, width] = extents;
  const index_t cells = checked_product(who, extents, 2 * sizeof(position));
  require(batch > 0, who, "batch must be positive", batch);
  require(static_cast<index_t>(std::ranges::size(mask)) == cells, who, "the extents must multiply to the size of the mask", extents,
          std::ranges::size(mask));
  mask_counts counts;
  counts.down.reserve(static_cast<std::size_t>(cells)), counts.along.reserve(static_cast<std::size_t>(cells));
  const std::size_t row = static_cast<std::size_t>(width), picture = static_cast<std::size_t>(height) * row;
  for (const auto real : mask) {
    const std::size_t n = counts.down.size(), one = real ? 1 : 0;
    counts.down.push_back((n % picture < row ? 0 : counts.down[n - row]) + static_cast<position>(one));
    counts.along.push_back((n % row == 0 ? 0 : counts.along[n - 1]) + static_cast<position>(one));
  }
  return counts;
}

/// The values of `[axis, batch, time]` in the order that is asked for.
template <class T>
std::vector<T> axes_joined(std::vector<T> down, std::vector<T> along, grid_order order) {
  if (order == grid_order::fastest_first) std::swap(down, along);
  down.insert(down.end(), along.begin(), along.end());
  return down;
}

template <class T>
concept integer_mask = stored_tensor<T> && std::integral<std::remove_const_t<element_t<T>>> && rank_of<T> == 3;

}  // namespace detail

/// Positions `[batch, height * width]` of the cells, row after row, on two axes: y is the number of real cells in the column down to this
/// one, x in the row up to this one. The first real cell is at 1. Padding has a position too, that of the last real cell before it, or 0.
///
///     detr.add(features, posenc::masked_grid(mask, posenc::grid_order::slowest_first));  // [y | x]
///
/// \param mask  `[batch, height, width]`, row after row: non-zero where a cell is real. DETR's own masks say the opposite.
/// \throws argument_error  unless batch is positive and the extents multiply to the size of the mask.
inline positions masked_grid(const std::ranges::sized_range auto& mask, const mask_extents& extents, grid_order order) {
  auto counts = detail::count_real("masked grid", mask, extents);
  return positions::multi_axis(detail::axes_joined(std::move(counts.down), std::move(counts.along), order), 2, extents[0]);
}
/// The same from a tensor of integers, `[batch, height, width]`.
template <detail::integer_mask T>
positions masked_grid(const T& mask, grid_order order) {
  const auto view = view_of(mask);
  if (view.extent(0) > 0) return masked_grid(detail::flat(view), view.extents(), order);
  const index_t time = checked_product("masked grid", std::array{view.extent(1), view.extent(2)}, 2 * sizeof(position));
  return positions::multi_axis(std::vector<position>(static_cast<std::size_t>(2 * time)), 2);  // no row will ask
}

/// The same as coordinates between 0 and `scale`: pictures of any size then cover the same angles (DETR, Deformable DETR, DINO,
/// Mask2Former).
/// Where a column or a row has no real cell, its cells stand at offset / epsilon * scale.
/// \throws argument_error  as `masked_grid` does, and unless the numbers are finite and epsilon positive.
inline coordinates normalized_mask(const std::ranges::sized_range auto& mask, const mask_extents& extents, const mask_normalization& rule) {
  constexpr std::string_view who = "normalized mask";
  require(std::isfinite(rule.scale), who, "scale must be finite", rule.scale);
  require(std::isfinite(rule.epsilon) && rule.epsilon > 0, who, "epsilon must be positive and finite", rule.epsilon);
  require(std::isfinite(rule.offset), who, "offset must be finite", rule.offset);
  const auto counts = detail::count_real(who, mask, extents);
  const std::size_t row = static_cast<std::size_t>(extents[2]), picture = static_cast<std::size_t>(extents[1]) * row;
  const auto normalized = [&](const std::vector<position>& all, auto&& last_of) {
    std::vector<double> values(all.size());
    for (std::size_t n = 0; n < all.size(); ++n)
      values[n] = (static_cast<double>(all[n]) + rule.offset) / (static_cast<double>(all[last_of(n)]) + rule.epsilon) * rule.scale;
    return values;
  };
  return coordinates::values(
      detail::axes_joined(normalized(counts.down, [&](std::size_t n) { return n - n % picture + picture - row + n % row; }),
                          normalized(counts.along, [&](std::size_t n) { return n - n % row + row - 1; }), rule.order),
      2, extents[0]);
}
/// The same from a tensor of integers, `[batch, height, width]`.
template <detail::integer_mask T>
coordinates normalized_mask(const T& mask, const mask_normalization& rule) {
  const auto view = view_of(mask);
  if (view.extent(0) > 0) return normalized_mask(detail::flat(view), view.extents(), rule);
  return coordinates::of(masked_grid(mask, rule.order));  // no row will ask
}

}  // namespace POSENC_NAMESPACE
