// SPDX-License-Identifier: MIT
#include "io/safetensors.hpp"

#include "catch.hpp"
#include "temporary_file.hpp"

#include <bit>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

template <class T>
std::string bytes_of_values(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}
std::string length(std::uint64_t bytes) { return bytes_of_values(std::vector{bytes}); }
std::string with_header(const std::string& header, const std::string& values = "") { return length(header.size()) + header + values; }
std::string entry(const std::string& type, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}
/// One tensor, 'a', of eight bytes.
std::string eight_bytes(const std::string& type, const std::string& shape, const std::string& offsets) {
  return with_header(R"({"a":)" + entry(type, shape, offsets) + "}", "01234567");
}

void refused(const std::string& bytes, const std::string& problem) {
  const temporary_file file(bytes);
  CHECK_THROWS_WITH(io::safetensors(file.path()), file.path() + ": " + problem);
}

const std::string all_types =
    with_header("{" + (R"("floats":)" + entry("F32", "[2,3]", "[0,24]")) + R"(,"__metadata__":{"format":"pt"},)" +
                    (R"("doubles":)" + entry("F64", "[2]", "[32,48]")) + (R"(,"halves":)" + entry("F16", "[1,2]", "[24,28]")) +
                    (R"(,"brains":)" + entry("BF16", "[2,1]", "[28,32]")) + (R"(,"ids":)" + entry("I64", "[]", "[48,56]")) +
                    (R"(,"empty":)" + entry("F32", "[3,0]", "[56,56]")) + (R"(,"bits":)" + entry("F4", "[4]", "[56,58]")) + "}  ",
                bytes_of_values(std::vector<float>{0, 1, 2, 3, 4, 5}) + std::string("\x00\x38\x00\xc0\x80\x3f\x00\xc0", 8) +
                    bytes_of_values(std::vector<double>{0.1, -2}) + bytes_of_values(std::vector<std::int64_t>{-3}) + "##");

}  // namespace

TEST_CASE("safetensors reads tensors of every type", "[io][safetensors]") {
  const temporary_file on_disk(all_types);
  const io::safetensors file(on_disk.path());
  CHECK(file.names() == std::vector<std::string>{"bits", "brains", "doubles", "empty", "floats", "halves", "ids"});
  const auto floats = file.read<float>("floats");
  CHECK(floats.shape == std::vector<io::index_t>{2, 3});
  CHECK(floats.values == std::vector<float>{0, 1, 2, 3, 4, 5});
  CHECK(io::view<2>(floats)(1, 2) == 5);
  CHECK(file.read<double>("doubles").values == std::vector<double>{0.1, -2});
  const auto halves = file.read<Eigen::half>("halves");
  CHECK(halves.shape == std::vector<io::index_t>{1, 2});
  CHECK(halves.values == std::vector{Eigen::half(0.5f), Eigen::half(-2)});
  CHECK(file.read<Eigen::bfloat16>("brains").values == std::vector{Eigen::bfloat16(1), Eigen::bfloat16(-2)});
  const auto ids = file.read<std::int64_t>("ids");
  CHECK(ids.shape.empty());
  CHECK(ids.values == std::vector<std::int64_t>{-3});
  CHECK(file.read<float>("empty").shape == std::vector<io::index_t>{3, 0});
  CHECK(file.read<float>("empty").values.empty());

  CHECK_THROWS_WITH(file.read<float>("nothing"), on_disk.path() + ": has no tensor 'nothing'");
  CHECK_THROWS_WITH(file.read<float>("__metadata__"), on_disk.path() + ": has no tensor '__metadata__'");
  CHECK_THROWS_WITH(file.read<float>("doubles"), on_disk.path() + ": holds 'doubles' as F64 where F32 is asked for");
  CHECK_THROWS_WITH(file.read<Eigen::half>("brains"), on_disk.path() + ": holds 'brains' as BF16 where F16 is asked for");
  CHECK_THROWS_WITH(file.read<float>("bits"), on_disk.path() + ": holds 'bits' as F4 where F32 is asked for");

  on_disk.write(all_types.substr(0, all_types.size() - 20));  // changed after it was opened
  CHECK_THROWS_WITH(file.read<double>("doubles"), on_disk.path() + ": is truncated inside its values");
  CHECK_THROWS_WITH(file.read<std::int64_t>("ids"), on_disk.path() + ": is truncated inside its values");
}

TEST_CASE("safetensors refuses a file cut anywhere", "[io][safetensors]") {
  const temporary_file file;
  for (std::size_t size = 0; size < all_types.size(); ++size) {
    file.write(all_types.substr(0, size));
    CHECK_THROWS_AS(io::safetensors(file.path()), std::runtime_error);
  }
}

TEST_CASE("safetensors names the file and what is wrong with its header", "[io][safetensors]") {
  CHECK_THROWS_WITH(io::safetensors("/nowhere/a"), "/nowhere/a: cannot be opened");
  refused("", "is truncated inside its length");
  refused(length(3) + "{}", "is truncated inside its header");
  refused(length(99'000'000) + "{}", "is truncated inside its header");
  refused(length(100'000'001) + "{}", "has a header of more than 100 MB");
  refused(length(~std::uint64_t{0}) + "{}", "has a header of more than 100 MB");

  const std::string no_json = "has a header that is not JSON", no_object = "has a header that is not a JSON object";
  for (const std::string text : {"", "{", "{]", "{\"a\"}", "{} {}", "{\"\xff\": 1}", "{'a': 1}", "{\"a\": 01}", "nul"}) {
    INFO(text);
    refused(with_header(text), no_json);
  }
  for (const std::string text : {"[]", "null", "1", "\"a\"", "[{}]"}) refused(with_header(text), no_object);
  for (const std::string open : {"[", "{\"a\":"}) {
    std::string nested;
    for (int n = 0; n < 100000; ++n) nested += open;
    refused(with_header(nested), "has a header that nests too deep");
  }
  refused(eight_bytes("F32", "[[2]]", "[0,8]"), "has a header that nests too deep");

  const std::string one = "\"a\":" + entry("F32", "[1]", "[0,4]"), other = "\"a\":" + entry("F32", "[1]", "[4,8]");
  refused(with_header("{" + one + "," + other + "}", "01234567"), "names 'a' twice");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}})", "01234567"), "names 'shape' twice");
  refused(with_header(R"({"__metadata__":{"x":"1","x":"2"}})"), "names 'x' twice");
  for (const std::string metadata : {"1", "[]", "{\"x\":1}", "{\"x\":{}}", "null"})
    refused(with_header("{\"__metadata__\":" + metadata + "}"), "has __metadata__ that is not text");
}

TEST_CASE("safetensors names the tensor and what is wrong with it", "[io][safetensors]") {
  const temporary_file good(eight_bytes("F32", "[2]", "[0,8]"));
  CHECK(io::safetensors(good.path()).read<float>("a").values.size() == 2);

  const std::string about = "says of 'a' ";
  for (const std::string text :
       {"1", "[]", "null", "{}", R"({"dtype":"F32","shape":[2]})", R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1})",
        R"({"dtype":"F32","shape":[2],"offsets":[0,8]})"})
    refused(with_header("{\"a\":" + text + "}", "01234567"), about + "something else than dtype, shape and data_offsets");
  refused(with_header(R"({"a":{"dtype":1,"shape":[2],"data_offsets":[0,8]}})", "01234567"), about + "a dtype that is not text");
  for (const std::string shape :
       {"[-2]", "[2.0]", "[2e0]", "[\"2\"]", "2", "{}", "null", "[true]", "[18446744073709551616]", "[9223372036854775808]", "[null]"})
    refused(eight_bytes("F32", shape, "[0,8]"), about + "a shape that is not whole numbers");
  for (const std::string offsets : {"[0]", "[0,8,8]", "[-8,0]", "[0,8.0]", "[]", "8", "[0,9223372036854775808]", "[0,\"8\"]"})
    refused(eight_bytes("F32", "[2]", offsets), about + "data_offsets that are not two whole numbers");
  for (const std::string offsets : {"[8,0]", "[0,9]", "[9,9]", "[8,16]", "[0,9223372036854775807]"})
    refused(eight_bytes("F32", "[2]", offsets), about + "data_offsets that do not lie in order inside the file");
  // The last three are 8 bytes modulo 2^64, or none.
  for (const std::string shape : {"[3]", "[1]", "[0]", "[]", "[2,0]", "[1000000000000]", "[4611686018427387906]", "[4294967296,4294967296]",
                                  "[9223372036854775807,9223372036854775807]"})
    refused(eight_bytes("F32", shape, "[0,8]"), about + "a shape that does not fill its data_offsets");
  refused(eight_bytes("F64", "[2]", "[0,8]"), about + "a shape that does not fill its data_offsets");
  refused(eight_bytes("BOOL", "[2]", "[0,8]"), about + "a shape that does not fill its data_offsets");
}

TEST_CASE("the tensors of a file fill it exactly", "[io][safetensors]") {
  const auto two = [](const std::string& first, const std::string& second, const std::string& shape = "[1]") {
    return with_header("{\"b\":" + entry("F32", shape, second) + ",\"a\":" + entry("F32", "[1]", first) + "}", "01234567");
  };
  const temporary_file good(two("[4,8]", "[0,4]"));
  CHECK(io::safetensors(good.path()).read<float>("a").values[0] == std::bit_cast<float>(std::uint32_t{0x37363534}));
  const std::string unused = "has bytes that belong to no tensor", overlap = "has tensors that overlap";
  refused(eight_bytes("F32", "[1]", "[0,4]"), unused);
  refused(eight_bytes("F32", "[1]", "[4,8]"), unused);
  refused(with_header("{}", "0"), unused);
  refused(two("[0,4]", "[0,4]"), overlap);
  refused(two("[2,6]", "[0,4]"), overlap);
  refused(two("[0,4]", "[0,8]", "[2]"), overlap);
  refused(two("[4,8]", "[0,0]", "[0]"), unused);

  const temporary_file none(with_header("{}"));
  CHECK(io::safetensors(none.path()).names().empty());
}
