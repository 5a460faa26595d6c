// SPDX-License-Identifier: MIT
/// \file  Where tokens stand in CAPE: centred, and in training shifted and stretched at random. Likhomanenko, Xu, Synnaeve, Collobert,
/// Rogozhnikov 2021, "CAPE: Encoding Relative Positions with Continuous Augmented Positional Embeddings".
#pragma once

#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/grid.hpp>
#include <posenc/grid_coordinates.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// How positions become coordinates.
struct cape_options {
  double positions_delta = 1;  ///< from one position to the next: 0.03 s for frames of speech
  bool normalize = true;       ///< less the mean over the tokens of the row that have a position; not so for text in gcambara/cape
  double freq_scale = 1;       ///< multiplies all: 30 for speech in seconds
};

/// How far coordinates are moved in training. The defaults leave them as they are; text in gcambara/cape has 5, 1/2 and 1.03.
struct cape_augmentation {
  double max_global_shift = 0;    ///< G >= 0, of a row: 60 s for speech
  double max_local_shift = 0;     ///< l >= 0, of a token, in steps from one position to the next: up to 1/2, tokens keep their order
  double max_global_scaling = 1;  ///< s >= 1, of a row: 1.1 for speech
};

namespace detail {

/// (x + U(-G, G) + step U(-l, l)) exp(U(-ln s, ln s)) of `[axis, row, time]`. Draws for each row: the global shifts of its axes, its
/// scaling, then the local shifts of its tokens, axis by axis, of tokens without a position, too.
inline void augment_cape(std::vector<double>& values, index_t axes, index_t rows, index_t time, const std::vector<double>& step,
                         const cape_augmentation& by, random_source& random) {
  for (index_t b = 0; b < rows; ++b) {
    std::vector<double> shift(static_cast<std::size_t>(axes));
    for (double& one : shift) one = random.uniform(-by.max_global_shift, by.max_global_shift);
    const double largest = std::log(by.max_global_scaling), scaling = std::exp(random.uniform(-largest, largest));
    for (index_t t = 0; t < time; ++t)
      for (index_t axis = 0; axis < axes; ++axis) {
        double& x = values[static_cast<std::size_t>((axis * rows + b) * time + t)];
        const double local = random.uniform(-by.max_local_shift, by.max_local_shift) * step[static_cast<std::size_t>(axis)];
        x = (x + shift[static_cast<std::size_t>(axis)] + local) * scaling;
      }
  }
}

inline void require_cape(const cape_augmentation& by, index_t batch) {
  constexpr std::string_view who = "cape";
  constexpr double most = std::numeric_limits<double>::max();
  require(by.max_global_shift >= 0 && by.max_global_shift <= most / 2, who, "max_global_shift must lie in [0, 2^1023)",
          by.max_global_shift);
  require(by.max_local_shift >= 0 && by.max_local_shift <= most / 2, who, "max_local_shift must lie in [0, 2^1023)", by.max_local_shift);
  require(by.max_global_scaling >= 1 && by.max_global_scaling <= most, who, "max_global_scaling must be finite and at least 1",
          by.max_global_scaling);
  require(batch >= 0, who, "batch must not be negative", batch);
}

/// (p - mean) * positions_delta of `[row, time]`, where rows may share their positions.
inline std::vector<double> centred(const positions& at, index_t rows, const cape_options& options) {
  constexpr std::string_view who = "cape";
  require(at.axes() == 1, who, "positions must have one axis", at.axes());
  require(std::isfinite(options.positions_delta) && options.positions_delta > 0, who, "positions_delta must be positive and finite",
          options.positions_delta);
  require(std::isfinite(options.freq_scale), who, "freq_scale must be finite", options.freq_scale);
  const coordinates given = coordinates::of(at);
  std::vector<double> all;
  all.reserve(static_cast<std::size_t>(checked_product(who, std::array{rows, at.time()}, sizeof(double))));
  for (index_t b = 0; b < rows; ++b) {
    double first = 0, sum = 0, count = 0;  // sums of differences from the first position stay exact for ranges
    for (index_t t = 0; options.normalize && t < at.time(); ++t) {
      const double x = given(b, t);
      if (std::isnan(x)) continue;
      if (count == 0) first = x;
      sum += x - first, ++count;
    }
    const double mean = count > 0 ? sum / count : 0;
    for (index_t t = 0; t < at.time(); ++t) all.push_back((given(b, t) - first - mean) * options.positions_delta);
  }
  return all;
}

}  // namespace detail

/// (p - mean) * positions_delta * freq_scale: what CAPE encodes outside of training, by a sinusoid as a rule:
///
///     sinusoidal.add(x, posenc::cape(positions));
///
/// where gcambara/cape has `channel_order::interleaved` and `exponent_rule::vaswani`, and multiplies x by sqrt(dim): see `scaled_sum`. A
/// token without a position has no coordinate, whose code is zero, and no part in the mean. The mean is exact for ranges.
/// \throws argument_error  unless positions have one axis and are doubles, and the options are in range.
inline coordinates cape(const positions& at, const cape_options& options = {}) {
  return coordinates::values(detail::centred(at, std::max<index_t>(at.batch(), 1), options), 1, at.batch()).scaled({options.freq_scale});
}

/// The same in training: ((p - mean) * positions_delta + global shift + local shift * positions_delta) * scaling * freq_scale, with a
/// global shift of U(-G, G) and a scaling of exp(U(-ln s, ln s)) per row, and a local shift of U(-l, l) per token.
///
/// Draws time + 2 numbers for each row: its shift, its scaling, then those of its tokens. Other platforms draw the same uniform numbers;
/// their exponentials may differ in the last place.
/// \param batch  how many rows are drawn; 0: one, which all share. Positions may have as many rows, or one for all.
/// \throws argument_error  also for amounts out of range, another batch, and where a result is infinite.
inline coordinates cape(const positions& at, const cape_options& options, const cape_augmentation& by, index_t batch,
                        random_source& random) {
  detail::require_cape(by, batch);
  require(at.batch() == 0 || at.batch() == batch, "cape", "batch must match the positions", batch, at.batch());
  const index_t rows = std::max<index_t>(batch, 1);
  auto values = detail::centred(at, rows, options);
  detail::augment_cape(values, 1, rows, at.time(), {options.positions_delta}, by, random);
  return coordinates::values(values, 1, batch).scaled({options.freq_scale});
}

/// The cells of a picture, from -1 to 1 along each axis, both among them: what CAPE encodes of pictures outside of training.
/// \throws argument_error  as `grid_positions` does.
inline coordinates cape(const grid& cells) { return spaced_grid(cells, std::vector<axis_range>(cells.extents.size(), axis_range{-1, 1})); }

/// The same in training: (x + global shift + local shift * step) * scaling, with a global shift per row and axis, one scaling per row, and
/// a local shift per token and axis; step: from a cell to the next. Draws for each row: the global shifts, the scaling, the local shifts
/// token by token. \param batch  as above. \throws argument_error  also for amounts out of range, and where a result is infinite.
inline coordinates cape(const grid& cells, const cape_augmentation& by, index_t batch, random_source& random) {
  detail::require_cape(by, batch);
  const coordinates once = cape(cells);
  const index_t axes = once.axes(), rows = std::max<index_t>(batch, 1), time = once.time();
  std::vector<double> values, step;
  values.reserve(static_cast<std::size_t>(checked_product("cape", std::array{axes, rows, time}, sizeof(double))));
  for (index_t axis = 0; axis < axes; ++axis) {
    const index_t extent = cells.extents[static_cast<std::size_t>(axis)];
    step.push_back(extent > 1 ? 2 / static_cast<double>(extent - 1) : 0);
    for (index_t b = 0; b < rows; ++b) values.insert(values.end(), once.row(0, axis), once.row(0, axis) + time);
  }
  detail::augment_cape(values, axes, rows, time, step, by, random);
  return coordinates::values(values, axes, batch);
}

/// The frequencies of CAPE's codes of pictures, `[count, 2]`: row k is rho (cos k, sin k) with rho = 10^(k / (count - 1)), k in radians. A
/// code is [cos | sin] of pi times their product with (x, y): Fourier features with this matrix, in half turns.
/// \throws argument_error  unless count is positive.
template <compute_scalar S>
Eigen::Tensor<S, 2, Eigen::RowMajor> cape_directions(index_t count) {
  require(count > 0, "cape", "count must be positive", count);
  Eigen::Tensor<S, 2, Eigen::RowMajor> all(count, 2);
  for (index_t k = 0; k < count; ++k) {
    const double angle = static_cast<double>(k), rho = count == 1 ? 1 : std::pow(10, angle / static_cast<double>(count - 1));
    all(k, 0) = static_cast<S>(rho * std::cos(angle));
    all(k, 1) = static_cast<S>(rho * std::sin(angle));
  }
  return all;
}

}  // namespace POSENC_NAMESPACE
