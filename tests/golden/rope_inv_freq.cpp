// SPDX-License-Identifier: MIT
/// \file  Frequencies of every schedule, against the truth and against systems that form them in float.
#include <posenc/rope.hpp>
#include <posenc/rope/schedule.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"
#include "golden/tables.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::load, golden::npy, golden::relative, golden::table_bound;
using schedule::longrope, schedule::longrope_list, schedule::yarn;

TEMPLATE_TEST_CASE("rope's frequencies are the nearest doubles to base^(-2k/dim)", "[golden][rope_inv_freq][rope]", float, double) {
  struct golden_case {
    std::string folder;
    index_t dim;
    double base;
    double reference_error;  ///< relative, of a system that forms them in float
  };
  for (const auto& c : {golden_case{"rope_inv_freq/default_d128_1e4/", 128, 10000, 6.98e-8},
                        golden_case{"rope_inv_freq/default_d64_5e5/", 64, 500000, 8.24e-8}}) {
    INFO(c.folder);
    const rope<TestType> encoder({.pairing = pairing::halves, .dim = c.dim}, {.base = c.base});
    const auto speeds = golden::radians(encoder.inspect().frequencies);
    CHECK(absolute(speeds, load<double>(c.folder + "inv_freq_f64")) <= 0);
    CHECK(relative(speeds, load<float>(c.folder + "inv_freq")) <= c.reference_error);
    CHECK(encoder.inspect().attention_factor == load<double>(c.folder + "attention_factor").values.at(0));
  }
}

npy<double> radians(const schedule::scaled_series& series) { return golden::radians(frequencies::from_radians("test", series.radians)); }

/// The largest attention factor is 1.35: two roundings of it.
constexpr double attention_bound = 4.5e-16;

TEST_CASE("the frequencies of schedules are the nearest doubles to their formulas", "[golden][rope_inv_freq][schedule]") {
  struct golden_case {
    std::string folder, name;
    index_t dim;
    double base;
    frequency_schedule rule;
    double reference_error;  ///< relative, of a system that forms them in float
    std::string attention = "attention_factor";
  };
  for (const auto& c :
       {golden_case{"linear_x4/", "inv_freq", 64, 10000, schedule::linear{.factor = 4}, 6.98e-8},
        {"llama31_8b/", "inv_freq", 128, 500000, schedule::llama3{.factor = 8}, 3.22e-7},
        {"llama32_1b/", "inv_freq", 64, 500000, schedule::llama3{.factor = 32}, 2.14e-7},
        {"llama3_torchtune/", "theta", 64, 500000, schedule::llama3{.factor = 8}, 2.65e-7, ""},
        {"proportional/", "inv_freq", 64, 1000000, schedule::proportional{.fraction = 0.25}, 6.98e-8, ""},
        {"yarn_default_x4/", "inv_freq", 128, 10000, yarn{.factor = 4, .original_length = 4096}, 1.29e-7},
        {"yarn_attnfactor_beta/", "inv_freq", 64, 1000000,
         yarn{.factor = 8, .original_length = 32768, .beta_fast = 24, .beta_slow = 2, .attention_factor = 0.85}, 8.07e-8},
        {"yarn_deepseek_v2/", "inv_freq", 64, 10000, yarn{.factor = 40, .original_length = 4096, .mscale = 0.707, .mscale_all_dim = 0.707},
         1.27e-7},
        {"yarn_mscale_unequal/", "inv_freq", 64, 10000, yarn{.factor = 40, .original_length = 4096, .mscale = 1, .mscale_all_dim = 0.8},
         1.27e-7},
        {"yarn_truncate_false/", "inv_freq", 64, 150000, yarn{.factor = 32, .original_length = 4096, .truncate = false}, 1.35e-7},
        {"yarn_gpt_oss/", "inv_freq", 64, 150000, yarn{.factor = 32, .original_length = 4096, .truncate = false}, 1.35e-7,
         "concentration"}}) {
    const std::string folder = "rope_inv_freq/" + c.folder;
    INFO(folder);
    const auto series = scheduled_series(c.rule, "test", c.dim, c.base, 1);
    CHECK(absolute(radians(series), load<double>(folder + c.name + "_f64")) <= 0);
    CHECK(relative(radians(series), load<float>(folder + c.name)) <= c.reference_error);
    const double attention = c.attention.empty() ? 1 : load<double>(folder + c.attention).values.at(0);
    CHECK(std::abs(series.attention_factor - attention) <= attention_bound);
  }
}

TEST_CASE("the frequencies of schedules that read the length", "[golden][rope_inv_freq][schedule]") {
  struct golden_case {
    std::string folder;
    index_t dim;
    frequency_schedule rule;
    std::vector<index_t> lengths;         ///< 1: the system is told none
    std::vector<double> reference_error;  ///< relative, of a system that forms them in float
  };
  const longrope phi3{
      .short_factors = {1.0165, 1.0238, 1.0374, 1.0695, 1.0804, 1.0865, 1.0964, 1.1221, 1.1561, 1.1574, 1.1661, 1.1682,
                        1.1819, 1.1871, 1.1978, 1.2419, 1.2455, 1.254,  1.2721, 1.2756, 1.2911, 1.3057, 1.3065, 1.3071,
                        1.3096, 1.3172, 1.3229, 1.3247, 1.3298, 1.3558, 1.3678, 1.3741, 1.3848, 1.4349, 1.4502, 1.4518,
                        1.4521, 1.466,  1.4731, 1.4966, 1.5039, 1.5116, 1.5504, 1.5692, 1.5703, 1.577,  1.582,  1.5884},
      .long_factors = {4.2537,  6.423,   7.1681,  7.3252,  9.8537,  12.0479, 12.0862, 12.9125, 13.7572, 16.4351, 17.2232, 18.611,
                       19.7706, 21.0025, 21.4117, 24.1059, 24.986,  25.9443, 26.5252, 26.853,  28.7837, 30.3853, 31.1529, 31.4781,
                       31.8469, 34.1737, 36.0132, 36.4059, 37.2093, 38.3579, 39.0217, 39.7885, 40.4885, 41.1089, 41.3008, 41.8586,
                       41.9318, 43.9851, 46.7583, 49.0393, 49.932,  51.1049, 51.865,  53.1825, 53.5814, 53.6422, 55.5288, 58.0787},
      .original_length = 4096,
      .factor = 32,
      .list = longrope_list::by_length};
  for (const auto& c : {golden_case{"dynamic_multi/",
                                    128,
                                    schedule::dynamic_ntk{.factor = 2, .original_length = 2048},
                                    {1, 1024, 2048, 2049, 4096, 16384},
                                    {6.98e-8, 6.98e-8, 6.98e-8, 7.80e-8, 8.64e-8, 9.82e-8}},
                        {"longrope_phi3/", 96, phi3, {1, 4096, 4097, 100000}, {2.72e-7, 2.72e-7, 2.58e-7, 2.58e-7}}}) {
    const std::string folder = "rope_inv_freq/" + c.folder;
    const auto attention = load<double>(folder + "attention_factor").values;
    CHECK(depends_on_length(c.rule));
    for (std::size_t n = 0; n < c.lengths.size(); ++n) {
      INFO(folder << " length " << c.lengths[n]);
      const auto series = scheduled_series(c.rule, "test", c.dim, 10000, c.lengths[n]);
      CHECK(absolute(radians(series), load<double>(folder + "inv_freq_" + std::to_string(n) + "_f64")) <= 0);
      CHECK(relative(radians(series), load<float>(folder + "inv_freq_" + std::to_string(n))) <= c.reference_error[n]);
      CHECK(std::abs(series.attention_factor - attention.at(n)) <= attention_bound);
    }
  }
}

/// Where the truth is the system's own code run in double: its frequencies and the product with a position are each rounded, by up to
/// 2^-53 of the angle, which is at most the position.
constexpr double error_of_angles(index_t positions) { return static_cast<double>(positions - 1) * 0x1p-52; }

template <class S>
rotary_table<S> table_of(const schedule::scaled_series& series, const positions& at, double factor) {
  return rotary_table<S>("test", frequencies::from_radians("test", series.radians), at, factor);
}

TEMPLATE_TEST_CASE("cosines and sines of DeepSeek V3", "[golden][rope_inv_freq][schedule]", float, double) {
  const std::string folder = "rope_inv_freq/yarn_deepseek_v3_freqs_cis/";
  const yarn rule{.factor = 40, .original_length = 4096, .mscale = 1, .mscale_all_dim = 1};
  const auto series = scheduled_series(rule, "test", 64, 10000, 8192);
  CHECK(absolute(radians(series), load<double>(folder + "inv_freq_f64")) <= 0);
  CHECK(series.attention_factor == 1);
  CHECK(std::abs(rule.score_factor() - load<double>(folder + "softmax_scale_multiplier").values.at(0)) <= attention_bound);
  const auto rows = load<std::int64_t>(folder + "rows");
  const auto table = table_of<TestType>(series, positions::ids(golden::view<1>(rows)), series.attention_factor);
  CHECK(absolute(golden::cosines(table), load<double>(folder + "cos_f64")) <= table_bound<TestType>);
  CHECK(absolute(golden::sines(table), load<double>(folder + "sin_f64")) <= table_bound<TestType>);
  CHECK(absolute(golden::cosines(table), load<float>(folder + "cos")) <= table_bound<TestType> + 1.52e-4);
  CHECK(absolute(golden::sines(table), load<float>(folder + "sin")) <= table_bound<TestType> + 1.42e-4);
}

TEMPLATE_TEST_CASE("cosines and sines of YaRN's authors", "[golden][rope_inv_freq][schedule]", float, double) {
  const std::string folder = "rope_inv_freq/yarn_original/";
  const auto series = scheduled_series(yarn{.factor = 16, .original_length = 4096}, "test", 64, 10000, 1);
  CHECK(relative(radians(series), load<double>(folder + "inv_freq_f64")) <= 3 * 0x1p-53);  // of the truth's own arithmetic
  CHECK(relative(radians(series), load<float>(folder + "inv_freq")) <= 1.11e-7);
  CHECK(std::abs(series.attention_factor - load<double>(folder + "mscale").values.at(0)) <= attention_bound);
  const auto first_half = [](const auto& wide) {  // both halves are the same
    auto half = std::remove_cvref_t<decltype(wide)>::filled({wide.shape[0], wide.shape[1] / 2}, 0);
    for (index_t t = 0; t < wide.shape[0]; ++t)
      for (index_t k = 0; k < wide.shape[1] / 2; ++k) golden::view<2>(half)(t, k) = golden::view<2>(wide)(t, k);
    return half;
  };
  const auto table = table_of<TestType>(series, positions::range(40), series.attention_factor);
  const double bound = 2 * (table_bound<TestType> + error_of_angles(40));  // 2: the next power of two above 1.28
  CHECK(absolute(golden::cosines(table), first_half(load<double>(folder + "cos_f64"))) <= bound);
  CHECK(absolute(golden::sines(table), first_half(load<double>(folder + "sin_f64"))) <= bound);
  CHECK(absolute(golden::cosines(table), first_half(load<float>(folder + "cos"))) <= bound + 1.36e-6);
  CHECK(absolute(golden::sines(table), first_half(load<float>(folder + "sin"))) <= bound + 1.23e-6);
}

TEMPLATE_TEST_CASE("the cache of torchtune's Llama 3", "[golden][rope_inv_freq][schedule]", float, double) {
  const std::string folder = "rope_inv_freq/llama3_torchtune/";
  const auto series = scheduled_series(schedule::llama3{.factor = 8}, "test", 64, 500000, 64);
  const auto part = [](const auto& cache, index_t which) {
    auto one = std::remove_cvref_t<decltype(cache)>::filled({cache.shape[0], cache.shape[1]}, 0);
    for (index_t t = 0; t < cache.shape[0]; ++t)
      for (index_t k = 0; k < cache.shape[1]; ++k) golden::view<2>(one)(t, k) = golden::view<3>(cache)(t, k, which);
    return one;
  };
  const auto truth = load<double>(folder + "cache_f64");
  const auto cache = load<float>(folder + "cache");
  const auto table = table_of<TestType>(series, positions::range(64), 1);
  const double bound = table_bound<TestType> + error_of_angles(64);
  CHECK(absolute(golden::cosines(table), part(truth, 0)) <= bound);
  CHECK(absolute(golden::sines(table), part(truth, 1)) <= bound);
  CHECK(absolute(golden::cosines(table), part(cache, 0)) <= bound + 4.21e-6);
  CHECK(absolute(golden::sines(table), part(cache, 1)) <= bound + 4.21e-6);
}

}  // namespace
