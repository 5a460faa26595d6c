// SPDX-License-Identifier: MIT
#include <posenc/no_encoding.hpp>

#include <posenc/gradients.hpp>

#include "catch.hpp"
#include "random.hpp"

#include <algorithm>
#include <string_view>
#include <vector>

using namespace posenc;

namespace {

using block = Eigen::Tensor<float, 4, Eigen::RowMajor>;

bool same(const block& a, const block& b) { return std::ranges::equal(std::span(a.data(), 120), std::span(b.data(), 120)); }

}  // namespace

TEST_CASE("no_encoding changes nothing at any stage, forward or backward", "[no_encoding]") {
  const no_encoding none;
  const auto kept = random_tensor<block>(1, 2, 3, 4, 5);  // [batch, time, head, channel], and scores of any size
  block x = kept;
  const auto at = positions::range(4);
  const attention_positions state = prepare(none, {at, at});
  const auto h = heads(x, axis_order::head_time);

  encode_embeddings(none, x, at);
  encode_queries_keys(none, h, h, state);
  encode_scores(none, x, state);
  encode_scores(none, x, {.scale = 1}, state);
  encode_context(none, h, x, state);
  CHECK(same(x, kept));

  encode_context_backward(none, h, x, x, state, {});
  encode_scores_backward(none, x, {.scale = 1}, {}, state, {});
  encode_queries_keys_backward(none, h, h, state);
  encode_embeddings_backward(none, x, at, {});
  CHECK(same(x, kept));
}

TEST_CASE("no_encoding is a value without parameters", "[no_encoding]") {
  no_encoding none;
  CHECK(none == no_encoding{});
  CHECK(std::string_view(none.name()) == "none");
  CHECK(parameters(none).empty());
  CHECK(score_scale(none, 16) == 0.25);
}

TEST_CASE("no_encoding takes every scalar", "[no_encoding]") {
  Eigen::Tensor<double, 3> d(4, 3, 2);
  Eigen::Tensor<Eigen::half, 3> h(4, 3, 2);
  Eigen::Tensor<Eigen::bfloat16, 2> b(4, 3);
  d.setConstant(1), h.setConstant(Eigen::half(2)), b.setConstant(Eigen::bfloat16(3));
  encode_embeddings(no_encoding{}, d, positions::range(3));
  encode_embeddings(no_encoding{}, h, positions::range(3));
  encode_embeddings(no_encoding{}, b, positions::range(3));
  CHECK((d(1, 1, 1) == 1 && h(1, 1, 1) == Eigen::half(2) && b(1, 1) == Eigen::bfloat16(3)));
}
