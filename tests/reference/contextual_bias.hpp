// SPDX-License-Identifier: MIT
/// \file  What encoders of scores that read queries and keys have to write: one pair after the other, in double.
#pragma once

#include <posenc/concepts.hpp>
#include <posenc/executor.hpp>
#include <posenc/positions.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"

#include <unsupported/Eigen/CXX11/Tensor>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace reference {

using posenc::index_t, posenc::position, posenc::no_position, posenc::positions, posenc::attention_positions, posenc::score_pass;

template <class T>
using tensor = Eigen::Tensor<T, 4, Eigen::RowMajor>;

/// Scores `[batch, head, query, key]`, queries and keys `[batch, time, head, channel]`.
template <class T>
struct attention_block {
  tensor<T> scores, queries, keys;

  static attention_block random(const attention_positions& at, index_t batch, index_t heads, index_t key_heads, index_t channels,
                                std::uint64_t seed) {
    attention_block made{{batch, heads, at.queries.time(), at.keys.time()},
                         {batch, at.queries.time(), heads, channels},
                         {batch, at.keys.time(), key_heads, channels}};
    fill(made.scores, seed), fill(made.queries, seed + 1), fill(made.keys, seed + 2);
    return made;
  }
  template <class U>
  attention_block<U> as() const {
    return {scores.template cast<U>(), queries.template cast<U>(), keys.template cast<U>()};
  }
  posenc::attention_inputs<T> inputs(double scale) const {
    return {.scale = scale,
            .queries = posenc::heads(queries, posenc::axis_order::time_head),
            .keys = posenc::heads(keys, posenc::axis_order::time_head)};
  }
};

/// scores * pass.scale + term(head, query's channels, key's channels, query's position, key's position), and minus infinity where masked.
tensor<double> contextual_bias(const attention_block<double>& block, const attention_positions& at, const score_pass& pass, auto&& term) {
  tensor<double> out = block.scores;
  const auto channels = [](const tensor<double>& x, index_t b, index_t t, index_t h) {
    const double* from = &x(b, t, h, 0);
    return std::vector<double>(from, from + x.dimension(3));
  };
  for (index_t b = 0; b < out.dimension(0); ++b)
    for (index_t h = 0; h < out.dimension(1); ++h)
      for (index_t i = 0; i < out.dimension(2); ++i)
        for (index_t j = 0; j < out.dimension(3); ++j) {
          double& score = out(b, h, i, j);
          score *= pass.scale;
          const position query = at.queries(b, i), key = at.keys(b, j);
          if (query == no_position || key == no_position) continue;
          if (pass.causal && key > query) score = -std::numeric_limits<double>::infinity();
          else
            score += term(h, channels(block.queries, b, i, h), channels(block.keys, b, j, h / (out.dimension(1) / block.keys.dimension(2))),
                          query, key);
        }
  return out;
}

/// The sum of weights * scores that are not masked.
inline double unmasked_dot(const tensor<double>& weights, const tensor<double>& scores) {
  double sum = 0;
  for (index_t n = 0; n < scores.size(); ++n)
    if (std::isfinite(scores.data()[n])) sum += weights.data()[n] * scores.data()[n];
  return sum;
}

/// The largest finite magnitude.
inline double size_of(const tensor<double>& x) {
  double size = 0;
  for (index_t n = 0; n < x.size(); ++n)
    if (std::isfinite(x.data()[n])) size = std::fmax(size, std::abs(x.data()[n]));
  return size;
}

/// Positions of queries and keys, and the batch they are of: with a memory, with gaps and repeats and far from 0, and of several rows.
struct placed_block {
  attention_positions at;
  index_t batch;
};
inline std::vector<placed_block> placed_blocks() {
  constexpr position far = std::numeric_limits<std::int32_t>::max();
  return {{{positions::range(5, 7), positions::range(12)}, 1},
          {{positions::range(70, 1), positions::range(70)}, 1},
          {{positions::ids(std::vector{far, no_position, far - 3, far - 3}),
            positions::ids(std::vector{far - 9, no_position, no_position, far - 4, far - 3, far, far, far + 2, far + 9, far - 1})},
           2},
          {{positions::offsets(std::vector{3, 20}, 4),
            positions::ids(std::vector<position>{0, 1, 2, 3, 7, 8, 9, 24, 25, 16, 20, 21, no_position, 23}, 2)},
           2},
          {{positions::ids(std::vector(3, no_position)), positions::range(2)}, 1}};
}

/// With storage of 16 bits the encoder computes in float and rounds once.
template <class T>
void check_storage(const auto& encoder, const placed_block& placed, index_t heads, index_t channels) {
  const auto block = attention_block<float>::random(placed.at, placed.batch, heads, 2, channels, 1).template as<T>();
  const auto widened = block.template as<float>();
  const score_pass pass{.scale = 0.7, .causal = true};
  auto scores = block.scores;
  auto expected = widened.scores;
  encoder.bias(scores, block.inputs(0.3), placed.at, pass);
  encoder.bias(expected, widened.inputs(0.3), placed.at, pass);
  CHECK(bit_difference(scores, tensor<T>(expected.template cast<T>())) == "");
}

/// Scores of 4 heads of 5 channels have the same bits in chunks of `counts` queries (150 together) of one batch row, by threads, and in
/// tensors of the other storage order.
void check_bits(const auto& encoder, const std::vector<index_t>& counts) {
  using namespace posenc;
  const attention_positions at{positions::offsets(std::vector{30, 2}, 150), positions::range(140)};
  const auto block = attention_block<float>::random(at, 2, 4, 2, 5, 1);
  const auto inputs = block.inputs(0.3);
  auto whole = block.scores, threaded = block.scores, parts = block.scores;
  encoder.bias(whole, inputs, at);

  Eigen::ThreadPool pool(3);
  Eigen::ThreadPoolDevice device(&pool, 3);
  encoder.bias(threaded, inputs, at, executor(device));
  CHECK(bit_difference(threaded, whole) == "");

  const auto row = [](const head_view<const float>& x, index_t b) {
    const auto& v = x.by_time();
    return head_view<const float>({&v(b, 0, 0, 0), {1, v.extent(1), v.extent(2), v.extent(3)}, v.strides()});
  };
  index_t from = 0;
  for (const index_t count : counts) {
    for (index_t b = 0; b < 2; ++b) {
      const attention_inputs<float> own{.scale = 0.3, .queries = row(inputs.queries, b).slice(from, count), .keys = row(inputs.keys, b)};
      const score_view<float> some(&parts(b, 0, from, 0), {1, 4, count, 140}, score_view<float>(parts).strides());
      encoder.bias(some, own, attention_positions{positions::range(count, (b == 0 ? 30 : 2) + from), positions::range(140)});
    }
    from += count;
  }
  CHECK(bit_difference(parts, whole) == "");

  Eigen::Tensor<float, 4> scores = block.scores.swap_layout();
  const Eigen::Tensor<float, 4> queries = block.queries.swap_layout(), keys = block.keys.swap_layout();
  const attention_inputs<float> by_columns{
      .scale = 0.3, .queries = heads(queries, axis_order::time_head), .keys = heads(keys, axis_order::time_head)};
  encode_scores(encoder, scores, by_columns, prepare(encoder, at));
  CHECK(bit_difference(scores, whole) == "");

  check_storage<Eigen::half>(encoder, placed_blocks()[3], 4, 5);
  check_storage<Eigen::bfloat16>(encoder, placed_blocks()[3], 4, 5);
}

}  // namespace reference
