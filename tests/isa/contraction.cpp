// SPDX-License-Identifier: MIT
/// \file  Our headers switch contraction off for themselves and leave it to the user as it was.

// Where the default contracts (GCC, clang from 14 on, both when optimizing), both functions fuse; where a flag forbids it, neither does.
#if defined(__x86_64__) && defined(__GNUC__)
namespace {
__attribute__((target("fma"), noinline)) double before_the_headers(double a, double b, double c) { return a * b + c; }
}  // namespace

#include <posenc/posenc.hpp>

namespace {
__attribute__((target("fma"), noinline)) double after_the_headers(double a, double b, double c) { return a * b + c; }
template <class S>
__attribute__((target("fma"), noinline)) S template_after_the_headers(S a, S b, S c) {
  return a * b + c;
}
}  // namespace

#include "catch.hpp"

TEST_CASE("a user's own products and sums contract after our headers as before them", "[isa]") {
  if (!__builtin_cpu_supports("fma")) return;
  // (1 + e)(1 - e) - 1 is -e^2, and nothing where the product is rounded first.
  volatile double tiny = 0x1p-30;
  const double a = 1 + tiny, b = 1 - tiny;
  const double before = before_the_headers(a, b, -1);
  CHECK((before == -0x1p-60 || before == 0));
#if defined(__OPTIMIZE__) && !defined(__FAST_MATH__)
  if (before == 0) WARN("this compiler does not contract here, so the test shows nothing");
#endif
  CHECK(after_the_headers(a, b, -1) == before);
  CHECK(template_after_the_headers(a, b, -1.0) == before);
}
#endif
