// SPDX-License-Identifier: MIT
#include <posenc/learned/resize_taps.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <vector>

using namespace posenc;
using reference::refuses;

namespace {

using weights = std::map<index_t, double>;  // by old row

weights of(const resize_taps& taps, index_t row) {
  weights all;
  for (const tap& one : taps[row]) all[one.row] = one.weight;
  return all;
}

void check_weights(const weights& got, const weights& expected) {
  CHECK(got.size() == expected.size());
  for (const auto& [row, weight] : expected) {
    INFO("old row " << row);
    REQUIRE(got.count(row) == 1);
    CHECK_THAT(got.at(row), Catch::Matchers::WithinAbs(weight, 1e-15));
  }
}

resize_grid_options grid_of(std::array<index_t, 2> from, std::array<index_t, 2> to, grid_filter filter, bool align_corners = false,
                            bool antialias = false) {
  return {.from = from, .to = to, .filter = filter, .align_corners = align_corners, .antialias = antialias};
}
/// One axis alone.
resize_grid_options column(index_t from, index_t to, grid_filter filter, bool antialias = false) {
  return grid_of({from, 1}, {to, 1}, filter, false, antialias);
}

std::vector<index_t> only_rows(const resize_taps& taps) {
  std::vector<index_t> all;
  for (index_t row = 0; row < resize_taps::rows(taps.to()); ++row) {
    REQUIRE(taps[row].size() == 1);
    CHECK(taps[row][0].weight == 1);
    all.push_back(taps[row][0].row);
  }
  return all;
}

/// What taps make of numbers.
std::vector<double> applied(const resize_taps& taps, const std::vector<double>& old) {
  std::vector<double> all;
  for (index_t row = 0; row < resize_taps::rows(taps.to()); ++row) {
    double sum = 0;
    for (const tap& one : taps[row]) sum += one.weight * old.at(static_cast<std::size_t>(one.row));
    all.push_back(sum);
  }
  return all;
}

}  // namespace

TEST_CASE("text rows are tiled, or the last one copied, behind a prefix", "[learned][resize]") {
  using rows = std::vector<index_t>;
  CHECK(only_rows(resize_length_options{.from = 3, .to = 8, .rule = length_rule::tile}) == rows{0, 1, 2, 0, 1, 2, 0, 1});
  CHECK(only_rows(resize_length_options{.from = 3, .to = 5, .rule = length_rule::tile, .prefix = 2}) == rows{0, 1, 2, 3, 4, 2, 3});
  CHECK(only_rows(resize_length_options{.from = 3, .to = 5, .rule = length_rule::copy_last}) == rows{0, 1, 2, 2, 2});
  CHECK(only_rows(resize_length_options{.from = 5, .to = 2, .rule = length_rule::copy_last, .prefix = 1}) == rows{0, 1, 2});
  CHECK(only_rows(resize_length_options{.from = 5, .to = 2, .rule = length_rule::tile}) == rows{0, 1});
}

TEST_CASE("text rows are interpolated from the two nearest", "[learned][resize]") {
  const resize_taps centred(resize_length_options{.from = 4, .to = 8, .rule = length_rule::linear, .prefix = 1});
  check_weights(of(centred, 0), {{0, 1}});
  check_weights(of(centred, 1), {{1, 1}});  // at -0.25: the edge
  check_weights(of(centred, 2), {{1, 0.75}, {2, 0.25}});
  check_weights(of(centred, 7), {{3, 0.25}, {4, 0.75}});
  check_weights(of(centred, 8), {{4, 1}});

  const resize_taps aligned(resize_length_options{.from = 4, .to = 7, .rule = length_rule::linear_align_corners});
  check_weights(of(aligned, 0), {{0, 1}});
  check_weights(of(aligned, 1), {{0, 0.5}, {1, 0.5}});
  check_weights(of(aligned, 6), {{3, 1}});
  CHECK(only_rows(resize_length_options{.from = 4, .to = 1, .rule = length_rule::linear_align_corners}) == std::vector<index_t>{0});
  check_weights(of(resize_length_options{.from = 4, .to = 1, .rule = length_rule::linear}, 0), {{1, 0.5}, {2, 0.5}});
}

TEST_CASE("the cubic filter is Keys', its coefficient torch's", "[learned][resize]") {
  // Halfway between two cells: a / 8, 1/2 - a / 8 and the same back.
  check_weights(of(column(8, 4, grid_filter::bicubic), 1), {{1, -0.09375}, {2, 0.59375}, {3, 0.59375}, {4, -0.09375}});
  check_weights(of(column(8, 4, grid_filter::bicubic), 0), {{0, 0.5}, {1, 0.59375}, {2, -0.09375}});  // two fall on the edge
  check_weights(of(column(8, 4, grid_filter::bicubic), 3), {{5, -0.09375}, {6, 0.59375}, {7, 0.5}});
  auto catmull_rom = column(8, 4, grid_filter::bicubic);
  catmull_rom.cubic = -0.5;
  check_weights(of(catmull_rom, 2), {{3, -0.0625}, {4, 0.5625}, {5, 0.5625}, {6, -0.0625}});
  // With antialias cells beyond the edge do not count: 1/4 on, the weights are -9, 111, 29, -3 of 128, and the first falls away.
  check_weights(of(column(4, 8, grid_filter::bicubic, true), 1), {{0, 111.0 / 137}, {1, 29.0 / 137}, {2, -3.0 / 137}});
  check_weights(of(column(4, 8, grid_filter::bicubic, true), 3), {{0, -9.0 / 128}, {1, 111.0 / 128}, {2, 29.0 / 128}, {3, -3.0 / 128}});
}

TEST_CASE("antialias widens the filter when shrinking", "[learned][resize]") {
  check_weights(of(column(4, 2, grid_filter::bilinear, true), 0), {{0, 3.0 / 7}, {1, 3.0 / 7}, {2, 1.0 / 7}});
  check_weights(of(column(4, 2, grid_filter::bilinear, true), 1), {{1, 1.0 / 7}, {2, 3.0 / 7}, {3, 3.0 / 7}});
  check_weights(of(column(9, 3, grid_filter::bilinear, true), 1), {{2, 1.0 / 9}, {3, 2.0 / 9}, {4, 3.0 / 9}, {5, 2.0 / 9}, {6, 1.0 / 9}});
  check_weights(of(column(9, 3, grid_filter::bilinear), 1), {{4, 1}});
  for (index_t row = 0; row < 8; ++row)  // bilinear and growing, it changes nothing
    check_weights(of(column(3, 8, grid_filter::bilinear, true), row), of(column(3, 8, grid_filter::bilinear), row));
}

TEST_CASE("a scale offset moves cells as DINOv2's factor does", "[learned][resize]") {
  auto options = column(10, 5, grid_filter::bilinear);
  options.scale_offset = 0.1;
  check_weights(of(options, 0), {{0, 1 - 49.0 / 102}, {1, 49.0 / 102}});                      // 0.5 * 10 / 5.1 - 0.5 = 49 / 102
  check_weights(of(options, 4), {{8, 9 - 849.0 / 102}, {9, 849.0 / 102 - 8}});                // 4.5 * 10 / 5.1 - 0.5
  auto wide = column(10, 5, grid_filter::bilinear, true);
  wide.scale_offset = 0.1;                                                                    // and the width of the filter
  check_weights(of(wide, 0), [] {
    const double centre = 49.0 / 102, width = 10 / 5.1;
    weights all;
    double sum = 0;
    for (index_t row = 0; row < 3; ++row) sum += all[row] = 1 - std::abs(static_cast<double>(row) - centre) / width;
    for (auto& [row, weight] : all) weight /= sum;
    return all;
  }());
}

TEST_CASE("a grid is resized along both axes, row by row", "[learned][resize]") {
  // Bilinear interpolation is exact for planes, where nothing falls on an edge.
  const auto plane = [](double y, double x) { return 3 + 10 * y - 2 * x; };
  std::vector<double> old{-1};  // class token
  for (int y = 0; y < 3; ++y)
    for (int x = 0; x < 5; ++x) old.push_back(plane(y, x));
  old.insert(old.end(), {7, 8});
  auto options = grid_of({3, 5}, {5, 13}, grid_filter::bilinear, true);
  options.prefix = 1;
  options.suffix = 2;
  const auto resized = applied(options, old);
  REQUIRE(resized.size() == 1 + 5 * 13 + 2);
  CHECK(resized[0] == -1);
  for (std::size_t y = 0; y < 5; ++y)
    for (std::size_t x = 0; x < 13; ++x)
      CHECK_THAT(resized[1 + 13 * y + x], Catch::Matchers::WithinAbs(plane(static_cast<double>(y) / 2, static_cast<double>(x) / 3), 1e-13));
  CHECK(resized[66] == 7);
  CHECK(resized[67] == 8);

  // Keys' filter with a = -1/2 is exact for squares.
  std::vector<double> squares;
  for (int y = 0; y < 6; ++y)
    for (int x = 0; x < 7; ++x) squares.push_back(y * y - 3 * x * x + x * y);
  auto cubic = grid_of({6, 7}, {11, 25}, grid_filter::bicubic, true);
  cubic.cubic = -0.5;
  const auto finer = applied(cubic, squares);
  for (std::size_t y = 2; y <= 8; ++y)
    for (std::size_t x = 4; x <= 20; ++x) {
      const double v = static_cast<double>(y) / 2, u = static_cast<double>(x) / 4;
      CHECK_THAT(finer[25 * y + x], Catch::Matchers::WithinAbs(v * v - 3 * u * u + u * v, 1e-12));
    }
}

TEST_CASE("a grid of the same size keeps its rows", "[learned][resize]") {
  for (const auto filter : {grid_filter::bilinear, grid_filter::bicubic})
    for (const bool align_corners : {false, true})
      for (const bool antialias : {false, true}) {
        if (align_corners && antialias) continue;
        const auto rows = only_rows(grid_of({3, 2}, {3, 2}, filter, align_corners, antialias));
        CHECK(rows == std::vector<index_t>{0, 1, 2, 3, 4, 5});
      }
}

TEST_CASE("a crop keeps the top left of the new grid", "[learned][resize]") {
  auto options = grid_of({4, 4}, {6, 6}, grid_filter::bilinear);
  options.prefix = 1;
  options.suffix = 1;
  const resize_taps whole(options);
  options.crop = {3, 5};
  const resize_taps part(options);
  CHECK(part.to() == resize_taps::layout{1, 3, 5, 1});
  CHECK(of(part, 0) == of(whole, 0));
  for (index_t y = 0; y < 3; ++y)
    for (index_t x = 0; x < 5; ++x) CHECK(of(part, 1 + 5 * y + x) == of(whole, 1 + 6 * y + x));
  CHECK(of(part, 16) == of(whole, 37));
}

TEST_CASE("the transpose has the same weights, and is undone by another", "[learned][resize]") {
  auto options = grid_of({4, 3}, {2, 7}, grid_filter::bicubic, false, true);
  options.prefix = 2;
  const resize_taps taps(options), back = taps.transposed();
  CHECK(back.from() == taps.to());
  CHECK(back.to() == taps.from());
  std::size_t count = 0;
  for (index_t row = 0; row < 16; ++row) {
    count += taps[row].size();
    for (const tap& one : taps[row]) CHECK(of(back, one.row).at(row) == one.weight);
  }
  for (index_t row = 0; row < 14; ++row) count -= back[row].size();
  CHECK(count == 0);
  CHECK(back.transposed() == taps);
  CHECK_FALSE(back == taps);
}

TEST_CASE("options that make no table are refused", "[learned][resize]") {
  const auto grid_refused = [](const std::string& text, auto&& change) {
    auto options = grid_of({4, 4}, {6, 6}, grid_filter::bilinear);
    change(options);
    refuses(text, [&] { resize_taps taps(options); });
  };
  const auto length_refused = [](const std::string& text, index_t from, index_t to, index_t prefix) {
    refuses(text, [&] { resize_taps taps(resize_length_options{.from = from, .to = to, .rule = length_rule::tile, .prefix = prefix}); });
  };
  constexpr index_t large = std::numeric_limits<index_t>::max();
  length_refused("[resize] extents must be positive but got [4, 1] and [0, 1]", 4, 0, 0);
  length_refused("[resize] extents must be positive but got [-1, 1] and [4, 1]", -1, 4, 0);
  length_refused("[resize] prefix and suffix must not be negative but got -2 and 0", 4, 4, -2);
  length_refused("[resize] the size in bytes must fit in 63 bits but got [9223372036854775807, 4, 1, 0]", 4, 4, large);
  length_refused("[resize] the size in bytes must fit in 63 bits but got [9223372036854775807, 1]", 4, large, 0);
  grid_refused("[resize] extents must be positive but got [0, 0] and [6, 6]", [](auto& o) { o.from = {}; });
  grid_refused("[resize] extents must be positive but got [4, 4] and [6, 0]", [](auto& o) { o.to[1] = 0; });
  grid_refused("[resize] prefix and suffix must not be negative but got 1 and -1", [](auto& o) { o.prefix = 1, o.suffix = -1; });
  grid_refused("[resize] the size in bytes must fit in 63 bits but got [9223372036854775807, 6]", [](auto& o) { o.to[0] = large; });
  grid_refused("[resize] the size in bytes must fit in 63 bits but got [1, 4, 4, 9223372036854775807]",
               [](auto& o) { o.prefix = 1, o.suffix = large; });
  grid_refused("[resize] scale_offset must lie in [0, 1) but got 1", [](auto& o) { o.scale_offset = 1; });
  grid_refused("[resize] scale_offset must lie in [0, 1) but got -0.1", [](auto& o) { o.scale_offset = -0.1; });
  grid_refused("[resize] scale_offset must lie in [0, 1) but got nan",
               [](auto& o) { o.scale_offset = std::numeric_limits<double>::quiet_NaN(); });
  grid_refused("[resize] antialias goes with align_corners = false", [](auto& o) { o.align_corners = true, o.antialias = true; });
  grid_refused("[resize] scale_offset goes with align_corners = false but got 0.1",
               [](auto& o) { o.align_corners = true, o.scale_offset = 0.1; });
  grid_refused("[resize] cubic goes with the bicubic filter but got -0.5", [](auto& o) { o.cubic = -0.5; });
  grid_refused("[resize] cubic must lie in [-1, 0] but got 0.5", [](auto& o) { o.filter = grid_filter::bicubic, o.cubic = 0.5; });
  grid_refused("[resize] cubic must lie in [-1, 0] but got -1.5", [](auto& o) { o.filter = grid_filter::bicubic, o.cubic = -1.5; });
  const std::string crop = "[resize] the crop must be positive and lie in the new grid but got ";
  grid_refused(crop + "[7, 6] and [6, 6]", [](auto& o) { o.crop = {7, 6}; });
  grid_refused(crop + "[6, 7] and [6, 6]", [](auto& o) { o.crop = {6, 7}; });
  grid_refused(crop + "[0, 6] and [6, 6]", [](auto& o) { o.crop = {0, 6}; });
  grid_refused(crop + "[6, -1] and [6, 6]", [](auto& o) { o.crop = {6, -1}; });
}
