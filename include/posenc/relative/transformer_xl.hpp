// SPDX-License-Identifier: MIT
/// \file  Relative keys that are projected sinusoids, and two biases. Dai et al. 2019, "Transformer-XL: Attentive Language Models beyond a
/// Fixed-Length Context".
#pragma once

#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/positions.hpp>
#include <posenc/relative/bias_table.hpp>  // distance_range, distances_between
#include <posenc/relative/project_rows.hpp>
#include <posenc/relative/relative_key_verbs.hpp>
#include <posenc/relative/relative_products.hpp>  // relative_vectors
#include <posenc/required.hpp>
#include <posenc/sinusoidal.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

struct transformer_xl_options {
  required<index_t> heads, channels;  ///< of queries: how many, and of each
  required<index_t> dim;              ///< channels of the sinusoids
  required<channel_order> order;      ///< sin_cos: Transformer-XL, XLNet; interleaved: wav2vec2-conformer, Parakeet, Nemotron
  position clamp_length = 0;          ///< distances beyond it have the key of it, on both sides: `clamp_len`; 0: none
  index_t max_distances = 1 << 16;    ///< a pass whose ids are so far apart that it would need more keys than that is refused

  friend bool operator==(const transformer_xl_options&, const transformer_xl_options&) = default;
};

/// The relative keys of a pass, in one layer: made by `transformer_xl::prepare`, or given. Immutable; copying it is a reference count.
template <compute_scalar S>
class transformer_xl_keys {
 public:
  /// Keys from elsewhere (`r_head_k`, or sinusoids that dropout went over), which are copied: `[head, distance, channel]`, of distances
  /// (key's position minus query's) from `low` on. In Transformer-XL rows count i - j down: their first one is `low` = 1 - klen. Beyond the
  /// ends a distance has the key of the end. To gradients they are constants: "projection" gets none.
  /// \throws argument_error  unless there is one at least, their distances lie in [-2^62, 2^62] and channels are contiguous.
  transformer_xl_keys(attention_positions at, const tensor_view<const S, 3>& keys, position low) : at_(std::move(at)) {
    constexpr std::string_view who = "transformer_xl_keys";
    require(!keys.empty(), who, "there must be keys", keys.extents());
    require_rows(who, keys);
    require(low >= -positions::limit && low <= positions::limit - (keys.extent(1) - 1), who, "distances must lie in [-2^62, 2^62]", low,
            keys.extent(1));
    distances_ = {low, low + keys.extent(1) - 1};
    const index_t heads = keys.extent(0), channels = keys.extent(2);
    S* to = allocate(heads, channels);
    for (index_t h = 0; h < heads; ++h)
      for (index_t n = 0; n < keys.extent(1); ++n, to += channels) std::copy_n(&keys(h, n, 0), channels, to);
  }

  const attention_positions& at() const noexcept { return at_; }
  /// `[head, distance, channel]`: row n is that of distance `distances().low + n`.
  tensor_view<const S, 3> keys() const noexcept { return {values_.get(), extents_}; }
  distance_range distances() const noexcept { return distances_; }
  /// False: given.
  bool projected() const noexcept { return projected_; }

 private:
  template <compute_scalar>
  friend class transformer_xl;

  transformer_xl_keys(attention_positions at, distance_range distances) : at_(std::move(at)), distances_(distances), projected_(true) {}
  S* allocate(index_t heads, index_t channels) {
    extents_ = {heads, distances_.high - distances_.low + 1, channels};
    const index_t size = checked_product("transformer_xl_keys", extents_, sizeof(S));
    values_ = std::shared_ptr<S[]>(new S[static_cast<std::size_t>(size)]);
    return values_.get();
  }

  attention_positions at_;
  std::shared_ptr<S[]> values_;
  std::array<index_t, 3> extents_{};
  distance_range distances_{0, 0};
  bool projected_ = false;
};

/// scores[b, h, i, j] += scale * ((q_i + v_h) . (W_h r(i - j)) + u_h . k_j), where the scores hold scale * q.k: Transformer-XL, XLNet,
/// wav2vec2-conformer, Parakeet, Nemotron. r is the sinusoidal code (Vaswani's frequencies) of the *query's* position minus the key's:
/// positive where the key comes first, as these systems count, and of the true negative distance where it comes later (XLNet, Conformer).
///
/// Parameters: "projection" W `[heads * channels, dim]` (r_net; XLNet holds it `[dim, head, channel]`), "u" and "v" `[heads, channels]`
/// (r_w_bias and r_r_bias; pos_bias_u and pos_bias_v). Layers that are untied have an encoder each. Where u and v are tied over layers,
/// each layer's encoder has a copy, and all are given one span for the gradient.
///
/// The memory of Transformer-XL is keys whose positions come before those of the queries; nothing is shifted, because a distance is known
/// from positions. At masked keys systems that shift hold values of the next query's row, or zeros (`zero_triu`); here stands the true
/// distance's, or with `score_pass::causal` minus infinity. XLNet's segment term, (q_i + s) . seg, depends on no position: it is the
/// model's.
///
/// Products agree with double arithmetic within 8 eps * channels of the sum of magnitudes. See `relative_key_verbs`.
template <compute_scalar S>
class transformer_xl : public relative_key_verbs<transformer_xl<S>, S> {
 public:
  using state = transformer_xl_keys<S>;

  /// Parameters of zeros. \throws argument_error  unless heads, channels, dim and max_distances are positive, dim is even and clamp_length
  /// is not negative.
  explicit transformer_xl(const transformer_xl_options& options)
      : options_(checked(options)),
        sinusoids_({.dim = options.dim, .order = options.order, .exponent_rule = exponent_rule::vaswani{}}),
        projection_(static_cast<std::size_t>(checked_product(name(), std::array{outputs(), dim()}, sizeof(S)))),
        u_(static_cast<std::size_t>(outputs())),
        v_(u_.size()) {}
  /// Those of a checkpoint. \throws argument_error  also unless they have the sizes of the parameters.
  transformer_xl(const transformer_xl_options& options, std::span<const S> projection, std::span<const S> u, std::span<const S> v)
      : transformer_xl(options) {
    require(projection.size() == projection_.size(), name(), "the projection must be [heads * channels, dim]", projection_.size(),
            projection.size());
    require(u.size() == u_.size() && v.size() == v_.size(), name(), "u and v must be [heads, channels]", u_.size(), u.size(), v.size());
    std::ranges::copy(projection, projection_.begin());
    std::ranges::copy(u, u_.begin());
    std::ranges::copy(v, v_.begin());
  }

  static constexpr std::string_view name() noexcept { return "transformer_xl"; }
  const transformer_xl_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.heads; }
  index_t channels() const noexcept { return options_.channels; }
  index_t dim() const noexcept { return options_.dim; }

  std::vector<parameter<S>> parameters() {
    return {{"projection", projection_, {outputs(), dim()}}, {"u", u_, {heads(), channels()}}, {"v", v_, {heads(), channels()}}};
  }

  /// The keys of all distances that occur, once per pass: heads * channels numbers for each. In a training step: after each change of the
  /// parameters. \throws argument_error  where they would be more than max_distances, or lie outside [-2^62, 2^62].
  state prepare(const attention_positions& at, const executor& run = {}) const {
    state made(at, range_of(at));
    S* const values = made.allocate(heads(), channels());
    const tensor_view<S, 3> keys(values, made.extents_);
    const index_t count = keys.extent(1), blocks = (count + detail::rows_together - 1) / detail::rows_together;
    const double cost = detail::nanoseconds_per_product<S>(dim()) * static_cast<double>(outputs()) * static_cast<double>(count);
    const index_t parts = run.parts(blocks, cost), spare = detail::rows_together * sinusoids_.spare_values();
    const positions lags = lags_of(made.distances());
    std::vector<S> memory(static_cast<std::size_t>(parts * spare));
    run.split(blocks, parts, [&](index_t part, index_t from, index_t to) {
      for (; from < to; ++from)
        for_block(lags, from * detail::rows_together, memory.data() + part * spare, [&](const auto& codes, index_t first, index_t some) {
          detail::project_block<S>(codes.table, codes.time, some, {{projection_.data(), {outputs(), dim()}}}, keys, first);
        });
    });
    return made;
  }

  friend bool operator==(const transformer_xl& a, const transformer_xl& b) {
    return a.options_ == b.options_ && a.projection_ == b.projection_ && a.u_ == b.u_ && a.v_ == b.v_;
  }

  // What `relative_key_verbs` asks for.
  const S* key_bias() const noexcept { return u_.data(); }
  const S* query_bias() const noexcept { return v_.data(); }
  state placed(const attention_positions& at, const executor& run) const { return prepare(at, run); }
  const state& placed(const state& made, const executor&) const {
    require(made.keys().extent(0) == heads() && made.keys().extent(2) == channels(), name(),
            "the state must have the heads and channels of this encoder", std::array{heads(), channels()},
            std::array{made.keys().extent(0), made.keys().extent(2)});
    return made;
  }
  relative_vectors<S> vectors(const state& made) const noexcept {
    const tensor_view<const S, 3> keys = made.keys();
    return {.data = keys.data(),
            .head = keys.stride(0),
            .distance = keys.stride(1),
            .count = keys.extent(1),
            .low = made.distances().low,
            .clip = true};
  }
  void require_spans(gradient_spans<S> d) const {
    require(d.size() == 3, name(), "there must be one gradient span per parameter", 3, d.size());
    require(d[0].size() == projection_.size() && d[1].size() == u_.size() && d[2].size() == v_.size(), name(),
            "gradients must have the sizes of projection, u and v", d[0].size(), d[1].size(), d[2].size());
  }
  void add_gradient(const state& made, index_t, const relative_key_gradient<S>& d, gradient_spans<S> to) const {
    for (std::size_t n = 0; n < u_.size(); ++n) {
      to[1][n] += d.key_bias[n];
      to[2][n] += d.query_bias[n];
    }
    if (!made.projected()) return;
    const tensor_view<const S, 3> d_keys(d.vectors.data(), made.extents_);
    const positions lags = lags_of(made.distances());
    std::vector<S> spare(static_cast<std::size_t>(detail::rows_together * sinusoids_.spare_values()));
    for (index_t from = 0; from < lags.time(); from += detail::rows_together)
      for_block(lags, from, spare.data(), [&](const auto& codes, index_t first, index_t some) {
        for (index_t h = 0; h < heads(); ++h)
          detail::add_projection_gradient<S>(codes.table, codes.time, some, d_keys, first, h, dim(), to[0].data(), dim(), nullptr);
      });
  }

 private:
  static const transformer_xl_options& checked(const transformer_xl_options& options) {
    require(options.heads > 0, name(), "heads must be positive", static_cast<index_t>(options.heads));
    require(options.channels > 0, name(), "channels must be positive", static_cast<index_t>(options.channels));
    require(options.dim > 0 && options.dim % 2 == 0, name(), "dim must be positive and even", static_cast<index_t>(options.dim));
    require(options.clamp_length >= 0 && options.clamp_length <= positions::limit, name(), "clamp_length must lie in [0, 2^62]",
            options.clamp_length);
    require(options.max_distances > 0, name(), "max_distances must be positive", options.max_distances);
    return options;
  }
  index_t outputs() const { return checked_product(name(), std::array{heads(), channels()}, sizeof(S)); }

  distance_range range_of(const attention_positions& at) const {
    require(at.queries.axes() == 1 && at.keys.axes() == 1, name(), "positions must have one axis", at.queries.axes(), at.keys.axes());
    distance_range all = detail::distances_between(at);
    if (all.low > all.high) return {0, 0};  // no pair has a distance
    const position most = options_.clamp_length;
    if (most > 0) all = {std::clamp(all.low, -most, most), std::clamp(all.high, -most, most)};
    const std::uint64_t apart = static_cast<std::uint64_t>(all.high) - static_cast<std::uint64_t>(all.low);
    require(all.low >= -positions::limit && all.high <= positions::limit && apart < static_cast<std::uint64_t>(options_.max_distances),
            name(), "distances must be max_distances at most, in [-2^62, 2^62] (clamp_length limits them)", options_.max_distances, all.low,
            all.high);
    return all;
  }
  /// i - j of each distance j - i.
  static positions lags_of(const distance_range& distances) {
    std::vector<position> lags(static_cast<std::size_t>(distances.high - distances.low + 1));
    for (position lag = -distances.low; position & one : lags) one = lag--;
    return positions::ids(lags);
  }
  /// act(codes, first, count) with the sinusoids of up to `rows_together` lags from `first` on.
  void for_block(const positions& lags, index_t first, S* spare, const auto& act) const {
    const index_t count = std::min(detail::rows_together, lags.time() - first);
    act(sinusoids_.codes(lags, 0, first, count, spare, nullptr), first, count);
  }

  transformer_xl_options options_;
  sinusoidal<S> sinusoids_;
  std::vector<S> projection_, u_, v_;
};

static_assert(contextual_bias_encoder<transformer_xl<float>> && contextual_bias_encoder<transformer_xl<double>> &&
              trainable<transformer_xl<float>> && position_encoder<transformer_xl<double>>);
static_assert(!bias_encoder<transformer_xl<float>> && !value_encoder<transformer_xl<float>> && !rotary_encoder<transformer_xl<float>>);

}  // namespace POSENC_NAMESPACE
