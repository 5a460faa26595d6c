// SPDX-License-Identifier: MIT
#include <posenc/kernels/linear.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/linear.hpp"

#include <cmath>
#include <string>
#include <vector>

namespace {

using posenc::kernels::bfloat16;
using posenc::kernels::compute;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using posenc::kernels::linear_call;
using posenc::kernels::linear_input_gradient_call;
using posenc::kernels::linear_weight_gradient_call;
using reference::random_stored;

struct shape {
  index_t tokens, in, out;
};
// Every end of a sum and of a tile, and sizes beyond one block of outputs, of cache, and of tokens.
std::vector<shape> shapes() {
  std::vector<shape> all{{0, 3, 3}, {3, 0, 5}, {3, 3, 0}, {6, 37, 70}, {1, 9000, 6}, {150, 5, 3}};
  for (index_t in = 1; in <= 34; ++in) all.push_back({1 + in % 9, in, 1 + in % 11});
  return all;
}
constexpr index_t gap = 3;  // elements behind each row that belong to nobody

template <class T>
struct forward {
  shape of;
  std::vector<T> x, y;
  std::vector<compute<T>> w, start;

  explicit forward(const shape& s)
      : of(s),
        x(random_stored<T>(1, s.tokens * (s.in + gap))),
        y(random_stored<T>(2, s.tokens * (s.out + gap))),
        w(random_vector<compute<T>>(3, s.out * (s.in + gap))),
        start(random_vector<compute<T>>(4, (s.tokens + 1) * (s.out + gap))) {}

  /// starts: 0 none, 1 a bias, 2 one for each token.
  linear_call<T> call(int starts) {
    return {.x = x.data(),
            .y = y.data(),
            .tokens = of.tokens,
            .in = of.in,
            .out = of.out,
            .x_token = of.in + gap,
            .y_token = of.out + gap,
            .w = w.data(),
            .w_row = of.in + gap,
            .start = starts == 0 ? nullptr : start.data(),
            .start_token = starts == 2 ? of.out + gap : 0};
  }
};

}  // namespace

TEMPLATE_TEST_CASE("linear sums in sixteen parts and touches nothing else", "[kernels][linear]", float, double, bfloat16, float16) {
  for (const shape& of : shapes())
    for (const int starts : {0, 1, 2}) {
      forward<TestType> expected(of);
      reference::linear(expected.call(starts));
      at_every_instruction_set([&] {
        forward<TestType> got(of);
        posenc::kernels::linear(got.call(starts));
        const std::string difference = reference::bit_difference(reference::loaded(got.y), reference::loaded(expected.y));
        if (!difference.empty()) {
          INFO(of.tokens << " tokens, " << of.in << " in, " << of.out << " out, starts " << starts);
          CHECK(difference == "");
        }
      });
    }
  forward<TestType> before({2, 3, 4}), after({2, 3, 4});
  posenc::kernels::linear(after.call(1));
  CHECK(reference::bit_difference(reference::loaded(after.y), reference::loaded(before.y)) != "");
}

TEST_CASE("linear of small whole numbers is known, whatever the order of the sum", "[kernels][linear]") {
  at_every_instruction_set([] {
    const std::vector<float> x{1, 2, 3, 4}, w{5, 6, 7, 8, 9, 10}, bias{100, 200, 300};  // x [2, 2], w [3, 2]
    std::vector<float> y(6);
    posenc::kernels::linear<float>({.x = x.data(),
                                    .y = y.data(),
                                    .tokens = 2,
                                    .in = 2,
                                    .out = 3,
                                    .x_token = 2,
                                    .y_token = 3,
                                    .w = w.data(),
                                    .w_row = 2,
                                    .start = bias.data()});
    CHECK(y == std::vector<float>{100 + 5 + 12, 200 + 7 + 16, 300 + 9 + 20, 100 + 15 + 24, 200 + 21 + 32, 300 + 27 + 40});
    // Added to what is there.
    posenc::kernels::linear<float>({.x = x.data(),
                                    .y = y.data(),
                                    .tokens = 2,
                                    .in = 1,
                                    .out = 3,
                                    .x_token = 2,
                                    .y_token = 3,
                                    .w = w.data(),
                                    .w_row = 2,
                                    .start = y.data(),
                                    .start_token = 3});
    CHECK(y == std::vector<float>{122, 230, 338, 154, 274, 394});
  });
}

TEMPLATE_TEST_CASE("a token has the same bits alone as among others", "[kernels][linear]", float, bfloat16) {
  for (const shape& of : {shape{11, 53, 70}, shape{7, 16, 5}})
    at_every_instruction_set([&] {
      forward<TestType> together(of), alone(of);
      posenc::kernels::linear(together.call(1));
      for (index_t t = 0; t < of.tokens; ++t)
        for (const index_t o : {of.out - of.out / 3 * 3, of.out / 3 * 3}) {  // outputs in two parts, too
          auto call = alone.call(1);
          const index_t from = o == of.out / 3 * 3 ? of.out - o : 0;
          call.x += t * call.x_token, call.y += t * call.y_token + from, call.w += from * call.w_row, call.start += from;
          call.tokens = 1, call.out = o;
          posenc::kernels::linear(call);
        }
      CHECK(reference::bit_difference(reference::loaded(alone.y), reference::loaded(together.y)) == "");
    });
}

TEST_CASE("what stands behind a row has no part in the sum, not even as infinity", "[kernels][linear]") {
  at_every_instruction_set([] {
    std::vector<float> x(2 * 19, INFINITY), w(3 * 21, NAN), y(6);
    for (index_t n = 0; n < 2; ++n)
      for (index_t c = 0; c < 18; ++c) x[static_cast<std::size_t>(n * 19 + c)] = 1;
    for (index_t n = 0; n < 3; ++n)
      for (index_t c = 0; c < 18; ++c) w[static_cast<std::size_t>(n * 21 + c)] = 2;
    posenc::kernels::linear<float>(
        {.x = x.data(), .y = y.data(), .tokens = 2, .in = 18, .out = 3, .x_token = 19, .y_token = 3, .w = w.data(), .w_row = 21});
    CHECK(y == std::vector<float>(6, 36));
  });
}

TEST_CASE("a sum in sixteen parts errs less than its bound", "[kernels][linear]") {
  constexpr index_t in = 4096;
  const auto x = random_vector<float>(5, in), w = random_vector<float>(6, in);
  double exact = 0, magnitudes = 0;
  for (std::size_t c = 0; c < in; ++c) {
    const double product = static_cast<double>(x[c]) * static_cast<double>(w[c]);
    exact += product, magnitudes += std::abs(product);
  }
  float y = 0;
  posenc::kernels::linear<float>(
      {.x = x.data(), .y = &y, .tokens = 1, .in = in, .out = 1, .x_token = 0, .y_token = 0, .w = w.data(), .w_row = 0});
  CHECK(std::abs(static_cast<double>(y) - exact) <= (in / 16 + 6) * 0x1p-24 * magnitudes);
}

TEMPLATE_TEST_CASE("the gradient of the input sums over the outputs in order", "[kernels][linear]", float, double, bfloat16, float16) {
  const auto check = [&]<class X>(X, const shape& of, bool accumulate) {
    using S = compute<TestType>;
    const auto d_y = random_stored<TestType>(7, of.tokens * (of.out + gap));
    const auto w = random_vector<S>(8, of.out * (of.in + gap));
    const auto before = random_stored<X>(9, of.tokens * (of.in + gap));
    const auto call = [&](std::vector<X>& d_x) {
      return linear_input_gradient_call<TestType, X>{.d_y = d_y.data(),
                                                     .d_x = d_x.data(),
                                                     .tokens = of.tokens,
                                                     .in = of.in,
                                                     .out = of.out,
                                                     .d_y_token = of.out + gap,
                                                     .d_x_token = of.in + gap,
                                                     .w = w.data(),
                                                     .w_row = of.in + gap,
                                                     .accumulate = accumulate};
    };
    auto expected = before;
    reference::linear_input_gradient(call(expected));
    at_every_instruction_set([&] {
      auto got = before;
      posenc::kernels::linear_input_gradient(call(got));
      const std::string difference = reference::bit_difference(reference::loaded(got), reference::loaded(expected));
      if (!difference.empty()) {
        INFO(of.tokens << " tokens, " << of.in << " in, " << of.out << " out, accumulate " << accumulate);
        CHECK(difference == "");
      }
    });
  };
  for (const shape& of : shapes())
    for (const bool accumulate : {false, true}) {
      check(TestType{}, of, accumulate);
      if constexpr (sizeof(TestType) == 2) check(float{}, of, accumulate);
    }
}

TEMPLATE_TEST_CASE("the gradients of weight and bias sum over the tokens in order, in however many calls", "[kernels][linear]", float,
                   double, bfloat16, float16) {
  const auto check = [&]<class X>(X, const shape& of, bool with_bias) {
    using S = compute<TestType>;
    const auto d_y = random_stored<TestType>(10, of.tokens * (of.out + gap));
    const auto x = random_stored<X>(11, of.tokens * (of.in + gap));
    const auto w_before = random_vector<S>(12, of.out * (of.in + gap)), bias_before = random_vector<S>(13, of.out + gap);
    const auto call = [&](std::vector<S>& d_w, std::vector<S>& d_bias) {
      return linear_weight_gradient_call<TestType, X>{.d_y = d_y.data(),
                                                      .x = x.data(),
                                                      .tokens = of.tokens,
                                                      .in = of.in,
                                                      .out = of.out,
                                                      .d_y_token = of.out + gap,
                                                      .x_token = of.in + gap,
                                                      .d_w = d_w.data(),
                                                      .d_w_row = of.in + gap,
                                                      .d_bias = with_bias ? d_bias.data() : nullptr};
    };
    auto expected_w = w_before, expected_bias = bias_before;
    reference::linear_weight_gradient(call(expected_w, expected_bias));
    at_every_instruction_set([&] {
      for (const index_t first : {of.tokens, of.tokens / 3}) {
        auto got_w = w_before, got_bias = bias_before;
        auto part = call(got_w, got_bias);
        part.tokens = first;
        posenc::kernels::linear_weight_gradient(part);
        part.tokens = of.tokens - first, part.x += first * part.x_token, part.d_y += first * part.d_y_token;
        posenc::kernels::linear_weight_gradient(part);
        const std::string difference = reference::bit_difference(got_w, expected_w) + reference::bit_difference(got_bias, expected_bias);
        if (!difference.empty()) {
          INFO(of.tokens << " tokens, " << of.in << " in, " << of.out << " out, bias " << with_bias << ", first " << first);
          CHECK(difference == "");
        }
      }
    });
  };
  for (const shape& of : shapes())
    for (const bool with_bias : {false, true}) {
      check(TestType{}, of, with_bias);
      if constexpr (sizeof(TestType) == 2) check(float{}, of, with_bias);
    }
}
