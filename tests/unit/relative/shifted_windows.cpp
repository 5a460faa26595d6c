// SPDX-License-Identifier: MIT
#include <posenc/relative/shifted_windows.hpp>

#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"
#include "reference/shifted_windows.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <vector>

namespace {

using namespace posenc;
using reference::refuses;

struct {
  index_t height, width;
  std::array<index_t, 2> window, shift;
} const cases[] = {
    {8, 8, {4, 4}, {0, 0}}, {8, 8, {4, 4}, {2, 2}}, {7, 10, {3, 4}, {1, 2}},
    {6, 5, {3, 5}, {1, 0}}, {5, 3, {4, 7}, {3, 6}}, {1, 1, {1, 1}, {0, 0}},
};
shifted_windows windows_of(const auto& c) {
  return shifted_windows({.extents = {c.height, c.width}, .window = {c.window[0], c.window[1]}, .shift = {c.shift[0], c.shift[1]}});
}

}  // namespace

TEST_CASE("shifted_windows: tokens go where Swin's pad, roll and partition put them, and come back", "[shifted_windows]") {
  for (const auto& c : cases) {
    INFO(c.height << " x " << c.width << ", shift " << c.shift[0] << ", " << c.shift[1]);
    const auto windows = windows_of(c);
    reference::picture numbers(c.height, c.width, 0);
    std::iota(numbers.pixels.begin(), numbers.pixels.end(), 0);
    const auto expected = reference::partition(reference::rolled(reference::padded(numbers, c.window, no_row), c.shift), c.window);
    REQUIRE(windows.count() == static_cast<index_t>(expected.size()));
    REQUIRE(windows.cells() == c.window[0] * c.window[1]);
    CHECK(windows.tokens() == c.height * c.width);
    std::vector<index_t> back;
    for (index_t b = 0; b < 2; ++b)
      for (const auto& window : expected)
        for (const index_t token : window) back.push_back(token == no_row ? no_row : b * windows.tokens() + token);
    CHECK(windows.from_windows(2) == back);
    CHECK(windows.padded() == (std::ranges::find(back, no_row) != back.end()));
    const auto there = windows.to_windows(2);
    REQUIRE(static_cast<index_t>(there.size()) == 2 * windows.tokens());
    for (std::size_t token = 0; token < there.size(); ++token)
      REQUIRE(back[static_cast<std::size_t>(there[token])] == static_cast<index_t>(token));
    CHECK(windows.from_windows(0).empty());
    CHECK(windows.to_windows(0).empty());
  }
}

TEST_CASE("shifted_windows: pictures of any number of axes", "[shifted_windows]") {
  const shifted_windows line({.extents = {5}, .window = {2}, .shift = {1}});
  CHECK(line.from_windows(1) == std::vector<index_t>{1, 2, 3, 4, no_row, 0});
  CHECK(line.to_windows(1) == std::vector<index_t>{5, 0, 1, 2, 3});
  const shifted_windows film({.extents = {2, 2, 4}, .window = {1, 2, 2}, .shift = {0, 0, 1}});
  CHECK(film.windows() == window_extents{2, 1, 2});
  CHECK(film.from_windows(1) == std::vector<index_t>{1, 2, 5, 6, 3, 0, 7, 4, 9, 10, 13, 14, 11, 8, 15, 12});
  CHECK(film.wrapped_axes(0) == 0);
  CHECK(film.wrapped_axes(3) == 4);
}

TEST_CASE("shifted_windows: the lists are destinations of verbs", "[shifted_windows]") {
  const shifted_windows windows({.extents = {3, 3}, .window = {2, 2}, .shift = {1, 1}});
  const sinusoidal<float> encoder({.dim = 4, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});
  Eigen::Tensor<float, 3, Eigen::RowMajor> x(2, 9, 4), coded(2, 9, 4), back(1, 18, 4);
  x.setRandom();
  encoder.add(x, coded, positions::range(9));
  Eigen::Tensor<float, 2, Eigen::RowMajor> cut(32, 4);
  cut.setZero();
  encoder.add(x, cut, windows.to_windows(2), positions::range(9));
  const auto from = windows.from_windows(2);
  index_t zeros = 0;
  for (index_t row = 0; row < 32; ++row)
    for (index_t c = 0; c < 4; ++c) {
      const index_t token = from[static_cast<std::size_t>(row)];
      if (token == no_row) zeros += cut(row, c) == 0;
      else REQUIRE(cut(row, c) == coded(token / 9, token % 9, c));
    }
  CHECK(zeros == 14 * 4);
}

TEST_CASE("shifted_windows: cells have positions, padding has none", "[shifted_windows]") {
  for (const auto& c : cases) {
    const auto windows = windows_of(c);
    const auto at = windows.cell_positions(2);
    CHECK(at.axes() == 2);
    CHECK(at.batch() == (windows.padded() ? 2 * windows.count() : 0));
    CHECK(at.time() == windows.cells());
    const auto from = windows.from_windows(2);
    for (index_t row = 0; row < static_cast<index_t>(from.size()); ++row) {
      const index_t cell = row % windows.cells(), b = row / windows.cells();
      const bool padding = from[static_cast<std::size_t>(row)] == no_row;
      REQUIRE(at(b, cell, 0) == (padding ? no_position : cell / c.window[1]));
      REQUIRE(at(b, cell, 1) == (padding ? no_position : cell % c.window[1]));
    }
    CHECK(windows.cell_positions(0).batch() == 0);
  }
}

TEST_CASE("shifted_windows: two cells of a window share a region where Swin's slices do", "[shifted_windows]") {
  for (const auto& c : cases) {
    INFO(c.height << " x " << c.width << ", shift " << c.shift[0] << ", " << c.shift[1]);
    const auto windows = windows_of(c);
    const auto painted = reference::mask_regions(windows.windows()[0] * c.window[0], windows.windows()[1] * c.window[1], c.window, c.shift);
    const auto regions = reference::partition(painted, c.window);
    const auto region = [&](index_t window, index_t cell) {
      return windows.region(window, std::array<position, 2>{cell / c.window[1], cell % c.window[1]});
    };
    for (index_t window = 0; window < windows.count(); ++window) {
      const auto& expected = regions[static_cast<std::size_t>(window)];
      for (index_t i = 0; i < windows.cells(); ++i)
        for (index_t j = 0; j < windows.cells(); ++j)
          REQUIRE((region(window, i) == region(window, j)) ==
                  (expected[static_cast<std::size_t>(i)] == expected[static_cast<std::size_t>(j)]));
      const bool one = std::ranges::all_of(expected, [&](auto r) { return r == expected[0]; });
      CHECK((windows.wrapped_axes(window) == 0) == one);
    }
  }
}

TEST_CASE("shifted_windows refuse what cannot be", "[shifted_windows]") {
  const auto make = [](const window_extents& extents, const window_extents& window, const window_extents& shift = {}) {
    return shifted_windows({.extents = extents, .window = window, .shift = shift});
  };
  refuses("[shifted_windows] there must be 1 to 8 axes but got 0", [&] { make({}, {}); });
  refuses("[shifted_windows] the window must have the axes of the picture but got 2 and 1", [&] { make({4, 4}, {2}); });
  refuses("[shifted_windows] there must be one shift per axis but got 2 and 1", [&] { make({4, 4}, {2, 2}, {1}); });
  refuses("[shifted_windows] extents must be positive but got 0 and 2", [&] { make({4, 0}, {2, 2}); });
  refuses("[shifted_windows] extents must be positive but got 4 and -1", [&] { make({4}, {-1}); });
  refuses("[shifted_windows] a shift must lie in [0, window) but got 2 and 2", [&] { make({4}, {2}, {2}); });
  refuses("[shifted_windows] a shift must lie in [0, window) but got 2 and -1", [&] { make({4}, {2}, {-1}); });
  constexpr index_t large = index_t{1} << 40, most = std::numeric_limits<index_t>::max();
  refuses("[shifted_windows] the size in bytes must fit in 63 bits but got [1099511627776, 1099511627776]",
          [&] { make({large, large}, {1, 1}); });
  refuses("[shifted_windows] the size in bytes must fit in 63 bits but got [2, 4611686018427387904]", [&] { make({most}, {2}); });
  refuses("[shifted_windows] the size in bytes must fit in 63 bits but got [8388608, 1099511627776, 1]",
          [&] { make({large}, {1}).from_windows(1 << 23); });
  refuses("[shifted_windows] extents must not be negative but got [-1, 4]", [&] { make({4}, {1}).to_windows(-1); });
  CHECK(make({4}, {2}) == make({4}, {2}, {0}));
  CHECK(make({4}, {2}) != make({4}, {2}, {1}));
  CHECK(make({4}, {2}) != make({5}, {2}));
}
