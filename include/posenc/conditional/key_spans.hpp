// SPDX-License-Identifier: MIT
/// \file  Where each query stands among the keys, and which keys are of its document: what sums over the keys between two tokens need.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/kernels/forgetting.hpp>
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// The slots of queries among the keys, found once for all layers.
///
/// Keys ascend in position, with gaps or without; where a position does not exceed the one before, a new document begins (packed ones). A
/// query is the key at its position: queries may be all keys, the last ones (a decode step, a chunk of a prefill) or any others. Where
/// documents are packed, positions do not say which is meant, and queries must be the last keys, or all. Tokens without a position belong
/// to no document.
class key_spans {
 public:
  /// Allocates 32 bytes per query, and for explicit positions 40 per key while it works.
  /// \throws argument_error  unless positions have one axis and one batch, and each query's is among the keys' in that way.
  explicit key_spans(const attention_positions& at, std::string_view who = "key_spans") : at_(at) {
    require(at.queries.axes() == 1 && at.keys.axes() == 1, who, "positions must have one axis", at.queries.axes(), at.keys.axes());
    const index_t batch = at.queries.batch(), key_batch = at.keys.batch();
    require(batch == 0 || key_batch == 0 || batch == key_batch, who, "queries and keys must have one batch", batch, key_batch);
    rows_ = std::max(batch, key_batch);
    const index_t made = std::max<index_t>(rows_, 1), count = at.queries.time();
    std::shared_ptr<kernels::key_span[]> spans(
        new kernels::key_span[static_cast<std::size_t>(checked_product(who, std::array{made, count}, sizeof(kernels::key_span)))]);
    for (index_t b = 0; b < made; ++b) find(who, b, spans.get() + b * count);
    spans_ = std::move(spans);
  }

  const attention_positions& at() const noexcept { return at_; }
  /// Those of the queries of a batch row.
  const kernels::key_span* row(index_t b) const noexcept { return spans_.get() + (rows_ == 0 ? 0 : b * at_.queries.time()); }

 private:
  struct document {
    index_t first, last;  // slots
    index_t placed;       // keys with a position
  };

  static std::vector<document> documents_of(const position_row& keys, index_t count) {
    std::vector<document> all;
    position previous = no_position;
    for (index_t slot = 0; slot < count; ++slot) {
      const position key = keys[slot];
      if (key == no_position) continue;
      if (all.empty() || key <= previous) all.push_back({slot, slot, 0});
      all.back().last = slot + 1;
      ++all.back().placed;
      previous = key;
    }
    return all;
  }

  void find(std::string_view who, index_t b, kernels::key_span* spans) const {
    const position_row queries = at_.queries.row(b), keys = at_.keys.row(b);
    const index_t count = at_.queries.time(), slots = at_.keys.time();
    const std::vector<document> documents = keys.ids ? documents_of(keys, slots) : std::vector<document>{{0, slots, slots}};
    const bool aligned = are_last(queries, count, keys, slots);
    std::vector<std::pair<position, index_t>> placed;  // of explicit positions
    if (!aligned && keys.ids && documents.size() == 1)
      for (index_t slot = documents[0].first; slot < documents[0].last; ++slot)
        if (keys[slot] != no_position) placed.emplace_back(keys[slot], slot);
    auto of = documents.begin();
    for (index_t i = 0; i < count; ++i) {
      const position query = queries[i];
      if (query == no_position) {
        spans[i] = {0, -1, 0, false};
        continue;
      }
      require(aligned || documents.size() <= 1, who, "queries must be the last of the keys where positions restart", query);
      const index_t slot = aligned ? slots - count + i : slot_of(query, keys, slots, placed);
      require(slot >= 0, who, "each query's position must be among the keys'", query);
      while (aligned && slot >= of->last) ++of;
      spans[i] = {of->first, slot, of->last, of->placed != of->last - of->first};
    }
  }

  static bool are_last(const position_row& queries, index_t count, const position_row& keys, index_t slots) {
    if (count > slots) return false;
    if (!queries.ids && !keys.ids) return queries.first == keys.first + (slots - count);
    for (index_t i = 0; i < count; ++i)
      if (queries[i] != keys[slots - count + i]) return false;
    return true;
  }
  static index_t slot_of(position query, const position_row& keys, index_t slots, const std::vector<std::pair<position, index_t>>& placed) {
    if (!keys.ids) return query >= keys.first && query - keys.first < slots ? query - keys.first : -1;
    const auto found = std::ranges::lower_bound(placed, query, {}, [](const auto& one) { return one.first; });
    return found != placed.end() && found->first == query ? found->second : -1;
  }

  attention_positions at_;
  std::shared_ptr<const kernels::key_span[]> spans_;
  index_t rows_ = 0;
};

}  // namespace POSENC_NAMESPACE
