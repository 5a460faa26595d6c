// SPDX-License-Identifier: MIT
#include <posenc/double_double.hpp>

#include "catch.hpp"
#include "random.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

using posenc::double_double;
using posenc::detail::two_product;
using posenc::detail::two_sum;

namespace {

#if defined(__SIZEOF_INT128__)
__extension__ typedef __int128 wide;
#endif

bool same(double_double a, double_double b) { return a.high == b.high && a.low == b.low; }

/// That a / b - 1 is at most 2^-bits; the difference of numbers so close is nearly exact.
bool near(double_double a, double_double b, int bits) {
  const double_double difference = a - b;
  return std::abs(difference.high) <= std::ldexp(std::abs(b.high), -bits);
}

/// low is at most half a unit in the last place of high: the sum of the two, rounded, is high.
bool is_normalized(double_double a) { return a.high + a.low == a.high; }

/// A number with 106 bits of noise, between 1 and 2.
double_double noise(random_numbers& random) { return two_sum(1.5 + random.real<double>() / 2, random.real<double>() * 0x1p-54); }

}  // namespace

#if defined(__SIZEOF_INT128__)
TEST_CASE("two_sum and two_product lose nothing", "[double_double]") {
  random_numbers random(1);
  constexpr std::int64_t most = std::int64_t{1} << 53;
  for (int n = 0; n < 2000; ++n) {
    const std::int64_t a = random.integer(-most, most) >> (n % 40), b = random.integer(-most, most) >> (n % 7);
    const auto sum = two_sum(static_cast<double>(a), static_cast<double>(b));
    const auto product = two_product(static_cast<double>(a), static_cast<double>(b));
    REQUIRE(static_cast<wide>(sum.high) + static_cast<wide>(sum.low) == wide{a} + b);
    REQUIRE(static_cast<wide>(product.high) + static_cast<wide>(product.low) == wide{a} * b);
    REQUIRE((is_normalized(sum) && is_normalized(product)));
  }
}

TEST_CASE("sums, differences and products of whole numbers up to 2^105 are exact", "[double_double]") {
  random_numbers random(2);
  const auto from = [](wide x) {
    const auto high = static_cast<double>(x);
    return double_double{high, static_cast<double>(x - static_cast<wide>(high))};
  };
  const auto back = [](double_double x) { return static_cast<wide>(x.high) + static_cast<wide>(x.low); };
  for (int n = 0; n < 2000; ++n) {
    const wide a = (wide{random.integer(-(1ll << 40), 1ll << 40)} << 64) + static_cast<wide>(random.bits());
    const wide b = (wide{random.integer(-(1ll << 40), 1ll << 40)} << 64) + static_cast<wide>(random.bits());
    REQUIRE(back(from(a) + from(b)) == a + b);
    REQUIRE(back(from(a) - from(b)) == a - b);
    const wide c = random.integer(-(1ll << 51), 1ll << 51), d = random.integer(-(1ll << 53), 1ll << 53);
    REQUIRE(back(from(c) * from(d)) == c * d);
  }
}
#endif

TEST_CASE("operations keep 100 bits", "[double_double]") {
  random_numbers random(3);
  for (int n = 0; n < 2000; ++n) {
    const double_double a = noise(random), b = noise(random), c = noise(random);
    REQUIRE(near((a + b) - b, a, 99));
    REQUIRE(near(a / b * b, a, 99));
    REQUIRE(near(a * b / b, a, 99));
    REQUIRE(near(a * (b + c), a * b + a * c, 99));
    REQUIRE(near((a + b) * (a - b) + b * b, a * a, 98));
    REQUIRE((is_normalized(a * b) && is_normalized(a / b) && is_normalized(a + b) && is_normalized(a - b)));
  }
}

TEST_CASE("cancellation leaves the low parts", "[double_double]") {
  CHECK(same(double_double{1, 0x1p-60} - double_double{1, 0}, {0x1p-60, 0}));
  CHECK(same(double_double{1, 0x1p-60} - double_double{1, 0x1p-60}, {0, 0}));
  CHECK(same(double_double{1, 0x1p-54} + double_double{-1, 0x1p-120}, {0x1p-54, 0x1p-120}));
  CHECK(same(double_double{0x1p60, 0} + double_double{1, 0}, {0x1p60, 1}));
  CHECK(same(-double_double{1, -0x1p-60}, {-1, 0x1p-60}));
}

TEST_CASE("quotients", "[double_double]") {
  const double_double third = double_double{1, 0} / double_double{3, 0};
  CHECK(near(third, {0x1.5555555555555p-2, 0x1.5555555555555p-56}, 104));
  CHECK(same(double_double{42, 0} / double_double{7, 0}, {6, 0}));
  CHECK(same(double_double{1, 0} / double_double{-0x1p30, 0}, {-0x1p-30, 0}));
}

TEST_CASE("floor looks at both parts", "[double_double]") {
  CHECK(same(floor(double_double{2.5, 1e-20}), {2, 0}));
  CHECK(same(floor(double_double{-2.5, 1e-20}), {-3, 0}));
  CHECK(same(floor(double_double{3, 1e-20}), {3, 0}));
  CHECK(same(floor(double_double{3, -1e-20}), {2, 0}));
  CHECK(same(floor(double_double{3, 0}), {3, 0}));
  CHECK(same(floor(double_double{-1e-30, 0}), {-1, 0}));
  CHECK(same(floor(double_double{0x1p60, 2.75}), {0x1p60, 2}));
  CHECK(same(floor(double_double{0x1p60, -2.25}), {0x1p60, -3}));
}

TEST_CASE("logarithms", "[double_double]") {
  using posenc::log;
  CHECK(same(log(1.0), {0, 0}));
  CHECK(same(log(2.0), posenc::ln_2));
  CHECK(same(log(0.5), -posenc::ln_2));
  CHECK(near(log(0x1p40), posenc::ln_2 * double_double{40, 0}, 104));
  CHECK(near(log(3.0), {0x1.193ea7aad030bp+0, -0x1.a256f99caabebp-54}, 100));
  CHECK(near(log(10.0), {0x1.26bb1bbb55516p+1, -0x1.f48ad494ea3e9p-53}, 100));
  CHECK(near(log(10000.0), {0x1.26bb1bbb55516p+3, -0x1.f48ad494ea3e9p-51}, 100));
  CHECK(near(log(500000.0), {0x1.a3ea669a05c01p+3, 0x1.43d1720303e20p-51}, 100));
  CHECK(near(log(0.1), {-0x1.26bb1bbb55515p+1, -0x1.8b752b6b15c17p-53}, 96));  // the double next to 1/10
  CHECK(near(log(1 + 0x1p-52), {0x1.fffffffffffffp-53, 0x1.5555555555554p-158}, 96));
  CHECK(near(log(std::numeric_limits<double>::max()), {0x1.62e42fefa39efp+9, 0x1.a9c9e3b39803fp-46}, 100));
  CHECK(near(log(std::numeric_limits<double>::denorm_min()), {-0x1.74385446d71c3p+9, -0x1.8e569fa8ee781p-45}, 100));
}

TEST_CASE("logarithms of products are sums", "[double_double]") {
  using posenc::log;
  random_numbers random(4);
  for (int n = 0; n < 500; ++n) {  // factors of 26 bits, so that products are exact
    const auto a = static_cast<double>(random.integer(2, 1 << 26)), b = static_cast<double>(random.integer(2, 1 << 26));
    REQUIRE(near(log(a * b), log(a) + log(b), 96));
  }
}

TEST_CASE("exponentials", "[double_double]") {
  using posenc::exp;
  CHECK(same(exp({0, 0}), {1, 0}));
  CHECK(near(exp({1, 0}), {0x1.5bf0a8b145769p+1, 0x1.4d57ee2b1013ap-53}, 100));
  CHECK(near(exp({-1, 0}), {0x1.78b56362cef38p-2, -0x1.ca8a4270fadf5p-57}, 100));
  CHECK(near(exp({0.5, 0}), {0x1.a61298e1e069cp+0, -0x1.b4690082a4906p-55}, 100));
  CHECK(near(exp({-27.0 / 64, 0}), {0x1.4fc71dc135627p-1, -0x1.a771b057709c4p-56}, 100));
  CHECK(near(exp({100, 0}), {0x1.3494a9b171bf5p+144, -0x1.4cf76bdb3376fp+90}, 96));
  CHECK(near(exp({-600, 0}), {0x1.4dd4d0d12c071p-866, 0x1.2167a13398003p-921}, 96));
  CHECK(near(exp({690, 0}), {0x1.6009282aba144p+995, -0x1.5a4a7be57ae53p+939}, 96));
}

TEST_CASE("the exponential undoes the logarithm", "[double_double]") {
  random_numbers random(5);
  for (int n = 0; n < 500; ++n) {
    const double x = std::ldexp(1.5 + random.real<double>() / 2, static_cast<int>(random.integer(-40, 40)));
    // An absolute error in the logarithm is a relative one here, hence the bits of |log x| on top.
    REQUIRE(near(exp(posenc::log(x)), {x, 0}, 95));
    REQUIRE(near(exp(posenc::log(x) / double_double{2, 0}) * exp(posenc::log(x) / double_double{2, 0}), {x, 0}, 95));
  }
}

TEST_CASE("two_pi and ln_2 are as good as the format", "[double_double]") {
  // To 160 bits: 2 pi = 0x6.487ed5110b4611a62633145c06e0e69, ln 2 = 0x0.b17217f7d1cf79abc9e3b39803f2f6af4.
  CHECK(same(posenc::two_pi, {0x6.487ed5110b46p0, 0x1.1a62633145c07p-52}));
  CHECK(same(posenc::ln_2, {0x0.b17217f7d1cf78p0, 0x1.abc9e3b39803fp-56}));
  CHECK((is_normalized(posenc::two_pi) && is_normalized(posenc::ln_2)));
}
