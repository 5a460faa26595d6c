// SPDX-License-Identifier: MIT
/// \file  Does an encoder write the same bytes for one token in decoding as for all tokens in prefill?
#pragma once

#include "attention_block.hpp"

#include <algorithm>
#include <cstring>

namespace demo {

/// Numbers of bytes: compared in all, and those that differ at each stage.
struct byte_counts {
  index_t compared = 0, x = 0, q = 0, k = 0, bias = 0;
  index_t differing() const { return x + q + k + bias; }
};

/// Gives the encoder one token at a time what it was given in the prefill of a whole window, byte for byte, and compares what it writes.
/// Products of matrices play no part: sums over one row and over many may round differently, which is not the encoder's doing.
template <posenc::position_encoder E>
class bit_check {
 public:
  bit_check(const E& encoder, byte_counts& counts) : encoder_(encoder), counts_(counts) {}

  /// Tokens `from` to the end of the window.
  void operator()(const trace& prefill, index_t from) {
    const index_t time = prefill.x.dimension(1);
    const auto all = posenc::positions::range(time);
    // Large scores hide the last bits of a small bias, so there is a second comparison, on zeros.
    zeros_.resize(prefill.scores.dimensions());
    zeros_.setZero();
    bias_ = zeros_;
    encode_scores(bias_, prefill.qkv, 0, posenc::prepare(encoder_, {.queries = all, .keys = all}));
    for (index_t t = from; t < time; ++t) {
      const auto at = posenc::positions::range(1, t), at_all = posenc::positions::range(t + 1);
      check_embeddings(prefill, t, at);
      const auto state = posenc::prepare(encoder_, {.queries = at, .keys = at_all, .new_keys = at});
      check_queries_keys(prefill, t, state);
      check_scores(prefill.scores_given, prefill.scores, prefill.qkv, t, state);
      check_scores(zeros_, bias_, prefill.qkv, t, state);
    }
  }

 private:
  void check_embeddings(const trace& prefill, index_t t, const posenc::positions& at) {
    tensor<3> x = token(prefill.x_given, t);
    posenc::encode_embeddings(encoder_, x, at);
    compare(x.data(), rows(prefill.x).row(t).data(), dim, counts_.x);
  }
  void check_queries_keys(const trace& prefill, index_t t, const posenc::state_t<E>& state) {
    tensor<3> qkv = token(prefill.qkv_given, t);
    posenc::encode_queries_keys(encoder_, posenc::split_heads(qkv, part(0)), posenc::split_heads(qkv, part(1)), state);
    const float* expected = rows(prefill.qkv).row(t).data();
    compare(qkv.data(), expected, dim, counts_.q);
    compare(qkv.data() + dim, expected + dim, dim, counts_.k);
  }
  /// The row of query t, over the keys that were there when t was the last token.
  void check_scores(const tensor<4>& given, const tensor<4>& expected, const tensor<3>& qkv, index_t t, const posenc::state_t<E>& state) {
    const index_t time = given.dimension(3);
    const auto row_of = [&](const tensor<4>& scores, index_t h) { return scores.data() + (h * time + t) * time; };
    tensor<4> row(1, head_count, 1, t + 1);
    for (index_t h = 0; h < head_count; ++h) std::copy_n(row_of(given, h), t + 1, row.data() + h * (t + 1));
    encode_scores(row, qkv, t, state);
    for (index_t h = 0; h < head_count; ++h) compare(row.data() + h * (t + 1), row_of(expected, h), t + 1, counts_.bias);
  }

  /// The scores of queries from `first` on, with the queries and keys that belong to them, for encoders that read those.
  void encode_scores(tensor<4>& scores, const tensor<3>& qkv, index_t first, const posenc::state_t<E>& state) const {
    using map = Eigen::TensorMap<const tensor<3>>;
    const map queries(qkv.data() + first * 3 * dim, 1, scores.dimension(2), 3 * dim), keys(qkv.data(), 1, scores.dimension(3), 3 * dim);
    posenc::encode_scores(encoder_, scores,
                          {.scale = posenc::score_scale(encoder_, head_channels),
                           .queries = posenc::split_heads(queries, part(0)),
                           .keys = posenc::split_heads(keys, part(1)),
                           .causal = true},
                          state);
  }

  static tensor<3> token(const tensor<3>& all, index_t t) {
    tensor<3> one(1, 1, all.dimension(2));
    rows(one) = rows(all).row(t);
    return one;
  }
  void compare(const float* got, const float* expected, index_t count, index_t& differing) {
    const auto size = count * static_cast<index_t>(sizeof(float));
    counts_.compared += size;
    if (std::memcmp(got, expected, static_cast<std::size_t>(size)) == 0) return;
    const auto* a = reinterpret_cast<const unsigned char*>(got);
    const auto* b = reinterpret_cast<const unsigned char*>(expected);
    for (index_t n = 0; n < size; ++n) differing += a[n] != b[n];
  }

  const E& encoder_;
  byte_counts& counts_;
  tensor<4> zeros_, bias_;
};

}  // namespace demo
