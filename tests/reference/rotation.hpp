// SPDX-License-Identifier: MIT
/// \file  The rotation of RoFormer's equation 15, as the matrix that it is.
#pragma once

#include <Eigen/Core>

#include <cmath>
#include <cstdint>

namespace reference {

struct rotary {
  bool interleaved;       ///< pairs (2k, 2k + 1), else (k, k + dim / 2)
  Eigen::Index channels, dim, offset = 0;
  double base = 10000, factor = 1;
};

/// The matrix that turns a row of channels at this position: factor times the rotation for channels offset to offset + dim, the identity
/// around them.
inline Eigen::MatrixXd rotation(const rotary& rule, std::int64_t position) {
  Eigen::MatrixXd turn = Eigen::MatrixXd::Identity(rule.channels, rule.channels);
  for (Eigen::Index k = 0; k < rule.dim / 2; ++k) {
    const long double exponent = -2.0L * static_cast<long double>(k) / static_cast<long double>(rule.dim);
    const long double angle = static_cast<long double>(position) * std::pow(static_cast<long double>(rule.base), exponent);
    const Eigen::Index a = rule.offset + (rule.interleaved ? 2 * k : k), b = rule.interleaved ? a + 1 : a + rule.dim / 2;
    turn(a, a) = turn(b, b) = static_cast<double>(rule.factor * std::cos(angle));
    turn(b, a) = static_cast<double>(rule.factor * std::sin(angle));
    turn(a, b) = -turn(b, a);
  }
  return turn;
}

}  // namespace reference
