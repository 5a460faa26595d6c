// SPDX-License-Identifier: MIT
#include <posenc/learned.hpp>

#include <posenc/combine.hpp>
#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/rounded.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;

template <class T>
using tensor2 = Eigen::Tensor<T, 2, RowMajor>;
template <class T>
using tensor3 = Eigen::Tensor<T, 3, RowMajor>;

/// The row of a table that a position has, if any.
std::optional<index_t> row_of(const learned_options& options, position id) {
  if (id == no_position) return std::nullopt;
  const position row = id + options.offset, rows = index_t{options.rows};
  if (row >= 0 && row < rows) return row;
  if (options.outside_table == outside_table::zeros) return std::nullopt;
  return row < 0 ? 0 : rows - 1;
}

/// Random numbers, rounded to T.
template <class T>
tensor3<T> given(std::uint64_t seed, index_t batch, index_t time, index_t dim) {
  return random_tensor<tensor3<compute_t<T>>>(seed, batch, time, dim).template cast<T>();
}
template <class S>
learned<S> with_random_table(const learned_options& options) {
  return learned<S>(options, random_vector<S>(77, index_t{options.rows} * index_t{options.dim}));
}
/// What differences are shown of: numbers that Catch can print.
template <class Tensor>
auto numbers(const Tensor& x) {
  using T = typename Tensor::Scalar;
  return Eigen::Tensor<compute_t<T>, Tensor::NumDimensions, Tensor::Layout>(x.template cast<compute_t<T>>());
}
template <class Tensor>
bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(*a.data())) == 0;
}

/// x + code * scale, an operation at a time. nothing: the code alone, and zeros for tokens without one.
template <class T>
tensor3<T> expected(const tensor3<T>& x, const learned<compute_t<T>>& encoder, const positions& at, bool nothing = false) {
  using S = compute_t<T>;
  tensor3<T> sum = x;
  for (index_t c = 0; c < x.dimension(2); ++c)
    for (index_t t = 0; t < x.dimension(1); ++t)
      for (index_t b = 0; b < x.dimension(0); ++b) {
        const auto row = row_of(encoder.options(), at(b, t));
        if (nothing) sum(b, t, c) = T(S(0));
        if (!row) continue;
        const S code = reference::times(encoder.table()(*row, c), static_cast<S>(encoder.options().scale));
        sum(b, t, c) = static_cast<T>(nothing ? code : reference::plus(static_cast<S>(x(b, t, c)), code));
      }
  return sum;
}

/// The gradient of the table: row by row, token by token.
template <class T>
std::vector<double> expected_gradient(const learned_options& options, const tensor3<T>& d, const positions& at) {
  const index_t rows = options.rows, dim = options.dim;
  std::vector<double> sums(static_cast<std::size_t>(rows * dim));
  for (index_t row = 0; row < rows; ++row)
    for (index_t b = 0; b < d.dimension(0); ++b)
      for (index_t t = 0; t < d.dimension(1); ++t)
        if (row_of(options, at(b, t)) == row && options.padding_row != row)
          for (index_t c = 0; c < dim; ++c)
            sums[static_cast<std::size_t>(row * dim + c)] += options.scale * static_cast<double>(d(b, t, c));
  return sums;
}

/// Five tokens in three rows, on rows 0 to 11 with an offset of 2: by range, offsets, ids of all, ids of each row.
std::vector<positions> every_kind() {
  return {positions::range(5, 3), positions::range(5, -2), positions::offsets(std::array{0, 5, -2}, 5),
          positions::ids(std::array<position, 5>{4, -1, 4, no_position, 9}),
          positions::ids(std::array<position, 15>{9, 8, 7, 6, 5, 0, 0, 0, no_position, 0, -2, no_position, 9, -1, 3}, 3)};
}

}  // namespace

TEMPLATE_TEST_CASE("learned adds, writes and scatters the rows of its table", "[learned]", float, double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  for (const index_t dim : {1, 8, 37})
    for (const double scale : {1.0, -0.3}) {
      const auto encoder = with_random_table<S>({.rows = 12, .dim = dim, .offset = 2, .scale = scale});
      const auto x = given<T>(1, 3, 5, dim);
      int kind = 0;
      for (const auto& at : every_kind()) {
        CAPTURE(dim, scale, kind++);
        const auto sum = expected(x, encoder, at);
        auto in_place = x;
        encoder.add(in_place, at);
        CHECK(reference::bit_difference(numbers(in_place), numbers(sum)) == "");
        tensor3<T> out(3, 5, dim), code(3, 5, dim);
        out.setConstant(T(9)), code.setConstant(T(9));
        encoder.add(x, out, at);
        CHECK(reference::bit_difference(numbers(out), numbers(sum)) == "");
        encoder.encode(at, code);
        CHECK(reference::bit_difference(numbers(code), numbers(expected(x, encoder, at, true))) == "");

        std::vector<index_t> rows;
        for (index_t n = 0; n < 15; ++n) rows.push_back(n % 7 == 2 ? no_row : (n * 4) % 17);
        tensor2<T> scattered(17, dim);
        scattered.setConstant(T(9));
        auto wanted = scattered;
        for (index_t n = 0; n < 15; ++n)
          for (index_t c = 0; c < dim; ++c)
            if (rows[static_cast<std::size_t>(n)] >= 0) wanted(rows[static_cast<std::size_t>(n)], c) = sum(n / 5, n % 5, c);
        encoder.add(x, scattered, rows, at);
        CHECK(reference::bit_difference(numbers(scattered), numbers(wanted)) == "");
      }
    }
}

TEST_CASE("learned has the same bits in every layout", "[learned]") {
  const auto encoder = with_random_table<float>({.rows = 9, .dim = 6, .outside_table = outside_table::nearest});
  const auto at = positions::ids(std::array{4, -1, 1000, 3, 2, 0, 7, 5}, 2);
  const auto x = random_tensor<tensor3<float>>(2, 2, 4, 6);
  const auto result = expected(x, encoder, at);

  Eigen::Tensor<float, 3> columns(6, 4, 2);  // the same memory
  std::copy_n(x.data(), x.size(), columns.data());
  encoder.add(columns, at);
  CHECK(reference::bit_difference(columns, result) == "");

  std::vector<float> foreign(static_cast<std::size_t>(x.size()) + 1);  // not aligned
  std::copy_n(x.data(), x.size(), foreign.data() + 1);
  Eigen::TensorMap<tensor3<float>> map(foreign.data() + 1, 2, 4, 6);
  encoder.add(map, at);
  CHECK(reference::bit_difference(map, result) == "");

  // Channels 2 to 8 of a wider tensor, whose others keep their bits.
  auto wide = random_tensor<tensor3<float>>(3, 2, 4, 9);
  const auto before = wide;
  const tensor_view<float, 3> part(wide.data() + 2, {2, 4, 6}, {36, 9, 1});
  encoder.add(x, part, at);
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 4; ++t)
      for (index_t c = 0; c < 9; ++c) REQUIRE(reference::same_bits(wide(b, t, c), c < 2 || c >= 8 ? before(b, t, c) : result(b, t, c - 2)));
  // And their gradient is that of a tensor of their own.
  std::array<std::vector<float>, 2> sums{std::vector<float>(54), std::vector<float>(54)};
  encoder.encode_backward(at, part, std::array{std::span(sums[0])});
  encoder.encode_backward(at, result, std::array{std::span(sums[1])});
  CHECK(reference::bit_difference(sums[0], sums[1]) == "");

  // Without a batch axis, and with two.
  tensor2<float> flat(4, 6);
  std::copy_n(x.data(), flat.size(), flat.data());
  encoder.add(flat, positions::ids(std::array{4, -1, 1000, 3}));
  CHECK(reference::bit_difference(flat, std::span(result.data(), 24)) == "");
  Eigen::Tensor<float, 4, RowMajor> deep(1, 2, 4, 6);
  std::copy_n(x.data(), x.size(), deep.data());
  encoder.add(deep, at);
  CHECK(reference::bit_difference(deep, result) == "");
}

TEST_CASE("learned with the offset of OPT: padding at -1 takes row 1", "[learned]") {
  learned<float> encoder({.rows = 6, .dim = 1, .offset = 2}, {10, 11, 12, 13, 14, 15});
  tensor3<float> x(2, 3, 1);
  x.setZero();
  encoder.add(x, positions::ids(std::array{-1, 0, 1, 0, 1, 2}, 2));
  CHECK(reference::bit_difference(x, std::vector<float>{11, 12, 13, 12, 13, 14}) == "");
  encoder.encode(positions::from_padding_mask(std::array{0, 1, 1, 1, 1, 1}, 2), x);
  CHECK(reference::bit_difference(x, std::vector<float>{0, 12, 13, 12, 13, 14}) == "");
  encoder.encode(positions::range(3, -2), x);
  CHECK(reference::bit_difference(x, std::vector<float>{10, 11, 12, 10, 11, 12}) == "");
}

TEMPLATE_TEST_CASE("learned keeps every bit of tokens without a position", "[learned]", float, double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using S = compute_t<T>;
  constexpr index_t dim = 19;
  tensor3<T> x(2, 2, dim);
  x.setConstant(T(S(-0.0)));
  for (index_t c = 0; c < dim; c += 5) {
    x(0, 1, c) = T(std::numeric_limits<S>::infinity());
    // A quiet NaN with more than its first bits set.
    auto bits = std::bit_cast<std::array<unsigned char, sizeof(T)>>(x(0, 1, c));
    bits[sizeof(T) - 1] = 0xff, bits[sizeof(T) - 2] = 0xfe;
    bits[0] = sizeof(T) == 2 ? bits[0] : 0x25;
    x(0, 1, c + 1) = std::bit_cast<T>(bits);
  }
  at_every_instruction_set([&] {
    for (const auto policy : {outside_table::refuse, outside_table::zeros})
      for (const double scale : {1.0, 2.5}) {
        const auto encoder = with_random_table<S>({.rows = 3, .dim = dim, .outside_table = policy, .scale = scale});
        const position nowhere = policy == outside_table::zeros ? 3 : no_position;
        for (const auto& at : {positions::ids(std::array{no_position, nowhere}),
                               positions::ids(std::array{nowhere, no_position, no_position, nowhere}, 2)}) {
          auto in_place = x, out = x;
          encoder.add(in_place, at);
          CHECK(same_bytes(in_place, x));
          out.setZero();
          encoder.add(x, out, at);
          CHECK(same_bytes(out, x));
        }
      }
  });
}

TEST_CASE("learned beyond the table: zeros, or the nearest row", "[learned]") {
  constexpr position far = position{1} << 62;
  for (const auto policy : {outside_table::zeros, outside_table::nearest})
    for (const index_t offset : {0, 2, 3}) {
      const auto encoder = with_random_table<double>({.rows = 4, .dim = 3, .offset = offset, .outside_table = policy});
      const auto x = random_tensor<tensor3<double>>(4, 2, 10, 3);
      for (const auto& at :
           {positions::range(10, -6), positions::range(10, 3), positions::range(10, 1 - far), positions::offsets(std::array{-7, 2}, 10),
            positions::ids(std::array<position, 10>{-far, -4, -3, -1, 0, no_position, 1, 4, far, -far}),
            positions::ids(std::array<position, 20>{0, far, 1, -2, no_position, 3, 4, 5, 6, -9, -3, -2, -1, 0, 1, 2, 3, 4, -far, far},
                           2)}) {
        auto sum = x;
        encoder.add(sum, at);
        CHECK(reference::bit_difference(sum, expected(x, encoder, at)) == "");
        std::vector<double> gradient(12);
        encoder.encode_backward(at, x, std::array{std::span(gradient)});
        CHECK(reference::difference(gradient, expected_gradient(encoder.options(), x, at), 1e-15) == "");
      }
    }
}

TEST_CASE("learned: the padding row gets no gradient", "[learned]") {
  // Whole numbers, so that sums are exact in any order.
  tensor3<float> d(5, 4, 2);
  for (index_t n = 0; n < d.size(); ++n) d.data()[n] = static_cast<float>(n * n % 91 - 40);
  for (const index_t offset : {0, 2})
    for (const index_t padding : {0, 1, 2, 3, 4, 5, 6, 7})
      for (const auto policy : {outside_table::refuse, outside_table::zeros, outside_table::nearest}) {
        const learned<float> encoder({.rows = 8, .dim = 2, .offset = offset, .padding_row = padding, .outside_table = policy});
        const position first = 2 - offset;
        std::vector<position> ids;
        for (index_t n = 0; n < 20; ++n) ids.push_back(n % 9 == 4 ? no_position : n * 5 % 8 - offset);
        std::vector<positions> kinds{positions::range(4, first),  // rows 2 to 5
                                     positions::offsets(std::array<position, 5>{first, first - 1, first + 2, first - 2, first}, 4),
                                     positions::ids(std::span(ids).first(4)), positions::ids(ids, 5)};
        if (policy != outside_table::refuse)
          kinds.push_back(positions::range(4, -offset - 2)), kinds.push_back(positions::range(4, 6 - offset));
        for (const auto& at : kinds) {
          std::vector<float> gradient(16, 3.0f);
          encoder.encode_backward(at, d, std::array{std::span(gradient)});
          auto wanted = expected_gradient(encoder.options(), d, at);
          for (double& one : wanted) one += 3;
          CAPTURE(offset, padding);
          CHECK(reference::difference(gradient, wanted, 0) == "");
        }
      }
}

TEST_CASE("learned: backward is the derivative of add", "[learned]") {
  for (const index_t batch : {1, 2, 3, 4, 5, 6, 7, 8, 9}) {
    learned<double> encoder = with_random_table<double>({.rows = 9, .dim = 5, .offset = 1, .scale = -0.75});
    const auto table = encoder.parameters().at(0).values;
    std::vector<position> starts, ids;
    for (index_t b = 0; b < batch; ++b) starts.push_back(b % 5 - 1);
    for (index_t n = 0; n < 4 * batch; ++n) ids.push_back(n % 5 == 3 ? no_position : n * n % 8);
    for (const auto& at :
         {positions::range(4, 2), positions::offsets(starts, 4), positions::ids(std::array{2, 7, 2, -1}), positions::ids(ids, batch)}) {
      const auto x = random_tensor<tensor3<double>>(5, batch, 4, 5), weights = random_tensor<tensor3<double>>(6, batch, 4, 5);
      const auto derivatives = reference::derivatives(
          table,
          [&] {
            auto sum = x;
            encoder.add(sum, at);
            return reference::dot(weights, sum);
          },
          0.5);
      gradient_buffer<double> gradients(encoder.parameters());
      gradients.spans()[0][7] = 100;  // it is added to
      auto d_x = weights;
      encoder.add_backward(d_x, at, gradients.spans());
      gradients.spans()[0][7] -= 100;
      CAPTURE(batch);
      CHECK(reference::difference(gradients.spans()[0], derivatives, 1e-13) == "");
      CHECK(reference::bit_difference(d_x, weights) == "");  // x passes

      gradients.clear();
      encoder.encode_backward(at, weights, gradients.spans(), -4);
      auto four_times = derivatives;
      for (double& one : four_times) one *= -4;
      CHECK(reference::difference(gradients.spans()[0], four_times, 1e-12) == "");
    }
  }
}

TEMPLATE_TEST_CASE("learned: gradients of 16 bits are summed in float", "[learned]", Eigen::half, Eigen::bfloat16) {
  const auto d = given<TestType>(7, 6, 5, 21);
  const learned<float> encoder({.rows = 12, .dim = 21, .offset = 2, .padding_row = 4, .scale = 0.7});
  for (const auto& at : {positions::range(5, 1), positions::offsets(std::array{0, 5, -2, 1, 1, 5}, 5)}) {
    std::vector<float> narrow(252), wide(252);
    encoder.encode_backward(at, d, std::array{std::span(narrow)});
    encoder.encode_backward(at, numbers(d), std::array{std::span(wide)});
    CHECK(reference::bit_difference(narrow, wide) == "");
    CHECK(reference::difference(wide, expected_gradient(encoder.options(), d, at), 1e-6) == "");
  }
}

TEST_CASE("learned: a table is the encoder's own, or adopted", "[learned]") {
  const learned_options options{.rows = 2, .dim = 2};
  std::vector<float> memory{1, 2, 3, 4};
  auto adopted = learned<float>::adopt(options, memory);
  const auto read_only = learned<const float>::adopt(options, memory);
  learned<float> own(options, memory);
  CHECK(adopted == own);
  CHECK(adopted.table().data() == memory.data());
  CHECK(read_only.table().data() == memory.data());
  CHECK(own.table().data() != memory.data());

  auto shares = adopted;
  auto copied = own;
  CHECK(copied.table().data() != own.table().data());
  shares.parameters()[0].values[3] = 7;
  copied.parameters()[0].values[3] = 8;
  CHECK(memory[3] == 7);
  CHECK(adopted.table()(1, 1) == 7);
  CHECK(adopted == shares);
  CHECK(own.table()(1, 1) == 4);
  CHECK(own != copied);
  CHECK(own != adopted);
  CHECK(read_only == learned<const float>::adopt(options, std::array<const float, 4>{1, 2, 3, 7}));
  memory[0] = -5;
  tensor2<float> code(2, 2);
  for (const auto encode : {0, 1}) {
    code.setZero();
    if (encode == 0) read_only.encode(positions::range(2), code);
    else shares.encode(positions::range(2), code);
    CHECK(reference::bit_difference(code, std::vector<float>{-5, 2, 3, 7}) == "");
  }
  const auto moved = std::move(own);
  CHECK(moved.table()(1, 0) == 3);
}

TEST_CASE("learned: encoders are equal where options and values are", "[learned]") {
  const learned_options options{.rows = 2, .dim = 2};
  const auto with = [&](auto&& change) {
    auto other = options;
    change(other);
    return learned<float>(other);
  };
  const learned<float> encoder(options);
  CHECK(encoder == learned<float>(options));
  CHECK(encoder == learned<float>(options, {0, 0, 0, 0}));
  CHECK(encoder != learned<float>(options, {0, 0, 0, 1}));
  CHECK(learned<float>({.rows = 1, .dim = 1}, {0}) == learned<float>({.rows = 1, .dim = 1}));
  CHECK(encoder != with([](auto& o) { o.rows = 1, o.dim = 4; }));
  CHECK(encoder != with([](auto& o) { o.rows = 3; }));
  CHECK(encoder != with([](auto& o) { o.offset = 1; }));
  CHECK(encoder != with([](auto& o) { o.padding_row = 0; }));
  CHECK(encoder != with([](auto& o) { o.outside_table = outside_table::zeros; }));
  CHECK(encoder != with([](auto& o) { o.scale = 2; }));
  CHECK(learned<float>::name() == "learned");
  CHECK(encoder.options() == options);
  CHECK(encoder.dim() == 2);
  CHECK(encoder.axes() == 1);
  learned<float> wide({.rows = 3, .dim = 2});
  const auto all = wide.parameters();
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "table");
  CHECK(all[0].values.size() == 6);
  CHECK(all[0].shape == std::vector<index_t>{3, 2});
}

namespace {

/// One plain function, without an executor: the code of position p is p in all channels.
template <class S>
struct counts {
  using scalar = S;
  static constexpr std::string_view name() { return "counts"; }
  index_t dim() const { return 2; }
  void add(token_view<S>, const positions&) const {}
  void encode(const positions& at, token_view<S> out) const {
    for (index_t t = 0; t < out.extent(1); ++t) out(0, t, 0) = out(0, t, 1) = static_cast<S>(at(0, t));
  }
  friend bool operator==(const counts&, const counts&) = default;
};

}  // namespace

TEMPLATE_TEST_CASE("learned: a tabulated encoder writes the codes that it was made of", "[learned]", float, double) {
  const sinusoidal<TestType> encoder({.dim = 34, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});
  for (const position first : {0, -3, -19}) {
    auto table = tabulated(encoder, 20, first);
    CHECK(table.options() == learned_options{.rows = 20, .dim = 34, .offset = -first});
    for (const auto& at : {positions::range(20, first), positions::ids(std::array<position, 4>{0, no_position, first, first + 19})}) {
      tensor2<TestType> formed(at.time(), 34), looked_up(at.time(), 34);
      encoder.encode(at, formed);
      table.encode(at, looked_up);
      CHECK(reference::bit_difference(looked_up, formed) == "");
    }
    table.parameters()[0].values[0] += 1;  // it may be trained
    CHECK(table != tabulated(encoder, 20, first));
  }
  const auto plain = tabulated(counts<double>{}, 3, -1);
  CHECK(plain == learned<double>({.rows = 3, .dim = 2, .offset = 1}, {-1, -1, 0, 0, 1, 1}));
}

TEST_CASE("learned in a composition", "[learned]") {
  const std::array<double, 6> memory{1, 2, 3, 4, 5, 6};
  compose both(learned<double>({.rows = 3, .dim = 2}, {10, 20, 30, 40, 50, 60}),
               learned<const double>::adopt({.rows = 3, .dim = 2, .offset = 1}, memory));  // frozen
  const auto all = parameters(both);
  REQUIRE(all.size() == 1);
  tensor3<double> x(1, 2, 2);
  x.setConstant(100);
  encode_embeddings(both, x, positions::range(2));
  CHECK(reference::bit_difference(x, std::vector<double>{113, 124, 135, 146}) == "");
  gradient_buffer<double> gradients(all);
  encode_embeddings_backward(both, x, positions::range(2), gradients.spans());
  CHECK(reference::bit_difference(gradients.spans()[0], std::vector<double>{113, 124, 135, 146, 0, 0}) == "");
  CHECK(reference::bit_difference(x, std::vector<double>{113, 124, 135, 146}) == "");
  // Position 2 is known to the first part alone: nothing is written.
  reference::refuses(x, "[learned] a position must have a row in the table, with the row and the number of rows but got 2 and 3 and 3",
                     [&] { encode_embeddings(both, x, positions::range(2, 1)); });
}

TEST_CASE("learned does nothing to empty tensors", "[learned]") {
  for (const auto policy : {outside_table::refuse, outside_table::nearest}) {
    const learned<float> encoder({.rows = 3, .dim = 4, .outside_table = policy});
    tensor3<float> no_batch(0, 2, 4), no_time(2, 0, 4);
    encoder.add(no_batch, positions::range(2, 700));
    encoder.add(no_time, positions::range(0, 700));
    encoder.add(no_time, positions::offsets(std::array{700, 800}, 0));
    encoder.add(no_time, no_time, positions::range(0));
    encoder.encode(positions::range(2, -700), no_batch);
    encoder.encode(positions::range(0, 700), no_time);
    encoder.require_known(positions::range(0, 700));
    std::vector<float> gradient(12, 1);
    encoder.encode_backward(positions::range(0, 700), no_time, std::array{std::span(gradient)});
    encoder.encode_backward(positions::range(2, 700), no_batch, std::array{std::span(gradient)});
    CHECK(gradient == std::vector<float>(12, 1));
    auto rows = random_tensor<tensor2<float>>(8, 3, 4);
    const auto before = rows;
    encoder.add(no_time, rows, std::span<const index_t>(), positions::range(0));
    CHECK(reference::bit_difference(rows, before) == "");
  }
}

TEST_CASE("learned refuses options and tables that do not fit", "[learned][errors]") {
  const auto refused = [](const std::string& text, const learned_options& options) {
    reference::refuses("[learned] " + text, [&] { learned<float>{options}; });
  };
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  refused("rows must be positive but got 0", {.rows = 0, .dim = 4});
  refused("rows must be positive but got -1", {.rows = -1, .dim = 4});
  refused("dim must be positive but got 0", {.rows = 4, .dim = 0});
  refused("the size in bytes must fit in 63 bits but got [2147483648, 1073741824]", {.rows = index_t{1} << 31, .dim = index_t{1} << 30});
  refused("offset must be a row of the table but got 4 and 4", {.rows = 4, .dim = 2, .offset = 4});
  refused("offset must be a row of the table but got 4 and -1", {.rows = 4, .dim = 2, .offset = -1});
  refused("padding_row must be a row of the table but got 4 and 4", {.rows = 4, .dim = 2, .padding_row = 4});
  refused("padding_row must be a row of the table but got 4 and -1", {.rows = 4, .dim = 2, .padding_row = -1});
  refused("scale must be finite but got inf", {.rows = 4, .dim = 2, .scale = infinity});
  refused("scale must be finite but got nan", {.rows = 4, .dim = 2, .scale = nan});
  refused("scale must be finite but got -1e+39", {.rows = 4, .dim = 2, .scale = -1e39});  // in float it would not be
  CHECK(learned<double>({.rows = 4, .dim = 2, .scale = -1e39}).options().scale == -1e39);

  std::vector<float> seven(7);
  const learned_options options{.rows = 4, .dim = 2};
  reference::refuses("[learned] the table must have rows times dim values but got 8 and 7", [&] { learned<float>(options, seven); });
  reference::refuses("[learned] the table must have rows times dim values but got 8 and 7", [&] { learned<float>::adopt(options, seven); });
  reference::refuses("[learned] the table must have rows times dim values but got 8 and 0",
                     [&] { learned<const float>::adopt(options, {}); });
  reference::refuses("[learned] scale must be finite but got nan",
                     [&] { learned<float>::adopt({.rows = 7, .dim = 1, .scale = nan}, seven); });

  const auto untabulated = [](const std::string& text, index_t rows, position first) {
    reference::refuses(text, [&] { tabulated(counts<double>{}, rows, first); });
  };
  const std::string rule = "[tabulated] position 0 must be in the table, with its rows and the first position but got ";
  untabulated(rule + "3 and 1", 3, 1);
  untabulated(rule + "3 and -3", 3, -3);
  untabulated(rule + "3 and -9223372036854775808", 3, no_position);
  untabulated("[learned] rows must be positive but got 0", 0, 0);
}

TEST_CASE("learned refuses tensors that do not fit, before it writes", "[learned][errors]") {
  const auto encoder = with_random_table<float>({.rows = 5, .dim = 4, .offset = 2});
  auto x = random_tensor<tensor3<float>>(9, 2, 3, 4);
  const auto at = positions::range(3);
  const auto refused = [&](const std::string& text, auto&& act) { reference::refuses(x, "[learned] " + text, act); };
  auto wide = random_tensor<tensor3<float>>(10, 2, 3, 5);
  reference::refuses(wide, "[learned] channels must equal dim but got 4 and 5", [&] { encoder.add(wide, at); });
  refused("time must match the positions but got 3 and 2", [&] { encoder.add(x, positions::range(2)); });
  refused("batch must match the positions but got 2 and 1", [&] { encoder.add(x, positions::offsets(std::array{0}, 3)); });
  refused("the positions must have as many axes as the encoder but got 1 and 2",
          [&] { encoder.add(x, positions::multi_axis(std::array{0, 1, 2, 0, 1, 2}, 2)); });
  refused("the last axis must be contiguous but got 2", [&] { encoder.add(tensor_view<float, 3>(x.data(), {1, 3, 4}, {24, 8, 2}), at); });
  refused("the elements of an output must be distinct, with strides that nest but got [0, 4, 1]",
          [&] { encoder.encode(at, tensor_view<float, 3>(x.data(), {2, 3, 4}, {0, 4, 1})); });
  refused("the output must have the input's shape but got [2, 3, 5] and [2, 3, 4]", [&] { encoder.add(wide, x, at); });
  refused("input and output must be one view or not overlap but got [1, 3, 4] and [1, 3, 4]",
          [&] { encoder.add(tensor_view<const float, 3>(x.data() + 4, {1, 3, 4}), tensor_view<float, 3>(x.data(), {1, 3, 4}), at); });
  refused("there must be one destination row per token but got 6 and 0",
          [&] { encoder.add(x, tensor_view<float, 2>(x.data(), {6, 4}), std::span<const index_t>(), at); });

  const auto beyond = [](const std::string& id, const std::string& row) {
    return "a position must have a row in the table, with the row and the number of rows but got " + id + " and " + row + " and 5";
  };
  refused(beyond("3", "5"), [&] { encoder.add(x, positions::range(3, 1)); });
  refused(beyond("-3", "-1"), [&] { encoder.add(x, positions::range(3, -3)); });
  refused(beyond("3", "5"), [&] { encoder.encode(positions::range(3, 1), x); });
  refused(beyond("4611686018427387904", "4611686018427387906"),
          [&] { encoder.add(x, positions::ids(std::array{position{0}, positions::limit, position{9}})); });
  refused(beyond("-3", "-1"), [&] { encoder.add(x, positions::offsets(std::array{-2, -3}, 3)); });
  refused(beyond("3", "5"), [&] { encoder.add(x, positions::offsets(std::array{0, 1}, 3)); });
  refused(beyond("-3", "-1"), [&] { encoder.add(x, positions::ids(std::array{0, 1, 2, 0, -3, 2}, 2)); });
  encoder.add(x, positions::range(3, -2));  // the whole table
  encoder.add(x, positions::range(3));
}

TEST_CASE("learned refuses gradients that do not fit, before it writes", "[learned][errors]") {
  const learned<float> encoder({.rows = 3, .dim = 2});
  const auto d = random_tensor<tensor3<float>>(11, 2, 3, 2);
  std::array<float, 6> sums{1, 2, 3, 4, 5, 6};
  std::array<float, 5> few{};
  const auto refused = [&](const std::string& text, const positions& at, gradient_spans<float> spans) {
    reference::refuses(sums, "[learned] " + text, [&] { encoder.encode_backward(at, d, spans); });
  };
  const std::array<std::span<float>, 1> good{sums}, small{few};
  const std::array<std::span<float>, 2> many{sums, sums};
  refused("there must be one gradient span per parameter but got 1 and 0", positions::range(3), {});
  refused("there must be one gradient span per parameter but got 1 and 2", positions::range(3), many);
  refused("the gradient must have the size of the table but got 6 and 5", positions::range(3), small);
  refused("time must match the positions but got 3 and 4", positions::range(4), good);
  refused("a position must have a row in the table, with the row and the number of rows but got 3 and 3 and 3", positions::range(3, 1),
          good);
  reference::refuses(sums, "[learned] channels must equal dim but got 2 and 3",
                     [&] { encoder.encode_backward(positions::range(2), tensor3<float>(1, 2, 3), good); });
}
