// SPDX-License-Identifier: MIT
/// \file  The verbs of encoders that give each distance a key of its own: Shaw, Music Transformer, Transformer-XL, relative logits.
#pragma once

#include <posenc/bias_verbs.hpp>  // require_scores_match, placed_scores
#include <posenc/concepts.hpp>    // attention_inputs, score_pass
#include <posenc/config.hpp>
#include <posenc/error.hpp>       // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>   // attention_gradients, gradient_spans
#include <posenc/heads.hpp>
#include <posenc/relative/relative_products.hpp>
#include <posenc/relative/relative_vectors.hpp>
#include <posenc/relative/require_inputs.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// What `add_gradient` of an encoder is given.
template <class S>
struct relative_key_gradient {
  std::vector<S> vectors;  ///< `[head, distance, channel]`, a part for each head even where heads share them
  std::vector<S> query_bias, key_bias;  ///< `[head, channel]`
};

/// scores[b, h, i, j] += factor * ((q_i + v_h) . key(j - i) + u_h . k_j), where u and v are biases per head or absent and the factor is
/// that of Derived: the score scale, for keys that stand beside k. A `score_pass` scales before and masks after it.
///
/// Products are matrix products of a block of queries with the keys of the distances that occur, read along diagonals: nothing of
/// `[query, key, channel]` is made. Positions are true ones, so a cache, chunks, packed and padded sequences need nothing else. Scores have
/// the same bits in prefill, in decode and for any number of threads. Allocates 256 KB a thread, and with u a number per key and head.
/// Storage of 16 bits computes in float and rounds once.
///
/// Derived offers name(), channels(), heads() (0: any number), and to this class:
///   placed(at, run)             these positions, or what `prepare` makes of them
///   vectors(at)                 the relative_vectors at that
///   factor(scale)               what multiplies them
///   query_bias(), key_bias()    v and u, `[head, channel]` or null
///   has_vectors()               whether there are any: without, `bias` scales and masks only, and needs no queries
///   require_spans(spans)        throws unless they fit the parameters
///   add_gradient(at, heads, d, spans)  adds a `relative_key_gradient` to the spans of the parameters
template <class Derived, compute_scalar S>
class relative_key_verbs {
 public:
  using scalar = S;

  /// The checks of `bias`, alone: \throws argument_error  where it would.
  template <class T, class Q, class At>
    requires writable_as<T, S>
  void require_fits(const score_view<T>& scores, const attention_inputs<Q>& inputs, const At& at) const {
    const std::string_view who = derived().name();
    require(derived().heads() == 0 || scores.extent(1) == derived().heads(), who, "heads must match the encoder", derived().heads(),
            scores.extent(1));
    detail::require_scores_match(who, detail::positions_of(at), scores.extent(0), scores.extent(2), scores.extent(3));
    require_output(who, scores);
    if (scores.empty()) return;
    if (derived().has_vectors()) detail::require_queries(who, scores, inputs.queries, derived().channels());
    if (derived().key_bias()) detail::require_keys(who, scores, inputs.keys, derived().channels());
  }

  /// scores += ..., in place. inputs: the queries before scaling, where there is a u the keys too, and the score scale.
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const At& at, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> s = scores;
    require_fits(s, inputs, at);
    if (!s.empty()) run_scores(s, s, inputs, at, pass, run);
  }
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const At& at, const executor& run = {}) const {
    bias(scores, inputs, at, score_pass{}, run);
  }

  /// The same from `in` to `out`. They may be one tensor, but not overlap in part.
  template <readable_tensor In, writable_tensor Out, class Q, detail::placed_scores At>
    requires(rank_of<In> == 4 && rank_of<Out> == 4 && writable_as<element_t<Out>, S> && stored_as<element_t<In>, element_t<Out>> &&
             readable_as<Q, S>)
  void bias(const In& in, Out&& out, const attention_inputs<Q>& inputs, const At& at, const score_pass& pass = {},
            const executor& run = {}) const {
    const score_view<const element_t<Out>> from = in;
    const score_view<element_t<Out>> to = out;
    const std::string_view who = derived().name();
    require(from.extents() == to.extents(), who, "the output must have the input's shape", from.extents(), to.extents());
    require_fits(to, inputs, at);
    require_rows(who, from);
    require(!overlaps_partly(from, to), who, "input and output must be one view or not overlap", from.extents(), to.extents());
    if (!to.empty()) run_scores(from, to, inputs, at, pass, run);
  }

  /// The gradient of `bias`: adds to d_inputs, where its views are given, and to d_parameters; d_scores becomes the gradient of the scores
  /// that came in, which differs only where a `score_pass` scaled or masked. Sums over queries are taken in S, in their order, head by
  /// head.
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const At& at,
                     gradient_spans<S> d_parameters, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    require_fits(d, inputs, at);
    derived().require_spans(d_parameters);
    const bool asks_queries = d_inputs.queries && derived().has_vectors();
    if (asks_queries) detail::require_gradient(derived().name(), d_inputs.queries, inputs.queries);
    const bool asks_keys = d_inputs.keys && derived().key_bias();
    if (asks_keys) detail::require_gradient(derived().name(), d_inputs.keys, inputs.keys);
    if (d.empty()) return;
    if (!derived().has_vectors()) return detail::pass_scores_gradient(d, detail::positions_of(at), pass, run);
    const auto& placed = derived().placed(at, run);  // lives on where it is made here
    const auto product = product_of(placed, inputs, pass);
    const index_t heads = d.extent(1), channels = derived().channels();
    const auto zeros = [](index_t count) { return std::vector<S>(static_cast<std::size_t>(count)); };
    relative_key_gradient<S> all{zeros(checked_product(derived().name(), std::array{heads, product.vectors.count, channels}, sizeof(S))),
                                 zeros(derived().query_bias() ? heads * channels : 0), zeros(derived().key_bias() ? heads * channels : 0)};
    std::vector<S> d_key_values = zeros(derived().key_bias() ? d.extent(0) * heads * d.extent(3) : 0);
    detail::add_relative_products_gradient(d, inputs.queries, product,
                                           detail::relative_product_gradient<S, Q>{.x = d_inputs.queries,
                                                                                   .vectors = all.vectors.data(),
                                                                                   .query_shift = pointer(all.query_bias),
                                                                                   .key_values = pointer(d_key_values)},
                                           run);
    for (S& value : all.query_bias) value *= product.factor;
    if (derived().key_bias()) add_key_gradients(inputs, d_inputs, product.factor, d_key_values, all.key_bias, run);
    derived().add_gradient(placed, heads, all, d_parameters);
  }
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const At& at,
                     gradient_spans<S> d_parameters, const executor& run = {}) const {
    bias_backward(d_scores, inputs, d_inputs, at, d_parameters, score_pass{}, run);
  }

 protected:
  relative_key_verbs() = default;
  const Derived& derived() const noexcept { return static_cast<const Derived&>(*this); }

  // What most encoders say; hidden by a member of Derived.
  static constexpr bool has_vectors() noexcept { return true; }
  static constexpr const S* query_bias() noexcept { return nullptr; }
  static constexpr const S* key_bias() noexcept { return nullptr; }
  template <class At>
  static const At& placed(const At& at, const executor&) noexcept {
    return at;
  }
  static constexpr S factor(double scale) noexcept { return static_cast<S>(scale); }

 private:
  static S* pointer(std::vector<S>& values) { return values.empty() ? nullptr : values.data(); }

  template <class At, class Q>
  detail::relative_product<S> product_of(const At& at, const attention_inputs<Q>& inputs, const score_pass& pass) const {
    return {.vectors = derived().vectors(at),
            .at = detail::positions_of(at),
            .pass = pass,
            .factor = derived().factor(inputs.scale),
            .query_shift = derived().query_bias()};
  }

  template <class T, class In, class Q, class At>
  void run_scores(const score_view<In>& in, const score_view<T>& out, const attention_inputs<Q>& inputs, const At& at,
                  const score_pass& pass, const executor& run) const {
    if (!derived().has_vectors()) return detail::pass_scores(in, out, detail::positions_of(at), pass, run);
    const auto& placed = derived().placed(at, run);  // lives on where it is made here
    auto product = product_of(placed, inputs, pass);
    const std::vector<S> key_values = key_values_of(out, inputs, product.factor, run);
    if (!key_values.empty()) product.key_values = key_values.data();
    detail::add_relative_products(in, out, inputs.queries, product, run);
  }

  static constexpr index_t keys_together = 64;

  /// factor * u_h . k_j, `[batch, head, key]`.
  template <class T, class Q>
  std::vector<S> key_values_of(const score_view<T>& scores, const attention_inputs<Q>& inputs, S factor, const executor& run) const {
    const S* const u = derived().key_bias();
    if (!u) return {};
    const index_t heads = scores.extent(1), keys = scores.extent(3), channels = derived().channels();
    const index_t rows = scores.extent(0) * heads, sharing = heads / inputs.keys.count();
    std::vector<S> values(static_cast<std::size_t>(rows * keys));
    const double cost = 2 * detail::nanoseconds_per_product<S>(channels) * static_cast<double>(rows * keys);
    const index_t parts = run.parts(rows, cost), spare = keys_together * channels;
    std::vector<S> memory(static_cast<std::size_t>(parts * spare));
    run.split(rows, parts, [&](index_t part, index_t from, index_t to) {
      S* const some = memory.data() + part * spare;
      for (; from < to; ++from)
        for (index_t j = 0; j < keys; j += keys_together) {
          const index_t count = std::min(keys_together, keys - j), h = from % heads;
          detail::widen_rows<Q, S>(inputs.keys, from / heads, j, count, h / sharing, some, nullptr, factor);
          kernels::linear<S>({.x = some,
                              .y = values.data() + from * keys + j,
                              .tokens = count,
                              .in = channels,
                              .out = 1,
                              .x_token = channels,
                              .y_token = 1,
                              .w = u + h * channels,
                              .w_row = channels});
        }
    });
    return values;
  }

  /// From the gradient of what `key_values_of` made. Query heads that share a key's are summed before they are stored.
  template <class Q>
  void add_key_gradients(const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, S factor,
                         const std::vector<S>& d_values, std::vector<S>& d_u, const executor& run) const {
    const index_t channels = derived().channels(), keys = inputs.keys.time(), heads = static_cast<index_t>(d_u.size()) / channels;
    const index_t sharing = heads / inputs.keys.count(), spare = 2 * keys_together * channels;
    const double cost = 2 * detail::nanoseconds_per_product<S>(channels) * static_cast<double>(d_values.size());
    const index_t parts = run.parts(inputs.keys.count(), cost);
    std::vector<S> memory(static_cast<std::size_t>(parts * spare));
    run.split(inputs.keys.count(), parts, [&](index_t part, index_t from, index_t to) {
      S* const some = memory.data() + part * spare;
      S* const d_some = some + keys_together * channels;
      for (; from < to; ++from)
        for (index_t b = 0; b < inputs.keys.batch(); ++b)
          for (index_t j = 0; j < keys; j += keys_together) {
            const index_t count = std::min(keys_together, keys - j);
            detail::widen_rows<Q, S>(inputs.keys, b, j, count, from, some, nullptr, factor);
            for (index_t h = from * sharing; h < (from + 1) * sharing; ++h) {
              const S* const d = d_values.data() + (b * heads + h) * keys + j;
              kernels::linear_weight_gradient<S, S>({.d_y = d,
                                                     .x = some,
                                                     .tokens = count,
                                                     .in = channels,
                                                     .out = 1,
                                                     .d_y_token = 1,
                                                     .x_token = channels,
                                                     .d_w = d_u.data() + h * channels,
                                                     .d_w_row = channels});
              if (d_inputs.keys)
                kernels::linear_input_gradient<S, S>({.d_y = d,
                                                      .d_x = d_some,
                                                      .tokens = count,
                                                      .in = channels,
                                                      .out = 1,
                                                      .d_y_token = 1,
                                                      .d_x_token = channels,
                                                      .w = derived().key_bias() + h * channels,
                                                      .w_row = channels,
                                                      .accumulate = h > from * sharing});
            }
            if (d_inputs.keys) detail::add_rows(d_inputs.keys, b, j, count, from, d_some, factor);
          }
    });
  }
};

}  // namespace POSENC_NAMESPACE
