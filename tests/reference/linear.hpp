// SPDX-License-Identifier: MIT
/// \file  What the linear kernels have to write.
#pragma once

#include <posenc/kernels/linear.hpp>

#include "reference/rounded.hpp"
#include "reference/stored.hpp"

namespace reference {

using posenc::kernels::index_t;

/// The sum of value(first), value(first + step), ...: the sixteen parts each in turn, and parts in pairs.
template <class S>
S sum_in_parts(index_t first, index_t step, index_t count, auto&& value) {
  S sum = 0;
  if (step < 16) return plus(sum_in_parts<S>(first, 2 * step, count, value), sum_in_parts<S>(first + step, 2 * step, count, value));
  for (index_t c = first; c < count; c += step) sum = plus(sum, value(c));
  return sum;
}

template <class T>
void linear(const posenc::kernels::linear_call<T>& call) {
  using S = compute<T>;
  for (index_t t = 0; t < call.tokens; ++t)
    for (index_t o = 0; o < call.out; ++o) {
      const S sum = sum_in_parts<S>(0, 1, call.in,
                                    [&](index_t c) { return times(loaded(call.x[t * call.x_token + c]), call.w[o * call.w_row + c]); });
      call.y[t * call.y_token + o] = stored<T>(call.start ? plus(call.start[t * call.start_token + o], sum) : sum);
    }
}

template <class T, class X>
void linear_input_gradient(const posenc::kernels::linear_input_gradient_call<T, X>& call) {
  for (index_t c = 0; c < call.in; ++c)
    for (index_t t = 0; t < call.tokens; ++t) {
      X& d_x = call.d_x[t * call.d_x_token + c];
      compute<T> sum = call.accumulate ? loaded(d_x) : compute<T>(0);
      for (index_t o = 0; o < call.out; ++o) sum = plus(sum, times(loaded(call.d_y[t * call.d_y_token + o]), call.w[o * call.w_row + c]));
      d_x = stored<X>(sum);
    }
}

template <class T, class X>
void linear_weight_gradient(const posenc::kernels::linear_weight_gradient_call<T, X>& call) {
  for (index_t t = 0; t < call.tokens; ++t)
    for (index_t o = 0; o < call.out; ++o) {
      const auto d = loaded(call.d_y[t * call.d_y_token + o]);
      if (call.d_bias) call.d_bias[o] = plus(call.d_bias[o], d);
      for (index_t c = 0; c < call.in; ++c) {
        auto& d_w = call.d_w[o * call.d_w_row + c];
        d_w = plus(d_w, times(d, loaded(call.x[t * call.x_token + c])));
      }
    }
}

}  // namespace reference
