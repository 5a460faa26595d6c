// SPDX-License-Identifier: MIT
/// \file  Relative keys and values of Shaw's windows in three systems, and Music Transformer's skewed products.
#include <posenc/relative/music_transformer.hpp>
#include <posenc/relative/shaw.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::converted, golden::load, golden::npy, golden::view;

constexpr auto head_time = axis_order::head_time;

/// scale * q.k, `[batch, head, query, key]`.
template <class S>
npy<S> scaled_products(const npy<S>& q, const npy<S>& k, double scale) {
  const auto queries = view<4>(q), keys = view<4>(k);
  auto all = npy<S>::filled({q.shape[0], q.shape[1], q.shape[2], k.shape[2]}, 0);
  const auto to = view<4>(all);
  for (index_t b = 0; b < to.extent(0); ++b)
    for (index_t h = 0; h < to.extent(1); ++h)
      for (index_t i = 0; i < to.extent(2); ++i)
        for (index_t j = 0; j < to.extent(3); ++j) {
          for (index_t c = 0; c < queries.extent(3); ++c) to(b, h, i, j) += queries(b, h, i, c) * keys(b, h, j, c);
          to(b, h, i, j) *= static_cast<S>(scale);
        }
  return all;
}

/// Scores become weights.
template <class S>
void soft_max(npy<S>& scores) {
  const auto s = view<4>(scores);
  for (index_t b = 0; b < s.extent(0); ++b)
    for (index_t h = 0; h < s.extent(1); ++h)
      for (index_t i = 0; i < s.extent(2); ++i) {
        S sum = 0;
        for (index_t j = 0; j < s.extent(3); ++j) sum += s(b, h, i, j) = std::exp(s(b, h, i, j));
        for (index_t j = 0; j < s.extent(3); ++j) s(b, h, i, j) /= sum;
      }
}

/// weights . v, `[batch, head, query, channel]`.
template <class S>
npy<S> weighted(const npy<S>& weights, const npy<S>& v) {
  const auto w = view<4>(weights), from = view<4>(v);
  auto all = npy<S>::filled({w.extent(0), w.extent(1), w.extent(2), from.extent(3)}, 0);
  const auto to = view<4>(all);
  for (index_t b = 0; b < to.extent(0); ++b)
    for (index_t h = 0; h < to.extent(1); ++h)
      for (index_t i = 0; i < to.extent(2); ++i)
        for (index_t j = 0; j < w.extent(3); ++j)
          for (index_t c = 0; c < to.extent(3); ++c) to(b, h, i, c) += w(b, h, i, j) * from(b, h, j, c);
  return all;
}

struct golden_case {
  std::string name;
  index_t left, right, channels;
  relative_tables tables;
  std::vector<std::string> table_files;
  bool causal;
  double reference_error[2];  ///< of the system's scores and context
};

const std::vector<golden_case> cases{
    {"shaw_kv", 4, 4, 16, relative_tables::separate, {"table_k", "table_v"}, false, {3.90e-7, 3.26e-7}},
    {"shaw_kv_causal", 2, 2, 8, relative_tables::separate, {"table_k", "table_v"}, true, {3.27e-7, 2.30e-7}},
    {"shaw_shared_table", 3, 3, 8, relative_tables::shared, {"table"}, false, {3.76e-7, 5.19e-7}},
    {"shaw_key_asymmetric_clamp", 4, 2, 8, relative_tables::keys, {"table"}, false, {1.91e-7, 0}}};

TEMPLATE_TEST_CASE("shaw's scores and contexts are the truth", "[golden][shaw]", float, double) {
  using S = TestType;
  for (const auto& c : cases) {
    INFO(c.name);
    const auto of_case = [&]<class T>(const std::string& file, T) { return converted<S>(load<T>("relative/" + c.name + "/" + file)); };
    std::vector<std::vector<S>> tables;
    for (const std::string& file : c.table_files) tables.push_back(of_case(file, float{}).values);
    const shaw<S> encoder({.channels = c.channels, .left = c.left, .right = c.right, .tables = c.tables}, tables);
    const auto q = of_case("q", float{}), k = of_case("k", float{});
    const double scale = 1 / std::sqrt(static_cast<double>(c.channels));
    auto scores = scaled_products(q, k, scale);
    const attention_positions at{positions::range(scores.shape[2]), positions::range(scores.shape[3])};
    encoder.bias(view<4>(scores), attention_inputs<S>{.scale = scale, .queries = heads(view<4>(q), head_time)}, at, {.causal = c.causal});

    // Sums of 2 c products and of as many weighted values as there are keys, of magnitudes below 8.
    const double bound = 8 * 32 * golden::rounding<S> + 2e-13;
    auto truth = load<double>("relative/" + c.name + "/scores_f64");
    auto system = load<float>("relative/" + c.name + "/scores");
    for (std::size_t n = 0; n < truth.values.size(); ++n)
      if (truth.values[n] == -1e10) {  // the system's mask
        truth.values[n] = -std::numeric_limits<double>::infinity();
        system.values[n] = -std::numeric_limits<float>::infinity();
      }
    CHECK(absolute(scores, truth) <= bound);
    CHECK(absolute(scores, system) <= bound + c.reference_error[0]);
    if (c.tables == relative_tables::keys) continue;

    soft_max(scores);
    auto context = weighted(scores, of_case("v", float{}));
    encoder.add_values(heads(view<4>(context), head_time), view<4>(scores), at);
    CHECK(absolute(context, load<double>("relative/" + c.name + "/context_f64")) <= bound);
    CHECK(absolute(context, load<float>("relative/" + c.name + "/context")) <= bound + c.reference_error[1]);
  }
}

TEMPLATE_TEST_CASE("music_transformer's products are the truth", "[golden][music_transformer]", float, double) {
  using S = TestType;
  const auto q = converted<S>(load<float>("relative/music_skew/q"));
  const music_transformer<S> encoder({.channels = 8, .max_distance = 10, .form = music_transformer_form::masked},
                                     {converted<S>(load<float>("relative/music_skew/E")).values});
  auto scores = npy<S>::filled({2, 2, 10, 10}, 0);
  encoder.bias(view<4>(scores), attention_inputs<S>{.scale = 1, .queries = heads(view<4>(q), head_time)},
               attention_positions{positions::range(10), positions::range(10)});
  const double bound = 8 * 16 * golden::rounding<S> + 2e-13;
  CHECK(absolute(scores, load<double>("relative/music_skew/s_rel_f64")) <= bound);
  CHECK(absolute(scores, load<float>("relative/music_skew/s_rel")) <= bound + 8.9e-7);
}

}  // namespace
