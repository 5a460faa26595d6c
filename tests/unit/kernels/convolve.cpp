// SPDX-License-Identifier: MIT
#include <posenc/kernels/convolve.hpp>

#include "catch.hpp"
#include "isa/pinned.hpp"
#include "random.hpp"
#include "reference/convolve.hpp"
#include "reference/difference.hpp"
#include "reference/stored.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using posenc::kernels::bfloat16, posenc::kernels::float16, posenc::kernels::index_t;
using posenc::kernels::convolve_axis, posenc::kernels::convolve_call, posenc::kernels::convolve_weight_gradient_call;
using reference::bit_difference, reference::compute, reference::loaded, reference::random_stored;

/// A grid of 1 to 3 axes with room around its cells, and everything that a call may have.
struct problem {
  std::array<convolve_axis, 3> axes{};
  index_t channels = 1, cell = 1;
  bool circular = false, accumulate = false, bias = false, in_mask = false, out_mask = false, history = false;

  index_t inputs() const { return axes[0].in * axes[1].in * axes[2].in; }
  index_t outputs() const { return axes[0].out * axes[1].out * axes[2].out; }
  index_t taps() const { return axes[0].kernel * axes[1].kernel * axes[2].kernel; }
  bool can_be_in_place() const {
    return std::ranges::all_of(axes, [](const auto& a) { return a.in == a.out && a.step == 1 && a.spread == 1; });
  }
};

problem random_problem(std::uint64_t seed) {
  random_numbers random(seed);
  const auto one_of = [&](index_t low, index_t high) { return static_cast<index_t>(random.integer(low, high)); };
  const auto perhaps = [&] { return random.integer(0, 1) == 1; };
  problem p;
  const index_t used = one_of(1, 3);
  p.circular = random.integer(0, 3) == 0;
  for (std::size_t n = static_cast<std::size_t>(3 - used); n < 3; ++n) {
    convolve_axis& a = p.axes[n];
    a.in = one_of(1, n < 2 ? 5 : used == 1 ? 220 : 21);
    a.kernel = 2 * one_of(0, used == 1 ? 20 : 2) + 1;
    a.before = one_of(0, 2) * (a.kernel / 2);
    const index_t form = one_of(0, 3);
    if (form == 1) a.step = one_of(1, 3);
    if (form == 2) a.spread = one_of(1, 3);
    a.out = form == 0 || form == 3 ? a.in : form == 1 ? (a.in - 1) / a.step + 1 : a.in * a.spread - one_of(0, a.spread - 1);
  }
  p.channels = one_of(1, 40);
  p.cell = p.channels + one_of(0, 3);
  p.accumulate = perhaps(), p.bias = perhaps(), p.in_mask = perhaps(), p.out_mask = perhaps();
  p.history = used == 1 && !p.circular && p.axes[2].spread == 1 && perhaps();
  index_t in = p.cell, out = p.cell;
  for (std::size_t n = 3; n-- > 0;) {
    p.axes[n].in_stride = in, p.axes[n].out_stride = out;
    in *= p.axes[n].in, out *= p.axes[n].out;
  }
  return p;
}

std::string text(const problem& p) {
  std::string all = std::to_string(p.channels) + " channels";
  for (const auto& a : p.axes)
    all += ", in " + std::to_string(a.in) + " out " + std::to_string(a.out) + " kernel " + std::to_string(a.kernel) + " before " +
           std::to_string(a.before) + " step " + std::to_string(a.step) + " spread " + std::to_string(a.spread);
  return all + (p.circular ? " circular" : "") + (p.in_mask ? " in_mask" : "") + (p.out_mask ? " out_mask" : "") +
         (p.history ? " history" : "");
}

std::vector<std::uint8_t> random_mask(std::uint64_t seed, index_t count) {
  random_numbers random(seed);
  std::vector<std::uint8_t> mask;
  for (index_t n = 0; n < count; ++n) mask.push_back(random.integer(0, 3) == 0 ? 0 : 1);
  return mask;
}

/// The memory of a problem. Masked inputs are not numbers.
template <class T>
struct memory {
  using S = compute<T>;
  std::vector<T> in, out, history;
  std::vector<S> weight, bias, workspace, d_weight, d_bias;
  std::vector<std::uint8_t> in_mask, out_mask;
  index_t weight_tap;

  memory(const problem& p, std::uint64_t seed)
      : in(random_stored<T>(seed + 1, p.inputs() * p.cell)),
        out(random_stored<T>(seed + 2, p.outputs() * p.cell)),
        history(random_stored<T>(seed + 3, p.axes[2].before * (p.channels + 1))),
        weight(random_vector<S>(seed + 4, p.taps() * (p.channels + 2))),
        bias(random_vector<S>(seed + 5, p.channels)),
        d_weight(random_vector<S>(seed + 6, p.taps() * (p.channels + 2))),
        d_bias(random_vector<S>(seed + 7, p.channels)),
        in_mask(random_mask(seed + 8, p.inputs())),
        out_mask(random_mask(seed + 9, p.outputs())),
        weight_tap(p.channels + 2) {
    const convolve_axis axes[3] = {p.axes[0], p.axes[1], p.axes[2]};
    workspace.assign(static_cast<std::size_t>(posenc::kernels::convolve_workspace<S>(axes, p.circular, p.channels)) + 5,
                     std::numeric_limits<S>::quiet_NaN());
    if (!p.in_mask) return;
    const T nothing = reference::stored<T>(std::numeric_limits<S>::quiet_NaN());
    for (index_t n = 0; n < p.inputs(); ++n)
      if (!in_mask[static_cast<std::size_t>(n)]) std::fill_n(in.begin() + n * p.cell, p.channels, nothing);
  }

  convolve_call<T> call(const problem& p) {
    return {.in = in.data(),
            .out = out.data(),
            .axes = {p.axes[0], p.axes[1], p.axes[2]},
            .channels = p.channels,
            .weight = weight.data(),
            .weight_tap = weight_tap,
            .bias = p.bias ? bias.data() : nullptr,
            .accumulate = p.accumulate,
            .circular = p.circular,
            .in_mask = p.in_mask ? in_mask.data() : nullptr,
            .out_mask = p.out_mask ? out_mask.data() : nullptr,
            .history = p.history ? history.data() : nullptr,
            .history_stride = p.channels + 1,
            .workspace = workspace.data()};
  }
  convolve_weight_gradient_call<T> gradient_call(const problem& p) {
    return {.in = in.data(),
            .d = out.data(),
            .axes = {p.axes[0], p.axes[1], p.axes[2]},
            .channels = p.channels,
            .d_weight = d_weight.data(),
            .weight_tap = weight_tap,
            .d_bias = p.bias ? d_bias.data() : nullptr,
            .circular = p.circular,
            .in_mask = p.in_mask ? in_mask.data() : nullptr,
            .out_mask = p.out_mask ? out_mask.data() : nullptr,
            .workspace = workspace.data()};
  }
};

/// `before`, with the sums written where they belong.
template <class T>
std::vector<T> written(const problem& p, const convolve_call<T>& call, std::vector<T> before, const std::vector<compute<T>>& sums) {
  for (index_t n = 0; n < p.outputs(); ++n)
    for (index_t c = 0; c < p.channels; ++c) {
      if (call.out_mask && !call.out_mask[n]) continue;
      T& to = before[static_cast<std::size_t>(n * p.cell + c)];
      const auto sum = sums[static_cast<std::size_t>(n * p.channels + c)];
      to = reference::stored<T>(p.accumulate ? reference::plus(loaded(to), sum) : sum);
    }
  return before;
}

constexpr std::uint64_t problems = 250;

}  // namespace

TEMPLATE_TEST_CASE("the convolve kernel has the bits of the reference, in every form of grid", "[kernels][convolve]", float, double,
                   bfloat16, float16) {
  at_every_instruction_set([&] {
    for (std::uint64_t seed = 0; seed < problems; ++seed) {
      const problem p = random_problem(seed);
      INFO(seed << ": " << text(p));
      memory<TestType> m(p, 10 * seed);
      const auto call = m.call(p);
      const auto expected = written(p, call, m.out, reference::convolved(call));
      posenc::kernels::convolve(call);
      CHECK(bit_difference(loaded(m.out), loaded(expected)) == "");
      CHECK(std::isnan(m.workspace[m.workspace.size() - 5]));  // the workspace is as large as it is said to be
    }
  });
}

TEMPLATE_TEST_CASE("the convolve kernel works in place", "[kernels][convolve]", float, bfloat16) {
  for (std::uint64_t seed = 0; seed < 4 * problems; ++seed) {
    problem p = random_problem(seed);
    if (!p.can_be_in_place()) continue;
    INFO(seed << ": " << text(p));
    memory<TestType> m(p, 10 * seed);
    auto call = m.call(p);
    call.out_mask = call.in_mask;
    const auto expected = written(p, call, m.in, reference::convolved(call));
    call.out = m.in.data();
    posenc::kernels::convolve(call);
    CHECK(bit_difference(loaded(m.in), loaded(expected)) == "");
  }
}

TEMPLATE_TEST_CASE("the convolve kernel takes the gelu of its sums", "[kernels][convolve]", float, bfloat16) {
  using S = compute<TestType>;
  for (std::uint64_t seed = 0; seed < problems; ++seed) {
    const problem p = random_problem(seed);
    INFO(seed << ": " << text(p));
    memory<TestType> m(p, 10 * seed);
    auto call = m.call(p);
    call.gelu = true;
    auto sums = reference::convolved(call);
    posenc::kernels::gelu<S, S>(
        {.in = sums.data(), .out = sums.data(), .rows = p.outputs(), .channels = p.channels, .in_row = p.channels, .out_row = p.channels});
    const auto expected = written(p, call, m.out, sums);
    posenc::kernels::convolve(call);
    CHECK(bit_difference(loaded(m.out), loaded(expected)) == "");
  }
}

TEMPLATE_TEST_CASE("the gradient of the filters has the bits of the reference", "[kernels][convolve]", float, double, bfloat16, float16) {
  at_every_instruction_set([&] {
    for (std::uint64_t seed = 0; seed < problems; ++seed) {
      problem p = random_problem(seed);
      if (std::ranges::any_of(p.axes, [](const auto& a) { return a.spread > 1; })) continue;
      INFO(seed << ": " << text(p));
      memory<TestType> m(p, 10 * seed);
      const auto call = m.gradient_call(p);
      auto d_weight = m.d_weight, d_bias = m.d_bias;
      reference::add_convolve_weight_gradients(call, d_weight.data(), p.bias ? d_bias.data() : nullptr);
      posenc::kernels::convolve_weight_gradient(call);
      CHECK(bit_difference(m.d_weight, d_weight) == "");
      CHECK(bit_difference(m.d_bias, d_bias) == "");
    }
  });
}

TEST_CASE("parts of the channels of a grid have the bits of the whole", "[kernels][convolve]") {
  for (std::uint64_t seed = 0; seed < problems; ++seed) {
    const problem p = random_problem(seed);
    memory<float> m(p, 10 * seed), parts(p, 10 * seed);
    posenc::kernels::convolve(m.call(p));
    for (index_t from = 0, n; from < p.channels; from += n) {
      n = std::min<index_t>(p.channels - from, 3 + from);
      auto call = parts.call(p);
      call.in += from, call.out += from, call.weight += from, call.channels = n;
      if (call.bias) call.bias += from;
      if (call.history) call.history += from;
      posenc::kernels::convolve(call);
    }
    CHECK(bit_difference(parts.out, m.out) == "");
  }
}
