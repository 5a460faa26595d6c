// SPDX-License-Identifier: MIT
/// \file  Convolutions along time that mix the channels of a group, as products with the linear kernels, and their gradients.
#pragma once

#include <posenc/conditional/position_runs.hpp>
#include <posenc/config.hpp>
#include <posenc/executor.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/kernels/widen.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// y[t, o] = bias[o] + sum over taps j and the channels c of o's group of w[o, c, j] x[t + j - before, c], within each run of frames,
/// with zeros outside of it and for frames without a position.
///
/// A group's frames are copied side by side, so that all that a frame sees is one vector of kernel * channels numbers, and vectors of
/// neighbouring frames overlap: nothing is copied per tap. Each y is one sum of `kernels::linear`, so that it has the same bits wherever
/// its run is cut and for any number of threads.
template <compute_scalar S>
struct grouped_convolution {
  index_t dim, groups, kernel;

  index_t channels() const noexcept { return dim / groups; }        ///< of a group
  index_t window() const noexcept { return kernel * channels(); }   ///< numbers that one output is made of
  index_t weight_size() const noexcept { return dim * window(); }

  /// scales[j] w[o, c, j], as checkpoints have it, to packed[o, j, c].
  std::vector<S> packed(std::span<const S> weight, std::span<const double> scales, const executor& run) const {
    return rearranged(run, [&](S* to, index_t first, index_t o, index_t j, index_t c) {
      to[((first + o) * kernel + j) * channels() + c] = scaled(weight, scales, first + o, c, j);
    });
  }
  /// To packed[c, kernel - 1 - j, o], with which the gradient of y gives that of x.
  std::vector<S> flipped(std::span<const S> weight, std::span<const double> scales, const executor& run) const {
    return rearranged(run, [&](S* to, index_t first, index_t o, index_t j, index_t c) {
      to[((first + c) * kernel + kernel - 1 - j) * channels() + o] = scaled(weight, scales, first + o, c, j);
    });
  }

  /// x: rows of `dim` channels, x_row apart; y `[time, dim]`. bias may be null. x and y must not overlap.
  template <class T>
  void convolve(const T* x, index_t x_row, const position_runs& frames, const std::vector<S>& weight, const S* bias, index_t before, S* y,
                const executor& run) const {
    const auto blocks = blocks_of(frames);
    const index_t items = groups * static_cast<index_t>(blocks.size()), parts = run.parts(items, nanoseconds(frames));
    std::vector<S> windows(static_cast<std::size_t>(parts * window_space()));
    run.split(items, parts, [&](index_t part, index_t from, index_t to) {
      S* const own = windows.data() + part * window_space();
      for (index_t item = from; item < to; ++item) {
        const block& one = blocks[static_cast<std::size_t>(item % static_cast<index_t>(blocks.size()))];
        const index_t first = item / static_cast<index_t>(blocks.size()) * channels();
        gather(x + first, x_row, frames, one, before, own);
        kernels::linear<S>({.x = own,
                            .y = y + one.first * dim + first,
                            .tokens = one.count,
                            .in = window(),
                            .out = channels(),
                            .x_token = channels(),
                            .y_token = dim,
                            .w = weight.data() + first * window(),
                            .w_row = window(),
                            .start = bias ? bias + first : nullptr});
      }
    });
  }

  /// Adds to d_weight `[dim, kernel, channel]` and d_bias, frame after frame. d_y of frames without a position must be zeros.
  template <class T>
  void weight_gradient(const T* x, index_t x_row, const position_runs& frames, const S* d_y, index_t before, S* d_weight, S* d_bias,
                       const executor& run) const {
    const auto blocks = blocks_of(frames);
    const index_t parts = run.parts(groups, nanoseconds(frames));
    std::vector<S> windows(static_cast<std::size_t>(parts * window_space()));
    run.split(groups, parts, [&](index_t part, index_t from, index_t to) {
      S* const own = windows.data() + part * window_space();
      for (index_t first = from * channels(); first < to * channels(); first += channels())
        for (const block& one : blocks) {
          gather(x + first, x_row, frames, one, before, own);
          kernels::linear_weight_gradient<S, S>({.d_y = d_y + one.first * dim + first,
                                                 .x = own,
                                                 .tokens = one.count,
                                                 .in = window(),
                                                 .out = channels(),
                                                 .d_y_token = dim,
                                                 .x_token = channels(),
                                                 .d_w = d_weight + first * window(),
                                                 .d_w_row = window(),
                                                 .d_bias = d_bias + first});
        }
    });
  }

  friend bool operator==(const grouped_convolution&, const grouped_convolution&) = default;

 private:
  static constexpr index_t most_frames = 256;  // at once: what they see stays in the second-level cache

  struct block {
    token_stretch run;
    index_t first, count;  // frames
  };
  static std::vector<block> blocks_of(const position_runs& frames) {
    std::vector<block> all;
    for (const token_stretch& one : frames.runs)
      for (index_t t = one.from; t < one.to; t += most_frames) all.push_back({one, t, std::min(most_frames, one.to - t)});
    return all;
  }
  index_t window_space() const noexcept { return (most_frames + kernel - 1) * channels(); }
  double nanoseconds(const position_runs& frames) const noexcept {
    double count = 0;
    for (const token_stretch& one : frames.runs) count += static_cast<double>(one.to - one.from);
    return count * static_cast<double>(weight_size()) / (sizeof(S) == 4 ? 28 : 14);
  }

  S scaled(std::span<const S> weight, std::span<const double> scales, index_t o, index_t c, index_t j) const {
    const S one = weight[static_cast<std::size_t>((o * channels() + c) * kernel + j)];
    return static_cast<S>(static_cast<double>(one) * scales[static_cast<std::size_t>(j)]);
  }
  template <class Place>
  std::vector<S> rearranged(const executor& run, const Place& place) const {
    std::vector<S> all(static_cast<std::size_t>(weight_size()));
    run.split(groups, run.parts(groups, static_cast<double>(weight_size())), [&](index_t, index_t from, index_t to) {
      for (index_t first = from * channels(); first < to * channels(); first += channels())
        for (index_t o = 0; o < channels(); ++o)
          for (index_t c = 0; c < channels(); ++c)
            for (index_t j = 0; j < kernel; ++j) place(all.data(), first, o, j, c);
    });
    return all;
  }

  /// What the frames of a block see of a group whose first channel is x's: `[frame, channel]`, side by side.
  template <class T>
  void gather(const T* x, index_t x_row, const position_runs& frames, const block& one, index_t before, S* to) const {
    const index_t begin = one.first - before, end = begin + one.count + kernel - 1;
    std::fill_n(to, (end - begin) * channels(), S(0));
    const auto is_there = [&](index_t t) { return frames.has_position[static_cast<std::size_t>(t)] != 0; };
    const index_t until = std::min(end, one.run.to);
    for (index_t from = std::max(begin, one.run.from), next; from < until; from = next) {
      for (next = from; next < until && is_there(next);) ++next;
      kernels::widen<kernel_scalar<T>>({.x = kernel_pointer(x) + from * x_row,
                                        .y = to + (from - begin) * channels(),
                                        .rows = next - from,
                                        .channels = channels(),
                                        .x_row = x_row,
                                        .y_row = channels()});
      while (next < until && !is_there(next)) ++next;
    }
  }
};

}  // namespace POSENC_NAMESPACE::detail
