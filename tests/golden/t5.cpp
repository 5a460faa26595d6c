// SPDX-License-Identifier: MIT
/// \file  T5's buckets and biases, and DeBERTa's buckets, as Hugging Face and microsoft/DeBERTa make them.
#include <posenc/relative/buckets.hpp>
#include <posenc/relative/t5_bias.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "reference/difference.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::load, golden::npy, golden::row_major;

using numbers = npy<std::int64_t>;

/// The bucket of each distance.
numbers buckets_of(const numbers& distances, auto&& bucket) {
  numbers all{distances.shape, {}};
  for (const std::int64_t distance : distances.values) all.values.push_back(bucket(distance));
  return all;
}

TEST_CASE("T5's buckets are those of trained models", "[golden][t5]") {
  for (const auto direction : {t5_direction::bidirectional, t5_direction::causal}) {
    const std::string name = direction == t5_direction::causal ? "relative/t5_buckets_causal/" : "relative/t5_buckets_bidirectional/";
    INFO(name);
    const t5_buckets buckets({.direction = direction, .num_buckets = 32, .max_distance = 128});
    const auto got = buckets_of(load<std::int64_t>(name + "relative_position"), [&](position d) { return buckets.bucket(d); });
    REQUIRE(got.values.size() == 1221);
    CHECK(got.values == load<std::int64_t>(name + "bucket").values);
    CHECK(got.values == load<std::int64_t>(name + "bucket_exact_arithmetic").values);
  }
}

TEST_CASE("T5's biases are the numbers of the table", "[golden][t5]") {
  struct {
    std::string name;
    t5_bias_options options;
    attention_positions at;
  } const cases[] = {
      {"relative/t5_bias_encoder/", t5_bias_options::t5_encoder(8), {positions::range(12), positions::range(12)}},
      {"relative/t5_bias_decoder_step/", t5_bias_options::t5_decoder(4), {positions::range(3, 17), positions::range(20)}},
  };
  for (const auto& [name, options, at] : cases) {
    INFO(name);
    const auto expected = load<float>(name + "bias");
    const t5_bias<float> encoder(options, load<float>(name + "table").values);
    auto bias = npy<float>::filled(expected.shape, 0);
    encode_scores(encoder, row_major<4>(bias), prepare(encoder, at));
    CHECK(reference::bit_difference(bias.values, expected.values) == "");
  }
}

TEST_CASE("DeBERTa's buckets are those of both systems", "[golden][deberta]") {
  const std::string name = "relative/deberta_log_buckets_256_512/";
  const auto distances = load<std::int64_t>(name + "relative_position");  // the query's position minus the key's
  const auto of = [&](deberta_clamp clamp) {
    const deberta_buckets buckets({.bucket_size = 256, .max_position = 512, .clamp = clamp});
    return buckets_of(distances, [&](position d) { return buckets.bucket(-d); }).values;
  };
  CHECK(of(deberta_clamp::microsoft) == load<std::int64_t>(name + "bucket_microsoft").values);
  CHECK(of(deberta_clamp::microsoft) == load<std::int64_t>(name + "bucket_exact_arithmetic").values);
  // Hugging Face's count on where the tables have no more rows.
  auto unbounded = load<std::int64_t>(name + "bucket_huggingface").values;
  REQUIRE(*std::ranges::max_element(unbounded) > 256);
  for (std::int64_t& bucket : unbounded) bucket = std::clamp<std::int64_t>(bucket, -256, 256);
  CHECK(of(deberta_clamp::huggingface) == unbounded);
}

}  // namespace
