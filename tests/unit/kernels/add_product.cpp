// SPDX-License-Identifier: MIT
#include <posenc/kernels/add_product.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/rounded.hpp"
#include "reference/stored.hpp"

#include <vector>

namespace {

using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using reference::compute;

template <class T, class X>
void check() {
  constexpr index_t rows = 2;
  for (index_t channels = 0; channels <= 41; ++channels) {
    const auto a = reference::random_stored<T>(1, rows * (channels + 1));
    const auto b = random_vector<compute<T>>(2, rows * (channels + 2));
    const auto before = reference::random_stored<X>(3, rows * (channels + 3));
    auto expected = before;
    for (index_t r = 0; r < rows; ++r)
      for (index_t c = 0; c < channels; ++c) {
        auto& one = expected[static_cast<std::size_t>(r * (channels + 3) + c)];
        const auto product = reference::times(reference::loaded(a[static_cast<std::size_t>(r * (channels + 1) + c)]),
                                              b[static_cast<std::size_t>(r * (channels + 2) + c)]);
        one = reference::stored<X>(reference::plus(reference::loaded(one), product));
      }
    at_every_instruction_set([&] {
      auto got = before;
      posenc::kernels::add_product<T, X>({.a = a.data(),
                                          .b = b.data(),
                                          .out = got.data(),
                                          .rows = rows,
                                          .channels = channels,
                                          .a_row = channels + 1,
                                          .b_row = channels + 2,
                                          .out_row = channels + 3});
      index_t wrong = 0;
      for (std::size_t n = 0; n < got.size(); ++n) wrong += !reference::same_bits(got[n], expected[n]);
      CAPTURE(channels);
      CHECK(wrong == 0);
    });
  }
}

}  // namespace

TEMPLATE_TEST_CASE("the add_product kernel rounds the product, then the sum, then once to storage", "[kernels][add_product]", float, double,
                   bfloat16, float16) {
  check<TestType, TestType>();
  if constexpr (sizeof(TestType) == 2) check<TestType, float>();
}
