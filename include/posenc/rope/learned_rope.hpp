// SPDX-License-Identifier: MIT
/// \file  RoPE whose frequencies are trained: one list (rotary-embedding-torch's `learned_freq`), one for each axis (LightGlue), or one for
/// each head and axis: the mixed form of Heo et al. 2024, "Rotary Position Embedding for Vision Transformer".
#pragma once

#include <posenc/concepts.hpp>  // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/kernels/angle_gradient.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/rope/rotary_verbs.hpp>  // the verbs
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace POSENC_NAMESPACE {

/// Turns channel pair k of head h at position (p_1, p_2, ...) by the sum of p_a * frequency[h, a, k] radians. Queries and keys must have as
/// many heads as the frequencies, where each head has its own.
///
/// See `rotary_verbs` for the verbs. `rotate_backward` with the rotated queries or keys adds to the gradient of the frequencies too, in
/// double, in an order that depends on shapes alone; it allocates 8 bytes a frequency.
template <compute_scalar S>
class learned_rope : public rotary_verbs<learned_rope<S>, S> {
  using base = rotary_verbs<learned_rope, S>;
  friend base;

 public:
  /// The tables, and where the tokens stand: the gradient of a frequency is a sum over positions.
  struct state : rotary_tables<S> {
    std::variant<attention_positions, attention_coordinates> at;
  };

  /// \param frequencies  radians per position, [axes, dim / 2] or [heads, axes, dim / 2].
  /// \param heads        0: the same for all.
  /// \throws argument_error  unless the descriptor is valid, and there are as many frequencies as it, axes and heads ask for, all finite.
  learned_rope(const rotary_descriptor& descriptor, std::span<const S> frequencies, index_t axes = 1, index_t heads = 0)
      : base(descriptor, {of(frequencies, axes, heads)}),
        frequencies_(frequencies.begin(), frequencies.end()),
        axes_(axes),
        heads_(heads) {}

  static constexpr std::string_view name() noexcept { return "learned_rope"; }
  /// As they are now.
  rotary_spectrum inspect() const { return {of(frequencies_, axes_, heads_)}; }

  state prepare(const attention_positions& at, const executor& run = {}) const { return {base::prepare(at, run), at}; }
  state prepare(const attention_coordinates& at, const executor& run = {}) const { return {base::prepare(at, run), at}; }
  using base::prepare;

  /// The gradient of `rotate`: d as `rotary_verbs` has it, in and out, and d_parameters[0], the frequencies, added to.
  /// \param rotated  what `rotate` wrote.
  template <class T>
    requires writable_as<T, S>
  void rotate_backward(head_view<T> d, std::type_identity_t<head_view<const T>> rotated, operand role, const state& tables,
                       gradient_spans<S> d_parameters, const executor& run = {}) const {
    this->require_fits(d, role, tables);
    require(rotated.by_time().extents() == d.by_time().extents(), name(), "the gradient must have the shape of what it is of",
            rotated.by_time().extents(), d.by_time().extents());
    require_rows(name(), rotated.by_time());
    require(d_parameters.size() == 1 && d_parameters[0].size() == frequencies_.size(), name(),
            "there must be one gradient span with a value per frequency", frequencies_.size(), d_parameters.size());
    std::vector<double> sums(frequencies_.size());
    std::visit([&](const auto& at) { add_gradients(d, rotated, at.turned(role), sums, run); }, tables.at);
    for (std::size_t n = 0; n < sums.size(); ++n) d_parameters[0][n] += static_cast<S>(sums[n]);
    base::rotate_backward(d, role, tables, run);
  }
  std::vector<parameter<S>> parameters() {
    if (heads_ > 0) return {{"frequencies", frequencies_, {heads_, axes_, this->descriptor().dim / 2}}};
    return {{"frequencies", frequencies_, {axes_, this->descriptor().dim / 2}}};
  }

  friend bool operator==(const learned_rope& a, const learned_rope& b) {
    return a.descriptor() == b.descriptor() && a.frequencies_ == b.frequencies_ && a.axes_ == b.axes_ && a.heads_ == b.heads_;
  }

 private:
  static posenc::frequencies of(std::span<const S> values, index_t axes, index_t heads) {
    frequency_series radians;
    for (const S value : values) radians.push_back({static_cast<double>(value), 0});
    return frequencies::from_radians(name(), radians, axes, heads);
  }
  auto with_spectrum(index_t, const auto& act) const { return act(inspect()); }
  static constexpr bool learns_frequencies() noexcept { return true; }

  template <class T, class At>
  void add_gradients(const head_view<T>& d, const head_view<const T>& rotated, const At& at, std::vector<double>& sums,
                     const executor& run) const {
    const rotary_descriptor& form = this->descriptor();
    const index_t pairs = form.dim / 2, per_block = pairs / form.blocks;
    const index_t first = detail::paired_channels(name(), form, d.channels()).first;
    const detail::neighbours turning = detail::turning_heads(name(), form, d.count());
    const auto& y = rotated.by_time();
    const auto& g = d.by_time();
    // By groups of pairs alone: the order of a sum must not depend on the threads.
    constexpr index_t group = 8;
    const index_t groups = (per_block + group - 1) / group;
    const double cost =
        8 * detail::nanoseconds_per_value<T> * static_cast<double>(d.batch() * d.time()) * static_cast<double>(turning.count * pairs * 2);
    run.split(form.blocks * groups, run.parts(form.blocks * groups, cost), [&](index_t, index_t from, index_t to) {
      detail::for_each_block(from, to, groups, [&](index_t block, index_t blocks, index_t first_group, index_t count) {
        for (const index_t end = block + blocks; block < end; ++block)
          for (index_t b = 0; b < d.batch(); ++b) {
            const bool interleaved = form.pairing == pairing::interleaved;
            const index_t pair = first_group * group, channel = first + 2 * block * per_block + (interleaved ? 2 : 1) * pair;
            kernels::angle_gradient_call<kernel_scalar<T>> call{
                .y = kernel_pointer(y.data() + b * y.stride(0) + turning.first * y.stride(2) + channel),
                .d = kernel_pointer(static_cast<const T*>(g.data()) + b * g.stride(0) + turning.first * g.stride(2) + channel),
                .time = d.time(),
                .heads = turning.count,
                .y_time = y.stride(1),
                .y_head = y.stride(2),
                .d_time = g.stride(1),
                .d_head = g.stride(2),
                .pairs = std::min(count * group, per_block - pair),
                .distance = per_block,
                .interleaved = interleaved,
                .ids = nullptr,
                .first = 0,
                .coordinates = nullptr,
                .axes = axes_,
                .axis = at.axes() == 1 ? 0 : at.axis_stride(),
                .sums = sums.data() + block * per_block + pair,
                .sum_axis = pairs,
                .sum_head = heads_ > 0 ? axes_ * pairs : 0};
            if constexpr (std::is_same_v<At, positions>) call.ids = at.row(b).ids, call.first = at.row(b).first;
            else call.coordinates = at.row(b);
            kernels::angle_gradient(call);
          }
      });
    });
    if (form.rotation == rotation::negative)
      for (double& sum : sums) sum = -sum;
  }

  std::vector<S> frequencies_;
  index_t axes_, heads_;
};

/// The start of the mixed form on two axes, [heads, 2, dim / 2]: half of each head's frequencies, base^(-4k / dim), point in a random
/// direction, the other half at right angles to it (Heo et al. 2024, whose base is 10). \throws argument_error  unless heads are positive
/// and 4 divides dim.
template <compute_scalar S>
std::vector<S> mixed_frequencies(index_t heads, index_t dim, double base, random_source& random) {
  constexpr std::string_view who = "mixed_frequencies";
  require(heads > 0, who, "heads must be positive", heads);
  require(dim > 0 && dim % 4 == 0, who, "dim must be a positive multiple of 4", dim);
  const frequency_series magnitudes = geometric_series(who, dim / 4, base, 4, static_cast<double>(dim));
  std::vector<S> all;
  for (index_t h = 0; h < heads; ++h) {
    const double along = random.uniform(0, two_pi.high), across = along + two_pi.high / 4;
    for (const auto& [first, second] : {std::array{std::cos(along), std::cos(across)}, std::array{std::sin(along), std::sin(across)}})
      for (const double direction : {first, second})
        for (const double_double magnitude : magnitudes) all.push_back(static_cast<S>(magnitude.high * direction));
  }
  return all;
}

template <compute_scalar S>
inline constexpr bool is_shiftable<learned_rope<S>> = true;

static_assert(rotary_encoder<learned_rope<float>> && trains_rotation<learned_rope<double>> && trainable<learned_rope<float>>);
static_assert(!additive_encoder<learned_rope<float>> && !bias_encoder<learned_rope<float>>);

}  // namespace POSENC_NAMESPACE
