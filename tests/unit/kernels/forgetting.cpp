// SPDX-License-Identifier: MIT
#include <posenc/kernels/forgetting.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/stored.hpp"

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using posenc::kernels::absent;
using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::forgetting_call;
using posenc::kernels::index_t;
using posenc::kernels::key_span;
using reference::compute;
using reference::loaded;

constexpr index_t heads = 2, queries = 4, first_slot = 3;

/// Scores of two heads with room around the rows; a tile whose keys begin with slot 3 of `slots`. One query has no position, one stands
/// before the tile, one in it, one behind.
template <class T>
struct problem {
  using S = compute<T>;
  index_t keys, slots;
  std::vector<T> scores, in;
  std::vector<double> sums, sums_after;
  std::vector<key_span> spans;
  std::array<std::int64_t, queries> query_ids{};
  std::vector<std::int64_t> key_ids;

  /// form: 0 one document, 1 several, 2 one with gaps
  problem(index_t count, int form) : keys(count), slots(count + 6) {
    scores = reference::random_stored<T>(1, heads * queries * (keys + 3));
    in = reference::random_stored<T>(2, heads * queries * (keys + 1));
    sums = random_vector<double>(3, heads * slots), sums_after = random_vector<double>(4, heads * slots);
    const index_t own[] = {first_slot + keys / 2, -1, first_slot - 1, first_slot + keys};
    const index_t begin = form == 1 ? first_slot + keys / 3 : 0, end = form == 1 ? first_slot + keys / 3 + keys / 2 : slots;
    for (index_t i = 0; i < queries; ++i) {
      const bool other = form == 1 && (own[i] < begin || own[i] >= end);
      spans.push_back(own[i] < 0 ? key_span{0, -1, 0, false}
                                 : key_span{other ? own[i] : begin, own[i], other ? own[i] + 1 : end, form == 2});
      query_ids[static_cast<std::size_t>(i)] = own[i] < 0 ? absent : position_of(own[i], form, begin);
    }
    for (index_t j = 0; j < keys; ++j)
      key_ids.push_back(form == 2 && j % 7 == 3 && first_slot + j != own[0] ? absent : position_of(first_slot + j, form, begin));
  }
  static std::int64_t position_of(index_t slot, int form, index_t begin) {
    return form == 1 && slot >= begin ? 2 * (slot - begin) : 2 * slot;
  }

  forgetting_call<T> call(bool apart, bool causal, bool after, S scale) {
    return {{.scores = scores.data(),
             .heads = heads,
             .queries = queries,
             .keys = keys,
             .head = queries * (keys + 3),
             .query = keys + 3,
             .query_ids = query_ids.data(),
             .query_first = 0,
             .key_ids = key_ids.data(),
             .key_first = 0,
             .scale = scale,
             .causal = causal,
             .in = apart ? in.data() : nullptr,
             .in_head = queries * (keys + 1),
             .in_query = keys + 1},
            spans.data(),
            first_slot,
            sums.data(),
            slots,
            after ? sums_after.data() : nullptr};
  }

  /// Pair by pair.
  std::vector<T> expected(const forgetting_call<T>& given) const {
    std::vector<T> all = scores;
    for (index_t h = 0; h < heads; ++h)
      for (index_t i = 0; i < queries; ++i)
        for (index_t j = 0; j < keys; ++j) {
          T& out = all[static_cast<std::size_t>(h * given.head + i * given.query + j)];
          S score = loaded(given.in ? in[static_cast<std::size_t>(h * given.in_head + i * given.in_query + j)] : out) * given.scale;
          const key_span& span = spans[static_cast<std::size_t>(i)];
          const index_t slot = first_slot + j;
          const std::int64_t key = key_ids[static_cast<std::size_t>(j)], query = query_ids[static_cast<std::size_t>(i)];
          const auto sum = [&](const std::vector<double>& of, index_t s) { return of[static_cast<std::size_t>(h * slots + s)]; };
          if (key != absent && query != absent) {
            const bool same = slot >= span.first && slot < span.last;
            if (given.causal && key > query) score = -std::numeric_limits<S>::infinity();
            else if (same && slot <= span.own) score = score + static_cast<S>(sum(sums, span.own) - sum(sums, slot));
            else if (same && given.sums_after) score = score + static_cast<S>(sum(sums_after, slot) - sum(sums_after, span.own));
          }
          out = reference::stored<T>(score);
        }
    return all;
  }
};

}  // namespace

TEMPLATE_TEST_CASE("the forgetting kernel adds differences of sums", "[kernels][forgetting]", float, double, bfloat16, float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    for (index_t keys = 0; keys <= 150; keys += keys < 40 ? 1 : 37)
      for (const int form : {0, 1, 2})
        for (const bool apart : {false, true})
          for (const bool causal : {false, true})
            for (const bool after : {false, true})
              for (const S scale : {S(1), S(0.75)}) {
                problem<TestType> one(keys, form);
                const auto call = one.call(apart, causal, after, scale);
                const auto wanted = one.expected(call);
                posenc::kernels::forgetting(call);
                CAPTURE(keys, form, apart, causal, after, scale);
                REQUIRE(reference::bit_difference(loaded(one.scores), loaded(wanted)) == "");
              }
  });
}

TEMPLATE_TEST_CASE("the gradient of the forgetting kernel gives to each sum what its pairs have", "[kernels][forgetting]", float, double,
                   bfloat16, float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    for (index_t keys = 0; keys <= 90; keys += keys < 40 ? 1 : 25)
      for (const int form : {0, 1, 2})
        for (const bool causal : {false, true})
          for (const bool after : {false, true}) {
            problem<TestType> one(keys, form);
            // Halves, so that no order of the sums matters.
            for (auto& score : one.scores) score = reference::stored<TestType>(static_cast<S>(static_cast<int>(loaded(score) * 16)) / 2);
            auto call = one.call(false, causal, after, S(0.5));
            call.first_slot = 0;
            for (auto& span : one.spans) {  // all slots are keys
              if (span.own < 0) continue;
              const auto clamp = [&](index_t slot) { return slot < first_slot ? 0 : slot > keys + first_slot ? keys : slot - first_slot; };
              span = {clamp(span.first), clamp(span.own), clamp(span.last), span.gaps};
              if (span.own >= keys) span.own = -1;
            }
            std::vector<double> d_sums(one.sums.size(), 1), d_after(one.sums.size(), -1), wanted = d_sums, wanted_after = d_after;
            auto scores = one.scores;
            for (index_t h = 0; h < heads; ++h)
              for (index_t i = 0; i < queries; ++i)
                for (index_t j = 0; j < keys; ++j) {
                  TestType& d = scores[static_cast<std::size_t>(h * call.head + i * call.query + j)];
                  const key_span& span = one.spans[static_cast<std::size_t>(i)];
                  const std::int64_t key = one.key_ids[static_cast<std::size_t>(j)], query = one.query_ids[static_cast<std::size_t>(i)];
                  const bool placed = span.own >= 0 && key != absent, same = placed && j >= span.first && j < span.last;
                  const bool masked = placed && causal && (same ? j > span.own : key > query);
                  const double value = static_cast<double>(loaded(d));
                  if (same && !masked && (j < span.own || after)) {
                    auto& to = j < span.own ? wanted : wanted_after;
                    to[static_cast<std::size_t>(h * one.slots + span.own)] += j == span.own ? 0 : value;
                    to[static_cast<std::size_t>(h * one.slots + j)] -= j == span.own ? 0 : value;
                  }
                  d = reference::stored<TestType>(masked ? S(0) : loaded(d) * S(0.5));
                }
            posenc::kernels::forgetting_gradient<TestType>({call, d_sums.data(), d_after.data()});
            CAPTURE(keys, form, causal, after);
            REQUIRE(reference::bit_difference(loaded(one.scores), loaded(scores)) == "");
            REQUIRE(d_sums == wanted);
            REQUIRE(d_after == wanted_after);
          }
  });
}
