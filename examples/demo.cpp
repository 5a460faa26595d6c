// SPDX-License-Identifier: MIT
// Position encodings at work: one attention block reads a text with each encoder, once in whole windows and once token by token.
//
//     demo [FILE]     FILE: any text; by default the headers and the README of this repository, from the current directory
//
// Exit code 0; 1 if an encoder wrote other bytes in decoding than in prefill; 2 for input that cannot be used.

#include "demo/attention_block.hpp"
#include "demo/bit_check.hpp"
#include "demo/progress.hpp"
#include "demo/text.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace demo {

constexpr index_t window_size = 512, decoded = 256;
constexpr std::size_t most_windows = 32;  // keeps a run well below a minute on a small machine
constexpr std::size_t encoder_count = 7;
constexpr std::uint64_t seed = 2017;

/// act(label, encoder), for each. `form`: what ALiBi makes of keys after the query, which exist only without a causal mask.
void for_each_encoder(posenc::alibi_form form, auto&& act) {
  const posenc::rope<float> rope({.pairing = posenc::pairing::halves, .dim = head_channels});
  const posenc::alibi<float> alibi({.heads = head_count, .form = form});
  act("none", posenc::no_encoding());
  act("sinusoidal", posenc::sinusoidal<float>(
                        {.dim = dim, .order = posenc::channel_order::interleaved, .exponent_rule = posenc::exponent_rule::vaswani{}}));
  posenc::learned<float> table({.rows = window_size, .dim = dim});
  posenc::random_source random(seed);
  posenc::initialize::normal(table.parameters()[0].values, random, {.standard_deviation = 0.5});
  act("learned", table);
  act("rope halves", rope);
  act("rope interleaved", posenc::rope<float>({.pairing = posenc::pairing::interleaved, .dim = head_channels}));
  act("alibi", alibi);
  act("rope + alibi", posenc::compose(rope, alibi));
}

// ---- reading the text ------------------------------------------------------------------------------------------------------------------

/// Sum of weight * (query - key), per head, over all queries.
struct attention_distance {
  std::array<double, head_count> sums{};
  index_t queries = 0;

  void add(tensor<4>& attention) {
    const index_t keys = attention.dimension(3);
    const Eigen::VectorXf key = Eigen::VectorXf::LinSpaced(keys, 0, static_cast<float>(keys - 1));
    for (index_t h = 0; h < head_count; ++h) {
      const Eigen::VectorXf mean_key = head_scores(attention, h) * key;  // the weights of a query add up to 1
      sums[static_cast<std::size_t>(h)] += static_cast<double>((key - mean_key).sum());
    }
    queries += keys;
  }
  double mean(index_t h) const { return sums[static_cast<std::size_t>(h)] / static_cast<double>(queries); }
};

struct reading {
  std::string label;
  times prefill{}, decode{};
  attention_distance distance{};
  byte_counts bytes{};
  float largest_difference = 0, largest_output = 0;
};

/// Decodes the last tokens of a window from a cache that holds the ones before, and compares the outputs with those of its prefill.
template <posenc::position_encoder E>
void decode(const attention_block<E>& block, const tensor<3>& window, const tensor<3>& expected, kv_cache& cache, index_t from,
            reading& found) {
  cache.truncate(from);
  for (index_t t = from; t < window.dimension(1); ++t) {
    tensor<3> x(1, 1, dim);
    rows(x) = rows(window).row(t);
    const tensor<3> y = block.forward(x, cache, found.decode);
    const float difference = (rows(y) - rows(expected).row(t)).cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
    if (!(difference <= found.largest_difference)) found.largest_difference = difference;  // also where it is not a number
    found.largest_output = std::max(found.largest_output, rows(y).cwiseAbs().maxCoeff());
  }
}

template <posenc::position_encoder E>
reading read_windows(std::string label, const E& encoder, const weights& w, std::span<const std::string_view> texts, progress& bar) {
  reading found{.label = std::move(label)};
  const attention_block block(encoder, w, true);
  bit_check check(encoder, found.bytes);
  trace prefill;
  for (const auto text : texts) {
    const tensor<3> window = w.embed(text);
    const index_t time = window.dimension(1), from = std::max<index_t>(time - decoded, 0);
    kv_cache cache(time);
    const tensor<3> output = block.forward(window, cache, found.prefill, &prefill);
    found.distance.add(prefill.attention);
    check(prefill, from);
    decode(block, window, output, cache, from, found);
    bar.step(found.label);
  }
  return found;
}

std::vector<reading> read_with_each_encoder(const weights& w, std::span<const std::string_view> texts) {
  std::vector<reading> all;
  progress bar(encoder_count * texts.size());
  for_each_encoder(posenc::alibi_form::causal,
                   [&](std::string label, const auto& encoder) { all.push_back(read_windows(std::move(label), encoder, w, texts, bar)); });
  return all;
}

void print_header(const text& text, std::size_t chosen) {
  const std::size_t all = windows(text.bytes, window_size, text.bytes.size()).size();
  std::printf("posenc %d.%d.%d, instruction set %s\n", POSENC_VERSION / 10000, POSENC_VERSION / 100 % 100, POSENC_VERSION % 100,
              std::string(name(posenc::current_instruction_set())).c_str());
  std::printf("text:    %s, %zu bytes, one token each\n", text.source.c_str(), text.bytes.size());
  std::printf("windows: %zu of %zu%s, of %td tokens or what is left\n", chosen, all, chosen < all ? ", evenly spread" : "", window_size);
  std::printf("block:   causal attention, %td heads of %td channels, random weights\n", head_count, head_channels);
  std::fflush(stdout);  // the progress bar goes to stderr
}

void print_costs_and_distances(std::span<const reading> all) {
  std::printf("\n%-17s time in the encoder, share of block\n", "");
  std::printf("%-17s %13s %15s    mean attention distance in tokens, by head\n", "", "prefill", "decode");
  std::printf("%-17s %6s %7s %7s %7s ", "encoder", "ms", "share", "ms", "share");
  for (index_t h = 1; h <= head_count; ++h) std::printf(" %5td", h);
  std::printf("\n");
  for (const reading& one : all) {
    std::printf("%-17s %6.1f %5.1f %% %7.1f %5.1f %% ", one.label.c_str(), 1e3 * one.prefill.encoder, 100 * one.prefill.share(),
                1e3 * one.decode.encoder, 100 * one.decode.share());
    for (index_t h = 0; h < head_count; ++h) std::printf(" %5.1f", one.distance.mean(h));
    std::printf("\n");
  }
}

void print_comparison(std::span<const reading> all) {
  std::printf(
      "\nThe last %td tokens of each window, decoded one by one from a KV cache, against its prefill.\n"
      "Encoder output: x after add, q and k after rotate, bias rows (on the scores and on zeros), %td MB\n"
      "compared byte by byte; the encoder is given what it was given in prefill. Block output: with\n"
      "decode's own products of matrices, which round in another order.\n",
      decoded, all.front().bytes.compared / 1'000'000);
  for (const reading& one : all) {
    const byte_counts& n = one.bytes;
    std::printf("%-17s encoder output, decode against prefill: ", one.label.c_str());
    if (n.differing() == 0) std::printf("same bits\n");
    else std::printf("different bits\n%-17s bytes that differ: x %td, q %td, k %td, bias %td\n", "", n.x, n.q, n.k, n.bias);
    std::printf("%-17s block output: largest difference %.2g, of values up to %.2g\n", "", static_cast<double>(one.largest_difference),
                static_cast<double>(one.largest_output));
  }
}

// ---- word order ------------------------------------------------------------------------------------------------------------------------

/// How far the sets of rows are apart: the largest difference between a row of one and the row of the other that is nearest to it.
float set_distance(const tensor<3>& a, const tensor<3>& b) {
  const auto one_way = [](const auto& from, const auto& to) {
    float farthest = 0;
    for (index_t i = 0; i < from.rows(); ++i)
      farthest = std::max(farthest, (to.rowwise() - from.row(i)).cwiseAbs().rowwise().maxCoeff().minCoeff());
    return farthest;
  };
  return std::max(one_way(rows(a), rows(b)), one_way(rows(b), rows(a)));
}

void print_word_order(const weights& w) {
  // Each word is one token, and here one letter: the, dog, bit, man.
  constexpr std::string_view dog_bites = "tdbtm", man_bites = "tmbtd";
  const auto line = [&](std::string_view label, const auto& encoder, bool causal) {
    const attention_block block(encoder, w, causal);
    const auto output = [&](std::string_view words) {
      kv_cache cache(static_cast<index_t>(words.size()));
      times unused;
      return block.forward(w.embed(words), cache, unused);
    };
    const float distance = set_distance(output(dog_bites), output(man_bites));
    std::printf("%-17s %s %.2g\n", std::string(label).c_str(), distance < 1e-5f ? "equal as sets, up to rounding:" : "different by",
                static_cast<double>(distance));
  };
  std::printf(
      "\nWord order: outputs for \"the dog bit the man\" against \"the man bit the dog\", one token a word.\n"
      "No causal mask, which alone would show the order; so ALiBi is in its symmetric form.\n");
  for_each_encoder(posenc::alibi_form::symmetric, [&](std::string_view label, const auto& encoder) { line(label, encoder, false); });
  line("none, causal mask", posenc::no_encoding(), true);
}

int run(const text& text) {
  const auto begin = std::chrono::steady_clock::now();
  const auto chosen = windows(text.bytes, window_size, most_windows);
  const weights w(seed);
  print_header(text, chosen.size());
  const auto all = read_with_each_encoder(w, chosen);
  print_costs_and_distances(all);
  print_comparison(all);
  print_word_order(w);
  std::printf("\nThe whole took %.1f s.\n", std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return std::ranges::all_of(all, [](const reading& one) { return one.bytes.differing() == 0; }) ? 0 : 1;
}

}  // namespace demo

int main(int count, char** arguments) {
  if (count > 2) {
    std::fprintf(stderr, "usage: demo [FILE]\n");
    return 2;
  }
  try {
    return demo::run(count == 2 ? demo::read_text(arguments[1]) : demo::read_repository());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "demo: %s\n", error.what());
    return 2;
  }
}
