// SPDX-License-Identifier: MIT
#include <posenc/conditional/log_sigmoid.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/forgetting.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace posenc;
template <class S>
using tensor = Eigen::Tensor<S, 3, Eigen::RowMajor>;

}  // namespace

TEMPLATE_TEST_CASE("logits of any scalar become log gates, and gradients come back", "[log_sigmoid]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  using S = compute_t<TestType>;
  constexpr double unit = std::numeric_limits<S>::epsilon();
  tensor<TestType> logits = (random_tensor<tensor<S>>(1, 2, 5, 7) * S(20)).template cast<TestType>(), d_logits(2, 5, 7);
  const auto d = random_tensor<tensor<S>>(2, 2, 5, 7);
  tensor<S> gates(2, 5, 7);
  log_sigmoid(logits, gates, 0.5);
  log_sigmoid_backward(logits, d, d_logits, 0.5);
  for (index_t n = 0; n < logits.size(); ++n) {
    const double x = static_cast<double>(logits.data()[n]), truth = 0.5 * static_cast<double>(reference::log_sigmoid(x));
    CHECK(std::abs(static_cast<double>(gates.data()[n]) - truth) <= 2.7 * unit * std::abs(truth));
    const double slope = static_cast<double>(d.data()[n]) * 0.5 / (1 + std::exp(x));
    const double rounding = std::is_same_v<TestType, Eigen::half> ? 0x1p-11 : std::is_same_v<TestType, Eigen::bfloat16> ? 0x1p-8 : 0;
    CHECK(std::abs(static_cast<double>(d_logits.data()[n]) - slope) <= (6 * unit + rounding) * std::abs(slope) + 0x1p-25 * (rounding > 0));
  }
}

TEST_CASE("log_sigmoid works in place, in other orders and per token", "[log_sigmoid]") {
  auto logits = random_tensor<tensor<float>>(1, 2, 5, 37);
  tensor<float> gates(2, 5, 37);
  log_sigmoid(logits, gates);
  Eigen::Tensor<float, 3> by_columns = logits.swap_layout();
  log_sigmoid(by_columns, by_columns);
  CHECK(std::equal(by_columns.data(), by_columns.data() + by_columns.size(), gates.data()));
  tensor<float> one(1, 1, 37);
  log_sigmoid(tensor_view<const float, 3>(&logits(1, 3, 0), {1, 1, 37}), one);
  CHECK(std::equal(one.data(), one.data() + 37, &gates(1, 3, 0)));
  // The gradient into the logits' own memory.
  auto d = random_tensor<tensor<float>>(2, 2, 5, 37), into = d, apart = d;
  log_sigmoid_backward(logits, d, apart);
  log_sigmoid_backward(logits, into, into);
  log_sigmoid_backward(logits, d, logits);
  CHECK(reference::bit_difference(into, apart) == "");
  CHECK(reference::bit_difference(logits, apart) == "");
}

TEST_CASE("log_sigmoid refuses what does not fit, before it writes", "[log_sigmoid]") {
  using reference::refuses;
  std::vector<float> memory(24, 1.0f);
  const tensor_view<float, 3> all(memory.data(), {1, 3, 4}), later(memory.data() + 4, {1, 3, 4}), fewer(memory.data(), {1, 3, 3});
  refuses(memory, "[log_sigmoid] the scale must be finite and not negative but got -1", [&] { log_sigmoid(all, all, -1); });
  refuses(memory, "[log_sigmoid] the output must have the input's shape but got [1, 3, 4] and [1, 3, 3]", [&] { log_sigmoid(all, fewer); });
  refuses(memory, "[log_sigmoid] input and output must be one view or not overlap but got [1, 3, 4] and [1, 3, 4]",
          [&] { log_sigmoid(all, later); });
  const tensor_view<float, 3> strided(memory.data(), {1, 3, 4}, {24, 8, 2});
  refuses(memory, "[log_sigmoid] the last axis must be contiguous but got 2", [&] { log_sigmoid(strided, all); });
  refuses(memory, "[log_sigmoid_backward] the scale must be finite and not negative but got inf",
          [&] { log_sigmoid_backward(all, all, all, std::numeric_limits<double>::infinity()); });
  const std::string shapes = "[log_sigmoid_backward] gradients must have the shapes of what they are of but got [1, 3, 4] and [1, 3, 3]";
  refuses(memory, shapes, [&] { log_sigmoid_backward(all, fewer, all); });
  refuses(memory, shapes, [&] { log_sigmoid_backward(all, all, fewer); });
}
