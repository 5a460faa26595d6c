// SPDX-License-Identifier: MIT
#include <posenc/relative/dynamic_position_bias.hpp>

#include <posenc/alibi.hpp>
#include <posenc/relative/proximal_bias.hpp>

#include "catch.hpp"
#include "reference/mlp.hpp"
#include "reference/refuses.hpp"
#include "reference/relative_bias.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using options_type = dynamic_position_bias_options;

template <class E>
double formula(const E& encoder, index_t head, position query, position key) {
  const options_type& options = encoder.options();
  const auto steps = static_cast<long double>(query - key);
  const long double x = options.log_distance ? (steps < 0 ? -1 : 1) * std::log(1 + std::fabs(steps)) : steps;
  return static_cast<double>(reference::mlp(encoder.network().values(), static_cast<std::size_t>(options.depth), options.layer_norm,
                                            options.activation, {x})[static_cast<std::size_t>(head)]);
}

/// -slope |input| per head, from max(input, 0) + max(-input, 0).
dynamic_position_bias<double> absolute(std::vector<double> slopes, bool log_distance) {
  random_source random(1);
  dynamic_position_bias<double> encoder({.heads = static_cast<index_t>(slopes.size()),
                                         .dim = 2,
                                         .depth = 1,
                                         .log_distance = log_distance,
                                         .activation = mlp_activation::relu},
                                        random);
  const auto all = encoder.parameters();
  for (const auto& one : all) std::ranges::fill(one.values, 0.0);
  all[0].values[0] = 1, all[0].values[1] = -1;
  for (std::size_t h = 0; h < slopes.size(); ++h) all[2].values[2 * h] = all[2].values[2 * h + 1] = -slopes[h];
  return encoder;
}

}  // namespace

TEST_CASE("dynamic_position_bias is its formula, everywhere the same", "[dynamic_position_bias]") {
  random_source random(3);
  const auto check = [&]<class S>(S, const options_type& options, double tolerance) {
    const dynamic_position_bias<S> encoder(options, random);
    reference::check_bias<S>(encoder, tolerance, [&](index_t h, position i, position j) { return formula(encoder, h, i, j); });
  };
  check(0.0, {.heads = 2, .dim = 9}, 1e-13);
  check(0.0, {.heads = 2, .dim = 16, .depth = 3, .log_distance = true, .layer_norm = true}, 1e-13);
  check(0.0f, {.heads = 3, .dim = 5, .depth = 1, .log_distance = true, .activation = mlp_activation::relu}, 3e-6);
}

TEST_CASE("dynamic_position_bias counts the query's position minus the key's", "[dynamic_position_bias]") {
  auto encoder = absolute({1, 0.5}, false);
  encoder.parameters()[0].values[1] = 0;
  CHECK(encoder.value(0, 9, 2) == -7);
  CHECK(encoder.value(1, 9, 2) == -3.5);
  CHECK(encoder.value(0, 2, 9) == 0);
}

TEST_CASE("dynamic_position_bias can be alibi or the proximal bias", "[dynamic_position_bias]") {
  const std::vector<double> slopes{0.5, 0.0625}, ones{1};
  const alibi<double> linear(slopes, alibi_form::symmetric);
  for (const position key : {-50, 0, 3, 1000000}) {
    CHECK(absolute(slopes, false).value(1, 3, key) == linear.value(1, 3, key));
    CHECK(absolute(ones, true).value(0, 3, key) == proximal_bias<double>(1).value(0, 3, key));
  }
}

TEST_CASE("dynamic_position_bias has exact gradients", "[dynamic_position_bias]") {
  random_source random(8);
  reference::check_bias_gradient(dynamic_position_bias<double>({.heads = 2, .dim = 3, .log_distance = true}, random), 1e-6);
  reference::check_bias_gradient(
      dynamic_position_bias<double>({.heads = 2, .dim = 4, .depth = 1, .log_distance = true, .layer_norm = true}, random), 1e-6);
  reference::check_bias_gradient(dynamic_position_bias<double>({.heads = 2, .dim = 2}, random), 1e-5, 300);
}

TEST_CASE("dynamic_position_bias names its parameters as x-transformers does, and compares them", "[dynamic_position_bias]") {
  random_source random(1), again(1);
  const options_type options{.heads = 4, .dim = 6, .layer_norm = true};
  dynamic_position_bias<float> encoder(options, random);
  std::string names;
  for (const auto& one : encoder.parameters()) (names += one.name) += " ";
  CHECK(names ==
        "mlp.0.0.weight mlp.0.0.bias mlp.0.1.weight mlp.0.1.bias mlp.1.0.weight mlp.1.0.bias mlp.1.1.weight mlp.1.1.bias mlp.2.weight "
        "mlp.2.bias ");
  CHECK(encoder == dynamic_position_bias<float>(options, again));
  auto other = encoder;
  other.parameters()[9].values[3] += 1;
  CHECK_FALSE(other == encoder);
}

TEST_CASE("dynamic_position_bias refuses options that make no sense", "[dynamic_position_bias]") {
  random_source random(1);
  const auto made = [&](const options_type& options) { dynamic_position_bias<float> encoder(options, random); };
  reference::refuses("[dynamic_position_bias] heads must be positive but got 0", [&] { made({.heads = 0, .dim = 1}); });
  reference::refuses("[dynamic_position_bias] dim must be positive but got -3", [&] { made({.heads = 1, .dim = -3}); });
  reference::refuses("[dynamic_position_bias] depth must be positive but got 0", [&] { made({.heads = 1, .dim = 1, .depth = 0}); });
  reference::refuses("[dynamic_position_bias] the size in bytes must fit in 63 bits but got [4611686018427387904, 1, 1]",
                     [&] { made({.heads = 1, .dim = 1, .depth = index_t{1} << 62}); });
}
