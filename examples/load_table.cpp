// A position table from a file: read, fitted to larger pictures, and written again.
#include <posenc/learned/initialize.hpp>
#include <posenc/learned/resize.hpp>

#include "io/npy.hpp"
#include "io/safetensors.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

/// A checkpoint with one tensor in it.
void write_checkpoint(const std::string& path, const std::string& name, const io::array<float>& table) {
  const std::uint64_t bytes = table.values.size() * sizeof(float);
  const std::string header = "{\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[" + std::to_string(table.shape[0]) + "," +
                             std::to_string(table.shape[1]) + "],\"data_offsets\":[0," + std::to_string(bytes) + "]}}";
  const std::uint64_t length = header.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), sizeof(length)) << header;
  file.write(reinterpret_cast<const char*>(table.values.data()), static_cast<std::streamsize>(bytes));
}

}  // namespace

int main() {
  const auto folder = std::filesystem::temp_directory_path();
  const std::string checkpoint = (folder / "posenc_load_table.safetensors").string(), result = (folder / "posenc_load_table.npy").string();

  // A table such as ViT's: a class token and 14 x 14 patches.
  auto fresh = io::array<float>::filled({1 + 14 * 14, 64}, 0);
  posenc::random_source random(1);
  posenc::initialize::truncated_normal(fresh.values, random, {.standard_deviation = 0.02});
  write_checkpoint(checkpoint, "embeddings.position_embeddings", fresh);

  const io::safetensors file(checkpoint);
  for (const std::string& name : file.names()) std::printf("%s has %s\n", checkpoint.c_str(), name.c_str());
  const auto table = file.read<float>("embeddings.position_embeddings");

  auto larger = io::array<float>::filled({1 + 16 * 16, 64}, 0);
  const posenc::resize_grid_options fit{
      .from = {14, 14}, .to = {16, 16}, .filter = posenc::grid_filter::bicubic, .align_corners = false, .antialias = false, .prefix = 1};
  posenc::resize(io::view<2>(table), fit, io::view<2>(larger));
  io::write_npy(result, larger);

  const auto back = io::read_npy<float>(result);
  const bool class_token_kept = std::equal(fresh.values.begin(), fresh.values.begin() + 64, back.values.begin());
  std::printf("[%td, %td] became [%td, %td], the class token %s\n", table.shape[0], table.shape[1], back.shape[0], back.shape[1],
              class_token_kept ? "kept" : "lost");
  std::filesystem::remove(checkpoint);
  std::filesystem::remove(result);
  return class_token_kept && back.values == larger.values ? 0 : 1;
}
