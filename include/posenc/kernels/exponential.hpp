// SPDX-License-Identifier: MIT
/// \file  What kernels share to take e^-z and softplus of vectors, four of them side by side: their inline parts, for every instruction set.
#pragma once

#include <posenc/kernels/dispatch.hpp>

#define POSENC_KERNEL <posenc/kernels/exponential.inc>
#include <posenc/kernels/each_instruction_set.inc>
