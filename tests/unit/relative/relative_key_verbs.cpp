// SPDX-License-Identifier: MIT
#include <posenc/relative/relative_key_verbs.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/relative_pairs.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace {

using namespace posenc;

template <class S, int Rank = 4>
using rows = Eigen::Tensor<S, Rank, Eigen::RowMajor>;

constexpr index_t heads_of_queries = 4, heads_of_keys = 2, dim = 5, count = 9;
constexpr position low = -5;

/// Everything that the verbs can do: keys of distances, and biases of queries and keys, or none of the latter.
template <class S>
class everything : public relative_key_verbs<everything<S>, S> {
 public:
  explicit everything(bool clip, bool biased = true, std::uint64_t seed = 1)
      : vectors_(random_vector<S>(seed, heads_of_queries * count * dim)),
        query_bias_(random_vector<S>(seed + 1, biased ? heads_of_queries * dim : 0)),
        key_bias_(random_vector<S>(seed + 2, biased ? heads_of_queries * dim : 0)),
        clip_(clip) {}

  static constexpr std::string_view name() { return "everything"; }
  index_t heads() const { return heads_of_queries; }
  index_t channels() const { return dim; }
  std::vector<parameter<S>> parameters() {
    const std::vector<index_t> of_bias{heads_of_queries, static_cast<index_t>(query_bias_.size()) / heads_of_queries};
    return {{"vectors", vectors_, {heads_of_queries, count, dim}}, {"query_bias", query_bias_, of_bias}, {"key_bias", key_bias_, of_bias}};
  }
  friend bool operator==(const everything& a, const everything& b) { return a.vectors_ == b.vectors_; }

  // What `relative_key_verbs` asks for.
  relative_vectors<S> vectors(const attention_positions&) const { return {vectors_.data(), count * dim, dim, count, low, clip_}; }
  static S factor(double scale) { return static_cast<S>(4 * scale); }
  const S* query_bias() const { return query_bias_.empty() ? nullptr : query_bias_.data(); }
  const S* key_bias() const { return key_bias_.empty() ? nullptr : key_bias_.data(); }
  void require_spans(gradient_spans<S> spans) const { require(spans.size() == 3, name(), "three spans", spans.size()); }
  void add_gradient(const attention_positions&, index_t, const relative_key_gradient<S>& d, gradient_spans<S> to) const {
    const auto add = [](std::span<S> sums, const std::vector<S>& values) {
      std::transform(values.begin(), values.end(), sums.begin(), sums.begin(), [](S a, S b) { return a + b; });
    };
    add(to[0], d.vectors), add(to[1], d.query_bias), add(to[2], d.key_bias);
  }

  /// What it adds to a score, in double.
  double term(const auto& q, const auto& k, double scale, index_t b, index_t h, index_t i, index_t j, position distance) const {
    const bool inside = distance >= low && distance < low + count;
    const index_t row = distance < 0 ? std::max(distance - low, position{0}) : std::min(distance - low, position{count - 1});
    double sum = 0;
    for (index_t c = 0; c < dim; ++c) {
      const auto at_channel = static_cast<std::size_t>(h * dim + c);
      const double u = key_bias() ? static_cast<double>(key_bias_[at_channel]) : 0;
      const double v = query_bias() ? static_cast<double>(query_bias_[at_channel]) : 0;
      const double vector = static_cast<double>(vectors_[static_cast<std::size_t>((h * count + row) * dim + c)]);
      if (inside || clip_) sum += (static_cast<double>(q(b, i, h, c)) + v) * vector;
      sum += u * static_cast<double>(k(b, j, h * heads_of_keys / heads_of_queries, c));
    }
    return 4 * scale * sum;
  }

 private:
  std::vector<S> vectors_, query_bias_, key_bias_;
  bool clip_;
};

static_assert(contextual_bias_encoder<everything<float>> && position_encoder<everything<float>> && trainable<everything<double>>);
static_assert(!bias_encoder<everything<float>> && !value_encoder<everything<float>>);

template <class Q>
rows<Q> random_heads(std::uint64_t seed, index_t time, index_t heads) {
  return random_tensor<rows<compute_t<Q>>>(seed, 2, time, heads, dim).template cast<Q>();
}

/// T: of the scores, Q: of queries and keys.
template <class T, class Q>
void check_scores() {
  using S = compute_t<T>;
  for (const auto& at : reference::relative_cases())
    for (const bool clip : {true, false})
      for (const bool causal : {false, true}) {
        const everything<S> encoder(clip);
        const index_t queries = at.queries.time(), keys = at.keys.time();
        const auto q = random_heads<Q>(4, queries, heads_of_queries), k = random_heads<Q>(5, keys, heads_of_keys);
        const rows<T> before = random_tensor<rows<S>>(6, 2, heads_of_queries, queries, keys).template cast<T>();
        const attention_inputs<Q> inputs{.scale = 0.5, .queries = heads(q, axis_order::time_head), .keys = heads(k, axis_order::time_head)};
        const score_pass pass{.scale = 0.25, .causal = causal};
        const auto expected = reference::relative_scores(before, at, pass, [&](index_t b, index_t h, index_t i, index_t j, position d) {
          return encoder.term(q, k, 0.5, b, h, i, j, d);
        });
        // Terms are below 4, and scores below 64.
        const double of_storage = 64 * reference::storage_rounding<T>;
        const double tolerance = 8 * 4 * dim * static_cast<double>(std::numeric_limits<S>::epsilon()) + of_storage;
        INFO(queries << " queries, clip " << clip << ", causal " << causal);
        auto scores = before;
        encoder.bias(scores, inputs, at, pass);
        CHECK(reference::difference(scores, expected, tolerance) == "");

        rows<T> out(before.dimensions());
        encoder.bias(before, out, inputs, at, pass);
        CHECK(reference::bit_difference(out, scores) == "");
        Eigen::Tensor<T, 4> columns(keys, queries, heads_of_queries, 2);  // the same memory
        std::copy_n(before.data(), before.size(), columns.data());
        encoder.bias(columns, inputs, at, pass);
        CHECK(reference::bit_difference(columns, scores) == "");
      }
}

/// Queries [from, from + number) and the first `keys` keys of q, k and scores.
template <class S>
void bias_part(const everything<S>& encoder, rows<S>& scores, const rows<S>& q, const rows<S>& k, const attention_positions& at,
               index_t from, index_t number, index_t keys) {
  const auto whole = score_view<S>(scores);
  const score_view<S> part(&whole(0, 0, from, 0), {2, heads_of_queries, number, keys}, whole.strides());
  encoder.bias(part,
               attention_inputs<S>{.scale = 0.5,
                                   .queries = heads(q, axis_order::time_head).slice(from, number),
                                   .keys = heads(k, axis_order::time_head).slice(0, keys)},
               attention_positions{at.queries.slice(from, number), at.keys.slice(0, keys)});
}

}  // namespace

TEST_CASE("keys of distances add what a pair at a time would", "[relative_key_verbs]") {
  check_scores<double, double>();
  check_scores<float, float>();
  check_scores<float, Eigen::bfloat16>();
  check_scores<Eigen::bfloat16, float>();
  check_scores<Eigen::half, Eigen::half>();
}

TEST_CASE("keys of distances: chunks, steps and shorter caches have the bits of the whole", "[relative_key_verbs]") {
  const auto q = random_heads<float>(1, 67, heads_of_queries), k = random_heads<float>(2, 67, heads_of_keys);
  for (const bool clip : {true, false}) {
    const everything<float> encoder(clip);
    const auto before = random_tensor<rows<float>>(3, 2, heads_of_queries, 67, 67);
    for (const auto& at : {attention_positions{positions::range(67), positions::range(67)},
                           attention_positions{positions::offsets(std::vector<position>{0, 5}, 67), positions::range(67)}}) {
      auto whole = before, chunks = before, steps = before;
      bias_part(encoder, whole, q, k, at, 0, 67, 67);
      for (index_t from = 0; from < 67; from += 13) bias_part(encoder, chunks, q, k, at, from, std::min<index_t>(13, 67 - from), 67);
      CHECK(reference::bit_difference(chunks, whole) == "");
      for (index_t i = 0; i < 67; ++i) bias_part(encoder, steps, q, k, at, i, 1, i + 1);
      for (index_t i = 0; i < 67; ++i) {
        const rows<float, 3> got = steps.chip(i, 2), wanted = whole.chip(i, 2);
        const Eigen::array<index_t, 3> begin{0, 0, 0}, size{2, heads_of_queries, i + 1};
        REQUIRE(reference::bit_difference(rows<float, 3>(got.slice(begin, size)), rows<float, 3>(wanted.slice(begin, size))) == "");
      }
    }
  }
}

TEST_CASE("keys of distances: a row of the batch does not depend on the others", "[relative_key_verbs]") {
  const auto at = reference::relative_cases()[2];
  const auto q = random_heads<float>(1, 4, heads_of_queries), k = random_heads<float>(2, 7, heads_of_keys);
  auto both = random_tensor<rows<float>>(3, 2, heads_of_queries, 4, 7);
  auto alone = both;
  const everything<float> encoder(true);
  const attention_inputs<float> inputs{.scale = 1, .queries = heads(q, axis_order::time_head), .keys = heads(k, axis_order::time_head)};
  encoder.bias(both, inputs, at);
  for (index_t b = 0; b < 2; ++b) {
    const rows<float, 3> q_row = q.chip(b, 0), k_row = k.chip(b, 0);
    std::vector<position> ids;
    for (index_t j = 0; j < 7; ++j) ids.push_back(at.keys(b, j));
    const score_view<float> part(&alone(b, 0, 0, 0), {1, heads_of_queries, 4, 7});
    encoder.bias(
        part,
        attention_inputs<float>{.scale = 1, .queries = heads(q_row, axis_order::time_head), .keys = heads(k_row, axis_order::time_head)},
        attention_positions{positions::range(4, at.queries(b, 0)), positions::ids(ids)});
  }
  CHECK(reference::bit_difference(alone, both) == "");
}

TEST_CASE("keys of distances have the bits of one thread, forth and back", "[relative_key_verbs]") {
  constexpr index_t time = 300;
  const attention_positions at{positions::range(time), positions::range(time)};
  const everything<float> encoder(true);
  const auto q = random_heads<float>(1, time, heads_of_queries), k = random_heads<float>(2, time, heads_of_keys);
  const attention_inputs<float> inputs{.scale = 0.5, .queries = heads(q, axis_order::time_head), .keys = heads(k, axis_order::time_head)};
  const auto results = [&](const executor& run) {
    auto scores = random_tensor<rows<float>>(3, 2, heads_of_queries, time, time), d = scores;
    auto d_q = q, d_k = k;
    gradient_buffer<float> sums(everything<float>(true).parameters());
    encoder.bias(scores, inputs, at, {.scale = 0.5, .causal = true}, run);
    encoder.bias_backward(
        d, inputs, attention_gradients<float>{.queries = heads(d_q, axis_order::time_head), .keys = heads(d_k, axis_order::time_head)}, at,
        sums.spans(), {.scale = 0.5, .causal = true}, run);
    std::vector<float> all(scores.data(), scores.data() + scores.size());
    for (const auto* tensor : {&d, &d_q, &d_k}) all.insert(all.end(), tensor->data(), tensor->data() + tensor->size());
    for (const auto& span : sums.spans()) all.insert(all.end(), span.begin(), span.end());
    return all;
  };
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  CHECK(reference::bit_difference(results(device), results({})) == "");
}

TEST_CASE("keys of distances: gradients are the slopes of the forward pass", "[relative_key_verbs]") {
  auto cases = reference::relative_cases();
  cases.pop_back();
  cases.push_back({positions::range(3), positions::range(4)});  // without the first vectors
  std::vector<position> even(66);                               // more runs than are told at once
  for (std::size_t n = 0; n < even.size(); ++n) even[n] = 2 * static_cast<position>(n);
  cases.push_back({positions::range(1, 130), positions::ids(even)});
  for (const auto& at : cases) {
    for (const bool clip : {true, false}) {
      const bool causal = clip;
      const index_t queries = at.queries.time(), keys = at.keys.time();
      everything<double> encoder(clip);
      auto q = random_heads<double>(4, queries, heads_of_queries), k = random_heads<double>(5, keys, heads_of_keys);
      auto scores = random_tensor<rows<double>>(6, 2, heads_of_queries, queries, keys);
      const auto w = random_tensor<rows<double>>(7, 2, heads_of_queries, queries, keys);
      const attention_inputs<double> inputs{
          .scale = 0.5, .queries = heads(q, axis_order::time_head), .keys = heads(k, axis_order::time_head)};
      const score_pass pass{.scale = 0.25, .causal = causal};
      const auto loss = [&] {
        auto result = scores;
        encoder.bias(result, inputs, at, pass);
        for (index_t n = 0; n < result.size(); ++n)
          if (std::isinf(result.data()[n])) result.data()[n] = 0;
        return reference::dot(result, w);
      };
      auto d = w, d_q = q, d_k = k;
      d_q.setConstant(1), d_k.setConstant(2);  // added to
      gradient_buffer<double> sums(encoder.parameters());
      for (const auto& span : sums.spans()) std::ranges::fill(span, 3.0);
      encoder.bias_backward(
          d, inputs, attention_gradients<double>{.queries = heads(d_q, axis_order::time_head), .keys = heads(d_k, axis_order::time_head)},
          at, sums.spans(), pass);
      const auto check = [&](std::span<double> variable, std::span<const double> got, double before) {
        auto expected = reference::derivatives(variable, loss, 0.5);
        for (double& value : expected) value += before;
        CHECK(reference::difference(got, expected, 1e-11) == "");
      };
      const auto span_of = [](rows<double>& tensor) { return std::span(tensor.data(), static_cast<std::size_t>(tensor.size())); };
      INFO(queries << " queries, clip " << clip);
      check(span_of(scores), span_of(d), 0);
      check(span_of(q), span_of(d_q), 1);
      check(span_of(k), span_of(d_k), 2);
      for (std::size_t n = 0; n < 3; ++n) check(encoder.parameters()[n].values, sums.spans()[n], 3);
    }
  }
}

TEST_CASE("keys of distances: query heads that share a key are summed before they are rounded", "[relative_key_verbs]") {
  // Added one by one to 1, the small ones are lost in bfloat16.
  const attention_positions at{positions::range(1), positions::range(1)};
  everything<float> encoder(true);
  for (const auto& p : encoder.parameters()) std::ranges::fill(p.values, p.name == "key_bias" ? 1.0f : 0.0f);
  rows<Eigen::bfloat16> q(1, 1, heads_of_queries, dim), k(1, 1, 1, dim), d_k(1, 1, 1, dim);
  q.setZero(), k.setZero(), d_k.setZero();
  rows<float> d(1, heads_of_queries, 1, 1);
  d.setConstant(0x1.8p-9f);
  d(0, 0, 0, 0) = 1;
  gradient_buffer<float> sums(encoder.parameters());
  encoder.bias_backward(
      d,
      attention_inputs<Eigen::bfloat16>{.scale = 0.25, .queries = heads(q, axis_order::time_head), .keys = heads(k, axis_order::time_head)},
      attention_gradients<Eigen::bfloat16>{.queries = {}, .keys = heads(d_k, axis_order::time_head)}, at, sums.spans());
  CHECK(static_cast<float>(d_k(0, 0, 0, 0)) == 1 + 0x1p-7f);
}

TEST_CASE("keys of distances: what is not asked for is not written, and nothing is read of empty scores", "[relative_key_verbs]") {
  const attention_positions at{positions::range(3), positions::range(3)};
  everything<float> encoder(true, false);
  const auto q = random_heads<float>(1, 3, heads_of_queries);
  auto d = random_tensor<rows<float>>(2, 2, heads_of_queries, 3, 3);
  const auto before = d;
  gradient_buffer<float> sums(encoder.parameters());
  const attention_inputs<float> inputs{.scale = 1, .queries = heads(q, axis_order::time_head)};
  encoder.bias_backward(d, inputs, attention_gradients<float>{}, at, sums.spans());  // no keys: there is no bias for them
  CHECK(reference::bit_difference(d, before) == "");

  rows<float> none(2, heads_of_queries, 0, 3);
  encoder.bias(none, attention_inputs<float>{.scale = 1}, attention_positions{positions::range(0), positions::range(3)});
}

TEST_CASE("keys of distances name what does not fit, and write nothing", "[relative_key_verbs]") {
  const attention_positions at{positions::range(3), positions::range(6)};
  everything<float> encoder(true);
  const auto q = random_heads<float>(1, 3, heads_of_queries), k = random_heads<float>(2, 6, heads_of_keys);
  auto scores = random_tensor<rows<float>>(3, 2, heads_of_queries, 3, 6);
  constexpr auto order = axis_order::time_head;
  const attention_inputs<float> right{.scale = 1, .queries = heads(q, order), .keys = heads(k, order)};
  const auto refused = [&](const std::string& text, const attention_inputs<float>& inputs) {
    reference::refuses(scores, "[everything] " + text, [&] { encoder.bias(scores, inputs, at); });
  };
  refused("the queries must be given but got none", {.scale = 1, .keys = right.keys});
  refused("the keys must be given but got none", {.scale = 1, .queries = right.queries});
  refused("the queries must be [batch, time, head] of the scores but got [2, 6, 2, 5] and [2, 4, 3, 6]",
          {.scale = 1, .queries = right.keys, .keys = right.keys});
  refused("the keys must be [batch, time] of the scores but got [2, 3, 4, 5] and [2, 4, 3, 6]",
          {.scale = 1, .queries = right.queries, .keys = right.queries});
  const rows<float> three(2, 6, 3, dim), wide_q(2, 3, heads_of_queries, 7), wide_k(2, 6, heads_of_keys, 7);
  refused("the number of query heads must be a multiple of key heads but got 4 and 3",
          {.scale = 1, .queries = right.queries, .keys = heads(three, order)});
  refused("channels must match the encoder but got 5 and 7", {.scale = 1, .queries = heads(wide_q, order), .keys = right.keys});
  refused("channels must match the encoder but got 5 and 7", {.scale = 1, .queries = right.queries, .keys = heads(wide_k, order)});

  auto other_heads = random_tensor<rows<float>>(4, 2, 3, 3, 6);
  reference::refuses(other_heads, "[everything] heads must match the encoder but got 4 and 3",
                     [&] { encoder.bias(other_heads, right, at); });
  reference::refuses(scores, "[everything keys] time must match the positions but got 6 and 5",
                     [&] { encoder.bias(scores, right, attention_positions{at.queries, positions::range(5)}); });

  rows<float> out(2, heads_of_queries, 3, 7);
  out.setZero();
  reference::refuses(out, "[everything] the output must have the input's shape but got [2, 4, 3, 6] and [2, 4, 3, 7]",
                     [&] { encoder.bias(scores, out, right, at); });
  const score_view<float> first(scores.data(), {2, heads_of_queries, 3, 5}, {72, 18, 6, 1});
  const score_view<float> second(scores.data() + 1, {2, heads_of_queries, 3, 5}, {72, 18, 6, 1});
  const auto five = random_heads<float>(2, 5, heads_of_keys);
  reference::refuses(scores, "[everything] input and output must be one view or not overlap but got [2, 4, 3, 5] and [2, 4, 3, 5]", [&] {
    encoder.bias(first, second, attention_inputs<float>{.scale = 1, .queries = right.queries, .keys = heads(five, order)},
                 attention_positions{at.queries, positions::range(5)});
  });

  gradient_buffer<float> sums(encoder.parameters());
  rows<float> short_d(2, 2, heads_of_queries, dim);
  const std::string shapes = "[everything] gradients must have the shapes of what they are of but got ";
  reference::refuses(scores, shapes + "[2, 3, 4, 5] and [2, 2, 4, 5]", [&] {
    encoder.bias_backward(scores, right, attention_gradients<float>{.queries = heads(short_d, order)}, at, sums.spans());
  });
  reference::refuses(scores, shapes + "[2, 6, 2, 5] and [2, 2, 4, 5]", [&] {
    encoder.bias_backward(scores, right, attention_gradients<float>{.keys = heads(short_d, order)}, at, sums.spans());
  });
  reference::refuses(scores, "[everything] three spans but got 0",
                     [&] { encoder.bias_backward(scores, right, attention_gradients<float>{}, at, {}); });
}
