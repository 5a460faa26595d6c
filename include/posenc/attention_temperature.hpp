// SPDX-License-Identifier: MIT
/// \file  Attention temperature: queries that grow with their position, so that attention over many keys stays sharp.
#pragma once

#include <posenc/concepts.hpp>   // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/gradients.hpp>  // trains_rotation
#include <posenc/positions.hpp>
#include <posenc/query_scale_verbs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>
#include <posenc/visible_keys.hpp>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <variant>
#include <vector>

namespace POSENC_NAMESPACE {

/// The factor of a query at position p that sees n keys. Checkpoints do not tell, and systems differ by one position.
namespace temperature_rule {

/// 1 + scale ln(1 + floor((p + 1) / floor_scale)): Llama 4, in layers without RoPE (Meta 2025).
struct llama4 {
  index_t floor_scale = 8192;
  double scale = 0.1;
  friend bool operator==(const llama4&, const llama4&) = default;
};
/// 1 + beta ln(1 + floor(p / original_length)): Ministral 3 and Mistral 4, in layers with RoPE (`llama_4_scaling_beta`).
struct ministral {
  required<double> beta;
  required<index_t> original_length;
  friend bool operator==(const ministral&, const ministral&) = default;
};
/// 1 + alpha ln(max((p + 1) / n_floor, 1)): Inkling, in layers with full attention.
struct inkling {
  required<double> alpha;
  required<index_t> n_floor;
  friend bool operator==(const inkling&, const inkling&) = default;
};
/// max(1, ln n / ln n_train): Su 2021 and Qwen 1. n_train: the length of training.
struct log_length {
  required<index_t> n_train;
  required<visible_keys> keys;
  friend bool operator==(const log_length&, const log_length&) = default;
};

}  // namespace temperature_rule

using any_temperature_rule =
    std::variant<temperature_rule::llama4, temperature_rule::ministral, temperature_rule::inkling, temperature_rule::log_length>;

/// The factor of a query at this position, which sees that many keys. Whole numbers are divided as such, so that steps are where the
/// formula has them; exactly 1 before the first one. A position below 0 counts as 0. Not checked: see `attention_temperature`.
inline double temperature_factor(const any_temperature_rule& rule, position query, index_t visible) {
  const position p = std::max<position>(query, 0);
  if (const auto* one = std::get_if<temperature_rule::llama4>(&rule))
    return 1 + one->scale * std::log1p(static_cast<double>((p + 1) / one->floor_scale));
  if (const auto* one = std::get_if<temperature_rule::ministral>(&rule))
    return 1 + one->beta * std::log1p(static_cast<double>(p / one->original_length));
  if (const auto* one = std::get_if<temperature_rule::inkling>(&rule))
    return p + 1 <= one->n_floor ? 1 : 1 + one->alpha * std::log(static_cast<double>(p + 1) / static_cast<double>(one->n_floor));
  const index_t trained = std::get<temperature_rule::log_length>(rule).n_train;
  return visible <= trained ? 1 : std::log(static_cast<double>(visible)) / std::log(static_cast<double>(trained));
}

/// Multiplies queries by a factor of their position, as a rule has it. See `query_scale_verbs` for the verbs; `scalable_softmax` has
/// factors that are learned.
template <compute_scalar S>
class attention_temperature : public query_scale_verbs<attention_temperature<S>, S> {
 public:
  /// \throws argument_error  unless what divides is positive, n_train at least 2, what multiplies is finite, and a window not negative and
  /// 0 where attention is not causal.
  explicit attention_temperature(const any_temperature_rule& rule) : rule_(rule) {
    if (const auto* one = std::get_if<temperature_rule::llama4>(&rule)) {
      require(one->floor_scale > 0, name(), "floor_scale must be positive", one->floor_scale);
      require(std::isfinite(one->scale), name(), "scale must be finite", one->scale);
    } else if (const auto* two = std::get_if<temperature_rule::ministral>(&rule)) {
      require(two->original_length > 0, name(), "original_length must be positive", index_t{two->original_length});
      require(std::isfinite(two->beta), name(), "beta must be finite", double{two->beta});
    } else if (const auto* three = std::get_if<temperature_rule::inkling>(&rule)) {
      require(three->n_floor > 0, name(), "n_floor must be positive", index_t{three->n_floor});
      require(std::isfinite(three->alpha), name(), "alpha must be finite", double{three->alpha});
    } else {
      const auto& four = std::get<temperature_rule::log_length>(rule);
      require(four.n_train >= 2, name(), "n_train must be at least 2", index_t{four.n_train});
      detail::require_window(name(), four.keys);
    }
  }

  static constexpr std::string_view name() noexcept { return "attention_temperature"; }
  const any_temperature_rule& rule() const noexcept { return rule_; }

  friend bool operator==(const attention_temperature& a, const attention_temperature& b) { return a.rule_ == b.rule_; }

 private:
  friend query_scale_verbs<attention_temperature, S>;

  /// Rules of positions alone count none.
  visible_keys counted() const {
    const auto* one = std::get_if<temperature_rule::log_length>(&rule_);
    return one ? visible_keys(one->keys) : visible_keys{.which = visible::causal};
  }
  void require_positions(const attention_positions& at) const { detail::require_countable(name(), counted(), at); }
  void write_factors(const attention_positions& at, index_t b, double* factors) const {
    const position_row queries = at.queries.row(b);
    const std::vector<index_t> counts = detail::visible_counts(counted(), at, b);
    for (index_t t = 0; t < at.queries.time(); ++t)
      if (queries[t] != no_position) factors[t] = temperature_factor(rule_, queries[t], counts[static_cast<std::size_t>(t)]);
  }
  static const S* head_factors(index_t) noexcept { return nullptr; }

  any_temperature_rule rule_;
};

static_assert(rotary_encoder<attention_temperature<float>> && rotary_encoder<attention_temperature<double>>);
static_assert(position_encoder<attention_temperature<float>> && !trains_rotation<attention_temperature<float>>);
static_assert(!additive_encoder<attention_temperature<float>> && !bias_encoder<attention_temperature<float>>);

}  // namespace POSENC_NAMESPACE
