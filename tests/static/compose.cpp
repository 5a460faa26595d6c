// SPDX-License-Identifier: MIT
#include <posenc/combine.hpp>

#include <posenc/posenc.hpp>

#include "doubles.hpp"

#include <concepts>
#include <tuple>

using namespace posenc;

namespace {

template <class E>
inline constexpr int stages =
    16 * additive_encoder<E> + 8 * rotary_encoder<E> + 4 * bias_encoder<E> + 2 * contextual_bias_encoder<E> + value_encoder<E>;

using learned = doubles::learned<float>;
using shaw = doubles::shaw_keys<float>;
using values = doubles::shaw_values<float>;

// The verbs of its parts, and no others.
static_assert(stages<compose<learned>> == 16 && stages<compose<rope<float>>> == 8 && stages<compose<alibi<float>>> == 4 &&
              stages<compose<shaw>> == 2 && stages<compose<values>> == 1);
static_assert(stages<compose<learned, rope<float>>> == 16 + 8 && stages<compose<rope<float>, alibi<float>>> == 8 + 4);
static_assert(stages<compose<alibi<float>, shaw>> == 2, "one part that reads inputs makes all get them");
static_assert(stages<compose<learned, rope<float>, shaw, values>> == 16 + 8 + 2 + 1);
static_assert(stages<compose<compose<rope<float>>, compose<alibi<float>, values>>> == 8 + 4 + 1);
static_assert(position_encoder<compose<learned>> && position_encoder<compose<rope<float>, alibi<float>, shaw, values, no_encoding>> &&
              position_encoder<compose<compose<rope<float>>, learned>>);

// One part that reads inputs makes all get them, stage by stage.
using emphasis = doubles::emphasis<float>;
using scaled = doubles::scaled_values<float>;
static_assert(contextual_additive_encoder<compose<emphasis>> && !additive_encoder<compose<emphasis>> &&
              contextual_additive_encoder<compose<learned, emphasis>> && !additive_encoder<compose<learned, emphasis>>);
static_assert(contextual_value_encoder<compose<scaled>> && !value_encoder<compose<values, scaled>> &&
              contextual_value_encoder<compose<values, compose<scaled>>>);
static_assert(!contextual_additive_encoder<compose<learned, scaled>> && additive_encoder<compose<learned, scaled>> &&
              !contextual_value_encoder<compose<values, emphasis>> && value_encoder<compose<values, emphasis>>);
static_assert(position_encoder<compose<emphasis, scaled, shaw, rope<float>>> && trainable<compose<emphasis, scaled>>);

template <class... Parts>
concept composable = requires { typename compose<Parts...>; };
static_assert(composable<no_encoding> && !composable<> && !composable<int> && !composable<rope<float>, int>);

static_assert(trainable<compose<learned>> && trainable<compose<rope<float>, alibi<float>>> &&
              !trainable<compose<rope<float>, no_encoding>>);

static_assert(std::same_as<compose<no_encoding, rope<double>>::scalar, double> &&
              std::same_as<compose<rope<float>, learned>::scalar, float>);
static_assert(std::same_as<state_t<compose<alibi<float>, rope<float>>>, std::tuple<attention_positions, rotary_tables<float>>>);

static_assert(std::copyable<compose<rope<float>, alibi<float>>> && std::equality_comparable<compose<rope<float>, alibi<float>>>);
static_assert(std::same_as<decltype(compose(std::declval<rope<float>>(), std::declval<learned>())), compose<rope<float>, learned>>);
static_assert(!std::convertible_to<rope<float>, compose<rope<float>>>);

}  // namespace

// Codes of coordinates are for encoders that have them.
namespace {
template <class E>
constexpr bool takes_coordinates =
    requires(const E& encoder, posenc::token_view<float> x, const posenc::coordinates& at) { encoder.add(x, at); };
}  // namespace
static_assert(takes_coordinates<posenc::sinusoidal<float>> && takes_coordinates<posenc::axial_sinusoidal<float>> &&
              takes_coordinates<posenc::scaled_sum<posenc::sinusoidal<float>>>);
static_assert(!takes_coordinates<posenc::learned<float>> && !takes_coordinates<posenc::axial_learned<float>>);
