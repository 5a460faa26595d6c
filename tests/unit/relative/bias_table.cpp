// SPDX-License-Identifier: MIT
#include <posenc/relative/bias_table.hpp>

#include "catch.hpp"

#include <array>
#include <limits>
#include <memory>
#include <vector>

using namespace posenc;

namespace {

constexpr position none = no_position, far = positions::limit;

/// What a key's position is according to the runs of its piece.
std::vector<position> spelled_out(const position_row& keys, index_t count, std::vector<index_t>& pieces) {
  std::vector<position> all;
  detail::for_each_piece(keys, count, true, [&](index_t from, index_t piece, const kernels::key_run* runs, index_t number) {
    pieces.push_back(number);
    CHECK(from == static_cast<index_t>(all.size()));
    CHECK(runs[0].begin == 0);
    for (index_t r = 0; r < number; ++r) {
      const index_t end = r + 1 < number ? runs[r + 1].begin : piece;
      CHECK(end > runs[r].begin);
      for (index_t n = 0; n < end - runs[r].begin; ++n) all.push_back(runs[r].first == none ? none : runs[r].first + n);
    }
  });
  return all;
}

}  // namespace

TEST_CASE("where positions do not matter, keys that have one are one run", "[bias_table]") {
  const std::array<position, 6> ids{7, 3, none, none, 1, 1};
  std::vector<index_t> begins;
  detail::for_each_piece({ids.data(), 0}, 6, false, [&](index_t from, index_t count, const kernels::key_run* runs, index_t number) {
    CHECK(from == 0);
    CHECK(count == 6);
    for (index_t r = 0; r < number; ++r) begins.push_back(runs[r].begin);
  });
  CHECK(begins == std::vector<index_t>{0, 2, 4});
}

TEST_CASE("keys are scattered where fewer than eight of them count up at a time", "[bias_table]") {
  CHECK(!detail::scattered(positions::range(5)));
  CHECK(!detail::scattered(positions::packed(std::array{0, 8, 16})));
  CHECK(detail::scattered(positions::packed(std::array{0, 7, 14})));
  CHECK(detail::scattered(positions::ids(std::array{0, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 9, 0, 1, 2}, 2)));  // of one batch row
}

TEST_CASE("distances between positions are those of the farthest pairs", "[bias_table]") {
  const auto between = [](const positions& queries, const positions& keys) { return detail::distances_between({queries, keys}); };
  CHECK(between(positions::range(3, 40), positions::range(43)) == distance_range{-42, 2});
  CHECK(between(positions::ids(std::array<position, 4>{5, none, -2, 3}), positions::ids(std::array<position, 3>{none, 9, 4})) ==
        distance_range{-1, 11});
  // Row by row: the query at 100 meets no key of the other row.
  CHECK(between(positions::offsets(std::array{0, 100}, 2), positions::offsets(std::array{-1, 99}, 3)) == distance_range{-2, 1});
  CHECK(between(positions::offsets(std::array{0, 10}, 1), positions::range(3)) == distance_range{-10, 2});
  CHECK(between(positions::range(1, 7), positions::offsets(std::array{0, 10}, 2)) == distance_range{-7, 4});
  const auto nothing = positions::ids(std::array<position, 1>{none});
  for (const auto& empty :
       {between(nothing, positions::range(3)), between(positions::range(3), nothing), between(positions::range(0), nothing)})
    CHECK(empty.low > empty.high);
  const auto ends = positions::ids(std::array<position, 2>{-far, far});
  CHECK(between(ends, ends) == distance_range{std::numeric_limits<position>::min(), std::numeric_limits<position>::max()});
}

TEST_CASE("a distance is the difference, or the nearest number", "[bias_table]") {
  CHECK(detail::distance_of(3, 10) == -7);
  CHECK(detail::distance_of(10, -3) == 13);
  CHECK(detail::distance_of(far, -far) == std::numeric_limits<position>::max());
  CHECK(detail::distance_of(far - 1, -far) == std::numeric_limits<position>::max());
  CHECK(detail::distance_of(far - 2, -far) == std::numeric_limits<position>::max() - 1);
  CHECK(detail::distance_of(-far, far) == std::numeric_limits<position>::min());
}

TEST_CASE("keys are cut into runs that count up", "[bias_table]") {
  std::vector<index_t> pieces;
  CHECK(spelled_out(positions::range(5, -2).row(0), 5, pieces) == std::vector<position>{-2, -1, 0, 1, 2});
  CHECK(pieces == std::vector<index_t>{1});
  const std::vector<position> ids{4, 5, 6, none, none, 7, 7, 8, 1, none, 2, far};
  pieces.clear();
  CHECK(spelled_out({ids.data(), 0}, 12, pieces) == ids);
  CHECK(pieces == std::vector<index_t>{8});
  // More runs than one piece holds: pairs that count up, each below the last.
  for (const index_t count : {126, 127, 128, 129, 130, 300}) {
    std::vector<position> pairs;
    for (index_t n = 0; n < count; ++n) pairs.push_back(-3 * (n / 2) + n % 2);
    pieces.clear();
    CHECK(spelled_out({pairs.data(), 0}, count, pieces) == pairs);
    CHECK(pieces.size() == static_cast<std::size_t>((count + 127) / 128));
  }
  pieces.clear();
  CHECK(spelled_out({ids.data(), 0}, 0, pieces).empty());
  CHECK(pieces.empty());
}

TEST_CASE("a bias table says its distances and values, or that it has none", "[bias_table]") {
  const attention_positions at{positions::range(2), positions::range(3)};
  const bias_table<float> without(at);
  CHECK(without.at() == at);
  CHECK(without.values().empty());
  const std::shared_ptr<const float[]> values(new float[8]{0, 1, 2, 3, 4, 5, 6, 7});
  const bias_table<float> table(at, values, 2, {-1, 2});
  const auto copy = table;
  CHECK(copy.values().data() == values.get());
  CHECK(copy.values().extents() == std::array<index_t, 2>{2, 4});
  CHECK(copy.values()(1, 0) == 4);
  CHECK(copy.distances() == distance_range{-1, 2});
  CHECK(distance_range{-1, 2} != distance_range{-1, 3});
  CHECK(distance_range{-2, 2} != distance_range{-1, 2});
}
