// What systems call sinusoidal codes, one setting each: they differ in where sines and cosines stand, in how frequencies fall, and in where
// counting starts. Checkpoints record none of it.
#include <posenc/masked_grid.hpp>
#include <posenc/posenc.hpp>
#include <posenc/sinusoidal/axial_sinusoidal.hpp>
#include <posenc/sinusoidal/channel_permutation.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

namespace {

using matrix = Eigen::Tensor<float, 2, Eigen::RowMajor>;

/// The code of the last token.
template <class Encoder, class At>
void print(const char* name, const Encoder& encoder, const At& at) {
  matrix codes(at.time(), encoder.dim());
  encoder.encode(at, codes);
  std::printf("%-18s", name);
  for (posenc::index_t c = 0; c < 6; ++c) std::printf(" %7.4f", static_cast<double>(codes(at.time() - 1, c)));
  std::printf(" ...\n");
}

}  // namespace

int main() {
  namespace rule = posenc::exponent_rule;
  using enum posenc::channel_order;
  using enum posenc::sinusoidal_arrangement;
  using posenc::grid_order;

  const posenc::sinusoidal<float> vaswani({.dim = 64, .order = interleaved, .exponent_rule = rule::vaswani{}});
  const posenc::sinusoidal<float> marian(
      {.dim = 63, .order = sin_cos, .exponent_rule = rule::vaswani{}, .odd_dim = posenc::odd_dim::drop_last});
  const posenc::sinusoidal<float> whisper({.dim = 64, .order = sin_cos, .exponent_rule = rule::tensor2tensor{}});
  const posenc::sinusoidal<float> fairseq({.dim = 64,
                                           .order = sin_cos,
                                           .exponent_rule = rule::tensor2tensor{},
                                           .odd_dim = posenc::odd_dim::zero_last,
                                           .padding_position = 1});  // tokens are numbered from 2
  const posenc::sinusoidal<float> ctranslate2({.dim = 64, .order = sin_cos, .exponent_rule = rule::tensor2tensor{}, .start = 1});
  const posenc::sinusoidal<float> mlx(
      {.dim = 64, .order = sin_cos, .exponent_rule = rule::log_linear{}, .scale = std::sqrt(2 / 64.0), .full_turns = true});
  const auto tokens = posenc::positions::range(4);
  print("Vaswani", vaswani, tokens);
  print("Marian, odd", marian, tokens);
  print("Whisper", whisper, tokens);
  print("fairseq", fairseq, posenc::positions::range(4, 2));
  print("CTranslate2", ctranslate2, tokens);
  print("MLX, full turns", mlx, tokens);

  // Timesteps of diffusion models are coordinates: they need not be whole.
  const posenc::sinusoidal<float> guided_diffusion(
      {.dim = 320, .order = cos_sin, .exponent_rule = rule::downscaled{.shift = 0}, .odd_dim = posenc::odd_dim::zero_last});  // ggml too
  const posenc::sinusoidal<float> diffusers(
      {.dim = 320, .order = sin_cos, .exponent_rule = rule::downscaled{.shift = 1}, .odd_dim = posenc::odd_dim::zero_last});
  const auto timesteps = posenc::coordinates::values(std::vector{999.0, 37.25}, 1);
  print("guided-diffusion", guided_diffusion, timesteps);
  print("diffusers", diffusers, timesteps);

  // Pictures: which axis comes first is said where positions are made.
  const posenc::axial_sinusoidal<float> mae(
      {.dim = 768, .widths = {384, 384}, .order = sin_cos, .arrangement = blocks, .exponent_rule = rule::vaswani{}});
  const posenc::axial_sinusoidal<float> timm(
      {.dim = 768, .widths = {384, 384}, .order = sin_cos, .arrangement = across, .exponent_rule = rule::vaswani{}});
  const posenc::axial_sinusoidal<float> detr(
      {.dim = 256, .widths = {128, 128}, .order = interleaved, .arrangement = blocks, .exponent_rule = rule::vaswani{}});
  const posenc::axial_sinusoidal<float> timing_signal({.dim = 30,
                                                       .widths = posenc::timing_signal_widths(30, 2),
                                                       .order = sin_cos,
                                                       .arrangement = blocks,
                                                       .exponent_rule = rule::tensor2tensor{}});
  const posenc::axial_sinusoidal<float> multidim({.dim = 30,
                                                  .widths = posenc::multidim_widths(30, 2),
                                                  .order = interleaved,
                                                  .arrangement = blocks,
                                                  .exponent_rule = rule::vaswani{},
                                                  .truncate = true});
  const posenc::axial_sinusoidal<float> film({.dim = 1920,
                                              .widths = posenc::diffusers_film_widths(1920),
                                              .order = sin_cos,
                                              .arrangement = blocks,
                                              .exponent_rule = rule::vaswani{}});
  const auto x_first = posenc::grid_positions({.extents = {3, 4}, .order = grid_order::fastest_first, .prefix = 1});
  const auto y_first = posenc::grid_positions({.extents = {3, 4}, .order = grid_order::slowest_first});
  print("MAE", mae, x_first);
  print("timm", timm, y_first);
  print("tensor2tensor, 2-D", timing_signal, y_first);
  print("multidim", multidim, y_first);
  print("diffusers' films", film, posenc::diffusers_film_positions(2, 3, 4));

  // DETR counts the real cells of padded pictures, and scales the counts to [0, 2 pi].
  const std::vector<int> mask{1, 1, 0,  //
                              1, 1, 0};
  print("DETR", detr, posenc::masked_grid(mask, {1, 2, 3}, grid_order::slowest_first));
  print("DETR, normalized", detr, posenc::normalized_mask(mask, {1, 2, 3}, {.order = grid_order::slowest_first}));

  // Weights that were trained with one order run with another: input channel n becomes what channel permutation[n] was.
  const posenc::sinusoidal<float> other_order({.dim = 64, .order = sin_cos, .exponent_rule = rule::vaswani{}});
  matrix weights(128, 64);
  weights.setRandom();
  posenc::permute_channels(weights, posenc::channel_permutation(vaswani, other_order));
}
