// SPDX-License-Identifier: MIT
#include "bench.hpp"

#include <unsupported/Eigen/CXX11/Tensor>  // half, bfloat16

#include <algorithm>
#include <array>
#include <cstdlib>  // free
#include <cstring>  // memcpy
#include <memory>
#include <new>
#include <random>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bench {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;

struct slot_memory {
  std::unique_ptr<std::byte[], void (*)(void*)> data{nullptr, std::free};
  std::size_t size = 0;
};

std::byte* memory(int slot, std::size_t bytes) {
  static std::array<slot_memory, 4> slots;
  slot_memory& one = slots.at(static_cast<std::size_t>(slot));
  if (one.size < bytes) {
    one.size = (bytes + huge_page - 1) / huge_page * huge_page;
    one.data.reset();
    one.data.reset(static_cast<std::byte*>(std::aligned_alloc(huge_page, one.size)));
    if (!one.data) throw std::bad_alloc();
#if defined(__linux__)
    madvise(one.data.get(), one.size, MADV_HUGEPAGE);
#endif
  }
  return one.data.get();
}

}  // namespace

template <class S>
S* buffer(int slot, index_t count) {
  static const auto pattern = [] {
    std::array<S, 4099> values;  // a prime, so that no two rows are alike
    std::mt19937 random(1);
    std::uniform_real_distribution<double> magnitude(0.5, 1.0);
    for (S& value : values) value = static_cast<S>(random() & 1 ? magnitude(random) : -magnitude(random));
    return values;
  }();
  std::byte* const bytes = memory(slot, static_cast<std::size_t>(count) * sizeof(S));
  const auto all = static_cast<std::size_t>(count);
  for (std::size_t at = 0; at < all; at += pattern.size())
    std::memcpy(bytes + at * sizeof(S), pattern.data(), std::min(pattern.size(), all - at) * sizeof(S));
  return reinterpret_cast<S*>(bytes);
}
template float* buffer<float>(int, index_t);
template double* buffer<double>(int, index_t);
template Eigen::half* buffer<Eigen::half>(int, index_t);
template Eigen::bfloat16* buffer<Eigen::bfloat16>(int, index_t);

std::string shape_text(std::initializer_list<index_t> extents) {
  std::string all;
  for (const index_t extent : extents) all += (all.empty() ? "[" : ", ") + std::to_string(extent);
  return all + "]";
}

}  // namespace bench
