// SPDX-License-Identifier: MIT
// Codes of the Fourier family, added and formed.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/fourier/fourier_basis.hpp>
#include <posenc/fourier/learnable_fourier_features.hpp>
#include <posenc/learned.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace bench {
namespace {

[[gnu::noinline]] void raw_basis(float* __restrict x, const std::int64_t* __restrict ids, index_t tokens, index_t channels,
                                 index_t period) {
  for (index_t t = 0; t < tokens; ++t)
    for (index_t k = 0; k < channels; ++k)
      x[t * channels + k] +=
          static_cast<float>(std::cos(2 * std::numbers::pi * static_cast<double>(k * ids[t] % period) / static_cast<double>(period)));
}

/// Every token by an id of its own, in any order, as the learned table that it is measured beside.
void add_basis(suite& all, const size_class& size) {
  constexpr index_t batch = 8, channels = 512;
  const index_t time = static_cast<index_t>(size.bytes) / (channels * (batch + 1) * index_t{sizeof(float)}) / 4 * 4;
  const index_t table_count = time * channels, count = batch * table_count;
  const auto bytes = static_cast<std::size_t>(table_count) * sizeof(float);
  const row& one = all.add_row({.path = "fourier_basis_ids_f32",
                                .size = size.name,
                                .shape = shape_text({batch, time, channels}),
                                .bytes = size.bytes,
                                .moved = static_cast<double>(2 * batch + 1) * static_cast<double>(bytes),
                                .items = static_cast<double>(count),
                                .other = "learned",
                                .goals = {{0.8, measure::limit, "512KB"}, {0.95, measure::other}}});

  std::vector<std::int64_t> ids(static_cast<std::size_t>(batch * time));
  for (index_t b = 0; b < batch; ++b) {
    const std::span own(ids.data() + b * time, static_cast<std::size_t>(time));
    std::iota(own.begin(), own.end(), 0);
    std::ranges::shuffle(own, std::mt19937(static_cast<unsigned>(b)));
  }
  all.add(one, variant::posenc, [=] {
    return [x = posenc::token_view<float>(buffer<float>(0, count), {batch, time, channels}), at = posenc::positions::ids(ids, batch),
            codes = posenc::fourier_basis<float>({.dim = channels, .period = time, .functions = posenc::basis_functions::cosine})] {
      codes.add(x, at);
    };
  });
  all.add(one, variant::other, [=] {
    const float* const table = buffer<float>(1, table_count);  // copied: the basis has no huge pages either
    return [x = posenc::token_view<float>(buffer<float>(0, count), {batch, time, channels}), at = posenc::positions::ids(ids, batch),
            codes = posenc::learned<float>({.rows = time, .dim = channels}, {table, table + table_count})] { codes.add(x, at); };
  });
  all.add(one, variant::limit, [=] {
    return [=, x = buffer<float>(0, count), table = buffer<float>(1, table_count)] {
      for (index_t b = 0; b < batch; ++b) limits::add(x + b * table_count, table, bytes);
    };
  });
  if (size.factor <= 16)
    all.add(one, variant::raw,
            [=] { return [=, x = buffer<float>(0, count)] { raw_basis(x, ids.data(), batch * time, channels, time); }; });
}

struct raw_network {
  const float *directions, *first, *first_bias = nullptr, *second = nullptr, *second_bias = nullptr;
};

[[gnu::noinline]] void raw_learnable(const float* __restrict points, float* __restrict out, const raw_network& network, index_t tokens,
                                     index_t bands, index_t hidden, index_t channels) {
  std::vector<float> f(static_cast<std::size_t>(2 * bands)), h(static_cast<std::size_t>(hidden));
  const float scale = 1 / std::sqrt(static_cast<float>(2 * bands));
  const auto product = [](const float* w, const float* x, index_t count) {
    float sum = 0;
    for (index_t c = 0; c < count; ++c) sum += w[c] * x[c];
    return sum;
  };
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t k = 0; k < bands; ++k) {
      const float angle = product(network.directions + 2 * k, points + 2 * t, 2);
      f[static_cast<std::size_t>(k)] = std::cos(angle) * scale;
      f[static_cast<std::size_t>(bands + k)] = std::sin(angle) * scale;
    }
    for (index_t n = 0; n < hidden; ++n) {
      const float z = product(network.first + n * 2 * bands, f.data(), 2 * bands) + network.first_bias[n];
      h[static_cast<std::size_t>(n)] = z * 0.5f * std::erfc(-z * 0.70710678f);
    }
    for (index_t c = 0; c < channels; ++c)
      out[t * channels + c] = product(network.second + c * hidden, h.data(), hidden) + network.second_bias[c];
  }
}

/// As in the paper's vision transformer: F = 384, H = 32. Products are most of the work, not memory.
void add_learnable(suite& all, index_t tokens) {
  constexpr index_t channels = 768, features = 384, hidden = 32;
  const double values = static_cast<double>(tokens * channels);
  const row& one = all.add_row({.path = "learnable_fourier_f32",
                                .size = std::to_string(tokens) + "tokens",
                                .shape = shape_text({tokens, channels}),
                                .bytes = values * sizeof(float),
                                .moved = values * sizeof(float),
                                .items = values,
                                .other = "the network alone"});
  const auto network = [=] {
    posenc::random_source random(1);
    return posenc::learnable_fourier_features<float>({.dim = channels, .axes = 2, .features = features, .hidden = hidden}, 1.0,
                                                     posenc::gamma_rule::variance, random);
  };
  all.add(one, variant::posenc, [=] {
    std::vector<double> places(buffer<float>(0, 2 * tokens), buffer<float>(0, 2 * tokens) + 2 * tokens);
    return [at = posenc::coordinates::values(places, 2), encoder = network(),
            out = posenc::tensor_view<float, 2>(buffer<float>(1, tokens * channels), {tokens, channels})] { encoder.encode(at, out); };
  });
  all.add(one, variant::limit, [=] {
    return
        [=, out = buffer<float>(1, tokens * channels)] { limits::fill(out, static_cast<std::size_t>(tokens * channels) * sizeof(float)); };
  });
  all.add(one, variant::raw, [=] {
    const float* const all_weights = buffer<float>(2, (features + channels) * (hidden + 1) + hidden);
    raw_network weights{.directions = all_weights, .first = all_weights + features};
    weights.first_bias = weights.first + hidden * features, weights.second = weights.first_bias + hidden;
    weights.second_bias = weights.second + channels * hidden;
    return [=, points = buffer<float>(0, 2 * tokens), out = buffer<float>(1, tokens * channels)] {
      raw_learnable(points, out, weights, tokens, features / 2, hidden, channels);
    };
  });
  all.add(one, variant::other, [=] {
    posenc::random_source random(1);
    const posenc::mlp<float> alone({.in = features, .out = channels, .hidden = {hidden}, .activation = posenc::mlp_activation::gelu},
                                   random);
    return [=, x = posenc::tensor_view<const float, 2>(buffer<float>(0, tokens * features), {tokens, features}),
            out = posenc::tensor_view<float, 2>(buffer<float>(1, tokens * channels), {tokens, channels})] { alone.forward(x, out); };
  });
}

}  // namespace

void add_fourier_codes(suite& all) {
  for (const size_class& size : all.sizes()) add_basis(all, size);
  for (const index_t tokens : {index_t{1}, index_t{256}}) add_learnable(all, tokens);
}

}  // namespace bench
