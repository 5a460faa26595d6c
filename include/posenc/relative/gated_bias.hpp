// SPDX-License-Identifier: MIT
/// \file  WavLM's gated relative bias: T5's, times a gate of the query. Chi et al. 2022, "XLM-E"; Chen et al. 2022, "WavLM".
#pragma once

#include <posenc/bias_verbs.hpp>  // require_scores_match, placed_scores
#include <posenc/concepts.hpp>    // contextual_bias_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>       // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>   // parameter, attention_gradients
#include <posenc/heads.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/relative/bias_table.hpp>
#include <posenc/relative/relative_products.hpp>
#include <posenc/relative/require_inputs.hpp>
#include <posenc/relative/t5_bias.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

struct gated_bias_options {
  required<t5_bias_options> bias;  ///< `t5_bias_options::wavlm(heads)`
  required<index_t> channels;      ///< of a head

  friend bool operator==(const gated_bias_options&, const gated_bias_options&) = default;
};

/// scores[b, h, i, j] += g * (T5's bias of the distance), after the scale, with the gate
///
///     g = u (r c_h - 1) + 2,    u = sigmoid(sum of w_0 ... w_3 . x + b_0 ... b_3),    r = sigmoid(the same of 4 ... 7)
///
/// of x, which is `inputs.queries`: WavLM and UniSpeech take the hidden states that queries are made of, split into heads; ONNX Runtime's
/// GatedRelativePositionBias the queries themselves.
///
/// Parameters: "table" `[num_buckets, heads]`, "gate_weight" `[8, channels]`, "gate_bias" `[8]` (gru_rel_pos_linear) and "gate_constant"
/// `[heads]` (gru_rel_pos_const, eco_a). WavLM trains one table for all layers and gates of their own: all layers read the state that the
/// first one's `prepare` made, and add to one gradient of the table.
///
/// Scores have the same bits in prefill, in decode and for any number of threads. Allocates a gate per query and head and 256 KB a thread;
/// nothing of the size of the scores is made.
template <compute_scalar S>
class gated_bias {
 public:
  using scalar = S;
  using state = bias_table<S>;

  /// A table of zeros; gates of 1, as at the beginning of WavLM's training: weights and biases 0, constants 1 (then g = 1.75).
  /// \throws argument_error  unless channels are positive, and what `t5_bias` throws.
  explicit gated_bias(const gated_bias_options& options) : options_(options), bias_(options.bias) {
    require(channels() > 0, name(), "channels must be positive", channels());
    weight_.resize(static_cast<std::size_t>(checked_product(name(), std::array{gate_rows, channels()}, sizeof(S))));
    gate_bias_.resize(gate_rows);
    constant_.assign(static_cast<std::size_t>(heads()), S(1));
  }

  static constexpr std::string_view name() noexcept { return "gated_bias"; }
  const gated_bias_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return bias_.heads(); }
  index_t channels() const noexcept { return options_.channels; }

  /// T5's biases of all distances that occur, for all layers.
  state prepare(const attention_positions& at, const executor& = {}) const {
    require(at.queries.axes() == 1 && at.keys.axes() == 1, name(), "positions must have one axis", at.queries.axes(), at.keys.axes());
    const distance_range ends = bias_.buckets().ends(), all = detail::distances_between(at);
    const distance_range some = all.low > all.high
                                    ? distance_range{0, 0}
                                    : distance_range{std::clamp(all.low, ends.low, ends.high), std::clamp(all.high, ends.low, ends.high)};
    const index_t count = some.high - some.low + 1;
    std::shared_ptr<S[]> values(new S[static_cast<std::size_t>(checked_product(name(), std::array{heads(), count}, sizeof(S)))]);
    for (index_t h = 0; h < heads(); ++h)
      for (index_t n = 0; n < count; ++n) values[h * count + n] = bias_.value(h, 0, some.low + n);
    return state(at, std::move(values), heads(), some);
  }

  /// The checks of `bias`, alone: \throws argument_error  where it would.
  template <class T, class Q, detail::placed_scores At>
    requires(writable_as<T, S> && readable_as<Q, S>)
  void require_fits(const score_view<T>& scores, const attention_inputs<Q>& inputs, const At& at) const {
    require(scores.extent(1) == heads(), name(), "heads must match the encoder", heads(), scores.extent(1));
    detail::require_scores_match(name(), detail::positions_of(at), scores.extent(0), scores.extent(2), scores.extent(3));
    require_output(name(), scores);
    if (scores.empty()) return;
    detail::require_queries(name(), scores, inputs.queries, channels());
  }

  /// scores += gate * bias, in place.
  template <writable_tensor T, class Q, detail::placed_scores At>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const At& at, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> s = scores;
    require_fits(s, inputs, at);
    const state& table = ready(at);
    if (s.empty()) return;
    const gates all = gates_of(inputs.queries);
    detail::add_relative_products<element_t<T>, element_t<T>, S>(s, s, all.view(), product_of(table, pass), run);
  }
  template <writable_tensor T, class Q, detail::placed_scores At>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias(T&& scores, const attention_inputs<Q>& inputs, const At& at, const executor& run = {}) const {
    bias(scores, inputs, at, score_pass{}, run);
  }

  /// The gradient of `bias`: adds to d_inputs.queries, where it is given, and to d_parameters; d_scores becomes the gradient of the scores
  /// that came in, which differs only where a `score_pass` scaled or masked.
  template <writable_tensor T, class Q, detail::placed_scores At>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const At& at,
                     gradient_spans<S> d_parameters, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    require_fits(d, inputs, at);
    const std::array sizes{bias_.table().extent(0) * heads(), gate_rows * channels(), gate_rows, heads()};
    require(d_parameters.size() == sizes.size(), name(), "there must be one gradient span per parameter", sizes.size(),
            d_parameters.size());
    for (std::size_t n = 0; n < sizes.size(); ++n)
      require(static_cast<index_t>(d_parameters[n].size()) == sizes[n], name(), "gradient spans must have the sizes of the parameters",
              sizes[n], d_parameters[n].size());
    if (d_inputs.queries) detail::require_gradient(name(), d_inputs.queries, inputs.queries);
    const state& table = ready(at);
    if (d.empty()) return;
    gates all = gates_of(inputs.queries);
    gates d_gates{all.batch, all.time, all.heads, std::vector<S>(all.values.size())};
    const auto product = product_of(table, pass);
    std::vector<S> d_values(static_cast<std::size_t>(heads() * product.vectors.count));
    const head_view<S> d_view = d_gates.view();
    detail::add_relative_products_gradient(d, head_view<const S>(all.view()), product,
                                           detail::relative_product_gradient<S, S>{.x = d_view, .vectors = d_values.data()}, run);
    for (index_t h = 0; h < heads(); ++h)
      for (index_t n = 0; n < product.vectors.count; ++n)
        d_parameters[0][static_cast<std::size_t>(bias_.buckets().bucket(product.vectors.low + n) * heads() + h)] +=
            static_cast<S>(static_cast<double>(d_values[static_cast<std::size_t>(h * product.vectors.count + n)]) * bias_.options().scale);
    add_gate_gradients(inputs.queries, d_inputs.queries, d_gates, d_parameters);
  }
  template <writable_tensor T, class Q, detail::placed_scores At>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S> && readable_as<Q, S>)
  void bias_backward(T&& d_scores, const attention_inputs<Q>& inputs, const attention_gradients<Q>& d_inputs, const At& at,
                     gradient_spans<S> d_parameters, const executor& run = {}) const {
    bias_backward(d_scores, inputs, d_inputs, at, d_parameters, score_pass{}, run);
  }

  double score_scale(index_t of_channels) const noexcept { return bias_.score_scale(of_channels); }
  std::vector<parameter<S>> parameters() {
    auto all = bias_.parameters();
    all.push_back({"gate_weight", weight_, {gate_rows, channels()}});
    all.push_back({"gate_bias", gate_bias_, {gate_rows}});
    all.push_back({"gate_constant", constant_, {heads()}});
    return all;
  }

  friend bool operator==(const gated_bias&, const gated_bias&) = default;

 private:
  static constexpr index_t gate_rows = 8, halves = 2, rows_together = 64;

  /// `[batch, time, head]`.
  struct gates {
    index_t batch, time, heads;
    std::vector<S> values;
    head_view<S> view() { return head_view<S>({values.data(), {batch, time, heads, 1}}); }
    head_view<const S> view() const { return head_view<const S>({values.data(), {batch, time, heads, 1}}); }
  };

  const state& ready(const state& table) const {
    require(table.values().extent(0) == heads(), name(), "the table must be of this encoder", heads(), table.values().extent(0));
    return table;
  }
  state ready(const attention_positions& at) const { return prepare(at); }

  static detail::relative_product<S> product_of(const state& table, const score_pass& pass) {
    const auto values = table.values();
    return {.vectors = {values.data(), values.extent(1), 1, values.extent(1), table.distances().low, true}, .at = table.at(), .pass = pass};
  }

  /// The rows of each half, added up in double: `[2, channels]`, and the biases `[2]`.
  std::pair<std::vector<S>, std::array<S, 2>> summed_rows() const {
    std::vector<S> weight(static_cast<std::size_t>(halves * channels()));
    std::array<S, 2> bias{};
    const auto sum = [](const S* first, index_t step) {
      double all = 0;
      for (index_t k = 0; k < gate_rows / halves; ++k) all += static_cast<double>(first[k * step]);
      return static_cast<S>(all);
    };
    for (index_t half = 0; half < halves; ++half) {
      const index_t row = half * gate_rows / halves;
      bias[static_cast<std::size_t>(half)] = sum(gate_bias_.data() + row, 1);
      for (index_t c = 0; c < channels(); ++c)
        weight[static_cast<std::size_t>(half * channels() + c)] = sum(weight_.data() + row * channels() + c, channels());
    }
    return {std::move(weight), bias};
  }

  static double sigmoid(S x) noexcept { return 1 / (1 + std::exp(-static_cast<double>(x))); }

  /// Calls act(b, t, count, h, rows, sums): x of some tokens of a head, `[count, channels]`, and what the sigmoids are taken of, `[count,
  /// 2]`.
  template <class Q, class Act>
  void for_each_rows(const head_view<const Q>& x, const Act& act) const {
    const auto [weight, bias] = summed_rows();
    std::vector<S> rows(static_cast<std::size_t>(rows_together * channels())), sums(static_cast<std::size_t>(rows_together * halves));
    for (index_t b = 0; b < x.batch(); ++b)
      for (index_t h = 0; h < x.count(); ++h)
        for (index_t t = 0, count; t < x.time(); t += count) {
          count = std::min(rows_together, x.time() - t);
          detail::widen_rows<Q, S>(x, b, t, count, h, rows.data(), nullptr, S(1));
          kernels::linear<S>({.x = rows.data(),
                              .y = sums.data(),
                              .tokens = count,
                              .in = channels(),
                              .out = halves,
                              .x_token = channels(),
                              .y_token = halves,
                              .w = weight.data(),
                              .w_row = channels(),
                              .start = bias.data()});
          act(b, t, count, h, rows.data(), sums.data(), weight.data());
        }
  }
  template <class Q>
  gates gates_of(const head_view<const Q>& x) const {
    gates all{x.batch(), x.time(), x.count(), std::vector<S>(static_cast<std::size_t>(x.batch() * x.time() * x.count()))};
    for_each_rows(x, [&](index_t b, index_t t, index_t count, index_t h, const S*, const S* sums, const S*) {
      for (index_t n = 0; n < count; ++n)
        all.values[static_cast<std::size_t>((b * all.time + t + n) * all.heads + h)] = static_cast<S>(
            sigmoid(sums[2 * n]) * (sigmoid(sums[2 * n + 1]) * static_cast<double>(constant_[static_cast<std::size_t>(h)]) - 1) + 2);
    });
    return all;
  }
  template <class Q>
  void add_gate_gradients(const head_view<const Q>& x, const head_view<Q>& d_x, const gates& d, gradient_spans<S> d_parameters) const {
    std::vector<S> d_weight(static_cast<std::size_t>(halves * channels())), d_sums(static_cast<std::size_t>(rows_together * halves));
    std::array<S, 2> d_bias{};
    std::vector<double> d_constant(constant_.size());
    std::vector<S> d_rows(static_cast<std::size_t>(rows_together * channels()));
    for_each_rows(x, [&](index_t b, index_t t, index_t count, index_t h, const S* rows, const S* sums, const S* weight) {
      const double constant = static_cast<double>(constant_[static_cast<std::size_t>(h)]);
      for (index_t n = 0; n < count; ++n) {
        const double u = sigmoid(sums[2 * n]), r = sigmoid(sums[2 * n + 1]);
        const double gate = static_cast<double>(d.values[static_cast<std::size_t>((b * d.time + t + n) * d.heads + h)]);
        d_constant[static_cast<std::size_t>(h)] += gate * u * r;
        d_sums[static_cast<std::size_t>(2 * n)] = static_cast<S>(gate * (r * constant - 1) * u * (1 - u));
        d_sums[static_cast<std::size_t>(2 * n + 1)] = static_cast<S>(gate * u * constant * r * (1 - r));
      }
      kernels::linear_weight_gradient<S, S>({.d_y = d_sums.data(),
                                             .x = rows,
                                             .tokens = count,
                                             .in = channels(),
                                             .out = halves,
                                             .d_y_token = halves,
                                             .x_token = channels(),
                                             .d_w = d_weight.data(),
                                             .d_w_row = channels(),
                                             .d_bias = d_bias.data()});
      if (!d_x) return;
      kernels::linear_input_gradient<S, S>({.d_y = d_sums.data(),
                                            .d_x = d_rows.data(),
                                            .tokens = count,
                                            .in = channels(),
                                            .out = halves,
                                            .d_y_token = halves,
                                            .d_x_token = channels(),
                                            .w = weight,
                                            .w_row = channels(),
                                            .accumulate = false});
      detail::add_rows(d_x, b, t, count, h, d_rows.data(), S(1));
    });
    for (index_t k = 0; k < gate_rows; ++k) {
      const index_t half = k / (gate_rows / halves);
      for (index_t c = 0; c < channels(); ++c)
        d_parameters[1][static_cast<std::size_t>(k * channels() + c)] += d_weight[static_cast<std::size_t>(half * channels() + c)];
      d_parameters[2][static_cast<std::size_t>(k)] += d_bias[static_cast<std::size_t>(half)];
    }
    for (std::size_t h = 0; h < constant_.size(); ++h) d_parameters[3][h] += static_cast<S>(d_constant[h]);
  }

  gated_bias_options options_;
  t5_bias<S> bias_;
  std::vector<S> weight_, gate_bias_, constant_;
};

static_assert(contextual_bias_encoder<gated_bias<float>> && contextual_bias_encoder<gated_bias<double>>);
static_assert(position_encoder<gated_bias<float>> && trainable<gated_bias<float>> && changes_score_scale<gated_bias<float>>);
static_assert(!bias_encoder<gated_bias<float>> && !value_encoder<gated_bias<float>>);

}  // namespace POSENC_NAMESPACE
