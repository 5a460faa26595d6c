// SPDX-License-Identifier: MIT
/// \file  What each kernel writes for a fixed choice of inputs: every tail, both ways through every branch, no not-a-number. The kernel is
/// an argument, so that a reference can be run on the same. Without Eigen and Catch2, so that it runs wherever a compiler does.
#pragma once

#include <posenc/kernels/add.hpp>
#include <posenc/kernels/add_gradient.hpp>
#include <posenc/kernels/add_product.hpp>
#include <posenc/kernels/angle_gradient.hpp>
#include <posenc/kernels/bias.hpp>
#include <posenc/kernels/convolve.hpp>
#include <posenc/kernels/cope.hpp>
#include <posenc/kernels/dot.hpp>
#include <posenc/kernels/features.hpp>
#include <posenc/kernels/gelu.hpp>
#include <posenc/kernels/forgetting.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/kernels/log_sigmoid.hpp>
#include <posenc/kernels/phase.hpp>
#include <posenc/kernels/rotate.hpp>
#include <posenc/kernels/table_bias.hpp>
#include <posenc/kernels/widen.hpp>

#include "random.hpp"
#include "reference/stored.hpp"
#include "reference/table_bias.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace outputs {

using posenc::kernels::compute;
using posenc::kernels::index_t;
using reference::random_stored;

template <class T>
void append(std::vector<T>& all, const std::vector<T>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

template <class T>
std::vector<T> of_add(auto&& run) {
  std::vector<T> all;
  for (index_t channels = 1; channels <= 70; ++channels)
    for (const index_t gap : {0, 3}) {
      constexpr index_t batch = 2, time = 3;
      auto x = random_stored<T>(1, batch * time * (channels + gap));
      const auto table = random_vector<compute<T>>(2, time * channels);
      const posenc::kernels::code_source<compute<T>> codes{.table = table.data(), .batch = 0, .time = channels};
      run(posenc::kernels::add_call<T>{.in = x.data(),
                                       .out = x.data(),
                                       .sources = &codes,
                                       .count = 1,
                                       .batch = batch,
                                       .time = time,
                                       .channels = channels,
                                       .in_batch = time * (channels + gap),
                                       .in_time = channels + gap,
                                       .out_batch = time * (channels + gap),
                                       .out_time = channels + gap});
      append(all, x);
    }
  return all;
}

/// Two sources, one of them looked up by ids, with scales; then looked up alone.
template <class T>
std::vector<T> of_add_sources(auto&& run) {
  std::vector<T> all;
  constexpr index_t batch = 2, time = 3;
  const std::vector<std::int64_t> ids{2, 0, posenc::kernels::absent, 1, 2, 2};
  for (index_t channels = 1; channels <= 40; ++channels) {
    const auto table = random_vector<compute<T>>(2, time * channels), other = random_vector<compute<T>>(3, batch * time * channels);
    using source = posenc::kernels::code_source<compute<T>>;
    const std::vector<source> both{
        {.table = table.data(), .batch = 0, .time = channels, .ids = ids.data(), .ids_batch = time, .scale = compute<T>(0.3)},
        {.table = other.data(), .batch = time * channels, .time = channels, .scale = compute<T>(-1.7)}};
    const source lookup{.table = table.data(), .batch = 0, .time = channels, .ids = ids.data()};
    auto x = random_stored<T>(1, batch * time * channels);
    posenc::kernels::add_call<T> call{.in = x.data(),
                                      .out = x.data(),
                                      .sources = both.data(),
                                      .count = 2,
                                      .batch = batch,
                                      .time = time,
                                      .channels = channels,
                                      .in_batch = time * channels,
                                      .in_time = channels,
                                      .out_batch = time * channels,
                                      .out_time = channels,
                                      .in_scale = compute<T>(1.1)};
    run(call);
    append(all, x);
    call.sources = &lookup, call.count = 1, call.in_scale = 1;
    run(call);
    append(all, x);
  }
  return all;
}

template <class T>
std::vector<compute<T>> of_add_gradient(auto&& run) {
  std::vector<compute<T>> all;
  const std::vector<std::int64_t> ids{2, 0, posenc::kernels::absent, 1, 2, 2, 1, 1, 0, 2, 0, 0, 1, 2, 0, 0, 0, 1, 2, 2, 1};
  for (index_t channels = 1; channels <= 40; ++channels)
    for (const bool by_id : {false, true}) {
      constexpr index_t batch = 7, time = 3;
      const auto d = random_stored<T>(1, batch * time * channels);
      auto sums = random_vector<compute<T>>(2, time * channels);
      run(posenc::kernels::add_gradient_call<T>{.d = d.data(),
                                                .sums = sums.data(),
                                                .batch = batch,
                                                .time = time,
                                                .channels = channels,
                                                .d_batch = time * channels,
                                                .d_time = channels,
                                                .row = channels,
                                                .ids = by_id ? ids.data() : nullptr,
                                                .ids_batch = time,
                                                .still = by_id ? 1 : posenc::kernels::absent,
                                                .scale = compute<T>(1.3)});
      append(all, sums);
    }
  return all;
}

template <class T>
std::vector<double> of_dot(auto&& run) {
  std::vector<double> all;
  for (index_t channels = 0; channels <= 40; ++channels) {
    const auto a = random_stored<T>(1, 3 * channels);
    const auto b = random_vector<compute<T>>(2, 3 * channels);
    std::vector<double> sums(3);
    run(posenc::kernels::dot_call<T>{
        .a = a.data(), .b = b.data(), .rows = 3, .channels = channels, .a_row = channels, .b_row = channels, .sums = sums.data()});
    append(all, sums);
  }
  return all;
}

/// act(angles) for bands, octaves and matrices, with and without covariances.
inline void for_each_features(auto&& act) {
  for (index_t channels = 1; channels <= 40; ++channels)
    for (const bool damped : {false, true})
      for (const int kind : {0, 1, 2}) {
        constexpr index_t rows = 3, dims = 3;
        const auto size = static_cast<std::size_t>(channels);
        const auto points = random_vector<double>(1, rows * dims), low = random_vector<double>(3, dims * channels);
        auto high = random_vector<double>(2, dims * channels), rest = low;
        auto covariances = random_vector<double>(4, rows * dims * dims);
        std::vector<double> quarters(size);
        std::vector<std::int64_t> axes(size), reach{};
        std::vector<std::int32_t> octaves(3 * size);
        for (std::size_t c = 0; c < size; ++c) {
          axes[c] = static_cast<std::int64_t>(c * c % 3), quarters[c] = c % 4 < 2 ? 0 : 0.5;
          octaves[c] = static_cast<std::int32_t>(c % 21), octaves[size + c] = static_cast<std::int32_t>(axes[c]);
          octaves[2 * size + c] = c % 4 < 2 ? 0 : 1 << 30;
          if (c % 8 == 0) reach.push_back(0), reach.push_back(dims - 1);
        }
        for (std::size_t n = 0; n < high.size(); ++n) {
          high[n] = kind == 1 ? 0.3 * static_cast<double>(1 << octaves[n % size]) : 100 * high[n];
          rest[n] = low[n] * 0x1p-50;
        }
        for (double& one : covariances) one = 1e-4 * std::abs(one);  // numbers only: bits of others are not promised
        posenc::kernels::feature_angles angles{.points = points.data(),
                                               .point = dims,
                                               .axis = 1,
                                               .rows = rows,
                                               .dims = dims,
                                               .high = high.data(),
                                               .low = rest.data(),
                                               .quarters = quarters.data(),
                                               .channels = channels};
        if (kind == 2) angles.weights = channels;
        else angles.axes = axes.data(), angles.reach = reach.data();
        if (kind == 1) angles.octaves = octaves.data(), angles.octave_base = 0.3;
        if (damped) {
          angles.covariances = covariances.data();
          angles.covariance_point = dims * dims, angles.covariance_row = dims, angles.covariance_column = 1;
        }
        act(angles);
      }
}

template <class T>
std::vector<T> of_features(auto&& run) {
  std::vector<T> all;
  for_each_features([&](const posenc::kernels::feature_angles& angles) {
    std::vector<T> out(static_cast<std::size_t>(angles.rows * angles.channels));
    run(posenc::kernels::features_call<T>{.angles = angles, .out = out.data(), .row = angles.channels, .scale = 0.7});
    append(all, out);
  });
  return all;
}

/// At points and covariances, and at matrices.
template <class T>
std::vector<double> of_features_gradients(auto&& run, auto&& run_weights) {
  std::vector<double> all;
  for_each_features([&](const posenc::kernels::feature_angles& angles) {
    const auto d = random_stored<T>(5, angles.rows * angles.channels);
    const index_t entries = angles.axes ? angles.dims : angles.dims * angles.dims;
    const auto size = [](index_t n) { return static_cast<std::size_t>(n); };
    std::vector<double> d_points(size(angles.rows * angles.dims)), d_covariances(size(angles.covariances ? angles.rows * entries : 0)),
        spare(size(8 * (angles.dims + entries))), weights(size(angles.axes ? 0 : angles.dims * angles.channels));
    run(posenc::kernels::features_gradient_call<T>{.angles = angles,
                                                   .d = d.data(),
                                                   .row = angles.channels,
                                                   .d_points = d_points.data(),
                                                   .spare = spare.data(),
                                                   .scale = 0.7,
                                                   .d_covariances = angles.covariances ? d_covariances.data() : nullptr});
    if (!angles.axes)
      run_weights(posenc::kernels::features_weight_gradient_call<T>{
          .angles = angles, .d = d.data(), .row = angles.channels, .d_weights = weights.data(), .scale = 0.7});
    append(all, d_points);
    append(all, d_covariances);
    append(all, weights);
  });
  return all;
}

template <class T>
std::vector<T> of_add_product(auto&& run) {
  std::vector<T> all;
  for (index_t channels = 0; channels <= 40; ++channels) {
    const auto a = random_stored<T>(1, 3 * channels);
    const auto b = random_vector<compute<T>>(2, 3 * channels);
    auto out = random_stored<T>(3, 3 * channels);
    run(posenc::kernels::add_product_call<T>{.a = a.data(),
                                             .b = b.data(),
                                             .out = out.data(),
                                             .rows = 3,
                                             .channels = channels,
                                             .a_row = channels,
                                             .b_row = channels,
                                             .out_row = channels});
    append(all, out);
  }
  return all;
}

/// Numbers to the ends of what does not vanish, alone and added to others; then the gradient.
template <class T>
std::vector<T> of_gelu(auto&& run, auto&& run_gradient) {
  std::vector<T> all;
  for (index_t channels = 0; channels <= 140; channels += channels < 40 ? 1 : 25) {
    auto numbers = random_vector<compute<T>>(1, 3 * channels);
    for (auto& x : numbers) x = x * x * x * (sizeof(T) == 8 ? 40 : 16);
    const auto in = reference::stored<T>(numbers);
    auto out = random_stored<T>(2, 3 * channels), d = out;
    posenc::kernels::gelu_call<T> call{
        .in = in.data(), .out = out.data(), .rows = 3, .channels = channels, .in_row = channels, .out_row = channels};
    run(call);
    append(all, out);
    call.residual = out.data(), call.residual_row = channels;
    run(call);
    append(all, out);
    run_gradient(posenc::kernels::gelu_gradient_call<T>{.in = in.data(),
                                                        .d_out = d.data(),
                                                        .d_in = d.data(),
                                                        .rows = 3,
                                                        .channels = channels,
                                                        .in_row = channels,
                                                        .d_out_row = channels,
                                                        .d_in_row = channels});
    append(all, d);
  }
  return all;
}

/// The log gates of logits of many sizes.
template <class T>
std::vector<compute<T>> of_log_sigmoid(auto&& run) {
  std::vector<compute<T>> all;
  for (index_t channels = 1; channels <= 80; channels += channels < 20 ? 1 : 7) {
    auto numbers = random_vector<compute<T>>(1, 3 * channels);
    for (std::size_t n = 0; n < numbers.size(); ++n) numbers[n] *= compute<T>(1 << n % 8);
    const auto x = reference::stored<T>(numbers);
    std::vector<compute<T>> out(x.size());
    run(posenc::kernels::log_sigmoid_call<T>{x.data(), out.data(), 3, channels, channels, channels, compute<T>(0.7)});
    append(all, out);
  }
  return all;
}

/// Gradients of those logits.
template <class T>
std::vector<T> of_log_sigmoid_gradient(auto&& run) {
  std::vector<T> all;
  for (index_t channels = 1; channels <= 80; channels += channels < 20 ? 1 : 7) {
    auto x = random_stored<T>(1, 3 * channels);
    const auto d = random_vector<compute<T>>(2, 3 * channels);
    run(posenc::kernels::log_sigmoid_gradient_call<T>{x.data(), d.data(), x.data(), 3, channels, channels, channels, channels,
                                                      compute<T>(0.7)});
    append(all, x);
  }
  return all;
}

/// test(call, scores, slots): one document and another one behind it, with a mask and without, gates for keys behind the query and none.
template <class T>
void for_each_forgetting(auto&& test) {
  using S = compute<T>;
  constexpr index_t heads = 2, queries = 3;
  for (index_t keys = 3; keys <= 90; keys += 3)
    for (const bool causal : {false, true})
      for (const bool after : {false, true})
        for (const S scale : {S(1), S(0.75)}) {
          auto scores = random_stored<T>(5, heads * queries * keys);
          const auto sums = random_vector<double>(6, heads * keys), sums_after = random_vector<double>(7, heads * keys);
          const index_t end = keys - keys / 4;
          const std::array<posenc::kernels::key_span, queries> spans{
              {{0, end / 2, end, false}, {0, -1, 0, false}, {0, end - 1, end, true}}};
          std::vector<std::int64_t> key_ids;
          for (index_t j = 0; j < keys; ++j) key_ids.push_back(j % 5 == 4 && j < end / 2 ? posenc::kernels::absent : j % end);
          const std::array<std::int64_t, queries> query_ids{end / 2, posenc::kernels::absent, end - 1};
          test(posenc::kernels::forgetting_call<T>{{.scores = scores.data(),
                                                    .heads = heads,
                                                    .queries = queries,
                                                    .keys = keys,
                                                    .head = queries * keys,
                                                    .query = keys,
                                                    .query_ids = query_ids.data(),
                                                    .query_first = 0,
                                                    .key_ids = key_ids.data(),
                                                    .key_first = 0,
                                                    .scale = scale,
                                                    .causal = causal},
                                                   spans.data(),
                                                   0,
                                                   sums.data(),
                                                   keys,
                                                   after ? sums_after.data() : nullptr},
               scores);
        }
}

template <class T>
std::vector<T> of_forgetting(auto&& run) {
  std::vector<T> all;
  for_each_forgetting<T>([&](const posenc::kernels::forgetting_call<T>& call, const std::vector<T>& scores) {
    run(call);
    append(all, scores);
  });
  return all;
}

/// The gradients of the sums.
template <class T>
std::vector<double> of_forgetting_gradient(auto&& run) {
  std::vector<double> all;
  for_each_forgetting<T>([&](const posenc::kernels::forgetting_call<T>& call, const std::vector<T>&) {
    std::vector<double> d_sums(static_cast<std::size_t>(2 * call.keys)), d_after(d_sums.size());
    run(posenc::kernels::forgetting_gradient_call<T>{call, d_sums.data(), d_after.data()});
    append(all, d_sums);
    append(all, d_after);
  });
  return all;
}

template <class T>
std::vector<compute<T>> of_widen(auto&& run) {
  std::vector<compute<T>> all;
  for (index_t channels = 0; channels <= 40; ++channels)
    for (const bool shifted : {false, true}) {
      const auto x = random_stored<T>(1, 3 * channels);
      const auto shift = random_vector<compute<T>>(2, channels);
      std::vector<compute<T>> y(x.size());
      run(posenc::kernels::widen_call<T>{.x = x.data(),
                                         .y = y.data(),
                                         .rows = 3,
                                         .channels = channels,
                                         .x_row = channels,
                                         .y_row = channels,
                                         .shift = shifted ? shift.data() : nullptr,
                                         .scale = compute<T>(1.3)});
      append(all, y);
    }
  return all;
}

template <class T>
std::vector<T> of_rotate(auto&& run) {
  std::vector<T> all;
  std::vector<index_t> numbers_of_pairs{40, 48, 64, 80, 96, 128, 256};
  for (index_t pairs = 1; pairs <= 33; ++pairs) numbers_of_pairs.push_back(pairs);
  for (const index_t pairs : numbers_of_pairs)
    for (const bool interleaved : {false, true})
      for (const bool by_head : {false, true})
        for (const bool turned_back : {false, true}) {
          constexpr index_t time = 2, heads = 6;
          const index_t width = 2 * pairs;
          auto x = random_stored<T>(3, time * heads * width);
          auto table = random_vector<compute<T>>(4, time * width);
          if (turned_back)
            for (auto& value : table) value *= compute<T>(0.6);
          const index_t time_stride = by_head ? width : heads * width, head_stride = by_head ? time * width : width;
          run(posenc::kernels::rotate_call<T>{.in = x.data(),
                                              .out = x.data(),
                                              .batch = 1,
                                              .time = time,
                                              .heads = heads,
                                              .in_batch = 0,
                                              .in_time = time_stride,
                                              .in_head = head_stride,
                                              .out_batch = 0,
                                              .out_time = time_stride,
                                              .out_head = head_stride,
                                              .rows = nullptr,
                                              .table = table.data(),
                                              .table_batch = 0,
                                              .table_time = width,
                                              .pairs = pairs,
                                              .before = 0,
                                              .after = 0,
                                              .interleaved = interleaved,
                                              .back = turned_back});
          append(all, x);
        }
  return all;
}

/// Exchanged orders, blocks, tables by head, channels between the halves, both ways, in place and to another tensor.
template <class T>
std::vector<T> of_rotate_forms(auto&& run) {
  std::vector<T> all;
  struct {
    bool exchanged, interleaved;
    index_t blocks, between;
  } const forms[] = {{true, true, 1, 0},  {true, false, 1, 0},  {false, false, 2, 0},
                     {false, true, 2, 0}, {false, false, 3, 0}, {false, false, 1, 5}};
  for (index_t pairs = 1; pairs <= 33; ++pairs)
    for (const auto& [exchanged, interleaved, blocks, between] : forms)
      for (const bool by_head : {false, true})
        for (const bool back : {false, true}) {
          constexpr index_t time = 2, heads = 3, before = 1, after = 2;
          const index_t turning = blocks * pairs, channels = before + 2 * blocks * (pairs + between) + after;
          const auto x = random_stored<T>(7, time * heads * channels);
          auto in_place = x, y = random_stored<T>(8, time * heads * channels);
          const auto table = random_vector<compute<T>>(9, time * (by_head ? heads : 1) * 2 * turning);
          posenc::kernels::rotate_call<T> call{.in = in_place.data(),
                                               .out = in_place.data(),
                                               .batch = 1,
                                               .time = time,
                                               .heads = heads,
                                               .in_batch = 0,
                                               .in_time = heads * channels,
                                               .in_head = channels,
                                               .out_batch = 0,
                                               .out_time = heads * channels,
                                               .out_head = channels,
                                               .rows = nullptr,
                                               .table = table.data(),
                                               .table_batch = 0,
                                               .table_time = (by_head ? heads : 1) * 2 * turning,
                                               .pairs = pairs,
                                               .before = before,
                                               .after = after,
                                               .interleaved = interleaved,
                                               .back = back,
                                               .exchanged = exchanged,
                                               .table_head = by_head ? 2 * turning : 0,
                                               .blocks = blocks,
                                               .between = between};
          run(call);
          append(all, in_place);
          call.in = x.data(), call.out = y.data();
          run(call);
          append(all, y);
        }
  return all;
}

/// test(call, scores): every form, range and ids, mask and scale, near, at the ends of what S counts exactly, and far.
template <class T>
void for_each_bias(bool halves, auto&& test) {
  using S = compute<T>;
  constexpr index_t heads = 2, queries = 3;
  constexpr std::int64_t counted = std::int64_t{1} << (sizeof(S) == 4 ? 24 : 53), far = std::int64_t{1} << 60;
  for (const std::int64_t first_query : {std::int64_t{20}, counted - 30, far})
    for (const bool by_ids : {false, true})
      for (const auto form : {posenc::kernels::distance::causal, posenc::kernels::distance::symmetric, posenc::kernels::distance::key})
        for (const bool causal : {false, true})
          for (const S scale : {S(1), S(0.75)})
            for (index_t keys = 1; keys <= 70; keys += 3) {
              auto scores = random_stored<T>(5, heads * queries * keys);
              if (halves)
                for (auto& score : scores)
                  score = reference::stored<T>(static_cast<S>(static_cast<std::int64_t>(reference::loaded(score) * 16)) + S(0.5));
              std::vector<std::int64_t> query_ids, key_ids;
              for (index_t i = 0; i < queries; ++i) query_ids.push_back(i == 1 ? posenc::kernels::absent : first_query + i);
              for (index_t j = 0; j < keys; ++j) key_ids.push_back(j % 5 == 2 ? posenc::kernels::absent : (j * 13) % 71);
              const std::array<S, heads> slopes{S(0.1), S(-3)};
              test(posenc::kernels::bias_call<T>{{.scores = scores.data(),
                                                  .heads = heads,
                                                  .queries = queries,
                                                  .keys = keys,
                                                  .head = queries * keys,
                                                  .query = keys,
                                                  .query_ids = by_ids ? query_ids.data() : nullptr,
                                                  .query_first = first_query,
                                                  .key_ids = by_ids ? key_ids.data() : nullptr,
                                                  .key_first = -5,
                                                  .scale = scale,
                                                  .causal = causal},
                                                 slopes.data(),
                                                 form,
                                                 7},
                   scores);
            }
}

template <class T>
std::vector<T> of_bias(auto&& run) {
  std::vector<T> all;
  for_each_bias<T>(false, [&](const posenc::kernels::bias_call<T>& call, const std::vector<T>& scores) {
    run(call);
    append(all, scores);
  });
  return all;
}

/// The gradients of scores and slopes. `exact`: of numbers whose sums need no rounding, so that their order does not matter.
template <class T>
std::vector<double> of_bias_backward(bool exact, auto&& run) {
  std::vector<double> all;
  for_each_bias<T>(exact, [&](const posenc::kernels::bias_call<T>& call, const std::vector<T>& scores) {
    if (exact && call.query_first > 100) return;
    std::array<double, 2> d_slopes{1, -1};
    run(posenc::kernels::bias_backward_call<T>{call, d_slopes.data()});
    for (const T score : scores) all.push_back(reference::loaded(score));
    all.insert(all.end(), d_slopes.begin(), d_slopes.end());
  });
  return all;
}

/// Rows without a position included.
template <class T>
std::vector<T> of_phase(auto&& run) {
  std::vector<T> all;
  random_numbers random(6);
  std::vector<std::int64_t> ids{0, 1, -1, posenc::kernels::absent, std::int64_t{1} << 31, -(std::int64_t{1} << 31)};
  for (int n = 0; n < 10; ++n) ids.push_back(random.integer(-(std::int64_t{1} << 31), std::int64_t{1} << 31));
  for (index_t pairs = 1; pairs <= 17; ++pairs)
    for (const bool interleaved : {false, true})
      for (const bool sine_first : {false, true})
        for (const double scale : {1.0, 1.5}) {
          std::vector<std::uint64_t> words;
          for (index_t k = 0; k < 2 * pairs; ++k) words.push_back(random.bits());
          const auto rows = static_cast<index_t>(ids.size());
          std::vector<T> table(static_cast<std::size_t>(rows * 2 * pairs));
          const index_t second = interleaved ? 1 : pairs;
          run(posenc::kernels::phase_call<T>{.high = words.data(),
                                             .low = words.data() + pairs,
                                             .pairs = pairs,
                                             .ids = ids.data(),
                                             .first = 0,
                                             .rows = rows,
                                             .cosine = table.data() + (sine_first ? second : 0),
                                             .sine = table.data() + (sine_first ? 0 : second),
                                             .row = 2 * pairs,
                                             .interleaved = interleaved,
                                             .scale = scale,
                                             .absent_cosine = 1});
          append(all, table);
        }
  return all;
}

/// Several axes, positions and coordinates, what grows; rows that stand nowhere included.
template <class T>
std::vector<T> of_phase_places(auto&& run) {
  std::vector<T> all;
  constexpr index_t rows = 9;
  constexpr double nowhere = std::numeric_limits<double>::quiet_NaN();
  for (index_t pairs = 1; pairs <= 17; ++pairs)
    for (const index_t axes : {1, 2, 4})
      for (const bool shared : {false, true})  // one place for all axes
        for (const bool between : {false, true})
          for (const bool grows : {false, true}) {
            random_numbers random(10);
            std::vector<std::uint64_t> words;
            std::vector<std::int64_t> whole, ids;
            std::vector<double> coordinates, growth;
            for (index_t k = 0; k < 2 * axes * pairs; ++k) words.push_back(k % 11 == 4 ? 0 : random.bits());
            for (index_t k = 0; k < axes * pairs; ++k) whole.push_back(k % 3 == 1 ? 0 : random.integer(-1000, 1000));
            for (index_t k = 0; k < pairs; ++k) growth.push_back(0.01 * random.real<double>());
            for (index_t n = 0; n < axes * rows; ++n) {
              ids.push_back(n % rows == 3 ? posenc::kernels::absent : random.integer(-1000, 1000));
              coordinates.push_back(n % rows == 5 ? nowhere : n % rows == 6 ? 0x1p-70 : 1000 * random.real<double>());
            }
            std::vector<T> table(static_cast<std::size_t>(rows * 2 * pairs));
            run(posenc::kernels::phase_call<T>{.high = words.data(),
                                               .low = words.data() + axes * pairs,
                                               .pairs = pairs,
                                               .ids = between ? nullptr : ids.data(),
                                               .first = 0,
                                               .rows = rows,
                                               .cosine = table.data(),
                                               .sine = table.data() + pairs,
                                               .row = 2 * pairs,
                                               .interleaved = false,
                                               .scale = 1.25,
                                               .absent_cosine = 1,
                                               .axes = axes,
                                               .axis = shared ? 0 : rows,
                                               .coordinates = between ? coordinates.data() : nullptr,
                                               .whole = whole.data(),
                                               .growth = grows ? growth.data() : nullptr,
                                               .centre = 3.5});
            append(all, table);
          }
  return all;
}

/// Sums for each head and for all, on one axis and several, of positions and coordinates.
template <class T>
std::vector<double> of_angle_gradient(auto&& run) {
  std::vector<double> all;
  constexpr index_t time = 5, heads = 3;
  for (index_t pairs = 1; pairs <= 33; ++pairs)
    for (const bool interleaved : {false, true})
      for (const index_t axes : {1, 3})
        for (const bool by_head : {false, true})
          for (const bool between : {false, true}) {
            const auto y = random_stored<T>(11, time * heads * 2 * pairs), d = random_stored<T>(12, time * heads * 2 * pairs);
            random_numbers random(13);
            std::vector<std::int64_t> ids;
            std::vector<double> coordinates;
            for (index_t n = 0; n < axes * time; ++n) {
              ids.push_back(n % time == 2 ? posenc::kernels::absent : random.integer(-100'000, 100'000));
              coordinates.push_back(n % time == 1 ? std::numeric_limits<double>::quiet_NaN() : 100 * random.real<double>());
            }
            auto sums = random_vector<double>(14, heads * axes * pairs);
            run(posenc::kernels::angle_gradient_call<T>{.y = y.data(),
                                                        .d = d.data(),
                                                        .time = time,
                                                        .heads = heads,
                                                        .y_time = heads * 2 * pairs,
                                                        .y_head = 2 * pairs,
                                                        .d_time = 2 * pairs,
                                                        .d_head = time * 2 * pairs,
                                                        .pairs = pairs,
                                                        .distance = pairs,
                                                        .interleaved = interleaved,
                                                        .ids = ids.data(),
                                                        .first = 0,
                                                        .coordinates = between ? coordinates.data() : nullptr,
                                                        .axes = axes,
                                                        .axis = time,
                                                        .sums = sums.data(),
                                                        .sum_axis = pairs,
                                                        .sum_head = by_head ? axes * pairs : 0});
            append(all, sums);
          }
  return all;
}

/// test(call, scores): values of distances and of keys, clipped or not, in one run and in several, from ranges and ids, with and without a
/// mask, a scale and values of the keys.
template <class T>
void for_each_table_bias(auto&& test) {
  using S = compute<T>;
  using posenc::kernels::absent;
  constexpr index_t heads = 2;
  for (const index_t run : {3, 20, 100})
    for (index_t keys = 1; keys <= 81; keys += 5)
      for (const index_t queries : {3, 37})
        for (const bool causal : {false, true})
          for (int way = 0; way < 4; ++way) {  // own values of each query, by key, all distances in the table or not
            const bool own = way == 1, by_key = way == 2, clip = way != 3;
            const index_t count = by_key ? keys : way == 0 ? 200 : 15;
            std::vector<std::int64_t> query_ids, key_ids;
            for (index_t i = 0; i < queries; ++i) query_ids.push_back(own && i == 1 ? absent : 20 + i);
            for (index_t j = 0; j < keys; ++j) key_ids.push_back(j / run % 4 == 2 ? absent : j / run * 17 % 40 + j % run);
            const auto runs = reference::runs_of(key_ids);
            auto scores = random_stored<T>(24, heads * queries * keys);
            const auto values = random_vector<S>(25, heads * queries * count), key_values = random_vector<S>(26, heads * keys);
            test(posenc::kernels::table_bias_call<T>{{.scores = scores.data(),
                                                      .heads = heads,
                                                      .queries = queries,
                                                      .keys = keys,
                                                      .head = queries * keys,
                                                      .query = keys,
                                                      .query_ids = own ? query_ids.data() : nullptr,
                                                      .query_first = 20,
                                                      .key_ids = key_ids.data(),
                                                      .key_first = 0,
                                                      .scale = S(causal ? 1 : 0.75),
                                                      .causal = causal},
                                                     runs.data(),
                                                     static_cast<index_t>(runs.size()),
                                                     values.data(),
                                                     queries * count,
                                                     own ? count : 0,
                                                     by_key ? posenc::kernels::value_of::key : posenc::kernels::value_of::distance,
                                                     way == 0 ? -90 : -7,
                                                     count,
                                                     clip,
                                                     keys % 2 ? nullptr : key_values.data(),
                                                     keys},
                 scores);
          }
}

template <class T>
std::vector<T> of_table_bias(auto&& run) {
  std::vector<T> all;
  for_each_table_bias<T>([&](const auto& call, const std::vector<T>& scores) {
    run(call);
    append(all, scores);
  });
  return all;
}

/// The gradients of the values, of those of the keys, and of the scores.
template <class T>
std::vector<double> of_table_bias_gradient(auto&& run) {
  std::vector<double> all;
  for_each_table_bias<T>([&](const auto& call, const std::vector<T>& scores) {
    std::vector<double> d_values(static_cast<std::size_t>(call.heads * call.queries * call.count)),
        d_keys(static_cast<std::size_t>(call.heads * call.keys));
    run(posenc::kernels::table_bias_gradient_call<T>{call, d_values.data(), call.key_values ? d_keys.data() : nullptr});
    append(all, d_values);
    append(all, d_keys);
    for (const T d : scores) all.push_back(static_cast<double>(reference::loaded(d)));
  });
  return all;
}

/// Every end of a sum and of a tile, with and without a start.
template <class T>
std::vector<T> of_linear(auto&& run) {
  std::vector<T> all;
  for (index_t in = 1; in <= 50; ++in)
    for (const bool biased : {false, true}) {
      const index_t tokens = 1 + in % 7, out = 1 + in % 13;
      const auto x = random_stored<T>(15, tokens * in);
      const auto w = random_vector<compute<T>>(16, out * in), bias = random_vector<compute<T>>(17, out);
      std::vector<T> y(static_cast<std::size_t>(tokens * out));
      run(posenc::kernels::linear_call<T>{.x = x.data(),
                                          .y = y.data(),
                                          .tokens = tokens,
                                          .in = in,
                                          .out = out,
                                          .x_token = in,
                                          .y_token = out,
                                          .w = w.data(),
                                          .w_row = in,
                                          .start = biased ? bias.data() : nullptr});
      append(all, y);
    }
  return all;
}

/// The gradients of the input, then those of weight and bias. run_input and run_weight: the two kernels.
template <class T>
std::vector<compute<T>> of_linear_gradients(auto&& run_input, auto&& run_weight) {
  using S = compute<T>;
  std::vector<S> all;
  for (index_t in = 1; in <= 70; ++in) {
    const index_t tokens = 1 + in % 7, out = 1 + in % 13;
    const auto d_y = random_stored<T>(18, tokens * out), x = random_stored<T>(19, tokens * in);
    const auto w = random_vector<S>(20, out * in);
    auto d_x = random_stored<T>(21, tokens * in);
    auto d_w = random_vector<S>(22, out * in), d_bias = random_vector<S>(23, out);
    run_input(posenc::kernels::linear_input_gradient_call<T>{.d_y = d_y.data(),
                                                             .d_x = d_x.data(),
                                                             .tokens = tokens,
                                                             .in = in,
                                                             .out = out,
                                                             .d_y_token = out,
                                                             .d_x_token = in,
                                                             .w = w.data(),
                                                             .w_row = in,
                                                             .accumulate = in % 2 == 0});
    run_weight(posenc::kernels::linear_weight_gradient_call<T>{.d_y = d_y.data(),
                                                               .x = x.data(),
                                                               .tokens = tokens,
                                                               .in = in,
                                                               .out = out,
                                                               .d_y_token = out,
                                                               .x_token = in,
                                                               .d_w = d_w.data(),
                                                               .d_w_row = in,
                                                               .d_bias = d_bias.data()});
    append(all, reference::loaded(d_x));
    append(all, d_w);
    append(all, d_bias);
  }
  return all;
}

/// A picture of 3 by 15 whose middle row lacks a cell, with filters of 3 by 5, and its gradients.
template <class T>
std::vector<compute<T>> of_convolve(auto&& run, auto&& run_gradient) {
  using S = compute<T>;
  std::vector<S> all;
  constexpr index_t height = 3, width = 15, rows = 3, columns = 5;
  std::vector<std::uint8_t> mask(height * width, 1);
  mask[width + 4] = 0;
  for (index_t channels = 1; channels <= 40; ++channels) {
    const posenc::kernels::convolve_axis axes[3] = {
        {},
        {.in = height, .out = height, .kernel = rows, .before = 1, .in_stride = width * channels, .out_stride = width * channels},
        {.in = width, .out = width, .kernel = columns, .before = 2, .in_stride = channels, .out_stride = channels}};
    auto x = random_stored<T>(1, height * width * channels);
    const auto d = random_stored<T>(2, height * width * channels);
    const auto weight = random_vector<S>(3, rows * columns * channels), bias = random_vector<S>(4, channels);
    auto d_weight = random_vector<S>(5, rows * columns * channels), d_bias = random_vector<S>(6, channels);
    std::vector<S> workspace(static_cast<std::size_t>(posenc::kernels::convolve_workspace<S>(axes, false, channels)));
    run_gradient(posenc::kernels::convolve_weight_gradient_call<T>{.in = x.data(),
                                                                   .d = d.data(),
                                                                   .axes = {axes[0], axes[1], axes[2]},
                                                                   .channels = channels,
                                                                   .d_weight = d_weight.data(),
                                                                   .weight_tap = channels,
                                                                   .d_bias = d_bias.data(),
                                                                   .in_mask = mask.data(),
                                                                   .out_mask = mask.data(),
                                                                   .workspace = workspace.data()});
    run(posenc::kernels::convolve_call<T>{.in = x.data(),
                                          .out = x.data(),
                                          .axes = {axes[0], axes[1], axes[2]},
                                          .channels = channels,
                                          .weight = weight.data(),
                                          .weight_tap = channels,
                                          .bias = bias.data(),
                                          .accumulate = channels % 2 == 0,
                                          .in_mask = mask.data(),
                                          .out_mask = mask.data(),
                                          .workspace = workspace.data()});
    append(all, reference::loaded(x));
    append(all, d_weight);
    append(all, d_bias);
  }
  return all;
}

/// Positions and slopes, scores, and the gradients; with and without keys that have no position. run_*: the kernels.
template <class T>
std::vector<double> of_cope(auto&& run_positions, auto&& run, auto&& run_gradient) {
  using S = compute<T>;
  std::vector<double> all;
  constexpr S last = 9;
  for (index_t keys = 1; keys <= 200; keys += keys < 40 ? 1 : 23)
    for (const bool gaps : {false, true}) {
      auto scores = random_stored<T>(24, keys), d = random_stored<T>(25, keys);
      std::vector<std::int64_t> ids;
      for (index_t j = 0; j < keys; ++j) ids.push_back(j % 5 == 2 ? posenc::kernels::absent : j);
      const std::int64_t* const given = gaps ? ids.data() : nullptr;
      auto z = random_vector<S>(26, 10);
      z.resize(10 + posenc::kernels::cope_padding, z.back());
      std::vector<S> positions(static_cast<std::size_t>(keys)), slopes(positions.size());
      std::vector<double> d_z(11);
      const index_t at_last = run_positions(posenc::kernels::cope_positions_call<T>{.scores = scores.data(),
                                                                                    .keys = keys,
                                                                                    .scale = S(1.7),
                                                                                    .key_ids = given,
                                                                                    .last = last,
                                                                                    .positions = positions.data(),
                                                                                    .slopes = slopes.data()});
      for (const auto& values : {positions, slopes}) all.insert(all.end(), values.begin() + at_last, values.end());
      run(posenc::kernels::cope_call<T>{.scores = scores.data(),
                                        .keys = keys,
                                        .at_last = at_last,
                                        .positions = positions.data(),
                                        .key_ids = given,
                                        .z = z.data(),
                                        .last = last});
      run_gradient(posenc::kernels::cope_gradient_call<T>{.d_scores = d.data(),
                                                          .keys = keys,
                                                          .at_last = at_last,
                                                          .positions = positions.data(),
                                                          .key_ids = given,
                                                          .z = z.data(),
                                                          .last = last,
                                                          .scale = S(1.7),
                                                          .slopes = slopes.data(),
                                                          .d_z = d_z.data(),
                                                          .add_to_scores = keys % 2 == 0});
      all.push_back(static_cast<double>(at_last));
      for (const auto& values : {reference::loaded(scores), reference::loaded(d), slopes})
        all.insert(all.end(), values.begin(), values.end());
      append(all, d_z);
    }
  return all;
}

}  // namespace outputs
