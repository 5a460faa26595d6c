// SPDX-License-Identifier: MIT
// Rotary encodings: queries or keys of 32 heads.
#include "bench.hpp"
#include "limits.hpp"
#include "threads.hpp"

#include <posenc/rope.hpp>

#include <array>
#include <cmath>
#include <cstring>  // memcpy
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
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
  bool streaming = false;
  bool two_threads = false;
  std::optional<posenc::instruction_set> set{};
  std::vector<goal> goals{};

  index_t time(std::size_t scalar, double bytes) const {
    return static_cast<index_t>(bytes) / (static_cast<index_t>(scalar) * heads * dim * (in_place ? 1 : 2));
  }
  bench::layout layout(index_t time) const {
    const bool by_time = order == axis_order::time_head;
    const index_t step = action == action::shift ? 0 : dim;
    return {1, by_time ? time : heads, by_time ? heads : time, dim, by_time ? step : 0, by_time ? 0 : step};
  }
};

template <class T>
using tensor_map = Eigen::TensorMap<Eigen::Tensor<T, 4, Eigen::RowMajor>>;

/// What 16-bit values are computed in, and their tables are made of.
template <class T>
using compute = std::conditional_t<sizeof(T) == 2, float, T>;

template <class S>
posenc::rope<S> encoder_of(const rotation& what) {
  return posenc::rope<S>({.pairing = what.pairing, .dim = what.dim});
}

template <class S>
posenc::rotary_table<S> table_of(const rotation& what, index_t time) {
  return encoder_of<S>(what).prepare(posenc::positions::range(what.action == action::shift ? 1 : time, what.first));
}

// ---- plain loops ---------------------------------------------------------------------------------------------------------------------

template <bool Interleaved, bool Back, class T, class S = compute<T>>
[[gnu::noinline]] void raw_in_place(T* __restrict x, const S* __restrict table, const layout& at) {
  const index_t half = at.dim / 2;
  for (index_t n = 0; n < at.batch; ++n)
    for (index_t i = 0; i < at.first; ++i)
      for (index_t j = 0; j < at.second; ++j, x += at.dim) {
        const S* row = table + i * at.table_first + j * at.table_second;
        for (index_t k = 0; k < half; ++k) {
          T& x_a = x[Interleaved ? 2 * k : k];
          T& x_b = x[Interleaved ? 2 * k + 1 : k + half];
          const S a = static_cast<S>(x_a), b = static_cast<S>(x_b), c = row[k], s = Back ? -row[half + k] : row[half + k];
          x_a = static_cast<T>(a * c - b * s);
          x_b = static_cast<T>(a * s + b * c);
        }
      }
}

template <bool Interleaved, class T, class S = compute<T>>
[[gnu::noinline]] void raw_out_of_place(const T* __restrict x, T* __restrict y, const S* __restrict table, const layout& at) {
  const index_t half = at.dim / 2;
  for (index_t n = 0; n < at.batch; ++n)
    for (index_t i = 0; i < at.first; ++i)
      for (index_t j = 0; j < at.second; ++j, x += at.dim, y += at.dim) {
        const S* row = table + i * at.table_first + j * at.table_second;
        for (index_t k = 0; k < half; ++k) {
          const index_t a = Interleaved ? 2 * k : k, b = Interleaved ? 2 * k + 1 : k + half;
          y[a] = static_cast<T>(static_cast<S>(x[a]) * row[k] - static_cast<S>(x[b]) * row[half + k]);
          y[b] = static_cast<T>(static_cast<S>(x[a]) * row[half + k] + static_cast<S>(x[b]) * row[k]);
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

template <class T>
auto raw_pass(const rotation& what, T* x, T* y, const compute<T>* table, const layout& at) {
  const bool interleaved = what.pairing == pairing::interleaved, back = what.action == action::turn_back;
  const auto in_place = back ? (interleaved ? raw_in_place<true, true, T> : raw_in_place<false, true, T>)
                             : (interleaved ? raw_in_place<true, false, T> : raw_in_place<false, false, T>);
  const auto out_of_place = interleaved ? raw_out_of_place<true, T> : raw_out_of_place<false, T>;
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

/// Calls the verb that `what` is.
template <class S, class X>
void carry_out(const rotation& what, const posenc::rope<S>& encoder, const posenc::rotary_table<S>& table, const X& x, const X& y,
               const posenc::executor& run) {
  if (what.action == action::turn_back) encoder.rotate_backward(x, table, run);
  else if (what.action == action::shift) encoder.shift(x, what.first, run);
  else if (what.in_place) encoder.rotate(x, table, run);
  else encoder.rotate(x, y, table, run);
}

template <class T>
void add_rotation(suite& all, const rotation& what, const size_class& size) {
  using S = compute<T>;
  if (what.set && !all.runs_with(*what.set)) return;
  const index_t time = what.time(sizeof(T), size.bytes);
  const layout at = what.layout(time);
  const index_t count = at.count();
  const auto bytes = static_cast<std::size_t>(count) * sizeof(T);
  const std::string set = what.set ? "_" + std::string(posenc::name(*what.set)) : "";
  const row& one = all.add_row({.path = what.path + set, .size = size.name, .shape = shape_text({at.batch, at.first, at.second, at.dim}),
                                .bytes = size.bytes, .moved = static_cast<double>(2 * bytes), .items = static_cast<double>(count) / 2,
                                .other = what.two_threads                   ? "one thread"
                                         : what.action == action::turn_back ? "forward"
                                         : what.in_place                    ? ""
                                                                            : "copy past the caches",
                                .set = what.set, .real_time = what.two_threads, .goals = what.goals});

  const auto add_verb = [&](variant kind, const rotation& verb) {
    all.add(one, kind, [=] {
      const auto x = posenc::heads(tensor_map<T>(buffer<T>(0, count), at.batch, at.first, at.second, at.dim), verb.order);
      const auto y =
          verb.in_place ? x : posenc::heads(tensor_map<T>(buffer<T>(1, count), at.batch, at.first, at.second, at.dim), verb.order);
      const auto threads = verb.two_threads ? std::make_shared<two_threads>() : nullptr;
      posenc::executor run = threads ? posenc::executor(threads->device) : posenc::executor();
      if (verb.streaming) run = run.streaming();
      // The pool is captured by name: [=] leaves out what the body does not mention.
      return [=, pool = threads, encoder = encoder_of<S>(verb), table = table_of<S>(verb, time)] {
        carry_out(verb, encoder, table, x, y, run);
      };
    });
  };
  rotation twin = what;
  add_verb(variant::posenc, what);
  if (what.two_threads) twin.two_threads = false, add_verb(variant::other, twin);
  else if (what.action == action::turn_back) twin.action = action::rotate, add_verb(variant::other, twin);

  if (sizeof(T) > 2 || size.factor <= 16)  // conversions one by one take seconds for the largest
    all.add(one, variant::raw, [=] {
      T* const x = buffer<T>(0, count);
      T* const y = what.in_place ? nullptr : buffer<T>(1, count);
      const auto table = table_of<S>(what, time);
      return [table, pass = raw_pass(what, x, y, table.row(0, 0), at)] { pass(); };
    });
  if (what.in_place) {
    all.add(one, variant::limit, [=] { return [=, x = buffer<T>(0, count)] { limits::flip(x, bytes); }; });
  } else {
    const auto add_copy = [&](variant kind, auto copy, const char* suffix) {
      all.add(one, kind, [=] { return [=, x = buffer<T>(0, count), y = buffer<T>(1, count)] { copy(y, x, bytes); }; }, suffix);
    };
    add_copy(variant::limit, std::memcpy, "memcpy");
    if (!what.streaming) add_copy(variant::limit, limits::copy, "wide");
    if (!what.streaming) add_copy(variant::limit, limits::copy_narrow, "narrow");
    add_copy(variant::other, limits::copy_past_caches, "");
  }
  if constexpr (sizeof(T) > 2) {
    if (size.factor > 1 || what.two_threads) return;
    if (what.pairing == pairing::halves)
      all.add(one, variant::eigen, [=] {
        const eigen_table<S> table(table_of<S>(what, time).row(0, 0), at, at.dim, what.action == action::turn_back);
        return eigen_halves(buffer<S>(0, count), buffer<S>(1, count), table, at);
      });
    if (what.pairing == pairing::interleaved)
      all.add(one, variant::eigen, [=] {
        const eigen_table<S> table(table_of<S>(what, time).row(0, 0), at, at.dim / 2, what.action == action::turn_back);
        return eigen_interleaved(buffer<S>(0, count), buffer<S>(1, count), table, at);
      });
  }
}

template <class T>
void add_at_all_sizes(suite& all, const rotation& what) {
  for (const size_class& size : all.sizes()) add_rotation<T>(all, what, size);
}

/// One token, as in decoding.
void add_decode(suite& all) {
  const size_class size{"16KB", 16384, 1};
  const rotation with_table{.path = "decode_f32_halves_d128", .first = 4096, .goals = {{0.5, measure::limit}}};
  add_rotation<float>(all, with_table, size);

  const rotation without{.path = "decode_f32_halves_d128_no_table", .first = 4096, .goals = {{5, measure::raw}}};
  const layout at = without.layout(1);
  const row& one = all.add_row({.path = without.path, .size = size.name, .shape = shape_text({at.batch, at.first, at.second, at.dim}),
                                .bytes = size.bytes, .moved = 2 * size.bytes, .items = size.bytes / 8, .other = "ready table",
                                .goals = without.goals});
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
  using enum measure;
  const std::vector<goal> by_halves{{0.93, limit}}, by_neighbours{{0.9, limit}};
  const std::vector<goal> by_head{{0.7, limit, "512KB"}, {0.6, limit, "8MB"}, {0.8, limit, "134MB"}};
  const std::vector<goal> copying{{1, measure::memcpy, "512KB"}, {1, measure::memcpy, "8MB"}, {0.95, measure::memcpy, "134MB"}};

  add_at_all_sizes<float>(all, {.path = "rotate_f32_halves_d128", .goals = by_halves});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_halves_d64", .dim = 64, .goals = by_halves});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_interleaved_d128", .pairing = interleaved, .goals = by_neighbours});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_interleaved_d64", .pairing = interleaved, .dim = 64, .goals = by_neighbours});
  for (const auto form : {halves, interleaved}) {
    const std::string path = form == halves ? "rotate_f32_halves_d" : "rotate_f32_interleaved_d";
    for (const index_t dim : {32, 96, 192, 256})
      for (const size_class& size : all.sizes()) {
        const bool largest = dim == 256 && form == halves && size.name == "134MB";
        if (size.factor > 1 && !largest) continue;
        const goal least = largest ? goal{0.6, limit} : goal{.least = 0.9, .of = measure::row, .path = path + "128"};
        add_rotation<float>(all, {.path = path + std::to_string(dim), .pairing = form, .dim = dim, .goals = {least}}, size);
      }
  }
  for (const index_t dim : {128, 64})
    for (const auto form : {halves, interleaved}) {
      const std::string path = form == halves ? "rotate_f32_halves_d" : "rotate_f32_interleaved_d";
      add_at_all_sizes<float>(all, {.path = path + std::to_string(dim) + "_bhtd", .pairing = form, .dim = dim,
                                    .order = axis_order::head_time, .goals = by_head});
    }
  add_at_all_sizes<float>(all, {.path = "rotate_f32_halves_d128_out", .in_place = false, .goals = copying});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_interleaved_d128_out", .pairing = interleaved, .in_place = false, .goals = copying});
  for (const size_class& size : all.sizes())
    if (size.factor > 1)
      add_rotation<float>(all, {.path = "rotate_f32_halves_d128_out_streaming", .in_place = false, .streaming = true}, size);
  add_at_all_sizes<float>(all, {.path = "rotate_backward_f32_halves_d128", .action = action::turn_back, .goals = {{0.95, other}}});
  add_at_all_sizes<float>(all, {.path = "shift_f32_halves_d128", .action = action::shift, .first = 1000});
  add_at_all_sizes<float>(all, {.path = "rotate_f32_halves_d128_2_threads", .two_threads = true,
                                .goals = {{1, other, "512KB"}, {1.6, other, "8MB"}, {1, other, "134MB"}}});
  add_at_all_sizes<double>(all, {.path = "rotate_f64_halves_d128"});
  add_at_all_sizes<double>(all, {.path = "rotate_f64_interleaved_d128", .pairing = interleaved});
  for (const auto form : {halves, interleaved}) {
    const std::string rest = form == halves ? "_halves_d128" : "_interleaved_d128";
    rotation brain{.path = "rotate_bf16" + rest, .pairing = form,
                   .goals = {{8, raw, "512KB"}, {8, raw, "8MB"}, {38, throughput, "512KB", "avx512"}}};
    add_at_all_sizes<Eigen::bfloat16>(all, brain);
    brain.set = posenc::instruction_set::avx512_bf16, brain.goals.pop_back();
    add_at_all_sizes<Eigen::bfloat16>(all, brain);
    add_at_all_sizes<Eigen::half>(all, {.path = "rotate_f16" + rest, .pairing = form, .goals = {{25, raw, "512KB"}, {25, raw, "8MB"}}});
  }
  add_decode(all);
}

}  // namespace bench
