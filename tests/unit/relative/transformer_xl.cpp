// SPDX-License-Identifier: MIT
/// \file  Transformer-XL's relative keys.
#include <posenc/relative/transformer_xl.hpp>

#include "catch.hpp"
#include "reference/contextual_bias.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/transformer_xl.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using reference::attention_block, reference::bit_difference, reference::difference, reference::tensor;

constexpr double scale = 0.3;
const transformer_xl_options small{.heads = 4, .channels = 5, .dim = 6, .order = channel_order::sin_cos};

template <class S>
transformer_xl<S> random_encoder(const transformer_xl_options& options) {
  transformer_xl<S> made(options);
  std::uint64_t seed = 30;
  for (auto& one : made.parameters()) fill(one.values, seed++);
  return made;
}
template <class S>
reference::transformer_xl pairs_of(transformer_xl<S> encoder) {
  const auto values = [all = encoder.parameters()](std::size_t n) {
    return std::vector<double>(all[n].values.begin(), all[n].values.end());
  };
  return {.channels = encoder.channels(),
          .dim = encoder.dim(),
          .interleaved = channel_order{encoder.options().order} == channel_order::interleaved,
          .clamp_length = static_cast<double>(encoder.options().clamp_length),
          .scale = scale,
          .projection = values(0),
          .u = values(1),
          .v = values(2)};
}
transformer_xl_options with(channel_order order, position clamp_length) {
  auto options = small;
  options.order = order, options.clamp_length = clamp_length;
  return options;
}

TEST_CASE("transformer_xl: the terms are the sums of products, in double and in float", "[transformer_xl]") {
  for (const auto& [at, batch] : reference::placed_blocks())
    for (const auto& options :
         {small, with(channel_order::interleaved, 0), with(channel_order::sin_cos, 3), with(channel_order::cos_sin, 1000)})
      for (const bool causal : {false, true}) {
        if (channel_order{options.order} == channel_order::cos_sin && causal) continue;
        const score_pass pass{.scale = causal ? 0.5 : 1, .causal = causal};
        const auto block = attention_block<double>::random(at, batch, 4, 2, 5, 1);
        const auto encoder = random_encoder<double>(options);
        auto pairs = pairs_of(encoder);
        if (channel_order{options.order} == channel_order::cos_sin)  // the halves of the projection swapped
          for (std::size_t row = 0; row < 20; ++row)
            std::rotate(pairs.projection.begin() + static_cast<std::ptrdiff_t>(row * 6),
                        pairs.projection.begin() + static_cast<std::ptrdiff_t>(row * 6 + 3),
                        pairs.projection.begin() + static_cast<std::ptrdiff_t>(row * 6 + 6));
        const auto expected = contextual_bias(block, at, pass, pairs);
        auto scores = block.scores, staged = block.scores;
        encoder.bias(scores, block.inputs(scale), at, pass);
        CHECK(difference(scores, expected, 8 * 2.3e-16 * 11 * reference::size_of(expected)) == "");
        encoder.bias(staged, block.inputs(scale), encoder.prepare(at), pass);
        CHECK(bit_difference(staged, scores) == "");
      }
  const auto [at, batch] = reference::placed_blocks()[1];
  const auto block = attention_block<float>::random(at, batch, 4, 2, 5, 1);
  const auto encoder = random_encoder<float>(small);
  const auto expected = contextual_bias(block.as<double>(), at, {}, pairs_of(encoder));
  auto scores = block.scores;
  encoder.bias(scores, block.inputs(scale), at);
  CHECK(difference(scores, tensor<float>(expected.cast<float>()), 8 * 1.2e-7 * 11 * reference::size_of(expected)) == "");
}

TEST_CASE("transformer_xl: two pairs by hand", "[transformer_xl]") {
  // One head of one channel; of the sinusoid the projection leaves the sine. The query stands at 1, the keys at 0 and 3.
  transformer_xl<double> encoder({.heads = 1, .channels = 1, .dim = 2, .order = channel_order::sin_cos}, std::vector{10.0, 0.0},
                                 std::vector{100.0}, std::vector{0.5});
  attention_block<double> block{tensor<double>(1, 1, 1, 2), tensor<double>(1, 1, 1, 1), tensor<double>(1, 2, 1, 1)};
  block.scores.setValues({{{{1, 2}}}});
  block.queries.setValues({{{{3}}}});
  block.keys.setValues({{{{7}}, {{11}}}});
  encoder.bias(block.scores, block.inputs(0.25), {positions::range(1, 1), positions::ids(std::vector{0, 3})});
  CHECK(block.scores(0, 0, 0, 0) == Approx(1 + 0.25 * (3.5 * 10 * 0.8414709848078965 + 700)).epsilon(1e-15));
  CHECK(block.scores(0, 0, 0, 1) == Approx(2 + 0.25 * (3.5 * 10 * -0.9092974268256817 + 1100)).epsilon(1e-15));
}

/// `[query, key]` of head 0.
std::vector<double> bias_of(const transformer_xl_keys<double>& keys, const std::vector<double>& queries, index_t channels) {
  const index_t count = static_cast<index_t>(queries.size()) / channels;
  const transformer_xl<double> encoder({.heads = 1, .channels = channels, .dim = 2, .order = channel_order::sin_cos});
  tensor<double> scores(1, 1, count, keys.at().keys.time()), k(1, keys.at().keys.time(), 1, channels);
  scores.setZero(), k.setZero();
  const token_view<const double> q(queries.data(), {1, count, channels});
  encoder.bias(scores,
               attention_inputs<double>{
                   .scale = 1, .queries = split_heads(q, {.heads = 1, .channels = channels}), .keys = heads(k, axis_order::time_head)},
               keys);
  return {scores.data(), scores.data() + scores.size()};
}

TEST_CASE("transformer_xl: distances are what the relative shift makes of columns", "[transformer_xl]") {
  constexpr index_t queries = 5, memory = 3, keys = queries + memory, channels = 4;
  const auto q = random_vector<double>(1, queries * channels);
  const attention_positions at{positions::range(queries, memory), positions::range(keys)};
  const auto products = [&](const std::vector<double>& r) {
    std::vector<double> x;
    for (index_t i = 0; i < queries; ++i)
      for (std::size_t n = 0; n < r.size(); n += channels) {
        x.push_back(0);
        for (index_t c = 0; c < channels; ++c)
          x.back() += q[static_cast<std::size_t>(i * channels + c)] * r[n + static_cast<std::size_t>(c)];
      }
    return x;
  };
  {  // Transformer-XL: rows of i - j = klen - 1 to 0; right where no key comes after the query
    const auto r = random_vector<double>(2, keys * channels);
    const auto shifted = reference::relative_shift(products(r), queries);
    const auto bias = bias_of({at, {r.data(), {1, keys, channels}}, 1 - keys}, q, channels);
    for (index_t i = 0; i < queries; ++i)
      for (index_t j = 0; j < keys; ++j) {
        const auto n = static_cast<std::size_t>(i * keys + j);
        if (j <= i + memory) CHECK(bias[n] == Approx(shifted[n]).margin(1e-14));
        else CHECK(std::abs(bias[n] - shifted[n]) > 1e-3);  // the next query's, or the padding
      }
  }
  {  // XLNet and Conformer: on to i - j = -(qlen - 1), the first klen columns; right everywhere
    constexpr index_t columns = keys + queries - 1;
    const auto r = random_vector<double>(3, columns * channels);
    const auto shifted = reference::relative_shift(products(r), queries);
    const auto bias = bias_of({at, {r.data(), {1, columns, channels}}, 1 - keys}, q, channels);
    for (index_t i = 0; i < queries; ++i)
      for (index_t j = 0; j < keys; ++j)
        CHECK(bias[static_cast<std::size_t>(i * keys + j)] == Approx(shifted[static_cast<std::size_t>(i * columns + j)]).margin(1e-14));
  }
}

TEST_CASE("transformer_xl: given keys are read where they lie, and end where they end", "[transformer_xl]") {
  const auto encoder = random_encoder<double>(small);
  const attention_positions at{positions::range(6, 2), positions::range(9)};
  const auto prepared = encoder.prepare(at);
  CHECK(prepared.projected());
  CHECK(prepared.at() == at);
  CHECK(prepared.distances() == distance_range{-7, 6});
  REQUIRE(prepared.keys().extents() == std::array<index_t, 3>{4, 14, 5});

  Eigen::Tensor<double, 3, Eigen::RowMajor> by_distance(14, 4, 5);  // r_head_k
  for (index_t h = 0; h < 4; ++h)
    for (index_t n = 0; n < 14; ++n)
      for (index_t c = 0; c < 5; ++c) by_distance(n, h, c) = prepared.keys()(h, n, c);
  const tensor_view<const double, 3> strided(by_distance.data(), {4, 14, 5}, {5, 20, 1});
  const transformer_xl_keys<double> given(at, strided, -7);
  by_distance.setZero();
  CHECK(!given.projected());
  const auto block = attention_block<double>::random(at, 1, 4, 4, 5, 1);
  auto scores = block.scores, expected = block.scores;
  encoder.bias(scores, block.inputs(scale), given);
  encoder.bias(expected, block.inputs(scale), prepared);
  CHECK(bit_difference(scores, expected) == "");

  auto clamped = small;
  clamped.clamp_length = 2;
  auto like = random_encoder<double>(clamped);
  const transformer_xl_keys<double> few(at, {&prepared.keys()(0, 5, 0), {4, 5, 5}, {14 * 5, 5, 1}}, -2);
  scores = expected = block.scores;
  encoder.bias(scores, block.inputs(scale), few);
  like.bias(expected, block.inputs(scale), at);
  CHECK(bit_difference(scores, expected) == "");
}

TEST_CASE("transformer_xl: decode, chunks, threads, other rows of the batch, storage and its order change no bit", "[transformer_xl]") {
  reference::check_bits(random_encoder<float>(small), {57, 1, 1, 91});
}

void check_gradient(const transformer_xl_options& options, std::size_t which, bool causal) {
  const auto placed = reference::placed_blocks()[which];
  const attention_positions& at = placed.at;
  auto block = attention_block<double>::random(at, placed.batch, options.heads, 1, options.channels, 1);
  auto encoder = random_encoder<double>(options);
  const score_pass pass{.scale = 0.5, .causal = causal};
  auto pairs = pairs_of(encoder);
  auto weights = block.scores;
  fill(weights, 9);
  const auto loss = [&] { return reference::unmasked_dot(weights, contextual_bias(block, at, pass, pairs)); };
  const auto of = [&](auto& x, double start = 0) {
    auto values = reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, 0.25);
    for (double& value : values) value += start;
    return values;
  };
  auto d_scores = weights, d_queries = block.queries, d_keys = block.keys;
  d_queries.setConstant(2), d_keys.setConstant(3);
  gradient_buffer<double> d(encoder.parameters());
  for (const auto& span : d.spans()) std::ranges::fill(span, 1.0);
  encoder.bias_backward(d_scores, block.inputs(scale),
                        {.queries = heads(d_queries, axis_order::time_head), .keys = heads(d_keys, axis_order::time_head)}, at, d.spans(),
                        pass);
  CHECK(difference(d.spans()[0], of(pairs.projection, 1), 1e-10) == "");
  CHECK(difference(d.spans()[1], of(pairs.u, 1), 1e-10) == "");
  CHECK(difference(d.spans()[2], of(pairs.v, 1), 1e-10) == "");
  if (block.scores.size() > 1000) return;  // each of them is a pass over all pairs
  CHECK(difference(d_scores, of(block.scores), 1e-10) == "");
  CHECK(difference(d_queries, of(block.queries, 2), 1e-10) == "");
  CHECK(difference(d_keys, of(block.keys, 3), 1e-10) == "");
}
TEST_CASE("transformer_xl: gradients are the derivatives", "[transformer_xl]") {
  const transformer_xl_options tiny{.heads = 2, .channels = 3, .dim = 4, .order = channel_order::interleaved};
  auto clamped = tiny;
  clamped.clamp_length = 3;
  check_gradient(tiny, 0, true);
  check_gradient(tiny, 3, false);
  check_gradient(clamped, 2, false);
  auto one_head = tiny;
  one_head.heads = 1, one_head.channels = 2;
  check_gradient(one_head, 1, false);  // 139 distances: more than one block of them
}

TEST_CASE("transformer_xl: given keys are constants: all but the projection gets its gradient", "[transformer_xl]") {
  auto encoder = random_encoder<double>(small);
  const attention_positions at{positions::range(6, 2), positions::range(9)};
  const auto prepared = encoder.prepare(at);
  const auto block = attention_block<double>::random(at, 1, 4, 4, 5, 1);
  gradient_buffer<double> from_given(encoder.parameters()), from_prepared(encoder.parameters());
  auto d = block.scores;
  encoder.bias_backward(d, block.inputs(scale), {}, transformer_xl_keys<double>(at, prepared.keys(), -7), from_given.spans());
  encoder.bias_backward(d, block.inputs(scale), {}, prepared, from_prepared.spans());
  CHECK(bit_difference(from_given.spans()[0], std::vector<double>(120)) == "");
  CHECK(bit_difference(from_given.spans()[1], from_prepared.spans()[1]) == "");
  CHECK(bit_difference(from_given.spans()[2], from_prepared.spans()[2]) == "");
  CHECK(from_prepared.spans()[0][0] != 0);
}

TEST_CASE("transformer_xl: parameters and equality", "[transformer_xl]") {
  auto encoder = random_encoder<float>(small);
  const auto all = encoder.parameters();
  REQUIRE(all.size() == 3);
  CHECK(all[0].name == "projection");
  CHECK(all[0].shape == std::vector<index_t>{20, 6});
  CHECK(all[1].name == "u");
  CHECK(all[2].name == "v");
  CHECK(all[2].shape == std::vector<index_t>{4, 5});
  CHECK(transformer_xl<float>(small, all[0].values, all[1].values, all[2].values) == encoder);
  for (std::size_t n = 0; n < 3; ++n) {
    auto other = encoder;
    CHECK(other == encoder);
    other.parameters()[n].values.back() += 1;
    CHECK(!(other == encoder));
  }
  CHECK(!(transformer_xl<float>(small) == transformer_xl<float>(with(channel_order::interleaved, 0))));
  CHECK(score_scale(encoder, 64) == 0.125);
}

TEST_CASE("transformer_xl: what does not fit is refused, and nothing is written", "[transformer_xl]") {
  using reference::refuses;
  const auto make = [](auto&& change) {
    return [change] {
      auto options = small;
      change(options);
      transformer_xl<float> made(options);
    };
  };
  refuses("[transformer_xl] heads must be positive but got 0", make([](auto& options) { options.heads = 0; }));
  refuses("[transformer_xl] channels must be positive but got 0", make([](auto& options) { options.channels = 0; }));
  refuses("[transformer_xl] dim must be positive and even but got 7", make([](auto& options) { options.dim = 7; }));
  refuses("[transformer_xl] dim must be positive and even but got 0", make([](auto& options) { options.dim = 0; }));
  refuses("[transformer_xl] clamp_length must lie in [0, 2^62] but got -1", make([](auto& options) { options.clamp_length = -1; }));
  refuses("[transformer_xl] max_distances must be positive but got 0", make([](auto& options) { options.max_distances = 0; }));
  refuses("[transformer_xl] the size in bytes must fit in 63 bits but got [4611686018427387904, 5]",
          make([](auto& options) { options.heads = index_t{1} << 62; }));
  const std::vector<float> twenty(20), projection(120);
  refuses("[transformer_xl] the projection must be [heads * channels, dim] but got 120 and 20",
          [&] { transformer_xl<float>(small, twenty, twenty, twenty); });
  refuses("[transformer_xl] u and v must be [heads, channels] but got 20 and 20 and 120",
          [&] { transformer_xl<float>(small, projection, twenty, projection); });

  const auto encoder = random_encoder<float>(small);
  const attention_positions at{positions::range(4), positions::range(6)};
  const attention_positions apart{positions::range(4), positions::ids(std::vector{0, 1, 2, 3, 4, 65536})};
  const std::string far = "[transformer_xl] distances must be max_distances at most, in [-2^62, 2^62] (clamp_length limits them) but got ";
  refuses(far + "65536 and -3 and 65536", [&] { encoder.prepare(apart); });
  constexpr position most = positions::limit;
  const attention_positions ends{positions::ids(std::vector{-most}), positions::ids(std::vector{most})};
  refuses(far + "65536 and 9223372036854775807 and 9223372036854775807", [&] { encoder.prepare(ends); });
  CHECK(random_encoder<float>(with(channel_order::sin_cos, 3)).prepare(ends).distances() == distance_range{3, 3});
  const attention_positions fits{positions::range(1), positions::ids(std::vector{0, 65535})};
  CHECK(encoder.prepare(fits).distances() == distance_range{0, 65535});
  refuses("[transformer_xl] positions must have one axis but got 1 and 2",
          [&] { encoder.prepare({positions::range(4), positions::multi_axis(std::vector{0, 1, 0, 1}, 2)}); });

  const std::vector<float> rows(60);
  const auto given = [&](const std::array<index_t, 3>& extents, const std::array<index_t, 3>& strides, position low) {
    return transformer_xl_keys<float>(at, tensor_view<const float, 3>(rows.data(), extents, strides), low);
  };
  refuses("[transformer_xl_keys] there must be keys but got [4, 0, 5]", [&] { given({4, 0, 5}, {0, 5, 1}, 0); });
  refuses("[transformer_xl_keys] the last axis must be contiguous but got 2", [&] { given({2, 2, 5}, {20, 10, 2}, 0); });
  refuses("[transformer_xl_keys] distances must lie in [-2^62, 2^62] but got 4611686018427387903 and 3",
          [&] { given({4, 3, 5}, {15, 5, 1}, most - 1); });
  refuses("[transformer_xl_keys] distances must lie in [-2^62, 2^62] but got -4611686018427387905 and 3",
          [&] { given({4, 3, 5}, {15, 5, 1}, -most - 1); });

  auto block = attention_block<float>::random(at, 2, 4, 2, 5, 1);
  const auto good = block.inputs(scale);
  refuses(block.scores, "[transformer_xl] the state must have the heads and channels of this encoder but got [4, 5] and [3, 5]",
          [&] { encoder.bias(block.scores, good, given({3, 4, 5}, {20, 5, 1}, 0)); });
  refuses(block.scores, far + "65536 and -3 and 65536", [&] { encoder.bias(block.scores, good, apart); });
  auto bad = good;
  bad.keys = {};
  refuses(block.scores, "[transformer_xl] the keys must be given but got none", [&] { encoder.bias(block.scores, bad, at); });
  bad = good, bad.queries = {};
  refuses(block.scores, "[transformer_xl] the queries must be given but got none", [&] { encoder.bias(block.scores, bad, at); });

  auto trained = encoder;
  gradient_buffer<float> d(trained.parameters());
  const auto backward = [&](const std::string& text, gradient_spans<float> spans) {
    refuses(block.scores, text, [&] { encoder.bias_backward(block.scores, good, {}, at, spans, {.scale = 2}); });
  };
  backward("[transformer_xl] there must be one gradient span per parameter but got 3 and 2", d.spans().subspan(1));
  const std::vector<std::span<float>> swapped{d.spans()[1], d.spans()[0], d.spans()[2]};
  backward("[transformer_xl] gradients must have the sizes of projection, u and v but got 20 and 120 and 20", swapped);
}

}  // namespace
