// SPDX-License-Identifier: MIT
#include <posenc/error.hpp>

#include "catch.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>

using posenc::require;

TEST_CASE("a failed check says who, which rule and what it got", "[error]") {
  CHECK_THROWS_WITH(require(false, "rope", "dim must be even", 7), "[rope] dim must be even but got 7");
  CHECK_THROWS_WITH(require(false, "rope", "dim must be given"), "[rope] dim must be given");
  CHECK_THROWS_WITH(require(false, "alibi", "heads must match", 4, 8), "[alibi] heads must match but got 4 and 8");
  CHECK_THROWS_WITH(require(false, "alibi", "heads must match", 4, 8, -2), "[alibi] heads must match but got 4 and 8 and -2");
}

TEST_CASE("a check that holds does nothing", "[error]") {
  static_assert((require(true, "rope", "dim must be even", 7), true), "not even at compile time");
  CHECK_NOTHROW(require(true, "rope", "dim must be even", 7));
}

TEST_CASE("the error is an std::invalid_argument", "[error]") {
  CHECK_THROWS_AS(require(false, "rope", "dim must be even", 7), posenc::argument_error);
  CHECK_THROWS_AS(require(false, "rope", "dim must be even", 7), std::invalid_argument);
}

TEST_CASE("whole numbers are written in full", "[error]") {
  CHECK_THROWS_WITH(require(false, "x", "n", std::numeric_limits<std::int64_t>::min()), "[x] n but got -9223372036854775808");
  CHECK_THROWS_WITH(require(false, "x", "n", std::numeric_limits<std::size_t>::max()), "[x] n but got 18446744073709551615");
  CHECK_THROWS_WITH(require(false, "x", "n", std::int8_t{-5}, std::uint16_t{65535}), "[x] n but got -5 and 65535");
}

TEST_CASE("other numbers are written as briefly as they can be read back", "[error]") {
  CHECK_THROWS_WITH(require(false, "x", "base", 0.1), "[x] base but got 0.1");
  CHECK_THROWS_WITH(require(false, "x", "base", 0.1f), "[x] base but got 0.1");
  CHECK_THROWS_WITH(require(false, "x", "base", 10000.0), "[x] base but got 10000");
  CHECK_THROWS_WITH(require(false, "x", "base", -1e300), "[x] base but got -1e+300");
  CHECK_THROWS_WITH(require(false, "x", "base", -0.0), "[x] base but got -0");
  CHECK_THROWS_WITH(require(false, "x", "base", std::numeric_limits<double>::quiet_NaN()), "[x] base but got nan");
  CHECK_THROWS_WITH(require(false, "x", "base", -std::numeric_limits<double>::infinity()), "[x] base but got -inf");
  CHECK_THROWS_WITH(require(false, "x", "base", std::numeric_limits<double>::denorm_min()), "[x] base but got 5e-324");
  CHECK_THROWS_WITH(require(false, "x", "base", -2.2250738585072014e-308), "[x] base but got -2.2250738585072014e-308");
}

TEST_CASE("shapes are written in brackets", "[error]") {
  using std::array, std::ptrdiff_t;
  CHECK_THROWS_WITH(require(false, "tensor", "must match", array<ptrdiff_t, 3>{2, 3, 4}, array<ptrdiff_t, 3>{2, -3, 0}),
                    "[tensor] must match but got [2, 3, 4] and [2, -3, 0]");
  CHECK_THROWS_WITH(require(false, "tensor", "shape", array<ptrdiff_t, 1>{7}), "[tensor] shape but got [7]");
  CHECK_THROWS_WITH(require(false, "tensor", "shape", array<ptrdiff_t, 0>{}), "[tensor] shape but got []");
}

TEST_CASE("words are written as they are", "[error]") {
  const std::string word = "100 % {of} \\it";
  CHECK_THROWS_WITH(require(false, "x", "word", word, std::string_view("view"), "literal", 1),
                    "[x] word but got 100 % {of} \\it and view and literal and 1");
  CHECK_THROWS_WITH(require(false, "x", "word", ""), "[x] word but got ");
}
