// SPDX-License-Identifier: MIT
#include <posenc/dual_chunk_positions.hpp>

#include "catch.hpp"

#include <array>
#include <string>
#include <vector>

using namespace posenc;

namespace {

positions ids(const std::vector<position>& all) { return positions::ids(all); }

}  // namespace

TEST_CASE("queries of dual chunk attention have five versions", "[dual_chunk_positions]") {
  const auto at = dual_chunk_positions(positions::range(10), {.chunk_size = 6, .local_size = 2});  // chunks of four tokens
  CHECK(at.keys == ids({0, 1, 2, 3, 0, 1, 2, 3, 0, 1}));
  CHECK(at.intra == at.keys);
  CHECK(at.successive == ids({4, 5, 6, 6, 4, 5, 6, 6, 4, 5}));
  CHECK(at.inter == ids(std::vector<position>(10, 6)));
  CHECK(at.successive_critical == ids({4, 5, 6, 7, 4, 5, 6, 7, 4, 5}));
  CHECK(at.inter_critical == ids({6, 7, 8, 9, 6, 7, 8, 9, 6, 7}));
}

TEST_CASE("a large local size leaves the last position of two chunks", "[dual_chunk_positions]") {
  const auto at = dual_chunk_positions(positions::range(5), {.chunk_size = 9, .local_size = 7});  // chunks of two tokens
  CHECK(at.successive == ids({2, 3, 2, 3, 2}));
  CHECK(at.inter == ids({3, 3, 3, 3, 3}));
  CHECK(at.inter_critical == ids({9, 10, 9, 10, 9}));
}

TEST_CASE("distances of dual chunk attention are true where they can be", "[dual_chunk_positions]") {
  constexpr index_t length = 60, chunk = 16 - 5;
  const auto at = dual_chunk_positions(positions::range(length), {.chunk_size = 16, .local_size = 5});
  bool same_chunk = true, next_chunk = true, in_window = true;
  for (index_t i = 0; i < length; ++i)
    for (index_t j = 0; j <= i; ++j) {
      const index_t apart = i / chunk - j / chunk;
      const auto& queries = apart == 0 ? at.intra : apart == 1 ? at.successive : at.inter;
      const position distance = queries(0, i) - at.keys(0, j);
      if (apart == 0) same_chunk = same_chunk && distance == i - j;
      if (apart == 1 && i % chunk <= 5) next_chunk = next_chunk && distance == i - j;
      in_window = in_window && distance >= 0 && distance <= 16;
    }
  CHECK(same_chunk);
  CHECK(next_chunk);
  CHECK(in_window);
}

TEST_CASE("rows, negative positions and tokens without one keep their place in dual chunks", "[dual_chunk_positions]") {
  const auto at =
      dual_chunk_positions(positions::ids(std::vector<position>{no_position, -1, 4, 9, -4, -5}, 2), {.chunk_size = 6, .local_size = 2});
  CHECK(at.keys == positions::ids(std::vector<position>{no_position, 3, 0, 1, 0, 3}, 2));
  CHECK(at.inter == positions::ids(std::vector<position>{no_position, 6, 6, 6, 6, 6}, 2));
  CHECK(at.successive == positions::ids(std::vector<position>{no_position, 6, 4, 5, 4, 6}, 2));
  CHECK(dual_chunk_positions(positions::range(0), {.chunk_size = 6, .local_size = 2}).keys.time() == 0);
  CHECK(dual_chunk_positions(positions::range(1, positions::limit), {.chunk_size = position{1} << 60, .local_size = 0}).keys == ids({0}));
}

TEST_CASE("chunks are larger than what they share", "[dual_chunk_positions]") {
  const auto at = positions::range(3);
  const std::string chunk = "[dual chunk] chunk_size must lie in [1, 2^60] but got ",
                    local = "[dual chunk] local_size must lie in [0, chunk_size) but got ";
  CHECK_THROWS_WITH(dual_chunk_positions(at, {.chunk_size = 0, .local_size = 0}), chunk + "0");
  CHECK_THROWS_WITH(dual_chunk_positions(at, {.chunk_size = (position{1} << 60) + 1, .local_size = 0}), chunk + "1152921504606846977");
  CHECK_THROWS_WITH(dual_chunk_positions(at, {.chunk_size = 4, .local_size = 4}), local + "4 and 4");
  CHECK_THROWS_WITH(dual_chunk_positions(at, {.chunk_size = 4, .local_size = -1}), local + "-1 and 4");
  CHECK_THROWS_WITH(dual_chunk_positions(positions::multi_axis(std::array{1, 2}, 2), {.chunk_size = 4, .local_size = 1}),
                    "[dual chunk] the positions must have one axis but got 2");
}
