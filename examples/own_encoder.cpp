// An encoder of your own: a copyable, comparable value with a scalar, a name and one verb, here a bias. It drops into any block that
// takes a position_encoder, alone or composed with the library's.
#include <posenc/posenc.hpp>

#include <cstdio>
#include <string_view>

/// Adds `bonus` to the score of a token on itself.
struct self_bonus {
  using scalar = float;
  float bonus;

  static constexpr std::string_view name() { return "self_bonus"; }
  void bias(posenc::score_view<float> scores, const posenc::attention_positions& at) const {
    for (posenc::index_t b = 0; b < scores.extent(0); ++b)
      for (posenc::index_t h = 0; h < scores.extent(1); ++h)
        for (posenc::index_t i = 0; i < scores.extent(2); ++i)
          for (posenc::index_t j = 0; j < scores.extent(3); ++j)
            if (at.queries(b, i) == at.keys(b, j)) scores(b, h, i, j) += bonus;
  }
  friend bool operator==(const self_bonus&, const self_bonus&) = default;
};
static_assert(posenc::bias_encoder<self_bonus>);

int main() {
  const posenc::compose both(posenc::alibi<float>({.heads = 2, .form = posenc::alibi_form::symmetric}), self_bonus{1.0f});
  Eigen::Tensor<float, 4, Eigen::RowMajor> scores(1, 2, 3, 3);  // [batch, head, query, key]
  scores.setZero();
  const auto at = posenc::positions::range(3);
  posenc::encode_scores(both, scores, prepare(both, {.queries = at, .keys = at}));
  std::printf("%g %g %g\n", static_cast<double>(scores(0, 0, 0, 0)), static_cast<double>(scores(0, 0, 0, 1)),
              static_cast<double>(scores(0, 0, 0, 2)));
  return scores(0, 0, 1, 1) == 1.0f && scores(0, 0, 0, 2) == -0.125f ? 0 : 1;
}
