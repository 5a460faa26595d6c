// SPDX-License-Identifier: MIT
// Rotary encodings: queries or keys of 32 heads.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/rope.hpp>

#include <array>
#include <cmath>
#include <cstring>  // memcpy
#include <vector>

namespace bench {
namespace {

using posenc::axis_order;
using posenc::pairing;

enum class action { rotate, turn_back, shift };

/// x as `[batch, first, second, dim]`, and by how much the row of the table moves along the two middle axes.
struct layout {
  index_t batch, first, second, dim;
  index_t table_first, table_second;
  index_t count() const { return batch * first * second * dim; }
};

struct rotation {
  std::string path;
  posenc::pairing pairing = pairing::halves;
  index_t dim = 128;
  axis_order order = axis_order::time_head;
  bench::action action = action::rotate;
  bool in_place = true;
  posenc::position first = 0;  // or by how much a shift moves
  index_t heads = 32;

  index_t time(std::size_t scalar, double bytes) const {
    return static_cast<index_t>(bytes) / (static_cast<index_t>(scalar) * heads * dim * (in_place ? 1 : 2));
  }
  bench::layout layout(index_t time) const {
    const bool by_time = order == axis_order::time_head;
    const index_t step = action == action::shift ? 0 : dim;
    return {1, by_time ? time : heads, by_time ? heads : time, dim, by_time ? step : 0, by_time ? 0 : step};
  }
};

template <class S>
using tensor_map = Eigen::TensorMap<Eigen::Tensor<S, 4, Eigen::RowMajor>>;

template <class S>
posenc::rope<S> encoder_of(const rotation& what) {
  return posenc::rope<S>({.pairing = what.pairing, .dim = what.dim});
}

template <class S>
posenc::rotary_table<S> table_of(const rotation& what, index_t time) {
  return encoder_of<S>(what).prepare(posenc::positions::range(what.action == action::shift ? 1 : time, what.first));
}

// ---- plain loops ---------------------------------------------------------------------------------------------------------------------

template <bool Interleaved, bool Back, class S>
[[gnu::noinline]] void raw_in_place(S* __restrict x, const S* __restrict table, const layout& at) {
  const index_t half = at.dim / 2;
  for (index_t n = 0; n < at.batch; ++n)
    for (index_t i = 0; i < at.first; ++i)
      for (index_t j = 0; j < at.second; ++j, x += at.dim) {
        const S* row = table + i * at.table_first + j * at.table_second;
        for (index_t k = 0; k < half; ++k) {
          S& x_a = x[Interleaved ? 2 * k : k];
          S& x_b = x[Interleaved ? 2 * k + 1 : k + half];
          const S a = x_a, b = x_b, c = row[k], s = Back ? -row[half + k] : row[half + k];
          x_a = a * c - b * s;
          x_b = a * s + b * c;
        }
      }
}

template <bool Interleaved, class S>
[[gnu::noinline]] void raw_out_of_place(const S* __restrict x, S* __restrict y, const S* __restrict table, const layout& at) {
  const index_t half = at.dim / 2;
  for (index_t n = 0; n < at.batch; ++n)
    for (index_t i = 0; i < at.first; ++i)
      for (index_t j = 0; j < at.second; ++j, x += at.dim, y += at.dim) {
        const S* row = table + i * at.table_first + j * at.table_second;
        for (index_t k = 0; k < half; ++k) {
          const index_t a = Interleaved ? 2 * k : k, b = Interleaved ? 2 * k + 1 : k + half;
          y[a] = x[a] * row[k] - x[b] * row[half + k];
          y[b] = x[a] * row[half + k] + x[b] * row[k];
        }
      }
}

template <class S>
[[gnu::noinline]] void raw_decode(S* __restrict x, posenc::position p, const layout& at) {  // with its own sines and cosines
  const index_t half = at.dim / 2;
  std::vector<S> row(static_cast<std::size_t>(at.dim));
  for (index_t k = 0; k < half; ++k) {
    const double angle = static_cast<double>(p) * std::pow(10000.0, -2 * static_cast<double>(k) / static_cast<double>(at.dim));
    row[static_cast<std::size_t>(k)] = static_cast<S>(std::cos(angle));
    row[static_cast<std::size_t>(half + k)] = static_cast<S>(std::sin(angle));
  }
  layout same_row = at;
  same_row.table_first = same_row.table_second = 0;
  raw_in_place<false, false>(x, row.data(), same_row);
}

template <class S>
auto raw_pass(const rotation& what, S* x, S* y, const S* table, const layout& at) {
  const bool interleaved = what.pairing == pairing::interleaved, back = what.action == action::turn_back;
  const auto in_place = back ? (interleaved ? raw_in_place<true, true, S> : raw_in_place<false, true, S>)
                             : (interleaved ? raw_in_place<true, false, S> : raw_in_place<false, false, S>);
  const auto out_of_place = interleaved ? raw_out_of_place<true, S> : raw_out_of_place<false, S>;
  return [=] { y ? out_of_place(x, y, table, at) : in_place(x, table, at); };
}

// ---- Eigen expressions ---------------------------------------------------------------------------------------------------------------

/// The table as tensors that broadcast against x: `[1, first or 1, second or 1, width]`.
template <class S>
struct eigen_table {
  Eigen::Tensor<S, 4, Eigen::RowMajor> cosine, sine;
  std::array<index_t, 4> repeat;

  eigen_table(const S* rows, const layout& at, index_t width, bool back) {
    const index_t half = at.dim / 2, first = at.table_first ? at.first : 1, second = at.table_second ? at.second : 1;
    cosine.resize(1, first, second, width);
    sine.resize(1, first, second, width);
    repeat = {at.batch, at.first / first, at.second / second, 1};
    for (index_t i = 0; i < first; ++i)
      for (index_t j = 0; j < second; ++j)
        for (index_t k = 0; k < width; ++k) {
          const S* row = rows + i * at.table_first + j * at.table_second;
          cosine(0, i, j, k) = row[k % half];
          sine(0, i, j, k) = back ? -row[half + k % half] : row[half + k % half];
        }
  }
};

template <class S>
auto eigen_halves(S* x, S* y, const eigen_table<S>& table, const layout& at) {
  return [in = tensor_map<S>(x, at.batch, at.first, at.second, at.dim), out = tensor_map<S>(y, at.batch, at.first, at.second, at.dim),
          table, at]() mutable {
    const Eigen::DSizes<index_t, 4> low(0, 0, 0, 0), high(0, 0, 0, at.dim / 2), half(at.batch, at.first, at.second, at.dim / 2);
    out = in * table.cosine.broadcast(table.repeat) +
          (-in.slice(high, half)).concatenate(in.slice(low, half), 3) * table.sine.broadcast(table.repeat);
  };
}

template <class S>
auto eigen_interleaved(S* x, S* y, const eigen_table<S>& table, const layout& at) {
  using map = Eigen::TensorMap<Eigen::Tensor<S, 5, Eigen::RowMajor>>;
  return [in = map(x, at.batch, at.first, at.second, at.dim / 2, 2), out = map(y, at.batch, at.first, at.second, at.dim / 2, 2),
          table]() mutable {
    const auto a = in.template chip<4>(0), b = in.template chip<4>(1);
    const auto c = table.cosine.broadcast(table.repeat), s = table.sine.broadcast(table.repeat);
    out.template chip<4>(0) = a * c - b * s;
    out.template chip<4>(1) = a * s + b * c;
  };
}

// ---- rows ----------------------------------------------------------------------------------------------------------------------------

template <class S>
const row& add_rotation(suite& all, const rotation& what, const size_class& size, bool with_eigen) {
  const index_t time = what.time(sizeof(S), size.bytes);
  const layout at = what.layout(time);
  const index_t count = at.count();
  const auto bytes = static_cast<std::size_t>(count) * sizeof(S);
  const row& one = all.add_row({.path = what.path, .size = size.name, .shape = shape_text({at.batch, at.first, at.second, at.dim}),
                                .bytes = size.bytes, .moved = static_cast<double>(2 * bytes), .items = static_cast<double>(count) / 2,
                                .other = what.in_place ? "" : "copy past the caches"});

  all.add(one, variant::posenc, [=] {
    const auto x = posenc::heads(tensor_map<S>(buffer<S>(0, count), at.batch, at.first, at.second, at.dim), what.order);
    const auto y = what.in_place ? x : posenc::heads(tensor_map<S>(buffer<S>(1, count), at.batch, at.first, at.second, at.dim), what.order);
    return [=, encoder = encoder_of<S>(what), table = table_of<S>(what, time)] {
      if (what.action == action::turn_back) encoder.rotate_backward(x, table);
      else if (what.action == action::shift) encoder.shift(x, what.first);
      else if (what.in_place) encoder.rotate(x, table);
      else encoder.rotate(x, y, table);
    };
  });
  all.add(one, variant::raw, [=] {
    S* const x = buffer<S>(0, count);
    S* const y = what.in_place ? nullptr : buffer<S>(1, count);
    const auto table = table_of<S>(what, time);
    return [table, pass = raw_pass(what, x, y, table.row(0, 0), at)] { pass(); };
  });
  if (what.in_place) {
    all.add(one, variant::limit, [=] { return [=, x = buffer<S>(0, count)] { limits::flip(x, bytes); }; });
  } else {
    const auto add_copy = [&](variant kind, auto copy, const char* suffix) {
      all.add(one, kind, [=] { return [=, x = buffer<S>(0, count), y = buffer<S>(1, count)] { copy(y, x, bytes); }; }, suffix);
    };
    add_copy(variant::limit, std::memcpy, "memcpy");
    add_copy(variant::limit, limits::copy, "wide");
    add_copy(variant::limit, limits::copy_narrow, "narrow");
    add_copy(variant::other, limits::copy_past_caches, "");
  }
  if (with_eigen && what.pairing == pairing::halves)
    all.add(one, variant::eigen, [=] {
      const eigen_table<S> table(table_of<S>(what, time).row(0, 0), at, at.dim, what.action == action::turn_back);
      return eigen_halves(buffer<S>(0, count), buffer<S>(1, count), table, at);
    });
  if (with_eigen && what.pairing == pairing::interleaved)
    all.add(one, variant::eigen, [=] {
      const eigen_table<S> table(table_of<S>(what, time).row(0, 0), at, at.dim / 2, what.action == action::turn_back);
      return eigen_interleaved(buffer<S>(0, count), buffer<S>(1, count), table, at);
    });
  return one;
}

template <class S>
void add_at_all_sizes(suite& all, const rotation& what) {
  for (const size_class& size : all.sizes()) add_rotation<S>(all, what, size, size.factor == 1);
}

/// One token, as in decoding.
void add_decode(suite& all) {
  const size_class size{"16KB", 16384, 1};
  const rotation with_table{.path = "decode_f32_halves_d128", .first = 4096};
  add_rotation<float>(all, with_table, size, true);

  const rotation without{.path = "decode_f32_halves_d128_no_table", .first = 4096};
  const layout at = without.layout(1);
  const row& one = all.add_row({.path = without.path, .size = size.name, .shape = shape_text({at.batch, at.first, at.second, at.dim}),
                                .bytes = size.bytes, .moved = 2 * size.bytes, .items = size.bytes / 8, .other = "ready table"});
  const auto view = [=] {
    return posenc::heads(tensor_map<float>(buffer<float>(0, at.count()), at.batch, at.first, at.second, at.dim), axis_order::time_head);
  };
  all.add(one, variant::posenc, [=] {
    return [encoder = encoder_of<float>(without), x = view(), p = without.first] { encoder.rotate(x, posenc::positions::range(1, p)); };
  });
  all.add(one, variant::limit, [=] { return [x = buffer<float>(0, at.count())] { limits::flip(x, 16384); }; });
  all.add(one, variant::raw, [=] { return [=, x = buffer<float>(0, at.count())] { raw_decode(x, without.first, at); }; });
  all.add(one, variant::other, [=] {
    return [encoder = encoder_of<float>(without), table = table_of<float>(without, 1), x = view()] { encoder.rotate(x, table); };
  });
}

}  // namespace

void add_rotations(suite& all) {
  using enum pairing;
  add_at_all_sizes<float>(all, {.path = "rotate_f32_halves_d128"});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_halves_d64", .dim = 64});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_interleaved_d128", .pairing = interleaved});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_interleaved_d64", .pairing = interleaved, .dim = 64});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_halves_d128_bhtd", .order = axis_order::head_time});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_interleaved_d128_bhtd", .pairing = interleaved, .order = axis_order::head_time});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_halves_d128_out", .in_place = false});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_interleaved_d128_out", .pairing = interleaved, .in_place = false});
  add_at_all_sizes<float>(all, {.path = "rotate_backward_f32_halves_d128", .action = action::turn_back});
  add_at_all_sizes<float>(all, {.path = "shift_f32_halves_d128", .action = action::shift, .first = 1000});
  add_at_all_sizes<double>(all, {.path = "rotate_f64_halves_d128"});
  add_decode(all);
}

}  // namespace bench
