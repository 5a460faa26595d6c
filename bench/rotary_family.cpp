// SPDX-License-Identifier: MIT
// The kin of rope: what only its table makes different beside plain rope, the others beside the limit for the bytes they move.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/grid.hpp>
#include <posenc/multimodal_positions.hpp>
#include <posenc/rope.hpp>
#include <posenc/rope/axial_rope.hpp>
#include <posenc/rope/learned_rope.hpp>
#include <posenc/rope/multimodal_rope.hpp>
#include <posenc/rope/pope.hpp>
#include <posenc/rope/xpos.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace bench {
namespace {

using posenc::pairing;
using tensor_map = Eigen::TensorMap<Eigen::Tensor<float, 4, Eigen::RowMajor>>;

struct turning {
  std::string path;
  posenc::rotary_descriptor form;
  index_t channels = 128;
  index_t heads = 32;
  index_t pairs = 0;  ///< that turn; 0: all
  bool table_per_head = false;
  std::vector<goal> goals{};
};

/// The loop that one would write: pair by pair, the table row looked up anew for each head, read in one order and written in the other.
[[gnu::noinline]] void raw_turn(float* __restrict x, const float* __restrict table, const turning& what, index_t time,
                                float* __restrict copy) {
  const index_t pairs = what.pairs ? what.pairs : what.form.dim / 2, half = what.form.dim / 2;
  const bool from_halves = what.form.pairing == pairing::halves, to_halves = what.form.pairing != pairing::interleaved;
  const bool exchanged = from_halves != to_halves;
  for (index_t t = 0; t < time; ++t)
    for (index_t h = 0; h < what.heads; ++h, x += what.channels) {
      const float* row = table + (what.table_per_head ? t * what.heads + h : t) * 2 * half;
      const float* from = x;
      if (exchanged) std::copy(x, x + 2 * pairs, copy), from = copy;
      for (index_t k = 0; k < pairs; ++k) {
        const float a = from[from_halves ? k : 2 * k], b = from[from_halves ? k + half : 2 * k + 1], c = row[k], s = row[half + k];
        x[to_halves ? k : 2 * k] = a * c - b * s;
        x[to_halves ? k + half : 2 * k + 1] = a * s + b * c;
      }
    }
}

/// \param prepare  gives the table for so many tokens
template <class Encoder, class Prepare>
void add_turning(suite& all, const turning& what, const Encoder& encoder, const Prepare& prepare) {
  for (const size_class& size : all.sizes()) {
    const index_t tensors = what.table_per_head ? 2 : 1, token = 4 * what.heads * what.channels;
    const index_t time = static_cast<index_t>(size.bytes) / (token * tensors), count = time * token / 4;
    const auto turned = static_cast<double>(what.pairs ? 2 * what.pairs : index_t{what.form.dim}) / static_cast<double>(what.channels);
    const row& one = all.add_row({.path = what.path,
                                  .size = size.name,
                                  .shape = shape_text({1, time, what.heads, what.channels}),
                                  .bytes = size.bytes,
                                  .moved = 4 * static_cast<double>(count) * (turned * 2 + (what.table_per_head ? 1 : 0)),
                                  .items = static_cast<double>(count) * turned / 2,
                                  .other = "plain rope",
                                  .goals = what.goals});
    const auto view = [=] {
      return posenc::heads(tensor_map(buffer<float>(0, count), index_t{1}, time, what.heads, what.channels), posenc::axis_order::time_head);
    };
    all.add(one, variant::posenc, [=] { return [encoder, x = view(), table = prepare(encoder, time)] { encoder.rotate(x, table); }; });
    all.add(one, variant::raw, [=] {
      return [=, table = prepare(encoder, time), copy = std::vector<float>(static_cast<std::size_t>(what.channels))]() mutable {
        raw_turn(buffer<float>(0, count), table.row(0, 0), what, time, copy.data());
      };
    });
    if (what.table_per_head)
      all.add(one, variant::limit, [=] {
        return [=, x = buffer<float>(0, count), table = buffer<float>(1, count)] {
          limits::add(x, table, static_cast<std::size_t>(count) * 4);
        };
      });
    else if (turned == 1)
      all.add(one, variant::limit,
              [=] { return [=, x = buffer<float>(0, count)] { limits::flip(x, static_cast<std::size_t>(count) * 4); }; });
    if (turned == 1 && !what.table_per_head)
      all.add(one, variant::other, [=] {
        const auto order = what.form.pairing == pairing::halves ? pairing::halves : pairing::interleaved;
        const posenc::rope<float> plain({.pairing = order, .dim = what.form.dim});
        return [plain, x = view(), table = plain.prepare(posenc::positions::range(time))] { plain.rotate(x, table); };
      });
  }
}

/// The loop that one would write.
[[gnu::noinline]] void raw_pope(const float* __restrict x, float* __restrict y, const float* __restrict table, index_t time, index_t heads,
                                index_t dim) {
  for (index_t t = 0; t < time; ++t, table += 2 * dim)
    for (index_t h = 0; h < heads; ++h, x += dim, y += 2 * dim)
      for (index_t j = 0; j < dim; ++j) {
        const float length = std::max(x[j], 0.0f) + std::log1p(std::exp(-std::abs(x[j])));
        y[j] = length * table[j];
        y[dim + j] = length * table[dim + j];
      }
}

void add_pope(suite& all) {
  constexpr index_t heads = 32, dim = 128;
  for (const size_class& size : all.sizes()) {
    const index_t time = static_cast<index_t>(size.bytes) / (12 * heads * dim), count = time * heads * dim;
    const auto bytes = static_cast<std::size_t>(count) * 4;
    const row& one = all.add_row({.path = "pope_f32_d128_out",
                                  .size = size.name,
                                  .shape = shape_text({1, time, heads, dim}),
                                  .bytes = size.bytes,
                                  .moved = 3 * static_cast<double>(bytes),
                                  .items = static_cast<double>(count),
                                  .goals = {{0.8, measure::limit}}});
    const auto tables = [=] {
      return posenc::pope<float>({.dim = dim})
          .prepare(posenc::attention_positions{posenc::positions::range(time), posenc::positions::range(time)});
    };
    all.add(one, variant::posenc, [=] {
      const auto order = posenc::axis_order::time_head;
      const auto x = posenc::heads(tensor_map(buffer<float>(0, count), index_t{1}, time, heads, dim), order);
      const auto y = posenc::heads(tensor_map(buffer<float>(1, 2 * count), index_t{1}, time, heads, 2 * dim), order);
      return [=, encoder = posenc::pope<float>({.dim = dim}), made = tables()] { encoder.rotate(x, y, posenc::operand::query, made); };
    });
    all.add(one, variant::raw, [=] {
      return [=, made = tables(), x = buffer<float>(0, count), y = buffer<float>(1, 2 * count)] {
        raw_pope(x, y, made.queries.row(0, 0), time, heads, dim);
      };
    });
    all.add(one, variant::limit, [=] {  // reads once, writes twice
      return [=, x = buffer<float>(0, count), y = buffer<float>(1, 2 * count)] {
        limits::copy(y, x, bytes);
        limits::fill(y + count, bytes);
      };
    });
  }
}

}  // namespace

void add_rotary_family(suite& all) {
  using namespace posenc;
  using enum pairing;
  const std::vector<goal> as_rope{{0.9, measure::other}}, of_limit{{0.8, measure::limit}};
  const auto along = [](const auto& encoder, index_t time) { return encoder.prepare(positions::range(time)); };

  const rotary_descriptor by_halves{.pairing = halves, .dim = 128}, by_neighbours{.pairing = interleaved, .dim = 128};
  add_turning(all, {.path = "rotate_f32_yarn_d128", .form = by_halves, .goals = as_rope},
              rope<float>(by_halves, {.schedule = schedule::yarn{.factor = 4, .original_length = 4096}}), along);
  add_turning(all, {.path = "rotate_f32_multimodal_d128", .form = by_halves, .goals = as_rope},
              multimodal_rope<float>(by_halves, {.sections = {24, 20, 20}, .arrangement = multimodal_arrangement::interleaved}),
              [](const auto& encoder, index_t time) {
                return encoder.prepare(multimodal_positions({segment::text{time - 12}, segment::image{3, 4}}).at);
              });
  add_turning(all, {.path = "rotate_f32_axial_d128", .form = by_neighbours, .goals = as_rope},
              axial_rope<float>(by_neighbours, {.widths = {64, 64}, .frequencies = axial::language{100}}),
              [](const auto& encoder, index_t time) {
                return encoder.prepare(grid_positions({.extents = {time / 4, 4}, .order = grid_order::slowest_first}));
              });
  const rotary_descriptor two_blocks{.pairing = halves, .dim = 64, .blocks = 2};
  add_turning(all, {.path = "rotate_f32_axial_blocks_d64", .form = two_blocks, .channels = 64, .goals = of_limit},
              axial_rope<float>(two_blocks, {.widths = {32, 32}, .frequencies = axial::language{100}}),
              [](const auto& encoder, index_t time) {
                return encoder.prepare(grid_positions({.extents = {time / 4, 4}, .order = grid_order::slowest_first}));
              });
  for (const auto form : {halves, interleaved}) {
    const std::string name = form == halves ? "rotate_f32_halves_d" : "rotate_f32_interleaved_d";
    const rotary_descriptor quarter{.pairing = form, .dim = 32};
    add_turning(
        all,
        {.path = name + "32_of_128", .form = quarter, .pairs = 16, .goals = {{.least = 0.9, .of = measure::row, .path = name + "128"}}},
        rope<float>(quarter), along);
  }
  const rotary_descriptor wide{.pairing = halves, .dim = 512};
  add_turning(all,
              {.path = "rotate_f32_proportional_d512",
               .form = wide,
               .channels = 512,
               .heads = 8,
               .pairs = 64,
               .goals = {{.least = 0.9, .of = measure::row, .path = "rotate_f32_halves_d128"}}},
              rope<float>(wide, {.schedule = schedule::proportional{.fraction = 0.25}}), along);
  add_turning(all, {.path = "rotate_f32_xpos_d128", .form = by_neighbours, .goals = of_limit},
              xpos<float>(by_neighbours, {.centre_rule = xpos_centre::fixed, .scale_base = 1e6}), along);
  const rotary_descriptor exchanged{.pairing = interleaved_to_halves, .dim = 64};
  add_turning(all, {.path = "rotate_f32_interleaved_to_halves_d64", .form = exchanged, .channels = 64, .goals = of_limit},
              rope<float>(exchanged), along);

  random_source random(1);
  const rotary_descriptor small{.pairing = interleaved, .dim = 64};
  add_turning(
      all, {.path = "rotate_f32_table_per_head_d64", .form = small, .channels = 64, .heads = 16, .table_per_head = true, .goals = of_limit},
      learned_rope<float>(small, mixed_frequencies<float>(16, 64, 10, random), 2, 16), [](const auto& encoder, index_t time) {
        return encoder.prepare(grid_positions({.extents = {time / 4, 4}, .order = grid_order::fastest_first}));
      });
  add_pope(all);
}

}  // namespace bench
