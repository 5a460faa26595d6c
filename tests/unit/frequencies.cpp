// SPDX-License-Identifier: MIT
#include <posenc/frequencies.hpp>

#include <posenc/coordinates.hpp>

#include "catch.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

using namespace posenc;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// That a frequency is within 2^-90, relative, of one that is known to 128 bits.
bool near(turns got, turns known) {
  const double size = static_cast<double>(known.high) * 0x1p-64 + static_cast<double>(known.low) * 0x1p-128;
  const std::uint64_t off = got.low - known.low < known.low - got.low ? got.low - known.low : known.low - got.low;
  return got.high == known.high && static_cast<double>(off) * 0x1p-128 <= size * 0x1p-90;
}

/// base^(-k / (count - 1)), whose last one is 1 / base.
frequencies inclusive(index_t count, double base, std::string_view who = "test") {
  return frequencies::from_radians(who, geometric_series(who, count, base, 1, static_cast<double>(count > 1 ? count - 1 : 1)));
}

}  // namespace

TEST_CASE("plain frequencies fall from 1 by powers of the base", "[frequencies]") {
  const auto all = frequencies::plain("test", 128, 10000);
  CHECK(all.count() == 64);
  for (index_t k = 0; k < 64; ++k) CHECK(std::abs(all.radians(k) / std::pow(10000.0, -2.0 * static_cast<double>(k) / 128) - 1) < 1e-15);
  CHECK(all.radians(0) == 1);
  CHECK(all.radians(32) == 0.01);
  CHECK(all.radians(16) == 0.1);
}

TEST_CASE("frequencies are right to 2^-90", "[frequencies]") {
  // From a computation in 400 bits: floor(2^128 * base^(-2k / dim) / (2 pi)).
  const auto a = frequencies::plain("test", 128, 10000), b = frequencies::plain("test", 128, 500000);
  const auto c = frequencies::plain("test", 64, 10000);
  CHECK(near(a[0], {0x28be60db9391054a, 0x7f09d5f47d4d3770}));
  CHECK(near(a[1], {0x234855e55644662e, 0xb8f8cd8867f175c0}));
  CHECK(near(a[63], {0x13458e2f59024, 0x2936c000b86fbaba}));
  CHECK(near(b[37], {0x54aa31ebf5cf5, 0xb536a1a75af58d2e}));
  CHECK(near(c[31], {0x16412e4ffae4b, 0xa4a4512578de2aa3}));
  CHECK(near(inclusive(64, 10000)[32], {0x60f38e281dfcbe, 0x5fca6605e78c3b7f}));
  CHECK(a.radians(1) == 0x1.bb5fad00ab22cp-1);
  CHECK(a.radians(63) == 0x1.e459c57e28a47p-14);
  CHECK(b.radians(37) == 0x1.09fb7de6f8595p-11);
}

TEST_CASE("an odd dim has one frequency more, over dim itself", "[frequencies]") {
  const auto odd = frequencies::plain("test", 5, 32);
  CHECK(odd.count() == 3);
  CHECK(odd.radians(0) == 1);
  CHECK(odd.radians(1) == 0.25);
  CHECK(odd.radians(2) == 0.0625);
  CHECK(frequencies::plain("test", 1, 10000).count() == 1);
}

TEST_CASE("inclusive frequencies end at 1 / base", "[frequencies]") {
  const auto all = inclusive(5, 10000);
  CHECK(all.count() == 5);
  CHECK(all.radians(0) == 1);
  CHECK(all.radians(1) == 0.1);
  CHECK(all.radians(2) == 0.01);
  CHECK(all.radians(3) == 0.001);
  CHECK(all.radians(4) == 0.0001);
  CHECK(inclusive(1, 10000).radians(0) == 1);
  CHECK(inclusive(2, 10000).radians(1) == 0.0001);
  CHECK(inclusive(0, 10000).count() == 0);
}

TEST_CASE("any geometric series", "[frequencies]") {
  const auto all = frequencies::from_radians("test", geometric_series("test", 4, 2, 3, 1));
  CHECK((all.radians(0) == 1 && all.radians(1) == 0.125 && all.radians(2) == 0.015625 && all.radians(3) == 0x1p-9));
}

TEST_CASE("a geometric series between any two numbers", "[frequencies]") {
  const auto all = frequencies::from_radians("test", geometric_series("test", 3, posenc::log(8), posenc::log(2) - posenc::log(8), 2));
  CHECK((all.radians(0) == 8 && all.radians(1) == 4 && all.radians(2) == 2));
  CHECK(geometric_series("test", 0, posenc::log(8), posenc::log(2), 1).empty());
  CHECK(geometric_series("test", 2, posenc::log(1), posenc::log(1e-300) + posenc::log(1e-300), 1)[1].high < 1e-300);  // none is too small
  const std::string text = "[rope] frequencies must not exceed 2^38 radians but got ";
  CHECK_THROWS_WITH(geometric_series("rope", 1, posenc::log(0x1p39), posenc::log(1), 1), text + "549755813888");
  CHECK_THROWS_WITH(geometric_series("rope", 3, posenc::log(1), posenc::log(0x1p40), 2), text + "1099511627776");
  CHECK_NOTHROW(geometric_series("rope", 2, posenc::log(1), posenc::log(0x1p40), 2));  // to 2^20
}

TEST_CASE("coordinates must keep within 2^31 turns", "[frequencies]") {
  const auto speeds = frequencies::from_radians("test", {{1, 0}, {-2, 0}, {0.5, 0}, {0.25, 0}}, 2);  // [axis, pair]
  const auto fits = [&](std::vector<double> places, index_t axes, double start = 0, index_t batch = 0) {
    require_turns("rope", speeds, coordinates::values(places, axes, batch), start);
  };
  const double most = 1.0001 * 0x1p30 * two_pi.high;  // too far for the first axis, which turns by two radians at most
  CHECK_NOTHROW(fits({0, 0.99 * most, no_coordinate, 0, 3.99 * most, no_coordinate}, 2));
  CHECK_THROWS_WITH(fits({0, -most, 0, 0}, 2),
                    "[rope] coordinate times frequency must stay below 2^31 turns but got 6747193504.146235 and 0.31830988618379064");
  CHECK_THROWS_AS(fits({0, 0, 0, 4 * most}, 2), argument_error);
  CHECK_THROWS_AS(fits({0, 0, 1, most, 0, 0, 0, 0}, 2, 0, 2), argument_error);  // in the second batch row
  CHECK_THROWS_AS(fits({0, 0.99 * most, 0, 0}, 2, 0.02 * most), argument_error);
  CHECK_NOTHROW(fits({0, -0.99 * most, 0, 0}, 2, 0.02 * most));
  // One axis stands for both.
  CHECK_NOTHROW(fits({0, 0.99 * most}, 1));
  CHECK_THROWS_AS(fits({0, most}, 1), argument_error);
  // Of several heads the fastest counts.
  const auto heads = frequencies::from_radians("test", {{1, 0}, {8, 0}}, 1, 2);
  CHECK_THROWS_AS(require_turns("rope", heads, coordinates::values(std::array{most / 4}, 1)), argument_error);
}

TEST_CASE("a base of 1 turns every pair alike", "[frequencies]") {
  const auto all = frequencies::plain("test", 8, 1);
  for (index_t k = 0; k < 4; ++k) CHECK(all.radians(k) == 1);
}

TEST_CASE("a base below 1 makes frequencies grow; whole turns are kept apart", "[frequencies]") {
  CHECK(frequencies::plain("test", 4, 0.25).radians(1) == 2);
  // 2^-8 over 2 pairs: 16 radians, 2 whole turns and 16 - 4 pi.
  const auto all = frequencies::plain("test", 4, 0x1p-8);
  CHECK(all.radians(1) == 16);
  CHECK((all.whole_turns(0) == 0 && all.whole_turns(1) == 2));
  CHECK(std::abs(radians(all[1]) - (16 - 2 * 6.283185307179586)) < 1e-14);
}

TEST_CASE("frequencies may be negative", "[frequencies]") {
  const auto all = frequencies::from_radians("test", {{-1, 0}, {1, 0}, {-20, 0}, {0, 0}});
  CHECK((all.radians(0) == -1 && all.radians(1) == 1 && all.radians(2) == -20 && all.radians(3) == 0));
  CHECK((all.whole_turns(0) == -1 && all.whole_turns(2) == -4 && all.whole_turns(3) == 0));
  CHECK(all[0].high + all[1].high == ~std::uint64_t{0});  // they add up to a whole turn
  CHECK(all.wavelength(0) == two_pi.high);
}

TEST_CASE("frequencies of several axes and heads", "[frequencies]") {
  frequency_series series;
  for (int n = 0; n < 12; ++n) series.push_back({static_cast<double>(n), 0});
  const auto all = frequencies::from_radians("test", series, 2, 3);
  CHECK((all.count() == 2 && all.axes() == 2 && all.heads() == 3));
  for (index_t n = 0; n < 12; ++n) CHECK(all.radians(n) == static_cast<double>(n));
  CHECK_FALSE(all == frequencies::from_radians("test", series, 3, 2));
  CHECK_THROWS_WITH(frequencies::from_radians("test", series, 5),
                    "[test] axes and heads must divide the number of frequencies but got 12 and 5 and 0");
}

TEST_CASE("differences of frequencies are exact", "[frequencies]") {
  const auto a = frequencies::from_radians("test", {{3, 0}, {0.5, 0}, {100, 0}, {2, 0}}),
             b = frequencies::from_radians("test", {{1, 0}, {0.75, 0}, {0.25, 0}, {2, 0}});
  const auto difference = a - b;
  CHECK((difference.radians(0) == 2 && difference.radians(1) == -0.25 && difference.radians(2) == 99.75 && difference.radians(3) == 0));
  for (index_t n = 0; n < 4; ++n) CHECK(difference[n].high + b[n].high + (difference[n].low + b[n].low < b[n].low) == a[n].high);
  CHECK_THROWS_WITH(a - frequencies::plain("test", 4, 2), "[frequencies] both must have one shape but got [0, 1, 4] and [0, 1, 2]");
}

TEST_CASE("frequencies must be finite and below 2^39", "[frequencies]") {
  const std::string text = "[rope] frequencies must be finite and below 2^39 radians but got ";
  CHECK_THROWS_WITH(frequencies::from_radians("rope", {{infinity, 0}}), text + "inf");
  CHECK_THROWS_WITH(frequencies::from_radians("rope", {{1, 0}, {-0x1p39, 0}}), text + "-549755813888");
  CHECK_THROWS_WITH(frequencies::from_radians("rope", {{std::numeric_limits<double>::quiet_NaN(), 0}}), text + "nan");
}

TEST_CASE("wavelengths", "[frequencies]") {
  const auto all = frequencies::plain("test", 8, 10000);
  CHECK(all.wavelength(0) == two_pi.high);
  CHECK(std::abs(all.wavelength(2) / (100 * two_pi.high) - 1) < 1e-15);
  const auto still = frequencies::plain("test", 1000, std::numeric_limits<double>::max());
  CHECK(still[499] == turns{0, 0});
  CHECK(still.wavelength(499) == infinity);
}

TEST_CASE("kernels read all high words, then all low words", "[frequencies]") {
  const auto all = frequencies::plain("test", 6, 10000);
  CHECK(all.low() == all.high() + 3);
  for (index_t k = 0; k < 3; ++k) CHECK(all[k] == turns{all.high()[k], all.low()[k]});
}

TEST_CASE("frequencies are values", "[frequencies]") {
  const auto all = frequencies::plain("test", 6, 10000);
  const auto copy = all;
  CHECK(copy == all);
  CHECK(copy == frequencies::plain("another", 6, 10000));
  CHECK_FALSE(all == frequencies::plain("test", 6, 10001));
  CHECK_FALSE(all == frequencies::plain("test", 8, 10000));
  CHECK(frequencies() == inclusive(0, 3));
}

TEST_CASE("the base must be positive and finite", "[frequencies]") {
  const std::string text = "[rope] base must be positive and finite but got ";
  CHECK_THROWS_WITH(frequencies::plain("rope", 8, 0), text + "0");
  CHECK_THROWS_WITH(frequencies::plain("rope", 8, -0.0), text + "-0");
  CHECK_THROWS_WITH(frequencies::plain("rope", 8, -10000), text + "-10000");
  CHECK_THROWS_WITH(frequencies::plain("rope", 8, std::numeric_limits<double>::quiet_NaN()), text + "nan");
  CHECK_THROWS_WITH(frequencies::plain("rope", 8, infinity), text + "inf");
  CHECK_THROWS_WITH(frequencies::plain("rope", 8, -infinity), text + "-inf");
  CHECK_THROWS_WITH(inclusive(0, infinity, "rope"), text + "inf");
}

TEST_CASE("the base must not be tiny, unless nothing comes of it", "[frequencies]") {
  const std::string text = "[rope] base must not be so small that a frequency exceeds 2^38 radians but got ";
  CHECK_THROWS_WITH(frequencies::plain("rope", 8, 5e-324), text + "5e-324");
  CHECK_THROWS_WITH(inclusive(2, 1e-12, "rope"), text + "1e-12");
  CHECK_NOTHROW(inclusive(2, 1e-11, "rope"));
  CHECK_THROWS_WITH(inclusive(2, 0x1p-38 * (1 - 1e-13), "rope"), text + "3.637978807091349e-12");
  CHECK(inclusive(2, 0x1p-38 * (1 + 1e-13)).radians(1) > 0x1.fffp37);
  CHECK(frequencies::plain("rope", 2, 5e-324).radians(0) == 1);
}

TEST_CASE("counts must be positive and fit in memory", "[frequencies]") {
  CHECK_THROWS_WITH(frequencies::plain("rope", 0, 10000), "[rope] dim must be positive but got 0");
  CHECK_THROWS_WITH(frequencies::plain("rope", -8, 10000), "[rope] dim must be positive but got -8");
  CHECK_THROWS_WITH(geometric_series("rope", -1, 10000, 1, 1), "[rope] extents must not be negative but got [2, -1]");
  CHECK_THROWS_WITH(frequencies::plain("rope", std::numeric_limits<index_t>::max(), 10000),
                    "[rope] the size in bytes must fit in 63 bits but got [2, 4611686018427387904]");
}
