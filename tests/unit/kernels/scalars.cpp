// SPDX-License-Identifier: MIT
// 16-bit storage: the kernels read it exactly, compute in float and round once to nearest even, as Eigen's own conversions do one by one.
#include <posenc/posenc.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "reference/difference.hpp"
#include "reference/stored.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

using namespace posenc;

namespace {

constexpr auto time_head = axis_order::time_head;

/// Values of every size that T has, none of them NaN.
template <class T>
T value(index_t n) {
  return T(std::ldexp(std::sin(0.37f * static_cast<float>(n + 1)), static_cast<int>(n % 23) - 18));
}

template <class T, int Rank>
using tensor = Eigen::Tensor<T, Rank, Eigen::RowMajor>;

template <class T, int Rank>
tensor<T, Rank> filled(std::array<index_t, Rank> shape) {
  tensor<T, Rank> all(shape);
  for (index_t n = 0; n < all.size(); ++n) all.data()[n] = value<T>(n);
  return all;
}

/// Whether `narrow` has the bits of `wide`, each rounded once.
template <class T, int Rank>
bool is_rounded(const tensor<T, Rank>& narrow, const tensor<float, Rank>& wide) {
  for (index_t n = 0; n < narrow.size(); ++n) {
    const T expected(wide.data()[n]);
    if (std::memcmp(&expected, narrow.data() + n, sizeof(T)) != 0) return false;
  }
  return true;
}

template <class T, int Rank>
tensor<float, Rank> widened(const tensor<T, Rank>& narrow) {
  return narrow.template cast<float>();
}

}  // namespace

TEMPLATE_TEST_CASE("rotate on 16-bit storage is rotate in float, rounded once", "[scalars]", Eigen::half, Eigen::bfloat16) {
  for (const auto set : instruction_sets())
    for (const auto pairs : {pairing::halves, pairing::interleaved})
      for (const index_t dim : {2, 6, 14, 30, 32, 62, 64, 96, 128, 192, 256})
        for (const auto order : {axis_order::time_head, axis_order::head_time}) {
          const pinned pin(set);
          const rope<float> encoder({.pairing = pairs, .dim = dim, .offset = 1, .attention_factor = 1.25});
          const auto at = positions::range(3, 1000);
          auto narrow = filled<TestType, 4>({2, order == time_head ? 3 : 5, order == time_head ? 5 : 3, dim + 3});
          const auto before = narrow;
          auto wide = widened<TestType, 4>(narrow);
          encoder.rotate(heads(narrow, order), at);
          encoder.rotate(heads(wide, order), at);
          CAPTURE(name(set), dim);
          CHECK(is_rounded<TestType, 4>(narrow, wide));

          auto elsewhere = narrow;
          elsewhere.setConstant(TestType(7));
          encoder.rotate(heads(before, order), heads(elsewhere, order), encoder.prepare(at));
          CHECK(std::memcmp(elsewhere.data(), narrow.data(), sizeof(TestType) * static_cast<std::size_t>(narrow.size())) == 0);

          encoder.rotate_backward(heads(narrow, order), encoder.prepare(at));
          wide = widened<TestType, 4>(elsewhere);
          encoder.rotate_backward(heads(wide, order), encoder.prepare(at));
          CHECK(is_rounded<TestType, 4>(narrow, wide));
        }
}

TEMPLATE_TEST_CASE("sinusoidal codes on 16-bit storage are float codes, rounded once", "[scalars]", Eigen::half, Eigen::bfloat16) {
  for (const auto set : instruction_sets())
    for (const auto order : {channel_order::interleaved, channel_order::sin_cos, channel_order::cos_sin})
      for (const index_t dim : {2, 7, 33, 64, 100}) {
        const pinned pin(set);
        const sinusoidal<float> encoder(
            {.dim = dim, .order = order, .exponent_rule = exponent_rule::vaswani{}, .scale = 0.7, .odd_dim = odd_dim::drop_last});
        const auto at = positions::ids(std::array{0, -5, 100000, 17});
        auto narrow = filled<TestType, 3>({2, 4, dim});
        auto wide = widened<TestType, 3>(narrow);
        encoder.add(narrow, at);
        encoder.add(wide, at);
        CAPTURE(name(set), dim);
        CHECK(is_rounded<TestType, 3>(narrow, wide));
        encoder.encode(at, narrow);
        encoder.encode(at, wide);
        CHECK(is_rounded<TestType, 3>(narrow, wide));
      }
}

TEMPLATE_TEST_CASE("alibi on 16-bit scores is alibi in float, rounded once", "[scalars]", Eigen::half, Eigen::bfloat16) {
  for (const auto set : instruction_sets())
    for (const auto form : {alibi_form::causal, alibi_form::symmetric, alibi_form::key_only})
      for (const bool by_ids : {false, true})
        for (const index_t keys : {1, 5, 37, 130}) {
          const pinned pin(set);
          const alibi<float> encoder({.heads = 3, .form = form});
          std::vector<position> ids;
          for (index_t j = 0; j < keys; ++j) ids.push_back((7 * j) % keys);
          const attention_positions at{positions::range(4, keys / 2), by_ids ? positions::ids(ids) : positions::range(keys)};
          const score_pass pass{.scale = 0.3, .causal = true};
          auto narrow = filled<TestType, 4>({2, 3, 4, keys});
          auto wide = widened<TestType, 4>(narrow);
          const auto before = narrow;
          encoder.bias(narrow, at, pass);
          encoder.bias(wide, at, pass);
          CAPTURE(name(set), keys, by_ids);
          CHECK(is_rounded<TestType, 4>(narrow, wide));

          auto elsewhere = before;
          encoder.bias(before, elsewhere, at, pass);
          CHECK(std::memcmp(elsewhere.data(), narrow.data(), sizeof(TestType) * static_cast<std::size_t>(narrow.size())) == 0);

          std::vector<float> slopes_narrow(3), slopes_wide(3);
          const std::vector<std::span<float>> span_narrow{slopes_narrow}, span_wide{slopes_wide};
          narrow = before, wide = widened<TestType, 4>(before);
          encoder.bias_backward(narrow, at, span_narrow, pass);
          encoder.bias_backward(wide, at, span_wide, pass);
          CHECK(is_rounded<TestType, 4>(narrow, wide));
          CHECK(slopes_narrow == slopes_wide);
        }
}

// Every value of the format passes through a rotation by nothing: the table's cosines are 1, its sines 0.
TEMPLATE_TEST_CASE("every 16-bit value survives, NaN stays NaN", "[scalars]", Eigen::half, Eigen::bfloat16) {
  for (const auto set : instruction_sets())
    for (const auto pairs : {pairing::halves, pairing::interleaved})
      for (const index_t dim : {64, 16, 2}) {
        const pinned pin(set);
        const rope<float> encoder({.pairing = pairs, .dim = dim});
        tensor<TestType, 4> all(1, 65536 / dim, 1, dim);
        for (index_t n = 0; n < all.size(); ++n) {
          const auto bits = static_cast<std::uint16_t>(n);
          std::memcpy(static_cast<void*>(all.data() + n), &bits, sizeof bits);
        }
        encoder.rotate(heads(all, time_head), positions::ids(std::vector<int>(static_cast<std::size_t>(65536 / dim), 0)));
        index_t wrong = 0;
        for (index_t n = 0; n < all.size(); ++n) {
          const auto bits = static_cast<std::uint16_t>(n);
          TestType expected;
          std::memcpy(static_cast<void*>(&expected), &bits, sizeof bits);
          const float was = static_cast<float>(expected), is = static_cast<float>(all.data()[n]);
          // x * 1 - y * 0 is NaN where the partner y is infinite or NaN, and loses the sign of a zero.
          const index_t row = n / dim * dim, c = n % dim;
          const index_t partner = row + (pairs == pairing::interleaved ? c ^ 1 : (c + dim / 2) % dim);
          TestType other;
          const auto other_bits = static_cast<std::uint16_t>(partner);
          std::memcpy(static_cast<void*>(&other), &other_bits, sizeof other_bits);
          const bool finite = std::isfinite(static_cast<float>(other));
          wrong += finite && !std::isnan(was) ? was != is : !std::isnan(is);
        }
        CAPTURE(name(set), dim);
        CHECK(wrong == 0);
      }
}

TEMPLATE_TEST_CASE("values beyond the largest round to infinity", "[scalars]", Eigen::half, Eigen::bfloat16) {
  for (const auto set : instruction_sets()) {
    const pinned pin(set);
    const std::vector<float> slopes{1};
    const alibi<float> encoder(slopes, alibi_form::symmetric);
    tensor<TestType, 4> scores(1, 1, 1, 40);
    scores.setConstant(std::numeric_limits<TestType>::lowest());
    const attention_positions at{positions::range(1), positions::range(40)};
    encoder.bias(scores, at, {.scale = 2});
    for (index_t j = 0; j < 40; ++j) CHECK(static_cast<float>(scores(0, 0, 0, j)) == -std::numeric_limits<float>::infinity());
  }
}

TEMPLATE_TEST_CASE("the references' 16-bit formats are Eigen's", "[scalars]", Eigen::half, Eigen::bfloat16) {
  using stored = kernel_scalar<TestType>;
  const auto bits_of = [](TestType number) {
    std::uint16_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    return bits;
  };
  int wrong = 0;
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    TestType number;
    const auto word = static_cast<std::uint16_t>(bits);
    std::memcpy(static_cast<void*>(&number), &word, sizeof word);
    const float got = reference::loaded(stored{word}), expected = static_cast<float>(number);
    wrong += !(reference::same_bits(got, expected) || (std::isnan(got) && std::isnan(expected)));
    if (std::isnan(expected)) continue;
    // The number itself, and where it gives way to the next: before, at and after the middle between them.
    const auto next = static_cast<std::uint16_t>(bits + 1);
    const float middle = std::isinf(expected) ? expected : (expected + reference::loaded(stored{next})) / 2;
    for (const float value : {expected, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 2 * middle)})
      wrong += !std::isnan(value) && reference::stored<stored>(value).bits != bits_of(TestType(value));
  }
  CHECK(wrong == 0);
}
