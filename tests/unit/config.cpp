// SPDX-License-Identifier: MIT
#define POSENC_ASSERT(condition) own_assert(condition)
#define POSENC_PLAIN_LOOPS 1
#include <posenc/config.hpp>

#include "catch.hpp"

#include <string>

// Only this header is included: with two choices of one's own, all others would differ from what the rest of this program has.
namespace {

int asserted = 0;
void own_assert(bool condition) { asserted += condition; }

#define TEXT_OF(...) #__VA_ARGS__
#define TEXT(...) TEXT_OF(__VA_ARGS__)

}  // namespace

TEST_CASE("the namespace carries the version", "[config]") {
  static_assert(POSENC_VERSION > 0);
  const std::string major = std::to_string(POSENC_VERSION / 10000), minor = std::to_string(POSENC_VERSION / 100 % 100);
  CHECK(TEXT(POSENC_NAMESPACE) == "posenc::inline v" + major + "_" + minor);
}

TEST_CASE("what is defined before inclusion stays", "[config]") {
  POSENC_ASSERT(true);
  CHECK(asserted == 1);
  CHECK(POSENC_PLAIN_LOOPS == 1);
}
