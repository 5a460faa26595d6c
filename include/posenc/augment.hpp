// SPDX-License-Identifier: MIT
/// \file  Coordinates moved and stretched at random, for training.
#pragma once

#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/random.hpp>

#include <cmath>
#include <limits>
#include <vector>

namespace POSENC_NAMESPACE {

/// How far coordinates may be moved and stretched. The defaults leave them as they are.
struct augmentation {
  double shift = 0;    ///< s >= 0: each axis moves by one of [-s, s]
  double jitter = 1;   ///< j >= 1: each axis is stretched by one of [1 / j, j], uniform in its logarithm
  double rescale = 1;  ///< r >= 1: all axes are stretched by the same one of [1 / r, r], uniform in its logarithm
};

/// (x + shift) jitter rescale, drawn once for all tokens of all rows (DINOv3). Draws 2 axes + 1 numbers: shifts, jitters, rescale.
/// Other platforms draw the same uniform numbers; their exponentials may differ in the last place.
/// \throws argument_error  for amounts out of range, and where a result is infinite.
inline coordinates augment(const coordinates& at, const augmentation& by, random_source& random) {
  constexpr double most = std::numeric_limits<double>::max();
  require(by.shift >= 0 && by.shift <= most / 2, "augment", "shift must lie in [0, 2^1023)", by.shift);
  require(by.jitter >= 1 && by.jitter <= most, "augment", "jitter must be finite and at least 1", by.jitter);
  require(by.rescale >= 1 && by.rescale <= most, "augment", "rescale must be finite and at least 1", by.rescale);
  const auto stretch = [&](double largest) { return std::exp(random.uniform(-std::log(largest), std::log(largest))); };
  std::vector<double> shift(static_cast<std::size_t>(at.axes())), jitter = shift;
  for (double& one : shift) one = random.uniform(-by.shift, by.shift);
  for (double& one : jitter) one = stretch(by.jitter);
  const std::vector<double> rescale(jitter.size(), stretch(by.rescale));
  return at.shifted(shift).scaled(jitter).scaled(rescale);
}

}  // namespace POSENC_NAMESPACE
