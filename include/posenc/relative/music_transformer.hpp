// SPDX-License-Identifier: MIT
/// \file  Relative keys that end at a distance, the skewed products of Huang et al. 2018, "Music Transformer".
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

/// Which distances have rows, m being `max_distance`.
enum class music_transformer_form {
  masked,   ///< those of the query and m - 1 keys before it: m rows, and keys after the query get nothing, nor are they masked
  unmasked  ///< those of m - 1 keys on each side too: 2m - 1 rows
};

struct music_transformer_options {
  required<index_t> channels;      ///< of a head
  required<index_t> max_distance;  ///< m: keys that far away get nothing, where Shaw clips
  required<music_transformer_form> form;
  relative_tables tables = relative_tables::keys;
  index_t heads = 0;               ///< of tables per head; 0: all heads share a table

  friend bool operator==(const music_transformer_options& a, const music_transformer_options& b) {
    return index_t{a.channels} == b.channels && index_t{a.max_distance} == b.max_distance && music_transformer_form{a.form} == b.form &&
           a.tables == b.tables && a.heads == b.heads;
  }
};

/// score_ij = scale * (q_i . k_j + q_i . E[j - i + m - 1]): rows go from the farthest key before the query to the query itself, and in the
/// unmasked form on to the farthest key after it, as in tensor2tensor and the checkpoints of others.
///
/// The paper's "skewing" of the products, and its blocks of local attention, are indices here: nothing is padded or reshaped, sequences may
/// be longer than m, or shorter (then the last rows count), and there may be a cache. Values (tensor2tensor's add_relative_to_values) have
/// rows in the same order.
///
/// See `relative_table_verbs` and `relative_key_verbs` for verbs, allocation and accuracy: products of c channels are off by at most
/// 8 * epsilon * c times their terms.
template <compute_scalar S>
class music_transformer : public relative_table_verbs<music_transformer<S>, S> {
  using base = relative_table_verbs<music_transformer<S>, S>;

 public:
  /// Tables of zeros. \throws argument_error  unless channels and max_distance are positive and heads is not negative.
  explicit music_transformer(const music_transformer_options& options) : base(shape_of(options)), options_(options) {}
  /// \param tables  row after row: the one that there is, or that of the keys and that of the values.
  /// \throws argument_error  as above, and unless their number and sizes fit.
  music_transformer(const music_transformer_options& options, std::vector<std::vector<S>> tables)
      : base(shape_of(options), std::move(tables)), options_(options) {}

  static constexpr std::string_view name() noexcept { return "music_transformer"; }
  const music_transformer_options& options() const noexcept { return options_; }

  friend bool operator==(const music_transformer& a, const music_transformer& b) { return a.same_tables(b); }

 private:
  static relative_table_shape shape_of(const music_transformer_options& options) {
    const index_t most = options.max_distance;
    require(most > 0, name(), "max_distance must be positive", most);
    require(most < positions::limit, name(), "max_distance must lie below 2^62", most);
    const bool masked = options.form == music_transformer_form::masked;
    return {options.tables, options.heads, masked ? most : 2 * most - 1, options.channels, 1 - most, false};
  }

  music_transformer_options options_;
};

static_assert(contextual_bias_encoder<music_transformer<float>> && value_encoder<music_transformer<double>>);
static_assert(position_encoder<music_transformer<float>> && trainable<music_transformer<float>>);
static_assert(!bias_encoder<music_transformer<float>> && !additive_encoder<music_transformer<float>> &&
              !rotary_encoder<music_transformer<float>>);

}  // namespace POSENC_NAMESPACE
