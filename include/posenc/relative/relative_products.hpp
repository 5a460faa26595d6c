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
#include <vector>

namespace POSENC_NAMESPACE {

namespace detail {

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
