// SPDX-License-Identifier: MIT
/// \file  Learned positions in factorized tables: one small table for each axis in place of a large one. Kitaev, Kaiser, Levskaya 2020,
/// "Reformer"; Carion et al. 2020, "DETR".
#pragma once

#include <posenc/additive_verbs.hpp>  // the verbs
#include <posenc/concepts.hpp>        // code_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>           // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>       // parameter, gradient_spans
#include <posenc/kernels/add.hpp>
#include <posenc/learned/table_gradient.hpp>
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// How the rows of several tables make a code.
enum class axial_join {
  concatenate,  ///< side by side, that of the first table first: DETR, Reformer, trax
  sum           ///< added to each other in the order of the tables: LayoutLM's x and y, video models' frames and patches
};

/// Which row of each table a position takes.
enum class axial_lookup {
  axes,   ///< table a has a row for each place on axis a of the positions. Which axis is first is said where they are made: `grid_order`
  digits  ///< positions have one axis, and the rows are their digits, slowest first: i * rows[1] + j takes rows i and j (Reformer, trax)
};

struct axial_learned_options {
  std::vector<index_t> rows;     ///< of each table, 1 to 8 of them: {50, 50} in DETR
  std::vector<index_t> widths;   ///< channels of each table; all the same where rows are summed
  required<axial_join> join;
  required<axial_lookup> lookup;

  friend bool operator==(const axial_learned_options&, const axial_learned_options&) = default;
};

/// Adds a code that is made of one row of each table. The tables `[rows[n], widths[n]]` are the parameters "axis 0", "axis 1", ...
///
///     posenc::axial_learned<float> detr({.rows = {50, 50}, .widths = {128, 128}, .join = posenc::axial_join::concatenate,
///                                        .lookup = posenc::axial_lookup::axes});
///     detr.add(features, posenc::grid_positions({.extents = {h, w}, .order = posenc::grid_order::fastest_first}));  // column | row
///
///     posenc::axial_learned<float> reformer({.rows = {64, 128}, .widths = {64, 192}, .join = posenc::axial_join::concatenate,
///                                            .lookup = posenc::axial_lookup::digits});  // 64 * 128 positions
///
/// Reformer drops whole rows of axes in training: `encode`, multiply by a mask of your own and add; backward, the gradient times that mask
/// goes into `encode_backward`.
///
/// See `additive_verbs` for the verbs; a position beyond the tables is refused. Codes have the tables' bits where rows are concatenated,
/// else one rounding for each table behind the first. Equality compares options and values.
template <compute_scalar S>
class axial_learned : public additive_verbs<axial_learned<S>, S> {
 public:
  /// Tables of zeros: see `initialize` for what to fill them with, by `parameters()`.
  /// \throws argument_error  unless there are 1 to 8 axes with a width each, rows and widths are positive, widths are equal where rows are
  ///                         summed, and sizes, and the number of positions where rows are digits, fit in 63 bits.
  explicit axial_learned(const axial_learned_options& options) : options_(options), tables_(layout_of(options)) {
    for (axis_table& one : tables_) one.values.resize(one.size());
  }
  /// \param tables  `[rows, width]` of each axis, row after row. \throws argument_error  as above, and unless they have these sizes.
  axial_learned(const axial_learned_options& options, std::vector<std::vector<S>> tables) : options_(options), tables_(layout_of(options)) {
    require(tables.size() == tables_.size(), name(), "there must be one table per axis", tables_.size(), tables.size());
    for (std::size_t axis = 0; axis < tables.size(); ++axis) {
      require(tables[axis].size() == tables_[axis].size(), name(), "the table of an axis must have rows times width values, with the axis",
              tables_[axis].size(), tables[axis].size(), axis);
      tables_[axis].values = std::move(tables[axis]);
    }
  }

  static constexpr std::string_view name() noexcept { return "axial_learned"; }
  const axial_learned_options& options() const noexcept { return options_; }
  index_t dim() const noexcept { return tables_.back().first + tables_.back().width; }
  /// Of the positions: 1 where rows are their digits.
  index_t axes() const noexcept { return tables_.back().axis + 1; }
  /// `[rows, width]`. \throws argument_error  unless there is such an axis.
  tensor_view<const S, 2> table(index_t axis) const {
    require(axis >= 0 && axis < count(), name(), "the axis must have a table", count(), axis);
    const axis_table& one = tables_[static_cast<std::size_t>(axis)];
    return {one.values.data(), {one.rows, one.width}};
  }

  /// d_parameters[n] += scale times the sum of the table's channels of `d` over the tokens of each row, all channels where rows are summed.
  /// d is the gradient of what `encode` wrote or `add` added, `[batch..., time, channel]`. Tokens come one after the other: sums have the
  /// same bits for any number of threads. Allocates 8 bytes for each position.
  template <readable_tensor D>
    requires readable_as<element_t<D>, S>
  void encode_backward(const positions& at, const D& d, gradient_spans<S> d_parameters, double scale = 1, const executor& run = {}) const {
    const auto from = batched(d);
    this->require_readable(from, at);
    require(d_parameters.size() == tables_.size(), name(), "there must be one gradient span per parameter", tables_.size(),
            d_parameters.size());
    for (std::size_t axis = 0; axis < tables_.size(); ++axis)
      require(d_parameters[axis].size() == tables_[axis].size(), name(), "the gradient must have the size of the table, with the axis",
              tables_[axis].size(), d_parameters[axis].size(), axis);
    if (from.empty()) return;
    const bool shared = at.batch() == 0;
    const index_t batch = from.extent(0), time = from.extent(1), passes = shared ? 1 : batch;
    std::vector<std::int64_t> rows(static_cast<std::size_t>(passes * time));
    for (std::size_t axis = 0; axis < tables_.size(); ++axis) {
      const axis_table& one = tables_[axis];
      for (index_t b = 0; b < passes; ++b) one.find_rows(at, b, 0, time, rows.data() + b * time);
      decltype(from) part(from.data() + one.first, {batch, time, one.width}, from.strides());
      detail::run_table_gradient(
          detail::table_gradient(part, d_parameters[axis].data(), static_cast<S>(scale)), shared,
          [&](index_t b) { return rows.data() + b * time; }, detail::table_gradient_nanoseconds(part), run);
    }
  }
  /// The gradient of `add`: d_x passes unchanged.
  template <writable_tensor X>
    requires writable_as<element_t<X>, S>
  void add_backward(X&& d_x, const positions& at, gradient_spans<S> d_parameters, const executor& run = {}) const {
    encode_backward(at, d_x, d_parameters, 1, run);
  }
  std::vector<parameter<S>> parameters() {
    static constexpr std::array<std::string_view, max_axes> names{"axis 0", "axis 1", "axis 2", "axis 3",
                                                                  "axis 4", "axis 5", "axis 6", "axis 7"};
    std::vector<parameter<S>> all;
    for (axis_table& one : tables_) all.push_back({names[all.size()], one.values, {one.rows, one.width}});
    return all;
  }

  friend bool operator==(const axial_learned& a, const axial_learned& b) { return a.options_ == b.options_ && a.tables_ == b.tables_; }

  // What `additive_verbs` asks for.
  void require_known(const positions& at) const {
    for (index_t axis = 0; axis < axes(); ++axis) {
      const axis_table& one = tables_[static_cast<std::size_t>(axis)];
      const index_t known = one.rows * one.faster;
      for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b)
        for (index_t t = 0; t < at.time(); ++t) {
          const position id = at(b, t, axis);
          require(id == no_position || (id >= 0 && id < known), name(), "positions must lie in the tables, with position, axis and length",
                  id, axis, known);
        }
    }
  }
  index_t spare_values() const noexcept { return dim(); }
  index_t spare_ids() const noexcept { return count(); }
  double nanoseconds_per_code() const noexcept {
    double values = 0;
    for (const axis_table& one : tables_) values += static_cast<double>(one.width);
    return detail::nanoseconds_per_value<S> * values;
  }
  kernels::code_source<S> codes(const positions& at, index_t b, index_t t, index_t tokens, S* spare, std::int64_t* spare_ids) const {
    const bool sums = options_.join == axial_join::sum;
    std::array<kernels::code_source<S>, max_axes> others{};  // what is added to the rows of the first table
    for (std::size_t axis = 0; axis < tables_.size(); ++axis) {
      const axis_table& one = tables_[axis];
      std::int64_t* const rows = spare_ids + static_cast<index_t>(axis) * tokens;
      one.find_rows(at, b, t, tokens, rows);
      if (sums && axis > 0) {
        others[axis - 1] = {.table = one.values.data(), .batch = 0, .time = one.width, .ids = rows};
        continue;
      }
      for (index_t n = 0; n < tokens; ++n)
        if (rows[n] != no_position) std::copy_n(one.values.data() + rows[n] * one.width, one.width, spare + n * dim() + one.first);
    }
    if (sums)
      kernels::add<S>({.in = spare,
                       .out = spare,
                       .sources = others.data(),
                       .count = count() - 1,
                       .batch = 1,
                       .time = tokens,
                       .channels = dim(),
                       .in_batch = 0,
                       .in_time = dim(),
                       .out_batch = 0,
                       .out_time = dim()});
    for (index_t n = 0; n < tokens; ++n)
      if (spare_ids[n] != no_position) spare_ids[n] = n;
    return {.table = spare, .batch = 0, .time = dim(), .ids = spare_ids};
  }

 private:
  struct axis_table {
    index_t axis;  // of the positions
    index_t faster;  // how many positions share a digit
    index_t rows, width;
    index_t first;  // channel
    std::vector<S> values;

    std::size_t size() const noexcept { return static_cast<std::size_t>(rows * width); }
    /// The row of each token from t on, or `no_position`.
    void find_rows(const positions& at, index_t b, index_t t, index_t tokens, std::int64_t* found) const {
      const position_row ids = at.row(b, axis).from(t);
      for (index_t n = 0; n < tokens; ++n) found[n] = ids[n] == no_position ? no_position : ids[n] / faster % rows;
    }
    friend bool operator==(const axis_table&, const axis_table&) = default;
  };

  index_t count() const noexcept { return static_cast<index_t>(tables_.size()); }

  /// Tables without values.
  static std::vector<axis_table> layout_of(const axial_learned_options& options) {
    const bool digits = options.lookup == axial_lookup::digits, sums = options.join == axial_join::sum;
    const auto axes = static_cast<index_t>(options.rows.size());
    detail::require_axes(name(), axes);
    require(options.widths.size() == options.rows.size(), name(), "there must be one width per axis", axes, options.widths.size());
    std::vector<axis_table> made;
    index_t faster = 1, first = 0;
    for (index_t axis = 0; axis < axes; ++axis) {
      const index_t rows = options.rows[static_cast<std::size_t>(axis)], width = options.widths[static_cast<std::size_t>(axis)];
      require(rows > 0, name(), "rows must be positive", rows);
      require(width > 0, name(), "widths must be positive", width);
      require(!sums || width == options.widths[0], name(), "widths must be equal where rows are summed", options.widths[0], width);
      require(width <= std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(S)) - first, name(),
              "the size in bytes must fit in 63 bits", first, width);
      checked_product(name(), std::array{rows, width}, sizeof(S));
      made.push_back({.axis = digits ? 0 : axis, .faster = 1, .rows = rows, .width = width, .first = first, .values = {}});
      if (!sums) first += width;
    }
    for (std::size_t n = made.size(); digits && n-- > 0;) {
      made[n].faster = faster;
      faster = checked_product(name(), std::array{faster, made[n].rows});
    }
    return made;
  }

  axial_learned_options options_;
  std::vector<axis_table> tables_;
};

static_assert(code_encoder<axial_learned<float>> && code_encoder<axial_learned<double>>);
static_assert(trainable<axial_learned<float>> && position_encoder<axial_learned<float>> && !rotary_encoder<axial_learned<float>>);

}  // namespace POSENC_NAMESPACE
