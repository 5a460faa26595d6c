// SPDX-License-Identifier: MIT
#include <posenc/relative/window_bias_table.hpp>

#include <posenc/grid.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"

#include <array>
#include <set>
#include <vector>

namespace {

using namespace posenc;
using detail::cell_numbers;
using reference::refuses;

constexpr position none = no_position;

TEST_CASE("cell_numbers: no two differences of cells share a number", "[window_bias_table]") {
  for (const window_extents& window : {window_extents{1}, {5}, {1, 3}, {2, 4}, {3, 1, 2}}) {
    const cell_numbers cells("who", window);
    index_t differences = 1;
    for (const index_t extent : window) differences *= 2 * extent - 1;
    CHECK(cells.differences() == differences);
    CHECK(cells.axes() == static_cast<index_t>(window.size()));
    CHECK(cells.window() == window);
    const auto all = grid_positions({.extents = window, .order = grid_order::slowest_first});
    const auto numbers = cells.of(all, std::vector<position>(window.size()));
    std::set<std::vector<position>> ways;
    std::set<position> distances;
    for (index_t i = 0; i < all.time(); ++i)
      for (index_t j = 0; j < all.time(); ++j) {
        std::vector<position> way;
        for (index_t axis = 0; axis < cells.axes(); ++axis) way.push_back(all(0, j, axis) - all(0, i, axis));
        ways.insert(way);
        distances.insert(numbers[static_cast<std::size_t>(j)] - numbers[static_cast<std::size_t>(i)]);
      }
    CHECK(static_cast<index_t>(ways.size()) == differences);
    CHECK(distances.size() == ways.size());
    CHECK(*distances.begin() == -(differences - 1) / 2);
    CHECK(*distances.rbegin() == (differences - 1) / 2);
  }
}

TEST_CASE("cell_numbers count from the least cell of each batch row", "[window_bias_table]") {
  const cell_numbers cells("who", {4, 3});
  const auto queries = positions::multi_axis(std::vector<position>{7, none, 10, -5, -5, none, 1, none, 2, 4, 5, none}, 2, 2);
  const auto keys = positions::multi_axis(std::vector<position>{9, 8, -2, -4, 0, 1, 3, 5}, 2, 2);
  const auto corners = cells.corners("who", {queries, keys});
  CHECK(corners == std::vector<position>{7, 0, -5, 3});
  CHECK(cells.of(queries, corners) == std::vector<position>{1, none, 15 + 2, 1, 2, none});
  CHECK(cells.of(keys, corners) == std::vector<position>{10, 6, 15, 7});
  CHECK(cells.corners("who", {positions::multi_axis(std::vector<position>{none, none}, 2),
                              positions::multi_axis(std::vector<position>{}, 2)}) == std::vector<position>{0, 0});
}

TEST_CASE("cell_numbers refuse windows that cannot be, and cells that are too far apart", "[window_bias_table]") {
  refuses("[who] there must be 1 to 8 axes but got 0", [] { cell_numbers("who", {}); });
  refuses("[who] there must be 1 to 8 axes but got 9", [] { cell_numbers("who", window_extents(9, 1)); });
  refuses("[who] the extents of a window must be positive but got 0", [] { cell_numbers("who", {3, 0}); });
  refuses("[who] the extents of a window must be positive but got -2", [] { cell_numbers("who", {-2, 3}); });
  CHECK(cell_numbers("who", {index_t{1} << 30}).differences() == (index_t{1} << 31) - 1);
  refuses("[who] a window must have less than 2^31 differences but got 1073741825", [] { cell_numbers("who", {(index_t{1} << 30) + 1}); });
  refuses("[who] a window must have less than 2^31 differences but got 9223372036854775807",
          [] { cell_numbers("who", {std::numeric_limits<index_t>::max(), 2}); });
  const cell_numbers cells("who", {4});
  const auto check = [&](std::vector<position> queries, std::vector<position> keys) {
    cells.corners("who", {positions::ids(queries), positions::ids(keys)});
  };
  check({3, none, 6}, {4});
  refuses("[who] cells must lie within one window but got 4 and 5", [&] { check({3, none, 6}, {7}); });
  refuses("[who] cells must lie within one window but got 4 and 9223372036854775809",
          [&] { check({positions::limit}, {-positions::limit}); });
}

}  // namespace
