// SPDX-License-Identifier: MIT
#include <posenc/relative/window_bias.hpp>

#include <posenc/grid.hpp>
#include <posenc/learned/initialize.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/window_bias.hpp"

#include <algorithm>
#include <array>
#include <cmath>  // signbit
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;
using reference::bit_difference, reference::refuses;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, RowMajor>;

constexpr auto swin = window_bias_form::swin, maxvit = window_bias_form::maxvit, levit = window_bias_form::levit;

reference::window_rule rule_of(const window_bias_options& options) {
  using rule = reference::window_rule;
  return {options.window, options.form == swin ? rule::query_minus_key : options.form == maxvit ? rule::key_minus_query : rule::magnitudes};
}

/// The place in the table.
index_t place(const window_bias_options& options, index_t rows, index_t row, index_t head) {
  return options.form == swin ? row * options.heads + head : head * rows + row;
}

template <class S>
window_bias<S> encoder_of(const window_bias_options& options) {
  window_bias<S> encoder(options);
  random_numbers random(1);
  const auto table = encoder.parameters().at(0).values;
  for (S& value : table) value = random.real<S>();
  return encoder;
}

const window_bias_options settings[] = {
    {{2, 3}, 2, swin}, {{2, 3}, 2, swin, true}, {{2, 3}, 2, maxvit}, {{2, 3}, 2, levit},    {{4}, 1, swin, true},
    {{1, 1}, 3, swin}, {{2, 1, 3}, 2, swin},    {{1}, 2, maxvit},    {{2, 2, 2}, 1, levit},
};

positions cells_of(const window_extents& window, index_t prefix = 0) {
  return grid_positions({.extents = window, .order = grid_order::slowest_first, .prefix = prefix});
}
reference::cell cell_of(const positions& at, index_t t) {
  if (at(0, t) == no_position) return {};
  std::vector<position> all;
  for (index_t axis = 0; axis < at.axes(); ++axis) all.push_back(at(0, t, axis));
  return all;
}

}  // namespace

TEST_CASE("a class token without a bias keeps the sign of a zero", "[window_bias]") {
  const window_bias<float> encoder({.window = {1, 2}, .heads = 1, .form = window_bias_form::swin});
  const auto at = grid_positions({.extents = {1, 2}, .order = grid_order::slowest_first, .prefix = 1});
  Eigen::Tensor<float, 4, Eigen::RowMajor> scores(1, 1, 3, 3);
  scores.setConstant(-0.0f);
  encoder.bias(scores, {at, at});
  for (index_t n = 0; n < 3; ++n) CHECK(std::signbit(scores(0, 0, 0, n)));
}

TEMPLATE_TEST_CASE("window_bias adds the table's number of each pair's difference", "[window_bias]", float, double) {
  for (const auto& options : settings) {
    INFO("form " << static_cast<int>(window_bias_form{options.form}) << ", " << options.window.size() << " axes");
    const auto encoder = encoder_of<TestType>(options);
    const auto rule = rule_of(options);
    const index_t rows = static_cast<index_t>(rule.differences().size()) + (options.class_rows ? 3 : 0), heads = options.heads;
    REQUIRE(encoder.rows() == rows);
    const auto at = cells_of(options.window, 1);
    const auto before = random_tensor<tensor4<TestType>>(2, 2, heads, at.time(), at.time());
    auto scores = before, wanted = before;
    for (index_t b = 0; b < 2; ++b)
      for (index_t h = 0; h < heads; ++h)
        for (index_t i = 0; i < at.time(); ++i)
          for (index_t j = 0; j < at.time(); ++j) {
            const auto query = cell_of(at, i), key = cell_of(at, j);
            if ((query && key) || options.class_rows)
              wanted(b, h, i, j) += encoder.table().data()[place(options, rows, static_cast<index_t>(rule.row(query, key)), h)];
          }
    encode_scores(encoder, scores, prepare(encoder, {at, at}));
    CHECK(bit_difference(scores, wanted) == "");
  }
}

TEST_CASE("window_bias has the values of hand", "[window_bias]") {
  std::vector<float> table(18 * 2);  // 3 * 5 differences and 3 more, 2 heads
  for (std::size_t n = 0; n < table.size(); ++n) table[n] = static_cast<float>(n);
  const std::array<position, 2> top_left{0, 0}, right{0, 2}, below{1, 1};
  const window_bias<float> swin_v1({.window = {2, 3}, .heads = 2, .form = swin, .class_rows = true}, table);
  CHECK(swin_v1.value(0, top_left, right) == 2 * (1 * 5 + 0));  // query minus key: 0 - 0 + 1, 0 - 2 + 2
  CHECK(swin_v1.value(1, below, top_left) == 2 * (2 * 5 + 3) + 1);
  CHECK(swin_v1.value(1, {}, below) == 2 * 15 + 1);
  CHECK(swin_v1.value(0, right, {}) == 2 * 16);
  CHECK(swin_v1.value(0, {}, {}) == 2 * 17);
  const window_bias<float> tensorflow({.window = {2, 3}, .heads = 2, .form = maxvit}, std::vector(table.begin(), table.begin() + 30));
  CHECK(tensorflow.value(0, top_left, right) == 1 * 5 + 4);
  CHECK(tensorflow.value(1, below, top_left) == 15 + 0 * 5 + 1);
  const window_bias<float> offsets({.window = {2, 3}, .heads = 2, .form = levit}, std::vector(table.begin(), table.begin() + 12));
  CHECK(offsets.value(0, right, top_left) == 2);
  CHECK(offsets.value(1, top_left, below) == 6 + 1 * 3 + 1);
  CHECK(offsets.value(1, below, right) == 6 + 1 * 3 + 1);
}

TEST_CASE("window_bias: LeViT's offsets are in order of first appearance", "[window_bias]") {
  const window_extents resolution{4, 5};
  const auto keys = cells_of(resolution);
  const auto queries = positions::multi_axis(std::vector<position>{0, 0, 0, 2, 2, 2, 0, 2, 4, 0, 2, 4}, 2);  // every second one
  std::vector<std::pair<position, position>> offsets;
  std::vector<float> expected;
  for (index_t i = 0; i < queries.time(); ++i)
    for (index_t j = 0; j < keys.time(); ++j) {
      const std::pair offset{std::abs(queries(0, i, 0) - keys(0, j, 0)), std::abs(queries(0, i, 1) - keys(0, j, 1))};
      const auto found = std::ranges::find(offsets, offset);
      expected.push_back(static_cast<float>(found - offsets.begin()));
      if (found == offsets.end()) offsets.push_back(offset);
    }
  std::vector<float> table(20);
  for (std::size_t n = 0; n < table.size(); ++n) table[n] = static_cast<float>(n);
  const window_bias<float> encoder({.window = resolution, .heads = 1, .form = levit}, table);
  tensor4<float> scores(1, 1, queries.time(), keys.time());
  scores.setZero();
  encoder.bias(scores, {queries, keys});
  CHECK(bit_difference(scores, expected) == "");
}

TEST_CASE("window_bias: a table turned over is the other sign", "[window_bias]") {
  const auto one = encoder_of<double>({.window = {3, 2}, .heads = 1, .form = swin});
  std::vector<double> reversed(one.table().data(), one.table().data() + 15);
  std::ranges::reverse(reversed);
  const window_bias<double> other({.window = {3, 2}, .heads = 1, .form = maxvit}, reversed);
  tensor4<double> a(1, 1, 6, 6), b(1, 1, 6, 6);
  a.setZero(), b.setZero();
  one.bias(a, {cells_of({3, 2}), cells_of({3, 2})});
  other.bias(b, {cells_of({3, 2}), cells_of({3, 2})});
  CHECK(bit_difference(a, b) == "");
}

TEST_CASE("window_bias: bias_backward is the derivative by the table", "[window_bias]") {
  for (const auto& options : settings) {
    INFO("form " << static_cast<int>(window_bias_form{options.form}) << ", " << options.window.size() << " axes");
    auto encoder = encoder_of<double>(options);
    const auto at = cells_of(options.window, 1);
    const auto zeros = tensor4<double>(2, encoder.heads(), at.time(), at.time()).setZero();
    const auto weights = random_tensor<tensor4<double>>(3, 2, encoder.heads(), at.time(), at.time());
    const auto loss = [&] {
      tensor4<double> out = zeros;
      encoder.bias(out, {at, at});
      return reference::dot(weights, out);
    };
    gradient_buffer<double> gradients(encoder.parameters());
    gradients.spans()[0][0] = 10;  // it is added to
    auto d = weights;
    encode_scores_backward(encoder, d, attention_inputs<double>{.scale = 1}, {}, prepare(encoder, {at, at}), gradients.spans());
    gradients.spans()[0][0] -= 10;
    CHECK(reference::difference(gradients.spans()[0], reference::derivatives(encoder.parameters()[0].values, loss, 0.5), 1e-11) == "");
    CHECK(bit_difference(d, weights) == "");
  }
}

TEST_CASE("window_bias: the table is a parameter, of zeros at first", "[window_bias]") {
  window_bias<float> encoder({.window = {7, 7}, .heads = 3, .form = swin});
  const auto all = encoder.parameters();
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "table");
  CHECK(all[0].shape == std::vector<index_t>{169, 3});
  CHECK(std::ranges::all_of(all[0].values, [](float value) { return value == 0; }));
  CHECK(window_bias<float>({.window = {7, 7}, .heads = 3, .form = maxvit}).parameters()[0].shape == std::vector<index_t>{3, 169});
  CHECK(window_bias<float>({.window = {7, 7}, .heads = 3, .form = levit}).parameters()[0].shape == std::vector<index_t>{3, 49});
  const auto untrained = encoder;
  random_source random(1);
  initialize::truncated_normal(all[0].values, random, {.standard_deviation = 0.02});
  CHECK(encoder.table()(84, 2) == encoder.value(2, std::array<position, 2>{3, 3}, std::array<position, 2>{3, 3}));
  CHECK(encoder.table()(84, 2) != 0);
  CHECK(encoder != untrained);
}

TEST_CASE("window_bias adopts the caller's table", "[window_bias]") {
  const window_bias_options options{.window = {2, 2}, .heads = 1, .form = swin};
  auto table = random_vector<float>(4, 9);
  auto encoder = window_bias<float>::adopt(options, table);
  const auto copy = encoder;
  const auto read_only = window_bias<const float>::adopt(options, std::as_const(table));
  encoder.parameters()[0].values[4] = 5;
  const std::array<position, 2> cell{1, 1};
  CHECK(table[4] == 5);
  CHECK(copy.value(0, cell, cell) == 5);
  CHECK(read_only.value(0, cell, cell) == 5);
  CHECK(copy == encoder);
  const window_bias<float> own(options, table);
  CHECK(own == encoder);
  table[4] = 6;
  CHECK(own.value(0, cell, cell) == 5);
  CHECK(own != encoder);
}

TEST_CASE("window_bias: encoders are equal where options and tables are", "[window_bias]") {
  const window_bias_options options{.window = {2, 3}, .heads = 2, .form = swin};
  const window_bias<float> zeros(options);
  CHECK(zeros == window_bias<float>(options));
  CHECK(zeros != window_bias<float>({.window = {3, 2}, .heads = 2, .form = swin}));
  CHECK(zeros != window_bias<float>({.window = {2, 3}, .heads = 1, .form = swin}));
  CHECK(zeros != window_bias<float>({.window = {2, 3}, .heads = 2, .form = maxvit}));
  CHECK(zeros != window_bias<float>({.window = {2, 3}, .heads = 2, .form = swin, .class_rows = true}));
  CHECK(zeros != encoder_of<float>(options));
  CHECK(zeros.options() == options);
  CHECK(zeros.name() == "window_bias");
}

TEST_CASE("window_bias refuses what does not fit", "[window_bias]") {
  const auto make = [](const window_bias_options& options) { window_bias<float> encoder(options); };
  refuses("[window_bias] heads must be positive but got 0", [&] { make({{2, 2}, 0, swin}); });
  refuses("[window_bias] there must be 1 to 8 axes but got 0", [&] { make({{}, 1, swin}); });
  refuses("[window_bias] the extents of a window must be positive but got 0", [&] { make({{2, 0}, 1, swin}); });
  refuses("[window_bias] class rows go with the form swin", [&] { make({{2, 2}, 1, maxvit, true}); });
  refuses("[window_bias] class rows go with the form swin", [&] { make({{2, 2}, 1, levit, true}); });
  constexpr index_t most = std::numeric_limits<index_t>::max();
  refuses("[window_bias] the size in bytes must fit in 63 bits but got [9, 9223372036854775807]", [&] { make({{2, 2}, most, swin}); });
  const std::vector<float> nine(9), eight(8), twelve(12);
  const window_bias_options options{.window = {2, 2}, .heads = 1, .form = swin}, with_classes{{2, 2}, 1, swin, true};
  window_bias<float>(options, nine), window_bias<float>(with_classes, twelve);
  refuses("[window_bias] the table must have rows times heads values but got 9 and 1 and 8", [&] { window_bias<float>(options, eight); });
  refuses("[window_bias] the table must have rows times heads values but got 9 and 1 and 12", [&] { window_bias<float>(options, twelve); });
  refuses("[window_bias] the table must have rows times heads values but got 12 and 1 and 9",
          [&] { window_bias<float>(with_classes, nine); });
  refuses("[window_bias] the table must have rows times heads values but got 9 and 1 and 8",
          [&] { window_bias<const float>::adopt(options, eight); });
  const window_bias<float> encoder(options);
  const auto at = cells_of({2, 2});
  tensor4<float> d = random_tensor<tensor4<float>>(5, 1, 1, 4, 4);
  std::vector<float> sums(8);
  const std::array<std::span<float>, 2> spans{sums, sums};
  refuses(d, "[window_bias] there must be one gradient span per parameter but got 1 and 2",
          [&] { encoder.bias_backward(d, {at, at}, spans); });
  refuses(d, "[window_bias] the gradient must have the size of the table but got 9 and 8",
          [&] { encoder.bias_backward(d, {at, at}, std::span(spans).first(1)); });
}
