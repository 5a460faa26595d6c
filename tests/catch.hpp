// SPDX-License-Identifier: MIT
/// \file  Catch2, whichever major version is installed. Tests keep to what both offer: TEST_CASE, SECTION, TEMPLATE_TEST_CASE, GENERATE,
/// REQUIRE_THROWS_AS, REQUIRE_THROWS_WITH and the matchers WithinAbs, WithinRel, WithinULP, Equals, StartsWith, EndsWith. Not Approx and
/// not Contains, which changed between the two.
#pragma once

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#else
#include <catch2/catch.hpp>
#endif
