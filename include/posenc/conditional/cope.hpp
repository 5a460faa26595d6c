// SPDX-License-Identifier: MIT
/// \file  Positions that count what a query finds worth counting. Golovneva et al. 2024, "Contextual Position Encoding".
#pragma once

#include <posenc/bias_verbs.hpp>  // require_scores_match
#include <posenc/concepts.hpp>    // contextual_bias_encoder
#include <posenc/conditional/cope_blocks.hpp>
#include <posenc/conditional/cope_options.hpp>
#include <posenc/conditional/visible_spans.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>       // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>   // parameter, attention_gradients
#include <posenc/heads.hpp>
#include <posenc/inputs.hpp>
#include <posenc/kernels/cope.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/relative/relative_vectors.hpp>  // add_rows, add_vector_gradient
#include <posenc/relative/require_inputs.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// scores[b, h, i, j] += z_i(p_ij), with z_i(p) = q_i . e_p for whole p, times the scale where the options say so, linear in between, and
///
///     p_ij = min(sum of g_it over the keys t from j up to the query, max_positions - 1),    g_ij = sigmoid(score_ij)
///
/// where q comes before scaling. Only keys count that the query sees: `inputs.causal` and `inputs.window` must say what the mask will, for
/// a mask that comes later closes no gate (scores of minus infinity do). Where attention is not causal, sums begin at the last key. Keys
/// that the query does not see, and tokens without a position, get no bias. Positions of keys must ascend, with any gaps; where queries and
/// keys are the same tokens they may begin anew, with a document that sees itself alone.
///
/// Parameter: "embeddings" `[max_positions, channels]`, or `[heads, max_positions, channels]`: x-transformers' pos_emb. The authors' is
/// `[1, channels, npos]`: transpose it.
///
/// It needs whole rows of scores, so it has no form for tiles and cannot ride on one-pass fused attention.
///
/// Positions are within 11 roundings to S, relative, for any number of keys, and one more of q . k where gates have keys of their own; z
/// has the roundings of a product of so many channels. Scores have the same bits in prefill, in chunks, in decode with a cache and for any
/// number of threads. Nothing of the size of the scores is allocated: a row of keys a thread, 4 to 64 where gates have keys of their own,
/// the products of 64 queries with the embeddings, and 24 bytes a query.
template <compute_scalar S>
class cope {
 public:
  using scalar = S;

  /// Embeddings of zeros, which add nothing, as training begins.
  /// \throws argument_error  unless heads and channels are positive and max_positions lies within 2 ... 2^24.
  explicit cope(const cope_options& options) : options_(options) {
    require(heads() > 0, name(), "heads must be positive", heads());
    require(channels() > 0, name(), "channels must be positive", channels());
    require(max_positions() >= 2 && max_positions() <= index_t{1} << 24, name(), "max_positions must lie within 2 and 2^24",
            max_positions());
    embeddings_.resize(
        static_cast<std::size_t>(checked_product(name(), std::array{tables(), max_positions(), channels()}, sizeof(double))));
  }

  static constexpr std::string_view name() noexcept { return "cope"; }
  const cope_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.heads; }
  index_t channels() const noexcept { return options_.channels; }
  index_t max_positions() const noexcept { return options_.max_positions; }

  /// The checks of `bias`, alone: \throws argument_error  where it would.
  template <class T, class Q>
    requires(writable_as<T, S> && readable_as<Q, S>)
  void require_fits(const score_view<T>& scores, const attention_inputs<Q>& inputs, const attention_positions& at) const {
    checked_spans(scores, inputs, at);
  }

  /// scores += bias, in place. Reads inputs.queries, inputs.causal, inputs.window, and inputs.gate_keys where gates are of these.
  template <writable_tensor T, class Q>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const attention_positions& at, const executor& run = {}) const {
    const score_view<element_t<T>> s = scores;
    const auto spans = checked_spans(s, inputs, at);
    if (s.empty()) return;
    const auto blocks = in_blocks();
    blocks.split(s, run, 0, [&](const detail::cope_block& block, work& mine) {
      blocks.read(inputs, spans, block, mine);
      for (index_t n = 0; n < block.count; ++n) {
        const detail::key_span& span = spans(block.b, block.query + n);
        const index_t keys = span.end - span.begin;
        if (keys == 0) continue;
        element_t<T>* const row = &s(block.b, block.h, block.query + n, span.begin);
        const std::int64_t* const ids = blocks.ids_of(at, block.b, span);
        const index_t at_last =
            blocks.count(static_cast<const element_t<T>*>(row), span, n, ids, mine, mine.positions.data(), nullptr, inputs.scale);
        kernels::cope<kernel_scalar<element_t<T>>>({.scores = kernel_pointer(row),
                                                    .keys = keys,
                                                    .at_last = at_last,
                                                    .positions = mine.positions.data(),
                                                    .key_ids = ids,
                                                    .z = blocks.z_of(mine, n),
                                                    .last = blocks.last()});
      }
    });
  }

  /// out[b, h, i, j] = p_ij, and 0 where the query does not see the key: what `bias` counts, to look at. Reads what `bias` reads, and
  /// inputs.scores where gates are of these.
  template <writable_tensor T, class Q>
    requires(rank_of<T> == 4 && std::same_as<element_t<T>, S> && readable_as<Q, S>)
  void contextual_positions(const attention_inputs<Q>& inputs, const attention_positions& at, T&& out, const executor& run = {}) const {
    const score_view<S> y = out;
    const auto spans = checked_spans(y, inputs, at);
    if (y.empty()) return;
    require_scores(inputs, y);
    const auto blocks = in_blocks();
    blocks.split(y, run, 0, [&](const detail::cope_block& block, work& mine) {
      blocks.read(inputs, spans, block, mine);
      for (index_t n = 0; n < block.count; ++n) {
        const detail::key_span& span = spans(block.b, block.query + n);
        S* const row = &y(block.b, block.h, block.query + n, 0);
        std::fill_n(row, y.extent(3), S(0));
        if (span.end == span.begin) continue;
        const std::int64_t* const ids = blocks.ids_of(at, block.b, span);
        const index_t at_last =
            blocks.count(blocks.score_row(inputs, block, n, span), span, n, ids, mine, row + span.begin, nullptr, inputs.scale);
        std::fill_n(row + span.begin, at_last, blocks.last());
        for (index_t j = span.begin; ids && j < span.end; ++j)
          if (ids[j - span.begin] == no_position) row[j] = 0;
      }
    });
  }

  /// The gradient of `bias`: adds to d_inputs.queries and, where gates are of gate keys, to d_inputs.gate_keys, where these are given, and
  /// to d_parameters. d_scores becomes the gradient of the scores that came in: where gates are of the scores, these are read from
  /// `inputs.scores`, another tensor (in a composition: as this part got them); otherwise it does not change. A position that is whole
  /// takes no gradient, nor one at the end. Sums over keys are taken in double, those over queries in S, in order. Allocates one table of
  /// embeddings per head too.
  template <writable_tensor T, class Q>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const attention_positions& at,
                     gradient_spans<S> d_parameters, const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    const auto spans = checked_spans(d, inputs, at);
    require(d_parameters.size() == 1, name(), "there must be one gradient span per parameter", 1, d_parameters.size());
    require(d_parameters[0].size() == embeddings_.size(), name(), "gradient spans must have the sizes of the parameters",
            embeddings_.size(), d_parameters[0].size());
    if (d.empty()) return;
    require_scores(inputs, d);
    if (d_inputs.queries) detail::require_gradient(name(), d_inputs.queries, inputs.queries);
    if (of_keys() && d_inputs.gate_keys) detail::require_gradient(name(), d_inputs.gate_keys, inputs.gate_keys);
    const index_t table = max_positions() * channels(), sharing = of_keys() ? heads() / inputs.gate_keys.count() : 1;
    std::vector<S> d_embeddings(static_cast<std::size_t>(checked_product(name(), std::array{heads(), table}, sizeof(S))));
    const auto blocks = in_blocks();
    blocks.split(d, run, sharing, [&](const detail::cope_block& block, work& mine) {
      blocks.read(inputs, spans, block, mine);
      for (index_t n = 0; n < block.count; ++n) read_gradient(d, inputs, at, spans, block, n, mine);
      detail::add_vector_gradient(mine.rows.data(), mine.d_z.data(), block.count, channels(), {0, 0, max_positions()},
                                  d_embeddings.data() + block.h * table);
      if (of_keys() && d_inputs.gate_keys) add_gate_key_gradient(d_inputs.gate_keys, block, mine);
      if (!d_inputs.queries) return;
      detail::multiply_transposed(blocks.vectors(), {0, 0, max_positions()}, block.h, channels(), mine.d_z.data(), block.count,
                                  mine.rows.data());
      if (of_keys())
        blocks.for_each_gate_keys(inputs, block, mine, [&](index_t from, index_t count, const S* keys) {
          kernels::linear_input_gradient<S, S>({.d_y = mine.gates.data() + from - mine.low,
                                                .d_x = mine.rows.data(),
                                                .tokens = block.count,
                                                .in = channels(),
                                                .out = count,
                                                .d_y_token = mine.width,
                                                .d_x_token = channels(),
                                                .w = keys,
                                                .w_row = channels(),
                                                .accumulate = true});
        });
      detail::add_rows(d_inputs.queries, block.b, block.query, block.count, block.h, mine.rows.data(), S(1));
    });
    for (index_t n = 0; n < heads() * table; ++n)
      d_parameters[0][static_cast<std::size_t>(options_.per_head ? n : n % table)] += d_embeddings[static_cast<std::size_t>(n)];
  }

  std::vector<parameter<S>> parameters() {
    if (options_.per_head) return {{"embeddings", embeddings_, {heads(), max_positions(), channels()}}};
    return {{"embeddings", embeddings_, {max_positions(), channels()}}};
  }

  friend bool operator==(const cope&, const cope&) = default;

 private:
  using work = detail::cope_work<S>;

  index_t tables() const noexcept { return options_.per_head ? heads() : 1; }
  detail::cope_blocks<S> in_blocks() const noexcept { return {options_, embeddings_.data()}; }
  bool of_keys() const noexcept { return in_blocks().of_keys(); }

  template <class T, class Q>
  detail::visible_spans checked_spans(const score_view<T>& scores, const attention_inputs<Q>& inputs, const attention_positions& at) const {
    require(scores.extent(1) == heads(), name(), "heads must match the encoder", heads(), scores.extent(1));
    detail::require_scores_match(name(), at, scores.extent(0), scores.extent(2), scores.extent(3));
    require_output(name(), scores);
    if (!scores.empty()) {
      detail::require_queries(name(), scores, inputs.queries, channels());
      if (of_keys()) detail::require_keys("cope gates", scores, inputs.gate_keys, channels());
    }
    return detail::visible_spans(name(), at, inputs.causal, inputs.window);
  }
  template <class T, class Q>
  void require_scores(const attention_inputs<Q>& inputs, const score_view<T>& written) const {
    if (of_keys()) return;
    require(static_cast<bool>(inputs.scores), name(), "the scores must be given", "none");
    require(inputs.scores.extents() == written.extents(), name(), "the scores must have the shape of what is written", written.extents(),
            inputs.scores.extents());
    require_rows(name(), inputs.scores);
    const bool one = static_cast<const void*>(inputs.scores.data()) == static_cast<const void*>(written.data());
    require(!one && !overlaps_partly(inputs.scores, written), name(), "the scores must not overlap what is written", written.extents());
  }

  template <class T, class Q>
  void read_gradient(const score_view<T>& d, const attention_inputs<Q>& inputs, const attention_positions& at,
                     const detail::visible_spans& spans, const detail::cope_block& block, index_t n, work& mine) const {
    const auto blocks = in_blocks();
    const detail::key_span& span = spans(block.b, block.query + n);
    std::ranges::fill(mine.sums, 0.0);
    S* const gates = of_keys() ? mine.gates.data() + n * mine.width : mine.slopes.data();
    if (span.begin < span.end) {
      S* const slopes = of_keys() ? gates + (span.begin - mine.low) : gates;
      const std::int64_t* const ids = blocks.ids_of(at, block.b, span);
      const index_t at_last =
          blocks.count(blocks.score_row(inputs, block, n, span), span, n, ids, mine, mine.positions.data(), slopes, inputs.scale);
      kernels::cope_gradient<kernel_scalar<T>>({.d_scores = kernel_pointer(&d(block.b, block.h, block.query + n, span.begin)),
                                                .keys = span.end - span.begin,
                                                .at_last = at_last,
                                                .positions = mine.positions.data(),
                                                .key_ids = ids,
                                                .z = blocks.z_of(mine, n),
                                                .last = blocks.last(),
                                                .scale = of_keys() ? static_cast<S>(inputs.scale) : S(1),
                                                .slopes = slopes,
                                                .d_z = mine.sums.data(),
                                                .add_to_scores = !of_keys()});
    }
    if (of_keys()) {
      const index_t begin = span.begin < span.end ? span.begin - mine.low : 0, end = span.begin < span.end ? span.end - mine.low : 0;
      std::fill_n(gates, begin, S(0));
      std::fill_n(gates + end, mine.width - end, S(0));
    }
    for (index_t p = 0; p < max_positions(); ++p)
      mine.d_z[static_cast<std::size_t>(n * max_positions() + p)] =
          static_cast<S>(mine.sums[static_cast<std::size_t>(p)] * blocks.z_scale(inputs.scale));
  }
  template <class Q>
  void add_gate_key_gradient(const head_view<Q>& d, const detail::cope_block& block, work& mine) const {
    if (block.first) std::ranges::fill(mine.d_keys, S(0));
    kernels::linear_weight_gradient<S, S>({.d_y = mine.gates.data(),
                                           .x = mine.rows.data(),
                                           .tokens = block.count,
                                           .in = channels(),
                                           .out = mine.width,
                                           .d_y_token = mine.width,
                                           .x_token = channels(),
                                           .d_w = mine.d_keys.data() + mine.low * channels(),
                                           .d_w_row = channels()});
    if (block.final) detail::add_rows(d, block.b, 0, d.time(), block.h / (heads() / d.count()), mine.d_keys.data(), S(1));
  }

  cope_options options_;
  std::vector<S> embeddings_;
};

static_assert(contextual_bias_encoder<cope<float>> && contextual_bias_encoder<cope<double>>);
static_assert(position_encoder<cope<float>> && trainable<cope<float>>);
static_assert(!bias_encoder<cope<float>> && !contextual_value_encoder<cope<float>> && !changes_score_scale<cope<float>>);

}  // namespace POSENC_NAMESPACE
