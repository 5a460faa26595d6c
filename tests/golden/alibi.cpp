// SPDX-License-Identifier: MIT
/// \file  ALiBi's slopes and biases as six systems make them.
#include <posenc/alibi.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "reference/difference.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::column_major, golden::load, golden::npy, golden::relative, golden::row_major, golden::view;
using reference::bit_difference;

template <class S>
npy<S> array_of(std::span<const S> values) {
  return {{static_cast<index_t>(values.size())}, {values.begin(), values.end()}};
}

TEST_CASE("slopes are the nearest numbers to the truth, for every rule and number of heads", "[golden][alibi]") {
  for (const index_t heads : {1, 2, 3, 4, 6, 8, 16, 24, 32, 64})
    for (const std::string rule : {"press", "bloom", "mpt"}) {
      const std::string name = "alibi/slopes/" + rule + "_" + std::to_string(heads);
      INFO(name);
      const auto truth = load<double>(name + "_f64");
      const alibi<double> in_double({.heads = heads, .form = alibi_form::symmetric});
      const alibi<float> in_float({.heads = heads, .form = alibi_form::symmetric});
      CHECK(absolute(array_of(in_double.slopes()), truth) <= 0);
      CHECK(absolute(array_of(in_float.slopes()), golden::converted<float>(truth)) <= 0);
      CHECK(absolute(array_of(std::span<const double>(alibi_slopes(heads))), truth) <= 0);
      // Press and Bloom multiply one ratio up, so their slopes of more than 8 heads are off.
      if (rule == "press") CHECK(relative(array_of(in_double.slopes()), load<double>(name)) <= 1.6e-15);
      else CHECK(relative(array_of(in_double.slopes()), load<float>(name)) <= (rule == "bloom" ? 4.8e-7 : 3.2e-8));
    }
}

TEST_CASE("slopes reach down to 2^-alibi_bias_max", "[golden][alibi]") {
  const auto truth = load<double>("alibi/slopes_bias_max/slopes_f64");
  const alibi<double> in_double({.heads = 12, .form = alibi_form::symmetric, .alibi_bias_max = 16});
  const alibi<float> in_float({.heads = 12, .form = alibi_form::symmetric, .alibi_bias_max = 16});
  CHECK(absolute(array_of(in_double.slopes()), truth) <= 0);
  CHECK(absolute(array_of(in_float.slopes()), load<float>("alibi/slopes_bias_max/slopes")) <= 0);
}

struct golden_case {
  std::string name;
  std::vector<index_t> shape;  ///< [batch, head, query, key]
  alibi_options options;
  attention_positions at;
  bool causal = false;         ///< masked
  double reference_error = 0;  ///< relative
  bool powers_of_two = true;   ///< the slopes: then a bias is exact in float too
};

std::vector<golden_case> cases() {
  const auto integers = [](const std::string& name) { return load<std::int64_t>("alibi/" + name); };
  const auto last = [](index_t queries, index_t keys) {  // the queries are the last of the keys
    return attention_positions{positions::range(queries, keys - queries), positions::range(keys)};
  };
  const alibi_options six{.heads = 6, .form = alibi_form::symmetric}, six_causal{.heads = 6, .form = alibi_form::causal};
  const alibi_options eight{.heads = 8, .form = alibi_form::symmetric}, eight_keys{.heads = 8, .form = alibi_form::key_only};
  return {
      {"alibi/bloom_row_bias_masked/alibi",
       {2, 8, 1, 10},
       eight_keys,
       {positions::range(1, 9), positions::from_padding_mask(view<2>(integers("bloom_row_bias_masked/attention_mask")))}},
      {"alibi/mpt_row_bias/alibi",
       {1, 16, 1, 24},
       {.heads = 16, .form = alibi_form::key_only, .reference = 23},
       last(1, 24),
       false,
       6.26e-8,
       false},
      {"alibi/press_future_mask/mask", {1, 8, 12, 12}, eight_keys, last(12, 12), true},
      {"alibi/symmetric_full/bias", {1, 8, 16, 16}, eight, last(16, 16)},
      {"alibi/custom_positions/bias",
       {1, 4, 6, 9},
       {.heads = 4, .form = alibi_form::symmetric},
       {positions::ids(view<2>(integers("custom_positions/pos_q"))), positions::ids(view<2>(integers("custom_positions/pos_k")))}},
      {"alibi/kv_offset_symmetric/bias", {1, 8, 4, 20}, eight, last(4, 20)},
      {"alibi/kv_offset_causal/bias_unmasked", {1, 6, 5, 12}, six, last(5, 12)},
      {"alibi/kv_offset_causal/bias_causal", {1, 6, 5, 12}, six, last(5, 12), true},
      {"alibi/kv_offset_causal/bias_causal", {1, 6, 5, 12}, six_causal, last(5, 12), true},
  };
}

/// Relative: the slope and its product with a whole distance are rounded once each, in double as the truth's are.
template <class S>
double error_of(const golden_case& c) {
  return c.powers_of_two || std::same_as<S, double> ? 0 : 2 * golden::rounding<S>;
}

/// The same positions, one by one and per batch row.
positions spelled_out(const positions& at, index_t batch) {
  std::vector<position> ids;
  for (index_t b = 0; b < batch; ++b)
    for (index_t t = 0; t < at.time(); ++t) ids.push_back(at(b, t));
  return positions::ids(ids, batch);
}

TEMPLATE_TEST_CASE("biases are the truth", "[golden][alibi]", float, double) {
  for (const auto& c : cases()) {
    INFO(c.name << " form " << static_cast<int>(alibi_form{c.options.form}));
    const alibi<TestType> encoder(c.options);
    const score_pass pass{.causal = c.causal};
    const auto zeros = npy<TestType>::filled(c.shape, 0);
    auto bias = zeros, by_columns = zeros, from_ids = zeros, elsewhere = npy<TestType>::filled(c.shape, 7);
    encoder.bias(row_major<4>(bias), c.at, pass);
    CHECK(relative(bias, load<double>(c.name + "_f64")) <= error_of<TestType>(c));
    CHECK(relative(bias, load<float>(c.name)) <= c.reference_error + error_of<TestType>(c));

    encoder.bias(column_major<4>(by_columns), c.at, pass);
    CHECK(bit_difference(by_columns.values, bias.values) == "");
    encoder.bias(row_major<4>(from_ids), {spelled_out(c.at.queries, c.shape[0]), spelled_out(c.at.keys, c.shape[0])}, pass);
    CHECK(bit_difference(from_ids.values, bias.values) == "");
    encoder.bias(view<4>(zeros), row_major<4>(elsewhere), c.at, pass);
    CHECK(bit_difference(elsewhere.values, bias.values) == "");
  }
}

TEMPLATE_TEST_CASE("biases come after the scale of the scores", "[golden][alibi]", float, double) {
  for (const auto& c : cases()) {
    if (error_of<TestType>(c) > 0) continue;
    INFO(c.name);
    const auto truth = load<double>(c.name + "_f64");
    auto expected = npy<TestType>::filled(c.shape, 0), scores = npy<TestType>::filled(c.shape, 1.5);
    for (std::size_t n = 0; n < truth.values.size(); ++n) expected.values[n] = static_cast<TestType>(0.75 + truth.values[n]);
    alibi<TestType>(c.options).bias(row_major<4>(scores), c.at, {.scale = 0.5, .causal = c.causal});
    CHECK(absolute(scores, expected) <= 0);
  }
}

TEMPLATE_TEST_CASE("the causal form gives future keys no bias where they are not masked", "[golden][alibi]", float, double) {
  auto expected = load<double>("alibi/kv_offset_causal/bias_unmasked_f64");
  const auto masked = load<double>("alibi/kv_offset_causal/bias_causal_f64");
  for (std::size_t n = 0; n < expected.values.size(); ++n)
    if (std::isinf(masked.values[n])) expected.values[n] = 0;
  const attention_positions ranges{positions::range(5, 7), positions::range(12)};
  for (const auto& at : {ranges, attention_positions{spelled_out(ranges.queries, 1), spelled_out(ranges.keys, 1)}}) {
    auto bias = npy<TestType>::filled({1, 6, 5, 12}, 0);
    alibi<TestType>({.heads = 6, .form = alibi_form::causal}).bias(row_major<4>(bias), at);
    CHECK(absolute(bias, expected) <= 0);
  }
}

TEMPLATE_TEST_CASE("a key_only bias is the same for every query", "[golden][alibi]", float, double) {
  for (const auto& c : cases()) {
    if (c.shape[2] != 1) continue;
    INFO(c.name);
    const auto truth = load<double>(c.name + "_f64");
    auto rows = npy<TestType>::filled({c.shape[0], c.shape[1], 3, c.shape[3]}, 0);
    alibi<TestType>(c.options).bias(row_major<4>(rows), {positions::range(3, 20), c.at.keys}, {.causal = c.causal});
    for (index_t q = 0; q < 3; ++q) {
      auto one = npy<TestType>::filled(c.shape, 7);
      row_major<4>(one).chip(0, 2) = row_major<4>(rows).chip(q, 2);
      CHECK(relative(one, truth) <= error_of<TestType>(c));
    }
  }
}

TEMPLATE_TEST_CASE("value and the stage function give the bits of bias", "[golden][alibi]", float, double) {
  for (const auto& c : cases()) {
    INFO(c.name);
    const alibi<TestType> encoder(c.options);
    auto bias = npy<TestType>::filled(c.shape, 0), staged = bias, values = bias;
    encoder.bias(row_major<4>(bias), c.at);

    encode_scores(encoder, row_major<4>(staged), prepare(encoder, c.at));
    CHECK(bit_difference(staged.values, bias.values) == "");

    const auto to = view<4>(values);
    for (index_t b = 0; b < c.shape[0]; ++b)
      for (index_t h = 0; h < c.shape[1]; ++h)
        for (index_t q = 0; q < c.shape[2]; ++q)
          for (index_t k = 0; k < c.shape[3]; ++k) to(b, h, q, k) += encoder.value(h, c.at.queries(b, q), c.at.keys(b, k));
    CHECK(bit_difference(values.values, bias.values) == "");
  }
}

TEMPLATE_TEST_CASE("tiles put together are the whole, bit for bit", "[golden][alibi]", float, double) {
  for (const auto& c : cases()) {
    INFO(c.name);
    const alibi<TestType> encoder(c.options);
    const score_pass pass{.scale = 0.3, .causal = c.causal};
    auto whole = npy<TestType>::filled(c.shape, TestType(1.1)), tiled = whole;
    encoder.bias(row_major<4>(whole), c.at, pass);
    const auto all = view<4>(tiled);
    constexpr index_t rows = 3, columns = 5;
    for (index_t b = 0; b < c.shape[0]; ++b)
      for (index_t h = 0; h < c.shape[1]; ++h)
        for (index_t q = 0; q < c.shape[2]; q += rows)
          for (index_t k = 0; k < c.shape[3]; k += columns) {
            const std::array extents{std::min(rows, c.shape[2] - q), std::min(columns, c.shape[3] - k)};
            const tensor_view<TestType, 2> tile(&all(b, h, q, k), extents, {all.stride(2), 1});
            encoder.bias_tile(tile, {.batch = b, .head = h, .query = q, .key = k}, c.at, pass);
          }
    CHECK(bit_difference(tiled.values, whole.values) == "");
  }
}

}  // namespace
