// SPDX-License-Identifier: MIT
/// \file  LongRoPE: every pair has a divisor of its own, from one of two lists. Ding et al. 2024, "LongRoPE: Extending LLM Context Window
/// Beyond 2 Million Tokens".
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>               // require
#include <posenc/required.hpp>
#include <posenc/rope/scaled_series.hpp>
#include <posenc/tensor.hpp>              // index_t

#include <cmath>  // isfinite, sqrt
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE::schedule {

namespace detail {

/// theta_k / divisor_k; an infinite divisor stops its pair.
inline frequency_series divided_each(std::string_view who, std::string_view name, index_t dim, double base,
                                     const std::vector<double>& divisors) {
  frequency_series all = unscaled_series(who, dim, base);
  check_list(who, name, divisors, dim);
  const std::string rule = rule_of(name, " must be positive");
  for (std::size_t k = 0; k < all.size(); ++k) {
    require(divisors[k] > 0, who, rule, divisors[k]);
    all[k] = divisors[k] < std::numeric_limits<double>::infinity() ? all[k] / number(divisors[k]) : number(0.);
  }
  return all;
}

}  // namespace detail

/// Which list divides. A model's configuration does not say, so it has no default.
enum class longrope_list {
  by_length,     ///< the long one while more positions than `original_length` are in use: HF. Keys cached before a switch do not fit
  always_short,  ///< vLLM where the configured longest sequence is not above `original_length`
  always_long    ///< vLLM where it is; MLX-LM
};

/// theta_k / e_k, with e the short or the long list; the attention factor is sqrt(1 + ln f / ln L0), or 1 for f <= 1. Phi-3 in HF,
/// vLLM and MLX-LM; older configurations call it `su`.
///
/// CTranslate2 (`Su`) goes by the rows its table has grown to, and divides integers for f: neither is offered.
struct longrope {
  std::vector<double> short_factors, long_factors;      ///< dim / 2 each, positive
  required<index_t> original_length;                    ///< L0, above 1
  required<double> factor;                              ///< f, positive: max_position_embeddings / L0 in HF
  required<longrope_list> list;
  std::optional<double> attention_factor{};             ///< in place of the formula (HF)
  std::optional<double> short_mscale{}, long_mscale{};  ///< in place of both, for one list (vLLM; MLX-LM has the long one)

  bool depends_on_length() const noexcept { return list == longrope_list::by_length; }

  /// \throws argument_error  for options out of range; both lists are checked, whichever is in use.
  scaled_series operator()(std::string_view who, index_t dim, double base, index_t length) const {
    detail::check_original_length(who, original_length);
    require(original_length > 1, who, "original_length must be above 1, for its logarithm divides", static_cast<index_t>(original_length));
    require(std::isfinite(factor) && factor > 0, who, "factor must be positive and finite", static_cast<double>(factor));
    const frequency_series slow = detail::divided_each(who, "long_factors", dim, base, long_factors);
    const frequency_series fast = detail::divided_each(who, "short_factors", dim, base, short_factors);
    const bool is_long = list == longrope_list::always_long || (list == longrope_list::by_length && length > original_length);
    const std::optional<double>& own = is_long ? long_mscale : short_mscale;
    const scaled_series made{is_long ? slow : fast, own ? *own : attention_factor ? *attention_factor : magnitude()};
    detail::check_attention_factor(who, made.attention_factor);
    return made;
  }

  friend bool operator==(const longrope&, const longrope&) = default;

 private:
  double magnitude() const {
    if (factor <= 1) return 1;
    return std::sqrt((detail::number(1.) + log(factor) / log(static_cast<double>(original_length))).high);
  }
};

}  // namespace POSENC_NAMESPACE::schedule
