// SPDX-License-Identifier: MIT
#include <posenc/kernels/scale.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "reference/difference.hpp"
#include "reference/rounded.hpp"
#include "reference/stored.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using posenc::kernels::scale_call;
using posenc::kernels::scale_gradient_call;
using reference::compute;
using reference::loaded;
using reference::random_stored;

// Two rows of three tokens with two heads, with room around every head; the second token of the second row has no position.
constexpr index_t batch = 2, tokens = 3, heads = 2;
const double nothing = std::numeric_limits<double>::quiet_NaN();
const std::vector<double> factors{1, 1.7, 0.3, -2.25, nothing, 1e-3};

struct layout {
  index_t batch, time, head, size;
};
layout around(index_t channels) { return {tokens * heads * (channels + 3) + 2, heads * (channels + 3), channels + 3, 400 + 12 * channels}; }

template <class T>
scale_call<T> call_of(const std::vector<T>& in, std::vector<T>& out, index_t channels, const compute<T>* head_factors, bool shared) {
  const layout l = around(channels);
  return {in.data() + 1,  out.data() + 1,      batch,       tokens, heads, channels, l.batch, l.time, l.head, l.batch, l.time, l.head,
          factors.data(), shared ? 0 : tokens, head_factors};
}

template <class T>
void for_each_problem(auto&& test) {
  using S = compute<T>;
  static const std::array<S, heads> own{S(0.7), S(-1.5)};
  for (index_t channels = 0; channels <= 37; ++channels)
    for (const S* head_factors : {static_cast<const S*>(nullptr), own.data()})
      for (const bool shared : {false, true}) {
        INFO(channels << " channels" << (head_factors ? ", factors of heads" : "") << (shared ? ", shared" : ""));
        test(channels, head_factors, shared);
      }
}

}  // namespace

TEMPLATE_TEST_CASE("the scale kernel multiplies every head by its token's factor and touches nothing else", "[kernels][scale]", float,
                   double, bfloat16, float16) {
  using S = compute<TestType>;
  at_every_instruction_set([] {
    for_each_problem<TestType>([](index_t channels, const S* head_factors, bool shared) {
      const layout l = around(channels);
      const auto in = random_stored<TestType>(1, l.size);
      auto got = random_stored<TestType>(2, l.size), expected = got, in_place = in;
      for (index_t b = 0; b < batch; ++b)
        for (index_t t = 0; t < tokens; ++t)
          for (index_t h = 0; h < heads; ++h) {
            const double token = factors[static_cast<std::size_t>((shared ? 0 : b * tokens) + t)];
            const double exact = token * (head_factors ? static_cast<double>(head_factors[h]) : 1.0);
            for (index_t c = 0; c < channels; ++c) {
              const auto n = static_cast<std::size_t>(1 + b * l.batch + t * l.time + h * l.head + c);
              expected[n] = std::isnan(token) ? in[n] : reference::stored<TestType>(reference::times(loaded(in[n]), static_cast<S>(exact)));
            }
          }
      posenc::kernels::scale(call_of(in, got, channels, head_factors, shared));
      CHECK(reference::bit_difference(loaded(got), loaded(expected)) == "");
      posenc::kernels::scale(call_of(in_place, in_place, channels, head_factors, shared));
      bool same = true;
      for (index_t b = 0; b < batch; ++b)
        for (index_t n = 0; n < tokens * l.time; ++n) {
          const auto at = static_cast<std::size_t>(1 + b * l.batch + n);
          const bool written = n % l.head < channels;
          same = same && reference::same_bits(loaded(in_place[at]), written ? loaded(expected[at]) : loaded(in[at]));
        }
      CHECK(same);
    });
  });
}

TEMPLATE_TEST_CASE("the gradient kernel of scales sums products per head, the same at every instruction set", "[kernels][scale]", float,
                   double, bfloat16, float16) {
  std::vector<std::vector<double>> all;  // of every instruction set
  at_every_instruction_set([&] {
    std::vector<double> found;
    for (index_t channels = 0; channels <= 37; ++channels)
      for (const bool shared : {false, true}) {
        const layout l = around(channels);
        const auto y = random_stored<TestType>(3, l.size), d = random_stored<TestType>(4, l.size);
        std::vector<double> sums{0.5, -2}, expected = sums;
        double magnitude = 3;
        for (index_t b = 0; b < batch; ++b)
          for (index_t t = 0; t < tokens; ++t) {
            if (std::isnan(factors[static_cast<std::size_t>((shared ? 0 : b * tokens) + t)])) continue;
            for (index_t h = 0; h < heads; ++h)
              for (index_t c = 0; c < channels; ++c) {
                const auto n = static_cast<std::size_t>(b * l.batch + t * l.time + h * l.head + c);
                const double product = static_cast<double>(loaded(y[n + 1])) * static_cast<double>(loaded(d[n]));
                expected[static_cast<std::size_t>(h)] += product, magnitude += std::abs(product);
              }
          }
        posenc::kernels::scale_gradient<TestType>({y.data() + 1, d.data(), batch, tokens, heads, channels, l.batch, l.time, l.head, l.batch,
                                                   l.time, l.head, factors.data(), shared ? 0 : tokens, sums.data()});
        INFO(channels << " channels" << (shared ? ", shared" : ""));
        CHECK(reference::difference(sums, expected, magnitude * 1e-14) == "");
        found.insert(found.end(), sums.begin(), sums.end());
      }
    all.push_back(found);
  });
  for (const auto& one : all) CHECK(reference::bit_difference(one, all[0]) == "");
}
