// SPDX-License-Identifier: MIT
/// \file  Reads and writes NumPy's .npy files (NEP 1): versions 1.0 and 2.0, little-endian, C order, of float, double, Eigen::half or
/// std::int64_t.
#pragma once

#include "io/array.hpp"
#include "io/input_file.hpp"

#include <algorithm>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace io {

namespace detail {

template <class T>
constexpr std::string_view npy_type() {
  if constexpr (std::same_as<T, float>) return "<f4";
  else if constexpr (std::same_as<T, double>) return "<f8";
  else if constexpr (std::same_as<T, Eigen::half>) return "<f2";
  else {
    static_assert(std::same_as<T, std::int64_t>, "npy: float, double, Eigen::half or std::int64_t");
    return "<i8";
  }
}

/// The header, a Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, in any order, with spaces anywhere.
struct npy_header {
  std::string type, fortran_order;
  std::vector<index_t> shape;

  npy_header(std::string_view text, const input_file& file) : rest_(text), file_(file) {
    bool has_shape = false;
    expect('{');
    while (!taken('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && type.empty()) type = quoted();
      else if (key == "fortran_order" && fortran_order.empty()) fortran_order = word();
      else if (key == "shape" && !has_shape) has_shape = true, shape = tuple();
      else fail();
      if (!taken(',')) {
        expect('}');
        break;
      }
    }
    skip_spaces();
    if (!rest_.empty() || type.empty() || fortran_order.empty() || !has_shape) fail();
  }

 private:
  [[noreturn]] void fail() const {
    file_.require(false, "has a header that is not that of an array");
    throw std::logic_error("unreachable");
  }
  void skip_spaces() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \n"), rest_.size())); }
  bool taken(char wanted) {
    skip_spaces();
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char wanted) {
    if (!taken(wanted)) fail();
  }
  std::string until(std::size_t end) {
    if (end == rest_.npos || end == 0) fail();
    std::string part(rest_.substr(0, end));
    rest_.remove_prefix(end);
    return part;
  }
  std::string quoted() {
    expect('\'');
    std::string text = until(rest_.find('\''));
    expect('\'');
    return text;
  }
  std::string word() {
    skip_spaces();
    return until(rest_.find_first_of(" \n,}"));
  }
  std::vector<index_t> tuple() {
    std::vector<index_t> all;
    expect('(');
    while (!taken(')')) {
      skip_spaces();
      index_t extent = -1;
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), extent);
      if (error != std::errc() || extent < 0) fail();
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      all.push_back(extent);
      if (!taken(',')) {
        expect(')');
        break;
      }
    }
    return all;
  }

  std::string_view rest_;
  const input_file& file_;
};

}  // namespace detail

/// \throws std::runtime_error  naming the file and what is wrong with it.
template <class T>
array<T> read_npy(const std::string& path) {
  constexpr std::string_view wanted = detail::npy_type<T>(), magic = "\x93NUMPY";
  input_file file(path);
  file.require(file.left() >= magic.size() && file.text(magic.size(), "header") == magic, "is not a .npy file");
  const std::uint64_t version = file.number(2, "header");
  file.require(version == 1 || version == 2, "is not of version 1.0 or 2.0");
  const std::uint64_t length = file.number(version == 1 ? 2 : 4, "header");
  const detail::npy_header header(file.text(length, "header"), file);
  file.require(header.type == wanted, "holds '" + header.type + "' where '" + std::string(wanted) + "' is asked for");
  file.require(header.fortran_order == "False", "is not in C order");

  const auto bytes = bytes_of(header.shape, sizeof(T));
  file.require(bytes && *bytes <= file.left(), "is truncated inside its values");
  file.require(*bytes == file.left(), "has bytes left over");
  array<T> result{header.shape, std::vector<T>(static_cast<std::size_t>(*bytes / sizeof(T)))};
  file.read(result.values.data(), *bytes, "values");
  return result;
}

/// Version 1.0, the values at a multiple of 64 bytes, as NumPy writes them; overwrites.
/// \throws std::runtime_error  naming the file, where it cannot be written; std::logic_error where the values are not those of the shape.
template <class T>
void write_npy(const std::string& path, const array<T>& array) {
  const auto bytes = bytes_of(array.shape, sizeof(T));
  if (!bytes || *bytes != array.values.size() * sizeof(T)) throw std::logic_error("write_npy: the values must be those of the shape");
  std::string shape;
  for (const index_t extent : array.shape) shape += std::to_string(extent) + ", ";
  if (!shape.empty()) shape.resize(shape.size() - (array.shape.size() > 1 ? 2 : 1));  // (2,) and (2, 3)
  std::string header = "{'descr': '" + std::string(detail::npy_type<T>()) + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.append(63 - (10 + header.size()) % 64, ' ') += '\n';
  if (header.size() > 0xffff) throw std::logic_error("write_npy: the shape must fit in a header of version 1.0");

  std::ofstream file(path, std::ios::binary);
  file.write("\x93NUMPY\x01\x00", 8).put(static_cast<char>(header.size() & 0xff)).put(static_cast<char>(header.size() >> 8));
  file << header;
  file.write(reinterpret_cast<const char*>(array.values.data()), static_cast<std::streamsize>(*bytes));
  file.close();
  if (!file) throw std::runtime_error(path + ": cannot be written");
}

}  // namespace io
