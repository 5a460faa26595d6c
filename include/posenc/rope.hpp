// SPDX-License-Identifier: MIT
/// \file  Rotary position embedding (RoPE): turns channel pair k of the token at position p by p * theta_k radians, so that q.k depends on
/// the difference of positions alone. Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
#pragma once

#include <posenc/concepts.hpp>       // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>          // require
#include <posenc/frequencies.hpp>
#include <posenc/rope/rotary.hpp>    // the verbs
#include <posenc/rope/rotary_descriptor.hpp>
#include <posenc/rope/rotary_table.hpp>
#include <posenc/rope/schedule.hpp>
#include <posenc/tensor.hpp>

#include <optional>
#include <string_view>
#include <utility>

namespace POSENC_NAMESPACE {

struct rope_options {
  double base = 10000;              ///< theta_k = base^(-2k / dim): a larger base turns more slowly and reaches farther
  frequency_schedule schedule{};    ///< what becomes of theta where a model reads more than it was first trained on

  friend bool operator==(const rope_options&, const rope_options&) = default;
};

/// Rotates queries and keys; see `rotary` for the verbs, and for what is promised of them.
///
///     posenc::rope<float> rope({.pairing = posenc::pairing::halves, .dim = 128}, {.base = 500000, .schedule =
///     posenc::schedule::llama3{}});
///
/// Where a schedule depends on the length (dynamic NTK, longrope by length), `prepare` takes the largest position in use, of queries and
/// of keys, plus 1: nothing is remembered from call to call. Keys cached under other frequencies have to be turned again (`rerotate`), or
/// the length fixed (`at_length`).
template <compute_scalar S>
class rope : public rotary<rope<S>, S> {
  using base = rotary<rope, S>;
  friend base;

 public:
  /// \throws argument_error  unless the descriptor is valid, base positive and finite, and the schedule's members within its bounds.
  explicit rope(const rotary_descriptor& descriptor, const rope_options& options = {}) : rope(descriptor, options, std::nullopt) {}

  static constexpr std::string_view name() noexcept { return "rope"; }
  const rope_options& options() const noexcept { return options_; }
  /// What comes out while so many positions are in use.
  rotary_spectrum inspect(index_t length) const { return spectrum_at(this->descriptor(), options_, length); }
  using base::inspect;
  /// The same encoder for a length once and for all: for caches of keys under a schedule that depends on it.
  rope at_length(index_t length) const {
    require(length >= 0, name(), "length must not be negative", length);
    return rope(this->descriptor(), options_, length);
  }

  friend bool operator==(const rope&, const rope&) = default;

 private:
  rope(const rotary_descriptor& descriptor, const rope_options& options, std::optional<index_t> length)
      : base(descriptor, spectrum_at(descriptor, options, length.value_or(0))), options_(options), length_(length) {}

  static rotary_spectrum spectrum_at(const rotary_descriptor& descriptor, const rope_options& options, index_t length) {
    detail::require_valid(name(), descriptor);
    const auto made = scaled(options.schedule, name(), descriptor.dim, options.base, length);
    return {frequencies::from_radians(name(), made.radians), made.attention_factor};
  }

  bool depends_on_length() const noexcept { return !length_ && posenc::depends_on_length(options_.schedule); }
  auto with_spectrum(index_t length, const auto& act) const {
    if (depends_on_length()) return act(inspect(length));
    return act(inspect());
  }

  rope_options options_;
  std::optional<index_t> length_;
};

template <compute_scalar S>
inline constexpr bool is_shiftable<rope<S>> = true;

static_assert(rotary_encoder<rope<float>> && rotary_encoder<rope<double>> && position_encoder<rope<float>>);
static_assert(!additive_encoder<rope<float>> && !bias_encoder<rope<float>>);

}  // namespace POSENC_NAMESPACE
