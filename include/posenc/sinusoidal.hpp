// SPDX-License-Identifier: MIT
/// \file  Sinusoidal position encoding: sin(p w_k) and cos(p w_k), added to embeddings. Vaswani et al. 2017, "Attention Is All You Need".
#pragma once

#include <posenc/concepts.hpp>  // additive_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>     // require
#include <posenc/frequencies.hpp>
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/sinusoidal/channel_order.hpp>
#include <posenc/sinusoidal/exponent_rule.hpp>
#include <posenc/sinusoidal/sinusoidal_codes.hpp>  // the verbs
#include <posenc/tensor.hpp>

#include <cmath>
#include <optional>
#include <string_view>

namespace POSENC_NAMESPACE {

/// What happens to the channel that an odd dim leaves without a partner.
enum class odd_dim {
  refuse,     ///< an odd dim is an argument_error: MAE, Whisper, MLX, x-transformers
  drop_last,  ///< the last frequency has a sine alone (with cos_sin a cosine), exponents over dim: the paper's formula taken literally,
              ///< Marian
  round_up,   ///< the code of dim + 1 without its last channel: multidim-positional-encoding
  zero_last   ///< the code of dim - 1 and a channel of zeros: tensor2tensor, fairseq, M2M100, diffusers, ggml
};

struct sinusoidal_options {
  required<index_t> dim;                  ///< channels
  required<channel_order> order;
  required<any_exponent_rule> exponent_rule;
  position start = 0;                     ///< added to every position: 1 for systems that count from one (CTranslate2, DETR)
  double scale = 1;                       ///< multiplies the code: sqrt(2 / dim) in MLX. For a trained one see `scaled_sum`
  double angle_scale = 1;                 ///< multiplies the angle: `scale` of diffusers' timesteps
  bool full_turns = false;                ///< frequencies are turns per position, not radians: MLX
  posenc::odd_dim odd_dim = odd_dim::refuse;
  std::optional<position> padding_position{};  ///< has a code of zeros (before `start` is added): padding_idx of fairseq, M2M100, Kosmos

  friend bool operator==(const sinusoidal_options&, const sinusoidal_options&) = default;
};

namespace detail {
/// The checks and settings that do not depend on how many axes there are.
template <class Options>
sinusoidal_layout common_layout(std::string_view who, const Options& options) {
  require(options.dim > 0, who, "dim must be positive", static_cast<index_t>(options.dim));
  require(std::isfinite(options.scale), who, "scale must be finite", options.scale);
  require(std::isfinite(options.angle_scale), who, "angle_scale must be finite", options.angle_scale);
  require(options.start >= -most_start && options.start <= most_start, who, "start must lie in [-2^61, 2^61]", options.start);
  sinusoidal_layout made;
  made.start = options.start, made.scale = options.scale;
  return made;
}
inline frequency_series scaled_angles(frequency_series series, double angle_scale, bool full_turns) {
  if (angle_scale != 1 || full_turns)
    for (double_double& one : series) one = one * double_double{angle_scale, 0} * (full_turns ? two_pi : double_double{1, 0});
  return series;
}
}  // namespace detail

/// Adds sin(p w_k) and cos(p w_k). See `sinusoidal_codes` and `additive_verbs` for the verbs; positions between the integers (times,
/// timesteps of diffusion models) are `coordinates`:
///
///     posenc::sinusoidal<float> timestep({.dim = 320, .order = posenc::channel_order::cos_sin,
///                                         .exponent_rule = posenc::exponent_rule::downscaled{.shift = 0}});
template <compute_scalar S>
class sinusoidal : public sinusoidal_codes<sinusoidal<S>, S> {
 public:
  /// \throws argument_error  unless dim is positive (and even, unless `odd_dim` says what to do), and what the exponent rule and the scales
  /// have is within their bounds.
  explicit sinusoidal(const sinusoidal_options& options) : sinusoidal_codes<sinusoidal, S>(layout_of(options)), options_(options) {}

  static constexpr std::string_view name() noexcept { return "sinusoidal"; }
  const sinusoidal_options& options() const noexcept { return options_; }

  friend bool operator==(const sinusoidal& a, const sinusoidal& b) { return a.options_ == b.options_; }

 private:
  static sinusoidal_layout layout_of(const sinusoidal_options& options) {
    sinusoidal_layout made = detail::common_layout(name(), options);
    made.padding_position = options.padding_position;
    const index_t dim = options.dim;
    require(dim % 2 == 0 || options.odd_dim != odd_dim::refuse, name(), "dim must be even", dim);
    const index_t width = options.odd_dim == odd_dim::round_up    ? dim + dim % 2
                          : options.odd_dim == odd_dim::zero_last ? dim - dim % 2
                                                                  : dim;
    made.frequencies = frequencies::from_radians(
        name(), detail::scaled_angles(sinusoidal_series(name(), options.exponent_rule, width), options.angle_scale, options.full_turns));
    const index_t pairs = made.frequencies.count();
    made.width = 2 * pairs;
    if (pairs > 0) made.blocks = {sinusoidal_block::arranged(options.order, 0, 0, 0, pairs)};
    return made;
  }

  sinusoidal_options options_;
};

static_assert(code_encoder<sinusoidal<float>> && code_encoder<sinusoidal<double>> && position_encoder<sinusoidal<float>>);
static_assert(!rotary_encoder<sinusoidal<float>> && !bias_encoder<sinusoidal<float>>);

}  // namespace POSENC_NAMESPACE
