// SPDX-License-Identifier: MIT
// Gates per token: on ALiBi's biases of scores `[1, 8, time, time]`, and on codes of embeddings.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/alibi.hpp>
#include <posenc/combine/gated.hpp>
#include <posenc/sinusoidal.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

namespace bench {
namespace {

constexpr index_t heads = 8, batch = 8, channels = 512;

posenc::alibi<float> biases() { return posenc::alibi<float>({.heads = heads, .form = posenc::alibi_form::symmetric}); }
posenc::sinusoidal<float> codes() {
  return posenc::sinusoidal<float>(
      {.dim = channels, .order = posenc::channel_order::interleaved, .exponent_rule = posenc::exponent_rule::vaswani{}});
}
/// Within 1/2 and 1.
float* gates(index_t count) {
  float* const all = buffer<float>(1, count);
  std::transform(all, all + count, all, [](float x) { return std::abs(x); });
  return all;
}

[[gnu::noinline]] void raw_alibi(float* __restrict x, const float* __restrict slopes, const float* query_gates, const float* key_gates,
                                 index_t time) {
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < time; ++i, x += time) {
      const float slope = query_gates ? slopes[h] * query_gates[i] : slopes[h];
      if (key_gates)
        for (index_t j = 0; j < time; ++j) x[j] -= slope * static_cast<float>(std::abs(i - j)) * key_gates[j];
      else
        for (index_t j = 0; j < time; ++j) x[j] -= slope * static_cast<float>(std::abs(i - j));
    }
}

void add_alibi(suite& all, const size_class& size, bool of_queries) {
  const auto time = static_cast<index_t>(std::lround(std::sqrt(size.bytes / (heads * sizeof(float)))));
  const index_t count = heads * time * time;
  const row& one = all.add_row({.path = of_queries ? "gated_alibi_queries_f32" : "gated_alibi_keys_f32",
                                .size = size.name,
                                .shape = shape_text({1, heads, time, time}),
                                .bytes = size.bytes,
                                .moved = 2 * size.bytes,
                                .items = static_cast<double>(count),
                                .other = "alibi"});
  const auto range = posenc::positions::range(time);
  const posenc::attention_positions at{range, range};
  all.add(one, variant::posenc, [=] {
    const posenc::tensor_view<const float, 2> given(gates(time), {1, time});
    posenc::attention_inputs<float> inputs{.scale = 1};
    (of_queries ? inputs.query_gates : inputs.key_gates) = given;
    return [=, x = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), gated = posenc::gated(biases())] {
      gated.bias(x, inputs, at);
    };
  });
  all.add(one, variant::limit, [=] {
    return [x = buffer<float>(0, count), bytes = static_cast<std::size_t>(count) * sizeof(float)] { limits::flip(x, bytes); };
  });
  all.add(one, variant::raw, [=] {
    return [=, x = buffer<float>(0, count), given = gates(time), alibi = biases()] {
      raw_alibi(x, alibi.slopes().data(), of_queries ? given : nullptr, of_queries ? nullptr : given, time);
    };
  });
  all.add(one, variant::other, [=] {
    return [=, x = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), alibi = biases()] { alibi.bias(x, at); };
  });
}

[[gnu::noinline]] void raw_sinusoidal(float* __restrict x, const float* __restrict given, const double* __restrict speeds, index_t time) {
  std::array<float, channels> code;
  for (index_t t = 0; t < time; ++t) {
    for (std::size_t k = 0; k < channels / 2; ++k) {
      const double angle = static_cast<double>(t) * speeds[k];
      code[2 * k] = static_cast<float>(std::sin(angle));
      code[2 * k + 1] = static_cast<float>(std::cos(angle));
    }
    for (index_t b = 0; b < batch; ++b) {
      float* const to = x + (b * time + t) * channels;
      for (std::size_t c = 0; c < channels; ++c) to[c] += given[b * time + t] * code[c];
    }
  }
}

void add_sinusoidal(suite& all, const size_class& size) {
  const index_t time = static_cast<index_t>(size.bytes) / (batch * channels * index_t{sizeof(float)}), count = batch * time * channels;
  const row& one = all.add_row({.path = "gated_sinusoidal_f32",
                                .size = size.name,
                                .shape = shape_text({batch, time, channels}),
                                .bytes = size.bytes,
                                .moved = 2 * size.bytes,
                                .items = static_cast<double>(count),
                                .other = "sinusoidal"});
  const auto at = posenc::positions::range(time);
  all.add(one, variant::posenc, [=] {
    const posenc::tensor_view<const float, 2> given(gates(batch * time), {batch, time});
    return [=, x = posenc::token_view<float>(buffer<float>(0, count), {batch, time, channels}), gated = posenc::gated(codes())] {
      gated.add(x, {.gates = given}, at);
    };
  });
  all.add(one, variant::limit, [=] {
    return [x = buffer<float>(0, count), bytes = static_cast<std::size_t>(count) * sizeof(float)] { limits::flip(x, bytes); };
  });
  all.add(one, variant::raw, [=] {
    std::vector<double> speeds(channels / 2);
    for (std::size_t k = 0; k < speeds.size(); ++k) speeds[k] = std::pow(10000.0, -2 * static_cast<double>(k) / channels);
    return [=, x = buffer<float>(0, count), given = gates(batch * time)] { raw_sinusoidal(x, given, speeds.data(), time); };
  });
  all.add(one, variant::other, [=] {
    return [=, x = posenc::token_view<float>(buffer<float>(0, count), {batch, time, channels}), encoder = codes()] { encoder.add(x, at); };
  });
}

}  // namespace

void add_gated(suite& all) {
  for (const bool of_queries : {true, false})
    for (const size_class& size : all.sizes()) add_alibi(all, size, of_queries);
  for (const size_class& size : all.sizes()) add_sinusoidal(all, size);
}

}  // namespace bench
