// SPDX-License-Identifier: MIT
// CoPE's counted positions, for scores `[1, 8, time, time]` that all count: gates half open, which soon reach the last position, and nearly
// closed ones, all of which are counted.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/conditional/cope.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>

namespace bench {
namespace {

constexpr index_t heads = 8, channels = 64, positions = 64;

posenc::cope<float> encoder() {
  posenc::cope<float> made({.heads = heads,
                            .channels = channels,
                            .max_positions = positions,
                            .gates = posenc::cope_gates::scores,
                            .bias = posenc::cope_bias::unscaled});
  const float* const random = buffer<float>(1, positions * channels);
  // So small that pass after pass leaves the gates as they are.
  std::transform(random, random + positions * channels, made.parameters()[0].values.begin(), [](float x) { return x * 1e-9f; });
  return made;
}
/// Scores between -1 and 1, or around -6.
float* scores(index_t count, bool closed) {
  float* const x = buffer<float>(0, count);
  if (closed) std::transform(x, x + count, x, [](float value) { return value - 6; });
  return x;
}

[[gnu::noinline]] void raw_cope(float* __restrict scores, const float* __restrict q, const float* __restrict embeddings, index_t time) {
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < time; ++i, scores += time) {
      float z[positions + 1];
      for (index_t p = 0; p < positions; ++p) {
        float sum = 0;
        for (index_t c = 0; c < channels; ++c) sum += q[(i * heads + h) * channels + c] * embeddings[p * channels + c];
        z[p] = sum;
      }
      z[positions] = z[positions - 1];
      float sum = 0;
      for (index_t j = time; j-- > 0;) {
        sum += 1 / (1 + std::exp(-scores[j]));
        const float p = std::min(sum, static_cast<float>(positions - 1));
        const auto below = static_cast<index_t>(p);
        const float part = p - static_cast<float>(below);
        scores[j] += z[below] * (1 - part) + z[below + 1] * part;
      }
    }
}

void add_cope(suite& all, const size_class& size, bool closed) {
  const auto time = static_cast<index_t>(std::lround(std::sqrt(size.bytes / (heads * sizeof(float)))));
  const index_t count = heads * time * time, rows = time * heads * channels;
  const row& one = all.add_row({.path = closed ? "cope_closed_f32" : "cope_f32",
                                .size = size.name,
                                .shape = shape_text({1, heads, time, time}),
                                .bytes = size.bytes,
                                .moved = 2 * size.bytes,
                                .items = static_cast<double>(count)});
  all.add(one, variant::posenc, [=] {
    const auto range = posenc::positions::range(time);
    return [x = posenc::score_view<float>(scores(count, closed), {1, heads, time, time}), cope = encoder(),
            q = posenc::head_view<float>(posenc::tensor_view<float, 4>(buffer<float>(2, rows), {1, time, heads, channels})),
            at = posenc::attention_positions{range, range}] {
      cope.bias(x, posenc::attention_inputs<float>{.scale = 0.125, .queries = q}, at);
    };
  });
  all.add(one, variant::limit, [=] {
    return [x = buffer<float>(0, count), bytes = static_cast<std::size_t>(count) * sizeof(float)] { limits::flip(x, bytes); };
  });
  if (size.factor > 16) return;  // the loop takes seconds
  all.add(one, variant::raw, [=] {
    return [x = scores(count, closed), q = buffer<float>(2, rows), cope = encoder(), time]() mutable {
      raw_cope(x, q, cope.parameters()[0].values.data(), time);
    };
  });
}

}  // namespace

void add_copes(suite& all) {
  for (const bool closed : {false, true})
    for (const size_class& size : all.sizes()) add_cope(all, size, closed);
}

}  // namespace bench
