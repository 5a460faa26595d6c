// SPDX-License-Identifier: MIT
#include <posenc/rope/pope.hpp>

#include <posenc/rope.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/angle.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/pope.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace posenc;

template <class T, int Rank = 4>
using tensor = Eigen::Tensor<T, Rank, Eigen::RowMajor>;

constexpr double two_pi_ = 6.283185307179586;

template <class T>
head_view<T> by_time(tensor<T>& x) {
  return heads(x, axis_order::time_head);
}
template <class T>
head_view<const T> read_by_time(const tensor<T>& x) {
  return heads(x, axis_order::time_head);
}

/// Random numbers in [-6, 6).
template <class T>
tensor<T> contents(std::uint64_t seed, index_t batch, index_t time, index_t count, index_t channels) {
  using S = compute_t<T>;
  return (random_tensor<tensor<S>>(seed, batch, time, count, channels) * S(6)).template cast<T>();
}
/// In the first half of twice as many channels; whatever else is behind.
template <class T>
tensor<T> widened(const tensor<T>& x) {
  tensor<T> wide(x.dimension(0), x.dimension(1), x.dimension(2), 2 * x.dimension(3));
  wide.setConstant(T(77));
  wide.slice(std::array<index_t, 4>{}, x.dimensions()) = x;
  return wide;
}

template <class S>
std::vector<S> some_biases(index_t count) {
  std::vector<S> all = random_vector<S>(11, count);
  for (S& bias : all) bias = S(-3) + S(2.9) * bias;
  return all;
}

/// In (-pi, pi], exact enough for a double wherever a token stands.
double angle(index_t dim, position p, index_t j, double bias) {
  const long double theta = std::pow(10000.0L, -static_cast<long double>(j) / static_cast<long double>(dim));
  return static_cast<double>(
      std::remainder(static_cast<long double>(p) * theta + static_cast<long double>(bias), 6.28318530717958647692528676655900577L));
}

constexpr index_t dim = 6, count = 3;
/// Left padding, and rows of different age.
positions some_positions() { return positions::ids(std::vector<position>{no_position, 0, 1, 5, -3, 4000, 2, 7}, 2); }
attention_positions both(const positions& at) { return {.queries = at, .keys = at}; }

template <class Tensor>
bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(*a.data())) == 0;
}

}  // namespace

TEMPLATE_TEST_CASE("pope writes the complex numbers of its paper", "[pope]", float, double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  const auto at = some_positions();
  const auto biases = some_biases<S>(count * dim);
  const pope<S> encoder({.dim = dim, .heads = count}, biases);
  const auto made = encoder.prepare(both(at));
  const auto x = contents<T>(1, 2, 4, count, dim);
  const double unit = sizeof(T) == 2 ? (std::is_same_v<T, Eigen::bfloat16> ? 0x1p-8 : 0x1p-11) : std::numeric_limits<S>::epsilon();
  at_every_instruction_set([&] {
    for (const operand role : {operand::query, operand::key}) {
      auto y = widened(x);
      encoder.rotate(by_time(y), role, made);
      tensor<double> expected(2, 4, count, 2 * dim);
      for (index_t b = 0; b < 2; ++b)
        for (index_t t = 0; t < 4; ++t)
          for (index_t h = 0; h < count; ++h)
            for (index_t j = 0; j < dim; ++j) {
              const double bias = role == operand::key ? static_cast<double>(biases[static_cast<std::size_t>(h * dim + j)]) : 0;
              const double a = at(b, t) == no_position ? 0 : angle(dim, at(b, t), j, bias);
              const auto value = reference::pope(static_cast<double>(static_cast<S>(x(b, t, h, j))), a);
              expected(b, t, h, j) = value.real(), expected(b, t, h, dim + j) = value.imag();
            }
      CHECK(reference::difference(tensor<double>(y.template cast<double>()), expected, 6 * 5 * unit) == "");
    }
  });
}

TEST_CASE("pope has the values of its formula", "[pope]") {
  // log(1 + e^0) = log 2; channel 0 turns by one radian a position, channel 1 of two by 1 / 100.
  const pope<double> encoder({.dim = 2}, std::vector{0.0, -0.5});
  const auto made = encoder.prepare(both(positions::range(2, 2)));
  tensor<double> q(1, 2, 1, 4), k(1, 2, 1, 4);
  q.setZero(), k.setZero();
  encoder.rotate(by_time(q), operand::query, made);
  encoder.rotate(by_time(k), operand::key, made);
  constexpr double log_2 = 0.6931471805599453;
  const std::array queries{-0.28845101, 0.69300856, 0.63027695, 0.01386202};  // position 2: cos 2, cos 0.02, sin 2, sin 0.02
  for (index_t c = 0; c < 4; ++c) CHECK(std::abs(q(0, 0, 0, c) - queries[static_cast<std::size_t>(c)]) < 1e-8);
  CHECK(std::abs(k(0, 1, 0, 1) - log_2 * 0.8915682882) < 1e-9);   // position 3: cos(0.03 - 0.5)
  CHECK(std::abs(k(0, 1, 0, 3) + log_2 * 0.4528862854) < 1e-9);  // sin
}

TEST_CASE("pope: scores depend on the difference of positions alone, and on magnitudes", "[pope]") {
  constexpr index_t time = 5;
  const auto biases = some_biases<double>(count * dim);
  const pope<double> encoder({.dim = dim, .heads = count}, biases);
  const auto q = contents<double>(1, 1, time, count, dim), k = contents<double>(2, 1, time, count, dim);
  for (const position start : {position{0}, position{-40}, position{1000000}}) {
    const auto made = encoder.prepare(both(positions::range(time, start)));
    auto turned_q = widened(q), turned_k = widened(k);
    encode_queries_keys(encoder, by_time(turned_q), by_time(turned_k), made);
    for (index_t h = 0; h < count; ++h)
      for (index_t i = 0; i < time; ++i)
        for (index_t j = 0; j < time; ++j) {
          double score = 0, expected = 0;
          for (index_t c = 0; c < 2 * dim; ++c) score += turned_q(0, i, h, c) * turned_k(0, j, h, c);
          for (index_t c = 0; c < dim; ++c)
            expected += reference::softplus(q(0, i, h, c)) * reference::softplus(k(0, j, h, c)) *
                        std::cos(angle(dim, i - j, c, -biases[static_cast<std::size_t>(h * dim + c)]));
          CHECK(std::abs(score - expected) < 1e-12 * 40);
        }
  }
}

TEST_CASE("pope with magnitudes of one has the angles of rope", "[pope]") {
  const auto at = some_positions();
  const pope<double> encoder({.dim = dim});
  const rope<double> twice({.pairing = pairing::halves, .dim = 2 * dim});
  auto y = widened(tensor<double>(tensor<double>(2, 4, count, dim).setConstant(std::log(std::exp(1.0) - 1))));
  tensor<double> z(2, 4, count, 2 * dim);
  for (index_t n = 0; n < z.size(); ++n) z.data()[n] = n % (2 * dim) < dim ? 1 : 0;
  const auto made = encoder.prepare(both(at));
  for (const operand role : {operand::query, operand::key}) {
    auto turned = y, rotated = z;
    encoder.rotate(by_time(turned), role, made);
    twice.rotate(by_time(rotated), at);
    CHECK(reference::difference(turned, rotated, 1e-15) == "");
  }
  for (index_t j = 0; j < dim; ++j) CHECK(encoder.inspect()[j] == twice.inspect().frequencies[j]);
}

TEST_CASE("pope takes frequencies of the caller's, one row of biases for all heads, and biases beyond their range", "[pope]") {
  const std::vector<double> biases{-7, 0.5, -two_pi_};
  const pope<double> encoder({.dim = 3, .frequencies = {{0.5, 0}, {0, 0}, {2, 0}}}, biases);
  const auto made = encoder.prepare(both(positions::range(3, -1)));
  CHECK(made.keys.heads() == 0);
  constexpr std::array speeds{0.5, 0.0, 2.0};
  for (index_t t = 0; t < 3; ++t)
    for (index_t j = 0; j < 3; ++j) {  // all three biases act as whole turns
      const double a = static_cast<double>(t - 1) * speeds[static_cast<std::size_t>(j)];
      CHECK(std::abs(made.keys.row(0, t)[j] - std::cos(a)) < 5e-16);
      CHECK(std::abs(made.keys.row(0, t)[3 + j] - std::sin(a)) < 5e-16);
    }
}

TEST_CASE("pope in float: angles of keys are within the bound of all tables", "[pope]") {
  random_source random(3);
  const auto biases = uniform_pope_biases<float>(4, 8, random);
  const pope<float> encoder({.dim = 8, .heads = 4}, biases);
  const std::vector<position> ids{0, 1, -1, 1000003, (position{1} << 31) - 1, -(position{1} << 31)};
  const auto made = encoder.prepare(both(positions::ids(ids)));
  for (std::size_t t = 0; t < ids.size(); ++t)
    for (index_t h = 0; h < 4; ++h)
      for (index_t j = 0; j < 8; ++j) {
        const auto n = static_cast<std::size_t>(h * 8 + j);
        const auto [high, low] = encoder.inspect()[j];
        const auto [c, s] = reference::angle(ids[t], high, low);
        const auto bias = static_cast<long double>(biases[n]);
        CHECK(std::abs(made.keys.row(0, static_cast<index_t>(t), h)[j] - (c * std::cos(bias) - s * std::sin(bias))) <= 3.1e-8L);
        CHECK(std::abs(made.keys.row(0, static_cast<index_t>(t), h)[8 + j] - (s * std::cos(bias) + c * std::sin(bias))) <= 3.1e-8L);
      }
}

TEMPLATE_TEST_CASE("pope writes the same in place, elsewhere, into a cache, in both orders of heads, and on threads", "[pope]", float,
                   double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  constexpr index_t batch = 2, time = 40, channels = 40;
  const auto at = positions::offsets(std::array{3, 1000}, time);
  const pope<S> encoder({.dim = channels, .heads = count}, some_biases<S>(count * channels));
  const auto made = encoder.prepare(both(at));
  const auto x = contents<T>(1, batch, time, count, channels);
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  for (const operand role : {operand::query, operand::key}) {
    auto expected = widened(x);
    encoder.rotate(by_time(expected), role, made);
    for (const executor& run : {executor(), executor(device), executor().streaming()}) {
      auto in_place = widened(x);
      encoder.rotate(by_time(in_place), role, encoder.prepare(both(at), run), run);
      CHECK(same_bytes(in_place, expected));

      tensor<T> out(batch, time, count, 2 * channels);
      encoder.rotate(read_by_time(x), by_time(out), role, made, run);
      CHECK(same_bytes(out, expected));

      auto first_half = widened(x);  // the input is the first channels of the output
      const auto view = by_time(first_half).by_time();
      encoder.rotate(head_view<T>({view.data(), {batch, time, count, channels}, view.strides()}), head_view<T>(view), role, made, run);
      CHECK(same_bytes(first_half, expected));

      const std::array<int, 4> swapped{0, 2, 1, 3};
      tensor<T> by_head = x.shuffle(swapped), out_by_head(batch, count, time, 2 * channels);
      encoder.rotate(heads(by_head, axis_order::head_time), heads(out_by_head, axis_order::head_time), role, made, run);
      CHECK(same_bytes(tensor<T>(out_by_head.shuffle(swapped)), expected));

      tensor<T> cache(1, batch * time, count, 2 * channels);
      cache.setConstant(T(5));
      std::vector<index_t> rows;
      for (index_t n = 0; n < batch * time; ++n) rows.push_back(n == 7 ? no_row : batch * time - 1 - n);
      encoder.rotate(read_by_time(x), by_time(cache), rows, role, made, run);
      tensor<T> back(batch, time, count, 2 * channels);
      for (index_t n = 0; n < batch * time; ++n)
        std::copy_n(&(n == 7 ? expected : cache)(0, n == 7 ? 7 : batch * time - 1 - n, 0, 0), count * 2 * channels,
                    back.data() + n * count * 2 * channels);
      CHECK(same_bytes(back, expected));
      CHECK(static_cast<float>(cache(0, batch * time - 8, 0, 0)) == 5.0f);
    }
  }
}

TEMPLATE_TEST_CASE("pope: decoding equals prefill, bit for bit", "[pope]", float, double) {
  constexpr index_t time = 9;
  const pope<TestType> encoder({.dim = dim, .heads = count}, some_biases<TestType>(count * dim));
  const auto x = contents<TestType>(1, 1, time, count, dim);
  auto all = widened(x);
  encoder.rotate(by_time(all), operand::key, encoder.prepare(both(positions::range(time, 20))));
  const auto unknown = [&] {  // biases that were changed after construction
    pope<TestType> other({.dim = dim, .heads = count});
    std::ranges::copy(some_biases<TestType>(count * dim), other.parameters()[0].values.begin());
    return other;
  }();
  CHECK(unknown == encoder);
  for (index_t t = 0; t < time; ++t) {
    const auto made = unknown.prepare({.queries = positions::ids(std::array{position{20} + t}),
                                       .keys = positions::range(20 + t + 1),
                                       .new_keys = positions::range(1, 20 + t)});
    auto step = widened(tensor<TestType>(x.slice(std::array<index_t, 4>{0, t, 0, 0}, std::array<index_t, 4>{1, 1, count, dim})));
    unknown.rotate(by_time(step), operand::key, made);
    CHECK(same_bytes(step, tensor<TestType>(all.slice(std::array<index_t, 4>{0, t, 0, 0}, step.dimensions()))));
  }
}

TEST_CASE("pope: tokens between the integers", "[pope]") {
  const pope<double> encoder({.dim = dim, .heads = count}, some_biases<double>(count * dim));
  const auto at = coordinates::values(std::vector{0.25, no_coordinate, 3.0}, 1);
  const auto made = encoder.prepare(attention_coordinates{.queries = at, .keys = at});
  const auto whole = encoder.prepare(both(positions::range(1, 3)));
  for (index_t h = 0; h < count; ++h)
    for (index_t j = 0; j < dim; ++j) {
      const double bias = some_biases<double>(count * dim)[static_cast<std::size_t>(h * dim + j)];
      CHECK(std::abs(made.keys.row(0, 0, h)[j] - std::cos(0.25 * std::pow(10000.0, -static_cast<double>(j) / dim) + bias)) < 1e-15);
      CHECK(made.keys.row(0, 1, h)[j] == 1);
      CHECK(made.keys.row(0, 1, h)[dim + j] == 0);
      CHECK(made.keys.row(0, 2, h)[j] == whole.keys.row(0, 0, h)[j]);
    }
}

TEST_CASE("pope: gradients are those of central differences", "[pope]") {
  const auto at = some_positions();
  auto x = contents<double>(1, 2, 4, count, dim);
  const auto d_y = contents<double>(2, 2, 4, count, 2 * dim);
  for (const index_t rows : {count, index_t{0}})
    for (const operand role : {operand::query, operand::key}) {
      pope<double> encoder({.dim = dim, .heads = rows}, some_biases<double>(std::max<index_t>(rows, 1) * dim));
      const auto loss = [&] {
        auto y = widened(x);
        encoder.rotate(by_time(y), role, encoder.prepare(both(at)));
        return reference::dot(y, d_y);
      };
      auto rotated = widened(x);
      const auto made = encoder.prepare(both(at));
      encoder.rotate(by_time(rotated), role, made);
      auto d = d_y;
      gradient_buffer<double> d_biases(encoder.parameters());
      d_biases.spans()[0][0] = 100;  // added to
      encoder.rotate_backward(by_time(d), read_by_time(rotated), role, made, d_biases.spans());
      d_biases.spans()[0][0] -= 100;

      tensor<double> d_x = d.slice(std::array<index_t, 4>{}, x.dimensions());
      const auto numeric = reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, 1e-5);
      CHECK(reference::difference(d_x, numeric, 1e-8) == "");
      const auto numeric_biases = reference::derivatives(encoder.parameters()[0].values, loss, 1e-5);
      CHECK(reference::difference(d_biases.spans()[0], numeric_biases, 1e-7) == "");
      if (role == operand::query) CHECK(std::ranges::all_of(d_biases.spans()[0], [](double one) { return one == 0; }));
      for (index_t n = 0; n < d.size(); ++n)
        if (n % (2 * dim) >= dim) CHECK(d.data()[n] == 0);
    }
}

TEST_CASE("pope: biases outside of their range have no gradient, those at its ends have", "[pope]") {
  const std::vector<float> biases{-7, 0.5f, static_cast<float>(-two_pi_), 0};
  pope<float> encoder({.dim = 4}, biases);
  const auto made = encoder.prepare(both(positions::range(3)));
  auto y = widened(contents<float>(1, 1, 3, 2, 4));
  encoder.rotate(by_time(y), operand::key, made);
  auto d = contents<float>(2, 1, 3, 2, 8);
  gradient_buffer<float> d_biases(encoder.parameters());
  encoder.rotate_backward(by_time(d), read_by_time(y), operand::key, made, d_biases.spans());
  const auto got = d_biases.spans()[0];
  CHECK(got[0] == 0);
  CHECK(got[1] == 0);
  CHECK(got[2] != 0);
  CHECK(got[3] != 0);
}

TEST_CASE("pope: the slope of softplus comes from what was written as exactly as from the input", "[pope]") {
  // dx / d_magnitude against sigmoid(x), from inputs whose magnitudes are tiny to those where nothing is left of e^-x.
  std::vector<double> inputs;
  for (double x = -700; x < 700; x += 0.37) inputs.push_back(x);
  const auto size = static_cast<index_t>(inputs.size());
  const pope<double> encoder({.dim = size, .base = 1.0001});
  const auto made = encoder.prepare(both(positions::range(1, 5)));
  tensor<double> y(1, 1, 1, 2 * size), d(1, 1, 1, 2 * size);
  y.setZero();
  std::ranges::copy(inputs, y.data());
  encoder.rotate(by_time(y), operand::query, made);
  for (index_t j = 0; j < 2 * size; ++j) d.data()[j] = made.queries.row(0, 0)[j];  // the gradient of the magnitude is 1
  gradient_buffer<double> none(pope<double>(encoder).parameters());
  encoder.rotate_backward(by_time(d), read_by_time(y), operand::query, made, none.spans());
  double largest = 0;
  for (index_t j = 0; j < size; ++j) {
    const double slope = reference::sigmoid(inputs[static_cast<std::size_t>(j)]);
    largest = std::max(largest, std::abs(d.data()[j] - slope) / slope);
  }
  CHECK(largest < 8 * std::numeric_limits<double>::epsilon());
}

TEMPLATE_TEST_CASE("pope: gradients have the same bits on threads and at every instruction set", "[pope]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  constexpr index_t time = 60, channels = 44;
  pope<S> encoder({.dim = channels, .heads = count}, some_biases<S>(count * channels));
  const auto made = encoder.prepare(both(positions::range(time)));
  auto y = widened(contents<T>(1, 2, time, count, channels));
  encoder.rotate(by_time(y), operand::key, made);
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  tensor<T> first(2, time, count, 2 * channels);
  std::vector<S> first_sums;
  at_every_instruction_set([&] {
    for (const executor& run : {executor(), executor(device)}) {
      auto d = contents<T>(2, 2, time, count, 2 * channels);
      gradient_buffer<S> sums(encoder.parameters());
      encoder.rotate_backward(by_time(d), read_by_time(y), operand::key, made, sums.spans(), run);
      const auto span = sums.spans()[0];
      if (first_sums.empty()) first = d, first_sums.assign(span.begin(), span.end());
      CHECK(same_bytes(d, first));
      CHECK(std::memcmp(span.data(), first_sums.data(), span.size_bytes()) == 0);
    }
  });
}

TEST_CASE("pope: backward through the stages of attention", "[pope]") {
  const auto at = positions::range(4);
  pope<double> encoder({.dim = dim, .heads = 1}, some_biases<double>(dim));
  const auto made = encoder.prepare(both(at));
  auto q = widened(contents<double>(1, 1, 4, 2, dim)), k = widened(contents<double>(2, 1, 4, 1, dim));  // grouped queries
  encode_queries_keys(encoder, by_time(q), by_time(k), made);
  auto d_q = contents<double>(3, 1, 4, 2, 2 * dim), d_k = contents<double>(4, 1, 4, 1, 2 * dim), alone = d_k;
  gradient_buffer<double> sums(encoder.parameters()), sums_alone(encoder.parameters());
  encode_queries_keys_backward(encoder, by_time(d_q), by_time(d_k), read_by_time(q), read_by_time(k), made, sums.spans());
  encoder.rotate_backward(by_time(alone), read_by_time(k), operand::key, made, sums_alone.spans());
  CHECK(same_bytes(d_k, alone));
  CHECK(reference::bit_difference(sums.spans()[0], sums_alone.spans()[0]) == "");
}

TEMPLATE_TEST_CASE("pope: shift moves keys to other positions", "[pope]", float, double) {
  const pope<TestType> encoder({.dim = dim, .heads = count}, some_biases<TestType>(count * dim));
  const auto x = contents<TestType>(1, 2, 3, count, dim);
  const auto keys_at = [&](const positions& at) {
    auto k = widened(x);
    encoder.rotate(by_time(k), operand::key, encoder.prepare(both(at)));
    return k;
  };
  constexpr double tolerance = 30 * std::numeric_limits<TestType>::epsilon();
  auto all = keys_at(positions::range(3, 10)), each = all;
  encoder.shift(by_time(all), 90);
  CHECK(reference::difference(all, keys_at(positions::range(3, 100)), tolerance) == "");
  encoder.shift(by_time(each), positions::ids(std::array{-5, 0, 7, 1, 2, 3}, 2));
  CHECK(reference::difference(each, keys_at(positions::ids(std::array{5, 11, 19, 11, 13, 15}, 2)), tolerance) == "");
  STATIC_REQUIRE(is_shiftable<pope<TestType>>);
}

TEST_CASE("pope scales scores by the channels that came in", "[pope]") { CHECK(score_scale(pope<float>({.dim = 64}), 128) == 0.125); }

TEST_CASE("pope names its parameters, and starts at zero or anywhere in a turn", "[pope]") {
  pope<float> shared({.dim = 5}), own({.dim = 5, .heads = 2});
  CHECK(shared.parameters()[0].name == "bias");
  CHECK(shared.parameters()[0].shape == std::vector<index_t>{5});
  CHECK(own.parameters()[0].shape == std::vector<index_t>{2, 5});
  CHECK(std::ranges::all_of(own.parameters()[0].values, [](float bias) { return bias == 0; }));
  random_source random(1);
  const auto drawn = uniform_pope_biases<double>(8, 100, random);
  CHECK(drawn.size() == 800);
  CHECK(std::ranges::all_of(drawn, [](double bias) { return bias >= -two_pi_ && bias <= 0; }));
  CHECK(*std::ranges::min_element(drawn) < -6.2);
  CHECK(*std::ranges::max_element(drawn) > -0.1);
  CHECK(shared == pope<float>({.dim = 5}));
  CHECK(!(shared == pope<float>({.dim = 5, .base = 500})));
  CHECK(!(own == pope<float>({.dim = 5, .heads = 2}, some_biases<float>(10))));
}

TEST_CASE("pope does nothing to empty tensors", "[pope]") {
  pope<float> encoder({.dim = dim});
  for (const auto& [batch, time, number] : {std::array<index_t, 3>{0, 3, 2}, {2, 0, 2}, {2, 3, 0}}) {
    const auto made = encoder.prepare(both(positions::range(time)));
    tensor<float> x(batch, time, number, 2 * dim), in(batch, time, number, dim);
    gradient_buffer<float> sums(encoder.parameters());
    encoder.rotate(by_time(x), operand::key, made);
    encoder.rotate(read_by_time(in), by_time(x), operand::key, made);
    encoder.rotate_backward(by_time(x), read_by_time(x), operand::key, made, sums.spans());
    encoder.shift(by_time(x), 3);
  }
}

TEST_CASE("pope refuses options that make no encoding", "[pope][errors]") {
  using reference::refuses;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  refuses("[pope] dim must be positive but got 0", [] { pope<float>({.dim = 0}); });
  refuses("[pope] heads must not be negative but got -1", [] { pope<float>({.dim = 2, .heads = -1}); });
  refuses("[pope] base must be positive and finite but got 0", [] { pope<float>({.dim = 2, .base = 0}); });
  refuses("[pope] there must be a frequency for each channel but got 2 and 1", [] { pope<float>({.dim = 2, .frequencies = {{1, 0}}}); });
  refuses("[pope] frequencies must be finite and below 2^39 radians but got inf",
          [=] { pope<float>({.dim = 1, .frequencies = {{infinity, 0}}}); });
  refuses("[pope] there must be a bias for each channel of each head but got 6 and 2",
          [] { pope<float>({.dim = 2, .heads = 3}, std::vector<float>(2)); });
  refuses("[pope] biases must be finite but got inf", [=] { pope<double>({.dim = 1}, std::vector{infinity}); });
  refuses("[pope] the positions must have one axis but got 2", [] {
    const auto two = positions::multi_axis(std::array{1, 2}, 2);
    static_cast<void>(pope<float>({.dim = 2}).prepare({.queries = positions::range(1), .keys = two}));
  });
  refuses("[pope] frequencies must be finite and below 2^39 radians but got nan", [] {
    pope<double> trained({.dim = 1});
    trained.parameters()[0].values[0] = std::numeric_limits<double>::quiet_NaN();
    static_cast<void>(trained.prepare(both(positions::range(1))));
  });
  random_source random(1);
  refuses("[uniform_pope_biases] dim must be positive but got 0", [&] { static_cast<void>(uniform_pope_biases<float>(1, 0, random)); });
  refuses("[uniform_pope_biases] heads must not be negative but got -2",
          [&] { static_cast<void>(uniform_pope_biases<float>(-2, 1, random)); });
}

TEST_CASE("pope refuses tensors that do not fit, before it writes", "[pope][errors]") {
  using reference::refuses;
  pope<float> encoder({.dim = 4, .heads = 2});
  const auto made = encoder.prepare(both(positions::range(3)));
  const auto by_row = encoder.prepare(both(positions::offsets(std::array{1, 2}, 3)));
  const auto of_others = pope<float>({.dim = 5}).prepare(both(positions::range(3)));
  auto x = contents<float>(1, 1, 3, 2, 8);
  const auto rotated = [&](tensor<float>& tensor, const auto& tables, operand role = operand::query) {
    return [&, role] { encoder.rotate(by_time(tensor), role, tables); };
  };
  tensor<float> narrow = contents<float>(1, 1, 3, 2, 4), longer = contents<float>(1, 1, 4, 2, 8), more = contents<float>(1, 1, 3, 3, 8);
  refuses(narrow, "[pope] there must be 2 * dim channels but got 8 and 4", rotated(narrow, made));
  refuses(x, "[pope] the table must be of dim pairs but got 4 and 5", rotated(x, of_others));
  refuses(longer, "[pope] time must match the table but got 4 and 3", rotated(longer, made));
  refuses(x, "[pope] batch must match the table but got 1 and 2", rotated(x, by_row));
  refuses(more, "[pope] heads must match the table but got 3 and 2", rotated(more, made, operand::key));
  refuses("[pope] heads must match the table but got 3 and 2", [&] { encoder.require_fits(by_time(more), operand::key, made); });
  const head_view<float> spread(tensor_view<float, 4>{x.data(), {1, 3, 1, 8}, {48, 16, 16, 2}});
  refuses(x, "[pope] the last axis must be contiguous but got 2", [&] { encoder.rotate(spread, operand::query, made); });
  const head_view<float> repeated(tensor_view<float, 4>{x.data(), {1, 3, 2, 8}, {48, 0, 8, 1}});
  refuses(x, "[pope] the elements of an output must be distinct, with strides that nest but got [48, 0, 8, 1]",
          [&] { encoder.rotate(repeated, operand::query, made); });

  // elsewhere
  refuses(x, "[pope] the input must have dim channels but got 4 and 8",
          [&] { encoder.rotate(by_time(x), by_time(x), operand::query, made); });
  refuses(longer, "[pope] the output must have the input's batch, time and heads but got [1, 3, 2, 4] and [1, 4, 2, 8]",
          [&] { encoder.rotate(read_by_time(narrow), by_time(longer), operand::query, made); });
  refuses(narrow, "[pope] there must be 2 * dim channels but got 8 and 4",
          [&] { encoder.rotate(read_by_time(narrow), by_time(narrow), operand::query, made); });
  const head_view<float> second_half(tensor_view<float, 4>{x.data() + 4, {1, 3, 2, 4}, {48, 16, 8, 1}});
  refuses(x, "[pope] the input must be the first channels of the output or not overlap it but got [1, 3, 2, 4] and [1, 3, 2, 8]",
          [&] { encoder.rotate(second_half, by_time(x), operand::query, made); });

  // into a cache
  tensor<float> cache = contents<float>(2, 1, 5, 2, 8), two = contents<float>(2, 2, 5, 2, 8);
  const std::array<index_t, 3> rows{0, 4, 2}, outside{0, 5, 2};
  refuses(two, "[pope] the cache must be [1, slot, head, channel] with the input's heads but got [2, 5, 2, 8] and [1, 3, 2, 4]",
          [&] { encoder.rotate(read_by_time(narrow), by_time(two), rows, operand::query, made); });
  refuses(cache, "[pope] destination rows must lie inside the output but got 5 and 5",
          [&] { encoder.rotate(read_by_time(narrow), by_time(cache), outside, operand::query, made); });
  refuses(cache, "[pope] there must be one destination row per token but got 3 and 2",
          [&] { encoder.rotate(read_by_time(narrow), by_time(cache), std::span(rows).first(2), operand::query, made); });
  const head_view<float> inside(tensor_view<float, 4>{cache.data(), {1, 3, 2, 4}, {48, 16, 8, 1}});
  refuses(cache, "[pope] the input must not overlap the cache but got [1, 3, 2, 4] and [1, 5, 2, 8]",
          [&] { encoder.rotate(inside, by_time(cache), rows, operand::query, made); });

  // gradients
  gradient_buffer<float> sums(encoder.parameters());
  refuses(x, "[pope] the gradient must have the shape of what it is of but got [1, 4, 2, 8] and [1, 3, 2, 8]",
          [&] { encoder.rotate_backward(by_time(x), read_by_time(longer), operand::key, made, sums.spans()); });
  refuses(x, "[pope] there must be one gradient span with a value per bias but got 8 and 0",
          [&] { encoder.rotate_backward(by_time(x), read_by_time(x), operand::key, made, {}); });

  // shifts
  refuses(x, "[pope] a shift must be a number of positions but got no_position", [&] { encoder.shift(by_time(x), no_position); });
  refuses(narrow, "[pope] there must be 2 * dim channels but got 8 and 4", [&] { encoder.shift(by_time(narrow), 1); });
  refuses(x, "[pope] time must match the table but got 3 and 2", [&] { encoder.shift(by_time(x), positions::range(2)); });
}
