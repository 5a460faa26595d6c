// SPDX-License-Identifier: MIT
/// \file  Buckets of distances, one wide near the query and wider and wider away from it: Raffel et al. 2020 (T5), He et al. 2021
/// (DeBERTa).
///
/// Systems take a logarithm in float for each pair and truncate it, so that the bucket of a distance on an edge is up to their library's
/// last bit. Here a bucket is the whole number at which it begins, found once in exact arithmetic, and no logarithm is taken after that.
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>                // require
#include <posenc/positions.hpp>
#include <posenc/relative/bias_table.hpp>  // distance_range
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>               // index_t

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

namespace detail {

/// base * (top / base)^(part / parts): where a bucket of logarithms begins. 0 < base < top <= 2^31, 0 <= part <= parts.
struct logarithmic_edge {
  position base, top;
  index_t part, parts;
};

/// n against the edge: n^parts against top^part * base^(parts - part), in whole numbers of any size. n <= 2^31.
inline std::strong_ordering compare(position n, const logarithmic_edge& edge) {
  using whole_number = std::vector<std::uint32_t>;  // lowest digit first
  const auto multiply = [](whole_number& number, position factor) {
    std::uint64_t carry = 0;
    for (std::uint32_t& digit : number) {
      carry += static_cast<std::uint64_t>(digit) * static_cast<std::uint64_t>(factor);
      digit = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    if (carry > 0) number.push_back(static_cast<std::uint32_t>(carry));
  };
  const index_t common = std::gcd(edge.part, edge.parts);
  whole_number left{1}, right{1};
  for (index_t k = 0; k < edge.parts / common; ++k) {
    multiply(left, n);
    multiply(right, k < edge.part / common ? edge.top : edge.base);
  }
  if (left.size() != right.size()) return left.size() <=> right.size();
  for (std::size_t digit = left.size(); digit-- > 0;)
    if (left[digit] != right[digit]) return left[digit] <=> right[digit];
  return std::strong_ordering::equal;
}

/// The largest whole number not above the edge, and whether it is the edge.
struct floor_of_edge {
  position value;
  bool exact;
};
inline floor_of_edge floor_of(const logarithmic_edge& edge) {
  const auto base = static_cast<double>(edge.base), top = static_cast<double>(edge.top);
  const double_double part = double_double{static_cast<double>(edge.part), 0} / double_double{static_cast<double>(edge.parts), 0};
  const double_double estimate = exp((log(top) - log(base)) * part) * double_double{base, 0};  // off by less than 2^-55
  const double_double nearest = floor(estimate + double_double{0.5, 0});
  const double above = (estimate - nearest).high;
  const auto value = static_cast<position>(nearest.high);
  if (above > 0x1p-50 || above < -0x1p-50) return {above > 0 ? value : value - 1, false};
  const auto order = compare(value, edge);
  return {order > 0 ? value - 1 : value, order == 0};
}

}  // namespace detail

/// Which keys have buckets of their own; there is no default, because encoders and decoders of one model differ.
enum class t5_direction {
  bidirectional,  ///< half of the buckets for keys up to the query, half for keys after it: encoders
  causal          ///< all of them for keys up to the query; keys after it share the query's own: decoders
};

struct t5_buckets_options {
  required<t5_direction> direction;
  index_t num_buckets = 32;     ///< of both directions together
  position max_distance = 128;  ///< the last bucket begins here or before, and has no end

  friend bool operator==(const t5_buckets_options&, const t5_buckets_options&) = default;
};

/// The buckets of T5 and of what follows it: with N buckets in a direction and E = N / 2, one for each distance n below E, then
/// E + trunc(ln(n / E) / ln(max_distance / E) * (N - E)), at most N - 1. Keys after the query have N more (bidirectional): so bucket N, of
/// which n would be 0, is never used.
///
/// This is the formula in exact arithmetic, not its value in somebody's float. Hugging Face's float agrees at the settings of published
/// models: 32 and 128 in both directions, 64 and 256 (LayoutLM's boxes), 320 and 800 (WavLM). flaxformer, T5X and Mesh TensorFlow add
/// 1.2e-7 to n / E against the rounding of float, which moves no distance that is not within 1.2e-7 * E of an edge.
class t5_buckets {
 public:
  /// \throws argument_error  unless each direction has the same whole number of buckets, 2 or more, and E < max_distance <= 2^31.
  explicit t5_buckets(const t5_buckets_options& options) : options_(options) {
    const bool bidirectional = options.direction == t5_direction::bidirectional;
    require(!bidirectional || options.num_buckets % 2 == 0, name(), "num_buckets must be even where keys have two directions",
            options.num_buckets);
    require(options.num_buckets >= (bidirectional ? 4 : 2), name(), "num_buckets must be 2 or more in each direction", options.num_buckets);
    const index_t count = per_direction(), exact = count / 2;
    require(options.max_distance > exact && options.max_distance <= position{1} << 31, name(),
            "max_distance must be above the distances that have buckets of their own and at most 2^31", exact, options.max_distance);
    thresholds_.resize(static_cast<std::size_t>(exact));
    std::iota(thresholds_.begin(), thresholds_.end(), position{0});
    for (index_t part = 0; part < count - exact; ++part) {
      const auto edge = detail::floor_of({exact, options.max_distance, part, count - exact});
      thresholds_.push_back(edge.exact ? edge.value : edge.value + 1);
    }
  }

  static constexpr std::string_view name() noexcept { return "t5_buckets"; }
  const t5_buckets_options& options() const noexcept { return options_; }
  index_t num_buckets() const noexcept { return options_.num_buckets; }

  /// \param distance  the key's position minus the query's, as T5 counts. \return  in [0, num_buckets).
  index_t bucket(position distance) const noexcept {
    const position last = thresholds_.back(), near = std::clamp(distance, -last, last);
    if (near <= 0) return from(-near);
    return options_.direction == t5_direction::causal ? 0 : per_direction() + from(near);
  }
  /// Element n: the least distance, its sign left out, of bucket n of a direction. Where two are equal, the first one's bucket is empty.
  std::span<const position> thresholds() const noexcept { return thresholds_; }
  /// Outside these distances the bucket is that of the nearest end.
  distance_range ends() const noexcept {
    const position last = thresholds_.back();
    return {-last, options_.direction == t5_direction::causal ? 0 : last};
  }

  friend bool operator==(const t5_buckets& a, const t5_buckets& b) noexcept { return a.options_ == b.options_; }

 private:
  index_t per_direction() const noexcept {
    return options_.direction == t5_direction::bidirectional ? options_.num_buckets / 2 : options_.num_buckets;
  }
  index_t from(position n) const noexcept { return std::ranges::upper_bound(thresholds_, n) - thresholds_.begin() - 1; }

  t5_buckets_options options_;
  std::vector<position> thresholds_;
};

/// What becomes of distances beyond max_position - 1; there is no default, because systems differ.
enum class deberta_clamp {
  microsoft,   ///< the bucket of max_position - 1
  huggingface  ///< buckets go on: one more before the end of the table, from distance -max_position on
};

struct deberta_buckets_options {
  required<index_t> bucket_size;    ///< position_buckets, in one direction: 256 in DeBERTa-v2 and v3
  required<position> max_position;  ///< max_relative_positions: 512
  required<deberta_clamp> clamp;

  friend bool operator==(const deberta_buckets_options&, const deberta_buckets_options&) = default;
};

/// The buckets of DeBERTa-v2 and v3, by delta, the *query's* position minus the key's: with M = bucket_size / 2, delta itself where |delta|
/// <= M, else M + ceil(ln(|delta| / M) / ln((max_position - 1) / M) * (M - 1)), with delta's sign. In exact arithmetic; float agrees at 256
/// and 512.
///
/// Both models then take row clamp(bucket + bucket_size, 0, 2 bucket_size - 1) of their tables, so buckets end at +-bucket_size here, where
/// Hugging Face's function counts on before that clamp.
class deberta_buckets {
 public:
  /// \throws argument_error  unless bucket_size is even and 4 or more, and bucket_size / 2 + 1 < max_position <= 2^31.
  explicit deberta_buckets(const deberta_buckets_options& options) : options_(options) {
    const index_t size = options.bucket_size, middle = size / 2;
    const position last = options.max_position - 1;
    require(size >= 4 && size % 2 == 0, name(), "bucket_size must be even and 4 or more", size);
    require(last > middle && last < position{1} << 31, name(), "max_position must be above half of bucket_size plus 1, and at most 2^31",
            middle + 1, position{options.max_position});
    thresholds_.resize(static_cast<std::size_t>(middle + 1));
    std::iota(thresholds_.begin(), thresholds_.end(), position{0});
    for (index_t part = 0; part < middle - (options.clamp == deberta_clamp::microsoft ? 1 : 0); ++part)
      thresholds_.push_back(detail::floor_of({middle, last, part, middle - 1}).value + 1);
  }

  static constexpr std::string_view name() noexcept { return "deberta_buckets"; }
  const deberta_buckets_options& options() const noexcept { return options_; }

  /// \param distance  the key's position minus the query's, as everywhere here. \return  the bucket of delta = -distance, in [-bucket_size,
  /// bucket_size].
  index_t bucket(position distance) const noexcept {
    const position last = thresholds_.back(), delta = -std::clamp(distance, -last, last);
    const index_t n = std::ranges::upper_bound(thresholds_, delta < 0 ? -delta : delta) - thresholds_.begin() - 1;
    return delta < 0 ? -n : n;
  }
  /// Element n: the least |delta| of bucket n. Where two are equal, the first one's bucket is empty.
  std::span<const position> thresholds() const noexcept { return thresholds_; }
  /// Outside these distances the bucket is that of the nearest end.
  distance_range ends() const noexcept { return {-thresholds_.back(), thresholds_.back()}; }

  friend bool operator==(const deberta_buckets& a, const deberta_buckets& b) noexcept { return a.options_ == b.options_; }

 private:
  deberta_buckets_options options_;
  std::vector<position> thresholds_;
};

}  // namespace POSENC_NAMESPACE
