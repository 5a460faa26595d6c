// SPDX-License-Identifier: MIT
#include <posenc/attention_temperature.hpp>
#include <posenc/rope.hpp>
#include <posenc/scalable_softmax.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/visible_keys.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, RowMajor>;

template <class S>
head_view<S> by_time(tensor4<S>& x) {
  return heads(x, axis_order::time_head);
}

constexpr visible_keys causal{.which = visible::causal};
const attention_positions packed{positions::packed(std::array{0, 3, 7}), positions::packed(std::array{0, 3, 7})};

}  // namespace

TEST_CASE("scalable_softmax has the values of its paper", "[scalable_softmax]") {
  // n^(s z): with s = 1 and n = 8, a score of 2 weighs 64 times as much as one of 0.
  const scalable_softmax<double> encoder(std::array{1.0, 0.5}, causal);
  tensor4<double> q(1, 1, 2, 1);
  q.setConstant(2);
  encoder.rotate(by_time(q), operand::query, prepare(encoder, {positions::range(1, 7), positions::range(8)}));
  CHECK(std::abs(std::exp(q(0, 0, 0, 0)) - 64) < 1e-13);
  CHECK(std::abs(std::exp(q(0, 0, 1, 0)) - 8) < 1e-14);
  q.setConstant(2);
  encoder.rotate(by_time(q), operand::query, prepare(encoder, {positions::range(1), positions::range(1)}));
  CHECK(q(0, 0, 0, 0) == 0);  // one key
}

TEMPLATE_TEST_CASE("scalable_softmax multiplies queries by s ln n, anew in every document", "[scalable_softmax]", float, double) {
  const std::array<TestType, 3> scales{TestType(0.7), TestType(0), TestType(-1.25)};
  for (const auto& keys : {causal, visible_keys{.which = visible::causal, .window = 2}, visible_keys{.which = visible::all},
                           visible_keys{.which = visible::document}}) {
    const scalable_softmax<TestType> encoder(scales, keys);
    CHECK(std::ranges::equal(encoder.scales(), scales));
    const auto state = prepare(encoder, packed);
    auto x = random_tensor<tensor4<TestType>>(1, 2, 7, 3, 5), expected = x, k = x;
    for (index_t b = 0; b < 2; ++b)
      for (index_t t = 0; t < 7; ++t)
        for (index_t h = 0; h < 3; ++h)
          for (index_t c = 0; c < 5; ++c) {
            const auto n = static_cast<double>(reference::visible_count(keys, packed, b, t));
            const double factor = static_cast<double>(scales[static_cast<std::size_t>(h)]) * std::log(n);
            expected(b, t, h, c) *= static_cast<TestType>(factor);
          }
    const auto untouched = k;
    encode_queries_keys(encoder, by_time(x), by_time(k), state);
    CHECK(reference::bit_difference(x, expected) == "");
    CHECK(reference::bit_difference(k, untouched) == "");
  }
}

TEST_CASE("scalable_softmax with s = 1 / ln n_train is the temperature of log n beyond it", "[scalable_softmax]") {
  const scalable_softmax<double> encoder({.heads = 2, .keys = causal, .scale = 1 / std::log(4.0)});
  const attention_temperature<double> su(temperature_rule::log_length{.n_train = 4, .keys = causal});
  const attention_positions at{positions::range(20, 3), positions::range(23)};
  auto one = random_tensor<tensor4<double>>(2, 1, 20, 2, 4), other = one;
  encoder.rotate(by_time(one), operand::query, prepare(encoder, at));
  su.rotate(by_time(other), operand::query, prepare(su, at));
  CHECK(reference::difference(one, other, 1e-15) == "");
}

TEST_CASE("scalable_softmax: rotate_backward is the derivative of rotate", "[scalable_softmax]") {
  scalable_softmax<double> encoder(std::array{0.5, -1.5}, causal);
  const auto at = positions::ids(std::array<position, 10>{0, 5, no_position, 2, 9, 1, 1, no_position, 0, 3}, 2);
  const auto state = prepare(encoder, {at, at});
  auto x = random_tensor<tensor4<double>>(3, 2, 5, 2, 11);
  const auto weights = random_tensor<tensor4<double>>(4, 2, 5, 2, 11);
  const auto all = encoder.parameters();
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "scales");
  CHECK(all[0].shape == std::vector<index_t>{2});
  const auto forward = [&] {
    auto y = x;
    encoder.rotate(by_time(y), operand::query, state);
    return y;
  };
  const auto loss = [&] { return reference::dot(forward(), weights); };
  auto d = weights, d_keys = weights, rotated = forward();
  gradient_buffer<double> gradients(all);
  gradients.spans()[0][1] = 100;  // it is added to
  encode_queries_keys_backward(encoder, by_time(d), by_time(d_keys), by_time(rotated), by_time(rotated), state, gradients.spans());
  gradients.spans()[0][1] -= 100;
  CHECK(reference::difference(gradients.spans()[0], reference::derivatives(all[0].values, loss, 0.25), 1e-12) == "");
  CHECK(reference::difference(d, reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, 0.5), 1e-13) == "");
  CHECK(reference::bit_difference(d_keys, weights) == "");
}

TEMPLATE_TEST_CASE("scalable_softmax: the gradient of 16-bit tensors is that of their numbers", "[scalable_softmax]", Eigen::half,
                   Eigen::bfloat16) {
  const scalable_softmax<float> encoder(std::array{0.5f, -2.0f}, causal);
  const auto state = prepare(encoder, packed);
  tensor4<TestType> rotated = random_tensor<tensor4<double>>(10, 1, 7, 2, 9).template cast<TestType>();
  tensor4<TestType> d = random_tensor<tensor4<double>>(11, 1, 7, 2, 9).template cast<TestType>(), passed = d;
  std::array<float, 2> got{};
  std::array<double, 2> sums{};
  for (index_t t = 0; t < 7; ++t)
    for (index_t h = 0; h < 2; ++h)
      for (index_t c = 0; c < 9; ++c)
        sums[static_cast<std::size_t>(h)] += static_cast<double>(rotated(0, t, h, c)) * static_cast<double>(d(0, t, h, c));
  const std::array<std::span<float>, 1> spans{got};
  encoder.rotate_backward(by_time(d), by_time(rotated), operand::query, state, spans);
  CHECK(reference::difference(got, std::array{sums[0] / 0.5, sums[1] / -2}, 1e-6) == "");
  encoder.rotate(by_time(passed), operand::query, state);
  CHECK(reference::bit_difference(d, passed) == "");
}

TEST_CASE("scalable_softmax finds its gradient behind a rotation too, on any number of threads", "[scalable_softmax]") {
  const scalable_softmax<double> encoder({.heads = 8, .keys = causal, .scale = 0.75});
  const rope<double> turning({.pairing = pairing::halves, .dim = 64}, {});
  const auto at = positions::range(64);
  const auto state = prepare(encoder, {at, at});
  const auto table = prepare(turning, {at, at});
  auto before_rotation = random_tensor<tensor4<double>>(5, 2, 64, 8, 64);
  encoder.rotate(by_time(before_rotation), operand::query, state);
  auto rotated = before_rotation, d_rotated = random_tensor<tensor4<double>>(6, 2, 64, 8, 64), d = d_rotated, in_threads = d_rotated;
  turning.rotate(by_time(rotated), operand::query, table);
  turning.rotate_backward(by_time(d), operand::query, table);
  gradient_buffer<double> gradients(scalable_softmax<double>(encoder).parameters()), behind(scalable_softmax<double>(encoder).parameters()),
      threaded(scalable_softmax<double>(encoder).parameters());
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  encoder.rotate_backward(by_time(in_threads), by_time(rotated), operand::query, state, threaded.spans(), device);
  encoder.rotate_backward(by_time(d), by_time(before_rotation), operand::query, state, gradients.spans());
  encoder.rotate_backward(by_time(d_rotated), by_time(rotated), operand::query, state, behind.spans());
  CHECK(reference::difference(behind.spans()[0], gradients.spans()[0], 1e-10) == "");
  CHECK(reference::bit_difference(threaded.spans()[0], behind.spans()[0]) == "");
  CHECK(reference::bit_difference(in_threads, d_rotated) == "");
}

TEST_CASE("scalable_softmax: equality, and scales in use", "[scalable_softmax]") {
  scalable_softmax<float> encoder({.heads = 2, .keys = causal});
  CHECK(encoder == scalable_softmax<float>(std::array{1.0f, 1.0f}, causal));
  CHECK(encoder != scalable_softmax<float>(std::array{1.0f, 1.5f}, causal));
  CHECK(encoder != scalable_softmax<float>({.heads = 3, .keys = causal}));
  CHECK(encoder != scalable_softmax<float>({.heads = 2, .keys = visible_keys{.which = visible::all}}));
  CHECK(encoder.keys() == causal);
  CHECK(scalable_softmax<float>::name() == "scalable_softmax");
  const auto state = prepare(encoder, packed);  // stays right in training
  encoder.parameters()[0].values[1] = 2;
  auto x = random_tensor<tensor4<float>>(7, 1, 7, 2, 3);
  const float before = x(0, 2, 1, 0);
  encoder.rotate(by_time(x), operand::query, state);
  CHECK(x(0, 2, 1, 0) == before * static_cast<float>(2 * std::log(3.0)));
}

TEST_CASE("scalable_softmax refuses what does not fit, before it writes", "[scalable_softmax][errors]") {
  const auto refused = [](const std::string& text, auto&& act) { reference::refuses("[scalable_softmax] " + text, act); };
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const visible_keys wrong{.which = visible::all, .window = 4};
  refused("heads must be positive but got 0", [&] { scalable_softmax<float>({.heads = 0, .keys = causal}); });
  refused("scales must be finite but got nan", [&] { scalable_softmax<float>({.heads = 1, .keys = causal, .scale = double{nan}}); });
  refused("the size in bytes must fit in 63 bits but got [4611686018427387904]",
          [&] { scalable_softmax<float>({.heads = index_t{1} << 62, .keys = causal}); });
  refused("heads must be positive but got 0", [&] { scalable_softmax<float>(std::span<const float>(), causal); });
  refused("scales must be finite but got nan", [&] { scalable_softmax<float>(std::array{1.0f, nan}, causal); });
  const std::string window = "window must not be negative, and 0 where attention is not causal but got 4";
  refused(window, [&] { scalable_softmax<float>({.heads = 1, .keys = wrong}); });
  refused(window, [&] { scalable_softmax<float>(std::array{1.0f}, wrong); });

  const scalable_softmax<float> encoder({.heads = 2, .keys = causal});
  refused("queries and keys must be the same tokens for visible::document but got 7 and 8", [&] {
    prepare(scalable_softmax<float>({.heads = 2, .keys = visible_keys{.which = visible::document}}), {packed.queries, positions::range(8)});
  });
  const auto state = prepare(encoder, packed);
  auto x = random_tensor<tensor4<float>>(8, 1, 7, 3, 4), d = random_tensor<tensor4<float>>(9, 1, 7, 2, 4), small = d;
  reference::refuses(x, "[scalable_softmax] heads must match the encoder but got 2 and 3",
                     [&] { encoder.rotate(by_time(x), operand::query, state); });
  std::array<float, 2> values{1, 2};
  std::array<float, 1> few{3};
  const std::array<std::span<float>, 1> good{values}, bad{few};
  const auto backward = [&](const std::string& text, const scalable_softmax<float>& one, tensor4<float>& y, gradient_spans<float> spans) {
    reference::refuses(d, "[scalable_softmax] " + text, [&] { one.rotate_backward(by_time(d), by_time(y), operand::query, state, spans); });
  };
  backward("the gradient must have the shape of what it is of but got [1, 7, 3, 4] and [1, 7, 2, 4]", encoder, x, good);
  backward("there must be one gradient span with a value per head but got 2 and 0", encoder, small, {});
  backward("there must be one gradient span with a value per head but got 2 and 1", encoder, small, bad);
  backward("scales must not be zero for a gradient but got 0", scalable_softmax<float>(std::array{1.0f, 0.0f}, causal), small, good);
  CHECK(values == std::array<float, 2>{1, 2});
}
