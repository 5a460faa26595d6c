// SPDX-License-Identifier: MIT
/// \file  The same work for both units. In an anonymous namespace, so that the linker cannot merge the two copies of it: what it may
/// merge are the library's own functions.
#pragma once

#include <posenc/rope.hpp>
#include <posenc/sinusoidal.hpp>

#include <cstring>
#include <vector>

using bytes = std::vector<unsigned char>;

bytes first();
bytes second();

namespace {

template <class Tensor>
void append(bytes& all, const Tensor& tensor) {
  const auto size = static_cast<std::size_t>(tensor.size()) * sizeof(*tensor.data());
  all.resize(all.size() + size);
  std::memcpy(all.data() + all.size() - size, tensor.data(), size);
}

template <class S>
void encode(bytes& all) {
  constexpr Eigen::Index batch = 2, time = 37, heads = 3, dim = 80;
  const auto at = posenc::positions::range(time, 131'000);

  Eigen::Tensor<S, 4, Eigen::RowMajor> q(batch, time, heads, dim);
  for (Eigen::Index i = 0; i < q.size(); ++i) q.data()[i] = static_cast<S>(i % 1009) / S(1009) - S(0.5);
  const posenc::rope<S> rope({.pairing = posenc::pairing::halves, .dim = dim});
  rope.rotate(posenc::heads(q, posenc::axis_order::time_head), at);
  append(all, q);

  Eigen::Tensor<S, 2, Eigen::RowMajor> code(time, dim);
  const posenc::sinusoidal<S> sinusoidal(
      {.dim = dim, .order = posenc::channel_order::interleaved, .exponent_rule = posenc::exponent_rule::vaswani{}});
  sinusoidal.encode(at, code);
  append(all, code);
}

bytes encode() {
  bytes all;
  encode<float>(all);
  encode<double>(all);
  return all;
}

}  // namespace
