// SPDX-License-Identifier: MIT
/// \file  CoaT's convolutional relative position encoding of values. Xu, Xu, Chang, Tu 2021, "Co-Scale Conv-Attentional Image
/// Transformers".
#pragma once

#include <posenc/concepts.hpp>  // contextual_value_encoder
#include <posenc/conditional/conv_relative_products.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/heads.hpp>
#include <posenc/learned/initialize.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/relative/require_inputs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// A window and the heads that see through it.
struct conv_window {
  required<index_t> size, heads;

  friend bool operator==(const conv_window&, const conv_window&) = default;
};

struct conv_relative_position_options {
  required<index_t> channels;            ///< of a head
  std::vector<conv_window> windows{};    ///< of the first heads first; sizes are odd
  index_t axes = 2;                      ///< 1 to 3; a window is as wide on each

  /// CoaT, of 8 heads.
  static conv_relative_position_options coat(index_t channels) {
    return {.channels = channels, .windows = {{.size = 3, .heads = 2}, {.size = 5, .heads = 3}, {.size = 7, .heads = 3}}};
  }
  friend bool operator==(const conv_relative_position_options&, const conv_relative_position_options&) = default;
};

/// context[t, h, c] += q[t, h, c] * (bias[h, c] + sum over the window of h's size around t of weight[h, c, tap] v[neighbour, h, c]): a
/// depthwise convolution of the values where they stand, with zeros around, times the query. CoaT's attention, which has no soft-max over
/// scores, adds it to its context unscaled; CoaT multiplies neither q nor v before.
///
/// Queries and values are the same tokens, on a grid of 1 to 3 axes: their positions say which tokens are neighbours, as for `peg`. On
/// several axes they stand in row-major order of one box. A token without a position (class token, padding) gets nothing, and counts as
/// zeros for the others.
///
/// Parameters, for window n = 0, 1, ...: "conv_list.n.weight" `[heads * channels, 1, size...]` and "conv_list.n.bias" `[heads * channels]`.
///
/// Sums are formed in S, bias first, then the taps in their order; times the query and added in S; rounded once to the elements of the
/// context: an error of at most taps + 3 roundings of the sum of magnitudes. Rows have the same bits alone as in a batch, and for any
/// number of threads. Allocates two copies of the weights and, for each part, the values of some heads of one row in S
/// (three times that in `add_values_backward`) and some lines of the grid.
template <compute_scalar S>
class conv_relative_position {
 public:
  using scalar = S;

  /// Zeros. \throws argument_error  unless channels and heads are positive, there are windows, their sizes are odd and positive, axes are 1
  /// to 3, windows have at most 256 lines of taps, and a weight's size in bytes fits in 63 bits.
  explicit conv_relative_position(const conv_relative_position_options& options) : options_(options) {
    require(options.channels > 0, name(), "channels must be positive", static_cast<index_t>(options.channels));
    require(options.axes >= 1 && options.axes <= 3, name(), "axes must be 1 to 3", options.axes);
    require(!options.windows.empty(), name(), "there must be a window", "none");
    for (const conv_window& one : options.windows) {
      const index_t size = one.size;
      require(size > 0 && size % 2 == 1, name(), "sizes of windows must be odd and positive", size);
      require(one.heads > 0, name(), "heads of windows must be positive", static_cast<index_t>(one.heads));
      std::array<index_t, 2> lines{1, 1};  // of taps
      for (index_t axis = 1; axis < options.axes; ++axis) lines[static_cast<std::size_t>(axis - 1)] = size;
      require(size <= kernels::most_kernel_rows && lines[0] * lines[1] <= kernels::most_kernel_rows, name(),
              "windows must have at most 256 lines of taps", size, options.axes);
      const index_t taps = lines[0] * lines[1] * size, all = checked_product(name(), std::array{index_t{one.heads}, channels()});
      weights_.emplace_back(static_cast<std::size_t>(checked_product(name(), std::array{all, taps}, sizeof(S))));
      weights_.emplace_back(static_cast<std::size_t>(all));
      const std::string prefix = "conv_list." + std::to_string(names_.size() / 2);
      names_.push_back(prefix + ".weight");
      names_.push_back(prefix + ".bias");
      heads_ += one.heads;
    }
  }
  /// As torch's convolutions begin: weights and biases uniform within 1 / sqrt(taps).
  conv_relative_position(const conv_relative_position_options& options, random_source& random) : conv_relative_position(options) {
    for (std::size_t n = 0; n < weights_.size(); ++n) {
      const auto taps = static_cast<double>(weights_[n / 2 * 2].size() / weights_[n / 2 * 2 + 1].size()), most = 1 / std::sqrt(taps);
      initialize::uniform(weights_[n], random, {.low = -most, .high = most});
    }
  }

  static constexpr std::string_view name() noexcept { return "conv_relative_position"; }
  const conv_relative_position_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return heads_; }
  index_t channels() const noexcept { return options_.channels; }

  /// To load a checkpoint, write there.
  std::vector<parameter<S>> parameters() {
    std::vector<parameter<S>> all;
    for (std::size_t n = 0; n < weights_.size(); ++n) {
      std::vector<index_t> shape{static_cast<index_t>(weights_[n / 2 * 2 + 1].size())};
      if (n % 2 == 0) {
        shape.push_back(1);
        shape.insert(shape.end(), static_cast<std::size_t>(options_.axes), options_.windows[n / 2].size);
      }
      all.push_back({names_[n], weights_[n], std::move(shape)});
    }
    return all;
  }

  /// The checks of `add_values`, alone: \throws argument_error  where it would, but for tokens that do not stand on a grid.
  template <class T>
    requires(writable_as<T, S>)
  void require_fits(const head_view<T>& context, const attention_inputs<T>& inputs, const attention_positions& at) const {
    require_shapes(head_view<const T>(context), inputs, at);
    require_output(name(), context.by_time());
    for (const auto& one : {inputs.queries, inputs.values})
      require(context.by_time().empty() ||
                  (!overlaps_partly(one.by_time(), context.by_time()) && one.by_time().data() != context.by_time().data()),
              name(), "the context must not overlap queries and values", one.by_time().extents(), context.by_time().extents());
  }

  /// weights: not read, may be empty.
  template <class T, readable_tensor W>
    requires(writable_as<T, S>)
  void add_values(const head_view<T>& context, const W&, const attention_inputs<T>& inputs, const attention_positions& at,
                  const executor& run = {}) const {
    require_fits(context, inputs, at);
    if (context.by_time().empty()) return;
    const auto tokens = tokens_of(at.queries, context.batch());
    detail::add_conv_relative(windows(), tokens, context, inputs.queries, inputs.values, run);
  }

  /// Adds to d_inputs.queries and d_inputs.values, where they are given, and to d_parameters, in the order of batch rows. weights and
  /// d_weights are not looked at.
  template <class T, readable_tensor W, writable_tensor D>
    requires(readable_as<T, S> && !std::is_const_v<T>)
  void add_values_backward(const head_view<const T>& d_context, const W&, D&&, const attention_inputs<T>& inputs,
                           const attention_gradients<T>& d_inputs, const attention_positions& at, gradient_spans<S> d_parameters,
                           const executor& run = {}) const {
    require_shapes(d_context, inputs, at);
    if (d_inputs.queries) detail::require_gradient(name(), d_inputs.queries, inputs.queries);
    if (d_inputs.values) detail::require_gradient(name(), d_inputs.values, inputs.values);
    require(d_parameters.size() == weights_.size(), name(), "there must be one gradient span per parameter", weights_.size(),
            d_parameters.size());
    for (std::size_t n = 0; n < weights_.size(); ++n)
      require(d_parameters[n].size() == weights_[n].size(), name(), "gradient spans must have the sizes of the parameters",
              weights_[n].size(), d_parameters[n].size());
    if (d_context.by_time().empty()) return;
    const auto tokens = tokens_of(at.queries, d_context.batch());
    detail::add_conv_relative_gradient(windows(), tokens, d_context, inputs.queries, inputs.values, d_inputs.queries, d_inputs.values,
                                       d_parameters, run);
  }

  friend bool operator==(const conv_relative_position& a, const conv_relative_position& b) {
    return a.options_ == b.options_ && a.weights_ == b.weights_;
  }

 private:
  template <class T>
  void require_shapes(const head_view<const T>& context, const attention_inputs<T>& inputs, const attention_positions& at) const {
    const auto& c = context.by_time();
    require(context.count() == heads(), name(), "heads must match the encoder", heads(), context.count());
    require(context.channels() == channels(), name(), "channels must match the encoder", channels(), context.channels());
    require_match(name(), at.queries, context.batch(), context.time(), options_.axes);
    require(at.queries == at.keys, name(), "queries and keys must stand at the same positions", at.queries.time(), at.keys.time());
    require(static_cast<bool>(inputs.queries), name(), "the queries must be given", "none");
    require(static_cast<bool>(inputs.values), name(), "the values must be given", "none");
    for (const auto& one : {inputs.queries, inputs.values}) {
      require(one.by_time().extents() == c.extents(), name(), "queries and values must have the shape of the context", c.extents(),
              one.by_time().extents());
      require_rows(name(), one.by_time());
    }
    require_rows(name(), c);
  }
  /// Of every row, or of one where all are alike.
  std::vector<detail::standing_tokens> tokens_of(const positions& at, index_t batch) const {
    std::vector<detail::standing_tokens> all;
    for (index_t b = 0; b < (at.batch() == 0 ? 1 : batch); ++b)
      all.emplace_back(options_.axes == 1 ? detail::token_runs(at, b) : detail::token_box(name(), at, b), at, b);
    return all;
  }
  std::vector<detail::depthwise_window<S>> windows() const {
    std::vector<detail::depthwise_window<S>> all;
    index_t first = 0;
    for (std::size_t n = 0; n < options_.windows.size(); ++n) {
      const conv_window& one = options_.windows[n];
      all.push_back({one.size, options_.axes, first, one.heads, weights_[2 * n], weights_[2 * n + 1]});
      first += one.heads;
    }
    return all;
  }

  conv_relative_position_options options_;
  index_t heads_ = 0;
  std::vector<std::vector<S>> weights_;  // weight and bias of each window
  std::vector<std::string> names_;
};

static_assert(contextual_value_encoder<conv_relative_position<float>> && trainable<conv_relative_position<double>>);
static_assert(!value_encoder<conv_relative_position<float>> && !additive_encoder<conv_relative_position<float>> &&
              !bias_encoder<conv_relative_position<float>> && !rotary_encoder<conv_relative_position<float>>);

}  // namespace POSENC_NAMESPACE
