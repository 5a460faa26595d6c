// SPDX-License-Identifier: MIT
/// \file  PEG's outputs and gradients as torch and Twins have them.
#include <posenc/conditional/peg.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "reference/difference.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::column_major, golden::load, golden::npy, golden::row_major, golden::rounding, golden::view;
using reference::bit_difference;

struct golden_case {
  std::string name;
  index_t height, width, kernel, prefix = 0, stride = 1;
  bool has_gradients = true;
  double reference_deviation = 3e-6;
};
const golden_case cases[] = {
    {"peg_residual", 4, 5, 3}, {"peg_cls_token", 4, 4, 3, 1}, {"peg_stride2", 6, 6, 3, 0, 2}, {"peg_large_kernel", 6, 6, 5, 0, 1, false}};

template <class S>
npy<S> read(const golden_case& c, const std::string& array) {
  return golden::converted<S>(load<float>("conditional/" + c.name + "/" + array));
}
template <class S>
npy<S> magnitudes(npy<S> array) {
  for (S& one : array.values) one = std::abs(one);
  return array;
}
grid cells_of(const golden_case& c) { return {.extents = {c.height, c.width}, .order = grid_order::slowest_first, .prefix = c.prefix}; }

template <class S>
struct results {
  npy<S> out, grad_x, grad_weight, grad_bias;
};
/// By `convolve`, which takes every case.
template <class S>
results<S> results_of(const golden_case& c, const npy<S>& x, const npy<S>& weight, const npy<S>& bias, const npy<S>& d) {
  const index_t out_time = c.prefix + (c.height - 1) / c.stride * ((c.width - 1) / c.stride + 1) + (c.width - 1) / c.stride + 1;
  results<S> all{npy<S>::filled({x.shape[0], out_time, x.shape[2]}, 7), npy<S>::filled(x.shape, 7), npy<S>::filled(weight.shape, 0),
                 npy<S>::filled(bias.shape, 0)};
  const peg<S> encoder(
      {.dim = x.shape[2], .kernel = std::vector<index_t>{c.kernel, c.kernel}, .residual = c.stride == 1, .stride = {c.stride, c.stride}},
      weight.values, bias.values);
  encoder.convolve(view<3>(x), view<3>(all.out), cells_of(c));
  if (c.has_gradients)
    encoder.convolve_backward(view<3>(d), view<3>(x), view<3>(all.grad_x), cells_of(c),
                              std::array{std::span(all.grad_weight.values), std::span(all.grad_bias.values)});
  return all;
}
template <class S>
results<S> results_of(const golden_case& c) {
  return results_of<S>(c, read<S>(c, "x"), read<S>(c, "weight"), read<S>(c, "bias"), c.has_gradients ? read<S>(c, "grad_out") : npy<S>{});
}

}  // namespace

TEMPLATE_TEST_CASE("PEG's outputs and gradients are the truth", "[golden][peg]", float, double) {
  for (const auto& c : cases) {
    INFO(c.name);
    const auto got = results_of<TestType>(c);
    // A sum of n products is off by n + 2 roundings of the sum of magnitudes at most, and so is the truth, in double.
    const auto d = c.has_gradients ? magnitudes(read<double>(c, "grad_out")) : npy<double>{};
    const auto most = results_of<double>(c, magnitudes(read<double>(c, "x")), magnitudes(read<double>(c, "weight")),
                                         magnitudes(read<double>(c, "bias")), d);
    const double each = rounding<TestType> + rounding<double>, taps = static_cast<double>(c.kernel * c.kernel);
    const auto check = [&](const std::string& array, const npy<TestType>& result, const npy<double>& magnitude, double terms) {
      INFO(array);
      const double bound = (terms + 2) * each * golden::largest_magnitude(magnitude);
      CHECK(absolute(result, load<double>("conditional/" + c.name + "/" + array + "_f64")) <= bound);
      CHECK(absolute(result, load<float>("conditional/" + c.name + "/" + array)) <= bound + c.reference_deviation);
    };
    check("out", got.out, most.out, taps);
    if (!c.has_gradients) continue;
    const auto cells = static_cast<double>(d.shape[0] * d.shape[1]);
    check("grad_x", got.grad_x, most.grad_x, taps);
    check("grad_weight", got.grad_weight, most.grad_weight, cells);
    check("grad_bias", got.grad_bias, most.grad_bias, cells);
  }
}

TEMPLATE_TEST_CASE("PEG adds in place at positions what it convolves", "[golden][peg]", float, double) {
  for (const auto& c : cases) {
    if (c.stride > 1) continue;
    INFO(c.name);
    const auto got = results_of<TestType>(c);
    const auto x = read<TestType>(c, "x"), weight = read<TestType>(c, "weight");
    const peg<TestType> encoder({.dim = x.shape[2], .kernel = std::vector<index_t>{c.kernel, c.kernel}}, weight.values,
                                read<TestType>(c, "bias").values);
    const auto at = grid_positions(cells_of(c));
    auto added = x, by_columns = x;
    encoder.add(row_major<3>(added), at);
    CHECK(bit_difference(added.values, got.out.values) == "");
    encoder.add(column_major<3>(by_columns), at);
    CHECK(bit_difference(by_columns.values, got.out.values) == "");

    if (!c.has_gradients) continue;
    auto d = read<TestType>(c, "grad_out"), d_weight = npy<TestType>::filled(weight.shape, 0);
    auto d_bias = npy<TestType>::filled({x.shape[2]}, 0);
    encoder.add_backward(row_major<3>(d), view<3>(x), at, std::array{std::span(d_weight.values), std::span(d_bias.values)});
    CHECK(bit_difference(d.values, got.grad_x.values) == "");
    CHECK(bit_difference(d_weight.values, got.grad_weight.values) == "");
    CHECK(bit_difference(d_bias.values, got.grad_bias.values) == "");
  }
}
