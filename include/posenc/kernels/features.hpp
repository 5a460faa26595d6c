// SPDX-License-Identifier: MIT
/// \file  The features kernel: rows of sines of linear functions of a point's coordinates, and their gradients.
#pragma once

#include <posenc/kernels/dispatch.hpp>
#include <posenc/kernels/phase.hpp>  // power_of_two

namespace POSENC_NAMESPACE::kernels {

/// What each channel is the sine of: pi * (h + quarter), h being the half turns that the coordinates make. A cosine has a quarter of 1/2.
/// With `axes`, channel c reads one coordinate: h = x[axes[c]] * high[c]. Without, all: h = sum over a of x[a] * high[a * weights + c].
struct feature_angles {
  const double* points;        ///< coordinate a of point r: points[r * point + a * axis]
  index_t point, axis;
  index_t rows, dims;
  const double* high;          ///< half turns per unit
  const double* low;           ///< what they lack in double precision; read where T is double only
  const double* quarters;      ///< [channels]
  index_t channels;
  const std::int64_t* axes = nullptr;   ///< [channels]
  const std::int64_t* reach = nullptr;  ///< the lowest and the highest axis of each eight channels, from the first; with axes
  index_t weights = 0;                  ///< stride of high and low from axis to axis; without axes
  /// Where given, features are expectations over normal points: times exp(-variance / 2), the variance being that of pi * h. With axes only
  /// the diagonal is read.
  const double* covariances = nullptr;
  index_t covariance_point = 0, covariance_row = 0, covariance_column = 0;
};

/// Features are rounded once to T, for 16-bit formats through float. For scale 1, up to 2^30 half turns: in float within
/// 9e-8 + 7e-16 |h| (times the number of coordinates that make h), in double within 5e-16. Where |h| reaches 2^51 its fraction is taken as
/// 0. Not-a-number and infinite coordinates give not-a-number.
template <class T>
struct features_call {
  feature_angles angles;
  T* out;  ///< channel 0 of row 0
  index_t row;  ///< stride of rows
  double scale = 1;
  T* raw = nullptr;  ///< where the coordinates themselves go, in row 0
  T* ones = nullptr;  ///< where ones go, in row 0
  index_t ones_count = 0;
};

/// The gradient at points and covariances, which are written, in double. Sums are taken in a fixed order.
template <class T>
struct features_gradient_call {
  feature_angles angles;
  const T* d;  ///< the gradient of channel 0 of row 0
  index_t row;
  double* d_points;  ///< [rows, dims]
  double* spare;  ///< 8 for each of what a row of d_points and of d_covariances holds
  double scale = 1;
  const T* d_raw = nullptr;
  double* d_covariances = nullptr;  ///< with axes the diagonals [rows, dims], else [rows, dims, dims]; perhaps not asked for
};

/// The gradient at `high`, without axes: added to, in the order of rows. Rows with a coordinate that is not a number have no part in it.
template <class T>
struct features_weight_gradient_call {
  feature_angles angles;
  const T* d;
  index_t row;
  double* d_weights;  ///< [dims, channels], with the stride of `weights`
  double scale = 1;
};

}  // namespace POSENC_NAMESPACE::kernels

#define POSENC_KERNEL <posenc/kernels/features.inc>
#include <posenc/kernels/each_instruction_set.inc>

namespace POSENC_NAMESPACE::kernels {

template <class T>
void features(const features_call<T>& call) {
  if constexpr (is_same<T, bfloat16>)
    dispatch(baseline::features<T>, avx2::features<T>, avx512::features<T>, avx512_bf16::features<T>)(call);
  else dispatch(baseline::features<T>, avx2::features<T>, avx512::features<T>)(call);
}
template <class T>
void features_gradient(const features_gradient_call<T>& call) {
  dispatch(baseline::features_gradient<T>, avx2::features_gradient<T>, avx512::features_gradient<T>)(call);
}
template <class T>
void features_weight_gradient(const features_weight_gradient_call<T>& call) {
  dispatch(baseline::features_weight_gradient<T>, avx2::features_weight_gradient<T>, avx512::features_weight_gradient<T>)(call);
}

}  // namespace POSENC_NAMESPACE::kernels
