// SPDX-License-Identifier: MIT
#include <posenc/kernels/log_sigmoid.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/forgetting.hpp"
#include "reference/stored.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using reference::compute;

constexpr index_t rows = 3;

/// Logits of all sizes, rows of channels with a gap behind them.
template <class T>
std::vector<T> logits_of(index_t channels) {
  auto numbers = random_vector<compute<T>>(static_cast<std::uint64_t>(channels), rows * (channels + 2));
  for (std::size_t n = 0; n < numbers.size(); ++n) numbers[n] *= std::ldexp(compute<T>(1), static_cast<int>(n % 17) - 6);
  return reference::stored<T>(numbers);
}

template <class S>
double units_off(S got, long double truth) {
  const int exponent = std::max(std::ilogb(truth), std::numeric_limits<S>::min_exponent - 1);
  return static_cast<double>(std::abs(static_cast<long double>(got) - truth) /
                             std::ldexp(1.0L, exponent + 1 - std::numeric_limits<S>::digits));
}

}  // namespace

TEMPLATE_TEST_CASE("the log_sigmoid kernel is exact to 2.2 units in the last place", "[kernels][log_sigmoid]", float, double, bfloat16,
                   float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    double worst = 0;
    for (const index_t channels : {0, 1, 2, 3, 5, 8, 15, 16, 31, 33, 64, 79, 300}) {
      const auto x = logits_of<TestType>(channels);
      std::vector<S> out(static_cast<std::size_t>(rows * (channels + 1)), S(9));
      posenc::kernels::log_sigmoid<TestType>({x.data(), out.data(), rows, channels, channels + 2, channels + 1, S(1)});
      std::vector<S> half(out.size());
      posenc::kernels::log_sigmoid<TestType>({x.data(), half.data(), rows, channels, channels + 2, channels + 1, S(0.5)});
      for (index_t r = 0; r < rows; ++r) {
        CHECK(out[static_cast<std::size_t>(r * (channels + 1) + channels)] == 9);
        for (index_t c = 0; c < channels; ++c) {
          const auto at = static_cast<std::size_t>(r * (channels + 1) + c);
          const S logit = reference::loaded(x[static_cast<std::size_t>(r * (channels + 2) + c)]);
          worst = std::max(worst, units_off(out[at], reference::log_sigmoid(static_cast<long double>(logit))));
          CHECK(half[at] == out[at] / 2);
        }
      }
    }
    CHECK(worst <= 2.2);
    CHECK(worst > 0.4);
  });
}

TEMPLATE_TEST_CASE("log_sigmoid of the ends", "[kernels][log_sigmoid]", float, double) {
  constexpr TestType infinity = std::numeric_limits<TestType>::infinity(), large = std::numeric_limits<TestType>::max();
  const std::vector<TestType> x{infinity, -infinity, large, -large, 0, -0.0f, 800, -800, std::nanf("")};
  at_every_instruction_set([&] {
    std::vector<TestType> y(x.size());
    const auto count = static_cast<index_t>(x.size());
    posenc::kernels::log_sigmoid<TestType>({x.data(), y.data(), 1, count, count, count, 1});
    CHECK(y[0] == 0);
    CHECK(y[1] == -infinity);
    CHECK(y[2] == 0);
    CHECK(y[3] == -large);
    CHECK(std::abs(y[4] + static_cast<TestType>(std::log(2.0))) <= std::numeric_limits<TestType>::epsilon());
    CHECK(y[5] == y[4]);
    CHECK(y[6] == 0);
    CHECK(y[7] == -800);
    CHECK(std::isnan(y[8]));
  });
}

TEMPLATE_TEST_CASE("the gradient kernel of log_sigmoid is 1 / (1 + e^x)", "[kernels][log_sigmoid]", float, double, bfloat16, float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    for (const index_t channels : {1, 7, 16, 64, 79}) {
      const auto x = logits_of<TestType>(channels);
      const auto d = random_vector<S>(2, rows * channels);
      std::vector<TestType> d_x(static_cast<std::size_t>(rows * channels));
      posenc::kernels::log_sigmoid_gradient<TestType>(
          {x.data(), d.data(), d_x.data(), rows, channels, channels + 2, channels, channels, S(0.5)});
      for (index_t r = 0; r < rows; ++r)
        for (index_t c = 0; c < channels; ++c) {
          const auto at = static_cast<std::size_t>(r * channels + c);
          const auto logit = static_cast<long double>(reference::loaded(x[static_cast<std::size_t>(r * (channels + 2) + c)]));
          const long double truth = static_cast<long double>(d[at]) / (2 * (1 + std::exp(logit)));
          const long double unit = std::abs(truth) * static_cast<long double>(std::numeric_limits<S>::epsilon());
          // An error of softplus counts as often as it is large: 2.2 units of it, where the slope is near 1 - e^-m.
          const long double rounding = sizeof(TestType) > 2 ? 0 : std::abs(truth) * 0x1p-8L + 0x1p-25L;
          CHECK(std::abs(static_cast<long double>(reference::loaded(d_x[at])) - truth) <=
                6 * unit + rounding + std::numeric_limits<S>::denorm_min());
        }
    }
  });
}
