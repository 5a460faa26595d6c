// SPDX-License-Identifier: MIT
/// \file  Learned tables on several threads.
#include <posenc/learned.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"

#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace {

using namespace posenc;
using tensor3 = Eigen::Tensor<float, 3, Eigen::RowMajor>;

constexpr index_t batch = 6, steps = 1000, dim = 300;  // enough to be split

/// By range, by starts of each row, by ids of all and of each row, where rows repeat.
std::vector<positions> every_kind() {
  std::vector<position> ids;
  random_numbers random(1);
  for (index_t n = 0; n < batch * steps; ++n) ids.push_back(n % 50 == 7 ? no_position : random.integer(0, 40));
  return {positions::range(steps, 5), positions::offsets(std::array{0, 20, 3, 3, 7, 1}, steps), positions::ids(std::span(ids).first(steps)),
          positions::ids(ids, batch)};
}

struct results {
  tensor3 sum;
  std::vector<float> gradient;
};

results of(const learned<float>& encoder, const tensor3& x, const positions& at, const executor& run) {
  results all{x, std::vector<float>(static_cast<std::size_t>(encoder.table().extent(0) * dim))};
  encoder.add(all.sum, at, run);
  encoder.encode_backward(at, x, std::array{std::span(all.gradient)}, 1, run);
  return all;
}

learned<float> table(outside_table policy) {
  return learned<float>({.rows = 1030, .dim = dim, .offset = 1, .padding_row = 26, .outside_table = policy},
                        random_vector<float>(2, 1030 * dim));
}

}  // namespace

TEST_CASE("learned: sums and gradients have the same bits on any number of threads", "[threads][learned]") {
  const auto x = random_tensor<tensor3>(3, batch, steps, dim);
  for (const auto policy : {outside_table::refuse, outside_table::nearest}) {
    const auto encoder = table(policy);
    for (const auto& at : every_kind()) {
      const auto alone = of(encoder, x, at, {});
      for (const int threads : {1, 2, 3, 5}) {
        Eigen::ThreadPool pool(threads);
        const Eigen::ThreadPoolDevice device(&pool, threads);
        const auto together = of(encoder, x, at, device);
        CAPTURE(threads);
        CHECK(reference::bit_difference(together.sum, alone.sum) == "");
        CHECK(reference::bit_difference(together.gradient, alone.gradient) == "");
      }
    }
  }
}
