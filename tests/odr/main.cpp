// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

std::vector<unsigned char> first();
std::vector<unsigned char> second();

int main() {
  const auto a = first(), b = second();
  std::size_t differing = a.size() != b.size();
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) differing += a[i] != b[i];
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const unsigned char byte : a) hash = (hash ^ byte) * 0x100000001b3u;
  std::printf("%zu bytes with hash %016llx, %zu differ between the units\n", a.size(), static_cast<unsigned long long>(hash), differing);
  return a.empty() || differing ? 1 : 0;
}
