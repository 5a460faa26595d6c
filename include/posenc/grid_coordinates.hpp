// SPDX-License-Identifier: MIT
/// \file  Coordinates of the cells of a grid, by the rules of different systems.
///
/// i is the number of a cell along an extent of n cells. Ranges and references are listed as the extents are, slowest first.
#pragma once

#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/grid.hpp>
#include <posenc/tensor.hpp>  // index_t

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// By which length the places in a grid are divided: each by its own extent, or all by one, which keeps cells square.
enum class normalize_by { separate, longest, shortest };

/// A stretch of an axis.
struct axis_range {
  double from, to;
};

namespace detail {

inline coordinates grid_coordinates(std::string_view who, const grid& cells, auto&& value) {
  return coordinates::values(values_of<double>(who, cells, no_coordinate, value), static_cast<index_t>(cells.extents.size()));
}

inline void require_ranges(std::string_view who, const grid& cells, const std::vector<axis_range>& ranges) {
  require(ranges.size() == cells.extents.size(), who, "there must be one range per extent", cells.extents.size(), ranges.size());
  for (const auto& [from, to] : ranges) require(std::isfinite(from) && std::isfinite(to), who, "ranges must be finite", from, to);
}

/// The i-th of n evenly spaced numbers, as PyTorch rounds them: from the nearer end. One alone is `from`.
inline double evenly_spaced(axis_range over, index_t i, index_t n) noexcept {
  if (n == 1) return over.from;
  const double step = (over.to - over.from) / static_cast<double>(n - 1);
  return i < n / 2 ? over.from + step * static_cast<double>(i) : over.to - step * static_cast<double>(n - 1 - i);
}

}  // namespace detail

/// The centres of the cells in [-1, 1]: 2 (i + 1/2) / length - 1, where length is n, or the longest or the shortest extent (DINOv3).
/// \throws argument_error  as `grid_positions` does.
inline coordinates normalized_grid(const grid& cells, normalize_by by) {
  detail::require_grid("normalized grid", cells);
  const auto [shortest, longest] = std::ranges::minmax(cells.extents);
  return detail::grid_coordinates("normalized grid", cells, [&, shortest = shortest, longest = longest](std::size_t n, index_t i) {
    const index_t length = by == normalize_by::separate ? cells.extents[n] : by == normalize_by::longest ? longest : shortest;
    return 2 * ((static_cast<double>(i) + 0.5) / static_cast<double>(length)) - 1;
  });
}

/// n evenly spaced numbers from `from` to `to`, both among them: from -1 to 1 for pixels (rotary-embedding-torch, timm's `in_pixels`).
/// \throws argument_error  as `grid_positions` does, and unless there is one finite range per extent.
inline coordinates spaced_grid(const grid& cells, const std::vector<axis_range>& over) {
  detail::require_ranges("spaced grid", cells, over);
  return detail::grid_coordinates("spaced grid", cells,
                                  [&](std::size_t n, index_t i) { return detail::evenly_spaced(over[n], i, cells.extents[n]); });
}

/// n evenly spaced numbers from `from` to `to` (n - 1) / n: where a crop of the trained grid lies in it (CogVideoX; frames: {0, n}).
/// \throws argument_error  as `grid_positions` does, and unless there is one finite range per extent.
inline coordinates cropped_grid(const grid& cells, const std::vector<axis_range>& crop) {
  detail::require_ranges("cropped grid", cells, crop);
  return detail::grid_coordinates("cropped grid", cells, [&](std::size_t n, index_t i) {
    const auto extent = static_cast<double>(cells.extents[n]);
    return detail::evenly_spaced({crop[n].from, crop[n].to * (extent - 1) / extent}, i, cells.extents[n]);
  });
}

/// (i + offset) / n * reference: a grid of another size laid over the one that was trained (EVA, timm's `ref_feat_shape` and
/// `grid_offset`).
/// \throws argument_error  as `grid_positions` does, and unless there is one finite reference per extent.
inline coordinates resized_grid(const grid& cells, const std::vector<double>& reference, double offset = 0) {
  constexpr std::string_view who = "resized grid";
  require(reference.size() == cells.extents.size(), who, "there must be one reference per extent", cells.extents.size(), reference.size());
  for (const double one : reference) require(std::isfinite(one), who, "references must be finite", one);
  require(std::isfinite(offset), who, "the offset must be finite", offset);
  return detail::grid_coordinates(who, cells, [&](std::size_t n, index_t i) {
    return (static_cast<double>(i) + offset) / static_cast<double>(cells.extents[n]) * reference[n];
  });
}

}  // namespace POSENC_NAMESPACE
