// SPDX-License-Identifier: MIT
/// \file  Relative keys and values of clipped distances. Shaw, Uszkoreit, Vaswani 2018, "Self-Attention with Relative Position
/// Representations".
#pragma once

#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/gradients.hpp>  // trainable
#include <posenc/positions.hpp>
#include <posenc/relative/relative_table_verbs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

struct shaw_options {
  required<index_t> channels;        ///< of a head
  required<index_t> left, right;     ///< the farthest keys before and after the query with rows of their own: k and k; 64 and 8 in
                                     ///< wav2vec2-BERT and SeamlessM4T
  required<relative_tables> tables;
  index_t heads = 0;                 ///< of tables per head; 0: all heads share a table, as in every system but tensor2tensor's option

  friend bool operator==(const shaw_options& a, const shaw_options& b) {
    return index_t{a.channels} == b.channels && index_t{a.left} == b.left && index_t{a.right} == b.right &&
           relative_tables{a.tables} == b.tables && a.heads == b.heads;
  }
};

/// score_ij = scale * (q_i . k_j + q_i . keys[c]), context_i = sum over j of weights_ij (v_j + values[c]), with row
/// c = clip(j - i, -left, right) + left of tables `[left + right + 1, channels]`, or `[heads, left + right + 1, channels]`.
///
/// Row 0 is that of keys `left` or more before the query, as in tensor2tensor, CTranslate2, OpenNMT, wav2vec2-BERT and SeamlessM4T. BERT's
/// "relative_key" (left = right = max_position_embeddings - 1) and Granite speech (max_pos_emb) count query minus key: give their tables
/// with the rows reversed. BERT's "relative_key_query", which adds k_j . keys[c] too, is not here.
///
/// The scale covers both products: give the q.k that was scaled already, its scale, and the queries before it. Positions are true ones, so
/// windows of any shape are right with a cache.
///
/// See `relative_table_verbs` and `relative_key_verbs` for verbs, allocation and accuracy: products of c channels are off by at most
/// 8 * epsilon * c times their terms.
template <compute_scalar S>
class shaw : public relative_table_verbs<shaw<S>, S> {
  using base = relative_table_verbs<shaw<S>, S>;

 public:
  /// Tables of zeros. \throws argument_error  unless channels is positive, heads, left and right are not negative, and left and right not
  /// both zero (then all distances share one row).
  explicit shaw(const shaw_options& options) : base(shape_of(options)), options_(options) {}
  /// \param tables  row after row: the one that there is, or that of the keys and that of the values.
  /// \throws argument_error  as above, and unless their number and sizes fit.
  shaw(const shaw_options& options, std::vector<std::vector<S>> tables) : base(shape_of(options), std::move(tables)), options_(options) {}

  static constexpr std::string_view name() noexcept { return "shaw"; }
  const shaw_options& options() const noexcept { return options_; }

  friend bool operator==(const shaw& a, const shaw& b) { return a.same_tables(b); }

 private:
  static relative_table_shape shape_of(const shaw_options& options) {
    const index_t left = options.left, right = options.right;
    require(left >= 0 && right >= 0, name(), "left and right must not be negative", left, right);
    require(left > 0 || right > 0, name(), "left or right must be positive", left, right);
    require(left < positions::limit && right < positions::limit, name(), "left and right must lie below 2^62", left, right);
    return {options.tables, options.heads, left + right + 1, options.channels, -left, true};
  }

  shaw_options options_;
};

static_assert(contextual_bias_encoder<shaw<float>> && value_encoder<shaw<double>> && position_encoder<shaw<float>>);
static_assert(trainable<shaw<float>> && !bias_encoder<shaw<float>> && !additive_encoder<shaw<float>> && !rotary_encoder<shaw<float>>);

}  // namespace POSENC_NAMESPACE
