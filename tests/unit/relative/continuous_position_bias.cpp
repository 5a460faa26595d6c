// SPDX-License-Identifier: MIT
#include <posenc/relative/continuous_position_bias.hpp>

#include <posenc/grid.hpp>
#include <posenc/relative/dynamic_position_bias.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/continuous_position_bias.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace posenc;
using mode = continuous_bias_mode;
using options_t = continuous_position_bias_options;

template <class S, int Order = Eigen::RowMajor>
using score_tensor = Eigen::Tensor<S, 4, Order>;

std::string_view kind_of(mode m) { return m == mode::swin ? "swin" : m == mode::cr ? "cr" : "crossformer"; }

/// Every mode, one to three axes, extents of 1, a pretrained window, more differences than the network is given at a time.
std::vector<options_t> all_options() {
  return {{.window = {4, 5}, .heads = 3, .mode = mode::swin, .hidden = 33},
          {.window = {6, 5}, .heads = 2, .mode = mode::swin, .hidden = 16, .pretrained_window = {3, 8}},
          {.window = {4, 1}, .heads = 1, .mode = mode::swin, .hidden = 7, .pretrained_window = {1, 4}},
          {.window = {1, 4}, .heads = 2, .mode = mode::swin, .hidden = 9},
          {.window = {5, 3}, .heads = 2, .mode = mode::cr, .hidden = 20},
          {.window = {4, 6}, .heads = 3, .mode = mode::crossformer, .hidden = 6},
          {.window = {2, 3, 2}, .heads = 2, .mode = mode::swin, .hidden = 5},
          {.window = {7}, .heads = 1, .mode = mode::cr, .hidden = 4}};
}

/// With parameters of a size at which sigmoids are neither straight nor flat, and layer norms that are trained.
template <class S>
continuous_position_bias<S> encoder_of(const options_t& options) {
  random_source random(3);
  continuous_position_bias<S> encoder(options, random);
  random_numbers more(4);
  for (auto& one : encoder.parameters())
    for (S& value : one.values) value += more.real<S>() / 2;
  return encoder;
}

/// What parameters() shows, to read.
template <class S>
std::vector<std::span<const S>> values_of(const continuous_position_bias<S>& encoder) {
  return encoder.network().values();
}

positions whole(const window_extents& window, index_t prefix = 0) {
  return grid_positions({.extents = window, .order = grid_order::slowest_first, .prefix = prefix});
}

/// The window; with prefix tokens; keys from all over a window far away, with repeats and gaps; rows of their own.
std::vector<attention_positions> places(const window_extents& window) {
  const auto axes = static_cast<index_t>(window.size());
  random_numbers random(8);
  std::vector<position> far, rows;
  for (const index_t extent : window)
    for (int t = 0; t < 9; ++t) far.push_back(t == 4 ? no_position : 2147483640 + random.integer(0, extent - 1));
  for (const index_t extent : window)
    for (int b = 0; b < 2; ++b)
      for (int t = 0; t < 6; ++t) rows.push_back(t == 5 && b == 1 ? no_position : 100 * b + random.integer(0, extent - 1));
  const auto two = positions::multi_axis(rows, axes, 2), one = positions::multi_axis(far, axes);
  return {{whole(window), whole(window)}, {whole(window, 2), whole(window, 1)}, {one, one}, {two, two}};
}

/// Biases pair by pair, as the paper says: NaN where there is none.
template <class S>
score_tensor<double> formula(const continuous_position_bias<S>& encoder, const attention_positions& at, index_t batch) {
  const auto& options = encoder.options();
  score_tensor<double> all(batch, encoder.heads(), at.queries.time(), at.keys.time());
  const auto& divided = options.pretrained_window.empty() ? options.window : options.pretrained_window;
  for (index_t b = 0; b < batch; ++b)
    for (index_t h = 0; h < encoder.heads(); ++h)
      for (index_t i = 0; i < at.queries.time(); ++i)
        for (index_t j = 0; j < at.keys.time(); ++j) {
          if (at.queries(b, i) == no_position || at.keys(b, j) == no_position) {
            all(b, h, i, j) = std::nan("");
            continue;
          }
          std::vector<long> d;
          for (index_t axis = 0; axis < encoder.axes(); ++axis) d.push_back(at.queries(b, i, axis) - at.keys(b, j, axis));
          all(b, h, i, j) = static_cast<double>(reference::continuous_position_bias(
              values_of(encoder), kind_of(options.mode), static_cast<std::size_t>(h), d, {divided.begin(), divided.end()}));
        }
  return all;
}

template <class T, class S>
void check(double tolerance) {
  for (const auto& options : all_options()) {
    const auto encoder = encoder_of<S>(options);
    for (const auto& at : places(options.window)) {
      constexpr index_t batch = 2;
      const auto expected = formula(encoder, at, batch);
      const auto random = random_tensor<score_tensor<float>>(1, batch, encoder.heads(), at.queries.time(), at.keys.time());
      const score_tensor<T> before = random.template cast<T>();
      score_tensor<T> scores = before, prepared = before;
      encoder.bias(scores, at);
      index_t wrong = 0;
      for (index_t n = 0; n < scores.size(); ++n) {
        const double score = static_cast<double>(before.data()[n]), bias = expected.data()[n];
        const double wanted = std::isnan(bias) ? score : score + bias;
        wrong += !(std::abs(static_cast<double>(scores.data()[n]) - wanted) <= (std::isnan(bias) ? 0 : tolerance * (4 + std::abs(wanted))));
      }
      INFO(kind_of(options.mode) << ", " << options.window.size() << " axes, " << at.queries.time() << " queries");
      CHECK(wrong == 0);
      encoder.bias(prepared, encoder.prepare(at));
      CHECK(reference::bit_difference(prepared, scores) == "");
      score_tensor<T, Eigen::ColMajor> columns(before.dimension(3), before.dimension(2), before.dimension(1), before.dimension(0));
      std::copy_n(before.data(), before.size(), columns.data());
      encoder.bias(columns, at);
      CHECK(reference::bit_difference(columns, scores) == "");
    }
  }
}

continuous_position_bias<double> with(const options_t& options, const std::vector<std::vector<double>>& values) {
  random_source random(1);
  continuous_position_bias<double> encoder(options, random);
  const auto all = encoder.parameters();
  for (std::size_t n = 0; n < all.size(); ++n) std::ranges::copy(values[n], all[n].values.begin());
  return encoder;
}

}  // namespace

TEST_CASE("continuous_position_bias is its network, evaluated pair by pair", "[continuous_position_bias]") {
  check<float, float>(1e-6);
  check<double, double>(1e-14);
  check<Eigen::half, float>(5e-4);
  check<Eigen::bfloat16, float>(4e-3);
}

TEST_CASE("continuous_position_bias takes scores whose windows, heads and queries lie apart", "[continuous_position_bias]") {
  const auto encoder = encoder_of<float>({.window = {3, 2}, .heads = 3, .mode = mode::swin, .hidden = 5});
  const auto state = encoder.prepare({whole({3, 2}), whole({3, 2})});
  const auto before = random_tensor<score_tensor<float>>(1, 2, 3, 6, 6);
  auto expected = before;
  encoder.bias(expected, state);
  // Keys always lie side by side; then queries, then heads, then none.
  for (const auto& strides :
       {std::array<index_t, 4>{200, 36, 6, 1}, std::array<index_t, 4>{200, 50, 6, 1}, std::array<index_t, 4>{200, 60, 9, 1}}) {
    std::vector<float> memory(400, 7), elsewhere = memory;
    const posenc::score_view<float> scores(memory.data(), {2, 3, 6, 6}, strides), out(elsewhere.data(), {2, 3, 6, 6}, strides);
    score_tensor<float> in_place = before, from_other = before, to_other = before;
    const auto each = [&](auto&& act) {
      for (index_t b = 0; b < 2; ++b)
        for (index_t h = 0; h < 3; ++h)
          for (index_t i = 0; i < 6; ++i)
            for (index_t j = 0; j < 6; ++j) act(b, h, i, j);
    };
    each([&](auto... at) { scores(at...) = before(at...); });
    encoder.bias(before, out, state);
    encoder.bias(scores, from_other, state);
    encoder.bias(scores, state);
    each([&](auto... at) { in_place(at...) = scores(at...), to_other(at...) = out(at...); });
    for (const auto& got : {in_place, from_other, to_other}) CHECK(reference::bit_difference(got, expected) == "");
    CHECK(std::ranges::count(memory, 7.0f) == 400 - 216);
    CHECK(std::ranges::count(elsewhere, 7.0f) == 400 - 216);
  }
}

TEST_CASE("continuous_position_bias has hand-computed values", "[continuous_position_bias]") {
  using cell = std::array<position, 2>;
  // 8 * 7 / 8 + 1 = 8, whose logarithm to base 8 is 1. The query is below the key, and to the right of it.
  const auto swin = with({.window = {9, 2}, .heads = 1, .mode = mode::swin, .hidden = 2}, {{1, 0, 0, -1}, {0.5, 2}, {3, 1}});
  CHECK(std::abs(swin.value(0, cell{7, 0}, cell{0, 0}) - 16 / (1 + std::exp(-(3 * 1.5 + 2)))) < 1e-14);
  CHECK(std::abs(swin.value(0, cell{0, 1}, cell{7, 0}) - 16 / (1 + std::exp(-(2 - std::log2(9.0) / 3)))) < 1e-14);
  CHECK(swin.value(0, cell{3, 1}, {}) == 0);
  CHECK(swin.value(0, {}, cell{3, 1}) == 0);
  const auto cr = with({.window = {9, 2}, .heads = 1, .mode = mode::cr, .hidden = 2}, {{1, 0, 0, -1}, {0.5, 2}, {3, 1}, {-10}});
  CHECK(std::abs(cr.value(0, cell{7, 0}, cell{0, 0}) - (3 * (std::log(8.0) + 0.5) + 2 - 10)) < 1e-14);
  CHECK(std::abs(cr.value(0, cell{0, 1}, cell{7, 0}) - (2 - std::log(2.0) - 10)) < 1e-14);
  // Two channels that differ are -1 and 1 after a layer norm, but for its epsilon.
  const std::vector<double> ones{1, 1}, zeros{0, 0}, both{1, 0, 0, 1};
  const auto crossformer = with({.window = {9, 2}, .heads = 1, .mode = mode::crossformer, .hidden = 2},
                                {both, zeros, ones, zeros, both, zeros, ones, zeros, both, zeros, {5, 7}, zeros, {2, 3}, {0.25}});
  CHECK(std::abs(crossformer.value(0, cell{7, 0}, cell{0, 0}) - (2 * 5 + 0.25)) < 1e-3);
  CHECK(std::abs(crossformer.value(0, cell{0, 1}, cell{7, 0}) - (3 * 7 + 0.25)) < 1e-3);
}

TEST_CASE("continuous_position_bias of one axis is the dynamic position bias of sequences", "[continuous_position_bias]") {
  for (const mode m : {mode::cr, mode::crossformer}) {
    const bool deep = m == mode::crossformer;
    auto window = encoder_of<float>({.window = {20}, .heads = 3, .mode = m, .hidden = 6});
    random_source random(1);
    dynamic_position_bias<float> sequence(
        {.heads = 3, .dim = 6, .depth = deep ? 3 : 1, .log_distance = !deep, .layer_norm = deep, .activation = mlp_activation::relu},
        random);
    const auto from = window.parameters(), to = sequence.parameters();
    REQUIRE(from.size() == to.size());
    for (std::size_t n = 0; n < from.size(); ++n) std::ranges::copy(from[n].values, to[n].values.begin());
    const attention_positions at{positions::range(5, 3), positions::range(20)};
    auto one = random_tensor<score_tensor<float>>(1, 2, 3, 5, 20), other = one;
    window.bias(one, at);
    sequence.bias(other, at);
    CHECK(reference::bit_difference(one, other) == "");
  }
}

TEST_CASE("continuous_position_bias serves larger windows with the network of a smaller one", "[continuous_position_bias]") {
  const auto small = encoder_of<float>({.window = {4, 3}, .heads = 2, .mode = mode::swin, .hidden = 12});
  const auto large = encoder_of<float>({.window = {8, 5}, .heads = 2, .mode = mode::swin, .hidden = 12, .pretrained_window = {4, 3}});
  REQUIRE(std::ranges::equal(values_of(small)[0], values_of(large)[0]));
  const attention_positions at{whole({4, 3}), whole({4, 3})};
  score_tensor<float> one(1, 2, 12, 12), other(1, 2, 12, 12);
  one.setZero(), other.setZero();
  small.bias(one, at), large.bias(other, at);
  CHECK(reference::bit_difference(one, other) == "");
  // A network that ends in zeros says nothing: half of 16.
  const auto silent = with({.window = {3, 3}, .heads = 1, .mode = mode::swin, .hidden = 2}, {{1, 2, 3, 4}, {5, 6}, {0, 0}});
  CHECK(silent.value(0, std::array<position, 2>{2, 0}, std::array<position, 2>{0, 1}) == 8);
  // Far from 0 the sigmoid is flat, and finite.
  const auto loud = with({.window = {2}, .heads = 2, .mode = mode::swin, .hidden = 1}, {{0}, {1e6}, {1, -1}});
  const std::array<position, 1> cell{1};
  CHECK(loud.value(0, cell, cell) == 16);
  CHECK(loud.value(1, cell, cell) == 0);
}

TEST_CASE("continuous_position_bias has the coordinates of its axes, in the order of systems' tables", "[continuous_position_bias]") {
  random_source random(1);
  const auto of = [&](const options_t& options) { return continuous_position_bias<float>(options, random).coordinates(); };
  CHECK(of({.window = {2, 3}, .heads = 1, .mode = mode::crossformer, .hidden = 1}) ==
        std::vector<double>{-1, -2, -1, -1, -1, 0, -1, 1, -1, 2, 0, -2, 0, -1, 0, 0, 0, 1, 0, 2, 1, -2, 1, -1, 1, 0, 1, 1, 1, 2});
  CHECK(of({.window = {1, 2}, .heads = 1, .mode = mode::swin, .hidden = 1, .pretrained_window = {1, 9}}) ==
        std::vector<double>{0, -1.0 / 3, 0, 0, 0, 1.0 / 3});
}

TEST_CASE("continuous_position_bias has exact gradients", "[continuous_position_bias]") {
  for (const auto& options : all_options()) {
    auto encoder = encoder_of<double>(options);
    const auto at = places(options.window)[1];
    const auto weights = random_tensor<score_tensor<double>>(2, 2, encoder.heads(), at.queries.time(), at.keys.time());
    const auto loss = [&] {
      score_tensor<double> scores(weights.dimensions());
      scores.setZero();
      encoder.bias(scores, at);
      return reference::dot(scores, weights);
    };
    gradient_buffer<double> gradients(encoder.parameters()), twice(encoder.parameters());
    auto d = weights;
    encoder.bias_backward(d, at, gradients.spans());
    CHECK(reference::bit_difference(d, weights) == "");
    for (int n = 0; n < 2; ++n) encoder.bias_backward(d, encoder.prepare(at), twice.spans());
    std::size_t n = 0;
    for (auto& one : encoder.parameters()) {
      const auto wanted = reference::derivatives(one.values, loss, 1e-6);
      index_t wrong = 0;
      for (std::size_t c = 0; c < wanted.size(); ++c)
        wrong += !(std::abs(gradients.spans()[n][c] - wanted[c]) <= 1e-6 * (1 + std::abs(wanted[c]))) ||
                 twice.spans()[n][c] != 2 * gradients.spans()[n][c];
      INFO(one.name << " of " << kind_of(options.mode) << ", " << options.window.size() << " axes");
      CHECK(wrong == 0);
      ++n;
    }
    // In float it is that in double, rounded once.
    auto in_float = encoder_of<float>(options);
    gradient_buffer<float> rounded(in_float.parameters());
    gradients.clear();
    const auto from = in_float.parameters();
    const auto to = encoder.parameters();
    for (std::size_t p = 0; p < n; ++p) std::ranges::copy(from[p].values, to[p].values.begin());
    score_tensor<float> d_float = weights.cast<float>();
    d = d_float.cast<double>();
    encoder.bias_backward(d, at, gradients.spans());
    in_float.bias_backward(d_float, at, rounded.spans());
    index_t wrong = 0;
    for (std::size_t p = 0; p < n; ++p)
      for (std::size_t c = 0; c < rounded.spans()[p].size(); ++c)
        wrong += rounded.spans()[p][c] != static_cast<float>(gradients.spans()[p][c]);
    CHECK(wrong == 0);
  }
}

TEST_CASE("continuous_position_bias names its parameters as checkpoints do", "[continuous_position_bias]") {
  const auto names = [](mode m) {
    random_source random(1);
    continuous_position_bias<float> encoder({.window = {7, 7}, .heads = 3, .mode = m, .hidden = 5}, random);
    std::string all;
    for (const auto& one : encoder.parameters()) {
      (all += one.name) += " ";
      for (const index_t extent : one.shape) all += std::to_string(extent) + " ";
    }
    return all;
  };
  CHECK(names(mode::swin) == "cpb_mlp.0.weight 5 2 cpb_mlp.0.bias 5 cpb_mlp.2.weight 3 5 ");
  CHECK(names(mode::cr) == "mlp.fc1.weight 5 2 mlp.fc1.bias 5 mlp.fc2.weight 3 5 mlp.fc2.bias 3 ");
  CHECK(names(mode::crossformer) ==
        "pos.pos_proj.weight 5 2 pos.pos_proj.bias 5 pos.pos1.0.weight 5 pos.pos1.0.bias 5 pos.pos1.2.weight 5 5 pos.pos1.2.bias 5 "
        "pos.pos2.0.weight 5 pos.pos2.0.bias 5 pos.pos2.2.weight 5 5 pos.pos2.2.bias 5 "
        "pos.pos3.0.weight 5 pos.pos3.0.bias 5 pos.pos3.2.weight 3 5 pos.pos3.2.bias 3 ");
}

TEST_CASE("continuous_position_bias is equal to what has its options and parameters", "[continuous_position_bias]") {
  const options_t options{.window = {4, 5}, .heads = 3, .mode = mode::swin, .hidden = 4};
  const auto one = encoder_of<float>(options);
  CHECK(one == encoder_of<float>(options));
  CHECK(one.options() == options);
  auto other = one;
  other.parameters()[2].values[11] += 1;
  CHECK_FALSE(one == other);
  CHECK_FALSE(one == encoder_of<float>({.window = {5, 4}, .heads = 3, .mode = mode::swin, .hidden = 4}));
  CHECK_FALSE(one == encoder_of<float>({.window = {4, 5}, .heads = 3, .mode = mode::swin, .hidden = 4, .pretrained_window = {4, 5}}));
}

TEST_CASE("continuous_position_bias refuses what does not fit", "[continuous_position_bias]") {
  const auto made = [](const options_t& options) {
    random_source random(1);
    continuous_position_bias<float> encoder(options, random);
  };
  reference::refuses("[continuous_position_bias] heads must be positive but got 0",
                     [&] { made({.window = {2}, .heads = 0, .mode = mode::cr, .hidden = 1}); });
  reference::refuses("[continuous_position_bias] hidden must be positive but got -3",
                     [&] { made({.window = {2}, .heads = 1, .mode = mode::cr, .hidden = -3}); });
  reference::refuses("[continuous_position_bias] the extents of a window must be positive but got 0",
                     [&] { made({.window = {2, 0}, .heads = 1, .mode = mode::cr, .hidden = 1}); });
  reference::refuses("[continuous_position_bias] only mode swin knows a pretrained window but got cr",
                     [&] { made({.window = {2}, .heads = 1, .mode = mode::cr, .hidden = 1, .pretrained_window = {2}}); });
  reference::refuses("[continuous_position_bias] only mode swin knows a pretrained window but got crossformer",
                     [&] { made({.window = {2}, .heads = 1, .mode = mode::crossformer, .hidden = 1, .pretrained_window = {2}}); });
  reference::refuses("[continuous_position_bias] a pretrained window must have as many axes as the window but got 2 and 1",
                     [&] { made({.window = {2, 2}, .heads = 1, .mode = mode::swin, .hidden = 1, .pretrained_window = {2}}); });
  reference::refuses("[continuous_position_bias] the extents of a pretrained window must be positive but got 0",
                     [&] { made({.window = {2, 2}, .heads = 1, .mode = mode::swin, .hidden = 1, .pretrained_window = {0, 0}}); });

  auto encoder = encoder_of<float>({.window = {2, 2}, .heads = 1, .mode = mode::cr, .hidden = 3});
  const attention_positions at{whole({2, 2}), whole({2, 2})};
  score_tensor<float> scores(1, 1, 4, 4), two_heads(1, 2, 4, 4);
  scores.setZero(), two_heads.setZero();
  reference::refuses(two_heads, "[continuous_position_bias] heads must match the encoder but got 1 and 2",
                     [&] { encoder.bias(two_heads, at); });
  reference::refuses(scores, "[continuous_position_bias] cells must lie within one window but got 2 and 4",
                     [&] { encoder.bias(scores, {whole({1, 4}), whole({1, 4})}); });
  gradient_buffer<float> gradients(encoder.parameters());
  reference::refuses(scores, "[continuous_position_bias] there must be one gradient span per parameter but got 4 and 3",
                     [&] { encoder.bias_backward(scores, at, gradients.spans().first(3)); });
  std::vector<std::span<float>> spans(gradients.spans().begin(), gradients.spans().end());
  spans[0] = spans[0].first(5);
  reference::refuses(scores, "[continuous_position_bias] gradient spans must have the sizes of the parameters but got 6 and 5",
                     [&] { encoder.bias_backward(scores, at, gradient_spans<float>(spans)); });
}
