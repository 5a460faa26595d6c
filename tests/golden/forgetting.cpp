// SPDX-License-Identifier: MIT
/// \file  The gates, sums and biases of the Forgetting Transformer and of x-transformers' DataDependentAlibi.
#include <posenc/conditional/forget_gate.hpp>
#include <posenc/conditional/forgetting_gates.hpp>
#include <posenc/conditional/log_sigmoid.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::converted, golden::load, golden::npy, golden::relative, golden::rounding, golden::view;

const std::string fox = "conditional/fox_forgetting_attention/", dynamic = "conditional/data_dependent_alibi/";

template <class S>
tensor_view<S, 3> as_gates(npy<S>& array) {
  return {array.values.data(), {1, 1, static_cast<index_t>(array.values.size())}};
}

}  // namespace

TEMPLATE_TEST_CASE("log_sigmoid is exact to three units in the last place from -100 to 100", "[golden][log_sigmoid]", float, double) {
  auto logits = converted<TestType>(load<float>("conditional/logsigmoid_extremes/x"));
  const auto truth = load<double>("conditional/logsigmoid_extremes/log_sigmoid_f64");
  auto got = logits;
  log_sigmoid(as_gates(logits), as_gates(got));
  for (std::size_t n = 0; n < got.values.size(); ++n) {
    CAPTURE(logits.values[n]);
    const double off = std::abs(static_cast<double>(got.values[n]) - truth.values[n]);
    // In float the last one is subnormal.
    const double unit = std::max(std::abs(truth.values[n]) * 2 * rounding<TestType>, std::is_same_v<TestType, float> ? 0x1p-149 : 0);
    CHECK(off <= 2.2 * unit);
  }
}

TEMPLATE_TEST_CASE("gates, their sums and the biases are FoX's", "[golden][forgetting_gates]", float, double) {
  constexpr index_t batch = 2, time = 16, heads = 4;
  auto logits = converted<TestType>(load<float>(fox + "forget_logits"));
  auto gates = logits;
  log_sigmoid(view<3>(logits), tensor_view<TestType, 3>(gates.values.data(), {batch, time, heads}));
  CHECK(relative(gates, load<double>(fox + "log_forget_f64")) <= 4.4 * rounding<TestType>);
  CHECK(relative(gates, load<float>(fox + "log_forget")) <= 4.4 * rounding<TestType> + 1.2e-7);

  cumulative_gates sums(batch, heads, time);
  sums.append(view<3>(gates), positions::range(time));
  const auto truth = load<double>(fox + "cum_log_forget_f64");
  double worst = 0;
  for (index_t b = 0; b < batch; ++b)
    for (index_t t = 0; t < time; ++t)
      for (index_t h = 0; h < heads; ++h) worst = std::max(worst, std::abs(sums.row(b, h)[t] - view<3>(truth)(b, t, h)));
  const double bound = golden::largest_magnitude(truth) * (4.4 * rounding<TestType> + 2 * rounding<double>);  // what the gates are off
  CHECK(worst <= bound);

  const attention_positions at{positions::range(time), positions::range(time)};
  auto bias = npy<TestType>::filled({batch, heads, time, time}, 0);
  const forgetting_gates<TestType> encoder({.heads = heads, .direction = forgetting::causal});
  encoder.bias(score_view<TestType>(bias.values.data(), {batch, heads, time, time}),
               attention_inputs<TestType>{.scale = 0.25, .log_gates = view<3>(gates)}, at);
  auto expected = load<double>(fox + "decay_bias_f64");
  for (index_t b = 0, n = 0; b < batch * heads; ++b)  // theirs is of all pairs
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j, ++n)
        if (j > i) expected.values[static_cast<std::size_t>(n)] = 0;
  // A sum of negative numbers has the relative error of each. In double, what sums of 32 are off is more: 2^-52 (32 + 32), and theirs.
  if (std::is_same_v<TestType, float>) CHECK(relative(bias, expected) <= 5.5 * rounding<float>);
  else CHECK(absolute(bias, expected) <= 3e-14);

  // The whole attention, with two heads of queries per head of keys.
  const auto q = converted<TestType>(load<float>(fox + "q")), k = converted<TestType>(load<float>(fox + "k")),
             v = converted<TestType>(load<float>(fox + "v"));
  auto out = npy<TestType>::filled({batch, time, heads, 16}, 0);
  const auto scores = score_view<TestType>(bias.values.data(), {batch, heads, time, time});
  for (index_t b = 0; b < batch; ++b)
    for (index_t h = 0; h < heads; ++h)
      for (index_t i = 0; i < time; ++i) {
        std::vector<double> weights(static_cast<std::size_t>(time));
        double sum = 0;
        for (index_t j = 0; j <= i; ++j) {
          double product = 0;
          for (index_t c = 0; c < 16; ++c)
            product += static_cast<double>(view<4>(q)(b, i, h, c)) * static_cast<double>(view<4>(k)(b, j, h / 2, c));
          sum += weights[static_cast<std::size_t>(j)] = std::exp(0.25 * product + static_cast<double>(scores(b, h, i, j)));
        }
        for (index_t c = 0; c < 16; ++c) {
          double context = 0;
          for (index_t j = 0; j <= i; ++j)
            context += weights[static_cast<std::size_t>(j)] / sum * static_cast<double>(view<4>(v)(b, j, h / 2, c));
          out.values[static_cast<std::size_t>(((b * time + i) * heads + h) * 16 + c)] = static_cast<TestType>(context);
        }
      }
  CHECK(absolute(out, load<double>(fox + "out_f64")) <= (std::is_same_v<TestType, float> ? 1e-6 : 1e-13));
}

TEMPLATE_TEST_CASE("gates and biases are those of x-transformers' DataDependentAlibi", "[golden][forgetting_gates]", float, double) {
  constexpr index_t batch = 2, time = 16, heads = 4, dim = 24;
  forget_gate<TestType> gate({.dim = dim, .gates = heads});
  const auto weight = load<float>(dynamic + "weight"), own_bias = load<float>(dynamic + "bias_param");
  std::ranges::copy(weight.values, gate.parameters()[0].values.begin());
  std::ranges::copy(own_bias.values, gate.parameters()[1].values.begin());
  const auto x = converted<TestType>(load<float>(dynamic + "x"));
  auto gates = npy<TestType>::filled({batch, time, heads}, 0);
  gate.log_gates(view<3>(x), tensor_view<TestType, 3>(gates.values.data(), {batch, time, heads}));

  auto bias = npy<TestType>::filled({batch, heads, time, time}, 0);
  forgetting_gates<TestType>({.heads = heads, .direction = forgetting::causal})
      .bias(score_view<TestType>(bias.values.data(), {batch, heads, time, time}),
            attention_inputs<TestType>{.scale = 1.0, .log_gates = view<3>(gates)}, {positions::range(time), positions::range(time)});
  auto expected = load<double>(dynamic + "bias_f64");
  for (index_t b = 0, n = 0; b < batch * heads; ++b)  // theirs is of all pairs
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j, ++n)
        if (j > i) expected.values[static_cast<std::size_t>(n)] = 0;
  // d log f / d logit is about -log f here: an error of a logit near 5 is relative.
  CHECK(relative(bias, expected) <= 16 * rounding<TestType> + 1e-13);
}
