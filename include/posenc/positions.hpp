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

/// The positions of `[batch, time]` tokens, or of `[time]` tokens that every batch row shares.
///
/// Ids lie in [-2^62, 2^62], so that a distance between two of them fits in 64 bits, or are `no_position`. They are copied once into
/// shared immutable memory (except by `borrow`); copying the value is a reference count, and it may be used from several threads.
/// Equality compares the positions, not the memory.
class positions {
 public:
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
    const auto [all, batch, time] = flatten(view_of(tensor));
    if (rank_of<T> == 2 && batch == 0) return range(time);  // no row will ask
    return positions(copy(all), batch, time, true, 0);
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
    const auto [all, batch, time] = flatten(view_of(mask));
    if (batch == 0) return range(time);  // no row will ask
    return from_padding_mask(all, batch, first);
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
  position operator()(index_t b, index_t t) const noexcept { return row(b)[t]; }
  position_row row(index_t b) const noexcept {
    if (explicit_) return {ids_.get() + (batch_ == 0 ? 0 : b * row_stride_) + offset_, 0};
    return {nullptr, first_ + offset_ + (ids_ ? ids_[b] : 0)};
  }
  index_t batch() const noexcept { return batch_; }  ///< 0: the same for every row
  index_t time() const noexcept { return time_; }

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

  friend bool operator==(const positions& a, const positions& b) noexcept {
    if (a.batch_ != b.batch_ || a.time_ != b.time_) return false;
    if (a.ids_ == b.ids_ && a.explicit_ == b.explicit_ && a.first_ == b.first_ && a.offset_ == b.offset_ &&
        (!a.explicit_ || a.row_stride_ == b.row_stride_))
      return true;
    for (index_t row = 0; row < std::max<index_t>(a.batch_, 1); ++row)
      for (index_t t = 0; t < a.time_; ++t)
        if (a(row, t) != b(row, t)) return false;
    return true;
  }

 private:
  static constexpr position limit = position{1} << 62;

  positions(std::shared_ptr<const position[]> ids, index_t batch, index_t time, bool is_explicit, position first)
      : ids_(std::move(ids)), batch_(batch), time_(time), row_stride_(time), first_(first), explicit_(is_explicit) {
    require(time >= 0, "positions", "time must not be negative", time);
    require(batch >= 0, "positions", "batch must not be negative", batch);
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
  template <class T, int Rank>
  static auto flatten(const tensor_view<T, Rank>& view) {
    struct flat {
      std::vector<std::remove_const_t<T>> all;
      index_t batch, time;
    } out{{}, Rank == 2 ? view.extent(0) : 0, view.extent(Rank - 1)};
    for (index_t b = 0; b < std::max<index_t>(out.batch, Rank == 1 ? 1 : 0); ++b)
      for (index_t t = 0; t < out.time; ++t)
        if constexpr (Rank == 1) out.all.push_back(view(t));
        else out.all.push_back(view(b, t));
    return out;
  }

  std::shared_ptr<const position[]> ids_;  // explicit ids, or one start per row, or null
  index_t batch_, time_, row_stride_, offset_ = 0;
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

/// Checks that positions fit the tensor they are for.
/// \throws argument_error  unless time matches, and batch too where the rows have positions of their own.
inline void require_match(std::string_view who, const positions& at, index_t batch, index_t time) {
  require(at.time() == time, who, "time must match the positions", time, at.time());
  require(at.batch() == 0 || at.batch() == batch, who, "batch must match the positions", batch, at.batch());
}

}  // namespace POSENC_NAMESPACE
