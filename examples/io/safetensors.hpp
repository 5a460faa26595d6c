// SPDX-License-Identifier: MIT
/// \file  Reads Hugging Face's .safetensors files: eight bytes of length, a JSON header of that length, then the values of all tensors.
#pragma once

#include "io/array.hpp"
#include "io/input_file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace io {

/// The header of one file, checked as a whole; values are read when they are asked for.
class safetensors {
 public:
  /// \throws std::runtime_error  as `read` does, naming the file and what is wrong with it: a header that is no header; tensors whose
  ///                             sizes, types and places contradict each other; values that do not fill the file exactly.
  explicit safetensors(const std::string& path) : path_(path) {
    input_file file(path);
    const std::uint64_t length = file.number(8, "length");
    file.require(length <= most_header, "has a header of more than 100 MB");
    const nlohmann::json header = parsed(file, file.text(length, "header"));
    values_ = 8 + length;
    for (const auto& [name, entry] : header.items())
      if (name == "__metadata__") require_texts(file, entry);
      else tensors_.emplace(name, tensor_of(file, name, entry));
    require_no_gaps(file);
  }

  /// In alphabetical order.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& [name, one] : tensors_) all.push_back(name);
    return all;
  }

  /// T is what the file holds: float for F32, double F64, Eigen::half F16, Eigen::bfloat16 BF16, std::int64_t I64.
  template <class T>
  array<T> read(const std::string& name) const {
    constexpr std::string_view wanted = type_name<T>();
    input_file file(path_);
    const auto found = tensors_.find(name);
    file.require(found != tensors_.end(), "has no tensor '" + name + "'");
    const tensor& one = found->second;
    file.require(one.type == wanted, "holds '" + name + "' as " + one.type + " where " + std::string(wanted) + " is asked for");
    file.skip(values_ + one.begin, "values");
    file.require(one.end - one.begin <= file.left(), "is truncated inside its values");  // the file may have changed
    array<T> result{{one.shape.begin(), one.shape.end()}, std::vector<T>(static_cast<std::size_t>((one.end - one.begin) / sizeof(T)))};
    file.read(result.values.data(), one.end - one.begin, "values");
    return result;
  }

 private:
  using json = nlohmann::json;
  static constexpr std::uint64_t most_header = 100'000'000;  // as the reference reader has it

  struct tensor {
    std::string type;
    std::vector<std::uint64_t> shape;
    std::uint64_t begin, end;  // of its bytes among the values
  };

  template <class T>
  static constexpr std::string_view type_name() {
    if constexpr (std::same_as<T, float>) return "F32";
    else if constexpr (std::same_as<T, double>) return "F64";
    else if constexpr (std::same_as<T, Eigen::half>) return "F16";
    else if constexpr (std::same_as<T, Eigen::bfloat16>) return "BF16";
    else {
      static_assert(std::same_as<T, std::int64_t>, "safetensors: float, double, Eigen::half, Eigen::bfloat16 or std::int64_t");
      return "I64";
    }
  }
  /// Bytes of each value; 0: a type that is not read here.
  static std::uint64_t size_of(const std::string& type) {
    static const std::map<std::string, std::uint64_t> sizes{{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
                                                            {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},
                                                            {"I32", 4},  {"F32", 4}, {"U64", 8}, {"I64", 8},     {"F64", 8}};
    const auto found = sizes.find(type);
    return found == sizes.end() ? 0 : found->second;
  }

  /// No deeper than a list inside a tensor inside the header, and no key twice, which the parser alone would not mind.
  static json parsed(const input_file& file, const std::string& text) {
    std::vector<std::set<std::string>> keys;  // of the objects that are open
    const auto check = [&](int depth, json::parse_event_t event, json& value) {
      using on = json::parse_event_t;
      file.require(depth <= 2 || (event != on::object_start && event != on::array_start), "has a header that nests too deep");
      if (event == on::object_start) keys.emplace_back();
      if (event == on::object_end) keys.pop_back();
      if (event == on::key)
        file.require(keys.back().insert(value.get<std::string>()).second, "names '" + value.get<std::string>() + "' twice");
      return true;
    };
    json header;
    try {
      header = json::parse(text, check);
    } catch (const json::exception&) {
      file.require(false, "has a header that is not JSON");
    }
    file.require(header.is_object(), "has a header that is not a JSON object");
    return header;
  }

  static void require_texts(const input_file& file, const json& metadata) {
    file.require(metadata.is_object() && std::ranges::all_of(metadata, [](const json& value) { return value.is_string(); }),
                 "has __metadata__ that is not text");
  }

  static tensor tensor_of(const input_file& file, const std::string& name, const json& entry) {
    const std::string about = "says of '" + name + "' ";
    file.require(
        entry.is_object() && entry.size() == 3 && entry.contains("dtype") && entry.contains("shape") && entry.contains("data_offsets"),
        about + "something else than dtype, shape and data_offsets");
    const json &type = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
    const auto whole = [](const json& number) { return number.is_number_unsigned() && number.get<std::uint64_t>() <= PTRDIFF_MAX; };
    file.require(type.is_string(), about + "a dtype that is not text");
    file.require(shape.is_array() && std::ranges::all_of(shape, whole), about + "a shape that is not whole numbers");
    file.require(offsets.is_array() && offsets.size() == 2 && std::ranges::all_of(offsets, whole),
                 about + "data_offsets that are not two whole numbers");
    tensor one{type.get<std::string>(), shape.get<std::vector<std::uint64_t>>(), offsets[0].get<std::uint64_t>(),
               offsets[1].get<std::uint64_t>()};
    file.require(one.begin <= one.end && one.end <= file.left(), about + "data_offsets that do not lie in order inside the file");
    if (const std::uint64_t bytes = size_of(one.type))
      file.require(bytes_of(one.shape, bytes) == one.end - one.begin, about + "a shape that does not fill its data_offsets");
    return one;
  }

  /// The values of all tensors, one after the other, are the rest of the file.
  void require_no_gaps(const input_file& file) const {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> places;
    for (const auto& [name, one] : tensors_) places.emplace_back(one.begin, one.end);
    std::ranges::sort(places);
    std::uint64_t reached = 0;
    for (const auto& [begin, end] : places) {
      file.require(begin >= reached, "has tensors that overlap");
      file.require(begin == reached, "has bytes that belong to no tensor");
      reached = end;
    }
    file.require(reached == file.left(), "has bytes that belong to no tensor");
  }

  std::string path_;
  std::uint64_t values_ = 0;  // where they begin
  std::map<std::string, tensor> tensors_;
};

}  // namespace io
