// SPDX-License-Identifier: MIT
// Vectors times weights: the projection of embeddings and codes, and small networks over positions.
#include "bench.hpp"

#include <posenc/kernels/linear.hpp>
#include <posenc/tensor.hpp>

#include <Eigen/Core>

#include <string>

namespace bench {
namespace {

using matrix_map = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
using row_map = Eigen::Map<Eigen::RowVectorXf>;

[[gnu::noinline]] void raw_linear(const float* __restrict x, const float* __restrict w, const float* __restrict bias, float* __restrict y,
                                  index_t tokens, index_t in, index_t out) {
  for (index_t t = 0; t < tokens; ++t)
    for (index_t o = 0; o < out; ++o) {
      float sum = bias[o];
      for (index_t c = 0; c < in; ++c) sum += x[t * in + c] * w[o * in + c];
      y[t * out + o] = sum;
    }
}

/// Products are the limit here, not memory: "ns/item" counts them.
void add_linear(suite& all, index_t tokens, index_t in, index_t out) {
  const double bytes = static_cast<double>(tokens * (in + out) + out * in) * sizeof(float);
  const row& one = all.add_row({.path = "linear_f32_" + std::to_string(in) + "_to_" + std::to_string(out),
                                .size = std::to_string(tokens) + "tokens",
                                .shape = shape_text({tokens, in, out}),
                                .bytes = bytes,
                                .moved = bytes,
                                .items = static_cast<double>(tokens) * static_cast<double>(in) * static_cast<double>(out),
                                .other = "Eigen's matrix product",
                                .goals = {{1, measure::other}}});

  all.add(one, variant::posenc, [=] {
    const posenc::kernels::linear_call<float> call{.x = buffer<float>(0, tokens * in),
                                                   .y = buffer<float>(1, tokens * out),
                                                   .tokens = tokens,
                                                   .in = in,
                                                   .out = out,
                                                   .x_token = in,
                                                   .y_token = out,
                                                   .w = buffer<float>(2, out * in),
                                                   .w_row = in,
                                                   .start = buffer<float>(3, out)};
    return [call] { posenc::kernels::linear(call); };
  });
  all.add(one, variant::raw, [=] {
    return [=, x = buffer<float>(0, tokens * in), y = buffer<float>(1, tokens * out), w = buffer<float>(2, out * in),
            bias = buffer<float>(3, out)] { raw_linear(x, w, bias, y, tokens, in, out); };
  });
  all.add(one, variant::other, [=] {
    return [x = matrix_map(buffer<float>(0, tokens * in), tokens, in), y = matrix_map(buffer<float>(1, tokens * out), tokens, out),
            w = matrix_map(buffer<float>(2, out * in), out, in), bias = row_map(buffer<float>(3, out), out)]() mutable {
      y.noalias() = x * w.transpose();
      y.rowwise() += bias;
    };
  });
}

}  // namespace

void add_linears(suite& all) {
  add_linear(all, 256, 1024, 512);
  add_linear(all, 512, 64, 64);
  add_linear(all, 1, 1024, 512);
}

}  // namespace bench
