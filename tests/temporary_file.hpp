// SPDX-License-Identifier: MIT
/// \file  Files for the readers, hostile ones among them.
#pragma once

#include <filesystem>
#include <fstream>
#include <random>
#include <string>

/// A file of these bytes that is gone after the test.
class temporary_file {
 public:
  explicit temporary_file(const std::string& bytes = "") : path_((std::filesystem::temp_directory_path() / name()).string()) {
    write(bytes);
  }
  ~temporary_file() { std::filesystem::remove(path_); }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;

  const std::string& path() const { return path_; }
  void write(const std::string& bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }

 private:
  static std::string name() { return "posenc_" + std::to_string(std::random_device{}()) + std::to_string(std::random_device{}()); }
  std::string path_;
};
