// SPDX-License-Identifier: MIT
#include <posenc/attention_temperature.hpp>
#include <posenc/combine/compose.hpp>
#include <posenc/rope.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/attention_temperature.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/visible_keys.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;
namespace rules = temperature_rule;
using Eigen::RowMajor;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, RowMajor>;

constexpr auto causal = visible::causal;
const any_temperature_rule all_rules[] = {rules::llama4{.floor_scale = 4, .scale = 0.3},
                                          rules::ministral{.beta = 0.5, .original_length = 3}, rules::inkling{.alpha = 0.25, .n_floor = 5},
                                          rules::log_length{.n_train = 4, .keys = visible_keys{.which = causal}},
                                          rules::log_length{.n_train = 4, .keys = visible_keys{.which = visible::all}}};

template <class S>
head_view<S> by_time(tensor4<S>& x) {
  return heads(x, axis_order::time_head);
}

}  // namespace

TEST_CASE("temperatures are those of the models, and step where they do", "[temperature]") {
  const rules::llama4 llama4;
  CHECK(temperature_factor(llama4, 0, 1) == 1);
  CHECK(temperature_factor(llama4, 8190, 1) == 1);
  CHECK(temperature_factor(llama4, 8191, 1) == 1 + 0.1 * std::log(2.0));
  CHECK(temperature_factor(llama4, 8192, 1) == 1 + 0.1 * std::log(2.0));
  CHECK(temperature_factor(llama4, 16382, 1) == 1 + 0.1 * std::log(2.0));
  CHECK(std::abs(temperature_factor(llama4, 16383, 1) - 1.1098612288668109) < 1e-15);  // ln 3
  const rules::ministral ministral{.beta = 0.1, .original_length = 16384};
  CHECK(temperature_factor(ministral, 16383, 1) == 1);
  CHECK(std::abs(temperature_factor(ministral, 16384, 1) - 1.0693147180559945) < 1e-15);
  const rules::inkling inkling{.alpha = 0.5, .n_floor = 100};
  CHECK(temperature_factor(inkling, 98, 1) == 1);
  CHECK(temperature_factor(inkling, 99, 1) == 1);
  CHECK(temperature_factor(inkling, 100, 1) == 1 + 0.5 * std::log(1.01));
  CHECK(std::abs(temperature_factor(inkling, 199, 1) - 1.3465735902799727) < 1e-15);
  const rules::log_length su{.n_train = 512, .keys = visible_keys{.which = causal}};
  CHECK(temperature_factor(su, 0, 511) == 1);
  CHECK(temperature_factor(su, 0, 512) == 1);
  CHECK(temperature_factor(su, 0, 513) > 1);
  CHECK(std::abs(temperature_factor(su, 0, 1024) - 10.0 / 9) < 1e-15);
  for (const auto& rule : all_rules) {
    CHECK(temperature_factor(rule, -1000, 1) == 1);
    for (position p = 0; p < 400; ++p)
      CHECK(std::abs(temperature_factor(rule, p, p + 1) -
                     reference::temperature(rule, static_cast<double>(p), static_cast<double>(p + 1))) < 2e-15);
  }
  // Whole numbers divided as such: in double, p + 1 would round to the multiple.
  CHECK(temperature_factor(rules::llama4{.floor_scale = position{1} << 60}, (position{1} << 60) - 2, 1) == 1);
  CHECK(temperature_factor(rules::ministral{.beta = 1, .original_length = position{1} << 60}, (position{1} << 60) - 1, 1) == 1);
}

TEMPLATE_TEST_CASE("attention_temperature multiplies queries and leaves keys alone", "[temperature]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  using S = compute_t<TestType>;
  const attention_positions cases[] = {
      {positions::range(5, 9), positions::range(14)},
      {positions::ids(std::array<position, 5>{3, no_position, 2147483647, 3, 0}), positions::range(7)},
      {positions::offsets(std::array{0, 12}, 5), positions::ids(std::array<position, 6>{0, 1, no_position, 12, 13, 14}, 2)},
      {positions::range(5), positions::offsets(std::array{0, 1}, 8)}};
  for (const auto& rule : all_rules)
    for (const auto& at : cases) {
      const attention_temperature<S> encoder(rule);
      const tensor4<TestType> before = random_tensor<tensor4<double>>(1, 2, 5, 3, 9).template cast<TestType>();
      tensor4<TestType> x = before, expected = before, out(before.dimensions()), keys = before;
      const auto* counting = std::get_if<rules::log_length>(&rule);
      for (index_t b = 0; b < 2; ++b)
        for (index_t t = 0; t < 5; ++t) {
          const position p = at.queries(b, t);
          if (p == no_position) continue;
          const visible_keys keys_of = counting ? visible_keys(counting->keys) : visible_keys{.which = causal};
          const bool far = p > 1000 && keys_of.which == causal;  // too many to count one by one
          const double factor = temperature_factor(rule, p, far ? p + 1 : reference::visible_count(keys_of, at, b, t));
          for (index_t h = 0; h < 3; ++h)
            for (index_t c = 0; c < 9; ++c)
              expected(b, t, h, c) = static_cast<TestType>(static_cast<S>(before(b, t, h, c)) * static_cast<S>(factor));
        }
      const auto state = prepare(encoder, at);
      encode_queries_keys(encoder, by_time(x), by_time(keys), state);
      CHECK(reference::bit_difference(x, expected) == "");
      CHECK(reference::bit_difference(keys, before) == "");
      auto source = before;
      encoder.rotate(by_time(source), by_time(out), state);
      CHECK(reference::bit_difference(out, expected) == "");
      tensor4<TestType> swapped(2, 3, 5, 9);  // [batch, head, time, channel], and column major
      for (index_t b = 0; b < 2; ++b)
        for (index_t t = 0; t < 5; ++t)
          for (index_t h = 0; h < 3; ++h)
            for (index_t c = 0; c < 9; ++c) swapped(b, h, t, c) = before(b, t, h, c);
      encoder.rotate(heads(swapped, axis_order::head_time), operand::query, state);
      CHECK(swapped(1, 2, 4, 8) == expected(1, 4, 2, 8));
      CHECK(swapped(0, 1, 2, 3) == expected(0, 2, 1, 3));
      Eigen::Tensor<TestType, 4> columns(9, 3, 5, 2);
      std::copy_n(before.data(), before.size(), columns.data());
      encoder.rotate(heads(columns, axis_order::time_head), operand::query, state);
      CHECK(reference::bit_difference(columns, expected) == "");
    }
}

TEST_CASE("attention_temperature gives a decode step the bits of the whole, on any number of threads", "[temperature]") {
  const attention_temperature<float> encoder(rules::inkling{.alpha = 0.25, .n_floor = 50});
  const auto before = random_tensor<tensor4<float>>(2, 2, 600, 8, 64);
  tensor4<float> whole = before, threaded = before, steps = before;
  const auto at = positions::range(600);
  encoder.rotate(by_time(whole), operand::query, prepare(encoder, {at, at}));
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  encoder.rotate(by_time(threaded), operand::query, encoder.prepare({at, at}, device), device);
  CHECK(reference::bit_difference(threaded, whole) == "");
  for (index_t from = 0; from < 600; from += 200) {
    const auto chunk = positions::range(200, from);
    encoder.rotate(by_time(steps).slice(from, 200), operand::query, prepare(encoder, {chunk, positions::range(from + 200)}));
  }
  CHECK(reference::bit_difference(steps, whole) == "");
}

TEST_CASE("attention_temperature composes with a rotation and multiplies the scores", "[temperature]") {
  const rope<double> turning({.pairing = pairing::halves, .dim = 8}, {});
  const attention_temperature<double> temperature(rules::ministral{.beta = 0.5, .original_length = 3});
  const compose both(temperature, turning);
  const auto at = positions::range(10);
  tensor4<double> q = random_tensor<tensor4<double>>(3, 1, 10, 2, 8), k = random_tensor<tensor4<double>>(4, 1, 10, 2, 8), q_alone = q,
                  k_alone = k;
  encode_queries_keys(both, by_time(q), by_time(k), prepare(both, {at, at}));
  encode_queries_keys(turning, by_time(q_alone), by_time(k_alone), prepare(turning, {at, at}));
  CHECK(reference::bit_difference(k, k_alone) == "");
  for (index_t t = 0; t < 10; ++t)
    for (index_t h = 0; h < 2; ++h)
      for (index_t c = 0; c < 8; ++c)
        CHECK(std::abs(q(0, t, h, c) - q_alone(0, t, h, c) * temperature_factor(temperature.rule(), t, 1)) < 1e-15);
}

TEST_CASE("attention_temperature: the gradient of a query is multiplied too", "[temperature]") {
  const attention_temperature<double> encoder(all_rules[0]);
  const auto at = positions::ids(std::array<position, 4>{2, no_position, 40, 7});
  const auto state = prepare(encoder, {at, at});
  auto x = random_tensor<tensor4<double>>(5, 1, 4, 2, 3);
  const auto weights = random_tensor<tensor4<double>>(6, 1, 4, 2, 3);
  const auto loss = [&] {
    auto y = x;
    encoder.rotate(by_time(y), operand::query, state);
    return reference::dot(y, weights);
  };
  auto d = weights, d_keys = weights;
  encode_queries_keys_backward(encoder, by_time(d), by_time(d_keys), state);
  CHECK(reference::difference(d, reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, 0.5), 1e-13) == "");
  CHECK(reference::bit_difference(d_keys, weights) == "");
}

TEST_CASE("attention_temperature: encoders are equal where rules are; nothing is done to empty tensors", "[temperature]") {
  const attention_temperature<float> encoder(all_rules[0]);
  CHECK(encoder == attention_temperature<float>(rules::llama4{.floor_scale = 4, .scale = 0.3}));
  CHECK(encoder != attention_temperature<float>(rules::llama4{.floor_scale = 4, .scale = 0.25}));
  CHECK(encoder != attention_temperature<float>(rules::llama4{.floor_scale = 5, .scale = 0.3}));
  CHECK(attention_temperature<float>(all_rules[3]) != attention_temperature<float>(all_rules[4]));
  CHECK(attention_temperature<float>::name() == "attention_temperature");
  tensor4<float> none(1, 0, 2, 4), no_batch(0, 2, 2, 4);
  encoder.rotate(by_time(none), operand::query, prepare(encoder, {positions::range(0), positions::range(0)}));
  encoder.rotate(by_time(no_batch), operand::query, prepare(encoder, {positions::range(2), positions::range(2)}));
}

TEST_CASE("attention_temperature refuses rules without meaning", "[temperature][errors]") {
  const auto refused = [](const std::string& text, const any_temperature_rule& rule) {
    reference::refuses("[attention_temperature] " + text, [&] { attention_temperature<float>{rule}; });
  };
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const visible_keys keys{.which = causal};
  refused("floor_scale must be positive but got 0", rules::llama4{.floor_scale = 0});
  refused("scale must be finite but got nan", rules::llama4{.scale = nan});
  refused("original_length must be positive but got -1", rules::ministral{.beta = 1, .original_length = -1});
  refused("beta must be finite but got inf", rules::ministral{.beta = infinity, .original_length = 1});
  refused("n_floor must be positive but got 0", rules::inkling{.alpha = 1, .n_floor = 0});
  refused("alpha must be finite but got nan", rules::inkling{.alpha = nan, .n_floor = 1});
  refused("n_train must be at least 2 but got 1", rules::log_length{.n_train = 1, .keys = keys});
  refused("window must not be negative, and 0 where attention is not causal but got 4",
          rules::log_length{.n_train = 2, .keys = visible_keys{.which = visible::all, .window = 4}});
}

TEST_CASE("attention_temperature refuses tensors that do not fit, before it writes", "[temperature][errors]") {
  const attention_temperature<float> encoder(all_rules[0]);
  auto x = random_tensor<tensor4<float>>(7, 2, 3, 2, 4), other = random_tensor<tensor4<float>>(8, 2, 4, 2, 4);
  const auto refused = [&](const std::string& text, auto&& act) { reference::refuses(x, "[attention_temperature] " + text, act); };
  const auto state_of = [&](const positions& at) { return prepare(encoder, {at, at}); };
  const auto good = state_of(positions::range(3));
  refused("time must match the state but got 3 and 4", [&] { encoder.rotate(by_time(x), operand::query, state_of(positions::range(4))); });
  refused("batch must match the state but got 2 and 3",
          [&] { encoder.rotate(by_time(x), operand::query, state_of(positions::offsets(std::array{0, 1, 2}, 3))); });
  refused("the output must have the input's shape but got [2, 4, 2, 4] and [2, 3, 2, 4]",
          [&] { encoder.rotate(by_time(other), by_time(x), good); });
  refused("the last axis must be contiguous but got 2", [&] {
    encoder.rotate(heads(tensor_view<float, 4>(x.data(), {1, 3, 2, 2}, {24, 8, 4, 2}), axis_order::time_head), operand::query, good);
  });
  refused("the elements of an output must be distinct, with strides that nest but got [0, 8, 4, 1]", [&] {
    encoder.rotate(heads(tensor_view<float, 4>(x.data(), {2, 3, 2, 4}, {0, 8, 4, 1}), axis_order::time_head), operand::query, good);
  });
  refused("input and output must be one view or not overlap but got [1, 3, 2, 4] and [1, 3, 2, 4]", [&] {
    const auto part = [&](index_t from) { return heads(tensor_view<float, 4>(x.data() + from, {1, 3, 2, 4}), axis_order::time_head); };
    encoder.rotate(part(8), part(0), good);
  });
  refused("positions must have one axis but got 2 and 2", [&] { state_of(positions::multi_axis(std::array{0, 1, 2, 0, 1, 2}, 2)); });
  encoder.require_fits(by_time(other), operand::key, good);  // keys are not read
}
