// SPDX-License-Identifier: MIT
/// \file  The phase kernel: rows of cosines and sines of position * frequency, from angles in fixed-point turns.
#pragma once

#include <posenc/kernels/dispatch.hpp>

namespace POSENC_NAMESPACE::kernels {

/// What one call fills: row r holds, for each pair k, the cosine and the sine of position r times frequency k, times `scale`; with several
/// axes, of the sum over the axes. Rounded once to T, for 16-bit formats through float. For scale 1 and one axis the error is at
/// most 3.1e-8 in float and 2.3e-16 in double at any |position| <= 2^31.
template <class T>
struct phase_call {
  const std::uint64_t* high;  ///< frequencies in turns [axes, pairs], 64 bits of each
  const std::uint64_t* low;   ///< the 64 bits below
  index_t pairs;
  const std::int64_t* ids;    ///< position of row r: ids[r], or first + r where null
  std::int64_t first;
  index_t rows;
  T* cosine;                  ///< of row 0, pair 0
  T* sine;
  index_t row;                ///< stride of rows
  bool interleaved;           ///< pair k at 2k (then cosine and sine are neighbours, in either order), else at k
  double scale;
  compute<T> absent_cosine;   ///< what a row without a position holds; its sines are 0
  index_t axes = 1;
  index_t axis = 0;                     ///< stride of ids from axis to axis; 0: all axes have the same
  const double* coordinates = nullptr;  ///< instead of ids, NaN where there is none; |coordinate * frequency| < 2^31 turns
  const std::int64_t* whole = nullptr;  ///< whole turns of the frequencies, read with coordinates only
  const double* growth = nullptr;       ///< pair k is multiplied by 2^((position - centre) * growth[k]), whose exponent is at most 1000
  double centre = 0;
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/phase.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void phase(const phase_call<T>& call) {
  if constexpr (is_same<T, bfloat16>) dispatch(baseline::phase<T>, avx2::phase<T>, avx512::phase<T>, avx512_bf16::phase<T>)(call);
  else dispatch(baseline::phase<T>, avx2::phase<T>, avx512::phase<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
