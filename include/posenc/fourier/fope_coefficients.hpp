// SPDX-License-Identifier: MIT
/// \file  The coefficients that Fourier position embedding starts from.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/learned/initialize.hpp>
#include <posenc/random.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>  // index_t, checked_product

#include <algorithm>
#include <array>
#include <cmath>
#include <ranges>
#include <string_view>

namespace POSENC_NAMESPACE {

/// `fourier_init` of the authors.
enum class fope_start {
  eye,                 ///< the identity, or where there are more waves than outputs its rows, as far apart as fit
  eye_normal,          ///< that and normal numbers with `gain` as their standard deviation
  eye_xavier_normal,   ///< that and Xavier's normal numbers; all that the authors train, with a gain of 0.3 (60M) to 0.6 (1.2B)
  eye_xavier_uniform,  ///< that and Xavier's uniform numbers
  xavier_normal,       ///< those alone; the authors leave the gain at 1
  xavier_uniform
};

struct fope_initialization {
  required<fope_start> start;
  double gain = 1;

  friend bool operator==(const fope_initialization&, const fope_initialization&) = default;
};

namespace initialize {

/// The shape of coefficients, [heads, inputs, outputs], heads 0: [inputs, outputs].
struct fope_shape {
  required<index_t> heads, inputs, outputs;
};

/// Fills coefficients. The identity is W[i * s, i] = 1 with s = ceil(inputs / outputs), as far as there are inputs: every s-th wave alone.
/// Xavier's numbers (Glorot, Bengio 2010) have a variance of 2 gain^2 / (fan_in + fan_out), with the fans that torch takes from these
/// shapes: (outputs, inputs) without heads, (inputs * outputs, heads * outputs) with them. They are drawn as by `normal` and `uniform`.
/// \throws argument_error  unless heads are not negative, inputs and outputs positive, the values as many, and the gain finite and not
///                         negative, for Xavier's positive.
template <parameter_range R>
void fope_coefficients(R&& values, random_source& random, const fope_shape& shape, const fope_initialization& rule) {
  constexpr std::string_view who = "fope_coefficients";
  const index_t heads = shape.heads, inputs = shape.inputs, outputs = shape.outputs, size = static_cast<index_t>(std::ranges::size(values));
  require(heads >= 0 && inputs > 0 && outputs > 0, who, "heads must not be negative, inputs and outputs positive", heads, inputs, outputs);
  const index_t matrices = std::max<index_t>(heads, 1);
  require(checked_product(who, std::array{matrices, inputs, outputs}) == size, who, "values must be heads * inputs * outputs", size, heads,
          inputs, outputs);
  const fope_start start = rule.start;
  const bool is_xavier = start != fope_start::eye && start != fope_start::eye_normal;
  require(std::isfinite(rule.gain) && (is_xavier ? rule.gain > 0 : rule.gain >= 0), who,
          "gain must be finite and not negative, for xavier positive", rule.gain);

  const double fans = heads == 0 ? static_cast<double>(inputs) + static_cast<double>(outputs)
                                 : static_cast<double>(outputs) * (static_cast<double>(inputs) + static_cast<double>(heads));
  const double variance = 2 * rule.gain * rule.gain / fans;
  switch (start) {
    case fope_start::eye: zeros(values); break;
    case fope_start::eye_normal: normal(values, random, {.standard_deviation = rule.gain}); break;
    case fope_start::eye_xavier_normal:
    case fope_start::xavier_normal: normal(values, random, {.standard_deviation = std::sqrt(variance)}); break;
    case fope_start::eye_xavier_uniform:
    case fope_start::xavier_uniform: uniform(values, random, {.low = -std::sqrt(3 * variance), .high = std::sqrt(3 * variance)}); break;
  }
  if (start == fope_start::xavier_normal || start == fope_start::xavier_uniform) return;
  const index_t step = (inputs + outputs - 1) / outputs;
  auto* const first = std::ranges::data(values);
  for (index_t h = 0; h < matrices; ++h)
    for (index_t i = 0; i < outputs && i * step < inputs; ++i) first[(h * inputs + i * step) * outputs + i] += 1;
}

}  // namespace initialize

}  // namespace POSENC_NAMESPACE
