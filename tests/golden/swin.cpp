// SPDX-License-Identifier: MIT
/// \file  Swin's biases as microsoft/Swin-Transformer makes them, and the rows of pairs with a class token as timm numbers them.
#include <posenc/grid.hpp>
#include <posenc/relative/window_bias.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "reference/difference.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace posenc;
using golden::load, golden::npy, golden::row_major;

TEST_CASE("Swin's biases are the numbers of the table", "[golden][swin]") {
  const auto table = load<float>("relative/swin_v1_bias/table"), expected = load<float>("relative/swin_v1_bias/bias");
  const auto index = load<std::int64_t>("relative/swin_v1_bias/index");
  REQUIRE(expected.shape == std::vector<index_t>{3, 16, 16});
  const auto cells = grid_positions({.extents = {4, 4}, .order = grid_order::slowest_first});
  const window_bias<float> encoder({.window = {4, 4}, .heads = 3, .form = window_bias_form::swin}, table.values);
  auto bias = npy<float>::filled({1, 3, 16, 16}, 0);
  encode_scores(encoder, row_major<4>(bias), prepare(encoder, {cells, cells}));
  CHECK(reference::bit_difference(bias.values, expected.values) == "");
  for (std::size_t pair = 0; pair < 256; ++pair) {
    const auto row = static_cast<std::size_t>(index.values[pair]);
    for (std::size_t head = 0; head < 3; ++head) REQUIRE(bias.values[256 * head + pair] == table.values[3 * row + head]);
  }
}

TEST_CASE("pairs with a class token have the last three rows of BEiT's tables", "[golden][swin]") {
  const auto expected = load<std::int64_t>("relative/timm_index_cls_and_cr_coords/index_cls");
  REQUIRE(expected.shape == std::vector<index_t>{13, 13});
  const auto tokens = grid_positions({.extents = {3, 4}, .order = grid_order::slowest_first, .prefix = 1});
  window_bias<double> encoder({.window = {3, 4}, .heads = 1, .form = window_bias_form::swin, .class_rows = true});
  const auto table = encoder.parameters()[0].values;
  for (std::size_t row = 0; row < table.size(); ++row) table[row] = static_cast<double>(row);
  auto rows = npy<double>::filled({1, 1, 13, 13}, 0);
  encoder.bias(row_major<4>(rows), {tokens, tokens});
  CHECK(reference::bit_difference(rows.values, golden::converted<double>(expected).values) == "");
}

}  // namespace
