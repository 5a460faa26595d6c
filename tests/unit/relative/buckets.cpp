// SPDX-License-Identifier: MIT
#include <posenc/relative/buckets.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"
#include "reference/t5.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

using namespace posenc;

namespace {

constexpr auto both = t5_direction::bidirectional, causal = t5_direction::causal;
constexpr position far_away[] = {1'000'001,         (position{1} << 31) - 1,
                                 position{1} << 31, (position{1} << 31) + 7,
                                 position{1} << 53, std::numeric_limits<position>::max()};

std::vector<position> listed(std::span<const position> all) { return {all.begin(), all.end()}; }

/// The number of the last of these edges that n has reached.
index_t number_of(const std::vector<position>& edges, position n) {
  return static_cast<index_t>(std::ranges::count_if(edges, [&](position edge) { return edge <= n; })) - 1;
}

}  // namespace

TEST_CASE("T5 buckets begin where the papers' settings say", "[buckets]") {
  // 8 * 16^(m / 8): 8, 11.3, 16, 22.6, 32, 45.3, 64, 90.5.
  const t5_buckets encoder({.direction = both});
  CHECK(listed(encoder.thresholds()) == std::vector<position>{0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91});
  CHECK(encoder.ends() == distance_range{-91, 91});
  CHECK(encoder.num_buckets() == 32);
  const std::vector<std::pair<position, index_t>> pairs{{0, 0},    {-1, 1},  {1, 17},     {-7, 7},  {7, 23},  {-8, 8},
                                                        {-11, 8},  {-12, 9}, {8, 24},     {15, 25}, {16, 26}, {-90, 14},
                                                        {-91, 15}, {91, 31}, {-4000, 15}, {128, 31}};
  for (const auto& [distance, bucket] : pairs) {
    INFO(distance);
    CHECK(encoder.bucket(distance) == bucket);
  }
  // 16 * 8^(m / 16), of which m = 15 is 112.6.
  const t5_buckets decoder({.direction = causal});
  CHECK(decoder.thresholds().size() == 32);
  CHECK(decoder.thresholds()[31] == 113);
  CHECK(decoder.ends() == distance_range{-113, 0});
  CHECK(decoder.bucket(-112) == 30);
  CHECK(decoder.bucket(-113) == 31);
  for (const position after : {1, 2, 1000}) CHECK(decoder.bucket(after) == 0);
}

TEST_CASE("T5 buckets are those of exact arithmetic for all distances up to a million", "[buckets]") {
  struct {
    index_t buckets;
    position max_distance;
  } const grid[] = {{2, 2},          {3, 2},    {4, 3},        {5, 3},     {6, 1000},        {8, 5},        {10, 16},
                    {16, 4096},      {31, 100}, {32, 17},      {32, 128},  {32, 65'536},     {33, 243},     {48, 20'000},
                    {64, 1'000'000}, {96, 49},  {100, 12'345}, {160, 800}, {12, 2147483647}, {14, 1 << 20}, {20, position{1} << 31}};
  for (const auto& [buckets, max_distance] : grid) {
    INFO(buckets << " buckets, max_distance " << max_distance);
    const auto edges = reference::t5_edges(buckets, max_distance);
    const t5_buckets before({.direction = causal, .num_buckets = buckets, .max_distance = max_distance}),
        around({.direction = both, .num_buckets = 2 * buckets, .max_distance = max_distance});
    CHECK(listed(before.thresholds()) == edges);
    CHECK(listed(around.thresholds()) == edges);
    std::size_t next = 1;
    std::string wrong;
    for (position n = 0; n <= 1'000'000 && wrong.empty(); ++n) {
      while (next < edges.size() && edges[next] <= n) ++next;
      const auto bucket = static_cast<index_t>(next) - 1;
      if (before.bucket(-n) != bucket || around.bucket(-n) != bucket || before.bucket(n) != 0 ||
          around.bucket(n) != (n > 0 ? bucket + buckets : 0))
        wrong = std::to_string(n);
    }
    CHECK(wrong == "");
    for (const position n : far_away) {
      const index_t bucket = number_of(edges, n);
      CHECK(around.bucket(n) == buckets + bucket);
      CHECK(around.bucket(-n - 1) == number_of(edges, n == far_away[5] ? n : n + 1));
      CHECK(before.bucket(-n) == bucket);
      CHECK(before.bucket(n) == 0);
    }
  }
}

TEST_CASE("T5 buckets of many small settings and of edges next to whole numbers are those of exact arithmetic", "[buckets]") {
  const auto check = [](index_t buckets, position max_distance) {
    INFO(buckets << " buckets, max_distance " << max_distance);
    CHECK(listed(t5_buckets({.direction = causal, .num_buckets = buckets, .max_distance = max_distance}).thresholds()) ==
          reference::t5_edges(buckets, max_distance));
  };
  for (index_t buckets = 2; buckets <= 20; ++buckets)
    for (position max_distance = buckets / 2 + 1; max_distance <= 40; ++max_distance) check(buckets, max_distance);
  // The square root of 2 max_distance is 2^16 or 2^16 - 1, or 2^-17 beside it.
  for (const position max_distance : {2147483647, 2147418113, 2147418112}) check(4, max_distance);
  check(4, position{1} << 31);
}

TEST_CASE("T5 buckets have edges on whole numbers, where rounding decides nothing", "[buckets]") {
  // 3 * 3^(m / 3) is whole for m = 0 and 3 alone, 8 * 8^(m / 9) for every third one, 1 * 2^m for all.
  CHECK(listed(t5_buckets({.direction = causal, .num_buckets = 6, .max_distance = 9}).thresholds()) ==
        std::vector<position>{0, 1, 2, 3, 5, 7});
  CHECK(listed(t5_buckets({.direction = causal, .num_buckets = 17, .max_distance = 64}).thresholds()) ==
        std::vector<position>{0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 16, 21, 26, 32, 41, 51});
  CHECK(listed(t5_buckets({.direction = causal, .num_buckets = 3, .max_distance = 4}).thresholds()) == std::vector<position>{0, 1, 2});
}

TEST_CASE("T5 buckets of a bidirectional encoder: the middle one is never used", "[buckets]") {
  const t5_buckets encoder({.direction = both, .num_buckets = 64, .max_distance = 256});
  std::vector<bool> used(64);
  for (position distance = -300; distance <= 300; ++distance) used[static_cast<std::size_t>(encoder.bucket(distance))] = true;
  for (std::size_t bucket = 0; bucket < 64; ++bucket) CHECK(used[bucket] == (bucket != 32));
}

TEST_CASE("DeBERTa buckets are those of exact arithmetic", "[buckets]") {
  struct {
    index_t size;
    position max_position;
  } const grid[] = {{4, 4}, {4, 1000}, {6, 10}, {8, 65}, {16, 20}, {32, 128}, {64, 2147483647}, {128, 512}, {256, 512}, {256, 130}};
  for (const auto& [size, max_position] : grid) {
    INFO("size " << size << ", max_position " << max_position);
    const auto edges = reference::deberta_edges(size, max_position, size);
    const deberta_buckets clamped({.bucket_size = size, .max_position = max_position, .clamp = deberta_clamp::microsoft}),
        going_on({.bucket_size = size, .max_position = max_position, .clamp = deberta_clamp::huggingface});
    CHECK(listed(going_on.thresholds()) == edges);
    CHECK(listed(clamped.thresholds()) == std::vector<position>(edges.begin(), edges.end() - 1));
    std::string wrong;
    for (position n = 0; n <= 3000 && wrong.empty(); ++n) {
      const index_t bucket = number_of(edges, n), last = number_of(edges, std::min(n, max_position - 1));
      if (going_on.bucket(-n) != bucket || going_on.bucket(n) != -bucket || clamped.bucket(-n) != last || clamped.bucket(n) != -last)
        wrong = std::to_string(n);
    }
    CHECK(wrong == "");
    for (const position n : far_away) {
      CHECK(going_on.bucket(n) == -number_of(edges, n));
      CHECK(clamped.bucket(-n - 1) == number_of(edges, std::min(n, max_position - 1)));
    }
  }
  CHECK(deberta_buckets({.bucket_size = 256, .max_position = 512, .clamp = deberta_clamp::microsoft}).bucket(-511) == 255);
  CHECK(deberta_buckets({.bucket_size = 256, .max_position = 512, .clamp = deberta_clamp::microsoft}).bucket(512) == -255);
  CHECK(deberta_buckets({.bucket_size = 256, .max_position = 512, .clamp = deberta_clamp::huggingface}).bucket(512) == -256);
}

TEST_CASE("nothing changes outside the ends of buckets", "[buckets]") {
  const auto check = [](const auto& buckets) {
    const distance_range ends = buckets.ends();
    CHECK(buckets.bucket(ends.low) == buckets.bucket(ends.low - 1));
    CHECK(buckets.bucket(ends.low) == buckets.bucket(std::numeric_limits<position>::min()));
    CHECK(buckets.bucket(ends.high) == buckets.bucket(ends.high + 1));
    CHECK(buckets.bucket(ends.high) == buckets.bucket(std::numeric_limits<position>::max()));
    CHECK(buckets.bucket(ends.low) != buckets.bucket(ends.low + 1));
    CHECK(buckets.bucket(ends.high) != buckets.bucket(ends.high - 1));
  };
  for (const auto direction : {both, causal}) check(t5_buckets({.direction = direction}));
  for (const auto clamp : {deberta_clamp::microsoft, deberta_clamp::huggingface})
    check(deberta_buckets({.bucket_size = 256, .max_position = 512, .clamp = clamp}));
}

TEST_CASE("buckets are equal where their options are", "[buckets]") {
  const t5_buckets buckets({.direction = both});
  CHECK(buckets == t5_buckets({.direction = both, .num_buckets = 32, .max_distance = 128}));
  CHECK(buckets != t5_buckets({.direction = causal}));
  CHECK(buckets != t5_buckets({.direction = both, .num_buckets = 30}));
  CHECK(buckets != t5_buckets({.direction = both, .max_distance = 127}));
  CHECK(buckets.options() == t5_buckets_options{.direction = both});
  CHECK(t5_buckets::name() == "t5_buckets");
  const deberta_buckets_options options{.bucket_size = 256, .max_position = 512, .clamp = deberta_clamp::microsoft};
  CHECK(deberta_buckets(options) == deberta_buckets(options));
  CHECK(deberta_buckets(options).options() == options);
  CHECK(deberta_buckets(options) != deberta_buckets({.bucket_size = 254, .max_position = 512, .clamp = deberta_clamp::microsoft}));
  CHECK(deberta_buckets(options) != deberta_buckets({.bucket_size = 256, .max_position = 511, .clamp = deberta_clamp::microsoft}));
  CHECK(deberta_buckets(options) != deberta_buckets({.bucket_size = 256, .max_position = 512, .clamp = deberta_clamp::huggingface}));
  CHECK(deberta_buckets::name() == "deberta_buckets");
}

TEST_CASE("buckets refuse options that make none", "[buckets][errors]") {
  const auto t5 = [](const std::string& text, const t5_buckets_options& options) {
    reference::refuses("[t5_buckets] " + text, [&] { t5_buckets{options}; });
  };
  t5("num_buckets must be even where keys have two directions but got 33", {.direction = both, .num_buckets = 33});
  t5("num_buckets must be even where keys have two directions but got -1", {.direction = both, .num_buckets = -1});
  t5("num_buckets must be 2 or more in each direction but got 2", {.direction = both, .num_buckets = 2});
  t5("num_buckets must be 2 or more in each direction but got 1", {.direction = causal, .num_buckets = 1});
  t5("num_buckets must be 2 or more in each direction but got 0", {.direction = causal, .num_buckets = 0});
  t5("num_buckets must be 2 or more in each direction but got -32", {.direction = causal, .num_buckets = -32});
  const std::string range = "max_distance must be above the distances that have buckets of their own and at most 2^31 but got ";
  t5(range + "8 and 8", {.direction = both, .max_distance = 8});
  t5(range + "16 and 16", {.direction = causal, .max_distance = 16});
  t5(range + "16 and 0", {.direction = causal, .max_distance = 0});
  t5(range + "16 and 2147483649", {.direction = causal, .max_distance = (position{1} << 31) + 1});

  const auto deberta = [](const std::string& text, index_t size, position max_position) {
    reference::refuses("[deberta_buckets] " + text,
                       [&] { deberta_buckets({.bucket_size = size, .max_position = max_position, .clamp = deberta_clamp::microsoft}); });
  };
  deberta("bucket_size must be even and 4 or more but got 2", 2, 512);
  deberta("bucket_size must be even and 4 or more but got 255", 255, 512);
  deberta("bucket_size must be even and 4 or more but got 0", 0, 512);
  deberta("bucket_size must be even and 4 or more but got -4", -4, 512);
  const std::string limits = "max_position must be above half of bucket_size plus 1, and at most 2^31 but got ";
  deberta(limits + "129 and 129", 256, 129);
  deberta(limits + "129 and 0", 256, 0);
  deberta(limits + "129 and -9223372036854775808", 256, std::numeric_limits<position>::min());
  deberta(limits + "129 and 2147483649", 256, (position{1} << 31) + 1);
}
