// SPDX-License-Identifier: MIT
/// \file  Every schedule with every pairing, slice of the channels, direction, order of axes and scalar, against the formulas of the papers
/// in long double.
#include <posenc/rope.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/turned.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using real = long double;

constexpr index_t dim = 16, pairs = dim / 2;
constexpr double base = 10000;
constexpr real full_turn = 6.28318530717958647692528676655900577L;

real theta(index_t k, real b = base, real width = dim) { return std::pow(b, -2 * static_cast<real>(k) / width); }

struct rule {
  std::string name;
  frequency_schedule schedule;
  std::function<real(index_t k, index_t length)> theta;
  double attention_factor = 1;
};

real ramp(real k, real low, real high) { return std::clamp((k - low) / (high - low), real{0}, real{1}); }

/// Peng et al. 2023, with the bounds rounded outwards or not.
real yarn_theta(index_t k, real factor, real original_length, bool truncate) {
  const auto pair_that_turns = [&](real times) {
    return dim * std::log(original_length / (times * full_turn)) / (2 * std::log(real{base}));
  };
  real low = pair_that_turns(32), high = pair_that_turns(1);
  if (truncate) low = std::floor(low), high = std::ceil(high);
  const real slow = ramp(static_cast<real>(k), std::max(low, real{0}), std::min(high, real{dim - 1}));
  return theta(k) * (1 - slow) + theta(k) / factor * slow;
}
real llama3_theta(index_t k) {
  const real wavelength = full_turn / theta(k), high = 8192.0L / 4, low = 8192.0L / 1;
  if (wavelength < high) return theta(k);
  if (wavelength > low) return theta(k) / 8;
  const real smooth = (8192 / wavelength - 1) / (4 - 1);
  return (1 - smooth) * theta(k) / 8 + smooth * theta(k);
}

std::vector<rule> rules() {
  const std::vector<double> divisors{1, 1.5, 2, 3, 5, 8, 13, 21}, longer{2, 3, 4, 5, 6, 7, 8, 9},
      given{1, 0.5, 0.25, 0.125, 0.0625, -0.03125, 0, 0.001};
  const auto at = [](const std::vector<double>& list, index_t k) { return static_cast<real>(list[static_cast<std::size_t>(k)]); };
  return {
      {"unscaled", schedule::unscaled{}, [](index_t k, index_t) { return theta(k); }},
      {"linear", schedule::linear{.factor = 4}, [](index_t k, index_t) { return theta(k) / 4; }},
      {"ntk", schedule::ntk{.factor = 4}, [](index_t k, index_t) { return theta(k, base * std::pow(4.0L, real{dim} / (dim - 2))); }},
      {"mixed_ntk", schedule::mixed_ntk{.factor = 4, .exponent = 0.625},
       [](index_t k, index_t) { return theta(k) / std::exp(std::log(4.0L) * std::pow(static_cast<real>(k + 1) / pairs, 0.625L)); }},
      {"dynamic_ntk", schedule::dynamic_ntk{.factor = 2, .original_length = 64},
       [](index_t k, index_t length) {
         const real longest = std::max(static_cast<real>(length), 64.0L);
         return theta(k, base * std::pow(2 * longest / 64 - 1, real{dim} / (dim - 2)));
       }},
      {"dynamic_ntk, fixed", schedule::dynamic_ntk{.factor = 2, .original_length = 64, .fixed_length = 128},
       [](index_t k, index_t) { return theta(k, base * std::pow(3.0L, real{dim} / (dim - 2))); }},
      {"dynamic_linear", schedule::dynamic_linear{.factor = 2, .original_length = 64},
       [](index_t k, index_t length) { return length > 128 ? theta(k) * 64 / static_cast<real>(length) : theta(k) / 2; }},
      {"theta_scale", schedule::theta_scale{.factor = 4, .original_length = 64},
       [](index_t k, index_t) { return theta(k, std::pow(real{base}, std::log(64 * 4 / full_turn) / std::log(64 / full_turn))); }},
      {"yarn", schedule::yarn{.factor = 8, .original_length = 4096}, [](index_t k, index_t) { return yarn_theta(k, 8, 4096, true); },
       0.1 * std::log(8.0) + 1},
      {"yarn, bounds not rounded, factor given",
       schedule::yarn{.factor = 8, .original_length = 4096, .truncate = false, .attention_factor = 0.75},
       [](index_t k, index_t) { return yarn_theta(k, 8, 4096, false); }, 0.75},
      {"llama3", schedule::llama3{.factor = 8}, [](index_t k, index_t) { return llama3_theta(k); }},
      {"longrope by length",
       schedule::longrope{.short_factors = divisors,
                          .long_factors = longer,
                          .original_length = 64,
                          .factor = 4,
                          .list = schedule::longrope_list::by_length},
       [=](index_t k, index_t length) { return theta(k) / at(length > 64 ? longer : divisors, k); },
       std::sqrt(1 + std::log(4.0) / std::log(64.0))},
      {"proportional", schedule::proportional{.fraction = 0.25}, [](index_t k, index_t) { return k < pairs / 4 ? theta(k) : 0; }},
      {"pair_factors", schedule::pair_factors{divisors}, [=](index_t k, index_t) { return theta(k) / at(divisors, k); }},
      {"explicit_frequencies", schedule::explicit_frequencies{given}, [=](index_t k, index_t) { return at(given, k); }},
  };
}

struct slice {
  index_t channels, offset;
};

template <class T>
using tensor4 = Eigen::Tensor<T, 4, Eigen::RowMajor>;

/// For numbers in [-1, 1): the table's error twice and three roundings, times the factor; one more in half and bfloat16.
template <class T>
double tolerance(double factor) {
  const double table = sizeof(compute_t<T>) == 4 ? 3.1e-8 : 2.3e-16, unit = std::numeric_limits<compute_t<T>>::epsilon() / 2;
  const double storage = std::is_same_v<T, Eigen::half> ? 0x1p-11 : std::is_same_v<T, Eigen::bfloat16> ? 0x1p-8 : 0;
  return std::max(1.0, factor) * (4 * table + 4 * unit + 2 * storage);
}

}  // namespace

TEMPLATE_TEST_CASE("every schedule, pairing, slice, direction and order turns as its formula says", "[property][rope][schedule]", float,
                   double, Eigen::half, Eigen::bfloat16) {
  using S = compute_t<TestType>;
  const auto at = positions::ids(std::array{0, 1, 17, -3, 130, 5000}, 2);  // two rows of three; the largest decides the length
  constexpr index_t length = 5001, batch = 2, time = 3, count = 3;
  for (const auto& rule : rules())
    for (const auto pairs_ : {pairing::halves, pairing::interleaved, pairing::interleaved_to_halves})
      for (const slice part : {slice{dim, 0}, {dim + 5, 3}, {dim + 5, trailing}})
        for (const auto rotation : {rotation::positive, rotation::negative})
          for (const auto order : {axis_order::time_head, axis_order::head_time}) {
            INFO(rule.name << ", pairing " << static_cast<int>(pairs_) << ", offset " << part.offset << " of " << part.channels
                           << ", rotation " << static_cast<int>(rotation) << ", order " << static_cast<int>(order));
            const rotary_descriptor form{
                .pairing = pairs_, .dim = dim, .offset = part.offset, .rotation = rotation, .attention_factor = 1.25};
            const rope<S> encoder(form, {.base = base, .schedule = rule.schedule});
            const bool by_time = order == axis_order::time_head;
            const auto x = random_tensor<tensor4<TestType>>(1, batch, by_time ? time : count, by_time ? count : time, part.channels);
            auto y = x, back = x;
            const auto tables = prepare(encoder, {.queries = at, .keys = at});
            encoder.rotate(heads(y, order), operand::query, tables);
            back = y;
            encoder.inverse(heads(back, order), operand::query, tables);

            const double factor = 1.25 * rule.attention_factor;
            double worst = 0, worst_back = 0;
            for (index_t b = 0; b < batch; ++b)
              for (index_t t = 0; t < time; ++t)
                for (index_t h = 0; h < count; ++h) {
                  std::vector<double> row;
                  std::vector<long double> angles;
                  for (index_t c = 0; c < part.channels; ++c) row.push_back(static_cast<double>(heads(x, order)(b, t, h, c)));
                  for (index_t k = 0; k < pairs; ++k) angles.push_back(static_cast<real>(at(b, t)) * rule.theta(k, length));
                  const auto expected = reference::turned(row, form, angles, {rule.attention_factor});
                  for (index_t c = 0; c < part.channels; ++c) {
                    const auto n = static_cast<std::size_t>(c);
                    worst = std::max(worst, std::abs(static_cast<double>(heads(y, order)(b, t, h, c)) - expected[n]));
                    worst_back = std::max(worst_back, std::abs(static_cast<double>(heads(back, order)(b, t, h, c)) - row[n]));
                  }
                }
            CHECK(worst <= tolerance<TestType>(factor));
            CHECK(worst_back <= 3 * tolerance<TestType>(1 / factor) * std::max(1.0, factor));
          }
}

TEST_CASE("a rope whose length is fixed turns as one that met that length", "[property][rope][schedule]") {
  for (const auto& rule : rules()) {
    INFO(rule.name);
    const rope<float> encoder({.pairing = pairing::halves, .dim = dim}, {.schedule = rule.schedule});
    const auto late = prepare(encoder, {.queries = positions::range(2, 198), .keys = positions::range(200)});
    const auto fixed = encoder.at_length(200).prepare(positions::range(2, 198));
    for (index_t t = 0; t < 2; ++t)
      CHECK(reference::bit_difference(std::vector(late.queries.row(0, t), late.queries.row(0, t) + dim),
                                      std::vector(fixed.row(0, t), fixed.row(0, t) + dim)) == "");
    // Never sticky: a short sequence after a long one has its own frequencies.
    const auto early = encoder.prepare(positions::range(3));
    const auto fixed_early = encoder.at_length(3).prepare(positions::range(3));
    CHECK(reference::bit_difference(std::vector(early.row(0, 2), early.row(0, 2) + dim),
                                    std::vector(fixed_early.row(0, 2), fixed_early.row(0, 2) + dim)) == "");
  }
}

TEMPLATE_TEST_CASE("keys are shifted under any schedule, whose factor they keep", "[property][rope][schedule]", float, double) {
  const auto keys = random_tensor<tensor4<TestType>>(3, 1, 4, 2, dim + 1);
  for (const auto& rule : rules()) {
    INFO(rule.name);
    const auto encoder =
        rope<TestType>({.pairing = pairing::interleaved, .dim = dim, .attention_factor = 1.25}, {.schedule = rule.schedule})
            .at_length(5001);
    auto got = keys, expected = keys;
    encoder.rotate(heads(got, axis_order::time_head), positions::ids(std::array{0, 7, -40, 5000}));
    encoder.shift(heads(got, axis_order::time_head), 60);
    encoder.rotate(heads(expected, axis_order::time_head), positions::ids(std::array{60, 67, 20, 5060}));
    CHECK(reference::difference(got, expected, 8 * tolerance<TestType>(2)) == "");
  }
}

TEMPLATE_TEST_CASE("keys are turned from any schedule to any other in one step", "[property][rope][schedule]", float, double) {
  const auto at = positions::ids(std::array{0, 7, -40, 5000});
  const auto keys = random_tensor<tensor4<TestType>>(3, 1, 4, 2, dim + 1);
  for (const double factor : {1.0, 1.5})
    for (const auto& from : rules())
      for (const auto& to : rules()) {
        INFO("from " << from.name << " to " << to.name << ", factor " << factor);
        const rotary_descriptor form{.pairing = pairing::halves, .dim = dim, .offset = 1};
        auto larger = form;
        larger.attention_factor = factor;
        const auto old_rope = rope<TestType>(form, {.schedule = from.schedule}).at_length(100);
        const auto new_rope = rope<TestType>(larger, {.schedule = to.schedule}).at_length(5001);
        auto got = keys, expected = keys;
        old_rope.rotate(heads(got, axis_order::time_head), at);
        old_rope.rerotate(heads(got, axis_order::time_head), at, new_rope);
        new_rope.rotate(heads(expected, axis_order::time_head), at);
        CHECK(reference::difference(got, expected, 8 * tolerance<TestType>(2)) == "");
      }
  const rope<TestType> by_length({.pairing = pairing::halves, .dim = dim},
                                 {.schedule = schedule::dynamic_ntk{.factor = 2, .original_length = 64}});
  auto x = keys;
  const std::string text = "[rope] cached keys need frequencies of one length: fix it by at_length";
  CHECK_THROWS_WITH(by_length.rerotate(heads(x, axis_order::time_head), at, by_length.at_length(9)), text);
  CHECK_THROWS_WITH(by_length.at_length(9).rerotate(heads(x, axis_order::time_head), at, by_length), text);
}
