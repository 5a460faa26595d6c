// SPDX-License-Identifier: MIT
#include <posenc/rope/learned_rope.hpp>

#include <posenc/rope.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace posenc;

template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;
using block4 = tensor4<double>;

constexpr auto time_head = axis_order::time_head;
constexpr index_t batch = 2, tokens = 5, count = 3;

/// One encoder of many: what it turns, and how its frequencies are shared.
struct form {
  std::string name;
  rotary_descriptor descriptor;
  index_t channels, axes, heads;  // heads 0: frequencies for all
  /// Frequencies of up to two radians per position, to be changed.
  template <class S>
  learned_rope<S> encoder() const {
    const auto numbers = random_vector<S>(51, std::max<index_t>(heads, 1) * axes * descriptor.dim / 2);
    std::vector<S> speeds;
    for (const S one : numbers) speeds.push_back(2 * one);
    return learned_rope<S>(descriptor, speeds, axes, heads);
  }
};

std::vector<form> forms() {
  constexpr auto halves = pairing::halves, interleaved = pairing::interleaved, exchanged = pairing::interleaved_to_halves;
  return {
      {"halves", {.pairing = halves, .dim = 8}, 8, 1, 0},
      {"interleaved", {.pairing = interleaved, .dim = 8}, 8, 2, 0},
      {"each head", {.pairing = halves, .dim = 6}, 6, 1, 3},
      {"each head and axis", {.pairing = interleaved, .dim = 8}, 8, 2, 3},
      {"exchanged", {.pairing = exchanged, .dim = 8}, 8, 2, 0},
      {"exchanged by head, backwards", {.pairing = exchanged, .dim = 8, .offset = 1, .rotation = rotation::negative}, 10, 3, 3},
      {"backwards", {.pairing = halves, .dim = 8, .rotation = rotation::negative}, 8, 1, 0},
      {"part of the channels, scaled", {.pairing = interleaved, .dim = 6, .offset = 3, .attention_factor = 1.25}, 12, 2, 0},
      {"the last channels and heads", {.pairing = halves, .dim = 4, .offset = trailing, .first_head = trailing, .head_count = 1}, 9, 1, 1},
      {"some heads", {.pairing = interleaved, .dim = 4, .first_head = 1, .head_count = 2, .attention_factor = -0.5}, 4, 2, 2},
      {"blocks", {.pairing = halves, .dim = 8, .offset = 1, .blocks = 2}, 9, 2, 0},
      {"blocks by head", {.pairing = interleaved, .dim = 8, .blocks = 2}, 8, 2, 3},
      {"several groups of pairs", {.pairing = halves, .dim = 40, .offset = 1, .blocks = 2}, 42, 1, 3},
      {"many pairs", {.pairing = interleaved, .dim = 38}, 38, 1, 0}};
}

/// Where queries and keys stand: rows with ids of their own, tokens that stand nowhere.
attention_positions whole_places(index_t axes) {
  random_numbers random(52);
  const auto some = [&](index_t rows) {
    std::vector<position> ids;
    for (index_t n = 0; n < axes * rows * tokens; ++n) ids.push_back(n % (rows * tokens) == 3 ? no_position : random.integer(-6, 6));
    return ids;
  };
  return {positions::multi_axis(some(batch), axes, batch), positions::range(9), positions::multi_axis(some(1), axes)};
}
attention_coordinates other_places(index_t axes) {
  random_numbers random(53);
  const auto some = [&](index_t rows) {
    std::vector<double> places;
    for (index_t n = 0; n < axes * rows * tokens; ++n)
      places.push_back(n % (rows * tokens) == 1 ? no_coordinate : 6 * random.real<double>());
    return places;
  };
  const auto keys = coordinates::values(some(1), axes);
  return {coordinates::values(some(batch), axes, batch), keys, keys};
}

double place_of(position p) { return p == no_position ? std::nan("") : static_cast<double>(p); }
double place_of(double p) { return p; }

/// The rotation as complex numbers, in the channels and heads that the descriptor names.
template <class S>
block4 turned(const block4& x, const form& of, std::span<const S> speeds, const auto& at) {
  const rotary_descriptor& d = of.descriptor;
  const index_t heads = d.head_count > 0 ? d.head_count : x.dimension(2) - d.first_head;
  const index_t first_head = d.first_head == trailing ? x.dimension(2) - heads : d.first_head;
  const index_t start = d.offset == trailing ? x.dimension(3) - d.dim : d.offset, pairs = d.dim / 2, half = pairs / d.blocks;
  block4 y = x;
  for (index_t b = 0; b < x.dimension(0); ++b)
    for (index_t t = 0; t < x.dimension(1); ++t)
      for (index_t h = 0; h < heads; ++h)
        for (index_t k = 0; k < pairs; ++k) {
          double angle = 0;
          for (index_t a = 0; a < of.axes; ++a)
            angle += place_of(at(b, t, at.axes() == 1 ? 0 : a)) *
                     static_cast<double>(speeds[static_cast<std::size_t>(((of.heads > 0 ? h : 0) * of.axes + a) * pairs + k)]);
          const auto standing = std::isnan(angle);
          const auto turn =
              standing ? std::complex(1.0, 0.0) : d.attention_factor * std::polar(1.0, d.rotation == rotation::negative ? -angle : angle);
          const std::array neighbours{start + 2 * k, start + 2 * k + 1};
          const std::array apart{start + k / half * 2 * half + k % half, start + k / half * 2 * half + k % half + half};
          const auto& from = d.pairing == pairing::halves ? apart : neighbours;
          const auto& to = d.pairing == pairing::interleaved ? neighbours : apart;
          const auto z = std::complex(x(b, t, first_head + h, from[0]), x(b, t, first_head + h, from[1])) * turn;
          y(b, t, first_head + h, to[0]) = z.real(), y(b, t, first_head + h, to[1]) = z.imag();
        }
  return y;
}

template <class S>
head_view<const S> read(const tensor4<S>& x) {
  return heads(x, time_head);
}

/// The gradients of dot(importance, rotate(x)) with respect to x and the frequencies.
template <class T, class S>
struct gradients {
  tensor4<T> x;
  std::vector<S> frequencies;
  gradients(const learned_rope<S>& encoder, const tensor4<T>& rotated, const tensor4<T>& importance, operand role,
            const typename learned_rope<S>::state& state, index_t size, const executor& run = {})
      : x(importance), frequencies(static_cast<std::size_t>(size)) {
    const std::array<std::span<S>, 1> spans{frequencies};
    encoder.rotate_backward(heads(x, time_head), read(rotated), role, state, spans, run);
  }
};

/// The same function of positions and of coordinates, for both roles.
void for_all_places(index_t axes, auto&& test) {
  for (const operand role : {operand::query, operand::key}) {
    INFO((role == operand::query ? "queries" : "keys"));
    test(whole_places(axes), role);
    test(other_places(axes), role);
    test(attention_positions{positions::multi_axis(std::vector<position>(static_cast<std::size_t>(axes * tokens), 2), axes),
                             axes > 1 ? positions::multi_axis(std::vector<position>(static_cast<std::size_t>(axes * tokens), -3), axes)
                                      : positions::offsets(std::array{3, -4}, tokens)},
         role);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("learned_rope turns by the sum over axes of position times frequency", "[rope][learned_rope]", float, double) {
  for (const form& of : forms()) {
    INFO(of.name);
    auto encoder = of.encoder<TestType>();
    const auto parameter = encoder.parameters()[0];
    for_all_places(of.axes, [&](const auto& at, operand role) {
      auto x = random_tensor<tensor4<TestType>>(54, batch, tokens, count, of.channels);
      const block4 before = x.template cast<double>();
      encoder.rotate(heads(x, time_head), role, encoder.prepare(at));
      const block4 expected = turned(before, of, std::span<const TestType>(parameter.values), at.turned(role));
      CHECK(reference::difference(x, expected, sizeof(TestType) == 4 ? 4e-7 : 2e-14) == "");
      encoder.inverse(heads(x, time_head), role, encoder.prepare(at));
      CHECK(reference::difference(x, before, sizeof(TestType) == 4 ? 8e-7 : 3e-15) == "");
    });
  }
}

TEST_CASE("the gradients of learned_rope equal difference quotients", "[rope][learned_rope]") {
  for (const form& of : forms()) {
    INFO(of.name);
    auto encoder = of.encoder<double>();
    const auto values = encoder.parameters()[0].values;
    for_all_places(of.axes, [&](const auto& at, operand role) {
      auto x = random_tensor<block4>(55, batch, tokens, count, of.channels);
      const auto importance = random_tensor<block4>(56, batch, tokens, count, of.channels);
      block4 y = x;
      const auto loss = [&] {
        y = x;
        encoder.rotate(heads(y, time_head), role, encoder.prepare(at));
        return reference::dot(y, importance);
      };
      loss();
      const gradients exact(encoder, y, importance, role, encoder.prepare(at), static_cast<index_t>(values.size()));
      const auto of_x = reference::derivatives(std::span(x.data(), static_cast<std::size_t>(x.size())), loss, 0.5);
      CHECK(reference::difference(exact.x, of_x, 1e-12) == "");
      const auto of_frequencies = reference::derivatives(values, loss, 1e-5);
      CHECK(reference::difference(exact.frequencies, of_frequencies, 2e-7) == "");
      CHECK(std::ranges::all_of(exact.frequencies, [](double d) { return d != 0; }));
    });
  }
}

TEST_CASE("the gradients of learned_rope are added to", "[rope][learned_rope]") {
  const auto encoder = forms()[3].encoder<double>();
  const auto state = encoder.prepare(whole_places(2));
  const auto y = random_tensor<block4>(57, batch, tokens, count, 8), importance = random_tensor<block4>(58, batch, tokens, count, 8);
  const auto queries = gradients(encoder, y, importance, operand::query, state, 24).frequencies,
             keys = gradients(encoder, y, importance, operand::key, state, 24).frequencies;
  std::vector<double> sums(24, 3);
  const std::array<std::span<double>, 1> spans{sums};
  for (const operand role : {operand::query, operand::key}) {
    block4 d = importance;
    encoder.rotate_backward(heads(d, time_head), read(y), role, state, spans);
  }
  for (std::size_t n = 0; n < 24; ++n) CHECK(std::abs(sums[n] - (3 + queries[n] + keys[n])) < 1e-13);
}

TEST_CASE("frequencies for all serve any number of heads", "[rope][learned_rope]") {
  const auto encoder = forms()[1].encoder<double>();
  const auto state = encoder.prepare(whole_places(2));
  for (const index_t number : {0, 1, 4}) {
    const auto y = random_tensor<block4>(57, batch, tokens, number, 8), d = random_tensor<block4>(58, batch, tokens, number, 8);
    const auto all = gradients(encoder, y, d, operand::key, state, 8).frequencies;
    std::vector<double> sums(8);
    for (index_t h = 0; h < number; ++h) {  // as much as one by one
      const block4 one_y = y.slice(std::array<index_t, 4>{0, 0, h, 0}, std::array<index_t, 4>{batch, tokens, 1, 8}),
                   one_d = d.slice(std::array<index_t, 4>{0, 0, h, 0}, std::array<index_t, 4>{batch, tokens, 1, 8});
      const auto more = gradients(encoder, one_y, one_d, operand::key, state, 8).frequencies;
      for (std::size_t n = 0; n < 8; ++n) sums[n] += more[n];
    }
    CHECK(reference::difference(all, sums, 1e-13) == "");
  }
}

TEMPLATE_TEST_CASE("the gradients of learned_rope on other scalars are close to those in double", "[rope][learned_rope]", float,
                   Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  const double unit = std::is_same_v<T, float> ? 2e-7 : std::is_same_v<T, Eigen::half> ? 2e-3 : 1.6e-2;  // of what d_x is rounded to
  for (const form& of : forms()) {
    INFO(of.name);
    auto encoder = of.encoder<float>();
    const auto values = encoder.parameters()[0].values;
    const std::vector<double> wide(values.begin(), values.end());
    const learned_rope<double> in_double(of.descriptor, wide, of.axes, of.heads);
    for_all_places(of.axes, [&](const auto& at, operand role) {
      const auto given = [&](std::uint64_t seed) {
        return tensor4<T>(random_tensor<tensor4<float>>(seed, batch, tokens, count, of.channels).template cast<T>());
      };
      const tensor4<T> y = given(59), d = given(60);
      const block4 wide_y = y.template cast<double>(), wide_d = d.template cast<double>();
      const auto size = static_cast<index_t>(values.size());
      const gradients<T, float> got(encoder, y, d, role, encoder.prepare(at), size);
      const gradients<double, double> expected(in_double, wide_y, wide_d, role, in_double.prepare(at), size);
      CHECK(reference::difference(block4(got.x.template cast<double>()), expected.x, 2 * unit) == "");
      for (std::size_t n = 0; n < values.size(); ++n)
        CHECK(std::abs(got.frequencies[n] - expected.frequencies[n]) <= 1e-7 * std::abs(expected.frequencies[n]) + 1e-12);
    });
  }
}

TEMPLATE_TEST_CASE("the gradients of learned_rope have the same bits on any number of threads", "[rope][learned_rope]", float, double) {
  constexpr index_t many = 700;
  for (const form& of : {form{"", {.pairing = pairing::interleaved, .dim = 72}, 72, 2, 3},
                         form{"", {.pairing = pairing::halves, .dim = 64, .offset = 3, .blocks = 2}, 70, 1, 0}}) {
    const auto encoder = of.encoder<TestType>();
    const auto y = random_tensor<tensor4<TestType>>(61, batch, many, count, of.channels),
               d = random_tensor<tensor4<TestType>>(62, batch, many, count, of.channels);
    const auto state = encoder.prepare(
        attention_positions{positions::multi_axis(std::vector<position>(static_cast<std::size_t>(of.axes * many), 7), of.axes),
                            positions::multi_axis(std::vector<position>(static_cast<std::size_t>(of.axes * many), 7), of.axes)});
    const index_t size = std::max<index_t>(of.heads, 1) * of.axes * of.descriptor.dim / 2;
    const gradients<TestType, TestType> alone(encoder, y, d, operand::query, state, size);
    for (const int threads : {1, 2, 3, 7}) {
      Eigen::ThreadPool pool(threads);
      const Eigen::ThreadPoolDevice device(&pool, threads);
      const gradients<TestType, TestType> shared(encoder, y, d, operand::query, state, size, device);
      CHECK(reference::bit_difference(shared.x, alone.x) == "");
      CHECK(reference::bit_difference(shared.frequencies, alone.frequencies) == "");
    }
  }
}

TEST_CASE("the parameters of learned_rope are its frequencies, and tables follow them", "[rope][learned_rope]") {
  auto shared = forms()[1].encoder<float>(), by_head = forms()[3].encoder<float>();
  REQUIRE(shared.parameters().size() == 1);
  CHECK(shared.parameters()[0].name == "frequencies");
  CHECK(shared.parameters()[0].shape == std::vector<index_t>{2, 4});
  CHECK(shared.parameters()[0].values.size() == 8);
  CHECK(by_head.parameters()[0].shape == std::vector<index_t>{3, 2, 4});
  CHECK(by_head.parameters()[0].values.size() == 24);

  const auto at = positions::multi_axis(std::array{1, 2, 3, 4}, 2);
  const auto before = shared.prepare(at);
  const auto untouched = shared;
  CHECK(shared == untouched);
  shared.parameters()[0].values[5] = 0.5;  // axis 1, pair 1
  CHECK_FALSE(shared == untouched);
  CHECK(shared.inspect().frequencies.radians(5) == 0.5);
  CHECK(untouched.inspect().frequencies.radians(5) != 0.5);
  const auto after = shared.prepare(at), old = untouched.prepare(at);
  for (index_t t = 0; t < 2; ++t)
    for (index_t k = 0; k < 4; ++k) {
      CHECK((after.row(0, t)[k] == before.row(0, t)[k]) == (k != 1));
      CHECK(old.row(0, t)[k] == before.row(0, t)[k]);
    }

  // Frequencies that were zero turn as soon as they are not, and shifts take those of now.
  learned_rope<double> still({.pairing = pairing::halves, .dim = 4}, std::array{0.0, 0.0});
  const auto given = random_tensor<block4>(63, 1, 2, 1, 4);
  block4 x = given;
  still.rotate(heads(x, time_head), positions::range(2, 5));
  CHECK(reference::bit_difference(x, given) == "");
  still.parameters()[0].values[0] = 0.25, still.parameters()[0].values[1] = -3;
  block4 shifted = given, straight = given;
  still.rotate(heads(shifted, time_head), positions::range(2, 5));
  still.shift(heads(shifted, time_head), 4);
  still.rotate(heads(straight, time_head), positions::range(2, 9));
  CHECK(reference::difference(straight, given, 0.1) != "");
  CHECK(reference::difference(shifted, straight, 2e-15) == "");
  STATIC_REQUIRE(is_shiftable<learned_rope<float>>);
  STATIC_REQUIRE(is_shiftable<learned_rope<double>>);
}

TEST_CASE("gradient descent finds the frequencies that turned something", "[rope][learned_rope]") {
  const form of{"", {.pairing = pairing::halves, .dim = 8}, 8, 1, 3};
  auto teacher = of.encoder<double>(), pupil = teacher;
  const auto values = pupil.parameters()[0].values, aims = teacher.parameters()[0].values;
  for (double& value : values) value += 0.05;
  const attention_positions at{positions::range(tokens), positions::range(tokens)};
  const auto given = random_tensor<block4>(64, batch, tokens, count, 8);
  block4 aim = given;
  teacher.rotate(heads(aim, time_head), operand::query, teacher.prepare(at));
  for (int step = 0; step < 300; ++step) {
    const auto state = pupil.prepare(at);
    block4 y = given;
    pupil.rotate(heads(y, time_head), operand::query, state);
    const block4 d = y - aim;
    const gradients slope(pupil, y, d, operand::query, state, 12);
    for (std::size_t n = 0; n < 12; ++n) values[n] -= 0.03 * slope.frequencies[n];
  }
  CHECK(reference::difference(values, aims, 1e-3) == "");
}

TEMPLATE_TEST_CASE("learned_rope on one axis with rope's frequencies is rope, bit for bit", "[rope][learned_rope]", float, double) {
  // base^(-2k / dim) = 2^-k
  std::vector<TestType> speeds;
  for (int k = 0; k < 4; ++k) speeds.push_back(std::ldexp(TestType(1), -k));
  for (const auto pairs : {pairing::halves, pairing::interleaved, pairing::interleaved_to_halves}) {
    const rotary_descriptor descriptor{.pairing = pairs, .dim = 8, .offset = 1, .attention_factor = 1.25};
    const rope<TestType> plain(descriptor, {.base = 16});
    const learned_rope<TestType> learned(descriptor, speeds);
    const auto at = positions::ids(std::array<position, 5>{0, -3, no_position, 1'000'000'000, 77});
    const auto x = random_tensor<tensor4<TestType>>(65, batch, tokens, count, 10);
    auto expected = x, got = x;
    plain.rotate(heads(expected, time_head), operand::query, plain.prepare({at, at}));
    learned.rotate(heads(got, time_head), operand::query, learned.prepare(attention_positions{at, at}));
    CHECK(reference::bit_difference(got, expected) == "");

    auto d_expected = x;
    plain.rotate_backward(heads(d_expected, time_head), operand::query, plain.prepare({at, at}));
    const gradients<TestType, TestType> d(learned, got, x, operand::query, learned.prepare(attention_positions{at, at}), 4);
    CHECK(reference::bit_difference(d.x, d_expected) == "");
  }
}

// ---- mixed frequencies ---------------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("mixed frequencies point in two directions at right angles, of magnitudes of the base", "[rope][learned_rope]", float,
                   double) {
  constexpr index_t dim = 16, of_each = dim / 4, pairs = dim / 2;
  random_source random(66), same(66), other(67);
  const auto all = mixed_frequencies<TestType>(3, dim, 10, random);
  CHECK(all == mixed_frequencies<TestType>(3, dim, 10, same));
  CHECK(all != mixed_frequencies<TestType>(3, dim, 10, other));
  REQUIRE(all.size() == 3 * 2 * pairs);
  constexpr double unit = 4 * std::numeric_limits<TestType>::epsilon();
  std::vector<double> directions;
  for (index_t h = 0; h < 3; ++h) {
    const auto at = [&](index_t k) {
      const auto n = static_cast<std::size_t>(2 * h * pairs + k);
      return std::complex<double>(all[n], all[n + static_cast<std::size_t>(pairs)]);
    };
    for (index_t k = 0; k < of_each; ++k) {
      const double magnitude = std::pow(10.0, -4.0 * static_cast<double>(k) / dim);
      CHECK(std::abs(at(k) / magnitude - at(0)) < unit);  // one direction
      CHECK(std::abs(std::abs(at(k)) - magnitude) < unit);
      CHECK(std::abs(at(of_each + k) - std::complex(0.0, 1.0) * at(k)) < unit);  // a quarter turn on
    }
    directions.push_back(std::arg(at(0)));
  }
  CHECK((directions[0] != directions[1] && directions[1] != directions[2] && directions[0] != directions[2]));
  const learned_rope<TestType> encoder({.pairing = pairing::interleaved, .dim = dim}, all, 2, 3);
  CHECK(encoder.inspect().frequencies.heads() == 3);
  CHECK(encoder.inspect().frequencies.axes() == 2);
}

TEST_CASE("mixed frequencies refuse shapes that they do not have", "[rope][learned_rope][errors]") {
  random_source random(1);
  reference::refuses("[mixed_frequencies] heads must be positive but got 0", [&] { mixed_frequencies<float>(0, 8, 10, random); });
  reference::refuses("[mixed_frequencies] dim must be a positive multiple of 4 but got 6",
                     [&] { mixed_frequencies<float>(1, 6, 10, random); });
  reference::refuses("[mixed_frequencies] dim must be a positive multiple of 4 but got 0",
                     [&] { mixed_frequencies<float>(1, 0, 10, random); });
  reference::refuses("[mixed_frequencies] base must be positive and finite but got -1",
                     [&] { mixed_frequencies<float>(1, 8, -1, random); });
  CHECK(random == random_source(1));
}

// ---- errors --------------------------------------------------------------------------------------------------------------------------

TEST_CASE("learned_rope refuses frequencies that do not fit", "[rope][learned_rope][errors]") {
  const auto made = [](index_t dim, std::vector<float> speeds, index_t axes = 1, index_t number = 0) {
    learned_rope<float>({.pairing = pairing::halves, .dim = dim}, speeds, axes, number);
  };
  const auto refused = [](const std::string& text, auto&& act) { reference::refuses("[learned_rope] " + text, act); };
  made(4, {1, 2});
  made(4, std::vector<float>(12), 3, 2);
  refused("there must be a frequency for each pair of channels but got 2 and 3", [&] { made(4, {1, 2, 3}); });
  refused("there must be a frequency for each pair of channels but got 2 and 1", [&] { made(4, {1, 2}, 2); });
  refused("axes and heads must divide the number of frequencies but got 3 and 2 and 0", [&] { made(4, {1, 2, 3}, 2); });
  refused("axes and heads must divide the number of frequencies but got 4 and 2 and 3", [&] { made(4, {1, 2, 3, 4}, 2, 3); });
  refused("axes and heads must divide the number of frequencies but got 2 and 0 and 0", [&] { made(4, {1, 2}, 0); });
  refused("axes and heads must divide the number of frequencies but got 2 and 1 and -1", [&] { made(4, {1, 2}, 1, -1); });
  refused("frequencies must be finite and below 2^39 radians but got nan", [&] { made(4, {1, std::nanf("")}); });
  refused("frequencies must be finite and below 2^39 radians but got -549755813888", [&] { made(4, {1, -0x1p39f}); });
  refused("dim must be even but got 3", [&] { made(3, {1}); });

  learned_rope<float> encoder({.pairing = pairing::halves, .dim = 4}, std::array{1.f, 2.f});
  encoder.parameters()[0].values[1] = std::numeric_limits<float>::infinity();  // training went wrong
  refused("frequencies must be finite and below 2^39 radians but got inf", [&] { encoder.prepare(positions::range(1)); });
}

TEST_CASE("learned_rope refuses tensors and gradients that do not fit, and writes nothing before", "[rope][learned_rope][errors]") {
  const auto encoder = forms()[3].encoder<float>();  // 8 channels, 2 axes, 3 heads
  const auto refused = [](auto& memory, const std::string& text, auto&& act) { reference::refuses(memory, "[learned_rope] " + text, act); };
  reference::refuses("[learned_rope] the positions must have as many axes as the encoder but got 2 and 1",
                     [&] { encoder.prepare(positions::range(3)); });
  reference::refuses("[learned_rope] the positions must have as many axes as the encoder but got 2 and 3",
                     [&] { encoder.prepare(other_places(3)); });
  const auto state = encoder.prepare(whole_places(2));
  const auto with = [](index_t time, index_t number, index_t channels) {
    return random_tensor<tensor4<float>>(68, batch, time, number, channels);
  };
  const auto d = with(tokens, 3, 8), y = d;
  std::vector<float> sums(24, 2);
  const std::array<std::span<float>, 1> right{sums}, few{std::span(sums).first(23)};
  const std::array<std::span<float>, 2> two{sums, sums};
  const auto refuses = [&](const std::string& text, auto gradient, const auto& rotated, std::span<const std::span<float>> spans) {
    refused(gradient, text, [&] { encoder.rotate_backward(heads(gradient, time_head), read(rotated), operand::query, state, spans); });
    CHECK(sums == std::vector<float>(24, 2));
  };
  refuses("the gradient must have the shape of what it is of but got [2, 5, 3, 9] and [2, 5, 3, 8]", d, with(tokens, 3, 9), right);
  refuses("the gradient must have the shape of what it is of but got [2, 4, 3, 8] and [2, 5, 3, 8]", d, with(4, 3, 8), right);
  refuses("there must be one gradient span with a value per frequency but got 24 and 1", d, y, few);
  refuses("there must be one gradient span with a value per frequency but got 24 and 2", d, y, two);
  refuses("there must be one gradient span with a value per frequency but got 24 and 0", d, y, {});
  refuses("time must match the table but got 4 and 5", with(4, 3, 8), with(4, 3, 8), right);
  refuses("heads must match the table but got 2 and 3", with(tokens, 2, 8), with(tokens, 2, 8), right);
  refuses("offset + dim must not exceed the channels but got 6 and 0 and 8", with(tokens, 3, 6), with(tokens, 3, 6), right);

  auto x = with(tokens, 4, 8);
  refused(x, "heads must match the table but got 4 and 3", [&] { encoder.rotate(heads(x, time_head), operand::query, state); });
}
