// SPDX-License-Identifier: MIT
/// \file  Which instruction set the kernels run with. Chosen at run time, once per bulk call, so that a program built with plain -O2
/// gets the full speed of the machine it runs on. Every set that is chosen unasked gives the same bits.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require

#include <atomic>
#include <cstdlib>  // getenv
#include <initializer_list>
#include <string>
#include <string_view>

#if defined(__x86_64__) && !POSENC_PLAIN_LOOPS
#include <cpuid.h>
#endif

namespace POSENC_NAMESPACE {

/// baseline: what the compiler was asked for (SSE2 on x86-64, NEON on aarch64, plain loops elsewhere).
/// avx2: with FMA, F16C and BMI2. avx512: F, VL, BW and DQ.
/// avx512_bf16: the same, and bfloat16 rounded by the processor's own instruction: about twice as fast in caches. That instruction takes
/// subnormal numbers for zeros and makes zeros of them, so the bits are those of the others only where there are none: it is never chosen
/// unasked.
enum class instruction_set { baseline, avx2, avx512, avx512_bf16 };

constexpr std::string_view name(instruction_set set) noexcept {
  switch (set) {
    case instruction_set::baseline: return "baseline";
    case instruction_set::avx2: return "avx2";
    case instruction_set::avx512: return "avx512";
    case instruction_set::avx512_bf16: return "avx512_bf16";
  }
  return "unknown";
}

namespace detail {
inline instruction_set last_instruction_set() noexcept {  // what the processor has, asked for or not
#if defined(__x86_64__) && !POSENC_PLAIN_LOOPS
  static const instruction_set last = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1u);  // clang 14 does not know the name
    __builtin_cpu_init();
    if (!f16c || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2"))
      return instruction_set::baseline;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq"))
      return instruction_set::avx2;
    const bool bf16 = __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1u);
    return bf16 ? instruction_set::avx512_bf16 : instruction_set::avx512;
  }();
  return last;
#else
  return instruction_set::baseline;
#endif
}
}  // namespace detail

/// Whether this processor has it.
inline bool has(instruction_set set) noexcept { return set >= instruction_set::baseline && set <= detail::last_instruction_set(); }

/// The best one that this processor has and that keeps the promise of the same bits.
inline instruction_set best_instruction_set() noexcept {
  return has(instruction_set::avx512) ? instruction_set::avx512 : detail::last_instruction_set();
}

namespace detail {
inline instruction_set checked(instruction_set set) {
  require(has(set), "instruction_set", "the processor must have what is asked for", name(set), name(last_instruction_set()));
  return set;
}
inline std::atomic<instruction_set>& chosen_instruction_set() {
  static std::atomic<instruction_set> chosen = [] {
    const char* wanted = std::getenv("POSENC_ISA");
    if (!wanted || !*wanted) return best_instruction_set();
    for (const auto set : {instruction_set::baseline, instruction_set::avx2, instruction_set::avx512, instruction_set::avx512_bf16})
      if (name(set) == wanted) return checked(set);
    detail::fail("[instruction_set] POSENC_ISA must be baseline, avx2, avx512 or avx512_bf16 but got " + std::string(wanted));
  }();
  return chosen;
}
}  // namespace detail

/// The one in use: the environment variable POSENC_ISA, which holds the name of one, at the first call, else the best.
/// \throws argument_error  when POSENC_ISA names none, or one that the processor lacks.
inline instruction_set current_instruction_set() { return detail::chosen_instruction_set().load(std::memory_order_relaxed); }

/// Pins the one in use, for tests, benchmarks and reproducibility; for the whole program, from any thread.
/// \throws argument_error  when the processor lacks it.
inline void pin_instruction_set(instruction_set set) {
  detail::chosen_instruction_set().store(detail::checked(set), std::memory_order_relaxed);
}

}  // namespace POSENC_NAMESPACE
