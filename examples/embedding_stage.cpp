// What embeddings get: codes from tables, scaled sums, concatenation, and their gradients.
#include <posenc/posenc.hpp>

#include <array>
#include <cmath>
#include <cstdio>
#include <span>
#include <vector>

int main() {
  using embeddings = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  const posenc::index_t batch = 2, time = 16, dim = 64;
  const auto at = posenc::positions::range(time);
  embeddings x(batch, time, dim), wide(batch, time, dim + dim);
  x.setRandom();

  const posenc::sinusoidal<float> vaswani(
      {.dim = dim, .order = posenc::channel_order::interleaved, .exponent_rule = posenc::exponent_rule::vaswani{}});
  vaswani.add(x, at);                                                                        // forms the codes
  const auto ready = posenc::tabulated(vaswani, 512);                                        // or once, into a table
  ready.add(x, at);                                                                          // at the speed of memory
  const posenc::scaled_sum embed(ready, {.token_scale = std::sqrt(64.0)});                   // x * 8 + code
  embed.add(x, at);
  posenc::concatenate(vaswani, x, wide, at);                                                 // [x; code]

  // A checkpoint's table where it lies in memory, numbered as OPT does: position 0 takes row 2.
  const std::vector<float> weights(514 * dim, 0.5f);
  const auto opt = posenc::learned<const float>::adopt({.rows = 514, .dim = dim, .offset = 2}, std::span(weights));
  opt.add(x, posenc::positions::from_padding_mask(std::vector{0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,  //
                                                              1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
                                                  batch));

  // A table to train: BERT's.
  posenc::learned<float> bert({.rows = 512, .dim = dim});
  posenc::random_source random(1);
  posenc::initialize::normal(bert.parameters()[0].values, random, {.standard_deviation = 0.02});
  posenc::gradient_buffer gradients(posenc::parameters(bert));
  posenc::encode_embeddings(bert, x, at);
  posenc::encode_embeddings_backward(bert, x, at, gradients.spans());  // as if x were the gradient of the loss

  // Codes of several encoders in one pass over x: rows of a page and columns, say.
  const posenc::compose both(bert, vaswani);
  posenc::encode_embeddings(both, x, at);
  std::printf("%.4f\n", static_cast<double>(gradients.spans()[0][0]));
}
