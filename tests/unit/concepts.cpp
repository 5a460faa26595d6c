// SPDX-License-Identifier: MIT
#include <posenc/concepts.hpp>

#include <posenc/alibi.hpp>
#include <posenc/combine/gated.hpp>
#include <posenc/no_encoding.hpp>
#include <posenc/rope.hpp>
#include <posenc/sinusoidal.hpp>

#include "attention_block.hpp"
#include "catch.hpp"
#include "doubles.hpp"
#include "random.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <vector>

using namespace posenc;

namespace {

using block3 = Eigen::Tensor<double, 3, Eigen::RowMajor>;
using block4 = Eigen::Tensor<double, 4, Eigen::RowMajor>;

template <class Tensor>
bool same(const Tensor& a, const Tensor& b) {
  return std::ranges::equal(std::span(a.data(), static_cast<std::size_t>(a.size())),
                            std::span(b.data(), static_cast<std::size_t>(b.size())));
}

const attention_positions five{positions::range(5), positions::range(5)};

doubles::table<double> random_table(index_t rows, index_t channels) { return {rows, channels, random_vector<double>(99, rows * channels)}; }

/// A block of 2 batch rows, 5 tokens, 3 heads of 4 channels, after all four stages.
struct trace {
  block3 x = random_tensor<block3>(1, 2, 5, 12);
  block4 q = random_tensor<block4>(2, 2, 5, 3, 4), k = random_tensor<block4>(3, 2, 5, 3, 4), scores = random_tensor<block4>(4, 2, 3, 5, 5),
         weights = random_tensor<block4>(5, 2, 3, 5, 5), context = random_tensor<block4>(6, 2, 5, 3, 4);

  template <position_encoder E>
  trace& encode(const E& encoder) {
    const block3 gates = random_tensor<block3>(7, 2, 5, 3);
    const block4 v = random_tensor<block4>(8, 2, 5, 3, 4);
    const auto token_gates = random_tensor<Eigen::Tensor<double, 2, Eigen::RowMajor>>(9, 2, 5);
    const auto state = prepare(encoder, five);
    const auto queries = heads(q, axis_order::time_head), keys = heads(k, axis_order::time_head);
    encode_embeddings(encoder, x, {.gates = token_gates}, five.queries);
    encode_queries_keys(encoder, queries, keys, state);
    encode_scores(encoder, scores, {.scale = 0.5, .queries = queries, .keys = keys, .log_gates = gates}, state);
    encode_context(encoder, heads(context, axis_order::time_head), weights, {.scale = 0.5, .values = heads(v, axis_order::time_head)},
                   state);
    return *this;
  }
};

/// Where an encoder acted, in the words x, q, k, scores, context.
std::string stages(const position_encoder auto& encoder) {
  const trace kept;
  trace seen;
  seen.encode(encoder);
  CHECK(same(seen.weights, kept.weights));
  std::string all;
  if (!same(seen.x, kept.x)) all += "x ";
  if (!same(seen.q, kept.q)) all += "q ";
  if (!same(seen.k, kept.k)) all += "k ";
  if (!same(seen.scores, kept.scores)) all += "scores ";
  if (!same(seen.context, kept.context)) all += "context ";
  return all;
}

/// An encoder with a scale of its own, as DeBERTa has.
struct scaled : no_encoding {
  double score_scale(index_t channels) const { return 1 / std::sqrt(3.0 * static_cast<double>(channels)); }
};

}  // namespace

TEST_CASE("each encoder acts at its stages and nowhere else", "[concepts]") {
  CHECK(stages(no_encoding{}).empty());
  CHECK(stages(sinusoidal<double>({.dim = 12, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}})) == "x ");
  CHECK(stages(doubles::learned<double>{random_table(5, 12)}) == "x ");
  CHECK(stages(rope<double>({.pairing = pairing::halves, .dim = 4})) == "q k ");
  CHECK(stages(alibi<double>({.heads = 3, .form = alibi_form::symmetric})) == "scores ");
  CHECK(stages(doubles::shaw_keys<double>{random_table(3, 4)}) == "scores ");
  CHECK(stages(doubles::forgetting{}) == "scores ");
  CHECK(stages(doubles::shaw_values<double>{random_table(3, 4)}) == "context ");
  CHECK(stages(doubles::previous<double>{random_table(1, 12)}) == "x ");
  CHECK(stages(doubles::emphasis<double>{random_table(5, 12)}) == "x ");
  CHECK(stages(doubles::scaled_values<double>{random_table(3, 4)}) == "context ");
}

TEST_CASE("the stages pass on what they are given", "[concepts]") {
  SECTION("embeddings, with their positions, of any rank") {
    const doubles::learned<double> learned{random_table(9, 4)};
    Eigen::Tensor<double, 4> x(4, 3, 2, 2);  // [2, 2, time 3, channel 4]
    x.setZero();
    encode_embeddings(learned, x, positions::ids(std::array<position, 12>{0, 1, 2, 3, 4, 5, 6, 7, 8, 0, no_position, 0}, 4));
    CHECK(x(3, 2, 0, 0) == learned.codes(2, 3));
    CHECK(x(0, 1, 1, 0) == learned.codes(4, 0));
    CHECK(x(1, 2, 0, 1) == learned.codes(8, 1));
    CHECK(x(2, 1, 1, 1) == 0);
  }
  SECTION("queries and keys, each with its own role") {
    const auto log = std::make_shared<std::string>();
    block4 q(1, 5, 2, 4), k(1, 5, 1, 4);
    encode_queries_keys(doubles::recorder<false>{'a', log}, heads(q, axis_order::time_head), heads(k, axis_order::time_head), {'a'});
    CHECK(*log == "a rotate query; a rotate key; ");
  }
  SECTION("queries and the scale") {
    const doubles::shaw_keys<double> shaw{random_table(3, 4)};
    block4 scores(1, 1, 5, 5), q = random_tensor<block4>(1, 1, 5, 1, 4);
    scores.setConstant(1);
    encode_scores(shaw, scores, {.scale = 0.25, .queries = heads(q, axis_order::time_head)}, five);
    double expected = 1;
    for (index_t c = 0; c < 4; ++c) expected += 0.25 * q(0, 3, 0, c) * shaw.codes(0, c);  // from 3 to 1: cut to -1, row 0
    CHECK(std::abs(scores(0, 0, 3, 1) - expected) < 1e-15);
  }
  SECTION("gates") {
    block4 scores(1, 2, 5, 5);
    scores.setZero();
    block3 gates(1, 5, 2);
    for (index_t t = 0; t < 5; ++t) gates(0, t, 0) = 1, gates(0, t, 1) = static_cast<double>(t);
    encode_scores(doubles::forgetting{}, scores, {.scale = 1, .log_gates = gates}, five);
    CHECK(scores(0, 0, 4, 1) == 3);
    CHECK(scores(0, 1, 4, 1) == 9);
    CHECK(scores(0, 1, 1, 4) == 0);
  }
  SECTION("weights") {
    const doubles::shaw_values<double> shaw{random_table(3, 4)};
    block4 weights(1, 1, 5, 5), y(1, 5, 1, 4);
    weights.setZero(), y.setConstant(1);
    weights(0, 0, 2, 3) = 0.5;
    encode_context(shaw, heads(y, axis_order::time_head), weights, five);
    CHECK(y(0, 2, 0, 1) == 1 + 0.5 * shaw.codes(2, 1));
    CHECK(y(0, 3, 0, 1) == 1);
  }
}

TEST_CASE("embeddings and contexts come with their inputs", "[concepts]") {
  SECTION("gates of tokens, for embeddings of any rank") {
    const doubles::emphasis<double> emphasis{random_table(3, 4)};
    Eigen::Tensor<double, 4> x(4, 3, 1, 2);  // [2, 1, time 3, channel 4]
    x.setConstant(2);
    Eigen::Tensor<double, 2, Eigen::RowMajor> gates(2, 3);
    gates.setValues({{0, 1, 0}, {0, 0, 0.5}});
    encode_embeddings(emphasis, x, {.gates = gates}, positions::range(3));
    CHECK(x(3, 0, 0, 0) == 2);
    CHECK(x(3, 1, 0, 0) == 4 + emphasis.codes(1, 3));
    CHECK(x(1, 2, 0, 1) == 3 + 0.5 * emphasis.codes(2, 1));
  }
  SECTION("values") {
    const doubles::scaled_values<double> scaled{random_table(3, 4)};
    block4 weights(1, 1, 5, 5), y(1, 5, 1, 4), v = random_tensor<block4>(1, 1, 5, 1, 4);
    weights.setZero(), y.setConstant(1);
    weights(0, 0, 2, 3) = 0.5;
    encode_context(scaled, heads(y, axis_order::time_head), weights, {.scale = 1, .values = heads(v, axis_order::time_head)}, five);
    CHECK(y(0, 2, 0, 1) == 1 + 0.5 * v(0, 3, 0, 1) * scaled.codes(2, 1));
    CHECK(y(0, 3, 0, 1) == 1);
  }
  SECTION("which others need not have") {
    block3 with = random_tensor<block3>(2, 1, 5, 4), without = with;
    const doubles::learned<double> learned{random_table(5, 4)};
    encode_embeddings(learned, with, {}, five.queries);
    encode_embeddings(learned, without, five.queries);
    CHECK(same(with, without));
    const doubles::shaw_values<double> shaw{random_table(3, 4)};
    block4 weights = random_tensor<block4>(3, 1, 1, 5, 5), y = random_tensor<block4>(4, 1, 5, 1, 4), y_without = y;
    encode_context(shaw, heads(y, axis_order::time_head), weights, {.scale = 1}, five);
    encode_context(shaw, heads(y_without, axis_order::time_head), weights, five);
    CHECK(same(y, y_without));
  }
}

TEST_CASE("inputs and executors reach encoders that read them", "[concepts]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  const doubles::reader reader{std::make_shared<std::string>()};
  block3 x(1, 5, 8);
  block4 scores(1, 2, 5, 5), y(1, 5, 2, 4);
  Eigen::Tensor<double, 2, Eigen::RowMajor> gates(1, 7);
  const auto context = heads(y, axis_order::time_head);
  for (const executor& run : {executor(), executor(device)}) {
    encode_embeddings(reader, x, {.gates = gates}, five.queries, run);
    encode_scores(reader, scores, {.scale = 1, .key_gates = gates}, five, run);
    encode_context(reader, context, scores, {.scale = 1, .values = context}, five, run);
  }
  CHECK(*reader.log ==
        "add 7 of 5 on 1; bias 7 of 5 on 1; add_values 5 of 5 on 1; add 7 of 5 on 3; bias 7 of 5 on 3; add_values 5 of 5 on 3; ");
}

TEST_CASE("an attention block gives encoders all that they may read", "[concepts]") {
  const auto x = random_tensor<block3>(1, 2, 5, 12);
  attention_block block{.heads = 3, .channels = 4};
  block.log_gates = random_tensor<block3>(2, 2, 5, 3);
  block.gates = random_tensor<attention_block::matrix>(3, 2, 5);
  const block3 plain = block(no_encoding{}, x, five.queries);
  const auto changes = [&](const position_encoder auto& encoder) { return !same(block3(block(encoder, x, five.queries)), plain); };
  CHECK_FALSE(changes(no_encoding{}));
  CHECK(changes(doubles::emphasis<double>{random_table(5, 12)}));
  CHECK(changes(doubles::shaw_keys<double>{random_table(3, 4)}));
  CHECK(changes(doubles::forgetting{}));
  CHECK(changes(doubles::scaled_values<double>{random_table(3, 4)}));
  block.gates.setConstant(1);
  CHECK(same(block3(block(gated(alibi<double>({.heads = 3, .form = alibi_form::symmetric})), x, five.queries)),
             block3(block(alibi<double>({.heads = 3, .form = alibi_form::symmetric}), x, five.queries))));
}

TEST_CASE("scores need no inputs for encoders that read none", "[concepts]") {
  const alibi<float> alibi({.heads = 1, .form = alibi_form::symmetric});
  Eigen::Tensor<float, 4> with(2, 1, 1, 1), without(2, 1, 1, 1);
  with.setZero(), without.setZero();
  const attention_positions at{positions::range(1, 7), positions::range(2)};
  encode_scores(alibi, with, {.scale = 1}, at);
  encode_scores(alibi, without, at);
  CHECK(without(0, 0, 0, 0) < 0);
  CHECK((with(0, 0, 0, 0) == without(0, 0, 0, 0) && with(1, 0, 0, 0) == without(1, 0, 0, 0)));
}

TEST_CASE("inputs may have a scalar of their own", "[concepts]") {
  block4 scores(1, 3, 5, 5);
  scores.setZero();
  const Eigen::Tensor<Eigen::half, 4, Eigen::RowMajor> q(1, 5, 3, 4);
  const attention_inputs<Eigen::half> inputs{.scale = 1, .queries = heads(q, axis_order::time_head)};
  encode_scores(alibi<double>({.heads = 3, .form = alibi_form::symmetric}), scores, inputs, five);
  CHECK(scores(0, 0, 0, 1) < 0);
  static_assert(std::same_as<decltype(inputs.log_gates), tensor_view<const float, 3>>);
}

TEST_CASE("a missing input is named", "[concepts]") {
  block4 scores(1, 3, 5, 5);
  CHECK_THROWS_WITH(encode_scores(doubles::shaw_keys<double>{random_table(3, 4)}, scores, {.scale = 1}, five),
                    "[shaw_keys] needs .queries");
  CHECK_THROWS_WITH(encode_scores(doubles::forgetting{}, scores, {.scale = 1}, five), "[forgetting] needs .log_gates");
  block3 x(1, 5, 4);
  block4 y(1, 5, 3, 4);
  CHECK_THROWS_WITH(encode_embeddings(doubles::emphasis<double>{random_table(5, 4)}, x, {}, five.queries), "[emphasis] needs .gates");
  CHECK_THROWS_WITH(
      encode_context(doubles::scaled_values<double>{random_table(3, 4)}, heads(y, axis_order::time_head), scores, {.scale = 1}, five),
      "[scaled_values] needs .values");
}

TEST_CASE("inputs and passes have defaults that do nothing", "[concepts]") {
  const attention_inputs<float> inputs{.scale = 0.5};
  CHECK((!inputs.queries && !inputs.keys && !inputs.log_gates && !inputs.causal && inputs.window == 0));
  CHECK(inputs.scale == 0.5);
  CHECK((score_pass{}.scale == 1 && !score_pass{}.causal));
  const attention_gradients<float> gradients;
  CHECK((!gradients.queries && !gradients.keys && !gradients.log_gates));
  CHECK((!inputs.values && !inputs.gate_keys && !inputs.query_gates && !inputs.key_gates && !embedding_inputs<float>().gates));
  CHECK(
      (!gradients.values && !gradients.gate_keys && !gradients.query_gates && !gradients.key_gates && !embedding_gradients<float>().gates));
}

// ---- state ---------------------------------------------------------------------------------------------------------------------------

TEST_CASE("prepare asks the encoder, or passes the positions on", "[concepts]") {
  static_assert(std::same_as<state_t<alibi<float>>, attention_positions> && std::same_as<state_t<no_encoding>, attention_positions>);
  static_assert(std::same_as<state_t<rope<float>>, rotary_tables<float>>);
  CHECK(prepare(alibi<float>({.heads = 1, .form = alibi_form::causal}), five) == five);
  CHECK(prepare(doubles::recorder<false>{'x', nullptr}, {.queries = five.queries, .keys = five.keys}).letter == 'x');
  const auto tables = prepare(rope<double>({.pairing = pairing::halves, .dim = 4}), five);
  CHECK(tables.queries.row(0, 3)[0] == std::cos(3.0));
  CHECK(tables.queries.row(0, 0) == tables.keys.row(0, 0));  // one table for both
}

TEST_CASE("the score scale is 1 / sqrt(channels) unless the encoder changes it", "[concepts]") {
  CHECK(score_scale(no_encoding{}, 64) == 0.125);
  CHECK(score_scale(rope<float>({.pairing = pairing::halves, .dim = 4}), 2) == 1 / std::sqrt(2.0));
  CHECK(score_scale(scaled{}, 12) == 1.0 / 6);
  static_assert(changes_score_scale<scaled> && !changes_score_scale<no_encoding>);
}

// ---- checks --------------------------------------------------------------------------------------------------------------------------

TEST_CASE("queries and keys must belong together", "[concepts]") {
  const auto view = [](index_t batch, index_t time, index_t count, index_t channels) {
    return heads(tensor_view<float, 4>(nullptr, {batch, time, count, channels}), axis_order::time_head);
  };
  const auto check = [](const head_view<float>& q, const head_view<float>& k) { encode_queries_keys(no_encoding{}, q, k, five); };
  CHECK_NOTHROW(check(view(2, 5, 8, 4), view(2, 5, 8, 4)));
  CHECK_NOTHROW(check(view(2, 1, 8, 4), view(2, 5, 2, 4)));
  CHECK_NOTHROW(check(view(2, 5, 8, 4), view(2, 5, 1, 4)));
  CHECK_NOTHROW(check(view(2, 5, 0, 4), view(2, 5, 0, 4)));
  const std::string who = "[encode_queries_keys] ";
  CHECK_THROWS_WITH(check(view(2, 5, 8, 4), view(3, 5, 8, 4)), who + "queries and keys must have the same batch but got 2 and 3");
  CHECK_THROWS_WITH(check(view(2, 5, 8, 4), view(2, 5, 8, 6)), who + "queries and keys must have the same channels but got 4 and 6");
  const std::string heads_text = who + "the number of query heads must be a multiple of key heads but got ";
  CHECK_THROWS_WITH(check(view(2, 5, 8, 4), view(2, 5, 3, 4)), heads_text + "8 and 3");
  CHECK_THROWS_WITH(check(view(2, 5, 2, 4), view(2, 5, 8, 4)), heads_text + "2 and 8");
  CHECK_THROWS_WITH(check(view(2, 5, 8, 4), view(2, 5, 0, 4)), heads_text + "8 and 0");
}

TEST_CASE("nothing is written when queries and keys do not belong together", "[concepts]") {
  const auto log = std::make_shared<std::string>();
  block4 q(1, 5, 3, 4), k(1, 5, 2, 4);
  const auto three = heads(q, axis_order::time_head), two = heads(k, axis_order::time_head);
  CHECK_THROWS_AS(encode_queries_keys(doubles::recorder<false>{'a', log}, three, two, {'a'}), argument_error);
  CHECK(log->empty());
}
