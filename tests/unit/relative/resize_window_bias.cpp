// SPDX-License-Identifier: MIT
#include <posenc/relative/resize_window_bias.hpp>

#include <posenc/learned/resize.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/geometric_resize.hpp"
#include "reference/refuses.hpp"

#include <array>
#include <cmath>
#include <span>
#include <vector>

namespace {

using namespace posenc;
using reference::bit_difference, reference::refuses;
template <class S>
using table = Eigen::Tensor<S, 2, Eigen::RowMajor>;

constexpr auto swin = window_bias_form::swin, maxvit = window_bias_form::maxvit, levit = window_bias_form::levit;
using rule = window_resize_rule;
constexpr rule rules[] = {rule::bilinear, rule::bicubic, rule::bicubic_antialias, rule::geometric_linear, rule::geometric_cubic};

std::array<index_t, 2> shape_of(window_bias_options options, const window_extents& window) {
  options.window = window;
  index_t rows = options.class_rows ? 3 : 0, cells = 1;
  for (const index_t extent : window) cells *= options.form == levit ? extent : 2 * extent - 1;
  rows += cells;
  return options.form == swin ? std::array{rows, index_t{options.heads}} : std::array{index_t{options.heads}, rows};
}
table<double> resized(const table<double>& from, const resize_window_bias_options& options) {
  const auto shape = shape_of(options.from, options.to);
  table<double> to(shape[0], shape[1]);
  to.setConstant(7);
  resize_window_bias(from, options, to);
  return to;
}
table<double> random_table(const window_bias_options& options) {
  const auto shape = shape_of(options, options.window);
  return random_tensor<table<double>>(1, shape[0], shape[1]);
}

}  // namespace

TEST_CASE("resize_window_bias: geometric rules are those of BEiT's code", "[resize_window_bias]") {
  struct {
    window_extents from, to;
  } const cases[] = {{{4, 4}, {7, 7}}, {{5, 3}, {6, 4}}, {{2, 3}, {4, 9}}, {{4, 5}, {3, 2}}, {{1, 4}, {2, 5}}, {{4, 4}, {4, 6}}};
  for (const auto& [from, to] : cases)
    for (const auto form : {swin, maxvit})
      for (const bool cubic : {false, true}) {
        INFO("from " << from[0] << " x " << from[1] << " to " << to[0] << " x " << to[1] << (cubic ? ", cubic" : ", linear"));
        const window_bias_options options{from, 2, form, form == swin};
        const auto old = random_table(options);
        const auto got = resized(old, {options, to, cubic ? rule::geometric_cubic : rule::geometric_linear});
        const auto at = [&](const table<double>& t, index_t row, index_t head) { return form == swin ? t(row, head) : t(head, row); };
        const int height = static_cast<int>(2 * from[0] - 1), width = static_cast<int>(2 * from[1] - 1);
        for (index_t head = 0; head < 2; ++head) {
          std::vector<double> picture, result;
          for (index_t row = 0; row < height * width; ++row) picture.push_back(at(old, row, head));
          const auto expected =
              reference::geometric_resize(picture, height, width, static_cast<int>(2 * to[0] - 1), static_cast<int>(2 * to[1] - 1), cubic);
          for (std::size_t row = 0; row < expected.size(); ++row) result.push_back(at(got, static_cast<index_t>(row), head));
          CHECK(reference::difference(result, expected, 1e-10) == "");
          for (index_t n = 1; form == swin && n <= 3; ++n) CHECK(got(got.dimension(0) - n, head) == old(old.dimension(0) - n, head));
        }
      }
}

TEST_CASE("resize_window_bias: places are in geometric progression and reach the new window", "[resize_window_bias]") {
  const auto places = detail::geometric_places(3, 4);
  const double q = (std::sqrt(13.0) - 1) / 2;  // 1 + q + q^2 = 4
  REQUIRE(places.size() == 4);
  CHECK(places[0] == 0);
  CHECK(places[1] == 1);
  CHECK(std::abs(places[2] - (1 + q)) < 1e-6);
  CHECK(std::abs(places[3] - 4) < 4e-6);
  CHECK(std::abs(detail::geometric_places(2, 9)[2] - 2.5) < 1e-6);   // q at most 1.5
  CHECK(std::abs(detail::geometric_places(2, 2)[2] - 2.01) < 1e-6);  // and at least 1.01
}

TEST_CASE("resize_window_bias: the cubic reproduces cubics, and the middle stays", "[resize_window_bias]") {
  for (const index_t from : {3, 4, 9}) {
    const index_t to = from + from / 2;
    const auto places = detail::geometric_places(from - 1, to - 1);
    const auto cubic = [](double x) { return 0.25 * x * x * x - x * x + 3 * x + 0.5; };
    const window_bias_options options{{from}, 1, swin};
    table<double> old(2 * from - 1, 1);
    for (index_t n = 1 - from; n < from; ++n) {
      const double place = places[static_cast<std::size_t>(std::abs(n))];
      old(n + from - 1, 0) = cubic(n < 0 ? -place : place);
    }
    const auto got = resized(old, {options, {to}, rule::geometric_cubic});
    for (index_t n = 1 - to; n < to; ++n) {
      const double at = std::clamp(static_cast<double>(n), -places.back(), places.back());
      CHECK(std::abs(got(n + to - 1, 0) - cubic(at)) < 1e-11 * std::pow(static_cast<double>(to), 3));
    }
    CHECK(got(to - 1, 0) == old(from - 1, 0));
  }
}

TEST_CASE("resize_window_bias: the other rules are those of resize", "[resize_window_bias]") {
  for (const auto one : {rule::bilinear, rule::bicubic, rule::bicubic_antialias})
    for (const auto& to : {window_extents{4, 6}, window_extents{2, 2}}) {
      const window_bias_options options{{3, 4}, 2, swin, true};
      const auto old = random_table(options);
      auto expected = resized(old, {options, to, rule::bilinear});
      resize(old,
             resize_grid_options{.from = {5, 7},
                                 .to = {2 * to[0] - 1, 2 * to[1] - 1},
                                 .filter = one == rule::bilinear ? grid_filter::bilinear : grid_filter::bicubic,
                                 .align_corners = false,
                                 .antialias = one == rule::bicubic_antialias,
                                 .suffix = 3},
             expected);
      CHECK(reference::difference(resized(old, {options, to, one}), expected, 1e-14) == "");
      // LeViT's tables have the cells themselves, head by head.
      const window_bias_options cells{{3, 4}, 1, levit};
      const auto offsets = random_table(cells);
      const Eigen::array<index_t, 2> one_column{12, 1};
      table<double> column = offsets.reshape(one_column), to_column(to[0] * to[1], 1);
      resize(column,
             resize_grid_options{.from = {3, 4},
                                 .to = {to[0], to[1]},
                                 .filter = one == rule::bilinear ? grid_filter::bilinear : grid_filter::bicubic,
                                 .align_corners = false,
                                 .antialias = one == rule::bicubic_antialias},
             to_column);
      CHECK(reference::difference(resized(offsets, {cells, to, one}), to_column, 1e-14) == "");
    }
}

TEST_CASE("resize_window_bias: a window of the same size keeps its table, by every rule", "[resize_window_bias]") {
  for (const auto one : rules) {
    const window_bias_options options{{2, 3, 1}, 3, swin, true};
    const auto old = random_table(options);
    CHECK(bit_difference(resized(old, {options, {2, 3, 1}, one}), old) == "");
  }
}

TEST_CASE("resize_window_bias_backward is the derivative", "[resize_window_bias]") {
  const window_bias_options forms[] = {
      {{2, 3}, 2, swin, true}, {{2, 3}, 2, maxvit}, {{2, 3}, 2, levit}, {{2, 1, 3}, 1, swin}, {{4}, 2, maxvit}};
  for (const auto& options : forms)
    for (const auto one : rules) {
      if (options.form == levit && (one == rule::geometric_linear || one == rule::geometric_cubic)) continue;
      auto to = options.window;
      for (index_t& extent : to) extent += extent > 1 ? 2 : 1;
      const resize_window_bias_options all{options, to, one};
      auto old = random_table(options);
      const auto shape = shape_of(options, to);
      const auto weights = random_tensor<table<double>>(2, shape[0], shape[1]);
      table<double> d = old;  // it is added to
      resize_window_bias_backward(weights, all, d);
      d -= old;
      const auto derivatives = reference::derivatives(
          {old.data(), static_cast<std::size_t>(old.size())}, [&] { return reference::dot(weights, resized(old, all)); }, 0.5);
      CHECK(reference::difference(d, derivatives, 1e-12) == "");
    }
}

TEST_CASE("resize_window_bias rounds once", "[resize_window_bias]") {
  const window_bias_options options{{3, 3}, 1, maxvit};
  const auto old = random_table(options);
  const resize_window_bias_options all{options, {4, 4}, rule::geometric_cubic};
  const auto exact = resized(old, all);
  table<float> single(1, 49);
  table<Eigen::bfloat16> half(1, 49);
  resize_window_bias(old, all, single);
  resize_window_bias(old, all, half);
  for (index_t n = 0; n < 49; ++n) {
    REQUIRE(single(0, n) == static_cast<float>(exact(0, n)));
    REQUIRE(std::abs(static_cast<double>(static_cast<float>(half(0, n))) - exact(0, n)) <= std::abs(exact(0, n)) * 0x1p-8);
  }
}

TEST_CASE("resize_window_bias refuses what does not fit, and writes nothing", "[resize_window_bias]") {
  const window_bias_options options{{2, 2}, 1, swin};
  table<double> nine(9, 1), ten(10, 1), large(25, 1);
  nine.setRandom(), large.setRandom();
  const auto refused = [&](const std::string& text, const resize_window_bias_options& all) {
    refuses(large, "[resize_window_bias] " + text, [&] { resize_window_bias(nine, all, large); });
    refuses(nine, "[resize_window_bias_backward] " + text, [&] { resize_window_bias_backward(large, all, nine); });
  };
  refused("both windows must have the same axes but got 2 and 1", {options, {3}, rule::bilinear});
  refused("the extents of a window must be positive but got 0", {options, {3, 0}, rule::bilinear});
  refused("there must be 1 to 8 axes but got 0", {options, {}, rule::bilinear});
  refused("heads must be positive but got 0", {{{2, 2}, 0, swin}, {3, 3}, rule::bilinear});
  refused("class rows go with the form swin", {{{2, 2}, 1, maxvit, true}, {3, 3}, rule::bilinear});
  refused("geometric rules need differences of both signs: not the form levit", {{{2, 2}, 1, levit}, {3, 3}, rule::geometric_linear});
  refused("geometric rules need differences of both signs: not the form levit", {{{2, 2}, 1, levit}, {3, 3}, rule::geometric_cubic});
  refused("the old table must have the shape of its window but got [15, 1] and [9, 1]", {{{2, 3}, 1, swin}, {3, 3}, rule::bilinear});
  refused("the old table must have the shape of its window but got [12, 1] and [9, 1]", {{{2, 2}, 1, swin, true}, {3, 3}, rule::bilinear});
  refused("the new table must have the shape of its window but got [15, 1] and [25, 1]", {options, {2, 3}, rule::bilinear});
  const tensor_view<double, 2> apart(large.data(), {25, 1}, {0, 1});
  refuses(large, "[resize_window_bias] the elements of an output must be distinct, with strides that nest but got [0, 1]",
          [&] { resize_window_bias(nine, {options, {3, 3}, rule::bilinear}, apart); });
}
