// SPDX-License-Identifier: MIT
#include <posenc/relative/music_transformer.hpp>

#include <posenc/relative/shaw.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "random_parameters.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"
#include "reference/relative_pairs.hpp"
#include "reference/skewing.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;

template <class S, int Rank = 4>
using rows = Eigen::Tensor<S, Rank, Eigen::RowMajor>;
constexpr auto order = axis_order::time_head;
constexpr auto masked = music_transformer_form::masked, unmasked = music_transformer_form::unmasked;

/// The products of one head's queries with the keys of `length` distances back, or also forth, as the paper forms them: the last rows of
/// the table, and rows of zeros in front where it is too short (tensor2tensor).
reference::matrix products(const rows<double>& q, index_t h, const tensor_view<const double, 3>& table, index_t length, bool both_ways) {
  const index_t count = both_ways ? 2 * length - 1 : length, first = both_ways ? (table.extent(1) - count) / 2 : table.extent(1) - count;
  reference::matrix all{length, count, {}};
  for (index_t i = 0; i < length; ++i)
    for (index_t n = first; n < first + count; ++n) {
      double sum = 0;
      for (index_t c = 0; c < q.dimension(3) && n >= 0 && n < table.extent(1); ++c) sum += q(0, i, h, c) * table(h, n, c);
      all.values.push_back(sum);
    }
  return all;
}

}  // namespace

TEST_CASE("music_transformer adds what padding, reshaping and slicing give", "[music_transformer]") {
  for (const bool both_ways : {false, true})
    for (const index_t length : {1, 2, 7, 12, 70}) {
      const auto encoder = with_random_parameters(
          music_transformer<double>({.channels = 4, .max_distance = 12, .form = both_ways ? unmasked : masked, .heads = 2}));
      const auto q = random_tensor<rows<double>>(3, 1, length, 2, 4);
      rows<double> scores(1, 2, length, length);
      scores.setZero();
      encoder.bias(scores, attention_inputs<double>{.scale = 0.5, .queries = heads(q, order)},
                   attention_positions{positions::range(length, 100), positions::range(length, 100)});
      INFO(length << " tokens, both ways " << both_ways);
      for (index_t h = 0; h < 2; ++h) {
        const auto from = products(q, h, encoder.keys(), length, both_ways);
        const auto expected = both_ways ? reference::skewed_unmasked(from) : reference::skewed(from);
        double worst = 0;
        for (index_t i = 0; i < length; ++i)
          for (index_t j = 0; j < length; ++j) {
            const double wanted = !both_ways && j > i ? 0 : 0.5 * expected.values[static_cast<std::size_t>(i * length + j)];
            worst = std::max(worst, std::abs(scores(0, h, i, j) - wanted));
          }
        CHECK(worst < 1e-15 * 8);
      }
    }
}

TEMPLATE_TEST_CASE("music_transformer gives nothing to keys too far away, keys and values alike", "[music_transformer]", float, double) {
  using S = TestType;
  for (const auto& at : reference::relative_cases())
    for (const auto form : {masked, unmasked}) {
      const auto encoder = with_random_parameters(
          music_transformer<S>({.channels = 3, .max_distance = 4, .form = form, .tables = relative_tables::separate}));
      const index_t queries = at.queries.time(), keys = at.keys.time();
      INFO(queries << " queries, form " << static_cast<int>(form));
      const auto q = random_tensor<rows<S>>(3, 2, queries, 2, 3), v = random_tensor<rows<S>>(6, 2, queries, 2, 3);
      const auto weights = random_tensor<rows<S>>(4, 2, 2, queries, keys), before = random_tensor<rows<S>>(5, 2, 2, queries, keys);
      const auto part = [&](const tensor_view<const S, 3>& table, position d, index_t c) {
        const bool has_row = form == masked ? d <= 0 && d > -4 : std::abs(d) < 4;
        return has_row ? static_cast<double>(table(0, d + 3, c)) : 0.0;
      };
      const double tolerance = 8 * 3 * static_cast<double>(std::numeric_limits<S>::epsilon());
      auto scores = before, context = v;
      encoder.bias(scores, attention_inputs<S>{.scale = 2, .queries = heads(q, order)}, at);
      const auto expected = reference::relative_scores(before, at, {}, [&](index_t b, index_t h, index_t i, index_t, position d) {
        double sum = 0;
        for (index_t c = 0; c < 3; ++c) sum += 2 * static_cast<double>(q(b, i, h, c)) * part(encoder.keys(), d, c);
        return sum;
      });
      CHECK(reference::difference(scores, expected, tolerance) == "");
      encoder.add_values(heads(context, order), weights, at);
      const auto wanted =
          reference::relative_context(v, weights, at, [&](index_t, position d, index_t c) { return part(encoder.values(), d, c); });
      CHECK(reference::difference(context, wanted, tolerance) == "");
    }
}

TEST_CASE("music_transformer has the values of the paper's formula", "[music_transformer]") {
  // Three distances: E[2] is the query's own key, E[0] the one two back; four back is out of reach.
  const music_transformer<double> encoder({.channels = 1, .max_distance = 3, .form = masked}, {{100, 10, 1}});
  rows<double> q(1, 1, 1, 1), scores(1, 1, 1, 6);
  q.setConstant(3);
  scores.setZero();
  encoder.bias(scores, attention_inputs<double>{.scale = 0.5, .queries = heads(q, order)},
               attention_positions{positions::range(1, 4), positions::range(6)});
  CHECK(std::vector<double>(scores.data(), scores.data() + 6) == std::vector<double>{0, 0, 150, 15, 1.5, 0});
}

TEST_CASE("music_transformer is shaw where no distance is out of reach", "[music_transformer]") {
  const auto encoder = with_random_parameters(music_transformer<float>({.channels = 6, .max_distance = 9, .form = unmasked}));
  const auto values = random_vector<float>(1, 17 * 6);
  const shaw<float> same({.channels = 6, .left = 8, .right = 8, .tables = relative_tables::keys}, {values});
  const auto q = random_tensor<rows<float>>(2, 1, 9, 2, 6);
  auto a = random_tensor<rows<float>>(3, 1, 2, 9, 9), b = a;
  const attention_inputs<float> inputs{.scale = 0.25, .queries = heads(q, order)};
  const attention_positions at{positions::range(9), positions::range(9)};
  encoder.bias(a, inputs, at);
  same.bias(b, inputs, at);
  CHECK(reference::bit_difference(a, b) == "");
}

TEST_CASE("music_transformer names what does not fit", "[music_transformer]") {
  reference::refuses("[music_transformer] max_distance must be positive but got 0",
                     [] { music_transformer<float>({.channels = 2, .max_distance = 0, .form = masked}); });
  constexpr index_t most = index_t{1} << 62;
  reference::refuses("[music_transformer] max_distance must lie below 2^62 but got " + std::to_string(most),
                     [] { music_transformer<float>({.channels = 2, .max_distance = most, .form = unmasked}); });
  reference::refuses("[music_transformer] channels must be positive but got -2",
                     [] { music_transformer<float>({.channels = -2, .max_distance = 3, .form = masked}); });
}

TEST_CASE("music_transformer encoders are equal where forms, tables and values are", "[music_transformer]") {
  const music_transformer_options options{.channels = 2, .max_distance = 3, .form = masked};
  const music_transformer<float> a(options), b(options);
  CHECK(a == b);
  CHECK(a.options() == options);
  const music_transformer<float> longer({.channels = 2, .max_distance = 5, .form = masked});
  const music_transformer<float> both_ways({.channels = 2, .max_distance = 3, .form = unmasked});
  CHECK_FALSE(a == longer);
  CHECK_FALSE(a == both_ways);
  CHECK_FALSE(a.options() == both_ways.options());
  CHECK_FALSE(a == with_random_parameters(music_transformer<float>(options)));
}
