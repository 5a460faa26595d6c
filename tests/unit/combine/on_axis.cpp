// SPDX-License-Identifier: MIT
#include <posenc/combine/on_axis.hpp>

#include <posenc/alibi.hpp>
#include <posenc/combine/compose.hpp>
#include <posenc/learned.hpp>
#include <posenc/relative/t5_bias.hpp>
#include <posenc/rope.hpp>
#include <posenc/rope/learned_rope.hpp>

#include "catch.hpp"
#include "doubles.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/t5.hpp"

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

using namespace posenc;

namespace {

using block3 = Eigen::Tensor<double, 3, Eigen::RowMajor>;
using block4 = Eigen::Tensor<double, 4, Eigen::RowMajor>;
using quiet = doubles::recorder<false>;
using reading = doubles::recorder<true>;

// Two batch rows of five tokens on three axes: the place in the text, the left edge, the lower edge. One token has no position.
const std::vector<position> ids{0,  1,  2,  3,   4,   0,  1,  2, no_position, 3,    //
                                10, 90, 40, 40,  500, 7,  8,  9, no_position, 300,  //
                                20, 20, 20, 260, 700, 11, 90, 0, no_position, 1000};
const auto page = positions::multi_axis(ids, 3, 2);
const attention_positions pages{page, page};

/// One axis by itself, not by `positions::axis`.
positions axis_of(index_t axis) { return positions::ids(std::vector<position>(ids.begin() + 10 * axis, ids.begin() + 10 * axis + 10), 2); }

t5_bias<double> random_bias(std::uint64_t seed, const t5_bias_options& options) {
  const t5_buckets_options& buckets = options.buckets;
  return {options, random_vector<double>(seed, buckets.num_buckets * 2)};
}
const auto text = random_bias(1, t5_bias_options::layoutlm_text(2)), left = random_bias(2, t5_bias_options::layoutlm_box(2)),
           lower = random_bias(3, t5_bias_options::layoutlm_box(2));
auto layoutlm() { return compose(on_axis(text, 0), on_axis(left, 1), on_axis(lower, 2)); }

static_assert(position_encoder<on_axis<alibi<float>>> && bias_encoder<on_axis<t5_bias<float>>> && trainable<on_axis<t5_bias<double>>>);
static_assert(!additive_encoder<on_axis<t5_bias<float>>> && !rotary_encoder<on_axis<alibi<float>>>);
static_assert(additive_encoder<on_axis<learned<float>>> && !bias_encoder<on_axis<learned<float>>>);
static_assert(rotary_encoder<on_axis<rope<float>>> && !trainable<on_axis<rope<float>>> && !trains_rotation<on_axis<rope<float>>>);
static_assert(trains_rotation<on_axis<learned_rope<double>>>);
static_assert(contextual_bias_encoder<on_axis<doubles::shaw_keys<double>>> && !bias_encoder<on_axis<doubles::shaw_keys<double>>>);
static_assert(value_encoder<on_axis<doubles::shaw_values<double>>> && !value_encoder<on_axis<alibi<double>>>);
static_assert(changes_score_scale<on_axis<t5_bias<float>>> && !changes_score_scale<on_axis<alibi<float>>>);
static_assert(bias_encoder<decltype(layoutlm())> && trainable<decltype(layoutlm())>);
static_assert(!std::convertible_to<attention_positions, on_axis<alibi<double>>::state>);

}  // namespace

TEST_CASE("biases on three axes are LayoutLM's", "[on_axis]") {
  const auto encoder = layoutlm();
  const auto before = random_tensor<block4>(4, 2, 2, 5, 5);
  auto scores = before, wanted = before;
  encode_scores(encoder, scores, prepare(encoder, pages));

  const reference::t5_rule by_text{true, 32, 128}, by_box{true, 64, 256};
  const auto part = [](const reference::t5_rule& rule, const t5_bias<double>& bias, index_t head, index_t b, index_t axis, index_t i,
                       index_t j) {
    const std::vector<double> table(bias.table().data(), bias.table().data() + rule.num_buckets * 2);
    const auto row = ids.begin() + 10 * axis + 5 * b;
    return reference::t5_bias(rule, table, 2, head, row[i], row[j]);
  };
  for (index_t b = 0; b < 2; ++b)
    for (index_t h = 0; h < 2; ++h)
      for (index_t i = 0; i < 5; ++i)
        for (index_t j = 0; j < 5; ++j)
          if (b == 0 || (i != 3 && j != 3))
            wanted(b, h, i, j) +=
                part(by_text, text, h, b, 0, i, j) + part(by_box, left, h, b, 1, i, j) + part(by_box, lower, h, b, 2, i, j);
  CHECK(reference::difference(scores, wanted, 2e-15) == "");
  CHECK(score_scale(encoder, 16) == 0.25);

  // One step behind a cache has the bits of the whole.
  block4 step = before.slice(std::array<index_t, 4>{0, 0, 4, 0}, std::array<index_t, 4>{2, 2, 1, 5});
  encode_scores(encoder, step, prepare(encoder, {page.slice(4, 1), page}));
  CHECK(reference::bit_difference(step, block4(scores.slice(std::array<index_t, 4>{0, 0, 4, 0}, std::array<index_t, 4>{2, 2, 1, 5}))) ==
        "");
}

TEST_CASE("the gradients of biases on three axes are derivatives", "[on_axis]") {
  auto encoder = layoutlm();
  const auto scores = random_tensor<block4>(5, 2, 2, 5, 5), weights = random_tensor<block4>(6, 2, 2, 5, 5);
  const auto loss = [&] {
    auto out = scores;
    encode_scores(encoder, out, prepare(encoder, pages));
    return reference::dot(weights, out);
  };
  gradient_buffer<double> gradients(parameters(encoder));
  auto d = weights;
  encode_scores_backward(encoder, d, {.scale = 1}, {}, prepare(encoder, pages), gradients.spans());
  CHECK(reference::bit_difference(d, weights) == "");
  const auto all = parameters(encoder);
  REQUIRE(all.size() == 3);
  for (std::size_t n = 0; n < 3; ++n)
    CHECK(reference::difference(gradients.spans()[n], reference::derivatives(all[n].values, loss, 0.5), 1e-11) == "");
}

TEST_CASE("on_axis does at every stage what its part does there alone", "[on_axis]") {
  const index_t axis = 2;
  const attention_positions own{axis_of(axis), axis_of(axis)};
  SECTION("add") {
    const learned<double> part({.rows = 1001, .dim = 4}, random_vector<double>(7, 4004));
    on_axis on(part, axis);
    auto x = random_tensor<block3>(8, 2, 5, 4), alone = x;
    encode_embeddings(on, x, page);
    encode_embeddings(part, alone, own.queries);
    CHECK(reference::bit_difference(x, alone) == "");
    gradient_buffer<double> d_on(parameters(on)), d_part(parameters(on));
    encode_embeddings_backward(on, x, page, d_on.spans());
    encode_embeddings_backward(part, alone, own.queries, d_part.spans());
    CHECK(reference::bit_difference(d_on.spans()[0], d_part.spans()[0]) == "");
    CHECK(d_on.spans()[0][4 * 700] != 0);
  }
  SECTION("rotate") {
    const learned_rope<double> part({.pairing = pairing::halves, .dim = 4}, random_vector<double>(9, 2));
    on_axis on(part, axis);
    auto q = random_tensor<block4>(10, 2, 5, 2, 4), k = random_tensor<block4>(11, 2, 5, 2, 4), q_alone = q, k_alone = k;
    const auto view = [](auto& tensor) { return heads(tensor, axis_order::time_head); };
    encode_queries_keys(on, view(q), view(k), prepare(on, pages));
    encode_queries_keys(part, view(q_alone), view(k_alone), prepare(part, own));
    CHECK(reference::bit_difference(q, q_alone) == "");
    CHECK(reference::bit_difference(k, k_alone) == "");
    auto d_q = q, d_k = k, d_q_alone = q, d_k_alone = k;
    gradient_buffer<double> d_on(parameters(on)), d_part(parameters(on));
    encode_queries_keys_backward(on, view(d_q), view(d_k), view(q), view(k), prepare(on, pages), d_on.spans());
    encode_queries_keys_backward(part, view(d_q_alone), view(d_k_alone), view(q), view(k), prepare(part, own), d_part.spans());
    CHECK(reference::bit_difference(d_q, d_q_alone) == "");
    CHECK(reference::bit_difference(d_k, d_k_alone) == "");
    CHECK(reference::bit_difference(d_on.spans()[0], d_part.spans()[0]) == "");
  }
  SECTION("the new keys of a step are turned") {
    const rope<double> part({.pairing = pairing::halves, .dim = 4});
    const on_axis on(part, axis);
    auto k = random_tensor<block4>(12, 2, 2, 2, 4), alone = k;
    const auto last = page.slice(3, 2);
    on.rotate(heads(k, axis_order::time_head), operand::key, on.prepare({last, page, last}));
    part.rotate(heads(alone, axis_order::time_head), operand::key, part.prepare({own.queries.slice(3, 2), own.keys, own.keys.slice(3, 2)}));
    CHECK(reference::bit_difference(k, alone) == "");
    auto turned = k;
    on.rotate_backward(heads(k, axis_order::time_head), operand::key, on.prepare({last, page, last}));
    part.rotate_backward(heads(alone, axis_order::time_head), operand::key,
                         part.prepare({own.queries.slice(3, 2), own.keys, own.keys.slice(3, 2)}));
    CHECK(reference::bit_difference(k, alone) == "");
    CHECK(reference::bit_difference(k, turned) != "");
  }
  SECTION("bias with inputs, and values") {
    const attention_positions first{page.slice(0, 3), page.slice(0, 3)}, own_first{own.queries.slice(0, 3), own.keys.slice(0, 3)};
    const doubles::shaw_keys<double> keys{{7, 4, random_vector<double>(13, 28)}};
    const doubles::shaw_values<double> values{{7, 4, random_vector<double>(14, 28)}};
    on_axis on_keys(keys, axis);
    on_axis on_values(values, axis);
    auto q = random_tensor<block4>(15, 2, 3, 2, 4), scores = random_tensor<block4>(16, 2, 2, 3, 3), alone = scores;
    const attention_inputs<double> inputs{.scale = 0.5, .queries = heads(q, axis_order::time_head)};
    encode_scores(on_keys, scores, inputs, prepare(on_keys, first));
    encode_scores(keys, alone, inputs, own_first);
    CHECK(reference::bit_difference(scores, alone) == "");
    gradient_buffer<double> d_on(parameters(on_keys)), d_part(parameters(on_keys));
    block4 d_q(2, 3, 2, 4), d_q_alone(2, 3, 2, 4);
    d_q.setZero(), d_q_alone.setZero();
    encode_scores_backward(on_keys, scores, inputs, {.queries = heads(d_q, axis_order::time_head)}, prepare(on_keys, first), d_on.spans());
    encode_scores_backward(keys, alone, inputs, {.queries = heads(d_q_alone, axis_order::time_head)}, own_first, d_part.spans());
    CHECK(reference::bit_difference(d_on.spans()[0], d_part.spans()[0]) == "");
    CHECK(reference::bit_difference(d_q, d_q_alone) == "");

    auto y = random_tensor<block4>(17, 2, 3, 2, 4), y_alone = y, d_weights = scores, d_alone = scores;
    encode_context(on_values, heads(y, axis_order::time_head), scores, prepare(on_values, first));
    encode_context(values, heads(y_alone, axis_order::time_head), scores, own_first);
    CHECK(reference::bit_difference(y, y_alone) == "");
    gradient_buffer<double> d_values(parameters(on_values)), d_values_alone(parameters(on_values));
    encode_context_backward(on_values, heads(y, axis_order::time_head), scores, d_weights, prepare(on_values, first), d_values.spans());
    encode_context_backward(values, heads(y_alone, axis_order::time_head), scores, d_alone, own_first, d_values_alone.spans());
    CHECK(reference::bit_difference(d_weights, d_alone) == "");
    CHECK(reference::bit_difference(d_values.spans()[0], d_values_alone.spans()[0]) == "");
  }
}

TEST_CASE("on_axis hands on gates and values, and what their gradients need", "[on_axis]") {
  const index_t axis = 2;
  const attention_positions first{page.slice(0, 3), page.slice(0, 3)}, own{axis_of(axis).slice(0, 3), axis_of(axis).slice(0, 3)};
  const auto x = random_tensor<block3>(21, 2, 3, 4);
  const auto gates = random_tensor<Eigen::Tensor<double, 2, Eigen::RowMajor>>(22, 2, 3);
  SECTION("gates of tokens") {
    const doubles::emphasis<double> part{{261, 4, random_vector<double>(23, 1044)}};
    on_axis on(part, axis);
    static_assert(contextual_additive_encoder<decltype(on)> && !additive_encoder<decltype(on)>);
    auto out = x, alone = x, d = x, d_alone = x;
    auto d_gates = gates, d_gates_alone = gates;
    encode_embeddings(on, out, {.gates = gates}, first.queries);
    part.add(alone, {.gates = gates}, own.queries);
    CHECK(reference::bit_difference(out, alone) == "");
    gradient_buffer<double> d_on(parameters(on)), d_part(parameters(on));
    encode_embeddings_backward(on, d, out, {.gates = gates}, {.gates = d_gates}, first.queries, d_on.spans());
    part.add_backward(d_alone, out, {.gates = gates}, {.gates = d_gates_alone}, own.queries, d_part.spans());
    CHECK(reference::bit_difference(d, d_alone) == "");
    CHECK(reference::bit_difference(d_gates, d_gates_alone) == "");
    CHECK(reference::bit_difference(d_on.spans()[0], d_part.spans()[0]) == "");
    CHECK(d_on.spans()[0][4 * 90] != 0);
  }
  SECTION("embeddings that are read") {
    const doubles::previous<double> part{{1, 4, random_vector<double>(24, 4)}};
    on_axis on(part, axis);
    static_assert(reads_embeddings<decltype(on)>);
    auto d = x, d_alone = x;
    gradient_buffer<double> d_on(parameters(on)), d_part(parameters(on));
    encode_embeddings_backward(on, d, x, first.queries, d_on.spans());
    part.add_backward(d_alone, x, own.queries, d_part.spans());
    CHECK(reference::bit_difference(d, d_alone) == "");
    CHECK(reference::bit_difference(d, x) != "");
    CHECK(reference::bit_difference(d_on.spans()[0], d_part.spans()[0]) == "");
  }
  SECTION("values") {
    const doubles::scaled_values<double> part{{7, 4, random_vector<double>(25, 28)}};
    on_axis on(part, axis);
    static_assert(contextual_value_encoder<decltype(on)> && !value_encoder<decltype(on)>);
    const auto weights = random_tensor<block4>(26, 2, 2, 3, 3);
    auto v = random_tensor<block4>(27, 2, 3, 2, 4), y = random_tensor<block4>(28, 2, 3, 2, 4), alone = y, d_v = y, d_v_alone = y,
         d_weights = weights, d_weights_alone = weights;
    const auto view = [](auto& tensor) { return heads(tensor, axis_order::time_head); };
    const attention_inputs<double> inputs{.scale = 1, .values = view(v)};
    encode_context(on, view(y), weights, inputs, prepare(on, first));
    part.add_values(view(alone), weights, inputs, own);
    CHECK(reference::bit_difference(y, alone) == "");
    gradient_buffer<double> d_on(parameters(on)), d_part(parameters(on));
    encode_context_backward(on, view(y), weights, d_weights, inputs, {.values = view(d_v)}, prepare(on, first), d_on.spans());
    part.add_values_backward(view(y), weights, d_weights_alone, inputs, {.values = view(d_v_alone)}, own, d_part.spans());
    CHECK(reference::bit_difference(d_weights, d_weights_alone) == "");
    CHECK(reference::bit_difference(d_v, d_v_alone) == "");
    CHECK(reference::bit_difference(d_v, alone) != "");
    CHECK(reference::bit_difference(d_on.spans()[0], d_part.spans()[0]) == "");
  }
}

TEST_CASE("on_axis of a part without prepare, and of another on_axis", "[on_axis]") {
  const alibi<double> part({.heads = 2, .form = alibi_form::symmetric});
  for (index_t axis = 0; axis < 3; ++axis) {
    const on_axis on(part, axis);
    const on_axis twice(on_axis(part, 0), axis);
    auto scores = random_tensor<block4>(18, 2, 2, 5, 5), alone = scores, nested = scores;
    encode_scores(on, scores, prepare(on, pages));
    encode_scores(twice, nested, prepare(twice, pages));
    part.bias(alone, {axis_of(axis), axis_of(axis)});
    CHECK(reference::bit_difference(scores, alone) == "");
    CHECK(reference::bit_difference(nested, alone) == "");
  }
}

TEST_CASE("on_axis: encoders are equal where part and axis are", "[on_axis]") {
  const on_axis on(text, 1);
  CHECK(on == on_axis(text, 1));
  CHECK(on != on_axis(text, 2));
  CHECK(on_axis(left, 1) != on_axis(lower, 1));
  CHECK(on.axis() == 1);
  CHECK(on.part() == text);
  CHECK(on.name() == "on_axis");
}

TEST_CASE("on_axis refuses axes that are not there, before it writes", "[on_axis][errors]") {
  reference::refuses("[on_axis] axis must lie in [0, 8) but got 8", [&] { on_axis(text, 8); });
  reference::refuses("[on_axis] axis must lie in [0, 8) but got -1", [&] { on_axis(text, -1); });
  const on_axis on(text, 3);
  reference::refuses("[positions] the axis must be one of the positions' axes but got 3 and 3", [&] { prepare(on, pages); });
  reference::refuses("[positions] the axis must be one of the positions' axes but got 1 and 3",
                     [&] { prepare(on, {positions::multi_axis(std::array{1, 2, 3, 4}, 4), positions::range(5)}); });
  const on_axis embeddings(learned<double>({.rows = 30, .dim = 4}), 2);
  auto x = random_tensor<block3>(19, 2, 5, 4);
  reference::refuses(x, "[positions] the axis must be one of the positions' axes but got 1 and 2",
                     [&] { embeddings.add(x, positions::range(5)); });

  // The checks of later parts come before the first one writes.
  const compose uneven(on_axis(text, 0), on_axis(t5_bias<double>(t5_bias_options::layoutlm_box(3)), 1));
  auto scores = random_tensor<block4>(20, 2, 2, 5, 5);
  reference::refuses(scores, "[t5_bias] heads must match the encoder but got 3 and 2",
                     [&] { encode_scores(uneven, scores, prepare(uneven, pages)); });
}
