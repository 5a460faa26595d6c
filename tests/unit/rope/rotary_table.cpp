// SPDX-License-Identifier: MIT
#include <posenc/rope/rotary_table.hpp>

#include <posenc/rope.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/angle.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace posenc;

template <class S>
using matrix = Eigen::Tensor<S, 2, Eigen::RowMajor>;
template <class S>
using cube = Eigen::Tensor<S, 3, Eigen::RowMajor>;

template <class S>
std::vector<S> row(const rotary_table<S>& table, index_t b, index_t t) {
  return {table.row(b, t), table.row(b, t) + 2 * table.pairs()};
}

/// Caches [time, pairs] that are not cosines and sines of anything, and the same with every value twice.
template <class S>
struct caches {
  caches(index_t time, index_t pairs)
      : cosines(random_tensor<matrix<S>>(1, time, pairs)),
        sines(random_tensor<matrix<S>>(2, time, pairs)),
        halves_cosines(time, 2 * pairs),
        halves_sines(time, 2 * pairs),
        neighbour_cosines(time, 2 * pairs),
        neighbour_sines(time, 2 * pairs) {
    for (index_t t = 0; t < time; ++t)
      for (index_t k = 0; k < pairs; ++k) {
        halves_cosines(t, k) = halves_cosines(t, k + pairs) = neighbour_cosines(t, 2 * k) = neighbour_cosines(t, 2 * k + 1) = cosines(t, k);
        halves_sines(t, k) = halves_sines(t, k + pairs) = neighbour_sines(t, 2 * k) = neighbour_sines(t, 2 * k + 1) = sines(t, k);
      }
  }
  /// What the table's row for cache row t has to be.
  std::vector<S> row(index_t t) const {
    std::vector<S> all;
    for (const auto* cache : {&cosines, &sines})
      for (index_t k = 0; k < cosines.dimension(1); ++k) all.push_back((*cache)(t, k));
    return all;
  }
  matrix<S> cosines, sines, halves_cosines, halves_sines, neighbour_cosines, neighbour_sines;
};

}  // namespace

TEMPLATE_TEST_CASE("a rotary table holds the cosines and sines of its frequencies", "[rope][rotary_table]", float, double) {
  const auto speeds = frequencies::plain("test", 10, 10000);
  constexpr double bound = sizeof(TestType) == 4 ? 3.1e-8 : 2.3e-16;
  for (const double factor : {1.0, 1.3}) {
    const auto at = positions::ids(std::array{0, 7, -1'000'000, 2'147'483'647}, 2);
    const rotary_table<TestType> table("test", speeds, at, factor);
    CHECK(table.batch() == 2);
    CHECK(table.time() == 2);
    CHECK(table.pairs() == 5);
    CHECK(table.factor() == factor);
    for (index_t b = 0; b < 2; ++b)
      for (index_t t = 0; t < 2; ++t)
        for (index_t k = 0; k < 5; ++k) {
          const auto exact = reference::angle(at(b, t), speeds[k].high, speeds[k].low);
          const auto allowed = bound * (factor > 1 ? 2 : 1);
          CHECK(std::abs(static_cast<double>(table.row(b, t)[k] - static_cast<long double>(factor) * exact.cosine)) <= allowed);
          CHECK(std::abs(static_cast<double>(table.row(b, t)[5 + k] - static_cast<long double>(factor) * exact.sine)) <= allowed);
        }
  }
}

TEMPLATE_TEST_CASE("a rotary table has the same rows whichever way positions are given", "[rope][rotary_table]", float, double) {
  const auto speeds = frequencies::plain("test", 22, 10000);
  const auto table_of = [&](const positions& at) { return rotary_table<TestType>("test", speeds, at, 1.25); };
  const auto range = table_of(positions::range(4, 1000)), ids = table_of(positions::ids(std::array{1003, 1000, 1001, 1002}));
  const auto offsets = table_of(positions::offsets(std::array{-5, 1000}, 4)), slice = table_of(positions::range(9, 997).slice(3, 4));
  CHECK(range.batch() == 0);
  for (index_t t = 0; t < 4; ++t) {
    CHECK(reference::bit_difference(row(ids, 0, (t + 1) % 4), row(range, 0, t)) == "");
    CHECK(reference::bit_difference(row(offsets, 1, t), row(range, 0, t)) == "");
    CHECK(reference::bit_difference(row(slice, 0, t), row(range, 0, t)) == "");
    CHECK(reference::bit_difference(row(table_of(positions::range(1, 1000 + t)), 0, 0), row(range, 0, t)) == "");
    CHECK(range.row(1, t) == range.row(0, t));  // every batch row has the same
  }
}

TEMPLATE_TEST_CASE("a rotary table does not turn tokens without a position", "[rope][rotary_table]", float, double) {
  const auto at = positions::ids(std::array{no_position, position{3}});
  const rotary_table<TestType> table("test", frequencies::plain("test", 4, 10000), at, 1.3);
  CHECK(row(table, 0, 0) == std::vector<TestType>{1, 1, 0, 0});
  CHECK(row(table, 0, 1) != row(table, 0, 0));
}

TEMPLATE_TEST_CASE("the reciprocal of a rotary table undoes it, turned back", "[rope][rotary_table]", float, double) {
  const auto at = positions::ids(std::array{no_position, position{3}, position{0}});
  for (const double factor : {1.3, -0.5, 1e-30, 1e30}) {
    const rotary_table<TestType> table("test", frequencies::plain("test", 4, 10000), at, factor), undone = table.reciprocal();
    CHECK_FALSE(table.only_turns());
    CHECK(undone.factor() == 1 / factor);
    CHECK(row(undone, 0, 0) == row(table, 0, 0));  // what did not turn was not multiplied either
    for (const index_t t : {1, 2})
      for (std::size_t k = 0; k < 2; ++k) {
        // (c + is) (c' - is') = 1
        const std::complex<double> there(table.row(0, t)[k], table.row(0, t)[k + 2]), back(undone.row(0, t)[k], undone.row(0, t)[k + 2]);
        CHECK(std::abs(there * std::conj(back) - 1.0) <= 2 * std::numeric_limits<TestType>::epsilon());
      }
  }
  for (const double factor : {1.0, -1.0})
    CHECK(rotary_table<TestType>("test", frequencies::plain("test", 4, 10000), at, factor).only_turns());
}

TEMPLATE_TEST_CASE("a rotary table copies caches of either width", "[rope][rotary_table]", float, double) {
  const caches<TestType> given(6, 3);
  struct {
    pairing pairs;
    const matrix<TestType>*cosines, *sines;
  } const forms[] = {{pairing::halves, &given.cosines, &given.sines},
                     {pairing::interleaved, &given.cosines, &given.sines},
                     {pairing::halves, &given.halves_cosines, &given.halves_sines},
                     {pairing::interleaved, &given.neighbour_cosines, &given.neighbour_sines}};
  for (const auto& [pairs, cosines, sines] : forms) {
    const auto all = rotary_table<TestType>::from_caches(6, pairs, *cosines, *sines);
    CHECK(all.batch() == 0);
    CHECK(all.time() == 6);
    CHECK(all.pairs() == 3);
    CHECK(all.factor() == 1);
    for (index_t t = 0; t < 6; ++t) CHECK(reference::bit_difference(row(all, 0, t), given.row(t)) == "");

    const auto at = positions::ids(std::array<position, 6>{5, 0, no_position, 2, 2, 4}, 2);
    const auto picked = rotary_table<TestType>::from_caches(6, pairs, *cosines, *sines, at, 1.5);
    CHECK(picked.batch() == 2);
    CHECK(picked.time() == 3);
    CHECK(picked.factor() == 1.5);
    CHECK(row(picked, 0, 2) == std::vector<TestType>{1, 1, 1, 0, 0, 0});
    for (index_t b = 0; b < 2; ++b)
      for (index_t t = 0; t < 3; ++t)
        CHECK(reference::bit_difference(row(picked, b, t),
                                        at(b, t) == no_position ? std::vector<TestType>{1, 1, 1, 0, 0, 0} : given.row(at(b, t))) == "");
  }
}

TEST_CASE("a rotary table copies caches of every layout and scalar", "[rope][rotary_table]") {
  const caches<float> given(4, 3);
  // [batch, time, width]: rows 0 and 1 are batch row 0, rows 2 and 3 are batch row 1.
  const Eigen::TensorMap<const cube<float>> cosines(given.cosines.data(), 2, 2, 3), sines(given.sines.data(), 2, 2, 3);
  const auto by_row = rotary_table<float>::from_caches(6, pairing::halves, cosines, sines);
  CHECK(by_row.batch() == 2);
  CHECK(by_row.time() == 2);
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 2; ++t) CHECK(reference::bit_difference(row(by_row, b, t), given.row(2 * b + t)) == "");

  const Eigen::Tensor<float, 2> columns_c = given.cosines.swap_layout(),
                                columns_s = given.sines.swap_layout();  // [width, time] in memory order
  const auto from_columns = rotary_table<float>::from_caches(6, pairing::halves, columns_c, columns_s);
  for (index_t t = 0; t < 4; ++t) CHECK(reference::bit_difference(row(from_columns, 0, t), given.row(t)) == "");

  // Channel by channel: the last axis need not be contiguous, for it is only read.
  const tensor_view<const float, 2> every_other_c(given.cosines.data(), {2, 1}, {3, 2}), every_other_s(given.sines.data(), {2, 1}, {3, 2});
  const auto strided = rotary_table<float>::from_caches(2, pairing::halves, every_other_c, every_other_s);
  CHECK(row(strided, 0, 1) == std::vector<float>{given.cosines(1, 0), given.sines(1, 0)});

  const matrix<double> wide_c = given.cosines.cast<double>(), wide_s = given.sines.cast<double>();
  const auto narrowed = rotary_table<float>::from_caches(6, pairing::halves, wide_c, wide_s);
  CHECK(reference::bit_difference(row(narrowed, 0, 3), given.row(3)) == "");
  const Eigen::Tensor<Eigen::bfloat16, 2, Eigen::RowMajor> half_c = given.cosines.cast<Eigen::bfloat16>(),
                                                           half_s = given.sines.cast<Eigen::bfloat16>();
  const auto widened = rotary_table<float>::from_caches(6, pairing::halves, half_c, half_s);
  CHECK(widened.row(0, 0)[1] == static_cast<float>(half_c(0, 1)));
}

TEST_CASE("rope reproduces a system's own numbers from its caches", "[rope][rotary_table]") {
  const caches<float> given(5, 2);
  const auto table = rotary_table<float>::from_caches(4, pairing::interleaved, given.cosines, given.sines);
  Eigen::Tensor<float, 4, Eigen::RowMajor> q(1, 5, 1, 4);
  fill(q, 3);
  const auto before = q;
  const rope<float> encoder({.pairing = pairing::interleaved, .dim = 4});
  encoder.rotate(heads(q, axis_order::time_head), table);
  for (index_t t = 0; t < 5; ++t)
    for (index_t k = 0; k < 2; ++k) {
      const float a = before(0, t, 0, 2 * k), b = before(0, t, 0, 2 * k + 1), c = given.cosines(t, k), s = given.sines(t, k);
      CHECK(std::abs(q(0, t, 0, 2 * k) - (a * c - b * s)) < 2e-7f);
      CHECK(std::abs(q(0, t, 0, 2 * k + 1) - (a * s + b * c)) < 2e-7f);
    }
}

TEST_CASE("rope undoes a rotation by caches, whose factor it is told", "[rope][rotary_table]") {
  const rope<double> encoder({.pairing = pairing::halves, .dim = 6});
  const rotary_table<double> plain = encoder.prepare(positions::range(4));
  matrix<double> cosines(4, 3), sines(4, 3);
  for (index_t t = 0; t < 4; ++t)
    for (index_t k = 0; k < 3; ++k) cosines(t, k) = 1.3 * plain.row(0, t)[k], sines(t, k) = 1.3 * plain.row(0, t)[3 + k];
  const auto table = rotary_table<double>::from_caches(6, pairing::halves, cosines, sines,
                                                       positions::ids(std::array<position, 3>{3, no_position, 0}), 1.3);
  const auto before = random_tensor<Eigen::Tensor<double, 4, Eigen::RowMajor>>(4, 1, 3, 2, 6);
  auto x = before;
  encoder.rotate(heads(x, axis_order::time_head), table);
  CHECK(reference::difference(x, before, 0.1) != "");
  encoder.inverse(heads(x, axis_order::time_head), table);
  CHECK(reference::difference(x, before, 2e-15) == "");
}

// ---- several axes, heads, coordinates, growth -----------------------------------------------------------------------------------------

namespace {

/// Frequencies [heads, axes, pairs] of up to `most` radians per position, forwards and backwards.
frequencies random_speeds(index_t heads, index_t axes, index_t pairs, double most) {
  frequency_series radians;
  for (const double one : random_vector<double>(41, std::max<index_t>(heads, 1) * axes * pairs)) radians.push_back({most * one, 0});
  return frequencies::from_radians("test", radians, axes, heads);
}

/// Cosines and sines of where each token (b, t) stands on each axis, by exact angles; {1, 0} where it stands nowhere.
template <class S, class At>
void check_rows(const rotary_table<S>& table, const frequencies& speeds, const At& at) {
  const double most = sizeof(S) == 4 ? 3.1e-8 + static_cast<double>(speeds.axes()) * 7.4e-10 : 2.4e-16;
  double worst = 0;
  for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b)
    for (index_t t = 0; t < at.time(); ++t)
      for (index_t h = 0; h < std::max<index_t>(speeds.heads(), 1); ++h)
        for (index_t k = 0; k < speeds.count(); ++k) {
          reference::exact_turns sum;
          bool placed = true;
          for (index_t a = 0; a < speeds.axes(); ++a) {
            const auto place = at(b, t, at.axes() == 1 ? 0 : a);
            const index_t n = (h * speeds.axes() + a) * speeds.count() + k;
            if constexpr (std::is_same_v<At, positions>) placed = place != no_position;
            else placed = place == place;
            if (placed) sum = sum + reference::turned(place, speeds.whole_turns(n), speeds[n].high, speeds[n].low);
          }
          const auto exact = placed ? reference::angle(sum) : reference::cosine_and_sine{1, 0};
          const S *cosines = table.row(b, t, h), *sines = cosines + speeds.count();
          worst = std::max(
              {worst, std::abs(static_cast<double>(cosines[k] - exact.cosine)), std::abs(static_cast<double>(sines[k] - exact.sine))});
        }
  CAPTURE(speeds.heads(), speeds.axes());
  CHECK(worst <= most);
}

}  // namespace

TEMPLATE_TEST_CASE("a rotary table has rows for each head and adds the angles of axes", "[rope][rotary_table]", float, double) {
  for (const index_t heads : {0, 1, 3})
    for (const index_t axes : {1, 2, 4})
      for (const index_t batch : {0, 2}) {
        const auto speeds = random_speeds(heads, axes, 6, 40);
        std::vector<position> ids;
        std::vector<double> between;
        random_numbers random(42);
        for (index_t a = 0; a < axes; ++a)
          for (index_t n = 0; n < 5 * std::max<index_t>(batch, 1); ++n) {
            ids.push_back(n == 3 ? no_position : random.integer(-2'000'000'000, 2'000'000'000));
            between.push_back(n == 4 ? no_coordinate : 1e6 * random.real<double>());
          }
        const auto at = positions::multi_axis(ids, axes, batch);
        const rotary_table<TestType> table("test", speeds, at);
        CHECK(table.heads() == heads);
        CHECK(table.pairs() == 6);
        CHECK(table.batch() == batch);
        CHECK(table.time() == 5);
        check_rows(table, speeds, at);
        const auto places = coordinates::values(between, axes, batch);
        check_rows(rotary_table<TestType>("test", rotary_spectrum{speeds}, places, operand::query), speeds, places);
        // A slice shares the memory, whose axes then lie farther apart than it is long.
        check_rows(rotary_table<TestType>("test", speeds, at.slice(1, 3)), speeds, at.slice(1, 3));
        check_rows(rotary_table<TestType>("test", rotary_spectrum{speeds}, places.slice(2, 3), operand::key), speeds, places.slice(2, 3));
        // With one axis, a token stands at the same on all.
        for (const auto& one : {positions::range(5, -2), positions::offsets(std::array{7, -70}, 5), positions::ids(std::array{5, -3})})
          check_rows(rotary_table<TestType>("test", speeds, one), speeds, one);
        const auto one = coordinates::values(std::array{0.25, -7.5, no_coordinate}, 1);
        check_rows(rotary_table<TestType>("test", rotary_spectrum{speeds}, one, operand::query), speeds, one);
      }
}

TEMPLATE_TEST_CASE("coordinates that are whole give the table of the positions", "[rope][rotary_table]", float, double) {
  const std::array<position, 12> ids{0, 1, -1, no_position, 1 << 30, -77, 5, 4, 3, no_position, -(1 << 29), 0};
  const rotary_spectrum spectrum{random_speeds(3, 2, 5, 3), 1.25};
  for (const index_t batch : {0, 1, 2}) {
    const auto at = positions::multi_axis(ids, 2, batch);
    const rotary_table<TestType> expected("test", spectrum, at, operand::query, 0.5),
        got("test", spectrum, coordinates::of(at), operand::query, 0.5);
    CHECK(got.factor() == 0.625);
    CHECK(got.batch() == expected.batch());
    for (index_t b = 0; b < std::max<index_t>(batch, 1); ++b)
      for (index_t t = 0; t < at.time(); ++t)
        for (index_t h = 0; h < 3; ++h)
          CHECK(std::equal(got.row(b, t, h), got.row(b, t, h) + 10, expected.row(b, t, h), reference::same_bits<TestType>));
  }
}

TEMPLATE_TEST_CASE("queries grow and keys shrink by as much", "[rope][rotary_table]", float, double) {
  const auto speeds = frequencies::plain("test", 6, 10000);
  const rotary_spectrum spectrum{speeds, 1.5, {0.25, 0, -0.5}, 2};
  const auto at = positions::ids(std::array{position{2}, position{10}, position{-6}, no_position, position{102}});
  const rotary_table<TestType> plain("test", speeds, at, 1.5), queries("test", spectrum, at, operand::query),
      keys("test", spectrum, at, operand::key);
  CHECK((queries.grows() && !plain.grows()));
  CHECK_FALSE(queries.only_turns());
  CHECK_FALSE(rotary_table<TestType>("test", {speeds, 1, {0.25, 0, -0.5}, 2}, at, operand::query).only_turns());
  for (index_t t = 0; t < 5; ++t)
    for (std::size_t k = 0; k < 6; ++k) {
      const double exponent = t == 3 ? 0 : (static_cast<double>(at(0, t)) - 2) * spectrum.growth[k % 3];
      const auto n = static_cast<index_t>(k);
      CHECK(reference::same_bits(queries.row(0, t)[n], std::ldexp(plain.row(0, t)[n], static_cast<int>(exponent))));  // they are all whole
      CHECK(reference::same_bits(keys.row(0, t)[n], std::ldexp(plain.row(0, t)[n], -static_cast<int>(exponent))));
    }
  const rotary_table<TestType> between("test", spectrum, coordinates::of(at), operand::key);
  for (index_t t = 0; t < 5; ++t) CHECK(reference::bit_difference(row(between, 0, t), row(keys, 0, t)) == "");
}

TEMPLATE_TEST_CASE("the reciprocal of a growing table, or of one by heads, undoes it too", "[rope][rotary_table]", float, double) {
  constexpr double far = sizeof(TestType) == 4 ? 119 : 999;
  const auto at = coordinates::values(std::array{0.0, no_coordinate, far, -far, 3.25}, 1);
  const auto check = [&](const rotary_spectrum& spectrum, operand role) {
    const rotary_table<TestType> table("test", spectrum, at, role), undone = table.reciprocal();
    CHECK(undone.heads() == table.heads());
    CHECK(undone.grows() == table.grows());
    for (index_t t = 0; t < 5; ++t)
      for (index_t h = 0; h < std::max<index_t>(table.heads(), 1); ++h)
        for (index_t k = 0; k < 3; ++k) {
          const std::complex<double> there(table.row(0, t, h)[k], table.row(0, t, h)[k + 3]),
              back(undone.row(0, t, h)[k], undone.row(0, t, h)[k + 3]);
          CHECK(std::abs(there * std::conj(back) - 1.0) <= 3 * std::numeric_limits<TestType>::epsilon());
        }
  };
  for (const operand role : {operand::query, operand::key}) {
    check({random_speeds(0, 1, 3, 5), 1, {1, -1, 0.3}, 0}, role);
    check({random_speeds(2, 1, 3, 5), 1, {1, -1, 0.3}, 0}, role);
    check({random_speeds(2, 1, 3, 5), -1.5}, role);
  }
}

TEST_CASE("a rotary table refuses places that do not fit", "[rope][rotary_table][errors]") {
  const rotary_spectrum two_axes{frequencies::from_radians("test", {{two_pi.high, 0}, {1, 0}, {0, 0}, {two_pi.high / 4, 0}}, 2)};
  const auto made = [&](const auto& at) { rotary_table<float>("test", two_axes, at, operand::query); };
  reference::refuses("[test] the positions must have as many axes as the encoder but got 2 and 3",
                     [&] { made(positions::multi_axis(std::vector<position>(6), 3)); });
  reference::refuses("[test] the positions must have as many axes as the encoder but got 2 and 3",
                     [&] { made(coordinates::values(std::vector<double>(6), 3)); });

  // Of the first axis, a turn for each position, of the second a quarter.
  made(coordinates::values(std::array{2147483647.0, 8589934591.0}, 2));
  made(coordinates::values(std::array{no_coordinate, no_coordinate}, 2));
  made(positions::range(1, position{1} << 40));  // positions may be anywhere
  reference::refuses("[test] coordinate times frequency must stay below 2^31 turns but got 2147483648 and 1",
                     [&] { made(coordinates::values(std::array{-2147483648.0, 0.0}, 2)); });
  reference::refuses("[test] coordinate times frequency must stay below 2^31 turns but got 8589934592 and 0.25",
                     [&] { made(coordinates::values(std::array{0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 8589934592.0}, 2, 2)); });
  reference::refuses("[test] coordinate times frequency must stay below 2^31 turns but got 8589934592 and 1",
                     [&] { made(coordinates::values(std::array{8589934592.0}, 1)); });
  const rotary_spectrum by_head{frequencies::from_radians("test", {{1, 0}, {-two_pi.high / 2, 0}}, 1, 2)};
  reference::refuses("[test] coordinate times frequency must stay below 2^31 turns but got 4294967296 and 0.5",
                     [&] { rotary_table<double>("test", by_head, coordinates::values(std::array{4294967296.0}, 1), operand::key); });
}

TEST_CASE("a rotary table refuses scales that overflow", "[rope][rotary_table][errors]") {
  const rotary_spectrum growing{frequencies::plain("test", 4, 10000), 1, {0.25, -0.5}, 10};
  const auto at = [](position id) { return positions::ids(std::array{position{10}, no_position, id}); };
  const std::string rule = "[test] positions must not be so far from the centre that scales overflow but got ";
  for (const operand role : {operand::query, operand::key}) {
    const rotary_table<float> near("test", growing, at(250), role);
    CHECK(std::isfinite(near.row(0, 2)[1]));
    rotary_table<float>("test", growing, at(-230), role);
    rotary_table<double>("test", growing, at(2010), role);
    reference::refuses(rule + "251", [&] { rotary_table<float>("test", growing, at(251), role); });
    reference::refuses(rule + "-231", [&] { rotary_table<float>("test", growing, at(-231), role); });
    reference::refuses(rule + "2011", [&] { rotary_table<double>("test", growing, at(2011), role); });
    reference::refuses(rule + "250.5",
                       [&] { rotary_table<float>("test", growing, coordinates::values(std::array{no_coordinate, 250.5}, 1), role); });
  }
}

TEST_CASE("a rotary table of nothing is a table", "[rope][rotary_table]") {
  const rope<float> encoder({.pairing = pairing::halves, .dim = 6});
  CHECK(encoder.prepare(positions::range(0)).time() == 0);
  const matrix<float> none(0, 3);
  CHECK(rotary_table<float>::from_caches(6, pairing::halves, none, none).time() == 0);
  CHECK(rotary_table<float>::from_caches(6, pairing::halves, none, none, positions::range(0)).time() == 0);
  const cube<float> no_batch(0, 4, 3), no_time(2, 0, 3);
  CHECK(rotary_table<float>::from_caches(6, pairing::halves, no_time, no_time).batch() == 2);
  Eigen::Tensor<float, 4, Eigen::RowMajor> q(0, 4, 2, 6);
  encoder.rotate(heads(q, axis_order::time_head), rotary_table<float>::from_caches(6, pairing::halves, no_batch, no_batch));
}

TEST_CASE("a rotary table refuses caches that do not fit", "[rope][rotary_table][errors]") {
  const caches<float> given(4, 3);
  const auto &cosines = given.cosines, &sines = given.sines;
  const auto refused = [](const std::string& text, auto&& act) { reference::refuses("[rotary_table] " + text, act); };
  const auto made = [](index_t dim, pairing pairs, const auto&... rest) { rotary_table<float>::from_caches(dim, pairs, rest...); };

  refused("dim must be positive and even but got 0", [&] { made(0, pairing::halves, cosines, sines); });
  refused("dim must be positive and even but got 7", [&] { made(7, pairing::halves, cosines, sines); });
  refused("caches must be dim / 2 or dim wide but got 8 and 3", [&] { made(8, pairing::halves, cosines, sines); });
  refused("the caches must have one shape but got [4, 3] and [4, 6]", [&] { made(6, pairing::halves, cosines, given.halves_sines); });
  refused("caches of width dim must repeat each value in the layout of the pairing but got interleaved",
          [&] { made(6, pairing::interleaved, given.halves_cosines, given.halves_sines); });
  refused("caches of width dim must repeat each value in the layout of the pairing but got halves",
          [&] { made(6, pairing::halves, given.neighbour_cosines, given.neighbour_sines); });
  refused("the attention factor must be finite and not zero but got 0", [&] { made(6, pairing::halves, cosines, sines, 0.0); });

  const auto at = [](position id) { return positions::ids(std::array{position{0}, id}); };
  refused("positions must lie inside the caches but got 4 and 4", [&] { made(6, pairing::halves, cosines, sines, at(4)); });
  refused("positions must lie inside the caches but got 4 and -1", [&] { made(6, pairing::halves, cosines, sines, at(-1)); });
  made(6, pairing::halves, cosines, sines, at(3));
}

TEST_CASE("a rotary table refuses sizes that memory cannot have", "[rope][rotary_table][errors]") {
  reference::refuses("[test] the size in bytes must fit in 63 bits but got [1, 1152921504606846976, 1, 4]",
                     [] { rotary_table<double>("test", frequencies::plain("test", 4, 10000), positions::range(index_t{1} << 60)); });
}
