// SPDX-License-Identifier: MIT
/// \file  Convolutional encoders on several threads: the bits of one.
#include <posenc/conditional/conv_relative_position.hpp>
#include <posenc/conditional/convolutional_position_embedding.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"

#include <algorithm>
#include <array>
#include <vector>

namespace {

using namespace posenc;
template <int Rank>
using tensor = Eigen::Tensor<float, Rank, Eigen::RowMajor>;

/// verb(x, gradients, run), for a copy of x.
template <class Tensor, class Encoder>
void check_threads(const Tensor& x, Encoder encoder, auto&& verb) {
  Tensor expected = x;
  gradient_buffer<float> wanted(encoder.parameters());
  verb(expected, wanted.spans(), executor());
  for (const int threads : {2, 3}) {
    Eigen::ThreadPool pool(threads);
    const Eigen::ThreadPoolDevice device(&pool, threads);
    Tensor got = x;
    gradient_buffer<float> gradients(encoder.parameters());
    verb(got, gradients.spans(), executor(device));
    CHECK(reference::bit_difference(got, expected) == "");
    for (std::size_t n = 0; n < wanted.spans().size(); ++n) CHECK(std::ranges::equal(gradients.spans()[n], wanted.spans()[n]));
  }
}

}  // namespace

TEST_CASE("convolutional_position_embedding has the same bits on any number of threads", "[executor]") {
  const auto at = positions::offsets(std::array{0, 7}, 300);
  const auto x = random_tensor<tensor<3>>(1, 2, 300, 24);
  for (const bool deep : {false, true}) {
    random_source random(1);
    const convolutional_position_embedding<float> encoder(
        {.dim = 24, .groups = 4, .kernel = 8, .weight_norm = !deep, .layer_norm = deep, .layers = deep ? 2 : 1}, random);
    check_threads(x, encoder, [&](auto& y, auto, const executor& run) { encoder.add(y, at, run); });
    check_threads(x, encoder, [&](auto& d, auto spans, const executor& run) { encoder.add_backward(d, x, at, spans, run); });
  }
}

TEST_CASE("conv_relative_position has the same bits on any number of threads", "[executor]") {
  constexpr index_t batch = 2, time = 200, count = 8, channels = 24;
  std::vector<position> grid;
  for (const index_t axis : {0, 1})
    for (index_t t = 0; t < time; ++t) grid.push_back(axis == 0 ? t / 20 : t % 20);
  const auto at = positions::multi_axis(grid, 2);
  const attention_positions state{at, at};
  random_source random(1);
  const conv_relative_position<float> encoder(conv_relative_position_options::coat(channels), random);
  auto q = random_tensor<tensor<4>>(1, batch, time, count, channels), v = random_tensor<tensor<4>>(2, batch, time, count, channels);
  const auto x = random_tensor<tensor<4>>(3, batch, time, count, channels);
  const auto by_time = [](auto& view) { return heads(view, axis_order::time_head); };
  const auto inputs = [&] { return attention_inputs<float>{.scale = 1.0, .queries = by_time(q), .values = by_time(v)}; };
  tensor<4> none;
  check_threads(x, encoder, [&](auto& y, auto, const executor& run) { encoder.add_values(by_time(y), none, inputs(), state, run); });
  const auto backward = [&](const attention_gradients<float>& d, auto spans, const executor& run) {
    encode_context_backward(encoder, by_time(x), none, none, inputs(), d, state, spans, run);
  };
  check_threads(x, encoder, [&](auto& d, auto spans, const executor& run) { backward({.queries = by_time(d)}, spans, run); });
  check_threads(x, encoder, [&](auto& d, auto spans, const executor& run) { backward({.values = by_time(d)}, spans, run); });
}
