// SPDX-License-Identifier: MIT
/// \file  The verbs of biases between the cells of a window or picture: Swin, BEiT, continuous position bias, LeViT, ...
#pragma once

#include <posenc/bias_verbs.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>               // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>           // gradient_spans
#include <posenc/kernels/table_bias.hpp>  // every loop over keys lives there
#include <posenc/positions.hpp>
#include <posenc/relative/bias_table.hpp>
#include <posenc/relative/window_bias_table.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

namespace detail {

/// Every pair of a block has a value, and positions do not matter any more. One row where scores and values lie side by side, which spares
/// the ends of many short ones.
/// \param value_head, value_query  strides of the values.
template <class T>
kernels::table_bias_call<T> pair_call(kernels::score_block<T> block, const kernels::compute<T>* values, index_t value_head,
                                      index_t value_query) {
  static constexpr kernels::key_run everything{0, 0};
  block.query_ids = block.key_ids = nullptr, block.query_first = block.key_first = 0;
  if (block.keys == value_query && block.query == value_query && (!block.in || block.in_query == value_query)) {
    block.keys *= block.queries;
    block.queries = 1;
    if (block.keys == value_head && block.head == value_head && (!block.in || block.in_head == value_head)) {
      block.keys *= block.heads;
      block.heads = 1;
    }
  }
  return {block, &everything, 1, values, value_head, value_query, kernels::value_of::key, 0, block.keys, false};
}

}  // namespace detail

/// The verbs of `bias_verbs`, `value` and `bias_backward` for biases that depend on the difference of two cells on each axis. Positions
/// have the axes of the window, as `grid_positions` of `{height, width}` makes them; queries and keys may be different cells (a part of
/// them, every second one), and prefix tokens have no position. The batch of scores is that of windows: `[batch * windows, head, query,
/// key]`.
///
/// `prepare` makes the biases of all differences once and, where they are not too many, of all pairs `[head, query, key]`, which all
/// windows then share: adding them is adding a ready table. Where positions differ between batch rows, and where heads * queries * keys are
/// more than 2^22, the differences are read along the rows of the grid. The bits are the same.
///
/// Derived offers name(), heads(), cells() (its detail::cell_numbers), and to this class:
///   fill(values, classes)           values `[head, difference]` of key minus query; classes `[head, class_bias]` if has_classes()
///   has_classes()                   whether pairs with a class token have a bias
///   add_gradient(d_values, d_classes, d_parameters)   the same transposed; only if it has `parameters()`
///   require_spans(d_parameters)
template <class Derived, compute_scalar S>
class window_bias_verbs : public bias_verbs<Derived, S> {
 public:
  using state = window_bias_table<S>;

  index_t axes() const noexcept { return this->derived().cells().axes(); }

  /// \throws argument_error  unless positions have the axes of the window, and any two cells lie within one.
  state prepare(const attention_positions& at, const executor& = {}) const {
    const Derived& self = this->derived();
    const auto& cells = self.cells();
    for (const positions* const some : {&at.queries, &at.keys})
      require(some->axes() == cells.axes(), self.name(), "the positions must have as many axes as the encoder", cells.axes(), some->axes());
    require(at.queries.batch() == 0 || at.keys.batch() == 0 || at.queries.batch() == at.keys.batch(), self.name(),
            "queries and keys must have one batch", at.queries.batch(), at.keys.batch());
    const auto corners = cells.corners(self.name(), at);
    typename state::contents all{.at = at, .heads = self.heads(), .differences = cells.differences()};
    const index_t size = checked_product(self.name(), std::array{all.heads, all.differences}, sizeof(double));
    all.values.resize(static_cast<std::size_t>(size));
    if (self.has_classes()) all.classes.resize(static_cast<std::size_t>(3 * all.heads));
    self.fill(all.values.data(), all.classes.data());
    // Corners are of the larger batch: where only one of the two has rows of its own, the other is numbered for each of them.
    const index_t batch = std::max(at.queries.batch(), at.keys.batch());
    const auto numbers = [&](const positions& some) {
      if (some.batch() == batch) return cells.of(some, corners);
      std::vector<position> repeated;
      for (index_t b = 0; b < batch; ++b) {
        const std::vector<position> corner(corners.begin() + b * cells.axes(), corners.begin() + (b + 1) * cells.axes());
        const auto row = cells.of(some, corner);
        repeated.insert(repeated.end(), row.begin(), row.end());
      }
      return repeated;
    };
    all.queries = numbers(at.queries), all.keys = numbers(at.keys);
    const index_t queries = at.queries.time(), keys = at.keys.time();
    if (batch == 0 && checked_product(self.name(), std::array{all.heads, queries, keys}, sizeof(S)) <= most_pairs) fill_pairs(all);
    return state(std::move(all));
  }

  /// What `bias` adds to the score of one pair of cells; an empty span: a token without a position. Makes the biases of all differences
  /// each time: meant for a look at some, not for loops over all.
  /// \throws argument_error  unless the head exists, and the cells lie within one window.
  S value(index_t head, std::span<const position> query, std::span<const position> key) const {
    const Derived& self = this->derived();
    require(head >= 0 && head < self.heads(), self.name(), "head must lie within the heads", self.heads(), head);
    const auto one = [&](std::span<const position> cell) {
      const std::vector<position> absent(static_cast<std::size_t>(axes()), no_position);
      require(cell.empty() || static_cast<index_t>(cell.size()) == axes(), self.name(),
              "the positions must have as many axes as the encoder", axes(), cell.size());
      return positions::multi_axis(cell.empty() ? std::span<const position>(absent) : cell, axes());
    };
    const state table = prepare({one(query), one(key)});
    return bias_of(*table, head, table->queries[0], table->keys[0]);
  }

  /// The gradient of `bias`: adds to d_parameters, one span per parameter; d_scores becomes the gradient of the scores that came in, which
  /// differs only where a `score_pass` scaled. Sums are formed in double, in an order that depends on shapes and positions alone.
  template <writable_tensor T, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias_backward(T&& d_scores, const At& at, gradient_spans<S> d_parameters, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    const Derived& self = this->derived();
    this->require_fits(d, at);
    require_no_mask(pass);
    if constexpr (requires(Derived& e) { e.parameters(); }) self.require_spans(d_parameters);
    const state& table = ready(at, run);
    if (d.empty()) return;
    const auto& all = *table;
    std::vector<double> d_values(all.values.size()), d_classes(all.classes.size()), d_pairs(all.pairs.size());
    const index_t heads = d.extent(1), queries = d.extent(2), keys = d.extent(3);
    const double cost =
        4 * detail::nanoseconds_per_value<element_t<T>> * static_cast<double>(d.extent(0) * heads) * static_cast<double>(queries * keys);
    run.split(heads, run.parts(heads, cost), [&](index_t, index_t from, index_t to) {  // the order of a sum must not depend on the threads
      using element = kernel_scalar<element_t<T>>;
      for (index_t b = 0; b < d.extent(0); ++b) {
        const auto block = block_of(d, d, all, pass, b, from, to - from, 0, queries);
        if (all.pairs.empty())
          for_each_part(block, all, from, [&](const auto& call, std::optional<class_bias> kind) {
            double* const sums =
                kind ? d_classes.data() + class_place(from, *kind) : d_values.data() + static_cast<std::size_t>(from * all.differences);
            kernels::table_bias_gradient<element, double>({call, sums});
          });
        else kernels::table_bias_gradient<element, double>({pair_call(block, all, from, 0, 0), d_pairs.data() + from * queries * keys});
      }
    });
    if (!all.pairs.empty())
      for (index_t h = 0; h < heads; ++h)
        for (index_t i = 0; i < queries; ++i)
          for (index_t j = 0; j < keys; ++j) {
            const std::size_t n = static_cast<std::size_t>((h * queries + i) * keys + j);
            place(
                all, h, all.queries[static_cast<std::size_t>(i)], all.keys[static_cast<std::size_t>(j)],
                [&](std::size_t at_value) { d_values[at_value] += d_pairs[n]; },
                [&](std::size_t at_class) { d_classes[at_class] += d_pairs[n]; });
          }
    if constexpr (requires(Derived& e) { e.parameters(); }) self.add_gradient(d_values.data(), d_classes.data(), d_parameters);
  }
  template <writable_tensor T, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias_backward(T&& d_scores, const At& at, gradient_spans<S> d_parameters, const executor& run = {}) const {
    bias_backward(d_scores, at, d_parameters, score_pass{}, run);
  }

 protected:
  window_bias_verbs() = default;
  static constexpr bool has_classes() noexcept { return false; }

 private:
  friend bias_verbs<Derived, S>;
  using contents = typename state::contents;
  static constexpr index_t most_pairs = index_t{1} << 22;

  void require_no_mask(const score_pass& pass) const {
    require(!pass.causal, this->derived().name(), "cells of a window have no causal order", "causal");
  }
  const state& ready(const state& table, const executor&) const {
    const Derived& self = this->derived();
    require(table->heads == self.heads(), self.name(), "the table must be of this encoder", self.heads(), table->heads);
    require(table->differences == self.cells().differences(), self.name(), "the table must be of this encoder's window",
            self.cells().differences(), table->differences);
    return table;
  }
  state ready(const attention_positions& at, const executor& run) const { return prepare(at, run); }

  /// Calls at_value or at_class with where the bias of a pair stands, or neither.
  template <class Value, class Class>
  static void place(const contents& all, index_t head, position query, position key, const Value& at_value, const Class& at_class) {
    if (query != no_position && key != no_position)
      return at_value(static_cast<std::size_t>(head * all.differences + (all.differences - 1) / 2 + (key - query)));
    if (!all.classes.empty()) at_class(class_place(head, class_bias_of(query, key)));
  }
  static class_bias class_bias_of(position query, position key) {
    return key != no_position ? class_bias::class_to_cell : query != no_position ? class_bias::cell_to_class : class_bias::class_to_class;
  }
  static std::size_t class_place(index_t head, class_bias kind) { return static_cast<std::size_t>(3 * head + static_cast<int>(kind)); }
  static S bias_of(const contents& all, index_t head, position query, position key, S none = 0) {
    S bias = none;
    place(all, head, query, key, [&](std::size_t n) { bias = all.values[n]; }, [&](std::size_t n) { bias = all.classes[n]; });
    return bias;
  }
  static void fill_pairs(contents& all) {
    all.pairs.reserve(static_cast<std::size_t>(all.heads) * all.queries.size() * all.keys.size());
    for (index_t head = 0; head < all.heads; ++head)
      for (const position query : all.queries)
        for (const position key : all.keys) all.pairs.push_back(bias_of(all, head, query, key, -S(0)));  // to add it changes no bit
  }

  /// A block whose positions are the numbers of cells.
  template <class T, class In>
  static kernels::score_block<kernel_scalar<T>> block_of(const score_view<In>& in, const score_view<T>& out, const contents& all,
                                                         const score_pass& pass, index_t b, index_t head, index_t heads, index_t query,
                                                         index_t queries) {
    auto block = detail::block_of(in, out, all.at, pass, b, head, heads, query, queries);
    number(block, all, b, query, 0);
    return block;
  }
  template <class T>
  static void number(kernels::score_block<T>& block, const contents& all, index_t b, index_t query, index_t key) {
    const index_t queries = all.at.queries.time(), keys = all.at.keys.time();
    const index_t row = static_cast<index_t>(all.queries.size()) > queries ? b : 0;
    block.query_ids = all.queries.data() + row * queries + query;
    block.key_ids = all.keys.data() + row * keys + key;
  }

  template <class T>
  static kernels::table_bias_call<T> call_of(const kernels::score_block<T>& block, const contents& all, index_t head) {
    return {block,
            nullptr,
            0,
            all.values.data() + head * all.differences,
            all.differences,
            0,
            kernels::value_of::distance,
            -(all.differences - 1) / 2,
            all.differences,
            false};
  }
  /// Calls act(call, kind) for calls that together are the block's; those with a kind have its one value per head for all of their pairs.
  template <class T, class Act>
  static void for_each_part(const kernels::score_block<T>& block, const contents& all, index_t head, const Act& act) {
    const auto call = call_of(block, all, head);
    if (all.classes.empty())
      return detail::for_each_call(block, call, [&](const auto& piece, index_t) { act(piece, std::optional<class_bias>()); });
    const auto alike = [](const position* ids, index_t from, index_t count) {  // the end of those that are all cells, or all none
      index_t to = from;
      while (to < count && (ids[to] == no_position) == (ids[from] == no_position)) ++to;
      return to;
    };
    for (index_t i = 0, below; i < block.queries; i = below) {
      below = alike(block.query_ids, i, block.queries);
      for (index_t j = 0, beyond; j < block.keys; j = beyond) {
        beyond = alike(block.key_ids, j, block.keys);
        auto part = call;
        part.scores += i * block.query + j;
        if (part.in) part.in += i * block.in_query + j;
        part.queries = below - i, part.keys = beyond - j, part.query_ids += i, part.key_ids += j;
        if (block.query_ids[i] != no_position && block.key_ids[j] != no_position) {
          detail::for_each_call(static_cast<const kernels::score_block<T>&>(part), part,
                                [&](const auto& piece, index_t) { act(piece, std::optional<class_bias>()); });
        } else {
          const class_bias kind = class_bias_of(block.query_ids[i], block.key_ids[j]);
          static constexpr kernels::key_run everything{0, 0};
          part.query_ids = part.key_ids = nullptr, part.query_first = part.key_first = 0;
          part.runs = &everything, part.run_count = 1;
          part.values = all.classes.data() + class_place(head, kind), part.value_head = 3;
          part.low = 0, part.count = 1, part.clip = true;
          act(part, std::optional(kind));
        }
      }
    }
  }
  template <class T>
  static kernels::table_bias_call<T> pair_call(const kernels::score_block<T>& block, const contents& all, index_t head, index_t query,
                                               index_t key) {
    const index_t queries = all.at.queries.time(), keys = all.at.keys.time();
    return detail::pair_call(block, all.pairs.data() + (head * queries + query) * keys + key, queries * keys, keys);
  }

  template <class T, class In, class At>
  void run_scores(const score_view<In>& in, const score_view<T>& out, const At& given, const score_pass& pass, const executor& run) const {
    require_no_mask(pass);
    const state& table = ready(given, run);
    const contents& all = *table;
    detail::for_each_score_block(out, run, detail::nanoseconds_per_value<T>,
                                 [&](index_t b, index_t head, index_t heads, index_t query, index_t queries) {
                                   const auto block = block_of(in, out, all, pass, b, head, heads, query, queries);
                                   if (all.pairs.empty()) run_differences(block, all, head);
                                   else kernels::table_bias(pair_call(block, all, head, query, 0));
                                 });
  }
  template <class T>
  static void run_differences(const kernels::score_block<T>& block, const contents& all, index_t head) {
    for_each_part(block, all, head, [](const auto& call, std::optional<class_bias>) { kernels::table_bias(call); });
  }

  template <class T, class At>
  void run_tile(kernels::score_block<T> block, const At& given, const tile_place& place) const {
    require(!block.causal, this->derived().name(), "cells of a window have no causal order", "causal");
    const state& table = ready(given, executor());
    const contents& all = *table;
    number(block, all, place.batch, place.query, place.key);
    if (all.pairs.empty()) run_differences(block, all, place.head);
    else kernels::table_bias(pair_call(block, all, place.head, place.query, place.key));
  }
};

}  // namespace POSENC_NAMESPACE
