// SPDX-License-Identifier: MIT
#include <posenc/augment.hpp>
#include <posenc/coordinates.hpp>

#include <array>
#include <concepts>
#include <list>
#include <type_traits>
#include <vector>

using namespace posenc;

namespace {

static_assert(std::copyable<coordinates> && std::equality_comparable<coordinates> && std::is_nothrow_copy_constructible_v<coordinates>);
static_assert(!std::default_initializable<coordinates> && !std::default_initializable<attention_coordinates>);

// Neither becomes the other unasked.
static_assert(!std::convertible_to<positions, coordinates> && !std::constructible_from<coordinates, positions>);
static_assert(!std::convertible_to<coordinates, positions> && !std::constructible_from<positions, coordinates>);
static_assert(!std::convertible_to<attention_positions, attention_coordinates>);

template <class T>
concept gives_values = requires(const T& given) { coordinates::values(given); };
template <class T>
concept gives_flat_values = requires(const T& given) { coordinates::values(given, index_t{2}, index_t{3}); };
static_assert(gives_values<Eigen::Tensor<float, 1>> && gives_values<Eigen::Tensor<double, 2>> &&
              gives_values<Eigen::Tensor<Eigen::bfloat16, 3, Eigen::RowMajor>> && gives_values<tensor_view<const Eigen::half, 2>>);
static_assert(gives_flat_values<std::vector<double>> && gives_flat_values<std::array<float, 6>> && gives_flat_values<std::list<double>>);
static_assert(!gives_values<Eigen::Tensor<int, 2>> && !gives_flat_values<std::vector<int>>, "whole numbers are positions");
static_assert(!gives_values<Eigen::Tensor<float, 4>> && !gives_values<Eigen::Tensor<float, 0>>);
static_assert(!gives_values<std::vector<double>> && !gives_flat_values<double*>, "without a number of axes or of values");

template <class P>
concept queries_alone = requires(const coordinates& at) { P{.queries = at}; };
template <class P>
concept queries_and_keys = requires(const coordinates& at) { P{.queries = at, .keys = at}; };
static_assert(queries_and_keys<attention_coordinates> && !queries_alone<attention_coordinates>);

template <class R>
concept augments = requires(const coordinates& at, R&& random) { augment(at, {}, random); };
static_assert(augments<random_source&> && !augments<const random_source&>);

}  // namespace
