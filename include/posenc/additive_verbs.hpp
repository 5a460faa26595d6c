// SPDX-License-Identifier: MIT
/// \file  The verbs of encoders that add a code which depends on the position alone: sinusoidal, learned, Fourier bases.
#pragma once

#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>        // require
#include <posenc/executor.hpp>
#include <posenc/kernels/add.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

namespace detail {

/// How x and codes are summed: (x * token_scale + code * code_scale of each encoder) * mask. A scale of 1 changes no bit.
template <class S>
struct sum_rule {
  S token_scale = 1, code_scale = 1;
  token_view<const S> mask{};  ///< of x's shape, with strides of 0 where it is shared
};

/// Whether E can be part of a sum that is formed in one pass: derived from `additive_verbs`.
template <class E, class At>
concept code_part = requires(const E& e, const At& at, typename E::scalar* spare, std::int64_t* ids) {
  { e.codes(at, index_t{}, index_t{}, index_t{}, spare, ids) } -> std::same_as<kernels::code_source<typename E::scalar>>;
};

/// The sum of x and of the codes of `parts`, in one pass: ((x + first) + second) + ... in S, rounded once where x is of 16 bits. Codes that
/// have to be formed are formed once for all batch rows that share them, in blocks that stay in the first cache.
template <class S, class In, class Out, class At, class... Parts>
  requires(sizeof...(Parts) <= kernels::most_sources)
void add_codes(const token_view<In>& in, const token_view<Out>& out, std::span<const index_t> rows, const At& at, const sum_rule<S>& rule,
               const executor& run, const Parts&... parts) {
  if (in.empty()) return;
  const index_t dim = in.extent(2), batch = in.extent(0), time = in.extent(1);
  const index_t together = at.batch() == 0 && rows.empty() ? batch : 1, count = batch / together * time;
  const double values = static_cast<double>(count * together) * static_cast<double>(dim);
  const double forming = (parts.nanoseconds_per_code() + ... + 0.0) * static_cast<double>(count);
  const index_t splits = run.parts(count, forming + nanoseconds_per_value<std::remove_const_t<In>> * values);
  const index_t spare = (parts.spare_values() + ... + 0);  // for each token of a block
  const index_t spare_ids = (parts.spare_ids() + ... + 0);
  // Spare memory has to stay in the first cache, a ready table in the last one while all batch rows read it.
  const index_t spare_bytes = spare * static_cast<index_t>(sizeof(S)) + spare_ids * static_cast<index_t>(sizeof(std::int64_t));
  const index_t row_bytes = dim * static_cast<index_t>(sizeof(S));
  const index_t block = std::clamp<index_t>(spare_bytes > 0 ? (16 << 10) / spare_bytes : (8 << 20) / row_bytes, 1, time);
  std::vector<S> codes(static_cast<std::size_t>(splits * block * spare));
  std::vector<std::int64_t> ids(static_cast<std::size_t>(splits * block * spare_ids));
  run.split(count, splits, [&](index_t split, index_t from, index_t to) {
    for (index_t n; from < to; from += n) {
      const index_t b = from / time, t = from % time;
      n = std::min({block, time - t, to - from});
      S* own = codes.data() + split * block * spare;
      std::int64_t* own_ids = ids.data() + split * block * spare_ids;
      [[maybe_unused]] const auto source = [&](const auto& part) {
        auto one = part.codes(at, b, t, n, own, own_ids);
        own += block * part.spare_values();
        own_ids += block * part.spare_ids();
        one.scale *= rule.code_scale;
        return one;
      };
      const std::array<kernels::code_source<S>, sizeof...(Parts)> sources{source(parts)...};
      kernels::add<kernel_scalar<Out>>({.in = kernel_pointer(in.data()) + b * in.stride(0) + t * in.stride(1),
                                        .out = kernel_pointer(out.data()) + (rows.empty() ? b * out.stride(0) + t * out.stride(1) : 0),
                                        .sources = sources.data(),
                                        .count = static_cast<index_t>(sources.size()),
                                        .batch = together,
                                        .time = n,
                                        .channels = dim,
                                        .in_batch = in.stride(0),
                                        .in_time = in.stride(1),
                                        .out_batch = out.stride(0),
                                        .out_time = out.stride(1),
                                        .rows = rows.empty() ? nullptr : rows.data() + b * time + t,
                                        .streaming = run.streams(),
                                        .in_scale = rule.token_scale,
                                        .mask = rule.mask ? &rule.mask(b, t, 0) : nullptr,
                                        .mask_batch = rule.mask.stride(0),
                                        .mask_time = rule.mask.stride(1)});
    }
  });
}

}  // namespace detail

/// `add` and `encode` for an encoder E, which says where its codes are. A code is the same whichever way its position was asked for.
///
/// Every verb checks shapes first and throws `argument_error` before it writes. A token without a position keeps its value, and has a code
/// of zeros. Elements are float, double, `Eigen::half` or `Eigen::bfloat16`; the latter two are computed in float and rounded once. Const
/// members may run in any number of threads at once. `add` allocates nothing where codes stand in a table, else at most 16 KB, or a row,
/// for each part of a split; `encode` a row more.
///
/// E has `name`, `dim`, `axes`, and, for positions and perhaps coordinates `at`:
///
///     void require_known(at)                      throws for a position without a code
///     code_source codes(at, b, t, n, S*, int64*)  where the codes of tokens t to t + n of row b stand, spare memory given
///     index_t spare_values(), spare_ids()         how much of it each token needs
///     double nanoseconds_per_code()               what forming one takes
///     bool one_axis_will_do()                     perhaps: whether positions of one axis stand there on all axes
template <class E, compute_scalar S>
class additive_verbs {
 public:
  using scalar = S;

  /// The checks of `add` in place, alone: \throws argument_error  where it would.
  template <class T, token_places At>
    requires(writable_as<T, S> && detail::code_part<E, At>)
  void require_fits(const token_view<T>& x, const At& at) const {
    check_shape(x, at);
    require_output(E::name(), x);
  }

  bool one_axis_will_do() const noexcept { return false; }

  /// The checks of tensors that are only read.
  template <class T, class At>
  void require_readable(const token_view<T>& x, const At& at) const {
    check_shape(x, at);
  }

  /// Writes the codes of `at` to out `[batch..., time, channel]`.
  template <token_places At, writable_tensor T>
    requires(writable_as<element_t<T>, S> && detail::code_part<E, At>)
  void encode(const At& at, T&& out, const executor& run = {}) const {
    const auto to = batched(out);
    check_shape(to, at);
    require_output(E::name(), to);
    if (to.empty()) return;
    using element = element_t<T>;
    const std::vector<element> nothing(static_cast<std::size_t>(to.extent(2)), element(-0.0f));  // added to it, a code keeps a zero's sign
    const token_view<const element> none(nothing.data(), to.extents(), {0, 0, 1});
    detail::add_codes<S>(none, to, {}, at, {}, run, self());
    for (index_t b = 0; b < to.extent(0); ++b)
      for (index_t t = 0; t < to.extent(1); ++t)
        if (is_absent(at, b, t)) std::fill_n(&to(b, t, 0), to.extent(2), element(0.0f));
  }

  /// x += code, in place, for x `[batch..., time, channel]`.
  template <writable_tensor X, token_places At>
    requires(writable_as<element_t<X>, S> && detail::code_part<E, At>)
  void add(X&& x, const At& at, const executor& run = {}) const {
    const auto view = batched(x);
    require_fits(view, at);
    detail::add_codes<S>(view, view, {}, at, {}, run, self());
  }
  /// out = in + code. They may be one tensor, but not overlap in part.
  template <readable_tensor In, writable_tensor Out, token_places At>
    requires(writable_as<element_t<Out>, S> && stored_as<element_t<In>, element_t<Out>> && detail::code_part<E, At>)
  void add(const In& in, Out&& out, const At& at, const executor& run = {}) const {
    const auto from = batched(in);
    const auto to = batched(out);
    require(from.extents() == to.extents(), E::name(), "the output must have the input's shape", from.extents(), to.extents());
    add_to(from, to, {}, at, run);
  }
  /// The same into chosen rows: token (b, t) goes to row `rows[b * time + t]` of out `[row, channel]`; `no_row` skips it.
  /// \throws argument_error  for a row outside the output.
  template <readable_tensor In, writable_tensor Out, token_places At>
    requires(rank_of<Out> == 2 && writable_as<element_t<Out>, S> && stored_as<element_t<In>, element_t<Out>> && detail::code_part<E, At>)
  void add(const In& in, Out&& out, std::span<const index_t> rows, const At& at, const executor& run = {}) const {
    const auto from = batched(in);
    const auto to = batched(out);
    require(to.extent(2) == from.extent(2), E::name(), "the output must have the input's channels", from.extent(2), to.extent(2));
    require_destinations(E::name(), rows, from.extent(0), from.extent(1), to.extent(1));
    require(from.empty() || from.data() != to.data(), E::name(), "the input must not overlap the rows", from.extents(), to.extents());
    add_to(from, to, rows, at, run);
  }

 private:
  const E& self() const noexcept { return static_cast<const E&>(*this); }
  static bool is_absent(const positions& at, index_t b, index_t t) { return at(b, t) == no_position; }
  static bool is_absent(const coordinates& at, index_t b, index_t t) { return at(b, t) != at(b, t); }

  template <class T, class At>
  void check_shape(const token_view<T>& x, const At& at) const {
    require(x.extent(2) == self().dim(), E::name(), "channels must equal dim", self().dim(), x.extent(2));
    require_match(E::name(), at, x.extent(0), x.extent(1), at.axes() == 1 && self().one_axis_will_do() ? 1 : self().axes());
    require_rows(E::name(), x);
    if (!x.empty()) self().require_known(at);
  }
  template <class In, class Out, class At>
  void add_to(const token_view<In>& in, const token_view<Out>& out, std::span<const index_t> rows, const At& at,
              const executor& run) const {
    check_shape(in, at);
    require_output(E::name(), out);
    require(!overlaps_partly(in, out), E::name(), "input and output must be one view or not overlap", in.extents(), out.extents());
    detail::add_codes<S>(in, out, rows, at, {}, run, self());
  }
};

}  // namespace POSENC_NAMESPACE
