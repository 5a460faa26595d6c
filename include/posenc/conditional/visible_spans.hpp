// SPDX-License-Identifier: MIT
/// \file  Which keys each query sees, where these lie side by side.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/positions.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// Keys [begin, end) of a batch row; the first and the last of them have positions.
struct key_span {
  index_t begin = 0, end = 0;
  bool gaps = false;  ///< tokens without a position lie between them
};

/// The spans of all queries of one batch row, or of the one row that all share.
class visible_spans {
 public:
  /// A query sees the keys of its document, up to its own position where `causal`, less than `window` positions away where that is not 0. A
  /// document begins where a key's position does not exceed the one before. A query without a position sees none.
  /// \throws argument_error  if the window is negative, or if there are several documents and the queries are not the same tokens as the
  /// keys.
  visible_spans(std::string_view who, const attention_positions& at, bool causal, index_t window)
      : rows_(std::max<index_t>({at.queries.batch(), at.keys.batch(), 1})), queries_(at.queries.time()) {
    require(window >= 0, who, "window must not be negative", window);
    spans_.resize(static_cast<std::size_t>(checked_product(who, std::array{rows_, queries_}, sizeof(key_span))));
    for (index_t b = 0; b < rows_; ++b) {
      const key_order keys(at.keys, b);
      require(keys.documents.size() <= 1 || at.queries == at.keys, who,
              "positions of keys must ascend where queries and keys are not the same tokens", keys.documents.size(), "documents");
      const position_row queries = at.queries.row(b);
      std::size_t document = 0;
      for (index_t i = 0; i < queries_; ++i) {
        if (queries[i] == no_position || keys.count == 0) continue;
        while (document + 1 < keys.documents.size() && keys.at(keys.documents[document + 1]) <= i) ++document;
        const index_t begin = keys.documents[document],
                      end = document + 1 < keys.documents.size() ? keys.documents[document + 1] : keys.count;
        spans_[static_cast<std::size_t>(b * queries_ + i)] = keys.seen(begin, end, queries[i], causal, window);
      }
    }
  }

  const key_span& operator()(index_t b, index_t query) const noexcept {
    return spans_[static_cast<std::size_t>((rows_ == 1 ? 0 : b) * queries_ + query)];
  }

 private:
  /// The keys of a row that have a position, in order.
  struct key_order {
    key_order(const positions& keys, index_t b) : row(keys.row(b)), count(keys.time()) {
      if (row.ids) {
        for (index_t t = 0; t < keys.time(); ++t)
          if (row[t] != no_position) present.push_back(t);
        count = static_cast<index_t>(present.size());
        for (index_t n = 1; n < count; ++n)
          if (row[at(n)] <= row[at(n - 1)]) documents.push_back(n);
      }
    }
    index_t at(index_t n) const { return row.ids ? present[static_cast<std::size_t>(n)] : n; }
    key_span seen(index_t begin, index_t end, position query, bool causal, index_t window) const {
      const auto away = [query](position key) {  // fits where a signed difference may not
        const auto a = static_cast<std::uint64_t>(key), b = static_cast<std::uint64_t>(query);
        return key > query ? a - b : b - a;
      };
      const auto within = [&](position key) { return window == 0 || away(key) < static_cast<std::uint64_t>(window); };
      const index_t from = first_not(begin, end, [&](position key) { return key <= query && !within(key); });
      const index_t to = first_not(from, end, [&](position key) { return key <= query || (!causal && within(key)); });
      if (from == to) return {};
      return {at(from), at(to - 1) + 1, at(to - 1) - at(from) != to - 1 - from};
    }
    template <class Holds>
    index_t first_not(index_t from, index_t to, const Holds& holds) const {
      while (from < to) {
        const index_t middle = from + (to - from) / 2;
        if (holds(row[at(middle)])) from = middle + 1;
        else to = middle;
      }
      return from;
    }

    position_row row;
    index_t count;
    std::vector<index_t> present{};  ///< where they lie; empty for ranges, whose tokens all have positions
    std::vector<index_t> documents{0};  ///< the number of the first key of each
  };

  index_t rows_, queries_;
  std::vector<key_span> spans_;
};

}  // namespace POSENC_NAMESPACE::detail
