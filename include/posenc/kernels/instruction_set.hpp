// SPDX-License-Identifier: MIT
/// \file  Which instruction set the kernels run with. Chosen at run time, once per bulk call, so that a program built with plain -O2
/// gets the full speed of the machine it runs on. Every set gives the same bits.
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
enum class instruction_set { baseline, avx2, avx512 };

constexpr std::string_view name(instruction_set set) noexcept {
  return set == instruction_set::avx512 ? "avx512" : set == instruction_set::avx2 ? "avx2" : "baseline";
}

/// The best one that this processor has.
inline instruction_set best_instruction_set() noexcept {
#if defined(__x86_64__) && !POSENC_PLAIN_LOOPS
  static const instruction_set best = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1u);  // clang 14 does not know the name
    __builtin_cpu_init();
    if (!f16c || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2"))
      return instruction_set::baseline;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq"))
      return instruction_set::avx2;
    return instruction_set::avx512;
  }();
  return best;
#else
  return instruction_set::baseline;
#endif
}

namespace detail {
inline instruction_set checked(instruction_set set) {
  require(set <= best_instruction_set(), "instruction_set", "the processor must have what is asked for", name(set),
          name(best_instruction_set()));
  return set;
}
inline std::atomic<instruction_set>& chosen_instruction_set() {
  static std::atomic<instruction_set> chosen = [] {
    const char* wanted = std::getenv("POSENC_ISA");
    if (!wanted || !*wanted) return best_instruction_set();
    for (const auto set : {instruction_set::baseline, instruction_set::avx2, instruction_set::avx512})
      if (name(set) == wanted) return checked(set);
    detail::fail("[instruction_set] POSENC_ISA must be baseline, avx2 or avx512 but got " + std::string(wanted));
  }();
  return chosen;
}
}  // namespace detail

/// The one in use: the environment variable POSENC_ISA (baseline, avx2, avx512) at the first call, else the best.
/// \throws argument_error  when POSENC_ISA names none, or one that the processor lacks.
inline instruction_set current_instruction_set() { return detail::chosen_instruction_set().load(std::memory_order_relaxed); }

/// Pins the one in use, for tests, benchmarks and reproducibility; for the whole program, from any thread.
/// \throws argument_error  when the processor lacks it.
inline void pin_instruction_set(instruction_set set) { detail::chosen_instruction_set().store(detail::checked(set), std::memory_order_relaxed); }

}  // namespace POSENC_NAMESPACE
