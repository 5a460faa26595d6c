// SPDX-License-Identifier: MIT
#include <posenc/conditional/convolutional_position_embedding.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/convolutional_position_embedding.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;
template <class S>
using encoder_of = convolutional_position_embedding<S>;
using options_type = convolutional_position_embedding_options;
template <class T>
using tokens = Eigen::Tensor<T, 3, Eigen::RowMajor>;

/// Even and odd kernels, groups of one channel, of some and of all, with and without norms, one layer and several.
std::vector<options_type> all_options() {
  return {{.dim = 6, .groups = 2, .kernel = 4},
          {.dim = 6, .groups = 6, .kernel = 5, .weight_norm = false},
          {.dim = 4, .groups = 1, .kernel = 3, .layer_norm = true},
          {.dim = 6, .groups = 2, .kernel = 3, .weight_norm = false, .layer_norm = true, .layers = 3},
          {.dim = 4, .groups = 2, .kernel = 1},
          {.dim = 4, .groups = 2, .kernel = 6, .layers = 2}};
}

template <class S>
encoder_of<S> random_encoder(const options_type& options, std::uint64_t seed = 3) {
  encoder_of<S> encoder(options);
  for (const auto& one : encoder.parameters()) {
    std::ranges::copy(random_vector<S>(seed++, static_cast<index_t>(one.values.size())), one.values.begin());
    for (S& value : one.values) value *= S(0.75);
  }
  return encoder;
}

/// Two rows: one long run; packed utterances, the first with a frame missing, and a gap, with frames without a position around.
constexpr index_t batch = 2, time_count = 11;
positions some_positions() {
  const position none = no_position;
  return positions::ids(std::vector<position>{0,    1, 2, 3,    4, 5, 6, 7,    8, 9, 10,  //
                                              none, 4, 5, none, 7, 1, 2, none, 3, 4, none},
                        batch);
}

template <class S, class T>
double largest_error(const options_type& options, const tokens<T>& x, const tokens<T>& y, const positions& at) {
  auto encoder = random_encoder<S>(options);
  double worst = 0;
  for (index_t b = 0; b < batch; ++b)
    for (index_t t = 0; t < time_count; ++t) {
      if (at(b, t) == no_position) {
        for (index_t c = 0; c < x.dimension(2); ++c) worst += static_cast<S>(x(b, t, c)) != static_cast<S>(y(b, t, c));
        continue;
      }
      std::vector<index_t> run_of(time_count, -1);
      index_t count = 0, from = -1, last = -1;
      for (index_t k = 0; k < time_count; ++k) {
        if (at(b, k) == no_position) continue;
        if (last < 0 || at(b, k) - at(b, last) != k - last) ++count;
        run_of[static_cast<std::size_t>(k)] = count, last = k;
      }
      reference::frames run;
      std::vector<bool> there;
      for (index_t k = 0; k < time_count; ++k) {
        const bool same_run = run_of[static_cast<std::size_t>(k)] == run_of[static_cast<std::size_t>(t)];
        if (from < 0 && !same_run) continue;
        if (from < 0) from = k;
        there.push_back(same_run);
        run.emplace_back();
        for (index_t c = 0; c < x.dimension(2); ++c)
          run.back().push_back(same_run ? static_cast<long double>(static_cast<S>(x(b, k, c))) : 0.0L);
      }
      const auto wanted =
          reference::convolutional_position_embedding(options, encoder.parameters(), run, there)[static_cast<std::size_t>(t - from)];
      for (index_t c = 0; c < x.dimension(2); ++c)
        worst = std::max(worst, std::abs(static_cast<double>(static_cast<long double>(static_cast<S>(y(b, t, c))) -
                                                             wanted[static_cast<std::size_t>(c)])));
    }
  return worst;
}

template <class S, class T>
void check_against_reference(double tolerance) {
  const positions at = some_positions();
  for (const auto& options : all_options()) {
    tokens<T> x(batch, time_count, index_t{options.dim});
    random_numbers random(7);
    for (index_t n = 0; n < x.size(); ++n) x.data()[n] = static_cast<T>(random.real<S>());
    for (const index_t t : {0, 3, 7}) x(1, t, 1) = std::numeric_limits<T>::quiet_NaN();  // has no position, so nobody sees it
    auto y = x;
    random_encoder<S>(options).add(y, at);
    for (const index_t t : {0, 3, 7}) {
      CHECK(std::isnan(static_cast<S>(y(1, t, 1))));
      x(1, t, 1) = y(1, t, 1) = T(0);
    }
    CAPTURE(index_t{options.kernel}, options.layers);
    CHECK(largest_error<S>(options, x, y, at) <= tolerance);
  }
}

}  // namespace

TEST_CASE("convolutional_position_embedding is its modules one after the other", "[conditional]") {
  check_against_reference<double, double>(2e-14);
  check_against_reference<float, float>(1e-5);
  check_against_reference<float, Eigen::half>(3e-3);
  check_against_reference<float, Eigen::bfloat16>(2e-2);
}

TEST_CASE("convolutional_position_embedding has hand-computed values", "[conditional]") {
  // One channel: taps 3, 4 with norms of their own, so that w = g: y[t] = gelu(g0 x[t - 1] + g1 x[t] + bias).
  encoder_of<double> encoder({.dim = 1, .groups = 1, .kernel = 2});
  std::ranges::copy(std::vector<double>{2, -1}, encoder.parameters()[0].values.begin());
  std::ranges::copy(std::vector<double>{3, 4}, encoder.parameters()[1].values.begin());
  encoder.parameters()[2].values[0] = 0.5;
  tokens<double> x(1, 3, 1);
  x.setValues({{{1}, {2}, {-1}}});
  encoder.add(x, positions::range(3));
  CHECK(std::abs(x(0, 0, 0) - (1 - 0.5 * 0.30853753872598690)) < 1e-15);  // gelu(-0.5), Phi(-0.5)
  CHECK(std::abs(x(0, 1, 0) - (2 + 0.5 * 0.69146246127401310)) < 1e-15);  // 2 - 2 + 0.5
  CHECK(std::abs(x(0, 2, 0) - (-1 + 5.5 * 0.99999998101043755)) < 1e-14);  // 4 + 1 + 0.5
}

TEST_CASE("convolutional_position_embedding: limits", "[conditional]") {
  // One tap, one group per channel, and gains that are the norms: the weight itself, and x + gelu(w x).
  encoder_of<double> pointwise({.dim = 2, .groups = 2, .kernel = 1}), plain({.dim = 2, .groups = 2, .kernel = 1, .weight_norm = false});
  pointwise.parameters()[0].values[0] = 5;
  std::ranges::copy(std::vector<double>{3, -4}, pointwise.parameters()[1].values.begin());
  std::ranges::copy(std::vector<double>{3, -4}, plain.parameters()[0].values.begin());
  const auto x = random_tensor<tokens<double>>(1, 1, 4, 2);
  auto y = x, z = x;
  pointwise.add(y, positions::range(4));
  plain.add(z, positions::range(4));
  CHECK(reference::bit_difference(y, z) == "");
  for (index_t t = 0; t < 4; ++t)
    for (index_t c = 0; c < 2; ++c) {
      const double in = x(0, t, c), wanted = in + static_cast<double>(reference::gelu((c ? -4 : 3) * static_cast<long double>(in)));
      CHECK(std::abs(y(0, t, c) - wanted) < 1e-14);
    }
  // A weight of zeros, with and without norm, adds nothing.
  auto same = x;
  encoder_of<double>({.dim = 2, .groups = 1, .kernel = 3}).add(same, positions::range(4));
  encoder_of<double>({.dim = 2, .groups = 1, .kernel = 3, .weight_norm = false, .layer_norm = true, .layers = 2})
      .add(same, positions::range(4));
  CHECK(reference::bit_difference(same, x) == "");
}

TEST_CASE("convolutional_position_embedding: rows, storage orders and cuts change no bit", "[conditional]") {
  const options_type options{.dim = 6, .groups = 2, .kernel = 5, .layer_norm = true, .layers = 2};
  const auto encoder = random_encoder<float>(options);
  const positions at = some_positions();
  const auto x = random_tensor<tokens<float>>(2, batch, time_count, 6);
  auto y = x;
  encoder.add(y, at);
  for (index_t b = 0; b < batch; ++b) {  // a row alone
    tokens<float> row = x.chip<0>(b).reshape(std::array<index_t, 3>{1, time_count, 6});
    std::vector<position> ids(static_cast<std::size_t>(time_count));
    for (index_t t = 0; t < time_count; ++t) ids[static_cast<std::size_t>(t)] = at(b, t);
    encoder.add(row, positions::ids(ids));
    tokens<float> whole = y.chip<0>(b).reshape(std::array<index_t, 3>{1, time_count, 6});
    CHECK(reference::bit_difference(row, whole) == "");
  }
  Eigen::Tensor<float, 3> by_column(6, time_count, batch);
  for (index_t n = 0; n < x.size(); ++n) by_column.data()[n] = x.data()[n];
  encoder.add(by_column, at);
  CHECK(std::equal(y.data(), y.data() + y.size(), by_column.data()));
  // Strided, backwards in time.
  std::vector<float> wide(static_cast<std::size_t>(time_count * 8), 9);
  for (index_t t = 0; t < time_count; ++t)
    for (index_t c = 0; c < 6; ++c) wide[static_cast<std::size_t>((time_count - 1 - t) * 8 + c)] = x(0, t, c);
  encoder.add(tensor_view<float, 3>(wide.data() + (time_count - 1) * 8, {1, time_count, 6}, {0, -8, 1}), positions::range(time_count));
  for (index_t t = 0; t < time_count; ++t)
    for (index_t c = 0; c < 8; ++c) CHECK(wide[static_cast<std::size_t>((time_count - 1 - t) * 8 + c)] == (c < 6 ? y(0, t, c) : 9));
}

TEST_CASE("convolutional_position_embedding: blocks of long runs see each other", "[conditional]") {
  // 600 frames are taken in three blocks. What a frame is given depends on the frames around it alone.
  const auto encoder = random_encoder<double>({.dim = 4, .groups = 2, .kernel = 128});
  const auto x = random_tensor<tokens<double>>(2, 1, 600, 4);
  auto y = x;
  encoder.add(y, positions::range(600));
  for (const index_t t : {255, 256, 300, 511, 512}) {
    tokens<double> around = x.slice(std::array<index_t, 3>{0, t - 64, 0}, std::array<index_t, 3>{1, 128, 4});
    encoder.add(around, positions::range(128, t - 64));
    for (index_t c = 0; c < 4; ++c) CHECK(around(0, 64, c) == y(0, t, c));
  }
}

TEST_CASE("convolutional_position_embedding has exact gradients", "[conditional]") {
  const positions at = some_positions();
  for (const auto& options : all_options()) {
    auto encoder = random_encoder<double>(options);
    auto x = random_tensor<tokens<double>>(3, batch, time_count, index_t{options.dim});
    const auto weights = random_tensor<tokens<double>>(4, batch, time_count, index_t{options.dim});
    const auto loss = [&] {
      auto y = x;
      encoder.add(y, at);
      return reference::dot(y, weights);
    };
    gradient_buffer<double> gradients(encoder.parameters());
    auto d = weights;
    encode_embeddings_backward(encoder, d, x, at, gradients.spans());
    CAPTURE(index_t{options.kernel}, options.layers);
    const auto wrong = [](const auto& got, const std::vector<double>& wanted) {
      index_t count = 0;
      for (std::size_t n = 0; n < wanted.size(); ++n) count += !(std::abs(got.data()[n] - wanted[n]) <= 2e-8 * (1 + std::abs(wanted[n])));
      return count;
    };
    CHECK(wrong(d, reference::derivatives({x.data(), static_cast<std::size_t>(x.size())}, loss, 1e-6)) == 0);
    std::size_t n = 0;
    for (const auto& one : encoder.parameters()) {
      INFO(one.name);
      CHECK(wrong(gradients.spans()[n++], reference::derivatives(one.values, loss, 1e-6)) == 0);
    }
    // A second pass adds the same again.
    d = weights;
    encoder.add_backward(d, x, at, gradients.spans());
    gradient_buffer<double> once(encoder.parameters());
    d = weights;
    encoder.add_backward(d, x, at, once.spans());
    for (std::size_t p = 0; p < once.spans().size(); ++p)
      for (std::size_t k = 0; k < once.spans()[p].size(); ++k)
        CHECK(std::abs(gradients.spans()[p][k] - 2 * once.spans()[p][k]) <= 1e-12 * (1 + std::abs(once.spans()[p][k])));
  }
}

TEST_CASE("convolutional_position_embedding: gradients of 16-bit embeddings are those of float, rounded once", "[conditional]") {
  const auto encoder = random_encoder<float>({.dim = 6, .groups = 2, .kernel = 4});
  tokens<Eigen::bfloat16> x(batch, time_count, 6), d(batch, time_count, 6);
  tokens<float> x_float(batch, time_count, 6), d_float(batch, time_count, 6);
  random_numbers random(9);
  for (index_t n = 0; n < x.size(); ++n) {
    x.data()[n] = static_cast<Eigen::bfloat16>(random.real<float>()), x_float.data()[n] = static_cast<float>(x.data()[n]);
    d.data()[n] = static_cast<Eigen::bfloat16>(random.real<float>()), d_float.data()[n] = static_cast<float>(d.data()[n]);
  }
  auto trained = encoder;
  gradient_buffer<float> gradients(trained.parameters()), wide(trained.parameters());
  encoder.add_backward(d, x, some_positions(), gradients.spans());
  encoder.add_backward(d_float, x_float, some_positions(), wide.spans());
  for (std::size_t p = 0; p < 3; ++p) CHECK(std::ranges::equal(gradients.spans()[p], wide.spans()[p]));
  for (index_t n = 0; n < d.size(); ++n)
    CHECK(static_cast<float>(d.data()[n]) == static_cast<float>(static_cast<Eigen::bfloat16>(d_float.data()[n])));
}

TEST_CASE("convolutional_position_embedding names its parameters as torch does, and begins as the systems do", "[conditional]") {
  const auto names = [](encoder_of<float> encoder) {
    std::string all;
    for (const auto& one : encoder.parameters()) {
      (all += one.name) += " ";
      for (const index_t extent : one.shape) all += std::to_string(extent) + " ";
    }
    return all;
  };
  CHECK(names(encoder_of<float>(options_type::wav2vec2(768))) == "weight_g 1 1 128 weight_v 768 48 128 bias 768 ");
  CHECK(names(encoder_of<float>({.dim = 4, .groups = 2, .kernel = 3, .weight_norm = false, .layers = 2})) ==
        "layers.0.conv.weight 4 2 3 layers.0.conv.bias 4 layers.1.conv.weight 4 2 3 layers.1.conv.bias 4 ");
  const options_type audio = options_type::data2vec_audio(32);
  CHECK((audio.groups == 16 && audio.kernel == 19 && audio.layers == 5 && audio.layer_norm && !audio.weight_norm));

  random_source random(1), again(1);
  const options_type options{.dim = 64, .groups = 4, .kernel = 16};
  encoder_of<double> encoder(options, random);
  CHECK(encoder == encoder_of<double>(options, again));
  CHECK_FALSE(encoder == encoder_of<double>(options, again));
  const auto all = encoder.parameters();
  double squares = 0, of_tap = 0;
  for (const double value : all[1].values) squares += value * value;
  for (std::size_t n = 5; n < all[1].values.size(); n += 16) of_tap += all[1].values[n] * all[1].values[n];
  CHECK(std::abs(std::sqrt(squares / static_cast<double>(all[1].values.size())) - 2.0 / 32) < 1e-3);
  CHECK(std::abs(all[0].values[5] - std::sqrt(of_tap)) < 1e-14);  // w = v
  CHECK(std::ranges::count(all[2].values, 0.0) == 64);
  CHECK_FALSE(encoder_of<double>(options) == encoder_of<double>({.dim = 64, .groups = 2, .kernel = 16}));
  auto copy = encoder;
  copy.parameters()[2].values[3] = 1;
  CHECK_FALSE(copy == encoder);
}

TEST_CASE("convolutional_position_embedding refuses what does not fit", "[conditional]") {
  const auto made = [](options_type options) { encoder_of<float> encoder(options); };
  const std::string who = "[convolutional_position_embedding] ";
  reference::refuses(who + "dim must be positive but got 0", [&] { made({.dim = 0, .groups = 1, .kernel = 3}); });
  reference::refuses(who + "groups must be positive and divide dim but got 6 and 4", [&] { made({.dim = 6, .groups = 4, .kernel = 3}); });
  reference::refuses(who + "groups must be positive and divide dim but got 6 and 0", [&] { made({.dim = 6, .groups = 0, .kernel = 3}); });
  reference::refuses(who + "kernel must be positive but got 0", [&] { made({.dim = 6, .groups = 2, .kernel = 0}); });
  reference::refuses(who + "layers must be positive but got 0", [&] { made({.dim = 6, .groups = 2, .kernel = 3, .layers = 0}); });
  reference::refuses(who + "the size in bytes must fit in 63 bits but got [4, 2, 2305843009213693952]",
                     [&] { made({.dim = 4, .groups = 2, .kernel = index_t{1} << 61}); });

  const auto encoder = random_encoder<float>({.dim = 4, .groups = 2, .kernel = 3});
  auto trained = encoder;
  std::vector<float> memory(24, 1), given(24, 1);
  const auto view = [&](index_t rows, index_t time, index_t dim) { return tensor_view<float, 3>(memory.data(), {rows, time, dim}); };
  reference::refuses(memory, who + "channels must equal dim but got 4 and 3", [&] { encoder.add(view(2, 3, 3), positions::range(3)); });
  reference::refuses(memory, who + "time must match the positions but got 3 and 2",
                     [&] { encoder.add(view(2, 3, 4), positions::range(2)); });
  reference::refuses(memory, who + "batch must match the positions but got 2 and 3",
                     [&] { encoder.add(view(2, 3, 4), positions::offsets(std::vector{0, 0, 0}, 3)); });
  reference::refuses(memory, who + "the positions must have as many axes as the encoder but got 1 and 2",
                     [&] { encoder.add(view(2, 3, 4), positions::multi_axis(std::vector{0, 1, 2, 0, 1, 2}, 2)); });
  reference::refuses(memory, who + "the last axis must be contiguous but got 2",
                     [&] { encoder.add(tensor_view<float, 3>(memory.data(), {1, 3, 4}, {24, 8, 2}), positions::range(3)); });
  reference::refuses(memory, who + "the elements of an output must be distinct, with strides that nest but got [0, 4, 1]",
                     [&] { encoder.add(tensor_view<float, 3>(memory.data(), {2, 3, 4}, {0, 4, 1}), positions::range(3)); });

  gradient_buffer<float> gradients(trained.parameters());
  const auto x = [&](index_t rows, index_t time, index_t dim) { return tensor_view<const float, 3>(given.data(), {rows, time, dim}); };
  const auto backward = [&](const auto& d, const auto& of, const auto& spans) { encoder.add_backward(d, of, positions::range(3), spans); };
  reference::refuses(memory, who + "channels must equal dim but got 4 and 8",
                     [&] { backward(view(1, 3, 8), x(1, 3, 8), gradients.spans()); });
  reference::refuses(memory, who + "gradients must have the shapes of what they are of but got [1, 3, 4] and [2, 3, 4]",
                     [&] { backward(view(2, 3, 4), x(1, 3, 4), gradients.spans()); });
  reference::refuses(memory, who + "what is written must not overlap what is read but got [1, 3, 4] and [1, 3, 4]",
                     [&] { backward(view(1, 3, 4), view(1, 3, 4), gradients.spans()); });
  reference::refuses(memory, who + "what is written must not overlap what is read but got [1, 3, 4] and [1, 3, 4]",
                     [&] { backward(view(1, 3, 4), tensor_view<const float, 3>(memory.data() + 4, {1, 3, 4}), gradients.spans()); });
  reference::refuses(memory, who + "the elements of an output must be distinct, with strides that nest but got [0, 4, 1]",
                     [&] { backward(tensor_view<float, 3>(memory.data(), {2, 3, 4}, {0, 4, 1}), x(2, 3, 4), gradients.spans()); });
  reference::refuses(memory, who + "there must be one gradient span per parameter but got 3 and 2",
                     [&] { backward(view(1, 3, 4), x(1, 3, 4), gradients.spans().first(2)); });
  std::vector<std::span<float>> spans(gradients.spans().begin(), gradients.spans().end());
  spans[1] = spans[1].first(23);
  reference::refuses(memory, who + "gradient spans must have the sizes of the parameters but got 24 and 23",
                     [&] { backward(view(1, 3, 4), x(1, 3, 4), gradient_spans<float>(spans)); });
  encoder.add(view(0, 3, 4), positions::range(3));  // nothing to do
  encoder.add(view(2, 0, 4), positions::range(0));
  backward(view(0, 3, 4), x(0, 3, 4), gradients.spans());
  CHECK(memory == std::vector<float>(24, 1));
}
