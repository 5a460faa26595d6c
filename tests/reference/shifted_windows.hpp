// SPDX-License-Identifier: MIT
/// \file  Shifted windows as Swin's code has them: rolls, slices and copies of whole pictures.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace reference {

/// A picture of one number per pixel.
struct picture {
  std::ptrdiff_t height, width;
  std::vector<std::int64_t> pixels;

  picture(std::ptrdiff_t h, std::ptrdiff_t w, std::int64_t all) : height(h), width(w), pixels(static_cast<std::size_t>(h * w), all) {}
  std::int64_t& operator()(std::ptrdiff_t y, std::ptrdiff_t x) { return pixels[static_cast<std::size_t>(y * width + x)]; }
};

/// Zeros, or what `nothing` is, to the right and below, up to whole windows.
inline picture padded(picture from, std::array<std::ptrdiff_t, 2> window, std::int64_t nothing) {
  const auto whole = [](std::ptrdiff_t n, std::ptrdiff_t size) { return n + (size - n % size) % size; };
  picture to(whole(from.height, window[0]), whole(from.width, window[1]), nothing);
  for (std::ptrdiff_t y = 0; y < from.height; ++y)
    for (std::ptrdiff_t x = 0; x < from.width; ++x) to(y, x) = from(y, x);
  return to;
}

/// torch.roll(x, shifts=(-shift[0], -shift[1]), dims=(height, width)).
inline picture rolled(picture x, std::array<std::ptrdiff_t, 2> shift) {
  std::rotate(x.pixels.begin(), x.pixels.begin() + shift[0] * x.width, x.pixels.end());
  for (std::ptrdiff_t y = 0; y < x.height; ++y)
    std::rotate(x.pixels.begin() + y * x.width, x.pixels.begin() + y * x.width + shift[1], x.pixels.begin() + (y + 1) * x.width);
  return x;
}

/// `[windows, cells]`, cut out one after the other.
inline std::vector<std::vector<std::int64_t>> partition(picture x, std::array<std::ptrdiff_t, 2> window) {
  std::vector<std::vector<std::int64_t>> windows;
  for (std::ptrdiff_t top = 0; top < x.height; top += window[0])
    for (std::ptrdiff_t left = 0; left < x.width; left += window[1]) {
      auto& one = windows.emplace_back();
      for (std::ptrdiff_t y = 0; y < window[0]; ++y)
        for (std::ptrdiff_t cell = 0; cell < window[1]; ++cell) one.push_back(x(top + y, left + cell));
    }
  return windows;
}

/// The regions of the mask of a padded picture, painted slice by slice: (0, -window), (-window, -shift), (-shift, None) on both axes.
inline picture mask_regions(std::ptrdiff_t height, std::ptrdiff_t width, std::array<std::ptrdiff_t, 2> window,
                            std::array<std::ptrdiff_t, 2> shift) {
  picture image(height, width, 0);
  const auto slices = [](std::ptrdiff_t n, std::ptrdiff_t size, std::ptrdiff_t moved) {
    // As Python has it: -0 is 0, so that without a shift the last slice is everything and the one before it nothing.
    return std::array<std::array<std::ptrdiff_t, 2>, 3>{{{0, n - size}, {n - size, moved ? n - moved : 0}, {moved ? n - moved : 0, n}}};
  };
  std::int64_t count = 0;
  for (const auto& [top, bottom] : slices(height, window[0], shift[0]))
    for (const auto& [left, right] : slices(width, window[1], shift[1])) {
      for (std::ptrdiff_t y = top; y < bottom; ++y)
        for (std::ptrdiff_t x = left; x < right; ++x) image(y, x) = count;
      ++count;
    }
  return image;
}

}  // namespace reference
