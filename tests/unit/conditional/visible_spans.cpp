// SPDX-License-Identifier: MIT
#include <posenc/conditional/visible_spans.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/refuses.hpp"

#include <array>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using detail::visible_spans;

constexpr position none = no_position, far = positions::limit;

/// Key by key: the number of the document, the position, the distance.
bool sees(const attention_positions& at, index_t b, index_t i, index_t j, bool causal, index_t window) {
  const position query = at.queries(b, i), key = at.keys(b, j);
  if (query == none || key == none) return false;
  if (at.queries == at.keys) {
    const index_t first = std::min(i, j), last = std::max(i, j);
    position before = at.keys(b, first);
    for (index_t t = first + 1; t <= last; ++t) {
      const position one = at.keys(b, t);
      if (one == none) continue;
      if (one <= before) return false;
      before = one;
    }
  }
  if (causal && key > query) return false;
  const long double distance = static_cast<long double>(query) - static_cast<long double>(key);
  return window == 0 || (distance < 0 ? -distance : distance) < static_cast<long double>(window);
}

const attention_positions cases[] = {
    {positions::range(7), positions::range(7)},
    {positions::range(3, 40), positions::range(43)},
    {positions::range(2, 3), positions::range(9)},
    {positions::range(2, -20), positions::range(3)},
    {positions::offsets(std::array{3, 9}, 2), positions::offsets(std::array{0, 5}, 8)},
    {positions::ids(std::array<position, 4>{5, none, 30, 4}), positions::ids(std::array<position, 6>{none, 0, 5, none, 28, 31})},
    {positions::ids(std::array<position, 2>{far, -far}), positions::ids(std::array<position, 4>{-far, -1, 1, far})},
    {positions::ids(std::array<position, 3>{0, 1, none}), positions::ids(std::array<position, 2>{none, none})},
    {positions::packed(std::array{0, 3, 4, 9}), positions::packed(std::array{0, 3, 4, 9})},
    {positions::ids(std::array<position, 9>{none, 0, 2, none, 2, 2, 7, none, 1}),
     positions::ids(std::array<position, 9>{none, 0, 2, none, 2, 2, 7, none, 1})},
    {positions::ids(std::array<position, 6>{0, 1, 0, 5, 6, 7}, 2), positions::ids(std::array<position, 6>{0, 1, 0, 5, 6, 7}, 2)},
};

}  // namespace

TEST_CASE("visible_spans are the keys that a query sees, found key by key", "[visible_spans]") {
  for (const auto& at : cases)
    for (const bool causal : {false, true})
      for (const index_t window : {index_t{0}, index_t{1}, index_t{3}, index_t{25}, index_t{far}, std::numeric_limits<index_t>::max()}) {
        const visible_spans spans("test", at, causal, window);
        const index_t rows = std::max<index_t>({at.queries.batch(), at.keys.batch(), 2});
        for (index_t b = 0; b < rows; ++b)
          for (index_t i = 0; i < at.queries.time(); ++i) {
            const auto& span = spans(b, i);
            INFO("case " << &at - cases << ", causal " << causal << ", window " << window << ", query " << i << " of row " << b);
            bool right = true, gaps = false;
            for (index_t j = 0; j < at.keys.time(); ++j) {
              const bool inside = j >= span.begin && j < span.end, placed = at.keys(b, j) != none;
              right = right && (inside && placed) == sees(at, b, i, j, causal, window);
              gaps = gaps || (inside && !placed);
            }
            CHECK(right);
            CHECK(gaps == span.gaps);
            CHECK((span.begin == span.end || (at.keys(b, span.begin) != none && at.keys(b, span.end - 1) != none)));
          }
      }
}

TEST_CASE("visible_spans refuse what they cannot place", "[visible_spans]") {
  const auto range = positions::range(3);
  const auto refused = [](const std::string& text, const attention_positions& at, index_t window) {
    reference::refuses("[test] " + text, [&] { visible_spans("test", at, true, window); });
  };
  refused("window must not be negative but got -1", {range, range}, -1);
  const auto falling = positions::ids(std::array<position, 4>{0, 1, 1, 0});
  refused("positions of keys must ascend where queries and keys are not the same tokens but got 3 and documents", {range, falling}, 0);
}
