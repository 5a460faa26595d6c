// SPDX-License-Identifier: MIT
#include <posenc/cape.hpp>

#include <posenc/combine/scaled_sum.hpp>
#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace posenc;

namespace {

constexpr double none = no_coordinate, not_a_number = std::numeric_limits<double>::quiet_NaN(),
                 infinity = std::numeric_limits<double>::infinity();

const std::vector<position> padded{no_position, 4, 9, 2, 1, no_position, 7, 3};
const positions two_rows = positions::ids(padded, 2);

/// The same with sums over whole rows, as the paper writes it.
std::vector<double> reference_cape(const std::vector<position>& ids, index_t rows, double delta, double scale) {
  std::vector<double> all;
  const auto time = static_cast<index_t>(ids.size()) / rows;
  for (index_t b = 0; b < rows; ++b) {
    long double sum = 0;
    int valid = 0;
    for (index_t t = 0; t < time; ++t)
      if (const position id = ids[static_cast<std::size_t>(b * time + t)]; id != no_position)
        sum += static_cast<long double>(id) * delta, ++valid;
    for (index_t t = 0; t < time; ++t) {
      const position id = ids[static_cast<std::size_t>(b * time + t)];
      all.push_back(id == no_position ? none : static_cast<double>((static_cast<long double>(id) * delta - sum / valid) * scale));
    }
  }
  return all;
}

std::vector<double> flat(const coordinates& at) {
  std::vector<double> all;
  for (index_t axis = 0; axis < at.axes(); ++axis)
    for (index_t b = 0; b < std::max<index_t>(at.batch(), 1); ++b)
      for (index_t t = 0; t < at.time(); ++t) all.push_back(at(b, t, axis));
  return all;
}

}  // namespace

TEST_CASE("cape centres the tokens of each row that have a position", "[cape]") {
  CHECK(cape(positions::range(4, 100)) == coordinates::values(std::array{-1.5, -0.5, 0.5, 1.5}, 1));
  CHECK(cape(two_rows) == coordinates::values(std::array{none, -1.0, 4.0, -3.0, 1 - 11.0 / 3, none, 7 - 11.0 / 3, 3 - 11.0 / 3}, 1, 2));
  CHECK(reference::difference(flat(cape(two_rows, {.positions_delta = 0.03, .freq_scale = 30})), reference_cape(padded, 2, 0.03, 30),
                              1e-15) == "");
  CHECK(cape(positions::ids(std::array{no_position, no_position})) == coordinates::values(std::array{none, none}, 1));
  CHECK(cape(positions::range(0)).time() == 0);
  CHECK(cape(positions::range(3, position{1} << 52)) == coordinates::values(std::array{-1.0, 0.0, 1.0}, 1));
}

TEST_CASE("without a mean, cape's defaults are the positions, and its codes the sinusoid's", "[cape]") {
  CHECK(cape(two_rows, {.normalize = false}) == coordinates::of(two_rows));
  CHECK(cape(two_rows, {.positions_delta = 0.5, .normalize = false, .freq_scale = 4}) == coordinates::of(two_rows).scaled({2}));
  const sinusoidal<float> waves({.dim = 8, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});
  Eigen::Tensor<float, 3, Eigen::RowMajor> one(2, 4, 8), other(2, 4, 8);
  waves.encode(two_rows, one);
  waves.encode(cape(two_rows, {.normalize = false}), other);
  CHECK(reference::bit_difference(one, other) == "");
  CHECK((other(0, 0, 1) == 0 && other(1, 1, 3) == 0));  // the code of no position is zero, not the cosine of zero
  auto x = random_tensor<Eigen::Tensor<float, 3, Eigen::RowMajor>>(1, 2, 4, 8), sum = x;
  scaled_sum(waves, {.token_scale = std::sqrt(8.0)}).add(sum, cape(two_rows));
  waves.encode(cape(two_rows), one);
  CHECK(sum(0, 2, 5) == x(0, 2, 5) * static_cast<float>(std::sqrt(8.0)) + one(0, 2, 5));
}

TEST_CASE("in training, each row is shifted and stretched, and each token shifted", "[cape]") {
  random_source random(1), same(1);
  const cape_options options{.positions_delta = 0.25, .freq_scale = 3};
  const auto at = cape(two_rows, options, {.max_global_shift = 5, .max_local_shift = 0.5, .max_global_scaling = 1.03}, 2, random);
  const auto still = cape(two_rows, {.positions_delta = 0.25});
  std::vector<double> wanted;
  for (index_t b = 0; b < 2; ++b) {
    const double shift = same.uniform(-5, 5), scaling = std::pow(1.03, same.uniform(-1, 1));
    for (index_t t = 0; t < 4; ++t) wanted.push_back((still(b, t) + shift + same.uniform(-0.5, 0.5) / 4) * scaling * 3);
  }
  CHECK(reference::difference(flat(at), wanted, 1e-14) == "");
  CHECK(random == same);
  CHECK_FALSE(cape(two_rows, options, {.max_local_shift = 0.5}, 2, random) == cape(two_rows, options, {.max_local_shift = 0.5}, 2, random));
}

TEST_CASE("augmentation of nothing changes nothing but the stream", "[cape]") {
  random_source random(2), skipped(2);
  CHECK(cape(two_rows, {}, {}, 2, random) == cape(two_rows));
  for (int n = 0; n < 2 * (4 + 2); ++n) skipped.bits();
  CHECK(random == skipped);
  const grid cells{.extents = {2, 3}, .order = grid_order::slowest_first};
  CHECK(cape(cells, {}, 0, random) == cape(cells));
  for (int n = 0; n < 3 + 2 * 6; ++n) skipped.bits();
  CHECK(random == skipped);
}

TEST_CASE("rows that share their positions are drawn one by one, or all at once", "[cape]") {
  random_source random(3);
  const auto each = cape(positions::range(5), {}, {.max_global_shift = 1}, 3, random);
  CHECK((each.batch() == 3 && each(0, 0) != each(1, 0) && each(1, 0) != each(2, 0)));
  CHECK(std::abs(each(2, 3) - each(2, 2) - 1) < 1e-14);  // a shift of the whole row
  const auto shared = cape(positions::range(5), {}, {.max_global_shift = 1}, 0, random);
  CHECK((shared.batch() == 0 && shared(0, 0) == shared(7, 0)));
}

TEST_CASE("cape's amounts stay in their range and reach all of it", "[cape]") {
  random_source random(4);
  const auto at = positions::ids(std::array{1, 3});
  double least_shift = 9, most_shift = -9, least_local = 9, most_local = -9, least = 9, most = 0;
  for (int n = 0; n < 3000; ++n) {
    const auto shifted = cape(at, {}, {.max_global_shift = 2}, 0, random), stretched = cape(at, {}, {.max_global_scaling = 2}, 0, random);
    const auto local = cape(at, {.positions_delta = 0.5}, {.max_local_shift = 1}, 0, random);
    least_shift = std::fmin(least_shift, shifted(0, 0) + 1), most_shift = std::fmax(most_shift, shifted(0, 0) + 1);
    least_local = std::fmin(least_local, local(0, 1) - 0.5), most_local = std::fmax(most_local, local(0, 1) - 0.5);
    least = std::fmin(least, stretched(0, 1)), most = std::fmax(most, stretched(0, 1));
    if (stretched(0, 0) != -stretched(0, 1)) FAIL("a row has one scaling");
  }
  CHECK((least_shift >= -2 && least_shift < -1.99 && most_shift <= 2 && most_shift > 1.99));
  CHECK((least_local >= -0.5 && least_local < -0.49 && most_local <= 0.5 && most_local > 0.49));
  CHECK((least >= 0.5 * (1 - 1e-15) && least < 0.505 && most <= 2 * (1 + 1e-15) && most > 1.98));
}

TEST_CASE("pictures lie in [-1, 1] on each axis, and move as a whole and cell by cell", "[cape]") {
  const grid cells{.extents = {2, 3}, .order = grid_order::slowest_first, .prefix = 1};
  CHECK(cape(cells) == coordinates::values(std::array{none, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, none, -1.0, 0.0, 1.0, -1.0, 0.0, 1.0}, 2));
  random_source random(5), same(5);
  const auto at = cape(cells, {.max_global_shift = 0.5, .max_local_shift = 0.25, .max_global_scaling = 1.4}, 2, random);
  REQUIRE((at.batch() == 2 && at.axes() == 2 && at.time() == 7));
  std::vector<double> wanted(28);
  for (std::size_t b = 0; b < 2; ++b) {
    const double down = same.uniform(-0.5, 0.5), right = same.uniform(-0.5, 0.5), scaling = std::pow(1.4, same.uniform(-1, 1));
    for (std::size_t t = 0; t < 7; ++t) {
      const double local_down = same.uniform(-0.25, 0.25) * 2, local_right = same.uniform(-0.25, 0.25);  // steps of 2 and 1
      wanted[b * 7 + t] = (cape(cells)(0, static_cast<index_t>(t), 0) + down + local_down) * scaling;
      wanted[14 + b * 7 + t] = (cape(cells)(0, static_cast<index_t>(t), 1) + right + local_right) * scaling;
    }
  }
  CHECK(reference::difference(flat(at), wanted, 1e-15) == "");
  CHECK(random == same);
  // A single row of cells stands at -1, without a step.
  CHECK(cape(grid{.extents = {1, 2}, .order = grid_order::slowest_first}, {.max_local_shift = 1}, 0, random)(0, 1, 0) == -1);
}

TEST_CASE("cape's directions turn by a radian each while their frequencies grow to ten", "[cape]") {
  const auto w = cape_directions<double>(5);
  REQUIRE((w.dimension(0) == 5 && w.dimension(1) == 2));
  CHECK((w(0, 0) == 1 && w(0, 1) == 0));
  CHECK(std::abs(w(4, 0) - 10 * -0.65364362086361194) < 1e-14);
  CHECK(std::abs(w(4, 1) - 10 * -0.75680249530792820) < 1e-14);
  CHECK(std::abs(std::hypot(w(2, 0), w(2, 1)) - std::sqrt(10.0)) < 1e-15);
  CHECK(cape_directions<float>(5)(4, 1) == static_cast<float>(w(4, 1)));
  CHECK((cape_directions<float>(1)(0, 0) == 1 && cape_directions<float>(1)(0, 1) == 0));
}

TEST_CASE("cape refuses what is out of range, before it draws", "[cape][errors]") {
  random_source random(6);
  const auto before = random;
  const auto at = positions::range(3);
  const auto train = [&](const cape_augmentation& by, index_t batch = 0) { return [&, by, batch] { cape(at, {}, by, batch, random); }; };
  const std::string who = "[cape] ";
  reference::refuses(who + "max_global_shift must lie in [0, 2^1023) but got -1", train({.max_global_shift = -1}));
  reference::refuses(who + "max_global_shift must lie in [0, 2^1023) but got nan", train({.max_global_shift = not_a_number}));
  reference::refuses(who + "max_local_shift must lie in [0, 2^1023) but got inf", train({.max_local_shift = infinity}));
  reference::refuses(who + "max_global_scaling must be finite and at least 1 but got 0.5", train({.max_global_scaling = 0.5}));
  reference::refuses(who + "max_global_scaling must be finite and at least 1 but got inf", train({.max_global_scaling = infinity}));
  reference::refuses(who + "batch must not be negative but got -1", train({}, -1));
  reference::refuses(who + "batch must match the positions but got 3 and 2", [&] { cape(two_rows, {}, {}, 3, random); });
  reference::refuses(who + "batch must match the positions but got 0 and 2", [&] { cape(two_rows, {}, {}, 0, random); });
  reference::refuses(who + "positions_delta must be positive and finite but got 0", [&] { cape(at, {.positions_delta = 0}); });
  reference::refuses(who + "positions_delta must be positive and finite but got inf", [&] { cape(at, {.positions_delta = infinity}); });
  reference::refuses(who + "freq_scale must be finite but got nan", [&] { cape(at, {.freq_scale = not_a_number}); });
  reference::refuses(who + "positions must have one axis but got 2", [&] { cape(positions::multi_axis(std::array{1, 2}, 2)); });
  reference::refuses("[coordinates] positions must lie in [-2^53, 2^53] but got 9007199254740993",
                     [&] { cape(positions::ids(std::array{(position{1} << 53) + 1})); });
  reference::refuses(who + "count must be positive but got 0", [] { cape_directions<float>(0); });
  const grid cells{.extents = {2, 3}, .order = grid_order::slowest_first};
  reference::refuses(who + "max_local_shift must lie in [0, 2^1023) but got -2", [&] { cape(cells, {.max_local_shift = -2}, 0, random); });
  CHECK(random == before);
}
