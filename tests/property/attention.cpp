// SPDX-License-Identifier: MIT
/// \file  What position encodings do to attention: without one it cannot tell the order of its tokens.
#include <posenc/posenc.hpp>

#include "attention_block.hpp"
#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"

#include <array>
#include <cstddef>
#include <utility>
#include <vector>

namespace {

using namespace posenc;
using tokens = attention_block::tokens;

constexpr index_t length = 7, width = 12;
constexpr std::array<index_t, length> shuffled{3, 0, 6, 1, 5, 2, 4};

const rope<double> rotary({.pairing = pairing::halves, .dim = 4}, {.base = 100});
const xpos<double> fading({.pairing = pairing::interleaved, .dim = 4}, {.centre_rule = xpos_centre::fixed, .scale_base = 1e5});
const multimodal_rope<double> of_text({.pairing = pairing::halves, .dim = 4},
                                      {.sections = {1, 1}, .arrangement = multimodal_arrangement::interleaved, .base = 100});
const learned_rope<double> trained({.pairing = pairing::halves, .dim = 4}, std::array{0.9, -0.1, 0.3, 0.2, 1.1, 0.01}, 1, 3);
const rope<double> exchanged({.pairing = pairing::interleaved_to_halves, .dim = 4}, {.base = 100});
const alibi<double> linear({.heads = 3, .form = alibi_form::symmetric});
const sinusoidal<double> absolute({.dim = width, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});

tokens input() { return random_tensor<tokens>(4, 2, length, width); }

tokens permuted(const tokens& x, const auto& order) {
  tokens y(x.dimensions());
  for (index_t t = 0; t < length; ++t) y.chip(t, 1) = x.chip(order[static_cast<std::size_t>(t)], 1);
  return y;
}

tokens outputs(const auto& encoder, const tokens& x, const positions& at, bool causal = false) {
  return attention_block{.heads = 3, .channels = 4, .causal = causal}(encoder, x, at);
}

// Sums of a few numbers of size 1 in another order.
constexpr double rounding = 1e-13, noticeable = 1e-3;

/// What every encoder of positions has to do.
void check_order_matters(const auto& encoder) {
  const auto at = positions::range(length);
  const auto x = input(), straight = permuted(outputs(encoder, x, at), shuffled);
  INFO(std::string(encoder.name()));
  CHECK(reference::difference(outputs(encoder, permuted(x, shuffled), at), straight, noticeable) != "");
  // But where positions go with their tokens, it is the same sequence.
  const auto together = positions::ids(std::vector<position>(shuffled.begin(), shuffled.end()));
  CHECK(reference::difference(outputs(encoder, permuted(x, shuffled), together), straight, rounding) == "");
  CHECK(reference::difference(outputs(encoder, permuted(x, shuffled), together, true), permuted(outputs(encoder, x, at, true), shuffled),
                              rounding) == "");
}

}  // namespace

TEST_CASE("without an encoding, attention permutes its outputs with its inputs", "[property]") {
  const auto at = positions::range(length);
  const auto x = input();
  CHECK(reference::difference(outputs(no_encoding{}, permuted(x, shuffled), at), permuted(outputs(no_encoding{}, x, at), shuffled),
                              rounding) == "");
}

TEST_CASE("with an encoding, attention depends on the order of its inputs", "[property]") {
  check_order_matters(rotary);
  check_order_matters(fading);
  check_order_matters(of_text);
  check_order_matters(trained);
  check_order_matters(linear);
  check_order_matters(absolute);
  check_order_matters(compose(absolute, rotary, linear));
}

TEST_CASE("relative encodings do not see where a sequence begins", "[property]") {
  const auto x = input();
  const auto moved = [&](const auto& encoder, position by) { return outputs(encoder, x, positions::range(length, by)); };
  for (const position by : {-1000, 1, 123'456}) {
    CHECK(reference::difference(moved(rotary, by), moved(rotary, 0), rounding) == "");
    CHECK(reference::difference(moved(of_text, by), moved(of_text, 0), rounding) == "");
    CHECK(reference::difference(moved(trained, by), moved(trained, 0), 1e-10) == "");  // its frequencies are rounded to double
    CHECK(reference::difference(moved(fading, by), moved(fading, 0), rounding) == "");
    CHECK(reference::difference(moved(linear, by), moved(linear, 0), rounding) == "");
    CHECK(reference::difference(moved(compose(rotary, linear), by), moved(rotary, 0), noticeable) != "");
    CHECK(reference::difference(moved(absolute, by), moved(absolute, 0), noticeable) != "");
  }
}

TEST_CASE("a causal block without an encoding knows some order", "[property]") {
  const auto at = positions::range(length);
  const auto x = input();
  CHECK(reference::difference(outputs(no_encoding{}, permuted(x, shuffled), at, true),
                              permuted(outputs(no_encoding{}, x, at, true), shuffled), noticeable) != "");
}

TEST_CASE("padding changes nothing for the other tokens", "[property]") {
  // Three tokens of padding, then four real ones.
  const auto x = input();
  const std::array<int, 2 * length> mask{0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1};
  tokens alone(2, 4, width);
  for (index_t t = 0; t < 4; ++t) alone.chip(t, 1) = x.chip(t + 3, 1);
  const auto check = [&](const auto& encoder) {
    const auto padded = outputs(encoder, x, positions::from_padding_mask(mask, 2));
    tokens real(2, 4, width);
    for (index_t t = 0; t < 4; ++t) real.chip(t, 1) = padded.chip(t + 3, 1);
    CHECK(reference::difference(real, outputs(encoder, alone, positions::range(4)), rounding) == "");
  };
  check(rotary);
  check(fading);
  check(of_text);
  check(trained);
  check(linear);
  check(absolute);
  check(no_encoding{});
}

TEST_CASE("how pairs are laid out does not show, as long as queries and keys agree", "[property]") {
  const auto x = input();
  const auto at = positions::range(length);
  const rope<double> interleaved({.pairing = pairing::interleaved, .dim = 4}, {.base = 100});
  const rope<double> back({.pairing = pairing::interleaved, .dim = 4, .rotation = rotation::negative}, {.base = 100});
  CHECK(reference::difference(outputs(exchanged, x, at), outputs(interleaved, x, at), rounding) == "");
  CHECK(reference::difference(outputs(back, x, at), outputs(interleaved, x, positions::offsets(std::array{0, 0}, length)), noticeable) !=
        "");
}

TEST_CASE("a picture does not see where it lies, but how its patches lie", "[property]") {
  const axial_rope<double> encoder({.pairing = pairing::interleaved, .dim = 4}, {.widths = {2, 2}});
  const auto x = input();
  // A class token and two rows of three patches. What a token without a position makes of those with one is not relative.
  const auto picture = [&](index_t row, index_t column, grid_order order) -> tokens {
    const auto at = grid_positions({.extents = {2, 3}, .order = order, .prefix = 1, .start = {row, column}});
    return outputs(encoder, x, at).slice(Eigen::array<index_t, 3>{0, 1, 0}, Eigen::array<index_t, 3>{2, 6, width});
  };
  const auto straight = picture(0, 0, grid_order::slowest_first);
  CHECK(reference::difference(picture(40, -7, grid_order::slowest_first), straight, rounding) == "");
  CHECK(reference::difference(picture(0, 0, grid_order::fastest_first), straight, noticeable) != "");
}
