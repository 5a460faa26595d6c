// SPDX-License-Identifier: MIT
/// \file  RoPE's frequencies, against the truth and against a system that forms them in float.
#include <posenc/rope.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "golden/tables.hpp"

#include <string>

namespace {

using namespace posenc;
using golden::absolute, golden::load, golden::relative;

TEMPLATE_TEST_CASE("rope's frequencies are the nearest doubles to base^(-2k/dim)", "[golden][rope_inv_freq][rope]", float, double) {
  struct golden_case {
    std::string folder;
    index_t dim;
    double base;
    double reference_error;  ///< relative, of a system that forms them in float
  };
  for (const auto& c : {golden_case{"rope_inv_freq/default_d128_1e4/", 128, 10000, 6.98e-8},
                        golden_case{"rope_inv_freq/default_d64_5e5/", 64, 500000, 8.24e-8}}) {
    INFO(c.folder);
    const rope<TestType> encoder({.pairing = pairing::halves, .dim = c.dim}, {.base = c.base});
    const auto speeds = golden::radians(encoder.inspect().frequencies);
    CHECK(absolute(speeds, load<double>(c.folder + "inv_freq_f64")) <= 0);
    CHECK(relative(speeds, load<float>(c.folder + "inv_freq")) <= c.reference_error);
    CHECK(encoder.inspect().attention_factor == load<double>(c.folder + "attention_factor").values.at(0));
  }
}

}  // namespace
