// SPDX-License-Identifier: MIT
/// \file  The text that the demo reads: a file, or the headers and the README of this repository.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace demo {

/// Something that the user can put right. Its text is one line.
struct bad_input : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct text {
  std::string bytes, source;
};

/// Of a longer file, or an endless one, the beginning is read.
inline constexpr std::size_t longest_text = std::size_t{1} << 26;

/// \throws bad_input  if the file cannot be read.
inline std::string read_file(const std::filesystem::path& path) {
  constexpr std::size_t step = std::size_t{1} << 16;
  const auto fail = [&](const std::string& why) -> std::string { throw bad_input("cannot read '" + path.string() + "': " + why); };
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return fail("it is a directory");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(errno ? std::generic_category().message(errno) : "it does not open");
  std::string bytes;
  while (file && bytes.size() < longest_text) {
    const std::size_t before = bytes.size();
    bytes.resize(before + step);
    file.read(bytes.data() + before, static_cast<std::streamsize>(step));
    bytes.resize(before + static_cast<std::size_t>(file.gcount()));
  }
  if (file.bad()) return fail("reading failed");
  return bytes;
}

/// README.md and include/posenc/**.hpp, in the order of their names, from the current directory.
inline text read_repository() {
  namespace fs = std::filesystem;
  std::vector<fs::path> paths;
  if (fs::exists("README.md")) paths.emplace_back("README.md");
  const auto first_header = static_cast<std::ptrdiff_t>(paths.size());
  if (fs::is_directory("include/posenc"))
    for (const auto& entry : fs::recursive_directory_iterator("include/posenc"))
      if (entry.path().extension() == ".hpp") paths.push_back(entry.path());
  std::sort(paths.begin() + first_header, paths.end());

  text all;
  for (const auto& path : paths) all.bytes += read_file(path);
  all.source = std::string(first_header ? "README.md and " : "") + "include/posenc/**.hpp, " + std::to_string(paths.size()) + " files";
  if (all.bytes.empty()) throw bad_input("found no README.md and no include/posenc here: run it from the repository, or name a FILE");
  return all;
}

inline text read_text(std::string_view path) {
  text all{read_file(std::filesystem::path(path)), std::string(path)};
  if (all.bytes.empty()) throw bad_input("'" + all.source + "' is empty");
  if (all.bytes.size() >= longest_text) all.source.insert(0, "the beginning of ");
  return all;
}

/// The text in windows of `size` bytes, the last one perhaps shorter; where they are more than `most`, that many, evenly spread.
inline std::vector<std::string_view> windows(std::string_view text, std::size_t size, std::size_t most) {
  const std::size_t all = (text.size() + size - 1) / size, count = std::min(all, most);
  std::vector<std::string_view> chosen;
  for (std::size_t n = 0; n < count; ++n) chosen.push_back(text.substr(n * all / count * size, size));
  return chosen;
}

}  // namespace demo
