// SPDX-License-Identifier: MIT
#include <posenc/conditional/token_grid.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"

#include <array>
#include <cstdint>
#include <vector>

namespace {

using namespace posenc;
using detail::token_box, detail::token_grid, detail::token_runs;
constexpr auto none = no_position;
using shape = std::array<index_t, 3>;
using bytes = std::vector<std::uint8_t>;

}  // namespace

TEST_CASE("tokens whose positions are as far apart as they are form a run", "[token_grid]") {
  const auto all = token_runs(positions::ids(std::vector<position>{none, 5, 6, none, 8, 7, 0, 1, none, none, 3, 4, none}), 0);
  REQUIRE(all.size() == 4);
  CHECK(all[0].first == 1);
  CHECK(all[0].start == 5);
  CHECK(all[0].extents == shape{1, 1, 4});
  CHECK(all[0].strides == shape{0, 0, 1});
  CHECK(all[0].mask == bytes{1, 1, 0, 1});
  CHECK(all[1].first == 5);
  CHECK(all[1].mask.empty());
  CHECK(all[1].extents == shape{1, 1, 1});
  CHECK(all[2].start == 0);
  CHECK(all[2].cells() == 2);
  CHECK(all[3].first == 10);
  CHECK(all[3].start == 3);
  CHECK(all[3].extents == shape{1, 1, 2});
}

TEST_CASE("a range is one run, and nothing is none", "[token_grid]") {
  const auto all = token_runs(positions::offsets(std::array{0, 9}, 7), 1);
  REQUIRE(all.size() == 1);
  CHECK(all[0].start == 9);
  CHECK(all[0].extents == shape{1, 1, 7});
  CHECK(token_runs(positions::range(0), 0).empty());
  CHECK(token_runs(positions::ids(std::vector<position>{none, none}), 0).empty());
}

TEST_CASE("a run goes on where the sequence was cut", "[token_grid]") {
  const auto at = positions::ids(std::vector<position>{none, 4, 5, 9});
  const auto cut = token_runs(at, 0, 3);
  REQUIRE(cut.size() == 2);
  CHECK(cut[0].first == 0);
  CHECK(cut[0].start == 3);
  CHECK(cut[0].mask == bytes{0, 1, 1});
  const auto other = token_runs(at, 0, 4);
  CHECK(other[0].first == 1);
  CHECK(other[0].start == 4);
  const auto later = token_runs(at, 0, 6);  // that position 9 is where 6 would have gone on to, means nothing
  REQUIRE(later.size() == 2);
  CHECK(later[1].first == 3);
}

TEST_CASE("a box has the strides that its positions tell", "[token_grid]") {
  // Two columns of a picture that is three wide, behind one token.
  const std::vector<position> y{none, 7, 7, none, 8, 8, none, 9, 9}, x{none, 3, 4, none, 3, 4, none, 3, 4};
  std::vector<position> ids = y;
  ids.insert(ids.end(), x.begin(), x.end());
  const auto wide = token_box("test", positions::multi_axis(ids, 2), 0);
  REQUIRE(wide.size() == 1);
  CHECK(wide[0].first == 1);
  CHECK(wide[0].extents == shape{1, 3, 2});
  CHECK(wide[0].strides == shape{0, 3, 1});
  CHECK(wide[0].mask.empty());

  // The end of one row and the beginning of the next: the first two cells and the last are no tokens.
  const auto part = token_box("test", positions::multi_axis(std::vector<position>{0, 1, 1, 2, 0, 1}, 2), 0);
  CHECK(part[0].first == -2);
  CHECK(part[0].extents == shape{1, 2, 3});
  CHECK(part[0].strides == shape{0, 3, 1});
  CHECK(part[0].mask == bytes{0, 0, 1, 1, 1, 0});

  // Frames that are further apart than they are large, whose rows are too.
  std::vector<position> frames, rows, columns;
  for (index_t t = 0; t < 40; ++t) {
    const bool real = t % 20 < 12 && t % 4 < 3;
    frames.push_back(real ? t / 20 : none), rows.push_back(real ? t % 20 / 4 : none), columns.push_back(real ? t % 4 : none);
  }
  frames.insert(frames.end(), rows.begin(), rows.end());
  frames.insert(frames.end(), columns.begin(), columns.end());
  const auto film = token_box("test", positions::multi_axis(frames, 3), 0);
  CHECK(film[0].extents == shape{2, 3, 3});
  CHECK(film[0].strides == shape{20, 4, 1});
  CHECK(film[0].mask.empty());
}

TEST_CASE("no box, no strides", "[token_grid]") {
  CHECK(token_box("test", positions::multi_axis(std::vector<position>(4, none), 2), 0).empty());
  const std::string rule = "[test] tokens must stand in row-major order of a grid, with token and position on axis but got ";
  // The same place twice; rows that are apart by different numbers of tokens; a column backwards.
  reference::refuses(rule + "1 and 0 and 0", [] { token_box("test", positions::multi_axis(std::vector<position>{0, 0, 1, 1}, 2), 0); });
  reference::refuses(rule + "3 and 2 and 0",
                     [] { token_box("test", positions::multi_axis(std::vector<position>{0, 1, none, 2, 0, 0, none, 0}, 2), 0); });
  reference::refuses(rule + "1 and 0 and 0", [] { token_box("test", positions::multi_axis(std::vector<position>{0, 0, 1, 0}, 2), 0); });
}
