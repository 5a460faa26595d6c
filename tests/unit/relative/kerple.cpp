// SPDX-License-Identifier: MIT
#include <posenc/relative/kerple.hpp>

#include <posenc/alibi.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"
#include "reference/relative_bias.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace {

using namespace posenc;

double steps(position query, position key) { return static_cast<double>(query > key ? query - key : key - query); }

// The last head lies outside of both ranges.
template <class S>
const std::vector<S> some_p{S(0.7), S(1.9), S(-3)};
template <class S>
const std::vector<S> some_a{S(0.3), S(2), S(0.002)};

template <class S>
double log_bias(index_t h, position query, position key) {
  const auto n = static_cast<std::size_t>(h);
  const double a = std::fmax(static_cast<double>(some_a<S>[n]), static_cast<double>(S(0.01)));
  return std::log(std::pow(1 + a * steps(query, key), -std::fmax(static_cast<double>(some_p<S>[n]), static_cast<double>(S(0.01)))));
}
template <class S>
double power_bias(index_t h, position query, position key) {
  if (query == key) return 0;
  const auto n = static_cast<std::size_t>(h);
  const double p = std::fmax(static_cast<double>(some_p<S>[n]), static_cast<double>(S(0.01)));
  return -std::fmax(static_cast<double>(some_a<S>[n]), static_cast<double>(S(0.01))) * std::exp(p * std::log(steps(query, key)));
}

}  // namespace

TEST_CASE("kerple_log is its formula, everywhere the same", "[kerple]") {
  reference::check_bias<float>(kerple_log<float>(some_p<float>, some_a<float>), 3e-7, log_bias<float>);
  reference::check_bias<double>(kerple_log<double>(some_p<double>, some_a<double>), 1e-14, log_bias<double>);
  reference::check_bias<Eigen::half>(kerple_log<float>(some_p<float>, some_a<float>), 1e-3, log_bias<float>);
  reference::check_bias<Eigen::bfloat16>(kerple_log<float>(some_p<float>, some_a<float>), 8e-3, log_bias<float>);
}
TEST_CASE("kerple_power is its formula, everywhere the same", "[kerple]") {
  reference::check_bias<float>(kerple_power<float>(some_p<float>, some_a<float>), 3e-7, power_bias<float>);
  reference::check_bias<double>(kerple_power<double>(some_p<double>, some_a<double>), 1e-14, power_bias<double>);
}

TEST_CASE("kerple has the values of its formulas", "[kerple]") {
  const std::vector<double> one{1}, two{2}, half{0.5};
  CHECK(kerple_log<double>(two, half).value(0, 9, 3) == -2 * std::log(4.0));
  CHECK(kerple_log<double>(two, half).value(0, 3, 9) == -2 * std::log(4.0));
  CHECK(kerple_power<double>(two, half).value(0, 9, 3) == -18);
  CHECK(kerple_power<double>(half, two).value(0, 9, 13) == -4);
  // Beyond its range, p has the bias of the nearest end.
  CHECK(kerple_power<double>(std::vector<double>{2.5}, half).value(0, 9, 3) == -18);
  // p = 1: ALiBi with slopes a, bit for bit.
  const std::vector<float> slopes{0.5f, 0.0625f}, ones{1, 1};
  const kerple_power<float> power(ones, slopes);
  const alibi<float> linear(slopes, alibi_form::symmetric);
  for (const position key : {0, 5, 1000, 1048576}) CHECK(power.value(1, 7, key) == linear.value(1, 7, key));
  // p a |i - j|, a |i - j| being small.
  CHECK(std::abs(kerple_log<double>(one, std::vector<double>{0.01}).value(0, 1, 0) + 0.01) < 0.01 * 0.01 / 2);
}

TEST_CASE("kerple has exact gradients, none for what lies outside of its range", "[kerple]") {
  reference::check_bias_gradient(kerple_log<double>(some_p<double>, some_a<double>), 1e-7);
  reference::check_bias_gradient(kerple_power<double>(std::vector<double>{0.7, 1.2, 2.5}, some_a<double>), 1e-5, 300);

  // At the end of the range it is that of the formula, so that training can go on.
  const auto gradient = [](auto encoder) {
    gradient_buffer<double> d(encoder.parameters());
    reference::score_tensor<double> scores(1, 1, 1, 1);
    scores.setConstant(1);
    encoder.bias_backward(scores, attention_positions{positions::range(1, 4), positions::range(1)}, d.spans());
    return std::vector{d.spans()[0][0], d.spans()[1][0]};
  };
  const std::vector<double> end{0.01}, two{2};
  CHECK(gradient(kerple_log<double>(end, end)) == std::vector{-std::log1p(0.04), -0.01 * 4 / (1 + 0.01 * 4)});
  CHECK(gradient(kerple_power<double>(two, end)) == std::vector{-0.01 * 16 * std::log(4.0), -16.0});
}

TEST_CASE("kerple begins as in the paper's code, and can be brought back into its range", "[kerple]") {
  random_source random(3);
  kerple_log<float> many(1000, random);
  const auto [low_p, high_p] = std::ranges::minmax(many.p());
  const auto [low_a, high_a] = std::ranges::minmax(many.a());
  CHECK((low_p == 0.01f && high_p > 1.99f && high_p < 2));
  CHECK((low_a == 0.01f && high_a > 0.99f && high_a < 1));
  random_source again(3);
  CHECK(many == kerple_log<float>(1000, again));
  CHECK_FALSE(many == kerple_log<float>(1000, again));
  auto other = many;
  other.parameters()[1].values[999] += 1;
  CHECK_FALSE(many == other);

  kerple_power<float> power(std::vector<float>{-1, 0.5f, 3}, std::vector<float>{5, 0, 0.25f});
  power.clamp_parameters();
  CHECK(power == kerple_power<float>(std::vector<float>{0.01f, 0.5f, 2}, std::vector<float>{5, 0.01f, 0.25f}));
  kerple_log<float> log(std::vector<float>{-1, 0.5f, 3}, std::vector<float>{5, 0, 0.25f});
  log.clamp_parameters();
  CHECK(log == kerple_log<float>(std::vector<float>{0.01f, 0.5f, 3}, std::vector<float>{5, 0.01f, 0.25f}));
  CHECK(log.parameters()[0].name == "bias_p");
  CHECK(log.parameters()[1].name == "bias_a");
  CHECK(log.parameters()[1].shape == std::vector<index_t>{3, 1, 1});
}

TEST_CASE("kerple refuses what is not a parameter per head", "[kerple]") {
  random_source random(1);
  const std::vector<float> none, one{1}, two{1, 2}, bad{std::numeric_limits<float>::infinity()}, nan{std::nanf("")};
  reference::refuses("[kerple_log] heads must be positive but got 0", [&] { kerple_log<float>(0, random); });
  reference::refuses("[kerple_power] heads must be positive but got -2", [&] { kerple_power<float>(-2, random); });
  reference::refuses("[kerple_log] p and a must have one value per head but got 2 and 1", [&] { kerple_log<float>(two, one); });
  reference::refuses("[kerple_log] p and a must have one value per head but got 0 and 0", [&] { kerple_log<float>(none, none); });
  reference::refuses("[kerple_power] parameters must be finite but got inf", [&] { kerple_power<float>(one, bad); });
  reference::refuses("[kerple_power] parameters must be finite but got nan", [&] { kerple_power<float>(nan, one); });
}
