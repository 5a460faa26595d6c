// SPDX-License-Identifier: MIT
/// \file  Disentangled attention.
#include <posenc/relative/deberta.hpp>

#include "catch.hpp"
#include "reference/contextual_bias.hpp"
#include "reference/deberta.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using reference::attention_block, reference::bit_difference, reference::difference, reference::tensor;

constexpr index_t head_count = 4, width = 5;
constexpr double scale = 0.3;
const deberta_distances exact = deberta_exact{.max_relative = 4};
const deberta_distances microsoft = deberta_buckets_options{.bucket_size = 8, .max_position = 16, .clamp = deberta_clamp::microsoft};
const deberta_distances huggingface = deberta_buckets_options{.bucket_size = 8, .max_position = 16, .clamp = deberta_clamp::huggingface};
const std::vector<deberta_terms> all_terms{{.c2p = true},
                                           {.p2c = true},
                                           {.p2p = true},
                                           {.c2p = true, .p2c = true},
                                           {.c2p = true, .p2p = true},
                                           {.c2p = true, .p2c = true, .p2p = true}};

template <class S>
deberta<S> random_deberta(const deberta_distances& distances, const deberta_terms& terms, index_t heads = head_count,
                          index_t channels = width) {
  deberta<S> made({.heads = heads, .channels = channels, .terms = terms, .distances = distances});
  std::uint64_t seed = 40;
  for (auto& one : made.parameters()) fill(one.values, seed++);
  return made;
}

/// The same encoder, pair by pair.
template <class S>
reference::deberta pairs_of(deberta<S> encoder, double factor) {
  reference::deberta made{.span = encoder.span(),
                          .channels = encoder.channels(),
                          .max_position = 0,
                          .clamps = false,
                          .terms = encoder.options().terms,
                          .scale = factor,
                          .keys = {},
                          .queries = {}};
  const deberta_distances distances = encoder.options().distances;
  if (const auto* buckets = std::get_if<deberta_buckets_options>(&distances)) {
    made.max_position = buckets->max_position;
    made.clamps = buckets->clamp == deberta_clamp::microsoft;
  }
  for (const auto& one : encoder.parameters()) (one.name == "keys" ? made.keys : made.queries).assign(one.values.begin(), one.values.end());
  return made;
}

TEST_CASE("deberta: the terms are the sums of products, in double and in float", "[deberta]") {
  for (const auto& [at, batch] : reference::placed_blocks())
    for (const auto& terms : all_terms)
      for (const auto& distances : {exact, microsoft, huggingface})
        for (const bool causal : {false, true}) {
          const score_pass pass{.scale = causal ? 0.5 : 1, .causal = causal};
          const auto block = attention_block<double>::random(at, batch, head_count, 2, width, 1);
          const auto encoder = random_deberta<double>(distances, terms);
          const auto expected = contextual_bias(block, at, pass, pairs_of(encoder, scale));
          auto scores = block.scores;
          encoder.bias(scores, block.inputs(scale), at, pass);
          CHECK(difference(scores, expected, 8 * 2.3e-16 * width * reference::size_of(expected)) == "");
        }
  const auto [at, batch] = reference::placed_blocks()[1];
  const auto encoder = random_deberta<float>(microsoft, {.c2p = true, .p2c = true, .p2p = true});
  const auto block = attention_block<float>::random(at, batch, head_count, 2, width, 1);
  const auto expected = contextual_bias(block.as<double>(), at, {}, pairs_of(encoder, scale));
  auto scores = block.scores;
  encoder.bias(scores, block.inputs(scale), at);
  CHECK(difference(scores, tensor<float>(expected.cast<float>()), 8 * 1.2e-7 * width * reference::size_of(expected)) == "");
}

TEST_CASE("deberta: many queries and keys are cut into blocks", "[deberta]") {
  const attention_positions at{positions::range(300), positions::range(201, 60)};
  const auto block = attention_block<double>::random(at, 1, 1, 1, 3, 1);
  const auto encoder = random_deberta<double>(microsoft, {.c2p = true, .p2c = true}, 1, 3);
  const auto expected = contextual_bias(block, at, {}, pairs_of(encoder, scale));
  auto scores = block.scores;
  encoder.bias(scores, block.inputs(scale), at);
  CHECK(difference(scores, expected, 8 * 2.3e-16 * 3 * reference::size_of(expected)) == "");
}

TEST_CASE("deberta: two pairs by hand", "[deberta]") {
  // One head of one channel, span 2: rows 0 to 3 are delta -2, -1, 0, 1.
  const std::vector<double> keys{1, 10, 100, 1000}, queries{2, 20, 200, 2000};
  const deberta_options options{.heads = 1,
                                .channels = 1,
                                .terms = deberta_terms{.c2p = true, .p2c = true, .p2p = true},
                                .distances = deberta_exact{.max_relative = 2}};
  attention_block<double> block{tensor<double>(1, 1, 2, 2), tensor<double>(1, 2, 1, 1), tensor<double>(1, 2, 1, 1)};
  block.scores.setZero();
  block.queries.setValues({{{{3}}, {{5}}}});
  block.keys.setValues({{{{7}}, {{11}}}});
  const deberta<double> encoder(options, keys, queries);
  auto scores = block.scores;
  encoder.bias(scores, block.inputs(0.5), {positions::range(2), positions::range(2)});
  CHECK(scores(0, 0, 1, 0) == 0.5 * (5 * 1000 + 7 * 2000 + 2000 * 1000));
  CHECK(scores(0, 0, 0, 1) == 0.5 * (3 * 10 + 11 * 20 + 200 * 10));
  scores = block.scores;
  encoder.bias(scores, block.inputs(0.5), {positions::range(2, 900), positions::range(2)});
  CHECK(scores(0, 0, 0, 1) == 0.5 * (3 * 1000 + 11 * 2000 + 2000 * 1000));
  scores = block.scores;
  encoder.bias(scores, block.inputs(0.5), {positions::range(2, -900), positions::range(2)});
  CHECK(scores(0, 0, 1, 0) == 0.5 * (5 * 1 + 7 * 2 + 2 * 1));
}

TEST_CASE("deberta: c2p with exact distances is a clipped relative key for each distance", "[deberta]") {
  // Shaw et al. 2018, whose table has keys of distances -4 to 4: the last row of DeBERTa's stands for 4 and for 3.
  const attention_positions at{positions::range(30, 3), positions::range(31)};
  const auto block = attention_block<double>::random(at, 1, 1, 1, width, 1);
  const auto encoder = random_deberta<double>(exact, {.c2p = true}, 1);
  std::vector<double> clipped;  // by the key's position minus the query's
  const std::vector<double> rows = pairs_of(encoder, scale).keys;
  for (const std::ptrdiff_t row : {7, 7, 6, 5, 4, 3, 2, 1, 0})
    clipped.insert(clipped.end(), rows.begin() + row * width, rows.begin() + (row + 1) * width);
  const detail::relative_product<double> product{
      .vectors = {.data = clipped.data(), .distance = width, .count = 9, .low = -4, .clip = true}, .at = at, .factor = scale};
  auto expected = block.scores, scores = block.scores;
  detail::add_relative_products(score_view<double>(expected), score_view<double>(expected), block.inputs(scale).queries, product, {});
  encoder.bias(scores, block.inputs(scale), at);
  CHECK(bit_difference(scores, expected) == "");
}

TEST_CASE("deberta: far ids have the rows of the ends", "[deberta]") {
  constexpr position far = positions::limit;
  const attention_positions at{positions::ids(std::vector{far, -far}), positions::ids(std::vector{-far, -far + 1, far - 1, far})};
  const auto block = attention_block<double>::random(at, 1, head_count, 2, width, 1);
  const auto encoder = random_deberta<double>(microsoft, {.c2p = true, .p2c = true});
  auto scores = block.scores, expected = block.scores;
  encoder.bias(scores, block.inputs(scale), at);
  const attention_positions near{positions::ids(std::vector{900, -900}), positions::ids(std::vector{-900, -899, 899, 900})};
  encoder.bias(expected, block.inputs(scale), near);
  CHECK(bit_difference(scores, expected) == "");
}

TEST_CASE("deberta: chunks, threads, other rows of the batch, storage and its order change no bit", "[deberta]") {
  reference::check_bits(random_deberta<float>(huggingface, {.c2p = true, .p2c = true, .p2p = true}), {97, 1, 1, 1, 50});
}

/// Gradients of the sum of weights * scores, by differences of the pairwise form.
void check_gradient(const deberta_distances& distances, const deberta_terms& terms, std::size_t which, bool causal) {
  const auto placed = reference::placed_blocks()[which];
  const attention_positions& at = placed.at;
  auto block = attention_block<double>::random(at, placed.batch, 2, terms.p2c ? 1 : 2, 3, 1);
  const auto encoder = random_deberta<double>(distances, terms, 2, 3);
  const score_pass pass{.scale = 0.5, .causal = causal};
  auto pairs = pairs_of(encoder, scale);
  auto weights = block.scores;
  fill(weights, 9);
  const auto loss = [&] { return reference::unmasked_dot(weights, contextual_bias(block, at, pass, pairs)); };
  const auto of = [&](auto& x) { return reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, 0.25); };
  auto d_scores = weights, d_queries = block.queries, d_keys = block.keys;
  d_queries.setConstant(2), d_keys.setConstant(3);
  auto trained = encoder;
  gradient_buffer<double> d(trained.parameters());
  for (const auto& span : d.spans()) std::ranges::fill(span, 1.0);
  encoder.bias_backward(d_scores, block.inputs(scale),
                        {.queries = heads(d_queries, axis_order::time_head), .keys = heads(d_keys, axis_order::time_head)}, at, d.spans(),
                        pass);
  const auto plus = [](std::vector<double> values, double start) {
    for (double& value : values) value += start;
    return values;
  };
  CHECK(difference(d_scores, of(block.scores), 1e-11) == "");
  CHECK(difference(d_queries, plus(of(block.queries), 2), 1e-11) == "");
  CHECK(difference(d_keys, plus(of(block.keys), 3), 1e-11) == "");
  if (!pairs.keys.empty()) CHECK(difference(d.spans().front(), plus(of(pairs.keys), 1), 1e-11) == "");
  if (!pairs.queries.empty()) CHECK(difference(d.spans().back(), plus(of(pairs.queries), 1), 1e-11) == "");
}
TEST_CASE("deberta: gradients are the derivatives", "[deberta]") {
  for (const auto& terms : all_terms) {
    check_gradient(microsoft, terms, 0, false);
    check_gradient(exact, terms, 3, true);
    check_gradient(huggingface, terms, 2, true);
  }
}

TEST_CASE("deberta: gradients have the same bits for any number of threads, in blocks too", "[deberta]") {
  const attention_positions at{positions::range(150), positions::range(100)};
  const auto block = attention_block<float>::random(at, 2, head_count, 2, width, 1);
  auto encoder = random_deberta<float>(exact, {.c2p = true, .p2c = true, .p2p = true});
  const auto run = [&](const executor& threads, const auto& inputs, gradient_spans<float> d, auto& d_queries, auto& d_keys) {
    auto d_scores = block.scores;
    encoder.bias_backward(d_scores, inputs,
                          {.queries = heads(d_queries, axis_order::time_head), .keys = heads(d_keys, axis_order::time_head)}, at, d,
                          threads);
  };
  Eigen::ThreadPool pool(3);
  Eigen::ThreadPoolDevice device(&pool, 3);
  gradient_buffer<float> one(encoder.parameters()), three(encoder.parameters());
  tensor<float> d_queries = block.queries, d_keys = block.keys, also_queries = block.queries, also_keys = block.keys;
  run({}, block.inputs(scale), one.spans(), d_queries, d_keys);
  run(executor(device), block.inputs(scale), three.spans(), also_queries, also_keys);
  CHECK(bit_difference(also_queries, d_queries) == "");
  CHECK(bit_difference(also_keys, d_keys) == "");
  for (std::size_t n = 0; n < 2; ++n) CHECK(bit_difference(three.spans()[n], one.spans()[n]) == "");

  // The bias is bilinear: the gradient along the queries alone is the bias without what only keys and tables give.
  const auto sum = [](const auto& a, const auto& b) { return reference::dot(a, b); };
  auto bias = block.scores;
  bias.setZero();
  const auto only = [&](deberta_terms terms) {
    std::vector<float> keys(encoder.parameters()[0].values.begin(), encoder.parameters()[0].values.end()),
        queries(encoder.parameters()[1].values.begin(), encoder.parameters()[1].values.end());
    if (!terms.c2p && !terms.p2p) keys.clear();
    if (!terms.p2c && !terms.p2p) queries.clear();
    auto made = bias;
    deberta<float>({.heads = head_count, .channels = width, .terms = terms, .distances = exact}, keys, queries)
        .bias(made, block.inputs(scale), at);
    return sum(made, block.scores);
  };
  const tensor<float> moved_queries = d_queries - block.queries, moved_keys = d_keys - block.keys;
  CHECK(sum(moved_queries, block.queries) == Approx(only({.c2p = true})).margin(1e-3));
  CHECK(sum(moved_keys, block.keys) == Approx(only({.p2c = true})).margin(1e-3));
  CHECK(sum(one.spans()[0], encoder.parameters()[0].values) == Approx(only({.c2p = true, .p2p = true})).margin(1e-3));
  CHECK(sum(one.spans()[1], encoder.parameters()[1].values) == Approx(only({.p2c = true, .p2p = true})).margin(1e-3));
}

TEST_CASE("deberta: the score scale counts the terms", "[deberta]") {
  const auto scale_of = [](const deberta_terms& terms) { return score_scale(random_deberta<float>(exact, terms), 64); };
  CHECK(scale_of({.c2p = true}) == 1 / std::sqrt(128.0));
  CHECK(scale_of({.c2p = true, .p2c = true}) == 1 / std::sqrt(192.0));
  CHECK(scale_of({.c2p = true, .p2c = true, .p2p = true}) == 1 / std::sqrt(256.0));
}

TEST_CASE("deberta: parameters, rows and equality", "[deberta]") {
  auto both = random_deberta<float>(microsoft, {.c2p = true, .p2c = true});
  REQUIRE(both.parameters().size() == 2);
  CHECK(both.parameters()[0].name == "keys");
  CHECK(both.parameters()[1].name == "queries");
  CHECK(both.parameters()[1].shape == std::vector<index_t>{head_count, 16, width});
  CHECK(random_deberta<float>(microsoft, {.c2p = true}).parameters()[0].name == "keys");
  CHECK(random_deberta<float>(microsoft, {.p2c = true}).parameters().at(0).name == "queries");
  CHECK(random_deberta<float>(microsoft, {.c2p = true}).parameters().size() == 1);
  CHECK(both.row(0) == 8);
  CHECK(both.row(-3) == 11);
  CHECK(both.row(16) == 1);
  CHECK(random_deberta<float>(huggingface, {.c2p = true}).row(16) == 0);
  CHECK(both.row(-1000) == 15);

  auto other = both;
  CHECK(other == both);
  other.parameters()[0].values[3] += 1;
  CHECK(!(other == both));
  other = both;
  other.parameters()[1].values[3] += 1;
  CHECK(!(other == both));
  const auto blank = [](const deberta_distances& distances, const deberta_terms& terms) {
    return deberta<float>({.heads = 2, .channels = 3, .terms = terms, .distances = distances});
  };
  CHECK(!(blank(microsoft, {.c2p = true}) == blank(huggingface, {.c2p = true})));
  CHECK(!(blank(exact, {.c2p = true}) == blank(exact, {.c2p = true, .p2p = true})));
}

TEST_CASE("deberta: what does not fit is refused, and nothing is written", "[deberta]") {
  using reference::refuses;
  const auto make = [](index_t heads, index_t channels, const deberta_terms& terms, const deberta_distances& distances) {
    return [=] { deberta<float>({.heads = heads, .channels = channels, .terms = terms, .distances = distances}); };
  };
  const deberta_terms some{.c2p = true, .p2c = true};
  refuses("[deberta] heads must be positive but got 0", make(0, 3, some, exact));
  refuses("[deberta] channels must be positive but got -1", make(2, -1, some, exact));
  refuses("[deberta] there must be a term of c2p, p2c and p2p but got none", make(2, 3, {}, exact));
  refuses("[deberta] max_relative must lie in [1, 2^20] but got 0", make(2, 3, some, deberta_exact{.max_relative = 0}));
  refuses("[deberta] max_relative must lie in [1, 2^20] but got 1048577", make(2, 3, some, deberta_exact{.max_relative = 1048577}));
  refuses("[deberta] max_position must be 2^20 at most but got 1048577",
          make(2, 3, some, deberta_buckets_options{.bucket_size = 8, .max_position = 1048577, .clamp = deberta_clamp::microsoft}));
  refuses("[deberta_buckets] bucket_size must be even and 4 or more but got 5",
          make(2, 3, some, deberta_buckets_options{.bucket_size = 5, .max_position = 9, .clamp = deberta_clamp::microsoft}));
  refuses("[deberta] the size in bytes must fit in 63 bits but got [4611686018427387904, 8, 3]", make(index_t{1} << 62, 3, some, exact));
  const std::vector<float> table(48), none;
  refuses("[deberta] keys and queries must be [heads, 2 span, channels], or empty where no term reads them but got 48 and 0 and 48 and 48",
          [&] { deberta<float>({.heads = 2, .channels = 3, .terms = deberta_terms{.c2p = true}, .distances = exact}, table, table); });
  refuses("[deberta] keys and queries must be [heads, 2 span, channels], or empty where no term reads them but got 48 and 48 and 0 and 48",
          [&] { deberta<float>({.heads = 2, .channels = 3, .terms = some, .distances = exact}, none, table); });

  const attention_positions at{positions::range(4), positions::range(6)};
  auto block = attention_block<float>::random(at, 2, head_count, 2, width, 1);
  const auto encoder = random_deberta<float>(exact, some);
  const auto refused = [&](const std::string& text, const attention_inputs<float>& inputs, const attention_positions& given) {
    refuses(block.scores, text, [&] { encoder.bias(block.scores, inputs, given); });
  };
  const auto good = block.inputs(scale);
  auto bad = good;
  bad.queries = {};
  refused("[deberta] the queries must be given but got none", bad, at);
  bad = good, bad.keys = {};
  refused("[deberta] the keys must be given but got none", bad, at);
  bad = good, bad.keys = bad.keys.slice(1, 5);
  refused("[deberta] the keys must be [batch, time] of the scores but got [2, 5, 2, 5] and [2, 4, 4, 6]", bad, at);
  bad = good, bad.queries = bad.keys;
  refused("[deberta] the queries must be [batch, time, head] of the scores but got [2, 6, 2, 5] and [2, 4, 4, 6]", bad, at);
  refused("[deberta queries] time must match the positions but got 4 and 5", good, {positions::range(5), at.keys});
  const auto others = random_deberta<float>(exact, some, 3);
  refuses(block.scores, "[deberta] heads must match the encoder but got 3 and 4", [&] { others.bias(block.scores, good, at); });
  const auto narrow = random_deberta<float>(exact, {.p2c = true}, head_count, 4);
  refuses(block.scores, "[deberta] channels must match the encoder but got 4 and 5", [&] { narrow.bias(block.scores, good, at); });

  auto d_queries = block.queries;
  auto trained = encoder;
  gradient_buffer<float> d(trained.parameters());
  const auto backward = [&](const std::string& text, const attention_gradients<float>& d_inputs, gradient_spans<float> spans) {
    refuses(block.scores, text, [&] { encoder.bias_backward(block.scores, good, d_inputs, at, spans, {.scale = 2}); });
  };
  backward("[deberta] there must be one gradient span per parameter but got 2 and 1", {}, d.spans().subspan(1));
  const std::vector<std::span<float>> shorter{d.spans()[0], d.spans()[1].subspan(1)};
  backward("[deberta] gradients must be [heads, 2 span, channels] but got 160 and 159", {}, shorter);
  backward("[deberta] gradients must have the shapes of what they are of but got [2, 4, 4, 5] and [2, 3, 4, 5]",
           {.queries = heads(d_queries, axis_order::time_head).slice(0, 3)}, d.spans());
  backward("[deberta] gradients must have the shapes of what they are of but got [2, 6, 2, 5] and [2, 4, 4, 5]",
           {.keys = heads(d_queries, axis_order::time_head)}, d.spans());
}

TEST_CASE("deberta: nothing to do is nothing done", "[deberta]") {
  const auto encoder = random_deberta<float>(exact, {.c2p = true, .p2c = true});
  tensor<float> none(2, head_count, 0, 6);
  encoder.bias(none, attention_inputs<float>{.scale = 1}, {positions::range(0), positions::range(6)});
  CHECK(none.size() == 0);
}

}  // namespace
