// SPDX-License-Identifier: MIT
#include <posenc/alibi.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/alibi.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;
using reference::linear_bias;

template <class S>
using tensor4 = Eigen::Tensor<S, 4, RowMajor>;

constexpr alibi_form forms[] = {alibi_form::causal, alibi_form::symmetric, alibi_form::key_only};

linear_bias rule_of(alibi_form form, position reference = 0, const score_pass& pass = {}) {
  return {form == alibi_form::causal      ? linear_bias::causal
          : form == alibi_form::symmetric ? linear_bias::symmetric
                                          : linear_bias::key_only,
          reference, pass.scale, pass.causal};
}

reference::maybe_position maybe(position p) { return p == no_position ? std::nullopt : reference::maybe_position(p); }

/// Every score of the tensor, biased in double.
template <class S>
std::vector<double> expected(const tensor4<S>& scores, const alibi<S>& encoder, const linear_bias& rule, const attention_positions& at) {
  std::vector<double> all;
  for (index_t b = 0; b < scores.dimension(0); ++b)
    for (index_t h = 0; h < scores.dimension(1); ++h)
      for (index_t i = 0; i < scores.dimension(2); ++i)
        for (index_t j = 0; j < scores.dimension(3); ++j)
          all.push_back(reference::biased(rule, static_cast<double>(scores(b, h, i, j)),
                                          static_cast<double>(encoder.slopes()[static_cast<std::size_t>(h)]), maybe(at.queries(b, i)),
                                          maybe(at.keys(b, j))));
  return all;
}

/// A loss that is linear in what leaves: masked scores count nothing.
double linear_loss(const alibi<double>& encoder, tensor4<double> scores, const tensor4<double>& weights, const attention_positions& at,
                   const score_pass& pass) {
  encoder.bias(scores, at, pass);
  for (index_t n = 0; n < scores.size(); ++n)
    if (std::isinf(scores.data()[n])) scores.data()[n] = 0;
  return reference::dot(weights, scores);
}

// Three roundings of numbers below 128.
template <class S>
constexpr double tolerance = 3 * 128 * std::numeric_limits<S>::epsilon() / 2;

const attention_positions cases[] = {
    {.queries = positions::range(6), .keys = positions::range(6)},
    {.queries = positions::range(3, 40), .keys = positions::range(43)},                        // behind a cache
    {.queries = positions::offsets(std::array{5, 11}, 1), .keys = positions::range(12)},       // one step, sequences of different age
    {.queries = positions::range(4), .keys = positions::ids(std::array{3, -7, 60, 0, 0, 2})},  // pages in any order
    {.queries = positions::ids(std::array{0, 2, 1, 9}, 2), .keys = positions::offsets(std::array{-3, 0}, 5)},
    {.queries = positions::ids(std::array<position, 3>{no_position, 0, 1}),
     .keys = positions::ids(std::array<position, 4>{no_position, 0, no_position, 1})},
};

}  // namespace

TEST_CASE("alibi slopes are the published ones", "[alibi]") {
  const auto powers = [](std::initializer_list<double> exponents) {
    std::vector<double> all;
    for (const double e : exponents) all.push_back(std::exp2(-e));
    return all;
  };
  CHECK(alibi_slopes(1) == powers({8}));
  CHECK(alibi_slopes(3) == powers({4, 8, 2}));
  CHECK(alibi_slopes(6) == powers({2, 4, 6, 8, 1, 3}));
  CHECK(alibi_slopes(8) == powers({1, 2, 3, 4, 5, 6, 7, 8}));
  CHECK(alibi_slopes(12) == powers({1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5}));
  CHECK(alibi_slopes(8)[7] == 1.0 / 256);
  CHECK(alibi_slopes(4, 16) == powers({4, 8, 12, 16}));
  for (const double max : {8.0, 5.5})
    for (std::size_t heads = 1; heads <= 130; ++heads) {
      const auto got = alibi_slopes(static_cast<index_t>(heads), max), wanted = reference::slopes(heads, max);
      REQUIRE(got.size() == heads);
      for (std::size_t h = 0; h < heads; ++h) REQUIRE(std::abs(got[h] / wanted[h] - 1) < 1e-15);
    }
}

TEST_CASE("alibi: a process with a part of the heads has that part of the slopes", "[alibi]") {
  const auto slopes_of = [](index_t first, index_t count) {
    const alibi<float> part({.heads = 12, .form = alibi_form::causal, .first_head = first, .local_heads = count});
    return std::vector<float>(part.slopes().begin(), part.slopes().end());
  };
  const auto all = slopes_of(0, 0);
  CHECK(all.size() == 12);
  for (const index_t first : {0, 3, 11})
    for (index_t count = 1; count <= 12 - first; ++count)
      CHECK(slopes_of(first, count) == std::vector<float>(all.begin() + first, all.begin() + first + count));
  CHECK(slopes_of(7, 0) == slopes_of(7, 5));
}

TEMPLATE_TEST_CASE("alibi adds slope times distance in every form, with a scale and a mask", "[alibi]", float, double) {
  for (const auto form : forms)
    for (const auto& at : cases)
      for (const auto& pass :
           {score_pass{}, score_pass{.scale = 0.25}, score_pass{.causal = true}, score_pass{.scale = -2, .causal = true}}) {
        const alibi<TestType> encoder({.heads = 6, .form = form, .reference = 2});
        const auto before = random_tensor<tensor4<TestType>>(1, 2, 6, at.queries.time(), at.keys.time());
        auto scores = before;
        encoder.bias(scores, at, pass);
        INFO("form " << static_cast<int>(form) << ", scale " << pass.scale << (pass.causal ? ", causal, " : ", ") << at.queries.time()
                     << " queries");
        CHECK(reference::difference(scores, expected(before, encoder, rule_of(form, 2, pass), at), tolerance<TestType>) == "");

        tensor4<TestType> out(before.dimensions());
        encoder.bias(before, out, at, pass);
        CHECK(reference::bit_difference(out, scores) == "");
      }
}

TEST_CASE("alibi has the values of its papers", "[alibi]") {
  // Two heads: slopes 1/16 and 1/256. A query at 5 behind a cache of 5 keys; itself.
  const auto row = [](alibi_form form, position reference) {
    tensor4<double> scores(1, 2, 1, 6);
    scores.setZero();
    alibi<double>({.heads = 2, .form = form, .reference = reference})
        .bias(scores, {.queries = positions::range(1, 5), .keys = positions::range(6)});
    return std::vector<double>(scores.data(), scores.data() + 6);
  };
  const std::vector<double> past{-5 / 16.0, -4 / 16.0, -3 / 16.0, -2 / 16.0, -1 / 16.0, 0};
  CHECK(row(alibi_form::causal, 0) == past);
  CHECK(row(alibi_form::symmetric, 0) == past);
  CHECK(row(alibi_form::key_only, 5) == past);                                                                  // MPT
  CHECK(row(alibi_form::key_only, 0) == std::vector<double>{0, 1 / 16.0, 2 / 16.0, 3 / 16.0, 4 / 16.0, 5 / 16.0});  // BLOOM
  // Keys ahead: nothing, or as far as behind.
  const alibi<double> causal({.heads = 2, .form = alibi_form::causal}), symmetric({.heads = 2, .form = alibi_form::symmetric});
  CHECK(causal.value(0, 3, 7) == 0);
  CHECK(symmetric.value(0, 3, 7) == -4 / 16.0);
  CHECK(symmetric.value(1, 7, 3) == -4 / 256.0);
}

TEMPLATE_TEST_CASE("alibi value is what bias adds", "[alibi]", float, double) {
  for (const auto form : forms)
    for (const auto& at : cases) {
      const alibi<TestType> encoder({.heads = 3, .form = form, .reference = -4});
      tensor4<TestType> scores(2, 3, at.queries.time(), at.keys.time());
      scores.setZero();
      encoder.bias(scores, at);
      for (index_t b = 0; b < 2; ++b)
        for (index_t h = 0; h < 3; ++h)
          for (index_t i = 0; i < at.queries.time(); ++i)
            for (index_t j = 0; j < at.keys.time(); ++j) REQUIRE(scores(b, h, i, j) == encoder.value(h, at.queries(b, i), at.keys(b, j)));
    }
}

TEST_CASE("alibi forms agree after a causal soft-max and only there", "[alibi]") {
  const auto weights = [](alibi_form form, bool causal) {
    auto scores = random_tensor<tensor4<double>>(2, 1, 4, 9, 9);
    alibi<double>({.heads = 4, .form = form, .reference = 3})
        .bias(scores, {.queries = positions::range(9), .keys = positions::range(9)}, {.causal = causal});
    for (index_t h = 0; h < 4; ++h)
      for (index_t i = 0; i < 9; ++i) {
        double sum = 0;
        for (index_t j = 0; j < 9; ++j) sum += scores(0, h, i, j) = std::exp(scores(0, h, i, j));
        for (index_t j = 0; j < 9; ++j) scores(0, h, i, j) /= sum;
      }
    return scores;
  };
  const auto causal = weights(alibi_form::causal, true);
  CHECK(reference::difference(weights(alibi_form::symmetric, true), causal, 1e-15) == "");
  CHECK(reference::difference(weights(alibi_form::key_only, true), causal, 1e-15) == "");
  CHECK(reference::difference(weights(alibi_form::symmetric, false), weights(alibi_form::causal, false), 0.01) != "");
  CHECK(reference::difference(weights(alibi_form::key_only, false), weights(alibi_form::symmetric, false), 0.01) != "");
}

TEMPLATE_TEST_CASE("alibi leaves tokens without a position alone", "[alibi]", float, double) {
  for (const auto form : forms) {
    const alibi<TestType> encoder({.heads = 2, .form = form, .reference = 50});
    const auto before = random_tensor<tensor4<TestType>>(3, 1, 2, 3, 4);
    auto scores = before;
    encoder.bias(scores, cases[5], {.causal = true});
    for (index_t h = 0; h < 2; ++h)
      for (index_t i = 0; i < 3; ++i)
        for (index_t j = 0; j < 4; ++j)
          if (i == 0 || j % 2 == 0) REQUIRE(reference::same_bits(scores(0, h, i, j), before(0, h, i, j)));
    CHECK(encoder.value(0, no_position, 1) == 0);
    CHECK(encoder.value(0, 1, no_position) == 0);
  }
}

TEMPLATE_TEST_CASE("alibi has the same bits in every layout", "[alibi]", float, double) {
  const alibi<TestType> encoder({.heads = 3, .form = alibi_form::symmetric});
  const attention_positions at{.queries = positions::range(4, 3), .keys = positions::offsets(std::array{0, -2}, 7)};
  const auto before = random_tensor<tensor4<TestType>>(4, 2, 3, 4, 7);
  auto result = before;
  encoder.bias(result, at);

  Eigen::Tensor<TestType, 4> columns(7, 4, 3, 2);  // the same memory
  std::copy_n(before.data(), before.size(), columns.data());
  encoder.bias(columns, at);
  CHECK(reference::bit_difference(columns, result) == "");

  std::vector<TestType> foreign(static_cast<std::size_t>(before.size()) + 1);  // not aligned
  std::copy_n(before.data(), before.size(), foreign.data() + 1);
  Eigen::TensorMap<tensor4<TestType>> map(foreign.data() + 1, 2, 3, 4, 7);
  encoder.bias(map, at);
  CHECK(reference::bit_difference(map, result) == "");

  Eigen::TensorFixedSize<TestType, Eigen::Sizes<2, 3, 4, 7>, RowMajor> fixed;
  std::copy_n(before.data(), before.size(), fixed.data());
  encoder.bias(fixed, at);
  CHECK(reference::bit_difference(fixed, result) == "");

  // Keys 2 to 9 of wider rows, whose others keep their bits; out of another layout.
  auto wide = random_tensor<tensor4<TestType>>(5, 2, 3, 4, 11);
  const auto around = wide;
  encoder.bias(before, tensor_view<TestType, 4>(wide.data() + 2, {2, 3, 4, 7}, {132, 44, 11, 1}), at);
  for (index_t b = 0; b < 2; ++b)
    for (index_t h = 0; h < 3; ++h)
      for (index_t i = 0; i < 4; ++i)
        for (index_t j = 0; j < 11; ++j)
          REQUIRE(reference::same_bits(wide(b, h, i, j), j < 2 || j >= 9 ? around(b, h, i, j) : result(b, h, i, j - 2)));
}

TEMPLATE_TEST_CASE("alibi tiles have the bits of the whole", "[alibi]", float, double) {
  constexpr index_t queries = 9, keys = 70;
  for (const auto form : forms)
    for (const auto& at :
         {attention_positions{positions::range(queries, 61), positions::range(keys)},
          attention_positions{positions::offsets(std::array{61, 3}, queries), positions::offsets(std::array{0, -5}, keys)}})
      for (const auto& pass : {score_pass{}, score_pass{.scale = 0.125, .causal = true}}) {
        const alibi<TestType> encoder({.heads = 3, .form = form, .reference = 69});
        auto whole = random_tensor<tensor4<TestType>>(6, 2, 3, queries, keys), tiled = whole;
        encoder.bias(whole, at, pass);
        for (index_t b = 0; b < 2; ++b)
          for (index_t h = 0; h < 3; ++h)
            for (index_t i = 0; i < queries; i += 4)
              for (index_t j = 0; j < keys; j += 32) {
                const tensor_view<TestType, 2> tile(&tiled(b, h, i, j),
                                                    {std::min<index_t>(4, queries - i), std::min<index_t>(32, keys - j)}, {keys, 1});
                encoder.bias_tile(tile, {.batch = b, .head = h, .query = i, .key = j}, at, pass);
              }
        CHECK(reference::bit_difference(tiled, whole) == "");
      }
}

TEST_CASE("alibi reads all keys of a decode step, not the new ones alone", "[alibi]") {
  const alibi<float> encoder({.heads = 2, .form = alibi_form::causal});
  const attention_positions all{.queries = positions::range(1, 9), .keys = positions::range(10)};
  auto step = all;
  step.new_keys = positions::range(1, 9);
  auto scores = random_tensor<tensor4<float>>(7, 1, 2, 1, 10), same = scores;
  encoder.bias(scores, all);
  encoder.bias(same, prepare(encoder, step));
  CHECK(reference::bit_difference(scores, same) == "");
}

TEMPLATE_TEST_CASE("alibi takes slopes of the caller's own", "[alibi]", float, double) {
  const std::array<TestType, 3> slopes{TestType(0.75), TestType(0), TestType(-0.5)};
  const alibi<TestType> encoder(slopes, alibi_form::key_only, 10);
  CHECK(std::ranges::equal(encoder.slopes(), slopes));
  CHECK(encoder.form() == alibi_form::key_only);
  const attention_positions at{.queries = positions::range(2), .keys = positions::range(20)};
  const auto before = random_tensor<tensor4<TestType>>(7, 1, 3, 2, 20);
  auto scores = before;
  encoder.bias(scores, at);
  CHECK(reference::difference(scores, expected(before, encoder, rule_of(alibi_form::key_only, 10), at), tolerance<TestType>) == "");
  for (index_t i = 0; i < 2; ++i)
    for (index_t j = 0; j < 20; ++j) REQUIRE(reference::same_bits(scores(0, 1, i, j), before(0, 1, i, j)));  // a head without a bias
}

TEMPLATE_TEST_CASE("alibi rounds huge distances once, the same for ranges and for ids", "[alibi]", float, double) {
  // Beyond 2^24 not every whole number is a float, beyond 2^53 not every one is a double.
  for (const auto form : forms)
    for (const position far :
         {position{1} << 24, (position{1} << 25) + 1, position{1} << 53, (position{1} << 54) - 3, (position{1} << 62) - 40}) {
      const alibi<TestType> encoder({.heads = 2, .form = form, .reference = -3});
      for (const position query : {far, -far}) {
        const position key = -20;
        std::vector<position> queries, keys;
        for (position n = 0; n < 3; ++n) queries.push_back(query + n);
        for (position n = 0; n < 40; ++n) keys.push_back(key + n);
        tensor4<TestType> from_range(1, 2, 3, 40), from_ids(1, 2, 3, 40);
        from_range.setZero(), from_ids.setZero();
        encoder.bias(from_range, {.queries = positions::range(3, query), .keys = positions::range(40, key)});
        encoder.bias(from_ids, {.queries = positions::ids(queries), .keys = positions::ids(keys)});
        CHECK(reference::bit_difference(from_range, from_ids) == "");
        for (index_t i = 0; i < 3; ++i)
          for (index_t j = 0; j < 40; ++j) {
            const position ahead = key + j - query - i;
            const position distance = form == alibi_form::key_only ? key + j + 3
                                      : form == alibi_form::causal ? std::min<position>(ahead, 0)
                                                                   : -std::abs(ahead);
            REQUIRE(from_range(0, 1, i, j) == static_cast<TestType>(distance) / TestType(256));  // a slope that is a power of two
          }
      }
    }
}

TEST_CASE("alibi: bias_backward is the derivative of bias", "[alibi]") {
  for (const auto form : forms)
    for (const auto& at : cases)
      for (const auto& pass : {score_pass{}, score_pass{.scale = 0.25}, score_pass{.scale = -2, .causal = true}}) {
        alibi<double> encoder(std::array{0.5, -0.25, 0.0}, form, 2);
        const auto slopes = encoder.parameters().at(0).values;
        auto scores = random_tensor<tensor4<double>>(8, 2, 3, at.queries.time(), at.keys.time());
        const auto weights = random_tensor<tensor4<double>>(9, 2, 3, at.queries.time(), at.keys.time());
        const auto loss = [&] { return linear_loss(encoder, scores, weights, at, pass); };
        auto d_scores = weights;
        gradient_buffer<double> gradients(encoder.parameters());
        gradients.spans()[0][1] = 100;  // it is added to
        encoder.bias_backward(d_scores, at, gradients.spans(), pass);
        gradients.spans()[0][1] -= 100;
        INFO("form " << static_cast<int>(form) << ", scale " << pass.scale << ", " << at.queries.time() << " queries, " << at.keys.time()
                     << " keys");
        CHECK(reference::difference(gradients.spans()[0], reference::derivatives(slopes, loss, 0.5), 1e-10) == "");
        CHECK(reference::difference(d_scores, reference::derivatives({scores.data(), static_cast<std::size_t>(scores.size())}, loss, 0.5),
                                    1e-10) == "");
      }
}

TEMPLATE_TEST_CASE("alibi: asymmetric slopes differ before and after the query", "[alibi]", float, double) {
  const std::array<TestType, 3> before{TestType(0.75), TestType(0), TestType(-0.5)}, after{TestType(0.3), TestType(0.25), TestType(0)};
  const alibi<TestType> encoder(before, after);
  CHECK(encoder.form() == alibi_form::asymmetric);
  CHECK(std::ranges::equal(encoder.slopes(), before));
  CHECK(std::ranges::equal(encoder.slopes_after(), after));
  CHECK(encoder.value(0, 7, 3) == TestType(-4) * before[0]);
  CHECK(encoder.value(0, 3, 7) == TestType(-4) * after[0]);
  for (const auto& at : cases)
    for (const auto& pass : {score_pass{}, score_pass{.scale = -2, .causal = true}}) {
      const auto given = random_tensor<tensor4<TestType>>(14, 2, 3, at.queries.time(), at.keys.time());
      auto scores = given, tiled = given;
      std::vector<double> wanted;
      for (index_t b = 0; b < 2; ++b)
        for (index_t h = 0; h < 3; ++h)
          for (index_t i = 0; i < at.queries.time(); ++i)
            for (index_t j = 0; j < at.keys.time(); ++j) {
              const auto query = at.queries(b, i), key = at.keys(b, j);
              const auto slope = (key > query ? after : before)[static_cast<std::size_t>(h)];
              wanted.push_back(reference::biased(rule_of(alibi_form::symmetric, 0, pass), static_cast<double>(given(b, h, i, j)),
                                                 static_cast<double>(slope), maybe(query), maybe(key)));
            }
      encoder.bias(scores, at, pass);
      CHECK(reference::difference(scores, wanted, tolerance<TestType>) == "");
      for (index_t b = 0; b < 2; ++b)
        for (index_t h = 0; h < 3; ++h) {
          const tensor_view<TestType, 2> tile(&tiled(b, h, 0, 0), {at.queries.time(), at.keys.time()});
          encoder.bias_tile(tile, {.batch = b, .head = h, .query = 0, .key = 0}, at, pass);
        }
      CHECK(reference::bit_difference(tiled, scores) == "");
    }
}

TEST_CASE("alibi: asymmetric slopes that are the same are symmetric", "[alibi]") {
  const alibi<float> same({.heads = 3, .form = alibi_form::asymmetric}), symmetric({.heads = 3, .form = alibi_form::symmetric});
  CHECK(std::ranges::equal(same.slopes_after(), symmetric.slopes()));
  CHECK(symmetric.slopes_after().empty());
  CHECK(same == alibi<float>(symmetric.slopes(), alibi_form::asymmetric));
  CHECK(same == alibi<float>(symmetric.slopes(), symmetric.slopes()));
  CHECK(same != symmetric);
  for (const auto& at : cases) {
    auto scores = random_tensor<tensor4<float>>(15, 2, 3, at.queries.time(), at.keys.time()), expected = scores;
    same.bias(scores, at);
    symmetric.bias(expected, at);
    CHECK(reference::bit_difference(scores, expected) == "");
  }
}

TEST_CASE("alibi: both slopes of the asymmetric form have a gradient", "[alibi]") {
  for (const auto& at : cases)
    for (const auto& pass : {score_pass{}, score_pass{.scale = 0.25}, score_pass{.scale = -2, .causal = true}}) {
      alibi<double> encoder(std::array{0.5, -0.25, 0.0}, std::array{0.125, 0.0, 1.0});
      const auto all = encoder.parameters();
      REQUIRE(all.size() == 2);
      CHECK((all[0].name == "slopes" && all[1].name == "slopes_after"));
      CHECK((all[0].shape == std::vector<index_t>{3} && all[1].shape == all[0].shape));
      const auto scores = random_tensor<tensor4<double>>(8, 2, 3, at.queries.time(), at.keys.time());
      const auto weights = random_tensor<tensor4<double>>(9, 2, 3, at.queries.time(), at.keys.time());
      const auto loss = [&] { return linear_loss(encoder, scores, weights, at, pass); };
      auto d_scores = weights;
      gradient_buffer<double> gradients(all);
      encoder.bias_backward(d_scores, at, gradients.spans(), pass);
      for (const std::size_t n : {0u, 1u})
        CHECK(reference::difference(gradients.spans()[n], reference::derivatives(all[n].values, loss, 0.5), 1e-10) == "");
    }
}

TEST_CASE("alibi: the first heads alone are biased, with the slopes of a model of that many", "[alibi]") {
  // x-transformers: AlibiPositionalBias(heads = 4, total_heads = 6).
  const alibi<double> six({.heads = 6, .form = alibi_form::symmetric, .biased_heads = 4}),
      four({.heads = 4, .form = alibi_form::symmetric});
  CHECK(std::vector<double>(six.slopes().begin(), six.slopes().end()) == std::vector<double>{1 / 4.0, 1 / 16.0, 1 / 64.0, 1 / 256.0, 0, 0});
  const attention_positions at{.queries = positions::range(3, 4), .keys = positions::range(7)};
  const auto before = random_tensor<tensor4<double>>(16, 1, 6, 3, 7);
  auto scores = before, expected = before;
  six.bias(scores, at);
  four.bias(tensor_view<double, 4>(expected.data(), {1, 4, 3, 7}), at);
  CHECK(reference::bit_difference(scores, expected) == "");

  // A slice of the heads; a mask where there is no bias; no gradient, so that zeros stay zeros in training.
  const alibi<double> slice({.heads = 6, .form = alibi_form::symmetric, .first_head = 3, .local_heads = 2, .biased_heads = 4});
  CHECK(std::vector<double>(slice.slopes().begin(), slice.slopes().end()) == std::vector<double>{1 / 256.0, 0});
  CHECK(alibi<double>({.heads = 6, .form = alibi_form::causal, .first_head = 4, .biased_heads = 2}).slopes()[0] == 0);
  auto masked = random_tensor<tensor4<double>>(17, 1, 2, 3, 7), d_scores = masked;
  slice.bias(masked, at, {.causal = true});
  CHECK(masked(0, 1, 0, 5) == -std::numeric_limits<double>::infinity());
  gradient_buffer<double> gradients(alibi<double>(slice).parameters());
  slice.bias_backward(d_scores, at, gradients.spans());
  CHECK(gradients.spans()[0][0] != 0);
  CHECK(gradients.spans()[0][1] == 0);
  CHECK(six != alibi<double>(six.slopes(), alibi_form::symmetric));  // whose last two heads are trained
}

TEST_CASE("alibi: Falcon's bias is scaled with the scores", "[alibi]") {
  const attention_positions at{.queries = positions::range(2, 4), .keys = positions::range(6)};
  const auto before = random_tensor<tensor4<double>>(18, 1, 3, 2, 6);
  auto scores = before, expected = before;
  alibi<double>(falcon_alibi(3, 16)).bias(scores, at, {.scale = 0.25});
  alibi<double>({.heads = 3, .form = alibi_form::key_only}).bias(expected, at);  // (q.k + bias) / sqrt(16)
  for (index_t n = 0; n < expected.size(); ++n) expected.data()[n] *= 0.25;
  CHECK(reference::bit_difference(scores, expected) == "");
  CHECK(alibi<double>(falcon_alibi(8, 2)).slopes()[0] == 1 / std::sqrt(2.0) / 2);
  CHECK(alibi<float>({.heads = 1, .form = alibi_form::causal, .bias_scale = 0.75}).value(0, 1, 0) == -0.75f / 256);
}

TEST_CASE("alibi in float: bias_backward sums in double", "[alibi]") {
  // Many of 2^20 and of -2^20 at distance 1, and one of 2^-11 among them, which a sum in float would lose.
  const alibi<float> encoder(std::array{0.5f}, alibi_form::causal);
  tensor4<float> d_scores(1, 1, 1 << 14, 2);
  d_scores.setZero();
  std::vector<position> queries(1 << 14, 1);
  for (index_t i = 0; i < 1 << 14; ++i) d_scores(0, 0, i, 0) = i == 77 ? 0x1p-11f : 0x1p20f * (i % 2 ? 1.0f : -1.0f);
  d_scores(0, 0, 0, 0) = 0;  // its partner is the small one: the others cancel
  gradient_buffer<float> gradients(alibi<float>(encoder).parameters());
  const auto before = d_scores;
  encoder.bias_backward(d_scores, {.queries = positions::ids(queries), .keys = positions::range(2)}, gradients.spans());
  CHECK(gradients.spans()[0][0] == -0x1p-11f);
  CHECK(reference::bit_difference(d_scores, before) == "");
}

TEST_CASE("alibi: trained slopes are the ones in use", "[alibi]") {
  alibi<float> encoder({.heads = 2, .form = alibi_form::causal});
  const auto all = encoder.parameters();
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "slopes");
  CHECK(all[0].shape == std::vector<index_t>{2});
  const auto untrained = encoder;
  all[0].values[1] = 3;
  CHECK(encoder.value(1, 2, 0) == -6);
  CHECK(encoder.value(0, 2, 0) == untrained.value(0, 2, 0));
  CHECK(encoder != untrained);
}

TEST_CASE("alibi does nothing to empty tensors", "[alibi]") {
  const alibi<float> encoder({.heads = 2, .form = alibi_form::causal});
  gradient_buffer<float> gradients(alibi<float>(encoder).parameters());
  struct {
    index_t batch, queries, keys;
  } const shapes[] = {{0, 3, 4}, {2, 0, 4}, {2, 3, 0}};
  for (const auto& [batch, queries, keys] : shapes) {
    tensor4<float> scores(batch, 2, queries, keys);
    const attention_positions at{.queries = positions::range(queries), .keys = positions::range(keys)};
    encoder.bias(scores, at);
    encoder.bias(scores, scores, at);
    encoder.bias_backward(scores, at, gradients.spans());
  }
  Eigen::Tensor<float, 2, RowMajor> tile(0, 4);
  encoder.bias_tile(tile, {.batch = 0, .head = 1, .query = 3, .key = 0}, {.queries = positions::range(3), .keys = positions::range(4)});
  CHECK(gradients.spans()[0][0] == 0);
  CHECK(gradients.spans()[0][1] == 0);
}

TEST_CASE("alibi: encoders are equal where slopes, form and reference are", "[alibi]") {
  const alibi<float> encoder({.heads = 4, .form = alibi_form::key_only});
  CHECK(encoder == alibi<float>({.heads = 4, .form = alibi_form::key_only}));
  CHECK(encoder == alibi<float>(encoder.slopes(), alibi_form::key_only));
  CHECK(encoder != alibi<float>({.heads = 8, .form = alibi_form::key_only}));
  CHECK(encoder != alibi<float>({.heads = 4, .form = alibi_form::causal}));
  CHECK(encoder != alibi<float>({.heads = 4, .form = alibi_form::key_only, .alibi_bias_max = 16}));
  CHECK(encoder != alibi<float>({.heads = 4, .form = alibi_form::key_only, .local_heads = 3}));
  CHECK(encoder != alibi<float>({.heads = 4, .form = alibi_form::key_only, .reference = 1}));
  CHECK(alibi<float>::name() == "alibi");
}

TEST_CASE("alibi refuses options that make no slopes", "[alibi][errors]") {
  const auto refused = [](const std::string& text, const alibi_options& options) {
    reference::refuses("[alibi] " + text, [&] { alibi<float>{options}; });
  };
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  constexpr auto form = alibi_form::causal;
  refused("heads must be positive but got 0", {.heads = 0, .form = form});
  refused("heads must be positive but got -3", {.heads = -3, .form = form});
  refused("alibi_bias_max must be positive and finite but got 0", {.heads = 4, .form = form, .alibi_bias_max = 0});
  refused("alibi_bias_max must be positive and finite but got -8", {.heads = 4, .form = form, .alibi_bias_max = -8});
  refused("alibi_bias_max must be positive and finite but got inf", {.heads = 4, .form = form, .alibi_bias_max = infinity});
  refused("alibi_bias_max must be positive and finite but got nan", {.heads = 4, .form = form, .alibi_bias_max = nan});
  refused("local heads must lie within heads but got 4 and -1 and 2", {.heads = 4, .form = form, .first_head = -1, .local_heads = 2});
  refused("local heads must lie within heads but got 4 and 4 and 0", {.heads = 4, .form = form, .first_head = 4});
  refused("local heads must lie within heads but got 4 and 3 and 2", {.heads = 4, .form = form, .first_head = 3, .local_heads = 2});
  refused("local heads must lie within heads but got 4 and 1 and -1", {.heads = 4, .form = form, .first_head = 1, .local_heads = -1});
  refused("biased heads must lie within heads but got 4 and 5", {.heads = 4, .form = form, .biased_heads = 5});
  refused("biased heads must lie within heads but got 4 and -1", {.heads = 4, .form = form, .biased_heads = -1});
  refused("bias_scale must be positive and finite but got 0", {.heads = 4, .form = form, .bias_scale = 0});
  refused("bias_scale must be positive and finite but got nan", {.heads = 4, .form = form, .bias_scale = nan});
  refused("bias_scale must be positive and finite but got inf", {.heads = 4, .form = form, .bias_scale = infinity});
  refused("the size in bytes must fit in 63 bits but got [4611686018427387904]",
          {.heads = index_t{1} << 62, .form = form, .biased_heads = 1});
  refused("reference must lie in [-2^62, 2^62] but got -9223372036854775808", {.heads = 4, .form = form, .reference = no_position});
  refused("the size in bytes must fit in 63 bits but got [1152921504606846976]", {.heads = index_t{1} << 60, .form = form});

  const auto own = [](const std::string& text, std::vector<float> slopes, position reference = 0) {
    reference::refuses("[alibi] " + text, [&] { alibi<float>(slopes, alibi_form::causal, reference); });
  };
  own("heads must be positive but got 0", {});
  own("slopes must be finite but got nan", {1, std::numeric_limits<float>::quiet_NaN()});
  own("slopes must be finite but got inf", {std::numeric_limits<float>::infinity()});
  own("reference must lie in [-2^62, 2^62] but got 4611686018427387905", {1}, (position{1} << 62) + 1);

  const auto both = [](const std::string& text, std::vector<float> slopes, std::vector<float> after) {
    reference::refuses("[alibi] " + text, [&] { alibi<float>(slopes, after); });
  };
  both("heads must be positive but got 0", {}, {1});
  both("heads must be positive but got 0", {1}, {});
  both("slopes must be finite but got inf", {1}, {std::numeric_limits<float>::infinity()});
  both("there must be as many slopes after the query as before it but got 2 and 1", {1, 2}, {1});
  reference::refuses("[alibi] channels must be positive but got 0", [] { falcon_alibi(4, 0); });
}

TEST_CASE("alibi refuses tensors that do not fit, before it writes", "[alibi][errors]") {
  const alibi<float> encoder({.heads = 2, .form = alibi_form::causal});
  auto scores = random_tensor<tensor4<float>>(10, 2, 2, 3, 4), others = random_tensor<tensor4<float>>(11, 2, 3, 3, 4);
  const attention_positions at{.queries = positions::range(3), .keys = positions::range(4)};
  const auto with = [&](const positions& queries, const positions& keys) { return attention_positions{queries, keys}; };
  const auto refused = [&](const std::string& text, auto&& act) { reference::refuses(scores, "[alibi" + text, act); };

  reference::refuses(others, "[alibi] heads must match the encoder but got 2 and 3", [&] { encoder.bias(others, at); });
  refused(" queries] time must match the positions but got 3 and 2", [&] { encoder.bias(scores, with(positions::range(2), at.keys)); });
  refused(" queries] batch must match the positions but got 2 and 1",
          [&] { encoder.bias(scores, with(positions::offsets(std::array{1}, 3), at.keys)); });
  refused(" keys] time must match the positions but got 4 and 5", [&] { encoder.bias(scores, with(at.queries, positions::range(5))); });
  refused(" keys] batch must match the positions but got 2 and 3",
          [&] { encoder.bias(scores, with(at.queries, positions::offsets(std::array{1, 2, 3}, 4))); });
  refused("] the last axis must be contiguous but got 2",
          [&] { encoder.bias(tensor_view<float, 4>(scores.data(), {1, 2, 3, 4}, {24, 24, 8, 2}), at); });
  refused("] the elements of an output must be distinct, with strides that nest but got [0, 12, 4, 1]",
          [&] { encoder.bias(tensor_view<float, 4>(scores.data(), {2, 2, 3, 4}, {0, 12, 4, 1}), at); });
  refused("] the output must have the input's shape but got [2, 3, 3, 4] and [2, 2, 3, 4]", [&] { encoder.bias(others, scores, at); });
  refused("] input and output must be one view or not overlap but got [1, 2, 3, 4] and [1, 2, 3, 4]", [&] {
    encoder.bias(tensor_view<const float, 4>(scores.data() + 12, {1, 2, 3, 4}), tensor_view<float, 4>(scores.data(), {1, 2, 3, 4}), at);
  });
  refused("] head must lie within the heads but got 2 and 2", [&] { encoder.value(2, 0, 0); });
  refused("] head must lie within the heads but got 2 and -1", [&] { encoder.value(-1, 0, 0); });
}

TEST_CASE("alibi refuses tiles and gradients that do not fit, before it writes", "[alibi][errors]") {
  const alibi<float> encoder({.heads = 2, .form = alibi_form::causal});
  const attention_positions at{.queries = positions::offsets(std::array{0, 7}, 5), .keys = positions::range(6)};
  auto tile = random_tensor<Eigen::Tensor<float, 2, RowMajor>>(12, 3, 4);
  const auto refused = [&](const std::string& text, const tile_place& place) {
    reference::refuses(tile, text, [&] { encoder.bias_tile(tile, place, at); });
  };
  refused("[alibi] head must lie within the heads but got 2 and 2", {.batch = 0, .head = 2, .query = 0, .key = 0});
  refused("[alibi] head must lie within the heads but got 2 and -1", {.batch = 0, .head = -1, .query = 0, .key = 0});
  refused("[alibi] the tile must lie within the batch but got 2", {.batch = 2, .head = 0, .query = 0, .key = 0});
  refused("[alibi] the tile must lie within the batch but got -1", {.batch = -1, .head = 0, .query = 0, .key = 0});
  refused("[positions] a slice must lie within time but got 5 and 3 and 3", {.batch = 0, .head = 0, .query = 3, .key = 0});
  refused("[positions] a slice must lie within time but got 6 and -1 and 4", {.batch = 0, .head = 0, .query = 0, .key = -1});

  auto d_scores = random_tensor<tensor4<float>>(13, 2, 2, 5, 6);
  std::array<float, 2> values{1, 2};
  std::array<float, 1> few{3};
  const std::array<std::span<float>, 1> good{values}, small{few};
  const std::array<std::span<float>, 2> many{values, values};
  reference::refuses(d_scores, "[alibi] there must be one gradient span per parameter but got 1 and 0",
                     [&] { encoder.bias_backward(d_scores, at, {}); });
  reference::refuses(d_scores, "[alibi] gradient spans must have a value per head but got 2 and 1",
                     [&] { encoder.bias_backward(d_scores, at, small); });
  reference::refuses(d_scores, "[alibi] there must be one gradient span per parameter but got 1 and 2",
                     [&] { encoder.bias_backward(d_scores, at, many); });
  const alibi<float> two_sided({.heads = 2, .form = alibi_form::asymmetric});
  const std::array<std::span<float>, 2> uneven{values, few};
  reference::refuses(d_scores, "[alibi] there must be one gradient span per parameter but got 2 and 1",
                     [&] { two_sided.bias_backward(d_scores, at, good); });
  reference::refuses(d_scores, "[alibi] gradient spans must have a value per head but got 2 and 1",
                     [&] { two_sided.bias_backward(d_scores, at, uneven); });
  reference::refuses(d_scores, "[alibi queries] time must match the positions but got 5 and 4",
                     [&] { encoder.bias_backward(d_scores, {.queries = positions::range(4), .keys = positions::range(6)}, good); });
  CHECK(values == std::array<float, 2>{1, 2});
}
