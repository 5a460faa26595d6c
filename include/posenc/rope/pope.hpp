// SPDX-License-Identifier: MIT
/// \file  Polar coordinate position embedding (PoPE): what a channel holds becomes a length, where its token stands an angle, so that
/// neither changes the other. Gopalakrishnan et al. 2025, "Decoupling the 'What' and 'Where' With Polar Coordinate Positional Embeddings".
#pragma once

#include <posenc/concepts.hpp>  // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/executor.hpp>
#include <posenc/frequencies.hpp>
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/heads.hpp>      // head_view
#include <posenc/kernels/angle_gradient.hpp>
#include <posenc/kernels/pope.hpp>
#include <posenc/kernels/rotate.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/required.hpp>
#include <posenc/rope/rotary_table.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace POSENC_NAMESPACE {

struct pope_options {
  required<index_t> dim;               ///< channels of a head before; after, there are twice as many
  index_t heads = 0;                   ///< key heads, each with biases of its own; 0: one row of biases for all
  double base = 10000;                 ///< theta_j = base^(-j / dim): a larger base turns more slowly and reaches farther
  frequency_series frequencies{};      ///< radians per position in place of those, one for each of the dim channels
};

/// Turns channel j of a head, j < dim, into the pair of channels (j, dim + j):
///
///     query at position p:  softplus(x_j) (cos a, sin a)   with a = p theta_j
///     key at position p:    the same                       with a = p theta_j + b_hj
///
/// so that q_i . k_j = sum over channels of softplus(q) softplus(k) cos((i - j) theta - b). The biases b are trained; they act as if
/// clamped to [-2 pi, 0] (rounded to S). softplus is within 2.2 units in the last place, angles as exact as those of `rope`; each product
/// is rounded once more. A token without a position has angle 0, without bias. The paper multiplies scores by 1 / sqrt(dim): `score_scale`
/// knows.
///
/// q and k are `[batch, time, head, channel]` views. In place, they have 2 dim channels, the first dim of which hold the input; or they
/// are written elsewhere, or into the rows of a cache. Every verb checks shapes first and throws `argument_error` before it writes; with
/// tables made by `prepare`, nothing is allocated but by `rotate_backward`, `shift`, and where threads share the work. Const members may
/// run in any number of threads at once. One token has the same bits in prefill and decode, at every instruction set.
template <compute_scalar S>
class pope {
 public:
  using scalar = S;

  /// The tables, those of keys with their biases, and where the tokens stand: biases get no gradient from tokens that stand nowhere.
  struct state : rotary_tables<S> {
    std::variant<attention_positions, attention_coordinates> at;
  };

  /// With biases of zero. \throws argument_error  unless dim is positive, heads not negative, base positive and finite, and there are dim
  /// frequencies, if any, all finite and below 2^39.
  explicit pope(const pope_options& options) : pope(options, zeros(options)) {}
  /// \param biases  radians, [heads, dim], or [dim] where heads is 0.
  /// \throws argument_error  for options as above, and unless there is a finite bias for each channel (and head).
  pope(const pope_options& options, std::span<const S> biases)
      : dim_(checked_dim(options)),
        heads_(options.heads),
        radians_(options.frequencies.empty() ? geometric_series(name(), dim_, options.base, 1, static_cast<double>(dim_))
                                             : options.frequencies),
        spectrum_(posenc::frequencies::from_radians(name(), radians_)),
        biases_(biases.begin(), biases.end()) {
    require(spectrum_.count() == dim_, name(), "there must be a frequency for each channel", dim_, spectrum_.count());
    require(static_cast<index_t>(biases_.size()) == dim_ * std::max<index_t>(heads_, 1), name(),
            "there must be a bias for each channel of each head", dim_ * std::max<index_t>(heads_, 1), biases_.size());
    for (const S bias : biases_) require(std::isfinite(bias), name(), "biases must be finite", bias);
    known_biases_ = biases_;
    known_keys_ = key_frequencies();
  }

  static constexpr std::string_view name() noexcept { return "pope"; }
  index_t dim() const noexcept { return dim_; }
  index_t heads() const noexcept { return heads_; }
  /// How fast each channel turns with the position; biases not included.
  const posenc::frequencies& inspect() const noexcept { return spectrum_; }
  /// What scores are multiplied by: 1 / sqrt(dim), half of the channels that q and k have after `rotate`.
  double score_scale(index_t channels) const { return 1 / std::sqrt(static_cast<double>(channels) / 2); }

  /// The angles of queries and of the keys that are turned, of this encoder's biases as they are now. Allocates 8 bytes of positions per
  /// token, and tables of 2 dim values per token, for keys per token and head.
  /// \throws argument_error  unless the positions have one axis, and the biases, which are the caller's to train, are not NaN.
  state prepare(const attention_positions& at, const executor& run = {}) const { return {tables(at, run), at}; }
  /// The same for tokens between the integers.
  state prepare(const attention_coordinates& at, const executor& run = {}) const { return {tables(at, run), at}; }

  /// The checks of `rotate` in place, alone: \throws argument_error  where it would.
  template <class T>
    requires writable_as<T, S>
  void require_fits(const head_view<T>& x, operand role, const state& made) const {
    checked(inputs_of(x), x, {}, made[role]);
  }

  /// In place: the first dim of 2 dim channels come in, all leave.
  template <class T>
    requires writable_as<T, S>
  void rotate(head_view<T> x, operand role, const state& made, const executor& run = {}) const {
    apply(checked(inputs_of(x), x, {}, made[role]), run, kernels::pope<kernel_scalar<T>>);
  }
  /// Reads `in`, of dim channels, and writes `out`, of 2 dim. `in` may be the first channels of `out`, but not overlap it otherwise.
  template <class T, class U>
    requires writable_as<U, S> && stored_as<T, U>
  void rotate(head_view<T> in, head_view<U> out, operand role, const state& made, const executor& run = {}) const {
    require(in.batch() == out.batch() && in.time() == out.time() && in.count() == out.count(), name(),
            "the output must have the input's batch, time and heads", in.by_time().extents(), out.by_time().extents());
    apply(checked(in, out, {}, made[role]), run, kernels::pope<kernel_scalar<U>>);
  }
  /// The same into the slots or pages of a cache: token (b, t) goes to slot `rows[b * time + t]` of `cache`, a view `[1, slot, head,
  /// 2 dim]`; `no_row` skips it. \throws argument_error  for a row outside the cache.
  template <class T, class U>
    requires writable_as<U, S> && stored_as<T, U>
  void rotate(head_view<T> in, head_view<U> cache, std::span<const index_t> rows, operand role, const state& made,
              const executor& run = {}) const {
    require(cache.batch() == 1 && cache.count() == in.count(), name(), "the cache must be [1, slot, head, channel] with the input's heads",
            cache.by_time().extents(), in.by_time().extents());
    require_destinations(name(), rows, in.batch(), in.time(), cache.time());
    require(in.by_time().empty() || in.by_time().data() != cache.by_time().data(), name(), "the input must not overlap the cache",
            in.by_time().extents(), cache.by_time().extents());
    apply(checked(in, cache, rows, made[role]), run, kernels::pope<kernel_scalar<U>>);
  }

  /// The gradient of `rotate`. d: that of all 2 dim channels comes in, that of the input leaves in the first dim, zeros behind.
  /// d_parameters[0], the biases, is added to for keys: in double, in an order that depends on shapes alone; not where a bias lies outside
  /// of [-2 pi, 0]. Allocates 8 bytes a token and a bias for it.
  /// \param rotated  what `rotate` wrote. Nothing else is needed: the slope of softplus is 1 - e^-softplus, and what the channels of a
  /// pair have in the direction of its angle is softplus itself.
  template <class T>
    requires writable_as<T, S>
  void rotate_backward(head_view<T> d, std::type_identity_t<head_view<const T>> rotated, operand role, const state& made,
                       gradient_spans<S> d_parameters, const executor& run = {}) const {
    auto call = checked(inputs_of(d), d, {}, made[role]);
    const auto& y = rotated.by_time();
    require(y.extents() == d.by_time().extents(), name(), "the gradient must have the shape of what it is of", y.extents(),
            d.by_time().extents());
    require_rows(name(), y);
    require(d_parameters.size() == 1 && d_parameters[0].size() == biases_.size(), name(),
            "there must be one gradient span with a value per bias", biases_.size(), d_parameters.size());
    if (role == operand::key)
      std::visit([&](const auto& at) { add_bias_gradients(d, rotated, at.turned(role), d_parameters[0], run); }, made.at);
    call.in = kernel_pointer(y.data());
    call.in_batch = y.stride(0), call.in_time = y.stride(1), call.in_head = y.stride(2);
    apply(call, run, kernels::pope_backward<kernel_scalar<T>>);
  }
  /// One span, "bias": [heads, dim], or [dim] where all heads share one row.
  std::vector<parameter<S>> parameters() {
    if (heads_ > 0) return {{"bias", biases_, {heads_, dim_}}};
    return {{"bias", biases_, {dim_}}};
  }

  /// Moves cached keys (or queries) of 2 dim channels by `deltas` positions: token t then stands at p + deltas(t). Angles add exactly; each
  /// shift rounds once more. Where `deltas` has no position, tokens stay.
  template <class T>
    requires writable_as<T, S>
  void shift(head_view<T> keys, const positions& deltas, const executor& run = {}) const {
    turn(keys, rotary_table<S>(name(), spectrum_, deltas, 1, run), false, run);
  }
  /// The same delta for all.
  template <class T>
    requires writable_as<T, S>
  void shift(head_view<T> keys, position delta, const executor& run = {}) const {
    require(delta != no_position, name(), "a shift must be a number of positions", "no_position");
    turn(keys, rotary_table<S>(name(), spectrum_, positions::range(1, delta)), true, run);
  }

  friend bool operator==(const pope& a, const pope& b) {
    return a.heads_ == b.heads_ && a.spectrum_ == b.spectrum_ && a.biases_ == b.biases_;
  }

 private:
  static constexpr S lowest_bias = static_cast<S>(-two_pi.high);

  static index_t checked_dim(const pope_options& options) {
    const index_t dim = options.dim;
    require(dim > 0, name(), "dim must be positive", dim);
    require(options.heads >= 0, name(), "heads must not be negative", options.heads);
    checked_product(name(), std::array{std::max<index_t>(options.heads, 1), 2 * index_t{dim}}, sizeof(double));
    return dim;
  }
  static std::vector<S> zeros(const pope_options& options) {
    return std::vector<S>(static_cast<std::size_t>(checked_dim(options) * std::max<index_t>(options.heads, 1)));
  }

  // A bias is a frequency on a second axis on which all tokens stand at 1: the angle p theta + 1 b is then formed as exactly as any.
  posenc::frequencies key_frequencies() const {
    frequency_series all;
    for (std::size_t row = 0; row < biases_.size(); row += static_cast<std::size_t>(dim_)) {
      all.insert(all.end(), radians_.begin(), radians_.end());
      for (std::size_t j = row; j < row + static_cast<std::size_t>(dim_); ++j)
        all.push_back({static_cast<double>(std::clamp(biases_[j], lowest_bias, S(0))), 0});
    }
    return posenc::frequencies::from_radians(name(), all, 2, heads_);
  }
  template <class At>
  static At with_ones(const At& at) {
    using number = std::conditional_t<std::same_as<At, positions>, position, double>;
    std::vector<number> all;
    for (const bool second : {false, true})
      for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b)
        for (index_t t = 0; t < at.time(); ++t) {
          const number place = at(b, t);
          all.push_back(second && stands(place) ? number(1) : place);
        }
    if constexpr (std::same_as<At, positions>) return positions::multi_axis(all, 2, at.batch());
    else return coordinates::values(all, 2, at.batch());
  }
  static bool stands(position p) { return p != no_position; }
  static bool stands(double p) { return !std::isnan(p); }

  template <class At>
  rotary_tables<S> tables(const At& at, const executor& run) const {
    const auto &queries = at.turned(operand::query), &keys = at.turned(operand::key);
    for (const index_t axes : {queries.axes(), keys.axes()}) require(axes == 1, name(), "the positions must have one axis", axes);
    // Deciding anew what biases are in turns takes longer than the table of one token.
    const rotary_spectrum turned{biases_ == known_biases_ ? known_keys_ : key_frequencies()};
    return {rotary_table<S>(name(), {spectrum_}, queries, operand::query, 1, run),
            rotary_table<S>(name(), turned, with_ones(keys), operand::key, 1, run)};
  }

  /// The channels of x that hold the input.
  template <class T>
  head_view<T> inputs_of(const head_view<T>& x) const {
    auto extents = x.by_time().extents();
    require(extents[3] == 2 * dim_, name(), "there must be 2 * dim channels", 2 * dim_, extents[3]);
    extents[3] = dim_;
    return head_view<T>({x.by_time().data(), extents, x.by_time().strides()});
  }
  template <class T>
  void require_table(const head_view<T>& x, const rotary_table<S>& table, bool one_row_for_all) const {
    require(table.pairs() == dim_, name(), "the table must be of dim pairs", dim_, table.pairs());
    require(table.heads() == 0 || table.heads() == x.count(), name(), "heads must match the table", x.count(), table.heads());
    require(one_row_for_all || table.time() == x.time(), name(), "time must match the table", x.time(), table.time());
    require(table.batch() == 0 || table.batch() == x.batch(), name(), "batch must match the table", x.batch(), table.batch());
  }
  template <class T, class U>
  kernels::pope_call<kernel_scalar<U>> checked(const head_view<T>& in, const head_view<U>& out, std::span<const index_t> rows,
                                               const rotary_table<S>& table) const {
    const auto& from = in.by_time();
    const auto& to = out.by_time();
    require(in.channels() == dim_, name(), "the input must have dim channels", dim_, in.channels());
    const auto first_half = inputs_of(out).by_time();
    require_table(in, table, false);
    require_rows(name(), from);
    require_output(name(), to);
    const bool in_place =
        from.data() == first_half.data() && from.extents() == first_half.extents() && from.strides() == first_half.strides();
    require(in_place || !overlaps_partly(from, to), name(), "the input must be the first channels of the output or not overlap it",
            from.extents(), to.extents());
    const index_t row = 2 * dim_ * std::max<index_t>(table.heads(), 1);
    return {.in = kernel_pointer(from.data()),
            .out = kernel_pointer(to.data()),
            .batch = in.batch(),
            .time = in.time(),
            .heads = in.count(),
            .in_batch = from.stride(0),
            .in_time = from.stride(1),
            .in_head = from.stride(2),
            .out_batch = to.stride(0),
            .out_time = to.stride(1),
            .out_head = to.stride(2),
            .rows = rows.data(),
            .table = table.row(0, 0),
            .table_batch = table.batch() == 0 ? 0 : table.time() * row,
            .table_time = row,
            .table_head = table.heads() == 0 ? 0 : 2 * dim_,
            .channels = dim_};
  }
  template <class T>
  static void apply(kernels::pope_call<T> call, const executor& run, void (*kernel)(const kernels::pope_call<T>&)) {
    if (call.batch == 0 || call.time == 0 || call.heads == 0) return;
    call.streaming = run.streams();
    constexpr double nanoseconds_per_channel = sizeof(S) == 4 ? 1 : 4;
    const double cost = nanoseconds_per_channel * static_cast<double>(call.batch * call.time) * static_cast<double>(call.heads) *
                        static_cast<double>(call.channels);
    detail::run_tokens(run, call, cost, kernel);
  }

  template <class T>
  void turn(const head_view<T>& x, const rotary_table<S>& table, bool one_row_for_all, const executor& run) const {
    const auto& all = x.by_time();
    require(x.channels() == 2 * dim_, name(), "there must be 2 * dim channels", 2 * dim_, x.channels());
    require_table(x, table, one_row_for_all);
    require_output(name(), all);
    if (all.empty()) return;
    const kernels::rotate_call<kernel_scalar<T>> call{.in = kernel_pointer(all.data()),
                                                      .out = kernel_pointer(all.data()),
                                                      .batch = x.batch(),
                                                      .time = x.time(),
                                                      .heads = x.count(),
                                                      .in_batch = all.stride(0),
                                                      .in_time = all.stride(1),
                                                      .in_head = all.stride(2),
                                                      .out_batch = all.stride(0),
                                                      .out_time = all.stride(1),
                                                      .out_head = all.stride(2),
                                                      .rows = nullptr,
                                                      .table = table.row(0, 0),
                                                      .table_batch = table.batch() == 0 ? 0 : table.time() * 2 * dim_,
                                                      .table_time = one_row_for_all ? 0 : 2 * dim_,
                                                      .pairs = dim_,
                                                      .before = 0,
                                                      .after = 0,
                                                      .interleaved = false};
    const double cost =
        detail::nanoseconds_per_value<T> * static_cast<double>(x.batch() * x.time()) * static_cast<double>(x.count() * x.channels());
    detail::run_tokens(run, call, cost, kernels::rotate<kernel_scalar<T>>);
  }

  template <class T, class At>
  void add_bias_gradients(const head_view<T>& d, const head_view<const T>& rotated, const At& at, std::span<S> d_biases,
                          const executor& run) const {
    // The gradient of an angle, once for each token that stands somewhere: counted by a coordinate of 1.
    std::vector<double> counted;
    for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b)
      for (index_t t = 0; t < at.time(); ++t) counted.push_back(stands(at(b, t)) ? 1 : no_coordinate);
    std::vector<double> sums(biases_.size());
    const auto& y = rotated.by_time();
    const auto& g = d.by_time();
    // By groups of channels alone: the order of a sum must not depend on the threads.
    constexpr index_t group = 8;
    const index_t groups = (dim_ + group - 1) / group;
    const double cost =
        8 * detail::nanoseconds_per_value<T> * static_cast<double>(d.batch() * d.time()) * static_cast<double>(d.count() * dim_ * 2);
    run.split(groups, run.parts(groups, cost), [&](index_t, index_t from, index_t to) {
      for (index_t b = 0; b < d.batch(); ++b)
        kernels::angle_gradient(kernels::angle_gradient_call<kernel_scalar<T>>{
            .y = kernel_pointer(y.data() + b * y.stride(0) + from * group),
            .d = kernel_pointer(static_cast<const T*>(g.data()) + b * g.stride(0) + from * group),
            .time = d.time(),
            .heads = d.count(),
            .y_time = y.stride(1),
            .y_head = y.stride(2),
            .d_time = g.stride(1),
            .d_head = g.stride(2),
            .pairs = std::min(to * group, dim_) - from * group,
            .distance = dim_,
            .interleaved = false,
            .ids = nullptr,
            .first = 0,
            .coordinates = counted.data() + (at.batch() == 0 ? 0 : b * at.time()),
            .axes = 1,
            .axis = 0,
            .sums = sums.data() + from * group,
            .sum_axis = 0,
            .sum_head = heads_ > 0 ? dim_ : 0});
    });
    for (std::size_t n = 0; n < sums.size(); ++n)
      if (biases_[n] >= lowest_bias && biases_[n] <= 0) d_biases[n] += static_cast<S>(sums[n]);
  }

  index_t dim_, heads_;
  frequency_series radians_;
  posenc::frequencies spectrum_;
  std::vector<S> biases_, known_biases_;  // as they are, and as they were when they were last put into turns
  posenc::frequencies known_keys_;
};

/// The other start that the paper's systems offer: biases [heads, dim] drawn from [-2 pi, 0]; heads 0: [dim].
/// \throws argument_error  unless dim is positive and heads not negative.
template <compute_scalar S>
std::vector<S> uniform_pope_biases(index_t heads, index_t dim, random_source& random) {
  constexpr std::string_view who = "uniform_pope_biases";
  require(heads >= 0, who, "heads must not be negative", heads);
  require(dim > 0, who, "dim must be positive", dim);
  std::vector<S> all(static_cast<std::size_t>(checked_product(who, std::array{std::max<index_t>(heads, 1), dim}, sizeof(S))));
  for (S& bias : all) bias = static_cast<S>(random.uniform(-two_pi.high, 0));
  return all;
}

template <compute_scalar S>
inline constexpr bool is_shiftable<pope<S>> = true;

static_assert(rotary_encoder<pope<float>> && trains_rotation<pope<double>> && trainable<pope<float>> && changes_score_scale<pope<float>>);
static_assert(!additive_encoder<pope<float>> && !bias_encoder<pope<float>>);

}  // namespace POSENC_NAMESPACE
