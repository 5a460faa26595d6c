// SPDX-License-Identifier: MIT
#include <posenc/masked_grid.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/refuses.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

using namespace posenc;

namespace {

using ids = std::vector<position>;

constexpr auto slowest = grid_order::slowest_first, fastest = grid_order::fastest_first;

/// Picture 0 is 2 x 2 in 3 x 4 cells; picture 1 has holes and a column of nothing.
const std::vector<int> mask{1, 1,  0, 0,  //
                            1, 1,  0, 0,  //
                            0, 0,  0, 0,  //
                            0, 1,  0, 1,  //
                            7, 0,  0, 1,  //
                            1, -1, 0, 1};

template <class O>
concept normalized_without_order = requires { O{.scale = 1}; };
template <class O>
concept normalized_with_order = requires { O{.order = slowest, .scale = 1}; };
static_assert(normalized_with_order<mask_normalization> && !normalized_without_order<mask_normalization>);

template <class At>
auto axis_of(const At& at, index_t b, index_t axis) {
  std::vector<decltype(at(0, 0))> all;
  for (index_t t = 0; t < at.time(); ++t) all.push_back(at(b, t, axis));
  return all;
}

}  // namespace

TEST_CASE("cells of padded pictures are counted from 1, padding keeps the last count", "[masked_grid]") {
  const auto at = masked_grid(mask, {2, 3, 4}, slowest);
  CHECK((at.axes() == 2 && at.batch() == 2 && at.time() == 12));
  CHECK(axis_of(at, 0, 0) == ids{1, 1, 0, 0, 2, 2, 0, 0, 2, 2, 0, 0});
  CHECK(axis_of(at, 0, 1) == ids{1, 2, 2, 2, 1, 2, 2, 2, 0, 0, 0, 0});
  CHECK(axis_of(at, 1, 0) == ids{0, 1, 0, 1, 1, 1, 0, 2, 2, 2, 0, 3});
  CHECK(axis_of(at, 1, 1) == ids{0, 1, 1, 2, 1, 1, 1, 2, 1, 2, 2, 3});
}

TEST_CASE("the order of the axes of a masked grid", "[masked_grid]") {
  const auto yx = masked_grid(mask, {2, 3, 4}, slowest), xy = masked_grid(mask, {2, 3, 4}, fastest);
  const auto normal_yx = normalized_mask(mask, {2, 3, 4}, {.order = slowest}),
             normal_xy = normalized_mask(mask, {2, 3, 4}, {.order = fastest});
  for (index_t b = 0; b < 2; ++b)
    for (index_t axis = 0; axis < 2; ++axis) {
      CHECK(axis_of(xy, b, axis) == axis_of(yx, b, 1 - axis));
      CHECK(axis_of(normal_xy, b, axis) == axis_of(normal_yx, b, 1 - axis));
    }
}

TEST_CASE("a picture without padding has a grid from 1", "[masked_grid]") {
  const auto at = masked_grid(std::vector<char>(12, 1), {1, 3, 4}, slowest);
  const auto cells = grid_positions({.extents = {3, 4}, .order = slowest, .start = {1, 1}});
  for (index_t axis = 0; axis < 2; ++axis) CHECK(axis_of(at, 0, axis) == axis_of(cells, 0, axis));
}

TEST_CASE("a mask may be a tensor of integers, in both storage orders", "[masked_grid]") {
  Eigen::Tensor<int, 3, Eigen::RowMajor> rows(2, 3, 4);
  Eigen::Tensor<std::uint8_t, 3> columns(4, 3, 2);
  Eigen::Tensor<bool, 3, Eigen::RowMajor> flags(2, 3, 4);
  for (index_t n = 0; n < 24; ++n) {
    rows.data()[n] = mask[static_cast<std::size_t>(n)];
    columns.data()[n] = mask[static_cast<std::size_t>(n)] != 0;
    flags.data()[n] = mask[static_cast<std::size_t>(n)] != 0;
  }
  const auto at = masked_grid(mask, {2, 3, 4}, fastest);
  CHECK(masked_grid(rows, fastest) == at);
  CHECK(masked_grid(columns, fastest) == at);
  CHECK(masked_grid(flags, fastest) == at);
  const mask_normalization rule{.order = slowest, .scale = 3};
  const auto normalized = normalized_mask(mask, {2, 3, 4}, rule);
  CHECK(normalized_mask(rows, rule) == normalized);
  CHECK(normalized_mask(columns, rule) == normalized);
  CHECK(masked_grid(std::vector<bool>(24, true), {2, 3, 4}, slowest) == masked_grid(std::vector<int>(24, 5), {2, 3, 4}, slowest));
}

TEST_CASE("masks without cells", "[masked_grid]") {
  const Eigen::Tensor<int, 3, Eigen::RowMajor> no_batch(0, 3, 4), no_rows(2, 0, 4), no_columns(2, 3, 0);
  const auto shared = masked_grid(no_batch, slowest);
  CHECK((shared.axes() == 2 && shared.batch() == 0 && shared.time() == 12));
  CHECK(normalized_mask(no_batch, {.order = slowest}).time() == 12);
  CHECK((masked_grid(no_rows, slowest).time() == 0 && masked_grid(no_rows, slowest).batch() == 2));
  CHECK((normalized_mask(no_columns, {.order = slowest}).time() == 0 && normalized_mask(no_columns, {.order = slowest}).axes() == 2));
}

TEST_CASE("normalized masks are divided by the last count of the column and of the row", "[masked_grid]") {
  using numbers = std::vector<double>;
  // Epsilons of powers of two, so that all is exact: 1 / (2 + 2) * 16, 2 / (2 + 2) * 16; nothing in a column gives 0.
  const auto at = normalized_mask(mask, {2, 3, 4}, {.order = slowest, .scale = 16, .epsilon = 2});
  CHECK((at.axes() == 2 && at.batch() == 2 && at.time() == 12));
  CHECK(axis_of(at, 0, 0) == numbers{4, 4, 0, 0, 8, 8, 0, 0, 8, 8, 0, 0});
  CHECK(axis_of(at, 0, 1) == numbers{4, 8, 8, 8, 4, 8, 8, 8, 0, 0, 0, 0});
  CHECK(axis_of(at, 1, 0)[7] == 2 / 5. * 16);
  // Deformable DETR: the middles of pixels; the offset does not move the last count.
  const auto middles = normalized_mask(mask, {2, 3, 4}, {.order = slowest, .scale = 16, .epsilon = 2, .offset = -0.5});
  CHECK(axis_of(middles, 0, 0) == numbers{2, 2, -4, -4, 6, 6, -4, -4, 6, 6, -4, -4});
  CHECK(axis_of(middles, 0, 1) == numbers{2, 6, 6, 6, 2, 6, 6, 6, -4, -4, -4, -4});
}

TEST_CASE("normalized masks by DETR's defaults, against loops", "[masked_grid]") {
  random_numbers random(5);
  const index_t batch = 3, height = 7, width = 5;
  std::vector<int> many;
  for (index_t n = 0; n < batch * height * width; ++n) many.push_back(random.integer(0, 3) > 0);
  const auto real = [&](index_t b, index_t y, index_t x) { return many[static_cast<std::size_t>((b * height + y) * width + x)]; };
  for (const double offset : {0., -0.5}) {
    const auto at = normalized_mask(many, {batch, height, width}, {.order = slowest, .offset = offset});
    for (index_t b = 0; b < batch; ++b)
      for (index_t y = 0; y < height; ++y)
        for (index_t x = 0; x < width; ++x) {
          int above = 0, before = 0, column = 0, row = 0;
          for (index_t i = 0; i < height; ++i) column += real(b, i, x), above += i <= y ? real(b, i, x) : 0;
          for (index_t j = 0; j < width; ++j) row += real(b, y, j), before += j <= x ? real(b, y, j) : 0;
          REQUIRE(std::abs(at(b, y * width + x, 0) - 6.283185307179586 * (above + offset) / (column + 1e-6)) < 1e-14);
          REQUIRE(std::abs(at(b, y * width + x, 1) - 6.283185307179586 * (before + offset) / (row + 1e-6)) < 1e-14);
        }
  }
}

TEST_CASE("masks and rules that do not fit are refused", "[masked_grid][errors]") {
  using reference::refuses;
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  constexpr index_t much = index_t{1} << 40;
  const auto normalized = [&](const mask_extents& extents, const mask_normalization& rule) {
    static_cast<void>(normalized_mask(mask, extents, rule));
  };
  refuses("[masked grid] batch must be positive but got 0", [] { masked_grid(std::vector<int>(), {0, 3, 4}, slowest); });
  refuses("[masked grid] extents must not be negative but got [2, -3, 4]", [] { masked_grid(mask, {2, -3, 4}, slowest); });
  refuses("[masked grid] the extents must multiply to the size of the mask but got [2, 3, 5] and 24",
          [] { masked_grid(mask, {2, 3, 5}, slowest); });
  refuses("[masked grid] the size in bytes must fit in 63 bits but got [2, 1099511627776, 1099511627776]",
          [] { masked_grid(mask, {2, much, much}, slowest); });
  refuses("[normalized mask] batch must be positive but got 0", [&] { normalized({0, 3, 4}, {.order = slowest}); });
  refuses("[normalized mask] the extents must multiply to the size of the mask but got [1, 3, 4] and 24",
          [&] { normalized({1, 3, 4}, {.order = slowest}); });
  refuses("[normalized mask] scale must be finite but got inf", [&] { normalized({2, 3, 4}, {.order = slowest, .scale = infinity}); });
  refuses("[normalized mask] epsilon must be positive and finite but got 0",
          [&] { normalized({2, 3, 4}, {.order = slowest, .epsilon = 0}); });
  refuses("[normalized mask] epsilon must be positive and finite but got nan",
          [&] { normalized({2, 3, 4}, {.order = slowest, .epsilon = nan}); });
  refuses("[normalized mask] epsilon must be positive and finite but got inf",
          [&] { normalized({2, 3, 4}, {.order = slowest, .epsilon = infinity}); });
  refuses("[normalized mask] offset must be finite but got nan", [&] { normalized({2, 3, 4}, {.order = slowest, .offset = nan}); });
}
