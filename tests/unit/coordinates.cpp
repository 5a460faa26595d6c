// SPDX-License-Identifier: MIT
#include <posenc/coordinates.hpp>

#include "catch.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace posenc;

namespace {

using rows = std::vector<std::vector<double>>;

constexpr double none = no_coordinate, infinity = std::numeric_limits<double>::infinity(), missing = -12345;

/// All there is on an axis, row after row; one row where all share it. Asks both ways. Tokens without a position are `missing`.
rows all(const coordinates& at, index_t axis = 0) {
  rows out;
  for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b) {
    std::vector<double> row;
    for (index_t t = 0; t < at.time(); ++t) {
      const double x = at(b, t, axis), same = at.row(b)[axis * at.axis_stride() + t];
      CHECK((x == same || (std::isnan(x) && std::isnan(same))));
      row.push_back(std::isnan(x) ? missing : x);
    }
    out.push_back(row);
  }
  return out;
}

coordinates one_axis(const std::vector<double>& values) { return coordinates::values(values, 1); }

const std::string one_number = "[coordinates] there must be one number per axis but got ";

}  // namespace

TEST_CASE("coordinates need not be whole numbers", "[coordinates]") {
  const auto shared = coordinates::values(std::array{0.5, -1.25, 1e300, none}, 1);
  CHECK(shared.axes() == 1);
  CHECK(shared.batch() == 0);
  CHECK(shared.time() == 4);
  CHECK(all(shared) == rows{{0.5, -1.25, 1e300, missing}});
  CHECK(shared(7, 1) == -1.25);

  const auto own = coordinates::values(std::vector<float>{0, 1, 2, 3, 4, 5, 0.5f, 1.5f, 2.5f, 3.5f, 4.5f, 5.5f}, 2, 2);
  CHECK(own.axes() == 2);
  CHECK(own.batch() == 2);
  CHECK(own.time() == 3);
  CHECK(own.axis_stride() == 6);
  CHECK(all(own, 0) == rows{{0, 1, 2}, {3, 4, 5}});
  CHECK(all(own, 1) == rows{{0.5, 1.5, 2.5}, {3.5, 4.5, 5.5}});
  CHECK(own.row(1, 1)[2] == 5.5);
  CHECK(coordinates::values(std::vector<double>{}, 2, 3).time() == 0);
}

TEMPLATE_TEST_CASE("coordinates from a tensor", "[coordinates]", float, double, Eigen::half, Eigen::bfloat16) {
  Eigen::Tensor<TestType, 3, Eigen::RowMajor> by_rows(2, 2, 3);
  Eigen::Tensor<TestType, 3> by_columns(3, 2, 2);
  for (int n = 0; n < 12; ++n) by_rows.data()[n] = by_columns.data()[n] = static_cast<TestType>(0.25f * static_cast<float>(n));
  for (const auto& at : {coordinates::values(by_rows), coordinates::values(by_columns)}) {
    CHECK(at.batch() == 2);
    CHECK(all(at, 0) == rows{{0, 0.25, 0.5}, {0.75, 1, 1.25}});
    CHECK(all(at, 1) == rows{{1.5, 1.75, 2}, {2.25, 2.5, 2.75}});
  }
  const auto shared = coordinates::values(tensor_view<TestType, 2>(by_rows.data(), {3, 4}));
  CHECK(shared.batch() == 0);
  CHECK(shared.axes() == 3);
  CHECK(all(shared, 2) == rows{{2, 2.25, 2.5, 2.75}});
  const auto single = coordinates::values(tensor_view<TestType, 1>(by_rows.data(), {3}, {2}));
  CHECK(single.axes() == 1);
  CHECK(all(single) == rows{{0, 0.5, 1}});
}

TEST_CASE("an empty batch of coordinates has a time", "[coordinates]") {
  const auto at = coordinates::values(Eigen::Tensor<double, 3, Eigen::RowMajor>(2, 0, 3));
  CHECK_NOTHROW(require_match("x", at, 0, 3, 2));
  CHECK(at(7, 2, 1) == at(0, 2, 1));
}

TEST_CASE("coordinates are finite, on all axes or on none", "[coordinates]") {
  const std::string finite = "[coordinates] coordinates must be finite but got ";
  CHECK_THROWS_WITH(coordinates::values(std::array{0.0, infinity}, 1), finite + "inf");
  CHECK_THROWS_WITH(coordinates::values(std::array{-infinity}, 1), finite + "-inf");
  CHECK(all(coordinates::values(std::array{none, 1.0, -none, 2.0}, 2), 1) == rows{{missing, 2}});
  const std::string mixed = "[coordinates] a token must have a position on all axes or on none but got no_coordinate and ";
  CHECK_THROWS_WITH(coordinates::values(std::array{none, 1.0, 3.5, 2.0}, 2), mixed + "3.5");
  CHECK_THROWS_WITH(coordinates::values(std::array{0.0, 7.5, 3.5, none}, 2), mixed + "7.5");
}

TEST_CASE("there are one to eight axes, which divide the coordinates", "[coordinates]") {
  const std::string count = "[coordinates] there must be 1 to 8 axes but got ";
  CHECK_THROWS_WITH(coordinates::values(std::array{1.0}, 0), count + "0");
  CHECK_THROWS_WITH(coordinates::values(std::vector<double>(9), 9), count + "9");
  CHECK_THROWS_WITH(coordinates::values(Eigen::Tensor<float, 2, Eigen::RowMajor>(9, 2)), count + "9");
  CHECK_THROWS_WITH(coordinates::values(std::array{1.0, 2.0, 3.0}, 2),
                    "[coordinates] axes and batch must divide the number of values but got 2 and 0 and 3");
  CHECK_THROWS_WITH(coordinates::values(std::array{1.0}, 1, -1), "[coordinates] batch must not be negative but got -1");
}

TEST_CASE("positions are coordinates too", "[coordinates]") {
  CHECK(all(coordinates::of(positions::range(3, -1))) == rows{{-1, 0, 1}});
  CHECK(all(coordinates::of(positions::offsets(std::array{0, 7}, 2))) == rows{{0, 1}, {7, 8}});
  const auto axes = coordinates::of(positions::multi_axis(std::vector<position>{no_position, 1, 2, no_position, 3, 4}, 2));
  CHECK(axes.batch() == 0);
  CHECK(all(axes, 0) == rows{{missing, 1, 2}});
  CHECK(all(axes, 1) == rows{{missing, 3, 4}});
  constexpr position most = position{1} << 53;
  CHECK(all(coordinates::of(positions::ids(std::array{most, -most}))) == rows{{0x1p53, -0x1p53}});
  const std::string text = "[coordinates] positions must lie in [-2^53, 2^53] but got ";
  CHECK_THROWS_WITH(coordinates::of(positions::range(1, most + 1)), text + "9007199254740993");
  CHECK_THROWS_WITH(coordinates::of(positions::range(1, -most - 1)), text + "-9007199254740993");
}

TEST_CASE("a slice of coordinates is part of every row", "[coordinates]") {
  const auto own = coordinates::values(std::array{0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5}, 2, 2);
  CHECK(all(own.slice(1, 2), 0) == rows{{1, 2}, {4, 5}});
  CHECK(all(own.slice(1, 2).slice(1, 1), 1) == rows{{2.5}, {5.5}});
  CHECK(own.slice(1, 2).row(1) == own.row(1) + 1);
  CHECK(own.slice(3, 0).time() == 0);
  const std::string text = "[coordinates] a slice must lie within time but got 3 and ";
  CHECK_THROWS_WITH(own.slice(2, 2), text + "2 and 2");
  CHECK_THROWS_WITH(own.slice(-1, 2), text + "-1 and 2");
  CHECK_THROWS_WITH(own.slice(0, -1), text + "0 and -1");
  CHECK_THROWS_WITH(own.slice(4, 0), text + "4 and 0");
}

TEST_CASE("the last coordinate is the largest of all", "[coordinates]") {
  CHECK(one_axis({-3.5, -0.5, none}).last() == -0.5);
  CHECK(coordinates::values(std::array{1.0, 2.0, 9.5, 3.0, 4.0, 5.0, 6.0, 7.0}, 2, 2).last() == 9.5);
  CHECK(coordinates::values(std::array{1.0, 2.0, 3.0, 4.0}, 2).slice(0, 1).last() == 3);
  CHECK(std::isnan(one_axis({none, none}).last()));
  CHECK(std::isnan(one_axis({}).last()));
}

TEST_CASE("coordinates are equal when they say the same", "[coordinates]") {
  const auto at = one_axis({0.5, none, 2});
  CHECK(at == one_axis({0.5, -none, 2}));
  CHECK(at == one_axis({9, 0.5, none, 2}).slice(1, 3));
  const auto copy = at;
  CHECK(copy == at);
  CHECK_FALSE(at == one_axis({0.5, none, 2.5}));
  CHECK_FALSE(at == one_axis({0.5, 1, 2}));
  CHECK_FALSE(at == one_axis({none, none, 2}));
  CHECK_FALSE(at == one_axis({0.5, none}));
  CHECK_FALSE(at == coordinates::values(std::array{0.5, none, 2.0}, 1, 1));
  CHECK_FALSE(one_axis({1, 2}) == coordinates::values(std::array{1.0, 2.0, 1.0, 2.0}, 2));
  CHECK_FALSE(coordinates::values(std::array{1.0, 2.0, 1.0, 3.0}, 2) == coordinates::values(std::array{1.0, 2.0, 1.0, 2.0}, 2));
}

TEST_CASE("coordinates are shifted and scaled axis by axis", "[coordinates]") {
  const auto at = coordinates::values(std::array{none, 1.0, 2.0, none, 10.0, 20.0}, 2);
  CHECK(all(at.shifted({0.5, -1}), 0) == rows{{missing, 1.5, 2.5}});
  CHECK(all(at.shifted({0.5, -1}), 1) == rows{{missing, 9, 19}});
  CHECK(all(at.scaled({2, -0.5}), 0) == rows{{missing, 2, 4}});
  CHECK(all(at.scaled({2, -0.5}), 1) == rows{{missing, -5, -10}});
  CHECK(all(at.slice(1, 2).scaled({2, 1})) == rows{{2, 4}});
  const auto own = coordinates::values(std::array{1.0, 2.0, 3.0, 4.0}, 2, 2).shifted({0, 100});
  CHECK(own.batch() == 2);
  CHECK(all(own, 1) == rows{{103}, {104}});

  CHECK_THROWS_WITH(at.shifted({1}), one_number + "2 and 1");
  CHECK_THROWS_WITH(at.scaled({1, 2, 3}), one_number + "2 and 3");
  CHECK_THROWS_WITH(at.shifted({1, none}), "[coordinates] the numbers must be finite but got nan");
  CHECK_THROWS_WITH(at.scaled({infinity, 1}), "[coordinates] the numbers must be finite but got inf");
  CHECK_THROWS_WITH(at.scaled({1, 1e308}), "[coordinates] coordinates must be finite but got inf");
}

TEST_CASE("coordinates are taken relative to a base", "[coordinates]") {
  const auto frames = coordinates::values(std::array{0.0, 10.0, 20.0, 0.0, 512.0, 2048.0}, 2).relative_to({20, 2048});
  CHECK(all(frames, 0) == rows{{-1, 0, 1}});
  CHECK(all(frames, 1) == rows{{-1, -0.5, 1}});
  const auto at = one_axis({1, 2});
  CHECK_THROWS_WITH(at.relative_to({0}), "[coordinates] a base must be positive but got 0");
  CHECK_THROWS_WITH(at.relative_to({none}), "[coordinates] a base must be positive but got nan");
  CHECK_THROWS_WITH(at.relative_to({infinity}), "[coordinates] the numbers must be finite but got inf");
  CHECK_THROWS_WITH(at.relative_to({1, 2}), one_number + "1 and 2");
}

TEST_CASE("queries and keys have coordinates of their own", "[coordinates]") {
  const attention_coordinates step{.queries = one_axis({4.5}), .keys = one_axis({0, 1.5, 4.5}), .new_keys = one_axis({4.5})};
  CHECK(step[operand::query] == step.queries);
  CHECK(step[operand::key] == step.keys);
  CHECK(step.turned(operand::query) == step.queries);
  CHECK(step.turned(operand::key) == *step.new_keys);
  const attention_coordinates whole{.queries = one_axis({4.5}), .keys = one_axis({0, 1.5, 4.5})};
  CHECK(whole.turned(operand::key) == whole.keys);
  CHECK_FALSE(whole == step);
  CHECK(whole == attention_coordinates{step.queries, step.keys});
}

TEST_CASE("coordinates must match the tensor and the encoder they are for", "[coordinates]") {
  const auto at = coordinates::values(std::array{1.0, 2.0, 3.0, 4.0}, 2);
  CHECK_NOTHROW(require_match("x", at, 7, 2, 2));
  CHECK_THROWS_WITH(require_match("x", at, 7, 3, 2), "[x] time must match the positions but got 3 and 2");
  CHECK_THROWS_WITH(require_match("x", at, 7, 2), "[x] the positions must have as many axes as the encoder but got 1 and 2");
}
