// SPDX-License-Identifier: MIT
/// \file  Learned positions: a trained table of codes, added to embeddings. Gehring et al. 2017, "Convolutional Sequence to Sequence
/// Learning"; Devlin et al. 2019, "BERT".
#pragma once

#include <posenc/additive_verbs.hpp>  // the verbs
#include <posenc/concepts.hpp>        // code_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>           // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>       // parameter, gradient_spans
#include <posenc/kernels/add_gradient.hpp>
#include <posenc/learned/table_gradient.hpp>
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// What a position has whose row lies outside the table.
enum class outside_table {
  refuse,  ///< an argument_error that names it: PyTorch, Hugging Face, CTranslate2
  zeros,   ///< a code of zeros, and no gradient: tensor2tensor
  nearest  ///< the first or the last row; x-transformers takes the first one for positions before the start
};

struct learned_options {
  required<index_t> rows, dim;              ///< of the table: positions, including those that `offset` takes, and channels
  index_t offset = 0;                       ///< the row of position 0: 2 in OPT and BART, padding_row + 1 in fairseq and RoBERTa
  std::optional<index_t> padding_row{};     ///< gets no gradient, whatever stands in it: padding_idx of PyTorch, fairseq, RoBERTa
  posenc::outside_table outside_table = outside_table::refuse;
  double scale = 1;                         ///< multiplies the code: dim^-0.5 in x-transformers. For a trained one see `scaled_sum`

  friend bool operator==(const learned_options&, const learned_options&) = default;
};

/// Adds row position + offset of a table `[rows, dim]`, which is the parameter "table". BERT, GPT-2, ViT, OPT, BART, RoBERTa.
///
/// OPT and fairseq number real tokens by the cumulative sum of the mask, as `positions::from_padding_mask` does; to padding they add row
/// `offset` - 1, which here is that of position -1: give it where that row is not zero, else `no_position` does the same.
///
/// The table is the encoder's own, and copied with it, or adopted: then copies share the caller's memory, which has to outlive them.
/// `learned<const float>` adopts memory that is only read, such as a mapped file, and cannot be trained.
///
/// See `additive_verbs` for the verbs; codes are added from the table where it lies. Equality compares options and values.
template <class T>
  requires compute_scalar<std::remove_const_t<T>>
class learned : public additive_verbs<learned<T>, std::remove_const_t<T>> {
  using S = std::remove_const_t<T>;

 public:
  /// A table of zeros: see `initialize` for what to fill it with, by `parameters()`.
  /// \throws argument_error  unless rows and dim are positive, offset and padding row lie in the table, and the scale is finite.
  explicit learned(const learned_options& options)
    requires(!std::is_const_v<T>)
      : learned(options, std::vector<S>(static_cast<std::size_t>(size_of(options)))) {}
  /// \param table  `[rows, dim]`, row after row.
  /// \throws argument_error  as above, and unless it has rows * dim values.
  learned(const learned_options& options, std::vector<S> table)
    requires(!std::is_const_v<T>)
      : options_(options), own_(std::move(table)) {
    require_size(own_.size());
  }
  /// With the caller's table. \throws argument_error  as above.
  static learned adopt(const learned_options& options, std::span<T> table) {
    learned made(table.data(), options);
    made.require_size(table.size());
    return made;
  }

  static constexpr std::string_view name() noexcept { return "learned"; }
  const learned_options& options() const noexcept { return options_; }
  index_t dim() const noexcept { return options_.dim; }
  index_t axes() const noexcept { return 1; }
  /// `[rows, dim]`.
  tensor_view<const S, 2> table() const noexcept { return {values(), {options_.rows, options_.dim}}; }

  /// d_parameters[0] += scale times the sum of `d` over the tokens of each row; d is the gradient of what `encode` wrote or `add` added,
  /// `[batch..., time, channel]`. Sums have the same bits for any number of threads: four batch rows are added to each other first where
  /// all share a range within the table, else tokens come one after the other. Allocates 8 bytes for each position where rows of the batch
  /// have starts of their own, or positions may lie outside the table.
  template <readable_tensor D>
    requires(readable_as<element_t<D>, S> && !std::is_const_v<T>)
  void encode_backward(const positions& at, const D& d, gradient_spans<S> d_parameters, double scale = 1, const executor& run = {}) const {
    const auto from = batched(d);
    this->require_readable(from, at);
    require(d_parameters.size() == 1, name(), "there must be one gradient span per parameter", 1, d_parameters.size());
    require(d_parameters[0].size() == static_cast<std::size_t>(size_of(options_)), name(), "the gradient must have the size of the table",
            size_of(options_), d_parameters[0].size());
    if (!from.empty()) add_gradients(from, at, d_parameters[0].data(), static_cast<S>(scale * options_.scale), run);
  }
  /// The gradient of `add`: d_x passes unchanged.
  template <writable_tensor X>
    requires(writable_as<element_t<X>, S> && !std::is_const_v<T>)
  void add_backward(X&& d_x, const positions& at, gradient_spans<S> d_parameters, const executor& run = {}) const {
    encode_backward(at, d_x, d_parameters, 1, run);
  }
  std::vector<parameter<S>> parameters()
    requires(!std::is_const_v<T>)
  {
    return {{"table", {values(), static_cast<std::size_t>(size_of(options_))}, {options_.rows, options_.dim}}};
  }

  friend bool operator==(const learned& a, const learned& b) {
    return a.options_ == b.options_ && std::equal(a.values(), a.values() + size_of(a.options_), b.values());
  }

  // What `additive_verbs` asks for.
  void require_known(const positions& at) const {
    if (options_.outside_table != outside_table::refuse || at.time() == 0) return;
    const index_t rows = options_.rows, offset = options_.offset;
    const auto known = [&](position id) {
      require(id == no_position || (id >= -offset && id < rows - offset), name(),
              "a position must have a row in the table, with the row and the number of rows", id, id + offset, rows);
    };
    for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b) {
      const position_row ids = at.row(b);
      if (ids.ids) {
        for (index_t t = 0; t < at.time(); ++t) known(ids[t]);
      } else {
        known(ids[0]);
        known(ids[at.time() - 1]);
      }
    }
  }
  index_t spare_values() const noexcept { return 0; }
  double nanoseconds_per_code() const noexcept { return 0; }
  index_t spare_ids() const noexcept { return options_.outside_table == outside_table::refuse ? 0 : 1; }
  kernels::code_source<S> codes(const positions& at, index_t b, index_t t, index_t count, S*, std::int64_t* spare) const {
    const position_row ids = at.row(b).from(t);
    kernels::code_source<S> source{
        .table = values() + options_.offset * options_.dim, .batch = 0, .time = options_.dim, .scale = static_cast<S>(options_.scale)};
    if (options_.outside_table == outside_table::refuse) {
      if (ids.ids) source.ids = ids.ids;
      else source.table += ids.first * options_.dim;
      return source;
    }
    for (index_t n = 0; n < count; ++n) spare[n] = known_id(ids[n]);
    source.ids = spare;
    return source;
  }

 private:
  learned(T* adopted, const learned_options& options) : options_(options), adopted_(adopted) {}

  static index_t size_of(const learned_options& options) {
    const index_t rows = options.rows, dim = options.dim;
    require(rows > 0, name(), "rows must be positive", rows);
    require(dim > 0, name(), "dim must be positive", dim);
    return checked_product(name(), std::array{rows, dim}, sizeof(S));
  }
  void require_size(std::size_t size) const {
    const index_t expected = size_of(options_), rows = options_.rows;
    require(size == static_cast<std::size_t>(expected), name(), "the table must have rows times dim values", expected, size);
    require(options_.offset >= 0 && options_.offset < rows, name(), "offset must be a row of the table", rows, options_.offset);
    if (options_.padding_row)
      require(*options_.padding_row >= 0 && *options_.padding_row < rows, name(), "padding_row must be a row of the table", rows,
              *options_.padding_row);
    require(std::abs(options_.scale) <= double{std::numeric_limits<S>::max()}, name(), "scale must be finite", options_.scale);
  }

  T* values() noexcept { return adopted_ ? adopted_ : own_.data(); }
  const S* values() const noexcept { return adopted_ ? adopted_ : own_.data(); }

  /// The id whose row a position has, or `no_position`.
  position known_id(position id) const noexcept {
    const position first = -options_.offset, last = options_.rows - options_.offset - 1;
    if (id == no_position || (id >= first && id <= last)) return id;
    if (options_.outside_table == outside_table::zeros) return no_position;
    return std::clamp(id, first, last);
  }

  template <class D>
  void add_gradients(const token_view<D>& d, const positions& at, S* sums, S scale, const executor& run) const {
    const index_t dim = options_.dim, batch = d.extent(0), time = d.extent(1);
    const position skipped = options_.padding_row ? *options_.padding_row - options_.offset : no_position;
    auto call = detail::table_gradient(d, sums + options_.offset * dim, scale);
    const double cost = detail::table_gradient_nanoseconds(d);
    const bool refuses = options_.outside_table == outside_table::refuse;
    if (refuses && at.batch() == 0 && !at.row(0).ids) {
      const position first = at.row(0).first;
      run.split(time, run.parts(time, cost), [&](index_t, index_t from, index_t to) {
        const auto sum = [&](index_t begin, index_t end) {
          if (begin >= end) return;
          auto part = call;
          part.d += begin * call.d_time, part.sums += (first + begin) * dim, part.time = end - begin;
          kernels::add_gradient(part);
        };
        const index_t still = std::clamp<position>(skipped == no_position ? to : skipped - first, from, to);
        sum(from, still);
        sum(still + (skipped != no_position && skipped - first == still ? 1 : 0), to);
      });
      return;
    }
    const bool shared = at.batch() == 0, borrowed = refuses && at.row(0).ids;
    std::vector<position> made;
    if (!borrowed)
      for (index_t b = 0; b < (shared ? 1 : batch); ++b)
        for (index_t t = 0; t < time; ++t) made.push_back(known_id(at(b, t)));
    call.still = skipped;
    detail::run_table_gradient(call, shared, [&](index_t b) { return borrowed ? at.row(b).ids : made.data() + b * time; }, cost, run);
  }

  learned_options options_;
  std::vector<S> own_;
  T* adopted_ = nullptr;
};

/// The codes of `rows` positions from `first` on as a ready table, which is added at the speed of memory: sinusoidal codes, say, that need
/// not be formed again in each call, or are to be trained further (Marian, Whisper). The table's row 0 is position `first`.
/// \throws argument_error  unless position 0 is among them, and what `learned` asks for holds.
template <code_encoder E>
learned<typename E::scalar> tabulated(const E& encoder, index_t rows, position first = 0, [[maybe_unused]] const executor& run = {}) {
  using S = typename E::scalar;
  require(first <= 0 && (rows <= 0 || first > -rows), "tabulated", "position 0 must be in the table, with its rows and the first position",
          rows, first);
  learned<S> made({.rows = rows, .dim = encoder.dim(), .offset = -first});
  const auto at = positions::range(rows, first);
  const token_view<S> codes(made.parameters()[0].values.data(), {1, rows, encoder.dim()});
  if constexpr (requires { encoder.encode(at, codes, run); }) encoder.encode(at, codes, run);
  else encoder.encode(at, codes);
  return made;
}

static_assert(code_encoder<learned<float>> && code_encoder<learned<const double>> && position_encoder<learned<float>>);
static_assert(trainable<learned<float>> && !trainable<learned<const float>> && !rotary_encoder<learned<float>>);

}  // namespace POSENC_NAMESPACE
