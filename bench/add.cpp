// SPDX-License-Identifier: MIT
// Codes added to embeddings.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/combine.hpp>
#include <posenc/grid.hpp>
#include <posenc/learned.hpp>
#include <posenc/learned/axial_learned.hpp>
#include <posenc/sinusoidal.hpp>
#include <posenc/sinusoidal/axial_sinusoidal.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace bench {
namespace {

constexpr index_t batch = 8, channels = 512;

using tensor_map = Eigen::TensorMap<Eigen::Tensor<float, 3, Eigen::RowMajor>>;

posenc::sinusoidal<float> encoder() {
  return posenc::sinusoidal<float>(
      {.dim = channels, .order = posenc::channel_order::interleaved, .exponent_rule = posenc::exponent_rule::vaswani{}});
}

float* ready_codes(index_t time) {
  float* const codes = buffer<float>(1, time * channels);
  encoder().encode(posenc::positions::range(time), posenc::tensor_view<float, 2>(codes, {time, channels}));
  return codes;
}

[[gnu::noinline]] void raw_sinusoidal(float* __restrict x, const double* __restrict speeds, index_t time) {
  std::array<float, channels> code;
  for (index_t t = 0; t < time; ++t) {
    for (std::size_t k = 0; k < channels / 2; ++k) {
      const double angle = static_cast<double>(t) * speeds[k];
      code[2 * k] = static_cast<float>(std::sin(angle));
      code[2 * k + 1] = static_cast<float>(std::cos(angle));
    }
    for (index_t b = 0; b < batch; ++b) {
      float* to = x + (b * time + t) * channels;
      for (std::size_t c = 0; c < channels; ++c) to[c] += code[c];
    }
  }
}

[[gnu::noinline]] void raw_add(float* __restrict x, const float* __restrict table, index_t count) {
  for (index_t i = 0; i < count; ++i) x[i] += table[i];
}

void add_sinusoidal(suite& all, const size_class& size) {
  const index_t time = static_cast<index_t>(size.bytes) / (batch * channels * index_t{sizeof(float)}), count = batch * time * channels;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  const row& one = all.add_row({.path = "sinusoidal_add_f32", .size = size.name, .shape = shape_text({batch, time, channels}),
                                .bytes = size.bytes, .moved = 2 * size.bytes, .items = static_cast<double>(count), .other = "ready table"});

  all.add(one, variant::posenc, [=] {
    return [x = posenc::token_view<float>(buffer<float>(0, count), {batch, time, channels}), at = posenc::positions::range(time),
            codes = encoder()] { codes.add(x, at); };
  });
  all.add(one, variant::limit, [=] { return [=, x = buffer<float>(0, count)] { limits::flip(x, bytes); }; });
  all.add(one, variant::raw, [=] {
    std::vector<double> speeds(channels / 2);
    for (std::size_t k = 0; k < speeds.size(); ++k) speeds[k] = std::pow(10000.0, -2 * static_cast<double>(k) / channels);
    return [=, x = buffer<float>(0, count)] { raw_sinusoidal(x, speeds.data(), time); };
  });
  all.add(one, variant::other, [=] {
    return [=, x = buffer<float>(0, count), table = ready_codes(time)] {
      for (index_t b = 0; b < batch; ++b) limits::add(x + b * time * channels, table, bytes / batch);
    };
  });
  if (size.factor == 1)
    all.add(one, variant::eigen, [=] {
      return [table = tensor_map(ready_codes(time), 1, time, channels),
              x = tensor_map(buffer<float>(0, count), batch, time, channels)]() mutable {
        x += table.broadcast(std::array<index_t, 3>{batch, 1, 1});
      };
    });
}

/// A table as large as x: the kernel itself.
void add_kernel(suite& all, const size_class& size) {
  const index_t time = static_cast<index_t>(size.bytes) / (2 * channels * index_t{sizeof(float)}), count = time * channels;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  const row& one = all.add_row({.path = "kernel_add_f32", .size = size.name, .shape = shape_text({1, time, channels}), .bytes = size.bytes,
                                .moved = 1.5 * size.bytes, .items = static_cast<double>(count), .goals = {{0.9, measure::limit}}});

  all.add(one, variant::posenc, [=] {
    float* const x = buffer<float>(0, count);
    return [=, codes = posenc::kernels::code_source<float>{buffer<float>(1, count), 0, channels}] {
      posenc::kernels::add<float>({.in = x, .out = x, .sources = &codes, .count = 1, .batch = 1, .time = time, .channels = channels,
                                   .in_batch = count, .in_time = channels, .out_batch = count, .out_time = channels});
    };
  });
  all.add(one, variant::limit,
          [=] { return [=, x = buffer<float>(0, count), table = buffer<float>(1, count)] { limits::add(x, table, bytes); }; });
  all.add(one, variant::raw,
          [=] { return [=, x = buffer<float>(0, count), table = buffer<float>(1, count)] { raw_add(x, table, count); }; });
  if (size.factor == 1)
    all.add(one, variant::eigen, [=] {
      return [x = tensor_map(buffer<float>(0, count), 1, time, channels),
              table = tensor_map(buffer<float>(1, count), 1, time, channels)]() mutable { x += table; };
    });
}

[[gnu::noinline]] void raw_add_bf16(Eigen::bfloat16* __restrict x, const float* __restrict table, index_t count) {
  for (index_t i = 0; i < count; ++i) x[i] = static_cast<Eigen::bfloat16>(static_cast<float>(x[i]) + table[i]);
}
void raw_add_row(float* x, const float* table, index_t count) { raw_add(x, table, count); }
void raw_add_row(Eigen::bfloat16* x, const float* table, index_t count) { raw_add_bf16(x, table, count); }

/// A table of learned codes that all batch rows share: by a range, or each token's row by an id of its own, in any order.
template <class T>
void add_learned(suite& all, const size_class& size, bool by_id) {
  constexpr bool wide = sizeof(T) == 4;
  const index_t time = static_cast<index_t>(size.bytes) / (channels * (batch * index_t{sizeof(T)} + index_t{sizeof(float)})) / 4 * 4;
  const index_t table_count = time * channels, count = batch * table_count;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(T), table_bytes = static_cast<std::size_t>(table_count) * sizeof(float);
  std::vector<goal> goals;
  if (by_id) goals = {{0.8, measure::limit}};
  else if (wide) goals = {{0.9, measure::limit}};
  else goals = {{0.9, measure::limit, "134MB"},
                {8, measure::raw, "512KB", "avx512"}, {8, measure::raw, "8MB", "avx512"},
                {6, measure::raw, "512KB", "avx2"}, {6, measure::raw, "8MB", "avx2"}};
  const row& one = all.add_row({.path = std::string("learned_") + (by_id ? "ids_" : "") + (wide ? "f32" : "bf16"), .size = size.name,
                                .shape = shape_text({batch, time, channels}), .bytes = size.bytes,
                                .moved = static_cast<double>(2 * bytes + table_bytes), .items = static_cast<double>(count),
                                .goals = goals});

  std::vector<std::int64_t> ids(static_cast<std::size_t>(batch * time));
  for (index_t b = 0; b < batch; ++b) {
    const std::span own(ids.data() + b * time, static_cast<std::size_t>(time));
    std::iota(own.begin(), own.end(), 0);
    if (by_id) std::ranges::shuffle(own, std::mt19937(static_cast<unsigned>(b)));
  }
  all.add(one, variant::posenc, [=] {
    const std::span table(buffer<float>(1, table_count), static_cast<std::size_t>(table_count));
    return [x = posenc::token_view<T>(buffer<T>(0, count), {batch, time, channels}),
            at = by_id ? posenc::positions::ids(ids, batch) : posenc::positions::range(time),
            codes = posenc::learned<float>::adopt({.rows = time, .dim = channels}, table)] { codes.add(x, at); };
  });
  all.add(one, variant::limit, [=] {
    return [=, x = buffer<T>(0, count), table = buffer<float>(1, table_count)] {
      if constexpr (wide) {
        for (index_t b = 0; b < batch; ++b) limits::add(x + b * table_count, table, table_bytes);
      } else {
        limits::read(table, table_bytes);
        limits::flip(x, bytes);
      }
    };
  });
  if (wide || size.factor <= 16)
    all.add(one, variant::raw, [=] {
      return [=, x = buffer<T>(0, count), table = buffer<float>(1, table_count)] {
        for (index_t n = 0; n < batch * time; ++n)
          raw_add_row(x + n * channels, table + ids[static_cast<std::size_t>(n)] * channels, channels);
      };
    });
}

/// The gradient of that table.
void add_learned_backward(suite& all, const size_class& size, bool by_id) {
  const index_t time = static_cast<index_t>(size.bytes) / (channels * (batch + 1) * index_t{sizeof(float)});
  const index_t table_count = time * channels, count = batch * table_count;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  const row& one = all.add_row({.path = std::string("learned_backward_") + (by_id ? "ids_" : "") + "f32", .size = size.name,
                                .shape = shape_text({batch, time, channels}), .bytes = size.bytes, .moved = static_cast<double>(bytes),
                                .items = static_cast<double>(count), .goals = {{0.8, measure::limit}}});
  std::vector<std::int64_t> ids(static_cast<std::size_t>(batch * time));
  std::ranges::generate(ids, [random = std::mt19937(1), time]() mutable { return static_cast<std::int64_t>(random()) % time; });
  all.add(one, variant::posenc, [=] {
    const std::span sums(buffer<float>(1, table_count), static_cast<std::size_t>(table_count));
    return [d = posenc::token_view<const float>(buffer<float>(0, count), {batch, time, channels}), sums,
            at = by_id ? posenc::positions::ids(ids, batch) : posenc::positions::range(time),
            codes = posenc::learned<float>::adopt({.rows = time, .dim = channels}, sums)] {
      codes.encode_backward(at, d, std::array{sums});
    };
  });
  all.add(one, variant::limit, [=] { return [=, d = buffer<float>(0, count)] { limits::read(d, bytes); }; });
  all.add(one, variant::raw, [=] {
    return [=, d = buffer<float>(0, count), sums = buffer<float>(1, table_count)] {
      for (index_t n = 0; n < batch * time; ++n)
        raw_add(sums + (by_id ? ids[static_cast<std::size_t>(n)] : n % time) * channels, d + n * channels, channels);
    };
  });
}

/// Codes of grids: formed in the call, or put together from the tables of rows and columns.
template <class Encoder>
void add_axial(suite& all, const size_class& size, const std::string& name, const Encoder& codes) {
  constexpr index_t width = 16;
  const index_t height = static_cast<index_t>(size.bytes) / (batch * width * channels * index_t{sizeof(float)}), time = height * width;
  const index_t count = batch * time * channels;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  const row& one = all.add_row({.path = name, .size = size.name, .shape = shape_text({batch, time, channels}), .bytes = size.bytes,
                                .moved = 2 * size.bytes, .items = static_cast<double>(count), .other = "ready table"});
  all.add(one, variant::posenc, [=] {
    return [=, x = posenc::token_view<float>(buffer<float>(0, count), {batch, time, channels}),
            at = posenc::grid_positions({.extents = {height, width}, .order = posenc::grid_order::slowest_first})] { codes.add(x, at); };
  });
  all.add(one, variant::limit, [=] { return [=, x = buffer<float>(0, count)] { limits::flip(x, bytes); }; });
  all.add(one, variant::other, [=] {
    return [=, x = buffer<float>(0, count), table = ready_codes(time)] {
      for (index_t b = 0; b < batch; ++b) limits::add(x + b * time * channels, table, bytes / batch);
    };
  });
}

/// Two tables at once, against one after the other.
void add_composed(suite& all, const size_class& size) {
  const index_t time = static_cast<index_t>(size.bytes) / (channels * (batch + 2) * index_t{sizeof(float)});
  const index_t table_count = time * channels, count = batch * table_count;
  const double moved = static_cast<double>(2 * count + 2 * table_count) * sizeof(float);
  const row& one = all.add_row({.path = "composed_learned_f32", .size = size.name, .shape = shape_text({batch, time, channels}),
                                .bytes = size.bytes, .moved = moved, .items = static_cast<double>(count), .other = "in turn"});
  const auto codes = [=](int slot) {
    return posenc::learned<float>::adopt({.rows = time, .dim = channels},
                                         {buffer<float>(slot, table_count), static_cast<std::size_t>(table_count)});
  };
  const auto x = [=] { return posenc::token_view<float>(buffer<float>(0, count), {batch, time, channels}); };
  all.add(one, variant::posenc, [=] {
    return [x = x(), at = posenc::positions::range(time), both = posenc::compose(codes(1), codes(2))] { both.add(x, at); };
  });
  all.add(one, variant::other, [=] {
    return [x = x(), at = posenc::positions::range(time), first = codes(1), second = codes(2)] { first.add(x, at), second.add(x, at); };
  });
  all.add(one, variant::raw, [=] {
    return [=, x = buffer<float>(0, count), first = buffer<float>(1, table_count), second = buffer<float>(2, table_count)] {
      for (index_t b = 0; b < batch; ++b)
        for (const float* table : {first, second}) raw_add(x + b * table_count, table, table_count);
    };
  });
}

}  // namespace

void add_additions(suite& all) {
  for (const size_class& size : all.sizes()) add_sinusoidal(all, size);
  for (const size_class& size : all.sizes()) add_kernel(all, size);
  for (const bool by_id : {false, true})
    for (const size_class& size : all.sizes()) add_learned<float>(all, size, by_id);
  for (const size_class& size : all.sizes()) add_learned<Eigen::bfloat16>(all, size, false);
  for (const bool by_id : {false, true})
    for (const size_class& size : all.sizes()) add_learned_backward(all, size, by_id);
  for (const size_class& size : all.sizes()) add_composed(all, size);
  const std::vector<index_t> halves{channels / 2, channels / 2};
  const posenc::axial_sinusoidal<float> waves({.dim = channels, .widths = halves, .order = posenc::channel_order::sin_cos,
                                               .arrangement = posenc::sinusoidal_arrangement::blocks,
                                               .exponent_rule = posenc::exponent_rule::vaswani{}});
  const posenc::axial_learned<float> tables({.rows = {4096, 16}, .widths = halves, .join = posenc::axial_join::concatenate,
                                             .lookup = posenc::axial_lookup::axes});
  for (const size_class& size : all.sizes()) add_axial(all, size, "axial_sinusoidal_f32", waves);
  for (const size_class& size : all.sizes()) add_axial(all, size, "axial_learned_f32", tables);
}

}  // namespace bench
