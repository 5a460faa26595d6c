// SPDX-License-Identifier: MIT
/// \file  Positions of speech frames by a wide convolution. Baevski et al. 2020, "wav2vec 2.0"; also HuBERT, WavLM, data2vec.
#pragma once

#include <posenc/concepts.hpp>  // additive_encoder
#include <posenc/conditional/add_rows.hpp>
#include <posenc/conditional/convolutional_position_embedding_options.hpp>
#include <posenc/conditional/position_runs.hpp>
#include <posenc/conditional/weight_normed_convolution.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/kernels/gelu.hpp>
#include <posenc/layer_norm.hpp>
#include <posenc/learned/initialize.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// x += gelu(conv(x)), with conv(x)[t, o] = bias[o] + sum over taps j and the channels c of o's group of w[o, c, j] x[t + j - kernel / 2,
/// c]: torch's Conv1d with padding kernel / 2, whose last frame is dropped where the kernel is even. gelu is the exact one. With a layer
/// norm: gelu(norm(conv(x))). With several layers, each reads what the one before wrote, and the last is added to x.
///
/// Frames without a position stay as they are, and are zeros for the others in every layer. A gap or a restart of the positions separates:
/// packed utterances do not see each other. Every output sees frames to come, so that there is no streaming.
///
/// Parameters, by torch's names: "weight_g" `[1, 1, kernel]`, "weight_v" `[dim, dim / groups, kernel]`, "bias" `[dim]` for the weight
/// w = g v / ||v||, with a norm per tap; without weight norm "weight" and "bias". Of several layers with "layers.0.conv." before them. A
/// tap whose v is zeros is zeros, where torch divides by 0.
///
/// Convolutions are those of `kernels::linear` in S, errors at most (kernel * dim / groups / 16 + 6) roundings of the sum of magnitudes;
/// norms are taken in double; the sum is rounded to the elements of x once. Rows have the same bits alone as in a batch, and for any
/// number of threads. Allocates a copy of the weights, one row of x in S, two where there are several layers, and 256 + kernel frames of a
/// group per part.
template <compute_scalar S>
class convolutional_position_embedding {
 public:
  using scalar = S;
  using options_type = convolutional_position_embedding_options;

  /// Zeros. \throws argument_error  unless dim, groups, kernel and layers are positive, groups divide dim, and a weight's size in bytes
  /// fits in 63 bits.
  explicit convolutional_position_embedding(const options_type& options) : options_(options) {
    require(dim() > 0, name(), "dim must be positive", dim());
    require(options.groups > 0 && dim() % options.groups == 0, name(), "groups must be positive and divide dim", dim(),
            static_cast<index_t>(options.groups));
    require(kernel() > 0, name(), "kernel must be positive", kernel());
    require(options.layers > 0, name(), "layers must be positive", options.layers);
    const auto size = static_cast<std::size_t>(checked_product(name(), std::array{dim(), dim() / options.groups, kernel()}, sizeof(S)));
    const auto taps = static_cast<std::size_t>(options.weight_norm ? kernel() : 0), channels = static_cast<std::size_t>(dim());
    layers_.assign(static_cast<std::size_t>(options.layers),
                   {{dim(), options.groups, kernel()}, std::vector<S>(taps), std::vector<S>(size), std::vector<S>(channels)});
    for (index_t n = 0; n < options.layers; ++n) {
      const std::string prefix = options.layers > 1 ? "layers." + std::to_string(n) + ".conv." : "";
      if (options.weight_norm) names_.push_back(prefix + "weight_g");
      names_.push_back(prefix + (options.weight_norm ? "weight_v" : "weight"));
      names_.push_back(prefix + "bias");
    }
  }
  /// As the systems begin: normal weights of deviation 2 / sqrt(kernel * dim), gains that are their norms, biases of 0.
  convolutional_position_embedding(const options_type& options, random_source& random) : convolutional_position_embedding(options) {
    const double deviation = 2 / std::sqrt(static_cast<double>(kernel()) * static_cast<double>(dim()));
    for (layer& one : layers_) {
      initialize::normal(one.weight, random, {.standard_deviation = deviation});
      if (!options.weight_norm) continue;
      const auto norms = one.normed({}).norms;
      std::ranges::transform(norms, one.gain.begin(), [](double norm) { return static_cast<S>(norm); });
    }
  }

  static constexpr std::string_view name() noexcept { return "convolutional_position_embedding"; }
  const options_type& options() const noexcept { return options_; }
  index_t dim() const noexcept { return options_.dim; }
  index_t kernel() const noexcept { return options_.kernel; }

  /// To load a checkpoint, write there.
  std::vector<parameter<S>> parameters() {
    std::vector<parameter<S>> all;
    for (layer& one : layers_) {
      if (!one.gain.empty()) all.push_back({names_[all.size()], one.gain, {1, 1, kernel()}});
      all.push_back({names_[all.size()], one.weight, {dim(), dim() / options_.groups, kernel()}});
      all.push_back({names_[all.size()], one.bias, {dim()}});
    }
    return all;
  }

  /// The checks of `add`, alone: \throws argument_error  where it would.
  template <class T>
    requires(writable_as<T, S>)
  void require_fits(const token_view<T>& x, const positions& at) const {
    require_readable(x, at);
    require_output(name(), x);
  }

  /// In place, for x `[batch..., time, channel]`.
  template <writable_tensor X>
    requires(writable_as<element_t<X>, S>)
  void add(X&& x, const positions& at, const executor& run = {}) const {
    const auto view = batched(x);
    require_fits(view, at);
    if (view.empty()) return;
    std::vector<std::vector<S>> weights;
    for (const layer& one : layers_) weights.push_back(one.packed(run));
    std::vector<std::vector<S>> linear(1, rows_of(view)), hidden(layers_.size() > 1 ? 1 : 0, rows_of(view));
    for (index_t b = 0; b < view.extent(0); ++b) {
      const detail::position_runs frames(at, b);
      for (std::size_t n = 0; n < layers_.size(); ++n) {
        forward(n, token_view<const element_t<X>>(view), b, frames, weights[n], hidden, linear[0], nullptr, run);
        for_each_stretch(frames, view.extent(1), run, [&](index_t t, index_t count) {
          if (n + 1 < layers_.size()) activate(linear[0], hidden[0], t, count);
          else
            kernels::gelu<kernel_scalar<element_t<X>>, S>({.in = linear[0].data() + t * dim(),
                                                           .out = kernel_pointer(&view(b, t, 0)),
                                                           .rows = count,
                                                           .channels = dim(),
                                                           .in_row = dim(),
                                                           .out_row = view.stride(1),
                                                           .residual = kernel_pointer(&view(b, t, 0)),
                                                           .residual_row = view.stride(1)});
        });
      }
    }
  }

  /// The gradient of `add` at x, which it computes again: d, that of the sum, becomes that of x, and d_parameters are added to, in the
  /// order of frames. d and x must not overlap. Allocates two copies of the weight more, and two rows of x for each layer.
  /// \throws argument_error  unless shapes and sizes fit.
  template <writable_tensor D, readable_tensor X>
    requires(writable_as<element_t<D>, S> && stored_as<element_t<X>, element_t<D>>)
  void add_backward(D&& d, const X& x, const positions& at, gradient_spans<S> d_parameters, const executor& run = {}) const {
    using T = element_t<D>;
    const auto view = batched(d);
    const token_view<const T> from = batched(x);
    require_readable(from, at);
    require(view.extents() == from.extents(), name(), "gradients must have the shapes of what they are of", from.extents(), view.extents());
    require_output(name(), view);
    require(view.empty() || (!overlaps_partly(from, view) && from.data() != view.data()), name(),
            "what is written must not overlap what is read", from.extents(), view.extents());
    require_spans(d_parameters);
    if (view.empty()) return;
    const index_t time = view.extent(1), last = static_cast<index_t>(layers_.size()) - 1;
    std::vector<std::vector<S>> linear(layers_.size(), rows_of(view)), hidden(layers_.size() - 1, rows_of(view)), weights, flipped,
        d_weights;
    for (const layer& one : layers_) {
      weights.push_back(one.packed(run));
      flipped.push_back(one.flipped(run));
      d_weights.emplace_back(one.weight.size());
    }
    std::vector<std::vector<double>> scales(layers_.size(), std::vector<double>(static_cast<std::size_t>(options_.layer_norm ? time : 0)));
    auto d_linear = rows_of(view), d_hidden = rows_of(view);
    for (index_t b = 0; b < view.extent(0); ++b) {
      const detail::position_runs frames(at, b);
      for (index_t t = 0; t < time; ++t)
        if (at(b, t) == no_position) std::fill_n(d_linear.data() + t * dim(), dim(), S(0));
      for (std::size_t n = 0; n < layers_.size(); ++n) {
        forward(n, from, b, frames, weights[n], hidden, linear[n], scales[n].data(), run);
        if (n + 1 < layers_.size())
          for_each_stretch(frames, time, run, [&](index_t t, index_t count) { activate(linear[n], hidden[n], t, count); });
      }
      for (index_t layer_number = last; layer_number >= 0; --layer_number) {
        const auto n = static_cast<std::size_t>(layer_number);
        for_each_stretch(frames, time, run, [&](index_t t, index_t count) {
          const S* in = linear[n].data() + t * dim();
          S* out = d_linear.data() + t * dim();
          const auto slope = [&]<class Out>(const Out* d_out, index_t d_out_row) {
            kernels::gelu_gradient<Out, S>({.in = in,
                                            .d_out = d_out,
                                            .d_in = out,
                                            .rows = count,
                                            .channels = dim(),
                                            .in_row = dim(),
                                            .d_out_row = d_out_row,
                                            .d_in_row = dim()});
          };
          if (layer_number == last) slope(kernel_pointer(static_cast<const T*>(&view(b, t, 0))), view.stride(1));
          else slope(static_cast<const S*>(d_hidden.data() + t * dim()), dim());
          if (options_.layer_norm)
            for (index_t k = 0; k < count; ++k)
              detail::normalize_gradient(in + k * dim(), scales[n][static_cast<std::size_t>(t + k)], out + k * dim(), dim());
        });
        S* const d_bias = d_parameters[parameters_per_layer() * (n + 1) - 1].data();
        const auto weight_gradient = [&](const auto* read, index_t row) {
          layers_[n].shape.weight_gradient(read, row, frames, d_linear.data(), kernel() / 2, d_weights[n].data(), d_bias, run);
        };
        if (n == 0) weight_gradient(&from(b, 0, 0), from.stride(1));
        else weight_gradient(hidden[n - 1].data(), dim());
        layers_[n].shape.convolve(d_linear.data(), dim(), frames, flipped[n], nullptr, kernel() - 1 - kernel() / 2, d_hidden.data(), run);
      }
      for_each_stretch(frames, time, run, [&](index_t t, index_t count) {
        detail::add_rows(&view(b, t, 0), view.stride(1), d_hidden.data() + t * dim(), dim(), count, dim());
      });
    }
    for (std::size_t n = 0; n < layers_.size(); ++n)
      layers_[n].add_weight_gradient(d_weights[n], d_parameters.subspan(parameters_per_layer() * n), run);
  }

  friend bool operator==(const convolutional_position_embedding& a, const convolutional_position_embedding& b) {
    return a.options_ == b.options_ && a.layers_ == b.layers_;
  }

 private:
  using layer = detail::weight_normed_convolution<S>;

  std::size_t parameters_per_layer() const noexcept { return options_.weight_norm ? 3 : 2; }
  /// Memory for one row of the batch.
  template <class T>
  static std::vector<S> rows_of(const token_view<T>& x) {
    return std::vector<S>(static_cast<std::size_t>(checked_product(name(), std::array{x.extent(1), x.extent(2)}, sizeof(S))));
  }

  template <class T>
  void require_readable(const token_view<T>& x, const positions& at) const {
    require(x.extent(2) == dim(), name(), "channels must equal dim", dim(), x.extent(2));
    require_match(name(), at, x.extent(0), x.extent(1));
    require_rows(name(), x);
  }
  void require_spans(gradient_spans<S> spans) const {
    require(spans.size() == names_.size(), name(), "there must be one gradient span per parameter", names_.size(), spans.size());
    std::size_t n = 0;
    for (const layer& one : layers_)
      for (const auto* values : {&one.gain, &one.weight, &one.bias}) {
        if (values->empty()) continue;
        require(spans[n].size() == values->size(), name(), "gradient spans must have the sizes of the parameters", values->size(),
                spans[n].size());
        ++n;
      }
  }

  /// act(t, count) for stretches of frames that have a position, in parts.
  template <class Act>
  void for_each_stretch(const detail::position_runs& frames, index_t time, const executor& run, const Act& act) const {
    const double nanoseconds = static_cast<double>(time) * static_cast<double>(dim()) * (options_.layer_norm ? 3 : 1);
    run.split(time, run.parts(time, nanoseconds), [&](index_t, index_t from, index_t to) {
      for (const auto& one : frames.present) {
        const index_t first = std::max(from, one.from), end = std::min(to, one.to);
        if (first < end) act(first, end - first);
      }
    });
  }
  /// What the gelu of layer n takes, and where it is asked for what its norm scaled by.
  template <class T>
  void forward(std::size_t n, const token_view<const T>& x, index_t b, const detail::position_runs& frames, const std::vector<S>& weight,
               const std::vector<std::vector<S>>& hidden, std::vector<S>& linear, double* scales, const executor& run) const {
    const auto convolve = [&](const auto* from, index_t row) {
      layers_[n].shape.convolve(from, row, frames, weight, layers_[n].bias.data(), kernel() / 2, linear.data(), run);
    };
    if (n == 0) convolve(&x(b, 0, 0), x.stride(1));
    else convolve(hidden[std::min(n, hidden.size()) - 1].data(), dim());
    if (!options_.layer_norm) return;
    for_each_stretch(frames, x.extent(1), run, [&](index_t t, index_t count) {
      for (index_t k = t; k < t + count; ++k) {
        const double scale = detail::normalize(linear.data() + k * dim(), dim());
        if (scales) scales[k] = scale;
      }
    });
  }
  void activate(const std::vector<S>& linear, std::vector<S>& hidden, index_t t, index_t count) const {
    kernels::gelu<S>({.in = linear.data() + t * dim(),
                      .out = hidden.data() + t * dim(),
                      .rows = count,
                      .channels = dim(),
                      .in_row = dim(),
                      .out_row = dim()});
  }

  options_type options_;
  std::vector<layer> layers_;
  std::vector<std::string> names_;
};

static_assert(additive_encoder<convolutional_position_embedding<float>> && reads_embeddings<convolutional_position_embedding<double>>);
static_assert(trainable<convolutional_position_embedding<float>> && !code_encoder<convolutional_position_embedding<float>> &&
              !contextual_additive_encoder<convolutional_position_embedding<float>> &&
              !rotary_encoder<convolutional_position_embedding<float>> && !bias_encoder<convolutional_position_embedding<float>>);

}  // namespace POSENC_NAMESPACE
