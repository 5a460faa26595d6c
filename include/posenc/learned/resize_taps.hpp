// SPDX-License-Identifier: MIT
/// \file  Which rows of a position table, with what weights, make the rows of one of another length or grid.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>     // require
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// Where the rows of a longer text come from.
enum class length_rule {
  linear,                ///< between the two nearest, half-pixel centres: torch's `interpolate(mode="linear")`
  linear_align_corners,  ///< the same with the first and last rows kept as they are: `align_corners=True`
  tile,                  ///< the old rows again and again (Longformer, Beltagy et al. 2020)
  copy_last              ///< the last row again and again; fewer rows are cut off
};

/// A table of text positions. SAM and ViTDet resize their tables of relative distances so, too: `linear` to 2 max(q, k) - 1 rows.
struct resize_length_options {
  required<index_t> from;  ///< rows of the old table, without the prefix
  required<index_t> to;    ///< rows of the new one, without the prefix
  required<length_rule> rule;
  index_t prefix = 0;      ///< rows in front that are kept: 2 in RoBERTa's family, OPT and BART
};

enum class grid_filter {
  bilinear,  ///< Google's ViT, Qwen3-VL, SigLIP 2, RADIO
  bicubic    ///< Keys 1981: ViT, DeiT, MAE, DINOv2, timm
};

/// A table of picture patches, row by row: grids are {height, width}. Checkpoints do not tell how they want to be resized:
///
/// | system | filter | align_corners | antialias | |
/// | --- | --- | --- | --- | --- |
/// | ViT and DeiT in HF, MAE, DINOv2 in HF | bicubic | false | false | prefix 1 (distilled DeiT: 2) |
/// | DINO and DINOv2, Meta's code | bicubic | false | false | prefix 1, scale_offset 0.1 |
/// | DINOv2 with registers | bicubic | false | true | prefix 1: registers come after positions |
/// | timm's `resample_abs_pos_embed` | bicubic | false | true | |
/// | Google's ViT (`scipy.ndimage.zoom` of order 1) | bilinear | true | false | prefix 1 |
/// | Qwen3-VL | bilinear | true | false | |
/// | SigLIP 2 NaFlex | bilinear | false | true | |
/// | RADIO | bilinear | false | false | to {s, s} with s = max(h, w), crop {h, w} |
/// | BEiT's relative biases in HF | bilinear | false | false | suffix 3 |
struct resize_grid_options {
  std::array<index_t, 2> from{}, to{};
  required<grid_filter> filter;
  required<bool> align_corners;          ///< whether the centres of corner cells stay, or the outer edges of the grid
  required<bool> antialias;              ///< widen the filter by the factor of shrinking, as Pillow does; only without align_corners
  std::optional<double> cubic{};         ///< the bicubic filter's a; as in torch -0.5 with antialias, -0.75 without
  double scale_offset = 0;               ///< in [0, 1): as torch does given the factor (to + scale_offset) / from
  std::optional<std::array<index_t, 2>> crop{};  ///< keep this top left part of the new grid
  index_t prefix = 0, suffix = 0;        ///< rows in front and behind that are kept: class token, registers
};

/// An old row and its share in a new one.
struct tap {
  index_t row;
  double weight;
  friend bool operator==(const tap&, const tap&) = default;
};

namespace detail {
inline constexpr std::string_view resize_name = "resize";  // what users call

using axis_taps = std::vector<std::vector<tap>>;  ///< of each new cell of an axis

/// The filter at a distance of x cells: triangle, or the cubic convolution of Keys 1981.
inline double filter_at(grid_filter filter, double a, double x) noexcept {
  x = std::abs(x);
  if (filter == grid_filter::bilinear) return std::max(1 - x, 0.0);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0;
}

/// The taps of one axis, as torch places them. Cells beyond the edge count as the cell at the edge; with antialias they do not count.
inline axis_taps interpolation_taps(index_t from, index_t to, index_t kept, const resize_grid_options& options) {
  const double old_cells = static_cast<double>(from), new_cells = static_cast<double>(to) + options.scale_offset;
  const double a = options.cubic.value_or(options.antialias ? -0.5 : -0.75);
  const double stretch = options.antialias ? std::max(old_cells / new_cells, 1.0) : 1;
  const index_t reach = options.filter == grid_filter::bilinear ? 1 : 2;
  axis_taps all(static_cast<std::size_t>(kept));
  for (index_t cell = 0; cell < kept; ++cell) {
    std::vector<tap>& taps = all[static_cast<std::size_t>(cell)];
    const auto add = [&](index_t row, double weight) {
      if (!taps.empty() && taps.back().row == row) taps.back().weight += weight;
      else if (weight != 0) taps.push_back({row, weight});
    };
    const double n = static_cast<double>(cell);
    const double centre =
        options.align_corners ? (to > 1 ? n * (old_cells - 1) / (new_cells - 1) : 0) : (n + 0.5) * old_cells / new_cells - 0.5;
    if (options.antialias) {
      const double width = static_cast<double>(reach) * stretch;
      const index_t first = std::max(static_cast<index_t>(centre - width + 1), index_t{0});
      const index_t end = std::min(static_cast<index_t>(centre + width + 1), from);
      double sum = 0;
      for (index_t row = first; row < end; ++row) sum += filter_at(options.filter, a, (static_cast<double>(row) - centre) / stretch);
      for (index_t row = first; row < end; ++row)
        add(row, filter_at(options.filter, a, (static_cast<double>(row) - centre) / stretch) / sum);
    } else {
      const double below = std::floor(centre);
      for (index_t step = 1 - reach; step <= reach; ++step)
        add(std::clamp(static_cast<index_t>(below) + step, index_t{0}, from - 1),
            filter_at(options.filter, a, static_cast<double>(step) - (centre - below)));
    }
  }
  return all;
}
}  // namespace detail

/// Which old rows make each new row, and with what weights: a sparse matrix, made from either kind of options. Weights are double, none
/// is 0; those of a new row add up to 1 but for rounding. Where nothing changes size, each row is its own only tap, of weight 1.
class resize_taps {
 public:
  using layout = std::array<index_t, 4>;  ///< {prefix, height, width, suffix}; a text of n rows is n high and 1 wide

  /// \throws argument_error  unless both lengths are positive and the prefix is not negative.
  resize_taps(const resize_length_options& options) : from_{options.prefix, options.from, 1, 0}, to_{options.prefix, options.to, 1, 0} {
    require_layouts();
    const index_t from = options.from, to = options.to;
    detail::axis_taps rows(static_cast<std::size_t>(to));
    if (options.rule == length_rule::linear || options.rule == length_rule::linear_align_corners) {
      rows = detail::interpolation_taps(
          from, to, to,
          {.filter = grid_filter::bilinear, .align_corners = options.rule == length_rule::linear_align_corners, .antialias = false});
    } else {
      for (index_t row = 0; row < to; ++row)
        rows[static_cast<std::size_t>(row)] = {{options.rule == length_rule::tile ? row % from : std::min(row, from - 1), 1.0}};
    }
    combine(rows, {{{0, 1.0}}});
  }

  /// \throws argument_error  unless all extents are positive, prefix and suffix not negative, the crop lies in the new grid, scale_offset
  ///                         in [0, 1), cubic in [-1, 0] and with the bicubic filter; antialias and scale_offset without align_corners.
  resize_taps(const resize_grid_options& options)
      : from_{options.prefix, options.from[0], options.from[1], options.suffix},
        to_{options.prefix, options.to[0], options.to[1], options.suffix} {
    constexpr std::string_view who = detail::resize_name;
    require_layouts();
    require(options.scale_offset >= 0 && options.scale_offset < 1, who, "scale_offset must lie in [0, 1)", options.scale_offset);
    require(!options.align_corners || !options.antialias, who, "antialias goes with align_corners = false");
    require(!options.align_corners || options.scale_offset == 0, who, "scale_offset goes with align_corners = false", options.scale_offset);
    if (options.cubic) {
      require(options.filter == grid_filter::bicubic, who, "cubic goes with the bicubic filter", *options.cubic);
      require(*options.cubic >= -1 && *options.cubic <= 0, who, "cubic must lie in [-1, 0]", *options.cubic);
    }
    const auto kept = options.crop.value_or(options.to);
    require(kept[0] > 0 && kept[1] > 0 && kept[0] <= options.to[0] && kept[1] <= options.to[1], who,
            "the crop must be positive and lie in the new grid", kept, options.to);
    to_[1] = kept[0], to_[2] = kept[1];
    combine(detail::interpolation_taps(options.from[0], options.to[0], kept[0], options),
            detail::interpolation_taps(options.from[1], options.to[1], kept[1], options));
  }

  const layout& from() const noexcept { return from_; }
  const layout& to() const noexcept { return to_; }
  static constexpr index_t rows(const layout& of) noexcept { return of[0] + of[1] * of[2] + of[3]; }

  /// Of a new row, in the order of old rows.
  std::span<const tap> operator[](index_t row) const noexcept {
    const std::size_t begin = row > 0 ? ends_[static_cast<std::size_t>(row) - 1] : 0;
    return std::span(taps_).subspan(begin, ends_[static_cast<std::size_t>(row)] - begin);
  }

  /// The transpose: which new rows each old row has a share in.
  resize_taps transposed() const {
    resize_taps back(to_, from_);
    std::vector<std::vector<tap>> old_rows(static_cast<std::size_t>(rows(from_)));
    for (index_t row = 0; row < rows(to_); ++row)
      for (const tap& one : (*this)[row]) old_rows[static_cast<std::size_t>(one.row)].push_back({row, one.weight});
    for (const auto& taps : old_rows) back.append(taps);
    return back;
  }
  friend bool operator==(const resize_taps&, const resize_taps&) = default;

 private:
  resize_taps(const layout& from, const layout& to) : from_(from), to_(to) {}

  void require_layouts() const {
    constexpr std::string_view who = detail::resize_name;
    require(from_[0] >= 0 && from_[3] >= 0, who, "prefix and suffix must not be negative", from_[0], from_[3]);
    const std::array old_grid{from_[1], from_[2]}, new_grid{to_[1], to_[2]};
    require(from_[1] > 0 && from_[2] > 0 && to_[1] > 0 && to_[2] > 0, who, "extents must be positive", old_grid, new_grid);
    for (const layout& of : {from_, to_}) {
      const index_t most = std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(tap));
      const index_t cells = checked_product(who, std::array{of[1], of[2]}, sizeof(tap));
      require(of[0] <= most - cells && of[3] <= most - cells - of[0], who, "the size in bytes must fit in 63 bits", of);
    }
  }
  /// All rows of a grid from the taps of its axes.
  void combine(const detail::axis_taps& down, const detail::axis_taps& across) {
    for (index_t row = 0; row < to_[0]; ++row) append(std::array{tap{row, 1.0}});
    std::vector<tap> taps;
    for (const auto& y : down)
      for (const auto& x : across) {
        taps.clear();
        for (const tap& v : y)
          for (const tap& h : x) taps.push_back({from_[0] + v.row * from_[2] + h.row, v.weight * h.weight});
        append(taps);
      }
    for (index_t row = rows(from_) - from_[3]; row < rows(from_); ++row) append(std::array{tap{row, 1.0}});
  }
  void append(std::span<const tap> taps) {
    taps_.insert(taps_.end(), taps.begin(), taps.end());
    ends_.push_back(taps_.size());
  }

  layout from_, to_;
  std::vector<tap> taps_;  // row after row
  std::vector<std::size_t> ends_;  // of each row's taps
};

}  // namespace POSENC_NAMESPACE
