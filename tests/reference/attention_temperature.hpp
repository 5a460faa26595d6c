// SPDX-License-Identifier: MIT
/// \file  Attention temperature as systems' code has it: floating-point floors and logarithms of sums.
#pragma once

#include <posenc/attention_temperature.hpp>

#include <cmath>

namespace reference {

/// In double, of a position that is not negative.
inline double temperature(const posenc::any_temperature_rule& rule, double p, double visible) {
  namespace rules = posenc::temperature_rule;
  if (const auto* one = std::get_if<rules::llama4>(&rule))
    return std::log(std::floor((p + 1) / static_cast<double>(one->floor_scale)) + 1) * one->scale + 1;
  if (const auto* one = std::get_if<rules::ministral>(&rule))
    return 1 + one->beta * std::log(1 + std::floor(p / static_cast<double>(posenc::index_t{one->original_length})));
  if (const auto* one = std::get_if<rules::inkling>(&rule))
    return 1 + one->alpha * std::log(std::fmax((p + 1) / static_cast<double>(posenc::index_t{one->n_floor}), 1));
  const auto trained = static_cast<double>(posenc::index_t{std::get<rules::log_length>(rule).n_train});
  return std::fmax(1, std::log2(visible) / std::log2(trained));
}

}  // namespace reference
