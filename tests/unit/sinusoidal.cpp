// SPDX-License-Identifier: MIT
#include <posenc/sinusoidal.hpp>

#include <posenc/alibi.hpp>
#include <posenc/no_encoding.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/angle.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"
#include "reference/sinusoidal.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;

template <class S>
using tensor2 = Eigen::Tensor<S, 2, RowMajor>;
template <class S>
using tensor3 = Eigen::Tensor<S, 3, RowMajor>;

constexpr channel_order orders[] = {channel_order::interleaved, channel_order::sin_cos, channel_order::cos_sin};
const any_exponent_rule rules[] = {exponent_rule::vaswani{},
                                   exponent_rule::vaswani{.base = 100},
                                   exponent_rule::tensor2tensor{},
                                   exponent_rule::tensor2tensor{.max_timescale = 500, .min_timescale = 3},
                                   exponent_rule::downscaled{.shift = 0},
                                   exponent_rule::downscaled{.shift = 0.5, .base = 200},
                                   exponent_rule::downscaled{.shift = -2.25},
                                   exponent_rule::log_linear{},
                                   exponent_rule::log_linear{.max_frequency = 2.5, .min_frequency = 0.125}};

/// Channel c of dim, or none where the code is zero; and the width that the exponent rule is given.
std::optional<reference::wave> wave_of(const sinusoidal_options& options, index_t& width, index_t c) {
  const index_t dim = options.dim, half = dim / 2;
  const channel_order order = options.order;
  width = options.odd_dim == odd_dim::zero_last ? 2 * half : options.odd_dim == odd_dim::round_up ? 2 * ((dim + 1) / 2) : dim;
  if (width % 2 == 0) return c < width ? std::optional(reference::even_wave(order, width, c)) : std::nullopt;
  // drop_last: half + 1 frequencies, of which the last has no partner.
  const bool first = order == channel_order::interleaved ? c % 2 == 0 : c <= half;
  return reference::wave{first != (order == channel_order::cos_sin), order == channel_order::interleaved ? c / 2
                                                                     : first                             ? c
                                                                                                         : c - half - 1};
}

bool is_absent(position id) { return id == no_position; }
bool is_absent(double place) { return std::isnan(place); }
/// [batch, time, channel] at positions or coordinates.
std::vector<double> expected(const sinusoidal_options& options, index_t batch, const auto& at) {
  std::vector<double> all;
  for (index_t b = 0; b < batch; ++b)
    for (index_t t = 0; t < at.time(); ++t)
      for (index_t c = 0; c < options.dim; ++c) {
        index_t width = 0;
        const auto wave = wave_of(options, width, c);
        if (!wave || is_absent(at(b, t)) ||
            reference::moved(at(b, t), 0) == reference::moved(options.padding_position.value_or(no_position), 0)) {
          all.push_back(0);
          continue;
        }
        const long double turn = options.full_turns ? 2 * std::numbers::pi_v<long double> : 1.0L;
        const long double angle = reference::moved(at(b, t), options.start) * reference::frequency(options.exponent_rule, width, wave->k);
        all.push_back(reference::sinusoid(wave->is_sine, angle * options.angle_scale * turn, options.scale));
      }
  return all;
}

/// The promise, and what the reference itself is off by.
template <class S>
double tolerance(double scale) {
  return (sizeof(S) == 4 ? 3.1e-8 : 2.3e-16) * (std::abs(scale) > 1 ? 2 : 1) + 1.2e-16;
}

std::string text(const sinusoidal_options& options) {
  return "dim " + std::to_string(options.dim) + ", order " + std::to_string(static_cast<int>(static_cast<channel_order>(options.order))) +
         ", rule " + std::to_string(any_exponent_rule(options.exponent_rule).index()) + ", odd_dim " +
         std::to_string(static_cast<int>(options.odd_dim)) + ", scale " + std::to_string(options.scale) + ", angle_scale " +
         std::to_string(options.angle_scale) + ", start " + std::to_string(options.start);
}

template <class S>
void check_codes(const sinusoidal_options& options, const auto& at) {
  tensor3<S> out(2, at.time(), static_cast<index_t>(options.dim));
  out.setConstant(S(9));
  sinusoidal<S>(options).encode(at, out);
  INFO(text(options));
  CHECK(reference::difference(out, expected(options, 2, at), tolerance<S>(options.scale)) == "");
}
template <class S>
void check_codes(const sinusoidal_options& options) {
  check_codes<S>(options, positions::ids(std::array<position, 6>{0, 1, -5, 100, no_position, 37}, 2));
}

// Encoders of codes can write them too; encoders of scores, and those that only add, are none.
struct adds_only {
  using scalar = float;
  static constexpr std::string_view name() noexcept { return "adds_only"; }
  static constexpr index_t dim() noexcept { return 4; }
  void add(writable_tensor auto&&, const positions&) const noexcept {}
  bool operator==(const adds_only&) const = default;
};
static_assert(code_encoder<sinusoidal<float>> && code_encoder<sinusoidal<double>> && additive_encoder<sinusoidal<float>>);
static_assert(additive_encoder<adds_only> && !code_encoder<adds_only> && !code_encoder<no_encoding> && !code_encoder<alibi<float>>);
static_assert(!value_encoder<sinusoidal<float>> && !contextual_bias_encoder<sinusoidal<float>>);

template <class S>
sinusoidal<S> interleaved(index_t dim) {
  return sinusoidal<S>({.dim = dim, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});
}

}  // namespace

TEMPLATE_TEST_CASE("sinusoidal codes follow the formula in every order, by every rule", "[sinusoidal]", float, double) {
  for (const index_t dim : {2, 4, 6, 34})
    for (const auto order : orders)
      for (const auto& rule : rules) {
        check_codes<TestType>({.dim = dim, .order = order, .exponent_rule = rule});
        check_codes<TestType>(
            {.dim = dim, .order = order, .exponent_rule = rule, .start = -60, .scale = -1.3, .odd_dim = odd_dim::zero_last});
        check_codes<TestType>({.dim = dim, .order = order, .exponent_rule = rule, .start = 1, .scale = 0.5, .angle_scale = -0.3});
      }
}

TEMPLATE_TEST_CASE("sinusoidal codes of odd dims follow each policy", "[sinusoidal]", float, double) {
  for (const index_t dim : {1, 3, 5, 31})
    for (const auto order : orders)
      for (const auto& rule : rules)
        for (const auto policy : {odd_dim::drop_last, odd_dim::round_up, odd_dim::zero_last}) {
          const bool too_short = std::holds_alternative<exponent_rule::downscaled>(rule) && dim == 1;
          if (!too_short)
            check_codes<TestType>({.dim = dim, .order = order, .exponent_rule = rule, .start = 2, .scale = 1.5, .odd_dim = policy});
        }
}

TEMPLATE_TEST_CASE("sinusoidal codes of full turns", "[sinusoidal]", float, double) {
  const any_exponent_rule mlx = exponent_rule::log_linear{};
  check_codes<TestType>({.dim = 10, .order = channel_order::cos_sin, .exponent_rule = mlx, .full_turns = true});
  check_codes<TestType>({.dim = 10, .order = channel_order::sin_cos, .exponent_rule = mlx, .angle_scale = 0.25, .full_turns = true});
  // One turn per position, or three: every angle is zero, and exactly so where the frequency is known exactly.
  tensor2<TestType> code(4, 4);
  for (const double turns : {1., 3.}) {
    const any_exponent_rule rule = exponent_rule::log_linear{.max_frequency = turns, .min_frequency = turns};
    const bool exact = turns == 1;
    sinusoidal<TestType>({.dim = 4, .order = channel_order::sin_cos, .exponent_rule = rule, .full_turns = true})
        .encode(positions::ids(std::array<position, 4>{0, 1, -7, 1'999'999'973}), code);
    for (index_t t = 0; t < 4; ++t)
      CHECK((std::abs(code(t, 0)) <= (exact ? 0 : tolerance<TestType>(1)) && code(t, 2) == 1 && code(t, 3) == 1));
  }
}

TEMPLATE_TEST_CASE("sinusoidal codes of coordinates", "[sinusoidal]", float, double) {
  const std::vector<double> places{0.5, -3.75, 999.0625, no_coordinate, 7, 0.1, 17.5, 2, -0.001, 64, 3.3, 500.03125};
  for (const auto& at : {coordinates::values(places, 1, 2), coordinates::values(places, 1)})
    for (const auto order : orders) {
      check_codes<TestType>({.dim = 12, .order = order, .exponent_rule = exponent_rule::downscaled{.shift = 0}}, at);
      check_codes<TestType>({.dim = 7,
                             .order = order,
                             .exponent_rule = exponent_rule::downscaled{.shift = 1},
                             .start = -20,
                             .scale = 0.75,
                             .angle_scale = 0.5,
                             .odd_dim = odd_dim::zero_last},
                            at);
      check_codes<TestType>({.dim = 6, .order = order, .exponent_rule = exponent_rule::log_linear{}, .padding_position = 7}, at);
    }
  // Frequencies of many turns: the whole turns count between the integers.
  check_codes<TestType>({.dim = 4, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::log_linear{40, 20}},
                        coordinates::values(std::vector{0.25, -0.125, 3.0625}, 1));
}

TEMPLATE_TEST_CASE("a coordinate that is a whole number has the code of that position", "[sinusoidal]", float, double) {
  std::vector<position> ids;
  for (index_t n = 0; n < 150; ++n) ids.push_back(n % 13 == 4 ? no_position : n * 7919 % 10007 - 5000);  // more than one chunk
  ids.back() = 16'777'217;
  for (const auto& at : {positions::ids(ids), positions::ids(ids, 2), positions::range(150, -3)}) {
    const index_t batch = 2, time = at.time();
    const sinusoidal<TestType> encoder({.dim = 10,
                                        .order = channel_order::cos_sin,
                                        .exponent_rule = exponent_rule::vaswani{},
                                        .start = 3,
                                        .scale = 1.25,
                                        .padding_position = at(0, 1)});
    tensor3<TestType> by_position(batch, time, 10), by_coordinate(batch, time, 10);
    encoder.encode(at, by_position);
    encoder.encode(coordinates::of(at), by_coordinate);
    CHECK(reference::bit_difference(by_coordinate, by_position) == "");
  }
}

TEST_CASE("sinusoidal add takes coordinates, into rows of its own and into chosen rows", "[sinusoidal]") {
  const sinusoidal<float> encoder({.dim = 8, .order = channel_order::cos_sin, .exponent_rule = exponent_rule::downscaled{.shift = 0}});
  const auto numbers = random_vector<double>(20, 300);
  for (const auto& at : {coordinates::values(numbers, 1, 3), coordinates::values(std::span(numbers).first(100), 1),
                         coordinates::values(numbers, 1).slice(150, 100)}) {
    const auto x = random_tensor<tensor3<float>>(21, 3, 100, 8);
    tensor3<float> code(3, 100, 8), in_place = x, out(3, 100, 8);
    encoder.encode(at, code);
    const tensor3<float> sum = x + code;
    encoder.add(in_place, at);
    encoder.add(x, out, at);
    CHECK(reference::bit_difference(in_place, sum) == "");
    CHECK(reference::bit_difference(out, sum) == "");

    std::vector<index_t> rows;
    for (index_t n = 0; n < 300; ++n) rows.push_back(n % 9 == 4 ? no_row : (n * 37) % 301);
    auto chosen = random_tensor<tensor2<float>>(22, 301, 8);
    auto wanted = chosen;
    for (index_t n = 0; n < 300; ++n)
      if (const index_t row = rows[static_cast<std::size_t>(n)]; row != no_row)
        for (index_t c = 0; c < 8; ++c) wanted(row, c) = sum(n / 100, n % 100, c);
    encoder.add(x, chosen, rows, at);
    CHECK(reference::bit_difference(chosen, wanted) == "");
  }
}

TEST_CASE("a padding position has a code of zeros", "[sinusoidal]") {
  // fairseq: padding_idx 1, real tokens from 2 on. The padding position is meant as it is given, before the start is added.
  for (const position start : {0, 5}) {
    sinusoidal_options options{.dim = 6, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::tensor2tensor{}, .start = start};
    const sinusoidal<float> plain(options);
    options.padding_position = 1;
    const sinusoidal<float> padded(options);
    for (const auto& at : {positions::range(5, -1), positions::ids(std::array<position, 10>{1, 3, 2, 1, 9, 0, -1, 1, no_position, 1}, 2),
                           positions::offsets(std::array{1, -3}, 5), positions::range(8, -4).slice(3, 5)}) {
      const auto x = random_tensor<tensor3<float>>(30, 2, 5, 6);
      tensor3<float> wanted(2, 5, 6), code(2, 5, 6), sum = x, wanted_sum = x;
      plain.encode(at, wanted);
      index_t padding = 0;
      for (index_t b = 0; b < 2; ++b)
        for (index_t t = 0; t < 5; ++t)
          for (index_t c = 0; c < 6; ++c) {
            if (at(b, t) == 1) wanted(b, t, c) = 0, ++padding;
            wanted_sum(b, t, c) += wanted(b, t, c);
          }
      CHECK(padding > 0);
      padded.encode(at, code);
      padded.add(sum, at);
      CHECK(reference::bit_difference(code, wanted) == "");
      CHECK(reference::bit_difference(sum, wanted_sum) == "");
    }
  }
}

TEST_CASE("sinusoidal codes have the values of their papers", "[sinusoidal]") {
  tensor2<double> code(1, 4);
  interleaved<double>(4).encode(positions::range(1, 3), code);  // Vaswani: sin 3, cos 3, sin 0.03, cos 0.03
  CHECK(std::abs(code(0, 0) - 0.14112000805986721) < 3e-16);
  CHECK(std::abs(code(0, 1) + 0.98999249660044542) < 3e-16);
  CHECK(std::abs(code(0, 2) - 0.029995500202495661) < 3e-16);
  CHECK(std::abs(code(0, 3) - 0.99955003374898753) < 3e-16);
  // tensor2tensor: the last of three frequencies is exactly 1 / base, the middle one the root of it.
  const sinusoidal<double> whisper({.dim = 6, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::tensor2tensor{}});
  CHECK(whisper.inspect().count() == 3);
  CHECK(whisper.inspect().radians(0) == 1.0);
  CHECK(whisper.inspect().radians(1) == 1e-2);
  CHECK(whisper.inspect().radians(2) == 1e-4);
}

TEST_CASE("sinusoidal codes of one channel", "[sinusoidal]") {
  tensor2<double> code(1, 1);
  const auto encoded = [&](channel_order order, odd_dim policy) {
    code.setConstant(9);
    sinusoidal<double>({.dim = 1, .order = order, .exponent_rule = exponent_rule::vaswani{}, .odd_dim = policy})
        .encode(positions::range(1, 2), code);
    return code(0, 0);
  };
  CHECK(std::abs(encoded(channel_order::interleaved, odd_dim::drop_last) - std::sin(2.0)) < 3e-16);
  CHECK(std::abs(encoded(channel_order::cos_sin, odd_dim::drop_last) - std::cos(2.0)) < 3e-16);
  CHECK(std::abs(encoded(channel_order::sin_cos, odd_dim::round_up) - std::sin(2.0)) < 3e-16);
  CHECK(encoded(channel_order::interleaved, odd_dim::zero_last) == 0);
  const sinusoidal<double> nothing(
      {.dim = 1, .order = channel_order::interleaved, .exponent_rule = exponent_rule::tensor2tensor{}, .odd_dim = odd_dim::zero_last});
  CHECK(nothing.inspect().count() == 0);
  code.setConstant(4);
  nothing.add(code, positions::range(1, 2));
  CHECK(code(0, 0) == 4);
}

TEMPLATE_TEST_CASE("sinusoidal codes stay accurate at far positions", "[sinusoidal]", float, double) {
  const sinusoidal<TestType> encoder({.dim = 32, .order = channel_order::cos_sin, .exponent_rule = exponent_rule::vaswani{}});
  const auto at = positions::ids(std::array<position, 5>{1'000'000, 16'777'217, -2'147'483'648, 2'147'483'648, 1'999'999'973});
  tensor2<TestType> code(5, 32);
  encoder.encode(at, code);
  const frequencies& speeds = encoder.inspect();
  constexpr long double bound = sizeof(TestType) == 4 ? 3.1e-8L : 2.3e-16L;
  for (index_t t = 0; t < 5; ++t)
    for (index_t k = 0; k < 16; ++k) {
      const auto exact = reference::angle(at(0, t), speeds[k].high, speeds[k].low);
      CHECK(std::abs(static_cast<long double>(code(t, k)) - exact.cosine) <= bound);
      CHECK(std::abs(static_cast<long double>(code(t, 16 + k)) - exact.sine) <= bound);
    }
}

TEMPLATE_TEST_CASE("sinusoidal add adds the code that encode writes", "[sinusoidal]", float, double) {
  // 16 KB hold 32 or 64 tokens of 64 channels and none of 5000.
  struct {
    index_t batch, time, dim;
  } const shapes[] = {{2, 200, 64}, {1, 65, 64}, {3, 64, 64}, {2, 3, 5000}, {2, 150, 63}};
  for (const auto& [batch, time, dim] : shapes)
    for (const auto order : orders) {
      const sinusoidal<TestType> encoder(
          {.dim = dim, .order = order, .exponent_rule = exponent_rule::vaswani{}, .start = 1, .scale = 1.25, .odd_dim = odd_dim::round_up});
      std::vector<position> starts, ids;
      for (index_t b = 0; b < batch; ++b) starts.push_back(1000 * b - 7);
      for (index_t n = 0; n < batch * time; ++n) ids.push_back(n % 11 == 5 ? no_position : (n * 7919) % 10007 - 5000);
      for (const auto& at : {positions::range(time, 17), positions::offsets(starts, time), positions::ids(ids, batch),
                             positions::ids(std::span(ids).first(static_cast<std::size_t>(time)))}) {
        const auto x = random_tensor<tensor3<TestType>>(1, batch, time, dim);
        tensor3<TestType> code(batch, time, dim), in_place = x, out(batch, time, dim);
        encoder.encode(at, code);
        const tensor3<TestType> sum = x + code;
        encoder.add(in_place, at);
        encoder.add(x, out, at);
        INFO(batch << " rows of " << time << " tokens of " << dim << " channels, " << at.batch() << " rows of positions");
        CHECK(reference::bit_difference(in_place, sum) == "");
        CHECK(reference::bit_difference(out, sum) == "");
      }
    }
}

TEMPLATE_TEST_CASE("sinusoidal has the same bits in every layout", "[sinusoidal]", float, double) {
  const auto encoder = interleaved<TestType>(6);
  const auto at = positions::ids(std::array{4, -1, 1000, 3, 2, 0, 7, 5}, 2);
  const auto x = random_tensor<tensor3<TestType>>(2, 2, 4, 6);
  auto result = x;
  encoder.add(result, at);

  Eigen::Tensor<TestType, 3> columns(6, 4, 2);  // the same memory
  std::copy_n(x.data(), x.size(), columns.data());
  encoder.add(columns, at);
  CHECK(reference::bit_difference(columns, result) == "");

  std::vector<TestType> foreign(static_cast<std::size_t>(x.size()) + 1);  // not aligned
  std::copy_n(x.data(), x.size(), foreign.data() + 1);
  Eigen::TensorMap<tensor3<TestType>> map(foreign.data() + 1, 2, 4, 6);
  encoder.add(map, at);
  CHECK(reference::bit_difference(map, result) == "");

  // Channels 2 to 8 of a wider tensor, whose others keep their bits.
  auto wide = random_tensor<tensor3<TestType>>(3, 2, 4, 9);
  const auto before = wide;
  const tensor_view<TestType, 3> part(wide.data() + 2, {2, 4, 6}, {36, 9, 1});
  encoder.add(Eigen::TensorMap<const tensor3<TestType>>(x.data(), 2, 4, 6), part, at);
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 4; ++t)
      for (index_t c = 0; c < 9; ++c) REQUIRE(reference::same_bits(wide(b, t, c), c < 2 || c >= 8 ? before(b, t, c) : result(b, t, c - 2)));

  // Without a batch axis, and with two.
  tensor2<TestType> flat(4, 6);
  std::copy_n(x.data(), flat.size(), flat.data());
  encoder.add(flat, positions::ids(std::array{4, -1, 1000, 3}));
  CHECK(reference::bit_difference(flat, std::span(result.data(), 24)) == "");
  Eigen::Tensor<TestType, 4, RowMajor> deep(1, 2, 4, 6);
  std::copy_n(x.data(), x.size(), deep.data());
  encoder.add(deep, at);
  CHECK(reference::bit_difference(deep, result) == "");

  Eigen::TensorFixedSize<TestType, Eigen::Sizes<4, 6>, RowMajor> fixed;
  tensor2<TestType> code(4, 6);
  encoder.encode(positions::range(4), fixed);
  encoder.encode(positions::range(4), code);
  CHECK(reference::bit_difference(fixed, code) == "");
}

TEST_CASE("sinusoidal writes tokens into chosen rows", "[sinusoidal]") {
  const auto encoder = interleaved<float>(64);
  const auto x = random_tensor<tensor3<float>>(4, 2, 100, 64);
  for (const auto& at : {positions::range(100, 5), positions::offsets(std::array{5, 90}, 100)}) {
    auto sum = x;
    encoder.add(sum, at);
    std::vector<index_t> rows;
    for (index_t n = 0; n < 200; ++n) rows.push_back(n % 9 == 4 ? no_row : (n * 37) % 201);
    auto out = random_tensor<tensor2<float>>(5, 201, 64);
    auto wanted = out;
    for (index_t n = 0; n < 200; ++n)
      if (rows[static_cast<std::size_t>(n)] != no_row)
        for (index_t c = 0; c < 64; ++c) wanted(rows[static_cast<std::size_t>(n)], c) = sum(n / 100, n % 100, c);
    encoder.add(x, out, rows, at);
    CHECK(reference::bit_difference(out, wanted) == "");
  }
}

TEST_CASE("sinusoidal adds nothing to tokens without a position", "[sinusoidal]") {
  const auto encoder = interleaved<float>(8);
  const auto at = positions::ids(std::array<position, 3>{no_position, 1, no_position});
  const auto before = random_tensor<tensor3<float>>(6, 1, 3, 8);
  auto x = before;
  encoder.add(x, at);
  for (index_t c = 0; c < 8; ++c) {
    CHECK(reference::same_bits(x(0, 0, c), before(0, 0, c)));
    CHECK(x(0, 1, c) != before(0, 1, c));
    CHECK(reference::same_bits(x(0, 2, c), before(0, 2, c)));
  }
}

TEST_CASE("sinusoidal positions with a start reach beyond the ends of positions", "[sinusoidal]") {
  constexpr position far = position{1} << 62, most = position{1} << 61;
  for (const position p : {far, -far})
    for (const position start : {most, -most}) {
      const sinusoidal<double> encoder(
          {.dim = 4, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}, .start = start});
      tensor2<double> code(1, 4);
      encoder.encode(positions::ids(std::array{p}), code);
      for (index_t k = 0; k < 2; ++k) {
        const auto exact = reference::angle(p + start, encoder.inspect()[k].high, encoder.inspect()[k].low);
        CHECK(std::abs(static_cast<long double>(code(0, k)) - exact.sine) < 3e-16L);
        CHECK(std::abs(static_cast<long double>(code(0, 2 + k)) - exact.cosine) < 3e-16L);
      }
    }
}

TEST_CASE("sinusoidal does nothing to empty tensors", "[sinusoidal]") {
  const auto encoder = interleaved<float>(4);
  tensor3<float> no_batch(0, 3, 4), no_time(2, 0, 4);
  encoder.add(no_batch, positions::range(3));
  encoder.add(no_time, positions::range(0));
  encoder.encode(positions::range(3), no_batch);
  encoder.encode(positions::range(0), no_time);
  encoder.add(no_time, no_time, positions::range(0));
  auto rows = random_tensor<tensor2<float>>(7, 3, 4);
  const auto before = rows;
  encoder.add(no_time, rows, std::span<const index_t>(), positions::range(0));
  CHECK(reference::bit_difference(rows, before) == "");
}

TEST_CASE("sinusoidal: encoders are equal where their options are", "[sinusoidal]") {
  const sinusoidal_options options{.dim = 8, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}};
  const auto with = [&](auto&& change) {
    auto other = options;
    change(other);
    return sinusoidal<float>(other);
  };
  const sinusoidal<float> encoder(options);
  CHECK(encoder == with([](auto&) {}));
  CHECK(encoder != with([](auto& o) { o.dim = 6; }));
  CHECK(encoder != with([](auto& o) { o.order = channel_order::cos_sin; }));
  CHECK(encoder != with([](auto& o) { o.exponent_rule = exponent_rule::tensor2tensor{}; }));
  CHECK(encoder != with([](auto& o) { o.exponent_rule = exponent_rule::vaswani{.base = 100}; }));
  CHECK(encoder != with([](auto& o) { o.angle_scale = 2; }));
  CHECK(encoder != with([](auto& o) { o.full_turns = true; }));
  CHECK(encoder != with([](auto& o) { o.padding_position = 0; }));
  CHECK(encoder != with([](auto& o) { o.start = 1; }));
  CHECK(encoder != with([](auto& o) { o.scale = 2; }));
  CHECK(encoder != with([](auto& o) { o.odd_dim = odd_dim::zero_last; }));
  CHECK(encoder.options() == options);
  CHECK(encoder.inspect() == frequencies::plain("sinusoidal", 8, 10000));
  CHECK(sinusoidal<float>::name() == "sinusoidal");
}

TEST_CASE("sinusoidal refuses options that make no code", "[sinusoidal][errors]") {
  const sinusoidal_options good{.dim = 8, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}};
  const auto refused = [&](const std::string& text, auto&& change) {
    auto options = good;
    change(options);
    reference::refuses("[sinusoidal] " + text, [&] { sinusoidal<float>{options}; });
  };
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  refused("dim must be positive but got 0", [](auto& o) { o.dim = 0; });
  refused("dim must be positive but got -4", [](auto& o) { o.dim = -4; });
  refused("dim must be even but got 7", [](auto& o) { o.dim = 7; });
  const auto refused_rule = [&](const std::string& text, const any_exponent_rule& rule) {
    refused(text, [&](auto& o) { o.exponent_rule = rule; });
  };
  using exponent_rule::vaswani, exponent_rule::tensor2tensor, exponent_rule::downscaled, exponent_rule::log_linear;
  refused_rule("base must be positive and finite but got 0", vaswani{.base = 0});
  refused_rule("base must be positive and finite but got nan", vaswani{.base = nan});
  refused_rule("base must be positive and finite but got inf", downscaled{.shift = 0, .base = infinity});
  refused_rule("base must not be so small that a frequency exceeds 2^38 radians but got 1e-16", vaswani{.base = 1e-16});
  refused_rule("shift must be below half the width but got 4 and 4", downscaled{.shift = 4});
  refused_rule("shift must be below half the width but got 4 and nan", downscaled{.shift = nan});
  refused_rule("shift must be below half the width but got 4 and -inf", downscaled{.shift = -infinity});
  refused_rule("timescales must be positive and finite but got 0 and 1", tensor2tensor{.max_timescale = 0});
  refused_rule("timescales must be positive and finite but got inf and 1", tensor2tensor{.max_timescale = infinity});
  refused_rule("timescales must be positive and finite but got 10000 and -1", tensor2tensor{.min_timescale = -1});
  refused_rule("timescales must be positive and finite but got 10000 and nan", tensor2tensor{.min_timescale = nan});
  refused_rule("frequencies must not exceed 2^38 radians but got 1e+12", tensor2tensor{.max_timescale = 1e-12});
  refused_rule("frequencies must not exceed 2^38 radians but got 549755813888", tensor2tensor{.min_timescale = 0x1p39});
  refused_rule("frequencies must be positive and finite but got 0 and 1e-04", log_linear{.max_frequency = 0});
  refused_rule("frequencies must be positive and finite but got inf and 1e-04", log_linear{.max_frequency = infinity});
  refused_rule("frequencies must be positive and finite but got 1 and -1", log_linear{.min_frequency = -1});
  refused_rule("frequencies must be positive and finite but got 1 and nan", log_linear{.min_frequency = nan});
  refused("angle_scale must be finite but got nan", [](auto& o) { o.angle_scale = nan; });
  refused("angle_scale must be finite but got inf", [](auto& o) { o.angle_scale = infinity; });
  refused("frequencies must be finite and below 2^39 radians but got 1e+12", [](auto& o) { o.angle_scale = 1e12; });
  refused("scale must be finite but got nan", [](auto& o) { o.scale = nan; });
  refused("scale must be finite but got -inf", [](auto& o) { o.scale = -infinity; });
  refused("start must lie in [-2^61, 2^61] but got 2305843009213693953", [](auto& o) { o.start = (position{1} << 61) + 1; });
  refused("start must lie in [-2^61, 2^61] but got -9223372036854775808", [](auto& o) { o.start = no_position; });
}

TEST_CASE("sinusoidal refuses tensors that do not fit, before it writes", "[sinusoidal][errors]") {
  const auto encoder = interleaved<float>(6);
  auto x = random_tensor<tensor3<float>>(8, 2, 3, 6), narrow = random_tensor<tensor3<float>>(9, 2, 3, 4);
  const auto at = positions::range(3);
  const auto refused = [&](auto& memory, const std::string& text, auto&& act) { reference::refuses(memory, "[sinusoidal] " + text, act); };

  refused(narrow, "channels must equal dim but got 6 and 4", [&] { encoder.add(narrow, at); });
  refused(narrow, "channels must equal dim but got 6 and 4", [&] { encoder.encode(at, narrow); });
  refused(x, "time must match the positions but got 3 and 4", [&] { encoder.add(x, positions::range(4)); });
  refused(x, "time must match the positions but got 3 and 4", [&] { encoder.encode(positions::range(4), x); });
  refused(x, "batch must match the positions but got 2 and 1", [&] { encoder.add(x, positions::offsets(std::array{5}, 3)); });
  const auto two_axes = positions::multi_axis(std::array{1, 2, 3, 4, 5, 6}, 2);
  refused(x, "the positions must have as many axes as the encoder but got 1 and 2", [&] { encoder.add(x, two_axes); });
  refused(x, "the positions must have as many axes as the encoder but got 1 and 2", [&] { encoder.add(x, coordinates::of(two_axes)); });
  refused(x, "time must match the positions but got 3 and 2", [&] { encoder.encode(coordinates::values(std::array{0.5, 1.5}, 1), x); });
  refused(x, "coordinate times frequency must stay below 2^31 turns but got 2e+10 and 0.15915494309189535",
          [&] { encoder.add(x, coordinates::values(std::array{0.5, -2e10, no_coordinate}, 1)); });
  const sinusoidal<float> far_start({.dim = 6,
                                     .order = channel_order::sin_cos,
                                     .exponent_rule = exponent_rule::vaswani{},
                                     .start = position{1} << 34});  // positions reach that far, coordinates do not
  refused(x, "coordinate times frequency must stay below 2^31 turns but got 17179869184.5 and 0.15915494309189535",
          [&] { far_start.add(x, coordinates::values(std::array{0.5, -1., no_coordinate}, 1)); });
  refused(narrow, "the output must have the input's shape but got [2, 3, 6] and [2, 3, 4]", [&] { encoder.add(x, narrow, at); });
  refused(x, "the last axis must be contiguous but got 2",
          [&] { encoder.add(tensor_view<float, 3>(x.data(), {1, 3, 6}, {36, 12, 2}), at); });
  refused(x, "the elements of an output must be distinct, with strides that nest but got [0, 6, 1]",
          [&] { encoder.add(tensor_view<float, 3>(x.data(), {2, 3, 6}, {0, 6, 1}), at); });
  refused(x, "the elements of an output must be distinct, with strides that nest but got [0, 6, 1]",
          [&] { encoder.encode(at, tensor_view<float, 3>(x.data(), {2, 3, 6}, {0, 6, 1})); });

  auto both = random_tensor<tensor3<float>>(10, 3, 3, 6);
  const auto rows_from = [&](index_t row) { return tensor_view<float, 3>(both.data() + 18 * row, {2, 3, 6}); };
  refused(both, "input and output must be one view or not overlap but got [2, 3, 6] and [2, 3, 6]",
          [&] { encoder.add(rows_from(0), rows_from(1), at); });

  auto out = random_tensor<tensor2<float>>(11, 8, 6), thin = random_tensor<tensor2<float>>(12, 8, 4);
  const std::vector<index_t> good{0, 1, 2, 3, 4, 5}, few{0, 1}, far{0, 1, 2, 3, 4, 8}, negative{0, 1, 2, 3, 4, -2};
  refused(thin, "the output must have the input's channels but got 6 and 4", [&] { encoder.add(x, thin, good, at); });
  refused(out, "there must be one destination row per token but got 6 and 2", [&] { encoder.add(x, out, few, at); });
  refused(out, "destination rows must lie inside the output but got 8 and 8", [&] { encoder.add(x, out, far, at); });
  refused(out, "destination rows must lie inside the output but got 8 and -2", [&] { encoder.add(x, out, negative, at); });
  // Within one tensor a token would be read after another one was written over it.
  auto one = random_tensor<tensor2<float>>(13, 3, 6);
  refused(one, "the input must not overlap the rows but got [1, 3, 6] and [1, 3, 6]",
          [&] { encoder.add(one, one, std::array<index_t, 3>{1, 2, 0}, at); });
}
