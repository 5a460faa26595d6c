// SPDX-License-Identifier: MIT
/// \file  The verbs that turn queries and keys by the rows of a table, whatever filled it.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>           // require
#include <posenc/executor.hpp>
#include <posenc/heads.hpp>           // head_view
#include <posenc/kernels/rotate.hpp>  // every loop over channels lives there
#include <posenc/positions.hpp>
#include <posenc/rope/rotary_descriptor.hpp>
#include <posenc/rope/rotary_table.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <utility>

namespace POSENC_NAMESPACE {

/// The base of all encoders that turn pairs of channels by a table: `Encoder` derives from it, gives its name, and makes tables.
///
/// Queries and keys are `[batch, time, head, channel]` views, made by `heads` or `split_heads`. y_a = x_a c - x_b s and
/// y_b = x_a s + x_b c are rounded after each operation: one token has the same bits in prefill and decode, at every instruction set.
///
/// Every verb checks shapes first and throws `argument_error` before it writes. With a table nothing is allocated, but by `inverse` and
/// where threads share the work. Const members may run in any number of threads at once. Values, where a model turns them too, take the
/// table of the keys; what attention makes of them, `inverse` with that of the queries (DeepSeek-V4).
template <class Encoder, compute_scalar S>
class rotary_table_verbs {
 public:
  using scalar = S;

  const rotary_descriptor& descriptor() const noexcept { return descriptor_; }

  /// The checks of `rotate` in place, alone: \throws argument_error  where it would.
  template <class T>
    requires writable_as<T, S>
  void require_fits(const head_view<T>& x, operand role, const rotary_tables<S>& tables) const {
    checked(x, x, {}, tables[role], way::forward);
  }

  /// Rotates x in place.
  template <class T>
    requires writable_as<T, S>
  void rotate(head_view<T> x, const rotary_table<S>& table, const executor& run = {}) const {
    turn(checked(x, x, {}, table, way::forward), table, run);
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
    rotate(x, self().prepare(at, run), run);
  }

  /// Reads `in`, writes `out`; channels and heads that do not turn are copied. They may be one view, but not overlap in part.
  template <class T, class U>
    requires writable_as<U, S> && stored_as<T, U>
  void rotate(head_view<T> in, head_view<U> out, const rotary_table<S>& table, const executor& run = {}) const {
    require(in.by_time().extents() == out.by_time().extents(), name(), "the output must have the input's shape", in.by_time().extents(),
            out.by_time().extents());
    turn_and_copy(checked(in, out, {}, table, way::forward), table, in, out, run);
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
    turn_and_copy(checked(in, cache, rows, table, way::forward), table, in, cache, run);
  }

  /// Undoes `rotate`, attention factor included: inverse(rotate(x)) = x up to rounding. Allocates a table where there is more to undo than
  /// a turn.
  template <class T>
    requires writable_as<T, S>
  void inverse(head_view<T> x, const rotary_table<S>& table, const executor& run = {}) const {
    const auto call = checked(x, x, {}, table, way::back);
    if (table.only_turns()) return turn(call, table, run);
    const rotary_table<S> undone = table.reciprocal();
    turn(checked(x, x, {}, undone, way::back), undone, run);
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
    turn(checked(d, d, {}, table, way::back), table, run);
  }
  template <class T>
    requires writable_as<T, S>
  void rotate_backward(head_view<T> d, operand role, const rotary_tables<S>& tables, const executor& run = {}) const {
    rotate_backward(d, tables[role], run);
  }

  friend bool operator==(const rotary_table_verbs&, const rotary_table_verbs&) = default;

 protected:
  /// forward: as `rotate` reads and writes; back: from what it wrote to what it read; within: what it wrote, in its own order.
  enum class way { forward, back, within };

  /// \throws argument_error  unless the descriptor is valid.
  explicit rotary_table_verbs(const rotary_descriptor& descriptor) : descriptor_(descriptor) { detail::require_valid(name(), descriptor); }
  ~rotary_table_verbs() = default;
  rotary_table_verbs(const rotary_table_verbs&) = default;
  rotary_table_verbs(rotary_table_verbs&&) = default;
  rotary_table_verbs& operator=(const rotary_table_verbs&) = default;
  rotary_table_verbs& operator=(rotary_table_verbs&&) = default;

  /// What an encoder may say otherwise: whether several neighbouring heads may share a row of a table by head.
  static constexpr bool heads_share_rows() noexcept { return false; }

  const Encoder& self() const noexcept { return static_cast<const Encoder&>(*this); }
  static constexpr std::string_view name() noexcept { return Encoder::name(); }

  template <class T>
  static void turn(kernels::rotate_call<T> call, const executor& run) {
    if (call.batch == 0 || call.time == 0 || call.heads == 0) return;
    call.streaming = run.streams();
    const double channels = static_cast<double>(call.pairs * call.blocks * 2 + call.before + call.after);
    const double cost =
        detail::nanoseconds_per_value<T> * static_cast<double>(call.batch * call.time) * static_cast<double>(call.heads) * channels;
    detail::run_tokens(run, call, cost, kernels::rotate<T>);
  }
  /// Neighbouring heads that share a row of the table, group by group. Where groups lie side by side, they are as good as tokens, which
  /// is faster even for one head each.
  template <class T>
  static void turn(kernels::rotate_call<T> call, const rotary_table<S>& table, const executor& run) {
    if (table.heads() == 0) return turn(call, run);
    const index_t groups = table.heads(), together = call.heads / groups, row = call.table_head;
    const index_t in_group = together * call.in_head, out_group = together * call.out_head;
    const bool side_by_side = !call.rows && call.in_time == groups * in_group && call.out_time == groups * out_group;
    if (!side_by_side && together <= 1) return turn(call, run);
    call.heads = together, call.table_head = 0;
    if (side_by_side) {
      call.time *= groups;
      call.in_time = in_group, call.out_time = out_group, call.table_time = row;
      return turn(call, run);
    }
    for (index_t g = 0; g < groups; ++g, call.in += in_group, call.out += out_group, call.table += row) turn(call, run);
  }

  /// Rotates heads that turn out of place, and copies the others.
  template <class T, class U>
  void turn_and_copy(const kernels::rotate_call<kernel_scalar<U>>& call, const rotary_table<S>& table, const head_view<T>& in,
                     const head_view<U>& out, const executor& run) const {
    turn(call, table, run);
    if (call.heads == in.count() || call.in == call.out) return;
    auto copy = call;
    copy.before = in.channels(), copy.pairs = copy.after = copy.between = 0;
    copy.exchanged = false;
    const index_t first = detail::turning_heads(name(), descriptor_, in.count()).first, behind = first + call.heads;
    for (const auto& [from, count] : {std::pair(index_t{0}, first), std::pair(behind, in.count() - behind)}) {
      copy.in = kernel_pointer(in.by_time().data() + from * in.by_time().stride(2));
      copy.out = kernel_pointer(out.by_time().data() + from * out.by_time().stride(2));
      copy.heads = count;
      turn(copy, run);
    }
  }

  template <class T, class U>
  kernels::rotate_call<kernel_scalar<U>> checked(const head_view<T>& in, const head_view<U>& out, std::span<const index_t> rows,
                                                 const rotary_table<S>& table, way direction, bool one_row_for_all = false) const {
    const auto& from = in.by_time();
    const auto& to = out.by_time();
    const index_t dim = descriptor_.dim, channels = in.channels();
    const index_t offset = detail::paired_channels(name(), descriptor_, channels).first;
    const auto [first_head, heads] = detail::turning_heads(name(), descriptor_, in.count());
    require(table.pairs() == dim / 2, name(), "the table must be of dim / 2 pairs", dim / 2, table.pairs());
    if constexpr (Encoder::heads_share_rows())
      require(table.heads() == 0 || heads % table.heads() == 0, name(), "heads must be a multiple of the table's", heads, table.heads());
    else require(table.heads() == 0 || table.heads() == heads, name(), "heads must match the table", heads, table.heads());
    require(one_row_for_all || table.time() == in.time(), name(), "time must match the table", in.time(), table.time());
    require(table.batch() == 0 || table.batch() == in.batch(), name(), "batch must match the table", in.batch(), table.batch());
    require_rows(name(), from);
    require_output(name(), to);
    require(!overlaps_partly(from, to), name(), "input and output must be one view or not overlap", from.extents(), to.extents());

    const bool exchanged = descriptor_.pairing == pairing::interleaved_to_halves;
    const bool read_interleaved = descriptor_.pairing == pairing::interleaved || (exchanged && direction == way::forward);
    const index_t blocks = read_interleaved ? 1 : descriptor_.blocks;  // neighbours know no blocks
    const index_t still = table.factor() == 1 ? still_ : 0, pairs = dim / 2 - still, width = dim * std::max<index_t>(table.heads(), 1);
    return {.in = kernel_pointer(from.data() + first_head * from.stride(2)),
            .out = kernel_pointer(to.data() + first_head * to.stride(2)),
            .batch = in.batch(),
            .time = in.time(),
            .heads = heads,
            .in_batch = from.stride(0),
            .in_time = from.stride(1),
            .in_head = from.stride(2),
            .out_batch = to.stride(0),
            .out_time = to.stride(1),
            .out_head = to.stride(2),
            .rows = rows.data(),
            .table = table.row(0, 0),
            .table_batch = table.batch() == 0 ? 0 : table.time() * width,
            .table_time = one_row_for_all ? 0 : width,
            .pairs = pairs / blocks,
            .before = offset,
            .after = channels - dim - offset + (read_interleaved ? 2 * still : 0),
            .interleaved = read_interleaved,
            .back = (direction == way::back) != (descriptor_.rotation == rotation::negative),
            .exchanged = exchanged && direction != way::within,
            .table_head = table.heads() == 0 ? 0 : dim,
            .blocks = blocks,
            .between = read_interleaved ? 0 : still,
            .sines = dim / 2};
  }

  rotary_descriptor descriptor_;
  index_t still_ = 0;  // pairs at the end that no table turns: neither read nor written
};

}  // namespace POSENC_NAMESPACE
