// SPDX-License-Identifier: MIT
/// \file  The CoPE kernels: positions that count the open gates between a query and its keys, the bias that is read there, and its
/// gradient.
#pragma once

#include <posenc/kernels/dispatch.hpp>
#include <posenc/kernels/exponential.hpp>

namespace POSENC_NAMESPACE::kernels {

/// How many more numbers z has than there are positions.
inline constexpr index_t cope_padding = 32;

/// The keys that one query sees, and where z is read for them: positions[j] = min(g_j + g_(j+1) + ... up to the last key, last) with
/// g = sigmoid(scores * scale), or 0 for a key without a position. Positions stay not-a-number behind a score that is.
///
/// A gate is within 3.5 units in the last place. Gates are added from the last key back, 16 at a time, 1, 2, 4 and 8 keys apart; what these
/// come to is added up with compensation. So a position is within 11 roundings of compute<T>, relative, however many keys there are.
/// Returns how many of the first keys are at `last`, with nothing written for them.
/// Preconditions: `last` is a whole number, at most 2^24 - 1; outputs do not overlap inputs, but `slopes` may be `scores`.
template <class T>
struct cope_positions_call {
  const T* scores;
  index_t keys;
  compute<T> scale;
  const std::int64_t* key_ids;  ///< null: every key has a position
  compute<T> last;
  compute<T>* positions;
  compute<T>* slopes = nullptr;  ///< where given: the derivatives of the gates, g (1 - g), within 7 units in the last place
};

/// scores[j] += z[p] + (position - p) (z[p + 1] - z[p]), where p is the whole part of the position; nothing for a key without a position.
/// Preconditions: z has last + 1 + cope_padding numbers, from number `last` on all the same; the others are what `cope_positions` was given
/// and made, so that positions do not rise, and fall by 1 at most.
template <class T>
struct cope_call {
  T* scores;
  index_t keys, at_last;  ///< of the keys; those of them that are at `last`
  const compute<T>* positions;
  const std::int64_t* key_ids;
  const compute<T>* z;
  compute<T> last;
};

/// The gradient: adds to d_z what the keys read there, and makes of slopes the gradient of the scores that gates are of, or adds that to
/// d_scores: key j has slope_j * scale times the sum over the keys i up to j of d_scores_i (z[p_i + 1] - z[p_i]), but 0 for a whole
/// position. In double, key after key.
template <class T>
struct cope_gradient_call {
  T* d_scores;
  index_t keys, at_last;
  const compute<T>* positions;
  const std::int64_t* key_ids;
  const compute<T>* z;
  compute<T> last, scale;
  compute<T>* slopes;
  double* d_z;  ///< last + 2
  bool add_to_scores;  ///< or else the slopes become the gradient
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/cope.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
index_t cope_positions(const cope_positions_call<T>& call) {
  return dispatch(baseline::cope_positions<T>, avx2::cope_positions<T>, avx512::cope_positions<T>)(call);
}

template <class T>
void cope(const cope_call<T>& call) {
  if constexpr (is_same<T, bfloat16>) dispatch(baseline::cope<T>, avx2::cope<T>, avx512::cope<T>, avx512_bf16::cope<T>)(call);
  else dispatch(baseline::cope<T>, avx2::cope<T>, avx512::cope<T>)(call);
}

template <class T>
void cope_gradient(const cope_gradient_call<T>& call) {
  dispatch(baseline::cope_gradient<T>, avx2::cope_gradient<T>, avx512::cope_gradient<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
