// SPDX-License-Identifier: MIT
/// \file  Forgetting gates: a bias of the gates between key and query. Lin, Nikishin, He, Courville 2025, "Forgetting Transformer: Softmax
///        Attention with a Forget Gate".
#pragma once

#include <posenc/bias_verbs.hpp>  // require_scores_match, block_of, for_each_score_block
#include <posenc/concepts.hpp>    // contextual_bias_encoder
#include <posenc/conditional/cumulative_gates.hpp>
#include <posenc/conditional/key_spans.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>       // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>   // gradient_spans
#include <posenc/kernels/forgetting.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// Which keys the gates forget.
enum class forgetting {
  causal,        ///< those before the query; the ones behind it get no bias
  bidirectional  ///< those behind it too, by gates of their own: the second half of the gates
};

struct forgetting_gates_options {
  required<index_t> heads;
  required<forgetting> direction;

  friend bool operator==(const forgetting_gates_options&, const forgetting_gates_options&) = default;
};

/// scores[b, h, i, j] += log f_j+1 + ... + log f_i for keys j up to the query i, 0 on the diagonal, after the scale; bidirectional: and
/// log f'_i+1 + ... + log f'_j for keys behind it. As differences of cumulative log gates, which are formed in double (see
/// `cumulative_gates`) and rounded to S once: |error| <= 2^-52 (|c_i| + |c_j|) + half a unit of the bias.
///
///     forgetting, causal         FoX, FoX (Pro), flash-linear-attention; x-transformers' DataDependentAlibi(causal = True)
///     forgetting, bidirectional  x-transformers' DataDependentAlibi(causal = False): the two chunks of its gates in order
///     constant gates             ALiBi with slopes -log f
///
/// The log gates `[batch, key, gate]` are `inputs.log_gates`, natural logarithms of all keys, cached and new (`forget_gate` makes them), or
/// sums of them that a `cumulative_gates` keeps: then a step adds up its own alone. Gates of heads, or twice as many.
/// Keys behind the query stay as they are (times the scale of a `score_pass`, and minus infinity with its mask). Pairs of different packed
/// documents get no bias: their mask is the caller's. What else tokens without a position and packed documents mean: `key_spans`.
///
/// Scores have the same bits in prefill, in chunks, in decode, in tiles and for any number of threads; a document has them alone as
/// packed. Nothing of the size of the scores is made: 8 bytes a log gate, and a `key_spans` where positions are given.
template <compute_scalar S>
class forgetting_gates {
 public:
  using scalar = S;
  using state = key_spans;

  /// \throws argument_error  unless heads are positive.
  explicit forgetting_gates(const forgetting_gates_options& options) : options_(options) {
    require(heads() > 0, name(), "heads must be positive", heads());
    checked_product(name(), std::array<index_t, 2>{2, heads()}, sizeof(double));
  }

  static constexpr std::string_view name() noexcept { return "forgetting_gates"; }
  const forgetting_gates_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.heads; }
  /// Per token.
  index_t gates() const noexcept { return bidirectional() ? 2 * heads() : heads(); }

  /// For all layers. \throws argument_error  where `key_spans` does.
  state prepare(const attention_positions& at, const executor& = {}) const { return key_spans(at, name()); }

  /// The checks of `bias` but for the gates' values and the places of queries: \throws argument_error  where it would.
  template <class T, class Q, detail::placed_scores At>
    requires(writable_as<T, S> && readable_as<Q, S>)
  void require_fits(const score_view<T>& scores, const attention_inputs<Q>& inputs, const At& at) const {
    require_scores(scores, at);
    const auto& given = inputs.log_gates;
    require(static_cast<bool>(given) || scores.empty(), name(), "the log gates must be given", "none");
    require(given.extents() == std::array{scores.extent(0), scores.extent(3), gates()} || scores.empty(), name(),
            "the log gates must be [batch, key, gate]", std::array{scores.extent(0), scores.extent(3), gates()}, given.extents());
    require_rows(name(), given);
  }

  /// scores += bias, in place; a `score_pass` scales before and masks after it.
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const At& at, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> s = scores;
    require_fits(s, inputs, at);
    const state& spans = ready(at);
    if (s.empty()) return;
    run_scores(s, sums_of(inputs.log_gates, spans), spans, pass, run);
  }
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const At& at, const executor& run = {}) const {
    bias(scores, inputs, at, score_pass{}, run);
  }

  /// The same from sums of the log gates of all keys.
  template <writable_tensor T, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias(T&& scores, const cumulative_gates& sums, const At& at, const score_pass& pass = {}, const executor& run = {}) const {
    const score_view<element_t<T>> s = scores;
    require_scores(s, at);
    require_sums(sums, s.extent(0), s.extent(3));
    const state& spans = ready(at);
    if (!s.empty()) run_scores(s, sums, spans, pass, run);
  }

  /// The same for one tile `[query, key]` of one head; `at` is of the whole.
  template <writable_tensor T>
    requires(rank_of<T> == 2 && writable_as<element_t<T>, S>)
  void bias_tile(T&& tile, const tile_place& place, const cumulative_gates& sums, const state& at, const score_pass& pass = {}) const {
    const tensor_view<element_t<T>, 2> s = tile;
    const auto& [queries, keys, unused] = at.at();
    require(place.head >= 0 && place.head < heads(), name(), "head must lie within the heads", heads(), place.head);
    require_sums(sums, sums.batch(), keys.time());
    require(place.batch >= 0 && place.batch < sums.batch() && (queries.batch() == 0 || queries.batch() == sums.batch()) &&
                (keys.batch() == 0 || keys.batch() == sums.batch()),
            name(), "the tile must lie within the batch", place.batch);
    require_output(name(), s);
    const position_row query_ids = queries.slice(place.query, s.extent(0)).row(place.batch);
    const position_row key_ids = keys.slice(place.key, s.extent(1)).row(place.batch);
    if (s.empty()) return;
    kernels::forgetting(call_of(kernels::score_block<kernel_scalar<element_t<T>>>{.scores = kernel_pointer(s.data()),
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
                                at, place, &sums));
  }

  /// The gradient of `bias`: adds to d_inputs.log_gates, where it is given; d_scores becomes the gradient of the scores that came in, which
  /// differs only where a `score_pass` scaled or masked. The gradient of log f_t is the sum of d_scores over all pairs that t lies between:
  /// row and column sums in double, then summed up over tokens. Log gates below `least_log_gate`, and those without a position, have none.
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const At& at,
                     gradient_spans<S> d_parameters, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    require_fits(d, inputs, at);
    require(d_parameters.empty(), name(), "there must be one gradient span per parameter", 0, d_parameters.size());
    const auto& d_gates = d_inputs.log_gates;
    if (d_gates) {
      require(d_gates.extents() == inputs.log_gates.extents(), name(), "gradients must have the shapes of what they are of",
              inputs.log_gates.extents(), d_gates.extents());
      require_output(name(), d_gates);
    }
    const state& spans = ready(at);
    if (d.empty()) return;
    const index_t keys = d.extent(3), units = d.extent(0) * heads();
    const double cost =
        4 * detail::nanoseconds_per_value<element_t<T>> * static_cast<double>(units) * static_cast<double>(d.extent(2) * keys);
    const index_t parts = run.parts(units, cost);
    const double bidirectional_sums = 0;  // the gradient asks only whether there are some
    std::vector<double> memory(static_cast<std::size_t>(checked_product(name(), std::array<index_t, 3>{parts, 2, keys}, sizeof(double))));
    run.split(units, parts, [&](index_t part, index_t from, index_t to) {
      double* const sums = memory.data() + part * 2 * keys;
      for (index_t unit = from; unit < to; ++unit) {
        const index_t b = unit / heads(), h = unit % heads();
        std::fill_n(sums, 2 * keys, 0.0);
        auto call = call_of(detail::block_of(d, d, spans.at(), pass, b, h, 1, 0, d.extent(2)), spans, {b, h, 0, 0}, nullptr);
        if (bidirectional()) call.sums_after = &bidirectional_sums;
        kernels::forgetting_gradient<kernel_scalar<element_t<T>>>({call, d_gates ? sums : nullptr, sums + keys});
        if (!d_gates) continue;
        add_gate_gradient(inputs.log_gates, d_gates, spans.at().keys.row(b), b, h, sums, 1);
        if (bidirectional()) add_gate_gradient(inputs.log_gates, d_gates, spans.at().keys.row(b), b, heads() + h, sums + keys, -1);
      }
    });
  }
  template <writable_tensor T, class Q, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const At& at,
                     gradient_spans<S> d_parameters, const executor& run = {}) const {
    bias_backward(d_scores, inputs, d_inputs, at, d_parameters, score_pass{}, run);
  }

  friend bool operator==(const forgetting_gates&, const forgetting_gates&) = default;

 private:
  bool bidirectional() const noexcept { return options_.direction == forgetting::bidirectional; }

  const state& ready(const state& spans) const noexcept { return spans; }
  state ready(const attention_positions& at) const { return prepare(at); }

  template <class T, class At>
  void require_scores(const score_view<T>& scores, const At& at) const {
    require(scores.extent(1) == heads(), name(), "heads must match the encoder", heads(), scores.extent(1));
    detail::require_scores_match(name(), detail::positions_of(at), scores.extent(0), scores.extent(2), scores.extent(3));
    require_output(name(), scores);
  }
  void require_sums(const cumulative_gates& sums, index_t batch, index_t keys) const {
    require(sums.batch() == batch && sums.gates() == gates() && sums.length() == keys, name(),
            "the sums must be of the batch, the gates and the keys", std::array{batch, gates(), keys},
            std::array{sums.batch(), sums.gates(), sums.length()});
  }

  template <class G>
  cumulative_gates sums_of(const tensor_view<const G, 3>& log_gates, const state& spans) const {
    cumulative_gates sums(log_gates.extent(0), gates(), log_gates.extent(1));
    sums.append(log_gates, spans.at().keys);
    return sums;
  }

  /// sums: null where only gradients are asked for.
  template <class T>
  kernels::forgetting_call<T> call_of(const kernels::score_block<T>& block, const state& spans, const tile_place& place,
                                      const cumulative_gates* sums) const {
    kernels::forgetting_call<T> call{block, spans.row(place.batch) + place.query, place.key, nullptr, spans.at().keys.time()};
    if (!sums) return call;
    call.sums = sums->row(place.batch, place.head);
    call.sums_head = sums->gate_stride();
    if (bidirectional()) call.sums_after = sums->row(place.batch, heads() + place.head);
    return call;
  }
  template <class T>
  void run_scores(const score_view<T>& scores, const cumulative_gates& sums, const state& spans, const score_pass& pass,
                  const executor& run) const {
    detail::for_each_score_block(scores, run, detail::nanoseconds_per_value<T>,
                                 [&](index_t b, index_t head, index_t heads, index_t query, index_t queries) {
                                   const auto block = detail::block_of(scores, scores, spans.at(), pass, b, head, heads, query, queries);
                                   kernels::forgetting(call_of(block, spans, {b, head, query, 0}, &sums));
                                 });
  }

  /// From the gradients of the sums, those of what was summed: of a gate, the sum from its token to the end of the document.
  template <class G>
  static void add_gate_gradient(const tensor_view<const G, 3>& log_gates, const tensor_view<G, 3>& d_gates, const position_row& keys,
                                index_t b, index_t gate, const double* d_sums, double sign) {
    double rest = 0;  // it comes back to 0 where a document begins, but for rounding
    position next = no_position;
    for (index_t t = log_gates.extent(1); t-- > 0;) {
      if (keys[t] == no_position) continue;
      if (next != no_position && next <= keys[t]) rest = 0;
      next = keys[t];
      rest += d_sums[t];
      if (static_cast<double>(log_gates(b, t, gate)) >= least_log_gate) d_gates(b, t, gate) += static_cast<G>(sign * rest);
    }
  }

  forgetting_gates_options options_;
};

/// FoX's rule for leaving out blocks of keys: a block whose biases all lie below it changes no weight by more than `epsilon` in sum, where
/// |scale * q.k| <= most_score and there are that many keys: log epsilon - 2 most_score - log keys.
/// \throws argument_error  unless the arguments are positive and finite, most_score at least 0.
inline double forgetting_threshold(double most_score, index_t keys, double epsilon) {
  constexpr std::string_view who = "forgetting_threshold";
  require(std::isfinite(most_score) && most_score >= 0, who, "most_score must be finite and not negative", most_score);
  require(keys > 0, who, "keys must be positive", keys);
  require(std::isfinite(epsilon) && epsilon > 0, who, "epsilon must be positive and finite", epsilon);
  return std::log(epsilon) - 2 * most_score - std::log(static_cast<double>(keys));
}

static_assert(contextual_bias_encoder<forgetting_gates<float>> && contextual_bias_encoder<forgetting_gates<double>>);
static_assert(position_encoder<forgetting_gates<float>> && !bias_encoder<forgetting_gates<float>> && !trainable<forgetting_gates<float>>);

}  // namespace POSENC_NAMESPACE
