// SPDX-License-Identifier: MIT
/// \file  Small multilayer perceptrons, from which some encoders compute their biases, and their exact gradients.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/kernels/linear.hpp>
#include <posenc/mlp_layer.hpp>
#include <posenc/random.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

struct mlp_options {
  required<index_t> in, out;
  std::vector<index_t> hidden{};          ///< channels of each hidden layer; empty: one linear layer
  required<mlp_activation> activation;   ///< of the hidden layers
  bool layer_norm = false;  ///< between linear layer and activation, with epsilon 1e-5 as torch's: CrossFormer, x-transformers
  bool output_bias = true;  ///< false: Swin v2
  std::string prefix{};  ///< of the names of the parameters
  bool nested_names = false;  ///< layer n is a Sequential of its own in one of all, as in x-transformers: "1.0.weight"

  friend bool operator==(const mlp_options&, const mlp_options&) = default;
};

/// Hidden layers of linear, layer norm where asked for, and activation, then a linear layer: torch's Sequential of these, with its names
/// ("0.weight", "0.bias", "2.weight", ...), shapes and order of parameters.
///
/// A row has the same bits alone as among others. Linear layers are those of `kernels::linear`, formed in S; a layer norm is formed in
/// double and rounded once to S; silu takes the C library's exponential function, in S, and gelu `kernels::gelu`. Functions run in the
/// calling thread, 64 rows at a time.
template <compute_scalar S>
class mlp {
 public:
  using scalar = S;

  /// Zeros; the weights of layer norms are ones.
  /// \throws argument_error  unless all channels are positive and a weight's size in bytes fits in 63 bits.
  explicit mlp(mlp_options options) : options_(std::move(options)) {
    require(options_.in > 0, name(), "in must be positive", static_cast<index_t>(options_.in));
    require(options_.out > 0, name(), "out must be positive", static_cast<index_t>(options_.out));
    index_t in = options_.in;
    for (const index_t channels : options_.hidden) {
      require(channels > 0, name(), "hidden channels must be positive", channels);
      add_layer(in, channels, true, options_.layer_norm);
      in = channels;
    }
    add_layer(in, options_.out, options_.output_bias, false);
    name_parameters();
  }
  /// As torch's modules begin: weights and biases uniform within 1 / sqrt(in) of the layer, layer norms with ones and zeros.
  mlp(mlp_options options, random_source& random) : mlp(std::move(options)) {
    for (layer& one : layers_) {
      const double most = 1 / std::sqrt(static_cast<double>(one.in));
      for (auto* values : {&one.weight, &one.bias})
        for (S& value : *values) value = static_cast<S>(random.uniform(-most, most));
    }
  }
  /// The same network in another scalar.
  template <compute_scalar Other>
  explicit mlp(const mlp<Other>& other) : mlp(other.options()) {
    for_each_parameter(layers_, [source = other.values()](std::vector<S>& values, const auto&) mutable {
      std::ranges::transform(source.front(), values.begin(), [](Other value) { return static_cast<S>(value); });
      source.erase(source.begin());
    });
  }

  static constexpr std::string_view name() noexcept { return "mlp"; }
  const mlp_options& options() const noexcept { return options_; }
  index_t in() const noexcept { return options_.in; }
  index_t out() const noexcept { return options_.out; }

  /// In torch's order. To load a checkpoint, write there.
  std::vector<parameter<S>> parameters() {
    std::vector<parameter<S>> all;
    for_each_parameter(layers_, [&](std::vector<S>& values, std::vector<index_t> shape) {
      all.push_back({names_[all.size()], values, std::move(shape)});
    });
    return all;
  }
  /// The same to read.
  std::vector<std::span<const S>> values() const {
    std::vector<std::span<const S>> all;
    for_each_parameter(layers_, [&](const std::vector<S>& values, const auto&) { all.emplace_back(values); });
    return all;
  }

  /// How many numbers `forward` needs to work with: for any number of rows, or for so many.
  index_t workspace_size(index_t rows = block) const noexcept { return 2 * std::min(rows, block) * widest(); }
  /// What one row takes, roughly.
  double nanoseconds_per_row() const noexcept {
    double sum = 0;
    for (const layer& one : layers_) {
      const auto in = static_cast<double>((one.in + 15) / 16 * 16), out = static_cast<double>(one.out);
      const bool last = &one == &layers_.back();
      sum += in * out / (sizeof(S) == 4 ? 28 : 14) + (last ? 0 : out * nanoseconds_per_activation()) +
             static_cast<double>(one.norm_weight.size());
    }
    return sum;
  }

  /// y `[row, output]` for x `[row, in]`, whose rows may lie apart; y has `out` outputs, or fewer from first_output on. x and y must not
  /// overlap. Allocates nothing. \throws argument_error  unless shapes fit, memory is distinct and the workspace large enough.
  void forward(const tensor_view<const S, 2>& x, const tensor_view<S, 2>& y, std::span<S> workspace, index_t first_output = 0) const {
    require_input(x);
    require(y.extent(0) == x.extent(0), name(), "the output must have a row for each of the input", x.extent(0), y.extent(0));
    require(first_output >= 0 && y.extent(1) >= 0 && first_output <= out() && y.extent(1) <= out() - first_output, name(),
            "outputs must lie within out", out(), first_output, y.extent(1));
    require_output(name(), y);
    require_apart(x, y);
    const index_t needed = workspace_size(x.extent(0));
    require(static_cast<index_t>(workspace.size()) >= needed, name(), "the workspace must have workspace_size values", needed,
            workspace.size());
    if (y.empty()) return;
    for (index_t from = 0, rows; from < x.extent(0); from += rows) {
      rows = std::min(block, x.extent(0) - from);
      const S* in = &x(from, 0);
      index_t step = x.stride(0);
      S *here = workspace.data(), *there = here + needed / 2;
      for (std::size_t n = 0; n + 1 < layers_.size(); ++n) {
        layers_[n].run(options_.activation, in, step, rows, here, here, here);
        in = here, step = layers_[n].out;
        std::swap(here, there);
      }
      const layer& last = layers_.back();
      kernels::linear<S>({.x = in,
                          .y = &y(from, 0),
                          .tokens = rows,
                          .in = last.in,
                          .out = y.extent(1),
                          .x_token = step,
                          .y_token = y.stride(0),
                          .w = last.weight.data() + first_output * last.in,
                          .w_row = last.in,
                          .start = last.bias.empty() ? nullptr : last.bias.data() + first_output});
    }
  }
  /// The same with memory of its own.
  void forward(const tensor_view<const S, 2>& x, const tensor_view<S, 2>& y) const {
    std::vector<S> workspace(static_cast<std::size_t>(workspace_size()));
    forward(x, y, workspace);
  }

  /// The gradient of `forward` at x, which it computes again. d_y `[row, out]` comes in; d_x `[row, in]` leaves, unless it is not given;
  /// d_parameters, one span per parameter, are added to in the order of rows. d_x must overlap neither x nor d_y. Derivatives at 0 of relu
  /// are 0. Allocates a few numbers per hidden channel and 64 rows. \throws argument_error  unless shapes and sizes fit.
  void backward(const tensor_view<const S, 2>& x, const tensor_view<const S, 2>& d_y, const tensor_view<S, 2>& d_x,
                gradient_spans<S> d_parameters) const {
    require_input(x);
    require(d_y.extent(0) == x.extent(0) && d_y.extent(1) == out(), name(), "the output's gradient must be [row, out]",
            std::array{x.extent(0), out()}, d_y.extents());
    require_rows(name(), d_y);
    if (d_x) {
      require(d_x.extents() == x.extents(), name(), "gradients must have the shapes of what they are of", x.extents(), d_x.extents());
      require_output(name(), d_x);
      require_apart(x, d_x);
      require_apart(d_y, d_x);
    }
    const auto all = values();
    require(d_parameters.size() == all.size(), name(), "there must be one gradient span per parameter", all.size(), d_parameters.size());
    for (std::size_t n = 0; n < all.size(); ++n)
      require(d_parameters[n].size() == all[n].size(), name(), "gradient spans must have the sizes of the parameters", all[n].size(),
              d_parameters[n].size());
    if (x.empty()) return;
    std::vector<passed> hidden(layers_.size() - 1);
    for (std::size_t n = 0; n < hidden.size(); ++n) {
      const auto size = static_cast<std::size_t>(block * layers_[n].out);
      hidden[n] = {std::vector<S>(size), std::vector<S>(size), std::vector<S>(size)};
    }
    std::vector<S> d(static_cast<std::size_t>(2 * block * widest()));
    for (index_t from = 0, rows; from < x.extent(0); from += rows) {
      rows = std::min(block, x.extent(0) - from);
      const S* in = &x(from, 0);
      index_t step = x.stride(0);
      for (std::size_t n = 0; n < hidden.size(); ++n) {
        layers_[n].run(options_.activation, in, step, rows, hidden[n].linear.data(), hidden[n].normed.data(), hidden[n].active.data());
        in = hidden[n].active.data(), step = layers_[n].out;
      }
      const S* d_out = &d_y(from, 0);
      index_t d_step = d_y.stride(0);
      S *here = d.data(), *there = here + block * widest();
      std::size_t after = all.size();  // the parameters of this layer end there
      for (std::size_t n = layers_.size(); n-- > 0;) {
        const layer& one = layers_[n];
        if (n < hidden.size()) {  // d_out is `there`, and mine to change
          one.activation_gradient(options_.activation, hidden[n].normed.data(), rows, there);
          if (!one.norm_weight.empty()) {
            one.norm_gradient(hidden[n].linear.data(), rows, there, d_parameters[after - 2].data(), d_parameters[after - 1].data());
            after -= 2;
          }
        }
        S* const d_bias = one.bias.empty() ? nullptr : d_parameters[--after].data();
        kernels::linear_weight_gradient<S, S>({.d_y = d_out,
                                               .x = n == 0 ? &x(from, 0) : hidden[n - 1].active.data(),
                                               .tokens = rows,
                                               .in = one.in,
                                               .out = one.out,
                                               .d_y_token = d_step,
                                               .x_token = n == 0 ? x.stride(0) : one.in,
                                               .d_w = d_parameters[--after].data(),
                                               .d_w_row = one.in,
                                               .d_bias = d_bias});
        if (n == 0 && !d_x) continue;
        kernels::linear_input_gradient<S, S>({.d_y = d_out,
                                              .d_x = n == 0 ? &d_x(from, 0) : here,
                                              .tokens = rows,
                                              .in = one.in,
                                              .out = one.out,
                                              .d_y_token = d_step,
                                              .d_x_token = n == 0 ? d_x.stride(0) : one.in,
                                              .w = one.weight.data(),
                                              .w_row = one.in,
                                              .accumulate = false});
        d_out = here, d_step = one.in;
        std::swap(here, there);
      }
    }
  }

  friend bool operator==(const mlp& one, const mlp& other) { return one.options_ == other.options_ && one.layers_ == other.layers_; }

 private:
  static constexpr index_t block = 64;  // rows at a time: what they need stays in a cache

  using layer = detail::mlp_layer<S>;
  /// What a block of rows was on its way through a hidden layer.
  struct passed {
    std::vector<S> linear, normed, active;
  };

  void add_layer(index_t in, index_t out, bool bias, bool norm) {
    const auto size = static_cast<std::size_t>(checked_product(name(), std::array{out, in}, sizeof(S)));
    const auto channels = static_cast<std::size_t>(out);
    layers_.push_back({in, out, std::vector<S>(size), std::vector<S>(bias ? channels : 0), std::vector<S>(norm ? channels : 0, S(1)),
                       std::vector<S>(norm ? channels : 0)});
  }
  template <class Layers>
  static void for_each_parameter(Layers& layers, auto&& act) {
    for (auto& one : layers) {
      act(one.weight, std::vector<index_t>{one.out, one.in});
      for (auto* values : {&one.bias, &one.norm_weight, &one.norm_bias})
        if (!values->empty()) act(*values, std::vector<index_t>{one.out});
    }
  }
  void name_parameters() {
    const index_t hidden = static_cast<index_t>(options_.hidden.size()), modules = options_.layer_norm ? 3 : 2;
    for (index_t n = 0; n <= hidden; ++n) {
      const auto module_name = [&](index_t inside) {
        if (!options_.nested_names) return options_.prefix + std::to_string(n * modules + inside);
        std::string text = options_.prefix + std::to_string(n);
        if (n < hidden) (text += '.') += std::to_string(inside);
        return text;
      };
      const layer& one = layers_[static_cast<std::size_t>(n)];
      names_.push_back(module_name(0) + ".weight");
      if (!one.bias.empty()) names_.push_back(module_name(0) + ".bias");
      if (one.norm_weight.empty()) continue;
      names_.push_back(module_name(1) + ".weight");
      names_.push_back(module_name(1) + ".bias");
    }
  }
  double nanoseconds_per_activation() const noexcept {
    switch (options_.activation) {
      case mlp_activation::silu: return 5.5;
      case mlp_activation::gelu: return sizeof(S) == 4 ? 0.8 : 2.5;
      default: return 0.5;
    }
  }
  index_t widest() const noexcept {
    index_t most = 0;
    for (std::size_t n = 0; n + 1 < layers_.size(); ++n) most = std::max(most, layers_[n].out);
    return most;
  }

  void require_input(const tensor_view<const S, 2>& x) const {
    require(x.extent(1) == in(), name(), "the input must be [row, in]", in(), x.extent(1));
    require_rows(name(), x);
  }
  static void require_apart(const tensor_view<const S, 2>& read, const tensor_view<const S, 2>& written) {
    require(!overlaps_partly(read, written) && (written.empty() || read.data() != written.data()), name(),
            "what is written must not overlap what is read", read.extents(), written.extents());
  }

  mlp_options options_;
  std::vector<layer> layers_;
  std::vector<std::string> names_;
};

}  // namespace POSENC_NAMESPACE
