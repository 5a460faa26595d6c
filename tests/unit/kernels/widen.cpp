// SPDX-License-Identifier: MIT
#include <posenc/kernels/widen.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/rounded.hpp"
#include "reference/stored.hpp"

#include <cstddef>
#include <vector>

namespace {

using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using reference::compute;

}  // namespace

TEMPLATE_TEST_CASE("the widen kernel shifts, then scales, and leaves what lies between rows", "[kernels][widen]", float, double, bfloat16,
                   float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    for (index_t channels = 0; channels <= 41; ++channels)
      for (const bool shifted : {false, true}) {
        constexpr index_t rows = 3;
        const index_t x_row = channels + 2, y_row = channels + 1;
        const auto x = reference::random_stored<TestType>(1, rows * x_row);
        const auto shift = random_vector<S>(2, channels);
        std::vector<S> y(static_cast<std::size_t>(rows * y_row), S(7)), expected = y;
        for (index_t r = 0; r < rows; ++r)
          for (index_t c = 0; c < channels; ++c) {
            const S number = reference::loaded(x[static_cast<std::size_t>(r * x_row + c)]);
            expected[static_cast<std::size_t>(r * y_row + c)] =
                reference::times(shifted ? reference::plus(number, shift[static_cast<std::size_t>(c)]) : number, S(1.3));
          }
        posenc::kernels::widen<TestType>({.x = x.data(),
                                          .y = y.data(),
                                          .rows = rows,
                                          .channels = channels,
                                          .x_row = x_row,
                                          .y_row = y_row,
                                          .shift = shifted ? shift.data() : nullptr,
                                          .scale = S(1.3)});
        CAPTURE(channels, shifted);
        CHECK(reference::bit_difference(y, expected) == "");
      }
  });
}

TEMPLATE_TEST_CASE("the widen kernel keeps every number as it is stored", "[kernels][widen]", float, double, bfloat16, float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    const auto x = reference::stored<TestType>(reference::special_values<S>());
    std::vector<S> y(x.size());
    const auto channels = static_cast<index_t>(x.size());
    posenc::kernels::widen<TestType>({.x = x.data(), .y = y.data(), .rows = 1, .channels = channels, .x_row = channels, .y_row = channels});
    CHECK(reference::bit_difference(y, reference::loaded(x)) == "");
  });
}
