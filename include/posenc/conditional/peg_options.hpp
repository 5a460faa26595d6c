// SPDX-License-Identifier: MIT
/// \file  What a PEG can be: its axes, its borders, and what comes behind the convolution.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/kernels/convolve.hpp>  // most_kernel_rows
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>  // index_t

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// What lies outside the grid.
enum class peg_padding {
  zero,      ///< zeros on both sides: CPVT, Twins, CoaT. They are what tells tokens near a border where they are
  circular,  ///< the other end: panoramas. Tokens then know of each other only
  causal     ///< kernel - 1 zeros in front, none behind, on one axis: a token sees itself and those before, for decoders
};

/// What is taken of the convolution before it is added.
enum class peg_activation {
  none,
  gelu  ///< DaViT's ConvPosEnc, the exact GELU
};

struct peg_options {
  required<index_t> dim;                      ///< channels
  std::vector<index_t> kernel;                ///< for each of 1 to 3 axes, slowest first: {3, 3}. Odd
  peg_padding padding = peg_padding::zero;
  peg_activation activation = peg_activation::none;
  bool residual = true;                       ///< adds to the tokens rather than replaces them; Twins: where the stride is 1
  std::vector<index_t> stride{};              ///< for each axis, only for `convolve`; none: 1

  friend bool operator==(const peg_options&, const peg_options&) = default;
};

namespace detail {
inline void require_options(std::string_view who, const peg_options& options) {
  const std::vector<index_t>& kernel = options.kernel;
  const index_t dim = options.dim, axes = static_cast<index_t>(kernel.size());
  require(dim > 0, who, "dim must be positive", dim);
  require(axes >= 1 && axes <= 3, who, "there must be a kernel for each of 1 to 3 axes", axes);
  index_t rows = 1;  // of taps
  for (std::size_t axis = 0; axis < kernel.size(); ++axis) {
    require(kernel[axis] > 0 && kernel[axis] % 2 == 1, who, "kernels must be odd", kernel[axis]);
    if (axis + 1 < kernel.size()) rows = checked_product(who, std::array{rows, kernel[axis]});
  }
  require(rows <= kernels::most_kernel_rows, who, "kernels of all axes but the last must multiply to at most 256", rows);
  require(options.padding != peg_padding::causal || axes == 1, who, "causal padding needs one axis", axes);
  require(options.stride.empty() || static_cast<index_t>(options.stride.size()) == axes, who, "there must be a stride for each axis", axes,
          options.stride.size());
  for (const index_t step : options.stride) {
    require(step > 0, who, "strides must be positive", step);
    require(step == 1 || !options.residual, who, "a residual needs stride 1", step);
  }
}
}  // namespace detail

}  // namespace POSENC_NAMESPACE
