// SPDX-License-Identifier: MIT
/// \file  How the frequencies of sinusoidal codes fall: systems differ in the exponent, and checkpoints do not record it.
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/frequencies.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>  // index_t

#include <cmath>
#include <string_view>
#include <variant>

namespace POSENC_NAMESPACE {

/// Radians per position of frequency k = 0 ... h - 1, where h = width / 2, rounded up, and width is the number of channels of an axis.
namespace exponent_rule {

/// base^(-2k / width): Vaswani et al. 2017, Annotated Transformer, DistilBERT, Marian, RoFormer, XLM, MAE, DETR, trax, keras-hub,
/// GPT-NeoX, x-transformers, multidim-positional-encoding, timm.
struct vaswani {
  double base = 10000;
  friend bool operator==(const vaswani&, const vaswani&) = default;
};
/// min_timescale (max_timescale / min_timescale)^(-k / (h - 1)): the last one is exactly 1 / max_timescale where the first is 1.
/// tensor2tensor, fairseq, M2M100, XGLM, Whisper, CTranslate2. As in tensor2tensor's code, min_timescale multiplies, though its
/// documentation implies a division: only 1 means the same by both.
struct tensor2tensor {
  double max_timescale = 10000, min_timescale = 1;
  friend bool operator==(const tensor2tensor&, const tensor2tensor&) = default;
};
/// base^(-k / (h - shift)): timesteps of diffusion models. Shift 1 in diffusers unless told (`downscale_freq_shift`), which makes it the
/// rule of tensor2tensor; 0 in guided-diffusion and ggml, and the rule of Vaswani for even widths.
struct downscaled {
  required<double> shift;
  double base = 10000;
  friend bool operator==(const downscaled&, const downscaled&) = default;
};
/// From max_frequency down to min_frequency in equal ratios, both among them: MLX.
struct log_linear {
  double max_frequency = 1, min_frequency = 1e-4;
  friend bool operator==(const log_linear&, const log_linear&) = default;
};

}  // namespace exponent_rule

using any_exponent_rule =
    std::variant<exponent_rule::vaswani, exponent_rule::tensor2tensor, exponent_rule::downscaled, exponent_rule::log_linear>;

/// The frequencies of an axis of `width` channels, in radians per position. Relative error below 2^-90.
/// \throws argument_error  unless what the rule has is positive and finite, and the shift below h where h is more than 1.
inline frequency_series sinusoidal_series(std::string_view who, const any_exponent_rule& rule, index_t width) {
  const index_t count = width / 2 + width % 2;
  const auto last = static_cast<double>(count > 1 ? count - 1 : 1);  // one frequency alone is the first
  if (const auto* one = std::get_if<exponent_rule::vaswani>(&rule))
    return count == 0 ? frequency_series{} : plain_series(who, width, one->base);
  if (const auto* one = std::get_if<exponent_rule::downscaled>(&rule)) {
    const double shift = one->shift;
    require(std::isfinite(shift) && (count <= 1 || shift < static_cast<double>(count)), who, "shift must be below half the width", count,
            shift);
    return geometric_series(who, count, one->base, 1, count > 1 ? static_cast<double>(count) - shift : 1);
  }
  if (const auto* one = std::get_if<exponent_rule::tensor2tensor>(&rule)) {
    const double max = one->max_timescale, min = one->min_timescale;
    require(std::isfinite(max) && max > 0 && std::isfinite(min) && min > 0, who, "timescales must be positive and finite", max, min);
    return geometric_series(who, count, log(min), log(min) - log(max), last);
  }
  const auto [max, min] = std::get<exponent_rule::log_linear>(rule);
  require(std::isfinite(max) && max > 0 && std::isfinite(min) && min > 0, who, "frequencies must be positive and finite", max, min);
  return geometric_series(who, count, log(max), log(min) - log(max), last);
}

}  // namespace POSENC_NAMESPACE
