// SPDX-License-Identifier: MIT
/// \file  Products of queries with relative keys and of keys with relative queries, picked by distance: the terms of DeBERTa's attention.
///        They are formed for blocks of queries and keys, with the rows that their distances have. Nothing of `[query, key, channel]` is
///        made.
#pragma once

#include <posenc/bias_verbs.hpp>  // block_of
#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/executor.hpp>
#include <posenc/heads.hpp>
#include <posenc/kernels/add.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/kernels/table_bias.hpp>
#include <posenc/positions.hpp>
#include <posenc/relative/bias_table.hpp>
#include <posenc/relative/relative_products.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace POSENC_NAMESPACE {

/// Which terms join the product of content with content; names as in `pos_att_type` of configurations.
struct deberta_terms {
  bool c2p = false;  ///< content to position: q_i . relative key
  bool p2c = false;  ///< position to content: k_j . relative query
  bool p2p = false;  ///< position to position: relative query of the query's own position . relative key

  friend bool operator==(const deberta_terms&, const deberta_terms&) = default;
};

namespace detail {

/// Which row of the tables a distance (key's position minus query's) has: element n that of distance `low + n`, and beyond the ends that of
/// the end. Rows fall, or stay, as distances rise.
struct distance_rows {
  const std::int32_t* rows;
  position low, high;
  index_t of(position distance) const noexcept { return rows[std::clamp(distance, low, high) - low]; }
};

/// Which products, and what for.
template <class S>
struct disentangled_product {
  deberta_terms terms;
  relative_vectors<S> keys, queries;  ///< `[head, row, channel]`
  index_t own_row;  ///< of the relative query of position 0, for p2p
  distance_rows rows;
  const attention_positions& at;
  score_pass pass;
  S factor;  ///< multiplies the products

  bool has_queries() const noexcept { return terms.c2p || terms.p2p; }
  index_t most() const noexcept { return std::max(keys.count, queries.count); }
  /// How many queries a block has: their products stay in the second-level cache.
  index_t together(index_t time) const { return std::min(time, std::clamp<index_t>((index_t{1} << 16) / most(), 4, most_together)); }
  static constexpr index_t most_together = 128, keys_together = 64;
};

/// The rows that queries and keys of batch row b need, one at least; `of` is the first one.
template <class S>
needed_vectors needed_rows(const disentangled_product<S>& product, index_t b, const positions& queries, const positions& keys) {
  const distance_range q = positions_within(queries, b), k = positions_within(keys, b);
  if (q.low > q.high || k.low > k.high) return {0, 0, 1};
  const index_t first = product.rows.of(distance_of(k.high, q.low)), last = product.rows.of(distance_of(k.low, q.high));
  return {0, first, last - first + 1};
}

/// Spare memory of a part: a block of queries, of keys, and of both.
template <class S>
struct disentangled_spare {
  S *query_rows, *query_products, *key_rows, *key_products, *values;

  static index_t size(const disentangled_product<S>& product, index_t together, index_t channels) {
    return (together + product.keys_together) * (channels + product.most()) + together * product.keys_together;
  }
  disentangled_spare(S* memory, const disentangled_product<S>& product, index_t together, index_t channels)
      : query_rows(memory),
        query_products(query_rows + together * channels),
        key_rows(query_products + together * product.most()),
        key_products(key_rows + product.keys_together * channels),
        values(key_products + product.keys_together * product.most()) {}
};

/// Calls act(key, row) for the keys that have a position.
template <class Act>
void for_each_row(const distance_rows& rows, position query, const position_row& keys, index_t count, const Act& act) {
  for_each_piece(keys, count, true, [&](index_t from, index_t length, const kernels::key_run* runs, index_t number) {
    for (index_t r = 0; r < number; ++r) {
      if (runs[r].first == no_position) continue;
      const index_t begin = from + runs[r].begin, end = from + (r + 1 < number ? runs[r + 1].begin : length);
      const position first = std::min(distance_of(runs[r].first, query), positions::limit);  // so that the next ones do not overflow
      for (index_t j = begin; j < end; ++j) act(j, rows.of(first + (j - begin)));
    }
  });
}

/// The row of the relative query of a position.
template <class S>
index_t own_row(const disentangled_product<S>& product, position at) {
  return std::clamp(at, -product.own_row, product.queries.count - 1 - product.own_row) + product.own_row;
}

/// What the relative keys are multiplied with: the queries (c2p), the relative queries of their positions (p2p), or both; times the factor.
template <class S, class Q>
void query_rows(const disentangled_product<S>& product, const head_view<const Q>& x, index_t b, index_t query, index_t count, index_t h,
                index_t channels, S* rows) {
  if (product.terms.c2p) widen_rows<Q, S>(x, b, query, count, h, rows, nullptr, product.factor);
  else std::fill_n(rows, count * channels, S(0));
  if (!product.terms.p2p) return;
  std::array<std::int64_t, disentangled_product<S>::most_together> ids;
  const position_row at = product.at.queries.row(b).from(query);
  for (index_t i = 0; i < count; ++i) ids[static_cast<std::size_t>(i)] = at[i] == no_position ? no_position : own_row(product, at[i]);
  const kernels::code_source<S> source{
      .table = product.queries.data + h * product.queries.head, .batch = 0, .time = channels, .ids = ids.data(), .scale = product.factor};
  kernels::add<S>({.in = rows,
                   .out = rows,
                   .sources = &source,
                   .count = 1,
                   .batch = 1,
                   .time = count,
                   .channels = channels,
                   .in_batch = 0,
                   .in_time = channels,
                   .out_batch = 0,
                   .out_time = channels});
}

/// The kernel's call for keys [key, key + count) of a block of one head, whose values `[query, key]` are keys_together apart.
template <class T, class S>
kernels::table_bias_call<T> value_call(kernels::score_block<T> block, index_t key, index_t count, const S* values) {
  block.scores += key, block.keys = count, block.key_first += key;
  if (block.in) block.in += key;
  if (block.key_ids) block.key_ids += key;
  return {block, nullptr, 0, values, 0, disentangled_product<S>::keys_together, kernels::value_of::key, 0, count, false};
}
/// Calls act(call, from) for calls that together are the block's, with values by the number of the key.
template <class T, class Act>
void for_each_value_call(const kernels::table_bias_call<T>& all, const Act& act) {
  for_each_call(all, all, [&](auto call, index_t from) {
    if (call.values) call.values += from;
    call.count = call.keys;
    act(call, from);
  });
}

/// out = in * pass.scale + the terms, and minus infinity where masked.
template <class T, class In, class Q, class S>
void add_disentangled(const score_view<In>& in, const score_view<T>& out, const head_view<const Q>& q, const head_view<const Q>& k,
                      const disentangled_product<S>& product, index_t channels, const executor& run) {
  const index_t heads = out.extent(1), queries = out.extent(2), keys = out.extent(3), together = product.together(queries);
  const index_t blocks = (queries + together - 1) / together, items = out.extent(0) * heads * blocks;
  const index_t sharing = product.terms.p2c ? heads / k.count() : 1, spare = disentangled_spare<S>::size(product, together, channels);
  const double cost = static_cast<double>(items * together) * static_cast<double>(std::max(keys, product.most())) *
                      (3 * nanoseconds_per_product<S>(channels) + 2);
  const index_t parts = run.parts(items, cost);
  std::vector<S> memory(static_cast<std::size_t>(parts * spare));
  run.split(items, parts, [&](index_t part, index_t from, index_t to) {
    const disentangled_spare<S> own(memory.data() + part * spare, product, together, channels);
    for (; from < to; ++from) {
      const index_t b = from / (heads * blocks), h = from / blocks % heads, query = from % blocks * together;
      const index_t count = std::min(together, queries - query);
      const positions at = product.at.queries.slice(query, count);
      const auto block = block_of(in, out, product.at, product.pass, b, h, 1, query, count);
      const needed_vectors ours = needed_rows(product, b, at, product.at.keys);
      if (product.has_queries()) {
        query_rows(product, q, b, query, count, h, channels, own.query_rows);
        multiply(product.keys, ours, h, channels, own.query_rows, count, own.query_products);
      }
      for (index_t key = 0; key < keys; key += product.keys_together) {
        const index_t some = std::min(product.keys_together, keys - key);
        const positions key_at = product.at.keys.slice(key, some);
        const needed_vectors theirs = needed_rows(product, b, at, key_at);
        if (product.terms.p2c) {
          widen_rows<Q, S>(k, b, key, some, h / sharing, own.key_rows, nullptr, product.factor);
          multiply(product.queries, theirs, h, channels, own.key_rows, some, own.key_products);
        }
        for (index_t i = 0; i < count; ++i) {
          if (at(b, i) == no_position) continue;
          S* const values = own.values + i * product.keys_together;
          const S* const mine = own.query_products + i * ours.count - ours.of;
          const S* const other = own.key_products - theirs.of;
          const auto each = [&](const auto& value) {
            for_each_row(product.rows, at(b, i), key_at.row(b), some, [&](index_t j, index_t row) { values[j] = value(j, row); });
          };
          if (!product.terms.p2c) each([&](index_t, index_t row) { return mine[row]; });
          else if (!product.has_queries()) each([&](index_t j, index_t row) { return other[j * theirs.count + row]; });
          else each([&](index_t j, index_t row) { return mine[row] + other[j * theirs.count + row]; });
        }
        for_each_value_call(value_call(block, key, some, own.values), [](const auto& call, index_t) { kernels::table_bias(call); });
      }
    }
  });
}

/// Where the gradients of `add_disentangled` are added to; those of the tables are without gaps.
template <class S, class Q>
struct disentangled_gradient {
  const head_view<Q>&queries, &keys;  ///< empty: not asked for
  S *relative_keys, *relative_queries;
};

/// The gradient: d_scores becomes that of the scores that came in. By heads of keys alone: the order of a sum must not depend on the
/// threads.
template <class T, class Q, class S>
void add_disentangled_gradient(const score_view<T>& d_scores, const head_view<const Q>& q, const head_view<const Q>& k,
                               const disentangled_product<S>& product, index_t channels, const disentangled_gradient<S, Q>& d,
                               const executor& run) {
  const index_t batch = d_scores.extent(0), heads = d_scores.extent(1), queries = d_scores.extent(2), keys = d_scores.extent(3);
  const index_t together = product.together(queries), groups = product.terms.p2c ? k.count() : heads, sharing = heads / groups;
  const index_t spare = 2 * disentangled_spare<S>::size(product, together, channels) + keys * channels;
  const double cost = static_cast<double>(batch * heads * queries) * static_cast<double>(std::max(keys, product.most())) *
                      (8 * nanoseconds_per_product<S>(channels) + 4);
  const index_t parts = run.parts(groups, cost);
  std::vector<S> memory(static_cast<std::size_t>(parts * spare));

  const auto run_block = [&](const disentangled_spare<S>& own, const disentangled_spare<S>& d_own, S* d_keys, index_t b, index_t h,
                             index_t query, index_t count) {
    const positions at = product.at.queries.slice(query, count);
    const auto block = block_of(d_scores, d_scores, product.at, product.pass, b, h, 1, query, count);
    const needed_vectors ours = needed_rows(product, b, at, product.at.keys);
    std::fill_n(d_own.query_products, count * ours.count, S(0));
    for (index_t key = 0; key < keys; key += product.keys_together) {
      const index_t some = std::min(product.keys_together, keys - key);
      const positions key_at = product.at.keys.slice(key, some);
      const needed_vectors theirs = needed_rows(product, b, at, key_at);
      std::fill_n(d_own.values, count * product.keys_together, S(0));
      for_each_value_call(value_call<kernel_scalar<T>, S>(block, key, some, nullptr), [&](const auto& call, index_t from) {
        kernels::table_bias_gradient<kernel_scalar<T>, S>({call, d_own.values + from});
      });
      std::fill_n(d_own.key_products, some * theirs.count, S(0));
      for (index_t i = 0; i < count; ++i) {
        if (at(b, i) == no_position) continue;
        const S* const values = d_own.values + i * product.keys_together;
        S* const mine = d_own.query_products + i * ours.count - ours.of;
        S* const other = d_own.key_products - theirs.of;
        for_each_row(product.rows, at(b, i), key_at.row(b), some, [&](index_t j, index_t row) {
          mine[row] += values[j];
          other[j * theirs.count + row] += values[j];
        });
      }
      if (!product.terms.p2c) continue;
      widen_rows<Q, S>(k, b, key, some, h / sharing, own.key_rows, nullptr, product.factor);
      add_vector_gradient(own.key_rows, d_own.key_products, some, channels, theirs, d.relative_queries + h * product.queries.head);
      if (!d.keys) continue;
      kernels::linear_input_gradient<S, S>({.d_y = d_own.key_products,
                                            .d_x = d_keys + key * channels,
                                            .tokens = some,
                                            .in = channels,
                                            .out = theirs.count,
                                            .d_y_token = theirs.count,
                                            .d_x_token = channels,
                                            .w = product.queries.data + h * product.queries.head + theirs.of * channels,
                                            .w_row = channels,
                                            .accumulate = true});
    }
    if (!product.has_queries()) return;
    query_rows(product, q, b, query, count, h, channels, own.query_rows);
    add_vector_gradient(own.query_rows, d_own.query_products, count, channels, ours, d.relative_keys + h * product.keys.head);
    multiply_transposed(product.keys, ours, h, channels, d_own.query_products, count, d_own.query_rows);
    if (product.terms.c2p && d.queries) add_rows(d.queries, b, query, count, h, d_own.query_rows, product.factor);
    if (!product.terms.p2p) return;
    const tensor_view<S, 4> own_rows(d.relative_queries, {heads, product.queries.count, 1, channels});
    for (index_t i = 0; i < count; ++i)
      if (at(b, i) != no_position)
        add_rows(head_view<S>(own_rows), h, own_row(product, at(b, i)), 1, 0, d_own.query_rows + i * channels, product.factor);
  };

  run.split(groups, parts, [&](index_t part, index_t from, index_t to) {
    S* const mine = memory.data() + part * spare;
    const disentangled_spare<S> own(mine, product, together, channels);
    const disentangled_spare<S> d_own(mine + disentangled_spare<S>::size(product, together, channels), product, together, channels);
    S* const d_keys = mine + spare - keys * channels;
    for (index_t group = from; group < to; ++group)
      for (index_t b = 0; b < batch; ++b) {
        std::fill_n(d_keys, keys * channels, S(0));
        for (index_t h = group * sharing; h < (group + 1) * sharing; ++h)
          for (index_t query = 0; query < queries; query += together)
            run_block(own, d_own, d_keys, b, h, query, std::min(together, queries - query));
        if (product.terms.p2c && d.keys) add_rows(d.keys, b, 0, keys, group, d_keys, product.factor);
      }
  });
}

}  // namespace detail

}  // namespace POSENC_NAMESPACE
