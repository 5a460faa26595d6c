// SPDX-License-Identifier: MIT
/// \file  Arrays as files hold them, and as tensors.
#pragma once

#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace io {

using posenc::index_t;

static_assert(std::endian::native == std::endian::little, "values are copied from files as they stand");

/// An array of any rank, slowest axis first.
template <class T>
struct array {
  std::vector<index_t> shape;
  std::vector<T> values;

  static array filled(const std::vector<index_t>& shape, T value) {
    const index_t count = std::reduce(shape.begin(), shape.end(), index_t{1}, std::multiplies<>());
    return {shape, std::vector<T>(static_cast<std::size_t>(count), value)};
  }
};

namespace detail {
template <int Rank>
std::array<index_t, static_cast<std::size_t>(Rank)> extents(const std::vector<index_t>& shape) {
  std::array<index_t, static_cast<std::size_t>(Rank)> all{};
  if (shape.size() != all.size()) throw std::logic_error("array: a view must have the rank of its array");
  std::ranges::copy(shape, all.begin());
  return all;
}
}  // namespace detail

// Views of an array's values, which must outlive them.
template <int Rank, class T>
posenc::tensor_view<T, Rank> view(array<T>& array) {
  return {array.values.data(), detail::extents<Rank>(array.shape)};
}
template <int Rank, class T>
posenc::tensor_view<const T, Rank> view(const array<T>& array) {
  return {array.values.data(), detail::extents<Rank>(array.shape)};
}
template <int Rank, class T>
Eigen::TensorMap<Eigen::Tensor<T, Rank, Eigen::RowMajor>> row_major(array<T>& array) {
  return {array.values.data(), detail::extents<Rank>(array.shape)};
}
/// The same memory: a column-major tensor lists its axes the other way round.
template <int Rank, class T>
Eigen::TensorMap<Eigen::Tensor<T, Rank, Eigen::ColMajor>> column_major(array<T>& array) {
  auto fastest_first = detail::extents<Rank>(array.shape);
  std::ranges::reverse(fastest_first);
  return {array.values.data(), fastest_first};
}

}  // namespace io
