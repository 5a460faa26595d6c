// SPDX-License-Identifier: MIT
#include <posenc/relative/gated_bias.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;

constexpr index_t heads_ = 2, channels_ = 5;

template <class S>
gated_bias<S> encoder_of(unsigned seed = 1) {
  gated_bias<S> encoder(
      {.bias = t5_bias_options{heads_, t5_buckets_options{t5_direction::bidirectional, 8, 20}, t5_scores::scaled}, .channels = channels_});
  for (auto& one : encoder.parameters())
    std::ranges::copy(random_vector<S>(seed++, static_cast<index_t>(one.values.size())), one.values.begin());
  return encoder;
}

/// As Hugging Face's WavLM has it: project to 8, view as [2, 4], sum, sigmoid, gate, times the bias of the bucket.
template <class S>
double expected(gated_bias<S>& encoder, const tensor4<S>& x, index_t b, index_t h, index_t i, position query, position key) {
  const auto all = encoder.parameters();
  if (query == no_position || key == no_position) return 0;
  double projected[2][4];
  for (int half = 0; half < 2; ++half)
    for (int k = 0; k < 4; ++k) {
      const auto row = static_cast<std::size_t>(4 * half + k);
      projected[half][k] = static_cast<double>(all[2].values[row]);
      for (index_t c = 0; c < channels_; ++c)
        projected[half][k] +=
            static_cast<double>(all[1].values[row * channels_ + static_cast<std::size_t>(c)]) * static_cast<double>(x(b, i, h, c));
    }
  const auto gate = [&](int half) {
    return 1 / (1 + std::exp(-(projected[half][0] + projected[half][1] + projected[half][2] + projected[half][3])));
  };
  const double g = gate(0) * (gate(1) * static_cast<double>(all[3].values[static_cast<std::size_t>(h)]) - 1) + 2;
  const t5_buckets buckets({t5_direction::bidirectional, 8, 20});
  return g * static_cast<double>(all[0].values[static_cast<std::size_t>(buckets.bucket(key - query) * heads_ + h)]);
}

const attention_positions cases[] = {
    {positions::range(3, 40), positions::range(43)},
    {positions::ids(std::array<position, 4>{5, no_position, position{1} << 31, 5}),
     positions::ids(std::array<position, 5>{0, 5, no_position, (position{1} << 31) - 3, 900})},
    {positions::offsets(std::array{3, 50}, 2), positions::range(70)},
};

}  // namespace

TEMPLATE_TEST_CASE("gated_bias is WavLM's formula pair by pair", "[gated_bias]", float, double) {
  for (const auto& at : cases) {
    auto encoder = encoder_of<TestType>();
    const index_t batch = 2, queries = at.queries.time(), keys = at.keys.time();
    const auto x = random_tensor<tensor4<TestType>>(7, batch, queries, heads_, channels_);
    const auto before = random_tensor<tensor4<TestType>>(8, batch, heads_, queries, keys);
    auto scores = before;
    const attention_inputs<TestType> inputs{.scale = 1.0, .queries = heads(x, axis_order::time_head)};
    encoder.bias(scores, inputs, prepare(encoder, at), {.scale = 0.5, .causal = true});
    double worst = 0;
    for (index_t b = 0; b < batch; ++b)
      for (index_t h = 0; h < heads_; ++h)
        for (index_t i = 0; i < queries; ++i)
          for (index_t j = 0; j < keys; ++j) {
            const position query = at.queries(b, i), key = at.keys(b, j);
            if (query != no_position && key != no_position && key > query) {
              CHECK(scores(b, h, i, j) == -std::numeric_limits<TestType>::infinity());
              continue;
            }
            const double want = static_cast<double>(before(b, h, i, j)) * 0.5 + expected(encoder, x, b, h, i, query, key);
            worst = std::max(worst, std::abs(static_cast<double>(scores(b, h, i, j)) - want));
          }
    CHECK(worst <= 8.0 * channels_ * static_cast<double>(std::numeric_limits<TestType>::epsilon()));

    // A step is a row of the whole, bit for bit, and so are positions given directly.
    auto again = before;
    encoder.bias(again, inputs, at, {.scale = 0.5, .causal = true});
    CHECK(reference::bit_difference(again, scores) == "");
  }
}

TEST_CASE("gated_bias has the same bits in a step as in the whole, and for any part of the batch", "[gated_bias]") {
  const auto encoder = encoder_of<float>();
  const auto x = random_tensor<tensor4<float>>(7, 1, 150, heads_, channels_);
  tensor4<float> whole(1, heads_, 150, 150);
  whole.setZero();
  encode_scores(encoder, whole, attention_inputs<float>{.scale = 1.0, .queries = heads(x, axis_order::time_head)},
                prepare(encoder, {positions::range(150), positions::range(150)}));
  for (const index_t i : {0, 63, 64, 149}) {
    tensor4<float> step(1, heads_, 1, 150);
    step.setZero();
    encoder.bias(step, attention_inputs<float>{.scale = 1.0, .queries = heads(x, axis_order::time_head).slice(i, 1)},
                 attention_positions{positions::range(1, i), positions::range(150)});
    for (index_t h = 0; h < heads_; ++h)
      for (index_t j = 0; j < 150; ++j) REQUIRE(step(0, h, 0, j) == whole(0, h, i, j));
  }
}

TEST_CASE("a gate of constants is T5's bias times a number", "[gated_bias]") {
  gated_bias<double> encoder(
      {.bias = t5_bias_options{heads_, t5_buckets_options{t5_direction::bidirectional, 8, 20}, t5_scores::scaled}, .channels = channels_});
  const auto table = random_vector<double>(3, 8 * heads_);
  std::ranges::copy(table, encoder.parameters()[0].values.begin());
  const t5_bias<double> plain({heads_, t5_buckets_options{t5_direction::bidirectional, 8, 20}, t5_scores::scaled}, table);
  const auto x = random_tensor<tensor4<double>>(7, 1, 6, heads_, channels_);
  tensor4<double> gated(1, heads_, 6, 6), ungated(1, heads_, 6, 6);
  gated.setZero(), ungated.setZero();
  const attention_positions at{positions::range(6), positions::range(6)};
  encoder.bias(gated, attention_inputs<double>{.scale = 1.0, .queries = heads(x, axis_order::time_head)}, at);
  plain.bias(ungated, at);
  // u = r = 1/2 and c = 1: 1/2 (1/2 - 1) + 2 = 1.75
  for (index_t n = 0; n < gated.size(); ++n) CHECK(gated.data()[n] == 1.75 * ungated.data()[n]);
}

TEST_CASE("the gradients of gated_bias are those of finite differences", "[gated_bias]") {
  for (const auto& at : cases) {
    auto encoder = encoder_of<double>();
    const index_t batch = 2, queries = at.queries.time(), keys = at.keys.time();
    auto x = random_tensor<tensor4<double>>(7, batch, queries, heads_, channels_),
         before = random_tensor<tensor4<double>>(8, batch, heads_, queries, keys);
    const auto weights = random_tensor<tensor4<double>>(9, batch, heads_, queries, keys);
    const auto loss = [&] {
      auto scores = before;
      encoder.bias(scores, attention_inputs<double>{.scale = 1.0, .queries = heads(x, axis_order::time_head)}, at, {.scale = 0.5});
      return reference::dot(scores, weights);
    };
    auto d = weights;
    tensor4<double> d_x(batch, queries, heads_, channels_);
    d_x.setConstant(1);
    gradient_buffer<double> d_parameters(encoder.parameters());
    encoder.bias_backward(d, attention_inputs<double>{.scale = 1.0, .queries = heads(x, axis_order::time_head)},
                          {.queries = heads(d_x, axis_order::time_head)}, at, d_parameters.spans(), {.scale = 0.5});
    const auto check = [](std::span<const double> got, const std::vector<double>& want, double start) {
      REQUIRE(got.size() == want.size());
      for (std::size_t n = 0; n < want.size(); ++n) CHECK(std::abs(got[n] - start - want[n]) <= 1e-7 * (1 + std::abs(want[n])));
    };
    std::size_t n = 0;
    for (auto& one : encoder.parameters()) check(d_parameters.spans()[n++], reference::derivatives(one.values, loss, 1e-5), 0);
    check({d_x.data(), static_cast<std::size_t>(d_x.size())},
          reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, 1e-5), 1);
    for (index_t k = 0; k < d.size(); ++k) CHECK(d.data()[k] == 0.5 * weights.data()[k]);
  }
}

TEST_CASE("gated_bias refuses what does not fit, before it writes", "[gated_bias]") {
  using reference::refuses;
  refuses("[gated_bias] channels must be positive but got 0",
          [] { gated_bias<float>({.bias = t5_bias_options::wavlm(2), .channels = 0}); });
  const auto encoder = encoder_of<float>();
  auto x = random_tensor<tensor4<float>>(7, 1, 3, heads_, channels_);
  std::vector<float> memory(1 * heads_ * 3 * 4, 1.0f);
  const score_view<float> scores(memory.data(), {1, heads_, 3, 4});
  const attention_positions at{positions::range(3), positions::range(4)};
  const auto refused = [&](const std::string& text, const score_view<float>& s, const head_view<const float>& q,
                           const attention_positions& where) {
    refuses(memory, "[gated_bias] " + text, [&] { encoder.bias(s, attention_inputs<float>{.scale = 1.0, .queries = q}, where); });
  };
  const auto q = heads(x, axis_order::time_head);
  refused("the queries must be given but got none", scores, {}, at);
  refused("heads must match the encoder but got 2 and 1", score_view<float>(memory.data(), {1, 1, 3, 4}), q, at);
  refused("the queries must be [batch, time, head] of the scores but got [1, 2, 2, 5] and [1, 2, 3, 4]", scores, q.slice(0, 2), at);
  refuses(memory, "[gated_bias queries] time must match the positions but got 3 and 2", [&] {
    encoder.bias(scores, attention_inputs<float>{.scale = 1.0, .queries = q},
                 attention_positions{positions::range(2), positions::range(4)});
  });
  const auto narrow = random_tensor<tensor4<float>>(7, 1, 3, heads_, channels_ - 1);
  refused("channels must match the encoder but got 5 and 4", scores, heads(narrow, axis_order::time_head), at);
  std::vector<float> one(16);
  const std::span<float> spans[] = {one};
  refuses(memory, "[gated_bias] there must be one gradient span per parameter but got 4 and 1", [&] {
    encoder.bias_backward(scores, attention_inputs<float>{.scale = 1.0, .queries = q}, attention_gradients<float>{}, at, spans);
  });
  const std::span<float> four[] = {one, one, one, one};
  refuses(memory, "[gated_bias] gradient spans must have the sizes of the parameters but got 40 and 16", [&] {
    encoder.bias_backward(scores, attention_inputs<float>{.scale = 1.0, .queries = q}, attention_gradients<float>{}, at, four);
  });
}
