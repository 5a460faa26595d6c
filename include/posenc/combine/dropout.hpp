// SPDX-License-Identifier: MIT
/// \file  Dropout of embeddings: the caller draws the mask, for it knows when it trains, and how (Srivastava et al. 2014).
#pragma once

#include <posenc/additive_verbs.hpp>  // add_codes
#include <posenc/config.hpp>
#include <posenc/error.hpp>           // require
#include <posenc/executor.hpp>
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/tensor.hpp>

#include <span>
#include <string_view>

namespace POSENC_NAMESPACE {

/// What x is multiplied by, `[batch, time, channel]`: 0 where a value is dropped, 1 / (1 - probability) where it is kept. An extent of 1
/// of batch or time stands for all: one mask for all batch rows (trax) is said by its shape, never guessed. To drop whole vectors, as
/// Reformer does, repeat a value over the channels.
template <compute_scalar S>
using dropout_mask = token_view<const S>;

/// Fills `mask` with 0, by the given probability, and 1 / (1 - probability). \throws argument_error  unless 0 <= probability < 1.
template <compute_scalar S>
void draw_dropout(std::span<S> mask, double probability, random_source& random) {
  require(probability >= 0 && probability < 1, "dropout", "probability must lie in [0, 1)", probability);
  const S kept = static_cast<S>(1 / (1 - probability));
  for (S& value : mask) value = random.uniform() < probability ? S(0) : kept;
}

namespace detail {
/// The mask as the add kernel reads it, with strides of 0 where it is shared. \throws argument_error  unless it fits.
template <class S, class X>
token_view<const S> fitted_mask(std::string_view who, const token_view<const S>& mask, const token_view<X>& x) {
  for (const int axis : {0, 1})
    require(mask.extent(axis) == x.extent(axis) || mask.extent(axis) == 1, who,
            "batch and time of the mask must be those of the embeddings, or 1", x.extents(), mask.extents());
  require(mask.extent(2) == x.extent(2), who, "the mask must have the embeddings' channels", x.extents(), mask.extents());
  require_rows(who, mask);
  const auto stride = [&](int axis) { return mask.extent(axis) == 1 ? 0 : mask.stride(axis); };
  return {mask.data(), x.extents(), {stride(0), stride(1), 1}};
}
}  // namespace detail

/// x *= mask, for x `[batch..., time, channel]`: dropout of embeddings, and its own gradient. Rounds once.
/// \throws argument_error  unless the mask fits.
template <writable_tensor X>
void apply_dropout(X&& x, const dropout_mask<compute_t<element_t<X>>>& mask, const executor& run = {}) {
  using S = compute_t<element_t<X>>;
  const auto view = batched(x);
  require_output("dropout", view);
  const detail::sum_rule<S> rule{.mask = detail::fitted_mask("dropout", mask, view)};
  detail::add_codes<S>(view, view, {}, positions::range(view.extent(1)), rule, run);
}

}  // namespace POSENC_NAMESPACE
