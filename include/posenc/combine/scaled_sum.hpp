// SPDX-License-Identifier: MIT
/// \file  Embeddings and codes, each with a factor: x * token_scale + code * code_scale.
#pragma once

#include <posenc/additive_verbs.hpp>  // add_codes
#include <posenc/combine/dropout.hpp>
#include <posenc/concepts.hpp>        // additive_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>           // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>       // parameter, gradient_spans
#include <posenc/kernels/dot.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

struct scaled_sum_options {
  double token_scale = 1;     ///< sqrt(dim) in Vaswani et al. 2017, Marian, tensor2tensor, fairseq, CTranslate2
  double code_scale = 1;      ///< dim^-0.5 to begin with in x-transformers' ScaledSinusoidalEmbedding
  bool train_scale = false;   ///< code_scale is a parameter: x-transformers

  friend bool operator==(const scaled_sum_options&, const scaled_sum_options&) = default;
};

/// x * token_scale + code * code_scale, of an encoder E whose code depends on the position alone; each operation rounds once to the scalar,
/// the result once where x is of 16 bits. Both scales are rounded to the scalar first. A token without a position is scaled, too.
///
///     posenc::scaled_sum embed(posenc::sinusoidal<float>(options), {.token_scale = std::sqrt(512.0)});
///
/// Parameters: "code_scale" where it is trained, then those of E. Every verb checks shapes first and throws `argument_error` before it
/// writes. Const members may run in any number of threads at once.
template <code_encoder E>
  requires detail::code_part<E, positions>
class scaled_sum {
 public:
  using scalar = typename E::scalar;
  using mask = dropout_mask<scalar>;

  /// \throws argument_error  unless the scales are finite.
  explicit scaled_sum(E encoder, const scaled_sum_options& options = {})
      : encoder_(std::move(encoder)), options_(options), code_scale_(static_cast<scalar>(options.code_scale)) {
    require(std::isfinite(options.token_scale), name(), "token_scale must be finite", options.token_scale);
    require(std::isfinite(options.code_scale), name(), "code_scale must be finite", options.code_scale);
  }

  static constexpr std::string_view name() noexcept { return "scaled_sum"; }
  const scaled_sum_options& options() const noexcept { return options_; }
  const E& encoder() const noexcept { return encoder_; }
  scalar code_scale() const noexcept { return code_scale_; }  ///< as it is now

  template <class T, token_places At>
    requires writable_as<T, scalar>
  void require_fits(const token_view<T>& x, const At& at) const {
    encoder_.require_fits(x, at);
  }

  /// x = x * token_scale + code * code_scale, for x `[batch..., time, channel]`.
  template <writable_tensor X, token_places At>
    requires writable_as<element_t<X>, scalar>
  void add(X&& x, const At& at, const executor& run = {}) const {
    const auto view = batched(x);
    require_fits(view, at);
    detail::add_codes<scalar>(view, view, {}, at, rule(), run, encoder_);
  }
  /// The same times `drop`, in the same pass.
  template <writable_tensor X, token_places At>
    requires writable_as<element_t<X>, scalar>
  void add(X&& x, const At& at, const mask& drop, const executor& run = {}) const {
    const auto view = batched(x);
    require_fits(view, at);
    auto with = rule();
    with.mask = detail::fitted_mask(name(), drop, view);
    detail::add_codes<scalar>(view, view, {}, at, with, run, encoder_);
  }

  /// d_x: the gradient of what `add` wrote comes in, that of x leaves. Sums are formed in double. Allocates up to 16 KB of codes for each
  /// part of a split, and 8 bytes a token, where the scale is trained.
  template <writable_tensor X>
    requires writable_as<element_t<X>, scalar>
  void add_backward(X&& d_x, const positions& at, gradient_spans<scalar> d_parameters, const executor& run = {}) const {
    const auto d = batched(d_x);
    require_gradients(d, at, d_parameters);
    auto own = d_parameters;
    if (options_.train_scale) {
      own[0][0] += static_cast<scalar>(dot_with_codes(d, at, run));
      own = own.subspan(1);
    }
    if constexpr (requires { encoder_.encode_backward(at, d, own, 1.0, run); })
      encoder_.encode_backward(at, d, own, static_cast<double>(code_scale_), run);
    if (options_.token_scale == 1) return;
    detail::add_codes<scalar>(d, d, {}, at, {.token_scale = static_cast<scalar>(options_.token_scale)}, run);
  }
  /// The same through dropout.
  template <writable_tensor X>
    requires writable_as<element_t<X>, scalar>
  void add_backward(X&& d_x, const positions& at, const mask& drop, gradient_spans<scalar> d_parameters, const executor& run = {}) const {
    const auto d = batched(d_x);
    require_gradients(d, at, d_parameters);
    apply_dropout(d, drop, run);
    add_backward(d, at, d_parameters, run);
  }

  std::vector<parameter<scalar>> parameters() {
    std::vector<parameter<scalar>> all;
    if (options_.train_scale) all.push_back({"code_scale", {&code_scale_, 1}, {1}});
    for (auto& one : posenc::parameters(encoder_)) all.push_back(std::move(one));
    return all;
  }

  friend bool operator==(const scaled_sum& a, const scaled_sum& b) {
    return a.encoder_ == b.encoder_ && a.options_ == b.options_ && a.code_scale_ == b.code_scale_;
  }

 private:
  detail::sum_rule<scalar> rule() const noexcept {
    return {.token_scale = static_cast<scalar>(options_.token_scale), .code_scale = code_scale_};
  }
  template <class T>
  void require_gradients(const token_view<T>& d, const positions& at, gradient_spans<scalar> d_parameters) const {
    require_fits(d, at);
    // Here and not where they are written: something else is written before. `parameters` only points into the encoder.
    const auto all = const_cast<scaled_sum&>(*this).parameters();
    require(d_parameters.size() == all.size(), name(), "there must be one gradient span per parameter", all.size(), d_parameters.size());
    for (std::size_t n = 0; n < all.size(); ++n)
      require(d_parameters[n].size() == all[n].values.size(), name(), "gradients must have the sizes of their parameters",
              all[n].values.size(), d_parameters[n].size());
  }

  /// The sum over tokens and channels of d times the code, token by token.
  template <class T>
  double dot_with_codes(const token_view<T>& d, const positions& at, const executor& run) const {
    if (d.empty()) return 0;
    const index_t batch = d.extent(0), time = d.extent(1), dim = d.extent(2), tokens = batch * time;
    const index_t spare = encoder_.spare_values(), ids = encoder_.spare_ids();
    const index_t block = spare == 0 ? time : std::clamp<index_t>(16384 / (spare * static_cast<index_t>(sizeof(scalar))), 1, time);
    const double cost =
        static_cast<double>(tokens) * (encoder_.nanoseconds_per_code() + detail::nanoseconds_per_value<T> * static_cast<double>(dim));
    const index_t splits = run.parts(tokens, cost);
    std::vector<scalar> codes(static_cast<std::size_t>(splits * block * spare));
    std::vector<std::int64_t> rows(static_cast<std::size_t>(splits * block * ids));
    std::vector<double> sums(static_cast<std::size_t>(tokens));
    run.split(tokens, splits, [&](index_t split, index_t from, index_t to) {
      for (index_t n; from < to; from += n) {
        const index_t b = from / time, t = from % time;
        n = std::min({block, time - t, to - from});
        const auto source = encoder_.codes(at, b, t, n, codes.data() + split * block * spare, rows.data() + split * block * ids);
        // Tokens whose codes follow each other at once, others one by one.
        const index_t together = source.ids ? 1 : n;
        for (index_t first = 0; first < n; first += together) {
          if (source.ids && source.ids[first] == no_position) continue;
          const scalar* const code = source.table + (source.ids ? source.ids[first] : first) * source.time;
          double* const sum = sums.data() + from + first;
          kernels::dot<kernel_scalar<T>>({.a = kernel_pointer(static_cast<const T*>(&d(b, t + first, 0))),
                                          .b = code,
                                          .rows = together,
                                          .channels = dim,
                                          .a_row = d.stride(1),
                                          .b_row = source.time,
                                          .sums = sum});
          for (index_t k = 0; k < together; ++k) sum[k] *= static_cast<double>(source.scale);
        }
      }
    });
    double all = 0;
    for (const double one : sums) all += one;
    return all;
  }

  E encoder_;
  scaled_sum_options options_;
  scalar code_scale_;
};

}  // namespace POSENC_NAMESPACE
