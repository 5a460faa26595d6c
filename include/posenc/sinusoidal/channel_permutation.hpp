// SPDX-License-Identifier: MIT
/// \file  From one convention of sinusoidal codes to another: what weights trained with one need to run with the other.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>                        // require
#include <posenc/frequencies.hpp>
#include <posenc/sinusoidal/sinusoidal_codes.hpp>  // sinusoidal_layout
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string_view>
#include <type_traits>
#include <vector>

namespace POSENC_NAMESPACE {

/// `sinusoidal` and `axial_sinusoidal`.
template <class E>
concept sinusoidal_encoder = requires(const E& encoder) {
  { encoder.layout() } -> std::same_as<const sinusoidal_layout&>;
  { encoder.dim() } -> std::same_as<index_t>;
};

namespace detail {

inline constexpr std::string_view permute_channels_name = "permute_channels";

/// What a channel holds: the sine or the cosine of a frequency of an axis.
struct channel_content {
  index_t axis = -1;  ///< none: zeros
  std::int64_t whole = 0;
  std::uint64_t high = 0, low = 0;
  bool is_sine = false;
  friend auto operator<=>(const channel_content&, const channel_content&) = default;
};

inline std::vector<channel_content> contents_of(const sinusoidal_layout& layout, index_t dim) {
  std::vector<channel_content> all(static_cast<std::size_t>(std::max(dim, layout.width)));
  for (const sinusoidal_block& block : layout.blocks)
    for (index_t k = 0; k < block.pairs; ++k) {
      const index_t n = block.axis * layout.frequencies.count() + block.first_pair + k, step = block.interleaved ? 2 * k : k;
      const turns speed = layout.frequencies[n];
      for (const bool is_sine : {true, false})
        all[static_cast<std::size_t>((is_sine ? block.sine : block.cosine) + step)] = {block.axis, layout.frequencies.whole_turns(n),
                                                                                       speed.high, speed.low, is_sine};
    }
  all.resize(static_cast<std::size_t>(dim));
  return all;
}

inline std::vector<index_t> sorted_places(const std::vector<channel_content>& contents) {
  std::vector<index_t> places(contents.size());
  std::iota(places.begin(), places.end(), index_t{0});
  std::ranges::stable_sort(places, {}, [&](index_t channel) { return contents[static_cast<std::size_t>(channel)]; });
  return places;
}

/// Calls act(offset in a, offset in b) for each row of two views that differ in the last axis alone.
template <class A, class B, int Rank>
void for_each_row(const tensor_view<A, Rank>& a, const tensor_view<B, Rank>& b, auto&& act) {
  std::array<index_t, static_cast<std::size_t>(Rank)> at{};
  index_t from = 0, to = 0;
  for (int axis = 0; axis >= 0;) {
    act(from, to);
    for (axis = Rank - 2; axis >= 0; --axis) {  // the next row
      auto& n = at[static_cast<std::size_t>(axis)];
      from += a.stride(axis), to += b.stride(axis);
      if (++n < a.extent(axis)) break;
      from -= n * a.stride(axis), to -= n * b.stride(axis);
      n = 0;
    }
  }
}

/// \throws argument_error  unless it holds each of 0 ... channels - 1 once.
inline void require_permutation(const std::vector<index_t>& permutation, index_t channels) {
  require(static_cast<index_t>(permutation.size()) == channels, permute_channels_name, "the permutation must be as long as the last axis",
          channels, permutation.size());
  std::vector<bool> seen(permutation.size());
  for (const index_t channel : permutation) {
    require(channel >= 0 && channel < channels && !seen[static_cast<std::size_t>(channel)], permute_channels_name,
            "a permutation must hold each channel once", channel);
    seen[static_cast<std::size_t>(channel)] = true;
  }
}

}  // namespace detail

/// Where each channel of `to`'s codes is found in those of `from`: `to`'s channel n is `from`'s channel `channel_permutation(from, to)[n]`.
///
///     const auto order = channel_permutation(fairseq, vaswani);  // [sin | cos] to sin, cos, sin, cos
///     permute_channels(projection, order);                       // weights `[..., channel]` that were trained with fairseq's codes
///
/// A code that is read by one projection alone (a timestep's) needs no more. One that is added to embeddings shares its channels with them:
/// then the embeddings, and all that reads or writes their sum, have to be permuted too.
///
/// Scales, starts and padding positions may differ, for they change no channel's place; where they are equal too, the permuted codes of
/// `from` are those of `to`, bit for bit. Channels with the same content (several zeros) keep their order.
/// \throws argument_error  unless both have the same dim, and the same sines and cosines of the same axes, by the exact frequency.
template <sinusoidal_encoder From, sinusoidal_encoder To>
std::vector<index_t> channel_permutation(const From& from, const To& to) {
  constexpr std::string_view who = "channel_permutation";
  require(from.dim() == to.dim(), who, "both must have the same dim", from.dim(), to.dim());
  const auto old_contents = detail::contents_of(from.layout(), from.dim()), new_contents = detail::contents_of(to.layout(), to.dim());
  const auto old_places = detail::sorted_places(old_contents), new_places = detail::sorted_places(new_contents);
  std::vector<index_t> permutation(old_places.size());
  for (std::size_t n = 0; n < permutation.size(); ++n) {
    const auto old_place = static_cast<std::size_t>(old_places[n]), new_place = static_cast<std::size_t>(new_places[n]);
    require(old_contents[old_place] == new_contents[new_place], who, "both must have the same sines and cosines, channel by channel",
            old_places[n], new_places[n]);
    permutation[new_place] = old_places[n];
  }
  return permutation;
}

/// Brings the last axis of a tensor of any rank and scalar into another order, in place: channel n becomes what channel permutation[n] was.
/// Allocates one row. \throws argument_error  unless the permutation holds each channel of the last axis once.
template <stored_tensor T>
  requires(has_writable_elements<T> && outlives_the_call<T>)
void permute_channels(T&& tensor, const std::vector<index_t>& permutation) {
  const auto view = view_of(tensor);
  constexpr int last = rank_of<T> - 1;
  detail::require_permutation(permutation, view.extent(last));
  require_output(detail::permute_channels_name, view);
  if (view.empty()) return;
  std::vector<element_t<T>> old(permutation.size());
  detail::for_each_row(view, view, [&](index_t row, index_t) {
    std::copy_n(view.data() + row, old.size(), old.begin());
    for (std::size_t n = 0; n < old.size(); ++n) view.data()[row + static_cast<index_t>(n)] = old[static_cast<std::size_t>(permutation[n])];
  });
}
/// The same into another tensor of the same shape and scalar, which must not overlap the first. Allocates nothing per row.
/// \throws argument_error  as above, and where the shapes differ or the memory overlaps.
template <stored_tensor In, stored_tensor Out>
  requires(rank_of<In> == rank_of<Out> && stored_as<element_t<In>, element_t<Out>> && outlives_the_call<Out>)
void permute_channels(const In& in, Out&& out, const std::vector<index_t>& permutation) {
  const auto from = view_of(in);
  const auto to = view_of(out);
  constexpr int last = rank_of<In> - 1;
  require(from.extents() == to.extents(), detail::permute_channels_name, "the output must have the input's shape", from.extents(),
          to.extents());
  detail::require_permutation(permutation, to.extent(last));
  require_rows(detail::permute_channels_name, from);
  require_output(detail::permute_channels_name, to);
  require(!overlaps_partly(from, to) && (from.empty() || from.data() != to.data()), detail::permute_channels_name,
          "the input must not overlap the output", from.extents(), to.extents());
  if (to.empty()) return;
  detail::for_each_row(from, to, [&](index_t old_row, index_t new_row) {
    for (std::size_t n = 0; n < permutation.size(); ++n)
      to.data()[new_row + static_cast<index_t>(n)] = from.data()[old_row + permutation[n]];
  });
}

}  // namespace POSENC_NAMESPACE
