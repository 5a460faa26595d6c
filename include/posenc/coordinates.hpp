// SPDX-License-Identifier: MIT
/// \file  Positions that need not be whole numbers: times in seconds, places in a picture scaled to [-1, 1], diffusion steps.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/positions.hpp>  // max_axes, operand
#include <posenc/tensor.hpp>     // index_t, stored_tensor

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <memory>
#include <optional>
#include <ranges>
#include <vector>

namespace POSENC_NAMESPACE {

/// What `no_position` is among coordinates. Any NaN means it.
inline constexpr double no_coordinate = std::numeric_limits<double>::quiet_NaN();

/// The coordinates of `[batch, time]` tokens, or of `[time]` tokens that every batch row shares, on 1 to 8 axes.
///
/// They are finite, or `no_coordinate` on all axes of a token that has no position. They are copied once into shared immutable memory;
/// copying the value is a reference count, and it may be used from several threads. Equality compares the coordinates, not the memory.
class coordinates {
 public:
  /// Of `[axis, batch, time]`, axis after axis; batch 0: `[axis, time]`, shared by all batch rows.
  /// \throws argument_error  unless they are finite or NaN, and each token has a position on all axes or on none.
  template <std::ranges::sized_range R>
    requires std::floating_point<std::ranges::range_value_t<R>>
  static coordinates values(const R& axis_batch_time, index_t axes, index_t batch = 0) {
    const index_t time = detail::time_of("coordinates", static_cast<index_t>(std::ranges::size(axis_batch_time)), axes, batch);
    return coordinates(axis_batch_time, axes, batch, time);
  }

  /// The same from a tensor of `[time]`, `[axis, time]` or `[axis, batch, time]`.
  template <readable_tensor T>
    requires(rank_of<T> >= 1 && rank_of<T> <= 3)
  static coordinates values(const T& tensor) {
    const auto view = view_of(tensor);
    const index_t axes = rank_of<T> == 1 ? 1 : view.extent(0), batch = rank_of<T> == 3 ? view.extent(1) : 0;
    const index_t time = view.extent(rank_of<T> - 1);
    detail::require_axes("coordinates", axes);
    auto all = detail::flat(view);
    if (rank_of<T> == 3 && batch == 0) all.resize(static_cast<std::size_t>(checked_product("coordinates", std::array{axes, time})));
    return coordinates(all, axes, batch, time);  // of an empty batch, no row will ask
  }

  /// The same places as positions. \throws argument_error  if one is not a double: beyond 2^53 not every whole number is.
  static coordinates of(const positions& at) {
    std::vector<double> all;
    for (index_t axis = 0; axis < at.axes(); ++axis)
      for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b)
        for (index_t t = 0; t < at.time(); ++t) all.push_back(exactly(at(b, t, axis)));
    return coordinates(all, at.axes(), at.batch(), at.time());
  }

  /// The coordinate of token `t` in row `b`.
  double operator()(index_t b, index_t t, index_t axis = 0) const noexcept { return row(b, axis)[t]; }
  const double* row(index_t b, index_t axis = 0) const noexcept {
    return values_.get() + axis * axis_stride_ + (batch_ == 0 ? 0 : b * row_stride_) + offset_;
  }
  index_t axes() const noexcept { return axes_; }
  index_t batch() const noexcept { return batch_; }  ///< 0: the same for every row
  index_t time() const noexcept { return time_; }
  /// From a token's coordinate to the one on the next axis: `row(b, axis)[t]` is `row(b)[axis * axis_stride() + t]`.
  index_t axis_stride() const noexcept { return axis_stride_; }

  /// The largest coordinate of any token on any axis; `no_coordinate` if none has one.
  double last() const noexcept {
    double largest = no_coordinate;
    for_each([&](index_t b, index_t t, index_t axis) { largest = std::fmax(largest, (*this)(b, t, axis)); });
    return largest;
  }

  /// Tokens `from` to `from + count` of every row; shares the memory.
  /// \throws argument_error  unless they lie within `time`.
  coordinates slice(index_t from, index_t count) const {
    require(from >= 0 && count >= 0 && from <= time_ && count <= time_ - from, "coordinates", "a slice must lie within time", time_, from,
            count);
    coordinates part = *this;
    part.offset_ += from;
    part.time_ = count;
    return part;
  }

  /// x + by[axis]. \throws argument_error  unless there is one finite number per axis, and no sum is infinite.
  coordinates shifted(const std::vector<double>& by) const {
    return changed(by, [](double x, double shift) { return x + shift; });
  }
  /// x * by[axis]. \throws argument_error  unless there is one finite number per axis, and no product is infinite.
  coordinates scaled(const std::vector<double>& by) const {
    return changed(by, [](double x, double factor) { return x * factor; });
  }
  /// 2 x / base[axis] - 1: from [0, base] to [-1, 1], as LTX-Video takes frames, rows and columns.
  /// \throws argument_error  unless there is one positive base per axis, and no result is infinite.
  coordinates relative_to(const std::vector<double>& base) const {
    for (const double one : base) require(one > 0, "coordinates", "a base must be positive", one);
    return changed(base, [](double x, double whole) { return x / whole * 2 - 1; });
  }

  friend bool operator==(const coordinates& a, const coordinates& b) noexcept {
    if (a.axes_ != b.axes_ || a.batch_ != b.batch_ || a.time_ != b.time_) return false;
    bool same = true;
    a.for_each([&](index_t row, index_t t, index_t axis) {
      const double x = a(row, t, axis), y = b(row, t, axis);
      same = same && (x == y || (std::isnan(x) && std::isnan(y)));
    });
    return same;
  }

 private:
  template <class R>
  coordinates(const R& range, index_t axes, index_t batch, index_t time)
      : axes_(axes), batch_(batch), time_(time), row_stride_(time), axis_stride_(std::max<index_t>(batch, 1) * time) {
    require(time >= 0, "coordinates", "time must not be negative", time);
    require(batch >= 0, "coordinates", "batch must not be negative", batch);
    auto stored = std::shared_ptr<double[]>(new double[std::max<std::size_t>(std::ranges::size(range), 1)]());
    index_t n = 0;
    for (const auto value : range) {
      const double one = static_cast<double>(value);
      require(!std::isinf(one), "coordinates", "coordinates must be finite", one);
      const double same_token = n < axis_stride_ ? one : stored[n % axis_stride_];
      require(std::isnan(one) == std::isnan(same_token), "coordinates", "a token must have a position on all axes or on none",
              "no_coordinate", std::fmax(one, same_token));
      stored[n++] = one;
    }
    values_ = stored;
  }
  static double exactly(position id) {
    constexpr position most = position{1} << std::numeric_limits<double>::digits;
    if (id == no_position) return no_coordinate;
    require(id >= -most && id <= most, "coordinates", "positions must lie in [-2^53, 2^53]", id);
    return static_cast<double>(id);
  }
  void for_each(auto&& act) const {
    for (index_t axis = 0; axis < axes_; ++axis)
      for (index_t b = 0; b < std::max<index_t>(batch_, 1); ++b)
        for (index_t t = 0; t < time_; ++t) act(b, t, axis);
  }
  coordinates changed(const std::vector<double>& by, auto&& change) const {
    require(static_cast<index_t>(by.size()) == axes_, "coordinates", "there must be one number per axis", axes_, by.size());
    for (const double one : by) require(std::isfinite(one), "coordinates", "the numbers must be finite", one);  // NaN: no position
    std::vector<double> all;
    for_each([&](index_t b, index_t t, index_t axis) { all.push_back(change((*this)(b, t, axis), by[static_cast<std::size_t>(axis)])); });
    return coordinates(all, axes_, batch_, time_);
  }

  std::shared_ptr<const double[]> values_;
  index_t axes_, batch_, time_, row_stride_, axis_stride_, offset_ = 0;
};

/// What tells where tokens stand.
template <class At>
concept token_places = std::same_as<At, positions> || std::same_as<At, coordinates>;

/// Where the queries and the keys stand: as `attention_positions`, with coordinates.
struct attention_coordinates {
  coordinates queries, keys;
  std::optional<coordinates> new_keys{};  ///< where they are not all of `keys`

  const coordinates& operator[](operand role) const noexcept { return role == operand::query ? queries : keys; }
  /// The coordinates of what `rotate` is given.
  const coordinates& turned(operand role) const noexcept { return role == operand::query ? queries : new_keys ? *new_keys : keys; }
  friend bool operator==(const attention_coordinates&, const attention_coordinates&) = default;
};

}  // namespace POSENC_NAMESPACE
