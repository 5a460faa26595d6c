// SPDX-License-Identifier: MIT
/// \file  Every instruction set, compiler and processor writes the same bits: those of the promised digests, which, but for phases, follow
/// from references in plain loops too.
#include "catch.hpp"
#include "isa/digests.hpp"
#include "isa/outputs.hpp"
#include "isa/pinned.hpp"
#include "reference/add.hpp"
#include "reference/angle.hpp"
#include "reference/bias.hpp"
#include "reference/difference.hpp"
#include "reference/linear.hpp"
#include "reference/rotate.hpp"
#include "reference/table_bias.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using outputs::promised;
using posenc::kernels::bfloat16;
using posenc::kernels::float16;
using posenc::kernels::index_t;

/// The outputs at each set are those of the first, bit for bit; their digest where there is one.
template <class T>
void check_same(auto&& outputs_of) {
  std::vector<T> first;
  at_every_instruction_set([&] {
    const std::vector<T> got = outputs_of();
    if (first.empty()) first = got;
    REQUIRE(got.size() == first.size());
    CHECK(std::memcmp(got.data(), first.data(), got.size() * sizeof(T)) == 0);
    CHECK(reference::bit_difference(reference::loaded(got), reference::loaded(first)) == "");  // says where
  });
}
template <class T>
void check_digest(std::uint64_t expected, auto&& outputs_of) {
  check_same<T>([&] {
    const auto all = outputs_of();
    CHECK(outputs::digest(all) == expected);
    return all;
  });
}

constexpr auto add = [](const auto& call) { posenc::kernels::add(call); };
constexpr auto add_gradient = [](const auto& call) { posenc::kernels::add_gradient(call); };
constexpr auto rotate = [](const auto& call) { posenc::kernels::rotate(call); };
constexpr auto bias = [](const auto& call) { posenc::kernels::bias(call); };
constexpr auto bias_backward = [](const auto& call) { posenc::kernels::bias_backward(call); };
constexpr auto table_bias = [](const auto& call) { posenc::kernels::table_bias(call); };
constexpr auto table_bias_gradient = [](const auto& call) { posenc::kernels::table_bias_gradient(call); };
constexpr auto phase = [](const auto& call) { posenc::kernels::phase(call); };
constexpr auto angle_gradient = [](const auto& call) { posenc::kernels::angle_gradient(call); };
constexpr auto linear = [](const auto& call) { posenc::kernels::linear(call); };
constexpr auto linear_input_gradient = [](const auto& call) { posenc::kernels::linear_input_gradient(call); };
constexpr auto linear_weight_gradient = [](const auto& call) { posenc::kernels::linear_weight_gradient(call); };

constexpr auto reference_add = [](const auto& call) { reference::add(call); };
constexpr auto reference_add_gradient = [](const auto& call) { reference::add_gradient(call); };
constexpr auto reference_rotate = [](const auto& call) { reference::rotate_rounded(call); };
constexpr auto reference_bias = [](const auto& call) { reference::bias(call); };
constexpr auto reference_bias_backward = [](const auto& call) { reference::bias_backward(call); };
constexpr auto reference_table_bias = [](const auto& call) { reference::table_bias(call); };
constexpr auto reference_table_bias_gradient = [](const auto& call) { reference::table_bias_gradient(call); };
constexpr auto reference_linear = [](const auto& call) { reference::linear(call); };
constexpr auto reference_linear_input_gradient = [](const auto& call) { reference::linear_input_gradient(call); };
constexpr auto reference_linear_weight_gradient = [](const auto& call) { reference::linear_weight_gradient(call); };

/// The float nearest to each cosine and sine.
void reference_phase(const posenc::kernels::phase_call<float>& call) {
  for (index_t r = 0; r < call.rows; ++r)
    for (index_t k = 0; k < call.pairs; ++k) {
      const index_t at = r * call.row + (call.interleaved ? 2 * k : k);
      const bool placed = call.ids[r] != posenc::kernels::absent;
      const auto exact = placed ? reference::angle(call.ids[r], call.high[k], 0) : reference::cosine_and_sine{call.absent_cosine, 0};
      const auto scale = static_cast<long double>(placed ? call.scale : 1);
      call.cosine[at] = static_cast<float>(scale * exact.cosine);
      call.sine[at] = static_cast<float>(scale * exact.sine);
    }
}

}  // namespace

TEMPLATE_TEST_CASE("add has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::add, [] { return outputs::of_add<TestType>(add); });
  CHECK(outputs::digest(outputs::of_add<TestType>(reference_add)) == promised<TestType>::add);
}

TEMPLATE_TEST_CASE("several sources and lookups have the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::add_sources, [] { return outputs::of_add_sources<TestType>(add); });
  CHECK(outputs::digest(outputs::of_add_sources<TestType>(reference_add)) == promised<TestType>::add_sources);
}

TEMPLATE_TEST_CASE("add_gradient has the promised bits", "[isa]", float, double, bfloat16, float16) {
  using S = reference::compute<TestType>;
  check_digest<S>(promised<TestType>::add_gradient, [] { return outputs::of_add_gradient<TestType>(add_gradient); });
  CHECK(outputs::digest(outputs::of_add_gradient<TestType>(reference_add_gradient)) == promised<TestType>::add_gradient);
}

TEMPLATE_TEST_CASE("convolve has the promised bits", "[isa]", float, double, bfloat16, float16) {
  using S = reference::compute<TestType>;
  check_digest<S>(promised<TestType>::convolve, [] {
    return outputs::of_convolve<TestType>([](const auto& call) { posenc::kernels::convolve(call); },
                                          [](const auto& call) { posenc::kernels::convolve_weight_gradient(call); });
  });
}

TEMPLATE_TEST_CASE("dot has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<double>(promised<TestType>::dot,
                       [] { return outputs::of_dot<TestType>([](const auto& call) { posenc::kernels::dot(call); }); });
}

TEMPLATE_TEST_CASE("features and their gradients have the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::features,
                         [] { return outputs::of_features<TestType>([](const auto& call) { posenc::kernels::features(call); }); });
  check_digest<double>(promised<TestType>::features_gradients, [] {
    return outputs::of_features_gradients<TestType>([](const auto& call) { posenc::kernels::features_gradient(call); },
                                                    [](const auto& call) { posenc::kernels::features_weight_gradient(call); });
  });
}

TEMPLATE_TEST_CASE("add_product has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::add_product,
                         [] { return outputs::of_add_product<TestType>([](const auto& call) { posenc::kernels::add_product(call); }); });
}

TEMPLATE_TEST_CASE("gelu and its gradient have the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::gelu, [] {
    return outputs::of_gelu<TestType>([](const auto& call) { posenc::kernels::gelu(call); },
                                      [](const auto& call) { posenc::kernels::gelu_gradient(call); });
  });
}

TEMPLATE_TEST_CASE("cope has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<double>(promised<TestType>::cope, [] {
    return outputs::of_cope<TestType>([](const auto& call) { return posenc::kernels::cope_positions(call); },
                                      [](const auto& call) { posenc::kernels::cope(call); },
                                      [](const auto& call) { posenc::kernels::cope_gradient(call); });
  });
}

TEMPLATE_TEST_CASE("log_sigmoid and its gradient have the promised bits", "[isa]", float, double, bfloat16, float16) {
  using S = reference::compute<TestType>;
  check_digest<S>(promised<TestType>::log_sigmoid,
                  [] { return outputs::of_log_sigmoid<TestType>([](const auto& call) { posenc::kernels::log_sigmoid(call); }); });
  check_digest<TestType>(promised<TestType>::log_sigmoid_gradient, [] {
    return outputs::of_log_sigmoid_gradient<TestType>([](const auto& call) { posenc::kernels::log_sigmoid_gradient(call); });
  });
}

TEMPLATE_TEST_CASE("forgetting and its gradient have the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::forgetting,
                         [] { return outputs::of_forgetting<TestType>([](const auto& call) { posenc::kernels::forgetting(call); }); });
  check_digest<double>(promised<TestType>::forgetting_gradient, [] {
    return outputs::of_forgetting_gradient<TestType>([](const auto& call) { posenc::kernels::forgetting_gradient(call); });
  });
}

TEMPLATE_TEST_CASE("widen has the promised bits", "[isa]", float, double, bfloat16, float16) {
  using S = reference::compute<TestType>;
  check_digest<S>(promised<TestType>::widen,
                  [] { return outputs::of_widen<TestType>([](const auto& call) { posenc::kernels::widen(call); }); });
}

TEMPLATE_TEST_CASE("rotate has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::rotate, [] { return outputs::of_rotate<TestType>(rotate); });
  CHECK(outputs::digest(outputs::of_rotate<TestType>(reference_rotate)) == promised<TestType>::rotate);
}

TEMPLATE_TEST_CASE("rotate in exchanged order, in blocks and by head has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::rotate_forms, [] { return outputs::of_rotate_forms<TestType>(rotate); });
  CHECK(outputs::digest(outputs::of_rotate_forms<TestType>(reference_rotate)) == promised<TestType>::rotate_forms);
}

TEMPLATE_TEST_CASE("bias has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::bias, [] { return outputs::of_bias<TestType>(bias); });
  CHECK(outputs::digest(outputs::of_bias<TestType>(reference_bias)) == promised<TestType>::bias);
}

TEMPLATE_TEST_CASE("bias_backward has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<double>(promised<TestType>::bias_backward, [] { return outputs::of_bias_backward<TestType>(true, bias_backward); });
  CHECK(outputs::digest(outputs::of_bias_backward<TestType>(true, reference_bias_backward)) == promised<TestType>::bias_backward);
  check_same<double>([] { return outputs::of_bias_backward<TestType>(false, bias_backward); });  // where the order of the sum matters
}

TEMPLATE_TEST_CASE("table_bias has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::table_bias, [] { return outputs::of_table_bias<TestType>(table_bias); });
  CHECK(outputs::digest(outputs::of_table_bias<TestType>(reference_table_bias)) == promised<TestType>::table_bias);
}

TEMPLATE_TEST_CASE("table_bias_gradient has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<double>(promised<TestType>::table_bias_gradient,
                       [] { return outputs::of_table_bias_gradient<TestType>(table_bias_gradient); });
  CHECK(outputs::digest(outputs::of_table_bias_gradient<TestType>(reference_table_bias_gradient)) ==
        promised<TestType>::table_bias_gradient);
}

TEMPLATE_TEST_CASE("phase has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::phase, [] { return outputs::of_phase<TestType>(phase); });
}

TEMPLATE_TEST_CASE("phase on several axes, between the integers and growing has the promised bits", "[isa]", float, double, bfloat16,
                   float16) {
  check_digest<TestType>(promised<TestType>::phase_places, [] { return outputs::of_phase_places<TestType>(phase); });
}

TEMPLATE_TEST_CASE("angle_gradient has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<double>(promised<TestType>::angle_gradient, [] { return outputs::of_angle_gradient<TestType>(angle_gradient); });
}

TEMPLATE_TEST_CASE("linear has the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<TestType>(promised<TestType>::linear, [] { return outputs::of_linear<TestType>(linear); });
  CHECK(outputs::digest(outputs::of_linear<TestType>(reference_linear)) == promised<TestType>::linear);
}

TEMPLATE_TEST_CASE("the gradients of linear have the promised bits", "[isa]", float, double, bfloat16, float16) {
  check_digest<posenc::kernels::compute<TestType>>(promised<TestType>::linear_gradients, [] {
    return outputs::of_linear_gradients<TestType>(linear_input_gradient, linear_weight_gradient);
  });
  CHECK(outputs::digest(outputs::of_linear_gradients<TestType>(reference_linear_input_gradient, reference_linear_weight_gradient)) ==
        promised<TestType>::linear_gradients);
}

TEST_CASE("phases in float are the nearest floats, but for one in a thousand", "[isa]") {
  const auto got = outputs::of_phase<float>(phase), nearest = outputs::of_phase<float>(reference_phase);
  REQUIRE(got.size() == nearest.size());
  std::size_t others = 0;
  for (std::size_t n = 0; n < got.size(); ++n) others += !reference::same_bits(got[n], nearest[n]);
  CHECK(others <= got.size() / 1000);
}
