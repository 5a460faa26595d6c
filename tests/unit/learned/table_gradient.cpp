// SPDX-License-Identifier: MIT
#include <posenc/learned/table_gradient.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"

#include <cstdint>
#include <vector>

namespace {

using namespace posenc;

}  // namespace

TEMPLATE_TEST_CASE("gradients go to the rows that tokens took, whoever adds them", "[learned]", float, double) {
  using S = TestType;
  constexpr index_t batch = 3, time = 4, rows = 5;
  const std::vector<std::int64_t> ids{0, 3, no_position, 3, 4, 0, 1, 1, 2, 2, 2, 0};
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  for (const index_t channels : {1, 15, 16, 17, 100})
    for (const bool shared : {false, true}) {
      const auto gradients = random_vector<S>(1, batch * time * channels);
      const token_view<const S> d(gradients.data(), {batch, time, channels});
      std::vector<S> expected(static_cast<std::size_t>(rows * channels), S(1));
      for (index_t b = 0; b < batch; ++b)
        for (index_t t = 0; t < time; ++t) {
          const std::int64_t row = ids[static_cast<std::size_t>((shared ? 0 : b) * time + t)];
          for (index_t c = 0; row != no_position && c < channels; ++c) {
            const S scaled = d(b, t, c) * S(0.5);
            expected[static_cast<std::size_t>(row * channels + c)] += scaled;
          }
        }
      for (const executor& run : {executor(), executor(device)}) {
        std::vector<S> sums(expected.size(), S(1));
        const auto call = detail::table_gradient(d, sums.data(), S(0.5));
        // As if it took long, so that it is split.
        detail::run_table_gradient(call, shared, [&](index_t b) { return ids.data() + b * time; }, 1e6, run);
        CAPTURE(channels, shared);
        CHECK(reference::bit_difference(sums, expected) == "");
      }
    }
}
