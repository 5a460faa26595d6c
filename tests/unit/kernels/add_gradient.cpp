// SPDX-License-Identifier: MIT
#include <posenc/kernels/add_gradient.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/add.hpp"
#include "reference/difference.hpp"
#include "reference/stored.hpp"

#include <cstdint>
#include <vector>

namespace {

using posenc::kernels::absent;
using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using reference::compute;

}  // namespace

TEMPLATE_TEST_CASE("the gradient of codes is added to the rows that were added, and to nothing else", "[kernels][add_gradient]", float,
                   double, bfloat16, float16) {
  using S = compute<TestType>;
  constexpr index_t time = 5, gap = 2;
  constexpr std::int64_t ids[] = {1, 0, absent, -1, 2, 2, 1, 1, 0, 2, absent, 2,  0, 3, -1, 1, 1, 3,
                                  0, 2, 2,      2,  2, 2, 2, 0, 1, 2, 3,      -1, 3, 2, 1,  0, 0};
  at_every_instruction_set([&] {
    for (const index_t channels : {1, 3, 8, 21, 64, 4099})  // the last one is more than a block of the sums
      for (const index_t batch : {1, 3, 4, 7})
        for (const int lookup : {0, 1, 2})  // by strides, by ids of all rows, by ids of each
          for (const double scale : {1.0, -0.6}) {
            const auto d = reference::random_stored<TestType>(1, batch * time * (channels + gap));
            auto got = random_vector<S>(2, (time + 1) * (channels + 1)), expected = got;
            const auto call = [&](std::vector<S>& sums) {
              return posenc::kernels::add_gradient_call<TestType>{.d = d.data(),
                                                                  .sums = sums.data() + channels + 1,
                                                                  .batch = batch,
                                                                  .time = time,
                                                                  .channels = channels,
                                                                  .d_batch = time * (channels + gap),
                                                                  .d_time = channels + gap,
                                                                  .row = channels + 1,
                                                                  .ids = lookup > 0 ? ids : nullptr,
                                                                  .ids_batch = lookup == 2 ? time : 0,
                                                                  .still = lookup > 0 ? 1 : absent,
                                                                  .scale = static_cast<S>(scale)};
            };
            auto close = call(got);
            if (lookup == 0) close.sums = got.data(), close.time = time;
            auto same = call(expected);
            if (lookup == 0) same.sums = expected.data();
            posenc::kernels::add_gradient(close);
            reference::add_gradient(same);
            CAPTURE(channels, batch, lookup, scale);
            CHECK(reference::bit_difference(got, expected) == "");
          }
  });
}
