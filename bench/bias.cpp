// SPDX-License-Identifier: MIT
// Biases on attention scores `[1, 8, time, time]`.
#include "bench.hpp"
#include "limits.hpp"
#include "threads.hpp"

#include <posenc/alibi.hpp>
#include <posenc/relative/relative_bias_verbs.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <span>
#include <string_view>
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
  std::vector<goal> goals{};
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
                                .moved = 2 * size.bytes, .items = static_cast<double>(count), .other = "ready table",
                                .goals = what.goals});

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

/// The gradient of scores and slopes; without a scale or mask, that of the scores is what came in and stays.
[[gnu::noinline]] void raw_backward(float* __restrict d, double* __restrict d_slopes, index_t time, const posenc::score_pass& pass) {
  const auto scale = static_cast<float>(pass.scale);
  for (index_t h = 0; h < heads; ++h) {
    double sum = 0;
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j, ++d) {
        if (j <= i) sum -= static_cast<double>(*d) * static_cast<double>(i - j);
        if (pass.causal || scale != 1) *d = pass.causal && j > i ? 0.0f : *d * scale;
      }
    d_slopes[h] += sum;
  }
}

/// \param what  whose gradient.
void add_alibi_backward(suite& all, const alibi_case& what, const char* path, const size_class& size) {
  const auto time = static_cast<index_t>(std::lround(std::sqrt(size.bytes / (heads * sizeof(float)))));
  const index_t count = heads * time * time;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  const bool writes = what.pass.causal || what.pass.scale != 1;
  const row& one = all.add_row({.path = path, .size = size.name, .shape = shape_text({1, heads, time, time}), .bytes = size.bytes,
                                .moved = (writes ? 2 : 1) * size.bytes, .items = static_cast<double>(count), .other = "forward",
                                .goals = {{0.95, measure::other}}});

  const auto range = posenc::positions::range(time);
  const posenc::attention_positions at{range, range};
  all.add(one, variant::posenc, [=, pass = what.pass] {
    return [=, d = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), alibi = encoder(),
            d_slopes = std::vector<float>(heads)]() mutable {
      const std::span<float> gradients[] = {d_slopes};
      alibi.bias_backward(d, at, gradients, pass);
    };
  });
  all.add(one, variant::other, [=, pass = what.pass] {
    return [=, x = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), alibi = encoder()] {
      alibi.bias(x, at, pass);
    };
  });
  all.add(one, variant::limit, [=] {
    return [=, d = buffer<float>(0, count)] { writes ? limits::flip(d, bytes) : limits::read(d, bytes); };
  });
  all.add(one, variant::raw, [=, pass = what.pass] {
    return [=, d = buffer<float>(0, count), d_slopes = std::vector<double>(heads)]() mutable {
      raw_backward(d, d_slopes.data(), time, pass);
    };
  });
}

/// A bias per distance, ready before the pass: what T5 and its like come down to, where every distance of the scores has a value.
struct distance_encoder : posenc::relative_bias_verbs<distance_encoder, float> {
  std::vector<float> unused = std::vector<float>(bench::heads);

  static constexpr std::string_view name() noexcept { return "distance_bias"; }
  static constexpr index_t heads() noexcept { return bench::heads; }
  static float of(index_t head, posenc::position distance) { return 1e-12f * static_cast<float>((head + distance) % 7); }
  void biases(index_t head, index_t count_of_heads, posenc::position query, const posenc::position* keys, index_t count, float* out,
              index_t stride) const {
    for (index_t h = 0; h < count_of_heads; ++h)
      for (index_t n = 0; n < count; ++n) out[h * stride + n] = of(head + h, keys[n] - query);
  }
  void add_gradient(posenc::position, const posenc::position*, index_t count, const double* d, index_t stride, double* sums) const {
    for (index_t h = 0; h < heads(); ++h) sums[h] += d[h * stride + count / 2];
  }
  std::vector<posenc::parameter<float>> parameters() { return {{"unused", unused, {heads()}}}; }
  friend bool operator==(const distance_encoder&, const distance_encoder&) = default;
};

/// `[head, distance]`, distances from 1 - time on.
std::vector<float> distance_values(index_t time) {
  std::vector<float> values;
  for (index_t h = 0; h < heads; ++h)
    for (index_t distance = 1 - time; distance < time; ++distance) values.push_back(distance_encoder::of(h, distance));
  return values;
}

[[gnu::noinline]] void raw_distances(float* __restrict x, const float* __restrict values, index_t time) {
  for (index_t h = 0; h < heads; ++h, values += 2 * time - 1)
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j, ++x) *x += values[j - i + time - 1];
}
[[gnu::noinline]] void raw_distances_backward(const float* __restrict d, double* __restrict d_values, index_t time) {
  for (index_t h = 0; h < heads; ++h, d_values += 2 * time - 1)
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j, ++d) d_values[j - i + time - 1] += static_cast<double>(*d);
}
/// What frameworks do: a bucket per pair, a value per bucket and head into a tensor of the size of the scores, and an addition.
[[gnu::noinline]] void gather_then_add(float* __restrict x, float* __restrict table, const float* __restrict values,
                                       const index_t* __restrict buckets, index_t time, std::size_t bytes) {
  float* to = table;
  for (index_t h = 0; h < heads; ++h, values += 2 * time - 1)
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j) *to++ = values[buckets[j - i + time - 1]];
  limits::add(x, table, bytes);
}

/// \param gather  beside gathering a full table in the pass, or else beside adding a ready one.
void add_distances(suite& all, const char* path, bool gather, std::vector<goal> goals, const size_class& size) {
  const auto time = static_cast<index_t>(std::lround(std::sqrt(size.bytes / (heads * sizeof(float)))));
  const index_t count = heads * time * time;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  const row& one = all.add_row({.path = path, .size = size.name, .shape = shape_text({1, heads, time, time}), .bytes = size.bytes,
                                .moved = 2 * size.bytes, .items = static_cast<double>(count),
                                .other = gather ? "gather, add" : "ready table", .goals = std::move(goals)});

  const auto range = posenc::positions::range(time);
  const posenc::attention_positions at{range, range};
  all.add(one, variant::posenc, [=] {
    return [x = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), distances = distance_encoder(),
            ready = distance_encoder().prepare(at)] { distances.bias(x, ready); };
  });
  all.add(one, variant::limit, [=] { return [=, x = buffer<float>(0, count)] { limits::flip(x, bytes); }; });
  all.add(one, variant::raw, [=] {
    return [=, x = buffer<float>(0, count), values = distance_values(time)] { raw_distances(x, values.data(), time); };
  });
  all.add(one, variant::other, [=] {
    float* const table = buffer<float>(1, count);
    std::fill_n(table, count, 1e-12f);
    std::vector<index_t> buckets(static_cast<std::size_t>(2 * time - 1));
    std::iota(buckets.begin(), buckets.end(), index_t{0});
    return [=, x = buffer<float>(0, count), values = distance_values(time)] {
      gather ? gather_then_add(x, table, values.data(), buckets.data(), time, bytes) : limits::add(x, table, bytes);
    };
  });
}

void add_distances_backward(suite& all, const size_class& size) {
  const auto time = static_cast<index_t>(std::lround(std::sqrt(size.bytes / (heads * sizeof(float)))));
  const index_t count = heads * time * time;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  const row& one = all.add_row({.path = "distance_bias_backward_f32", .size = size.name, .shape = shape_text({1, heads, time, time}),
                                .bytes = size.bytes, .moved = size.bytes, .items = static_cast<double>(count),
                                .goals = {{0.7, measure::limit}}});

  const auto range = posenc::positions::range(time);
  const posenc::attention_positions at{range, range};
  all.add(one, variant::posenc, [=] {
    return [=, d = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), distances = distance_encoder(),
            sums = std::vector<float>(bench::heads)]() mutable {
      const std::span<float> gradients[] = {sums};
      distances.bias_backward(d, at, gradients);
    };
  });
  all.add(one, variant::limit, [=] { return [=, d = buffer<float>(0, count)] { limits::read(d, bytes); }; });
  all.add(one, variant::raw, [=] {
    return [=, d = buffer<float>(0, count), d_values = std::vector<double>(static_cast<std::size_t>(heads * (2 * time - 1)))]() mutable {
      raw_distances_backward(d, d_values.data(), time);
    };
  });
}

void add_alibi_threads(suite& all, const size_class& size) {
  const auto time = static_cast<index_t>(std::lround(std::sqrt(size.bytes / (heads * sizeof(float)))));
  const index_t count = heads * time * time;
  const row& one = all.add_row({.path = "alibi_f32_2_threads", .size = size.name, .shape = shape_text({1, heads, time, time}),
                                .bytes = size.bytes, .moved = 2 * size.bytes, .items = static_cast<double>(count), .other = "one thread",
                                .real_time = true,
                                .goals = {{1, measure::other, "512KB"}, {1.6, measure::other, "8MB"}, {1, measure::other, "134MB"}}});

  const auto range = posenc::positions::range(time);
  for (const auto kind : {variant::posenc, variant::other})
    all.add(one, kind, [=] {
      const auto threads = kind == variant::posenc ? std::make_shared<two_threads>() : nullptr;
      const posenc::executor run = threads ? posenc::executor(threads->device) : posenc::executor();
      // The pool is captured by name: [=] leaves out what the body does not mention.
      return [=, pool = threads, x = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), alibi = encoder(),
              at = posenc::attention_positions{range, range}] { alibi.bias(x, at, run); };
    });
}

}  // namespace

void add_biases(suite& all) {
  const alibi_case plain{"alibi_f32", {}, {{0.8, measure::limit, "512KB"}, {0.95, measure::limit, "134MB"}}};
  const alibi_case scale_mask{"alibi_f32_scale_mask", {.scale = -1, .causal = true}};
  for (const size_class& size : all.sizes()) add_alibi(all, plain, size);
  for (const size_class& size : all.sizes()) add_alibi(all, scale_mask, size);
  for (const size_class& size : all.sizes()) add_alibi_backward(all, plain, "alibi_backward_f32", size);
  for (const size_class& size : all.sizes()) add_alibi_backward(all, scale_mask, "alibi_backward_f32_scale_mask", size);
  for (const size_class& size : all.sizes()) add_alibi_threads(all, size);
  const std::vector<goal> ready_goals{{0.65, measure::limit, "512KB"}, {1.3, measure::other, "512KB"}, {0.9, measure::limit, "134MB"}};
  for (const size_class& size : all.sizes()) add_distances(all, "distance_bias_f32", false, ready_goals, size);
  for (const size_class& size : all.sizes()) add_distances(all, "distance_bias_f32_gather", true, {{3, measure::other}}, size);
  for (const size_class& size : all.sizes()) add_distances_backward(all, size);
}

}  // namespace bench
