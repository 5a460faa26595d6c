// SPDX-License-Identifier: MIT
/// \file  Fourier position embedding as its authors' own code computes it.
#include <posenc/fourier/fope.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::converted, golden::load, golden::npy, golden::row_major, golden::rounding, golden::table_bound;

struct golden_case {
  std::string folder;
  index_t dim, length, heads;
  bool separate_basis;
  position first;  ///< of the tokens in the case
  double frequency_error, output_error;  ///< of the system, in float
};

const std::vector<golden_case> cases{{"fourier/fope_default/", 32, 512, 2, true, 0, 7.25e-9, 1.06e-6},
                                     {"fourier/fope_kv_offset/", 16, 128, 4, false, 35, 2.13e-9, 1.04e-6}};

rotary_descriptor form_of(const golden_case& c) { return {.pairing = pairing::halves, .dim = c.dim}; }
fope_options options_of(const golden_case& c) {
  return {.spectrum = fope_spectrum{.max_sequence_length = c.length},
          .width = fope_width::paper,
          .padding = fope_padding::ones,
          .heads = c.heads,
          .separate_basis = c.separate_basis};
}

/// The largest sum of the magnitudes of one column of `[heads, waves, mixed]`.
double largest_column(const npy<float>& coefficients) {
  const index_t waves = coefficients.shape[1], mixed = coefficients.shape[2];
  double largest = 0;
  for (index_t column = 0; column < coefficients.shape[0] * mixed; ++column) {
    double sum = 0;
    for (index_t f = 0; f < waves; ++f)
      sum += std::abs(
          static_cast<double>(coefficients.values[static_cast<std::size_t>((column / mixed * waves + f) * mixed + column % mixed)]));
    largest = std::max(largest, sum);
  }
  return largest;
}

}  // namespace

TEMPLATE_TEST_CASE("fope keeps the waves of its authors, and their sines and cosines", "[golden][fope]", float, double) {
  for (const auto& c : cases) {
    INFO(c.folder);
    random_source none(0);
    const fope<TestType> encoder(form_of(c), options_of(c), {.start = fope_start::eye}, none);
    const frequencies& waves = encoder.inspect().frequencies;
    const auto truth = load<double>(c.folder + "inv_freq_f64");
    REQUIRE(waves.count() == truth.shape.back());
    npy<double> got{truth.shape, {}};
    for (index_t f = 0; f < waves.count(); ++f) got.values.push_back(waves.radians(f));
    CHECK(absolute(got, truth) <= 2.3e-16);
    CHECK(absolute(got, load<float>(c.folder + "inv_freq")) <= c.frequency_error + 2.3e-16);

    // The identity mixes nothing, so the table holds the waves themselves.
    const auto sines = load<double>(c.folder + "basis_sin_f64"), cosines = load<double>(c.folder + "basis_cos_f64");
    const index_t time = sines.shape[2];
    const auto table = encoder.prepare(positions::range(time));
    npy<TestType> s{sines.shape, {}}, k{sines.shape, {}};
    for (index_t t = 0; t < time; ++t) {
      k.values.insert(k.values.end(), table.row(0, t), table.row(0, t) + waves.count());
      s.values.insert(s.values.end(), table.row(0, t) + c.dim / 2, table.row(0, t) + c.dim / 2 + waves.count());
    }
    const double of_the_truth = 2 * 40 * rounding<double>;  // its angles are products of doubles
    CHECK(absolute(s, sines) <= table_bound<TestType> + of_the_truth);
    CHECK(absolute(k, cosines) <= table_bound<TestType> + of_the_truth);
  }
}

TEMPLATE_TEST_CASE("fope with its authors' coefficients is the truth", "[golden][fope]", float, double) {
  using S = TestType;
  for (const auto& c : cases) {
    INFO(c.folder);
    const auto sin_coef = load<float>(c.folder + (c.separate_basis ? "sin_coef" : "fourier_coef"));
    const auto cos_coef = c.separate_basis ? load<float>(c.folder + "cos_coef") : sin_coef;
    const auto s = converted<S>(sin_coef), k = converted<S>(cos_coef);
    const auto encoder =
        c.separate_basis ? fope<S>(form_of(c), options_of(c), s.values, k.values) : fope<S>(form_of(c), options_of(c), s.values);
    const auto x = converted<S>(load<float>(c.folder + "x"));
    const auto at = positions::range(x.shape[2], c.first);
    auto y = x;
    encoder.rotate(heads(row_major<4>(y), axis_order::head_time), operand::key, encoder.prepare(attention_positions{at, at}));

    // Two table values, each off by its bound, times x; three roundings of sums of products. The truth is the same in double, of angles up
    // to 40.
    const double columns = std::max(largest_column(sin_coef), largest_column(cos_coef)), waves = static_cast<double>(sin_coef.shape[1]);
    const double own = 2 * (table_bound<S> + (waves + 1) * rounding<S>)+6 * rounding<S>;
    const double of_the_truth = 2 * (2 * 40 + waves + 1) * rounding<double> + 6 * rounding<double>;
    const double bound = golden::largest_magnitude(x) * columns * (own + of_the_truth);
    CHECK(absolute(y, load<double>(c.folder + "out_f64")) <= bound);
    CHECK(absolute(y, load<float>(c.folder + "out")) <= c.output_error + bound);
  }
}
