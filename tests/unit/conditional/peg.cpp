// SPDX-License-Identifier: MIT
#include <posenc/conditional/peg.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "random_parameters.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using reference::bit_difference, reference::difference, reference::refuses;
template <class T>
using tensor3 = Eigen::Tensor<T, 3, Eigen::RowMajor>;
using kernel_of = std::vector<index_t>;

constexpr auto none = no_position;
constexpr index_t dim_ = 5;

template <class S>
peg<S> encoder_of(const peg_options& options, std::uint64_t seed = 1) {
  return with_random_parameters(peg<S>(options), seed);
}

template <class T>
tensor3<T> random_tokens(std::uint64_t seed, index_t batch, index_t time, index_t dim = dim_) {
  return random_tensor<tensor3<compute_t<T>>>(seed, batch, time, dim).template cast<T>();
}

struct place {
  std::string name;
  peg_options options;
  positions at;
};

positions picture(index_t height, index_t width, index_t prefix = 0) {
  return grid_positions({.extents = {height, width}, .order = grid_order::slowest_first, .prefix = prefix});
}
/// A picture of 4 by 5 for each of two rows, of which the last column of one and a few cells of the other are padding, behind one token.
positions masked_pictures() {
  std::vector<position> rows, columns;
  for (const index_t b : {0, 1}) {
    rows.push_back(none), columns.push_back(none);
    for (index_t n = 0; n < 20; ++n) {
      const bool real = b == 0 ? n % 5 != 4 : n != 0 && n != 7 && n != 19;
      rows.push_back(real ? n / 5 + 3 : none), columns.push_back(real ? n % 5 - 2 : none);
    }
  }
  rows.insert(rows.end(), columns.begin(), columns.end());
  return positions::multi_axis(rows, 2, 2);
}

std::vector<place> places() {
  const peg_options line{.dim = dim_, .kernel = kernel_of{3}}, wide{.dim = dim_, .kernel = kernel_of{5}};
  const peg_options flat{.dim = dim_, .kernel = kernel_of{3, 5}}, deep{.dim = dim_, .kernel = kernel_of{3, 1, 3}};
  const auto with = [](peg_options options, peg_padding padding, peg_activation activation = peg_activation::none) {
    options.padding = padding, options.activation = activation;
    return options;
  };
  const positions documents = positions::packed(std::array{0, 4, 5, 11});
  const positions holes = positions::ids(std::array<position, 18>{none, 0, 1, none, 3, 4, none, none, 5,   //
                                                                  0, 1, 2, 3, 7, 8, none, 0, none},
                                         2);
  const positions film = grid_positions({.extents = {2, 3, 4}, .order = grid_order::slowest_first, .prefix = 2, .suffix = 1});
  return {{"a range", line, positions::range(40, 7)},
          {"documents", wide, documents},
          {"holes", wide, holes},
          {"causal", with(wide, peg_padding::causal), positions::range(40)},
          {"causal documents", with(line, peg_padding::causal, peg_activation::gelu), documents},
          {"circular documents", with(line, peg_padding::circular), documents},
          {"circular, wider than the grid", with({.dim = dim_, .kernel = kernel_of{7}}, peg_padding::circular), positions::range(2)},
          {"a picture", flat, picture(4, 6, 1)},
          {"a picture with gelu", with(flat, peg_padding::zero, peg_activation::gelu), picture(4, 6, 1)},
          {"a circular picture", with(flat, peg_padding::circular), picture(4, 3, 2)},
          {"one column", flat, picture(5, 1)},
          {"masked pictures", flat, masked_pictures()},
          {"masked pictures with gelu", with(flat, peg_padding::zero, peg_activation::gelu), masked_pictures()},
          {"a film", deep, film},
          {"a circular film", with(deep, peg_padding::circular), film}};
}

/// What a token's neighbours add to it: each tap looks for the token that stands there.
template <class T, class S>
double expected(peg<S>& encoder, const tensor3<T>& x, const positions& at, index_t b, index_t t, index_t c) {
  const auto before = static_cast<double>(x(b, t, c));
  if (at(b, t) == none) return before;
  const auto& options = encoder.options();
  const std::vector<index_t> kernel = options.kernel;
  const auto all = encoder.parameters();
  const auto taps = static_cast<index_t>(all[0].values.size()) / encoder.dim();
  double sum = static_cast<double>(all[1].values[static_cast<std::size_t>(c)]);
  for (index_t tap = 0; tap < taps; ++tap) {
    std::vector<position> wanted;
    index_t rest = tap;
    for (index_t axis = at.axes(); axis-- > 0; rest /= kernel[static_cast<std::size_t>(axis)]) {
      const index_t size = kernel[static_cast<std::size_t>(axis)];
      const index_t offset = rest % size - (options.padding == peg_padding::causal ? size - 1 : size / 2);
      wanted.insert(wanted.begin(), at(b, t, axis) + offset);
    }
    index_t low = 0, high = at.time();  // where the neighbours of one axis are
    if (at.axes() == 1) {
      const auto same_run = [&](index_t other) {
        for (index_t n = std::min(t, other); n <= std::max(t, other); ++n)
          if (at(b, n) != none && at(b, n) - at(b, t) != n - t) return false;
        return true;
      };
      low = t, high = t + 1;
      while (low > 0 && same_run(low - 1)) --low;
      while (high < at.time() && same_run(high)) ++high;
    }
    if (options.padding == peg_padding::circular)
      for (index_t axis = 0; axis < at.axes(); ++axis) {
        position first = at(b, t, axis), last = first;
        for (index_t n = low; n < high; ++n)
          if (at(b, n) != none) first = std::min(first, at(b, n, axis)), last = std::max(last, at(b, n, axis));
        position& one = wanted[static_cast<std::size_t>(axis)];
        while (one < first) one += last - first + 1;
        while (one > last) one -= last - first + 1;
      }
    for (index_t n = low; n < high; ++n) {
      bool there = at(b, n) != none;
      for (index_t axis = 0; axis < at.axes(); ++axis) there = there && at(b, n, axis) == wanted[static_cast<std::size_t>(axis)];
      if (there) sum += static_cast<double>(all[0].values[static_cast<std::size_t>(c * taps + tap)]) * static_cast<double>(x(b, n, c));
    }
  }
  if (options.activation == peg_activation::gelu) sum *= 0.5 * std::erfc(-sum / std::sqrt(2.0));
  return before + sum;
}

/// Half a unit in the last place of 1.
template <class T>
inline constexpr double rounding = std::same_as<T, double>        ? 0x1p-53
                                   : std::same_as<T, float>       ? 0x1p-24
                                   : std::same_as<T, Eigen::half> ? 0x1p-11
                                                                  : 0x1p-8;

template <class T>
T dot_of(const tensor3<T>& a, const tensor3<T>& b) {
  T sum = 0;
  for (Eigen::Index n = 0; n < a.size(); ++n) sum += a.data()[n] * b.data()[n];
  return sum;
}

template <class S>
std::vector<std::vector<S>> zeros_like(peg<S>& encoder) {
  std::vector<std::vector<S>> all;
  for (const auto& one : encoder.parameters()) all.emplace_back(one.values.size());
  return all;
}
template <class S>
std::array<std::span<S>, 2> spans(std::vector<std::vector<S>>& of) {
  return {std::span(of[0]), std::span(of[1])};
}

}  // namespace

TEMPLATE_TEST_CASE("peg adds to each token what its neighbours say", "[peg]", float, double, Eigen::half, Eigen::bfloat16) {
  using S = compute_t<TestType>;
  for (const auto& [name, options, at] : places()) {
    INFO(name);
    auto encoder = encoder_of<S>(options);
    const auto x = random_tokens<TestType>(3, 2, at.time(), dim_);
    auto got = x;
    encoder.add(got, at);
    double worst = 0;
    for (index_t b = 0; b < 2; ++b)
      for (index_t t = 0; t < at.time(); ++t)
        for (index_t c = 0; c < dim_; ++c)
          worst = std::max(worst, std::abs(static_cast<double>(got(b, t, c)) - expected(encoder, x, at, b, t, c)));
    CHECK(worst <= 16 * rounding<S> + (sizeof(TestType) == 2 ? 4 * rounding<TestType> : 0));  // results are below 4
    Eigen::Tensor<TestType, 3> by_columns = x.swap_layout();
    encoder.add(by_columns, at);
    const tensor3<TestType> back = by_columns.swap_layout();
    CHECK(bit_difference(back, got) == "");
  }
}

TEST_CASE("peg adds the same in the caller's workspace, on several threads, and to each row alone", "[peg]") {
  Eigen::ThreadPool pool(2);
  const Eigen::ThreadPoolDevice device(&pool, 2);
  for (const auto& [name, options, at] : places()) {
    INFO(name);
    peg_options wide = options;
    wide.dim = 150;
    auto encoder = encoder_of<float>(wide);
    const auto x = random_tokens<float>(3, 2, at.time(), 150);
    auto whole = x, own = x, threaded = x;
    encoder.add(whole, at);
    std::vector<float> workspace(static_cast<std::size_t>(encoder.workspace_size(at, 2)) + 1, 7.0f);
    encoder.add(own, at, std::span(workspace).first(workspace.size() - 1));
    CHECK(bit_difference(own, whole) == "");
    CHECK(workspace.back() == 7.0f);
    encoder.add(threaded, at, device);
    CHECK(bit_difference(threaded, whole) == "");
    for (index_t b = 0; b < 2; ++b) {
      tensor3<float> row = x.slice(std::array<index_t, 3>{b, 0, 0}, std::array<index_t, 3>{1, at.time(), 150});
      std::vector<position> ids;
      for (index_t axis = 0; axis < at.axes(); ++axis)
        for (index_t t = 0; t < at.time(); ++t) ids.push_back(at(b, t, axis));
      encoder.add(row, positions::multi_axis(ids, at.axes(), 1));
      const tensor3<float> expected_row = whole.slice(std::array<index_t, 3>{b, 0, 0}, std::array<index_t, 3>{1, at.time(), 150});
      CHECK(bit_difference(row, expected_row) == "");
    }
  }
}

TEST_CASE("large peg inputs are split among threads without a change of a bit", "[peg]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  for (const index_t batch : {1, 5}) {
    auto encoder = encoder_of<float>({.dim = 203, .kernel = kernel_of{3, 3}, .activation = peg_activation::gelu});
    const auto x = random_tokens<float>(3, batch, 26 * 30 + 1, 203), d = random_tokens<float>(4, batch, 26 * 30 + 1, 203);
    const auto at = picture(26, 30, 1);
    auto one = x, several = x, d_one = d, d_several = d;
    encoder.add(one, at);
    encoder.add(several, at, device);
    CHECK(bit_difference(several, one) == "");
    // Each part of the work has its own piece of the workspace: the last ones have too.
    std::vector<float> workspace(static_cast<std::size_t>(encoder.workspace_size(at, batch, device)), -1e30f);
    auto given = x;
    encoder.add(given, at, std::span(workspace), device);
    CHECK(bit_difference(given, one) == "");
    CHECK(std::ranges::any_of(std::span(workspace).subspan(workspace.size() / 4 * 3), [](float value) { return value != -1e30f; }));
    auto parameters_one = zeros_like(encoder), parameters_several = zeros_like(encoder);
    encoder.add_backward(d_one, x, at, spans(parameters_one));
    encoder.add_backward(d_several, x, at, spans(parameters_several), device);
    CHECK(bit_difference(d_several, d_one) == "");
    CHECK(bit_difference(parameters_several[0], parameters_one[0]) == "");
    CHECK(bit_difference(parameters_several[1], parameters_one[1]) == "");
  }
}

TEST_CASE("peg's gradients are the derivatives", "[peg]") {
  for (const auto& [name, options, at] : places()) {
    INFO(name);
    const index_t time = at.time();
    auto encoder = encoder_of<double>(options);
    auto x = random_tokens<double>(3, 2, time);
    const auto d = random_tokens<double>(4, 2, time);
    const auto loss = [&, &at = at] {
      auto y = x;
      encode_embeddings(encoder, y, at);
      return dot_of(y, d);
    };
    auto d_x = d;
    auto d_parameters = zeros_like(encoder);
    encode_embeddings_backward(encoder, d_x, x, at, spans(d_parameters));
    const bool linear = options.activation == peg_activation::none;
    const double tolerance = linear ? 1e-12 : 1e-8, step = linear ? 0.25 : 1e-4;
    CHECK(difference(d_x, reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, step), tolerance) == "");
    for (std::size_t n = 0; n < 2; ++n)
      CHECK(difference(d_parameters[n], reference::derivatives(encoder.parameters()[n].values, loss, step), tolerance) == "");
  }
}

TEST_CASE("gradients of parameters are added to", "[peg]") {
  auto encoder = encoder_of<double>({.dim = dim_, .kernel = kernel_of{3}});
  const auto x = random_tokens<double>(3, 2, 9), d = random_tokens<double>(4, 2, 9);
  auto once = zeros_like(encoder), twice = zeros_like(encoder);
  for (auto& all : twice) std::ranges::fill(all, 3.0);
  auto first = d, second = d;
  encoder.add_backward(first, x, positions::range(9), spans(once));
  encoder.add_backward(second, x, positions::range(9), spans(twice));
  for (std::size_t n = 0; n < 2; ++n)
    for (std::size_t i = 0; i < once[n].size(); ++i) CHECK(std::abs(twice[n][i] - once[n][i] - 3) <= 1e-14);
}

TEST_CASE("gradients of 16-bit tokens are rounded once", "[peg]") {
  for (const auto activation : {peg_activation::none, peg_activation::gelu}) {
    auto encoder = encoder_of<float>({.dim = dim_, .kernel = kernel_of{3, 3}, .activation = activation});
    const auto x = random_tokens<Eigen::bfloat16>(3, 2, 21), d = random_tokens<Eigen::bfloat16>(4, 2, 21);
    const tensor3<float> wide = x.cast<float>();
    tensor3<float> d_wide = d.cast<float>();
    auto d_x = d;
    auto parameters = zeros_like(encoder), parameters_wide = zeros_like(encoder);
    encoder.add_backward(d_x, x, picture(4, 5, 1), spans(parameters));
    encoder.add_backward(d_wide, wide, picture(4, 5, 1), spans(parameters_wide));
    const tensor3<Eigen::bfloat16> rounded = d_wide.cast<Eigen::bfloat16>();
    CHECK(bit_difference(d_x, rounded) == "");
    for (std::size_t n = 0; n < 2; ++n) CHECK(bit_difference(parameters[n], parameters_wide[n]) == "");
  }
}

TEST_CASE("a stream has the bits of the whole, in any pieces", "[peg]") {
  const std::vector<std::vector<position>> rows{
      {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11},
      {none, none, 0, 1, 2, none, 4, 5, none, 0, 1, none},
      {0, 0, 1, 2, 0, 1, 2, 3, none, none, none, none},
  };
  std::vector<position> ids;
  for (const auto& row : rows) ids.insert(ids.end(), row.begin(), row.end());
  const auto at = positions::ids(ids, 3);
  random_numbers random(5);
  for (const index_t size : {1, 3, 7})
    for (const auto activation : {peg_activation::none, peg_activation::gelu})
      for (int trial = 0; trial < 12; ++trial) {
        auto encoder =
            encoder_of<float>({.dim = dim_, .kernel = kernel_of{size}, .padding = peg_padding::causal, .activation = activation});
        const auto x = random_tokens<Eigen::half>(3, 3, 12);
        auto whole = x, streamed = x;
        encoder.add(whole, at);
        tensor3<Eigen::half> frames(3, size - 1, dim_);
        frames.setZero();
        std::vector<position> next(3, 0);
        for (index_t from = 0, n; from < 12; from += n) {
          n = std::min<index_t>(12 - from, trial == 0 ? 1 : static_cast<index_t>(random.integer(1, 9)));
          const token_view<Eigen::half> piece(&streamed(0, from, 0), {3, n, dim_}, {12 * dim_, dim_, 1});
          encoder.stream(piece, {.frames = frames, .next = next}, at.slice(from, n));
        }
        CHECK(bit_difference(streamed, whole) == "");
        CHECK(next == std::vector<position>{12, 3, 8});
      }
}

TEST_CASE("a state holds the last tokens", "[peg]") {
  auto encoder = encoder_of<float>({.dim = 1, .kernel = kernel_of{3}, .padding = peg_padding::causal});
  std::vector<float> x{1, 2, 3}, frames{0, 0};
  std::vector<position> next{0};
  encoder.stream(token_view<float>(x.data(), {1, 3, 1}), {token_view<float>(frames.data(), {1, 2, 1}), next}, positions::range(3));
  CHECK(frames == std::vector<float>{2, 3});
  CHECK(next[0] == 3);
}

TEST_CASE("padding alone does not begin a stream", "[peg]") {
  auto encoder = encoder_of<float>({.dim = 1, .kernel = kernel_of{3}, .padding = peg_padding::causal});
  std::vector<float> x{1, 2}, frames{0, 0};
  std::vector<position> next{0};
  encoder.stream(token_view<float>(x.data(), {1, 2, 1}), {token_view<float>(frames.data(), {1, 2, 1}), next},
                 positions::ids(std::vector<position>{none, none}));
  CHECK(x == std::vector<float>{1, 2});
  CHECK(frames == std::vector<float>{0, 0});
  CHECK(next[0] == 0);
}

TEST_CASE("convolve is add where the stride is 1, and keeps what is masked", "[peg]") {
  const grid cells{.extents = {4, 5}, .order = grid_order::slowest_first, .prefix = 1};
  const auto at = masked_pictures();
  Eigen::Tensor<int, 2, Eigen::RowMajor> tokens(2, 21), inner(2, 20);
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 21; ++t) {
      tokens(b, t) = at(b, t) != none;
      if (t > 0) inner(b, t - 1) = tokens(b, t) * 5;
    }
  for (const auto activation : {peg_activation::none, peg_activation::gelu}) {
    auto encoder = encoder_of<double>({.dim = dim_, .kernel = kernel_of{3, 3}, .activation = activation});
    const auto x = random_tokens<double>(3, 2, 21);
    auto added = x, out = x, in_place = x;
    encoder.add(added, at);
    out.setConstant(9);
    encoder.convolve(x, out, cells, tokens);
    CHECK(bit_difference(out, added) == "");
    encoder.convolve(in_place, in_place, cells, inner);
    CHECK(bit_difference(in_place, added) == "");

    const auto d = random_tokens<double>(4, 2, 21);
    auto by_add = d, by_convolve = d;
    auto one = zeros_like(encoder), other = zeros_like(encoder);
    encoder.add_backward(by_add, x, at, spans(one));
    by_convolve.setConstant(9);
    encoder.convolve_backward(d, x, by_convolve, cells, inner, spans(other));
    CHECK(bit_difference(by_convolve, by_add) == "");
    CHECK(bit_difference(other[0], one[0]) == "");
    CHECK(bit_difference(other[1], one[1]) == "");
  }
}

TEST_CASE("without residual, gradients are less by those of the tokens themselves", "[peg]") {
  const grid cells{.extents = {4, 5}, .order = grid_order::slowest_first, .prefix = 1};
  const peg_options options{.dim = dim_, .kernel = kernel_of{3, 3}, .residual = false};
  auto with = encoder_of<double>({.dim = dim_, .kernel = kernel_of{3, 3}}), without = encoder_of<double>(options);
  const auto x = random_tokens<double>(3, 2, 21), d = random_tokens<double>(4, 2, 21);
  auto d_with = x, d_without = x;
  auto one = zeros_like(with), other = zeros_like(without);
  with.convolve_backward(d, x, d_with, cells, spans(one));
  without.convolve_backward(d, x, d_without, cells, spans(other));
  double worst = 0;
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 21; ++t)
      for (index_t c = 0; c < dim_; ++c)
        worst = std::max(worst, std::abs(d_with(b, t, c) - d_without(b, t, c) - (t == 0 ? 0 : d(b, t, c))));
  CHECK(worst < 1e-14);
  CHECK(bit_difference(other[0], one[0]) == "");
}

TEST_CASE("a strided convolution takes every second output, and its gradients are the derivatives", "[peg]") {
  const grid cells{.extents = {6, 4}, .order = grid_order::slowest_first, .prefix = 1, .suffix = 2};
  Eigen::Tensor<int, 2, Eigen::RowMajor> mask(2, 24);
  for (index_t n = 0; n < 48; ++n) mask.data()[n] = n % 7 != 3;
  for (const auto padding : {peg_padding::zero, peg_padding::circular})
    for (const auto activation : {peg_activation::none, peg_activation::gelu}) {
      INFO("padding " << static_cast<int>(padding) << " activation " << static_cast<int>(activation));
      if (padding == peg_padding::circular) mask.setConstant(1);
      const peg_options options{.dim = dim_, .kernel = kernel_of{3, 5}, .padding = padding, .activation = activation, .residual = false};
      peg_options with_stride = options;
      with_stride.stride = {3, 2};
      auto encoder = encoder_of<double>(with_stride), full = encoder_of<double>(options);
      auto x = random_tokens<double>(3, 2, 27);
      tensor3<double> out(2, 2 * 2 + 3, dim_), whole(2, 27, dim_);
      encoder.convolve(x, out, cells, mask);
      full.convolve(x, whole, cells, mask);
      for (index_t b = 0; b < 2; ++b)
        for (index_t c = 0; c < dim_; ++c) {
          CHECK(out(b, 0, c) == x(b, 0, c));
          CHECK(out(b, 5, c) == x(b, 25, c));
          CHECK(out(b, 6, c) == x(b, 26, c));
          for (index_t i = 0; i < 2; ++i)
            for (index_t j = 0; j < 2; ++j)
              if (mask(b, i * 12 + j * 2)) CHECK(out(b, 1 + i * 2 + j, c) == whole(b, 1 + i * 12 + j * 2, c));
        }
      const auto d = random_tokens<double>(4, 2, 7);
      const auto loss = [&] {
        encoder.convolve(x, out, cells, mask);
        return dot_of(out, d);
      };
      auto d_x = x;
      auto d_parameters = zeros_like(encoder);
      encoder.convolve_backward(d, x, d_x, cells, mask, spans(d_parameters));
      CHECK(difference(d_x, reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, 1e-4), 1e-8) == "");
      for (std::size_t n = 0; n < 2; ++n)
        CHECK(difference(d_parameters[n], reference::derivatives(encoder.parameters()[n].values, loss, 1e-4), 1e-8) == "");
    }
}

TEST_CASE("peg by hand", "[peg]") {
  std::vector<float> x{1, 2, 4};
  const auto add = [&](peg_padding padding) {
    auto y = x;
    peg<float>({.dim = 1, .kernel = kernel_of{3}, .padding = padding}, {10, 100, 1000}, {0.5f})
        .add(token_view<float>(y.data(), {1, 3, 1}), positions::range(3));
    return y;
  };
  CHECK(add(peg_padding::zero) == std::vector<float>{2101.5f, 4212.5f, 424.5f});
  CHECK(add(peg_padding::circular) == std::vector<float>{2141.5f, 4212.5f, 1424.5f});
  CHECK(add(peg_padding::causal) == std::vector<float>{1001.5f, 2102.5f, 4214.5f});
}

TEST_CASE("a filter of the token alone doubles it", "[peg]") {
  for (const auto padding : {peg_padding::zero, peg_padding::circular}) {
    std::vector<float> weight(9 * dim_, 0.0f);
    for (std::size_t c = 0; c < dim_; ++c) weight[9 * c + 4] = 1;
    const peg<float> encoder({.dim = dim_, .kernel = kernel_of{3, 3}, .padding = padding}, weight, std::vector<float>(dim_));
    const auto x = random_tokens<float>(3, 2, 12);
    auto y = x;
    encoder.add(y, picture(3, 4));
    const tensor3<float> twice = x * 2.0f;
    CHECK(bit_difference(y, twice) == "");
  }
}

TEST_CASE("only the border tells where a token stands", "[peg]") {
  // All tokens alike: in the middle so are the results; at a border of zeros they are not, and on a circle there is none.
  for (const auto padding : {peg_padding::zero, peg_padding::circular}) {
    const auto encoder = encoder_of<double>({.dim = dim_, .kernel = kernel_of{3, 3}, .padding = padding});
    tensor3<double> x(1, 30, dim_);
    x.setConstant(1);
    encoder.add(x, picture(5, 6));
    CHECK(x(0, 7, 0) == x(0, 15, 0));
    CHECK((x(0, 0, 0) == x(0, 15, 0)) == (padding == peg_padding::circular));
    CHECK((x(0, 3, 0) == x(0, 15, 0)) == (padding == peg_padding::circular));
    CHECK((x(0, 12, 0) == x(0, 15, 0)) == (padding == peg_padding::circular));
  }
}

TEST_CASE("a shifted picture gives a shifted result, but for the border", "[peg]") {
  const auto encoder = encoder_of<double>({.dim = 1, .kernel = kernel_of{3, 3}});
  const auto x = random_tokens<double>(3, 1, 48, 1);
  tensor3<double> shifted(1, 48, 1), y = x;
  for (index_t i = 0; i < 6; ++i)
    for (index_t j = 0; j < 8; ++j) shifted(0, i * 8 + j, 0) = x(0, (i + 5) % 6 * 8 + (j + 7) % 8, 0);
  encoder.add(y, picture(6, 8));
  encoder.add(shifted, picture(6, 8));
  for (index_t i = 2; i < 5; ++i)
    for (index_t j = 2; j < 7; ++j) CHECK(shifted(0, i * 8 + j, 0) == y(0, (i - 1) * 8 + j - 1, 0));
  CHECK(shifted(0, 9, 0) != y(0, 0, 0));
}

TEST_CASE("a causal token knows nothing of later ones, and masked ones do not leak", "[peg]") {
  const auto causal = encoder_of<float>({.dim = dim_, .kernel = kernel_of{5}, .padding = peg_padding::causal});
  const auto x = random_tokens<float>(3, 1, 20);
  auto y = x, changed = x;
  changed(0, 11, 2) += 1;
  causal.add(y, positions::range(20));
  causal.add(changed, positions::range(20));
  for (index_t t = 0; t < 20; ++t) CHECK((changed(0, t, 2) == y(0, t, 2)) == (t < 11 || t > 15));

  const auto encoder = encoder_of<float>({.dim = dim_, .kernel = kernel_of{3, 5}});
  const auto at = masked_pictures();
  auto masked = random_tokens<float>(4, 2, 21);
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 21; ++t)
      if (at(b, t) == none) masked(b, t, 1) = std::numeric_limits<float>::quiet_NaN();
  encoder.add(masked, at);
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 21; ++t) CHECK(std::isnan(masked(b, t, 1)) == (at(b, t) == none));
}

TEST_CASE("nothing is done to empty tensors, or where no token has a position", "[peg]") {
  const auto encoder = encoder_of<float>({.dim = dim_, .kernel = kernel_of{3, 3}});
  tensor3<float> no_batch(0, 6, dim_), no_time(2, 0, dim_);
  encoder.add(no_batch, picture(2, 3));
  encoder.add(no_time, positions::multi_axis(std::vector<position>{}, 2));
  const auto x = random_tokens<float>(3, 1, 2);
  auto y = x;
  encoder.add(y, positions::multi_axis(std::vector<position>(4, none), 2));
  CHECK(bit_difference(y, x) == "");
}

TEST_CASE("peg starts as Twins does", "[peg]") {
  peg<float> encoder({.dim = 400, .kernel = kernel_of{3, 3}});
  random_source random(7);
  initialize_peg(encoder, random);
  const auto all = encoder.parameters();
  double squares = 0;
  for (const float w : all[0].values) squares += static_cast<double>(w) * static_cast<double>(w);
  CHECK(std::abs(squares / 3600 - 2.0 / 9) <= 0.02);
  CHECK(std::ranges::all_of(encoder.parameters()[1].values, [](float b) { return b == 0; }));
  CHECK(encoder.parameters()[0].name == "weight");
  CHECK(encoder.parameters()[0].shape == std::vector<index_t>{400, 1, 3, 3});
  CHECK(encoder.parameters()[1].name == "bias");
  CHECK(encoder.parameters()[1].shape == std::vector<index_t>{400});
}

TEST_CASE("peg encoders are equal where options and values are", "[peg]") {
  const peg_options options{.dim = dim_, .kernel = kernel_of{3}};
  const auto one = encoder_of<float>(options);
  CHECK(one == encoder_of<float>(options));
  CHECK_FALSE(one == encoder_of<float>(options, 2));
  CHECK_FALSE(one == encoder_of<float>({.dim = dim_, .kernel = kernel_of{3}, .padding = peg_padding::circular}));
  auto other = one;
  other.parameters()[1].values[0] += 1;
  CHECK_FALSE(one == other);
}

TEST_CASE("peg refuses options that do not fit together", "[peg]") {
  const auto made = [](const peg_options& options) { return [=] { const peg<float> encoder(options); }; };
  refuses("[peg] dim must be positive but got 0", made({.dim = 0, .kernel = kernel_of{3}}));
  refuses("[peg] there must be a kernel for each of 1 to 3 axes but got 0", made({.dim = 4, .kernel = kernel_of{}}));
  refuses("[peg] there must be a kernel for each of 1 to 3 axes but got 4", made({.dim = 4, .kernel = kernel_of{1, 1, 1, 1}}));
  refuses("[peg] kernels must be odd but got 4", made({.dim = 4, .kernel = kernel_of{3, 4}}));
  refuses("[peg] kernels must be odd but got -1", made({.dim = 4, .kernel = kernel_of{-1}}));
  refuses("[peg] kernels of all axes but the last must multiply to at most 256 but got 289",
          made({.dim = 4, .kernel = kernel_of{17, 17, 1}}));
  refuses("[peg] causal padding needs one axis but got 2", made({.dim = 4, .kernel = kernel_of{3, 3}, .padding = peg_padding::causal}));
  refuses("[peg] there must be a stride for each axis but got 2 and 1", made({.dim = 4, .kernel = kernel_of{3, 3}, .stride = {1}}));
  refuses("[peg] strides must be positive but got 0", made({.dim = 4, .kernel = kernel_of{3}, .stride = {0}}));
  refuses("[peg] a residual needs stride 1 but got 2", made({.dim = 4, .kernel = kernel_of{3}, .stride = {2}}));
  refuses("[peg] the size in bytes must fit in 63 bits but got [4611686018427387904, 3]",
          made({.dim = index_t{1} << 62, .kernel = kernel_of{3}}));
  const peg_options options{.dim = 4, .kernel = kernel_of{3, 3}};
  refuses("[peg] the weight must have dim times kernel values but got 36 and 35",
          [&] { const peg<float> encoder(options, std::vector<float>(35), std::vector<float>(4)); });
  refuses("[peg] the bias must have dim values but got 4 and 9",
          [&] { const peg<float> encoder(options, std::vector<float>(36), std::vector<float>(9)); });
}

TEST_CASE("peg refuses tokens and positions that do not fit, before it writes", "[peg]") {
  const auto encoder = encoder_of<float>({.dim = dim_, .kernel = kernel_of{3, 3}});
  auto x = random_tokens<float>(3, 2, 6);
  const auto add = [&](const positions& at) { return [&, at] { encoder.add(x, at); }; };
  const std::string order = "[peg] tokens must stand in row-major order of a grid, with token and position on axis but got ";
  refuses(x, "[peg] time must match the positions but got 6 and 8", add(picture(2, 4)));
  refuses(x, "[peg] the positions must have as many axes as the encoder but got 2 and 1", add(positions::range(6)));
  refuses(x, "[peg] batch must match the positions but got 2 and 3", add(positions::multi_axis(std::vector<position>(36, 0), 2, 3)));
  refuses(x, order + "2 and 0 and 0", add(positions::multi_axis(std::vector<position>{0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 1, 2}, 2)));
  refuses(x, order + "3 and 7 and 0", add(positions::multi_axis(std::vector<position>{0, 0, 0, 7, 7, 7, 0, 1, 2, 0, 1, 2}, 2)));
  refuses(x, order + "1 and " + std::to_string(positions::limit) + " and 1",
          add(positions::multi_axis(
              std::vector<position>{0, 0, none, none, none, none, -positions::limit, positions::limit, none, none, none, none}, 2)));
  // The fastest axis first.
  refuses(x, order + "1 and 1 and 0", add(positions::multi_axis(std::vector<position>{0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 1, 1}, 2)));
  auto narrow = random_tokens<float>(3, 2, 6, 4);
  refuses(narrow, "[peg] channels must equal dim but got 5 and 4", [&] { encoder.add(narrow, picture(2, 3)); });
  const token_view<float> same(x.data(), {2, 6, dim_}, {0, dim_, 1}), apart(x.data(), {1, 6, dim_}, {0, dim_, 2});
  refuses(x, "[peg] the elements of an output must be distinct, with strides that nest but got [0, 5, 1]",
          [&] { encoder.add(same, picture(2, 3)); });
  refuses(x, "[peg] the last axis must be contiguous but got 2", [&] { encoder.add(apart, picture(2, 3)); });

  const index_t needed = encoder.workspace_size(picture(2, 3), 2);
  std::vector<float> workspace(static_cast<std::size_t>(needed - 1));
  refuses(x, "[peg] the workspace must have workspace_size values but got " + std::to_string(needed) + " and " + std::to_string(needed - 1),
          [&] { encoder.add(x, picture(2, 3), std::span<float>(workspace)); });
  refuses("[peg] batch must match the positions but got 3 and 2",
          [&] { encoder.workspace_size(positions::multi_axis(std::vector<position>(24, 0), 2, 2), 3); });
  refuses("[peg] the positions must have as many axes as the encoder but got 2 and 1",
          [&] { encoder.workspace_size(positions::range(6), 2); });

  const auto bare = encoder_of<float>({.dim = dim_, .kernel = kernel_of{3, 3}, .residual = false});
  refuses(x, "[peg] only an encoder with residual can add but got residual = false", [&] { bare.add(x, picture(2, 3)); });
  const auto circular = encoder_of<float>({.dim = dim_, .kernel = kernel_of{3, 3}, .padding = peg_padding::circular});
  refuses(x, "[peg] a circular grid must have a token on every cell but got [1, 2, 3]",
          [&] { circular.add(x, positions::multi_axis(std::vector<position>{0, none, 0, 1, 1, 1, 0, none, 2, 0, 1, 2}, 2)); });
  const auto causal = encoder_of<float>({.dim = dim_, .kernel = kernel_of{3}, .padding = peg_padding::causal});
  refuses(x, "[peg] a causal run must begin at position 0, or where the state of a stream ends but got 4 and 0",
          [&] { causal.add(x, positions::range(6, 4)); });
}

TEST_CASE("peg refuses states and gradients that do not fit, before it writes", "[peg]") {
  const auto causal = encoder_of<float>({.dim = dim_, .kernel = kernel_of{3}, .padding = peg_padding::causal});
  auto x = random_tokens<float>(3, 2, 6);
  tensor3<float> frames(2, 2, dim_), wide(2, 3, dim_);
  frames.setZero();
  std::vector<position> next(2, 0), one(1, 0);
  const auto at = positions::range(6);
  refuses(x, "[peg] the state must be [batch, kernel - 1, dim] but got [2, 2, 5] and [2, 3, 5]",
          [&] { causal.stream(x, {.frames = wide, .next = next}, at); });
  refuses(x, "[peg] the state must have one next position per row but got 2 and 1",
          [&] { causal.stream(x, {.frames = frames, .next = one}, at); });
  refuses(x, "[peg] the state must not overlap the tokens but got [2, 2, 5] and [2, 6, 5]",
          [&] { causal.stream(x, {.frames = token_view<float>(x.data(), {2, 2, dim_}), .next = next}, at); });
  const std::string begins = "[peg] a causal run must begin at position 0, or where the state of a stream ends but got ";
  refuses(x, begins + "2 and 0", [&] { causal.stream(x, {.frames = frames, .next = next}, positions::range(6, 2)); });
  const std::vector<position> cut{none, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5};  // 0 is where it begins, not where it goes on
  refuses(x, begins + "1 and 0", [&] { causal.stream(x, {.frames = frames, .next = next}, positions::ids(cut, 2)); });
  next = {0, 3};
  refuses(x, begins + "2 and 3", [&] { causal.stream(x, {.frames = frames, .next = next}, positions::offsets(std::array{0, 2}, 6)); });
  CHECK(next == std::vector<position>{0, 3});
  const auto zero = encoder_of<float>({.dim = dim_, .kernel = kernel_of{3}});
  refuses(x, "[peg] only a causal encoder can stream but got another padding",
          [&] { zero.stream(x, {.frames = frames, .next = next}, at); });

  auto encoder = encoder_of<float>({.dim = dim_, .kernel = kernel_of{3}});
  auto d = random_tokens<float>(4, 2, 6);
  const auto shorter = random_tokens<float>(4, 2, 5);
  auto d_parameters = zeros_like(encoder);
  refuses(d, "[peg] the gradient must have the shape of the tokens but got [2, 5, 5] and [2, 6, 5]",
          [&] { encoder.add_backward(d, shorter, at, spans(d_parameters)); });
  refuses(d, "[peg] the gradient must not overlap the tokens but got [2, 6, 5] and [2, 6, 5]",
          [&] { encoder.add_backward(d, d, at, spans(d_parameters)); });
  refuses(d, "[peg] there must be one gradient span per parameter but got 2 and 1",
          [&] { encoder.add_backward(d, x, at, std::array{std::span(d_parameters[0])}); });
  refuses(d, "[peg] the gradient must have the size of the weight but got 15 and 5",
          [&] { encoder.add_backward(d, x, at, std::array{std::span(d_parameters[1]), std::span(d_parameters[1])}); });
  refuses(d, "[peg] the gradient must have the size of the bias but got 5 and 15",
          [&] { encoder.add_backward(d, x, at, std::array{std::span(d_parameters[0]), std::span(d_parameters[0])}); });
}

TEST_CASE("peg refuses grids and masks that do not fit, before it writes", "[peg]") {
  auto encoder = encoder_of<float>({.dim = dim_, .kernel = kernel_of{3, 3}, .residual = false, .stride = {2, 2}});
  const auto x = random_tokens<float>(3, 2, 7);
  auto out = random_tokens<float>(4, 2, 3), d_x = random_tokens<float>(5, 2, 7);
  const grid cells{.extents = {2, 3}, .order = grid_order::slowest_first, .prefix = 1};
  Eigen::Tensor<int, 2, Eigen::RowMajor> mask(2, 5);
  mask.setConstant(1);
  refuses(out, "[peg] the grid must have as many axes as the encoder but got 2 and 1",
          [&] { encoder.convolve(x, out, {.extents = {6}, .order = grid_order::slowest_first, .prefix = 1}); });
  refuses(out, "[peg] the cells must not stand in blocks but got 2",
          [&] { encoder.convolve(x, out, {.extents = {2, 3}, .order = grid_order::slowest_first, .prefix = 1, .block = {2, 1}}); });
  refuses(out, "[peg] prefix, cells and suffix must add up to time but got 7 and 6",
          [&] { encoder.convolve(x, out, {.extents = {2, 3}, .order = grid_order::slowest_first}); });
  refuses(out, "[peg] the mask must be [batch, time] or [batch, cells] but got [2, 5] and 2 and 7 and 6",
          [&] { encoder.convolve(x, out, cells, mask); });
  refuses(out, "[peg] the output must have the strided grid's shape but got [2, 3, 5] and [2, 7, 5]",
          [&] { encoder.convolve(x, d_x, cells); });
  const auto narrow = random_tokens<float>(3, 2, 7, 4);
  refuses(out, "[peg] channels must equal dim but got 5 and 4", [&] { encoder.convolve(narrow, out, cells); });
  refuses(out, "[peg] input and output must be one view or not overlap but got [2, 7, 5] and [2, 3, 5]",
          [&] { encoder.convolve(x, token_view<float>(const_cast<float*>(x.data()), {2, 3, dim_}), cells); });
  const auto circular =
      encoder_of<float>({.dim = dim_, .kernel = kernel_of{3, 3}, .padding = peg_padding::circular, .residual = false, .stride = {2, 2}});
  refuses(out, "[peg] the stride must divide the extents of a circular grid but got 3 and 2", [&] { circular.convolve(x, out, cells); });

  auto d_parameters = zeros_like(encoder);
  refuses(d_x, "[peg] the gradient must have the shape of the tokens but got [2, 7, 5] and [2, 3, 5]",
          [&] { encoder.convolve_backward(out, x, out, cells, spans(d_parameters)); });
  refuses(d_x, "[peg] the output must have the strided grid's shape but got [2, 3, 5] and [2, 7, 5]",
          [&] { encoder.convolve_backward(x, x, d_x, cells, spans(d_parameters)); });
  refuses(d_x, "[peg] input and output must be one view or not overlap but got [2, 7, 5] and [2, 7, 5]",
          [&] { encoder.convolve_backward(out, d_x, d_x, cells, spans(d_parameters)); });
  refuses(d_x, "[peg] there must be one gradient span per parameter but got 2 and 0",
          [&] { encoder.convolve_backward(out, x, d_x, cells, {}); });
}
