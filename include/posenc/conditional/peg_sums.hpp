// SPDX-License-Identifier: MIT
/// \file  The sums of a PEG on grids that are known, and their gradients.
#pragma once

#include <posenc/conditional/depthwise.hpp>
#include <posenc/conditional/peg_grids.hpp>
#include <posenc/conditional/peg_options.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>  // checked_product, require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // gradient_spans
#include <posenc/kernels/gelu.hpp>
#include <posenc/tensor.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// out = in + activation(conv(in) + bias), without `in` where there is no residual, by an encoder's parameters, which must outlive it.
template <class S>
class peg_sums {
 public:
  peg_sums(const peg_options& options, std::span<const S> weight, std::span<const S> bias)
      : filter_(filter_of(options)),
        dim_(options.dim),
        residual_(options.residual),
        activates_(options.activation == peg_activation::gelu),
        weight_(weight),
        bias_(bias) {}

  const depthwise_filter& filter() const noexcept { return filter_; }
  bool strided() const noexcept { return filter_.step != std::array<index_t, 3>{1, 1, 1}; }

  depthwise_plan plan(std::span<const depthwise_item> items, const executor& run) const {
    return plan_depthwise<S>(items, filter_, dim_, run);
  }
  /// Values of S that `forward` works in.
  index_t workspace_size(const depthwise_plan& planned) const { return packed_size() + planned.parts * planned.workspace; }

  void require_gradients(gradient_spans<S> d_parameters) const {
    require(d_parameters.size() == 2, peg_name, "there must be one gradient span per parameter", 2, d_parameters.size());
    require(d_parameters[0].size() == weight_.size(), peg_name, "the gradient must have the size of the weight", weight_.size(),
            d_parameters[0].size());
    require(d_parameters[1].size() == bias_.size(), peg_name, "the gradient must have the size of the bias", bias_.size(),
            d_parameters[1].size());
  }

  template <class T>
  void forward(const depthwise_tensors<T, T>& x, std::span<const depthwise_item> items, const depthwise_plan& planned, S* workspace,
               const executor& run) const {
    pack(workspace, false);
    run_depthwise<T, S>(x, items, filter_, {workspace, bias_.data(), residual_, activates_}, dim_, planned, workspace + packed_size(), run);
  }
  /// The same in a workspace of its own.
  template <class T>
  void forward(const depthwise_tensors<T, T>& x, std::span<const depthwise_item> items, const executor& run) const {
    const auto planned = plan(items, run);
    std::vector<S> workspace = zeros(workspace_size(planned));
    forward(x, items, planned, workspace.data(), run);
  }

  /// d_parameters are added to; d_in holds d_out where sums are added to it, and what is kept.
  template <class T>
  void backward(const token_view<const T>& d_out, const token_view<const T>& in, const token_view<T>& d_in,
                const std::vector<depthwise_item>& items, gradient_spans<S> d_parameters, const executor& run) const {
    if (in.empty()) return;
    if constexpr (!std::same_as<T, S>) {
      if (activates_) return backward_widened(d_out, in, d_in, items, d_parameters, run);
    }
    auto d_conv = d_out;
    std::vector<S> own;
    if constexpr (std::same_as<T, S>) {
      if (activates_) {
        own = zeros(checked_product(peg_name, d_out.extents(), sizeof(S)));
        const token_view<S> sums(own.data(), d_out.extents());
        activation_gradient(d_out, in, sums, items, run);
        d_conv = sums;
      }
    }
    std::vector<S> packed = zeros(packed_size());
    run_depthwise_weight_gradient<T, S>(tensors_of(in, d_conv), items, filter_, packed.data(), d_parameters[1].data(), dim_, run);
    const index_t taps = filter_.taps();
    for (index_t channel = 0; channel < dim_; ++channel)
      for (index_t tap = 0; tap < taps; ++tap)
        d_parameters[0][static_cast<std::size_t>(channel * taps + tap)] += packed[static_cast<std::size_t>(tap * dim_ + channel)];

    auto turned = items;
    for (auto& item : turned) std::swap(item.in, item.out);
    const depthwise_filter transposed = filter_.transposed();
    const auto planned = plan_depthwise<S>(turned, transposed, dim_, run);
    pack(packed.data(), true);
    std::vector<S> workspace = zeros(planned.parts * planned.workspace);
    run_depthwise<T, S>(tensors_of(d_conv, d_in), turned, transposed, {packed.data(), nullptr, residual_, false}, dim_, planned,
                        workspace.data(), run);
  }

 private:
  static std::vector<S> zeros(index_t count) { return std::vector<S>(static_cast<std::size_t>(count)); }
  index_t packed_size() const { return static_cast<index_t>(weight_.size()); }

  /// `[tap, channel]`, as kernels read it; for gradients with the taps in reverse order.
  void pack(S* to, bool reversed) const {
    const index_t taps = filter_.taps();
    for (index_t channel = 0; channel < dim_; ++channel)
      for (index_t tap = 0; tap < taps; ++tap)
        to[(reversed ? taps - 1 - tap : tap) * dim_ + channel] = weight_[static_cast<std::size_t>(channel * taps + tap)];
  }
  /// sums = d_out * gelu'(conv(in) + bias).
  void activation_gradient(const token_view<const S>& d_out, const token_view<const S>& in, const token_view<S>& sums,
                           const std::vector<depthwise_item>& items, const executor& run) const {
    const auto planned = plan(items, run);
    std::vector<S> workspace = zeros(workspace_size(planned));
    pack(workspace.data(), false);
    run_depthwise<S, S>(tensors_of(in, sums), items, filter_, {workspace.data(), bias_.data(), false, false}, dim_, planned,
                        workspace.data() + packed_size(), run);
    for (index_t b = 0; b < sums.extent(0); ++b)
      kernels::gelu_gradient<S, S>({.in = &sums(b, 0, 0),
                                    .d_out = &d_out(b, 0, 0),
                                    .d_in = &sums(b, 0, 0),
                                    .rows = sums.extent(1),
                                    .channels = sums.extent(2),
                                    .in_row = sums.stride(1),
                                    .d_out_row = d_out.stride(1),
                                    .d_in_row = sums.stride(1)});
  }
  /// All in S, so that the gradient is rounded once.
  template <class T>
  void backward_widened(const token_view<const T>& d_out, const token_view<const T>& in, const token_view<T>& d_in,
                        const std::vector<depthwise_item>& items, gradient_spans<S> d_parameters, const executor& run) const {
    const auto widened = [](const token_view<const T>& from) {
      std::vector<S> all;
      for (index_t b = 0; b < from.extent(0); ++b)
        for (index_t t = 0; t < from.extent(1); ++t)
          for (index_t c = 0; c < from.extent(2); ++c) all.push_back(static_cast<S>(from(b, t, c)));
      return all;
    };
    const std::vector<S> x = widened(in), d = widened(d_out);
    std::vector<S> result = widened(d_in);
    const token_view<S> to(result.data(), d_in.extents());
    backward<S>(token_view<const S>(d.data(), d_out.extents()), token_view<const S>(x.data(), in.extents()), to, items, d_parameters, run);
    for (index_t b = 0; b < d_in.extent(0); ++b)
      for (index_t t = 0; t < d_in.extent(1); ++t)
        for (index_t c = 0; c < d_in.extent(2); ++c) d_in(b, t, c) = static_cast<T>(to(b, t, c));
  }

  depthwise_filter filter_;
  index_t dim_;
  bool residual_, activates_;
  std::span<const S> weight_, bias_;
};

}  // namespace POSENC_NAMESPACE::detail
