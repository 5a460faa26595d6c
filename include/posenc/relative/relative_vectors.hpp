// SPDX-License-Identifier: MIT
/// \file  Vectors of distances, those of them that a block of queries needs, and the matrix products with them.
#pragma once

#include <posenc/bias_verbs.hpp>  // block_of
#include <posenc/concepts.hpp>    // score_pass
#include <posenc/config.hpp>
#include <posenc/heads.hpp>
#include <posenc/kernels/add.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/kernels/table_bias.hpp>
#include <posenc/kernels/widen.hpp>
#include <posenc/positions.hpp>
#include <posenc/relative/bias_table.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <memory>

namespace POSENC_NAMESPACE {

/// Vectors `[head, distance, channel]`, of distances (key's position minus query's) from `low` on.
template <class S>
struct relative_vectors {
  const S* data = nullptr;
  index_t head = 0, distance = 0;  ///< strides; head 0: all heads share them
  index_t count = 0;  ///< of distances
  position low = 0;  ///< the first one
  bool clip = false;  ///< beyond the ends: the vector of the end; or else none, as if it were zero
  std::shared_ptr<const S[]> memory{};  ///< keeps vectors alive that were made for the call; null: they are the encoder's own
};

namespace detail {

/// Which products, and what for.
template <class S>
struct relative_product {
  relative_vectors<S> vectors;
  const attention_positions& at;
  score_pass pass{};
  S factor = 1;  ///< multiplies the products
  const S* query_shift = nullptr;  ///< `[head, channel]`, added to the queries first
  const S* key_values = nullptr;  ///< `[batch, head, key]`, added to the products

  /// No block of queries needs more vectors.
  index_t most(index_t queries, index_t keys) const {
    const bool ids = at.queries.row(0).ids || at.keys.row(0).ids;
    return ids ? vectors.count : std::min(vectors.count, keys + std::min(queries, most_together) - 1);
  }
  /// How many queries a block has: their products stay in the second-level cache.
  static index_t together(index_t queries, index_t vectors) {
    return std::min(queries, std::clamp<index_t>((index_t{1} << 16) / std::max<index_t>(vectors, 1), 4, most_together));
  }
  static constexpr index_t most_together = 64;
};

/// The vectors that queries [query, query + queries) of batch row b need, one at least; `of` is the first one's number.
struct needed_vectors {
  position low;
  index_t of, count;
};
template <class S>
needed_vectors needed(const relative_product<S>& product, index_t b, index_t query, index_t queries) {
  const position first = product.vectors.low, last = first + (product.vectors.count - 1);
  const distance_range q = positions_within(product.at.queries.slice(query, queries), b), k = positions_within(product.at.keys, b);
  if (q.low > q.high || k.low > k.high) return {first, 0, 1};
  const position low = distance_of(k.low, q.high);
  position high = distance_of(k.high, q.low);
  if (product.pass.causal) high = std::min(high, position{0});
  const position from = std::clamp(low, first, last), to = std::max(std::clamp(high, first, last), from);
  return {from, static_cast<index_t>(from - first), static_cast<index_t>(to - from + 1)};
}

/// The distance of a value that no pair of tokens has, where there is no vector.
inline constexpr needed_vectors no_vectors{positions::limit, 0, 1};

/// The kernel's call for a block, whose products `[query, vector]` are in `products`.
template <class T, class S>
kernels::table_bias_call<T> product_call(const kernels::score_block<T>& block, const needed_vectors& some, bool clip, const S* products,
                                         const S* key_values = nullptr) {
  return {block, nullptr, 0, products, 0, some.count, kernels::value_of::distance, some.low, some.count, clip, key_values, 0};
}

/// rows[n, c] = (x[b, t + n, h, c] + shift[c]) * factor.
template <class Q, class S>
void widen_rows(const head_view<const Q>& x, index_t b, index_t t, index_t count, index_t h, S* rows, const S* shift, S factor) {
  const auto& v = x.by_time();
  kernels::widen<kernel_scalar<Q>>({.x = kernel_pointer(&v(b, t, h, 0)),
                                    .y = rows,
                                    .rows = count,
                                    .channels = x.channels(),
                                    .x_row = v.stride(1),
                                    .y_row = x.channels(),
                                    .shift = shift,
                                    .scale = factor});
}

/// x[b, t + n, h, c] += rows[n, c] * factor, rounded once.
template <class Q, class S>
void add_rows(const head_view<Q>& x, index_t b, index_t t, index_t count, index_t h, const S* rows, S factor) {
  const auto& v = x.by_time();
  const kernels::code_source<S> source{.table = rows, .batch = 0, .time = x.channels(), .scale = factor};
  kernels::add<kernel_scalar<Q>>({.in = kernel_pointer(&v(b, t, h, 0)),
                                  .out = kernel_pointer(&v(b, t, h, 0)),
                                  .sources = &source,
                                  .count = 1,
                                  .batch = 1,
                                  .time = count,
                                  .channels = x.channels(),
                                  .in_batch = 0,
                                  .in_time = v.stride(1),
                                  .out_batch = 0,
                                  .out_time = v.stride(1)});
}

/// y[n, v] = rows[n] . vector v, for vectors of one head.
template <class S>
void multiply(const relative_vectors<S>& vectors, const needed_vectors& some, index_t h, index_t channels, const S* rows, index_t count,
              S* y) {
  kernels::linear<S>({.x = rows,
                      .y = y,
                      .tokens = count,
                      .in = channels,
                      .out = some.count,
                      .x_token = channels,
                      .y_token = some.count,
                      .w = vectors.data + h * vectors.head + some.of * vectors.distance,
                      .w_row = vectors.distance});
}
/// rows[n] = sum over v of y[n, v] vector v, or that added to it.
template <class S>
void multiply_transposed(const relative_vectors<S>& vectors, const needed_vectors& some, index_t h, index_t channels, const S* y,
                         index_t count, S* rows, bool accumulate = false) {
  kernels::linear_input_gradient<S, S>({.d_y = y,
                                        .d_x = rows,
                                        .tokens = count,
                                        .in = channels,
                                        .out = some.count,
                                        .d_y_token = some.count,
                                        .d_x_token = channels,
                                        .w = vectors.data + h * vectors.head + some.of * vectors.distance,
                                        .w_row = vectors.distance,
                                        .accumulate = accumulate});
}

/// d_vectors[v] += sum over n of y[n, v] rows[n], for the vectors `[distance, channel]` of one head.
template <class S>
void add_vector_gradient(const S* rows, const S* y, index_t count, index_t channels, const needed_vectors& some, S* d_vectors) {
  kernels::linear_weight_gradient<S, S>({.d_y = y,
                                         .x = rows,
                                         .tokens = count,
                                         .in = channels,
                                         .out = some.count,
                                         .d_y_token = some.count,
                                         .x_token = channels,
                                         .d_w = d_vectors + some.of * channels,
                                         .d_w_row = channels});
}
/// d_shift[c] += sum over n of rows[n, c], in the order of n.
template <class S>
void add_row_sums(const S* rows, index_t count, index_t channels, S* d_shift) {
  kernels::linear_weight_gradient<S, S>({.d_y = rows,
                                         .x = rows,
                                         .tokens = count,
                                         .in = 0,
                                         .out = channels,
                                         .d_y_token = channels,
                                         .x_token = channels,
                                         .d_w = d_shift,
                                         .d_w_row = 0,
                                         .d_bias = d_shift});
}
/// folded[n, v] = the sum of the weights of query n on the keys whose vector v is.
template <class W, class S>
void fold(const score_view<const W>& weights, const relative_product<S>& product, index_t b, index_t h, index_t query, index_t count,
          const needed_vectors& some, S* folded) {
  std::fill_n(folded, count * some.count, S(0));
  // The kernel writes to scores that are scaled or masked only.
  const score_view<W> unchanged(const_cast<W*>(weights.data()), weights.extents(), weights.strides());
  const auto block = block_of(unchanged, unchanged, product.at, {}, b, h, 1, query, count);
  for_each_call(block, product_call<kernel_scalar<W>, S>(block, some, product.vectors.clip, nullptr),
                [&](const auto& call, index_t) { kernels::table_bias_gradient<kernel_scalar<W>, S>({call, folded}); });
}

/// What a product with a query costs, roughly.
template <class S>
double nanoseconds_per_product(index_t channels) {
  return 0.012 * static_cast<double>(sizeof(S)) * static_cast<double>(channels);
}

}  // namespace detail

}  // namespace POSENC_NAMESPACE
