// SPDX-License-Identifier: MIT
/// \file  The biases of an encoder by distance, one row per head: for another's fused attention, or to look at.
#pragma once

#include <posenc/concepts.hpp>             // bias_encoder
#include <posenc/config.hpp>
#include <posenc/error.hpp>                // require
#include <posenc/positions.hpp>
#include <posenc/relative/bias_table.hpp>  // distance_range
#include <posenc/tensor.hpp>

#include <concepts>

namespace POSENC_NAMESPACE {

/// out[h, n] = the bias of head h between a query and a key whose position is the query's and `distances.low + n`: what `value` says of a
/// query at 0. For encoders of which the distance alone decides: ALiBi but for its form key_only, T5, KERPLE, Sandwich; of `fire` those of
/// queries below the threshold. `prepare` makes the same once per pass, of the distances that occur.
///
/// \param out  `[head, distance]`, of the encoder's scalar. Allocates what `value` does.
/// \throws argument_error  unless out has a row for each head and a column for each distance, of which there is one at least.
template <bias_encoder E, writable_tensor T>
  requires(rank_of<T> == 2 && std::same_as<element_t<T>, typename E::scalar> &&
           requires(const E& e, index_t head, position at) {
             { e.value(head, at, at) } -> std::same_as<typename E::scalar>;
           })
void distance_biases(const E& encoder, const distance_range& distances, T&& out) {
  const tensor_view<element_t<T>, 2> to = out;
  const auto [low, high] = distances;
  require(low <= high && low >= -positions::limit && high <= positions::limit, encoder.name(),
          "distances must lie in [-2^62, 2^62] and rise", low, high);
  require(to.extent(0) == encoder.heads() && to.extent(1) - 1 == detail::distance_of(high, low), encoder.name(),
          "the output must have a row per head and a column per distance", encoder.heads(), low, high, to.extents());
  require_output(encoder.name(), to);
  for (index_t h = 0; h < to.extent(0); ++h)
    for (index_t n = 0; n < to.extent(1); ++n) to(h, n) = encoder.value(h, 0, low + n);
}

}  // namespace POSENC_NAMESPACE
