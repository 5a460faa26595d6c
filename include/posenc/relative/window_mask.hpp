// SPDX-License-Identifier: MIT
/// \file  The mask of shifted windows: keeps cells from attending to cells that only the shift brought into their window. Liu et al. 2021.
#pragma once

#include <posenc/bias_verbs.hpp>
#include <posenc/concepts.hpp>   // bias_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/executor.hpp>
#include <posenc/kernels/table_bias.hpp>
#include <posenc/positions.hpp>
#include <posenc/relative/shifted_windows.hpp>
#include <posenc/relative/window_bias_verbs.hpp>  // pair_call
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

struct window_mask_options {
  required<shifted_windows> windows;
  required<index_t> heads;
  required<double> value;  ///< negative: -100 in Swin and its kin; minus infinity excludes the pairs for good

  friend bool operator==(const window_mask_options&, const window_mask_options&) = default;
};

/// What a `window_mask` adds at given positions; made by its `prepare`. Immutable; copying it is a reference count.
template <compute_scalar S>
class window_mask_table {
 public:
  struct contents {
    attention_positions at;
    std::vector<S> values;          ///< tables `[query, key]`
    std::vector<index_t> table_of;  ///< which one a batch row has, counted around; -1: none
  };
  explicit window_mask_table(contents all) : contents_(std::make_shared<const contents>(std::move(all))) {}

  const attention_positions& at() const noexcept { return contents_->at; }
  const contents* operator->() const noexcept { return contents_.get(); }

 private:
  std::shared_ptr<const contents> contents_;
};

/// Adds `value` to the scores `[batch * windows, head, query, key]` of pairs in different regions of a window (see `shifted_windows`), and
/// 0 to the others of that window; windows that the edge does not cut are not touched. After a `window_bias`, in one `compose`, it makes
/// Swin's shifted attention.
///
/// Positions are the places of cells in their windows, from 0, as `shifted_windows::cell_positions` gives them; queries and keys may be a
/// part of them. Padding, which has no position, is not masked: Swin masks it by the region that it would lie in, and has it so with
/// `grid_positions` of the window. Rows of the batch are windows, and pictures come one after the other.
///
/// `prepare` makes one table `[query, key]` for each kind of edge; where positions differ between batch rows, for each window at an edge.
/// Scores' gradients pass through unchanged. See `bias_verbs` for the verbs; a `score_pass` may scale, not mask.
template <compute_scalar S>
class window_mask : public bias_verbs<window_mask<S>, S> {
 public:
  using state = window_mask_table<S>;

  /// \throws argument_error  unless heads are positive and the value is negative.
  explicit window_mask(const window_mask_options& options) : options_(options), windows_(options.windows) {
    require(heads() > 0, name(), "heads must be positive", heads());
    require(options.value < 0, name(), "value must be negative", double{options.value});
  }

  static constexpr std::string_view name() noexcept { return "window_mask"; }
  const window_mask_options& options() const noexcept { return options_; }
  const shifted_windows& windows() const noexcept { return windows_; }
  index_t heads() const noexcept { return options_.heads; }
  index_t axes() const noexcept { return windows_.axes(); }

  /// \throws argument_error  unless positions have the axes of the window and lie in [0, window), and batch rows of their own are whole
  ///                         pictures.
  state prepare(const attention_positions& at, const executor& = {}) const {
    for (const positions* const some : {&at.queries, &at.keys}) {
      require(some->axes() == axes(), name(), "the positions must have as many axes as the encoder", axes(), some->axes());
      require_pictures(some->batch());
      for (index_t b = 0; b < std::max<index_t>(some->batch(), 1); ++b)
        for (index_t axis = 0; axis < axes(); ++axis)
          for (index_t t = 0; t < some->time(); ++t) {
            const position cell = (*some)(b, t, axis);
            const index_t extent = windows_.window()[static_cast<std::size_t>(axis)];
            require(cell == no_position || (cell >= 0 && cell < extent), name(), "cells must lie in [0, window)", extent, cell);
          }
    }
    const index_t batch = std::max(at.queries.batch(), at.keys.batch());
    require(at.queries.batch() == 0 || at.keys.batch() == 0 || at.queries.batch() == at.keys.batch(), name(),
            "queries and keys must have one batch", at.queries.batch(), at.keys.batch());
    typename state::contents all{.at = at, .values = {}, .table_of = {}};
    std::vector<index_t> table_of_kind(std::size_t{1} << axes(), -1);
    index_t tables = 0;
    for (index_t b = 0; b < (batch > 0 ? batch : windows_.count()); ++b) {
      const index_t window = b % windows_.count(), wrapped = windows_.wrapped_axes(window);
      index_t& table = table_of_kind[static_cast<std::size_t>(wrapped)];
      if (wrapped != 0 && (table < 0 || batch > 0)) {
        table = tables++;
        append_table(all, b, window);
      }
      all.table_of.push_back(table);
    }
    return state(std::move(all));
  }

  /// The checks of `bias` in place, alone: \throws argument_error  where it would.
  template <class T, detail::placed_scores At = attention_positions>
    requires writable_as<T, S>
  void require_fits(const score_view<T>& scores, const At& at) const {
    bias_verbs<window_mask, S>::require_fits(scores, at);
    require_pictures(scores.extent(0));
  }

  friend bool operator==(const window_mask& a, const window_mask& b) { return a.options_ == b.options_; }

 private:
  friend bias_verbs<window_mask, S>;

  void require_pictures(index_t batch) const {
    require(batch % windows_.count() == 0, name(), "the batch must be whole pictures of windows", windows_.count(), batch);
  }
  void append_table(typename state::contents& all, index_t b, index_t window) const {
    const auto regions = [&](const positions& some) {
      std::vector<index_t> of_tokens;
      std::array<position, static_cast<std::size_t>(max_axes)> cell{};
      for (index_t t = 0; t < some.time(); ++t) {
        for (index_t axis = 0; axis < axes(); ++axis) cell[static_cast<std::size_t>(axis)] = some(b, t, axis);
        of_tokens.push_back(cell[0] == no_position ? -1 : windows_.region(window, {cell.data(), static_cast<std::size_t>(axes())}));
      }
      return of_tokens;
    };
    const auto queries = regions(all.at.queries), keys = regions(all.at.keys);
    for (const index_t query : queries)
      for (const index_t key : keys)
        all.values.push_back(query == key || query < 0 || key < 0 ? S(0) : static_cast<S>(double{options_.value}));
  }

  state ready(const state& table) const { return table; }
  state ready(const attention_positions& at) const { return prepare(at); }

  /// The values of a batch row, or null.
  const S* values_of(const state& table, index_t b) const {
    const index_t n = table->table_of[static_cast<std::size_t>(b) % table->table_of.size()];
    return n < 0 ? nullptr : table->values.data() + n * table.at().queries.time() * table.at().keys.time();
  }
  template <class T>
  void run_block(const kernels::score_block<T>& block, const S* values, index_t keys) const {
    static constexpr kernels::key_run nothing{0, kernels::absent};
    if (values) kernels::table_bias(detail::pair_call(block, values, 0, keys));
    else if (block.in || block.scale != 1)
      kernels::table_bias(kernels::table_bias_call<T>{block, &nothing, 1, nullptr, 0, 0, kernels::value_of::key, 0, block.keys, false});
  }
  void require_no_mask(bool causal) const { require(!causal, name(), "cells of a window have no causal order", "causal"); }

  template <class T, class In, class At>
  void run_scores(const score_view<In>& in, const score_view<T>& out, const At& given, const score_pass& pass, const executor& run) const {
    require_no_mask(pass.causal);
    require_pictures(out.extent(0));
    const state table = ready(given);
    const index_t keys = table.at().keys.time();
    detail::for_each_score_block(out, run, detail::nanoseconds_per_value<T>,
                                 [&](index_t b, index_t head, index_t heads, index_t query, index_t queries) {
                                   const S* const values = values_of(table, b);
                                   run_block(detail::block_of(in, out, table.at(), pass, b, head, heads, query, queries),
                                             values ? values + query * keys : nullptr, keys);
                                 });
  }
  template <class T, class At>
  void run_tile(const kernels::score_block<T>& block, const At& given, const tile_place& place) const {
    require_no_mask(block.causal);
    const state table = ready(given);
    const index_t keys = table.at().keys.time();
    const S* const values = values_of(table, place.batch);
    run_block(block, values ? values + place.query * keys + place.key : nullptr, keys);
  }

  window_mask_options options_;
  shifted_windows windows_;
};

static_assert(bias_encoder<window_mask<float>> && bias_encoder<window_mask<double>> && position_encoder<window_mask<float>>);
static_assert(!additive_encoder<window_mask<float>> && !rotary_encoder<window_mask<float>>);
static_assert(!contextual_bias_encoder<window_mask<float>> && !changes_score_scale<window_mask<float>>);

}  // namespace POSENC_NAMESPACE
