// SPDX-License-Identifier: MIT
/// \file  What relative biases compute once per forward pass for all layers: the bias of every distance, per head.
#pragma once

#include <posenc/config.hpp>
#include <posenc/kernels/table_bias.hpp>  // key_run
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <memory>

namespace POSENC_NAMESPACE {

/// Distances (key's position minus query's) from `low` to `high`, inclusive.
struct distance_range {
  position low, high;
  friend bool operator==(const distance_range&, const distance_range&) = default;
};

/// The biases `[head, distance]` of an encoder at given positions; made by its `prepare`, read by its verbs. Immutable; copying it is a
/// reference count. Where distances are too many to have a table (ids far apart) or do not decide alone, it holds the positions only, and
/// the biases are formed in the pass over the scores.
template <compute_scalar S>
class bias_table {
 public:
  explicit bias_table(attention_positions at) : at_(std::move(at)) {}
  bias_table(attention_positions at, std::shared_ptr<const S[]> values, index_t heads, distance_range distances)
      : at_(std::move(at)), values_(std::move(values)), heads_(heads), distances_(distances) {}

  const attention_positions& at() const noexcept { return at_; }
  /// `[head, distance]`: element n of a row is the bias of distance `distances().low + n`, and beyond the row its end. Empty: no table.
  tensor_view<const S, 2> values() const noexcept {
    return values_ ? tensor_view<const S, 2>(values_.get(), {heads_, distances_.high - distances_.low + 1}) : tensor_view<const S, 2>();
  }
  distance_range distances() const noexcept { return distances_; }

 private:
  attention_positions at_;
  std::shared_ptr<const S[]> values_;
  index_t heads_ = 0;
  distance_range distances_{0, 0};
};

namespace detail {

/// The least and largest position of a batch row; low > high where no token has one.
inline distance_range positions_within(const positions& at, index_t b, index_t axis = 0) {
  const position_row row = at.row(b, axis);
  if (!row.ids) return {row.first, row.first + at.time() - 1};
  distance_range all{positions::limit, -positions::limit};
  for (index_t t = 0; t < at.time(); ++t)
    if (row[t] != no_position) all.low = std::min(all.low, row[t]), all.high = std::max(all.high, row[t]);
  return all;
}

/// key - query; the one distance that 64 bits do not hold, 2^63, is one less.
constexpr position distance_of(position key, position query) noexcept {
  return query < 0 && key > std::numeric_limits<position>::max() + query ? std::numeric_limits<position>::max() : key - query;
}

/// All distances between a query and a key of one batch row lie in it; low > high where there are none.
inline distance_range distances_between(const attention_positions& at) {
  distance_range all{std::numeric_limits<position>::max(), std::numeric_limits<position>::min()};
  for (index_t b = 0; b < std::max<index_t>({at.queries.batch(), at.keys.batch(), 1}); ++b) {
    const distance_range queries = positions_within(at.queries, b), keys = positions_within(at.keys, b);
    if (queries.low > queries.high || keys.low > keys.high) continue;
    all.low = std::min(all.low, distance_of(keys.low, queries.high));
    all.high = std::max(all.high, distance_of(keys.high, queries.low));
  }
  return all;
}

/// Calls act(from, count, runs, number of runs) for pieces that together are the keys of a row, so that the runs of one need no memory but
/// a little of the stack. Stands for all where positions count up. Where they do not matter, keys with a position are one run.
template <class Act>
void for_each_piece(const position_row& keys, index_t count, bool positions_matter, const Act& act) {
  constexpr index_t most = 64;
  std::array<kernels::key_run, most> runs;
  if (!keys.ids) {
    runs[0] = {0, keys.first};
    return act(index_t{0}, count, runs.data(), index_t{1});
  }
  for (index_t from = 0, to; from < count; from = to) {
    index_t number = 0;
    for (to = from; to < count; ++to) {
      const position id = keys.ids[to], before = to > from ? keys.ids[to - 1] : id;
      const bool alike = (id == no_position) == (before == no_position);
      const bool goes_on = to > from && alike && (id == no_position || !positions_matter || id == before + 1);
      if (goes_on) continue;
      if (number == most) break;
      runs[static_cast<std::size_t>(number++)] = {to - from, id};
    }
    act(from, to - from, runs.data(), number);
  }
}

/// Calls act(call, from) for calls that together are the block's; values and key values stay those of the whole block, or of its first key.
template <class T, class Act>
void for_each_call(const kernels::score_block<T>& block, const kernels::table_bias_call<T>& like, const Act& act) {
  for_each_piece({block.key_ids, block.key_first}, block.keys, like.by == kernels::value_of::distance || block.causal,
                 [&](index_t from, index_t count, const kernels::key_run* runs, index_t number) {
                   auto call = like;
                   call.scores += from;
                   if (call.in) call.in += from;
                   if (call.key_values) call.key_values += from;
                   call.keys = count, call.runs = runs, call.run_count = number;
                   act(call, from);
                 });
}

/// Whether the keys of some batch row count up for less than eight of them at a time: edges of boxes, say, where a look-up for each key is
/// faster than runs.
inline bool scattered(const positions& keys) {
  for (index_t b = 0; b < std::max<index_t>(keys.batch(), 1); ++b) {
    index_t runs = 0;
    for_each_piece(keys.row(b), keys.time(), true, [&](index_t, index_t, const kernels::key_run*, index_t number) { runs += number; });
    if (runs > 1 && 8 * runs > keys.time()) return true;
  }
  return false;
}

}  // namespace detail

}  // namespace POSENC_NAMESPACE
