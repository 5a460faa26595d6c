// SPDX-License-Identifier: MIT
/// \file  The verbs of encoders that add a bias to the scores which depends on positions alone: ALiBi, T5, KERPLE, FIRE, ...
#pragma once

#include <posenc/concepts.hpp>  // score_pass, tile_place
#include <posenc/config.hpp>
#include <posenc/error.hpp>     // require
#include <posenc/executor.hpp>
#include <posenc/kernels/score_block.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <concepts>
#include <string>
#include <string_view>

namespace POSENC_NAMESPACE {

namespace detail {

/// \throws argument_error  unless the scores have a batch and times that the positions are of.
inline void require_scores_match(std::string_view who, const attention_positions& at, index_t batch, index_t queries, index_t keys,
                                 index_t axes = 1) {
  const auto check = [&](const positions& given, const char* whose, index_t time) {
    if (given.time() != time || given.axes() != axes || (given.batch() != 0 && given.batch() != batch))
      require_match(std::string(who) + whose, given, batch, time, axes);  // a name is put together for the error alone
  };
  check(at.queries, " queries", queries);
  check(at.keys, " keys", keys);
}

/// Some heads and queries of batch row b, from `in` to `out`, which may be one view.
template <class T, class In>
kernels::score_block<kernel_scalar<T>> block_of(const score_view<In>& in, const score_view<T>& out, const attention_positions& at,
                                                const score_pass& pass, index_t b, index_t head, index_t heads, index_t query,
                                                index_t queries) {
  const position_row query_ids = at.queries.row(b).from(query), key_ids = at.keys.row(b);
  const bool in_place = static_cast<const void*>(in.data()) == static_cast<const void*>(out.data());
  return {.scores = kernel_pointer(&out(b, head, query, 0)),
          .heads = heads,
          .queries = queries,
          .keys = out.extent(3),
          .head = out.stride(1),
          .query = out.stride(2),
          .query_ids = query_ids.ids,
          .query_first = query_ids.first,
          .key_ids = key_ids.ids,
          .key_first = key_ids.first,
          .scale = static_cast<compute_t<T>>(pass.scale),
          .causal = pass.causal,
          .in = in_place ? nullptr : kernel_pointer(&in(b, head, query, 0)),
          .in_head = in.stride(1),
          .in_query = in.stride(2)};
}

/// Calls act(b, head, heads, query, queries) for blocks of one batch row that together are the scores `[batch, head, query, key]`, in
/// parts.
template <class T, class Act>
void for_each_score_block(const score_view<T>& scores, const executor& run, double nanoseconds_per_score, const Act& act) {
  const index_t heads = scores.extent(1), queries = scores.extent(2), rows = scores.extent(0) * heads * queries;
  const double cost = nanoseconds_per_score * static_cast<double>(rows) * static_cast<double>(scores.extent(3));
  run.split(rows, run.parts(rows, cost), [&](index_t, index_t from, index_t to) {
    for_each_block(from, to, queries, [&](index_t first, index_t count, index_t query, index_t query_count) {
      for (index_t done = 0, n; done < count; done += n) {  // heads of one batch row at a time
        const index_t b = (first + done) / heads, head = (first + done) % heads;
        n = std::min(count - done, heads - head);
        act(b, head, n, query, query_count);
      }
    });
  });
}

/// Positions, or what an encoder's `prepare` made of them and can say again.
template <class At>
concept placed_scores = std::same_as<At, attention_positions> || requires(const At& at) {
  { at.at() } -> std::same_as<const attention_positions&>;
};
template <placed_scores At>
const attention_positions& positions_of(const At& at) noexcept {
  if constexpr (std::same_as<At, attention_positions>) return at;
  else return at.at();
}

}  // namespace detail

/// scores `[batch, head, query, key]` += bias, in the pass of which a scale comes before and a causal mask after it (`score_pass`). Nothing
/// of the size of the scores is made. Positions are true ones: with a cache of n keys the queries start at n. A token without a position
/// gets no bias and no mask. Scores have the same bits in prefill, in decode, in tiles and for any number of threads.
///
/// Every verb checks shapes first and throws `argument_error` before it writes. Const members may run in any number of threads at once.
///
/// Derived offers `heads()`, a public `prepare(at, run)` if it has state to share among layers, and to this class:
///   run_scores(in, out, at, pass, run)     biases checked scores; at: positions or that state
///   run_tile(block, at, place)              the same for a tile of one head, whose positions the kernels::score_block has
template <class Derived, compute_scalar S>
class bias_verbs {
 public:
  using scalar = S;

  /// The checks of `bias` in place, alone: \throws argument_error  where it would.
  template <class T, detail::placed_scores At = attention_positions>
    requires writable_as<T, S>
  void require_fits(const score_view<T>& scores, const At& at) const {
    const std::string_view who = derived().name();
    require(scores.extent(1) == derived().heads(), who, "heads must match the encoder", derived().heads(), scores.extent(1));
    detail::require_scores_match(who, detail::positions_of(at), scores.extent(0), scores.extent(2), scores.extent(3), derived().axes());
    require_output(who, scores);
  }

  /// scores += bias, in place; a `score_pass` scales before and masks after it. at: positions, or what `prepare` made of them.
  template <writable_tensor T, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias(T&& scores, const At& at, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> s = scores;
    require_fits(s, at);
    if (!s.empty()) derived().run_scores(s, s, at, pass, run);
  }
  template <writable_tensor T, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias(T&& scores, const At& at, const executor& run = {}) const {
    bias(scores, at, score_pass{}, run);
  }

  /// The same from `in` to `out`. They may be one tensor, but not overlap in part.
  template <readable_tensor In, writable_tensor Out, detail::placed_scores At = attention_positions>
    requires(rank_of<In> == 4 && rank_of<Out> == 4 && writable_as<element_t<Out>, S> && stored_as<element_t<In>, element_t<Out>>)
  void bias(const In& in, Out&& out, const At& at, const score_pass& pass = {}, const executor& run = {}) const {
    const score_view<const element_t<Out>> from = in;
    const score_view<element_t<Out>> to = out;
    const std::string_view who = derived().name();
    require(from.extents() == to.extents(), who, "the output must have the input's shape", from.extents(), to.extents());
    require_fits(to, at);
    require_rows(who, from);
    require(!overlaps_partly(from, to), who, "input and output must be one view or not overlap", from.extents(), to.extents());
    if (!to.empty()) derived().run_scores(from, to, at, pass, run);
  }

  /// The same for one tile `[query, key]` of one head; `at` are the positions of the whole, or what `prepare` made of them.
  template <writable_tensor T, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 2 && writable_as<element_t<T>, S>)
  void bias_tile(T&& tile, const tile_place& place, const At& at, const score_pass& pass = {}) const {
    const tensor_view<element_t<T>, 2> s = tile;
    const auto& [queries, keys, unused] = detail::positions_of(at);
    const std::string_view who = derived().name();
    require(place.head >= 0 && place.head < derived().heads(), who, "head must lie within the heads", derived().heads(), place.head);
    require(
        place.batch >= 0 && (queries.batch() == 0 || place.batch < queries.batch()) && (keys.batch() == 0 || place.batch < keys.batch()),
        who, "the tile must lie within the batch", place.batch);
    require_output(who, s);
    const position_row query_ids = queries.slice(place.query, s.extent(0)).row(place.batch);
    const position_row key_ids = keys.slice(place.key, s.extent(1)).row(place.batch);
    if (s.empty()) return;
    derived().run_tile(kernels::score_block<kernel_scalar<element_t<T>>>{.scores = kernel_pointer(s.data()),
                                                                         .heads = 1,
                                                                         .queries = s.extent(0),
                                                                         .keys = s.extent(1),
                                                                         .head = 0,
                                                                         .query = s.stride(0),
                                                                         .query_ids = query_ids.ids,
                                                                         .query_first = query_ids.first,
                                                                         .key_ids = key_ids.ids,
                                                                         .key_first = key_ids.first,
                                                                         .scale = static_cast<S>(pass.scale),
                                                                         .causal = pass.causal},
                       at, place);
  }

  /// Of the positions.
  static constexpr index_t axes() noexcept { return 1; }

 protected:
  bias_verbs() = default;
  const Derived& derived() const noexcept { return static_cast<const Derived&>(*this); }
};

}  // namespace POSENC_NAMESPACE
