// SPDX-License-Identifier: MIT
/// \file  Rows of a table times the weight of a dense layer, by heads: the relative keys and queries of Transformer-XL and DeBERTa.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/executor.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

namespace POSENC_NAMESPACE {

/// A dense layer whose outputs are heads: weight `[heads * channels, dim]`, with contiguous rows, and bias `[heads * channels]` or none.
template <compute_scalar S>
struct row_projection {
  tensor_view<const S, 2> weight;
  std::span<const S> bias{};
};

namespace detail {

constexpr index_t rows_together = 64;

/// projected[h, first + n, c] from rows[n]; of heads that lie `projected.stride(0)` apart.
template <class S>
void project_block(const S* rows, index_t stride, index_t count, const row_projection<S>& by, const tensor_view<S, 3>& projected,
                   index_t first) {
  const index_t channels = projected.extent(2);
  for (index_t h = 0; h < projected.extent(0); ++h)
    kernels::linear<S>({.x = rows,
                        .y = projected.data() + h * projected.stride(0) + first * projected.stride(1),
                        .tokens = count,
                        .in = by.weight.extent(1),
                        .out = channels,
                        .x_token = stride,
                        .y_token = projected.stride(1),
                        .w = by.weight.data() + h * channels * by.weight.stride(0),
                        .w_row = by.weight.stride(0),
                        .start = by.bias.empty() ? nullptr : by.bias.data() + h * channels});
}
/// d_weight and d_bias (null: not asked for) of head h += those from d_projected[h, first + n].
template <class S>
void add_projection_gradient(const S* rows, index_t stride, index_t count, const tensor_view<const S, 3>& d_projected, index_t first,
                             index_t h, index_t dim, S* d_weight, index_t d_weight_row, S* d_bias) {
  const index_t channels = d_projected.extent(2);
  kernels::linear_weight_gradient<S, S>({.d_y = d_projected.data() + h * d_projected.stride(0) + first * d_projected.stride(1),
                                         .x = rows,
                                         .tokens = count,
                                         .in = dim,
                                         .out = channels,
                                         .d_y_token = d_projected.stride(1),
                                         .x_token = stride,
                                         .d_w = d_weight + h * channels * d_weight_row,
                                         .d_w_row = d_weight_row,
                                         .d_bias = d_bias ? d_bias + h * channels : nullptr});
}

/// \throws argument_error  unless the shapes belong together.
template <class S, class R, class P>
void require_projection(std::string_view who, const tensor_view<R, 2>& rows, const row_projection<S>& by,
                        const tensor_view<P, 3>& projected) {
  const index_t out = checked_product(who, std::array{projected.extent(0), projected.extent(2)});
  require(by.weight.extent(0) == out, who, "the weight must have heads times channels rows", out, by.weight.extent(0));
  require(by.weight.extent(1) == rows.extent(1), who, "the weight's columns must be the rows' channels", rows.extent(1),
          by.weight.extent(1));
  require(projected.extent(1) == rows.extent(0), who, "there must be one projected row per row", rows.extent(0), projected.extent(1));
  require(by.bias.empty() || static_cast<index_t>(by.bias.size()) == out, who, "the bias must have heads times channels values", out,
          by.bias.size());
  require_rows(who, rows);
  require_rows(who, by.weight);
}

}  // namespace detail

/// projected[h, n, c] = bias[h * channels + c] + sum over d of rows[n, d] weight[h * channels + c, d]: `[row, dim]` to `[head, row,
/// channel]`, which `deberta` takes as keys or queries. A row has the same bits alone as among others. Allocates nothing.
/// Precondition: `projected` overlaps nothing that is read. \throws argument_error  unless the shapes belong together.
template <compute_scalar S>
void project_rows(const tensor_view<const S, 2>& rows, const row_projection<S>& by, const tensor_view<S, 3>& projected,
                  const executor& run = {}) {
  constexpr std::string_view who = "project_rows";
  detail::require_projection(who, rows, by, projected);
  require_output(who, projected);
  if (projected.empty()) return;
  const index_t count = rows.extent(0), blocks = (count + detail::rows_together - 1) / detail::rows_together;
  const double cost = static_cast<double>(by.weight.extent(0)) * static_cast<double>(by.weight.extent(1)) * static_cast<double>(count) / 20;
  run.split(blocks, run.parts(blocks, cost), [&](index_t, index_t from, index_t to) {
    const index_t first = from * detail::rows_together, last = std::min(to * detail::rows_together, count);
    detail::project_block(rows.data() + first * rows.stride(0), rows.stride(0), last - first, by, projected, first);
  });
}

/// Where the gradients of `project_rows` are added to; empty: not asked for.
template <compute_scalar S>
struct row_projection_gradient {
  tensor_view<S, 2> rows{}, weight{};
  std::span<S> bias{};
};

/// The gradient, which is added in the order of rows and heads. Precondition: the gradients overlap nothing else.
/// \throws argument_error  unless the shapes belong together.
template <compute_scalar S>
void project_rows_backward(const tensor_view<const S, 2>& rows, const row_projection<S>& by, const tensor_view<const S, 3>& d_projected,
                           const row_projection_gradient<S>& d, const executor& run = {}) {
  constexpr std::string_view who = "project_rows_backward", shapes = "gradients must have the shapes of what they are of";
  detail::require_projection(who, rows, by, d_projected);
  require_rows(who, d_projected);
  require(!d.rows || d.rows.extents() == rows.extents(), who, shapes, rows.extents(), d.rows.extents());
  require(!d.weight || d.weight.extents() == by.weight.extents(), who, shapes, by.weight.extents(), d.weight.extents());
  require(d.bias.empty() || (d.weight && static_cast<index_t>(d.bias.size()) == by.weight.extent(0)), who,
          "the gradient of the bias must be asked for with the weight's, and have its size", by.weight.extent(0), d.bias.size());
  require_output(who, d.rows);
  require_output(who, d.weight);
  if (d_projected.empty()) return;
  const index_t heads = d_projected.extent(0), count = rows.extent(0), channels = d_projected.extent(2), dim = rows.extent(1);
  const double cost = static_cast<double>(by.weight.extent(0)) * static_cast<double>(dim) * static_cast<double>(count) / 20;
  if (d.weight)
    run.split(heads, run.parts(heads, cost), [&](index_t, index_t from, index_t to) {
      for (index_t h = from; h < to; ++h)
        detail::add_projection_gradient(rows.data(), rows.stride(0), count, d_projected, 0, h, dim, d.weight.data(), d.weight.stride(0),
                                        d.bias.empty() ? nullptr : d.bias.data());
    });
  if (!d.rows) return;
  run.split(count, run.parts(count, cost), [&](index_t, index_t from, index_t to) {
    for (index_t h = 0; h < heads; ++h)
      kernels::linear_input_gradient<S, S>({.d_y = d_projected.data() + h * d_projected.stride(0) + from * d_projected.stride(1),
                                            .d_x = d.rows.data() + from * d.rows.stride(0),
                                            .tokens = to - from,
                                            .in = dim,
                                            .out = channels,
                                            .d_y_token = d_projected.stride(1),
                                            .d_x_token = d.rows.stride(0),
                                            .w = by.weight.data() + h * channels * by.weight.stride(0),
                                            .w_row = by.weight.stride(0),
                                            .accumulate = true});
  });
}

}  // namespace POSENC_NAMESPACE
