// SPDX-License-Identifier: MIT
/// \file  FIRE: a small network of the distance, measured against the query's position. Li, You, Guruganesh, Ainslie, Ontanon, Zaheer,
/// Sanghai, Yang, Kumar, Bhojanapalli 2024, "Functional Interpolation for Relative Positions Improves Long Context Transformers".
#pragma once

#include <posenc/concepts.hpp>   // bias_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/gradients.hpp>  // parameter
#include <posenc/mlp.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/relative/mlp_biases.hpp>
#include <posenc/relative/relative_bias_verbs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

struct fire_options {
  required<index_t> heads;
  index_t mlp_width = 32;  ///< hidden channels of the network that begins with random numbers
  double init_c = 0.1;
  double init_L = 512;     ///< the threshold L, which is not trained: its multiplier is, from 1 on

  friend bool operator==(const fire_options&, const fire_options&) = default;
};

/// bias = f(x), x = ln(1 + |c d|) / (ln(1 + |c m|) + 1e-6), for a query at i and a key at j:
/// d = max(i - j, 0), m = max(i, |L_multiplier L|), and f a network 1 -> mlp_width -> heads with relu. As in DAPE's and other code after
/// the paper, where all distances pass through `tril`: keys after the query have distance 0.
///
/// Positions count from 0, the start of the text: the query's own position is what distances are measured against, once it exceeds the
/// threshold. While all queries lie below it, the distance alone decides, and `prepare` makes a table; otherwise the network runs for every
/// pair in each pass. The bits are the same.
///
/// x is formed in double and rounded once to S, the network's layers in S. Where i equals the threshold, L_multiplier gets half the
/// gradient, as in torch. Verbs, shapes and errors: `bias_verbs`; tables and what they allocate: `relative_bias_verbs`, and 64 rows of the
/// network per call; its gradient runs a copy of the network in double.
template <compute_scalar S>
class fire : public relative_bias_verbs<fire<S>, S> {
 public:
  /// The network begins as torch's Linear layers do. \throws argument_error  unless heads, mlp_width and init_L are positive, and init_L
  ///                                                                         and init_c finite.
  fire(const fire_options& options, random_source& random) : fire(options, mlp<S>(network_options(options), random)) {}
  /// A network of the caller's own. \throws argument_error  unless it has one input and an output per head, and as above.
  fire(const fire_options& options, mlp<S> network) : options_(options), c_(static_cast<S>(options.init_c)), network_(std::move(network)) {
    require(std::isfinite(options.init_c), name(), "init_c must be finite", options.init_c);
    require(std::isfinite(options.init_L) && options.init_L > 0, name(), "init_L must be positive and finite", options.init_L);
    require(network_.in() == 1 && network_.out() == options.heads, name(), "the network must have one input and an output per head",
            static_cast<index_t>(options.heads), network_.in(), network_.out());
  }

  static constexpr std::string_view name() noexcept { return "fire"; }
  const fire_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.heads; }
  const mlp<S>& network() const noexcept { return network_; }
  /// |L_multiplier L|: queries below it are measured against it.
  double threshold() const noexcept { return std::abs(static_cast<double>(multiplier_) * options_.init_L); }
  double nanoseconds_per_bias() const noexcept { return 3 + (20 + network_.nanoseconds_per_row()) / static_cast<double>(heads()); }
  /// Strictly below, since a query at the threshold has another gradient.
  bool distance_decides(const attention_positions& at) const noexcept { return static_cast<double>(at.queries.last()) < threshold(); }
  static constexpr distance_range ends() noexcept { return {std::numeric_limits<position>::min(), 0}; }

  /// c, L_multiplier, and the network's: mlp.0.weight, mlp.0.bias, mlp.2.weight, mlp.2.bias.
  std::vector<parameter<S>> parameters() {
    std::vector<parameter<S>> all{{"c", std::span(&c_, 1), {}}, {"L_multiplier", std::span(&multiplier_, 1), {}}};
    for (auto& one : network_.parameters()) all.push_back(std::move(one));
    return all;
  }

  friend bool operator==(const fire& one, const fire& other) {
    return one.options_ == other.options_ && one.c_ == other.c_ && one.multiplier_ == other.multiplier_ && one.network_ == other.network_;
  }

 private:
  friend relative_bias_verbs<fire, S>;

  static mlp_options network_options(const fire_options& options) {
    require(options.heads > 0, name(), "heads must be positive", static_cast<index_t>(options.heads));
    require(options.mlp_width > 0, name(), "mlp_width must be positive", options.mlp_width);
    return {.in = 1, .out = options.heads, .hidden = {options.mlp_width}, .activation = mlp_activation::relu, .prefix = "mlp."};
  }

  static double steps(position query, position key) noexcept {
    return std::max(-static_cast<double>(detail::distance_of(key, query)), 0.0);
  }
  /// ln(1 + |c m|) + 1e-6.
  double normalizer(double m) const noexcept { return std::log1p(std::abs(static_cast<double>(c_)) * m) + 1e-6; }

  void biases(index_t head, index_t heads, position query, const position* keys, index_t count, S* out, index_t stride) const {
    const double c = std::abs(static_cast<double>(c_)), divisor = normalizer(std::max(static_cast<double>(query), threshold()));
    detail::mlp_biases(
        network_, head, heads, count, [&](index_t n) { return std::log1p(c * steps(query, keys[n])) / divisor; }, out, stride);
  }
  void add_gradient(position query, const position* keys, index_t count, const double* d, index_t stride, double* sums) const {
    const double c = std::abs(static_cast<double>(c_)), i = static_cast<double>(query), limit = threshold(), m = std::max(i, limit);
    const double divisor = normalizer(m), m_by_multiplier = i > limit ? 0 : i == limit ? options_.init_L / 2 : options_.init_L;
    double by_c = 0, by_m = 0;
    detail::mlp_bias_gradient(
        network_, count, [&](index_t n) { return std::log1p(c * steps(query, keys[n])) / divisor; }, d, stride, sums + 2,
        [&](index_t n, double d_x) {
          const double distance = steps(query, keys[n]), x = std::log1p(c * distance) / divisor;
          by_c += d_x * (distance / (1 + c * distance) - x * m / (1 + c * m)) / divisor;
          by_m -= d_x * x * c / (1 + c * m) / divisor;
        });
    sums[0] += by_c * sign(c_);
    sums[1] += by_m * m_by_multiplier * sign(multiplier_);
  }
  static double sign(S value) noexcept { return value > 0 ? 1 : value < 0 ? -1 : 0; }

  fire_options options_;
  S c_, multiplier_ = 1;
  mlp<S> network_;
};

static_assert(bias_encoder<fire<float>> && bias_encoder<fire<double>> && position_encoder<fire<float>> && trainable<fire<float>>);
static_assert(!additive_encoder<fire<float>> && !rotary_encoder<fire<float>> && !contextual_bias_encoder<fire<float>>);

}  // namespace POSENC_NAMESPACE
