// SPDX-License-Identifier: MIT
#include <posenc/kernels/instruction_set.hpp>

#include <posenc/kernels/dispatch.hpp>

#include "catch.hpp"

#include <algorithm>
#include <string>

using namespace posenc;

namespace {

constexpr instruction_set sets[] = {instruction_set::baseline, instruction_set::avx2, instruction_set::avx512,
                                    instruction_set::avx512_bf16};

/// Puts back what was in use: other tests may have been started with one pinned.
struct restored {
  instruction_set kept = current_instruction_set();
  restored() = default;
  restored(const restored&) = delete;
  restored& operator=(const restored&) = delete;
  ~restored() { pin_instruction_set(kept); }
};

int first() { return 1; }
int second() { return 2; }
int third() { return 3; }
int fourth() { return 4; }

}  // namespace

TEST_CASE("instruction sets have names", "[instruction_set]") {
  static_assert(name(instruction_set::baseline) == "baseline" && name(instruction_set::avx2) == "avx2" &&
                name(instruction_set::avx512) == "avx512" && name(instruction_set::avx512_bf16) == "avx512_bf16");
  static_assert(name(instruction_set{4}) == "unknown");
}

TEST_CASE("the set in use is one that the processor has", "[instruction_set]") {
  CHECK(has(current_instruction_set()));
  CHECK(has(best_instruction_set()));
  CHECK(has(instruction_set::baseline));
}

TEST_CASE("the set that rounds in its own way is never the best", "[instruction_set]") {
  CHECK(best_instruction_set() != instruction_set::avx512_bf16);
  CHECK((!has(instruction_set::avx512_bf16) || best_instruction_set() == instruction_set::avx512));
}

TEST_CASE("a set can be pinned where the processor has it", "[instruction_set]") {
  const restored after;
  for (const auto set : sets) {
    if (has(set)) {
      pin_instruction_set(set);
      CHECK(current_instruction_set() == set);
    } else {
      const auto before = current_instruction_set();
      CHECK_THROWS_WITH(pin_instruction_set(set), "[instruction_set] the processor must have what is asked for but got " +
                                                      std::string(name(set)) + " and " + std::string(name(detail::last_instruction_set())));
      CHECK(current_instruction_set() == before);
    }
  }
}

TEST_CASE("no processor has an unknown set", "[instruction_set]") {
  const auto before = current_instruction_set();
  for (const auto none : {instruction_set{4}, instruction_set{-1}}) {
    CHECK_FALSE(has(none));
    CHECK_THROWS_AS(pin_instruction_set(none), argument_error);
  }
  CHECK(current_instruction_set() == before);
}

TEST_CASE("dispatch picks the function of the set in use", "[instruction_set]") {
  const restored after;
  for (const auto set : sets)
    if (has(set)) {
      pin_instruction_set(set);
      CHECK(kernels::dispatch(first, second, third, fourth)() == 1 + static_cast<int>(set));
      CHECK(kernels::dispatch(first, second, third)() == std::min(1 + static_cast<int>(set), 3));
    }
}
