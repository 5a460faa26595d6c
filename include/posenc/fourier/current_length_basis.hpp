// SPDX-License-Identifier: MIT
/// \file  The discrete Fourier basis whose period is the current length of the sequence.
#pragma once

#include <posenc/concepts.hpp>  // additive_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>     // require
#include <posenc/executor.hpp>
#include <posenc/fourier/fourier_basis.hpp>
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/sinusoidal/channel_order.hpp>
#include <posenc/tensor.hpp>

#include <array>
#include <optional>
#include <string_view>

namespace POSENC_NAMESPACE {

struct current_length_basis_options {
  required<index_t> dim;  ///< channels
  required<basis_functions> functions;
  std::optional<channel_order> order{};  ///< of cosines and sines, which must be given for `cos_sin` and for nothing else

  friend bool operator==(const current_length_basis_options&, const current_length_basis_options&) = default;
};

/// Adds what `fourier_basis` adds with N = the largest position of the batch row + 1: the formula taken literally where it is written for a
/// sequence of N tokens.
///
/// **The code of every token changes when the text grows by one.** It cannot be cached, nor can what was computed from it: keys and values
/// of earlier tokens are wrong after each decode step, and a chunk of a text has other codes than the whole. So this is no `code_encoder`.
/// For text that grows, give `fourier_basis` a fixed period.
///
/// Each call forms a table `[N, dim]` for each batch row whose N is not that of the row before. Rows do not depend on each other.
template <compute_scalar S>
class current_length_basis {
 public:
  using scalar = S;

  /// \throws argument_error  unless dim is positive (and even for `cos_sin`), and the order given for `cos_sin` alone.
  explicit current_length_basis(const current_length_basis_options& options) : options_(options) { of_length(1); }

  static constexpr std::string_view name() noexcept { return "current_length_basis"; }
  const current_length_basis_options& options() const noexcept { return options_; }
  index_t dim() const noexcept { return options_.dim; }

  /// What is added to a sequence of that length. \throws argument_error  unless it lies in [1, 2^40] and the table can be addressed.
  fourier_basis<S> of_length(index_t length) const {
    return fourier_basis<S>({.dim = options_.dim, .period = length, .functions = options_.functions, .order = options_.order});
  }

  /// x += code, in place, for x `[batch..., time, channel]`. \throws argument_error  unless x fits, and the largest position of each row
  /// that has one lies in [0, 2^40).
  template <writable_tensor X>
    requires writable_as<element_t<X>, S>
  void add(X&& x, const positions& at, const executor& run = {}) const {
    const auto view = batched(x);
    require_fits(view, at);
    if (view.empty()) return;
    if (at.batch() == 0) {
      if (at.last() != no_position) of_length(at.last() + 1).add(view, at, run);
      return;
    }
    std::optional<fourier_basis<S>> basis;
    for (index_t b = 0; b < view.extent(0); ++b) {
      const positions row = row_of(at, b);
      const position last = row.last();
      if (last == no_position) continue;
      if (!basis || basis->options().period != last + 1) basis = of_length(last + 1);
      basis->add(token_view<element_t<X>>(&view(b, 0, 0), {1, view.extent(1), view.extent(2)}, view.strides()), row, run);
    }
  }

  /// The checks of `add`, alone: \throws argument_error  where it would.
  template <class T>
    requires writable_as<T, S>
  void require_fits(const token_view<T>& x, const positions& at) const {
    require(x.extent(2) == dim(), name(), "channels must equal dim", dim(), x.extent(2));
    require_match(name(), at, x.extent(0), x.extent(1));
    require_output(name(), x);
    if (x.empty()) return;
    for (index_t b = 0; b < (at.batch() == 0 ? 1 : x.extent(0)); ++b) {
      const position last = row_of(at, b).last();
      require(last == no_position || (last >= 0 && last < most_length), name(), "the largest position must lie in [0, 2^40)", last);
      if (last != no_position) checked_product(name(), std::array{last + 1, dim()}, sizeof(S));
    }
  }

  friend bool operator==(const current_length_basis& a, const current_length_basis& b) { return a.options_ == b.options_; }

 private:
  static constexpr position most_length = position{1} << 40;

  static positions row_of(const positions& at, index_t b) {
    const position_row ids = at.row(b);
    return ids.ids ? positions::borrow(ids.ids, 0, at.time()) : positions::range(at.time(), ids.first);
  }

  current_length_basis_options options_;
};

static_assert(additive_encoder<current_length_basis<float>> && position_encoder<current_length_basis<double>>);
static_assert(!code_encoder<current_length_basis<float>> && !rotary_encoder<current_length_basis<float>>);

}  // namespace POSENC_NAMESPACE
