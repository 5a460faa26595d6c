// SPDX-License-Identifier: MIT
#include <posenc/tensor.hpp>

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

/// A view of memory that does not exist: for what checks say before anything is read.
template <class... Sizes>
auto nowhere(Sizes... extents) {
  return tensor_view<float, sizeof...(Sizes)>(nullptr, {index_t{extents}...});
}

}  // namespace

// ---- what the adaptors see -----------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("both storage orders of one memory are one tensor", "[tensor]", float, double, Eigen::half, Eigen::bfloat16) {
  using S = TestType;
  Eigen::Tensor<S, 3, Eigen::RowMajor> rows(2, 3, 4);
  Eigen::Tensor<S, 3> columns(4, 3, 2);
  number(rows), number(columns);
  const auto a = view_of(rows), b = view_of(columns);
  static_assert(std::same_as<decltype(a), const tensor_view<S, 3>> && std::same_as<decltype(b), const tensor_view<S, 3>>);
  CHECK(a.data() == rows.data());
  CHECK(b.data() == columns.data());
  CHECK(a.extents() == shape<3>{2, 3, 4});
  CHECK(b.extents() == shape<3>{2, 3, 4});
  CHECK(a.strides() == shape<3>{12, 4, 1});
  CHECK(b.strides() == shape<3>{12, 4, 1});
  CHECK(static_cast<float>(a(1, 2, 3)) == 23);
  CHECK(static_cast<float>(b(1, 2, 0)) == 20);
  CHECK(&a(1, 0, 2) == &rows(1, 0, 2));
  CHECK(&b(1, 0, 2) == &columns(2, 0, 1));
}

TEST_CASE("tensors of fixed size and narrow indices", "[tensor]") {
  Eigen::TensorFixedSize<float, Eigen::Sizes<4, 3, 2>> columns;
  Eigen::TensorFixedSize<double, Eigen::Sizes<2, 3, 4>, Eigen::RowMajor> rows;
  Eigen::Tensor<float, 2, Eigen::ColMajor, int> narrow(5, 6);
  CHECK(view_of(columns).extents() == shape<3>{2, 3, 4});
  CHECK(view_of(rows).extents() == shape<3>{2, 3, 4});
  CHECK(view_of(narrow).extents() == shape<2>{6, 5});
  CHECK(view_of(narrow).strides() == shape<2>{5, 1});
  static_assert(rank_of<decltype(columns)&> == 3 && std::same_as<element_t<decltype(rows)&>, double>);
}

TEST_CASE("maps of one's own memory", "[tensor]") {
  std::array<float, 24> memory{};
  std::iota(memory.begin(), memory.end(), 0.0f);
  const Eigen::TensorMap<Eigen::Tensor<float, 3, Eigen::RowMajor>> rows(memory.data(), 2, 3, 4);
  Eigen::TensorMap<Eigen::Tensor<float, 3>, Eigen::Aligned> columns(memory.data(), 4, 3, 2);
  CHECK(view_of(rows).extents() == view_of(columns).extents());
  CHECK(&view_of(rows)(1, 2, 0) == &view_of(columns)(1, 2, 0));
  static_assert(std::same_as<element_t<decltype(rows)&>, float>, "constness of a map is not constness of the memory");

  const std::array<float, 24>& constant = memory;
  const Eigen::TensorMap<const Eigen::Tensor<float, 3>> read_only(constant.data(), 4, 3, 2);
  static_assert(std::same_as<element_t<decltype(read_only)&>, const float>);
  CHECK(view_of(read_only)(1, 2, 3) == 23);
}

TEST_CASE("a const tensor is seen with const elements", "[tensor]") {
  Eigen::Tensor<float, 2> tensor(2, 3);
  number(tensor);
  const auto& constant = tensor;
  static_assert(std::same_as<element_t<decltype(constant)>, const float>);
  CHECK(view_of(constant)(2, 1) == 5);
}

TEST_CASE("tensors of every rank", "[tensor]") {
  const Eigen::Tensor<float, 0> scalar = Eigen::Tensor<float, 0>().setConstant(3.0f);
  CHECK(view_of(scalar)() == 3);
  CHECK_FALSE(view_of(scalar).empty());
  Eigen::Tensor<float, 1> vector(7);
  CHECK(view_of(vector).extents() == shape<1>{7});
  Eigen::Tensor<float, 6> deep(7, 6, 5, 4, 3, 2);
  CHECK(view_of(deep).extents() == shape<6>{2, 3, 4, 5, 6, 7});
  CHECK(view_of(deep).strides() == shape<6>{2520, 840, 210, 42, 7, 1});
}

// ---- tensor_view ---------------------------------------------------------------------------------------------------------------------

TEST_CASE("a default view is not given", "[tensor]") {
  constexpr tensor_view<float, 3> none;
  static_assert(!none && none.data() == nullptr && none.empty() && none.extent(2) == 0);
  float value = 0;
  CHECK(static_cast<bool>(tensor_view<float, 1>(&value, {1})));
}

TEST_CASE("a view is contiguous unless strides are given", "[tensor]") {
  std::vector<float> memory(100);
  const tensor_view<float, 3> contiguous(memory.data(), {2, 3, 4});
  CHECK(contiguous.strides() == shape<3>{12, 4, 1});
  CHECK(&contiguous(1, 2, 3) == &memory[23]);
  CHECK(contiguous.extent(1) == 3);
  CHECK(contiguous.stride(0) == 12);

  const tensor_view<float, 3> strided(memory.data() + 50, {2, 3, 4}, {-40, 5, 1});
  CHECK(&strided(1, 2, 3) == &memory[50 - 40 + 10 + 3]);
}

TEST_CASE("a view is empty where an extent is zero", "[tensor]") {
  CHECK(nowhere(0, 3, 4).empty());
  CHECK(nowhere(2, 0, 4).empty());
  CHECK(nowhere(2, 3, 0).empty());
  CHECK_FALSE(nowhere(2, 3, 4).empty());
  CHECK_FALSE(nowhere(2, -3, 4).empty());
}

TEST_CASE("tensors convert to views, to const ones too", "[tensor]") {
  Eigen::Tensor<float, 3> tensor(4, 3, 2);
  number(tensor);
  const tensor_view<float, 3> view = tensor;
  const tensor_view<const float, 3> constant = tensor, again = view;
  CHECK(view.extents() == shape<3>{2, 3, 4});
  CHECK(constant.data() == tensor.data());
  CHECK(again.strides() == view.strides());
  view(1, 0, 1) = -1;
  CHECK(tensor(1, 0, 1) == -1);

  const tensor_view<float, 2> strided(tensor.data() + 1, {2, 3}, {12, 4});
  const tensor_view<const float, 2> same = strided;
  CHECK(same.strides() == shape<2>{12, 4});
  CHECK(&same(1, 2) == tensor.data() + 21);
}

// ---- batched -------------------------------------------------------------------------------------------------------------------------

TEST_CASE("batched folds all axes before time into one", "[tensor]") {
  Eigen::Tensor<float, 2> two(4, 3);
  Eigen::Tensor<float, 3> three(4, 3, 2);
  Eigen::Tensor<float, 4, Eigen::RowMajor> four(5, 2, 3, 4);
  Eigen::Tensor<float, 5> five(4, 3, 2, 5, 6);
  const auto b2 = batched(two), b3 = batched(three), b4 = batched(four), b5 = batched(five);
  CHECK(b2.extents() == shape<3>{1, 3, 4});
  CHECK(&b2(0, 2, 3) == &two(3, 2));
  CHECK(b3.extents() == shape<3>{2, 3, 4});
  CHECK(&b3(1, 2, 3) == &three(3, 2, 1));
  CHECK(b4.extents() == shape<3>{10, 3, 4});
  CHECK(&b4(2 * 4 + 1, 2, 3) == &four(4, 1, 2, 3));
  CHECK(b5.extents() == shape<3>{60, 3, 4});
  CHECK(&b5(2 * (5 * 5 + 4) + 1, 2, 3) == &five(3, 2, 1, 4, 5));
  const auto& constant = four;
  static_assert(std::same_as<decltype(batched(constant)), token_view<const float>>);
}

TEST_CASE("batched walks evenly strided batch axes with one stride", "[tensor]") {
  float* none = nullptr;
  const auto even = batched(tensor_view<float, 4>(none, {3, 2, 5, 4}, {200, 100, 8, 1}));
  CHECK(even.extents() == shape<3>{6, 5, 4});
  CHECK(even.strides() == shape<3>{100, 8, 1});
  CHECK_THROWS_WITH(batched(tensor_view<float, 4>(none, {3, 2, 5, 4}, {201, 100, 8, 1})),
                    "[tensor] batch axes must be evenly strided but got [201, 100, 8, 1]");
  CHECK_THROWS_WITH(batched(tensor_view<float, 5>(none, {2, 3, 2, 5, 4}, {500, 200, 100, 8, 1})),
                    "[tensor] batch axes must be evenly strided but got [500, 200, 100, 8, 1]");
  CHECK_NOTHROW(batched(tensor_view<float, 5>(none, {2, 3, 2, 5, 4}, {600, 200, 100, 8, 1})));
}

TEST_CASE("batched does not ask for strides that are never walked", "[tensor]") {
  float* none = nullptr;
  CHECK(batched(tensor_view<float, 4>(none, {1, 2, 5, 4}, {999, 100, 8, 1})).stride(0) == 100);
  const auto inner = batched(tensor_view<float, 4>(none, {3, 1, 5, 4}, {100, 999, 8, 1}));
  CHECK((inner.extent(0) == 3 && inner.stride(0) == 100));
  CHECK(batched(tensor_view<float, 5>(none, {3, 1, 2, 5, 4}, {200, 999, 100, 8, 1})).extents() == shape<3>{6, 5, 4});
  CHECK(batched(tensor_view<float, 4>(none, {3, 2, 0, 4}, {201, 100, 8, 1})).empty());
  CHECK(batched(nowhere(0, 3, 5, 4)).extents() == shape<3>{0, 5, 4});
}

TEST_CASE("batched refuses a batch that overflows", "[tensor]") {
  constexpr index_t many = index_t{1} << 32;
  CHECK_THROWS_WITH(batched(tensor_view<float, 4>(nullptr, {many, many, 5, 4}, {0, 0, 4, 1})),
                    "[tensor] the size in bytes must fit in 63 bits but got [4294967296, 4294967296]");
  CHECK_THROWS_WITH(batched(tensor_view<float, 3>(nullptr, {-2, 5, 4}, {20, 4, 1})),
                    "[tensor] extents must not be negative but got [1, -2]");
}

// ---- checks --------------------------------------------------------------------------------------------------------------------------

TEST_CASE("checked_product multiplies extents", "[tensor]") {
  static_assert(checked_product("x", std::array<index_t, 3>{2, 3, 4}) == 24);
  CHECK(checked_product("x", std::array<index_t, 3>{2, 3, 4}, 8) == 24);
  CHECK(checked_product("x", std::array<index_t, 0>{}) == 1);
  CHECK(checked_product("x", std::array<index_t, 2>{largest, 1}) == largest);
  CHECK(checked_product("x", std::array<index_t, 1>{largest / 8}, 8) == largest / 8);
}

TEST_CASE("checked_product refuses what does not fit", "[tensor]") {
  constexpr index_t half = index_t{1} << 31;
  CHECK(checked_product("x", std::array<index_t, 2>{half, half}) == half * half);
  CHECK_THROWS_WITH(checked_product("x", std::array<index_t, 3>{half, half, 2}),
                    "[x] the size in bytes must fit in 63 bits but got [2147483648, 2147483648, 2]");
  CHECK_THROWS_WITH(checked_product("x", std::array<index_t, 1>{largest / 8 + 1}, 8),
                    "[x] the size in bytes must fit in 63 bits but got [1152921504606846976]");
  CHECK_THROWS_WITH(checked_product("x", std::array<index_t, 2>{-1, 3}), "[x] extents must not be negative but got [-1, 3]");
  CHECK_THROWS_WITH(checked_product("x", std::array<index_t, 2>{0, -3}), "[x] extents must not be negative but got [0, -3]");
}

TEST_CASE("a product with a zero is zero, wherever it stands", "[tensor]") {
  CHECK(checked_product("x", std::array<index_t, 3>{0, largest, largest}, 8) == 0);
  CHECK(checked_product("x", std::array<index_t, 3>{largest, largest, 0}, 8) == 0);
}

TEST_CASE("rows must be contiguous", "[tensor]") {
  CHECK_NOTHROW(require_rows("x", nowhere(2, 3, 4)));
  CHECK_NOTHROW(require_rows("x", tensor_view<float, 2>(nullptr, {3, 4}, {-9, 1})));
  CHECK_THROWS_WITH(require_rows("x", tensor_view<float, 2>(nullptr, {3, 4}, {4, 2})), "[x] the last axis must be contiguous but got 2");
  CHECK_THROWS_WITH(require_rows("x", tensor_view<float, 2>(nullptr, {3, 4}, {1, 3})), "[x] the last axis must be contiguous but got 3");
  CHECK_THROWS_WITH(require_rows("x", tensor_view<float, 1>(nullptr, {4}, {-1})), "[x] the last axis must be contiguous but got -1");
  CHECK_NOTHROW(require_rows("x", tensor_view<float, 2>(nullptr, {3, 1}, {1, 3})));
  CHECK_NOTHROW(require_rows("x", tensor_view<float, 2>(nullptr, {0, 4}, {1, 3})));
}

TEST_CASE("rows must fit in memory, and have a shape", "[tensor]") {
  const std::string too_large = "[x] the size in bytes must fit in 63 bits but got ";
  constexpr index_t most = largest / 4;  // floats
  CHECK_NOTHROW(require_rows("x", nowhere(most)));
  CHECK_THROWS_WITH(require_rows("x", nowhere(most + 1)), too_large + "[2305843009213693952]");
  CHECK_THROWS_WITH(require_rows("x", tensor_view<float, 3>(nullptr, {index_t{1} << 31, index_t{1} << 30, 1}, {index_t{1} << 30, 1, 1})),
                    too_large + "[2147483648, 1073741824, 1]");
  CHECK_THROWS_WITH(require_rows("x", tensor_view<float, 2>(nullptr, {2, 1}, {-largest, 1})), too_large + "[2, 1]");
  CHECK_THROWS_WITH(require_rows("x", tensor_view<float, 3>(nullptr, {3, 3, 1}, {most / 3, most / 3, 1})), too_large + "[3, 3, 1]");
  CHECK_THROWS_WITH(require_rows("x", tensor_view<float, 2>(nullptr, {2, 1}, {std::numeric_limits<index_t>::min(), 1})),
                    too_large + "[2, 1]");
  CHECK_NOTHROW(require_rows("x", tensor_view<float, 2>(nullptr, {largest, 1}, {0, 1})));
  CHECK_THROWS_WITH(require_rows("x", nowhere(3, -4)), "[x] extents must not be negative but got [3, -4]");
  CHECK_THROWS_WITH(require_rows("x", nowhere(-3, 4)), "[x] extents must not be negative but got [-3, 4]");
}

TEST_CASE("the elements of an output must be distinct", "[tensor]") {
  const auto check = [](const shape<3>& extents, const shape<3>& strides) {
    require_output("x", tensor_view<float, 3>(nullptr, extents, strides));
  };
  const std::string text = "[x] the elements of an output must be distinct, with strides that nest but got ";
  CHECK_NOTHROW(check({2, 3, 4}, {12, 4, 1}));
  CHECK_NOTHROW(check({2, 3, 4}, {4, 8, 1}));      // the two middle axes of q, the other way round
  CHECK_NOTHROW(check({2, 3, 4}, {-100, 5, 1}));   // gaps, and backwards
  CHECK_NOTHROW(check({1, 3, 4}, {0, 4, 1}));      // a stride that is never walked
  CHECK_NOTHROW(check({2, 3, 1}, {3, 1, 0}));
  CHECK_NOTHROW(check({2, 0, 4}, {0, 0, 1}));      // nothing is written
  CHECK_THROWS_WITH(check({2, 3, 4}, {0, 4, 1}), text + "[0, 4, 1]");
  CHECK_THROWS_WITH(check({2, 3, 4}, {12, 3, 1}), text + "[12, 3, 1]");
  CHECK_THROWS_WITH(check({2, 3, 4}, {11, 4, 1}), text + "[11, 4, 1]");
  CHECK_THROWS_WITH(check({2, 3, 4}, {8, -4, 1}), text + "[8, -4, 1]");
  CHECK_THROWS_WITH(check({2, 3, 1}, {3, 2, 1}), text + "[3, 2, 1]");  // distinct in truth, but interlocked
  CHECK_THROWS_WITH(check({2, 3, 4}, {24, 8, 2}), "[x] the last axis must be contiguous but got 2");
  CHECK_THROWS_WITH(check({2, -3, 4}, {12, 4, 1}), "[x] extents must not be negative but got [2, -3, 4]");
}

TEST_CASE("destination rows: one per token, inside the output", "[tensor]") {
  const std::vector<index_t> rows{0, 5, no_row, 2, 5, 1};
  CHECK_NOTHROW(require_destinations("x", rows, 2, 3, 6));
  CHECK_THROWS_WITH(require_destinations("x", rows, 2, 3, 5), "[x] destination rows must lie inside the output but got 5 and 5");
  CHECK_THROWS_WITH(require_destinations("x", rows, 2, 4, 6), "[x] there must be one destination row per token but got 8 and 6");
  CHECK_THROWS_WITH(require_destinations("x", std::vector<index_t>{-2}, 1, 1, 6),
                    "[x] destination rows must lie inside the output but got 6 and -2");
  CHECK_NOTHROW(require_destinations("x", {}, 0, 3, 0));
}

TEST_CASE("views overlap partly when they share memory and are not the same", "[tensor]") {
  std::vector<float> memory(100);
  const tensor_view<float, 2> whole(memory.data() + 20, {4, 5}, {10, 1});  // elements 20 ... 54
  const auto shifted = [&](index_t by) { return tensor_view<const float, 2>(memory.data() + 20 + by, {4, 5}, {10, 1}); };
  CHECK_FALSE(overlaps_partly(whole, whole));
  CHECK_FALSE(overlaps_partly(whole, shifted(0)));
  CHECK(overlaps_partly(whole, shifted(1)));
  CHECK(overlaps_partly(shifted(-1), whole));
  CHECK(overlaps_partly(whole, shifted(34)));
  CHECK_FALSE(overlaps_partly(whole, shifted(35)));
  CHECK(overlaps_partly(whole, tensor_view<float, 2>(memory.data() + 20, {4, 4}, {10, 1})));
  CHECK(overlaps_partly(whole, tensor_view<float, 2>(memory.data() + 20, {4, 5}, {5, 1})));
  CHECK_FALSE(overlaps_partly(whole, tensor_view<float, 2>(memory.data() + 20, {4, 0}, {10, 1})));
}

TEST_CASE("views with negative strides overlap where they reach", "[tensor]") {
  std::vector<float> memory(100);
  const tensor_view<float, 2> backwards(memory.data() + 50, {4, 5}, {-10, 1});  // elements 20 ... 54
  const auto block = [&](index_t at) { return tensor_view<float, 2>(memory.data() + at, {1, 5}); };
  CHECK_FALSE(overlaps_partly(backwards, block(15)));
  CHECK(overlaps_partly(backwards, block(16)));
  CHECK(overlaps_partly(backwards, block(54)));
  CHECK_FALSE(overlaps_partly(backwards, block(55)));
}

TEST_CASE("views of different elements overlap by their bytes", "[tensor]") {
  std::array<double, 4> memory{};
  const tensor_view<double, 1> wide(memory.data(), {2});
  const auto narrow = [&](index_t at) { return tensor_view<float, 1>(reinterpret_cast<float*>(memory.data()) + at, {2}); };
  CHECK(overlaps_partly(wide, narrow(3)));
  CHECK_FALSE(overlaps_partly(wide, narrow(4)));
}
