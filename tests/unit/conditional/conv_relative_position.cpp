// SPDX-License-Identifier: MIT
#include <posenc/conditional/conv_relative_position.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/conv_relative.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using options_type = conv_relative_position_options;
template <class S>
using encoder_of = conv_relative_position<S>;
template <class T>
using tensor = Eigen::Tensor<T, 4, Eigen::RowMajor>;

template <class Tensor>
auto by_time(Tensor& x) {
  return heads(x, axis_order::time_head);
}

template <class S>
encoder_of<S> random_encoder(const options_type& options) {
  encoder_of<S> encoder(options);
  std::uint64_t seed = 3;
  for (const auto& one : encoder.parameters())
    std::ranges::copy(random_vector<S>(seed++, static_cast<index_t>(one.values.size())), one.values.begin());
  return encoder;
}

struct problem {
  options_type options;
  positions at;
};
/// A class token and a picture of 3 rows and 4 columns, another with a cell missing; a film; sequences.
std::vector<problem> problems() {
  const position none = no_position;
  const auto picture = [&](position missing) {
    std::vector<position> rows{none}, columns{none};
    for (position cell = 0; cell < 12; ++cell) {
      rows.push_back(cell == missing ? none : cell / 4 - 1);
      columns.push_back(cell == missing ? none : cell % 4 + 5);
    }
    rows.insert(rows.end(), columns.begin(), columns.end());
    return rows;
  };
  std::vector<position> both, whole = picture(-1), holed = picture(6), film;
  for (const index_t axis : {0, 1})
    for (const auto* one : {&whole, &holed}) both.insert(both.end(), one->begin() + 13 * axis, one->begin() + 13 * (axis + 1));
  for (const position divisor : {6, 3, 1})
    for (position cell = 0; cell < 12; ++cell) film.push_back(cell / divisor % (divisor == 6 ? 2 : divisor == 3 ? 2 : 3));
  return {{options_type{.channels = 3, .windows = {{.size = 3, .heads = 2}, {.size = 5, .heads = 1}}}, positions::multi_axis(both, 2, 2)},
          {options_type{.channels = 5, .windows = {{.size = 3, .heads = 2}}, .axes = 3}, positions::multi_axis(film, 3)},
          {options_type{.channels = 40, .windows = {{.size = 1, .heads = 1}, {.size = 7, .heads = 4}}, .axes = 1},
           positions::ids(std::vector<position>{none, 0, 1, 2, none, 4, 0, 1, 5, 6, 7, 8, none})}};
}
constexpr index_t batch = 2;

template <class S, class T>
void check_against_reference(double tolerance) {
  for (const problem& one_problem : problems()) {
    const options_type& options = one_problem.options;
    const positions& at = one_problem.at;
    auto encoder = random_encoder<S>(options);
    const index_t time = at.time(), count = encoder.heads(), channels = encoder.channels();
    random_numbers random(2);
    tensor<T> q(batch, time, count, channels), v = q, context = q;
    for (auto* one : {&q, &v, &context})
      for (index_t n = 0; n < one->size(); ++n) one->data()[n] = static_cast<T>(random.real<S>());
    if (at(0, 0) == no_position) v(0, 0, 0, 0) = q(0, 0, 0, 0) = std::numeric_limits<T>::quiet_NaN();  // seen by nobody
    const auto before = context;
    attention_inputs<T> inputs{.scale = 1.0, .queries = by_time(q), .values = by_time(v)};
    const tensor<T> none;
    encode_context(encoder, by_time(context), none, inputs, attention_positions{at, at});
    double worst = 0;
    index_t first = 0;
    const auto parameters = encoder.parameters();
    for (std::size_t n = 0; n < options.windows.size(); first += options.windows[n++].heads)
      for (index_t b = 0; b < batch; ++b)
        for (index_t t = 0; t < time; ++t)
          for (index_t h = 0; h < options.windows[n].heads; ++h)
            for (index_t c = 0; c < channels; ++c) {
              const auto got = static_cast<double>(context(b, t, first + h, c)), was = static_cast<double>(before(b, t, first + h, c));
              if (at(b, t) == no_position) {
                worst += got != was;
                continue;
              }
              const auto row = static_cast<std::size_t>(h * channels + c),
                         taps = parameters[2 * n].values.size() / parameters[2 * n + 1].values.size();
              // On one axis tokens of other runs may stand near: they are not neighbours.
              const auto same_run = [&](index_t other) { return at.axes() > 1 || at(b, other) - at(b, t) == other - t; };
              const double sum = reference::conv_at(
                  at, b, t, options.windows[n].size,
                  [&](index_t tap) { return static_cast<double>(parameters[2 * n].values[row * taps + static_cast<std::size_t>(tap)]); },
                  static_cast<double>(parameters[2 * n + 1].values[row]),
                  [&](index_t other) { return same_run(other) ? static_cast<double>(v(b, other, first + h, c)) : 0.0; });
              worst = std::max(worst, std::abs(got - (was + static_cast<double>(q(b, t, first + h, c)) * sum)));
            }
    CAPTURE(channels);
    CHECK(worst <= tolerance);
  }
}

}  // namespace

TEST_CASE("conv_relative_position adds queries times what stands around them", "[conditional]") {
  check_against_reference<double, double>(1e-14);
  check_against_reference<float, float>(1e-5);
  check_against_reference<float, Eigen::half>(1e-2);
  check_against_reference<float, Eigen::bfloat16>(6e-2);
}

TEST_CASE("conv_relative_position has hand-computed values", "[conditional]") {
  encoder_of<double> encoder({.channels = 1, .windows = {{.size = 3, .heads = 1}}, .axes = 1});
  std::ranges::copy(std::vector<double>{1, 10, 100}, encoder.parameters()[0].values.begin());
  encoder.parameters()[1].values[0] = 0.5;
  tensor<double> q(1, 3, 1, 1), v(1, 3, 1, 1), context(1, 3, 1, 1);
  q.setValues({{{{1}}, {{2}}, {{-1}}}});
  v.setValues({{{{3}}, {{4}}, {{5}}}});
  context.setConstant(1000);
  const attention_positions at{positions::range(3), positions::range(3)};
  encoder.add_values(by_time(context), tensor<double>(), {.scale = 1.0, .queries = by_time(q), .values = by_time(v)}, at);
  CHECK(context(0, 0, 0, 0) == 1000 + 30 + 400 + 0.5);
  CHECK(context(0, 1, 0, 0) == 1000 + 2 * (3 + 40 + 500 + 0.5));
  CHECK(context(0, 2, 0, 0) == 1000 - (4 + 50 + 0.5));
}

TEST_CASE("conv_relative_position with a one in the middle adds q * v", "[conditional]") {
  encoder_of<double> encoder(options_type::coat(2));
  for (std::size_t n = 0; n < 6; n += 2) {
    const auto one = encoder.parameters()[n];
    const index_t taps = one.shape[2] * one.shape[3];
    for (index_t row = 0; row < one.shape[0]; ++row) one.values[static_cast<std::size_t>(row * taps + taps / 2)] = 1;
  }
  std::vector<position> grid;
  for (const index_t axis : {0, 1})
    for (index_t cell = 0; cell < 10; ++cell) grid.push_back(axis == 0 ? cell / 5 : cell % 5);
  const auto at = positions::multi_axis(grid, 2);
  auto q = random_tensor<tensor<double>>(1, 2, 10, 8, 2), v = random_tensor<tensor<double>>(2, 2, 10, 8, 2);
  tensor<double> context(2, 10, 8, 2);
  context.setZero();
  encoder.add_values(by_time(context), tensor<double>(), {.scale = 1.0, .queries = by_time(q), .values = by_time(v)}, {at, at});
  const tensor<double> wanted = q * v;
  CHECK(reference::bit_difference(context, wanted) == "");
}

TEST_CASE("conv_relative_position: rows and layouts change no bit", "[conditional]") {
  const problem given = problems()[0];
  const options_type& options = given.options;
  const positions& at = given.at;
  const auto encoder = random_encoder<float>(options);
  auto q = random_tensor<tensor<float>>(1, batch, 13, 3, 3), v = random_tensor<tensor<float>>(2, batch, 13, 3, 3);
  const auto before = random_tensor<tensor<float>>(3, batch, 13, 3, 3);
  auto context = before;
  const attention_positions state{at, at};
  encoder.add_values(by_time(context), tensor<float>(), {.scale = 1.0, .queries = by_time(q), .values = by_time(v)}, state);
  // [batch, head, time, channel], for all but the queries.
  const std::array<index_t, 4> swap{0, 2, 1, 3};
  tensor<float> v_by_head = v.shuffle(swap), by_head = before.shuffle(swap);
  encoder.add_values(heads(by_head, axis_order::head_time), tensor<float>(),
                     {.scale = 1.0, .queries = by_time(q), .values = heads(v_by_head, axis_order::head_time)}, state);
  const tensor<float> back = by_head.shuffle(swap);
  CHECK(reference::bit_difference(back, context) == "");
  Eigen::Tensor<float, 4> by_column(3, 3, 13, batch);
  std::copy_n(before.data(), before.size(), by_column.data());
  encoder.add_values(by_time(by_column), tensor<float>(), {.scale = 1.0, .queries = by_time(q), .values = by_time(v)}, state);
  CHECK(std::equal(context.data(), context.data() + context.size(), by_column.data()));
  // The second row alone.
  std::vector<position> ids;
  for (const index_t axis : {0, 1})
    for (index_t t = 0; t < 13; ++t) ids.push_back(at(1, t, axis));
  const std::array<index_t, 4> from{1, 0, 0, 0}, size{1, 13, 3, 3};
  tensor<float> alone = before.slice(from, size), q_alone = q.slice(from, size), v_alone = v.slice(from, size),
                wanted = context.slice(from, size);
  const auto at_alone = positions::multi_axis(ids, 2);
  encoder.add_values(by_time(alone), tensor<float>(), {.scale = 1.0, .queries = by_time(q_alone), .values = by_time(v_alone)},
                     {at_alone, at_alone});
  CHECK(reference::bit_difference(alone, wanted) == "");
}

TEST_CASE("conv_relative_position has exact gradients", "[conditional]") {
  for (const problem& one_problem : problems()) {
    const options_type& options = one_problem.options;
    const positions& at = one_problem.at;
    auto encoder = random_encoder<double>(options);
    const index_t time = at.time(), count = encoder.heads(), channels = std::min<index_t>(encoder.channels(), 5);
    options_type small = options;
    small.channels = channels;
    encoder = random_encoder<double>(small);
    auto q = random_tensor<tensor<double>>(1, batch, time, count, channels),
         v = random_tensor<tensor<double>>(2, batch, time, count, channels);
    auto weights = random_tensor<tensor<double>>(3, batch, time, count, channels);
    const attention_positions state{at, at};
    const auto inputs = [&] { return attention_inputs<double>{.scale = 1.0, .queries = by_time(q), .values = by_time(v)}; };
    const auto loss = [&] {
      tensor<double> context(batch, time, count, channels);
      context.setZero();
      encoder.add_values(by_time(context), tensor<double>(), inputs(), state);
      return reference::dot(context, weights);
    };
    gradient_buffer<double> gradients(encoder.parameters());
    auto d_q = random_tensor<tensor<double>>(4, batch, time, count, channels), d_v = d_q;
    const auto d_before = d_q;
    tensor<double> none;
    encode_context_backward(encoder, by_time(weights), none, none, inputs(), {.queries = by_time(d_q), .values = by_time(d_v)}, state,
                            gradients.spans());
    const auto wrong = [](const auto& got, const double* start, const std::vector<double>& wanted) {
      index_t off = 0;
      for (std::size_t n = 0; n < wanted.size(); ++n)
        off += !(std::abs(got.data()[n] - (start ? start[n] : 0) - wanted[n]) <= 1e-8 * (1 + std::abs(wanted[n])));
      return off;
    };
    CHECK(wrong(d_q, d_before.data(), reference::derivatives({q.data(), static_cast<std::size_t>(q.size())}, loss, 1e-4)) == 0);
    CHECK(wrong(d_v, d_before.data(), reference::derivatives({v.data(), static_cast<std::size_t>(v.size())}, loss, 1e-4)) == 0);
    std::size_t n = 0;
    for (const auto& one : encoder.parameters()) {
      INFO(one.name);
      CHECK(wrong(gradients.spans()[n++], nullptr, reference::derivatives(one.values, loss, 1e-4)) == 0);
    }
    // Added once more; inputs' gradients need not be asked for.
    encode_context_backward(encoder, by_time(weights), none, none, inputs(), {}, state, gradients.spans());
    gradient_buffer<double> once(encoder.parameters());
    encode_context_backward(encoder, by_time(weights), none, none, inputs(), {}, state, once.spans());
    for (std::size_t p = 0; p < once.spans().size(); ++p)
      for (std::size_t k = 0; k < once.spans()[p].size(); ++k)
        CHECK(std::abs(gradients.spans()[p][k] - 2 * once.spans()[p][k]) <= 1e-13 * (1 + std::abs(once.spans()[p][k])));
  }
}

TEST_CASE("conv_relative_position names its parameters as CoaT does", "[conditional]") {
  encoder_of<float> encoder(options_type::coat(40));
  std::string all;
  for (const auto& one : encoder.parameters()) {
    (all += one.name) += " ";
    for (const index_t extent : one.shape) all += std::to_string(extent) + " ";
  }
  CHECK(all ==
        "conv_list.0.weight 80 1 3 3 conv_list.0.bias 80 conv_list.1.weight 120 1 5 5 conv_list.1.bias 120 "
        "conv_list.2.weight 120 1 7 7 conv_list.2.bias 120 ");
  CHECK(encoder.heads() == 8);

  random_source random(1), again(1);
  const encoder_of<double> one(options_type::coat(8), random);
  CHECK(one == encoder_of<double>(options_type::coat(8), again));
  CHECK_FALSE(one == encoder_of<double>(options_type::coat(8), again));
  auto copy = one;
  const auto values = copy.parameters();
  for (std::size_t n = 0; n < 6; ++n) {
    const double most = 1.0 / (3 + 2 * static_cast<double>(n / 2)), top = *std::ranges::max_element(values[n].values);
    CHECK((top > most * 0.7 && top <= most));
    CHECK(*std::ranges::min_element(values[n].values) < -most * 0.6);
  }
  copy.parameters()[5].values[0] += 1;
  CHECK_FALSE(copy == one);
}

TEST_CASE("conv_relative_position refuses what does not fit", "[conditional]") {
  const std::string who = "[conv_relative_position] ";
  const auto made = [](options_type options) { encoder_of<float> encoder(options); };
  reference::refuses(who + "channels must be positive but got 0", [&] { made(options_type::coat(0)); });
  reference::refuses(who + "axes must be 1 to 3 but got 4",
                     [&] { made({.channels = 1, .windows = {{.size = 3, .heads = 1}}, .axes = 4}); });
  reference::refuses(who + "there must be a window but got none", [&] { made({.channels = 1}); });
  reference::refuses(who + "sizes of windows must be odd and positive but got 4",
                     [&] { made({.channels = 1, .windows = {{.size = 4, .heads = 1}}}); });
  reference::refuses(who + "sizes of windows must be odd and positive but got -1",
                     [&] { made({.channels = 1, .windows = {{.size = -1, .heads = 1}}}); });
  reference::refuses(who + "heads of windows must be positive but got 0",
                     [&] { made({.channels = 1, .windows = {{.size = 3, .heads = 0}}}); });
  reference::refuses(who + "windows must have at most 256 lines of taps but got 17 and 3",
                     [&] { made({.channels = 1, .windows = {{.size = 17, .heads = 1}}, .axes = 3}); });
  reference::refuses(who + "the size in bytes must fit in 63 bits but got [2305843009213693952, 9]",
                     [&] { made({.channels = index_t{1} << 61, .windows = {{.size = 3, .heads = 1}}}); });

  const auto encoder = random_encoder<float>({.channels = 2, .windows = {{.size = 3, .heads = 2}}, .axes = 1});
  std::vector<float> memory(24, 1), given(24, 1);
  using shape = std::array<index_t, 4>;
  const auto context = [&](shape extents) { return head_view<float>(tensor_view<float, 4>(memory.data(), extents)); };
  const auto input = [&](shape extents) { return head_view<const float>(tensor_view<const float, 4>(given.data(), extents)); };
  const auto at = [](index_t time) { return attention_positions{positions::range(time), positions::range(time)}; };
  const shape right{2, 3, 2, 2};
  const tensor<float> none;
  const auto add = [&](shape extents, const attention_positions& where, head_view<const float> q, head_view<const float> v) {
    encoder.add_values(context(extents), none, {.scale = 1.0, .queries = q, .values = v}, where);
  };
  const auto q = input(right);
  reference::refuses(memory, who + "heads must match the encoder but got 2 and 1", [&] { add({2, 3, 1, 2}, at(3), q, q); });
  reference::refuses(memory, who + "channels must match the encoder but got 2 and 1", [&] { add({2, 3, 2, 1}, at(3), q, q); });
  reference::refuses(memory, who + "time must match the positions but got 3 and 4", [&] { add(right, at(4), q, q); });
  reference::refuses(memory, who + "queries and keys must stand at the same positions but got 3 and 4",
                     [&] { add(right, {positions::range(3), positions::range(4)}, q, q); });
  reference::refuses(memory, who + "the queries must be given but got none", [&] { add(right, at(3), {}, q); });
  reference::refuses(memory, who + "the values must be given but got none", [&] { add(right, at(3), q, {}); });
  reference::refuses(memory, who + "queries and values must have the shape of the context but got [2, 3, 2, 2] and [1, 3, 2, 2]",
                     [&] { add(right, at(3), q, input({1, 3, 2, 2})); });
  reference::refuses(memory, who + "the context must not overlap queries and values but got [2, 3, 2, 2] and [2, 3, 2, 2]",
                     [&] { add(right, at(3), q, context(right)); });
  reference::refuses(memory, who + "the last axis must be contiguous but got 2", [&] {
    add({1, 3, 2, 2}, at(3), head_view<const float>(tensor_view<const float, 4>(given.data(), {1, 3, 2, 2}, {24, 8, 4, 2})),
        input({1, 3, 2, 2}));
  });
  reference::refuses(memory, who + "the elements of an output must be distinct, with strides that nest but got [0, 4, 2, 1]", [&] {
    encoder.add_values(head_view<float>(tensor_view<float, 4>(memory.data(), right, {0, 4, 2, 1})), none,
                       {.scale = 1.0, .queries = q, .values = q}, at(3));
  });
  const auto flat = random_encoder<float>({.channels = 2, .windows = {{.size = 3, .heads = 2}}});
  const auto crooked = positions::multi_axis(std::vector{0, 0, 1, 0, 1, 5}, 2);
  reference::refuses(memory, who + "tokens must stand in row-major order of a grid, with token and position on axis but got 2 and 5 and 1",
                     [&] { flat.add_values(context(right), none, {.scale = 1.0, .queries = q, .values = q}, {crooked, crooked}); });

  auto trained = encoder;
  gradient_buffer<float> gradients(trained.parameters());
  tensor<float> no_weights;
  const auto backward = [&](head_view<float> d_q, head_view<float> d_v, auto spans) {
    encoder.add_values_backward(q, no_weights, no_weights, {.scale = 1.0, .queries = q, .values = q}, {.queries = d_q, .values = d_v},
                                at(3), spans);
  };
  reference::refuses(memory, who + "gradients must have the shapes of what they are of but got [2, 3, 2, 2] and [1, 3, 2, 2]",
                     [&] { backward(context({1, 3, 2, 2}), {}, gradients.spans()); });
  reference::refuses(memory, who + "gradients must have the shapes of what they are of but got [2, 3, 2, 2] and [2, 3, 1, 2]",
                     [&] { backward({}, context({2, 3, 1, 2}), gradients.spans()); });
  reference::refuses(memory, who + "there must be one gradient span per parameter but got 2 and 1",
                     [&] { backward({}, context(right), gradients.spans().first(1)); });
  std::vector<std::span<float>> spans(gradients.spans().begin(), gradients.spans().end());
  spans[0] = spans[0].first(11);
  reference::refuses(memory, who + "gradient spans must have the sizes of the parameters but got 12 and 11",
                     [&] { backward({}, context(right), gradient_spans<float>(spans)); });
  add({0, 3, 2, 2}, at(3), input({0, 3, 2, 2}), input({0, 3, 2, 2}));  // nothing to do
  CHECK(memory == std::vector<float>(24, 1));
}
