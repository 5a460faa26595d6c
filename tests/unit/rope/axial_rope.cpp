// SPDX-License-Identifier: MIT
#include <posenc/rope/axial_rope.hpp>

#include <posenc/grid.hpp>
#include <posenc/grid_coordinates.hpp>
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
#include <functional>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using real = long double;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;
constexpr auto time_head = axis_order::time_head;
constexpr real pi = std::numbers::pi_v<real>;

/// A system: how it calls the encoder, and the angle of pair k at (p_0, p_1, ...) as its code forms it.
struct system_case {
  std::string name;
  rotary_descriptor form;
  axial_rope_options options;
  coordinates at;
  std::function<real(index_t k, const std::vector<real>& p)> angle;
};

real series(index_t j, real width, real base) { return std::pow(base, -2 * static_cast<real>(j) / width); }
real evenly(real from, real to, index_t j, index_t count) {
  return from + (to - from) * static_cast<real>(j) / static_cast<real>(count - 1);
}

std::vector<system_case> systems() {
  const auto of = [](const positions& at) { return coordinates::of(at); };
  const auto picture = grid_positions({.extents = {3, 5}, .order = grid_order::slowest_first});
  const auto film = of(grid_positions({.extents = {2, 3, 5}, .order = grid_order::slowest_first}));
  const auto halves = pairing::halves, interleaved = pairing::interleaved;
  return {
      {"rope-vit: x, then y",
       {.pairing = interleaved, .dim = 16},
       {.widths = {8, 8}, .frequencies = axial::language{100}},
       of(grid_positions({.extents = {3, 5}, .order = grid_order::fastest_first, .prefix = 1})),
       [](index_t k, const auto& p) { return p[k < 4 ? 0 : 1] * series(k % 4, 8, 100); }},
      {"Qwen2-VL's vision tower: h | w, tiled for both halves",
       {.pairing = halves, .dim = 16},
       {.widths = {8, 8}},
       of(picture),
       [](index_t k, const auto& p) { return p[k < 4 ? 0 : 1] * series(k % 4, 8, 10000); }},
      {"Gemma 4's vision tower: halves within the channels of each axis",
       {.pairing = halves, .dim = 16, .blocks = 2},
       {.widths = {8, 8}, .frequencies = axial::language{100}},
       of(grid_positions({.extents = {3, 5}, .order = grid_order::fastest_first})),
       [](index_t k, const auto& p) { return p[k < 4 ? 0 : 1] * series(k % 4, 8, 100); }},
      {"Pixtral: even frequencies for h, odd ones for w",
       {.pairing = halves, .dim = 16},
       {.widths = {8, 8}, .frequencies = axial::dealt{10000}},
       of(picture),
       [](index_t k, const auto& p) { return k < 4 ? p[0] * series(2 * k, 16, 10000) : p[1] * series(2 * (k - 4) + 1, 16, 10000); }},
      {"Llama 4's vision tower: counted from 1, the class token last",
       {.pairing = interleaved, .dim = 16},
       {.widths = {8, 8}},
       of(grid_positions({.extents = {3, 5}, .order = grid_order::fastest_first, .suffix = 1, .start = {1, 1}})),
       [](index_t k, const auto& p) { return p[k < 4 ? 0 : 1] * series(k % 4, 8, 10000); }},
      {"DINOv3: 2 pi c / period",
       {.pairing = halves, .dim = 16},
       {.widths = {8, 8}, .frequencies = axial::periods{100}},
       normalized_grid({.extents = {3, 5}, .order = grid_order::slowest_first, .prefix = 5}, normalize_by::separate),
       [](index_t k, const auto& p) { return 2 * pi * p[k < 4 ? 0 : 1] / std::pow(100.0L, 2 * static_cast<real>(k % 4) / 8); }},
      {"DINOv3 with a range of periods",
       {.pairing = halves, .dim = 16},
       {.widths = {8, 8}, .frequencies = axial::period_range{.min = 0.5, .max = 32}},
       normalized_grid({.extents = {3, 5}, .order = grid_order::slowest_first}, normalize_by::longest),
       [](index_t k, const auto& p) { return 2 * pi * p[k < 4 ? 0 : 1] / (0.5L * std::pow(64.0L, static_cast<real>(k % 4) / 3)); }},
      {"timm in pixels, and rotary-embedding-torch",
       {.pairing = interleaved, .dim = 16},
       {.widths = {8, 8}, .frequencies = axial::pixel{224}},
       spaced_grid({.extents = {3, 5}, .order = grid_order::slowest_first}, {{-1, 1}, {-1, 1}}),
       [](index_t k, const auto& p) { return p[k < 4 ? 0 : 1] * evenly(1, 112, k % 4, 4) * pi; }},
      {"Wan: t | y | x",
       {.pairing = interleaved, .dim = 128},
       {.widths = wan_widths(128)},
       film,
       [](index_t k, const auto& p) {
         return k < 22 ? p[0] * series(k, 44, 10000) : k < 43 ? p[1] * series(k - 22, 42, 10000) : p[2] * series(k - 43, 42, 10000);
       }},
      {"CogVideoX: a quarter for time, on a cropped grid",
       {.pairing = interleaved, .dim = 64},
       {.widths = cogvideox_widths(64)},
       cropped_grid({.extents = {2, 3, 5}, .order = grid_order::slowest_first}, {{0, 2}, {1.5, 7}, {-2, 9}}),
       [](index_t k, const auto& p) {
         return k < 8 ? p[0] * series(k, 16, 10000) : k < 20 ? p[1] * series(k - 8, 24, 10000) : p[2] * series(k - 20, 24, 10000);
       }},
      {"HunyuanVideo and Flux: 16, 56, 56",
       {.pairing = interleaved, .dim = 128},
       {.widths = {16, 56, 56}, .frequencies = axial::language{256}},
       film,
       [](index_t k, const auto& p) {
         return k < 8 ? p[0] * series(k, 16, 256) : k < 36 ? p[1] * series(k - 8, 56, 256) : p[2] * series(k - 36, 56, 256);
       }},
      {"Qwen-Image: height and width centred, negative positions",
       {.pairing = interleaved, .dim = 128},
       {.widths = {16, 56, 56}},
       of(grid_positions({.extents = {1, 3, 5}, .order = grid_order::slowest_first, .start = {0, centred_start(3), centred_start(5)}})),
       [](index_t k, const auto& p) {
         return k < 8 ? p[0] * series(k, 16, 10000) : k < 36 ? p[1] * series(k - 8, 56, 10000) : p[2] * series(k - 36, 56, 10000);
       }},
      {"LTX-Video: rising frequencies, axis by axis, what does not divide by six stands still in front",
       {.pairing = interleaved, .dim = 28},
       {.widths = {8, 8, 8}, .frequencies = axial::rising{10000}, .layout = axial_layout::alternating, .still_first = true},
       film.relative_to({20, 2048, 2048}),
       [](index_t k, const auto& p) {
         if (k < 2) return real{0};
         const index_t j = (k - 2) / 3, axis = (k - 2) % 3;
         return p[static_cast<std::size_t>(axis)] * std::pow(10000.0L, static_cast<real>(j) / 3) * pi / 2;
       }},
      {"V-JEPA 2, paired right: what three axes leave over does not turn",
       {.pairing = interleaved, .dim = 64},
       {.widths = {20, 20, 20}},
       film,
       [](index_t k, const auto& p) { return k < 30 ? p[static_cast<std::size_t>(k / 10)] * series(k % 10, 20, 10000) : 0; }},
  };
}

}  // namespace

TEMPLATE_TEST_CASE("axial_rope turns as each system's formula says", "[rope][axial_rope]", float, double) {
  for (const auto& c : systems()) {
    INFO(c.name);
    const axial_rope<TestType> encoder(c.form, c.options);
    const index_t time = c.at.time(), axes = c.at.axes(), channels = index_t{c.form.dim} + 1;
    const auto x = random_tensor<tensor4<TestType>>(1, 1, time, 2, channels);
    auto y = x;
    encoder.rotate(heads(y, time_head), operand::query, prepare(encoder, {.queries = c.at, .keys = c.at}));
    for (index_t t = 0; t < time; ++t) {
      std::vector<real> p, angles;
      for (index_t a = 0; a < axes; ++a) p.push_back(c.at(0, t, a));
      const bool gone = std::isnan(static_cast<double>(p[0]));
      for (index_t k = 0; k < c.form.dim / 2; ++k) angles.push_back(gone ? 0 : c.angle(k, p));
      std::vector<double> before, after;
      for (index_t n = 0; n < channels; ++n) {
        before.push_back(static_cast<double>(x(0, t, 1, n)));
        after.push_back(static_cast<double>(y(0, t, 1, n)));
      }
      CHECK(reference::difference(after, reference::turned(before, c.form, angles), 4 * std::numeric_limits<TestType>::epsilon()) == "");
      if (gone) CHECK(after == before);
    }
  }
}

TEST_CASE("axial_rope by hand", "[rope][axial_rope]") {
  // One pair an axis, of frequency 1: the token in row 2, column 3 is turned by 2 and by 3 radians.
  const axial_rope<double> encoder({.pairing = pairing::interleaved, .dim = 4}, {.widths = {2, 2}});
  const auto table = encoder.prepare(grid_positions({.extents = {3, 4}, .order = grid_order::slowest_first}));
  const double* row = table.row(0, 11);
  CHECK((row[0] == std::cos(2.0) && row[1] == std::cos(3.0) && row[2] == std::sin(2.0) && row[3] == std::sin(3.0)));
  // DINOv3 on 2 x 2: the first cell is at (-1/2, -1/2), and the first period is 1: half a turn back.
  const axial_rope<double> dino({.pairing = pairing::halves, .dim = 8}, {.widths = {4, 4}, .frequencies = axial::periods{100}});
  const auto cells = normalized_grid({.extents = {2, 2}, .order = grid_order::slowest_first}, normalize_by::separate);
  CHECK(dino.prepare(cells).row(0, 0)[0] == -1);
  CHECK(std::abs(dino.prepare(cells).row(0, 0)[1] - std::cos(pi / 10)) < 1e-16);
  CHECK((dino.inspect().frequencies.whole_turns(0) == 1 && dino.inspect().frequencies[0] == turns{0, 0}));
}

TEST_CASE("how channels are split over time, height and width", "[rope][axial_rope]") {
  CHECK(wan_widths(128) == std::vector<index_t>{44, 42, 42});
  CHECK(wan_widths(96) == std::vector<index_t>{32, 32, 32});
  CHECK(cogvideox_widths(64) == std::vector<index_t>{16, 24, 24});
  reference::refuses("[cogvideox_widths] dim must be a multiple of 16 but got 40", [] { cogvideox_widths(40); });
}

TEMPLATE_TEST_CASE("with one axis, axial_rope is rope, bit for bit", "[rope][axial_rope]", float, double) {
  const rotary_descriptor form{.pairing = pairing::halves, .dim = 32, .attention_factor = 1.5};
  const schedule::dynamic_ntk longer{.factor = 2, .original_length = 64};
  const axial_rope<TestType> axial(form, {.widths = {32}, .frequencies = axial::language{500, longer}});
  const rope<TestType> plain(form, {.base = 500, .schedule = longer});
  for (const auto& at : {positions::range(3, 7), positions::range(3, 131'000)}) {
    const auto got = axial.prepare(at), expected = plain.prepare(at), between = axial.prepare(coordinates::of(at));
    for (index_t t = 0; t < 3; ++t) {
      const std::vector row(expected.row(0, t), expected.row(0, t) + 32);
      CHECK(reference::bit_difference(std::vector(got.row(0, t), got.row(0, t) + 32), row) == "");
      CHECK(reference::bit_difference(std::vector(between.row(0, t), between.row(0, t) + 32), row) == "");
    }
  }
}

TEMPLATE_TEST_CASE("axial_rope: scores depend on the difference on each axis", "[rope][axial_rope]", float, double) {
  const axial_rope<TestType> encoder({.pairing = pairing::halves, .dim = 16}, {.widths = {8, 8}, .frequencies = axial::language{100}});
  const auto q = random_tensor<tensor4<TestType>>(3, 1, 1, 1, 16), k = random_tensor<tensor4<TestType>>(4, 1, 1, 1, 16);
  const auto score = [&](std::array<int, 2> query, std::array<int, 2> key) {
    auto a = q, b = k;
    encoder.rotate(heads(a, time_head), encoder.prepare(positions::multi_axis(query, 2)));
    encoder.rotate(heads(b, time_head), encoder.prepare(positions::multi_axis(key, 2)));
    return reference::dot(a, b);
  };
  const double one = score({5, 9}, {2, 13}), tolerance = 16 * 16 * std::numeric_limits<TestType>::epsilon();
  CHECK(std::abs(score({1005, 9}, {1002, 13}) - one) < tolerance);
  CHECK(std::abs(score({5, -91}, {2, -87}) - one) < tolerance);
  CHECK(std::abs(score({5, 9}, {2, 12}) - one) > 0.01);
  CHECK(std::abs(score({5, 9}, {3, 13}) - one) > 0.01);
}

TEST_CASE("axial_rope: rotate_backward is the transpose of rotate, shift moves along each axis", "[rope][axial_rope]") {
  const axial_rope<double> encoder({.pairing = pairing::halves, .dim = 8, .offset = 1, .blocks = 2}, {.widths = {4, 4}});
  const auto at = positions::multi_axis(std::array{1, 2, 30, 4}, 2);
  const auto table = encoder.prepare(at);
  auto x = random_tensor<tensor4<double>>(9, 1, 2, 2, 10);
  const auto weights = random_tensor<tensor4<double>>(10, 1, 2, 2, 10);
  auto gradient = weights;
  encoder.rotate_backward(heads(gradient, time_head), table);
  const auto loss = [&] {
    auto y = x;
    encoder.rotate(heads(y, time_head), table);
    return reference::dot(weights, y);
  };
  CHECK(reference::difference(gradient, reference::derivatives({x.data(), 40}, loss, 0.5), 1e-12) == "");

  auto shifted = x, moved = x;
  encoder.rotate(heads(shifted, time_head), table);
  encoder.shift(heads(shifted, time_head), positions::multi_axis(std::array{10, 0, -1, 2}, 2));
  encoder.rotate(heads(moved, time_head), encoder.prepare(positions::multi_axis(std::array{11, 2, 29, 6}, 2)));
  CHECK(reference::difference(shifted, moved, 4e-15) == "");
}

TEST_CASE("axial_rope refuses what does not fit", "[rope][axial_rope][errors]") {
  const auto refused = [](const std::string& text, const axial_rope_options& options) {
    reference::refuses("[axial_rope] " + text, [&] { axial_rope<float>({.pairing = pairing::halves, .dim = 16}, options); });
  };
  constexpr double infinity = std::numeric_limits<double>::infinity();
  refused("there must be 1 to 8 axes but got 0", {.widths = {}});
  refused("there must be 1 to 8 axes but got 9", {.widths = {2, 2, 2, 2, 2, 2, 2, 2, 0}});
  refused("widths must be even and not negative but got 7", {.widths = {7, 9}});
  refused("widths must be even and not negative but got -2", {.widths = {-2, 8}});
  refused("widths must not exceed dim together but got 16 and 8 and 10", {.widths = {8, 10}});
  refused("alternating axes must be of one width but got 8 and 6", {.widths = {8, 6}, .layout = axial_layout::alternating});
  refused("axes that are dealt frequencies must be of one width but got 8 and 14", {.widths = {8, 6}, .frequencies = axial::dealt{}});
  refused("base must be positive and finite but got 0", {.widths = {8, 8}, .frequencies = axial::language{0}});
  refused("base must be positive and finite but got -1", {.widths = {8, 8}, .frequencies = axial::dealt{-1}});
  refused("base must be positive and finite but got inf", {.widths = {8, 8}, .frequencies = axial::periods{infinity}});
  refused("base must be positive and finite but got 0", {.widths = {8, 8}, .frequencies = axial::rising{0}});
  refused("max_frequency must be finite but got inf", {.widths = {8, 8}, .frequencies = axial::pixel{infinity}});
  refused("periods must be positive, finite and in order but got 2 and 1",
          {.widths = {8, 8}, .frequencies = axial::period_range{.min = 2, .max = 1}});
  refused("periods must be positive, finite and in order but got 0 and 1",
          {.widths = {8, 8}, .frequencies = axial::period_range{.min = 0, .max = 1}});
  refused("factor must be finite and at least 1 but got 0.5",
          {.widths = {8, 8}, .frequencies = axial::language{100, schedule::linear{.factor = 0.5}}});
  reference::refuses("[axial_rope] each block must have an even number of channels but got 16 and 3",
                     [] { axial_rope<float>({.pairing = pairing::halves, .dim = 16, .blocks = 3}, {.widths = {8, 8}}); });

  const axial_rope<float> encoder({.pairing = pairing::halves, .dim = 16}, {.widths = {8, 8}});
  reference::refuses("[axial_rope] the positions must have as many axes as the encoder but got 2 and 1",
                     [&] { encoder.prepare(positions::range(3)); });
  reference::refuses("[axial_rope] the positions must have as many axes as the encoder but got 2 and 3",
                     [&] { encoder.prepare(positions::multi_axis(std::array{1, 2, 3}, 3)); });
  reference::refuses("[axial_rope] coordinate times frequency must stay below 2^31 turns but got 1.4e+10 and 0.15915494309189535",
                     [&] { encoder.prepare(coordinates::values(std::array{0.5, 1.4e10}, 2)); });
}
