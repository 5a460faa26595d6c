// SPDX-License-Identifier: MIT
/// \file  Cosines and sines of every token's angles: what rotary encoders compute once per forward pass for all layers.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>          // require
#include <posenc/executor.hpp>
#include <posenc/frequencies.hpp>
#include <posenc/kernels/phase.hpp>  // rows of cosines and sines
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <string_view>

namespace POSENC_NAMESPACE {

/// Which channels form a pair. Checkpoints do not record it, so it has no default anywhere.
enum class pairing {
  halves,      ///< (k, k + dim/2): GPT-NeoX, HF Llama, ONNX default
  interleaved  ///< (2k, 2k + 1): GPT-J, Meta's Llama, RoFormer
};

/// One row [cosines of all pairs | sines of all pairs] per token. Immutable and shared: a copy is a reference count, and any number of
/// threads may read it.
template <compute_scalar S>
class rotary_table {
 public:
  /// The rows of `at`, each value `factor` times a cosine or sine, formed in double and rounded once: the same bits whichever way a
  /// position was asked for. A token without a position does not turn. Allocates batch * time * dim values.
  rotary_table(std::string_view who, const frequencies& speeds, const positions& at, double factor = 1, const executor& run = {})
      : rotary_table(who, at.batch(), at.time(), speeds.count(), factor) {
    const index_t rows = std::max<index_t>(batch_, 1) * time_;
    const double cost = detail::nanoseconds_per_angle * static_cast<double>(rows) * static_cast<double>(pairs_);
    run.split(rows, run.parts(rows, cost), [&](index_t, index_t from, index_t to) {
      detail::for_each_block(from, to, time_, [&](index_t b, index_t batch, index_t t, index_t time) {
        for (const index_t end = b + batch; b < end; ++b) {
          const position_row ids = at.row(b).from(t);
          S* first = rows_.get() + (b * time_ + t) * 2 * pairs_;
          kernels::phase<S>({.high = speeds.high(),
                             .low = speeds.low(),
                             .pairs = pairs_,
                             .ids = ids.ids,
                             .first = ids.first,
                             .rows = time,
                             .cosine = first,
                             .sine = first + pairs_,
                             .row = 2 * pairs_,
                             .interleaved = false,
                             .scale = factor,
                             .absent_cosine = S(1)});
        }
      });
    });
  }

  /// The rows of the caller's own caches, to reproduce a system's own numbers: token t takes row t of `[time, width]`, or row (b, t) of
  /// `[batch, time, width]`. The width is the number of pairs, or twice that with each value repeated in the layout of `pairs`.
  /// \param factor  what the caches were multiplied by, for `inverse`.
  template <readable_tensor T>
    requires(rank_of<T> == 2 || rank_of<T> == 3)
  static rotary_table from_caches(index_t dim, pairing pairs, const T& cosines, const T& sines, double factor = 1) {
    const auto c = view_of(cosines), s = view_of(sines);
    constexpr bool by_row = rank_of<T> == 3;
    rotary_table made = check_caches(by_row ? c.extent(0) : 0, c.extent(rank_of<T> - 2), dim, c, s, factor);
    made.fill(pairs, c, s, [&](const auto& cache, index_t b, index_t t) {
      if constexpr (by_row) return cache.empty() ? nullptr : &cache(b, t, 0);  // no batch, no rows to read
      else return static_cast<void>(b), &cache(t, 0);
    });
    return made;
  }

  /// The rows of caches `[position, width]` that the positions pick. \throws argument_error  for an id outside them; a token without a
  /// position does not turn.
  template <readable_tensor T>
    requires(rank_of<T> == 2)
  static rotary_table from_caches(index_t dim, pairing pairs, const T& cosines, const T& sines, const positions& at, double factor = 1) {
    const auto c = view_of(cosines), s = view_of(sines);
    rotary_table made = check_caches(at.batch(), at.time(), dim, c, s, factor);
    for (index_t b = 0; b < std::max<index_t>(made.batch_, 1); ++b)
      for (index_t t = 0; t < made.time_; ++t)
        require(at(b, t) == no_position || (at(b, t) >= 0 && at(b, t) < c.extent(0)), who_, "positions must lie inside the caches",
                c.extent(0), at(b, t));
    made.fill(pairs, c, s,
              [&](const auto& cache, index_t b, index_t t) { return at(b, t) == no_position ? nullptr : &cache(at(b, t), 0); });
    return made;
  }

  index_t batch() const noexcept { return batch_; }  ///< 0: the same for every row
  index_t time() const noexcept { return time_; }
  index_t pairs() const noexcept { return pairs_; }
  double factor() const noexcept { return factor_; }
  /// The cosines of one token; its sines follow.
  const S* row(index_t b, index_t t) const noexcept { return rows_.get() + ((batch_ == 0 ? 0 : b) * time_ + t) * 2 * pairs_; }
  /// The same angles with every value, rounded once, times `by`.
  rotary_table scaled(S by) const {
    rotary_table made(who_, batch_, time_, pairs_, factor_ * static_cast<double>(by));
    const index_t count = std::max<index_t>(batch_, 1) * time_ * 2 * pairs_;
    for (index_t i = 0; i < count; ++i) made.rows_[i] = rows_[i] * by;
    return made;
  }
  /// False for a token without a position, whose row the factor does not multiply; and for one that the table leaves as it is.
  bool turns(index_t b, index_t t) const noexcept { return row(b, t)[0] != S(1) || row(b, t)[pairs_] != S(0); }

 private:
  static constexpr std::string_view who_ = "rotary_table";

  rotary_table(std::string_view who, index_t batch, index_t time, index_t pairs, double factor)
      : batch_(batch), time_(time), pairs_(pairs), factor_(factor) {
    require(std::isfinite(factor) && factor != 0, who, "the attention factor must be finite and not zero", factor);
    const index_t count = checked_product(who, std::array{std::max<index_t>(batch, 1), time, 2 * pairs}, sizeof(S));
    constexpr auto line = std::align_val_t(64);  // whole vectors never cross a cache line
    rows_ = std::shared_ptr<S[]>(static_cast<S*>(::operator new[](static_cast<std::size_t>(count) * sizeof(S), line)),
                                 [](S* memory) { ::operator delete[](memory, line); });
  }

  static rotary_table check_caches(index_t batch, index_t time, index_t dim, const auto& cosines, const auto& sines, double factor) {
    require(dim > 0 && dim % 2 == 0, who_, "dim must be positive and even", dim);
    require(cosines.extents() == sines.extents(), who_, "the caches must have one shape", cosines.extents(), sines.extents());
    const index_t width = cosines.extents().back();
    require(width == dim / 2 || width == dim, who_, "caches must be dim / 2 or dim wide", dim, width);
    return rotary_table(who_, batch, time, dim / 2, factor);
  }
  /// row_of(cache, b, t): where the row of a token begins, or null for one that does not turn.
  void fill(pairing layout, const auto& cosines, const auto& sines, auto&& row_of) {
    const bool repeated = cosines.extents().back() == 2 * pairs_, halves = layout == pairing::halves;
    S* out = rows_.get();
    for (index_t b = 0; b < std::max<index_t>(batch_, 1); ++b)
      for (index_t t = 0; t < time_; ++t)
        for (const auto* cache : {&cosines, &sines}) {
          const auto* row = row_of(*cache, b, t);
          const index_t stride = cache->strides().back();
          for (index_t k = 0; k < pairs_; ++k) {
            if (!row) {
              *out++ = S(cache == &cosines ? 1 : 0);
              continue;
            }
            const auto value = static_cast<S>(row[(repeated && !halves ? 2 * k : k) * stride]);
            require(!repeated || static_cast<S>(row[(halves ? k + pairs_ : 2 * k + 1) * stride]) == value, who_,
                    "caches of width dim must repeat each value in the layout of the pairing", halves ? "halves" : "interleaved");
            *out++ = value;
          }
        }
  }

  std::shared_ptr<S[]> rows_;
  index_t batch_, time_, pairs_;
  double factor_;
};

/// The tables of queries and keys, one and the same where their positions are.
template <compute_scalar S>
struct rotary_tables {
  rotary_table<S> queries, keys;
  const rotary_table<S>& operator[](operand role) const noexcept { return role == operand::query ? queries : keys; }
};

}  // namespace POSENC_NAMESPACE
