// SPDX-License-Identifier: MIT
/// \file  Rotary position embedding (RoPE): turns channel pair k of the token at position p by p * base^(-2k/dim) radians, so that q.k
/// depends on the difference of positions alone. Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
#pragma once

#include <posenc/concepts.hpp>        // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>           // require
#include <posenc/executor.hpp>
#include <posenc/frequencies.hpp>
#include <posenc/heads.hpp>           // head_view
#include <posenc/kernels/rotate.hpp>  // every loop over channels lives there
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/rope/rotary_table.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>

namespace POSENC_NAMESPACE {

struct rope_options {
  required<posenc::pairing> pairing;
  required<index_t> dim;        ///< channels that turn, positive and even; the others keep their bits
  index_t offset = 0;           ///< the first of them
  double base = 10000;          ///< a larger base turns more slowly and reaches farther
  double attention_factor = 1;  ///< multiplies cosines and sines, as YaRN does

  friend bool operator==(const rope_options&, const rope_options&) = default;
};

/// Rotates queries and keys `[batch, time, head, channel]`, made by `heads` or `split_heads`.
///
/// Angles are fixed-point turns: tables are within 3.1e-8 (float) and 2.3e-16 (double) of the truth at every position in [-2^31, 2^31],
/// times the attention factor rounded up to a power of two. y_a = x_a c - x_b s and y_b = x_a s + x_b c are rounded after each operation:
/// one token has the same bits in prefill and decode, at every instruction set.
///
/// Every verb checks shapes first and throws `argument_error` before it writes. With a table nothing is allocated, but by `inverse` and
/// where threads share the work. Const members may run in any number of threads at once.
template <compute_scalar S>
class rope {
 public:
  using scalar = S;

  /// \throws argument_error  unless dim is positive and even, offset not negative, base positive and finite, the factor finite and not 0.
  explicit rope(const rope_options& options) : options_(options), speeds_(check(options)) {}

  static constexpr std::string_view name() noexcept { return "rope"; }
  const rope_options& options() const noexcept { return options_; }
  /// The frequencies that came out, exact and in radians.
  const frequencies& inspect() const noexcept { return speeds_; }

  /// The angles of these positions. Once per forward pass, for all layers.
  rotary_table<S> prepare(const positions& at, const executor& run = {}) const {
    return rotary_table<S>(name(), speeds_, at, options_.attention_factor, run);
  }
  /// The angles of queries and of the keys that are turned; one table where they stand at the same positions.
  rotary_tables<S> prepare(const attention_positions& at, const executor& run = {}) const {
    const positions &queries = at.turned(operand::query), &keys = at.turned(operand::key);
    const rotary_table<S> table = prepare(queries, run);
    return {table, keys == queries ? table : prepare(keys, run)};
  }

  /// The checks of `rotate` in place, alone: \throws argument_error  where it would.
  template <class T>
    requires writable_as<T, S>
  void require_fits(const head_view<T>& x, operand role, const rotary_tables<S>& tables) const {
    checked(x, x, {}, tables[role]);
  }

  /// Rotates x in place.
  template <class T>
    requires writable_as<T, S>
  void rotate(head_view<T> x, const rotary_table<S>& table, const executor& run = {}) const {
    turn(checked(x, x, {}, table), run);
  }
  template <class T>
    requires writable_as<T, S>
  void rotate(head_view<T> x, operand role, const rotary_tables<S>& tables, const executor& run = {}) const {
    rotate(x, tables[role], run);
  }
  /// The same without a table of the caller's: makes one.
  template <class T>
    requires writable_as<T, S>
  void rotate(head_view<T> x, const positions& at, const executor& run = {}) const {
    rotate(x, prepare(at, run), run);
  }

  /// Reads `in`, writes `out`; channels that do not turn are copied. They may be one view, but not overlap in part.
  template <class T, class U>
    requires writable_as<U, S> && stored_as<T, U>
  void rotate(head_view<T> in, head_view<U> out, const rotary_table<S>& table, const executor& run = {}) const {
    require(in.by_time().extents() == out.by_time().extents(), name(), "the output must have the input's shape", in.by_time().extents(),
            out.by_time().extents());
    turn(checked(in, out, {}, table), run);
  }
  /// The same into the slots or pages of a cache: token (b, t) goes to slot `rows[b * time + t]` of `cache`, a view `[1, slot, head,
  /// channel]`; `no_row` skips it. \throws argument_error  for a row outside the cache.
  template <class T, class U>
    requires writable_as<U, S> && stored_as<T, U>
  void rotate(head_view<T> in, head_view<U> cache, std::span<const index_t> rows, const rotary_table<S>& table,
              const executor& run = {}) const {
    require(cache.batch() == 1 && cache.count() == in.count() && cache.channels() == in.channels(), name(),
            "the cache must be [1, slot, head, channel] with the input's heads and channels", cache.by_time().extents(),
            in.by_time().extents());
    require_destinations(name(), rows, in.batch(), in.time(), cache.time());
    require(in.by_time().empty() || in.by_time().data() != cache.by_time().data(), name(), "the input must not overlap the cache",
            in.by_time().extents(), cache.by_time().extents());
    turn(checked(in, cache, rows, table), run);
  }

  /// Undoes `rotate`, attention factor included: inverse(rotate(x)) = x up to rounding. Allocates a table where that factor is not 1.
  template <class T>
    requires writable_as<T, S>
  void inverse(head_view<T> x, const rotary_table<S>& table, const executor& run = {}) const {
    const double square = table.factor() * table.factor();
    auto call = checked(x, x, {}, table, true);
    if (square == 1) return turn(call, run);
    if (x.by_time().empty()) return;
    const rotary_table<S> undone = table.scaled(static_cast<S>(1 / square));
    // Tokens that do not turn were not multiplied by the factor either: the calls leave them out.
    const index_t tokens = x.batch() * x.time();
    run.split(tokens, run.parts(tokens, cost_of(call)), [&](index_t, index_t from, index_t to) {
      auto part = call;
      part.batch = 1;
      for (index_t token = from; token < to; token += std::max<index_t>(part.time, 1)) {
        const index_t b = token / x.time(), t = token % x.time(), last = std::min(x.time(), t + to - token);
        for (part.time = 0; t + part.time < last && table.turns(b, t + part.time);) ++part.time;
        part.in = part.out = kernel_pointer(&x(b, t, 0, 0));
        part.table = undone.row(b, t);
        kernels::rotate(part);
      }
    });
  }
  template <class T>
    requires writable_as<T, S>
  void inverse(head_view<T> x, operand role, const rotary_tables<S>& tables, const executor& run = {}) const {
    inverse(x, tables[role], run);
  }

  /// The gradient of `rotate`: the transposed rotation, which keeps the attention factor. In place: dy comes in, dx leaves.
  template <class T>
    requires writable_as<T, S>
  void rotate_backward(head_view<T> d, const rotary_table<S>& table, const executor& run = {}) const {
    turn(checked(d, d, {}, table, true), run);
  }
  template <class T>
    requires writable_as<T, S>
  void rotate_backward(head_view<T> d, operand role, const rotary_tables<S>& tables, const executor& run = {}) const {
    rotate_backward(d, tables[role], run);
  }

  /// Moves cached keys, rotated before, by `deltas` positions: token t then stands at p + deltas(t). Angles add exactly; each shift rounds
  /// the keys once more. The attention factor, already in the keys, stays.
  template <class T>
    requires writable_as<T, S>
  void shift(head_view<T> keys, const positions& deltas, const executor& run = {}) const {
    const rotary_table<S> table(name(), speeds_, deltas, 1, run);
    turn(checked(keys, keys, {}, table), run);
  }
  /// The same delta for all.
  template <class T>
    requires writable_as<T, S>
  void shift(head_view<T> keys, position delta, const executor& run = {}) const {
    require(delta != no_position, name(), "a shift must be a number of positions", "no_position");
    const rotary_table<S> table(name(), speeds_, positions::range(1, delta));
    turn(checked(keys, keys, {}, table, false, true), run);
  }

  friend bool operator==(const rope& a, const rope& b) { return a.options_ == b.options_; }

 private:
  static frequencies check(const rope_options& options) {
    const index_t dim = options.dim;
    require(dim > 0, name(), "dim must be positive", dim);
    require(dim % 2 == 0, name(), "dim must be even", dim);
    require(options.offset >= 0, name(), "offset must not be negative", options.offset);
    require(std::isfinite(options.attention_factor) && options.attention_factor != 0, name(),
            "the attention factor must be finite and not zero", options.attention_factor);
    return frequencies::plain(name(), dim, options.base);
  }

  template <class T>
  static void turn(kernels::rotate_call<T> call, const executor& run) {
    if (call.batch == 0 || call.time == 0 || call.heads == 0) return;
    call.streaming = run.streams();
    detail::run_tokens(run, call, cost_of(call), kernels::rotate<T>);
  }
  template <class T>
  static double cost_of(const kernels::rotate_call<T>& call) {
    return detail::nanoseconds_per_value<T> * static_cast<double>(call.batch * call.time) *
           static_cast<double>(call.heads * call.pairs * 2);
  }
  template <class T, class U>
  kernels::rotate_call<kernel_scalar<U>> checked(const head_view<T>& in, const head_view<U>& out, std::span<const index_t> rows,
                                                 const rotary_table<S>& table, bool back = false, bool one_row_for_all = false) const {
    const index_t dim = options_.dim;
    const auto& from = in.by_time();
    const auto& to = out.by_time();
    require(in.channels() >= dim && options_.offset <= in.channels() - dim, name(), "offset + dim must not exceed the channels",
            in.channels(), options_.offset, dim);
    require(table.pairs() == dim / 2, name(), "the table must be of dim / 2 pairs", dim / 2, table.pairs());
    require(one_row_for_all || table.time() == in.time(), name(), "time must match the table", in.time(), table.time());
    require(table.batch() == 0 || table.batch() == in.batch(), name(), "batch must match the table", in.batch(), table.batch());
    require_rows(name(), from);
    require_output(name(), to);
    require(!overlaps_partly(from, to), name(), "input and output must be one view or not overlap", from.extents(), to.extents());
    return {.in = kernel_pointer(from.data()),
            .out = kernel_pointer(to.data()),
            .batch = in.batch(),
            .time = in.time(),
            .heads = in.count(),
            .in_batch = from.stride(0),
            .in_time = from.stride(1),
            .in_head = from.stride(2),
            .out_batch = to.stride(0),
            .out_time = to.stride(1),
            .out_head = to.stride(2),
            .rows = rows.data(),
            .table = table.row(0, 0),
            .table_batch = table.batch() == 0 ? 0 : table.time() * dim,
            .table_time = one_row_for_all ? 0 : dim,
            .pairs = dim / 2,
            .before = options_.offset,
            .after = in.channels() - dim - options_.offset,
            .interleaved = options_.pairing == pairing::interleaved,
            .back = back};
  }

  rope_options options_;
  frequencies speeds_;
};

template <compute_scalar S>
inline constexpr bool is_shiftable<rope<S>> = true;

static_assert(rotary_encoder<rope<float>> && rotary_encoder<rope<double>> && position_encoder<rope<float>>);
static_assert(!additive_encoder<rope<float>> && !bias_encoder<rope<float>>);

}  // namespace POSENC_NAMESPACE
