// SPDX-License-Identifier: MIT
/// \file  Forgetting gates of each query's own: x-transformers' PerRowDataDependentAlibi.
#pragma once

#include <posenc/bias_verbs.hpp>  // require_scores_match, block_of
#include <posenc/concepts.hpp>    // contextual_bias_encoder
#include <posenc/conditional/cumulative_gates.hpp>  // least_log_gate
#include <posenc/conditional/key_spans.hpp>
#include <posenc/conditional/log_sigmoid.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>       // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>   // attention_gradients, gradient_spans
#include <posenc/heads.hpp>
#include <posenc/kernels/forgetting.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/kernels/log_sigmoid.hpp>
#include <posenc/relative/relative_vectors.hpp>  // widen_rows
#include <posenc/relative/require_inputs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

struct row_forgetting_gates_options {
  required<index_t> heads, channels;  ///< of the small projections; x-transformers' default is 8 channels
  double log_scale = 1;               ///< multiplies the log gates: x-transformers' post_log_scale

  friend bool operator==(const row_forgetting_gates_options&, const row_forgetting_gates_options&) = default;
};

/// scores[b, h, i, j] += log f_i,j + log f_i,j+1 + ... + log f_i,i-1 for keys j before the query i, after the scale, where
///
///     log f_i,t = log_scale * log_sigmoid(q_i . k_t / sqrt(channels))
///
/// so that each query forgets in its own way: the sum includes the key and excludes the query, where `forgetting_gates` do the reverse. On
/// the diagonal and behind it the bias is 0. Log gates below `least_log_gate` count as that.
///
/// q is `inputs.queries`; k is `inputs.gate_keys` where given, and else `inputs.keys`: small projections of their own in x-transformers,
/// which several heads of queries may share. What positions mean: `key_spans`.
///
/// Works query by query: per query and head, products with the keys before it, and their sums in double, each rounded to S once. Scores
/// have the same bits in prefill, in chunks, in decode and for any number of threads. Allocates channels + 3 numbers a key and thread;
/// nothing of the size of the scores is made.
template <compute_scalar S>
class row_forgetting_gates {
 public:
  using scalar = S;
  using state = key_spans;

  /// \throws argument_error  unless heads and channels are positive and log_scale is finite and not negative.
  explicit row_forgetting_gates(const row_forgetting_gates_options& options) : options_(options) {
    require(heads() > 0, name(), "heads must be positive", heads());
    require(channels() > 0, name(), "channels must be positive", channels());
    detail::require_log_scale(name(), options.log_scale);
  }

  static constexpr std::string_view name() noexcept { return "row_forgetting_gates"; }
  const row_forgetting_gates_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.heads; }
  index_t channels() const noexcept { return options_.channels; }

  /// For all layers. \throws argument_error  where `key_spans` does.
  state prepare(const attention_positions& at, const executor& = {}) const { return key_spans(at, name()); }

  /// The checks of `bias` but for the places of queries: \throws argument_error  where it would.
  template <class T, class Q, detail::placed_scores At>
    requires(writable_as<T, S> && readable_as<Q, S>)
  void require_fits(const score_view<T>& scores, const attention_inputs<Q>& inputs, const At& at) const {
    require(scores.extent(1) == heads(), name(), "heads must match the encoder", heads(), scores.extent(1));
    detail::require_scores_match(name(), detail::positions_of(at), scores.extent(0), scores.extent(2), scores.extent(3));
    require_output(name(), scores);
    if (scores.empty()) return;
    detail::require_queries(name(), scores, inputs.queries, channels());
    detail::require_keys(name(), scores, keys_of(inputs), channels());
  }

  /// scores += bias, in place; a `score_pass` scales before and masks after it.
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const At& at, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> s = scores;
    require_fits(s, inputs, at);
    const state& spans = ready(at);
    if (s.empty()) return;
    const head_view<const Q> keys = keys_of(inputs);
    for_each_keys(s, keys, spans, run, 1, [&](index_t b, index_t h, own_memory& own) {
      for (index_t i = 0; i < s.extent(2); ++i) {
        const kernels::key_span& span = sum_gates(inputs.queries, spans, b, h, i, own);
        kernels::forgetting<kernel_scalar<element_t<T>>>(
            {detail::block_of(s, s, spans.at(), pass, b, h, 1, i, 1), &span, 0, own.sums.data(), 0});
      }
    });
  }
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const At& at, const executor& run = {}) const {
    bias(scores, inputs, at, score_pass{}, run);
  }

  /// The gradient of `bias`: adds to d_inputs.queries, and to d_inputs.gate_keys where the inputs have gate_keys, else d_inputs.keys, where
  /// those are given; d_scores becomes the gradient of the scores that came in, which differs only where a `score_pass` scaled or masked.
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const At& at,
                     gradient_spans<S> d_parameters, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    require_fits(d, inputs, at);
    require(d_parameters.empty(), name(), "there must be one gradient span per parameter", 0, d_parameters.size());
    const head_view<const Q> keys = keys_of(inputs);
    const head_view<Q> d_queries = d_inputs.queries, d_keys = inputs.gate_keys ? d_inputs.gate_keys : d_inputs.keys;
    if (d_queries) detail::require_gradient(name(), d_queries, inputs.queries);
    if (d_keys) detail::require_gradient(name(), d_keys, keys);
    const state& spans = ready(at);
    if (d.empty()) return;
    const index_t sharing = heads() / keys.count();
    for_each_keys(d, keys, spans, run, sharing, [&](index_t b, index_t h, own_memory& own) {
      if (h % sharing == 0) own.d_keys.assign(own.keys.size(), S(0));
      for (index_t i = 0; i < d.extent(2); ++i) {
        const kernels::key_span& span = sum_gates(inputs.queries, spans, b, h, i, own);
        std::ranges::fill(own.sums, 0.0);
        kernels::forgetting_gradient<kernel_scalar<element_t<T>>>(
            {{detail::block_of(d, d, spans.at(), pass, b, h, 1, i, 1), &span, 0, nullptr, 0}, own.sums.data(), nullptr});
        if (span.own > span.first) add_gradients(span, spans.at().keys.row(b), own, d_queries, b, h, i);
      }
      if (d_keys && (h + 1) % sharing == 0) detail::add_rows<Q, S>(d_keys, b, 0, d.extent(3), h / sharing, own.d_keys.data(), S(1));
    });
  }
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const At& at,
                     gradient_spans<S> d_parameters, const executor& run = {}) const {
    bias_backward(d_scores, inputs, d_inputs, at, d_parameters, score_pass{}, run);
  }

  friend bool operator==(const row_forgetting_gates&, const row_forgetting_gates&) = default;

 private:
  /// Of a thread: the keys of a head, a query, and by key the logits of the query's gates, their logarithms, and minus their sums.
  struct own_memory {
    std::vector<S> keys, d_keys, query, logits, log_gates;
    std::vector<double> sums;
  };

  const state& ready(const state& spans) const noexcept { return spans; }
  state ready(const attention_positions& at) const { return prepare(at); }

  template <class Q>
  static head_view<const Q> keys_of(const attention_inputs<Q>& inputs) {
    return inputs.gate_keys ? inputs.gate_keys : inputs.keys;
  }

  /// Calls act(b, h, memory) for all heads, `together` of them in one thread and in order. The memory has the keys of the head.
  template <class T, class Q, class Act>
  void for_each_keys(const score_view<T>& scores, const head_view<const Q>& keys, const state& spans, const executor& run, index_t together,
                     const Act& act) const {
    const index_t units = scores.extent(0) * heads() / together, count = scores.extent(3), sharing = heads() / keys.count();
    const double cost = static_cast<double>(scores.extent(0) * heads() * scores.extent(2)) * static_cast<double>(count) *
                        (detail::nanoseconds_per_log_gate + static_cast<double>(channels()) / 16);
    run.split(units, run.parts(units, cost), [&](index_t, index_t from, index_t to) {
      own_memory own;
      own.keys.resize(static_cast<std::size_t>(count * channels()));
      own.query.resize(static_cast<std::size_t>(channels()));
      own.logits.resize(static_cast<std::size_t>(count));
      own.log_gates.resize(static_cast<std::size_t>(count));
      own.sums.resize(static_cast<std::size_t>(count));
      for (index_t item = from * together; item < to * together; ++item) {
        const index_t b = item / heads(), h = item % heads();
        detail::widen_rows<Q, S>(keys, b, 0, count, h / sharing, own.keys.data(), nullptr, S(1));
        const position_row ids = spans.at().keys.row(b);
        for (index_t t = 0; ids.ids && t < count; ++t)
          if (ids[t] == no_position) std::fill_n(own.keys.data() + t * channels(), channels(), S(0));  // whatever padding has
        act(b, h, own);
      }
    });
  }
  S scale() const noexcept { return static_cast<S>(1 / std::sqrt(static_cast<double>(channels()))); }

  /// Fills the memory for a query: -(log f_j + ... + log f_own-1) for the keys before it.
  template <class Q>
  const kernels::key_span& sum_gates(const head_view<const Q>& queries, const state& spans, index_t b, index_t h, index_t i,
                                     own_memory& own) const {
    const kernels::key_span& span = spans.row(b)[i];
    if (span.own < 0) return span;
    detail::widen_rows<Q, S>(queries, b, i, 1, h, own.query.data(), nullptr, scale());
    const index_t count = span.own - span.first;
    S* const logits = own.logits.data() + span.first;
    kernels::linear<S>({.x = own.query.data(),
                        .y = logits,
                        .tokens = 1,
                        .in = channels(),
                        .out = count,
                        .x_token = channels(),
                        .y_token = count,
                        .w = own.keys.data() + span.first * channels(),
                        .w_row = channels()});
    kernels::log_sigmoid<S>({logits, own.log_gates.data() + span.first, 1, count, count, count, static_cast<S>(options_.log_scale)});
    const position_row keys = spans.at().keys.row(b);
    double sum = 0;
    own.sums[static_cast<std::size_t>(span.own)] = 0;
    for (index_t t = span.own; t-- > span.first;) {
      if (keys[t] != no_position) sum -= std::max(static_cast<double>(own.log_gates[static_cast<std::size_t>(t)]), least_log_gate);
      own.sums[static_cast<std::size_t>(t)] = sum;
    }
    return span;
  }

  /// From minus the gradients of a query's sums to those of its channels and the keys'.
  template <class Q>
  void add_gradients(const kernels::key_span& span, const position_row& keys, own_memory& own, const head_view<Q>& d_queries, index_t b,
                     index_t h, index_t i) const {
    const index_t count = span.own - span.first;
    double before = 0;
    for (index_t t = span.first; t < span.own; ++t) {
      const auto at = static_cast<std::size_t>(t);
      before -= own.sums[at];
      const bool counts = keys[t] != no_position && static_cast<double>(own.log_gates[at]) >= least_log_gate;
      own.log_gates[at] = counts ? static_cast<S>(before) : S(0);
    }
    S* const d = own.log_gates.data() + span.first;
    kernels::log_sigmoid_gradient<S>(
        {own.logits.data() + span.first, d, d, 1, count, count, count, count, static_cast<S>(options_.log_scale)});
    kernels::linear_weight_gradient<S, S>({.d_y = d,
                                           .x = own.query.data(),
                                           .tokens = 1,
                                           .in = channels(),
                                           .out = count,
                                           .d_y_token = count,
                                           .x_token = channels(),
                                           .d_w = own.d_keys.data() + span.first * channels(),
                                           .d_w_row = channels()});
    if (!d_queries) return;
    kernels::linear_input_gradient<S, S>({.d_y = d,
                                          .d_x = own.query.data(),
                                          .tokens = 1,
                                          .in = channels(),
                                          .out = count,
                                          .d_y_token = count,
                                          .d_x_token = channels(),
                                          .w = own.keys.data() + span.first * channels(),
                                          .w_row = channels(),
                                          .accumulate = false});
    detail::add_rows<Q, S>(d_queries, b, i, 1, h, own.query.data(), scale());
  }

  row_forgetting_gates_options options_;
};

static_assert(contextual_bias_encoder<row_forgetting_gates<float>> && contextual_bias_encoder<row_forgetting_gates<double>>);
static_assert(position_encoder<row_forgetting_gates<float>> && !bias_encoder<row_forgetting_gates<float>>);

}  // namespace POSENC_NAMESPACE
