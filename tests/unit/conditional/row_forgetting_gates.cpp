// SPDX-License-Identifier: MIT
#include <posenc/conditional/row_forgetting_gates.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/forgetting.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace posenc;
using reference::bit_difference;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;

constexpr index_t heads_ = 4, key_heads_ = 2, channels_ = 5, batch_ = 2;
constexpr position none = no_position;

struct placed {
  attention_positions at;
  std::vector<index_t> slots;
};
std::vector<placed> cases() {
  const auto packed = positions::packed(std::array{0, 2, 9});
  return {{{positions::range(4), positions::range(4)}, {0, 1, 2, 3}},
          {{positions::range(3, 5), positions::range(11)}, {5, 6, 7}},
          {{packed, packed}, {0, 1, 2, 3, 4, 5, 6, 7, 8}},
          {{positions::ids(std::vector<position>{none, 6, 9}), positions::ids(std::vector<position>{none, 2, 4, none, 5, none, 6, 9})},
           {-1, 6, 7}}};
}

template <class S>
struct block {
  tensor4<S> scores, queries, keys;
  static block random(const attention_positions& at) {
    return {random_tensor<tensor4<S>>(1, batch_, heads_, at.queries.time(), at.keys.time()),
            random_tensor<tensor4<S>>(2, batch_, at.queries.time(), heads_, channels_),
            random_tensor<tensor4<S>>(3, batch_, at.keys.time(), key_heads_, channels_)};
  }
  attention_inputs<S> inputs() const {
    return {.scale = 1.0, .queries = heads(queries, axis_order::time_head), .keys = heads(keys, axis_order::time_head)};
  }
};

row_forgetting_gates_options options() { return {.heads = heads_, .channels = channels_, .log_scale = 0.75}; }

template <class S>
tensor4<S> expected(const block<S>& given, const placed& one, const score_pass& pass) {
  tensor4<S> all = given.scores;
  std::vector<position> keys;
  for (index_t t = 0; t < one.at.keys.time(); ++t) keys.push_back(one.at.keys(0, t));
  for (index_t b = 0; b < batch_; ++b)
    for (index_t h = 0; h < heads_; ++h)
      for (index_t i = 0; i < all.dimension(2); ++i)
        for (index_t j = 0; j < all.dimension(3); ++j) {
          const index_t own = one.slots[static_cast<std::size_t>(i)];
          const position key = keys[static_cast<std::size_t>(j)];
          double bias = 0;
          if (own > j && reference::one_document(keys, own, j))
            bias = reference::gate_sum(keys, j, own - 1, [&](index_t t) {
              double logit = 0;
              for (index_t c = 0; c < channels_; ++c)
                logit += static_cast<double>(given.queries(b, i, h, c)) * static_cast<double>(given.keys(b, t, h / 2, c));
              return 0.75L * reference::log_sigmoid(logit / std::sqrt(5.0));
            });
          S& score = all(b, h, i, j);
          score = score * static_cast<S>(pass.scale) + static_cast<S>(bias);
          if (pass.causal && own >= 0 && key != none && key > one.at.queries(0, i)) score = -std::numeric_limits<S>::infinity();
        }
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("row_forgetting_gates add what each query forgets", "[row_forgetting_gates]", float, double) {
  using S = TestType;
  for (const auto& one : cases())
    for (const auto& pass : {score_pass{}, score_pass{.scale = 0.5, .causal = true}}) {
      auto given = block<S>::random(one.at);
      for (index_t t = 0; t < one.at.keys.time(); ++t)
        if (one.at.keys(0, t) == none) given.keys(1, t, 1, 2) = std::numeric_limits<S>::quiet_NaN();  // padding
      const row_forgetting_gates<S> encoder(options());
      auto scores = given.scores;
      encoder.bias(scores, given.inputs(), one.at, pass);
      CHECK(reference::difference(scores, expected(given, one, pass), 40 * std::numeric_limits<S>::epsilon()) == "");

      auto plain = given.scores, staged = given.scores;
      encoder.bias(plain, given.inputs(), one.at);
      encode_scores(encoder, staged, given.inputs(), prepare(encoder, one.at));
      CHECK(bit_difference(staged, plain) == "");

      // Gate keys win over keys.
      auto other = given;
      other.keys.setConstant(S(7));
      auto inputs = other.inputs();
      inputs.gate_keys = heads(std::as_const(given.keys), axis_order::time_head);
      auto gated = given.scores;
      encoder.bias(gated, inputs, one.at, pass);
      CHECK(bit_difference(gated, scores) == "");
    }
}

TEST_CASE("two biases of rows by hand", "[row_forgetting_gates]") {
  tensor4<double> scores(1, 1, 3, 3), queries(1, 3, 1, 4), keys(1, 3, 1, 4);
  scores.setZero(), queries.setZero(), keys.setZero();
  queries(0, 2, 0, 1) = 2;
  keys(0, 0, 0, 1) = 3;
  row_forgetting_gates<double>({.heads = 1, .channels = 4})
      .bias(scores,
            attention_inputs<double>{
                .scale = 1.0, .queries = heads(queries, axis_order::time_head), .keys = heads(keys, axis_order::time_head)},
            {positions::range(3), positions::range(3)});
  const double half = -std::log(2.0), wanted[3][3] = {{0, 0, 0}, {half, 0, 0}, {half - std::log1p(std::exp(-3.0)), half, 0}};
  for (index_t i = 0; i < 3; ++i)
    for (index_t j = 0; j < 3; ++j) CHECK(std::abs(scores(0, 0, i, j) - wanted[i][j]) <= 1e-15);
}

TEST_CASE("a step, a chunk, a batch row and a document have the bits of the whole", "[row_forgetting_gates]") {
  constexpr index_t time = 40;
  const attention_positions at{positions::range(time), positions::range(time)};
  const auto given = block<float>::random(at);
  const row_forgetting_gates<float> encoder(options());
  auto whole = given.scores, grown = given.scores;
  encoder.bias(whole, given.inputs(), at, {.scale = 0.3});
  for (index_t from = 0; const index_t count : {1, 30, 1, 8}) {
    const index_t keys = from + count;
    auto inputs = given.inputs();
    inputs.queries = inputs.queries.slice(from, count);
    inputs.keys = inputs.keys.slice(0, keys);
    encoder.bias(score_view<float>(&grown(0, 0, from, 0), {batch_, heads_, count, keys}, view_of(grown).strides()), inputs,
                 {positions::range(count, from), positions::range(keys)}, {.scale = 0.3});
    from = keys;
  }
  for (index_t n = 0; n < whole.size(); ++n)
    if (n % time <= n / time % time) REQUIRE(reference::same_bits(grown.data()[n], whole.data()[n]));

  tensor4<float> row = given.scores.slice(std::array<index_t, 4>{1, 0, 0, 0}, std::array<index_t, 4>{1, heads_, time, time});
  const block<float> second{row,
                            given.queries.slice(std::array<index_t, 4>{1, 0, 0, 0}, std::array<index_t, 4>{1, time, heads_, channels_}),
                            given.keys.slice(std::array<index_t, 4>{1, 0, 0, 0}, std::array<index_t, 4>{1, time, key_heads_, channels_})};
  encoder.bias(row, second.inputs(), at, {.scale = 0.3});
  CHECK(std::equal(row.data(), row.data() + row.size(), &whole(1, 0, 0, 0)));

  Eigen::Tensor<float, 4> by_columns = given.scores.swap_layout();
  const Eigen::Tensor<float, 4> queries = given.queries.swap_layout(), keys = given.keys.swap_layout();
  encoder.bias(
      by_columns,
      attention_inputs<float>{.scale = 1.0, .queries = heads(queries, axis_order::time_head), .keys = heads(keys, axis_order::time_head)},
      at, {.scale = 0.3});
  CHECK(std::equal(by_columns.data(), by_columns.data() + by_columns.size(), whole.data()));
}

TEST_CASE("any number of threads gives each row the same bits", "[row_forgetting_gates]") {
  const attention_positions at{positions::range(80), positions::range(80)};
  const auto given = block<float>::random(at);
  const row_forgetting_gates<float> encoder(options());
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  auto one = given.scores, three = given.scores;
  encoder.bias(one, given.inputs(), at);
  encoder.bias(three, given.inputs(), at, device);
  CHECK(bit_difference(one, three) == "");
  tensor4<float> keys_of_one = given.keys, keys_of_three = given.keys;
  encoder.bias_backward(one, given.inputs(), {.keys = heads(keys_of_one, axis_order::time_head)}, at, {});
  encoder.bias_backward(three, given.inputs(), {.keys = heads(keys_of_three, axis_order::time_head)}, at, {}, device);
  CHECK(bit_difference(keys_of_one, keys_of_three) == "");
}

TEMPLATE_TEST_CASE("scores and channels of 16 bits are those of float, rounded once", "[row_forgetting_gates]", Eigen::half,
                   Eigen::bfloat16) {
  const auto one = cases()[3];
  const auto random = block<float>::random(one.at);
  const block<TestType> stored{random.scores.template cast<TestType>(), random.queries.template cast<TestType>(),
                               random.keys.template cast<TestType>()};
  const block<float> wide{stored.scores.template cast<float>(), stored.queries.template cast<float>(), stored.keys.template cast<float>()};
  const row_forgetting_gates<float> encoder(options());
  auto scores = stored.scores;
  auto of_wide = wide.scores;
  encoder.bias(scores, stored.inputs(), one.at, {.scale = 0.3});
  encoder.bias(of_wide, wide.inputs(), one.at, {.scale = 0.3});
  const tensor4<TestType> rounded = of_wide.template cast<TestType>();
  CHECK(bit_difference(scores, rounded) == "");
}

TEST_CASE("log gates of rows are -32768 at least, and have no gradient there", "[row_forgetting_gates]") {
  tensor4<float> scores(1, 1, 3, 3), queries(1, 3, 1, 1), keys(1, 3, 1, 1), d_keys(1, 3, 1, 1);
  scores.setZero(), queries.setConstant(-1e30f), keys.setConstant(1e30f), d_keys.setZero();
  keys(0, 1, 0, 0) = 0;
  const row_forgetting_gates<float> encoder({.heads = 1, .channels = 1});
  const attention_inputs<float> inputs{.scale = 1.0,
                                       .queries = heads(std::as_const(queries), axis_order::time_head),
                                       .keys = heads(std::as_const(keys), axis_order::time_head)};
  const attention_positions at{positions::range(3), positions::range(3)};
  encoder.bias(scores, inputs, at);
  CHECK(scores(0, 0, 1, 0) == -32768);
  CHECK(std::abs(scores(0, 0, 2, 0) + 32768 + std::log(2.0f)) <= 0.002f);
  scores.setConstant(1);
  encoder.bias_backward(scores, inputs, {.keys = heads(d_keys, axis_order::time_head)}, at, {});
  CHECK(d_keys(0, 0, 0, 0) == 0);
  CHECK(d_keys(0, 1, 0, 0) == -1e30f);  // two pairs and a slope of 1/2
  CHECK(d_keys(0, 2, 0, 0) == 0);
}

TEST_CASE("the gradients of queries and keys are those of finite differences", "[row_forgetting_gates]") {
  for (const auto& one : cases())
    for (const bool gate_keys : {false, true}) {
      auto given = block<double>::random(one.at);
      const auto weights = random_tensor<tensor4<double>>(9, batch_, heads_, one.at.queries.time(), one.at.keys.time());
      const row_forgetting_gates<double> encoder(options());
      const score_pass pass{.scale = 0.5, .causal = gate_keys};
      const auto inputs = [&] {
        auto all = given.inputs();
        if (gate_keys) all.gate_keys = all.keys, all.keys = {};
        return all;
      };
      const auto loss = [&] {
        auto scores = given.scores;
        encoder.bias(scores, inputs(), one.at, pass);
        double sum = 0;
        for (index_t n = 0; n < scores.size(); ++n)
          if (std::isfinite(scores.data()[n])) sum += scores.data()[n] * weights.data()[n];
        return sum;
      };
      auto d = weights;
      tensor4<double> d_queries = given.queries, d_keys = given.keys;
      d_queries.setConstant(1), d_keys.setConstant(2);
      attention_gradients<double> into{.queries = heads(d_queries, axis_order::time_head)};
      (gate_keys ? into.gate_keys : into.keys) = heads(d_keys, axis_order::time_head);
      encoder.bias_backward(d, inputs(), into, one.at, {}, pass);
      const auto check = [&](tensor4<double>& values, const tensor4<double>& got, double start) {
        const auto wanted = reference::derivatives({values.data(), static_cast<std::size_t>(values.size())}, loss, 1e-5);
        for (std::size_t n = 0; n < wanted.size(); ++n) CHECK(std::abs(got.data()[n] - start - wanted[n]) <= 1e-8);
      };
      check(given.queries, d_queries, 1);
      check(given.keys, d_keys, 2);
      auto scores = given.scores;
      encoder.bias(scores, inputs(), one.at, pass);
      for (index_t n = 0; n < d.size(); ++n) CHECK(d.data()[n] == (std::isfinite(scores.data()[n]) ? 0.5 * weights.data()[n] : 0));
      auto alone = weights;
      encoder.bias_backward(alone, inputs(), {}, one.at, {}, pass);
      CHECK(bit_difference(alone, d) == "");
    }
}

TEST_CASE("row_forgetting_gates are compared by their options", "[row_forgetting_gates]") {
  CHECK(row_forgetting_gates<float>(options()) == row_forgetting_gates<float>(options()));
  CHECK_FALSE(row_forgetting_gates<float>(options()) == row_forgetting_gates<float>({.heads = heads_, .channels = channels_}));
}

TEST_CASE("row_forgetting_gates refuse what does not fit, before they write", "[row_forgetting_gates]") {
  using reference::refuses;
  const std::string who = "[row_forgetting_gates";
  refuses(who + "] heads must be positive but got 0", [] { row_forgetting_gates<float>({.heads = 0, .channels = 1}); });
  refuses(who + "] channels must be positive but got 0", [] { row_forgetting_gates<float>({.heads = 1, .channels = 0}); });
  refuses(who + "] the scale must be finite and not negative but got -1",
          [] { row_forgetting_gates<float>({.heads = 1, .channels = 1, .log_scale = -1}); });
  const attention_positions at{positions::range(3), positions::range(3)};
  auto given = block<float>::random(at);
  const row_forgetting_gates<float> encoder(options());
  std::vector<float> memory(batch_ * heads_ * 9, 1.0f);
  const score_view<float> scores(memory.data(), {batch_, heads_, 3, 3});
  const auto refused = [&](const std::string& text, const score_view<float>& s, const attention_inputs<float>& inputs,
                           const attention_positions& where) {
    refuses(memory, who + text, [&] { encoder.bias(s, inputs, where); });
    refuses(memory, who + text, [&] { encoder.bias_backward(s, inputs, {}, where, {}); });
  };
  auto inputs = given.inputs();
  refused("] heads must match the encoder but got 4 and 3", score_view<float>(memory.data(), {batch_, 3, 3, 3}), inputs, at);
  refused(" keys] time must match the positions but got 3 and 4", scores, inputs, {positions::range(3), positions::range(4)});
  refused("] each query's position must be among the keys' but got 3", scores, inputs, {positions::range(3, 1), positions::range(3)});
  refused("] the last axis must be contiguous but got 2", score_view<float>(memory.data(), {batch_, heads_, 1, 3}, {36, 9, 9, 2}), inputs,
          {positions::range(1), positions::range(3)});
  inputs.queries = {};
  refused("] the queries must be given but got none", scores, inputs, at);
  inputs = given.inputs(), inputs.keys = {};
  refused("] the keys must be given but got none", scores, inputs, at);
  inputs = given.inputs(), inputs.keys = inputs.keys.slice(0, 2);
  refused("] the keys must be [batch, time] of the scores but got [2, 2, 2, 5] and [2, 4, 3, 3]", scores, inputs, at);
  inputs = given.inputs();
  tensor4<float> small(batch_, 2, heads_, channels_);
  refuses(memory, who + "] gradients must have the shapes of what they are of but got [2, 3, 4, 5] and [2, 2, 4, 5]",
          [&] { encoder.bias_backward(scores, inputs, {.queries = heads(small, axis_order::time_head)}, at, {}); });
  refuses(memory, who + "] gradients must have the shapes of what they are of but got [2, 3, 2, 5] and [2, 2, 4, 5]",
          [&] { encoder.bias_backward(scores, inputs, {.keys = heads(small, axis_order::time_head)}, at, {}); });
  const std::span<float> spare[] = {memory};
  refuses(memory, who + "] there must be one gradient span per parameter but got 0 and 1",
          [&] { encoder.bias_backward(scores, inputs, {}, at, spare); });
}
