// SPDX-License-Identifier: MIT
/// \file  An encoder of one axis, where tokens stand on several: the place in the text, the edges of a box on the page.
#pragma once

#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

template <position_encoder Part>
class on_axis;
template <class Part>
inline constexpr bool detail::acts_through_parts<on_axis<Part>> = true;
template <class Part>
inline constexpr bool ignores_embeddings<on_axis<Part>> = ignores_embeddings<Part>;

/// Hands its part one axis of the positions it is given. It has exactly the verbs that the part has, and its parameters. With `compose`,
/// the relative bias of LayoutLMv2 and v3 (Xu et al. 2021, Huang et al. 2022), of positions whose axes are place, left edge and lower edge:
///
///     compose(on_axis(text, 0), on_axis(left, 1), on_axis(lower, 2))
///
/// and their learned embeddings of places and boxes. Positions are not copied. A causal mask is not this encoder's to add: with several
/// axes the place in the text says who comes after whom, so it is made of that axis. Every verb throws `argument_error` before it writes
/// where positions have no such axis, and where the part does.
template <position_encoder Part>
class on_axis {
 public:
  using scalar = typename Part::scalar;
  /// What the part's `prepare` makes of its axis: a type of its own, so that no positions of several axes are taken for it.
  struct state {
    state_t<Part> part;
  };

  /// \throws argument_error  unless positions can have the axis.
  on_axis(Part part, index_t axis) : part_(std::move(part)), axis_(axis) {
    require(axis >= 0 && axis < max_axes, name(), "axis must lie in [0, 8)", axis);
  }
  static constexpr std::string_view name() noexcept { return "on_axis"; }
  const Part& part() const noexcept { return part_; }
  index_t axis() const noexcept { return axis_; }

  state prepare(const attention_positions& at, const executor& run = {}) const {
    attention_positions own{at.queries.axis(axis_), at.keys.axis(axis_)};
    if (at.new_keys) own.new_keys = at.new_keys->axis(axis_);
    return {posenc::prepare(part_, own, run)};
  }

  /// The checks of the part: \throws argument_error  before it writes.
  template <class T>
  void require_fits(const token_view<T>& x, const positions& at) const {
    detail::require_fits(part_, x, at.axis(axis_));
  }
  template <class S>
  void require_fits(const head_view<S>& x, operand role, const state& own) const {
    detail::require_fits(part_, x, role, own.part);
  }
  template <class T>
  void require_fits(const score_view<T>& scores, const state& own) const {
    detail::require_fits(part_, scores, own.part);
  }
  template <class T>
  void require_fits(const token_view<T>& x, const embedding_inputs<T>& inputs, const positions& at) const {
    detail::require_fits(part_, x, inputs, at.axis(axis_));
  }
  template <class T, class Q>
  void require_fits(const score_view<T>& scores, const attention_inputs<Q>& inputs, const state& own) const {
    detail::require_fits(part_, scores, inputs, own.part);
  }
  template <class S, class W>
  void require_fits(const head_view<S>& context, const score_view<W>& weights, const state& own) const {
    detail::require_fits(part_, context, weights, own.part);
  }
  template <class S, class W, class Q>
  void require_fits(const head_view<S>& context, const score_view<W>& weights, const attention_inputs<Q>& inputs, const state& own) const {
    detail::require_fits(part_, context, weights, inputs, own.part);
  }

  template <writable_tensor X>
    requires(additive_encoder<Part> && !contextual_additive_encoder<Part>)
  void add(X&& x, const positions& at, const executor& run = {}) const {
    encode_embeddings(part_, x, at.axis(axis_), run);
  }
  template <writable_tensor X>
    requires contextual_additive_encoder<Part>
  void add(X&& x, const embedding_inputs<element_t<X>>& inputs, const positions& at, const executor& run = {}) const {
    encode_embeddings(part_, x, inputs, at.axis(axis_), run);
  }
  template <class S>
    requires rotary_encoder<Part>
  void rotate(head_view<S> x, operand role, const state& own, const executor& run = {}) const {
    detail::rotate(part_, x, role, own.part, run);
  }
  template <writable_tensor T>
    requires(bias_encoder<Part> && !contextual_bias_encoder<Part>)
  void bias(T&& scores, const state& own, const executor& run = {}) const {
    encode_scores(part_, scores, own.part, run);
  }
  template <writable_tensor T, class Q>
    requires contextual_bias_encoder<Part>
  void bias(T&& scores, const attention_inputs<Q>& inputs, const state& own, const executor& run = {}) const {
    encode_scores(part_, scores, inputs, own.part, run);
  }
  template <class S, readable_tensor W>
    requires(value_encoder<Part> && !contextual_value_encoder<Part>)
  void add_values(head_view<S> context, W&& weights, const state& own, const executor& run = {}) const {
    encode_context(part_, context, weights, own.part, run);
  }
  template <class S, readable_tensor W, class Q>
    requires contextual_value_encoder<Part>
  void add_values(head_view<S> context, W&& weights, const attention_inputs<Q>& inputs, const state& own, const executor& run = {}) const {
    encode_context(part_, context, weights, inputs, own.part, run);
  }

  template <writable_tensor X>
    requires(additive_encoder<Part> && !needs_embeddings<Part>)
  void add_backward(X&& d_x, const positions& at, gradient_spans<scalar> d_parameters, const executor& run = {}) const {
    encode_embeddings_backward(part_, d_x, at.axis(axis_), d_parameters, run);
  }
  template <writable_tensor X>
    requires reads_embeddings<Part>
  void add_backward(X&& d_x, const token_view<const element_t<X>>& x, const positions& at, gradient_spans<scalar> d_parameters,
                    const executor& run = {}) const {
    encode_embeddings_backward(part_, d_x, x, at.axis(axis_), d_parameters, run);
  }
  template <writable_tensor X>
    requires contextual_additive_encoder<Part>
  void add_backward(X&& d_x, const token_view<const element_t<X>>& x, const embedding_inputs<element_t<X>>& inputs,
                    const embedding_gradients<element_t<X>>& d_inputs, const positions& at, gradient_spans<scalar> d_parameters,
                    const executor& run = {}) const {
    encode_embeddings_backward(part_, d_x, x, inputs, d_inputs, at.axis(axis_), d_parameters, run);
  }
  template <class S>
    requires(rotary_encoder<Part> && !trains_rotation<Part>)
  void rotate_backward(head_view<S> d, operand role, const state& own, const executor& run = {}) const {
    detail::rotate_backward(part_, d, role, own.part, run);
  }
  template <class S>
    requires trains_rotation<Part>
  void rotate_backward(head_view<S> d, head_view<const S> rotated, operand role, const state& own, gradient_spans<scalar> d_parameters,
                       const executor& run = {}) const {
    detail::rotate_backward(part_, d, rotated, role, own.part, d_parameters, run);
  }
  template <writable_tensor T>
    requires(bias_encoder<Part> && !contextual_bias_encoder<Part>)
  void bias_backward(T&& d_scores, const state& own, gradient_spans<scalar> d_parameters, const executor& run = {}) const {
    encode_scores_backward<Part, T&, element_t<T>>(part_, d_scores, {.scale = 1.0}, {}, own.part, d_parameters, run);
  }
  template <writable_tensor T, class Q>
    requires contextual_bias_encoder<Part>
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const state& own,
                     gradient_spans<scalar> d_parameters, const executor& run = {}) const {
    encode_scores_backward(part_, d_scores, inputs, d_inputs, own.part, d_parameters, run);
  }
  template <class S, readable_tensor W, writable_tensor D>
    requires(value_encoder<Part> && !contextual_value_encoder<Part>)
  void add_values_backward(head_view<S> d_context, W&& weights, D&& d_weights, const state& own, gradient_spans<scalar> d_parameters,
                           const executor& run = {}) const {
    encode_context_backward(part_, d_context, weights, d_weights, own.part, d_parameters, run);
  }
  template <class S, readable_tensor W, writable_tensor D, class Q>
    requires contextual_value_encoder<Part>
  void add_values_backward(head_view<S> d_context, W&& weights, D&& d_weights, const attention_inputs<Q>& inputs,
                           const attention_gradients<Q>& d_inputs, const state& own, gradient_spans<scalar> d_parameters,
                           const executor& run = {}) const {
    encode_context_backward(part_, d_context, weights, d_weights, inputs, d_inputs, own.part, d_parameters, run);
  }

  double score_scale(index_t channels) const
    requires changes_score_scale<Part>
  {
    return part_.score_scale(channels);
  }
  std::vector<parameter<scalar>> parameters()
    requires trainable<Part>
  {
    return part_.parameters();
  }

  friend bool operator==(const on_axis&, const on_axis&) = default;

 private:
  Part part_;
  index_t axis_;
};

}  // namespace POSENC_NAMESPACE
