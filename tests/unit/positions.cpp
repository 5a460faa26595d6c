// SPDX-License-Identifier: MIT
#include <posenc/positions.hpp>

#include "catch.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

using namespace posenc;

namespace {

using rows = std::vector<std::vector<position>>;

constexpr position none = no_position, limit = position{1} << 62;

/// All there is on an axis, row after row; one row where all share it. Asks both ways.
rows all(const positions& at, index_t axis = 0) {
  rows out;
  for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b) {
    std::vector<position> row;
    for (index_t t = 0; t < at.time(); ++t) {
      CHECK(at(b, t, axis) == at.row(b, axis)[t]);
      row.push_back(at(b, t, axis));
    }
    out.push_back(row);
  }
  return out;
}

const std::string out_of_range = "[positions] ids must lie in [-2^62, 2^62] but got ";

}  // namespace

// ---- ranges --------------------------------------------------------------------------------------------------------------------------

TEST_CASE("a range counts from its first position", "[positions]") {
  CHECK(all(positions::range(4)) == rows{{0, 1, 2, 3}});
  CHECK(all(positions::range(3, 10)) == rows{{10, 11, 12}});
  CHECK(all(positions::range(3, -2)) == rows{{-2, -1, 0}});
  CHECK(all(positions::range(0)) == rows{{}});
  CHECK(positions::range(3).batch() == 0);
  CHECK(positions::range(3)(7, 2) == 2);
}

TEST_CASE("a range lies within the limits", "[positions]") {
  CHECK(positions::range(1, limit)(0, 0) == limit);
  CHECK(positions::range(2, limit - 1)(0, 1) == limit);
  CHECK(positions::range(1, -limit)(0, 0) == -limit);
  CHECK(positions::range(limit, -limit)(0, limit - 1) == -1);
  CHECK(positions::range(std::numeric_limits<index_t>::max(), -limit)(0, std::numeric_limits<index_t>::max() - 1) == limit - 2);
  CHECK(positions::range(0, limit).time() == 0);
  CHECK_THROWS_WITH(positions::range(2, limit), out_of_range + "4611686018427387904 and 2");
  CHECK_THROWS_WITH(positions::range(0, limit + 1), out_of_range + "4611686018427387905");
  CHECK_THROWS_WITH(positions::range(1, -limit - 1), out_of_range + "-4611686018427387905");
  CHECK_THROWS_WITH(positions::range(std::numeric_limits<index_t>::max(), 1), out_of_range + "1 and 9223372036854775807");
  CHECK_THROWS_WITH(positions::range(1, none), "[positions] a range must start at a position but got no_position");
  CHECK_THROWS_WITH(positions::range(-1), "[positions] time must not be negative but got -1");
}

TEST_CASE("offsets give every row a start of its own", "[positions]") {
  const auto at = positions::offsets(std::array{4, -4, 0}, 3);
  CHECK(at.batch() == 3);
  CHECK(all(at) == rows{{4, 5, 6}, {-4, -3, -2}, {0, 1, 2}});
  CHECK(all(positions::offsets(std::vector<std::int64_t>{7}, 2)) == rows{{7, 8}});
  CHECK(all(positions::offsets(std::span<const int>(std::vector{0, 1}), 2)) == rows{{0, 1}, {1, 2}});
  CHECK_THROWS_WITH(positions::offsets(std::array<std::int64_t, 2>{0, limit}, 2), out_of_range + "4611686018427387904 and 2");
  CHECK_THROWS_WITH(positions::offsets(std::array<std::int64_t, 2>{0, none}, 2),
                    "[positions] a range must start at a position but got no_position");
  CHECK_THROWS_WITH(positions::offsets(std::array{1}, -2), "[positions] time must not be negative but got -2");
}

// ---- explicit ids --------------------------------------------------------------------------------------------------------------------

TEST_CASE("ids come in any order and may be negative", "[positions]") {
  const auto shared = positions::ids(std::array{9, -3, 9});
  CHECK(shared.batch() == 0);
  CHECK(all(shared) == rows{{9, -3, 9}});
  CHECK(shared(5, 1) == -3);

  const auto own = positions::ids(std::vector<std::int32_t>{-1, 0, 1, 7, 8, 9}, 2);
  CHECK(own.batch() == 2);
  CHECK(own.time() == 3);
  CHECK(all(own) == rows{{-1, 0, 1}, {7, 8, 9}});
  CHECK(all(positions::ids(std::vector<int>{})) == rows{{}});
  CHECK(all(positions::ids(std::vector<int>{}, 2)) == rows{{}, {}});
}

TEST_CASE("a token may have no position", "[positions]") {
  CHECK(all(positions::ids(std::vector<position>{none, 0, none, 1})) == rows{{none, 0, none, 1}});
}

TEST_CASE("ids lie within the limits", "[positions]") {
  CHECK(all(positions::ids(std::array{limit, -limit})) == rows{{limit, -limit}});
  CHECK_THROWS_WITH(positions::ids(std::array{limit + 1}), out_of_range + "4611686018427387905");
  CHECK_THROWS_WITH(positions::ids(std::array{-limit - 1}), out_of_range + "-4611686018427387905");
  CHECK_THROWS_WITH(positions::ids(std::array{none + 1}), out_of_range + "-9223372036854775807");
  CHECK_THROWS_WITH(positions::ids(std::array{std::numeric_limits<std::uint64_t>::max()}), out_of_range + "18446744073709551615");
}

TEST_CASE("batch divides the number of ids", "[positions]") {
  const std::string text = "[positions] batch must be positive and divide the number of ids but got ";
  CHECK_THROWS_WITH(positions::ids(std::array{1, 2, 3}, 2), text + "2 and 3");
  CHECK_THROWS_WITH(positions::ids(std::array{1, 2, 3}, 0), text + "0 and 3");
  CHECK_THROWS_WITH(positions::ids(std::array{1, 2, 3}, -3), text + "-3 and 3");
}

TEMPLATE_TEST_CASE("ids from a tensor of integers", "[positions]", std::int32_t, std::int64_t, std::uint8_t) {
  Eigen::Tensor<TestType, 2, Eigen::RowMajor> by_rows(2, 3);
  Eigen::Tensor<TestType, 2> by_columns(3, 2);
  for (int n = 0; n < 6; ++n) by_rows.data()[n] = by_columns.data()[n] = static_cast<TestType>(10 * n);
  CHECK(all(positions::ids(by_rows)) == rows{{0, 10, 20}, {30, 40, 50}});
  CHECK(all(positions::ids(by_columns)) == rows{{0, 10, 20}, {30, 40, 50}});

  Eigen::Tensor<TestType, 1> vector(3);
  vector.setValues({5, 0, 7});
  const auto shared = positions::ids(vector);
  CHECK(shared.batch() == 0);
  CHECK(all(shared) == rows{{5, 0, 7}});

  const Eigen::TensorMap<const Eigen::Tensor<TestType, 2>> map(by_columns.data(), 2, 3);
  CHECK(all(positions::ids(map)) == rows{{0, 10}, {20, 30}, {40, 50}});
  CHECK(all(positions::ids(tensor_view<TestType, 2>(by_rows.data(), {3, 2}, {1, 3}))) == rows{{0, 30}, {10, 40}, {20, 50}});
}

TEST_CASE("ids are copied", "[positions]") {
  std::vector<int> own{1, 2};
  const auto at = positions::ids(own);
  own[0] = 9;
  CHECK(all(at) == rows{{1, 2}});
}

TEST_CASE("borrowed ids stay where they are", "[positions]") {
  std::vector<position> own{5, 6, 7, -1, none, 1};
  const auto at = positions::borrow(own.data(), 2, 3);
  CHECK(at.row(1).ids == own.data() + 3);
  CHECK(all(at) == rows{{5, 6, 7}, {-1, none, 1}});
  own[0] = 4;
  CHECK(at(0, 0) == 4);
  const auto shared = positions::borrow(own.data(), 0, 6);
  CHECK(shared.batch() == 0);
  CHECK(shared(3, 5) == 1);
  CHECK(positions::borrow(nullptr, 2, 0).time() == 0);

  own[1] = limit + 1;
  CHECK_THROWS_WITH(positions::borrow(own.data(), 2, 3), out_of_range + "4611686018427387905");
  CHECK_THROWS_WITH(positions::borrow(nullptr, 2, -3), "[positions] extents must not be negative but got [2, -3]");
  CHECK_THROWS_WITH(positions::borrow(nullptr, limit, 2),
                    "[positions] the size in bytes must fit in 63 bits but got [4611686018427387904, 2]");
}

// ---- several axes --------------------------------------------------------------------------------------------------------------------

TEST_CASE("a token may stand on several axes", "[positions]") {
  const auto shared = positions::multi_axis(std::array{0, 0, 1, 1, 0, 1, 0, 1, 7, 7, 8, -8}, 3);
  CHECK(shared.axes() == 3);
  CHECK(shared.batch() == 0);
  CHECK(shared.time() == 4);
  CHECK(all(shared, 0) == rows{{0, 0, 1, 1}});
  CHECK(all(shared, 1) == rows{{0, 1, 0, 1}});
  CHECK(all(shared, 2) == rows{{7, 7, 8, -8}});
  CHECK(shared(5, 3, 2) == -8);

  const auto own = positions::multi_axis(std::vector<std::int32_t>{0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15}, 2, 2);
  CHECK(own.axes() == 2);
  CHECK(own.batch() == 2);
  CHECK(own.time() == 3);
  CHECK(all(own, 0) == rows{{0, 1, 2}, {3, 4, 5}});
  CHECK(all(own, 1) == rows{{10, 11, 12}, {13, 14, 15}});
  CHECK(all(own) == all(own, 0));

  CHECK(positions::range(3).axes() == 1);
  CHECK(positions::multi_axis(std::array{4, 5, 6, 7}, 1, 2) == positions::ids(std::array{4, 5, 6, 7}, 2));
  CHECK(positions::multi_axis(std::array{1, 2, 3, 4, 5, 6, 7, 8}, 8)(0, 0, 7) == 8);
  CHECK(positions::multi_axis(std::vector<int>{}, 2, 3).time() == 0);
}

TEMPLATE_TEST_CASE("several axes from a tensor of integers", "[positions]", std::int32_t, std::int64_t, std::uint8_t) {
  Eigen::Tensor<TestType, 3, Eigen::RowMajor> by_rows(3, 2, 2);
  Eigen::Tensor<TestType, 3> by_columns(2, 2, 3);
  for (int n = 0; n < 12; ++n) by_rows.data()[n] = by_columns.data()[n] = static_cast<TestType>(10 * n);
  for (const auto& at : {positions::multi_axis(by_rows), positions::multi_axis(by_columns)}) {
    CHECK(at.batch() == 2);
    CHECK(all(at, 0) == rows{{0, 10}, {20, 30}});
    CHECK(all(at, 1) == rows{{40, 50}, {60, 70}});
    CHECK(all(at, 2) == rows{{80, 90}, {100, 110}});
  }
  const auto strided = positions::multi_axis(tensor_view<TestType, 3>(by_rows.data(), {2, 3, 2}, {1, 4, 2}));
  CHECK(all(strided, 1) == rows{{10, 30}, {50, 70}, {90, 110}});

  Eigen::Tensor<TestType, 2, Eigen::RowMajor> shared(2, 3);
  shared.setValues({{0, 0, 1}, {5, 6, 5}});
  const auto at = positions::multi_axis(shared);
  CHECK(at.batch() == 0);
  CHECK(all(at, 0) == rows{{0, 0, 1}});
  CHECK(all(at, 1) == rows{{5, 6, 5}});
}

TEST_CASE("all ids of a token are one stride apart", "[positions]") {
  const auto own = positions::multi_axis(std::array{0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15}, 2, 2);
  for (const auto& at : {own, own.slice(1, 2), own.slice(2, 1)})
    for (index_t b = 0; b < 2; ++b)
      for (index_t t = 0; t < at.time(); ++t)
        for (index_t axis = 0; axis < 2; ++axis) CHECK(at.row(b).ids[axis * at.axis_stride() + t] == at(b, t, axis));
  CHECK(own.axis_stride() == 6);
  CHECK(positions::range(3).axis_stride() == 0);
  CHECK(positions::ids(std::array{1, 2, 3}).axis_stride() == 0);
}

TEST_CASE("a token has a position on all axes or on none", "[positions]") {
  CHECK(all(positions::multi_axis(std::vector<position>{none, 0, none, 1}, 2), 1) == rows{{none, 1}});
  const std::string text = "[positions] a token must have a position on all axes or on none but got no_position and ";
  CHECK_THROWS_WITH(positions::multi_axis(std::vector<position>{none, 0, 3, 1}, 2), text + "3");
  CHECK_THROWS_WITH(positions::multi_axis(std::vector<position>{0, 7, 3, none}, 2), text + "7");
  CHECK_THROWS_WITH(positions::multi_axis(std::vector<position>{0, 1, 0, 1, -5, 1, 0, none, 0, 1, 0, 1}, 3, 2), text + "1");
}

TEST_CASE("there are one to eight axes, which divide the ids", "[positions]") {
  const std::string count = "[positions] there must be 1 to 8 axes but got ";
  CHECK_THROWS_WITH(positions::multi_axis(std::array{1, 2, 3}, 0), count + "0");
  CHECK_THROWS_WITH(positions::multi_axis(std::array{1, 2, 3}, -1), count + "-1");
  CHECK_THROWS_WITH(positions::multi_axis(std::vector<int>(9), 9), count + "9");
  CHECK_THROWS_WITH(positions::multi_axis(Eigen::Tensor<int, 2, Eigen::RowMajor>(9, 1)), count + "9");
  CHECK_THROWS_WITH(positions::multi_axis(Eigen::Tensor<int, 3, Eigen::RowMajor>(0, 2, 2)), count + "0");
  const std::string divide = "[positions] axes and batch must divide the number of values but got ";
  CHECK_THROWS_WITH(positions::multi_axis(std::array{1, 2, 3}, 2), divide + "2 and 0 and 3");
  CHECK_THROWS_WITH(positions::multi_axis(std::array{1, 2, 3, 4}, 2, 3), divide + "2 and 3 and 4");
  CHECK_THROWS_WITH(positions::multi_axis(std::array{1, 2, 3, 4}, 2, limit), divide + "2 and 4611686018427387904 and 4");
  CHECK_THROWS_WITH(positions::multi_axis(std::array{1, 2}, 1, -2), "[positions] batch must not be negative but got -2");
  CHECK_THROWS_WITH(positions::multi_axis(std::array{position{0}, limit + 1}, 2), out_of_range + "4611686018427387905");
}

TEST_CASE("the last position is the largest of all", "[positions]") {
  CHECK(positions::range(4, 10).last() == 13);
  CHECK(positions::range(std::numeric_limits<index_t>::max(), -limit).last() == limit - 2);  // without counting there
  CHECK(positions::range(0, 10).last() == none);
  CHECK(positions::offsets(std::array{4, 100, -3}, 5).last() == 104);
  CHECK(positions::ids(std::array{9, -3, 5}).last() == 9);
  CHECK(positions::ids(std::array{-9, -3}).last() == -3);
  CHECK(positions::ids(std::vector<position>{none, -7, none}).last() == -7);
  CHECK(positions::ids(std::vector<position>{none, none}).last() == none);
  CHECK(positions::ids(std::array{1, 2, 3, 4, 8, 6}, 2).last() == 8);
  CHECK(positions::multi_axis(std::array{1, 2, 3, 4, 5, 9, 6, 7}, 2, 2).last() == 9);
  CHECK(positions::multi_axis(std::array{1, 2, 3, 4, 5, 9, 6, 7}, 2, 2).slice(0, 1).last() == 6);
  CHECK(positions::range(4, 10).slice(0, 2).last() == 11);
  CHECK(positions::multi_axis(std::vector<int>{}, 2).last() == none);
}

// ---- padding and packing -------------------------------------------------------------------------------------------------------------

TEST_CASE("a padding mask numbers the real tokens", "[positions]") {
  const std::vector<int> mask{1, 1, 1, 0,   // right
                              0, 0, 1, 1,   // left
                              1, 0, 7, -1,  // between; anything but 0 is real
                              0, 0, 0, 0};  // nothing
  const auto at = positions::from_padding_mask(mask, 4);
  CHECK(at.batch() == 4);
  CHECK(all(at) == rows{{0, 1, 2, none}, {none, none, 0, 1}, {0, none, 1, 2}, {none, none, none, none}});
  CHECK(all(positions::from_padding_mask(std::vector<bool>{true, false, true}, 1, 100)) == rows{{100, none, 101}});
  CHECK(all(positions::from_padding_mask(std::array{0, 1, 1}, 1, -5)) == rows{{none, -5, -4}});
  CHECK(all(positions::from_padding_mask(std::vector<int>{}, 2)) == rows{{}, {}});
}

TEST_CASE("a padding mask may be a tensor", "[positions]") {
  Eigen::Tensor<bool, 2, Eigen::RowMajor> by_rows(2, 3);
  by_rows.setValues({{true, true, false}, {false, true, true}});
  Eigen::Tensor<std::int64_t, 2> by_columns(3, 2);
  by_columns.setValues({{1, 0}, {1, 1}, {0, 1}});
  CHECK(all(positions::from_padding_mask(by_rows)) == rows{{0, 1, none}, {none, 0, 1}});
  CHECK(all(positions::from_padding_mask(by_columns, 7)) == rows{{7, 8, none}, {none, 7, 8}});
}

TEST_CASE("a padding mask must have rows, and start at a position", "[positions]") {
  const std::string text = "[positions] batch must be positive and divide the size of the mask but got ";
  CHECK_THROWS_WITH(positions::from_padding_mask(std::array{1, 1, 0}, 2), text + "2 and 3");
  CHECK_THROWS_WITH(positions::from_padding_mask(std::array{1, 1, 0}, 0), text + "0 and 3");
  CHECK_THROWS_WITH(positions::from_padding_mask(std::array{1}, 1, none),
                    "[positions] a range must start at a position but got no_position");
  CHECK_THROWS_WITH(positions::from_padding_mask(std::array{1}, 1, limit + 1), out_of_range + "4611686018427387905");
  CHECK_THROWS_WITH(positions::from_padding_mask(std::array{1, 1}, 1, limit), out_of_range + "4611686018427387905");
}

TEST_CASE("packed documents each count from zero", "[positions]") {
  const auto at = positions::packed(std::array{0, 3, 7});
  CHECK(at.batch() == 0);
  CHECK(all(at) == rows{{0, 1, 2, 0, 1, 2, 3}});
  CHECK(all(positions::packed(std::vector<std::int64_t>{0, 0, 2, 2, 2, 3, 3})) == rows{{0, 1, 0}});
  CHECK(all(positions::packed(std::array{0u})) == rows{{}});
}

TEST_CASE("boundaries of packed documents start at zero and never fall", "[positions]") {
  const std::string text = "[positions] boundaries must start at 0 and never fall but got ";
  CHECK_THROWS_WITH(positions::packed(std::array{1, 3}), text + "1");
  CHECK_THROWS_WITH(positions::packed(std::array{-1, 3}), text + "-1");
  CHECK_THROWS_WITH(positions::packed(std::array{0, 3, 2}), text + "2");
  CHECK_THROWS_WITH(positions::packed(std::vector<int>{}), text + "none");
}

// ---- an empty batch ------------------------------------------------------------------------------------------------------------------

TEST_CASE("an empty batch has a time, and fits an empty tensor", "[positions]") {
  const Eigen::Tensor<int, 2, Eigen::RowMajor> ids(0, 3);
  for (const auto& at : {positions::offsets(std::vector<int>{}, 3), positions::ids(ids), positions::from_padding_mask(ids)}) {
    CHECK(at.time() == 3);
    CHECK_NOTHROW(require_match("x", at, 0, 3));
    CHECK(at(7, 2) == at(0, 2));  // no memory of rows that are not there
  }
  const auto at = positions::multi_axis(Eigen::Tensor<int, 3, Eigen::RowMajor>(2, 0, 3));
  CHECK_NOTHROW(require_match("x", at, 0, 3, 2));
  CHECK(at(7, 2, 1) == at(0, 2, 1));
}

// ---- slices --------------------------------------------------------------------------------------------------------------------------

TEST_CASE("a slice is part of every row", "[positions]") {
  CHECK(all(positions::range(5, 10).slice(1, 3)) == rows{{11, 12, 13}});
  CHECK(all(positions::offsets(std::array{0, 100}, 4).slice(2, 2)) == rows{{2, 3}, {102, 103}});
  const auto own = positions::ids(std::array{0, 1, 2, 3, 10, 11, 12, 13}, 2);
  CHECK(all(own.slice(1, 2)) == rows{{1, 2}, {11, 12}});
  CHECK(all(own.slice(1, 3).slice(1, 2)) == rows{{2, 3}, {12, 13}});
  CHECK(all(own.slice(0, 4)) == all(own));
  CHECK(all(own.slice(4, 0)) == rows{{}, {}});
  CHECK(all(positions::ids(std::array{5, 6, 7}).slice(2, 1)) == rows{{7}});
  CHECK(own.slice(1, 2).batch() == 2);
  CHECK(own.slice(1, 2).row(1).ids == own.row(1).ids + 1);
  const auto axes = positions::multi_axis(std::array{0, 1, 2, 3, 10, 11, 12, 13, 4, 5, 6, 7, 14, 15, 16, 17}, 2, 2).slice(1, 3).slice(1, 2);
  CHECK(all(axes, 0) == rows{{2, 3}, {12, 13}});
  CHECK(all(axes, 1) == rows{{6, 7}, {16, 17}});
}

TEST_CASE("the positions of one axis share the memory", "[positions]") {
  const auto boxes = positions::multi_axis(std::array{0, 1, 2, 3, 10, 11, 12, 13, 4, 5, 6, 7, 14, 15, 16, 17}, 2, 2);
  for (const index_t axis : {0, 1}) {
    const auto own = boxes.axis(axis);
    CHECK(all(own) == all(boxes, axis));
    CHECK(own.axes() == 1);
    CHECK(own.axis_stride() == 0);
    CHECK(own.batch() == 2);
    CHECK(own.row(1).ids == boxes.row(1, axis).ids);
    CHECK(all(boxes.slice(1, 2).axis(axis)) == all(own.slice(1, 2)));
    CHECK(own == positions::ids(std::vector<position>(own.row(0).ids, own.row(0).ids + 8), 2));
  }
  CHECK(boxes.axis(0) != boxes.axis(1));
  CHECK(boxes.axis(1).last() == 17);
  CHECK(boxes.axis(0).last() == 13);
  CHECK(all(positions::multi_axis(std::array<position, 6>{1, none, 3, 4, none, 6}, 2).axis(1)) == rows{{4, none, 6}});
  for (const auto& one : {positions::range(3, 5), positions::offsets(std::array{1, 9}, 2), positions::ids(std::array{4, 2})})
    CHECK(one.axis(0) == one);
  const auto kept = positions::multi_axis(std::array{1, 2, 3, 4}, 2).axis(1);  // what it was made of is gone
  CHECK(all(kept) == rows{{3, 4}});

  const std::string text = "[positions] the axis must be one of the positions' axes but got ";
  CHECK_THROWS_WITH(boxes.axis(2), text + "2 and 2");
  CHECK_THROWS_WITH(boxes.axis(-1), text + "2 and -1");
  CHECK_THROWS_WITH(positions::range(3).axis(1), text + "1 and 1");
}

TEST_CASE("a slice lies within time", "[positions]") {
  const auto at = positions::range(5).slice(1, 4);
  const std::string text = "[positions] a slice must lie within time but got 4 and ";
  CHECK_THROWS_WITH(at.slice(0, 5), text + "0 and 5");
  CHECK_THROWS_WITH(at.slice(3, 2), text + "3 and 2");
  CHECK_THROWS_WITH(at.slice(5, 0), text + "5 and 0");
  CHECK_THROWS_WITH(at.slice(-1, 2), text + "-1 and 2");
  CHECK_THROWS_WITH(at.slice(1, -1), text + "1 and -1");
  CHECK_THROWS_WITH(at.slice(1, std::numeric_limits<index_t>::max()), text + "1 and 9223372036854775807");
}

// ---- equality ------------------------------------------------------------------------------------------------------------------------

TEST_CASE("positions are equal when they say the same", "[positions]") {
  const auto range = positions::range(3, 4);
  CHECK(range == positions::range(3, 4));
  CHECK(range == positions::ids(std::array{4, 5, 6}));
  CHECK(range == positions::range(6, 2).slice(2, 3));
  CHECK(positions::offsets(std::array{0, 7}, 2) == positions::ids(std::array{0, 1, 7, 8}, 2));
  CHECK(positions::from_padding_mask(std::array{0, 1}, 1) == positions::ids(std::array<position, 2>{none, 0}, 1));
  const auto copy = range;
  CHECK(copy == range);
}

TEST_CASE("positions differ in any position, in time and in batch", "[positions]") {
  const auto range = positions::range(3, 4);
  CHECK_FALSE(range == positions::range(3, 5));
  CHECK_FALSE(range == positions::range(4, 4));
  CHECK_FALSE(range == positions::ids(std::array{4, 5, 7}));
  CHECK_FALSE(range == positions::ids(std::array{4, 5, 6}, 1));
  CHECK_FALSE(positions::offsets(std::array{0, 7}, 2) == positions::ids(std::array{0, 1, 7, 9}, 2));
  CHECK_FALSE(positions::offsets(std::array{0, 7}, 3).slice(0, 2) == positions::offsets(std::array{0, 7}, 3).slice(1, 2));
}

TEST_CASE("positions on several axes are equal on all of them", "[positions]") {
  const std::array first{1, 2, 3, 4}, other{1, 2, 3, 5};
  const auto at = positions::multi_axis(first, 2);
  CHECK(at == positions::multi_axis(first, 2));
  CHECK(at == positions::multi_axis(std::array{9, 1, 2, 9, 3, 4}, 2).slice(1, 2));
  CHECK_FALSE(at == positions::multi_axis(other, 2));
  CHECK_FALSE(at == positions::multi_axis(first, 2, 1));
  CHECK_FALSE(positions::multi_axis(std::array{1, 2, 1, 2}, 2) == positions::ids(std::array{1, 2}));
  CHECK_FALSE(positions::multi_axis(std::array{1, 1}, 2) == positions::multi_axis(std::array{1, 1}, 1));
}

TEST_CASE("borrowed positions in one memory may still differ", "[positions]") {
  const std::vector<position> own{0, 1, 2, 3, 4, 5, 6, 7};
  const auto narrow = positions::borrow(own.data(), 2, 2), wide = positions::borrow(own.data(), 2, 4).slice(0, 2);
  CHECK(all(narrow) == rows{{0, 1}, {2, 3}});
  CHECK(all(wide) == rows{{0, 1}, {4, 5}});
  CHECK_FALSE(narrow == wide);
  CHECK(narrow == positions::borrow(own.data(), 2, 2));
}

// ---- queries and keys ----------------------------------------------------------------------------------------------------------------

TEST_CASE("queries and keys have positions of their own", "[positions]") {
  const attention_positions at{.queries = positions::range(1, 4), .keys = positions::range(5)};
  CHECK(at[operand::query] == positions::range(1, 4));
  CHECK(at[operand::key] == positions::range(5));
  CHECK(at == attention_positions{positions::ids(std::array{4}), positions::range(5)});
  CHECK_FALSE(at == attention_positions{positions::range(5), positions::range(5)});
  CHECK_FALSE(at == attention_positions{positions::range(1, 4), positions::range(6)});
}

TEST_CASE("with a cache, not all keys are turned", "[positions]") {
  const attention_positions whole{.queries = positions::range(5), .keys = positions::range(5)};
  CHECK(whole.turned(operand::query) == whole.queries);
  CHECK(whole.turned(operand::key) == whole.keys);

  const attention_positions step{.queries = positions::range(1, 4), .keys = positions::range(5), .new_keys = positions::range(2, 3)};
  CHECK(step[operand::key] == positions::range(5));
  CHECK(step.turned(operand::key) == positions::range(2, 3));
  CHECK(step.turned(operand::query) == positions::range(1, 4));
  CHECK_FALSE(step == attention_positions{.queries = positions::range(1, 4), .keys = positions::range(5)});
  CHECK(step == attention_positions{positions::range(1, 4), positions::range(5), positions::ids(std::array{3, 4})});
}

TEST_CASE("positions must match the tensor they are for", "[positions]") {
  CHECK_NOTHROW(require_match("x", positions::range(3), 7, 3));
  CHECK_NOTHROW(require_match("x", positions::offsets(std::array{0, 1}, 3), 2, 3));
  CHECK_THROWS_WITH(require_match("x", positions::range(3), 7, 4), "[x] time must match the positions but got 4 and 3");
  CHECK_THROWS_WITH(require_match("x", positions::offsets(std::array{0, 1}, 3), 3, 3),
                    "[x] batch must match the positions but got 3 and 2");
  CHECK_THROWS_WITH(require_match("x", positions::offsets(std::array{0}, 3), 3, 3), "[x] batch must match the positions but got 3 and 1");

  const auto two = positions::multi_axis(std::array{1, 2, 3, 4}, 2);
  CHECK_NOTHROW(require_match("x", two, 7, 2, 2));
  const std::string axes = "[x] the positions must have as many axes as the encoder but got ";
  CHECK_THROWS_WITH(require_match("x", two, 7, 2), axes + "1 and 2");
  CHECK_THROWS_WITH(require_match("x", two, 7, 2, 3), axes + "3 and 2");
  CHECK_THROWS_WITH(require_match("x", positions::range(2), 7, 2, 2), axes + "2 and 1");
}
