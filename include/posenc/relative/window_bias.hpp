// SPDX-License-Identifier: MIT
/// \file  Trained biases between the cells of a window: Swin (Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using
/// Shifted Windows"), BEiT (Bao et al. 2021), MaxViT (Tu et al. 2022), LeViT (Graham et al. 2021).
#pragma once

#include <posenc/concepts.hpp>   // bias_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/gradients.hpp>  // parameter
#include <posenc/relative/window_bias_table.hpp>
#include <posenc/relative/window_bias_verbs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// How a table is laid out, and which way differences count; there is no default, because checkpoints do not tell. Of the differences on
/// the axes, the slowest axis comes first, and each counts from -(extent - 1).
enum class window_bias_form {
  swin,    ///< `[differences, heads]`, query minus key: Swin, Video Swin, BEiT, data2vec, Donut, timm's `RelPosBias`
  maxvit,  ///< `[heads, differences]`, key minus query: MaxViT and CoAtNet in TensorFlow, timm's `RelPosBiasTf`
  levit    ///< `[heads, cells]`, magnitudes of differences, from 0: `attention_biases` of LeViT, EfficientFormer, TinyViT
};

struct window_bias_options {
  window_extents window;    ///< cells, slowest axis first: {7, 7}; {8, 7, 7} in Video Swin
  required<index_t> heads;
  required<window_bias_form> form;
  bool class_rows = false;  ///< 3 rows behind those of the differences: class token to cell, cell to class token, class token to itself

  friend bool operator==(const window_bias_options&, const window_bias_options&) = default;
};

namespace detail {

/// The rows of a table, class rows and all. \throws argument_error  for options that cannot be.
inline index_t window_bias_rows(std::string_view who, const window_bias_options& options) {
  const cell_numbers cells(who, options.window);
  const bool swin = options.form == window_bias_form::swin;
  require(options.heads > 0, who, "heads must be positive", index_t{options.heads});
  require(swin || !options.class_rows, who, "class rows go with the form swin");
  index_t rows = cells.differences();
  if (options.form == window_bias_form::levit) {
    rows = 1;
    for (const index_t extent : options.window) rows *= extent;
  }
  if (options.class_rows) rows += 3;
  checked_product(who, std::array{rows, index_t{options.heads}}, sizeof(double));
  return rows;
}
/// `[rows, heads]`, or `[heads, rows]`.
inline std::array<index_t, 2> window_bias_shape(const window_bias_options& options, index_t rows) {
  if (options.form == window_bias_form::swin) return {rows, options.heads};
  return {options.heads, rows};
}

}  // namespace detail

/// Adds the table's number of the difference of each pair's cells to the scores, head by head, with the bits of the table:
///
///     swin        table[sum over axes of (query - key + extent - 1) * stride, head]       stride: product of 2 extent - 1 of faster axes
///     maxvit      table[head, sum over axes of (key - query + extent - 1) * stride]
///     levit       table[head, sum over axes of |key - query| * stride]                    stride: product of the faster extents
///
/// The parameter "table" has two axes; checkpoints call it relative_position_bias_table (Swin, BEiT; MaxViT's is `[heads, 2 height - 1,
/// 2 width - 1]`: leave out the split of its last axis) or attention_biases (LeViT, which numbers offsets in order of first appearance:
/// that is this order). Systems start it from a truncated normal distribution of deviation 0.02 (Swin), or zeros (BEiT, LeViT): see
/// `initialize`.
///
/// With `class_rows`, tokens without a position are class tokens: BEiT, data2vec, timm. Without, they have no bias, as timm pads it.
/// Positions say which cells there are: `grid_positions` of the window, one per extent; every second one of a picture for the queries of a
/// LeViT block that makes the picture smaller. Windows larger than the trained one: see `resize_window_bias`. Shifted ones: `window_mask`.
///
/// The table is the encoder's own, and copied with it, or adopted: then copies share the caller's memory, which has to outlive them.
/// `window_bias<const float>` adopts memory that is only read. BEiT's shared table and all Swin windows: one `prepare` for all.
/// See `window_bias_verbs` for the verbs. Equality compares options and values.
template <class T>
  requires compute_scalar<std::remove_const_t<T>>
class window_bias : public window_bias_verbs<window_bias<T>, std::remove_const_t<T>> {
  using S = std::remove_const_t<T>;

 public:
  /// A table of zeros: see `initialize` for what to fill it with, by `parameters()`.
  /// \throws argument_error  unless the window has 1 to 8 axes and positive extents, and less than 2^31 differences; unless heads are
  ///                         positive; for class rows in a form other than swin.
  explicit window_bias(const window_bias_options& options)
    requires(!std::is_const_v<T>)
      : window_bias(nullptr, options) {
    own_.resize(static_cast<std::size_t>(size()));
  }
  /// \param table  in the form's layout. \throws argument_error  as above, and unless it has rows * heads values.
  window_bias(const window_bias_options& options, std::vector<S> table)
    requires(!std::is_const_v<T>)
      : window_bias(nullptr, options) {
    require_size(table.size());
    own_ = std::move(table);
  }
  /// With the caller's table. \throws argument_error  as above.
  static window_bias adopt(const window_bias_options& options, std::span<T> table) {
    window_bias made(table.data(), options);
    made.require_size(table.size());
    return made;
  }

  static constexpr std::string_view name() noexcept { return "window_bias"; }
  const window_bias_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.heads; }
  const detail::cell_numbers& cells() const noexcept { return cells_; }
  /// Of the table, class rows and all.
  index_t rows() const noexcept { return rows_; }
  /// `[rows, heads]`, or `[heads, rows]` by the form.
  tensor_view<const S, 2> table() const noexcept { return {values(), shape()}; }

  std::vector<parameter<S>> parameters()
    requires(!std::is_const_v<T>)
  {
    return {{"table", {values(), static_cast<std::size_t>(size())}, {shape()[0], shape()[1]}}};
  }

  friend bool operator==(const window_bias& a, const window_bias& b) {
    return a.options_ == b.options_ && std::equal(a.values(), a.values() + a.size(), b.values());
  }

 private:
  friend bias_verbs<window_bias, S>;
  friend window_bias_verbs<window_bias, S>;

  window_bias(T* adopted, const window_bias_options& options)
      : options_(options), rows_(detail::window_bias_rows(name(), options)), cells_(name(), options.window), adopted_(adopted) {}
  void require_size(std::size_t values) const {
    require(static_cast<index_t>(values) == size(), name(), "the table must have rows times heads values", rows_, heads(), values);
  }
  index_t size() const noexcept { return rows_ * heads(); }
  std::array<index_t, 2> shape() const noexcept { return detail::window_bias_shape(options_, rows_); }
  T* values() noexcept { return adopted_ ? adopted_ : own_.data(); }
  const S* values() const noexcept { return adopted_ ? adopted_ : own_.data(); }

  /// Calls act(place in the table, head, difference) for all of them; differences are of key minus query.
  template <class Act>
  void for_each_difference(const Act& act) const {
    const index_t differences = cells_.differences();
    for (index_t n = 0; n < differences; ++n) {
      index_t row = options_.form == window_bias_form::swin ? differences - 1 - n : n;
      if (options_.form == window_bias_form::levit) {
        row = 0;
        for (index_t axis = cells_.axes(), rest = n, stride = 1; axis-- > 0;) {
          const index_t extent = options_.window[static_cast<std::size_t>(axis)], moved = rest % (2 * extent - 1) - (extent - 1);
          row += (moved < 0 ? -moved : moved) * stride;
          rest /= 2 * extent - 1, stride *= extent;
        }
      }
      for (index_t head = 0; head < heads(); ++head) act(place(row, head), head, n);
    }
  }
  /// The same for the three pairs with a class token, where they have a bias.
  template <class Act>
  void for_each_class(const Act& act) const {
    if (!options_.class_rows) return;
    for (index_t kind = 0; kind < 3; ++kind)
      for (index_t head = 0; head < heads(); ++head) act(place(rows_ - 3 + kind, head), head, kind);
  }
  index_t place(index_t row, index_t head) const noexcept {
    return options_.form == window_bias_form::swin ? row * heads() + head : head * rows_ + row;
  }

  // What `window_bias_verbs` asks for.
  bool has_classes() const noexcept { return options_.class_rows; }
  void fill(S* of_differences, S* of_classes) const {
    for_each_difference([&](index_t at, index_t head, index_t n) { of_differences[head * cells_.differences() + n] = values()[at]; });
    for_each_class([&](index_t at, index_t head, index_t kind) { of_classes[3 * head + kind] = values()[at]; });
  }
  void require_spans(gradient_spans<S> d_parameters) const {
    require(d_parameters.size() == 1, name(), "there must be one gradient span per parameter", 1, d_parameters.size());
    require(static_cast<index_t>(d_parameters[0].size()) == size(), name(), "the gradient must have the size of the table", size(),
            d_parameters[0].size());
  }
  void add_gradient(const double* d_differences, const double* d_classes, gradient_spans<S> d_parameters) const {
    std::vector<double> sums(static_cast<std::size_t>(size()));  // several differences may share a number
    for_each_difference(
        [&](index_t at, index_t head, index_t n) { sums[static_cast<std::size_t>(at)] += d_differences[head * cells_.differences() + n]; });
    for_each_class([&](index_t at, index_t head, index_t kind) { sums[static_cast<std::size_t>(at)] += d_classes[3 * head + kind]; });
    for (std::size_t n = 0; n < sums.size(); ++n) d_parameters[0][n] = static_cast<S>(static_cast<double>(d_parameters[0][n]) + sums[n]);
  }

  window_bias_options options_;
  index_t rows_;
  detail::cell_numbers cells_;
  std::vector<S> own_;
  T* adopted_;
};

static_assert(bias_encoder<window_bias<float>> && bias_encoder<window_bias<double>> && bias_encoder<window_bias<const float>>);
static_assert(position_encoder<window_bias<float>> && trainable<window_bias<float>> && !trainable<window_bias<const float>>);
static_assert(!additive_encoder<window_bias<float>> && !rotary_encoder<window_bias<float>>);
static_assert(!contextual_bias_encoder<window_bias<float>> && !changes_score_scale<window_bias<float>>);

}  // namespace POSENC_NAMESPACE
