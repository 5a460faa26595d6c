// SPDX-License-Identifier: MIT
/// \file  Products of queries with vectors of distances, added to scores, and of weights with them, added to contexts: matrix products of a
///        block of queries with all vectors, whose entries are then read along diagonals. Nothing of `[query, key, channel]` is made.
#pragma once

#include <posenc/bias_verbs.hpp>  // block_of, for_each_score_block
#include <posenc/config.hpp>
#include <posenc/executor.hpp>
#include <posenc/heads.hpp>
#include <posenc/kernels/table_bias.hpp>
#include <posenc/positions.hpp>
#include <posenc/relative/bias_table.hpp>
#include <posenc/relative/relative_vectors.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace POSENC_NAMESPACE {

namespace detail {

/// What the work on blocks of queries takes, and how it is shared by threads.
struct product_work {
  bool by_heads;  ///< a head in one thread, batch rows and queries in order: sums over them must not depend on the threads
  double products;  ///< with each vector
  double nanoseconds_per_key;
};

/// Calls act(b, head, query, queries, needed vectors, rows, products) for blocks of queries that together are the scores `[batch, head,
/// query, key]`; there is memory for the rows and for a product per query and needed vector.
template <class S, class Act>
void for_each_product_block(const std::array<index_t, 4>& scores, index_t channels, const relative_product<S>& product,
                            const product_work& work, const executor& run, const Act& act) {
  const index_t batch = scores[0], heads = scores[1], queries = scores[2], keys = scores[3];
  const index_t most = product.most(queries, keys), together = product.together(queries, most);
  const index_t blocks = (queries + together - 1) / together, spare = together * (channels + most);
  const index_t unit = work.by_heads ? batch * blocks : 1, units = batch * heads * blocks / unit;
  const double cost =
      static_cast<double>(batch * heads * queries) * (work.products * nanoseconds_per_product<S>(channels) * static_cast<double>(most) +
                                                      work.nanoseconds_per_key * static_cast<double>(keys));
  const index_t parts = run.parts(units, cost);
  std::vector<S> memory(static_cast<std::size_t>(parts * spare));
  run.split(units, parts, [&](index_t part, index_t from, index_t to) {
    S* const rows = memory.data() + part * spare;
    for (index_t item = from * unit; item < to * unit; ++item) {
      const index_t h = item / (batch * blocks), b = item / blocks % batch, query = item % blocks * together;
      const index_t count = std::min(together, queries - query);
      act(b, h, query, count, needed(product, b, query, count), rows, rows + together * channels);
    }
  });
}

/// out = in * pass.scale + ((x + shift) * factor) . vector + key value, and minus infinity where masked. x: `[batch, time, head, channel]`,
/// the queries (or what else stands for them).
template <class T, class In, class Q, class S>
void add_relative_products(const score_view<In>& in, const score_view<T>& out, const head_view<const Q>& x,
                           const relative_product<S>& product, const executor& run) {
  if (out.empty()) return;
  const index_t heads = out.extent(1), keys = out.extent(3), channels = x.channels();
  for_each_product_block(
      out.extents(), channels, product, {.by_heads = false, .products = 1, .nanoseconds_per_key = nanoseconds_per_value<T>}, run,
      [&](index_t b, index_t h, index_t query, index_t count, const needed_vectors& some, S* rows, S* products) {
        widen_rows(x, b, query, count, h, rows, product.query_shift ? product.query_shift + h * channels : nullptr, product.factor);
        multiply(product.vectors, some, h, channels, rows, count, products);
        const auto block = block_of(in, out, product.at, product.pass, b, h, 1, query, count);
        const S* const key_values = product.key_values ? product.key_values + (b * heads + h) * keys : nullptr;
        for_each_call(block, product_call(block, some, product.vectors.clip, products, key_values),
                      [](const auto& call, index_t) { kernels::table_bias(call); });
      });
}

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

/// The gradient: d_scores becomes that of the scores that came in.
template <class T, class Q, class S>
void add_relative_products_gradient(const score_view<T>& d_scores, const head_view<const Q>& x, const relative_product<S>& product,
                                    const relative_product_gradient<S, Q>& d, const executor& run) {
  if (d_scores.empty()) return;
  const index_t heads = d_scores.extent(1), keys = d_scores.extent(3), channels = x.channels();
  for_each_product_block(
      d_scores.extents(), channels, product, {.by_heads = true, .products = 3, .nanoseconds_per_key = 4 * nanoseconds_per_value<T>}, run,
      [&](index_t b, index_t h, index_t query, index_t count, const needed_vectors& some, S* rows, S* d_products) {
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
        if (!d.x && !d.query_shift) return;
        multiply_transposed(product.vectors, some, h, channels, d_products, count, rows);
        if (d.x) add_rows(d.x, b, query, count, h, rows, product.factor);
        if (d.query_shift) add_row_sums(rows, count, channels, d.query_shift + h * channels);
      });
}

/// y[b, i, h] += sum over keys j of weights[b, h, i, j] vector(j - i): y is `[batch, time, head, channel]`.
template <class T, class W, class S>
void add_relative_values(const head_view<T>& y, const score_view<const W>& weights, const relative_product<S>& product,
                         const executor& run) {
  if (weights.empty()) return;
  for_each_product_block(weights.extents(), y.channels(), product,
                         {.by_heads = false, .products = 1, .nanoseconds_per_key = nanoseconds_per_value<W>}, run,
                         [&](index_t b, index_t h, index_t query, index_t count, const needed_vectors& some, S* rows, S* folded) {
                           fold(weights, product, b, h, query, count, some, folded);
                           multiply_transposed(product.vectors, some, h, y.channels(), folded, count, rows);
                           add_rows(y, b, query, count, h, rows, S(1));
                         });
}

/// The gradient of the vectors of `add_relative_values`, a part for each head; that of the weights is `add_relative_products` of d_y.
template <class T, class W, class S>
void add_relative_values_gradient(const head_view<const T>& d_y, const score_view<const W>& weights, const relative_product<S>& product,
                                  S* d_vectors, const executor& run) {
  if (weights.empty()) return;
  const index_t channels = d_y.channels();
  for_each_product_block(weights.extents(), channels, product,
                         {.by_heads = true, .products = 1, .nanoseconds_per_key = nanoseconds_per_value<W>}, run,
                         [&](index_t b, index_t h, index_t query, index_t count, const needed_vectors& some, S* rows, S* folded) {
                           fold(weights, product, b, h, query, count, some, folded);
                           widen_rows<T, S>(d_y, b, query, count, h, rows, nullptr, S(1));
                           add_vector_gradient(rows, folded, count, channels, some, d_vectors + h * product.vectors.count * channels);
                         });
}

}  // namespace detail

}  // namespace POSENC_NAMESPACE
