// SPDX-License-Identifier: MIT
/// \file  What `gated` does with single rows, and with encoders of embeddings: what they add to each token, and the gradients of it.
#pragma once

#include <posenc/combine/concatenate.hpp>  // encode, encode_backward
#include <posenc/concepts.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>                // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>
#include <posenc/kernels/add.hpp>
#include <posenc/kernels/dot.hpp>
#include <posenc/kernels/scale.hpp>
#include <posenc/kernels/widen.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE {

template <class E>
concept adds_bias = bias_encoder<E> || contextual_bias_encoder<E>;

namespace detail {

/// \throws argument_error  unless the gates are given, of that shape, with contiguous rows and in [0, 1].
template <class S>
void require_gates(std::string_view who, const tensor_view<const S, 2>& gates, std::string_view rule,
                   const std::array<index_t, 2>& extents) {
  require(static_cast<bool>(gates), who, "the gates must be given", "none");
  require(gates.extents() == extents, who, rule, extents, gates.extents());
  require_rows(who, gates);
  for (index_t b = 0; b < gates.extent(0); ++b)
    for (index_t t = 0; t < gates.extent(1); ++t)
      require(gates(b, t) >= 0 && gates(b, t) <= 1, who, "gates must lie in [0, 1]", gates(b, t));  // NaN does not
}
/// \throws argument_error  unless d can take the gradient of gates that are given.
template <class S>
void require_gate_gradient(std::string_view who, const tensor_view<S, 2>& d, const tensor_view<const S, 2>& gates) {
  require(d.extents() == gates.extents(), who, "gradients must have the shapes of what they are of", gates.extents(), d.extents());
  require_output(who, d);
}

/// x += gate * added; x = sum with a gate of 1, where there is a sum.
template <class T, class S>
void add_gated_row(T* x, index_t channels, S gate, const S* added, const S* sum = nullptr) {
  if (gate == 0) return;  // not even an infinity changes x
  const bool replaces = gate == 1 && sum;
  if (replaces) std::fill_n(x, channels, T(-0.0f));  // added to it, a sum keeps a zero's sign
  const kernels::code_source<S> source{.table = replaces ? sum : added, .batch = 0, .time = 0, .scale = gate};
  kernels::add<kernel_scalar<T>>({.in = kernel_pointer(static_cast<const T*>(x)),
                                  .out = kernel_pointer(x),
                                  .sources = &source,
                                  .count = 1,
                                  .batch = 1,
                                  .time = 1,
                                  .channels = channels,
                                  .in_batch = 0,
                                  .in_time = 0,
                                  .out_batch = 0,
                                  .out_time = 0});
}
/// y = x * scale.
template <class T, class S>
void widen_row(const T* x, S* y, index_t channels, S scale) {
  kernels::widen<kernel_scalar<T>>(
      {.x = kernel_pointer(x), .y = y, .rows = 1, .channels = channels, .x_row = 0, .y_row = 0, .scale = scale});
}
/// Rows, `row` apart, times one row.
template <class S>
void multiply_rows(S* rows, index_t row, index_t count, index_t channels, const S* by) {
  kernels::add<S>({.in = rows,
                   .out = rows,
                   .sources = nullptr,
                   .count = 0,
                   .batch = 1,
                   .time = count,
                   .channels = channels,
                   .in_batch = 0,
                   .in_time = row,
                   .out_batch = 0,
                   .out_time = row,
                   .mask = by});
}
/// Each row times a number of its own.
template <class S>
void scale_rows(S* rows, index_t row, index_t count, index_t channels, const double* by) {
  kernels::scale<S>({.in = rows,
                     .out = rows,
                     .batch = 1,
                     .time = count,
                     .heads = 1,
                     .channels = channels,
                     .in_batch = 0,
                     .in_time = row,
                     .in_head = 0,
                     .out_batch = 0,
                     .out_time = row,
                     .out_head = 0,
                     .factors = by,
                     .factor_batch = 0});
}
/// to += rows.
template <class T, class S>
void add_rows(T* to, index_t to_row, index_t count, index_t channels, const S* rows, index_t row) {
  const kernels::code_source<S> source{.table = rows, .batch = 0, .time = row};
  kernels::add<kernel_scalar<T>>({.in = kernel_pointer(static_cast<const T*>(to)),
                                  .out = kernel_pointer(to),
                                  .sources = &source,
                                  .count = 1,
                                  .batch = 1,
                                  .time = count,
                                  .channels = channels,
                                  .in_batch = 0,
                                  .in_time = to_row,
                                  .out_batch = 0,
                                  .out_time = to_row});
}
template <class T, class S>
double row_product(const T* a, const S* b, index_t channels) {
  double sum = 0;
  kernels::dot<kernel_scalar<T>>({.a = kernel_pointer(a), .b = b, .rows = 1, .channels = channels, .a_row = 0, .b_row = 0, .sums = &sum});
  return sum;
}

/// x in S.
template <class S, class T>
std::vector<S> widened(const token_view<const T>& x) {
  const index_t batch = x.extent(0), time = x.extent(1), dim = x.extent(2);
  std::vector<S> all(static_cast<std::size_t>(checked_product("gated", x.extents(), sizeof(S))));
  for (index_t b = 0; b < batch; ++b)
    kernels::widen<kernel_scalar<T>>({.x = kernel_pointer(&x(b, 0, 0)),
                                      .y = all.data() + b * time * dim,
                                      .rows = time,
                                      .channels = dim,
                                      .x_row = x.stride(1),
                                      .y_row = dim});
  return all;
}

/// How many tokens of each of `rows` rows fit into some memory.
template <class S>
index_t tokens_of_block(index_t bytes, index_t rows, index_t time, index_t dim) {
  return std::clamp<index_t>(bytes / (rows * dim * static_cast<index_t>(sizeof(S))), 1, time);
}

/// Calls act(b, t, count, added, sum) for tokens that together are x: what the encoder adds to them, `[count, channel]`, and x with it, or
/// null where that was not formed. Before the first call, all is asked of the encoder that it could refuse.
template <class S, class E, class T, class Act>
void for_each_added(const E& encoder, const token_view<const T>& x, const positions& at, const executor& run, const Act& act) {
  const index_t batch = x.extent(0), time = x.extent(1), dim = x.extent(2), tokens = batch * time;
  const double values = static_cast<double>(tokens) * static_cast<double>(dim);
  if constexpr (code_encoder<E>) {
    // Without checks of its own, an encoder is called once, before anything is written.
    constexpr bool checked = requires(token_view<T> view) { encoder.require_fits(view, at); };
    const index_t own = at.batch() == 0 ? 1 : batch, block = checked ? tokens_of_block<S>(64 << 10, own, time, dim) : time;
    const index_t blocks = (time + block - 1) / block, size = own * block * dim;
    const double forming = nanoseconds_per_angle / 2 * values / static_cast<double>(batch / own);
    const index_t parts = run.parts(blocks, forming + 2 * nanoseconds_per_value<T> * values);
    std::vector<S> codes(static_cast<std::size_t>(checked_product("gated", std::array{parts, size}, sizeof(S))));
    run.split(blocks, parts, [&](index_t part, index_t from, index_t to) {
      for (; from < to; ++from) {
        const index_t t = from * block, count = std::min(block, time - t);
        S* const memory = codes.data() + part * size;
        encode(encoder, at.slice(t, count), token_view<S>(memory, {own, count, dim}), executor());
        for (index_t b = 0; b < batch; ++b) act(b, t, count, memory + (own == 1 ? 0 : b * count * dim), static_cast<const S*>(nullptr));
      }
    });
  } else {
    const std::vector<S> sums = [&] {
      std::vector<S> copy = widened<S>(x);
      encode_embeddings(encoder, token_view<S>(copy.data(), x.extents()), at, run);
      return copy;
    }();
    const index_t parts = run.parts(tokens, 2 * nanoseconds_per_value<T> * values);
    std::vector<S> rows(static_cast<std::size_t>(parts * dim));
    run.split(tokens, parts, [&](index_t part, index_t from, index_t to) {
      S* const added = rows.data() + part * dim;
      for (; from < to; ++from) {
        const index_t b = from / time, t = from % time;
        const S* const sum = sums.data() + from * dim;
        widen_row(&x(b, t, 0), added, dim, S(-1));
        add_gated_row(added, dim, S(1), sum);
        act(b, t, index_t{1}, added, sum);
      }
    });
  }
}

/// Adds to the gradients of the encoder's parameters those of x + gate(b, t) * what it adds, of which d is the gradient. Returns what an
/// encoder that reads x passes on to it, `[batch, time, channel]`, d times the gates among it; nothing of one that has codes.
template <class E, class T, class Gate>
std::vector<typename E::scalar> add_parameter_gradients(const E& encoder, const token_view<T>& d, const token_view<const T>& x,
                                                        const Gate& gate, const positions& at,
                                                        gradient_spans<typename E::scalar> d_parameters, const executor& run) {
  using S = typename E::scalar;
  const index_t batch = d.extent(0), time = d.extent(1), dim = d.extent(2);
  const index_t block = code_encoder<E> ? tokens_of_block<S>(256 << 10, batch, time, dim) : time;
  const auto scaled = [&](index_t t, index_t count, std::vector<S>& to) {
    to.resize(static_cast<std::size_t>(checked_product("gated", std::array{batch, count, dim}, sizeof(S))));
    for (index_t b = 0; b < batch; ++b)
      for (index_t n = 0; n < count; ++n) widen_row(&d(b, t + n, 0), to.data() + (b * count + n) * dim, dim, gate(b, t + n));
    return token_view<S>(to.data(), {batch, count, dim});
  };
  std::vector<S> memory;
  if constexpr (!code_encoder<E>) {
    const auto from = widened<S>(x);
    encode_embeddings_backward(encoder, scaled(0, time, memory), token_view<const S>(from.data(), x.extents()), at, d_parameters, run);
  } else if constexpr (trainable<E>) {
    for (index_t t = 0, count; t < time; t += count) {
      count = std::min(block, time - t);
      encode_backward(encoder, at.slice(t, count), scaled(t, count, memory), d_parameters, run);
    }
    memory.clear();
  }
  return memory;
}

/// d += passed - gate * d.
template <class T, class S, class Gate>
void pass_through(const token_view<T>& d, const Gate& gate, const std::vector<S>& passed) {
  const index_t time = d.extent(1), dim = d.extent(2);
  std::vector<S> row(static_cast<std::size_t>(dim));
  for (index_t n = 0; n < d.extent(0) * time; ++n) {
    T* const own = &d(n / time, n % time, 0);
    widen_row(own, row.data(), dim, -gate(n / time, n % time));
    add_gated_row(row.data(), dim, S(1), passed.data() + n * dim);
    add_gated_row(own, dim, S(1), static_cast<const S*>(row.data()));
  }
}

}  // namespace detail

}  // namespace POSENC_NAMESPACE
