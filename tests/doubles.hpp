// SPDX-License-Identifier: MIT
/// \file  Test doubles: encoders of the kinds that the core serves, each as short as its formula, and one that only writes down how it
/// was called. They check no shapes.
#pragma once

#include <posenc/concepts.hpp>
#include <posenc/gradients.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace doubles {

using namespace posenc;

/// act(i, j, ...) for all indices below the extents.
template <std::size_t Rank>
void for_each(const std::array<index_t, Rank>& extents, auto&& act, auto... at) {
  if constexpr (sizeof...(at) == Rank) act(at...);
  else
    for (index_t n = 0; n < extents[sizeof...(at)]; ++n) for_each(extents, act, at..., n);
}

/// A table as a parameter: `[row, channel]`.
template <class S>
struct table {
  index_t rows, channels;
  std::vector<S> values;
  S operator()(index_t row, index_t c) const { return values[static_cast<std::size_t>(row * channels + c)]; }
  std::vector<parameter<S>> parameters(std::string_view name) { return {{name, values, {rows, channels}}}; }
  friend bool operator==(const table&, const table&) = default;
};

/// Additive and trainable: row p of a table for the token at position p.
template <class S>
struct learned {
  using scalar = S;
  table<S> codes;

  static constexpr std::string_view name() { return "learned"; }
  void add(token_view<S> x, const positions& at) const {
    for_each(x.extents(), [&](index_t b, index_t t, index_t c) {
      if (at(b, t) != no_position) x(b, t, c) += codes(at(b, t), c);
    });
  }
  void add_backward(token_view<S> d_x, const positions& at, gradient_spans<S> d_parameters) const {
    for_each(d_x.extents(), [&](index_t b, index_t t, index_t c) {
      if (at(b, t) != no_position) d_parameters[0][static_cast<std::size_t>(at(b, t) * codes.channels + c)] += d_x(b, t, c);
    });
  }
  std::vector<parameter<S>> parameters() { return codes.parameters("codes"); }
  friend bool operator==(const learned&, const learned&) = default;
};

/// Additive, and its gradient reads the embeddings: each token gets the one before it, times a weight per channel (a convolution of one
/// tap).
template <class S>
struct previous {
  using scalar = S;
  table<S> weights;  // one row

  static constexpr std::string_view name() { return "previous"; }
  void add(token_view<S> x, const positions& at) const {
    for_each(x.extents(), [&](index_t b, index_t t, index_t c) {
      const index_t late = x.extent(1) - 1 - t;  // the last one first, for each reads the one before as it came in
      if (late > 0 && at(b, late) != no_position) x(b, late, c) += weights(0, c) * x(b, late - 1, c);
    });
  }
  void add_backward(token_view<S> d_x, token_view<const S> x, const positions& at, gradient_spans<S> d_parameters) const {
    for_each(d_x.extents(), [&](index_t b, index_t t, index_t c) {
      if (t == 0 || at(b, t) == no_position) return;
      d_x(b, t - 1, c) += weights(0, c) * d_x(b, t, c);
      d_parameters[0][static_cast<std::size_t>(c)] += d_x(b, t, c) * x(b, t - 1, c);
    });
  }
  std::vector<parameter<S>> parameters() { return weights.parameters("weights"); }
  friend bool operator==(const previous&, const previous&) = default;
};

/// Contextual and additive: gate * (x + row p of a table).
template <class S>
struct emphasis {
  using scalar = S;
  table<S> codes;

  static constexpr std::string_view name() { return "emphasis"; }
  void add(token_view<S> x, const embedding_inputs<S>& inputs, const positions& at) const {
    require(static_cast<bool>(inputs.gates), name(), "needs .gates");
    for_each(x.extents(), [&](index_t b, index_t t, index_t c) { x(b, t, c) += inputs.gates(b, t) * (x(b, t, c) + codes(at(b, t), c)); });
  }
  void add_backward(token_view<S> d_x, token_view<const S> x, const embedding_inputs<S>& inputs, const embedding_gradients<S>& d_inputs,
                    const positions& at, gradient_spans<S> d_parameters) const {
    for_each(d_x.extents(), [&](index_t b, index_t t, index_t c) {
      const S d = d_x(b, t, c);
      if (d_inputs.gates) d_inputs.gates(b, t) += d * (x(b, t, c) + codes(at(b, t), c));
      d_parameters[0][static_cast<std::size_t>(at(b, t) * codes.channels + c)] += d * inputs.gates(b, t);
      d_x(b, t, c) = d + d * inputs.gates(b, t);
    });
  }
  std::vector<parameter<S>> parameters() { return codes.parameters("codes"); }
  friend bool operator==(const emphasis&, const emphasis&) = default;
};

/// The row that a query at position i has for a key at position j: j - i, cut to the table's reach; that of 0 where one has no position.
template <class S>
index_t relative_row(const table<S>& codes, position i, position j) {
  const index_t reach = codes.rows / 2;
  if (i == no_position || j == no_position) return reach;
  return std::clamp<position>(j - i, -reach, reach) + reach;
}

/// A contextual bias that reads the queries (Shaw et al. 2018, the keys' half): scale * q_i . a(j - i).
template <class S>
struct shaw_keys {
  using scalar = S;
  table<S> codes;

  static constexpr std::string_view name() { return "shaw_keys"; }
  void bias(score_view<S> scores, const attention_inputs<S>& inputs, const attention_positions& at) const {
    require(static_cast<bool>(inputs.queries), name(), "needs .queries");
    for_each(scores.extents(), [&](index_t b, index_t h, index_t i, index_t j) {
      const index_t row = relative_row(codes, at.queries(b, i), at.keys(b, j));
      for (index_t c = 0; c < codes.channels; ++c)
        scores(b, h, i, j) += static_cast<S>(inputs.scale) * inputs.queries(b, i, h, c) * codes(row, c);
    });
  }
  void bias_backward(score_view<S> d_scores, const attention_inputs<S>& inputs, const attention_gradients<S>& d_inputs,
                     const attention_positions& at, gradient_spans<S> d_parameters) const {
    for_each(d_scores.extents(), [&](index_t b, index_t h, index_t i, index_t j) {
      const index_t row = relative_row(codes, at.queries(b, i), at.keys(b, j));
      const S d = static_cast<S>(inputs.scale) * d_scores(b, h, i, j);
      for (index_t c = 0; c < codes.channels; ++c) {
        d_parameters[0][static_cast<std::size_t>(row * codes.channels + c)] += d * inputs.queries(b, i, h, c);
        if (d_inputs.queries) d_inputs.queries(b, i, h, c) += d * codes(row, c);
      }
    });
  }
  std::vector<parameter<S>> parameters() { return codes.parameters("keys"); }
  friend bool operator==(const shaw_keys&, const shaw_keys&) = default;
};

/// A value encoder (the other half): y_i += sum over j of w_ij a(j - i).
template <class S>
struct shaw_values {
  using scalar = S;
  table<S> codes;

  static constexpr std::string_view name() { return "shaw_values"; }
  void add_values(head_view<S> context, score_view<const S> weights, const attention_positions& at) const {
    for_each(weights.extents(), [&](index_t b, index_t h, index_t i, index_t j) {
      const index_t row = relative_row(codes, at.queries(b, i), at.keys(b, j));
      for (index_t c = 0; c < codes.channels; ++c) context(b, i, h, c) += weights(b, h, i, j) * codes(row, c);
    });
  }
  void add_values_backward(head_view<const S> d_context, score_view<const S> weights, score_view<S> d_weights,
                           const attention_positions& at, gradient_spans<S> d_parameters) const {
    for_each(weights.extents(), [&](index_t b, index_t h, index_t i, index_t j) {
      const index_t row = relative_row(codes, at.queries(b, i), at.keys(b, j));
      for (index_t c = 0; c < codes.channels; ++c) {
        d_weights(b, h, i, j) += d_context(b, i, h, c) * codes(row, c);
        d_parameters[0][static_cast<std::size_t>(row * codes.channels + c)] += weights(b, h, i, j) * d_context(b, i, h, c);
      }
    });
  }
  std::vector<parameter<S>> parameters() { return codes.parameters("values"); }
  friend bool operator==(const shaw_values&, const shaw_values&) = default;
};

/// A value encoder that reads the values, as many heads as queries have: y_i += sum over j of w_ij (v_j * a(j - i)), channel by channel.
template <class S>
struct scaled_values {
  using scalar = S;
  table<S> codes;

  static constexpr std::string_view name() { return "scaled_values"; }
  void add_values(head_view<S> context, score_view<const S> weights, const attention_inputs<S>& inputs,
                  const attention_positions& at) const {
    require(static_cast<bool>(inputs.values), name(), "needs .values");
    for_each(weights.extents(), [&](index_t b, index_t h, index_t i, index_t j) {
      const index_t row = relative_row(codes, at.queries(b, i), at.keys(b, j));
      for (index_t c = 0; c < codes.channels; ++c) context(b, i, h, c) += weights(b, h, i, j) * inputs.values(b, j, h, c) * codes(row, c);
    });
  }
  void add_values_backward(head_view<const S> d_context, score_view<const S> weights, score_view<S> d_weights,
                           const attention_inputs<S>& inputs, const attention_gradients<S>& d_inputs, const attention_positions& at,
                           gradient_spans<S> d_parameters) const {
    for_each(weights.extents(), [&](index_t b, index_t h, index_t i, index_t j) {
      const index_t row = relative_row(codes, at.queries(b, i), at.keys(b, j));
      for (index_t c = 0; c < codes.channels; ++c) {
        const S d = d_context(b, i, h, c), value = inputs.values(b, j, h, c);
        d_weights(b, h, i, j) += d * value * codes(row, c);
        if (d_inputs.values) d_inputs.values(b, j, h, c) += d * weights(b, h, i, j) * codes(row, c);
        d_parameters[0][static_cast<std::size_t>(row * codes.channels + c)] += d * weights(b, h, i, j) * value;
      }
    });
  }
  std::vector<parameter<S>> parameters() { return codes.parameters("values"); }
  friend bool operator==(const scaled_values&, const scaled_values&) = default;
};

/// A gated bias: the sum of the log gates after the key, up to the query (Lin et al. 2025). For one scalar, without a template in sight.
struct forgetting {
  using scalar = double;

  static constexpr std::string_view name() { return "forgetting"; }
  void bias(score_view<double> scores, const attention_inputs<double>& inputs, const attention_positions&) const {
    require(static_cast<bool>(inputs.log_gates), name(), "needs .log_gates");
    for_each(scores.extents(), [&](index_t b, index_t h, index_t i, index_t j) {
      for (index_t t = j + 1; t <= i; ++t) scores(b, h, i, j) += inputs.log_gates(b, t, h);
    });
  }
  void bias_backward(score_view<double> d_scores, const attention_inputs<double>&, const attention_gradients<double>& d_inputs,
                     const attention_positions&, gradient_spans<double>) const {
    if (!d_inputs.log_gates) return;
    for_each(d_scores.extents(), [&](index_t b, index_t h, index_t i, index_t j) {
      for (index_t t = j + 1; t <= i; ++t) d_inputs.log_gates(b, t, h) += d_scores(b, h, i, j);
    });
  }
  friend bool operator==(const forgetting&, const forgetting&) = default;
};

/// Acts everywhere and changes nothing: writes a word on each call into a log that copies share. Its state is its letter, so that a state
/// that went to another part shows. Each backward call leaves its mark in the spans that it was given.
template <bool contextual>
struct recorder {
  using scalar = double;
  struct state {
    char letter;
  };
  char letter;
  std::shared_ptr<std::string> log;
  std::vector<double> weights{};  // each a parameter of its own

  static constexpr std::string_view name() { return "recorder"; }
  state prepare(const attention_positions&) const { return {letter}; }

  void add(token_view<double>, const positions&) const { write("add", {letter}); }
  void rotate(head_view<double>, operand role, const state& s) const { write(role == operand::query ? "rotate query" : "rotate key", s); }
  void bias(score_view<double>, const state& s) const
    requires(!contextual)
  {
    write("bias", s);
  }
  void bias(score_view<double>, const attention_inputs<double>&, const state& s) const
    requires contextual
  {
    write("bias with inputs", s);
  }
  void add_values(head_view<double>, score_view<const double>, const state& s) const { write("add_values", s); }

  void add_backward(token_view<double>, const positions&, gradient_spans<double> d) const { write("add back", {letter}, d, 1); }
  void rotate_backward(head_view<double>, operand role, const state& s) const {
    write(role == operand::query ? "rotate query back" : "rotate key back", s);
  }
  void bias_backward(score_view<double>, const state& s, gradient_spans<double> d) const
    requires(!contextual)
  {
    write("bias back", s, d, 10);
  }
  void bias_backward(score_view<double>, const attention_inputs<double>&, const attention_gradients<double>&, const state& s,
                     gradient_spans<double> d) const
    requires contextual
  {
    write("bias with inputs back", s, d, 10);
  }
  void add_values_backward(head_view<const double>, score_view<const double>, score_view<double>, const state& s,
                           gradient_spans<double> d) const {
    write("add_values back", s, d, 100);
  }
  std::vector<parameter<double>> parameters() {
    std::vector<parameter<double>> all;
    for (double& weight : weights) all.push_back({"weight", std::span(&weight, 1), {1}});
    return all;
  }
  friend bool operator==(const recorder&, const recorder&) = default;

 private:
  void write(std::string_view verb, const state& s, gradient_spans<double> d = {}, double mark = 0) const {
    *log += std::string(1, letter) + " " + std::string(verb) + (s.letter == letter ? "; " : " with the state of another; ");
    for (const auto& span : d)
      for (double& value : span) value += mark * (letter - 'a' + 1);
  }
};

/// Reads inputs at three stages, and has verbs that take an executor: each writes down what it was given.
struct reader {
  using scalar = double;
  std::shared_ptr<std::string> log;

  static constexpr std::string_view name() { return "reader"; }
  void add(token_view<double>, const embedding_inputs<double>& inputs, const positions& at, const executor& run = {}) const {
    write("add", inputs.gates.extent(1), at.time(), run);
  }
  void bias(score_view<double>, const attention_inputs<double>& inputs, const attention_positions& at, const executor& run = {}) const {
    write("bias", inputs.key_gates.extent(1), at.keys.time(), run);
  }
  void add_values(head_view<double>, score_view<const double>, const attention_inputs<double>& inputs, const attention_positions& at,
                  const executor& run = {}) const {
    write("add_values", inputs.values.time(), at.keys.time(), run);
  }
  void add_backward(token_view<double>, token_view<const double> x, const embedding_inputs<double>& inputs,
                    const embedding_gradients<double>& d_inputs, const positions&, gradient_spans<double>, const executor& run = {}) const {
    write("add back", inputs.gates.extent(1) + d_inputs.gates.extent(1), x.extent(1), run);
  }
  void bias_backward(score_view<double>, const attention_inputs<double>& inputs, const attention_gradients<double>& d_inputs,
                     const attention_positions& at, gradient_spans<double>, const executor& run = {}) const {
    write("bias back", inputs.key_gates.extent(1) + d_inputs.key_gates.extent(1), at.keys.time(), run);
  }
  void add_values_backward(head_view<const double>, score_view<const double>, score_view<double> d_weights,
                           const attention_inputs<double>& inputs, const attention_gradients<double>& d_inputs, const attention_positions&,
                           gradient_spans<double>, const executor& run = {}) const {
    write("add_values back", inputs.values.time() + d_inputs.values.time(), d_weights.extent(3), run);
  }
  friend bool operator==(const reader&, const reader&) = default;

 private:
  void write(std::string_view verb, index_t given, index_t time, const executor& run) const {
    *log += std::string(verb) + " " + std::to_string(given) + " of " + std::to_string(time) + " on " + std::to_string(run.threads()) + "; ";
  }
};

/// The slope of loss() in one of the variables it reads, by a central difference.
double difference_quotient(double& variable, auto&& loss) {
  const double kept = variable, step = 1e-5 * std::max(1.0, std::abs(kept));
  variable = kept + step;
  const double above = loss(), width = variable - kept;
  variable = kept - step;
  const double slope = (above - loss()) / (width + (kept - variable));
  variable = kept;
  return slope;
}

static_assert(additive_encoder<learned<float>> && trainable<learned<double>> && position_encoder<learned<double>>);
static_assert(contextual_bias_encoder<shaw_keys<float>> && !bias_encoder<shaw_keys<float>> && trainable<shaw_keys<double>>);
static_assert(value_encoder<shaw_values<float>> && !contextual_bias_encoder<shaw_values<float>> && trainable<shaw_values<double>>);
static_assert(contextual_bias_encoder<forgetting> && !trainable<forgetting> && position_encoder<forgetting>);
static_assert(reads_embeddings<previous<double>> && !contextual_additive_encoder<previous<double>> && trainable<previous<float>>);
static_assert(contextual_additive_encoder<emphasis<float>> && !additive_encoder<emphasis<float>> && trainable<emphasis<double>>);
static_assert(contextual_value_encoder<scaled_values<float>> && !value_encoder<scaled_values<float>> && trainable<scaled_values<double>>);
static_assert(contextual_additive_encoder<reader> && contextual_bias_encoder<reader> && contextual_value_encoder<reader>);
static_assert(bias_encoder<recorder<false>> && !contextual_bias_encoder<recorder<false>> && position_encoder<recorder<false>>);
static_assert(contextual_bias_encoder<recorder<true>> && !bias_encoder<recorder<true>> && position_encoder<recorder<true>>);

}  // namespace doubles
