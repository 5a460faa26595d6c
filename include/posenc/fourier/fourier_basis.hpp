// SPDX-License-Identifier: MIT
/// \file  The discrete Fourier basis: cosines (and sines) of whole numbers of turns within a period of N positions, added to embeddings.
#pragma once

#include <posenc/additive_verbs.hpp>  // the verbs
#include <posenc/concepts.hpp>        // code_encoder
#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>           // require
#include <posenc/gradients.hpp>       // trainable
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/sinusoidal/channel_order.hpp>
#include <posenc/tensor.hpp>

#include <array>
#include <bit>
#include <cmath>  // nextafter: exact
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// Which functions of position p are the channels, for a period of N positions.
enum class basis_functions {
  cosine,   ///< cos(2 pi k p / N), k = 0 ... dim - 1: the real part of a row of the discrete Fourier transform
  cos_sin,  ///< the cosines and the sines of 2 pi k p / N, k = 0 ... dim / 2 - 1
  dct2      ///< cos(pi k (p + 1/2) / N), k = 0 ... dim - 1: the discrete cosine transform of type II (Ahmed, Natarajan, Rao 1974)
};

struct fourier_basis_options {
  required<index_t> dim;     ///< channels
  required<index_t> period;  ///< N: as a rule the longest sequence. See `current_length_basis` for one that follows the text
  required<basis_functions> functions;
  std::optional<channel_order> order{};  ///< of cosines and sines, which must be given for `cos_sin` and for nothing else

  friend bool operator==(const fourier_basis_options&, const fourier_basis_options&) = default;
};

namespace detail {

/// The nearest number to a sum of two doubles, to even: through a double whose last bit says that there is more, so that the second
/// rounding does not mistake what is near a tie for one.
template <compute_scalar S>
S rounded(double_double x) noexcept {
  if (x.low != 0 && std::bit_cast<std::uint64_t>(x.high) % 2 == 0 && sizeof(S) < sizeof(double)) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    return static_cast<S>(std::nextafter(x.high, x.low > 0 ? infinity : -infinity));
  }
  return static_cast<S>(x.high);
}

/// 1 - y/(n (n+1)) (1 - y/((n+2) (n+3)) (1 - ...)) for y <= (pi / 4)^2: the cosine from n = 1, sine over angle from n = 2.
inline double_double alternating_series(double_double y, int n) noexcept {
  double_double series{1, 0};
  for (int last = n + 28; last >= n; last -= 2) series = double_double{1, 0} - y * series / double_double{1.0 * last * (last + 1), 0};
  return series;
}

/// cos(pi / 2 * j / n) for 0 <= j <= n < 2^50, within 2^-95 of it.
inline double_double quarter_cosine(index_t j, index_t n) noexcept {
  const bool from_one = j <= n - j;  // else the sine of what is left of the quarter turn
  const double_double part = double_double{static_cast<double>(from_one ? j : n - j), 0} / double_double{static_cast<double>(n), 0};
  const double_double angle = part * two_pi * double_double{0.25, 0};
  return from_one ? alternating_series(angle * angle, 1) : angle * alternating_series(angle * angle, 2);
}

/// The cosines of multiples of 1 / (4 n) of a turn, from those of a quarter turn.
template <compute_scalar S>
class cosines_of_quarters {
 public:
  explicit cosines_of_quarters(index_t n) : n_(n) {
    for (index_t j = 0; j <= n; ++j) quarter_.push_back(rounded<S>(quarter_cosine(j, n)));
  }
  /// For 0 <= j < 4 n.
  S operator[](index_t j) const noexcept {
    if (j > 2 * n_) j = 4 * n_ - j;
    return j > n_ ? -quarter_[static_cast<std::size_t>(2 * n_ - j)] : quarter_[static_cast<std::size_t>(j)];
  }

 private:
  index_t n_;
  std::vector<S> quarter_;
};

}  // namespace detail

/// Adds the row of position p of a discrete Fourier basis. See `additive_verbs` for the verbs.
///
/// k p is reduced modulo N in whole numbers, and every value is the number of S nearest to the truth, at every position in [-2^62, 2^62].
/// For 16-bit tensors that is rounded again, as the sum is. Positions between the integers have no code: see `sinusoidal` for those.
///
/// What coincides: positions p and p + N have one code. With `cosine` so have p and N - p (a cosine is even), which `cos_sin` tells apart.
/// Column k is column N - k, and no more than N / 2 + 1 columns differ. With `dct2` the N positions differ, and mirror at either end: N has
/// the code of N - 1, and -1 that of 0; the period is 2 N. Its N columns are orthogonal: those of k > 0 have squares that sum to N / 2,
/// that of k = 0 to N.
///
/// Holds a table `[N, dim]`, as `learned` does, which copies share; forming it takes some nanoseconds for each value. `add` then allocates
/// 8 bytes for each token of a block, at most 16 KB for each part of a split. Equality compares options.
template <compute_scalar S>
class fourier_basis : public additive_verbs<fourier_basis<S>, S> {
 public:
  /// \throws argument_error  unless dim is positive (and even for `cos_sin`), the period in [1, 2^40], the order given for `cos_sin` alone,
  /// and the size of the table in bytes fits in 63 bits.
  explicit fourier_basis(const fourier_basis_options& options) : options_(options), table_(rows_of(options)) {}

  static constexpr std::string_view name() noexcept { return "fourier_basis"; }
  const fourier_basis_options& options() const noexcept { return options_; }
  index_t dim() const noexcept { return options_.dim; }
  index_t axes() const noexcept { return 1; }
  /// The codes of positions 0 ... N - 1, `[N, dim]`.
  tensor_view<const S, 2> table() const noexcept { return {table_->data(), {options_.period, options_.dim}}; }

  friend bool operator==(const fourier_basis& a, const fourier_basis& b) { return a.options_ == b.options_; }

  // What `additive_verbs` asks for.
  void require_known(const positions&) const noexcept {}
  index_t spare_values() const noexcept { return 0; }
  index_t spare_ids() const noexcept { return 1; }
  double nanoseconds_per_code() const noexcept { return 1; }
  kernels::code_source<S> codes(const positions& at, index_t b, index_t t, index_t count, S*, std::int64_t* rows) const {
    const position_row ids = at.row(b).from(t);
    for (index_t n = 0; n < count; ++n) rows[n] = ids[n] == no_position ? no_position : row_of(ids[n]);
    return {.table = table_->data(), .batch = 0, .time = options_.dim, .ids = rows};
  }

 private:
  static constexpr index_t most_period = index_t{1} << 40;

  index_t row_of(position p) const noexcept {
    const index_t n = options_.period;
    if (p >= 0 && p < n) return p;
    const bool mirrors = options_.functions == basis_functions::dct2;
    const index_t period = mirrors ? 2 * n : n, rest = p % period, row = rest < 0 ? rest + period : rest;
    return row < n ? row : 2 * n - 1 - row;
  }

  static std::shared_ptr<const std::vector<S>> rows_of(const fourier_basis_options& options) {
    const index_t dim = options.dim, n = options.period;
    const basis_functions functions = options.functions;
    const bool with_sines = functions == basis_functions::cos_sin;
    require(dim > 0, name(), "dim must be positive", dim);
    require(!with_sines || dim % 2 == 0, name(), "dim must be even for cosines and sines", dim);
    require(n >= 1 && n <= most_period, name(), "the period must lie in [1, 2^40]", n);
    require(options.order.has_value() == with_sines, name(), "the order must be given for cosines and sines, and for nothing else");
    const index_t size = checked_product(name(), std::array{n, dim}, sizeof(S));
    const detail::cosines_of_quarters<S> cosines(n);
    const bool interleaved = options.order == channel_order::interleaved, sines_first = options.order != channel_order::cos_sin;
    const index_t bands = with_sines ? dim / 2 : dim, step = interleaved ? 2 : 1, second = interleaved ? 1 : bands;
    auto table = std::make_shared<std::vector<S>>(static_cast<std::size_t>(size));
    for (index_t p = 0; p < n; ++p) {
      S* const row = table->data() + p * dim;
      const index_t turn = functions == basis_functions::dct2 ? 2 * p + 1 : 4 * p;  // of one band, in 4 n parts
      const auto sum = [n](index_t a, index_t b) { return a < 4 * n - b ? a + b : a + b - 4 * n; };
      for (index_t k = 0, angle = 0; k < bands; ++k, angle = sum(angle, turn)) {
        row[k * step + (with_sines && sines_first ? second : 0)] = cosines[angle];
        if (with_sines) row[k * step + (sines_first ? 0 : second)] = cosines[sum(angle, 3 * n)];
      }
    }
    return table;
  }

  fourier_basis_options options_;
  std::shared_ptr<const std::vector<S>> table_;
};

static_assert(code_encoder<fourier_basis<float>> && code_encoder<fourier_basis<double>> && position_encoder<fourier_basis<float>>);
static_assert(!trainable<fourier_basis<float>> && !rotary_encoder<fourier_basis<float>> && !bias_encoder<fourier_basis<float>>);
static_assert(!detail::code_part<fourier_basis<float>, coordinates>);

}  // namespace POSENC_NAMESPACE
