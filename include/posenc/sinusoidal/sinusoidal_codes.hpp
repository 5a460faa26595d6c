// SPDX-License-Identifier: MIT
/// \file  What sinusoidal encoders share: blocks of channels, each with the sines and cosines of one axis.
#pragma once

#include <posenc/additive_verbs.hpp>
#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/executor.hpp>
#include <posenc/frequencies.hpp>
#include <posenc/kernels/phase.hpp>
#include <posenc/positions.hpp>
#include <posenc/sinusoidal/channel_order.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// The sines and cosines of pairs first_pair to first_pair + pairs, whose frequencies are those of `axis`.
struct sinusoidal_block {
  index_t axis, first_pair, pairs;
  index_t sine, cosine;  ///< the channels of the first pair
  bool interleaved;      ///< the next pair's are two channels further, else one

  /// Where `order` puts them, in 2 * pairs channels from `first` on.
  static constexpr sinusoidal_block arranged(channel_order order, index_t first, index_t axis, index_t first_pair, index_t pairs) {
    const bool interleaved = order == channel_order::interleaved;
    sinusoidal_block made{axis, first_pair, pairs, first, first + (interleaved ? 1 : pairs), interleaved};
    if (order == channel_order::cos_sin) std::swap(made.sine, made.cosine);
    return made;
  }
  friend bool operator==(const sinusoidal_block&, const sinusoidal_block&) = default;
};

/// How the sinusoidal codes of one encoder are made: its options, worked out.
struct sinusoidal_layout {
  posenc::frequencies frequencies;  ///< [axes, pairs]
  std::vector<sinusoidal_block> blocks{};
  index_t width = 0;                ///< channels that the blocks reach over; what lies behind dim is left out
  position start = 0;               ///< added to every position
  double scale = 1;                 ///< multiplies the code
  std::optional<position> padding_position{};  ///< has a code of zeros; as it is given, before the start is added
};

/// `add` and `encode` from a layout, which E gives by `layout()`. See `additive_verbs`; positions and coordinates of one axis stand there
/// on all axes of the encoder.
///
/// Codes are within 3.1e-8 (float) and 2.3e-16 (double) of the truth at every position in [-2^31, 2^31] for scale 1; the scale is applied
/// in double, before the one rounding. A coordinate that is a whole number has the code of that position; the start is added to coordinates
/// in double.
template <class E, compute_scalar S>
class sinusoidal_codes : public additive_verbs<E, S> {
 public:
  index_t dim() const noexcept { return options().dim; }
  index_t axes() const noexcept { return layout_.frequencies.axes(); }
  /// The frequencies that came out, [axes, pairs], exact and in radians.
  const frequencies& inspect() const noexcept { return layout_.frequencies; }
  /// Which channels hold what.
  const sinusoidal_layout& layout() const noexcept { return layout_; }

  // What `additive_verbs` asks for.
  void require_known(const positions&) const noexcept {}
  void require_known(const coordinates& at) const { require_turns(E::name(), layout_.frequencies, at, static_cast<double>(layout_.start)); }
  index_t spare_values() const noexcept { return std::max<index_t>(dim(), layout_.width); }
  index_t spare_ids() const noexcept { return 0; }
  bool one_axis_will_do() const noexcept { return true; }
  double nanoseconds_per_code() const noexcept { return detail::nanoseconds_per_angle * static_cast<double>(dim()) / 2; }
  template <class At>
  kernels::code_source<S> codes(const At& at, index_t b, index_t t, index_t count, S* spare, std::int64_t*) const {
    const index_t width = spare_values();
    if (layout_.width < width)
      for (index_t n = 0; n < count; ++n) std::fill_n(spare + n * width + layout_.width, width - layout_.width, S(0));
    for (const sinusoidal_block& block : layout_.blocks) {
      const auto row = at.row(b, at.axes() == 1 ? 0 : block.axis);
      if constexpr (std::same_as<At, positions>) fill(block, row.from(t), count, spare);
      else fill(block, row + t, count, spare);
    }
    return {.table = spare, .batch = 0, .time = width};
  }

 protected:
  explicit sinusoidal_codes(sinusoidal_layout layout) : layout_(std::move(layout)) {}

 private:
  const auto& options() const noexcept { return static_cast<const E&>(*this).options(); }

  void fill(const sinusoidal_block& block, position_row ids, index_t count, S* out) const {
    kernels::phase_call<S> call = prepared(block, out);
    call.ids = ids.ids, call.first = ids.first + layout_.start;
    if (!ids.ids || layout_.start == 0) {
      call.rows = count;
      kernels::phase(call);
    } else {
      in_chunks<position>(
          call, count, [&](index_t t) { return ids[t] == no_position ? no_position : ids[t] + layout_.start; },
          [&](const position* moved) { call.ids = moved; });
    }
    clear_padding(count, out, [&](index_t t) { return ids[t] == *layout_.padding_position; });
  }
  void fill(const sinusoidal_block& block, const double* places, index_t count, S* out) const {
    kernels::phase_call<S> call = prepared(block, out);
    call.whole = layout_.frequencies.whole() + (call.high - layout_.frequencies.high());
    in_chunks<double>(
        call, count, [&](index_t t) { return places[t] + static_cast<double>(layout_.start); },
        [&](const double* moved) { call.coordinates = moved; });
    clear_padding(count, out, [&](index_t t) { return places[t] == static_cast<double>(*layout_.padding_position); });
  }
  void clear_padding(index_t count, S* out, auto&& is_padding) const {
    if (!layout_.padding_position) return;
    for (index_t t = 0; t < count; ++t)
      if (is_padding(t)) std::fill_n(out + t * spare_values(), layout_.width, S(0));
  }
  template <class Place>
  static void in_chunks(kernels::phase_call<S>& call, index_t count, auto&& place, auto&& give) {
    std::array<Place, 64> moved;
    for (index_t t = 0; t < count; t += call.rows) {
      call.rows = std::min<index_t>(count - t, static_cast<index_t>(moved.size()));
      for (index_t n = 0; n < call.rows; ++n) moved[static_cast<std::size_t>(n)] = place(t + n);
      give(moved.data());
      kernels::phase(call);
      call.cosine += call.rows * call.row, call.sine += call.rows * call.row;
    }
  }
  kernels::phase_call<S> prepared(const sinusoidal_block& block, S* out) const {
    const index_t n = block.axis * layout_.frequencies.count() + block.first_pair;
    return {.high = layout_.frequencies.high() + n,
            .low = layout_.frequencies.low() + n,
            .pairs = block.pairs,
            .ids = nullptr,
            .first = 0,
            .rows = 0,
            .cosine = out + block.cosine,
            .sine = out + block.sine,
            .row = spare_values(),
            .interleaved = block.interleaved,
            .scale = layout_.scale,
            .absent_cosine = S(0)};
  }

  sinusoidal_layout layout_;
};

namespace detail {
constexpr position most_start = position{1} << 61;  // so that no sum with a position overflows, or means "no position"
}

}  // namespace POSENC_NAMESPACE
