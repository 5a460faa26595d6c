// SPDX-License-Identifier: MIT
/// \file  What encoders ask of the queries and keys that they are given.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/heads.hpp>
#include <posenc/tensor.hpp>

#include <string_view>

namespace POSENC_NAMESPACE::detail {

/// \throws argument_error  unless the queries, of so many channels, are those of the scores.
template <class T, class Q>
void require_queries(std::string_view who, const score_view<T>& scores, const head_view<Q>& queries, index_t channels) {
  require(static_cast<bool>(queries), who, "the queries must be given", "none");
  require(queries.batch() == scores.extent(0) && queries.time() == scores.extent(2) && queries.count() == scores.extent(1), who,
          "the queries must be [batch, time, head] of the scores", queries.by_time().extents(), scores.extents());
  require(queries.channels() == channels, who, "channels must match the encoder", channels, queries.channels());
  require_rows(who, queries.by_time());
}
/// The same of keys, whose heads queries may share.
template <class T, class Q>
void require_keys(std::string_view who, const score_view<T>& scores, const head_view<Q>& keys, index_t channels) {
  require(static_cast<bool>(keys), who, "the keys must be given", "none");
  require(keys.batch() == scores.extent(0) && keys.time() == scores.extent(3), who, "the keys must be [batch, time] of the scores",
          keys.by_time().extents(), scores.extents());
  require(keys.count() > 0 && scores.extent(1) % keys.count() == 0, who, "the number of query heads must be a multiple of key heads",
          scores.extent(1), keys.count());
  require(keys.channels() == channels, who, "channels must match the encoder", channels, keys.channels());
  require_rows(who, keys.by_time());
}
/// \throws argument_error  unless d can take the gradient of `of`.
template <class Q>
void require_gradient(std::string_view who, const head_view<Q>& d, const head_view<const Q>& of) {
  require(d.by_time().extents() == of.by_time().extents(), who, "gradients must have the shapes of what they are of",
          of.by_time().extents(), d.by_time().extents());
  require_output(who, d.by_time());
}

}  // namespace POSENC_NAMESPACE::detail
