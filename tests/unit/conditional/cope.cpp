// SPDX-License-Identifier: MIT
#include <posenc/combine/compose.hpp>
#include <posenc/conditional/cope.hpp>
#include <posenc/relative/shaw.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/cope.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using reference::bit_difference;
template <class S>
using tensor4 = Eigen::Tensor<S, 4, Eigen::RowMajor>;

constexpr index_t batch_ = 2, heads_ = 4, key_heads_ = 2, channels_ = 5;
constexpr double scale_ = 0.6;
constexpr position none = no_position;

template <class S>
cope<S> encoder_of(const cope_options& options) {
  cope<S> encoder(options);
  const auto values = encoder.parameters()[0].values;
  std::ranges::copy(random_vector<S>(1, static_cast<index_t>(values.size())), values.begin());
  return encoder;
}
cope_options options_of(cope_gates gates, index_t positions = 7, cope_bias bias = cope_bias::unscaled, bool per_head = false) {
  return {.heads = heads_, .channels = channels_, .max_positions = positions, .gates = gates, .bias = bias, .per_head = per_head};
}

/// What an encoder is given, by storage scalar.
template <class S>
struct problem {
  problem(const attention_positions& where, unsigned seed = 7)
      : at(where),
        q(random_tensor<tensor4<S>>(seed, batch_, where.queries.time(), heads_, channels_)),
        k(random_tensor<tensor4<S>>(seed + 1, batch_, where.keys.time(), key_heads_, channels_)),
        scores(random_tensor<tensor4<S>>(seed + 2, batch_, heads_, where.queries.time(), where.keys.time())) {
    for (index_t n = 0; n < scores.size(); ++n) scores.data()[n] = scores.data()[n] * S(3);
  }
  attention_inputs<S> inputs() const {
    return {.scale = scale_,
            .queries = heads(q, axis_order::time_head),
            .causal = causal,
            .window = window,
            .gate_keys = heads(k, axis_order::time_head),
            .scores = scores};
  }

  attention_positions at;
  tensor4<S> q, k, scores;
  bool causal = true;
  index_t window = 0;
};

/// The reference, row by row: contextual positions, and biases.
template <class S>
std::array<std::vector<double>, 2> expected(cope<S> encoder, const problem<S>& given, auto&& sees) {
  const auto embeddings = encoder.parameters()[0].values;
  const auto& options = encoder.options();
  const index_t queries = given.q.dimension(1), keys = given.k.dimension(1), count = options.max_positions;
  const auto dot = [&](index_t b, index_t i, index_t h, auto&& other) {
    double sum = 0;
    for (index_t c = 0; c < channels_; ++c) sum += static_cast<double>(given.q(b, i, h, c)) * static_cast<double>(other(c));
    return sum;
  };
  std::array<std::vector<double>, 2> all;
  for (index_t b = 0; b < batch_; ++b)
    for (index_t h = 0; h < heads_; ++h)
      for (index_t i = 0; i < queries; ++i) {
        std::vector<double> gates_of, z;
        std::vector<bool> seen;
        for (index_t j = 0; j < keys; ++j) {
          seen.push_back(sees(b, i, j));
          gates_of.push_back(cope_gates{options.gates} == cope_gates::scores
                                 ? static_cast<double>(given.scores(b, h, i, j))
                                 : scale_ * dot(b, i, h, [&](index_t c) { return given.k(b, j, h / (heads_ / key_heads_), c); }));
        }
        for (index_t p = 0; p < count; ++p)
          z.push_back((cope_bias{options.bias} == cope_bias::scaled ? scale_ : 1) * dot(b, i, h, [&](index_t c) {
                        return embeddings[static_cast<std::size_t>(((options.per_head ? h * count : 0) + p) * channels_ + c)];
                      }));
        const auto row = reference::cope(gates_of, seen, z);
        all[0].insert(all[0].end(), row.positions.begin(), row.positions.end());
        all[1].insert(all[1].end(), row.bias.begin(), row.bias.end());
      }
  return all;
}
bool sees(const attention_positions& at, bool causal, index_t window, index_t b, index_t i, index_t j) {
  const position query = at.queries(b, i), key = at.keys(b, j);
  if (query == none || key == none || (causal && key > query)) return false;
  return window == 0 || std::abs(query - key) < window;
}

const attention_positions cases[] = {
    {positions::range(30), positions::range(30)},
    {positions::range(3, 140), positions::range(143)},
    {positions::ids(std::array<position, 5>{5, none, position{1} << 31, 6, 900}),
     positions::ids(std::array<position, 7>{none, 0, 5, none, 899, 900, (position{1} << 31) - 3})},
    {positions::offsets(std::array{3, 50}, 2), positions::range(70)},
};
const attention_positions whole{positions::range(90), positions::range(90)};

template <class S>
tensor4<S> biased(const cope<compute_t<S>>& encoder, const problem<S>& given, const executor& run = {}) {
  auto scores = given.scores;
  encoder.bias(scores, given.inputs(), given.at, run);
  return scores;
}

}  // namespace

TEMPLATE_TEST_CASE("cope is the paper's listing row by row", "[cope]", float, double) {
  using S = TestType;
  for (const auto& at : cases)
    for (const bool causal : {false, true})
      for (const index_t window : {0, 11})
        for (const bool of_keys : {false, true}) {
          const auto encoder = encoder_of<S>(options_of(of_keys ? cope_gates::gate_keys : cope_gates::scores, window ? 7 : 60,
                                                        causal ? cope_bias::scaled : cope_bias::unscaled, window == 0));
          problem<S> given(at);
          given.causal = causal, given.window = window;
          const auto want = expected(encoder, given, [&](index_t b, index_t i, index_t j) { return sees(at, causal, window, b, i, j); });
          const auto scores = biased(encoder, given);
          tensor4<S> found(given.scores.dimensions());
          encoder.contextual_positions(given.inputs(), at, found);
          double worst_position = 0, worst = 0;
          bool untouched = true;
          for (index_t n = 0; n < scores.size(); ++n) {
            const auto k = static_cast<std::size_t>(n);
            const double before = static_cast<double>(given.scores.data()[n]);
            worst_position = std::max(worst_position, std::abs(static_cast<double>(found.data()[n]) - want[0][k]));
            worst = std::max(worst, std::abs(static_cast<double>(scores.data()[n]) - before - want[1][k]));
            if (want[0][k] == 0) untouched = untouched && scores.data()[n] == given.scores.data()[n] && found.data()[n] == 0;
          }
          INFO("case " << &at - cases << ", causal " << causal << ", window " << window << ", gates of keys " << of_keys);
          const double epsilon = static_cast<double>(std::numeric_limits<S>::epsilon());
          CHECK(worst_position <= 60 * 5 * epsilon);
          CHECK(worst <= 60 * 5 * 8 * epsilon);
          CHECK(untouched);
        }
}

TEST_CASE("cope by hand", "[cope]") {
  cope<double> encoder({.heads = 1, .channels = 1, .max_positions = 3, .gates = cope_gates::scores, .bias = cope_bias::unscaled});
  std::ranges::copy(std::array{0.0, 1.0, 5.0}, encoder.parameters()[0].values.begin());
  const std::vector<double> q{2, 2, 2, 2, 2};  // z = 0, 2, 10
  std::vector<double> scores(25);              // all gates are 1/2
  const posenc::tensor_view<const double, 4> queries(q.data(), {1, 5, 1, 1});
  encoder.bias(score_view<double>(scores.data(), {1, 1, 5, 5}),
               attention_inputs<double>{.scale = 1.0, .queries = head_view<const double>(queries), .causal = true},
               {positions::range(5), positions::range(5)});
  // p = 1/2, 1, 3/2, 2, and 5/2, which is too far.
  const std::vector<double> expected{1, 0, 0, 0, 0, 2, 1, 0, 0, 0, 6, 2, 1, 0, 0, 10, 6, 2, 1, 0, 10, 10, 6, 2, 1};
  CHECK(bit_difference(scores, expected) == "");
}

TEST_CASE("open gates make clipped distances of contextual positions", "[cope]") {
  // e_p is the vector of distance p - 1, as gates count the key itself.
  constexpr index_t count = 9;
  const auto encoder = encoder_of<double>(options_of(cope_gates::scores, count));
  auto own = encoder;
  const auto embeddings = own.parameters()[0].values;
  shaw<double> clipped({.channels = channels_, .left = count - 2, .right = 0, .tables = relative_tables::keys});
  for (index_t row = 0; row < count - 1; ++row)
    std::copy_n(embeddings.begin() + (count - 1 - row) * channels_, channels_, clipped.parameters()[0].values.begin() + row * channels_);
  problem<double> given(whole);
  given.scores.setConstant(50);
  auto by_distance = given.scores;
  auto inputs = given.inputs();
  inputs.scale = 1;
  clipped.bias(by_distance, inputs, given.at);
  const auto scores = biased(encoder, given);
  double worst = 0;
  for (index_t b = 0; b < batch_; ++b)
    for (index_t h = 0; h < heads_; ++h)
      for (index_t i = 0; i < 90; ++i)
        for (index_t j = 0; j <= i; ++j) worst = std::max(worst, std::abs(scores(b, h, i, j) - by_distance(b, h, i, j)));
  CHECK(worst <= 50 * 4 * std::numeric_limits<double>::epsilon());
}

TEST_CASE("gates of the keys are those of scores made of them", "[cope]") {
  problem<double> given(whole);
  for (index_t b = 0; b < batch_; ++b)
    for (index_t h = 0; h < heads_; ++h)
      for (index_t i = 0; i < 90; ++i)
        for (index_t j = 0; j < 90; ++j) {
          double sum = 0;
          for (index_t c = 0; c < channels_; ++c) sum += given.q(b, i, h, c) * given.k(b, j, h / 2, c);
          given.scores(b, h, i, j) = sum * scale_;
        }
  const auto one = biased(encoder_of<double>(options_of(cope_gates::scores)), given),
             other = biased(encoder_of<double>(options_of(cope_gates::gate_keys)), given);
  CHECK(reference::difference(one, other, 1e-13) == "");
}

TEST_CASE("cope of zeros adds nothing, and positions may be moved", "[cope]") {
  problem<float> given(whole);
  const auto options = options_of(cope_gates::scores);
  CHECK(bit_difference(biased(cope<float>(options), given), given.scores) == "");
  const auto encoder = encoder_of<float>(options);
  given.window = 20;
  const auto here = biased(encoder, given);
  given.at = {positions::range(90, 1000), positions::range(90, 1000)};
  CHECK(bit_difference(biased(encoder, given), here) == "");
}

TEST_CASE("no query counts what it does not see", "[cope]") {
  for (const auto gates : {cope_gates::scores, cope_gates::gate_keys}) {
    const auto encoder = encoder_of<float>(options_of(gates));
    problem<float> given(whole);
    const auto before = biased(encoder, given);
    auto later = given;
    for (index_t b = 0; b < batch_; ++b)
      for (index_t h = 0; h < heads_; ++h)
        for (index_t i = 0; i < 90; ++i)
          for (index_t j = i + 1; j < 90; ++j) later.scores(b, h, i, j) = std::numeric_limits<float>::quiet_NaN();
    for (index_t j = 40; j < 90; ++j)
      for (index_t c = 0; c < channels_; ++c) later.k(0, j, 0, c) = later.k(1, j, 1, c) = std::numeric_limits<float>::quiet_NaN();
    const auto after = biased(encoder, later);
    bool same = true;
    for (index_t b = 0; b < batch_; ++b)
      for (index_t h = 0; h < heads_; ++h)
        for (index_t i = 0; i < 40; ++i)
          for (index_t j = 0; j <= i; ++j) same = same && reference::same_bits(before(b, h, i, j), after(b, h, i, j));
    CHECK(same);
  }
}

TEST_CASE("cope has the same bits in steps and chunks as in the whole", "[cope]") {
  for (const auto gates : {cope_gates::scores, cope_gates::gate_keys})
    for (const index_t count : {6, 80}) {
      const auto encoder = encoder_of<float>(options_of(gates, count));
      for (const index_t window : {0, 33}) {
        problem<float> given(whole);
        given.window = window;
        const auto all = biased(encoder, given);
        for (const index_t chunk : {1, 7, 45}) {
          bool same = true;
          for (index_t first = 0; first < 90; first += chunk) {
            const index_t queries = std::min(chunk, 90 - first), keys = first + queries;
            const Eigen::array<index_t, 4> from{0, 0, first, 0}, extents{batch_, heads_, queries, keys};
            tensor4<float> some = given.scores.slice(from, extents);
            auto inputs = given.inputs();
            inputs.queries = inputs.queries.slice(first, queries), inputs.gate_keys = inputs.gate_keys.slice(0, keys);
            encoder.bias(some, inputs, {positions::range(queries, first), positions::range(keys)});
            const tensor4<float> want = all.slice(from, extents);
            for (index_t n = 0; n < some.size(); ++n) same = same && reference::same_bits(some.data()[n], want.data()[n]);
          }
          INFO("chunks of " << chunk << ", window " << window << ", " << count << " positions");
          CHECK(same);
        }
      }
    }
}

TEST_CASE("batch rows, threads and storage orders change no bit of cope", "[cope]") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  for (const auto gates : {cope_gates::scores, cope_gates::gate_keys}) {
    auto encoder = encoder_of<float>(options_of(gates, 40));
    problem<float> given({positions::range(400), positions::range(400)});
    const auto all = biased(encoder, given);
    CHECK(bit_difference(biased(encoder, given, device), all) == "");

    // The second row alone, column by column.
    Eigen::Tensor<float, 4> scores(400, 400, heads_, 1);
    std::copy_n(&given.scores(1, 0, 0, 0), scores.size(), scores.data());
    auto inputs = given.inputs();
    const auto row = [](const head_view<const float>& x) {
      return head_view<const float>({&x(1, 0, 0, 0), {1, x.time(), x.count(), x.channels()}, x.by_time().strides()});
    };
    inputs.queries = row(inputs.queries), inputs.gate_keys = row(inputs.gate_keys);
    encode_scores(encoder, scores, inputs, given.at);
    CHECK(bit_difference(std::span(scores.data(), static_cast<std::size_t>(scores.size())),
                         std::span(&all(1, 0, 0, 0), static_cast<std::size_t>(scores.size()))) == "");

    const auto backward = [&](const executor& run) {
      tensor4<float> d = random_tensor<tensor4<float>>(20, batch_, heads_, 400, 400), d_q(batch_, 400, heads_, channels_),
                     d_k(batch_, 400, key_heads_, channels_);
      d_q.setZero(), d_k.setZero();
      gradient_buffer<float> d_parameters(encoder.parameters());
      encoder.bias_backward(d, given.inputs(),
                            {.queries = heads(d_q, axis_order::time_head), .gate_keys = heads(d_k, axis_order::time_head)}, given.at,
                            d_parameters.spans(), run);
      std::vector<float> found(d.data(), d.data() + d.size());
      found.insert(found.end(), d_q.data(), d_q.data() + d_q.size());
      found.insert(found.end(), d_k.data(), d_k.data() + d_k.size());
      found.insert(found.end(), d_parameters.spans()[0].begin(), d_parameters.spans()[0].end());
      return found;
    };
    CHECK(bit_difference(backward(device), backward({})) == "");
  }
}

TEMPLATE_TEST_CASE("cope computes 16-bit formats in float and rounds once", "[cope]", Eigen::half, Eigen::bfloat16) {
  for (const auto gates : {cope_gates::scores, cope_gates::gate_keys}) {
    auto encoder = encoder_of<float>(options_of(gates));
    problem<TestType> given(cases[0]);
    problem<float> wide(cases[0]);
    wide.q = given.q.template cast<float>(), wide.k = given.k.template cast<float>(), wide.scores = given.scores.template cast<float>();
    const tensor4<TestType> rounded = biased(encoder, wide).template cast<TestType>();
    CHECK(bit_difference(tensor4<float>(biased(encoder, given).template cast<float>()), tensor4<float>(rounded.template cast<float>())) ==
          "");

    tensor4<float> d = random_tensor<tensor4<float>>(20, batch_, heads_, 30, 30);
    tensor4<TestType> narrow = d.template cast<TestType>();
    d = narrow.template cast<float>();
    gradient_buffer<float> one(encoder.parameters()), other(encoder.parameters());
    encoder.bias_backward(d, wide.inputs(), attention_gradients<float>{}, wide.at, one.spans());
    encoder.bias_backward(narrow, given.inputs(), attention_gradients<TestType>{}, given.at, other.spans());
    CHECK(bit_difference(one.spans()[0], other.spans()[0]) == "");
    CHECK(bit_difference(tensor4<float>(narrow.template cast<float>()),
                         tensor4<float>(tensor4<TestType>(d.template cast<TestType>()).template cast<float>())) == "");
  }
}

TEST_CASE("padding takes part in nothing, and documents are each their own", "[cope]") {
  const auto encoder = encoder_of<float>(options_of(cope_gates::scores));
  const problem<float> plain({positions::range(40), positions::range(40)});
  const auto want = biased(encoder, plain);
  // 13 tokens of padding on the left, 5 on the right: none of them is touched, and the others do not notice.
  std::vector<position> ids(58, none);
  for (index_t t = 0; t < 40; ++t) ids[static_cast<std::size_t>(t + 13)] = t;
  problem<float> padded({positions::ids(ids), positions::ids(ids)});
  const Eigen::array<index_t, 4> q_from{0, 13, 0, 0}, from{0, 0, 13, 13}, extents{batch_, heads_, 40, 40};
  padded.q.slice(q_from, Eigen::array<index_t, 4>{batch_, 40, heads_, channels_}) = plain.q;
  padded.scores.slice(from, extents) = plain.scores;
  auto found = biased(encoder, padded);
  CHECK(bit_difference(tensor4<float>(found.slice(from, extents)), want) == "");
  found.slice(from, extents) = plain.scores;
  CHECK(bit_difference(found, padded.scores) == "");

  // Two documents in a row: the second one, of 25 tokens, as if it were alone.
  problem<float> packed({positions::packed(std::array{0, 15, 40}), positions::packed(std::array{0, 15, 40})});
  packed.causal = false;
  const Eigen::array<index_t, 4> second{0, 0, 15, 15}, of_second{batch_, heads_, 25, 25};
  problem<float> alone({positions::range(25), positions::range(25)});
  alone.causal = false;
  alone.q = packed.q.slice(Eigen::array<index_t, 4>{0, 15, 0, 0}, Eigen::array<index_t, 4>{batch_, 25, heads_, channels_});
  alone.scores = packed.scores.slice(second, of_second);
  const auto both = biased(encoder, packed);
  CHECK(bit_difference(tensor4<float>(both.slice(second, of_second)), biased(encoder, alone)) == "");
  bool same = true;
  for (index_t i = 15; i < 40; ++i)
    for (index_t j = 0; j < 15; ++j) same = same && both(0, 0, i, j) == packed.scores(0, 0, i, j);
  CHECK(same);
}

TEST_CASE("the gradients of cope are those of finite differences", "[cope]") {
  for (const auto& at : cases)
    for (const bool of_keys : {false, true})
      for (const bool other : {false, true}) {
        auto encoder = encoder_of<double>(
            options_of(of_keys ? cope_gates::gate_keys : cope_gates::scores, 6, other ? cope_bias::scaled : cope_bias::unscaled, other));
        problem<double> given(at);
        given.causal = other, given.window = other ? 12 : 0;
        const auto weights = random_tensor<tensor4<double>>(9, batch_, heads_, given.scores.dimension(2), given.scores.dimension(3));
        const auto loss = [&] { return reference::dot(biased(encoder, given), weights); };
        auto d = weights;
        tensor4<double> d_q(given.q.dimensions()), d_k(given.k.dimensions());
        d_q.setConstant(1), d_k.setConstant(2);
        gradient_buffer<double> d_parameters(encoder.parameters());
        encode_scores_backward(encoder, d, given.inputs(),
                               {.queries = heads(d_q, axis_order::time_head), .gate_keys = heads(d_k, axis_order::time_head)}, at,
                               d_parameters.spans());
        INFO("case " << &at - cases << ", gates of keys " << of_keys << ", the other way " << other);
        const auto check = [](std::span<const double> got, std::span<double> values, auto&& f, double start) {
          // Some of them: each takes a pass over all scores.
          std::vector<double> found, want;
          for (std::size_t n = 0; n < values.size(); n += 1 + values.size() / 60) {
            found.push_back(got[n] - start);
            want.push_back(reference::derivatives(values.subspan(n, 1), f, 1e-5)[0]);
          }
          CHECK(reference::difference(found, want, 3e-6) == "");  // the rounding of the loss, by the step
        };
        const auto span_of = [](auto& x) { return std::span(x.data(), static_cast<std::size_t>(x.size())); };
        check(d_parameters.spans()[0], encoder.parameters()[0].values, loss, 0);
        check(span_of(d_q), span_of(given.q), loss, 1);
        check(span_of(d), span_of(given.scores), loss, 0);
        if (of_keys) check(span_of(d_k), span_of(given.k), loss, 2);
        else CHECK(*std::min_element(d_k.data(), d_k.data() + d_k.size()) == 2);
        if (of_keys) CHECK(bit_difference(d, weights) == "");
      }
}

TEST_CASE("cope is a value, and composes", "[cope]") {
  const auto options = options_of(cope_gates::scores);
  const cope<float> zeros(options);
  const auto encoder = encoder_of<float>(options);
  const auto copy = encoder;
  CHECK(encoder == copy);
  CHECK_FALSE(encoder == zeros);
  CHECK_FALSE(zeros == cope<float>(options_of(cope_gates::gate_keys)));
  CHECK_FALSE(zeros == cope<float>(options_of(cope_gates::scores, 7, cope_bias::scaled)));
  CHECK_FALSE(options == options_of(cope_gates::scores, 7, cope_bias::unscaled, true));
  auto shared = encoder, own = encoder_of<float>(options_of(cope_gates::scores, 7, cope_bias::unscaled, true));
  CHECK(shared.parameters()[0].name == "embeddings");
  CHECK(shared.parameters()[0].shape == std::vector<index_t>{7, channels_});
  CHECK(own.parameters()[0].shape == std::vector<index_t>{heads_, 7, channels_});
  CHECK(encoder.name() == "cope");
  problem<float> given(cases[0]);
  auto scores = given.scores;
  encode_scores(compose(encoder), scores, given.inputs(), prepare(compose(encoder), given.at));
  CHECK(bit_difference(scores, biased(encoder, given)) == "");
}

TEST_CASE("a score that is no number spoils the positions before it alone", "[cope]") {
  const auto encoder = encoder_of<float>(options_of(cope_gates::scores, 50));
  problem<float> given({positions::range(1, 39), positions::range(40)});
  const auto before = biased(encoder, given);
  given.scores(0, 0, 0, 30) = std::numeric_limits<float>::quiet_NaN();
  given.scores(0, 1, 0, 30) = std::numeric_limits<float>::infinity();
  given.scores(0, 2, 0, 30) = -std::numeric_limits<float>::infinity();
  const auto after = biased(encoder, given);
  bool right = true, finite = true;
  for (index_t j = 0; j < 40; ++j) {
    right = right && (j <= 30 ? std::isnan(after(0, 0, 0, j)) : after(0, 0, 0, j) == before(0, 0, 0, j));
    finite = finite && std::isfinite(after(0, 1, 0, j)) == (j != 30) && std::isfinite(after(0, 2, 0, j)) == (j != 30);
  }
  CHECK(right);
  CHECK(finite);
}

TEST_CASE("cope refuses what does not fit, before it writes", "[cope]") {
  using reference::refuses;
  const auto make = [](index_t heads, index_t channels, index_t count) {
    return [=] {
      cope<float>({.heads = heads, .channels = channels, .max_positions = count, .gates = cope_gates::scores, .bias = cope_bias::scaled});
    };
  };
  refuses("[cope] heads must be positive but got 0", make(0, 4, 8));
  refuses("[cope] channels must be positive but got -1", make(2, -1, 8));
  refuses("[cope] max_positions must lie within 2 and 2^24 but got 1", make(2, 4, 1));
  refuses("[cope] max_positions must lie within 2 and 2^24 but got 16777217", make(2, 4, 16777217));
  refuses("[cope] the size in bytes must fit in 63 bits but got [1, 16777216, 1152921504606846976]",
          make(2, index_t{1} << 60, index_t{1} << 24));

  const auto of_scores = encoder_of<float>(options_of(cope_gates::scores)), of_keys = encoder_of<float>(options_of(cope_gates::gate_keys));
  problem<float> given({positions::range(3), positions::range(4)});
  tensor4<float> d = random_tensor<tensor4<float>>(3, batch_, heads_, 3, 4);
  std::vector<float> parameters(7 * channels_), few(3);
  const std::span<float> one[] = {parameters}, wrong[] = {few};
  auto inputs = given.inputs();
  const auto refused = [&](const cope<float>& encoder, const std::string& text) {
    refuses(d, text, [&] { encoder.require_fits(score_view<float>(d), inputs, given.at); });
    refuses(d, text, [&] { encoder.bias(d, inputs, given.at); });
    refuses(d, text, [&] { encoder.contextual_positions(inputs, given.at, d); });
    refuses(d, text, [&] { encoder.bias_backward(d, inputs, attention_gradients<float>{}, given.at, one); });
    inputs = given.inputs();
  };
  inputs.queries = {};
  refused(of_scores, "[cope] the queries must be given but got none");
  inputs.gate_keys = {};
  refused(of_keys, "[cope gates] the keys must be given but got none");
  inputs.gate_keys = inputs.gate_keys.slice(0, 3);
  refused(of_keys, "[cope gates] the keys must be [batch, time] of the scores but got [2, 3, 2, 5] and [2, 4, 3, 4]");
  inputs.window = -2;
  refused(of_scores, "[cope] window must not be negative but got -2");
  given.at.queries = positions::range(2);
  refused(of_scores, "[cope queries] time must match the positions but got 3 and 2");
  given.at = {positions::range(3), positions::ids(std::array<position, 4>{0, 1, 1, 2})};
  refused(of_scores, "[cope] positions of keys must ascend where queries and keys are not the same tokens but got 2 and documents");
  given.at.keys = positions::range(4);
  refused(
      encoder_of<float>({.heads = 3, .channels = channels_, .max_positions = 7, .gates = cope_gates::scores, .bias = cope_bias::scaled}),
      "[cope] heads must match the encoder but got 3 and 4");

  const auto backward = [&](const std::string& text, const cope<float>& encoder, const attention_gradients<float>& d_inputs,
                            gradient_spans<float> spans) {
    refuses(d, text, [&] { encoder.bias_backward(d, inputs, d_inputs, given.at, spans); });
    inputs = given.inputs();
  };
  backward("[cope] there must be one gradient span per parameter but got 1 and 0", of_scores, {}, {});
  backward("[cope] gradient spans must have the sizes of the parameters but got 35 and 3", of_scores, {}, wrong);
  inputs.scores = {};
  backward("[cope] the scores must be given but got none", of_scores, {}, one);
  inputs.scores = score_view<const float>(given.scores.data(), {batch_, heads_, 3, 3});
  backward("[cope] the scores must have the shape of what is written but got [2, 4, 3, 4] and [2, 4, 3, 3]", of_scores, {}, one);
  inputs.scores = d;
  backward("[cope] the scores must not overlap what is written but got [2, 4, 3, 4]", of_scores, {}, one);
  tensor4<float> narrow(batch_, 3, heads_, channels_ - 1);
  const auto d_narrow = heads(narrow, axis_order::time_head);
  backward("[cope] gradients must have the shapes of what they are of but got [2, 3, 4, 5] and [2, 3, 4, 4]", of_scores,
           {.queries = d_narrow}, one);
  backward("[cope] gradients must have the shapes of what they are of but got [2, 4, 2, 5] and [2, 3, 4, 4]", of_keys,
           {.gate_keys = d_narrow}, one);
  refuses(d, "[cope] the scores must be given but got none", [&] {
    inputs.scores = {};
    of_scores.contextual_positions(inputs, given.at, d);
  });

  tensor4<float> empty(batch_, heads_, 0, 4);
  of_scores.bias(empty, attention_inputs<float>{.scale = 1.0}, {positions::range(0), positions::range(4)});
}
