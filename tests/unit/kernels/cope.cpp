// SPDX-License-Identifier: MIT
#include <posenc/kernels/cope.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "reference/cope.hpp"
#include "reference/difference.hpp"
#include "reference/rounded.hpp"
#include "reference/stored.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using posenc::kernels::absent;
using posenc::kernels::bfloat16;
using posenc::kernels::cope_call;
using posenc::kernels::cope_gradient_call;
using posenc::kernels::cope_positions_call;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using reference::compute;
using reference::loaded;
using reference::plus;
using reference::random_stored;
using reference::times;

std::vector<std::int64_t> ids_of(index_t keys) {
  std::vector<std::int64_t> ids;
  for (index_t j = 0; j < keys; ++j) ids.push_back(j % 7 == 3 ? absent : j);
  return ids;
}

/// The positions of one row, with one number of no key's before and behind them; what is not written stays -1.
template <class T>
struct counted {
  std::vector<compute<T>> positions, slopes;
  index_t at_last;
};
template <class T>
counted<T> count(const std::vector<T>& scores, compute<T> scale, const std::int64_t* ids, compute<T> last) {
  const auto keys = static_cast<index_t>(scores.size());
  counted<T> row{std::vector<compute<T>>(scores.size() + 2, -1), std::vector<compute<T>>(scores.size() + 2, -1), 0};
  row.at_last = posenc::kernels::cope_positions<T>({.scores = scores.data(),
                                                    .keys = keys,
                                                    .scale = scale,
                                                    .key_ids = ids,
                                                    .last = last,
                                                    .positions = row.positions.data() + 1,
                                                    .slopes = row.slopes.data() + 1});
  return row;
}

}  // namespace

TEMPLATE_TEST_CASE("the CoPE kernel counts open gates from the last key back", "[kernels][cope]", float, double, bfloat16, float16) {
  using S = compute<TestType>;
  const double rounding = std::numeric_limits<S>::epsilon() / 2.0;
  std::vector<std::vector<S>> all;  // of every instruction set
  at_every_instruction_set([&] {
    std::vector<S> found;
    for (index_t keys = 0; keys <= 150; keys += keys < 20 ? 1 : 13)
      for (const bool gaps : {false, true})
        for (const S last : {S(3), S(7), S(8), S(9), S(11), S(1000)}) {
          const auto scores = random_stored<TestType>(5, keys);
          const S scale = 4;
          const auto ids = ids_of(keys);
          const auto row = count<TestType>(scores, scale, gaps ? ids.data() : nullptr, last);
          std::vector<double> gates_of;
          std::vector<bool> seen;
          for (index_t j = 0; j < keys; ++j) {
            gates_of.push_back(static_cast<double>(times(loaded(scores[static_cast<std::size_t>(j)]), scale)));
            seen.push_back(!gaps || ids[static_cast<std::size_t>(j)] != absent);
          }
          const auto want = reference::cope(gates_of, seen, std::vector<double>(static_cast<std::size_t>(last) + 1)).positions;
          INFO(keys << " keys" << (gaps ? ", gaps" : "") << ", " << last << " at last");
          bool right = row.positions.front() == -1 && row.positions.back() == -1 && row.slopes.front() == -1 && row.slopes.back() == -1;
          for (index_t j = 0; j < keys; ++j) {
            const auto k = static_cast<std::size_t>(j);
            const double got = static_cast<double>(row.positions[k + 1]), e = std::exp(-std::abs(gates_of[k]));
            if (j < row.at_last) {
              right = right && row.positions[k + 1] == -1 && (!seen[k] || want[k] >= static_cast<double>(last) * (1 - 11 * rounding));
              continue;
            }
            right = right && (!seen[k] || std::abs(got - want[k]) <= 11 * rounding * want[k]);
            right = right && (seen[k] ? std::abs(static_cast<double>(row.slopes[k + 1]) - e / ((1 + e) * (1 + e))) <= 14 * rounding * e
                                      : row.slopes[k + 1] == 0);
          }
          CHECK(right);
          CHECK((last < 1000 || row.at_last == 0));
          if (keys > 100 && last < 1000) CHECK(row.at_last > 0);
          found.insert(found.end(), row.positions.begin() + 1 + row.at_last, row.positions.end());
          found.insert(found.end(), row.slopes.begin() + 1 + row.at_last, row.slopes.end());
        }
    all.push_back(found);
  });
  for (const auto& one : all) CHECK(reference::bit_difference(one, all[0]) == "");
}

TEMPLATE_TEST_CASE("a gate of the CoPE kernel is within 3.5 units in the last place, its slope within 7", "[kernels][cope]", float,
                   double) {
  const double epsilon = static_cast<double>(std::numeric_limits<TestType>::epsilon());
  double worst = 0, worst_slope = 0;
  for (int n = -4000; n <= 4000; ++n) {
    const auto score = static_cast<TestType>(n * 0.005 + n * n * n * 1e-9);
    const auto row = count<TestType>({score}, 1, nullptr, 5);
    const long double e = std::exp(-static_cast<long double>(score)), exact = 1 / (1 + e), slope = e * exact * exact;
    worst = std::max(worst, static_cast<double>(std::abs(static_cast<long double>(row.positions[1]) - exact) / exact));
    worst_slope = std::max(worst_slope, static_cast<double>(std::abs(static_cast<long double>(row.slopes[1]) - slope) / slope));
  }
  CHECK(worst <= 3.5 * epsilon);
  CHECK(worst_slope <= 7 * epsilon);
  using limits = std::numeric_limits<TestType>;
  CHECK(count<TestType>({limits::infinity()}, 1, nullptr, 5).positions[1] == 1);
  CHECK(count<TestType>({-limits::infinity()}, 1, nullptr, 5).positions[1] == 0);
  CHECK(count<TestType>({limits::lowest()}, 1, nullptr, 5).positions[1] == 0);
  CHECK(std::isnan(count<TestType>({limits::quiet_NaN()}, 1, nullptr, 5).positions[1]));
  CHECK(count<TestType>({TestType(0)}, 1, nullptr, 5).slopes[1] == TestType(0.25));
}

TEMPLATE_TEST_CASE("a hundred thousand nearly closed gates are added up within 11 roundings", "[kernels][cope][long_double]", float,
                   double) {
  constexpr index_t keys = 100'000;
  auto scores = reference::random_stored<TestType>(6, keys);
  for (auto& score : scores) score = score - TestType(7.5);
  const auto row = count<TestType>(scores, 1, nullptr, 1000);
  REQUIRE(row.at_last == 0);
  long double sum = 0;
  double worst = 0;
  for (index_t j = keys; j-- > 0;) {
    sum += 1 / (1 + std::exp(-static_cast<long double>(scores[static_cast<std::size_t>(j)])));
    const auto got = static_cast<long double>(row.positions[static_cast<std::size_t>(j) + 1]);
    worst = std::max(worst, static_cast<double>(std::abs(got - sum) / sum));
  }
  CHECK(sum > 40);
  CHECK(worst <= 11 * static_cast<double>(std::numeric_limits<TestType>::epsilon()) / 2);
}

TEMPLATE_TEST_CASE("the CoPE kernel adds what it reads between two positions", "[kernels][cope]", float, double, bfloat16, float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    for (index_t keys = 0; keys <= 70; ++keys)
      for (const bool gaps : {false, true}) {
        const index_t last = keys < 30 ? 4 : 40, at_last = keys / 3;
        auto z = random_vector<S>(8, last + 1);
        z.resize(z.size() + posenc::kernels::cope_padding, z.back());
        auto positions = random_vector<S>(9, keys);  // they fall by 1 at most, but for rounding
        S sum = 0;
        for (index_t j = keys; j-- > 0;) {
          S& p = positions[static_cast<std::size_t>(j)];
          const S gate = j % 5 == 0 ? S(1) : j % 11 == 3 ? S(0) : p * p;
          sum = std::min(sum + (keys % 4 == 0 ? S(1) : gate), S(last));
          p = keys % 3 == 0 && j % 4 == 1 && sum < S(last) ? std::nextafter(sum, S(0)) : sum;
          if (keys % 10 == 7 && j < keys / 2) p = std::numeric_limits<S>::quiet_NaN();
        }
        const auto ids = ids_of(keys);
        auto scores = random_stored<TestType>(10, keys + 1), expected = scores;
        for (index_t j = 0; j < keys; ++j) {
          const auto k = static_cast<std::size_t>(j);
          if (gaps && ids[k] == absent) continue;
          const S p = j < at_last ? S(last) : positions[k], below = std::isnan(p) ? S(last) : std::floor(p);
          const auto n = static_cast<std::size_t>(below);
          const S read = plus(z[n], times(reference::minus(p, below), reference::minus(z[n + 1], z[n])));
          expected[k] = reference::stored<TestType>(plus(loaded(scores[k]), read));
        }
        posenc::kernels::cope<TestType>({.scores = scores.data(),
                                         .keys = keys,
                                         .at_last = at_last,
                                         .positions = positions.data(),
                                         .key_ids = gaps ? ids.data() : nullptr,
                                         .z = z.data(),
                                         .last = S(last)});
        INFO(keys << " keys" << (gaps ? ", gaps" : ""));
        CHECK(reference::bit_difference(loaded(scores), loaded(expected)) == "");
      }
  });
}

TEMPLATE_TEST_CASE("the gradient of the CoPE kernel is the sum over earlier keys, in double", "[kernels][cope]", float, double, bfloat16,
                   float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    for (const index_t keys : {0, 1, 5, 40})
      for (const bool gaps : {false, true})
        for (const bool to_scores : {false, true}) {
          const index_t last = 4, at_last = keys / 3;
          auto z = random_vector<S>(8, last + 1);
          z.push_back(z.back());
          auto positions = random_vector<S>(9, keys);
          for (auto& p : positions) p = (p + 1) * S(2);
          if (keys > 2) positions[static_cast<std::size_t>(keys - 1)] = S(last), positions[static_cast<std::size_t>(keys - 2)] = S(1);
          const auto ids = ids_of(keys);
          auto d = random_stored<TestType>(10, keys);
          auto slopes = random_vector<S>(11, keys);
          std::vector<double> d_z{1, 2, 3, 4, 5, 0}, want_z = d_z;
          std::vector<S> want = slopes;
          std::vector<TestType> want_d = d;
          const double scale = 0.5;
          // For each key the sum anew, over all keys before it.
          for (index_t j = 0; j < keys; ++j) {
            const auto k = static_cast<std::size_t>(j);
            const bool counts = !gaps || ids[k] != absent;
            double sum = 0;
            for (index_t i = at_last; i <= j; ++i) {
              const auto m = static_cast<std::size_t>(i);
              const auto above = static_cast<std::size_t>(std::ceil(positions[m])), below = static_cast<std::size_t>(positions[m]);
              if (gaps && ids[m] == absent) continue;
              sum += static_cast<double>(loaded(d[m])) * (static_cast<double>(z[above]) - static_cast<double>(z[below]));
            }
            const S own = counts && j >= at_last ? static_cast<S>(sum * static_cast<double>(slopes[k]) * scale) : S(0);
            if (!to_scores) want[k] = own;
            else if (counts && j >= at_last) want_d[k] = reference::stored<TestType>(plus(loaded(d[k]), own));
            const double p = j < at_last ? static_cast<double>(last) : static_cast<double>(positions[k]), below = std::floor(p);
            if (counts) want_z[static_cast<std::size_t>(below)] += static_cast<double>(loaded(d[k])) * (1 - (p - below));
            if (counts && p > below) want_z[static_cast<std::size_t>(below) + 1] += static_cast<double>(loaded(d[k])) * (p - below);
          }
          posenc::kernels::cope_gradient<TestType>({.d_scores = d.data(),
                                                    .keys = keys,
                                                    .at_last = at_last,
                                                    .positions = positions.data(),
                                                    .key_ids = gaps ? ids.data() : nullptr,
                                                    .z = z.data(),
                                                    .last = S(last),
                                                    .scale = S(scale),
                                                    .slopes = slopes.data(),
                                                    .d_z = d_z.data(),
                                                    .add_to_scores = to_scores});
          INFO(keys << " keys" << (gaps ? ", gaps" : "") << (to_scores ? ", to scores" : ""));
          CHECK(reference::bit_difference(slopes, want) == "");
          CHECK(reference::bit_difference(loaded(d), loaded(want_d)) == "");
          CHECK(reference::difference(d_z, want_z, 0) == "");
        }
  });
}
