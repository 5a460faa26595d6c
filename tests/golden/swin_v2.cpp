// SPDX-License-Identifier: MIT
/// \file  Continuous position bias as Swin v2's code and timm's make it.
#include <posenc/relative/continuous_position_bias.hpp>

#include <posenc/grid.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::load, golden::npy, golden::row_major;

template <class S>
continuous_position_bias<S> golden_encoder() {
  random_source random(1);
  continuous_position_bias<S> encoder({.window = {4, 4}, .heads = 3, .mode = continuous_bias_mode::swin, .hidden = 512}, random);
  for (const auto& one : encoder.parameters()) {
    const auto values = load<float>("relative/swin_v2_cpb/" + std::string(one.name == "cpb_mlp.0.weight" ? "mlp_w1"
                                                                          : one.name == "cpb_mlp.0.bias" ? "mlp_b1"
                                                                                                         : "mlp_w2"));
    REQUIRE(values.shape == one.shape);
    std::ranges::transform(values.values, one.values.begin(), [](float value) { return static_cast<S>(value); });
  }
  return encoder;
}

attention_positions window() {
  const auto cells = grid_positions({.extents = {4, 4}, .order = grid_order::slowest_first});
  return {cells, cells};
}

}  // namespace

TEST_CASE("continuous_position_bias has the coordinates of Swin v2 and timm", "[golden][continuous_position_bias]") {
  random_source random(1);
  const auto of = [&](continuous_bias_mode mode) {
    return continuous_position_bias<double>({.window = {4, 4}, .heads = 1, .mode = mode, .hidden = 1}, random).coordinates();
  };
  const auto check = [](const std::string& name, const std::vector<double>& got, double reference_error) {
    const auto truth = load<double>(name + "_f64");
    CHECK(absolute(npy<double>{truth.shape, got}, truth) <= 1e-15);
    CHECK(absolute(npy<double>{truth.shape, got}, load<float>(name)) <= reference_error);
  };
  check("relative/swin_v2_cpb/coords_table", of(continuous_bias_mode::swin), 3.1e-8);
  check("relative/timm_index_cls_and_cr_coords/log_coords_cr", of(continuous_bias_mode::cr), 2e-8);
}

TEMPLATE_TEST_CASE("continuous_position_bias is that of Swin v2's code", "[golden][continuous_position_bias]", float, double) {
  const auto truth = load<double>("relative/swin_v2_cpb/bias_f64");
  auto bias = npy<TestType>::filled({1, 3, 16, 16}, 0);
  golden_encoder<TestType>().bias(row_major<4>(bias), window());
  const double own = std::same_as<TestType, float> ? 1.5e-5 : 2e-14;
  CHECK(absolute(bias, truth) <= own);
  CHECK(absolute(bias, load<float>("relative/swin_v2_cpb/bias")) <= own + 3.8e-6);
}

TEST_CASE("continuous_position_bias looks differences up as Swin v2's code does", "[golden][continuous_position_bias]") {
  const auto index = load<std::int64_t>("relative/swin_v2_cpb/index");
  const auto encoder = golden_encoder<double>();
  const auto table = encoder.prepare(window());
  index_t wrong = 0;
  for (index_t h = 0; h < 3; ++h)
    for (index_t n = 0; n < 256; ++n)
      wrong += table->pairs[static_cast<std::size_t>(h * 256 + n)] !=
               table->values[static_cast<std::size_t>(h * 49 + 48 - index.values[static_cast<std::size_t>(n)])];
  CHECK(wrong == 0);
}
