// SPDX-License-Identifier: MIT
#include <posenc/kernels/pope.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/pope.hpp"
#include "reference/stored.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using posenc::kernels::pope_call;
using reference::compute;
using reference::loaded;

struct layout {
  const char* name;
  index_t batch = 2, time = 3, heads = 2;
  bool head_major = false;  // [batch, head, time, channel] in memory
  bool in_place = true;
  bool into_rows = false;  // every token to a row of its own, the last one nowhere
  bool table_by_row = false, table_by_head = false;
  index_t gap = 0;  // elements behind a row that belong to nobody
};

constexpr layout layouts[] = {
    {.name = "by time, in place"},
    {.name = "by time, in place, a table for each row and head", .table_by_row = true, .table_by_head = true, .gap = 3},
    {.name = "by time, out of place", .heads = 3, .in_place = false, .gap = 1},
    {.name = "by time, into rows", .in_place = false, .into_rows = true},
    {.name = "by head, in place, less than four", .heads = 3, .head_major = true, .gap = 5},
    {.name = "by head, in place, four and one, a table for each head", .heads = 5, .head_major = true, .table_by_head = true},
    {.name = "by head, out of place", .heads = 9, .head_major = true, .in_place = false, .table_by_row = true},
    {.name = "by head, into rows", .heads = 6, .head_major = true, .in_place = false, .into_rows = true, .table_by_head = true},
};

/// In [-20, 20), most of them small.
template <class T>
std::vector<T> inputs(std::uint64_t seed, index_t count) {
  auto numbers = random_vector<compute<T>>(seed, count);
  for (auto& x : numbers) x = 20 * x * x * x;
  return reference::stored<T>(numbers);
}
/// Cosines and sines of random angles, in rows.
template <class S>
std::vector<S> angles(std::uint64_t seed, index_t rows, index_t channels) {
  random_numbers random(seed);
  std::vector<S> all(static_cast<std::size_t>(2 * rows * channels));
  for (index_t r = 0; r < rows; ++r)
    for (index_t j = 0; j < channels; ++j) {
      const double angle = random.uniform(-4, 4);
      const auto at = static_cast<std::size_t>(2 * r * channels + j);
      all[at] = static_cast<S>(std::cos(angle)), all[at + static_cast<std::size_t>(channels)] = static_cast<S>(std::sin(angle));
    }
  return all;
}

template <class T>
struct problem {
  problem(const layout& laid_out, index_t count)
      : form(laid_out),
        channels(count),
        in_width((form.in_place ? 2 : 1) * channels + form.gap),
        out_width(2 * channels + form.gap),
        in(inputs<T>(1, shift + tokens() * in_width + 8)),
        out(form.in_place ? in : inputs<T>(2, shift + tokens() * out_width + 8)),
        table(angles<compute<T>>(3, form.batch * form.time * form.heads + 1, channels)) {
    rows.resize(static_cast<std::size_t>(form.batch * form.time));
    for (std::size_t token = 0; token < rows.size(); ++token) rows[token] = static_cast<std::int64_t>((token * 5 + 2) % rows.size());
    rows.back() = -1;
  }
  index_t tokens() const { return form.batch * form.time * form.heads; }

  pope_call<T> call(const std::vector<T>& from, std::vector<T>& to) const {
    const auto strides = [&](index_t width, bool by_row) {
      const index_t head = form.head_major ? (by_row ? form.batch : 1) * form.time * width : width;
      return std::array{form.time * form.heads * width, form.head_major ? width : form.heads * width, head};
    };
    const auto in_strides = strides(in_width, false), out_strides = strides(out_width, form.into_rows);
    const index_t row = 2 * channels, token = form.table_by_head ? form.heads * row : row;
    return {.in = (form.in_place ? to : from).data() + shift,
            .out = to.data() + shift,
            .batch = form.batch,
            .time = form.time,
            .heads = form.heads,
            .in_batch = in_strides[0],
            .in_time = in_strides[1],
            .in_head = in_strides[2],
            .out_batch = form.into_rows ? 0 : out_strides[0],
            .out_time = out_strides[1],
            .out_head = out_strides[2],
            .rows = form.into_rows ? rows.data() : nullptr,
            .table = table.data(),
            .table_batch = form.table_by_row ? form.time * token : 0,
            .table_time = token,
            .table_head = form.table_by_head ? row : 0,
            .channels = channels};
  }

  static constexpr index_t shift = 1;  // so that nothing is aligned
  layout form;
  index_t channels, in_width, out_width;
  std::vector<T> in, out;
  std::vector<compute<T>> table;
  std::vector<std::int64_t> rows;
};

/// 1 to 33, so that every tail occurs, and four vectors of sixteen with every tail of vectors.
std::vector<index_t> numbers_of_channels() {
  std::vector<index_t> all(33);
  std::iota(all.begin(), all.end(), 1);
  for (const index_t channels : {63, 64, 80, 96, 113, 128}) all.push_back(channels);
  return all;
}

/// Of one number in T: half a unit in its last place, with a hair more.
template <class T>
double rounding(double magnitude) {
  constexpr double relative = sizeof(T) > 2                 ? std::numeric_limits<compute<T>>::epsilon() / 2
                              : std::is_same_v<T, bfloat16> ? 0x1p-8
                                                            : 0x1p-11;
  constexpr double smallest = std::is_same_v<T, float16> ? 0x1p-25 : 0;
  return 1.001 * std::max(relative * std::abs(magnitude), smallest);
}

template <class T>
std::string differences(const std::vector<T>& got, const std::vector<double>& expected, const std::vector<double>& tolerance) {
  std::ostringstream text;
  for (std::size_t n = 0; n < got.size(); ++n)
    if (const auto one = static_cast<double>(loaded(got[n])); !(std::abs(one - expected[n]) <= tolerance[n]))
      text << "at " << n << ": " << one << " instead of " << expected[n] << "; ";
  return text.str().substr(0, 300);
}
template <class T>
std::vector<double> in_double(const std::vector<T>& all) {
  const auto numbers = loaded(all);
  return {numbers.begin(), numbers.end()};
}

/// Of numbers side by side, with cosines of 1 and sines of 0.
template <class S>
std::vector<S> softplus_of(const std::vector<S>& x) {
  const auto count = static_cast<index_t>(x.size());
  std::vector<S> table(2 * x.size(), S(0)), y(2 * x.size());
  std::fill_n(table.begin(), x.size(), S(1));
  posenc::kernels::pope(pope_call<S>{.in = x.data(),
                                     .out = y.data(),
                                     .batch = 1,
                                     .time = 1,
                                     .heads = 1,
                                     .in_batch = 0,
                                     .in_time = 0,
                                     .in_head = 0,
                                     .out_batch = 0,
                                     .out_time = 0,
                                     .out_head = 0,
                                     .rows = nullptr,
                                     .table = table.data(),
                                     .table_batch = 0,
                                     .table_time = 0,
                                     .table_head = 0,
                                     .channels = count});
  y.resize(x.size());
  return y;
}

/// The largest error in units in the last place; those of subnormal numbers are the smallest number.
template <class S>
double largest_error(const std::vector<S>& x) {
  using limits = std::numeric_limits<S>;
  using wider = std::conditional_t<sizeof(S) == 4, double, long double>;
  const auto got = softplus_of(x);
  double largest = 0;
  for (std::size_t n = 0; n < x.size(); ++n) {
    const wider z = x[n], exact = std::fmax(z, wider(0)) + std::log1p(std::exp(-std::abs(z)));
    const wider unit =
        std::ldexp(wider(1), exact > 0 ? std::max(std::ilogb(exact) - limits::digits + 1, limits::min_exponent - limits::digits)
                                       : limits::min_exponent - limits::digits);
    largest = std::max(largest, static_cast<double>(std::abs(static_cast<wider>(got[n]) - exact) / unit));
  }
  return largest;
}

}  // namespace

TEMPLATE_TEST_CASE("the pope kernel turns softplus by the table and touches nothing else", "[kernels][pope]", float, double, bfloat16,
                   float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    for (const auto& form : layouts)
      for (const index_t channels : numbers_of_channels()) {
        const problem<TestType> given(form, channels);
        auto got = given.out;
        posenc::kernels::pope(given.call(given.in, got));

        auto expected = in_double(given.out);
        std::vector<double> tolerance(expected.size());
        auto untouched = given.out;
        const auto call = given.call(given.in, untouched);
        reference::for_each_channel(call, [&](index_t i, index_t o, index_t a) {
          const double magnitude = reference::softplus(static_cast<double>(loaded(call.in[i])));
          for (const index_t half : {index_t{0}, channels}) {
            const auto n = static_cast<std::size_t>(given.shift + o + half);
            expected[n] = magnitude * static_cast<double>(call.table[a + half]);
            tolerance[n] = 3 * std::numeric_limits<S>::epsilon() * std::abs(expected[n]) + rounding<TestType>(expected[n]);
          }
        });
        INFO(form.name << ", " << channels << " channels");
        CHECK(differences(got, expected, tolerance) == "");
      }
  });
}

TEMPLATE_TEST_CASE("the pope kernels write the same bits at every instruction set", "[kernels][pope]", float, double, bfloat16, float16) {
  for (const auto& form : layouts)
    for (const index_t channels : numbers_of_channels()) {
      const problem<TestType> given(form, channels);
      std::vector<TestType> first, first_back;
      at_every_instruction_set([&] {
        auto got = given.out;
        posenc::kernels::pope(given.call(given.in, got));
        if (first.empty()) first = got;
        INFO(form.name << ", " << channels << " channels");
        CHECK(std::memcmp(got.data(), first.data(), got.size() * sizeof(TestType)) == 0);
        if (!form.in_place) return;
        auto d = inputs<TestType>(4, static_cast<index_t>(got.size()));
        auto call = given.call(got, d);
        call.in = got.data() + given.shift;
        posenc::kernels::pope_backward(call);
        if (first_back.empty()) first_back = d;
        CHECK(std::memcmp(d.data(), first_back.data(), d.size() * sizeof(TestType)) == 0);
      });
    }
}

TEST_CASE("softplus is within 2.2 units in the last place", "[kernels][pope][long_double]") {
  at_every_instruction_set([] {
    std::vector<float> all;  // every 5003rd float, with the infinities left to another test
    for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32; bits += 5003)
      if (const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(bits)); std::isfinite(x)) all.push_back(x);
    CHECK(largest_error(all) <= 2.2);
    std::vector<float> vanishing;
    for (float x = -104.5f; x < -86; x += 0x1p-12f) vanishing.push_back(x);
    CHECK(largest_error(vanishing) <= 1.8);
    random_numbers random(5);
    std::vector<double> doubles;
    for (int n = 0; n < 50000; ++n)
      for (const double range : {1e-8, 1e-3, 1.0, 40.0, 746.0, 1e300}) doubles.push_back(range * random.real<double>());
    CHECK(largest_error(doubles) <= 2.2);
  });
}

TEMPLATE_TEST_CASE("softplus of infinities, zeros, subnormals and not-a-number", "[kernels][pope]", float, double) {
  using limits = std::numeric_limits<TestType>;
  constexpr TestType infinity = limits::infinity(), ln_2 = static_cast<TestType>(0.69314718055994531);
  at_every_instruction_set([&] {
    for (const std::size_t copies : {std::size_t{1}, std::size_t{70}}) {  // in a tail, and in full vectors
      const auto of = [&](TestType x) { return softplus_of(std::vector<TestType>(copies, x)).front(); };
      CHECK(of(infinity) == infinity);
      CHECK(reference::same_bits(of(-infinity), TestType(0)));
      CHECK(of(limits::max()) == limits::max());
      CHECK(reference::same_bits(of(-limits::max()), TestType(0)));
      CHECK(std::isnan(of(limits::quiet_NaN())));
      CHECK(std::isnan(of(-limits::quiet_NaN())));
      for (const TestType zero : {TestType(0), -TestType(0), limits::denorm_min(), -limits::denorm_min()})
        CHECK(std::abs(of(zero) - ln_2) <= limits::epsilon() / 2);
      CHECK(of(sizeof(TestType) == 4 ? TestType(-103.5) : TestType(-744.7)) == limits::denorm_min());
    }
  });
}

TEMPLATE_TEST_CASE("the backward pope kernel has the derivative by the input", "[kernels][pope]", float, double, bfloat16, float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    for (const auto& form : layouts) {
      if (!form.in_place) continue;
      for (const index_t channels : numbers_of_channels()) {
        const problem<TestType> given(form, channels);
        auto y = given.out;
        posenc::kernels::pope(given.call(given.in, y));
        const auto d_before = inputs<TestType>(4, static_cast<index_t>(y.size()));
        auto d = d_before;
        auto call = given.call(y, d);
        call.in = y.data() + given.shift;
        posenc::kernels::pope_backward(call);

        auto expected = in_double(d_before);
        std::vector<double> tolerance(expected.size());
        reference::for_each_channel(call, [&](index_t i, index_t, index_t a) {
          const auto n = static_cast<std::size_t>(given.shift + i), behind = n + static_cast<std::size_t>(channels);
          const double x = static_cast<double>(loaded(given.in[n])), slope = reference::sigmoid(x), magnitude = reference::softplus(x);
          const double along = static_cast<double>(loaded(d_before[n])) * static_cast<double>(call.table[a]),
                       across = static_cast<double>(loaded(d_before[behind])) * static_cast<double>(call.table[a + channels]);
          // The slope comes from what was rounded to T: it is off by that much of the magnitude, as far as its own slope lets it.
          const double slope_off = (1 - slope) * 2 * rounding<TestType>(magnitude) + 5 * std::numeric_limits<S>::epsilon() * slope;
          expected[n] = (along + across) * slope, expected[behind] = 0;
          tolerance[n] = std::abs(along + across) * slope_off +
                         3 * std::numeric_limits<S>::epsilon() * (std::abs(along) + std::abs(across)) + rounding<TestType>(expected[n]);
        });
        INFO(form.name << ", " << channels << " channels");
        CHECK(differences(d, expected, tolerance) == "");
      }
    }
  });
}

TEMPLATE_TEST_CASE("the pope kernel writes the same past the caches, where rows are whole cache lines and where they are not",
                   "[kernels][pope]", float, double, bfloat16, float16) {
  struct alignas(64) line {
    TestType elements[64 / sizeof(TestType)];
  };
  constexpr index_t time = 3, heads = 5, in_line = 64 / index_t{sizeof(TestType)};
  at_every_instruction_set([] {
    for (const index_t channels : {in_line, 4 * in_line, 7 * in_line, in_line / 2}) {
      const auto in = inputs<TestType>(1, time * heads * channels);
      const auto table = angles<compute<TestType>>(2, time, channels);
      std::array<std::vector<line>, 2> outputs;
      for (const bool streaming : {false, true}) {
        auto& out = outputs[streaming];
        out.resize(static_cast<std::size_t>(2 * time * heads * channels / in_line + 1));
        posenc::kernels::pope(pope_call<TestType>{.in = in.data(),
                                                  .out = out.data()->elements,
                                                  .batch = 1,
                                                  .time = time,
                                                  .heads = heads,
                                                  .in_batch = 0,
                                                  .in_time = heads * channels,
                                                  .in_head = channels,
                                                  .out_batch = 0,
                                                  .out_time = 2 * heads * channels,
                                                  .out_head = 2 * channels,
                                                  .rows = nullptr,
                                                  .table = table.data(),
                                                  .table_batch = 0,
                                                  .table_time = 2 * channels,
                                                  .table_head = 0,
                                                  .channels = channels,
                                                  .streaming = streaming});
      }
      CAPTURE(channels);
      CHECK(std::memcmp(outputs[0].data(), outputs[1].data(), outputs[0].size() * sizeof(line)) == 0);
    }
  });
}

TEST_CASE("the pope kernels do nothing where there is nothing", "[kernels][pope]") {
  at_every_instruction_set([] {
    for (const auto& [batch, time, heads] : {std::array<index_t, 3>{0, 3, 2}, {2, 0, 2}, {2, 3, 0}}) {
      const problem<float> given({.name = ""}, 16);
      auto got = given.out;
      auto call = given.call(given.in, got);
      call.batch = batch, call.time = time, call.heads = heads;
      posenc::kernels::pope(call);
      posenc::kernels::pope_backward(call);
      CHECK(reference::bit_difference(got, given.out) == "");
    }
  });
}
