// SPDX-License-Identifier: MIT
/// \file  Dynamic position bias: a network of the distance. Wang et al. 2022, "CrossFormer" (for pictures); for sequences x-transformers'
/// `DynamicPositionBias`, which this is.
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

#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

struct dynamic_position_bias_options {
  required<index_t> heads;
  required<index_t> dim;      ///< hidden channels; x-transformers' default is a quarter of the model's
  index_t depth = 2;          ///< hidden layers, one at least
  bool log_distance = false;  ///< the input is sign(i - j) ln(1 + |i - j|), not i - j
  bool layer_norm = false;    ///< x-transformers: `dynamic_pos_bias_norm`
  mlp_activation activation = mlp_activation::silu;  ///< relu in its first versions

  friend bool operator==(const dynamic_position_bias_options&, const dynamic_position_bias_options&) = default;
};

/// bias = f(i - j) for a query at i and a key at j, where f is a network 1 -> dim -> ... -> dim -> heads: x-transformers
/// (`dynamic_pos_bias`), which counts the query's position minus the key's.
///
/// The input is formed in double and rounded once to S, the network's layers in S. Verbs, shapes and errors: `bias_verbs`; tables and what
/// they allocate: `relative_bias_verbs`, and 64 rows of the network per call; its gradient runs a copy of the network in double.
template <compute_scalar S>
class dynamic_position_bias : public relative_bias_verbs<dynamic_position_bias<S>, S> {
 public:
  /// The network begins as torch's layers do. \throws argument_error  unless heads, dim and depth are positive.
  dynamic_position_bias(const dynamic_position_bias_options& options, random_source& random)
      : options_(options), network_(network_options(options), random) {}

  static constexpr std::string_view name() noexcept { return "dynamic_position_bias"; }
  const dynamic_position_bias_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.heads; }
  const mlp<S>& network() const noexcept { return network_; }
  double nanoseconds_per_bias() const noexcept { return 3 + (20 + network_.nanoseconds_per_row()) / static_cast<double>(heads()); }

  /// The network's, with x-transformers' names: mlp.0.0.weight, mlp.0.0.bias, ..., mlp.2.weight, mlp.2.bias. To load a checkpoint, write
  /// there.
  std::vector<parameter<S>> parameters() { return network_.parameters(); }

  friend bool operator==(const dynamic_position_bias& one, const dynamic_position_bias& other) {
    return one.options_ == other.options_ && one.network_ == other.network_;
  }

 private:
  friend relative_bias_verbs<dynamic_position_bias, S>;

  static mlp_options network_options(const dynamic_position_bias_options& options) {
    require(options.heads > 0, name(), "heads must be positive", static_cast<index_t>(options.heads));
    require(options.dim > 0, name(), "dim must be positive", static_cast<index_t>(options.dim));
    require(options.depth > 0, name(), "depth must be positive", options.depth);
    checked_product(name(), std::array{options.depth, static_cast<index_t>(options.dim), static_cast<index_t>(options.dim)}, sizeof(S));
    return {.in = 1,
            .out = options.heads,
            .hidden = std::vector<index_t>(static_cast<std::size_t>(options.depth), options.dim),
            .activation = options.activation,
            .layer_norm = options.layer_norm,
            .prefix = "mlp.",
            .nested_names = true};
  }

  double input(position query, position key) const noexcept {
    const double steps = -static_cast<double>(detail::distance_of(key, query));
    return options_.log_distance ? std::copysign(std::log1p(std::abs(steps)), steps) : steps;
  }
  void biases(index_t head, index_t heads, position query, const position* keys, index_t count, S* out, index_t stride) const {
    detail::mlp_biases(network_, head, heads, count, [&](index_t n) { return input(query, keys[n]); }, out, stride);
  }
  void add_gradient(position query, const position* keys, index_t count, const double* d, index_t stride, double* sums) const {
    detail::mlp_bias_gradient(network_, count, [&](index_t n) { return input(query, keys[n]); }, d, stride, sums, [](index_t, double) {});
  }

  dynamic_position_bias_options options_;
  mlp<S> network_;
};

static_assert(bias_encoder<dynamic_position_bias<float>> && bias_encoder<dynamic_position_bias<double>>);
static_assert(position_encoder<dynamic_position_bias<float>> && trainable<dynamic_position_bias<float>>);
static_assert(!additive_encoder<dynamic_position_bias<float>> && !contextual_bias_encoder<dynamic_position_bias<float>>);

}  // namespace POSENC_NAMESPACE
