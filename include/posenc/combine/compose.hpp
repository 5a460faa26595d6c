// SPDX-License-Identifier: MIT
/// \file  Several encoders as one: real models use learned embeddings with rope, or rope with ALiBi.
#pragma once

#include <posenc/additive_verbs.hpp>  // add_codes
#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>

#include <array>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

template <position_encoder... Parts>
  requires(sizeof...(Parts) > 0)
class compose;
template <class... Parts>
inline constexpr bool detail::acts_through_parts<compose<Parts...>> = true;
template <class... Parts>
inline constexpr bool ignores_embeddings<compose<Parts...>> = ((!needs_embeddings<Parts> || ignores_embeddings<Parts>) && ...);

/// Applies its parts in order, each at the stages where it acts; backward in reverse. It has exactly the verbs that its parts have.
/// Parts share one scalar; their parameters stand one after the other.
template <position_encoder... Parts>
  requires(sizeof...(Parts) > 0)
class compose {
 public:
  using scalar = std::common_type_t<typename Parts::scalar...>;
  using state = std::tuple<state_t<Parts>...>;
  static_assert(((std::same_as<typename Parts::scalar, scalar> || !trainable<Parts>) && ...), "trainable parts must share one scalar");

  explicit compose(Parts... parts) : parts_(std::move(parts)...) {
    std::size_t n = 0;
    std::apply([&](auto&... part) { ((first_[n + 1] = first_[n] + posenc::parameters(part).size(), ++n), ...); }, parts_);
  }
  static constexpr std::string_view name() noexcept { return "compose"; }

  state prepare(const attention_positions& at, const executor& run = {}) const {
    return std::apply([&](const auto&... part) { return state(posenc::prepare(part, at, run)...); }, parts_);
  }

  /// The checks of all parts: \throws argument_error  before any of them writes.
  template <class T, token_places At>
  void require_fits(const token_view<T>& x, const At& at) const {
    std::apply([&](const auto&... part) { (detail::require_fits(part, x, at), ...); }, parts_);
  }
  template <class T>
  void require_fits(const token_view<T>& x, const embedding_inputs<T>& inputs, const positions& at) const {
    require_fits(x, at);
    std::apply([&](const auto&... part) { (detail::require_fits(part, x, inputs, at), ...); }, parts_);
  }
  template <class S>
  void require_fits(const head_view<S>& x, operand role, const state& states) const {
    forward([&](const auto& part, const auto& own) { detail::require_fits(part, x, role, own); }, states);
  }
  template <class T>
  void require_fits(const score_view<T>& scores, const state& states) const {
    forward([&](const auto& part, const auto& own) { detail::require_fits(part, scores, own); }, states);
  }
  template <class T, class Q>
  void require_fits(const score_view<T>& scores, const attention_inputs<Q>& inputs, const state& states) const {
    require_fits(scores, states);
    forward([&](const auto& part, const auto& own) { detail::require_fits(part, scores, inputs, own); }, states);
  }
  template <class S, class W>
  void require_fits(const head_view<S>& context, const score_view<W>& weights, const state& states) const {
    forward([&](const auto& part, const auto& own) { detail::require_fits(part, context, weights, own); }, states);
  }
  template <class S, class W, class Q>
  void require_fits(const head_view<S>& context, const score_view<W>& weights, const attention_inputs<Q>& inputs,
                    const state& states) const {
    require_fits(context, weights, states);
    forward([&](const auto& part, const auto& own) { detail::require_fits(part, context, weights, inputs, own); }, states);
  }

  /// Codes that depend on positions alone are added in one pass over x: the same bits as one after the other in float and double, and one
  /// rounding where x is of 16 bits.
  template <writable_tensor X, token_places At>
    requires((additive_encoder<Parts> || ...) && !(contextual_additive_encoder<Parts> || ...))
  void add(X&& x, const At& at, const executor& run = {}) const {
    const auto view = batched(x);
    require_fits(view, at);
    if constexpr (adds_at_once<At>) {
      const auto additive = std::apply([](const auto&... part) { return std::tuple_cat(if_additive(part)...); }, parts_);
      std::apply([&](const auto&... part) { detail::add_codes<scalar>(view, view, {}, at, {}, run, part...); }, additive);
    } else {
      std::apply([&](const auto&... part) { (encode_embeddings(part, view, at, run), ...); }, parts_);
    }
  }
  template <writable_tensor X>
    requires(contextual_additive_encoder<Parts> || ...)
  void add(X&& x, const embedding_inputs<element_t<X>>& inputs, const positions& at, const executor& run = {}) const {
    const auto view = batched(x);
    require_fits(view, inputs, at);
    std::apply([&](const auto&... part) { (encode_embeddings(part, view, inputs, at, run), ...); }, parts_);
  }
  template <class S>
    requires(rotary_encoder<Parts> || ...)
  void rotate(head_view<S> x, operand role, const state& states, const executor& run = {}) const {
    require_fits(x, role, states);
    forward(
        [&]<class Part>(const Part& part, const state_t<Part>& own) {
          if constexpr (rotary_encoder<Part>) detail::rotate(part, x, role, own, run);
        },
        states);
  }
  template <writable_tensor T>
    requires((bias_encoder<Parts> || ...) && !(contextual_bias_encoder<Parts> || ...))
  void bias(T&& scores, const state& states, const executor& run = {}) const {
    require_fits(score_view<element_t<T>>(scores), states);
    forward([&](const auto& part, const auto& own) { encode_scores(part, scores, own, run); }, states);
  }
  template <writable_tensor T, class Q>
    requires(contextual_bias_encoder<Parts> || ...)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const state& states, const executor& run = {}) const {
    require_fits(score_view<element_t<T>>(scores), inputs, states);
    forward([&](const auto& part, const auto& own) { encode_scores(part, scores, inputs, own, run); }, states);
  }
  template <class S, readable_tensor W>
    requires((value_encoder<Parts> || ...) && !(contextual_value_encoder<Parts> || ...))
  void add_values(head_view<S> context, W&& weights, const state& states, const executor& run = {}) const {
    require_fits(context, score_view<const std::remove_const_t<element_t<W>>>(weights), states);
    forward([&](const auto& part, const auto& own) { encode_context(part, context, weights, own, run); }, states);
  }
  template <class S, readable_tensor W, class Q>
    requires(contextual_value_encoder<Parts> || ...)
  void add_values(head_view<S> context, W&& weights, const attention_inputs<Q>& inputs, const state& states,
                  const executor& run = {}) const {
    require_fits(context, score_view<const std::remove_const_t<element_t<W>>>(weights), inputs, states);
    forward([&](const auto& part, const auto& own) { encode_context(part, context, weights, inputs, own, run); }, states);
  }

  template <writable_tensor X>
    requires((additive_encoder<Parts> || ...) && !(needs_embeddings<Parts> || ...))
  void add_backward(X&& d_x, const positions& at, gradient_spans<scalar> d_parameters, const executor& run = {}) const {
    backward([&](const auto& part, const auto*, auto own) { encode_embeddings_backward(part, batched(d_x), at, own, run); }, d_parameters,
             nullptr);
  }
  /// x: the embeddings before `add`, which are what a part read only if it is the first that adds.
  template <writable_tensor X>
    requires((reads_embeddings<Parts> || ...) && !(contextual_additive_encoder<Parts> || ...))
  void add_backward(X&& d_x, const token_view<const element_t<X>>& x, const positions& at, gradient_spans<scalar> d_parameters,
                    const executor& run = {}) const {
    static_assert(only_first_reads, "a part whose gradient needs the embeddings must be the first that adds to them");
    backward([&](const auto& part, const auto*, auto own) { encode_embeddings_backward(part, batched(d_x), x, at, own, run); },
             d_parameters, nullptr);
  }
  template <writable_tensor X>
    requires(contextual_additive_encoder<Parts> || ...)
  void add_backward(X&& d_x, const token_view<const element_t<X>>& x, const embedding_inputs<element_t<X>>& inputs,
                    const embedding_gradients<element_t<X>>& d_inputs, const positions& at, gradient_spans<scalar> d_parameters,
                    const executor& run = {}) const {
    static_assert(only_first_reads, "a part whose gradient needs the embeddings must be the first that adds to them");
    backward(
        [&](const auto& part, const auto*, auto own) { encode_embeddings_backward(part, batched(d_x), x, inputs, d_inputs, at, own, run); },
        d_parameters, nullptr);
  }
  template <class S>
    requires((rotary_encoder<Parts> || ...) && !(trains_rotation<Parts> || ...))
  void rotate_backward(head_view<S> d, operand role, const state& states, const executor& run = {}) const {
    backward(
        [&]<class Part>(const Part& part, const state_t<Part>* own, auto) {
          if constexpr (rotary_encoder<Part>) detail::rotate_backward(part, d, role, *own, run);
        },
        {}, &states);
  }
  /// rotated: as `rotate` wrote it, which is what the trained rotation wrote only if it is the only one.
  template <class S>
    requires(trains_rotation<Parts> || ...)
  void rotate_backward(head_view<S> d, head_view<const S> rotated, operand role, const state& states, gradient_spans<scalar> d_parameters,
                       const executor& run = {}) const {
    static_assert((static_cast<int>(rotary_encoder<Parts>) + ...) == 1, "a trained rotation must be the only one of a composition");
    backward(
        [&]<class Part>(const Part& part, const state_t<Part>* own, auto d_own) {
          if constexpr (rotary_encoder<Part>) detail::rotate_backward(part, d, rotated, role, *own, d_own, run);
        },
        d_parameters, &states);
  }
  template <writable_tensor T>
    requires((bias_encoder<Parts> || ...) && !(contextual_bias_encoder<Parts> || ...))
  void bias_backward(T&& d_scores, const state& states, gradient_spans<scalar> d_parameters, const executor& run = {}) const {
    using element = element_t<T>;
    backward(
        [&](const auto& part, const auto* own, auto d_own) {
          encode_scores_backward<std::remove_cvref_t<decltype(part)>, T&, element>(part, d_scores, {.scale = 1.0}, {}, *own, d_own, run);
        },
        d_parameters, &states);
  }
  template <writable_tensor T, class Q>
    requires(contextual_bias_encoder<Parts> || ...)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const state& states,
                     gradient_spans<scalar> d_parameters, const executor& run = {}) const {
    backward(
        [&](const auto& part, const auto* own, auto d_own) { encode_scores_backward(part, d_scores, inputs, d_inputs, *own, d_own, run); },
        d_parameters, &states);
  }
  template <class S, readable_tensor W, writable_tensor D>
    requires((value_encoder<Parts> || ...) && !(contextual_value_encoder<Parts> || ...))
  void add_values_backward(head_view<S> d_context, W&& weights, D&& d_weights, const state& states, gradient_spans<scalar> d_parameters,
                           const executor& run = {}) const {
    backward([&](const auto& part, const auto* own,
                 auto d_own) { encode_context_backward(part, d_context, weights, d_weights, *own, d_own, run); },
             d_parameters, &states);
  }

  template <class S, readable_tensor W, writable_tensor D, class Q>
    requires(contextual_value_encoder<Parts> || ...)
  void add_values_backward(head_view<S> d_context, W&& weights, D&& d_weights, const attention_inputs<Q>& inputs,
                           const attention_gradients<Q>& d_inputs, const state& states, gradient_spans<scalar> d_parameters,
                           const executor& run = {}) const {
    backward([&](const auto& part, const auto* own,
                 auto d_own) { encode_context_backward(part, d_context, weights, d_weights, inputs, d_inputs, *own, d_own, run); },
             d_parameters, &states);
  }

  /// Of the first part that changes it.
  double score_scale(index_t channels) const
    requires(changes_score_scale<Parts> || ...)
  {
    double scale = 0;
    const auto ask = [&]<class Part>(const Part& part) {
      if constexpr (changes_score_scale<Part>) return scale = part.score_scale(channels), true;
      else return false;
    };
    std::apply([&](const auto&... part) { static_cast<void>((ask(part) || ...)); }, parts_);
    return scale;
  }

  std::vector<parameter<scalar>> parameters()
    requires(trainable<Parts> || ...)
  {
    std::vector<parameter<scalar>> all;
    const auto append = [&]<class Part>(Part& part) {
      if constexpr (trainable<Part>)
        for (auto& one : part.parameters()) all.push_back(std::move(one));
    };
    std::apply([&](auto&... part) { (append(part), ...); }, parts_);
    return all;
  }

  template <std::size_t I>
  const auto& part() const noexcept {
    return std::get<I>(parts_);
  }

  friend bool operator==(const compose&, const compose&) = default;

 private:
  static constexpr bool only_first_reads = [] {
    bool first = true, right = true;
    const auto ask = [&](bool adds, bool reads) { right = right && (first || !reads), first = first && !adds; };
    (ask(additive_encoder<Parts> || contextual_additive_encoder<Parts>, needs_embeddings<Parts> && !ignores_embeddings<Parts>), ...);
    return right;
  }();

  template <class Part, class At>
  static constexpr bool adds_no_or_part =
      !additive_encoder<Part> || (detail::code_part<Part, At> && std::same_as<typename Part::scalar, scalar>);
  template <class At>
  static constexpr bool adds_at_once =
      (adds_no_or_part<Parts, At> && ...) && (static_cast<index_t>(additive_encoder<Parts>) + ...) <= kernels::most_sources;
  template <class Part>
  static auto if_additive(const Part& part) {
    if constexpr (additive_encoder<Part>) return std::tuple<const Part&>(part);
    else return std::tuple<>();
  }

  void forward(auto&& act, const state& states) const {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (act(std::get<I>(parts_), std::get<I>(states)), ...);
    }(std::index_sequence_for<Parts...>());
  }
  // In reverse, each part with its own state, where there are states, and its own slice of the spans, where there are spans.
  void backward(auto&& act, gradient_spans<scalar> d_parameters, const state* states) const {
    require(d_parameters.empty() || d_parameters.size() == first_.back(), name(), "there must be one gradient span per parameter",
            first_.back(), d_parameters.size());
    const auto one = [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
      using part_scalar = typename std::tuple_element_t<I, std::tuple<Parts...>>::scalar;
      gradient_spans<part_scalar> own;  // none for a part of another scalar: it is not trained
      if constexpr (std::same_as<part_scalar, scalar>)
        if (!d_parameters.empty()) own = d_parameters.subspan(first_[I], first_[I + 1] - first_[I]);
      act(std::get<I>(parts_), states ? &std::get<I>(*states) : nullptr, own);
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (one(std::integral_constant<std::size_t, sizeof...(Parts) - 1 - I>()), ...);
    }(std::index_sequence_for<Parts...>());
  }

  std::tuple<Parts...> parts_;
  std::array<std::size_t, sizeof...(Parts) + 1> first_{};  // of each part's parameters
};

}  // namespace POSENC_NAMESPACE
