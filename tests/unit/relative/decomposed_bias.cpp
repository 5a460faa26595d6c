// SPDX-License-Identifier: MIT
#include <posenc/relative/decomposed_bias.hpp>

#include <posenc/grid.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;
using reference::bit_difference;

constexpr index_t channels_ = 5, heads_ = 2;
constexpr auto slowest = grid_order::slowest_first;

template <class S>
decomposed_bias<S> encoder_of(decomposed_bias_options options) {
  decomposed_bias<S> encoder(std::move(options));
  std::uint64_t seed = 1;
  for (auto& one : encoder.parameters())
    std::ranges::copy(random_vector<S>(seed++, static_cast<index_t>(one.values.size())), one.values.begin());
  return encoder;
}

struct example {
  const char* name;
  decomposed_bias_options options;
  attention_positions at;
};
std::vector<example> examples() {
  const auto picture = grid_positions({.extents = {3, 4}, .order = slowest, .prefix = 1});
  const auto film = grid_positions({.extents = {2, 3, 4}, .order = slowest});
  // Cells of two rows of a batch, in no order, farther from zero than a float counts, and some without a position.
  std::vector<position> ids;
  for (const int axis : {0, 1})
    for (const int row : {0, 1})
      for (const int t : {3, 0, 1, 2, 2, 1})
        ids.push_back(row == 1 && t == 0 ? no_position : row * (position{1} << 31) + (axis == 0 ? t % 3 : (t * 3 + row) % 4));
  const auto any = positions::multi_axis(ids, 2, 2);
  return {
      {"a picture with a class token", {.extents = {3, 4}, .channels = channels_, .scale = 0.5}, {picture, picture}},
      {"a film", {.extents = {2, 3, 4}, .channels = channels_}, {film, film}},
      {"one axis", {.extents = {150}, .channels = channels_}, {positions::range(150), positions::range(150)}},
      {"pooled keys",
       {.extents = {4, 6}, .channels = channels_, .zero_rows = {pooled_zero_row(4, 2), pooled_zero_row(6, 2)}},
       {grid_positions({.extents = {4, 6}, .order = slowest}), grid_positions({.extents = {2, 2}, .order = slowest, .step = {2, 3}})}},
      {"any cells", {.extents = {3, 4}, .channels = channels_}, {any, any}},
  };
}

/// The full table that the products of one query expand to, as the sums over axes and channels say it.
template <class S>
double expected(decomposed_bias<S>& encoder, const attention_positions& at, const tensor4<S>& q, index_t b, index_t h, index_t i,
                index_t j) {
  if (at.queries(b, i) == no_position || at.keys(b, j) == no_position) return 0;
  double sum = 0;
  const auto tables = encoder.parameters();
  for (std::size_t axis = 0; axis < tables.size(); ++axis) {
    const auto& options = encoder.options();
    const position zero = options.zero_rows.empty() ? options.extents[axis] - 1 : options.zero_rows[axis];
    const position row = at.queries(b, i, static_cast<index_t>(axis)) - at.keys(b, j, static_cast<index_t>(axis)) + zero;
    for (index_t c = 0; c < channels_; ++c)
      sum += static_cast<double>(q(b, i, h, c)) * static_cast<double>(tables[axis].values[static_cast<std::size_t>(row * channels_ + c)]);
  }
  return sum * encoder.options().scale;
}

template <class S>
attention_inputs<S> inputs_of(const tensor4<S>& q) {
  return {.scale = 1.0, .queries = heads(q, axis_order::time_head)};
}

}  // namespace

TEMPLATE_TEST_CASE("decomposed_bias is the full table that it expands to", "[decomposed_bias]", float, double) {
  for (const auto& one : examples()) {
    INFO(one.name);
    auto encoder = encoder_of<TestType>(one.options);
    const index_t batch = 2, queries = one.at.queries.time(), keys = one.at.keys.time();
    const auto q = random_tensor<tensor4<TestType>>(7, batch, queries, heads_, channels_);
    const auto before = random_tensor<tensor4<TestType>>(8, batch, heads_, queries, keys);
    auto scores = before;
    encoder.bias(scores, inputs_of(q), one.at, {.scale = 0.5});
    double worst = 0;
    for (index_t b = 0; b < batch; ++b)
      for (index_t h = 0; h < heads_; ++h)
        for (index_t i = 0; i < queries; ++i)
          for (index_t j = 0; j < keys; ++j)
            worst = std::max(worst, std::abs(static_cast<double>(scores(b, h, i, j)) -
                                             (0.5 * static_cast<double>(before(b, h, i, j)) + expected(encoder, one.at, q, b, h, i, j))));
    CHECK(worst <= 8.0 * channels_ * static_cast<double>(std::numeric_limits<TestType>::epsilon()));

    auto staged = before, plain = before;
    encoder.bias(plain, inputs_of(q), one.at);
    encode_scores(encoder, staged, inputs_of(q), prepare(encoder, one.at));
    CHECK(bit_difference(staged, plain) == "");
  }
}

TEST_CASE("pooled cells have the rows of MViTv2's get_rel_pos", "[decomposed_bias]") {
  for (const auto& [q_size, k_size] : {std::pair<index_t, index_t>{4, 2}, {6, 2}, {2, 4}, {3, 3}, {8, 1}}) {
    const index_t larger = std::max(q_size, k_size), zero = pooled_zero_row(q_size, k_size);
    const double q_ratio = std::fmax(static_cast<double>(k_size) / static_cast<double>(q_size), 1),
                 k_ratio = std::fmax(static_cast<double>(q_size) / static_cast<double>(k_size), 1);
    auto encoder = encoder_of<double>({.extents = {larger}, .channels = 1, .zero_rows = {zero}});
    const auto table = encoder.parameters()[0].values;
    const auto at = [](index_t count, index_t step) {
      std::vector<position> ids;
      for (index_t n = 0; n < count; ++n) ids.push_back(n * step);
      return positions::ids(ids);
    };
    tensor4<double> q(1, q_size, 1, 1), scores(1, 1, q_size, k_size);
    q.setConstant(1), scores.setZero();
    encoder.bias(scores, inputs_of(q),
                 {at(q_size, std::max<index_t>(k_size / q_size, 1)), at(k_size, std::max<index_t>(q_size / k_size, 1))});
    for (index_t i = 0; i < q_size; ++i)
      for (index_t j = 0; j < k_size; ++j) {
        const double relative =
            (static_cast<double>(i) * q_ratio - static_cast<double>(j) * k_ratio) + static_cast<double>(k_size - 1) * k_ratio;
        CHECK(scores(0, 0, i, j) == table[static_cast<std::size_t>(relative)]);
      }
  }
}

TEST_CASE("decomposed_bias gives a query the same bits alone as among others", "[decomposed_bias]") {
  const auto encoder = encoder_of<float>({.extents = {12, 13}, .channels = channels_});
  const auto at = grid_positions({.extents = {12, 13}, .order = slowest});
  const auto q = random_tensor<tensor4<float>>(7, 1, 156, heads_, channels_);
  tensor4<float> whole(1, heads_, 156, 156);
  whole.setZero();
  encoder.bias(whole, inputs_of(q), {at, at});
  for (const index_t i : {0, 63, 64, 155}) {
    tensor4<float> step(1, heads_, 1, 100);
    step.setZero();
    encoder.bias(step, attention_inputs<float>{.scale = 1.0, .queries = heads(q, axis_order::time_head).slice(i, 1)},
                 {at.slice(i, 1), at.slice(40, 100)});
    for (index_t h = 0; h < heads_; ++h)
      for (index_t j = 0; j < 100; ++j) REQUIRE(step(0, h, 0, j) == whole(0, h, i, 40 + j));
  }
}

TEST_CASE("the gradients of decomposed_bias are those of finite differences", "[decomposed_bias]") {
  for (const auto& one : examples()) {
    if (one.options.extents[0] > 100) continue;
    INFO(one.name);
    auto encoder = encoder_of<double>(one.options);
    const index_t batch = 2, queries = one.at.queries.time(), keys = one.at.keys.time();
    auto q = random_tensor<tensor4<double>>(7, batch, queries, heads_, channels_);
    const auto before = random_tensor<tensor4<double>>(8, batch, heads_, queries, keys);
    const auto weights = random_tensor<tensor4<double>>(9, batch, heads_, queries, keys);
    const auto loss = [&] {
      auto scores = before;
      encoder.bias(scores, inputs_of(q), one.at);
      return reference::dot(scores, weights);
    };
    auto d = weights;
    tensor4<double> d_q(batch, queries, heads_, channels_);
    d_q.setConstant(1);
    gradient_buffer<double> d_parameters(encoder.parameters());
    encoder.bias_backward(d, inputs_of(q), {.queries = heads(d_q, axis_order::time_head)}, one.at, d_parameters.spans(), {.scale = 0.25});
    // Scores are linear in each of them.
    const auto check = [](std::span<const double> got, const std::vector<double>& want, double start) {
      REQUIRE(got.size() == want.size());
      for (std::size_t n = 0; n < want.size(); ++n) CHECK(std::abs(got[n] - start - want[n]) <= 1e-11 * (1 + std::abs(want[n])));
    };
    std::size_t n = 0;
    for (auto& parameter : encoder.parameters()) check(d_parameters.spans()[n++], reference::derivatives(parameter.values, loss, 0.5), 0);
    check({d_q.data(), static_cast<std::size_t>(d_q.size())},
          reference::derivatives({q.data(), static_cast<std::size_t>(q.size())}, loss, 0.5), 1);
    for (index_t k = 0; k < d.size(); ++k) CHECK(d.data()[k] == 0.25 * weights.data()[k]);
  }
}

TEST_CASE("the tables of decomposed_bias are named for their axes", "[decomposed_bias]") {
  const auto names = [](std::vector<index_t> extents) {
    std::string all;
    decomposed_bias<float> encoder({.extents = std::move(extents), .channels = 3});
    for (const auto& one : encoder.parameters()) all += std::string(one.name) + " " + std::to_string(one.shape[0]) + " ";
    return all;
  };
  CHECK(names({4}) == "width 7 ");
  CHECK(names({3, 4}) == "height 5 width 7 ");
  CHECK(names({1, 3, 4}) == "time 1 height 5 width 7 ");
}

TEST_CASE("decomposed_bias refuses what does not fit, before it writes", "[decomposed_bias]") {
  using reference::refuses;
  const auto made = [](decomposed_bias_options options) { return [options] { decomposed_bias<float>{options}; }; };
  const std::string who = "[decomposed_bias] ";
  refuses(who + "there must be 1 to 3 extents but got 0", made({.extents = {}, .channels = 4}));
  refuses(who + "there must be 1 to 3 extents but got 4", made({.extents = {1, 2, 3, 4}, .channels = 4}));
  refuses(who + "channels must be positive but got 0", made({.extents = {2}, .channels = 0}));
  refuses(who + "extents must lie in [1, 2^30) but got 0", made({.extents = {2, 0}, .channels = 4}));
  refuses(who + "there must be one zero row per extent but got 2 and 1", made({.extents = {2, 3}, .channels = 4, .zero_rows = {1}}));
  refuses(who + "zero rows must lie in the tables but got 3 and 3", made({.extents = {2}, .channels = 4, .zero_rows = {3}}));
  refuses(who + "scale must be finite but got inf",
          made({.extents = {2}, .channels = 4, .scale = std::numeric_limits<double>::infinity()}));
  refuses(who + "one of queries and keys along an axis must be a multiple of the other but got 3 and 2", [] { pooled_zero_row(3, 2); });
  const std::vector<float> table(12);
  refuses(who + "there must be one table per extent but got 2 and 1",
          [&] { decomposed_bias<float>({.extents = {2, 2}, .channels = 4}, {table}); });
  refuses(who + "a table must have 2 extent - 1 rows of channels but got 20 and 12",
          [&] { decomposed_bias<float>({.extents = {3}, .channels = 4}, {table}); });

  const auto encoder = encoder_of<float>({.extents = {3, 4}, .channels = channels_});
  const auto at = grid_positions({.extents = {3, 4}, .order = slowest});
  const auto q = random_tensor<tensor4<float>>(7, 1, 12, heads_, channels_);
  std::vector<float> memory(heads_ * 12 * 12, 1.0f);
  const score_view<float> scores(memory.data(), {1, heads_, 12, 12});
  const auto refused = [&](const std::string& text, const head_view<const float>& queries, const attention_positions& where,
                           const score_pass& pass = {}) {
    refuses(memory, text, [&] { encoder.bias(scores, attention_inputs<float>{.scale = 1.0, .queries = queries}, where, pass); });
  };
  const auto queries = heads(q, axis_order::time_head);
  refused(who + "the queries must be given but got none", {}, {at, at});
  refused(who + "cells of a grid have no causal order but got causal", queries, {at, at}, {.causal = true});
  refused("[decomposed_bias keys] time must match the positions but got 12 and 11", queries, {at, at.slice(0, 11)});
  refused("[decomposed_bias queries] the positions must have as many axes as the encoder but got 2 and 1", queries,
          {positions::range(12), at});
  const auto far = grid_positions({.extents = {4, 3}, .order = slowest});
  refused(who + "cells must not be farther apart than a table reaches but got 5 and -3", queries, {far, far});
  const auto top = grid_positions({.extents = {3, 4}, .order = slowest}),
             lower = grid_positions({.extents = {3, 4}, .order = slowest, .start = {1, 0}});
  refused(who + "cells must not be farther apart than a table reaches but got 5 and 3", queries, {lower, top});  // the query below
  refused(who + "cells must not be farther apart than a table reaches but got 5 and -3", queries, {top, lower});
  std::vector<float> small(3);
  const std::span<float> one[] = {small}, two[] = {small, small};
  refuses(memory, who + "there must be one gradient span per parameter but got 2 and 1",
          [&] { encoder.bias_backward(scores, inputs_of(q), attention_gradients<float>{}, {at, at}, one); });
  refuses(memory, who + "gradient spans must have the sizes of the parameters but got 25 and 3",
          [&] { encoder.bias_backward(scores, inputs_of(q), attention_gradients<float>{}, {at, at}, two); });
}
