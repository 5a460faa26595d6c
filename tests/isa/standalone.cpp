// SPDX-License-Identifier: MIT
/// \file  A program that checks the promised digests by itself, with neither Eigen nor Catch2: for other flags, compilers and processors.
#include <posenc/phase.hpp>

#include "isa/digests.hpp"
#include "isa/outputs.hpp"

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace {

using namespace posenc;

int wrong = 0;

void check(const std::string& what, std::uint64_t got, std::uint64_t expected) {
  wrong += got != expected;
  std::printf("%-6s %s: %016" PRIx64, got == expected ? "same" : "OTHER", what.c_str(), got);
  if (got != expected) std::printf(" instead of %016" PRIx64, expected);
  std::printf("\n");
}

template <class T>
void check_kernels(const std::string& scalar) {
  using promised = outputs::promised<T>;
  const std::string of = std::string(name(current_instruction_set())) + " " + scalar + " ";
  check(of + "add", outputs::digest(outputs::of_add<T>([](const auto& call) { kernels::add(call); })), promised::add);
  check(of + "add_sources", outputs::digest(outputs::of_add_sources<T>([](const auto& call) { kernels::add(call); })),
        promised::add_sources);
  check(of + "add_gradient", outputs::digest(outputs::of_add_gradient<T>([](const auto& call) { kernels::add_gradient(call); })),
        promised::add_gradient);
  check(of + "convolve",
        outputs::digest(outputs::of_convolve<T>([](const auto& call) { kernels::convolve(call); },
                                                [](const auto& call) { kernels::convolve_weight_gradient(call); })),
        promised::convolve);
  check(of + "dot", outputs::digest(outputs::of_dot<T>([](const auto& call) { kernels::dot(call); })), promised::dot);
  check(of + "features", outputs::digest(outputs::of_features<T>([](const auto& call) { kernels::features(call); })), promised::features);
  check(of + "features_gradients",
        outputs::digest(outputs::of_features_gradients<T>([](const auto& call) { kernels::features_gradient(call); },
                                                          [](const auto& call) { kernels::features_weight_gradient(call); })),
        promised::features_gradients);
  check(of + "add_product", outputs::digest(outputs::of_add_product<T>([](const auto& call) { kernels::add_product(call); })),
        promised::add_product);
  check(of + "gelu",
        outputs::digest(
            outputs::of_gelu<T>([](const auto& call) { kernels::gelu(call); }, [](const auto& call) { kernels::gelu_gradient(call); })),
        promised::gelu);
  check(of + "cope",
        outputs::digest(outputs::of_cope<T>([](const auto& call) { return kernels::cope_positions(call); },
                                            [](const auto& call) { kernels::cope(call); },
                                            [](const auto& call) { kernels::cope_gradient(call); })),
        promised::cope);
  check(of + "log_sigmoid", outputs::digest(outputs::of_log_sigmoid<T>([](const auto& call) { kernels::log_sigmoid(call); })),
        promised::log_sigmoid);
  check(of + "log_sigmoid_gradient",
        outputs::digest(outputs::of_log_sigmoid_gradient<T>([](const auto& call) { kernels::log_sigmoid_gradient(call); })),
        promised::log_sigmoid_gradient);
  check(of + "forgetting", outputs::digest(outputs::of_forgetting<T>([](const auto& call) { kernels::forgetting(call); })),
        promised::forgetting);
  check(of + "forgetting_gradient",
        outputs::digest(outputs::of_forgetting_gradient<T>([](const auto& call) { kernels::forgetting_gradient(call); })),
        promised::forgetting_gradient);
  check(of + "widen", outputs::digest(outputs::of_widen<T>([](const auto& call) { kernels::widen(call); })), promised::widen);
  check(of + "rotate", outputs::digest(outputs::of_rotate<T>([](const auto& call) { kernels::rotate(call); })), promised::rotate);
  check(of + "rotate_forms", outputs::digest(outputs::of_rotate_forms<T>([](const auto& call) { kernels::rotate(call); })),
        promised::rotate_forms);
  check(of + "bias", outputs::digest(outputs::of_bias<T>([](const auto& call) { kernels::bias(call); })), promised::bias);
  check(of + "bias_backward", outputs::digest(outputs::of_bias_backward<T>(true, [](const auto& call) { kernels::bias_backward(call); })),
        promised::bias_backward);
  check(of + "table_bias", outputs::digest(outputs::of_table_bias<T>([](const auto& call) { kernels::table_bias(call); })),
        promised::table_bias);
  check(of + "table_bias_gradient",
        outputs::digest(outputs::of_table_bias_gradient<T>([](const auto& call) { kernels::table_bias_gradient(call); })),
        promised::table_bias_gradient);
  check(of + "phase", outputs::digest(outputs::of_phase<T>([](const auto& call) { kernels::phase(call); })), promised::phase);
  check(of + "phase_places", outputs::digest(outputs::of_phase_places<T>([](const auto& call) { kernels::phase(call); })),
        promised::phase_places);
  check(of + "angle_gradient", outputs::digest(outputs::of_angle_gradient<T>([](const auto& call) { kernels::angle_gradient(call); })),
        promised::angle_gradient);
  check(of + "linear", outputs::digest(outputs::of_linear<T>([](const auto& call) { kernels::linear(call); })), promised::linear);
  check(of + "linear_gradients",
        outputs::digest(outputs::of_linear_gradients<T>([](const auto& call) { kernels::linear_input_gradient(call); },
                                                        [](const auto& call) { kernels::linear_weight_gradient(call); })),
        promised::linear_gradients);
}

/// Frequencies, which are formed in double-double: those of base 10000 and 64 pairs.
std::vector<turns> schedule() {
  const double_double rate = posenc::log(10000) / double_double{64, 0};
  std::vector<turns> all;
  for (int k = 0; k < 64; ++k) all.push_back(from_radians(exp(rate * double_double{-static_cast<double>(k), 0})));
  return all;
}

/// The cosine and the sine of one position and frequency, as the kernel writes them.
template <class S>
std::vector<S> angle(std::int64_t position, turns frequency) {
  std::vector<S> both(2);
  kernels::phase<S>({.high = &frequency.high,
                     .low = &frequency.low,
                     .pairs = 1,
                     .ids = &position,
                     .first = 0,
                     .rows = 1,
                     .cosine = &both[0],
                     .sine = &both[1],
                     .row = 2,
                     .interleaved = false,
                     .scale = 1,
                     .absent_cosine = 1});
  return both;
}

/// phase.hpp forms the angles that the kernel forms: a frequency of that angle, once, has the same cosine and sine.
void check_phases() {
  std::vector<float> got, expected;
  std::vector<double> got_double, expected_double;
  random_numbers random(8);
  for (const turns frequency : schedule()) {
    const std::int64_t position = random.integer(-(std::int64_t{1} << 40), std::int64_t{1} << 40);
    outputs::append(got, angle<float>(1, {float_phase(position, frequency), 0}));
    outputs::append(expected, angle<float>(position, frequency));
    outputs::append(got_double, angle<double>(1, {double_phase(position, frequency), 0}));
    outputs::append(expected_double, angle<double>(position, frequency));
  }
  const std::string of(name(current_instruction_set()));
  check(of + " float_phase", outputs::digest(got), outputs::digest(expected));
  check(of + " double_phase", outputs::digest(got_double), outputs::digest(expected_double));
}

}  // namespace

int main() {
  std::vector<std::uint64_t> words;
  for (const turns frequency : schedule()) words.push_back(frequency.high), words.push_back(frequency.low);
  check("frequencies", outputs::digest(words), outputs::promised_frequencies);
  check("three quarters of a turn", to_turns({0.75, 0}).high, std::uint64_t{3} << 62);
  check("a turn backwards and 2^-70", to_turns({-1, 0x1p-70}).low, std::uint64_t{1} << 58);

  for (const auto set : {instruction_set::baseline, instruction_set::avx2, instruction_set::avx512}) {
    if (set > best_instruction_set()) continue;
    pin_instruction_set(set);
    check_kernels<float>("float");
    check_kernels<kernels::bfloat16>("bfloat16");
#if !defined(POSENC_TWO_SCALARS)
    check_kernels<double>("double");
    check_kernels<kernels::float16>("float16");
#endif
    check_phases();
  }
  std::printf("%d wrong\n", wrong);
  return wrong > 0;
}
