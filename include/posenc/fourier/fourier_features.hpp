// SPDX-License-Identifier: MIT
/// \file  Fourier features of coordinates: sines and cosines of each coordinate at several frequencies (NeRF's positional encoding).
#pragma once

#include <posenc/concepts.hpp>  // code_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>     // require
#include <posenc/fourier/feature_bands.hpp>
#include <posenc/fourier/feature_verbs.hpp>
#include <posenc/gradients.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <array>
#include <limits>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// How sines and cosines lie: what changes slowest comes first. Of no system that we know: band_axis_function.
enum class feature_order {
  function_axis_band,  ///< all sines, coordinate after coordinate, then all cosines: nerfstudio, Perceiver
  function_band_axis,  ///< all sines, band after band, then all cosines: mip-NeRF, timm
  band_function_axis,  ///< for each band, the sines of all coordinates, then their cosines: bmild/nerf, nerf-pytorch, pixel-nerf
  band_axis_function,
  axis_band_function,  ///< for each coordinate and each band, sine and cosine: tiny-cuda-nn
  axis_function_band   ///< for each coordinate, the sines of all bands, then their cosines: rff (cosines first)
};

enum class feature_functions {
  sin_cos,
  cos_sin,  ///< cosines before sines, wherever they lie: rff
  sin       ///< no cosines: Perceiver's sine_only
};

/// Whether the coordinates themselves are features too.
enum class raw_coordinates {
  none,   ///< the NeRF paper, tiny-cuda-nn, rff
  first,  ///< bmild/nerf, pixel-nerf, mip-NeRF, Perceiver, timm
  last    ///< nerfstudio
};

struct fourier_features_options {
  required<index_t> dims;                 ///< coordinates of a point
  required<feature_bands> bands;
  required<angle_unit> unit;              ///< what coordinate times frequency is: the missing pi
  required<feature_order> order;
  required<raw_coordinates> raw;
  feature_functions functions = feature_functions::sin_cos;
  index_t multiple_of = 1;                ///< ones are appended until this divides the width: tiny-cuda-nn, for networks that want 16
  point_map map = point_map::as_given;

  friend bool operator==(const fourier_features_options&, const fourier_features_options&) = default;
};

/// sin(f_k x_a) and cos(f_k x_a) of every coordinate a and band k (Mildenhall et al. 2020; Rahaman et al. 2019 on why networks need them).
/// What checkpoints do not record has to be said; the functions below say it for the systems.
///
///     const posenc::fourier_features<float> nerf(posenc::nerf_features(3, 10));
///     nerf.encode(points, out);  // [..., 3] to [..., 63]
///
/// See `feature_verbs` for the verbs, for points with covariances (mip-NeRF), gradients and accuracy: angles are formed exactly, where
/// the systems' float angles of nine octaves are off by up to 1e-4.
template <compute_scalar S>
class fourier_features : public feature_verbs<fourier_features<S>, S> {
 public:
  /// \throws argument_error  unless dims and multiple_of are positive, bands by axis are those of dims axes, and the width fits in memory.
  explicit fourier_features(const fourier_features_options& options)
      : options_(options), layout_(layout_of(options)), channels_(channels_of(options)) {}

  static constexpr std::string_view name() noexcept { return "fourier_features"; }
  const fourier_features_options& options() const noexcept { return options_; }
  const feature_layout& layout() const noexcept { return layout_; }
  const feature_channels& channels() const noexcept { return channels_; }
  index_t dims() const noexcept { return options_.dims; }

  friend bool operator==(const fourier_features& a, const fourier_features& b) { return a.options_ == b.options_; }

 private:
  static index_t functions_of(const fourier_features_options& options) noexcept {
    return options.functions == feature_functions::sin ? 1 : 2;
  }
  static feature_layout layout_of(const fourier_features_options& options) {
    const index_t dims = options.dims;
    const feature_bands bands = options.bands;
    require(dims > 0, name(), "dims must be positive", dims);
    require(bands.axes() == 0 || bands.axes() == dims, name(), "bands by axis must be those of dims axes", dims, bands.axes());
    require(options.multiple_of > 0, name(), "multiple_of must be positive", options.multiple_of);
    const index_t waves = checked_product(name(), std::array{dims, functions_of(options), bands.count()}, 4 * sizeof(double));
    const index_t filled = waves + (options.raw == raw_coordinates::none ? 0 : dims), over = filled % options.multiple_of;
    const index_t ones = over == 0 ? 0 : options.multiple_of - over;
    require(ones <= std::numeric_limits<index_t>::max() / 16 - filled, name(), "the size in bytes must fit in 63 bits", filled, ones);
    return {.width = filled + ones,
            .first = options.raw == raw_coordinates::first ? dims : 0,
            .raw = options.raw == raw_coordinates::none    ? -1
                   : options.raw == raw_coordinates::first ? 0
                                                           : waves,
            .ones = ones,
            .map = options.map};
  }
  static feature_channels channels_of(const fourier_features_options& options) {
    enum axis : std::size_t { function, coordinate, band };
    using nesting = std::array<axis, 3>;
    const nesting order = [&]() -> nesting {
      switch (options.order) {
        case feature_order::function_axis_band: return {function, coordinate, band};
        case feature_order::function_band_axis: return {function, band, coordinate};
        case feature_order::band_function_axis: return {band, function, coordinate};
        case feature_order::band_axis_function: return {band, coordinate, function};
        case feature_order::axis_band_function: return {coordinate, band, function};
        default: return {coordinate, function, band};
      }
    }();
    const feature_bands bands = options.bands;
    const std::array<index_t, 3> extents{functions_of(options), options.dims, bands.count()};
    feature_channels made = feature_channels::bands(name(), options.dims, checked_product(name(), extents));
    std::array<index_t, 3> at{};
    for (index_t c = 0; c < made.count(); ++c) {
      const bool second = at[function] == 1;
      made.set(c, at[coordinate], feature_channels::half_turns(bands(at[coordinate], at[band]), options.unit),
               second == (options.functions != feature_functions::cos_sin));
      for (std::size_t n = order.size(); n-- > 0 && ++at[order[n]] == extents[order[n]];) at[order[n]] = 0;
    }
    made.find_octaves();
    return made;
  }

  fourier_features_options options_;
  feature_layout layout_;
  feature_channels channels_;
};

/// bmild/nerf, nerf-pytorch: no pi. 10 bands for places, 4 for directions.
inline fourier_features_options nerf_features(index_t dims, index_t count) {
  return {.dims = dims,
          .bands = feature_bands::powers_of_two(count),
          .unit = angle_unit::radians,
          .order = feature_order::band_function_axis,
          .raw = raw_coordinates::first};
}
/// pixel-nerf, which has the paper's pi, and the coordinates first.
inline fourier_features_options pixel_nerf_features(index_t dims, index_t count) {
  fourier_features_options options = nerf_features(dims, count);
  options.unit = angle_unit::half_turns;
  return options;
}
/// nerfstudio. Its covariances are those of 2 pi x, not of x: divide them by 4 pi^2 here.
inline fourier_features_options nerfstudio_features(index_t dims, index_t count, double min_exponent, double max_exponent,
                                                    bool include_input) {
  return {.dims = dims,
          .bands = feature_bands::log_spaced(count, min_exponent, max_exponent),
          .unit = angle_unit::turns,
          .order = feature_order::function_axis_band,
          .raw = include_input ? raw_coordinates::last : raw_coordinates::none};
}
/// mip-NeRF: bands 2^min_degree to 2^(max_degree - 1), with the coordinates (`append_identity`), which stand first.
inline fourier_features_options mip_nerf_features(index_t dims, index_t min_degree, index_t max_degree, bool append_identity) {
  return {.dims = dims,
          .bands = feature_bands::powers_of_two(max_degree - min_degree, min_degree),
          .unit = angle_unit::radians,
          .order = feature_order::function_band_axis,
          .raw = append_identity ? raw_coordinates::first : raw_coordinates::none};
}
/// tiny-cuda-nn's Frequency; its default is 12 bands.
inline fourier_features_options tiny_cuda_nn_features(index_t dims, index_t count, index_t multiple_of = 1) {
  return {.dims = dims,
          .bands = feature_bands::powers_of_two(count),
          .unit = angle_unit::half_turns,
          .order = feature_order::axis_band_function,
          .raw = raw_coordinates::none,
          .multiple_of = multiple_of};
}
/// Perceiver (DeepMind, Hugging Face), for coordinates in [-1, 1]; one resolution per axis.
inline fourier_features_options perceiver_features(const std::vector<index_t>& resolutions, index_t count) {
  std::vector<feature_bands> axes;
  for (const index_t resolution : resolutions) axes.push_back(feature_bands::linear(count, 1, static_cast<double>(resolution) / 2));
  return {.dims = static_cast<index_t>(axes.size()),
          .bands = feature_bands::by_axis(axes),
          .unit = angle_unit::half_turns,
          .order = feature_order::function_axis_band,
          .raw = raw_coordinates::first};
}
/// timm's FourierEmbed with pixel bands.
inline fourier_features_options timm_features(index_t dims, index_t count, double max_frequency) {
  return {.dims = dims,
          .bands = feature_bands::linear(count, 1, max_frequency / 2),
          .unit = angle_unit::half_turns,
          .order = feature_order::function_band_axis,
          .raw = raw_coordinates::first};
}

static_assert(code_encoder<fourier_features<float>> && code_encoder<fourier_features<double>>);
static_assert(position_encoder<fourier_features<float>> && !trainable<fourier_features<float>>);
static_assert(!rotary_encoder<fourier_features<float>> && !bias_encoder<fourier_features<float>>);

}  // namespace POSENC_NAMESPACE
