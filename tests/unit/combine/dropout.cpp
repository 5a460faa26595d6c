// SPDX-License-Identifier: MIT
#include <posenc/combine/dropout.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"

#include <span>
#include <vector>

namespace {

using namespace posenc;
template <class S>
using tensor3 = Eigen::Tensor<S, 3, Eigen::RowMajor>;

}  // namespace

TEMPLATE_TEST_CASE("dropout multiplies by the mask, which may be shared by rows or tokens", "[dropout]", float, double, Eigen::half) {
  using S = compute_t<TestType>;
  for (const index_t batch : {1, 2})
    for (const index_t time : {1, 3}) {
      const auto mask = random_tensor<tensor3<S>>(1, batch, time, 5);
      tensor3<TestType> x(2, 3, 5), expected(2, 3, 5);
      for (index_t n = 0; n < x.size(); ++n) x.data()[n] = static_cast<TestType>(static_cast<float>(n) / 8 - 1);
      for (index_t b = 0; b < 2; ++b)
        for (index_t t = 0; t < 3; ++t)
          for (index_t c = 0; c < 5; ++c)
            expected(b, t, c) = static_cast<TestType>(static_cast<S>(x(b, t, c)) * mask(b % batch, t % time, c));
      apply_dropout(x, view_of(mask));
      CHECK(reference::bit_difference(x, expected) == "");
    }
}

TEST_CASE("a drawn mask drops its share and keeps the mean", "[dropout]") {
  std::vector<float> mask(100'000);
  random_source random(3);
  draw_dropout(std::span(mask), 0.25, random);
  int dropped = 0;
  for (const float one : mask) {
    dropped += one == 0;
    if (one != 0) REQUIRE(one == 1 / 0.75f);
  }
  CHECK(dropped > 24'500);
  CHECK(dropped < 25'500);
  draw_dropout(std::span(mask), 0, random);
  CHECK(mask == std::vector<float>(mask.size(), 1));
}

TEST_CASE("dropout refuses masks that do not fit, and impossible probabilities", "[dropout][errors]") {
  auto x = random_tensor<tensor3<float>>(2, 2, 3, 4);
  const std::vector<float> ones(24, 1);
  const auto refused = [&](const std::string& text, std::array<index_t, 3> shape) {
    reference::refuses(x, "[dropout] " + text, [&] { apply_dropout(x, dropout_mask<float>(ones.data(), shape)); });
  };
  refused("batch and time of the mask must be those of the embeddings, or 1 but got [2, 3, 4] and [2, 2, 4]", {2, 2, 4});
  refused("batch and time of the mask must be those of the embeddings, or 1 but got [2, 3, 4] and [0, 3, 4]", {0, 3, 4});
  refused("the mask must have the embeddings' channels but got [2, 3, 4] and [2, 3, 1]", {2, 3, 1});
  reference::refuses(x, "[dropout] the last axis must be contiguous but got 2",
                     [&] { apply_dropout(x, dropout_mask<float>(ones.data(), {1, 3, 4}, {12, 4, 2})); });
  std::vector<float> mask(3, 5);
  random_source random(1);
  for (const double probability : {1.0, -0.5})
    reference::refuses(mask, "[dropout] probability must lie in [0, 1) but got " + std::string(probability > 0 ? "1" : "-0.5"),
                       [&] { draw_dropout(std::span(mask), probability, random); });
}
