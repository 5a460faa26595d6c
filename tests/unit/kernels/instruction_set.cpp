// SPDX-License-Identifier: MIT
#include <posenc/kernels/instruction_set.hpp>

#include <posenc/kernels/dispatch.hpp>

#include "catch.hpp"

#include <string>

using namespace posenc;

namespace {

constexpr instruction_set sets[] = {instruction_set::baseline, instruction_set::avx2, instruction_set::avx512};

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

}  // namespace

TEST_CASE("instruction sets have names", "[instruction_set]") {
  static_assert(name(instruction_set::baseline) == "baseline" && name(instruction_set::avx2) == "avx2" &&
                name(instruction_set::avx512) == "avx512");
}

TEST_CASE("the set in use is one that the processor has", "[instruction_set]") {
  CHECK(current_instruction_set() <= best_instruction_set());
}

TEST_CASE("a set can be pinned where the processor has it", "[instruction_set]") {
  const restored after;
  for (const auto set : sets) {
    if (set <= best_instruction_set()) {
      pin_instruction_set(set);
      CHECK(current_instruction_set() == set);
    } else {
      const auto before = current_instruction_set();
      CHECK_THROWS_WITH(pin_instruction_set(set), "[instruction_set] the processor must have what is asked for but got " +
                                                      std::string(name(set)) + " and " + std::string(name(best_instruction_set())));
      CHECK(current_instruction_set() == before);
    }
  }
}

TEST_CASE("no processor has an unknown set", "[instruction_set]") {
  const auto before = current_instruction_set();
  CHECK_THROWS_AS(pin_instruction_set(instruction_set{3}), argument_error);
  CHECK(current_instruction_set() == before);
}

TEST_CASE("dispatch picks the function of the set in use", "[instruction_set]") {
  const restored after;
  for (const auto set : sets)
    if (set <= best_instruction_set()) {
      pin_instruction_set(set);
      CHECK(kernels::dispatch(first, second, third)() == 1 + static_cast<int>(set));
    }
}
