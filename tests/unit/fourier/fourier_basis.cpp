// SPDX-License-Identifier: MIT
#include <posenc/fourier/fourier_basis.hpp>

#include <posenc/combine/compose.hpp>
#include <posenc/learned.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/fourier_basis.hpp"
#include "reference/refuses.hpp"
#include "reference/rounded.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;

template <class T>
using tensor2 = Eigen::Tensor<T, 2, RowMajor>;
template <class T>
using tensor3 = Eigen::Tensor<T, 3, RowMajor>;

constexpr std::optional<channel_order> orders[] = {channel_order::interleaved, channel_order::sin_cos, channel_order::cos_sin};

/// The channel of a position in long double.
long double truth(const fourier_basis_options& options, position p, index_t c) {
  const index_t n = options.period, bands = index_t{options.dim} / 2;
  if (options.functions == basis_functions::cosine) return reference::cosine_of_turns(c * reference::place_in(p, n), n);
  if (options.functions == basis_functions::dct2) return reference::cosine_of_turns(c * (2 * reference::place_in(p, 2 * n) + 1), 4 * n);
  const bool interleaved = options.order == channel_order::interleaved;
  const index_t k = interleaved ? c / 2 : c % bands;
  const bool sine = interleaved ? c % 2 == 0 : (c < bands) == (options.order == channel_order::sin_cos);
  return sine ? reference::sine_of_turns(k * reference::place_in(p, n), n) : reference::cosine_of_turns(k * reference::place_in(p, n), n);
}

/// Empty where every value is the nearest to the truth, as far as long double can tell.
template <class S>
std::string not_nearest(const fourier_basis_options& options, const std::vector<position>& ids) {
  tensor2<S> code(static_cast<index_t>(ids.size()), index_t{options.dim});
  code.setConstant(9);
  fourier_basis<S>(options).encode(positions::ids(ids), code);
  for (std::size_t t = 0; t < ids.size(); ++t)
    for (index_t c = 0; c < options.dim; ++c) {
      const S got = code(static_cast<index_t>(t), c), size = std::abs(got);
      const long double expected = truth(options, ids[t], c), off = std::abs(static_cast<long double>(got) - expected);
      const long double spacing = static_cast<long double>(size) - static_cast<long double>(std::nextafter(size, S(0)));
      if (!(off <= spacing / 2 + 0x1p-60L) && !(got == 0 && off < 0x1p-60L))
        return "position " + std::to_string(ids[t]) + " channel " + std::to_string(c) + ": " + std::to_string(got) + " instead of " +
               std::to_string(static_cast<double>(expected));
    }
  return "";
}

std::vector<fourier_basis_options> every_form(index_t dim, index_t period) {
  std::vector<fourier_basis_options> all{{.dim = dim, .period = period, .functions = basis_functions::cosine},
                                         {.dim = dim, .period = period, .functions = basis_functions::dct2}};
  for (const auto order : orders) all.push_back({.dim = dim, .period = period, .functions = basis_functions::cos_sin, .order = order});
  return all;
}

fourier_basis_options cosines_of(index_t dim, index_t period) {
  return {.dim = dim, .period = period, .functions = basis_functions::cosine};
}

constexpr position far = position{1} << 62;

}  // namespace

TEMPLATE_TEST_CASE("the values of a discrete Fourier basis are the nearest to the truth at every position", "[fourier_basis]", float,
                   double) {
  for (const index_t period : {1, 2, 3, 4, 5, 7, 12, 97, 360, 1000})
    for (const auto& options : every_form(period == 97 ? 200 : 14, period)) {
      CAPTURE(period, static_cast<int>(basis_functions{options.functions}));
      std::vector<position> ids{far, -far, far - 1, -far + 7, 1'999'999'973, -1, period, period + 1, -period, 2 * period, 3 * period - 1};
      for (position p = 0; p < std::min<position>(period, 110); ++p) ids.push_back(p);
      CHECK(not_nearest<TestType>(options, ids) == "");
    }
}

TEST_CASE("quarter turns and sixths are exact", "[fourier_basis]") {
  tensor2<double> code(5, 4);
  fourier_basis<double>(cosines_of(4, 12)).encode(positions::ids(std::array{0, 2, 3, 4, 6}), code);
  const std::array by_hand{1., 1., 1., 1., 1., .5, -.5, -1., 1., 0., -1., 0., 1., -.5, -.5, 1., 1., -1., 1., -1.};
  CHECK(reference::bit_difference(code, by_hand) == "");
  tensor2<float> both(4, 4);
  fourier_basis<float>({.dim = 4, .period = 4, .functions = basis_functions::cos_sin, .order = channel_order::interleaved})
      .encode(positions::range(4), both);
  const std::array in_quarters{0.f, 1.f, 0.f, 1.f, 0.f, 1.f, 1.f, 0.f, 0.f, 1.f, 0.f, -1.f, 0.f, 1.f, -1.f, 0.f};
  CHECK(reference::bit_difference(both, in_quarters) == "");
}

TEST_CASE("cosines of parts of a quarter turn are known to 95 bits", "[fourier_basis]") {
  struct known {
    index_t j, n;
    double_double cosine;  // by mpmath, with 300 bits
  };
  for (const auto& [j, n, cosine] :
       {known{1, 3, {0x1.bb67ae8584caap-1, 0x1.cec95d0b5c1e3p-55}}, known{1, 7, {0x1.f329c0558e969p-1, -0x1.c6ab5b10ae22ap-57}},
        known{3, 7, {0x1.904c37505de4bp-1, 0x1.766b339d009ffp-58}}, known{1, 2, {0x1.6a09e667f3bcdp-1, -0x1.bdd3413b26456p-55}},
        known{512, 1023, {0x1.69c2b793f2884p-1, -0x1.f73b0a0ae43edp-57}},
        known{999999, 1000003, {0x1.a5a7fa5155120p-18, 0x1.0c32b56b01342p-75}}, known{1, index_t{1} << 40, {1, -0x1.3bd3cc9be45dep-80}}}) {
    CAPTURE(j, n);
    const double_double off = detail::quarter_cosine(j, n) - cosine;
    CHECK(std::abs(off.high) <= 0x1p-95 * cosine.high);
  }
  CHECK(detail::quarter_cosine(5, 5).high == 0);
  CHECK(detail::quarter_cosine(0, 5).high == 1);
}

TEST_CASE("a sum of two doubles is rounded to float once", "[fourier_basis]") {
  constexpr double tie = 1 + 0x1p-24, above_odd = 1 + 0x3p-24;
  CHECK(detail::rounded<float>({tie, 0x1p-80}) == 1 + 0x1p-23f);
  CHECK(detail::rounded<float>({tie, -0x1p-80}) == 1);
  CHECK(detail::rounded<float>({tie, 0}) == 1);
  CHECK(detail::rounded<float>({-tie, -0x1p-80}) == -1 - 0x1p-23f);
  CHECK(detail::rounded<float>({above_odd, -0x1p-80}) == 1 + 0x1p-23f);
  CHECK(detail::rounded<float>({above_odd, 0}) == 1 + 0x1p-22f);
  CHECK(detail::rounded<double>({1, 0x1p-60}) == 1);
}

TEST_CASE("what coincides in a discrete Fourier basis", "[fourier_basis]") {
  constexpr index_t n = 20;
  const auto row = [](const fourier_basis_options& options, position p) {
    std::vector<double> code(static_cast<std::size_t>(index_t{options.dim}));
    fourier_basis<double>(options).encode(positions::ids(std::array{p}), tensor_view<double, 2>(code.data(), {1, options.dim}));
    return code;
  };
  const auto cosine = cosines_of(2 * n, n);
  const fourier_basis_options both{.dim = n, .period = n, .functions = basis_functions::cos_sin, .order = channel_order::sin_cos};
  const fourier_basis_options dct2{.dim = n, .period = n, .functions = basis_functions::dct2};
  for (position p = 0; p < n; ++p) {
    const auto code = row(cosine, p);
    CHECK(code == row(cosine, n - p));
    CHECK(code == row(cosine, p - 3 * n));
    for (std::size_t k = 0; k <= n; ++k) CHECK(code[k] == code[n - k]);
    CHECK(std::equal(code.begin() + n, code.end(), code.begin()));
    CHECK(row(both, p) == row(both, p + n));
    CHECK(row(dct2, p) == row(dct2, p + 2 * n));
    CHECK(row(dct2, p) == row(dct2, -1 - p));
    for (position other = 0; other < p; ++other) {
      CHECK(row(both, p) != row(both, other));
      CHECK(row(dct2, p) != row(dct2, other));
    }
  }
  CHECK(row(dct2, n) == row(dct2, n - 1));
  for (const auto& code : {row(cosine, 7), row(dct2, 7)}) CHECK(code[0] == 1);
}

TEST_CASE("the columns of the second discrete cosine transform are orthogonal, so that it is inverted by its transpose",
          "[fourier_basis]") {
  constexpr index_t n = 24;
  const fourier_basis<double> encoder({.dim = n, .period = n, .functions = basis_functions::dct2});
  const auto table = encoder.table();
  const auto signal = random_vector<double>(3, n);
  std::vector<double> back(n);
  for (index_t k = 0; k < n; ++k) {
    for (index_t other = 0; other < n; ++other) {
      double product = 0;
      for (index_t p = 0; p < n; ++p) product += table(p, k) * table(p, other);
      CHECK(std::abs(product - (k != other ? 0 : k == 0 ? n : n / 2.0)) < 1e-14 * n);
    }
    double coefficient = 0;
    for (index_t p = 0; p < n; ++p) coefficient += table(p, k) * signal[static_cast<std::size_t>(p)];
    for (index_t p = 0; p < n; ++p) back[static_cast<std::size_t>(p)] += coefficient * table(p, k) * (k == 0 ? 1.0 : 2.0) / n;
  }
  CHECK(reference::difference(back, signal, 1e-14) == "");
}

TEST_CASE("the cosines and sines of one frequency are those of a sinusoidal code", "[fourier_basis]") {
  // The limit in which the two families meet: the frequency 2 pi / N.
  tensor2<float> code(9, 4);
  fourier_basis<float>({.dim = 4, .period = 9, .functions = basis_functions::cos_sin, .order = channel_order::cos_sin})
      .encode(positions::range(9), code);
  for (index_t p = 0; p < 9; ++p) {
    CHECK(std::abs(code(p, 1) - std::cos(0.69813170079773183 * static_cast<double>(p))) < 6e-8);
    CHECK(std::abs(code(p, 3) - std::sin(0.69813170079773183 * static_cast<double>(p))) < 6e-8);
  }
}

TEMPLATE_TEST_CASE("a discrete Fourier basis is added to every storage, in both orders, to tokens that have a position", "[fourier_basis]",
                   float, double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  const auto numbers = [](const tensor3<T>& x) { return tensor3<S>(x.template cast<S>()); };
  const fourier_basis<S> encoder({.dim = 6, .period = 5, .functions = basis_functions::cos_sin, .order = channel_order::sin_cos});
  const auto x = tensor3<T>(random_tensor<tensor3<S>>(1, 2, 4, 6).template cast<T>());
  for (const auto& at :
       {positions::range(4, 3), positions::offsets(std::array{-2, 11}, 4), positions::ids(std::array<position, 4>{2, no_position, 5, -1}),
        positions::ids(std::array<position, 8>{9, 8, 7, no_position, no_position, 0, far, -far}, 2)}) {
    auto sum = x, in_place = x, code = x;
    for (index_t b = 0; b < 2; ++b)
      for (index_t t = 0; t < 4; ++t)
        for (index_t c = 0; c < 6; ++c) {
          const bool absent = at(b, t) == no_position;
          const S value = absent ? S(0) : encoder.table()(reference::place_in(at(b, t), 5), c);
          code(b, t, c) = static_cast<T>(value);
          if (!absent) sum(b, t, c) = static_cast<T>(reference::plus(static_cast<S>(x(b, t, c)), value));
        }
    encoder.add(in_place, at);
    CHECK(reference::bit_difference(numbers(in_place), numbers(sum)) == "");
    in_place.setConstant(T(9));
    encoder.encode(at, in_place);
    CHECK(reference::bit_difference(numbers(in_place), numbers(code)) == "");

    Eigen::Tensor<T, 3> columns(6, 4, 2);  // the same memory
    std::copy_n(x.data(), x.size(), columns.data());
    encoder.add(columns, at);
    std::copy_n(columns.data(), x.size(), in_place.data());
    CHECK(reference::bit_difference(numbers(in_place), numbers(sum)) == "");

    in_place = x;
    for (index_t t = 0; t < 4; ++t) {  // token by token
      const tensor_view<T, 3> one(&in_place(0, t, 0), {2, 1, 6}, {24, 6, 1});
      encoder.add(one, at.slice(t, 1));
    }
    CHECK(reference::bit_difference(numbers(in_place), numbers(sum)) == "");
  }
}

TEST_CASE("a discrete Fourier basis composes, and can be tabulated and trained further", "[fourier_basis]") {
  const fourier_basis<double> encoder(cosines_of(3, 8));
  const auto x = random_tensor<tensor3<double>>(1, 2, 8, 3);
  auto once = x, twice = x, table = x;
  encoder.add(once, positions::range(8));
  tabulated(encoder, 8).add(table, positions::range(8));
  CHECK(reference::bit_difference(table, once) == "");
  encoder.add(once, positions::range(8));
  compose(encoder, encoder).add(twice, positions::range(8));
  CHECK(reference::bit_difference(twice, once) == "");
}

TEST_CASE("a discrete Fourier basis adds the same bits on any number of threads", "[fourier_basis]") {
  const fourier_basis<float> encoder(cosines_of(96, 700));
  std::vector<position> ids;
  random_numbers random(1);
  for (index_t n = 0; n < 3 * 1500; ++n) ids.push_back(n % 50 == 7 ? no_position : random.integer(-far, far - 1));
  const auto x = random_tensor<tensor3<float>>(3, 3, 1500, 96);
  for (const auto& at : {positions::ids(ids, 3), positions::range(1500, -40)}) {
    auto alone = x;
    encoder.add(alone, at);
    for (const int threads : {2, 5}) {
      Eigen::ThreadPool pool(threads);
      const Eigen::ThreadPoolDevice device(&pool, threads);
      auto together = x;
      encoder.add(together, at, device);
      CHECK(reference::bit_difference(together, alone) == "");
    }
  }
}

TEST_CASE("discrete Fourier bases compare by their options", "[fourier_basis]") {
  const fourier_basis<float> encoder(cosines_of(4, 8));
  CHECK(encoder == fourier_basis<float>(cosines_of(4, 8)));
  CHECK(encoder != fourier_basis<float>(cosines_of(4, 9)));
  CHECK(encoder != fourier_basis<float>(cosines_of(5, 8)));
  CHECK(encoder != fourier_basis<float>({.dim = 4, .period = 8, .functions = basis_functions::dct2}));
  CHECK(fourier_basis<float>({.dim = 4, .period = 8, .functions = basis_functions::cos_sin, .order = channel_order::sin_cos}) !=
        fourier_basis<float>({.dim = 4, .period = 8, .functions = basis_functions::cos_sin, .order = channel_order::cos_sin}));
  const auto copy = encoder;
  CHECK(copy.table().data() == encoder.table().data());
}

TEST_CASE("discrete Fourier bases refuse what they cannot do", "[fourier_basis]") {
  using reference::refuses;
  const auto made = [](const fourier_basis_options& options) { return [options] { fourier_basis<float> encoder(options); }; };
  constexpr auto both = basis_functions::cos_sin;
  constexpr auto order = channel_order::sin_cos;
  refuses("[fourier_basis] dim must be positive but got 0", made(cosines_of(0, 8)));
  refuses("[fourier_basis] dim must be positive but got -3", made(cosines_of(-3, 8)));
  refuses("[fourier_basis] dim must be even for cosines and sines but got 5",
          made({.dim = 5, .period = 8, .functions = both, .order = order}));
  refuses("[fourier_basis] the period must lie in [1, 2^40] but got 0", made(cosines_of(4, 0)));
  refuses("[fourier_basis] the period must lie in [1, 2^40] but got -1", made(cosines_of(4, -1)));
  refuses("[fourier_basis] the period must lie in [1, 2^40] but got 1099511627777", made(cosines_of(4, (index_t{1} << 40) + 1)));
  refuses("[fourier_basis] the size in bytes must fit in 63 bits but got [1099511627776, 4194304]",
          made(cosines_of(1 << 22, index_t{1} << 40)));
  const std::string given = "[fourier_basis] the order must be given for cosines and sines, and for nothing else";
  refuses(given, made({.dim = 4, .period = 8, .functions = both}));
  refuses(given, made({.dim = 4, .period = 8, .functions = basis_functions::cosine, .order = order}));
  refuses(given, made({.dim = 4, .period = 8, .functions = basis_functions::dct2, .order = order}));

  const fourier_basis<float> encoder(cosines_of(4, 8));
  auto x = random_tensor<tensor3<float>>(1, 2, 3, 4);
  auto narrow = random_tensor<tensor3<float>>(1, 2, 3, 5);
  refuses(narrow, "[fourier_basis] channels must equal dim but got 4 and 5", [&] { encoder.add(narrow, positions::range(3)); });
  refuses(x, "[fourier_basis] time must match the positions but got 3 and 4", [&] { encoder.add(x, positions::range(4)); });
  refuses(x, "[fourier_basis] batch must match the positions but got 2 and 3",
          [&] { encoder.add(x, positions::offsets(std::array{0, 1, 2}, 3)); });
  refuses(x, "[fourier_basis] the positions must have as many axes as the encoder but got 1 and 2",
          [&] { encoder.add(x, positions::multi_axis(std::array{0, 1, 2, 3, 4, 5}, 2)); });
}
