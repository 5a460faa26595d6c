// SPDX-License-Identifier: MIT
/// \file  What all rotary encoders have in common: tables of angles, and the verbs that turn queries and keys by them.
#pragma once

#include <posenc/concepts.hpp>        // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
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
#include <cmath>
#include <concepts>
#include <span>
#include <string_view>
#include <utility>

namespace POSENC_NAMESPACE {

/// The base of the rotary encoders: `Encoder` derives from `rotary_verbs<Encoder, S>`, gives its name, and passes what its options came to.
///
/// Queries and keys are `[batch, time, head, channel]` views, made by `heads` or `split_heads`. Angles are fixed-point turns: tables are
/// within 3.1e-8 (float) and 2.3e-16 (double) of the truth at every position in [-2^31, 2^31], times the attention factor rounded up to a
/// power of two. y_a = x_a c - x_b s and y_b = x_a s + x_b c are rounded after each operation: one token has the same bits in prefill and
/// decode, at every instruction set.
///
/// Every verb checks shapes first and throws `argument_error` before it writes. With a table nothing is allocated, but by `inverse` and
/// where threads share the work. Const members may run in any number of threads at once. Values, where a model turns them too, take the
/// table of the keys; what attention makes of them, `inverse` with that of the queries (DeepSeek-V4).
template <class Encoder, compute_scalar S>
class rotary_verbs {
 public:
  using scalar = S;

  const rotary_descriptor& descriptor() const noexcept { return descriptor_; }
  /// What came out: frequencies, exact and in radians, the attention factor of the schedule, and xPos' growth.
  const rotary_spectrum& inspect() const noexcept { return spectrum_; }

  // ---- angles ------------------------------------------------------------------------------------------------------------------------

  /// The angles of queries and of the keys that are turned, once per forward pass, for all layers; one table where they stand at the same
  /// positions. \throws argument_error  unless the positions have the axes of the encoder.
  rotary_tables<S> prepare(const attention_positions& at, const executor& run = {}) const { return tables(at, run); }
  /// The same for tokens between the integers.
  rotary_tables<S> prepare(const attention_coordinates& at, const executor& run = {}) const { return tables(at, run); }
  /// The table of queries, and of keys where nothing grows, at these positions.
  rotary_table<S> prepare(const positions& at, const executor& run = {}) const { return table(at, operand::query, length_of(at), run); }
  rotary_table<S> prepare(const coordinates& at, const executor& run = {}) const { return table(at, operand::query, length_of(at), run); }

  // ---- the verbs ---------------------------------------------------------------------------------------------------------------------

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
    turn(checked(x, x, {}, table, way::forward), run);
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

  /// Reads `in`, writes `out`; channels and heads that do not turn are copied. They may be one view, but not overlap in part.
  template <class T, class U>
    requires writable_as<U, S> && stored_as<T, U>
  void rotate(head_view<T> in, head_view<U> out, const rotary_table<S>& table, const executor& run = {}) const {
    require(in.by_time().extents() == out.by_time().extents(), name(), "the output must have the input's shape", in.by_time().extents(),
            out.by_time().extents());
    turn_and_copy(checked(in, out, {}, table, way::forward), in, out, run);
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
    turn_and_copy(checked(in, cache, rows, table, way::forward), in, cache, run);
  }

  /// Undoes `rotate`, attention factor included: inverse(rotate(x)) = x up to rounding. Allocates a table where there is more to undo than
  /// a turn.
  template <class T>
    requires writable_as<T, S>
  void inverse(head_view<T> x, const rotary_table<S>& table, const executor& run = {}) const {
    const auto call = checked(x, x, {}, table, way::back);
    if (table.only_turns()) return turn(call, run);
    const rotary_table<S> undone = table.reciprocal();
    turn(checked(x, x, {}, undone, way::back), run);
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
    turn(checked(d, d, {}, table, way::back), run);
  }
  template <class T>
    requires writable_as<T, S>
  void rotate_backward(head_view<T> d, operand role, const rotary_tables<S>& tables, const executor& run = {}) const {
    rotate_backward(d, tables[role], run);
  }

  // ---- cached keys -------------------------------------------------------------------------------------------------------------------

  /// Moves cached keys, rotated before, by `deltas` positions (one for each axis): token t then stands at p + deltas(t). Angles add
  /// exactly; each shift rounds the keys once more. The attention factor, already in the keys, stays; xPos' scale changes with the
  /// position.
  /// \throws argument_error  where the frequencies depend on the length: see `at_length`.
  template <class T>
    requires writable_as<T, S>
  void shift(head_view<T> keys, const positions& deltas, const executor& run = {}) const {
    turn(checked(keys, keys, {}, shift_table(deltas, run), way::within), run);
  }
  /// The same delta for all, on each axis.
  template <class T>
    requires writable_as<T, S>
  void shift(head_view<T> keys, position delta, const executor& run = {}) const {
    require(delta != no_position, name(), "a shift must be a number of positions", "no_position");
    turn(checked(keys, keys, {}, shift_table(positions::range(1, delta), {}), way::within, true), run);
  }
  /// Turns cached keys at these positions from this encoder's frequencies to those of `to`, another base or schedule, in one rotation. The
  /// ratio of the attention factors is applied. \throws argument_error  unless both turn the same channels, none grows (xPos), and the
  /// frequencies of both are fixed: see `at_length`.
  template <class T>
    requires writable_as<T, S>
  void rerotate(head_view<T> keys, const positions& at, const Encoder& to, const executor& run = {}) const {
    require_axes(at);
    require_fixed_length();
    to.require_fixed_length();
    auto from = descriptor_;
    from.attention_factor = to.descriptor_.attention_factor;
    require(from == to.descriptor_, name(), "both encoders must turn the same channels", index_t{from.dim}, index_t{to.descriptor_.dim});
    self().with_spectrum(0, [&](const rotary_spectrum& old_one) {
      to.with_spectrum(0, [&](const rotary_spectrum& new_one) {
        require(old_one.growth.empty() && new_one.growth.empty(), name(), "keys whose scale grows cannot be turned to other frequencies");
        const double factor =
            new_one.attention_factor / old_one.attention_factor * (to.descriptor_.attention_factor / descriptor_.attention_factor);
        const rotary_table<S> change(name(), {new_one.frequencies - old_one.frequencies, factor}, at, operand::key, 1, run);
        auto call = checked(keys, keys, {}, change, way::within);
        if (to.still_ < still_) call = to.checked(keys, keys, {}, change, way::within);  // what stands still in both is left alone
        turn(call, run);
      });
    });
  }

  friend bool operator==(const rotary_verbs&, const rotary_verbs&) = default;

 protected:
  /// \throws argument_error  unless the descriptor is valid and there is a frequency for each pair.
  rotary_verbs(const rotary_descriptor& descriptor, rotary_spectrum spectrum) : descriptor_(descriptor), spectrum_(std::move(spectrum)) {
    detail::require_valid(name(), descriptor);
    require(spectrum_.frequencies.count() == descriptor.dim / 2, name(), "there must be a frequency for each pair of channels",
            descriptor.dim / 2, spectrum_.frequencies.count());
    if (Encoder::learns_frequencies() || !spectrum_.growth.empty() || descriptor.pairing == pairing::interleaved_to_halves ||
        descriptor.blocks > 1)
      return;
    while (still_ < descriptor.dim / 2 && spectrum_.frequencies.stands_still(descriptor.dim / 2 - 1 - still_)) ++still_;
  }
  ~rotary_verbs() = default;
  rotary_verbs(const rotary_verbs&) = default;
  rotary_verbs(rotary_verbs&&) = default;
  rotary_verbs& operator=(const rotary_verbs&) = default;
  rotary_verbs& operator=(rotary_verbs&&) = default;

  // What an encoder may say otherwise: whether its frequencies depend on the length, what they then are, whether positions with one axis
  // stand for all, and whether frequencies change by training.
  static constexpr bool depends_on_length() noexcept { return false; }
  auto with_spectrum(index_t, const auto& act) const { return act(spectrum_); }
  static constexpr bool one_axis_will_do() noexcept { return false; }
  static constexpr bool learns_frequencies() noexcept { return false; }

 private:
  /// forward: as `rotate` reads and writes; back: from what it wrote to what it read; within: what it wrote, in its own order.
  enum class way { forward, back, within };

  const Encoder& self() const noexcept { return static_cast<const Encoder&>(*this); }
  static constexpr std::string_view name() noexcept { return Encoder::name(); }
  template <class At>
  void require_axes(const At& at) const {
    const index_t axes = spectrum_.frequencies.axes();
    require(at.axes() == axes || (at.axes() == 1 && self().one_axis_will_do()), name(),
            "the positions must have as many axes as the encoder", axes, at.axes());
  }
  /// Cached keys do not tell at which length they were turned.
  void require_fixed_length() const {
    require(!self().depends_on_length(), name(), "cached keys need frequencies of one length: fix it by at_length");
  }
  /// How many positions are in use; asked for only where that matters.
  template <class... At>
  index_t length_of(const At&... at) const {
    if (!self().depends_on_length()) return 0;
    index_t length = 0;
    ((length = std::max(length, at.time() > 0 && at.last() >= 0 ? static_cast<index_t>(at.last()) + 1 : 0)), ...);
    return length;
  }
  template <class At>
  rotary_table<S> table(const At& at, operand role, index_t length, const executor& run) const {
    require_axes(at);
    return self().with_spectrum(length, [&](const rotary_spectrum& spectrum) {
      return rotary_table<S>(name(), spectrum, at, role, descriptor_.attention_factor, run);
    });
  }
  template <class At>
  rotary_tables<S> tables(const At& at, const executor& run) const {
    const auto &queries = at.turned(operand::query), &keys = at.turned(operand::key);
    const index_t length = length_of(queries, keys, at.keys);
    const rotary_table<S> first = table(queries, operand::query, length, run);
    if (keys == queries && !first.grows()) return {first, first};
    return {first, table(keys, operand::key, length, run)};
  }
  rotary_table<S> shift_table(const positions& deltas, const executor& run) const {
    require_fixed_length();
    return self().with_spectrum(0, [&](rotary_spectrum spectrum) {
      spectrum.attention_factor = 1;
      spectrum.centre = 0;
      return rotary_table<S>(name(), spectrum, deltas, operand::key, 1, run);
    });
  }

  template <class T>
  static void turn(kernels::rotate_call<T> call, const executor& run) {
    if (call.batch == 0 || call.time == 0 || call.heads == 0) return;
    call.streaming = run.streams();
    const double channels = static_cast<double>(call.pairs * call.blocks * 2 + call.before + call.after);
    const double cost =
        detail::nanoseconds_per_value<T> * static_cast<double>(call.batch * call.time) * static_cast<double>(call.heads) * channels;
    detail::run_tokens(run, call, cost, kernels::rotate<T>);
  }

  /// Rotates heads that turn out of place, and copies the others.
  template <class T, class U>
  void turn_and_copy(const kernels::rotate_call<kernel_scalar<U>>& call, const head_view<T>& in, const head_view<U>& out,
                     const executor& run) const {
    turn(call, run);
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
    require(table.heads() == 0 || table.heads() == heads, name(), "heads must match the table", heads, table.heads());
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
  rotary_spectrum spectrum_;
  index_t still_ = 0;  // pairs at the end that no position turns ("proportional"): neither read nor written
};

}  // namespace POSENC_NAMESPACE
