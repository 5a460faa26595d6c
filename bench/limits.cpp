// SPDX-License-Identifier: MIT
// Vector extensions in functions with a target of their own, so that no flag is needed; four vectors per turn of a loop.
#include "limits.hpp"

#include <posenc/kernels/instruction_set.hpp>

#include <cstdint>
#include <cstring>  // memcpy

#if defined(__x86_64__)
#include <immintrin.h>  // stores past the caches
#endif

namespace bench::limits {
namespace {

// Keeps a loop what it is: the compiler would make calls of memset and memcpy of some.
inline __attribute__((always_inline)) void not_a_library_call() { asm volatile("" ::: "memory"); }

#define BENCH_LIMITS(SET, TARGET, BYTES)                                                     \
  namespace SET {                                                                            \
  typedef std::uint32_t words __attribute__((vector_size(BYTES), may_alias));                \
  typedef float floats __attribute__((vector_size(BYTES), may_alias));                       \
  TARGET void flip(void* data, std::size_t count) {                                          \
    auto* v = static_cast<words*>(data);                                                     \
    for (const auto* end = v + count / BYTES; v != end; v += 4) {                            \
      v[0] ^= 0x80000000u, v[1] ^= 0x80000000u, v[2] ^= 0x80000000u, v[3] ^= 0x80000000u;    \
    }                                                                                        \
  }                                                                                          \
  [[maybe_unused]] TARGET void add(float* data, const float* other, std::size_t count) {     \
    auto* v = reinterpret_cast<floats*>(data);                                               \
    const auto* w = reinterpret_cast<const floats*>(other);                                  \
    for (const auto* end = v + count / BYTES; v != end; v += 4, w += 4) {                    \
      v[0] += w[0], v[1] += w[1], v[2] += w[2], v[3] += w[3];                                \
    }                                                                                        \
  }                                                                                          \
  TARGET void read(const void* data, std::size_t count) {                                    \
    const auto* v = static_cast<const words*>(data);                                         \
    words a = {}, b = {}, c = {}, d = {};                                                    \
    for (const auto* end = v + count / BYTES; v != end; v += 4) {                            \
      a ^= v[0], b ^= v[1], c ^= v[2], d ^= v[3];                                            \
    }                                                                                        \
    a ^= b ^ c ^ d;                                                                          \
    asm volatile("" ::"m"(a)); /* so that it is used */                                      \
  }                                                                                          \
  TARGET void fill(void* data, std::size_t count) {                                          \
    auto* v = static_cast<words*>(data);                                                     \
    const words one = words{} + 0x3f800001u;                                                 \
    for (const auto* end = v + count / BYTES; v != end; v += 4) {                            \
      v[0] = one, v[1] = one, v[2] = one, v[3] = one;                                        \
      not_a_library_call();                                                                  \
    }                                                                                        \
  }                                                                                          \
  [[maybe_unused]] TARGET void copy(void* to, const void* from, std::size_t count) {         \
    auto* v = static_cast<words*>(to);                                                       \
    const auto* w = static_cast<const words*>(from);                                         \
    for (const auto* end = v + count / BYTES; v != end; v += 4, w += 4) {                    \
      const words a = w[0], b = w[1], c = w[2], d = w[3];                                    \
      not_a_library_call();                                                                  \
      v[0] = a, v[1] = b, v[2] = c, v[3] = d;                                                \
    }                                                                                        \
  }                                                                                          \
  }

BENCH_LIMITS(baseline, , 16)
#if defined(__x86_64__)
BENCH_LIMITS(avx2, __attribute__((target("avx2"))), 32)
BENCH_LIMITS(avx512, __attribute__((target("avx512f"))), 64)
#else
namespace avx2 = baseline;
namespace avx512 = baseline;
#endif

template <class Function>
Function* choose(Function* baseline, Function* avx2, Function* avx512) {
  switch (posenc::current_instruction_set()) {
    case posenc::instruction_set::avx512_bf16:
    case posenc::instruction_set::avx512: return avx512;
    case posenc::instruction_set::avx2: return avx2;
    default: return baseline;
  }
}

}  // namespace

void flip(void* data, std::size_t count) { choose(baseline::flip, avx2::flip, avx512::flip)(data, count); }
void read(const void* data, std::size_t count) { choose(baseline::read, avx2::read, avx512::read)(data, count); }
void fill(void* data, std::size_t count) { choose(baseline::fill, avx2::fill, avx512::fill)(data, count); }

// Two streams in, or one in and another out: 32-byte vectors are as fast in the caches, and faster in memory.
void add(float* data, const float* other, std::size_t count) { choose(baseline::add, avx2::add, avx2::add)(data, other, count); }
void copy(void* to, const void* from, std::size_t count) { choose(baseline::copy, avx2::copy, avx2::copy)(to, from, count); }
void copy_narrow(void* to, const void* from, std::size_t count) { baseline::copy(to, from, count); }

void copy_past_caches(void* to, const void* from, std::size_t count) {
#if defined(__x86_64__)  // 16 bytes each: the width makes no difference here
  auto* v = static_cast<__m128i*>(to);
  const auto* w = static_cast<const __m128i*>(from);
  for (const auto* end = v + count / 16; v != end; v += 4, w += 4)
    for (int i = 0; i < 4; ++i) _mm_stream_si128(v + i, _mm_load_si128(w + i));
  _mm_sfence();
#else
  copy(to, from, count);
#endif
}

}  // namespace bench::limits
