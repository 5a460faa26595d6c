// SPDX-License-Identifier: MIT
#include <posenc/additive_verbs.hpp>

#include <posenc/combine/compose.hpp>
#include <posenc/concepts.hpp>

#include "catch.hpp"
#include "reference/difference.hpp"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace posenc;
using tensor3 = Eigen::Tensor<float, 3, Eigen::RowMajor>;

/// The code of position p in channel c: exact in float, and of every place its own.
float code_of(position p, index_t c) { return static_cast<float>(p * 4 + c % 4); }

/// Codes that are formed, in spare memory that may be wider than they are.
struct forming : additive_verbs<forming, float> {
  index_t channels, wider;
  forming(index_t dim, index_t more) : channels(dim), wider(dim + more) {}
  static constexpr std::string_view name() { return "forming"; }
  index_t dim() const { return channels; }
  index_t axes() const { return 1; }
  void require_known(const positions&) const {}
  index_t spare_values() const { return wider; }
  index_t spare_ids() const { return 0; }
  double nanoseconds_per_code() const { return 1000; }
  kernels::code_source<float> codes(const positions& at, index_t b, index_t t, index_t count, float* spare, std::int64_t*) const {
    for (index_t n = 0; n < count; ++n)
      for (index_t c = 0; c < wider; ++c)
        spare[n * wider + c] = at(b, t + n) == no_position ? 0 : c < channels ? code_of(at(b, t + n), c) : 1e9f;
    return {.table = spare, .batch = 0, .time = wider};
  }
  friend bool operator==(const forming& a, const forming& b) { return a.channels == b.channels && a.wider == b.wider; }
};

/// Codes that stand in a table, found by ids in spare memory.
struct standing : additive_verbs<standing, float> {
  index_t channels;
  bool by_ids;
  index_t offset;  // the row of position 0
  std::vector<float> table;
  standing(index_t dim, index_t rows, bool ids, index_t first = 0) : channels(dim), by_ids(ids), offset(first) {
    for (index_t p = -first; p < rows - first; ++p)
      for (index_t c = 0; c < dim; ++c) table.push_back(code_of(p, c));
  }
  static constexpr std::string_view name() { return "standing"; }
  index_t dim() const { return channels; }
  index_t axes() const { return 1; }
  void require_known(const positions&) const {}
  index_t spare_values() const { return 0; }
  index_t spare_ids() const { return by_ids ? 1 : 0; }
  double nanoseconds_per_code() const { return 0; }
  kernels::code_source<float> codes(const positions& at, index_t b, index_t t, index_t count, float*, std::int64_t* ids) const {
    if (!by_ids) return {.table = table.data() + (at(b, t) + offset) * channels, .batch = 0, .time = channels};
    for (index_t n = 0; n < count; ++n) ids[n] = at(b, t + n) == no_position ? no_position : at(b, t + n) + offset;
    return {.table = table.data(), .batch = 0, .time = channels, .ids = ids};
  }
  friend bool operator==(const standing& a, const standing& b) { return a.table == b.table && a.by_ids == b.by_ids; }
};

static_assert(code_encoder<forming> && code_encoder<standing> && position_encoder<forming>);

/// x + `times` codes; x is zero.
void check(const auto& encoder, const positions& at, index_t batch, index_t dim, float times = 1) {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  tensor3 expected(batch, at.time(), dim);
  for (index_t b = 0; b < batch; ++b)
    for (index_t t = 0; t < at.time(); ++t)
      for (index_t c = 0; c < dim; ++c) expected(b, t, c) = at(b, t) == no_position ? 0 : times * code_of(at(b, t), c);
  for (const executor& run : {executor(), executor(device)}) {
    tensor3 x(batch, at.time(), dim);
    x.setZero();
    const auto copy = encoder;
    CHECK(copy == encoder);
    copy.add(x, at, run);
    CHECK(reference::bit_difference(x, expected) == "");
  }
}

}  // namespace

TEST_CASE("codes are formed block by block, each token's in its place", "[additive_verbs]") {
  for (const index_t dim : {1, 7, 64, 5000})  // thousands, hundreds, tens of tokens in a block of 16 KB, and less than one
    for (const index_t more : {0, 3}) {
      const index_t time = dim == 5000 ? 5 : 3 * 16384 / 4 / dim + 2;
      check(forming(dim, more), positions::range(time, 3), 2, dim);
      check(forming(dim, more), positions::offsets(std::vector{7, 0}, time), 2, dim);
    }
  check(forming(64, 0), positions::ids(std::vector<position>{5, no_position, 2, 5}), 3, 64);
}

TEST_CASE("tables larger than a cache are added in blocks", "[additive_verbs]") {
  constexpr index_t dim = 4096, time = 1100;  // 17 MB: three blocks of 8 MB
  for (const bool by_ids : {false, true}) check(standing(dim, time + 1, by_ids), positions::range(time, 1), 2, dim);
}

TEST_CASE("parts of a composition have spare memory of their own", "[additive_verbs][combine]") {
  const standing looked_up(64, 301, true), elsewhere(64, 311, true, 10);
  check(compose(forming(64, 2), looked_up, forming(64, 0), elsewhere), positions::range(300, 1), 2, 64, 4);
  check(compose(looked_up, forming(64, 5)), positions::offsets(std::vector{1, 0}, 300), 2, 64, 2);
}

TEST_CASE("encode writes the codes, and zeros where there is no position", "[additive_verbs]") {
  const auto at = positions::ids(std::vector<position>{2, no_position, 0, 1});
  tensor3 out(2, 4, 8);
  out.setConstant(9);
  standing(8, 3, true).encode(at, out);
  for (index_t b = 0; b < 2; ++b)
    for (index_t t = 0; t < 4; ++t)
      for (index_t c = 0; c < 8; ++c) CHECK(reference::same_bits(out(b, t, c), t == 1 ? 0.0f : code_of(at(b, t), c)));
}
