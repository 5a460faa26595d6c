// SPDX-License-Identifier: MIT
// One verb on several threads, and into another tensor past the caches: always the same bits.
#define EIGEN_USE_THREADS
#include <posenc/rope.hpp>

#include <cstdio>
#include <cstring>

int main() {
  using tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // [batch, time, head, channel]
  tensor q(1, 2048, 16, 64);
  q.setRandom();
  tensor alone = q, cache = q;

  const posenc::rope<float> rope({.pairing = posenc::pairing::halves, .dim = 64});
  const auto table = rope.prepare(posenc::positions::range(2048));
  const auto by_time = posenc::axis_order::time_head;
  const auto queries = heads(q, by_time), slots = heads(cache, by_time);

  Eigen::ThreadPool pool(2);
  const Eigen::ThreadPoolDevice device(&pool, 2);
  rope.rotate(queries, slots, table, posenc::executor(device).streaming());  // nobody reads `slots` soon
  rope.rotate(queries, table, device);                                       // in place, on two threads
  rope.rotate(heads(alone, by_time), table);                                 // in this thread alone

  const auto same = [&](const tensor& other) {
    return std::memcmp(q.data(), other.data(), sizeof(float) * static_cast<std::size_t>(q.size())) == 0;
  };
  const bool all = same(alone) && same(cache);
  std::puts(all ? "the same bits" : "different bits");
  return all ? 0 : 1;
}
