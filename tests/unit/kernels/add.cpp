// SPDX-License-Identifier: MIT
#include <posenc/kernels/add.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/add.hpp"
#include "reference/difference.hpp"
#include "reference/stored.hpp"

#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace {

using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using reference::compute;

struct layout {
  const char* name;
  bool in_place = true;
  index_t gap = 0;                       // elements behind each row that belong to nobody
  bool shared_by_batch = true, shared_by_time = false;
  bool backwards = false;                // the last token first in memory
  bool into_rows = false;                // every token to a row of its own, the last one nowhere
};

constexpr layout layouts[] = {
    {.name = "contiguous, one code for all rows"},
    {.name = "contiguous, out of place", .in_place = false},
    {.name = "gaps between rows", .gap = 3},
    {.name = "gaps, out of place, a code for each row", .in_place = false, .gap = 1, .shared_by_batch = false},
    {.name = "one code for all tokens", .shared_by_time = true},
    {.name = "last token first", .in_place = false, .gap = 2, .backwards = true},
    {.name = "into rows", .in_place = false, .into_rows = true},
    {.name = "into rows with gaps, a code for each row", .in_place = false, .gap = 1, .shared_by_batch = false, .into_rows = true},
};
constexpr std::int64_t rows[] = {2, 9, 6, 3, 0, 7, 4, 1, 8, -1};

// Batch 2, time 5. Everything starts `shift` elements into its memory, so that it is not aligned.
template <class T>
void compare(const layout& form, index_t channels, index_t shift) {
  constexpr index_t batch = 2, time = 5;
  const index_t row = channels + form.gap, size = shift + batch * time * row + 8;
  const auto in = reference::random_stored<T>(1, size), untouched = reference::random_stored<T>(3, size);
  const auto table = random_vector<compute<T>>(2, size);
  auto got = form.in_place ? in : untouched, expected = got;

  const index_t first = shift + (form.backwards ? (time - 1) * row : 0), step = form.backwards ? -row : row;
  const posenc::kernels::code_source<compute<T>> codes{
      .table = table.data() + shift, .batch = form.shared_by_batch ? 0 : time * channels, .time = form.shared_by_time ? 0 : channels};
  const auto call = [&](std::vector<T>& out) {
    return posenc::kernels::add_call<T>{.in = (form.in_place ? out : in).data() + first,
                                        .out = out.data() + first,
                                        .sources = &codes,
                                        .count = 1,
                                        .batch = batch,
                                        .time = time,
                                        .channels = channels,
                                        .in_batch = time * row,
                                        .in_time = step,
                                        .out_batch = time * row,
                                        .out_time = step,
                                        .rows = form.into_rows ? rows : nullptr};
  };
  posenc::kernels::add(call(got));
  reference::add(call(expected));
  INFO(form.name << ", " << channels << " channels, from element " << shift);
  CHECK(reference::bit_difference(reference::loaded(got), reference::loaded(expected)) == "");
}

}  // namespace

TEMPLATE_TEST_CASE("the add kernel adds a code to every token and touches nothing else", "[kernels][add]", float, double, bfloat16,
                   float16) {
  at_every_instruction_set([] {
    for (const auto& form : layouts)
      for (index_t channels = 1; channels <= 70; ++channels) compare<TestType>(form, channels, channels % 4);
  });
}

TEMPLATE_TEST_CASE("the add kernel writes the same past the caches, where rows are whole cache lines and where they are not",
                   "[kernels][add]", float, double, bfloat16, float16) {
  struct alignas(64) line {
    TestType elements[64 / sizeof(TestType)];
  };
  constexpr index_t batch = 2, time = 5, in_line = 64 / index_t{sizeof(TestType)};
  at_every_instruction_set([] {
    for (const index_t channels : {in_line, 5 * in_line, 9 * in_line, in_line / 2, in_line + 1})
      for (const index_t gap : {index_t{0}, in_line})
        for (const bool into_rows : {false, true}) {
          const index_t row = channels + gap, size = batch * time * row;
          const auto in = reference::random_stored<TestType>(1, size);
          const auto table = random_vector<compute<TestType>>(2, time * channels);
          std::array<std::vector<line>, 2> outputs;
          for (const bool streaming : {false, true}) {
            auto& out = outputs[streaming];
            out.resize(static_cast<std::size_t>(size / in_line + 1));
            std::memset(out.data(), 0, out.size() * sizeof(line));
            const posenc::kernels::code_source<compute<TestType>> codes{.table = table.data(), .batch = 0, .time = channels};
            posenc::kernels::add(posenc::kernels::add_call<TestType>{.in = in.data(),
                                                                     .out = out.data()->elements,
                                                                     .sources = &codes,
                                                                     .count = 1,
                                                                     .batch = batch,
                                                                     .time = time,
                                                                     .channels = channels,
                                                                     .in_batch = time * row,
                                                                     .in_time = row,
                                                                     .out_batch = time * row,
                                                                     .out_time = row,
                                                                     .rows = into_rows ? rows : nullptr,
                                                                     .streaming = streaming});
          }
          CAPTURE(channels, gap, into_rows);
          CHECK(std::memcmp(outputs[0].data(), outputs[1].data(), outputs[0].size() * sizeof(line)) == 0);
        }
  });
}

TEMPLATE_TEST_CASE("the add kernel handles not-a-number, infinities, subnormals and zeros by value", "[kernels][add]", float, double,
                   bfloat16, float16) {
  using S = compute<TestType>;
  const auto specials = reference::special_values<S>();
  at_every_instruction_set([&] {
    for (const S code : specials) {  // beside every other one, in every lane of a vector and in the tail
      std::vector<S> numbers;
      for (int round = 0; round < 3; ++round) numbers.insert(numbers.end(), specials.begin(), specials.end());
      const auto in = reference::stored<TestType>(numbers);
      const auto channels = static_cast<index_t>(in.size());
      const std::vector<S> table(in.size(), code);
      auto got = in, expected = in;
      const posenc::kernels::code_source<S> codes{.table = table.data(), .batch = 0, .time = 0};
      const auto call = [&](std::vector<TestType>& out) {
        return posenc::kernels::add_call<TestType>{.in = out.data(),
                                                   .out = out.data(),
                                                   .sources = &codes,
                                                   .count = 1,
                                                   .batch = 1,
                                                   .time = 1,
                                                   .channels = channels,
                                                   .in_batch = 0,
                                                   .in_time = 0,
                                                   .out_batch = 0,
                                                   .out_time = 0};
      };
      posenc::kernels::add(call(got));
      reference::add(call(expected));
      INFO("code " << code);
      CHECK(reference::bit_difference(reference::loaded(got), reference::loaded(expected)) == "");
    }
  });
}

TEMPLATE_TEST_CASE("the add kernel looks codes up, adds several, scales all and drops some", "[kernels][add]", float, double, bfloat16,
                   float16) {
  using S = compute<TestType>;
  constexpr index_t batch = 2, time = 3, many = posenc::kernels::most_sources;
  constexpr std::int64_t none = posenc::kernels::absent, ids[] = {2, 0, none, -1, 2, 2};
  at_every_instruction_set([&] {
    for (const index_t channels : {1, 3, 8, 21, 64})
      for (const bool shared : {false, true})
        for (const bool into_rows : {false, true})
          for (const index_t count : {index_t{0}, index_t{1}, index_t{2}, many}) {
            const auto in = reference::random_stored<TestType>(1, batch * time * channels);
            const auto tables = random_vector<S>(2, (many + 6) * channels);
            std::vector<posenc::kernels::code_source<S>> sources;
            for (index_t n = 0; n < count; ++n)  // in turn by ids and by strides, the first plain where it is alone
              sources.push_back({.table = tables.data() + (n + 1) * channels,
                                 .batch = shared ? 0 : channels,
                                 .time = channels,
                                 .ids = n % 2 == 0 ? ids : nullptr,
                                 .ids_batch = shared ? 0 : time,
                                 .scale = static_cast<S>(count == 1 ? 1 : 0.7 * static_cast<double>(n) - 1.3)});
            auto got = reference::random_stored<TestType>(3, 10 * channels), expected = got;
            const auto call = [&](std::vector<TestType>& out) {
              return posenc::kernels::add_call<TestType>{.in = in.data(),
                                                         .out = out.data(),
                                                         .sources = sources.data(),
                                                         .count = count,
                                                         .batch = batch,
                                                         .time = time,
                                                         .channels = channels,
                                                         .in_batch = time * channels,
                                                         .in_time = channels,
                                                         .out_batch = time * channels,
                                                         .out_time = channels,
                                                         .rows = into_rows ? rows : nullptr,
                                                         .in_scale = static_cast<S>(count == 1 ? 1 : -0.9),
                                                         .mask = channels % 2 == 0 ? tables.data() : nullptr,
                                                         .mask_batch = channels,
                                                         .mask_time = shared ? 0 : channels};
            };
            posenc::kernels::add(call(got));
            reference::add(call(expected));
            CAPTURE(channels, shared, into_rows, count);
            CHECK(reference::bit_difference(reference::loaded(got), reference::loaded(expected)) == "");
          }
  });
}

TEST_CASE("the add kernel does nothing where there is nothing", "[kernels][add]") {
  float one = 1;
  const posenc::kernels::code_source<float> codes{.table = &one, .batch = 0, .time = 0};
  for (const auto [batch, time, channels] : {std::array<index_t, 3>{0, 2, 4}, {2, 0, 4}, {2, 2, 0}})
    posenc::kernels::add<float>({.in = &one,
                                 .out = &one,
                                 .sources = &codes,
                                 .count = 1,
                                 .batch = batch,
                                 .time = time,
                                 .channels = channels,
                                 .in_batch = 0,
                                 .in_time = 0,
                                 .out_batch = 0,
                                 .out_time = 0});
  CHECK(one == 1);
}
