// Training: parameters are a flat list of named spans, gradients the same list, and an optimizer needs to know no encoder.
#include <posenc/posenc.hpp>

#include <cmath>
#include <cstdio>
#include <cstddef>

template <posenc::trainable E>
void descend(E& encoder, const posenc::gradient_buffer<typename E::scalar>& gradients, typename E::scalar rate) {
  const auto parameters = encoder.parameters();
  for (std::size_t n = 0; n < parameters.size(); ++n)
    for (std::size_t m = 0; m < parameters[n].values.size(); ++m) parameters[n].values[m] -= rate * gradients.spans()[n][m];
}

int main() {
  posenc::alibi<double> alibi({.heads = 4, .form = posenc::alibi_form::causal});
  const auto at = posenc::positions::range(16);
  posenc::gradient_buffer<double> gradients(alibi.parameters());
  Eigen::Tensor<double, 4, Eigen::RowMajor> scores(1, 4, 16, 16);

  // Learn the slope 0.3 for every head, from the mean square of the difference between the bias and the wanted one.
  double loss = 0;
  for (int step = 0; step < 200; ++step) {
    scores.setZero();
    posenc::encode_scores(alibi, scores, {at, at});
    loss = 0;
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j)
        for (int h = 0; h < 4; ++h) {
          double& score = scores(0, h, i, j);
          const double error = score - (j < i ? -0.3 * (i - j) : 0.0);
          loss += error * error / 1024;
          score = 2 * error / 1024;  // from here on the tensor holds the gradient of the scores
        }
    gradients.clear();
    posenc::encode_scores_backward(alibi, scores, {.scale = 1.0}, {}, {at, at}, gradients.spans());
    descend(alibi, gradients, 0.1);
  }
  std::printf("slopes %.6f %.6f %.6f %.6f, loss %.2g\n", alibi.slopes()[0], alibi.slopes()[1], alibi.slopes()[2], alibi.slopes()[3], loss);
  return std::abs(alibi.slopes()[3] - 0.3) < 1e-6 ? 0 : 1;
}
