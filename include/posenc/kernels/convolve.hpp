// SPDX-License-Identifier: MIT
/// \file  The kernels of depthwise convolutions: each channel of a grid by a filter of its own, and the gradient of the filters.
#pragma once

#include <posenc/kernels/dispatch.hpp>
#include <posenc/kernels/gelu.hpp>

namespace POSENC_NAMESPACE::kernels {

/// One axis of a grid, and how it is walked. Output j takes taps t = 0, 1, ... of the cells j * step + t - before: those of the input with
/// `spread` - 1 zeros between any two, and zeros outside.
struct convolve_axis {
  index_t in = 1, out = 1;  ///< cells
  index_t kernel = 1;       ///< taps
  index_t before = 0;       ///< cells of padding in front: 0 to kernel - 1
  index_t step = 1;         ///< of the outputs; the stride of the convolution
  index_t spread = 1;       ///< more than 1 for the gradient of a convolution with that step
  index_t in_stride = 0, out_stride = 0;  ///< elements from a cell to the next
};

/// out[j, c] = (accumulate ? out[j, c] : 0) + (bias[c] + sum over taps t of in[j * step + t - before, c] weight[t, c]), added in the order
/// of the taps, last axis fastest, in compute<T>, and rounded to T once. With `gelu`, of the sum in brackets its `gelu` is taken. Channels
/// are contiguous.
///
/// Each output depends on nothing but these: parts of a grid's channels give the bits of the whole. A cell that is masked counts as zeros,
/// and so does what lies outside the grid; what stands in masked cells may be anything.
/// Preconditions: `in` and `out` do not overlap; or they are one view with step 1, spread 1 and as many outputs as inputs on every axis.
template <class T>
struct convolve_call {
  const T* in;
  T* out;
  convolve_axis axes[3];                  ///< slowest first; an axis that is not there has one cell and one tap
  index_t channels;
  const compute<T>* weight;               ///< [tap, channel]
  index_t weight_tap;                     ///< stride
  const compute<T>* bias = nullptr;       ///< [channel]; null: zeros
  bool accumulate = false;
  bool gelu = false;
  bool circular = false;                  ///< what lies outside is the other end of the grid
  const std::uint8_t* in_mask = nullptr;  ///< of the cells, last axis fastest: not 0 where it is real; null: all are
  const std::uint8_t* out_mask = nullptr;  ///< where it is 0, nothing is written
  const T* history = nullptr;  ///< the `before` cells in front of the last axis, the only one; null: zeros
  index_t history_stride = 0;
  compute<T>* workspace;  ///< of `convolve_workspace` elements
};

/// d_weight[t, c] += sum over j of d[j, c] in[j * step + t - before, c], and d_bias[c] += sum over j of d[j, c]. The sums of each line of
/// the last axis are taken alone, in its order, then added in the order of the lines. A line without neighbours is taken in pieces of
/// `line_segment` outputs, or of as many as the kernel has taps where these are more; whole where it is circular.
/// `spread` must be 1. Preconditions: the gradients overlap neither each other nor what is read.
template <class T>
struct convolve_weight_gradient_call {
  const T* in;
  const T* d;             ///< where `out` of the convolution was
  convolve_axis axes[3];  ///< as those of the convolution
  index_t channels;
  compute<T>* d_weight;   ///< [tap, channel]
  index_t weight_tap;     ///< stride
  compute<T>* d_bias = nullptr;  ///< null: not asked for
  bool circular = false;
  const std::uint8_t* in_mask = nullptr;
  const std::uint8_t* out_mask = nullptr;  ///< where it is 0, d counts as zeros
  compute<T>* workspace;  ///< of `convolve_workspace` elements
};

/// How many outputs of a line without neighbours are taken at once.
inline constexpr index_t line_segment = 32;

/// How many taps of the axes but the last there may be, multiplied.
inline constexpr index_t most_kernel_rows = 256;

// The workspace holds lines of the grid as they were before they are written: padded, widened, in a ring that is as long as the kernel
// reaches. Cells in it begin with a cache line, and are an odd number of lines apart: neighbours never compete for one place in a cache.
namespace detail {
constexpr index_t convolve_cell(index_t channels, index_t line_elements) {
  return ((channels + line_elements - 1) / line_elements | 1) * line_elements;
}
constexpr bool is_one_line(const convolve_axis (&axes)[3]) {
  return axes[0].out * axes[1].out == 1 && axes[0].kernel * axes[1].kernel == 1;
}
/// Outputs of the last axis that are taken at once. A line that is alone is cut, so that the workspace does not grow with it.
constexpr index_t convolve_segment(const convolve_axis (&axes)[3], bool circular) {
  const convolve_axis& last = axes[2];
  if (!is_one_line(axes) || circular) return last.out;
  const index_t segment = last.kernel > line_segment ? last.kernel : line_segment;
  return segment < last.out ? segment : last.out;
}
/// Cells of one line in the ring.
constexpr index_t convolve_reach(const convolve_axis& axis, index_t outputs) { return (outputs - 1) * axis.step + axis.kernel; }
/// Lines in the ring.
constexpr index_t convolve_ring(const convolve_axis (&axes)[3], bool circular) {
  const index_t rows = convolve_reach(axes[1], axes[1].out), planes = convolve_reach(axes[0], axes[0].out);
  return circular ? planes * rows : (axes[0].kernel - 1) * rows + axes[1].kernel;
}
}  // namespace detail

/// Elements of the workspace of a call with those axes and channels: a few lines of the grid, all of a circular one.
/// Preconditions: every axis has at least one input, output and tap.
template <class S>
constexpr index_t convolve_workspace(const convolve_axis (&axes)[3], bool circular, index_t channels) {
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(S));
  const index_t segment = detail::convolve_segment(axes, circular);
  const index_t cells =
      detail::convolve_ring(axes, circular) * detail::convolve_reach(axes[2], segment) + segment;  // and a line of outputs
  return cells * detail::convolve_cell(channels, line) + line;
}

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/convolve.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void convolve(const convolve_call<T>& call) {
  if constexpr (is_same<T, bfloat16>)
    dispatch(baseline::convolve<T>, avx2::convolve<T>, avx512::convolve<T>, avx512_bf16::convolve<T>)(call);
  else dispatch(baseline::convolve<T>, avx2::convolve<T>, avx512::convolve<T>)(call);
}

template <class T>
void convolve_weight_gradient(const convolve_weight_gradient_call<T>& call) {
  dispatch(baseline::convolve_weight_gradient<T>, avx2::convolve_weight_gradient<T>, avx512::convolve_weight_gradient<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
