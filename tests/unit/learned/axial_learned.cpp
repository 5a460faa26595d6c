// SPDX-License-Identifier: MIT
#include <posenc/learned/axial_learned.hpp>

#include <posenc/combine.hpp>
#include <posenc/grid.hpp>
#include <posenc/learned.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/rounded.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;

template <class T>
using tensor2 = Eigen::Tensor<T, 2, RowMajor>;
template <class T>
using tensor3 = Eigen::Tensor<T, 3, RowMajor>;
using shape = std::vector<index_t>;

template <class S>
axial_learned<S> with_random_tables(const axial_learned_options& options) {
  axial_learned<S> encoder(options);
  std::uint64_t seed = 50;
  for (const auto& one : encoder.parameters()) {
    const auto values = random_vector<S>(++seed, static_cast<std::ptrdiff_t>(one.values.size()));
    std::ranges::copy(values, one.values.begin());
  }
  return encoder;
}

/// Every place on the axes, the last one fastest.
std::vector<shape> places_of(const shape& rows) {
  std::vector<shape> all{{}};
  for (const index_t count : rows) {
    std::vector<shape> longer;
    for (const shape& one : all)
      for (index_t row = 0; row < count; ++row) longer.push_back(one), longer.back().push_back(row);
    all = longer;
  }
  return all;
}

/// The table of all places, which is what the small ones stand for.
template <class S>
learned<S> whole(const axial_learned<S>& encoder) {
  std::vector<S> table;
  const auto places = places_of(encoder.options().rows);
  for (const shape& place : places) {
    std::vector<S> code;
    for (std::size_t axis = 0; axis < place.size(); ++axis)
      for (index_t c = 0; c < encoder.options().widths[axis]; ++c) {
        const S value = encoder.table(static_cast<index_t>(axis))(place[axis], c);
        const auto channel = static_cast<std::size_t>(c);
        if (axis == 0 || encoder.options().join == axial_join::concatenate) code.push_back(value);
        else code[channel] = reference::plus(code[channel], value);
      }
    table.insert(table.end(), code.begin(), code.end());
  }
  return learned<S>({.rows = static_cast<index_t>(places.size()), .dim = encoder.dim()}, table);
}

/// The gradients of the small tables, from that of the whole one.
template <class S>
std::vector<std::vector<S>> shared_out(const axial_learned<S>& encoder, const std::vector<S>& gradient) {
  const auto& options = encoder.options();
  std::vector<std::vector<S>> sums;
  for (std::size_t axis = 0; axis < options.rows.size(); ++axis)
    sums.emplace_back(static_cast<std::size_t>(options.rows[axis] * options.widths[axis]));
  auto next = gradient.begin();
  for (const shape& place : places_of(options.rows)) {
    const auto code = next;
    for (std::size_t axis = 0; axis < place.size(); ++axis) {
      if (options.join == axial_join::sum) next = code;
      for (index_t c = 0; c < options.widths[axis]; ++c)
        sums[axis][static_cast<std::size_t>(place[axis] * options.widths[axis] + c)] += *next++;
    }
  }
  return sums;
}

/// The places of one-axis positions, as positions on several axes.
positions on_axes(const shape& rows, const positions& at) {
  const auto places = places_of(rows);
  std::vector<position> ids;
  for (std::size_t axis = 0; axis < rows.size(); ++axis)
    for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b)
      for (index_t t = 0; t < at.time(); ++t)
        ids.push_back(at(b, t) == no_position ? no_position : places[static_cast<std::size_t>(at(b, t))][axis]);
  return positions::multi_axis(ids, static_cast<index_t>(rows.size()), at.batch());
}

std::vector<axial_learned_options> layouts() {
  const auto digits = axial_lookup::digits;
  return {{.rows = {3, 4}, .widths = {5, 3}, .join = axial_join::concatenate, .lookup = digits},
          {.rows = {2, 3, 2}, .widths = {1, 8, 4}, .join = axial_join::concatenate, .lookup = digits},
          {.rows = {3, 4}, .widths = {7, 7}, .join = axial_join::sum, .lookup = digits},
          {.rows = {3, 2, 2}, .widths = {9, 9, 9}, .join = axial_join::sum, .lookup = digits},
          {.rows = {12}, .widths = {6}, .join = axial_join::concatenate, .lookup = digits},
          {.rows = {12}, .widths = {6}, .join = axial_join::sum, .lookup = digits}};
}

/// Four tokens in two rows, on 12 places.
std::vector<positions> every_kind() {
  return {positions::range(4), positions::range(4, 8), positions::offsets(std::array{3, 8}, 4),
          positions::ids(std::array<position, 4>{11, no_position, 5, 5}),
          positions::ids(std::array<position, 8>{no_position, 0, 11, 4, 4, 7, no_position, 4}, 2)};
}

}  // namespace

TEMPLATE_TEST_CASE("axial_learned adds and writes the codes of the table that it stands for", "[axial_learned]", float, Eigen::half) {
  using S = compute_t<TestType>;
  at_every_instruction_set([] {
    for (auto options : layouts())
      for (const auto lookup : {axial_lookup::digits, axial_lookup::axes}) {
        options.lookup = lookup;
        const auto encoder = with_random_tables<S>(options);
        const auto table = whole(encoder);
        const tensor3<TestType> x = random_tensor<tensor3<S>>(1, 2, 4, encoder.dim()).template cast<TestType>();
        for (const auto& place : every_kind()) {
          const auto at = lookup == axial_lookup::digits ? place : on_axes(options.rows, place);
          CAPTURE(options.rows.size(), static_cast<int>(lookup));
          const auto same = [&](auto&& act) {
            auto got = x, expected = x;
            act(encoder, at, got), act(table, place, expected);
            const tensor3<S> one = got.template cast<S>(), other = expected.template cast<S>();
            CHECK(reference::bit_difference(one, other) == "");
          };
          same([](const auto& e, const positions& p, auto& out) { e.add(out, p); });
          same([](const auto& e, const positions& p, auto& out) { e.encode(p, out); });
          same([&](const auto& e, const positions& p, auto& out) { e.add(x, out, p); });
          same([&](const auto& e, const positions& p, auto& out) {
            const tensor_view<TestType, 2> rows(out.data(), {8, e.dim()});
            const auto in = x;
            e.add(in, rows, std::array<index_t, 8>{7, no_row, 1, 0, 4, 2, 3, no_row}, p);
          });
        }
      }
  });
}

TEST_CASE("axial_learned has the gradient of the table that it stands for", "[axial_learned]") {
  for (auto options : layouts())
    for (const auto lookup : {axial_lookup::digits, axial_lookup::axes}) {
      options.lookup = lookup;
      auto encoder = with_random_tables<float>(options);
      const auto table = whole(encoder);
      tensor3<float> d(2, 4, encoder.dim());  // whole numbers: their sums are exact in any order
      for (index_t n = 0; n < d.size(); ++n) d.data()[n] = static_cast<float>(n * n % 91 - 40);
      for (const auto& place : every_kind()) {
        std::vector<float> gradient(static_cast<std::size_t>(12 * encoder.dim()));
        table.encode_backward(place, d, std::array{std::span(gradient)}, 0.5);
        const auto expected = shared_out(encoder, gradient);
        gradient_buffer<float> gradients(encoder.parameters());
        encoder.encode_backward(lookup == axial_lookup::digits ? place : on_axes(options.rows, place), d, gradients.spans(), 0.5);
        REQUIRE(gradients.spans().size() == expected.size());
        for (std::size_t axis = 0; axis < expected.size(); ++axis)
          CHECK(reference::difference(gradients.spans()[axis], expected[axis], 0) == "");
      }
    }
}

TEST_CASE("axial_learned in the layout of DETR: column and row of a picture", "[axial_learned]") {
  // 3 columns and 2 rows; the class token in front has none.
  const axial_learned<float> encoder({.rows = {3, 2}, .widths = {2, 1}, .join = axial_join::concatenate, .lookup = axial_lookup::axes},
                                     {{10, 11, 20, 21, 30, 31}, {5, 6}});
  tensor2<float> code(7, 3);
  encoder.encode(grid_positions({.extents = {2, 3}, .order = grid_order::fastest_first, .prefix = 1}), code);
  CHECK(reference::bit_difference(code, std::vector<float>{0, 0, 0, 10, 11, 5, 20, 21, 5, 30, 31, 5, 10, 11, 6, 20, 21, 6, 30, 31, 6}) ==
        "");
}

TEST_CASE("axial_learned in the layout of Reformer: digits of one position, the first slowest", "[axial_learned]") {
  const axial_learned<float> encoder({.rows = {2, 3}, .widths = {1, 2}, .join = axial_join::concatenate, .lookup = axial_lookup::digits},
                                     {{100, 200}, {1, 2, 3, 4, 5, 6}});
  tensor2<float> code(6, 3);
  encoder.encode(positions::range(6), code);
  CHECK(reference::bit_difference(code, std::vector<float>{100, 1, 2, 100, 3, 4, 100, 5, 6, 200, 1, 2, 200, 3, 4, 200, 5, 6}) == "");
}

TEST_CASE("axial_learned in the layout of LayoutLM: places on a page, summed", "[axial_learned]") {
  const axial_learned<double> encoder({.rows = {2, 3}, .widths = {2, 2}, .join = axial_join::sum, .lookup = axial_lookup::axes},
                                      {{100, 200, 300, 400}, {1, 2, 3, 4, 5, 6}});
  tensor2<double> code(3, 2);
  encoder.encode(positions::multi_axis(std::array{1, 0, 1, 0, 2, 1}, 2), code);
  CHECK(reference::bit_difference(code, std::vector<double>{301, 402, 105, 206, 303, 404}) == "");
}

TEST_CASE("axial_learned in many blocks and on several threads", "[axial_learned]") {
  // A block has 16 KB: 64 tokens of 64 channels. None of 5000.
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  for (const auto join : {axial_join::concatenate, axial_join::sum})
    for (const index_t width : {32, 5000}) {
      const index_t time = width == 32 ? 900 : 3, batch = width == 32 ? 30 : 2;
      auto encoder = with_random_tables<float>({.rows = {31, 30}, .widths = {width, width}, .join = join, .lookup = axial_lookup::digits});
      const auto table = whole(encoder);
      std::vector<position> starts;
      for (index_t b = 0; b < batch; ++b) starts.push_back(b % 30);
      const auto x = random_tensor<tensor3<float>>(3, batch, time, encoder.dim());
      for (const auto& at : {positions::range(time, 17), positions::offsets(starts, time)}) {
        auto expected = x, got = x, threaded = x;
        table.add(expected, at);
        encoder.add(got, at);
        encoder.add(threaded, at, device);
        CHECK(reference::bit_difference(got, expected) == "");
        CHECK(reference::bit_difference(threaded, expected) == "");
        gradient_buffer<float> alone(encoder.parameters()), together(encoder.parameters());
        encoder.encode_backward(at, x, alone.spans());
        encoder.encode_backward(at, x, together.spans(), 1, device);
        for (const std::size_t axis : {0u, 1u}) CHECK(reference::bit_difference(alone.spans()[axis], together.spans()[axis]) == "");
      }
    }
}

TEST_CASE("axial_learned: backward is the derivative of add", "[axial_learned]") {
  for (auto options : layouts()) {
    auto encoder = with_random_tables<double>(options);
    const auto x = random_tensor<tensor3<double>>(5, 2, 4, encoder.dim()), weights = random_tensor<tensor3<double>>(6, 2, 4, encoder.dim());
    for (const auto& at : every_kind()) {
      gradient_buffer<double> gradients(encoder.parameters());
      gradients.spans()[0][1] = 100;  // it is added to
      auto d_x = weights;
      encode_embeddings_backward(encoder, d_x, at, gradients.spans());
      gradients.spans()[0][1] -= 100;
      CHECK(reference::bit_difference(d_x, weights) == "");  // x passes
      const auto loss = [&] {
        auto sum = x;
        encoder.add(sum, at);
        return reference::dot(weights, sum);
      };
      std::size_t axis = 0;
      for (const auto& one : encoder.parameters())
        CHECK(reference::difference(gradients.spans()[axis++], reference::derivatives(one.values, loss, 0.5), 1e-13) == "");
    }
  }
}

TEST_CASE("axial_learned keeps every bit of tokens without a position", "[axial_learned]") {
  for (const auto join : {axial_join::concatenate, axial_join::sum}) {
    const auto encoder = with_random_tables<float>({.rows = {3, 2}, .widths = {4, 4}, .join = join, .lookup = axial_lookup::axes});
    const auto at = grid_positions({.extents = {3, 2}, .order = grid_order::slowest_first, .prefix = 2, .suffix = 1});
    auto x = random_tensor<tensor3<float>>(7, 2, 9, encoder.dim());
    x(1, 0, 0) = x(0, 8, 3) = -0.0f;
    const auto before = x;
    encoder.add(x, at);
    for (index_t b = 0; b < 2; ++b)
      for (index_t t = 0; t < 9; ++t)
        for (index_t c = 0; c < encoder.dim(); ++c) REQUIRE(reference::same_bits(x(b, t, c), before(b, t, c)) == (t < 2 || t == 8));
  }
}

TEST_CASE("axial_learned: parameters, tables and equality", "[axial_learned]") {
  const axial_learned_options options{.rows = {2, 3}, .widths = {1, 2}, .join = axial_join::concatenate, .lookup = axial_lookup::axes};
  axial_learned<float> encoder(options, {{1, 2}, {3, 4, 5, 6, 7, 8}});
  const auto before = encoder;
  const auto all = parameters(encoder);
  REQUIRE(all.size() == 2);
  CHECK(all[0].name == "axis 0");
  CHECK(all[1].name == "axis 1");
  CHECK(all[0].shape == shape{2, 1});
  CHECK(all[1].shape == shape{3, 2});
  CHECK(encoder.table(1)(2, 0) == 7);
  CHECK(encoder.table(0).extents() == std::array<index_t, 2>{2, 1});
  all[1].values[4] = 70;
  CHECK(encoder.table(1)(2, 0) == 70);
  CHECK(encoder != before);
  CHECK(before == axial_learned<float>(options, {{1, 2}, {3, 4, 5, 6, 7, 8}}));
  CHECK(before.options() == options);
  CHECK(before.dim() == 3);
  CHECK(before.axes() == 2);
  CHECK(axial_learned<float>::name() == "axial_learned");

  const auto zeros = [&](auto&& change) {
    auto other = options;
    change(other);
    return axial_learned<float>(other);
  };
  const axial_learned<float> none(options);
  CHECK(none == axial_learned<float>(options, {{0, 0}, {0, 0, 0, 0, 0, 0}}));
  CHECK(none != zeros([](auto& o) { o.rows = {3, 3}; }));
  CHECK(none != zeros([](auto& o) { o.widths = {2, 1}; }));
  CHECK(none != zeros([](auto& o) { o.lookup = axial_lookup::digits; }));
  CHECK(zeros([](auto& o) { o.widths = {2, 2}; }) != zeros([](auto& o) { o.widths = {2, 2}, o.join = axial_join::sum; }));
  CHECK(zeros([](auto& o) { o.widths = {2, 2}, o.join = axial_join::sum; }).dim() == 2);
  CHECK(zeros([](auto& o) { o.lookup = axial_lookup::digits; }).axes() == 1);

  axial_learned<double> most({.rows = shape(8, 2), .widths = shape(8, 1), .join = axial_join::sum, .lookup = axial_lookup::digits});
  for (const auto& one : most.parameters()) one.values[1] = 1;
  CHECK(most.parameters()[7].name == "axis 7");
  tensor2<double> ones(256, 1), added(256, 1);
  for (unsigned n = 0; n < 256; ++n) ones(static_cast<index_t>(n), 0) = std::popcount(n);
  most.encode(positions::range(256), added);
  CHECK(reference::bit_difference(added, ones) == "");
}

TEST_CASE("axial_learned does nothing to empty tensors", "[axial_learned]") {
  const axial_learned<float> encoder({.rows = {2, 3}, .widths = {1, 2}, .join = axial_join::concatenate, .lookup = axial_lookup::digits});
  tensor3<float> no_batch(0, 2, 3), no_time(2, 0, 3);
  encoder.add(no_batch, positions::range(2, 700));
  encoder.add(no_time, positions::range(0, 700));
  encoder.encode(positions::range(2, -700), no_batch);
  gradient_buffer<float> gradients(axial_learned<float>(encoder).parameters());
  encoder.encode_backward(positions::range(2, 700), no_batch, gradients.spans());
  encoder.encode_backward(positions::offsets(std::array{700, 3}, 0), no_time, gradients.spans());
  CHECK(gradients.spans()[1][5] == 0);
}

TEST_CASE("axial_learned refuses options and tables that do not fit", "[axial_learned][errors]") {
  const auto concatenate = axial_join::concatenate, sum = axial_join::sum;
  const auto axes = axial_lookup::axes, digits = axial_lookup::digits;
  const auto refused = [](const std::string& text, const axial_learned_options& options) {
    reference::refuses("[axial_learned] " + text, [&] { axial_learned<float>{options}; });
    reference::refuses("[axial_learned] " + text, [&] { axial_learned<float>(options, {{1}, {1}}); });
  };
  constexpr index_t large = index_t{1} << 60;
  refused("there must be 1 to 8 axes but got 0", {.rows = {}, .widths = {}, .join = concatenate, .lookup = axes});
  refused("there must be 1 to 8 axes but got 9", {.rows = shape(9, 1), .widths = shape(9, 1), .join = sum, .lookup = axes});
  refused("there must be one width per axis but got 2 and 1", {.rows = {3, 4}, .widths = {2}, .join = concatenate, .lookup = axes});
  refused("rows must be positive but got 0", {.rows = {3, 0}, .widths = {2, 2}, .join = concatenate, .lookup = axes});
  refused("rows must be positive but got -3", {.rows = {-3, 1}, .widths = {2, 2}, .join = sum, .lookup = digits});
  refused("widths must be positive but got 0", {.rows = {3, 4}, .widths = {2, 0}, .join = concatenate, .lookup = axes});
  refused("widths must be equal where rows are summed but got 2 and 3", {.rows = {3, 4}, .widths = {2, 3}, .join = sum, .lookup = axes});
  refused("the size in bytes must fit in 63 bits but got [1152921504606846976, 2]",
          {.rows = {large, 4}, .widths = {2, 2}, .join = sum, .lookup = axes});
  refused("the size in bytes must fit in 63 bits but got 1152921504606846976 and 1152921504606846976",
          {.rows = {1, 1}, .widths = {large, large}, .join = concatenate, .lookup = axes});
  refused("the size in bytes must fit in 63 bits but got [1152921504606846976, 8]",
          {.rows = {8, large}, .widths = {1, 1}, .join = concatenate, .lookup = digits});

  const axial_learned_options options{.rows = {2, 3}, .widths = {1, 2}, .join = concatenate, .lookup = axes};
  const auto tables = [&](const std::string& text, const std::vector<std::vector<float>>& of) {
    reference::refuses("[axial_learned] " + text, [&] { axial_learned<float>(options, of); });
  };
  tables("there must be one table per axis but got 2 and 0", {});
  tables("there must be one table per axis but got 2 and 3", {{1, 2}, {1, 2, 3, 4, 5, 6}, {}});
  tables("the table of an axis must have rows times width values, with the axis but got 6 and 5 and 1", {{1, 2}, {1, 2, 3, 4, 5}});
  tables("the table of an axis must have rows times width values, with the axis but got 2 and 3 and 0", {{1, 2, 3}, {1, 2, 3, 4, 5, 6}});
  const axial_learned<float> encoder(options);
  reference::refuses("[axial_learned] the axis must have a table but got 2 and 2", [&] { encoder.table(2); });
  reference::refuses("[axial_learned] the axis must have a table but got 2 and -1", [&] { encoder.table(-1); });
}

TEST_CASE("axial_learned refuses what does not fit, before it writes", "[axial_learned][errors]") {
  const axial_learned_options options{.rows = {2, 3}, .widths = {1, 2}, .join = axial_join::concatenate, .lookup = axial_lookup::axes};
  auto by_digits = options;
  by_digits.lookup = axial_lookup::digits;
  const axial_learned<float> grids(options), texts(by_digits);
  auto x = random_tensor<tensor3<float>>(8, 2, 3, 3);
  const auto refused = [&](const std::string& text, const axial_learned<float>& encoder, const positions& at) {
    reference::refuses(x, "[axial_learned] " + text, [&] { encoder.add(x, at); });
    reference::refuses(x, "[axial_learned] " + text, [&] { encoder.encode(at, x); });
  };
  refused("time must match the positions but got 3 and 4", texts, positions::range(4));
  refused("batch must match the positions but got 2 and 1", texts, positions::offsets(std::array{0}, 3));
  refused("the positions must have as many axes as the encoder but got 2 and 1", grids, positions::range(3));
  refused("the positions must have as many axes as the encoder but got 1 and 2", texts,
          positions::multi_axis(std::array{0, 1, 0, 0, 1, 2}, 2));
  const std::string beyond = "positions must lie in the tables, with position, axis and length but got ";
  refused(beyond + "6 and 0 and 6", texts, positions::range(3, 4));
  refused(beyond + "-1 and 0 and 6", texts, positions::offsets(std::array{0, -1}, 3));
  refused(beyond + "2 and 0 and 2", grids, positions::multi_axis(std::array{0, 1, 2, 0, 1, 2}, 2));
  refused(beyond + "3 and 1 and 3", grids, positions::multi_axis(std::array{0, 1, 1, 0, 1, 1, 0, 1, 2, 0, 3, 2}, 2, 2));
  auto wide = random_tensor<tensor3<float>>(9, 2, 3, 4);
  reference::refuses(wide, "[axial_learned] channels must equal dim but got 3 and 4", [&] { texts.add(wide, positions::range(3)); });

  std::array<float, 2> first{1, 2};
  std::array<float, 6> second{3, 4, 5, 6, 7, 8};
  const auto spans = [&](const std::string& text, const positions& at, gradient_spans<float> given) {
    reference::refuses(first, "[axial_learned] " + text, [&] { texts.encode_backward(at, x, given); });
    CHECK(second == std::array<float, 6>{3, 4, 5, 6, 7, 8});
  };
  const std::array<std::span<float>, 2> good{first, second}, exchanged{second, first};
  spans("there must be one gradient span per parameter but got 2 and 1", positions::range(3), gradient_spans<float>(good).first(1));
  spans("the gradient must have the size of the table, with the axis but got 2 and 6 and 0", positions::range(3), exchanged);
  spans(beyond + "6 and 0 and 6", positions::range(3, 4), good);
  spans("time must match the positions but got 3 and 2", positions::range(2), good);
}
