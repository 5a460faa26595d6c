// Decoding with a cache: three sequences of different age, one new token each. Their keys are rotated on the way from a fused QKV buffer
// into the slots of a paged cache, and ALiBi sees true positions, not slots.
#include <posenc/posenc.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  constexpr posenc::index_t batch = 3, query_heads = 8, key_heads = 2, channels = 64, slots = 512;
  const std::vector<int> lengths{17, 5, 230};  // tokens in the cache already

  std::vector<float> fused_memory(batch * (query_heads + 2 * key_heads) * channels, 0.5f), cache_memory(slots * key_heads * channels);
  const posenc::tensor_view<float, 3> fused(fused_memory.data(), {batch, 1, (query_heads + 2 * key_heads) * channels});
  const posenc::tensor_view<float, 4> cache(cache_memory.data(), {1, slots, key_heads, channels});

  const posenc::rope<float> rope({.pairing = posenc::pairing::interleaved, .dim = channels});
  const auto at = posenc::positions::offsets(lengths, 1);  // each new token stands behind its own sequence
  const auto table = rope.prepare(at);

  const auto queries = posenc::split_heads(fused, {.heads = query_heads, .channels = channels});
  const auto keys = posenc::split_heads(fused, {.heads = key_heads, .channels = channels, .offset = query_heads * channels});
  const std::vector<posenc::index_t> slot_of_token{40, 7, 311};
  rope.rotate(queries, table);                                                                    // in place
  rope.rotate(keys, posenc::heads(cache, posenc::axis_order::time_head), slot_of_token, table);  // into the cache

  // Scores of the last sequence: one query at 230, keys at 0 ... 230.
  std::vector<float> score_memory(query_heads * 231);
  const posenc::tensor_view<float, 4> scores(score_memory.data(), {1, query_heads, 1, 231});
  const posenc::alibi<float> alibi({.heads = query_heads, .form = posenc::alibi_form::causal});
  alibi.bias(scores, {.queries = posenc::positions::range(1, 230), .keys = posenc::positions::range(231)});

  const float key = cache(0, 311, 0, 0), expected = static_cast<float>(0.5 * std::cos(230.0) - 0.5 * std::sin(230.0));
  std::printf("key at 230, first channel: %.6f, bias of head 0 on key 0: %.1f\n", static_cast<double>(key),
              static_cast<double>(scores(0, 0, 0, 0)));
  return std::abs(key - expected) < 1e-6f && scores(0, 0, 0, 0) == -115.0f ? 0 : 1;
}
