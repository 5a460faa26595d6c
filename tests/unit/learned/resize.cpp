// SPDX-License-Identifier: MIT
#include <posenc/learned/resize.hpp>

#include "catch.hpp"
#include "numbered.hpp"
#include "random.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

using namespace posenc;
using reference::bit_difference, reference::refuses;

namespace {

using table = Eigen::Tensor<double, 2, Eigen::RowMajor>;

resize_grid_options vit() {
  return {.from = {2, 3}, .to = {4, 2}, .filter = grid_filter::bicubic, .align_corners = false, .antialias = false, .prefix = 1};
}

/// The taps as a matrix, [new row, old row].
table dense(const resize_taps& taps) {
  table all(resize_taps::rows(taps.to()), resize_taps::rows(taps.from()));
  all.setZero();
  for (index_t row = 0; row < all.dimension(0); ++row)
    for (const tap& one : taps[row]) all(row, one.row) += one.weight;
  return all;
}
table product(const table& a, const table& b) {
  table all(a.dimension(0), b.dimension(1));
  all.setZero();
  for (index_t row = 0; row < a.dimension(0); ++row)
    for (index_t n = 0; n < a.dimension(1); ++n)
      for (index_t c = 0; c < b.dimension(1); ++c) all(row, c) += a(row, n) * b(n, c);
  return all;
}
table transposed(const table& a) {
  table all(a.dimension(1), a.dimension(0));
  for (index_t row = 0; row < a.dimension(0); ++row)
    for (index_t c = 0; c < a.dimension(1); ++c) all(c, row) = a(row, c);
  return all;
}
double largest_difference(const table& a, const table& b) {
  double most = 0;
  for (index_t n = 0; n < a.size(); ++n) most = std::max(most, std::abs(a.data()[n] - b.data()[n]));
  return most;
}

/// The double copied into a 16-bit row.
template <class T>
T stored(double value) {
  const resize_length_options same{.from = 1, .to = 1, .rule = length_rule::copy_last};
  T result{};
  resize(tensor_view<const double, 2>(&value, {1, 1}), same, tensor_view<T, 2>(&result, {1, 1}));
  return result;
}

}  // namespace

TEST_CASE("a resized table is the product of taps and table", "[learned][resize]") {
  auto old = random_tensor<table>(1, 7, 5);
  table resized(9, 5);
  resize(old, vit(), resized);
  CHECK(largest_difference(resized, product(dense(vit()), old)) < 1e-15);
}

TEST_CASE("storage orders and strides do not matter", "[learned][resize]") {
  const auto old = random_tensor<table>(2, 7, 5);
  table expected(9, 5);
  resize(old, vit(), expected);

  Eigen::Tensor<float, 2> by_column(5, 7);  // the same axes, listed fastest first
  for (int row = 0; row < 7; ++row)
    for (int c = 0; c < 5; ++c) by_column(c, row) = static_cast<float>(old(row, c));
  table rounded(7, 5), from_rounded(9, 5), wide(9, 8);
  for (int n = 0; n < 35; ++n) rounded.data()[n] = static_cast<double>(static_cast<float>(old.data()[n]));
  resize(rounded, vit(), from_rounded);
  wide.setConstant(-7);
  resize(by_column, vit(), tensor_view<double, 2>(wide.data() + 2, {9, 5}, {8, 1}));
  for (int row = 0; row < 9; ++row)
    for (int c = 0; c < 8; ++c) CHECK(wide(row, c) == (c < 2 || c == 7 ? -7 : from_rounded(row, c - 2)));

  table backwards(7, 5), same(9, 5);  // rows that lie from the last to the first
  for (int row = 0; row < 7; ++row)
    for (int c = 0; c < 5; ++c) backwards(6 - row, c) = old(row, c);
  resize(tensor_view<const double, 2>(&backwards(6, 0), {7, 5}, {-5, 1}), vit(), same);
  CHECK(bit_difference(same, expected) == "");
}

TEST_CASE("values are rounded once, to the nearest even", "[learned][resize]") {
  using Eigen::half, Eigen::bfloat16;
  CHECK(stored<float>(1 + 0x1p-24) == 1);
  CHECK(stored<float>(1 + 0x1p-24 + 0x1p-50) == 1 + 0x1p-23f);
  // Ties but for what a float would lose.
  CHECK(stored<half>(1 + 0x1p-11) == half(1));
  CHECK(stored<half>(1 + 0x1p-11 + 0x1p-40) == half(1 + 0x1p-10f));
  CHECK(stored<half>(1 + 0x1p-11 + 0x1p-23 - 0x1p-30) == half(1 + 0x1p-10f));  // the nearest float is odd already
  CHECK(stored<half>(1 + 0x3p-11) == half(1 + 0x1p-9f));
  CHECK(stored<half>(1 + 0x3p-11 - 0x1p-40) == half(1 + 0x1p-10f));
  CHECK(stored<half>(-1 - 0x1p-11 - 0x1p-40) == half(-1 - 0x1p-10f));
  CHECK(stored<half>(-1 - 0x3p-11 + 0x1p-40) == half(-1 - 0x1p-10f));
  CHECK(stored<bfloat16>(1 + 0x1p-8) == bfloat16(1));
  CHECK(stored<bfloat16>(1 + 0x1p-8 + 0x1p-40) == bfloat16(1 + 0x1p-7f));
  CHECK(stored<bfloat16>(1 + 0x3p-8 - 0x1p-40) == bfloat16(1 + 0x1p-7f));

  CHECK(stored<half>(0x1p-25 + 0x1p-60) == half(0x1p-24f));
  CHECK(stored<half>(1e-300) == half(0));
  CHECK(stored<half>(-1e-300) == half(0));
  CHECK(std::isinf(static_cast<float>(stored<half>(65520))));
  CHECK(stored<half>(65520 - 0x1p-30) == half(65504));
  CHECK(std::isinf(static_cast<float>(stored<bfloat16>(1e300))));
  CHECK(std::isnan(static_cast<float>(stored<bfloat16>(std::numeric_limits<double>::quiet_NaN()))));
}

TEST_CASE("the gradient is the transpose, added to what is there", "[learned][resize]") {
  for (const resize_taps& taps :
       {resize_taps(vit()),
        resize_taps(resize_grid_options{
            .from = {2, 3}, .to = {2, 4}, .filter = grid_filter::bilinear, .align_corners = false, .antialias = true, .prefix = 1})}) {
    auto old = random_tensor<table>(3, 7, 4);
    auto d_resized = random_tensor<table>(4, static_cast<int>(resize_taps::rows(taps.to())), 4);
    auto d_old = random_tensor<table>(5, 7, 4);
    table before = d_old;
    resize_backward(d_resized, taps, d_old);
    table expected = product(transposed(dense(taps)), d_resized);
    for (index_t n = 0; n < 28; ++n) expected.data()[n] += before.data()[n];
    CHECK(largest_difference(d_old, expected) < 1e-14);

    table resized = d_resized;
    const auto differences = reference::derivatives(
        {old.data(), 28},
        [&] {
          resize(old, taps, resized);
          return reference::dot(resized, d_resized);
        },
        0.5);
    for (std::size_t n = 0; n < differences.size(); ++n)
      CHECK_THAT(d_old.data()[n] - before.data()[n], Catch::Matchers::WithinAbs(differences[n], 1e-13));
  }
}

TEST_CASE("a sum of gradients is rounded once", "[learned][resize]") {
  // Ten copies of one row: each share alone would be lost in a float.
  const resize_length_options options{.from = 1, .to = 10, .rule = length_rule::copy_last};
  const std::vector<float> d_resized(10, 0x1p-25f);
  float d_table = 1;
  resize_backward(tensor_view<const float, 2>(d_resized.data(), {10, 1}), options, tensor_view<float, 2>(&d_table, {1, 1}));
  CHECK(d_table == 1 + 0x1p-22f);  // 1 + 2.5 units
  Eigen::bfloat16 d_short(1);
  resize_backward(tensor_view<const float, 2>(d_resized.data(), {10, 1}), options, tensor_view<Eigen::bfloat16, 2>(&d_short, {1, 1}));
  CHECK(d_short == Eigen::bfloat16(1));
}

TEST_CASE("tables without channels are no work", "[learned][resize]") {
  table old(7, 0), resized(9, 0);
  CHECK_NOTHROW(resize(old, vit(), resized));
}

TEST_CASE("tables that do not fit are refused", "[learned][resize]") {
  auto old = random_tensor<table>(1, 7, 5);
  table resized(9, 5), short_table(6, 5), narrow(9, 4);
  number(resized);
  number(short_table);
  number(narrow);
  const std::string rule = "rows must be prefix + height * width + suffix but got ";
  refuses(resized, "[resize] " + rule + "6 and [1, 2, 3, 0]", [&] { resize(short_table, vit(), resized); });
  refuses(short_table, "[resize] " + rule + "6 and [1, 4, 2, 0]", [&] { resize(old, vit(), short_table); });
  refuses(narrow, "[resize] both tables must have the same channels but got 5 and 4", [&] { resize(old, vit(), narrow); });
  refuses(short_table, "[resize_backward] " + rule + "6 and [1, 2, 3, 0]", [&] { resize_backward(resized, vit(), short_table); });
  refuses(narrow, "[resize_backward] " + rule + "7 and [1, 4, 2, 0]", [&] { resize_backward(old, vit(), narrow); });

  std::vector<double> memory(80, 1);
  const auto rows = [&](int first, index_t count) { return tensor_view<double, 2>(memory.data() + 5 * first, {count, 5}); };
  const std::string overlap = "[resize] the two tables must not overlap";
  refuses(memory, overlap, [&] { resize(rows(0, 7), vit(), rows(6, 9)); });
  refuses(memory, overlap, [&] { resize(rows(0, 7), vit(), rows(0, 9)); });
  const resize_length_options same{.from = 7, .to = 7, .rule = length_rule::copy_last};
  refuses(memory, overlap, [&] { resize(rows(0, 7), same, rows(0, 7)); });
  refuses(memory, "[resize_backward] the two tables must not overlap", [&] { resize_backward(rows(0, 7), same, rows(3, 7)); });
  CHECK_NOTHROW(resize(rows(0, 7), vit(), rows(7, 9)));

  const tensor_view<double, 2> spread(memory.data(), {7, 2}, {4, 2}), repeated(memory.data(), {9, 5}, {0, 1});
  refuses("[resize] the last axis must be contiguous but got 2",
          [&] { resize(spread, vit(), tensor_view<double, 2>(resized.data(), {9, 2})); });
  refuses(memory, "[resize] the elements of an output must be distinct, with strides that nest but got [0, 1]",
          [&] { resize(old, vit(), repeated); });
}
