// SPDX-License-Identifier: MIT
/// \file  The instruction set that is used only when asked for: its bits are those of the others but for subnormal numbers.
#include <posenc/posenc.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

namespace {

using namespace posenc;
using tensor = Eigen::Tensor<Eigen::bfloat16, 4, Eigen::RowMajor>;

/// Numbers of every size and sign from 2^-60 on, so that no result is subnormal; ties between two bfloat16 occur among their sums.
tensor normal_numbers(index_t time, index_t heads, index_t channels) {
  tensor all(1, time, heads, channels);
  for (index_t n = 0; n < all.size(); ++n)
    all.data()[n] = Eigen::bfloat16(std::ldexp(std::sin(0.37f * static_cast<float>(n + 1)), static_cast<int>(n % 83) - 60));
  return all;
}

tensor with(instruction_set set, tensor x, const std::function<void(tensor&)>& verb) {
  const pinned scope(set);
  verb(x);
  return x;
}

bool same_bits(const tensor& a, const tensor& b) {
  return std::memcmp(a.data(), b.data(), sizeof(Eigen::bfloat16) * static_cast<std::size_t>(a.size())) == 0;
}

void compare(const tensor& x, const std::function<void(tensor&)>& verb) {
  const tensor exact = with(instruction_set::avx512, x, verb), fast = with(instruction_set::avx512_bf16, x, verb);
  CHECK_FALSE(same_bits(exact, x));
  CHECK(same_bits(exact, fast));
}

}  // namespace

TEST_CASE("avx512_bf16 has the bits of the others where nothing is subnormal", "[isa]") {
  if (!has(instruction_set::avx512_bf16)) return;
  for (const index_t dim : {2, 14, 30, 32, 62, 64, 96, 128, 192, 256, 300}) {
    CAPTURE(dim);
    const tensor x = normal_numbers(3, 5, dim);
    const auto at = positions::range(3, 1000);
    for (const auto pairs : {pairing::halves, pairing::interleaved})
      compare(x, [&](tensor& y) { rope<float>({.pairing = pairs, .dim = dim}).rotate(heads(y, axis_order::time_head), at); });
    compare(x, [&](tensor& y) {
      sinusoidal<float>({.dim = dim, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}})
          .add(y, positions::range(5, 3));
    });
    compare(x, [&](tensor& y) {
      alibi<float>({.heads = 3, .form = alibi_form::symmetric}).bias(y, {positions::range(5), positions::range(dim)});
    });
  }
}

TEST_CASE("avx512_bf16 keeps not-a-number and infinities, and makes zeros of subnormal numbers", "[isa]") {
  if (!has(instruction_set::avx512_bf16)) return;
  const float least = std::numeric_limits<float>::min();  // of the normal numbers, those of bfloat16 as well
  tensor x(1, 1, 1, 64);
  x.setConstant(Eigen::bfloat16(least / 2));
  x(0, 0, 0, 3) = std::numeric_limits<Eigen::bfloat16>::quiet_NaN();
  x(0, 0, 0, 5) = -std::numeric_limits<Eigen::bfloat16>::infinity();
  x(0, 0, 0, 7) = Eigen::bfloat16(least);
  const auto scores = [](tensor& y) {  // times 1, plus nothing
    alibi<float>(std::array{0.0f}, alibi_form::key_only).bias(y, {positions::range(1), positions::range(64)});
  };
  const tensor exact = with(instruction_set::avx512, x, scores), fast = with(instruction_set::avx512_bf16, x, scores);
  for (index_t n = 0; n < 64; ++n) {
    const float before = static_cast<float>(x(0, 0, 0, n)), got = static_cast<float>(fast(0, 0, 0, n));
    CAPTURE(n);
    if (n == 3) CHECK(std::isnan(got));
    else CHECK(got == (n == 5 || n == 7 ? before : 0.0f));
    if (n != 3) CHECK(static_cast<float>(exact(0, 0, 0, n)) == before);
  }
}
