// SPDX-License-Identifier: MIT
#include <posenc/learned.hpp>
#include <posenc/learned/axial_learned.hpp>
#include <posenc/posenc.hpp>

#include <concepts>
#include <type_traits>

using namespace posenc;

namespace {

// An option that checkpoints do not record has no default: leaving it out does not compile.
static_assert(!std::default_initializable<required<int>> && std::convertible_to<int, required<int>> &&
              std::convertible_to<required<int>, int>);
static_assert(!std::convertible_to<int, required<pairing>> && !std::convertible_to<alibi_form, required<pairing>>);
static_assert(std::is_trivially_copyable_v<required<index_t>>);

static_assert(!std::default_initializable<rotary_descriptor> && !std::default_initializable<sinusoidal_options> &&
              !std::default_initializable<alibi_options> && !std::default_initializable<head_split> &&
              !std::default_initializable<attention_inputs<float>> && !std::default_initializable<attention_positions>);

template <class O>
concept rope_without_pairing = requires { O{.dim = 64}; };
template <class O>
concept rope_without_dim = requires { O{.pairing = pairing::halves}; };
template <class O>
concept rope_with_both = requires { O{.pairing = pairing::halves, .dim = 64}; };
static_assert(rope_with_both<rotary_descriptor> && !rope_without_pairing<rotary_descriptor> && !rope_without_dim<rotary_descriptor>);

template <class O>
concept sinusoidal_without_order = requires { O{.dim = 64, .exponent_rule = exponent_rule::vaswani{}}; };
template <class O>
concept sinusoidal_without_rule = requires { O{.dim = 64, .order = channel_order::sin_cos}; };
template <class O>
concept sinusoidal_with_both = requires { O{.dim = 64, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}}; };
static_assert(sinusoidal_with_both<sinusoidal_options> && !sinusoidal_without_order<sinusoidal_options> &&
              !sinusoidal_without_rule<sinusoidal_options>);

template <class O>
concept alibi_without_form = requires { O{.heads = 8}; };
template <class O>
concept alibi_without_heads = requires { O{.form = alibi_form::causal}; };
template <class O>
concept alibi_with_both = requires { O{.heads = 8, .form = alibi_form::causal}; };
static_assert(alibi_with_both<alibi_options> && !alibi_without_form<alibi_options> && !alibi_without_heads<alibi_options>);

template <class O>
concept table_without_rows = requires { O{.dim = 8}; };
template <class O>
concept table_without_dim = requires { O{.rows = 8}; };
template <class O>
concept table_with_both = requires { O{.rows = 8, .dim = 8}; };
static_assert(table_with_both<learned_options> && !table_without_rows<learned_options> && !table_without_dim<learned_options>);

template <class O>
concept axial_without_join = requires { O{.rows = {2}, .widths = {2}, .lookup = axial_lookup::axes}; };
template <class O>
concept axial_without_lookup = requires { O{.rows = {2}, .widths = {2}, .join = axial_join::sum}; };
template <class O>
concept axial_with_both = requires { O{.rows = {2}, .widths = {2}, .join = axial_join::sum, .lookup = axial_lookup::axes}; };
static_assert(axial_with_both<axial_learned_options> && !axial_without_join<axial_learned_options> &&
              !axial_without_lookup<axial_learned_options>);

template <class I>
concept inputs_without_scale = requires { I{.causal = true}; };
template <class I>
concept inputs_with_scale = requires { I{.scale = 0.125, .causal = true}; };
static_assert(inputs_with_scale<attention_inputs<float>> && !inputs_without_scale<attention_inputs<float>>);

template <class P>
concept queries_alone = requires { P{.queries = positions::range(3)}; };
template <class P>
concept queries_and_keys = requires { P{.queries = positions::range(3), .keys = positions::range(3)}; };
static_assert(queries_and_keys<attention_positions> && !queries_alone<attention_positions>);

// What checkpoints do not tell of the rotary family either.
template <class O>
concept without_members = requires { O{}; };
static_assert(without_members<rope_options> && without_members<axial_rope_options> && without_members<schedule::unscaled>);
static_assert(!without_members<xpos_options> && !without_members<multimodal_rope_options> && !without_members<pope_options> &&
              !without_members<grid> && !without_members<multimodal_options> && !without_members<axial::period_range>);
static_assert(!without_members<schedule::linear> && !without_members<schedule::ntk> && !without_members<schedule::dynamic_ntk> &&
              !without_members<schedule::yarn> && !without_members<schedule::llama3> && !without_members<schedule::longrope> &&
              !without_members<schedule::proportional>);

// Encoders are made from options by name only.
static_assert(std::constructible_from<rope<float>, rotary_descriptor> && !std::convertible_to<rotary_descriptor, rope<float>>);
static_assert(!std::default_initializable<rope<float>> && !std::default_initializable<sinusoidal<float>> &&
              !std::default_initializable<alibi<float>>);

}  // namespace
