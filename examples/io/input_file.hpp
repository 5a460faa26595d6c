// SPDX-License-Identifier: MIT
/// \file  Files of unknown origin: nothing is read past the end, and nothing is allocated that the file is too small to fill.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace io {

/// A file that is read from its beginning.
class input_file {
 public:
  /// \throws std::runtime_error  as all of these do, naming the file and what is wrong with it.
  explicit input_file(std::string path) : path_(std::move(path)) {
    std::error_code error;
    left_ = std::filesystem::file_size(path_, error);
    require(!error, "cannot be opened");
    stream_.open(path_, std::ios::binary);
    require(stream_.is_open(), "cannot be opened");
  }

  void require(bool holds, const std::string& problem) const {
    if (!holds) throw std::runtime_error(path_ + ": " + problem);
  }
  std::uintmax_t left() const noexcept { return left_; }  ///< bytes

  void read(void* bytes, std::uintmax_t count, const std::string& what) {
    require(count <= left_, "is truncated inside its " + what);
    stream_.read(static_cast<char*>(bytes), static_cast<std::streamsize>(count));
    require(static_cast<bool>(stream_), "cannot be read");
    left_ -= count;
  }
  std::string text(std::uintmax_t count, const std::string& what) {
    require(count <= left_, "is truncated inside its " + what);
    std::string all(static_cast<std::size_t>(count), '\0');
    read(all.data(), count, what);
    return all;
  }
  /// A number of so many bytes, the lowest first.
  std::uint64_t number(int bytes, const std::string& what) {
    std::uint64_t all = 0;
    int shift = 0;
    for (const char byte : text(static_cast<std::uintmax_t>(bytes), what)) {
      all |= std::uint64_t{static_cast<unsigned char>(byte)} << shift;
      shift += 8;
    }
    return all;
  }
  void skip(std::uintmax_t count, const std::string& what) {
    require(count <= left_, "is truncated inside its " + what);
    stream_.seekg(static_cast<std::streamoff>(count), std::ios::cur);
    left_ -= count;
  }

 private:
  std::string path_;
  std::ifstream stream_;
  std::uintmax_t left_ = 0;
};

/// What an array of this shape takes, unless it is more than any memory has.
template <class Extent>
std::optional<std::uintmax_t> bytes_of(const std::vector<Extent>& shape, std::uintmax_t of_each) {
  std::uintmax_t most = PTRDIFF_MAX, bytes = of_each;
  for (const Extent extent : shape)
    if (extent == 0) return 0;
  for (const Extent extent : shape) {
    const auto factor = static_cast<std::uintmax_t>(extent);
    if (bytes > most / factor) return {};
    bytes *= factor;
  }
  return bytes;
}

}  // namespace io
