// Fused attention never holds the scores: it makes them tile by tile, and with `bias_tile` any bias encoder acts on a tile while it is in
// the cache. Causal attention with grouped heads by an online soft-max, for the queries behind a cache, beside the same from whole scores.
#include <posenc/alibi.hpp>
#include <posenc/relative/relative_bias_verbs.hpp>
#include <posenc/relative/t5_bias.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

/// A relative bias of your own: -r ln(1 + distance), as KERPLE has it, with r = 1 / (head + 1).
struct log_distance : posenc::relative_bias_verbs<log_distance, float> {
  posenc::index_t count;
  explicit log_distance(posenc::index_t heads) : count(heads) {}

  static constexpr std::string_view name() { return "log_distance"; }
  posenc::index_t heads() const { return count; }
  void biases(posenc::index_t head, posenc::index_t heads, posenc::position query, const posenc::position* keys, posenc::index_t number,
              float* out, posenc::index_t stride) const {
    for (posenc::index_t h = 0; h < heads; ++h)
      for (posenc::index_t n = 0; n < number; ++n)
        out[h * stride + n] =
            static_cast<float>(-std::log1p(std::abs(static_cast<double>(keys[n] - query))) / static_cast<double>(head + h + 1));
  }
  friend bool operator==(const log_distance& a, const log_distance& b) { return a.count == b.count; }
};
static_assert(posenc::bias_encoder<log_distance>);

namespace {

using posenc::index_t;
using tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;  // [head, token, channel]
constexpr index_t tile_size = 64;

struct problem {
  tensor q, k, v;
  posenc::attention_positions at;
  double scale = 1 / std::sqrt(static_cast<double>(q.dimension(2)));
  /// The head of keys and values that a head of queries has.
  index_t group(index_t head) const { return head * k.dimension(0) / q.dimension(0); }
  /// q.k, before the scale.
  float product(index_t head, index_t query, index_t key) const {
    float sum = 0;
    for (index_t c = 0; c < q.dimension(2); ++c) sum += q(head, query, c) * k(group(head), key, c);
    return sum;
  }
};

/// Holds one tile of scores and, for each of its queries, the largest score so far, the sum of exponentials and the context.
template <posenc::bias_encoder E>
tensor flash_attention(const E& encoder, const problem& p) {
  const index_t queries = p.q.dimension(1), keys = p.k.dimension(1), channels = p.q.dimension(2);
  const auto state = prepare(encoder, p.at);  // once for all layers, heads and tiles
  tensor context(p.q.dimensions());
  context.setZero();
  Eigen::Tensor<float, 2, Eigen::RowMajor> memory(tile_size, tile_size);
  for (index_t head = 0; head < p.q.dimension(0); ++head)
    for (index_t first_query = 0; first_query < queries; first_query += tile_size) {
      const index_t rows = std::min(tile_size, queries - first_query);
      std::array<float, tile_size> largest, sum{};
      largest.fill(-std::numeric_limits<float>::infinity());
      for (index_t first_key = 0; first_key < keys; first_key += tile_size) {
        if (p.at.keys(0, first_key) > p.at.queries(0, first_query + rows - 1)) break;  // masked from here on
        const index_t columns = std::min(tile_size, keys - first_key);
        const posenc::tensor_view<float, 2> tile(memory.data(), {rows, columns}, {tile_size, 1});
        for (index_t i = 0; i < rows; ++i)
          for (index_t j = 0; j < columns; ++j) tile(i, j) = p.product(head, first_query + i, first_key + j);
        encoder.bias_tile(tile, {.batch = 0, .head = head, .query = first_query, .key = first_key}, state,
                          {.scale = p.scale, .causal = true});
        for (index_t i = 0; i < rows; ++i) {
          float& top = largest[static_cast<std::size_t>(i)];
          const float before = top;
          for (index_t j = 0; j < columns; ++j) top = std::max(top, tile(i, j));
          if (std::isinf(top)) continue;  // no key so far
          const float shrink = std::exp(before - top);
          float& total = sum[static_cast<std::size_t>(i)] *= shrink;
          for (index_t c = 0; c < channels; ++c) context(head, first_query + i, c) *= shrink;
          for (index_t j = 0; j < columns; ++j) {
            const float weight = std::exp(tile(i, j) - top);
            total += weight;
            for (index_t c = 0; c < channels; ++c) context(head, first_query + i, c) += weight * p.v(p.group(head), first_key + j, c);
          }
        }
      }
      for (index_t i = 0; i < rows; ++i)
        for (index_t c = 0; c < channels; ++c) context(head, first_query + i, c) /= sum[static_cast<std::size_t>(i)];
    }
  return context;
}

/// The same from all scores at once, [1, head, query, key].
template <posenc::bias_encoder E>
tensor attention(const E& encoder, const problem& p) {
  const index_t heads = p.q.dimension(0), queries = p.q.dimension(1), keys = p.k.dimension(1);
  Eigen::Tensor<float, 4, Eigen::RowMajor> scores(1, heads, queries, keys);
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < queries; ++i)
      for (index_t j = 0; j < keys; ++j) scores(0, h, i, j) = p.product(h, i, j);
  encoder.bias(scores, prepare(encoder, p.at), {.scale = p.scale, .causal = true});
  tensor context(p.q.dimensions());
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < queries; ++i) {
      const float top = *std::max_element(&scores(0, h, i, 0), &scores(0, h, i, 0) + keys);
      double sum = 0;
      std::vector<double> row(static_cast<std::size_t>(p.q.dimension(2)));
      for (index_t j = 0; j < keys; ++j) {
        const double weight = std::exp(static_cast<double>(scores(0, h, i, j) - top));
        sum += weight;
        for (std::size_t c = 0; c < row.size(); ++c) row[c] += weight * static_cast<double>(p.v(p.group(h), j, static_cast<index_t>(c)));
      }
      for (std::size_t c = 0; c < row.size(); ++c) context(h, i, static_cast<index_t>(c)) = static_cast<float>(row[c] / sum);
    }
  return context;
}

template <posenc::bias_encoder E>
bool check(const E& encoder, const problem& p) {
  const tensor tiled = flash_attention(encoder, p), whole = attention(encoder, p);
  float largest = 0;
  bool good = true;
  for (index_t n = 0; n < whole.size(); ++n) {
    const float difference = std::abs(tiled.data()[n] - whole.data()[n]);
    largest = std::max(largest, difference);
    good = good && difference < 1e-5f;  // not where it is no number
  }
  std::printf("%-12s largest difference %.1e\n", std::string(encoder.name()).c_str(), static_cast<double>(largest));
  return good;
}

}  // namespace

int main() {
  constexpr index_t heads = 4, key_heads = 2, queries = 100, keys = 150, channels = 16;
  problem p{tensor(heads, queries, channels),
            tensor(key_heads, keys, channels),
            tensor(key_heads, keys, channels),
            {posenc::positions::range(queries, keys - queries), posenc::positions::range(keys)}};
  p.q.setRandom(), p.k.setRandom(), p.v.setRandom();
  bool good = check(posenc::alibi<float>({.heads = heads, .form = posenc::alibi_form::causal}), p);
  good = check(log_distance(heads), p) && good;
  std::vector<float> table(32 * heads);  // [num_buckets, heads]
  for (std::size_t n = 0; n < table.size(); ++n) table[n] = 0.01f * static_cast<float>(n % 37);
  good = check(posenc::t5_bias<float>(posenc::t5_bias_options::t5_decoder(heads), table), p) && good;
  return good ? 0 : 1;
}
