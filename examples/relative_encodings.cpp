// One attention block, every relative encoding. Reads a sequence at once, then again from a cache in steps of one and of several tokens,
// and prints how far the two are apart: biases of positions alone do not differ in a bit, and neither do products of queries and keys.
#include <posenc/posenc.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using posenc::index_t, posenc::positions;
using tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;

constexpr index_t heads = 4, channels = 16, time_ = 200;
constexpr auto by_time = posenc::axis_order::time_head;

/// Trained values stand in for those of a checkpoint.
template <class E>
E trained(E encoder) {
  posenc::random_source random(1);
  for (const auto& one : parameters(encoder)) posenc::initialize::normal(one.values, random, {.standard_deviation = 0.3});
  return encoder;
}

/// Causal attention of `count` queries from `first` on with all keys up to the last of them; q, k, v: [batch, time, head, channel].
template <posenc::position_encoder E>
tensor attend(const E& encoder, const tensor& q, const tensor& k, const tensor& v, index_t first, index_t count) {
  const index_t keys = first + count;
  tensor new_q = q, cached_k = k;
  const auto queries_of = posenc::heads(new_q, by_time).slice(first, count), keys_of = posenc::heads(cached_k, by_time).slice(0, keys);
  const auto state = prepare(encoder, {.queries = positions::range(count, first), .keys = positions::range(keys)});
  encode_queries_keys(encoder, queries_of, keys_of, state);

  const double scale = score_scale(encoder, channels);
  tensor scores(1, heads, count, keys), context(1, count, heads, channels);
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < count; ++i)
      for (index_t j = 0; j < keys; ++j) {
        float sum = 0;
        for (index_t c = 0; c < channels; ++c) sum += queries_of(0, i, h, c) * keys_of(0, j, h, c);
        scores(0, h, i, j) = sum * static_cast<float>(scale);
      }
  encode_scores(encoder, scores, {.scale = scale, .queries = queries_of, .keys = keys_of, .causal = true}, state);

  context.setZero();
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < count; ++i) {
      const std::span row(&scores(0, h, i, 0), static_cast<std::size_t>(keys));
      const std::size_t seen = static_cast<std::size_t>(first + i + 1);
      const float top = *std::max_element(row.begin(), row.begin() + static_cast<std::ptrdiff_t>(seen));
      float sum = 0;
      for (std::size_t j = 0; j < row.size(); ++j) sum += row[j] = j < seen ? std::exp(row[j] - top) : 0.0f;
      for (std::size_t j = 0; j < row.size(); ++j) {
        row[j] /= sum;
        for (index_t c = 0; c < channels; ++c) context(0, i, h, c) += row[j] * v(0, static_cast<index_t>(j), h, c);
      }
    }
  encode_context(encoder, posenc::heads(context, by_time), scores, state);
  return context;
}

/// What a bias encoder does to scores [batch, head, query, key] of four queries behind a cache of 1000 keys.
bool by_hand() {
  const std::vector<float> table(32 * heads, 0.5f);
  tensor scores(1, heads, 4, 1004);
  scores.setConstant(1.0f);
  Eigen::Tensor<float, 2, Eigen::RowMajor> tile(4, 64);
  tile.setConstant(1.0f);

  const posenc::t5_bias<float> t5(posenc::t5_bias_options::t5_decoder(heads), table);  // a checkpoint's [num_buckets, heads]
  const auto biases = prepare(t5, {.queries = positions::range(4, 1000), .keys = positions::range(1004)});  // once for all layers
  t5.bias(scores, biases, {.causal = true});  // bias added, future keys masked, in one pass; a `.scale` of the scores rides on it too
  t5.bias_tile(tile, {.batch = 0, .head = 2, .query = 0, .key = 940}, biases);  // fused attention: a tile of one head
  const float one = t5.value(2, 1003, 17);  // one pair
  return scores(0, 0, 0, 0) == 1.5f && scores(0, 0, 0, 1003) == -std::numeric_limits<float>::infinity() && tile(3, 5) == 1 + one;
}

bool all_good = true;

template <posenc::position_encoder E>
void check(const char* name, const E& encoder) {
  tensor q(1, time_, heads, channels), k(q.dimensions()), v(q.dimensions());
  std::srand(1);
  q.setRandom(), k.setRandom(), v.setRandom();
  const tensor whole = attend(encoder, q, k, v, 0, time_), plain = attend(posenc::no_encoding(), q, k, v, 0, time_);
  float apart = 0, effect = 0;
  for (index_t n = 0; n < whole.size(); ++n) effect = std::max(effect, std::abs(whole.data()[n] - plain.data()[n]));
  for (index_t first = 0, count; first < time_; first += count) {
    count = std::min(first % 3 == 0 ? index_t{1} : index_t{37}, time_ - first);
    const tensor part = attend(encoder, q, k, v, first, count);
    for (index_t n = 0; n < part.size(); ++n)
      apart = std::max(apart, std::abs(part.data()[n] - whole.data()[first * heads * channels + n]));
  }
  std::printf("%-24s from a cache: off by %-9.1e without it: %.3f\n", name, static_cast<double>(apart), static_cast<double>(effect));
  all_good = all_good && apart < 1e-5f && effect > 0.001f;
}

}  // namespace

int main() {
  all_good = by_hand();
  posenc::random_source random(7);
  const index_t dim = heads * channels;

  // From positions alone: a number per head and distance, or per head and pair.
  const auto t5 = trained(posenc::t5_bias<float>(posenc::t5_bias_options::t5_decoder(heads)));
  check("t5_bias", t5);
  check("kerple_log", posenc::kerple_log<float>(heads, random));
  check("kerple_power", posenc::kerple_power<float>(heads, random));
  check("fire", posenc::fire<float>({.heads = heads, .init_L = 64}, random));
  check("sandwich", posenc::sandwich<float>({.heads = heads}));
  check("proximal_bias", posenc::proximal_bias<float>(heads));
  check("dynamic_position_bias", posenc::dynamic_position_bias<float>({.heads = heads, .dim = 32, .log_distance = true}, random));

  // From queries and keys too.
  using posenc::relative_tables;
  check("shaw", trained(posenc::shaw<float>({.channels = channels, .left = 16, .right = 4, .tables = relative_tables::separate})));
  check("music_transformer", trained(posenc::music_transformer<float>(
                                 {.channels = channels, .max_distance = 64, .form = posenc::music_transformer_form::masked})));
  check("transformer_xl",
        trained(posenc::transformer_xl<float>(
            {.heads = heads, .channels = channels, .dim = dim, .order = posenc::channel_order::sin_cos, .clamp_length = 100})));
  const posenc::deberta_buckets_options buckets{.bucket_size = 32, .max_position = 128, .clamp = posenc::deberta_clamp::microsoft};
  check("deberta",
        trained(posenc::deberta<float>(
            {.heads = heads, .channels = channels, .terms = posenc::deberta_terms{.c2p = true, .p2c = true}, .distances = buckets})));
  check("relative_logits", trained(posenc::relative_logits<float>({.channels = channels, .extent = 64})));
  check("gated_bias", trained(posenc::gated_bias<float>({.bias = posenc::t5_bias_options::wavlm(heads), .channels = channels})));

  // Factors of queries, and several encoders as one.
  check("attention_temperature", posenc::attention_temperature<float>(posenc::temperature_rule::llama4{.floor_scale = 8}));
  check("scalable_softmax",
        posenc::scalable_softmax<float>({.heads = heads, .keys = posenc::visible_keys{.which = posenc::visible::causal}}));
  check("t5_bias + alibi", posenc::compose(t5, posenc::alibi<float>({.heads = heads, .form = posenc::alibi_form::causal})));
  return all_good ? 0 : 1;
}
