// SPDX-License-Identifier: MIT
#include <posenc/relative/relative_vectors.hpp>

#include "catch.hpp"

#include <algorithm>
#include <vector>

namespace {

using namespace posenc;

bool same(const detail::needed_vectors& a, const detail::needed_vectors& b) { return a.low == b.low && a.of == b.of && a.count == b.count; }

}  // namespace

TEST_CASE("a block of queries needs the vectors of the distances that it has", "[relative_products]") {
  const std::vector<float> data(1);
  const auto needed = [&](const attention_positions& at, index_t query, index_t queries, bool causal) {
    const detail::relative_product<float> product{.vectors = {data.data(), 0, 1, 21, -10, true}, .at = at, .pass = {.causal = causal}};
    return detail::needed(product, 0, query, queries);
  };
  const attention_positions square{positions::range(8), positions::range(8)}, far{positions::range(8, 1000), positions::range(8)};
  CHECK(same(needed(square, 0, 8, false), {-7, 3, 15}));
  CHECK(same(needed(square, 2, 3, false), {-4, 6, 10}));
  CHECK(same(needed(square, 2, 3, true), {-4, 6, 5}));
  CHECK(same(needed(square, 7, 1, true), {-7, 3, 8}));
  CHECK(same(needed(far, 0, 8, false), {-10, 0, 1}));
  CHECK(same(needed({far.keys, far.queries}, 0, 8, false), {10, 20, 1}));
  CHECK(same(needed({far.keys, far.queries}, 0, 8, true), {10, 20, 1}));  // all masked: one at least
  const attention_positions absent{positions::ids(std::vector{no_position, no_position}), positions::range(8)};
  CHECK(same(needed(absent, 0, 2, false), {-10, 0, 1}));
  const attention_positions ends{positions::ids(std::vector{positions::limit, -positions::limit}),
                                 positions::ids(std::vector{-positions::limit, positions::limit})};
  CHECK(same(needed(ends, 0, 2, false), {-10, 0, 21}));
}

TEST_CASE("memory of a block has a bound that neither keys nor distances move", "[relative_products]") {
  using product = detail::relative_product<float>;
  for (const index_t queries : {1, 10, 64, 5000})
    for (const index_t vectors : {1, 129, 1024, 16384}) {
      const index_t together = product::together(queries, vectors);
      CHECK(together >= std::min<index_t>(queries, 4));
      CHECK(together <= std::min<index_t>(queries, 64));
      CHECK(together * vectors <= 65536);
    }
  const attention_positions ranges{positions::range(100), positions::range(300)};
  const attention_positions ids{positions::range(100), positions::ids(std::vector<position>(300, 4))};
  const relative_vectors<float> many{nullptr, 0, 1, 4000, 0, true}, few{nullptr, 0, 1, 9, 0, true};
  CHECK(product{.vectors = many, .at = ranges}.most(100, 300) == 363);
  CHECK(product{.vectors = many, .at = ranges}.most(1, 300) == 300);
  CHECK(product{.vectors = many, .at = ids}.most(100, 300) == 4000);
  CHECK(product{.vectors = few, .at = ranges}.most(100, 300) == 9);
}
