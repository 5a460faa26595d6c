// SPDX-License-Identifier: MIT
#include <posenc/augment.hpp>

#include "catch.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace posenc;

namespace {

constexpr double none = no_coordinate;

coordinates some() { return coordinates::values(std::array{-1.0, none, 0.5, 1.0, none, -0.25}, 2); }

}  // namespace

TEST_CASE("coordinates are shifted, stretched by axis and stretched as a whole", "[augment]") {
  random_source random(1), same(1);
  const auto at = augment(some(), {.shift = 0.5, .jitter = 1.5, .rescale = 2}, random);
  const double shift_0 = same.uniform(-0.5, 0.5), shift_1 = same.uniform(-0.5, 0.5);
  const auto stretch = [&](double most) { return std::exp(same.uniform(-std::log(most), std::log(most))); };
  const double jitter_0 = stretch(1.5), jitter_1 = stretch(1.5), rescale = stretch(2);
  CHECK(at == coordinates::values(std::array{(-1 + shift_0) * jitter_0 * rescale, none, (0.5 + shift_0) * jitter_0 * rescale,
                                             (1 + shift_1) * jitter_1 * rescale, none, (-0.25 + shift_1) * jitter_1 * rescale},
                                  2));
  CHECK(random == same);
  CHECK_FALSE(augment(some(), {.shift = 0.5}, random) == augment(some(), {.shift = 0.5}, random));
}

TEST_CASE("by default nothing changes but the stream", "[augment]") {
  random_source random(2);
  CHECK(augment(some(), {}, random) == some());
  random_source skipped(2);
  for (int n = 0; n < 5; ++n) skipped.bits();
  CHECK(random == skipped);
}

TEST_CASE("augmentation stays in its range and reaches all of it", "[augment]") {
  random_source random(3);
  const auto one = coordinates::values(std::array{1.0, 1.0}, 2);
  std::array<double, 3> least{9, 9, 9}, most{-9, -9, -9};
  bool jitters_apart = false, rescales_apart = false;
  for (int n = 0; n < 2000; ++n) {
    const auto shifted = augment(one, {.shift = 0.25}, random), jittered = augment(one, {.jitter = 2}, random),
               rescaled = augment(one, {.rescale = 4}, random);
    jitters_apart = jitters_apart || jittered(0, 0, 0) != jittered(0, 0, 1);
    rescales_apart = rescales_apart || rescaled(0, 0, 0) != rescaled(0, 0, 1);
    const std::array seen{shifted(0, 0, 1), jittered(0, 0, 1), rescaled(0, 0, 1)};
    for (std::size_t i = 0; i < 3; ++i) {
      least[i] = std::fmin(least[i], seen[i]);
      most[i] = std::fmax(most[i], seen[i]);
    }
  }
  CHECK(jitters_apart);
  CHECK_FALSE(rescales_apart);
  const std::array low{0.75, 0.5, 0.25}, high{1.25, 2.0, 4.0};
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(least[i] >= low[i] * (1 - 1e-15));
    CHECK(least[i] < low[i] * 1.01);
    CHECK(most[i] <= high[i] * (1 + 1e-15));
    CHECK(most[i] > high[i] * 0.99);
  }
}

TEST_CASE("amounts of augmentation are in range", "[augment]") {
  random_source random(4);
  const random_source before = random;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const std::string shift = "[augment] shift must lie in [0, 2^1023) but got ";
  CHECK_THROWS_WITH(augment(some(), {.shift = -0.5}, random), shift + "-0.5");
  CHECK_THROWS_WITH(augment(some(), {.shift = infinity}, random), shift + "inf");
  CHECK_THROWS_WITH(augment(some(), {.shift = none}, random), shift + "nan");
  const std::string at_least = " must be finite and at least 1 but got ";
  CHECK_THROWS_WITH(augment(some(), {.jitter = 0.5}, random), "[augment] jitter" + at_least + "0.5");
  CHECK_THROWS_WITH(augment(some(), {.jitter = infinity}, random), "[augment] jitter" + at_least + "inf");
  CHECK_THROWS_WITH(augment(some(), {.rescale = 0}, random), "[augment] rescale" + at_least + "0");
  CHECK_THROWS_WITH(augment(some(), {.rescale = none}, random), "[augment] rescale" + at_least + "nan");
  CHECK(random == before);
}
