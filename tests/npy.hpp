// SPDX-License-Identifier: MIT
/// \file  Reads NumPy's .npy files and shows them as tensors: version 1.0, little-endian, C order, of float, double or std::int64_t.
#pragma once

#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace golden {

using posenc::index_t;

/// An array of any rank, slowest axis first.
template <class T>
struct npy {
  std::vector<index_t> shape;
  std::vector<T> values;

  /// \throws std::runtime_error  naming the file and what is wrong with it.
  static npy read(const std::string& file);

  static npy filled(const std::vector<index_t>& shape, T value) {
    const index_t count = std::reduce(shape.begin(), shape.end(), index_t{1}, std::multiplies<>());
    return {shape, std::vector<T>(static_cast<std::size_t>(count), value)};
  }
};

namespace detail {
template <int Rank>
std::array<index_t, static_cast<std::size_t>(Rank)> extents(const std::vector<index_t>& shape) {
  std::array<index_t, static_cast<std::size_t>(Rank)> all{};
  if (shape.size() != all.size()) throw std::logic_error("npy: a view must have the rank of its array");
  std::ranges::copy(shape, all.begin());
  return all;
}
}  // namespace detail

// Views of an array's values, which must outlive them.
template <int Rank, class T>
posenc::tensor_view<T, Rank> view(npy<T>& array) {
  return {array.values.data(), detail::extents<Rank>(array.shape)};
}
template <int Rank, class T>
posenc::tensor_view<const T, Rank> view(const npy<T>& array) {
  return {array.values.data(), detail::extents<Rank>(array.shape)};
}
template <int Rank, class T>
Eigen::TensorMap<Eigen::Tensor<T, Rank, Eigen::RowMajor>> row_major(npy<T>& array) {
  return {array.values.data(), detail::extents<Rank>(array.shape)};
}
/// The same memory: a column-major tensor lists its axes the other way round.
template <int Rank, class T>
Eigen::TensorMap<Eigen::Tensor<T, Rank, Eigen::ColMajor>> column_major(npy<T>& array) {
  auto fastest_first = detail::extents<Rank>(array.shape);
  std::ranges::reverse(fastest_first);
  return {array.values.data(), fastest_first};
}

template <class T>
npy<T> npy<T>::read(const std::string& file) {
  static_assert(std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int64_t>);
  static_assert(std::endian::native == std::endian::little, "values are copied as they stand");
  constexpr std::string_view wanted = std::same_as<T, float> ? "'<f4'" : std::same_as<T, double> ? "'<f8'" : "'<i8'";
  const auto demand = [&](bool holds, const std::string& problem) {
    if (!holds) throw std::runtime_error(file + ": " + problem);
  };

  std::ifstream stream(file, std::ios::binary);
  demand(stream.is_open(), "cannot be opened");
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};

  // The magic, two bytes of version, two of the header's length, then a Python dictionary: {'descr': '<f4', 'fortran_order': False, ...}
  demand(bytes.starts_with("\x93NUMPY"), "is not a .npy file");
  demand(bytes.size() >= 10, "is truncated inside its header");
  demand(bytes[6] == 1 && bytes[7] == 0, "is not of version 1.0");
  const std::size_t begin = 10 + static_cast<unsigned char>(bytes[8]) + 256u * static_cast<unsigned char>(bytes[9]);
  demand(bytes.size() >= begin, "is truncated inside its header");
  const std::string_view header = std::string_view(bytes).substr(10, begin - 10);
  const auto entry = [&](const std::string& key, char last) {
    const std::string start = "'" + key + "': ";
    const std::size_t from = header.find(start), to = header.find(last, from + start.size());
    demand(from != header.npos && to != header.npos, "has no " + key + " in its header");
    return header.substr(from + start.size(), to - from - start.size());
  };
  const std::string_view type = entry("descr", ',');
  demand(type == wanted, "holds " + std::string(type) + " where " + std::string(wanted) + " is asked for");
  demand(entry("fortran_order", ',') == "False", "is in Fortran order");

  npy array;
  const std::string_view list = entry("shape", ')');
  for (const char *at = list.data(), *end = at + list.size(); at != end;) {
    index_t extent = 0;
    const auto [next, error] = std::from_chars(at, end, extent);
    if (error == std::errc()) array.shape.push_back(extent);
    at = error == std::errc() ? next : at + 1;  // past a parenthesis, comma or space
  }
  array.values = filled(array.shape, T(0)).values;
  const std::string_view data = std::string_view(bytes).substr(begin);
  demand(data.size() >= array.values.size() * sizeof(T), "is truncated");
  demand(data.size() == array.values.size() * sizeof(T), "has bytes left over");
  std::ranges::copy(data, reinterpret_cast<char*>(array.values.data()));
  return array;
}

}  // namespace golden
