// SPDX-License-Identifier: MIT
/// \file  POSENC_ISA, which is read once: so what it does to a first call is tried out before main(), and before any other call.
#include <posenc/error.hpp>
#include <posenc/kernels/instruction_set.hpp>

#include "catch.hpp"

#include <cstdlib>
#include <string>

namespace {

std::string wanted() {
  const char* text = std::getenv("POSENC_ISA");
  return text ? text : "";
}

#if !defined(_WIN32)
/// The error of a first call under that name. It leaves no choice behind, so that the next call is a first one too.
std::string error_of(const char* name) {
  const std::string before = wanted();
  setenv("POSENC_ISA", name, 1);
  std::string text = "nothing thrown";
  try {
    posenc::current_instruction_set();
  } catch (const posenc::argument_error& error) {
    text = error.what();
  }
  setenv("POSENC_ISA", before.c_str(), 1);  // empty is as good as not set
  return text;
}
const std::string nonsense = error_of("nonsense"), almost = error_of("AVX2"), shortened = error_of("avx");
#endif

}  // namespace

#if !defined(_WIN32)
TEST_CASE("POSENC_ISA must name an instruction set", "[isa]") {
  CHECK(nonsense == "[instruction_set] POSENC_ISA must be baseline, avx2, avx512 or avx512_bf16 but got nonsense");
  CHECK(almost == "[instruction_set] POSENC_ISA must be baseline, avx2, avx512 or avx512_bf16 but got AVX2");
  CHECK(shortened == "[instruction_set] POSENC_ISA must be baseline, avx2, avx512 or avx512_bf16 but got avx");
}
#endif

TEST_CASE("POSENC_ISA chooses the instruction set, or else the best one is in use", "[isa]") {
  const auto set = posenc::current_instruction_set();
  CHECK(std::string(name(set)) == (wanted().empty() ? std::string(name(posenc::best_instruction_set())) : wanted()));
}
