// SPDX-License-Identifier: MIT
/// \file  CoPE as its authors' code and x-transformers have it.
#include <posenc/conditional/cope.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace {

using namespace posenc;
using golden::absolute, golden::converted, golden::load, golden::npy, golden::rounding, golden::row_major;

template <class S>
npy<S> given(const std::string& name) {
  return converted<S>(load<float>("conditional/" + name));
}
npy<double> truth(const std::string& name) { return load<double>("conditional/" + name + "_f64"); }

/// `[time, channel]` heads of the authors, which have one axis for batch and heads: one head here.
template <class S>
head_view<S> one_head(npy<S>& x) {
  return head_view<S>({x.values.data(), {x.shape[0], x.shape[1], 1, x.shape[2]}});
}
/// `[batch, head, time, channel]`.
template <class S>
head_view<S> by_head(npy<S>& x) {
  return heads(row_major<4>(x), axis_order::head_time);
}
/// The authors' `[1, channel, position]` is transposed.
template <class S>
void set_transposed(cope<S>& encoder, const npy<S>& embeddings) {
  const auto values = encoder.parameters()[0].values;
  const index_t positions = encoder.max_positions();
  for (index_t p = 0; p < positions; ++p)
    for (index_t c = 0; c < encoder.channels(); ++c)
      values[static_cast<std::size_t>(p * encoder.channels() + c)] = embeddings.values[static_cast<std::size_t>(c * positions + p)];
}

/// q . k, one product after the other, times a scale.
template <class S>
npy<S> scores_of(const npy<S>& q, const npy<S>& k, double scale) {
  const index_t batch = q.shape[0], time = q.shape[1], channels = q.shape[2];
  npy<S> all{{batch, 1, time, time}, {}};
  for (index_t b = 0; b < batch; ++b)
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j) {
        double sum = 0;
        for (index_t c = 0; c < channels; ++c)
          sum += static_cast<double>(q.values[static_cast<std::size_t>((b * time + i) * channels + c)]) *
                 static_cast<double>(k.values[static_cast<std::size_t>((b * time + j) * channels + c)]);
        all.values.push_back(static_cast<S>(sum * scale));
      }
  return all;
}
/// What a causal mask does to scores.
template <class S>
void mask(npy<S>& scores) {
  const index_t time = scores.shape.back();
  for (std::size_t n = 0; n < scores.values.size(); ++n)
    if (static_cast<index_t>(n) % time > static_cast<index_t>(n) / time % time) scores.values[n] = -std::numeric_limits<S>::infinity();
}
/// Those of keys after the query do not count.
npy<double> up_to_the_query(npy<double> all) {
  const index_t time = all.shape.back();
  for (std::size_t n = 0; n < all.values.size(); ++n)
    if (static_cast<index_t>(n) % time > static_cast<index_t>(n) / time % time) all.values[n] = 0;
  return all;
}

/// Positions: 11 roundings, and those of scores of eight products, by which no gate moves more than a quarter of theirs.
/// Bias: what positions move along the steepest step, and a product of eight channels with its interpolation.
template <class S>
double position_bound(double largest, double score) {
  return rounding<S> * largest * (11 + 3 * score);
}

}  // namespace

TEMPLATE_TEST_CASE("CoPE counts and adds as its authors' code does", "[golden][cope]", float, double) {
  using S = TestType;
  const std::string name = "cope_basic/";
  auto q = given<S>(name + "query"), k = given<S>(name + "key");
  cope<S> encoder({.heads = 1, .channels = 8, .max_positions = 17, .gates = cope_gates::scores, .bias = cope_bias::scaled});
  set_transposed(encoder, given<S>(name + "pos_emb"));
  const attention_positions at{positions::range(16), positions::range(16)};
  auto scores = scores_of(q, k, 1 / std::sqrt(8.0)), found = scores;
  attention_inputs<S> inputs{.scale = 1 / std::sqrt(8.0), .queries = one_head(q), .causal = true, .scores = row_major<4>(scores)};
  encoder.contextual_positions(inputs, at, row_major<4>(found));
  const auto positions = up_to_the_query(truth(name + "positions"));
  const double largest = golden::largest_magnitude(positions), steepest = 30;
  CHECK(absolute(found, positions) <= position_bound<S>(largest, 1) + 1e-13);

  // With a mask before it and with one after it, it is the same.
  auto masked = scores;
  encoder.bias(row_major<4>(scores), inputs, at);
  mask(scores), mask(masked);
  encoder.bias(row_major<4>(masked), attention_inputs<S>{.scale = 1 / std::sqrt(8.0), .queries = one_head(q)}, at);
  CHECK(absolute(scores, truth(name + "attn_logits")) <= steepest * position_bound<S>(largest, 1) + 1e-12);
  CHECK(absolute(masked, truth(name + "attn_logits")) <= steepest * position_bound<S>(largest, 1) + 1e-12);
}

TEMPLATE_TEST_CASE("CoPE with gate keys, clamped, and with its bias after the scale, is its authors'", "[golden][cope]", float, double) {
  using S = TestType;
  const std::string name = "cope_nodiv_sepkey_clamped/";
  auto q = given<S>(name + "query"), k = given<S>(name + "key"), gate_keys = given<S>(name + "key_cope");
  cope<S> encoder({.heads = 1, .channels = 8, .max_positions = 6, .gates = cope_gates::gate_keys, .bias = cope_bias::unscaled});
  set_transposed(encoder, given<S>(name + "pos_emb"));
  const attention_positions at{positions::range(20), positions::range(20)};
  auto scores = scores_of(q, k, 1 / std::sqrt(8.0)), bias = scores, found = scores;
  const attention_inputs<S> inputs{.scale = 1 / std::sqrt(8.0), .queries = one_head(q), .causal = true, .gate_keys = one_head(gate_keys)};
  encoder.contextual_positions(inputs, at, row_major<4>(found));
  const double bound = position_bound<S>(5, 8), steepest = 30;
  CHECK(absolute(found, up_to_the_query(truth(name + "positions"))) <= bound + 1e-13);

  std::ranges::fill(bias.values, S(0));
  encoder.bias(row_major<4>(bias), inputs, at);
  CHECK(absolute(bias, up_to_the_query(truth(name + "pos_logits"))) <= steepest * bound + 1e-12);
  encoder.bias(row_major<4>(scores), inputs, at);
  mask(scores);
  CHECK(absolute(scores, truth(name + "attn_logits")) <= steepest * bound + 1e-12);
}

TEMPLATE_TEST_CASE("CoPE of several heads is the paper's listing", "[golden][cope]", float, double) {
  using S = TestType;
  const std::string name = "cope_listing_heads/";
  auto q = given<S>(name + "query"), scores = given<S>(name + "attn_logits");
  cope<S> encoder({.heads = 2, .channels = 8, .max_positions = 8, .gates = cope_gates::scores, .bias = cope_bias::unscaled});
  std::ranges::copy(given<S>(name + "pos_emb").values, encoder.parameters()[0].values.begin());
  const auto before = scores;
  encoder.bias(row_major<4>(scores), attention_inputs<S>{.scale = 1.0, .queries = by_head(q), .causal = true},
               {positions::range(12), positions::range(12)});
  npy<S> added = scores;
  for (std::size_t n = 0; n < added.values.size(); ++n) added.values[n] -= before.values[n];
  CHECK(absolute(added, up_to_the_query(truth(name + "bias"))) <= 30 * position_bound<S>(7, 2) + 1e-12);
}

TEMPLATE_TEST_CASE("the gradients of CoPE are those of autograd", "[golden][cope]", float, double) {
  using S = TestType;
  const std::string name = "cope_gradients/";
  auto q = given<S>(name + "query"), scores = given<S>(name + "attn_logits"), d = given<S>(name + "grad_bias");
  cope<S> encoder({.heads = 1, .channels = 6, .max_positions = 5, .gates = cope_gates::scores, .bias = cope_bias::unscaled});
  std::ranges::copy(given<S>(name + "pos_emb").values, encoder.parameters()[0].values.begin());
  npy<S> d_q{q.shape, std::vector<S>(q.values.size())};
  gradient_buffer<S> d_parameters(encoder.parameters());
  const auto passed = d;
  encoder.bias_backward(row_major<4>(d), attention_inputs<S>{.scale = 1.0, .queries = by_head(q), .scores = row_major<4>(scores)},
                        {.queries = by_head(d_q)}, {positions::range(8), positions::range(8)}, d_parameters.spans());
  for (std::size_t n = 0; n < d.values.size(); ++n) d.values[n] -= passed.values[n];
  const npy<S> d_embeddings{{5, 6}, {d_parameters.spans()[0].begin(), d_parameters.spans()[0].end()}};
  const double bound = 64 * rounding<S> + 1e-12;
  CHECK(absolute(d, truth(name + "grad_attn_logits")) <= bound * golden::largest_magnitude(d));
  CHECK(absolute(d_q, truth(name + "grad_query")) <= bound * golden::largest_magnitude(d_q));
  CHECK(absolute(d_embeddings, truth(name + "grad_pos_emb")) <= bound * golden::largest_magnitude(d_embeddings));
}
