#include <posenc/rope.hpp>

#include <cstdio>
#include <vector>

int main() {
  // Buffers you already have, [batch, time, head, channel]: two new tokens behind 1000 cached ones, 8 query heads on 2 key heads.
  std::vector<float> q_memory(2 * 8 * 64, 0.5f), k_memory(2 * 2 * 64, 0.25f);
  const posenc::tensor_view<float, 4> q(q_memory.data(), {1, 2, 8, 64}), k(k_memory.data(), {1, 2, 2, 64});
  const auto queries = heads(q, posenc::axis_order::time_head), keys = heads(k, posenc::axis_order::time_head);

  const posenc::rope<float> rope({.pairing = posenc::pairing::halves, .dim = 64}, {.base = 500000});
  const auto at = posenc::positions::range(2, 1000);
  const auto tables = prepare(rope, {.queries = at, .keys = at});  // once per forward pass, for all layers
  encode_queries_keys(rope, queries, keys, tables);                // in place

  float score = 0;  // of the second token on the first: it depends on their distance alone
  for (int c = 0; c < 64; ++c) score += queries(0, 1, 0, c) * keys(0, 0, 0, c);
  std::printf("%.4f\n", score);
}
