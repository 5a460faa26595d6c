// SPDX-License-Identifier: MIT
/// \file  Disentangled attention. He et al. 2021, "DeBERTa: Decoding-enhanced BERT with Disentangled Attention".
#pragma once

#include <posenc/bias_verbs.hpp>  // require_scores_match
#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // parameter, attention_gradients, gradient_spans
#include <posenc/positions.hpp>
#include <posenc/relative/buckets.hpp>
#include <posenc/relative/disentangled_products.hpp>
#include <posenc/relative/require_inputs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

namespace POSENC_NAMESPACE {

/// A row for each distance, from -max_relative to max_relative - 1 (query's position minus key's) and the nearest beyond: DeBERTa (v1).
struct deberta_exact {
  required<index_t> max_relative;  ///< `max_relative_positions`
  friend bool operator==(const deberta_exact&, const deberta_exact&) = default;
};
/// With `deberta_buckets_options` a row for each bucket: DeBERTa-v2 and v3.
using deberta_distances = std::variant<deberta_exact, deberta_buckets_options>;

struct deberta_options {
  required<index_t> heads, channels;      ///< of queries: how many, and of each
  required<deberta_terms> terms;          ///< c2p and p2c in all published models
  required<deberta_distances> distances;

  friend bool operator==(const deberta_options&, const deberta_options&) = default;
};

/// scores[b, h, i, j] += scale * (q_i . K_r + k_j . Q_r + Q_(span + i) . K_r), of which terms (c2p, p2c, p2p) are chosen, with row r =
/// clamp(delta + span, 0, 2 span - 1), where delta is the *query's* position minus the key's, as DeBERTa counts, or its bucket. span is
/// max_relative or bucket_size. DeBERTa (v1), DeBERTa-v2 and v3, SEW-D.
///
/// **The scale changes**: `score_scale(channels)` is 1 / sqrt(channels * (1 + number of terms)), for every term and for q.k too, which the
/// scores hold already. Give it as `attention_inputs::scale`, whatever else it may be.
///
/// Parameters: "keys" K and "queries" Q, `[heads, 2 span, channels]`: the model's table of embeddings (LayerNorm over it or not) after its
/// projection to keys and to queries, which may be the attention's own or others: see `project_rows`. Those that no term reads are left
/// out.
///
/// p2p is what microsoft's code means (a published model has none): span + i counts true positions, the rows end where the table does, and
/// it is scaled like the others. Rows are found from positions, so queries need not be as many as keys; Hugging Face's swaps two arguments
/// there, and counts other rows.
///
/// Products are matrix products of up to 128 queries, and of 64 keys, with the rows that their distances have; the sum is rounded once
/// where scores are of 16 bits. Scores have the same bits in chunks and for any number of threads, and agree with double arithmetic within
/// 8 eps
/// * channels of the sum of magnitudes. Allocates up to a megabyte a thread, for gradients 2 and channels numbers per key. Few queries at a
/// time cost p2c 64 rows for each key, of which they read few: encoders have all queries at once.
///
/// A token without a position gets nothing and no mask. Every verb checks first and throws `argument_error` before it writes.
template <compute_scalar S>
class deberta {
 public:
  using scalar = S;

  /// Parameters of zeros. \throws argument_error  unless heads and channels are positive, there is a term, max_relative lies in [1, 2^20],
  /// max_position is 2^20 at most, and what `deberta_buckets` asks for holds.
  explicit deberta(const deberta_options& options) : options_(options) {
    require(options.heads > 0, name(), "heads must be positive", heads());
    require(options.channels > 0, name(), "channels must be positive", channels());
    const deberta_terms terms = options.terms;
    require(terms.c2p || terms.p2c || terms.p2p, name(), "there must be a term of c2p, p2c and p2p", "none");
    fill_rows();
    const auto size = static_cast<std::size_t>(checked_product(name(), std::array{heads(), 2 * span_, channels()}, sizeof(S)));
    if (terms.c2p || terms.p2p) keys_.resize(size);
    if (terms.p2c || terms.p2p) queries_.resize(size);
  }
  /// Those of a checkpoint, projected; a table that no term reads is empty. \throws argument_error  also unless they have that many values.
  deberta(const deberta_options& options, std::span<const S> keys, std::span<const S> queries) : deberta(options) {
    require(keys.size() == keys_.size() && queries.size() == queries_.size(), name(),
            "keys and queries must be [heads, 2 span, channels], or empty where no term reads them", keys_.size(), queries_.size(),
            keys.size(), queries.size());
    std::ranges::copy(keys, keys_.begin());
    std::ranges::copy(queries, queries_.begin());
  }

  static constexpr std::string_view name() noexcept { return "deberta"; }
  const deberta_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.heads; }
  index_t channels() const noexcept { return options_.channels; }
  index_t span() const noexcept { return span_; }
  /// The row of a distance, the key's position minus the query's.
  index_t row(position distance) const noexcept { return rows().of(distance); }

  /// 1 / sqrt(channels * (1 + number of terms)).
  double score_scale(index_t channels) const noexcept {
    const deberta_terms terms = options_.terms;
    return 1 / std::sqrt(static_cast<double>(channels) * (1 + int{terms.c2p} + int{terms.p2c} + int{terms.p2p}));
  }

  std::vector<parameter<S>> parameters() {
    std::vector<parameter<S>> all;
    const std::vector<index_t> shape{heads(), 2 * span_, channels()};
    if (!keys_.empty()) all.push_back({"keys", keys_, shape});
    if (!queries_.empty()) all.push_back({"queries", queries_, shape});
    return all;
  }

  /// The checks of `bias`, alone: \throws argument_error  where it would.
  template <class T, class Q>
    requires writable_as<T, S>
  void require_fits(const score_view<T>& scores, const attention_inputs<Q>& inputs, const attention_positions& at) const {
    require(scores.extent(1) == heads(), name(), "heads must match the encoder", heads(), scores.extent(1));
    detail::require_scores_match(name(), at, scores.extent(0), scores.extent(2), scores.extent(3));
    require_output(name(), scores);
    if (scores.empty()) return;
    const deberta_terms terms = options_.terms;
    if (terms.c2p) detail::require_queries(name(), scores, inputs.queries, channels());
    if (terms.p2c) detail::require_keys(name(), scores, inputs.keys, channels());
  }

  /// scores += the terms, in place; a `score_pass` scales before and masks after it. inputs: for c2p the queries, for p2c the keys, both
  /// before scaling, and the scale.
  template <writable_tensor T, class Q>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const attention_positions& at, const score_pass& pass,
            const executor& run = {}) const {
    const score_view<element_t<T>> s = scores;
    require_fits(s, inputs, at);
    if (!s.empty()) detail::add_disentangled(s, s, inputs.queries, inputs.keys, product_of(inputs.scale, at, pass), channels(), run);
  }
  template <writable_tensor T, class Q>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const attention_positions& at, const executor& run = {}) const {
    bias(scores, inputs, at, score_pass{}, run);
  }

  /// The gradient of `bias`: adds to d_inputs, where its views are given, and to d_parameters; d_scores becomes the gradient of the scores
  /// that came in, which differs only where a `score_pass` scaled or masked. Sums are taken in S, in an order that shapes decide.
  template <writable_tensor T, class Q>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const attention_positions& at,
                     gradient_spans<S> d_parameters, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    require_fits(d, inputs, at);
    const std::size_t expected = (keys_.empty() ? 0 : 1) + (queries_.empty() ? 0 : 1), size = std::max(keys_.size(), queries_.size());
    require(d_parameters.size() == expected, name(), "there must be one gradient span per parameter", expected, d_parameters.size());
    for (const auto& one : d_parameters)
      require(one.size() == size, name(), "gradients must be [heads, 2 span, channels]", size, one.size());
    const deberta_terms terms = options_.terms;
    if (terms.c2p && d_inputs.queries) detail::require_gradient(name(), d_inputs.queries, inputs.queries);
    if (terms.p2c && d_inputs.keys) detail::require_gradient(name(), d_inputs.keys, inputs.keys);
    if (d.empty()) return;
    detail::add_disentangled_gradient(
        d, inputs.queries, inputs.keys, product_of(inputs.scale, at, pass), channels(),
        detail::disentangled_gradient<S, Q>{.queries = d_inputs.queries,
                                            .keys = d_inputs.keys,
                                            .relative_keys = keys_.empty() ? nullptr : d_parameters.front().data(),
                                            .relative_queries = queries_.empty() ? nullptr : d_parameters.back().data()},
        run);
  }
  template <writable_tensor T, class Q>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const attention_positions& at,
                     gradient_spans<S> d_parameters, const executor& run = {}) const {
    bias_backward(d_scores, inputs, d_inputs, at, d_parameters, score_pass{}, run);
  }

  friend bool operator==(const deberta& a, const deberta& b) {
    return a.options_ == b.options_ && a.keys_ == b.keys_ && a.queries_ == b.queries_;
  }

 private:
  static constexpr position most_distances = position{1} << 20;

  /// Sets span_ and rows_.
  void fill_rows() {
    const deberta_distances& distances = options_.distances;
    const auto fill = [&](index_t span, position last, const auto& bucket) {
      span_ = span;
      for (position distance = -last; distance <= last; ++distance)
        rows_.push_back(static_cast<std::int32_t>(std::clamp<index_t>(bucket(distance) + span, 0, 2 * span - 1)));
    };
    if (const auto* exact = std::get_if<deberta_exact>(&distances)) {
      require(exact->max_relative > 0 && exact->max_relative <= most_distances, name(), "max_relative must lie in [1, 2^20]",
              static_cast<index_t>(exact->max_relative));
      return fill(exact->max_relative, exact->max_relative, [](position distance) { return -distance; });
    }
    const auto& given = std::get<deberta_buckets_options>(distances);
    require(given.max_position <= most_distances, name(), "max_position must be 2^20 at most", position{given.max_position});
    const deberta_buckets buckets(given);
    fill(buckets.options().bucket_size, buckets.ends().high, [&](position distance) { return buckets.bucket(distance); });
  }
  detail::distance_rows rows() const noexcept {
    const auto last = static_cast<position>(rows_.size() / 2);
    return {rows_.data(), -last, last};
  }

  detail::disentangled_product<S> product_of(double scale, const attention_positions& at, const score_pass& pass) const {
    const auto table = [&](const std::vector<S>& values) -> relative_vectors<S> {
      return {.data = values.data(), .head = 2 * span_ * channels(), .distance = channels(), .count = 2 * span_};
    };
    return {.terms = options_.terms,
            .keys = table(keys_),
            .queries = table(queries_),
            .own_row = span_,
            .rows = rows(),
            .at = at,
            .pass = pass,
            .factor = static_cast<S>(scale)};
  }

  deberta_options options_;
  index_t span_ = 0;
  std::vector<std::int32_t> rows_;  ///< of distances -last to last
  std::vector<S> keys_, queries_;
};

static_assert(contextual_bias_encoder<deberta<float>> && contextual_bias_encoder<deberta<double>> && trainable<deberta<float>> &&
              changes_score_scale<deberta<float>>);
static_assert(!bias_encoder<deberta<float>> && !value_encoder<deberta<float>> && !rotary_encoder<deberta<float>>);

}  // namespace POSENC_NAMESPACE
