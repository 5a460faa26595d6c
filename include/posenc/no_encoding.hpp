// SPDX-License-Identifier: MIT
/// \file  No position encoding at all (Haviv et al. 2022): what a causal mask alone tells of the order.
#pragma once

#include <posenc/concepts.hpp>
#include <posenc/config.hpp>

#include <string_view>

namespace POSENC_NAMESPACE {

/// The encoder that does nothing at any stage: a baseline, and the filler for layers without positions.
struct no_encoding {
  using scalar = float;
  static constexpr std::string_view name() noexcept { return "none"; }
  /// Adds nothing: a concept that asks for at least one verb needs one.
  void add(writable_tensor auto&&, const positions&) const noexcept {}
  friend constexpr bool operator==(const no_encoding&, const no_encoding&) = default;
};

static_assert(position_encoder<no_encoding> && additive_encoder<no_encoding>);
static_assert(!rotary_encoder<no_encoding> && !bias_encoder<no_encoding> && !value_encoder<no_encoding>);

}  // namespace POSENC_NAMESPACE
