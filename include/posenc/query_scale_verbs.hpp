// SPDX-License-Identifier: MIT
/// \file  The verbs of encoders that multiply queries by a factor of their position, so that attention is as sharp there as it should be.
#pragma once

#include <posenc/concepts.hpp>  // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>     // require
#include <posenc/executor.hpp>
#include <posenc/heads.hpp>     // head_view
#include <posenc/kernels/scale.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>

namespace POSENC_NAMESPACE {

/// The factors of queries `[batch, time]` in double, before any of a head; made by `prepare`, for all layers. Immutable; copying it is a
/// reference count.
class query_scales {
 public:
  query_scales(std::shared_ptr<const double[]> values, index_t batch, index_t time)
      : values_(std::move(values)), batch_(batch), time_(time) {}

  index_t batch() const noexcept { return batch_; }  ///< 0: the same for every row
  index_t time() const noexcept { return time_; }
  /// The factor of token t in row b; NaN for one without a position, which is left alone.
  double operator()(index_t b, index_t t) const noexcept { return values_[batch_ == 0 ? t : b * time_ + t]; }
  const double* data() const noexcept { return values_.get(); }

 private:
  std::shared_ptr<const double[]> values_;
  index_t batch_, time_;
};

/// Multiplies queries `[batch, time, head, channel]`; keys stay as they are, cached ones too. That multiplies the scores q.k, costs less
/// than to multiply these, is seen by every term that reads queries, and commutes with rotations. Factors are formed in double and rounded
/// once. A token without a position is left alone. One token has the same bits in prefill and decode and for any number of threads.
///
/// Every verb checks shapes first and throws `argument_error` before it writes; only `prepare` allocates, 8 bytes a token.
///
/// Derived offers name(), and to this class:
///   require_positions(at)          \throws argument_error  for positions that have no factors
///   write_factors(at, b, factors)  those of the queries of batch row b that have a position
///   head_factors(heads)            null, or one factor per head; \throws argument_error  for another number of heads
template <class Derived, compute_scalar S>
class query_scale_verbs {
 public:
  using scalar = S;

  /// The factors at these positions, for all layers.
  query_scales prepare(const attention_positions& at, const executor& = {}) const {
    derived().require_positions(at);
    const index_t batch = std::max(at.queries.batch(), at.keys.batch()), time = at.queries.time(), rows = std::max<index_t>(batch, 1);
    const auto count = static_cast<std::size_t>(checked_product(derived().name(), std::array{rows, time}, sizeof(double)));
    std::shared_ptr<double[]> values(new double[count]);
    std::fill_n(values.get(), count, std::numeric_limits<double>::quiet_NaN());
    for (index_t b = 0; b < rows; ++b) derived().write_factors(at, b, values.get() + b * time);
    return {std::move(values), batch, time};
  }

  /// The checks of `rotate` in place, alone: \throws argument_error  where it would.
  template <class T>
    requires writable_as<T, S>
  void require_fits(const head_view<T>& x, operand role, const query_scales& scales) const {
    if (role == operand::query) checked(x, x, scales);
  }

  /// Multiplies queries in place. Keys stay as they are.
  template <class T>
    requires writable_as<T, S>
  void rotate(head_view<T> x, operand role, const query_scales& scales, const executor& run = {}) const {
    if (role == operand::query) run_scale(checked(x, x, scales), run);
  }
  /// Reads queries from `in`, writes `out`. They may be one view, but not overlap in part.
  template <class T, class U>
    requires writable_as<U, S> && stored_as<T, U>
  void rotate(head_view<T> in, head_view<U> out, const query_scales& scales, const executor& run = {}) const {
    run_scale(checked(in, out, scales), run);
  }

  /// The gradient of `rotate`, in and out: that of a query is multiplied by its factor.
  template <class T>
    requires writable_as<T, S>
  void rotate_backward(head_view<T> d, operand role, const query_scales& scales, const executor& run = {}) const {
    rotate(d, role, scales, run);
  }

 protected:
  query_scale_verbs() = default;
  const Derived& derived() const noexcept { return static_cast<const Derived&>(*this); }

 private:
  template <class T, class U>
  kernels::scale_call<kernel_scalar<U>> checked(const head_view<T>& in, const head_view<U>& out, const query_scales& scales) const {
    const std::string_view who = derived().name();
    const auto& from = in.by_time();
    const auto& to = out.by_time();
    require(from.extents() == to.extents(), who, "the output must have the input's shape", from.extents(), to.extents());
    require(scales.time() == in.time(), who, "time must match the state", in.time(), scales.time());
    require(scales.batch() == 0 || scales.batch() == in.batch(), who, "batch must match the state", in.batch(), scales.batch());
    const S* const of_heads = derived().head_factors(in.count());
    require_rows(who, from);
    require_output(who, to);
    require(!overlaps_partly(from, to), who, "input and output must be one view or not overlap", from.extents(), to.extents());
    return {.in = kernel_pointer(static_cast<const U*>(from.data())),
            .out = kernel_pointer(to.data()),
            .batch = in.batch(),
            .time = in.time(),
            .heads = in.count(),
            .channels = in.channels(),
            .in_batch = from.stride(0),
            .in_time = from.stride(1),
            .in_head = from.stride(2),
            .out_batch = to.stride(0),
            .out_time = to.stride(1),
            .out_head = to.stride(2),
            .factors = scales.data(),
            .factor_batch = scales.batch() == 0 ? 0 : scales.time(),
            .head_factors = of_heads};
  }

  template <class T>
  static void run_scale(const kernels::scale_call<T>& call, const executor& run) {
    const index_t tokens = call.batch * call.time;
    const double cost = detail::nanoseconds_per_value<T> * static_cast<double>(tokens) * static_cast<double>(call.heads * call.channels);
    run.split(tokens, run.parts(tokens, cost), [&](index_t, index_t from, index_t to) {
      detail::for_each_block(from, to, call.time, [&](index_t b, index_t batch, index_t t, index_t time) {
        kernels::scale_call<T> part = call;
        part.batch = batch, part.time = time;
        part.in += b * call.in_batch + t * call.in_time;
        part.out += b * call.out_batch + t * call.out_time;
        part.factors += b * call.factor_batch + t;
        kernels::scale(part);
      });
    });
  }
};

}  // namespace POSENC_NAMESPACE
