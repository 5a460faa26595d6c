// SPDX-License-Identifier: MIT
/// \file  Codes beside embeddings instead of on top of them: [x; code].
#pragma once

#include <posenc/concepts.hpp>   // code_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>      // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>  // gradient_spans, trainable
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <cstddef>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace POSENC_NAMESPACE {

/// A code encoder that writes its codes as elements of type T.
template <class E, class T>
concept encodes_as = code_encoder<E> && requires(const E& e, token_view<T> out, const positions& at) { e.encode(at, out); };

namespace detail {
template <class E, class T>
void encode(const E& encoder, const positions& at, const token_view<T>& out, [[maybe_unused]] const executor& run) {
  if constexpr (requires { encoder.encode(at, out, run); }) encoder.encode(at, out, run);
  else encoder.encode(at, out);
}
/// Adds what codes with the gradient d give to the gradient of the encoder's parameters, where it has any.
template <class E, class T>
void encode_backward(const E& encoder, const positions& at, const token_view<T>& d, gradient_spans<typename E::scalar> d_parameters,
                     [[maybe_unused]] const executor& run) {
  if constexpr (requires { encoder.encode_backward(at, d, d_parameters, 1.0, run); })
    encoder.encode_backward(at, d, d_parameters, 1.0, run);
  else if constexpr (requires { encoder.encode_backward(at, d, d_parameters); }) encoder.encode_backward(at, d, d_parameters);
  else static_assert(!trainable<E>, "a trainable code encoder needs encode_backward");
}

/// `count` channels of each token, from channel `first`.
template <class T>
token_view<T> channels_of(const token_view<T>& x, index_t first, index_t count) {
  return {x.empty() ? x.data() : x.data() + first, {x.extent(0), x.extent(1), count}, x.strides()};
}
/// Whether both are the same elements of the same memory.
template <class A, class B>
bool same_tokens(const token_view<A>& a, const token_view<B>& b) {
  const auto same_steps = [&](int axis) { return a.extent(axis) == 1 || a.stride(axis) == b.stride(axis); };
  return static_cast<const void*>(a.data()) == static_cast<const void*>(b.data()) && a.extents() == b.extents() && same_steps(0) &&
         same_steps(1);
}
template <class T>
void copy_tokens(const token_view<const T>& from, const token_view<T>& to, const executor& run) {
  if (from.empty() || same_tokens(from, to)) return;
  const index_t time = from.extent(1), tokens = from.extent(0) * time, channels = from.extent(2);
  const double nanoseconds = nanoseconds_per_value<T> * static_cast<double>(tokens) * static_cast<double>(channels);
  run.split(tokens, run.parts(tokens, nanoseconds), [&](index_t, index_t first, index_t end) {
    for (index_t n = first; n < end; ++n)
      std::memcpy(static_cast<void*>(&to(n / time, n % time, 0)), &from(n / time, n % time, 0),
                  static_cast<std::size_t>(channels) * sizeof(T));
  });
}

/// What concatenation and its gradient check: `part` is what stands in the first channels of `whole`.
template <class E, class T, class U>
void require_concatenated(std::string_view who, const E& encoder, const token_view<T>& part, const token_view<U>& whole,
                          const positions& at) {
  require(part.extent(0) == whole.extent(0) && part.extent(1) == whole.extent(1), who, "both tensors must have the same tokens",
          part.extents(), whole.extents());
  require(whole.extent(2) - encoder.dim() == part.extent(2), who, "the channels must be those of the embedding and those of the code",
          whole.extent(2), part.extent(2), encoder.dim());
  require_match(who, at, part.extent(0), part.extent(1), at.axes());  // the axes are the encoder's to check
  require_rows(who, part);
  require_rows(who, whole);
  require(same_tokens(part, channels_of(whole, 0, part.extent(2))) || !overlaps_partly(part, whole), who,
          "the embedding must be the first channels of the concatenation or not overlap it", part.extents(), whole.extents());
}
}  // namespace detail

/// out = [x; code], for x `[batch..., time, channel]` and out `[batch..., time, channel + encoder.dim()]`: the channels of x, bit for bit,
/// then the code. A token without a position gets a code of zeros. As timm's `FourierEmbed` and Perceiver (Jaegle et al. 2021) give
/// positions, where a sum (BERT, GPT) would need no more channels.
///
/// x may be the view of out's own first channels: then nothing is copied. What the codes allocate is the encoder's to say.
/// \throws argument_error  unless shapes fit; for any other overlap; where `encode` does. Nothing has been written then.
template <code_encoder E, readable_tensor X, writable_tensor Out>
  requires(encodes_as<E, element_t<Out>> && stored_as<element_t<X>, element_t<Out>>)
void concatenate(const E& encoder, const X& x, Out&& out, const positions& at, const executor& run = {}) {
  constexpr std::string_view who = "concatenate";
  const token_view<const element_t<Out>> from = batched(x);
  const auto to = batched(out);
  detail::require_concatenated(who, encoder, from, to, at);
  require_output(who, to);
  const index_t channels = from.extent(2);
  detail::encode(encoder, at, detail::channels_of(to, channels, encoder.dim()), run);  // first, for it may refuse the positions
  detail::copy_tokens(from, detail::channels_of(to, 0, channels), run);
}

/// The gradient: d_x = the first channels of d_out, bit for bit; the others are added to the encoder's d_parameters. d_x may be the view
/// of d_out's own first channels: then nothing is copied.
/// \throws argument_error  as `concatenate`.
template <code_encoder E, readable_tensor D, writable_tensor X>
  requires stored_as<element_t<D>, element_t<X>>
void concatenate_backward(const E& encoder, const D& d_out, X&& d_x, const positions& at, gradient_spans<typename E::scalar> d_parameters,
                          const executor& run = {}) {
  constexpr std::string_view who = "concatenate_backward";
  const token_view<const element_t<X>> from = batched(d_out);
  const auto to = batched(d_x);
  detail::require_concatenated(who, encoder, to, from, at);
  require_output(who, to);
  const index_t channels = to.extent(2);
  detail::encode_backward(encoder, at, detail::channels_of(from, channels, encoder.dim()), d_parameters, run);
  detail::copy_tokens(detail::channels_of(from, 0, channels), to, run);
}

}  // namespace POSENC_NAMESPACE
