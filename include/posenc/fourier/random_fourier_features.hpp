// SPDX-License-Identifier: MIT
/// \file  Random Fourier features: sines and cosines of the rows of a random matrix times a point.
#pragma once

#include <posenc/concepts.hpp>  // code_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>     // require
#include <posenc/executor.hpp>
#include <posenc/fourier/feature_verbs.hpp>
#include <posenc/gradients.hpp>
#include <posenc/learned/initialize.hpp>
#include <posenc/random.hpp>
#include <posenc/required.hpp>
#include <posenc/sinusoidal/channel_order.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

struct random_fourier_features_options {
  required<index_t> dims;         ///< coordinates of a point
  required<index_t> count;        ///< rows of the matrix; a point has twice as many features
  required<channel_order> order;  ///< cos_sin: the paper, rff, diffusers' flip_sin_to_cos; sin_cos: the authors' notebook, SAM, diffusers
  angle_unit unit = angle_unit::turns;  ///< radians: learnable Fourier features (Li et al. 2021)
  point_map map = point_map::as_given;
  double scale = 1;  ///< multiplies all; count^-0.5: products of features estimate the kernel

  friend bool operator==(const random_fourier_features_options&, const random_fourier_features_options&) = default;
};

/// [cos 2 pi B x | sin 2 pi B x], with rows of B ~ N(0, sigma^2) (Rahimi, Recht 2007; Tancik et al. 2020): SAM, diffusers'
/// GaussianFourierProjection, nerfstudio, rff. Products of features tend to the Gaussian kernel:
/// phi(x) . phi(y) / count -> exp(-2 pi^2 sigma^2 |x - y|^2).
///
///     posenc::random_source random(7);
///     posenc::random_fourier_features<float> features({.dims = 2, .count = 256, .order = posenc::channel_order::cos_sin}, random, 10.0);
///     features.encode(points, out);
///
/// B, `[count, dims]`, may be trained: it is a parameter, and has a gradient. See `feature_verbs` for the verbs and what holds of them. The
/// numbers that the kernel reads are formed anew from B in each call (and each block of codes): count * dims of them.
template <compute_scalar S>
class random_fourier_features : public feature_verbs<random_fourier_features<S>, S> {
 public:
  /// With a matrix of zeros, to be filled through `parameters`.
  /// \throws argument_error  unless dims and count are positive and the scale finite.
  explicit random_fourier_features(const random_fourier_features_options& options)
      : options_(options), layout_{.width = width_of(options), .scale = options.scale, .map = options.map} {
    matrix_.resize(static_cast<std::size_t>(options.dims * options.count));
  }
  /// With a given matrix [count, dims]. \throws argument_error  also for another shape, or numbers that are not finite.
  template <readable_tensor B>
    requires(rank_of<B> == 2 && readable_as<element_t<B>, S>)
  random_fourier_features(const random_fourier_features_options& options, const B& matrix) : random_fourier_features(options) {
    const auto view = view_of(matrix);
    const index_t dims = options.dims, count = options.count;
    require(view.extents() == std::array{count, dims}, name(), "the matrix must be [count, dims]", std::array{count, dims}, view.extents());
    for (index_t m = 0; m < count; ++m)
      for (index_t a = 0; a < dims; ++a) {
        const S one = static_cast<S>(view(m, a));
        require(std::isfinite(one), name(), "the matrix must be finite", one);
        matrix_[static_cast<std::size_t>(m * dims + a)] = one;
      }
  }
  /// With a matrix of normal numbers of this standard deviation, the same with every compiler; see `initialize::normal`.
  /// \throws argument_error  also unless sigma is finite and not negative.
  random_fourier_features(const random_fourier_features_options& options, random_source& random, double sigma)
      : random_fourier_features(options) {
    initialize::normal(matrix_, random, {.standard_deviation = sigma});
  }

  static constexpr std::string_view name() noexcept { return "random_fourier_features"; }
  const random_fourier_features_options& options() const noexcept { return options_; }
  const feature_layout& layout() const noexcept { return layout_; }
  index_t dims() const noexcept { return options_.dims; }
  std::vector<parameter<S>> parameters() { return {{"B", matrix_, {options_.count, options_.dims}}}; }

  /// What the kernel reads.
  feature_channels channels() const {
    const index_t count = options_.count, dims = options_.dims;
    feature_channels made = feature_channels::matrix(name(), dims, 2 * count);
    for (index_t c = 0; c < 2 * count; ++c)
      for (index_t a = 0; a < dims; ++a) {
        const double one = static_cast<double>(matrix_[static_cast<std::size_t>(row_of(c) * dims + a)]);
        made.set(c, a, feature_channels::half_turns({one, 0}, options_.unit), is_cosine(c));
      }
    return made;
  }

  using feature_verbs<random_fourier_features, S>::encode_backward;
  /// The gradient of `encode` at the points, which leaves, and at B, which is added to: in the order of points, then once. Points with
  /// a coordinate that is not a number have no part in it.
  /// \throws argument_error  also unless there is one span, of the size of B.
  template <readable_tensor D, readable_tensor P, writable_tensor DP>
    requires(rank_of<P> == rank_of<D> && rank_of<P> == rank_of<DP> && readable_as<element_t<D>, S> &&
             stored_as<element_t<P>, element_t<DP>>)
  void encode_backward(const D& d_out, const P& points, DP&& d_points, gradient_spans<S> d_parameters, const executor& run = {}) const {
    require_gradients(d_parameters);
    const auto from = batched(points);
    const auto d = batched(d_out);
    this->require_backward(d, from, token_view<element_t<DP>>(batched(d_points)));
    const auto sums = matrix_gradient(d, this->place_of(from), run);  // before d_points is written, which may be points
    this->encode_backward(d_out, points, d_points, run);
    add_gradient(sums, d_parameters);
  }
  /// The gradient of `add`: d_x passes unchanged.
  template <writable_tensor X, token_places At>
    requires(writable_as<element_t<X>, S>)
  void add_backward(X&& d_x, const At& at, gradient_spans<S> d_parameters, const executor& run = {}) const {
    const auto d = batched(d_x);
    this->require_readable(d, at);
    require_gradients(d_parameters);
    if (!d.empty()) add_gradient(matrix_gradient(d, this->place_of(at), run), d_parameters);
  }

  friend bool operator==(const random_fourier_features& a, const random_fourier_features& b) {
    return a.options_ == b.options_ && a.matrix_ == b.matrix_;
  }

 private:
  static index_t width_of(const random_fourier_features_options& options) {
    const index_t dims = options.dims, count = options.count;
    require(dims > 0, name(), "dims must be positive", dims);
    require(count > 0, name(), "count must be positive", count);
    checked_product(name(), std::array{index_t{2}, count, dims}, sizeof(double));
    require(std::isfinite(options.scale), name(), "scale must be finite", options.scale);
    return 2 * count;
  }
  bool is_cosine(index_t c) const noexcept {
    if (options_.order == channel_order::interleaved) return c % 2 == 1;
    return (c < options_.count) == (options_.order == channel_order::cos_sin);
  }
  index_t row_of(index_t c) const noexcept { return options_.order == channel_order::interleaved ? c / 2 : c % options_.count; }
  void require_gradients(gradient_spans<S> d_parameters) const {
    require(d_parameters.size() == 1, name(), "there must be one gradient span per parameter", 1, d_parameters.size());
    require(d_parameters[0].size() == matrix_.size(), name(), "the gradient must have the size of the matrix", matrix_.size(),
            d_parameters[0].size());
  }
  /// Of the half turns, [dims, channels]. Parts are ranges of channels, so that every sum has one order.
  template <class T>
  std::vector<double> matrix_gradient(const token_view<T>& d, const auto& place, const executor& run) const {
    const index_t dims = options_.dims, width = layout_.width, batch = d.extent(0), time = d.extent(1);
    const auto all = channels();
    std::vector<double> sums(static_cast<std::size_t>(dims * width));
    if (d.empty()) return sums;
    const double nanoseconds = 4 * this->cost(all) * static_cast<double>(batch) * static_cast<double>(time);
    const index_t parts = run.parts((width + 7) / 8, nanoseconds), own = this->block * dims;
    std::vector<double> spare(static_cast<std::size_t>(parts * own));
    run.split((width + 7) / 8, parts, [&](index_t part, index_t from, index_t to) {
      const index_t first = 8 * from, count = std::min(8 * to, width) - first;
      double* const x = spare.data() + part * own;
      kernels::feature_angles angles = all.angles();
      angles.points = x, angles.high += first, angles.low += first, angles.quarters += first, angles.channels = count;
      for (index_t b = 0; b < batch; ++b)
        for (index_t t = 0, n; t < time; t += n) {
          n = std::min(this->block, time - t);
          this->widen(place, b, t, n, x);
          angles.rows = n;
          kernels::features_weight_gradient<kernel_scalar<std::remove_const_t<T>>>({.angles = angles,
                                                                                    .d = kernel_pointer(&d(b, t, 0)) + first,
                                                                                    .row = d.stride(1),
                                                                                    .d_weights = sums.data() + first,
                                                                                    .scale = layout_.scale});
        }
    });
    return sums;
  }
  void add_gradient(const std::vector<double>& sums, gradient_spans<S> d_parameters) const {
    const index_t dims = options_.dims, count = options_.count, width = layout_.width;
    const double unit = feature_channels::half_turns({1, 0}, options_.unit).high;
    const bool pairs = options_.order == channel_order::interleaved;
    for (index_t m = 0; m < count; ++m)
      for (index_t a = 0; a < dims; ++a) {
        const index_t first = a * width + (pairs ? 2 * m : m), second = first + (pairs ? 1 : count);
        S& to = d_parameters[0][static_cast<std::size_t>(m * dims + a)];
        to = static_cast<S>(to + unit * (sums[static_cast<std::size_t>(first)] + sums[static_cast<std::size_t>(second)]));
      }
  }

  random_fourier_features_options options_;
  feature_layout layout_;
  std::vector<S> matrix_;
};

static_assert(code_encoder<random_fourier_features<float>> && code_encoder<random_fourier_features<double>>);
static_assert(trainable<random_fourier_features<float>> && position_encoder<random_fourier_features<double>>);
static_assert(!rotary_encoder<random_fourier_features<float>> && !bias_encoder<random_fourier_features<float>>);

}  // namespace POSENC_NAMESPACE
