// SPDX-License-Identifier: MIT
/// \file  Rotations and their gradients as three systems make them: against the truth at a bound that follows from the library's own, and
/// against each system's result at that system's own error.
#include <posenc/gradients.hpp>
#include <posenc/rope.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "golden/tables.hpp"
#include "reference/difference.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::column_major, golden::converted, golden::load, golden::npy, golden::row_major;
using golden::rotation_bound, golden::table_bound, golden::view;
using reference::bit_difference;

struct rotation {
  std::string in, out;
  double reference_error;
  bool is_gradient = false;  ///< the gradient of the output comes in, that of the input leaves
};

struct golden_case {
  std::string folder;
  rotary_descriptor descriptor;
  double base;
  axis_order order;         ///< of its arrays of rank 4
  std::string ids;          ///< the array of positions, if there is one
  position first = 0;       ///< else they count from here
  std::vector<rotation> rotations;
};

// The systems form angles in float. The errors are theirs; they grow with the position, to 0.05 at a million (half_long_positions).
const std::vector<golden_case> cases{
    {"rope_apply/half_basic/",
     {.pairing = pairing::halves, .dim = 64},
     10000,
     axis_order::head_time,
     "position_ids",
     0,
     {{"q", "q_out", 9.98e-7}, {"k", "k_out", 7.41e-7}, {"grad_q_out", "grad_q", 8.29e-7, true}, {"grad_k_out", "grad_k", 8.09e-7, true}}},
    {"rope_apply/half_long_positions/",
     {.pairing = pairing::halves, .dim = 64},
     10000,
     axis_order::head_time,
     "position_ids",
     0,
     {{"q", "q_out", 5.20e-2}, {"k", "k_out", 3.61e-2}, {"grad_q_out", "grad_q", 2.63e-2, true}, {"grad_k_out", "grad_k", 3.79e-2, true}}},
    {"rope_apply/half_offset_gqa/",
     {.pairing = pairing::halves, .dim = 128},
     500000,
     axis_order::head_time,
     "position_ids",
     0,
     {{"q", "q_out", 1.94e-4}, {"k", "k_out", 1.61e-4}, {"grad_q_out", "grad_q", 1.18e-4, true}, {"grad_k_out", "grad_k", 1.24e-4, true}}},
    {"rope_apply/half_position_ids/",
     {.pairing = pairing::halves, .dim = 32},
     10000,
     axis_order::head_time,
     "position_ids",
     0,
     {{"q", "q_out", 1.16e-4}, {"k", "k_out", 9.52e-5}, {"grad_q_out", "grad_q", 1.88e-4, true}, {"grad_k_out", "grad_k", 2.16e-4, true}}},
    {"rope_apply/interleaved_meta/",
     {.pairing = pairing::interleaved, .dim = 64},
     500000,
     axis_order::time_head,
     "",
     0,
     {{"q", "q_out", 1.90e-6}, {"k", "k_out", 3.39e-6}, {"grad_q_out", "grad_q", 1.47e-6, true}}},
    {"rope_apply/interleaved_meta_offset/",
     {.pairing = pairing::interleaved, .dim = 128},
     10000,
     axis_order::time_head,
     "",
     300,
     {{"q", "q_out", 4.23e-5}, {"k", "k_out", 4.82e-5}, {"grad_q_out", "grad_q", 4.63e-5, true}}},
    {"rope_apply/interleaved_torchtune_packed/",
     {.pairing = pairing::interleaved, .dim = 32},
     10000,
     axis_order::time_head,
     "input_pos",
     0,
     {{"x", "x_out", 3.25e-7}}},
    {"rope_apply/partial_gptj/",
     {.pairing = pairing::interleaved, .dim = 32},
     10000,
     axis_order::time_head,
     "position_ids",
     0,
     {{"x", "x_out", 5.39e-7}}},
    {"rope_apply/partial_neox_quarter/",
     {.pairing = pairing::halves, .dim = 16},
     10000,
     axis_order::head_time,
     "position_ids",
     0,
     {{"q", "q_out", 4.19e-7}, {"k", "k_out", 3.44e-7}, {"grad_q_out", "grad_q", 4.53e-7, true}}},
};

positions positions_of(const golden_case& c) {
  if (!c.ids.empty()) return positions::ids(view<2>(load<std::int64_t>(c.folder + c.ids)));
  return positions::range(load<float>(c.folder + c.rotations[0].in).shape[c.order == axis_order::time_head ? 1 : 2], c.first);
}

template <class S>
void turn(const rope<S>& encoder, const rotary_table<S>& table, bool is_gradient, head_view<S> x) {
  if (is_gradient) encoder.rotate_backward(x, table);
  else encoder.rotate(x, table);
}

TEMPLATE_TEST_CASE("rotations and their gradients are the truth", "[golden][rope_apply][rope]", float, double) {
  for (const auto& c : cases) {
    const rope<TestType> encoder(c.descriptor, {.base = c.base});
    const auto table = encoder.prepare(positions_of(c));
    for (const auto& r : c.rotations) {
      INFO(c.folder << r.out);
      const auto x = converted<TestType>(load<float>(c.folder + r.in));
      auto y = x;
      turn(encoder, table, r.is_gradient, heads(row_major<4>(y), c.order));
      CHECK(absolute(y, load<double>(c.folder + r.out + "_f64")) <= rotation_bound(x));
      CHECK(absolute(y, load<float>(c.folder + r.out)) <= r.reference_error + rotation_bound(x));
    }
  }
}

TEMPLATE_TEST_CASE("every form of rotate writes the same bits", "[golden][rope_apply][rope]", float, double) {
  for (const auto& c : cases) {
    const rope<TestType> encoder(c.descriptor, {.base = c.base});
    const auto at = positions_of(c);
    const auto table = encoder.prepare(at);
    for (const auto& r : c.rotations) {
      INFO(c.folder << r.in);
      const auto x = converted<TestType>(load<float>(c.folder + r.in));
      auto y = x;
      encoder.rotate(heads(row_major<4>(y), c.order), table);

      auto without_table = x;
      encoder.rotate(heads(row_major<4>(without_table), c.order), at);
      CHECK(bit_difference(without_table.values, y.values) == "");

      auto by_columns = x;
      encoder.rotate(heads(column_major<4>(by_columns), c.order), table);
      CHECK(bit_difference(by_columns.values, y.values) == "");

      auto source = x, elsewhere = npy<TestType>::filled(x.shape, 7);
      encoder.rotate(heads(row_major<4>(source), c.order), heads(row_major<4>(elsewhere), c.order), table);
      CHECK(bit_difference(elsewhere.values, y.values) == "");
      CHECK(bit_difference(source.values, x.values) == "");

      const std::array exchange{0, 2, 1, 3};  // heads and time
      const auto other_order = c.order == axis_order::time_head ? axis_order::head_time : axis_order::time_head;
      auto exchanged = npy<TestType>::filled({x.shape[0], x.shape[2], x.shape[1], x.shape[3]}, 7), exchanged_back = x;
      row_major<4>(exchanged) = row_major<4>(source).shuffle(exchange);
      encoder.rotate(heads(row_major<4>(exchanged), other_order), table);
      row_major<4>(exchanged_back) = row_major<4>(exchanged).shuffle(exchange);
      CHECK(bit_difference(exchanged_back.values, y.values) == "");

      auto token_by_token = x;
      const auto tokens = heads(row_major<4>(token_by_token), c.order).by_time();
      for (index_t t = 0; t < table.time(); ++t) {
        const std::array one{tokens.extent(0), index_t{1}, tokens.extent(2), tokens.extent(3)};
        encoder.rotate(head_view<TestType>({&tokens(0, t, 0, 0), one, tokens.strides()}), at.slice(t, 1));
      }
      CHECK(bit_difference(token_by_token.values, y.values) == "");
    }
  }
}

TEMPLATE_TEST_CASE("inverse undoes rotate, and neither touches channels beyond dim", "[golden][rope_apply][rope]", float, double) {
  for (const auto& c : cases) {
    const rope<TestType> encoder(c.descriptor, {.base = c.base});
    const auto table = encoder.prepare(positions_of(c));
    for (const auto& r : c.rotations) {
      INFO(c.folder << r.in);
      const auto x = converted<TestType>(load<float>(c.folder + r.in));
      auto y = x;
      encoder.rotate(heads(row_major<4>(y), c.order), table);
      auto back = y;
      encoder.inverse(heads(row_major<4>(back), c.order), table);
      // On the way back errors grow by up to sqrt(2), and values are up to that larger than x.
      CHECK(absolute(back, x) <= 3 * rotation_bound(x));
      const auto dim = static_cast<std::size_t>(index_t{c.descriptor.dim}), channels = static_cast<std::size_t>(x.shape[3]);
      bool kept = true;
      for (std::size_t n = 0; n < x.values.size(); ++n)
        if (n % channels >= dim) kept = kept && y.values[n] == x.values[n] && back.values[n] == x.values[n];
      CHECK(kept);
    }
  }
}

TEMPLATE_TEST_CASE("queries and keys with fewer heads turn together", "[golden][rope_apply][rope]", float, double) {
  for (const auto& c : cases) {
    if (c.rotations.size() != 4) continue;
    INFO(c.folder);
    const auto at = positions_of(c);
    const rope<TestType> encoder(c.descriptor, {.base = c.base});
    const auto state = prepare(encoder, {.queries = at, .keys = at});
    std::vector<npy<TestType>> x;
    for (const auto& r : c.rotations) x.push_back(converted<TestType>(load<float>(c.folder + r.in)));
    const auto before = x;
    encode_queries_keys(encoder, heads(row_major<4>(x[0]), c.order), heads(row_major<4>(x[1]), c.order), state);
    encode_queries_keys_backward(encoder, heads(row_major<4>(x[2]), c.order), heads(row_major<4>(x[3]), c.order), state);
    for (std::size_t n = 0; n < x.size(); ++n) {
      INFO(c.rotations[n].out);
      CHECK(absolute(x[n], load<double>(c.folder + c.rotations[n].out + "_f64")) <= rotation_bound(before[n]));
    }
  }
}

// rotary-embedding-torch: positions interpolated by 2, and the base raised by the NTK rule for 4; four queries stand at the end of 16 keys.
TEMPLATE_TEST_CASE("queries at the end of cached keys, interpolated, over a rescaled base", "[golden][rope_apply][rope]", float, double) {
  const std::string folder = "rope_apply/interleaved_cached_keys_interp/";
  const rope<TestType> encoder({.pairing = pairing::interleaved, .dim = 32},
                               {.base = 10000 * std::pow(4.0, 32.0 / 30), .schedule = schedule::linear{.factor = 2}});
  const auto tables = prepare(encoder, {.queries = positions::range(4, 12), .keys = positions::range(16)});
  auto q = converted<TestType>(load<float>(folder + "q")), k = converted<TestType>(load<float>(folder + "k"));
  const double q_bound = rotation_bound(q), k_bound = rotation_bound(k);
  encode_queries_keys(encoder, heads(row_major<4>(q), axis_order::head_time), heads(row_major<4>(k), axis_order::head_time), tables);
  // The truth rounds its frequencies to double: at most 8 radians are off by 2^-52.
  constexpr double of_the_truth = 8 * 4 * 0x1p-52;
  CHECK(absolute(q, load<double>(folder + "q_out_f64")) <= q_bound + of_the_truth);
  CHECK(absolute(k, load<double>(folder + "k_out_f64")) <= k_bound + of_the_truth);
  CHECK(absolute(q, load<float>(folder + "q_out")) <= q_bound + of_the_truth + 5.82e-7);
  CHECK(absolute(k, load<float>(folder + "k_out")) <= k_bound + of_the_truth + 3.02e-7);
}

/// The cosines and sines that come with a case.
struct golden_caches {
  std::string folder, cosines, sines;
  double cosine_error, sine_error;  ///< of the system's own
  const golden_case& of() const {
    for (const auto& c : cases)
      if (c.folder == folder) return c;
    throw std::logic_error(folder);
  }
};
const std::vector<golden_caches> caches{
    {"rope_apply/half_basic/", "cos", "sin", 3.40e-7, 2.91e-7},
    {"rope_apply/half_long_positions/", "cos", "sin", 2.52e-2, 8.13e-3},
    {"rope_apply/half_offset_gqa/", "cos", "sin", 5.31e-5, 5.53e-5},
    {"rope_apply/half_position_ids/", "cos", "sin", 3.77e-5, 1.16e-4},
    {"rope_apply/interleaved_meta/", "freqs_cos", "freqs_sin", 4.99e-7, 8.36e-7},
    {"rope_apply/interleaved_meta_offset/", "freqs_cos", "freqs_sin", 1.71e-5, 2.15e-5},
};

/// The first `pairs` of the last axis: HF's caches hold every value twice.
template <class T>
npy<T> without_repetition(const npy<T>& cache, index_t pairs) {
  npy<T> once = cache;
  once.shape.back() = pairs;
  once.values.clear();
  for (std::size_t n = 0; n < cache.values.size(); ++n)
    if (static_cast<index_t>(n) % cache.shape.back() < pairs) once.values.push_back(cache.values[n]);
  return once;
}

TEMPLATE_TEST_CASE("rope's tables are the truth at each case's positions", "[golden][rope_apply][rope]", float, double) {
  for (const auto& g : caches) {
    INFO(g.folder);
    const auto table = rope<TestType>(g.of().descriptor, {.base = g.of().base}).prepare(positions_of(g.of()));
    const auto check = [&](const npy<TestType>& part, const std::string& name, double reference_error) {
      INFO(name);
      const auto truth = without_repetition(load<double>(g.folder + name + "_f64"), table.pairs());
      CHECK(part.shape == truth.shape);
      CHECK(absolute(part, truth) <= table_bound<TestType>);
      CHECK(absolute(part, without_repetition(load<float>(g.folder + name), table.pairs())) <= reference_error + table_bound<TestType>);
    };
    check(golden::cosines(table), g.cosines, g.cosine_error);
    check(golden::sines(table), g.sines, g.sine_error);
  }
}

// Who passes a system's own caches gets that system's own numbers, its errors included: 0.05 at position 1 048 575.
TEST_CASE("from_caches makes a system's own bits", "[golden][rope_apply][rope]") {
  for (const auto& g : caches) {
    const auto& c = g.of();
    const auto cosines = load<float>(g.folder + g.cosines), sines = load<float>(g.folder + g.sines);
    const auto table = cosines.shape.size() == 3
                           ? rotary_table<float>::from_caches(c.descriptor.dim, c.descriptor.pairing, view<3>(cosines), view<3>(sines))
                           : rotary_table<float>::from_caches(c.descriptor.dim, c.descriptor.pairing, view<2>(cosines), view<2>(sines));
    for (const auto& r : c.rotations) {
      INFO(c.folder << r.out);
      auto y = load<float>(c.folder + r.in);
      turn(rope<float>(c.descriptor, {.base = c.base}), table, r.is_gradient, heads(row_major<4>(y), c.order));
      CHECK(absolute(y, load<float>(c.folder + r.out)) <= 0);
    }
  }
}

}  // namespace
