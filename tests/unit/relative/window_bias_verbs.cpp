// SPDX-License-Identifier: MIT
#include <posenc/relative/window_bias_verbs.hpp>

#include <posenc/gradients.hpp>
#include <posenc/grid.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/window_bias.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;
using reference::bit_difference, reference::refuses;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, RowMajor>;

constexpr position none = no_position, big = position{1} << 31;

/// A number for every difference, as the verbs ask for them: `[head, difference + 3]`, the three of class tokens behind.
template <class S>
struct toy : window_bias_verbs<toy<S>, S> {
  toy(const window_extents& window, index_t of_heads, bool with_classes)
      : cell_numbers("toy", window),
        head_count(of_heads),
        classes(with_classes),
        numbers(random_vector<S>(1, of_heads * (cell_numbers.differences() + 3))) {}

  static constexpr std::string_view name() { return "toy"; }
  index_t heads() const { return head_count; }
  const detail::cell_numbers& cells() const { return cell_numbers; }
  bool has_classes() const { return classes; }
  index_t row() const { return cell_numbers.differences() + 3; }
  void fill(S* values, S* of_classes) const {
    for (index_t h = 0; h < head_count; ++h) {
      const S* const from = numbers.data() + h * row();
      std::copy_n(from, row() - 3, values + h * (row() - 3));
      if (classes) std::copy_n(from + row() - 3, 3, of_classes + 3 * h);
    }
  }
  void require_spans(gradient_spans<S> d) const { require(d.size() == 1 && d[0].size() == numbers.size(), name(), "spans must fit"); }
  void add_gradient(const double* d_values, const double* d_classes, gradient_spans<S> d) const {
    for (index_t h = 0; h < head_count; ++h)
      for (index_t n = 0; n < row(); ++n) {
        if (n >= row() - 3 && !classes) continue;
        const double one = n < row() - 3 ? d_values[h * (row() - 3) + n] : d_classes[3 * h + n - (row() - 3)];
        S& to = d[0][static_cast<std::size_t>(h * row() + n)];
        to = static_cast<S>(static_cast<double>(to) + one);
      }
  }
  std::vector<parameter<S>> parameters() { return {{"numbers", numbers, {head_count, row()}}}; }
  friend bool operator==(const toy& a, const toy& b) { return a.numbers == b.numbers; }

  detail::cell_numbers cell_numbers;
  index_t head_count;
  bool classes;
  std::vector<S> numbers;
};
static_assert(bias_encoder<toy<float>> && trainable<toy<float>>);

reference::cell cell_of(const positions& at, index_t b, index_t t) {
  if (at(b, t) == none) return {};
  std::vector<position> all;
  for (index_t axis = 0; axis < at.axes(); ++axis) all.push_back(at(b, t, axis));
  return all;
}

/// The place in `numbers` of each pair `[batch, query, key]` for head 0; -1: no bias.
template <class S>
std::vector<index_t> places(const toy<S>& encoder, const attention_positions& at, index_t batch) {
  const reference::window_rule rule{encoder.cells().window(), reference::window_rule::key_minus_query};
  std::vector<index_t> all;
  for (index_t b = 0; b < batch; ++b)
    for (index_t i = 0; i < at.queries.time(); ++i)
      for (index_t j = 0; j < at.keys.time(); ++j) {
        const auto query = cell_of(at.queries, b, i), key = cell_of(at.keys, b, j);
        all.push_back((!query || !key) && !encoder.classes ? -1 : static_cast<index_t>(rule.row(query, key)));
      }
  return all;
}

template <class S>
tensor4<S> expected(tensor4<S> scores, const toy<S>& encoder, const attention_positions& at, S scale = 1) {
  const auto where = places(encoder, at, scores.dimension(0));
  std::size_t pair = 0;
  for (index_t b = 0; b < scores.dimension(0); ++b)
    for (index_t i = 0; i < scores.dimension(2); ++i)
      for (index_t j = 0; j < scores.dimension(3); ++j, ++pair)
        for (index_t h = 0; h < scores.dimension(1); ++h) {
          S& score = scores(b, h, i, j);
          score *= scale;
          if (where[pair] >= 0) score += encoder.numbers[static_cast<std::size_t>(h * encoder.row() + where[pair])];
        }
  return scores;
}

/// The same positions, one batch row of their own for each of `batch`: then pairs have no table.
positions repeated(const positions& at, index_t batch) {
  std::vector<position> ids;
  for (index_t axis = 0; axis < at.axes(); ++axis)
    for (index_t b = 0; b < batch; ++b)
      for (index_t t = 0; t < at.time(); ++t) ids.push_back(at(0, t, axis));
  return positions::multi_axis(ids, at.axes(), batch);
}

positions picture(const window_extents& extents, index_t prefix = 0, const window_extents& start = {}, index_t suffix = 0) {
  return grid_positions({.extents = extents, .order = grid_order::slowest_first, .prefix = prefix, .suffix = suffix, .start = start});
}

/// Of a window of {3, 4}.
std::vector<attention_positions> cases() {
  const auto every_second = positions::multi_axis(std::vector<position>{0, 0, 2, 2, 0, 2, 0, 2}, 2);
  const auto anywhere =
      positions::multi_axis(std::vector<position>{1, 1, none, 0, 2, 2, 1, none, big,  big + 2, big,  big + 1, big + 1, none,  // rows
                                                  5, 7, none, 4, 4, 6, 5, none, -big, 3 - big, -big, -big,    2 - big, none},
                            2, 2);
  return {
      {picture({3, 4}), picture({3, 4})},
      {picture({3, 4}, 1), picture({3, 4}, 1)},
      {picture({3, 3}, 2, {big, -1}, 1), picture({2, 4}, 1, {big + 1, -1})},
      {every_second, picture({3, 4})},
      {anywhere, anywhere},
      {picture({3, 4}, 1), repeated(picture({2, 2}, 0, {1, 1}), 2)},
      {repeated(picture({1, 4}, 0, {2, 0}), 2), picture({3, 4}, 0, {}, 2)},
      {repeated(picture({3, 4}, 2), 2), repeated(picture({3, 4}, 2), 2)},
  };
}

}  // namespace

TEMPLATE_TEST_CASE("window_bias_verbs add the number of each pair's difference", "[window_bias_verbs]", float, double) {
  for (const bool classes : {false, true}) {
    const toy<TestType> encoder({3, 4}, 3, classes);
    int number = 0;
    for (const auto& at : cases())
      for (const TestType scale : {TestType(1), TestType(0.5)}) {
        INFO("case " << number++ / 2 << (classes ? ", classes" : "") << ", scale " << scale);
        const auto before = random_tensor<tensor4<TestType>>(2, 2, 3, at.queries.time(), at.keys.time());
        const auto wanted = expected(before, encoder, at, scale);
        const score_pass pass{.scale = static_cast<double>(scale)};
        auto scores = before, ready = before, elsewhere = before;
        elsewhere.setConstant(7);
        encoder.bias(scores, at, pass);
        CHECK(bit_difference(scores, wanted) == "");
        const auto state = prepare(encoder, at);
        encoder.bias(ready, state, pass);
        CHECK(bit_difference(ready, wanted) == "");
        encoder.bias(before, elsewhere, state, pass);
        CHECK(bit_difference(elsewhere, wanted) == "");
      }
  }
}

TEST_CASE("window_bias_verbs: windows of one and of three axes", "[window_bias_verbs]") {
  for (const window_extents& window : {window_extents{1}, {6}, {2, 1, 3}})
    for (const index_t rows_of_their_own : {0, 2}) {
      const toy<float> encoder(window, 2, true);
      const auto cells = picture(window, 1), own = rows_of_their_own ? repeated(cells, 2) : cells;
      const auto before = random_tensor<tensor4<float>>(3, 2, 2, cells.time(), cells.time());
      auto scores = before;
      encoder.bias(scores, {own, own});
      CHECK(bit_difference(scores, expected(before, encoder, {own, own})) == "");
    }
}

TEST_CASE("window_bias_verbs: pairs share a table where windows share positions and there are not too many", "[window_bias_verbs]") {
  const toy<float> encoder({3, 4}, 2, true);
  for (const auto& at : cases()) {
    const auto state = prepare(encoder, at);
    const bool shared = at.queries.batch() == 0 && at.keys.batch() == 0;
    CHECK(static_cast<index_t>(state->pairs.size()) == (shared ? 2 * at.queries.time() * at.keys.time() : 0));
  }
  // 2^22 pairs, and more.
  CHECK(toy<float>({32}, 4096, false).prepare({picture({32}), picture({32})})->pairs.size() == 1 << 22);
  const toy<float> many({32}, 4097, true);
  const attention_positions at{picture({32}, 1), picture({32})};
  CHECK(many.prepare(at)->pairs.empty());
  tensor4<float> scores(1, 4097, 33, 32);
  scores.setZero();
  many.bias(scores, at);
  bool right = true;
  for (index_t h = 0; h < 4097; h += 512)
    for (index_t i = 0; i < 33; ++i)
      for (index_t j = 0; j < 32; ++j)
        right = right && scores(0, h, i, j) == many.numbers[static_cast<std::size_t>(h * many.row() + (i == 0 ? 63 : j - (i - 1) + 31))];
  CHECK(right);
}

TEST_CASE("window_bias_verbs: tiles have the bits of the whole", "[window_bias_verbs]") {
  for (const bool classes : {false, true}) {
    const toy<float> encoder({3, 4}, 2, classes);
    for (const auto& at : cases()) {
      const index_t queries = at.queries.time(), keys = at.keys.time();
      const auto state = prepare(encoder, at);
      auto whole = random_tensor<tensor4<float>>(4, 2, 2, queries, keys), tiles = whole;
      encoder.bias(whole, state, {.scale = 0.3});
      for (index_t b = 0; b < 2; ++b)
        for (index_t h = 0; h < 2; ++h)
          for (index_t i = 0; i < queries; i += 5)
            for (index_t j = 0; j < keys; j += 3) {
              const std::array extents{std::min<index_t>(5, queries - i), std::min<index_t>(3, keys - j)};
              const tensor_view<float, 2> tile(&tiles(b, h, i, j), extents, {keys, 1});
              if (h == 0) encoder.bias_tile(tile, {b, h, i, j}, at, {.scale = 0.3});
              else encoder.bias_tile(tile, {b, h, i, j}, state, {.scale = 0.3});
            }
      CHECK(bit_difference(tiles, whole) == "");
    }
  }
}

TEST_CASE("window_bias_verbs: value is what bias adds", "[window_bias_verbs]") {
  const toy<double> encoder({3, 4}, 3, true), without({3, 4}, 3, false);
  const reference::window_rule rule{{3, 4}, reference::window_rule::key_minus_query};
  const auto number = [&](index_t h, std::size_t row) { return encoder.numbers[static_cast<std::size_t>(h * encoder.row()) + row]; };
  const std::array<position, 2> first{5, -3}, second{7, -1};
  for (index_t h = 0; h < 3; ++h) {
    CHECK(encoder.value(h, first, second) == number(h, rule.row(reference::cell{{5, -3}}, reference::cell{{7, -1}})));
    CHECK(encoder.value(h, second, first) == number(h, 1));  // two rows up, two columns left: -2, -2, the second of all
    CHECK(encoder.value(h, first, first) == number(h, 17));
    CHECK(encoder.value(h, {}, first) == number(h, 35));
    CHECK(encoder.value(h, first, {}) == number(h, 36));
    CHECK(encoder.value(h, {}, {}) == number(h, 37));
    CHECK(without.value(h, {}, first) == 0);
    CHECK(without.value(h, {}, {}) == 0);
  }
  refuses("[toy] head must lie within the heads but got 3 and 3", [&] { encoder.value(3, first, second); });
  refuses("[toy] head must lie within the heads but got 3 and -1", [&] { encoder.value(-1, first, second); });
  refuses("[toy] the positions must have as many axes as the encoder but got 2 and 1",
          [&] { encoder.value(0, std::array<position, 1>{0}, second); });
  refuses("[toy] cells must lie within one window but got 3 and 4", [&] { encoder.value(0, first, std::array<position, 2>{8, -3}); });
}

TEST_CASE("window_bias_verbs: rows of a batch do not depend on each other", "[window_bias_verbs]") {
  const toy<float> encoder({3, 4}, 2, true);
  const auto at = cases()[4];
  const auto before = random_tensor<tensor4<float>>(5, 2, 2, 7, 7);
  auto scores = before;
  encoder.bias(scores, at);
  for (index_t b = 0; b < 2; ++b) {
    std::vector<position> own;
    for (index_t axis = 0; axis < 2; ++axis)
      for (index_t t = 0; t < 7; ++t) own.push_back(at.queries(b, t, axis));
    const auto row = positions::multi_axis(own, 2);  // shared: by the table of pairs
    tensor4<float> part = before.chip(b, 0).reshape(std::array<index_t, 4>{1, 2, 7, 7});
    encoder.bias(part, {row, row});
    CHECK(bit_difference(part, tensor4<float>(scores.chip(b, 0).reshape(std::array<index_t, 4>{1, 2, 7, 7}))) == "");
  }
}

TEMPLATE_TEST_CASE("window_bias_verbs round scores of 16 bits once, in any storage order", "[window_bias_verbs]", Eigen::half,
                   Eigen::bfloat16) {
  const toy<float> encoder({3, 4}, 2, true);
  for (const auto& at : {cases()[1], cases()[7]}) {
    const tensor4<float> exact = random_tensor<tensor4<float>>(6, 2, 2, at.queries.time(), at.keys.time());
    tensor4<TestType> scores = exact.cast<TestType>();
    const tensor4<TestType> wanted = expected<float>(scores.template cast<float>(), encoder, at, 0.3f).template cast<TestType>();
    Eigen::Tensor<TestType, 4> columns(at.keys.time(), at.queries.time(), 2, 2);  // the same memory
    std::copy_n(scores.data(), scores.size(), columns.data());
    encoder.bias(scores, at, {.scale = 0.3});
    CHECK(bit_difference(scores, wanted) == "");
    encoder.bias(columns, at, {.scale = 0.3});
    CHECK(bit_difference(columns, wanted) == "");
  }
}

TEST_CASE("window_bias_verbs have the same bits for any number of threads, and in strided scores", "[window_bias_verbs]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice three(&pool, 3);
  toy<float> encoder({7, 7}, 5, true);
  for (const auto& cells : {picture({7, 7}, 1), repeated(picture({7, 7}, 1), 40)}) {
    const attention_positions at{cells, cells};
    const auto before = random_tensor<tensor4<float>>(7, 40, 5, 50, 50);
    auto scores = before, threaded = before, d = before, d_threaded = before;
    encoder.bias(scores, at);
    encoder.bias(threaded, at, three);
    CHECK(bit_difference(threaded, scores) == "");
    gradient_buffer<float> gradient(encoder.parameters()), gradient_threaded(encoder.parameters());
    encoder.bias_backward(d, at, gradient.spans());
    encoder.bias_backward(d_threaded, at, gradient_threaded.spans(), three);
    CHECK(bit_difference(gradient_threaded.spans()[0], gradient.spans()[0]) == "");
    // Rows that lie apart.
    tensor4<float> wide(40, 5, 50, 57);
    wide.setConstant(7);
    wide.slice(std::array<index_t, 4>{0, 0, 0, 0}, std::array<index_t, 4>{40, 5, 50, 50}) = before;
    encoder.bias(tensor_view<float, 4>(wide.data(), {40, 5, 50, 50}, {5 * 50 * 57, 50 * 57, 57, 1}), at);
    CHECK(bit_difference(tensor4<float>(wide.slice(std::array<index_t, 4>{0, 0, 0, 0}, std::array<index_t, 4>{40, 5, 50, 50})), scores) ==
          "");
    CHECK(wide(39, 4, 49, 50) == 7);
  }
}

TEST_CASE("window_bias_verbs: heads may lie apart, in the input or in the output", "[window_bias_verbs]") {
  const toy<float> encoder({3, 4}, 3, false);
  const attention_positions at{picture({3, 4}), picture({3, 4})};
  const auto before = random_tensor<tensor4<float>>(11, 2, 3, 12, 12);
  const auto wanted = expected(before, encoder, at);
  const std::array<index_t, 4> first{0, 0, 0, 0}, extents{2, 3, 12, 12}, strides{3 * 156, 156, 12, 1};
  tensor4<float> apart(2, 3, 13, 12), out = before;
  apart.setConstant(7);
  apart.slice(first, extents) = before;
  encoder.bias(tensor_view<const float, 4>(apart.data(), extents, strides), out, at);
  CHECK(bit_difference(out, wanted) == "");
  encoder.bias(tensor_view<float, 4>(apart.data(), extents, strides), at);
  CHECK(bit_difference(tensor4<float>(apart.slice(first, extents)), wanted) == "");
}

TEST_CASE("window_bias_verbs: bias_backward is the derivative of bias", "[window_bias_verbs]") {
  for (const bool classes : {false, true}) {
    toy<double> encoder({3, 4}, 2, classes);
    int number = 0;
    for (const auto& at : cases()) {
      INFO("case " << number++ << (classes ? ", classes" : ""));
      const index_t queries = at.queries.time(), keys = at.keys.time();
      const auto before = random_tensor<tensor4<double>>(8, 2, 2, queries, keys),
                 weights = random_tensor<tensor4<double>>(9, 2, 2, queries, keys);
      const auto loss = [&] {
        auto out = before;
        encoder.bias(out, at, {.scale = -2});
        return reference::dot(weights, out);
      };
      gradient_buffer<double> gradients(encoder.parameters()), ready(encoder.parameters());
      gradients.spans()[0][5] = 100;  // it is added to
      auto d = weights, d_ready = weights;
      encoder.bias_backward(d, at, gradients.spans(), {.scale = -2});
      gradients.spans()[0][5] -= 100;
      encoder.bias_backward(d_ready, prepare(encoder, at), ready.spans(), {.scale = -2});
      CHECK(reference::difference(gradients.spans()[0], reference::derivatives(encoder.numbers, loss, 0.5), 1e-11) == "");
      CHECK(reference::difference(ready.spans()[0], gradients.spans()[0], 1e-13) == "");
      CHECK(bit_difference(d, tensor4<double>(weights * -2.0)) == "");
      CHECK(bit_difference(d_ready, d) == "");
    }
  }
}

TEST_CASE("window_bias_verbs leave empty scores alone", "[window_bias_verbs]") {
  toy<float> encoder({3, 4}, 2, true);
  gradient_buffer<float> gradients(encoder.parameters());
  const auto check = [&](index_t batch, const positions& queries, const positions& keys) {
    tensor4<float> scores(batch, 2, queries.time(), keys.time());
    encoder.bias(scores, {queries, keys});
    encoder.bias_backward(scores, {queries, keys}, gradients.spans());
  };
  const auto cells = picture({3, 4}), nothing = picture({0, 4});
  check(0, cells, cells);
  check(2, nothing, cells);
  check(2, cells, nothing);
  for (const float d : gradients.spans()[0]) REQUIRE(d == 0);
}

TEST_CASE("window_bias_verbs refuse what does not fit, and write nothing", "[window_bias_verbs]") {
  toy<float> encoder({3, 4}, 2, true);
  const auto cells = picture({3, 4}), tokens = picture({3, 4}, 1);
  tensor4<float> scores = random_tensor<tensor4<float>>(10, 2, 2, 12, 12);
  gradient_buffer<float> gradients(encoder.parameters());
  const auto biases = [&](const attention_positions& at, const score_pass& pass = {}) { encoder.bias(scores, at, pass); };
  refuses(scores, "[toy queries] time must match the positions but got 12 and 13", [&] { biases({tokens, cells}); });
  refuses(scores, "[toy keys] time must match the positions but got 12 and 13", [&] { biases({cells, tokens}); });
  refuses(scores, "[toy keys] batch must match the positions but got 2 and 3", [&] { biases({cells, repeated(cells, 3)}); });
  refuses(scores, "[toy queries] the positions must have as many axes as the encoder but got 2 and 1",
          [&] { biases({positions::range(12), cells}); });
  refuses(scores, "[toy] cells must lie within one window but got 3 and 4", [&] { biases({cells, picture({4, 3})}); });
  refuses(scores, "[toy] cells must lie within one window but got 4 and 6", [&] { biases({cells, picture({2, 6})}); });
  refuses(scores, "[toy] cells of a window have no causal order but got causal", [&] { biases({cells, cells}, {.causal = true}); });
  refuses("[toy] the positions must have as many axes as the encoder but got 2 and 1",
          [&] { encoder.prepare({cells, positions::range(12)}); });
  refuses("[toy] queries and keys must have one batch but got 2 and 3", [&] { encoder.prepare({repeated(cells, 2), repeated(cells, 3)}); });
  tensor4<float> more_heads(2, 3, 12, 12);
  refuses("[toy] heads must match the encoder but got 2 and 3", [&] { encoder.bias(more_heads, {cells, cells}); });

  const auto other = toy<float>({3, 4}, 3, false).prepare({cells, cells}),
             smaller = toy<float>({3, 3}, 2, false).prepare({picture({3, 3}), picture({3, 3})});
  refuses(scores, "[toy] the table must be of this encoder but got 2 and 3", [&] { encoder.bias(scores, other); });
  tensor4<float> nine(2, 2, 9, 9);
  nine.setZero();
  refuses(nine, "[toy] the table must be of this encoder's window but got 35 and 25", [&] { encoder.bias(nine, smaller); });

  refuses(scores, "[toy] spans must fit", [&] { encoder.bias_backward(scores, {cells, cells}, {}); });
  refuses(scores, "[toy] cells of a window have no causal order but got causal",
          [&] { encoder.bias_backward(scores, {cells, cells}, gradients.spans(), {.causal = true}); });
  refuses(scores, "[toy] cells must lie within one window but got 3 and 4",
          [&] { encoder.bias_backward(scores, {cells, picture({4, 3})}, gradients.spans()); });
  const tensor_view<float, 2> tile(scores.data(), {4, 4}, {12, 1});
  refuses(scores, "[toy] cells of a window have no causal order but got causal",
          [&] { encoder.bias_tile(tile, {0, 0, 0, 0}, {cells, cells}, {.causal = true}); });
  refuses(scores, "[positions] a slice must lie within time but got 12 and 10 and 4",
          [&] { encoder.bias_tile(tile, {0, 0, 10, 0}, attention_positions{cells, cells}); });
}
