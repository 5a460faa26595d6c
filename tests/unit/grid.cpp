// SPDX-License-Identifier: MIT
#include <posenc/grid.hpp>

#include "catch.hpp"

#include <limits>
#include <string>
#include <vector>

using namespace posenc;

namespace {

using ids = std::vector<position>;

constexpr position none = no_position;
constexpr auto slowest = grid_order::slowest_first, fastest = grid_order::fastest_first;

ids axis_of(const positions& at, index_t axis) {
  ids all;
  for (index_t t = 0; t < at.time(); ++t) all.push_back(at(0, t, axis));
  return all;
}

}  // namespace

TEST_CASE("cells of a picture are numbered by row and by column", "[grid]") {
  const auto at = grid_positions({.extents = {2, 3}, .order = slowest});
  CHECK(at.axes() == 2);
  CHECK(at.batch() == 0);
  CHECK(axis_of(at, 0) == ids{0, 0, 0, 1, 1, 1});
  CHECK(axis_of(at, 1) == ids{0, 1, 2, 0, 1, 2});
}

TEST_CASE("rope-vit has x first", "[grid]") {
  const auto at = grid_positions({.extents = {2, 3}, .order = fastest});  // t % end_x, t / end_x
  CHECK(axis_of(at, 0) == ids{0, 1, 2, 0, 1, 2});
  CHECK(axis_of(at, 1) == ids{0, 0, 0, 1, 1, 1});
}

TEST_CASE("cells of a film have a time", "[grid]") {
  const auto at = grid_positions({.extents = {2, 1, 3}, .order = slowest});
  CHECK(axis_of(at, 0) == ids{0, 0, 0, 1, 1, 1});
  CHECK(axis_of(at, 1) == ids{0, 0, 0, 0, 0, 0});
  CHECK(axis_of(at, 2) == ids{0, 1, 2, 0, 1, 2});
  const auto reversed = grid_positions({.extents = {2, 2, 3}, .order = fastest});
  CHECK(axis_of(reversed, 0) == ids{0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2});
  CHECK(axis_of(reversed, 1) == ids{0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1});
  CHECK(axis_of(reversed, 2) == ids{0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1});
}

TEST_CASE("a grid has one to eight axes", "[grid]") {
  CHECK(grid_positions({.extents = {4}, .order = slowest}) == positions::range(4));
  const auto cube = grid_positions({.extents = std::vector<index_t>(8, 2), .order = slowest});
  CHECK(cube.axes() == 8);
  CHECK(cube.time() == 256);
  bool counts = true;  // in binary
  for (index_t t = 0; t < 256; ++t)
    for (index_t axis = 0; axis < 8; ++axis) counts = counts && cube(0, t, axis) == (t >> (7 - axis) & 1);
  CHECK(counts);
  CHECK_THROWS_WITH(grid_positions({.extents = {}, .order = slowest}), "[grid] there must be 1 to 8 axes but got 0");
  CHECK_THROWS_WITH(grid_positions({.extents = std::vector<index_t>(9, 1), .order = slowest}),
                    "[grid] there must be 1 to 8 axes but got 9");
}

TEST_CASE("class tokens and registers have no position", "[grid]") {
  const auto at = grid_positions({.extents = {1, 2}, .order = slowest, .prefix = 3, .time = 5});
  CHECK(axis_of(at, 0) == ids{none, none, none, 0, 0});
  CHECK(axis_of(at, 1) == ids{none, none, none, 0, 1});
}

TEST_CASE("Llama 4 starts at one and has its class token last", "[grid]") {
  const auto at = grid_positions({.extents = {2, 2}, .order = fastest, .suffix = 1, .start = {1, 1}});
  CHECK(axis_of(at, 0) == ids{1, 2, 1, 2, none});
  CHECK(axis_of(at, 1) == ids{1, 1, 2, 2, none});
}

TEST_CASE("Qwen-Image has zero in the middle of a picture", "[grid]") {
  CHECK(centred_start(1) == -1);
  CHECK(centred_start(2) == -1);
  CHECK(centred_start(3) == -2);
  CHECK(centred_start(4) == -2);
  const auto at = grid_positions({.extents = {1, 3, 4}, .order = slowest, .start = {5, centred_start(3), centred_start(4)}});
  CHECK(axis_of(at, 0) == ids(12, 5));
  CHECK(axis_of(at, 1) == ids{-2, -2, -2, -2, -1, -1, -1, -1, 0, 0, 0, 0});
  CHECK(axis_of(at, 2) == ids{-2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1});
}

TEST_CASE("starts belong to extents, in whatever order the axes are numbered", "[grid]") {
  const auto at = grid_positions({.extents = {1, 2}, .order = fastest, .start = {10, 20}});
  CHECK(axis_of(at, 0) == ids{20, 21});
  CHECK(axis_of(at, 1) == ids{10, 10});
}

TEST_CASE("Qwen2-VL's vision tower walks a picture in blocks", "[grid]") {
  const auto at = grid_positions({.extents = {4, 4}, .order = slowest, .prefix = 1, .start = {0, 10}, .block = {2, 2}});
  CHECK(axis_of(at, 0) == ids{none, 0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3});
  CHECK(axis_of(at, 1) == ids{none, 10, 11, 10, 11, 12, 13, 12, 13, 10, 11, 10, 11, 12, 13, 12, 13});
  const auto wide = grid_positions({.extents = {2, 2, 6}, .order = fastest, .block = {1, 2, 3}});
  CHECK(axis_of(wide, 0) == ids{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5, 0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
  CHECK(axis_of(wide, 1) == ids{0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1});
  CHECK(axis_of(wide, 2) == ids{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1});
  for (const index_t all : {1, 4})  // neither cells nor the whole grid are blocks worth the name
    CHECK(grid_positions({.extents = {4, 4}, .order = slowest, .block = {all, all}}) ==
          grid_positions({.extents = {4, 4}, .order = slowest}));
}

TEST_CASE("cells may be some steps apart", "[grid]") {
  const auto at = grid_positions({.extents = {2, 3}, .order = slowest, .start = {0, 1}, .step = {4, 2}});
  CHECK(axis_of(at, 0) == ids{0, 0, 0, 4, 4, 4});
  CHECK(axis_of(at, 1) == ids{1, 3, 5, 1, 3, 5});
}

TEST_CASE("a grid may be empty", "[grid]") {
  constexpr index_t huge = index_t{1} << 40;
  const auto at = grid_positions({.extents = {huge, huge, 0}, .order = slowest, .prefix = 1, .suffix = 1});
  CHECK(at.axes() == 3);
  CHECK(axis_of(at, 2) == ids{none, none});
  CHECK(grid_positions({.extents = {0, 4}, .order = slowest, .block = {index_t{1} << 40, 2}}).time() == 0);
}

TEST_CASE("a grid says what does not fit", "[grid]") {
  CHECK_THROWS_WITH(grid_positions({.extents = {2, -3}, .order = slowest}), "[grid] extents must not be negative but got -3");
  const std::string outside = "[grid] prefix and suffix must not be negative but got ";
  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .prefix = -1}), outside + "-1 and 0");
  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .suffix = -1}), outside + "0 and -1");
  const std::string start = "[grid] there must be one start per extent but got ";
  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .start = {1}}), start + "2 and 1");
  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .start = {1, 1, 1}}), start + "2 and 3");
  const std::string time = "[grid] prefix, cells and suffix must add up to time but got ";
  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .prefix = 1, .time = 6}), time + "6 and 7");
  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .prefix = 9, .time = 8}), time + "8 and 15");

  const std::string step = "[grid] there must be one step per extent but got ";
  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .step = {1}}), step + "2 and 1");
  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .step = {1, 0}}), "[grid] steps must be positive but got 0");

  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .block = {1}}),
                    "[grid] there must be one block size per extent but got 2 and 1");
  const std::string block = "[grid] blocks must divide the extents but got ";
  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .block = {2, 2}}), block + "2 and 3");
  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .block = {0, 3}}), block + "0 and 2");

  constexpr index_t limit = index_t{1} << 62, most = std::numeric_limits<index_t>::max();
  const std::string range = "[grid] cells must be numbered within [-2^62, 2^62] but got ";
  CHECK(grid_positions({.extents = {2}, .order = slowest, .start = {limit - 2}}).last() == limit - 1);
  CHECK_THROWS_WITH(grid_positions({.extents = {2}, .order = slowest, .start = {limit - 1}}), range + "4611686018427387903 and 2");
  CHECK_THROWS_WITH(grid_positions({.extents = {2}, .order = slowest, .start = {-limit - 1}}), range + "-4611686018427387905 and 2");
  CHECK(grid_positions({.extents = {2}, .order = slowest, .step = {limit / 2}}).last() == limit / 2);
  CHECK_THROWS_WITH(grid_positions({.extents = {2}, .order = slowest, .step = {limit / 2 + 1}}), range + "0 and 2305843009213693953 and 2");
  const std::string size = "[grid] the size in bytes must fit in 63 bits but got ";
  CHECK_THROWS_WITH(grid_positions({.extents = {limit, 2}, .order = slowest}), size + "[4611686018427387904, 2]");
  CHECK_THROWS_WITH(grid_positions({.extents = {limit}, .order = slowest}), size + "0 and 4611686018427387904 and 0");
  CHECK_THROWS_WITH(grid_positions({.extents = {2, 3}, .order = slowest, .prefix = most, .suffix = most}),
                    size + "9223372036854775807 and 6 and 9223372036854775807");
}
