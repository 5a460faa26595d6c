// SPDX-License-Identifier: MIT
#include <posenc/visible_keys.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"
#include "reference/visible_keys.hpp"

#include <array>
#include <vector>

using namespace posenc;

namespace {
std::vector<index_t> counts(const visible_keys& keys, const attention_positions& at, index_t b = 0) {
  return detail::visible_counts(keys, at, b);
}
using numbers = std::vector<index_t>;
constexpr position none = no_position;
}  // namespace

TEST_CASE("visible keys are those up to the query, within the window", "[visible_keys]") {
  const attention_positions decode{positions::range(3, 4), positions::range(7)};
  CHECK(counts({.which = visible::causal}, decode) == numbers{5, 6, 7});
  CHECK(counts({.which = visible::causal, .window = 6}, decode) == numbers{5, 6, 6});
  const auto documents = positions::packed(std::array{0, 3, 5});
  CHECK(counts({.which = visible::causal}, {documents, documents}) == numbers{1, 2, 3, 1, 2});
  const auto odd = positions::ids(std::array<position, 4>{-2, none, 0, positions::limit});
  CHECK(counts({.which = visible::causal}, {odd, odd}) == numbers{1, 0, 1, positions::limit + 1});
}

TEST_CASE("visible keys of bidirectional attention are those of the row, or of the document", "[visible_keys]") {
  const auto padded = positions::from_padding_mask(std::vector{0, 1, 1, 1, 1, 1, 0, 1}, 2);
  const attention_positions at{padded, padded};
  CHECK(counts({.which = visible::all}, at, 0) == numbers{0, 3, 3, 3});
  CHECK(counts({.which = visible::all}, at, 1) == numbers{3, 3, 0, 3});
  CHECK(counts({.which = visible::all}, {positions::range(2), padded}, 0) == numbers{3, 3});
  CHECK(counts({.which = visible::document}, at, 1) == numbers{3, 3, 0, 3});
  const auto documents = positions::packed(std::array{0, 3, 3, 5, 6, 7});
  CHECK(counts({.which = visible::document}, {documents, documents}) == numbers{3, 3, 3, 2, 2, 1, 1});
  const auto nothing = positions::ids(std::array<position, 2>{none, none});
  CHECK(counts({.which = visible::all}, {positions::range(1), nothing}) == numbers{1});
  CHECK(counts({.which = visible::all}, {positions::range(0), positions::range(0)}).empty());
}

TEST_CASE("visible keys are counted as one by one", "[visible_keys]") {
  const auto first = positions::ids(std::array<position, 10>{none, 0, 1, none, 5, 0, none, none, 1, 1});
  const auto second = positions::ids(std::array<position, 8>{0, 1, 2, 3, none, 3, 9, -4}, 2);
  for (const auto& at : {first, second})
    for (const auto& keys : {visible_keys{.which = visible::causal}, visible_keys{.which = visible::causal, .window = 3},
                             visible_keys{.which = visible::all}, visible_keys{.which = visible::document}})
      for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b) {
        const auto got = counts(keys, {at, at}, b);
        for (index_t t = 0; t < at.time(); ++t) {
          INFO("rule " << static_cast<int>(visible{keys.which}) << ", row " << b << ", token " << t);
          CHECK(got[static_cast<std::size_t>(t)] == (at(b, t) == none ? 0 : reference::visible_count(keys, {at, at}, b, t)));
        }
      }
}

TEST_CASE("visible keys that cannot be counted are refused", "[visible_keys][errors]") {
  const auto refused = [](const std::string& text, const visible_keys& keys, const positions& queries, const positions& all) {
    reference::refuses("[me] " + text, [&] { detail::require_countable("me", keys, {queries, all}); });
  };
  const auto one = positions::range(3), two_axes = positions::multi_axis(std::array{0, 0, 0, 1, 2, 3}, 2);
  const auto two_rows = positions::offsets(std::array{0, 1}, 3), three_rows = positions::offsets(std::array{0, 1, 2}, 3);
  refused("positions must have one axis but got 2 and 1", {.which = visible::causal}, two_axes, one);
  refused("positions must have one axis but got 1 and 2", {.which = visible::all}, one, two_axes);
  refused("queries and keys must have one batch but got 2 and 3", {.which = visible::all}, two_rows, three_rows);
  refused("queries and keys must be the same tokens for visible::document but got 3 and 4", {.which = visible::document}, one,
          positions::range(4));
  const auto window = [](const std::string& text, const visible_keys& keys) {
    reference::refuses("[me] window must not be negative, and 0 where attention is not causal but got " + text,
                       [&] { detail::require_window("me", keys); });
  };
  window("-1", {.which = visible::causal, .window = -1});
  window("3", {.which = visible::all, .window = 3});
  window("3", {.which = visible::document, .window = 3});
  CHECK(visible_keys{.which = visible::causal, .window = 2} == visible_keys{.which = visible::causal, .window = 2});
  CHECK(visible_keys{.which = visible::causal, .window = 2} != visible_keys{.which = visible::causal});
  CHECK(visible_keys{.which = visible::causal} != visible_keys{.which = visible::all});
}
