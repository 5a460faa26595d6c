// SPDX-License-Identifier: MIT
/// \file  The reader itself: every golden test relies on it.
#include "npy.hpp"

#include "catch.hpp"

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using golden::column_major, golden::npy, golden::row_major, golden::view;

std::string header(const std::string& dictionary) {
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(dictionary.size()) + '\0' + dictionary;
}
const std::string six_integers = header("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }\n");
const std::string integers_0_to_5 = [] {
  std::string bytes;
  for (char n = 0; n < 6; ++n) bytes += n + std::string(7, '\0');
  return bytes;
}();

class temporary_file {
 public:
  explicit temporary_file(const std::string& bytes) : path_((std::filesystem::temp_directory_path() / name()).string()) {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~temporary_file() { std::remove(path_.c_str()); }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  const std::string& path() const { return path_; }

 private:
  static std::string name() { return "posenc_" + std::to_string(std::random_device{}()) + ".npy"; }
  std::string path_;
};

TEST_CASE("npy reads an array and shows it in both storage orders", "[golden][npy]") {
  const temporary_file file(six_integers + integers_0_to_5);
  auto array = npy<std::int64_t>::read(file.path());
  CHECK(array.shape == std::vector<posenc::index_t>{2, 3});
  CHECK(array.values == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5});
  CHECK(view<2>(array)(1, 0) == 3);
  CHECK(row_major<2>(array)(1, 0) == 3);
  CHECK(column_major<2>(array)(0, 1) == 3);
}

TEST_CASE("npy names the file and what is wrong with it", "[golden][npy]") {
  const auto refused = [](const std::string& bytes, const std::string& problem) {
    const temporary_file file(bytes);
    CHECK_THROWS_WITH(npy<std::int64_t>::read(file.path()), file.path() + ": " + problem);
  };
  CHECK_THROWS_WITH(npy<float>::read("/nowhere/a.npy"), "/nowhere/a.npy: cannot be opened");
  refused("PK\x03\x04", "is not a .npy file");
  refused(six_integers.substr(0, 30), "is truncated inside its header");
  refused(std::string("\x93NUMPY\x02\x00", 8) + six_integers.substr(8), "is not of version 1.0");
  refused(six_integers + integers_0_to_5.substr(1), "is truncated");
  refused(six_integers + integers_0_to_5 + "0", "has bytes left over");
  refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n") + "01234567", "holds '<f4' where '<i8' is asked for");
  refused(header("{'descr': '<i8', 'fortran_order': True, 'shape': (1,), }\n") + "01234567", "is in Fortran order");
  refused(header("{'descr': '<i8', 'fortran_order': False, }\n"), "has no shape in its header");
}

}  // namespace
