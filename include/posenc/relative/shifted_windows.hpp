// SPDX-License-Identifier: MIT
/// \file  Pictures and films cut into windows, shifted or not: which token goes where, and which tokens of a window belong together. Liu et
/// al. 2021, "Swin Transformer"; Liu et al. 2022, "Video Swin Transformer".
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/grid.hpp>
#include <posenc/positions.hpp>
#include <posenc/relative/window_bias_table.hpp>  // window_extents
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

struct shifted_windows_options {
  window_extents extents;  ///< of the picture, slowest axis first: {height, width}, {frames, height, width}
  window_extents window;
  window_extents shift{};  ///< along each axis, less than the window: half of it in every second block of Swin; none: 0
};

/// Tokens `[batch, height, width]` as windows `[batch * windows, cells]`, both row by row. The picture is padded behind to whole windows,
/// then rolled back by the shift, as in Swin: the token at y stands in row (y - shift) mod padded height. Swin does not shift an axis that
/// has one window only: give it shift 0 then.
///
/// The lists of rows are what the library's verbs take as destinations (`no_row`: nothing is written), and what gathers and scatters of
/// other libraries take as indices.
class shifted_windows {
 public:
  /// \throws argument_error  unless there are 1 to 8 axes, one extent of the window and one shift (or none at all) for each, extents
  ///                         positive and shifts in [0, window); for more than 2^63 - 1 padded tokens.
  explicit shifted_windows(const shifted_windows_options& options)
      : extents_(options.extents), window_(options.window), shift_(options.shift) {
    constexpr std::string_view who = "shifted_windows";
    detail::require_axes(who, axes());
    require(window_.size() == extents_.size(), who, "the window must have the axes of the picture", axes(), window_.size());
    if (shift_.empty()) shift_.resize(extents_.size());
    require(shift_.size() == extents_.size(), who, "there must be one shift per axis", axes(), shift_.size());
    for (std::size_t axis = 0; axis < extents_.size(); ++axis) {
      const index_t extent = extents_[axis], window = window_[axis];
      require(extent > 0 && window > 0, who, "extents must be positive", extent, window);
      require(shift_[axis] >= 0 && shift_[axis] < window, who, "a shift must lie in [0, window)", window, shift_[axis]);
      windows_.push_back((extent - 1) / window + 1);
      cells_ = checked_product(who, std::array{cells_, window});
      count_ = checked_product(who, std::array{count_, windows_.back()});
      checked_product(who, std::array{cells_, count_});
      tokens_ *= extent;  // not more than the padded ones
    }
  }

  index_t axes() const noexcept { return static_cast<index_t>(extents_.size()); }
  const window_extents& extents() const noexcept { return extents_; }
  const window_extents& window() const noexcept { return window_; }
  const window_extents& shift() const noexcept { return shift_; }
  const window_extents& windows() const noexcept { return windows_; }  ///< along each axis
  index_t count() const noexcept { return count_; }  ///< windows of a picture
  index_t cells() const noexcept { return cells_; }  ///< of a window, padding included
  index_t tokens() const noexcept { return tokens_; }  ///< of a picture
  bool padded() const noexcept { return tokens_ != cells_ * count_; }

  /// The row of `[batch * windows, cells]` that each token of `[batch, tokens]` goes to. Rows of padding are not among them: fill them with
  /// zeros, as Swin does.
  std::vector<index_t> to_windows(index_t batch) const {
    std::vector<index_t> rows(static_cast<std::size_t>(checked_product("shifted_windows", std::array{batch, tokens_}, sizeof(index_t))));
    const auto back = from_windows(batch);
    for (std::size_t row = 0; row < back.size(); ++row)
      if (back[row] != no_row) rows[static_cast<std::size_t>(back[row])] = static_cast<index_t>(row);
    return rows;
  }

  /// The way back: the row of `[batch, tokens]` that each cell of `[batch * windows, cells]` goes to; `no_row` for padding.
  std::vector<index_t> from_windows(index_t batch) const {
    std::vector<index_t> rows;
    rows.reserve(static_cast<std::size_t>(checked_product("shifted_windows", std::array{batch, count_, cells_}, sizeof(index_t))));
    for (index_t b = 0; b < batch; ++b)
      for (index_t window = 0; window < count_; ++window)
        for (index_t cell = 0; cell < cells_; ++cell) {
          const index_t token = token_of(window, cell);
          rows.push_back(token == no_row ? no_row : b * tokens_ + token);
        }
    return rows;
  }

  /// Where the cells stand in their windows, as window biases and masks want it: `[axis, cells]` for all windows; with padding, which has
  /// no position, `[axis, batch * windows, cells]`. Systems that pad without a mask (Hugging Face's Swin) let padding take part as a cell:
  /// give them `grid_positions` of the window.
  positions cell_positions(index_t batch) const {
    const auto shared = grid_positions({.extents = window_, .order = grid_order::slowest_first});
    if (!padded() || batch == 0) return shared;
    const auto rows = from_windows(batch);
    std::vector<position> ids;
    ids.reserve(rows.size() * extents_.size());
    for (index_t axis = 0; axis < axes(); ++axis)
      for (std::size_t row = 0; row < rows.size(); ++row)
        ids.push_back(rows[row] == no_row ? no_position : shared(0, static_cast<index_t>(row) % cells_, axis));
    return positions::multi_axis(ids, axes(), batch * count_);
  }

  /// The axes on which a window is the last one and holds cells from both ends of the picture, as bits; 0: all of its cells lie together.
  index_t wrapped_axes(index_t window) const noexcept {
    index_t wrapped = 0;
    for (index_t axis = axes(); axis-- > 0;) {
      const auto n = static_cast<std::size_t>(axis);
      if (shift_[n] > 0 && window % windows_[n] == windows_[n] - 1) wrapped |= index_t{1} << axis;
      window /= windows_[n];
    }
    return wrapped;
  }
  /// Which part of its window a cell lies in, as bits of the axes on which it came from the other end; cells of one window with different
  /// regions are not neighbours in the picture. \param cell  its coordinates in the window.
  index_t region(index_t window, std::span<const position> cell) const noexcept {
    index_t region = 0;
    for (std::size_t axis = 0; axis < cell.size(); ++axis)
      if (cell[axis] >= window_[axis] - shift_[axis]) region |= index_t{1} << axis;
    return region & wrapped_axes(window);
  }

  friend bool operator==(const shifted_windows&, const shifted_windows&) = default;

 private:
  index_t token_of(index_t window, index_t cell) const noexcept {
    index_t token = 0, stride = 1;
    for (auto axis = extents_.size(); axis-- > 0;) {
      const index_t at = window % windows_[axis] * window_[axis] + cell % window_[axis] + shift_[axis];
      const index_t place = at % (windows_[axis] * window_[axis]);
      if (place >= extents_[axis]) return no_row;
      token += place * stride;
      stride *= extents_[axis];
      window /= windows_[axis], cell /= window_[axis];
    }
    return token;
  }

  window_extents extents_, window_, shift_, windows_{};
  index_t tokens_ = 1, cells_ = 1, count_ = 1;
};

}  // namespace POSENC_NAMESPACE
