// SPDX-License-Identifier: MIT
/// \file  The reader itself: every golden test relies on it.
#include "io/npy.hpp"

#include "catch.hpp"
#include "temporary_file.hpp"

#include <cstdint>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

std::string header(const std::string& dictionary) {
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(dictionary.size() & 255) + static_cast<char>(dictionary.size() >> 8) +
         dictionary;
}
const std::string six_integers = header("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }\n");
const std::string integers_0_to_5 = [] {
  std::string bytes;
  for (char n = 0; n < 6; ++n) bytes += n + std::string(7, '\0');
  return bytes;
}();

void refused(const std::string& bytes, const std::string& problem) {
  const temporary_file file(bytes);
  CHECK_THROWS_WITH(io::read_npy<std::int64_t>(file.path()), file.path() + ": " + problem);
}
std::vector<io::index_t> shape_of(const std::string& dictionary) {
  const temporary_file file(header(dictionary));
  return io::read_npy<float>(file.path()).shape;
}

}  // namespace

TEST_CASE("npy reads an array and shows it in both storage orders", "[io][npy]") {
  const temporary_file file(six_integers + integers_0_to_5);
  auto array = io::read_npy<std::int64_t>(file.path());
  CHECK(array.shape == std::vector<io::index_t>{2, 3});
  CHECK(array.values == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5});
  CHECK(io::view<2>(array)(1, 0) == 3);
  CHECK(io::row_major<2>(array)(1, 0) == 3);
  CHECK(io::column_major<2>(array)(0, 1) == 3);
  CHECK_THROWS_AS(io::view<3>(array), std::logic_error);
}

TEST_CASE("npy reads version 2.0 and headers of any spelling", "[io][npy]") {
  const std::string dictionary = six_integers.substr(10);
  const temporary_file file(std::string("\x93NUMPY\x02\x00", 8) + static_cast<char>(dictionary.size()) + std::string(3, '\0') + dictionary +
                            integers_0_to_5);
  CHECK(io::read_npy<std::int64_t>(file.path()).values == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5});
  CHECK(shape_of("{'shape':(0,7),'descr':'<f4','fortran_order':False}") == std::vector<io::index_t>{0, 7});
  CHECK(shape_of("{ 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 0 , ) , } \n") == std::vector<io::index_t>{0});
  CHECK(shape_of("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 0), }" + std::string(1000, ' ')) == std::vector<io::index_t>{5, 0});
  CHECK(shape_of("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 3, 0), }").size() == 3);
}

TEST_CASE("npy names the file and what is wrong with it", "[io][npy]") {
  CHECK_THROWS_WITH(io::read_npy<float>("/nowhere/a.npy"), "/nowhere/a.npy: cannot be opened");
  CHECK_THROWS_WITH(io::read_npy<float>("/"), "/: cannot be opened");
  refused("", "is not a .npy file");
  refused("PK\x03\x04 and more", "is not a .npy file");
  refused(std::string("\x93NUMPY\x03\x00", 8) + six_integers.substr(8), "is not of version 1.0 or 2.0");
  refused(std::string("\x93NUMPY\x01\x01", 8) + six_integers.substr(8), "is not of version 1.0 or 2.0");
  refused(std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12) + six_integers.substr(10), "is truncated inside its header");
  refused(six_integers + integers_0_to_5.substr(1), "is truncated inside its values");
  refused(six_integers + integers_0_to_5 + "0", "has bytes left over");
  refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n") + "01234567", "holds '<f4' where '<i8' is asked for");
  refused(header("{'descr': '<i8', 'fortran_order': True, 'shape': (1,), }\n") + "01234567", "is not in C order");
  const std::string start = "{'descr': '<i8', 'fortran_order': False, 'shape': ";
  // Sizes that no file has: none of it is allocated. The second is 2^64 values, which would wrap around to none.
  refused(header(start + "(1000000000000,), }"), "is truncated inside its values");
  refused(header(start + "(4294967296, 4294967296), }"), "is truncated inside its values");
  refused(header(start + "(9223372036854775807, 2), }"), "is truncated inside its values");

  for (const std::string& text : {std::string(),
                                  std::string("{"),
                                  std::string("[]"),
                                  std::string("{'descr': '<i8', 'fortran_order': False, }\n"),
                                  start + "(-1,), }",
                                  start + "(2 3), }",
                                  start + "(9223372036854775808,), }",
                                  start + "(1.5,), }",
                                  start + "(a,), }",
                                  start + "(1,",
                                  start + "2, }",
                                  start + "(2,)} 'x'",
                                  start + "(2,), 'shape': (2,), }",
                                  start + "(2,), 'descr': '<i8'}",
                                  start + "(2,), 'fortran_order': False}",
                                  start + "(2,), 'more': 1, }",
                                  start + "(2,) 'descr': '<i8'}",
                                  std::string("{'descr': <i8, 'fortran_order': False, 'shape': (2,)}"),
                                  std::string("{'descr': '<i8, "),
                                  std::string("{'descr'"),
                                  std::string("{'descr': '<i8', 'fortran_order': , 'shape': (2,)}")}) {
    INFO(text);
    refused(header(text) + std::string(16, '\0'), "has a header that is not that of an array");
  }
}

TEST_CASE("npy refuses a file cut anywhere", "[io][npy]") {
  const std::string whole = six_integers + integers_0_to_5;
  const temporary_file file;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    file.write(whole.substr(0, size));
    CHECK_THROWS_AS(io::read_npy<std::int64_t>(file.path()), std::runtime_error);
  }
}

TEST_CASE("npy reads what it writes", "[io][npy]") {
  const temporary_file file;
  const auto check = [&]<class T>(const io::array<T>& array) {
    io::write_npy(file.path(), array);
    const auto same = io::read_npy<T>(file.path());
    CHECK(same.shape == array.shape);
    CHECK(same.values == array.values);
  };
  check(io::array<float>{{2, 3}, {0.5f, 1, 2, 3, 4, 5e-39f}});
  check(io::array<double>{{3}, {1e-300, 0.1, -7}});
  check(io::array<std::int64_t>{{}, {INT64_MIN}});
  check(io::array<Eigen::half>{{1, 2, 1}, {Eigen::half(0.5f), Eigen::half(-65504)}});
  check(io::array<double>{{4, 0}, {}});
  check(io::array<float>{{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {7}});

  io::write_npy(file.path(), io::array<float>{{2}, {1, 2}});
  std::ifstream stream(file.path(), std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  // What NumPy 1.24 writes.
  CHECK(bytes == std::string("\x93NUMPY\x01\x00\x76\x00", 10) + "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }" +
                     std::string(60, ' ') + "\n" + std::string("\0\0\x80\x3f\0\0\0\x40", 8));

  CHECK_THROWS_AS(io::write_npy(file.path(), io::array<float>{{2}, {1}}), std::logic_error);
  CHECK_THROWS_WITH(io::write_npy("/nowhere/a.npy", io::array<float>{{1}, {1}}), "/nowhere/a.npy: cannot be written");
}
