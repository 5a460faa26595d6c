// SPDX-License-Identifier: MIT
#include <posenc/random.hpp>

#include "catch.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

using namespace posenc;

TEST_CASE("the numbers are those of splitmix64", "[random]") {
  random_source zero(0);
  for (const std::uint64_t known :
       {0xe220a8397b1dcdafu, 0x6e789e6aa1b965f4u, 0x06c45d188009454fu, 0xf88bb8a8724c81ecu, 0x1b39896a51a8749bu})
    CHECK(zero.bits() == known);
  random_source other(1234567);
  for (const std::uint64_t known : {6457827717110365317u, 3203168211198807973u, 9817491932198370423u, 4593380528125082431u})
    CHECK(other.bits() == known);
  static_assert([] { return random_source(0).bits(); }() == 0xe220a8397b1dcdafu);
}

TEST_CASE("a copy goes on by itself", "[random]") {
  random_source one(7);
  one.bits();
  random_source copy = one;
  CHECK(copy == one);
  const std::uint64_t next = one.bits();
  CHECK_FALSE(copy == one);
  CHECK(copy.bits() == next);
}

TEST_CASE("uniform numbers have 53 bits", "[random]") {
  random_source random(0);
  CHECK(random.uniform() == 0x1.c4415072f63b9p-1);  // 0xe220a8397b1dcdaf without its last 11 bits
  CHECK(random.uniform() == 0x1.b9e279aa86e58p-2);
  double sum = 0, least = 1, most = 0;
  for (int n = 0; n < 10000; ++n) {
    const double drawn = random.uniform();
    sum += drawn;
    least = std::min(least, drawn);
    most = std::max(most, drawn);
  }
  CHECK(least >= 0);
  CHECK(least < 0.001);
  CHECK(most < 1);
  CHECK(most > 0.999);
  CHECK_THAT(sum / 10000, Catch::Matchers::WithinAbs(0.5, 0.01));
}

TEST_CASE("uniform numbers of a range lie within it", "[random]") {
  random_source random(3), same(3);
  for (int n = 0; n < 1000; ++n) {
    const double drawn = random.uniform(-3, 5);
    CHECK(drawn == -3 + 8 * same.uniform());
    CHECK((drawn >= -3 && drawn < 5));
  }
  CHECK(random.uniform(2, 2) == 2);
  constexpr double next = 1 + std::numeric_limits<double>::epsilon();
  for (int n = 0; n < 100; ++n) {
    const double drawn = random.uniform(1, next);
    CHECK((drawn == 1 || drawn == next));
  }

  constexpr double largest = std::numeric_limits<double>::max(), nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_NOTHROW(random.uniform(0, largest));
  CHECK_THROWS_WITH(random.uniform(2, 1), "[random] low must not exceed high but got 2 and 1");
  CHECK_THROWS_WITH(random.uniform(nan, 1), "[random] low must not exceed high but got nan and 1");
  CHECK_THROWS_WITH(random.uniform(0, nan), "[random] low must not exceed high but got 0 and nan");
  CHECK_THROWS_WITH(random.uniform(-largest, largest),
                    "[random] low and high must be a finite distance apart but got -1.7976931348623157e+308 and 1.7976931348623157e+308");
}

TEST_CASE("whole numbers below a bound are equally likely", "[random]") {
  random_source random(5);
  std::array<int, 6> seen{};
  for (int n = 0; n < 60000; ++n) ++seen.at(static_cast<std::size_t>(random.below(6)));
  for (const int times : seen) CHECK(std::abs(times - 10000) < 400);  // more than four standard deviations
  CHECK(random.below(1) == 0);
  CHECK_THROWS_WITH(random.below(0), "[random] the bound must be positive but got 0");
}

TEST_CASE("a bound of three quarters of all numbers is as fair", "[random]") {
  // A remainder alone would find the lowest third twice as often as each of the others.
  constexpr std::uint64_t bound = std::uint64_t{3} << 62;
  random_source random(6);
  std::array<int, 3> seen{};
  for (int n = 0; n < 30000; ++n) ++seen.at(static_cast<std::size_t>(random.below(bound) >> 62));
  for (const int times : seen) CHECK(std::abs(times - 10000) < 400);
}

TEST_CASE("the standard takes it for a generator", "[random]") {
  static_assert(std::uniform_random_bit_generator<random_source>);
  random_source random(0);
  CHECK(random() == 0xe220a8397b1dcdafu);
  std::vector<int> cards{1, 2, 3, 4, 5};
  std::shuffle(cards.begin(), cards.end(), random);
  CHECK(std::is_permutation(cards.begin(), cards.end(), std::array{1, 2, 3, 4, 5}.begin()));
}
