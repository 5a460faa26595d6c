// SPDX-License-Identifier: MIT
/// \file  The digests of what the kernels write (see outputs.hpp). They are the promise: a change of one changes what users get.
#pragma once

#include <posenc/kernels/scalars.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace outputs {

/// FNV-1a of 64 bits, over the bits of the numbers from the lowest byte up.
template <class T>
std::uint64_t digest(const std::vector<T>& numbers) {
  using word = std::conditional_t<sizeof(T) == 2, std::uint16_t, std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const T number : numbers) {
    const std::uint64_t bits = std::bit_cast<word>(number);
    for (std::size_t byte = 0; byte < sizeof(T); ++byte) hash = (hash ^ (bits >> (8 * byte) & 0xffu)) * 0x100000001b3u;
  }
  return hash;
}

template <class T>
struct promised;
template <>
struct promised<float> {
  static constexpr std::uint64_t add = 0x25780072a9694647u, rotate = 0xf429757abf76acaau, bias = 0xffcfd6dcf1a7f70bu,
                                 bias_backward = 0x7628a19a7688923fu, phase = 0x077f7d7b3b3c0addu, rotate_forms = 0x35806f81daae2f35u,
                                 phase_places = 0x7735e7f15e149acfu, angle_gradient = 0x615835412d389c27u,
                                 add_sources = 0x316e20de4cd9c480u, add_gradient = 0x55cbf573107839ccu, linear = 0x100ad15e3e34107bu,
                                 linear_gradients = 0x270b8228867f281cu, dot = 0x07a0f1be2bca443eu, table_bias = 0xa05a03a803345412u,
                                 table_bias_gradient = 0x54a43cefb9637b5cu, widen = 0x5ef177e4d392b127u, convolve = 0xa12b7af06c91e545u,
                                 add_product = 0x870ed2269159fdf3u, gelu = 0x74c0e6eb84864059u, cope = 0xd87841e1499c700au,
                                 log_sigmoid = 0x109b465534a2883fu, log_sigmoid_gradient = 0x2d5620fd17af8955u,
                                 forgetting = 0x882127370d4d99c6u, forgetting_gradient = 0xcc1f4224aabf9325u,
                                 features = 0x7ff92bc6c3c29933u, features_gradients = 0x184e85e782933251u;
};
template <>
struct promised<double> {
  static constexpr std::uint64_t add = 0xa080336500e35095u, rotate = 0x3fc30001612cb730u, bias = 0xaa5165ffd428c035u,
                                 bias_backward = 0xcc4d8a3099de6966u, phase = 0xab8d4083459c8519u, rotate_forms = 0xdd6fb1f18ec7fdc9u,
                                 phase_places = 0x1cd194ecbf994f92u, angle_gradient = 0x79e6a779e875dfc1u,
                                 add_sources = 0xd3f44bad56f708ebu, add_gradient = 0x5c608263a38a6580u, linear = 0x4adb90b46d43c9aeu,
                                 linear_gradients = 0x49ad0c839f53a6e5u, dot = 0x48f86953a43d48e8u, table_bias = 0x7d3d9626a1a33d63u,
                                 table_bias_gradient = 0x92615e10387ab163u, widen = 0x1ed5a6a23dc87595u, convolve = 0x5e5d8043e7b8d005u,
                                 add_product = 0x6e5bb53dd4121011u, gelu = 0x9bdf1aa629096ce1u, cope = 0x7450276ef2060544u,
                                 log_sigmoid = 0x319d1522f2242b4cu, log_sigmoid_gradient = 0x9070985c7b3395d5u,
                                 forgetting = 0xe706fdbe9c7c47feu, forgetting_gradient = 0x0218176235714ce5u,
                                 features = 0x530785374c489bc0u, features_gradients = 0x0c480e376ffc8232u;
};
template <>
struct promised<posenc::kernels::bfloat16> {
  static constexpr std::uint64_t add = 0x58555748d79170b0u, rotate = 0xef936b81e1f2f645u, bias = 0x42d0450216e9e13eu,
                                 bias_backward = 0x5962f95467d8b2e3u, phase = 0x8d1d7ed014969a0fu, rotate_forms = 0xfc4cd8519aa45a7du,
                                 phase_places = 0x745103b0b1ea3017u, angle_gradient = 0x38f5ff06b8482b1du,
                                 add_sources = 0x9816038772108738u, add_gradient = 0x91e585aeecf5e648u, linear = 0x2944b5e91bed8748u,
                                 linear_gradients = 0x3c80ddf36278bde1u, dot = 0x4677f4828ab8fe54u, table_bias = 0x505d27f40f5226b3u,
                                 table_bias_gradient = 0x3a07ebb70456726du, widen = 0x0915aa90c3844ba8u, convolve = 0xe55dd774905f00c2u,
                                 add_product = 0x6a9ad2f81d6ab05eu, gelu = 0x945d314a8448b881u, cope = 0x82102363393ced21u,
                                 log_sigmoid = 0xbc3606284387e788u, log_sigmoid_gradient = 0xfd86009e14ca8808u,
                                 forgetting = 0x976915dc84980cceu, forgetting_gradient = 0x30b2f0934d3268f1u,
                                 features = 0x706f5f982181bcd9u, features_gradients = 0xe68b3d906b933c11u;
};
template <>
struct promised<posenc::kernels::float16> {
  static constexpr std::uint64_t add = 0x65b8347b3c80f77au, rotate = 0x8b7b246feba82540u, bias = 0x731a5591807a2056u,
                                 bias_backward = 0xb96962004c2d4690u, phase = 0xb1750065e7a59536u, rotate_forms = 0x77d3e7ef38da1d59u,
                                 phase_places = 0xcc83a9726070b4f0u, angle_gradient = 0xe34ac833548359e5u,
                                 add_sources = 0x97386843a20d369cu, add_gradient = 0xfae0cc553a8bd8ccu, linear = 0x3e43fc44eb88d494u,
                                 linear_gradients = 0x6900259a1368e732u, dot = 0xfd136594ea3dbd7bu, table_bias = 0x5499dac2258b390bu,
                                 table_bias_gradient = 0x9076027549ed9caeu, widen = 0xe5e6a1c44e89dee2u, convolve = 0x46ac0720ea66ff31u,
                                 add_product = 0xaba3fd5990ae6e9au, gelu = 0x65ceddf5959028fbu, cope = 0x8aeb8420d6f3911du,
                                 log_sigmoid = 0x48ec759c8ec1e084u, log_sigmoid_gradient = 0xd8a3ff676161c57du,
                                 forgetting = 0xddb5b03edad2184bu, forgetting_gradient = 0x99f58d39d98b27a1u,
                                 features = 0x31190a5ca23548ffu, features_gradients = 0xc7a07b1ef465bc3au;
};

/// Of the frequencies of base 10000 and 64 pairs, the high and the low word of each in turn.
inline constexpr std::uint64_t promised_frequencies = 0xffca95aa68d24cddu;

}  // namespace outputs
