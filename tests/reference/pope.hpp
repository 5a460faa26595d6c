// SPDX-License-Identifier: MIT
/// \file  PoPE as Gopalakrishnan et al. 2025 write it: complex numbers of length log(1 + e^x), and their derivatives by x and by the angle.
#pragma once

#include <posenc/kernels/pope.hpp>

#include "reference/stored.hpp"

#include <cmath>
#include <complex>
#include <cstddef>

namespace reference {

inline double softplus(double x) { return x > 30 ? x + std::exp(-x) : std::log1p(std::exp(x)); }
inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// The value of channel x at an angle: q and k in the complex plane, q conj(k) is the score.
inline std::complex<double> pope(double x, double angle) { return softplus(x) * std::exp(std::complex(0.0, angle)); }

/// act(in index, out index of the cosine part, table index of the cosine) for every channel that a call writes; the sine parts lie
/// `channels` behind. Indices count from the call's pointers.
template <class T>
void for_each_channel(const posenc::kernels::pope_call<T>& call, auto&& act) {
  using posenc::kernels::index_t;
  for (index_t h = 0; h < call.heads; ++h)
    for (index_t t = 0; t < call.time; ++t)
      for (index_t b = 0; b < call.batch; ++b) {
        const index_t token = b * call.time + t;
        if (call.rows && call.rows[token] < 0) continue;
        for (index_t j = 0; j < call.channels; ++j)
          act(b * call.in_batch + t * call.in_time + h * call.in_head + j,
              (call.rows ? call.rows[token] * call.out_time : b * call.out_batch + t * call.out_time) + h * call.out_head + j,
              b * call.table_batch + t * call.table_time + h * call.table_head + j);
      }
}

}  // namespace reference
