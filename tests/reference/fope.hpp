// SPDX-License-Identifier: MIT
/// \file  Fourier position embedding as the matrices that it is.
#pragma once

#include <Eigen/Core>

#include <cmath>
#include <cstddef>
#include <tuple>
#include <utility>
#include <vector>

namespace reference {

/// Which waves the paper keeps: those that have gone round once within the length. Radians per position.
inline std::vector<long double> whole_waves(Eigen::Index dim, long double base, long double length) {
  std::vector<long double> all;
  for (Eigen::Index k = 0; k < dim / 2; ++k) {
    const long double period =
        8 * std::atan(1.0L) * std::exp(2 * std::log(base) * static_cast<long double>(k) / static_cast<long double>(dim));
    if (period <= length) all.push_back(8 * std::atan(1.0L) / period);
  }
  return all;
}

enum class pair_layout { halves, interleaved, interleaved_to_halves };

struct fope {
  pair_layout layout;
  Eigen::Index channels, dim, offset = 0, blocks = 1;
  bool negative = false;
  std::vector<long double> waves{};
  Eigen::MatrixXd sines{}, cosines{};  ///< [wave, mixed pair]
  double padded_sine = 0, padded_cosine = 1, factor = 1;

  /// The channels of pair k, where they are read or written.
  std::pair<Eigen::Index, Eigen::Index> pair(Eigen::Index k, bool written) const {
    if (layout == pair_layout::interleaved || (layout == pair_layout::interleaved_to_halves && !written))
      return {offset + 2 * k, offset + 2 * k + 1};
    const Eigen::Index of_block = dim / 2 / blocks, first = offset + (k / of_block) * (dim / blocks) + k % of_block;
    return {first, first + of_block};
  }
  /// Sines and cosines of all pairs at this place, padding included.
  std::pair<Eigen::VectorXd, Eigen::VectorXd> mixture(long double place) const {
    Eigen::VectorXd s = Eigen::VectorXd::Constant(dim / 2, padded_sine), c = Eigen::VectorXd::Constant(dim / 2, padded_cosine);
    const auto count = static_cast<Eigen::Index>(waves.size());
    Eigen::VectorXd s_of(count), c_of(count);
    for (Eigen::Index f = 0; f < count; ++f) {
      s_of(f) = static_cast<double>(std::sin(place * waves[static_cast<std::size_t>(f)]));
      c_of(f) = static_cast<double>(std::cos(place * waves[static_cast<std::size_t>(f)]));
    }
    s.head(sines.cols()) = sines.transpose() * s_of;
    c.head(cosines.cols()) = cosines.transpose() * c_of;
    return {factor * s, factor * c};
  }
  /// What a row of channels is multiplied by, at this place; NaN: nowhere.
  Eigen::MatrixXd matrix(long double place) const {
    Eigen::MatrixXd all = Eigen::MatrixXd::Identity(channels, channels);
    Eigen::VectorXd s = Eigen::VectorXd::Zero(dim / 2), c = Eigen::VectorXd::Ones(dim / 2);
    if (!std::isnan(place)) std::tie(s, c) = mixture(place);
    if (negative) s = -s;
    for (Eigen::Index n = 0; n < dim; ++n) all.row(offset + n).setZero();
    for (Eigen::Index k = 0; k < dim / 2; ++k) {
      const auto [a, b] = pair(k, false);
      const auto [to_a, to_b] = pair(k, true);
      all(to_a, a) = all(to_b, b) = c(k);
      all(to_a, b) = -s(k), all(to_b, a) = s(k);
    }
    return all;
  }
};

}  // namespace reference
