// Encodings that change with what happens in the sentence: "not" reaches the words that it negates, however far they stand. Gates, which a
// small head of a model would learn, say how much position each word is to have; here a rule by hand stands for that head.
#include <posenc/conditional/cumulative_gates.hpp>
#include <posenc/conditional/forgetting_gates.hpp>
#include <posenc/conditional/peg.hpp>
#include <posenc/posenc.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>
#include <vector>

namespace {

constexpr std::array<std::string_view, 9> words{"it", "was", "not", "at", "all", "good", ",", "but", "short"};
constexpr auto count = static_cast<posenc::index_t>(words.size());
using gate_row = Eigen::Tensor<float, 2, Eigen::RowMajor>;    // [batch, token]
using score_block = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // [batch, head, query, key]

/// A quarter for words between "not" and "but", whose distances are to count less; one for all others.
gate_row gates_of_words() {
  gate_row gates(1, count);
  bool negated = false;
  for (posenc::index_t t = 0; t < count; ++t) {
    const std::string_view word = words[static_cast<std::size_t>(t)];
    if (word == "but") negated = false;
    gates(0, t) = negated ? 0.25f : 1.0f;
    if (word == "not") negated = true;
  }
  return gates;
}

void print(const char* name, const score_block& scores, posenc::index_t query) {
  std::printf("%-22s", name);
  for (posenc::index_t key = 0; key <= query; ++key) std::printf(" %6.3f", static_cast<double>(scores(0, 0, query, key)));
  std::printf("\n");
}

}  // namespace

int main() {
  const gate_row gates = gates_of_words();
  const auto at = posenc::positions::range(count);

  // 1. What ALiBi takes from the scores of "good", which looks back at the words before it.
  const std::array<float, 1> slope{0.5f};
  const posenc::alibi<float> distance(slope, posenc::alibi_form::causal);
  const posenc::gated gated_distance(distance);
  score_block plain(1, 1, count, count), gated(1, 1, count, count);
  plain.setZero(), gated.setZero();
  posenc::encode_scores(distance, plain, {.queries = at, .keys = at});
  posenc::encode_scores(gated_distance, gated, {.scale = 1, .query_gates = gates}, {.queries = at, .keys = at});
  std::printf("%-22s", "\"good\" looks back at");
  for (int t = 0; t <= 5; ++t) std::printf(" %6s", words[static_cast<std::size_t>(t)].data());
  std::printf("\n");
  print("ALiBi", plain, 5);
  print("gated, a quarter", gated, 5);
  print("gated, after \"but\"", gated, 8);
  bool right = plain(0, 0, 5, 2) == -1.5f && gated(0, 0, 5, 2) == -0.375f && gated(0, 0, 8, 2) == plain(0, 0, 8, 2);

  // 2. The same gates make the code that is added to an embedding fainter.
  const posenc::sinusoidal<float> waves(
      {.dim = 4, .order = posenc::channel_order::interleaved, .exponent_rule = posenc::exponent_rule::vaswani{}});
  Eigen::Tensor<float, 3, Eigen::RowMajor> x(1, count, 4);  // [batch, token, channel]
  x.setZero();
  posenc::encode_embeddings(posenc::gated(waves), x, {.gates = gates}, at);
  std::printf("\ncodes of %s and %s: cosines of the second pair %.4f and %.4f\n", words[5].data(), words[8].data(),
              static_cast<double>(x(0, 5, 3)), static_cast<double>(x(0, 8, 3)));

  // 3. Word by word, as it is written: the gate of a word is known when the word is. Each step has the bits of the whole.
  score_block streamed(1, 1, count, count);
  streamed.setZero();
  for (posenc::index_t t = 0; t < count; ++t) {
    const posenc::score_view<float> row(&streamed(0, 0, t, 0), {1, 1, 1, t + 1});
    const posenc::tensor_view<const float, 2> own(&gates(0, t), {1, 1});
    posenc::encode_scores(gated_distance, row, {.scale = 1, .query_gates = own}, {at.slice(t, 1), at.slice(0, t + 1)});
    right = right && std::equal(row.data(), row.data() + t + 1, &gated(0, 0, t, 0));
  }

  // 4. So do encodings that read the sentence themselves: PEG adds to a word what stands before it, forgetting gates let keys fade by what
  // was read since. What they need of earlier words is a few embeddings and one number per word.
  posenc::peg<float> neighbours({.dim = 4, .kernel = {3}, .padding = posenc::peg_padding::causal});
  std::ranges::fill(neighbours.parameters()[0].values, 0.5f);
  const posenc::forgetting_gates<float> forgetting({.heads = 1, .direction = posenc::forgetting::causal});
  Eigen::Tensor<float, 3, Eigen::RowMajor> whole = x, steps = x, log_gates(1, count, 1), frames(1, 2, 4);
  for (posenc::index_t t = 0; t < count; ++t) log_gates(0, t, 0) = words[static_cast<std::size_t>(t)] == "," ? -2.0f : -0.125f;
  neighbours.add(whole, at);
  posenc::encode_scores(forgetting, plain, {.scale = 1, .log_gates = log_gates}, forgetting.prepare({at, at}));

  frames.setZero();
  std::array<posenc::position, 1> next{0};
  posenc::cumulative_gates sums(1, 1, count);
  score_block row(1, 1, 1, count);
  for (posenc::index_t t = 0; t < count; ++t) {
    const auto now = at.slice(t, 1);
    neighbours.stream(posenc::token_view<float>(&steps(0, t, 0), {1, 1, 4}), {frames, next}, now);
    sums.append(posenc::tensor_view<const float, 3>(&log_gates(0, t, 0), {1, 1, 1}), now);
    const posenc::score_view<float> scores(row.data(), {1, 1, 1, t + 1});
    row.setZero();
    distance.bias(scores, {now, at.slice(0, t + 1)});
    forgetting.bias(scores, sums, {now, at.slice(0, t + 1)});
    right = right && std::equal(row.data(), row.data() + t + 1, &plain(0, 0, t, 0)) &&
            std::equal(&steps(0, t, 0), &steps(0, t, 3) + 1, &whole(0, t, 0));
  }
  std::printf("\nword by word: %s\n", right ? "the same bits" : "something else");
  return right ? 0 : 1;
}
