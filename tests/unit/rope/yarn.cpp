// SPDX-License-Identifier: MIT
#include <posenc/rope/schedule.hpp>

#include "catch.hpp"
#include "reference/series.hpp"

#include <string>
#include <utility>

using namespace posenc;
using reference::close, reference::near, reference::speeds, reference::infinity, reference::not_a_number, reference::refuses_schedule;
using schedule::yarn;

namespace {

double attention_factor(const yarn& rule) { return rule("test", 8, 10000, 1).attention_factor; }

/// By how much a pair was slowed down.
double slowed(const yarn& rule, index_t dim, double base, index_t k) {
  return speeds(rule, dim, base).radians(k) / frequencies::plain("test", dim, base).radians(k);
}

}  // namespace

TEST_CASE("yarn keeps fast pairs, divides slow ones, and has a ramp of whole pairs between", "[schedule][yarn]") {
  // 128 channels, base 10000: the pairs of 32 turns and 1 turn within 4096 are 20.94 and 45.03.
  const yarn rule{.factor = 4, .original_length = 4096};
  CHECK(slowed(rule, 128, 10000, 0) == 1);
  CHECK(slowed(rule, 128, 10000, 20) == 1);
  CHECK(close(slowed(rule, 128, 10000, 21), 25. / 26 + 1. / 26 / 4));
  CHECK(close(slowed(rule, 128, 10000, 33), 0.625));
  CHECK(close(slowed(rule, 128, 10000, 45), 1. / 26 + 25. / 26 / 4));
  CHECK(slowed(rule, 128, 10000, 46) == 0.25);
  CHECK(slowed(rule, 128, 10000, 63) == 0.25);
  const auto all = speeds(rule, 128, 10000);
  CHECK(near(all[30], {0x62f805575f71cb, 0x390e3f1b8484edb9}));
  CHECK(near(all[40], {0xdf464e4747004, 0xf49f5937e6aebf34}));
  CHECK(near(all[63], {0x4d1638bd6409, 0xa4db0002e1beeae}));
}

TEST_CASE("yarn's ramp need not begin and end at whole pairs", "[schedule][yarn]") {
  const auto all = speeds(yarn{.factor = 4, .original_length = 4096, .truncate = false}, 128, 10000);
  CHECK(near(all[30], {0x63dd813bda372f, 0xe4e0e4829ebe543}));
  CHECK(near(all[40], {0xd68dd69d2d9c5, 0x65b6f0a51af549a2}));
  CHECK(near(all[63], {0x4d1638bd6409, 0xa4db0002e1beeae}));
}

TEST_CASE("yarn's ramp begins at the first pair at the earliest", "[schedule][yarn]") {
  // The pairs of 32 turns and 1 turn within 128 are -3.1 and 20.9: the ramp goes from 0 to 21, not from -4.
  const yarn rule{.factor = 4, .original_length = 128};
  CHECK(slowed(rule, 128, 10000, 0) == 1);
  CHECK(close(slowed(rule, 128, 10000, 7), 0.75));
}

TEST_CASE("yarn's ramp ends at dim - 1 at the latest", "[schedule][yarn]") {
  // 8 channels, base 4: the pairs of 32 turns and 1 turn within 300 are 1.2 and 11.2: the ramp goes from 1 to 7.
  CHECK(close(slowed({.factor = 4, .original_length = 300}, 8, 4, 3), 0.75));
}

TEST_CASE("a ramp of no width is a step", "[schedule][yarn]") {
  const yarn rule{.factor = 4, .original_length = 6};  // not one turn of the first pair: the ramp goes from 0 to 0
  CHECK(slowed(rule, 8, 10000, 0) == 1);
  CHECK(slowed(rule, 8, 10000, 1) == 0.25);
}

TEST_CASE("a ramp must not end before it begins", "[schedule][yarn]") {
  refuses_schedule("the ramp of YaRN must not end before it begins but got 0 and -2", yarn{.factor = 4, .original_length = 3}, 64);
  refuses_schedule("the ramp of YaRN must not end before it begins but got 31 and 7", yarn{.factor = 4, .original_length = 1 << 20}, 8, 3);
}

TEST_CASE("yarn's turns may be chosen", "[schedule][yarn]") {
  // The pairs of 16 and 2 turns within 4096: 25.8 and 40.2.
  const yarn rule{.factor = 4, .original_length = 4096, .beta_fast = 16, .beta_slow = 2};
  CHECK(slowed(rule, 128, 10000, 25) == 1);
  CHECK(slowed(rule, 128, 10000, 26) < 1);
  CHECK(slowed(rule, 128, 10000, 40) > 0.25);
  CHECK(slowed(rule, 128, 10000, 41) == 0.25);
}

TEST_CASE("yarn mixes geometrically for grok1", "[schedule][yarn]") {
  const yarn rule{.factor = 4, .original_length = 4096, .mix = schedule::yarn_mix::geometric};
  CHECK(slowed(rule, 128, 10000, 20) == 1);
  CHECK(close(slowed(rule, 128, 10000, 33), 0.5));
  CHECK(slowed(rule, 128, 10000, 46) == 0.25);
  const auto all = speeds(rule, 128, 10000);
  CHECK(near(all[30], {0x519bed391f0b75, 0xfee8d088847c4bd0}));
  CHECK(near(all[40], {0xb5acfe4e773ed, 0x3fdab31aea59de5e}));
}

TEST_CASE("yarn's extrapolation may be weakened down to none", "[schedule][yarn]") {
  const auto with = [](double extrapolation) { return yarn{.factor = 4, .original_length = 4096, .extrapolation = extrapolation}; };
  CHECK(slowed(with(0.5), 128, 10000, 0) == 0.625);
  CHECK(near(speeds(with(0.5), 128, 10000)[30], {0x42deeeda2bbb97, 0x268d15e2291b8bde}));
  CHECK(slowed(with(0.5), 128, 10000, 63) == 0.25);
  for (index_t k = 0; k < 64; ++k) CHECK(speeds(with(0), 128, 10000).radians(k) == speeds(schedule::linear{4.}, 128, 10000).radians(k));
  for (const auto& [text, e] : {std::pair{"-0.1", -0.1}, {"1.1", 1.1}, {"nan", not_a_number}})
    refuses_schedule(std::string("extrapolation must lie in [0, 1] but got ") + text, with(e));
}

TEST_CASE("yarn's attention factor", "[schedule][yarn]") {
  const auto with = [](double mscale, double mscale_all_dim) {
    return yarn{.factor = 40, .original_length = 4096, .mscale = mscale, .mscale_all_dim = mscale_all_dim};
  };
  constexpr double g_1 = 0x1.5e6f70bd6e39cp+0, g_08 = 0x1.4b8c5a3124fb0p+0;  // 1 + 0.1 m ln 40
  CHECK(attention_factor(with(0, 0)) == g_1);
  CHECK(attention_factor(with(0.8, 0)) == g_1);  // one without the other does not count
  CHECK(attention_factor(with(0, 0.8)) == g_1);
  CHECK(attention_factor(with(1, 1)) == 1);
  CHECK(attention_factor(with(0.707, 0.707)) == 1);
  CHECK(close(attention_factor(with(1, 0.8)), g_1 / g_08));
  CHECK(attention_factor({.factor = 40, .original_length = 4096, .log_slope = 0.07}) == 0x1.421aceeb005bap+0);
  CHECK(attention_factor({.factor = 40, .original_length = 4096, .attention_factor = 0.85, .mscale = 1, .mscale_all_dim = 0.8}) == 0.85);
  CHECK(attention_factor({.factor = 1, .original_length = 4096, .mscale = 1, .mscale_all_dim = 0.8}) == 1);
}

TEST_CASE("what DeepSeek multiplies scores by is told, not applied", "[schedule][yarn]") {
  const yarn rule{.factor = 40, .original_length = 4096, .mscale = 1, .mscale_all_dim = 1};
  CHECK(close(rule.score_factor(), 1.8738542070926265));
  CHECK(attention_factor(rule) == 1);
  CHECK(yarn{.factor = 40, .original_length = 4096}.score_factor() == 1);
  CHECK(yarn{.factor = 1, .original_length = 4096, .mscale = 1, .mscale_all_dim = 1}.score_factor() == 1);
  reference::refuses("[yarn] factor must be finite and at least 1 but got 0.025",
                     [] { static_cast<void>(yarn{.factor = 0.025, .original_length = 4096}.score_factor()); });
}

TEST_CASE("yarn's options have ranges", "[schedule][yarn]") {
  const std::string betas = "beta_fast must be above beta_slow, both positive and finite but got ";
  refuses_schedule(betas + "1 and 1", yarn{.factor = 4, .original_length = 4096, .beta_fast = 1});
  refuses_schedule(betas + "1 and 32", yarn{.factor = 4, .original_length = 4096, .beta_fast = 1, .beta_slow = 32});
  refuses_schedule(betas + "32 and 0", yarn{.factor = 4, .original_length = 4096, .beta_slow = 0});
  refuses_schedule(betas + "32 and nan", yarn{.factor = 4, .original_length = 4096, .beta_slow = not_a_number});
  refuses_schedule(betas + "nan and 1", yarn{.factor = 4, .original_length = 4096, .beta_fast = not_a_number});
  refuses_schedule(betas + "inf and 1", yarn{.factor = 4, .original_length = 4096, .beta_fast = infinity});
  const std::string scales = "mscale and mscale_all_dim must be finite and not negative but got ";
  refuses_schedule(scales + "-1 and 0", yarn{.factor = 4, .original_length = 4096, .mscale = -1});
  refuses_schedule(scales + "0 and nan", yarn{.factor = 4, .original_length = 4096, .mscale_all_dim = not_a_number});
  refuses_schedule("log_slope must be finite but got inf", yarn{.factor = 4, .original_length = 4096, .log_slope = infinity});
  const std::string attention = "the attention factor must be finite and not zero but got ";
  refuses_schedule(attention + "0", yarn{.factor = 4, .original_length = 4096, .attention_factor = 0});
  refuses_schedule(attention + "nan", yarn{.factor = 4, .original_length = 4096, .attention_factor = not_a_number});
  const std::string base = "YaRN needs a finite base above 1 but got ";
  refuses_schedule(base + "1", yarn{.factor = 4, .original_length = 4096}, 8, 1);
  refuses_schedule(base + "-2", yarn{.factor = 4, .original_length = 4096}, 8, -2);
  refuses_schedule(base + "nan", yarn{.factor = 4, .original_length = 4096}, 8, not_a_number);
}
