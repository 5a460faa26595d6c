// SPDX-License-Identifier: MIT
/// \file  Decoding one token at a time, or a few, writes the same bits as one pass over the whole sequence.
#include <posenc/learned.hpp>
#include <posenc/learned/axial_learned.hpp>
#include <posenc/posenc.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace {

using namespace posenc;

template <class S>
using tensor3 = Eigen::Tensor<S, 3, Eigen::RowMajor>;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;

constexpr index_t steps = 37;
constexpr position start = 130'990;  // where angles in float would be off by 8e-3

/// Calls part(from, count) over all steps: one by one, in chunks of five, and in two.
void in_every_partition(auto&& part) {
  for (const index_t chunk : {index_t{1}, index_t{5}, steps - 1}) {
    INFO("chunks of " << chunk);
    for (index_t from = 0; from < steps; from += chunk) part(from, std::min(chunk, steps - from));
  }
}

/// Tokens from `from` of a `[batch, time, head, channel]` tensor.
template <class S>
head_view<S> tokens_of(tensor4<S>& x, index_t from, index_t count) {
  const tensor_view<S, 4> all = x;
  return head_view<S>({&x(0, from, 0, 0), {all.extent(0), count, all.extent(2), all.extent(3)}, all.strides()});
}

}  // namespace

TEMPLATE_TEST_CASE("rope: decoding equals prefill", "[property]", float, double) {
  at_every_instruction_set([] {
    for (const auto pairs : {pairing::halves, pairing::interleaved})
      for (const index_t dim : {6, 64, 128}) {
        const rope<TestType> encoder({.pairing = pairs, .dim = dim});
        const auto x = random_tensor<tensor4<TestType>>(1, 2, steps, 3, dim);
        auto whole = x;
        encoder.rotate(heads(whole, axis_order::time_head), positions::range(steps, start));
        in_every_partition([&, parts = x](index_t from, index_t count) mutable {
          encoder.rotate(tokens_of(parts, from, count), positions::range(count, start + from));
          if (from + count == steps) {
            CHECK(reference::bit_difference(parts, whole) == "");
            parts = x;
          }
        });
      }
  });
}

namespace {

/// Decoding and prefill of queries and of keys, at the same positions.
template <class S, class E>
void check_rotary(const E& encoder, const positions& at, index_t channels) {
  INFO(std::string(encoder.name()));
  const auto x = random_tensor<tensor4<S>>(1, 2, steps, 3, channels);
  for (const auto role : {operand::query, operand::key}) {
    auto whole = x;
    encoder.rotate(heads(whole, axis_order::time_head), role, prepare(encoder, {.queries = at, .keys = at}));
    CHECK(reference::bit_difference(whole, x) != "");
    in_every_partition([&, parts = x](index_t from, index_t count) mutable {
      const auto now = at.slice(from, count);
      encoder.rotate(tokens_of(parts, from, count), role, prepare(encoder, {.queries = now, .keys = now}));
      if (from + count == steps) {
        CHECK(reference::bit_difference(parts, whole) == "");
        parts = x;
      }
    });
  }
}

}  // namespace

TEMPLATE_TEST_CASE("the rotary family: decoding equals prefill", "[property]", float, double) {
  const auto along = positions::range(steps, start);
  const auto picture =
      grid_positions({.extents = {2, (steps - 1) / 2}, .order = grid_order::slowest_first, .prefix = steps - (steps - 1) / 2 * 2});
  const auto halves = pairing::halves, interleaved = pairing::interleaved;
  const rotary_descriptor form{.pairing = halves, .dim = 32};
  check_rotary<TestType>(rope<TestType>({.pairing = pairing::interleaved_to_halves, .dim = 32, .offset = 1}), along, 35);
  check_rotary<TestType>(rope<TestType>(form, {.schedule = schedule::proportional{.fraction = 0.5}}), along, 32);
  check_rotary<TestType>(rope<TestType>({.pairing = halves, .dim = 32, .first_head = trailing, .head_count = 2, .blocks = 2}), along, 32);
  check_rotary<TestType>(xpos<TestType>({.pairing = interleaved, .dim = 32}, {.centre_rule = xpos_centre::fixed, .scale_base = 1e5}), along,
                         32);
  check_rotary<TestType>(multimodal_rope<TestType>(form, {.sections = {6, 5, 5}, .arrangement = multimodal_arrangement::interleaved}),
                         along, 32);
  check_rotary<TestType>(axial_rope<TestType>(form, {.widths = {16, 16}}), picture, 32);
  random_source random(5);
  check_rotary<TestType>(pope<TestType>({.dim = 16, .heads = 3}, uniform_pope_biases<TestType>(3, 16, random)), along, 32);
  check_rotary<TestType>(learned_rope<TestType>(form, mixed_frequencies<TestType>(3, 32, 10, random), 2, 3), picture, 32);
}

TEMPLATE_TEST_CASE("rope: keys rotated into a cache step by step are those of prefill", "[property]", float, double) {
  at_every_instruction_set([] {
    const rope<TestType> encoder({.pairing = pairing::halves, .dim = 64});
    const auto keys = random_tensor<tensor4<TestType>>(2, 1, steps, 5, 64);
    auto whole = keys;
    encoder.rotate(heads(whole, axis_order::time_head), positions::range(steps, start));
    // Pages of four slots, in any order; heads before slots.
    tensor4<TestType> cache(1, 5, 40, 64);
    constexpr std::array<index_t, 10> pages{7, 2, 9, 0, 4, 1, 8, 3, 6, 5};
    const auto slot = [&](index_t t) { return 4 * pages[static_cast<std::size_t>(t / 4)] + t % 4; };
    in_every_partition([&](index_t from, index_t count) {
      if (from == 0) cache.setZero();
      std::vector<index_t> rows;
      for (index_t t = from; t < from + count; ++t) rows.push_back(slot(t));
      tensor4<TestType> fresh(1, count, 5, 64);
      std::copy_n(&keys(0, from, 0, 0), fresh.size(), fresh.data());
      encoder.rotate(heads(std::as_const(fresh), axis_order::time_head), heads(cache, axis_order::head_time), rows,
                     encoder.prepare(positions::range(count, start + from)));
      if (from + count < steps) return;
      tensor4<TestType> read(1, steps, 5, 64);
      for (index_t t = 0; t < steps; ++t)
        for (index_t h = 0; h < 5; ++h) std::copy_n(&cache(0, h, slot(t), 0), 64, &read(0, t, h, 0));
      CHECK(reference::bit_difference(read, whole) == "");
    });
  });
}

TEMPLATE_TEST_CASE("one step of rows of different age equals each row's own", "[property]", float, double) {
  at_every_instruction_set([] {
    const std::array<position, 3> ages{5, 0, 131'071};
    const auto at = positions::offsets(ages, 1);
    const rope<TestType> rotary({.pairing = pairing::interleaved, .dim = 10});
    const sinusoidal<TestType> absolute({.dim = 10, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}});
    const alibi<TestType> linear({.heads = 4, .form = alibi_form::causal});
    const auto q = random_tensor<tensor4<TestType>>(3, 3, 1, 4, 10), scores = random_tensor<tensor4<TestType>>(4, 3, 4, 1, 50);
    const auto x = random_tensor<tensor3<TestType>>(5, 3, 1, 10);
    auto q_together = q, scores_together = scores;
    auto x_together = x;
    rotary.rotate(heads(q_together, axis_order::time_head), at);
    absolute.add(x_together, at);
    linear.bias(scores_together, {.queries = at, .keys = positions::range(50)}, {.scale = 0.5, .causal = true});
    for (index_t b = 0; b < 3; ++b) {
      const auto alone = positions::range(1, ages[static_cast<std::size_t>(b)]);
      tensor4<TestType> q_row = q.slice(Eigen::array<index_t, 4>{b, 0, 0, 0}, Eigen::array<index_t, 4>{1, 1, 4, 10});
      tensor4<TestType> scores_row = scores.slice(Eigen::array<index_t, 4>{b, 0, 0, 0}, Eigen::array<index_t, 4>{1, 4, 1, 50});
      tensor3<TestType> x_row = x.slice(Eigen::array<index_t, 3>{b, 0, 0}, Eigen::array<index_t, 3>{1, 1, 10});
      rotary.rotate(heads(q_row, axis_order::time_head), alone);
      absolute.add(x_row, alone);
      linear.bias(scores_row, {.queries = alone, .keys = positions::range(50)}, {.scale = 0.5, .causal = true});
      CHECK(reference::bit_difference(q_row, std::span(&q_together(b, 0, 0, 0), 40)) == "");
      CHECK(reference::bit_difference(x_row, std::span(&x_together(b, 0, 0), 10)) == "");
      CHECK(reference::bit_difference(scores_row, std::span(&scores_together(b, 0, 0, 0), 200)) == "");
    }
  });
}

namespace {

/// Decoding and prefill of a learned table at positions `at`.
template <class S, class E>
void check_table(E encoder, const positions& at) {
  std::uint64_t seed = 10;
  for (const auto& one : encoder.parameters())
    std::ranges::copy(random_vector<S>(++seed, static_cast<std::ptrdiff_t>(one.values.size())), one.values.begin());
  const auto x = random_tensor<tensor3<S>>(9, 1, steps, encoder.dim());
  auto whole = x;
  encoder.add(whole, at);
  CHECK(reference::bit_difference(whole, x) != "");
  in_every_partition([&, parts = x](index_t from, index_t count) mutable {
    encoder.add(tensor_view<S, 3>(&parts(0, from, 0), {1, count, encoder.dim()}), at.slice(from, count));
    if (from + count == steps) {
      CHECK(reference::bit_difference(parts, whole) == "");
      parts = x;
    }
  });
}

}  // namespace

TEST_CASE("learned tables: decoding equals prefill", "[property]") {
  for (const auto policy : {outside_table::refuse, outside_table::zeros, outside_table::nearest})
    check_table<float>(learned<float>({.rows = 50, .dim = 70, .offset = 2, .outside_table = policy, .scale = 0.25}),
                       positions::range(steps, policy == outside_table::refuse ? 3 : 30));
  const auto picture = grid_positions({.extents = {5, 7}, .order = grid_order::fastest_first, .prefix = steps - 35});
  for (const auto join : {axial_join::concatenate, axial_join::sum}) {
    check_table<double>(axial_learned<double>({.rows = {8, 5}, .widths = {300, 300}, .join = join, .lookup = axial_lookup::axes}), picture);
    check_table<float>(axial_learned<float>({.rows = {8, 5, 2}, .widths = {9, 9, 9}, .join = join, .lookup = axial_lookup::digits}),
                       positions::range(steps, 43));
  }
}

TEMPLATE_TEST_CASE("sinusoidal: decoding equals prefill", "[property]", float, double) {
  at_every_instruction_set([] {
    for (const index_t dim : {7, 30, 300}) {
      const sinusoidal<TestType> encoder({.dim = dim,
                                          .order = channel_order::interleaved,
                                          .exponent_rule = exponent_rule::tensor2tensor{},
                                          .start = 1,
                                          .odd_dim = odd_dim::zero_last});
      const auto x = random_tensor<tensor3<TestType>>(6, 1, steps, dim);
      auto whole = x;
      encoder.add(whole, positions::range(steps, start));
      in_every_partition([&, parts = x](index_t from, index_t count) mutable {
        encoder.add(tensor_view<TestType, 3>(&parts(0, from, 0), {1, count, dim}), positions::range(count, start + from));
        if (from + count == steps) {
          CHECK(reference::bit_difference(parts, whole) == "");
          parts = x;
        }
      });
    }
  });
}

TEMPLATE_TEST_CASE("alibi: score rows of decoding equal those of prefill", "[property]", float, double) {
  at_every_instruction_set([] {
    for (const auto form : {alibi_form::causal, alibi_form::symmetric, alibi_form::key_only})
      for (const auto& pass : {score_pass{}, score_pass{.scale = 0.3, .causal = true}})
        for (const position first : {position{0}, start, position{1} << 24}) {  // at 2^24 floats begin to skip whole numbers
          const alibi<TestType> encoder({.heads = 5, .form = form});
          const auto scores = random_tensor<tensor4<TestType>>(7, 1, 5, steps, steps);
          auto whole = scores;
          encoder.bias(whole, {.queries = positions::range(steps, first), .keys = positions::range(steps, first)}, pass);
          in_every_partition([&](index_t from, index_t count) {
            const index_t keys = from + count;  // a step sees the keys so far
            tensor4<TestType> part = scores.slice(Eigen::array<index_t, 4>{0, 0, from, 0}, Eigen::array<index_t, 4>{1, 5, count, keys});
            const tensor4<TestType> wanted =
                whole.slice(Eigen::array<index_t, 4>{0, 0, from, 0}, Eigen::array<index_t, 4>{1, 5, count, keys});
            encoder.bias(part, {.queries = positions::range(count, first + from), .keys = positions::range(keys, first)}, pass);
            CHECK(reference::bit_difference(part, wanted) == "");
          });
        }
  });
}

TEST_CASE("alibi: keys in the pages of a cache get the bias of their positions", "[property]") {
  const alibi<float> encoder({.heads = 2, .form = alibi_form::causal});
  const auto scores = random_tensor<tensor4<float>>(8, 1, 2, 3, 40);
  const attention_positions in_order{.queries = positions::range(3, 37), .keys = positions::range(40)};
  auto straight = scores;
  encoder.bias(straight, in_order, {.causal = true});
  std::vector<position> ids(40);
  for (index_t j = 0; j < 40; ++j) ids[static_cast<std::size_t>(j)] = (j * 17 + 3) % 40;
  tensor4<float> paged(1, 2, 3, 40);
  for (index_t h = 0; h < 2; ++h)
    for (index_t i = 0; i < 3; ++i)
      for (index_t j = 0; j < 40; ++j) paged(0, h, i, j) = scores(0, h, i, ids[static_cast<std::size_t>(j)]);
  encoder.bias(paged, {.queries = in_order.queries, .keys = positions::ids(ids)}, {.causal = true});
  for (index_t h = 0; h < 2; ++h)
    for (index_t i = 0; i < 3; ++i)
      for (index_t j = 0; j < 40; ++j)
        REQUIRE(reference::same_bits(paged(0, h, i, j), straight(0, h, i, ids[static_cast<std::size_t>(j)])));
}
