// SPDX-License-Identifier: MIT
#include <posenc/bias_verbs.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;
using tensor4 = Eigen::Tensor<float, 4, RowMajor>;

/// What `marks` prepares.
struct marked {
  attention_positions given;
  const attention_positions& at() const { return given; }
};

/// Writes what it is handed into every score: 100 times the head, 10 times the query's position, the key's.
struct marks : bias_verbs<marks, float> {
  static constexpr std::string_view name() { return "marks"; }
  index_t heads() const { return 3; }
  marked prepare(const attention_positions& at, const executor& = {}) const { return {at}; }
  friend bool operator==(const marks&, const marks&) { return true; }

  template <class In, class At>
  void run_scores(const score_view<In>& in, const score_view<float>& out, const At& at, const score_pass& pass, const executor& run) const {
    detail::for_each_score_block(out, run, 1, [&](index_t b, index_t head, index_t count, index_t query, index_t queries) {
      run_block(detail::block_of(in, out, detail::positions_of(at), pass, b, head, count, query, queries), head);
    });
  }
  template <class At>
  void run_tile(const kernels::score_block<float>& block, const At&, const tile_place& place) const {
    run_block(block, place.head);
  }
  static void run_block(const kernels::score_block<float>& block, index_t head) {
    const position_row queries{block.query_ids, block.query_first}, keys{block.key_ids, block.key_first};
    for (index_t h = 0; h < block.heads; ++h)
      for (index_t i = 0; i < block.queries; ++i)
        for (index_t j = 0; j < block.keys; ++j) {
          float* const out = block.scores + h * block.head + i * block.query + j;
          const float in = block.in ? block.in[h * block.in_head + i * block.in_query + j] : *out;
          *out = block.causal && keys[j] > queries[i] ? -std::numeric_limits<float>::infinity()
                                                      : in * block.scale + static_cast<float>(100 * (head + h) + 10 * queries[i] + keys[j]);
        }
  }
};
static_assert(bias_encoder<marks> && position_encoder<marks>);

const attention_positions cases[] = {
    {positions::range(4, 5), positions::range(9)},
    {positions::offsets(std::array{5, 1}, 4), positions::range(6, -1)},
    {positions::ids(std::array<position, 4>{3, 3, 0, 8}), positions::ids(std::array<position, 10>{4, 0, 2, 7, 1, 1, 0, 2, 3, -4}, 2)}};

tensor4 expected(const tensor4& in, const attention_positions& at, const score_pass& pass) {
  tensor4 out = in;
  for (index_t b = 0; b < in.dimension(0); ++b)
    for (index_t h = 0; h < 3; ++h)
      for (index_t i = 0; i < in.dimension(2); ++i)
        for (index_t j = 0; j < in.dimension(3); ++j) {
          const position query = at.queries(b, i), key = at.keys(b, j);
          out(b, h, i, j) = pass.causal && key > query
                                ? -std::numeric_limits<float>::infinity()
                                : in(b, h, i, j) * static_cast<float>(pass.scale) + static_cast<float>(100 * h + 10 * query + key);
        }
  return out;
}

}  // namespace

TEST_CASE("bias verbs hand every score on once, with its head and positions", "[bias_verbs]") {
  const marks encoder;
  for (const auto& at : cases)
    for (const auto& pass : {score_pass{}, score_pass{.scale = 0.5, .causal = true}}) {
      const auto before = random_tensor<tensor4>(1, 2, 3, 4, at.keys.time());
      const auto wanted = expected(before, at, pass);
      auto scores = before, prepared = before, out = before, wide = random_tensor<tensor4>(2, 2, 3, 4, 30);
      encoder.bias(scores, at, pass);
      CHECK(reference::bit_difference(scores, wanted) == "");
      encoder.bias(prepared, encoder.prepare(at), pass);
      CHECK(reference::bit_difference(prepared, wanted) == "");
      out.setZero();
      encoder.bias(before, out, at, pass);
      CHECK(reference::bit_difference(out, wanted) == "");
      encoder.bias(out = before, out, encoder.prepare(at), pass);  // one tensor
      CHECK(reference::bit_difference(out, wanted) == "");
      // Other strides on each side.
      const auto around = wide;
      encoder.bias(before, tensor_view<float, 4>(wide.data() + 5, {2, 3, 4, at.keys.time()}, {360, 120, 30, 1}), at, pass);
      bool same = true;
      for (index_t b = 0; b < 2; ++b)
        for (index_t h = 0; h < 3; ++h)
          for (index_t i = 0; i < 4; ++i)
            for (index_t j = 0; j < 30; ++j)
              same = same && wide(b, h, i, j) == (j < 5 || j - 5 >= at.keys.time() ? around(b, h, i, j) : wanted(b, h, i, j - 5));
      CHECK(same);
      auto staged = before;
      encode_scores(encoder, staged, prepare(encoder, at));
      CHECK(reference::bit_difference(staged, expected(before, at, {})) == "");
    }
}

TEST_CASE("bias verbs hand tiles on with the positions of the tile", "[bias_verbs]") {
  const marks encoder;
  for (const auto& at : cases) {
    const auto before = random_tensor<tensor4>(3, 2, 3, 4, at.keys.time());
    auto tiled = before;
    for (index_t b = 0; b < 2; ++b)
      for (index_t h = 0; h < 3; ++h)
        for (index_t i = 0; i < 4; i += 3)
          for (index_t j = 0; j < at.keys.time(); j += 2) {
            const tensor_view<float, 2> tile(&tiled(b, h, i, j), {std::min<index_t>(3, 4 - i), std::min<index_t>(2, at.keys.time() - j)},
                                             {at.keys.time(), 1});
            const tile_place place{.batch = b, .head = h, .query = i, .key = j};
            if (h == 1) encoder.bias_tile(tile, place, encoder.prepare(at), {.scale = 0.25, .causal = true});
            else encoder.bias_tile(tile, place, at, {.scale = 0.25, .causal = true});
          }
    CHECK(reference::bit_difference(tiled, expected(before, at, {.scale = 0.25, .causal = true})) == "");
  }
}

TEST_CASE("bias verbs give the same bits on any number of threads", "[bias_verbs]") {
  const marks encoder;
  const attention_positions at{positions::range(150), positions::range(200)};  // at 1 ns a score: enough to be split
  const auto before = random_tensor<tensor4>(4, 3, 3, 150, 200);
  auto alone = before, together = before;
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  REQUIRE(executor(device).parts(1000, 270e3) > 1);
  encoder.bias(alone, at);
  encoder.bias(together, at, device);
  CHECK(reference::bit_difference(together, alone) == "");
  CHECK(reference::bit_difference(alone, expected(before, at, {})) == "");
}

TEST_CASE("bias verbs do nothing to empty tensors", "[bias_verbs]") {
  const marks encoder;
  const index_t shapes[][3] = {{0, 3, 4}, {2, 0, 4}, {2, 3, 0}};
  for (const auto& [batch, queries, keys] : shapes) {
    tensor4 scores(batch, 3, queries, keys);
    const attention_positions at{positions::range(queries), positions::range(keys)};
    encoder.bias(scores, at);
    encoder.bias(scores, scores, at);
  }
  CHECK(encoder == marks(encoder));
  Eigen::Tensor<float, 2, RowMajor> tile(0, 4);
  encoder.bias_tile(tile, {.batch = 0, .head = 2, .query = 3, .key = 0}, attention_positions{positions::range(3), positions::range(4)});
}

TEST_CASE("bias verbs refuse what does not fit, before they write", "[bias_verbs][errors]") {
  const marks encoder;
  const attention_positions at{positions::range(3), positions::range(4)};
  auto scores = random_tensor<tensor4>(5, 2, 3, 3, 4), others = random_tensor<tensor4>(6, 2, 2, 3, 4);
  const auto refused = [&](const std::string& text, auto&& act) { reference::refuses(scores, "[marks" + text, act); };
  const auto with = [](const positions& queries, const positions& keys) { return attention_positions{queries, keys}; };
  reference::refuses(others, "[marks] heads must match the encoder but got 3 and 2", [&] { encoder.bias(others, at); });
  refused(" queries] time must match the positions but got 3 and 2", [&] { encoder.bias(scores, with(positions::range(2), at.keys)); });
  refused(" keys] time must match the positions but got 4 and 5",
          [&] { encoder.bias(scores, encoder.prepare(with(at.queries, positions::range(5)))); });
  refused(" queries] batch must match the positions but got 2 and 1",
          [&] { encoder.bias(scores, with(positions::offsets(std::array{1}, 3), at.keys)); });
  refused(" keys] batch must match the positions but got 2 and 3",
          [&] { encoder.bias(scores, scores, with(at.queries, positions::offsets(std::array{1, 2, 3}, 4))); });
  refused(" keys] the positions must have as many axes as the encoder but got 1 and 2",
          [&] { encoder.bias(scores, with(at.queries, positions::multi_axis(std::array{0, 1, 2, 3, 0, 1, 2, 3}, 2))); });
  refused("] the last axis must be contiguous but got 2",
          [&] { encoder.bias(tensor_view<float, 4>(scores.data(), {1, 3, 3, 4}, {36, 24, 8, 2}), at); });
  refused("] the elements of an output must be distinct, with strides that nest but got [0, 12, 4, 1]",
          [&] { encoder.bias(tensor_view<float, 4>(scores.data(), {2, 3, 3, 4}, {0, 12, 4, 1}), at); });
  refused("] the last axis must be contiguous but got 2",
          [&] { encoder.bias(tensor_view<float, 4>(others.data(), {2, 3, 3, 4}, {0, 0, 0, 2}), scores, at); });
  refused("] the output must have the input's shape but got [2, 2, 3, 4] and [2, 3, 3, 4]", [&] { encoder.bias(others, scores, at); });
  refused("] input and output must be one view or not overlap but got [1, 3, 3, 4] and [1, 3, 3, 4]", [&] {
    encoder.bias(tensor_view<const float, 4>(scores.data() + 4, {1, 3, 3, 4}), tensor_view<float, 4>(scores.data(), {1, 3, 3, 4}), at);
  });

  auto tile = random_tensor<Eigen::Tensor<float, 2, RowMajor>>(7, 2, 3);
  const auto two_rows = with(positions::range(3), positions::offsets(std::array{0, 1}, 4));
  const auto tile_refused = [&](const std::string& text, const tile_place& place) {
    reference::refuses(tile, text, [&] { encoder.bias_tile(tile, place, encoder.prepare(two_rows)); });
  };
  tile_refused("[marks] head must lie within the heads but got 3 and 3", {.batch = 0, .head = 3, .query = 0, .key = 0});
  tile_refused("[marks] head must lie within the heads but got 3 and -1", {.batch = 0, .head = -1, .query = 0, .key = 0});
  tile_refused("[marks] the tile must lie within the batch but got 2", {.batch = 2, .head = 0, .query = 0, .key = 0});
  tile_refused("[marks] the tile must lie within the batch but got -1", {.batch = -1, .head = 0, .query = 0, .key = 0});
  tile_refused("[positions] a slice must lie within time but got 3 and 2 and 2", {.batch = 0, .head = 0, .query = 2, .key = 0});
  tile_refused("[positions] a slice must lie within time but got 4 and 2 and 3", {.batch = 0, .head = 0, .query = 0, .key = 2});
}
