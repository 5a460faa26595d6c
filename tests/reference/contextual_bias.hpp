// SPDX-License-Identifier: MIT
/// \file  What encoders of scores that read queries and keys have to write: one pair after the other, in double.
#pragma once

#include <posenc/concepts.hpp>
#include <posenc/positions.hpp>

#include "random.hpp"

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

}  // namespace reference
