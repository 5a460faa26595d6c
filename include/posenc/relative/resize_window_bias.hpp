// SPDX-License-Identifier: MIT
/// \file  Tables of window biases for windows of another size than they were trained with, and the exact gradient of it.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>                 // require
#include <posenc/learned/resize.hpp>        // nearest
#include <posenc/learned/resize_taps.hpp>   // interpolation_taps
#include <posenc/relative/window_bias.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// How the differences of the old window become those of the new one. Checkpoints do not tell.
enum class window_resize_rule {
  bilinear,           ///< Hugging Face's BEiT and data2vec, when they are given pictures of another size
  bicubic,            ///< Keys 1981, a = -0.75: Swin, timm's `resize_rel_pos_bias_table_simple`, TinyViT
  bicubic_antialias,  ///< a = -0.5, widened where the window shrinks: timm's `resize_rel_pos_bias_table_levit`
  geometric_linear,  ///< old differences in geometric progression, linear between them: timm's `resize_rel_pos_bias_table` without SciPy
  geometric_cubic  ///< the same with a cubic spline: BEiT's own code; timm's with SciPy
};

struct resize_window_bias_options {
  window_bias_options from;  ///< of the old table
  window_extents to;  ///< the new window
  required<window_resize_rule> rule;
};

namespace detail {

/// Where the differences 0, 1, ... of an old axis of half + 1 of them stand among the new ones: 0, 1, 1 + q, 1 + q + q^2, ..., with q in
/// [1.01, 1.5] so that the last one comes nearest to the new last one, to_half. Near differences keep their place, far ones are stretched.
inline std::vector<double> geometric_places(index_t half, index_t to_half) {
  const auto sums = [half](double q) {
    std::vector<double> all{0};
    double power = 1;
    for (index_t n = 0; n < half; ++n, power *= q) all.push_back(all.back() + power);
    return all;
  };
  double low = 1.01, high = 1.5, q = low;
  while (high - low > 1e-6) {
    q = (low + high) / 2;
    (sums(q).back() > static_cast<double>(to_half) ? high : low) = q;
  }
  return sums(q);
}

/// The second derivatives of the cubic spline through (x[i], y[i]), not-a-knot at both ends; the parabola through three points.
inline std::vector<double> spline_curvatures(const std::vector<double>& x, const std::vector<double>& y) {
  const std::size_t n = x.size();
  std::vector<double> curvature(n), ratio(n);
  if (n < 3) return curvature;
  const auto step = [&](std::size_t i) { return x[i + 1] - x[i]; };
  const auto slope = [&](std::size_t i) { return (y[i + 1] - y[i]) / step(i); };
  if (n == 3) {
    std::ranges::fill(curvature, 2 * (slope(1) - slope(0)) / (step(0) + step(1)));
    return curvature;
  }
  // The first and the last one follow from their neighbours, which leaves a tridiagonal system for the others.
  for (std::size_t i = 1; i + 1 < n; ++i) {
    const double before = step(i - 1), after = step(i);
    double lower = before, diagonal = 2 * (before + after), upper = after;
    if (i == 1) diagonal += before + before * before / after, upper -= before * before / after;
    if (i + 2 == n) diagonal += after + after * after / before, lower -= after * after / before;
    const double carried = i == 1 ? 0 : lower;
    const double pivot = diagonal - carried * ratio[i - 1];
    ratio[i] = upper / pivot;
    curvature[i] = (6 * (slope(i) - slope(i - 1)) - carried * curvature[i - 1]) / pivot;
  }
  for (std::size_t i = n - 2; --i > 0;) curvature[i] -= ratio[i] * curvature[i + 1];
  curvature[0] = curvature[1] - step(0) / step(1) * (curvature[2] - curvature[1]);
  curvature[n - 1] = curvature[n - 2] + step(n - 2) / step(n - 3) * (curvature[n - 2] - curvature[n - 3]);
  return curvature;
}

/// The taps of one axis of differences -from_half to from_half. Beyond the last place the value is the last one.
inline axis_taps geometric_taps(index_t from_half, index_t to_half, bool cubic) {
  const auto places = geometric_places(from_half, to_half);
  std::vector<double> x;
  for (auto place = places.rbegin(); place != places.rend(); ++place) x.push_back(-*place);
  x.insert(x.end(), places.begin() + 1, places.end());
  std::vector<std::vector<double>> curvatures;  // of the spline through 1 at a place and 0 elsewhere
  for (std::size_t n = 0; cubic && n < x.size(); ++n) {
    std::vector<double> one(x.size());
    one[n] = 1;
    curvatures.push_back(spline_curvatures(x, one));
  }
  axis_taps all;
  for (index_t difference = -to_half; difference <= to_half; ++difference) {
    auto& taps = all.emplace_back();
    const double at = std::clamp(static_cast<double>(difference), x.front(), x.back());
    const std::size_t right = std::clamp(static_cast<std::size_t>(std::ranges::lower_bound(x, at) - x.begin()), std::size_t{1},
                                         std::max(x.size(), std::size_t{2}) - 1);
    const std::size_t left = right - 1;
    const double step = x.size() > 1 ? x[right] - x[left] : 1, b = (at - x[left]) / step, a = 1 - b;
    for (std::size_t n = 0; n < x.size(); ++n) {
      double weight = n == left ? a : n == right ? b : 0;
      if (cubic && x.size() > 1)
        weight += ((a * a * a - a) * curvatures[n][left] + (b * b * b - b) * curvatures[n][right]) * (step * step / 6);
      if (weight != 0) taps.push_back({static_cast<index_t>(n), weight});
    }
  }
  return all;
}

/// A table resized one axis after the other, and back.
class window_bias_resizer {
 public:
  window_bias_resizer(std::string_view who, const resize_window_bias_options& options) : who_(who) {
    const window_bias_options& from = options.from;
    const window_resize_rule rule = options.rule;
    const bool levit = from.form == window_bias_form::levit;
    const bool geometric = rule == window_resize_rule::geometric_linear || rule == window_resize_rule::geometric_cubic;
    auto to = from;
    to.window = options.to;
    const index_t rows = window_bias_rows(who, from), to_rows = window_bias_rows(who, to);
    require(from.window.size() == to.window.size(), who, "both windows must have the same axes", from.window.size(), to.window.size());
    require(!geometric || !levit, who, "geometric rules need differences of both signs: not the form levit");
    shape_ = window_bias_shape(from, rows), to_shape_ = window_bias_shape(to, to_rows);
    const bool swin = from.form == window_bias_form::swin;
    outer_ = swin ? 1 : index_t{from.heads}, inner_ = swin ? index_t{from.heads} : 1;
    class_values_ = from.class_rows ? 3 * inner_ : 0;
    for (std::size_t axis = 0; axis < to.window.size(); ++axis) {
      const index_t old_half = from.window[axis] - 1, new_half = to.window[axis] - 1;
      const index_t old_extent = levit ? old_half + 1 : 2 * old_half + 1, new_extent = levit ? new_half + 1 : 2 * new_half + 1;
      extents_.push_back(old_extent);
      if (geometric && from.window != to.window)
        taps_.push_back(geometric_taps(old_half, new_half, rule == window_resize_rule::geometric_cubic));
      else
        taps_.push_back(interpolation_taps(old_extent, new_extent, new_extent,
                                           {.filter = rule == window_resize_rule::bilinear ? grid_filter::bilinear : grid_filter::bicubic,
                                            .align_corners = false,
                                            .antialias = rule == window_resize_rule::bicubic_antialias}));
    }
  }

  template <class X, class Y>
  void forward(const tensor_view<X, 2>& table, const tensor_view<Y, 2>& resized) const {
    require_shapes(table, resized);
    auto values = read(table);
    const std::vector<double> classes(values.end() - class_values_, values.end());
    values.resize(values.size() - classes.size());
    for (std::size_t axis = 0; axis < taps_.size(); ++axis) values = along(values, axis, false);
    values.insert(values.end(), classes.begin(), classes.end());
    write(values, resized, [](double, double value) { return value; });
  }
  /// Adds to d_table.
  template <class X, class Y>
  void backward(const tensor_view<X, 2>& d_resized, const tensor_view<Y, 2>& d_table) const {
    require_shapes(d_table, d_resized);
    auto values = read(d_resized);
    const std::vector<double> classes(values.end() - class_values_, values.end());
    values.resize(values.size() - classes.size());
    for (std::size_t axis = taps_.size(); axis-- > 0;) values = along(values, axis, true);
    values.insert(values.end(), classes.begin(), classes.end());
    write(values, d_table, [](double before, double value) { return before + value; });
  }

 private:
  template <class X, class Y>
  void require_shapes(const tensor_view<X, 2>& old_table, const tensor_view<Y, 2>& new_table) const {
    require(old_table.extents() == shape_, who_, "the old table must have the shape of its window", shape_, old_table.extents());
    require(new_table.extents() == to_shape_, who_, "the new table must have the shape of its window", to_shape_, new_table.extents());
  }
  template <class X>
  std::vector<double> read(const tensor_view<X, 2>& table) const {
    require_rows(who_, table);
    std::vector<double> values;
    for (index_t row = 0; row < table.extent(0); ++row)
      for (index_t n = 0; n < table.extent(1); ++n) values.push_back(static_cast<double>(table(row, n)));
    return values;
  }
  template <class Y>
  void write(const std::vector<double>& values, const tensor_view<Y, 2>& table, auto&& sum) const {
    require_output(who_, table);
    auto value = values.begin();
    for (index_t row = 0; row < table.extent(0); ++row)
      for (index_t n = 0; n < table.extent(1); ++n) table(row, n) = nearest<Y>(sum(static_cast<double>(table(row, n)), *value++));
  }
  /// One axis resized, or back: those before it are already new, those behind it still old.
  std::vector<double> along(const std::vector<double>& values, std::size_t axis, bool transposed) const {
    index_t before = outer_, behind = inner_;
    for (std::size_t n = 0; n < axis; ++n) before *= static_cast<index_t>(taps_[n].size());
    for (std::size_t n = axis + 1; n < taps_.size(); ++n) behind *= extents_[n];
    const auto& taps = taps_[axis];
    const index_t from = extents_[axis], to = static_cast<index_t>(taps.size());
    std::vector<double> result(static_cast<std::size_t>(before * (transposed ? from : to) * behind));
    for (index_t b = 0; b < before; ++b)
      for (index_t cell = 0; cell < to; ++cell)
        for (const tap& one : taps[static_cast<std::size_t>(cell)]) {
          index_t read = (b * from + one.row) * behind, written = (b * to + cell) * behind;
          if (transposed) std::swap(read, written);
          for (index_t n = 0; n < behind; ++n)
            result[static_cast<std::size_t>(written + n)] += one.weight * values[static_cast<std::size_t>(read + n)];
        }
    return result;
  }

  std::string_view who_;
  std::array<index_t, 2> shape_{}, to_shape_{};
  index_t outer_ = 1, inner_ = 1, class_values_ = 0;
  std::vector<index_t> extents_;  // of the old axes
  std::vector<axis_taps> taps_;
};

}  // namespace detail

/// Writes a table of window biases for another window, in the same form; class rows are kept as they are. For windows of any number of
/// axes, one axis after the other, in double, rounded once. Meant for loading, or once per picture size. A new window of the old size
/// gives the old numbers. Allocates two tables in double; one thread.
///
///     resize_window_bias(old_table, {.from = {.window = {14, 14}, .heads = 12, .form = window_bias_form::swin, .class_rows = true},
///                                    .to = {24, 24}, .rule = window_resize_rule::geometric_cubic}, new_table);
///
/// Geometric rules respace all axes where any changes, as BEiT's code and timm do, even one that stays; they keep the middle, and beyond
/// the last place the last value goes on. Of three differences (a window of 2, which SciPy refuses) the cubic is the parabola.
/// Hugging Face's BEiT reads the old table with height and width swapped, which matters where the old window is not square: swap them in
/// `from` to have its numbers.
///
/// \param table    `[rows, heads]` or `[heads, rows]` by the form, of any scalar; read whole before anything is written.
/// \param resized  the same for the new window.
/// \throws argument_error  for options that do not fit together, a geometric rule for the form levit, and tables of other shapes.
template <readable_tensor T, writable_tensor Y>
  requires(rank_of<T> == 2 && rank_of<Y> == 2)
void resize_window_bias(const T& table, const resize_window_bias_options& options, Y&& resized) {
  detail::window_bias_resizer("resize_window_bias", options).forward(view_of(table), view_of(resized));
}

/// Adds the gradient of the old table, given that of the new one: the exact transpose.
template <readable_tensor T, writable_tensor Y>
  requires(rank_of<T> == 2 && rank_of<Y> == 2)
void resize_window_bias_backward(const T& d_resized, const resize_window_bias_options& options, Y&& d_table) {
  detail::window_bias_resizer("resize_window_bias_backward", options).backward(view_of(d_resized), view_of(d_table));
}

}  // namespace POSENC_NAMESPACE
