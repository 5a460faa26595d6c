// SPDX-License-Identifier: MIT
/// \file  Scores and contexts with something for each pair of tokens, one pair after the other, in double; and positions to try it at.
#pragma once

#include <posenc/concepts.hpp>
#include <posenc/positions.hpp>

#include <concepts>
#include <cstddef>
#include <limits>
#include <vector>

namespace reference {

/// What storing a number in T may be off by, relative to the next power of two; 0 for those that are computed in.
template <class T>
inline constexpr double storage_rounding = std::same_as<T, Eigen::half>       ? 0x1p-12
                                           : std::same_as<T, Eigen::bfloat16> ? 0x1p-9
                                                                              : 0;

/// score * scale + term(b, head, i, j, key's position minus query's), minus infinity where masked.
std::vector<double> relative_scores(const auto& scores, const posenc::attention_positions& at, const posenc::score_pass& pass,
                                    auto&& term) {
  std::vector<double> all;
  for (std::ptrdiff_t b = 0; b < scores.dimension(0); ++b)
    for (std::ptrdiff_t h = 0; h < scores.dimension(1); ++h)
      for (std::ptrdiff_t i = 0; i < scores.dimension(2); ++i)
        for (std::ptrdiff_t j = 0; j < scores.dimension(3); ++j) {
          const auto query = at.queries(b, i), key = at.keys(b, j);
          const double scaled = static_cast<double>(scores(b, h, i, j)) * pass.scale;
          if (query == posenc::no_position || key == posenc::no_position) all.push_back(scaled);
          else if (pass.causal && key > query) all.push_back(-std::numeric_limits<double>::infinity());
          else all.push_back(scaled + term(b, h, i, j, key - query));
        }
  return all;
}

/// context `[batch, time, head, channel]` + the sum over keys of weight * value(head, key's position minus query's, channel).
std::vector<double> relative_context(const auto& context, const auto& weights, const posenc::attention_positions& at, auto&& value) {
  std::vector<double> all;
  for (std::ptrdiff_t b = 0; b < context.dimension(0); ++b)
    for (std::ptrdiff_t i = 0; i < context.dimension(1); ++i)
      for (std::ptrdiff_t h = 0; h < context.dimension(2); ++h)
        for (std::ptrdiff_t c = 0; c < context.dimension(3); ++c) {
          double sum = static_cast<double>(context(b, i, h, c));
          for (std::ptrdiff_t j = 0; j < weights.dimension(3); ++j) {
            const auto query = at.queries(b, i), key = at.keys(b, j);
            if (query == posenc::no_position || key == posenc::no_position) continue;
            sum += static_cast<double>(weights(b, h, i, j)) * value(h, key - query, c);
          }
          all.push_back(sum);
        }
  return all;
}

/// Of a batch of two: behind a cache, pages with gaps and repeats up to 2^31, rows of their own, and more queries than a block has.
inline std::vector<posenc::attention_positions> relative_cases() {
  using posenc::position, posenc::positions, posenc::no_position;
  constexpr position far = (position{1} << 31) - 1;
  return {{positions::range(4, 9), positions::range(13)},
          {positions::ids(std::vector<position>{5, no_position, far, 3, 4}),
           positions::ids(std::vector<position>{0, 1, 2, no_position, no_position, 9, far - 3, 3, 4, 4, 5, far})},
          {positions::offsets(std::vector<position>{3, 50}, 4),
           positions::ids(std::vector<position>{0, 1, 2, 3, 7, 8, 9, 44, 45, 46, 0, 52, 2, no_position}, 2)},
          {positions::range(67), positions::range(67)}};
}

}  // namespace reference
