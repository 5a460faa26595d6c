// SPDX-License-Identifier: MIT
// PEG: depthwise convolutions added to `[batch, 36 * 36, 96]` in place, and causal ones to `[1, time, 768]`.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/conditional/peg.hpp>

#include <unsupported/Eigen/CXX11/Tensor>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

namespace bench {
namespace {

constexpr index_t side = 36;

template <class S>
posenc::peg<S> encoder(index_t dim, std::vector<index_t> kernel, posenc::peg_padding padding) {
  posenc::peg<S> made({.dim = dim, .kernel = std::move(kernel), .padding = padding});
  for (auto& one : made.parameters())
    std::ranges::transform(std::span(buffer<S>(1, static_cast<index_t>(one.values.size())), one.values.size()), one.values.begin(),
                           [](S w) { return w * S(1e-3); });  // so that nothing overflows, however often it is added
  return made;
}

/// [batch, height, width, channel], with a weight `[tap, channel]`. What one would write: out of place, added to in a second pass.
[[gnu::noinline]] void raw_convolve(float* __restrict x, float* __restrict y, const float* __restrict weight, const float* __restrict bias,
                                    index_t batch, index_t height, index_t width, index_t dim, index_t rows, index_t columns,
                                    index_t before) {
  for (index_t b = 0; b < batch; ++b)
    for (index_t i = 0; i < height; ++i)
      for (index_t j = 0; j < width; ++j) {
        float* const to = y + ((b * height + i) * width + j) * dim;
        for (index_t c = 0; c < dim; ++c) to[c] = bias[c];
        for (index_t u = 0; u < rows; ++u)
          for (index_t v = 0; v < columns; ++v) {
            const index_t p = i + u - rows / 2, q = j + v - before;
            if (p < 0 || p >= height || q < 0 || q >= width) continue;
            const float* const from = x + ((b * height + p) * width + q) * dim;
            const float* const w = weight + (u * columns + v) * dim;
            for (index_t c = 0; c < dim; ++c) to[c] += from[c] * w[c];
          }
      }
  for (index_t n = 0; n < batch * height * width * dim; ++n) x[n] += y[n];
}

/// As Eigen offers it: one channel after the other, of a padded copy.
void eigen_convolve(float* x, const float* weight, index_t batch, index_t height, index_t width, index_t dim, index_t rows, index_t columns,
                    index_t before) {
  using tensor4 = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  Eigen::TensorMap<tensor4> tokens(x, batch, height, width, dim);
  const std::array<std::pair<index_t, index_t>, 4> pads{{{0, 0}, {rows / 2, rows / 2}, {before, columns - 1 - before}, {0, 0}}};
  const tensor4 padded = tokens.pad(pads);
  const Eigen::TensorMap<const Eigen::Tensor<float, 3, Eigen::RowMajor>> filters(weight, rows, columns, dim);
  const std::array<index_t, 2> axes{1, 2};
  for (index_t c = 0; c < dim; ++c) {
    const Eigen::Tensor<float, 2, Eigen::RowMajor> filter = filters.chip(c, 2);
    tokens.chip(c, 3) += padded.chip(c, 3).convolve(filter, axes);
  }
}

struct form {
  std::string path;
  index_t batch, height, width, dim, rows, columns;
  posenc::peg_padding padding;
  std::vector<goal> goals;
};

template <class T>
void add_peg(suite& all, const size_class& size, const form& f) {
  const index_t time = f.height * f.width, count = f.batch * time * f.dim;
  const double bytes = static_cast<double>(count) * sizeof(T);
  const bool causal = f.padding == posenc::peg_padding::causal;
  const index_t before = causal ? f.columns - 1 : f.columns / 2;
  const row& one = all.add_row({.path = f.path,
                                .size = size.name,
                                .shape = shape_text({f.batch, f.height, f.width, f.dim}),
                                .bytes = bytes,
                                .moved = 2 * bytes,
                                .items = static_cast<double>(count),
                                .other = "Eigen's convolve, channel by channel",
                                .goals = f.goals});
  all.add(one, variant::posenc, [=] {
    const auto at = causal ? posenc::positions::range(time)
                           : posenc::grid_positions({.extents = {f.height, f.width}, .order = posenc::grid_order::slowest_first});
    const auto peg =
        encoder<posenc::compute_t<T>>(f.dim, causal ? std::vector<index_t>{f.columns} : std::vector<index_t>{f.rows, f.columns}, f.padding);
    std::vector<posenc::compute_t<T>> workspace(static_cast<std::size_t>(peg.workspace_size(at, f.batch)));
    return [=, x = posenc::token_view<T>(buffer<T>(0, count), {f.batch, time, f.dim})]() mutable { peg.add(x, at, std::span(workspace)); };
  });
  all.add(one, variant::limit,
          [=] { return [x = buffer<T>(0, count), n = static_cast<std::size_t>(count) * sizeof(T) / 256 * 256] { limits::flip(x, n); }; });
  if constexpr (std::same_as<T, float>) {
    const index_t taps = f.rows * f.columns;
    all.add(one, variant::raw, [=] {
      std::fill_n(buffer<float>(1, taps * f.dim), taps * f.dim, 1e-3f);
      return
          [=, x = buffer<float>(0, count), y = buffer<float>(2, count), w = buffer<float>(1, taps * f.dim),
           bias = buffer<float>(3, f.dim)] { raw_convolve(x, y, w, bias, f.batch, f.height, f.width, f.dim, f.rows, f.columns, before); };
    });
    if (size.factor == 1)
      all.add(one, variant::other, [=] {
        return [=, x = buffer<float>(0, count), w = buffer<float>(1, taps * f.dim)] {
          eigen_convolve(x, w, f.batch, f.height, f.width, f.dim, f.rows, f.columns, before);
        };
      });
  }
}

}  // namespace

void add_convolutions(suite& all) {
  using posenc::peg_padding;
  for (const size_class& size : all.sizes()) {
    const auto pictures = [&](std::size_t bytes) {
      return static_cast<index_t>(std::lround(size.bytes / static_cast<double>(side * side * 96) / static_cast<double>(bytes)));
    };
    const std::vector<goal> goals{{10, measure::other, "512KB"}, {0.7, measure::limit, "134MB"}};
    add_peg<float>(all, size, {"peg_f32_3x3", pictures(4), side, side, 96, 3, 3, peg_padding::zero, goals});
    const auto time = static_cast<index_t>(std::lround(size.bytes / (768 * sizeof(float))));
    add_peg<float>(all, size, {"peg_f32_causal_3", 1, 1, time, 768, 1, 3, peg_padding::causal, goals});
    add_peg<Eigen::bfloat16>(all, size, {"peg_bf16_3x3", pictures(2), side, side, 96, 3, 3, peg_padding::zero, {}});
  }
}

}  // namespace bench
