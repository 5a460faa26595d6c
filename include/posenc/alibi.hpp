// SPDX-License-Identifier: MIT
/// \file  Attention with linear biases (ALiBi): adds -slope * distance to the scores. Press, Smith, Lewis 2022, "Train Short, Test Long".
#pragma once

#include <posenc/concepts.hpp>      // bias_encoder, score_pass
#include <posenc/config.hpp>
#include <posenc/error.hpp>         // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>     // parameter, gradient_spans
#include <posenc/kernels/bias.hpp>  // every loop over keys lives there
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// What a slope multiplies, for a query at position i and a key at position j. After a causal soft-max the three agree up to rounding;
/// without a mask they are different encodings, and systems differ, so there is no default.
enum class alibi_form {
  causal,     ///< -max(i - j, 0): GPT-NeoX
  symmetric,  ///< -|i - j|: MLX, x-transformers, flash-attention without a mask
  key_only    ///< j - reference, the same for every query: BLOOM and Press with reference 0, MPT with the last key's position
};

struct alibi_options {
  required<index_t> heads;         ///< of the whole model: the slopes depend on their number
  required<alibi_form> form;
  double alibi_bias_max = 8;       ///< the last slope of a power of two of heads is 2^-alibi_bias_max
  index_t first_head = 0;          ///< this process holds heads first_head to first_head + local_heads (tensor parallelism);
  index_t local_heads = 0;         ///< 0: all from first_head on
  position reference = 0;          ///< for key_only
};

/// The slopes of `heads` heads: 2^(-max h / n) for h = 1 ... n, n the largest power of two not above `heads`, then 2^(-max (2r - 1) / (2n))
/// for r = 1, 2, ... Each from its own exponent in double. \throws argument_error  unless heads and max are positive and max finite.
inline std::vector<double> alibi_slopes(index_t heads, double alibi_bias_max = 8) {
  require(heads > 0, "alibi", "heads must be positive", heads);
  require(std::isfinite(alibi_bias_max) && alibi_bias_max > 0, "alibi", "alibi_bias_max must be positive and finite", alibi_bias_max);
  checked_product("alibi", std::array{heads}, sizeof(double));
  index_t power = 1;
  while (power <= heads / 2) power *= 2;
  std::vector<double> slopes;
  slopes.reserve(static_cast<std::size_t>(heads));
  for (index_t h = 1; h <= heads; ++h) {
    const double step = h <= power ? static_cast<double>(h) : static_cast<double>(2 * (h - power) - 1) / 2;
    slopes.push_back(std::exp2(-alibi_bias_max * step / static_cast<double>(power)));
  }
  return slopes;
}

/// Adds slope * value to scores `[batch, head, query, key]`, after the scale of q.k. Nothing of the size of the scores is made: the bias is
/// computed in the pass over them, on which a scale and a causal mask can ride (`score_pass`).
///
/// Distances are whole numbers, formed in 64 bits and rounded once to S, so a score row has the same bits in prefill and decode. Positions
/// are true ones: with a cache of n keys the queries start at n. A token without a position gets no bias and no mask.
///
/// Every verb checks shapes first and throws `argument_error` before it writes; none allocates but `bias_backward`, 8 bytes a head. Const
/// members may run in any number of threads at once.
template <compute_scalar S>
class alibi {
 public:
  using scalar = S;

  /// \throws argument_error  unless heads and alibi_bias_max are positive and the slice lies within the heads.
  explicit alibi(const alibi_options& options) : form_(options.form), reference_(checked(options.reference)) {
    const index_t heads = options.heads, first = options.first_head;
    const auto all = alibi_slopes(heads, options.alibi_bias_max);
    const index_t count = options.local_heads == 0 ? heads - first : static_cast<index_t>(options.local_heads);
    require(first >= 0 && first < heads && count > 0 && count <= heads - first, name(), "local heads must lie within heads", heads, first,
            count);
    for (index_t h = first; h < first + count; ++h) slopes_.push_back(static_cast<S>(all[static_cast<std::size_t>(h)]));
  }
  /// Slopes of the caller's own, one per head: trained ones, or zeros for heads without a bias.
  /// \throws argument_error  unless there is one at least and all are finite.
  alibi(std::span<const S> slopes, alibi_form form, position reference = 0)
      : slopes_(slopes.begin(), slopes.end()), form_(form), reference_(checked(reference)) {
    require(!slopes.empty(), name(), "heads must be positive", slopes.size());
    for (const S slope : slopes) require(std::isfinite(slope), name(), "slopes must be finite", slope);
  }

  static constexpr std::string_view name() noexcept { return "alibi"; }
  std::span<const S> slopes() const noexcept { return slopes_; }
  alibi_form form() const noexcept { return form_; }

  /// What `bias` adds to the score of one pair.
  /// \throws argument_error  unless the head exists.
  S value(index_t head, position query, position key) const {
    require(head >= 0 && head < heads(), name(), "head must lie within the heads", heads(), head);
    if (query == no_position || key == no_position) return S(0);
    const position after = query - key;
    S distance = 0;
    if (form_ == alibi_form::key_only) distance = static_cast<S>(key - reference_);
    else if (after > 0) distance = -static_cast<S>(after);
    else if (form_ == alibi_form::symmetric) distance = -static_cast<S>(-after);
    return distance * slopes_[static_cast<std::size_t>(head)];
  }

  /// The checks of `bias` in place, alone: \throws argument_error  where it would.
  template <class T>
    requires writable_as<T, S>
  void require_fits(const score_view<T>& scores, const attention_positions& at) const {
    check(scores, at);
  }

  /// scores += bias, in place; a `score_pass` scales before and masks after it.
  template <writable_tensor T>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias(T&& scores, const attention_positions& at, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> s = scores;
    check(s, at);
    pass_over<element_t<T>>(s, s, at, pass, run);
  }
  template <writable_tensor T>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias(T&& scores, const attention_positions& at, const executor& run = {}) const {
    bias(scores, at, score_pass{}, run);
  }

  /// The same from `in` to `out`. They may be one tensor, but not overlap in part.
  template <readable_tensor In, writable_tensor Out>
    requires(rank_of<In> == 4 && rank_of<Out> == 4 && writable_as<element_t<Out>, S> && stored_as<element_t<In>, element_t<Out>>)
  void bias(const In& in, Out&& out, const attention_positions& at, const score_pass& pass = {}, const executor& run = {}) const {
    const score_view<const element_t<Out>> from = in;
    const score_view<element_t<Out>> to = out;
    require(from.extents() == to.extents(), name(), "the output must have the input's shape", from.extents(), to.extents());
    check(to, at);
    require_rows(name(), from);
    require(!overlaps_partly(from, to), name(), "input and output must be one view or not overlap", from.extents(), to.extents());
    pass_over<element_t<Out>>(from, to, at, pass, run);
  }

  /// Where a tile lies in the whole: for fused attention, which never holds more of the scores.
  struct tile_place {
    index_t batch, head, query, key;  ///< of the tile's first element
  };
  /// The same for one tile `[query, key]` of one head; `at` are the positions of the whole.
  template <writable_tensor T>
    requires(rank_of<T> == 2 && writable_as<element_t<T>, S>)
  void bias_tile(T&& tile, const tile_place& place, const attention_positions& at, const score_pass& pass = {}) const {
    const tensor_view<element_t<T>, 2> s = tile;
    require(place.head >= 0 && place.head < heads(), name(), "head must lie within the heads", heads(), place.head);
    require(place.batch >= 0 && (at.queries.batch() == 0 || place.batch < at.queries.batch()) &&
                (at.keys.batch() == 0 || place.batch < at.keys.batch()),
            name(), "the tile must lie within the batch", place.batch);
    require_output(name(), s);
    const attention_positions part{at.queries.slice(place.query, s.extent(0)), at.keys.slice(place.key, s.extent(1))};
    if (s.empty()) return;
    kernels::bias(call_of(s.data(), 1, s.extent(0), s.extent(1), 0, s.stride(0), place.head, part.queries.row(place.batch),
                          part.keys.row(place.batch), pass));
  }

  /// The gradient of `bias`: adds to d_parameters[0], the slopes; d_scores becomes the gradient of the scores that came in, which differs
  /// only where a `score_pass` scaled or masked. Sums are formed in double, in an order that depends on shapes alone.
  template <writable_tensor T>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias_backward(T&& d_scores, const attention_positions& at, gradient_spans<S> d_parameters, const score_pass& pass,
                     const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    check(d, at);
    require(d_parameters.size() == 1 && d_parameters[0].size() == slopes_.size(), name(),
            "there must be one gradient span with a value per head", slopes_.size(), d_parameters.size());
    if (d.empty()) return;
    std::vector<double> sums(slopes_.size());
    // By heads alone: the order of a sum must not depend on the threads.
    const double cost = 4 * detail::nanoseconds_per_value<element_t<T>> * static_cast<double>(d.extent(0) * heads()) *
                        static_cast<double>(d.extent(2) * d.extent(3));
    run.split(heads(), run.parts(heads(), cost), [&](index_t, index_t from, index_t to) {
      for (index_t b = 0; b < d.extent(0); ++b)
        kernels::bias_backward<kernel_scalar<element_t<T>>>(
            {row_call(d, at, pass, b, from, to - from, 0, d.extent(2)), sums.data() + from});
    });
    for (std::size_t h = 0; h < sums.size(); ++h) d_parameters[0][h] += static_cast<S>(sums[h]);
  }
  template <writable_tensor T>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias_backward(T&& d_scores, const attention_positions& at, gradient_spans<S> d_parameters, const executor& run = {}) const {
    bias_backward(d_scores, at, d_parameters, score_pass{}, run);
  }
  std::vector<parameter<S>> parameters() { return {{"slopes", slopes_, {heads()}}}; }

  friend bool operator==(const alibi&, const alibi&) = default;

 private:
  index_t heads() const noexcept { return static_cast<index_t>(slopes_.size()); }

  static position checked(position reference) {
    require(reference >= -(position{1} << 62) && reference <= position{1} << 62, name(), "reference must lie in [-2^62, 2^62]", reference);
    return reference;
  }
  template <class T>
  void check(const score_view<T>& scores, const attention_positions& at) const {
    require(scores.extent(1) == heads(), name(), "heads must match the slopes", heads(), scores.extent(1));
    require_match("alibi queries", at.queries, scores.extent(0), scores.extent(2));
    require_match("alibi keys", at.keys, scores.extent(0), scores.extent(3));
    require_output(name(), scores);
  }
  template <class T>
  kernels::bias_call<kernel_scalar<T>> call_of(T* scores, index_t head_count, index_t queries, index_t keys, index_t head_stride,
                                               index_t query_stride, index_t head, position_row query_ids, position_row key_ids,
                                               const score_pass& pass) const {
    const auto distance = form_ == alibi_form::causal      ? kernels::distance::causal
                          : form_ == alibi_form::symmetric ? kernels::distance::symmetric
                                                           : kernels::distance::key;
    return {.scores = kernel_pointer(scores),
            .heads = head_count,
            .queries = queries,
            .keys = keys,
            .head = head_stride,
            .query = query_stride,
            .slopes = slopes_.data() + head,
            .query_ids = query_ids.ids,
            .query_first = query_ids.first,
            .key_ids = key_ids.ids,
            .key_first = key_ids.first,
            .distance = distance,
            .reference = reference_,
            .scale = static_cast<S>(pass.scale),
            .causal = pass.causal};
  }
  /// Some heads and queries of batch row b.
  template <class T>
  kernels::bias_call<kernel_scalar<T>> row_call(const score_view<T>& s, const attention_positions& at, const score_pass& pass, index_t b,
                                                index_t head, index_t head_count, index_t query, index_t queries) const {
    return call_of(&s(b, head, query, 0), head_count, queries, s.extent(3), s.stride(1), s.stride(2), head, at.queries.row(b).from(query),
                   at.keys.row(b), pass);
  }
  template <class T, class In>
  void pass_over(const score_view<In>& in, const score_view<T>& out, const attention_positions& at, const score_pass& pass,
                 const executor& run) const {
    if (out.empty()) return;
    const index_t queries = out.extent(2), rows = out.extent(0) * heads() * queries;
    const double cost = detail::nanoseconds_per_value<T> * static_cast<double>(rows) * static_cast<double>(out.extent(3));
    run.split(rows, run.parts(rows, cost), [&](index_t, index_t from, index_t to) {
      detail::for_each_block(from, to, queries, [&](index_t first, index_t count, index_t query, index_t query_count) {
        for (index_t done = 0, n; done < count; done += n) {  // heads of one batch row at a time
          const index_t b = (first + done) / heads(), head = (first + done) % heads();
          n = std::min(count - done, heads() - head);
          auto call = row_call(out, at, pass, b, head, n, query, query_count);
          if (static_cast<const void*>(in.data()) != static_cast<const void*>(out.data()))
            call.in = kernel_pointer(&in(b, head, query, 0)), call.in_head = in.stride(1), call.in_query = in.stride(2);
          kernels::bias(call);
        }
      });
    });
  }

  std::vector<S> slopes_;
  alibi_form form_;
  position reference_;
};

static_assert(bias_encoder<alibi<float>> && bias_encoder<alibi<double>> && position_encoder<alibi<float>> && trainable<alibi<float>>);
static_assert(!additive_encoder<alibi<float>> && !rotary_encoder<alibi<float>> && !contextual_bias_encoder<alibi<float>>);

}  // namespace POSENC_NAMESPACE
