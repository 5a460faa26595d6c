// SPDX-License-Identifier: MIT
#include <posenc/kernels/phase.hpp>

#include <posenc/phase.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/angle.hpp"
#include "reference/difference.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using posenc::kernels::absent;
using posenc::kernels::index_t;
using posenc::kernels::phase_call;

// What the kernel promises for scale 1 at positions in [-2^31, 2^31].
template <class S>
constexpr double contract = sizeof(S) == 4 ? 3.1e-8 : 2.3e-16;
constexpr std::int64_t promised = std::int64_t{1} << 31;

// `pairs` frequencies: high words, then low words. Not a geometric schedule, which would leave most bits of the slow ones zero.
std::vector<std::uint64_t> random_frequencies(index_t pairs) {
  random_numbers random(11);
  std::vector<std::uint64_t> words(static_cast<std::size_t>(2 * pairs));
  for (auto& word : words) word = random.bits();
  return words;
}

// The largest error of rows of cosines and sines, side by side.
template <class S>
double worst_error(const std::vector<std::int64_t>& ids, const std::vector<std::uint64_t>& words, double scale) {
  const auto pairs = static_cast<index_t>(words.size() / 2), rows = static_cast<index_t>(ids.size());
  std::vector<S> table(static_cast<std::size_t>(rows * 2 * pairs));
  posenc::kernels::phase<S>({.high = words.data(),
                             .low = words.data() + pairs,
                             .pairs = pairs,
                             .ids = ids.data(),
                             .first = 0,
                             .rows = rows,
                             .cosine = table.data(),
                             .sine = table.data() + pairs,
                             .row = 2 * pairs,
                             .interleaved = false,
                             .scale = scale,
                             .absent_cosine = S(1)});
  long double worst = 0;
  for (index_t r = 0; r < rows; ++r)
    for (index_t k = 0; k < pairs; ++k) {
      const auto at = [&](index_t i) { return static_cast<std::size_t>(i); };
      const auto exact = reference::angle(ids[at(r)], words[at(k)], words[at(pairs + k)]);
      const auto factor = static_cast<long double>(scale);
      worst = std::max({worst, std::abs(static_cast<long double>(table[at(r * 2 * pairs + k)]) - factor * exact.cosine),
                        std::abs(static_cast<long double>(table[at(r * 2 * pairs + pairs + k)]) - factor * exact.sine)});
    }
  return static_cast<double>(worst);
}

/// Frequencies [axes, pairs] with whole turns, forwards and backwards.
struct speeds {
  speeds(index_t on_axes, index_t of_pairs, std::int64_t most_whole) : axes(on_axes), pairs(of_pairs) {
    random_numbers random(21);
    for (index_t n = 0; n < axes * pairs; ++n) {
      high.push_back(random.bits()), low.push_back(random.bits());
      whole.push_back(n % 5 == 1 ? 0 : n % 5 == 2 ? -1 : random.integer(-most_whole, most_whole));
    }
  }
  index_t axes, pairs;
  std::vector<std::uint64_t> high{}, low{};
  std::vector<std::int64_t> whole{};
};

/// Rows of cosines and sines, side by side, of a call that needs to say no more than what is special about it.
template <class S>
std::vector<S> table_of(const speeds& of, index_t rows, auto&& change) {
  std::vector<S> table(static_cast<std::size_t>(rows * 2 * of.pairs));
  phase_call<S> call{.high = of.high.data(),
                     .low = of.low.data(),
                     .pairs = of.pairs,
                     .ids = nullptr,
                     .first = 0,
                     .rows = rows,
                     .cosine = table.data(),
                     .sine = table.data() + of.pairs,
                     .row = 2 * of.pairs,
                     .interleaved = false,
                     .scale = 1,
                     .absent_cosine = S(1),
                     .axes = of.axes};
  change(call);
  posenc::kernels::phase<S>(call);
  return table;
}

/// The largest error of such rows. turns_of(r, n): the exact angle of row r for frequency n of one axis.
template <class S>
double worst_error(const std::vector<S>& table, const speeds& of, auto&& turns_of) {
  const auto rows = static_cast<index_t>(table.size()) / (2 * of.pairs);
  long double worst = 0;
  for (index_t r = 0; r < rows; ++r)
    for (index_t k = 0; k < of.pairs; ++k) {
      reference::exact_turns sum;
      for (index_t a = 0; a < of.axes; ++a) sum = sum + turns_of(r, a, static_cast<std::size_t>(a * of.pairs + k));
      const auto exact = reference::angle(sum);
      const auto n = static_cast<std::size_t>(r * 2 * of.pairs + k);
      worst = std::max({worst, std::abs(static_cast<long double>(table[n]) - exact.cosine),
                        std::abs(static_cast<long double>(table[n + static_cast<std::size_t>(of.pairs)]) - exact.sine)});
    }
  return static_cast<double>(worst);
}

/// What each axis adds to the error: doubles are cut off at 2^-64 turn, floats leave out the low word, 2^31 times as much.
template <class S>
constexpr double for_each_axis = 6.2831854 * (sizeof(S) == 4 ? 0x1p-33 : 0x1p-64);

/// Checks that each instruction set makes the same table, and returns it.
template <class S>
std::vector<S> same_at_every_set(auto&& make) {
  std::vector<S> first;
  at_every_instruction_set([&] {
    const std::vector<S> got = make();
    if (first.empty()) first = got;
    CHECK(reference::bit_difference(got, first) == "");
  });
  return first;
}

}  // namespace

TEST_CASE("the reference angle is right where it is known", "[kernels][phase][long_double]") {
  constexpr std::uint64_t eighth = std::uint64_t{1} << 61;
  const long double root = std::sqrt(0.5L);
  const long double cosines[] = {1, root, 0, -root, -1, -root, 0, root}, sines[] = {0, root, 1, root, 0, -root, -1, -root};
  for (std::int64_t position = -20; position <= 20; ++position) {
    const auto k = static_cast<std::size_t>(position & 7);
    const auto got = reference::angle(position, eighth, 0);
    CHECK(std::abs(got.cosine - cosines[k]) < 1e-18L + 1e-16L * (sizeof(long double) == sizeof(double)));
    CHECK(std::abs(got.sine - sines[k]) < 1e-18L + 1e-16L * (sizeof(long double) == sizeof(double)));
  }
  // A third of a turn, in all 128 bits: three times it is a whole turn but for 2^-128, and carries through every digit.
  constexpr std::uint64_t third = 0x5555555555555555u;
  CHECK(reference::angle(3, third, third).cosine == 1);
  CHECK(std::abs(reference::angle(3, third, third).sine) < 1e-37L);
  CHECK(std::abs(reference::angle(1'000'000'000'000'000'000, third, third).cosine + 0.5L) <
        1e-18L + 1e-16L * (sizeof(long double) == sizeof(double)));
}

TEST_CASE("the exact turns of the reference are right where they are known", "[kernels][phase]") {
  const auto top = [](const reference::exact_turns& turns) { return turns.digits.back(); };
  CHECK(top(reference::turned(3.0, 0, std::uint64_t{1} << 62, 0)) == 0xc0000000u);
  CHECK(top(reference::turned(-0.5, 3, std::uint64_t{1} << 63, 0)) == 0x40000000u);  // -1.75 turns
  CHECK(top(reference::turned(-0.5, -3, 0, 0)) == 0x80000000u);                      // 1.5 turns
  CHECK(top(reference::turned(0.25, -1, std::uint64_t{1} << 63, 0)) == 0xe0000000u);  // a quarter of half a turn backwards
  CHECK(top(reference::turned(0x1p-20, std::int64_t{1} << 17, 0, 0)) == 0x20000000u);
  CHECK(top(reference::turned(std::int64_t{-3}, 7, std::uint64_t{1} << 62, 0)) == 0x40000000u);
  CHECK(reference::turned(0x1p-1074, 1, 0, 0).digits[6] == 1u << 14);  // 2^-1074 = 2^206 of 2^-1280
  const auto tiny = reference::turned(-0x1p-1074, 0, 0, 1).digits;  // -2^-1202
  CHECK((tiny[2] == 0xffffffffu << 14 && tiny[1] == 0 && tiny.back() == 0xffffffffu));
  random_numbers random(22);
  for (int n = 0; n < 100; ++n) {
    const std::int64_t position = random.integer(-promised, promised);
    const std::uint64_t high = random.bits(), low = random.bits();
    const auto one = reference::angle(position, high, low), other = reference::angle(reference::turned(position, -7, high, low));
    CHECK(std::abs(one.cosine - other.cosine) + std::abs(one.sine - other.sine) <
          1e-18L + 1e-16L * (sizeof(long double) == sizeof(double)));
    CHECK(reference::turned(static_cast<double>(position), 9, high, low) == reference::turned(position, 1, high, low));
  }
}

TEMPLATE_TEST_CASE("the phase kernel is as accurate as it promises", "[kernels][phase]", float, double) {
  std::vector<std::int64_t> ids{0, 1, -1, 2, 3, 1 << 20, promised, -promised, promised - 1};
  random_numbers random(12);
  for (int n = 0; n < 300; ++n) ids.push_back(random.integer(-promised, promised));
  auto words = random_frequencies(60);
  for (const std::uint64_t exact :
       {std::uint64_t{0}, std::uint64_t{1} << 61, std::uint64_t{1} << 62, std::uint64_t{1} << 63, ~std::uint64_t{0}})
    words.insert(words.begin() + 3, exact), words.push_back(~exact);  // on and beside multiples of an eighth of a turn
  at_every_instruction_set([&] {
    CHECK(worst_error<TestType>(ids, words, 1) <= contract<TestType>);
    CHECK(worst_error<TestType>(ids, words, -0.75) <= contract<TestType>);
    CHECK(worst_error<TestType>(ids, words, 1.3) <= 2 * contract<TestType>);  // times the scale rounded up to a power of two
    CHECK(worst_error<TestType>(ids, words, 40) <= 64 * contract<TestType>);
  });
}

TEST_CASE("the phase kernel for doubles reads the low words", "[kernels][phase]") {
  // 2^31 positions of half a high word's last bit: 2^-34 turn that the high word alone does not see.
  const std::vector<std::uint64_t> words{std::uint64_t{1} << 61, std::uint64_t{1} << 63};
  at_every_instruction_set(
      [&] { CHECK(worst_error<double>({promised, -promised, promised + 1, 1 - promised}, words, 1) <= contract<double>); });
}

TEMPLATE_TEST_CASE("the phase kernel writes the same row whichever way it is asked for, and nothing else", "[kernels][phase]", float,
                   double) {
  const auto at = [](index_t i) { return static_cast<std::size_t>(i); };
  at_every_instruction_set([&] {
    for (index_t pairs = 1; pairs <= 33; ++pairs) {
      const auto words = random_frequencies(pairs);
      constexpr index_t rows = 4;
      constexpr std::int64_t first = -2;
      const index_t width = 2 * pairs + 3, size = 1 + rows * width;  // three elements behind each row belong to nobody; nothing is aligned
      const auto untouched = random_vector<TestType>(13, size);

      std::vector<TestType> alone(at(2 * pairs * rows));  // pair by pair and row by row, through the shortest tail
      for (index_t r = 0; r < rows; ++r)
        for (index_t k = 0; k < pairs; ++k) {
          TestType* to = &alone[at(2 * (r * pairs + k))];
          const std::int64_t id = first + r;
          posenc::kernels::phase<TestType>({.high = &words[at(k)],
                                            .low = &words[at(pairs + k)],
                                            .pairs = 1,
                                            .ids = &id,
                                            .first = 77,
                                            .rows = 1,
                                            .cosine = to,
                                            .sine = to + 1,
                                            .row = 2,
                                            .interleaved = false,
                                            .scale = 1.25,
                                            .absent_cosine = 9});
        }

      struct {
        bool interleaved;
        index_t cosine, sine;
      } const orders[] = {{false, 0, pairs}, {false, pairs, 0}, {true, 0, 1}, {true, 1, 0}};
      const std::vector<std::int64_t> ids{first, first + 1, first + 2, first + 3};
      for (const auto& order : orders)
        for (const std::int64_t* from : {static_cast<const std::int64_t*>(nullptr), ids.data()}) {
          auto got = untouched, expected = untouched;
          posenc::kernels::phase<TestType>({.high = words.data(),
                                            .low = words.data() + pairs,
                                            .pairs = pairs,
                                            .ids = from,
                                            .first = from ? 77 : first,
                                            .rows = rows,
                                            .cosine = got.data() + 1 + order.cosine,
                                            .sine = got.data() + 1 + order.sine,
                                            .row = width,
                                            .interleaved = order.interleaved,
                                            .scale = 1.25,
                                            .absent_cosine = 9});
          for (index_t r = 0; r < rows; ++r)
            for (index_t k = 0; k < pairs; ++k) {
              const index_t channel = 1 + r * width + (order.interleaved ? 2 * k : k);
              expected[at(channel + order.cosine)] = alone[at(2 * (r * pairs + k))];
              expected[at(channel + order.sine)] = alone[at(2 * (r * pairs + k) + 1)];
            }
          INFO(pairs << " pairs, " << (order.interleaved ? "interleaved" : "apart") << ", cosines at " << order.cosine
                     << (from ? ", ids" : ", range"));
          CHECK(reference::bit_difference(got, expected) == "");
        }
    }
  });
}

TEMPLATE_TEST_CASE("the phase kernel fills rows without a position", "[kernels][phase]", float, double) {
  const auto words = random_frequencies(5);
  const std::vector<std::int64_t> ids{absent, 0, absent};
  at_every_instruction_set([&] {
    for (const bool interleaved : {false, true}) {
      std::vector<TestType> got(30, TestType(5));
      posenc::kernels::phase<TestType>({.high = words.data(),
                                        .low = words.data() + 5,
                                        .pairs = 5,
                                        .ids = ids.data(),
                                        .first = 0,
                                        .rows = 3,
                                        .cosine = got.data(),
                                        .sine = got.data() + (interleaved ? 1 : 5),
                                        .row = 10,
                                        .interleaved = interleaved,
                                        .scale = 3,
                                        .absent_cosine = TestType(7)});
      std::vector<TestType> expected(30);
      for (std::size_t r = 0; r < 3; ++r)
        for (std::size_t k = 0; k < 5; ++k) expected[10 * r + (interleaved ? 2 * k : k)] = TestType(r == 1 ? 3 : 7);
      CHECK(reference::bit_difference(got, expected) == "");
    }
  });
}

TEST_CASE("phases of floats add exactly", "[kernels][phase]") {
  // The angle of p + d is that of p times that of d for any positions: with the high word alone the sum wraps as angles do, so a row at
  // p + 2^64 / g equals the row at p when the frequency is g / 2^64 turn.
  const std::vector<std::uint64_t> words{std::uint64_t{1} << 24, 0};
  const std::vector<std::int64_t> ids{12345, 12345 + (std::int64_t{1} << 40), 12345 - 3 * (std::int64_t{1} << 40)};
  std::vector<float> table(6);
  posenc::kernels::phase<float>({.high = words.data(),
                                 .low = words.data() + 1,
                                 .pairs = 1,
                                 .ids = ids.data(),
                                 .first = 0,
                                 .rows = 3,
                                 .cosine = table.data(),
                                 .sine = table.data() + 1,
                                 .row = 2,
                                 .interleaved = false,
                                 .scale = 1,
                                 .absent_cosine = 1});
  for (std::size_t n = 2; n < 6; ++n) CHECK(reference::same_bits(table[n], table[n - 2]));
}

// ---- several axes --------------------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("several axes make the angle that is the sum of theirs", "[kernels][phase]", float, double) {
  constexpr index_t rows = 40, gap = 43;  // the ids of an axis begin behind more than those of another
  for (const index_t axes : {1, 2, 3, 8})
    for (const index_t pairs : {1, 4, 7, 18}) {
      const speeds of(axes, pairs, 5);
      random_numbers random(23);
      std::vector<std::int64_t> ids;
      for (index_t n = 0; n < axes * gap; ++n) ids.push_back(n % 7 == 3 ? 0 : random.integer(-promised, promised));
      const auto id = [&](index_t r, index_t a) { return ids[static_cast<std::size_t>(a * gap + r)]; };
      const auto table = same_at_every_set<TestType>(
          [&] { return table_of<TestType>(of, rows, [&](auto& call) { call.ids = ids.data(), call.axis = gap; }); });
      CAPTURE(axes, pairs);
      CHECK(worst_error(table, of, [&](index_t r, index_t a, std::size_t n) {
              return reference::turned(id(r, a), 0, of.high[n], of.low[n]);
            }) <= contract<TestType> + static_cast<double>(axes - 1) * for_each_axis<TestType>);

      // To the bit: the words of the axes' angles, added, are a frequency that has this angle at position 1.
      for (index_t r = 0; r < rows; ++r) {
        speeds sums(1, pairs, 0);
        for (index_t k = 0; k < pairs; ++k) {
          std::uint64_t sum = 0;
          for (index_t a = 0; a < axes; ++a) {
            const auto n = static_cast<std::size_t>(a * pairs + k);
            const posenc::turns frequency{of.high[n], of.low[n]};
            sum += sizeof(TestType) == 4 ? posenc::float_phase(id(r, a), frequency) : posenc::double_phase(id(r, a), frequency);
          }
          sums.high[static_cast<std::size_t>(k)] = sum, sums.low[static_cast<std::size_t>(k)] = 0;
        }
        const auto expected = table_of<TestType>(sums, 1, [](auto& call) { call.first = 1; });
        const std::vector<TestType> got(table.begin() + r * 2 * pairs, table.begin() + (r + 1) * 2 * pairs);
        CHECK(reference::bit_difference(got, expected) == "");
      }
    }
}

TEMPLATE_TEST_CASE("positions with one axis stand there on all", "[kernels][phase]", float, double) {
  constexpr index_t rows = 9;
  const speeds of(3, 10, 5);
  std::vector<std::int64_t> one, three;
  for (index_t n = 0; n < rows; ++n) one.push_back(n - 4);
  one[2] = absent;
  for (int axis = 0; axis < 3; ++axis) three.insert(three.end(), one.begin(), one.end());
  std::vector<double> places;
  for (const auto id : one) places.push_back(id == absent ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(id));
  at_every_instruction_set([&] {
    const auto expected = table_of<TestType>(of, rows, [&](auto& call) { call.ids = three.data(), call.axis = rows; });
    CHECK(reference::bit_difference(table_of<TestType>(of, rows, [&](auto& call) { call.ids = one.data(); }), expected) == "");
    CHECK(reference::bit_difference(
              table_of<TestType>(of, rows, [&](auto& call) { call.coordinates = places.data(), call.whole = of.whole.data(); }),
              expected) == "");
    auto range = table_of<TestType>(of, rows, [&](auto& call) { call.first = -4; });
    std::copy_n(expected.begin() + 40, 20, range.begin() + 40);  // but for the row that is absent
    CHECK(reference::bit_difference(range, expected) == "");
    CHECK(expected[40] == 1);
    CHECK(expected[50] == 0);
  });
}

// ---- coordinates ---------------------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a coordinate that is whole has the bits of the position", "[kernels][phase]", float, double) {
  std::vector<std::int64_t> ids{0, 1, -1, 2, 3, -7, promised, -promised, promised + 1};
  random_numbers random(24);
  for (int bits = 1; bits <= 40; ++bits) {
    const std::int64_t power = std::int64_t{1} << bits;
    ids.insert(ids.end(), {power, -power, power - 1, 1 - power, random.integer(-power, power)});
  }
  const std::vector<double> places(ids.begin(), ids.end());
  const auto rows = static_cast<index_t>(ids.size());
  for (const index_t pairs : {1, 3, 8, 21}) {
    const speeds of(1, pairs, 100);
    at_every_instruction_set([&] {
      const auto expected = table_of<TestType>(of, rows, [&](auto& call) { call.ids = ids.data(); });
      const auto got = table_of<TestType>(of, rows, [&](auto& call) { call.coordinates = places.data(), call.whole = of.whole.data(); });
      CHECK(reference::bit_difference(got, expected) == "");
    });
  }
}

TEMPLATE_TEST_CASE("coordinates between the integers have the angles that they ask for", "[kernels][phase]", float, double) {
  const double smallest = std::numeric_limits<double>::denorm_min();
  // Those of 2^30 are for frequencies below a turn and a half, the others for more: |coordinate * frequency| < 2^31 turns.
  struct {
    std::int64_t whole;
    double largest;
  } const ranges[] = {{0, 0x1p30}, {1, 0x1p29}, {1000, 0x1p20}, {std::int64_t{1} << 29, 1}};
  for (const auto& [whole, largest] : ranges)
    for (const index_t axes : {1, 3}) {
      std::vector<double> places{0.0,      -0.0,      smallest, -smallest, 3 * smallest, 0x1p-1022, -0x1.8p-1022,
                                 0x1p-130, -0x1p-129, 0x1p-128, 0x1p-127,  -0x1p-65,     0x1p-64,   -0x1p-64,
                                 0x1p-63,  0.5,       -0.5,     0.75,      -largest,     largest,   largest * 0.75};
      random_numbers random(25);
      for (int n = 0; n < 60; ++n) places.push_back(largest * random.real<double>());
      for (int n = 0; n < 80; ++n) places.push_back(std::ldexp(random.real<double>(), static_cast<int>(random.integer(-140, 0))));
      const auto rows = static_cast<index_t>(places.size());
      for (index_t n = 0; n < rows * (axes - 1); ++n) places.push_back(largest * random.real<double>());
      const speeds of(axes, 11, whole);
      const auto table = same_at_every_set<TestType>([&] {
        return table_of<TestType>(of, rows,
                                  [&](auto& call) { call.coordinates = places.data(), call.whole = of.whole.data(), call.axis = rows; });
      });
      CAPTURE(whole, axes);
      CHECK(worst_error(table, of, [&](index_t r, index_t a, std::size_t n) {
              return reference::turned(places[static_cast<std::size_t>(a * rows + r)], of.whole[n], of.high[n], of.low[n]);
            }) <= contract<TestType> + static_cast<double>(axes) * for_each_axis<TestType>);
    }
}

TEMPLATE_TEST_CASE("axes whose frequency is zero do not turn, wherever they are asked for", "[kernels][phase]", float, double) {
  speeds of(2, 6, 3);
  for (const std::size_t n : {std::size_t{0}, std::size_t{4}, std::size_t{7}, std::size_t{10}}) of.high[n] = of.low[n] = 0, of.whole[n] = 0;
  of.high[1] = of.low[1] = 0, of.whole[1] = -2;  // whole turns alone still turn what is between the integers
  of.high[2] = 0, of.whole[2] = 0, of.low[2] = ~std::uint64_t{0};
  const std::vector<double> places{0.25, -1e6 - 0.125, 0x1p30, 5.5, 0.375, -0x1p-3};
  const auto table =
      table_of<TestType>(of, 3, [&](auto& call) { call.coordinates = places.data(), call.whole = of.whole.data(), call.axis = 3; });
  CHECK(worst_error(table, of, [&](index_t r, index_t a, std::size_t n) {
          return reference::turned(places[static_cast<std::size_t>(3 * a + r)], of.whole[n], of.high[n], of.low[n]);
        }) <= contract<TestType> + 2 * for_each_axis<TestType>);
  CHECK(table[4] == 1);
  CHECK(table[10] == 0);
}

TEMPLATE_TEST_CASE("rows without a coordinate are filled like rows without a position", "[kernels][phase]", float, double) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> places{none, 0.0, -none, 0, 0, 0};
  const speeds of(2, 5, 3);
  at_every_instruction_set([&] {
    for (const bool interleaved : {false, true}) {
      const auto got = table_of<TestType>(of, 3, [&](auto& call) {
        call.coordinates = places.data(), call.whole = of.whole.data(), call.axis = 3;
        call.interleaved = interleaved, call.scale = 3, call.absent_cosine = TestType(7);
        if (interleaved) call.sine = call.cosine + 1;
      });
      std::vector<TestType> expected(30);
      for (std::size_t r = 0; r < 3; ++r)
        for (std::size_t k = 0; k < 5; ++k) expected[10 * r + (interleaved ? 2 * k : k)] = TestType(r == 1 ? 3 : 7);
      CHECK(reference::bit_difference(got, expected) == "");
    }
  });
}

// ---- growth --------------------------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("whole powers of two grow exactly", "[kernels][phase]", float, double) {
  constexpr int most = sizeof(TestType) == 4 ? 90 : 950;
  const speeds of(1, 7, 3);
  const std::vector<double> growth{0, 1, -1, 2, -2, 0.5, 9};
  const std::vector<std::int64_t> ids{8, 10, -4, 8 + most / 9 / 2 * 2, 8 - most / 9 / 2 * 2, absent, 0};
  const auto rows = static_cast<index_t>(ids.size());
  at_every_instruction_set([&] {
    for (const double scale : {1.0, -0.75}) {
      auto expected = table_of<TestType>(of, rows, [&](auto& call) { call.ids = ids.data(), call.scale = scale; });
      for (std::size_t r = 0; r < ids.size(); ++r)
        for (std::size_t k = 0; k < 14; ++k)
          if (ids[r] != absent)
            expected[14 * r + k] = std::ldexp(expected[14 * r + k], static_cast<int>(static_cast<double>(ids[r] - 8) * growth[k % 7]));
      const auto got = table_of<TestType>(
          of, rows, [&](auto& call) { call.ids = ids.data(), call.scale = scale, call.growth = growth.data(), call.centre = 8; });
      CHECK(reference::bit_difference(got, expected) == "");
    }
  });
}

TEMPLATE_TEST_CASE("what grows is two to the distance from the centre, up to the last bits", "[kernels][phase]", float, double) {
  constexpr double most = sizeof(TestType) == 4 ? 120 : 1000;
  const speeds of(1, 19, 3);
  random_numbers random(26);
  std::vector<double> growth, places;
  std::vector<std::int64_t> ids;
  for (int k = 0; k < 19; ++k)
    growth.push_back(k == 4 ? 0 : k == 5 ? most / 1000 : k == 6 ? -most / 1000 : most / 1000 * random.real<double>());
  for (int r = 0; r < 200; ++r) ids.push_back(r == 9 ? 1000 : r == 10 ? -1000 : random.integer(-1000, 1000));
  for (const std::int64_t id : ids) places.push_back(static_cast<double>(id) * 0.999);
  for (const bool between : {false, true})
    for (const double centre : {0.0, 0.5, -2.25}) {
      const double largest = 1 - std::abs(centre) / 1000;  // keeps the exponents within what is allowed
      auto slopes = growth;
      for (double& one : slopes) one *= largest;
      const auto stand = [&](auto& call) {
        call.whole = of.whole.data();
        if (between) call.coordinates = places.data();
        else call.ids = ids.data();
      };
      const auto plain = table_of<TestType>(of, 200, stand);
      const auto got = same_at_every_set<TestType>(
          [&] { return table_of<TestType>(of, 200, [&](auto& call) { stand(call), call.growth = slopes.data(), call.centre = centre; }); });
      double worst = 0;
      for (std::size_t r = 0; r < 200; ++r)
        for (std::size_t k = 0; k < 38; ++k) {
          const double place = between ? places[r] : static_cast<double>(ids[r]);
          const double expected = static_cast<double>(plain[38 * r + k]) * std::exp2(slopes[k % 19] * (place - centre));
          worst = std::max(worst, std::abs(static_cast<double>(got[38 * r + k]) - expected) / std::abs(expected));
        }
      CHECK(worst <= (sizeof(TestType) == 4 ? 0x1p-23 : 1e-15));
    }
}

TEST_CASE("growth follows the first axis", "[kernels][phase]") {
  const speeds of(2, 5, 0);
  const std::vector<std::int64_t> ids{3, -2, 100, 200};
  const std::vector<double> growth{1, 2, 3, 4, 5};
  auto expected = table_of<double>(of, 2, [&](auto& call) { call.ids = ids.data(), call.axis = 2; });
  for (std::size_t r = 0; r < 2; ++r)
    for (std::size_t k = 0; k < 10; ++k)
      expected[10 * r + k] = std::ldexp(expected[10 * r + k], static_cast<int>(static_cast<double>(ids[r]) * growth[k % 5]));
  at_every_instruction_set([&] {
    const auto got = table_of<double>(of, 2, [&](auto& call) { call.ids = ids.data(), call.axis = 2, call.growth = growth.data(); });
    CHECK(reference::bit_difference(got, expected) == "");
  });
}
