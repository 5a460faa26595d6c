// SPDX-License-Identifier: MIT
/// \file  Transformer-XL's scores, sinusoids and shift, as kimiyoung's code makes them.
#include <posenc/relative/transformer_xl.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::load, golden::npy;

/// `[query, key, batch, head]` as scores.
template <class S>
score_view<S> by_head(npy<S>& x) {
  const auto v = golden::view<4>(x);
  return {v.data(), {v.extent(2), v.extent(3), v.extent(0), v.extent(1)}, {v.stride(2), v.stride(3), v.stride(0), v.stride(1)}};
}
/// The same with keys last in memory.
template <class S>
npy<S> keys_last(npy<S> x) {
  const auto from = by_head(x);
  npy<S> to = npy<S>::filled({from.extent(0), from.extent(1), from.extent(2), from.extent(3)}, 0);
  std::size_t n = 0;
  for (index_t b = 0; b < from.extent(0); ++b)
    for (index_t h = 0; h < from.extent(1); ++h)
      for (index_t i = 0; i < from.extent(2); ++i)
        for (index_t j = 0; j < from.extent(3); ++j) to.values[n++] = from(b, h, i, j);
  return to;
}
/// `[time, batch, head, channel]`.
template <class S>
head_view<const S> by_batch(const npy<S>& x) {
  const auto v = golden::view<4>(x);
  return head_view<const S>(
      {v.data(), {v.extent(1), v.extent(0), v.extent(2), v.extent(3)}, {v.stride(1), v.stride(0), v.stride(2), v.stride(3)}});
}

template <class S>
void check_scores(const std::string& name, index_t memory, double f32_bound, double reference_bound) {
  INFO(name);
  const auto array = [&](const char* what) { return golden::converted<S>(load<float>("relative/" + name + "/" + what)); };
  const auto q = array("q"), k = array("k"), r = array("r_head_k"), u = array("u"), v = array("v_bias");
  const index_t queries = q.shape[0], batch = q.shape[1], heads = q.shape[2], channels = q.shape[3], keys = k.shape[0];
  constexpr double scale = 0.35355339059327373;
  const transformer_xl_options options{.heads = heads, .channels = channels, .dim = 2, .order = channel_order::sin_cos};
  const transformer_xl<S> encoder(options, std::vector<S>(static_cast<std::size_t>(heads * channels * 2)), u.values, v.values);
  const tensor_view<const S, 3> rows(r.values.data(), {heads, keys, channels}, {channels, heads * channels, 1});
  const transformer_xl_keys<S> state({positions::range(queries, memory), positions::range(keys)}, rows, 1 - keys);

  auto scores = npy<S>::filled({batch, heads, queries, keys}, 0);
  for (index_t b = 0; b < batch; ++b)
    for (index_t h = 0; h < heads; ++h)
      for (index_t i = 0; i < queries; ++i)
        for (index_t j = 0; j < keys; ++j) {
          double sum = 0;
          for (index_t c = 0; c < channels; ++c)
            sum += static_cast<double>(by_batch(q)(b, i, h, c)) * static_cast<double>(by_batch(k)(b, j, h, c));
          golden::view<4>(scores)(b, h, i, j) = static_cast<S>(sum);
        }
  encoder.bias(golden::row_major<4>(scores), attention_inputs<S>{.scale = scale, .queries = by_batch(q), .keys = by_batch(k)}, state,
               {.scale = scale, .causal = true});
  CHECK(absolute(scores, keys_last(load<double>("relative/" + name + "/scores_f64"))) <= (sizeof(S) == 8 ? 2e-13 : f32_bound));
  CHECK(absolute(scores, keys_last(load<float>("relative/" + name + "/scores"))) <= reference_bound);
}
TEMPLATE_TEST_CASE("scores with and without a memory", "[golden][transformer_xl]", float, double) {
  check_scores<TestType>("txl_basic", 0, 6.242676120106844e-06, 6.7362054015491505e-06);
  check_scores<TestType>("txl_memory", 7, 5.124379298739467e-06, 5.55246382212452e-06);
}

TEMPLATE_TEST_CASE("with the identity for a projection, keys are the sinusoids", "[golden][transformer_xl]", float, double) {
  std::vector<TestType> identity(16 * 16), zeros(16);
  for (std::size_t n = 0; n < 16; ++n) identity[17 * n] = 1;
  const transformer_xl<TestType> encoder({.heads = 1, .channels = 16, .dim = 16, .order = channel_order::sin_cos}, identity, zeros, zeros);
  const auto state = encoder.prepare({positions::range(1, 19), positions::range(20)});
  CHECK(state.distances() == distance_range{-19, 0});
  const npy<TestType> keys{{20, 16}, {state.keys().data(), state.keys().data() + 320}};
  CHECK(absolute(keys, load<double>("relative/txl_positional_embedding/r_f64")) <= golden::table_bound<TestType> + 1.2e-16);
  CHECK(absolute(keys, load<float>("relative/txl_positional_embedding/r")) <= 3.199670046694081e-07);
}

TEST_CASE("distances pick what the shift moves, where no key comes after the query", "[golden][transformer_xl]") {
  // Query i is channel i, so a product of keys with it is the element that the key has there: x[query, column], exactly.
  constexpr index_t queries = 4, columns = 6, heads = 2;
  auto x = load<float>("relative/txl_rel_shift_raw/x"), shifted = load<float>("relative/txl_rel_shift_raw/shifted"),
       triangle = load<float>("relative/txl_rel_shift_raw/shifted_zero_triu");
  const auto from = by_head(x);
  const tensor_view<const float, 3> rows(from.data(), {heads, columns, queries}, {from.stride(1), from.stride(3), from.stride(2)});
  std::vector<float> keys;
  for (index_t h = 0; h < heads; ++h)
    for (index_t n = 0; n < columns; ++n)
      for (index_t c = 0; c < queries; ++c) keys.push_back(rows(h, n, c));
  const transformer_xl_keys<float> state({positions::range(queries, columns - queries), positions::range(columns)},
                                         {keys.data(), {heads, columns, queries}}, 1 - columns);
  const transformer_xl<float> encoder({.heads = heads, .channels = queries, .dim = 2, .order = channel_order::sin_cos});
  auto q = npy<float>::filled({1, queries, heads, queries}, 0), k = npy<float>::filled({1, columns, heads, queries}, 0),
       scores = npy<float>::filled({1, heads, queries, columns}, 0);
  for (index_t i = 0; i < queries; ++i)
    for (index_t h = 0; h < heads; ++h) golden::view<4>(q)(0, i, h, i) = 1;
  encoder.bias(golden::row_major<4>(scores),
               attention_inputs<float>{
                   .scale = 1, .queries = head_view<const float>(golden::view<4>(q)), .keys = head_view<const float>(golden::view<4>(k))},
               state);
  const auto got = golden::view<4>(scores);
  bool other = false;
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < queries; ++i)
      for (index_t j = 0; j < columns; ++j) {
        const bool after = j > i + columns - queries;
        if (!after) CHECK(got(0, h, i, j) == by_head(shifted)(0, h, i, j));
        if (!after) CHECK(got(0, h, i, j) == by_head(triangle)(0, h, i, j));
        other = other || (after && got(0, h, i, j) != by_head(shifted)(0, h, i, j));
      }
  CHECK(other);  // there the shift leaves what follows in memory: zeros, and the next query's
}

}  // namespace
