// SPDX-License-Identifier: MIT
/// \file  The terms of disentangled attention as microsoft's and Hugging Face's code make them.
#include <posenc/relative/deberta.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::load, golden::npy;

struct golden_case {
  std::string name;
  deberta_distances distances;
  double float_bound[3], reference_bound[3];  ///< of c2p, p2c and both
};
std::vector<golden_case> cases() {
  const auto buckets = [](deberta_clamp clamp) { return deberta_buckets_options{.bucket_size = 8, .max_position = 64, .clamp = clamp}; };
  const golden_case bucketed{"relative/deberta_c2p_p2c_buckets/",
                             buckets(deberta_clamp::microsoft),
                             {9.133680775850896e-07, 7.859488855860925e-07, 1.253922141485802e-06},
                             {1.0150551854302838e-06, 9.061495174784235e-07, 1.4212147266039636e-06}};
  auto other_clamp = bucketed;
  other_clamp.distances = buckets(deberta_clamp::huggingface);  // no distance is that far
  return {bucketed,
          other_clamp,
          {"relative/deberta_c2p_p2c_nobuckets/",
           deberta_exact{.max_relative = 6},
           {5.919947816315727e-07, 5.898771270466656e-07, 7.369691035842538e-07},
           {6.847508541765699e-07, 6.400930766674011e-07, 7.944763849655732e-07}}};
}

TEMPLATE_TEST_CASE("the terms, one by one and together", "[golden][deberta]", float, double) {
  using S = TestType;
  for (const auto& c : cases()) {
    const auto array = [&](const char* what) { return golden::converted<S>(load<float>(c.name + what)); };
    const auto q = array("q"), k = array("k"), keys = array("pos_key"), queries = array("pos_query");
    const index_t batch = q.shape[0], head_count = q.shape[1], time = q.shape[2], channels = q.shape[3];
    const attention_positions at{positions::range(time), positions::range(time)};
    std::size_t n = 0;
    for (const std::string term : {"c2p", "p2c", "bias"}) {
      INFO(c.name << term);
      const deberta_terms terms{.c2p = term != "p2c", .p2c = term != "c2p"};
      const deberta<S> encoder({.heads = head_count, .channels = channels, .terms = terms, .distances = c.distances},
                               terms.c2p ? keys.values : std::vector<S>(), terms.p2c ? queries.values : std::vector<S>());
      const double scale =
          deberta<S>({.heads = 1, .channels = 1, .terms = deberta_terms{.c2p = true, .p2c = true}, .distances = c.distances})
              .score_scale(channels);  // of both terms, in all three arrays
      auto scores = npy<S>::filled({batch, head_count, time, time}, 0);
      const auto head_first = [](const npy<S>& x) {
        const auto v = golden::view<4>(x);
        return head_view<const S>(
            {v.data(), {v.extent(0), v.extent(2), v.extent(1), v.extent(3)}, {v.stride(0), v.stride(2), v.stride(1), v.stride(3)}});
      };
      encoder.bias(golden::row_major<4>(scores), attention_inputs<S>{.scale = scale, .queries = head_first(q), .keys = head_first(k)}, at);
      CHECK(absolute(scores, load<double>(c.name + term + "_f64")) <= (sizeof(S) == 8 ? 2e-13 : c.float_bound[n]));
      CHECK(absolute(scores, load<float>(c.name + term)) <= c.reference_bound[n]);
      ++n;
    }
  }
}

TEST_CASE("the rows of distances", "[golden][deberta]") {
  for (const auto& c : cases()) {
    const deberta<float> encoder({.heads = 1, .channels = 1, .terms = deberta_terms{.c2p = true}, .distances = c.distances});
    const auto index = load<std::int64_t>(c.name + "index");
    auto rows = index;
    const auto to = golden::view<2>(rows);
    for (index_t i = 0; i < to.extent(0); ++i)
      for (index_t j = 0; j < to.extent(1); ++j) to(i, j) = encoder.row(j - i);
    CHECK(absolute(rows, index) <= 0);
  }
}

}  // namespace
