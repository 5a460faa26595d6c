// SPDX-License-Identifier: MIT
/// \file  What a causal PEG keeps of the tokens so far, and how it moves on with the next ones.
#pragma once

#include <posenc/conditional/peg_grids.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace POSENC_NAMESPACE {

/// What a causal PEG keeps of the tokens so far, in the caller's memory: the last kernel - 1 of them, and the position of the next one.
/// Zeros in both are the beginning.
template <storage_scalar T>
struct peg_state {
  token_view<T> frames;      ///< `[batch, kernel - 1, channel]`, the last token last
  std::span<position> next;  ///< `[batch]`
};

namespace detail {

/// \throws argument_error  unless the state is that of tokens x, apart from them, for a kernel of `kept` + 1 taps.
template <class T>
void require_state(const peg_state<T>& state, const token_view<T>& x, index_t kept) {
  const std::array<index_t, 3> shape{x.extent(0), kept, x.extent(2)};
  require(state.frames.extents() == shape, peg_name, "the state must be [batch, kernel - 1, dim]", shape, state.frames.extents());
  require_output(peg_name, state.frames);
  require(!overlaps_partly(state.frames, x), peg_name, "the state must not overlap the tokens", shape, x.extents());
  require(static_cast<index_t>(state.next.size()) == x.extent(0), peg_name, "the state must have one next position per row", x.extent(0),
          state.next.size());
}

/// The runs of the next tokens, of which the first may go on where the state stands.
template <class T>
row_grids grids_of(const peg_state<T>& state, const positions& at) {
  row_grids rows;
  for (std::size_t b = 0; b < state.next.size(); ++b) {
    const position next = state.next[b];
    rows.push_back(token_runs(at, static_cast<index_t>(b), next == 0 ? no_position : next));
    for (const auto& one : rows.back()) require_begins(one, one.first == 0 ? next : 0);
  }
  return rows;
}

/// The state behind tokens x, which stand on those grids: a copy, because x is overwritten before the state may be.
template <class T>
class following_state {
 public:
  following_state(const peg_state<T>& state, const row_grids& rows, const token_view<T>& x, const positions& at)
      : frames_(static_cast<std::size_t>(x.extent(0) * state.frames.extent(1) * x.extent(2))), next_(state.next.begin(), state.next.end()) {
    const index_t kept = state.frames.extent(1), time = x.extent(1), dim = x.extent(2);
    for (index_t b = 0; b < x.extent(0); ++b) {
      const auto& runs = rows[static_cast<std::size_t>(b)];
      position& then = next_[static_cast<std::size_t>(b)];
      const index_t first = runs.empty() ? 0 : runs.back().first;
      const bool goes_on = first == 0 && (runs.empty() || runs.back().start == then);
      if (runs.empty() && then == 0) continue;  // nothing has begun
      for (index_t n = 0; n < kept; ++n) {
        const index_t t = time - kept + n;
        T* const to = frames_.data() + (b * kept + n) * dim;
        if (t < 0 && goes_on) std::copy_n(&state.frames(b, kept + t, 0), dim, to);
        else if (t >= first && at(b, t) != no_position) std::copy_n(&x(b, t, 0), dim, to);
      }
      then = (runs.empty() ? then : runs.back().start) + (time - first);
    }
  }

  void write_to(const peg_state<T>& state) const {
    const T* from = frames_.data();
    for (index_t b = 0; b < state.frames.extent(0); ++b)
      for (index_t n = 0; n < state.frames.extent(1); ++n, from += state.frames.extent(2))
        std::copy_n(from, state.frames.extent(2), &state.frames(b, n, 0));
    std::ranges::copy(next_, state.next.begin());
  }

 private:
  std::vector<T> frames_;
  std::vector<position> next_;
};

}  // namespace detail
}  // namespace POSENC_NAMESPACE
