// SPDX-License-Identifier: MIT
#include <posenc/kernels/rotate.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/rotate.hpp"
#include "reference/stored.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using posenc::kernels::rotate_call;
using reference::compute;
using reference::loaded;
using reference::random_stored;

struct layout {
  const char* name;
  index_t batch = 2, time = 3, heads = 2;
  bool head_major = false;               // [batch, head, time, channel] in memory
  bool in_place = true;
  index_t before = 0, after = 0, gap = 0;  // channels around those that turn, and elements behind them that belong to nobody
  bool into_rows = false;                // every token to a row of its own, the last one nowhere
  bool table_by_row = false, table_by_time = true;
  bool backwards = false;                // the last token first in memory
  bool back = false;
  bool exchanged = false, table_by_head = false;
  index_t blocks = 1, between = 0;
};

constexpr layout layouts[] = {
    {.name = "by time, in place"},
    {.name = "by time, one head, a table for each row", .heads = 1, .table_by_row = true},
    {.name = "by time, out of place, channels around", .in_place = false, .before = 3, .after = 1, .gap = 5},
    {.name = "by time, into rows", .in_place = false, .after = 2, .into_rows = true},
    {.name = "by time, turned back", .back = true},
    {.name = "one angle for all tokens", .time = 4, .heads = 1, .table_by_time = false},
    {.name = "last token first", .heads = 3, .in_place = false, .before = 1, .backwards = true},
    {.name = "by head, in place, less than four", .heads = 3, .head_major = true},
    {.name = "by head, in place, four and one", .heads = 5, .head_major = true, .before = 2, .after = 7, .table_by_row = true},
    {.name = "by head, out of place, channels around",
     .batch = 1,
     .heads = 9,
     .head_major = true,
     .in_place = false,
     .before = 1,
     .after = 4,
     .gap = 3},
    {.name = "by head, into rows", .heads = 6, .head_major = true, .in_place = false, .before = 5, .into_rows = true},
    {.name = "by head, turned back", .heads = 4, .head_major = true, .back = true},
    {.name = "by time, orders exchanged", .before = 1, .exchanged = true},
    {.name = "by head, orders exchanged, turned back",
     .heads = 5,
     .head_major = true,
     .in_place = false,
     .after = 3,
     .back = true,
     .exchanged = true},
    {.name = "by time, a table for each head", .heads = 3, .table_by_row = true, .table_by_head = true},
    {.name = "by head, a table for each head", .heads = 6, .head_major = true, .before = 2, .table_by_head = true},
    {.name = "by time, two blocks", .before = 1, .after = 2, .blocks = 2},
    {.name = "by head, three blocks, out of place", .heads = 5, .head_major = true, .in_place = false, .before = 4, .blocks = 3},
};
// Halves whose later pairs stand still.
constexpr layout partial_halves[] = {
    {.name = "by time, five pairs stand still", .before = 1, .between = 5},
    {.name = "by head, 24 pairs stand still, out of place",
     .heads = 5,
     .head_major = true,
     .in_place = false,
     .before = 3,
     .after = 2,
     .between = 24},
};

template <class T>
struct problem {
  problem(const layout& laid_out, bool neighbours, index_t count)
      : form(laid_out),
        interleaved(neighbours),
        pairs(count),
        width(form.before + 2 * form.blocks * (pairs + form.between) + form.after + form.gap),
        size(shift + form.batch * form.time * form.heads * width + 8),
        in(random_stored<T>(7, size)),
        row(2 * form.blocks * pairs),
        table(random_vector<compute<T>>(8, shift + form.batch * form.time * form.heads * row)),
        out(form.in_place ? in : random_stored<T>(9, size)) {
    rows.resize(static_cast<std::size_t>(form.batch * form.time));  // out of order, and none for the last token
    for (std::size_t token = 0; token < rows.size(); ++token) rows[token] = static_cast<std::int64_t>((token * 5 + 2) % rows.size());
    rows.back() = -1;
  }

  /// The same call on numbers of type U.
  template <class U>
  rotate_call<U> call(const std::vector<U>& from, std::vector<U>& to, const std::vector<compute<U>>& angles) const {
    const index_t head = form.head_major ? form.time * width : width;
    const index_t step = form.head_major ? width : form.heads * width, batch = form.time * form.heads * width;
    const index_t token = form.table_by_head ? form.heads * row : row;
    const index_t first = shift + (form.backwards ? (form.time - 1) * step : 0), time = form.backwards ? -step : step;
    return {.in = (form.in_place ? to : from).data() + first,
            .out = to.data() + first,
            .batch = form.batch,
            .time = form.time,
            .heads = form.heads,
            .in_batch = batch,
            .in_time = time,
            .in_head = head,
            .out_batch = form.into_rows ? 0 : batch,
            .out_time = form.into_rows && form.head_major ? width : time,
            .out_head = form.into_rows && form.head_major ? form.batch * form.time * width : head,
            .rows = form.into_rows ? rows.data() : nullptr,
            .table = angles.data() + shift,
            .table_batch = form.table_by_row ? form.time * token : 0,
            .table_time = form.table_by_time ? token : 0,
            .pairs = pairs,
            .before = form.before,
            .after = form.after,
            .interleaved = interleaved,
            .back = form.back,
            .exchanged = form.exchanged,
            .table_head = form.table_by_head ? row : 0,
            .blocks = form.blocks,
            .between = form.between};
  }

  static constexpr index_t shift = 1;  // so that nothing is aligned
  layout form;
  bool interleaved;
  index_t pairs, width, size;
  std::vector<T> in;
  index_t row;  // of the table
  std::vector<compute<T>> table;
  std::vector<T> out;
  std::vector<std::int64_t> rows;
};

/// 1 to 33, so that every tail occurs up to two vectors of sixteen, and the widths that kernels may know by heart.
std::vector<index_t> numbers_of_pairs() {
  std::vector<index_t> all(33);
  std::iota(all.begin(), all.end(), 1);
  for (const index_t pairs : {40, 47, 48, 63, 64, 65, 80, 96, 100, 128, 129, 256}) all.push_back(pairs);
  return all;
}

std::vector<double> in_double(const auto& numbers) { return {numbers.begin(), numbers.end()}; }

}  // namespace

TEMPLATE_TEST_CASE("the rotate kernel multiplies complex numbers and touches nothing else", "[kernels][rotate]", float, double, bfloat16,
                   float16) {
  // Two products below 1 and a sum below 2, rounded; then one of a number below 2 to 16 bits.
  constexpr double tolerance = 2 * std::numeric_limits<compute<TestType>>::epsilon() + (sizeof(TestType) > 2                 ? 0
                                                                                        : std::is_same_v<TestType, bfloat16> ? 0x1p-7
                                                                                                                             : 0x1p-10);
  const auto check = [](const layout& form, bool interleaved, index_t pairs) {
    const problem<TestType> given(form, interleaved, pairs);
    auto got = given.out;
    posenc::kernels::rotate(given.call(given.in, got, given.table));

    const auto in = in_double(loaded(given.in)), table = in_double(given.table);
    auto expected = in_double(loaded(given.out));
    reference::rotate(given.call(in, expected, table));
    auto rounded = given.out;
    reference::rotate_rounded(given.call(given.in, rounded, given.table));

    INFO(form.name << (interleaved ? ", interleaved, " : ", halves, ") << pairs << " pairs");
    CHECK(reference::difference(loaded(got), expected, tolerance) == "");
    CHECK(reference::bit_difference(loaded(got), loaded(rounded)) == "");
  };
  at_every_instruction_set([&] {
    for (const index_t pairs : numbers_of_pairs()) {
      for (const auto& form : layouts)
        for (const bool interleaved : {false, true}) check(form, interleaved, pairs);
      for (const auto& form : partial_halves) check(form, false, pairs);
    }
  });
}

TEMPLATE_TEST_CASE("the rotate kernel copies other channels bit for bit", "[kernels][rotate]", float, double, bfloat16, float16) {
  at_every_instruction_set([] {
    for (const index_t around : {1, 2, 3, 7, 16, 33}) {
      problem<TestType> given({.name = "", .in_place = false, .before = around, .after = around}, true, 2);
      given.in = random_stored<TestType>(4, given.size);
      for (std::size_t i = 0; i < given.in.size(); i += 3)
        given.in[i] = reference::stored<TestType>(std::numeric_limits<compute<TestType>>::quiet_NaN());
      auto got = given.out, expected = given.out;
      posenc::kernels::rotate(given.call(given.in, got, given.table));
      reference::rotate_rounded(given.call(given.in, expected, given.table));
      CHECK(reference::bit_difference(loaded(got), loaded(expected)) == "");
    }
  });
}

TEMPLATE_TEST_CASE("the rotate kernel handles not-a-number, infinities, subnormals and zeros by value", "[kernels][rotate]", float, double,
                   bfloat16, float16) {
  using S = compute<TestType>;
  const auto specials = reference::special_values<S>();
  at_every_instruction_set([&] {
    for (const bool interleaved : {false, true})
      for (const index_t pairs : {1, 3, 16, 21, 64})
        for (std::size_t offset = 0; offset < specials.size(); ++offset) {
          problem<TestType> given({.name = "", .heads = 5}, interleaved, pairs);
          for (std::size_t i = 0; i < given.out.size(); ++i)
            given.out[i] = reference::stored<TestType>(specials[(i + offset) % specials.size()]);
          for (std::size_t i = 0; i < given.table.size(); i += 2) given.table[i] = specials[i / 2 % specials.size()];
          auto got = given.out, expected = given.out;
          posenc::kernels::rotate(given.call(given.in, got, given.table));
          reference::rotate_rounded(given.call(given.in, expected, given.table));
          INFO(pairs << " pairs, " << (interleaved ? "interleaved" : "halves") << ", from special value " << offset);
          CHECK(reference::bit_difference(loaded(got), loaded(expected)) == "");
        }
  });
}

TEMPLATE_TEST_CASE("the rotate kernel writes the same past the caches, where rows are whole cache lines and where they are not",
                   "[kernels][rotate]", float, double, bfloat16, float16) {
  using S = compute<TestType>;
  struct alignas(64) line {
    TestType elements[64 / sizeof(TestType)];
  };
  constexpr index_t time = 3, heads = 5, in_line = 64 / index_t{sizeof(TestType)};
  at_every_instruction_set([] {
    for (const bool interleaved : {false, true})
      for (const bool by_head : {false, true})
        for (const index_t pairs : {in_line, 4 * in_line, 7 * in_line, in_line / 2})
          for (const index_t before : {index_t{0}, in_line, index_t{3}})
            for (const bool into_rows : {false, true}) {
              const index_t width = before + 2 * pairs, size = time * heads * width;
              const auto in = random_stored<TestType>(1, size);
              const auto table = random_vector<S>(2, time * 2 * pairs);
              const index_t step = by_head ? width : heads * width, head = by_head ? time * width : width;
              const std::array<std::int64_t, time> rows{2, 0, -1};
              std::array<std::vector<line>, 2> outputs;
              for (const bool streaming : {false, true}) {
                auto& out = outputs[streaming];
                out.resize(static_cast<std::size_t>(size / in_line + 1));
                std::memset(out.data(), 0, out.size() * sizeof(line));
                posenc::kernels::rotate(rotate_call<TestType>{.in = in.data(),
                                                              .out = out.data()->elements,
                                                              .batch = 1,
                                                              .time = time,
                                                              .heads = heads,
                                                              .in_batch = 0,
                                                              .in_time = step,
                                                              .in_head = head,
                                                              .out_batch = 0,
                                                              .out_time = step,
                                                              .out_head = head,
                                                              .rows = into_rows ? rows.data() : nullptr,
                                                              .table = table.data(),
                                                              .table_batch = 0,
                                                              .table_time = 2 * pairs,
                                                              .pairs = pairs,
                                                              .before = before,
                                                              .after = 0,
                                                              .interleaved = interleaved,
                                                              .back = before > 0,
                                                              .streaming = streaming});
              }
              CAPTURE(interleaved, by_head, pairs, before, into_rows);
              CHECK(std::memcmp(outputs[0].data(), outputs[1].data(), outputs[0].size() * sizeof(line)) == 0);
            }
  });
}

TEST_CASE("the rotate kernel does nothing where there is nothing", "[kernels][rotate]") {
  at_every_instruction_set([] {
    for (const bool interleaved : {false, true})
      for (const auto& [batch, time, heads] : {std::array<index_t, 3>{0, 3, 2}, {2, 0, 2}, {2, 3, 0}}) {
        const problem<float> given({.name = "", .batch = 2, .time = 3, .heads = 2}, interleaved, 16);
        auto got = given.out;
        auto call = given.call(given.in, got, given.table);
        call.batch = batch, call.time = time, call.heads = heads;
        posenc::kernels::rotate(call);
        CHECK(reference::bit_difference(got, given.out) == "");
      }
  });
}
