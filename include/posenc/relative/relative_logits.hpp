// SPDX-License-Identifier: MIT
/// \file  Relative logits: a projection of each token times a bank of distances. Inkling (Thinking Machines 2026); x-transformers'
/// RelativeProjPositionalBias.
#pragma once

#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/positions.hpp>
#include <posenc/relative/relative_key_verbs.hpp>
#include <posenc/relative/relative_vectors.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

struct relative_logits_options {
  required<index_t> channels;  ///< of a projection, d_rel: 16
  required<index_t> extent;    ///< distances that have a column: 1024
  index_t heads = 0;           ///< of banks per head; 0: all heads share the bank

  friend bool operator==(const relative_logits_options& a, const relative_logits_options& b) {
    return index_t{a.channels} == b.channels && index_t{a.extent} == b.extent && a.heads == b.heads;
  }
};

/// score_ij += r_i . bank[:, i - j] for 0 <= i - j < extent, and nothing elsewhere: keys after the query are not masked by it. The score
/// scale does not multiply it.
///
/// r `[batch, time, head, channels]` are the model's projections of its hidden states, one per query head, given as `inputs.queries`. The
/// bank is the parameter "bank", `[channels, extent]` as checkpoints have it ("rel_logits_proj.proj"), or `[heads, channels, extent]`. A
/// temperature of the position, which Inkling lets multiply these logits too, is a factor on r.
///
/// See `relative_key_verbs` for verbs and accuracy: products of c channels are off by at most 8 * epsilon * c times their terms. Each call
/// copies the bank, by distances. Equality compares options and values.
template <compute_scalar S>
class relative_logits : public relative_key_verbs<relative_logits<S>, S> {
 public:
  /// A bank of zeros: see `initialize` for what to fill it with, by `parameters()`.
  /// \throws argument_error  unless channels and extent are positive and heads is not negative.
  explicit relative_logits(const relative_logits_options& options)
      : relative_logits(options, std::vector<S>(static_cast<std::size_t>(size_of(options)))) {}
  /// \param bank  `[channels, extent]` or `[heads, channels, extent]`, row after row.
  /// \throws argument_error  as above, and unless its size fits.
  relative_logits(const relative_logits_options& options, std::vector<S> bank) : options_(options), bank_(std::move(bank)) {
    const index_t size = size_of(options);
    require(static_cast<index_t>(bank_.size()) == size, name(), "the bank must have (heads times) channels times extent values", size,
            bank_.size());
  }

  static constexpr std::string_view name() noexcept { return "relative_logits"; }
  const relative_logits_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.heads; }  ///< 0: any number
  index_t channels() const noexcept { return options_.channels; }
  std::span<const S> bank() const noexcept { return bank_; }

  std::vector<parameter<S>> parameters() {
    std::vector<index_t> shape{options_.channels, options_.extent};
    if (heads() > 0) shape.insert(shape.begin(), heads());
    return {{"bank", bank_, shape}};
  }

  friend bool operator==(const relative_logits& a, const relative_logits& b) { return a.options_ == b.options_ && a.bank_ == b.bank_; }

 private:
  friend relative_key_verbs<relative_logits, S>;

  static index_t size_of(const relative_logits_options& options) {
    const index_t channels = options.channels, extent = options.extent;
    require(channels > 0, name(), "channels must be positive", channels);
    require(extent > 0, name(), "extent must be positive", extent);
    require(options.heads >= 0, name(), "heads must not be negative", options.heads);
    return checked_product(name(), std::array{std::max<index_t>(options.heads, 1), channels, extent}, sizeof(S));
  }

  static constexpr S factor(double) noexcept { return 1; }
  /// From the farthest key before the query to the query itself.
  relative_vectors<S> vectors(const attention_positions&) const {
    const index_t extent = options_.extent, size = channels() * extent;
    const std::shared_ptr<S[]> rows(new S[bank_.size()]);
    for_each_entry(std::max<index_t>(heads(), 1),
                   [&](index_t in_rows, index_t in_bank) { rows[in_rows] = bank_[static_cast<std::size_t>(in_bank)]; });
    return {rows.get(), heads() > 0 ? size : 0, channels(), extent, 1 - extent, false, rows};
  }
  /// act(place in `[head, distance, channel]`, place in the banks of as many heads).
  template <class Act>
  void for_each_entry(index_t heads, const Act& act) const {
    const index_t extent = options_.extent;
    for (index_t h = 0; h < heads; ++h)
      for (index_t back = 0; back < extent; ++back)
        for (index_t c = 0; c < channels(); ++c)
          act((h * extent + extent - 1 - back) * channels() + c, (h * channels() + c) * extent + back);
  }

  void require_spans(gradient_spans<S> d_parameters) const {
    require(d_parameters.size() == 1, name(), "there must be one gradient span per parameter", 1, d_parameters.size());
    require(d_parameters[0].size() == bank_.size(), name(), "gradient spans must have the sizes of the parameters", bank_.size(),
            d_parameters[0].size());
  }
  void add_gradient(const attention_positions&, index_t count, const relative_key_gradient<S>& d, gradient_spans<S> d_parameters) const {
    const std::size_t size = bank_.size();
    for_each_entry(count, [&](index_t in_rows, index_t in_banks) {
      d_parameters[0][static_cast<std::size_t>(in_banks) % size] += d.vectors[static_cast<std::size_t>(in_rows)];
    });
  }

  relative_logits_options options_;
  std::vector<S> bank_;
};

static_assert(contextual_bias_encoder<relative_logits<float>> && position_encoder<relative_logits<double>> &&
              trainable<relative_logits<float>>);
static_assert(!bias_encoder<relative_logits<float>> && !value_encoder<relative_logits<float>> && !additive_encoder<relative_logits<float>>);

}  // namespace POSENC_NAMESPACE
