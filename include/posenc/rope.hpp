// SPDX-License-Identifier: MIT
/// \file  Rotary position embedding (RoPE): turns channel pair k of the token at position p by p * theta_k radians, so that q.k depends on
/// the difference of positions alone. Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
#pragma once

#include <posenc/concepts.hpp>              // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/frequencies.hpp>
#include <posenc/rope/schedule.hpp>
#include <posenc/rope/scheduled_rotary.hpp>  // the verbs
#include <posenc/tensor.hpp>

#include <optional>
#include <string_view>

namespace POSENC_NAMESPACE {

struct rope_options {
  double base = 10000;            ///< theta_k = base^(-2k / dim): a larger base turns more slowly and reaches farther
  frequency_schedule schedule{};  ///< what becomes of theta where a model reads more than it was first trained on

  friend bool operator==(const rope_options&, const rope_options&) = default;
};

/// Rotates queries and keys; see `rotary_verbs` for the verbs and for what is promised of them.
///
///     posenc::rope<float> rope({.pairing = posenc::pairing::halves, .dim = 128}, {.base = 500000, .schedule =
///     posenc::schedule::llama3{}});
template <compute_scalar S>
class rope : public scheduled_rotary<rope<S>, S, rope_options> {
  using base = scheduled_rotary<rope, S, rope_options>;
  friend base;
  friend rotary_verbs<rope, S>;

 public:
  /// \throws argument_error  unless the descriptor is valid, base positive and finite, and the schedule's members within its bounds.
  explicit rope(const rotary_descriptor& descriptor, const rope_options& options = {}) : rope(descriptor, options, std::nullopt) {}

  static constexpr std::string_view name() noexcept { return "rope"; }

  friend bool operator==(const rope&, const rope&) = default;

 private:
  rope(const rotary_descriptor& descriptor, const rope_options& options, std::optional<index_t> length)
      : base(descriptor, options, length) {}

  static rotary_spectrum spectrum_at(const rotary_descriptor& descriptor, const rope_options& options, index_t length) {
    const auto made = scheduled_series(options.schedule, name(), descriptor.dim, options.base, length);
    return {frequencies::from_radians(name(), made.radians), made.attention_factor};
  }
  static bool options_depend_on_length(const rope_options& options) { return posenc::depends_on_length(options.schedule); }
};

template <compute_scalar S>
inline constexpr bool is_shiftable<rope<S>> = true;

static_assert(rotary_encoder<rope<float>> && rotary_encoder<rope<double>> && position_encoder<rope<float>>);
static_assert(!additive_encoder<rope<float>> && !bias_encoder<rope<float>>);

}  // namespace POSENC_NAMESPACE
