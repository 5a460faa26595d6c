// SPDX-License-Identifier: MIT
#include <posenc/kernels/dot.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/stored.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

namespace {

using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using reference::compute;

/// Partial sum n takes channels n, n + 8, ...; then the upper half is added to the lower one until one is left.
template <class T>
double expected(const T* a, const compute<T>* b, index_t channels) {
  std::vector<double> parts(8);
  for (index_t c = 0; c < channels; ++c) {
    const double product = static_cast<double>(reference::loaded(a[c])) * static_cast<double>(b[c]);
    parts[static_cast<std::size_t>(c % 8)] += product;
  }
  for (; parts.size() > 1; parts.resize(parts.size() / 2))
    for (std::size_t n = 0; n < parts.size() / 2; ++n) parts[n] += parts[n + parts.size() / 2];
  return parts[0];
}

}  // namespace

TEMPLATE_TEST_CASE("the dot kernel sums in double, in one order", "[kernels][dot]", float, double, bfloat16, float16) {
  at_every_instruction_set([] {
    for (index_t channels = 0; channels <= 41; ++channels) {
      constexpr index_t rows = 3;
      const auto a = reference::random_stored<TestType>(1, rows * (channels + 2));
      const auto b = random_vector<compute<TestType>>(2, rows * (channels + 1));
      std::array<double, rows + 1> sums{7, 7, 7, 7};
      posenc::kernels::dot<TestType>({.a = a.data(),
                                      .b = b.data(),
                                      .rows = rows,
                                      .channels = channels,
                                      .a_row = channels + 2,
                                      .b_row = channels + 1,
                                      .sums = sums.data()});
      for (index_t r = 0; r < rows; ++r) {
        const double wanted = expected(a.data() + r * (channels + 2), b.data() + r * (channels + 1), channels);
        CAPTURE(channels, r);
        CHECK(sums[static_cast<std::size_t>(r)] == wanted);
      }
      CHECK(sums[rows] == 7);
    }
  });
}
