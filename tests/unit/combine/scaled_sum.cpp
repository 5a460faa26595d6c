// SPDX-License-Identifier: MIT
#include <posenc/combine/scaled_sum.hpp>

#include <posenc/combine/compose.hpp>
#include <posenc/learned.hpp>
#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
template <class S>
using tensor3 = Eigen::Tensor<S, 3, Eigen::RowMajor>;
using block3 = tensor3<double>;

template <class S>
sinusoidal<S> waves(index_t dim) {
  return sinusoidal<S>({.dim = dim, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}});
}
template <class S>
learned<S> table(index_t rows, index_t dim) {
  return {{.rows = rows, .dim = dim, .offset = 1, .padding_row = 2, .scale = 0.75}, random_vector<S>(5, rows * dim)};
}
std::vector<positions> places() {
  return {positions::range(3, 1), positions::offsets(std::vector{0, 2}, 3),
          positions::ids(std::vector<position>{2, no_position, 0, 4, 0, 0}, 2)};
}

static_assert(additive_encoder<scaled_sum<sinusoidal<float>>> && position_encoder<scaled_sum<learned<double>>>);
static_assert(trainable<scaled_sum<sinusoidal<double>>> && !rotary_encoder<scaled_sum<sinusoidal<float>>>);
template <class E>
constexpr bool takes_masks = requires(const E& sum, block3& x, const positions& at, dropout_mask<double> mask) { sum.add(x, at, mask); };
template <class E>
constexpr bool can_be_scaled = requires(E encoder) { scaled_sum<E>(encoder); };
static_assert(can_be_scaled<sinusoidal<float>> && !can_be_scaled<compose<sinusoidal<float>>>);

}  // namespace

TEMPLATE_TEST_CASE("a scaled sum is each part times its factor", "[scaled_sum]", float, double, Eigen::bfloat16) {
  using S = compute_t<TestType>;
  const auto check = [](const auto& encoder) {
    for (const auto& at : places()) {
      block3 raw = random_tensor<block3>(2, 2, 3, 6);
      tensor3<TestType> x(2, 3, 6), expected(2, 3, 6);
      tensor3<S> code(2, 3, 6), mask = random_tensor<tensor3<S>>(7, 1, 3, 6);
      for (index_t n = 0; n < x.size(); ++n) x.data()[n] = static_cast<TestType>(static_cast<float>(raw.data()[n]));
      const scaled_sum sum(encoder, {.token_scale = 2.5, .code_scale = -0.3});
      encoder.encode(at, code);
      auto dropped = x, expected_dropped = x;
      for (index_t b = 0; b < 2; ++b)
        for (index_t t = 0; t < 3; ++t)
          for (index_t c = 0; c < 6; ++c) {
            // The table's own scale and this one are one factor, and code_scale is rounded first.
            const S scale = static_cast<S>(-0.3), own = std::is_same_v<decltype(encoder), const learned<S>&> ? S(0.75) : S(1);
            const S scaled = code(b, t, c) / own * (own * scale);
            const S all = static_cast<S>(x(b, t, c)) * S(2.5) + scaled;
            expected(b, t, c) = static_cast<TestType>(all);
            expected_dropped(b, t, c) = static_cast<TestType>(all * mask(0, t, c));
          }
      sum.add(x, at);
      sum.add(dropped, at, view_of(mask));
      const double bound = sizeof(TestType) == 2 ? 0 : sizeof(TestType) == 4 ? 3e-7 : 6e-16;
      if (bound == 0 && !std::is_same_v<decltype(encoder), const learned<S>&>) {  // one rounding: the bits are told by the formula
        CHECK(reference::bit_difference(x, expected) == "");
        CHECK(reference::bit_difference(dropped, expected_dropped) == "");
      }
      for (index_t n = 0; n < x.size(); ++n) {
        const double of = sizeof(TestType) == 2 ? 0.02 : bound;
        CHECK(std::abs(static_cast<double>(x.data()[n]) - static_cast<double>(expected.data()[n])) <= of);
        CHECK(std::abs(static_cast<double>(dropped.data()[n]) - static_cast<double>(expected_dropped.data()[n])) <= of);
      }
    }
  };
  check(waves<S>(6));
  check(table<S>(6, 6));
}

TEST_CASE("a scaled sum with factors of one is the sum, bit for bit", "[scaled_sum]") {
  const auto at = positions::range(40, 5);
  auto x = random_tensor<tensor3<float>>(1, 2, 40, 34), scaled = x;
  waves<float>(34).add(x, at);
  scaled_sum(waves<float>(34)).add(scaled, at);
  CHECK(reference::bit_difference(scaled, x) == "");
  auto by_stage = random_tensor<tensor3<float>>(1, 2, 40, 34);
  encode_embeddings(scaled_sum(waves<float>(34)), by_stage, at);
  CHECK(reference::bit_difference(by_stage, x) == "");
}

TEST_CASE("scaled sums have the gradients of their scale and of their encoder", "[scaled_sum]") {
  const auto check = [](auto sum) {
    for (const auto& at : places())
      for (const bool drops : {false, true}) {
        auto x = random_tensor<block3>(2, 2, 3, 6);
        const auto weights = random_tensor<block3>(3, 2, 3, 6), mask = random_tensor<block3>(4, 2, 1, 6);
        const auto loss = [&] {
          auto y = x;
          if constexpr (takes_masks<decltype(sum)>)
            if (drops) return sum.add(y, at, view_of(mask)), reference::dot(y, weights);
          sum.add(y, at);
          return reference::dot(y, weights);
        };
        gradient_buffer<double> gradients(parameters(sum));
        auto d = weights;
        if constexpr (takes_masks<decltype(sum)>)
          if (drops) sum.add_backward(d, at, view_of(mask), gradients.spans());
        if (!drops || !takes_masks<decltype(sum)>) encode_embeddings_backward(sum, d, at, gradients.spans());
        const auto by_x = reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, 1e-3);
        for (std::size_t n = 0; n < by_x.size(); ++n) CHECK(std::abs(d.data()[n] - by_x[n]) < 1e-10);
        const auto all = sum.parameters();
        REQUIRE(all.size() == gradients.spans().size());
        for (std::size_t p = 0; p < all.size(); ++p) {
          const auto slopes = reference::derivatives(all[p].values, loss, 1e-3);
          for (std::size_t n = 0; n < slopes.size(); ++n) {
            const bool padding = all[p].name == "table" && n / 6 == 2;
            CHECK(std::abs(gradients.spans()[p][n] - (padding ? 0 : slopes[n])) < 1e-10);
          }
        }
      }
  };
  check(scaled_sum(waves<double>(6), {.token_scale = 2.5, .code_scale = 0.4, .train_scale = true}));
  check(scaled_sum(table<double>(6, 6), {.token_scale = -1.5, .code_scale = 0.4, .train_scale = true}));
  check(scaled_sum(table<double>(6, 6), {.code_scale = 3}));
  check(compose(scaled_sum(waves<double>(6), {.code_scale = 2, .train_scale = true}), table<double>(6, 6)));
}

TEST_CASE("scaled sums are trained where they are asked to be", "[scaled_sum]") {
  scaled_sum still(waves<float>(4), {.code_scale = 0.5}), trained(waves<float>(4), {.code_scale = 0.5, .train_scale = true});
  CHECK(still.parameters().empty());
  REQUIRE(trained.parameters().size() == 1);
  CHECK(trained.parameters()[0].name == "code_scale");
  CHECK(trained.parameters()[0].shape == std::vector<index_t>{1});
  const auto before = trained;
  trained.parameters()[0].values[0] = 2;
  CHECK(trained.code_scale() == 2);
  CHECK(trained != before);
  scaled_sum with_table(table<float>(6, 4), {.train_scale = true});
  CHECK(with_table.parameters().size() == 2);
  CHECK(with_table.parameters()[1].name == "table");
  CHECK(still.options() == scaled_sum_options{.code_scale = 0.5});
  CHECK(still.encoder() == waves<float>(4));
}

TEST_CASE("scaled sums give the gradient of the scale the same bits for any number of threads", "[scaled_sum]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  const scaled_sum sum(waves<float>(128), {.train_scale = true});
  const auto d = random_tensor<tensor3<float>>(1, 3, 700, 128);
  const auto at = positions::range(700);
  float alone = 0, together = 0;
  auto first = d, second = d;
  sum.add_backward(first, at, std::array{std::span(&alone, 1)});
  sum.add_backward(second, at, std::array{std::span(&together, 1)}, device);
  CHECK(alone != 0);
  CHECK(reference::same_bits(alone, together));
}

TEST_CASE("scaled sums refuse what does not fit", "[scaled_sum][errors]") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  reference::refuses("[scaled_sum] token_scale must be finite but got inf",
                     [&] { scaled_sum(waves<float>(4), {.token_scale = infinity}); });
  reference::refuses("[scaled_sum] code_scale must be finite but got inf", [&] { scaled_sum(waves<float>(4), {.code_scale = infinity}); });
  const scaled_sum sum(waves<float>(4), {.train_scale = true});
  auto x = random_tensor<tensor3<float>>(1, 2, 3, 4);
  reference::refuses(x, "[sinusoidal] time must match the positions but got 3 and 5", [&] { sum.add(x, positions::range(5)); });
  reference::refuses(x, "[scaled_sum] there must be one gradient span per parameter but got 1 and 0",
                     [&] { sum.add_backward(x, positions::range(3), {}); });
  std::array<float, 2> two{};
  reference::refuses(x, "[scaled_sum] gradients must have the sizes of their parameters but got 1 and 2",
                     [&] { sum.add_backward(x, positions::range(3), std::array{std::span<float>(two)}); });
  const scaled_sum with_table(table<float>(6, 4), {.train_scale = true});
  std::array<float, 3> sums{1, 2, 3};  // the table's gradient does not fit: that of the scale, and x, stay as they are
  reference::refuses(sums, "[scaled_sum] gradients must have the sizes of their parameters but got 24 and 2", [&] {
    with_table.add_backward(x, positions::range(3), std::array{std::span(sums).first(1), std::span(sums).last(2)});
  });
  const std::vector<float> ones(24, 1);
  reference::refuses(x, "[scaled_sum] gradients must have the sizes of their parameters but got 24 and 2", [&] {
    with_table.add_backward(x, positions::range(3), dropout_mask<float>(ones.data(), {2, 3, 4}),
                            std::array{std::span(sums).first(1), std::span(sums).last(2)});
  });
  reference::refuses(x, "[scaled_sum] the mask must have the embeddings' channels but got [2, 3, 4] and [1, 3, 3]",
                     [&] { sum.add(x, positions::range(3), dropout_mask<float>(ones.data(), {1, 3, 3})); });
}
