// SPDX-License-Identifier: MIT
#include <posenc/conditional/key_spans.hpp>

#include "catch.hpp"
#include "reference/refuses.hpp"

#include <array>
#include <vector>

namespace {

using namespace posenc;
constexpr position none = no_position;

/// first, own, last and gaps of each query.
std::vector<std::array<index_t, 4>> found(const key_spans& spans, index_t b) {
  std::vector<std::array<index_t, 4>> all;
  for (index_t i = 0; i < spans.at().queries.time(); ++i) {
    const auto& one = spans.row(b)[i];
    all.push_back({one.first, one.own, one.last, one.gaps});
  }
  return all;
}

using rows = std::vector<std::array<index_t, 4>>;

}  // namespace

TEST_CASE("queries find their keys and documents", "[key_spans]") {
  CHECK(found(key_spans({positions::range(2, 5), positions::range(10)}), 0) == rows{{0, 5, 10, 0}, {0, 6, 10, 0}});
  CHECK(found(key_spans({positions::ids(std::array{9, 2}), positions::range(10)}), 7) == rows{{0, 9, 10, 0}, {0, 2, 10, 0}});
  CHECK(found(key_spans({positions::range(1, 4), positions::ids(std::array{1, 4, 9})}), 0) == rows{{0, 1, 3, 0}});
  const auto packed = positions::packed(std::array{0, 2, 5});
  CHECK(found(key_spans({packed, packed}), 0) == rows{{0, 0, 2, 0}, {0, 1, 2, 0}, {2, 2, 5, 0}, {2, 3, 5, 0}, {2, 4, 5, 0}});
  CHECK(found(key_spans({positions::ids(std::array<position, 3>{none, 3, none}),
                         positions::ids(std::array<position, 8>{none, 1, none, 2, 3, none, 7, none})}),
              0) == rows{{0, -1, 0, 0}, {1, 4, 7, 1}, {0, -1, 0, 0}});
  // No key has a position, nor has a query.
  CHECK(found(key_spans({positions::ids(std::array{none}), positions::ids(std::array{none, none})}), 0) == rows{{0, -1, 0, 0}});
}

TEST_CASE("batch rows find their own", "[key_spans]") {
  const key_spans spans({positions::offsets(std::array{3, 0}, 1), positions::offsets(std::array{0, -2}, 4)});
  CHECK(found(spans, 0) == rows{{0, 3, 4, 0}});
  CHECK(found(spans, 1) == rows{{0, 2, 4, 0}});
  const key_spans shared({positions::offsets(std::array{3, 0}, 1), positions::range(4)});
  CHECK(found(shared, 0) == rows{{0, 3, 4, 0}});
  CHECK(found(shared, 1) == rows{{0, 0, 4, 0}});
}

TEST_CASE("key_spans refuse what does not fit", "[key_spans]") {
  using reference::refuses;
  const auto refused = [](const std::string& text, const attention_positions& at) { refuses(text, [&] { key_spans spans(at); }); };
  refused("[key_spans] positions must have one axis but got 2 and 1", {positions::multi_axis(std::array{0, 1}, 2), positions::range(1)});
  refused("[key_spans] queries and keys must have one batch but got 2 and 3",
          {positions::offsets(std::array{0, 0}, 1), positions::offsets(std::array{0, 0, 0}, 1)});
  refused("[key_spans] each query's position must be among the keys' but got 10", {positions::range(2, 9), positions::range(10)});
  refused("[key_spans] each query's position must be among the keys' but got -1", {positions::range(1, -1), positions::range(10)});
  refused("[key_spans] each query's position must be among the keys' but got 3",
          {positions::range(1, 3), positions::ids(std::array{1, 4})});
  refused("[key_spans] each query's position must be among the keys' but got 3",
          {positions::range(1, 3), positions::ids(std::array{none})});
  refused("[key_spans] queries must be the last of the keys where positions restart but got 0",
          {positions::range(1), positions::packed(std::array{0, 2, 4})});
}
