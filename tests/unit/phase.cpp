// SPDX-License-Identifier: MIT
#include <posenc/phase.hpp>

#include "catch.hpp"
#include "random.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

using namespace posenc;

namespace {

#if defined(__SIZEOF_INT128__)
__extension__ typedef __int128 wide;
#endif

constexpr std::uint64_t quarter = std::uint64_t{1} << 62, ones = ~std::uint64_t{0};
constexpr std::int64_t smallest = std::numeric_limits<std::int64_t>::min(), largest = std::numeric_limits<std::int64_t>::max();

turns random_turns(random_numbers& random) { return {random.bits(), random.bits()}; }

/// |a - b| on the circle, in 2^-64 turn.
std::uint64_t apart(std::uint64_t a, std::uint64_t b) { return a - b < b - a ? a - b : b - a; }

}  // namespace

TEST_CASE("fractions of a turn in two words", "[phase]") {
  CHECK(to_turns({0, 0}) == turns{0, 0});
  CHECK(to_turns({0.25, 0}) == turns{quarter, 0});
  CHECK(to_turns({0.75, 0}) == turns{3 * quarter, 0});
  CHECK(to_turns({0x1p-64, 0}) == turns{1, 0});
  CHECK(to_turns({0x1p-128, 0}) == turns{0, 1});
  CHECK(to_turns({0x1p-129, 0}) == turns{0, 0});
  CHECK(to_turns({0.5, 0x1p-100}) == turns{2 * quarter, 1u << 28});
}

TEST_CASE("whole turns are left out", "[phase]") {
  CHECK(to_turns({5, 0}) == turns{0, 0});
  CHECK(to_turns({12345.25, 0}) == turns{quarter, 0});
  CHECK(to_turns({0x1p39 + 0.25, 0x1p-60}) == turns{quarter + 16, 0});
  CHECK(to_turns({-0.25, 0}) == turns{3 * quarter, 0});
  CHECK(to_turns({-7.75, 0}) == turns{quarter, 0});
}

TEST_CASE("a hair below a whole turn", "[phase]") {
  CHECK(to_turns({-0x1p-64, 0}) == turns{ones, 0});
  CHECK(to_turns({-0x1p-128, 0}) == turns{ones, ones});
  CHECK(to_turns({-0x1p-300, 0}) == turns{ones, ones});
  CHECK(to_turns({3, -0x1p-70}) == turns{ones, ones << 58});
}

TEST_CASE("thirds and sevenths, to 128 bits", "[phase]") {
  const auto third = to_turns(double_double{1, 0} / double_double{3, 0});
  const auto seventh = to_turns(double_double{1000003, 0} / double_double{7, 0});
  CHECK(third.high == 0x5555555555555555u);
  CHECK(apart(third.low, 0x5555555555555555u) < std::uint64_t{1} << 24);
  CHECK(seventh.high == 0x9249249249249249u);
  CHECK(apart(seventh.low, 0x2492492492492492u) < std::uint64_t{1} << 44);  // 20 bits went into the whole turns
}

TEST_CASE("radians become turns", "[phase]") {
  CHECK(from_radians({0, 0}) == turns{0, 0});
  CHECK(from_radians(two_pi / double_double{4, 0}) == turns{quarter, 0});
  const auto one = from_radians({1, 0}), hundred = from_radians({100, 0}), minus_one = from_radians({-1, 0});
  CHECK(one.high == 0x28be60db9391054au);
  CHECK(apart(one.low, 0x7f09d5f47d4d3770u) < std::uint64_t{1} << 26);
  CHECK(hundred.high == 0xea5dd5c5a4a61119u);
  CHECK(apart(hundred.low, 0x9fd79380f229a7d5u) < std::uint64_t{1} << 32);
  CHECK(minus_one.high == 0xd7419f246c6efab5u);
  CHECK(apart(minus_one.low, 0x80f62a0b82b2c88fu) < std::uint64_t{1} << 26);
}

TEST_CASE("turns become radians again", "[phase]") {
  CHECK(radians({0, 0}) == 0);
  CHECK(radians({quarter, 0}) == two_pi.high / 4);
  CHECK(radians({2 * quarter, 0}) == two_pi.high / 2);
  CHECK(radians({0, 1}) == two_pi.high * 0x1p-128);
  CHECK(radians({ones, ones}) == two_pi.high);  // the nearest double, itself below 2 pi
  random_numbers random(1);
  for (int n = 0; n < 1000; ++n) {
    const double x = 3 + 3 * random.real<double>();
    REQUIRE(radians(from_radians({x, 0})) == x);
  }
  for (const double small : {1e-5, 1e-10, 1e-15, 1e-20}) CHECK(radians(from_radians({small, 0})) == small);
}

TEST_CASE("multiply_high at the corners", "[phase]") {
  static_assert(multiply_high(0, ones) == 0 && multiply_high(1, ones) == 0 && multiply_high(2, ones) == 1);
  static_assert(multiply_high(-1, 0) == 0 && multiply_high(-1, 1) == ones && multiply_high(-1, ones) == ones);
  CHECK(multiply_high(largest, ones) == static_cast<std::uint64_t>(largest - 1));
  CHECK(multiply_high(smallest, ones) == std::uint64_t{1} << 63);
  CHECK(multiply_high(smallest, 1) == ones);
  CHECK(multiply_high(std::int64_t{1} << 32, std::uint64_t{1} << 32) == 1);
  CHECK(multiply_high(0xffffffff, 0xffffffff) == 0);
}

#if defined(__SIZEOF_INT128__)
TEST_CASE("multiply_high against 128-bit integers", "[phase]") {
  random_numbers random(2);
  for (int n = 0; n < 5000; ++n) {
    const auto a = static_cast<std::int64_t>(random.bits()) >> (n % 64);
    const std::uint64_t b = random.bits() >> (n % 61);
    REQUIRE(multiply_high(a, b) == static_cast<std::uint64_t>((wide{a} * static_cast<wide>(b)) >> 64));
  }
}

TEST_CASE("double phases are the whole product, cut once", "[phase]") {
  random_numbers random(3);
  for (int n = 0; n < 5000; ++n) {
    const turns f = random_turns(random);
    const auto p = static_cast<std::int64_t>(random.bits()) >> (1 + n % 60);  // up to 2^62
    const auto exact = static_cast<std::uint64_t>(wide{p} * static_cast<wide>(f.high) + ((wide{p} * static_cast<wide>(f.low)) >> 64));
    REQUIRE(double_phase(p, f) == exact);
  }
}
#endif

TEST_CASE("float phases add bit for bit", "[phase]") {
  random_numbers random(4);
  for (int n = 0; n < 5000; ++n) {
    const turns f = random_turns(random);
    const std::int64_t p = random.integer(-(1ll << 61), 1ll << 61), d = random.integer(-(1ll << 61), 1ll << 61);
    REQUIRE(float_phase(p + d, f) == float_phase(p, f) + float_phase(d, f));
    REQUIRE(float_phase(-p, f) == 0 - float_phase(p, f));
  }
  static_assert(float_phase(-1, {1, 5}) == ones && float_phase(3, {quarter, ones}) == 3 * quarter);
}

TEST_CASE("double phases add up to a last place", "[phase]") {
  random_numbers random(5);
  for (int n = 0; n < 5000; ++n) {
    const turns f = random_turns(random);
    const std::int64_t p = random.integer(-(1ll << 61), 1ll << 61), d = random.integer(-(1ll << 61), 1ll << 61);
    REQUIRE(apart(double_phase(p + d, f), double_phase(p, f) + double_phase(d, f)) <= 1);
  }
  static_assert(double_phase(4, {0, quarter}) == 1 && double_phase(-1, {0, 1}) == ones && double_phase(3, {0, quarter}) == 0);
}

TEST_CASE("float phases are off by at most |p| * 2^-64 turn", "[phase]") {
  random_numbers random(6);
  for (int n = 0; n < 5000; ++n) {
    const turns f = random_turns(random);
    const std::int64_t p = random.integer(-(1ll << 31), 1ll << 31);
    REQUIRE(apart(double_phase(p, f), float_phase(p, f)) <= static_cast<std::uint64_t>(p < 0 ? -p : p));
  }
}

TEST_CASE("the phase of a position is its angle", "[phase]") {
  const turns one = from_radians({1, 0});
  for (const std::int64_t p : {1, -1, 100, -12345, 1000000}) {
    const double angle = radians({double_phase(p, one), 0});
    CHECK(std::abs(std::sin(angle) - std::sin(static_cast<double>(p))) < 1e-15);
    CHECK(std::abs(std::cos(angle) - std::cos(static_cast<double>(p))) < 1e-15);
  }
}
