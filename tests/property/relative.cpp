// SPDX-License-Identifier: MIT
/// \file  Relative encodings write the same bits in steps as in one pass, in a batch as alone, and at every instruction set.
#include <posenc/alibi.hpp>
#include <posenc/combine/compose.hpp>
#include <posenc/relative.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace {

using namespace posenc;
using tensor4 = Eigen::Tensor<float, 4, Eigen::RowMajor>;
using reference::bit_difference;

constexpr index_t heads_ = 2, channels_ = 8;
constexpr position none = no_position, far = position{1} << 31;

struct example {
  const char* name;
  positions queries, keys;
};
const std::vector<example> examples{
    {"a chunk behind a cache", positions::range(70, 60), positions::range(130)},
    {"documents", positions::packed(std::array{0, 5, 6, 40}), positions::packed(std::array{0, 5, 6, 40})},
    {"ids with gaps, repeats and none", positions::ids(std::array<position, 6>{9, 9, none, 400, 2, -3}),
     positions::ids(std::array<position, 9>{0, 1, 2, none, 9, 9, 8, 400, 401})},
    {"ids near 2^31", positions::ids(std::array<position, 4>{far, far - 7, far - 300, far - 7}),
     positions::ids(std::array<position, 7>{far - 301, far - 300, far - 8, none, far - 2, far - 1, far})},
};

template <class E>
E trained(E encoder) {
  std::uint64_t seed = 1;
  for (auto& one : parameters(encoder))
    std::ranges::copy(random_vector<float>(seed++, static_cast<index_t>(one.values.size())), one.values.begin());
  return encoder;
}

/// The scores of queries [from, from + count) with all keys.
template <class E>
tensor4 scores_of(const E& encoder, const example& one, const tensor4& q, const tensor4& k, index_t from, index_t count) {
  tensor4 scores(q.dimension(0), heads_, count, one.keys.time());
  scores.setConstant(0.5f);
  encode_scores(encoder, scores,
                attention_inputs<float>{.scale = 0.3,
                                        .queries = heads(q, axis_order::time_head).slice(from, count),
                                        .keys = heads(k, axis_order::time_head),
                                        .causal = true},
                prepare(encoder, {.queries = one.queries.slice(from, count), .keys = one.keys}));
  return scores;
}

template <class E>
void check(const E& encoder) {
  INFO(encoder.name());
  for (const auto& one : examples) {
    INFO(one.name);
    const index_t time = one.queries.time(), keys = one.keys.time();
    const auto q = random_tensor<tensor4>(2, 2, time, heads_, channels_), k = random_tensor<tensor4>(3, 2, keys, heads_, channels_);
    tensor4 whole;
    {
      const pinned baseline(instruction_set::baseline);
      whole = scores_of(encoder, one, q, k, 0, time);
    }
    at_every_instruction_set([&] { CHECK(bit_difference(scores_of(encoder, one, q, k, 0, time), whole) == ""); });
    for (const index_t step : {1, 3, 40})
      for (index_t from = 0, count; from < time; from += count) {
        count = std::min(step, time - from);
        const tensor4 part = scores_of(encoder, one, q, k, from, count);
        const tensor4 same = whole.slice(std::array<index_t, 4>{0, 0, from, 0}, std::array<index_t, 4>{2, heads_, count, keys});
        CHECK(bit_difference(part, same) == "");
      }
    const tensor4 second_q = q.slice(std::array<index_t, 4>{1, 0, 0, 0}, std::array<index_t, 4>{1, time, heads_, channels_});
    const tensor4 second_k = k.slice(std::array<index_t, 4>{1, 0, 0, 0}, std::array<index_t, 4>{1, keys, heads_, channels_});
    const tensor4 second = whole.slice(std::array<index_t, 4>{1, 0, 0, 0}, std::array<index_t, 4>{1, heads_, time, keys});
    CHECK(bit_difference(scores_of(encoder, one, second_q, second_k, 0, time), second) == "");
  }
}

}  // namespace

TEST_CASE("biases of positions have the same bits in steps and at every instruction set", "[property]") {
  random_source random(1);
  check(trained(t5_bias<float>(t5_bias_options::t5_encoder(heads_))));
  check(kerple_log<float>(heads_, random));
  check(kerple_power<float>(heads_, random));
  check(fire<float>({.heads = heads_, .init_L = 100}, random));
  check(sandwich<float>({.heads = heads_}));
  check(proximal_bias<float>(heads_));
  check(dynamic_position_bias<float>({.heads = heads_, .dim = 8}, random));
}

TEST_CASE("products with relative keys have the same bits in steps and at every instruction set", "[property]") {
  check(trained(shaw<float>({.channels = channels_, .left = 6, .right = 3, .tables = relative_tables::keys})));
  check(trained(music_transformer<float>({.channels = channels_, .max_distance = 20, .form = music_transformer_form::unmasked})));
  check(trained(
      transformer_xl<float>({.heads = heads_, .channels = channels_, .dim = 12, .order = channel_order::interleaved, .clamp_length = 50})));
  check(trained(
      deberta<float>({.heads = heads_,
                      .channels = channels_,
                      .terms = deberta_terms{.c2p = true, .p2c = true, .p2p = true},
                      .distances = deberta_buckets_options{.bucket_size = 16, .max_position = 64, .clamp = deberta_clamp::huggingface}})));
  check(trained(relative_logits<float>({.channels = channels_, .extent = 30})));
  check(trained(gated_bias<float>({.bias = t5_bias_options::wavlm(heads_), .channels = channels_})));
  check(compose(trained(shaw<float>({.channels = channels_, .left = 6, .right = 3, .tables = relative_tables::keys})),
                alibi<float>({.heads = heads_, .form = alibi_form::symmetric})));
}
