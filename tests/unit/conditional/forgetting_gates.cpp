// SPDX-License-Identifier: MIT
#include <posenc/conditional/forgetting_gates.hpp>

#include <posenc/alibi.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/forgetting.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using reference::bit_difference;
template <class S>
using tensor3 = Eigen::Tensor<S, 3, Eigen::RowMajor>;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;

constexpr index_t heads_ = 2, batch_ = 2;

/// Positions, and by hand the slot of each query, which two batch rows share unless there are twice as many.
struct placed {
  attention_positions at;
  std::vector<index_t> slots;
};
std::vector<placed> cases() {
  const position none = no_position;
  const auto counted = [](index_t count, index_t from) {
    std::vector<index_t> all;
    for (index_t n = 0; n < count; ++n) all.push_back(from + n);
    return all;
  };
  return {
      {{positions::range(37), positions::range(37)}, counted(37, 0)},
      {{positions::range(5, 14), positions::range(30)}, counted(5, 14)},                             // a chunk from the middle
      {{positions::range(1, 20), positions::ids(std::vector{-4, 0, 3, 11, 20, 25})}, {4}},           // gaps
      {{positions::ids(std::vector{11, -4, 25}), positions::ids(std::vector{-4, 0, 3, 11, 20, 25})}, {3, 0, 5}},
      {{positions::packed(std::array{0, 3, 7, 20}), positions::packed(std::array{0, 3, 7, 20})}, counted(20, 0)},
      {{positions::ids(std::vector<position>{none, 0, 1, 2, 7}), positions::ids(std::vector<position>{4, 5, none, 6, none, 0, 1, 2, 7})},
       {-1, 5, 6, 7, 8}},
      {{positions::ids(std::vector<position>{none, 0, 1, 2, none, 4, 5, 0, 1, 2, 3, none, 4, 5}, 2),
        positions::ids(std::vector<position>{none, none, none, 0, 1, 2, none, 4, 5, 4, 5, 0, 1, 2, 3, none, 4, 5}, 2)},
       {}},
      {{positions::offsets(std::array{3, 0}, 4), positions::offsets(std::array{0, -3}, 7)}, counted(4, 3)},
  };
}
/// The slots of a batch row. The seventh case: rows of 7 queries and 9 keys.
std::vector<index_t> slots_of(const placed& one, index_t b) {
  if (!one.slots.empty()) return one.slots;
  return b == 0 ? std::vector<index_t>{-1, 3, 4, 5, -1, 7, 8} : std::vector<index_t>{2, 3, 4, 5, -1, 7, 8};
}

std::vector<position> keys_of(const placed& one, index_t b) {
  std::vector<position> all;
  for (index_t t = 0; t < one.at.keys.time(); ++t) all.push_back(one.at.keys(b, t));
  return all;
}

/// Log gates in [-2.1, -0.1), some of them extreme.
template <class S>
tensor3<S> random_gates(index_t batch, index_t time, index_t gates, bool extreme = false) {
  auto all = random_tensor<tensor3<S>>(3, batch, time, gates);
  for (index_t n = 0; n < all.size(); ++n) {
    all.data()[n] -= S(1.1);
    if (extreme && n % 7 == 3) all.data()[n] = n % 2 ? -std::numeric_limits<S>::infinity() : S(0);
  }
  return all;
}

template <class S>
attention_inputs<S> inputs_of(const tensor3<S>& log_gates) {
  return {.scale = 1.0, .log_gates = log_gates};
}

template <class S>
tensor4<S> expected(const tensor4<S>& before, const tensor3<S>& gates, const placed& one, forgetting direction, const score_pass& pass) {
  tensor4<S> all = before;
  for (index_t b = 0; b < batch_; ++b) {
    const auto keys = keys_of(one, b);
    const auto slots = slots_of(one, b);
    for (index_t h = 0; h < heads_; ++h)
      for (index_t i = 0; i < before.dimension(2); ++i)
        for (index_t j = 0; j < before.dimension(3); ++j) {
          const index_t own = slots[static_cast<std::size_t>(i)];
          const position query = one.at.queries(b, i), key = keys[static_cast<std::size_t>(j)];
          double bias = 0;
          if (own >= 0 && reference::one_document(keys, own, j)) {
            if (j < own) bias = reference::gate_sum(keys, j + 1, own, [&](index_t t) { return gates(b, t, h); });
            else if (j > own && direction == forgetting::bidirectional)
              bias = reference::gate_sum(keys, own + 1, j, [&](index_t t) { return gates(b, t, heads_ + h); });
          }
          all(b, h, i, j) = all(b, h, i, j) * static_cast<S>(pass.scale) + static_cast<S>(bias);
          if (pass.causal && query != no_position && key != no_position && key > query)
            all(b, h, i, j) = -std::numeric_limits<S>::infinity();
        }
  }
  return all;
}

forgetting_gates_options options(forgetting direction) { return {.heads = heads_, .direction = direction}; }
index_t gates_of(forgetting direction) { return direction == forgetting::causal ? heads_ : 2 * heads_; }

}  // namespace

TEMPLATE_TEST_CASE("forgetting gates add the sum of the log gates between key and query", "[forgetting_gates]", float, double) {
  using S = TestType;
  int number = 0;
  for (const auto& one : cases())
    for (const auto direction : {forgetting::causal, forgetting::bidirectional})
      for (const auto& pass : {score_pass{}, score_pass{.scale = 0.5, .causal = true}, score_pass{.scale = 2}}) {
        CAPTURE(number / 6, number % 6);
        ++number;
        const index_t queries = one.at.queries.time(), keys = one.at.keys.time();
        const auto gates = random_gates<S>(batch_, keys, gates_of(direction), true);
        const auto before = random_tensor<tensor4<S>>(8, batch_, heads_, queries, keys);
        auto scores = before;
        const forgetting_gates<S> encoder(options(direction));
        encoder.bias(scores, inputs_of(gates), one.at, pass);
        // The bias is rounded once, and its sum with the score: up to 9 gates of 0 count 32768 each, in double 2^-34.
        const double bound = std::is_same_v<S, float> ? 0.03 : 1e-9;
        CHECK(reference::difference(scores, expected(before, gates, one, direction, pass), bound) == "");

        // With gates that are no extremes, as near as one rounding.
        const auto plain = random_gates<S>(batch_, keys, gates_of(direction));
        scores = before;
        encoder.bias(scores, inputs_of(plain), one.at, pass);
        CHECK(reference::difference(scores, expected(before, plain, one, direction, pass), 64 * std::numeric_limits<S>::epsilon()) == "");

        auto again = before;
        encode_scores(encoder, again, inputs_of(plain), prepare(encoder, one.at));
        auto plain_pass = before;
        encoder.bias(plain_pass, inputs_of(plain), one.at);
        CHECK(bit_difference(again, plain_pass) == "");

        Eigen::Tensor<S, 4> by_columns = before.swap_layout();
        const Eigen::Tensor<S, 3> gates_by_columns = plain.swap_layout();
        encoder.bias(by_columns, attention_inputs<S>{.scale = 1.0, .log_gates = gates_by_columns}, one.at, pass);
        CHECK(std::equal(by_columns.data(), by_columns.data() + by_columns.size(), scores.data()));
      }
}

TEST_CASE("two biases by hand", "[forgetting_gates]") {
  tensor3<double> gates(1, 4, 2);
  gates.setValues({{{-0.5, -100}, {-0.25, -8}, {-2, -16}, {-4, -32}}});
  tensor4<double> scores(1, 1, 4, 4);
  scores.setZero();
  const attention_positions at{positions::range(4), positions::range(4)};
  forgetting_gates<double>({.heads = 1, .direction = forgetting::bidirectional}).bias(scores, inputs_of(gates), at);
  const double wanted[4][4] = {{0, -8, -24, -56}, {-0.25, 0, -16, -48}, {-2.25, -2, 0, -32}, {-6.25, -6, -4, 0}};
  for (index_t i = 0; i < 4; ++i)
    for (index_t j = 0; j < 4; ++j) CHECK(scores(0, 0, i, j) == wanted[i][j]);
}

TEST_CASE("constant gates are ALiBi", "[forgetting_gates]") {
  constexpr index_t heads = 8, time = 300;
  const alibi<float> slopes({.heads = heads, .form = alibi_form::causal});
  tensor3<float> gates(1, time, heads);
  for (index_t t = 0; t < time; ++t)
    for (index_t h = 0; h < heads; ++h) gates(0, t, h) = -slopes.slopes()[static_cast<std::size_t>(h)];
  const auto before = random_tensor<tensor4<float>>(2, 1, heads, time, time);
  const attention_positions at{positions::range(time), positions::range(time)};
  for (const auto& pass : {score_pass{}, score_pass{.scale = 0.3, .causal = true}}) {
    auto forgotten = before, biased = before;
    forgetting_gates<float>({.heads = heads, .direction = forgetting::causal}).bias(forgotten, inputs_of(gates), at, pass);
    slopes.bias(biased, at, pass);
    CHECK(bit_difference(forgotten, biased) == "");
  }
}

TEST_CASE("sums, steps, chunks, tiles, documents and batch rows have the bits of the whole", "[forgetting_gates]") {
  for (const auto direction : {forgetting::causal, forgetting::bidirectional}) {
    const bool both = direction == forgetting::bidirectional;
    constexpr index_t time = 70;
    const forgetting_gates<float> encoder(options(direction));
    const auto gates = random_gates<float>(batch_, time, gates_of(direction), true);
    const auto before = random_tensor<tensor4<float>>(8, batch_, heads_, time, time);
    const score_pass pass{.scale = 0.3, .causal = !both};
    const attention_positions at{positions::range(time), positions::range(time)};
    auto whole = before;
    encoder.bias(whole, inputs_of(gates), at, pass);

    // A cache that grows by chunks; the queries are the new tokens.
    cumulative_gates sums(batch_, gates_of(direction), time);
    auto grown = before;
    for (index_t from = 0; const index_t count : {1, 40, 1, 1, 27}) {
      const tensor_view<const float, 3> some(&gates(0, from, 0), {batch_, count, gates_of(direction)}, view_of(gates).strides());
      sums.append(some, positions::range(count, from));
      const index_t keys = from + count;
      const score_view<float> part(&grown(0, 0, from, 0), {batch_, heads_, count, keys}, view_of(grown).strides());
      encoder.bias(part, sums, attention_positions{positions::range(count, from), positions::range(keys)}, pass);
      for (index_t b = 0; b < batch_; ++b)
        for (index_t h = 0; h < heads_; ++h)
          for (index_t i = from; i < keys; ++i)
            for (index_t j = 0; j < keys; ++j)
              if (!both || j <= i) REQUIRE(reference::same_bits(grown(b, h, i, j), whole(b, h, i, j)));
      from = keys;
    }
    auto from_sums = before, tiled = before;
    encoder.bias(from_sums, sums, at, pass);
    CHECK(bit_difference(from_sums, whole) == "");
    const key_spans spans = encoder.prepare(at);
    for (index_t b = 0; b < batch_; ++b)
      for (index_t h = 0; h < heads_; ++h)
        for (index_t i = 0; i < time; i += 32)
          for (index_t j = 0; j < time; j += 27) {
            const tensor_view<float, 2> tile(&tiled(b, h, i, j), {std::min<index_t>(32, time - i), std::min<index_t>(27, time - j)},
                                             {time, 1});
            encoder.bias_tile(tile, {.batch = b, .head = h, .query = i, .key = j}, sums, spans, pass);
          }
    CHECK(bit_difference(tiled, whole) == "");

    for (index_t b = 0; b < batch_; ++b) {
      tensor4<float> row = before.slice(std::array<index_t, 4>{b, 0, 0, 0}, std::array<index_t, 4>{1, heads_, time, time});
      const tensor3<float> of_row = gates.slice(std::array<index_t, 3>{b, 0, 0}, std::array<index_t, 3>{1, time, gates_of(direction)});
      encoder.bias(row, inputs_of(of_row), at, pass);
      CHECK(std::equal(row.data(), row.data() + row.size(), &whole(b, 0, 0, 0)));
    }

    // The second of two packed documents, alone.
    auto packed = before;
    const auto ids = positions::packed(std::array{0, 33, 70});
    encoder.bias(packed, inputs_of(gates), attention_positions{ids, ids}, pass);
    tensor4<float> alone = before.slice(std::array<index_t, 4>{0, 0, 33, 33}, std::array<index_t, 4>{batch_, heads_, 37, 37});
    const tensor3<float> own = gates.slice(std::array<index_t, 3>{0, 33, 0}, std::array<index_t, 3>{batch_, 37, gates_of(direction)});
    encoder.bias(alone, inputs_of(own), attention_positions{positions::range(37), positions::range(37)}, pass);
    const tensor4<float> part = packed.slice(std::array<index_t, 4>{0, 0, 33, 33}, std::array<index_t, 4>{batch_, heads_, 37, 37});
    CHECK(bit_difference(part, alone) == "");
  }
}

TEST_CASE("any number of threads gives the same bits", "[forgetting_gates]") {
  constexpr index_t time = 700;
  const auto gates = random_gates<float>(batch_, time, heads_);
  const auto before = random_tensor<tensor4<float>>(8, batch_, heads_, time, time);
  const forgetting_gates<float> encoder(options(forgetting::causal));
  const attention_positions at{positions::range(time), positions::range(time)};
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  auto one = before, three = before, d_one = before, d_three = before;
  tensor3<float> gradient_of_one(batch_, time, heads_), gradient_of_three(batch_, time, heads_);
  gradient_of_one.setZero(), gradient_of_three.setZero();
  encoder.bias(one, inputs_of(gates), at);
  encoder.bias(three, inputs_of(gates), at, device);
  CHECK(bit_difference(one, three) == "");
  encoder.bias_backward(d_one, inputs_of(gates), {.log_gates = gradient_of_one}, at, {});
  encoder.bias_backward(d_three, inputs_of(gates), {.log_gates = gradient_of_three}, at, {}, device);
  CHECK(bit_difference(gradient_of_one, gradient_of_three) == "");
}

TEMPLATE_TEST_CASE("scores of 16 bits are those of float, rounded once", "[forgetting_gates]", Eigen::half, Eigen::bfloat16) {
  const auto one = cases()[6];
  const index_t queries = one.at.queries.time(), keys = one.at.keys.time();
  const auto gates = random_gates<float>(batch_, keys, 2 * heads_);
  tensor4<TestType> scores = random_tensor<tensor4<float>>(8, batch_, heads_, queries, keys).template cast<TestType>();
  tensor4<float> wide = scores.template cast<float>();
  const forgetting_gates<float> encoder(options(forgetting::bidirectional));
  encoder.bias(scores, attention_inputs<TestType>{.scale = 1.0, .log_gates = gates}, one.at, {.scale = 0.3});
  encoder.bias(wide, inputs_of(gates), one.at, {.scale = 0.3});
  const tensor4<TestType> rounded = wide.template cast<TestType>();
  CHECK(bit_difference(scores, rounded) == "");
}

TEST_CASE("gates of 0 make nothing not a number", "[forgetting_gates]") {
  tensor3<float> gates(1, 6, 1);
  gates.setConstant(-std::numeric_limits<float>::infinity());
  tensor4<float> scores(1, 1, 6, 6);
  scores.setConstant(1);
  const attention_positions at{positions::range(6), positions::range(6)};
  forgetting_gates<float>({.heads = 1, .direction = forgetting::causal}).bias(scores, inputs_of(gates), at);
  for (index_t i = 0; i < 6; ++i)
    for (index_t j = 0; j < 6; ++j) CHECK(scores(0, 0, i, j) == (j > i ? 1 : 1 - 32768.0f * static_cast<float>(i - j)));
}

TEST_CASE("the gradients of log gates are those of finite differences", "[forgetting_gates]") {
  for (const auto& one : cases())
    for (const auto direction : {forgetting::causal, forgetting::bidirectional})
      for (const bool masked : {false, true}) {
        const index_t queries = one.at.queries.time(), keys = one.at.keys.time();
        auto gates = random_gates<double>(batch_, keys, gates_of(direction));
        const auto before = random_tensor<tensor4<double>>(8, batch_, heads_, queries, keys),
                   weights = random_tensor<tensor4<double>>(9, batch_, heads_, queries, keys);
        const forgetting_gates<double> encoder(options(direction));
        const score_pass pass{.scale = 0.5, .causal = masked};
        const auto loss = [&] {
          auto scores = before;
          encoder.bias(scores, inputs_of(gates), one.at, pass);
          double sum = 0;
          for (index_t n = 0; n < scores.size(); ++n)
            if (std::isfinite(scores.data()[n])) sum += scores.data()[n] * weights.data()[n];
          return sum;
        };
        auto d = weights;
        tensor3<double> d_gates(batch_, keys, gates_of(direction));
        d_gates.setConstant(3);
        encode_scores_backward(encoder, d, inputs_of(gates), attention_gradients<double>{.log_gates = d_gates}, encoder.prepare(one.at),
                               {});
        d = weights, d_gates.setConstant(3);
        encoder.bias_backward(d, inputs_of(gates), {.log_gates = d_gates}, one.at, {}, pass);
        const auto wanted = reference::derivatives({gates.data(), static_cast<std::size_t>(gates.size())}, loss, 0.05);
        for (std::size_t n = 0; n < wanted.size(); ++n) CHECK(std::abs(d_gates.data()[n] - 3 - wanted[n]) <= 1e-10);
        auto scores = before;
        encoder.bias(scores, inputs_of(gates), one.at, pass);
        for (index_t n = 0; n < d.size(); ++n) CHECK(d.data()[n] == (std::isfinite(scores.data()[n]) ? 0.5 * weights.data()[n] : 0));
        // The scores' gradient alone.
        auto alone = weights;
        encoder.bias_backward(alone, inputs_of(gates), {}, one.at, {}, pass);
        CHECK(bit_difference(alone, d) == "");
      }
}

TEST_CASE("log gates that count as the least one have no gradient", "[forgetting_gates]") {
  tensor3<double> gates(1, 4, 1), d_gates(1, 4, 1);
  gates.setValues({{{-1}, {-40000}, {-32768}, {-std::numeric_limits<double>::infinity()}}});
  d_gates.setZero();
  tensor4<double> d(1, 1, 4, 4);
  d.setConstant(1);
  const attention_positions at{positions::range(4), positions::range(4)};
  forgetting_gates<double>({.heads = 1, .direction = forgetting::causal})
      .bias_backward(d, inputs_of(gates), {.log_gates = d_gates}, at, {});
  // Between pairs j < t <= i: 3 keys before and 2 queries from t = 2 on.
  const double wanted[] = {0, 0, 4, 0};
  for (index_t t = 0; t < 4; ++t) CHECK(d_gates(0, t, 0) == wanted[t]);
}

TEST_CASE("FoX's threshold", "[forgetting_gates]") {
  CHECK(std::abs(forgetting_threshold(5, 1000, 1e-3) - (-10 - 2 * std::log(1000.0))) <= 1e-13);
  using reference::refuses;
  refuses("[forgetting_threshold] most_score must be finite and not negative but got -1", [] { forgetting_threshold(-1, 1, 1); });
  refuses("[forgetting_threshold] keys must be positive but got 0", [] { forgetting_threshold(1, 0, 1); });
  refuses("[forgetting_threshold] epsilon must be positive and finite but got 0", [] { forgetting_threshold(1, 1, 0); });
}

TEST_CASE("forgetting gates are compared by their options", "[forgetting_gates]") {
  CHECK(forgetting_gates<float>(options(forgetting::causal)) == forgetting_gates<float>(options(forgetting::causal)));
  CHECK_FALSE(forgetting_gates<float>(options(forgetting::causal)) == forgetting_gates<float>(options(forgetting::bidirectional)));
}

TEST_CASE("forgetting gates refuse what does not fit, before they write", "[forgetting_gates]") {
  using reference::refuses;
  refuses("[forgetting_gates] heads must be positive but got 0",
          [] { forgetting_gates<float>({.heads = 0, .direction = forgetting::causal}); });
  const forgetting_gates<float> encoder(options(forgetting::causal)), other(options(forgetting::bidirectional));
  std::vector<float> memory(1 * 2 * 3 * 4, 1.0f);
  const score_view<float> scores(memory.data(), {1, 2, 3, 4});
  auto gates = random_gates<float>(1, 4, 2);
  const attention_positions at{positions::range(3, 1), positions::range(4)};
  const auto refused = [&](const std::string& text, const score_view<float>& s, const attention_inputs<float>& inputs,
                           const attention_positions& where, const auto& of) {
    refuses(memory, "[forgetting_gates" + text, [&] { of.bias(s, inputs, where); });
    auto none = attention_gradients<float>{};
    refuses(memory, "[forgetting_gates" + text, [&] {
      // What only sums ask for is not asked for by the gradient.
      if (text.find("above 0") != std::string::npos) of.bias(s, inputs, where);
      else of.bias_backward(s, inputs, none, where, {});
    });
  };
  refused("] heads must match the encoder but got 2 and 1", score_view<float>(memory.data(), {1, 1, 3, 4}), inputs_of(gates), at, encoder);
  refused(" queries] time must match the positions but got 3 and 2", scores, inputs_of(gates), {positions::range(2), positions::range(4)},
          encoder);
  refused("] the last axis must be contiguous but got 2", score_view<float>(memory.data(), {1, 2, 3, 2}, {24, 12, 4, 2}), inputs_of(gates),
          {positions::range(3), positions::range(2)}, encoder);
  refused("] the log gates must be given but got none", scores, {.scale = 1.0}, at, encoder);
  refused("] the log gates must be [batch, key, gate] but got [1, 4, 4] and [1, 4, 2]", scores, inputs_of(gates), at, other);
  refused("] each query's position must be among the keys' but got 4", scores, inputs_of(gates),
          {positions::range(3, 2), positions::range(4)}, encoder);
  refused("] queries must be the last of the keys where positions restart but got 0", scores, inputs_of(gates),
          {positions::range(3), positions::packed(std::array{0, 2, 4})}, encoder);
  for (const float bad : {1e-30f, std::numeric_limits<float>::quiet_NaN()}) {
    gates(0, 3, 1) = bad;
    refuses(memory, std::string("[cumulative_gates] log gates must not be above 0 but got ") + (bad > 0 ? "1e-30" : "nan"),
            [&] { encoder.bias(scores, inputs_of(gates), at); });
  }
  gates(0, 3, 1) = 0;
  cumulative_gates sums(1, 2, 4);
  refuses(memory, "[forgetting_gates] the sums must be of the batch, the gates and the keys but got [1, 2, 4] and [1, 2, 0]",
          [&] { encoder.bias(scores, sums, at); });
  sums.append(gates, positions::range(4));
  const key_spans spans = encoder.prepare(at);
  const tensor_view<float, 2> tile(memory.data(), {3, 4});
  const auto refused_tile = [&](const std::string& text, const tile_place& place, const cumulative_gates& some) {
    refuses(memory, text, [&] { encoder.bias_tile(tile, place, some, spans); });
  };
  refused_tile("[forgetting_gates] head must lie within the heads but got 2 and 2", {0, 2, 0, 0}, sums);
  refused_tile("[forgetting_gates] the tile must lie within the batch but got 1", {1, 0, 0, 0}, sums);
  refused_tile("[forgetting_gates] the sums must be of the batch, the gates and the keys but got [1, 2, 4] and [1, 2, 0]", {0, 0, 0, 0},
               cumulative_gates(1, 2, 4));
  refused_tile("[positions] a slice must lie within time but got 3 and 1 and 3", {0, 0, 1, 0}, sums);

  tensor3<float> small(1, 4, 1);
  refuses(memory, "[forgetting_gates] gradients must have the shapes of what they are of but got [1, 4, 2] and [1, 4, 1]",
          [&] { encoder.bias_backward(scores, inputs_of(gates), {.log_gates = small}, at, {}); });
  std::vector<float> one(1);
  const std::span<float> spare[] = {one};
  refuses(memory, "[forgetting_gates] there must be one gradient span per parameter but got 0 and 1",
          [&] { encoder.bias_backward(scores, inputs_of(gates), {}, at, spare); });
}
