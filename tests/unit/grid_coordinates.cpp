// SPDX-License-Identifier: MIT
#include <posenc/grid_coordinates.hpp>

#include "catch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace posenc;

namespace {

using list = std::vector<double>;

constexpr double infinity = std::numeric_limits<double>::infinity(), none = no_coordinate;
constexpr auto slowest = grid_order::slowest_first, fastest = grid_order::fastest_first;

/// Checks what an axis holds, to the last place but one.
void holds(const coordinates& at, index_t axis, const list& expected) {
  REQUIRE(at.time() == static_cast<index_t>(expected.size()));
  for (index_t t = 0; t < at.time(); ++t) {
    const double x = at(0, t, axis), y = expected[static_cast<std::size_t>(t)];
    INFO("axis " << axis << ", token " << t << ": " << x << " instead of " << y);
    CHECK((std::isnan(x) ? std::isnan(y) : std::abs(x - y) <= 4e-16 * std::max(1.0, std::abs(y))));
  }
}

}  // namespace

TEST_CASE("DINOv3 takes the centres of the cells", "[grid_coordinates]") {
  const grid cells{.extents = {2, 3}, .order = slowest};
  const double third = 1.0 / 3, two_thirds = 2.0 / 3;
  SECTION("each by its own extent") {
    const auto at = normalized_grid(cells, normalize_by::separate);
    CHECK(at.batch() == 0);
    CHECK(at.axes() == 2);
    holds(at, 0, {-0.5, -0.5, -0.5, 0.5, 0.5, 0.5});
    holds(at, 1, {-two_thirds, 0, two_thirds, -two_thirds, 0, two_thirds});
  }
  SECTION("all by the longest") {
    const auto at = normalized_grid(cells, normalize_by::longest);
    holds(at, 0, {-two_thirds, -two_thirds, -two_thirds, 0, 0, 0});
    holds(at, 1, {-two_thirds, 0, two_thirds, -two_thirds, 0, two_thirds});
  }
  SECTION("all by the shortest") {
    const auto at = normalized_grid(cells, normalize_by::shortest);
    holds(at, 0, {-0.5, -0.5, -0.5, 0.5, 0.5, 0.5});
    holds(at, 1, {-0.5, 0.5, 1.5, -0.5, 0.5, 1.5});
  }
  SECTION("registers have none, and axes may be numbered from the fastest") {
    const auto at = normalized_grid({.extents = {1, 3}, .order = fastest, .prefix = 2, .suffix = 1}, normalize_by::separate);
    holds(at, 0, {none, none, -two_thirds, 0, two_thirds, none});
    holds(at, 1, {none, none, 0, 0, 0, none});
  }
  SECTION("a tile goes on where it starts") {
    const auto at = normalized_grid({.extents = {3}, .order = slowest, .start = {3}}, normalize_by::separate);
    holds(at, 0, {1 + third, 2, 2 + two_thirds});
  }
}

TEST_CASE("pixels are evenly spaced over a range", "[grid_coordinates]") {
  const auto at = spaced_grid({.extents = {2, 5}, .order = slowest}, {{-1, 1}, {10, 12}});
  holds(at, 0, {-1, -1, -1, -1, -1, 1, 1, 1, 1, 1});
  holds(at, 1, {10, 10.5, 11, 11.5, 12, 10, 10.5, 11, 11.5, 12});
  holds(spaced_grid({.extents = {1, 2}, .order = fastest}, {{-1, 1}, {0, 5}}), 0, {0, 5});
  holds(spaced_grid({.extents = {1}, .order = slowest}, {{-1, 1}}), 0, {-1});  // as torch.linspace

  const auto fine = spaced_grid({.extents = {50}, .order = slowest}, {{0.1, 0.7}});
  CHECK(fine(0, 0) == 0.1);
  CHECK(fine(0, 49) == 0.7);  // to the last bit
  const auto centred = spaced_grid({.extents = {51}, .order = slowest}, {{-1, 1}});
  bool symmetric = true;
  for (index_t t = 0; t < 25; ++t) symmetric = symmetric && centred(0, t) == -centred(0, 50 - t);
  CHECK(symmetric);
}

TEST_CASE("CogVideoX takes a crop of the trained grid", "[grid_coordinates]") {
  const auto at = cropped_grid({.extents = {2, 4, 3}, .order = slowest}, {{0, 2}, {0, 4}, {3, 9}});
  holds(at.slice(0, 13), 0, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
  holds(at.slice(0, 13), 1, {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0});
  holds(at.slice(0, 13), 2, {3, 4.5, 6, 3, 4.5, 6, 3, 4.5, 6, 3, 4.5, 6, 3});  // linspace(3, 9 * 2 / 3, 3)
  holds(cropped_grid({.extents = {1}, .order = slowest}, {{2.5, 4}}), 0, {2.5});
}

TEST_CASE("EVA lays a grid over the trained one", "[grid_coordinates]") {
  const auto at = resized_grid({.extents = {2, 4}, .order = slowest}, {16, 14});
  holds(at, 0, {0, 0, 0, 0, 8, 8, 8, 8});
  holds(at, 1, {0, 3.5, 7, 10.5, 0, 3.5, 7, 10.5});
  holds(resized_grid({.extents = {1, 2}, .order = fastest}, {16, 3}, 0.5), 0, {0.75, 2.25});
  holds(resized_grid({.extents = {2}, .order = slowest, .prefix = 1}, {2}), 0, {none, 0, 1});
}

TEST_CASE("coordinates of a grid fit its extents", "[grid_coordinates]") {
  const grid cells{.extents = {2, 3}, .order = slowest};
  const std::string one_range = "there must be one range per extent but got 2 and 1", finite = "ranges must be finite but got ";
  CHECK_THROWS_WITH(spaced_grid(cells, {{0, 1}}), "[spaced grid] " + one_range);
  CHECK_THROWS_WITH(cropped_grid(cells, {{0, 1}}), "[cropped grid] " + one_range);
  CHECK_THROWS_WITH(spaced_grid(cells, {{0, 1}, {0, infinity}}), "[spaced grid] " + finite + "0 and inf");
  CHECK_THROWS_WITH(cropped_grid(cells, {{none, 1}, {0, 1}}), "[cropped grid] " + finite + "nan and 1");
  CHECK_THROWS_WITH(resized_grid(cells, {1}), "[resized grid] there must be one reference per extent but got 2 and 1");
  CHECK_THROWS_WITH(resized_grid(cells, {1, none}), "[resized grid] references must be finite but got nan");
  CHECK_THROWS_WITH(resized_grid(cells, {1, 2}, infinity), "[resized grid] the offset must be finite but got inf");
  CHECK_THROWS_WITH(normalized_grid({.extents = {}, .order = slowest}, normalize_by::longest),
                    "[normalized grid] there must be 1 to 8 axes but got 0");
  CHECK_THROWS_WITH(resized_grid({.extents = {2}, .order = slowest, .time = 3}, {1}),
                    "[resized grid] prefix, cells and suffix must add up to time but got 3 and 2");
  CHECK_THROWS_WITH(spaced_grid({.extents = {3}, .order = slowest}, {{-1e308, 1e308}}),
                    "[coordinates] coordinates must be finite but got -inf");
  CHECK(normalized_grid({.extents = {0, 3}, .order = slowest}, normalize_by::shortest).time() == 0);
  CHECK(cropped_grid({.extents = {0, 3}, .order = slowest}, {{0, 1}, {0, 1}}).time() == 0);
}
