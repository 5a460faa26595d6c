// SPDX-License-Identifier: MIT
/// \file  Queries times depthwise convolutions of the values, and the gradients of it.
#pragma once

#include <posenc/conditional/token_grid.hpp>
#include <posenc/config.hpp>
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // gradient_spans
#include <posenc/heads.hpp>
#include <posenc/kernels/add.hpp>
#include <posenc/kernels/add_product.hpp>
#include <posenc/kernels/convolve.hpp>
#include <posenc/kernels/widen.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// The convolution of some heads.
template <class S>
struct conv_window_weights {
  index_t size, axes;
  index_t first, heads;
  std::span<const S> weight, bias;  ///< `[heads * channels, taps]` and `[heads * channels]`

  index_t taps() const noexcept { return static_cast<index_t>(weight.size() / bias.size()); }
};

/// Neighbouring heads of one window, whose channels are convolved together: so many that vectors are full.
struct conv_heads {
  std::size_t window;
  index_t first, count;  ///< heads; the first one is counted from the window's
};
template <class S>
std::vector<conv_heads> conv_heads_of(const std::vector<conv_window_weights<S>>& windows, index_t channels) {
  const index_t together = (64 + channels - 1) / channels;
  std::vector<conv_heads> all;
  for (std::size_t n = 0; n < windows.size(); ++n)
    for (index_t h = 0; h < windows[n].heads; h += together) all.push_back({n, h, std::min(together, windows[n].heads - h)});
  return all;
}

/// What works on some heads of one row after the other: the memory for their channels, `[time, head, channel]`, and for the convolutions.
template <class S>
class conv_heads_work {
 public:
  conv_heads_work(const conv_window_weights<S>& window, const conv_heads& some, index_t channels, index_t time)
      : window_(window), some_(some), channels_(channels), time_(time) {
    packed_.resize(static_cast<std::size_t>(window.taps() * all()));
    for (index_t c = 0; c < all(); ++c)
      for (index_t tap = 0; tap < window.taps(); ++tap)
        packed_[static_cast<std::size_t>(tap * all() + c)] = window.weight[weight_place(c, tap)];
  }
  index_t all() const noexcept { return some_.count * channels_; }  ///< channels
  std::vector<S> memory() const { return std::vector<S>(static_cast<std::size_t>(time_ * all())); }
  std::size_t weight_place(index_t c, index_t tap) const noexcept {
    return static_cast<std::size_t>((some_.first * channels_ + c) * window_.taps() + tap);
  }
  std::size_t bias_place(index_t c) const noexcept { return static_cast<std::size_t>(some_.first * channels_ + c); }

  /// act(t, count, head, place in memory) for each stretch of tokens that stand on the grids of a row.
  template <class Act>
  void for_each_stretch(const std::vector<std::uint8_t>& standing, const Act& act) const {
    for (index_t from = 0, to; from < time_; from = to) {
      for (to = from; to < time_ && standing[static_cast<std::size_t>(to)];) ++to;
      for (index_t h = 0; h < some_.count && to > from; ++h)
        act(from, to - from, window_.first + some_.first + h, from * all() + h * channels_);
      while (to < time_ && !standing[static_cast<std::size_t>(to)]) ++to;
    }
  }
  /// Which tokens stand on the grids.
  std::vector<std::uint8_t> standing(const std::vector<token_grid>& grids) const {
    std::vector<std::uint8_t> tokens(static_cast<std::size_t>(time_));
    for (const token_grid& grid : grids) {
      std::size_t cell = 0;
      for (index_t i = 0; i < grid.extents[0]; ++i)
        for (index_t j = 0; j < grid.extents[1]; ++j)
          for (index_t k = 0; k < grid.extents[2]; ++k, ++cell)
            if (grid.mask.empty() || grid.mask[cell])
              tokens[static_cast<std::size_t>(grid.first + i * grid.strides[0] + j * grid.strides[1] + k * grid.strides[2])] = 1;
    }
    return tokens;
  }

  template <class T>
  void read(const head_view<const T>& x, index_t b, const std::vector<std::uint8_t>& tokens, std::vector<S>& to) const {
    for_each_stretch(tokens, [&](index_t t, index_t count, index_t head, index_t place) {
      kernels::widen<kernel_scalar<T>>({.x = kernel_pointer(&x(b, t, head, 0)),
                                        .y = to.data() + place,
                                        .rows = count,
                                        .channels = channels_,
                                        .x_row = x.by_time().stride(1),
                                        .y_row = all()});
    });
  }
  /// out += x * other, on tokens that stand.
  template <class T, class Out>
  void add_product(const head_view<const T>& x, index_t b, const std::vector<std::uint8_t>& tokens, const std::vector<S>& other,
                   const Out& out) const {
    for_each_stretch(tokens, [&](index_t t, index_t count, index_t head, index_t place) {
      const auto [to, row] = out(t, head, place);
      kernels::add_product<kernel_scalar<T>, std::remove_pointer_t<decltype(to)>>({.a = kernel_pointer(&x(b, t, head, 0)),
                                                                                   .b = other.data() + place,
                                                                                   .out = to,
                                                                                   .rows = count,
                                                                                   .channels = channels_,
                                                                                   .a_row = x.by_time().stride(1),
                                                                                   .b_row = all(),
                                                                                   .out_row = row});
    });
  }
  template <class T>
  void add(const std::vector<S>& from, index_t b, const std::vector<std::uint8_t>& tokens, const head_view<T>& out) const {
    for_each_stretch(tokens, [&](index_t t, index_t count, index_t head, index_t place) {
      const kernels::code_source<S> source{.table = from.data() + place, .batch = 0, .time = all()};
      const index_t row = out.by_time().stride(1);
      kernels::add<kernel_scalar<T>>({.in = kernel_pointer(&out(b, t, head, 0)),
                                      .out = kernel_pointer(&out(b, t, head, 0)),
                                      .sources = &source,
                                      .count = 1,
                                      .batch = 1,
                                      .time = count,
                                      .channels = channels_,
                                      .in_batch = 0,
                                      .in_time = row,
                                      .out_batch = 0,
                                      .out_time = row});
    });
  }

  /// Of the tokens on the grids, in place.
  void convolve(const std::vector<token_grid>& grids, std::vector<S>& x) {
    convolve(grids, x, packed_, window_.bias.data() + bias_place(0));
  }
  /// The gradient of the values, from that of the convolution.
  void convolve_back(const std::vector<token_grid>& grids, std::vector<S>& d) {
    if (flipped_.empty())
      for (index_t tap = window_.taps(); tap-- > 0;)
        flipped_.insert(flipped_.end(), packed_.begin() + tap * all(), packed_.begin() + (tap + 1) * all());
    convolve(grids, d, flipped_, nullptr);
  }
  /// Adds to d_weight `[tap, channel]` and d_bias.
  void weight_gradient(const std::vector<token_grid>& grids, const std::vector<S>& x, const std::vector<S>& d, std::vector<S>& d_weight,
                       std::vector<S>& d_bias) {
    for (const token_grid& grid : grids) {
      kernels::convolve_weight_gradient_call<S> call{.in = x.data() + grid.first * all(),
                                                     .d = d.data() + grid.first * all(),
                                                     .axes = {},
                                                     .channels = all(),
                                                     .d_weight = d_weight.data(),
                                                     .weight_tap = all(),
                                                     .d_bias = d_bias.data(),
                                                     .in_mask = mask_of(grid),
                                                     .out_mask = mask_of(grid),
                                                     .workspace = nullptr};
      call.workspace = prepared(call.axes, grid);
      kernels::convolve_weight_gradient(call);
    }
  }

 private:
  static const std::uint8_t* mask_of(const token_grid& grid) { return grid.mask.empty() ? nullptr : grid.mask.data(); }

  S* prepared(kernels::convolve_axis (&axes)[3], const token_grid& grid) {
    for (index_t axis = 0; axis < 3; ++axis) {
      const auto n = static_cast<std::size_t>(axis);
      const index_t kernel = axis + window_.axes < 3 ? 1 : window_.size, stride = grid.strides[n] * all();
      axes[n] = {
          .in = grid.extents[n], .out = grid.extents[n], .kernel = kernel, .before = kernel / 2, .in_stride = stride, .out_stride = stride};
    }
    const auto needed = static_cast<std::size_t>(kernels::convolve_workspace<S>(axes, false, all()));
    if (workspace_.size() < needed) workspace_.resize(needed);
    return workspace_.data();
  }
  void convolve(const std::vector<token_grid>& grids, std::vector<S>& x, const std::vector<S>& weight, const S* bias) {
    for (const token_grid& grid : grids) {
      kernels::convolve_call<S> call{.in = x.data() + grid.first * all(),
                                     .out = x.data() + grid.first * all(),
                                     .axes = {},
                                     .channels = all(),
                                     .weight = weight.data(),
                                     .weight_tap = all(),
                                     .bias = bias,
                                     .in_mask = mask_of(grid),
                                     .out_mask = mask_of(grid),
                                     .workspace = nullptr};
      call.workspace = prepared(call.axes, grid);
      kernels::convolve(call);
    }
  }

  const conv_window_weights<S>& window_;
  conv_heads some_;
  index_t channels_, time_;
  std::vector<S> packed_, flipped_, workspace_;  // weights: [tap, channel]
};

using row_grids = std::vector<std::vector<token_grid>>;  // of each row of the batch, or of all in one
inline const std::vector<token_grid>& grids_of_row(const row_grids& grids, index_t b) {
  return grids.size() == 1 ? grids.front() : grids[static_cast<std::size_t>(b)];
}
template <class S>
double conv_nanoseconds(const std::vector<conv_window_weights<S>>& windows, index_t batch, index_t time, index_t channels) {
  double products = 0;
  for (const auto& one : windows) products += static_cast<double>(one.heads * channels) * static_cast<double>(one.taps() + 3);
  return products * static_cast<double>(batch * time) * 0.02 * sizeof(S) / sizeof(float);
}

/// context += queries * convolution of values.
template <class T, class S>
void add_conv_relative(const std::vector<conv_window_weights<S>>& windows, const row_grids& grids, const head_view<T>& context,
                       const head_view<const T>& queries, const head_view<const T>& values, const executor& run) {
  const auto some = conv_heads_of(windows, context.channels());
  const index_t batch = context.batch(), items = batch * static_cast<index_t>(some.size());
  const index_t parts = run.parts(items, conv_nanoseconds(windows, batch, context.time(), context.channels()));
  run.split(items, parts, [&](index_t, index_t from, index_t to) {
    for_each_block(from, to, batch, [&](index_t outer, index_t outers, index_t first, index_t rows) {
      for (index_t n = outer; n < outer + outers; ++n) {
        const conv_heads& one = some[static_cast<std::size_t>(n)];
        conv_heads_work<S> work(windows[one.window], one, context.channels(), context.time());
        auto memory = work.memory();
        for (index_t b = first; b < first + rows; ++b) {
          const auto& of_row = grids_of_row(grids, b);
          const auto tokens = work.standing(of_row);
          work.read(values, b, tokens, memory);
          work.convolve(of_row, memory);
          work.add_product(queries, b, tokens, memory, [&](index_t t, index_t head, index_t) {
            return std::pair{kernel_pointer(&context(b, t, head, 0)), context.by_time().stride(1)};
          });
        }
      }
    });
  });
}

/// Adds to the gradients of queries and values, where they are given, and of weights and biases.
template <class T, class S>
void add_conv_relative_gradient(const std::vector<conv_window_weights<S>>& windows, const row_grids& grids,
                                const head_view<const T>& d_context, const head_view<const T>& queries, const head_view<const T>& values,
                                const head_view<T>& d_queries, const head_view<T>& d_values, gradient_spans<S> d_parameters,
                                const executor& run) {
  const index_t batch = d_context.batch(), channels = d_context.channels();
  const auto some = conv_heads_of(windows, channels);
  const auto items = static_cast<index_t>(some.size());
  const index_t parts = run.parts(items, 4 * conv_nanoseconds(windows, batch, d_context.time(), channels));
  run.split(items, parts, [&](index_t, index_t from, index_t to) {
    for (index_t n = from; n < to; ++n) {
      const conv_heads& one = some[static_cast<std::size_t>(n)];
      conv_heads_work<S> work(windows[one.window], one, channels, d_context.time());
      auto x = work.memory(), convolved = x, d = x;
      std::vector<S> d_weight(static_cast<std::size_t>(windows[one.window].taps() * work.all())),
          d_bias(static_cast<std::size_t>(work.all()));
      for (index_t b = 0; b < batch; ++b) {
        const auto& of_row = grids_of_row(grids, b);
        const auto tokens = work.standing(of_row);
        work.read(values, b, tokens, x);
        if (d_queries) {
          convolved = x;
          work.convolve(of_row, convolved);
          work.add_product(d_context, b, tokens, convolved, [&](index_t t, index_t head, index_t) {
            return std::pair{kernel_pointer(&d_queries(b, t, head, 0)), d_queries.by_time().stride(1)};
          });
        }
        work.read(d_context, b, tokens, convolved);
        std::ranges::fill(d, S(0));
        work.add_product(queries, b, tokens, convolved,
                         [&](index_t, index_t, index_t place) { return std::pair{d.data() + place, work.all()}; });
        work.weight_gradient(of_row, x, d, d_weight, d_bias);
        if (!d_values) continue;
        work.convolve_back(of_row, d);
        work.add(d, b, tokens, d_values);
      }
      for (index_t c = 0; c < work.all(); ++c) {
        d_parameters[2 * one.window + 1][work.bias_place(c)] += d_bias[static_cast<std::size_t>(c)];
        for (index_t tap = 0; tap < windows[one.window].taps(); ++tap)
          d_parameters[2 * one.window][work.weight_place(c, tap)] += d_weight[static_cast<std::size_t>(tap * work.all() + c)];
      }
    }
  });
}

}  // namespace POSENC_NAMESPACE::detail
