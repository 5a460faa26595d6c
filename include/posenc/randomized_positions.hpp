// SPDX-License-Identifier: MIT
/// \file  Positions drawn at random, so that a model trained on short sequences has met the positions of long ones.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/tensor.hpp>  // checked_product

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// For each row, `time` different numbers of [0, length) in ascending order, every choice of them equally likely (Ruoss et al. 2023,
/// "Randomized Positional Encodings Boost Length Generalization of Transformers"). Floyd's way of drawing: one number per token.
/// \param batch  0: one row, shared by all batch rows.
/// \throws argument_error  unless 0 <= time <= length <= 2^62.
inline positions randomized_positions(index_t time, position length, index_t batch, random_source& random) {
  constexpr std::string_view who = "randomized positions";
  require(length >= 0 && length <= positions::limit, who, "length must lie in [0, 2^62]", length);
  require(time >= 0 && time <= length, who, "time must lie in [0, length]", time, length);
  require(batch >= 0, who, "batch must not be negative", batch);
  const index_t rows = std::max<index_t>(batch, 1);
  std::vector<position> ids;
  ids.reserve(static_cast<std::size_t>(checked_product(who, std::array{rows, time}, sizeof(position))));
  for (index_t b = 0; b < rows; ++b) {
    std::set<position> drawn;
    for (position bound = length - time; bound < length; ++bound)
      if (!drawn.insert(static_cast<position>(random.below(static_cast<std::uint64_t>(bound) + 1))).second) drawn.insert(bound);
    ids.insert(ids.end(), drawn.begin(), drawn.end());
  }
  return positions::multi_axis(ids, 1, batch);
}

}  // namespace POSENC_NAMESPACE
