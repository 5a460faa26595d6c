// SPDX-License-Identifier: MIT
/// \file  PEG, the position encoding generator: a depthwise convolution of the tokens where they stand. Chu, Tian, Zhang, Wang, Shen 2021,
/// "Conditional Positional Encodings for Vision Transformers".
#pragma once

#include <posenc/conditional/depthwise.hpp>
#include <posenc/conditional/peg_options.hpp>
#include <posenc/conditional/token_grid.hpp>
#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/grid.hpp>
#include <posenc/kernels/gelu.hpp>
#include <posenc/learned/initialize.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// What a causal PEG keeps of the tokens so far, in the caller's memory: the last kernel - 1 of them, and the position of the next one.
/// Zeros in both are the beginning.
template <storage_scalar T>
struct peg_state {
  token_view<T> frames;      ///< `[batch, kernel - 1, channel]`, the last token last
  std::span<position> next;  ///< `[batch]`
};

/// Which cells of a grid are real, `[batch, time]` or `[batch, cells]`: not 0 where they are.
template <class M>
concept cell_mask = stored_tensor<M> && std::integral<std::remove_const_t<element_t<M>>> && rank_of<M> == 2;

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
  index_t axes() const noexcept { return static_cast<index_t>(std::vector<index_t>(options_.kernel).size()); }
  std::vector<parameter<S>> parameters() {
    std::vector<index_t> shape{options_.dim, 1};
    for (const index_t extent : std::vector<index_t>(options_.kernel)) shape.push_back(extent);
    return {{"weight", weight_, shape}, {"bias", bias_, {options_.dim}}};
  }
  friend bool operator==(const peg& a, const peg& b) { return a.options_ == b.options_ && a.weight_ == b.weight_ && a.bias_ == b.bias_; }

  /// Values of S that `add` works in. It grows with the lines of the grids and the number of threads, not with the batch.
  /// \throws argument_error  as `add` does.
  index_t workspace_size(const positions& at, index_t batch, const executor& run = {}) const {
    const auto rows = grids_of(at, batch);
    return packed_size() + workspace_of(plan(items_of(rows, rows, batch), run));
  }

  /// For x `[batch..., time, channel]`, in place.
  /// \throws argument_error  unless residual is on and stride 1; for other channels, time, batch or axes; for tokens that do not stand on
  /// grids as above, or not on all cells of a circular one; for a causal run that does not begin at position 0: see `stream`.
  template <writable_tensor X>
    requires writable_as<element_t<X>, S>
  void add(X&& x, const positions& at, const executor& run = {}) const {
    const auto view = batched(x);
    const auto rows = checked_grids(view, at);
    const auto items = items_of(rows, rows, view.extent(0));
    const auto planned = plan(items, run);
    std::vector<S> workspace(static_cast<std::size_t>(packed_size() + workspace_of(planned)));
    forward(detail::tensors_of(view, view), items, planned, workspace.data(), run);
  }
  /// The same in the caller's workspace, of which at least `workspace_size` values are overwritten. \throws argument_error  for fewer.
  template <writable_tensor X>
    requires writable_as<element_t<X>, S>
  void add(X&& x, const positions& at, std::span<S> workspace, const executor& run = {}) const {
    const auto view = batched(x);
    const auto rows = checked_grids(view, at);
    const auto items = items_of(rows, rows, view.extent(0));
    const auto planned = plan(items, run);
    const index_t needed = packed_size() + workspace_of(planned);
    require(static_cast<index_t>(workspace.size()) >= needed, name(), "the workspace must have workspace_size values", needed,
            workspace.size());
    forward(detail::tensors_of(view, view), items, planned, workspace.data(), run);
  }

  /// A causal `add` of the next tokens, which moves the state on: in any pieces it has the bits of all at once. The first run goes on where
  /// the state stands, or begins at position 0, as all others do. \throws argument_error  otherwise, and for a state of another shape.
  template <writable_tensor X>
    requires writable_as<element_t<X>, S>
  void stream(X&& x, const peg_state<element_t<X>>& state, const positions& at, const executor& run = {}) const {
    using T = element_t<X>;
    require_adds();
    require(options_.padding == peg_padding::causal, name(), "only a causal encoder can stream", "another padding");
    const auto view = batched(x);
    require_fits(view, at);
    const index_t batch = view.extent(0), time = view.extent(1), kept = std::vector<index_t>(options_.kernel)[0] - 1, dim = options_.dim;
    const std::array<index_t, 3> shape{batch, kept, dim};
    require(state.frames.extents() == shape, name(), "the state must be [batch, kernel - 1, dim]", shape, state.frames.extents());
    require_output(name(), state.frames);
    require(!overlaps_partly(state.frames, token_view<T>(view)), name(), "the state must not overlap the tokens", shape, view.extents());
    require(static_cast<index_t>(state.next.size()) == batch, name(), "the state must have one next position per row", batch,
            state.next.size());
    grids rows;
    for (index_t b = 0; b < batch; ++b) {
      const position next = state.next[static_cast<std::size_t>(b)];
      rows.push_back(detail::token_runs(at, b, next == 0 ? no_position : next));
      for (const auto& one : rows.back()) require_begins(one, one.first == 0 ? next : 0);
    }
    auto items = items_of(rows, rows, batch);
    for (auto& item : items)
      item.goes_on = item.in->first == 0 && item.in->start == state.next[static_cast<std::size_t>(item.b)] && kept > 0;

    std::vector<T> frames(static_cast<std::size_t>(batch * kept * dim), T(0));
    std::vector<position> next(state.next.begin(), state.next.end());
    for (index_t b = 0; b < batch; ++b) {
      const auto& runs = rows[static_cast<std::size_t>(b)];
      position& then = next[static_cast<std::size_t>(b)];
      const index_t first = runs.empty() ? 0 : runs.back().first;
      const bool goes_on = first == 0 && (runs.empty() || runs.back().start == then);
      if (runs.empty() && then == 0) continue;  // nothing has begun
      for (index_t n = 0; n < kept; ++n) {
        const index_t t = time - kept + n;
        T* const to = frames.data() + (b * kept + n) * dim;
        if (t < 0 && goes_on) std::copy_n(&state.frames(b, kept + t, 0), dim, to);
        else if (t >= first && at(b, t) != no_position) std::copy_n(&view(b, t, 0), dim, to);
      }
      then = (runs.empty() ? then : runs.back().start) + (time - first);
    }
    auto tensors = detail::tensors_of(view, view);
    tensors.history = state.frames.data();
    tensors.history_batch = state.frames.stride(0), tensors.history_time = state.frames.stride(1);
    const auto planned = plan(items, run);
    std::vector<S> workspace(static_cast<std::size_t>(packed_size() + workspace_of(planned)));
    forward(tensors, items, planned, workspace.data(), run);
    for (index_t b = 0; b < batch; ++b)
      for (index_t n = 0; n < kept; ++n) std::copy_n(frames.data() + (b * kept + n) * dim, dim, &state.frames(b, n, 0));
    std::ranges::copy(next, state.next.begin());
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
    const auto rows = checked_grids(gradient, at);
    require(tokens.extents() == gradient.extents(), name(), "the gradient must have the shape of the tokens", tokens.extents(),
            gradient.extents());
    require_rows(name(), tokens);
    require(!overlaps(gradient, tokens), name(), "the gradient must not overlap the tokens", gradient.extents(), tokens.extents());
    require_gradients(d_parameters);
    backward<element_t<D>>(gradient, tokens, gradient, items_of(rows, rows, gradient.extent(0)), d_parameters, run);
  }

  /// Tokens of a grid whose order in memory alone says where they stand: `[batch, prefix + cells + suffix, channel]`. With a stride, out
  /// has ceil(extent / stride) cells on each axis, all of which are written (PVTv2, Twins' patches); else masked cells are copied. Prefix
  /// and suffix are. Allocates the workspace. in and out may be one tensor where the stride is 1.
  /// \throws argument_error  for grids in blocks or of other axes, shapes that do not match, and a circular grid that is masked or whose
  /// extents the stride does not divide.
  template <readable_tensor In, writable_tensor Out>
    requires(writable_as<element_t<Out>, S> && stored_as<element_t<In>, element_t<Out>>)
  void convolve(const In& in, Out&& out, const grid& cells, const executor& run = {}) const {
    convolve_to(token_view<const element_t<Out>>(batched(in)), batched(out), cells, {}, run);
  }
  /// \param mask  counts masked cells as zeros; the values of prefix and suffix do not matter
  template <readable_tensor In, writable_tensor Out, cell_mask M>
    requires(writable_as<element_t<Out>, S> && stored_as<element_t<In>, element_t<Out>>)
  void convolve(const In& in, Out&& out, const grid& cells, const M& mask, const executor& run = {}) const {
    convolve_to(token_view<const element_t<Out>>(batched(in)), batched(out), cells, cell_masks(mask), run);
  }

  /// The gradient of `convolve`: d_in is written, from d_out and what `convolve` read; d_parameters are added to. d_out and d_in may be one
  /// tensor where the stride is 1.
  template <readable_tensor D, readable_tensor In, writable_tensor DIn>
    requires(writable_as<element_t<DIn>, S> && stored_as<element_t<In>, element_t<DIn>> && stored_as<element_t<D>, element_t<DIn>>)
  void convolve_backward(const D& d_out, const In& in, DIn&& d_in, const grid& cells, gradient_spans<S> d_parameters,
                         const executor& run = {}) const {
    using T = element_t<DIn>;
    convolve_backward_to<T>(batched(d_out), batched(in), batched(d_in), cells, {}, d_parameters, run);
  }
  template <readable_tensor D, readable_tensor In, writable_tensor DIn, cell_mask M>
    requires(writable_as<element_t<DIn>, S> && stored_as<element_t<In>, element_t<DIn>> && stored_as<element_t<D>, element_t<DIn>>)
  void convolve_backward(const D& d_out, const In& in, DIn&& d_in, const grid& cells, const M& mask, gradient_spans<S> d_parameters,
                         const executor& run = {}) const {
    using T = element_t<DIn>;
    convolve_backward_to<T>(batched(d_out), batched(in), batched(d_in), cells, cell_masks(mask), d_parameters, run);
  }

 private:
  using grids = std::vector<std::vector<detail::token_grid>>;  ///< of each row, or one for all
  struct masks {
    std::array<index_t, 2> extents{};
    std::vector<std::uint8_t> values{};  ///< empty: none given
    bool given = false;
  };

  static std::vector<S> zeros(index_t count) { return std::vector<S>(static_cast<std::size_t>(count)); }
  static index_t weight_size(const peg_options& options) {
    detail::require_options(name(), options);
    index_t size = options.dim;
    for (const index_t extent : std::vector<index_t>(options.kernel)) size = checked_product(name(), std::array{size, extent}, sizeof(S));
    return size;
  }
  static index_t bias_size(const peg_options& options) {
    weight_size(options);  // throws where the options do not fit: arguments are evaluated in any order
    return options.dim;
  }
  bool strided() const {
    return std::ranges::any_of(options_.stride, [](index_t step) { return step != 1; });
  }
  index_t packed_size() const { return static_cast<index_t>(weight_.size()); }
  static index_t workspace_of(const detail::depthwise_plan& planned) { return planned.parts * planned.workspace; }

  detail::depthwise_filter filter() const {
    detail::depthwise_filter made{.circular = options_.padding == peg_padding::circular};
    const std::vector<index_t> kernel = options_.kernel;
    const std::size_t unused = 3 - kernel.size();
    for (std::size_t axis = 0; axis < kernel.size(); ++axis) {
      made.kernel[unused + axis] = kernel[axis];
      made.before[unused + axis] = options_.padding == peg_padding::causal ? kernel[axis] - 1 : kernel[axis] / 2;
      if (!options_.stride.empty()) made.step[unused + axis] = options_.stride[axis];
    }
    return made;
  }
  detail::depthwise_plan plan(std::span<const detail::depthwise_item> items, const executor& run) const {
    return detail::plan_depthwise<S>(items, filter(), options_.dim, run);
  }
  /// `[tap, channel]`, as kernels read it; for gradients with the taps in reverse order.
  void pack(S* to, bool reversed) const {
    const index_t dim = options_.dim, taps = filter().taps();
    for (index_t channel = 0; channel < dim; ++channel)
      for (index_t tap = 0; tap < taps; ++tap)
        to[(reversed ? taps - 1 - tap : tap) * dim + channel] = weight_[static_cast<std::size_t>(channel * taps + tap)];
  }

  void require_adds() const {
    require(options_.residual, name(), "only an encoder with residual can add", "residual = false");
    require(!strided(), name(), "only an encoder of stride 1 can add", "another stride");
  }
  template <class T>
  void require_fits(const token_view<T>& x, const positions& at) const {
    require(x.extent(2) == options_.dim, name(), "channels must equal dim", index_t{options_.dim}, x.extent(2));
    require_match(name(), at, x.extent(0), x.extent(1), axes());
    require_output(name(), x);
  }
  template <class T>
  grids checked_grids(const token_view<T>& x, const positions& at) const {
    require_adds();
    require_fits(x, at);
    return grids_of(at, x.extent(0));
  }
  static void require_begins(const detail::token_grid& run, position next) {
    require(run.start == 0 || run.start == next, name(), "a causal run must begin at position 0, or where the state of a stream ends",
            run.start, next);
  }
  grids grids_of(const positions& at, index_t batch) const {
    require(at.axes() == axes(), name(), "the positions must have as many axes as the encoder", axes(), at.axes());
    require(at.batch() == 0 || at.batch() == batch, name(), "batch must match the positions", batch, at.batch());
    grids rows;
    for (index_t b = 0; b < (at.batch() == 0 ? std::min<index_t>(batch, 1) : batch); ++b) {
      rows.push_back(axes() == 1 ? detail::token_runs(at, b) : detail::token_box(name(), at, b));
      for (const auto& one : rows.back()) {
        if (options_.padding == peg_padding::causal) require_begins(one, 0);
        require_whole(one);
      }
    }
    return rows;
  }
  void require_whole(const detail::token_grid& cells) const {
    require(options_.padding != peg_padding::circular || cells.mask.empty(), name(), "a circular grid must have a token on every cell",
            cells.extents);
  }
  grids grids_of(const grid& cells, const masks& mask, index_t batch, index_t time) const {
    detail::require_grid(name(), cells);
    require(static_cast<index_t>(cells.extents.size()) == axes(), name(), "the grid must have as many axes as the encoder", axes(),
            cells.extents.size());
    for (const index_t block : cells.block) require(block == 1, name(), "the cells must not stand in blocks", block);
    const index_t count = detail::cells_of(name(), cells), ends = cells.prefix + cells.suffix;
    require(time - ends == count, name(), "prefix, cells and suffix must add up to time", time, ends + count);
    if (mask.given)
      require(mask.extents[0] == batch && (mask.extents[1] == time || mask.extents[1] == count), name(),
              "the mask must be [batch, time] or [batch, cells]", mask.extents, batch, time, count);
    grids rows;
    for (index_t b = 0; b < (mask.given ? batch : std::min<index_t>(batch, 1)); ++b) {
      rows.emplace_back();
      if (count == 0) continue;
      detail::token_grid one{.first = cells.prefix};
      const std::size_t unused = 3 - cells.extents.size();
      std::ranges::copy(cells.extents, one.extents.begin() + static_cast<std::ptrdiff_t>(unused));
      one.strides = {one.extents[1] * one.extents[2], one.extents[2], 1};
      if (mask.given) {
        const index_t first = b * mask.extents[1] + (mask.extents[1] == time ? 0 : -cells.prefix);
        detail::mask_cells(one, [&](index_t t) { return mask.values[static_cast<std::size_t>(first + t)] != 0; });
      }
      require_whole(one);
      if (options_.padding == peg_padding::circular)
        for (std::size_t axis = 0; axis < 3; ++axis)
          require(one.extents[axis] % filter().step[axis] == 0, name(), "the stride must divide the extents of a circular grid",
                  one.extents[axis], filter().step[axis]);
      rows.back().push_back(std::move(one));
    }
    return rows;
  }
  /// Where the outputs stand, with a stride.
  grids outputs_of(const grids& rows) const {
    grids made = rows;
    for (auto& row : made)
      for (auto& one : row) {
        for (std::size_t axis = 0; axis < 3; ++axis) one.extents[axis] = (one.extents[axis] - 1) / filter().step[axis] + 1;
        one.strides = {one.extents[1] * one.extents[2], one.extents[2], 1};
        one.mask.clear();
      }
    return made;
  }
  static std::vector<detail::depthwise_item> items_of(const grids& in, const grids& out, index_t batch) {
    std::vector<detail::depthwise_item> items;
    for (index_t b = 0; b < batch; ++b) {
      const std::size_t row = in.size() == 1 ? 0 : static_cast<std::size_t>(b);
      for (std::size_t n = 0; n < in[row].size(); ++n) items.push_back({b, &in[row][n], &out[row][n]});
    }
    return items;
  }
  template <class M>
  static masks cell_masks(const M& mask) {
    const auto view = view_of(mask);
    masks made{.extents = view.extents(), .given = true};
    for (const auto value : detail::flat(view)) made.values.push_back(value ? 1 : 0);
    return made;
  }
  template <class A, class B>
  static bool overlaps(const token_view<A>& a, const token_view<B>& b) {
    return overlaps_partly(a, b) || (!a.empty() && static_cast<const void*>(a.data()) == static_cast<const void*>(b.data()));
  }
  void require_gradients(gradient_spans<S> d_parameters) const {
    require(d_parameters.size() == 2, name(), "there must be one gradient span per parameter", 2, d_parameters.size());
    require(d_parameters[0].size() == weight_.size(), name(), "the gradient must have the size of the weight", weight_.size(),
            d_parameters[0].size());
    require(d_parameters[1].size() == bias_.size(), name(), "the gradient must have the size of the bias", bias_.size(),
            d_parameters[1].size());
  }

  template <class Tensors>
  void forward(const Tensors& x, std::span<const detail::depthwise_item> items, const detail::depthwise_plan& planned, S* workspace,
               const executor& run) const {
    pack(workspace, false);
    detail::run_depthwise<std::remove_pointer_t<decltype(x.out)>, S>(
        x, items, filter(), {workspace, bias_.data(), options_.residual, options_.activation == peg_activation::gelu}, options_.dim,
        planned, workspace + packed_size(), run);
  }

  template <class A, class B>
  void require_shapes(const token_view<A>& in, const token_view<B>& out, const grids& rows, const grids& written) const {
    const index_t time = in.extent(1), dim = options_.dim;
    index_t changed = 0;  // how many cells fewer
    if (!rows.empty() && !rows[0].empty()) changed = rows[0][0].cells() - written[0][0].cells();
    require(in.extent(2) == dim, name(), "channels must equal dim", dim, in.extent(2));
    const std::array<index_t, 3> shape{in.extent(0), time - changed, dim};
    require(out.extents() == shape, name(), "the output must have the strided grid's shape", shape, out.extents());
    require_rows(name(), in);
  }
  template <class T>
  static void copy_tokens(const token_view<const T>& from, index_t t, const token_view<T>& to, index_t then, index_t count) {
    for (index_t b = 0; b < to.extent(0); ++b)
      for (index_t n = 0; n < count && to.extent(2) > 0; ++n) std::copy_n(&from(b, t + n, 0), to.extent(2), &to(b, then + n, 0));
  }
  /// What is not computed of an output: all of it where masked cells are kept, and what the sums are added to.
  template <class T>
  void copy_kept(const token_view<const T>& from, const token_view<T>& to, const grid& cells) const {
    if (from.data() == to.data()) return;
    if (!strided()) return copy_tokens(from, 0, to, 0, to.extent(1));
    copy_tokens(from, 0, to, 0, cells.prefix);
    copy_tokens(from, from.extent(1) - cells.suffix, to, to.extent(1) - cells.suffix, cells.suffix);
  }
  template <class T>
  void convolve_to(const token_view<const T>& in, const token_view<T>& out, const grid& cells, const masks& mask,
                   const executor& run) const {
    const auto rows = grids_of(cells, mask, in.extent(0), in.extent(1));
    const auto written = strided() ? outputs_of(rows) : rows;
    require_shapes(in, out, rows, written);
    require_output(name(), out);
    require(strided() ? !overlaps(in, out) : !overlaps_partly(in, out), name(), "input and output must be one view or not overlap",
            in.extents(), out.extents());
    copy_kept(in, out, cells);
    const auto items = items_of(rows, written, in.extent(0));
    const auto planned = plan(items, run);
    std::vector<S> workspace(static_cast<std::size_t>(packed_size() + workspace_of(planned)));
    forward(detail::tensors_of(in, out), items, planned, workspace.data(), run);
  }
  template <class T>
  void convolve_backward_to(const token_view<const T>& d_out, const token_view<const T>& in, const token_view<T>& d_in, const grid& cells,
                            const masks& mask, gradient_spans<S> d_parameters, const executor& run) const {
    const auto rows = grids_of(cells, mask, in.extent(0), in.extent(1));
    const auto written = strided() ? outputs_of(rows) : rows;
    require_shapes(in, d_out, rows, written);
    require_rows(name(), d_out);
    require_output(name(), d_in);
    require(d_in.extents() == in.extents(), name(), "the gradient must have the shape of the tokens", in.extents(), d_in.extents());
    require(!overlaps(d_in, in) && (strided() ? !overlaps(d_out, d_in) : !overlaps_partly(d_out, d_in)), name(),
            "input and output must be one view or not overlap", in.extents(), d_in.extents());
    require_gradients(d_parameters);
    if (strided())
      for (index_t b = 0; b < d_in.extent(0); ++b)
        for (index_t t = 0; t < d_in.extent(1) && d_in.extent(2) > 0; ++t) std::fill_n(&d_in(b, t, 0), d_in.extent(2), T(0));
    copy_kept(d_out, d_in, cells);
    backward<T>(strided() ? d_out : token_view<const T>(d_in), in, d_in, items_of(rows, written, in.extent(0)), d_parameters, run);
  }

  /// d_in: holds d_out where sums are added to it, and what is kept.
  template <class T>
  void backward(const token_view<const T>& d_out, const token_view<const T>& in, const token_view<T>& d_in,
                const std::vector<detail::depthwise_item>& items, gradient_spans<S> d_parameters, const executor& run) const {
    if (in.empty()) return;
    const bool activates = options_.activation == peg_activation::gelu;
    const index_t dim = options_.dim;
    if constexpr (!std::same_as<T, S>) {
      if (activates) return backward_widened(d_out, in, d_in, items, d_parameters, run);
    }
    auto d_conv = d_out;
    std::vector<S> own;
    if constexpr (std::same_as<T, S>) {
      if (activates) {
        own = zeros(checked_product(name(), d_out.extents(), sizeof(S)));
        const token_view<S> sums(own.data(), d_out.extents());
        activation_gradient(d_out, in, sums, items, run);
        d_conv = sums;
      }
    }
    std::vector<S> packed = zeros(packed_size());
    detail::run_depthwise_weight_gradient<T, S>(detail::tensors_of(in, d_conv), items, filter(), packed.data(), d_parameters[1].data(), dim,
                                                run);
    const index_t taps = filter().taps();
    for (index_t channel = 0; channel < dim; ++channel)
      for (index_t tap = 0; tap < taps; ++tap)
        d_parameters[0][static_cast<std::size_t>(channel * taps + tap)] += packed[static_cast<std::size_t>(tap * dim + channel)];

    auto turned = items;
    for (auto& item : turned) std::swap(item.in, item.out);
    const auto planned = detail::plan_depthwise<S>(turned, filter().transposed(), dim, run);
    pack(packed.data(), true);
    std::vector<S> workspace = zeros(workspace_of(planned));
    detail::run_depthwise<T, S>(detail::tensors_of(d_conv, d_in), turned, filter().transposed(),
                                {packed.data(), nullptr, options_.residual, false}, dim, planned, workspace.data(), run);
  }
  /// sums = d_out * gelu'(conv(in) + bias).
  void activation_gradient(const token_view<const S>& d_out, const token_view<const S>& in, const token_view<S>& sums,
                           const std::vector<detail::depthwise_item>& items, const executor& run) const {
    const auto planned = plan(items, run);
    std::vector<S> workspace = zeros(packed_size() + workspace_of(planned));
    pack(workspace.data(), false);
    detail::run_depthwise<S, S>(detail::tensors_of(in, sums), items, filter(), {workspace.data(), bias_.data(), false, false}, options_.dim,
                                planned, workspace.data() + packed_size(), run);
    for (index_t b = 0; b < sums.extent(0); ++b)
      kernels::gelu_gradient<S, S>({.in = &sums(b, 0, 0),
                                    .d_out = &d_out(b, 0, 0),
                                    .d_in = &sums(b, 0, 0),
                                    .rows = sums.extent(1),
                                    .channels = sums.extent(2),
                                    .in_row = sums.stride(1),
                                    .d_out_row = d_out.stride(1),
                                    .d_in_row = sums.stride(1)});
  }
  /// All in S, so that the gradient is rounded once.
  template <class T>
  void backward_widened(const token_view<const T>& d_out, const token_view<const T>& in, const token_view<T>& d_in,
                        const std::vector<detail::depthwise_item>& items, gradient_spans<S> d_parameters, const executor& run) const {
    const auto widened = [](const token_view<const T>& from) {
      std::vector<S> all;
      for (index_t b = 0; b < from.extent(0); ++b)
        for (index_t t = 0; t < from.extent(1); ++t)
          for (index_t c = 0; c < from.extent(2); ++c) all.push_back(static_cast<S>(from(b, t, c)));
      return all;
    };
    const std::vector<S> x = widened(in), d = widened(d_out);
    std::vector<S> result = widened(d_in);
    const token_view<S> to(result.data(), d_in.extents());
    const bool in_place = d_out.data() == d_in.data();
    backward<S>(in_place ? token_view<const S>(to) : token_view<const S>(d.data(), d_out.extents()),
                token_view<const S>(x.data(), in.extents()), to, items, d_parameters, run);
    for (index_t b = 0; b < d_in.extent(0); ++b)
      for (index_t t = 0; t < d_in.extent(1); ++t)
        for (index_t c = 0; c < d_in.extent(2); ++c) d_in(b, t, c) = static_cast<T>(to(b, t, c));
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
