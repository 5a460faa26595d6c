// SPDX-License-Identifier: MIT
#include <posenc/rope/xpos.hpp>

#include <posenc/gradients.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/turned.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace posenc;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;
constexpr auto time_head = axis_order::time_head;
constexpr auto interleaved = pairing::interleaved;

/// z_k^(+-(p - centre) / scale_base), as Sun et al. write it.
std::vector<double> scales(index_t dim, double distance, double scale_base, operand role) {
  std::vector<double> all;
  for (index_t k = 0; k < dim / 2; ++k) {
    const double z = (2 * static_cast<double>(k) / static_cast<double>(dim) + 0.4) / 1.4;
    all.push_back(std::pow(z, (role == operand::query ? distance : -distance) / scale_base));
  }
  return all;
}
std::vector<long double> angles(index_t dim, position p) {
  std::vector<long double> all;
  for (index_t k = 0; k < dim / 2; ++k)
    all.push_back(static_cast<long double>(p) * std::pow(10000.0L, -2 * static_cast<long double>(k) / static_cast<long double>(dim)));
  return all;
}
template <class S>
std::vector<double> row_of(const tensor4<S>& x, index_t b, index_t t, index_t h) {
  std::vector<double> row;
  for (index_t c = 0; c < x.dimension(3); ++c) row.push_back(static_cast<double>(x(b, t, h, c)));
  return row;
}
template <class S>
double score(const tensor4<S>& q, const tensor4<S>& k, index_t i, index_t j) {
  double sum = 0;
  for (index_t c = 0; c < q.dimension(3); ++c) sum += static_cast<double>(q(0, i, 0, c)) * static_cast<double>(k(0, j, 0, c));
  return sum;
}
template <class S>
constexpr double unit = std::numeric_limits<S>::epsilon();

}  // namespace

TEMPLATE_TEST_CASE("xpos turns by the angle and multiplies by the power of its scale", "[rope][xpos]", float, double) {
  const auto at = positions::ids(std::array{0, 5, 700, -90});
  for (const auto form : {pairing::halves, interleaved, pairing::interleaved_to_halves})
    for (const double centre : {0.0, 350.5}) {
      const rotary_descriptor descriptor{.pairing = form, .dim = 12, .offset = 1, .attention_factor = 1.25};
      const xpos<TestType> encoder(descriptor, {.centre_rule = xpos_centre::fixed, .centre = centre, .scale_base = 300});
      const auto tables = prepare(encoder, {.queries = at, .keys = at});
      const auto x = random_tensor<tensor4<TestType>>(1, 1, 4, 2, 14);
      for (const auto role : {operand::query, operand::key}) {
        auto y = x;
        encoder.rotate(heads(y, time_head), role, tables);
        for (index_t t = 0; t < 4; ++t)
          for (index_t h = 0; h < 2; ++h) {
            const auto scale = scales(12, static_cast<double>(at(0, t)) - centre, 300, role);
            const auto expected = reference::turned(row_of(x, 0, t, h), descriptor, angles(12, at(0, t)), scale);
            const double largest = 1.25 * std::max({1.0, scale[0], 1 / scale[0]});
            CHECK(reference::difference(row_of(y, 0, t, h), expected, largest * 4 * unit<TestType>) == "");
          }
        encoder.inverse(heads(y, time_head), role, tables);
        CHECK(reference::difference(y, x, 32 * unit<TestType>) == "");
      }
    }
}

TEST_CASE("xpos by hand: the slowest channel of a pair of two", "[rope][xpos]") {
  // dim 2: z_0 = 0.4 / 1.4 = 2/7. At position 512 a query is multiplied by 2/7, a key by 7/2; the angle is 512 radians.
  const xpos<double> encoder({.pairing = interleaved, .dim = 2}, {.centre_rule = xpos_centre::fixed});
  const auto tables = prepare(encoder, {.queries = positions::range(1, 512), .keys = positions::range(1, 512)});
  CHECK(std::abs(tables.queries.row(0, 0)[0] - std::cos(512.0) * 2 / 7) < 1e-15);
  CHECK(std::abs(tables.queries.row(0, 0)[1] - std::sin(512.0) * 2 / 7) < 1e-15);
  CHECK(std::abs(tables.keys.row(0, 0)[0] - std::cos(512.0) * 3.5) < 1e-14);
  // At the centre nothing is scaled, and this is rope.
  CHECK(prepare(encoder, {.queries = positions::range(1), .keys = positions::range(1)}).keys.row(0, 0)[0] == 1);
}

TEMPLATE_TEST_CASE("xpos: scores depend on the distance alone, whatever the centre", "[rope][xpos]", float, double) {
  const auto q = random_tensor<tensor4<TestType>>(3, 1, 1, 1, 16), k = random_tensor<tensor4<TestType>>(4, 1, 1, 1, 16);
  const auto at_distance_40 = [&](position query, double centre) {
    const xpos<TestType> encoder({.pairing = interleaved, .dim = 16}, {.centre_rule = xpos_centre::fixed, .centre = centre});
    auto a = q, b = k;
    const auto tables = prepare(encoder, {.queries = positions::range(1, query), .keys = positions::range(1, query - 40)});
    encode_queries_keys(encoder, heads(a, time_head), heads(b, time_head), tables);
    return score(a, b, 0, 0);
  };
  const double one = at_distance_40(40, 0);
  for (const position query : {41, 1000, 0, -300})
    for (const double centre : {0.0, 20.0, 500.0}) CHECK(std::abs(at_distance_40(query, centre) - one) < 16 * 16 * unit<TestType>);
}

TEST_CASE("xpos: centres by the length that is in use", "[rope][xpos]") {
  const auto centre_at = [](xpos_centre rule, index_t length) {
    return xpos<float>({.pairing = interleaved, .dim = 8}, {.centre_rule = rule, .centre = 3}).inspect(length).centre;
  };
  // torchscale: -(length // -2); x-transformers: length // 2.
  CHECK((centre_at(xpos_centre::torchscale, 16) == 8 && centre_at(xpos_centre::torchscale, 17) == 9));
  CHECK((centre_at(xpos_centre::x_transformers, 16) == 8 && centre_at(xpos_centre::x_transformers, 17) == 8));
  CHECK(centre_at(xpos_centre::fixed, 17) == 3);

  // One centre for queries and keys, from all keys that are in use.
  const xpos<double> encoder({.pairing = interleaved, .dim = 8}, {.centre_rule = xpos_centre::torchscale});
  const auto one_step =
      prepare(encoder, {.queries = positions::range(1, 9), .keys = positions::range(10), .new_keys = positions::range(1, 9)});
  const auto fixed = encoder.at_length(10);
  const auto early_query =
      prepare(encoder, {.queries = positions::range(1, 3), .keys = positions::range(10), .new_keys = positions::range(0)});
  CHECK(early_query.queries.row(0, 0)[0] == fixed.prepare(positions::range(1, 3)).row(0, 0)[0]);
  CHECK(one_step.queries.row(0, 0)[0] == fixed.prepare(positions::range(1, 9)).row(0, 0)[0]);
  CHECK(one_step.keys.row(0, 0)[0] == prepare(fixed, {.queries = positions::range(1), .keys = positions::range(1, 9)}).keys.row(0, 0)[0]);
}

TEMPLATE_TEST_CASE("xpos: shift moves keys, their scale with them", "[rope][xpos]", float, double) {
  const xpos<TestType> encoder({.pairing = pairing::halves, .dim = 8, .attention_factor = 1.5},
                               {.centre_rule = xpos_centre::fixed, .centre = 7});
  const auto keys = random_tensor<tensor4<TestType>>(5, 1, 3, 2, 8);
  const auto turned_at = [&](position first) {
    auto x = keys;
    const auto at = positions::range(3, first);
    encoder.rotate(heads(x, time_head), operand::key, prepare(encoder, {.queries = at, .keys = at}));
    return x;
  };
  auto shifted = turned_at(10);
  encoder.shift(heads(shifted, time_head), 25);
  CHECK(reference::difference(shifted, turned_at(35), 16 * unit<TestType>) == "");
  encoder.shift(heads(shifted, time_head), positions::ids(std::array{-25, -25, -25}));
  CHECK(reference::difference(shifted, turned_at(10), 16 * unit<TestType>) == "");
  static_assert(is_shiftable<xpos<TestType>>);
}

TEST_CASE("xpos: rotate_backward is the transpose of rotate", "[rope][xpos]") {
  const xpos<double> encoder({.pairing = interleaved, .dim = 6, .offset = 1}, {.centre_rule = xpos_centre::fixed, .scale_base = 20});
  const auto at = positions::ids(std::array{-5, 30, 3});
  const auto tables = prepare(encoder, {.queries = at, .keys = at});
  for (const auto role : {operand::query, operand::key}) {
    auto x = random_tensor<tensor4<double>>(9, 1, 3, 2, 8);
    const auto weights = random_tensor<tensor4<double>>(10, 1, 3, 2, 8);
    auto gradient = weights;
    encoder.rotate_backward(heads(gradient, time_head), role, tables);
    const auto loss = [&] {
      auto y = x;
      encoder.rotate(heads(y, time_head), role, tables);
      return reference::dot(weights, y);
    };
    CHECK(reference::difference(gradient, reference::derivatives({x.data(), 48}, loss, 0.5), 1e-11) == "");
  }
}

TEST_CASE("xpos: a token without a position keeps its bits", "[rope][xpos]") {
  const xpos<float> encoder({.pairing = interleaved, .dim = 6}, {.centre_rule = xpos_centre::torchscale});
  const auto at = positions::ids(std::array{no_position, position{3}});
  auto x = random_tensor<tensor4<float>>(9, 1, 2, 2, 6);
  const auto before = x;
  encoder.rotate(heads(x, time_head), operand::key, prepare(encoder, {.queries = at, .keys = at}));
  CHECK(row_of(x, 0, 0, 1) == row_of(before, 0, 0, 1));
  CHECK(row_of(x, 0, 1, 1) != row_of(before, 0, 1, 1));
}

TEST_CASE("xpos refuses what has no scale", "[rope][xpos][errors]") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const auto refused = [](const std::string& text, const xpos_options& options) {
    reference::refuses("[xpos] " + text, [&] { xpos<float>({.pairing = interleaved, .dim = 8}, options); });
  };
  refused("scale_base must be positive and finite but got 0", {.centre_rule = xpos_centre::fixed, .scale_base = 0});
  refused("scale_base must be positive and finite but got -512", {.centre_rule = xpos_centre::fixed, .scale_base = -512});
  refused("scale_base must be positive and finite but got inf", {.centre_rule = xpos_centre::fixed, .scale_base = infinity});
  refused("centre must be finite but got inf", {.centre_rule = xpos_centre::fixed, .centre = infinity});
  refused("base must be positive and finite but got -1", {.centre_rule = xpos_centre::fixed, .base = -1});
  reference::refuses("[xpos] dim must be even but got 7",
                     [] { xpos<float>({.pairing = interleaved, .dim = 7}, {.centre_rule = xpos_centre::fixed}); });
  const xpos<float> fixed({.pairing = interleaved, .dim = 8}, {.centre_rule = xpos_centre::fixed});
  reference::refuses("[xpos] positions must not be so far from the centre that scales overflow but got 100000",
                     [&] { fixed.prepare(positions::range(1, 100'000)); });
  CHECK_NOTHROW(fixed.prepare(positions::range(1, 30'000)));
  const xpos<float> by_length({.pairing = interleaved, .dim = 8}, {.centre_rule = xpos_centre::torchscale});
  tensor4<float> keys(1, 1, 1, 8);
  keys.setZero();
  reference::refuses("[xpos] cached keys need frequencies of one length: fix it by at_length",
                     [&] { by_length.shift(heads(keys, time_head), 3); });
  CHECK_NOTHROW(by_length.at_length(8).shift(heads(keys, time_head), 3));
  reference::refuses("[xpos] keys whose scale grows cannot be turned to other frequencies",
                     [&] { fixed.rerotate(heads(keys, time_head), positions::range(1), fixed); });
  reference::refuses("[xpos] length must not be negative but got -1", [&] { fixed.at_length(-1); });
}
