// SPDX-License-Identifier: MIT
/// \file  Continuous position bias: a network of the difference of two cells. Liu et al. 2022, "Swin Transformer V2"; Wang et al. 2021,
/// "CrossFormer".
#pragma once

#include <posenc/concepts.hpp>   // bias_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/gradients.hpp>  // parameter
#include <posenc/mlp.hpp>
#include <posenc/random.hpp>
#include <posenc/relative/window_bias_table.hpp>
#include <posenc/relative/window_bias_verbs.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

/// What is made of the difference d of two cells on an axis, which network takes it in, and what becomes of what the network says.
enum class continuous_bias_mode {
  swin,        ///< sign(d) log2(1 + 8 |d| / (W - 1)) / 3; one hidden layer, no output bias; 16 sigmoid: Swin v2, timm's RelPosMlp
  cr,          ///< sign(d) ln(1 + |d|); one hidden layer: timm's Swin v2 CR, and RelPosMlp with `cr`
  crossformer  ///< d; three hidden layers with layer norms: CrossFormer's dynamic position bias (DPB), without its residual variant
};

struct continuous_position_bias_options {
  window_extents window;  ///< slowest axis first
  required<index_t> heads;
  required<continuous_bias_mode> mode;
  required<index_t> hidden;  ///< channels of each hidden layer; Swin v2: 512, RelPosMlp: 128, Swin v2 CR: 384, CrossFormer: dim / 16
  /// For `swin`: the window that the network was trained with, by whose W - 1 differences are divided. None, systems' {0, 0}: `window`.
  window_extents pretrained_window{};

  friend bool operator==(const continuous_position_bias_options&, const continuous_position_bias_options&) = default;
};

/// bias = 16 sigmoid(f(c(d))) or f(c(d)), where d is the query's cell minus the key's on each axis, as all these systems count, and f a
/// network axes -> hidden -> heads with relu. The same network serves windows of any size. Nothing is divided where W is 1, as in Hugging
/// Face's Swin v2 (the paper's code divides by zero). Tokens without a position (prefix tokens) have no bias.
///
/// Coordinates and the sigmoid are formed in double and rounded once to S, the network's layers in S: a float bias of 16 sigmoid is within
/// 6e-5 of the truth for a network of 512 channels. `prepare` runs the network once per difference, in the calling thread; keep what it
/// returns as long as parameters and shape stay. Verbs, shapes and errors: `window_bias_verbs`. The gradient is exact, of a copy of the
/// network in double.
///
/// Not here: Swin v2's scale of cosine attention, exp(min(s, ln 100)), which does not depend on positions (give it to the `score_pass`, or
/// to queries), and RelPosMlp's dropout, which trains the network otherwise but is no part of it.
template <compute_scalar S>
class continuous_position_bias : public window_bias_verbs<continuous_position_bias<S>, S> {
 public:
  /// The network begins as torch's layers do.
  /// \throws argument_error  unless heads, hidden and extents are positive, and a pretrained window has as many axes as the window.
  continuous_position_bias(const continuous_position_bias_options& options, random_source& random)
      : options_(options), cells_(name(), options.window), network_(network_options(options), random) {}

  static constexpr std::string_view name() noexcept { return "continuous_position_bias"; }
  const continuous_position_bias_options& options() const noexcept { return options_; }
  index_t heads() const noexcept { return options_.heads; }
  const detail::cell_numbers& cells() const noexcept { return cells_; }
  const mlp<S>& network() const noexcept { return network_; }

  /// What the network is given, `[difference, axis]`: query minus key, the slowest axis first, from -(extent - 1) to extent - 1. Swin v2's
  /// `relative_coords_table`, timm's `rel_coords_log`.
  std::vector<double> coordinates() const {
    const auto& window = cells_.window();
    const auto axes = window.size();
    std::vector<double> all(static_cast<std::size_t>(cells_.differences()) * axes);
    index_t faster = 1;  // differences on the axes after this one
    for (std::size_t axis = axes; axis-- > 0; faster *= 2 * window[axis] - 1)
      for (std::size_t n = 0; n < all.size() / axes; ++n) {
        const index_t place = static_cast<index_t>(n) / faster % (2 * window[axis] - 1);
        all[n * axes + axis] = coordinate(axis, static_cast<double>(place - (window[axis] - 1)));
      }
    return all;
  }

  /// The network's, in torch's order, named and shaped as in checkpoints: cpb_mlp.0.weight, cpb_mlp.0.bias, cpb_mlp.2.weight (RelPosMlp:
  /// mlp.fc1 and mlp.fc2); mlp.fc1.weight, ... (Swin v2 CR: meta_mlp.fc1); pos.pos_proj.weight, pos.pos_proj.bias, pos.pos1.0.weight, ...
  /// To load a checkpoint, write there.
  std::vector<parameter<S>> parameters() {
    static constexpr std::array<std::string_view, 3> swin{"cpb_mlp.0.weight", "cpb_mlp.0.bias", "cpb_mlp.2.weight"};
    static constexpr std::array<std::string_view, 4> cr{"mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"};
    static constexpr std::array<std::string_view, 14> crossformer{
        "pos.pos_proj.weight", "pos.pos_proj.bias", "pos.pos1.0.weight", "pos.pos1.0.bias",   "pos.pos1.2.weight",
        "pos.pos1.2.bias",     "pos.pos2.0.weight", "pos.pos2.0.bias",   "pos.pos2.2.weight", "pos.pos2.2.bias",
        "pos.pos3.0.weight",   "pos.pos3.0.bias",   "pos.pos3.2.weight", "pos.pos3.2.bias"};
    const auto names = options_.mode == continuous_bias_mode::swin ? std::span<const std::string_view>(swin)
                       : options_.mode == continuous_bias_mode::cr ? std::span<const std::string_view>(cr)
                                                                   : std::span<const std::string_view>(crossformer);
    auto all = network_.parameters();
    for (std::size_t n = 0; n < all.size(); ++n) all[n].name = names[n];
    return all;
  }

  friend bool operator==(const continuous_position_bias& one, const continuous_position_bias& other) {
    return one.options_ == other.options_ && one.network_ == other.network_;
  }

 private:
  friend window_bias_verbs<continuous_position_bias, S>;

  static mlp_options network_options(const continuous_position_bias_options& options) {
    const window_extents& window = options.window;
    const continuous_bias_mode mode = options.mode;
    const index_t heads = options.heads, hidden = options.hidden;
    require(heads > 0, name(), "heads must be positive", heads);
    require(hidden > 0, name(), "hidden must be positive", hidden);
    require(options.pretrained_window.empty() || mode == continuous_bias_mode::swin, name(), "only mode swin knows a pretrained window",
            mode == continuous_bias_mode::cr ? "cr" : "crossformer");
    require(options.pretrained_window.empty() || options.pretrained_window.size() == window.size(), name(),
            "a pretrained window must have as many axes as the window", window.size(), options.pretrained_window.size());
    for (const index_t extent : options.pretrained_window)
      require(extent > 0, name(), "the extents of a pretrained window must be positive", extent);
    const bool crossformer = mode == continuous_bias_mode::crossformer;
    return {.in = static_cast<index_t>(window.size()),
            .out = heads,
            .hidden = std::vector<index_t>(crossformer ? 3 : 1, hidden),
            .activation = mlp_activation::relu,
            .layer_norm = crossformer,
            .output_bias = mode != continuous_bias_mode::swin};
  }

  double coordinate(std::size_t axis, double d) const {
    if (options_.mode == continuous_bias_mode::crossformer) return d;
    if (options_.mode == continuous_bias_mode::cr) return std::copysign(std::log1p(std::abs(d)), d);
    const auto& window = options_.pretrained_window.empty() ? cells_.window() : options_.pretrained_window;
    const double most = static_cast<double>(std::max<index_t>(window[axis] - 1, 1));
    return std::copysign(std::log2(1 + 8 * std::abs(d) / most) / 3, d);
  }

  /// Calls act(from, x `[difference, axis]`) for some differences after the other.
  template <class Number, class Act>
  void for_each_rows(const Act& act) const {
    const auto exact = coordinates();
    const index_t axes = this->axes();
    std::vector<Number> x(exact.size());
    std::ranges::transform(exact, x.begin(), [](double value) { return static_cast<Number>(value); });
    for (index_t from = 0; from < cells_.differences(); from += rows)
      act(from, tensor_view<const Number, 2>(x.data() + from * axes, {std::min(rows, cells_.differences() - from), axes}));
  }

  void fill(S* values, S*) const {
    const index_t last = cells_.differences() - 1;  // the middle mirrors query minus key to key minus query
    std::vector<S> y(static_cast<std::size_t>(rows * heads())), workspace(static_cast<std::size_t>(network_.workspace_size()));
    for_each_rows<S>([&](index_t from, const tensor_view<const S, 2>& x) {
      network_.forward(x, {y.data(), {x.extent(0), heads()}}, workspace);
      for (index_t r = 0; r < x.extent(0); ++r)
        for (index_t h = 0; h < heads(); ++h) {
          const S said = y[static_cast<std::size_t>(r * heads() + h)];
          values[h * (last + 1) + last - from - r] =
              options_.mode == continuous_bias_mode::swin ? static_cast<S>(16 * sigmoid(static_cast<double>(said))) : said;
        }
    });
  }

  void require_spans(gradient_spans<S> d_parameters) const {
    const auto all = network_.values();
    require(d_parameters.size() == all.size(), name(), "there must be one gradient span per parameter", all.size(), d_parameters.size());
    for (std::size_t n = 0; n < all.size(); ++n)
      require(d_parameters[n].size() == all[n].size(), name(), "gradient spans must have the sizes of the parameters", all[n].size(),
              d_parameters[n].size());
  }
  void add_gradient(const double* d_values, const double*, gradient_spans<S> d_parameters) const {
    const mlp<double> exact(network_);
    std::vector<std::vector<double>> sums;
    for (const auto& values : exact.values()) sums.emplace_back(values.size());
    const std::vector<std::span<double>> spans(sums.begin(), sums.end());
    const index_t last = cells_.differences() - 1;
    std::vector<double> y(static_cast<std::size_t>(rows * heads())), workspace(static_cast<std::size_t>(exact.workspace_size()));
    for_each_rows<double>([&](index_t from, const tensor_view<const double, 2>& x) {
      const tensor_view<double, 2> d_y(y.data(), {x.extent(0), heads()});
      if (options_.mode == continuous_bias_mode::swin) exact.forward(x, d_y, workspace);
      for (index_t r = 0; r < x.extent(0); ++r)
        for (index_t h = 0; h < heads(); ++h) {
          const double d = d_values[h * (last + 1) + last - from - r];
          const double said = d_y(r, h);
          d_y(r, h) = options_.mode == continuous_bias_mode::swin ? d * 16 * sigmoid(said) * sigmoid(-said) : d;
        }
      exact.backward(x, d_y, {}, spans);
    });
    for (std::size_t n = 0; n < sums.size(); ++n)
      for (std::size_t c = 0; c < sums[n].size(); ++c) d_parameters[n][c] += static_cast<S>(sums[n][c]);
  }

  static double sigmoid(double x) noexcept { return 1 / (1 + std::exp(-x)); }

  static constexpr index_t rows = 64;  // differences at a time
  continuous_position_bias_options options_;
  detail::cell_numbers cells_;
  mlp<S> network_;
};

static_assert(bias_encoder<continuous_position_bias<float>> && bias_encoder<continuous_position_bias<double>>);
static_assert(position_encoder<continuous_position_bias<float>> && trainable<continuous_position_bias<float>>);
static_assert(!additive_encoder<continuous_position_bias<float>> && !contextual_bias_encoder<continuous_position_bias<float>>);

}  // namespace POSENC_NAMESPACE
