// A small network that is given the coordinates of a pixel paints a blur; given Fourier features of them, it paints the picture.
// Tancik et al. 2020, "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains".
//
//     fourier_image [FOLDER [STEPS]]
//
// draws a picture, fits it both ways, and writes target.png, without_features.png and with_features.png to the folder.
#include <posenc/fourier/random_fourier_features.hpp>
#include <posenc/mlp.hpp>

#include <png.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

using posenc::index_t;
using matrix = Eigen::Tensor<float, 2, Eigen::RowMajor>;
using colour = std::array<double, 3>;

constexpr index_t side = 128, pixels = side * side, batch = 1024;

// ---- the picture: what a network finds hard has fine structure -----------------------------------------------------------------------

struct place {
  double x, y;
};

double distance_to_stroke(place p, place a, place b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double along = std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / (dx * dx + dy * dy), 0.0, 1.0);
  return std::hypot(p.x - a.x - along * dx, p.y - a.y - along * dy);
}

bool is_ink(place p) {
  static const std::vector<std::vector<place>> letters{{{0, 1}, {0, 0}, {.8, 0}, {.8, .5}, {0, .5}},                  // P
                                                       {{0, 0}, {.8, 0}, {.8, 1}, {0, 1}, {0, 0}},                    // O
                                                       {{.8, 0}, {0, 0}, {0, .5}, {.8, .5}, {.8, 1}, {0, 1}},         // S
                                                       {{.8, 0}, {0, 0}, {0, .5}, {.6, .5}, {0, .5}, {0, 1}, {.8, 1}},  // E
                                                       {{0, 1}, {0, 0}, {.8, 1}, {.8, 0}},                            // N
                                                       {{.8, 0}, {0, 0}, {0, 1}, {.8, 1}}};                           // C
  for (std::size_t letter = 0; letter < letters.size(); ++letter) {
    const place inside{(p.x - 0.06 - 0.155 * static_cast<double>(letter)) / 0.12, (p.y - 0.62) / 0.16};
    for (std::size_t n = 0; n + 1 < letters[letter].size(); ++n)
      if (distance_to_stroke(inside, letters[letter][n], letters[letter][n + 1]) < 0.11) return true;
  }
  return false;
}

colour picture(place p) {
  const double radius = std::hypot(p.x - 0.27, p.y - 0.29);
  if (radius < 0.22) return std::fmod(radius, 0.06) < 0.03 ? colour{0.95, 0.85, 0.3} : colour{0.6, 0.1, 0.15};
  if (p.x > 0.55 && p.x < 0.95 && p.y > 0.08 && p.y < 0.48)
    return (static_cast<int>((p.x - 0.55) / 0.05) + static_cast<int>((p.y - 0.08) / 0.05)) % 2 ? colour{0.95, 0.95, 0.95} : colour{0, 0, 0};
  if (is_ink(p)) return {0.1, 0.1, 0.35};
  if (p.y > 0.88) return std::fmod(p.x + 0.5 * p.y, 0.05) < 0.025 ? colour{0.1, 0.5, 0.3} : colour{0.9, 0.95, 0.85};
  return {0.75 - 0.3 * p.y, 0.85 - 0.1 * p.x, 0.9};
}

matrix drawn() {
  constexpr int finer = 3;  // each pixel is the mean of nine places
  matrix target(pixels, 3);
  target.setZero();
  for (index_t n = 0; n < pixels * finer * finer; ++n) {
    const index_t row = n / (side * finer), column = n % (side * finer);
    const colour here = picture({(static_cast<double>(column) + 0.5) / (side * finer), (static_cast<double>(row) + 0.5) / (side * finer)});
    for (index_t c = 0; c < 3; ++c)
      target(row / finer * side + column / finer, c) += static_cast<float>(here[static_cast<std::size_t>(c)] / (finer * finer));
  }
  return target;
}

void write_png(const std::string& path, const matrix& picture) {
  std::vector<png_byte> bytes;
  for (index_t n = 0; n < picture.size(); ++n)
    bytes.push_back(static_cast<png_byte>(std::lround(255 * std::clamp(picture.data()[n], 0.0f, 1.0f))));
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = image.height = side;
  image.format = PNG_FORMAT_RGB;
  if (png_image_write_to_file(&image, path.c_str(), 0, bytes.data(), 0, nullptr)) return;
  std::fprintf(stderr, "%s: %s\n", path.c_str(), image.message);
  std::exit(1);
}

// ---- the fit -------------------------------------------------------------------------------------------------------------------------

/// Adam (Kingma, Ba 2015).
class adam {
 public:
  adam(posenc::mlp<float>& network, double rate)
      : parameters_(network.parameters()), mean_(parameters_), square_(parameters_), rate_(rate) {}

  void step(const posenc::gradient_buffer<float>& gradients) {
    ++steps_;
    const double rate = rate_ * std::sqrt(1 - std::pow(0.999, steps_)) / (1 - std::pow(0.9, steps_));
    for (std::size_t n = 0; n < parameters_.size(); ++n)
      for (std::size_t i = 0; i < parameters_[n].values.size(); ++i) {
        const float d = gradients.spans()[n][i];
        float &mean = mean_.spans()[n][i], &square = square_.spans()[n][i];
        mean += 0.1f * (d - mean);
        square += 0.001f * (d * d - square);
        parameters_[n].values[i] -= static_cast<float>(rate) * mean / (std::sqrt(square) + 1e-8f);
      }
  }

 private:
  std::vector<posenc::parameter<float>> parameters_;
  posenc::gradient_buffer<float> mean_, square_;
  double rate_;
  int steps_ = 0;
};

/// What a network paints that has learned the colours of all pixels from its inputs [pixel, channel].
matrix fitted(const matrix& inputs, const matrix& target, int steps) {
  posenc::random_source random(1);
  const index_t channels = inputs.dimension(1);
  posenc::mlp<float> network({.in = channels, .out = 3, .hidden = {96, 96}, .activation = posenc::mlp_activation::relu}, random);
  posenc::gradient_buffer<float> gradients(network.parameters());
  adam optimizer(network, 2e-3);
  matrix x(batch, channels), y(batch, 3);
  std::vector<index_t> chosen(batch);
  for (int step = 0; step < steps; ++step) {
    for (index_t n = 0; n < batch; ++n) {
      chosen[static_cast<std::size_t>(n)] = static_cast<index_t>(random.below(pixels));
      x.chip(n, 0) = inputs.chip(chosen[static_cast<std::size_t>(n)], 0);
    }
    network.forward(x, y);
    for (index_t n = 0; n < batch; ++n)
      for (index_t c = 0; c < 3; ++c) y(n, c) = (y(n, c) - target(chosen[static_cast<std::size_t>(n)], c)) * 2 / (3 * batch);
    gradients.clear();
    network.backward(x, y, {}, gradients.spans());
    optimizer.step(gradients);
  }
  matrix painted(pixels, 3);
  network.forward(inputs, painted);
  return painted;
}

/// Peak signal to noise ratio, in decibels.
double psnr(const matrix& painted, const matrix& target) {
  double sum = 0;
  for (index_t n = 0; n < target.size(); ++n) sum += std::pow(std::clamp(painted.data()[n], 0.0f, 1.0f) - target.data()[n], 2);
  return -10 * std::log10(sum / static_cast<double>(target.size()));
}

}  // namespace

int main(int count, char** arguments) {
  const std::string folder = count > 1 ? arguments[1] : ".";
  const int steps = count > 2 ? std::atoi(arguments[2]) : 1000;

  const matrix target = drawn();
  matrix points(pixels, 2);  // in [0, 1]
  for (index_t n = 0; n < pixels; ++n) {
    points(n, 0) = (static_cast<float>(n % side) + 0.5f) / side;
    points(n, 1) = (static_cast<float>(n / side) + 0.5f) / side;
  }
  posenc::random_source random(7);
  posenc::random_fourier_features<float> features({.dims = 2, .count = 64, .order = posenc::channel_order::cos_sin}, random, 10.0);
  matrix encoded(pixels, 128);
  features.encode(points, encoded);

  const matrix without = fitted(points, target, steps), with = fitted(encoded, target, steps);
  write_png(folder + "/target.png", target);
  write_png(folder + "/without_features.png", without);
  write_png(folder + "/with_features.png", with);
  const double blurred = psnr(without, target), sharp = psnr(with, target);
  std::printf("%d steps: %.1f dB from coordinates, %.1f dB from their Fourier features\n", steps, blurred, sharp);
  return sharp > blurred ? 0 : 1;
}
