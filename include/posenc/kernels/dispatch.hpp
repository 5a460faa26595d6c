// SPDX-License-Identifier: MIT
/// \file  Vectors for every instruction set, and the choice between the sets.
#pragma once

#include <posenc/config.hpp>
#include <posenc/kernels/instruction_set.hpp>
#include <posenc/kernels/scalars.hpp>

#include <bit>  // endian
#include <cstddef>
#include <cstdint>
#include <limits>

namespace POSENC_NAMESPACE::kernels {

using index_t = std::ptrdiff_t;

/// The id that means "no position".
inline constexpr std::int64_t absent = std::numeric_limits<std::int64_t>::min();

/// The one of the functions that the instruction set in use asks for. Only kernels of bfloat16 have the last one.
template <class Function>
Function* dispatch(Function* baseline, Function* avx2, Function* avx512, Function* avx512_bf16 = nullptr) {
  switch (current_instruction_set()) {
    case instruction_set::avx512_bf16: return avx512_bf16 ? avx512_bf16 : avx512;
    case instruction_set::avx512: return avx512;
    case instruction_set::avx2: return avx2;
    default: return baseline;
  }
}

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/vector.inc>
#include <posenc/kernels/each_instruction_set.inc>
