// SPDX-License-Identifier: MIT
/// \file  What the rotate kernel has to write, twice: in complex numbers, and bit for bit.
#pragma once

#include <posenc/kernels/rotate.hpp>

#include "reference/rounded.hpp"
#include "reference/stored.hpp"

#include <algorithm>
#include <complex>
#include <cstddef>
#include <utility>
#include <vector>

namespace reference {

/// Calls turn(a, b, cosine, sine) -> {new a, new b} for every pair, and copies the channels around where `in` is not `out`.
template <class T>
void for_each_pair(const posenc::kernels::rotate_call<T>& call, auto&& turn) {
  using posenc::kernels::index_t;
  for (index_t h = 0; h < call.heads; ++h)
    for (index_t t = 0; t < call.time; ++t)
      for (index_t b = 0; b < call.batch; ++b) {
        const index_t token = b * call.time + t;
        if (call.rows && call.rows[token] < 0) continue;
        const T* in = call.in + b * call.in_batch + t * call.in_time + h * call.in_head;
        T* out = call.out + h * call.out_head + (call.rows ? call.rows[token] * call.out_time : b * call.out_batch + t * call.out_time);
        const compute<T>* table = call.table + b * call.table_batch + t * call.table_time + h * call.table_head;
        const index_t half = call.pairs + call.between, all = call.blocks * call.pairs;
        std::vector<T> written(in, in + call.before + 2 * call.blocks * half + call.after);
        for (index_t block = 0; block < call.blocks; ++block)
          for (index_t k = 0; k < call.pairs; ++k) {
            const index_t start = call.before + 2 * block * half, n = block * call.pairs + k;
            const auto channels_of = [&](bool interleaved) {
              return interleaved ? std::pair(start + 2 * k, start + 2 * k + 1) : std::pair(start + k, start + half + k);
            };
            const auto from = channels_of(call.interleaved), to = channels_of(call.interleaved != call.exchanged);
            const auto [a, other] =
                turn(loaded(in[from.first]), loaded(in[from.second]), table[n], call.back ? -table[all + n] : table[all + n]);
            written[static_cast<std::size_t>(to.first)] = stored<T>(a), written[static_cast<std::size_t>(to.second)] = stored<T>(other);
          }
        std::ranges::copy(written, out);
      }
}

/// (a + ib) (c + is): the rotation as Su et al. write it.
inline void rotate(const posenc::kernels::rotate_call<double>& call) {
  for_each_pair(call, [](double a, double b, double cosine, double sine) {
    const std::complex<double> turned = std::complex(a, b) * std::complex(cosine, sine);
    return std::pair(turned.real(), turned.imag());
  });
}

/// Every product and every sum rounded to what T is computed in, in the documented order; the results to T.
template <class T>
void rotate_rounded(const posenc::kernels::rotate_call<T>& call) {
  using S = compute<T>;
  for_each_pair(call, [](S a, S b, S cosine, S sine) {
    return std::pair(minus(times(a, cosine), times(b, sine)), plus(times(a, sine), times(b, cosine)));
  });
}

}  // namespace reference
