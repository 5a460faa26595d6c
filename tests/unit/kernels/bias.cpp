// SPDX-License-Identifier: MIT
#include <posenc/kernels/bias.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/bias.hpp"
#include "reference/difference.hpp"
#include "reference/stored.hpp"

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <numeric>
#include <vector>

namespace {

using posenc::kernels::absent;
using posenc::kernels::bfloat16;
using posenc::kernels::bias_backward_call;
using posenc::kernels::bias_call;
using posenc::kernels::distance;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using reference::compute;
using reference::loaded;
using reference::random_stored;

constexpr distance forms[] = {distance::causal, distance::symmetric, distance::key};

// The first query, the first key and the reference.
struct place {
  const char* name;
  std::int64_t query, key, reference;
};
// Three queries and up to 70 keys around each; float counts exactly to 2^24, double to 2^53.
constexpr std::int64_t float_limit = std::int64_t{1} << 24, double_limit = std::int64_t{1} << 53, far = std::int64_t{1} << 62;
constexpr place places[] = {
    {"at the beginning", 0, 0, 0},
    {"after a cache", 40, 0, 41},
    {"all keys ahead", -7, 90, -3},
    {"negative", -1000, -1030, -980},
    {"across the last exact float", float_limit, -35, 35},
    {"a distance of the last exact float", float_limit - 80, 0, 0},
    {"across the last exact float, ahead", 35, float_limit, float_limit / 2},
    {"a far reference", 5, 0, -float_limit + 20},
    {"across the last exact double", double_limit, -35, 35},
    {"across the last exact double, ahead", 35, double_limit, -double_limit},
    {"as far as positions go", far - 100, -far, far},
    {"as far as positions go, ahead", -far, far - 100, -far},
};

enum class ids { none, keys, both };

// Scores of 3 heads and 3 queries with room around every row, from an element that is not aligned.
template <class T>
struct problem {
  using S = compute<T>;
  static constexpr index_t heads = 3, queries = 3, shift = 1;

  problem(const place& around, index_t number_of_keys, ids kind, distance which, bool is_causal, bool slopes_differ = false)
      : start(around),
        keys(number_of_keys),
        form(which),
        causal(is_causal),
        two_sided(slopes_differ),
        scores(random_stored<T>(5, shift + heads * queries * (keys + 2) + 4)) {
    if (kind == ids::none) return;
    for (index_t j = 0; j < keys; ++j) key_ids.push_back(j % 7 == 3 ? absent : around.key + j);
    if (kind == ids::both)
      for (index_t i = 0; i < queries; ++i) query_ids.push_back(i == 1 ? absent : around.query + 2 * i);
  }
  bias_call<T> call(std::vector<T>& to) const {
    return {{.scores = to.data() + shift,
             .heads = heads,
             .queries = queries,
             .keys = keys,
             .head = queries * (keys + 2),
             .query = keys + 2,
             .query_ids = query_ids.empty() ? nullptr : query_ids.data(),
             .query_first = start.query,
             .key_ids = key_ids.empty() ? nullptr : key_ids.data(),
             .key_first = start.key,
             .scale = scale,
             .causal = causal},
            slopes.data(),
            form,
            start.reference,
            two_sided ? slopes_after.data() : nullptr};
  }
  std::string text() const {
    return std::string(start.name) + ", form " + std::to_string(static_cast<int>(form)) + (two_sided ? ", two-sided" : "") +
           (causal ? ", causal, " : ", ") + std::to_string(keys) + " keys";
  }

  place start;
  index_t keys;
  distance form;
  bool causal, two_sided;
  std::vector<T> scores;
  std::vector<std::int64_t> query_ids, key_ids;
  std::array<S, heads> slopes{S(0.5), S(-0.3), S(0)}, slopes_after{S(0.1), S(0), S(-0.7)};
  S scale = S(0.7);
};

template <class T>
void for_each_problem(index_t most_keys, auto&& test) {
  for (const auto& around : places)
    for (const auto kind : {ids::none, ids::keys, ids::both})
      for (const auto form : forms)
        for (const bool causal : {false, true})
          for (index_t keys = 1; keys <= most_keys; keys += kind == ids::none ? 1 : 5)
            for (const bool slopes_differ : {false, true})
              if (!slopes_differ || form == distance::symmetric) test(problem<T>(around, keys, kind, form, causal, slopes_differ));
}

}  // namespace

TEMPLATE_TEST_CASE("the bias kernel scales, biases and masks every pair and touches nothing else", "[kernels][bias]", float, double,
                   bfloat16, float16) {
  at_every_instruction_set([] {
    for_each_problem<TestType>(70, [](const problem<TestType>& given) {
      auto got = given.scores, expected = given.scores;
      posenc::kernels::bias(given.call(got));
      reference::bias(given.call(expected));
      INFO(given.text());
      CHECK(reference::bit_difference(loaded(got), loaded(expected)) == "");
    });
  });
}

TEMPLATE_TEST_CASE("the bias kernel reads one tensor and writes another", "[kernels][bias]", float, double, bfloat16, float16) {
  at_every_instruction_set([] {
    for_each_problem<TestType>(40, [](const problem<TestType>& given) {
      const auto untouched = random_stored<TestType>(6, static_cast<index_t>(given.scores.size()));
      const auto in = random_stored<TestType>(7, 3 + 3 * 50 * 4);  // strides of its own
      auto got = untouched, expected = untouched;
      const auto call = [&](std::vector<TestType>& out) {
        auto made = given.call(out);
        made.in = in.data() + 3, made.in_head = 50 * 4, made.in_query = 50;
        return made;
      };
      posenc::kernels::bias(call(got));
      reference::bias(call(expected));
      INFO(given.text());
      CHECK(reference::bit_difference(loaded(got), loaded(expected)) == "");
    });
  });
}

TEMPLATE_TEST_CASE("the bias kernel needs no scale", "[kernels][bias]", float, double, bfloat16, float16) {
  at_every_instruction_set([] {
    for_each_problem<TestType>(40, [](problem<TestType> given) {
      given.scale = 1;
      auto got = given.scores, expected = given.scores;
      posenc::kernels::bias(given.call(got));
      reference::bias(given.call(expected));
      INFO(given.text());
      CHECK(reference::bit_difference(loaded(got), loaded(expected)) == "");
    });
  });
}

TEMPLATE_TEST_CASE("the bias kernel writes the same bits for a range and for the ids of that range", "[kernels][bias]", float, double,
                   bfloat16, float16) {
  at_every_instruction_set([] {
    for_each_problem<TestType>(70, [](const problem<TestType>& given) {
      if (!given.key_ids.empty()) return;
      problem<TestType> same = given;
      for (index_t j = 0; j < same.keys; ++j) same.key_ids.push_back(same.start.key + j);
      for (index_t i = 0; i < same.queries; ++i) same.query_ids.push_back(same.start.query + i);
      auto range = given.scores, from_ids = given.scores;
      for (std::size_t n = 0; n < range.size(); n += 4)
        range[n] = from_ids[n] = reference::stored<TestType>(-compute<TestType>(0));  // whose sign a zero of either sign decides
      posenc::kernels::bias(given.call(range));
      posenc::kernels::bias(same.call(from_ids));
      INFO(given.text());
      CHECK(reference::bit_difference(loaded(range), loaded(from_ids)) == "");
    });
  });
}

TEMPLATE_TEST_CASE("the bias kernel handles not-a-number, infinities, subnormals and zeros by value", "[kernels][bias]", float, double,
                   bfloat16, float16) {
  using S = compute<TestType>;
  const auto specials = reference::special_values<S>();
  at_every_instruction_set([&] {
    for (const auto kind : {ids::none, ids::both})
      for (const auto form : forms)
        for (const S slope : specials) {
          problem<TestType> given(places[1], 45, kind, form, true);
          for (std::size_t n = 0; n < given.scores.size(); ++n)
            given.scores[n] = reference::stored<TestType>(specials[n % specials.size()]);
          given.slopes[1] = slope;
          auto got = given.scores, expected = given.scores;
          posenc::kernels::bias(given.call(got));
          reference::bias(given.call(expected));
          INFO(given.text() << ", slope " << slope);
          CHECK(reference::bit_difference(loaded(got), loaded(expected)) == "");
        }
  });
}

TEMPLATE_TEST_CASE("the backward bias kernel sums distances, scales and masks", "[kernels][bias]", float, double, bfloat16, float16) {
  at_every_instruction_set([] {
    for_each_problem<TestType>(40, [](const problem<TestType>& given) {
      auto got = given.scores, expected = given.scores;
      std::vector<double> sums{1, -2, 0.5, 3, 0.25, -4}, expected_sums = sums;  // it adds to what is there
      const auto after = [&](std::vector<double>& all) { return given.two_sided ? all.data() + 3 : nullptr; };
      posenc::kernels::bias_backward<TestType>({given.call(got), sums.data(), after(sums)});
      const double magnitude = reference::bias_backward<TestType>({given.call(expected), expected_sums.data(), after(expected_sums)});
      INFO(given.text());
      CHECK(reference::bit_difference(loaded(got), loaded(expected)) == "");
      CHECK(reference::difference(sums, expected_sums, (magnitude + 2) * 1e-14) == "");  // 120 additions of 1.1e-16 each
    });
  });
}

TEMPLATE_TEST_CASE("keys that are not before the query add nothing to the causal gradient, however large", "[kernels][bias]", float, double,
                   bfloat16, float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    for (const bool by_ids : {false, true})
      for (const bool causal : {false, true})
        for (const index_t keys : {5, 37, 70}) {
          constexpr std::int64_t query = 3;
          std::vector<TestType> d_scores(static_cast<std::size_t>(keys), reference::stored<TestType>(std::numeric_limits<S>::infinity()));
          for (std::size_t j = 0; j < query; ++j) d_scores[j] = reference::stored<TestType>(S(2));
          std::vector<std::int64_t> key_ids(static_cast<std::size_t>(keys));
          std::iota(key_ids.begin(), key_ids.end(), 0);
          const S slope = 1;
          double sum = 0;
          posenc::kernels::bias_backward<TestType>({{{.scores = d_scores.data(),
                                                      .heads = 1,
                                                      .queries = 1,
                                                      .keys = keys,
                                                      .head = keys,
                                                      .query = keys,
                                                      .query_ids = nullptr,
                                                      .query_first = query,
                                                      .key_ids = by_ids ? key_ids.data() : nullptr,
                                                      .key_first = 0,
                                                      .scale = 1,
                                                      .causal = causal},
                                                     &slope,
                                                     distance::causal,
                                                     0},
                                                    &sum});
          CHECK(sum == 2 * (-3 - 2 - 1));
        }
  });
}

TEST_CASE("the bias kernels do nothing where there is nothing", "[kernels][bias]") {
  at_every_instruction_set([] {
    for (const auto& [heads, queries, keys] : {std::array<index_t, 3>{0, 3, 5}, {3, 0, 5}, {3, 3, 0}}) {
      const problem<float> given(places[0], 5, ids::none, distance::causal, true);
      auto got = given.scores;
      auto call = given.call(got);
      call.heads = heads, call.queries = queries, call.keys = keys;
      posenc::kernels::bias(call);
      double sums[3] = {};
      posenc::kernels::bias_backward<float>({call, sums});
      CHECK(reference::bit_difference(got, given.scores) == "");
      CHECK((sums[0] == 0 && sums[1] == 0 && sums[2] == 0));
    }
  });
}
