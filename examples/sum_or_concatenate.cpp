// Sum or concatenate? How well a linear map can read position and token off x + code, sqrt(d) x + code and [x; code], all of one width:
// for random embeddings and for those of the words of a text, with sinusoidal and with random codes.
#include <posenc/analysis.hpp>
#include <posenc/combine/concatenate.hpp>
#include <posenc/sinusoidal.hpp>

#include <Eigen/SVD>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "demo/text.hpp"

namespace example {

using posenc::index_t;
using table = Eigen::Tensor<float, 2, Eigen::RowMajor>;  // [row, channel]

constexpr index_t width = 64, places = 64, vocabulary = 200, rows = 6000, window = 4;

float random_value(posenc::random_source& random, double deviation) {  // uniform, of that standard deviation
  return static_cast<float>(random.uniform(-1, 1) * std::sqrt(3.0) * deviation);
}

table random_table(index_t count, index_t channels, double deviation, std::uint64_t seed) {
  posenc::random_source random(seed);
  table all(count, channels);
  for (index_t r = 0; r < count; ++r)
    for (index_t c = 0; c < channels; ++c) all(r, c) = random_value(random, deviation);
  return all;
}

/// Codes as a learned table begins: random, one row per position.
struct random_codes {
  using scalar = float;
  std::vector<float> values;
  index_t channels;

  explicit random_codes(index_t dim) : channels(dim) {
    const table all = random_table(places, dim, 1 / std::sqrt(static_cast<double>(width)), 1);
    values.assign(all.data(), all.data() + all.size());
  }
  static constexpr std::string_view name() { return "random_codes"; }
  index_t dim() const { return channels; }
  float code(posenc::position id, index_t c) const { return values[static_cast<std::size_t>(id * channels + c)]; }
  void encode(const posenc::positions& at, posenc::token_view<float> out) const {
    for (index_t t = 0; t < out.extent(1); ++t)
      for (index_t c = 0; c < channels; ++c) out(0, t, c) = code(at(0, t), c);
  }
  void add(posenc::token_view<float> x, const posenc::positions& at) const {
    for (index_t t = 0; t < x.extent(1); ++t)
      for (index_t c = 0; c < channels; ++c) x(0, t, c) += code(at(0, t), c);
  }
  friend bool operator==(const random_codes&, const random_codes&) = default;
};
static_assert(posenc::code_encoder<random_codes>);

posenc::sinusoidal<float> sinusoidal_codes(index_t dim) {
  return posenc::sinusoidal<float>(
      {.dim = dim, .order = posenc::channel_order::interleaved, .exponent_rule = posenc::exponent_rule::vaswani{}});
}

/// The words of a text that are among the commonest, as numbers in the order of how common they are.
std::vector<index_t> common_words(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char letter : text) {
    if (std::isalpha(static_cast<unsigned char>(letter)))
      words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    else if (!words.back().empty()) words.emplace_back();
  }
  std::map<std::string, index_t> counts;
  for (const auto& word : words) counts[word] += !word.empty();
  std::vector<std::pair<index_t, std::string>> order;
  for (const auto& [word, count] : counts) order.emplace_back(-count, word);
  std::sort(order.begin(), order.end());
  std::map<std::string, index_t> number;
  for (const auto& [count, word] : order)
    if (static_cast<index_t>(number.size()) < vocabulary) number.emplace(word, static_cast<index_t>(number.size()));
  std::vector<index_t> tokens;
  for (const auto& word : words)
    if (const auto found = number.find(word); found != number.end()) tokens.push_back(found->second);
  return tokens;
}

/// Positive pointwise mutual information of words within a window, and its truncated singular value decomposition, scaled to the mean
/// square of random embeddings.
table embeddings_of_text(const std::vector<index_t>& tokens, index_t channels) {
  Eigen::MatrixXd together = Eigen::MatrixXd::Zero(vocabulary, vocabulary);
  for (std::size_t i = 0; i < tokens.size(); ++i)
    for (std::size_t j = i + 1; j < tokens.size() && j <= i + window; ++j) {
      together(tokens[i], tokens[j]) += 1;
      together(tokens[j], tokens[i]) += 1;
    }
  const Eigen::VectorXd alone = together.rowwise().sum();
  const double all = alone.sum();
  for (index_t i = 0; i < vocabulary; ++i)
    for (index_t j = 0; j < vocabulary; ++j)
      together(i, j) = together(i, j) > 0 ? std::max(0.0, std::log(together(i, j) * all / (alone(i) * alone(j)))) : 0;
  const Eigen::BDCSVD<Eigen::MatrixXd> parts(together, Eigen::ComputeThinU);
  Eigen::MatrixXd x = parts.matrixU().leftCols(channels) * parts.singularValues().head(channels).cwiseSqrt().asDiagonal();
  x *= std::sqrt(static_cast<double>(vocabulary) * static_cast<double>(channels) / static_cast<double>(width)) / x.norm();
  table embeddings(vocabulary, channels);
  for (index_t r = 0; r < vocabulary; ++r)
    for (index_t c = 0; c < channels; ++c) embeddings(r, c) = static_cast<float>(x(r, c));
  return embeddings;
}

table looked_up(const table& embeddings, const std::vector<index_t>& tokens, float scale) {
  table x(static_cast<index_t>(tokens.size()), embeddings.dimension(1));
  for (index_t r = 0; r < x.dimension(0); ++r)
    for (index_t c = 0; c < x.dimension(1); ++c) x(r, c) = scale * embeddings(tokens[static_cast<std::size_t>(r)], c);
  return x;
}

struct readings {
  double place_number, place, token;
};
readings read_off(const table& x, const std::vector<index_t>& ids, const std::vector<index_t>& tokens) {
  return {posenc::probe_number(x, std::vector<double>(ids.begin(), ids.end())), posenc::probe_label(x, ids),
          posenc::probe_label(x, tokens)};
}

readings print_line(const char* embeddings, const char* codes, const char* way, const readings& got) {
  std::printf("%-10s  %-10s  %-21s  %6.3f  %8.1f %%  %8.1f %%\n", embeddings, codes, way, got.place_number, 100 * got.place,
              100 * got.token);
  return got;
}

template <class Codes>
void print_codes(const char* name, const Codes& codes, const std::vector<index_t>& ids, const std::vector<index_t>& tokens) {
  table code(rows, width);
  code.setZero();
  posenc::encode_embeddings(codes, code, posenc::positions::ids(ids));
  print_line("", name, "code alone", read_off(code, ids, tokens));
}

/// \return  what is read off the concatenation.
template <class Codes>
readings compare(const char* embeddings_name, const char* codes_name, const table& wide, const table& narrow, const Codes& wide_codes,
                 const Codes& narrow_codes, const std::vector<index_t>& ids, const std::vector<index_t>& tokens) {
  const auto at = posenc::positions::ids(ids);
  for (const bool scaled : {false, true}) {
    table x = looked_up(wide, tokens, scaled ? std::sqrt(static_cast<float>(width)) : 1.0f);
    posenc::encode_embeddings(wide_codes, x, at);
    print_line(embeddings_name, codes_name, scaled ? "sqrt(d) x + code" : "x + code", read_off(x, ids, tokens));
  }
  const table x = looked_up(narrow, tokens, 1);
  table both(rows, width);
  posenc::concatenate(narrow_codes, x, both, at);  // [x; code]
  return print_line(embeddings_name, codes_name, "[x; code]", read_off(both, ids, tokens));
}

int compare_all() {
  try {
    const auto text = common_words(demo::read_file("README.md"));
    posenc::random_source random(2);
    std::vector<index_t> ids, tokens;  // of each row, drawn independently
    for (index_t r = 0; r < rows; ++r) {
      ids.push_back(static_cast<index_t>(random.below(places)));
      tokens.push_back(text[random.below(text.size())]);
    }
    std::printf("%td rows, %td positions, %td words, %td channels in all; read by ridge regression, on rows it has not seen\n\n", rows,
                places, vocabulary, width);
    std::printf("embedding   code        together               position  position       token\n");
    std::printf("                                                    R^2     right       right\n");
    print_codes("sinusoidal", sinusoidal_codes(width), ids, tokens);
    print_codes("random", random_codes(width), ids, tokens);
    bool as_expected = true;
    for (const bool real : {false, true}) {
      const double deviation = 1 / std::sqrt(static_cast<double>(width));
      const char* const name = real ? "of text" : "random";
      const table wide = real ? embeddings_of_text(text, width) : random_table(vocabulary, width, deviation, 3);
      const table narrow = real ? embeddings_of_text(text, width / 2) : random_table(vocabulary, width / 2, deviation, 4);
      print_line(name, "", "x alone", read_off(looked_up(wide, tokens, 1), ids, tokens));
      print_line(name, "", "x alone, half as wide", read_off(looked_up(narrow, tokens, 1), ids, tokens));
      const auto sinusoidal = compare(name, "sinusoidal", wide, narrow, sinusoidal_codes(width), sinusoidal_codes(width / 2), ids, tokens);
      const auto learned = compare(name, "random", wide, narrow, random_codes(width), random_codes(width / 2), ids, tokens);
      as_expected = as_expected && sinusoidal.place_number > 0.9 && learned.place > 0.2;
    }
    return as_expected ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}

}  // namespace example

int main() { return example::compare_all(); }
