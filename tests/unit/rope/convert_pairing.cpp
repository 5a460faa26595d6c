// SPDX-License-Identifier: MIT
#include <posenc/rope/convert_pairing.hpp>

#include <posenc/rope.hpp>

#include "catch.hpp"
#include "numbered.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;
using reference::bit_difference;
using order = std::vector<index_t>;
using matrix = Eigen::Tensor<float, 2, RowMajor>;
using tensor4 = Eigen::Tensor<float, 4, RowMajor>;

constexpr auto halves = pairing::halves, interleaved = pairing::interleaved, both = pairing::interleaved_to_halves;
constexpr auto time_head = axis_order::time_head;

template <class T>
std::vector<typename T::Scalar> values(const T& tensor) {
  return {tensor.data(), tensor.data() + tensor.size()};
}

}  // namespace

TEST_CASE("channel_permutation says where each channel of the new pairing comes from", "[rope][convert_pairing]") {
  CHECK(channel_permutation({.pairing = interleaved, .dim = 6}, halves, 6) == order{0, 2, 4, 1, 3, 5});
  CHECK(channel_permutation({.pairing = halves, .dim = 6}, interleaved, 6) == order{0, 3, 1, 4, 2, 5});
  CHECK(channel_permutation({.pairing = interleaved, .dim = 4, .offset = 1}, halves, 7) == order{0, 1, 3, 2, 4, 5, 6});
  CHECK(channel_permutation({.pairing = interleaved, .dim = 4, .offset = trailing}, halves, 6) == order{0, 1, 2, 4, 3, 5});
  CHECK(channel_permutation({.pairing = halves, .dim = 8, .blocks = 2}, interleaved, 8) == order{0, 2, 1, 3, 4, 6, 5, 7});
  CHECK(channel_permutation({.pairing = halves, .dim = 6}, halves, 6) == order{0, 1, 2, 3, 4, 5});
  // What interleaved_to_halves reads is interleaved, what it writes halves.
  CHECK(channel_permutation({.pairing = both, .dim = 4}, interleaved, 4) == order{0, 1, 2, 3});
  CHECK(channel_permutation({.pairing = both, .dim = 4}, halves, 4) == order{0, 2, 1, 3});
  CHECK(channel_permutation({.pairing = both, .dim = 4}, interleaved, 4, true) == order{0, 2, 1, 3});
  CHECK(channel_permutation({.pairing = both, .dim = 4}, halves, 4, true) == order{0, 1, 2, 3});
}

TEST_CASE("channel_permutation is a permutation, and the way back undoes it", "[rope][convert_pairing]") {
  for (const index_t dim : {2, 4, 12, 64})
    for (const index_t channels : {dim, dim + 1, dim + 13})
      for (const index_t offset : {index_t{0}, channels - dim, trailing})
        for (const index_t blocks : {1, 2})
          for (const auto& [from, to] : {std::pair(halves, interleaved), {interleaved, halves}}) {
            if (dim % (2 * blocks) != 0) continue;
            CAPTURE(dim, channels, offset, blocks);
            const auto there = channel_permutation({.pairing = from, .dim = dim, .offset = offset, .blocks = blocks}, to, channels);
            const auto back = channel_permutation({.pairing = to, .dim = dim, .offset = offset, .blocks = blocks}, from, channels);
            auto sorted = there;
            std::ranges::sort(sorted);
            order all(static_cast<std::size_t>(channels));
            std::iota(all.begin(), all.end(), index_t{0});
            CHECK(sorted == all);
            for (std::size_t n = 0; n < all.size(); ++n) CHECK(there[static_cast<std::size_t>(back[n])] == all[n]);
          }
}

TEST_CASE("weights of either orientation, their bias and a stack of them are reordered head by head", "[rope][convert_pairing]") {
  // Two heads of five channels, the first four of which are paired: rows 0 2 1 3 4 | 5 7 6 8 9.
  const order rows{0, 2, 1, 3, 4, 5, 7, 6, 8, 9};
  const rotary_descriptor form{.pairing = interleaved, .dim = 4};
  matrix by_rows(10, 3), by_columns(3, 10);
  Eigen::Tensor<float, 1> bias(10);
  Eigen::Tensor<float, 3> stack(2, 10, 3);  // column-major: slowest first it is [3, 10, 2]
  const matrix rows_before = number(by_rows), columns_before = number(by_columns);
  const Eigen::Tensor<float, 1> bias_before = number(bias);
  const Eigen::Tensor<float, 3> stack_before = number(stack);
  convert_pairing(by_rows, 0, 2, form, halves);
  convert_pairing(by_columns, 1, 2, form, halves);
  convert_pairing(bias, 0, 2, form, halves);
  convert_pairing(stack, 1, 2, form, halves);
  for (index_t n = 0; n < 10; ++n) {
    const index_t old = rows[static_cast<std::size_t>(n)];
    CHECK(bias(n) == bias_before(old));
    for (index_t i = 0; i < 3; ++i) {
      CHECK(by_rows(n, i) == rows_before(old, i));
      CHECK(by_columns(i, n) == columns_before(i, old));
      for (index_t l = 0; l < 2; ++l) CHECK(stack(l, n, i) == stack_before(l, old, i));
    }
  }
  convert_pairing(by_rows, 0, 2, {.pairing = halves, .dim = 4}, interleaved);
  CHECK(values(by_rows) == values(rows_before));
}

TEST_CASE("only the heads that turn are reordered", "[rope][convert_pairing]") {
  Eigen::Tensor<float, 1> bias(12);
  number(bias);
  convert_pairing(bias, 0, 3, {.pairing = interleaved, .dim = 4, .first_head = trailing, .head_count = 1}, halves);
  CHECK(values(bias) == std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 9, 11});
}

TEST_CASE("turning what was converted is converting what was turned", "[rope][convert_pairing]") {
  const auto at = positions::range(3, 70);
  for (const index_t blocks : {1, 2})
    for (const auto& [from, to] : {std::pair(halves, interleaved), {interleaved, halves}}) {
      const rotary_descriptor old_form{.pairing = from, .dim = 12, .offset = 2, .blocks = blocks};
      auto new_form = old_form;
      new_form.pairing = to;
      const rope<float> old_rope(old_form), new_rope(new_form);
      auto turned = random_tensor<tensor4>(5, 2, 3, 2, 16), converted = turned;
      old_rope.rotate(heads(turned, time_head), at);
      convert_pairing(heads(turned, time_head), old_form, to);
      convert_pairing(heads(converted, time_head), old_form, to);
      new_rope.rotate(heads(converted, time_head), at);
      // Interleaved blocks are one: pairs of both follow one another.
      CHECK(bit_difference(values(converted), values(turned)) == "");
    }
}

TEST_CASE("keys of interleaved_to_halves are those of interleaved, converted", "[rope][convert_pairing]") {
  const auto at = positions::range(3, 70);
  const rotary_descriptor form{.pairing = both, .dim = 12, .offset = 2};
  auto got = random_tensor<tensor4>(5, 2, 3, 2, 16), expected = got;
  rope<float>(form).rotate(heads(got, time_head), at);
  rope<float>({.pairing = interleaved, .dim = 12, .offset = 2}).rotate(heads(expected, time_head), at);
  convert_pairing(heads(expected, time_head), {.pairing = interleaved, .dim = 12, .offset = 2}, halves);
  CHECK(bit_difference(values(got), values(expected)) == "");
  convert_pairing(heads(got, time_head), form, interleaved);
  convert_pairing(heads(expected, time_head), {.pairing = halves, .dim = 12, .offset = 2}, interleaved);
  CHECK(bit_difference(values(got), values(expected)) == "");
}

TEST_CASE("convert_pairing refuses what does not fit", "[rope][convert_pairing][errors]") {
  matrix weights(8, 3);
  number(weights);
  const auto refused = [&](const std::string& text, int axis, index_t heads, const rotary_descriptor& form) {
    auto copy = values(weights);
    reference::refuses(copy, "[convert_pairing] " + text,
                       [&] { convert_pairing(tensor_view<float, 2>(copy.data(), {8, 3}), axis, heads, form, halves); });
  };
  refused("the axis must be one of the tensor's but got 2 and 2", 2, 1, {.pairing = interleaved, .dim = 2});
  refused("the axis must be one of the tensor's but got 2 and -1", -1, 1, {.pairing = interleaved, .dim = 2});
  refused("heads must divide the axis but got 8 and 3", 0, 3, {.pairing = interleaved, .dim = 2});
  refused("heads must divide the axis but got 8 and 0", 0, 0, {.pairing = interleaved, .dim = 2});
  refused("dim must be even but got 3", 0, 2, {.pairing = interleaved, .dim = 3});
  refused("offset + dim must not exceed the channels but got 4 and 0 and 6", 0, 2, {.pairing = interleaved, .dim = 6});
  refused("offset + dim must not exceed the channels but got 4 and 3 and 2", 0, 2, {.pairing = interleaved, .dim = 2, .offset = 3});
  refused("first_head + head_count must not exceed the heads but got 2 and 1 and 2", 0, 2,
          {.pairing = interleaved, .dim = 2, .first_head = 1, .head_count = 2});
  tensor4 keys(1, 1, 2, 4);
  keys.setZero();
  reference::refuses("[convert_pairing] offset + dim must not exceed the channels but got 4 and 0 and 6",
                     [&] { convert_pairing(heads(keys, time_head), {.pairing = interleaved, .dim = 6}, halves); });
}
