// SPDX-License-Identifier: MIT
/// \file  Products of queries with vectors of distances, added to scores, and of weights with them, added to contexts: matrix products of a
///        block of queries with all vectors, whose entries are then read along diagonals. Nothing of `[query, key, channel]` is made.
#pragma once

#include <posenc/bias_verbs.hpp>  // block_of, for_each_score_block
#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/executor.hpp>
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
#include <vector>

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
/// rows[n] = sum over v of y[n, v] vector v.
template <class S>
void multiply_transposed(const relative_vectors<S>& vectors, const needed_vectors& some, index_t h, index_t channels, const S* y,
                         index_t count, S* rows) {
  kernels::linear_input_gradient<S, S>({.d_y = y,
                                        .d_x = rows,
                                        .tokens = count,
                                        .in = channels,
                                        .out = some.count,
                                        .d_y_token = some.count,
                                        .d_x_token = channels,
                                        .w = vectors.data + h * vectors.head + some.of * vectors.distance,
                                        .w_row = vectors.distance,
                                        .accumulate = false});
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

/// out = in * pass.scale + ((x + shift) * factor) . vector + key value, and minus infinity where masked. x: `[batch, time, head, channel]`,
/// the queries (or what else stands for them).
template <class T, class In, class Q, class S>
void add_relative_products(const score_view<In>& in, const score_view<T>& out, const head_view<const Q>& x,
                           const relative_product<S>& product, const executor& run) {
  if (out.empty()) return;
  const index_t heads = out.extent(1), queries = out.extent(2), keys = out.extent(3), channels = x.channels();
  const index_t most = product.most(queries, keys), together = product.together(queries, most),
                blocks = (queries + together - 1) / together;
  const index_t items = out.extent(0) * heads * blocks, spare = together * (channels + most);
  const double cost =
      static_cast<double>(out.extent(0) * heads * queries) *
      (nanoseconds_per_product<S>(channels) * static_cast<double>(most) + nanoseconds_per_value<T> * static_cast<double>(keys));
  const index_t parts = run.parts(items, cost);
  std::vector<S> memory(static_cast<std::size_t>(parts * spare));
  run.split(items, parts, [&](index_t part, index_t from, index_t to) {
    S* const rows = memory.data() + part * spare;
    S* const products = rows + together * channels;
    for (; from < to; ++from) {
      const index_t b = from / (heads * blocks), h = from / blocks % heads, query = from % blocks * together;
      const index_t count = std::min(together, queries - query);
      const needed_vectors some = needed(product, b, query, count);
      widen_rows(x, b, query, count, h, rows, product.query_shift ? product.query_shift + h * channels : nullptr, product.factor);
      multiply(product.vectors, some, h, channels, rows, count, products);
      const auto block = block_of(in, out, product.at, product.pass, b, h, 1, query, count);
      const S* const key_values = product.key_values ? product.key_values + (b * heads + h) * keys : nullptr;
      for_each_call(block, product_call(block, some, product.vectors.clip, products, key_values),
                    [](const auto& call, index_t) { kernels::table_bias(call); });
    }
  });
}

/// The distance of a value that no pair of tokens has, where there is no vector.
inline constexpr needed_vectors no_vectors{positions::limit, 0, 1};

/// out = in * pass.scale, and minus infinity where masked: what is left of `add_relative_products` where there are no vectors.
template <class T, class In>
void pass_scores(const score_view<In>& in, const score_view<T>& out, const attention_positions& at, const score_pass& pass,
                 const executor& run) {
  for_each_score_block(out, run, nanoseconds_per_value<T>, [&](index_t b, index_t head, index_t heads, index_t query, index_t queries) {
    const compute_t<T> zero = 0;
    const auto block = block_of(in, out, at, pass, b, head, heads, query, queries);
    for_each_call(block, product_call(block, no_vectors, false, &zero), [](const auto& call, index_t) { kernels::table_bias(call); });
  });
}
/// Its gradient, in place.
template <class T>
void pass_scores_gradient(const score_view<T>& d, const attention_positions& at, const score_pass& pass, const executor& run) {
  for_each_score_block(d, run, nanoseconds_per_value<T>, [&](index_t b, index_t head, index_t heads, index_t query, index_t queries) {
    compute_t<T> unused = 0;
    const auto block = block_of(d, d, at, pass, b, head, heads, query, queries);
    for_each_call(block, product_call<kernel_scalar<T>, compute_t<T>>(block, no_vectors, false, nullptr),
                  [&](const auto& call, index_t) { kernels::table_bias_gradient<kernel_scalar<T>, compute_t<T>>({call, &unused}); });
  });
}

/// Where the gradients of `add_relative_products` are added to.
template <class S, class Q>
struct relative_product_gradient {
  const head_view<Q>& x;  ///< empty: not asked for
  S* vectors = nullptr;  ///< `[head, distance, channel]` without gaps, a part for each head even where they share the vectors
  S* query_shift = nullptr;  ///< `[head, channel]`, but for the factor; null: not asked for
  S* key_values = nullptr;  ///< `[batch, head, key]`; null: not asked for
};

/// The gradient: d_scores becomes that of the scores that came in. By heads alone: the order of a sum must not depend on the threads.
template <class T, class Q, class S>
void add_relative_products_gradient(const score_view<T>& d_scores, const head_view<const Q>& x, const relative_product<S>& product,
                                    const relative_product_gradient<S, Q>& d, const executor& run) {
  if (d_scores.empty()) return;
  const index_t batch = d_scores.extent(0), heads = d_scores.extent(1), queries = d_scores.extent(2), keys = d_scores.extent(3);
  const index_t channels = x.channels(), most = product.most(queries, keys), together = product.together(queries, most);
  const index_t spare = together * (2 * channels + most);
  const double cost = static_cast<double>(batch * heads * queries) * (3 * nanoseconds_per_product<S>(channels) * static_cast<double>(most) +
                                                                      4 * nanoseconds_per_value<T> * static_cast<double>(keys));
  const index_t parts = run.parts(heads, cost);
  std::vector<S> memory(static_cast<std::size_t>(parts * spare));
  run.split(heads, parts, [&](index_t part, index_t from, index_t to) {
    S* const rows = memory.data() + part * spare;
    S* const d_rows = rows + together * channels;
    S* const d_products = d_rows + together * channels;
    for (index_t h = from; h < to; ++h)
      for (index_t b = 0; b < batch; ++b)
        for (index_t query = 0, count; query < queries; query += count) {
          count = std::min(together, queries - query);
          const needed_vectors some = needed(product, b, query, count);
          std::fill_n(d_products, count * some.count, S(0));
          const auto block = block_of(d_scores, d_scores, product.at, product.pass, b, h, 1, query, count);
          S* const d_keys = d.key_values ? d.key_values + (b * heads + h) * keys : nullptr;
          for_each_call(block, product_call<kernel_scalar<T>, S>(block, some, product.vectors.clip, nullptr),
                        [&](const auto& call, index_t k) {
                          kernels::table_bias_gradient<kernel_scalar<T>, S>({call, d_products, d_keys ? d_keys + k : nullptr});
                        });
          if (d.vectors) {
            widen_rows(x, b, query, count, h, rows, product.query_shift ? product.query_shift + h * channels : nullptr, product.factor);
            add_vector_gradient(rows, d_products, count, channels, some, d.vectors + h * product.vectors.count * channels);
          }
          if (!d.x && !d.query_shift) continue;
          multiply_transposed(product.vectors, some, h, channels, d_products, count, d_rows);
          if (d.x) add_rows(d.x, b, query, count, h, d_rows, product.factor);
          if (d.query_shift) add_row_sums(d_rows, count, channels, d.query_shift + h * channels);
        }
  });
}

/// y[b, i, h] += sum over keys j of weights[b, h, i, j] vector(j - i): y is `[batch, time, head, channel]`.
template <class T, class W, class S>
void add_relative_values(const head_view<T>& y, const score_view<const W>& weights, const relative_product<S>& product,
                         const executor& run) {
  if (weights.empty()) return;
  const index_t heads = weights.extent(1), queries = weights.extent(2), keys = weights.extent(3), channels = y.channels();
  const index_t most = product.most(queries, keys), together = product.together(queries, most),
                blocks = (queries + together - 1) / together;
  const index_t items = weights.extent(0) * heads * blocks, spare = together * (channels + most);
  const double cost =
      static_cast<double>(weights.extent(0) * heads * queries) *
      (nanoseconds_per_product<S>(channels) * static_cast<double>(most) + nanoseconds_per_value<W> * static_cast<double>(keys));
  const index_t parts = run.parts(items, cost);
  std::vector<S> memory(static_cast<std::size_t>(parts * spare));
  run.split(items, parts, [&](index_t part, index_t from, index_t to) {
    S* const rows = memory.data() + part * spare;
    S* const folded = rows + together * channels;
    for (; from < to; ++from) {
      const index_t b = from / (heads * blocks), h = from / blocks % heads, query = from % blocks * together;
      const index_t count = std::min(together, queries - query);
      const needed_vectors some = needed(product, b, query, count);
      fold(weights, product, b, h, query, count, some, folded);
      multiply_transposed(product.vectors, some, h, channels, folded, count, rows);
      add_rows(y, b, query, count, h, rows, S(1));
    }
  });
}

/// The gradient of the vectors of `add_relative_values`, a part for each head; that of the weights is `add_relative_products` of d_y.
template <class T, class W, class S>
void add_relative_values_gradient(const head_view<const T>& d_y, const score_view<const W>& weights, const relative_product<S>& product,
                                  S* d_vectors, const executor& run) {
  if (weights.empty()) return;
  const index_t heads = weights.extent(1), queries = weights.extent(2), keys = weights.extent(3), channels = d_y.channels();
  const index_t most = product.most(queries, keys), together = product.together(queries, most), spare = together * (channels + most);
  const double cost =
      static_cast<double>(weights.extent(0) * heads * queries) *
      (nanoseconds_per_product<S>(channels) * static_cast<double>(most) + nanoseconds_per_value<W> * static_cast<double>(keys));
  const index_t parts = run.parts(heads, cost);
  std::vector<S> memory(static_cast<std::size_t>(parts * spare));
  run.split(heads, parts, [&](index_t part, index_t from, index_t to) {
    S* const rows = memory.data() + part * spare;
    S* const folded = rows + together * channels;
    for (index_t h = from; h < to; ++h)
      for (index_t b = 0; b < weights.extent(0); ++b)
        for (index_t query = 0, count; query < queries; query += count) {
          count = std::min(together, queries - query);
          const needed_vectors some = needed(product, b, query, count);
          fold(weights, product, b, h, query, count, some, folded);
          widen_rows<T, S>(d_y, b, query, count, h, rows, nullptr, S(1));
          add_vector_gradient(rows, folded, count, channels, some, d_vectors + h * product.vectors.count * channels);
        }
  });
}

}  // namespace detail

}  // namespace POSENC_NAMESPACE
