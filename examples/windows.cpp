// Windows of a picture: its patches become queries and keys of 3 x 3 windows, and biases of windows are added to their scores, checked and
// shown. `windows picture.npy` also writes the picture.
#include "io/npy.hpp"

#include <posenc/grid.hpp>
#include <posenc/posenc.hpp>
#include <posenc/relative/continuous_position_bias.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string_view>

namespace {

using posenc::index_t;
using scores_tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // [window, head, query, key]
using tokens_tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;  // [window, token, head * channel]

constexpr index_t patch = 4, window = 7, along = 3;  // pixels of a patch, patches of a window and windows of the picture, on each axis
constexpr index_t tokens = window * window, windows = along * along, heads = 4, channels = 8;
constexpr double scale = 0.35;  // 1 / sqrt(channels)

/// A disc, a bar and a shade of grey, `[row, column]`.
io::array<float> picture() {
  constexpr index_t side = patch * window * along;
  auto pixels = io::array<float>::filled({side, side}, 0);
  for (index_t y = 0; y < side; ++y)
    for (index_t x = 0; x < side; ++x) {
      const auto down = static_cast<float>(y) / side, right = static_cast<float>(x) / side;
      const bool disc = std::hypot(down - 0.35f, right - 0.3f) < 0.2f, bar = std::abs(down + right - 1.4f) < 0.06f;
      pixels.values[static_cast<std::size_t>(y * side + x)] = disc ? 1.0f : bar ? 0.75f : 0.5f * right;
    }
  return pixels;
}

/// The patches of each window, row by row, times random weights.
tokens_tensor project(const io::array<float>& pixels, std::uint64_t seed) {
  posenc::random_source random(seed);
  Eigen::Tensor<float, 3, Eigen::RowMajor> weights(patch, patch, heads * channels);
  for (index_t n = 0; n < weights.size(); ++n) weights.data()[n] = static_cast<float>(random.uniform(-0.5, 0.5));
  const auto view = io::view<2>(pixels);
  tokens_tensor all(windows, tokens, heads * channels);
  all.setZero();
  for (index_t w = 0; w < windows; ++w)
    for (index_t t = 0; t < tokens; ++t)
      for (index_t y = 0; y < patch; ++y)
        for (index_t x = 0; x < patch; ++x) {
          const index_t row = (w / along * window + t / window) * patch + y, column = (w % along * window + t % window) * patch + x;
          for (index_t c = 0; c < heads * channels; ++c) all(w, t, c) += view(row, column) * weights(y, x, c);
        }
  return all;
}

scores_tensor scores_of(const tokens_tensor& queries, const tokens_tensor& keys) {
  scores_tensor scores(queries.dimension(0), heads, tokens, tokens);
  scores.setZero();
  for (index_t w = 0; w < scores.dimension(0); ++w)
    for (index_t h = 0; h < heads; ++h)
      for (index_t i = 0; i < tokens; ++i)
        for (index_t j = 0; j < tokens; ++j)
          for (index_t c = h * channels; c < (h + 1) * channels; ++c)
            scores(w, h, i, j) += static_cast<float>(scale) * queries(w, i, c) * keys(w, j, c);
  return scores;
}

bool equal(const scores_tensor& one, const scores_tensor& other) {
  return std::equal(one.data(), one.data() + one.size(), other.data(), other.data() + other.size());
}

bool say(bool right, const char* what) {
  std::printf("  %-50s %s\n", what, right ? "yes" : "NO");
  return right;
}

class windows_of_picture {
 public:
  explicit windows_of_picture(const io::array<float>& pixels) : queries_(project(pixels, 1)), keys_(project(pixels, 2)) {}

  /// All of a bias: its checks, and one head's biases for the query in the third row and column. Returns whether the checks hold.
  template <class E>
  bool show(std::string_view title, const E& encoder) const {
    std::printf("%.*s\n", static_cast<int>(title.size()), title.data());
    const auto cells = posenc::grid_positions({.extents = {window, window}, .order = posenc::grid_order::slowest_first});
    const posenc::attention_positions at{cells, cells};
    const auto state = posenc::prepare(encoder, at);  // once for all windows and layers

    const scores_tensor before = scores_of(queries_, keys_);
    const scores_tensor after = encoded(encoder, state, queries_, keys_);
    bool right = say(!equal(before, after), "scores change");
    right &= say(rows_sum_to_one(after), "rows of the soft-max sum to 1");

    const Eigen::array<index_t, 3> from{4, 0, 0}, size{1, tokens, heads * channels};
    const tokens_tensor query = queries_.slice(from, size), key = keys_.slice(from, size);
    const scores_tensor chosen = after.slice(Eigen::array<index_t, 4>{4, 0, 0, 0}, Eigen::array<index_t, 4>{1, heads, tokens, tokens});
    right &= say(equal(encoded(encoder, state, query, key), chosen), "a window alone has the scores it has among others");

    scores_tensor bias = after - before;
    if constexpr (posenc::bias_encoder<E>) {  // of positions alone
      bias.setZero();
      encoder.bias(bias, state);
      right &= say(depends_on_offsets(bias), "equal offsets have equal biases");
      scores_tensor tiled = before;
      for (index_t w = 0; w < windows; ++w)
        for (index_t h = 0; h < heads; ++h)
          for (index_t i = 0; i < tokens; i += 16)
            for (index_t j = 0; j < tokens; j += 20) {
              const posenc::tensor_view<float, 2> tile(&tiled(w, h, i, j),
                                                       {std::min<index_t>(16, tokens - i), std::min<index_t>(20, tokens - j)}, {tokens, 1});
              encoder.bias_tile(tile, {.batch = w, .head = h, .query = i, .key = j}, state);
            }
      right &= say(equal(tiled, after), "tiles are the whole");
    }
    draw(bias);
    return right;
  }

  /// Windows shifted by half of one, with a bias and the mask that keeps what lies on both ends of the picture apart.
  template <posenc::bias_encoder E>
  bool show_shifted(const E& encoder) const {
    std::printf("shifted windows, Swin\n");
    const posenc::window_extents picture{along * window, along * window}, extents{window, window};
    const posenc::shifted_windows before({.extents = picture, .window = extents});
    const posenc::shifted_windows after({.extents = picture, .window = extents, .shift = {window / 2, window / 2}});
    const auto token_of = before.from_windows(1), row_of = after.to_windows(1), place_of = after.from_windows(1);
    const auto shifted = [&](const tokens_tensor& x) {
      tokens_tensor y(x.dimensions());
      for (std::size_t row = 0; row < token_of.size(); ++row) {
        const auto* const from = x.data() + static_cast<index_t>(row) * heads * channels;
        std::copy_n(from, heads * channels, y.data() + row_of[static_cast<std::size_t>(token_of[row])] * heads * channels);
      }
      return y;
    };

    constexpr double excluded = -std::numeric_limits<double>::infinity();
    const posenc::compose swin(encoder, posenc::window_mask<float>({.windows = after, .heads = heads, .value = excluded}));
    const auto cells = after.cell_positions(1);
    const scores_tensor scores = encoded(swin, posenc::prepare(swin, {cells, cells}), shifted(queries_), shifted(keys_));
    bool right = say(rows_sum_to_one(scores), "rows of the soft-max sum to 1"), apart = true;
    for (index_t w = 0; w < windows; ++w)
      for (index_t i = 0; i < tokens; ++i)
        for (index_t j = 0; j < tokens; ++j) {
          const index_t one = place_of[static_cast<std::size_t>(w * tokens + i)],
                        other = place_of[static_cast<std::size_t>(w * tokens + j)];
          const index_t down = std::abs(one / picture[1] - other / picture[1]), right_of = std::abs(one % picture[1] - other % picture[1]);
          apart &= std::isinf(scores(w, 0, i, j)) == (down >= window || right_of >= window);
        }
    return say(apart, "tokens attend to neighbours in the picture only") && right;
  }

 private:
  template <class E>
  static scores_tensor encoded(const E& encoder, const posenc::state_t<E>& state, tokens_tensor queries, tokens_tensor keys) {
    scores_tensor scores = scores_of(queries, keys);
    const auto q = posenc::split_heads(queries, {.heads = heads, .channels = channels});
    const auto k = posenc::split_heads(keys, {.heads = heads, .channels = channels});
    posenc::encode_scores(encoder, scores, posenc::attention_inputs<float>{.scale = scale, .queries = q, .keys = k}, state);
    return scores;
  }

  static bool rows_sum_to_one(scores_tensor scores) {
    bool right = true;
    for (float* row = scores.data(); row != scores.data() + scores.size(); row += tokens) {
      const float most = *std::max_element(row, row + tokens);
      float sum = 0, share = 0;
      for (index_t j = 0; j < tokens; ++j) sum += row[j] = std::exp(row[j] - most);
      for (index_t j = 0; j < tokens; ++j) share += row[j] / sum;
      right &= std::abs(share - 1) < 1e-5f;
    }
    return right;
  }

  static bool depends_on_offsets(const scores_tensor& bias) {
    for (index_t h = 0; h < heads; ++h)
      for (index_t i = 0; i + window + 1 < tokens; ++i)
        for (index_t j = 0; j + window + 1 < tokens; ++j)  // both one cell down and to the right
          if (i % window < window - 1 && j % window < window - 1 && bias(0, h, i, j) != bias(0, h, i + window + 1, j + window + 1))
            return false;
    return true;
  }

  static void draw(const scores_tensor& bias) {
    constexpr std::string_view shades = " .:-=+*#%@";
    const float* const row = &bias(4, 0, 2 * window + 2, 0);
    const auto [low, high] = std::minmax_element(row, row + tokens);
    std::printf("  head 0, the query in row 2, column 2: %.3f to %.3f\n", static_cast<double>(*low), static_cast<double>(*high));
    for (index_t y = 0; y < window; ++y) {
      std::printf("    ");
      for (index_t x = 0; x < window; ++x) {
        const float share = *high > *low ? (row[y * window + x] - *low) / (*high - *low) : 0;
        const char shade = shades[static_cast<std::size_t>(share * static_cast<float>(shades.size() - 1))];
        std::printf("%c%c", shade, shade);
      }
      std::printf("\n");
    }
  }

  tokens_tensor queries_, keys_;
};

}  // namespace

int main(int count, char** arguments) {
  const auto pixels = picture();
  if (count > 1) io::write_npy(arguments[1], pixels);
  const windows_of_picture all(pixels);
  posenc::random_source random(3);
  const posenc::window_extents extents{window, window};
  using mode = posenc::continuous_bias_mode;
  using cpb = posenc::continuous_position_bias<float>;

  bool right =
      all.show("continuous position bias, Swin v2", cpb({.window = extents, .heads = heads, .mode = mode::swin, .hidden = 512}, random));
  right &=
      all.show("continuous position bias, timm's cr", cpb({.window = extents, .heads = heads, .mode = mode::cr, .hidden = 128}, random));
  right &= all.show("dynamic position bias, CrossFormer",
                    cpb({.window = extents, .heads = heads, .mode = mode::crossformer, .hidden = 8}, random));
  // Random numbers stand in for trained ones.
  const auto trained = [&](auto encoder) {
    for (const auto& one : parameters(encoder)) posenc::initialize::normal(one.values, random, {.standard_deviation = 0.3});
    return encoder;
  };
  using form = posenc::window_bias_form;
  using table = posenc::window_bias<float>;
  const auto swin = trained(table({.window = extents, .heads = heads, .form = form::swin}));
  right &= all.show("window bias, Swin and BEiT", swin);
  right &= all.show_shifted(swin);
  right &= all.show("window bias, MaxViT", trained(table({.window = extents, .heads = heads, .form = form::maxvit})));
  right &= all.show("window bias, LeViT", trained(table({.window = extents, .heads = heads, .form = form::levit})));
  right &= all.show("decomposed bias, SAM and MViTv2", trained(posenc::decomposed_bias<float>({.extents = extents, .channels = channels})));
  return right ? 0 : 1;
}
