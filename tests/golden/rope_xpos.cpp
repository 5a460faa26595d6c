// SPDX-License-Identifier: MIT
/// \file  xPos of torchscale and of x-transformers, whose centres differ.
#include <posenc/gradients.hpp>
#include <posenc/rope/xpos.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "golden/tables.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::converted, golden::largest_magnitude, golden::load, golden::npy, golden::relative, golden::rotation_bound,
    golden::row_major;
using golden::table_bound, golden::view;

struct golden_case {
  std::string folder;
  index_t dim;
  xpos_centre centre;
  std::array<index_t, 4> extents;  ///< of q and k, [batch, time, head, channel]
  axis_order order;
  position first;
  double largest_scale;
  std::array<double, 3> errors;    ///< of the system: q, k, the gradient of q (0: there is none)
};
const std::vector<golden_case> cases{
    {"rope_xpos/basic/", 64, xpos_centre::torchscale, {2, 16, 1, 64}, axis_order::time_head, 0, 1.02, {7.11e-7, 5.48e-7, 7.09e-7}},
    {"rope_xpos/offset/", 32, xpos_centre::torchscale, {1, 8, 1, 32}, axis_order::time_head, 24, 1.06, {1.07e-6, 1.40e-6, 2.94e-6}},
    {"rope_xpos/x_transformers_partial/",
     32,
     xpos_centre::x_transformers,
     {1, 2, 14, 48},
     axis_order::head_time,
     0,
     1.02,
     {3.33e-7, 4.45e-7, 0}},
};

template <class S>
auto view_of_case(npy<S>& x, const golden_case& c) {
  return heads(tensor_view<S, 4>(x.values.data(), c.extents), c.order);
}

/// The system's scales were formed in double too, and with its angles are off by 1e-13.
template <class S>
double bound(const npy<S>& x, const golden_case& c) {
  return c.largest_scale * rotation_bound(x) + 2e-13;
}

TEMPLATE_TEST_CASE("xPos turns and scales as torchscale and x-transformers do", "[golden][rope_xpos][xpos]", float, double) {
  for (const auto& c : cases) {
    INFO(c.folder);
    const xpos<TestType> encoder({.pairing = pairing::interleaved, .dim = c.dim}, {.centre_rule = c.centre});
    const auto at = positions::range(c.extents[c.order == axis_order::time_head ? 1 : 2], c.first);
    const auto tables = prepare(encoder, {.queries = at, .keys = at});
    const auto check = [&](const char* name, const std::string& expected, double error, auto&& act) {
      INFO(expected);
      auto x = converted<TestType>(load<float>(c.folder + name));
      const double own = bound(x, c);
      act(view_of_case(x, c));
      CHECK(absolute(x, load<double>(c.folder + expected + "_f64")) <= own);
      CHECK(absolute(x, load<float>(c.folder + expected)) <= own + error);
      return x;
    };
    auto q = check("q", "q_out", c.errors[0], [&](auto x) { encoder.rotate(x, operand::query, tables); });
    auto k = check("k", "k_out", c.errors[1], [&](auto x) { encoder.rotate(x, operand::key, tables); });
    if (c.errors[2] == 0) continue;
    check("grad_q_out", "grad_q", c.errors[2], [&](auto x) { encoder.rotate_backward(x, operand::query, tables); });

    const auto scores = load<double>(c.folder + "scores_f64");
    npy<TestType> got = npy<TestType>::filled(scores.shape, 0);
    const index_t time = c.extents[1];
    for (index_t b = 0; b < c.extents[0]; ++b)
      for (index_t i = 0; i < time; ++i)
        for (index_t j = 0; j < time; ++j) {
          double sum = 0;
          for (index_t channel = 0; channel < c.dim; ++channel)
            sum += static_cast<double>(view_of_case(q, c)(b, i, 0, channel)) * static_cast<double>(view_of_case(k, c)(b, j, 0, channel));
          got.values[static_cast<std::size_t>((b * time + i) * time + j)] = static_cast<TestType>(sum);
        }
    const double score = static_cast<double>(c.dim) * (bound(q, c) * largest_magnitude(k) + bound(k, c) * largest_magnitude(q));
    CHECK(absolute(got, scores) <= score);
  }
}

TEST_CASE("xPos' scales are those of the systems", "[golden][rope_xpos][xpos]") {
  for (const auto& c : cases) {
    if (c.errors[2] == 0) continue;
    INFO(c.folder);
    npy<double> scales{{c.dim / 2}, {}};
    const xpos<double> encoder({.pairing = pairing::interleaved, .dim = c.dim}, {.centre_rule = c.centre});
    for (const double one : encoder.inspect().growth) scales.values.push_back(std::exp2(one * 512));
    CHECK(relative(scales, load<double>(c.folder + "scale_base_vector_f64")) <= 1e-14);
    CHECK(relative(scales, load<float>(c.folder + "scale_base_vector")) <= 6.7e-8);
  }
}

TEST_CASE("x-transformers' angles and scales", "[golden][rope_xpos][xpos]") {
  const auto& c = cases.back();
  const xpos<double> encoder({.pairing = pairing::interleaved, .dim = c.dim}, {.centre_rule = c.centre});
  const auto came_out = encoder.inspect(14);
  CHECK(came_out.centre == 7);
  auto angles = npy<double>::filled({1, 14, c.dim}, 0), scales = angles;
  for (index_t p = 0; p < 14; ++p)
    for (index_t channel = 0; channel < c.dim; ++channel) {
      const auto n = static_cast<std::size_t>(p * c.dim + channel);
      const auto k = static_cast<std::size_t>(channel / 2);
      angles.values[n] = static_cast<double>(p) * came_out.frequencies.radians(channel / 2);
      scales.values[n] = std::exp2((static_cast<double>(p) - came_out.centre) * came_out.growth[k]);
    }
  CHECK(absolute(angles, load<double>(c.folder + "angles_f64")) <= 2e-14);
  CHECK(absolute(scales, load<double>(c.folder + "scale_f64")) <= 2e-15);
  CHECK(absolute(angles, load<float>(c.folder + "angles")) <= 2e-7);
  CHECK(absolute(scales, load<float>(c.folder + "scale")) <= 6e-8);
}

}  // namespace
