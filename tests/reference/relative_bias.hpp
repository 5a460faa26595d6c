// SPDX-License-Identifier: MIT
/// \file  What every bias of positions alone has to do, checked against a formula: bias(head, query, key) in double.
#pragma once

#include <posenc/gradients.hpp>
#include <posenc/positions.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"

#include <unsupported/Eigen/CXX11/Tensor>

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace reference {

using posenc::attention_positions;
using posenc::index_t;
using posenc::no_position;
using posenc::position;
using posenc::positions;
using posenc::score_pass;

template <class S, int Order = Eigen::RowMajor>
using score_tensor = Eigen::Tensor<S, 4, Order>;

struct bias_case {
  attention_positions at;
  index_t batch;
};

/// Ranges, a cache, ids with gaps, repeats and none at all, ids near `far`, rows of different age, several documents.
inline std::vector<bias_case> bias_cases(position far = 2147483647) {
  return {{{positions::range(7), positions::range(7)}, 1},
          {{positions::range(2, 40), positions::range(42)}, 2},
          {{positions::ids(std::array<position, 5>{5, no_position, far, 3, 4}),
            positions::ids(std::array<position, 10>{0, 1, 2, no_position, no_position, 9, far - 7, 3, 4, 5})},
           1},
          {{positions::offsets(std::array{3, 50}, 2), positions::ids(std::array<position, 8>{0, 1, 2, 9, 44, 45, 46, 0}, 2)}, 2},
          {{positions::packed(std::array{0, 2, 5}), positions::packed(std::array{0, 2, 5})}, 1}};
}

template <class S>
std::vector<double> biased(const score_tensor<S>& scores, const attention_positions& at, const score_pass& pass, auto&& bias) {
  std::vector<double> all;
  for (index_t b = 0; b < scores.dimension(0); ++b)
    for (index_t h = 0; h < scores.dimension(1); ++h)
      for (index_t i = 0; i < scores.dimension(2); ++i)
        for (index_t j = 0; j < scores.dimension(3); ++j) {
          const position query = at.queries(b, i), key = at.keys(b, j);
          const bool both = query != no_position && key != no_position;
          const double scaled = static_cast<double>(scores(b, h, i, j)) * pass.scale;
          all.push_back(!both                        ? scaled
                        : pass.causal && key > query ? -std::numeric_limits<double>::infinity()
                                                     : scaled + bias(h, query, key));
        }
  return all;
}

/// Scores biased with positions, with a prepared state, in tiles, query by query, from one tensor to another and column-major: all of the
/// same bits, and those within a relative `tolerance` of the formula.
template <class T, class E>
void check_bias(const E& encoder, double tolerance, auto&& bias, position far = 2147483647) {
  for (const bias_case& one : bias_cases(far))
    for (const score_pass& pass : {score_pass{}, score_pass{.scale = 0.5, .causal = true}}) {
      const attention_positions& at = one.at;
      const index_t batch = one.batch;
      const index_t queries = at.queries.time(), keys = at.keys.time(), heads = encoder.heads();
      score_tensor<float> random = random_tensor<score_tensor<float>>(1, batch, heads, queries, keys);
      const score_tensor<T> before = random.template cast<T>();
      score_tensor<T> scores = before, out(before.dimensions()), prepared = before, tiles = before, steps = before;
      encoder.bias(scores, at, pass);
      INFO(encoder.name() << ", " << queries << " queries, " << keys << " keys" << (pass.causal ? ", causal" : ""));
      const auto expected = biased(before, at, pass, bias);
      index_t wrong = 0;
      for (index_t n = 0; n < scores.size(); ++n) {
        const double got = static_cast<double>(scores.data()[n]), wanted = expected[static_cast<std::size_t>(n)];
        wrong += !(got == wanted || std::abs(got - wanted) <= tolerance * (1 + std::abs(wanted)));
      }
      CHECK(wrong == 0);

      const auto state = encoder.prepare(at);
      encoder.bias(before, out, at, pass);
      encoder.bias(prepared, state, pass);
      for (index_t b = 0; b < batch; ++b)
        for (index_t h = 0; h < heads; ++h)
          for (index_t i = 0; i < queries; i += 3)
            for (index_t j = 0; j < keys; j += 4) {
              const posenc::tensor_view<T, 2> tile(&tiles(b, h, i, j), {std::min<index_t>(3, queries - i), std::min<index_t>(4, keys - j)},
                                                   {keys, 1});
              if (h == 1) encoder.bias_tile(tile, {b, h, i, j}, state, pass);
              else encoder.bias_tile(tile, {b, h, i, j}, at, pass);
            }
      for (index_t i = 0; i < queries; ++i)
        encoder.bias(posenc::score_view<T>(&steps(0, 0, i, 0), {batch, heads, 1, keys}, {heads * queries * keys, queries * keys, keys, 1}),
                     attention_positions{at.queries.slice(i, 1), at.keys}, pass);
      CHECK(bit_difference(out, scores) == "");
      CHECK(bit_difference(prepared, scores) == "");
      CHECK(bit_difference(tiles, scores) == "");
      CHECK(bit_difference(steps, scores) == "");

      score_tensor<T, Eigen::ColMajor> columns(keys, queries, heads, batch);
      std::copy_n(before.data(), before.size(), columns.data());
      encoder.bias(columns, at, pass);
      CHECK(bit_difference(columns, scores) == "");
    }
}

/// The gradient of the sum of weighted biases against central differences, for E in double, and that two rows of a batch add up.
template <class E>
void check_bias_gradient(E encoder, double tolerance, position far = 5000) {
  constexpr double step = 1e-6;
  for (const bias_case& given : bias_cases(far)) {
    const attention_positions& at = given.at;
    const index_t batch = given.batch;
    const score_pass pass{.scale = 0.5, .causal = true};
    const auto weights = random_tensor<score_tensor<double>>(2, batch, encoder.heads(), at.queries.time(), at.keys.time());
    const auto loss = [&] {
      double sum = 0;
      for (index_t b = 0; b < batch; ++b)
        for (index_t h = 0; h < encoder.heads(); ++h)
          for (index_t i = 0; i < at.queries.time(); ++i)
            for (index_t j = 0; j < at.keys.time(); ++j)
              if (at.queries(b, i) != no_position && at.keys(b, j) != no_position && at.keys(b, j) <= at.queries(b, i))
                sum += weights(b, h, i, j) * encoder.value(h, at.queries(b, i), at.keys(b, j));
      return sum;
    };
    posenc::gradient_buffer<double> gradients(encoder.parameters()), twice(encoder.parameters());
    auto d = weights;
    encoder.bias_backward(d, at, gradients.spans(), pass);
    d = weights;
    encoder.bias_backward(d, encoder.prepare(at), twice.spans(), pass);
    d = weights;
    encoder.bias_backward(d, at, twice.spans(), pass);
    std::size_t n = 0;
    for (auto& one : encoder.parameters()) {
      const auto wanted = derivatives(one.values, loss, step);
      for (std::size_t c = 0; c < wanted.size(); ++c) {
        INFO(one.name << "[" << c << "], " << at.keys.time() << " keys");
        CHECK(std::abs(gradients.spans()[n][c] - wanted[c]) <= tolerance * (1 + std::abs(wanted[c])));
        CHECK(twice.spans()[n][c] == 2 * gradients.spans()[n][c]);
      }
      ++n;
    }
    // What leaves is the gradient of the scores.
    std::size_t wrong = 0;
    for (index_t b = 0; b < batch; ++b)
      for (index_t h = 0; h < encoder.heads(); ++h)
        for (index_t i = 0; i < at.queries.time(); ++i)
          for (index_t j = 0; j < at.keys.time(); ++j) {
            const position query = at.queries(b, i), key = at.keys(b, j);
            const bool masked = query != no_position && key != no_position && key > query;
            wrong += d(b, h, i, j) != (masked ? 0 : weights(b, h, i, j) * pass.scale);
          }
    CHECK(wrong == 0);
  }
}

}  // namespace reference
