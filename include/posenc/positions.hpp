// SPDX-License-Identifier: MIT
/// \file  Which position each token has. One value feeds every encoder, so that offsets, caches, padding and packing are said once.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>   // require
#include <posenc/tensor.hpp>  // index_t, stored_tensor

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <ranges>
#include <vector>

namespace POSENC_NAMESPACE {

/// A token's place in its sequence. It may be negative.
using position = std::int64_t;

/// A token without a position (class token, register, padding). Every encoder leaves it alone: nothing is added to it, it is not
/// rotated, and scores from and to it get no bias and no causal mask.
inline constexpr position no_position = std::numeric_limits<position>::min();

/// The positions of one batch row: `ids[t]`, or `first + t` where `ids` is null.
struct position_row {
  const position* ids;
  position first;
  constexpr position operator[](index_t t) const noexcept { return ids ? ids[t] : first + t; }
  /// Those of the tokens from t on.
  constexpr position_row from(index_t t) const noexcept { return {ids ? ids + t : nullptr, first + t}; }
};

/// On how many axes a token can stand. A picture has two, a film three, ggml's multimodal models four.
inline constexpr index_t max_axes = 8;

namespace detail {

/// The elements of a tensor of up to three axes, in the order of its axes.
template <class T, int Rank>
  requires(Rank >= 1 && Rank <= 3)
std::vector<std::remove_const_t<T>> flat(const tensor_view<T, Rank>& view) {
  std::vector<std::remove_const_t<T>> all;
  const auto extent = [&](int axis) { return axis < 0 ? 1 : view.extent(axis); };
  const auto stride = [&](int axis) { return axis < 0 ? 0 : view.stride(axis); };
  for (index_t i = 0; i < extent(Rank - 3); ++i)
    for (index_t j = 0; j < extent(Rank - 2); ++j)
      for (index_t k = 0; k < extent(Rank - 1); ++k)
        all.push_back(view.data()[i * stride(Rank - 3) + j * stride(Rank - 2) + k * stride(Rank - 1)]);
  return all;
}

inline void require_axes(std::string_view who, index_t axes) {
  require(axes >= 1 && axes <= max_axes, who, "there must be 1 to 8 axes", axes);
}

/// The time of `count` numbers of `[axis, batch, time]`, or of `[axis, time]` where batch is 0. \throws argument_error  if there is none.
inline index_t time_of(std::string_view who, index_t count, index_t axes, index_t batch) {
  require_axes(who, axes);
  require(batch >= 0, who, "batch must not be negative", batch);
  const index_t rows = std::max<index_t>(batch, 1), per_axis = count / axes;
  require(count % axes == 0 && per_axis % rows == 0, who, "axes and batch must divide the number of values", axes, batch, count);
  return per_axis / rows;
}

}  // namespace detail

/// The positions of `[batch, time]` tokens, or of `[time]` tokens that every batch row shares. On several axes, such as the rows and
/// columns of a picture, where a token has a position on all of them or on none.
///
/// Ids lie in [-2^62, 2^62], so that a distance between two of them fits in 64 bits, or are `no_position`. They are copied once into
/// shared immutable memory (except by `borrow`); copying the value is a reference count, and it may be used from several threads.
/// Equality compares the positions, not the memory.
class positions {
 public:
  static constexpr position limit = position{1} << 62;  ///< what ids lie within, on both sides of 0

  /// first, first + 1, ...: a whole sequence, or the new tokens behind `first` cached ones.
  static positions range(index_t time, position first = 0) { return positions(nullptr, 0, time, false, first); }

  /// Row b counts from per_row[b]: sequences of different age in one batch, or left padding by a negative start.
  static positions offsets(const std::ranges::sized_range auto& per_row, index_t time) {
    const auto batch = static_cast<index_t>(std::ranges::size(per_row));
    if (batch == 0) return range(time);  // no row will ask
    return positions(copy(per_row), batch, time, false, 0);
  }

  /// Ids of `[time]`, shared by all batch rows; any order, negative allowed.
  static positions ids(const std::ranges::sized_range auto& time) {
    return positions(copy(time), 0, static_cast<index_t>(std::ranges::size(time)), true, 0);
  }

  /// Ids of `[batch, time]`, row after row. \throws argument_error  unless `batch` divides their number.
  static positions ids(const std::ranges::sized_range auto& batch_time, index_t batch) {
    const auto count = static_cast<index_t>(std::ranges::size(batch_time));
    require(batch > 0 && count % batch == 0, "positions", "batch must be positive and divide the number of ids", batch, count);
    return positions(copy(batch_time), batch, count / batch, true, 0);
  }

  /// The same from a tensor of integers, `[time]` or `[batch, time]`.
  template <stored_tensor T>
    requires(std::integral<std::remove_const_t<element_t<T>>> && (rank_of<T> == 1 || rank_of<T> == 2))
  static positions ids(const T& tensor) {
    const auto view = view_of(tensor);
    const index_t batch = rank_of<T> == 2 ? view.extent(0) : 0, time = view.extent(rank_of<T> - 1);
    if (rank_of<T> == 2 && batch == 0) return range(time);  // no row will ask
    return positions(copy(detail::flat(view)), batch, time, true, 0);
  }

  /// Ids of `[axis, batch, time]`, axis after axis; batch 0: `[axis, time]`, shared by all batch rows (ggml's t.., h.., w.., e..).
  /// \throws argument_error  unless there are 1 to 8 axes, and each token has a position on all of them or on none.
  static positions multi_axis(const std::ranges::sized_range auto& axis_batch_time, index_t axes, index_t batch = 0) {
    const index_t time = detail::time_of("positions", static_cast<index_t>(std::ranges::size(axis_batch_time)), axes, batch);
    return positions(copy(axis_batch_time), batch, time, true, 0, axes);
  }

  /// The same from a tensor of integers, `[axis, time]` or `[axis, batch, time]` (the `[3, B, T]` of multimodal models).
  template <stored_tensor T>
    requires(std::integral<std::remove_const_t<element_t<T>>> && (rank_of<T> == 2 || rank_of<T> == 3))
  static positions multi_axis(const T& tensor) {
    const auto view = view_of(tensor);
    const index_t axes = view.extent(0), batch = rank_of<T> == 3 ? view.extent(1) : 0, time = view.extent(rank_of<T> - 1);
    detail::require_axes("positions", axes);
    auto all = detail::flat(view);
    if (rank_of<T> == 3 && batch == 0) all.resize(static_cast<std::size_t>(checked_product("positions", std::array{axes, time})));
    return positions(copy(all), batch, time, true, 0, axes);  // of an empty batch, no row will ask
  }

  /// Numbers the real tokens of each row from `first`, wherever the padding stands (left, right, between); padding gets no position.
  /// \param mask  `[batch, time]`, row after row: non-zero where a token is real.
  static positions from_padding_mask(const std::ranges::sized_range auto& mask, index_t batch, position first = 0) {
    const auto count = static_cast<index_t>(std::ranges::size(mask));
    require(batch > 0 && count % batch == 0, "positions", "batch must be positive and divide the size of the mask", batch, count);
    require_start(first);
    const index_t time = count / batch;
    std::vector<position> numbered;
    numbered.reserve(static_cast<std::size_t>(count));
    position next = first;
    index_t column = 0;
    for (const auto real : mask) {
      if (column == 0) next = first;
      numbered.push_back(real ? next++ : no_position);
      column = column + 1 == time ? 0 : column + 1;
    }
    return positions(copy(numbered), batch, time, true, 0);
  }

  /// The same from a tensor `[batch, time]`.
  template <stored_tensor T>
    requires(std::integral<std::remove_const_t<element_t<T>>> && rank_of<T> == 2)
  static positions from_padding_mask(const T& mask, position first = 0) {
    const auto view = view_of(mask);
    if (view.extent(0) == 0) return range(view.extent(1));  // no row will ask
    return from_padding_mask(detail::flat(view), view.extent(0), first);
  }

  /// Several documents in one row: `boundaries` 0, 3, 7 makes 0 1 2 0 1 2 3. What other systems call cumulative sequence lengths.
  /// \throws argument_error  unless they start at 0 and never fall.
  static positions packed(const std::ranges::sized_range auto& boundaries) {
    std::vector<position> ids;
    position previous = 0;
    bool first = true;
    for (const auto boundary : boundaries) {
      const auto end = static_cast<position>(boundary);
      require(first ? end == 0 : end >= previous, "positions", "boundaries must start at 0 and never fall", end);
      for (position id = 0; id < end - previous; ++id) ids.push_back(id);
      previous = end;
      first = false;
    }
    require(!first, "positions", "boundaries must start at 0 and never fall", "none");
    return positions(copy(ids), 0, static_cast<index_t>(ids.size()), true, 0);
  }

  /// Ids of `[batch, time]` in the caller's memory, which must outlive this value and every state made from it. batch 0: `[time]`.
  static positions borrow(const position* batch_time, index_t batch, index_t time) {
    const index_t count = checked_product("positions", std::array{std::max<index_t>(batch, 1), time});
    for (index_t n = 0; n < count; ++n) require_in_range(batch_time[n]);
    return positions({std::shared_ptr<void>(), batch_time}, batch, time, true, 0);
  }

  /// The position of token `t` in row `b`.
  position operator()(index_t b, index_t t, index_t axis = 0) const noexcept { return row(b, axis)[t]; }
  position_row row(index_t b, index_t axis = 0) const noexcept {
    if (explicit_) return {ids_.get() + axis * axis_stride_ + (batch_ == 0 ? 0 : b * row_stride_) + offset_, 0};
    return {nullptr, first_ + offset_ + (ids_ ? ids_[b] : 0)};
  }
  index_t axes() const noexcept { return axes_; }
  index_t batch() const noexcept { return batch_; }  ///< 0: the same for every row
  index_t time() const noexcept { return time_; }
  /// From a token's id to the one on the next axis: `row(b, axis).ids[t]` is `row(b).ids[axis * axis_stride() + t]`. With one axis: 0.
  index_t axis_stride() const noexcept { return axis_stride_; }

  /// The largest position of any token on any axis; `no_position` if none has one. At once for ranges, one look at every id for others.
  position last() const noexcept {
    position largest = no_position;
    if (time_ == 0) return largest;
    for (index_t axis = 0; axis < axes_; ++axis)
      for (index_t b = 0; b < std::max<index_t>(batch_, 1); ++b)
        for (index_t t = explicit_ ? 0 : time_ - 1; t < time_; ++t) largest = std::max(largest, (*this)(b, t, axis));
    return largest;
  }

  /// Tokens `from` to `from + count` of every row; shares the memory.
  /// \throws argument_error  unless they lie within `time`.
  positions slice(index_t from, index_t count) const {
    require(from >= 0 && count >= 0 && from <= time_ && count <= time_ - from, "positions", "a slice must lie within time", time_, from,
            count);
    positions part = *this;
    part.offset_ += from;
    part.time_ = count;
    return part;
  }

  /// The positions on one of the axes; shares the memory.
  /// \throws argument_error  unless the axis exists.
  positions axis(index_t number) const {
    require(number >= 0 && number < axes_, "positions", "the axis must be one of the positions' axes", axes_, number);
    positions part = *this;
    if (ids_) part.ids_ = std::shared_ptr<const position[]>(ids_, ids_.get() + number * axis_stride_);
    part.axes_ = 1;
    part.axis_stride_ = 0;
    return part;
  }

  friend bool operator==(const positions& a, const positions& b) noexcept {
    if (a.axes_ != b.axes_ || a.batch_ != b.batch_ || a.time_ != b.time_) return false;
    if (a.ids_ == b.ids_ && a.explicit_ == b.explicit_ && a.first_ == b.first_ && a.offset_ == b.offset_ &&
        (!a.explicit_ || a.row_stride_ == b.row_stride_))
      return true;
    for (index_t axis = 0; axis < a.axes_; ++axis)
      for (index_t row = 0; row < std::max<index_t>(a.batch_, 1); ++row)
        for (index_t t = 0; t < a.time_; ++t)
          if (a(row, t, axis) != b(row, t, axis)) return false;
    return true;
  }

 private:
  positions(std::shared_ptr<const position[]> ids, index_t batch, index_t time, bool is_explicit, position first, index_t axes = 1)
      : ids_(std::move(ids)), axes_(axes), batch_(batch), time_(time), row_stride_(time), first_(first), explicit_(is_explicit) {
    require(time >= 0, "positions", "time must not be negative", time);
    require(batch >= 0, "positions", "batch must not be negative", batch);
    if (axes > 1) axis_stride_ = std::max<index_t>(batch, 1) * time;
    for (index_t n = axis_stride_; n < axes * axis_stride_; ++n) {
      const position one = ids_[n], same_token = ids_[n % axis_stride_];
      require((one == no_position) == (same_token == no_position), "positions", "a token must have a position on all axes or on none",
              "no_position", std::max(one, same_token));
    }
    if (explicit_) return;
    for (index_t b = 0; b < std::max<index_t>(batch, ids_ ? 0 : 1); ++b) {
      const position start = ids_ ? ids_[b] : first;
      require_start(start);
      require(time == 0 || start <= limit - (time - 1), "positions", "ids must lie in [-2^62, 2^62]", start, time);
    }
  }
  static void require_in_range(position id) {
    require(id == no_position || (id >= -limit && id <= limit), "positions", "ids must lie in [-2^62, 2^62]", id);
  }
  static void require_start(position first) {
    require(first != no_position, "positions", "a range must start at a position", "no_position");
    require_in_range(first);
  }
  static std::shared_ptr<const position[]> copy(const auto& range) {
    auto stored = std::shared_ptr<position[]>(new position[std::max<std::size_t>(std::ranges::size(range), 1)]());
    index_t n = 0;
    for (const auto value : range) {
      static_assert(std::integral<std::remove_cv_t<decltype(value)>>, "positions are integers: fractional ones are coordinates");
      require(std::in_range<position>(value), "positions", "ids must lie in [-2^62, 2^62]", value);
      require_in_range(static_cast<position>(value));
      stored[n++] = static_cast<position>(value);
    }
    return stored;
  }

  std::shared_ptr<const position[]> ids_;  // explicit ids, or one start per row, or null
  index_t axes_, batch_, time_, row_stride_, axis_stride_ = 0, offset_ = 0;
  position first_;
  bool explicit_;
};

/// Whose positions are meant: queries and keys may stand at different ones.
enum class operand { query, key };

/// Where the queries and the keys stand: true positions, never indices into a cache. Both must be given.
///
/// With a cache, `keys` are all that the scores see, cached and new, and `new_keys` those that are turned in this pass. One `prepare` then
/// serves all stages of a decode step.
struct attention_positions {
  positions queries, keys;
  std::optional<positions> new_keys{};  ///< where they are not all of `keys`

  const positions& operator[](operand role) const noexcept { return role == operand::query ? queries : keys; }
  /// The positions of what `rotate` is given.
  const positions& turned(operand role) const noexcept { return role == operand::query ? queries : new_keys ? *new_keys : keys; }
  friend bool operator==(const attention_positions&, const attention_positions&) = default;
};

/// Checks that positions, or coordinates, fit the tensor and the encoder they are for.
/// \throws argument_error  unless time and axes match, and batch too where the rows have positions of their own.
template <class Positions>
void require_match(std::string_view who, const Positions& at, index_t batch, index_t time, index_t axes = 1) {
  require(at.time() == time, who, "time must match the positions", time, at.time());
  require(at.batch() == 0 || at.batch() == batch, who, "batch must match the positions", batch, at.batch());
  require(at.axes() == axes, who, "the positions must have as many axes as the encoder", axes, at.axes());
}

}  // namespace POSENC_NAMESPACE
