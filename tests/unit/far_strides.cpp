// SPDX-License-Identifier: MIT
// Tensors whose elements lie more than 2^31 apart, in memory that is promised and hardly touched.
#include <posenc/posenc.hpp>

#include "catch.hpp"
#include "random.hpp"

#if defined(__linux__)
#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

using namespace posenc;

namespace {

constexpr index_t beyond = (index_t{1} << 31) + 24;  // elements

/// Room for `count` elements, zeros at first; none where the system does not give that much, as under valgrind or with a limit.
template <class T>
class far_memory {
 public:
  explicit far_memory(index_t count) : bytes_(static_cast<std::size_t>(count) * sizeof(T)) {
    start_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~far_memory() {
    if (*this) munmap(start_, bytes_);
  }
  far_memory(const far_memory&) = delete;
  far_memory& operator=(const far_memory&) = delete;
  explicit operator bool() const { return start_ != MAP_FAILED; }
  T* data() const { return static_cast<T*>(start_); }

 private:
  std::size_t bytes_;
  void* start_;
};

/// act(i, j, k, l) for all elements.
void for_each(const std::array<index_t, 4>& extents, auto&& act) {
  for (index_t i = 0; i < extents[0]; ++i)
    for (index_t j = 0; j < extents[1]; ++j)
      for (index_t k = 0; k < extents[2]; ++k)
        for (index_t l = 0; l < extents[3]; ++l) act(i, j, k, l);
}

/// What `act(view)` does to a tensor with these strides is what it does to a contiguous one.
template <class T>
void same_as_near(const std::array<index_t, 4>& extents, const std::array<index_t, 4>& strides, auto&& act) {
  index_t reach = 1;
  for (std::size_t axis = 0; axis < 4; ++axis) reach += (extents[axis] - 1) * strides[axis];
  const far_memory<T> memory(reach);
  if (!memory) {
    WARN("not tested: the system does not give " << reach << " elements");
    return;
  }
  const tensor_view<T, 4> far(memory.data(), extents, strides);
  Eigen::Tensor<T, 4, Eigen::RowMajor> near =
      random_tensor<Eigen::Tensor<float, 4, Eigen::RowMajor>>(1, extents[0], extents[1], extents[2], extents[3]).template cast<T>();
  for_each(extents, [&](auto... at) { far(at...) = near(at...); });
  act(far);
  act(tensor_view<T, 4>(near));
  int others = 0;
  for_each(extents, [&](auto... at) { others += static_cast<float>(far(at...)) != static_cast<float>(near(at...)); });
  CHECK(others == 0);
}

}  // namespace

TEMPLATE_TEST_CASE("rope turns tokens and heads that lie far apart", "[rope][far]", float, Eigen::half, Eigen::bfloat16) {
  const std::array<index_t, 4> extents{2, 3, 5, 34};  // batch, time, head, channel
  for (const auto& strides : {std::array<index_t, 4>{3 * beyond, beyond, 40, 1},  // by time
                              std::array<index_t, 4>{5 * beyond, 40, beyond, 1},  // by head
                              std::array<index_t, 4>{200, beyond, 40, 1}, std::array<index_t, 4>{beyond, 200, 40, 1}})
    for (const auto pairs : {pairing::halves, pairing::interleaved})
      for (const index_t dim : {34, 32, 10}) {
        const rope<float> encoder({.pairing = pairs, .dim = dim});
        same_as_near<TestType>(extents, strides, [&](const tensor_view<TestType, 4>& x) {
          encoder.rotate(heads(x, axis_order::time_head), positions::offsets(std::array{3, 500}, 3));
        });
      }
}

TEST_CASE("rope writes into slots of a cache that lie far apart", "[rope][far]") {
  constexpr index_t slots = index_t{1} << 30, channels = 4;  // 2^32 elements
  const far_memory<float> memory(slots * channels);
  if (!memory) {
    WARN("not tested: the system does not give " << slots * channels << " elements");
    return;
  }
  const tensor_view<float, 4> cache(memory.data(), {1, slots, 1, channels});
  const rope<float> encoder({.pairing = pairing::halves, .dim = channels});
  auto keys = random_tensor<Eigen::Tensor<float, 4, Eigen::RowMajor>>(2, 1, 3, 1, channels);
  const auto table = encoder.prepare(positions::range(3, 70));
  const std::vector<index_t> rows{slots - 1, 7, slots / 2 + 1};
  encoder.rotate(heads(std::as_const(keys), axis_order::time_head), heads(cache, axis_order::time_head), rows, table);
  encoder.rotate(heads(keys, axis_order::time_head), table);
  for (index_t t = 0; t < 3; ++t)
    for (index_t c = 0; c < channels; ++c) CHECK(cache(0, rows[static_cast<std::size_t>(t)], 0, c) == keys(0, t, 0, c));
}

TEMPLATE_TEST_CASE("sinusoidal codes reach tokens that lie far apart", "[sinusoidal][far]", float, Eigen::half, Eigen::bfloat16) {
  const sinusoidal<float> encoder({.dim = 34, .order = channel_order::interleaved, .exponent_rule = exponent_rule::vaswani{}});
  const auto at = positions::offsets(std::array{3, 500}, 5);
  for (const auto& strides : {std::array<index_t, 4>{5 * beyond, 0, beyond, 1}, std::array<index_t, 4>{beyond, 0, 40, 1}}) {
    const std::array<index_t, 4> extents{2, 1, 5, 34};  // batch, nothing, time, channel
    same_as_near<TestType>(extents, strides, [&](const tensor_view<TestType, 4>& x) { encoder.add(x, at); });
    same_as_near<TestType>(extents, strides, [&](const tensor_view<TestType, 4>& x) { encoder.encode(at, x); });
  }
}

TEMPLATE_TEST_CASE("alibi biases rows of scores that lie far apart", "[alibi][far]", float, Eigen::half, Eigen::bfloat16) {
  const alibi<float> encoder({.heads = 3, .form = alibi_form::symmetric});
  const attention_positions at{positions::range(4, 30), positions::range(37)};
  const std::array<index_t, 4> extents{2, 3, 4, 37};  // batch, head, query, key
  for (const auto& strides : {std::array<index_t, 4>{12 * beyond, 4 * beyond, beyond, 1},  // rows
                              std::array<index_t, 4>{3 * beyond, beyond, 40, 1}}) {        // heads
    same_as_near<TestType>(extents, strides, [&](const tensor_view<TestType, 4>& scores) { encoder.bias(scores, at, {.scale = 0.5}); });
    std::vector<std::vector<float>> slopes;
    same_as_near<TestType>(extents, strides, [&](const tensor_view<TestType, 4>& d_scores) {
      const std::vector<std::span<float>> spans{slopes.emplace_back(3)};
      encoder.bias_backward(d_scores, at, spans, {.scale = 0.5, .causal = true});
    });
    if (!slopes.empty()) CHECK(slopes[0] == slopes[1]);
  }
}
#endif
