// SPDX-License-Identifier: MIT
/// \file  RoPE on two axes: rope-vit's axial and mixed forms, and the pixel frequencies of rotary-embedding-torch.
#include <posenc/gradients.hpp>
#include <posenc/grid.hpp>
#include <posenc/grid_coordinates.hpp>
#include <posenc/rope/axial_rope.hpp>
#include <posenc/rope/learned_rope.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "golden/tables.hpp"

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::converted, golden::largest_magnitude, golden::load, golden::npy, golden::relative, golden::rotation_bound,
    golden::row_major;
using golden::table_bound, golden::view;

TEMPLATE_TEST_CASE("axial_rope turns as rope-vit does", "[golden][rope_2d][axial_rope]", float, double) {
  struct golden_case {
    std::string folder;
    index_t dim, rows, columns, prefix;
    double cosine_error, sine_error, q_error, k_error;  ///< of the system
  };
  for (const auto& c : {golden_case{"rope_2d/axial_ropevit/", 32, 4, 4, 0, 4.76e-8, 3.41e-8, 3.04e-7, 2.98e-7},
                        golden_case{"rope_2d/axial_ropevit_cls/", 64, 3, 5, 1, 5.49e-8, 3.84e-8, 2.27e-7, 2.33e-7}}) {
    INFO(c.folder);
    const axial_rope<TestType> encoder({.pairing = pairing::interleaved, .dim = c.dim},
                                       {.widths = {c.dim / 2, c.dim / 2}, .frequencies = axial::language{.base = 100}});
    const auto at = grid_positions({.extents = {c.rows, c.columns}, .order = grid_order::fastest_first, .prefix = c.prefix});
    const auto cells = encoder.prepare(at.slice(c.prefix, c.rows * c.columns));
    CHECK(absolute(golden::cosines(cells), load<double>(c.folder + "cis_cos_f64")) <= table_bound<TestType>);
    CHECK(absolute(golden::sines(cells), load<double>(c.folder + "cis_sin_f64")) <= table_bound<TestType>);
    CHECK(absolute(golden::cosines(cells), load<float>(c.folder + "cis_cos")) <= table_bound<TestType> + c.cosine_error);
    CHECK(absolute(golden::sines(cells), load<float>(c.folder + "cis_sin")) <= table_bound<TestType> + c.sine_error);

    auto q = converted<TestType>(load<float>(c.folder + "q")), k = converted<TestType>(load<float>(c.folder + "k"));
    const double q_bound = rotation_bound(q), k_bound = rotation_bound(k);
    const auto tables = prepare(encoder, {.queries = at, .keys = at});
    encode_queries_keys(encoder, heads(row_major<4>(q), axis_order::head_time), heads(row_major<4>(k), axis_order::head_time), tables);
    CHECK(absolute(q, load<double>(c.folder + "q_out_f64")) <= q_bound);
    CHECK(absolute(k, load<double>(c.folder + "k_out_f64")) <= k_bound);
    CHECK(absolute(q, load<float>(c.folder + "q_out")) <= q_bound + c.q_error);
    CHECK(absolute(k, load<float>(c.folder + "k_out")) <= k_bound + c.k_error);
  }
}

TEMPLATE_TEST_CASE("axial_rope has the pixel frequencies of rotary-embedding-torch", "[golden][rope_2d][axial_rope]", float, double) {
  const std::string folder = "rope_2d/axial_pixel_lucidrains/";
  const axial_rope<TestType> encoder({.pairing = pairing::interleaved, .dim = 32},
                                     {.widths = {16, 16}, .frequencies = axial::pixel{.max_frequency = 10}});
  const auto at = spaced_grid({.extents = {5, 4}, .order = grid_order::slowest_first}, {{-1, 1}, {-1, 1}});

  auto angles = npy<double>::filled({5, 4, 32}, 0);  // each pair's twice
  for (std::size_t n = 0; n < angles.values.size(); ++n) {
    const auto token = static_cast<index_t>(n / 32), pair = static_cast<index_t>(n % 32 / 2), axis = pair / 8;
    angles.values[n] = at(0, token, axis) * encoder.inspect().frequencies.radians(axis * 16 + pair);
  }
  CHECK(absolute(angles, load<double>(folder + "freqs_f64")) <= 2e-14);
  CHECK(absolute(angles, load<float>(folder + "freqs")) <= 6.76e-7);

  auto x = converted<TestType>(load<float>(folder + "x"));
  // Its angles are up to 16 radians, in double.
  const double bound = rotation_bound(x) + largest_magnitude(x) * 2 * 16 * 0x1p-52;
  encoder.rotate(heads(tensor_view<TestType, 4>(x.values.data(), {1, 20, 1, 38}), axis_order::time_head), encoder.prepare(at));
  CHECK(absolute(x, load<double>(folder + "x_out_f64")) <= bound);
  CHECK(absolute(x, load<float>(folder + "x_out")) <= bound + 1.58e-6);
}

TEMPLATE_TEST_CASE("learned_rope turns and learns as rope-vit's mixed form does", "[golden][rope_2d][learned_rope]", float, double) {
  const std::string folder = "rope_2d/mixed_ropevit/";
  constexpr std::size_t heads_ = 2, pairs = 16, layer = 1, layers = 2;
  // Theirs are [axis, layer, head * pair], ours [head, axis, pair] of one layer.
  const auto of_layer = [&](const auto& all, std::size_t head, std::size_t axis, std::size_t pair) {
    return all.values[((axis * layers + layer) * heads_ + head) * pairs + pair];
  };
  const auto given = load<float>(folder + "freqs");
  std::vector<TestType> speeds;
  for (std::size_t head = 0; head < heads_; ++head)
    for (std::size_t axis = 0; axis < 2; ++axis)
      for (std::size_t pair = 0; pair < pairs; ++pair) speeds.push_back(static_cast<TestType>(of_layer(given, head, axis, pair)));
  learned_rope<TestType> encoder({.pairing = pairing::interleaved, .dim = 32}, speeds, 2, heads_);
  const auto at = grid_positions({.extents = {4, 4}, .order = grid_order::fastest_first});
  const auto tables = prepare(encoder, {.queries = at, .keys = at});

  // Two angles are added: each is off by what its frequency's rounding comes to at position 3.
  constexpr double table = 2 * table_bound<TestType> + 1e-14;
  const auto cosines = load<double>(folder + "cis_cos_f64"), sines = load<double>(folder + "cis_sin_f64");
  for (std::size_t head = 0; head < heads_; ++head)
    for (std::size_t token = 0; token < 16; ++token)
      for (std::size_t pair = 0; pair < pairs; ++pair) {
        const std::size_t n = ((layer * heads_ + head) * 16 + token) * pairs + pair;
        const TestType* row = tables.queries.row(0, static_cast<index_t>(token), static_cast<index_t>(head)) + pair;
        CHECK(std::abs(static_cast<double>(row[0]) - cosines.values[n]) <= table);
        CHECK(std::abs(static_cast<double>(row[pairs]) - sines.values[n]) <= table);
      }

  const auto order = axis_order::head_time;
  auto q = converted<TestType>(load<float>(folder + "q")), k = converted<TestType>(load<float>(folder + "k"));
  const double q_bound = rotation_bound(q) + 1e-13, k_bound = rotation_bound(k) + 1e-13;
  encode_queries_keys(encoder, heads(row_major<4>(q), order), heads(row_major<4>(k), order), tables);
  CHECK(absolute(q, load<double>(folder + "q_out_f64")) <= q_bound);
  CHECK(absolute(k, load<double>(folder + "k_out_f64")) <= k_bound);
  CHECK(absolute(q, load<float>(folder + "q_out")) <= q_bound + 2.79e-7);
  CHECK(absolute(k, load<float>(folder + "k_out")) <= k_bound + 3.26e-7);

  auto d = converted<TestType>(load<float>(folder + "grad_q_out"));
  gradient_buffer<TestType> gradients(parameters(encoder));
  // A sum over 16 tokens of positions up to 3 times two products.
  const double sum = 16 * 3 * 2 * 2 * (q_bound + golden::rounding<TestType> * largest_magnitude(q)) * largest_magnitude(d);
  encoder.rotate_backward(heads(row_major<4>(d), order), heads(row_major<4>(q), order), operand::query, tables, gradients.spans());
  const auto truth = load<double>(folder + "grad_freqs_f64");
  for (std::size_t head = 0, n = 0; head < heads_; ++head)
    for (std::size_t axis = 0; axis < 2; ++axis)
      for (std::size_t pair = 0; pair < pairs; ++pair, ++n)
        CHECK(std::abs(static_cast<double>(gradients.spans()[0][n]) - of_layer(truth, head, axis, pair)) <= sum);
}

}  // namespace
