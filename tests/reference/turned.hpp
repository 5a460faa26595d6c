// SPDX-License-Identifier: MIT
/// \file  What a rotary encoder makes of one token's channels, in complex numbers.
#pragma once

#include <posenc/rope/rotary_descriptor.hpp>

#include <complex>
#include <cstddef>
#include <vector>

namespace reference {

using posenc::index_t;

/// The row with each pair (a, b) multiplied, as a + ib, by scale * e^(i angle).
/// \param angles  of the dim / 2 pairs, in radians
/// \param scale   of all pairs, or of each
inline std::vector<double> turned(const std::vector<double>& row, const posenc::rotary_descriptor& form,
                                  const std::vector<long double>& angles, const std::vector<double>& scale = {1}) {
  using posenc::pairing;
  const index_t channels = static_cast<index_t>(row.size()), dim = form.dim, pairs = dim / 2 / form.blocks;
  const index_t first = form.offset == posenc::trailing ? channels - dim : form.offset;
  std::vector<double> out = row;
  for (index_t block = 0; block < form.blocks; ++block)
    for (index_t k = 0; k < pairs; ++k) {
      const auto n = static_cast<std::size_t>(block * pairs + k);
      const auto start = static_cast<std::size_t>(first + 2 * block * pairs), j = static_cast<std::size_t>(k);
      const std::size_t half_a = start + j, half_b = half_a + static_cast<std::size_t>(pairs), next_a = start + 2 * j, next_b = next_a + 1;
      const bool reads_halves = form.pairing == pairing::halves, writes_halves = form.pairing != pairing::interleaved;
      const double a = row[reads_halves ? half_a : next_a], b = row[reads_halves ? half_b : next_b];
      const long double angle = form.rotation == posenc::rotation::positive ? angles[n] : -angles[n];
      const auto turn =
          std::polar<long double>(1, angle) * static_cast<long double>(form.attention_factor * scale[scale.size() > 1 ? n : 0]);
      const auto y = std::complex<long double>(a, b) * turn;
      out[writes_halves ? half_a : next_a] = static_cast<double>(y.real());
      out[writes_halves ? half_b : next_b] = static_cast<double>(y.imag());
    }
  return out;
}

}  // namespace reference
