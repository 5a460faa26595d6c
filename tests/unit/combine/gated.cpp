// SPDX-License-Identifier: MIT
#include <posenc/combine/gated.hpp>

#include <posenc/alibi.hpp>
#include <posenc/combine/compose.hpp>
#include <posenc/relative/t5_bias.hpp>
#include <posenc/rope.hpp>

#include "catch.hpp"
#include "doubles.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
template <class S, int Rank>
using tensor = Eigen::Tensor<S, Rank, Eigen::RowMajor>;
using block2 = tensor<double, 2>;
using block3 = tensor<double, 3>;
using block4 = tensor<double, 4>;

constexpr double infinity = std::numeric_limits<double>::infinity();

template <class S>
alibi<S> slopes(index_t heads) {
  return alibi<S>({.heads = heads, .form = alibi_form::symmetric});
}
template <class S>
t5_bias<S> buckets(index_t heads) {
  return {t5_bias_options::t5_encoder(heads), random_vector<S>(31, 32 * heads)};
}
doubles::table<double> random_table(index_t rows, index_t channels) { return {rows, channels, random_vector<double>(99, rows * channels)}; }

template <class S>
tensor<S, 2> some_gates(std::uint64_t seed, index_t batch, index_t time) {
  auto gates = random_tensor<tensor<S, 2>>(seed, batch, time);
  for (index_t n = 0; n < gates.size(); ++n) {
    S& gate = gates.data()[n];
    gate = n % 5 == 1 ? S(0) : n % 5 == 3 ? S(1) : std::abs(gate);
  }
  return gates;
}

/// A user's bias, without tiles: one half for each pair of tokens, and none to the token before, whatever the gates are.
struct masked_half {
  using scalar = double;
  static constexpr std::string_view name() { return "masked_half"; }
  void bias(score_view<double> scores, const attention_positions& at) const {
    require(scores.extent(1) == 3, name(), "needs three heads");
    doubles::for_each(scores.extents(), [&](index_t b, index_t h, index_t i, index_t j) {
      scores(b, h, i, j) += at.queries(b, i) == at.keys(b, j) + 1 ? -infinity : 0.5;
    });
  }
  bool operator==(const masked_half&) const = default;
};

const attention_positions placed{positions::ids(std::array<position, 6>{7, no_position, 3, 9, 2, 8}, 2),
                                 positions::ids(std::array<position, 10>{0, 5, 7, no_position, 9, 6, 8, 2, 1, 0}, 2)};

/// The gated biases one by one: what the encoder adds to zeros, times both gates.
template <class E>
block4 expected(const E& encoder, const block4& scores, const attention_inputs<double>& inputs, const attention_positions& at) {
  block4 biases(scores.dimensions()), all = scores;
  biases.setZero();
  encode_scores(encoder, biases, inputs, prepare(encoder, at));
  doubles::for_each(score_view<double>(all).extents(), [&](index_t b, index_t h, index_t i, index_t j) {
    const double gate = (inputs.query_gates ? inputs.query_gates(b, i) : 1) * (inputs.key_gates ? inputs.key_gates(b, j) : 1);
    if (gate != 0) all(b, h, i, j) += gate * biases(b, h, i, j);
  });
  return all;
}

}  // namespace

TEST_CASE("gated biases are added times the gates of their queries and keys", "[gated]") {
  const auto queries = some_gates<double>(1, 2, 3), keys = some_gates<double>(2, 2, 5);
  const auto q = random_tensor<block4>(3, 2, 3, 3, 4);
  const auto check = [&](const auto& encoder) {
    INFO(std::string(encoder.name()));
    const auto scores = random_tensor<block4>(4, 2, 3, 3, 5);
    for (int which = 1; which < 4; ++which) {
      attention_inputs<double> inputs{.scale = 0.5, .queries = heads(q, axis_order::time_head)};
      if (which & 1) inputs.query_gates = queries;
      if (which & 2) inputs.key_gates = keys;
      block4 out = scores;
      encode_scores(gated(encoder), out, inputs, prepare(gated(encoder), placed));
      CHECK(reference::difference(out, expected(encoder, scores, inputs, placed), 2e-15) == "");
    }
  };
  check(slopes<double>(3));
  check(buckets<double>(3));
  check(masked_half());
  check(doubles::shaw_keys<double>{random_table(5, 4)});
  check(compose(slopes<double>(3), buckets<double>(3)));
}

TEST_CASE("a gate of a half halves a bias, and both gates multiply", "[gated]") {
  const std::array<float, 1> slope{1};
  const gated<alibi<float>> encoder(alibi<float>(slope, alibi_form::symmetric));
  tensor<float, 4> scores(1, 1, 2, 3);
  scores.setConstant(10);
  tensor<float, 2> queries(1, 2), keys(1, 3);
  queries.setValues({{0.5f, 1}});
  keys.setValues({{1, 0.25f, 0}});
  // Queries at 4 and 8, keys at 0, 2, 3: distances 4, 2, 1 and 8, 6, 5.
  encode_scores(encoder, scores, {.scale = 1, .query_gates = queries, .key_gates = keys},
                {positions::ids(std::array{4, 8}), positions::ids(std::array{0, 2, 3})});
  tensor<float, 4> wanted(1, 1, 2, 3);
  wanted.setValues({{{{8, 9.75f, 10}, {2, 8.5f, 10}}}});
  CHECK(reference::bit_difference(scores, wanted) == "");
}

TEMPLATE_TEST_CASE("gates of one give a bias's own bits, gates of zero none", "[gated]", float, Eigen::half) {
  using T = TestType;
  tensor<float, 2> ones(2, 3), zeros(2, 3), key_ones(2, 4500);
  ones.setConstant(1), zeros.setZero(), key_ones.setConstant(1);
  const attention_positions at{positions::offsets(std::array{4300, 30}, 3), positions::range(4500)};  // more keys than a tile has
  const auto check = [&](const auto& encoder) {
    tensor<T, 4> scores = random_tensor<tensor<float, 4>>(5, 2, 2, 3, 4500).template cast<T>();
    scores(0, 0, 0, 900) = T(-0.0f), scores(1, 1, 2, 7) = T(-infinity);
    auto own = scores, one = scores, none = scores, both = scores, no_keys = scores;
    const auto state = prepare(encoder, at);
    encode_scores(encoder, own, state);
    const gated wrapped(encoder);
    wrapped.bias(one, attention_inputs<T>{.scale = 1, .query_gates = ones}, state);
    wrapped.bias(both, attention_inputs<T>{.scale = 1, .query_gates = ones, .key_gates = key_ones}, state);
    wrapped.bias(none, attention_inputs<T>{.scale = 1, .query_gates = zeros, .key_gates = key_ones}, state);
    key_ones.setZero();
    wrapped.bias(no_keys, attention_inputs<T>{.scale = 1, .key_gates = key_ones}, state);
    key_ones.setConstant(1);
    CHECK(reference::bit_difference(one, own) == "");
    CHECK(reference::bit_difference(both, own) == "");
    CHECK(reference::bit_difference(own, scores) != "");
    CHECK(reference::bit_difference(none, scores) == "");
    CHECK(reference::bit_difference(no_keys, scores) == "");
  };
  check(slopes<float>(2));
  if constexpr (std::is_same_v<T, float>) check(buckets<float>(2));
}

TEST_CASE("a gate of zero lifts a mask", "[gated]") {
  const attention_positions at{positions::range(3), positions::range(3)};
  block4 scores(1, 3, 3, 3);
  scores.setConstant(1);
  block2 queries(1, 3), keys(1, 3);
  queries.setValues({{1, 0.5, 0}});
  keys.setValues({{0.5, 0, 1}});
  auto by_query = scores, by_key = scores;
  const gated encoder{masked_half()};
  encode_scores(encoder, by_query, {.scale = 1, .query_gates = queries}, at);
  CHECK(by_query(0, 0, 0, 0) == 1.5);
  CHECK(by_query(0, 2, 1, 0) == -infinity);
  CHECK(by_query(0, 2, 2, 1) == 1);
  encode_scores(encoder, by_key, {.scale = 1, .key_gates = keys}, at);
  CHECK(by_key(0, 1, 1, 0) == -infinity);
  CHECK(by_key(0, 1, 2, 1) == 1);
  CHECK(by_key(0, 1, 2, 2) == 1.5);
}

TEST_CASE("gated biases: steps, chunks, threads, strides and rows of the batch have the bits of the whole", "[gated]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  constexpr index_t time = 150, heads_count = 3;
  const auto queries = some_gates<float>(6, 2, time), keys = some_gates<float>(7, 2, time);
  const auto scores = random_tensor<tensor<float, 4>>(8, 2, heads_count, time, time);
  const gated encoder(slopes<float>(heads_count));
  const auto at = positions::range(time, 3);
  auto whole = scores, split = scores, steps = scores, rows = scores;
  const attention_inputs<float> inputs{.scale = 1, .query_gates = queries, .key_gates = keys};
  encoder.bias(whole, inputs, {at, at});
  encoder.bias(split, inputs, {at, at}, device);
  CHECK(reference::bit_difference(split, whole) == "");
  const score_view<float> view = steps, by_row = rows;
  const tensor_view<const float, 2> q = queries, k = keys;
  for (index_t from = 0, count; from < time; from += count) {  // one token, then chunks that see what they have so far
    count = from == 0 ? 1 : std::min<index_t>(47, time - from);
    encoder.bias(score_view<float>(&view(0, 0, from, 0), {2, heads_count, count, time}, view.strides()),
                 attention_inputs<float>{
                     .scale = 1, .query_gates = tensor_view<const float, 2>(&q(0, from), {2, count}, q.strides()), .key_gates = keys},
                 {at.slice(from, count), at});
  }
  CHECK(reference::bit_difference(steps, whole) == "");
  for (index_t b = 0; b < 2; ++b)
    encoder.bias(score_view<float>(&by_row(b, 0, 0, 0), {1, heads_count, time, time}),
                 attention_inputs<float>{.scale = 1,
                                         .query_gates = tensor_view<const float, 2>(&q(b, 0), {1, time}),
                                         .key_gates = tensor_view<const float, 2>(&k(b, 0), {1, time})},
                 {at, at});
  CHECK(reference::bit_difference(rows, whole) == "");
  Eigen::Tensor<float, 4> other(time, time, heads_count, 2);
  std::copy_n(scores.data(), scores.size(), other.data());
  encoder.bias(other, inputs, {at, at});
  CHECK(reference::bit_difference(other, whole) == "");
}

TEST_CASE("the gradients of gated biases are derivatives: of gates, parameters and the encoder's inputs", "[gated]") {
  const auto check = [](auto inner) {
    INFO(std::string(inner.name()));
    gated encoder(inner);
    const auto scores = random_tensor<block4>(10, 2, 3, 3, 5), weights = random_tensor<block4>(11, 2, 3, 3, 5);
    block2 queries = some_gates<double>(12, 2, 3) * 0.5 + 0.25, keys = some_gates<double>(13, 2, 5) * 0.5 + 0.25;
    auto q = random_tensor<block4>(14, 2, 3, 3, 4);
    const auto inputs = [&] {
      return attention_inputs<double>{.scale = 0.5, .queries = heads(q, axis_order::time_head), .query_gates = queries, .key_gates = keys};
    };
    const auto loss = [&] {
      block4 out = scores;
      encode_scores(encoder, out, inputs(), prepare(encoder, placed));
      return reference::dot(weights, out);
    };
    block4 d = weights, d_q(2, 3, 3, 4);
    block2 d_queries(2, 3), d_keys(2, 5);
    d_q.setZero(), d_queries.setConstant(2), d_keys.setConstant(3);
    gradient_buffer<double> sums(parameters(encoder));
    encode_scores_backward(encoder, d, inputs(),
                           {.queries = heads(d_q, axis_order::time_head), .query_gates = d_queries, .key_gates = d_keys},
                           prepare(encoder, placed), sums.spans());
    CHECK(reference::bit_difference(d, weights) == "");
    d_queries = d_queries - 2.0, d_keys = d_keys - 3.0;
    const auto span = [](auto& values) { return std::span(values.data(), static_cast<std::size_t>(values.size())); };
    CHECK(reference::difference(d_queries, reference::derivatives(span(queries), loss, 0.125), 2e-13) == "");
    CHECK(reference::difference(d_keys, reference::derivatives(span(keys), loss, 0.125), 2e-13) == "");
    CHECK(reference::difference(d_q, reference::derivatives(span(q), loss, 0.25), 2e-13) == "");
    const auto all = parameters(encoder);
    for (std::size_t n = 0; n < all.size(); ++n)
      CHECK(reference::difference(sums.spans()[n], reference::derivatives(all[n].values, loss, 0.25), 2e-13) == "");
  };
  check(slopes<double>(3));
  check(buckets<double>(3));
  check(doubles::shaw_keys<double>{random_table(5, 4)});
  check(doubles::shaw_keys<double>{random_table(3, 4)});
}

TEST_CASE("gradients of gates: many queries and keys, any number of threads, and gates of one kind alone", "[gated]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  constexpr index_t queries = 300, keys = 4130;
  const auto d = random_tensor<block4>(15, 1, 2, queries, keys);
  const auto q = some_gates<double>(16, 1, queries), k = some_gates<double>(17, 1, keys);
  const attention_positions at{positions::range(queries, 100), positions::range(keys)};
  const auto encoder = slopes<double>(2);
  block2 d_q(1, queries), d_k(1, keys), want_q(1, queries), want_k(1, keys);
  d_q.setZero(), d_k.setZero(), want_q.setZero(), want_k.setZero();
  doubles::for_each(std::array<index_t, 3>{2, queries, keys}, [&](index_t h, index_t i, index_t j) {
    const double product = d(0, h, i, j) * -encoder.slopes()[static_cast<std::size_t>(h)] * std::abs(static_cast<double>(100 + i - j));
    want_q(0, i) += product * k(0, j), want_k(0, j) += product * q(0, i);
  });
  auto passed = d;
  gated trained(encoder);
  gradient_buffer<double> sums(parameters(trained)), other(parameters(trained));
  gated(encoder).bias_backward(passed, attention_inputs<double>{.scale = 1, .query_gates = q, .key_gates = k},
                               {.query_gates = d_q, .key_gates = d_k}, at, sums.spans());
  CHECK(reference::difference(d_q, want_q, 4e-9) == "");
  CHECK(reference::difference(d_k, want_k, 4e-9) == "");
  CHECK(reference::bit_difference(passed, d) == "");
  block2 split_q(1, queries), split_k(1, keys), alone(1, keys);
  split_q.setZero(), split_k.setZero(), alone.setZero();
  gated(encoder).bias_backward(passed, attention_inputs<double>{.scale = 1, .query_gates = q, .key_gates = k},
                               {.query_gates = split_q, .key_gates = split_k}, at, other.spans(), device);
  CHECK(reference::bit_difference(split_q, d_q) == "");
  CHECK(reference::bit_difference(split_k, d_k) == "");
  CHECK(reference::bit_difference(other.spans()[0], sums.spans()[0]) == "");
  gated(encoder).bias_backward(passed, attention_inputs<double>{.scale = 1, .key_gates = k}, {.key_gates = alone}, at, other.spans());
  want_k.setZero();
  doubles::for_each(std::array<index_t, 3>{2, queries, keys}, [&](index_t h, index_t i, index_t j) {
    want_k(0, j) += d(0, h, i, j) * -encoder.slopes()[static_cast<std::size_t>(h)] * std::abs(static_cast<double>(100 + i - j));
  });
  CHECK(reference::difference(alone, want_k, 4e-9) == "");
}

TEST_CASE("gated biases hand on what their encoder has", "[gated]") {
  gated one(buckets<double>(3));
  CHECK(score_scale(one, 16) == 1);
  CHECK(one == gated(buckets<double>(3)));
  CHECK(one != gated(buckets<double>(2)));
  REQUIRE(parameters(one).size() == 1);
  CHECK(parameters(one)[0].values.data() == one.encoder().table().data());
  static_assert(changes_score_scale<gated<t5_bias<float>>> && !changes_score_scale<gated<alibi<float>>>);
  static_assert(contextual_bias_encoder<gated<alibi<float>>> && !bias_encoder<gated<alibi<float>>> && trainable<gated<alibi<float>>>);
  static_assert(!contextual_additive_encoder<gated<alibi<float>>> && contextual_bias_encoder<gated<doubles::shaw_keys<double>>>);
  static_assert(std::same_as<state_t<gated<t5_bias<float>>>, state_t<t5_bias<float>>>);
  static_assert(!gateable_encoder<rope<float>> && !gateable_encoder<compose<alibi<float>, rope<float>>>);
  static_assert(!gateable_encoder<doubles::shaw_values<float>> && !gateable_encoder<doubles::emphasis<float>> && !gateable_encoder<int>);
  static_assert(!gateable_encoder<doubles::scaled_values<float>> && gateable_encoder<compose<alibi<float>>>);
}

TEST_CASE("gated biases refuse gates that do not fit, before they write", "[gated][errors]") {
  const gated encoder(buckets<double>(3));
  const auto state = prepare(encoder, placed);
  auto scores = random_tensor<block4>(18, 2, 3, 3, 5);
  const auto queries = some_gates<double>(19, 2, 3), keys = some_gates<double>(20, 2, 5);
  const auto add = [&](const attention_inputs<double>& inputs) { return [&, inputs] { encoder.bias(scores, inputs, state); }; };
  reference::refuses(scores, "[gated] the gates of queries or keys must be given but got none", add({.scale = 1}));
  reference::refuses(scores, "[gated] the gates must be those of the queries but got [2, 3] and [2, 5]",
                     add({.scale = 1, .query_gates = keys}));
  reference::refuses(scores, "[gated] the gates must be those of the keys but got [2, 5] and [2, 3]",
                     add({.scale = 1, .query_gates = queries, .key_gates = queries}));
  auto wrong = keys;
  wrong(1, 4) = std::nan("");
  reference::refuses(scores, "[gated] gates must lie in [0, 1] but got nan", add({.scale = 1, .query_gates = queries, .key_gates = wrong}));
  wrong(1, 4) = 1.25;
  reference::refuses(scores, "[gated] gates must lie in [0, 1] but got 1.25", add({.scale = 1, .key_gates = wrong}));
  const gated more(buckets<double>(4));
  reference::refuses(scores, "[t5_bias] heads must match the encoder but got 4 and 3",
                     [&] { more.bias(scores, attention_inputs<double>{.scale = 1, .key_gates = keys}, state); });
  reference::refuses(scores, "[t5_bias] the table must be of this encoder but got 3 and 2", [&] {
    encoder.bias(scores, attention_inputs<double>{.scale = 1, .key_gates = keys}, prepare(buckets<double>(2), placed));
  });
  auto two = random_tensor<block4>(18, 2, 2, 3, 5);
  reference::refuses(two, "[masked_half] needs three heads",
                     [&] { gated(masked_half()).bias(two, attention_inputs<double>{.scale = 1, .key_gates = keys}, placed); });

  auto d = scores;
  gated copy = encoder;
  gradient_buffer<double> sums(parameters(copy));
  block2 d_queries(2, 3), d_keys(2, 5);
  const auto back = [&](const attention_gradients<double>& d_inputs) {
    return [&, d_inputs] {
      encoder.bias_backward(d, attention_inputs<double>{.scale = 1, .query_gates = queries}, d_inputs, state, sums.spans());
    };
  };
  const std::string shapes = "[gated] gradients must have the shapes of what they are of but got ";
  reference::refuses(d, shapes + "[2, 3] and [2, 5]", back({.query_gates = d_keys}));
  reference::refuses(d, shapes + "[0, 0] and [2, 5]", back({.key_gates = d_keys}));
  d_queries.setZero();
  reference::refuses(d_queries, "[t5_bias] there must be one gradient span per parameter but got 1 and 0", [&] {
    encoder.bias_backward(d, attention_inputs<double>{.scale = 1, .query_gates = queries}, {.query_gates = d_queries}, state, {});
  });

  block4 empty(2, 3, 0, 5);
  encoder.bias(empty, attention_inputs<double>{.scale = 1}, prepare(encoder, {positions::range(0), positions::range(5)}));
}
