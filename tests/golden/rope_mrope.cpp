// SPDX-License-Identifier: MIT
/// \file  Multimodal RoPE of Qwen2-VL (chunked) and Qwen3-VL (interleaved).
#include <posenc/rope/multimodal_rope.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "golden/tables.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::converted, golden::load, golden::npy, golden::relative, golden::rotation_bound, golden::row_major;
using golden::table_bound, golden::view;

struct golden_case {
  std::string folder;
  multimodal_rope_options options;
  double q_error, k_error;  ///< of the system
};
const std::vector<golden_case> cases{
    {"rope_mrope/qwen2vl_sections/",
     {.sections = {8, 12, 12}, .arrangement = multimodal_arrangement::chunked, .base = 1e6},
     7.58e-7,
     7.36e-7},
    {"rope_mrope/qwen3vl_interleaved/",
     {.sections = {12, 10, 10}, .arrangement = multimodal_arrangement::interleaved, .base = 5e6},
     5.68e-7,
     6.59e-7},
};

TEMPLATE_TEST_CASE("multimodal_rope turns as Qwen's models do", "[golden][rope_mrope][multimodal_rope]", float, double) {
  for (const auto& c : cases) {
    INFO(c.folder);
    const multimodal_rope<TestType> encoder({.pairing = pairing::halves, .dim = 64}, c.options);
    const auto at = positions::multi_axis(view<3>(load<std::int64_t>(c.folder + "position_ids")));
    const auto tables = prepare(encoder, {.queries = at, .keys = at});
    auto q = converted<TestType>(load<float>(c.folder + "q")), k = converted<TestType>(load<float>(c.folder + "k"));
    const double q_bound = rotation_bound(q), k_bound = rotation_bound(k);
    encode_queries_keys(encoder, heads(row_major<4>(q), axis_order::head_time), heads(row_major<4>(k), axis_order::head_time), tables);
    CHECK(absolute(q, load<double>(c.folder + "q_out_f64")) <= q_bound);
    CHECK(absolute(k, load<double>(c.folder + "k_out_f64")) <= k_bound);
    CHECK(absolute(q, load<float>(c.folder + "q_out")) <= q_bound + c.q_error);
    CHECK(absolute(k, load<float>(c.folder + "k_out")) <= k_bound + c.k_error);
  }
}

TEMPLATE_TEST_CASE("Qwen3-VL's cosines and sines", "[golden][rope_mrope][multimodal_rope]", float, double) {
  const auto& c = cases[1];
  const multimodal_rope<TestType> encoder({.pairing = pairing::halves, .dim = 64}, c.options);
  const auto table = encoder.prepare(positions::multi_axis(view<3>(load<std::int64_t>(c.folder + "position_ids"))));
  const auto check = [&](const npy<TestType>& half, const std::string& name, double error) {
    auto whole = npy<TestType>::filled({1, 19, 64}, 0);
    for (std::size_t n = 0; n < whole.values.size(); ++n) whole.values[n] = half.values[n / 64 * 32 + n % 32];
    CHECK(absolute(whole, load<double>(c.folder + name + "_f64")) <= table_bound<TestType>);
    CHECK(absolute(whole, load<float>(c.folder + name)) <= table_bound<TestType> + error);
  };
  check(golden::cosines(table), "cos", 3.07e-7);
  check(golden::sines(table), "sin", 1.64e-7);
}

}  // namespace
