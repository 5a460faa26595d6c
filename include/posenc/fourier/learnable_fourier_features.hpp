// SPDX-License-Identifier: MIT
/// \file  Learnable Fourier features: cosines and sines of trained directions, and a small network on them. Li et al. 2021, "Learnable
/// Fourier Features for Multi-Dimensional Spatial Positional Encoding".
#pragma once

#include <posenc/additive_verbs.hpp>  // the verbs
#include <posenc/concepts.hpp>        // code_encoder
#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/executor.hpp>
#include <posenc/fourier/direction_features.hpp>
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/learned/initialize.hpp>
#include <posenc/mlp.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

struct learnable_fourier_features_options {
  required<index_t> dim;       ///< channels of the code, of all groups: D
  required<index_t> axes;      ///< coordinates of a group: M
  required<index_t> features;  ///< cosines and sines: F
  required<index_t> hidden;    ///< hidden channels of the network: H
  index_t groups = 1;          ///< of axes, whose codes stand one after the other: G. Two corners of a box are two groups of two axes

  friend bool operator==(const learnable_fourier_features_options&, const learnable_fourier_features_options&) = default;
};

/// What gamma^-2 is of the normal numbers that the directions start as.
enum class gamma_rule {
  variance,           ///< the paper
  standard_deviation  ///< the code that most have copied, LightGlue's among it
};

/// r = Wr x for the coordinates x of a group; f = [cos r | sin r] / sqrt(features); code = W2 gelu(W1 f + b1) + b2, with the exact GELU.
/// There is no 2 pi: Wr is in radians. All groups share the parameters, named as in the code that most have copied: "Wr.weight"
/// `[features / 2, axes]`, "mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias".
///
/// Takes coordinates, positions (of a grid, say) or tensors of points, on groups * axes axes, at most 8: group after group. See
/// `additive_verbs` for the verbs. What `add` and `encode` need for each token, beside its code, are features + 2 hidden numbers; they are
/// formed anew in each call, for parameters may have changed: `tabulated` keeps them.
///
/// The angles are exact to 2^-51 of the sum of |w x|; cosines and sines are within 9e-8 (float) or 5e-16 (double) before they are scaled,
/// and a code has the same bits alone as among others, for any number of threads, at every instruction set. Positions beyond 2^53 are
/// rounded to double. Gradients run in the calling thread. Equality compares options and parameters.
template <compute_scalar S>
class learnable_fourier_features : public additive_verbs<learnable_fourier_features<S>, S> {
  using base = additive_verbs<learnable_fourier_features, S>;

 public:
  using base::encode;

  /// Zeros. \throws argument_error  unless sizes are positive, features even, groups * axes at most 8, and groups divide dim.
  explicit learnable_fourier_features(const learnable_fourier_features_options& options)
      : options_(options), directions_(bands_of(options), options.axes), network_(network_of(options)) {}
  /// Directions drawn from a normal distribution with gamma^-2 as its variance or its standard deviation, then the network's parameters as
  /// torch draws them. \throws argument_error  as above, and unless gamma is positive and gamma^-2 finite.
  learnable_fourier_features(const learnable_fourier_features_options& options, double gamma, gamma_rule rule, random_source& random)
      : learnable_fourier_features(options) {
    require(gamma > 0 && std::isfinite(1 / gamma / gamma), name(), "gamma must be positive, and gamma^-2 finite", gamma);
    initialize::normal(directions_.weight(), random, {.standard_deviation = rule == gamma_rule::variance ? 1 / gamma : 1 / gamma / gamma});
    network_ = mlp<S>(network_of(options), random);
  }

  static constexpr std::string_view name() noexcept { return "learnable_fourier_features"; }
  const learnable_fourier_features_options& options() const noexcept { return options_; }
  index_t dim() const noexcept { return options_.dim; }
  index_t axes() const noexcept { return options_.groups * options_.axes; }

  /// Writes the codes of points `[batch..., time, groups * axes]` to out `[batch..., time, channel]`. A point that is not a number has a
  /// code of zeros. Allocates 8 bytes for each coordinate. \throws argument_error  where one is infinite, or not a number on some axes.
  template <readable_tensor P, writable_tensor T>
    requires(rank_of<P> == rank_of<T> && rank_of<T> >= 2 && writable_as<element_t<T>, S>)
  void encode(P&& points, T&& out, const executor& run = {}) const {  // not const P&: clang 14 would hide the other `encode`
    base::encode(coordinates_of(batched(points)), out, run);
  }

  /// d_parameters += scale times their gradients; d is the gradient of what `encode` wrote or `add` added, `[batch..., time, channel]`.
  /// Tokens come one after the other; where all batch rows share positions, their gradients are added first. Allocates some numbers per
  /// channel and feature for 64 tokens.
  template <token_places At, readable_tensor D>
    requires readable_as<element_t<D>, S>
  void encode_backward(const At& at, const D& d, gradient_spans<S> d_parameters, double scale = 1, const executor& = {}) const {
    const auto from = batched(d);
    this->require_readable(from, at);
    require_gradients(d_parameters);
    if (!from.empty()) add_gradients(from, at, d_parameters, static_cast<S>(scale), [](index_t, index_t, index_t, const S*) {});
  }
  /// The gradient of `add`: d_x passes unchanged.
  template <writable_tensor X, token_places At>
    requires writable_as<element_t<X>, S>
  void add_backward(X&& d_x, const At& at, gradient_spans<S> d_parameters, const executor& run = {}) const {
    encode_backward(at, d_x, d_parameters, 1, run);
  }
  /// The gradient of `encode` at points: writes d_points, of their shape, and adds to d_parameters. d_points may be the points themselves,
  /// but must not overlap d.
  template <readable_tensor P, readable_tensor D, writable_tensor X>
    requires(rank_of<P> == rank_of<D> && rank_of<P> == rank_of<X> && rank_of<D> >= 2 && readable_as<element_t<D>, S>)
  void encode_backward(const P& points, const D& d, X&& d_points, gradient_spans<S> d_parameters) const {
    const auto from = batched(d);
    const auto at = coordinates_of(batched(points));
    const auto to = batched(d_points);
    this->require_readable(from, at);
    const std::array shape{from.extent(0), from.extent(1), axes()};
    require(to.extents() == shape, name(), "gradients must have the shapes of what they are of", shape, to.extents());
    require_output(name(), to);
    require_gradients(d_parameters);
    if (from.empty()) return;
    add_gradients(from, at, d_parameters, 1, [&](index_t b, index_t t, index_t group, const S* d_point) {
      for (index_t a = 0; a < options_.axes; ++a) to(b, t, group * options_.axes + a) = static_cast<element_t<X>>(d_point[a]);
    });
  }
  std::vector<parameter<S>> parameters() {
    std::vector<parameter<S>> all = network_.parameters();
    all.insert(all.begin(), {"Wr.weight", directions_.weight(), {options_.features / 2, options_.axes}});
    return all;
  }

  friend bool operator==(const learnable_fourier_features& a, const learnable_fourier_features& b) {
    return a.options_ == b.options_ && a.directions_ == b.directions_ && a.network_ == b.network_;
  }

  // What `additive_verbs` asks for.
  template <token_places At>
  void require_known(const At&) const noexcept {}
  index_t spare_values() const noexcept { return dim() + options_.features + network_.workspace_size(1); }
  index_t spare_ids() const noexcept { return 0; }
  double nanoseconds_per_code() const noexcept {
    const double angles = static_cast<double>(options_.features) * (1 + static_cast<double>(index_t{options_.axes}) / 2);
    return static_cast<double>(options_.groups) * (network_.nanoseconds_per_row() + angles * detail::nanoseconds_per_angle);
  }
  template <token_places At>
  kernels::code_source<S> codes(const At& at, index_t b, index_t t, index_t count, S* spare, std::int64_t*) const {
    const index_t share = dim() / options_.groups;
    S *const features = spare + count * dim(), *const workspace = features + count * options_.features;
    const auto size = static_cast<std::size_t>(network_.workspace_size(count));
    for (index_t group = 0; group < options_.groups; ++group) {
      for (index_t n = 0; n < count; n += block)
        directions_.features(points_of(at, b, t + n, std::min(block, count - n), group), features + n * options_.features);
      network_.forward({features, {count, options_.features}}, {spare + group * share, {count, share}, {dim(), 1}}, {workspace, size});
    }
    for (index_t n = 0; n < count; ++n)
      if (std::isnan(place(at, b, t + n, 0))) std::fill_n(spare + n * dim(), dim(), S(0));
    return {.table = spare, .batch = 0, .time = dim()};
  }

 private:
  static constexpr index_t block = detail::point_block::most;  // tokens at a time

  static index_t bands_of(const learnable_fourier_features_options& options) {
    const index_t dim = options.dim, axes = options.axes, features = options.features, hidden = options.hidden;
    require(dim > 0, name(), "dim must be positive", dim);
    require(features > 0 && features % 2 == 0, name(), "features must be positive and even", features);
    require(hidden > 0, name(), "hidden must be positive", hidden);
    require(axes > 0 && options.groups > 0 && axes <= max_axes / options.groups, name(), "groups times axes must be 1 to 8", options.groups,
            axes);
    require(dim % options.groups == 0, name(), "groups must divide dim", options.groups, dim);
    checked_product(name(), std::array{features / 2, axes}, sizeof(S));
    return features / 2;
  }
  static mlp_options network_of(const learnable_fourier_features_options& options) {
    return {.in = options.features,
            .out = options.dim / options.groups,
            .hidden = {options.hidden},
            .activation = mlp_activation::gelu,
            .prefix = "mlp."};
  }
  void require_gradients(gradient_spans<S> d_parameters) const {
    const auto rest = network_.values();
    require(d_parameters.size() == rest.size() + 1, name(), "there must be one gradient span per parameter", rest.size() + 1,
            d_parameters.size());
    for (std::size_t n = 0; n < d_parameters.size(); ++n) {
      const std::size_t size = n == 0 ? directions_.weight().size() : rest[n - 1].size();
      require(d_parameters[n].size() == size, name(), "gradient spans must have the sizes of the parameters", size, d_parameters[n].size());
    }
  }

  template <class P>
  coordinates coordinates_of(const token_view<P>& points) const {
    require(points.extent(2) == axes(), name(), "points must have a coordinate for each axis of each group", axes(), points.extent(2));
    const index_t batch = points.extent(0), time = points.extent(1);
    std::vector<double> all;
    for (index_t a = 0; a < axes(); ++a)
      for (index_t b = 0; b < std::max<index_t>(batch, 1); ++b)
        for (index_t t = 0; t < time; ++t) all.push_back(batch == 0 ? 0 : static_cast<double>(points(b, t, a)));
    return coordinates::values(all, axes(), batch);
  }
  static double place(const positions& at, index_t b, index_t t, index_t axis) noexcept {
    const position p = at(b, t, axis);
    return p == no_position ? no_coordinate : static_cast<double>(p);
  }
  static double place(const coordinates& at, index_t b, index_t t, index_t axis) noexcept { return at(b, t, axis); }
  template <class At>
  detail::point_block points_of(const At& at, index_t b, index_t t, index_t count, index_t group) const {
    detail::point_block some{.count = count, .values = {}};
    for (index_t a = 0; a < options_.axes; ++a)
      for (index_t n = 0; n < count; ++n)
        some.values[static_cast<std::size_t>(a * block + n)] = place(at, b, t + n, group * options_.axes + a);
    return some;
  }

  /// write(b, t, group, gradient of the point): for each token, where rows do not share positions.
  template <class D, class At>
  void add_gradients(const token_view<D>& d, const At& at, gradient_spans<S> d_parameters, S scale, auto&& write) const {
    const index_t features = options_.features, share = dim() / options_.groups, rows = at.batch() == 0 ? d.extent(0) : 1;
    const auto of_block = [](index_t numbers) { return std::vector<S>(static_cast<std::size_t>(block * numbers)); };
    auto f = of_block(features), d_f = of_block(features), d_code = of_block(share), d_points = of_block(options_.axes);
    for (index_t b = 0; b < d.extent(0); b += rows)
      for (index_t t = 0; t < d.extent(1); t += block)
        for (index_t group = 0; group < options_.groups; ++group) {
          detail::point_block points = points_of(at, b, t, std::min(block, d.extent(1) - t), group);
          for (index_t n = 0; n < points.count; ++n) {
            S* const to = d_code.data() + n * share;
            std::fill_n(to, share, S(0));
            if (points.clear_if_absent(n, options_.axes)) continue;
            for (index_t row = b; row < b + rows; ++row)
              for (index_t c = 0; c < share; ++c) to[c] += scale * static_cast<S>(d(row, t + n, group * share + c));
          }
          directions_.features(points, f.data());
          network_.backward({f.data(), {points.count, features}}, {d_code.data(), {points.count, share}},
                            {d_f.data(), {points.count, features}}, d_parameters.subspan(1));
          directions_.backward(points, f.data(), d_f.data(), d_points.data(), d_parameters[0].data());
          for (index_t n = 0; n < points.count; ++n) write(b, t + n, group, d_points.data() + n * options_.axes);
        }
  }

  learnable_fourier_features_options options_;
  detail::direction_features<S> directions_;
  mlp<S> network_;
};

static_assert(code_encoder<learnable_fourier_features<float>> && position_encoder<learnable_fourier_features<double>>);
static_assert(trainable<learnable_fourier_features<float>> && !needs_embeddings<learnable_fourier_features<float>>);
static_assert(!rotary_encoder<learnable_fourier_features<float>> && !bias_encoder<learnable_fourier_features<float>>);

}  // namespace POSENC_NAMESPACE
