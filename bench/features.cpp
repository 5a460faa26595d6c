// SPDX-License-Identifier: MIT
// Fourier features of points in space at ten octaves, `[points, 3]` to `[points, 60]`.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/fourier/fourier_features.hpp>

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace bench {
namespace {

constexpr index_t dims = 3, bands = 10, width = 2 * dims * bands;
constexpr float pi = 3.14159265f;

/// As in nerf-pytorch, with the paper's pi.
[[gnu::noinline]] void raw_features(float* __restrict out, const float* __restrict x, index_t points) {
  for (index_t n = 0; n < points; ++n)
    for (index_t k = 0; k < bands; ++k) {
      const float frequency = pi * static_cast<float>(1 << k);
      float* const to = out + n * width + k * 2 * dims;
      for (index_t a = 0; a < dims; ++a)
        to[a] = std::sin(frequency * x[n * dims + a]), to[dims + a] = std::cos(frequency * x[n * dims + a]);
    }
}

posenc::fourier_features_options options_of(posenc::feature_order order) {
  auto options = posenc::pixel_nerf_features(dims, bands);
  options.raw = posenc::raw_coordinates::none, options.order = order;
  return options;
}

void add_features_of(suite& all, const size_class& size, const std::string& path, const posenc::fourier_features_options& options,
                     std::vector<goal> goals, std::optional<posenc::instruction_set> set = {}) {
  const auto points = static_cast<index_t>(size.bytes / ((width + dims) * sizeof(float))) / 64 * 64;
  const index_t count = points * width;
  const row& one = all.add_row({.path = path + (set ? "_" + std::string(posenc::name(*set)) : ""),
                                .size = size.name,
                                .shape = shape_text({points, width}),
                                .bytes = size.bytes,
                                .moved = size.bytes,
                                .items = static_cast<double>(count),
                                .set = set,
                                .goals = std::move(goals)});
  all.add(one, variant::posenc, [=] {
    return [out = posenc::tensor_view<float, 2>(buffer<float>(0, count), {points, width}),
            x = posenc::tensor_view<const float, 2>(buffer<float>(1, points * dims), {points, dims}),
            features = posenc::fourier_features<float>(options)] { features.encode(x, out); };
  });
  all.add(one, variant::limit, [=] {
    return [x = buffer<float>(0, count), bytes = static_cast<std::size_t>(count) * sizeof(float)] { limits::fill(x, bytes); };
  });
  all.add(one, variant::raw,
          [=] { return [=, out = buffer<float>(0, count), x = buffer<float>(1, points * dims)] { raw_features(out, x, points); }; });
}

}  // namespace

void add_features(suite& all) {
  using enum posenc::feature_order;
  auto linear = options_of(band_function_axis);
  linear.bands = posenc::feature_bands::linear(bands, 1, 512);
  // Of half a million points.
  const std::vector<goal> goals{
      {8, measure::raw, "134MB", "avx512"}, {5, measure::raw, "134MB", "avx2"}, {0.29, measure::limit, "134MB", "avx512"}};
  for (const size_class& size : all.sizes()) {
    add_features_of(all, size, "features_f32_octaves_by_band", options_of(band_function_axis), goals);
    add_features_of(all, size, "features_f32_octaves_by_axis", options_of(axis_band_function), goals);
    add_features_of(all, size, "features_f32_octaves_by_function", options_of(function_axis_band), goals);
    add_features_of(all, size, "features_f32_linear", linear, {});
    if (all.runs_with(posenc::instruction_set::avx2))
      add_features_of(all, size, "features_f32_octaves_by_axis", options_of(axis_band_function), goals, posenc::instruction_set::avx2);
  }
}

}  // namespace bench
