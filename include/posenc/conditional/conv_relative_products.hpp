// SPDX-License-Identifier: MIT
/// \file  Queries times depthwise convolutions of the values, and the gradients of it.
#pragma once

#include <posenc/conditional/depthwise_heads.hpp>
#include <posenc/config.hpp>
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // gradient_spans
#include <posenc/heads.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// All heads, so many together that vectors are full.
template <class S>
std::vector<depthwise_heads<S>> all_heads(const std::vector<depthwise_window<S>>& windows, index_t channels, index_t time) {
  const index_t together = (64 + channels - 1) / channels;
  std::vector<depthwise_heads<S>> all;
  for (std::size_t n = 0; n < windows.size(); ++n)
    for (index_t h = 0; h < windows[n].heads; h += together)
      all.emplace_back(windows[n], static_cast<index_t>(n), h, std::min(together, windows[n].heads - h), channels, time);
  return all;
}

/// rows: of each row of the batch, or one that is all of them.
inline const standing_tokens& row_of(const std::vector<standing_tokens>& rows, index_t b) {
  return rows.size() == 1 ? rows.front() : rows[static_cast<std::size_t>(b)];
}
template <class S>
index_t most_workspace(const std::vector<depthwise_heads<S>>& all, const std::vector<standing_tokens>& rows) {
  index_t most = 0;
  for (const auto& some : all)
    for (const auto& tokens : rows) most = std::max(most, some.workspace_size(tokens));
  return most;
}
/// What one thread takes for one row of the batch.
template <class S>
double nanoseconds_per_row(const std::vector<depthwise_heads<S>>& all) {
  double products = 0;
  for (const auto& some : all) products += static_cast<double>(some.size()) * static_cast<double>(some.window().taps() + 3);
  return products * 0.02 * sizeof(S) / sizeof(float);
}

/// context += queries * convolution of values.
template <class T, class S>
void add_conv_relative(const std::vector<depthwise_window<S>>& windows, const std::vector<standing_tokens>& rows,
                       const head_view<T>& context, const head_view<const T>& queries, const head_view<const T>& values,
                       const executor& run) {
  const auto all = all_heads(windows, context.channels(), context.time());
  const index_t batch = context.batch(), items = batch * static_cast<index_t>(all.size()), workspace = most_workspace(all, rows);
  const index_t parts = run.parts(items, nanoseconds_per_row(all) * static_cast<double>(batch));
  index_t size = 0;
  for (const auto& some : all) size = std::max(size, some.size());
  std::vector<S> memory(static_cast<std::size_t>(parts * (size + workspace)));
  run.split(items, parts, [&](index_t part, index_t from, index_t to) {
    S* const own = memory.data() + part * (size + workspace);
    for (index_t item = from; item < to; ++item) {
      const auto& some = all[static_cast<std::size_t>(item / batch)];
      const index_t b = item % batch;
      const standing_tokens& tokens = row_of(rows, b);
      some.read(values, b, tokens, own);
      some.convolve(tokens, own, own + size);
      some.add_product(queries, b, tokens, own, context);
    }
  });
}

/// Adds to the gradients of queries and values, where they are given, and of weights and biases.
template <class T, class S>
void add_conv_relative_gradient(const std::vector<depthwise_window<S>>& windows, const std::vector<standing_tokens>& rows,
                                const head_view<const T>& d_context, const head_view<const T>& queries, const head_view<const T>& values,
                                const head_view<T>& d_queries, const head_view<T>& d_values, gradient_spans<S> d_parameters,
                                const executor& run) {
  const index_t batch = d_context.batch();
  const auto all = all_heads(windows, d_context.channels(), d_context.time());
  const auto items = static_cast<index_t>(all.size());
  const index_t parts = run.parts(items, 4 * nanoseconds_per_row(all) * static_cast<double>(batch)), workspace = most_workspace(all, rows);
  index_t most = 0;
  for (const auto& some : all) most = std::max(most, 3 * some.size() + (some.window().taps() + 1) * some.all() + workspace);
  std::vector<S> memory(static_cast<std::size_t>(parts * most));
  run.split(items, parts, [&](index_t part, index_t from, index_t to) {
    for (index_t n = from; n < to; ++n) {
      const auto& some = all[static_cast<std::size_t>(n)];
      S* const x = memory.data() + part * most;
      S *const other = x + some.size(), *const d = other + some.size(), *const d_weight = d + some.size();
      S *const d_bias = d_weight + some.window().taps() * some.all(), *const space = d_bias + some.all();
      std::fill(d_weight, space, S(0));
      for (index_t b = 0; b < batch; ++b) {
        const standing_tokens& tokens = row_of(rows, b);
        some.read(values, b, tokens, x);
        if (d_queries) {
          std::copy(x, x + some.size(), other);
          some.convolve(tokens, other, space);
          some.add_product(d_context, b, tokens, other, d_queries);
        }
        some.read(d_context, b, tokens, other);
        std::fill_n(d, some.size(), S(0));
        some.add_product(queries, b, tokens, other, d);
        some.weight_gradient(tokens, x, d, d_weight, d_bias, space);
        if (!d_values) continue;
        some.convolve_back(tokens, d, space);
        some.add(d, b, tokens, d_values);
      }
      for (index_t c = 0; c < some.all(); ++c) {
        d_parameters[2 * some.number() + 1][some.bias_place(c)] += d_bias[c];
        for (index_t tap = 0; tap < some.window().taps(); ++tap)
          d_parameters[2 * some.number()][some.weight_place(c, tap)] += d_weight[tap * some.all() + c];
      }
    }
  });
}

}  // namespace POSENC_NAMESPACE::detail
