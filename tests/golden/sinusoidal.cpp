// SPDX-License-Identifier: MIT
/// \file  Sinusoidal codes of nine systems: against the truth at the library's own error bound, and against each system's result at that
/// system's own error.
#include <posenc/grid_coordinates.hpp>
#include <posenc/masked_grid.hpp>
#include <posenc/sinusoidal.hpp>
#include <posenc/sinusoidal/axial_sinusoidal.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "reference/difference.hpp"

#include <cstddef>
#include <cstdint>
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
    {"sinusoidal/fairseq_padding/",
     {.dim = 32, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::tensor2tensor{}, .padding_position = 1},
     6.39e-7},
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
      if (options.padding_position) *options.padding_position -= start;
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

/// Timesteps of diffusion models, two of them between the integers.
TEMPLATE_TEST_CASE("sinusoidal codes of timesteps are the truth", "[golden][sinusoidal]", float, double) {
  const any_exponent_rule diffusers = exponent_rule::downscaled{.shift = 1}, guided_diffusion = exponent_rule::downscaled{.shift = 0};
  const golden_case timesteps[] = {
      {"sinusoidal/timestep_ddpm/", {.dim = 64, .order = channel_order::sin_cos, .exponent_rule = diffusers}, 4.46e-5},
      {"sinusoidal/timestep_flip_shift0/", {.dim = 32, .order = channel_order::cos_sin, .exponent_rule = guided_diffusion}, 8.57e-6},
      {"sinusoidal/timestep_guided_diffusion/", {.dim = 32, .order = channel_order::cos_sin, .exponent_rule = guided_diffusion}, 8.57e-6},
  };
  for (const auto& c : timesteps) {
    INFO(c.folder);
    const auto truth = load<double>(c.folder + "emb_f64");
    const auto steps = load<float>(c.folder + "timesteps");
    auto codes = npy<TestType>::filled(truth.shape, 7);
    sinusoidal<TestType>(c.options).encode(coordinates::values(view<1>(steps)), view<2>(codes));
    CHECK(absolute(codes, truth) <= table_bound<TestType>);
    CHECK(absolute(codes, load<float>(c.folder + "emb")) <= c.reference_error + table_bound<TestType>);
  }
}

const any_exponent_rule timing_signal = exponent_rule::tensor2tensor{};

/// The truth is the system's code in double: its angles, positions times frequencies of at most 1, are rounded too.
double of_the_truth(double farthest) { return farthest * golden::rounding<double> * 2; }

struct grid_case {
  std::string array;
  axial_sinusoidal_options options;
  grid cells;
  double reference_error;
  double truth_error;
};

const auto blocks = sinusoidal_arrangement::blocks, across = sinusoidal_arrangement::across;
const auto interleaved = channel_order::interleaved, sin_cos = channel_order::sin_cos;
const auto x_first = grid_order::fastest_first, y_first = grid_order::slowest_first;
const any_exponent_rule vaswani = exponent_rule::vaswani{};

const std::vector<grid_case> grid_cases{
    {"sinusoidal/t2t_timing_signal_1d/signal",
     {.dim = 32, .widths = {32}, .order = sin_cos, .arrangement = blocks, .exponent_rule = timing_signal},
     {.extents = {24}, .order = y_first},
     6.41e-7,
     0},
    {"sinusoidal/t2t_timing_signal_2d/signal",
     {.dim = 24, .widths = timing_signal_widths(24, 2), .order = sin_cos, .arrangement = blocks, .exponent_rule = timing_signal},
     {.extents = {4, 5}, .order = y_first},
     3.32e-8,
     of_the_truth(4)},
    {"sinusoidal/tatp22_2d/pe",
     {.dim = 16, .widths = multidim_widths(16, 2), .order = interleaved, .arrangement = blocks, .exponent_rule = vaswani, .truncate = true},
     {.extents = {4, 5}, .order = y_first},
     3.31e-8,
     of_the_truth(4)},
    {"sinusoidal/tatp22_3d/pe",
     {.dim = 24, .widths = multidim_widths(24, 3), .order = interleaved, .arrangement = blocks, .exponent_rule = vaswani, .truncate = true},
     {.extents = {2, 3, 2}, .order = y_first},
     3.31e-8,
     of_the_truth(2)},
    {"sinusoidal/timm_2d/pos_embed",
     {.dim = 32, .widths = {16, 16}, .order = sin_cos, .arrangement = across, .exponent_rule = vaswani},
     {.extents = {4, 6}, .order = y_first},
     4.76e-8,
     of_the_truth(5)},
    {"sinusoidal/timm_2d_interleaved/pos_embed",
     {.dim = 16, .widths = {8, 8}, .order = sin_cos, .arrangement = blocks, .exponent_rule = vaswani},
     {.extents = {5, 3}, .order = y_first},
     3.31e-8,
     of_the_truth(4)},
};

/// [token, channel], whatever other axes the array has.
template <class T>
npy<T> rows(npy<T> array, index_t dim) {
  array.shape = {static_cast<index_t>(array.values.size()) / dim, dim};
  return array;
}

TEMPLATE_TEST_CASE("sinusoidal codes of grids are the truth", "[golden][sinusoidal]", float, double) {
  for (const auto& c : grid_cases) {
    INFO(c.array);
    const auto truth = rows(load<double>(c.array + "_f64"), c.options.dim);
    auto codes = npy<TestType>::filled(truth.shape, 7);
    axial_sinusoidal<TestType>(c.options).encode(grid_positions(c.cells), view<2>(codes));
    CHECK(absolute(codes, truth) <= table_bound<TestType> + c.truth_error);
    CHECK(absolute(codes, rows(load<float>(c.array), c.options.dim)) <= c.reference_error + table_bound<TestType>);
  }
}

TEMPLATE_TEST_CASE("MAE's codes are the truth, diffusers' those of another grid", "[golden][sinusoidal]", float, double) {
  const auto encoded = [](index_t dim, const auto& at) {
    auto codes = npy<TestType>::filled({at.time(), dim}, 7);
    axial_sinusoidal<TestType>(
        {.dim = dim, .widths = {dim / 2, dim / 2}, .order = sin_cos, .arrangement = blocks, .exponent_rule = vaswani})
        .encode(at, view<2>(codes));
    return codes;
  };
  const grid cells{.extents = {6, 6}, .order = x_first};
  const auto mae = encoded(64, grid_positions(cells));
  CHECK(absolute(mae, load<double>("sinusoidal/mae_2d/pos_embed_f64")) <= table_bound<TestType>);
  CHECK(absolute(mae, load<double>("sinusoidal/mae_2d/pos_embed")) <= table_bound<TestType> + 2.3e-16);

  // A grid of 6 laid over one of 16: the truth divides by 6 / 16 where `resized_grid` multiplies by 16, and both round. What diffusers
  // computes is no closer to it than its places in the grid, which it rounds to float: by up to 2^-21 at 13.3, and to less as it turned
  // out.
  const auto diffusers = encoded(32, resized_grid(cells, {16, 16}));
  CHECK(absolute(diffusers, load<double>("sinusoidal/diffusers_2d_scaled/pos_embed_f64")) <=
        table_bound<TestType> + 2 * of_the_truth(40. / 3));
  CHECK(absolute(diffusers, load<double>("sinusoidal/diffusers_2d_scaled/pos_embed")) <= table_bound<TestType> + 3.01e-7);
}

TEMPLATE_TEST_CASE("DETR's codes of a mask are the truth", "[golden][sinusoidal]", float, double) {
  const std::string folder = "sinusoidal/detr_sine_2d/";
  auto mask = load<std::int64_t>(folder + "mask");  // of padding
  for (auto& one : mask.values) one = one == 0;
  auto codes = npy<TestType>::filled({1, 20, 16}, 7);
  axial_sinusoidal<TestType>({.dim = 16, .widths = {8, 8}, .order = interleaved, .arrangement = blocks, .exponent_rule = vaswani})
      .encode(masked_grid(view<3>(mask), y_first), view<3>(codes));
  auto channels_first = npy<TestType>::filled({1, 16, 4, 5}, 7);
  for (index_t token = 0; token < 20; ++token)
    for (index_t c = 0; c < 16; ++c) channels_first.values[static_cast<std::size_t>(c * 20 + token)] = view<3>(codes)(0, token, c);
  CHECK(absolute(channels_first, load<double>(folder + "pos_f64")) <= table_bound<TestType> + of_the_truth(5));
  CHECK(absolute(channels_first, load<float>(folder + "pos")) <= table_bound<TestType> + 4.27e-8);
}

}  // namespace
