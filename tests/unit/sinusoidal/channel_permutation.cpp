// SPDX-License-Identifier: MIT
#include <posenc/sinusoidal/channel_permutation.hpp>

#include <posenc/sinusoidal/axial_sinusoidal.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;
using reference::bit_difference, reference::refuses;
using channels = std::vector<index_t>;
using matrix = Eigen::Tensor<float, 2, RowMajor>;

constexpr auto interleaved = channel_order::interleaved, sin_cos = channel_order::sin_cos, cos_sin = channel_order::cos_sin;
constexpr auto blocks = sinusoidal_arrangement::blocks, across = sinusoidal_arrangement::across;

sinusoidal<float> plain(index_t dim, channel_order order, odd_dim odd = odd_dim::refuse,
                        any_exponent_rule rule = exponent_rule::vaswani{}) {
  return sinusoidal<float>({.dim = dim, .order = order, .exponent_rule = rule, .odd_dim = odd});
}
axial_sinusoidal<float> axial(channel_order order, sinusoidal_arrangement arrangement, std::vector<index_t> widths = {4, 6, 2}) {
  return axial_sinusoidal<float>(
      {.dim = 14, .widths = widths, .order = order, .arrangement = arrangement, .exponent_rule = exponent_rule::vaswani{}});
}

static_assert(sinusoidal_encoder<sinusoidal<float>> && sinusoidal_encoder<axial_sinusoidal<double>> && !sinusoidal_encoder<int>);

/// That it is a bijection, undone by the way back, and takes the codes of one to those of the other.
void check_conversion(const auto& from, const auto& to, const positions& at) {
  const channels there = channel_permutation(from, to), back = channel_permutation(to, from);
  const index_t dim = from.dim();
  channels sorted = there, all(there.size());
  std::ranges::sort(sorted);
  std::iota(all.begin(), all.end(), index_t{0});
  CHECK(sorted == all);
  for (std::size_t n = 0; n < there.size(); ++n) CHECK(back[static_cast<std::size_t>(there[n])] == static_cast<index_t>(n));

  matrix old_codes(at.time(), dim), new_codes(at.time(), dim), permuted(at.time(), dim);
  from.encode(at, old_codes);
  to.encode(at, new_codes);
  permute_channels(old_codes, permuted, there);
  CHECK(bit_difference(permuted, new_codes) == "");
  permute_channels(permuted, back);
  CHECK(bit_difference(permuted, old_codes) == "");
}

}  // namespace

TEST_CASE("channel_permutation says where each channel comes from", "[sinusoidal][channel_permutation]") {
  CHECK(channel_permutation(plain(6, sin_cos), plain(6, interleaved)) == channels{0, 3, 1, 4, 2, 5});
  CHECK(channel_permutation(plain(6, interleaved), plain(6, sin_cos)) == channels{0, 2, 4, 1, 3, 5});
  CHECK(channel_permutation(plain(6, interleaved), plain(6, cos_sin)) == channels{1, 3, 5, 0, 2, 4});
  CHECK(channel_permutation(plain(4, cos_sin), plain(4, sin_cos)) == channels{2, 3, 0, 1});
  CHECK(channel_permutation(plain(5, sin_cos, odd_dim::zero_last), plain(5, interleaved, odd_dim::zero_last)) == channels{0, 2, 1, 3, 4});
  CHECK(channel_permutation(plain(5, sin_cos, odd_dim::drop_last), plain(5, interleaved, odd_dim::drop_last)) == channels{0, 3, 1, 4, 2});
  // sin y sin y sin x | cos y cos y cos x and zeros: timm's default to blocks.
  const axial_sinusoidal_options timm{
      .dim = 8, .widths = {4, 2}, .order = sin_cos, .arrangement = across, .exponent_rule = exponent_rule::vaswani{}};
  auto mae = timm;
  mae.arrangement = blocks;
  CHECK(channel_permutation(axial_sinusoidal<float>(timm), axial_sinusoidal<float>(mae)) == channels{0, 1, 3, 4, 2, 5, 6, 7});
}

TEST_CASE("channel_permutation takes codes of every convention to every other", "[sinusoidal][channel_permutation]") {
  const auto line = positions::ids(std::array<position, 4>{0, 7, -3, no_position});
  const auto cells = positions::multi_axis(std::array{0, 1, 2, 3, 9, 8, 7, 6, -4, 5, 11, 12}, 3);
  for (const auto from : {interleaved, sin_cos, cos_sin})
    for (const auto to : {interleaved, sin_cos, cos_sin}) {
      CAPTURE(static_cast<int>(from), static_cast<int>(to));
      check_conversion(plain(10, from), plain(10, to), line);
      check_conversion(plain(7, from, odd_dim::zero_last), plain(7, to, odd_dim::zero_last), line);
      for (const auto old_arrangement : {blocks, across})
        for (const auto new_arrangement : {blocks, across})
          check_conversion(axial(from, old_arrangement), axial(to, new_arrangement), cells);
    }
  // All frequencies are one and the same: pairs then keep their order.
  const any_exponent_rule flat = exponent_rule::vaswani{.base = 1};
  check_conversion(plain(8, sin_cos, odd_dim::refuse, flat), plain(8, interleaved, odd_dim::refuse, flat), line);
  const auto flat_pairs = channel_permutation(plain(64, sin_cos, odd_dim::refuse, flat), plain(64, interleaved, odd_dim::refuse, flat));
  for (index_t n = 0; n < 64; ++n) CHECK(flat_pairs[static_cast<std::size_t>(n)] == n / 2 + n % 2 * 32);
  // One axis is one axis, and rules may be called differently.
  const axial_sinusoidal<float> one(
      {.dim = 6, .widths = {6}, .order = cos_sin, .arrangement = blocks, .exponent_rule = exponent_rule::downscaled{.shift = 0}});
  check_conversion(plain(6, interleaved), one, line);
}

TEST_CASE("channel_permutation refuses other sines and cosines", "[sinusoidal][channel_permutation][errors]") {
  const auto refused = [](const std::string& text, const auto& from, const auto& to) {
    refuses("[channel_permutation] " + text, [&] { static_cast<void>(channel_permutation(from, to)); });
  };
  const std::string rule = "both must have the same sines and cosines, channel by channel but got ";
  refused("both must have the same dim but got 6 and 8", plain(6, sin_cos), plain(8, sin_cos));
  refused(rule + "5 and 5", plain(6, sin_cos), plain(6, interleaved, odd_dim::refuse, exponent_rule::tensor2tensor{}));
  refused(rule + "5 and 5", plain(6, sin_cos), plain(6, sin_cos, odd_dim::refuse, exponent_rule::vaswani{.base = 9999.999999}));
  // A sine alone is no cosine, nor are zeros.
  CHECK_THROWS_AS(channel_permutation(plain(5, sin_cos, odd_dim::drop_last), plain(5, cos_sin, odd_dim::drop_last)), argument_error);
  CHECK_THROWS_AS(channel_permutation(plain(5, sin_cos, odd_dim::drop_last), plain(5, sin_cos, odd_dim::zero_last)), argument_error);
  CHECK_THROWS_AS(channel_permutation(axial(sin_cos, blocks), axial(sin_cos, blocks, {4, 6, 4})), argument_error);
  // The same frequencies on another axis, and other axes of the same widths.
  CHECK_THROWS_AS(channel_permutation(axial(sin_cos, blocks, {4, 6, 2}), axial(sin_cos, blocks, {2, 6, 4})), argument_error);
  CHECK_THROWS_AS(channel_permutation(axial(sin_cos, blocks, {6, 0}), axial(sin_cos, blocks, {0, 6})), argument_error);
}

TEST_CASE("permute_channels reorders the last axis of any tensor", "[sinusoidal][channel_permutation]") {
  const channels order{2, 0, 3, 1};
  Eigen::Tensor<double, 1> one(4);
  one.setValues({10, 11, 12, 13});
  permute_channels(one, order);
  CHECK((one(0) == 12 && one(1) == 10 && one(2) == 13 && one(3) == 11));

  Eigen::Tensor<int, 4, RowMajor> rows(2, 1, 3, 4), out(2, 1, 3, 4);
  std::iota(rows.data(), rows.data() + rows.size(), 0);
  Eigen::Tensor<int, 4> columns(4, 3, 1, 2);  // the same memory
  std::copy_n(rows.data(), rows.size(), columns.data());
  permute_channels(rows, out, order);
  permute_channels(columns, order);
  for (index_t i = 0; i < 2; ++i)
    for (index_t k = 0; k < 3; ++k)
      for (index_t c = 0; c < 4; ++c) {
        CHECK(out(i, 0, k, c) == rows(i, 0, k, order[static_cast<std::size_t>(c)]));
        CHECK(columns(c, k, 0, i) == out(i, 0, k, c));
      }

  // Channels 1 to 5 of rows of 7, every other row; the others keep their values.
  auto wide = random_tensor<Eigen::Tensor<float, 2, RowMajor>>(3, 6, 7);
  const auto before = wide;
  permute_channels(tensor_view<float, 2>(wide.data() + 1, {3, 4}, {14, 1}), order);
  for (index_t r = 0; r < 6; ++r)
    for (index_t c = 0; c < 7; ++c) {
      const bool moved = r % 2 == 0 && c >= 1 && c < 5;
      CHECK(wide(r, c) == (moved ? before(r, order[static_cast<std::size_t>(c - 1)] + 1) : before(r, c)));
    }

  Eigen::Tensor<Eigen::bfloat16, 2, RowMajor> half(1, 4);
  for (index_t c = 0; c < 4; ++c) half(0, c) = Eigen::bfloat16(static_cast<float>(c));
  permute_channels(half, order);
  CHECK((half(0, 0) == Eigen::bfloat16(2.f) && half(0, 3) == Eigen::bfloat16(1.f)));

  matrix none(0, 4), no_channels(3, 0);
  permute_channels(none, order);
  permute_channels(none, none, order);
  permute_channels(no_channels, channels{});
}

TEST_CASE("permute_channels refuses what is no permutation, before it writes", "[sinusoidal][channel_permutation][errors]") {
  auto x = random_tensor<matrix>(1, 3, 4), out = random_tensor<matrix>(2, 3, 4), narrow = random_tensor<matrix>(3, 3, 2);
  const channels good{1, 0, 3, 2};
  const auto refused = [&](auto& memory, const std::string& text, auto&& act) { refuses(memory, "[permute_channels] " + text, act); };
  refused(x, "the permutation must be as long as the last axis but got 4 and 3", [&] { permute_channels(x, channels{0, 1, 2}); });
  refused(x, "a permutation must hold each channel once but got 4", [&] { permute_channels(x, channels{0, 1, 2, 4}); });
  refused(x, "a permutation must hold each channel once but got -1", [&] { permute_channels(x, channels{0, -1, 2, 3}); });
  refused(x, "a permutation must hold each channel once but got 0", [&] { permute_channels(x, channels{0, 1, 0, 3}); });
  refused(out, "a permutation must hold each channel once but got 1", [&] { permute_channels(x, out, channels{0, 1, 1, 3}); });
  refused(narrow, "the output must have the input's shape but got [3, 4] and [3, 2]", [&] { permute_channels(x, narrow, good); });
  refused(x, "the input must not overlap the output but got [3, 4] and [3, 4]", [&] { permute_channels(x, x, good); });
  refused(x, "the input must not overlap the output but got [2, 4] and [2, 4]",
          [&] { permute_channels(tensor_view<float, 2>(x.data(), {2, 4}), tensor_view<float, 2>(x.data() + 4, {2, 4}), good); });
  refused(x, "the last axis must be contiguous but got 3",
          [&] { permute_channels(tensor_view<float, 2>(x.data(), {1, 4}, {12, 3}), good); });
  refused(out, "the last axis must be contiguous but got 3",
          [&] { permute_channels(tensor_view<float, 2>(x.data(), {1, 4}, {12, 3}), tensor_view<float, 2>(out.data(), {1, 4}), good); });
  refused(x, "the elements of an output must be distinct, with strides that nest but got [0, 1]",
          [&] { permute_channels(tensor_view<float, 2>(x.data(), {3, 4}, {0, 1}), good); });
}
