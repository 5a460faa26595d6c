// SPDX-License-Identifier: MIT
#include <posenc/gradients.hpp>

#include <posenc/alibi.hpp>
#include <posenc/combine.hpp>
#include <posenc/no_encoding.hpp>
#include <posenc/rope.hpp>
#include <posenc/rope/learned_rope.hpp>
#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "doubles.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <vector>

using namespace posenc;

namespace {

using block2 = Eigen::Tensor<double, 2, Eigen::RowMajor>;
using block3 = Eigen::Tensor<double, 3, Eigen::RowMajor>;
using block4 = Eigen::Tensor<double, 4, Eigen::RowMajor>;

doubles::table<double> random_table(index_t rows, index_t channels) { return {rows, channels, random_vector<double>(99, rows * channels)}; }

template <class Tensor>
Tensor zeros(auto... extents) {
  Tensor tensor(extents...);
  return tensor.setZero();
}

/// An attention block, forward and backward, that takes any encoder. Projections are one factor per channel; the loss is a fixed random
/// combination of what comes out.
template <position_encoder E>
struct attention {
  static constexpr index_t batch = 2, time = 4, count = 2, channels = 4;
  static constexpr std::array<index_t, 4> tokens{batch, time, count, channels}, pairs{batch, count, time, time};
  static constexpr double scale = 0.5;

  E encoder;
  block3 x = random_tensor<block3>(1, batch, time, count* channels), gates = random_tensor<block3>(2, batch, time, count);
  block2 token_gates = random_tensor<block2>(6, batch, time);
  const std::vector<double> to_q = random_vector<double>(3, count* channels), to_k = random_vector<double>(4, count* channels);
  const block4 importance = random_tensor<block4>(5, batch, time, count, channels);
  const attention_positions at{positions::offsets(std::array{0, 3}, time), positions::offsets(std::array{0, 3}, time)};

  // Kept from forward for backward.
  block3 encoded{};
  block4 q{batch, time, count, channels}, k = q, y = q, weights{batch, count, time, time};

  static head_view<double> by_heads(block4& tensor) { return heads(tensor, axis_order::time_head); }
  static head_view<double> by_heads(block3& tensor) { return split_heads(tensor, {.heads = count, .channels = channels}); }
  static std::size_t flat(index_t h, index_t c) { return static_cast<std::size_t>(h * channels + c); }

  double loss() {
    const auto state = prepare(encoder, at);
    encoded = x;
    encode_embeddings(encoder, encoded, {.gates = token_gates}, at.queries);
    doubles::for_each(tokens, [&](index_t b, index_t t, index_t h, index_t c) {
      q(b, t, h, c) = to_q[flat(h, c)] * encoded(b, t, h * channels + c);
      k(b, t, h, c) = to_k[flat(h, c)] * encoded(b, t, h * channels + c);
    });
    encode_queries_keys(encoder, by_heads(q), by_heads(k), state);
    block4 scores = zeros<block4>(batch, count, time, time);
    doubles::for_each(pairs, [&](index_t b, index_t h, index_t i, index_t j) {
      for (index_t c = 0; c < channels; ++c) scores(b, h, i, j) += scale * q(b, i, h, c) * k(b, j, h, c);
    });
    encode_scores(encoder, scores, {.scale = scale, .queries = by_heads(q), .keys = by_heads(k), .log_gates = gates}, state);
    block3 sums = zeros<block3>(batch, count, time);
    doubles::for_each(
        pairs, [&](index_t b, index_t h, index_t i, index_t j) { sums(b, h, i) += weights(b, h, i, j) = std::exp(scores(b, h, i, j)); });
    doubles::for_each(pairs, [&](index_t b, index_t h, index_t i, index_t j) { weights(b, h, i, j) /= sums(b, h, i); });
    y.setZero();
    doubles::for_each(pairs, [&](index_t b, index_t h, index_t i, index_t j) {
      for (index_t c = 0; c < channels; ++c) y(b, i, h, c) += weights(b, h, i, j) * encoded(b, j, h * channels + c);
    });
    encode_context(encoder, by_heads(y), weights, {.scale = scale, .values = by_heads(encoded)}, state);
    double total = 0;
    doubles::for_each(tokens, [&](index_t b, index_t t, index_t h, index_t c) { total += importance(b, t, h, c) * y(b, t, h, c); });
    return total;
  }

  struct gradients {
    block3 x, gates;
    block2 token_gates;
    gradient_buffer<double> parameters;
  };
  gradients backward() {
    loss();
    const auto state = prepare(encoder, at);
    gradients d{zeros<block3>(batch, time, count * channels), zeros<block3>(batch, time, count), zeros<block2>(batch, time),
                gradient_buffer<double>(posenc::parameters(encoder))};
    block4 d_y = importance, d_weights = zeros<block4>(batch, count, time, time);
    block4 d_q = zeros<block4>(batch, time, count, channels), d_k = d_q;

    encode_context_backward(encoder, by_heads(d_y), weights, d_weights, {.scale = scale, .values = by_heads(encoded)},
                            {.values = by_heads(d.x)}, state, d.parameters.spans());
    doubles::for_each(pairs, [&](index_t b, index_t h, index_t i, index_t j) {
      for (index_t c = 0; c < channels; ++c) {
        d_weights(b, h, i, j) += d_y(b, i, h, c) * encoded(b, j, h * channels + c);
        d.x(b, j, h * channels + c) += weights(b, h, i, j) * d_y(b, i, h, c);
      }
    });
    block3 means = zeros<block3>(batch, count, time);
    doubles::for_each(pairs,
                      [&](index_t b, index_t h, index_t i, index_t j) { means(b, h, i) += weights(b, h, i, j) * d_weights(b, h, i, j); });
    block4 d_scores(batch, count, time, time);
    doubles::for_each(pairs, [&](index_t b, index_t h, index_t i, index_t j) {
      d_scores(b, h, i, j) = weights(b, h, i, j) * (d_weights(b, h, i, j) - means(b, h, i));
    });
    encode_scores_backward(encoder, d_scores, {.scale = scale, .queries = by_heads(q), .keys = by_heads(k), .log_gates = gates},
                           {.queries = by_heads(d_q), .keys = by_heads(d_k), .log_gates = d.gates}, state, d.parameters.spans());
    doubles::for_each(pairs, [&](index_t b, index_t h, index_t i, index_t j) {
      for (index_t c = 0; c < channels; ++c) {
        d_q(b, i, h, c) += scale * d_scores(b, h, i, j) * k(b, j, h, c);
        d_k(b, j, h, c) += scale * d_scores(b, h, i, j) * q(b, i, h, c);
      }
    });
    encode_queries_keys_backward(encoder, by_heads(d_q), by_heads(d_k), by_heads(q), by_heads(k), state, d.parameters.spans());
    doubles::for_each(tokens, [&](index_t b, index_t t, index_t h, index_t c) {
      d.x(b, t, h * channels + c) += to_q[flat(h, c)] * d_q(b, t, h, c) + to_k[flat(h, c)] * d_k(b, t, h, c);
    });
    encode_embeddings_backward(encoder, d.x, x, {.gates = token_gates}, {.gates = d.token_gates}, at.queries, d.parameters.spans());
    return d;
  }
};

/// Every gradient of the block against difference quotients of its loss: of the embeddings, the gates and each parameter.
void check_gradients(const position_encoder auto& encoder) {
  attention<std::remove_cvref_t<decltype(encoder)>> block{.encoder = encoder};
  const auto exact = block.backward();
  double worst = 0;
  const auto compare = [&](double& variable, double gradient) {
    const double slope = doubles::difference_quotient(variable, [&] { return block.loss(); });
    worst = std::max(worst, std::abs(slope - gradient) / std::max({std::abs(slope), std::abs(gradient), 0.01}));
  };
  for (index_t n = 0; n < block.x.size(); ++n) compare(block.x.data()[n], exact.x.data()[n]);
  for (index_t n = 0; n < block.gates.size(); ++n) compare(block.gates.data()[n], exact.gates.data()[n]);
  for (index_t n = 0; n < block.token_gates.size(); ++n) compare(block.token_gates.data()[n], exact.token_gates.data()[n]);
  const auto all = posenc::parameters(block.encoder);
  REQUIRE(exact.parameters.spans().size() == all.size());
  for (std::size_t p = 0; p < all.size(); ++p)
    for (std::size_t n = 0; n < all[p].values.size(); ++n) compare(all[p].values[n], exact.parameters.spans()[p][n]);
  CHECK(worst < 1e-7);
}

/// An additive encoder on its own data, for names and order.
struct two_tables {
  using scalar = float;
  doubles::table<float> first{1, 3, {1, 2, 3}}, second{2, 1, {4, 5}};
  static constexpr std::string_view name() { return "two_tables"; }
  void add(token_view<float>, const positions&) const {}
  void add_backward(token_view<float>, const positions&, gradient_spans<float>) const {}
  std::vector<parameter<float>> parameters() { return {first.parameters("first")[0], second.parameters("second")[0]}; }
  friend bool operator==(const two_tables&, const two_tables&) = default;
};

}  // namespace

// ---- parameters ----------------------------------------------------------------------------------------------------------------------

TEST_CASE("parameters are the encoder's own memory, in its order", "[gradients]") {
  two_tables encoder;
  const auto all = parameters(encoder);
  REQUIRE(all.size() == 2);
  CHECK((all[0].name == "first" && all[0].shape == std::vector<index_t>{1, 3} && all[0].values.size() == 3));
  CHECK((all[1].name == "second" && all[1].shape == std::vector<index_t>{2, 1} && all[1].values.size() == 2));
  CHECK(all[0].values.data() == encoder.first.values.data());
  all[1].values[1] = 7;
  CHECK(encoder.second(1, 0) == 7);
  CHECK_FALSE(encoder == two_tables());
}

TEST_CASE("an encoder that cannot be trained has no parameters", "[gradients]") {
  rope<double> rope({.pairing = pairing::halves, .dim = 4});
  CHECK(parameters(rope).empty());
  CHECK(gradient_buffer<double>(parameters(rope)).spans().empty());
}

TEST_CASE("a gradient buffer has a zero for every value", "[gradients]") {
  two_tables encoder;
  gradient_buffer buffer(parameters(encoder));
  static_assert(std::same_as<decltype(buffer), gradient_buffer<float>>);
  const auto spans = buffer.spans();
  REQUIRE(spans.size() == 2);
  CHECK((spans[0].size() == 3 && spans[1].size() == 2));
  CHECK(std::ranges::all_of(spans[0], [](float value) { return value == 0; }));
  CHECK(std::ranges::all_of(spans[1], [](float value) { return value == 0; }));
  spans[0][2] = 5, spans[1][0] = 6;
  CHECK(buffer.spans()[0][2] == 5);
  buffer.clear();
  CHECK((spans[0][2] == 0 && spans[1][0] == 0));
}

TEST_CASE("backward adds to what the buffer holds", "[gradients]") {
  doubles::learned<double> learned{random_table(4, 4)};
  gradient_buffer buffer(parameters(learned));
  block3 d(1, 4, 4);
  d.setConstant(1.5);
  encode_embeddings_backward(learned, d, positions::range(4), buffer.spans());
  encode_embeddings_backward(learned, d, positions::ids(std::array{1, 1, 3, 0}), buffer.spans());
  CHECK(buffer.spans()[0][4 * 1] == 4.5);
  CHECK(buffer.spans()[0][4 * 2 + 3] == 1.5);
  CHECK(buffer.spans()[0][4 * 3 + 1] == 3);
}

// ---- the gradient twins --------------------------------------------------------------------------------------------------------------

TEST_CASE("gradients equal difference quotients, through a whole attention block", "[gradients]") {
  const sinusoidal<double> sine({.dim = 8, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});
  const doubles::learned<double> learned{random_table(7, 8)};
  const rope<double> halves({.pairing = pairing::halves, .dim = 4});
  const rope<double> pairs({.pairing = pairing::interleaved, .dim = 2, .offset = 1, .attention_factor = 1.25});
  const alibi<double> slopes({.heads = 2, .form = alibi_form::symmetric});
  const doubles::shaw_keys<double> keys{random_table(5, 4)};
  const doubles::shaw_values<double> values{random_table(3, 4)};

  const learned_rope<double> turns({.pairing = pairing::halves, .dim = 4}, random_vector<double>(98, 4), 1, 2);
  const learned_rope<double> part({.pairing = pairing::interleaved, .dim = 2, .offset = 1, .attention_factor = 1.25}, std::array{0.7});

  SECTION("learned rope, for each head") { check_gradients(turns); }
  SECTION("learned rope on part of the channels, scaled") { check_gradients(part); }
  SECTION("learned rope and alibi") { check_gradients(compose(turns, slopes)); }
  SECTION("learned rope behind everything that is added and biased, and in a composition of its own") {
    check_gradients(compose(learned, keys, compose(slopes, compose(turns)), values, doubles::forgetting{}));
  }
  SECTION("none") { check_gradients(compose(no_encoding{}, halves)); }
  SECTION("sinusoidal") { check_gradients(sine); }
  SECTION("learned") { check_gradients(learned); }
  SECTION("rope") { check_gradients(halves); }
  SECTION("part of the channels, scaled") { check_gradients(pairs); }
  SECTION("alibi") { check_gradients(slopes); }
  SECTION("queries") { check_gradients(keys); }
  SECTION("gates") { check_gradients(doubles::forgetting{}); }
  SECTION("values") { check_gradients(values); }
  const doubles::previous<double> before{random_table(1, 8)};
  const doubles::emphasis<double> emphasis{random_table(7, 8)};
  const doubles::scaled_values<double> scaled{random_table(5, 4)};
  SECTION("embeddings that are read") { check_gradients(before); }
  SECTION("gates of tokens") { check_gradients(emphasis); }
  SECTION("values that are read") { check_gradients(scaled); }
  SECTION("embeddings that are read first, then more") { check_gradients(compose(halves, before, learned, scaled, values, slopes)); }
  SECTION("gates of tokens in a composition") { check_gradients(compose(emphasis, learned, keys, compose(scaled, values))); }
  SECTION("everything at once") {
    check_gradients(compose(learned, slopes, halves, keys, sine, doubles::forgetting{}, pairs, values, learned, no_encoding{}));
  }
  SECTION("a composition inside another") { check_gradients(compose(slopes, compose(values, rope(halves), learned), values)); }
}

TEST_CASE("inputs, their gradients and executors reach encoders that read them", "[gradients]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  const doubles::reader reader{std::make_shared<std::string>()};
  const attention_positions five{positions::range(5), positions::range(5)};
  block3 x(1, 5, 8);
  block4 scores(1, 2, 5, 5), y(1, 5, 2, 4);
  block2 gates(1, 7), d_gates(1, 30);
  const auto context = heads(y, axis_order::time_head);
  for (const executor& run : {executor(), executor(device)}) {
    encode_embeddings_backward(reader, x, x, {.gates = gates}, {.gates = d_gates}, five.queries, {}, run);
    encode_scores_backward(reader, scores, {.scale = 1, .key_gates = gates}, {.key_gates = d_gates}, five, {}, run);
    encode_context_backward(reader, context, scores, scores, {.scale = 1, .values = context}, {.values = context}, five, {}, run);
  }
  CHECK(*reader.log ==
        "add back 37 of 5 on 1; bias back 37 of 5 on 1; add_values back 10 of 5 on 1; "
        "add back 37 of 5 on 3; bias back 37 of 5 on 3; add_values back 10 of 5 on 3; ");
}

TEST_CASE("gradients of inputs that nobody wants are skipped", "[gradients]") {
  doubles::shaw_keys<double> shaw{random_table(3, 4)};
  gradient_buffer buffer(parameters(shaw));
  block4 d(1, 1, 2, 2), q = random_tensor<block4>(1, 1, 2, 1, 4);
  d.setConstant(1);
  const attention_positions two{positions::range(2), positions::range(2)};
  CHECK_NOTHROW(encode_scores_backward(shaw, d, {.scale = 1, .queries = heads(q, axis_order::time_head)}, {}, two, buffer.spans()));
  CHECK(buffer.spans()[0][4] == q(0, 0, 0, 0) + q(0, 1, 0, 0));
}

TEST_CASE("gradients of queries and keys must belong together", "[gradients]") {
  const rope<double> rope({.pairing = pairing::halves, .dim = 4});
  const attention_positions two{positions::range(2), positions::range(2)};
  block4 q(1, 2, 3, 4), k(1, 2, 2, 4);
  const auto d_q = heads(q, axis_order::time_head), d_k = heads(k, axis_order::time_head);
  CHECK_THROWS_WITH(encode_queries_keys_backward(rope, d_q, d_k, prepare(rope, two)),
                    "[encode_queries_keys_backward] the number of query heads must be a multiple of key heads but got 3 and 2");
}

TEST_CASE("gradients of queries and keys must be of the queries and keys that were written", "[gradients]") {
  const attention_positions two{positions::range(2), positions::range(2)};
  const auto refused = [&](auto encoder, auto&& change, const std::string& text) {
    const auto state = prepare(encoder, two);
    gradient_buffer buffer(parameters(encoder));
    block4 q = random_tensor<block4>(1, 1, 2, 2, 4), k = random_tensor<block4>(2, 1, 2, 1, 4), d_q = q, d_k = k;
    change(q, k, d_q, d_k);
    const auto key_gradients = d_k;
    reference::refuses(d_q, text, [&] {
      encode_queries_keys_backward(encoder, heads(d_q, axis_order::time_head), heads(d_k, axis_order::time_head),
                                   heads(q, axis_order::time_head), heads(k, axis_order::time_head), state, buffer.spans());
    });
    CHECK(reference::bit_difference(d_k, key_gradients) == "");
    for (const auto& span : buffer.spans()) CHECK(std::ranges::all_of(span, [](double value) { return value == 0; }));
  };
  const std::string shapes = "[encode_queries_keys_backward] gradients must have the shapes of what they are of but got ";
  const rope<double> plain({.pairing = pairing::halves, .dim = 4});
  const learned_rope<double> trained({.pairing = pairing::halves, .dim = 4}, std::array{0.5, 0.25});
  const auto wide_queries = [](auto& q, auto&, auto&, auto&) { q = random_tensor<block4>(3, 1, 2, 2, 6); };
  const auto long_keys = [](auto&, auto& k, auto&, auto&) { k = random_tensor<block4>(3, 1, 3, 1, 4); };
  refused(plain, wide_queries, shapes + "[1, 2, 2, 6] and [1, 2, 2, 4]");
  refused(trained, wide_queries, shapes + "[1, 2, 2, 6] and [1, 2, 2, 4]");
  refused(trained, long_keys, shapes + "[1, 3, 1, 4] and [1, 2, 1, 4]");
  refused(
      trained, [](auto& q, auto&, auto& d_q, auto&) { q = d_q = random_tensor<block4>(3, 2, 2, 2, 4); },
      "[encode_queries_keys_backward] queries and keys must have the same batch but got 2 and 1");
  // The keys do not fit the table: nothing is written to the queries either.
  refused(
      trained, [](auto&, auto& k, auto&, auto& d_k) { k = d_k = random_tensor<block4>(3, 1, 3, 1, 4); },
      "[learned_rope] time must match the table but got 3 and 2");
}

TEST_CASE("an encoder that is not trained passes gradients on alike, with what it wrote or without", "[gradients]") {
  const rope<double> plain({.pairing = pairing::interleaved, .dim = 4});
  const alibi<double> still({.heads = 2, .form = alibi_form::symmetric});
  const attention_positions five{positions::range(5), positions::range(5)};
  const auto q = random_tensor<block4>(1, 1, 5, 2, 4), k = random_tensor<block4>(2, 1, 5, 1, 4);
  const auto passes = [&](const auto& encoder, bool turns) {
    block4 with_q = q, with_k = k, without_q = q, without_k = k;
    encode_queries_keys_backward(encoder, heads(with_q, axis_order::time_head), heads(with_k, axis_order::time_head),
                                 heads(q, axis_order::time_head), heads(k, axis_order::time_head), prepare(encoder, five), {});
    encode_queries_keys_backward(encoder, heads(without_q, axis_order::time_head), heads(without_k, axis_order::time_head),
                                 prepare(encoder, five));
    CHECK(reference::bit_difference(with_q, without_q) == "");
    CHECK(reference::bit_difference(with_k, without_k) == "");
    CHECK((reference::bit_difference(with_q, q) != "") == turns);
    CHECK((reference::bit_difference(with_k, k) != "") == turns);
  };
  passes(plain, true);
  passes(still, false);
  passes(compose(plain, still), true);
}

TEST_CASE("an optimizer that knows no encoder lowers the loss", "[gradients]") {
  const auto descend = [](auto encoder) {
    attention<decltype(encoder)> block{.encoder = encoder};
    const double before = block.loss();
    for (int step = 0; step < 5; ++step) {
      const auto d = block.backward();
      const auto values = posenc::parameters(block.encoder);
      for (std::size_t p = 0; p < values.size(); ++p)
        for (std::size_t n = 0; n < values[p].values.size(); ++n) values[p].values[n] -= 0.05 * d.parameters.spans()[p][n];
    }
    return block.loss() - before;
  };
  CHECK(descend(doubles::learned<double>{random_table(7, 8)}) < 0);
  CHECK(descend(compose(rope<double>({.pairing = pairing::halves, .dim = 4}), doubles::shaw_keys<double>{random_table(5, 4)})) < 0);
  CHECK(descend(learned_rope<double>({.pairing = pairing::halves, .dim = 4}, std::array{0.5, 0.25})) < 0);
  CHECK(descend(sinusoidal<double>({.dim = 8, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}})) == 0);
}
