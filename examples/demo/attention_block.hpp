// SPDX-License-Identifier: MIT
/// \file  One self-attention block with a KV cache, whose position encoder is a template parameter.
#pragma once

#include <posenc/posenc.hpp>

#include <Eigen/Core>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

namespace demo {

using posenc::index_t;
template <int Rank>
using tensor = Eigen::Tensor<float, Rank, Eigen::RowMajor>;
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

inline constexpr index_t head_count = 8, head_channels = 32, dim = head_count * head_channels;

/// The heads of part 0, 1, 2 (q, k, v) of a fused buffer `[1, time, q | k | v]`, or of part 0 of `[1, time, dim]`.
inline posenc::head_split part(index_t n) { return {.heads = head_count, .channels = head_channels, .offset = n * dim}; }

/// Tensors as matrices, for Eigen's products: a row per token, a column per channel.
inline Eigen::Map<matrix> rows(tensor<3>& tokens) { return {tokens.data(), tokens.dimension(1), tokens.dimension(2)}; }
inline Eigen::Map<const matrix> rows(const tensor<3>& tokens) { return {tokens.data(), tokens.dimension(1), tokens.dimension(2)}; }
inline auto head(auto&& tokens, index_t h, index_t offset = 0) { return tokens.middleCols(offset + h * head_channels, head_channels); }
/// The scores of one head: a row per query, a column per key.
inline Eigen::Map<matrix> head_scores(tensor<4>& scores, index_t h) {
  const index_t queries = scores.dimension(2), keys = scores.dimension(3);
  return {scores.data() + h * queries * keys, queries, keys};
}

/// Numbers of mean 0 and variance 1. Our own (splitmix64, uniform): the distributions of standard libraries differ from one another.
class random_numbers {
 public:
  explicit random_numbers(std::uint64_t seed) : state_(seed) {}
  matrix operator()(index_t row_count, index_t column_count, float deviation) {
    matrix m(row_count, column_count);
    for (index_t n = 0; n < m.size(); ++n) m.data()[n] = deviation * next();
    return m;
  }

 private:
  float next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    const auto unit = static_cast<float>((z ^ z >> 31) >> 40) * 0x1p-24f;
    return (unit - 0.5f) * 3.4641016f;  // sqrt(12)
  }
  std::uint64_t state_;
};

/// What would be trained; here it is random, and the same for every encoder.
struct weights {
  matrix embeddings, qkv, out;

  explicit weights(std::uint64_t seed) {
    random_numbers random(seed);
    const float deviation = 1 / std::sqrt(static_cast<float>(dim));  // keeps the variance through a product
    embeddings = random(256, dim, 1);
    qkv = random(dim, 3 * dim, deviation);
    out = random(dim, dim, deviation);
    // One projection for queries and keys: a token then looks for tokens like itself, where an untrained block would look for nothing
    // in particular. The distances that the demo prints show what an encoder changes about it.
    qkv.middleCols(dim, dim) = qkv.leftCols(dim);
  }

  /// The embeddings of bytes, one token each.
  tensor<3> embed(std::string_view bytes) const {
    tensor<3> x(1, static_cast<index_t>(bytes.size()), dim);
    index_t t = 0;
    for (const char byte : bytes) rows(x).row(t++) = embeddings.row(static_cast<unsigned char>(byte));
    return x;
  }
};

/// Keys, after rotation, and values of the tokens so far; token t, at position t, in row t.
class kv_cache {
 public:
  explicit kv_cache(index_t capacity) : keys_(1, capacity, dim), values_(1, capacity, dim) {}

  void append(const tensor<3>& qkv) {
    const index_t count = qkv.dimension(1);
    rows(keys_).middleRows(size_, count) = rows(qkv).middleCols(dim, dim);
    rows(values_).middleRows(size_, count) = rows(qkv).middleCols(2 * dim, dim);
    size_ += count;
  }
  /// Forgets all but the first `count` tokens.
  void truncate(index_t count) { size_ = count; }

  index_t size() const { return size_; }
  auto keys() const { return rows(keys_).topRows(size_); }
  auto values() const { return rows(values_).topRows(size_); }
  posenc::head_view<const float> key_heads() const {
    return posenc::split_heads(Eigen::TensorMap<const tensor<3>>(keys_.data(), 1, size_, dim), part(0));
  }

 private:
  tensor<3> keys_, values_;
  index_t size_ = 0;
};

/// What the encoder was given and what it made of it, at each stage, and what came out of the soft-max.
struct trace {
  tensor<3> x_given, x, qkv_given, qkv;
  tensor<4> scores_given, scores, attention;
};

/// Seconds.
struct times {
  double encoder = 0, rest = 0;
  double share() const { return encoder / (encoder + rest); }
};

class lap_timer {
 public:
  void restart() { last_ = clock::now(); }
  /// Adds the time since the last lap or restart.
  void lap(double& sum) {
    const auto now = clock::now();
    sum += std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  using clock = std::chrono::steady_clock;
  clock::time_point last_ = clock::now();
};

/// out = x + attention(x), for any encoder: it calls each stage function once, and what an encoder does not do costs nothing.
template <posenc::position_encoder E>
class attention_block {
 public:
  attention_block(const E& encoder, const weights& w, bool causal) : encoder_(encoder), weights_(w), causal_(causal) {}

  /// The same code for prefill, with an empty cache, and for one step of decoding: the tokens x stand behind those in the cache, and join
  /// them. Returns the block's output for x. Time for writing the trace is not counted.
  tensor<3> forward(tensor<3> x, kv_cache& cache, times& spent, trace* seen = nullptr) const {
    const index_t count = x.dimension(1), cached = cache.size();
    const auto at = posenc::positions::range(count, cached), at_all = posenc::positions::range(cached + count);
    if (seen) seen->x_given = x;

    lap_timer timer;
    posenc::encode_embeddings(encoder_, x, at);
    timer.lap(spent.encoder);

    tensor<3> qkv(1, count, 3 * dim);
    rows(qkv).noalias() = rows(x) * weights_.qkv;
    timer.lap(spent.rest);
    if (seen) seen->x = x, seen->qkv_given = qkv;

    timer.restart();
    const auto queries = posenc::split_heads(qkv, part(0)), keys = posenc::split_heads(qkv, part(1));
    const auto state = posenc::prepare(encoder_, {.queries = at, .keys = at_all, .new_keys = at});
    posenc::encode_queries_keys(encoder_, queries, keys, state);
    timer.lap(spent.encoder);

    cache.append(qkv);
    const double scale = posenc::score_scale(encoder_, head_channels);
    tensor<4> scores = products(qkv, cache, static_cast<float>(scale));
    timer.lap(spent.rest);
    if (seen) seen->qkv = qkv, seen->scores_given = scores;

    timer.restart();
    posenc::encode_scores(encoder_, scores, {.scale = scale, .queries = queries, .keys = cache.key_heads(), .causal = causal_}, state);
    timer.lap(spent.encoder);
    if (seen) seen->scores = scores;

    timer.restart();
    softmax(scores, cached);
    tensor<3> context(1, count, dim);
    for (index_t h = 0; h < head_count; ++h) head(rows(context), h).noalias() = head_scores(scores, h) * head(cache.values(), h);
    timer.lap(spent.rest);

    posenc::encode_context(encoder_, posenc::split_heads(context, part(0)), scores, state);
    timer.lap(spent.encoder);

    rows(x).noalias() += rows(context) * weights_.out;
    timer.lap(spent.rest);
    if (seen) seen->attention = std::move(scores);
    return x;
  }

 private:
  static tensor<4> products(const tensor<3>& qkv, const kv_cache& cache, float scale) {
    tensor<4> scores(1, head_count, qkv.dimension(1), cache.size());
    for (index_t h = 0; h < head_count; ++h)
      head_scores(scores, h).noalias() = scale * head(rows(qkv), h) * head(cache.keys(), h).transpose();
    return scores;
  }
  void softmax(tensor<4>& scores, index_t cached) const {
    for (index_t h = 0; h < head_count; ++h) {
      auto of_head = head_scores(scores, h).array();
      for (index_t i = 0; i < of_head.rows(); ++i) {
        const index_t visible = causal_ ? cached + i + 1 : of_head.cols();
        auto seen = of_head.row(i).head(visible);
        seen = (seen - seen.maxCoeff()).exp();
        seen /= seen.sum();
        of_head.row(i).tail(of_head.cols() - visible).setZero();
      }
    }
  }

  const E& encoder_;
  const weights& weights_;
  bool causal_;
};

}  // namespace demo
