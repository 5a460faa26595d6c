// SPDX-License-Identifier: MIT
#include <posenc/kernels/phase.hpp>

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

}  // namespace

TEST_CASE("the reference angle is right where it is known", "[kernels][phase]") {
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
