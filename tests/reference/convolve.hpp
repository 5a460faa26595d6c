// SPDX-License-Identifier: MIT
/// \file  Depthwise convolutions and their gradients cell by cell, each operation rounded to S, without padding or copies.
#pragma once

#include <posenc/kernels/convolve.hpp>

#include "reference/rounded.hpp"
#include "reference/stored.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

namespace reference {

using posenc::kernels::index_t;

/// The cell of the input that tap t of output j sees, if there is one: -1 and so on are those of the history.
inline std::optional<index_t> cell_seen(const posenc::kernels::convolve_axis& axis, index_t j, index_t t, bool circular, bool history) {
  for (index_t i = history ? -axis.before : index_t{0}; i < axis.in; ++i) {
    const index_t apart = j * axis.step + t - axis.before - i * axis.spread, around = axis.in * axis.spread;
    if (circular ? apart % around == 0 : apart == 0) return i;
  }
  return {};
}

/// Calls act(output, tap, element offsets of input and output, whether it is the history) for all taps of all outputs that see something.
template <class Call>
void for_each_product(const Call& call, bool history, auto&& act) {
  const auto& a = call.axes;
  for (index_t p = 0; p < a[0].out; ++p)
    for (index_t r = 0; r < a[1].out; ++r)
      for (index_t c = 0; c < a[2].out; ++c)
        for (index_t u = 0; u < a[0].kernel; ++u)
          for (index_t v = 0; v < a[1].kernel; ++v)
            for (index_t w = 0; w < a[2].kernel; ++w) {
              const index_t output = (p * a[1].out + r) * a[2].out + c, tap = (u * a[1].kernel + v) * a[2].kernel + w;
              if (call.out_mask && !call.out_mask[output]) continue;
              const auto plane = cell_seen(a[0], p, u, call.circular, false), row = cell_seen(a[1], r, v, call.circular, false),
                         cell = cell_seen(a[2], c, w, call.circular, history);
              if (!plane || !row || !cell) continue;
              if (*cell >= 0 && call.in_mask && !call.in_mask[(*plane * a[1].in + *row) * a[2].in + *cell]) continue;
              act(output, tap, *plane * a[0].in_stride + *row * a[1].in_stride + *cell * a[2].in_stride,
                  p * a[0].out_stride + r * a[1].out_stride + c * a[2].out_stride, *cell);
            }
}

/// What the sum in brackets is, `[output, channel]`.
template <class T>
std::vector<compute<T>> convolved(const posenc::kernels::convolve_call<T>& call) {
  const index_t outputs = call.axes[0].out * call.axes[1].out * call.axes[2].out, channels = call.channels;
  std::vector<compute<T>> sums(static_cast<std::size_t>(outputs * channels));
  for (index_t n = 0; n < outputs * channels; ++n) sums[static_cast<std::size_t>(n)] = call.bias ? call.bias[n % channels] : 0;
  for_each_product(call, call.history != nullptr, [&](index_t output, index_t tap, index_t in, index_t, index_t cell) {
    const T* const x = cell >= 0 ? call.in + in : call.history + (call.axes[2].before + cell) * call.history_stride;
    for (index_t c = 0; c < channels; ++c) {
      auto& sum = sums[static_cast<std::size_t>(output * channels + c)];
      sum = plus(sum, times(loaded(x[c]), call.weight[tap * call.weight_tap + c]));
    }
  });
  return sums;
}

/// d_weight and d_bias, added to: the sums of each line, or of each piece of the only one, come first.
template <class T>
void add_convolve_weight_gradients(const posenc::kernels::convolve_weight_gradient_call<T>& call, compute<T>* d_weight,
                                   compute<T>* d_bias) {
  const auto& a = call.axes;
  const bool one_line = a[0].out * a[1].out == 1 && a[0].kernel * a[1].kernel == 1;
  const index_t piece = one_line && !call.circular ? std::max<index_t>(a[2].kernel, 32) : a[2].out;
  const index_t pieces = (a[2].out + piece - 1) / piece, taps = a[0].kernel * a[1].kernel * a[2].kernel;
  const auto line_of = [&](index_t output) { return output / a[2].out * pieces + output % a[2].out / piece; };
  const index_t lines = a[0].out * a[1].out * pieces, row = (taps + 1) * call.channels;
  std::vector<compute<T>> sums(static_cast<std::size_t>(lines * row));
  const auto sum = [&](index_t line, index_t tap, index_t c) -> auto& {
    return sums[static_cast<std::size_t>(line * row + tap * call.channels + c)];
  };
  for_each_product(call, false, [&](index_t output, index_t tap, index_t in, index_t out, index_t) {
    for (index_t c = 0; c < call.channels; ++c) {
      auto& one = sum(line_of(output), tap, c);
      one = plus(one, times(loaded(call.in[in + c]), loaded(call.d[out + c])));
    }
  });
  for (index_t output = 0; output < a[0].out * a[1].out * a[2].out; ++output) {
    if (call.out_mask && !call.out_mask[output]) continue;
    const index_t out = output / a[2].out / a[1].out * a[0].out_stride + output / a[2].out % a[1].out * a[1].out_stride +
                        output % a[2].out * a[2].out_stride;
    for (index_t c = 0; c < call.channels; ++c) {
      auto& one = sum(line_of(output), taps, c);
      one = plus(one, loaded(call.d[out + c]));
    }
  }
  for (index_t line = 0; line < lines; ++line)
    for (index_t c = 0; c < call.channels; ++c) {
      for (index_t tap = 0; tap < taps; ++tap)
        d_weight[tap * call.weight_tap + c] = plus(d_weight[tap * call.weight_tap + c], sum(line, tap, c));
      if (d_bias) d_bias[c] = plus(d_bias[c], sum(line, taps, c));
    }
}

}  // namespace reference
