// SPDX-License-Identifier: MIT
#include <posenc/relative/t5_bias.hpp>

#include <posenc/alibi.hpp>
#include <posenc/learned/initialize.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/t5.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, RowMajor>;

constexpr auto both = t5_direction::bidirectional, causal = t5_direction::causal;
constexpr position none = no_position, big = position{1} << 31;

const attention_positions cases[] = {
    {positions::range(7), positions::range(7)},
    {positions::range(150), positions::range(150)},                                             // beyond the last bucket on both sides
    {positions::range(3, 140), positions::range(143)},                                          // a chunk behind a cache
    {positions::offsets(std::array{5, 130}, 1), positions::range(131)},                         // one step, sequences of different age
    {positions::packed(std::array{0, 4, 5, 12}), positions::packed(std::array{0, 4, 5, 12})},   // documents in one row
    {positions::offsets(std::array{-3, 0}, 6), positions::offsets(std::array{-3, 0}, 6)},       // padding on the left, counted
    {positions::from_padding_mask(std::array{0, 0, 1, 1, 1, 1, 1, 1}, 2),
     positions::from_padding_mask(std::array{0, 0, 1, 1, 1, 1, 1, 1}, 2)},
    {positions::ids(std::array{20, 21, 21, 22, 22, 22}), positions::ids(std::array{18, 19, 20, 21, 21, 22, 22, 22})},  // a tree of drafts
    {positions::ids(std::array<position, 5>{big - 1, big, 3, none, -big}),
     positions::ids(std::array<position, 7>{0, big, big - 40, none, 7, 7, -5})},
    {positions::ids(std::array<position, 4>{positions::limit, -positions::limit, 0, 9}),
     positions::ids(std::array<position, 4>{-positions::limit, positions::limit, 1, 2})},
};

struct {
  t5_buckets_options options;
  reference::t5_rule rule;
} const settings[] = {
    {{both}, {true, 32, 128}}, {{causal}, {false, 32, 128}}, {{both, 8, 20}, {true, 8, 20}}, {{causal, 7, 9}, {false, 7, 9}}};

template <class S>
t5_bias<S> encoder_of(const t5_buckets_options& buckets, index_t heads, double scale = 1) {
  return t5_bias<S>({.heads = heads, .buckets = buckets, .scores = t5_scores::unscaled, .scale = scale},
                    random_vector<S>(1, buckets.num_buckets * heads));
}

std::optional<position> maybe(position p) { return p == no_position ? std::nullopt : std::optional(p); }

/// Every score, pair by pair. Scales are powers of two, so that one sum is rounded.
template <class S>
tensor4<S> expected(tensor4<S> scores, const reference::t5_rule& rule, const t5_bias<S>& encoder, const attention_positions& at,
                    const score_pass& pass = {}) {
  const std::vector<double> table(encoder.table().data(), encoder.table().data() + rule.num_buckets * encoder.heads());
  for (index_t b = 0; b < scores.dimension(0); ++b)
    for (index_t h = 0; h < scores.dimension(1); ++h)
      for (index_t i = 0; i < scores.dimension(2); ++i)
        for (index_t j = 0; j < scores.dimension(3); ++j) {
          const auto query = maybe(at.queries(b, i)), key = maybe(at.keys(b, j));
          S& score = scores(b, h, i, j);
          score = score * static_cast<S>(pass.scale) + static_cast<S>(reference::t5_bias(rule, table, encoder.heads(), h, query, key));
          if (pass.causal && query && key && *key > *query) score = -std::numeric_limits<S>::infinity();
        }
  return scores;
}

}  // namespace

TEMPLATE_TEST_CASE("t5_bias adds the table's number of each pair's bucket, with a scale and a mask", "[t5_bias]", float, double) {
  for (const auto& [options, rule] : settings) {
    const auto encoder = encoder_of<TestType>(options, 3);
    int number = 0;
    for (const auto& at : cases)
      for (const auto& pass : {score_pass{}, score_pass{.scale = 0.5, .causal = true}}) {
        INFO(options.num_buckets << " buckets, case " << number++ / 2 << (pass.causal ? ", causal" : ""));
        const auto before = random_tensor<tensor4<TestType>>(2, 2, 3, at.queries.time(), at.keys.time());
        const auto wanted = expected(before, rule, encoder, at, pass);
        auto scores = before, ready = before;
        encoder.bias(scores, at, pass);
        CHECK(reference::bit_difference(scores, wanted) == "");
        encoder.bias(ready, prepare(encoder, at), pass);
        CHECK(reference::bit_difference(ready, wanted) == "");
      }
  }
}

TEST_CASE("t5_bias has the values of hand", "[t5_bias]") {
  std::vector<float> table(64);
  for (std::size_t n = 0; n < 64; ++n) table[n] = static_cast<float>(n);  // 2 * bucket + head
  const t5_bias<float> encoder(t5_bias_options::t5_encoder(2), table), decoder(t5_bias_options::t5_decoder(2), table);
  CHECK(encoder.value(0, 30, 10) == 2 * 10);  // 20 back: 8 + trunc(8 ln(20 / 8) / ln 16) = 8 + trunc 2.64
  CHECK(encoder.value(1, 10, 30) == 2 * (16 + 10) + 1);
  CHECK(decoder.value(1, 70, 20) == 2 * 24 + 1);  // 50 back: 16 + trunc(16 ln(50 / 16) / ln 8) = 16 + trunc 8.77
  CHECK(decoder.value(1, 20, 70) == 1);
  CHECK(encoder.value(0, 3, no_position) == 0);
  CHECK(encoder.value(1, no_position, 3) == 0);
}

TEST_CASE("t5_bias with the slopes in its table is alibi, where every distance has a bucket", "[t5_bias]") {
  const alibi<double> slanting({.heads = 4, .form = alibi_form::causal}), level({.heads = 4, .form = alibi_form::symmetric});
  std::vector<double> one_way, two_ways;
  for (index_t n = 0; n < 64; ++n)
    for (index_t h = 0; h < 4; ++h) one_way.push_back(slanting.value(h, n, 0)), two_ways.push_back(level.value(h, n % 32, 0));
  const attention_positions at{positions::range(12, 4), positions::range(16)};
  const auto same = [&](const auto& a, const auto& b) {
    auto scores = random_tensor<tensor4<double>>(3, 1, 4, 12, 16), others = scores;
    a.bias(scores, at);
    b.bias(others, at);
    CHECK(reference::difference(scores, others, 0) == "");
  };
  same(t5_bias<double>({4, t5_buckets_options{causal, 64}, t5_scores::scaled}, one_way), slanting);
  same(t5_bias<double>({4, t5_buckets_options{both, 64}, t5_scores::scaled}, two_ways), level);
}

TEST_CASE("t5_bias: decode, chunks and tiles have the bits of prefill", "[t5_bias]") {
  const auto encoder = encoder_of<float>({both}, 2);
  constexpr index_t time = 140;
  const auto before = random_tensor<tensor4<float>>(4, 1, 2, time, time);
  auto whole = before, parts = before, tiles = before;
  encoder.bias(whole, {positions::range(time), positions::range(time)}, {.causal = true});
  for (index_t from = 0, count; from < time; from += count) {
    count = from < 100 ? 50 : from < 130 ? 7 : 1;
    count = std::min(count, time - from);
    const tensor_view<float, 4> rows(&parts(0, 0, from, 0), {1, 2, count, time}, {2 * time * time, time * time, time, 1});
    encoder.bias(rows, {positions::range(count, from), positions::range(time)}, {.causal = true});
  }
  CHECK(reference::bit_difference(parts, whole) == "");
  const attention_positions at{positions::range(time), positions::range(time)};
  const auto state = prepare(encoder, at);
  for (index_t h = 0; h < 2; ++h)
    for (index_t i = 0; i < time; i += 35)
      for (index_t j = 0; j < time; j += 70) {
        const tensor_view<float, 2> tile(&tiles(0, h, i, j), {35, 70}, {time, 1});
        if (h == 0) encoder.bias_tile(tile, {.batch = 0, .head = h, .query = i, .key = j}, at, {.causal = true});
        else encoder.bias_tile(tile, {.batch = 0, .head = h, .query = i, .key = j}, state, {.causal = true});
      }
  CHECK(reference::bit_difference(tiles, whole) == "");
}

TEST_CASE("t5_bias: rows of a batch do not depend on each other", "[t5_bias]") {
  const auto encoder = encoder_of<double>({both}, 3);
  const std::vector<position> ids{0, 5, big, 9, 1, 2, 3, 4};
  const attention_positions at{positions::ids(ids, 2), positions::ids(ids, 2)};
  const auto before = random_tensor<tensor4<double>>(5, 2, 3, 4, 4);
  auto scores = before;
  encoder.bias(scores, at);
  for (index_t b = 0; b < 2; ++b) {
    const auto own = positions::ids(std::vector<position>(ids.begin() + 4 * b, ids.begin() + 4 * b + 4));
    tensor4<double> row = before.chip(b, 0).reshape(std::array<index_t, 4>{1, 3, 4, 4}), part(1, 3, 4, 4);
    encoder.bias(row, part, {own, own});
    CHECK(reference::bit_difference(part, tensor4<double>(scores.chip(b, 0).reshape(std::array<index_t, 4>{1, 3, 4, 4}))) == "");
  }
}

TEST_CASE("t5_bias has the same bits for any number of threads", "[t5_bias]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice three(&pool, 3);
  auto encoder = encoder_of<float>({both, 8, position{1} << 20}, 4);
  std::vector<position> far_apart(300);
  for (std::size_t n = 0; n < far_apart.size(); ++n) far_apart[n] = static_cast<position>(n * n * n % 1'000'003);
  for (const auto& at : {attention_positions{positions::range(300), positions::range(300)},
                         attention_positions{positions::ids(far_apart), positions::ids(far_apart)}}) {
    CHECK(encoder.prepare(at).values().empty() == (at.queries.row(0).ids != nullptr));  // a table, and none
    const auto before = random_tensor<tensor4<float>>(5, 2, 4, 300, 300);
    auto scores = before, threaded = before, d = before, d_threaded = before;
    encoder.bias(scores, at);
    encoder.bias(threaded, at, three);
    CHECK(reference::bit_difference(threaded, scores) == "");
    gradient_buffer<float> gradient(encoder.parameters()), gradient_threaded(encoder.parameters());
    encoder.bias_backward(d, at, gradient.spans());
    encoder.bias_backward(d_threaded, at, gradient_threaded.spans(), three);
    CHECK(reference::bit_difference(gradient_threaded.spans()[0], gradient.spans()[0]) == "");
  }
}

TEMPLATE_TEST_CASE("t5_bias rounds scores of 16 bits once, and takes any storage order", "[t5_bias]", Eigen::half, Eigen::bfloat16) {
  const auto encoder = encoder_of<float>({both, 8, 20}, 2);
  const attention_positions at{positions::range(5, 20), positions::range(25)};
  const auto exact = random_tensor<tensor4<float>>(6, 1, 2, 5, 25);
  tensor4<TestType> scores = exact.cast<TestType>();
  const tensor4<TestType> wanted = expected<float>(scores.template cast<float>(), settings[2].rule, encoder, at).template cast<TestType>();
  Eigen::Tensor<TestType, 4> columns(25, 5, 2, 1);  // the same memory
  std::copy_n(scores.data(), scores.size(), columns.data());
  encoder.bias(scores, at);
  CHECK(reference::bit_difference(scores, wanted) == "");
  encoder.bias(columns, at);
  CHECK(reference::bit_difference(columns, wanted) == "");
}

TEST_CASE("t5_bias has the bits of its table, or scales them", "[t5_bias]") {
  const auto table = random_vector<float>(7, 32 * 2);
  const t5_bias<float> plain(t5_bias_options::t5_decoder(2), table);
  auto options = t5_bias_options::t5_decoder(2);
  options.scale = 1 / std::sqrt(96.0);
  const t5_bias<float> scaled(options, table);
  for (position distance = 0; distance < 130; ++distance)
    for (index_t h = 0; h < 2; ++h) {
      const float entry = table[static_cast<std::size_t>(plain.buckets().bucket(-distance) * 2 + h)];
      REQUIRE(reference::same_bits(plain.value(h, distance, 0), entry));
      REQUIRE(scaled.value(h, distance, 0) == static_cast<float>(static_cast<double>(entry) / std::sqrt(96.0)));
    }
}

TEST_CASE("t5_bias: bias_backward is the derivative of bias", "[t5_bias]") {
  for (const auto number : {0, 3, 4, 6, 7, 8, 9})
    for (const auto& pass : {score_pass{}, score_pass{.scale = -2, .causal = true}}) {
      const auto& at = cases[number];
      INFO("case " << number << ", scale " << pass.scale);
      const index_t queries = at.queries.time(), keys = at.keys.time();
      auto encoder = encoder_of<double>({both, 8, 20}, 2, 0.25);
      const auto table = encoder.parameters().at(0).values;
      auto scores = random_tensor<tensor4<double>>(8, 2, 2, queries, keys);
      const auto weights = random_tensor<tensor4<double>>(9, 2, 2, queries, keys);
      const auto loss = [&] {  // linear in what leaves: masked scores count nothing
        auto out = scores;
        encoder.bias(out, at, pass);
        for (index_t n = 0; n < out.size(); ++n)
          if (std::isinf(out.data()[n])) out.data()[n] = 0;
        return reference::dot(weights, out);
      };
      auto d_scores = weights, d_ready = weights;
      gradient_buffer<double> gradients(encoder.parameters()), ready(encoder.parameters());
      gradients.spans()[0][1] = 100;  // it is added to
      encoder.bias_backward(d_scores, at, gradients.spans(), pass);
      gradients.spans()[0][1] -= 100;
      encoder.bias_backward(d_ready, prepare(encoder, at), ready.spans(), pass);
      CHECK(reference::difference(gradients.spans()[0], reference::derivatives(table, loss, 0.5), 1e-10) == "");
      CHECK(reference::difference(ready.spans()[0], gradients.spans()[0], 1e-13) == "");
      CHECK(reference::bit_difference(d_ready, d_scores) == "");
      if (d_scores.size() < 600)
        CHECK(reference::difference(d_scores, reference::derivatives({scores.data(), static_cast<std::size_t>(scores.size())}, loss, 0.5),
                                    1e-10) == "");
    }
}

TEST_CASE("t5_bias: the table is a parameter, of zeros at first", "[t5_bias]") {
  t5_bias<float> encoder(t5_bias_options::t5_encoder(3));
  const auto all = encoder.parameters();
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "table");
  CHECK(all[0].shape == std::vector<index_t>{32, 3});
  CHECK(all[0].values.size() == 96);
  CHECK(std::ranges::all_of(all[0].values, [](float value) { return value == 0; }));
  const auto untrained = encoder;
  random_source random(1);
  initialize::normal(all[0].values, random, {.standard_deviation = 1});
  CHECK(encoder.value(2, 0, 1) == all[0].values[17 * 3 + 2]);
  CHECK(encoder.value(2, 0, 1) != 0);
  CHECK(encoder.table()(17, 2) == encoder.value(2, 0, 1));
  CHECK(untrained.value(2, 0, 1) == 0);
  CHECK(encoder != untrained);
}

TEST_CASE("t5_bias has the settings of models", "[t5_bias]") {
  const auto check = [](const t5_bias_options& options, const t5_buckets_options& buckets, double score_scale) {
    const t5_bias<float> encoder(options);
    CHECK(encoder.options() == options);
    CHECK(encoder.heads() == 2);
    CHECK(encoder.buckets() == t5_buckets(buckets));
    CHECK(score_scale == posenc::score_scale(encoder, 64));
    CHECK(options.scale == 1);
  };
  check(t5_bias_options::t5_encoder(2), {both, 32, 128}, 1);
  check(t5_bias_options::t5_decoder(2), {causal, 32, 128}, 1);
  check(t5_bias_options::mpnet(2), {both, 32, 128}, 0.125);
  check(t5_bias_options::layoutlm_text(2), {both, 32, 128}, 0.125);
  check(t5_bias_options::layoutlm_box(2), {both, 64, 256}, 0.125);
  check(t5_bias_options::wavlm(2), {both, 320, 800}, 0.125);
}

TEST_CASE("t5_bias: encoders are equal where options and tables are", "[t5_bias]") {
  const auto encoder = encoder_of<float>({both, 8, 20}, 2);
  CHECK(encoder == encoder_of<float>({both, 8, 20}, 2));
  CHECK(encoder != encoder_of<float>({causal, 8, 20}, 2));
  CHECK(encoder != encoder_of<float>({both, 8, 21}, 2));
  CHECK(encoder != encoder_of<float>({both, 8, 20}, 2, 0.5));
  CHECK(encoder != t5_bias<float>({2, t5_buckets_options{both, 8, 20}, t5_scores::scaled}, {encoder.table().data(), 16}));
  CHECK(encoder != t5_bias<float>(encoder.options()));
  CHECK(t5_bias<float>::name() == "t5_bias");
}

TEST_CASE("t5_bias does nothing to empty tensors", "[t5_bias]") {
  auto encoder = encoder_of<float>({both}, 2);
  gradient_buffer<float> gradients(encoder.parameters());
  for (const auto& [batch, queries, keys] : {std::array<index_t, 3>{0, 3, 4}, {2, 0, 4}, {2, 3, 0}}) {
    tensor4<float> scores(batch, 2, queries, keys);
    const attention_positions at{positions::range(queries), positions::range(keys)};
    encoder.bias(scores, prepare(encoder, at));
    encoder.bias_backward(scores, at, gradients.spans());
  }
  CHECK(std::ranges::all_of(gradients.spans()[0], [](float value) { return value == 0; }));
}

TEST_CASE("t5_bias refuses what does not fit, before it writes", "[t5_bias][errors]") {
  const auto options = [](const std::string& text, const t5_bias_options& wrong) {
    reference::refuses("[t5_bias] " + text, [&] { t5_bias<float>{wrong}; });
  };
  constexpr t5_buckets_options four{causal, 4, 9};
  constexpr auto plain = t5_scores::unscaled;
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  options("heads must be positive but got 0", {0, four, plain});
  options("heads must be positive but got -2", {-2, four, plain});
  options("scale must be finite but got inf", {1, four, plain, -infinity * -1});
  options("scale must be finite but got nan", {1, four, plain, nan});
  options("scale must be finite but got 1e+300", {1, four, plain, 1e300});
  CHECK_NOTHROW(t5_bias<double>({1, four, plain, 1e300}));
  options("the size in bytes must fit in 63 bits but got [4, 2305843009213693952]", {index_t{1} << 61, four, plain});
  reference::refuses("[t5_buckets] num_buckets must be even where keys have two directions but got 5",
                     [&] { t5_bias<float>({1, t5_buckets_options{both, 5, 9}, plain}); });
  const std::vector<float> table(7);
  reference::refuses("[t5_bias] the table must have num_buckets times heads values but got 8 and 7",
                     [&] { t5_bias<float>({2, four, plain}, table); });

  const t5_bias<float> encoder({2, four, plain}), other({3, four, plain});
  auto scores = random_tensor<tensor4<float>>(10, 1, 2, 3, 4), d_table = random_tensor<tensor4<float>>(11, 1, 1, 1, 8);
  const attention_positions at{positions::range(3), positions::range(4)};
  const auto refused = [&](const std::string& text, auto&& act) { reference::refuses(scores, "[t5_bias" + text, act); };
  refused("] heads must match the encoder but got 3 and 2", [&] { other.bias(scores, at); });
  refused(" keys] time must match the positions but got 4 and 3", [&] { encoder.bias(scores, {at.queries, at.queries}); });
  refused("] head must lie within the heads but got 2 and 2", [&] { encoder.value(2, 0, 0); });
  refused("] the table must be of this encoder but got 2 and 3", [&] { encoder.bias(scores, prepare(other, at)); });
  refused("] positions must have one axis but got 2 and 1",
          [&] { encoder.bias(scores, prepare(encoder, {positions::multi_axis(std::array{0, 1, 2, 3, 4, 5}, 2), at.keys})); });
  const std::array<std::span<float>, 1> small{std::span(d_table.data(), 7)};
  refused("] there must be one gradient span per parameter but got 1 and 0", [&] { encoder.bias_backward(scores, at, {}); });
  refused("] gradient spans must have the sizes of the parameters but got 8 and 7", [&] { encoder.bias_backward(scores, at, small); });
}
