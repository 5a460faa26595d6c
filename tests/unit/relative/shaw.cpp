// SPDX-License-Identifier: MIT
#include <posenc/relative/shaw.hpp>

#include <posenc/alibi.hpp>
#include <posenc/combine/compose.hpp>
#include <posenc/gradients.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "random_parameters.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"
#include "reference/relative_pairs.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;

template <class S, int Rank = 4>
using rows = Eigen::Tensor<S, Rank, Eigen::RowMajor>;
constexpr auto order = axis_order::time_head;

/// The row of a pair as the paper counts: w_-k is the first, and one farther away is that of the end.
index_t row_of(position distance, index_t left, index_t right) {
  index_t row = 0;
  for (position d = -left; d < distance && d < right; ++d) ++row;
  return row;
}

}  // namespace

TEMPLATE_TEST_CASE("shaw adds the product with the clipped distance's key, and the weighted values", "[shaw]", float, double) {
  using S = TestType;
  for (const auto& at : reference::relative_cases())
    for (const auto& window : {std::pair<index_t, index_t>{4, 4}, {6, 2}, {0, 3}, {90, 80}})
      for (const index_t of_tables : {0, 2}) {
        const index_t left = window.first, right = window.second;
        const auto encoder = with_random_parameters(
            shaw<S>({.channels = 5, .left = left, .right = right, .tables = relative_tables::separate, .heads = of_tables}));
        const index_t queries = at.queries.time(), keys = at.keys.time();
        INFO(queries << " queries, " << left << " to the left, " << right << " to the right, " << of_tables << " heads");
        const auto q = random_tensor<rows<S>>(3, 2, queries, 2, 5);
        const auto weights = random_tensor<rows<S>>(4, 2, 2, queries, keys), before = random_tensor<rows<S>>(5, 2, 2, queries, keys);
        const auto part = [&](const tensor_view<const S, 3>& table, index_t h, position d, index_t c) {
          return static_cast<double>(table(of_tables ? h : 0, row_of(d, left, right), c));
        };
        const double tolerance = 8 * 5 * static_cast<double>(std::numeric_limits<S>::epsilon());
        auto scores = before;
        encoder.bias(scores, attention_inputs<S>{.scale = 0.5, .queries = heads(q, order)}, at, {.scale = 0.75, .causal = true});
        const auto expected = reference::relative_scores(before, at, {.scale = 0.75, .causal = true},
                                                         [&](index_t b, index_t h, index_t i, index_t, position d) {
                                                           double sum = 0;
                                                           for (index_t c = 0; c < 5; ++c)
                                                             sum += static_cast<double>(q(b, i, h, c)) * part(encoder.keys(), h, d, c);
                                                           return 0.5 * sum;
                                                         });
        CHECK(reference::difference(scores, expected, tolerance) == "");

        const auto v = random_tensor<rows<S>>(6, 2, queries, 2, 5);
        auto context = v;
        encoder.add_values(heads(context, order), weights, at);
        const auto wanted =
            reference::relative_context(v, weights, at, [&](index_t h, position d, index_t c) { return part(encoder.values(), h, d, c); });
        CHECK(reference::difference(context, wanted, tolerance * static_cast<double>(keys) / 2) == "");
      }
}

TEST_CASE("shaw has the values of the paper's formula", "[shaw]") {
  // k = 1: rows are those of the key before, the query itself, and the key after.
  const shaw<double> encoder({.channels = 2, .left = 1, .right = 1, .tables = relative_tables::separate},
                             {{1, 0, 0, 10, 100, 100}, {1, 2, 30, 40, 500, 600}});
  rows<double> q(1, 1, 1, 2), scores(1, 1, 1, 4), context(1, 1, 1, 2), weights(1, 1, 1, 4);
  q.setValues({{{{2, 3}}}});
  scores.setZero(), context.setZero();
  weights.setValues({{{{0.5, 0.25, 0.125, 0.125}}}});
  const attention_positions at{positions::range(1, 2), positions::range(4)};
  encoder.bias(scores, attention_inputs<double>{.scale = 0.5, .queries = heads(q, order)}, at);
  CHECK(std::vector<double>(scores.data(), scores.data() + 4) == std::vector<double>{1, 1, 15, 250});
  encoder.add_values(heads(context, order), weights, at);
  CHECK(context(0, 0, 0, 0) == 0.75 * 1 + 0.125 * 30 + 0.125 * 500);
  CHECK(context(0, 0, 0, 1) == 0.75 * 2 + 0.125 * 40 + 0.125 * 600);
}

TEST_CASE("shaw: a decode step behind a cache sees the distances of the whole, however lopsided the window", "[shaw]") {
  const auto encoder = with_random_parameters(shaw<float>({.channels = 8, .left = 5, .right = 2, .tables = relative_tables::keys}));
  const auto q = random_tensor<rows<float>>(2, 1, 20, 3, 8);
  rows<float> whole(1, 3, 20, 20), step(1, 3, 1, 20);
  whole.setZero();
  encoder.bias(whole, attention_inputs<float>{.scale = 0.3, .queries = heads(q, order)},
               attention_positions{positions::range(20), positions::range(20)});
  for (index_t i = 0; i < 20; ++i) {
    step.setZero();
    encoder.bias(step, attention_inputs<float>{.scale = 0.3, .queries = heads(q, order).slice(i, 1)},
                 attention_positions{positions::range(1, i), positions::range(20)});
    REQUIRE(reference::bit_difference(rows<float, 3>(step.chip(0, 2)), rows<float, 3>(whole.chip(i, 2))) == "");
  }
}

TEST_CASE("shaw with equal rows adds the same to all keys of a query", "[shaw]") {
  shaw<double> encoder({.channels = 3, .left = 2, .right = 2, .tables = relative_tables::keys});
  std::ranges::fill(encoder.parameters()[0].values, 0.5);
  const auto q = random_tensor<rows<double>>(2, 1, 6, 1, 3);
  rows<double> scores(1, 1, 6, 6);
  scores.setZero();
  encoder.bias(scores, attention_inputs<double>{.scale = 1, .queries = heads(q, order)},
               attention_positions{positions::range(6), positions::range(6)});
  for (index_t i = 0; i < 6; ++i)
    for (index_t j = 0; j < 6; ++j) CHECK(scores(0, 0, i, j) == scores(0, 0, i, 0));
}

TEST_CASE("shaw names what does not fit", "[shaw]") {
  constexpr auto keys = relative_tables::keys;
  reference::refuses("[shaw] channels must be positive but got 0",
                     [] { shaw<float>({.channels = 0, .left = 1, .right = 1, .tables = keys}); });
  reference::refuses("[shaw] left and right must not be negative but got -1 and 4",
                     [] { shaw<float>({.channels = 2, .left = -1, .right = 4, .tables = keys}); });
  reference::refuses("[shaw] left and right must not be negative but got 4 and -1",
                     [] { shaw<float>({.channels = 2, .left = 4, .right = -1, .tables = keys}); });
  reference::refuses("[shaw] left or right must be positive but got 0 and 0",
                     [] { shaw<float>({.channels = 2, .left = 0, .right = 0, .tables = keys}); });
  constexpr index_t most = index_t{1} << 62;
  reference::refuses("[shaw] left and right must lie below 2^62 but got " + std::to_string(most) + " and 1",
                     [] { shaw<float>({.channels = 2, .left = most, .right = 1, .tables = keys}); });
  reference::refuses("[shaw] left and right must lie below 2^62 but got 1 and " + std::to_string(most),
                     [] { shaw<float>({.channels = 2, .left = 1, .right = most, .tables = keys}); });
  reference::refuses("[shaw] heads must not be negative but got -1",
                     [] { shaw<float>({.channels = 2, .left = 1, .right = 1, .tables = keys, .heads = -1}); });
  reference::refuses("[shaw] the size in bytes must fit in 63 bits but got [1, 4611686018427387905, 2]",
                     [] { shaw<float>({.channels = 2, .left = most - 1, .right = 1, .tables = keys}); });
}

TEST_CASE("shaw encoders are equal where windows, tables and values are", "[shaw]") {
  const shaw_options options{.channels = 2, .left = 2, .right = 1, .tables = relative_tables::keys};
  const shaw<float> a(options), b(options), mirrored({.channels = 2, .left = 1, .right = 2, .tables = relative_tables::keys});
  CHECK(a == b);
  CHECK_FALSE(a == mirrored);
  CHECK(a.options() == options);
  CHECK_FALSE(a.options() == mirrored.options());
  shaw<float> other(options);
  other.parameters()[0].values[7] = 1;
  CHECK_FALSE(a == other);
  CHECK_FALSE(a == shaw<float>({.channels = 2, .left = 2, .right = 1, .tables = relative_tables::values}));
}

TEST_CASE("shaw acts at two stages of a block, alone and composed, with the gradients of both", "[shaw]") {
  const attention_positions at{positions::range(4), positions::range(4)};
  const auto encoder = with_random_parameters(shaw<float>({.channels = 4, .left = 2, .right = 1, .tables = relative_tables::separate}));
  auto both = compose(encoder, alibi<float>({.heads = 2, .form = alibi_form::symmetric}));
  const auto q = random_tensor<rows<float>>(2, 1, 4, 2, 4);
  const auto weights = random_tensor<rows<float>>(3, 1, 2, 4, 4);
  const attention_inputs<float> inputs{.scale = 0.5, .queries = heads(q, order)};
  auto scores = weights, one_by_one = weights, context = q, alone = q;
  encode_scores(both, scores, inputs, prepare(both, at));
  encoder.bias(one_by_one, inputs, at);
  alibi<float>({.heads = 2, .form = alibi_form::symmetric}).bias(one_by_one, at);
  CHECK(reference::bit_difference(scores, one_by_one) == "");
  encode_context(both, heads(context, order), weights, prepare(both, at));
  encoder.add_values(heads(alone, order), weights, at);
  CHECK(reference::bit_difference(context, alone) == "");

  auto trained = encoder;
  gradient_buffer<float> sums(both.parameters()), wanted(trained.parameters());
  auto d_weights = weights, d_scores = weights, d_weights_alone = weights, d_scores_alone = weights;
  encode_scores_backward(both, d_scores, inputs, attention_gradients<float>{}, prepare(both, at), sums.spans());
  encode_context_backward(both, heads(context, order), weights, d_weights, prepare(both, at), sums.spans());
  encoder.bias_backward(d_scores_alone, inputs, attention_gradients<float>{}, at, wanted.spans());
  encoder.add_values_backward(heads(context, order), weights, d_weights_alone, at, wanted.spans());
  CHECK(reference::bit_difference(d_weights, d_weights_alone) == "");
  for (std::size_t n = 0; n < 2; ++n) CHECK(reference::bit_difference(sums.spans()[n], wanted.spans()[n]) == "");
}
