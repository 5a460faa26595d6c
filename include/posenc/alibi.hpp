// SPDX-License-Identifier: MIT
/// \file  Attention with linear biases (ALiBi): adds -slope * distance to the scores. Press, Smith, Lewis 2022, "Train Short, Test Long".
#pragma once

#include <posenc/bias_verbs.hpp>
#include <posenc/concepts.hpp>      // bias_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>         // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>     // parameter, gradient_spans
#include <posenc/kernels/bias.hpp>  // every loop over keys lives there
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// What a slope multiplies, for a query at position i and a key at position j. After a causal soft-max the three agree up to rounding;
/// without a mask they are different encodings, and systems differ, so there is no default.
enum class alibi_form {
  causal,     ///< -max(i - j, 0): GPT-NeoX
  symmetric,  ///< -|i - j|: MLX, x-transformers, flash-attention without a mask
  key_only,   ///< j - reference, the same for every query: BLOOM and Press with reference 0, MPT with the last key's position
  asymmetric  ///< -|i - j|, with a slope of its own for keys after the query: the ones for bidirectional encoders
};

struct alibi_options {
  required<index_t> heads;         ///< of the whole model: the slopes depend on their number
  required<alibi_form> form;
  double alibi_bias_max = 8;       ///< the last slope of a power of two of heads is 2^-alibi_bias_max
  index_t first_head = 0;          ///< this process holds heads first_head to first_head + local_heads (tensor parallelism);
  index_t local_heads = 0;         ///< 0: all from first_head on
  position reference = 0;          ///< for key_only
  index_t biased_heads = 0;  ///< of the whole model, the first ones: they have the slopes of a model of that many heads, the others
                             ///< none (x-transformers' alibi_num_heads); 0: all heads
  double bias_scale = 1;  ///< multiplies the slopes
};

/// The slopes of `heads` heads: 2^(-max h / n) for h = 1 ... n, n the largest power of two not above `heads`, then 2^(-max (2r - 1) / (2n))
/// for r = 1, 2, ... Each from its own exponent in double. \throws argument_error  unless heads and max are positive and max finite.
inline std::vector<double> alibi_slopes(index_t heads, double alibi_bias_max = 8) {
  require(heads > 0, "alibi", "heads must be positive", heads);
  require(std::isfinite(alibi_bias_max) && alibi_bias_max > 0, "alibi", "alibi_bias_max must be positive and finite", alibi_bias_max);
  checked_product("alibi", std::array{heads}, sizeof(double));
  index_t power = 1;
  while (power <= heads / 2) power *= 2;
  std::vector<double> slopes;
  slopes.reserve(static_cast<std::size_t>(heads));
  for (index_t h = 1; h <= heads; ++h) {
    const double step = h <= power ? static_cast<double>(h) : static_cast<double>(2 * (h - power) - 1) / 2;
    slopes.push_back(std::exp2(-alibi_bias_max * step / static_cast<double>(power)));
  }
  return slopes;
}

/// Falcon's: key only, and multiplied by 1 / sqrt(channels of a head) together with q.k, where other systems add the bias unscaled. What
/// Falcon rounds to bfloat16 (slopes and biases, up to 2 off at position 4100) is not rounded here.
/// \throws argument_error  unless channels are positive.
inline alibi_options falcon_alibi(index_t heads, index_t channels) {
  require(channels > 0, "alibi", "channels must be positive", channels);
  return {.heads = heads, .form = alibi_form::key_only, .bias_scale = 1 / std::sqrt(static_cast<double>(channels))};
}

/// Adds slope * value to scores `[batch, head, query, key]`, after the scale of q.k: the verbs of `bias_verbs`, computed in the pass.
///
/// Distances are whole numbers, formed in 64 bits and rounded once to S. Nothing is allocated but by `bias_backward`, 8 bytes a slope.
template <compute_scalar S>
class alibi : public bias_verbs<alibi<S>, S> {
 public:
  /// Asymmetric slopes begin as the same on both sides.
  /// \throws argument_error  unless heads, alibi_bias_max and bias_scale are positive, and the slice and the biased heads lie within the
  /// heads.
  explicit alibi(const alibi_options& options) : form_(options.form), reference_(checked(options.reference)) {
    const index_t heads = options.heads, first = options.first_head;
    const index_t biased = options.biased_heads == 0 ? heads : options.biased_heads;
    require(heads > 0, name(), "heads must be positive", heads);
    require(biased > 0 && biased <= heads, name(), "biased heads must lie within heads", heads, biased);
    require(std::isfinite(options.bias_scale) && options.bias_scale > 0, name(), "bias_scale must be positive and finite",
            options.bias_scale);
    const auto all = alibi_slopes(biased, options.alibi_bias_max);
    const index_t count = options.local_heads == 0 ? heads - first : options.local_heads;
    require(first >= 0 && first < heads && count > 0 && count <= heads - first, name(), "local heads must lie within heads", heads, first,
            count);
    biased_ = std::clamp<index_t>(biased - first, 0, count);
    for (index_t h = first; h < first + biased_; ++h)
      slopes_.push_back(static_cast<S>(all[static_cast<std::size_t>(h)] * options.bias_scale));
    slopes_.resize(static_cast<std::size_t>(checked_product(name(), std::array{count}, sizeof(S))));
    if (form_ == alibi_form::asymmetric) slopes_after_ = slopes_;
  }
  /// Slopes of the caller's own, one per head: trained ones, or zeros for heads without a bias.
  /// \throws argument_error  unless there is one at least and all are finite.
  alibi(std::span<const S> slopes, alibi_form form, position reference = 0)
      : slopes_(checked(slopes)), form_(form), reference_(checked(reference)), biased_(heads()) {
    if (form_ == alibi_form::asymmetric) slopes_after_ = slopes_;
  }
  /// The asymmetric form: slopes for keys before the query, and for keys after it. \throws argument_error  also unless both are as many.
  alibi(std::span<const S> slopes, std::span<const S> slopes_after)
      : slopes_(checked(slopes)), slopes_after_(checked(slopes_after)), form_(alibi_form::asymmetric), reference_(0), biased_(heads()) {
    require(slopes.size() == slopes_after.size(), name(), "there must be as many slopes after the query as before it", slopes.size(),
            slopes_after.size());
  }

  static constexpr std::string_view name() noexcept { return "alibi"; }
  index_t heads() const noexcept { return static_cast<index_t>(slopes_.size()); }
  std::span<const S> slopes() const noexcept { return slopes_; }
  std::span<const S> slopes_after() const noexcept { return slopes_after_; }  ///< of keys after the query; empty: not asymmetric
  alibi_form form() const noexcept { return form_; }

  /// What `bias` adds to the score of one pair.
  /// \throws argument_error  unless the head exists.
  S value(index_t head, position query, position key) const {
    require(head >= 0 && head < heads(), name(), "head must lie within the heads", heads(), head);
    if (query == no_position || key == no_position) return S(0);
    const position after = query - key;
    S distance = 0;
    if (form_ == alibi_form::key_only) distance = static_cast<S>(key - reference_);
    else if (after > 0) distance = -static_cast<S>(after);
    else if (form_ != alibi_form::causal) distance = -static_cast<S>(-after);
    return distance * (after < 0 && form_ == alibi_form::asymmetric ? slopes_after_ : slopes_)[static_cast<std::size_t>(head)];
  }

  /// The gradient of `bias`: adds to d_parameters[0], the slopes, and [1], those after the query, of the asymmetric form; d_scores becomes
  /// the gradient of the scores that came in, which differs only where a `score_pass` scaled or masked. Sums are formed in double, in an
  /// order that depends on shapes alone. Heads beyond `biased_heads` have no gradient: their slopes stay zero.
  template <writable_tensor T>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias_backward(T&& d_scores, const attention_positions& at, gradient_spans<S> d_parameters, const score_pass& pass,
                     const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    this->require_fits(d, at);
    const std::size_t parameters = form_ == alibi_form::asymmetric ? 2 : 1;
    require(d_parameters.size() == parameters, name(), "there must be one gradient span per parameter", parameters, d_parameters.size());
    for (const auto& span : d_parameters)
      require(span.size() == slopes_.size(), name(), "gradient spans must have a value per head", slopes_.size(), span.size());
    if (d.empty()) return;
    std::vector<double> sums(slopes_.size()), sums_after(slopes_after_.size());
    // By heads alone: the order of a sum must not depend on the threads.
    const double cost = 4 * detail::nanoseconds_per_value<element_t<T>> * static_cast<double>(d.extent(0) * heads()) *
                        static_cast<double>(d.extent(2) * d.extent(3));
    run.split(heads(), run.parts(heads(), cost), [&](index_t, index_t from, index_t to) {
      for (index_t b = 0; b < d.extent(0); ++b)
        kernels::bias_backward<kernel_scalar<element_t<T>>>(
            {call_of(detail::block_of(d, d, at, pass, b, from, to - from, 0, d.extent(2)), from), sums.data() + from,
             sums_after.empty() ? nullptr : sums_after.data() + from});
    });
    for (std::size_t h = 0; h < static_cast<std::size_t>(biased_); ++h) {
      d_parameters[0][h] += static_cast<S>(sums[h]);
      if (parameters == 2) d_parameters[1][h] += static_cast<S>(sums_after[h]);
    }
  }
  template <writable_tensor T>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias_backward(T&& d_scores, const attention_positions& at, gradient_spans<S> d_parameters, const executor& run = {}) const {
    bias_backward(d_scores, at, d_parameters, score_pass{}, run);
  }
  std::vector<parameter<S>> parameters() {
    if (form_ == alibi_form::asymmetric) return {{"slopes", slopes_, {heads()}}, {"slopes_after", slopes_after_, {heads()}}};
    return {{"slopes", slopes_, {heads()}}};
  }

  friend bool operator==(const alibi& a, const alibi& b) {
    return a.slopes_ == b.slopes_ && a.slopes_after_ == b.slopes_after_ && a.form_ == b.form_ && a.reference_ == b.reference_ &&
           a.biased_ == b.biased_;
  }

 private:
  friend bias_verbs<alibi, S>;

  static position checked(position reference) {
    require(reference >= -(position{1} << 62) && reference <= position{1} << 62, name(), "reference must lie in [-2^62, 2^62]", reference);
    return reference;
  }
  static std::vector<S> checked(std::span<const S> slopes) {
    require(!slopes.empty(), name(), "heads must be positive", slopes.size());
    for (const S slope : slopes) require(std::isfinite(slope), name(), "slopes must be finite", slope);
    return {slopes.begin(), slopes.end()};
  }
  template <class T>
  kernels::bias_call<T> call_of(const kernels::score_block<T>& block, index_t head) const {
    const auto distance = form_ == alibi_form::causal     ? kernels::distance::causal
                          : form_ == alibi_form::key_only ? kernels::distance::key
                                                          : kernels::distance::symmetric;
    return {block, slopes_.data() + head, distance, reference_, slopes_after_.empty() ? nullptr : slopes_after_.data() + head};
  }
  template <class T, class In>
  void run_scores(const score_view<In>& in, const score_view<T>& out, const attention_positions& at, const score_pass& pass,
                  const executor& run) const {
    detail::for_each_score_block(out, run, detail::nanoseconds_per_value<T>,
                                 [&](index_t b, index_t head, index_t heads, index_t query, index_t queries) {
                                   kernels::bias(call_of(detail::block_of(in, out, at, pass, b, head, heads, query, queries), head));
                                 });
  }
  template <class T>
  void run_tile(const kernels::score_block<T>& block, const attention_positions&, const tile_place& place) const {
    kernels::bias(call_of(block, place.head));
  }

  std::vector<S> slopes_, slopes_after_;
  alibi_form form_;
  position reference_;
  index_t biased_;
};

static_assert(bias_encoder<alibi<float>> && bias_encoder<alibi<double>> && position_encoder<alibi<float>> && trainable<alibi<float>>);
static_assert(!additive_encoder<alibi<float>> && !rotary_encoder<alibi<float>> && !contextual_bias_encoder<alibi<float>>);

}  // namespace POSENC_NAMESPACE
