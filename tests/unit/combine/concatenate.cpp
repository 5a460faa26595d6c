// SPDX-License-Identifier: MIT
#include <posenc/combine/concatenate.hpp>

#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "table_codes.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"
#include "reference/stored.hpp"

#include <limits>
#include <span>
#include <vector>

using namespace posenc;

namespace {

using tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;

sinusoidal<float> codes_of(index_t dim) {
  return sinusoidal<float>({.dim = dim, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});
}
/// Every bit pattern that arithmetic could change is among them.
tensor special(index_t batch, index_t time, index_t channels) {
  tensor x(batch, time, channels);
  const auto values = reference::special_values<float>();
  for (index_t n = 0; n < x.size(); ++n) x.data()[n] = values[static_cast<std::size_t>(n) % values.size()];
  return x;
}

}  // namespace

TEST_CASE("the concatenation is the embedding, bit for bit, and the code", "[concatenate]") {
  constexpr index_t batch = 2, time = 5, channels = 7, dim = 6;
  const tensor x = special(batch, time, channels);
  const auto encoder = codes_of(dim);
  for (const auto& at : {positions::range(time, 3), positions::ids(std::vector{4, -2, 9, 9, 0, 1, 2, 3, 4, 5}, batch)}) {
    tensor code(batch, time, dim), out(batch, time, channels + dim);
    encoder.encode(at, code);
    concatenate(encoder, x, out, at);
    bool same = true;
    for (index_t b = 0; b < batch; ++b)
      for (index_t t = 0; t < time; ++t)
        for (index_t c = 0; c < channels + dim; ++c)
          same = same && reference::same_bits(out(b, t, c), c < channels ? x(b, t, c) : code(b, t, c - channels));
    CHECK(same);

    tensor filled(batch, time, channels + dim);
    filled.setConstant(7);
    for (index_t b = 0; b < batch; ++b)
      for (index_t t = 0; t < time; ++t)
        for (index_t c = 0; c < channels; ++c) filled(b, t, c) = x(b, t, c);
    const tensor_view<float, 3> head(filled.data(), {batch, time, channels}, {time * (channels + dim), channels + dim, 1});
    concatenate(encoder, head, filled, at);
    CHECK(reference::bit_difference(filled, out) == "");
  }
}

TEST_CASE("16-bit embeddings are copied, and their codes are those that encode writes", "[concatenate]") {
  Eigen::Tensor<Eigen::bfloat16, 2> x(3, 4), code(2, 4), out(5, 4);  // [channel, time], the first fastest
  for (index_t n = 0; n < x.size(); ++n) x.data()[n] = static_cast<Eigen::bfloat16>(0.1f * static_cast<float>(n));
  const auto encoder = codes_of(2);
  encoder.encode(positions::range(4, 70), code);
  concatenate(encoder, x, out, positions::range(4, 70));
  for (index_t t = 0; t < 4; ++t)
    for (index_t c = 0; c < 5; ++c) CHECK(reference::same_bits(out(c, t), c < 3 ? x(c, t) : code(c - 3, t)));
}

TEST_CASE("a token without a position gets a code of zeros", "[concatenate]") {
  const tensor x = random_tensor<tensor>(1, 1, 2, 3);
  tensor out(1, 2, 7);
  out.setConstant(9);
  concatenate(codes_of(4), x, out, positions::ids(std::vector{no_position, position{1}}));
  for (index_t c = 0; c < 3; ++c) CHECK(out(0, 0, c) == x(0, 0, c));
  for (index_t c = 3; c < 7; ++c) CHECK(out(0, 0, c) == 0);
  CHECK(out(0, 1, 3) != 0);
}

TEST_CASE("nothing to concatenate is nothing to do, and no embedding leaves the code alone", "[concatenate]") {
  tensor none(0, 3, 5), none_out(0, 3, 9);
  concatenate(codes_of(4), none, none_out, positions::range(3));
  tensor without(1, 3, 0), out(1, 3, 4), code(1, 3, 4);
  concatenate(codes_of(4), without, out, positions::range(3));
  codes_of(4).encode(positions::range(3), code);
  CHECK(reference::bit_difference(out, code) == "");
}

TEST_CASE("the gradient of a concatenation goes to the embedding and to the encoder", "[concatenate]") {
  constexpr index_t batch = 2, time = 3, channels = 2, dim = 3;
  const doubles::table_codes encoder{{4, dim, random_vector<double>(2, 4 * dim)}};
  Eigen::Tensor<double, 3, Eigen::RowMajor> d_out(batch, time, channels + dim), d_x(batch, time, channels);
  fill(d_out, 3);
  d_x.setConstant(5);
  const auto at = positions::ids(std::vector{1, 1, 3});
  std::vector<double> d_codes(4 * dim, 100), expected = d_codes;
  for (index_t b = 0; b < batch; ++b)
    for (index_t t = 0; t < time; ++t)
      for (index_t c = 0; c < dim; ++c) expected[static_cast<std::size_t>(at(b, t) * dim + c)] += d_out(b, t, channels + c);
  const std::vector<std::span<double>> spans{d_codes};
  concatenate_backward(encoder, d_out, d_x, at, spans);
  CHECK(reference::difference(d_codes, expected, 1e-13) == "");
  for (index_t b = 0; b < batch; ++b)
    for (index_t t = 0; t < time; ++t)
      for (index_t c = 0; c < channels; ++c) CHECK(d_x(b, t, c) == d_out(b, t, c));

  auto same = d_out;  // d_x may be the first channels of d_out
  concatenate_backward(
      encoder, same, tensor_view<double, 3>(same.data(), {batch, time, channels}, {time * (channels + dim), channels + dim, 1}), at, spans);
  CHECK(reference::bit_difference(same, d_out) == "");

  tensor d_fixed = random_tensor<tensor>(4, 1, 3, 6), d_part(1, 3, 2);  // an encoder without parameters needs no spans
  concatenate_backward(codes_of(4), d_fixed, d_part, positions::range(3), {});
  CHECK(d_part(0, 2, 1) == d_fixed(0, 2, 1));
}

TEST_CASE("the concatenation refuses what does not fit", "[concatenate]") {
  using reference::refuses;
  const auto encoder = codes_of(4);
  const auto at = positions::range(3);
  tensor x = random_tensor<tensor>(5, 2, 3, 5), out = random_tensor<tensor>(6, 2, 3, 9);
  refuses(out, "[concatenate] the channels must be those of the embedding and those of the code but got 9 and 3 and 4",
          [&] { concatenate(encoder, tensor(2, 3, 3), out, at); });
  refuses(out, "[concatenate] both tensors must have the same tokens but got [2, 2, 5] and [2, 3, 9]",
          [&] { concatenate(encoder, tensor(2, 2, 5), out, at); });
  refuses(out, "[concatenate] time must match the positions but got 3 and 4", [&] { concatenate(encoder, x, out, positions::range(4)); });
  refuses(out, "[concatenate] batch must match the positions but got 2 and 3",
          [&] { concatenate(encoder, x, out, positions::offsets(std::vector{1, 2, 3}, 3)); });
  refuses(out, "[sinusoidal] the positions must have as many axes as the encoder but got 1 and 2",
          [&] { concatenate(encoder, x, out, positions::multi_axis(std::vector{1, 2, 3, 4, 5, 6}, 2)); });
  const std::string overlap = "[concatenate] the embedding must be the first channels of the concatenation or not overlap it but got ";
  refuses(out, overlap + "[2, 3, 5] and [2, 3, 9]",
          [&] { concatenate(encoder, tensor_view<float, 3>(out.data() + 1, {2, 3, 5}, {27, 9, 1}), out, at); });
  refuses(out, overlap + "[2, 3, 5] and [2, 3, 9]",
          [&] { concatenate(encoder, tensor_view<float, 3>(out.data(), {2, 3, 5}, {15, 5, 1}), out, at); });
  refuses(out, overlap + "[2, 2, 5] and [2, 2, 9]", [&] {  // the same first row, and other steps from batch row to batch row
    concatenate(encoder, tensor_view<float, 3>(out.data(), {2, 2, 5}, {9, 9, 1}), tensor_view<float, 3>(out.data(), {2, 2, 9}, {27, 9, 1}),
                positions::range(2));
  });
  refuses(out, "[concatenate] the last axis must be contiguous but got 2", [&] {
    concatenate(encoder, tensor_view<float, 3>(x.data(), {1, 3, 2}, {0, 5, 2}), tensor_view<float, 3>(out.data(), {1, 3, 6}), at);
  });
  refuses(out, "[concatenate] the elements of an output must be distinct, with strides that nest but got [0, 9, 1]",
          [&] { concatenate(encoder, x, tensor_view<float, 3>(out.data(), {2, 3, 9}, {0, 9, 1}), at); });
  refuses(x, "[concatenate_backward] the channels must be those of the embedding and those of the code but got 8 and 5 and 4",
          [&] { concatenate_backward(encoder, tensor(2, 3, 8), x, at, {}); });
  refuses(x,
          "[concatenate_backward] the embedding must be the first channels of the concatenation or not overlap it but got [1, 1, 2] and "
          "[1, 1, 6]",
          [&] {
            concatenate_backward(encoder, tensor_view<float, 3>(x.data(), {1, 1, 6}), tensor_view<float, 3>(x.data() + 2, {1, 1, 2}),
                                 positions::range(1), {});
          });
  refuses(x, "[table_codes] there must be one gradient span but got 0", [&] {
    const doubles::table_codes table{{3, 4, std::vector<double>(12)}};
    Eigen::Tensor<double, 3, Eigen::RowMajor> d_out(2, 3, 9), d_x(2, 3, 5);
    concatenate_backward(table, d_out, d_x, at, {});
  });
}

TEST_CASE("several threads write the same concatenation", "[concatenate]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  const tensor x = random_tensor<tensor>(7, 3, 2000, 130);
  tensor alone(3, 2000, 194), together(3, 2000, 194), d_alone(3, 2000, 130), d_together(3, 2000, 130);
  concatenate(codes_of(64), x, alone, positions::range(2000));
  concatenate(codes_of(64), x, together, positions::range(2000), device);
  CHECK(reference::bit_difference(together, alone) == "");
  concatenate_backward(codes_of(64), alone, d_together, positions::range(2000), {}, device);
  CHECK(reference::bit_difference(d_together, x) == "");
}
