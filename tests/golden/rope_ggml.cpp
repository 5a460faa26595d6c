// SPDX-License-Identifier: MIT
/// \file  ggml's cosines and sines, which form frequencies by repeated multiplication in float: off by 0.04 at a million positions.
#include <posenc/rope/rotary_table.hpp>
#include <posenc/rope/schedule.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "golden/tables.hpp"

#include <cmath>
#include <cstdint>
#include <string>

namespace {

using namespace posenc;
using golden::absolute, golden::load, golden::table_bound;

TEMPLATE_TEST_CASE("ggml's tables", "[golden][rope_ggml][schedule]", float, double) {
  struct golden_case {
    std::string folder;
    index_t dim;
    double base;
    frequency_schedule rule;
    double widening;                      ///< the next power of two from the attention factor
    double error_of_cosines, error_of_sines;  ///< of ggml
  };
  for (const auto& c :
       {golden_case{"rope_ggml/plain_d128_5e5/", 128, 500000, schedule::unscaled{}, 1, 3.91e-2, 4.43e-2},
        golden_case{"rope_ggml/yarn_x4/", 64, 10000, schedule::yarn{.factor = 4, .original_length = 4096}, 2, 3.11e-4, 2.34e-4}}) {
    INFO(c.folder);
    const auto series = scheduled_series(c.rule, "test", c.dim, c.base, 1);
    CHECK(std::abs(series.attention_factor - load<double>(c.folder + "mscale").values.at(0)) <= 4.5e-16);
    const auto ids = load<std::int64_t>(c.folder + "positions");
    const rotary_table<TestType> table("test", frequencies::from_radians("test", series.radians), positions::ids(golden::view<1>(ids)),
                                       series.attention_factor);
    const double bound = c.widening * table_bound<TestType>;
    CHECK(absolute(golden::cosines(table), load<double>(c.folder + "cos_f64")) <= bound);
    CHECK(absolute(golden::sines(table), load<double>(c.folder + "sin_f64")) <= bound);
    CHECK(absolute(golden::cosines(table), load<float>(c.folder + "cos")) <= bound + c.error_of_cosines);
    CHECK(absolute(golden::sines(table), load<float>(c.folder + "sin")) <= bound + c.error_of_sines);
  }
}

}  // namespace
