// SPDX-License-Identifier: MIT
/// \file  Positions of text, pictures and films in one sequence, for multimodal rotary encodings (M-RoPE).
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/positions.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>  // checked_product

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <variant>
#include <vector>

namespace POSENC_NAMESPACE {

/// What a row consists of. Sizes are in patches, of which `merge` x `merge` make a token.
namespace segment {
struct text {
  index_t tokens;
};
struct image {
  index_t height, width;
};
/// Qwen2-VL's interval is 1, Qwen2.5-VL's `tokens_per_second * int(seconds per frame)`: a whole number, where releases that multiplied
/// first and cut each frame's product are not followed. Qwen3-VL writes the time into the text: each frame is an image there.
struct video {
  index_t frames, height, width;
  position interval = 1;  ///< from frame to frame on the time axis; not negative
};
}  // namespace segment

using multimodal_row = std::vector<std::variant<segment::text, segment::image, segment::video>>;

/// On which side of a row that is shorter than the longest the tokens without a position stand.
enum class padding_side { left, right };

/// Where the token behind a picture or film stands that starts at s. They differ for films that last long.
enum class resume_at {
  behind_largest,  ///< one behind the largest id: the paper, transformers 4, vLLM
  behind_picture   ///< s + max(height, width), in tokens, whatever the frames: later transformers
};

struct multimodal_options {
  required<padding_side> padding;
  index_t merge = 1;  ///< patches per token in each direction: 2 for grids as Qwen's processors give them (`image_grid_thw`)
  resume_at resume = resume_at::behind_largest;
};

struct multimodal {
  positions at;                        ///< `[3, batch, time]` or `[3, time]`: time, height, width
  std::vector<position> decode_delta;  ///< per row: largest id + 1 - number of tokens, padding not counted
};

namespace detail {

/// One row's ids, axis by axis, and where the next token stands.
struct multimodal_ids {
  index_t merge;
  resume_at resume;
  std::array<std::vector<position>, 3> axes{};
  position next = 0, largest = -1;

  void append(const segment::text& text) {
    require(text.tokens >= 0, "multimodal", "extents must not be negative", text.tokens);
    for (index_t token = 0; token < text.tokens; ++token, ++next) push({next, next, next});
  }
  void append(const segment::image& image) { append(segment::video{1, image.height, image.width}); }
  void append(const segment::video& video) {
    checked_product("multimodal", std::array{video.frames, video.height, video.width}, sizeof(position));
    require(video.height % merge == 0 && video.width % merge == 0, "multimodal", "height and width must be multiples of merge",
            video.height, video.width, merge);
    const position room = positions::limit - next;
    require(video.interval >= 0 && (video.frames <= 1 || video.interval <= room / (video.frames - 1)), "multimodal",
            "the interval must not be negative, nor lead beyond 2^62", video.interval);
    const index_t height = video.height / merge, width = video.width / merge;
    for (index_t t = 0; t < video.frames; ++t)
      for (index_t h = 0; h < height; ++h)
        for (index_t w = 0; w < width; ++w) push({next + t * video.interval, next + h, next + w});
    if (video.frames == 0 || height == 0 || width == 0) return;
    next = resume == resume_at::behind_picture ? next + std::max(height, width) : largest + 1;
  }
  void push(const std::array<position, 3>& ids) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      axes[axis].push_back(ids[axis]);
      largest = std::max(largest, ids[axis]);
    }
  }
  position delta() const { return largest + 1 - static_cast<position>(axes[0].size()); }
};

inline multimodal_ids ids_of(const multimodal_row& row, index_t merge, resume_at resume) {
  require(merge >= 1, "multimodal", "merge must be positive", merge);
  multimodal_ids ids{merge, resume};
  for (const auto& part : row) std::visit([&](const auto& known) { ids.append(known); }, part);
  return ids;
}

}  // namespace detail

/// The positions of several rows, as in Qwen2-VL, 2.5-VL and 3-VL (Wang et al. 2024), with three ids per token. Text: all three count on.
/// A picture or film that starts at s: frame * interval, row and column, each from s. What follows starts as `resume` says.
/// Shorter rows are padded with tokens that have no position.
/// \throws argument_error  for negative sizes, and for heights and widths that `merge` does not divide.
inline multimodal multimodal_positions(std::span<const multimodal_row> rows, const multimodal_options& options) {
  std::vector<detail::multimodal_ids> each;
  std::vector<position> delta;
  std::size_t time = 0;
  for (const auto& row : rows) {
    each.push_back(detail::ids_of(row, options.merge, options.resume));
    time = std::max(time, each.back().axes[0].size());
    delta.push_back(each.back().delta());
  }
  std::vector<position> all;
  for (std::size_t axis = 0; axis < 3; ++axis)
    for (const auto& row : each) {
      const auto& ids = row.axes[axis];
      const std::size_t missing = time - ids.size();
      if (options.padding == padding_side::left) all.resize(all.size() + missing, no_position);
      all.insert(all.end(), ids.begin(), ids.end());
      if (options.padding == padding_side::right) all.resize(all.size() + missing, no_position);
    }
  return {positions::multi_axis(all, 3, static_cast<index_t>(each.size())), delta};
}

/// The same of one row, without a batch axis.
inline multimodal multimodal_positions(const multimodal_row& row, index_t merge = 1, resume_at resume = resume_at::behind_largest) {
  const auto ids = detail::ids_of(row, merge, resume);
  std::vector<position> all;
  for (const auto& axis : ids.axes) all.insert(all.end(), axis.begin(), axis.end());
  return {positions::multi_axis(all, 3), {ids.delta()}};
}

/// Positions `[3, batch, count]` of the next `count` text tokens of each row, behind `tokens[b]` ones, padding not counted:
/// `tokens[b] + decode_delta[b]`, and on.
/// \throws argument_error  unless there is one number of tokens per delta.
inline positions decode_positions(std::span<const index_t> tokens, std::span<const position> decode_delta, index_t count) {
  require(tokens.size() == decode_delta.size(), "multimodal", "there must be one number of tokens per row", decode_delta.size(),
          tokens.size());
  std::vector<position> start;
  for (std::size_t b = 0; b < tokens.size(); ++b) {
    constexpr position most = positions::limit / 2;
    require(tokens[b] >= 0, "multimodal", "the number of tokens must not be negative", tokens[b]);
    require(tokens[b] <= most && decode_delta[b] >= -most && decode_delta[b] <= most, "multimodal",
            "tokens and deltas must lie in [-2^61, 2^61]", tokens[b], decode_delta[b]);
    start.push_back(tokens[b] + decode_delta[b]);
  }
  const positions one = positions::offsets(start, count);
  std::vector<position> all;
  for (int axis = 0; axis < 3; ++axis)
    for (index_t b = 0; b < std::max<index_t>(one.batch(), 1); ++b)
      for (index_t t = 0; t < count; ++t) all.push_back(one(b, t));
  return positions::multi_axis(all, 3, one.batch());
}

}  // namespace POSENC_NAMESPACE
