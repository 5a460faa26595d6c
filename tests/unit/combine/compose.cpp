// SPDX-License-Identifier: MIT
#include <posenc/combine.hpp>
#include <posenc/combine/gated.hpp>

#include <posenc/alibi.hpp>
#include <posenc/learned.hpp>
#include <posenc/no_encoding.hpp>
#include <posenc/relative/shaw.hpp>
#include <posenc/rope.hpp>
#include <posenc/rope/learned_rope.hpp>
#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "doubles.hpp"
#include "random.hpp"
#include "reference/difference.hpp"

#include <algorithm>
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

const attention_positions five{positions::range(5), positions::range(5)};

template <class Tensor>
bool same(const Tensor& a, const Tensor& b) {
  return std::ranges::equal(std::span(a.data(), static_cast<std::size_t>(a.size())),
                            std::span(b.data(), static_cast<std::size_t>(b.size())));
}

rope<double> turning() { return rope<double>({.pairing = pairing::halves, .dim = 4}); }
alibi<double> slanting() { return alibi<double>({.heads = 2, .form = alibi_form::symmetric}); }
sinusoidal<double> waving() {
  return sinusoidal<double>({.dim = 8, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});
}
doubles::table<double> random_table(index_t rows, index_t channels) { return {rows, channels, random_vector<double>(9, rows * channels)}; }

/// Tensors for all stages: 1 batch row, 5 tokens, 2 heads of 4 channels.
struct tensors {
  block3 x = random_tensor<block3>(1, 1, 5, 8);
  block4 q = random_tensor<block4>(2, 1, 5, 2, 4), k = random_tensor<block4>(3, 1, 5, 2, 4), scores = random_tensor<block4>(4, 1, 2, 5, 5),
         weights = random_tensor<block4>(5, 1, 2, 5, 5), y = random_tensor<block4>(6, 1, 5, 2, 4);
  head_view<double> queries = heads(q, axis_order::time_head), keys = heads(k, axis_order::time_head);
  head_view<double> context = heads(y, axis_order::time_head);

  tensors() = default;
  tensors(const tensors&) = delete;
  tensors& operator=(const tensors&) = delete;

  template <position_encoder E>
  void forward(const E& encoder) {
    const auto state = prepare(encoder, five);
    encode_embeddings(encoder, x, five.queries);
    encode_queries_keys(encoder, queries, keys, state);
    encode_scores(encoder, scores, {.scale = 0.5, .queries = queries}, state);
    encode_context(encoder, context, weights, state);
  }
  template <position_encoder E>
  void backward(const E& encoder, gradient_spans<double> d_parameters) {
    const auto state = prepare(encoder, five);
    encode_context_backward(encoder, context, weights, weights, state, d_parameters);
    encode_scores_backward(encoder, scores, {.scale = 0.5, .queries = queries}, {}, state, d_parameters);
    encode_queries_keys_backward(encoder, queries, keys, state);
    encode_embeddings_backward(encoder, x, five.queries, d_parameters);
  }
  friend bool operator==(const tensors& a, const tensors& b) {
    return same(a.x, b.x) && same(a.q, b.q) && same(a.k, b.k) && same(a.scores, b.scores) && same(a.y, b.y);
  }
};

/// An encoder with a scale of its own.
struct rescaled : no_encoding {
  double factor;
  explicit rescaled(double by) : factor(by) {}
  double score_scale(index_t channels) const { return factor / static_cast<double>(channels); }
};

}  // namespace

TEST_CASE("parts act in order, each with its own state", "[combine]") {
  const auto log = std::make_shared<std::string>();
  const compose both(quiet{'a', log}, turning(), quiet{'b', log});
  tensors all;
  all.forward(both);
  CHECK(*log == "a add; b add; a rotate query; b rotate query; a rotate key; b rotate key; a bias; b bias; a add_values; b add_values; ");
}

TEST_CASE("backward runs in reverse", "[combine]") {
  const auto log = std::make_shared<std::string>();
  compose both(quiet{'a', log}, turning(), quiet{'b', log}, reading{'c', log});
  tensors all;
  all.backward(both, gradient_buffer(parameters(both)).spans());
  CHECK(*log ==
        "c add_values back; b add_values back; a add_values back; "
        "c bias with inputs back; b bias back; a bias back; "
        "c rotate query back; b rotate query back; a rotate query back; c rotate key back; b rotate key back; a rotate key back; "
        "c add back; b add back; a add back; ");
}

TEST_CASE("one part that reads inputs makes all get them", "[combine]") {
  const auto log = std::make_shared<std::string>();
  compose both(quiet{'a', log}, reading{'b', log}, quiet{'c', log});
  static_assert(contextual_bias_encoder<decltype(both)> && !bias_encoder<decltype(both)>);
  block4 scores(1, 2, 5, 5);
  encode_scores(both, scores, {.scale = 1}, prepare(both, five));
  CHECK(*log == "a bias; b bias with inputs; c bias; ");
}

TEST_CASE("one part that reads inputs of embeddings or of the context makes all get them", "[combine]") {
  const doubles::emphasis<double> emphasis{random_table(5, 8)};
  const doubles::learned<double> learned{random_table(5, 8)};
  const doubles::shaw_values<double> shaw{random_table(3, 4)};
  const doubles::scaled_values<double> scaled{random_table(3, 4)};
  compose all(emphasis, shaw, learned, scaled);
  static_assert(contextual_additive_encoder<decltype(all)> && !additive_encoder<decltype(all)>);
  static_assert(contextual_value_encoder<decltype(all)> && !value_encoder<decltype(all)>);
  const auto gates = random_tensor<Eigen::Tensor<double, 2, Eigen::RowMajor>>(7, 1, 5);
  tensors together, apart, given;
  const attention_inputs<double> values{.scale = 1, .values = given.keys};
  encode_embeddings(all, together.x, {.gates = gates}, five.queries);
  encode_context(all, together.context, together.weights, values, prepare(all, five));
  emphasis.add(apart.x, {.gates = gates}, five.queries), learned.add(apart.x, five.queries);
  shaw.add_values(apart.context, apart.weights, five), scaled.add_values(apart.context, apart.weights, values, five);
  CHECK(together == apart);

  gradient_buffer sums(parameters(all)), own(parameters(all));
  const auto span = [&](std::size_t n) { return own.spans().subspan(n, 1); };
  Eigen::Tensor<double, 2, Eigen::RowMajor> d_gates = gates, d_gates_apart = gates;
  tensors d_values, d_values_apart;
  encode_context_backward(all, together.context, together.weights, together.scores, values, {.values = d_values.keys}, prepare(all, five),
                          sums.spans());
  encode_embeddings_backward(all, together.x, given.x, {.gates = gates}, {.gates = d_gates}, five.queries, sums.spans());
  scaled.add_values_backward(apart.context, apart.weights, apart.scores, values, {.values = d_values_apart.keys}, five, span(3));
  shaw.add_values_backward(apart.context, apart.weights, apart.scores, five, span(1));
  learned.add_backward(apart.x, five.queries, span(2));
  emphasis.add_backward(apart.x, given.x, {.gates = gates}, {.gates = d_gates_apart}, five.queries, span(0));
  CHECK(together == apart);
  CHECK(d_values == d_values_apart);
  CHECK(same(d_gates, d_gates_apart));
  for (std::size_t n = 0; n < 4; ++n) {
    CHECK(reference::bit_difference(sums.spans()[n], own.spans()[n]) == "");
    CHECK(std::ranges::any_of(own.spans()[n], [](double value) { return value != 0; }));
  }
}

TEST_CASE("executors reach parts that read inputs", "[combine]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  const doubles::reader reader{std::make_shared<std::string>()};
  const auto check = [&](const auto& encoder) {
    reader.log->clear();
    tensors t;
    const auto state = prepare(encoder, five);
    const auto gates = random_tensor<Eigen::Tensor<double, 2, Eigen::RowMajor>>(7, 1, 5);
    auto d_gates = gates;
    const attention_inputs<double> inputs{.scale = 1, .values = t.keys, .key_gates = gates};
    const attention_gradients<double> d_inputs{.values = t.keys, .key_gates = d_gates};
    encode_embeddings(encoder, t.x, {.gates = gates}, five.queries, device);
    encode_scores(encoder, t.scores, inputs, state, device);
    encode_context(encoder, t.context, t.weights, inputs, state, device);
    encode_embeddings_backward(encoder, t.x, t.x, {.gates = gates}, {.gates = d_gates}, five.queries, {}, device);
    encode_scores_backward(encoder, t.scores, inputs, d_inputs, state, {}, device);
    encode_context_backward(encoder, t.context, t.weights, t.weights, inputs, d_inputs, state, {}, device);
    CHECK(*reader.log ==
          "add 5 of 5 on 3; bias 5 of 5 on 3; add_values 5 of 5 on 3; add back 10 of 5 on 3; bias back 10 of 5 on 3; "
          "add_values back 10 of 5 on 3; ");
  };
  check(compose(reader, waving()));
  check(compose(compose(reader), turning()));
  check(on_axis(reader, 0));
}

TEST_CASE("what a part's gradient reads, it reads first, or it reads no embeddings", "[combine]") {
  const doubles::previous<double> before{random_table(1, 8)};
  compose both(turning(), before, doubles::learned<double>{random_table(5, 8)});
  static_assert(reads_embeddings<decltype(both)> && needs_embeddings<decltype(both)> && !reads_embeddings<decltype(compose(waving()))>);
  gradient_buffer sums(parameters(both)), own(parameters(both));
  tensors together, apart, given;
  encode_embeddings_backward(both, together.x, given.x, five.queries, sums.spans());
  both.part<2>().add_backward(apart.x, five.queries, own.spans().subspan(1, 1));
  before.add_backward(apart.x, given.x, five.queries, own.spans().first(1));
  CHECK(together == apart);
  for (std::size_t n = 0; n < 2; ++n) CHECK(reference::bit_difference(sums.spans()[n], own.spans()[n]) == "");

  // Gated codes read gates, not embeddings: they may follow others.
  compose gates_later(waving(), gated(waving()), on_axis(gated(learned<double>({.rows = 5, .dim = 8})), 0));
  static_assert(ignores_embeddings<decltype(gated(waving()))> && ignores_embeddings<decltype(gates_later)>);
  static_assert(!ignores_embeddings<decltype(gated(before))> && !ignores_embeddings<doubles::emphasis<double>>);
  const Eigen::Tensor<double, 2, Eigen::RowMajor> in_range = random_tensor<Eigen::Tensor<double, 2, Eigen::RowMajor>>(7, 1, 5).abs();
  gradient_buffer table(parameters(gates_later));
  encode_embeddings_backward(gates_later, together.x, given.x, {.gates = in_range}, {}, five.queries, table.spans());
  CHECK(table.spans()[0][8] == in_range(0, 1) * together.x(0, 1, 0));
}

TEST_CASE("nothing is written before the checks of parts that read inputs have passed", "[combine]") {
  tensors t, kept;
  const compose codes(waving(), gated(waving()));
  const compose nested{compose(waving()), on_axis(gated(waving()), 0)};
  CHECK_THROWS_WITH(encode_embeddings(codes, t.x, {}, five.queries), "[gated] the gates must be given but got none");
  CHECK_THROWS_WITH(encode_embeddings(nested, t.x, {}, five.queries), "[gated] the gates must be given but got none");
  const compose biases(slanting(), gated(slanting()));
  const compose deep{slanting(), compose(on_axis(gated(slanting()), 0))};
  const std::string missing = "[gated] the gates of queries or keys must be given but got none";
  CHECK_THROWS_WITH(encode_scores(biases, t.scores, {.scale = 1}, biases.prepare(five)), missing);
  CHECK_THROWS_WITH(encode_scores(deep, t.scores, {.scale = 1}, deep.prepare(five)), missing);
  shaw<double> ones({.channels = 4, .left = 1, .right = 1, .tables = relative_tables::values});
  std::ranges::fill(ones.parameters()[0].values, 1.0);
  const compose values(ones, on_axis(shaw<double>({.channels = 5, .left = 1, .right = 1, .tables = relative_tables::values}), 0));
  t.weights.setConstant(1), kept.weights.setConstant(1);
  CHECK_THROWS_AS(encode_context(values, t.context, t.weights, {.scale = 1}, values.prepare(five)), argument_error);
  CHECK(t == kept);
}

TEST_CASE("parameters stand one after the other", "[combine]") {
  compose all(doubles::learned<double>{random_table(5, 8)}, turning(), slanting(), no_encoding{},
              doubles::shaw_keys<double>{random_table(3, 4)});
  const auto listed = all.parameters();
  REQUIRE(listed.size() == 3);
  CHECK((listed[0].name == "codes" && listed[0].shape == std::vector<index_t>{5, 8}));
  CHECK((listed[1].name == "slopes" && listed[1].shape == std::vector<index_t>{2}));
  CHECK((listed[2].name == "keys" && listed[2].shape == std::vector<index_t>{3, 4}));
  CHECK(listed[0].values.data() == all.part<0>().codes.values.data());
  CHECK(listed[1].values.data() == all.part<2>().slopes().data());
  listed[2].values[0] = 42;
  CHECK(all.part<4>().codes(0, 0) == 42);
}

TEST_CASE("each part gets its own slice of the gradients", "[combine]") {
  const auto log = std::make_shared<std::string>();
  compose all(quiet{'a', log, {0, 0}}, turning(), quiet{'b', log, {}}, quiet{'c', log, {0, 0, 0}}, quiet{'d', log, {0}});
  gradient_buffer buffer(parameters(all));
  const auto marks = [&] {
    std::vector<double> out;
    for (const auto& span : buffer.spans()) out.push_back(span[0]);
    return out;
  };
  tensors t;
  t.backward(all, buffer.spans());
  CHECK(marks() == std::vector<double>{111, 111, 333, 333, 333, 444});

  SECTION("with inputs too") {
    compose more(quiet{'a', log, {0}}, reading{'b', log, {0, 0}}, compose(quiet{'c', log, {0}}, quiet{'d', log, {0, 0}}));
    gradient_buffer other(parameters(more));
    t.backward(more, other.spans());
    REQUIRE(other.spans().size() == 6);
    CHECK((other.spans()[0][0] == 111 && other.spans()[1][0] == 222 && other.spans()[2][0] == 222 && other.spans()[3][0] == 333 &&
           other.spans()[4][0] == 444 && other.spans()[5][0] == 444));
  }
}

TEST_CASE("a trained rotation gets what was written and its own slice of the gradients", "[combine]") {
  const learned_rope<double> turns({.pairing = pairing::halves, .dim = 4}, random_vector<double>(8, 2));
  compose all(slanting(), turns, doubles::shaw_keys<double>{random_table(3, 4)});
  static_assert(trains_rotation<decltype(all)> && trains_rotation<compose<learned_rope<double>>>);
  static_assert(!trains_rotation<decltype(compose(turning(), slanting()))> && !trains_rotation<quiet>);
  gradient_buffer buffer(parameters(all));
  REQUIRE(buffer.spans().size() == 3);
  tensors written, d, alone;
  fill(d.q, 11), fill(alone.q, 11), fill(d.k, 12), fill(alone.k, 12);
  encode_queries_keys_backward(all, d.queries, d.keys, written.queries, written.keys, prepare(all, five), buffer.spans());

  std::vector<double> sums(2);
  const std::array<std::span<double>, 1> spans{sums};
  turns.rotate_backward(alone.queries, written.queries, operand::query, turns.prepare(five), spans);
  turns.rotate_backward(alone.keys, written.keys, operand::key, turns.prepare(five), spans);
  CHECK(d == alone);
  CHECK(std::ranges::equal(buffer.spans()[1], sums));
  CHECK(sums[0] != 0);
  CHECK(std::ranges::all_of(buffer.spans()[0], [](double value) { return value == 0; }));
  CHECK(std::ranges::all_of(buffer.spans()[2], [](double value) { return value == 0; }));
  CHECK_THROWS_WITH(
      encode_queries_keys_backward(all, d.queries, d.keys, written.queries, written.keys, prepare(all, five), buffer.spans().first(1)),
      "[compose] there must be one gradient span per parameter but got 3 and 1");
  CHECK(d == alone);
}

TEST_CASE("there must be a gradient span for each parameter, or none at all", "[combine]") {
  const auto log = std::make_shared<std::string>();
  compose all(quiet{'a', log, {0, 0}}, quiet{'b', log, {0}});
  gradient_buffer buffer(parameters(all));
  block3 d(1, 5, 8);
  CHECK_NOTHROW(encode_embeddings_backward(all, d, five.queries, {}));
  CHECK_THROWS_WITH(encode_embeddings_backward(all, d, five.queries, buffer.spans().first(2)),
                    "[compose] there must be one gradient span per parameter but got 3 and 2");
}

TEST_CASE("a composition equals its parts one after the other, bit for bit", "[combine]") {
  const doubles::shaw_keys<double> keys{random_table(3, 4)};
  const doubles::shaw_values<double> values{random_table(3, 4)};
  tensors together, apart;
  together.forward(compose(waving(), slanting(), turning(), keys, values, turning(), waving()));
  for (int n = 0; n < 2; ++n) apart.forward(waving());
  for (int n = 0; n < 2; ++n) apart.forward(turning());  // before `keys`, which reads the queries as they are then
  apart.forward(slanting());
  apart.forward(keys);
  apart.forward(values);
  CHECK(together == apart);
}

TEST_CASE("a composition inside another", "[combine]") {
  const auto log = std::make_shared<std::string>();
  tensors nested, flat;
  nested.forward(compose(waving(), compose(turning(), slanting()), compose(quiet{'a', log})));
  flat.forward(compose(waving(), turning(), slanting()));
  CHECK(nested == flat);
  CHECK(*log == "a add; a rotate query; a rotate key; a bias; a add_values; ");
}

TEST_CASE("a composition of one", "[combine]") {
  tensors one, alone;
  one.forward(compose(turning()));
  alone.forward(turning());
  CHECK(one == alone);
}

TEST_CASE("the state is the states of the parts", "[combine]") {
  const auto log = std::make_shared<std::string>();
  const compose all(slanting(), quiet{'q', log}, turning());
  const auto state = prepare(all, five);
  static_assert(std::same_as<decltype(state), const std::tuple<attention_positions, quiet::state, rotary_tables<double>>>);
  CHECK(std::get<0>(state) == five);
  CHECK(std::get<1>(state).letter == 'q');
  CHECK(std::get<2>(state).queries.time() == 5);
}

TEST_CASE("one state serves all stages of a decode step", "[combine]") {
  const compose both(turning(), slanting());
  tensors whole, step;
  whole.forward(both);
  const auto state = prepare(both, {.queries = positions::range(1, 4), .keys = positions::range(5), .new_keys = positions::range(1, 4)});
  encode_queries_keys(both, step.queries.slice(4, 1), step.keys.slice(4, 1), state);
  const score_view<double> scores = step.scores;
  encode_scores(both, score_view<double>(&scores(0, 0, 4, 0), {1, 2, 1, 5}, scores.strides()), state);
  for (index_t h = 0; h < 2; ++h)
    for (index_t n = 0; n < 5; ++n) {
      if (n < 4) CHECK((step.q(0, 4, h, n) == whole.q(0, 4, h, n) && step.k(0, 4, h, n) == whole.k(0, 4, h, n)));
      CHECK(step.scores(0, h, 4, n) == whole.scores(0, h, 4, n));
    }
}

TEST_CASE("parts that are not trained may have another scalar", "[combine]") {
  const compose all(no_encoding{}, turning());
  static_assert(std::same_as<decltype(all)::scalar, double>);
  tensors with, alone;
  with.forward(all);
  alone.forward(turning());
  CHECK(with == alone);
}

TEST_CASE("compositions are equal when their parts are", "[combine]") {
  const compose a(turning(), slanting());
  auto b = a;
  CHECK(a == b);
  b = compose(rope<double>({.pairing = pairing::halves, .dim = 4}, {.base = 500000}), slanting());
  CHECK_FALSE(a == b);
  CHECK(std::string_view(a.name()) == "compose");
}

TEST_CASE("the score scale of a composition is that of the part that changes it", "[combine]") {
  const rescaled third(1.0 / 3), half(0.5);
  CHECK(score_scale(compose(turning(), slanting()), 16) == 0.25);
  CHECK(score_scale(compose(no_encoding{}, third), 8) == 1.0 / 3 / 8);
  CHECK(score_scale(compose(half, third), 8) == 0.5 / 8);
  CHECK(score_scale(compose(turning(), compose(no_encoding{}, half)), 8) == 0.5 / 8);
}

TEST_CASE("nothing is written before the checks of all parts, and of queries and keys, have passed", "[combine]") {
  const rope<float> turning({.pairing = pairing::halves, .dim = 4});
  const auto at = positions::range(2);
  Eigen::Tensor<float, 4, Eigen::RowMajor> q(1, 2, 1, 4), k(1, 3, 1, 4);  // the keys are one token too long
  q.setConstant(1), k.setConstant(1);
  const auto all_ones = [](const auto& tensor) {
    return std::all_of(tensor.data(), tensor.data() + tensor.size(), [](float v) { return v == 1; });
  };
  const auto queries = heads(q, axis_order::time_head), keys = heads(k, axis_order::time_head);
  CHECK_THROWS_WITH(encode_queries_keys(turning, queries, keys, prepare(turning, {at, at})),
                    "[rope] time must match the table but got 3 and 2");
  CHECK_THROWS_AS(encode_queries_keys_backward(turning, queries, keys, prepare(turning, {at, at})), argument_error);
  CHECK(all_ones(q));

  const rope<float> wider({.pairing = pairing::halves, .dim = 6});
  const compose turns(turning, wider);
  CHECK_THROWS_AS(turns.rotate(queries, operand::query, turns.prepare({at, at})), argument_error);
  CHECK_THROWS_AS(encode_queries_keys(turns, queries, queries, turns.prepare({at, at})), argument_error);
  CHECK(all_ones(q));

  const auto codes = [](index_t dim) {
    return sinusoidal<float>({.dim = dim, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}});
  };
  Eigen::Tensor<float, 2, Eigen::RowMajor> x(2, 4);
  x.setConstant(1);
  CHECK_THROWS_AS(encode_embeddings(compose(codes(4), codes(6)), x, at), argument_error);
  CHECK(all_ones(x));

  Eigen::Tensor<float, 4, Eigen::RowMajor> scores(1, 2, 2, 2);
  scores.setConstant(1);
  const auto slopes = [](index_t count) { return alibi<float>({.heads = count, .form = alibi_form::symmetric}); };
  const compose biases(slopes(2), slopes(3));
  CHECK_THROWS_AS(encode_scores(biases, scores, biases.prepare({at, at})), argument_error);
  CHECK(all_ones(scores));
}

TEMPLATE_TEST_CASE("codes are added in one pass: as one after the other, or rounded once", "[combine]", float, double, Eigen::bfloat16,
                   Eigen::half) {
  using S = compute_t<TestType>;
  using block = Eigen::Tensor<TestType, 3, Eigen::RowMajor>;
  const sinusoidal<S> waves({.dim = 34, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}});
  const learned<S> table({.rows = 60, .dim = 34, .outside_table = outside_table::zeros, .scale = 0.75}, random_vector<S>(3, 60 * 34));
  const compose all(waves, table, rope<S>({.pairing = pairing::halves, .dim = 4}), waves);
  for (const auto& at : {positions::range(50, 5), positions::offsets(std::vector{30, 2}, 50)}) {
    block x(2, 50, 34);
    for (index_t n = 0; n < x.size(); ++n) x.data()[n] = static_cast<TestType>(static_cast<float>(n % 97) / 32 - 1);
    block once = x;
    encode_embeddings(all, once, at);
    Eigen::Tensor<S, 3, Eigen::RowMajor> in_turn = x.template cast<S>();
    waves.add(in_turn, at), table.add(in_turn, at), waves.add(in_turn, at);
    const block expected = in_turn.template cast<TestType>();
    CHECK(reference::bit_difference(once, expected) == "");
  }
}

TEST_CASE("codes of coordinates are added where all parts take them", "[combine]") {
  const sinusoidal<double> waves({.dim = 8, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}});
  const auto at = coordinates::values(std::vector{0.5, 2.25, -7.0}, 1);
  auto once = random_tensor<block3>(1, 2, 3, 8), in_turn = once;
  encode_embeddings(compose(waves, turning(), waves), once, at);
  waves.add(in_turn, at), waves.add(in_turn, at);
  CHECK(same(once, in_turn));
}
