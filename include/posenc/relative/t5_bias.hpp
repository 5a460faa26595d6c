// SPDX-License-Identifier: MIT
/// \file  T5's relative bias: a trained number per head for each bucket of distances, added to the scores. Raffel et al. 2020, "Exploring
/// the Limits of Transfer Learning with a Unified Text-to-Text Transformer".
#pragma once

#include <posenc/concepts.hpp>   // bias_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/gradients.hpp>  // parameter
#include <posenc/positions.hpp>
#include <posenc/relative/bias_table.hpp>
#include <posenc/relative/buckets.hpp>
#include <posenc/relative/relative_bias_verbs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// Whether q.k is scaled before the bias is added; there is no default, because models differ.
enum class t5_scores {
  unscaled,  ///< not at all: T5, mT5, umT5, LongT5, Pix2Struct, UDOP
  scaled     ///< by 1 / sqrt(channels): MPNet, LayoutLMv2 and v3, WavLM, x-transformers
};

/// By aggregate, or as a model's are, for the heads of this process: `t5_bias_options::t5_encoder(12)`.
struct t5_bias_options {
  required<index_t> heads;  ///< columns of the table
  required<t5_buckets_options> buckets;
  required<t5_scores> scores;
  double scale = 1;  ///< multiplies the table's numbers: 1 / sqrt(channels) in LayoutLMv3, sqrt(channels) in x-transformers

  /// T5, mT5, umT5, LongT5's local attention, UDOP's text.
  static constexpr t5_bias_options t5_encoder(index_t heads) { return {heads, both_ways(32, 128), t5_scores::unscaled}; }
  /// T5, mT5, umT5, LongT5, Pix2Struct, UDOP.
  static constexpr t5_bias_options t5_decoder(index_t heads) {
    return {heads, t5_buckets_options{t5_direction::causal, 32, 128}, t5_scores::unscaled};
  }
  static constexpr t5_bias_options mpnet(index_t heads) { return {heads, both_ways(32, 128), t5_scores::scaled}; }
  /// LayoutLMv2, by the token's place in the text. v3: `scale` 1 / sqrt(channels) besides.
  static constexpr t5_bias_options layoutlm_text(index_t heads) { return {heads, both_ways(32, 128), t5_scores::scaled}; }
  /// LayoutLMv2, by the left or the lower edge of the token's box. v3: `scale` 1 / sqrt(channels) besides.
  static constexpr t5_bias_options layoutlm_box(index_t heads) { return {heads, both_ways(64, 256), t5_scores::scaled}; }
  /// WavLM, without its gate, which depends on the query.
  static constexpr t5_bias_options wavlm(index_t heads) { return {heads, both_ways(320, 800), t5_scores::scaled}; }

  friend bool operator==(const t5_bias_options&, const t5_bias_options&) = default;

 private:
  static constexpr t5_buckets_options both_ways(index_t num_buckets, position max_distance) {
    return {t5_direction::bidirectional, num_buckets, max_distance};
  }
};

/// Adds scale * table[bucket of (key's position - query's), head] to scores `[batch, head, query, key]`: the verbs of
/// `relative_bias_verbs`. With scale 1 the bits of the table.
///
/// The parameter "table" is `[num_buckets, heads]`, as Hugging Face's embeddings are; LayoutLM's linear layers and T5X's arrays are stored
/// `[heads, num_buckets]` and have to be turned over. T5 and mT5 train one table for all layers: one encoder and one `prepare`; umT5 has an
/// encoder per layer. Attention to an encoder's output (cross attention) has no bias at all.
///
/// LayoutLMv2 and v3 add up three, by text and two edges of a box: see `on_axis`. CPMAnt has more rows for pairs in different segments,
/// which is not offered. Positions decide, never places in a cache, so that a step of several queries, tokens of a draft that share a
/// position, and left padding need nothing special.
///
/// `prepare` holds heads * (distances up to the ends of the buckets) numbers at most; nothing of the size of the scores is made.
template <compute_scalar S>
class t5_bias : public relative_bias_verbs<t5_bias<S>, S> {
 public:
  /// A table of zeros, as training starts in some systems: see `initialize` for what else to fill it with, by `parameters()`.
  /// \throws argument_error  unless heads are positive and the scale is finite.
  explicit t5_bias(const t5_bias_options& options)
      : options_(options), buckets_(options.buckets), table_(static_cast<std::size_t>(table_size())) {}
  /// \param table  `[num_buckets, heads]`, copied. \throws argument_error  as above, and unless it has num_buckets * heads values.
  t5_bias(const t5_bias_options& options, std::span<const S> table)
      : options_(options), buckets_(options.buckets), table_(table.begin(), table.end()) {
    const index_t size = table_size();
    require(static_cast<index_t>(table.size()) == size, name(), "the table must have num_buckets times heads values", size, table.size());
  }

  static constexpr std::string_view name() noexcept { return "t5_bias"; }
  const t5_bias_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.heads; }
  const t5_buckets& buckets() const noexcept { return buckets_; }
  /// `[num_buckets, heads]`.
  tensor_view<const S, 2> table() const noexcept { return {table_.data(), {buckets_.num_buckets(), heads()}}; }
  /// What q.k is to be multiplied by: 1, or 1 / sqrt(channels).
  double score_scale(index_t channels) const noexcept {
    return options_.scores == t5_scores::unscaled ? 1 : 1 / std::sqrt(static_cast<double>(channels));
  }
  std::vector<parameter<S>> parameters() { return {{"table", table_, {buckets_.num_buckets(), heads()}}}; }

  friend bool operator==(const t5_bias& a, const t5_bias& b) { return a.options_ == b.options_ && a.table_ == b.table_; }

 private:
  friend bias_verbs<t5_bias, S>;
  friend relative_bias_verbs<t5_bias, S>;

  index_t table_size() const {
    require(heads() > 0, name(), "heads must be positive", heads());
    require(std::abs(options_.scale) <= double{std::numeric_limits<S>::max()}, name(), "scale must be finite", options_.scale);
    return checked_product(name(), std::array{buckets_.num_buckets(), heads()}, sizeof(S));
  }

  index_t row_of(position query, position key) const noexcept { return buckets_.bucket(detail::distance_of(key, query)) * heads(); }

  void biases(index_t head, index_t heads, position query, const position* keys, index_t count, S* out, index_t stride) const noexcept {
    for (index_t n = 0; n < count; ++n) {
      const S* const row = table_.data() + row_of(query, keys[n]) + head;
      for (index_t h = 0; h < heads; ++h) out[h * stride + n] = static_cast<S>(static_cast<double>(row[h]) * options_.scale);
    }
  }
  void add_gradient(position query, const position* keys, index_t count, const double* d, index_t stride, double* sums) const noexcept {
    for (index_t n = 0; n < count; ++n) {
      double* const row = sums + row_of(query, keys[n]);
      for (index_t h = 0; h < heads(); ++h) row[h] += d[h * stride + n] * options_.scale;
    }
  }
  distance_range ends() const noexcept { return buckets_.ends(); }
  static constexpr double nanoseconds_per_bias() noexcept { return 3; }

  t5_bias_options options_;
  t5_buckets buckets_;
  std::vector<S> table_;
};

static_assert(bias_encoder<t5_bias<float>> && bias_encoder<t5_bias<double>> && position_encoder<t5_bias<float>>);
static_assert(trainable<t5_bias<float>> && changes_score_scale<t5_bias<float>>);
static_assert(!additive_encoder<t5_bias<float>> && !rotary_encoder<t5_bias<float>> && !contextual_bias_encoder<t5_bias<float>>);

}  // namespace POSENC_NAMESPACE
