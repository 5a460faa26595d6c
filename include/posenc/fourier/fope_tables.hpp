// SPDX-License-Identifier: MIT
/// \file  The tables of Fourier position embedding: rows of waves times matrices of coefficients; and the gradient of the latter.
#pragma once

#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/executor.hpp>
#include <posenc/frequencies.hpp>
#include <posenc/heads.hpp>  // head_view
#include <posenc/kernels/linear.hpp>
#include <posenc/kernels/phase.hpp>
#include <posenc/positions.hpp>
#include <posenc/rope/rotary_descriptor.hpp>
#include <posenc/rope/rotary_table.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// What is mixed, and how: `sines` and `cosines` are `[heads, waves, mixed]`.
template <class S>
struct fope_mixture {
  const frequencies& waves;
  index_t pairs, mixed;  ///< of a row; behind those that are mixed stands the padding
  index_t heads;         ///< 0: the same for all
  const S *sines, *cosines;
  S padded_sine, padded_cosine;
  double factor;

  index_t matrices() const noexcept { return std::max<index_t>(heads, 1); }
};

constexpr index_t fope_tokens_together = 64;

/// [cosines | sines] of `count` tokens from (b, t) on.
template <class S, class At>
void fope_waves(const frequencies& speeds, const At& at, index_t b, index_t t, index_t count, S* rows) {
  const index_t waves = speeds.count();
  kernels::phase_call<S> call{.high = speeds.high(),
                              .low = speeds.low(),
                              .pairs = waves,
                              .ids = nullptr,
                              .first = 0,
                              .rows = count,
                              .cosine = rows,
                              .sine = rows + waves,
                              .row = 2 * waves,
                              .interleaved = false,
                              .scale = 1,
                              .absent_cosine = S(1),
                              .whole = speeds.whole()};
  if constexpr (std::same_as<At, positions>) {
    const position_row ids = at.row(b).from(t);
    call.ids = ids.ids, call.first = ids.first;
  } else {
    call.coordinates = at.row(b) + t;
  }
  kernels::phase<S>(call);
}

template <class At>
bool stands_somewhere(const At& at, index_t b, index_t t) noexcept {
  if constexpr (std::same_as<At, positions>) return at(b, t) != no_position;
  else return at(b, t) == at(b, t);  // else NaN
}

/// The table of `at`. A token without a position does not turn, whatever the padding.
template <class S, class At>
rotary_table<S> fope_table(std::string_view who, const fope_mixture<S>& mix, const At& at, const executor& run) {
  if constexpr (!std::same_as<At, positions>) require_turns(who, mix.waves, at);
  const index_t tokens = std::max<index_t>(at.batch(), 1) * at.time(), waves = mix.waves.count(), width = 2 * mix.pairs;
  const index_t matrices = mix.matrices(), row = matrices * width;
  return rotary_table<S>::of_mixtures(who, at.batch(), at.time(), mix.heads, mix.pairs, mix.factor, [&](S* table) {
    const auto products = static_cast<double>(matrices * mix.mixed * waves);
    const index_t parts = run.parts(
        tokens, static_cast<double>(tokens) * (static_cast<double>(waves) * nanoseconds_per_angle + products * nanoseconds_per_value<S>));
    std::vector<S> scratch(static_cast<std::size_t>(parts * fope_tokens_together * 2 * waves));
    run.split(tokens, parts, [&](index_t part, index_t from, index_t to) {
      S* const rows = scratch.data() + part * fope_tokens_together * 2 * waves;
      while (from < to) {
        const index_t b = from / at.time(), t = from % at.time(), count = std::min({fope_tokens_together, to - from, at.time() - t});
        fope_waves(mix.waves, at, b, t, count, rows);
        for (index_t h = 0; h < matrices; ++h)
          for (const bool sine : {false, true})
            kernels::linear_input_gradient<S, S>({.d_y = rows + (sine ? waves : 0),
                                                  .d_x = table + from * row + h * width + (sine ? mix.pairs : 0),
                                                  .tokens = count,
                                                  .in = mix.mixed,
                                                  .out = waves,
                                                  .d_y_token = 2 * waves,
                                                  .d_x_token = row,
                                                  .w = (sine ? mix.sines : mix.cosines) + h * waves * mix.mixed,
                                                  .w_row = mix.mixed,
                                                  .accumulate = false});
        for (index_t n = 0; n < count; ++n)
          for (index_t h = 0; h < matrices; ++h) {
            S* const cosines = table + (from + n) * row + h * width;
            const bool turns = stands_somewhere(at, b, t + n);
            const index_t kept = turns ? mix.mixed : 0;
            std::fill(cosines + kept, cosines + mix.pairs, turns ? mix.padded_cosine : S(1));
            std::fill(cosines + mix.pairs + kept, cosines + width, turns ? mix.padded_sine : S(0));
          }
        from += count;
      }
    });
  });
}

/// Sums over tokens and heads of wave times gradient, [cosines, sines][heads, mixed, waves], for `fope_coefficient_sums`.
struct fope_sums {
  std::vector<double> cosines, sines;
};

/// How the gradient of the mixtures is found: from what the rotation wrote, which has to be undone, or from what it read.
enum class fope_from { written, read };

/// The channels of pair k, from the first one that is paired on.
inline std::array<index_t, 2> channels_of_pair(const rotary_descriptor& form, fope_from side, index_t k) noexcept {
  const bool neighbours =
      form.pairing == pairing::interleaved || (form.pairing == pairing::interleaved_to_halves && side == fope_from::read);
  if (neighbours) return {2 * k, 2 * k + 1};
  const index_t half = form.dim / 2 / form.blocks, first = k / half * 2 * half + k % half;
  return {first, first + half};
}

/// With x = (a, b) and y = (c + i s) x as complex numbers, the gradient of c + i s is conj(x) d: x itself, or y / (c + i s). Everything in
/// double; each sum in the order of batch rows, tokens, then heads, whatever the threads. A pair that was multiplied by 0 tells nothing of
/// x, so that `written` leaves it out.
template <class T, class S, class At>
fope_sums fope_coefficient_sums(const fope_mixture<S>& mix, const rotary_descriptor& form, const head_view<T>& d,
                                const head_view<const T>& x, fope_from side, const At& at, const rotary_table<S>& table,
                                neighbours channels, neighbours turning, const executor& run) {
  const index_t waves = mix.waves.count(), matrices = mix.matrices(), together = turning.count / matrices, time = d.time();
  const index_t rows = std::max<index_t>(at.batch(), 1) * time;
  std::vector<double> basis(static_cast<std::size_t>(checked_product("fope", std::array{rows, 2 * waves}, sizeof(double))));
  run.split(rows, run.parts(rows, 2 * nanoseconds_per_angle * static_cast<double>(rows * waves)), [&](index_t, index_t from, index_t to) {
    for_each_block(from, to, time, [&](index_t b, index_t batch, index_t t, index_t count) {
      for (const index_t end = b + batch; b < end; ++b) fope_waves(mix.waves, at, b, t, count, basis.data() + (b * time + t) * 2 * waves);
    });
  });

  const auto size = static_cast<std::size_t>(matrices * mix.mixed * waves);
  fope_sums sums{std::vector<double>(size), std::vector<double>(size)};
  constexpr index_t group = 8;  // of pairs, the unit of the work
  const index_t groups = (mix.mixed + group - 1) / group;
  const double cost = static_cast<double>(d.batch() * time) * static_cast<double>(mix.mixed) *
                      (2 * static_cast<double>(turning.count) + static_cast<double>(matrices * waves) * 2 * nanoseconds_per_value<double>);
  const double way = form.rotation == rotation::negative ? -1 : 1;
  const auto number = [](T value) { return static_cast<double>(value); };
  run.split(matrices * groups, run.parts(matrices * groups, cost), [&](index_t, index_t from, index_t to) {
    for (; from < to; ++from) {
      const index_t h = from / groups, pair = from % groups * group, count = std::min(group, mix.mixed - pair);
      for (index_t b = 0; b < d.batch(); ++b)
        for (index_t first = 0; first < time; first += fope_tokens_together) {
          const index_t tokens = std::min(fope_tokens_together, time - first);
          std::array<double, 2 * group * fope_tokens_together> gradients{};
          for (index_t n = 0; n < tokens; ++n) {
            const index_t t = first + n;
            if (!stands_somewhere(at, b, t)) continue;
            const S* const row = table.row(b, t, h) + pair;
            for (index_t m = 0; m < together; ++m)
              for (index_t k = 0; k < count; ++k) {
                const index_t head = turning.first + h * together + m;
                const auto [d_a, d_b] = channels_of_pair(form, fope_from::written, pair + k);
                const auto [x_a, x_b] = channels_of_pair(form, side, pair + k);
                const double da = number(d(b, t, head, channels.first + d_a)), db = number(d(b, t, head, channels.first + d_b));
                const double a = number(x(b, t, head, channels.first + x_a)), c = number(x(b, t, head, channels.first + x_b));
                double along = a * da + c * db, across = a * db - c * da;
                if (side == fope_from::written) {
                  const double cosine = static_cast<double>(row[k]), sine = way * static_cast<double>(row[mix.pairs + k]);
                  const double square = cosine * cosine + sine * sine, scale = square > 0 ? 1 / square : 0;
                  const double turned = (along * sine + across * cosine) * scale;
                  along = (along * cosine - across * sine) * scale;
                  across = turned;
                }
                gradients[static_cast<std::size_t>(2 * group * n + k)] += along;
                gradients[static_cast<std::size_t>(2 * group * n + group + k)] += way * across;
              }
          }
          for (const bool sine : {false, true})
            kernels::linear_weight_gradient<double, double>(
                {.d_y = gradients.data() + (sine ? group : 0),
                 .x = basis.data() + ((at.batch() == 0 ? 0 : b) * time + first) * 2 * waves + (sine ? waves : 0),
                 .tokens = tokens,
                 .in = waves,
                 .out = count,
                 .d_y_token = 2 * group,
                 .x_token = 2 * waves,
                 .d_w = (sine ? sums.sines : sums.cosines).data() + (h * mix.mixed + pair) * waves,
                 .d_w_row = waves});
        }
    }
  });
  return sums;
}

}  // namespace POSENC_NAMESPACE::detail
