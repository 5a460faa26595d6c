// SPDX-License-Identifier: MIT
/// \file  What encodings that read the sentence do to attention.
#include <posenc/posenc.hpp>

#include "attention_block.hpp"
#include "catch.hpp"
#include "random.hpp"
#include "random_parameters.hpp"
#include "reference/difference.hpp"

#include <array>
#include <cmath>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using tokens = attention_block::tokens;

constexpr index_t batch = 2, length = 9, width = 12, heads_of_block = 3, channels = 4;

attention_block block() {
  attention_block made{.heads = heads_of_block, .channels = channels, .causal = true};
  made.log_gates = -random_tensor<tokens>(7, batch, length, heads_of_block).abs();
  made.gates = random_tensor<attention_block::matrix>(8, batch, length).abs();
  return made;
}

/// act(encoder) for one of each kind that a decoder can use.
void for_each_encoder(auto&& act) {
  act(with_random_parameters(peg<double>({.dim = width, .kernel = {3}, .padding = peg_padding::causal})));
  act(with_random_parameters(cope<double>(
      {.heads = heads_of_block, .channels = channels, .max_positions = 5, .gates = cope_gates::scores, .bias = cope_bias::unscaled})));
  act(forgetting_gates<double>({.heads = heads_of_block, .direction = forgetting::causal}));
  act(row_forgetting_gates<double>({.heads = heads_of_block, .channels = channels}));
  act(gated(alibi<double>({.heads = heads_of_block, .form = alibi_form::causal})));
  act(compose(with_random_parameters(peg<double>({.dim = width, .kernel = {3}, .padding = peg_padding::causal})),
              forgetting_gates<double>({.heads = heads_of_block, .direction = forgetting::causal})));
}

tokens some_of(const tokens& x, index_t from, index_t count) {
  return x.slice(Eigen::array<index_t, 3>{0, from, 0}, Eigen::array<index_t, 3>{batch, count, x.dimension(2)});
}
std::string difference(const tokens& a, const tokens& b) { return reference::difference(a, b, 1e-13); }
std::string small_difference(const tokens& a, const tokens& b) { return reference::difference(a, b, 1e-5); }

}  // namespace

TEST_CASE("conditional encodings change what a causal block makes of a sentence, and of its order", "[property]") {
  const auto x = random_tensor<tokens>(4, batch, length, width);
  tokens turned(x.dimensions());
  for (index_t t = 0; t < length; ++t) turned.chip(t, 1) = x.chip(length - 1 - t, 1);
  const auto at = positions::range(length);
  for_each_encoder([&](const auto& encoder) {
    INFO(std::string(encoder.name()));
    const tokens here = block()(encoder, x, at);
    CHECK(small_difference(here, block()(no_encoding{}, x, at)) != "");
    const tokens there = block()(encoder, turned, at);
    CHECK(small_difference(some_of(there, length - 1, 1), some_of(here, length - 1, 1)) != "");
  });
}

TEST_CASE("conditional encodings of a causal block do not see what comes later", "[property]") {
  const auto x = random_tensor<tokens>(4, batch, length, width), other = random_tensor<tokens>(5, batch, length, width);
  const auto at = positions::range(length);
  for (const index_t from : {1, 5, 8}) {
    tokens changed = x;
    attention_block later = block();
    for (index_t t = from; t < length; ++t) {
      changed.chip(t, 1) = other.chip(t, 1);
      later.log_gates.chip(t, 1) = later.log_gates.chip(t, 1) - 1.0;
      later.gates.chip(t, 1) = later.gates.chip(t, 1) * 0.5;
    }
    for_each_encoder([&](const auto& encoder) {
      INFO(std::string(encoder.name()));
      const tokens as_it_was = block()(encoder, x, at), now = later(encoder, changed, at);
      CHECK(difference(some_of(now, 0, from), some_of(as_it_was, 0, from)) == "");
      CHECK(small_difference(some_of(now, from, length - from), some_of(as_it_was, from, length - from)) != "");
    });
  }
}

TEST_CASE("conditional encodings do not read padding on the left", "[property]") {
  constexpr index_t padding = 3;
  const auto x = random_tensor<tokens>(4, batch, length, width);
  std::vector<int> mask;
  for (index_t n = 0; n < batch * length; ++n) mask.push_back(n % length >= padding);
  const auto padded = positions::from_padding_mask(mask, batch);
  attention_block alone = block();
  alone.log_gates = some_of(alone.log_gates, padding, length - padding);
  alone.gates =
      attention_block::matrix(alone.gates.slice(Eigen::array<index_t, 2>{0, padding}, Eigen::array<index_t, 2>{batch, length - padding}));
  for_each_encoder([&](const auto& encoder) {
    INFO(std::string(encoder.name()));
    const tokens whole = block()(encoder, x, padded);
    const tokens real = alone(encoder, some_of(x, padding, length - padding), positions::range(length - padding));
    CHECK(difference(some_of(whole, padding, length - padding), real) == "");
  });
}
