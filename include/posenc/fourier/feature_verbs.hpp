// SPDX-License-Identifier: MIT
/// \file  The verbs of Fourier features: of points with any number of coordinates, and of tokens that stand at coordinates.
#pragma once

#include <posenc/additive_verbs.hpp>
#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>       // require
#include <posenc/executor.hpp>
#include <posenc/fourier/feature_channels.hpp>
#include <posenc/kernels/features.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// What is done to coordinates before they are multiplied.
enum class point_map {
  as_given,
  from_unit_interval,  ///< 2 x - 1: SAM, whose coordinates are fractions of the picture's size
  logarithm            ///< ln x: diffusers' noise levels. What is not positive has no logarithm, and features that are not numbers
};

/// Where the parts of a row of features stand.
struct feature_layout {
  index_t width = 0;                     ///< channels of a row
  index_t first = 0;                     ///< where the sines and cosines begin
  index_t raw = -1;                      ///< where the coordinates themselves begin; -1: nowhere
  index_t ones = 0;                      ///< how many ones end the row
  double scale = 1;                      ///< multiplies sines and cosines
  point_map map = point_map::as_given;
  friend bool operator==(const feature_layout&, const feature_layout&) = default;
};

/// Covariances of points `[..., dims]`: the diagonals `[..., dims]`, or all `[..., dims, dims]`.
template <class C, class P>
concept covariances_of = readable_tensor<C> && readable_tensor<P> && (rank_of<C> == rank_of<P> || rank_of<C> == rank_of<P> + 1);

/// `encode` of points, and through `additive_verbs` `encode` and `add` at positions and coordinates, of an encoder E with
///
///     layout()    its feature_layout
///     channels()  its feature_channels, perhaps formed anew
///
/// Points are float, double, half or bfloat16 `[..., dims]` with any strides; features `[..., dim]` are written side by side. Nothing
/// overlaps in part. Features are computed in double and rounded once: in float within 4e-8 + 7e-16 |h| (times dims where all coordinates
/// count), in double within 5e-16, h being the half turns, |h| <= 2^30. Where |h| reaches 2^51 its fraction is taken as 0; coordinates that
/// are infinite or not numbers have features that are not numbers. Tokens without a position have zeros. Allocates some KB per thread.
template <class E, compute_scalar S>
class feature_verbs : public additive_verbs<E, S> {
 public:
  using additive_verbs<E, S>::encode;

  index_t dim() const noexcept { return self().layout().width; }
  index_t axes() const noexcept { return self().dims(); }

  /// Writes the features of points `[..., dims]` to out `[..., dim]`.
  /// \throws argument_error  unless shapes match and the features lie side by side.
  template <readable_tensor P, writable_tensor Out>
    requires(rank_of<P> == rank_of<Out> && rank_of<P> >= 2 && writable_as<element_t<Out>, S>)
  void encode(const P& points, Out&& out, const executor& run = {}) const {
    encode_points(batched(points), {}, batched(out), run);
  }
  /// The expectation of the features over normal points of these means and covariances, E[sin y] = exp(-var(y) / 2) sin(E[y]) (mip-NeRF,
  /// Barron et al. 2021; nerfstudio). Coordinates themselves, where the encoder has them, stay the means.
  /// \throws argument_error  also where coordinates are turned into logarithms.
  template <readable_tensor P, covariances_of<P> C, writable_tensor Out>
    requires(rank_of<P> == rank_of<Out> && rank_of<P> >= 2 && writable_as<element_t<Out>, S>)
  void encode(const P& points, const C& covariances, Out&& out, const executor& run = {}) const {
    encode_points(batched(points), entries_of(points, covariances), batched(out), run);
  }

  /// The gradient of `encode` at the points: d_out `[..., dim]` comes in, d_points, of the type and shape of points, leaves.
  template <readable_tensor D, readable_tensor P, writable_tensor DP>
    requires(rank_of<P> == rank_of<D> && rank_of<P> == rank_of<DP> && readable_as<element_t<D>, S> &&
             stored_as<element_t<P>, element_t<DP>>)
  void encode_backward(const D& d_out, const P& points, DP&& d_points, const executor& run = {}) const {
    const auto d = batched(d_points);
    points_backward(batched(d_out), batched(points), {}, d, {}, run);
  }
  /// The same at points and covariances; d_covariances has the type and shape of covariances.
  template <readable_tensor D, readable_tensor P, covariances_of<P> C, writable_tensor DP, writable_tensor DC>
    requires(rank_of<P> == rank_of<D> && rank_of<P> == rank_of<DP> && rank_of<C> == rank_of<DC> && readable_as<element_t<D>, S> &&
             stored_as<element_t<P>, element_t<DP>> && stored_as<element_t<C>, element_t<DC>>)
  void encode_backward(const D& d_out, const P& points, const C& covariances, DP&& d_points, DC&& d_covariances,
                       const executor& run = {}) const {
    const auto d = batched(d_points);
    require_output_shape(view_of(covariances), view_of(d_covariances));
    points_backward(batched(d_out), batched(points), entries_of(points, covariances), d, entries_of(points, d_covariances), run);
  }

  // What `additive_verbs` asks for.
  void require_known(const coordinates&) const noexcept {}
  void require_known(const positions& at) const {
    constexpr position most = position{1} << std::numeric_limits<double>::digits;
    for (index_t axis = 0; axis < at.axes(); ++axis)
      for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b)
        for (index_t t = 0; t < at.time(); ++t) {
          const position id = at(b, t, axis);
          require(id == no_position || (id >= -most && id <= most), E::name(), "positions must lie in [-2^53, 2^53]", id);
        }
  }
  index_t spare_values() const noexcept { return dim(); }
  index_t spare_ids() const noexcept { return 0; }
  double nanoseconds_per_code() const noexcept { return cost(self().channels()); }
  template <class At>
  kernels::code_source<S> codes(const At& at, index_t b, index_t t, index_t count, S* spare, std::int64_t*) const {
    const auto& channels = self().channels();
    std::array<double, block * max_axes> points;
    for (index_t from = 0, n; from < count; from += n) {
      n = std::min(block, count - from);
      widen(place_of(at), b, t + from, n, points.data());
      write(channels, points.data(), nullptr, n, spare + from * dim(), dim());
      for (index_t r = 0; r < n; ++r)
        if (is_absent(at, b, t + from + r)) std::fill_n(spare + (from + r) * dim(), dim(), S(0));
    }
    return {.table = spare, .batch = 0, .time = dim()};
  }

 protected:
  static constexpr index_t block = 64;  // points at a time

  /// How coordinates are had from what was given: value(b, t, axis), in double.
  template <class T>
  static auto place_of(const token_view<T>& points) noexcept {
    return [points](index_t b, index_t t, index_t a) { return static_cast<double>(points(b, t, a)); };
  }
  static auto place_of(const coordinates& at) noexcept {
    return [&at](index_t b, index_t t, index_t a) { return at(b, t, a); };
  }
  static auto place_of(const positions& at) noexcept {
    return [&at](index_t b, index_t t, index_t a) {
      const position id = at(b, t, a);
      return id == no_position ? no_coordinate : static_cast<double>(id);
    };
  }
  /// Points t to t + n of row b, as the channels take them.
  void widen(const auto& place, index_t b, index_t t, index_t n, double* to) const {
    const point_map map = self().layout().map;
    for (index_t r = 0; r < n; ++r)
      for (index_t a = 0; a < axes(); ++a) {
        const double x = place(b, t + r, a);
        *to++ = map == point_map::as_given ? x : map == point_map::logarithm ? std::log(x) : 2 * x - 1;
      }
  }
  /// act(part, b, t, n) for blocks of the tokens [batch, time].
  static void in_blocks(const executor& run, index_t batch, index_t time, index_t parts, const auto& act) {
    run.split(batch * time, parts, [&](index_t part, index_t from, index_t to) {
      for (index_t n; from < to; from += n) {
        const index_t t = from % time;
        n = std::min({block, time - t, to - from});
        act(part, from / time, t, n);
      }
    });
  }
  template <class D, class P>
  void require_points(const token_view<D>& features, const token_view<P>& points) const {
    require(points.extent(2) == axes(), E::name(), "points must have dims coordinates", axes(), points.extent(2));
    require(features.extent(2) == dim(), E::name(), "channels must equal dim", dim(), features.extent(2));
    require(features.extent(0) == points.extent(0) && features.extent(1) == points.extent(1), E::name(),
            "there must be one row of features per point", points.extents(), features.extents());
  }
  template <class D, class P, class DP>
  void require_backward(const token_view<D>& d_out, const token_view<P>& points, const token_view<DP>& d_points) const {
    require_points(d_out, points);
    require_rows(E::name(), d_out);
    require_output_shape(points, d_points);
    require(!overlaps_partly(points, d_points) && !overlaps_partly(d_out, d_points), E::name(), "input and output must not overlap",
            points.extents(), d_points.extents());
  }
  static double cost(const feature_channels& channels) noexcept {
    const double products = channels.has_bands() ? 1 : static_cast<double>(channels.dims());
    return static_cast<double>(channels.count()) * (0.4 + 0.2 * products) * (sizeof(S) == 8 ? 3 : 1);
  }

 private:
  const E& self() const noexcept { return static_cast<const E&>(*this); }
  static bool is_absent(const positions& at, index_t b, index_t t) { return at(b, t) == no_position; }
  static bool is_absent(const coordinates& at, index_t b, index_t t) { return at(b, t) != at(b, t); }

  /// Entries [batch, time, row, column] of covariances, without columns where only the diagonals are there.
  template <class T>
  struct covariance_entries {
    token_view<T> rows{};
    index_t column = 0;
    bool full = false;
    T& operator()(index_t b, index_t t, index_t i, index_t j) const noexcept { return (&rows(b, t, i))[j * column]; }
  };
  template <class P, class C>
  auto entries_of(const P& points, C&& covariances) const {
    const auto view = view_of(covariances);
    const auto of = view_of(points);
    constexpr int rank = rank_of<P>;
    using shape = typename tensor_view<element_t<C>, rank>::shape;
    shape extents, strides;
    for (int axis = 0; axis < rank; ++axis) {
      const auto n = static_cast<std::size_t>(axis);
      extents[n] = view.extent(axis), strides[n] = view.stride(axis);
    }
    constexpr bool full = rank_of<C> > rank;
    const bool square = !full || view.extent(rank_of<C> - 1) == axes();
    require(extents == of.extents() && square, E::name(), "covariances must be [..., dims] or [..., dims, dims] of the points",
            of.extents(), view.extents());
    require(self().layout().map != point_map::logarithm, E::name(), "covariances need coordinates that are not turned into logarithms",
            "logarithm");
    return covariance_entries<element_t<C>>{batched(tensor_view<element_t<C>, rank>(view.data(), extents, strides)),
                                            full ? view.stride(rank_of<C> - 1) : 0, full};
  }
  template <class A, class B, int Rank>
  static void require_output_shape(const tensor_view<A, Rank>& of, const tensor_view<B, Rank>& gradient) {
    require(of.extents() == gradient.extents(), E::name(), "gradients must have the shapes of what they are of", of.extents(),
            gradient.extents());
    require_output(E::name(), gradient);
  }
  /// Numbers of a covariance that the kernel reads.
  static index_t covariance_size(const feature_channels& channels) noexcept {
    return channels.has_bands() ? channels.dims() : channels.dims() * channels.dims();
  }
  double map_slope() const noexcept { return self().layout().map == point_map::from_unit_interval ? 2 : 1; }

  static kernels::feature_angles angles_of(const feature_channels& channels, const double* points, const double* covariances, index_t n) {
    kernels::feature_angles angles = channels.angles();
    angles.points = points, angles.rows = n;
    if (!covariances) return angles;
    angles.covariances = covariances, angles.covariance_point = covariance_size(channels), angles.covariance_column = 1;
    angles.covariance_row = channels.has_bands() ? 0 : channels.dims();
    return angles;
  }
  template <class T>
  void write(const feature_channels& channels, const double* points, const double* covariances, index_t n, T* out, index_t row) const {
    const feature_layout& layout = self().layout();
    auto* const to = kernel_pointer(out);
    kernels::features<kernel_scalar<T>>({.angles = angles_of(channels, points, covariances, n),
                                         .out = to + layout.first,
                                         .row = row,
                                         .scale = layout.scale,
                                         .raw = layout.raw < 0 ? nullptr : to + layout.raw,
                                         .ones = to + (layout.width - layout.ones),
                                         .ones_count = layout.ones});
  }
  template <class C>
  void widen_covariances(const feature_channels& channels, const covariance_entries<C>& from, index_t b, index_t t, index_t n,
                         double* to) const {
    const index_t dims = channels.dims();
    const double scale = map_slope() * map_slope();
    for (index_t r = 0; r < n; ++r)
      for (index_t i = 0; i < dims; ++i)
        for (index_t j = channels.has_bands() ? i : 0; j < (channels.has_bands() ? i + 1 : dims); ++j)
          *to++ = i == j || from.full ? static_cast<double>(from(b, t + r, i, j)) * scale : 0;
  }

  template <class P, class Out, class C = const double>
  void encode_points(const token_view<P>& points, const covariance_entries<C>& covariances, const token_view<Out>& out,
                     const executor& run) const {
    require_points(out, points);
    require_output(E::name(), out);
    require(!overlaps_partly(points, out), E::name(), "input and output must not overlap", points.extents(), out.extents());
    if (out.empty()) return;
    const auto& channels = self().channels();
    const index_t tokens = checked_product(E::name(), std::array{out.extent(0), out.extent(1)});
    const index_t parts = run.parts(tokens, cost(channels) * static_cast<double>(tokens));
    const index_t own = block * (axes() + (covariances.rows ? covariance_size(channels) : 0));
    std::vector<double> spare(static_cast<std::size_t>(checked_product(E::name(), std::array{parts, own}, sizeof(double))));
    in_blocks(run, out.extent(0), out.extent(1), parts, [&](index_t part, index_t b, index_t t, index_t n) {
      double *const x = spare.data() + part * own, *const covariance = covariances.rows ? x + block * axes() : nullptr;
      widen(place_of(points), b, t, n, x);
      if (covariance) widen_covariances(channels, covariances, b, t, n, covariance);
      write(channels, x, covariance, n, &out(b, t, 0), out.stride(1));
    });
  }
  template <class D, class P, class DP, class C = const double, class DC = double>
  void points_backward(const token_view<D>& d_out, const token_view<P>& points, const covariance_entries<C>& covariances,
                       const token_view<DP>& d_points, const covariance_entries<DC>& d_covariances, const executor& run) const {
    require_backward(d_out, points, d_points);
    if (points.empty()) return;
    const feature_layout& layout = self().layout();
    const auto& channels = self().channels();
    const index_t dims = axes(), entries = covariances.rows ? covariance_size(channels) : 0;
    const index_t tokens = checked_product(E::name(), std::array{points.extent(0), points.extent(1)});
    const index_t parts = run.parts(tokens, 4 * cost(channels) * static_cast<double>(tokens));
    const index_t own = (2 * block + 8) * (dims + entries);
    std::vector<double> spare(static_cast<std::size_t>(checked_product(E::name(), std::array{parts, own}, sizeof(double))));
    in_blocks(run, points.extent(0), points.extent(1), parts, [&](index_t part, index_t b, index_t t, index_t n) {
      double *const x = spare.data() + part * own, *const d_x = x + block * dims, *const covariance = d_x + block * dims;
      double* const d_covariance = covariance + block * entries;
      widen(place_of(points), b, t, n, x);
      if (entries) widen_covariances(channels, covariances, b, t, n, covariance);
      const auto* const d = kernel_pointer(&d_out(b, t, 0));
      kernels::features_gradient<kernel_scalar<std::remove_const_t<D>>>(
          {.angles = angles_of(channels, x, entries ? covariance : nullptr, n),
           .d = d + layout.first,
           .row = d_out.stride(1),
           .d_points = d_x,
           .spare = d_covariance + block * entries,
           .scale = layout.scale,
           .d_raw = layout.raw < 0 ? nullptr : d + layout.raw,
           .d_covariances = entries ? d_covariance : nullptr});
      const bool all = !channels.has_bands();
      for (index_t r = 0; r < n; ++r) {
        for (index_t a = 0; a < dims; ++a) {
          const double slope = layout.map == point_map::logarithm ? 1 / static_cast<double>(points(b, t + r, a)) : map_slope();
          d_points(b, t + r, a) = static_cast<DP>(static_cast<compute_t<DP>>(d_x[r * dims + a] * slope));
        }
        for (index_t i = 0; entries > 0 && i < dims; ++i)
          for (index_t j = d_covariances.full ? 0 : i; j < (d_covariances.full ? dims : i + 1); ++j) {
            const double sum = all ? d_covariance[(r * dims + i) * dims + j] : i == j ? d_covariance[r * dims + i] : 0;
            d_covariances(b, t + r, i, j) = static_cast<DC>(static_cast<compute_t<DC>>(sum * map_slope() * map_slope()));
          }
      }
    });
  }
};

}  // namespace POSENC_NAMESPACE
