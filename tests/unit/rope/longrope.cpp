// SPDX-License-Identifier: MIT
#include <posenc/rope/schedule.hpp>

#include "catch.hpp"
#include "reference/series.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace posenc;
using reference::close, reference::speeds, reference::infinity, reference::not_a_number, reference::refuses_schedule;
using schedule::longrope, schedule::longrope_list;

namespace {

longrope rule(longrope_list list, std::optional<double> attention_factor = {}, std::optional<double> short_mscale = {},
              std::optional<double> long_mscale = {}) {
  return {.short_factors = {1, 2, 4, 8},
          .long_factors = {10, 20, 40, 80},
          .original_length = 4096,
          .factor = 32,
          .list = list,
          .attention_factor = attention_factor,
          .short_mscale = short_mscale,
          .long_mscale = long_mscale};
}

bool is_long(const longrope& one, index_t length) {
  const auto all = speeds(one, 8, 10000, length);
  const double times = all.radians(0) == 1 ? 1 : 10;
  for (index_t k = 0; k < 4; ++k)
    CHECK(close(all.radians(k), frequencies::plain("test", 8, 10000).radians(k) / times / static_cast<double>(1 << k)));
  return times > 1;
}

double attention_factor(const longrope& one, index_t length = 1) { return one("test", 8, 10000, length).attention_factor; }

}  // namespace

TEST_CASE("longrope by length changes lists beyond the original length, and back", "[schedule][longrope]") {
  const longrope one = rule(longrope_list::by_length);
  CHECK_FALSE(is_long(one, 1));
  CHECK_FALSE(is_long(one, 4096));
  CHECK(is_long(one, 4097));
  CHECK(is_long(one, 131072));
  CHECK_FALSE(is_long(one, 4096));
}

TEST_CASE("longrope with one list keeps to it", "[schedule][longrope]") {
  for (const index_t length : {1, 4096, 4097, 131072}) {
    CHECK_FALSE(is_long(rule(longrope_list::always_short), length));
    CHECK(is_long(rule(longrope_list::always_long), length));
  }
}

TEST_CASE("longrope's attention factor", "[schedule][longrope]") {
  const auto list = longrope_list::by_length;
  CHECK(attention_factor(rule(list)) == 0x1.30b3713738289p+0);  // sqrt(1 + 5 / 12): ln 32 / ln 4096
  CHECK(attention_factor(rule(list), 5000) == attention_factor(rule(list)));
  CHECK(attention_factor(rule(list, 1.5)) == 1.5);
  CHECK(attention_factor(rule(list, 1.5, 1.25, 1.75)) == 1.25);
  CHECK(attention_factor(rule(list, 1.5, 1.25, 1.75), 5000) == 1.75);
  CHECK(attention_factor(rule(list, 1.5, std::nullopt, 1.75)) == 1.5);
  CHECK(attention_factor(rule(list, std::nullopt, 1.25), 5000) == 0x1.30b3713738289p+0);
  for (const double factor : {0.5, 1.}) {
    longrope shorter = rule(list);
    shorter.factor = factor;
    CHECK(attention_factor(shorter) == 1);
  }
}

TEST_CASE("longrope's lists must have one positive divisor for each pair, whichever is in use", "[schedule][longrope]") {
  for (const auto list : {longrope_list::always_short, longrope_list::always_long}) {
    longrope one = rule(list);
    one.short_factors.pop_back();
    refuses_schedule("short_factors must have dim / 2 entries but got 4 and 3", one);
    one = rule(list);
    one.long_factors.push_back(1);
    refuses_schedule("long_factors must have dim / 2 entries but got 4 and 5", one);
    one = rule(list);
    one.short_factors[2] = 0;
    refuses_schedule("short_factors must be positive but got 0", one);
    one = rule(list);
    one.long_factors[3] = not_a_number;
    refuses_schedule("long_factors must be positive but got nan", one);
  }
}

TEST_CASE("longrope's options have ranges", "[schedule][longrope]") {
  longrope one = rule(longrope_list::by_length);
  for (const auto& [text, factor] : {std::pair{"0", 0.}, {"-1", -1.}, {"nan", not_a_number}, {"inf", infinity}}) {
    one.factor = factor;
    refuses_schedule(std::string("factor must be positive and finite but got ") + text, one);
  }
  one = rule(longrope_list::by_length);
  one.original_length = 1;
  refuses_schedule("original_length must be above 1, for its logarithm divides but got 1", one);
  const std::string attention = "the attention factor must be finite and not zero but got ";
  refuses_schedule(attention + "0", rule(longrope_list::by_length, 0));
  refuses_schedule(attention + "inf", rule(longrope_list::always_long, {}, {}, infinity));
}
