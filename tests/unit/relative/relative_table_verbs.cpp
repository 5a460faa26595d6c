// SPDX-License-Identifier: MIT
#include <posenc/relative/relative_table_verbs.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "random_parameters.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/relative_pairs.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace posenc;

template <class S, int Rank = 4>
using rows = Eigen::Tensor<S, Rank, Eigen::RowMajor>;
constexpr auto order = axis_order::time_head;

/// Tables that a test says the shape of.
template <class S>
class tables : public relative_table_verbs<tables<S>, S> {
 public:
  explicit tables(const relative_table_shape& shape) : relative_table_verbs<tables<S>, S>(shape) {}
  tables(const relative_table_shape& shape, std::vector<std::vector<S>> values)
      : relative_table_verbs<tables<S>, S>(shape, std::move(values)) {}
  static constexpr std::string_view name() { return "tables"; }
  friend bool operator==(const tables& a, const tables& b) { return a.same_tables(b); }
};

constexpr index_t dim = 5;
relative_table_shape shape_of(relative_tables which, index_t heads = 0, bool clip = true) { return {which, heads, 9, dim, -5, clip}; }
constexpr relative_tables all_tables[] = {relative_tables::keys, relative_tables::values, relative_tables::separate,
                                          relative_tables::shared};

template <class T, class W>
void check_values() {
  using S = compute_t<T>;
  for (const auto& at : reference::relative_cases())
    for (const index_t heads_of_tables : {0, 3})
      for (const bool clip : {true, false}) {
        const auto encoder = with_random_parameters(tables<S>(shape_of(relative_tables::shared, heads_of_tables, clip)));
        const index_t queries = at.queries.time(), keys = at.keys.time();
        const rows<T> before = random_tensor<rows<S>>(4, 2, queries, 3, dim).template cast<T>();
        const rows<W> weights = random_tensor<rows<S>>(5, 2, 3, queries, keys).template cast<W>();
        auto context = before;
        encoder.add_values(heads(context, order), weights, at);
        const auto expected = reference::relative_context(before, weights, at, [&](index_t h, position d, index_t c) {
          if (!clip && (d < -5 || d > 3)) return 0.0;
          return static_cast<double>(encoder.values()(heads_of_tables ? h : 0, std::clamp<position>(d, -5, 3) + 5, c));
        });
        const double of_storage = 32 * reference::storage_rounding<T>;
        const double tolerance = 2 * static_cast<double>(keys) * static_cast<double>(std::numeric_limits<S>::epsilon()) + of_storage;
        INFO(queries << " queries, " << heads_of_tables << " heads of tables, clip " << clip);
        CHECK(reference::difference(context, expected, tolerance) == "");

        rows<T> by_head(2, 3, queries, dim);  // the other order of axes
        by_head = before.shuffle(Eigen::array<int, 4>{0, 2, 1, 3});
        encoder.add_values(heads(by_head, axis_order::head_time), weights, at);
        CHECK(reference::bit_difference(rows<T>(by_head.shuffle(Eigen::array<int, 4>{0, 2, 1, 3})), context) == "");
      }
}

}  // namespace

TEST_CASE("values of distances add what a pair at a time would", "[relative_table_verbs]") {
  check_values<double, double>();
  check_values<float, float>();
  check_values<Eigen::bfloat16, float>();
  check_values<float, Eigen::half>();
  check_values<Eigen::half, Eigen::bfloat16>();
}

TEST_CASE("values of distances: chunks and steps have the bits of the whole, and threads those of one", "[relative_table_verbs]") {
  constexpr index_t time = 200;
  const auto encoder = with_random_parameters(tables<float>(shape_of(relative_tables::values)));
  const auto before = random_tensor<rows<float>>(1, 2, time, 3, dim);
  auto weights = random_tensor<rows<float>>(2, 2, 3, time, time);
  for (index_t b = 0; b < 2; ++b)
    for (index_t h = 0; h < 3; ++h)
      for (index_t i = 0; i < time; ++i)
        for (index_t j = i + 1; j < time; ++j) weights(b, h, i, j) = 0;
  const attention_positions at{positions::range(time), positions::range(time)};
  auto whole = before, threads = before, steps = before;
  encoder.add_values(heads(whole, order), weights, at);
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  encoder.add_values(heads(threads, order), weights, at, device);
  CHECK(reference::bit_difference(threads, whole) == "");
  const score_view<const float> all(weights);
  for (index_t i = 0; i < time; ++i) {
    const score_view<const float> step(&all(0, 0, i, 0), {2, 3, 1, i + 1}, all.strides());
    encoder.add_values(heads(steps, order).slice(i, 1), step, attention_positions{positions::range(1, i), positions::range(i + 1)});
  }
  CHECK(reference::bit_difference(steps, whole) == "");

  const auto gradients = [&](const executor& run) {
    auto d_weights = weights;
    gradient_buffer<float> sums(tables<float>(encoder).parameters());
    encoder.add_values_backward(heads(before, order), weights, d_weights, at, sums.spans(), run);
    std::vector<float> got(d_weights.data(), d_weights.data() + d_weights.size());
    got.insert(got.end(), sums.spans()[0].begin(), sums.spans()[0].end());
    return got;
  };
  CHECK(reference::bit_difference(gradients(device), gradients({})) == "");
}

TEST_CASE("gradients of tables are the slopes of both verbs, and add up where there is one table", "[relative_table_verbs]") {
  const auto at = reference::relative_cases()[2];
  for (const auto which : all_tables)
    for (const index_t of_tables : {0, 2}) {
      auto encoder = with_random_parameters(tables<double>(shape_of(which, of_tables)));
      auto q = random_tensor<rows<double>>(3, 2, 4, 2, dim), context = random_tensor<rows<double>>(4, 2, 4, 2, dim);
      auto scores = random_tensor<rows<double>>(5, 2, 2, 4, 7), weights = random_tensor<rows<double>>(6, 2, 2, 4, 7);
      const auto of_scores = random_tensor<rows<double>>(7, 2, 2, 4, 7);
      const auto of_context = random_tensor<rows<double>>(8, 2, 4, 2, dim);
      const score_pass pass{.scale = 0.25};
      const attention_inputs<double> inputs{.scale = 0.5, .queries = heads(q, order)};
      const auto loss = [&] {
        auto s = scores, y = context;
        encoder.bias(s, inputs, at, pass);
        encoder.add_values(heads(y, order), weights, at);
        return reference::dot(s, of_scores) + reference::dot(y, of_context);
      };
      auto d_scores = of_scores, d_q = q, d_weights = weights;
      d_q.setConstant(1), d_weights.setConstant(2);
      gradient_buffer<double> sums(encoder.parameters());
      encoder.bias_backward(d_scores, inputs, attention_gradients<double>{.queries = heads(d_q, order)}, at, sums.spans(), pass);
      encoder.add_values_backward(heads(of_context, order), weights, d_weights, at, sums.spans());
      INFO("tables " << static_cast<int>(which) << " of " << of_tables << " heads");
      const auto check = [&](std::span<double> variable, std::span<const double> got, double before) {
        auto expected = reference::derivatives(variable, loss, 0.5);
        for (double& value : expected) value += before;
        CHECK(reference::difference(got, expected, 1e-11) == "");
      };
      const auto span_of = [](rows<double>& tensor) { return std::span(tensor.data(), static_cast<std::size_t>(tensor.size())); };
      check(span_of(scores), span_of(d_scores), 0);
      check(span_of(q), span_of(d_q), 1);
      check(span_of(weights), span_of(d_weights), 2);
      for (std::size_t n = 0; n < sums.spans().size(); ++n) check(encoder.parameters()[n].values, sums.spans()[n], 0);
    }
}

TEST_CASE("tables: a verb without a table does nothing, but for the scale and the mask", "[relative_table_verbs]") {
  const attention_positions at{positions::range(3), positions::range(3)};
  const auto before = random_tensor<rows<float>>(1, 1, 2, 3, 3);
  const auto q = random_tensor<rows<float>>(2, 1, 3, 2, dim);
  auto scores = before;
  const auto values = with_random_parameters(tables<float>(shape_of(relative_tables::values)));
  values.bias(scores, attention_inputs<float>{.scale = 1}, at);  // needs no queries
  CHECK(reference::bit_difference(scores, before) == "");
  values.bias(scores, attention_inputs<float>{.scale = 1}, at, {.scale = 0.5, .causal = true});
  for (index_t h = 0; h < 2; ++h)
    for (index_t i = 0; i < 3; ++i)
      for (index_t j = 0; j < 3; ++j)
        CHECK(scores(0, h, i, j) == (j > i ? -std::numeric_limits<float>::infinity() : before(0, h, i, j) * 0.5f));
  auto d = before;
  gradient_buffer<float> sums(tables<float>(values).parameters());
  values.bias_backward(d, attention_inputs<float>{.scale = 1}, attention_gradients<float>{}, at, sums.spans(),
                       {.scale = 0.5, .causal = true});
  for (index_t h = 0; h < 2; ++h)
    for (index_t i = 0; i < 3; ++i)
      for (index_t j = 0; j < 3; ++j) CHECK(d(0, h, i, j) == (j > i ? 0 : before(0, h, i, j) * 0.5f));
  CHECK(std::ranges::all_of(sums.spans()[0], [](float value) { return value == 0; }));

  const auto keys = with_random_parameters(tables<float>(shape_of(relative_tables::keys)));
  auto context = q, d_context = q;
  auto d_weights = before;
  keys.add_values(heads(context, order), before, at);
  CHECK(reference::bit_difference(context, q) == "");
  keys.add_values_backward(heads(d_context, order), before, d_weights, at, sums.spans());
  CHECK(reference::bit_difference(d_weights, before) == "");
}

TEST_CASE("tables are parameters with the names and shapes of their sides", "[relative_table_verbs]") {
  const auto described = [](const relative_table_shape& shape) {
    std::string text;
    tables<float> encoder(shape);
    for (const auto& p : encoder.parameters()) {
      text += std::string(p.name);
      for (const index_t extent : p.shape) text += " " + std::to_string(extent);
      text += "; ";
    }
    return text;
  };
  CHECK(described(shape_of(relative_tables::keys)) == "keys 9 5; ");
  CHECK(described(shape_of(relative_tables::values, 2)) == "values 2 9 5; ");
  CHECK(described(shape_of(relative_tables::separate)) == "keys 9 5; values 9 5; ");
  CHECK(described(shape_of(relative_tables::shared)) == "keys_and_values 9 5; ");

  const tables<float> keys(shape_of(relative_tables::keys)), shared(shape_of(relative_tables::shared, 2));
  CHECK(keys.values().empty());
  CHECK(tables<float>(shape_of(relative_tables::values)).keys().empty());
  CHECK(shared.keys().data() == shared.values().data());
  CHECK(shared.keys().extents() == std::array<index_t, 3>{2, 9, 5});
  const tables<float> given(shape_of(relative_tables::separate), {random_vector<float>(7, 45), random_vector<float>(8, 45)});
  CHECK(given.keys()(0, 8, 4) == random_vector<float>(7, 45)[44]);
  CHECK(given.values()(0, 0, 1) == random_vector<float>(8, 45)[1]);
}

TEST_CASE("tables name what does not fit, and write nothing", "[relative_table_verbs]") {
  using lists = std::vector<std::vector<float>>;
  const std::string number = "[tables] there must be a table for keys and for values, or one for both but got ";
  reference::refuses(number + "2 and 1", [] { tables<float>(shape_of(relative_tables::separate), lists(1, std::vector<float>(45))); });
  reference::refuses(number + "1 and 2", [] { tables<float>(shape_of(relative_tables::shared), lists(2, std::vector<float>(45))); });
  reference::refuses("[tables] a table must have (heads times) rows times channels values but got 90 and 45",
                     [] { tables<float>(shape_of(relative_tables::keys, 2), lists(1, std::vector<float>(45))); });

  const attention_positions at{positions::range(3), positions::range(6)};
  const auto encoder = with_random_parameters(tables<float>(shape_of(relative_tables::separate, 2)));
  auto context = random_tensor<rows<float>>(1, 2, 3, 2, dim);
  const auto weights = random_tensor<rows<float>>(2, 2, 2, 3, 6);
  const auto refused = [&](const std::string& text, const auto& given, const attention_positions& where) {
    reference::refuses(context, "[tables] " + text, [&] { encoder.add_values(heads(context, order), given, where); });
  };
  refused("heads must match the encoder but got 2 and 3", rows<float>(2, 3, 3, 6), at);
  refused("the context must be [batch, time, head] of the weights but got [2, 3, 2, 5] and [1, 2, 3, 6]", rows<float>(1, 2, 3, 6), at);
  refused("the context must be [batch, time, head] of the weights but got [2, 3, 2, 5] and [2, 2, 6, 6]", rows<float>(2, 2, 6, 6),
          {positions::range(6), at.keys});
  reference::refuses(context, "[tables keys] time must match the positions but got 6 and 5",
                     [&] { encoder.add_values(heads(context, order), weights, attention_positions{at.queries, positions::range(5)}); });
  rows<float> wide(2, 3, 2, 7);
  wide.setZero();
  reference::refuses(wide, "[tables] channels must match the encoder but got 5 and 7",
                     [&] { encoder.add_values(heads(wide, order), weights, at); });

  const head_view<float> twice(tensor_view<float, 4>(context.data(), {2, 3, 2, dim}, {30, 0, 5, 1}));
  reference::refuses(context, "[tables] the elements of an output must be distinct, with strides that nest but got [30, 0, 5, 1]",
                     [&] { encoder.add_values(twice, weights, at); });
  const head_view<float> apart(tensor_view<float, 4>(context.data(), {1, 3, 2, dim}, {60, 20, 10, 2}));
  const score_view<const float> one_row(weights.data(), {1, 2, 3, 6});
  reference::refuses(context, "[tables] the last axis must be contiguous but got 2", [&] { encoder.add_values(apart, one_row, at); });
  const score_view<const float> by_keys(weights.data(), {2, 2, 3, 6}, {36, 18, 1, 3});
  reference::refuses(context, "[tables] the last axis must be contiguous but got 3",
                     [&] { encoder.add_values(heads(context, order), by_keys, at); });

  auto d_weights = weights;
  gradient_buffer<float> sums(tables<float>(encoder).parameters());
  rows<float> other(2, 2, 3, 5);
  reference::refuses("[tables] gradients must have the shapes of what they are of but got [2, 2, 3, 6] and [2, 2, 3, 5]",
                     [&] { encoder.add_values_backward(heads(context, order), weights, other, at, sums.spans()); });
  reference::refuses(d_weights, "[tables] there must be one gradient span per parameter but got 2 and 1",
                     [&] { encoder.add_values_backward(heads(context, order), weights, d_weights, at, sums.spans().first(1)); });
  std::vector<float> first(90), small(45);
  const std::array<std::span<float>, 2> spans{std::span<float>(first), std::span<float>(small)};
  reference::refuses(d_weights, "[tables] gradient spans must have the sizes of the parameters but got 90 and 45",
                     [&] { encoder.add_values_backward(heads(context, order), weights, d_weights, at, spans); });
}
