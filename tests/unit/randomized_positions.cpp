// SPDX-License-Identifier: MIT
#include <posenc/randomized_positions.hpp>

#include "catch.hpp"

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

using namespace posenc;

TEST_CASE("random positions ascend within their length, in each row anew", "[randomized_positions]") {
  random_source random(1);
  const auto at = randomized_positions(50, 2048, 4, random);
  CHECK(at.batch() == 4);
  CHECK(at.time() == 50);
  CHECK(at.axes() == 1);
  bool ascend = true, within = true, anew = true;
  for (index_t b = 0; b < 4; ++b) {
    within = within && at(b, 0) >= 0 && at(b, 49) < 2048;
    for (index_t t = 1; t < 50; ++t) ascend = ascend && at(b, t - 1) < at(b, t);
    if (b > 0) anew = anew && !(at(b, 0) == at(0, 0) && at(b, 25) == at(0, 25) && at(b, 49) == at(0, 49));
  }
  CHECK(ascend);
  CHECK(within);
  CHECK(anew);
}

TEST_CASE("every choice of random positions is equally likely", "[randomized_positions]") {
  random_source random(2);
  std::map<std::vector<position>, int> seen;
  constexpr int draws = 40000;  // of 20 choices
  for (int n = 0; n < draws; ++n) {
    const auto at = randomized_positions(3, 6, 0, random);
    ++seen[{at(0, 0), at(0, 1), at(0, 2)}];
  }
  CHECK(seen.size() == 20);
  for (const auto& [choice, times] : seen) {
    INFO(choice[0] << " " << choice[1] << " " << choice[2]);
    CHECK(std::abs(times - draws / 20) < 200);  // more than four standard deviations
  }
}

TEST_CASE("random positions may be all there are, or none", "[randomized_positions]") {
  random_source random(3);
  CHECK(randomized_positions(5, 5, 0, random) == positions::range(5));
  CHECK(randomized_positions(0, 5, 0, random) == positions::range(0));
  CHECK(randomized_positions(0, 0, 2, random).batch() == 2);
  CHECK(randomized_positions(2, positions::limit, 0, random).last() < positions::limit);
}

TEST_CASE("the same seed gives the same random positions", "[randomized_positions]") {
  random_source random(0), same(0);
  const auto at = randomized_positions(3, 1000, 0, random);
  CHECK(at == randomized_positions(3, 1000, 0, same));
  CHECK(at == positions::ids(std::vector<position>{27, 511, 679}));  // on every platform
}

TEST_CASE("there are not more random positions than the length has", "[randomized_positions]") {
  random_source random(4);
  const random_source before = random;
  const std::string time = "[randomized positions] time must lie in [0, length] but got ";
  CHECK_THROWS_WITH(randomized_positions(6, 5, 0, random), time + "6 and 5");
  CHECK_THROWS_WITH(randomized_positions(-1, 5, 0, random), time + "-1 and 5");
  const std::string length = "[randomized positions] length must lie in [0, 2^62] but got ";
  CHECK_THROWS_WITH(randomized_positions(0, -1, 0, random), length + "-1");
  CHECK_THROWS_WITH(randomized_positions(1, positions::limit + 1, 0, random), length + "4611686018427387905");
  CHECK_THROWS_WITH(randomized_positions(1, 5, -1, random), "[randomized positions] batch must not be negative but got -1");
  CHECK_THROWS_WITH(randomized_positions(4, 5, positions::limit, random),
                    "[randomized positions] the size in bytes must fit in 63 bits but got [4611686018427387904, 4]");
  CHECK(random == before);
}
