// SPDX-License-Identifier: MIT
/// \file  What biases of windows compute once per shape: the bias of every difference of cells, and of every pair where windows share it.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// The cells of a window, slowest axis first: {height, width}, {frames, height, width}.
using window_extents = std::vector<index_t>;

/// The pairs with a class token, which is a token without a position: query to key, in the order of the rows that BEiT's tables end with.
enum class class_bias : int { class_to_cell, cell_to_class, class_to_class };

namespace detail {

/// Cells of a window as numbers, so that the difference of two numbers is that of the cells: sum over axes of coordinate * (2 extent - 1) *
/// ... of the faster axes. The difference of two cells lies within +-(extent - 1) on each axis, so no two differences are one number.
class cell_numbers {
 public:
  cell_numbers(std::string_view who, const window_extents& window) : window_(window) {
    require_axes(who, static_cast<index_t>(window.size()));
    for (const index_t extent : window) require(extent > 0, who, "the extents of a window must be positive", extent);
    for (auto axis = window.size(); axis-- > 0;) {
      strides_.insert(strides_.begin(), differences_);
      require(window[axis] <= (std::numeric_limits<std::int32_t>::max() / differences_ + 1) / 2, who,
              "a window must have less than 2^31 differences", window[axis]);
      differences_ *= 2 * window[axis] - 1;
    }
  }

  index_t axes() const noexcept { return static_cast<index_t>(window_.size()); }
  /// Of two cells; that of a cell from itself is in the middle.
  index_t differences() const noexcept { return differences_; }
  const window_extents& window() const noexcept { return window_; }

  /// The numbers of the tokens, `[batch, time]`; tokens without a position keep having none. Counted from `from` on each axis.
  std::vector<position> of(const positions& at, const std::vector<position>& from) const {
    std::vector<position> all;
    const index_t rows = std::max<index_t>(at.batch(), 1);
    all.reserve(static_cast<std::size_t>(rows * at.time()));
    for (index_t b = 0; b < rows; ++b)
      for (index_t t = 0; t < at.time(); ++t) {
        position number = at(b, t) == no_position ? no_position : 0;
        for (index_t axis = 0; number != no_position && axis < axes(); ++axis)
          number += (at(b, t, axis) - from[static_cast<std::size_t>(b * axes() + axis)]) * strides_[static_cast<std::size_t>(axis)];
        all.push_back(number);
      }
    return all;
  }

  /// The least coordinate of each axis of each batch row, of queries and keys. \throws argument_error  unless any two cells of a batch row
  /// are less than the window apart.
  std::vector<position> corners(std::string_view who, const attention_positions& at) const {
    std::vector<position> all;
    for (index_t b = 0; b < std::max<index_t>({at.queries.batch(), at.keys.batch(), 1}); ++b)
      for (index_t axis = 0; axis < axes(); ++axis) {
        position low = positions::limit, high = -positions::limit;
        for (const positions* const some : {&at.queries, &at.keys})
          for (index_t t = 0; t < some->time(); ++t)
            if (const position id = (*some)(b, t, axis); id != no_position) low = std::min(low, id), high = std::max(high, id);
        const index_t extent = window_[static_cast<std::size_t>(axis)];
        const bool any = low <= high;
        const std::uint64_t cells = any ? static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low) + 1 : 0;  // 2^63 + 1 at most
        require(cells <= static_cast<std::uint64_t>(extent), who, "cells must lie within one window", extent, cells);
        all.push_back(any ? low : 0);
      }
    return all;
  }

 private:
  window_extents window_;
  std::vector<index_t> strides_;
  index_t differences_ = 1;
};

}  // namespace detail

/// The biases of an encoder of windows at given positions; made by its `prepare`, read by its verbs. Immutable; copying it is a reference
/// count. Keep it as long as the shape and the parameters stay: all layers that share the table and all batches may read it.
template <compute_scalar S>
class window_bias_table {
 public:
  /// What all copies share.
  struct contents {
    attention_positions at;
    index_t heads, differences;
    std::vector<S> values{};  ///< `[head, difference]`, of key minus query, the slowest axis first, from -(extent - 1) on
    std::vector<S> classes{};  ///< `[head, class_bias]`, or none
    std::vector<position> queries{}, keys{};  ///< cells as numbers, `[batch, time]`
    std::vector<S> pairs{};  ///< `[head, query, key]`, or none
  };
  explicit window_bias_table(contents all) : contents_(std::make_shared<const contents>(std::move(all))) {}

  const attention_positions& at() const noexcept { return contents_->at; }
  const contents& operator*() const noexcept { return *contents_; }
  const contents* operator->() const noexcept { return contents_.get(); }

 private:
  std::shared_ptr<const contents> contents_;
};

}  // namespace POSENC_NAMESPACE
