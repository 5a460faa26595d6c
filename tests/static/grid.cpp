// SPDX-License-Identifier: MIT
#include <posenc/dual_chunk_positions.hpp>
#include <posenc/grid_coordinates.hpp>
#include <posenc/multimodal_positions.hpp>

#include <concepts>

using namespace posenc;

namespace {

// What systems do differently has no default.
template <class G>
concept without_order = requires { G{.extents = {2, 3}}; };
template <class G>
concept with_order = requires { G{.extents = {2, 3}, .order = grid_order::slowest_first}; };
static_assert(with_order<grid> && !without_order<grid> && !std::default_initializable<grid>);

template <class G>
concept by_default = requires(const G& cells) { normalized_grid(cells); };
static_assert(!by_default<grid>);

template <class O>
concept without_local_size = requires { O{.chunk_size = 6}; };
template <class O>
concept without_chunk_size = requires { O{.local_size = 6}; };
static_assert(!without_local_size<dual_chunk_options> && !without_chunk_size<dual_chunk_options>);

static_assert(!std::default_initializable<multimodal_options> && !std::default_initializable<multimodal>);
static_assert(!std::convertible_to<grid_order, required<padding_side>> && !std::convertible_to<int, required<grid_order>>);

// A row of one segment is a row, a number is not one.
static_assert(!std::convertible_to<index_t, multimodal_row::value_type>);

}  // namespace
