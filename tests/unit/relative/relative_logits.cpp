// SPDX-License-Identifier: MIT
#include <posenc/relative/relative_logits.hpp>

#include <posenc/relative/music_transformer.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"
#include "reference/relative_pairs.hpp"

#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace {

using namespace posenc;

template <class S, int Rank = 4>
using rows = Eigen::Tensor<S, Rank, Eigen::RowMajor>;
constexpr auto order = axis_order::time_head;

template <class S>
relative_logits<S> random_logits(index_t heads = 0) {
  return {{.channels = 3, .extent = 6, .heads = heads}, random_vector<S>(1, (heads ? heads : 1) * 18)};
}

/// Logits of all distances back are formed first, `[distance]`, and then taken where there is one.
template <class S>
double logit(const relative_logits<S>& encoder, const auto& r, index_t b, index_t h, index_t i, position back) {
  std::vector<double> all(6);
  for (std::size_t n = 0; n < 6; ++n)
    for (std::size_t c = 0; c < 3; ++c) {
      const std::size_t bank = encoder.heads() ? static_cast<std::size_t>(h) : 0;
      all[n] += static_cast<double>(r(b, i, h, static_cast<index_t>(c))) * static_cast<double>(encoder.bank()[(bank * 3 + c) * 6 + n]);
    }
  return back >= 0 && back < 6 ? all[static_cast<std::size_t>(back)] : 0;
}

}  // namespace

TEMPLATE_TEST_CASE("relative_logits adds the projection times the column of the distance", "[relative_logits]", float, double) {
  using S = TestType;
  for (const auto& at : reference::relative_cases())
    for (const index_t banks : {0, 2}) {
      const auto encoder = random_logits<S>(banks);
      const auto r = random_tensor<rows<S>>(2, 2, at.queries.time(), 2, 3);
      const auto before = random_tensor<rows<S>>(3, 2, 2, at.queries.time(), at.keys.time());
      auto scores = before;
      encoder.bias(scores, attention_inputs<S>{.scale = 0.125, .queries = heads(r, order)}, at);
      const auto expected = reference::relative_scores(
          before, at, {}, [&](index_t b, index_t h, index_t i, index_t, position d) { return logit(encoder, r, b, h, i, -d); });
      CHECK(reference::difference(scores, expected, 8 * 3 * static_cast<double>(std::numeric_limits<S>::epsilon())) == "");
    }
}

TEST_CASE("relative_logits has values by hand, and the score scale does not change them", "[relative_logits]") {
  const relative_logits<double> encoder({.channels = 2, .extent = 3}, {1, 2, 3, 10, 20, 30});
  rows<double> r(1, 1, 1, 2), scores(1, 1, 1, 6);
  r.setValues({{{{1, 0.5}}}});
  scores.setZero();
  encoder.bias(scores, attention_inputs<double>{.scale = 0.125, .queries = heads(r, order)},
               attention_positions{positions::range(1, 4), positions::range(6)});
  CHECK(std::vector<double>(scores.data(), scores.data() + 6) == std::vector<double>{0, 0, 18, 12, 6, 0});
}

TEST_CASE("relative_logits are music_transformer's with the bank turned around", "[relative_logits]") {
  const auto encoder = random_logits<float>();
  std::vector<float> table;
  for (std::size_t row = 0; row < 6; ++row)
    for (std::size_t c = 0; c < 3; ++c) table.push_back(encoder.bank()[c * 6 + 5 - row]);
  const music_transformer<float> same({.channels = 3, .max_distance = 6, .form = music_transformer_form::masked}, {table});
  const auto r = random_tensor<rows<float>>(2, 1, 9, 2, 3);
  auto a = random_tensor<rows<float>>(3, 1, 2, 9, 9), b = a;
  const attention_inputs<float> inputs{.scale = 1, .queries = heads(r, order)};
  const attention_positions at{positions::range(9), positions::range(9)};
  encoder.bias(a, inputs, at, {.causal = true});
  same.bias(b, inputs, at, {.causal = true});
  CHECK(reference::bit_difference(a, b) == "");
}

TEST_CASE("relative_logits: gradients are the slopes of the forward pass", "[relative_logits]") {
  const auto at = reference::relative_cases()[2];
  for (const index_t banks : {0, 2}) {
    auto encoder = random_logits<double>(banks);
    auto r = random_tensor<rows<double>>(2, 2, 4, 2, 3);
    const auto w = random_tensor<rows<double>>(3, 2, 2, 4, 7);
    const attention_inputs<double> inputs{.scale = 0.5, .queries = heads(r, order)};
    const auto loss = [&] {
      rows<double> scores(2, 2, 4, 7);
      scores.setZero();
      encoder.bias(scores, inputs, at);
      return reference::dot(scores, w);
    };
    auto d = w, d_r = r;
    d_r.setZero();
    gradient_buffer<double> sums(encoder.parameters());
    encoder.bias_backward(d, inputs, attention_gradients<double>{.queries = heads(d_r, order)}, at, sums.spans());
    const std::span<double> of_r(r.data(), static_cast<std::size_t>(r.size()));
    CHECK(reference::difference(d_r, reference::derivatives(of_r, loss, 0.5), 1e-12) == "");
    CHECK(reference::difference(sums.spans()[0], reference::derivatives(encoder.parameters()[0].values, loss, 0.5), 1e-12) == "");
  }
}

TEST_CASE("relative_logits names what does not fit", "[relative_logits]") {
  reference::refuses("[relative_logits] channels must be positive but got 0", [] { relative_logits<float>({.channels = 0, .extent = 2}); });
  reference::refuses("[relative_logits] extent must be positive but got 0", [] { relative_logits<float>({.channels = 2, .extent = 0}); });
  reference::refuses("[relative_logits] heads must not be negative but got -1",
                     [] { relative_logits<float>({.channels = 2, .extent = 2, .heads = -1}); });
  reference::refuses("[relative_logits] the bank must have (heads times) channels times extent values but got 12 and 6",
                     [] { relative_logits<float>({.channels = 2, .extent = 3, .heads = 2}, std::vector<float>(6)); });
  const auto encoder = random_logits<float>();
  const auto r = random_tensor<rows<float>>(2, 1, 2, 1, 3);
  auto d = random_tensor<rows<float>>(3, 1, 1, 2, 2);
  const auto backward = [&](gradient_spans<float> spans) {
    encoder.bias_backward(d, attention_inputs<float>{.scale = 1, .queries = heads(r, order)}, attention_gradients<float>{},
                          attention_positions{positions::range(2), positions::range(2)}, spans);
  };
  reference::refuses(d, "[relative_logits] there must be one gradient span per parameter but got 1 and 0", [&] { backward({}); });
  std::vector<float> small(17);
  const std::array<std::span<float>, 1> spans{small};
  reference::refuses(d, "[relative_logits] gradient spans must have the sizes of the parameters but got 18 and 17",
                     [&] { backward(spans); });
}

TEST_CASE("relative_logits: the bank is the parameter, and equality compares it", "[relative_logits]") {
  auto one = random_logits<float>(2);
  const auto other = random_logits<float>(2);
  CHECK(one.parameters()[0].name == "bank");
  CHECK(one.parameters()[0].shape == std::vector<index_t>{2, 3, 6});
  CHECK(random_logits<float>().parameters()[0].shape == std::vector<index_t>{3, 6});
  CHECK(one == other);
  one.parameters()[0].values[35] += 1;
  CHECK(one.bank()[35] != other.bank()[35]);
  CHECK_FALSE(one == other);
  CHECK_FALSE(relative_logits<float>({.channels = 2, .extent = 3}) == relative_logits<float>({.channels = 3, .extent = 2}));
  CHECK_FALSE(other.options() == relative_logits_options{.channels = 3, .extent = 6});
}
