// SPDX-License-Identifier: MIT
#include <posenc/heads.hpp>

#include <complex>
#include <concepts>
#include <type_traits>
#include <vector>

using namespace posenc;

namespace {

using block = Eigen::Tensor<float, 3>;
using map = Eigen::TensorMap<block>;
using read_only_map = Eigen::TensorMap<const block>;
using sum = decltype(std::declval<block&>() + std::declval<block&>());
using slice = decltype(std::declval<block&>().chip(0, 0));

// ---- what is a tensor ----------------------------------------------------------------------------------------------------------------

template <class S>
inline constexpr bool every_kind_is_stored =
    stored_tensor<Eigen::Tensor<S, 3>> && stored_tensor<Eigen::Tensor<S, 3, Eigen::RowMajor>&> &&
    stored_tensor<Eigen::Tensor<S, 1, 0, int>> && stored_tensor<Eigen::TensorFixedSize<S, Eigen::Sizes<2, 3>>> &&
    stored_tensor<Eigen::TensorFixedSize<S, Eigen::Sizes<2, 3>, Eigen::RowMajor>> && stored_tensor<Eigen::TensorMap<Eigen::Tensor<S, 3>>> &&
    stored_tensor<Eigen::TensorMap<const Eigen::Tensor<S, 3, Eigen::RowMajor>>> &&
    stored_tensor<const Eigen::TensorMap<Eigen::Tensor<S, 3>, Eigen::Aligned>&> &&
    stored_tensor<Eigen::TensorMap<Eigen::TensorFixedSize<S, Eigen::Sizes<2, 3>>>> && stored_tensor<tensor_view<S, 2>> &&
    stored_tensor<tensor_view<const S, 2>>;
static_assert(every_kind_is_stored<float> && every_kind_is_stored<double> && every_kind_is_stored<Eigen::half> &&
              every_kind_is_stored<Eigen::bfloat16> && every_kind_is_stored<int> && every_kind_is_stored<bool>);

// Lazy expressions are not, nor is anything else.
static_assert(!stored_tensor<sum> && !stored_tensor<sum&> && !stored_tensor<slice> && !stored_tensor<Eigen::TensorRef<block>>);
static_assert(!stored_tensor<Eigen::MatrixXf> && !stored_tensor<std::vector<float>> && !stored_tensor<float*> && !stored_tensor<float>);
static_assert(!stored_tensor<head_view<float>>, "heads are made by heads and split_heads alone");

static_assert(rank_of<block> == 3 && rank_of<const Eigen::Tensor<float, 5>&> == 5 && rank_of<Eigen::Tensor<float, 0>> == 0);
static_assert(std::same_as<element_t<block&>, float> && std::same_as<element_t<const block&>, const float>);
static_assert(std::same_as<element_t<const map&>, float> && std::same_as<element_t<read_only_map>, const float>);
static_assert(std::same_as<element_t<const tensor_view<float, 2>&>, float> &&
              std::same_as<element_t<tensor_view<const float, 2>&>, const float>);
static_assert(std::same_as<view_t<const Eigen::Tensor<double, 4>&>, tensor_view<const double, 4>>);

// ---- what may be read, what may be written -------------------------------------------------------------------------------------------

template <class S>
inline constexpr bool reads_and_writes =
    readable_tensor<const Eigen::Tensor<S, 3>&> && writable_tensor<Eigen::Tensor<S, 3>&> && !writable_tensor<const Eigen::Tensor<S, 3>&>;
static_assert(reads_and_writes<float> && reads_and_writes<double> && reads_and_writes<Eigen::half> && reads_and_writes<Eigen::bfloat16>);

static_assert(!readable_tensor<Eigen::Tensor<int, 3>&> && !readable_tensor<Eigen::Tensor<bool, 3>&> &&
              !readable_tensor<Eigen::Tensor<std::complex<float>, 3>&> && !readable_tensor<Eigen::Tensor<long double, 3>&>);
static_assert(!readable_tensor<sum> && !writable_tensor<sum> && !writable_tensor<slice> && !readable_tensor<float*>);
static_assert(!has_float_elements<Eigen::Tensor<int, 3>&> && !has_writable_elements<const block&> &&
              !has_writable_elements<read_only_map&>);

// Temporaries: results in memory of their own would be lost, in the memory of others they stay.
static_assert(readable_tensor<block> && !writable_tensor<block> && !writable_tensor<const block> && !outlives_the_call<block>);
static_assert(!outlives_the_call<const block> && !outlives_the_call<Eigen::TensorFixedSize<float, Eigen::Sizes<2>>>);
static_assert(writable_tensor<map> && writable_tensor<const map> && writable_tensor<tensor_view<float, 2>> &&
              outlives_the_call<read_only_map>);
static_assert(writable_tensor<const map&> && writable_tensor<const tensor_view<float, 2>&>,
              "constness of a view is not constness of its elements");
static_assert(!writable_tensor<read_only_map&> && !writable_tensor<tensor_view<const float, 2>&>);

// ---- scalars -------------------------------------------------------------------------------------------------------------------------

static_assert(storage_scalar<float> && storage_scalar<double> && storage_scalar<Eigen::half> && storage_scalar<Eigen::bfloat16>);
static_assert(!storage_scalar<int> && !storage_scalar<long double> && !storage_scalar<const float> && !storage_scalar<float&>);
static_assert(compute_scalar<float> && compute_scalar<double> && !compute_scalar<Eigen::half> && !compute_scalar<Eigen::bfloat16>);
static_assert(std::same_as<compute_t<float>, float> && std::same_as<compute_t<double>, double> &&
              std::same_as<compute_t<const double>, double> && std::same_as<compute_t<Eigen::half>, float> &&
              std::same_as<compute_t<const Eigen::bfloat16>, float>);

static_assert(readable_as<float, float> && readable_as<const float, float> && !readable_as<double, float> && !readable_as<float, double>);
static_assert(writable_as<float, float> && !writable_as<const float, float> && !writable_as<double, float>);

// ---- conversions ---------------------------------------------------------------------------------------------------------------------

static_assert(std::convertible_to<tensor_view<float, 3>, tensor_view<const float, 3>> &&
              !std::convertible_to<tensor_view<const float, 3>, tensor_view<float, 3>>);
static_assert(std::convertible_to<block&, tensor_view<float, 3>> && std::convertible_to<const block&, tensor_view<const float, 3>> &&
              !std::convertible_to<const block&, tensor_view<float, 3>>);
static_assert(!std::convertible_to<block&, tensor_view<float, 4>> && !std::convertible_to<block&, tensor_view<double, 3>> &&
              !std::convertible_to<tensor_view<float, 3>, tensor_view<float, 2>>);
static_assert(!std::convertible_to<tensor_view<float, 3>, bool>, "only where a condition is asked for");
static_assert(std::is_trivially_copyable_v<tensor_view<float, 3>> && std::is_nothrow_default_constructible_v<tensor_view<float, 3>>);

template <class View, class... Indices>
concept callable_with = requires(const View& view, Indices... at) { view(at...); };
static_assert(callable_with<tensor_view<float, 2>, int, index_t> && !callable_with<tensor_view<float, 2>, int> &&
              !callable_with<tensor_view<float, 2>, int, int, int>);

// ---- heads ---------------------------------------------------------------------------------------------------------------------------

static_assert(std::convertible_to<head_view<float>, head_view<const float>> &&
              !std::convertible_to<head_view<const float>, head_view<float>>);
static_assert(!std::convertible_to<Eigen::Tensor<float, 4>&, head_view<float>> &&
                  !std::convertible_to<tensor_view<float, 4>, head_view<float>>,
              "the order of the axes has to be said");
static_assert(!std::is_constructible_v<head_view<double>, head_view<float>>);

template <class T>
concept has_heads = requires(T&& tensor) { heads(std::forward<T>(tensor), axis_order::time_head); };
static_assert(has_heads<block&> && has_heads<Eigen::Tensor<float, 4>&> && has_heads<const block&> && has_heads<map> &&
              has_heads<tensor_view<float, 4>>);
static_assert(!has_heads<Eigen::Tensor<float, 2>&> && !has_heads<Eigen::Tensor<float, 5>&>, "neither 2 nor 5 axes");
static_assert(!has_heads<block> && !has_heads<const block>, "the view would outlive a temporary");
static_assert(!has_heads<sum>);

template <class T>
concept has_heads_without_order = requires(T&& tensor) { heads(std::forward<T>(tensor)); };
static_assert(!has_heads_without_order<block&>);

template <class T>
concept splits = requires(T&& tensor, const head_split& split) { split_heads(std::forward<T>(tensor), split); };
static_assert(splits<block&> && splits<const block&> && splits<map> && splits<tensor_view<const float, 3>>);
static_assert(!splits<block> && !splits<Eigen::Tensor<float, 4>&> && !splits<Eigen::Tensor<float, 2>&>);

template <class T>
concept is_batched = requires(T&& tensor) { batched(tensor); };
static_assert(is_batched<Eigen::Tensor<float, 2>&> && is_batched<Eigen::Tensor<float, 6>&> && !is_batched<Eigen::Tensor<float, 1>&> &&
              !is_batched<sum>);

}  // namespace

/// A type of one's own, adapted.
namespace mine {
struct matrix {
  index_t rows, columns;
  std::vector<float> values;
};
}  // namespace mine
template <>
struct posenc::tensor_adaptor<mine::matrix> {
  static tensor_view<float, 2> view(mine::matrix& m) noexcept { return {m.values.data(), {m.rows, m.columns}}; }
  static tensor_view<const float, 2> view(const mine::matrix& m) noexcept { return {m.values.data(), {m.rows, m.columns}}; }
};
static_assert(writable_tensor<mine::matrix&> && readable_tensor<const mine::matrix&> && !writable_tensor<const mine::matrix&> &&
              !writable_tensor<mine::matrix> && rank_of<mine::matrix> == 2);
