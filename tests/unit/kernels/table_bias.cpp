// SPDX-License-Identifier: MIT
#include <posenc/kernels/table_bias.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/stored.hpp"
#include "reference/table_bias.hpp"

#include <array>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

namespace {

using posenc::kernels::absent;
using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using posenc::kernels::key_run;
using posenc::kernels::table_bias_call;
using posenc::kernels::value_of;
using reference::compute;
using reference::loaded;
using reference::random_stored;

constexpr std::int64_t far = std::int64_t{1} << 62;

/// What does not depend on the scalar.
struct form {
  std::vector<std::int64_t> queries;  // positions
  std::vector<std::int64_t> keys;
  std::int64_t low;
  index_t count;
  bool clip = true, causal = false, own_values = false, key_values = false, run_values = false, another = false, by_key = false,
       range = false;
  double scale = 0.7;

  std::string text() const {
    return std::to_string(queries.size()) + " queries from " + std::to_string(queries.empty() ? 0 : queries[0]) + ", " +
           std::to_string(keys.size()) + " keys from " + std::to_string(keys.empty() ? 0 : keys[0]) + ", " + std::to_string(count) +
           " values from " + std::to_string(low) + (clip ? ", clip" : "") + (causal ? ", causal" : "") +
           (own_values ? ", own values" : "") + (key_values ? ", key values" : "") + (run_values ? ", run values" : "") +
           (another ? ", to another" : "") + (by_key ? ", by key" : "") + (range ? ", range" : "");
  }
};

std::vector<std::int64_t> counting(std::int64_t first, index_t count) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), first);
  return all;
}
/// Runs of that many keys, some of them absent, some of the same positions as earlier ones.
std::vector<std::int64_t> in_runs(index_t length, index_t count) {
  std::vector<std::int64_t> all;
  for (index_t j = 0; j < count; ++j) {
    const index_t run = j / length;
    all.push_back(run % 5 == 3 ? absent : run * 11 % 37 + j % length);
  }
  return all;
}

/// Scores of 2 heads with room around every row, from an element that is not aligned.
template <class T>
struct problem {
  using S = compute<T>;
  static constexpr index_t heads = 2;

  explicit problem(const form& given)
      : of(given),
        queries(static_cast<index_t>(of.queries.size())),
        keys(static_cast<index_t>(of.keys.size())),
        count(of.by_key ? keys : of.count),
        row(keys + 3),
        scores(random_stored<T>(1, 1 + heads * queries * row)),
        in(random_stored<T>(2, 2 + heads * queries * (row + 4))),
        values(random_vector<S>(3, heads * (of.own_values ? queries * count : count))),
        key_values(random_vector<S>(4, heads * keys)),
        runs(reference::runs_of(of.keys)),
        run_values(random_vector<S>(7, heads * queries * static_cast<index_t>(runs.size()))) {}

  table_bias_call<T> call(std::vector<T>& to) const {
    return {{.scores = to.data() + 1,
             .heads = heads,
             .queries = queries,
             .keys = keys,
             .head = queries * row,
             .query = row,
             .query_ids = of.range ? nullptr : of.queries.data(),
             .query_first = of.range ? of.queries[0] : 0,
             .key_ids = of.keys.data(),
             .key_first = 0,
             .scale = static_cast<S>(of.scale),
             .causal = of.causal,
             .in = of.another ? in.data() + 2 : nullptr,
             .in_head = queries * (row + 4),
             .in_query = row + 4},
            runs.data(),
            static_cast<index_t>(runs.size()),
            values.data(),
            of.own_values ? queries * count : count,
            of.own_values ? count : 0,
            of.by_key ? value_of::key : value_of::distance,
            of.low,
            count,
            of.clip,
            of.key_values ? key_values.data() : nullptr,
            keys,
            of.run_values ? run_values.data() : nullptr,
            queries * static_cast<index_t>(runs.size()),
            static_cast<index_t>(runs.size())};
  }

  form of;
  index_t queries, keys, count, row;
  std::vector<T> scores, in;
  std::vector<S> values, key_values;
  std::vector<key_run> runs;
  std::vector<S> run_values;
};

/// Everything that the kernels tell apart, and every end of a row and of a block of rows.
std::vector<form> forms() {
  std::vector<form> all;
  for (index_t keys = 1; keys <= 75; keys += keys < 20 ? 1 : 5)  // all in the table, clipped, and the mask
    for (const bool causal : {false, true}) {
      const index_t queries = 1 + keys * 7 % 71;
      all.push_back({.queries = counting(keys % 9, queries),
                     .keys = counting(0, keys),
                     .low = -90,
                     .count = 180,
                     .causal = causal,
                     .range = keys % 2 == 0});
      all.push_back(
          {.queries = counting(2, 9), .keys = counting(0, keys), .low = -3, .count = 1 + keys % 8, .clip = keys % 3 > 0, .causal = causal});
    }
  for (const index_t queries : {31, 32, 33, 64, 67})  // blocks of rows
    for (const index_t keys : {15, 16, 17, 31, 32, 33, 40, 63, 64, 65, 131}) {
      const auto at = counting(5, queries), to = counting(-3, keys);
      all.push_back({.queries = at, .keys = to, .low = -8 - queries, .count = queries + keys, .range = true});  // just enough
      all.push_back({.queries = at, .keys = to, .low = -6 - queries, .count = queries + keys, .range = true});  // too few below
      all.push_back({.queries = at, .keys = to, .low = -8 - queries, .count = queries + keys - 3, .key_values = true});
      all.push_back({.queries = at, .keys = to, .low = -200, .count = 400, .causal = true, .key_values = true, .range = true});
    }
  for (const index_t length : {1, 2, 3, 5, 7, 8, 9, 17, 40})
    for (const bool causal : {false, true})
      for (const bool key_values : {false, true}) {
        const auto keys = in_runs(length, 3 + length * 9);
        all.push_back({.queries = counting(10, 41),
                       .keys = keys,
                       .low = -70,
                       .count = 200,
                       .causal = causal,
                       .key_values = key_values,
                       .range = true});
        all.push_back({.queries = {4, absent, 20, 19, 19, 60, 0},
                       .keys = keys,
                       .low = -9,
                       .count = 20,
                       .clip = false,
                       .causal = causal,
                       .key_values = key_values});
        all.push_back({.queries = {4, 5, 6, 7, absent},
                       .keys = keys,
                       .low = -9,
                       .count = 12,
                       .causal = causal,
                       .own_values = true,
                       .key_values = key_values,
                       .another = true});
        all.push_back({.queries = {4, 30, absent},
                       .keys = keys,
                       .low = 0,
                       .count = 1,
                       .clip = false,
                       .causal = causal,
                       .own_values = length % 2 == 1,
                       .key_values = key_values,
                       .by_key = true});
      }
  for (const index_t length : {1, 3, 8, 40})  // values of runs
    for (const bool own_values : {false, true})
      for (const bool clip : {false, true})
        all.push_back({.queries = {4, 5, 6, 7, 8, absent, 20, 19},
                       .keys = in_runs(length, 3 + length * 9),
                       .low = -9,
                       .count = own_values ? 12 : 90,
                       .clip = clip,
                       .causal = clip,
                       .own_values = own_values,
                       .run_values = true});
  for (const auto low : {-far, std::int64_t{-5}, far - 30})  // differences that 64 bits do not hold
    for (const auto query : {-far, std::int64_t{0}, far - 40})
      for (const auto key : {-far, std::int64_t{0}, far - 80})
        for (const bool causal : {false, true})
          all.push_back(
              {.queries = counting(query, 40), .keys = counting(key, 80), .low = low, .count = 30, .causal = causal, .range = causal});
  all.push_back(
      {.queries = counting(0, 70), .keys = counting(0, 70), .low = -70, .count = 141, .another = true, .range = true, .scale = 1});
  all.push_back({.queries = counting(0, 70), .keys = counting(0, 70), .low = -10, .count = 21, .causal = true, .range = true, .scale = 1});
  return all;
}

template <class T>
void for_each_problem(auto&& test) {
  for (const form& one : forms()) {
    INFO(one.text());
    test(problem<T>(one));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("the table bias kernel scales, adds and masks every pair and touches nothing else", "[kernels][table_bias]", float,
                   double, bfloat16, float16) {
  at_every_instruction_set([] {
    for_each_problem<TestType>([](const problem<TestType>& given) {
      auto got = given.scores, expected = given.scores;
      posenc::kernels::table_bias(given.call(got));
      reference::table_bias(given.call(expected));
      CHECK(reference::bit_difference(loaded(got), loaded(expected)) == "");
    });
  });
}

TEMPLATE_TEST_CASE("the table bias kernel handles not-a-number, infinities, subnormals and zeros by value", "[kernels][table_bias]", float,
                   bfloat16) {
  using S = compute<TestType>;
  const auto specials = reference::special_values<S>();
  at_every_instruction_set([&] {
    for (const bool clip : {false, true})
      for (const bool key_values : {false, true})
        for (const double scale : {1.0, -0.5}) {
          problem<TestType> given({.queries = counting(0, 40),
                                   .keys = in_runs(23, 90),
                                   .low = -20,
                                   .count = 31,
                                   .clip = clip,
                                   .causal = true,
                                   .key_values = key_values,
                                   .scale = scale});
          for (std::size_t n = 0; n < given.scores.size(); ++n)
            given.scores[n] = reference::stored<TestType>(specials[n % specials.size()]);
          for (std::size_t n = 0; n < given.values.size(); ++n) given.values[n] = specials[n * 5 % specials.size()];
          for (std::size_t n = 0; n < given.key_values.size(); n += 3) given.key_values[n] = specials[n * 7 % specials.size()];
          auto got = given.scores, expected = given.scores;
          posenc::kernels::table_bias(given.call(got));
          reference::table_bias(given.call(expected));
          CHECK(reference::bit_difference(loaded(got), loaded(expected)) == "");
        }
  });
}

namespace {

/// Sums go on from what is there.
template <class A, class T>
void check_gradient() {
  at_every_instruction_set([] {
    for_each_problem<T>([](const problem<T>& given) {
      if (given.of.another) return;
      auto got = given.scores, expected = given.scores;
      const auto start = random_vector<A>(5, static_cast<index_t>(given.values.size())),
                 key_start = random_vector<A>(6, static_cast<index_t>(given.key_values.size()));
      const auto run_start = random_vector<A>(8, static_cast<index_t>(given.run_values.size()));
      auto d_values = start, expected_d_values = start, d_keys = key_start, expected_d_keys = key_start, d_runs = run_start,
           expected_d_runs = run_start;
      const bool by_keys = given.of.key_values, by_runs = given.of.run_values;
      posenc::kernels::table_bias_gradient<T, A>(
          {given.call(got), d_values.data(), by_keys ? d_keys.data() : nullptr, by_runs ? d_runs.data() : nullptr});
      reference::table_bias_gradient<T, A>({given.call(expected), expected_d_values.data(), by_keys ? expected_d_keys.data() : nullptr,
                                            by_runs ? expected_d_runs.data() : nullptr});
      CHECK(reference::bit_difference(loaded(got), loaded(expected)) == "");
      CHECK(reference::bit_difference(d_values, expected_d_values) == "");
      CHECK(reference::bit_difference(d_keys, expected_d_keys) == "");
      CHECK(reference::bit_difference(d_runs, expected_d_runs) == "");
    });
  });
}

}  // namespace

TEMPLATE_TEST_CASE("the gradient of a table bias is summed in the promised order, scaled and masked", "[kernels][table_bias]", float,
                   double, bfloat16, float16) {
  check_gradient<double, TestType>();
}

TEMPLATE_TEST_CASE("the gradient of a table bias can be summed in the scalar of the scores", "[kernels][table_bias]", float, bfloat16) {
  check_gradient<float, TestType>();
}

TEST_CASE("masked pairs add nothing to the gradient, were they infinite, and become zeros", "[kernels][table_bias]") {
  at_every_instruction_set([] {
    const problem<float> given(
        {.queries = counting(0, 40), .keys = counting(0, 40), .low = -39, .count = 40, .causal = true, .range = true, .scale = 1});
    auto d = given.scores;
    auto call = given.call(d);
    std::vector<double> d_values(given.values.size());
    for (index_t h = 0; h < call.heads; ++h)
      for (index_t i = 0; i < call.queries; ++i)
        for (index_t j = 0; j < call.keys; ++j)
          call.scores[h * call.head + i * call.query + j] = j > i ? std::numeric_limits<float>::infinity() : 1;
    posenc::kernels::table_bias_gradient<float, double>({call, d_values.data()});
    for (index_t n = 0; n < 80; ++n) CHECK(d_values[static_cast<std::size_t>(n)] == static_cast<double>(n % 40 + 1));
    for (index_t i = 0; i < call.queries; ++i)
      for (index_t j = 0; j < call.keys; ++j) CHECK(call.scores[i * call.query + j] == (j > i ? 0.0f : 1.0f));
  });
}

TEST_CASE("the table bias kernels do nothing where there is nothing", "[kernels][table_bias]") {
  at_every_instruction_set([] {
    for (const auto& [heads, queries, keys] : {std::array<index_t, 3>{0, 3, 5}, {2, 0, 5}, {2, 3, 0}}) {
      const problem<float> given({.queries = counting(0, 3), .keys = counting(0, 5), .low = -3, .count = 9});
      auto got = given.scores;
      auto call = given.call(got);
      call.heads = heads, call.queries = queries, call.keys = keys;
      if (keys == 0) call.run_count = 0;
      posenc::kernels::table_bias(call);
      std::vector<double> d_values(given.values.size());
      posenc::kernels::table_bias_gradient<float, double>({call, d_values.data()});
      CHECK(reference::bit_difference(got, given.scores) == "");
      CHECK(reference::bit_difference(d_values, std::vector<double>(given.values.size())) == "");
    }
  });
}
