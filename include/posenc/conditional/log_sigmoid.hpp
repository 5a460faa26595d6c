// SPDX-License-Identifier: MIT
/// \file  Logits of gates to the logarithms of the gates, and the gradient.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/executor.hpp>
#include <posenc/kernels/log_sigmoid.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <string_view>

namespace POSENC_NAMESPACE {

namespace detail {
/// What a log gate takes, roughly.
inline constexpr double nanoseconds_per_log_gate = 1.5;

inline void require_log_scale(std::string_view who, double scale) {
  require(std::isfinite(scale) && scale >= 0, who, "the scale must be finite and not negative", scale);
}
}  // namespace detail

/// log_gates = scale * log(1 / (1 + e^-logits)), both `[batch, token, gate]`: stable at every logit, within 2.2 units in the last place
/// before the scale. -100 gives -100, 100 gives -3.8e-44, minus infinity itself. They may be one tensor, but not overlap in part. scale:
/// x-transformers' post_log_scale. \throws argument_error  unless shapes match and the scale is finite and not negative.
template <readable_tensor In, writable_tensor Out>
  requires(rank_of<In> == 3 && rank_of<Out> == 3 && std::same_as<element_t<Out>, compute_t<element_t<In>>>)
void log_sigmoid(const In& logits, Out&& log_gates, double scale = 1, const executor& run = {}) {
  constexpr std::string_view who = "log_sigmoid";
  using S = element_t<Out>;
  const tensor_view<const element_t<In>, 3> x = logits;
  const tensor_view<S, 3> y = log_gates;
  detail::require_log_scale(who, scale);
  require(x.extents() == y.extents(), who, "the output must have the input's shape", x.extents(), y.extents());
  require_rows(who, x);
  require_output(who, y);
  if constexpr (stored_as<element_t<In>, S>)
    require(!overlaps_partly(x, tensor_view<const S, 3>(y)), who, "input and output must be one view or not overlap", x.extents(),
            y.extents());
  if (y.empty()) return;
  const index_t time = y.extent(1), tokens = y.extent(0) * time;
  const double cost = detail::nanoseconds_per_log_gate * static_cast<double>(tokens) * static_cast<double>(y.extent(2));
  run.split(tokens, run.parts(tokens, cost), [&](index_t, index_t from, index_t to) {
    for (index_t n = from, count; n < to; n += count) {
      count = std::min(to - n, time - n % time);
      kernels::log_sigmoid<kernel_scalar<element_t<In>>>({.x = kernel_pointer(&x(n / time, n % time, 0)),
                                                          .out = &y(n / time, n % time, 0),
                                                          .rows = count,
                                                          .channels = y.extent(2),
                                                          .x_row = x.stride(1),
                                                          .out_row = y.stride(1),
                                                          .scale = static_cast<S>(scale)});
    }
  });
}

/// The gradient: d_logits = d_log_gates * scale / (1 + e^logits). d_logits may be d_log_gates or the logits.
/// \throws argument_error  unless shapes match and the scale is finite and not negative.
template <readable_tensor In, readable_tensor D, writable_tensor Out>
  requires(rank_of<In> == 3 && rank_of<D> == 3 && rank_of<Out> == 3 && stored_as<element_t<In>, element_t<Out>> &&
           stored_as<element_t<D>, compute_t<element_t<In>>>)
void log_sigmoid_backward(const In& logits, const D& d_log_gates, Out&& d_logits, double scale = 1) {
  constexpr std::string_view who = "log_sigmoid_backward";
  using T = element_t<Out>;
  const tensor_view<const T, 3> x = logits;
  const tensor_view<const compute_t<T>, 3> d = d_log_gates;
  const tensor_view<T, 3> out = d_logits;
  detail::require_log_scale(who, scale);
  require(x.extents() == d.extents(), who, "gradients must have the shapes of what they are of", x.extents(), d.extents());
  require(x.extents() == out.extents(), who, "gradients must have the shapes of what they are of", x.extents(), out.extents());
  require_rows(who, x);
  require_rows(who, d);
  require_output(who, out);
  if (out.empty()) return;
  for (index_t b = 0; b < out.extent(0); ++b)
    kernels::log_sigmoid_gradient<kernel_scalar<T>>({.x = kernel_pointer(&x(b, 0, 0)),
                                                     .d_out = &d(b, 0, 0),
                                                     .d_x = kernel_pointer(&out(b, 0, 0)),
                                                     .rows = out.extent(1),
                                                     .channels = out.extent(2),
                                                     .x_row = x.stride(1),
                                                     .d_out_row = d.stride(1),
                                                     .d_x_row = out.stride(1),
                                                     .scale = static_cast<compute_t<T>>(scale)});
}

}  // namespace POSENC_NAMESPACE
