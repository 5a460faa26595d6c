// SPDX-License-Identifier: MIT
/// \file  Depthwise convolutions of some heads of one batch row, whatever the layout of the tensors.
#pragma once

#include <posenc/conditional/add_rows.hpp>
#include <posenc/conditional/token_grid.hpp>
#include <posenc/config.hpp>
#include <posenc/heads.hpp>
#include <posenc/kernels/add_product.hpp>
#include <posenc/kernels/convolve.hpp>
#include <posenc/kernels/widen.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// The convolution of some heads.
template <class S>
struct depthwise_window {
  index_t size, axes;
  index_t first, heads;
  std::span<const S> weight, bias;  ///< `[heads * channels, taps]` and `[heads * channels]`

  index_t taps() const noexcept { return static_cast<index_t>(weight.size() / bias.size()); }
};

/// The grids of a batch row, and which of its tokens stand on them.
struct standing_tokens {
  std::vector<token_grid> grids;
  std::vector<std::uint8_t> stands;

  standing_tokens(std::vector<token_grid> all, const positions& at, index_t b) : grids(std::move(all)) {
    const position_row row = at.row(b);
    for (index_t t = 0; t < at.time(); ++t) stands.push_back(row[t] != no_position);
  }
};

/// Neighbouring heads of one window. Their channels are convolved together, in memory `[time, head, channel]` that the caller gives, as the
/// workspace of the convolution.
template <class S>
class depthwise_heads {
 public:
  /// first: counted from the window's. The window must outlive this.
  depthwise_heads(const depthwise_window<S>& window, index_t number, index_t first, index_t count, index_t channels, index_t time)
      : window_(window), number_(number), first_(first), count_(count), channels_(channels), time_(time) {
    packed_.resize(static_cast<std::size_t>(window.taps() * all()));
    flipped_.resize(packed_.size());
    for (index_t c = 0; c < all(); ++c)
      for (index_t tap = 0; tap < window.taps(); ++tap) {
        const S one = window.weight[weight_place(c, tap)];
        packed_[static_cast<std::size_t>(tap * all() + c)] = one;
        flipped_[static_cast<std::size_t>((window.taps() - 1 - tap) * all() + c)] = one;
      }
  }
  const depthwise_window<S>& window() const noexcept { return window_; }
  std::size_t number() const noexcept { return static_cast<std::size_t>(number_); }  ///< of the window
  index_t all() const noexcept { return count_ * channels_; }  ///< channels
  index_t size() const noexcept { return time_ * all(); }  ///< of the memory
  std::size_t weight_place(index_t c, index_t tap) const noexcept {
    return bias_place(c) * static_cast<std::size_t>(window_.taps()) + static_cast<std::size_t>(tap);
  }
  std::size_t bias_place(index_t c) const noexcept { return static_cast<std::size_t>(first_ * channels_ + c); }
  index_t workspace_size(const standing_tokens& tokens) const {
    index_t most = 0;
    for (const token_grid& grid : tokens.grids) {
      kernels::convolve_axis axes[3];
      fill(axes, grid);
      most = std::max(most, kernels::convolve_workspace<S>(axes, false, all()));
    }
    return most;
  }

  /// x's heads to memory.
  template <class T>
  void read(const head_view<const T>& x, index_t b, const standing_tokens& tokens, S* memory) const {
    for_each_stretch(tokens, [&](index_t t, index_t count, index_t head, index_t place) {
      kernels::widen<kernel_scalar<T>>({.x = kernel_pointer(&x(b, t, head, 0)),
                                        .y = memory + place,
                                        .rows = count,
                                        .channels = channels_,
                                        .x_row = x.by_time().stride(1),
                                        .y_row = all()});
    });
  }
  /// out += memory.
  template <class T>
  void add(const S* memory, index_t b, const standing_tokens& tokens, const head_view<T>& out) const {
    for_each_stretch(tokens, [&](index_t t, index_t count, index_t head, index_t place) {
      add_rows(&out(b, t, head, 0), out.by_time().stride(1), memory + place, all(), count, channels_);
    });
  }
  /// out += x * memory.
  template <class T>
  void add_product(const head_view<const T>& x, index_t b, const standing_tokens& tokens, const S* memory, const head_view<T>& out) const {
    add_product_to(
        x, b, tokens, memory, [&](index_t t, index_t head, index_t) { return kernel_pointer(&out(b, t, head, 0)); },
        out.by_time().stride(1));
  }
  /// product += x * memory, where product lies as memory does.
  template <class T>
  void add_product(const head_view<const T>& x, index_t b, const standing_tokens& tokens, const S* memory, S* product) const {
    add_product_to(x, b, tokens, memory, [&](index_t, index_t, index_t place) { return product + place; }, all());
  }

  /// Memory to its convolution, in place.
  void convolve(const standing_tokens& tokens, S* memory, S* workspace) const {
    convolve(tokens, memory, packed_, window_.bias.data() + bias_place(0), workspace);
  }
  /// The gradient of a convolution to that of what it read, in place.
  void convolve_back(const standing_tokens& tokens, S* memory, S* workspace) const {
    convolve(tokens, memory, flipped_, nullptr, workspace);
  }
  /// Adds to d_weight `[tap, channel]` and d_bias.
  void weight_gradient(const standing_tokens& tokens, const S* x, const S* d, S* d_weight, S* d_bias, S* workspace) const {
    for (const token_grid& grid : tokens.grids) {
      kernels::convolve_weight_gradient_call<S> call{.in = x + grid.first * all(),
                                                     .d = d + grid.first * all(),
                                                     .axes = {},
                                                     .channels = all(),
                                                     .d_weight = d_weight,
                                                     .weight_tap = all(),
                                                     .d_bias = d_bias,
                                                     .in_mask = mask_of(grid),
                                                     .out_mask = mask_of(grid),
                                                     .workspace = workspace};
      fill(call.axes, grid);
      kernels::convolve_weight_gradient(call);
    }
  }

 private:
  static const std::uint8_t* mask_of(const token_grid& grid) { return grid.mask.empty() ? nullptr : grid.mask.data(); }

  /// act(t, count, head, place in memory) for each head and each stretch of tokens that stand on a grid.
  template <class Act>
  void for_each_stretch(const standing_tokens& tokens, const Act& act) const {
    const auto stands = [&](index_t t) { return t < time_ && tokens.stands[static_cast<std::size_t>(t)] != 0; };
    for (index_t from = 0, to = 0; from < time_; from = to) {
      while (from < time_ && !stands(from)) ++from;
      for (to = from; stands(to);) ++to;
      if (from < to)
        for (index_t h = 0; h < count_; ++h) act(from, to - from, window_.first + first_ + h, from * all() + h * channels_);
    }
  }
  template <class T, class Place>
  void add_product_to(const head_view<const T>& x, index_t b, const standing_tokens& tokens, const S* memory, const Place& place_of,
                      index_t out_row) const {
    using X = std::remove_pointer_t<decltype(place_of(0, 0, 0))>;
    for_each_stretch(tokens, [&](index_t t, index_t count, index_t head, index_t place) {
      kernels::add_product<kernel_scalar<T>, X>({.a = kernel_pointer(&x(b, t, head, 0)),
                                                 .b = memory + place,
                                                 .out = place_of(t, head, place),
                                                 .rows = count,
                                                 .channels = channels_,
                                                 .a_row = x.by_time().stride(1),
                                                 .b_row = all(),
                                                 .out_row = out_row});
    });
  }
  void fill(kernels::convolve_axis (&axes)[3], const token_grid& grid) const {
    for (index_t axis = 0; axis < 3; ++axis) {
      const auto n = static_cast<std::size_t>(axis);
      const index_t kernel = axis + window_.axes < 3 ? 1 : window_.size, stride = grid.strides[n] * all(), cells = grid.extents[n];
      axes[n] = {.in = cells, .out = cells, .kernel = kernel, .before = kernel / 2, .in_stride = stride, .out_stride = stride};
    }
  }
  void convolve(const standing_tokens& tokens, S* memory, const std::vector<S>& weight, const S* bias, S* workspace) const {
    for (const token_grid& grid : tokens.grids) {
      kernels::convolve_call<S> call{.in = memory + grid.first * all(),
                                     .out = memory + grid.first * all(),
                                     .axes = {},
                                     .channels = all(),
                                     .weight = weight.data(),
                                     .weight_tap = all(),
                                     .bias = bias,
                                     .in_mask = mask_of(grid),
                                     .out_mask = mask_of(grid),
                                     .workspace = workspace};
      fill(call.axes, grid);
      kernels::convolve(call);
    }
  }

  const depthwise_window<S>& window_;
  index_t number_, first_, count_, channels_, time_;
  std::vector<S> packed_, flipped_;  // weights: [tap, channel]
};

}  // namespace POSENC_NAMESPACE::detail
