// SPDX-License-Identifier: MIT
/// \file  How verbs are carried out: on which threads, and whether outputs go past the caches. The last argument of every verb.
#pragma once

#include <posenc/config.hpp>
#include <posenc/kernels/instruction_set.hpp>
#include <posenc/tensor.hpp>  // index_t, Eigen's devices

#include <algorithm>
#include <atomic>
#include <concepts>
#include <functional>
#include <memory>
#include <utility>

namespace POSENC_NAMESPACE {

/// `Eigen::ThreadPoolDevice`, known by what it can do: Eigen declares it only where EIGEN_USE_THREADS stood before its first header.
template <class D>
concept thread_pool_device = requires(const D& device, std::function<void()> task) {
  { device.numThreads() } -> std::convertible_to<index_t>;
  device.getPool()->Schedule(task);
};

/// The calling thread alone by default; or an Eigen device, which has to outlive it:
///
///     Eigen::ThreadPoolDevice device(&pool, 2);
///     rope.rotate(queries, table, device);
///
/// Work that takes some sixty microseconds is split into ranges of tokens, score rows or heads; less, such as a decode step, stays in the
/// calling thread. Results have the same bits for any number of threads. The calling thread takes its share and never waits for a
/// task that has not begun, so verbs may run inside tasks of the same pool. A split call allocates some hundred bytes.
class executor {
 public:
  executor() = default;
  executor(const Eigen::DefaultDevice&) noexcept {}
  template <thread_pool_device Device>
  executor(const Device& device) noexcept
      : device_(&device), threads_(std::max<index_t>(device.numThreads(), 1)), schedule_([](const void* pool, std::function<void()> task) {
          static_cast<const Device*>(pool)->getPool()->Schedule(std::move(task));
        }) {}

  index_t threads() const noexcept { return threads_; }

  /// The same, but `rotate` and `add` write outputs other than the input past the caches (non-temporal stores), where their rows are whole
  /// cache lines. About 1.6 times as fast for outputs that no cache holds; slower for those that one would, and for whoever reads them
  /// next.
  executor streaming() const noexcept {
    executor other = *this;
    other.streams_ = true;
    return other;
  }
  bool streams() const noexcept { return streams_; }

  /// Into how many parts work of `count` items should be split that one thread would do in that time. More than there are threads: one may
  /// wake late or be slower, and the others then take more.
  index_t parts(index_t count, double nanoseconds) const noexcept {
    constexpr double shortest = 5e3, least = 60e3;  // until another thread has woken up, this one has done 1 to 50 thousand
    constexpr index_t per_thread = 8;
    if (threads_ == 1 || nanoseconds < least) return 1;
    const auto worthwhile = static_cast<index_t>(std::min(nanoseconds / shortest, 1e6));
    return std::min({worthwhile, per_thread * threads_, std::max<index_t>(count, 1)});
  }

  /// Calls act(part, from, to) once for each of `parts` ranges of [0, count), in any order and thread. `act` must not throw. What the pool
  /// throws is passed on when all is done.
  template <class Act>
  void split(index_t count, index_t parts, const Act& act) const {
    const auto range = [count, parts, &act](index_t part) { act(part, begin_of(part, count, parts), begin_of(part + 1, count, parts)); };
    if (parts == 1) return range(0);
    current_instruction_set();  // may throw where it is asked for first: here, not in a thread of the pool
    // Tasks may begin after all is done: what they then look at must still be there, and must not be this call's.
    struct progress {
      std::atomic<int> next{0}, done{0};
    };
    const auto state = std::make_shared<progress>();
    const int all = static_cast<int>(parts);
    const auto work = [state, all, &range] {
      for (int part = state->next.fetch_add(1); part < all; part = state->next.fetch_add(1)) {
        range(part);
        if (state->done.fetch_add(1) + 1 == all) state->done.notify_one();
      }
    };
    const auto finish = [&state, all, &work] {
      work();
      for (int tries = 0; tries < 10'000 && state->done.load() != all; ++tries) continue;  // others are about to end: do not sleep yet
      for (int done = state->done.load(); done != all; done = state->done.load()) state->done.wait(done);
    };
    // In a destructor: should the pool refuse a task, those that it took must still find what they look at.
    const struct at_the_end {
      const decltype(finish)& act;
      ~at_the_end() { act(); }
    } guard{finish};
    for (index_t task = 1; task < std::min(parts, threads_); ++task) schedule_(device_, work);
  }

 private:
  static index_t begin_of(index_t part, index_t count, index_t parts) noexcept {
    return count / parts * part + std::min(part, count % parts);
  }

  const void* device_ = nullptr;
  index_t threads_ = 1;
  void (*schedule_)(const void*, std::function<void()>) = nullptr;
  bool streams_ = false;
};

namespace detail {
/// Cuts [from, to) of outer * inner items, numbered with the inner ones in sequence, into blocks: act(outer, outer count, inner, inner
/// count).
template <class Act>
void for_each_block(index_t from, index_t to, index_t inner, const Act& act) {
  while (from < to) {
    const index_t outer = from / inner, first = from % inner, left = to - from;
    if (first == 0 && left >= inner) {
      act(outer, left / inner, index_t{0}, inner);
      from += left / inner * inner;
    } else {
      const index_t count = std::min(inner - first, left);
      act(outer, index_t{1}, first, count);
      from += count;
    }
  }
}

/// What rotating, adding or biasing one value takes in a cache, roughly.
template <class T>
inline constexpr double nanoseconds_per_value = sizeof(T) == 2 ? 0.1 : 0.01 * sizeof(T);
/// What one cosine and sine take.
inline constexpr double nanoseconds_per_angle = 1;

/// Runs a kernel on tokens [batch, time], in parts. Call: `add_call` or `rotate_call`.
template <class Call>
void run_tokens(const executor& run, const Call& call, double nanoseconds, void (*kernel)(const Call&)) {
  const index_t tokens = call.batch * call.time;
  run.split(tokens, run.parts(tokens, nanoseconds), [&](index_t, index_t from, index_t to) {
    for_each_block(from, to, call.time, [&](index_t b, index_t batch, index_t t, index_t time) {
      Call part = call;
      part.batch = batch, part.time = time;
      part.in += b * call.in_batch + t * call.in_time;
      part.table += b * call.table_batch + t * call.table_time;
      if (call.rows) part.rows += b * call.time + t;
      else part.out += b * call.out_batch + t * call.out_time;
      kernel(part);
    });
  });
}
}  // namespace detail

}  // namespace POSENC_NAMESPACE
