// SPDX-License-Identifier: MIT
#include <posenc/relative/sandwich.hpp>

#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/relative_bias.hpp"

#include <cmath>
#include <limits>
#include <vector>

namespace {

using namespace posenc;

/// As the halved angles' sines, in long double, whose angles are off by 1e-18 of themselves.
double formula(const sandwich_options& options, index_t head, position query, position key) {
  long double sum = 0;
  for (index_t k = options.first_frequency; k < options.first_frequency + options.dim / 2; ++k) {
    const long double speed = std::exp(-2.0L * k / options.dim * std::log(static_cast<long double>(options.base)));
    const long double sine = std::sin(static_cast<long double>(key - query) / 2 * speed);
    sum -= 2 * sine * sine;
  }
  const index_t heads = options.heads;
  return static_cast<double>(sum * heads / (8 * (options.first_head + head + 1)));
}

}  // namespace

TEST_CASE("sandwich is its formula, everywhere the same", "[sandwich]") {
  const sandwich_options options{.heads = 3, .dim = 34}, other{.heads = 5, .base = 500, .first_frequency = 0, .first_head = 2};
  const auto of = [](const sandwich_options& o) { return [&o](index_t h, position i, position j) { return formula(o, h, i, j); }; };
  reference::check_bias<float>(sandwich<float>(options), 3e-7, of(options));
  reference::check_bias<double>(sandwich<double>(options), 1e-12, of(options), 100000);
  reference::check_bias<double>(sandwich<double>(other), 1e-12, of(other), 100000);
}

TEST_CASE("sandwich has the values of its formula", "[sandwich]") {
  const sandwich<double> one({.heads = 8, .dim = 2});  // one frequency, 1 / 10000, and divisors 1 to 8
  CHECK(one.value(0, 5, 5) == 0);
  CHECK(std::abs(one.value(0, 0, 7) - (std::cos(7e-4) - 1)) < 1e-15);
  CHECK(std::abs(one.value(3, 20000, 0) - (std::cos(2.0) - 1) / 4) < 1e-15);
  CHECK(one.divisor(0) == 1);
  CHECK(sandwich<double>({.heads = 16}).divisor(0) == 0.5);
  CHECK(sandwich<double>({.heads = 16}).options().dim == 128);
  CHECK(sandwich<double>({.heads = 16}).inspect().count() == 64);
  // Far distances are as right as near ones; these frequencies are exact.
  for (const position distance : {2147483647ll, 1ll << 40}) {
    const auto exact = [&](long double speed) { return static_cast<double>(std::cos(static_cast<long double>(distance) * speed)) - 1; };
    CHECK(std::abs(sandwich<double>({.heads = 8, .dim = 2, .base = 4}).value(0, distance, 0) - exact(0.25L)) < 1e-15);
    CHECK(std::abs(sandwich<double>({.heads = 8, .dim = 2, .first_frequency = 0}).value(0, 0, distance) - exact(1)) < 1e-15);
  }
  // The ends of the range of positions, whose distance, 2^63, is taken as one less.
  const sandwich<double> far({.heads = 8, .dim = 2, .base = 4});
  const position end = positions::limit;
  const auto farthest = static_cast<double>(std::cos(static_cast<long double>(std::numeric_limits<position>::max()) / 4)) - 1;
  CHECK(std::abs(far.value(0, end, -end) - farthest) < 1e-8);  // the frequency is off by 2^-90 of itself
  CHECK(far.value(0, -end, end) == far.value(0, end, -end));
  // Positions do not matter, only their difference.
  CHECK(far.value(0, end, end - 12345) == far.value(0, 12345, 0));
}

TEST_CASE("sandwich is the product of sinusoidal codes", "[sandwich]") {
  constexpr index_t dim = 32, time = 20;
  const sinusoidal<double> codes({.dim = dim, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});
  Eigen::Tensor<double, 2, Eigen::RowMajor> table(time, dim);
  codes.encode(positions::range(time, 1000), table);
  const sandwich<double> encoder({.heads = 2, .dim = dim, .first_frequency = 0});
  for (index_t i = 0; i < time; ++i)
    for (index_t j = 0; j < time; ++j) {
      double product = 0;
      for (index_t c = 0; c < dim; ++c) product += table(i, c) * table(j, c);
      REQUIRE(std::abs(encoder.value(1, i, j) - (product - dim / 2) / 8) < 1e-13);
    }
}

TEST_CASE("sandwich: a process with a part of the heads has that part of the biases", "[sandwich]") {
  const sandwich<float> all({.heads = 6}), part({.heads = 6, .first_head = 2, .local_heads = 3});
  CHECK(part.heads() == 3);
  for (index_t h = 0; h < 3; ++h) CHECK(part.value(h, 100, 3) == all.value(h + 2, 100, 3));
  CHECK(sandwich<float>({.heads = 6, .first_head = 2}) == sandwich<float>({.heads = 6, .first_head = 2, .local_heads = 4}));
  CHECK_FALSE(all == part);
}

TEST_CASE("sandwich refuses options that make no sense", "[sandwich]") {
  const auto made = [](const sandwich_options& options) { sandwich<float> encoder(options); };
  reference::refuses("[sandwich] heads must be positive but got 0", [&] { made({.heads = 0}); });
  reference::refuses("[sandwich] local heads must lie within heads but got 4 and 4 and 0", [&] { made({.heads = 4, .first_head = 4}); });
  reference::refuses("[sandwich] local heads must lie within heads but got 4 and -1 and 5", [&] { made({.heads = 4, .first_head = -1}); });
  reference::refuses("[sandwich] local heads must lie within heads but got 4 and 2 and 3",
                     [&] { made({.heads = 4, .first_head = 2, .local_heads = 3}); });
  reference::refuses("[sandwich] dim must be positive and even but got 0", [&] { made({.heads = 4, .dim = 0}); });
  reference::refuses("[sandwich] dim must be positive and even but got 7", [&] { made({.heads = 4, .dim = 7}); });
  reference::refuses("[sandwich] base must be positive and finite but got -1", [&] { made({.heads = 4, .base = -1}); });
  reference::refuses("[sandwich] base must be positive and finite but got nan", [&] { made({.heads = 4, .base = std::nan("")}); });
  reference::refuses("[sandwich] first_frequency must not be negative but got -1", [&] { made({.heads = 4, .first_frequency = -1}); });
}
