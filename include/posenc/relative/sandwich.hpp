// SPDX-License-Identifier: MIT
/// \file  Sandwich: the products of sinusoidal codes as a bias. Chi, Fan, Rudnicky, Ramadge 2023, "Dissecting Transformer Length
/// Extrapolation via the Lens of Receptive Field Analysis".
#pragma once

#include <posenc/concepts.hpp>       // bias_encoder
#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>          // require
#include <posenc/frequencies.hpp>
#include <posenc/gradients.hpp>      // trainable
#include <posenc/kernels/dot.hpp>
#include <posenc/kernels/phase.hpp>  // the cosines
#include <posenc/positions.hpp>
#include <posenc/relative/relative_bias_verbs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

struct sandwich_options {
  required<index_t> heads;      ///< of the whole model: the divisors depend on their number
  index_t dim = 128;  ///< channels of the sinusoidal codes, even; the paper tunes it and takes 128, NeMo the channels of a head
  double base = 10000;
  index_t first_frequency = 1;  ///< frequencies base^(-2k / dim), k from here on, dim / 2 of them. 1: the paper's formula and NeMo;
                                ///< 0: the codes of Vaswani et al., `exponent_rule::vaswani`
  index_t first_head = 0;  ///< this process holds heads first_head to first_head + local_heads (tensor parallelism);
  index_t local_heads = 0;  ///< 0: all from first_head on

  friend bool operator==(const sandwich_options&, const sandwich_options&) = default;
};

/// bias = (sum over k of cos((i - j) w_k) - dim / 2) / (8 h / heads), for heads h = 1 ... heads: the product of the sinusoidal codes of i
/// and j, 0 at distance 0, falling about as the logarithm of the distance; never below -dim / (8 h / heads), and alike on both sides. As in
/// NeMo (`SandwichRelativePositionEmbedding`), whose keys after the query have distance 0 where it is not bidirectional, which a causal
/// mask hides. The paper writes the divisors as those of ALiBi's exponents.
///
/// Angles are fixed-point turns of frequencies that are off by at most 2^-90 of themselves: up to distances of 2^36 the sum is within 2^-52
/// dim, and then rounded once to S. Nothing to train. Verbs, shapes and errors: `bias_verbs`; tables and what they allocate:
/// `relative_bias_verbs`, and 16 codes per call.
template <compute_scalar S>
class sandwich : public relative_bias_verbs<sandwich<S>, S> {
 public:
  /// \throws argument_error  unless heads, dim and base are positive, dim even, first_frequency not negative, and the slice lies within the
  ///                         heads.
  explicit sandwich(const sandwich_options& options) : options_(options), frequencies_(checked(options_)) {}

  static constexpr std::string_view name() noexcept { return "sandwich"; }
  const sandwich_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.local_heads; }
  /// Exact and in radians.
  const frequencies& inspect() const noexcept { return frequencies_; }
  /// What the sum of a head is divided by.
  double divisor(index_t head) const noexcept {
    return 8 * static_cast<double>(options_.first_head + head + 1) / static_cast<double>(options_.heads);
  }
  double nanoseconds_per_bias() const noexcept {
    return 1.4 + 2.3 * static_cast<double>(frequencies_.count()) / static_cast<double>(heads());
  }

  friend bool operator==(const sandwich& one, const sandwich& other) { return one.options_ == other.options_; }

 private:
  friend relative_bias_verbs<sandwich, S>;

  static frequencies checked(sandwich_options& options) {
    const index_t heads = options.heads, first = options.first_head, dim = options.dim;
    require(heads > 0, name(), "heads must be positive", heads);
    if (options.local_heads == 0) options.local_heads = heads - first;
    require(first >= 0 && first < heads && options.local_heads > 0 && options.local_heads <= heads - first, name(),
            "local heads must lie within heads", heads, first, options.local_heads);
    require(dim > 0 && dim % 2 == 0, name(), "dim must be positive and even", dim);
    require(std::isfinite(options.base) && options.base > 0, name(), "base must be positive and finite", options.base);
    require(options.first_frequency >= 0, name(), "first_frequency must not be negative", options.first_frequency);
    const double_double slope = log(options.base) * double_double{-2, 0}, width{static_cast<double>(dim), 0};
    const double_double start = slope * double_double{static_cast<double>(options.first_frequency), 0} / width;
    return frequencies::from_radians(name(), geometric_series(name(), dim / 2, start, slope, width.high));
  }

  void biases(index_t head, index_t heads, position query, const position* keys, index_t count, S* out, index_t stride) const {
    constexpr index_t most = 16;
    const index_t pairs = frequencies_.count();
    std::array<position, most> distances;
    std::array<double, most> sums;
    std::vector<double> codes(static_cast<std::size_t>(2 * most * pairs));
    const std::vector<double> ones(static_cast<std::size_t>(pairs), 1.0);
    for (index_t from = 0, rows; from < count; from += rows) {
      rows = std::min(most, count - from);
      for (index_t r = 0; r < rows; ++r) {
        const auto [low, high] = std::minmax(keys[from + r], query);
        distances[static_cast<std::size_t>(r)] = detail::distance_of(high, low);
      }
      kernels::phase<double>({.high = frequencies_.high(),
                              .low = frequencies_.low(),
                              .pairs = pairs,
                              .ids = distances.data(),
                              .first = 0,
                              .rows = rows,
                              .cosine = codes.data(),
                              .sine = codes.data() + pairs,
                              .row = 2 * pairs,
                              .interleaved = false,
                              .scale = 1,
                              .absent_cosine = 0});
      kernels::dot<double>(
          {.a = codes.data(), .b = ones.data(), .rows = rows, .channels = pairs, .a_row = 2 * pairs, .b_row = 0, .sums = sums.data()});
      for (index_t h = 0; h < heads; ++h)
        for (index_t r = 0; r < rows; ++r)
          out[h * stride + from + r] = static_cast<S>((sums[static_cast<std::size_t>(r)] - static_cast<double>(pairs)) / divisor(head + h));
    }
  }

  sandwich_options options_;
  frequencies frequencies_;
};

static_assert(bias_encoder<sandwich<float>> && bias_encoder<sandwich<double>> && position_encoder<sandwich<float>>);
static_assert(!trainable<sandwich<float>> && !additive_encoder<sandwich<float>> && !contextual_bias_encoder<sandwich<float>>);

}  // namespace POSENC_NAMESPACE
