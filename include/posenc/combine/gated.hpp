// SPDX-License-Identifier: MIT
/// \file  Codes and biases scaled by a gate per token, which the caller computes: how much position a token is to have.
#pragma once

#include <posenc/combine/gated_tokens.hpp>
#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>                // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>
#include <posenc/inputs.hpp>
#include <posenc/no_encoding.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// What `gated` takes: an encoder that adds to embeddings or to scores from positions, or in context, and does nothing else. What turns
/// queries and keys is no sum, and what adds to values has no gates.
template <class E>
concept gateable_encoder =
    position_encoder<E> && compute_scalar<typename E::scalar> && (additive_encoder<E> || bias_encoder<E> || contextual_bias_encoder<E>) &&
    !contextual_additive_encoder<E> && !rotary_encoder<E> && !value_encoder<E> && !contextual_value_encoder<E>;

template <gateable_encoder E>
class gated;
template <class E>
inline constexpr bool detail::acts_through_parts<gated<E>> = true;
template <class E>
inline constexpr bool ignores_embeddings<gated<E>> = code_encoder<E>;

/// An encoder E, scaled per token by gates in [0, 1] that the caller gives: what a small head of the model says of the sentence, so that
/// the code of a word after "not" differs from that of the same word elsewhere.
///
///     x[b, t]            += g[b, t] * code[b, t]                   `embedding_inputs::gates`
///     scores[b, h, i, j] += q[b, i] * k[b, j] * bias[b, h, i, j]   `attention_inputs::query_gates`, `key_gates`: one of them, or both
///
/// It acts where E does. A gate of 1 gives E's own bits, one of 0 changes nothing. Each product and sum rounds once to the scalar, the
/// result once where storage is of 16 bits. A token without a position keeps its value. Scores have the same bits in prefill, in decode and
/// for any number of threads. Gates of WavLM's kind, made of the queries by E itself: `gated_bias`.
///
/// Codes (`code_encoder`) are formed in blocks of 64 KB for each part of a split. Where E adds without a code (PEG), `add` allocates x once
/// more in S, and what E adds is the difference, which rounds to S: E's error grows by half a last place of what it writes.
/// Biases of encoders with `bias_tile` are formed in tiles of 16 KB, or 32 in double. For others, which read queries or
/// gates or are the user's, `bias` allocates the scores once more in S; what such an E adds must not depend on the scores that come in. An
/// infinite bias is a mask: a gate of 0 lifts it, no other one changes it.
///
/// Parameters: E's. Every verb checks first and throws `argument_error` before it writes: where E does, and unless gates are given, have
/// the tokens' shape and lie in [0, 1], which is checked once per call. Const members may run in any number of threads at once.
template <gateable_encoder E>
class gated {
 public:
  using scalar = typename E::scalar;
  using state = state_t<E>;

  explicit gated(E encoder) : encoder_(std::move(encoder)) {}
  static constexpr std::string_view name() noexcept { return "gated"; }
  const E& encoder() const noexcept { return encoder_; }

  state prepare(const attention_positions& at, const executor& run = {}) const { return posenc::prepare(encoder_, at, run); }

  /// The checks of `add`, alone: \throws argument_error  where it would.
  template <class T>
    requires(additive_encoder<E> && writable_as<T, scalar>)
  void require_fits(const token_view<T>& x, const embedding_inputs<T>& inputs, const positions& at) const {
    require_output(name(), x);
    detail::require_fits(encoder_, x, at);
    if (!x.empty()) detail::require_gates(name(), inputs.gates, "the gates must be those of the tokens", {x.extent(0), x.extent(1)});
  }
  /// Those of `bias`. Of an encoder that reads more than gates, `bias` asks the rest of E itself.
  template <class T, class Q>
    requires(adds_bias<E> && writable_as<T, scalar> && readable_as<Q, scalar>)
  void require_fits(const score_view<T>& scores, const attention_inputs<Q>& inputs, const state& at) const {
    require_output(name(), scores);
    detail::require_fits(encoder_, scores, at);
    detail::require_fits(encoder_, scores, inputs, at);
    if (scores.empty()) return;
    require(inputs.query_gates || inputs.key_gates, name(), "the gates of queries or keys must be given", "none");
    if (inputs.query_gates)
      detail::require_gates(name(), inputs.query_gates, "the gates must be those of the queries", {scores.extent(0), scores.extent(2)});
    if (inputs.key_gates)
      detail::require_gates(name(), inputs.key_gates, "the gates must be those of the keys", {scores.extent(0), scores.extent(3)});
  }

  /// x += gate * code, in place, for x `[batch..., time, channel]` and gates `[batch, time]`.
  template <writable_tensor X>
    requires(additive_encoder<E> && writable_as<element_t<X>, scalar>)
  void add(X&& x, const embedding_inputs<element_t<X>>& inputs, const positions& at, const executor& run = {}) const {
    const auto view = batched(x);
    require_fits(view, inputs, at);
    if (view.empty()) return;
    detail::for_each_added<scalar>(encoder_, token_view<const element_t<X>>(view), at, run,
                                   [&](index_t b, index_t t, index_t count, const scalar* added, const scalar* sums) {
                                     for (index_t n = 0; n < count; ++n)
                                       if (at(b, t + n) != no_position)
                                         detail::add_gated_row(&view(b, t + n, 0), view.extent(2), inputs.gates(b, t + n),
                                                               added + n * view.extent(2), sums);
                                   });
  }

  /// The gradient of `add`: d_x comes in as that of what `add` wrote and leaves as that of x; d_inputs.gates, where they are given, and
  /// d_parameters are added to. x: as `add` found it. Dot products are formed in double. Allocates 256 KB where E is a trained code, and
  /// three times x where it is none.
  template <writable_tensor X>
    requires(additive_encoder<E> && writable_as<element_t<X>, scalar>)
  void add_backward(X&& d_x, const token_view<const element_t<X>>& x, const embedding_inputs<element_t<X>>& inputs,
                    const embedding_gradients<element_t<X>>& d_inputs, const positions& at, gradient_spans<scalar> d_parameters,
                    const executor& run = {}) const {
    const auto d = batched(d_x);
    require_fits(d, inputs, at);
    require(x.extents() == d.extents(), name(), "gradients must have the shapes of what they are of", x.extents(), d.extents());
    require_rows(name(), x);
    if (d_inputs.gates) detail::require_gate_gradient(name(), d_inputs.gates, inputs.gates);
    if (d.empty()) return;
    const auto gate = [&](index_t b, index_t t) { return at(b, t) == no_position ? scalar(0) : inputs.gates(b, t); };
    const std::vector<scalar> passed = detail::add_parameter_gradients(encoder_, d, x, gate, at, d_parameters, run);
    const index_t channels = d.extent(2);
    if (d_inputs.gates)
      detail::for_each_added<scalar>(encoder_, x, at, run, [&](index_t b, index_t t, index_t count, const scalar* added, const scalar*) {
        for (index_t n = 0; n < count; ++n)
          if (at(b, t + n) != no_position)
            d_inputs.gates(b, t + n) += static_cast<scalar>(detail::row_product(&d(b, t + n, 0), added + n * channels, channels));
      });
    if (!passed.empty()) detail::pass_through(d, gate, passed);
  }

  /// scores += gates * bias, in place.
  template <writable_tensor T, class Q>
    requires(adds_bias<E> && rank_of<T> == 4 && writable_as<element_t<T>, scalar> && readable_as<Q, scalar>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const state& at, const executor& run = {}) const {
    const score_view<element_t<T>> s = scores;
    require_fits(s, inputs, at);
    if (s.empty()) return;
    const biases from(*this, s.extents(), inputs, at, run);
    const index_t queries = s.extent(2), rows = s.extent(0) * s.extent(1) * queries;
    const index_t parts = run.parts(rows, nanoseconds(s));
    std::vector<scalar> tiles(static_cast<std::size_t>(parts * from.tile_values()));
    run.split(rows, parts, [&](index_t part, index_t first, index_t end) {
      for (index_t count; first < end; first += count) {
        const index_t row = first / queries, query = first % queries, b = row / s.extent(1), h = row % s.extent(1);
        count = std::min(queries - query, end - first);
        from.for_each_tile(b, h, query, count, tiles.data() + part * from.tile_values(), [&](const tile& one) {
          gate_keys(one, inputs.key_gates, b);
          gate_queries(one, inputs.query_gates, b);
          detail::add_rows(&s(b, h, one.query, one.key), s.stride(2), one.queries, one.keys, static_cast<const scalar*>(one.values),
                           one.row);
        });
      }
    });
  }

  /// The gradient of `bias`: adds to d_inputs, those of the gates and E's own, and to d_parameters; d_scores pass unchanged. Sums of gates
  /// are formed in double, in an order that depends on shapes alone. Allocates the scores once more in S where E has parameters or inputs,
  /// 8 bytes a query and up to 128 a key of each batch row. A bias that is infinite gives its gates no finite gradient.
  template <writable_tensor T, class Q>
    requires(adds_bias<E> && rank_of<T> == 4 && writable_as<element_t<T>, scalar> && readable_as<Q, scalar>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const state& at,
                     gradient_spans<scalar> d_parameters, const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    require_fits(d, inputs, at);
    if (d_inputs.query_gates) detail::require_gate_gradient(name(), d_inputs.query_gates, inputs.query_gates);
    if (d_inputs.key_gates) detail::require_gate_gradient(name(), d_inputs.key_gates, inputs.key_gates);
    if (d.empty()) return;
    if constexpr (trainable<E> || contextual_bias_encoder<E>) {
      std::vector<scalar> memory(static_cast<std::size_t>(checked_product(name(), d.extents(), sizeof(scalar))));
      const score_view<scalar> d_bias(memory.data(), d.extents());
      const index_t heads = d.extent(1), queries = d.extent(2), keys = d.extent(3), rows = d.extent(0) * heads;
      run.split(rows, run.parts(rows, nanoseconds(d)), [&](index_t, index_t from, index_t to) {
        for (; from < to; ++from) {
          const index_t b = from / heads, h = from % heads;
          for (index_t i = 0; i < queries; ++i)
            detail::widen_row(&d(b, h, i, 0), &d_bias(b, h, i, 0), keys, gate_of<scalar>(inputs.query_gates, b, i));
          gate_keys({&d_bias(b, h, 0, 0), keys, 0, queries, 0, keys}, inputs.key_gates, b);
        }
      });
      encode_scores_backward(encoder_, d_bias, inputs, d_inputs, at, d_parameters, run);
    }
    if (d_inputs.query_gates || d_inputs.key_gates) add_gate_gradients(d, inputs, d_inputs, at, run);
  }

  double score_scale(index_t channels) const
    requires changes_score_scale<E>
  {
    return encoder_.score_scale(channels);
  }
  std::vector<parameter<scalar>> parameters()
    requires trainable<E>
  {
    return encoder_.parameters();
  }

  friend bool operator==(const gated&, const gated&) = default;

 private:
  static constexpr index_t most_rows = 16, most_values = 4096;  // of a tile, which has whole rows of scores where they are no longer
  static constexpr bool has_tiles = bias_encoder<E> && requires(const E& e, const tensor_view<scalar, 2>& values, const tile_place& place,
                                                                const state& at) { e.bias_tile(values, place, at); };

  /// Some biases of one head, or gradients of them: `[queries, keys]`, rows `row` apart.
  struct tile {
    scalar* values;
    index_t row, query, queries, key, keys;
  };

  /// Where E's biases come from: its tiles, or the whole of them.
  class biases {
   public:
    /// Asks E for something that it would refuse: later it is called where nothing may throw.
    template <class Q>
    biases(const gated& self, const std::array<index_t, 4>& extents, const attention_inputs<Q>& inputs, const state& at,
           const executor& run)
        : self_(self),
          extents_(extents),
          at_(at),
          tile_keys_(std::min(extents[3], most_values)),
          tile_rows_(std::clamp<index_t>(most_values / tile_keys_, 1, most_rows)) {
      if constexpr (has_tiles) {
        nothing_.assign(static_cast<std::size_t>(tile_keys_), scalar(-0.0));
        scalar last = 0;
        self.encoder_.bias_tile(tensor_view<scalar, 2>(&last, {1, 1}), {extents[0] - 1, extents[1] - 1, extents[2] - 1, extents[3] - 1},
                                at);
      } else {
        whole_.assign(static_cast<std::size_t>(checked_product(name(), extents, sizeof(scalar))), scalar(-0.0));
        encode_scores(self.encoder_, score_view<scalar>(whole_.data(), extents), inputs, at, run);
      }
    }
    index_t tile_keys() const noexcept { return tile_keys_; }
    index_t tile_values() const noexcept { return has_tiles ? tile_rows_ * tile_keys_ : 0; }
    /// Calls act(tile) for tiles that together are those queries of one head, and all keys. It may change them.
    template <class Act>
    void for_each_tile(index_t b, index_t h, index_t query, index_t queries, scalar* spare, const Act& act) const {
      const index_t keys = extents_[3];
      for (index_t i = query, n; i < query + queries; i += n) {
        n = std::min(tile_rows_, query + queries - i);
        for (index_t j = 0, m; j < keys; j += m) {
          m = std::min(tile_keys_, keys - j);
          if constexpr (has_tiles) {
            for (index_t k = 0; k < n; ++k) std::copy_n(nothing_.data(), m, spare + k * m);  // added to it, a bias keeps a zero's sign
            self_.encoder_.bias_tile(tensor_view<scalar, 2>(spare, {n, m}), {b, h, i, j}, at_);
            act(tile{spare, m, i, n, j, m});
          } else {
            act(tile{whole_.data() + ((b * extents_[1] + h) * extents_[2] + i) * keys + j, keys, i, n, j, m});
          }
        }
      }
    }

   private:
    const gated& self_;
    std::array<index_t, 4> extents_;
    const state& at_;
    index_t tile_keys_, tile_rows_;
    std::vector<scalar> nothing_;
    mutable std::vector<scalar> whole_;
  };

  template <class T>
  static double nanoseconds(const score_view<T>& scores) {
    return 4 * detail::nanoseconds_per_value<T> * static_cast<double>(scores.extent(0) * scores.extent(1)) *
           static_cast<double>(scores.extent(2) * scores.extent(3));
  }
  template <class S>
  static S gate_of(const tensor_view<const S, 2>& gates, index_t b, index_t token) {
    return gates ? gates(b, token) : S(1);
  }
  /// A key with a gate of 0 has no bias, not even an infinite one.
  static void gate_keys(const tile& one, const tensor_view<const scalar, 2>& gates, index_t b) {
    if (!gates) return;
    const scalar* const own = &gates(b, one.key);
    detail::multiply_rows(one.values, one.row, one.queries, one.keys, own);
    for (index_t j = 0; j < one.keys; ++j)
      if (own[j] == 0)
        for (index_t i = 0; i < one.queries; ++i) one.values[i * one.row + j] = scalar(-0.0);
  }

  static void gate_queries(const tile& one, const tensor_view<const scalar, 2>& gates, index_t b) {
    if (!gates) return;
    std::array<double, most_rows> own;
    for (index_t i = 0; i < one.queries; ++i) own[static_cast<std::size_t>(i)] = static_cast<double>(gates(b, one.query + i));
    detail::scale_rows(one.values, one.row, one.queries, one.keys, own.data());
    for (index_t i = 0; i < one.queries; ++i)
      if (own[static_cast<std::size_t>(i)] == 0) std::fill_n(one.values + i * one.row, one.keys, scalar(-0.0));
  }

  template <class T, class Q>
  void add_gate_gradients(const score_view<T>& d, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs,
                          const state& at, const executor& run) const {
    const index_t batch = d.extent(0), heads = d.extent(1), queries = d.extent(2), keys = d.extent(3);
    constexpr index_t most_chunks = 16;  // of queries, with sums of their own over the keys
    const index_t chunk = std::max(most_rows, (queries + most_chunks - 1) / most_chunks), chunks = (queries + chunk - 1) / chunk;
    const biases from(*this, d.extents(), inputs, at, run);
    std::vector<double> query_sums(d_inputs.query_gates ? static_cast<std::size_t>(batch * queries) : 0);
    std::vector<double> key_sums(d_inputs.key_gates ? static_cast<std::size_t>(batch * chunks * keys) : 0);
    const index_t parts = run.parts(batch * chunks, nanoseconds(d)), spare = from.tile_values() + from.tile_keys();
    std::vector<scalar> memory(static_cast<std::size_t>(parts * spare));
    run.split(batch * chunks, parts, [&](index_t part, index_t item, index_t end) {
      scalar* const row = memory.data() + part * spare;
      for (; item < end; ++item) {
        const index_t b = item / chunks, first = item % chunks * chunk, count = std::min(chunk, queries - first);
        for (index_t h = 0; h < heads; ++h)
          from.for_each_tile(b, h, first, count, row + from.tile_keys(), [&](const tile& one) {
            if (d_inputs.key_gates)
              for (index_t i = 0; i < one.queries; ++i) {
                detail::widen_row(&d(b, h, one.query + i, one.key), row, one.keys, gate_of<scalar>(inputs.query_gates, b, one.query + i));
                detail::multiply_rows(row, 0, 1, one.keys, static_cast<const scalar*>(one.values + i * one.row));
                double* const to = key_sums.data() + item * keys + one.key;
                for (index_t j = 0; j < one.keys; ++j) to[j] += static_cast<double>(row[j]);
              }
            if (!d_inputs.query_gates) return;
            gate_keys(one, inputs.key_gates, b);
            for (index_t i = 0; i < one.queries; ++i)
              query_sums[static_cast<std::size_t>(b * queries + one.query + i)] +=
                  detail::row_product(&d(b, h, one.query + i, one.key), one.values + i * one.row, one.keys);
          });
      }
    });
    for (index_t b = 0; b < batch; ++b) {
      if (d_inputs.query_gates)
        for (index_t i = 0; i < queries; ++i)
          d_inputs.query_gates(b, i) += static_cast<scalar>(query_sums[static_cast<std::size_t>(b * queries + i)]);
      if (d_inputs.key_gates)
        for (index_t j = 0; j < keys; ++j) {
          double sum = 0;
          for (index_t n = 0; n < chunks; ++n) sum += key_sums[static_cast<std::size_t>((b * chunks + n) * keys + j)];
          d_inputs.key_gates(b, j) += static_cast<scalar>(sum);
        }
    }
  }

  E encoder_;
};

static_assert(gateable_encoder<no_encoding> && position_encoder<gated<no_encoding>>);
static_assert(contextual_additive_encoder<gated<no_encoding>> && !additive_encoder<gated<no_encoding>>);

}  // namespace POSENC_NAMESPACE
