// SPDX-License-Identifier: MIT
/// \file  The discrete Fourier basis at 60 digits.
#include <posenc/fourier/fourier_basis.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::load, golden::npy, golden::row_major, golden::view;

const std::vector<std::pair<std::string, index_t>> cases{{"fourier/dft_basis_n16", 16}, {"fourier/dft_basis_n64", 64}};

}  // namespace

TEMPLATE_TEST_CASE("the discrete Fourier basis is the truth, rounded once", "[golden][fourier_basis]", float, double) {
  for (const auto& [name, period] : cases) {
    INFO(name);
    const auto cosines = load<double>(name + "/cos_f64"), sines = load<double>(name + "/sin_f64");
    const auto at = positions::ids(view<1>(load<std::int64_t>(name + "/positions")));
    const index_t time = cosines.shape[0], bands = cosines.shape[1];
    auto got = npy<TestType>::filled({time, bands}, 9), both = npy<TestType>::filled({time, 2 * bands}, 9);
    fourier_basis<TestType>({.dim = bands, .period = period, .functions = basis_functions::cosine}).encode(at, row_major<2>(got));
    CHECK(absolute(got, golden::converted<TestType>(cosines)) <= 0);

    fourier_basis<TestType>({.dim = 2 * bands, .period = period, .functions = basis_functions::cos_sin, .order = channel_order::cos_sin})
        .encode(at, row_major<2>(both));
    auto expected = npy<TestType>::filled(both.shape, 0);
    for (index_t t = 0; t < time; ++t)
      for (index_t k = 0; k < bands; ++k) {
        const auto row = static_cast<std::size_t>(2 * bands * t), from = static_cast<std::size_t>(bands * t + k);
        expected.values[row + static_cast<std::size_t>(k)] = static_cast<TestType>(cosines.values[from]);
        expected.values[row + static_cast<std::size_t>(bands + k)] = static_cast<TestType>(sines.values[from]);
      }
    CHECK(absolute(both, expected) <= 0);
  }
}
