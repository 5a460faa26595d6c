// SPDX-License-Identifier: MIT
#include <posenc/conditional/cumulative_gates.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<double> all_of(const cumulative_gates& sums) {
  std::vector<double> all;
  for (index_t b = 0; b < sums.batch(); ++b)
    for (index_t g = 0; g < sums.gates(); ++g) all.insert(all.end(), sums.row(b, g), sums.row(b, g) + sums.length());
  return all;
}

}  // namespace

TEST_CASE("log gates are summed by document", "[cumulative_gates]") {
  tensor gates(1, 7, 2);
  gates.setValues({{{-1, -2}, {-3, -4}, {-std::nanf(""), 5}, {-0.5f, -infinity}, {-7, 0}, {-9, -40000}, {-11, -1}}});
  cumulative_gates sums(1, 2, 9);
  sums.append(gates, positions::ids(std::array<position, 7>{3, 5, no_position, 9, 9, 10, 0}));
  CHECK(sums.length() == 7);
  CHECK(sums.capacity() == 9);
  CHECK(sums.gate_stride() == sums.row(0, 1) - sums.row(0, 0));
  CHECK(all_of(sums) == std::vector<double>{-1, -4, -4, -4.5, -7, -16, -11, -2, -6, -6, -32774, 0, -32768, -1});
  sums.clear();
  CHECK(sums.length() == 0);
  sums.append(gates, positions::ids(std::array<position, 7>{3, 5, no_position, 9, 19, 20, 21}));
  CHECK(all_of(sums) == std::vector<double>{-1, -4, -4, -4.5, -11.5, -20.5, -31.5, -2, -6, -6, -32774, -32774, -65542, -65543});
}

TEST_CASE("appended in chunks, sums have the bits that they have at once", "[cumulative_gates]") {
  constexpr index_t batch = 2, time = 500, heads = 3;
  auto gates = random_tensor<tensor>(1, batch, time, heads);
  for (index_t n = 0; n < gates.size(); ++n) gates.data()[n] = -std::exp(8 * gates.data()[n]);
  std::vector<position> ids;
  for (index_t n = 0; n < batch * time; ++n) ids.push_back(n % 11 == 4 ? no_position : n % 131);
  const auto at = positions::ids(ids, batch);
  cumulative_gates whole(batch, heads, time), grown(batch, heads, time);
  whole.append(gates, at);
  for (index_t from = 0; const index_t count : {1, 0, 200, 1, 298}) {
    grown.append(tensor_view<const float, 3>(&gates(0, from, 0), {batch, count, heads}, view_of(gates).strides()), at.slice(from, count));
    from += count;
  }
  CHECK(reference::bit_difference(all_of(grown), all_of(whole)) == "");
}

TEST_CASE("a million gates are summed as well as doubles can say", "[cumulative_gates]") {
  constexpr index_t time = 1000000;
  auto gates = random_vector<double>(5, time);  // multiples of 2^-53
  for (double& gate : gates) gate -= 1;
  cumulative_gates sums(1, 1, time);
  sums.append(tensor_view<const double, 3>(gates.data(), {1, time, 1}), positions::range(time));
  __extension__ __int128 exact = 0;  // in units of 2^-53
  double worst = 0;
  for (index_t t = 0; t < time; ++t) {
    exact += static_cast<std::int64_t>(std::ldexp(gates[static_cast<std::size_t>(t)], 53));
    const long double truth = std::ldexp(static_cast<long double>(exact), -53), got = sums.row(0, 0)[t];
    worst = std::max(worst, static_cast<double>(std::abs(got - truth) / std::abs(truth)));
  }
  CHECK(worst <= 0x1p-52);
}

TEST_CASE("cumulative_gates refuse what does not fit, before they write", "[cumulative_gates]") {
  using reference::refuses;
  refuses("[cumulative_gates] extents must not be negative but got [1, -1, 2]", [] { cumulative_gates(1, -1, 2); });
  cumulative_gates sums(2, 2, 5);
  tensor gates(2, 3, 2);
  gates.setConstant(-1);
  sums.append(gates, positions::range(3));
  const auto before = all_of(sums);
  const auto refused = [&](const std::string& text, const tensor& some, const positions& at) {
    refuses("[cumulative_gates] " + text, [&] { sums.append(some, at); });
    CHECK(sums.length() == 3);
    CHECK(all_of(sums) == before);
  };
  refused("the log gates must be [batch, token, gate] but got [2, 3, 2] and [1, 3, 2]", tensor(1, 3, 2), positions::range(3));
  refused("the log gates must be [batch, token, gate] but got [2, 3, 2] and [2, 3, 1]", tensor(2, 3, 1), positions::range(3));
  refused("time must match the positions but got 3 and 2", gates, positions::range(2));
  refused("there must be a slot for each token but got 5 and 3 and 3", gates, positions::range(3));
  tensor two(2, 2, 2);
  two.setConstant(-1);
  for (const float bad : {0.25f, infinity, std::nanf("")}) {
    two(1, 1, 1) = bad;
    refused(std::string("log gates must not be above 0 but got ") + (bad == 0.25f      ? "0.25"
                                                                     : bad == infinity ? "inf"
                                                                                       : "nan"),
            two, positions::range(2, 3));
  }
  two(1, 1, 1) = 0;
  sums.append(two, positions::range(2, 3));
  CHECK(sums.row(1, 1)[4] == -4);
}
