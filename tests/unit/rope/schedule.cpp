// SPDX-License-Identifier: MIT
#include <posenc/rope/schedule.hpp>

#include "catch.hpp"
#include "reference/series.hpp"

#include <cstddef>
#include <numbers>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

using namespace posenc;
using reference::close, reference::near, reference::speeds, reference::infinity, reference::not_a_number, reference::refuses_schedule;

namespace {

const std::vector<double> ones(4, 1);

template <class... Schedule>
constexpr bool something_must_be_given = (!std::is_default_constructible_v<Schedule> && ...);
static_assert(something_must_be_given<schedule::linear, schedule::ntk, schedule::mixed_ntk, schedule::dynamic_ntk, schedule::dynamic_linear,
                                      schedule::theta_scale, schedule::yarn, schedule::llama3, schedule::longrope, schedule::proportional>);

/// Every schedule with options that change nothing, for 8 channels.
const std::vector<frequency_schedule> idle{
    schedule::unscaled{},
    schedule::linear{.factor = 1},
    schedule::ntk{.factor = 1},
    schedule::mixed_ntk{.factor = 1, .exponent = 0.625},
    schedule::dynamic_ntk{.factor = 1, .original_length = 100},
    schedule::dynamic_linear{.factor = 1, .original_length = 100},
    schedule::theta_scale{.factor = 1, .original_length = 100},
    schedule::yarn{.factor = 1, .original_length = 100},
    schedule::llama3{.factor = 1},
    schedule::longrope{
        .short_factors = ones, .long_factors = ones, .original_length = 100, .factor = 1, .list = schedule::longrope_list::by_length},
    schedule::proportional{.fraction = 1},
    schedule::pair_factors{ones},
    schedule::explicit_frequencies{{1, 0.1, 0.01, 0.001}},
};

}  // namespace

TEST_CASE("a factor of 1 changes nothing, whichever the schedule", "[schedule]") {
  CHECK(idle.size() == std::variant_size_v<frequency_schedule>);
  for (std::size_t n = 0; n < idle.size(); ++n) {
    INFO("schedule " << n);
    CHECK(idle[n].index() == n);
    for (const index_t length : {0, 1, 100}) {
      for (index_t k = 0; k < 4; ++k)
        CHECK(speeds(idle[n], 8, 10000, length).radians(k) == frequencies::plain("test", 8, 10000).radians(k));
      CHECK(scheduled_series(idle[n], "test", 8, 10000, length).attention_factor == 1);
    }
  }
}

TEST_CASE("dim must be positive and even, whichever the schedule", "[schedule]") {
  for (const auto& rule : idle)
    for (const index_t dim : {0, -2, 7}) refuses_schedule("dim must be positive and even but got " + std::to_string(dim), rule, dim);
}

TEST_CASE("the base must be positive and finite, where there is one", "[schedule]") {
  for (const auto& rule : idle)
    for (const double base : {0., -1., not_a_number, infinity}) {
      if (std::holds_alternative<schedule::explicit_frequencies>(rule)) CHECK_NOTHROW(scheduled_series(rule, "rope", 8, base, 1));
      else CHECK_THROWS_AS(scheduled_series(rule, "rope", 8, base, 1), argument_error);
    }
  refuses_schedule("base must be positive and finite but got 0", schedule::linear{.factor = 2}, 8, 0);
}

TEST_CASE("a factor must be finite and at least 1, whichever the schedule", "[schedule]") {
  for (const auto& [text, f] : {std::pair{"0.25", 0.25}, {"0", 0.}, {"-2", -2.}, {"nan", not_a_number}, {"inf", infinity}}) {
    const std::string error = std::string("factor must be finite and at least 1 but got ") + text;
    refuses_schedule(error, schedule::linear{f});
    refuses_schedule(error, schedule::ntk{f});
    refuses_schedule(error, schedule::mixed_ntk{f, 1.});
    refuses_schedule(error, schedule::dynamic_ntk{f, 100});
    refuses_schedule(error, schedule::dynamic_linear{f, 100});
    refuses_schedule(error, schedule::theta_scale{f, 100});
    refuses_schedule(error, schedule::yarn{f, 100});
    refuses_schedule(error, schedule::llama3{f});
    refuses_schedule(error, schedule::proportional{0.5, f});
  }
}

TEST_CASE("the original length must be positive, whichever the schedule", "[schedule]") {
  for (const index_t length : {0, -1}) {
    const std::string error = "original_length must be positive but got " + std::to_string(length);
    refuses_schedule(error, schedule::dynamic_ntk{2., length});
    refuses_schedule(error, schedule::dynamic_linear{2., length});
    refuses_schedule(error, schedule::yarn{2., length});
    refuses_schedule(error, schedule::llama3{.factor = 2, .original_length = length});
    refuses_schedule(error, schedule::longrope{ones, ones, length, 2., schedule::longrope_list::by_length});
  }
}

TEST_CASE("which schedules depend on the length", "[schedule]") {
  const std::vector<bool> expected{false, false, false, false, true, true, false, false, false, true, false, false, false};
  for (std::size_t n = 0; n < idle.size(); ++n) CHECK(depends_on_length(idle[n]) == expected[n]);
  CHECK_FALSE(depends_on_length(schedule::dynamic_ntk{.factor = 2, .original_length = 100, .fixed_length = 200}));
  for (const auto list : {schedule::longrope_list::always_short, schedule::longrope_list::always_long})
    CHECK_FALSE(depends_on_length(schedule::longrope{ones, ones, 100, 2., list}));
  static_assert(!schedule::unscaled::depends_on_length() && !schedule::yarn::depends_on_length());
}

TEST_CASE("schedules are values", "[schedule]") {
  for (const auto& a : idle)
    for (const auto& b : idle) CHECK((a == b) == (&a == &b));
  CHECK(frequency_schedule() == frequency_schedule(schedule::unscaled{}));
  CHECK_FALSE(frequency_schedule(schedule::linear{2.}) == frequency_schedule(schedule::linear{3.}));
}

TEST_CASE("linear", "[schedule]") {
  const auto all = speeds(schedule::linear{.factor = 4}, 8, 10000);
  CHECK((all.radians(0) == 0.25 && all.radians(1) == 0.025 && all.radians(2) == 0.0025 && all.radians(3) == 0.00025));
  CHECK(near(speeds(schedule::linear{.factor = 3}, 128, 10000)[1], {0xbc2c74c7216ccba, 0x3da84482cd507c95}));
}

TEST_CASE("ntk keeps the first frequency and divides the last by the factor", "[schedule]") {
  const auto all = speeds(schedule::ntk{.factor = 8}, 8, 10000);
  CHECK(all.radians(0) == 1);
  CHECK(close(all.radians(1), 0.05));  // base * 8^(8/6) = 16 * 10000: its powers -1/4, -1/2, -3/4
  CHECK(all.radians(2) == 0.0025);
  CHECK(all.radians(3) == 0.000125);
  const auto exact = speeds(schedule::ntk{.factor = 8}, 128, 10000);
  CHECK(near(exact[1], {0x2223125852a248d2, 0xa2a09db50a8f6156}));
  CHECK(near(exact[40], {0x8cf04016d82b2, 0xcaea54a8de4dacfa}));
  CHECK(near(exact[63], {0x268b1c5eb204, 0x8526d800170df757}));
}

TEST_CASE("ntk has no rule for one pair", "[schedule]") {
  const std::string error = "dim must be above 2, for NTK divides by dim - 2 but got 2";
  refuses_schedule(error, schedule::ntk{.factor = 2}, 2);
  refuses_schedule(error, schedule::dynamic_ntk{.factor = 2, .original_length = 100}, 2);
}

TEST_CASE("mixed ntk divides the last frequency by the factor and the first by little", "[schedule]") {
  const auto all = speeds(schedule::mixed_ntk{.factor = 16, .exponent = 0.5}, 8, 10000);
  CHECK(close(all.radians(0), 0.25));  // a = ln 16 / 4^0.5 = ln 4
  CHECK(close(all.radians(3), 0.001 / 16));
  const auto exact = speeds(schedule::mixed_ntk{.factor = 8, .exponent = 0.625}, 128, 10000);
  CHECK(near(exact[0], {0x22e8b4e05b801eab, 0x788d20ba5f403fd9}));
  CHECK(near(exact[1], {0x1bccc50f3a1c98ae, 0x749a66cce4fd2559}));
  CHECK(near(exact[40], {0x6d53f57f58dd8, 0xa934be196ed8c8b3}));
  CHECK(near(exact[63], {0x268b1c5eb204, 0x8526d800170df757}));
  for (const auto& [text, b] : {std::pair{"0", 0.}, {"-1", -1.}, {"nan", not_a_number}, {"inf", infinity}})
    refuses_schedule(std::string("exponent must be positive and finite but got ") + text, schedule::mixed_ntk{2., b});
}

TEST_CASE("mixed ntk with exponent 1 is a base and a factor times larger", "[schedule]") {
  // vLLM: base * f, then theta / f^(2 / dim).
  const auto all = speeds(schedule::mixed_ntk{.factor = 8, .exponent = 1}, 128, 10000);
  CHECK(near(all[0], {0x2770edb2b36656d4, 0xc38e480217539856}));
  CHECK(near(all[20], {0x1287714979a6149, 0xc1db2f28bc4df84a}));
}

TEST_CASE("dynamic ntk is unscaled up to the original length, and forgets longer ones", "[schedule]") {
  const schedule::dynamic_ntk rule{.factor = 2, .original_length = 2048};
  const auto plain = frequencies::plain("test", 128, 10000);
  for (const index_t length : {0, 1, 2048}) CHECK(speeds(rule, 128, 10000, length) == plain);
  CHECK_FALSE(speeds(rule, 128, 10000, 2049) == plain);
  CHECK_FALSE(speeds(rule, 128, 10000, 16384) == plain);
  CHECK(speeds(rule, 128, 10000, 1024) == plain);
}

TEST_CASE("dynamic ntk beyond the original length", "[schedule]") {
  // 1 + 2 (4096 - 2048) / 2048 = 3.
  CHECK(close(speeds(schedule::dynamic_ntk{2., 2048}, 8, 10000, 4096).radians(3), 0.001 / 3));
  const auto all = speeds(schedule::dynamic_ntk{.factor = 2, .original_length = 2048}, 128, 10000, 5000);
  CHECK(near(all[1], {0x2287ec8c02f0ece9, 0x288d8a30e771a467}));
  CHECK(near(all[40], {0xdf07180bc0019, 0x9d417cbfc04e7f1b}));
  CHECK(near(all[63], {0x4f69d2676bb0, 0xb7af52ee284a1a74}));
}

TEST_CASE("dynamic ntk with a fixed length is the same for every length", "[schedule]") {
  const schedule::dynamic_ntk fixed{.factor = 2, .original_length = 2048, .fixed_length = 4096};
  for (const index_t length : {1, 4096, 10000})
    CHECK(speeds(fixed, 8, 10000, length) == speeds(schedule::dynamic_ntk{2., 2048}, 8, 10000, 4096));
  CHECK(speeds(schedule::dynamic_ntk{2., 2048, 1000}, 8, 10000, 4096) == frequencies::plain("test", 8, 10000));
  refuses_schedule("fixed_length must be positive but got 0", schedule::dynamic_ntk{2., 2048, 0});
}

TEST_CASE("dynamic linear divides by the factor, and by more once the sequence needs it", "[schedule]") {
  const schedule::dynamic_linear rule{.factor = 2, .original_length = 100};
  CHECK(speeds(rule, 8, 10000, 1).radians(0) == 0.5);
  CHECK(speeds(rule, 8, 10000, 200).radians(0) == 0.5);
  CHECK(speeds(rule, 8, 10000, 201).radians(0) == 100. / 201);
  CHECK(speeds(rule, 8, 10000, 400).radians(1) == 0.025);
}

TEST_CASE("theta scale keeps the turns of the slowest pair", "[schedule]") {
  const auto all = speeds(schedule::theta_scale{.factor = 16, .original_length = 8192}, 128, 10000);
  CHECK(all.radians(0) == 1);
  CHECK(near(all[1], {0x215f9f01d9b4bb34, 0x3f63662f89717a9c}));
  CHECK(near(all[40], {0x390775649032e, 0x7c11354a39b7eac0}));
  CHECK(near(all[63], {0x9452057248e, 0x11d04dedd8604cd3}));
  // The pair that turns once within 1000 positions turns once within 4000.
  const double base = (1000 / (2 * std::numbers::pi)) * (1000 / (2 * std::numbers::pi));
  CHECK(close(speeds(schedule::theta_scale{.factor = 4, .original_length = 1000}, 4, base).wavelength(1), 4000));
  for (const index_t length : {6, 0, -1})
    refuses_schedule("original_length must be at least 7, a full turn of the first pair but got " + std::to_string(length),
                     schedule::theta_scale{2., length});
}

TEST_CASE("llama3 keeps short wavelengths, divides long ones, and mixes between them", "[schedule]") {
  // One pair of 4 channels that turns `turns` times within 8192 positions.
  const auto slowed = [](double turns) {
    const double base = (8192 / (2 * std::numbers::pi * turns)) * (8192 / (2 * std::numbers::pi * turns));
    return speeds(schedule::llama3{.factor = 8}, 4, base).radians(1) / frequencies::plain("test", 4, base).radians(1);
  };
  CHECK(slowed(4.1) == 1);
  CHECK(slowed(100) == 1);
  CHECK(close(slowed(0.9), 0.125));
  CHECK(close(slowed(2.5), 0.5 + 0.5 / 8));
  CHECK(close(slowed(1.75), 0.25 + 0.75 / 8));
  CHECK((slowed(3.999) < 1 && slowed(3.999) > 0.999));
  CHECK((slowed(1.001) > 0.125 && slowed(1.001) < 0.126));
}

TEST_CASE("llama3 is exact on its ramp, even for a large factor", "[schedule]") {
  const auto a = speeds(schedule::llama3{.factor = 8}, 128, 500000), b = speeds(schedule::llama3{.factor = 1000}, 128, 500000);
  CHECK(near(a[29], {0x1699208a7fa1d9, 0x2990f46304835ea0}));
  CHECK(near(a[34], {0x1dca5be029bc2, 0x3fe73042620dbcec}));
  CHECK(near(b[29], {0x15ef06485526ab, 0xc9286d206ae8b49e}));
  CHECK(near(b[34], {0xbd1318d77dce, 0x496164a2d777fe1a}));
}

TEST_CASE("llama3's edges must be in order", "[schedule]") {
  const std::string error = "low_freq_factor must be positive and below high_freq_factor but got ";
  const auto with = [](double low, double high) { return schedule::llama3{8., low, high}; };
  refuses_schedule(error + "4 and 4", with(4, 4));
  refuses_schedule(error + "4 and 1", with(4, 1));
  refuses_schedule(error + "0 and 1", with(0, 1));
  refuses_schedule(error + "nan and 1", with(not_a_number, 1));
  refuses_schedule(error + "1 and nan", with(1, not_a_number));
  refuses_schedule(error + "1 and inf", with(1, infinity));
}

TEST_CASE("proportional turns the first pairs alone, with exponents over all channels", "[schedule]") {
  const auto all = speeds(schedule::proportional{.fraction = 0.5, .factor = 2}, 8, 10000);
  CHECK((all.radians(0) == 0.5 && all.radians(1) == 0.05 && all.radians(2) == 0 && all.radians(3) == 0));
  CHECK(all.count() == 4);
  CHECK(speeds(schedule::proportional{.fraction = 0.49}, 8, 10000).radians(1) == 0);  // 1.96 pairs are one
  CHECK(speeds(schedule::proportional{.fraction = 0.1}, 8, 10000).radians(0) == 0);
  for (const auto& [text, part] : {std::pair{"0", 0.}, {"-0.5", -0.5}, {"1.5", 1.5}, {"nan", not_a_number}})
    refuses_schedule(std::string("fraction must lie in (0, 1] but got ") + text, schedule::proportional{part});
}

TEST_CASE("every pair may have a divisor of its own", "[schedule]") {
  const auto all = speeds(schedule::pair_factors{{2, 0.5, 4, infinity}}, 8, 10000);
  CHECK((all.radians(0) == 0.5 && all.radians(1) == 0.2 && all.radians(2) == 0.0025 && all.radians(3) == 0));
  CHECK(speeds(schedule::pair_factors{{8, 16}}, 4, 1).radians(1) == 0.0625);
  CHECK(near(speeds(schedule::pair_factors{std::vector<double>(48, 1.0238)}, 96, 10000)[1], {0x20d923f17070b172, 0xdc4d400738e7ba9e}));
  refuses_schedule("divisors must have dim / 2 entries but got 4 and 3", schedule::pair_factors{{1, 1, 1}});
  refuses_schedule("divisors must have dim / 2 entries but got 4 and 0", schedule::pair_factors{});
  refuses_schedule("divisors must be positive but got 0", schedule::pair_factors{{1, 1, 0, 1}});
  refuses_schedule("divisors must be positive but got -2", schedule::pair_factors{{1, 1, 1, -2}});
  refuses_schedule("divisors must be positive but got nan", schedule::pair_factors{{not_a_number, 1, 1, 1}});
}

TEST_CASE("frequencies may be given", "[schedule]") {
  const auto all = speeds(schedule::explicit_frequencies{{3, -0.25, 0, 1e-9}}, 8, 10000);
  CHECK((all.radians(0) == 3 && all.radians(1) == -0.25 && all.radians(2) == 0 && all.radians(3) == 1e-9));
  refuses_schedule("radians must have dim / 2 entries but got 4 and 5", schedule::explicit_frequencies{{1, 1, 1, 1, 1}});
  refuses_schedule("radians must be finite but got nan", schedule::explicit_frequencies{{1, not_a_number, 1, 1}});
  refuses_schedule("radians must be finite but got -inf", schedule::explicit_frequencies{{1, 1, 1, -infinity}});
}

TEST_CASE("frequencies too slow for a double stand still", "[schedule]") {
  for (const frequency_schedule& rule : {frequency_schedule(schedule::ntk{1e300}), frequency_schedule(schedule::theta_scale{1e300, 7}),
                                         frequency_schedule(schedule::mixed_ntk{1e300, 1.})})
    CHECK(speeds(rule, 8, 1e300).radians(3) == 0);
}
