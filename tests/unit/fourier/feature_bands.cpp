// SPDX-License-Identifier: MIT
#include <posenc/fourier/feature_bands.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"

#include <cmath>
#include <limits>
#include <vector>

namespace {

using namespace posenc;
using reference::refuses;

std::vector<double> values(const feature_bands& bands, index_t axis = 0) {
  std::vector<double> all;
  for (index_t k = 0; k < bands.count(); ++k) all.push_back(bands(axis, k).high);
  return all;
}

}  // namespace

TEST_CASE("bands follow the rules of the systems", "[fourier]") {
  CHECK(values(feature_bands::powers_of_two(4)) == std::vector<double>{1, 2, 4, 8});
  CHECK(values(feature_bands::powers_of_two(3, -1)) == std::vector<double>{0.5, 1, 2});
  CHECK(values(feature_bands::log_spaced(5, 0, 8)) == std::vector<double>{1, 4, 16, 64, 256});
  CHECK(values(feature_bands::log_spaced(3, 0, 1)) == std::vector<double>{1, std::sqrt(2.0), 2});
  CHECK(values(feature_bands::linear(4, 1, 8)) == std::vector<double>{1, 10.0 / 3, 17.0 / 3, 8});
  CHECK(values(feature_bands::linear(1, 3, 8)) == std::vector<double>{3});
  CHECK(values(feature_bands::geometric(4, 16)) == std::vector<double>{1, 2, 4, 8});
  CHECK(values(feature_bands::given({0.25, -7})) == std::vector<double>{0.25, -7});
}

TEST_CASE("bands have 106 bits", "[fourier]") {
  const double_double third = feature_bands::linear(4, 0, 1)(0, 1), root = feature_bands::log_spaced(3, 0, 1)(0, 1);
  CHECK(third.low == 1.0 / 3 * 0x1p-54);  // 0.0101...: what follows the first 53 bits is the same again
  const double square = std::fma(root.high, root.high, -2.0) + 2 * root.high * root.low;
  CHECK(std::abs(square) < 1e-29);
}

TEST_CASE("bands by axis", "[fourier]") {
  const auto both = feature_bands::by_axis({feature_bands::linear(2, 1, 16), feature_bands::linear(2, 1, 8)});
  CHECK(both.axes() == 2);
  CHECK(values(both, 0) == std::vector<double>{1, 16});
  CHECK(values(both, 1) == std::vector<double>{1, 8});
  CHECK(feature_bands::given({1}).axes() == 0);
  CHECK(both == feature_bands::by_axis({feature_bands::given({1, 16}), feature_bands::given({1, 8})}));
  CHECK(!(feature_bands::by_axis({feature_bands::given({1})}) == feature_bands::given({1})));
  CHECK(!(feature_bands::given({1}) == feature_bands::given({2})));
}

TEST_CASE("bands refuse what is not finite or too fast", "[fourier]") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  refuses("[feature_bands] count must be positive but got 0", [] { feature_bands::powers_of_two(0); });
  refuses("[feature_bands] count must be positive but got 0", [] { feature_bands::given({}); });
  refuses("[feature_bands] exponents must lie in [-1000, 40] but got 41", [] { feature_bands::powers_of_two(1, 41); });
  refuses("[feature_bands] frequencies must be finite and at most 2^40 but got 2199023255552", [] { feature_bands::powers_of_two(42); });
  refuses("[feature_bands] exponents must lie in [-1000, 1000] but got 0 and inf", [] { feature_bands::log_spaced(2, 0, infinity); });
  refuses("[feature_bands] first and last must be finite but got 1 and inf", [] { feature_bands::linear(2, 1, infinity); });
  refuses("[feature_bands] base must be positive and finite but got 0", [] { feature_bands::geometric(2, 0); });
  refuses("[feature_bands] frequencies must be finite and at most 2^40 but got nan", [] { feature_bands::given({std::nan("")}); });
  refuses("[feature_bands] there must be at least one axis but got 0", [] { feature_bands::by_axis({}); });
  refuses("[feature_bands] axes must have the same number of bands but got 1 and 2",
          [] { feature_bands::by_axis({feature_bands::given({1}), feature_bands::given({1, 2})}); });
}
