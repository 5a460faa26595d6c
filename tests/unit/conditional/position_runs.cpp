// SPDX-License-Identifier: MIT
#include <posenc/conditional/position_runs.hpp>

#include "catch.hpp"

#include <utility>
#include <vector>

using namespace posenc;

namespace {

using pairs = std::vector<std::pair<index_t, index_t>>;

pairs of(const std::vector<detail::token_stretch>& all) {
  pairs made;
  for (const auto& one : all) made.emplace_back(one.from, one.to);
  return made;
}

}  // namespace

TEST_CASE("runs are tokens whose positions are as far apart as they are", "[conditional]") {
  constexpr position far = positions::limit;
  // Two documents, a hole that stays in its run, padding that separates, the ends of what is allowed.
  const auto at = positions::ids(std::vector<position>{0, 1, 2, 0, no_position, 2, 5, no_position, 6, -far, far});
  const detail::position_runs frames(at, 0);
  CHECK(of(frames.runs) == pairs{{0, 3}, {3, 6}, {6, 7}, {8, 9}, {9, 10}, {10, 11}});
  CHECK(of(frames.present) == pairs{{0, 4}, {5, 7}, {8, 11}});
  CHECK(frames.has_position == std::vector<std::uint8_t>{1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1});

  const detail::position_runs whole(positions::range(4, 100), 0);
  CHECK(of(whole.runs) == pairs{{0, 4}});
  CHECK(of(whole.present) == pairs{{0, 4}});
  CHECK(detail::position_runs(positions::range(0), 0).runs.empty());
}
