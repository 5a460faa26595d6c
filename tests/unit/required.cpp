// SPDX-License-Identifier: MIT
#include <posenc/required.hpp>

#include "catch.hpp"

using namespace posenc;

TEST_CASE("a required option is its value", "[required]") {
  enum class side { left, right };
  struct options {
    required<int> dim;
    required<side> from;
  };
  constexpr options chosen{.dim = 3, .from = side::right};
  static_assert(chosen.dim == 3 && chosen.from == side::right);
  options changed = chosen;
  changed.dim = 4;
  CHECK(changed.dim + 1 == 5);
}
