// SPDX-License-Identifier: MIT
/// \file  PEG, the position encoding generator: a depthwise convolution of the tokens where they stand. Chu, Tian, Zhang, Wang, Shen 2021,
/// "Conditional Positional Encodings for Vision Transformers".
#pragma once

#include <posenc/conditional/depthwise.hpp>
#include <posenc/conditional/peg_convolve.hpp>
#include <posenc/conditional/peg_grids.hpp>
#include <posenc/conditional/peg_options.hpp>
#include <posenc/conditional/peg_state.hpp>
#include <posenc/conditional/peg_sums.hpp>
#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/grid.hpp>
#include <posenc/learned/initialize.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// x += conv(x) + bias, each channel by a filter of its own over the neighbours on 1 to 3 axes: what a token adds depends on those around
/// it, and on the border, where zeros are. CPVT, Twins, CoaT, DaViT (which applies GELU first), SepViT; causal on one axis for text.
///
///     peg.add(x, posenc::grid_positions({.extents = {14, 14}, .order = posenc::grid_order::slowest_first, .prefix = 1}));
///
/// Neighbours are tokens as far apart in the sequence as their positions say. On one axis each run of consecutive positions is a grid of
/// its own: packed documents are, and a gap separates. On more axes the tokens of a row stand in row-major order of one box, axis 0
/// slowest. A token without a position (class token, padding) is left alone, and counts as zeros for its neighbours.
///
/// Sums are formed in S, bias first, then the taps in the order of the weight, and rounded once: an error of at most taps + 2 roundings of
/// the sum of magnitudes. Elements are float, double, `Eigen::half` or `Eigen::bfloat16`. In place; results do not depend on the number of
/// threads or the other rows. `add` allocates its workspace, a few lines of a grid for each thread (all of a circular grid), or takes the
/// caller's; besides that, at most a byte for each token, and some for each grid. Parameters are "weight", `[channel, 1, kernel...]` as
/// frameworks have it, and "bias". Equality compares options and values.
template <compute_scalar S>
class peg {
 public:
  using scalar = S;

  /// Zeros, which add nothing: see `initialize_peg`. \throws argument_error  for options that `peg_options` does not allow.
  explicit peg(const peg_options& options) : peg(options, zeros(weight_size(options)), zeros(bias_size(options))) {}
  /// \param weight  `[channel, 1, kernel...]` \param bias  `[channel]`; \throws argument_error  as above, and for other sizes.
  peg(const peg_options& options, std::vector<S> weight, std::vector<S> bias)
      : options_(options), weight_(std::move(weight)), bias_(std::move(bias)) {
    const index_t size = weight_size(options), dim = options.dim;
    require(static_cast<index_t>(weight_.size()) == size, name(), "the weight must have dim times kernel values", size, weight_.size());
    require(static_cast<index_t>(bias_.size()) == dim, name(), "the bias must have dim values", dim, bias_.size());
  }

  static constexpr std::string_view name() noexcept { return "peg"; }
  const peg_options& options() const noexcept { return options_; }
  index_t dim() const noexcept { return options_.dim; }
  index_t axes() const noexcept { return detail::axes_of(options_); }
  std::vector<parameter<S>> parameters() {
    std::vector<index_t> shape{options_.dim, 1};
    for (const index_t extent : options_.kernel) shape.push_back(extent);
    return {{"weight", weight_, shape}, {"bias", bias_, {options_.dim}}};
  }
  friend bool operator==(const peg& a, const peg& b) { return a.options_ == b.options_ && a.weight_ == b.weight_ && a.bias_ == b.bias_; }

  /// Values of S that `add` works in. It grows with the lines of the grids and the number of threads, not with the batch.
  /// \throws argument_error  as `add` does.
  index_t workspace_size(const positions& at, index_t batch, const executor& run = {}) const {
    const auto rows = detail::grids_of(options_, at, batch);
    return sums().workspace_size(sums().plan(detail::items_of(rows, rows, batch), run));
  }

  /// For x `[batch..., time, channel]`, in place.
  /// \throws argument_error  unless residual is on and stride 1; for other channels, time, batch or axes; for tokens that do not stand on
  /// grids as above, or not on all cells of a circular one; for a causal run that does not begin at position 0: see `stream`.
  template <writable_tensor X>
    requires writable_as<element_t<X>, S>
  void add(X&& x, const positions& at, const executor& run = {}) const {
    const auto view = batched(x);
    require_fits(view, at);
    const auto rows = detail::grids_of(options_, at, view.extent(0));
    sums().forward(detail::tensors_of(view, view), detail::items_of(rows, rows, view.extent(0)), run);
  }
  /// The same in the caller's workspace, of which at least `workspace_size` values are overwritten. \throws argument_error  for fewer.
  template <writable_tensor X>
    requires writable_as<element_t<X>, S>
  void add(X&& x, const positions& at, std::span<S> workspace, const executor& run = {}) const {
    const auto view = batched(x);
    require_fits(view, at);
    const auto rows = detail::grids_of(options_, at, view.extent(0));
    const auto items = detail::items_of(rows, rows, view.extent(0));
    const auto planned = sums().plan(items, run);
    const index_t needed = sums().workspace_size(planned);
    require(static_cast<index_t>(workspace.size()) >= needed, name(), "the workspace must have workspace_size values", needed,
            workspace.size());
    sums().forward(detail::tensors_of(view, view), items, planned, workspace.data(), run);
  }

  /// A causal `add` of the next tokens, which moves the state on: in any pieces it has the bits of all at once. The first run goes on where
  /// the state stands, or begins at position 0, as all others do. \throws argument_error  otherwise, and for a state of another shape.
  template <writable_tensor X>
    requires writable_as<element_t<X>, S>
  void stream(X&& x, const peg_state<element_t<X>>& state, const positions& at, const executor& run = {}) const {
    require(options_.padding == peg_padding::causal, name(), "only a causal encoder can stream", "another padding");
    const auto view = batched(x);
    require_fits(view, at);
    const index_t kept = options_.kernel[0] - 1;
    detail::require_state(state, token_view<element_t<X>>(view), kept);
    const auto rows = detail::grids_of(state, at);
    auto items = detail::items_of(rows, rows, view.extent(0));
    for (auto& item : items)
      item.goes_on = item.in->first == 0 && item.in->start == state.next[static_cast<std::size_t>(item.b)] && kept > 0;
    const detail::following_state<element_t<X>> following(state, rows, view, at);
    auto tensors = detail::tensors_of(view, view);
    tensors.history = state.frames.data();
    tensors.history_batch = state.frames.stride(0), tensors.history_time = state.frames.stride(1);
    sums().forward(tensors, items, run);
    following.write_to(state);
  }

  /// d: the gradient of what `add` wrote, in and out; x: the tokens before it. d_parameters are added to, channel by channel, row after row
  /// of the batch, and line after line: the same bits for any number of threads. Allocates the size of the parameters, and with GELU that
  /// of x. \throws argument_error  as `add` does, unless d and x have one shape, and unless there is one span for each parameter, of its
  /// size.
  template <writable_tensor D, readable_tensor X>
    requires(writable_as<element_t<D>, S> && stored_as<element_t<X>, element_t<D>>)
  void add_backward(D&& d, const X& x, const positions& at, gradient_spans<S> d_parameters, const executor& run = {}) const {
    const auto gradient = batched(d);
    const token_view<const element_t<D>> tokens = batched(x);
    require_fits(gradient, at);
    const auto rows = detail::grids_of(options_, at, gradient.extent(0));
    require(tokens.extents() == gradient.extents(), name(), "the gradient must have the shape of the tokens", tokens.extents(),
            gradient.extents());
    require_rows(name(), tokens);
    require(!detail::overlaps(gradient, tokens), name(), "the gradient must not overlap the tokens", gradient.extents(), tokens.extents());
    sums().require_gradients(d_parameters);
    sums().template backward<element_t<D>>(gradient, tokens, gradient, detail::items_of(rows, rows, gradient.extent(0)), d_parameters, run);
  }

  /// Tokens of a grid whose order in memory alone says where they stand: `[batch, prefix + cells + suffix, channel]`. With a stride, out
  /// has ceil(extent / stride) cells on each axis, all of which are written (PVTv2, Twins' patches); else masked cells are copied. Prefix
  /// and suffix are. Allocates the workspace. in and out may be one tensor where the stride is 1.
  /// \throws argument_error  for grids in blocks or of other axes, shapes that do not match, and a circular grid that is masked or whose
  /// extents the stride does not divide.
  template <readable_tensor In, writable_tensor Out>
    requires(writable_as<element_t<Out>, S> && stored_as<element_t<In>, element_t<Out>>)
  void convolve(const In& in, Out&& out, const grid& cells, const executor& run = {}) const {
    using T = element_t<Out>;
    detail::convolve_cells<T>(options_, sums(), batched(in), batched(out), cells, {}, run);
  }
  /// \param mask  counts masked cells as zeros; the values of prefix and suffix do not matter
  template <readable_tensor In, writable_tensor Out, cell_mask M>
    requires(writable_as<element_t<Out>, S> && stored_as<element_t<In>, element_t<Out>>)
  void convolve(const In& in, Out&& out, const grid& cells, const M& mask, const executor& run = {}) const {
    using T = element_t<Out>;
    detail::convolve_cells<T>(options_, sums(), batched(in), batched(out), cells, detail::given_mask_of(mask), run);
  }

  /// The gradient of `convolve`: d_in is written, from d_out and what `convolve` read; d_parameters are added to. d_out and d_in may be one
  /// tensor where the stride is 1.
  template <readable_tensor D, readable_tensor In, writable_tensor DIn>
    requires(writable_as<element_t<DIn>, S> && stored_as<element_t<In>, element_t<DIn>> && stored_as<element_t<D>, element_t<DIn>>)
  void convolve_backward(const D& d_out, const In& in, DIn&& d_in, const grid& cells, gradient_spans<S> d_parameters,
                         const executor& run = {}) const {
    using T = element_t<DIn>;
    detail::convolve_cells_backward<T>(options_, sums(), batched(d_out), batched(in), batched(d_in), cells, {}, d_parameters, run);
  }
  template <readable_tensor D, readable_tensor In, writable_tensor DIn, cell_mask M>
    requires(writable_as<element_t<DIn>, S> && stored_as<element_t<In>, element_t<DIn>> && stored_as<element_t<D>, element_t<DIn>>)
  void convolve_backward(const D& d_out, const In& in, DIn&& d_in, const grid& cells, const M& mask, gradient_spans<S> d_parameters,
                         const executor& run = {}) const {
    using T = element_t<DIn>;
    detail::convolve_cells_backward<T>(options_, sums(), batched(d_out), batched(in), batched(d_in), cells, detail::given_mask_of(mask),
                                       d_parameters, run);
  }

 private:
  static std::vector<S> zeros(index_t count) { return std::vector<S>(static_cast<std::size_t>(count)); }
  static index_t weight_size(const peg_options& options) {
    detail::require_options(name(), options);
    index_t size = options.dim;
    for (const index_t extent : options.kernel) size = checked_product(name(), std::array{size, extent}, sizeof(S));
    return size;
  }
  static index_t bias_size(const peg_options& options) {
    weight_size(options);  // throws where the options do not fit: arguments are evaluated in any order
    return options.dim;
  }
  detail::peg_sums<S> sums() const { return {options_, weight_, bias_}; }

  template <class T>
  void require_fits(const token_view<T>& x, const positions& at) const {
    require(options_.residual, name(), "only an encoder with residual can add", "residual = false");
    require(!sums().strided(), name(), "only an encoder of stride 1 can add", "another stride");
    require(x.extent(2) == options_.dim, name(), "channels must equal dim", index_t{options_.dim}, x.extent(2));
    require_match(name(), at, x.extent(0), x.extent(1), axes());
    require_output(name(), x);
  }

  peg_options options_;
  std::vector<S> weight_, bias_;
};

/// What Twins starts from: weights normal with deviation sqrt(2 / taps), a bias of zeros.
template <compute_scalar S>
void initialize_peg(peg<S>& encoder, random_source& random) {
  const auto all = encoder.parameters();
  const double taps = static_cast<double>(all[0].values.size()) / static_cast<double>(encoder.dim());
  initialize::normal(all[0].values, random, {.standard_deviation = std::sqrt(2 / taps)});
  std::ranges::fill(all[1].values, S(0));
}

static_assert(additive_encoder<peg<float>> && additive_encoder<peg<double>> && position_encoder<peg<float>> && trainable<peg<float>>);
static_assert(reads_embeddings<peg<float>> && !code_encoder<peg<float>> && !contextual_additive_encoder<peg<float>>);
static_assert(!rotary_encoder<peg<float>> && !bias_encoder<peg<float>>);

}  // namespace POSENC_NAMESPACE
