// SPDX-License-Identifier: MIT
#include <posenc/rope/multimodal_rope.hpp>

#include <posenc/gradients.hpp>
#include <posenc/multimodal_positions.hpp>
#include <posenc/rope.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/turned.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using list = std::vector<index_t>;
using arrangement = multimodal_arrangement;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;
constexpr auto time_head = axis_order::time_head;

list axes_of(const list& sections, arrangement how, multimodal_leftovers leftovers = multimodal_leftovers::first_axis) {
  index_t pairs = 0;
  for (const index_t section : sections) pairs += section;
  return multimodal_rope<float>({.pairing = pairing::halves, .dim = 2 * pairs},
                                {.sections = sections, .arrangement = how, .leftovers = leftovers})
      .axes_of_pairs();
}
/// Where an axis stands in a list.
list places(const list& axes, index_t axis) {
  list all;
  for (std::size_t k = 0; k < axes.size(); ++k)
    if (axes[k] == axis) all.push_back(static_cast<index_t>(k));
  return all;
}

}  // namespace

TEST_CASE("chunked sections follow one another", "[rope][multimodal_rope]") {
  CHECK(axes_of({2, 3, 1}, arrangement::chunked) == list{0, 0, 1, 1, 1, 2});
  CHECK(axes_of({1, 0, 2, 1}, arrangement::chunked) == list{0, 2, 2, 3});
  const auto qwen2 = axes_of({16, 24, 24}, arrangement::chunked);
  CHECK((qwen2[15] == 0 && qwen2[16] == 1 && qwen2[39] == 1 && qwen2[40] == 2 && qwen2[63] == 2));
}

TEST_CASE("interleaved sections take turns, and what is left over goes to time or stands still", "[rope][multimodal_rope]") {
  const auto qwen3 = axes_of({24, 20, 20}, arrangement::interleaved);
  list height, width;
  for (index_t k = 1; k < 60; k += 3) height.push_back(k), width.push_back(k + 1);
  CHECK(places(qwen3, 1) == height);
  CHECK(places(qwen3, 2) == width);
  CHECK((qwen3[60] == 0 && qwen3[61] == 0 && qwen3[62] == 0 && qwen3[63] == 0));

  const auto ggml = axes_of({24, 20, 20}, arrangement::interleaved, multimodal_leftovers::still);
  CHECK(places(ggml, -1) == list{61, 62});
  CHECK((ggml[60] == 0 && ggml[63] == 0));
  CHECK(axes_of({1, 3}, arrangement::interleaved) == list{0, 1, 0, 1});
}

TEST_CASE("space first: height and width take turns, time comes last", "[rope][multimodal_rope]") {
  CHECK(axes_of({3, 2, 2}, arrangement::space_first) == list{1, 2, 1, 2, 0, 0, 0});
  const auto ernie = axes_of({20, 22, 22}, arrangement::space_first);
  CHECK((ernie[0] == 1 && ernie[1] == 2 && ernie[42] == 1 && ernie[43] == 2 && ernie[44] == 0 && ernie[63] == 0));
}

TEST_CASE("rarest first: the axis that lags behind most, never twice the same, time last", "[rope][multimodal_rope]") {
  CHECK(axes_of({4, 3, 3}, arrangement::rarest_first) == list{0, 1, 2, 0, 1, 2, 0, 1, 2, 0});
  CHECK(axes_of({3, 2, 1}, arrangement::rarest_first) == list{0, 1, 2, 0, 1, 0});
  CHECK(axes_of({2, 3}, arrangement::rarest_first) == list{0, 1, 0, 1, 1});
  const auto all = axes_of({24, 20, 20}, arrangement::rarest_first);
  CHECK((places(all, 0).size() == 24 && places(all, 1).size() == 20 && places(all, 2).size() == 20 && all.back() == 0));
  for (std::size_t k = 1; k + 1 < all.size(); ++k) CHECK(all[k] != all[k - 1]);
}

TEMPLATE_TEST_CASE("multimodal_rope turns each pair by the position on its axis", "[rope][multimodal_rope]", float, double) {
  const auto at = positions::multi_axis(std::array{0, 3, 3, 900, 0, 1, -7, 900, 0, 4, 60, 900}, 3);  // [axis, time]
  for (const auto how : {arrangement::chunked, arrangement::interleaved, arrangement::space_first, arrangement::rarest_first})
    for (const auto form : {pairing::halves, pairing::interleaved}) {
      const rotary_descriptor descriptor{.pairing = form, .dim = 20, .offset = 2};
      const multimodal_rope<TestType> encoder(descriptor, {.sections = {4, 3, 3}, .arrangement = how, .base = 1e6});
      const auto axes = encoder.axes_of_pairs();
      const auto x = random_tensor<tensor4<TestType>>(1, 2, 4, 2, 23);
      auto y = x;
      encode_queries_keys(encoder, heads(y, time_head), heads(y, time_head).slice(0, 0),
                          prepare(encoder, {.queries = at, .keys = at.slice(0, 0)}));
      for (index_t t = 0; t < 4; ++t) {
        std::vector<long double> angles;
        for (std::size_t k = 0; k < 10; ++k)
          angles.push_back(static_cast<long double>(at(0, t, axes[k])) * std::pow(1e6L, -2 * static_cast<long double>(k) / 20));
        std::vector<double> before, after;
        for (index_t c = 0; c < 23; ++c)
          before.push_back(static_cast<double>(x(1, t, 1, c))), after.push_back(static_cast<double>(y(1, t, 1, c)));
        CHECK(reference::difference(after, reference::turned(before, descriptor, angles), 4 * std::numeric_limits<TestType>::epsilon()) ==
              "");
      }
    }
}

TEMPLATE_TEST_CASE("on text, multimodal_rope is rope, bit for bit", "[rope][multimodal_rope]", float, double) {
  const rope<TestType> plain({.pairing = pairing::halves, .dim = 128},
                             {.base = 1e6, .schedule = schedule::yarn{.factor = 4, .original_length = 4096}});
  for (const auto how : {arrangement::chunked, arrangement::interleaved, arrangement::rarest_first}) {
    const multimodal_rope<TestType> encoder(
        {.pairing = pairing::halves, .dim = 128},
        {.sections = {24, 20, 20}, .arrangement = how, .base = 1e6, .schedule = schedule::yarn{.factor = 4, .original_length = 4096}});
    const auto expected = plain.prepare(positions::range(50, 131'000));
    const auto one_axis = encoder.prepare(positions::range(50, 131'000));
    const auto three = multimodal_positions({segment::text{131'050}}).at.slice(131'000, 50);
    const auto three_axes = encoder.prepare(three);
    const auto between = encoder.prepare(coordinates::of(positions::range(50, 131'000)));
    for (index_t t = 0; t < 50; ++t) {
      const std::vector row(expected.row(0, t), expected.row(0, t) + 128);
      CHECK(reference::bit_difference(std::vector(one_axis.row(0, t), one_axis.row(0, t) + 128), row) == "");
      CHECK(reference::bit_difference(std::vector(three_axes.row(0, t), three_axes.row(0, t) + 128), row) == "");
      CHECK(reference::bit_difference(std::vector(between.row(0, t), between.row(0, t) + 128), row) == "");
    }
  }
}

TEST_CASE("multimodal_rope: one decode step has the bits of the whole sequence", "[rope][multimodal_rope]") {
  const multimodal_rope<float> encoder({.pairing = pairing::halves, .dim = 16},
                                       {.sections = {4, 2, 2}, .arrangement = arrangement::interleaved});
  const std::vector<multimodal_row> rows{{segment::text{3}, segment::image{2, 3}, segment::text{4}}};
  const auto made = multimodal_positions(rows, {.padding = padding_side::right});
  const auto whole = encoder.prepare(made.at);
  // The last two tokens of text, as decoding counts them.
  const auto step = encoder.prepare(decode_positions(std::vector<index_t>{11}, made.decode_delta, 2));
  for (const index_t t : {0, 1})
    CHECK(reference::bit_difference(std::vector(step.row(0, t), step.row(0, t) + 16),
                                    std::vector(whole.row(0, 11 + t), whole.row(0, 11 + t) + 16)) == "");
}

TEMPLATE_TEST_CASE("multimodal_rope: keys are shifted axis by axis", "[rope][multimodal_rope]", float, double) {
  const multimodal_rope<TestType> encoder({.pairing = pairing::halves, .dim = 16, .attention_factor = 1.5},
                                          {.sections = {4, 2, 2}, .arrangement = arrangement::chunked});
  const auto from = positions::multi_axis(std::array{1, 2, 3, 4, 5, 6}, 3), to = positions::multi_axis(std::array{1, 12, -3, 4, 5, 9}, 3);
  const auto deltas = positions::multi_axis(std::array{0, 10, -6, 0, 0, 3}, 3);
  auto got = random_tensor<tensor4<TestType>>(1, 1, 2, 2, 16), expected = got, all_axes = got, by_one = got;
  encoder.rotate(heads(got, time_head), from);
  encoder.shift(heads(got, time_head), deltas);
  encoder.rotate(heads(expected, time_head), to);
  CHECK(reference::difference(got, expected, 16 * std::numeric_limits<TestType>::epsilon()) == "");
  encoder.rotate(heads(all_axes, time_head), positions::multi_axis(std::array{11, 12, 13, 14, 15, 16}, 3));
  encoder.rotate(heads(by_one, time_head), from);
  encoder.shift(heads(by_one, time_head), 10);
  CHECK(reference::difference(by_one, all_axes, 16 * std::numeric_limits<TestType>::epsilon()) == "");
}

TEST_CASE("multimodal_rope: rotate_backward is the transpose of rotate", "[rope][multimodal_rope]") {
  const multimodal_rope<double> encoder({.pairing = pairing::interleaved, .dim = 8},
                                        {.sections = {2, 1, 1}, .arrangement = arrangement::interleaved});
  const auto at = positions::multi_axis(std::array{1, 2, 3, 4, 5, 6}, 3);
  const auto table = encoder.prepare(at);
  auto x = random_tensor<tensor4<double>>(9, 1, 2, 2, 8);
  const auto weights = random_tensor<tensor4<double>>(10, 1, 2, 2, 8);
  auto gradient = weights;
  encoder.rotate_backward(heads(gradient, time_head), table);
  const auto loss = [&] {
    auto y = x;
    encoder.rotate(heads(y, time_head), table);
    return reference::dot(weights, y);
  };
  CHECK(reference::difference(gradient, reference::derivatives({x.data(), 32}, loss, 0.5), 1e-12) == "");
}

TEST_CASE("multimodal_rope refuses sections that do not fit", "[rope][multimodal_rope][errors]") {
  const auto refused = [](const std::string& text, const list& sections, arrangement how) {
    reference::refuses("[multimodal_rope] " + text, [&] {
      multimodal_rope<float>({.pairing = pairing::halves, .dim = 16}, {.sections = sections, .arrangement = how});
    });
  };
  refused("sections must add up to dim / 2 but got 8 and 7", {2, 2, 3}, arrangement::chunked);
  refused("sections must add up to dim / 2 but got 8 and 9", {2, 2, 5}, arrangement::interleaved);
  refused("sections must not be negative but got -1", {-1, 9}, arrangement::chunked);
  refused("there must be 1 to 8 axes but got 0", {}, arrangement::chunked);
  refused("there must be 1 to 8 axes but got 9", {1, 1, 1, 1, 1, 1, 1, 1, 0}, arrangement::chunked);
  refused("space_first needs time, height and width, the last two with one section but got 3 and 2 and 3", {3, 2, 3},
          arrangement::space_first);
  refused("space_first needs time, height and width, the last two with one section but got 2 and 0 and 0", {4, 4},
          arrangement::space_first);
  refused("rarest_first needs 2 or 3 axes but got 4", {2, 2, 2, 2}, arrangement::rarest_first);
  refused("rarest_first needs a pair of the first axis but got 0", {0, 4, 4}, arrangement::rarest_first);

  const multimodal_rope<float> encoder({.pairing = pairing::halves, .dim = 16},
                                       {.sections = {4, 2, 2}, .arrangement = arrangement::chunked});
  reference::refuses("[multimodal_rope] the positions must have as many axes as the encoder but got 3 and 2",
                     [&] { encoder.prepare(positions::multi_axis(std::array{1, 2}, 2)); });
}
