// SPDX-License-Identifier: MIT
/// \file  Which channels of q and k a rotary encoder turns, in which order they are paired, and which way. Every mix-up of rotary encodings
/// that was ever shipped is two places disagreeing about this: here table, kernel, backward, inverse and `convert_pairing` read one value.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/kernels/rotate.hpp>  // max_exchanged_pairs
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>  // index_t

#include <cmath>
#include <string_view>

namespace POSENC_NAMESPACE {

/// Which channels form a pair. Checkpoints do not record it, so it has no default anywhere.
enum class pairing {
  halves,  ///< (k, k + dim/2): GPT-NeoX, HF Llama, ONNX default
  interleaved,  ///< (2k, 2k + 1): GPT-J, Meta's Llama, RoFormer
  interleaved_to_halves  ///< reads interleaved, writes halves: DeepSeek-V3 in HF. Scores are those of interleaved, cached keys are not.
};

/// Which way positive angles turn (a, b): to (a c - b s, a s + b c), or back (HF's nanochat). Scores of one and the other are equal.
enum class rotation { positive, negative };

/// In place of the first channel or head: the last ones.
inline constexpr index_t trailing = -1;

struct rotary_descriptor {
  required<posenc::pairing> pairing;
  required<index_t> dim;  ///< channels that are paired, positive and even; the others keep their bits
  index_t offset = 0;  ///< the first of them; `trailing`: the last dim channels (DeepSeek-V4)
  posenc::rotation rotation = posenc::rotation::positive;
  index_t first_head = 0;  ///< of those that turn; `trailing`: the last head_count heads (x-transformers)
  index_t head_count = 0;  ///< 0: all from first_head on
  double attention_factor = 1;  ///< multiplies cosines and sines, on top of what a schedule asks for, and so the scores twice
  index_t blocks = 1;  ///< halves are those of each of so many equal blocks of channels (Gemma 4 vision: one for each axis)

  friend bool operator==(const rotary_descriptor&, const rotary_descriptor&) = default;
};

namespace detail {
/// \throws argument_error  unless the members fit one another.
inline void require_valid(std::string_view who, const rotary_descriptor& d) {
  const index_t dim = d.dim;
  require(dim > 0, who, "dim must be positive", dim);
  require(dim % 2 == 0, who, "dim must be even", dim);
  require(d.offset >= 0 || d.offset == trailing, who, "offset must not be negative", d.offset);
  require(d.first_head >= 0 || d.first_head == trailing, who, "first_head must not be negative", d.first_head);
  require(d.head_count >= 0, who, "head_count must not be negative", d.head_count);
  require(d.first_head != trailing || d.head_count > 0, who, "trailing heads need a head_count", d.head_count);
  require(std::isfinite(d.attention_factor) && d.attention_factor != 0, who, "the attention factor must be finite and not zero",
          d.attention_factor);
  require(d.blocks > 0 && dim % (2 * d.blocks) == 0, who, "each block must have an even number of channels", dim, d.blocks);
  const bool exchanged = d.pairing == pairing::interleaved_to_halves;
  require(!exchanged || d.blocks == 1, who, "interleaved_to_halves must be of one block", d.blocks);
  require(!exchanged || dim <= 2 * kernels::max_exchanged_pairs, who, "dim must be at most 2048 for interleaved_to_halves", dim);
}

/// Some neighbouring channels or heads.
struct neighbours {
  index_t first, count;
};
/// \throws argument_error  unless there are as many, from `first` on.
inline neighbours some_of(std::string_view who, std::string_view rule, index_t first, index_t count, index_t size) {
  require(count >= 0 && count <= size && (first == trailing || first <= size - count), who, rule, size, first, count);
  return {first == trailing ? size - count : first, count};
}
/// The channels of a head that are paired.
inline neighbours paired_channels(std::string_view who, const rotary_descriptor& d, index_t channels) {
  return some_of(who, "offset + dim must not exceed the channels", d.offset, d.dim, channels);
}
/// The heads that turn.
inline neighbours turning_heads(std::string_view who, const rotary_descriptor& d, index_t heads) {
  const index_t count = d.head_count > 0 ? d.head_count : heads - d.first_head;
  return some_of(who, "first_head + head_count must not exceed the heads", d.first_head, count, heads);
}
}  // namespace detail

}  // namespace POSENC_NAMESPACE
