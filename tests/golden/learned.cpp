// SPDX-License-Identifier: MIT
/// \file  Rows looked up in learned tables, and the tables' gradients, as torch and OPT have them.
#include <posenc/learned.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::load, golden::npy;

template <class S>
learned<S> with_table(const npy<float>& table, index_t offset = 0) {
  const auto values = golden::converted<S>(table).values;
  return learned<S>({.rows = table.shape[0], .dim = table.shape[1], .offset = offset}, values);
}

positions positions_of(const npy<std::int64_t>& ids) { return positions::ids(ids.values, ids.shape[0]); }

template <class S>
npy<S> encoded(const npy<float>& table, const positions& at, index_t offset = 0) {
  auto codes = npy<S>::filled({at.batch(), at.time(), table.shape[1]}, -1);
  with_table<S>(table, offset).encode(at, golden::view<3>(codes));
  return codes;
}

template <class S>
npy<S> gradient(const npy<float>& table, const positions& at, const npy<float>& d) {
  auto sums = npy<S>::filled(table.shape, 0);
  const auto d_codes = golden::converted<S>(d);
  with_table<S>(table).encode_backward(at, golden::view<3>(d_codes), std::array{std::span(sums.values)});
  return sums;
}

/// A sum of n numbers is off by at most n - 1 roundings of the sum of their magnitudes, in any order.
double largest_rounding_of_sums(const npy<float>& table, const positions& at, npy<float> d) {
  for (float& one : d.values) one = std::abs(one);
  const auto counts = gradient<double>(table, at, npy<float>::filled(d.shape, 1)), magnitudes = gradient<double>(table, at, d);
  double most = 0;
  for (std::size_t n = 0; n < counts.values.size(); ++n) most = std::max(most, std::max(counts.values[n] - 1, 0.0) * magnitudes.values[n]);
  return most;
}

}  // namespace

TEST_CASE("learned rows and the gradients of their table are those of torch", "[golden][learned]") {
  struct {
    std::string name;
    double reference_deviation;
  } const cases[] = {{"lookup_grad", 2.54e-7}, {"lookup_grad_duplicates", 3.28e-7}};
  for (const auto& [name, reference_deviation] : cases) {
    INFO(name);
    const std::string folder = "learned/" + name + "/";
    const auto table = load<float>(folder + "table"), d = load<float>(folder + "grad_out"), out = load<float>(folder + "out");
    const auto at = positions_of(load<std::int64_t>(folder + "position_ids"));
    CHECK(absolute(encoded<float>(table, at), out) <= 0);
    CHECK(absolute(encoded<double>(table, at), out) <= 0);

    const auto truth = load<double>(folder + "grad_table_f64");
    const double roundings = largest_rounding_of_sums(table, at, d), of_the_truth = roundings * golden::rounding<double>;
    CHECK(absolute(gradient<double>(table, at, d), truth) <= 2 * of_the_truth);
    const double own = roundings * golden::rounding<float> + of_the_truth;
    CHECK(absolute(gradient<float>(table, at, d), truth) <= own);
    CHECK(absolute(gradient<float>(table, at, d), load<float>(folder + "grad_table")) <= own + reference_deviation);
  }
}

TEST_CASE("learned rows of padded texts are those of OPT", "[golden][learned]") {
  const std::string folder = "learned/opt_offset_masked/";
  const auto table = load<float>(folder + "table"), out = load<float>(folder + "out");
  const auto mask = load<std::int64_t>(folder + "attention_mask"), ids = load<std::int64_t>(folder + "position_ids");
  const auto at = positions::from_padding_mask(mask.values, mask.shape[0]);
  auto without_padding = out;  // which takes no row here, and row 1 there
  index_t padding = 0;
  for (index_t n = 0; n < static_cast<index_t>(mask.values.size()); ++n) {
    const auto token = static_cast<std::size_t>(n);
    const position here = at(n / mask.shape[1], n % mask.shape[1]);
    CHECK((here == no_position ? -1 : here) == ids.values[token]);
    CHECK((here == no_position) == (mask.values[token] == 0));
    if (here == no_position) ++padding, std::fill_n(without_padding.values.begin() + n * table.shape[1], table.shape[1], 0.0f);
  }
  CHECK(padding > 0);
  CHECK(absolute(encoded<float>(table, positions_of(ids), 2), out) <= 0);
  CHECK(absolute(encoded<double>(table, positions_of(ids), 2), out) <= 0);
  CHECK(absolute(encoded<float>(table, at, 2), without_padding) <= 0);
}
