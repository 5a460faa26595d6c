// SPDX-License-Identifier: MIT
/// \file  The projection that makes forgetting gates of hidden states. Lin et al. 2025, "Forgetting Transformer".
#pragma once

#include <posenc/conditional/log_sigmoid.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/kernels/linear.hpp>
#include <posenc/kernels/log_sigmoid.hpp>
#include <posenc/kernels/widen.hpp>
#include <posenc/random.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

struct forget_gate_options {
  required<index_t> dim;    ///< of the hidden states; 0: gates of the bias alone, the same for every token
  required<index_t> gates;  ///< the heads, or twice as many for `forgetting::bidirectional`
  double bias = 5;          ///< that training begins with: 5 in x-transformers, 0 in FoX, whose `forget_gate_biases` are an alternative
  double log_scale = 1;     ///< multiplies the log gates: x-transformers' post_log_scale

  friend bool operator==(const forget_gate_options&, const forget_gate_options&) = default;
};

/// The biases from which gates of the bias alone forget within times T spaced evenly in their logarithm: log f = -1 / T_h, ALiBi with
/// slopes 1 / T_h. -log(e^(1 / T_h) - 1), with T_1 = least and the last T = most. FoX's fgate_type "bias_only", and "fixed" where not
/// trained.
/// \throws argument_error  unless heads are positive and 0 < least <= most, finite.
inline std::vector<double> forget_gate_biases(index_t heads, double least, double most) {
  constexpr std::string_view who = "forget_gate_biases";
  require(heads > 0, who, "heads must be positive", heads);
  require(least > 0 && least <= most && std::isfinite(most) && std::isfinite(1 / least), who,
          "times must be positive and finite, and not fall", least, most);
  checked_product(who, std::array{heads}, sizeof(double));
  std::vector<double> biases(static_cast<std::size_t>(heads));
  const double first = std::log(least), last = std::log(most);
  for (index_t h = 0; h < heads; ++h) {
    const double part = heads == 1 ? 0 : static_cast<double>(h) / static_cast<double>(heads - 1);
    const double rate = std::exp(-(first * (1 - part) + last * part));
    biases[static_cast<std::size_t>(h)] = -rate - std::log(-std::expm1(-rate));  // e^rate itself overflows
  }
  return biases;
}

/// log f = log_scale * log_sigmoid(W x + b), for each token and gate: FoX's fgate_proj, and the linear layer of x-transformers'
/// DataDependentAlibi. Parameters: "weight" `[gates, dim]`, unless dim is 0, and "bias" `[gates]`. Sums are those of `kernels::linear`: a
/// token has the same bits alone as among others.
template <compute_scalar S>
class forget_gate {
 public:
  /// Weights of 0. \throws argument_error  unless dim is not negative, gates are positive, and bias and log_scale finite, log_scale not
  /// negative.
  explicit forget_gate(const forget_gate_options& options) : options_(options) {
    require(dim() >= 0, name(), "dim must not be negative", dim());
    require(gates() > 0, name(), "gates must be positive", gates());
    require(std::isfinite(options.bias), name(), "bias must be finite", options.bias);
    detail::require_log_scale(name(), options.log_scale);
    checked_product(name(), std::array{gates()}, sizeof(double));
    weight_.resize(static_cast<std::size_t>(checked_product(name(), std::array{gates(), dim()}, sizeof(S))));
    bias_.assign(static_cast<std::size_t>(gates()), static_cast<S>(options.bias));
  }
  /// Weights uniform within 1 / sqrt(dim), as torch's linear layers begin.
  forget_gate(const forget_gate_options& options, random_source& random) : forget_gate(options) {
    const double most = 1 / std::sqrt(static_cast<double>(dim()));
    for (S& value : weight_) value = static_cast<S>(random.uniform(-most, most));
  }

  static constexpr std::string_view name() noexcept { return "forget_gate"; }
  const forget_gate_options& options() const noexcept { return options_; }
  index_t dim() const noexcept { return options_.dim; }
  index_t gates() const noexcept { return options_.gates; }

  std::vector<parameter<S>> parameters() {
    std::vector<parameter<S>> all;
    if (dim() > 0) all.push_back({"weight", weight_, {gates(), dim()}});
    all.push_back({"bias", bias_, {gates()}});
    return all;
  }

  /// log_gates `[batch, token, gate]` of x `[batch, token, dim]`, which must not overlap. Allocates for 16-bit x alone, 64 rows a thread.
  /// \throws argument_error  unless shapes fit.
  template <readable_tensor X, writable_tensor Out>
    requires(rank_of<X> == 3 && rank_of<Out> == 3 && readable_as<element_t<X>, S> && std::same_as<element_t<Out>, S>)
  void log_gates(const X& x, Out&& log_gates, const executor& run = {}) const {
    const tensor_view<const element_t<X>, 3> from = x;
    const tensor_view<S, 3> to = log_gates;
    require_x(from);
    require(to.extents() == shape_of(from), name(), "the log gates must be [batch, token, gate]", shape_of(from), to.extents());
    require_output(name(), to);
    if (to.empty()) return;
    const index_t time = to.extent(1), blocks = (time + block - 1) / block, units = to.extent(0) * blocks;
    const double cost =
        static_cast<double>(to.extent(0) * time * gates()) * (static_cast<double>(dim()) / 20 + detail::nanoseconds_per_log_gate);
    const index_t parts = run.parts(units, cost);
    std::vector<S> memory(static_cast<std::size_t>(parts * spare<element_t<X>>()));
    run.split(units, parts, [&](index_t part, index_t begin, index_t end) {
      S* const rows = memory.data() + part * spare<element_t<X>>();
      for (index_t unit = begin; unit < end; ++unit) {
        const index_t b = unit / blocks, t = unit % blocks * block, count = std::min(block, time - t);
        S* const out = &to(b, t, 0);
        const auto some = read_rows(from, b, t, count, rows);
        project(some, count, out, to.stride(1));
        kernels::log_sigmoid<S>({out, out, count, gates(), to.stride(1), to.stride(1), static_cast<S>(options_.log_scale)});
      }
    });
  }

  /// The gradient of `log_gates` at x, whose logits are computed again: adds to d_x, unless it is not given, and to d_parameters, in the
  /// order of tokens. d_x must overlap nothing else. Allocates some numbers per gate, and per channel of 16-bit x, and 64 rows.
  /// \throws argument_error  unless shapes fit.
  template <readable_tensor X, readable_tensor D>
    requires(rank_of<X> == 3 && rank_of<D> == 3 && readable_as<element_t<X>, S> && stored_as<element_t<D>, S>)
  void backward(const X& x, const D& d_log_gates, const tensor_view<S, 3>& d_x, gradient_spans<S> d_parameters) const {
    const tensor_view<const element_t<X>, 3> from = x;
    const tensor_view<const S, 3> d = d_log_gates;
    require_x(from);
    require(d.extents() == shape_of(from), name(), "the gradient of the log gates must be [batch, token, gate]", shape_of(from),
            d.extents());
    require_rows(name(), d);
    if (d_x) {
      require(d_x.extents() == from.extents(), name(), "gradients must have the shapes of what they are of", from.extents(), d_x.extents());
      require_output(name(), d_x);
    }
    const std::size_t parameters = dim() > 0 ? 2 : 1;
    require(d_parameters.size() == parameters, name(), "there must be one gradient span per parameter", parameters, d_parameters.size());
    const auto& d_bias = d_parameters[parameters - 1];
    require(d_parameters[0].size() == (dim() > 0 ? weight_.size() : bias_.size()) && d_bias.size() == bias_.size(), name(),
            "gradient spans must have the sizes of the parameters", dim() > 0 ? weight_.size() : bias_.size(), d_parameters[0].size());
    if (d.empty()) return;
    std::vector<S> rows(static_cast<std::size_t>(spare<element_t<X>>())), logits(static_cast<std::size_t>(block * gates()));
    for (index_t b = 0; b < d.extent(0); ++b)
      for (index_t t = 0, count; t < d.extent(1); t += count) {
        count = std::min(block, d.extent(1) - t);
        const auto some = read_rows(from, b, t, count, rows.data());
        project(some, count, logits.data(), gates());
        kernels::log_sigmoid_gradient<S>(
            {logits.data(), &d(b, t, 0), logits.data(), count, gates(), gates(), d.stride(1), gates(), static_cast<S>(options_.log_scale)});
        kernels::linear_weight_gradient<S, S>({.d_y = logits.data(),
                                               .x = some.first,
                                               .tokens = count,
                                               .in = dim(),
                                               .out = gates(),
                                               .d_y_token = gates(),
                                               .x_token = some.stride,
                                               .d_w = d_parameters[0].data(),
                                               .d_w_row = dim(),
                                               .d_bias = d_bias.data()});
        if (!d_x || dim() == 0) continue;
        kernels::linear_input_gradient<S, S>({.d_y = logits.data(),
                                              .d_x = &d_x(b, t, 0),
                                              .tokens = count,
                                              .in = dim(),
                                              .out = gates(),
                                              .d_y_token = gates(),
                                              .d_x_token = d_x.stride(1),
                                              .w = weight_.data(),
                                              .w_row = dim(),
                                              .accumulate = true});
      }
  }

  friend bool operator==(const forget_gate&, const forget_gate&) = default;

 private:
  static constexpr index_t block = 64;  // rows at a time: what they need stays in a cache

  struct rows_of {
    const S* first;
    index_t stride;
  };

  template <class T>
  std::array<index_t, 3> shape_of(const tensor_view<const T, 3>& x) const {
    return {x.extent(0), x.extent(1), gates()};
  }
  template <class T>
  void require_x(const tensor_view<const T, 3>& x) const {
    require(x.extent(2) == dim(), name(), "the hidden states must be [batch, token, dim]", dim(), x.extent(2));
    require_rows(name(), x);
  }
  template <class T>
  index_t spare() const noexcept {
    return stored_as<T, S> ? 0 : block * dim();
  }
  template <class T>
  static rows_of read_rows(const tensor_view<const T, 3>& x, index_t b, index_t t, index_t count, S* rows) {
    const T* const first = x.data() ? &x(b, t, 0) : nullptr;
    if constexpr (std::same_as<T, S>) {
      return {first, x.stride(1)};
    } else {
      kernels::widen<kernel_scalar<T>>({kernel_pointer(first), rows, count, x.extent(2), x.stride(1), x.extent(2)});
      return {rows, x.extent(2)};
    }
  }
  void project(const rows_of& x, index_t count, S* out, index_t stride) const {
    kernels::linear<S>({.x = x.first,
                        .y = out,
                        .tokens = count,
                        .in = dim(),
                        .out = gates(),
                        .x_token = x.stride,
                        .y_token = stride,
                        .w = weight_.data(),
                        .w_row = dim(),
                        .start = bias_.data()});
  }

  forget_gate_options options_;
  std::vector<S> weight_, bias_;
};

}  // namespace POSENC_NAMESPACE
