// SPDX-License-Identifier: MIT
#include <posenc/fourier/current_length_basis.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;

template <class T>
using tensor3 = Eigen::Tensor<T, 3, RowMajor>;

const current_length_basis_options cosines{.dim = 6, .functions = basis_functions::cosine};

template <class S>
fourier_basis<S> cosines_of(index_t period) {
  return fourier_basis<S>({.dim = 6, .period = period, .functions = basis_functions::cosine});
}

}  // namespace

TEMPLATE_TEST_CASE("the period is the largest position and one", "[current_length_basis]", float, double) {
  const auto x = random_tensor<tensor3<TestType>>(1, 2, 5, 6);
  const current_length_basis<TestType> encoder(cosines);
  auto got = x, expected = x;
  encoder.add(got, positions::range(5));
  cosines_of<TestType>(5).add(expected, positions::range(5));
  CHECK(reference::bit_difference(got, expected) == "");

  const auto at = positions::ids(std::array<position, 5>{4, -2, 11, no_position, 7});
  got = x, expected = x;
  encoder.add(got, at);
  cosines_of<TestType>(12).add(expected, at);
  CHECK(reference::bit_difference(got, expected) == "");

  got = x;
  encoder.add(got, positions::ids(std::array<position, 5>{no_position, no_position, no_position, no_position, no_position}));
  CHECK(reference::bit_difference(got, x) == "");
}

TEST_CASE("each batch row has the period of its own positions", "[current_length_basis]") {
  const auto x = random_tensor<tensor3<float>>(2, 4, 3, 6);
  const current_length_basis<float> encoder(cosines);
  constexpr position none = no_position;
  const auto by_ids = positions::ids(std::array<position, 12>{0, 1, none, 0, 1, 2, none, none, none, 7, 5, 3}, 4);
  const auto by_starts = positions::offsets(std::array{0, 4, 4, 9}, 3);
  for (const auto& at : {by_ids, by_starts}) {
    auto together = x;
    encoder.add(together, at);
    for (index_t b = 0; b < 4; ++b) {
      tensor3<float> alone(1, 3, 6), expected(1, 3, 6);
      alone.chip(0, 0) = x.chip(b, 0);
      std::array<position, 3> ids{};
      for (index_t t = 0; t < 3; ++t) ids[static_cast<std::size_t>(t)] = at(b, t);
      encoder.add(alone, positions::ids(ids));
      expected.chip(0, 0) = together.chip(b, 0);
      CHECK(reference::bit_difference(alone, expected) == "");
    }
  }
  auto two_rows = x;
  encoder.add(two_rows, by_starts);
  auto expected = x;
  const tensor_view<float, 3> second(&expected(1, 0, 0), {1, 3, 6});
  cosines_of<float>(7).add(second, positions::range(3, 4));
  for (index_t t = 0; t < 3; ++t)
    for (index_t c = 0; c < 6; ++c) CHECK(two_rows(1, t, c) == expected(1, t, c));
}

TEST_CASE("every code changes when the text grows, so that nothing can be cached", "[current_length_basis]") {
  const current_length_basis<double> encoder(cosines);
  tensor3<double> shorter(1, 4, 6), longer(1, 5, 6);
  shorter.setZero(), longer.setZero();
  encoder.add(shorter, positions::range(4));
  encoder.add(longer, positions::range(5));
  for (index_t t = 1; t < 4; ++t) CHECK(shorter(0, t, 1) != longer(0, t, 1));
  STATIC_REQUIRE(!code_encoder<current_length_basis<double>>);
}

TEST_CASE("bases of the current length compare by their options", "[current_length_basis]") {
  const current_length_basis<float> encoder(cosines);
  CHECK(encoder == current_length_basis<float>(cosines));
  CHECK(encoder != current_length_basis<float>({.dim = 7, .functions = basis_functions::cosine}));
  CHECK(encoder != current_length_basis<float>({.dim = 6, .functions = basis_functions::dct2}));
  CHECK(encoder.of_length(9) == cosines_of<float>(9));
}

TEST_CASE("bases of the current length refuse what they cannot do", "[current_length_basis]") {
  using reference::refuses;
  refuses("[fourier_basis] dim must be positive but got 0",
          [] { current_length_basis<float> encoder({.dim = 0, .functions = basis_functions::cosine}); });
  refuses("[fourier_basis] the order must be given for cosines and sines, and for nothing else",
          [] { current_length_basis<float> encoder({.dim = 4, .functions = basis_functions::cos_sin}); });
  const current_length_basis<float> encoder(cosines);
  auto x = random_tensor<tensor3<float>>(1, 2, 2, 6);
  auto narrow = random_tensor<tensor3<float>>(1, 2, 2, 5);
  refuses(narrow, "[current_length_basis] channels must equal dim but got 6 and 5", [&] { encoder.add(narrow, positions::range(2)); });
  refuses(x, "[current_length_basis] time must match the positions but got 2 and 3", [&] { encoder.add(x, positions::range(3)); });
  refuses(x, "[current_length_basis] the largest position must lie in [0, 2^40) but got -1",
          [&] { encoder.add(x, positions::ids(std::array{0, 1, -7, -1}, 2)); });
  refuses(x, "[current_length_basis] the largest position must lie in [0, 2^40) but got 1099511627776",
          [&] { encoder.add(x, positions::ids(std::array<position, 4>{0, 1, 0, position{1} << 40}, 2)); });
  refuses("[fourier_basis] the period must lie in [1, 2^40] but got 0", [&] { encoder.of_length(0); });

  constexpr index_t wide = index_t{1} << 22;
  std::vector<float> row(wide);
  const current_length_basis<float> of_wide({.dim = wide, .functions = basis_functions::cosine});
  refuses("[current_length_basis] the size in bytes must fit in 63 bits but got [1099511627776, 4194304]",
          [&] { of_wide.add(tensor_view<float, 3>(row.data(), {1, 1, wide}), positions::ids(std::array{(position{1} << 40) - 1})); });
  CHECK(row.back() == 0);
}
