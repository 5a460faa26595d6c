// SPDX-License-Identifier: MIT
/// \file  A small attention block in double that takes any encoder, with a call at each of the four stages.
#pragma once

#include <posenc/concepts.hpp>

#include "random.hpp"

#include <cmath>
#include <cstdint>

struct attention_block {
  using tokens = Eigen::Tensor<double, 3, Eigen::RowMajor>;  // [batch, time, channel]
  using matrix = Eigen::Tensor<double, 2, Eigen::RowMajor>;
  using scores4 = Eigen::Tensor<double, 4, Eigen::RowMajor>;

  std::ptrdiff_t heads, channels;  // of each head
  bool causal = false;             // by positions
  tokens log_gates{};              // [batch, time, head], of encoders that forget
  matrix gates{};                  // [batch, time], of embeddings, queries and keys

  /// The context [batch, time, heads * channels] of x [batch, time, heads * channels], all of whose tokens attend to one another.
  template <posenc::position_encoder E>
  tokens operator()(const E& encoder, tokens x, const posenc::positions& at) const {
    using namespace posenc;
    const index_t batch = x.dimension(0), time = x.dimension(1), width = heads * channels;
    encode_embeddings(encoder, x, {.gates = gates}, at);

    tokens q = project(x, 1), k = project(x, 2), v = project(x, 3);
    const auto heads_of = [&](auto& tensor) { return split_heads(tensor, {.heads = heads, .channels = channels}); };
    const auto state = prepare(encoder, attention_positions{at, at});
    encode_queries_keys(encoder, heads_of(q), heads_of(k), state);

    const double scale = score_scale(encoder, channels);
    scores4 scores(batch, heads, time, time);
    for_each(scores, [&](index_t b, index_t h, index_t i, index_t j) {
      double sum = 0;
      for (index_t c = 0; c < channels; ++c) sum += heads_of(q)(b, i, h, c) * heads_of(k)(b, j, h, c);
      return scale * sum;
    });
    const attention_inputs<double> inputs{.scale = scale,
                                          .queries = heads_of(q),
                                          .keys = heads_of(k),
                                          .causal = causal,
                                          .log_gates = log_gates,
                                          .values = heads_of(v),
                                          .query_gates = gates,
                                          .key_gates = gates};
    encode_scores(encoder, scores, inputs, state);
    for_each(scores, [&](index_t b, index_t h, index_t i, index_t j) {
      const bool counts = at(b, j) != no_position && !(causal && at(b, j) > at(b, i));
      return counts ? std::exp(scores(b, h, i, j)) : 0.0;
    });

    tokens context(batch, time, width);
    context.setZero();
    for (index_t b = 0; b < batch; ++b)
      for (index_t h = 0; h < heads; ++h)
        for (index_t i = 0; i < time; ++i) {
          double sum = 0;
          for (index_t j = 0; j < time; ++j) sum += scores(b, h, i, j);
          for (index_t j = 0; j < time; ++j) {
            scores(b, h, i, j) /= sum;
            for (index_t c = 0; c < channels; ++c) heads_of(context)(b, i, h, c) += scores(b, h, i, j) * heads_of(v)(b, j, h, c);
          }
        }
    encode_context(encoder, heads_of(context), scores, inputs, state);
    return context;
  }

 private:
  tokens project(const tokens& x, std::uint64_t seed) const {
    const std::ptrdiff_t width = x.dimension(2);
    const matrix weights = random_tensor<matrix>(seed, width, width);
    const Eigen::array<Eigen::IndexPair<Eigen::Index>, 1> over_channels{Eigen::IndexPair<Eigen::Index>(2, 0)};
    return x.contract(weights, over_channels);
  }
  static void for_each(scores4& scores, auto&& value) {
    for (std::ptrdiff_t b = 0; b < scores.dimension(0); ++b)
      for (std::ptrdiff_t h = 0; h < scores.dimension(1); ++h)
        for (std::ptrdiff_t i = 0; i < scores.dimension(2); ++i)
          for (std::ptrdiff_t j = 0; j < scores.dimension(3); ++j) scores(b, h, i, j) = value(b, h, i, j);
  }
};
