// SPDX-License-Identifier: MIT
/// \file  Numbers to test with: the same on every compiler and processor.
#pragma once

#include <posenc/random.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

/// What the library draws from, and what only tests ask of it.
class random_numbers : public posenc::random_source {
 public:
  using random_source::random_source;

  /// In [low, high], which are less than 2^63 apart.
  constexpr std::int64_t integer(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(bits() % (static_cast<std::uint64_t>(high - low) + 1));
  }
  /// In [-1, 1), every bit of the significand in play.
  template <class S>
  constexpr S real() {
    constexpr std::int64_t one = std::int64_t{1} << (sizeof(S) == 4 ? 24 : 53);
    return static_cast<S>(integer(-one, one - 1)) / static_cast<S>(one);
  }
};

/// Fills an Eigen tensor or a vector, in the order of its memory.
template <class Container>
Container& fill(Container& container, std::uint64_t seed) {
  random_numbers random(seed);
  auto* data = container.data();
  for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(container.size()); ++i)
    data[i] = random.real<std::remove_reference_t<decltype(*data)>>();
  return container;
}

template <class Tensor>
Tensor random_tensor(std::uint64_t seed, auto... extents) {
  Tensor tensor(static_cast<typename Tensor::Index>(extents)...);
  return fill(tensor, seed);
}

template <class S>
std::vector<S> random_vector(std::uint64_t seed, std::ptrdiff_t count) {
  std::vector<S> all(static_cast<std::size_t>(count));
  return fill(all, seed);
}
