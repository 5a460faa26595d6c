// SPDX-License-Identifier: MIT
/// \file  Tensors as the library sees them: which types it takes, and the strided views it reads them through.
/// The only file that includes Eigen's tensor header.
///
/// Axes are named slowest first, whatever the storage order: a row-major `Tensor<float, 4, RowMajor>(B, T, H, D)` and a column-major
/// `Tensor<float, 4>(D, H, T, B)` are the same memory, and both are a `[batch, time, head, channel]` tensor here.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>            // require
#include <posenc/kernels/scalars.hpp>  // the 16-bit formats as kernels know them

#if __has_include(<unsupported/Eigen/CXX11/Tensor>)
#include <unsupported/Eigen/CXX11/Tensor>
#else
#include <unsupported/Eigen/Tensor>
#endif

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>  // less, which orders unrelated pointers
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

namespace POSENC_NAMESPACE {

/// Extents, strides and indices. Not called `index`: POSIX has a function of that name.
using index_t = std::ptrdiff_t;

/// What tensors may hold.
template <class S>
concept storage_scalar =
    std::same_as<S, float> || std::same_as<S, double> || std::same_as<S, Eigen::half> || std::same_as<S, Eigen::bfloat16>;

/// What is computed in: double for double, float for the others. Tables and parameters are held in it.
template <class S>
using compute_t = std::conditional_t<std::same_as<std::remove_const_t<S>, double>, double, float>;

/// What encoders compute in, and hold their tables and parameters in.
template <class S>
concept compute_scalar = std::same_as<S, float> || std::same_as<S, double>;

/// The trait that adapts a tensor type: `static view(tensor) -> tensor_view`, with const elements where only reading is allowed.
/// Specialize it to bring a type of your own.
template <class T>
struct tensor_adaptor {};

/// A type with a `tensor_adaptor`: tensors in memory, never a lazy expression (evaluate it into a tensor first).
template <class T>
concept stored_tensor = requires(std::remove_reference_t<T>& tensor) { tensor_adaptor<std::remove_cvref_t<T>>::view(tensor); };

template <stored_tensor T>
using view_t = decltype(tensor_adaptor<std::remove_cvref_t<T>>::view(std::declval<std::remove_reference_t<T>&>()));
template <stored_tensor T>
using element_t = typename view_t<T>::element;  ///< const where only reading is allowed
template <stored_tensor T>
inline constexpr int rank_of = view_t<T>::rank;

template <class T>
concept has_float_elements = storage_scalar<std::remove_const_t<element_t<T>>>;
template <class T>
concept has_writable_elements = !std::is_const_v<element_t<T>>;
/// Not a temporary that owns its elements: results would be lost. Constness reaches the elements exactly where they are owned.
template <class T>
concept outlives_the_call =
    std::is_lvalue_reference_v<T> || std::same_as<element_t<std::remove_cvref_t<T>&>, element_t<const std::remove_cvref_t<T>&>>;

template <class T>
concept readable_tensor = stored_tensor<T> && has_float_elements<T>;
template <class T>
concept writable_tensor = readable_tensor<T> && has_writable_elements<T> && outlives_the_call<T>;

/// Whether an encoder that computes in S reads, or writes, elements of type T: double by one in double, the others by one in float.
template <class T, class S>
concept readable_as = storage_scalar<std::remove_const_t<T>> && std::same_as<compute_t<T>, S>;
template <class T, class S>
concept writable_as = readable_as<T, S> && !std::is_const_v<T>;
/// Whether elements of one can be copied to the other bit for bit.
template <class From, class To>
concept stored_as = std::same_as<std::remove_const_t<From>, To>;

/// The same elements as kernels know them, which include no header of Eigen's.
template <class T>
auto kernel_pointer(T* elements) noexcept {
  using S = std::remove_const_t<T>;
  using known = std::conditional_t<std::same_as<S, Eigen::half>, kernels::float16,
                                   std::conditional_t<std::same_as<S, Eigen::bfloat16>, kernels::bfloat16, S>>;
  static_assert(sizeof(known) == sizeof(S));
  return reinterpret_cast<std::conditional_t<std::is_const_v<T>, const known, known>*>(elements);
}
template <class T>
using kernel_scalar = std::remove_pointer_t<decltype(kernel_pointer(std::declval<std::remove_const_t<T>*>()))>;

/// A strided view: pointer, extents and strides in elements, slowest axis first. It owns nothing and is cheap to copy; the memory must
/// outlive it. What Eigen's maps cannot say (q inside a fused QKV buffer, a slice of a cache) is said with it.
/// A default-constructed view is empty and means "not given".
template <class T, int Rank>
class tensor_view {
 public:
  using element = T;
  using shape = std::array<index_t, static_cast<std::size_t>(Rank)>;
  static constexpr int rank = Rank;

  constexpr tensor_view() = default;
  constexpr tensor_view(T* data, const shape& extents, const shape& strides) noexcept : data_(data), extents_(extents), strides_(strides) {}
  /// Contiguous, slowest axis first.
  constexpr tensor_view(T* data, const shape& extents) noexcept : data_(data), extents_(extents) {
    index_t stride = 1;
    for (auto axis = static_cast<std::size_t>(Rank); axis-- > 0; stride *= extents[axis]) strides_[axis] = stride;
  }
  /// Any stored tensor of this rank converts; to const elements too, never back.
  template <stored_tensor Source>
    requires(!std::same_as<std::remove_cvref_t<Source>, tensor_view> && rank_of<Source> == Rank &&
             std::convertible_to<element_t<Source> (*)[], T (*)[]>)
  constexpr tensor_view(Source&& source) noexcept {
    const auto view = tensor_adaptor<std::remove_cvref_t<Source>>::view(source);
    *this = tensor_view(view.data(), view.extents(), view.strides());
  }

  constexpr T* data() const noexcept { return data_; }
  constexpr explicit operator bool() const noexcept { return data_ != nullptr; }
  constexpr const shape& extents() const noexcept { return extents_; }
  constexpr const shape& strides() const noexcept { return strides_; }
  constexpr index_t extent(int axis) const noexcept { return extents_[static_cast<std::size_t>(axis)]; }
  constexpr index_t stride(int axis) const noexcept { return strides_[static_cast<std::size_t>(axis)]; }
  /// True where an extent is zero: every verb is then a no-op.
  constexpr bool empty() const noexcept {
    for (const index_t extent : extents_)
      if (extent == 0) return true;
    return false;
  }
  template <class... Indices>
    requires(sizeof...(Indices) == static_cast<std::size_t>(Rank))
  constexpr T& operator()(Indices... at) const noexcept {
    const shape where{static_cast<index_t>(at)...};
    index_t offset = 0;
    for (std::size_t axis = 0; axis < where.size(); ++axis) offset += where[axis] * strides_[axis];
    return data_[offset];
  }

 private:
  T* data_ = nullptr;
  shape extents_{}, strides_{};
};

template <class T, int Rank>
struct tensor_adaptor<tensor_view<T, Rank>> {
  static constexpr tensor_view<T, Rank> view(const tensor_view<T, Rank>& same) noexcept { return same; }
};

namespace detail {
/// Both storage orders: a column-major tensor lists its axes fastest first, so they are read from the back.
template <int Rank>
struct eigen_adaptor {
  template <class T>
  static tensor_view<std::remove_pointer_t<decltype(std::declval<T&>().data())>, Rank> view(T& tensor) noexcept {
    constexpr bool slowest_first = static_cast<int>(T::Layout) == static_cast<int>(Eigen::RowMajor);
    using shape = typename tensor_view<float, Rank>::shape;
    return {tensor.data(), [&]<int... Axis>(std::integer_sequence<int, Axis...>) {
              return shape{static_cast<index_t>(tensor.dimension(slowest_first ? Axis : Rank - 1 - Axis))...};
            }(std::make_integer_sequence<int, Rank>())};
  }
};
}  // namespace detail

template <class S, int Rank, int Options, class Index>
struct tensor_adaptor<Eigen::Tensor<S, Rank, Options, Index>> : detail::eigen_adaptor<Rank> {};
template <class S, class Sizes, int Options, class Index>
struct tensor_adaptor<Eigen::TensorFixedSize<S, Sizes, Options, Index>> : detail::eigen_adaptor<static_cast<int>(Sizes::count)> {};
template <class Plain, int Options, template <class> class Pointer>
struct tensor_adaptor<Eigen::TensorMap<Plain, Options, Pointer>> : tensor_adaptor<std::remove_const_t<Plain>> {};

template <stored_tensor T>
constexpr view_t<T> view_of(T&& tensor) noexcept {
  return tensor_adaptor<std::remove_cvref_t<T>>::view(tensor);
}

template <class S>
using token_view = tensor_view<S, 3>;  ///< [batch, time, channel]
template <class S>
using score_view = tensor_view<S, 4>;  ///< [batch, head, query, key]: scores before the soft-max, weights after it

/// The product of extents. \throws argument_error  when it, times `bytes` each, does not fit in an `index_t`.
template <std::size_t Rank>
constexpr index_t checked_product(std::string_view who, const std::array<index_t, Rank>& extents, std::size_t bytes = 1) {
  bool empty = false;  // then nothing overflows, wherever the zero stands
  for (const index_t extent : extents) {
    require(extent >= 0, who, "extents must not be negative", extents);
    empty = empty || extent == 0;
  }
  if (empty) return 0;
  index_t product = static_cast<index_t>(bytes);
  for (const index_t extent : extents) {
    require(product <= std::numeric_limits<index_t>::max() / extent, who, "the size in bytes must fit in 63 bits", extents);
    product *= extent;
  }
  return product / static_cast<index_t>(bytes);
}

namespace detail {
constexpr index_t step_of(index_t stride) noexcept {  // its size; what has none, is too large in any case
  constexpr index_t most = std::numeric_limits<index_t>::max();
  return stride >= 0 ? stride : stride < -most ? most : -stride;
}
}  // namespace detail

/// What every verb asks of a view before it writes: the elements of the last axis lie side by side, and every offset fits in memory.
/// \throws argument_error  otherwise.
template <class T, int Rank>
constexpr void require_rows(std::string_view who, const tensor_view<T, Rank>& view) {
  if (view.empty()) return;
  require(view.stride(Rank - 1) == 1 || view.extent(Rank - 1) == 1, who, "the last axis must be contiguous", view.stride(Rank - 1));
  index_t left = std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(T)) - 1;
  for (int axis = 0; axis < Rank; ++axis) {
    require(view.extent(axis) > 0, who, "extents must not be negative", view.extents());
    const index_t last = view.extent(axis) - 1, stride = detail::step_of(view.stride(axis));
    require(last == 0 || stride <= left / last, who, "the size in bytes must fit in 63 bits", view.extents());
    left -= last * stride;
  }
}

/// The same for a view that is written, whose elements must also be distinct: no two indices may mean one place in memory.
/// \throws argument_error  otherwise, and for the rare layouts whose axes interlock, such as strides 3 and 2 of extents 2 and 3.
template <class T, int Rank>
constexpr void require_output(std::string_view who, const tensor_view<T, Rank>& view) {
  require_rows(who, view);
  if (view.empty()) return;
  index_t reach = 0;  // of all axes with smaller strides
  std::array<bool, static_cast<std::size_t>(Rank)> done{};
  for (int n = 0; n < Rank; ++n) {
    int next = -1;
    const auto step = [&](int axis) { return detail::step_of(view.stride(axis)); };
    for (int axis = 0; axis < Rank; ++axis)
      if (!done[static_cast<std::size_t>(axis)] && (next < 0 || step(axis) < step(next))) next = axis;
    done[static_cast<std::size_t>(next)] = true;
    if (view.extent(next) == 1) continue;
    require(step(next) > reach, who, "the elements of an output must be distinct, with strides that nest", view.strides());
    reach += (view.extent(next) - 1) * step(next);
  }
}

/// x of rank 2 or more as [batch, time, channel].
/// \throws argument_error  where several batch axes cannot be walked with one stride, or their product overflows.
template <stored_tensor T>
  requires(rank_of<T> >= 2)
token_view<element_t<T>> batched(T&& tensor) {
  const auto view = view_of(tensor);
  constexpr int time = rank_of<T> - 2;
  index_t batch = 1, batch_stride = 0;
  for (int axis = time; axis-- > 0;) {
    const index_t extent = view.extent(axis), stride = view.stride(axis);
    if (extent == 1) continue;  // its stride is never walked
    require(batch <= 1 || view.empty() || (stride % batch == 0 && stride / batch == batch_stride), "tensor",
            "batch axes must be evenly strided", view.strides());
    if (batch == 1) batch_stride = stride;
    batch = checked_product("tensor", std::array{batch, extent});
  }
  return {view.data(), {batch, view.extent(time), view.extent(time + 1)}, {batch_stride, view.stride(time), view.stride(time + 1)}};
}

/// A destination row that says: do not write this token.
inline constexpr index_t no_row = -1;
static_assert(sizeof(index_t) == sizeof(std::int64_t), "kernels read destination rows as 64-bit numbers");

/// \throws argument_error  unless there is one destination row for each token of `[batch, time]`, each `no_row` or inside the output.
inline void require_destinations(std::string_view who, std::span<const index_t> rows, index_t batch, index_t time, index_t output_rows) {
  const index_t tokens = checked_product(who, std::array{batch, time});
  require(static_cast<index_t>(rows.size()) == tokens, who, "there must be one destination row per token", tokens, rows.size());
  for (const index_t row : rows)
    require(row >= no_row && row < output_rows, who, "destination rows must lie inside the output", output_rows, row);
}

/// True if two views share memory without being the same view: then one cannot be read while the other is written.
template <class A, class B, int Rank>
bool overlaps_partly(const tensor_view<A, Rank>& a, const tensor_view<B, Rank>& b) noexcept {
  if (a.empty() || b.empty()) return false;
  const auto reach = [](const auto& view) {
    const char* low = reinterpret_cast<const char*>(view.data());
    const char* high = low + sizeof(*view.data());
    for (int axis = 0; axis < Rank; ++axis) {
      const index_t bytes = (view.extent(axis) - 1) * view.stride(axis) * static_cast<index_t>(sizeof(*view.data()));
      (bytes < 0 ? low : high) += bytes;
    }
    return std::pair{low, high};
  };
  const auto [low_a, high_a] = reach(a);
  const auto [low_b, high_b] = reach(b);
  const std::less<const char*> before;
  if (!before(low_a, high_b) || !before(low_b, high_a)) return false;
  return static_cast<const void*>(a.data()) != static_cast<const void*>(b.data()) || a.extents() != b.extents() ||
         a.strides() != b.strides();
}

}  // namespace POSENC_NAMESPACE
