// SPDX-License-Identifier: MIT
#include <posenc/distance_biases.hpp>

#include <posenc/alibi.hpp>
#include <posenc/relative/t5_bias.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"

#include <string>
#include <vector>

using namespace posenc;

namespace {
using matrix = Eigen::Tensor<float, 2, Eigen::RowMajor>;
}

TEST_CASE("biases of distances are those of pairs that far apart", "[distance_biases]") {
  const alibi<float> linear({.heads = 2, .form = alibi_form::symmetric, .alibi_bias_max = 2});  // slopes 1/2 and 1/4
  matrix biases(2, 5);
  distance_biases(linear, {-3, 1}, biases);
  const std::vector<float> expected{-1.5f, -1, -0.5f, 0, -0.5f, -0.75f, -0.5f, -0.25f, 0, -0.25f};
  CHECK(std::vector<float>(biases.data(), biases.data() + 10) == expected);

  const t5_bias<float> t5(t5_bias_options::t5_encoder(3), random_vector<float>(1, 32 * 3));
  matrix all(3, 401);
  distance_biases(t5, {-200, 200}, all);
  const auto state = prepare(t5, {.queries = positions::range(1), .keys = positions::range(401, -200)});
  for (index_t h = 0; h < 3; ++h) {
    Eigen::Tensor<float, 4, Eigen::RowMajor> scores(1, 3, 1, 401);
    scores.setZero();
    t5.bias(scores, state);
    for (index_t n = 0; n < 401; ++n) REQUIRE(all(h, n) == scores(0, h, 0, n));
  }
}

TEST_CASE("biases of distances need room for all of them", "[distance_biases]") {
  const alibi<float> linear({.heads = 2, .form = alibi_form::symmetric});
  std::vector<float> memory(10, 1.0f);
  const auto refused = [&](const std::string& text, const distance_range& distances, index_t rows, index_t columns) {
    reference::refuses(memory, "[alibi] " + text,
                       [&] { distance_biases(linear, distances, tensor_view<float, 2>(memory.data(), {rows, columns})); });
  };
  const std::string room = "the output must have a row per head and a column per distance but got ";
  refused(room + "2 and -3 and 0 and [2, 5]", {-3, 0}, 2, 5);
  refused(room + "2 and -3 and 0 and [1, 4]", {-3, 0}, 1, 4);
  refused(room + "2 and -4611686018427387904 and 4611686018427387904 and [2, 5]", {-positions::limit, positions::limit}, 2, 5);
  const std::string range = "distances must lie in [-2^62, 2^62] and rise but got ";
  refused(range + "1 and 0", {1, 0}, 2, 0);
  refused(range + "4611686018427387905 and 4611686018427387905", {positions::limit + 1, positions::limit + 1}, 2, 1);
}
