// SPDX-License-Identifier: MIT
#include <posenc/relative/relative_bias_verbs.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/rounded.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define COUNTS_MEMORY 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COUNTS_MEMORY 0
#endif
#endif
#ifndef COUNTS_MEMORY
#define COUNTS_MEMORY 1
#endif

#if COUNTS_MEMORY
namespace {
std::atomic<std::size_t> allocated{0};  // bytes, by everything in this program
}

// What the whole program allocates with is replaced, so as to count it; but where a sanitizer has replaced it already.
[[gnu::noinline]] void* operator new(std::size_t size) {
  allocated += size;
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace {

using namespace posenc;
using Eigen::RowMajor;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, RowMajor>;
constexpr position none = no_position, far = positions::limit;
constexpr index_t toy_heads = 3;

/// What a parameter is multiplied by.
double basis(position query, position distance, bool query_counts) {
  return std::sin(static_cast<double>(distance % 1009)) + (query_counts ? static_cast<double>(query % 7) : 0.0);
}

/// a[h] * basis(distance) + b, where the basis is that of the nearest end beyond the ends.
template <class S>
struct toy : relative_bias_verbs<toy<S>, S> {
  std::vector<S> a{S(0.5), S(-1.25), S(3)}, b{S(0.75)};
  bool decides = true, query_counts = false;
  distance_range range{std::numeric_limits<position>::min(), std::numeric_limits<position>::max()};

  static constexpr std::string_view name() { return "toy"; }
  index_t heads() const { return toy_heads; }
  distance_range ends() const { return range; }
  bool distance_decides(const attention_positions&) const { return decides && !query_counts; }
  double basis_of(position query, position key) const {
    if (query == none || key == none) throw std::logic_error("the biases of a token without a position must not be asked for");
    return basis(query, std::clamp(detail::distance_of(key, query), range.low, range.high), query_counts);
  }
  void biases(index_t head, index_t count_of_heads, position query, const position* keys, index_t count, S* out, index_t stride) const {
    for (index_t h = 0; h < count_of_heads; ++h)
      for (index_t n = 0; n < count; ++n)
        out[h * stride + n] = static_cast<S>(static_cast<double>(a[static_cast<std::size_t>(head + h)]) * basis_of(query, keys[n]) +
                                             static_cast<double>(b[0]));
  }
  void add_gradient(position query, const position* keys, index_t count, const double* d, index_t stride, double* sums) const {
    for (index_t h = 0; h < toy_heads; ++h)
      for (index_t n = 0; n < count; ++n) sums[h] += d[h * stride + n] * basis_of(query, keys[n]), sums[3] += d[h * stride + n];
  }
  std::vector<parameter<S>> parameters() { return {{"a", a, {toy_heads}}, {"b", b, {1}}}; }
  friend bool operator==(const toy& one, const toy& other) { return one.a == other.a && one.b == other.b; }
};
static_assert(bias_encoder<toy<float>> && position_encoder<toy<float>> && trainable<toy<double>> && bias_encoder<toy<double>>);

/// The least that an encoder has to say: nothing is trained. It is not comparable, so no encoder by the concept.
struct still : relative_bias_verbs<still, float> {
  static constexpr std::string_view name() { return "still"; }
  static index_t heads() { return 1; }
  static void biases(index_t, index_t, position query, const position* keys, index_t count, float* out, index_t) {
    for (index_t n = 0; n < count; ++n) out[n] = keys[n] == query ? 1.0f : 0.0f;
  }
};

struct place {
  const char* name;
  attention_positions at;
};
const place places[] = {
    {"behind a cache", {positions::range(5, 30), positions::range(35)}},
    {"gaps, repeats and none",
     {positions::ids(std::array<position, 5>{5, none, 2147483647, 3, 3}),
      positions::ids(std::array<position, 10>{0, 1, 2, none, none, 9, 2147483640, 3, 4, 4})}},
    {"two rows",
     {positions::offsets(std::array{3, 50}, 4), positions::ids(std::array<position, 14>{0, 1, 2, 3, 7, 8, 9, 44, 45, 46, 0, 1, 2, 3}, 2)}},
    {"rows of the keys alone", {positions::range(3), positions::offsets(std::array{0, -9}, 20)}},
    {"documents", {positions::packed(std::array{0, 5, 9, 30}), positions::packed(std::array{0, 5, 9, 30})}},
    {"near 2^31", {positions::range(3, 2147483646), positions::range(20, 2147483630)}},
    {"near 2^62", {positions::range(3, far - 4), positions::range(9, far - 10)}},
    {"from end to end",
     {positions::ids(std::array<position, 4>{-far, far, 0, far - 1}),
      positions::ids(std::array<position, 6>{far, -far, -far + 1, 5, none, -1})}},
    {"many runs", [] {
       std::vector<position> pairs;
       for (position n = 0; n < 150; ++n) pairs.push_back(n % 50 == 49 ? none : -3 * (n / 2) + n % 2);
       return attention_positions{positions::ids(std::array{0, -70}), positions::ids(pairs)};
     }()}};

/// Everything that decides which way the biases take.
template <class S>
void for_each_way(auto&& test) {
  for (const auto& where : places)
    for (const distance_range& range : {toy<S>().range, distance_range{-6, 4}, distance_range{0, 0}})
      for (const int way : {0, 1, 2}) {
        toy<S> encoder;
        encoder.range = range, encoder.decides = way == 0, encoder.query_counts = way == 2;
        for (const auto& pass : {score_pass{}, score_pass{.scale = 0.375}, score_pass{.scale = -2, .causal = true}}) {
          INFO(where.name << ", ends " << range.low << " to " << range.high << ", way " << way << ", scale " << pass.scale);
          test(encoder, where.at, pass);
        }
      }
}

template <class T>
tensor4<T> random_scores(std::uint64_t seed, const attention_positions& at) {
  return random_tensor<tensor4<double>>(seed, 2, toy_heads, at.queries.time(), at.keys.time()).template cast<T>();
}

/// From one pair after the other.
template <class T, class S>
tensor4<T> expected(const tensor4<T>& in, const toy<S>& encoder, const attention_positions& at, const score_pass& pass) {
  using reference::plus, reference::times;
  tensor4<T> out = in;
  for (index_t b = 0; b < in.dimension(0); ++b)
    for (index_t h = 0; h < toy_heads; ++h)
      for (index_t i = 0; i < in.dimension(2); ++i)
        for (index_t j = 0; j < in.dimension(3); ++j) {
          const position query = at.queries(b, i), key = at.keys(b, j);
          S score = times(static_cast<S>(in(b, h, i, j)), static_cast<S>(pass.scale));
          if (query != none && key != none) {
            const double bias = static_cast<double>(encoder.a[static_cast<std::size_t>(h)]) * encoder.basis_of(query, key);
            score = pass.causal && key > query ? -std::numeric_limits<S>::infinity()
                                               : plus(score, static_cast<S>(bias + static_cast<double>(encoder.b[0])));
          }
          out(b, h, i, j) = static_cast<T>(score);
        }
  return out;
}

}  // namespace

TEMPLATE_TEST_CASE("relative biases have the same bits by table and by rows, in place, elsewhere and in tiles", "[relative_bias_verbs]",
                   float, double, Eigen::bfloat16) {
  using S = compute_t<TestType>;
  for_each_way<S>([](const toy<S>& encoder, const attention_positions& at, const score_pass& pass) {
    const index_t queries = at.queries.time(), keys = at.keys.time();
    const auto before = random_scores<TestType>(1, at);
    const auto wanted = expected(before, encoder, at, pass);
    auto scores = before, prepared = before, out = before, tiled = before;
    const auto state = prepare(encoder, at);
    encoder.bias(scores, at, pass);
    CHECK(reference::bit_difference(scores, wanted) == "");
    encoder.bias(prepared, state, pass);
    CHECK(reference::bit_difference(prepared, wanted) == "");
    out.setZero();
    encoder.bias(before, out, state, pass);
    CHECK(reference::bit_difference(out, wanted) == "");
    for (index_t b = 0; b < 2; ++b)
      for (index_t h = 0; h < toy_heads; ++h)
        for (index_t i = 0; i < queries; i += 2)
          for (index_t j = 0; j < keys; j += 7) {
            const tensor_view<TestType, 2> tile(&tiled(b, h, i, j), {std::min<index_t>(2, queries - i), std::min<index_t>(7, keys - j)},
                                                {keys, 1});
            if (h == 1) encoder.bias_tile(tile, {.batch = b, .head = h, .query = i, .key = j}, at, pass);
            else encoder.bias_tile(tile, {.batch = b, .head = h, .query = i, .key = j}, state, pass);
          }
    CHECK(reference::bit_difference(tiled, wanted) == "");
  });
}

TEST_CASE("relative biases: bias_backward is the derivative of bias, by table and by rows", "[relative_bias_verbs]") {
  for_each_way<double>([](toy<double> encoder, const attention_positions& at, const score_pass& pass) {
    auto scores = random_scores<double>(2, at);
    const auto weights = random_scores<double>(3, at);
    const auto loss = [&] {
      auto out = scores;
      encoder.bias(out, at, pass);
      for (index_t n = 0; n < out.size(); ++n)
        if (std::isinf(out.data()[n])) out.data()[n] = 0;
      return reference::dot(out, weights);
    };
    const auto all = encoder.parameters();
    gradient_buffer<double> gradients(all), again(all);
    gradients.spans()[0][1] = 100;  // it is added to
    auto d = weights, same = weights, masked = weights;
    encoder.bias_backward(d, at, gradients.spans(), pass);
    gradients.spans()[0][1] -= 100;
    for (const std::size_t n : {0u, 1u})
      CHECK(reference::difference(gradients.spans()[n], reference::derivatives(all[n].values, loss, 0.5), 1e-10) == "");
    encoder.bias_backward(same, prepare(encoder, at), again.spans(), pass);
    CHECK(reference::bit_difference(same, d) == "");
    CHECK(reference::difference(again.spans()[0], gradients.spans()[0], 1e-12) == "");
    for (index_t b = 0; b < 2; ++b)
      for (index_t h = 0; h < toy_heads; ++h)
        for (index_t i = 0; i < masked.dimension(2); ++i)
          for (index_t j = 0; j < masked.dimension(3); ++j) {
            const position query = at.queries(b, i), key = at.keys(b, j);
            masked(b, h, i, j) *= pass.causal && query != none && key != none && key > query ? 0 : pass.scale;
          }
    CHECK(reference::difference(d, masked, 0) == "");
  });
}

TEST_CASE("relative biases in float: gradients are summed in double", "[relative_bias_verbs]") {
  for (const bool decides : {true, false}) {
    toy<float> encoder;
    encoder.decides = decides;
    tensor4<float> d(1, toy_heads, 64, 64);
    d.setZero();
    for (index_t i = 0; i < 64; ++i) d(0, 0, i, i) = i == 7 ? 0x1p-11f : i == 8 ? 0 : i % 2 ? 0x1p20f : -0x1p20f;
    gradient_buffer<float> gradients(encoder.parameters());
    encoder.bias_backward(d, {positions::range(64), positions::range(64)}, gradients.spans());
    CHECK(gradients.spans()[1][0] == 0x1p-11f);
  }
}

TEST_CASE("relative biases have the same bits on any number of threads", "[relative_bias_verbs]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  for (const int way : {0, 1, 2}) {
    toy<float> encoder;
    encoder.decides = way == 0, encoder.query_counts = way == 2;
    const attention_positions at{positions::range(160, 100), positions::range(260)};
    const auto before = random_scores<float>(4, at);
    auto alone = before, together = before, d_alone = before, d_together = before;
    encoder.bias(alone, at, {.causal = true});
    encoder.bias(together, encoder.prepare(at, device), {.causal = true}, device);
    CHECK(reference::bit_difference(together, alone) == "");
    gradient_buffer<float> one(encoder.parameters()), other(encoder.parameters());
    encoder.bias_backward(d_alone, at, one.spans(), {.scale = 0.5});
    encoder.bias_backward(d_together, at, other.spans(), {.scale = 0.5}, device);
    CHECK(reference::bit_difference(d_together, d_alone) == "");
    CHECK(reference::bit_difference(other.spans()[0], one.spans()[0]) == "");
    CHECK(reference::bit_difference(other.spans()[1], one.spans()[1]) == "");
  }
}

TEST_CASE("relative biases: a decode step has the bits of the whole, and a row those it has alone", "[relative_bias_verbs]") {
  for (const bool decides : {true, false}) {
    toy<float> encoder;
    encoder.decides = decides;
    const auto before = random_tensor<tensor4<float>>(5, 2, toy_heads, 12, 12);
    auto whole = before, steps = before;
    const auto rows = positions::offsets(std::array{0, 40}, 12);
    encoder.bias(whole, {rows, rows}, {.causal = true});
    for (index_t b = 0; b < 2; ++b)
      for (index_t i = 0; i < 12; ++i) {
        const tensor_view<float, 4> row(&steps(b, 0, i, 0), {1, toy_heads, 1, 12}, {432, 144, 12, 1});
        encoder.bias(row, {positions::range(1, 40 * b + i), positions::range(12, 40 * b)}, {.causal = true});
      }
    CHECK(reference::bit_difference(steps, whole) == "");
  }
}

TEST_CASE("relative biases: the state has the distances that occur, or none", "[relative_bias_verbs]") {
  toy<double> encoder;
  const auto state_of = [&](const positions& queries, const positions& keys) {
    return prepare(encoder, attention_positions{queries, keys});
  };
  const auto state = state_of(positions::range(3, 40), positions::range(43));
  CHECK(state.distances() == distance_range{-42, 2});
  CHECK(state.values().extents() == std::array<index_t, 2>{toy_heads, 45});
  for (index_t h = 0; h < toy_heads; ++h)
    for (index_t n = 0; n < 45; ++n) CHECK(state.values()(h, n) == encoder.value(h, 100, 100 - 42 + n));
  CHECK(state.at() == attention_positions{positions::range(3, 40), positions::range(43)});
  CHECK(state_of(positions::range(1), positions::ids(std::array<position, 1>{1000})).values().empty() == false);
  CHECK(state_of(positions::range(1), positions::ids(std::array<position, 2>{0, 1000})).values().empty());  // far apart
  CHECK(state_of(positions::range(1), positions::ids(std::array{none})).distances() == distance_range{0, 0});
  encoder.range = {-6, 4};
  CHECK(state_of(positions::range(1), positions::ids(std::array<position, 2>{far, -far})).distances() == distance_range{-6, 4});
  encoder.query_counts = true;
  CHECK(state_of(positions::range(1), positions::range(1)).values().empty());
  CHECK(encoder.value(1, none, 3) == 0);
  CHECK(encoder.value(1, 3, none) == 0);
}

TEST_CASE("relative biases: one that is not trained has a gradient of the scores alone", "[relative_bias_verbs]") {
  const still encoder;
  const attention_positions at{positions::range(2), positions::range(3)};
  tensor4<float> scores(1, 1, 2, 3);
  scores.setZero();
  encoder.bias(scores, at);
  CHECK(std::vector<float>(scores.data(), scores.data() + 6) == std::vector<float>{1, 0, 0, 0, 1, 0});
  scores.setConstant(2);
  encoder.bias_backward(scores, at, {}, {.scale = 0.5, .causal = true});
  CHECK(std::vector<float>(scores.data(), scores.data() + 6) == std::vector<float>{1, 0, 0, 1, 1, 0});
}

#if COUNTS_MEMORY
TEST_CASE("relative biases of distances need memory for the distances alone, and none with a state", "[relative_bias_verbs]") {
  const toy<float> encoder;
  const auto bytes_of = [](auto&& act) {
    const std::size_t before = allocated;
    act();
    return allocated - before;
  };
  void* volatile kept = nullptr;  // or else the compiler leaves the pair out
  CHECK(bytes_of([&] {
          kept = ::operator new(800);
          ::operator delete(kept);
        }) == 800);  // it counts
  const auto at = positions::range(4096);
  std::size_t of_prepare = bytes_of([&] { encoder.prepare({at, at}); });
  CHECK(of_prepare >= toy_heads * 8191 * sizeof(float));
  CHECK(of_prepare < toy_heads * 8191 * sizeof(float) + 8191 * sizeof(position) + 1000);

  const attention_positions some{positions::range(300, 200), positions::range(500)};
  const std::size_t distances = 799, table = toy_heads * distances * sizeof(float) + distances * sizeof(position);
  auto scores = random_scores<float>(6, some);  // 3.6 MB
  CHECK(bytes_of([&] { encoder.bias(scores, some, {.causal = true}); }) < table + 1000);
  const auto state = prepare(encoder, some);
  CHECK(bytes_of([&] { encoder.bias(scores, state, {.causal = true}); }) == 0);
  Eigen::Tensor<float, 2, RowMajor> tile(64, 64);
  tile.setZero();
  CHECK(bytes_of([&] { encoder.bias_tile(tile, {.batch = 1, .head = 2, .query = 5, .key = 7}, state); }) == 0);
  CHECK(bytes_of([&] { encoder.bias_tile(tile, {.batch = 1, .head = 2, .query = 5, .key = 7}, some); }) < 127 * (4 + 8) + 500);
  gradient_buffer<float> gradients(toy<float>().parameters());
  CHECK(bytes_of([&] { encoder.bias_backward(scores, some, gradients.spans()); }) < toy_heads * distances * sizeof(double) + 8000);
  toy<float> by_rows;
  by_rows.query_counts = true;
  CHECK(bytes_of([&] { by_rows.bias(scores, some); }) < toy_heads * 500 * sizeof(float) + 500 * sizeof(position) + 1000);
}
#endif

TEST_CASE("relative biases refuse what does not fit, before they write", "[relative_bias_verbs][errors]") {
  toy<float> encoder;
  const attention_positions at{positions::range(3), positions::range(4)};
  auto scores = random_scores<float>(7, at);
  const auto refused = [&](const std::string& text, auto&& act) { reference::refuses(scores, "[toy] " + text, act); };
  const auto grid = positions::multi_axis(std::array{0, 1, 2, 3}, 2);
  refused("positions must have one axis but got 2 and 1", [&] { encoder.prepare({grid, at.keys}); });
  refused("positions must have one axis but got 1 and 2", [&] { encoder.prepare({at.queries, grid}); });
  refused("head must lie within the heads but got 3 and 3", [&] { encoder.value(3, 0, 0); });
  refused("head must lie within the heads but got 3 and -1", [&] { encoder.value(-1, 0, 0); });
  const still other;
  const auto state = other.prepare(at);
  refused("the table must be of this encoder but got 3 and 1", [&] { encoder.bias(scores, state); });
  refused("the table must be of this encoder but got 3 and 1", [&] {
    encoder.bias_tile(tensor_view<float, 2>(scores.data(), {2, 2}, {4, 1}), {.batch = 0, .head = 0, .query = 0, .key = 0}, state);
  });
  std::array<float, 3> a{1, 2, 3};
  std::array<float, 1> b{4};
  const std::array<std::span<float>, 1> few{a};
  const std::array<std::span<float>, 2> wrong{a, a};
  refused("there must be one gradient span per parameter but got 2 and 0", [&] { encoder.bias_backward(scores, at, {}); });
  refused("there must be one gradient span per parameter but got 2 and 1", [&] { encoder.bias_backward(scores, at, few); });
  refused("gradient spans must have the sizes of the parameters but got 1 and 3", [&] { encoder.bias_backward(scores, at, wrong); });
  const std::array<std::span<float>, 2> good{a, b};
  reference::refuses(scores, "[toy queries] time must match the positions but got 3 and 2",
                     [&] { encoder.bias_backward(scores, {positions::range(2), at.keys}, good); });
  CHECK((a == std::array<float, 3>{1, 2, 3} && b[0] == 4));
}
