// SPDX-License-Identifier: MIT
// Codes added to embeddings.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/sinusoidal.hpp>

#include <array>
#include <cmath>
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
    const posenc::kernels::add_call<float> call{.in = x, .out = x, .table = buffer<float>(1, count),
                                                .batch = 1, .time = time, .channels = channels,
                                                .in_batch = count, .in_time = channels, .out_batch = count, .out_time = channels,
                                                .table_batch = 0, .table_time = channels};
    return [call] { posenc::kernels::add(call); };
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

[[gnu::noinline]] void raw_add_batch(Eigen::bfloat16* __restrict x, const float* __restrict table, index_t count) {
  for (index_t b = 0; b < batch; ++b, x += count)
    for (index_t i = 0; i < count; ++i) x[i] = static_cast<Eigen::bfloat16>(static_cast<float>(x[i]) + table[i]);
}

/// 16-bit storage, where the table is in float: one for the whole batch.
void add_kernel_bf16(suite& all, const size_class& size) {
  using T = posenc::kernels::bfloat16;
  const index_t time = static_cast<index_t>(size.bytes) / (channels * (batch * index_t{sizeof(T)} + index_t{sizeof(float)}));
  const index_t table_count = time * channels, count = batch * table_count;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(T), table_bytes = static_cast<std::size_t>(table_count) * sizeof(float);
  const row& one = all.add_row({.path = "kernel_add_bf16_batch8", .size = size.name, .shape = shape_text({batch, time, channels}),
                                .bytes = size.bytes, .moved = static_cast<double>(2 * bytes + table_bytes),
                                .items = static_cast<double>(count),
                                .goals = {{0.9, measure::limit, "134MB"},
                                          {8, measure::raw, "512KB", "avx512"}, {8, measure::raw, "8MB", "avx512"},
                                          {6, measure::raw, "512KB", "avx2"}, {6, measure::raw, "8MB", "avx2"}}});

  all.add(one, variant::posenc, [=] {
    T* const x = posenc::kernel_pointer(buffer<Eigen::bfloat16>(0, count));
    const posenc::kernels::add_call<T> call{.in = x, .out = x, .table = buffer<float>(1, table_count),
                                            .batch = batch, .time = time, .channels = channels,
                                            .in_batch = table_count, .in_time = channels, .out_batch = table_count, .out_time = channels,
                                            .table_batch = 0, .table_time = channels};
    return [call] { posenc::kernels::add(call); };
  });
  all.add(one, variant::limit, [=] {
    return [=, x = buffer<Eigen::bfloat16>(0, count), table = buffer<float>(1, table_count)] {
      limits::read(table, table_bytes);
      limits::flip(x, bytes);
    };
  });
  if (size.factor <= 16)
    all.add(one, variant::raw, [=] {
      return [=, x = buffer<Eigen::bfloat16>(0, count), table = buffer<float>(1, table_count)] { raw_add_batch(x, table, table_count); };
    });
}

}  // namespace

void add_additions(suite& all) {
  for (const size_class& size : all.sizes()) add_sinusoidal(all, size);
  for (const size_class& size : all.sizes()) add_kernel(all, size);
  for (const size_class& size : all.sizes()) add_kernel_bf16(all, size);
}

}  // namespace bench
