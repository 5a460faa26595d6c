// SPDX-License-Identifier: MIT
#include <posenc/kernels/angle_gradient.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/rounded.hpp"
#include "reference/stored.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using posenc::kernels::absent;
using posenc::kernels::angle_gradient_call;
using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;

constexpr double nowhere = std::numeric_limits<double>::quiet_NaN();

/// The same sums in plain loops, rounded after each operation.
template <class T>
void add_up(const angle_gradient_call<T>& call) {
  using namespace reference;
  const auto place = [&](index_t t, index_t a) {
    if (call.coordinates) return call.coordinates[a * call.axis + t];
    const std::int64_t id = call.ids ? call.ids[a * call.axis + t] : call.first + t;
    return id == absent ? nowhere : static_cast<double>(id);
  };
  for (index_t k = 0; k < call.pairs; ++k)
    for (index_t a = 0; a < call.axes; ++a)
      for (index_t t = 0; t < call.time; ++t)
        for (index_t h = 0; h < call.heads; ++h) {
          if (place(t, a) != place(t, a)) continue;
          const index_t one = call.interleaved ? 2 * k : k, other = call.interleaved ? 2 * k + 1 : k + call.distance;
          const auto y = [&](index_t c) { return double{loaded(call.y[t * call.y_time + h * call.y_head + c])}; };
          const auto d = [&](index_t c) { return double{loaded(call.d[t * call.d_time + h * call.d_head + c])}; };
          double& sum = call.sums[h * call.sum_head + a * call.sum_axis + k];
          sum = plus(sum, times(minus(times(y(one), d(other)), times(y(other), d(one))), place(t, a)));
        }
}

/// A call for every tail, pairing, number of axes, and way to say where tokens stand; sums for each head or for all.
/// test(call, sums)
template <class T>
void for_each_call(auto&& test) {
  constexpr index_t time = 5, heads = 3;
  for (index_t pairs = 1; pairs <= 19; ++pairs)
    for (const bool interleaved : {false, true})
      for (const index_t axes : {1, 2, 3})
        for (const bool by_head : {false, true})
          for (int places = 0; places < 5; ++places) {
            // Behind the channels of a head, the heads of a token and the ids of an axis stand others, which are not to be read or written.
            const index_t distance = pairs + 2, channels = 2 * distance + 1, gap = time + 2;
            const auto y = reference::random_stored<T>(31, time * heads * channels + 40),
                       d = reference::random_stored<T>(32, heads * time * channels + 40);
            std::vector<std::int64_t> ids;
            std::vector<double> coordinates;
            random_numbers random(33);
            for (index_t a = 0; a < axes; ++a)
              for (index_t t = 0; t < gap; ++t) {
                ids.push_back(t == 2 ? absent : random.integer(-1'000'000, 1'000'000));
                coordinates.push_back(t == 1 ? nowhere : 100 * random.real<double>());
              }
            std::vector<double> sums = random_vector<double>(34, heads * axes * (pairs + 1));
            const angle_gradient_call<T> call{.y = y.data() + 1,
                                              .d = d.data() + 2,
                                              .time = time,
                                              .heads = heads,
                                              .y_time = heads * channels,
                                              .y_head = channels,
                                              .d_time = channels,
                                              .d_head = time * channels,
                                              .pairs = pairs,
                                              .distance = distance,
                                              .interleaved = interleaved,
                                              .ids = places == 1 || places == 2 ? ids.data() : nullptr,
                                              .first = places == 0 ? -3 : 77,
                                              .coordinates = places > 2 ? coordinates.data() : nullptr,
                                              .axes = axes,
                                              .axis = places == 1 || places == 3 ? gap : 0,
                                              .sums = sums.data(),
                                              .sum_axis = pairs + 1,
                                              .sum_head = by_head ? axes * (pairs + 1) : 0};
            INFO(pairs << " pairs, " << (interleaved ? "interleaved" : "halves") << ", " << axes << " axes, "
                       << (by_head ? "sums by head, " : "one sum, ") << "places " << places);
            test(call, sums);
          }
}

}  // namespace

TEMPLATE_TEST_CASE("the gradient of angles is position times what lies across, in the order of tokens and heads",
                   "[kernels][angle_gradient]", float, double, bfloat16, float16) {
  at_every_instruction_set([&] {
    for_each_call<TestType>([&](const angle_gradient_call<TestType>& call, std::vector<double>& sums) {
      const auto before = sums;
      auto expected = sums;
      auto same_call = call;
      same_call.sums = expected.data();
      add_up(same_call);
      posenc::kernels::angle_gradient(call);
      const std::string difference = reference::bit_difference(sums, expected);
      if (!difference.empty()) CHECK(difference == "");
      if (call.pairs == 7) CHECK(reference::bit_difference(sums, before) != "");
    });
  });
}

TEST_CASE("the gradient of the angle of one pair is known", "[kernels][angle_gradient]") {
  const std::vector<float> y{3, 5}, d{7, 11};
  double sum = 1000;
  angle_gradient_call<float> call{.y = y.data(),
                                  .d = d.data(),
                                  .time = 1,
                                  .heads = 1,
                                  .y_time = 0,
                                  .y_head = 0,
                                  .d_time = 0,
                                  .d_head = 0,
                                  .pairs = 1,
                                  .distance = 1,
                                  .interleaved = false,
                                  .ids = nullptr,
                                  .first = -4,
                                  .coordinates = nullptr,
                                  .axes = 1,
                                  .axis = 0,
                                  .sums = &sum,
                                  .sum_axis = 1,
                                  .sum_head = 0};
  at_every_instruction_set([&] {
    sum = 1000;
    call.heads = 1;
    posenc::kernels::angle_gradient(call);
    CHECK(sum == 1000 - 4 * (3 * 11 - 5 * 7));
    call.heads = 0;
    posenc::kernels::angle_gradient(call);
    CHECK(sum == 1008);
  });
}
