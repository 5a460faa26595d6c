// SPDX-License-Identifier: MIT
#include <posenc/relative/proximal_bias.hpp>

#include <posenc/relative/kerple.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"
#include "reference/relative_bias.hpp"

#include <cmath>
#include <vector>

using namespace posenc;

TEST_CASE("proximal_bias is minus the logarithm of one more than the distance", "[proximal_bias]") {
  const auto formula = [](index_t, position query, position key) {
    return std::log(1 / (1 + std::abs(static_cast<double>(query) - static_cast<double>(key))));
  };
  reference::check_bias<float>(proximal_bias<float>(3), 3e-7, formula);
  reference::check_bias<double>(proximal_bias<double>(3), 1e-14, formula);
  CHECK(proximal_bias<double>(2).value(1, 4, 4) == 0);
  CHECK(proximal_bias<double>(2).value(1, 4, 7) == -std::log(4.0));
  CHECK(proximal_bias<double>(2).value(0, 7, 4) == -std::log(4.0));
}

TEST_CASE("proximal_bias is kerple_log with p and a of 1", "[proximal_bias]") {
  const std::vector<float> ones{1, 1};
  const kerple_log<float> kerple(ones, ones);
  for (const position key : {0, 1, 17, 1 << 30}) CHECK(proximal_bias<float>(2).value(1, 17, key) == kerple.value(1, 17, key));
}

TEST_CASE("proximal_bias has nothing to train, passes gradients on, and refuses no heads", "[proximal_bias]") {
  reference::score_tensor<double> d(1, 2, 1, 3);
  d.setConstant(3);
  proximal_bias<double>(2).bias_backward(d, attention_positions{positions::range(1, 1), positions::range(3)}, {},
                                         {.scale = 2, .causal = true});
  CHECK(std::vector<double>(d.data(), d.data() + 6) == std::vector<double>{6, 6, 0, 6, 6, 0});
  CHECK(proximal_bias<float>(2) == proximal_bias<float>(2));
  CHECK_FALSE(proximal_bias<float>(2) == proximal_bias<float>(3));
  reference::refuses("[proximal_bias] heads must be positive but got 0", [] { proximal_bias<float>(0); });
}
