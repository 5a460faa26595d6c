// SPDX-License-Identifier: MIT
#include <posenc/relative/relative_products.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/relative_pairs.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace {

using namespace posenc;

template <class S, int Rank = 4>
using rows = Eigen::Tensor<S, Rank, Eigen::RowMajor>;
constexpr auto order = axis_order::time_head;

}  // namespace

TEST_CASE("products with thousands of vectors are those of a pair at a time", "[relative_products]") {
  // More vectors than 64 queries may have at once, so that a block has fewer; strides of a wider table.
  constexpr index_t count = 3000, time = 9, channels = 3;
  const auto table = random_vector<double>(1, 2 * count * (channels + 2));
  const attention_positions at{positions::ids(std::vector<position>{0, 2000, 5, 1, 2999, -10, 7, 800, 2}),
                               positions::ids(std::vector<position>{0, 1, 2, 3, 1500, 1501, 2999, 4000, -3000})};
  const auto x = random_tensor<rows<double>>(2, 1, time, 2, channels);
  const auto before = random_tensor<rows<double>>(3, 1, 2, time, time);
  const auto vector = [&](index_t h, position d, index_t c) {
    const position row = d + 1500;
    return row >= 0 && row < count ? table[static_cast<std::size_t>((h * count + row) * (channels + 2) + c)] : 0;
  };
  const detail::relative_product<double> product{
      .vectors = {table.data(), count * (channels + 2), channels + 2, count, -1500, false}, .at = at, .factor = 0.5};
  auto scores = before;
  detail::add_relative_products(score_view<double>(scores), score_view<double>(scores), head_view<const double>(heads(x, order)), product,
                                {});
  const auto expected = reference::relative_scores(before, at, {}, [&](index_t b, index_t h, index_t i, index_t, position d) {
    double sum = 0;
    for (index_t c = 0; c < channels; ++c) sum += 0.5 * x(b, i, h, c) * vector(h, d, c);
    return sum;
  });
  CHECK(reference::difference(scores, expected, 1e-15) == "");

  auto y = x;
  detail::add_relative_values(heads(y, order), score_view<const double>(before), product, {});
  CHECK(reference::difference(y, reference::relative_context(x, before, at, vector), 1e-14) == "");
}

TEST_CASE("scores pass with their scale and mask where there are no vectors", "[relative_products]") {
  const auto before = random_tensor<rows<float>>(1, 2, 3, 5, 12);
  const attention_positions at = reference::relative_cases()[1];
  for (const bool causal : {false, true}) {
    const score_pass pass{.scale = 0.25, .causal = causal};
    auto scores = before, d = before;
    detail::pass_scores(score_view<float>(scores), score_view<float>(scores), at, pass, {});
    const auto expected = reference::relative_scores(before, at, pass, [](index_t, index_t, index_t, index_t, position) { return 0.0; });
    CHECK(reference::difference(scores, expected, 0) == "");
    detail::pass_scores_gradient(score_view<float>(d), at, pass, {});
    auto back = expected;
    for (double& value : back)
      if (std::isinf(value)) value = 0;
    CHECK(reference::difference(d, back, 0) == "");
  }
}
