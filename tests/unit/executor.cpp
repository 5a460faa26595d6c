// SPDX-License-Identifier: MIT
#include <posenc/executor.hpp>

#include <posenc/concepts.hpp>

#include "catch.hpp"

#include <atomic>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>

using namespace posenc;

namespace {

struct pooled {
  explicit pooled(int threads) : pool(threads), device(&pool, threads) {}
  Eigen::ThreadPool pool;
  Eigen::ThreadPoolDevice device;
};

/// A pool that takes so many tasks and no more.
class refusing_device {
 public:
  explicit refusing_device(int tasks) : left_(tasks) {}
  int numThreads() const { return 5; }
  const refusing_device* getPool() const { return this; }
  void Schedule(std::function<void()> task) const {
    if (left_-- == 0) throw std::runtime_error("no more");
    pool_.Schedule(std::move(task));
  }

 private:
  mutable int left_;
  mutable Eigen::ThreadPool pool_{2};
};

/// An encoder of a user's that knows of no executors, and one that does.
struct plain_encoder {
  using scalar = float;
  int* calls;
  static constexpr const char* name() { return "plain_encoder"; }
  void add(token_view<float>, const positions&) const { ++*calls; }
  bool operator==(const plain_encoder&) const = default;
};
struct knowing_encoder {
  using scalar = float;
  index_t* threads;
  static constexpr const char* name() { return "knowing_encoder"; }
  void add(token_view<float>, const positions&, const executor& run = {}) const { *threads = run.threads(); }
  bool operator==(const knowing_encoder&) const = default;
};

}  // namespace

TEST_CASE("an executor is the calling thread, or an Eigen device", "[executor]") {
  CHECK(executor().threads() == 1);
  CHECK(executor(Eigen::DefaultDevice()).threads() == 1);
  const pooled three(3);
  CHECK(executor(three.device).threads() == 3);
  static_assert(std::is_convertible_v<Eigen::ThreadPoolDevice, executor> && std::is_convertible_v<Eigen::DefaultDevice, executor>);
  static_assert(!std::is_convertible_v<Eigen::ThreadPool, executor> && !std::is_convertible_v<int, executor>);
}

TEST_CASE("streaming is a property of its own", "[executor]") {
  const pooled two(2);
  const executor run(two.device);
  CHECK_FALSE(executor().streams());
  CHECK_FALSE(run.streams());
  CHECK(run.streaming().streams());
  CHECK(run.streaming().threads() == 2);
}

TEST_CASE("work is split where it takes some sixty microseconds, into more parts than there are threads", "[executor]") {
  const pooled four(4);
  const executor run(four.device);
  CHECK(executor().parts(1000, 1e9) == 1);
  CHECK(run.parts(1000, 0) == 1);
  CHECK(run.parts(1000, 59e3) == 1);
  CHECK(run.parts(1000, 61e3) == 12);
  CHECK(run.parts(1000, 76e3) == 15);
  CHECK(run.parts(1000, 1e9) == 32);
  CHECK(run.parts(1000, 1e300) == 32);
  CHECK(run.parts(3, 1e9) == 3);
  CHECK(run.parts(0, 1e9) == 1);
}

TEST_CASE("a split covers every item once", "[executor]") {
  const pooled three(3);
  const executor run(three.device);
  for (index_t count = 0; count < 40; ++count)
    for (index_t parts = 1; parts < 9; ++parts) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count) + 1), taken(static_cast<std::size_t>(parts));
      run.split(count, parts, [&](index_t part, index_t from, index_t to) {
        ++taken[static_cast<std::size_t>(part)];
        for (index_t i = from; i < to; ++i) ++seen[static_cast<std::size_t>(i)];
      });
      int wrong = 0;
      for (index_t i = 0; i < count; ++i) wrong += seen[static_cast<std::size_t>(i)] != 1;
      for (const auto& times : taken) wrong += times != 1;
      CHECK(wrong == 0);
    }
}

TEST_CASE("a split inside a task of the same pool ends, though no other thread is free", "[executor]") {
  const pooled one(1);
  const Eigen::ThreadPoolDevice more(const_cast<Eigen::ThreadPool*>(&one.pool), 3);
  std::atomic<int> parts{0};
  Eigen::Barrier done(1);
  const_cast<Eigen::ThreadPool&>(one.pool).Schedule([&] {
    executor(more).split(30, 3, [&](index_t, index_t, index_t) { ++parts; });
    done.Notify();
  });
  done.Wait();
  CHECK(parts == 3);
}

TEST_CASE("where a pool refuses a task, the others do the work before the error goes on", "[executor]") {
  for (int taken = 0; taken < 4; ++taken) {
    const refusing_device device(taken);
    std::atomic<int> parts{0};
    const auto split = [&] { executor(device).split(40, 5, [&](index_t, index_t, index_t) { ++parts; }); };
    CHECK_THROWS_WITH(split(), "no more");
    CHECK(parts == 5);
  }
}

TEST_CASE("blocks are whole outer rows or parts of one, in sequence", "[executor]") {
  for (const index_t inner : {1, 3, 7})
    for (index_t from = 0; from < 22; ++from)
      for (index_t to = from; to < 22; ++to) {
        index_t next = from;
        int blocks = 0;
        detail::for_each_block(from, to, inner, [&](index_t outer, index_t outers, index_t first, index_t count) {
          CHECK(outer * inner + first == next);
          CHECK((outers == 1 || (first == 0 && count == inner)));
          CHECK((outers > 0 && count > 0 && first + count <= inner));
          next += outers * count;
          ++blocks;
        });
        CHECK(next == to);
        CHECK(blocks <= 3);
      }
}

TEST_CASE("stages hand executors to encoders that take them, and call the others without", "[executor]") {
  const pooled two(2);
  Eigen::Tensor<float, 3, Eigen::RowMajor> x(1, 2, 3);
  x.setZero();
  int calls = 0;
  index_t threads = 0;
  static_assert(position_encoder<plain_encoder> && position_encoder<knowing_encoder>);
  encode_embeddings(plain_encoder{&calls}, x, positions::range(2), two.device);
  CHECK(calls == 1);
  encode_embeddings(knowing_encoder{&threads}, x, positions::range(2), two.device);
  CHECK(threads == 2);
  encode_embeddings(knowing_encoder{&threads}, x, positions::range(2));
  CHECK(threads == 1);
}
