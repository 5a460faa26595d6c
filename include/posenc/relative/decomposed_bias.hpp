// SPDX-License-Identifier: MIT
/// \file  Decomposed relative biases of pictures and films: a product of the query with a vector per axis. Li et al. 2022, "MViTv2".
#pragma once

#include <posenc/bias_verbs.hpp>  // require_scores_match
#include <posenc/concepts.hpp>    // contextual_bias_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>       // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>   // parameter, attention_gradients
#include <posenc/heads.hpp>
#include <posenc/kernels/table_bias.hpp>
#include <posenc/positions.hpp>
#include <posenc/relative/bias_table.hpp>
#include <posenc/relative/relative_products.hpp>
#include <posenc/relative/require_inputs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>  // abs
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

struct decomposed_bias_options {
  std::vector<index_t> extents;     ///< of the grid, slowest axis first: {height, width}, {time, height, width}; 1 to 3 of them
  required<index_t> channels;       ///< of a head
  std::vector<index_t> zero_rows{}; ///< which row is that of distance 0 on each axis; none: the middle one. See `pooled_zero_row`
  double scale = 1;                 ///< multiplies the products

  friend bool operator==(const decomposed_bias_options&, const decomposed_bias_options&) = default;
};

/// MViTv2's row of distance 0 where pooling leaves `queries` and `keys` cells along an axis: (keys - 1) max(queries / keys, 1), in a table
/// of 2 max(queries, keys) - 1 rows. Cells then stand max(keys / queries, 1) and max(queries / keys, 1) apart (`grid::step`).
/// \throws argument_error  unless the one is a multiple of the other: the original truncates fractions, pair by pair.
inline index_t pooled_zero_row(index_t queries, index_t keys) {
  require(queries > 0 && keys > 0 && (queries % keys == 0 || keys % queries == 0), "decomposed_bias",
          "one of queries and keys along an axis must be a multiple of the other", queries, keys);
  return (keys - 1) * std::max<index_t>(queries / keys, 1);
}

/// scores[b, h, i, j] += scale * (sum over axes of q_i . table_axis[i_axis - j_axis + zero row]), after the scale of q.k and of the query
/// before scaling, as in MViTv2, ViTDet and SAM (there `add_decomposed_rel_pos`). All heads share the tables `[2 extent - 1, channels]`,
/// which are the parameters "time", "height", "width" (rel_pos_t, rel_pos_h, rel_pos_w), the last ones of as many as there are axes.
///
/// Positions have the axes of the grid, as `grid_positions` makes them, and no two cells may be farther apart than a table reaches; queries
/// and keys may be different cells. Tokens without a position (class token) get nothing. For another picture size, `resize` the tables.
///
/// Products are matrix products of a block of queries with the tables; their sums are formed in the pass over the scores, along the rows of
/// the grid: nothing of `[query, key]` is made. Scores have the same bits for any number of threads, and of the queries and keys of a call.
/// Allocates 256 KB a thread or so. Storage of 16 bits computes in float and rounds once.
template <compute_scalar S>
class decomposed_bias {
 public:
  using scalar = S;

  /// Tables of zeros, as in SAM: see `initialize` for what else to fill them with, by `parameters()`.
  /// \throws argument_error  unless there are 1 to 3 positive extents, channels are positive, zero rows lie in the tables and the scale is
  ///                         finite.
  explicit decomposed_bias(decomposed_bias_options options) : options_(std::move(options)) {
    require(!options_.extents.empty() && options_.extents.size() <= most_axes, name(), "there must be 1 to 3 extents",
            options_.extents.size());
    require(channels() > 0, name(), "channels must be positive", channels());
    require(std::abs(options_.scale) <= double{std::numeric_limits<S>::max()}, name(), "scale must be finite", options_.scale);
    require(options_.zero_rows.empty() || options_.zero_rows.size() == options_.extents.size(), name(),
            "there must be one zero row per extent", options_.extents.size(), options_.zero_rows.size());
    for (std::size_t axis = 0; axis < options_.extents.size(); ++axis) {
      const index_t extent = options_.extents[axis];
      require(extent > 0 && extent <= std::numeric_limits<std::int32_t>::max() / 2, name(), "extents must lie in [1, 2^30)", extent);
      if (!options_.zero_rows.empty())
        require(options_.zero_rows[axis] >= 0 && options_.zero_rows[axis] < 2 * extent - 1, name(), "zero rows must lie in the tables",
                2 * extent - 1, options_.zero_rows[axis]);
      tables_.emplace_back(static_cast<std::size_t>(checked_product(name(), std::array{2 * extent - 1, channels()}, sizeof(S))));
    }
  }
  /// \param tables  one per axis, copied. \throws argument_error  as above, and unless they have (2 extent - 1) * channels values.
  decomposed_bias(decomposed_bias_options options, const std::vector<std::span<const S>>& tables) : decomposed_bias(std::move(options)) {
    require(tables.size() == tables_.size(), name(), "there must be one table per extent", tables_.size(), tables.size());
    for (std::size_t axis = 0; axis < tables.size(); ++axis) {
      require(tables[axis].size() == tables_[axis].size(), name(), "a table must have 2 extent - 1 rows of channels", tables_[axis].size(),
              tables[axis].size());
      std::ranges::copy(tables[axis], tables_[axis].begin());
    }
  }

  static constexpr std::string_view name() noexcept { return "decomposed_bias"; }
  const decomposed_bias_options& options() const noexcept { return options_; }
  index_t channels() const noexcept { return options_.channels; }
  index_t axes() const noexcept { return static_cast<index_t>(tables_.size()); }

  std::vector<parameter<S>> parameters() {
    static constexpr std::array<std::string_view, most_axes> names{"time", "height", "width"};
    std::vector<parameter<S>> all;
    for (std::size_t axis = 0; axis < tables_.size(); ++axis)
      all.push_back({names[most_axes - tables_.size() + axis], tables_[axis], {rows(static_cast<index_t>(axis)), channels()}});
    return all;
  }

  /// The checks of `bias`, alone: \throws argument_error  where it would.
  template <class T, class Q>
    requires(writable_as<T, S> && readable_as<Q, S>)
  void require_fits(const score_view<T>& scores, const attention_inputs<Q>& inputs, const attention_positions& at) const {
    detail::require_scores_match(name(), at, scores.extent(0), scores.extent(2), scores.extent(3), axes());
    require_output(name(), scores);
    if (scores.empty()) return;
    detail::require_queries(name(), scores, inputs.queries, channels());
    for (index_t b = 0; b < std::max<index_t>({at.queries.batch(), at.keys.batch(), 1}); ++b)
      for (index_t axis = 0; axis < axes(); ++axis) {
        const distance_range q = detail::positions_within(at.queries, b, axis), k = detail::positions_within(at.keys, b, axis);
        if (q.low > q.high || k.low > k.high) continue;
        const position least = detail::distance_of(q.low, k.high), most = detail::distance_of(q.high, k.low), zero = zero_row(axis);
        require(least >= -zero && most < rows(axis) - zero, name(), "cells must not be farther apart than a table reaches", rows(axis),
                least < -zero ? least : most);
      }
  }

  /// scores += ..., in place; a `score_pass` scales before it. \throws argument_error  for a causal mask: cells have no order.
  template <writable_tensor T, class Q>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const attention_positions& at, const score_pass& pass,
            const executor& run = {}) const {
    const score_view<element_t<T>> s = scores;
    require_fits(s, inputs, at);
    require_no_mask(pass);
    if (s.empty()) return;
    const std::vector<key_rows> keys = rows_of_keys(at.keys);
    const index_t heads = s.extent(1), queries = s.extent(2), most = most_runs(keys);
    const index_t together = block_of_queries(queries, most), blocks = (queries + together - 1) / together;
    const index_t items = s.extent(0) * heads * blocks, spare = spare_values(together, most);
    const double cost = nanoseconds(s);
    const index_t parts = run.parts(items, cost);
    std::vector<S> memory(static_cast<std::size_t>(parts * spare));
    run.split(items, parts, [&](index_t part, index_t from, index_t to) {
      for (; from < to; ++from) {
        const index_t b = from / (heads * blocks), h = from / blocks % heads, query = from % blocks * together;
        const index_t count = std::min(together, queries - query);
        const auto own = spare_of(memory.data() + part * spare, together);
        const key_rows& some = keys[at.keys.batch() == 0 ? 0 : static_cast<std::size_t>(b)];
        detail::widen_rows<Q, S>(inputs.queries, b, query, count, h, own.rows, nullptr, static_cast<S>(options_.scale));
        for (index_t axis = 0; axis < axes(); ++axis)
          detail::multiply(vectors(axis), all_of(axis), 0, channels(), own.rows, count, own.products[static_cast<std::size_t>(axis)]);
        const auto queries_at = at.queries.slice(query, count);
        for_each_sum(queries_at, b, some, [&](index_t n, index_t axis, index_t value) {
          S& sum = own.sums[n];
          const S product = own.products[static_cast<std::size_t>(axis)][value];
          sum = axis == 0 ? product : sum + product;
        });
        kernels::table_bias(call_of(detail::block_of(s, s, at, pass, b, h, 1, query, count), queries_at, b, some, own));
      }
    });
  }
  template <writable_tensor T, class Q>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const attention_positions& at, const executor& run = {}) const {
    bias(scores, inputs, at, score_pass{}, run);
  }

  /// The gradient of `bias`: adds to d_inputs.queries, where it is given, and to d_parameters; d_scores becomes the gradient of the scores
  /// that came in, which differs only where a `score_pass` scaled. Sums over queries are taken in S, in their order, head by head.
  template <writable_tensor T, class Q>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const attention_positions& at,
                     gradient_spans<S> d_parameters, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    require_fits(d, inputs, at);
    require_no_mask(pass);
    require(d_parameters.size() == tables_.size(), name(), "there must be one gradient span per parameter", tables_.size(),
            d_parameters.size());
    for (std::size_t axis = 0; axis < tables_.size(); ++axis)
      require(d_parameters[axis].size() == tables_[axis].size(), name(), "gradient spans must have the sizes of the parameters",
              tables_[axis].size(), d_parameters[axis].size());
    if (d_inputs.queries) detail::require_gradient(name(), d_inputs.queries, inputs.queries);
    if (d.empty()) return;
    const std::vector<key_rows> keys = rows_of_keys(at.keys);
    const index_t heads = d.extent(1), queries = d.extent(2), most = most_runs(keys), together = block_of_queries(queries, most);
    const index_t spare = spare_values(together, most) + together * channels(), tables = table_values();
    const double cost = 3 * nanoseconds(d);
    const index_t parts = run.parts(heads, cost);
    std::vector<S> memory(static_cast<std::size_t>(parts * spare));
    std::vector<S> d_tables(static_cast<std::size_t>(checked_product(name(), std::array{heads, tables}, sizeof(S))));
    run.split(heads, parts, [&](index_t part, index_t from, index_t to) {  // the order of a sum must not depend on the threads
      const auto own = spare_of(memory.data() + part * spare, together);
      S* const d_rows = memory.data() + (part + 1) * spare - together * channels();
      for (index_t h = from; h < to; ++h)
        for (index_t b = 0; b < d.extent(0); ++b)
          for (index_t query = 0, count; query < queries; query += count) {
            count = std::min(together, queries - query);
            const key_rows& some = keys[at.keys.batch() == 0 ? 0 : static_cast<std::size_t>(b)];
            for (index_t axis = 0; axis < axes(); ++axis)
              std::fill_n(own.products[static_cast<std::size_t>(axis)], count * rows(axis), S(0));
            std::fill_n(own.sums, count * static_cast<index_t>(some.runs.size()), S(0));
            const auto queries_at = at.queries.slice(query, count);
            kernels::table_bias_gradient<kernel_scalar<element_t<T>>, S>(
                {call_of(detail::block_of(d, d, at, pass, b, h, 1, query, count), queries_at, b, some, own), own.products.back(), nullptr,
                 axes() > 1 ? own.sums : nullptr});
            for_each_sum(queries_at, b, some, [&](index_t n, index_t axis, index_t value) {
              own.products[static_cast<std::size_t>(axis)][value] += own.sums[n];
            });
            detail::widen_rows<Q, S>(inputs.queries, b, query, count, h, own.rows, nullptr, static_cast<S>(options_.scale));
            S* d_table = d_tables.data() + h * tables;
            for (index_t axis = 0; axis < axes(); d_table += rows(axis) * channels(), ++axis) {
              S* const d_products = own.products[static_cast<std::size_t>(axis)];
              detail::add_vector_gradient(own.rows, d_products, count, channels(), all_of(axis), d_table);
              if (d_inputs.queries)
                detail::multiply_transposed(vectors(axis), all_of(axis), 0, channels(), d_products, count, d_rows, axis > 0);
            }
            if (d_inputs.queries) detail::add_rows(d_inputs.queries, b, query, count, h, d_rows, static_cast<S>(options_.scale));
          }
    });
    const S* from = d_tables.data();
    for (index_t h = 0; h < heads; ++h)
      for (index_t axis = 0; axis < axes(); ++axis)
        for (index_t row = rows(axis); row-- > 0;)  // distances of keys from queries rise where rows fall
          for (index_t c = 0; c < channels(); ++c)
            d_parameters[static_cast<std::size_t>(axis)][static_cast<std::size_t>(row * channels() + c)] += *from++;
  }
  template <writable_tensor T, class Q>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const attention_positions& at,
                     gradient_spans<S> d_parameters, const executor& run = {}) const {
    bias_backward(d_scores, inputs, d_inputs, at, d_parameters, score_pass{}, run);
  }

  friend bool operator==(const decomposed_bias&, const decomposed_bias&) = default;

 private:
  static constexpr std::size_t most_axes = 3;

  index_t rows(index_t axis) const noexcept { return 2 * options_.extents[static_cast<std::size_t>(axis)] - 1; }
  position zero_row(index_t axis) const noexcept {
    const auto n = static_cast<std::size_t>(axis);
    return options_.zero_rows.empty() ? options_.extents[n] - 1 : options_.zero_rows[n];
  }
  void require_no_mask(const score_pass& pass) const { require(!pass.causal, name(), "cells of a grid have no causal order", "causal"); }

  /// By rising distance of the key from the query: the rows of the table from the last one on.
  relative_vectors<S> vectors(index_t axis) const noexcept {
    const auto& table = tables_[static_cast<std::size_t>(axis)];
    return {table.data() + (rows(axis) - 1) * channels(), 0, -channels(), rows(axis), lowest(axis), false};
  }
  position lowest(index_t axis) const noexcept { return zero_row(axis) - (rows(axis) - 1); }
  detail::needed_vectors all_of(index_t axis) const noexcept { return {lowest(axis), 0, rows(axis)}; }
  index_t table_values() const noexcept {
    index_t all = 0;
    for (index_t axis = 0; axis < axes(); ++axis) all += rows(axis) * channels();
    return all;
  }

  /// The keys of a batch row in rows of the grid: in a run the last coordinate counts up and the others stay.
  struct key_rows {
    std::vector<kernels::key_run> runs;
    std::vector<position> others;  ///< `[run, axis]` of all axes but the last
  };
  std::vector<key_rows> rows_of_keys(const positions& keys) const {
    std::vector<key_rows> all(static_cast<std::size_t>(std::max<index_t>(keys.batch(), 1)));
    for (index_t b = 0; b < static_cast<index_t>(all.size()); ++b)
      for (index_t j = 0; j < keys.time(); ++j) {
        const position last = keys(b, j, axes() - 1), before = j > 0 ? keys(b, j - 1, axes() - 1) : last;
        bool goes_on = j > 0 && (last == no_position ? before == no_position : before != no_position && last == before + 1);
        for (index_t axis = 0; goes_on && axis + 1 < axes(); ++axis) goes_on = keys(b, j, axis) == keys(b, j - 1, axis);
        if (goes_on) continue;
        key_rows& row = all[static_cast<std::size_t>(b)];
        row.runs.push_back({j, last});
        for (index_t axis = 0; axis + 1 < axes(); ++axis) row.others.push_back(keys(b, j, axis));
      }
    return all;
  }
  static index_t most_runs(const std::vector<key_rows>& keys) {
    index_t most = 0;
    for (const key_rows& row : keys) most = std::max(most, static_cast<index_t>(row.runs.size()));
    return most;
  }

  index_t values_per_query(index_t runs) const noexcept {
    index_t all = channels() + runs;
    for (index_t axis = 0; axis < axes(); ++axis) all += rows(axis);
    return all;
  }
  index_t block_of_queries(index_t queries, index_t runs) const noexcept {
    return detail::relative_product<S>::together(queries, values_per_query(runs));
  }
  index_t spare_values(index_t together, index_t runs) const noexcept { return together * values_per_query(runs); }
  struct spare_memory {
    S* rows;  ///< queries `[query, channel]`
    std::vector<S*> products;  ///< of each axis, `[query, distance]`
    S* sums;  ///< of the products of all axes but the last, `[query, run]`
  };
  spare_memory spare_of(S* memory, index_t together) const {
    spare_memory own{memory, {}, nullptr};
    memory += together * channels();
    for (index_t axis = 0; axis < axes(); ++axis) {
      own.products.push_back(memory);
      memory += together * rows(axis);
    }
    own.sums = memory;
    return own;
  }

  /// Calls act(place of the sum, axis, place of the product) for each query, run and axis but the last, where both have a position.
  template <class Act>
  void for_each_sum(const positions& queries, index_t b, const key_rows& keys, const Act& act) const {
    const auto runs = static_cast<index_t>(keys.runs.size());
    for (index_t axis = 0; axis + 1 < axes(); ++axis)
      for (index_t i = 0; i < queries.time(); ++i) {
        const position query = queries(b, i, axis);
        if (query == no_position) continue;
        for (index_t r = 0; r < runs; ++r)
          if (keys.runs[static_cast<std::size_t>(r)].first != no_position)
            act(i * runs + r, axis,
                i * rows(axis) + (keys.others[static_cast<std::size_t>(r * (axes() - 1) + axis)] - query - lowest(axis)));
      }
  }

  template <class T>
  kernels::table_bias_call<T> call_of(kernels::score_block<T> block, const positions& queries, index_t b, const key_rows& keys,
                                      const spare_memory& own) const {
    const index_t last = axes() - 1, runs = static_cast<index_t>(keys.runs.size());
    const position_row ids = queries.row(b, last);
    block.query_ids = ids.ids, block.query_first = ids.first;
    kernels::table_bias_call<T> call{block,        keys.runs.data(), runs, own.products.back(), 0, rows(last), kernels::value_of::distance,
                                     lowest(last), rows(last),       false};
    if (last > 0) call.run_values = own.sums, call.run_value_query = runs;
    return call;
  }

  template <class T>
  double nanoseconds(const score_view<T>& scores) const noexcept {
    const auto rows_of_scores = static_cast<double>(scores.extent(0) * scores.extent(1) * scores.extent(2));
    return rows_of_scores * (detail::nanoseconds_per_product<S>(channels()) * static_cast<double>(values_per_query(0)) +
                             detail::nanoseconds_per_value<T> * static_cast<double>(scores.extent(3)));
  }

  decomposed_bias_options options_;
  std::vector<std::vector<S>> tables_;
};

static_assert(contextual_bias_encoder<decomposed_bias<float>> && contextual_bias_encoder<decomposed_bias<double>>);
static_assert(position_encoder<decomposed_bias<float>> && trainable<decomposed_bias<float>>);
static_assert(!bias_encoder<decomposed_bias<float>> && !value_encoder<decomposed_bias<float>>);

}  // namespace POSENC_NAMESPACE
