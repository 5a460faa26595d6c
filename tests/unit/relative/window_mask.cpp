// SPDX-License-Identifier: MIT
#include <posenc/relative/window_mask.hpp>

#include <posenc/combine/compose.hpp>
#include <posenc/grid.hpp>
#include <posenc/relative/window_bias.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"
#include "reference/shifted_windows.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;
using reference::bit_difference, reference::refuses;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, RowMajor>;

constexpr double infinity = std::numeric_limits<double>::infinity();

struct {
  index_t height, width;
  std::array<index_t, 2> window, shift;
} const cases[] = {
    {8, 8, {4, 4}, {2, 2}}, {6, 8, {3, 4}, {0, 0}}, {7, 10, {3, 4}, {1, 2}}, {6, 5, {3, 5}, {1, 0}}, {5, 3, {4, 4}, {3, 1}},
};
window_mask_options options_of(const auto& c, double value, index_t heads = 2) {
  return {shifted_windows({.extents = {c.height, c.width}, .window = {c.window[0], c.window[1]}, .shift = {c.shift[0], c.shift[1]}}), heads,
          value};
}

/// As Swin adds it: attn_mask = region of the key's pixel - region of the query's; value where that is not 0, and 0 where it is.
template <class S>
tensor4<S> masked(tensor4<S> scores, const auto& c, const attention_positions& at, double value, S scale = 1) {
  const shifted_windows windows = options_of(c, value).windows;
  const auto regions = reference::partition(
      reference::mask_regions(windows.windows()[0] * c.window[0], windows.windows()[1] * c.window[1], c.window, c.shift), c.window);
  for (index_t b = 0; b < scores.dimension(0); ++b) {
    const auto& of_cells = regions[static_cast<std::size_t>(b) % regions.size()];
    const bool edge = std::ranges::any_of(of_cells, [&](auto region) { return region != of_cells[0]; });
    const auto region = [&](const positions& some, index_t t) {
      return of_cells[static_cast<std::size_t>(some(b, t, 0) * c.window[1] + some(b, t, 1))];
    };
    for (index_t h = 0; h < scores.dimension(1); ++h)
      for (index_t i = 0; i < scores.dimension(2); ++i)
        for (index_t j = 0; j < scores.dimension(3); ++j) {
          S& score = scores(b, h, i, j);
          score *= scale;
          if (!edge) continue;
          const bool both = at.queries(b, i) != no_position && at.keys(b, j) != no_position;
          score += both && region(at.keys, j) - region(at.queries, i) != 0 ? static_cast<S>(value) : S(0);
        }
  }
  return scores;
}

positions grid_of(const auto& c) { return grid_positions({.extents = {c.window[0], c.window[1]}, .order = grid_order::slowest_first}); }

}  // namespace

TEMPLATE_TEST_CASE("window_mask adds what Swin's slices make, window by window", "[window_mask]", float, double) {
  for (const auto& c : cases)
    for (const double value : {-100.0, -infinity}) {
      const window_mask<TestType> encoder(options_of(c, value));
      const shifted_windows& windows = encoder.windows();
      const auto everything = grid_of(c), known = windows.cell_positions(2);
      const auto some = positions::multi_axis(std::vector<position>{2, 0, no_position, 1, 2, 0, 3, no_position, 2, 1}, 2);
      for (const auto& at : {attention_positions{everything, everything}, attention_positions{known, known},
                             attention_positions{everything, known}, attention_positions{some, everything}})
        for (const TestType scale : {TestType(1), TestType(0.5)}) {
          INFO(c.height << " x " << c.width << ", value " << value << ", scale " << scale);
          const auto before = random_tensor<tensor4<TestType>>(1, 2 * windows.count(), 2, at.queries.time(), at.keys.time());
          const auto wanted = masked(before, c, at, value, scale);
          const score_pass pass{.scale = static_cast<double>(scale)};
          auto scores = before, ready = before, elsewhere = before;
          encoder.bias(scores, at, pass);
          CHECK(bit_difference(scores, wanted) == "");
          const auto state = prepare(encoder, at);
          encoder.bias(ready, state, pass);
          CHECK(bit_difference(ready, wanted) == "");
          elsewhere.setConstant(7);
          encoder.bias(before, elsewhere, state, pass);
          CHECK(bit_difference(elsewhere, wanted) == "");
          auto tiles = before;
          for (index_t b = 0; b < before.dimension(0); ++b)
            for (index_t h = 0; h < 2; ++h)
              for (index_t i = 0; i < at.queries.time(); i += 5)
                for (index_t j = 0; j < at.keys.time(); j += 7) {
                  const std::array extents{std::min<index_t>(5, at.queries.time() - i), std::min<index_t>(7, at.keys.time() - j)};
                  encoder.bias_tile(tensor_view<TestType, 2>(&tiles(b, h, i, j), extents, {at.keys.time(), 1}), {b, h, i, j}, state, pass);
                }
          CHECK(bit_difference(tiles, wanted) == "");
        }
    }
}

TEST_CASE("window_mask has the values of hand", "[window_mask]") {
  // Four cells of a line in windows of two, shifted by one: 1 2 | 3 0.
  const window_mask<float> encoder({shifted_windows({.extents = {4}, .window = {2}, .shift = {1}}), 1, -100});
  tensor4<float> scores(2, 1, 2, 2);
  scores.setConstant(1);
  encoder.bias(scores, {positions::range(2), positions::range(2)});
  CHECK(bit_difference(scores, std::vector<float>{1, 1, 1, 1, 1, -99, -99, 1}) == "");
}

TEST_CASE("window_mask touches the windows at the edge only, and one table serves each kind of them", "[window_mask]") {
  const auto& c = cases[0];
  const window_mask<float> encoder(options_of(c, -100));
  const attention_positions at{grid_of(c), grid_of(c)};
  const auto state = prepare(encoder, at);
  CHECK(state->table_of == std::vector<index_t>{-1, 0, 1, 2});
  CHECK(state->values.size() == 3 * 16 * 16);
  tensor4<float> scores(4, 2, 16, 16);
  scores.setConstant(-0.0f);
  encoder.bias(scores, state);
  for (index_t n = 0; n < 2 * 256; ++n) REQUIRE(std::signbit(scores.data()[n]));
  CHECK(!std::signbit(scores(1, 0, 0, 0)));  // -0 + 0
  CHECK(prepare(window_mask<float>(options_of(cases[1], -100)), {grid_of(cases[1]), grid_of(cases[1])})->values.empty());
}

TEST_CASE("window_mask: each row of the batch may have cells of its own", "[window_mask]") {
  const auto& c = cases[0];
  const window_mask<float> encoder(options_of(c, -100));
  random_numbers random(7);
  std::vector<position> ids(2 * 12 * 5);  // 3 pictures of 4 windows
  for (position& id : ids) id = random.integer(0, 3);
  const auto own = positions::multi_axis(ids, 2, 12);
  const auto before = random_tensor<tensor4<float>>(8, 12, 2, 5, 16);
  auto scores = before;
  encoder.bias(scores, {own, grid_of(c)});
  CHECK(bit_difference(scores, masked(before, c, {own, grid_of(c)}, -100)) == "");
}

TEST_CASE("window_mask after window_bias is Swin's shifted attention", "[window_mask]") {
  const auto& c = cases[2];
  const window_mask<float> mask(options_of(c, -100));
  const window_bias<float> bias({.window = {c.window[0], c.window[1]}, .heads = 2, .form = window_bias_form::swin},
                                random_vector<float>(2, 5 * 7 * 2));
  const auto both = compose(bias, mask);
  const attention_positions at{grid_of(c), grid_of(c)};
  const auto before = random_tensor<tensor4<float>>(3, 9, 2, 12, 12);
  auto scores = before, one_by_one = before;
  encode_scores(both, scores, prepare(both, at));
  bias.bias(one_by_one, at);
  CHECK(bit_difference(scores, masked(one_by_one, c, at, -100)) == "");
}

TEMPLATE_TEST_CASE("window_mask rounds scores of 16 bits once, in any storage order, for any number of threads", "[window_mask]",
                   Eigen::half, Eigen::bfloat16) {
  const auto& c = cases[2];
  const window_mask<float> encoder(options_of(c, -100, 8));
  const attention_positions at{grid_of(c), grid_of(c)};
  const tensor4<float> exact = random_tensor<tensor4<float>>(4, 45, 8, 12, 12);
  tensor4<TestType> scores = exact.cast<TestType>(), threaded = scores;
  const tensor4<TestType> wanted = masked<float>(scores.template cast<float>(), c, at, -100, 0.3f).template cast<TestType>();
  Eigen::Tensor<TestType, 4> columns(12, 12, 8, 45);  // the same memory
  std::copy_n(scores.data(), scores.size(), columns.data());
  encoder.bias(scores, at, {.scale = 0.3});
  CHECK(bit_difference(scores, wanted) == "");
  encoder.bias(columns, at, {.scale = 0.3});
  CHECK(bit_difference(columns, wanted) == "");
  Eigen::ThreadPool pool(3);
  encoder.bias(threaded, at, {.scale = 0.3}, Eigen::ThreadPoolDevice(&pool, 3));
  CHECK(bit_difference(threaded, wanted) == "");
}

TEST_CASE("window_mask: encoders are equal where options are", "[window_mask]") {
  const window_mask<float> encoder(options_of(cases[0], -100));
  CHECK(encoder == window_mask<float>(options_of(cases[0], -100)));
  CHECK(encoder != window_mask<float>(options_of(cases[0], -infinity)));
  CHECK(encoder != window_mask<float>(options_of(cases[0], -100, 3)));
  CHECK(encoder != window_mask<float>(options_of(cases[1], -100)));
  CHECK(encoder.name() == "window_mask");
  CHECK(encoder.axes() == 2);
}

TEST_CASE("window_mask refuses what does not fit, and writes nothing", "[window_mask]") {
  const auto& c = cases[0];
  refuses("[window_mask] heads must be positive but got 0", [&] { window_mask<float>(options_of(c, -100, 0)); });
  refuses("[window_mask] value must be negative but got 0", [&] { window_mask<float>(options_of(c, 0)); });
  refuses("[window_mask] value must be negative but got nan", [&] { window_mask<float>(options_of(c, std::nan(""))); });
  const window_mask<float> encoder(options_of(c, -100));
  const auto cells = grid_of(c);
  tensor4<float> scores = random_tensor<tensor4<float>>(5, 8, 2, 16, 16), pictures = random_tensor<tensor4<float>>(6, 6, 2, 16, 16);
  refuses(pictures, "[window_mask] the batch must be whole pictures of windows but got 4 and 6",
          [&] { encoder.bias(pictures, {cells, cells}); });
  refuses(scores, "[window_mask] cells of a window have no causal order but got causal",
          [&] { encoder.bias(scores, {cells, cells}, {.causal = true}); });
  const tensor_view<float, 2> tile(scores.data(), {4, 4}, {16, 1});
  refuses(scores, "[window_mask] cells of a window have no causal order but got causal",
          [&] { encoder.bias_tile(tile, {0, 0, 0, 0}, attention_positions{cells, cells}, {.causal = true}); });
  refuses("[window_mask] the positions must have as many axes as the encoder but got 2 and 1",
          [&] { encoder.prepare({cells, positions::range(16)}); });
  const auto at = [](position y, position x, index_t batch) {
    std::vector<position> ids(static_cast<std::size_t>(2 * batch), y);
    std::fill_n(ids.begin() + batch, batch, x);
    return positions::multi_axis(ids, 2, batch);
  };
  refuses("[window_mask] cells must lie in [0, window) but got 4 and 4", [&] { encoder.prepare({at(3, 4, 4), cells}); });
  refuses("[window_mask] cells must lie in [0, window) but got 4 and -1", [&] { encoder.prepare({cells, at(-1, 0, 4)}); });
  refuses("[window_mask] the batch must be whole pictures of windows but got 4 and 3", [&] { encoder.prepare({at(0, 0, 3), cells}); });
  refuses("[window_mask] queries and keys must have one batch but got 4 and 8", [&] { encoder.prepare({at(0, 0, 4), at(0, 0, 8)}); });
  const window_bias<float> bias({.window = {4, 4}, .heads = 2, .form = window_bias_form::swin}, std::vector<float>(49 * 2, 1.0f));
  const auto both = compose(bias, encoder);  // the bias must not have been added either
  refuses(pictures, "[window_mask] the batch must be whole pictures of windows but got 4 and 6",
          [&] { encode_scores(both, pictures, prepare(both, {cells, cells})); });
  tensor4<float> more_heads(4, 3, 16, 16);
  refuses("[window_mask] heads must match the encoder but got 2 and 3", [&] { encoder.bias(more_heads, {cells, cells}); });
}
