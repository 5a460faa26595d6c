// SPDX-License-Identifier: MIT
/// \file  Sinusoidal codes of three systems: against the truth at the library's own error bound, and against each system's result at that
/// system's own error.
#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "reference/difference.hpp"

#include <cstddef>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::column_major, golden::load, golden::npy, golden::row_major, golden::table_bound, golden::view;
using reference::bit_difference;

struct golden_case {
  std::string folder;
  sinusoidal_options options;
  double reference_error;  ///< of the system's result, which forms its angles in float
};

/// Each begins at position 0.
const std::vector<golden_case> cases{
    {"sinusoidal/vaswani_d64/", {.dim = 64, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}}, 1.94e-6},
    {"sinusoidal/vaswani_d128/", {.dim = 128, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}}, 1.55e-6},
    {"sinusoidal/fairseq_d64/", {.dim = 64, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::tensor2tensor{}}, 3.30e-6},
    {"sinusoidal/interleaved_odd_channels/",
     {.dim = 33, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}, .odd_dim = odd_dim::round_up},
     6.41e-7},
};

/// `copies` of an array one after the other, with a batch axis in front.
template <class T>
npy<T> repeated(const npy<T>& once, index_t copies) {
  npy<T> all{{copies, once.shape[0], once.shape[1]}, {}};
  for (index_t n = 0; n < copies; ++n) all.values.insert(all.values.end(), once.values.begin(), once.values.end());
  return all;
}

/// Embeddings between -2.5 and 2.5, exact in float.
template <class S>
npy<S> embeddings(const std::vector<index_t>& shape) {
  auto x = npy<S>::filled(shape, 0);
  for (std::size_t n = 0; n < x.values.size(); ++n) x.values[n] = static_cast<S>(static_cast<int>(n * 37 % 81) - 40) / 16;
  return x;
}

TEMPLATE_TEST_CASE("sinusoidal codes are the truth", "[golden][sinusoidal]", float, double) {
  for (const auto& c : cases) {
    INFO(c.folder);
    const auto truth = load<double>(c.folder + "pe_f64");
    const auto reference = load<float>(c.folder + "pe");
    const index_t time = truth.shape[0];
    const sinusoidal<TestType> encoder(c.options);
    auto codes = npy<TestType>::filled(truth.shape, 7);
    encoder.encode(positions::range(time), view<2>(codes));
    CHECK(absolute(codes, truth) <= table_bound<TestType>);
    CHECK(absolute(codes, reference) <= c.reference_error + table_bound<TestType>);

    // The same bits for every rank, storage order and way of saying the positions.
    const auto three = repeated(codes, 3);
    std::vector<index_t> counted(static_cast<std::size_t>(time));
    std::iota(counted.begin(), counted.end(), index_t{0});
    for (const auto& at : {positions::range(time), positions::ids(counted), positions::offsets(std::vector{0, 0, 0}, time)}) {
      auto by_rows = npy<TestType>::filled(three.shape, 7), by_columns = by_rows;
      encoder.encode(at, row_major<3>(by_rows));
      encoder.encode(at, column_major<3>(by_columns));
      CHECK(bit_difference(by_rows.values, three.values) == "");
      CHECK(bit_difference(by_columns.values, three.values) == "");
    }
  }
}

TEMPLATE_TEST_CASE("sinusoidal positions may come in any order, counted from any start", "[golden][sinusoidal]", float, double) {
  for (const auto& c : cases) {
    INFO(c.folder);
    const auto truth = load<double>(c.folder + "pe_f64");
    // Row 0 counts up from 0, row 1 down to `step`.
    constexpr index_t batch = 2, step = 5, length = 9;
    std::vector<index_t> ids;
    auto expected = npy<double>::filled({batch, length, truth.shape[1]}, 0);
    for (index_t b = 0; b < batch; ++b)
      for (index_t t = 0; t < length; ++t) {
        ids.push_back(b == 0 ? t : step + length - 1 - t);
        for (index_t k = 0; k < truth.shape[1]; ++k) view<3>(expected)(b, t, k) = view<2>(truth)(ids.back(), k);
      }
    for (const position start : {0, 3, -100}) {
      sinusoidal_options options = c.options;
      options.start = start;
      auto moved = ids;
      for (index_t& id : moved) id -= start;
      auto codes = npy<TestType>::filled(expected.shape, 7);
      sinusoidal<TestType>(options).encode(positions::ids(moved, batch), view<3>(codes));
      CHECK(absolute(codes, expected) <= table_bound<TestType>);
    }
  }
}

TEMPLATE_TEST_CASE("sinusoidal adds its codes to embeddings, rounding once more", "[golden][sinusoidal]", float, double) {
  for (const auto& c : cases) {
    INFO(c.folder);
    const auto truth = repeated(load<double>(c.folder + "pe_f64"), 3);
    const auto at = positions::range(truth.shape[1]);
    const sinusoidal<TestType> encoder(c.options);
    const auto x = embeddings<TestType>(truth.shape);
    auto expected = npy<double>::filled(truth.shape, 0);
    for (std::size_t n = 0; n < expected.values.size(); ++n) expected.values[n] = x.values[n] + truth.values[n];
    // Sums stay below 4, where a rounding is up to twice one of 1. The expected ones are rounded too.
    const double bound = table_bound<TestType> + 2 * golden::rounding<TestType> + 2 * golden::rounding<double>;

    auto in_place = x;
    encoder.add(row_major<3>(in_place), at);
    CHECK(absolute(in_place, expected) <= bound);

    auto elsewhere = npy<TestType>::filled(x.shape, 7);
    encoder.add(view<3>(x), view<3>(elsewhere), at);
    CHECK(bit_difference(elsewhere.values, in_place.values) == "");

    auto by_columns = x;
    encoder.add(column_major<3>(by_columns), at);
    CHECK(bit_difference(by_columns.values, in_place.values) == "");

    auto by_stage = x;
    encode_embeddings(encoder, row_major<3>(by_stage), at);
    CHECK(bit_difference(by_stage.values, in_place.values) == "");

    const auto size = static_cast<std::size_t>(x.shape[1] * x.shape[2]);
    npy<TestType> one{{x.shape[1], x.shape[2]}, {x.values.begin(), x.values.begin() + x.shape[1] * x.shape[2]}};
    encoder.add(column_major<2>(one), at);
    CHECK(bit_difference(one.values, std::span(in_place.values).first(size)) == "");
  }
}

}  // namespace
