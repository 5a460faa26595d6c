// SPDX-License-Identifier: MIT
/// \file  Every verb on several threads, and past the caches: the bits of one thread, and work that was split indeed.
#include <posenc/posenc.hpp>

#include "catch.hpp"
#include "random.hpp"

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

namespace {

using namespace posenc;

/// Eigen's pool, which counts the tasks it is given.
class counting_device {
 public:
  explicit counting_device(int threads) : threads_(threads), pool_(threads) {}
  int numThreads() const { return threads_; }
  counting_device* getPool() const { return const_cast<counting_device*>(this); }
  void Schedule(std::function<void()> task) {
    ++tasks;
    pool_.Schedule(std::move(task));
  }
  std::atomic<int> tasks{0};

 private:
  int threads_;
  Eigen::ThreadPool pool_;
};
static_assert(thread_pool_device<counting_device> && thread_pool_device<Eigen::ThreadPoolDevice> &&
              !thread_pool_device<Eigen::DefaultDevice>);

template <class T, int Rank>
using tensor = Eigen::Tensor<T, Rank, Eigen::RowMajor>;

template <class T, class... Extents>
tensor<T, sizeof...(Extents)> random(std::uint64_t seed, Extents... extents) {
  return random_tensor<tensor<compute_t<T>, sizeof...(Extents)>>(seed, extents...).template cast<T>();
}

template <class Tensor>
bool same(const Tensor& a, const Tensor& b) {
  return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(*a.data())) == 0;
}

/// `verb(result, run)` writes to a copy of `before`; each result has to be that of the calling thread alone.
template <class Tensor>
void check_threads(const Tensor& before, auto&& verb) {
  Tensor expected = before;
  verb(expected, executor());
  CHECK_FALSE(same(expected, before));
  for (const int threads : {1, 2, 3, 7}) {
    CAPTURE(threads);
    counting_device device(threads);
    for (const executor& run : {executor(device), executor(device).streaming()}) {
      Tensor got = before;
      device.tasks = 0;
      verb(got, run);
      CHECK(same(got, expected));
      CHECK((device.tasks > 0) == (threads > 1));
    }
  }
}

constexpr auto time_head = axis_order::time_head;

// Sizes are such that one thread takes more than the 60 microseconds below which nothing is split.
constexpr index_t batch = 3, tokens = 750, count = 12, channels = 72;

}  // namespace

TEMPLATE_TEST_CASE("rope has the same bits on any number of threads", "[executor]", float, double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  const rope<S> encoder({.pairing = pairing::halves, .dim = 64, .offset = 8, .attention_factor = 1.25});
  const auto at = positions::offsets(std::array<position, 3>{3, 1000, -40}, tokens);
  const auto table = encoder.prepare(at);
  const auto x = random<T>(1, batch, tokens, count, channels);
  check_threads(x, [&](auto& y, const executor& run) { encoder.rotate(heads(y, time_head), table, run); });
  check_threads(x, [&](auto& y, const executor& run) { encoder.rotate(heads(y, time_head), at, run); });
  check_threads(x, [&](auto& y, const executor& run) { encoder.inverse(heads(y, time_head), table, run); });
  check_threads(x, [&](auto& y, const executor& run) { encoder.rotate_backward(heads(y, time_head), table, run); });
  check_threads(x, [&](auto& y, const executor& run) { encoder.shift(heads(y, time_head), position{-5}, run); });
  check_threads(x, [&](auto& y, const executor& run) { encoder.shift(heads(y, time_head), at, run); });
  check_threads(x, [&](auto& y, const executor& run) { encoder.rotate(heads(x, time_head), heads(y, time_head), table, run); });

  const auto by_head = random<T>(2, batch, count, tokens, channels);
  check_threads(by_head, [&](auto& y, const executor& run) { encoder.rotate(heads(y, axis_order::head_time), table, run); });

  std::vector<index_t> rows(static_cast<std::size_t>(batch * tokens));
  std::iota(rows.rbegin(), rows.rend(), 5);
  rows[7] = no_row;
  check_threads(random<T>(3, 1, batch * tokens + 9, count, channels),
                [&](auto& y, const executor& run) { encoder.rotate(heads(x, time_head), heads(y, time_head), rows, table, run); });
}

TEMPLATE_TEST_CASE("what goes past the caches is all there when a verb returns, whichever thread wrote it", "[executor]", float, double,
                   Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  constexpr index_t width = 64;  // whole cache lines in each of the four
  struct alignas(64) line {
    T elements[64 / sizeof(T)];
  };
  const auto x = random<T>(1, batch, tokens, count, width);
  const auto x_view = heads(x, time_head);
  const rope<S> rotary({.pairing = pairing::interleaved, .dim = width});
  const sinusoidal<S> absolute({.dim = count * width, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}});
  const auto at = positions::range(tokens, 5);
  const auto table = rotary.prepare(at);
  const token_view<const T> embeddings(x.data(), {batch, tokens, count * width});

  tensor<T, 4> turned = x, added = x;
  rotary.rotate(heads(turned, time_head), table);
  absolute.add(token_view<T>(added.data(), embeddings.extents()), at);
  std::vector<line> memory(static_cast<std::size_t>(x.size()) * sizeof(T) / sizeof(line));
  T* const out = memory.front().elements;
  const auto holds = [&](const tensor<T, 4>& expected) { return std::memcmp(out, expected.data(), memory.size() * sizeof(line)) == 0; };
  for (const int threads : {1, 3}) {
    counting_device device(threads);
    const executor run = executor(device).streaming();
    rotary.rotate(x_view, heads(tensor_view<T, 4>(out, x_view.by_time().extents()), time_head), table, run);
    CHECK(holds(turned));
    absolute.add(embeddings, token_view<T>(out, embeddings.extents()), at, run);
    CHECK(holds(added));
    CHECK((device.tasks > 0) == (threads > 1));
  }
}

TEMPLATE_TEST_CASE("tables have the same bits on any number of threads", "[executor]", float, double) {
  using S = TestType;
  const rope<S> encoder({.pairing = pairing::halves, .dim = 64});
  for (const auto& at : {positions::range(2200, 70), positions::offsets(std::array<position, 2>{3, -9}, 1050)})
    check_threads(tensor<S, 2>(2200, 64), [&](auto& all, const executor& run) {
      all.setConstant(S(3));
      const auto table = encoder.prepare(at, run);
      std::memcpy(all.data(), table.row(0, 0), sizeof(S) * static_cast<std::size_t>(std::max<index_t>(at.batch(), 1) * at.time() * 64));
    });
}

TEMPLATE_TEST_CASE("sinusoidal has the same bits on any number of threads", "[executor]", float, double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  for (const index_t dim : {192, 173}) {
    const sinusoidal<S> encoder({.dim = dim,
                                 .order = channel_order::interleaved,
                                 .exponent_rule = exponent_rule::vaswani{},
                                 .start = 2,
                                 .odd_dim = odd_dim::drop_last});
    const auto x = random<T>(1, batch, tokens, dim);
    std::vector<index_t> rows(static_cast<std::size_t>(batch * tokens));
    std::iota(rows.rbegin(), rows.rend(), 0);
    for (const auto& at : {positions::range(tokens, 9), positions::offsets(std::array<position, 3>{3, 123456, -70}, tokens)}) {
      check_threads(x, [&](auto& y, const executor& run) { encoder.add(y, at, run); });
      check_threads(x, [&](auto& y, const executor& run) { encoder.encode(at, y, run); });
      check_threads(random<T>(2, batch, tokens, dim), [&](auto& y, const executor& run) { encoder.add(x, y, at, run); });
      check_threads(random<T>(3, batch * tokens, dim), [&](auto& y, const executor& run) { encoder.add(x, y, rows, at, run); });
    }
  }
}

TEMPLATE_TEST_CASE("alibi has the same bits on any number of threads", "[executor]", float, double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  const alibi<S> encoder({.heads = count, .form = alibi_form::symmetric});
  const auto x = random<T>(1, batch, count, 220, 260);
  const auto queries = positions::offsets(std::array<position, 3>{0, 1000, 7}, 220);
  for (const attention_positions& at : {attention_positions{positions::range(220), positions::range(260)},
                                        attention_positions{queries, positions::offsets(std::array<position, 3>{0, 990, 5}, 260)}})
    for (const score_pass& pass : {score_pass{}, score_pass{.scale = 0.5, .causal = true}}) {
      check_threads(x, [&](auto& y, const executor& run) { encoder.bias(y, at, pass, run); });
      check_threads(random<T>(2, batch, count, 220, 260), [&](auto& y, const executor& run) { encoder.bias(x, y, at, pass, run); });

      std::vector<S> first;
      for (const int threads : {1, 2, 5}) {
        counting_device device(threads);
        auto d = x;
        std::vector<S> d_slopes(count, S(1));
        const std::array<std::span<S>, 1> spans{d_slopes};
        encoder.bias_backward(d, at, spans, pass, device);
        CHECK((device.tasks > 0) == (threads > 1));
        if (first.empty()) first = d_slopes;
        CHECK(d_slopes == first);
      }
    }
  check_threads(x, [&](auto& y, const executor& run) { encoder.bias(y, {queries, positions::range(260)}, run); });
}

TEST_CASE("the stages of a transformer hand the executor on, through compose too", "[executor]") {
  using T = float;
  const compose both(rope<T>({.pairing = pairing::interleaved, .dim = 64}), alibi<T>({.heads = count, .form = alibi_form::causal}),
                     sinusoidal<T>({.dim = 768, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}}));
  const auto at = positions::range(2200);
  const auto state = prepare(both, {at, at});
  check_threads(random<T>(1, 1, 2200, count, 64), [&](auto& y, const executor& run) {
    auto keys = y;
    encode_queries_keys(both, heads(y, time_head), heads(keys, time_head), state, run);
  });
  check_threads(random<T>(1, 1, 2200, count, 64), [&](auto& y, const executor& run) {
    auto keys = y;
    encode_queries_keys_backward(both, heads(y, time_head), heads(keys, time_head), state, run);
  });
  check_threads(random<T>(1, 1, count, 400, 400), [&](auto& y, const executor& run) {
    const auto near = positions::range(400);
    encode_scores(both, y, prepare(both, {near, near}, run), run);
  });
  check_threads(random<T>(1, 2, 2200, 768), [&](auto& y, const executor& run) { encode_embeddings(both, y, at, run); });
}
