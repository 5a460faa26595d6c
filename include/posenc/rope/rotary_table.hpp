// SPDX-License-Identifier: MIT
/// \file  Cosines and sines of every token's angles: what rotary encoders compute once per forward pass for all layers.
#pragma once

#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>          // require
#include <posenc/executor.hpp>
#include <posenc/frequencies.hpp>
#include <posenc/kernels/phase.hpp>  // rows of cosines and sines
#include <posenc/positions.hpp>
#include <posenc/rope/rotary_descriptor.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// How fast channel pairs turn and what cosines and sines are multiplied by: what a rotary encoder's options came to.
struct rotary_spectrum {
  posenc::frequencies frequencies;
  double attention_factor = 1;       ///< multiplies the cosines and sines of queries and of keys, so the scores by its square
  std::vector<double> growth{};  ///< queries' pair k is multiplied by 2^((position - centre) * growth[k]), keys' divided by it (xPos)
  double centre = 0;

  friend bool operator==(const rotary_spectrum&, const rotary_spectrum&) = default;
};

/// One row [cosines of all pairs | sines of all pairs] per token, or per token and head. Immutable and shared: a copy is a reference count,
/// and any number of threads may read it.
template <compute_scalar S>
class rotary_table {
 public:
  /// The rows of `at`, each value the attention factor times `factor` times a cosine or sine, formed in double and rounded once: the same
  /// bits whichever way a position was asked for. Angles add over the axes; positions with one axis stand there on all of the spectrum's. A
  /// token without a position does not turn. Allocates batch * time * heads * dim values.
  /// \throws argument_error  unless the axes match, |coordinate * frequency| stays below 2^31 turns, and what grows below 2^1000.
  rotary_table(std::string_view who, const rotary_spectrum& spectrum, const positions& at, operand role, double factor = 1,
               const executor& run = {})
      : rotary_table(who, at.batch(), at.time(), spectrum, factor, at.axes()) {
    if (!spectrum.growth.empty()) require_growth(who, spectrum, at);
    fill_rows(spectrum, at, role, run, [&](auto& call, index_t b, index_t t) {
      const position_row ids = at.row(b).from(t);
      call.ids = ids.ids, call.first = ids.first;
    });
  }
  rotary_table(std::string_view who, const rotary_spectrum& spectrum, const coordinates& at, operand role, double factor = 1,
               const executor& run = {})
      : rotary_table(who, at.batch(), at.time(), spectrum, factor, at.axes()) {
    require_turns(who, spectrum.frequencies, at);
    if (!spectrum.growth.empty()) require_growth(who, spectrum, at);
    fill_rows(spectrum, at, role, run, [&](auto& call, index_t b, index_t t) { call.coordinates = at.row(b) + t; });
  }
  rotary_table(std::string_view who, const frequencies& speeds, const positions& at, double factor = 1, const executor& run = {})
      : rotary_table(who, rotary_spectrum{speeds}, at, operand::query, factor, run) {}

  /// Rows whose pairs need not turn, sums of waves: `write(first)` fills them, [batch, time, head, cosines | sines], from `first` on.
  static rotary_table of_mixtures(std::string_view who, index_t batch, index_t time, index_t heads, index_t pairs, double factor,
                                  const auto& write) {
    rotary_table made(who, batch, time, heads, pairs, factor, false);
    made.mixes_ = true;
    write(made.rows_.get());
    return made;
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
  index_t heads() const noexcept { return heads_; }  ///< 0: the same for every head
  index_t pairs() const noexcept { return pairs_; }
  double factor() const noexcept { return factor_; }
  /// The cosines of one token (and head); its sines follow.
  const S* row(index_t b, index_t t, index_t h = 0) const noexcept {
    return rows_.get() + (((batch_ == 0 ? 0 : b) * time_ + t) * std::max<index_t>(heads_, 1) + (heads_ == 0 ? 0 : h)) * 2 * pairs_;
  }
  /// Whether its rows turn and nothing else, so that turning back undoes them.
  bool only_turns() const noexcept { return factor_ * factor_ == 1 && !grows_ && !mixes_; }
  /// Whether queries and keys at one position have different rows.
  bool grows() const noexcept { return grows_; }
  /// What undoes these rows when it turns back: every pair divided by the square of its length, each value rounded once; 0 stays 0.
  rotary_table reciprocal() const {
    rotary_table made(who_, batch_, time_, heads_, pairs_, 1 / factor_, grows_);
    made.mixes_ = mixes_;
    const index_t rows = size() / std::max<index_t>(2 * pairs_, 1);
    for (index_t r = 0; r < rows; ++r)
      for (index_t k = 2 * r * pairs_; k < (2 * r + 1) * pairs_; ++k) {
        const double c = static_cast<double>(rows_[k]), s = static_cast<double>(rows_[k + pairs_]), length = std::hypot(c, s);
        const double divisor = length == 0 ? std::numeric_limits<double>::infinity() : length;
        made.rows_[k] = static_cast<S>(c / divisor / divisor), made.rows_[k + pairs_] = static_cast<S>(s / divisor / divisor);
      }
    return made;
  }

 private:
  static constexpr std::string_view who_ = "rotary_table";

  rotary_table(std::string_view who, index_t batch, index_t time, index_t heads, index_t pairs, double factor, bool grows)
      : batch_(batch), time_(time), heads_(heads), pairs_(pairs), factor_(factor), grows_(grows) {
    require(std::isfinite(factor) && factor != 0, who, "the attention factor must be finite and not zero", factor);
    const index_t count =
        checked_product(who, std::array{std::max<index_t>(batch, 1), time, std::max<index_t>(heads, 1), 2 * pairs}, sizeof(S));
    constexpr auto line = std::align_val_t(64);  // whole vectors never cross a cache line
    rows_ = std::shared_ptr<S[]>(static_cast<S*>(::operator new[](static_cast<std::size_t>(count) * sizeof(S), line)),
                                 [](S* memory) { ::operator delete[](memory, line); });
  }
  rotary_table(std::string_view who, index_t batch, index_t time, const rotary_spectrum& spectrum, double factor, index_t axes)
      : rotary_table(who, batch, time, spectrum.frequencies.heads(), spectrum.frequencies.count(), spectrum.attention_factor * factor,
                     !spectrum.growth.empty()) {
    require(axes == 1 || axes == spectrum.frequencies.axes(), who, "the positions must have as many axes as the encoder",
            spectrum.frequencies.axes(), axes);
  }
  index_t size() const noexcept { return std::max<index_t>(batch_, 1) * time_ * std::max<index_t>(heads_, 1) * 2 * pairs_; }

  /// point_at(call, b, t): where the call finds the positions of the tokens from (b, t) on.
  template <class At>
  void fill_rows(const rotary_spectrum& spectrum, const At& at, operand role, const executor& run, const auto& point_at) {
    const frequencies& speeds = spectrum.frequencies;
    const index_t rows = std::max<index_t>(batch_, 1) * time_, heads = std::max<index_t>(heads_, 1), width = 2 * pairs_;
    std::vector<double> growth = spectrum.growth;
    if (role == operand::key)
      for (double& one : growth) one = -one;
    const double cost = detail::nanoseconds_per_angle * static_cast<double>(rows * heads) * static_cast<double>(pairs_);
    run.split(rows, run.parts(rows, cost), [&](index_t, index_t from, index_t to) {
      detail::for_each_block(from, to, time_, [&](index_t b, index_t batch, index_t t, index_t time) {
        for (const index_t end = b + batch; b < end; ++b)
          for (index_t h = 0; h < heads; ++h) {
            S* first = rows_.get() + ((b * time_ + t) * heads + h) * width;
            const index_t words = h * speeds.axes() * pairs_;
            kernels::phase_call<S> call{.high = speeds.high() + words,
                                        .low = speeds.low() + words,
                                        .pairs = pairs_,
                                        .ids = nullptr,
                                        .first = 0,
                                        .rows = time,
                                        .cosine = first,
                                        .sine = first + pairs_,
                                        .row = heads * width,
                                        .interleaved = false,
                                        .scale = factor_,
                                        .absent_cosine = S(1),
                                        .axes = speeds.axes(),
                                        .axis = at.axes() == 1 ? 0 : at.axis_stride(),
                                        .whole = speeds.whole() + words,
                                        .growth = growth.empty() ? nullptr : growth.data(),
                                        .centre = spectrum.centre};
            point_at(call, b, t);
            kernels::phase<S>(call);
          }
      });
    });
  }
  template <class At>
  static void require_growth(std::string_view who, const rotary_spectrum& spectrum, const At& at) {
    double steepest = 0;
    for (const double one : spectrum.growth) steepest = std::fmax(steepest, std::abs(one));
    for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b)
      for (index_t t = 0; t < at.time(); ++t) {
        const auto place = at(b, t);
        if constexpr (std::same_as<At, positions>)
          if (place == no_position) continue;
        constexpr double limit = sizeof(S) == 4 ? 120 : 1000;
        require(!(std::abs(static_cast<double>(place) - spectrum.centre) * steepest > limit), who,
                "positions must not be so far from the centre that scales overflow", place);
      }
  }

  static rotary_table check_caches(index_t batch, index_t time, index_t dim, const auto& cosines, const auto& sines, double factor) {
    require(dim > 0 && dim % 2 == 0, who_, "dim must be positive and even", dim);
    require(cosines.extents() == sines.extents(), who_, "the caches must have one shape", cosines.extents(), sines.extents());
    const index_t width = cosines.extents().back();
    require(width == dim / 2 || width == dim, who_, "caches must be dim / 2 or dim wide", dim, width);
    return rotary_table(who_, batch, time, 0, dim / 2, factor, false);
  }
  /// row_of(cache, b, t): where the row of a token begins, or null for one that does not turn.
  void fill(pairing layout, const auto& cosines, const auto& sines, auto&& row_of) {
    const bool repeated = cosines.extents().back() == 2 * pairs_, halves = layout != pairing::interleaved;
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
  index_t batch_, time_, heads_, pairs_;
  double factor_;
  bool grows_;
  bool mixes_ = false;  // of waves: not even the lengths of rows without a factor are 1
};

/// The tables of queries and keys, one and the same where their positions are.
template <compute_scalar S>
struct rotary_tables {
  rotary_table<S> queries, keys;
  const rotary_table<S>& operator[](operand role) const noexcept { return role == operand::query ? queries : keys; }
};

}  // namespace POSENC_NAMESPACE
