// SPDX-License-Identifier: MIT
/// \file  Embeddings and codes, concatenated and projected: W [x; code] + b.
#pragma once

#include <posenc/combine/concatenate.hpp>
#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>           // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>       // parameter
#include <posenc/kernels/linear.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

struct concatenate_project_options {
  required<index_t> in;   ///< channels of the embedding
  required<index_t> out;  ///< channels of the result

  friend bool operator==(const concatenate_project_options&, const concatenate_project_options&) = default;
};

/// y = W [x; code] + b, with W `[out, in + encoder.dim()]` and b `[out]`, in the order of torch's Linear over torch.cat. It is the sum
/// W_x x + (W_c code + b), and is formed so: a sum of x and code is the case of two identities.
///
/// The code is formed in S and the result rounded once. A token has the same bits in prefill and decode, with any number of threads, at
/// every instruction set. A token without a position has a code of zeros and gets W_x x + b.
///
/// Allocates codes and W_c code + b for some hundred tokens at a time, never [x; code], and in place 32 rows for each part of a split.
/// Every verb checks shapes first and throws `argument_error` before it writes.
///
/// The gradient of a weight needs what it was multiplied by, which `add` overwrites: to train, keep x and call `project_backward`.
/// `encode_embeddings_backward`, which is not given x, does not compile.
template <code_encoder E>
  requires compute_scalar<typename E::scalar>
class concatenate_project {
 public:
  using scalar = typename E::scalar;

  /// Weight and bias as torch's Linear begins (kaiming-uniform of sqrt 5): uniform within 1 / sqrt(in + encoder.dim()).
  /// \throws argument_error  unless in and out are positive.
  concatenate_project(E encoder, const concatenate_project_options& options, random_source& random)
      : concatenate_project(std::move(encoder), options) {
    const double most = 1 / std::sqrt(static_cast<double>(row()));
    for (auto* values : {&weight_, &bias_})
      for (scalar& value : *values) value = static_cast<scalar>(random.uniform(-most, most));
  }
  /// Weight `[out, in + encoder.dim()]` and bias `[out]` of a checkpoint. \throws argument_error  unless they have that many values.
  concatenate_project(E encoder, const concatenate_project_options& options, std::span<const scalar> weight, std::span<const scalar> bias)
      : concatenate_project(std::move(encoder), options) {
    require(weight.size() == weight_.size(), name(), "the weight must be [out, in + dim]", weight_.size(), weight.size());
    require(bias.size() == bias_.size(), name(), "the bias must be [out]", bias_.size(), bias.size());
    std::ranges::copy(weight, weight_.begin());
    std::ranges::copy(bias, bias_.begin());
  }

  static constexpr std::string_view name() noexcept { return "concatenate_project"; }
  const concatenate_project_options& options() const noexcept { return options_; }
  const E& encoder() const noexcept { return encoder_; }
  std::span<const scalar> linear_weight() const noexcept { return weight_; }
  std::span<const scalar> linear_bias() const noexcept { return bias_; }  // "bias" is the verb of encoders of scores

  /// weight, bias, then the encoder's.
  std::vector<parameter<scalar>> parameters() {
    std::vector<parameter<scalar>> all{{"weight", weight_, {options_.out, row()}}, {"bias", bias_, {options_.out}}};
    for (auto& one : posenc::parameters(encoder_)) all.push_back(std::move(one));
    return all;
  }

  /// The checks of `add`, alone: \throws argument_error  where it would.
  template <class T>
    requires writable_as<T, scalar>
  void require_fits(const token_view<T>& x, const positions& at) const {
    require(options_.in == options_.out, name(), "in must equal out to project in place", static_cast<index_t>(options_.in),
            static_cast<index_t>(options_.out));
    check(x, x, at);
    require_output(name(), x);
  }

  /// x = W [x; code] + b, in place, where in == out: so it serves wherever an additive encoder does.
  template <writable_tensor X>
    requires writable_as<element_t<X>, scalar>
  void add(X&& x, const positions& at, const executor& run = {}) const {
    const auto view = batched(x);
    require_fits(view, at);
    project_to(view, view, at, run);
  }

  /// out = W [x; code] + b, for x `[batch..., time, in]` and out `[batch..., time, out]`. They may be one tensor, but not overlap in part.
  template <readable_tensor X, writable_tensor Out>
    requires(writable_as<element_t<Out>, scalar> && stored_as<element_t<X>, element_t<Out>>)
  void project(const X& x, Out&& out, const positions& at, const executor& run = {}) const {
    const auto from = batched(x);
    const auto to = batched(out);
    check(from, to, at);
    require_output(name(), to);
    require(!overlaps_partly(from, to), name(), "input and output must be one view or not overlap", from.extents(), to.extents());
    project_to(from, to, at, run);
  }

  /// The gradient. x: what was projected, as it was before. d_out: the gradient of the result. d_x: that of x leaves there; it may be
  /// d_out, but overlap neither d_out in part nor x. d_parameters: of weight, bias and the encoder, are added to, always in the same order.
  template <readable_tensor X, readable_tensor D, writable_tensor DX>
    requires(writable_as<element_t<DX>, scalar> && stored_as<element_t<X>, element_t<DX>> && stored_as<element_t<D>, element_t<DX>>)
  void project_backward(const X& x, const D& d_out, DX&& d_x, const positions& at, gradient_spans<scalar> d_parameters,
                        const executor& run = {}) const {
    using T = element_t<DX>;
    const token_view<const T> from = batched(x), d = batched(d_out);
    const auto to = batched(d_x);
    check(from, d, at);
    require(to.extents() == from.extents(), name(), "gradients must have the shapes of what they are of", from.extents(), to.extents());
    require_output(name(), to);
    require(!overlaps_partly(d, to), name(), "both gradients must be one view or not overlap", d.extents(), to.extents());
    require(!overlaps_partly(from, to) && (from.empty() || from.data() != to.data()), name(), "the gradient must not overlap the input",
            from.extents(), to.extents());
    require(d_parameters.size() == parameters_, name(), "there must be one gradient span per parameter", parameters_, d_parameters.size());
    require(d_parameters[0].size() == weight_.size() && d_parameters[1].size() == bias_.size(), name(),
            "gradients must have the sizes of weight and bias", d_parameters[0].size(), d_parameters[1].size());
    if (!from.empty()) backward(from, d, to, at, d_parameters, run);
  }

  friend bool operator==(const concatenate_project& a, const concatenate_project& b) {
    return a.options_ == b.options_ && a.encoder_ == b.encoder_ && a.weight_ == b.weight_ && a.bias_ == b.bias_;
  }

 private:
  concatenate_project(E encoder, const concatenate_project_options& options) : options_(options), encoder_(std::move(encoder)) {
    require(options_.in > 0, name(), "in must be positive", static_cast<index_t>(options_.in));
    require(options_.out > 0, name(), "out must be positive", static_cast<index_t>(options_.out));
    checked_product(name(), std::array{static_cast<index_t>(options_.out), static_cast<index_t>(options_.in)}, sizeof(scalar));
    weight_.resize(
        static_cast<std::size_t>(checked_product(name(), std::array{static_cast<index_t>(options_.out), row()}, sizeof(scalar))));
    bias_.resize(static_cast<std::size_t>(options_.out));
    parameters_ = 2 + posenc::parameters(encoder_).size();
  }

  index_t row() const { return options_.in + encoder_.dim(); }
  const scalar* code_weight() const noexcept { return weight_.data() + options_.in; }

  template <class T, class U>
  void check(const token_view<T>& x, const token_view<U>& y, const positions& at) const {
    require(x.extent(2) == options_.in, name(), "the input's channels must equal in", static_cast<index_t>(options_.in), x.extent(2));
    require(y.extent(2) == options_.out, name(), "the output's channels must equal out", static_cast<index_t>(options_.out), y.extent(2));
    require(x.extent(0) == y.extent(0) && x.extent(1) == y.extent(1), name(), "both tensors must have the same tokens", x.extents(),
            y.extents());
    require_match(name(), at, x.extent(0), x.extent(1), at.axes());  // the axes are the encoder's to check
    require_rows(name(), x);
    require_rows(name(), y);
    detail::require_fits(encoder_, token_view<scalar>(nullptr, {x.extent(0), x.extent(1), encoder_.dim()}), at);
  }

  /// How long `values` products take for each of `tokens`.
  static double nanoseconds(index_t tokens, index_t values) { return static_cast<double>(tokens) * static_cast<double>(values) / 20; }
  static std::vector<scalar> buffer(index_t rows, index_t channels) {
    return std::vector<scalar>(static_cast<std::size_t>(checked_product(name(), std::array{rows, channels}, sizeof(scalar))));
  }
  /// How many times of `rows` rows are worked on together: enough to be worth a split, not more than caches hold.
  index_t block_of(index_t rows, index_t time) const {
    const index_t tokens = std::clamp<index_t>(65536 / (encoder_.dim() + options_.out), 32, 1024);
    return std::clamp<index_t>(tokens / rows, 1, time);
  }

  /// Calls act(b, t, count) for tokens [from, to) of a block of `time` times, numbered row after row: `count` of them along the time, or
  /// along the batch where there is one time only.
  static void for_each_run(index_t from, index_t to, index_t time, auto&& act) {
    if (time == 1) return act(from, index_t{0}, to - from);
    detail::for_each_block(from, to, time, [&](index_t b, index_t batch, index_t t, index_t count) {
      for (const index_t last = b + batch; b < last; ++b) act(b, t, count);
    });
  }
  template <class T>
  static index_t step_of(const token_view<T>& x, index_t time) {  // of the tokens of a run
    return x.stride(time == 1 ? 0 : 1);
  }
  /// The code of token (b, t), or what was made of it, in [coded, time, channel]; where it is shared, one code may serve a whole run.
  struct code_rows {
    index_t coded, time, channels;
    index_t at(index_t b, index_t t) const { return ((coded == 1 ? 0 : b) * time + t) * channels; }
    index_t step() const { return coded == 1 && time == 1 ? 0 : channels; }
  };

  static constexpr index_t copied = 32;  // rows at a time
  /// Rows that are overwritten while they are read: act(copy, count, done) with copies of rows done to done + count, one after the other.
  template <class T>
  static void for_each_copy(const T* rows, index_t step, index_t count, index_t channels, std::remove_const_t<T>* memory, auto&& act) {
    for (index_t done = 0, n; done < count; done += n) {
      n = std::min(copied, count - done);
      for (index_t t = 0; t < n; ++t)
        std::memcpy(static_cast<void*>(memory + t * channels), rows + (done + t) * step, static_cast<std::size_t>(channels) * sizeof(T));
      act(memory, n, done);
    }
  }

  template <class In, class Out>
  void project_to(const token_view<In>& in, const token_view<Out>& out, const positions& at, const executor& run) const {
    if (in.empty()) return;
    using T = kernel_scalar<Out>;
    const index_t batch = in.extent(0), time = in.extent(1), dim = encoder_.dim(), width = options_.out, channels = options_.in;
    const index_t coded = at.batch() == 0 ? 1 : batch, block = block_of(coded, time);
    const bool in_place = static_cast<const void*>(in.data()) == static_cast<const void*>(out.data());
    auto codes = buffer(coded * block, dim), starts = buffer(coded * block, width);
    const auto parts = [&](index_t tokens) { return run.parts(tokens, nanoseconds(tokens, channels * width)); };
    std::vector<Out> copies(in_place ? static_cast<std::size_t>(parts(batch * block) * copied * channels) : 0);

    for (index_t from = 0, n; from < time; from += n) {
      n = std::min(block, time - from);
      detail::encode(encoder_, at.slice(from, n), token_view<scalar>(codes.data(), {coded, n, dim}), run);
      run.split(coded * n, run.parts(coded * n, nanoseconds(coded * n, dim * width)), [&](index_t, index_t first, index_t end) {
        kernels::linear<scalar>({.x = codes.data() + first * dim,
                                 .y = starts.data() + first * width,
                                 .tokens = end - first,
                                 .in = dim,
                                 .out = width,
                                 .x_token = dim,
                                 .y_token = width,
                                 .w = code_weight(),
                                 .w_row = row(),
                                 .start = bias_.data()});
      });
      const code_rows start{coded, n, width};
      run.split(batch * n, parts(batch * n), [&](index_t part, index_t first, index_t end) {
        for_each_run(first, end, n, [&](index_t b, index_t t, index_t count) {
          const In* const x = &in(b, from + t, 0);
          const index_t x_step = step_of(in, n), y_step = step_of(out, n);
          const auto project_rows = [&](const In* rows, index_t step, index_t some, index_t done) {
            kernels::linear<T>({.x = kernel_pointer(rows),
                                .y = kernel_pointer(&out(b, from + t, 0)) + done * y_step,
                                .tokens = some,
                                .in = channels,
                                .out = width,
                                .x_token = step,
                                .y_token = y_step,
                                .w = weight_.data(),
                                .w_row = row(),
                                .start = starts.data() + start.at(b, t) + done * start.step(),
                                .start_token = start.step()});
          };
          if (!in_place) return project_rows(x, x_step, count, 0);
          for_each_copy(x, x_step, count, channels, copies.data() + part * copied * channels,
                        [&](const In* rows, index_t some, index_t done) { project_rows(rows, channels, some, done); });
        });
      });
    }
  }

  template <class T>
  void backward(const token_view<const T>& x, const token_view<const T>& d, const token_view<T>& d_x, const positions& at,
                gradient_spans<scalar> d_parameters, const executor& run) const {
    using K = kernel_scalar<T>;
    const index_t batch = x.extent(0), time = x.extent(1), dim = encoder_.dim(), width = options_.out, channels = options_.in;
    const index_t coded = at.batch() == 0 ? 1 : batch, block = block_of(batch, time);
    const bool in_place = d.data() == d_x.data();
    auto codes = buffer(coded * block, dim), d_codes = buffer(trainable<E> ? batch * block : 0, dim);
    const auto parts = [&](index_t tokens) { return run.parts(tokens, nanoseconds(tokens, channels * width)); };
    std::vector<T> copies(in_place ? static_cast<std::size_t>(parts(batch * block) * copied * width) : 0);

    for (index_t from = 0, n; from < time; from += n) {
      n = std::min(block, time - from);
      const positions here = at.slice(from, n);
      const index_t tokens = batch * n, d_step = step_of(d, n);
      detail::encode(encoder_, here, token_view<scalar>(codes.data(), {coded, n, dim}), run);
      if constexpr (trainable<E>) {
        run.split(tokens, run.parts(tokens, nanoseconds(tokens, dim * width)), [&](index_t, index_t first, index_t end) {
          for_each_run(first, end, n, [&](index_t b, index_t t, index_t count) {
            kernels::linear_input_gradient<K, scalar>({.d_y = kernel_pointer(&d(b, from + t, 0)),
                                                       .d_x = d_codes.data() + (b * n + t) * dim,
                                                       .tokens = count,
                                                       .in = dim,
                                                       .out = width,
                                                       .d_y_token = d_step,
                                                       .d_x_token = dim,
                                                       .w = code_weight(),
                                                       .w_row = row(),
                                                       .accumulate = false});
          });
        });
        // Before the other gradients: it may refuse its spans.
        detail::encode_backward(encoder_, here, token_view<const scalar>(d_codes.data(), {batch, n, dim}), d_parameters.subspan(2), run);
      }
      const code_rows code{coded, n, dim};
      run.split(width, run.parts(width, nanoseconds(tokens, row() * width)), [&](index_t, index_t first, index_t end) {
        for_each_run(0, tokens, n, [&](index_t b, index_t t, index_t count) {
          const K* const d_y = kernel_pointer(&d(b, from + t, 0)) + first;
          scalar* const d_w = d_parameters[0].data() + first * row();
          kernels::linear_weight_gradient<K, K>({.d_y = d_y,
                                                 .x = kernel_pointer(&x(b, from + t, 0)),
                                                 .tokens = count,
                                                 .in = channels,
                                                 .out = end - first,
                                                 .d_y_token = d_step,
                                                 .x_token = step_of(x, n),
                                                 .d_w = d_w,
                                                 .d_w_row = row(),
                                                 .d_bias = d_parameters[1].data() + first});
          kernels::linear_weight_gradient<K, scalar>({.d_y = d_y,
                                                      .x = codes.data() + code.at(b, t),
                                                      .tokens = count,
                                                      .in = dim,
                                                      .out = end - first,
                                                      .d_y_token = d_step,
                                                      .x_token = code.step(),
                                                      .d_w = d_w + channels,
                                                      .d_w_row = row()});
        });
      });
      run.split(tokens, parts(tokens), [&](index_t part, index_t first, index_t end) {
        for_each_run(first, end, n, [&](index_t b, index_t t, index_t count) {
          const index_t x_step = step_of(d_x, n);
          const auto gradient_of_rows = [&](const T* rows, index_t step, index_t some, index_t done) {
            kernels::linear_input_gradient<K, K>({.d_y = kernel_pointer(rows),
                                                  .d_x = kernel_pointer(&d_x(b, from + t, 0)) + done * x_step,
                                                  .tokens = some,
                                                  .in = channels,
                                                  .out = width,
                                                  .d_y_token = step,
                                                  .d_x_token = x_step,
                                                  .w = weight_.data(),
                                                  .w_row = row(),
                                                  .accumulate = false});
          };
          if (!in_place) return gradient_of_rows(&d(b, from + t, 0), d_step, count, 0);
          for_each_copy(&d(b, from + t, 0), d_step, count, width, copies.data() + part * copied * width,
                        [&](const T* rows, index_t some, index_t done) { gradient_of_rows(rows, width, some, done); });
        });
      });
    }
  }

  concatenate_project_options options_;
  E encoder_;
  std::vector<scalar> weight_, bias_;
  std::size_t parameters_ = 0;
};

}  // namespace POSENC_NAMESPACE
