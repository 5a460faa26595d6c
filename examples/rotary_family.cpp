// How models say which rotary encoding they use, and what comes out of it.
#include <posenc/posenc.hpp>

#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

namespace {

void report(const char* model, const posenc::rotary_spectrum& came_out) {
  const auto& speeds = came_out.frequencies;
  double longest = 0;
  for (posenc::index_t n = 0; n < speeds.count() * speeds.axes(); ++n)
    if (std::isfinite(speeds.wavelength(n))) longest = std::fmax(longest, speeds.wavelength(n));
  std::printf("%-22s %3d pairs on %d axes, longest wavelength %11.1f, factor %.4f\n", model, static_cast<int>(speeds.count()),
              static_cast<int>(speeds.axes()), longest, came_out.attention_factor);
}

}  // namespace

int main() {
  namespace schedule = posenc::schedule;
  namespace axial = posenc::axial;
  using enum posenc::pairing;

  const posenc::rope<float> llama3_1({.pairing = halves, .dim = 128}, {.base = 500000, .schedule = schedule::llama3{.factor = 8}});
  const posenc::rope<float> deepseek_v3(
      {.pairing = interleaved_to_halves, .dim = 64},  // as in HF; `interleaved` in DeepSeek's own code
      {.schedule = schedule::yarn{.factor = 40, .original_length = 4096, .mscale = 1, .mscale_all_dim = 1}});
  const posenc::rope<float> gemma4({.pairing = halves, .dim = 512}, {.base = 1e6, .schedule = schedule::proportional{.fraction = 0.25}});
  const posenc::multimodal_rope<float> qwen3_vl(
      {.pairing = halves, .dim = 128}, {.sections = {24, 20, 20}, .arrangement = posenc::multimodal_arrangement::interleaved, .base = 5e6});
  const posenc::axial_rope<float> rope_vit({.pairing = interleaved, .dim = 64}, {.widths = {32, 32}, .frequencies = axial::language{100}});
  const posenc::axial_rope<float> dinov3({.pairing = halves, .dim = 64}, {.widths = {32, 32}, .frequencies = axial::periods{100}});
  const posenc::axial_rope<float> wan({.pairing = interleaved, .dim = 128}, {.widths = posenc::wan_widths(128)});
  report("Llama 3.1", llama3_1.inspect());
  report("DeepSeek-V3", deepseek_v3.inspect());
  report("Gemma 4, global", gemma4.inspect());
  report("Qwen3-VL", qwen3_vl.inspect());
  report("rope-vit", rope_vit.inspect());
  report("DINOv3", dinov3.inspect());
  report("Wan", wan.inspect());

  // Text, a picture of 2 x 3 merged patches, text: and the next token, which does not stand where it was counted.
  const std::vector<posenc::multimodal_row> prompt{{posenc::segment::text{4}, posenc::segment::image{2, 3}, posenc::segment::text{3}}};
  const auto made = posenc::multimodal_positions(prompt, {.padding = posenc::padding_side::left});
  const auto next = posenc::decode_positions(std::vector<posenc::index_t>{13}, made.decode_delta, 1);
  const auto tables = prepare(qwen3_vl, {.queries = next, .keys = made.at});

  // Pictures: the class token has no position, and coordinates need not be whole.
  const auto patches = posenc::grid_positions({.extents = {14, 14}, .order = posenc::grid_order::fastest_first, .prefix = 1});
  const auto cells = posenc::normalized_grid({.extents = {14, 14}, .order = posenc::grid_order::slowest_first, .prefix = 5},
                                             posenc::normalize_by::separate);
  const auto vit_tables = prepare(rope_vit, {.queries = patches, .keys = patches});
  const auto dino_tables = prepare(dinov3, {.queries = cells, .keys = cells});

  // A checkpoint trained with interleaved pairs, run with halves: queries and keys both, each with their own heads.
  constexpr posenc::index_t query_heads = 4, key_heads = 2, channels = 8, width = 16;
  std::vector<float> weights(query_heads * channels * width, 0.5f);
  const posenc::tensor_view<float, 2> query_weights(weights.data(), {query_heads * channels, width});
  const posenc::tensor_view<float, 2> key_weights(weights.data(), {key_heads * channels, width});
  const posenc::rotary_descriptor trained{.pairing = interleaved, .dim = channels};
  posenc::convert_pairing(query_weights, 0, query_heads, trained, halves);
  posenc::convert_pairing(key_weights, 0, key_heads, trained, halves);

  // Keys of a cache, moved by 100 positions; then turned from Llama 3's frequencies to those of Llama 3.1, where they stand.
  std::vector<float> cached(3 * 128, 0.25f);
  const auto keys = posenc::heads(posenc::tensor_view<float, 4>(cached.data(), {1, 3, 1, 128}), posenc::axis_order::time_head);
  const posenc::rope<float> llama3({.pairing = halves, .dim = 128}, {.base = 500000});
  llama3.rotate(keys, posenc::positions::range(3));
  llama3.shift(keys, 100);
  llama3.rerotate(keys, posenc::positions::range(3, 100), llama3_1);

  const bool right = next(0, 0, 0) == 10 && made.at(0, 9, 2) == 6 && vit_tables.queries.time() == 197 && dino_tables.keys.time() == 201 &&
                     tables.queries.time() == 1 && std::abs(deepseek_v3.inspect().attention_factor - 1) < 1e-15;
  std::puts(right ? "as it should be" : "not as it should be");
  return right ? 0 : 1;
}
