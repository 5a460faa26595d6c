// SPDX-License-Identifier: MIT
/// \file  What a position encoder is, and the four places of a transformer where one may act.
///
///     tokens --> embeddings x --> q, k, v --> scores s = q.k --> softmax --> context y
///                   ^ add           ^ rotate        ^ bias                     ^ add_values
///
/// An attention block calls `encode_embeddings`, `encode_queries_keys`, `encode_scores` and `encode_context` once each, and takes any
/// encoder as a template argument: at the places where it does not act, nothing happens.
#pragma once

#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/executor.hpp>
#include <posenc/heads.hpp>      // head_view
#include <posenc/inputs.hpp>
#include <posenc/positions.hpp>  // positions, attention_positions, operand
#include <posenc/tensor.hpp>     // views

#include <cmath>
#include <concepts>
#include <string_view>
#include <type_traits>
#include <utility>

namespace POSENC_NAMESPACE {

// ---- what encoders are given ---------------------------------------------------------------------------------------------------------

/// What an encoder computes once per forward pass for all layers: its own `prepare`, or else the positions themselves.
template <class E>
auto prepare(const E& encoder, const attention_positions& at, const executor& run = {}) {
  if constexpr (requires { encoder.prepare(at, run); }) return encoder.prepare(at, run);
  else if constexpr (requires { encoder.prepare(at); }) return encoder.prepare(at);
  else return at;
}
/// The same between whole positions, for encoders that turn by coordinates.
template <class E>
  requires requires(const E& encoder, const attention_coordinates& at, const executor& run) { encoder.prepare(at, run); }
auto prepare(const E& encoder, const attention_coordinates& at, const executor& run = {}) {
  return encoder.prepare(at, run);
}
template <class E>
using state_t = decltype(prepare(std::declval<const E&>(), std::declval<const attention_positions&>()));

// ---- what an encoder is --------------------------------------------------------------------------------------------------------------

// A verb may be a template over tensor types, so each concept asks about one archetype: the view of the encoder's own scalar. Stage
// functions pass nothing but views, so a user's encoder may be one plain function. Copyable, not regular: an encoder whose choices have
// no default has no default constructor.
template <class E>
concept named_encoder = std::copyable<E> && std::equality_comparable<E> && storage_scalar<typename E::scalar> && requires(const E& e) {
  { e.name() } -> std::convertible_to<std::string_view>;
};

/// Adds to embeddings [batch, time, channel].
template <class E>
concept additive_encoder = named_encoder<E> && requires(const E& e, token_view<typename E::scalar> x, const positions& at) {
  { e.add(x, at) } -> std::same_as<void>;
};

/// Adds to embeddings, and reads more than them for it.
template <class E>
concept contextual_additive_encoder =
    named_encoder<E> &&
    requires(const E& e, token_view<typename E::scalar> x, const embedding_inputs<typename E::scalar>& inputs, const positions& at) {
      { e.add(x, inputs, at) } -> std::same_as<void>;
    };

/// Adds a code that depends on the position alone: `encode` writes it. A table of codes may be made of it once.
template <class E>
concept code_encoder = additive_encoder<E> && requires(const E& e, token_view<typename E::scalar> out, const positions& at) {
  { e.encode(at, out) } -> std::same_as<void>;
  { e.dim() } -> std::same_as<index_t>;
};

/// Turns queries and keys, one tensor and its role per call.
template <class E>
concept rotary_encoder = named_encoder<E> && requires(const E& e, head_view<typename E::scalar> x, const state_t<E>& state) {
  { e.rotate(x, operand::query, state) } -> std::same_as<void>;
};

/// Adds to scores [batch, head, query, key], from positions alone.
template <class E>
concept bias_encoder = named_encoder<E> && requires(const E& e, score_view<typename E::scalar> scores, const state_t<E>& state) {
  { e.bias(scores, state) } -> std::same_as<void>;
};

/// Adds to scores, and reads queries, keys, gates or the scores for it.
template <class E>
concept contextual_bias_encoder =
    named_encoder<E> && requires(const E& e, score_view<typename E::scalar> scores, const attention_inputs<typename E::scalar>& inputs,
                                 const state_t<E>& state) {
      { e.bias(scores, inputs, state) } -> std::same_as<void>;
    };

/// Adds to the context [batch, time, head, channel], from the attention weights.
template <class E>
concept value_encoder = named_encoder<E> && requires(const E& e, head_view<typename E::scalar> context,
                                                     score_view<const typename E::scalar> weights, const state_t<E>& state) {
  { e.add_values(context, weights, state) } -> std::same_as<void>;
};

/// Adds to the context, and reads queries, keys or values for it.
template <class E>
concept contextual_value_encoder =
    named_encoder<E> && requires(const E& e, head_view<typename E::scalar> context, score_view<const typename E::scalar> weights,
                                 const attention_inputs<typename E::scalar>& inputs, const state_t<E>& state) {
      { e.add_values(context, weights, inputs, state) } -> std::same_as<void>;
    };

// "Does not act there" must not hide "acts there with a slightly wrong signature", so the verbs' names are reserved: a member of that
// name has to satisfy its concept. (A member of E makes the same name in a sibling base ambiguous.)
namespace detail {
struct with_add {
  int add;
};
struct with_rotate {
  int rotate;
};
struct with_bias {
  int bias;
};
struct with_add_values {
  int add_values;
};
template <class E, class Name>
struct joined : E, Name {};
template <class E>
inline constexpr bool acts_through_parts = false;  // compose: its verbs come and go with its parts
}  // namespace detail

template <class E>
concept add_absent_or_right = detail::acts_through_parts<E> || additive_encoder<E> || contextual_additive_encoder<E> ||
                              requires { &detail::joined<E, detail::with_add>::add; };
template <class E>
concept rotate_absent_or_right =
    detail::acts_through_parts<E> || rotary_encoder<E> || requires { &detail::joined<E, detail::with_rotate>::rotate; };
template <class E>
concept bias_absent_or_right = detail::acts_through_parts<E> || bias_encoder<E> || contextual_bias_encoder<E> ||
                               requires { &detail::joined<E, detail::with_bias>::bias; };
template <class E>
concept add_values_absent_or_right = detail::acts_through_parts<E> || value_encoder<E> || contextual_value_encoder<E> ||
                                     requires { &detail::joined<E, detail::with_add_values>::add_values; };
/// Names are looked up through a derived class.
template <class E>
concept not_final = !std::is_final_v<E>;
template <class E>
concept verbs_have_the_right_signature =
    not_final<E> && add_absent_or_right<E> && rotate_absent_or_right<E> && bias_absent_or_right<E> && add_values_absent_or_right<E>;

/// A copyable, comparable value with a `scalar`, a `name`, and at least one of the four verbs.
template <class E>
concept position_encoder = (additive_encoder<E> || contextual_additive_encoder<E> || rotary_encoder<E> || bias_encoder<E> ||
                            contextual_bias_encoder<E> || value_encoder<E> || contextual_value_encoder<E>) &&
                           verbs_have_the_right_signature<E>;

/// True for encoders whose cached keys can be moved to other positions (`shift`): rotations, whose angles add.
template <class E>
inline constexpr bool is_shiftable = false;

/// An encoder with a `score_scale(channels)` of its own: some schemes change it.
template <class E>
concept changes_score_scale = requires(const E& e, index_t channels) {
  { e.score_scale(channels) } -> std::convertible_to<double>;
};
/// What q.k is to be multiplied by with this encoder: its own scale, or 1 / sqrt(channels).
template <position_encoder E>
double score_scale(const E& encoder, index_t channels) {
  if constexpr (changes_score_scale<E>) return encoder.score_scale(channels);
  else return 1 / std::sqrt(static_cast<double>(channels));
}

namespace detail {
/// Asks an encoder that offers it (`require_fits`, with the arguments of the verb) for its checks, where several things are written in
/// turn: nothing may be written before all have been checked.
template <class E, class... Arguments>
void require_fits(const E& encoder, const Arguments&... arguments) {
  if constexpr (requires { encoder.require_fits(arguments...); }) encoder.require_fits(arguments...);
}
}  // namespace detail

// ---- the four stages -----------------------------------------------------------------------------------------------------------------

// Each hands the executor on to encoders whose verbs take one as the last argument; the others run in the calling thread.

/// x: [batch..., time, channel], rank 2 or more. In place; for anything else see the encoder's own `add`. Only for encoders that need no
/// inputs, so that forgetting them does not compile.
template <position_encoder E, writable_tensor X>
  requires(!contextual_additive_encoder<E>)
void encode_embeddings(const E& encoder, X&& x, const positions& at, [[maybe_unused]] const executor& run = {}) {
  if constexpr (additive_encoder<E>) {
    const auto view = batched(x);
    if constexpr (requires { encoder.add(view, at, run); }) encoder.add(view, at, run);
    else encoder.add(view, at);
  }
}

/// The same between whole positions, for encoders that take coordinates: one that adds and does not take them does not compile.
template <position_encoder E, writable_tensor X>
  requires(!contextual_additive_encoder<E>)
void encode_embeddings(const E& encoder, X&& x, const coordinates& at, [[maybe_unused]] const executor& run = {}) {
  if constexpr (additive_encoder<E>) {
    const auto view = batched(x);
    if constexpr (requires { encoder.add(view, at, run); }) encoder.add(view, at, run);
    else encoder.add(view, at);
  }
}

/// The same with inputs; a braced list `{.gates = ...}` takes the scalar of x.
template <position_encoder E, writable_tensor X>
void encode_embeddings(const E& encoder, X&& x, [[maybe_unused]] const embedding_inputs<element_t<X>>& inputs, const positions& at,
                       [[maybe_unused]] const executor& run = {}) {
  const auto view = batched(x);
  if constexpr (contextual_additive_encoder<E>) {
    if constexpr (requires { encoder.add(view, inputs, at, run); }) encoder.add(view, inputs, at, run);
    else encoder.add(view, inputs, at);
  } else {
    encode_embeddings(encoder, view, at, run);
  }
}

namespace detail {
template <rotary_encoder E, class S>
void rotate(const E& encoder, const head_view<S>& x, operand role, const state_t<E>& state, [[maybe_unused]] const executor& run) {
  if constexpr (requires { encoder.rotate(x, role, state, run); }) encoder.rotate(x, role, state, run);
  else encoder.rotate(x, role, state);
}
/// \throws argument_error  unless queries and keys belong together: one batch, equal channels, a whole number of queries' heads per key's.
template <class Q, class K>
void require_heads_match(std::string_view who, const head_view<Q>& queries, const head_view<K>& keys) {
  require(queries.batch() == keys.batch(), who, "queries and keys must have the same batch", queries.batch(), keys.batch());
  require(queries.channels() == keys.channels(), who, "queries and keys must have the same channels", queries.channels(), keys.channels());
  require(keys.count() == 0 ? queries.count() == 0 : queries.count() % keys.count() == 0, who,
          "the number of query heads must be a multiple of key heads", queries.count(), keys.count());
}
}  // namespace detail

/// q and k: [batch, time, head, channel] views made by `heads`, in place. They may stand at different positions, and there may be fewer
/// key heads (grouped queries). \throws argument_error  unless the ratio is whole.
template <position_encoder E, class Q, class K>
void encode_queries_keys(const E& encoder, head_view<Q> queries, head_view<K> keys, const state_t<E>& state,
                         [[maybe_unused]] const executor& run = {}) {
  detail::require_heads_match("encode_queries_keys", queries, keys);
  if constexpr (rotary_encoder<E>) {
    detail::require_fits(encoder, queries, operand::query, state);
    detail::require_fits(encoder, keys, operand::key, state);
    detail::rotate(encoder, queries, operand::query, state, run);
    detail::rotate(encoder, keys, operand::key, state, run);
  }
}

/// scores: [batch, head, query, key], scaled, in place. Only for encoders that need no inputs, so that forgetting them does not compile.
template <position_encoder E, writable_tensor T>
  requires(!contextual_bias_encoder<E>)
void encode_scores(const E& encoder, T&& scores, const state_t<E>& state, [[maybe_unused]] const executor& run = {}) {
  if constexpr (bias_encoder<E>) {
    const score_view<element_t<T>> view = scores;
    if constexpr (requires { encoder.bias(view, state, run); }) encoder.bias(view, state, run);
    else encoder.bias(view, state);
  }
}

/// The same with inputs. Q is deduced from a named `attention_inputs<Q>`; a braced list
/// `{.scale = ..., .queries = ...}` takes the scalar of the scores.
template <position_encoder E, writable_tensor T, class Q = element_t<T>>
void encode_scores(const E& encoder, T&& scores, [[maybe_unused]] const attention_inputs<Q>& inputs, const state_t<E>& state,
                   [[maybe_unused]] const executor& run = {}) {
  const score_view<element_t<T>> view = scores;
  if constexpr (contextual_bias_encoder<E>) {
    if constexpr (requires { encoder.bias(view, inputs, state, run); }) encoder.bias(view, inputs, state, run);
    else encoder.bias(view, inputs, state);
  } else {
    encode_scores(encoder, view, state, run);
  }
}

/// context: [batch, time, head, channel], in place; weights: [batch, head, query, key]. Only for encoders that need no inputs, so that
/// forgetting them does not compile.
template <position_encoder E, class S, readable_tensor W>
  requires(!contextual_value_encoder<E>)
void encode_context(const E& encoder, head_view<S> context, W&& weights, const state_t<E>& state,
                    [[maybe_unused]] const executor& run = {}) {
  if constexpr (value_encoder<E>) {
    const score_view<const std::remove_const_t<element_t<W>>> view = weights;
    if constexpr (requires { encoder.add_values(context, view, state, run); }) encoder.add_values(context, view, state, run);
    else encoder.add_values(context, view, state);
  }
}

/// The same with inputs.
template <position_encoder E, class S, readable_tensor W, class Q = S>
void encode_context(const E& encoder, head_view<S> context, W&& weights, [[maybe_unused]] const attention_inputs<Q>& inputs,
                    const state_t<E>& state, [[maybe_unused]] const executor& run = {}) {
  if constexpr (contextual_value_encoder<E>) {
    const score_view<const std::remove_const_t<element_t<W>>> view = weights;
    if constexpr (requires { encoder.add_values(context, view, inputs, state, run); })
      encoder.add_values(context, view, inputs, state, run);
    else encoder.add_values(context, view, inputs, state);
  } else {
    encode_context(encoder, context, weights, state, run);
  }
}

}  // namespace POSENC_NAMESPACE
