// SPDX-License-Identifier: MIT
// Biases of windows and pictures on attention scores `[batch * windows, head, query, key]`.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/grid.hpp>
#include <posenc/relative/continuous_position_bias.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace bench {
namespace {

using encoder = posenc::continuous_position_bias<float>;

encoder encoder_of(index_t side, index_t heads) {
  posenc::random_source random(1);
  return encoder({.window = {side, side}, .heads = heads, .mode = posenc::continuous_bias_mode::swin, .hidden = 512}, random);
}
posenc::attention_positions cells(index_t side, index_t prefix) {
  const auto at = posenc::grid_positions({.extents = {side, side}, .order = posenc::grid_order::slowest_first, .prefix = prefix});
  return {at, at};
}

/// table `[difference, head]`, index `[query, key]`, as the systems keep them.
[[gnu::noinline]] void raw_bias(float* __restrict x, const float* __restrict table, const index_t* __restrict index, index_t batch,
                                index_t heads, index_t pairs) {
  for (index_t b = 0; b < batch; ++b)
    for (index_t h = 0; h < heads; ++h)
      for (index_t n = 0; n < pairs; ++n, ++x) *x += table[index[n] * heads + h];
}

struct window_case {
  const char* path;
  index_t side, prefix, heads;
  std::vector<goal> goals{};
};

void add_window(suite& all, const window_case& what, const size_class& size) {
  const index_t side = what.side, heads = what.heads, prefix = what.prefix, time = side * side + prefix, pairs = time * time;
  const auto batch =
      static_cast<index_t>(std::fmax(std::round(size.bytes / static_cast<double>(heads * pairs * static_cast<index_t>(sizeof(float)))), 1));
  const index_t count = batch * heads * pairs;
  const double bytes = static_cast<double>(count) * sizeof(float);
  const auto whole_lines = static_cast<std::size_t>(bytes) / 256 * 256;  // limits take no less
  const row& one = all.add_row({.path = what.path,
                                .size = size.name,
                                .shape = shape_text({batch, heads, time, time}),
                                .bytes = bytes,
                                .moved = 2 * bytes,
                                .items = static_cast<double>(count),
                                .other = "ready table",
                                .goals = what.goals});

  all.add(one, variant::posenc, [=] {
    const auto bias = encoder_of(side, heads);
    return [bias, state = bias.prepare(cells(side, prefix)),
            x = posenc::score_view<float>(buffer<float>(0, count), {batch, heads, time, time})] { bias.bias(x, state); };
  });
  all.add(one, variant::limit, [=] { return [=, x = buffer<float>(0, count)] { limits::flip(x, whole_lines); }; });
  all.add(one, variant::other, [=] {  // of the size of the scores
    return [=, table = buffer<float>(1, count), x = buffer<float>(0, count)] { limits::add(x, table, whole_lines); };
  });
  all.add(one, variant::raw, [=] {
    const index_t along = 2 * side - 1, none = along * along;  // tokens without a position share a row of zeros
    std::vector<index_t> index;
    for (index_t i = -prefix; i < side * side; ++i)
      for (index_t j = -prefix; j < side * side; ++j)
        index.push_back(i < 0 || j < 0 ? none : (i / side - j / side + side - 1) * along + i % side - j % side + side - 1);
    std::vector<float> table(static_cast<std::size_t>((none + 1) * heads));
    return [=, x = buffer<float>(0, count), table = std::move(table), index = std::move(index)] {
      raw_bias(x, table.data(), index.data(), batch, heads, pairs);
    };
  });
}

/// The network, pair table and all, as the systems make it once per forward pass.
[[gnu::noinline]] void raw_prepare(const encoder& bias, const std::vector<double>& coordinates, std::vector<float>& table,
                                   std::vector<float>& pairs, index_t side) {
  const auto weights = bias.network().values();
  const index_t heads = bias.heads(), hidden = bias.options().hidden, along = 2 * side - 1, time = side * side;
  std::vector<float> active(static_cast<std::size_t>(hidden));
  for (index_t n = 0; n < along * along; ++n) {
    const auto y = static_cast<float>(coordinates[static_cast<std::size_t>(2 * n)]);
    const auto x = static_cast<float>(coordinates[static_cast<std::size_t>(2 * n + 1)]);
    for (std::size_t c = 0; c < active.size(); ++c)
      active[c] = std::max(weights[0][2 * c] * y + weights[0][2 * c + 1] * x + weights[1][c], 0.0f);
    for (index_t h = 0; h < heads; ++h) {
      float sum = 0;
      for (std::size_t c = 0; c < active.size(); ++c) sum += weights[2][static_cast<std::size_t>(h * hidden) + c] * active[c];
      table[static_cast<std::size_t>(n * heads + h)] = 16 / (1 + std::exp(-sum));
    }
  }
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j)
        pairs[static_cast<std::size_t>((h * time + i) * time + j)] =
            table[static_cast<std::size_t>(((i / side - j / side + side - 1) * along + i % side - j % side + side - 1) * heads + h)];
}

void add_prepare(suite& all, index_t side, const char* size) {
  constexpr index_t heads = 8;
  const index_t time = side * side, along = 2 * side - 1, count = heads * time * time;
  const double bytes = static_cast<double>(count) * sizeof(float);
  const row& one = all.add_row({.path = "continuous_position_bias_prepare_f32",
                                .size = size,
                                .shape = shape_text({heads, time, time}),
                                .bytes = bytes,
                                .moved = bytes,
                                .items = static_cast<double>(along * along)});
  all.add(one, variant::posenc, [=] {
    return [bias = encoder_of(side, heads), at = cells(side, 0)] { benchmark::DoNotOptimize(bias.prepare(at)->pairs.data()); };
  });
  all.add(one, variant::raw, [=] {
    const auto bias = encoder_of(side, heads);
    return [=, coordinates = bias.coordinates(), table = std::vector<float>(static_cast<std::size_t>(along * along * heads)),
            pairs = std::vector<float>(static_cast<std::size_t>(count))]() mutable { raw_prepare(bias, coordinates, table, pairs, side); };
  });
}

}  // namespace

void add_window_biases(suite& all) {
  const goal ready{0.9, measure::other};
  for (const size_class& size : all.sizes()) add_window(all, {"window_bias_f32_7x7", 7, 0, 8, {ready}}, size);
  for (const size_class& size : all.sizes()) add_window(all, {"window_bias_f32_14x14_prefix", 14, 1, 12, {ready}}, size);
  // A picture whose pairs are too many for a table of them.
  if (all.sizes().size() > 1) add_window(all, {"window_bias_f32_64x64", 64, 0, 2}, all.sizes().back());
  add_prepare(all, 7, "7x7");
  add_prepare(all, 14, "14x14");
}

}  // namespace bench
