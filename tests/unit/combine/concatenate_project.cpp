// SPDX-License-Identifier: MIT
#include <posenc/combine/concatenate_project.hpp>

#include <posenc/combine.hpp>
#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "table_codes.hpp"

#include <cmath>
#include <limits>
#include <span>
#include <vector>

using namespace posenc;

namespace {

template <class S>
using tensor = Eigen::Tensor<S, 3, Eigen::RowMajor>;
using project_float = concatenate_project<sinusoidal<float>>;
using project_table = concatenate_project<doubles::table_codes>;

sinusoidal<float> codes_of(index_t dim) {
  return sinusoidal<float>({.dim = dim, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});
}
project_float projection(index_t in, index_t dim, index_t out) {
  return {codes_of(dim), {.in = in, .out = out}, random_vector<float>(1, out * (in + dim)), random_vector<float>(2, out)};
}
project_table trained(index_t in, index_t dim, index_t out, index_t rows) {
  return {doubles::table_codes{{rows, dim, random_vector<double>(3, rows * dim)}},
          {.in = in, .out = out},
          random_vector<double>(4, out * (in + dim)),
          random_vector<double>(5, out)};
}

/// W [x; code] + b, term after term, in double.
template <class E>
Eigen::Tensor<double, 3, Eigen::RowMajor> expected(const concatenate_project<E>& projection, const auto& x, const positions& at) {
  const auto& encoder = projection.encoder();
  const index_t in = x.dimension(2), dim = encoder.dim(), out = projection.options().out;
  tensor<typename E::scalar> codes(x.dimension(0), x.dimension(1), dim);
  encoder.encode(at, codes);
  Eigen::Tensor<double, 3, Eigen::RowMajor> y(x.dimension(0), x.dimension(1), out);
  doubles::for_each(std::array<index_t, 3>{x.dimension(0), x.dimension(1), out}, [&](index_t b, index_t t, index_t o) {
    double sum = static_cast<double>(projection.linear_bias()[static_cast<std::size_t>(o)]);
    for (index_t c = 0; c < in + dim; ++c)
      sum += static_cast<double>(projection.linear_weight()[static_cast<std::size_t>(o * (in + dim) + c)]) *
             static_cast<double>(c < in ? static_cast<typename E::scalar>(x(b, t, c)) : codes(b, t, c - in));
    y(b, t, o) = sum;
  });
  return y;
}

static_assert(additive_encoder<project_float> && position_encoder<project_float> && trainable<project_float>);
static_assert(additive_encoder<project_table> && position_encoder<compose<project_table>>);

}  // namespace

TEST_CASE("the projection is that of the concatenation", "[concatenate_project]") {
  for (const auto& [batch, time, in, dim, out] :
       {std::array<index_t, 5>{2, 5, 7, 4, 3}, {3, 1, 5, 2, 9}, {1, 1, 1, 2, 1}, {2, 70, 20, 1000, 900}, {40, 2, 3, 4, 5}}) {
    const auto project = projection(in, dim, out);
    const auto x = random_tensor<tensor<float>>(6, batch, time, in);
    std::vector<position> starts;
    for (index_t b = 0; b < batch; ++b) starts.push_back(100 * b - 5);
    for (const auto& at : {positions::range(time, 3), positions::offsets(starts, time)}) {
      tensor<float> y(batch, time, out);
      project.project(x, y, at);
      INFO(batch << " x " << time << ", " << in << " + " << dim << " to " << out);
      CHECK(reference::difference(y, expected(project, x, at), 1e-6 * static_cast<double>(in + dim)) == "");
    }
  }
}

TEST_CASE("W [x; code] is W_x x + W_code code: of two identities, the sum", "[concatenate_project]") {
  constexpr index_t channels = 6;
  std::vector<float> weight(2 * channels * channels), bias(channels);
  for (std::size_t o = 0; o < channels; ++o) weight[o * 2 * channels + o] = weight[o * 2 * channels + channels + o] = 1;
  const project_float project(codes_of(channels), {.in = channels, .out = channels}, weight, bias);
  auto x = random_tensor<tensor<float>>(7, 2, 9, channels), sum = x;
  project.add(x, positions::range(9, 40));
  codes_of(channels).add(sum, positions::range(9, 40));
  CHECK(reference::bit_difference(x, sum) == "");
}

TEST_CASE("a token without a position is projected with a code of zeros", "[concatenate_project]") {
  const auto project = projection(3, 4, 2);
  const auto x = random_tensor<tensor<float>>(8, 1, 2, 3);
  const auto at = positions::ids(std::vector{no_position, position{6}});
  tensor<float> y(1, 2, 2);
  project.project(x, y, at);
  for (index_t o = 0; o < 2; ++o) {
    float sum = project.linear_bias()[static_cast<std::size_t>(o)];
    for (index_t c = 0; c < 3; ++c) sum += project.linear_weight()[static_cast<std::size_t>(o * 7 + c)] * x(0, 0, c);
    CHECK(std::abs(y(0, 0, o) - sum) < 1e-6f);
  }
}

TEST_CASE("projecting in place, on threads, token by token and at any instruction set gives the same bits", "[concatenate_project]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  constexpr index_t batch = 2, time = 150, channels = 70;
  const auto project = projection(channels, 40, channels);
  const auto x = random_tensor<tensor<float>>(9, batch, time, channels);
  std::vector<position> ids;
  for (index_t n = 0; n < batch * time; ++n) ids.push_back(n % 7 == 3 ? no_position : (n * 37) % 1000);
  for (const auto& at : {positions::range(time, 10), positions::ids(ids, batch)}) {
    tensor<float> y(batch, time, channels);
    {
      const pinned scope(instruction_set::baseline);
      project.project(x, y, at);
    }
    at_every_instruction_set([&] {
      auto in_place = x, on_threads = x;
      project.add(in_place, at);
      CHECK(reference::bit_difference(in_place, y) == "");
      project.add(on_threads, at, device);
      CHECK(reference::bit_difference(on_threads, y) == "");
      tensor<float> alone(batch, time, channels);
      for (index_t t = 0; t < time; ++t) {
        const tensor_view<const float, 3> one_x(&x(0, t, 0), {batch, 1, channels}, {time * channels, channels, 1});
        const tensor_view<float, 3> one(&alone(0, t, 0), {batch, 1, channels}, {time * channels, channels, 1});
        project.project(one_x, one, at.slice(t, 1));
      }
      CHECK(reference::bit_difference(alone, y) == "");
      for (index_t t = 0; t < time; ++t) {
        const tensor_view<float, 3> one(&alone(0, t, 0), {batch, 1, channels}, {time * channels, channels, 1});
        for (index_t b = 0; b < batch; ++b)
          for (index_t c = 0; c < channels; ++c) one(b, 0, c) = x(b, t, c);
        project.add(one, at.slice(t, 1));
      }
      CHECK(reference::bit_difference(alone, y) == "");
    });
  }
}

TEST_CASE("16-bit embeddings are rounded once", "[concatenate_project]") {
  const auto project = projection(8, 4, 5);
  Eigen::Tensor<Eigen::bfloat16, 3, Eigen::RowMajor> x(1, 9, 8), y(1, 9, 5);
  tensor<float> wide(1, 9, 8), wide_y(1, 9, 5);
  fill(wide, 10);
  for (index_t n = 0; n < x.size(); ++n) {
    x.data()[n] = static_cast<Eigen::bfloat16>(wide.data()[n]);
    wide.data()[n] = static_cast<float>(x.data()[n]);
  }
  project.project(x, y, positions::range(9));
  project.project(wide, wide_y, positions::range(9));
  for (index_t n = 0; n < y.size(); ++n) CHECK(reference::same_bits(y.data()[n], static_cast<Eigen::bfloat16>(wide_y.data()[n])));
}

TEST_CASE("the gradients are those of finite differences", "[concatenate_project]") {
  struct sizes {
    index_t batch, time, in, out;
    bool shared;
  };
  for (const sizes& of : {sizes{2, 4, 3, 5, true}, {2, 4, 3, 3, false}, {3, 1, 4, 2, true}, {3, 1, 2, 2, false}}) {
    const index_t batch = of.batch, time = of.time, in = of.in, out = of.out;
    const bool shared = of.shared;
    constexpr index_t dim = 3, rows = 6;
    auto project = trained(in, dim, out, rows);
    auto x = random_tensor<tensor<double>>(11, batch, time, in);
    const auto d_out = random_tensor<tensor<double>>(12, batch, time, out);
    std::vector<position> ids;
    for (index_t n = 0; n < (shared ? time : batch * time); ++n) ids.push_back(n == 2 ? no_position : (n * 5) % rows);
    const auto at = shared ? positions::ids(ids) : positions::ids(ids, batch);
    const auto loss = [&] {
      tensor<double> y(batch, time, out);
      project.project(x, y, at);
      return reference::dot(y, d_out);
    };
    gradient_buffer<double> gradients(project.parameters());
    tensor<double> d_x(batch, time, in);
    d_x.setConstant(77);
    project.project_backward(x, d_out, d_x, at, gradients.spans());
    INFO(batch << " x " << time << ", " << in << " to " << out << (shared ? ", one code for all rows" : ", codes by row"));
    CHECK(reference::difference(d_x, reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, 0.5), 1e-12) == "");
    auto all = project.parameters();
    REQUIRE(all.size() == 3);
    for (std::size_t n = 0; n < all.size(); ++n)
      CHECK(reference::difference(gradients.spans()[n], reference::derivatives(all[n].values, loss, 0.5), 1e-12) == "");

    // Once more is twice as much; in place where the widths are the same.
    if (in != out) continue;
    auto d = d_out;
    const std::vector<double> once(gradients.spans()[0].begin(), gradients.spans()[0].end());
    project.project_backward(x, d, d, at, gradients.spans());
    CHECK(reference::bit_difference(d, d_x) == "");
    std::vector<double> twice = once;
    for (double& value : twice) value *= 2;
    CHECK(reference::difference(gradients.spans()[0], twice, 1e-12) == "");
  }
}

TEST_CASE("one time of longer sequences has the gradients that it has by itself", "[concatenate_project]") {
  constexpr index_t batch = 3, time = 4, in = 2, out = 5;
  auto project = trained(in, 3, out, 9);
  const auto x = random_tensor<tensor<double>>(30, batch, time, in), d_out = random_tensor<tensor<double>>(31, batch, time, out);
  tensor<double> d_x(batch, time, in), own_x(batch, 1, in), own_d(batch, 1, out), own_d_x(batch, 1, in);
  d_x.setZero();
  doubles::for_each(std::array<index_t, 3>{batch, 1, in}, [&](index_t b, index_t t, index_t c) { own_x(b, t, c) = x(b, 2, c); });
  doubles::for_each(std::array<index_t, 3>{batch, 1, out}, [&](index_t b, index_t t, index_t c) { own_d(b, t, c) = d_out(b, 2, c); });
  for (const auto& at : {positions::range(1, 7), positions::offsets(std::vector{1, 8, 4}, 1)}) {
    gradient_buffer<double> inside(project.parameters()), alone(project.parameters());
    project.project_backward(tensor_view<const double, 3>(&x(0, 2, 0), {batch, 1, in}, {time * in, in, 1}),
                             tensor_view<const double, 3>(&d_out(0, 2, 0), {batch, 1, out}, {time * out, out, 1}),
                             tensor_view<double, 3>(&d_x(0, 2, 0), {batch, 1, in}, {time * in, in, 1}), at, inside.spans());
    project.project_backward(own_x, own_d, own_d_x, at, alone.spans());
    for (std::size_t n = 0; n < 3; ++n) CHECK(reference::bit_difference(inside.spans()[n], alone.spans()[n]) == "");
    for (index_t b = 0; b < batch; ++b)
      for (index_t c = 0; c < in; ++c) CHECK(d_x(b, 2, c) == own_d_x(b, 0, c));
  }
  CHECK(d_x(1, 1, 0) == 0);
}

TEST_CASE("gradients have the same bits on any number of threads", "[concatenate_project]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  constexpr index_t batch = 2, time = 700, channels = 40;
  const auto project = trained(channels, 24, channels, time);
  const auto x = random_tensor<tensor<double>>(13, batch, time, channels), d_out = random_tensor<tensor<double>>(14, batch, time, channels);
  auto copy = project;
  gradient_buffer<double> alone(copy.parameters()), together(copy.parameters());
  tensor<double> d_x(batch, time, channels);
  project.project_backward(x, d_out, d_x, positions::range(time), alone.spans());
  auto d = d_out;
  project.project_backward(x, d, d, positions::range(time), together.spans(), device);
  CHECK(reference::bit_difference(d, d_x) == "");
  for (std::size_t n = 0; n < 3; ++n) CHECK(reference::bit_difference(together.spans()[n], alone.spans()[n]) == "");
}

TEST_CASE("it begins as torch's Linear does", "[concatenate_project]") {
  random_source random(15), again(15);
  project_float project(codes_of(8), {.in = 8, .out = 200}, random);
  CHECK(project == project_float(codes_of(8), {.in = 8, .out = 200}, again));
  CHECK(random == again);
  CHECK(!(project == project_float(codes_of(8), {.in = 8, .out = 200}, again)));
  for (const auto& one : project.parameters()) {
    double most = 0, sum = 0, squares = 0;
    for (const float value : one.values) {
      most = std::max(most, static_cast<double>(std::abs(value)));
      sum += static_cast<double>(value);
      squares += static_cast<double>(value) * static_cast<double>(value);
    }
    CHECK(std::abs(sum / static_cast<double>(one.values.size())) < 0.04);
    CHECK(most <= 0.25);
    CHECK(most > 0.24);
    CHECK(std::abs(squares / static_cast<double>(one.values.size()) - 0.25 * 0.25 / 3) < 0.003);
  }
  const auto all = project.parameters();
  REQUIRE(all.size() == 2);
  CHECK((all[0].name == "weight" && all[0].shape == std::vector<index_t>{200, 16} && all[0].values.size() == 3200));
  CHECK((all[1].name == "bias" && all[1].shape == std::vector<index_t>{200} && all[1].values.size() == 200));
  auto table = trained(2, 3, 4, 5);
  const auto with_codes = table.parameters();
  REQUIRE(with_codes.size() == 3);
  CHECK((with_codes[2].name == "codes" && with_codes[2].shape == std::vector<index_t>{5, 3}));
  with_codes[2].values[0] = 42;
  CHECK(table.encoder().codes(0, 0) == 42);
}

TEST_CASE("it serves as an additive encoder", "[concatenate_project]") {
  const auto project = projection(6, 4, 6);
  auto x = random_tensor<tensor<float>>(16, 2, 3, 6), by_stage = x, composed = x;
  project.add(x, positions::range(3));
  encode_embeddings(project, by_stage, positions::range(3));
  compose(project).add(composed, positions::range(3));
  CHECK(reference::bit_difference(by_stage, x) == "");
  CHECK(reference::bit_difference(composed, x) == "");
}

TEST_CASE("the projection refuses what does not fit", "[concatenate_project]") {
  using reference::refuses;
  const std::string who = "[concatenate_project] ";
  random_source random(17);
  refuses(who + "in must be positive but got 0", [&] { project_float(codes_of(4), {.in = 0, .out = 3}, random); });
  refuses(who + "out must be positive but got -1", [&] { project_float(codes_of(4), {.in = 3, .out = -1}, random); });
  constexpr index_t huge = index_t{1} << 61;
  refuses(who + "the size in bytes must fit in 63 bits but got [1, 2305843009213693952]",
          [&] { project_float(codes_of(4), {.in = huge, .out = 1}, random); });
  const std::vector<float> none;
  refuses(who + "the weight must be [out, in + dim] but got 14 and 0",
          [&] { project_float(codes_of(4), {.in = 3, .out = 2}, none, std::vector<float>(2)); });
  refuses(who + "the bias must be [out] but got 2 and 0",
          [&] { project_float(codes_of(4), {.in = 3, .out = 2}, std::vector<float>(14), none); });

  const auto project = projection(5, 4, 3);
  const auto at = positions::range(2);
  const auto x = random_tensor<tensor<float>>(18, 2, 2, 5);
  auto y = random_tensor<tensor<float>>(19, 2, 2, 3);
  refuses(y, who + "the input's channels must equal in but got 5 and 4", [&] { project.project(tensor<float>(2, 2, 4), y, at); });
  refuses(y, who + "the output's channels must equal out but got 3 and 5", [&] {
    tensor<float> wide(2, 2, 5);
    project.project(x, wide, at);
  });
  refuses(y, who + "both tensors must have the same tokens but got [2, 1, 5] and [2, 2, 3]",
          [&] { project.project(tensor<float>(2, 1, 5), y, at); });
  refuses(y, who + "time must match the positions but got 2 and 3", [&] { project.project(x, y, positions::range(3)); });
  refuses(y, "[sinusoidal] the positions must have as many axes as the encoder but got 1 and 2",
          [&] { project.project(x, y, positions::multi_axis(std::vector{1, 2, 3, 4}, 2)); });
  refuses(y, who + "in must equal out to project in place but got 5 and 3", [&] { project.add(y, at); });
  auto square = random_tensor<tensor<float>>(20, 1, 4, 5);
  const auto same = projection(5, 4, 5);
  const std::string apart = "input and output must be one view or not overlap but got [1, 2, 5] and [1, 2, 5]";
  refuses(square, who + apart,
          [&] { same.project(tensor_view<float, 3>(square.data(), {1, 2, 5}), tensor_view<float, 3>(square.data() + 5, {1, 2, 5}), at); });
  refuses(square, who + "the elements of an output must be distinct, with strides that nest but got [0, 5, 1]",
          [&] { same.add(tensor_view<float, 3>(square.data(), {2, 2, 5}, {0, 5, 1}), at); });

  auto table = trained(5, 4, 3, 2);
  gradient_buffer<double> gradients(table.parameters());
  const auto x_double = random_tensor<tensor<double>>(21, 2, 2, 5), d = random_tensor<tensor<double>>(22, 2, 2, 3);
  auto d_x = random_tensor<tensor<double>>(23, 2, 2, 5);
  const auto spans = gradients.spans();
  refuses(d_x, who + "gradients must have the shapes of what they are of but got [2, 2, 5] and [2, 2, 3]", [&] {
    tensor<double> narrow(2, 2, 3);
    table.project_backward(x_double, d, narrow, at, spans);
  });
  refuses(d_x, who + "there must be one gradient span per parameter but got 3 and 2",
          [&] { table.project_backward(x_double, d, d_x, at, spans.first(2)); });
  const std::vector<std::span<double>> swapped{spans[1], spans[0], spans[2]};
  refuses(d_x, who + "gradients must have the sizes of weight and bias but got 3 and 27",
          [&] { table.project_backward(x_double, d, d_x, at, swapped); });
  refuses(d_x, who + "the gradient must not overlap the input but got [2, 2, 5] and [2, 2, 5]",
          [&] { table.project_backward(d_x, d, d_x, at, spans); });
  auto both = random_tensor<tensor<double>>(24, 2, 2, 8);
  refuses(both, who + "both gradients must be one view or not overlap but got [2, 2, 3] and [2, 2, 5]", [&] {
    table.project_backward(x_double, tensor_view<double, 3>(both.data(), {2, 2, 3}), tensor_view<double, 3>(both.data() + 3, {2, 2, 5}), at,
                           spans);
  });
  for (const auto& one : spans)
    for (const double value : one) CHECK(value == 0);
}
