// SPDX-License-Identifier: MIT
/// \file  KERPLE: biases that fall with the logarithm or a power of the distance, trained per head. Chi, Fan, Ramadge, Rudnicky 2022,
/// "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation".
#pragma once

#include <posenc/concepts.hpp>   // bias_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/gradients.hpp>  // parameter
#include <posenc/learned/initialize.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/relative/relative_bias_verbs.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

namespace detail {

/// What the kernels have in common: p and a per head, held within their ranges wherever they are read. Derived says kernel(p, a, distance),
/// kernel_gradient(p, a, distance) -> {by p, by a}, and highest_p.
template <class Derived, compute_scalar S>
class kerple_verbs : public relative_bias_verbs<Derived, S> {
 public:
  index_t heads() const noexcept { return static_cast<index_t>(p_.size()); }
  /// As trained; the biases are those of the nearest numbers within the ranges.
  std::span<const S> p() const noexcept { return p_; }
  std::span<const S> a() const noexcept { return a_; }

  /// Named and shaped as in the paper's code.
  std::vector<parameter<S>> parameters() { return {{"bias_p", p_, {heads(), 1, 1}}, {"bias_a", a_, {heads(), 1, 1}}}; }

  /// Brings the parameters themselves into their ranges. A parameter outside has no effect and so a gradient of zero: it would stay there.
  /// The paper's code does this before each forward pass; call it after each step of the optimizer.
  void clamp_parameters() noexcept {
    for (S& p : p_) p = within_p(p);
    for (S& a : a_) a = within_a(a);
  }

  friend bool operator==(const kerple_verbs& one, const kerple_verbs& other) { return one.p_ == other.p_ && one.a_ == other.a_; }

 protected:
  kerple_verbs(index_t heads, random_source& random) {
    require(heads > 0, Derived::name(), "heads must be positive", heads);
    const auto count = static_cast<std::size_t>(checked_product(Derived::name(), std::array{heads}, sizeof(double)));
    p_.resize(count), a_.resize(count);
    initialize::uniform(p_, random, {.low = 0, .high = 2});
    initialize::uniform(a_, random, {.low = 0, .high = 1});
    clamp_parameters();
  }
  kerple_verbs(std::span<const S> p, std::span<const S> a) : p_(p.begin(), p.end()), a_(a.begin(), a.end()) {
    require(!p.empty() && p.size() == a.size(), Derived::name(), "p and a must have one value per head", p.size(), a.size());
    for (const auto values : {p, a})
      for (const S value : values) require(std::isfinite(value), Derived::name(), "parameters must be finite", value);
  }

 private:
  friend relative_bias_verbs<Derived, S>;

  static S within_p(S p) noexcept { return std::clamp(p, S(1e-2), static_cast<S>(Derived::highest_p)); }
  static S within_a(S a) noexcept { return std::max(a, S(1e-2)); }
  static double steps(position query, position key) noexcept { return std::abs(static_cast<double>(distance_of(key, query))); }

  void biases(index_t head, index_t heads, position query, const position* keys, index_t count, S* out, index_t stride) const {
    for (index_t h = 0; h < heads; ++h) {
      const double p = within_p(p_[static_cast<std::size_t>(head + h)]), a = within_a(a_[static_cast<std::size_t>(head + h)]);
      for (index_t n = 0; n < count; ++n) out[h * stride + n] = static_cast<S>(Derived::kernel(p, a, steps(query, keys[n])));
    }
  }
  void add_gradient(position query, const position* keys, index_t count, const double* d, index_t stride, double* sums) const {
    for (index_t h = 0; h < heads(); ++h) {
      const S p = p_[static_cast<std::size_t>(h)], a = a_[static_cast<std::size_t>(h)];
      double by_p = 0, by_a = 0;
      for (index_t n = 0; n < count; ++n) {
        const auto [d_p, d_a] = Derived::kernel_gradient(within_p(p), within_a(a), steps(query, keys[n]));
        by_p += d[h * stride + n] * d_p;
        by_a += d[h * stride + n] * d_a;
      }
      if (within_p(p) == p) sums[h] += by_p;
      if (within_a(a) == a) sums[heads() + h] += by_a;
    }
  }

  std::vector<S> p_, a_;
};

}  // namespace detail

/// bias = -p ln(1 + a |i - j|), the logarithmic variant, with p and a of each head at least 0.01: chijames/KERPLE and DAPE
/// (`ParallelKerpleLog`). Those count i - j and set keys after the query to 0, which a causal mask hides; here both sides are alike, as in
/// the paper.
///
/// Values are formed in double and rounded once to S. The gradient of a parameter below 0.01 is zero, at 0.01 that of the formula. Verbs,
/// shapes and errors: `bias_verbs`; tables and what they allocate: `relative_bias_verbs`.
template <compute_scalar S>
class kerple_log : public detail::kerple_verbs<kerple_log<S>, S> {
 public:
  /// As the paper's code begins: p uniform in [0, 2), a in [0, 1), then both at least 0.01. \throws argument_error  unless heads is
  /// positive.
  kerple_log(index_t heads, random_source& random) : detail::kerple_verbs<kerple_log, S>(heads, random) {}
  /// Of a checkpoint, one of each per head. \throws argument_error  unless there are as many of both, one at least, and all are finite.
  kerple_log(std::span<const S> p, std::span<const S> a) : detail::kerple_verbs<kerple_log, S>(p, a) {}

  static constexpr std::string_view name() noexcept { return "kerple_log"; }
  static constexpr double nanoseconds_per_bias() noexcept { return 7; }

 private:
  friend detail::kerple_verbs<kerple_log, S>;

  static constexpr double highest_p = std::numeric_limits<float>::max();
  static double kernel(double p, double a, double distance) noexcept { return -p * std::log1p(a * distance); }
  static std::array<double, 2> kernel_gradient(double p, double a, double distance) noexcept {
    return {-std::log1p(a * distance), -p * distance / (1 + a * distance)};
  }
};

/// bias = -a |i - j|^p, the power variant, with a of each head at least 0.01 and p in [0.01, 2]: chijames/KERPLE (`ParallelKerplePower`).
/// p = 1 is ALiBi with trained slopes. Otherwise as `kerple_log`.
///
/// The paper's code can also multiply scores by exp(-a' |i - j|^p') before. That is not a bias, and not offered.
template <compute_scalar S>
class kerple_power : public detail::kerple_verbs<kerple_power<S>, S> {
 public:
  /// As the paper's code begins: p uniform in [0, 2), a in [0, 1), then both at least 0.01. \throws argument_error  unless heads is
  /// positive.
  kerple_power(index_t heads, random_source& random) : detail::kerple_verbs<kerple_power, S>(heads, random) {}
  /// Of a checkpoint, one of each per head. \throws argument_error  unless there are as many of both, one at least, and all are finite.
  kerple_power(std::span<const S> p, std::span<const S> a) : detail::kerple_verbs<kerple_power, S>(p, a) {}

  static constexpr std::string_view name() noexcept { return "kerple_power"; }
  static constexpr double nanoseconds_per_bias() noexcept { return 11; }

 private:
  friend detail::kerple_verbs<kerple_power, S>;

  static constexpr double highest_p = 2;
  static double kernel(double p, double a, double distance) noexcept { return -a * std::pow(distance, p); }
  static std::array<double, 2> kernel_gradient(double p, double a, double distance) noexcept {
    if (distance == 0) return {0, 0};  // the limit, where the logarithm has none
    const double power = std::pow(distance, p);
    return {-a * power * std::log(distance), -power};
  }
};

static_assert(bias_encoder<kerple_log<float>> && bias_encoder<kerple_log<double>> && position_encoder<kerple_log<float>>);
static_assert(trainable<kerple_log<float>> && !additive_encoder<kerple_log<float>> && !contextual_bias_encoder<kerple_log<float>>);
static_assert(bias_encoder<kerple_power<float>> && bias_encoder<kerple_power<double>> && position_encoder<kerple_power<float>>);
static_assert(trainable<kerple_power<float>> && !rotary_encoder<kerple_power<float>> && !contextual_bias_encoder<kerple_power<float>>);

}  // namespace POSENC_NAMESPACE
