// SPDX-License-Identifier: MIT
/// \file  Scalable softmax (SSMax): attention that stays as sharp over many keys as over few. Nakanishi 2025, "Scalable-Softmax Is Superior
/// for Attention".
#pragma once

#include <posenc/concepts.hpp>  // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/kernels/scale.hpp>
#include <posenc/positions.hpp>
#include <posenc/query_scale_verbs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>
#include <posenc/visible_keys.hpp>

#include <cmath>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace POSENC_NAMESPACE {

struct scalable_softmax_options {
  required<index_t> heads;  ///< of the queries
  required<visible_keys> keys;  ///< the n of ln n; OLMo-core counts visible ones, others the length of the sequence
  double scale = 1;  ///< of every head, before training
};

/// Multiplies the queries of head h that see n keys by s_h ln n, with one learned s per head: the soft-max of s ln n times the scores is
/// that of n^(s score). A query that sees one key becomes zero, which changes nothing.
///
/// See `query_scale_verbs` for the verbs. The state holds ln n, so that layers with different s share it, and training does not change it.
template <compute_scalar S>
class scalable_softmax : public query_scale_verbs<scalable_softmax<S>, S> {
 public:
  /// \throws argument_error  unless heads are positive, the scale is finite, and the window not negative and 0 where attention is not
  /// causal.
  explicit scalable_softmax(const scalable_softmax_options& options) : keys_(options.keys) {
    const index_t heads = options.heads;
    require(heads > 0, name(), "heads must be positive", heads);
    require(std::isfinite(static_cast<S>(options.scale)), name(), "scales must be finite", options.scale);
    detail::require_window(name(), keys_);
    scales_.assign(static_cast<std::size_t>(checked_product(name(), std::array{heads}, sizeof(S))), static_cast<S>(options.scale));
  }
  /// Scales of the caller's own, one per head. \throws argument_error  unless there is one at least and all are finite.
  scalable_softmax(std::span<const S> scales, const visible_keys& keys) : scales_(scales.begin(), scales.end()), keys_(keys) {
    require(!scales.empty(), name(), "heads must be positive", scales.size());
    for (const S scale : scales) require(std::isfinite(scale), name(), "scales must be finite", scale);
    detail::require_window(name(), keys_);
  }

  static constexpr std::string_view name() noexcept { return "scalable_softmax"; }
  index_t heads() const noexcept { return static_cast<index_t>(scales_.size()); }
  std::span<const S> scales() const noexcept { return scales_; }
  const visible_keys& keys() const noexcept { return keys_; }

  /// The gradient of `rotate`: d in and out, and d_parameters[0], the scales, added to: the sum of d times what `rotate` wrote, over s, in
  /// double, in an order that depends on shapes alone. Allocates 8 bytes a head.
  /// \param rotated  what `rotate` wrote; or what a rotation made of that, where d is the gradient of the latter: turned together, their
  ///                 products stay the same.
  /// \throws argument_error  also where a scale is zero: nothing is left then to find its gradient from.
  template <class T>
    requires writable_as<T, S>
  void rotate_backward(head_view<T> d, std::type_identity_t<head_view<const T>> rotated, operand role, const query_scales& state,
                       gradient_spans<S> d_parameters, const executor& run = {}) const {
    this->require_fits(d, role, state);
    const auto &y = rotated.by_time(), g = head_view<const T>(d).by_time();
    require(y.extents() == g.extents(), name(), "the gradient must have the shape of what it is of", y.extents(), g.extents());
    require_rows(name(), y);
    require(d_parameters.size() == 1 && d_parameters[0].size() == scales_.size(), name(),
            "there must be one gradient span with a value per head", scales_.size(), d_parameters.size());
    if (role == operand::key) return;
    for (const S scale : scales_) require(scale != 0, name(), "scales must not be zero for a gradient", scale);
    std::vector<double> sums(scales_.size());
    // By heads alone: the order of a sum must not depend on the threads.
    const double cost = 2 * detail::nanoseconds_per_value<T> * static_cast<double>(d.batch() * d.time() * d.channels() * heads());
    run.split(heads(), run.parts(heads(), cost), [&](index_t, index_t from, index_t to) {
      kernels::scale_gradient<kernel_scalar<T>>({.y = kernel_pointer(y.data() + from * y.stride(2)),
                                                 .d = kernel_pointer(g.data() + from * g.stride(2)),
                                                 .batch = d.batch(),
                                                 .time = d.time(),
                                                 .heads = to - from,
                                                 .channels = d.channels(),
                                                 .y_batch = y.stride(0),
                                                 .y_time = y.stride(1),
                                                 .y_head = y.stride(2),
                                                 .d_batch = g.stride(0),
                                                 .d_time = g.stride(1),
                                                 .d_head = g.stride(2),
                                                 .factors = state.data(),
                                                 .factor_batch = state.batch() == 0 ? 0 : state.time(),
                                                 .sums = sums.data() + from});
    });
    for (std::size_t h = 0; h < sums.size(); ++h) d_parameters[0][h] += static_cast<S>(sums[h] / static_cast<double>(scales_[h]));
    this->rotate(d, role, state, run);
  }
  std::vector<parameter<S>> parameters() { return {{"scales", scales_, {heads()}}}; }

  friend bool operator==(const scalable_softmax& a, const scalable_softmax& b) { return a.scales_ == b.scales_ && a.keys_ == b.keys_; }

 private:
  friend query_scale_verbs<scalable_softmax, S>;

  void require_positions(const attention_positions& at) const { detail::require_countable(name(), keys_, at); }
  void write_factors(const attention_positions& at, index_t b, double* factors) const {
    const std::vector<index_t> counts = detail::visible_counts(keys_, at, b);
    for (std::size_t t = 0; t < counts.size(); ++t)
      if (counts[t] > 0) factors[t] = std::log(static_cast<double>(counts[t]));
  }
  const S* head_factors(index_t heads) const {
    require(heads == this->heads(), name(), "heads must match the encoder", this->heads(), heads);
    return scales_.data();
  }

  std::vector<S> scales_;
  visible_keys keys_;
};

static_assert(rotary_encoder<scalable_softmax<float>> && rotary_encoder<scalable_softmax<double>> && trainable<scalable_softmax<float>>);
static_assert(position_encoder<scalable_softmax<float>> && trains_rotation<scalable_softmax<float>>);
static_assert(!additive_encoder<scalable_softmax<float>> && !bias_encoder<scalable_softmax<float>>);

}  // namespace POSENC_NAMESPACE
