// SPDX-License-Identifier: MIT
/// \file  Numbers to test with: the same on every compiler and processor, which the standard's distributions do not promise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

/// A stream of random numbers: splitmix64 (Steele, Lea, Flood 2014).
class random_numbers {
 public:
  explicit constexpr random_numbers(std::uint64_t seed) : state_(seed) {}

  constexpr std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
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

 private:
  std::uint64_t state_;
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
