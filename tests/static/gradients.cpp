// SPDX-License-Identifier: MIT
#include <posenc/gradients.hpp>

#include <posenc/learned.hpp>
#include <posenc/learned/axial_learned.hpp>
#include <posenc/posenc.hpp>
#include <posenc/rope/learned_rope.hpp>

#include "doubles.hpp"

#include <concepts>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

using namespace posenc;

namespace {

template <class S>
struct named {
  using scalar = S;
  static constexpr std::string_view name() { return "named"; }
  friend bool operator==(const named&, const named&) = default;
};
template <class S>
struct adds : named<S> {
  void add(token_view<S>, const positions&) const;
};

struct trained : adds<float> {
  std::vector<parameter<float>> parameters();
};
struct trained_in_another_scalar : adds<float> {
  std::vector<parameter<double>> parameters();
};
struct trained_in_another_form : adds<float> {
  std::span<float> parameters();
};
struct without_a_verb : named<float> {
  std::vector<parameter<float>> parameters();
};
static_assert(trainable<trained> && !trainable<adds<float>> && !trainable<trained_in_another_scalar> &&
              !trainable<trained_in_another_form> && !trainable<without_a_verb> && !trainable<int>);

static_assert(trainable<alibi<float>> && trainable<alibi<double>> && !trainable<rope<float>> && !trainable<sinusoidal<float>> &&
              !trainable<no_encoding>);
static_assert(trainable<doubles::learned<float>> && trainable<doubles::shaw_keys<double>> && trainable<doubles::shaw_values<float>> &&
              !trainable<doubles::forgetting>);

static_assert(trainable<posenc::learned<float>> && trainable<axial_learned<double>> && !trainable<posenc::learned<const float>>);
static_assert(trainable<compose<posenc::learned<float>, posenc::learned<const float>>> &&
              !trainable<compose<posenc::learned<const float>>>);
// A table that is only read passes the gradient on.
template <class E>
concept adds_backward =
    requires(const E& e, token_view<float> d, const positions& at, gradient_spans<float> spans) { e.add_backward(d, at, spans); };
template <class E>
concept encodes_backward =
    requires(const E& e, token_view<const float> d, const positions& at, gradient_spans<float> spans) { e.encode_backward(at, d, spans); };
static_assert(adds_backward<posenc::learned<float>> && adds_backward<axial_learned<float>> && encodes_backward<posenc::learned<float>> &&
              encodes_backward<axial_learned<float>>);
static_assert(!adds_backward<posenc::learned<const float>> && !encodes_backward<posenc::learned<const float>>);

struct turns : named<float> {
  void rotate(head_view<float>, operand, const attention_positions&) const;
  void rotate_backward(head_view<float>, operand, const attention_positions&) const;
};
struct turns_by_training : turns {
  void rotate_backward(head_view<float>, head_view<const float>, operand, const attention_positions&, gradient_spans<float>) const;
};
struct writes_to_what_was_rotated : turns {
  void rotate_backward(head_view<float>, head_view<float>, operand, const attention_positions&, gradient_spans<float>) const;
};
struct backward_alone : named<float> {
  void rotate_backward(head_view<float>, head_view<const float>, operand, const attention_positions&, gradient_spans<float>) const;
};
static_assert(trains_rotation<turns_by_training> && !trains_rotation<turns> && !trains_rotation<writes_to_what_was_rotated> &&
              !trains_rotation<backward_alone> && !trains_rotation<int>);
static_assert(trains_rotation<learned_rope<float>> && trains_rotation<learned_rope<double>> && trainable<learned_rope<float>>);
static_assert(trains_rotation<compose<learned_rope<float>>> && trains_rotation<compose<alibi<float>, learned_rope<float>, no_encoding>> &&
              trains_rotation<compose<compose<learned_rope<double>>>> && !trains_rotation<compose<rope<float>, alibi<float>>>);
static_assert(!trains_rotation<rope<float>> && !trains_rotation<rope<double>> && !trains_rotation<alibi<float>> &&
              !trains_rotation<sinusoidal<float>> && !trains_rotation<no_encoding> && !trains_rotation<doubles::recorder<false>>);

template <class E>
concept goes_back_without_what_was_written =
    requires(const E& e, head_view<float> d, const state_t<E>& state) { encode_queries_keys_backward(e, d, d, state); };
template <class E>
concept goes_back = requires(const E& e, head_view<float> d, head_view<const float> x, const state_t<E>& state,
                             gradient_spans<float> spans) { encode_queries_keys_backward(e, d, d, x, x, state, spans); };
static_assert(goes_back_without_what_was_written<rope<float>> && goes_back_without_what_was_written<turns> &&
              goes_back_without_what_was_written<alibi<float>>);
static_assert(!goes_back_without_what_was_written<learned_rope<float>> && !goes_back_without_what_was_written<turns_by_training> &&
              !goes_back_without_what_was_written<compose<learned_rope<float>, alibi<float>>>);
static_assert(goes_back<rope<float>> && goes_back<turns> && goes_back<alibi<float>> && goes_back<learned_rope<float>> &&
              goes_back<turns_by_training> && goes_back<compose<learned_rope<float>, alibi<float>>>);

static_assert(std::same_as<decltype(parameters(std::declval<adds<double>&>())), std::vector<parameter<double>>>,
              "any encoder can be asked");

static_assert(std::movable<gradient_buffer<float>> && !std::copyable<gradient_buffer<float>>, "spans would point into the original");

}  // namespace
