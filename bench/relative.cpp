// SPDX-License-Identifier: MIT
// Relative keys and values of Shaw's windows, for scores `[1, 8, time, time]`.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/relative/shaw.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace bench {
namespace {

constexpr index_t heads = 8, channels = 64, reach = 64, distances = 2 * reach + 1;
constexpr float scale = 0.125;

using matrix_map = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
using strided_map = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;

posenc::shaw<float> encoder(posenc::relative_tables tables) {
  posenc::shaw<float> made({.channels = channels, .left = reach, .right = reach, .tables = tables});
  std::copy_n(buffer<float>(1, distances * channels), distances * channels, made.parameters()[0].values.begin());
  return made;
}
/// `[1, time, head, channel]`.
posenc::head_view<float> head_rows(float* x, index_t time) {
  return posenc::head_view<float>(posenc::tensor_view<float, 4>(x, {1, time, heads, channels}));
}
index_t row_of(index_t query, index_t key) { return std::clamp<index_t>(key - query, -reach, reach) + reach; }

[[gnu::noinline]] void raw_keys(float* __restrict scores, const float* __restrict q, const float* __restrict table, index_t time) {
  for (index_t h = 0; h < heads; ++h)
    for (index_t i = 0; i < time; ++i)
      for (index_t j = 0; j < time; ++j, ++scores) {
        const float* const a = q + (i * heads + h) * channels;
        const float* const b = table + row_of(i, j) * channels;
        float sum = 0;
        for (index_t c = 0; c < channels; ++c) sum += a[c] * b[c];
        *scores += scale * sum;
      }
}

/// As most systems do: the rows of all pairs are gathered first, and multiplied by the queries of all heads.
void gathered_keys(float* scores, float* q, const float* table, float* pairs, index_t time) {
  for (index_t i = 0; i < time; ++i)
    for (index_t j = 0; j < time; ++j) std::copy_n(table + row_of(i, j) * channels, channels, pairs + (i * time + j) * channels);
  for (index_t i = 0; i < time; ++i)
    strided_map(scores + i * time, heads, time, Eigen::OuterStride<>(time * time)).noalias() +=
        scale * matrix_map(q + i * heads * channels, heads, channels) * matrix_map(pairs + i * time * channels, time, channels).transpose();
}

void add_shaw_keys(suite& all, const size_class& size) {
  const auto time = static_cast<index_t>(std::lround(std::sqrt(size.bytes / (heads * sizeof(float)))));
  const index_t count = heads * time * time, rows = time * heads * channels;
  const row& one = all.add_row({.path = "shaw_keys_f32",
                                .size = size.name,
                                .shape = shape_text({1, heads, time, time}),
                                .bytes = size.bytes,
                                .moved = 2 * size.bytes,
                                .items = static_cast<double>(count),
                                .other = "Eigen's matrix product alone"});
  all.add(one, variant::posenc, [=] {
    const auto range = posenc::positions::range(time);
    return [x = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), q = head_rows(buffer<float>(2, rows), time),
            shaw = encoder(posenc::relative_tables::keys), at = posenc::attention_positions{range, range}] {
      shaw.bias(x, posenc::attention_inputs<float>{.scale = scale, .queries = q}, at);
    };
  });
  all.add(one, variant::limit, [=] {
    return [x = buffer<float>(0, count), bytes = static_cast<std::size_t>(count) * sizeof(float)] { limits::flip(x, bytes); };
  });
  all.add(one, variant::other, [=] {
    return [q = matrix_map(buffer<float>(2, rows), time * heads, channels),
            table = matrix_map(buffer<float>(1, distances * channels), distances, channels),
            y = matrix_map(buffer<float>(0, time * heads * distances), time * heads, distances)]() mutable {
      y.noalias() = q * table.transpose();
    };
  });
  if (size.factor > 16) return;  // the others take seconds, and the pairs 1 GB
  all.add(one, variant::raw, [=] {
    return [=, x = buffer<float>(0, count), q = buffer<float>(2, rows), table = buffer<float>(1, distances * channels)] {
      raw_keys(x, q, table, time);
    };
  });
  all.add(one, variant::eigen, [=] {
    return [=, x = buffer<float>(0, count), q = buffer<float>(2, rows), table = buffer<float>(1, distances * channels),
            pairs = buffer<float>(3, time * time * channels)] { gathered_keys(x, q, table, pairs, time); };
  });
}

void add_shaw_values(suite& all, const size_class& size) {
  const auto time = static_cast<index_t>(std::lround(std::sqrt(size.bytes / (heads * sizeof(float)))));
  const index_t count = heads * time * time, rows = time * heads * channels;
  const row& one = all.add_row({.path = "shaw_values_f32",
                                .size = size.name,
                                .shape = shape_text({1, heads, time, time}),
                                .bytes = size.bytes,
                                .moved = size.bytes,
                                .items = static_cast<double>(count),
                                .other = "shaw_keys"});
  const auto range = posenc::positions::range(time);
  const posenc::attention_positions at{range, range};
  all.add(one, variant::posenc, [=] {
    return
        [=, weights = posenc::score_view<const float>(buffer<float>(0, count), {1, heads, time, time}),
         y = head_rows(buffer<float>(2, rows), time), shaw = encoder(posenc::relative_tables::values)] { shaw.add_values(y, weights, at); };
  });
  all.add(one, variant::limit, [=] {
    return [x = buffer<float>(0, count), bytes = static_cast<std::size_t>(count) * sizeof(float)] { limits::read(x, bytes); };
  });
  all.add(one, variant::other, [=] {
    return [=, x = posenc::score_view<float>(buffer<float>(0, count), {1, heads, time, time}), q = head_rows(buffer<float>(2, rows), time),
            shaw = encoder(posenc::relative_tables::keys)] {
      shaw.bias(x, posenc::attention_inputs<float>{.scale = scale, .queries = q}, at);
    };
  });
}

}  // namespace

void add_relative(suite& all) {
  for (const size_class& size : all.sizes()) add_shaw_keys(all, size);
  for (const size_class& size : all.sizes()) add_shaw_values(all, size);
}

}  // namespace bench
