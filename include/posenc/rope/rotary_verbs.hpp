// SPDX-License-Identifier: MIT
/// \file  What all rotary encoders have in common: tables of angles, their tables, and what only angles allow: moving cached keys.
#pragma once

#include <posenc/concepts.hpp>        // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>           // require
#include <posenc/executor.hpp>
#include <posenc/heads.hpp>           // head_view
#include <posenc/positions.hpp>
#include <posenc/rope/rotary_descriptor.hpp>
#include <posenc/rope/rotary_table.hpp>
#include <posenc/rope/rotary_table_verbs.hpp>  // the verbs
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
/// See `rotary_table_verbs` for what is promised of the verbs. Angles are fixed-point turns: tables are within 3.1e-8 (float) and 2.3e-16
/// (double) of the truth at every position in [-2^31, 2^31], times the attention factor rounded up to a power of two.
template <class Encoder, compute_scalar S>
class rotary_verbs : public rotary_table_verbs<Encoder, S> {
  using base = rotary_table_verbs<Encoder, S>;

 public:
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
    const rotary_verbs& other = to;
    other.require_fixed_length();
    auto from = descriptor_;
    from.attention_factor = other.descriptor_.attention_factor;
    require(from == other.descriptor_, name(), "both encoders must turn the same channels", index_t{from.dim},
            index_t{other.descriptor_.dim});
    self().with_spectrum(0, [&](const rotary_spectrum& old_one) {
      to.with_spectrum(0, [&](const rotary_spectrum& new_one) {
        require(old_one.growth.empty() && new_one.growth.empty(), name(), "keys whose scale grows cannot be turned to other frequencies");
        const double factor =
            new_one.attention_factor / old_one.attention_factor * (other.descriptor_.attention_factor / descriptor_.attention_factor);
        const rotary_table<S> change(name(), {new_one.frequencies - old_one.frequencies, factor}, at, operand::key, 1, run);
        auto call = checked(keys, keys, {}, change, way::within);
        if (other.still_ < still_) call = other.checked(keys, keys, {}, change, way::within);  // what stands still in both is left alone
        turn(call, run);
      });
    });
  }

  friend bool operator==(const rotary_verbs&, const rotary_verbs&) = default;

 protected:
  /// \throws argument_error  unless the descriptor is valid and there is a frequency for each pair.
  rotary_verbs(const rotary_descriptor& descriptor, rotary_spectrum spectrum) : base(descriptor), spectrum_(std::move(spectrum)) {
    require(spectrum_.frequencies.count() == descriptor.dim / 2, name(), "there must be a frequency for each pair of channels",
            descriptor.dim / 2, spectrum_.frequencies.count());
    if (Encoder::learns_frequencies() || !spectrum_.growth.empty() || descriptor.pairing == pairing::interleaved_to_halves ||
        descriptor.blocks > 1)
      return;
    // What no position turns ("proportional") is left alone.
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
  using base::descriptor_, base::still_, base::self, base::name, base::turn, base::checked;
  using typename base::way;

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

  rotary_spectrum spectrum_;
};

}  // namespace POSENC_NAMESPACE
