// SPDX-License-Identifier: MIT
// Biases on attention scores `[1, 8, time, time]`.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/alibi.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace bench {
namespace {

constexpr index_t heads = 8;
constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

using scores = Eigen::TensorMap<Eigen::Tensor<float, 4, Eigen::RowMajor>>;

// The second pass undoes a scale of -1, where a smaller one would lead to subnormal scores.
struct alibi_case {
  const char* path;
  posenc::score_pass pass;
};

posenc::alibi<float> encoder() { return posenc::alibi<float>({.heads = heads, .form = posenc::alibi_form::causal}); }

void add_bias(float* x, index_t time, const posenc::score_pass& pass) {
  const auto at = posenc::positions::range(time);
  encoder().bias(posenc::score_view<float>(x, {1, heads, time, time}), {at, at}, pass);
}

[[gnu::noinline]] void raw_bias(float* __restrict x, const float* __restrict slopes, index_t time) {
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j, ++x) *x -= slopes[h] * static_cast<float>(std::max<index_t>(i - j, 0));
}

[[gnu::noinline]] void raw_bias_scale_mask(float* __restrict x, const float* __restrict slopes, index_t time, float scale) {
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j, ++x) *x = j > i ? minus_infinity : *x * scale - slopes[h] * static_cast<float>(i - j);
}

void add_alibi(suite& all, const alibi_case& what, const size_class& size) {
  const auto time = static_cast<index_t>(std::lround(std::sqrt(size.bytes / (heads * sizeof(float)))));
  const index_t count = heads * time * time;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  const auto [scale, causal] = what.pass;
  const auto pass = what.pass;
  const row& one = all.add_row({.path = what.path, .size = size.name, .shape = shape_text({1, heads, time, time}), .bytes = size.bytes,
                                .moved = 2 * size.bytes, .items = static_cast<double>(count), .other = "ready table"});

  all.add(one, variant::posenc, [=] {
    const auto range = posenc::positions::range(time);
    return [pass, x = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), alibi = encoder(),
            at = posenc::attention_positions{range, range}] { alibi.bias(x, at, pass); };
  });
  all.add(one, variant::limit, [=] { return [=, x = buffer<float>(0, count)] { limits::flip(x, bytes); }; });
  all.add(one, variant::raw, [=, scale = static_cast<float>(scale), causal = causal] {
    return [=, x = buffer<float>(0, count), alibi = encoder()] {
      const float* slopes = alibi.slopes().data();
      if (causal) raw_bias_scale_mask(x, slopes, time, scale);
      else raw_bias(x, slopes, time);
    };
  });
  all.add(one, variant::other, [=, causal = causal] {  // of the size of the scores; it can hold the mask, but not scale
    float* const table = buffer<float>(1, count);
    std::fill_n(table, count, 0.0f);
    add_bias(table, time, {.causal = causal});
    return [=, x = buffer<float>(0, count)] { limits::add(x, table, bytes); };
  });
  if (size.factor == 1)
    all.add(one, variant::eigen, [=, scale = static_cast<float>(scale), causal = causal] {
      using tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
      tensor slopes(1, heads, 1, 1), distances(1, 1, time, time);
      std::ranges::copy(encoder().slopes(), slopes.data());
      for (index_t i = 0; i < time; ++i)
        for (index_t j = 0; j < time; ++j) distances(0, 0, i, j) = static_cast<float>(j > i ? (causal ? 1 : 0) : j - i);
      return [=, x = scores(buffer<float>(0, count), 1, heads, time, time)]() mutable {
        const std::array<index_t, 4> over_heads{1, heads, 1, 1}, over_scores{1, 1, time, time};
        const auto bias = slopes.broadcast(over_scores) * distances.broadcast(over_heads);
        if (causal)
          x = (distances.broadcast(over_heads) > 0.0f).select(x.constant(minus_infinity), x * scale + bias);
        else
          x += bias;
      };
    });
}

}  // namespace

void add_biases(suite& all) {
  for (const size_class& size : all.sizes()) add_alibi(all, {"alibi_f32", {}}, size);
  for (const size_class& size : all.sizes()) add_alibi(all, {"alibi_f32_scale_mask", {.scale = -1, .causal = true}}, size);
}

}  // namespace bench
