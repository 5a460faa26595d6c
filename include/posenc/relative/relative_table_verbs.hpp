// SPDX-License-Identifier: MIT
/// \file  The verbs of encoders whose trained tables have a row per distance, for keys, for values or for both: Shaw, Music Transformer.
#pragma once

#include <posenc/bias_verbs.hpp>  // require_scores_match
#include <posenc/config.hpp>
#include <posenc/error.hpp>       // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>   // parameter, gradient_spans
#include <posenc/heads.hpp>
#include <posenc/positions.hpp>
#include <posenc/relative/relative_key_verbs.hpp>
#include <posenc/relative/relative_products.hpp>
#include <posenc/relative/relative_vectors.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// Which tables an encoder of distances has, and by that which of its verbs act.
enum class relative_tables {
  keys,      ///< one, parameter "keys": `bias` alone acts. wav2vec2-BERT, SeamlessM4T, Granite speech, BERT's relative_key
  values,    ///< one, parameter "values": `add_values` alone acts
  separate,  ///< two, "keys" and "values": Shaw, tensor2tensor
  shared     ///< one for both, parameter "keys_and_values", whose gradients add up: OpenNMT
};

/// A table `[heads, rows, channels]`, or `[rows, channels]` with heads 0, which any number of heads share.
struct relative_table_shape {
  relative_tables tables;
  index_t heads, rows, channels;
  position low;  ///< the distance (key's position minus query's) of row 0
  bool clip;     ///< beyond the ends: the row of the end; or else nothing

  friend bool operator==(const relative_table_shape&, const relative_table_shape&) = default;
};

/// Keys: scores[b, h, i, j] += scale * q_i . keys[j - i], as in `relative_key_verbs`. Values: context[b, i, h] += sum over j of
/// weights[b, h, i, j] values[j - i]: the weights are summed by distance first, and what is multiplied is `[query, distance]`.
///
/// The tables are the encoder's own, and copied with it. A verb without a table does nothing, but `bias` still scales and masks. See
/// `initialize` for what to fill tables of zeros with, by `parameters()`. Equality compares shapes and values.
///
/// Derived offers name(), and this class everything else.
template <class Derived, compute_scalar S>
class relative_table_verbs : public relative_key_verbs<Derived, S> {
 public:
  index_t heads() const noexcept { return shape_.heads; }  ///< 0: any number
  index_t channels() const noexcept { return shape_.channels; }
  /// `[head, row, channel]`, one head where all share it; empty: none.
  tensor_view<const S, 3> keys() const noexcept { return has_vectors() ? view_of_table(0) : tensor_view<const S, 3>(); }
  tensor_view<const S, 3> values() const noexcept {
    return has_values() ? view_of_table(shape_.tables == relative_tables::separate ? 1 : 0) : tensor_view<const S, 3>();
  }

  using relative_key_verbs<Derived, S>::require_fits;
  /// The checks of `add_values`, alone: \throws argument_error  where it would.
  template <class T, class W>
    requires(writable_as<T, S> && readable_as<W, S>)
  void require_fits(const head_view<T>& context, const score_view<W>& weights, const attention_positions& at) const {
    require_values_fit(context, weights, at);
    if (has_values()) require_output(this->derived().name(), context.by_time());
  }

  /// context `[batch, time, head, channel]` += the weights' sum of values, in place; weights `[batch, head, query, key]`, after the
  /// soft-max: zero where masked. They must not overlap. Has the same bits in prefill, in decode and for any number of threads; the number
  /// is rounded to T once. Allocates 256 KB a thread.
  template <class T, readable_tensor W>
    requires(rank_of<W> == 4 && writable_as<T, S> && readable_as<element_t<W>, S>)
  void add_values(const head_view<T>& context, const W& weights, const attention_positions& at, const executor& run = {}) const {
    const score_view<const std::remove_const_t<element_t<W>>> w = weights;
    require_fits(context, w, at);
    if (has_values() && !w.empty()) detail::add_relative_values(context, w, values_product(at), run);
  }

  /// The gradient of `add_values`: adds to d_weights, which must not overlap the weights, and to d_parameters; that of the context passes
  /// unchanged. Sums over queries are taken in S, in their order, head by head. Allocates the table's gradient once for each head.
  template <class T, readable_tensor W, writable_tensor D>
    requires(rank_of<W> == 4 && rank_of<D> == 4 && readable_as<T, S> && readable_as<element_t<W>, S> && writable_as<element_t<D>, S>)
  void add_values_backward(const head_view<T>& d_context, const W& weights, D&& d_weights, const attention_positions& at,
                           gradient_spans<S> d_parameters, const executor& run = {}) const {
    const head_view<const std::remove_const_t<T>> d = d_context;
    const score_view<const std::remove_const_t<element_t<W>>> w = weights;
    const score_view<element_t<D>> d_w = d_weights;
    const std::string_view who = this->derived().name();
    require_values_fit(d, w, at);
    require(d_w.extents() == w.extents(), who, "gradients must have the shapes of what they are of", w.extents(), d_w.extents());
    require_output(who, d_w);
    require_spans(d_parameters);
    if (!has_values() || w.empty()) return;
    const auto product = values_product(at);
    detail::add_relative_products(d_w, d_w, d, product, run);
    std::vector<S> d_vectors(
        static_cast<std::size_t>(checked_product(who, std::array{w.extent(1), shape_.rows, shape_.channels}, sizeof(S))));
    detail::add_relative_values_gradient(d, w, product, d_vectors.data(), run);
    add_to(d_parameters.back(), d_vectors, w.extent(1));
  }

  std::vector<parameter<S>> parameters() {
    const std::string_view first = shape_.tables == relative_tables::shared   ? "keys_and_values"
                                   : shape_.tables == relative_tables::values ? "values"
                                                                              : "keys";
    std::vector<index_t> shape{shape_.rows, shape_.channels};
    if (shape_.heads > 0) shape.insert(shape.begin(), shape_.heads);
    std::vector<parameter<S>> all{{first, tables_[0], shape}};
    if (tables_.size() > 1) all.push_back({"values", tables_[1], shape});
    return all;
  }

 protected:
  /// \throws argument_error  unless heads is not negative, channels positive, and the size of a table can be said in bytes.
  explicit relative_table_verbs(const relative_table_shape& shape)
      : shape_(shape), tables_(shape.tables == relative_tables::separate ? 2 : 1, std::vector<S>(size_of(shape))) {}
  /// \throws argument_error  as above, and unless there are as many tables as `shape` says and each has its size.
  relative_table_verbs(const relative_table_shape& shape, std::vector<std::vector<S>> tables) : shape_(shape), tables_(std::move(tables)) {
    const std::size_t size = size_of(shape), count = shape.tables == relative_tables::separate ? 2 : 1;
    require(tables_.size() == count, Derived::name(), "there must be a table for keys and for values, or one for both", count,
            tables_.size());
    for (const auto& table : tables_)
      require(table.size() == size, Derived::name(), "a table must have (heads times) rows times channels values", size, table.size());
  }

  bool same_tables(const relative_table_verbs& other) const { return shape_ == other.shape_ && tables_ == other.tables_; }

 private:
  friend relative_key_verbs<Derived, S>;

  static std::size_t size_of(const relative_table_shape& shape) {
    require(shape.heads >= 0, Derived::name(), "heads must not be negative", shape.heads);
    require(shape.channels > 0, Derived::name(), "channels must be positive", shape.channels);
    return static_cast<std::size_t>(
        checked_product(Derived::name(), std::array{std::max<index_t>(shape.heads, 1), shape.rows, shape.channels}, sizeof(S)));
  }

  bool has_vectors() const noexcept { return shape_.tables != relative_tables::values; }
  bool has_values() const noexcept { return shape_.tables != relative_tables::keys; }
  tensor_view<const S, 3> view_of_table(std::size_t number) const noexcept {
    return {tables_[number].data(), {std::max<index_t>(shape_.heads, 1), shape_.rows, shape_.channels}};
  }
  relative_vectors<S> vectors_of(const tensor_view<const S, 3>& table) const noexcept {
    return {table.data(), shape_.heads > 0 ? table.stride(0) : 0, table.stride(1), shape_.rows, shape_.low, shape_.clip};
  }
  relative_vectors<S> vectors(const attention_positions&) const noexcept { return vectors_of(keys()); }
  detail::relative_product<S> values_product(const attention_positions& at) const { return {.vectors = vectors_of(values()), .at = at}; }

  template <class T, class W>
  void require_values_fit(const head_view<T>& context, const score_view<W>& weights, const attention_positions& at) const {
    const std::string_view who = this->derived().name();
    require(heads() == 0 || weights.extent(1) == heads(), who, "heads must match the encoder", heads(), weights.extent(1));
    detail::require_scores_match(who, at, weights.extent(0), weights.extent(2), weights.extent(3));
    require(context.batch() == weights.extent(0) && context.time() == weights.extent(2) && context.count() == weights.extent(1), who,
            "the context must be [batch, time, head] of the weights", context.by_time().extents(), weights.extents());
    if (!has_values() || weights.empty()) return;
    require(context.channels() == channels(), who, "channels must match the encoder", channels(), context.channels());
    require_rows(who, context.by_time());
    require_rows(who, weights);
  }

  void require_spans(gradient_spans<S> d_parameters) const {
    const std::string_view who = this->derived().name();
    require(d_parameters.size() == tables_.size(), who, "there must be one gradient span per parameter", tables_.size(),
            d_parameters.size());
    for (const auto& span : d_parameters)
      require(span.size() == tables_[0].size(), who, "gradient spans must have the sizes of the parameters", tables_[0].size(),
              span.size());
  }
  void add_gradient(const attention_positions&, index_t heads, const relative_key_gradient<S>& d, gradient_spans<S> d_parameters) const {
    add_to(d_parameters[0], d.vectors, heads);
  }
  /// d: `[heads, row, channel]`, summed where heads share a table.
  void add_to(std::span<S> sums, const std::vector<S>& d, index_t heads) const {
    const index_t size = shape_.rows * shape_.channels;
    for (index_t h = 0; h < heads; ++h) {
      S* const to = sums.data() + (shape_.heads > 0 ? h * size : 0);
      std::transform(to, to + size, d.data() + h * size, to, [](S sum, S value) { return sum + value; });
    }
  }

  relative_table_shape shape_;
  std::vector<std::vector<S>> tables_;  // the values' one last
};

}  // namespace POSENC_NAMESPACE
