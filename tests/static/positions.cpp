// SPDX-License-Identifier: MIT
#include <posenc/positions.hpp>

#include <array>
#include <concepts>
#include <list>
#include <string>
#include <type_traits>
#include <vector>

using namespace posenc;

namespace {

static_assert(std::copyable<positions> && std::equality_comparable<positions> && std::is_nothrow_copy_constructible_v<positions>);
static_assert(!std::default_initializable<positions>, "there are no positions that would do");
static_assert(std::same_as<position, std::int64_t> && no_position < -(position{1} << 62));

template <class T>
concept gives_ids = requires(const T& given) { positions::ids(given); };
static_assert(gives_ids<std::vector<int>> && gives_ids<std::array<std::int64_t, 4>> && gives_ids<std::list<unsigned>>);
static_assert(gives_ids<Eigen::Tensor<int, 1>> && gives_ids<Eigen::Tensor<std::int64_t, 2>> &&
              gives_ids<Eigen::TensorMap<const Eigen::Tensor<int, 2>>> && gives_ids<tensor_view<const int, 1>>);
static_assert(!gives_ids<int> && !gives_ids<int*>);
static_assert(!gives_ids<Eigen::Tensor<float, 1>> && !gives_ids<Eigen::Tensor<double, 2>>, "fractional positions are coordinates");
static_assert(!gives_ids<Eigen::Tensor<int, 3>> && !gives_ids<Eigen::Tensor<int, 0>>, "ids are [time] or [batch, time]");

template <class T>
concept gives_axes = requires(const T& given) { positions::multi_axis(given); };
template <class T>
concept gives_flat_axes = requires(const T& given) { positions::multi_axis(given, index_t{3}, index_t{2}); };
static_assert(gives_axes<Eigen::Tensor<int, 2>> && gives_axes<Eigen::Tensor<std::int64_t, 3, Eigen::RowMajor>> &&
              gives_axes<tensor_view<const int, 3>> && gives_flat_axes<std::vector<int>> && gives_flat_axes<std::array<std::int64_t, 6>>);
static_assert(!gives_axes<Eigen::Tensor<int, 1>> && !gives_axes<Eigen::Tensor<int, 4>>, "[axis, time] or [axis, batch, time]");
static_assert(!gives_axes<Eigen::Tensor<float, 3>> && !gives_axes<std::vector<int>>, "fractional or without a number of axes");

template <class T>
concept masks = requires(const T& mask) { positions::from_padding_mask(mask); };
template <class T>
concept masks_in_rows = requires(const T& mask) { positions::from_padding_mask(mask, index_t{2}); };
static_assert(masks<Eigen::Tensor<bool, 2>> && masks<Eigen::Tensor<std::uint8_t, 2, Eigen::RowMajor>> && masks_in_rows<std::vector<bool>>);
static_assert(!masks<Eigen::Tensor<float, 2>> && !masks<Eigen::Tensor<bool, 1>> && !masks<std::vector<bool>>,
              "a flat mask needs its batch");

}  // namespace
