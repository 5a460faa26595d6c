// SPDX-License-Identifier: MIT
/// \file  What stands beside a sequence (other batch rows, other documents, padding) changes none of its bits.
#include <posenc/learned.hpp>
#include <posenc/learned/axial_learned.hpp>
#include <posenc/posenc.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace {

using namespace posenc;

template <class S>
using tensor3 = Eigen::Tensor<S, 3, Eigen::RowMajor>;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;

constexpr index_t head_count = 3, channels = 10, width = head_count * channels;

/// One of each kind of encoder, and what they make of tokens [batch, time, channel].
template <class S>
struct encoders {
  rope<S> rotary{{.pairing = pairing::halves, .dim = channels}};
  sinusoidal<S> absolute{{.dim = width, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}}};
  learned<S> table{{.rows = 100, .dim = width, .offset = 50, .outside_table = outside_table::nearest}, random_vector<S>(20, 100 * width)};
  alibi<S> linear{{.heads = head_count, .form = alibi_form::symmetric}};

  tensor3<S> encoded(tensor3<S> x, const positions& at) const {
    absolute.add(x, at);
    table.add(x, at);
    rotary.rotate(split_heads(x, {.heads = head_count, .channels = channels}), at);
    return x;
  }
  tensor4<S> biased(tensor4<S> scores, const positions& at) const {
    linear.bias(scores, {.queries = at, .keys = at}, {.scale = 0.5, .causal = true});
    return scores;
  }
};

/// Tokens from to from + count of one batch row.
template <class S>
tensor3<S> tokens_of(const tensor3<S>& x, index_t row, index_t from, index_t count) {
  return x.slice(Eigen::array<index_t, 3>{row, from, 0}, Eigen::array<index_t, 3>{1, count, width});
}
template <class S>
tensor4<S> scores_of(const tensor4<S>& scores, index_t row, index_t from, index_t count) {
  return scores.slice(Eigen::array<index_t, 4>{row, 0, from, from}, Eigen::array<index_t, 4>{1, head_count, count, count});
}

}  // namespace

TEMPLATE_TEST_CASE("packed documents are encoded as if each stood alone", "[property]", float, double) {
  const encoders<TestType> encode;
  const std::array<index_t, 5> boundaries{0, 4, 5, 5, 12};
  const auto x = random_tensor<tensor3<TestType>>(1, 1, 12, width);
  const auto scores = random_tensor<tensor4<TestType>>(2, 1, head_count, 12, 12);
  const auto at = positions::packed(boundaries);
  const auto packed = encode.encoded(x, at);
  const auto packed_scores = encode.biased(scores, at);
  for (std::size_t n = 0; n + 1 < boundaries.size(); ++n) {
    const index_t from = boundaries[n], count = boundaries[n + 1] - from;
    CHECK(reference::bit_difference(tokens_of(packed, 0, from, count),
                                    encode.encoded(tokens_of(x, 0, from, count), positions::range(count))) == "");
    CHECK(reference::bit_difference(scores_of(packed_scores, 0, from, count),
                                    encode.biased(scores_of(scores, 0, from, count), positions::range(count))) == "");
  }
}

TEMPLATE_TEST_CASE("left-padded rows are encoded as if they were not padded", "[property]", float, double) {
  const encoders<TestType> encode;
  constexpr index_t time = 9;
  const std::array<index_t, 3> padding{0, 5, 9};
  const auto x = random_tensor<tensor3<TestType>>(3, 3, time, width);
  const auto scores = random_tensor<tensor4<TestType>>(4, 3, head_count, time, time);
  std::vector<int> mask;
  std::vector<position> starts;
  for (const index_t pad : padding) {
    for (index_t t = 0; t < time; ++t) mask.push_back(t >= pad);
    starts.push_back(-pad);
  }
  const auto by_mask = positions::from_padding_mask(mask, 3);
  for (const auto& at : {by_mask, positions::offsets(starts, time)}) {  // padding without a position, or at negative ones
    const auto padded = encode.encoded(x, at);
    const auto padded_scores = encode.biased(scores, at);
    for (index_t b = 0; b < 3; ++b) {
      const index_t pad = padding[static_cast<std::size_t>(b)], count = time - pad;
      CHECK(reference::bit_difference(tokens_of(padded, b, pad, count),
                                      encode.encoded(tokens_of(x, b, pad, count), positions::range(count))) == "");
      CHECK(reference::bit_difference(scores_of(padded_scores, b, pad, count),
                                      encode.biased(scores_of(scores, b, pad, count), positions::range(count))) == "");
    }
  }
  const auto padded = encode.encoded(x, by_mask);
  CHECK(reference::bit_difference(tokens_of(padded, 1, 0, 5), tokens_of(x, 1, 0, 5)) == "");  // and the padding keeps its bits
}

TEMPLATE_TEST_CASE("batch rows are encoded as if each stood alone, in any order", "[property]", float, double) {
  const encoders<TestType> encode;
  constexpr index_t batch = 4, time = 6;
  constexpr std::array<index_t, batch> order{2, 0, 3, 1};
  const auto x = random_tensor<tensor3<TestType>>(5, batch, time, width);
  const auto scores = random_tensor<tensor4<TestType>>(6, batch, head_count, time, time);
  std::vector<position> ids;
  random_numbers random(7);
  for (index_t n = 0; n < batch * time; ++n) ids.push_back(random.integer(-500, 500));
  const auto row = [&](index_t b) { return std::span(ids).subspan(static_cast<std::size_t>(b * time), time); };

  const auto together = encode.encoded(x, positions::ids(ids, batch));
  const auto together_scores = encode.biased(scores, positions::ids(ids, batch));
  tensor3<TestType> shuffled(x.dimensions());
  tensor4<TestType> shuffled_scores(scores.dimensions());
  std::vector<position> shuffled_ids;
  for (index_t b = 0; b < batch; ++b) {
    const index_t from = order[static_cast<std::size_t>(b)];
    shuffled.chip(b, 0) = x.chip(from, 0), shuffled_scores.chip(b, 0) = scores.chip(from, 0);
    for (const position id : row(from)) shuffled_ids.push_back(id);
  }
  shuffled = encode.encoded(shuffled, positions::ids(shuffled_ids, batch));
  shuffled_scores = encode.biased(shuffled_scores, positions::ids(shuffled_ids, batch));

  for (index_t b = 0; b < batch; ++b) {
    const index_t from = order[static_cast<std::size_t>(b)];
    CHECK(reference::bit_difference(encode.encoded(tokens_of(x, b, 0, time), positions::ids(row(b))), tokens_of(together, b, 0, time)) ==
          "");
    CHECK(reference::bit_difference(encode.biased(scores_of(scores, b, 0, time), positions::ids(row(b))),
                                    scores_of(together_scores, b, 0, time)) == "");
    CHECK(reference::bit_difference(tokens_of(shuffled, b, 0, time), tokens_of(together, from, 0, time)) == "");
    CHECK(reference::bit_difference(scores_of(shuffled_scores, b, 0, time), scores_of(together_scores, from, 0, time)) == "");
  }
}

TEMPLATE_TEST_CASE("positions shared by all rows equal the same positions for each row", "[property]", float, double) {
  const encoders<TestType> encode;
  const auto x = random_tensor<tensor3<TestType>>(8, 3, 5, width);
  const auto scores = random_tensor<tensor4<TestType>>(9, 3, head_count, 5, 5);
  const auto shared = positions::range(5, -2), each = positions::offsets(std::array{-2, -2, -2}, 5);
  CHECK(reference::bit_difference(encode.encoded(x, shared), encode.encoded(x, each)) == "");
  CHECK(reference::bit_difference(encode.biased(scores, shared), encode.biased(scores, each)) == "");
}

TEST_CASE("factorized codes of batch rows are those of each row alone", "[property]") {
  const axial_learned<float> encoder({.rows = {7, 9}, .widths = {10, 20}, .join = axial_join::concatenate, .lookup = axial_lookup::digits},
                                     {random_vector<float>(21, 70), random_vector<float>(22, 180)});
  const std::array<position, 3> starts{57, 0, 20};
  const auto x = random_tensor<tensor3<float>>(23, 3, 6, width);
  auto together = x;
  encoder.add(together, positions::offsets(starts, 6));
  for (index_t b = 0; b < 3; ++b) {
    auto alone = tokens_of(x, b, 0, 6);
    encoder.add(alone, positions::range(6, starts[static_cast<std::size_t>(b)]));
    CHECK(reference::bit_difference(alone, tokens_of(together, b, 0, 6)) == "");
  }
}
