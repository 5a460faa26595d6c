// SPDX-License-Identifier: MIT
// Forgetting gates on attention scores `[1, 8, time, time]`, beside ALiBi, which adds the same where gates are constant.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/alibi.hpp>
#include <posenc/conditional/forgetting_gates.hpp>
#include <posenc/conditional/row_forgetting_gates.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

namespace bench {
namespace {

constexpr index_t heads = 8, channels = 8;
constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

index_t time_of(const size_class& size) { return static_cast<index_t>(std::lround(std::sqrt(size.bytes / (heads * sizeof(float))))); }

/// `[1, time, head]`, between -1 and 0.
std::vector<float> random_gates(index_t time) {
  std::vector<float> gates(static_cast<std::size_t>(time * heads));
  for (std::size_t n = 0; n < gates.size(); ++n) gates[n] = -static_cast<float>(n * 2654435761u % 1024) / 1024;
  return gates;
}

/// As one would write it: sums in float, and a difference per pair.
[[gnu::noinline]] void raw_forgetting(float* __restrict x, const float* __restrict gates, float* __restrict sums, index_t time, float scale,
                                      bool causal) {
  for (index_t h = 0; h < heads; ++h) {
    float sum = 0;
    for (index_t t = 0; t < time; ++t) sums[t] = sum += gates[t * heads + h];
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j, ++x) {
        if (j <= i) *x = *x * scale + (sums[i] - sums[j]);
        else if (causal) *x = minus_infinity;
      }
  }
}

// The second pass undoes a scale of -1, where a smaller one would lead to subnormal scores.
struct forgetting_case {
  const char* path;
  posenc::score_pass pass;
  bool from_sums;
};

void add_forgetting_bias(suite& all, const forgetting_case& what, const size_class& size) {
  const index_t time = time_of(size), count = heads * time * time;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  const row& one =
      all.add_row({.path = what.path,
                   .size = size.name,
                   .shape = shape_text({1, heads, time, time}),
                   .bytes = size.bytes,
                   .moved = 2 * size.bytes,
                   .items = static_cast<double>(count),
                   .other = "alibi",
                   .goals = {{0.62, measure::other, "512KB"}, {0.62, measure::other, "8MB"}, {0.87, measure::other, "134MB"}}});
  const auto range = posenc::positions::range(time);
  const posenc::attention_positions at{range, range};
  all.add(one, variant::posenc, [=, pass = what.pass, from_sums = what.from_sums] {
    const auto gates = random_gates(time);
    posenc::cumulative_gates sums(1, heads, time);
    sums.append(posenc::tensor_view<const float, 3>(gates.data(), {1, time, heads}), range);
    const posenc::forgetting_gates<float> encoder({.heads = heads, .direction = posenc::forgetting::causal});
    return [=, x = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), spans = encoder.prepare(at)] {
      const posenc::tensor_view<const float, 3> log_gates(gates.data(), {1, time, heads});
      if (from_sums) encoder.bias(x, sums, spans, pass);
      else encoder.bias(x, posenc::attention_inputs<float>{.scale = 1.0, .log_gates = log_gates}, spans, pass);
    };
  });
  all.add(one, variant::limit, [=] { return [=, x = buffer<float>(0, count)] { limits::flip(x, bytes); }; });
  all.add(one, variant::raw, [=, scale = static_cast<float>(what.pass.scale), causal = what.pass.causal] {
    return
        [=, x = buffer<float>(0, count), gates = random_gates(time), sums = std::vector<float>(static_cast<std::size_t>(time))]() mutable {
          raw_forgetting(x, gates.data(), sums.data(), time, scale, causal);
        };
  });
  all.add(one, variant::other, [=, pass = what.pass] {
    return [=, x = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}),
            encoder = posenc::alibi<float>({.heads = heads, .form = posenc::alibi_form::causal})] { encoder.bias(x, at, pass); };
  });
}

void add_forgetting_backward(suite& all, const size_class& size) {
  const index_t time = time_of(size), count = heads * time * time;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  const row& one = all.add_row({.path = "forgetting_backward_f32",
                                .size = size.name,
                                .shape = shape_text({1, heads, time, time}),
                                .bytes = size.bytes,
                                .moved = size.bytes,
                                .items = static_cast<double>(count),
                                .other = "alibi's"});
  const auto range = posenc::positions::range(time);
  const posenc::attention_positions at{range, range};
  all.add(one, variant::posenc, [=] {
    return [=, d = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), gates = random_gates(time),
            d_gates = std::vector<float>(static_cast<std::size_t>(time * heads)),
            encoder = posenc::forgetting_gates<float>({.heads = heads, .direction = posenc::forgetting::causal})]() mutable {
      const posenc::tensor_view<const float, 3> log_gates(gates.data(), {1, time, heads});
      encoder.bias_backward(d, posenc::attention_inputs<float>{.scale = 1.0, .log_gates = log_gates},
                            {.log_gates = posenc::tensor_view<float, 3>(d_gates.data(), {1, time, heads})}, at, {});
    };
  });
  all.add(one, variant::limit, [=] { return [=, d = buffer<float>(0, count)] { limits::read(d, bytes); }; });
  all.add(one, variant::other, [=] {
    return [=, d = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), d_slopes = std::vector<float>(heads),
            encoder = posenc::alibi<float>({.heads = heads, .form = posenc::alibi_form::causal})]() mutable {
      const std::span<float> gradients[] = {d_slopes};
      encoder.bias_backward(d, at, gradients);
    };
  });
}

/// Each query's own gates: per pair a product of 8 channels, a logarithm of a sigmoid, and a sum.
[[gnu::noinline]] void raw_rows(float* __restrict x, const float* __restrict q, const float* __restrict k, index_t time) {
  const float scale = 1 / std::sqrt(static_cast<float>(channels));
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < time; ++i) {
      float sum = 0;
      for (index_t j = i; j-- > 0;) {
        float product = 0;
        for (index_t c = 0; c < channels; ++c) product += q[(i * heads + h) * channels + c] * k[(j * heads + h) * channels + c];
        product *= scale;
        sum += std::min(product, 0.0f) - std::log1p(std::exp(-std::abs(product)));
        x[(h * time + i) * time + j] += sum;
      }
    }
}

void add_row_forgetting(suite& all, const size_class& size) {
  const index_t time = time_of(size), count = heads * time * time, tokens = time * heads * channels;
  const row& one = all.add_row({.path = "row_forgetting_f32",
                                .size = size.name,
                                .shape = shape_text({1, heads, time, time}),
                                .bytes = size.bytes,
                                .moved = 2 * size.bytes,
                                .items = static_cast<double>(count)});
  const auto range = posenc::positions::range(time);
  const posenc::attention_positions at{range, range};
  all.add(one, variant::posenc, [=] {
    const auto view = [=](float* from) {
      return posenc::head_view<float>(posenc::tensor_view<float, 4>(from, {1, time, heads, channels}));
    };
    return [=, x = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), q = view(buffer<float>(1, tokens)),
            k = view(buffer<float>(2, tokens)), encoder = posenc::row_forgetting_gates<float>({.heads = heads, .channels = channels})] {
      encoder.bias(x, posenc::attention_inputs<float>{.scale = 1.0, .queries = q, .keys = k}, at);
    };
  });
  all.add(one, variant::raw, [=] {
    return [=, x = buffer<float>(0, count), q = buffer<float>(1, tokens), k = buffer<float>(2, tokens)] { raw_rows(x, q, k, time); };
  });
}

}  // namespace

void add_forgetting(suite& all) {
  const forgetting_case cases[] = {{"forgetting_f32", {}, false},
                                   {"forgetting_f32_scale_mask", {.scale = -1, .causal = true}, false},
                                   {"forgetting_f32_scale_mask_from_sums", {.scale = -1, .causal = true}, true}};
  for (const forgetting_case& what : cases)
    for (const size_class& size : all.sizes()) add_forgetting_bias(all, what, size);
  for (const size_class& size : all.sizes()) add_forgetting_backward(all, size);
  for (const size_class& size : all.sizes())
    if (size.factor <= 16) add_row_forgetting(all, size);
}

}  // namespace bench
