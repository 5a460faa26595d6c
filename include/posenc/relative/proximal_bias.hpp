// SPDX-License-Identifier: MIT
/// \file  The proximal bias of tensor2tensor: -ln(1 + |i - j|), the same in all heads. Vaswani et al. 2018, "Tensor2Tensor for Neural
/// Machine Translation" (`attention_bias_proximal`).
#pragma once

#include <posenc/concepts.hpp>   // bias_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/gradients.hpp>  // trainable
#include <posenc/positions.hpp>
#include <posenc/relative/relative_bias_verbs.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace POSENC_NAMESPACE {

/// bias = -ln(1 + |i - j|), in all heads alike and on both sides: `proximity_bias` of tensor2tensor's transformers. It is `kerple_log` with
/// p = a = 1, bit for bit, and has nothing to train.
///
/// Values are formed in double and rounded once to S. Verbs, shapes and errors: `bias_verbs`; tables and what they allocate:
/// `relative_bias_verbs`.
template <compute_scalar S>
class proximal_bias : public relative_bias_verbs<proximal_bias<S>, S> {
 public:
  /// \throws argument_error  unless heads is positive.
  explicit proximal_bias(index_t heads) : heads_(heads) { require(heads > 0, name(), "heads must be positive", heads); }

  static constexpr std::string_view name() noexcept { return "proximal_bias"; }
  index_t heads() const noexcept { return heads_; }
  double nanoseconds_per_bias() const noexcept { return 0.3 + 7 / static_cast<double>(heads_); }

  friend bool operator==(const proximal_bias& one, const proximal_bias& other) { return one.heads_ == other.heads_; }

 private:
  friend relative_bias_verbs<proximal_bias, S>;

  void biases(index_t, index_t heads, position query, const position* keys, index_t count, S* out, index_t stride) const {
    for (index_t n = 0; n < count; ++n)
      out[n] = static_cast<S>(-std::log1p(std::abs(static_cast<double>(detail::distance_of(keys[n], query)))));
    for (index_t h = 1; h < heads; ++h) std::copy_n(out, count, out + h * stride);
  }

  index_t heads_;
};

static_assert(bias_encoder<proximal_bias<float>> && bias_encoder<proximal_bias<double>> && position_encoder<proximal_bias<float>>);
static_assert(!trainable<proximal_bias<float>> && !additive_encoder<proximal_bias<float>> &&
              !contextual_bias_encoder<proximal_bias<float>>);

}  // namespace POSENC_NAMESPACE
