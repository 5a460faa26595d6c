// SPDX-License-Identifier: MIT
/// \file  Queries, keys, values and contexts as `[batch, time, head, channel]`, however they lie in memory.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

#include <concepts>

namespace POSENC_NAMESPACE {

/// Which of the two middle axes of q, k, v is slower: `[batch, time, head, channel]` or `[batch, head, time, channel]`.
enum class axis_order { time_head, head_time };

/// q, k, v or the context, always read as [batch, time, head, channel]. Its own type, not a `tensor_view`: the only ways to make one
/// (`heads`, `split_heads`) say the order of the axes, and a stride swap then spares every encoder the second layout.
template <class S>
class head_view {
 public:
  using element = S;
  head_view() = default;
  explicit head_view(const tensor_view<S, 4>& by_time) noexcept : by_time_(by_time) {}
  template <class Mutable>
    requires(!std::same_as<Mutable, S> && std::same_as<const Mutable, S>)
  head_view(const head_view<Mutable>& other) noexcept : by_time_(other.by_time()) {}
  explicit operator bool() const noexcept { return static_cast<bool>(by_time_); }
  const tensor_view<S, 4>& by_time() const noexcept { return by_time_; }
  index_t batch() const noexcept { return by_time_.extent(0); }
  index_t time() const noexcept { return by_time_.extent(1); }
  index_t count() const noexcept { return by_time_.extent(2); }
  index_t channels() const noexcept { return by_time_.extent(3); }
  S& operator()(index_t b, index_t t, index_t h, index_t c) const noexcept { return by_time_(b, t, h, c); }
  /// Tokens `from` to `from + count`, such as the filled part of a cache. \throws argument_error  unless they lie within time.
  head_view slice(index_t from, index_t count) const {
    require(from >= 0 && count >= 0 && from <= time() && count <= time() - from, "heads", "a slice must lie within time", time(), from,
            count);
    auto extents = by_time_.extents();
    extents[1] = count;
    return head_view({by_time_.data() + from * by_time_.stride(1), extents, by_time_.strides()});
  }

 private:
  tensor_view<S, 4> by_time_{};
};

/// The heads of a rank-4 tensor, or of a rank-3 one without a batch axis, in the order that is said.
template <stored_tensor T>
  requires((rank_of<T> == 3 || rank_of<T> == 4) && outlives_the_call<T>)
head_view<element_t<T>> heads(T&& tensor, axis_order order) noexcept {
  const auto v = view_of(tensor);
  constexpr int time = rank_of<T> - 3;  // the axis after the batch, if there is one
  index_t batch = 1, batch_stride = 0;
  if constexpr (time == 1) batch = v.extent(0), batch_stride = v.stride(0);
  const int t = order == axis_order::time_head ? time : time + 1, h = order == axis_order::time_head ? time + 1 : time;
  return head_view<element_t<T>>(
      {v.data(), {batch, v.extent(t), v.extent(h), v.extent(time + 2)}, {batch_stride, v.stride(t), v.stride(h), v.stride(time + 2)}});
}

/// Where a group of heads lies in the channels of a fused buffer.
struct head_split {
  required<index_t> heads;     ///< how many
  required<index_t> channels;  ///< of each
  index_t offset = 0;          ///< first channel of the first head: heads * channels for k in a fused QKV buffer
};

/// The heads inside `[batch, time, heads * channels]`, or inside a wider fused buffer `[batch, time, q | k | v]`.
/// \throws argument_error  unless the split lies within the tensor's channels.
template <stored_tensor T>
  requires(rank_of<T> == 3 && outlives_the_call<T>)
head_view<element_t<T>> split_heads(T&& tensor, const head_split& split) {
  const auto v = view_of(tensor);
  const index_t count = split.heads, channels = split.channels;
  require(count >= 0 && channels >= 0 && split.offset >= 0, "split_heads", "heads, channels and offset must not be negative", count,
          channels, split.offset);
  require(split.offset <= v.extent(2) && (channels == 0 || count <= (v.extent(2) - split.offset) / channels), "split_heads",
          "offset + heads * channels must lie within the tensor's channels", v.extent(2), split.offset, count, channels);
  return head_view<element_t<T>>({v.data() + split.offset * v.stride(2),
                                  {v.extent(0), v.extent(1), count, channels},
                                  {v.stride(0), v.stride(1), channels * v.stride(2), v.stride(2)}});
}

}  // namespace POSENC_NAMESPACE
