// SPDX-License-Identifier: MIT
#include <posenc/kernels/features.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/features.hpp"
#include "reference/stored.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using posenc::kernels::bfloat16;
using posenc::kernels::feature_angles;
using posenc::kernels::float16;
using posenc::kernels::index_t;
using reference::compute;
using reference::wave;

template <class S>
inline constexpr double bound = sizeof(S) == 4 ? 3.4e-8 : 5e-16;

std::size_t at(index_t n) { return static_cast<std::size_t>(n); }

/// Channels of random speeds, the points they are of, and what the kernel is told of both.
struct fixture {
  index_t dims, channels, rows, gap = 2;
  bool bands;
  std::vector<wave> waves;
  std::vector<double> points, high, low, quarters, covariances;
  std::vector<std::int64_t> axes, reach;

  fixture(index_t dims_, index_t channels_, bool bands_, double fastest = 64, index_t rows_ = 3)
      : dims(dims_), channels(channels_), rows(rows_), bands(bands_), waves(at(channels_)), points(at(rows_ * (dims_ + 2))) {
    random_numbers random(static_cast<std::uint64_t>(dims * 100 + channels));
    for (double& x : points) x = random.real<double>();
    for (index_t n = 0; n < rows * dims * dims; ++n) covariances.push_back(0.1 * random.real<double>() / (fastest * fastest));
    const index_t each = bands ? 1 : dims;
    high.resize(at(each * channels)), low = high, quarters.resize(at(channels)), reach.resize(at(2 * (channels / 8 + 1)));
    for (index_t c = 0; c < channels; ++c) {
      wave& one = waves[at(c)];
      quarters[at(c)] = one.quarter = random.integer(0, 1) ? 0.5 : 0;
      const index_t axis = random.integer(0, dims - 1);
      axes.push_back(axis);
      reach[at(c / 8 * 2)] = c % 8 ? std::min<std::int64_t>(reach[at(c / 8 * 2)], axis) : axis;
      reach[at(c / 8 * 2 + 1)] = c % 8 ? std::max<std::int64_t>(reach[at(c / 8 * 2 + 1)], axis) : axis;
      for (index_t a = 0; a < each; ++a) {
        const double speed = fastest * random.real<double>(), rest = 0x1p-54 * speed * random.real<double>();
        high[at(a * channels + c)] = speed, low[at(a * channels + c)] = rest;
        one.terms.push_back({at(bands ? axis : a), speed, rest});
      }
    }
  }
  feature_angles angles() const {
    return {.points = points.data(),
            .point = dims + gap,
            .axis = 1,
            .rows = rows,
            .dims = dims,
            .high = high.data(),
            .low = low.data(),
            .quarters = quarters.data(),
            .channels = channels,
            .axes = bands ? axes.data() : nullptr,
            .reach = bands ? reach.data() : nullptr,
            .weights = bands ? 0 : channels};
  }
  feature_angles damped() const {
    feature_angles all = angles();
    all.covariances = covariances.data(), all.covariance_point = dims * dims, all.covariance_row = dims, all.covariance_column = 1;
    return all;
  }
  std::vector<double> point(index_t r) const {
    const auto first = points.begin() + r * (dims + gap);
    return {first, first + dims};
  }
  /// exp(-variance / 2) of channel c at row r; bands read the diagonal, and have one speed.
  long double damping(index_t r, index_t c) const {
    const auto first = covariances.begin() + r * dims * dims;
    return std::exp(-waves[at(c)].variance({first, first + dims * dims}, at(dims)) / 2);
  }
};

/// The larger one; what is not a number is the largest.
template <class S>
S worse(S a, S b) {
  return b <= a ? a : b == b ? b : std::numeric_limits<S>::infinity();
}
template <class T>
double number(T stored) {
  return static_cast<double>(reference::loaded(stored));
}

}  // namespace

TEMPLATE_TEST_CASE("features are the sines of all channels, beside coordinates and ones", "[kernels][features][long_double]", float,
                   double) {
  at_every_instruction_set([] {
    for (const bool bands : {false, true})
      for (const bool damped : {false, true})
        for (const index_t dims : {1, 2, 3, 5})
          for (index_t channels = 1; channels <= 35; channels += channels < 19 ? 1 : 8) {
            const fixture of(dims, channels, bands);
            const index_t row = channels + dims + 4;
            std::vector<TestType> out(at(of.rows * row), TestType(7));
            posenc::kernels::features<TestType>({.angles = damped ? of.damped() : of.angles(),
                                                 .out = out.data() + 1,
                                                 .row = row,
                                                 .scale = 0.75,
                                                 .raw = out.data() + channels + 1,
                                                 .ones = out.data() + channels + dims + 1,
                                                 .ones_count = 2});
            double worst = 0;
            bool rest = true;
            for (index_t r = 0; r < of.rows; ++r) {
              const auto x = of.point(r);
              const TestType* got = out.data() + r * row;
              for (index_t c = 0; c < channels; ++c) {
                const long double damping = damped ? of.damping(r, c) : 1;
                const long double off = number(got[c + 1]) - 0.75L * damping * of.waves[at(c)].value(x);
                worst = worse(worst, static_cast<double>(std::abs(off / std::max(1.0L, damping))));
              }
              for (index_t a = 0; a < dims; ++a) rest = rest && got[channels + 1 + a] == static_cast<TestType>(x[at(a)]);
              rest = rest && got[0] == 7 && got[channels + dims + 1] == 1 && got[channels + dims + 2] == 1 && got[row - 1] == 7;
            }
            CAPTURE(bands, damped, dims, channels);
            CHECK(worst <= bound<TestType> * (damped ? 3 : 1));
            CHECK(rest);
          }
  });
}

TEMPLATE_TEST_CASE("features keep their accuracy to a million half turns and far beyond", "[kernels][features][long_double]", float,
                   double) {
  at_every_instruction_set([] {
    for (const bool bands : {false, true})
      for (const double fastest : {0x1p-30, 1.0, 0x1p20, 0x1p30}) {
        const fixture of(3, 240, bands, fastest, 64);
        std::vector<TestType> out(at(of.rows * of.channels));
        posenc::kernels::features<TestType>({.angles = of.angles(), .out = out.data(), .row = of.channels});
        double worst = 0;
        for (index_t r = 0; r < of.rows; ++r)
          for (index_t c = 0; c < of.channels; ++c)
            worst = worse(worst, static_cast<double>(std::abs(number(out[at(r * of.channels + c)]) - of.waves[at(c)].value(of.point(r)))));
        CAPTURE(bands, fastest);
        CHECK(worst <= bound<TestType> + (sizeof(TestType) == 4 ? 7e-16 * (bands ? 1 : 3) * fastest : 0));
      }
  });
}

TEST_CASE("octaves have the features of their bands, whatever stands beside them", "[kernels][features]") {
  at_every_instruction_set([] {
    for (const double base : {1.0, 0.3183098861837907, -0.75})
      for (const index_t dims : {1, 2, 3, 9})
        for (index_t channels = 1; channels <= 70; channels += channels < 35 ? 1 : 5) {
          fixture of(dims, channels, true);
          std::vector<std::int32_t> octaves(at(3 * channels));
          random_numbers random(static_cast<std::uint64_t>(channels));
          for (index_t c = 0; c < channels; ++c) {
            octaves[at(c)] = static_cast<std::int32_t>(c == 0 ? 31 : random.integer(0, 20));
            octaves[at(channels + c)] = static_cast<std::int32_t>(of.axes[at(c)]);
            octaves[at(2 * channels + c)] = of.quarters[at(c)] > 0 ? 1 << 30 : 0;
            of.high[at(c)] = std::ldexp(base, octaves[at(c)]), of.low[at(c)] = 0;
            of.waves[at(c)].terms = {{at(of.axes[at(c)]), of.high[at(c)], 0}};
          }
          feature_angles angles = of.angles();
          angles.octaves = octaves.data(), angles.octave_base = base;
          for (const double strange : {0.25, 1e40, std::numeric_limits<double>::infinity()}) {
            of.points[at(of.dims + of.gap)] = strange;  // row 1: all of it is then taken from the bands
            std::vector<float> out(at(of.rows * channels)), bands(at(of.rows * channels));
            posenc::kernels::features<float>({.angles = angles, .out = out.data(), .row = channels, .scale = 0.75});
            posenc::kernels::features<float>({.angles = of.angles(), .out = bands.data(), .row = channels, .scale = 0.75});
            double worst = 0;
            bool same = true;
            for (index_t r = 0; r < of.rows; ++r)
              for (index_t c = 0; c < channels; ++c) {
                const float got = out[at(r * channels + c)], band = bands[at(r * channels + c)];
                if (r == 1 && strange > 1) {
                  same = same && (got == band || (std::isnan(got) && std::isnan(band)));
                } else {
                  const double reach = std::abs(of.high[at(c)]);
                  const double off = static_cast<double>(std::abs(number(got) - 0.75L * of.waves[at(c)].value(of.point(r))));
                  worst = worse(worst, std::isnan(off) ? 1 : off - 7e-16 * reach);
                }
              }
            CAPTURE(base, dims, channels, strange);
            CHECK(worst <= 1e-7);
            CHECK(same);
          }
        }
  });
}

TEMPLATE_TEST_CASE("features in 16 bits are those in float, rounded", "[kernels][features]", bfloat16, float16) {
  at_every_instruction_set([] {
    for (index_t channels = 1; channels <= 33; ++channels) {
      const fixture of(2, channels, channels % 2 == 0);
      std::vector<float> wide(at(of.rows * channels));
      std::vector<TestType> out(at(of.rows * channels));
      posenc::kernels::features<float>({.angles = of.angles(), .out = wide.data(), .row = channels});
      posenc::kernels::features<TestType>({.angles = of.angles(), .out = out.data(), .row = channels});
      CHECK(reference::loaded(out) == reference::loaded(reference::stored<TestType>(wide)));
    }
  });
}

TEMPLATE_TEST_CASE("coordinates that are no numbers have features that are none, others have numbers", "[kernels][features]", float,
                   double) {
  at_every_instruction_set([] {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
    for (const bool bands : {false, true})
      for (const double strange : {nan, infinity, -infinity, 1e300, -1e30, 0x1p60, -0x1p52, 5e-324}) {
        fixture of(3, 30, bands);
        of.points[1] = strange;
        std::vector<TestType> out(at(of.rows * of.channels));
        posenc::kernels::features<TestType>({.angles = of.angles(), .out = out.data(), .row = of.channels});
        for (index_t c = 0; c < of.channels; ++c) {
          CAPTURE(bands, strange, c);
          const bool read = !bands || of.axes[at(c)] == 1;
          if (read && !(std::abs(strange) < infinity)) CHECK(std::isnan(out[at(c)]));
          else CHECK(std::abs(out[at(c)]) <= 1);
        }
      }
  });
}

TEST_CASE("variances without bounds leave zeros, and what is no number stays", "[kernels][features]") {
  at_every_instruction_set([] {
    for (const bool bands : {false, true})
      for (const double variance : {1e300, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
        fixture of(1, 9, bands, 64, 1);
        of.covariances[0] = variance;
        std::vector<double> out(9);
        posenc::kernels::features<double>({.angles = of.damped(), .out = out.data(), .row = 9});
        for (const double value : out) CHECK((std::isnan(variance) ? std::isnan(value) : value == 0));
      }
  });
}

TEMPLATE_TEST_CASE("the gradients at points and covariances are those of the formula", "[kernels][features]", float, double) {
  at_every_instruction_set([] {
    for (const bool bands : {false, true})
      for (const bool damped : {false, true})
        for (const index_t dims : {1, 3})
          for (const index_t channels : {1, 7, 8, 13, 30}) {
            const fixture of(dims, channels, bands, 4);
            const index_t row = channels + dims, entries = !damped ? 0 : bands ? dims : dims * dims;
            const auto d = random_vector<TestType>(5, of.rows * row);
            std::vector<double> d_points(at(of.rows * dims), 7), d_covariances(at(of.rows * entries), 7),
                spare(at(8 * (dims + entries)), 7);
            posenc::kernels::features_gradient<TestType>({.angles = damped ? of.damped() : of.angles(),
                                                          .d = d.data(),
                                                          .row = row,
                                                          .d_points = d_points.data(),
                                                          .spare = spare.data(),
                                                          .scale = 0.75,
                                                          .d_raw = d.data() + channels,
                                                          .d_covariances = damped ? d_covariances.data() : nullptr});
            long double worst = 0;
            for (index_t r = 0; r < of.rows; ++r) {
              const auto x = of.point(r);
              const auto sum = [&](auto&& each) {
                long double all = 0;
                for (index_t c = 0; c < channels; ++c) {
                  const long double weight = 0.75L * (damped ? of.damping(r, c) : 1) * static_cast<long double>(d[at(r * row + c)]);
                  all += weight * each(of.waves[at(c)]);
                }
                return all;
              };
              for (index_t i = 0; i < dims; ++i) {
                const long double direct = static_cast<long double>(d[at(r * row + channels + i)]);
                const auto derivative = [&](const wave& one) { return one.derivative(x, at(i)); };
                worst = worse(worst, std::abs(d_points[at(r * dims + i)] - direct - sum(derivative)));
                for (index_t j = bands ? i : 0; damped && j < (bands ? i + 1 : dims); ++j) {
                  const auto bend = [&](const wave& one) {
                    return -0.5L * one.value(x) * wave::pi * one.speed(at(i)) * wave::pi * one.speed(at(j));
                  };
                  const index_t entry = bands ? r * dims + i : (r * dims + i) * dims + j;
                  worst = worse(worst, std::abs(d_covariances[at(entry)] - sum(bend)));
                }
              }
            }
            CAPTURE(bands, damped, dims, channels);
            CHECK(static_cast<double>(worst) <= 1e-11);
          }
  });
}

TEMPLATE_TEST_CASE("the gradient at a matrix is added, and skips points without a number", "[kernels][features]", float, double) {
  at_every_instruction_set([] {
    for (const index_t channels : {1, 8, 13}) {
      fixture of(3, channels, false, 4, 5);
      of.points[at(2 * (of.dims + of.gap) + 1)] = std::numeric_limits<double>::quiet_NaN();
      const auto d = random_vector<TestType>(5, of.rows * channels);
      std::vector<double> sums(at(of.dims * channels), 2);
      posenc::kernels::features_weight_gradient<TestType>(
          {.angles = of.angles(), .d = d.data(), .row = channels, .d_weights = sums.data(), .scale = 0.75});
      long double worst = 0;
      for (index_t a = 0; a < of.dims; ++a)
        for (index_t c = 0; c < channels; ++c) {
          long double sum = 2;
          for (const index_t r : {0, 1, 3, 4}) {
            const auto x = of.point(r);
            sum += 0.75L * static_cast<long double>(d[at(r * channels + c)]) * std::cos(of.waves[at(c)].angle(x)) * wave::pi * x[at(a)];
          }
          worst = worse(worst, std::abs(sums[at(a * channels + c)] - sum));
        }
      CAPTURE(channels);
      CHECK(static_cast<double>(worst) <= 1e-12);
    }
  });
}
