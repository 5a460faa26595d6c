// SPDX-License-Identifier: MIT
/// \file  Sinusoidal position encoding: sin(p w_k) and cos(p w_k), added to embeddings. Vaswani et al. 2017, "Attention Is All You Need".
#pragma once

#include <posenc/concepts.hpp>       // additive_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>          // require
#include <posenc/executor.hpp>
#include <posenc/frequencies.hpp>
#include <posenc/kernels/add.hpp>
#include <posenc/kernels/phase.hpp>
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// Where the sine and the cosine of frequency k stand.
enum class channel_order {
  interleaved,  ///< channels 2k and 2k + 1: the paper, Annotated Transformer, keras-hub
  sin_cos,      ///< all sines, then all cosines: tensor2tensor, fairseq, Whisper, Marian
  cos_sin       ///< all cosines, then all sines: guided diffusion, ggml
};

/// How the frequencies fall from 1 towards 1 / base. With h = dim / 2, rounded up:
enum class exponent_rule {
  vaswani,       ///< w_k = base^(-2k / dim): the paper
  tensor2tensor  ///< w_k = base^(-k / (h - 1)), the last one exactly 1 / base: tensor2tensor, fairseq, Whisper
};

/// What happens to the channel that an odd dim leaves without a partner.
enum class odd_dim {
  refuse,     ///< an odd dim is an argument_error
  drop_last,  ///< the last frequency has a sine alone (with cos_sin a cosine), exponents over dim: the paper's formula taken literally,
              ///< Marian
  round_up,   ///< the code of dim + 1 without its last channel: multidim-positional-encoding
  zero_last   ///< the code of dim - 1 and a channel of zeros: tensor2tensor, fairseq
};

struct sinusoidal_options {
  required<index_t> dim;                  ///< channels
  required<channel_order> order;
  required<posenc::exponent_rule> exponent_rule;
  double base = 10000;
  position start = 0;                     ///< added to every position: 1 for systems that count from one
  double scale = 1;                       ///< multiplies the code
  posenc::odd_dim odd_dim = odd_dim::refuse;

  friend bool operator==(const sinusoidal_options&, const sinusoidal_options&) = default;
};

/// Codes are within 3.1e-8 (float) and 2.3e-16 (double) of the truth at every position in [-2^31, 2^31] for scale 1; the scale is applied
/// in double, before the one rounding. A position has the same code whichever way it is asked for, at every instruction set.
///
/// Every verb checks shapes first and throws `argument_error` before it writes. A token without a position gets a code of zeros. Const
/// members may run in any number of threads at once.
template <compute_scalar S>
class sinusoidal {
 public:
  using scalar = S;

  /// \throws argument_error  unless dim is positive (and even, unless `odd_dim` says what to do), base positive and finite, scale finite.
  explicit sinusoidal(const sinusoidal_options& options) : options_(options), speeds_(check(options)) {}

  static constexpr std::string_view name() noexcept { return "sinusoidal"; }
  const sinusoidal_options& options() const noexcept { return options_; }
  index_t dim() const noexcept { return options_.dim; }
  /// The frequencies that came out, exact and in radians.
  const frequencies& inspect() const noexcept { return speeds_; }

  /// The checks of `add` in place, alone: \throws argument_error  where it would.
  template <class T>
    requires writable_as<T, S>
  void require_fits(const token_view<T>& x, const positions& at) const {
    check_shape(x, at);
    require_output(name(), x);
  }

  /// Writes the codes of `at` to out `[batch..., time, channel]`. Allocates only for an odd dim: a row for each part of a split.
  template <writable_tensor T>
    requires writable_as<element_t<T>, S>
  void encode(const positions& at, T&& out, const executor& run = {}) const {
    const auto to = batched(out);
    check_shape(to, at);
    require_output(name(), to);
    if (to.empty()) return;
    const index_t rows = to.extent(0) * to.extent(1), parts = run.parts(rows, cost_of_codes(rows));
    auto spare = rows_of_an_odd_dim<element_t<T>>(parts);
    run.split(rows, parts, [&](index_t part, index_t from, index_t end) {
      detail::for_each_block(from, end, to.extent(1), [&](index_t b, index_t batch, index_t t, index_t time) {
        for (const index_t last = b + batch; b < last; ++b) write(at.row(b).from(t), time, &to(b, t, 0), to.stride(1), spare.of(part));
      });
    });
  }

  /// x += code, in place, for x `[batch..., time, channel]`. Allocates at most 32 KB, or one row, for each part of a
  /// split.
  template <writable_tensor X>
    requires writable_as<element_t<X>, S>
  void add(X&& x, const positions& at, const executor& run = {}) const {
    const auto view = batched(x);
    add_to(view, view, {}, at, run);
  }
  /// out = in + code. They may be one tensor, but not overlap in part.
  template <readable_tensor In, writable_tensor Out>
    requires(writable_as<element_t<Out>, S> && stored_as<element_t<In>, element_t<Out>>)
  void add(const In& in, Out&& out, const positions& at, const executor& run = {}) const {
    const auto from = batched(in);
    const auto to = batched(out);
    require(from.extents() == to.extents(), name(), "the output must have the input's shape", from.extents(), to.extents());
    add_to(from, to, {}, at, run);
  }
  /// The same into chosen rows: token (b, t) goes to row `rows[b * time + t]` of out `[row, channel]`; `no_row` skips it.
  /// \throws argument_error  for a row outside the output.
  template <readable_tensor In, writable_tensor Out>
    requires(rank_of<Out> == 2 && writable_as<element_t<Out>, S> && stored_as<element_t<In>, element_t<Out>>)
  void add(const In& in, Out&& out, std::span<const index_t> rows, const positions& at, const executor& run = {}) const {
    const auto from = batched(in);
    const auto to = batched(out);
    require(to.extent(2) == from.extent(2), name(), "the output must have the input's channels", from.extent(2), to.extent(2));
    require_destinations(name(), rows, from.extent(0), from.extent(1), to.extent(1));
    require(from.empty() || from.data() != to.data(), name(), "the input must not overlap the rows", from.extents(), to.extents());
    add_to(from, to, rows, at, run);
  }

  friend bool operator==(const sinusoidal& a, const sinusoidal& b) { return a.options_ == b.options_; }

 private:
  static frequencies check(const sinusoidal_options& options) {
    const index_t dim = options.dim;
    require(dim > 0, name(), "dim must be positive", dim);
    require(dim % 2 == 0 || options.odd_dim != odd_dim::refuse, name(), "dim must be even", dim);
    require(std::isfinite(options.scale), name(), "scale must be finite", options.scale);
    constexpr position limit = position{1} << 61;  // so that no sum with a position overflows, or means "no position"
    require(options.start >= -limit && options.start <= limit, name(), "start must lie in [-2^61, 2^61]", options.start);
    const index_t whole = options.odd_dim == odd_dim::round_up    ? dim + dim % 2
                          : options.odd_dim == odd_dim::zero_last ? dim - dim % 2
                                                                  : dim;
    if (whole == 0) return {};  // one channel of zeros
    if (options.exponent_rule == exponent_rule::vaswani) return frequencies::plain(name(), whole, options.base);
    return frequencies::inclusive(name(), whole / 2 + whole % 2, options.base);
  }

  template <class T>
  void check_shape(const token_view<T>& x, const positions& at) const {
    require(x.extent(2) == options_.dim, name(), "channels must equal dim", static_cast<index_t>(options_.dim), x.extent(2));
    require_match(name(), at, x.extent(0), x.extent(1));
    require_rows(name(), x);
  }

  double cost_of_codes(index_t rows) const {
    return detail::nanoseconds_per_angle * static_cast<double>(rows) * static_cast<double>(speeds_.count());
  }

  /// Codes of whole pairs, for each part of a split, where dim has an odd channel: one channel more or less than the output.
  template <class T>
  struct spare_rows {
    std::vector<T> values;
    index_t width;
    T* of(index_t part) { return values.data() + part * width; }
  };
  template <class T>
  spare_rows<T> rows_of_an_odd_dim(index_t parts) const {
    const index_t width = 2 * speeds_.count() == options_.dim ? 0 : 2 * speeds_.count() + 1;
    return {std::vector<T>(static_cast<std::size_t>(parts * width)), width};
  }

  /// The codes of the first `count` tokens.
  template <class T>
  void write(position_row ids, index_t count, T* out, index_t stride, T* spare) const {
    const index_t dim = options_.dim, pairs = speeds_.count();
    if (2 * pairs == dim) return write_pairs(ids, count, out, stride);
    std::fill_n(spare, 2 * pairs + 1, T(0));
    for (index_t t = 0; t < count; ++t) {
      if (pairs > 0) write_pairs(ids.from(t), 1, spare, 2 * pairs);
      std::ranges::copy_n(spare, dim, out + t * stride);
    }
  }
  template <class T>
  void write_pairs(position_row ids, index_t count, T* first, index_t stride) const {
    auto* out = kernel_pointer(first);
    const index_t pairs = speeds_.count();
    const bool interleaved = options_.order == channel_order::interleaved, cosine_first = options_.order == channel_order::cos_sin;
    const index_t second = interleaved ? 1 : pairs;
    kernels::phase_call<kernel_scalar<T>> call{.high = speeds_.high(),
                                               .low = speeds_.low(),
                                               .pairs = pairs,
                                               .ids = ids.ids,
                                               .first = ids.first + options_.start,
                                               .rows = count,
                                               .cosine = out + (cosine_first ? 0 : second),
                                               .sine = out + (cosine_first ? second : 0),
                                               .row = stride,
                                               .interleaved = interleaved,
                                               .scale = options_.scale,
                                               .absent_cosine = S(0)};
    if (!ids.ids || options_.start == 0) return kernels::phase(call);
    for (index_t t = 0; t < count; ++t, call.cosine += stride, call.sine += stride) {
      const position moved = ids[t] == no_position ? no_position : ids[t] + options_.start;
      call.ids = &moved, call.rows = 1;
      kernels::phase(call);
    }
  }

  template <class In, class Out>
  void add_to(const token_view<In>& in, const token_view<Out>& out, std::span<const index_t> rows, const positions& at,
              const executor& run) const {
    check_shape(in, at);
    require_output(name(), out);
    require(!overlaps_partly(in, out), name(), "input and output must be one view or not overlap", in.extents(), out.extents());
    if (in.empty()) return;
    // Blocks that stay in the first cache, so that a code is formed once for all rows that share it.
    const index_t dim = options_.dim, batch = in.extent(0), time = in.extent(1);
    const index_t together = at.batch() == 0 && rows.empty() ? batch : 1, count = batch / together * time;
    const double values = static_cast<double>(count * together) * static_cast<double>(dim);
    const index_t parts = run.parts(count, cost_of_codes(count) + detail::nanoseconds_per_value<std::remove_const_t<In>> * values);
    const index_t block = std::clamp<index_t>(16384 / (dim * static_cast<index_t>(sizeof(S))), 1, time);
    std::vector<S> codes(static_cast<std::size_t>(parts * block * dim));
    auto spare = rows_of_an_odd_dim<S>(parts);
    run.split(count, parts, [&](index_t part, index_t from, index_t to) {
      S* const own = codes.data() + part * block * dim;
      for (index_t n; from < to; from += n) {
        const index_t b = from / time, t = from % time;
        n = std::min({block, time - t, to - from});
        write(at.row(b).from(t), n, own, dim, spare.of(part));
        kernels::add<kernel_scalar<Out>>({.in = kernel_pointer(in.data()) + b * in.stride(0) + t * in.stride(1),
                                          .out = kernel_pointer(out.data()) + (rows.empty() ? b * out.stride(0) + t * out.stride(1) : 0),
                                          .table = own,
                                          .batch = together,
                                          .time = n,
                                          .channels = dim,
                                          .in_batch = in.stride(0),
                                          .in_time = in.stride(1),
                                          .out_batch = out.stride(0),
                                          .out_time = out.stride(1),
                                          .table_batch = 0,
                                          .table_time = dim,
                                          .rows = rows.empty() ? nullptr : rows.data() + b * time + t,
                                          .streaming = run.streams()});
      }
    });
  }

  sinusoidal_options options_;
  frequencies speeds_;
};

static_assert(additive_encoder<sinusoidal<float>> && additive_encoder<sinusoidal<double>> && position_encoder<sinusoidal<float>>);
static_assert(!rotary_encoder<sinusoidal<float>> && !bias_encoder<sinusoidal<float>>);

}  // namespace POSENC_NAMESPACE
