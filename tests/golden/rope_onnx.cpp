// SPDX-License-Identifier: MIT
/// \file  ONNX's RotaryEmbedding operator, which is given its caches: the same bits as its reference implementation.
#include <posenc/rope.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <concepts>
#include <cstdint>
#include <string>

namespace {

using namespace posenc;
using golden::absolute, golden::converted, golden::load, golden::npy, golden::row_major, golden::view;

/// [batch, head, time, channel], or [batch, time, heads * channels] where the number of heads is an attribute.
template <class S>
head_view<S> heads_of(npy<S>& x, index_t count) {
  if (x.shape.size() == 4) return heads(row_major<4>(x), axis_order::head_time);
  return split_heads(row_major<3>(x), {.heads = count, .channels = x.shape[2] / count});
}

TEMPLATE_TEST_CASE("RotaryEmbedding", "[golden][rope_onnx][rope]", float, double) {
  struct golden_case {
    std::string folder;
    pairing pairs;
    index_t rotary_embedding_dim, num_heads;  ///< as ONNX has them: 0 where not given
    bool position_ids = true;                 ///< else the caches are [batch, time, pair]
  };
  for (const auto& c : {golden_case{"rope_onnx/basic/", pairing::halves, 0, 0},
                        {"rope_onnx/input_3d/", pairing::halves, 0, 4},
                        {"rope_onnx/interleaved/", pairing::interleaved, 0, 0},
                        {"rope_onnx/rotary_dim/", pairing::halves, 4, 0},
                        {"rope_onnx/no_position_ids/", pairing::halves, 0, 0, false}}) {
    INFO(c.folder);
    const auto cosines = load<float>(c.folder + "cos_cache"), sines = load<float>(c.folder + "sin_cache");
    auto x = converted<TestType>(load<float>(c.folder + "x"));
    const auto all = heads_of(x, c.num_heads);
    const index_t dim = c.rotary_embedding_dim ? c.rotary_embedding_dim : all.channels();
    const auto table = [&] {
      using table_of = rotary_table<TestType>;
      if (!c.position_ids) return table_of::from_caches(dim, c.pairs, view<3>(cosines), view<3>(sines));
      const auto ids = load<std::int64_t>(c.folder + "position_ids");
      return table_of::from_caches(dim, c.pairs, view<2>(cosines), view<2>(sines), positions::ids(view<2>(ids)));
    }();
    rope<TestType>({.pairing = c.pairs, .dim = dim}).rotate(all, table);
    if constexpr (std::same_as<TestType, float>) CHECK(absolute(x, load<float>(c.folder + "y")) <= 0);
    else CHECK(absolute(x, load<double>(c.folder + "y_f64")) <= 0);
  }
}

}  // namespace
