// SPDX-License-Identifier: MIT
#include <posenc/concepts.hpp>

#include <posenc/learned.hpp>
#include <posenc/learned/axial_learned.hpp>
#include <posenc/posenc.hpp>

#include "doubles.hpp"

#include <concepts>
#include <memory>
#include <string>
#include <string_view>

using namespace posenc;

namespace {

/// What every encoder has; each type below adds one thing, right or wrong.
template <class S>
struct named {
  using scalar = S;
  static constexpr std::string_view name() { return "named"; }
  friend bool operator==(const named&, const named&) = default;
};
using base = named<float>;

// ---- named_encoder -------------------------------------------------------------------------------------------------------------------

static_assert(named_encoder<base> && named_encoder<named<Eigen::half>>);
static_assert(!position_encoder<base>, "at least one verb");

struct without_scalar {
  static std::string_view name() { return "x"; }
  void add(token_view<float>, const positions&) const;
  bool operator==(const without_scalar&) const;
};
struct without_name {
  using scalar = float;
  void add(token_view<float>, const positions&) const;
  bool operator==(const without_name&) const;
};
struct without_equality {
  using scalar = float;
  static std::string_view name() { return "x"; }
  void add(token_view<float>, const positions&) const;
};
struct without_copy : base {
  std::unique_ptr<int> owned;
  void add(token_view<float>, const positions&) const;
};
struct name_is_a_number {
  using scalar = float;
  static int name() { return 1; }
  void add(token_view<float>, const positions&) const;
  bool operator==(const name_is_a_number&) const;
};
struct named_by_string : base {
  std::string own = "x";
  const std::string& name() const { return own; }
  void add(token_view<float>, const positions&) const;
};
struct of_integers : named<int> {
  void add(token_view<int>, const positions&) const;
};
static_assert(!named_encoder<without_scalar> && !named_encoder<without_name> && !named_encoder<without_equality> &&
              !named_encoder<without_copy> && !named_encoder<name_is_a_number> && !named_encoder<of_integers> && !named_encoder<int> &&
              !named_encoder<float>);
static_assert(!position_encoder<without_scalar> && !position_encoder<without_name> && !position_encoder<without_equality> &&
              !position_encoder<without_copy> && !position_encoder<name_is_a_number> && !position_encoder<of_integers> &&
              !position_encoder<int>);
static_assert(position_encoder<named_by_string>);

// ---- one concept for each stage ------------------------------------------------------------------------------------------------------

struct adds : base {
  void add(token_view<float>, const positions&) const;
};
struct rotates : base {
  void rotate(head_view<float>, operand, const attention_positions&) const;
};
struct biases : base {
  void bias(score_view<float>, const attention_positions&) const;
};
struct biases_in_context : base {
  void bias(score_view<float>, const attention_inputs<float>&, const attention_positions&) const;
};
struct adds_values : base {
  void add_values(head_view<float>, score_view<const float>, const attention_positions&) const;
};
struct adds_in_context : base {
  void add(token_view<float>, const embedding_inputs<float>&, const positions&) const;
};
struct adds_values_in_context : base {
  void add_values(head_view<float>, score_view<const float>, const attention_inputs<float>&, const attention_positions&) const;
};
struct does_all : adds, rotates {
  using scalar = float;
  static constexpr std::string_view name() { return "all"; }
  using adds::add;
  using rotates::rotate;
  void bias(score_view<float>, const attention_positions&) const;
  void add_values(head_view<float>, score_view<const float>, const attention_positions&) const;
  bool operator==(const does_all&) const;
};

static_assert(contextual_additive_encoder<adds_in_context> && !additive_encoder<adds_in_context> && position_encoder<adds_in_context>);
static_assert(contextual_value_encoder<adds_values_in_context> && !value_encoder<adds_values_in_context> &&
              position_encoder<adds_values_in_context>);
static_assert(!contextual_additive_encoder<adds> && !contextual_additive_encoder<biases_in_context> && !contextual_additive_encoder<int>);
static_assert(!contextual_value_encoder<adds_values> && !contextual_value_encoder<biases_in_context> && !contextual_value_encoder<int>);
static_assert(!contextual_bias_encoder<adds_in_context> && !contextual_bias_encoder<adds_values_in_context>);

template <class E>
inline constexpr int stages =
    16 * additive_encoder<E> + 8 * rotary_encoder<E> + 4 * bias_encoder<E> + 2 * contextual_bias_encoder<E> + value_encoder<E>;
static_assert(stages<adds> == 16 && stages<rotates> == 8 && stages<biases> == 4 && stages<biases_in_context> == 2 &&
              stages<adds_values> == 1);
static_assert(stages<does_all> == 16 + 8 + 4 + 1 && stages<base> == 0 && stages<int> == 0);
static_assert(position_encoder<adds> && position_encoder<rotates> && position_encoder<biases> && position_encoder<biases_in_context> &&
              position_encoder<adds_values> && position_encoder<does_all>);

static_assert(stages<no_encoding> == 16 && stages<sinusoidal<float>> == 16 && stages<sinusoidal<double>> == 16);
static_assert(stages<rope<float>> == 8 && stages<rope<double>> == 8 && stages<alibi<float>> == 4 && stages<alibi<double>> == 4);
static_assert(stages<doubles::learned<float>> == 16 && stages<doubles::shaw_keys<float>> == 2 && stages<doubles::shaw_values<float>> == 1 &&
              stages<doubles::forgetting> == 2);

static_assert(stages<posenc::learned<float>> == 16 && stages<posenc::learned<const double>> == 16 && stages<axial_learned<float>> == 16);
static_assert(code_encoder<posenc::learned<double>> && code_encoder<posenc::learned<const float>> && code_encoder<axial_learned<float>> &&
              code_encoder<sinusoidal<float>>);
static_assert(!code_encoder<adds> && !code_encoder<rope<float>> && !code_encoder<no_encoding> && !code_encoder<doubles::learned<float>>);

// ---- verbs are reserved names: one that does not fit makes the type no encoder, instead of being skipped in silence --------------------

struct returns_something : base {
  int add(token_view<float>, const positions&) const;
};
struct is_not_const : base {
  void add(token_view<float>, const positions&);
};
struct wants_another_scalar : base {
  void add(token_view<double>, const positions&) const;
};
struct lacks_positions : base {
  void add(token_view<float>) const;
};
struct lacks_the_role : base {
  void rotate(head_view<float>, const attention_positions&) const;
};
struct lacks_const_weights : base {
  void add_values(head_view<float>, score_view<float>, const attention_positions&) const;
};
struct lacks_the_state : base {
  void bias(score_view<float>) const;
};
struct has_another_state : base {
  int prepare(const attention_positions&) const { return 0; }
  void bias(score_view<float>, const attention_positions&) const;
};
static_assert(!position_encoder<returns_something> && !position_encoder<is_not_const> && !position_encoder<wants_another_scalar> &&
              !position_encoder<lacks_positions> && !position_encoder<lacks_the_role> && !position_encoder<lacks_const_weights> &&
              !position_encoder<lacks_the_state> && !position_encoder<has_another_state>);

struct lacks_positions_in_context : base {
  void add(token_view<float>, const embedding_inputs<float>&) const;
};
struct reads_what_attention_reads : base {
  void add(token_view<float>, const attention_inputs<float>&, const positions&) const;
};
struct lacks_weights_in_context : base {
  void add_values(head_view<float>, const attention_inputs<float>&, const attention_positions&) const;
};
struct reads_inputs_last : base {
  void add_values(head_view<float>, score_view<const float>, const attention_positions&, const attention_inputs<float>&) const;
};
static_assert(!position_encoder<lacks_positions_in_context> && !position_encoder<reads_what_attention_reads> &&
              !position_encoder<lacks_weights_in_context> && !position_encoder<reads_inputs_last>);

// Half right is not enough.
struct adds_but_rotates_wrongly : adds {
  void rotate(head_view<float>, const attention_positions&) const;
};
struct rotates_but_adds_wrongly : rotates {
  void add(head_view<float>, const positions&) const;
};
struct adds_but_biases_wrongly : adds {
  int bias(score_view<float>, const attention_positions&) const;
};
struct biases_but_adds_values_wrongly : biases {
  template <class T>
  void add_values(T) const;
};
static_assert(additive_encoder<adds_but_rotates_wrongly> && !rotate_absent_or_right<adds_but_rotates_wrongly> &&
              !position_encoder<adds_but_rotates_wrongly>);
static_assert(rotary_encoder<rotates_but_adds_wrongly> && !add_absent_or_right<rotates_but_adds_wrongly> &&
              !position_encoder<rotates_but_adds_wrongly>);
static_assert(additive_encoder<adds_but_biases_wrongly> && !bias_absent_or_right<adds_but_biases_wrongly> &&
              !position_encoder<adds_but_biases_wrongly>);
static_assert(bias_encoder<biases_but_adds_values_wrongly> && !add_values_absent_or_right<biases_but_adds_values_wrongly> &&
              !position_encoder<biases_but_adds_values_wrongly>);

// Whatever has the name counts: overloaded, private, or a member variable.
struct rotates_wrongly_in_two_ways : adds {
  void rotate(head_view<float>) const;
  void rotate(head_view<float>, int, int) const;
};
class adds_in_private : public rotates {
  void add(token_view<float>, const positions&) const;
};
struct has_a_variable_of_the_name : adds {
  float bias = 0;
};
static_assert(!position_encoder<rotates_wrongly_in_two_ways> && !position_encoder<adds_in_private> &&
              !position_encoder<has_a_variable_of_the_name>);

// More overloads beside the right one are welcome, and so are other names.
struct adds_in_more_ways : base {
  void add(token_view<float>, const positions&) const;
  void add(token_view<const float>, token_view<float>, const positions&) const;
  void rotate_everything() const;
  void biased(int) const;
};
static_assert(position_encoder<adds_in_more_ways>);

// Looking for names needs a derived class.
struct sealed final : base {
  void add(token_view<float>, const positions&) const;
};
static_assert(additive_encoder<sealed> && !not_final<sealed> && !position_encoder<sealed>);

// ---- state ---------------------------------------------------------------------------------------------------------------------------

static_assert(std::same_as<state_t<adds>, attention_positions> && std::same_as<state_t<has_another_state>, int>);
static_assert(std::same_as<state_t<rope<double>>, rotary_tables<double>> && std::same_as<state_t<alibi<float>>, attention_positions>);
static_assert(std::same_as<state_t<doubles::recorder<true>>, doubles::recorder<true>::state>);

struct with_a_state : base {
  struct cache {};
  cache prepare(const attention_positions&) const { return {}; }
  void bias(score_view<float>, const cache&) const;
};
static_assert(bias_encoder<with_a_state> && position_encoder<with_a_state> && std::same_as<state_t<with_a_state>, with_a_state::cache>);

// ---- traits --------------------------------------------------------------------------------------------------------------------------

static_assert(is_shiftable<rope<float>> && is_shiftable<rope<double>> && is_shiftable<xpos<float>> && is_shiftable<axial_rope<float>> &&
              is_shiftable<multimodal_rope<double>> && is_shiftable<learned_rope<float>> && is_shiftable<pope<double>>);
static_assert(!is_shiftable<compose<rope<float>, alibi<float>>> && !is_shiftable<rotary_table<float>>);
static_assert(!is_shiftable<alibi<float>> && !is_shiftable<sinusoidal<float>> && !is_shiftable<no_encoding> && !is_shiftable<int>);

struct with_a_scale : adds {
  double score_scale(index_t) const;
};
struct with_a_wrong_scale : adds {
  std::string score_scale(index_t) const;
};
static_assert(changes_score_scale<with_a_scale> && !changes_score_scale<with_a_wrong_scale> && !changes_score_scale<adds>);

// ---- the rotary family ---------------------------------------------------------------------------------------------------------------

template <class E>
inline constexpr bool only_turns_queries_and_keys =
    rotary_encoder<E> && !additive_encoder<E> && !bias_encoder<E> && !contextual_bias_encoder<E> && !value_encoder<E>;
static_assert(only_turns_queries_and_keys<xpos<float>> && only_turns_queries_and_keys<axial_rope<double>> &&
              only_turns_queries_and_keys<multimodal_rope<float>> && only_turns_queries_and_keys<learned_rope<float>> &&
              only_turns_queries_and_keys<pope<float>> && !only_turns_queries_and_keys<alibi<float>>);
static_assert(!trainable<xpos<float>> && !trainable<axial_rope<float>> && trainable<learned_rope<float>> && trainable<pope<float>>);
static_assert(changes_score_scale<pope<float>> && !changes_score_scale<rope<float>>);

// Coordinates turn; they have no buckets, slopes or codes of whole tokens.
template <class E>
concept prepares_coordinates = requires(const E& e, const attention_coordinates& at) { prepare(e, at); };
static_assert(prepares_coordinates<rope<float>> && prepares_coordinates<axial_rope<float>> && prepares_coordinates<learned_rope<float>> &&
              !prepares_coordinates<alibi<float>> && !prepares_coordinates<sinusoidal<float>>);

// An encoder of double does not turn floats, nor one of float doubles; halves are floats' to turn.
template <class E, class T>
concept turns = requires(const E& e, head_view<T> x, const state_t<E>& state) { e.rotate(x, operand::query, state); };
static_assert(turns<xpos<float>, float> && turns<xpos<float>, Eigen::half> && turns<pope<float>, Eigen::bfloat16> &&
              turns<pope<double>, double>);
static_assert(!turns<xpos<float>, double> && !turns<pope<double>, float> && !turns<learned_rope<float>, const float>);

// ---- what the stages ask for ---------------------------------------------------------------------------------------------------------

template <class E, class T>
concept embeds = requires(const E& e, T&& x, const positions& at) { encode_embeddings(e, std::forward<T>(x), at); };
static_assert(embeds<adds, Eigen::Tensor<float, 3>&> && embeds<adds, Eigen::TensorMap<Eigen::Tensor<float, 3>>>);
static_assert(!embeds<adds, const Eigen::Tensor<float, 3>&> && !embeds<adds, Eigen::Tensor<float, 3>> &&
              !embeds<adds, Eigen::Tensor<int, 3>&>);
template <class E, class T>
concept adds_to = requires(const E& e, Eigen::Tensor<T, 3>& x, const positions& at) { e.add(x, at); };
static_assert(adds_to<posenc::learned<const float>, Eigen::half> && adds_to<axial_learned<float>, Eigen::bfloat16> &&
              adds_to<posenc::learned<double>, double>);
static_assert(!adds_to<posenc::learned<float>, double> && !adds_to<axial_learned<double>, float> && !adds_to<posenc::learned<float>, int>);
static_assert(!embeds<base, Eigen::Tensor<float, 3>&> && !embeds<lacks_the_role, Eigen::Tensor<float, 3>&>);

template <class E>
concept scores_without_inputs =
    requires(const E& e, Eigen::Tensor<float, 4>& scores, const state_t<E>& state) { encode_scores(e, scores, state); };
template <class E>
concept scores_with_inputs = requires(const E& e, Eigen::Tensor<float, 4>& scores, const attention_inputs<float>& inputs,
                                      const state_t<E>& state) { encode_scores(e, scores, inputs, state); };
static_assert(scores_without_inputs<biases> && scores_without_inputs<adds> && !scores_without_inputs<biases_in_context>);
static_assert(scores_with_inputs<biases> && scores_with_inputs<adds> && scores_with_inputs<biases_in_context>);

template <class E>
concept embeds_coordinates = requires(const E& e, Eigen::Tensor<float, 3>& x, const coordinates& at) { encode_embeddings(e, x, at); };
template <class E>
concept embeds_with_inputs = requires(const E& e, Eigen::Tensor<float, 3>& x, const embedding_inputs<float>& inputs, const positions& at) {
  encode_embeddings(e, x, inputs, at);
};
static_assert(!embeds<adds_in_context, Eigen::Tensor<float, 3>&> && !embeds_coordinates<adds_in_context> &&
              embeds_coordinates<sinusoidal<float>>);
static_assert(embeds_with_inputs<adds_in_context> && embeds_with_inputs<adds> && embeds_with_inputs<rotates>);

template <class E>
concept context_without_inputs = requires(const E& e, head_view<float> y, score_view<const float> weights, const state_t<E>& state) {
  encode_context(e, y, weights, state);
};
template <class E>
concept context_with_inputs =
    requires(const E& e, head_view<float> y, score_view<const float> weights, const attention_inputs<float>& inputs,
             const state_t<E>& state) { encode_context(e, y, weights, inputs, state); };
static_assert(context_without_inputs<adds_values> && context_without_inputs<adds> && !context_without_inputs<adds_values_in_context>);
static_assert(context_with_inputs<adds_values> && context_with_inputs<adds> && context_with_inputs<adds_values_in_context>);

template <class Q>
concept may_be_queries = requires(const rotates& e, Q&& q, const attention_positions& at) { encode_queries_keys(e, q, q, at); };
static_assert(may_be_queries<head_view<float>> && !may_be_queries<Eigen::Tensor<float, 4>&> && !may_be_queries<tensor_view<float, 4>>);

}  // namespace
