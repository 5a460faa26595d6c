// SPDX-License-Identifier: MIT
/// \file  Training: the parameters of encoders as flat lists of named spans, and the exact gradient twin of each stage.
#pragma once

#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/executor.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace POSENC_NAMESPACE {

/// One parameter of an encoder: its memory in the encoder, slowest axis first. Valid until the encoder is moved, copied over or destroyed.
template <class S>
struct parameter {
  std::string_view name;
  std::span<S> values;
  std::vector<index_t> shape;
};

/// An encoder that can be trained.
template <class E>
concept trainable = position_encoder<E> && requires(E& e) {
  { e.parameters() } -> std::same_as<std::vector<parameter<typename E::scalar>>>;
};

/// The parameters of any encoder; none for one that cannot be trained. An optimizer needs no more, and no template.
template <class E>
std::vector<parameter<typename E::scalar>> parameters(E& encoder) {
  if constexpr (trainable<E>) return encoder.parameters();
  else return {};
}

/// Where gradients go: one span per parameter, in the order of `parameters`.
template <class S>
using gradient_spans = std::span<const std::span<S>>;

/// One zeroed buffer per parameter. Backward functions add to it; clear it between steps. Adam's moments are two more of these.
template <class S>
class gradient_buffer {
 public:
  explicit gradient_buffer(const std::vector<parameter<S>>& like) {
    for (const auto& one : like) buffers_.emplace_back(one.values.size(), S(0));
    for (auto& buffer : buffers_) spans_.emplace_back(buffer);
  }
  gradient_buffer(gradient_buffer&&) = default;
  gradient_buffer& operator=(gradient_buffer&&) = default;

  gradient_spans<S> spans() const noexcept { return spans_; }
  void clear() noexcept {
    for (auto& buffer : buffers_) std::ranges::fill(buffer, S(0));
  }

 private:
  std::vector<std::vector<S>> buffers_;
  std::vector<std::span<S>> spans_;
};

// The gradient twins. Where the output is the input plus or times something, d is in and out: the gradient of the stage's output comes
// in, that of its input leaves. An encoder without a twin passes the gradient on; one that needs a twin and lacks it does not compile.

/// An additive encoder whose gradient needs the embeddings as they came in.
template <class E>
concept reads_embeddings =
    additive_encoder<E> &&
    requires(const E& e, token_view<typename E::scalar> d, token_view<const typename E::scalar> x, const positions& at,
             gradient_spans<typename E::scalar> d_parameters) { e.add_backward(d, x, at, d_parameters); };

template <class E>
concept needs_embeddings = reads_embeddings<E> || contextual_additive_encoder<E>;

/// True for contextual additive encoders that read inputs alone, so that they may follow others in `compose`.
template <class E>
inline constexpr bool ignores_embeddings = false;

/// d_x: the gradient of the embeddings, in and out. Only for encoders whose gradient needs no more, so that forgetting it does not compile.
template <position_encoder E, writable_tensor X>
  requires(!needs_embeddings<E>)
void encode_embeddings_backward(const E& encoder, X&& d_x, const positions& at, gradient_spans<typename E::scalar> d_parameters,
                                [[maybe_unused]] const executor& run = {}) {
  const auto d = batched(d_x);
  if constexpr (requires { encoder.add_backward(d, at, d_parameters, run); }) encoder.add_backward(d, at, d_parameters, run);
  else if constexpr (requires { encoder.add_backward(d, at, d_parameters); }) encoder.add_backward(d, at, d_parameters);
  else static_assert(!additive_encoder<E> || !trainable<E>, "a trainable additive encoder needs add_backward");
}
/// The same for any encoder without inputs. x: the embeddings before `encode_embeddings`.
template <position_encoder E, writable_tensor X, readable_tensor In>
  requires(!contextual_additive_encoder<E>)
void encode_embeddings_backward(const E& encoder, X&& d_x, [[maybe_unused]] const In& x, const positions& at,
                                gradient_spans<typename E::scalar> d_parameters, [[maybe_unused]] const executor& run = {}) {
  const auto d = batched(d_x);
  if constexpr (reads_embeddings<E>) {
    const token_view<const element_t<X>> from = batched(x);
    if constexpr (requires { encoder.add_backward(d, from, at, d_parameters, run); }) encoder.add_backward(d, from, at, d_parameters, run);
    else encoder.add_backward(d, from, at, d_parameters);
  } else {
    encode_embeddings_backward(encoder, d, at, d_parameters, run);
  }
}
/// The same for any encoder. d_inputs are added to.
template <position_encoder E, writable_tensor X, readable_tensor In>
void encode_embeddings_backward(const E& encoder, X&& d_x, const In& x, [[maybe_unused]] const embedding_inputs<element_t<X>>& inputs,
                                [[maybe_unused]] const embedding_gradients<element_t<X>>& d_inputs, const positions& at,
                                gradient_spans<typename E::scalar> d_parameters, [[maybe_unused]] const executor& run = {}) {
  const auto d = batched(d_x);
  if constexpr (contextual_additive_encoder<E>) {
    const token_view<const element_t<X>> from = batched(x);
    if constexpr (requires { encoder.add_backward(d, from, inputs, d_inputs, at, d_parameters, run); })
      encoder.add_backward(d, from, inputs, d_inputs, at, d_parameters, run);
    else encoder.add_backward(d, from, inputs, d_inputs, at, d_parameters);
  } else {
    encode_embeddings_backward(encoder, d, x, at, d_parameters, run);
  }
}

namespace detail {
template <rotary_encoder E, class S>
void rotate_backward(const E& encoder, const head_view<S>& d, operand role, const state_t<E>& state, [[maybe_unused]] const executor& run) {
  if constexpr (requires { encoder.rotate_backward(d, role, state, run); }) encoder.rotate_backward(d, role, state, run);
  else encoder.rotate_backward(d, role, state);
}
}  // namespace detail

/// A rotary encoder whose gradient needs what the rotation wrote, because its angles are trained.
template <class E>
concept trains_rotation =
    rotary_encoder<E> &&
    requires(const E& e, head_view<typename E::scalar> d, head_view<const typename E::scalar> rotated, const state_t<E>& state,
             gradient_spans<typename E::scalar> d_parameters) { e.rotate_backward(d, rotated, operand::query, state, d_parameters); };

namespace detail {
template <rotary_encoder E, class S>
void rotate_backward(const E& encoder, const head_view<S>& d, const head_view<const std::remove_const_t<S>>& rotated, operand role,
                     const state_t<E>& state, gradient_spans<typename E::scalar> d_parameters, const executor& run) {
  if constexpr (requires { encoder.rotate_backward(d, rotated, role, state, d_parameters, run); })
    encoder.rotate_backward(d, rotated, role, state, d_parameters, run);
  else if constexpr (trains_rotation<E>) encoder.rotate_backward(d, rotated, role, state, d_parameters);
  else rotate_backward(encoder, d, role, state, run);
}
}  // namespace detail

/// d_queries, d_keys: in and out. Only for encoders whose angles are not trained, so that forgetting what they need does not compile.
template <position_encoder E, class Q, class K>
  requires(!trains_rotation<E>)
void encode_queries_keys_backward(const E& encoder, head_view<Q> d_queries, head_view<K> d_keys, const state_t<E>& state,
                                  [[maybe_unused]] const executor& run = {}) {
  detail::require_heads_match("encode_queries_keys_backward", d_queries, d_keys);
  if constexpr (rotary_encoder<E>) {
    detail::require_fits(encoder, d_queries, operand::query, state);
    detail::require_fits(encoder, d_keys, operand::key, state);
    detail::rotate_backward(encoder, d_queries, operand::query, state, run);
    detail::rotate_backward(encoder, d_keys, operand::key, state, run);
  }
}
/// The same for any encoder. queries, keys: as `encode_queries_keys` wrote them. d_parameters are added to.
template <position_encoder E, class Q, class K>
void encode_queries_keys_backward(const E& encoder, head_view<Q> d_queries, head_view<K> d_keys,
                                  std::type_identity_t<head_view<const Q>> queries, std::type_identity_t<head_view<const K>> keys,
                                  const state_t<E>& state, [[maybe_unused]] gradient_spans<typename E::scalar> d_parameters,
                                  [[maybe_unused]] const executor& run = {}) {
  constexpr std::string_view who = "encode_queries_keys_backward", shapes = "gradients must have the shapes of what they are of";
  detail::require_heads_match(who, d_queries, d_keys);
  require(queries.by_time().extents() == d_queries.by_time().extents(), who, shapes, queries.by_time().extents(),
          d_queries.by_time().extents());
  require(keys.by_time().extents() == d_keys.by_time().extents(), who, shapes, keys.by_time().extents(), d_keys.by_time().extents());
  if constexpr (rotary_encoder<E>) {
    detail::require_fits(encoder, d_queries, operand::query, state);
    detail::require_fits(encoder, d_keys, operand::key, state);
    detail::rotate_backward(encoder, d_queries, queries, operand::query, state, d_parameters, run);
    detail::rotate_backward(encoder, d_keys, keys, operand::key, state, d_parameters, run);
  }
}

/// d_scores: in and out (a contextual encoder may have read the scores). d_inputs and d_parameters are added to.
template <position_encoder E, writable_tensor T, class Q = element_t<T>>
void encode_scores_backward(const E& encoder, T&& d_scores, [[maybe_unused]] const attention_inputs<Q>& inputs,
                            [[maybe_unused]] const attention_gradients<Q>& d_inputs, const state_t<E>& state,
                            gradient_spans<typename E::scalar> d_parameters, [[maybe_unused]] const executor& run = {}) {
  const score_view<element_t<T>> d = d_scores;
  if constexpr (contextual_bias_encoder<E>) {
    if constexpr (requires { encoder.bias_backward(d, inputs, d_inputs, state, d_parameters, run); })
      encoder.bias_backward(d, inputs, d_inputs, state, d_parameters, run);
    else encoder.bias_backward(d, inputs, d_inputs, state, d_parameters);
  } else if constexpr (bias_encoder<E>) {
    if constexpr (requires { encoder.bias_backward(d, state, d_parameters, run); }) encoder.bias_backward(d, state, d_parameters, run);
    else if constexpr (requires { encoder.bias_backward(d, state, d_parameters); }) encoder.bias_backward(d, state, d_parameters);
    else static_assert(!trainable<E>, "a trainable bias encoder needs bias_backward");
  }
}

/// d_context: the gradient of the context, which passes unchanged; d_weights and d_parameters are added to.
template <position_encoder E, class S, readable_tensor W, writable_tensor D>
  requires(!contextual_value_encoder<E>)
void encode_context_backward(const E& encoder, head_view<S> d_context, W&& weights, D&& d_weights, const state_t<E>& state,
                             gradient_spans<typename E::scalar> d_parameters, [[maybe_unused]] const executor& run = {}) {
  if constexpr (value_encoder<E>) {
    const head_view<const std::remove_const_t<S>> d = d_context;
    const score_view<const std::remove_const_t<element_t<W>>> w = weights;
    const score_view<element_t<D>> d_w = d_weights;
    if constexpr (requires { encoder.add_values_backward(d, w, d_w, state, d_parameters, run); })
      encoder.add_values_backward(d, w, d_w, state, d_parameters, run);
    else encoder.add_values_backward(d, w, d_w, state, d_parameters);
  }
}
/// The same with inputs; d_inputs are added to.
template <position_encoder E, class S, readable_tensor W, writable_tensor D, class Q = S>
void encode_context_backward(const E& encoder, head_view<S> d_context, W&& weights, D&& d_weights,
                             [[maybe_unused]] const attention_inputs<Q>& inputs, [[maybe_unused]] const attention_gradients<Q>& d_inputs,
                             const state_t<E>& state, gradient_spans<typename E::scalar> d_parameters,
                             [[maybe_unused]] const executor& run = {}) {
  if constexpr (contextual_value_encoder<E>) {
    const head_view<const std::remove_const_t<S>> d = d_context;
    const score_view<const std::remove_const_t<element_t<W>>> w = weights;
    const score_view<element_t<D>> d_w = d_weights;
    if constexpr (requires { encoder.add_values_backward(d, w, d_w, inputs, d_inputs, state, d_parameters, run); })
      encoder.add_values_backward(d, w, d_w, inputs, d_inputs, state, d_parameters, run);
    else encoder.add_values_backward(d, w, d_w, inputs, d_inputs, state, d_parameters);
  } else {
    encode_context_backward(encoder, d_context, weights, d_weights, state, d_parameters, run);
  }
}

}  // namespace POSENC_NAMESPACE
