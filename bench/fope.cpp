// SPDX-License-Identifier: MIT
// Fourier position embedding: turning by tables of all heads, of key heads and of none, beside the limit for the bytes that are moved; and
// the tables themselves, beside Eigen's matrix products alone.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/fourier/fope.hpp>
#include <posenc/rope.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace bench {
namespace {

using tensor_map = Eigen::TensorMap<Eigen::Tensor<float, 4, Eigen::RowMajor>>;
constexpr index_t dim = 128, heads = 32;

/// Every wave that a context of 4096 tokens sees whole, 45 of them, mixed into 32 pairs. The identity, so that however often something is
/// turned, it gets no longer.
posenc::fope<float> encoder(index_t own) {
  posenc::random_source none(0);
  return {{.pairing = posenc::pairing::halves, .dim = dim},
          {.spectrum = posenc::fope_spectrum{.max_sequence_length = 4096},
           .width = posenc::fope_width::paper,
           .padding = posenc::fope_padding::rotation,
           .heads = own},
          {.start = posenc::fope_start::eye},
          none};
}

/// The loop that one would write: neighbouring heads share a row of the table.
[[gnu::noinline]] void raw_turn(float* __restrict x, const float* __restrict table, index_t time, index_t own) {
  const index_t rows = std::max<index_t>(own, 1);
  for (index_t t = 0; t < time; ++t)
    for (index_t h = 0; h < heads; ++h, x += dim) {
      const float* row = table + (t * rows + h / (heads / rows)) * dim;
      for (index_t k = 0; k < dim / 2; ++k) {
        const float a = x[k], b = x[k + dim / 2], c = row[k], s = row[dim / 2 + k];
        x[k] = a * c - b * s;
        x[k + dim / 2] = b * c + a * s;
      }
    }
}

void add_turning(suite& all, const std::string& path, index_t own) {
  for (const size_class& size : all.sizes()) {
    // So many tables fit a tensor: none counts where all heads share one.
    const double tables = static_cast<double>(own) / heads;
    const index_t time = static_cast<index_t>(size.bytes / (1 + tables)) / (4 * heads * dim) / 4 * 4, count = time * heads * dim;
    const auto bytes = static_cast<std::size_t>(count) * 4, of_tables = bytes / heads * static_cast<std::size_t>(own);
    const row& one = all.add_row({.path = path,
                                  .size = size.name,
                                  .shape = shape_text({1, time, heads, dim}),
                                  .bytes = size.bytes,
                                  .moved = static_cast<double>(2 * bytes + of_tables),
                                  .items = static_cast<double>(count) / 2,
                                  .other = "plain rope",
                                  .goals = {{0.8, measure::limit}}});
    const auto view = [=] {
      return posenc::heads(tensor_map(buffer<float>(0, count), index_t{1}, time, heads, dim), posenc::axis_order::time_head);
    };
    const auto table = [=] { return encoder(own).prepare(posenc::positions::range(time)); };
    all.add(one, variant::posenc, [=] { return [x = view(), made = table(), turns = encoder(own)] { turns.rotate(x, made); }; });
    all.add(one, variant::raw,
            [=] { return [=, x = buffer<float>(0, count), made = table()] { raw_turn(x, made.row(0, 0), time, own); }; });
    all.add(one, variant::limit, [=] {
      return [=, x = buffer<float>(0, count), t = buffer<float>(1, std::max<index_t>(count / heads * own, 64))] {
        limits::add(x, t, of_tables);
        limits::flip(x + of_tables / 4, bytes - of_tables);
      };
    });
    all.add(one, variant::other, [=] {
      const posenc::rope<float> plain({.pairing = posenc::pairing::halves, .dim = dim});
      return [plain, x = view(), made = plain.prepare(posenc::positions::range(time))] { plain.rotate(x, made); };
    });
  }
}

/// The loops that one would write.
[[gnu::noinline]] void raw_table(float* __restrict out, float* __restrict waves, const double* __restrict speeds,
                                 const float* __restrict sines, const float* __restrict cosines, index_t rows, index_t count, index_t own,
                                 index_t mixed) {
  for (index_t r = 0; r < rows; ++r) {
    for (index_t f = 0; f < count; ++f) {
      waves[f] = static_cast<float>(std::cos(static_cast<double>(r) * speeds[f]));
      waves[count + f] = static_cast<float>(std::sin(static_cast<double>(r) * speeds[f]));
    }
    for (index_t h = 0; h < own; ++h, out += dim) {
      for (index_t k = 0; k < mixed; ++k) {
        float c = 0, s = 0;
        for (index_t f = 0; f < count; ++f) {
          c += waves[f] * cosines[(h * count + f) * mixed + k];
          s += waves[count + f] * sines[(h * count + f) * mixed + k];
        }
        out[k] = c, out[dim / 2 + k] = s;
      }
      for (index_t k = mixed; k < dim / 2; ++k) out[k] = 1, out[dim / 2 + k] = 0;
    }
  }
}

void add_table(suite& all, const size_class& size, index_t own) {
  const index_t rows = static_cast<index_t>(size.bytes) / (4 * dim * own);
  auto of_shape = encoder(own);
  const index_t count = of_shape.inspect().frequencies.count(), mixed = of_shape.mixed_pairs();
  const row& one = all.add_row({.path = "table_f32_fope_d128_h8",
                                .size = size.name,
                                .shape = shape_text({rows, own, dim}),
                                .bytes = size.bytes,
                                .moved = size.bytes,
                                .items = static_cast<double>(rows * own * mixed),
                                .other = "Eigen's products alone",
                                .goals = {{0.8, measure::other}}});
  all.add(one, variant::posenc,
          [=] { return [=, turns = encoder(own)] { benchmark::DoNotOptimize(turns.prepare(posenc::positions::range(rows))); }; });
  all.add(one, variant::raw, [=] {
    std::vector<double> speeds;
    for (index_t f = 0; f < count; ++f) speeds.push_back(encoder(own).inspect().frequencies.radians(f));
    return [=, turns = encoder(own), out = buffer<float>(0, rows * own * dim),
            waves = std::vector<float>(static_cast<std::size_t>(2 * count))]() mutable {
      raw_table(out, waves.data(), speeds.data(), turns.parameters()[0].values.data(), turns.parameters()[1].values.data(), rows, count,
                own, mixed);
    };
  });
  all.add(one, variant::other, [=] {
    using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const matrix w = matrix::Random(own * count, mixed), waves = matrix::Random(rows, 2 * count);
    return [=, out = Eigen::Map<matrix>(buffer<float>(0, rows * own * dim), rows, own * dim)]() mutable {
      for (index_t h = 0; h < own; ++h)
        for (const index_t half : {0, 1})
          out.middleCols(h * dim + half * dim / 2, mixed).noalias() =
              waves.middleCols(half * count, count) * w.middleRows(h * count, count);
    };
  });
}

}  // namespace

void add_fope(suite& all) {
  add_turning(all, "rotate_f32_fope_d128", 0);
  add_turning(all, "rotate_f32_fope_d128_key_heads", 8);
  add_turning(all, "rotate_f32_fope_d128_heads", heads);
  for (const size_class& size : all.sizes())
    if (size.factor < 256) add_table(all, size, 8);
}

}  // namespace bench
