// SPDX-License-Identifier: MIT
/// \file  Keeps tests, and the examples that are built with them, from compiling the kernels again and again for each instruction set:
///        `tests/kernels/*.cpp` do it once, with the same flags. That is half of the time that a test takes to compile.
#pragma once

#include <posenc/kernels/add.hpp>
#include <posenc/kernels/add_gradient.hpp>
#include <posenc/kernels/angle_gradient.hpp>
#include <posenc/kernels/bias.hpp>
#include <posenc/kernels/dot.hpp>
#include <posenc/kernels/forgetting.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/kernels/log_sigmoid.hpp>
#include <posenc/kernels/phase.hpp>
#include <posenc/kernels/pope.hpp>
#include <posenc/kernels/rotate.hpp>
#include <posenc/kernels/scale.hpp>
#include <posenc/kernels/table_bias.hpp>
#include <posenc/kernels/widen.hpp>

/// What every scalar has.
#define POSENC_KERNELS_OF(WHERE, T)                                                                              \
  WHERE template void add<T>(const add_call<T>&);                                                                \
  WHERE template void add_gradient<T>(const add_gradient_call<T>&);                                              \
  WHERE template void angle_gradient<T>(const angle_gradient_call<T>&);                                          \
  WHERE template void bias<T>(const bias_call<T>&);                                                              \
  WHERE template void bias_backward<T>(const bias_backward_call<T>&);                                            \
  WHERE template void dot<T>(const dot_call<T>&);                                                                \
  WHERE template void forgetting<T>(const forgetting_call<T>&);                                                  \
  WHERE template void forgetting_gradient<T>(const forgetting_gradient_call<T>&);                                \
  WHERE template void linear<T>(const linear_call<T>&);                                                          \
  WHERE template void linear_input_gradient<T, T>(const linear_input_gradient_call<T, T>&);                      \
  WHERE template void linear_weight_gradient<T, T>(const linear_weight_gradient_call<T, T>&);                    \
  WHERE template void log_sigmoid<T>(const log_sigmoid_call<T>&);                                                \
  WHERE template void log_sigmoid_gradient<T>(const log_sigmoid_gradient_call<T>&);                              \
  WHERE template void pope<T>(const pope_call<T>&);                                                              \
  WHERE template void pope_backward<T>(const pope_call<T>&);                                                     \
  WHERE template void rotate<T>(const rotate_call<T>&);                                                          \
  WHERE template void scale<T>(const scale_call<T>&);                                                            \
  WHERE template void scale_gradient<T>(const scale_gradient_call<T>&);                                          \
  WHERE template void table_bias<T>(const table_bias_call<T>&);                                                  \
  WHERE template void table_bias_gradient<T, compute<T>>(const table_bias_gradient_call<T, compute<T>>&);        \
  WHERE template void widen<T>(const widen_call<T>&);
/// What only numbers to compute with have.
#define POSENC_KERNELS_OF_WIDE(WHERE, T) WHERE template void phase<T>(const phase_call<T>&);
/// What only those have that are computed in float.
#define POSENC_KERNELS_OF_FLOATS(WHERE, T) \
  WHERE template void table_bias_gradient<T, double>(const table_bias_gradient_call<T, double>&);
/// What only formats of 16 bits have.
#define POSENC_KERNELS_OF_HALVES(WHERE, T)                                                              \
  WHERE template void linear_input_gradient<T, float>(const linear_input_gradient_call<T, float>&);     \
  WHERE template void linear_weight_gradient<T, float>(const linear_weight_gradient_call<T, float>&);

namespace POSENC_NAMESPACE::kernels {
POSENC_KERNELS_OF(extern, float)
POSENC_KERNELS_OF_WIDE(extern, float)
POSENC_KERNELS_OF_FLOATS(extern, float)
POSENC_KERNELS_OF(extern, double)
POSENC_KERNELS_OF_WIDE(extern, double)
POSENC_KERNELS_OF(extern, bfloat16)
POSENC_KERNELS_OF_FLOATS(extern, bfloat16)
POSENC_KERNELS_OF_HALVES(extern, bfloat16)
POSENC_KERNELS_OF(extern, float16)
POSENC_KERNELS_OF_FLOATS(extern, float16)
POSENC_KERNELS_OF_HALVES(extern, float16)
}  // namespace POSENC_NAMESPACE::kernels
