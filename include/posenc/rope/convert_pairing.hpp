// SPDX-License-Identifier: MIT
/// \file  From one pairing to another: what a checkpoint trained with interleaved pairs needs to run with halves, and back.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>                   // require
#include <posenc/heads.hpp>                   // head_view
#include <posenc/rope/rotary_descriptor.hpp>
#include <posenc/tensor.hpp>

#include <array>
#include <cstddef>
#include <numeric>
#include <string_view>
#include <type_traits>
#include <vector>

namespace POSENC_NAMESPACE {

namespace detail {
inline constexpr std::string_view convert_pairing_name = "convert_pairing";

/// Where the first channels of all pairs lie, then where their partners do, block by block; other channels where they are.
inline std::vector<index_t> places_of_pairs(const rotary_descriptor& form, index_t channels, bool interleaved) {
  std::vector<index_t> places(static_cast<std::size_t>(channels));
  std::iota(places.begin(), places.end(), index_t{0});
  const index_t first = paired_channels(convert_pairing_name, form, channels).first, pairs = form.dim / 2 / form.blocks;
  for (index_t block = first; interleaved && block < first + form.dim; block += 2 * pairs)
    for (index_t k = 0; k < pairs; ++k)
      for (const index_t partner : {0, 1}) places[static_cast<std::size_t>(block + partner * pairs + k)] = block + 2 * k + partner;
  return places;
}

/// Brings the channels of one head into another order.
template <class T>
void reorder(T* channels, index_t step, const std::vector<index_t>& order, std::vector<T>& old) {
  for (std::size_t n = 0; n < order.size(); ++n) old[n] = channels[static_cast<index_t>(n) * step];
  for (std::size_t n = 0; n < order.size(); ++n) channels[static_cast<index_t>(n) * step] = old[static_cast<std::size_t>(order[n])];
}
}  // namespace detail

/// Channel n of a head in the new order is channel `channel_permutation(...)[n]` of the old one: a permutation of 0 ... channels - 1.
/// \param from       whose pairing, offset, dim and blocks the channels have
/// \param to         the pairing they shall have, at the same offset, dim and blocks
/// \param is_output  what a rotation wrote (cached keys) instead of what it reads: `interleaved_to_halves` writes halves
/// \throws argument_error  unless the descriptor is valid and its channels exist.
inline std::vector<index_t> channel_permutation(const rotary_descriptor& from, pairing to, index_t channels, bool is_output = false) {
  detail::require_valid(detail::convert_pairing_name, from);
  const auto neighbours = [&](pairing one) { return one == pairing::interleaved || (one == pairing::interleaved_to_halves && !is_output); };
  const auto old_place = detail::places_of_pairs(from, channels, neighbours(from.pairing));
  const auto new_place = detail::places_of_pairs(from, channels, neighbours(to));
  std::vector<index_t> order(old_place.size());
  for (std::size_t n = 0; n < order.size(); ++n) order[static_cast<std::size_t>(new_place[n])] = old_place[n];
  return order;
}

/// Brings the projection of queries or of keys to another pairing, in place: weights `[..., heads * channels, ...]` along `axis`, or a bias
/// `[heads * channels]`. An encoder with the new pairing then gives the same scores, bit for bit but for the order in which q.k is summed.
/// Queries and keys both have to be converted, each with its own number of heads. Allocates two values a channel.
///
///     convert_pairing(query_weights, 0, query_heads, {.pairing = pairing::interleaved, .dim = 128}, pairing::halves);
///     convert_pairing(key_weights, 0, key_heads, {.pairing = pairing::interleaved, .dim = 128}, pairing::halves);
///
/// \throws argument_error  unless the axis exists, heads divide it, and the descriptor fits a head.
template <writable_tensor T>
  requires(rank_of<T> >= 1 && rank_of<T> <= 4)
void convert_pairing(T&& weights, int axis, index_t heads, const rotary_descriptor& from, pairing to) {
  constexpr std::string_view who = detail::convert_pairing_name;
  constexpr int rank = rank_of<T>;
  const auto view = view_of(weights);
  require(axis >= 0 && axis < rank, who, "the axis must be one of the tensor's", rank, axis);
  const index_t extent = view.extent(axis);
  require(heads > 0 && extent % heads == 0, who, "heads must divide the axis", extent, heads);
  const index_t channels = extent / heads;
  const auto order = channel_permutation(from, to, channels);
  const auto turning = detail::turning_heads(who, from, heads);

  std::array<index_t, 4> extents{1, 1, 1, 1}, strides{};
  for (int a = 0; a < rank; ++a)
    if (a != axis) extents[static_cast<std::size_t>(a)] = view.extent(a), strides[static_cast<std::size_t>(a)] = view.stride(a);
  std::vector<std::remove_cvref_t<element_t<T>>> old(order.size());
  const index_t step = view.stride(axis);
  for (index_t head = turning.first; head < turning.first + turning.count; ++head)
    for (index_t i = 0; i < extents[0]; ++i)
      for (index_t j = 0; j < extents[1]; ++j)
        for (index_t k = 0; k < extents[2]; ++k)
          for (index_t l = 0; l < extents[3]; ++l)
            detail::reorder(view.data() + i * strides[0] + j * strides[1] + k * strides[2] + l * strides[3] + head * channels * step, step,
                            order, old);
}

/// The same for cached keys, turned already: channels of `[batch, time, head, channel]`.
template <class S>
void convert_pairing(head_view<S> keys, const rotary_descriptor& from, pairing to) {
  const auto order = channel_permutation(from, to, keys.channels(), true);
  const auto turning = detail::turning_heads(detail::convert_pairing_name, from, keys.count());
  std::vector<S> old(order.size());
  for (index_t b = 0; b < keys.batch(); ++b)
    for (index_t t = 0; t < keys.time(); ++t)
      for (index_t h = turning.first; h < turning.first + turning.count; ++h)
        detail::reorder(&keys(b, t, h, 0), keys.by_time().stride(3), order, old);
}

}  // namespace POSENC_NAMESPACE
