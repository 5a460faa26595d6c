// SPDX-License-Identifier: MIT
/// \file  One encoder, its state and its positions serve any number of threads.
#include <posenc/posenc.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"

#include <atomic>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace posenc;

template <int Rank>
using tensor = Eigen::Tensor<float, Rank, Eigen::RowMajor>;

struct outputs {
  tensor<4> queries, scores;
  tensor<3> x;
  tensor<3> code;
};

}  // namespace

TEST_CASE("several threads with one encoder get the bits of one thread", "[property]") {
  constexpr index_t batch = 2, time = 24, count = 3, channels = 16;
  const auto at = positions::offsets(std::array{3, 1000}, time);
  const rope<float> rotary({.pairing = pairing::interleaved, .dim = channels});
  const sinusoidal<float> absolute({.dim = channels, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani});
  const alibi<float> linear({.heads = count, .form = alibi_form::causal});
  const auto tables = rotary.prepare({.queries = at, .keys = at});
  const outputs inputs{random_tensor<tensor<4>>(1, batch, time, count, channels), random_tensor<tensor<4>>(2, batch, count, time, time),
                       random_tensor<tensor<3>>(3, batch, time, channels), tensor<3>(batch, time, channels)};

  const auto encode = [&] {
    outputs all = inputs;
    rotary.rotate(heads(all.queries, axis_order::time_head), operand::query, tables);
    rotary.rotate(heads(all.queries, axis_order::time_head), at.slice(0, time));  // makes a table of its own
    absolute.add(all.x, at);
    absolute.encode(at, all.code);
    linear.bias(all.scores, {.queries = at, .keys = at}, {.causal = true});
    return all;
  };
  const auto alone = encode();

  constexpr std::size_t threads = 4;
  std::vector<std::string> differences(threads);
  std::atomic<std::size_t> waiting{threads};
  std::vector<std::thread> running;
  for (std::size_t n = 0; n < threads; ++n)
    running.emplace_back([&, n] {
      --waiting;
      while (waiting > 0) std::this_thread::yield();  // all at once
      for (int round = 0; round < 50; ++round) {
        const auto all = encode();
        differences[n] += reference::bit_difference(all.queries, alone.queries) + reference::bit_difference(all.x, alone.x) +
                          reference::bit_difference(all.code, alone.code) + reference::bit_difference(all.scores, alone.scores);
      }
    });
  for (auto& thread : running) thread.join();
  for (const auto& difference : differences) CHECK(difference == "");
}
