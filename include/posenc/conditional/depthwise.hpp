// SPDX-License-Identifier: MIT
/// \file  Depthwise convolutions of the grids on which the tokens of a batch stand, and their gradients.
#pragma once

#include <posenc/conditional/token_grid.hpp>
#include <posenc/config.hpp>
#include <posenc/executor.hpp>
#include <posenc/kernels/convolve.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// How a grid is convolved, by axis, slowest first: see `kernels::convolve_axis`.
struct depthwise_filter {
  std::array<index_t, 3> kernel{1, 1, 1}, before{0, 0, 0}, step{1, 1, 1}, spread{1, 1, 1};
  bool circular = false;

  index_t taps() const noexcept { return kernel[0] * kernel[1] * kernel[2]; }
  /// That of the gradient of the input, with the taps in reverse order.
  depthwise_filter transposed() const noexcept {
    depthwise_filter other = *this;
    for (std::size_t axis = 0; axis < 3; ++axis) other.before[axis] = kernel[axis] - 1 - before[axis];
    std::swap(other.step, other.spread);
    return other;
  }
};

/// One grid of one batch row, as it is read and as it is written.
struct depthwise_item {
  index_t b;
  const token_grid *in, *out;
  bool goes_on = false;  ///< the row's history stands in front of it
};

/// The tensors, `[batch, time, channel]`: pointers and strides.
template <class In, class Out>
struct depthwise_tensors {
  const In* in;
  Out* out;
  index_t in_batch, in_time, out_batch, out_time;
  const In* history = nullptr;  ///< `[batch, time, channel]`
  index_t history_batch = 0, history_time = 0;
};

template <class In, class Out>
depthwise_tensors<std::remove_const_t<In>, Out> tensors_of(const token_view<In>& in, const token_view<Out>& out) {
  return {in.data(), out.data(), in.stride(0), in.stride(1), out.stride(0), out.stride(1)};
}

inline void fill_axes(kernels::convolve_axis (&axes)[3], const depthwise_filter& filter, const depthwise_item& item, index_t in_time,
                      index_t out_time) {
  for (std::size_t axis = 0; axis < 3; ++axis)
    axes[axis] = {.in = item.in->extents[axis],
                  .out = item.out->extents[axis],
                  .kernel = filter.kernel[axis],
                  .before = filter.before[axis],
                  .step = filter.step[axis],
                  .spread = filter.spread[axis],
                  .in_stride = item.in->strides[axis] * in_time,
                  .out_stride = item.out->strides[axis] * out_time};
}
inline const std::uint8_t* mask_of(const token_grid& cells) { return cells.mask.empty() ? nullptr : cells.mask.data(); }

/// Into which channels the work is cut: so that each thread has some, and that the workspace of each stays in its caches.
struct depthwise_plan {
  index_t block, blocks;  ///< channels of each, their number
  index_t parts;
  index_t workspace;      ///< elements for each part
};

template <class S>
depthwise_plan plan_depthwise(std::span<const depthwise_item> items, const depthwise_filter& filter, index_t dim, const executor& run) {
  constexpr index_t cached = (512 << 10) / static_cast<index_t>(sizeof(S)), least = 32;  // channels of a block: whole cache lines
  const auto workspace = [&](index_t channels) {
    index_t most = 0;
    for (const depthwise_item& item : items) {
      kernels::convolve_axis axes[3];
      fill_axes(axes, filter, item, 1, 1);
      most = std::max(most, kernels::convolve_workspace<S>(axes, filter.circular, channels));
    }
    return most;
  };
  index_t cells = 0;
  for (const depthwise_item& item : items) cells += item.out->cells();
  const auto count = std::max<index_t>(static_cast<index_t>(items.size()), 1);
  const index_t most_blocks = (dim + least - 1) / least;
  const double each = 0.1 + 0.02 * static_cast<double>(filter.taps()) * sizeof(S) / sizeof(float);
  const index_t parts = run.parts(count * most_blocks, each * static_cast<double>(cells) * static_cast<double>(dim));
  const index_t wanted = std::max((parts + count - 1) / count, (workspace(dim) + cached - 1) / cached);
  const index_t blocks = std::clamp<index_t>(wanted, 1, most_blocks);
  const index_t block = blocks == 1 ? dim : ((dim + blocks - 1) / blocks + least - 1) / least * least;
  const index_t made = (dim + block - 1) / block;
  return {block, made, std::min(parts, count * made), workspace(block)};
}

/// What the sums are made of besides the tensors.
template <class S>
struct depthwise_sums {
  const S* weight;  ///< [tap, channel]
  const S* bias;    ///< null: none
  bool accumulate, gelu;
};

/// Convolves all items, which do not overlap. \param workspace  of plan.parts * plan.workspace elements
template <class T, class S>
void run_depthwise(const depthwise_tensors<T, T>& x, std::span<const depthwise_item> items, const depthwise_filter& filter,
                   const depthwise_sums<S>& sums, index_t dim, const depthwise_plan& plan, S* workspace, const executor& run) {
  const index_t all = static_cast<index_t>(items.size()) * plan.blocks;
  if (all == 0 || dim == 0) return;
  run.split(all, plan.parts, [&](index_t part, index_t from, index_t to) {
    for (index_t n = from; n < to; ++n) {
      const depthwise_item& item = items[static_cast<std::size_t>(n / plan.blocks)];
      const index_t channel = n % plan.blocks * plan.block;
      kernels::convolve_call<kernel_scalar<T>> call{
          .in = kernel_pointer(x.in + item.b * x.in_batch + item.in->first * x.in_time + channel),
          .out = kernel_pointer(x.out + item.b * x.out_batch + item.out->first * x.out_time + channel),
          .axes = {},
          .channels = std::min(plan.block, dim - channel),
          .weight = sums.weight + channel,
          .weight_tap = dim,
          .bias = sums.bias ? sums.bias + channel : nullptr,
          .accumulate = sums.accumulate,
          .gelu = sums.gelu,
          .circular = filter.circular,
          .in_mask = mask_of(*item.in),
          .out_mask = mask_of(*item.out),
          .workspace = workspace + part * plan.workspace};
      fill_axes(call.axes, filter, item, x.in_time, x.out_time);
      if (item.goes_on) {
        call.history = kernel_pointer(x.history + item.b * x.history_batch + channel);
        call.history_stride = x.history_time;
      }
      kernels::convolve(call);
    }
  });
}

/// Adds the gradients of weight `[tap, channel]` and bias, where `x.out` is the gradient of what the convolution wrote. In the order of the
/// items, whatever the number of threads: they share the channels.
template <class T, class S>
void run_depthwise_weight_gradient(const depthwise_tensors<T, const T>& x, std::span<const depthwise_item> items,
                                   const depthwise_filter& filter, S* d_weight, S* d_bias, index_t dim, const executor& run) {
  const depthwise_plan plan = plan_depthwise<S>(items, filter, dim, run);
  constexpr index_t least = 32;
  const index_t blocks = std::clamp<index_t>(plan.parts, plan.blocks, std::max<index_t>((dim + least - 1) / least, 1));
  const index_t block = ((dim + blocks - 1) / blocks + least - 1) / least * least, made = (dim + block - 1) / block;
  const index_t parts = std::min(plan.parts, made);
  std::vector<S> workspace;
  index_t each = 0;
  for (const depthwise_item& item : items) {
    kernels::convolve_axis axes[3];
    fill_axes(axes, filter, item, 1, 1);
    each = std::max(each, kernels::convolve_workspace<S>(axes, filter.circular, block));
  }
  workspace.resize(static_cast<std::size_t>(parts * each));
  if (items.empty()) return;
  run.split(made, parts, [&](index_t part, index_t from, index_t to) {
    for (index_t n = from; n < to; ++n)
      for (const depthwise_item& item : items) {
        const index_t channel = n * block;
        kernels::convolve_weight_gradient_call<kernel_scalar<T>> call{
            .in = kernel_pointer(x.in + item.b * x.in_batch + item.in->first * x.in_time + channel),
            .d = kernel_pointer(x.out + item.b * x.out_batch + item.out->first * x.out_time + channel),
            .axes = {},
            .channels = std::min(block, dim - channel),
            .d_weight = d_weight + channel,
            .weight_tap = dim,
            .d_bias = d_bias + channel,
            .circular = filter.circular,
            .in_mask = mask_of(*item.in),
            .out_mask = mask_of(*item.out),
            .workspace = workspace.data() + part * each};
        fill_axes(call.axes, filter, item, x.in_time, x.out_time);
        kernels::convolve_weight_gradient(call);
      }
  });
}

}  // namespace POSENC_NAMESPACE::detail
