// SPDX-License-Identifier: MIT
#include <posenc/heads.hpp>

#include "catch.hpp"
#include "numbered.hpp"

#include <array>
#include <limits>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

using namespace posenc;

namespace {

template <int Rank>
using shape = std::array<index_t, Rank>;

constexpr index_t largest = std::numeric_limits<index_t>::max();

}  // namespace

TEST_CASE("heads says which middle axis is slower", "[heads]") {
  Eigen::Tensor<float, 4, Eigen::RowMajor> tensor(2, 3, 4, 5);
  number(tensor);
  const auto by_time = heads(tensor, axis_order::time_head);
  CHECK(by_time.by_time().extents() == shape<4>{2, 3, 4, 5});
  CHECK(by_time.by_time().strides() == shape<4>{60, 20, 5, 1});
  CHECK((by_time.batch() == 2 && by_time.time() == 3 && by_time.count() == 4 && by_time.channels() == 5));
  CHECK(&by_time(1, 2, 3, 4) == &tensor(1, 2, 3, 4));

  const auto by_head = heads(tensor, axis_order::head_time);
  CHECK(by_head.by_time().extents() == shape<4>{2, 4, 3, 5});
  CHECK(by_head.by_time().strides() == shape<4>{60, 5, 20, 1});
  CHECK((by_head.batch() == 2 && by_head.time() == 4 && by_head.count() == 3 && by_head.channels() == 5));
  CHECK(&by_head(1, 3, 2, 4) == &tensor(1, 2, 3, 4));
}

TEST_CASE("heads of a column-major tensor", "[heads]") {
  Eigen::Tensor<float, 4> tensor(5, 4, 3, 2);  // the same memory as (2, 3, 4, 5) above
  CHECK(heads(tensor, axis_order::time_head).by_time().extents() == shape<4>{2, 3, 4, 5});
  CHECK(&heads(tensor, axis_order::time_head)(1, 2, 3, 4) == &tensor(4, 3, 2, 1));
  CHECK(&heads(tensor, axis_order::head_time)(1, 3, 2, 4) == &tensor(4, 3, 2, 1));
}

TEST_CASE("heads without a batch axis", "[heads]") {
  Eigen::Tensor<float, 3, Eigen::RowMajor> tensor(3, 4, 5);
  const auto by_time = heads(tensor, axis_order::time_head), by_head = heads(tensor, axis_order::head_time);
  CHECK(by_time.by_time().extents() == shape<4>{1, 3, 4, 5});
  CHECK(&by_time(0, 2, 3, 4) == &tensor(2, 3, 4));
  CHECK(by_head.by_time().extents() == shape<4>{1, 4, 3, 5});
  CHECK(&by_head(0, 3, 2, 4) == &tensor(2, 3, 4));
}

TEST_CASE("heads keeps constness and the strides of views", "[heads]") {
  const Eigen::Tensor<float, 4> constant(5, 4, 3, 2);
  static_assert(std::same_as<decltype(heads(constant, axis_order::time_head)), head_view<const float>>);
  std::vector<float> memory(400);
  const tensor_view<float, 4> slice(memory.data() + 7, {2, 3, 4, 5}, {200, 50, 10, 1});
  const head_view<float> view = heads(slice, axis_order::head_time);
  CHECK(view.by_time().strides() == shape<4>{200, 10, 50, 1});
  const head_view<const float> read_only = view;
  CHECK(&read_only(1, 3, 2, 4) == &memory[7 + 200 + 100 + 30 + 4]);
  CHECK(static_cast<bool>(read_only));
  CHECK_FALSE(static_cast<bool>(head_view<float>()));
}

TEST_CASE("a slice of heads is some of the tokens", "[heads]") {
  Eigen::Tensor<float, 4, Eigen::RowMajor> cache(2, 4, 9, 5);  // [batch, head, slot, channel]
  const auto whole = heads(cache, axis_order::head_time), part = whole.slice(2, 3);
  CHECK(part.by_time().extents() == shape<4>{2, 3, 4, 5});
  CHECK(part.by_time().strides() == whole.by_time().strides());
  CHECK(&part(1, 2, 3, 4) == &cache(1, 3, 4, 4));
  CHECK(whole.slice(9, 0).by_time().empty());
  CHECK(&whole.slice(1, 8).slice(2, 1)(0, 0, 0, 0) == &cache(0, 0, 3, 0));
  const std::string text = "[heads] a slice must lie within time but got 9 and ";
  CHECK_THROWS_WITH(whole.slice(0, 10), text + "0 and 10");
  CHECK_THROWS_WITH(whole.slice(7, 3), text + "7 and 3");
  CHECK_THROWS_WITH(whole.slice(10, 0), text + "10 and 0");
  CHECK_THROWS_WITH(whole.slice(-1, 1), text + "-1 and 1");
  CHECK_THROWS_WITH(whole.slice(1, -1), text + "1 and -1");
  CHECK_THROWS_WITH(whole.slice(1, largest), text + "1 and 9223372036854775807");
}

TEST_CASE("split_heads splits the channels", "[heads]") {
  Eigen::Tensor<float, 3, Eigen::RowMajor> rows(2, 3, 20);
  Eigen::Tensor<float, 3> columns(20, 3, 2);
  const auto a = split_heads(rows, {.heads = 4, .channels = 5}), b = split_heads(columns, {.heads = 4, .channels = 5});
  CHECK(a.by_time().extents() == shape<4>{2, 3, 4, 5});
  CHECK(&a(1, 2, 3, 4) == &rows(1, 2, 19));
  CHECK(b.by_time().extents() == shape<4>{2, 3, 4, 5});
  CHECK(&b(1, 2, 3, 4) == &columns(19, 2, 1));
}

TEST_CASE("split_heads finds q, k and v in a fused buffer, with fewer key heads", "[heads]") {
  constexpr index_t query_heads = 4, key_heads = 2, channels = 3, width = (query_heads + 2 * key_heads) * channels;
  Eigen::Tensor<float, 3, Eigen::RowMajor> qkv(2, 5, width);
  const auto q = split_heads(qkv, {.heads = query_heads, .channels = channels});
  const auto k = split_heads(qkv, {.heads = key_heads, .channels = channels, .offset = query_heads * channels});
  const auto v = split_heads(qkv, {.heads = key_heads, .channels = channels, .offset = (query_heads + key_heads) * channels});
  CHECK(q.by_time().strides() == shape<4>{5 * width, width, channels, 1});
  CHECK(&q(1, 4, 3, 2) == &qkv(1, 4, 11));
  CHECK(&k(1, 4, 0, 0) == &qkv(1, 4, 12));
  CHECK(&k(1, 4, 1, 2) == &qkv(1, 4, 17));
  CHECK(&v(0, 0, 0, 0) == &qkv(0, 0, 18));
  CHECK(&v(1, 4, 1, 2) == &qkv(1, 4, width - 1));
}

TEST_CASE("split_heads refuses what lies outside the channels", "[heads]") {
  Eigen::Tensor<float, 3> x(20, 3, 2);
  const std::string outside = "[split_heads] offset + heads * channels must lie within the tensor's channels but got 20 and ";
  const std::string negative = "[split_heads] heads, channels and offset must not be negative but got ";
  CHECK_NOTHROW(split_heads(x, {.heads = 4, .channels = 5}));
  CHECK_THROWS_WITH(split_heads(x, {.heads = 5, .channels = 5}), outside + "0 and 5 and 5");
  CHECK_THROWS_WITH(split_heads(x, {.heads = 4, .channels = 5, .offset = 1}), outside + "1 and 4 and 5");
  CHECK_THROWS_WITH(split_heads(x, {.heads = 0, .channels = 5, .offset = 21}), outside + "21 and 0 and 5");
  CHECK_THROWS_WITH(split_heads(x, {.heads = largest, .channels = largest}), outside + "0 and 9223372036854775807 and 9223372036854775807");
  CHECK_THROWS_WITH(split_heads(x, {.heads = -1, .channels = 5}), negative + "-1 and 5 and 0");
  CHECK_THROWS_WITH(split_heads(x, {.heads = 1, .channels = -5}), negative + "1 and -5 and 0");
  CHECK_THROWS_WITH(split_heads(x, {.heads = 1, .channels = 5, .offset = -1}), negative + "1 and 5 and -1");
}

TEST_CASE("split_heads allows empty groups", "[heads]") {
  Eigen::Tensor<float, 3> x(20, 3, 2);
  CHECK(split_heads(x, {.heads = 0, .channels = 5, .offset = 20}).by_time().empty());
  CHECK(split_heads(x, {.heads = 7, .channels = 0}).by_time().empty());
}
