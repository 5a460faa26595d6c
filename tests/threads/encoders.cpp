// SPDX-License-Identifier: MIT
/// \file  One encoder, its state and its positions serve any number of threads.
#include <posenc/learned.hpp>
#include <posenc/learned/axial_learned.hpp>
#include <posenc/posenc.hpp>
#include <posenc/rope/learned_rope.hpp>

#include "catch.hpp"
#include "random.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <thread>
#include <type_traits>
#include <vector>

namespace {

using namespace posenc;

template <class T, int Rank>
using tensor = Eigen::Tensor<T, Rank, Eigen::RowMajor>;

template <class T>
struct outputs {
  tensor<T, 4> queries, scores;
  tensor<T, 3> x;
  tensor<T, 3> code;
};

template <class T>
bool same_bytes(const T& a, const T& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(*a.data())) == 0;
}
template <class T>
bool same_bytes(const outputs<T>& a, const outputs<T>& b) {
  return same_bytes(a.queries, b.queries) && same_bytes(a.scores, b.scores) && same_bytes(a.x, b.x) && same_bytes(a.code, b.code);
}

/// Random numbers of the encoders' scalar, rounded to T.
template <class T, class S, int Rank>
tensor<T, Rank> inputs(std::uint64_t seed, auto... extents) {
  return random_tensor<tensor<S, Rank>>(seed, extents...).template cast<T>();
}

}  // namespace

TEMPLATE_TEST_CASE("several threads with one encoder get the bits of one thread", "[threads]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  using S = std::conditional_t<std::is_same_v<T, double>, double, float>;
  constexpr index_t batch = 2, time = 24, count = 3, channels = 16;
  const auto at = positions::offsets(std::array{3, 1000}, time);
  const rope<S> rotary({.pairing = pairing::interleaved, .dim = channels});
  const sinusoidal<S> absolute({.dim = channels, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});
  const learned<S> table({.rows = 100, .dim = channels, .outside_table = outside_table::nearest}, random_vector<S>(4, 100 * channels));
  const axial_learned<S> axial({.rows = {32, 32}, .widths = {7, 9}, .join = axial_join::concatenate, .lookup = axial_lookup::digits},
                               {random_vector<S>(5, 32 * 7), random_vector<S>(6, 32 * 9)});
  const alibi<S> linear({.heads = count, .form = alibi_form::causal});
  const auto tables = rotary.prepare({.queries = at, .keys = at});
  const outputs<T> given{inputs<T, S, 4>(1, batch, time, count, channels), inputs<T, S, 4>(2, batch, count, time, time),
                         inputs<T, S, 3>(3, batch, time, channels), tensor<T, 3>(batch, time, channels)};

  const auto encode = [&] {
    outputs<T> all = given;
    rotary.rotate(heads(all.queries, axis_order::time_head), operand::query, tables);
    rotary.rotate(heads(all.queries, axis_order::time_head), at.slice(0, time));  // makes a table of its own
    absolute.add(all.x, at);
    table.add(all.x, at);
    axial.add(all.x, at);
    absolute.encode(at, all.code);
    linear.bias(all.scores, {.queries = at, .keys = at}, {.causal = true});
    return all;
  };
  const auto alone = encode();

  constexpr std::size_t threads = 4;
  std::atomic<std::size_t> waiting{threads}, others{0};
  std::vector<std::thread> running;
  for (std::size_t n = 0; n < threads; ++n)
    running.emplace_back([&] {
      --waiting;
      while (waiting > 0) std::this_thread::yield();  // all at once
      for (int round = 0; round < 50; ++round) others += !same_bytes(encode(), alone);
    });
  for (auto& thread : running) thread.join();
  CHECK(others == 0);
}

TEMPLATE_TEST_CASE("several threads with one trained encoder get the gradients of one thread", "[threads]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  using S = std::conditional_t<std::is_same_v<T, double>, double, float>;
  constexpr index_t batch = 2, time = 2400, count = 3, channels = 16;  // enough to be split
  const auto at = positions::offsets(std::array{3, -9}, time);
  const learned_rope<S> encoder({.pairing = pairing::interleaved, .dim = channels}, random_vector<S>(4, count * channels / 2), 1, count);
  const auto state = encoder.prepare(attention_positions{at, at});
  const auto rotated = inputs<T, S, 4>(1, batch, time, count, channels), given = inputs<T, S, 4>(2, batch, time, count, channels);

  struct gradients {
    tensor<T, 4> x;
    std::vector<S> frequencies;
  };
  const auto backward = [&](const executor& run) {
    gradients d{given, std::vector<S>(count * channels / 2)};
    const std::array<std::span<S>, 1> spans{d.frequencies};
    encoder.rotate_backward(heads(d.x, axis_order::time_head), heads(rotated, axis_order::time_head), operand::query, state, spans, run);
    return d;
  };
  const auto alone = backward({});
  CHECK(alone.frequencies != std::vector<S>(count * channels / 2));

  constexpr std::size_t threads = 4;
  Eigen::ThreadPool pool(2);  // which they share
  const Eigen::ThreadPoolDevice device(&pool, 2);
  std::atomic<std::size_t> waiting{threads}, others{0};
  std::vector<std::thread> running;
  for (std::size_t n = 0; n < threads; ++n)
    running.emplace_back([&, n] {
      --waiting;
      while (waiting > 0) std::this_thread::yield();  // all at once
      for (int round = 0; round < 5; ++round) {
        const auto got = backward(n % 2 ? executor(device) : executor());
        others += !same_bytes(got.x, alone.x) || !same_bytes(got.frequencies, alone.frequencies);
      }
    });
  for (auto& thread : running) thread.join();
  CHECK(others == 0);
}

// Both are for any thread at any time, by their documentation.
TEST_CASE("threads may ask for the instruction set while another pins it", "[threads]") {
  const auto kept = current_instruction_set();
  std::atomic<int> unknown{0};
  std::vector<std::thread> running;
  running.emplace_back([&] {
    for (int round = 0; round < 1000; ++round) pin_instruction_set(round % 2 ? instruction_set::baseline : best_instruction_set());
  });
  for (int n = 0; n < 3; ++n)
    running.emplace_back([&] {
      for (int round = 0; round < 1000; ++round) unknown += current_instruction_set() > best_instruction_set();
    });
  for (auto& thread : running) thread.join();
  pin_instruction_set(kept);
  CHECK(unknown == 0);
}
